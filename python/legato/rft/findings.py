"""What a scan found, as arrays: one entry a group, a prompt at a step of training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legato._arrays import Float64
from legato._printing import printable
from legato._scalars import as_number
from legato.rft.rollouts import NO_STEP

__all__ = ["VERDICTS", "Findings", "one_line", "one_lines"]

VERDICTS = ("vanishing", "suspect", "healthy", "solved")
FIELDS = (
    "step", "prompt", "n", "mean", "std", "std_low", "std_high", "zero_std", "verdict", "more_rollouts",
    "bound_sqrt_half_length", "bound_trace", "bound_paper",
)  # fmt: skip


@dataclass(frozen=True)
class Findings:
    """What a scan found; arrays have one entry a group, in order of step and prompt.

    A group is a prompt's rollouts at one step of training: all of them where the log has no steps.

    Attributes
    ----------
    prompt : list
        Ids, integers or strings.
    step : ndarray of int
        Of training; the least int64 where there is none.
    n : ndarray of int
        Rollouts.
    mean, std : ndarray
        Of the rewards; the std divides by n - 1 and is NaN for one rollout.
    std_low, std_high : ndarray
        Confidence interval of the std of the policy's reward; the upper end is infinite where no range is known.
    zero_std : ndarray of bool
        All rewards equal. That alone does not make a prompt vanishing.
    verdict : ndarray of str
        "vanishing": the whole interval is below tau. "suspect": the std is, the interval is not. "healthy": the std is
        not. "solved": the interval of the mean is near the top of the range.
    more_rollouts : ndarray of int
        For a suspect group of constant reward: rollouts needed in all for "vanishing" or "solved" if all come out
        equal; else 0.
    bound_sqrt_half_length, bound_trace, bound_paper : ndarray
        Upper bounds on the norm of the gradient of the expected reward with respect to the logits, with the sample's
        std in place of the policy's; NaN without log-probabilities.
    column_std : dict of str to ndarray
        Of each of several reward columns.
    settings, overall : dict
        What was asked, and the numbers over all groups: `population`, `group_sizes`, `steps`, `columns` and counts.
    notes : list of str
        What a reader should know.
    """

    prompt: list[Any]
    step: NDArray[np.int64]
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
    column_std: dict[str, Float64] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    overall: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def has_steps(self) -> bool:
        """Whether the log tells steps."""
        return bool((self.step != NO_STEP).any())

    def order(self) -> NDArray[np.int64]:
        """Return the groups from the smallest std on; ties by mean, then by step and id."""
        return np.lexsort((np.arange(len(self.n)), self.mean, np.nan_to_num(self.std, nan=np.inf)))

    def latest(self) -> NDArray[np.int64]:
        """Return the last group of each prompt, in order of the prompts: the policy nearest to the present one."""
        if not self.has_steps:
            return np.arange(len(self.n))
        last = dict(zip(self.prompt, range(len(self.n)), strict=True))
        return np.array([last[prompt] for prompt in sorted(last)], np.int64)

    def rank(self, budget: float | int, mix: float = 0.0) -> list[Any]:
        """Prompts to finetune with supervision first: vanishing and suspect ones that fail, smallest std first.

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
        latest = self.latest()
        count = max(1, int(budget * len(latest))) if budget < 1 else int(budget)
        among = np.zeros(len(self.n), np.bool_)
        among[latest] = True
        order = self.order()
        order = order[among[order]]
        kind = self.verdict[order]
        low, high = self.settings["value_range"]
        fails = self.mean[order] < low + self.settings["solved_mean"] * (high - low)
        first = order[((kind == "vanishing") | (kind == "suspect")) & fails][:count]
        healthy = order[kind == "healthy"]
        extra = min(len(healthy), round(mix * len(first)))
        if extra:
            first = np.concatenate([first, healthy[(np.arange(extra) + 0.5).astype(int) * len(healthy) // extra]])
        return [self.prompt[i] for i in first]

    def columns(self) -> dict[str, Any]:
        """Return the arrays by name; the step as None where there is none."""
        found = {name: getattr(self, name) for name in FIELDS}
        if self.has_steps:
            found["step"] = [None if step == NO_STEP else step for step in self.step.tolist()]
        else:
            del found["step"]
        return found | {f"std_{name}": std for name, std in self.column_std.items()}

    def rows(self, order: Sequence[int] | NDArray[np.int64] | None = None) -> list[dict[str, Any]]:
        """One dictionary a group; numbers that are not finite as None."""
        chosen = range(len(self.n)) if order is None else order
        columns = {}
        for name, values in self.columns().items():
            if isinstance(values, list):
                columns[name] = [values[i] for i in chosen]
                continue
            plain = (values if order is None else values[order]).tolist()
            columns[name] = [v if math.isfinite(v) else None for v in plain] if values.dtype.kind == "f" else plain
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def one_line(prompt: Any, width: int = 40) -> str:
    """Return a prompt, shortened and printable, without line breaks."""
    text = printable(" ".join(str(prompt).split()))
    return text if len(text) <= width else text[: width - 3] + "..."


def one_lines(prompts: Sequence[Any], width: int = 40) -> list[str]:
    """Return prompts as `one_line` does, those that begin alike from shortly before they differ."""
    texts = [printable(" ".join(str(prompt).split())) for prompt in prompts]
    shared = dict.fromkeys(texts, 0)
    for one, next_one in itertools.pairwise(sorted(shared)):
        alike = next((i for i, (a, b) in enumerate(zip(one, next_one, strict=False)) if a != b), len(one))
        shared[one], shared[next_one] = max(shared[one], alike), max(shared[next_one], alike)
    found = []
    for text in texts:
        start = max(0, min(shared[text] - width // 3, len(text) - width + 3))
        told = shared[text] + width // 4 <= width or start <= 3
        found.append(one_line(text if told else "..." + text[start:], width))
    return found
