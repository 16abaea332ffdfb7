"""From the sums of a scan to its findings: the range, the intervals, the verdicts and the population."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from legato._arrays import Float64
from legato._scalars import as_choice, as_count, as_number
from legato.errors import InputError
from legato.rft.findings import VERDICTS, Findings
from legato.rft.intervals import (
    binary_std_interval,
    bounded_mean_low,
    bounded_std_interval,
    gaussian_std_interval,
    proportion_interval,
    same_reward_std,
)
from legato.rft.population import RewardScale, group_sizes, kinds_of, population, usual_group_size
from legato.rft.prompts import distinct_rows
from legato.rft.rollouts import NO_STEP, Groups, Rollouts
from legato.rft.theory import gradient_bounds, reward_ends

__all__ = ["Interval", "Settings", "judge"]

NEAR_CONSTANT = 1e-3  # of the range: a std so small that 1/std amplifies noise
Interval: TypeAlias = Literal["auto", "mp", "chi2"]
INTERVALS: tuple[Interval, ...] = get_args(Interval)


@dataclass(frozen=True)
class Settings:
    """How to judge; see `legato.rft.scan`."""

    value_range: tuple[float, float] | None = None
    tau: float | None = None
    level: float = 0.95
    solved_mean: float = 0.95
    group_size: int | None = None
    interval: Interval = "auto"

    def __post_init__(self) -> None:
        checked = {
            "value_range": None if self.value_range is None else reward_ends("value_range", self.value_range),
            "tau": None if self.tau is None else as_number("tau", self.tau, above=0),
            "level": as_number("level", self.level, above=0, below=1),
            "solved_mean": as_number("solved_mean", self.solved_mean, above=0, most=1),
            "group_size": None if self.group_size is None else as_count("group_size", self.group_size, 2),
            "interval": as_choice("interval", self.interval, INTERVALS),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)


def judge(rollouts: Rollouts, settings: Settings) -> Findings:
    """Return what the rollouts say."""
    if rollouts.count == 0:
        left_out = f" besides {rollouts.dropped} without a finite reward" if rollouts.dropped else ""
        raise InputError(f"expected at least one rollout{left_out}, got none")
    groups, notes = rollouts.groups(), list(rollouts.notes)
    scale = _scale(groups, settings, notes)
    tau = 0.05 * scale.width if settings.tau is None else settings.tau
    n, mean = groups.n, groups.mean
    zero = groups.least == groups.largest
    with np.errstate(divide="ignore", invalid="ignore"):
        std = np.where(n > 1, np.sqrt(groups.m2 / (n - 1)), np.nan)
    std_low, std_high = _intervals(groups, std, scale, settings)
    small = np.nan_to_num(std, nan=0.0) < tau
    proven = _mean_low(groups, scale, settings) >= scale.low + settings.solved_mean * scale.width
    kind = np.select([proven, small & (std_high < tau), small], [3, 0, 1], 2)  # of VERDICTS
    unsettled, more = (kind == 1) & zero, np.zeros(len(n), np.int64)
    if scale.bounded:
        more[unsettled] = _rollouts_needed(mean[unsettled], scale, tau, settings)
    bounds = _bounds(groups, std, scale)
    if groups.tokens is not None:
        notes.append("the paper's bound takes the mean length here, where its statement has the largest")
    size = settings.group_size or usual_group_size(n)
    verdicts = dict(zip(VERDICTS, np.bincount(kind, minlength=len(VERDICTS)).tolist(), strict=True))
    sampled = std[np.isfinite(std)]
    percentiles = np.percentile(sampled, [10, 50]) if len(sampled) else [math.nan, math.nan]
    near = int((~zero & (np.nan_to_num(std, nan=1.0) < NEAR_CONSTANT * scale.width)).sum())
    has_steps = bool((groups.step != NO_STEP).any())
    kinds = kinds_of(groups, scale)
    overall = {
        "prompts": len(set(groups.prompt)) if has_steps else len(n), "groups": len(n), "rollouts": rollouts.count,
        "dropped": rollouts.dropped,
        "population": population(groups, kinds, scale, size, tau, settings.level).as_dict(),
        "group_sizes": group_sizes(kinds, scale, settings.level),
        "steps": _steps(groups, std, scale),
        "columns": _columns(groups, std),
        "verdicts": verdicts, "shares": {name: count / len(kind) for name, count in verdicts.items()},
        "zero_std": float(zero.mean()), "std_p10": _finite(percentiles[0]), "std_p50": _finite(percentiles[1]),
        "near_constant": near,
    }  # fmt: skip
    _warn(notes, rollouts, groups, scale, overall, settings)
    asked = {
        "value_range": [scale.low, scale.high], "range_given": scale.given, "bounded": scale.bounded,
        "two_valued": scale.two_valued, "tau": tau, "level": settings.level, "solved_mean": settings.solved_mean,
        "group_size": size, "interval": settings.interval, "reward_columns": list(rollouts.reward_columns),
    }  # fmt: skip
    column_std = {name: np.sqrt(m2 / np.maximum(n - 1, 1)) for name, (_, m2, _) in groups.columns.items()}
    return Findings(
        groups.prompt, groups.step, n, mean, std, std_low, std_high, zero, np.array(VERDICTS)[kind], more, *bounds,
        column_std, asked, overall, notes,
    )  # fmt: skip


def _scale(groups: Groups, settings: Settings, notes: list[str]) -> RewardScale:
    """Decide the range of the rewards: given, [0, 1], [-1, 1], two values, or where most of them are."""
    least, largest = float(groups.least.min()), float(groups.largest.max())
    ends_only = groups.least_count + np.where(groups.least < groups.largest, groups.largest_count, 0) == groups.n
    two = bool(np.all(ends_only & np.isin(groups.least, (least, largest)) & np.isin(groups.largest, (least, largest))))
    if settings.value_range is not None:
        low, high = settings.value_range
        return RewardScale(low, high, two and {least, largest} <= {low, high}, True, True)
    for low, high in ((0.0, 1.0), (-1.0, 1.0)):
        if low <= least and largest <= high:
            notes.append(f"the range of the rewards was not given: [{low:g}, {high:g}] is assumed")
            return RewardScale(low, high, two and {least, largest} <= {low, high}, True, False)
    if two and least < largest:
        notes.append(f"all rewards are {least:g} or {largest:g}: others are assumed to be impossible")
        return RewardScale(least, largest, True, True, False)
    low, high = _where_most_are(groups)
    notes.append(
        f"the range of the rewards was not given, and they are in no usual one: most are in [{low:g}, {high:g}], which "
        "tau goes by; without a known range no sample bounds a std, so nothing is called vanishing or solved (--range "
        "LOW HIGH)"
    )
    if low > least or high < largest:
        notes.append(f"some rewards are far from the others, down to {least:g} or up to {largest:g}")
    return RewardScale(low, high, False, False, False)


def _where_most_are(groups: Groups) -> tuple[float, float]:
    """Return the ends of the rewards seen, without those of one group in twenty if they are far away."""
    least, largest = np.sort(groups.least), np.sort(groups.largest)
    low, high = float(least[0]), float(largest[-1])
    if len(least) >= 5:
        trimmed = max(1, len(least) // 20)
        inner_low, inner_high = float(least[trimmed]), float(largest[-1 - trimmed])
        if 0 < inner_high - inner_low < (high - low) / 4:
            low, high = inner_low, inner_high
    return (low, high) if low < high else (low, low + max(1.0, abs(low)))


def _intervals(groups: Groups, std: Float64, scale: RewardScale, settings: Settings) -> tuple[Float64, Float64]:
    n, level = groups.n, settings.level
    if scale.two_valued:
        ones = np.where(groups.largest == scale.high, groups.largest_count, 0)
        (k, sizes), back = distinct_rows(ones, n)  # few pairs occur: one quantile each
        low, high = binary_std_interval(k, sizes, level)
        return scale.width * low[back], scale.width * high[back]
    known = np.nan_to_num(std, nan=0.0)
    if settings.interval == "chi2":
        low, high = gaussian_std_interval(n, known, level)
        return (low, np.minimum(high, scale.width / 2)) if scale.bounded else (low, high)
    if not scale.bounded:
        return np.zeros(len(n)), np.full(len(n), math.inf)
    low, high = bounded_std_interval(n, known, groups.least, groups.largest, scale.ends, level)
    same = same_reward_std(n, groups.least, scale.ends, level)
    return low, np.where(groups.least == groups.largest, same, high)


def _mean_low(groups: Groups, scale: RewardScale, settings: Settings) -> Float64:
    """Lower ends of the means of the policy's rewards; minus infinity where nothing is known."""
    found = np.full(len(groups.n), -math.inf)
    if not scale.bounded:
        return found
    share = np.clip((groups.mean - scale.low) / scale.width, 0.0, 1.0)
    high = share >= settings.solved_mean
    if not high.any():
        return found
    n = groups.n[high]
    if scale.two_valued:
        ones = np.where(groups.largest == scale.high, groups.largest_count, 0)[high]
        (k, sizes), back = distinct_rows(ones, n)
        low = proportion_interval(k, sizes, settings.level)[0][back]
    else:
        low = bounded_mean_low(n, share[high], settings.level)
    found[high] = scale.low + scale.width * low
    return found


def _rollouts_needed(mean: Float64, scale: RewardScale, tau: float, settings: Settings) -> NDArray[np.int64]:
    """Smallest n for which an all-equal sample is vanishing, or solved where it is at the top."""
    farthest = np.maximum(mean - scale.low, scale.high - mean)
    ratio = np.minimum(tau / farthest, 0.5)  # sqrt(q (1 - q)) = ratio
    q = 0.5 - np.sqrt(np.maximum(0.25 - ratio**2, 0.0))
    with np.errstate(divide="ignore"):
        vanishing = np.floor(math.log((1 - settings.level) / 2) / np.log1p(-q)) + 1
        if settings.solved_mean < 1:
            solved = np.ceil(math.log((1 - settings.level) / 2) / math.log(settings.solved_mean) - 1e-9)
            top = mean >= scale.high
            vanishing = np.where(top, np.minimum(vanishing, solved), vanishing)
    return np.asarray(np.minimum(vanishing, 2.0**62), np.int64)


def _bounds(groups: Groups, std: Float64, scale: RewardScale) -> tuple[Float64, Float64, Float64]:
    if groups.tokens is None:
        return (np.full(len(groups.n), np.nan),) * 3
    lengths, loose = groups.tokens
    found = gradient_bounds(np.nan_to_num(std), lengths / groups.n, None, np.maximum(loose, 0.0) / groups.n, scale.ends)
    return found.sqrt_half_length, found.trace, found.paper


def _steps(groups: Groups, std: Float64, scale: RewardScale) -> list[dict[str, Any]]:
    """One dictionary a step: what a dashboard shows over time."""
    found = []
    steps, starts = np.unique(groups.step, return_index=True)
    zero = groups.least == groups.largest
    for step, first, last in zip(steps.tolist(), starts, [*starts[1:], len(groups.step)], strict=True):
        here = slice(int(first), int(last))
        n, known = groups.n[here], np.isfinite(std[here])
        found.append(
            {
                "step": None if step == NO_STEP else step,
                "groups": len(n),
                "rollouts": int(n.sum()),
                "mean": float(np.average(groups.mean[here], weights=n)),
                "std": float(std[here][known].mean()) if known.any() else None,
                "no_gradient": float(zero[here].mean()),
                "all_zero": float((zero[here] & (groups.least[here] == scale.low)).mean()),
                "all_one": float((zero[here] & (groups.least[here] == scale.high)).mean()),
            }
        )
    return found


def _columns(groups: Groups, std: Float64) -> dict[str, dict[str, float | None]]:
    """Of each of several reward columns: mean, mean std, share of constant groups, and of the reward's variance.

    The share of the variance is cov(column, reward) / var(reward) within groups: shares add up to one, and one is
    negative where a column works against the others.
    """
    total = float(groups.m2.sum())
    found = {}
    free = np.maximum(groups.n - 1, 1)
    for name, (mean, m2, others) in groups.columns.items():
        covariance = float((groups.m2 + m2 - others).sum()) / 2
        found[name] = {
            "mean": float(np.average(mean, weights=groups.n)),
            "mean_std": float(np.sqrt(m2 / free)[np.isfinite(std)].mean()) if np.isfinite(std).any() else None,
            "constant": float((m2 == 0).mean()),
            "share_of_variance": covariance / total if total > 0 else None,
        }
    return found


def _warn(
    notes: list[str],
    rollouts: Rollouts,
    groups: Groups,
    scale: RewardScale,
    overall: dict[str, Any],
    settings: Settings,
) -> None:
    singles = int((groups.n == 1).sum())
    if singles > len(groups.n) / 2:
        notes.append(
            f"{singles} of {len(groups.n)} groups have one rollout, which says nothing of a std: is the prompt's "
            "column the right one (--prompt-col), and are groups spread over steps (--step-col none)?"
        )
    left_out = overall["population"]["left_out"]
    if left_out:
        notes.append(
            f"{left_out} groups have fewer rollouts than a group of {overall['population']['group_size']}: shares of "
            "groups are from the others"
        )
    if overall["near_constant"]:
        notes.append(
            f"{overall['near_constant']} groups have rewards that are nearly but not exactly constant (std below "
            f"{NEAR_CONSTANT:g} of the range): dividing by the group's std turns their noise into advantages "
            "(NVIDIA-NeMo/RL #4158, #4161)"
        )
    if settings.interval == "chi2" and not scale.two_valued:
        notes.append(
            "intervals assume Gaussian rewards (chi-square): skewed or rare rewards are outside of them far more often"
        )
    if rollouts.dropped:
        notes.append(f"{rollouts.dropped} rollouts without a finite reward were left out")
    if len(rollouts.reward_columns) > 1:
        notes.append(f"the reward is the sum of {', '.join(rollouts.reward_columns)}")
    if (groups.least == groups.largest).any():
        notes.append(
            "constant rewards in a sample do not prove a vanishing gradient: suspect prompts need more rollouts, or "
            "supervised examples"
        )
    notes.append(
        "raising the reward std is necessary for learning, not sufficient: mix in healthy prompts (rehearsal), and "
        "scan again during training"
    )


def _finite(x: float) -> float | None:
    return float(x) if math.isfinite(x) else None
