"""The named predicates, and the algebra of comparisons behind the engine's plans.

A comparison of a key with a query is a set of outcomes out of {less, equal, greater}. Sets of outcomes make ``and``,
``or`` and ``not`` on one pair of sequences single comparisons again.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from legato.errors import ArgumentError

__all__ = ["Predicate", "compiled_address", "equals", "false", "geq", "gt", "holds", "leq", "lt", "neq", "true"]

LESS, EQUAL, GREATER = 1, 2, 4

# Outcome sets as the core numbers its comparisons.
CORE_CODE = {EQUAL: 0, LESS | GREATER: 1, LESS: 2, LESS | EQUAL: 3, GREATER: 4, GREATER | EQUAL: 5, 7: 6, 0: 7}


class Predicate:
    """A comparison ``(key, query) -> bool`` that the engine knows by name.

    Parameters
    ----------
    name : str
        As printed.
    outcomes : int
        The outcomes of comparing key with query that select: 1 less, 2 equal, 4 greater, added up.
    compare : callable
        The same on two Python values.

    See Also
    --------
    select : Which keys each query looks at: A[i, j] = pred(k[j], q[i]), and j <= i when `causal`.

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.lt(2, 3), rasp.lt
    (True, lt)
    """

    __slots__ = ("compare", "name", "outcomes")

    def __init__(self, name: str, outcomes: int, compare: Callable[[object, object], bool]) -> None:
        if not isinstance(name, str):
            raise ArgumentError(f"name: expected a text, got {type(name).__name__}")
        if not isinstance(outcomes, int) or not 0 <= outcomes <= 7:
            raise ArgumentError(f"outcomes: expected a whole number from 0 to 7, got {type(outcomes).__name__}")
        if not callable(compare):
            raise ArgumentError(f"compare: expected a callable, got {type(compare).__name__}")
        self.name = name
        self.outcomes = outcomes
        self.compare = compare

    def __call__(self, key: object, query: object) -> bool:
        """Compare two Python values."""
        return bool(self.compare(key, query))

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> str:
        return self.name


equals = Predicate("equals", EQUAL, lambda k, q: k == q)
neq = Predicate("neq", LESS | GREATER, lambda k, q: k != q)
lt = Predicate("lt", LESS, lambda k, q: k < q)  # type: ignore[operator]
leq = Predicate("leq", LESS | EQUAL, lambda k, q: k <= q)  # type: ignore[operator]
gt = Predicate("gt", GREATER, lambda k, q: k > q)  # type: ignore[operator]
geq = Predicate("geq", GREATER | EQUAL, lambda k, q: k >= q)  # type: ignore[operator]
true = Predicate("true", 7, lambda k, q: True)  # noqa: ARG005
false = Predicate("false", 0, lambda k, q: False)  # noqa: ARG005


def holds(predicate: Callable[[Any, Any], Any], key: Any, query: Any) -> bool:
    """Ask a predicate about a pair; what it returns must be a bool."""
    result = predicate(key, query)
    if not isinstance(result, bool | np.bool_):
        raise ArgumentError(
            f"select: expected a predicate that returns bool, got {type(result).__name__} "
            f"for key {key!r}, query {query!r}"
        )
    return bool(result)


CALLED = 8  # the core's number of a compiled predicate


def compiled_address(predicate: Callable[..., Any]) -> int | None:
    """Return the machine address of a predicate compiled by Numba (``njit`` or ``cfunc``), or None for others.

    It must take two int64 and return a boolean. Numba is never imported here: who has such a predicate has it.
    """
    if "numba" not in sys.modules or not type(predicate).__module__.startswith("numba."):
        return None
    return int(_compiled(predicate).address)


@functools.lru_cache(maxsize=256)
def _compiled(predicate: Any) -> Any:
    """Return the cfunc, 2 where the predicate raises; kept, because its address is only good as long as it lives.

    Numba's own wrapper would print the exception and answer with whatever the memory of its result holds.
    """
    import numba

    wanted = (numba.int64, numba.int64)
    try:
        if hasattr(predicate, "address"):
            signature = predicate._sig
            asked = numba.njit(predicate.__wrapped__)
        else:
            predicate.compile(wanted)
            signature = predicate.overloads[wanted].signature
            asked = predicate
    except Exception as error:
        raise ArgumentError(
            f"select: pred: Numba cannot compile it for two int64: {str(error).splitlines()[0]}"
        ) from None
    if tuple(signature.args) != wanted or signature.return_type != numba.boolean:
        raise ArgumentError(f"select: pred: expected a compiled predicate boolean(int64, int64), got {signature}")

    def answer(k: int, q: int) -> int:
        try:
            return 1 if asked(k, q) else 0
        except Exception:
            return 2

    return numba.cfunc(numba.uint8(*wanted))(answer)


BY_NAME = {p.name: p for p in (equals, neq, lt, leq, gt, geq, true, false)}
BY_OUTCOMES = {p.outcomes: p for p in BY_NAME.values()}
