"""Select and aggregate as they are written in the papers: the n x n matrix, one Python call a pair.

Weiss, Goldberg, Yahav, "Thinking Like Transformers" (ICML 2021), section 3; Zhou et al., "What Algorithms can
Transformers Learn?" (2023), the core of RASP-L. Row i of a selector is the query, column j the key.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import floor

import numpy as np
from numpy.typing import NDArray

__all__ = ["aggregate", "select", "width"]

Bools = NDArray[np.bool_]


def select(
    keys: NDArray[np.int64], queries: NDArray[np.int64], predicate: Callable[[int, int], bool], causal: bool = True
) -> Bools:
    """A[i, j] = predicate(k_j, q_i), and j <= i when causal; (n, n)."""
    n = len(keys)
    matrix = np.zeros((n, n), dtype=bool)
    for i in range(n):
        for j in range(i + 1 if causal else n):
            matrix[i, j] = predicate(keys[j], queries[i])
    return matrix


def width(matrix: Bools) -> NDArray[np.int64]:
    """Return number of keys that each query selects; (n,)."""
    return np.asarray(matrix.sum(axis=1, dtype=np.int64))


def aggregate(
    matrix: Bools,
    values: NDArray[np.int64],
    default: float = 0,
    reduction: str = "mean",
    rounding: str = "truncate",
) -> NDArray[np.int64] | NDArray[np.float64]:
    """Reduce the values of the selected keys, in exact arithmetic; (n,)."""
    out: list[float] = []
    for row in matrix:
        chosen = [int(v) for v in values[row]]
        if not chosen:
            out.append(default)
        elif reduction == "mean":
            mean = Fraction(sum(chosen), len(chosen))
            out.append(sum(chosen) / len(chosen) if rounding == "float" else _ROUND[rounding](mean))
        else:
            out.append(_REDUCE[reduction](chosen))
    if rounding == "float" and reduction == "mean":
        return np.array(out, dtype=np.float64)
    return np.array(out, dtype=np.int64)


_REDUCE: dict[str, Callable[[list[int]], int]] = {"max": max, "min": min, "sum": sum}
_ROUND: dict[str, Callable[[Fraction], int]] = {"truncate": int, "floor": floor}
