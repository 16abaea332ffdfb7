"""One row of a benchmark: the same work by Legato and by its peers, timed in turn, so that other load falls on all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Row", "Timing", "duration_text", "measure", "ratio_text"]

_BLOCK_S = 2e-3  # the least time between two readings of the clock
_LEAST_ROUNDS, _MOST_ROUNDS = 5, 400


@dataclass(frozen=True)
class Row:
    """The same work by Legato and by others.

    Parameters
    ----------
    family : str
        Such as ``"rft"``.
    name : str
        The work, with its size and type.
    legato : callable
        Does it, and returns the answer.
    peers : mapping of str to callable
        The same by others, who are named with what of them is used.
    agree : callable of (ours, theirs)
        Raises AssertionError where the answers are not the same.
    limit : callable, optional
        Moves as many bytes as the work must, or multiplies as often, and does nothing else.

    See Also
    --------
    measure : Check that all give the same answer, then time them in turn, on one thread each.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import bench, rft
    >>> x = np.arange(8.0)
    >>> row = bench.Row("rft", "whiten 8", lambda: rft.whiten(x), {"NumPy": lambda: (x - x.mean()) / x.std(ddof=1)},
    ...                 np.testing.assert_allclose)
    >>> row.agree(row.legato(), row.peers["NumPy"]())
    """

    family: str
    name: str
    legato: Callable[[], Any]
    peers: Mapping[str, Callable[[], Any]]
    agree: Callable[[Any, Any], None]
    limit: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Timing:
    """What was measured of a row.

    Parameters
    ----------
    family, name : str
        Those of the row.
    seconds : mapping of str to list of float
        For ``"legato"`` and each peer the lower quartile, median and upper quartile of a call.
    ratios : mapping of str to list of float
        For each peer the quartiles of its time over ours, of calls side by side.
    share : list of float or None
        Quartiles of the limit's time over ours: 1 is all that the machine allows.
    rounds : int
        How often each was timed.

    See Also
    --------
    measure : Check that all give the same answer, then time them in turn, on one thread each.

    Examples
    --------
    >>> from legato import bench
    >>> timing = bench.Timing("rft", "GAE", {"legato": [1e-6, 2e-6, 3e-6]}, {}, share=None, rounds=5)
    >>> timing.seconds["legato"][1]
    2e-06
    """

    family: str
    name: str
    seconds: Mapping[str, list[float]]
    ratios: Mapping[str, list[float]]
    share: list[float] | None
    rounds: int


def measure(row: Row, seconds: float = 2.0) -> Timing:
    """Check that all give the same answer, then time them in turn, on one thread each.

    Parameters
    ----------
    row : Row
        What to run.
    seconds : float
        About how long to go on; each is timed five times at least.

    Returns
    -------
    Timing

    Raises
    ------
    AssertionError
        If a peer's answer is another.

    See Also
    --------
    run : Measure the short set of some families.
    Row : The same work by Legato and by others.

    Notes
    -----
    Times are CPU times of the calling thread where its clock is fine enough: on a machine that is shared, the wall's
    clock measures the neighbors.

    Examples
    --------
    >>> from legato import bench
    >>> row = bench.Row("none", "a sum", lambda: sum(range(9)), {"by hand": lambda: 36}, lambda ours, theirs: None)
    >>> timing = bench.measure(row, seconds=0.001)
    >>> timing.rounds >= 5, sorted(timing.seconds)
    (True, ['by hand', 'legato'])
    """
    ours = row.legato()
    calls = {"legato": row.legato, **row.peers}
    for call in row.peers.values():
        row.agree(ours, call())
    if row.limit is not None:
        calls["limit"] = row.limit
        row.limit()
    clock = _clock()
    repeats = {name: _repeats(call, clock) for name, call in calls.items()}
    taken: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < _LEAST_ROUNDS or (rounds < _MOST_ROUNDS and time.perf_counter() < end):
        for name in names:
            taken[name].append(_block(calls[name], repeats[name], clock))
        names.append(names.pop(0))  # nobody always comes after the same one
        rounds += 1
    own = np.array(taken["legato"])
    over = {name: _quartiles(np.array(values) / own) for name, values in taken.items() if name != "legato"}
    return Timing(
        row.family,
        row.name,
        {name: _quartiles(np.array(values)) for name, values in taken.items() if name != "limit"},
        {name: values for name, values in over.items() if name != "limit"},
        over.get("limit"),
        rounds,
    )


def duration_text(seconds: float) -> str:
    """Write a time with three digits and its unit."""
    unit, size = next(((u, s) for u, s in (("s", 1.0), ("ms", 1e-3)) if seconds >= s), ("us", 1e-6))
    return f"{seconds / size:.3g} {unit}" if seconds < 999.5 * size else f"{seconds / size:.0f} {unit}"


def ratio_text(ratio: float) -> str:
    """Write a ratio with three digits, or without a fraction."""
    return f"{ratio:.2f}" if ratio < 9.995 else f"{ratio:.1f}" if ratio < 99.95 else f"{ratio:,.0f}"


def _clock() -> Callable[[], float]:
    try:
        fine = time.get_clock_info("thread_time").resolution <= 1e-6
    except ValueError:  # a system without it
        fine = False
    return time.thread_time if fine else time.perf_counter


def _block(call: Callable[[], Any], repeats: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(repeats):
        call()
    return (clock() - start) / repeats


def _repeats(call: Callable[[], Any], clock: Callable[[], float]) -> int:
    repeats = 1
    while (taken := _block(call, repeats, clock) * repeats) < _BLOCK_S and repeats < 1 << 20:
        repeats = max(2 * repeats, min(10 * repeats, int(1.2 * repeats * _BLOCK_S / max(taken, 1e-9))))
    return repeats


def _quartiles(values: np.ndarray) -> list[float]:
    return [float(q) for q in np.quantile(values, (0.25, 0.5, 0.75))]
