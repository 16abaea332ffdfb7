"""The reward-std doctor: which prompts can learn by reinforcement, from rollouts that exist already."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from legato._turns import Turns, one_at_a_time
from legato.errors import ArgumentError, InputError
from legato.rft.judging import Interval, Settings
from legato.rft.layouts import Columns
from legato.rft.report import Report
from legato.rft.rollouts import NanRule, Rollouts

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["Scan", "scan"]


class Scan:
    """A scan that goes on: rollouts come in any order and any parts, and the report is the same to the last bit.

    It can be pickled, so that any engine can hold one a worker and merge them; memory goes with the groups.

    Parameters
    ----------
    value_range, columns, nan
        As of `scan`.

    See Also
    --------
    scan : Say what share of groups has no gradient, and judge each prompt by the standard deviation of its rewards.
    Watch : The rollouts of a folder, as they come.

    Examples
    --------
    >>> from legato import rft
    >>> first, second = rft.Scan(value_range=(0, 1)), rft.Scan(value_range=(0, 1))
    >>> _ = first.update({"prompt": ["a", "b"], "reward": [0.0, 1.0]})
    >>> _ = second.update({"prompt": ["b", "a"], "reward": [0.0, 1.0]})
    >>> first.merge(second).report().mean.tolist()
    [0.5, 0.5]
    """

    def __init__(
        self,
        *,
        value_range: tuple[float, float] | None = None,
        columns: Columns | None = None,
        nan: NanRule = "error",
    ) -> None:
        self._range = Settings(value_range).value_range
        within = () if self._range is None else (self._range,)
        self._rollouts = Rollouts(Columns() if columns is None else columns, nan, *within)
        self._turns = Turns()

    @property
    def rollouts(self) -> int:
        """Rollouts counted so far."""
        return self._rollouts.count

    @one_at_a_time
    def update(
        self, source: Any, progress: Callable[[int], None] | None = None, executor: Executor | None = None
    ) -> Scan:
        """Count the rollouts of a source; see `scan`. Returns itself.

        See Also
        --------
        Scan.merge : Count what another scan has counted, which must read rewards alike. Returns itself.
        """
        self._rollouts.update(source, progress, executor)
        return self

    def merge(self, other: Scan) -> Scan:
        """Count what another scan has counted, which must read rewards alike. Returns itself.

        See Also
        --------
        Report.merge : Return the report of both logs together, with this one's settings.
        """
        if not isinstance(other, Scan):
            raise ArgumentError(f"other: expected a Scan, got {type(other).__name__}")
        if other._range != self._range:
            raise ArgumentError(f"other: expected the value range {self._range}, got {other._range}")
        one, two = sorted((self, other), key=id)  # in one order, or two merges would wait for each other
        with one._turns, two._turns:
            self._rollouts.merge(other._rollouts)
        return self

    @one_at_a_time
    def report(
        self,
        *,
        tau: float | None = None,
        level: float = 0.95,
        solved_mean: float = 0.95,
        group_size: int | None = None,
        interval: Interval = "auto",
    ) -> Report:
        """Judge what has been counted so far; see `scan`.

        See Also
        --------
        scan : Say what share of groups has no gradient, and judge each prompt by the standard deviation of its rewards.
        """
        counted = copy.deepcopy(self._rollouts)  # this scan may go on
        return Report.of(counted, Settings(self._range, tau, level, solved_mean, group_size, interval))


def scan(
    source: Any,
    *,
    value_range: tuple[float, float] | None = None,
    tau: float | None = None,
    level: float = 0.95,
    solved_mean: float = 0.95,
    group_size: int | None = None,
    interval: Interval = "auto",
    columns: Columns | None = None,
    nan: NanRule = "error",
    progress: Callable[[int], None] | None = None,
    executor: Executor | None = None,
) -> Report:
    """Say what share of groups has no gradient, and judge each prompt by the standard deviation of its rewards.

    Parameters
    ----------
    source : path, folder, pattern, sequence of them, table, mapping of columns, or iterable of mappings
        Parquet, JSONL, JSON, CSV, Arrow, Feather or NPZ, texts also with .gz or .zst; pyarrow, or anything with the
        Arrow C stream interface (pandas, polars, DuckDB), or Hugging Face's data sets. One row a rollout, or one a
        prompt with a list of rewards. Where there is a step column, or a step in the files' names, a group is a prompt
        at a step.
    value_range : (float, float), optional
        Least and largest possible reward. By default [0, 1] or [-1, 1] if all rewards are in it, or the two values that
        all rewards take; else no range is known, and no sample bounds a std.
    tau : float, optional
        A std below it is small; by default 0.05 of the range.
    level : float
        Of the confidence intervals.
    solved_mean : float
        A group is "solved" if the interval of its mean is above this share of the range.
    group_size : int, optional
        Rollouts a prompt in training, for the shares of groups. By default what most groups of the log have, else 8.
    interval : {"auto", "mp", "chi2"}
        For prompts whose rewards are not two-valued. "auto", "mp": intervals that hold for any bounded reward. "chi2":
        Gaussian rewards, an assumption that shaped and rare rewards break.
    columns : Columns, optional
        Names of columns.
    nan : {"error", "drop"}
        What to do with rewards that are not finite numbers.
    progress : callable, optional
        Called with the rollouts read so far.
    executor : concurrent.futures.Executor, optional
        Reads the files, each a task.

    Returns
    -------
    Report

    Raises
    ------
    InputError
        A file, a column or a value cannot be used, a reward is outside of `value_range`, or there is no prompt.

    See Also
    --------
    Scan : A scan that goes on: rollouts come in any order and any parts, and the report is the same to the last bit.
    Watch : The rollouts of a folder, as they come.
    select : Sort prompts by their pass rate, the mean reward's place in the range.
    compare : Did the std rise? Compare two scans prompt by prompt, each at its last step, by the tau of the first.

    Examples
    --------
    >>> from legato import rft
    >>> report = rft.scan({"prompt": ["a"] * 8 + ["b"] * 8, "reward": [0.0] * 8 + [0.0, 1.0] * 4})
    >>> report.verdict.tolist(), report.more_rollouts.tolist()
    (['suspect', 'healthy'], [1471, 0])
    >>> report.overall["population"]["no_gradient"]["share"]
    0.5
    """
    settings = Settings(value_range, tau, level, solved_mean, group_size, interval)
    going_on = Scan(value_range=value_range, columns=columns, nan=nan)
    names = going_on._rollouts.update(source, progress, executor)
    if going_on.rollouts == 0:
        dropped = going_on._rollouts.dropped
        left_out = f" besides {dropped} without a finite reward" if dropped else ""
        raise InputError(f"{', '.join(names)}: expected at least one rollout{left_out}, got none")
    return Report.of(going_on._rollouts, settings)
