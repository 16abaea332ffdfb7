"""The reward-std doctor: which prompts can learn by reinforcement, from rollouts that exist already."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from legato._arrays import Float64
from legato._files import check_destinations, write_whole
from legato._printing import csv_cell, printable
from legato._scalars import as_choice, as_count, as_number, shown
from legato.errors import ArgumentError, InputError
from legato.rft.rollouts import NAN_RULES, Columns, NameTable, NanRule, files_of, read_rollouts
from legato.rft.theory import (
    binary_std_interval,
    constant_group_probability,
    gradient_bounds,
    gradient_flow_time,
    reward_ends,
)

__all__ = ["VERDICTS", "Comparison", "Plan", "Report", "compare", "plan", "scan"]

Interval: TypeAlias = Literal["auto", "mp", "chi2"]
INTERVALS: tuple[Interval, ...] = get_args(Interval)
VERDICTS = ("vanishing", "suspect", "healthy", "solved")
NEAR_CONSTANT = 1e-3  # of the range: a std so small that 1/std amplifies noise
_FIELDS = (
    "prompt", "n", "mean", "std", "std_low", "std_high", "zero_std", "verdict", "more_rollouts",
    "bound_sqrt_half_length", "bound_trace", "bound_paper",
)  # fmt: skip


@dataclass(frozen=True)
class Report:
    """What a scan found; arrays have one entry a prompt, in order of the prompt.

    Attributes
    ----------
    prompt : list
        Ids, integers or strings.
    n : ndarray of int
        Rollouts.
    mean, std : ndarray
        Of the rewards; the std divides by n - 1 and is NaN for one rollout.
    std_low, std_high : ndarray
        Confidence interval of the std of the policy's reward.
    zero_std : ndarray of bool
        All rewards equal. That alone does not make a prompt vanishing.
    verdict : ndarray of str
        "vanishing": the whole interval is below tau. "suspect": the std is, the interval is not. "healthy": the std is
        not. "solved": the mean is near the top of the range.
    more_rollouts : ndarray of int
        For a suspect prompt of constant reward: rollouts needed in all for "vanishing" if all come out equal; else 0.
    bound_sqrt_half_length, bound_trace, bound_paper : ndarray
        Upper bounds on the norm of the gradient of the expected reward with respect to the logits, with the sample's
        std in place of the policy's; NaN without log-probabilities.
    settings, overall : dict
        What was asked, and the numbers over all prompts.
    notes : list of str
        What a reader should know.
    files : list of path
        What was read, where it were files.
    """

    prompt: list[Any]
    n: NDArray[np.int64]
    mean: Float64
    std: Float64
    std_low: Float64
    std_high: Float64
    zero_std: NDArray[np.bool_]
    verdict: NDArray[np.str_]
    more_rollouts: NDArray[np.int64]
    bound_sqrt_half_length: Float64
    bound_trace: Float64
    bound_paper: Float64
    settings: dict[str, Any] = field(default_factory=dict)
    overall: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    def order(self) -> NDArray[np.int64]:
        """Prompts from the smallest std on; ties by mean, then by id."""
        return np.lexsort((np.arange(len(self.n)), self.mean, np.nan_to_num(self.std, nan=np.inf)))

    def rank(self, budget: float | int, mix: float = 0.0) -> list[Any]:
        """Prompts to finetune with supervision first: vanishing and suspect ones, smallest std first.

        Parameters
        ----------
        budget : float or int
            How many; below 1, a share of all prompts (at least one).
        mix : float
            As many healthy prompts again, times this, spread evenly over their std: rehearsal against forgetting.

        Returns
        -------
        list
            Prompt ids. Raising the std is necessary for learning, not sufficient: scan again afterwards.
        """
        budget, mix = as_number("budget", budget, above=0), as_number("mix", mix, least=0)
        count = max(1, int(budget * len(self.n))) if budget < 1 else int(budget)
        order = self.order()
        kind = self.verdict[order]
        first = order[(kind == "vanishing") | (kind == "suspect")][:count]
        healthy = order[kind == "healthy"]
        extra = min(len(healthy), round(mix * len(first)))
        if extra:
            first = np.concatenate([first, healthy[(np.arange(extra) + 0.5).astype(int) * len(healthy) // extra]])
        return [self.prompt[i] for i in first]

    def rows(self, order: NDArray[np.int64] | None = None) -> list[dict[str, Any]]:
        """One dictionary a prompt, NaN as None."""
        columns = [[self.prompt[i] for i in (range(len(self.n)) if order is None else order)]]
        for name in _FIELDS[1:]:
            values = getattr(self, name)
            plain = (values if order is None else values[order]).tolist()
            if values.dtype.kind == "f":
                plain = [v if math.isfinite(v) else None for v in plain]
            columns.append(plain)
        return [dict(zip(_FIELDS, row, strict=True)) for row in zip(*columns, strict=True)]

    def to_json(self) -> str:
        """Write everything as one JSON object."""
        parts = {"settings": self.settings, "overall": self.overall, "notes": self.notes, "prompts": self.rows()}
        return json.dumps(parts, indent=1, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """Write one line a prompt, with `legato._printing.csv_cell`: ids as they are stand in the JSON alone."""
        text = io.StringIO()
        writer = csv.DictWriter(text, _FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: csv_cell(value) for name, value in row.items()} for row in self.rows())
        return text.getvalue()

    def to_table(self, limit: int = 20) -> str:
        """Write the summary and the `limit` prompts of the smallest std, for a terminal."""
        o, low_high = self.overall, self.settings["value_range"]
        lines = [
            f"{o['prompts']} prompts, {o['rollouts']} rollouts; rewards in [{low_high[0]:g}, {low_high[1]:g}], "
            f"tau {self.settings['tau']:g}, {self.settings['level']:.0%} intervals",
            "",
            *(f"  {name:<10} {o['verdicts'][name]:>9}  {o['shares'][name]:7.1%}" for name in VERDICTS),
            "",
            f"  constant rewards: {o['zero_std']:.1%} of prompts",
            f"  std: 10th percentile {_text(o['std_p10'])}, median {_text(o['std_p50'])}",
            f"  groups of {self.settings['group_size']} expected to be constant, so without a GRPO signal: "
            f"{o['wasted_groups']:.1%}",
            "",
        ]
        shown = self.order()[: max(limit, 0)]
        if len(shown):
            names = [_short(self.prompt[i]) for i in shown]
            width = max(6, *map(len, names))
            lines.append(f"{'prompt':<{width}} {'n':>6} {'mean':>8} {'std':>8}  {'interval':<17} {'verdict':<10} more")
            for name, i in zip(names, shown, strict=True):
                more = str(self.more_rollouts[i]) if self.more_rollouts[i] else ""
                lines.append(
                    f"{name:<{width}} {self.n[i]:>6} {self.mean[i]:>8.4f} {_text(self.std[i]):>8}  "
                    f"[{self.std_low[i]:.4f}, {self.std_high[i]:.4f}]  {self.verdict[i]:<10} {more}".rstrip()
                )
            if len(shown) < len(self.n):
                lines.append(f"... {len(self.n) - len(shown)} more")
        lines += ["", *(f"note: {printable(note)}" for note in self.notes)]
        return "\n".join(lines).rstrip() + "\n"

    def to_html(self, limit: int = 200) -> str:
        """Write a page with plots that needs no network: the `limit` prompts of the smallest std are listed."""
        from legato.rft.page import report_page

        return report_page(self, limit)

    def save(self, path: str | Path) -> None:
        """Write to .html, .json, .csv or anything else as a table; complete or not at all.

        Raises
        ------
        ArgumentError
            If it is one of the files of rollouts.
        OutputError
            If it cannot be written.
        """
        target = Path(path)
        text = {".html": self.to_html, ".json": self.to_json, ".csv": self.to_csv}.get(target.suffix, self.to_table)()
        check_destinations({f"input {file}": file for file in self.files}, {"path": target})
        write_whole(target, text)


def scan(
    source: Any,
    *,
    value_range: tuple[float, float] | None = None,
    tau: float | None = None,
    level: float = 0.95,
    solved_mean: float = 0.95,
    group_size: int = 8,
    interval: Interval = "auto",
    columns: Columns | None = None,
    nan: NanRule = "error",
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Judge each prompt by the standard deviation of its rollouts' rewards.

    Parameters
    ----------
    source : path, sequence of paths, pyarrow.Table, mapping of columns, or sequence of mappings
        One row a rollout; see `legato.rft.rollouts.read_rollouts`.
    value_range : (float, float), optional
        Least and largest possible reward. By default [0, 1] or [-1, 1] if all rewards are in it, else what was seen.
    tau : float, optional
        A std below it is small; by default 0.05 of the range.
    level : float
        Of the confidence intervals.
    solved_mean : float
        A mean above this share of the range is "solved".
    group_size : int
        Rollouts a prompt in training, for the share of constant groups.
    interval : {"auto", "mp", "chi2"}
        For prompts whose rewards are not two-valued: Maurer-Pontil (any bounded reward; wide) or chi-square (Gaussian).
        "auto": the first if `value_range` was given, else the second. Two-valued rewards always get Clopper-Pearson,
        and equal rewards an interval that assumes nothing but the range.
    columns : Columns, optional
        Names of columns.
    nan : {"error", "drop"}
        What to do with rewards that are not finite numbers.
    progress : callable, optional
        Called with the rollouts read so far.

    Returns
    -------
    Report

    Raises
    ------
    InputError
        A file, a column or a value cannot be used, a reward is outside of `value_range`, or there is no prompt.

    Examples
    --------
    >>> from legato import rft
    >>> report = rft.scan({"prompt": ["a"] * 8 + ["b"] * 8, "reward": [0.0] * 8 + [0.0, 1.0] * 4})
    >>> report.verdict.tolist(), report.more_rollouts.tolist()
    (['suspect', 'healthy'], [1471, 0])
    """
    level = as_number("level", level, above=0, below=1)
    solved_mean = as_number("solved_mean", solved_mean, above=0, most=1)
    group_size = as_count("group_size", group_size, 2)
    interval, nan = as_choice("interval", interval, INTERVALS), as_choice("nan", nan, NAN_RULES)
    if value_range is not None:
        value_range = reward_ends("value_range", value_range)
    if tau is not None:
        tau = as_number("tau", tau, above=0)
    if columns is not None and not isinstance(columns, Columns):
        raise ArgumentError(f"columns: expected Columns, got {shown(columns)}")
    if progress is not None and not callable(progress):
        raise ArgumentError(f"progress: expected a callable, got {shown(progress)}")
    anything = (-math.inf, math.inf)
    moments = read_rollouts(source, columns or Columns(), nan, value_range or anything, progress)
    prompt, m = moments.finish()
    notes: list[str] = []
    low, high = value_range or _guess_range(m, notes)
    width = high - low
    tau = 0.05 * width if tau is None else tau
    n, mean = m["n"], m["mean"]
    zero = m["least"] == m["largest"]
    m2 = np.where(zero, 0.0, m["m2"])
    with np.errstate(divide="ignore", invalid="ignore"):
        std = np.where(n > 1, np.sqrt(m2 / (n - 1)), np.nan)
    # A sample lies on the two ends of the range exactly if its variance is the largest its mean allows.
    largest_m2 = n * (mean - low) * (high - mean)
    binary = np.abs(m2 - largest_m2) <= 1e-9 * n * width**2
    chosen = interval if interval != "auto" else "mp" if value_range is not None else "chi2"
    std_low, std_high = _intervals(n, mean, std, zero, binary, (low, high), level, chosen)
    solved = mean >= low + solved_mean * width
    small = np.nan_to_num(std, nan=0.0) < tau
    kind = np.select([solved, small & (std_high < tau), small], [3, 0, 1], 2)  # of VERDICTS
    verdict = np.array(VERDICTS)[kind]
    unsettled, more = (kind == 1) & zero, np.zeros(len(n), np.int64)
    more[unsettled] = _rollouts_needed(mean[unsettled], (low, high), tau, level)
    bounds = (np.full(len(n), np.nan),) * 3
    if "length" in m:
        found = gradient_bounds(np.nan_to_num(std), m["length"] / n, None, np.maximum(m["loose"], 0.0) / n, (low, high))
        bounds = (found.sqrt_half_length, found.trace, found.paper)
        notes.append("the paper's bound takes the mean length here, where its statement has the largest")
    successes = np.clip((mean - low) / width, 0.0, 1.0)
    wasted = np.where(binary, constant_group_probability(successes, group_size), zero.astype(float))
    verdicts = dict(zip(VERDICTS, np.bincount(kind, minlength=len(VERDICTS)).tolist(), strict=True))
    shares = {name: count / len(kind) for name, count in verdicts.items()}
    sampled = std[np.isfinite(std)]
    percentiles = np.percentile(sampled, [10, 50]) if len(sampled) else [math.nan, math.nan]
    near = int((~zero & (np.nan_to_num(std, nan=1.0) < NEAR_CONSTANT * width)).sum())
    if near:
        notes.append(
            f"{near} prompts have rewards that are nearly but not exactly constant (std below {NEAR_CONSTANT:g} of the "
            "range): dividing by the group's std turns their noise into advantages (NVIDIA-NeMo/RL #4158, #4161)"
        )
    if not binary.all() and chosen == "chi2":
        notes.append("intervals of rewards that are not two-valued assume Gaussian rewards (chi-square)")
    if moments.dropped:
        notes.append(f"{moments.dropped} rollouts without a finite reward were left out")
    if len(moments.reward_columns) > 1:
        notes.append(f"the reward is the sum of {', '.join(moments.reward_columns)}")
    if zero.any():
        notes.append(
            "constant rewards in a sample do not prove a vanishing gradient: suspect prompts need more rollouts, or "
            "supervised examples"
        )
    notes.append(
        "raising the reward std is necessary for learning, not sufficient: mix in healthy prompts (rehearsal), and "
        "scan again during training"
    )
    settings = {
        "value_range": [low, high], "tau": tau, "level": level, "solved_mean": solved_mean, "group_size": group_size,
        "interval": chosen, "reward_columns": moments.reward_columns,
    }  # fmt: skip
    overall = {
        "prompts": len(prompt), "rollouts": moments.rollouts, "dropped": moments.dropped,
        "verdicts": verdicts, "shares": shares,
        "zero_std": float(zero.mean()), "std_p10": _finite(percentiles[0]), "std_p50": _finite(percentiles[1]),
        "near_constant": near, "wasted_groups": float(wasted.mean()),
        "effective_prompts": float((1 - wasted).sum()),
    }  # fmt: skip
    return Report(
        prompt, n, mean, std, std_low, std_high, zero, verdict, more,
        *bounds, settings, overall, notes, files_of(source),
    )  # fmt: skip


def _guess_range(m: dict[str, NDArray[Any]], notes: list[str]) -> tuple[float, float]:
    least, largest = float(m["least"].min()), float(m["largest"].max())
    for low, high in ((0.0, 1.0), (-1.0, 1.0)):
        if low <= least and largest <= high:
            break
    else:
        low, high = (least, largest) if least < largest else (least, least + 1.0)
    notes.append(f"the range of the rewards was not given: [{low:g}, {high:g}] is assumed")
    return low, high


def _intervals(
    n: NDArray[np.int64],
    mean: Float64,
    std: Float64,
    zero: NDArray[np.bool_],
    binary: NDArray[np.bool_],
    ends: tuple[float, float],
    level: float,
    method: str,
) -> tuple[Float64, Float64]:
    width, alpha = ends[1] - ends[0], 1 - level
    std_low, std_high = np.zeros(len(n)), np.full(len(n), width / 2)
    if binary.any():
        k = np.rint((mean[binary] - ends[0]) / width * n[binary]).astype(np.int64)
        pairs, most = NameTable(), int(n.max()) + 1  # few pairs of n and k occur: one quantile each
        back = pairs.number_integers(n[binary] * most + k)
        low, high = binary_std_interval(pairs.integers() % most, pairs.integers() // most, level)
        std_low[binary], std_high[binary] = width * low[back], width * high[back]
    same = zero & ~binary  # at most a share q of the policy's rewards differs, and by no more than the range allows
    q = np.minimum(1 - (alpha / 2) ** (1 / n[same]), 0.5)
    farthest = np.maximum(mean[same] - ends[0], ends[1] - mean[same])
    std_high[same] = np.minimum(farthest * np.sqrt(q * (1 - q)), width / 2)
    rest = ~zero & ~binary & (n > 1)
    if rest.any() and method == "mp":
        reach = width * np.sqrt(2 * math.log(2 / alpha) / (n[rest] - 1))
        std_low[rest] = np.maximum(std[rest] - reach, 0.0)
        std_high[rest] = np.minimum(std[rest] + reach, width / 2)
    elif rest.any():
        from scipy.special import chdtri

        free = n[rest] - 1
        total = std[rest] ** 2 * free
        std_low[rest] = np.sqrt(total / chdtri(free, alpha / 2))
        std_high[rest] = np.minimum(np.sqrt(total / chdtri(free, 1 - alpha / 2)), width / 2)
        std_low[rest] = np.minimum(std_low[rest], std_high[rest])
    return std_low, std_high


def _rollouts_needed(mean: Float64, ends: tuple[float, float], tau: float, level: float) -> NDArray[np.int64]:
    """Smallest n for which an all-equal sample has its whole interval below tau."""
    farthest = np.maximum(mean - ends[0], ends[1] - mean)
    ratio = np.minimum(tau / farthest, 0.5)  # sqrt(q (1 - q)) = ratio
    q = 0.5 - np.sqrt(np.maximum(0.25 - ratio**2, 0.0))
    return (np.floor(math.log((1 - level) / 2) / np.log1p(-q)) + 1).astype(np.int64)


@dataclass(frozen=True)
class Comparison:
    """Two scans of the same prompts.

    Attributes
    ----------
    prompt : list
        Prompts in both.
    std_before, std_after, mean_before, mean_after : ndarray
    overall : dict
        crossed_up, crossed_down: share of prompts whose std rose above or fell below tau; std_p10_before, std_p10_after
        (the paper's statistic); mean_before, mean_after; only_before, only_after: prompts in one scan only.
    """

    prompt: list[Any]
    std_before: Float64
    std_after: Float64
    mean_before: Float64
    mean_after: Float64
    overall: dict[str, Any]

    def to_json(self) -> str:
        """Write everything as one JSON object."""
        names = ("prompt", "std_before", "std_after", "mean_before", "mean_after")
        columns = [self.prompt, *([_finite(v) for v in getattr(self, name).tolist()] for name in names[1:])]
        rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        return json.dumps({"overall": self.overall, "prompts": rows}, indent=1, allow_nan=False) + "\n"

    def to_table(self) -> str:
        """Write the summary, for a terminal."""
        o = self.overall
        return (
            f"{o['prompts']} prompts in both ({o['only_before']} only before, {o['only_after']} only after)\n"
            f"                          before     after\n"
            f"  std, 10th percentile  {_text(o['std_p10_before']):>8}  {_text(o['std_p10_after']):>8}\n"
            f"  std, median           {_text(o['std_p50_before']):>8}  {_text(o['std_p50_after']):>8}\n"
            f"  mean reward           {o['mean_before']:8.4f}  {o['mean_after']:8.4f}\n"
            f"  std rose above tau {o['tau']:g}: {o['crossed_up']:.1%} of prompts; "
            f"fell below it: {o['crossed_down']:.1%}\n"
        )


def compare(before: Report, after: Report) -> Comparison:
    """Did the std rise? Compare two scans prompt by prompt, by the tau of the first.

    Parameters
    ----------
    before, after : Report

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        No prompt is in both.
    """
    for name, report in (("before", before), ("after", after)):
        if not isinstance(report, Report):
            raise ArgumentError(f"{name}: expected a Report, as scan gives it, got {type(report).__name__}")
    where = {prompt: i for i, prompt in enumerate(after.prompt)}
    pairs = [(i, where[prompt]) for i, prompt in enumerate(before.prompt) if prompt in where]
    if not pairs:
        raise InputError("before and after: no prompt is in both")
    a, b = (np.array(side) for side in zip(*pairs, strict=True))
    tau = before.settings["tau"]
    old, new = before.std[a], after.std[b]
    both = np.isfinite(old) & np.isfinite(new)
    up, down = both & (old < tau) & (new >= tau), both & (old >= tau) & (new < tau)
    p10, p50 = ([_finite(np.percentile(s[both], q)) if both.any() else None for s in (old, new)] for q in (10, 50))
    overall = {
        "prompts": len(pairs), "only_before": len(before.prompt) - len(pairs),
        "only_after": len(after.prompt) - len(pairs), "tau": tau, "crossed_up": float(up.mean()),
        "crossed_down": float(down.mean()), "std_p10_before": p10[0], "std_p10_after": p10[1],
        "std_p50_before": p50[0], "std_p50_after": p50[1], "mean_before": float(before.mean[a].mean()),
        "mean_after": float(after.mean[b].mean()),
    }  # fmt: skip
    return Comparison([before.prompt[i] for i in a], old, new, before.mean[a], after.mean[b], overall)


@dataclass(frozen=True, slots=True)
class Plan:
    """Times of gradient flow for one input, and how many groups carry a signal.

    Attributes
    ----------
    p0, p1 : float
    n_labels : int
    std : float
        Reward std (rewards +1 and -1) at p0.
    rft, sft : float
        Times from p0 to p1 by either method.
    sft_to_half_then_rft : float
        Supervised to p = 1/2, then reinforcement: where the second becomes the faster one.
    useful_groups : dict of int to float
        Share of groups of that size that are not constant at p0.
    """

    p0: float
    p1: float
    n_labels: int
    std: float
    rft: float
    sft: float
    sft_to_half_then_rft: float
    useful_groups: dict[int, float]

    def to_table(self) -> str:
        """Write the numbers, for a terminal."""
        groups = "".join(f"  G = {size:<3} {share:8.2%}\n" for size, share in self.useful_groups.items())
        return (
            f"one input, {self.n_labels} labels, from p = {self.p0:g} (reward std {self.std:.4g}) to p = {self.p1:g}\n"
            f"  reinforcement only               {self.rft:12.1f}\n"
            f"  supervised only                  {self.sft:12.1f}\n"
            f"  supervised to 1/2, then the other{self.sft_to_half_then_rft:12.1f}\n"
            f"(units of gradient-flow time on the logits; a model, not a forecast)\n"
            f"groups with a signal at p = {self.p0:g}:\n{groups}"
        )


def plan(p0: float, n_labels: int, p1: float = 0.9) -> Plan:
    """Say how long reinforcement and supervision take from a success probability of p0 (a model of one input).

    Parameters
    ----------
    p0, p1 : float
        0 < p0 <= p1 < 1.
    n_labels : int
        Possible outputs; all but one share the rest equally.

    Returns
    -------
    Plan
    """
    rft, sft = gradient_flow_time(p0, p1, n_labels)
    middle = min(max(0.5, p0), p1)
    both = gradient_flow_time(p0, middle, n_labels)[1] + gradient_flow_time(middle, p1, n_labels)[0]
    useful = {size: float(1 - constant_group_probability(p0, size)) for size in (4, 8, 16, 32, 64)}
    return Plan(p0, p1, n_labels, 2 * math.sqrt(p0 * (1 - p0)), rft, sft, both, useful)


def _finite(x: float) -> float | None:
    return float(x) if math.isfinite(x) else None


def _text(x: float | None) -> str:
    return "-" if x is None or not math.isfinite(x) else f"{x:.4f}"


def _short(prompt: Any, width: int = 40) -> str:
    text = printable(" ".join(str(prompt).split()))
    return text if len(text) <= width else text[: width - 3] + "..."
