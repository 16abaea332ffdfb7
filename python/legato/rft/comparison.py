"""Two scans of the same prompts: what a change did to the std of their rewards."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from legato._arrays import Float64
from legato.errors import ArgumentError, InputError
from legato.rft.findings import Findings

__all__ = ["Comparison", "compare"]


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

    See Also
    --------
    compare : Did the std rise? Compare two scans prompt by prompt, each at its last step, by the tau of the first.

    Examples
    --------
    >>> from legato import rft
    >>> before, after = (rft.scan({"prompt": ["a"] * 4, "reward": rewards}, value_range=(0, 1))
    ...                  for rewards in ([0, 0, 0, 0], [0, 1, 0, 1]))
    >>> found = rft.compare(before, after)
    >>> found.prompt, found.mean_after.tolist(), found.overall["crossed_up"]
    (['a'], [0.5], 1.0)
    >>> "crossed_up" in found.to_json(), len(found.to_table().splitlines()) > 1
    (True, True)
    """

    prompt: list[Any]
    std_before: Float64
    std_after: Float64
    mean_before: Float64
    mean_after: Float64
    overall: dict[str, Any]

    def to_json(self) -> str:
        """Write everything as one JSON object.

        See Also
        --------
        Comparison.to_table : Write the summary, for a terminal.
        """
        names = ("prompt", "std_before", "std_after", "mean_before", "mean_after")
        columns = [self.prompt, *([_finite(v) for v in getattr(self, name).tolist()] for name in names[1:])]
        rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        return json.dumps({"overall": self.overall, "prompts": rows}, indent=1, allow_nan=False) + "\n"

    def to_table(self) -> str:
        """Write the summary, for a terminal.

        See Also
        --------
        Comparison.to_json : Write everything as one JSON object.
        """
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


def compare(before: Findings, after: Findings) -> Comparison:
    """Did the std rise? Compare two scans prompt by prompt, each at its last step, by the tau of the first.

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

    See Also
    --------
    scan : Say what share of groups has no gradient, and judge each prompt by the standard deviation of its rewards.
    Comparison : Two scans of the same prompts.

    Examples
    --------
    >>> from legato import rft
    >>> before = rft.scan({"prompt": ["a"] * 4, "reward": [0, 0, 0, 0]}, value_range=(0, 1))
    >>> after = rft.scan({"prompt": ["a"] * 4, "reward": [0, 0, 0, 1]}, value_range=(0, 1))
    >>> rft.compare(before, after).overall["crossed_up"]
    1.0
    """
    for name, report in (("before", before), ("after", after)):
        if not isinstance(report, Findings):
            raise ArgumentError(f"{name}: expected a Report, as scan gives it, got {type(report).__name__}")
    first, second = before.latest(), after.latest()
    where = {after.prompt[i]: i for i in second}
    pairs = [(i, where[before.prompt[i]]) for i in first if before.prompt[i] in where]
    if not pairs:
        raise InputError("before and after: no prompt is in both")
    a, b = (np.array(side) for side in zip(*pairs, strict=True))
    tau = before.settings["tau"]
    old, new = before.std[a], after.std[b]
    both = np.isfinite(old) & np.isfinite(new)
    up, down = both & (old < tau) & (new >= tau), both & (old >= tau) & (new < tau)
    p10, p50 = ([_finite(np.percentile(s[both], q)) if both.any() else None for s in (old, new)] for q in (10, 50))
    overall = {
        "prompts": len(pairs), "only_before": len(first) - len(pairs),
        "only_after": len(second) - len(pairs), "tau": tau, "crossed_up": float(up.mean()),
        "crossed_down": float(down.mean()), "std_p10_before": p10[0], "std_p10_after": p10[1],
        "std_p50_before": p50[0], "std_p50_after": p50[1], "mean_before": float(before.mean[a].mean()),
        "mean_after": float(after.mean[b].mean()),
    }  # fmt: skip
    return Comparison([before.prompt[i] for i in a], old, new, before.mean[a], after.mean[b], overall)


def _finite(x: float) -> float | None:
    return float(x) if math.isfinite(x) else None


def _text(x: float | None) -> str:
    return "-" if x is None else f"{x:.4f}"
