"""Two runs of the short set held against each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from legato.errors import InputError

__all__ = ["Change", "compare"]

_LEAST = 0.05  # smaller changes are told, and not judged


@dataclass(frozen=True)
class Change:
    """What became of one row beside one peer.

    Parameters
    ----------
    family, name, peer : str
        Which.
    factor : float
        Speed after over speed before, each by the peer's time over ours in its own run, so that the machine's drift
        cancels; the peer is taken to have stayed the same.
    verdict : {"faster", "slower", "same"}
        "same" where the two runs' spreads overlap, each the quartiles and as much again on both sides, or the change is
        below 5 %.

    See Also
    --------
    compare : Judge each row that two runs have in common.

    Examples
    --------
    >>> from legato import bench
    >>> bench.Change("rft", "GAE", "numba", factor=1.5, verdict="faster").verdict
    'faster'
    """

    family: str
    name: str
    peer: str
    factor: float
    verdict: str


def compare(
    before: Mapping[str, Any], after: Mapping[str, Any], names: tuple[str, str] = ("before", "after")
) -> tuple[list[Change], list[str]]:
    """Judge each row that two runs have in common.

    Parameters
    ----------
    before, after : mapping
        As `Run.to_dict` gives them, read from JSON.
    names : (str, str)
        What they are called in errors.

    Returns
    -------
    list of Change
    list of str
        What cannot be compared: rows and peers of one run alone, another machine, another version of a peer.

    Raises
    ------
    InputError
        If one of them is no such run.

    See Also
    --------
    run : Measure the short set of some families.

    Examples
    --------
    >>> from legato import bench
    >>> row = {"family": "rft", "name": "GAE", "seconds": {}, "share": None, "rounds": 5}
    >>> run = {"machine": {}, "packages": {}, "missing": [], "timings": [{**row, "ratios": {"numba": [1.0, 1.1, 1.2]}}]}
    >>> changes, left_out = bench.compare(run, run)
    >>> changes[0].verdict, left_out
    ('same', [])
    """
    tables = [_ratios(run, name) for run, name in zip((before, after), names, strict=True)]
    changes = []
    for key in [key for key in tables[0] if key in tables[1]]:
        (low, middle, high), (low_after, middle_after, high_after) = (table[key] for table in tables)
        factor = middle_after / middle
        spread, spread_after = high - low, high_after - low_after
        apart = low_after - spread_after > high + spread or high_after + spread_after < low - spread
        verdict = "same" if not apart or abs(factor - 1) < _LEAST else "faster" if factor > 1 else "slower"
        changes.append(Change(*key, factor, verdict))
    notes = [
        f"{' / '.join(key)}: in one of the runs alone"
        for one, other in (tables, tables[::-1])
        for key in one
        if key not in other
    ]
    for field in ("machine", "packages"):
        for name in sorted(set(before[field]) | set(after[field])):
            values = [run[field].get(name, "none") for run in (before, after)]
            if values[0] != values[1] and name != "legato":
                notes.append(f"{name}: {values[0]}, then {values[1]}")
    return changes, notes


def _ratios(run: Mapping[str, Any], name: str) -> dict[tuple[str, str, str], tuple[float, float, float]]:
    """Look up the quartiles of each (family, row, peer)."""
    try:
        if not isinstance(run["machine"], Mapping) or not isinstance(run["packages"], Mapping):
            raise TypeError
        table = {}
        for timing in run["timings"]:
            for peer, (low, middle, high) in timing["ratios"].items():
                if not 0 < low <= middle <= high < float("inf"):
                    raise ValueError
                table[str(timing["family"]), str(timing["name"]), str(peer)] = (low, middle, high)
        return table
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(f"{name}: expected a run as `legato bench --json` writes it") from None
