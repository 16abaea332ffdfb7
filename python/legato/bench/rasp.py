"""RASP: select and aggregate beside NumPy's broadcasting and the calls for every pair that peers make."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import numpy as np

from legato import rasp
from legato.bench.timing import Row

__all__ = ["PEERS", "rows"]

PEERS = ("numpy",)
_CASES: dict[str, tuple[Any, Callable[[Any, Any], Any]]] = {
    "equals": (rasp.equals, lambda k, q: k == q),
    "lt": (rasp.lt, lambda k, q: k < q),
}


def rows(peers: Mapping[str, Any]) -> Iterator[Row]:  # noqa: ARG001  NumPy is always there
    """Give the rows of the family."""
    yield _row("equals", "mean", 4096, by_calls=False)
    yield _row("lt", "max", 4096, by_calls=False)
    yield _row("equals", "width", 4096, by_calls=False)
    yield _row("equals", "mean", 512, by_calls=True)


def _row(case: str, reduction: Literal["mean", "max", "width"], n: int, *, by_calls: bool) -> Row:
    predicate, bare = _CASES[case]
    rng = np.random.default_rng(0)
    k, q, v = (rng.integers(0, 50, n) for _ in range(3))

    def pairs() -> Any:
        if not by_calls:
            return bare(k[None, :], q[:, None]) & np.tri(n, dtype=bool)
        keys, queries = k.tolist(), q.tolist()
        return np.array([[j <= i and bare(keys[j], queries[i]) for j in range(n)] for i in range(n)])

    def peer() -> Any:
        chosen = pairs()
        count = chosen.sum(1)
        if reduction == "width":
            return count
        if reduction == "mean":
            return np.where(count, np.trunc((chosen @ v) / np.maximum(count, 1)), 0).astype(np.int64)
        return np.where(count, np.where(chosen, v, np.iinfo(np.int64).min).max(1), 0)

    def ours() -> Any:
        if reduction == "width":
            return rasp.sel_width(rasp.select(k, q, predicate))
        return rasp.aggr(rasp.select(k, q, predicate), v, reduction=reduction)

    def agree(mine: Any, theirs: Any) -> None:
        np.testing.assert_array_equal(mine, theirs)

    label = "a call for each pair" if by_calls else "NumPy broadcasting"
    return Row("rasp", f"{reduction} over {case}, {n} tokens", ours, {label: peer}, agree)
