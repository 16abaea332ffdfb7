"""Selectors on arrays, and the choice of the route that evaluates them.

A selector is kept as a formula over comparisons, never as an n x n matrix. `aggregate_selector` turns the formula into
conjunctions of comparisons, asks a cost model for the cheapest route and runs it in the core.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import combinations
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from legato import _core, _dispatch
from legato._arrays import Int64
from legato._dispatch import Backend
from legato.errors import ArgumentError, NumericalError
from legato.rasp import _reference
from legato.rasp.maps import position_of
from legato.rasp.pictures import Picture, heat_map
from legato.rasp.predicates import CALLED, CORE_CODE, EQUAL, GREATER, LESS, Predicate, compiled_address, holds

__all__ = [
    "REDUCTIONS",
    "ROUNDINGS",
    "Selector",
    "aggregate_selector",
    "aggregation_parts",
    "plan_route",
    "postfix",
    "postorder",
    "term",
]

Reduction: TypeAlias = Literal["mean", "max", "min", "sum"]
Rounding: TypeAlias = Literal["truncate", "floor", "float"]
REDUCTIONS = {"width": 0, "mean": 1, "max": 2, "min": 3, "sum": 4}
ROUNDINGS = {"truncate": 0, "floor": 1, "float": 2}

_MOST_CONJUNCTIONS = 8  # beyond this, inclusion and exclusion costs more than it saves
_TABLE_BYTES = 1 << 22  # truth table held at once
_NO_PLAN = "formula"

PairPredicate = Callable[[Any, Any], Any]
Target: TypeAlias = NDArray[Any] | tuple[Any, Any, Any]  # the result, or totals (counts, sums, best) to add to


class Selector:
    """Which keys each query looks at; made by `select`, combined with ``&``, ``|`` and ``~``.

    The matrix itself, entry (i, j) for query i and key j, is what ``numpy.asarray`` gives (n x n, so for small n).
    A causal selector stays causal under ``~``: the future is never selected.

    See Also
    --------
    select : Which keys each query looks at: A[i, j] = pred(k[j], q[i]), and j <= i when `causal`.
    sel_width : Return number of keys that each query selects.
    aggr : Reduce the values of the selected keys.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import rasp
    >>> A = rasp.select([1, 2, 1], [1, 1, 1], rasp.equals)
    >>> np.asarray(A & ~rasp.select([1, 2, 1], 2, rasp.equals)).astype(int).tolist()
    [[1, 0, 0], [1, 0, 0], [1, 0, 1]]
    >>> A.heat_map().svg[:4]
    '<svg'
    """

    __slots__ = ("causal", "formula", "lengths", "shape")

    def __init__(self, formula: tuple[Any, ...], shape: tuple[int, ...], causal: bool, lengths: Int64 | None) -> None:
        self.formula = formula
        self.shape = shape
        self.causal = causal
        self.lengths = lengths

    def __and__(self, other: Selector) -> Selector:
        return self._joined("and", other)

    def __or__(self, other: Selector) -> Selector:
        return self._joined("or", other)

    def __invert__(self) -> Selector:
        inner = self.formula[1] if self.formula[0] == "not" else ("not", self.formula)
        return Selector(inner, self.shape, self.causal, self.lengths)

    def __bool__(self) -> bool:
        raise TypeError("a selector has no truth value: combine selectors with & | ~")

    def _joined(self, kind: str, other: Selector) -> Selector:
        if not isinstance(other, Selector):
            return NotImplemented
        if other.shape != self.shape:
            raise ArgumentError(
                f"selector {kind}: expected two selectors of one shape, got {self.shape}, {other.shape}"
            )
        if other.causal != self.causal:
            raise ArgumentError(f"selector {kind}: expected both causal or both not")
        lengths = self.lengths if self.lengths is not None else other.lengths
        if lengths is not None and other.lengths is not None and not np.array_equal(lengths, other.lengths):
            raise ArgumentError(f"selector {kind}: the lengths differ")
        return Selector((kind, self.formula, other.formula), self.shape, self.causal, lengths)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        del copy
        rows, n = self.shape if len(self.shape) == 2 else (1, *self.shape)
        out = np.zeros((rows, n, n), dtype=bool)
        for row in range(rows):
            end = n if self.lengths is None else int(self.lengths[row])
            out[row, :end, :end] = _matrix(self.formula, row, end, self.causal)
        return out.reshape((*self.shape[:-1], n, n)).astype(bool if dtype is None else dtype)

    def __repr__(self) -> str:
        return f"Selector(shape={self.shape}, causal={self.causal})"

    def heat_map(self) -> Picture:
        """Draw the matrix (n x n), with the keys above and the queries beside it where it is one comparison.

        Raises
        ------
        ArgumentError
            The selector is of a batch, or longer than 128 tokens.

        See Also
        --------
        heat_map : Draw a selector or an attention pattern: a row for each query, a column for each key.
        """
        if len(self.shape) != 1:
            raise ArgumentError(f"heat_map: expected a selector of one sequence, got shape {self.shape}")
        one = self.formula[0] in ("term", "call")
        keys, queries = (self.formula[at].tolist() if one else list(range(self.shape[0])) for at in (1, 2))
        return heat_map(np.asarray(self), queries, keys)

    def _repr_svg_(self) -> str | None:
        return self.heat_map().svg if len(self.shape) == 1 and self.shape[0] <= 64 else None


def postorder(formula: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Return every part of a formula once, operands first. No recursion, so formulas may be deep."""
    order: list[tuple[Any, ...]] = []
    done: set[int] = set()
    stack = [(formula, False)]
    while stack:
        part, ready = stack.pop()
        if id(part) in done:
            continue
        if ready or part[0] in ("term", "call"):
            done.add(id(part))
            order.append(part)
        else:
            stack.append((part, True))
            stack.extend((operand, False) for operand in reversed(part[1:]))
    return order


def _matrix(formula: tuple[Any, ...], row: int, n: int, causal: bool) -> NDArray[np.bool_]:
    """Return the matrix of one row, by the reference."""
    found: dict[int, NDArray[np.bool_]] = {}
    for part in postorder(formula):
        kind = part[0]
        if kind in ("term", "call"):
            _, key, query, predicate = part
            length = key.shape[-1]
            found[id(part)] = _reference.select(
                key.reshape(-1, length)[row, :n],
                query.reshape(-1, length)[row, :n],
                predicate if kind == "term" else partial(_asked, predicate),
                causal,
            )
            continue
        parts = [found[id(operand)] for operand in part[1:]]
        if kind == "not":
            found[id(part)] = ~parts[0] & np.tri(n, dtype=bool) if causal else ~parts[0]
        else:
            found[id(part)] = parts[0] & parts[1] if kind == "and" else parts[0] | parts[1]
    return found[id(formula)]


def _asked(predicate: PairPredicate, key: Any, query: Any) -> bool:
    return holds(predicate, int(key), int(query))


# --- From formulas to conjunctions ------------------------------------------------------------------------------------

Conjunction = dict[tuple[int, int], int]  # (id of keys, id of queries) -> outcomes that select


def _leaves(formula: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    return [part for part in postorder(formula) if part[0] in ("term", "call")]


def _meet(a: Conjunction, b: Conjunction) -> Conjunction | None:
    """Both at once; None when that is never."""
    out = dict(a)
    for pair, outcomes in b.items():
        both = out.get(pair, 7) & outcomes
        if both == 0:
            return None
        if both == 7:
            out.pop(pair, None)
        else:
            out[pair] = both
    return out


def _conjunctions(formula: tuple[Any, ...]) -> list[Conjunction] | None:
    """Return the formula as a union of conjunctions, or None where there is none or it grows too long."""
    unions: dict[tuple[int, bool], list[Conjunction] | None] = {}  # of a part, and of its negation
    stack = [(formula, False)]
    while stack:
        part, negated = stack.pop()
        key = (id(part), negated)
        if key in unions:
            continue
        if part[0] in ("term", "call"):
            unions[key] = _of_leaf(part, negated)
            continue
        operands = [(operand, negated != (part[0] == "not")) for operand in part[1:]]
        missing = [at for at in operands if (id(at[0]), at[1]) not in unions]
        if missing:
            stack += [(part, negated), *missing]
            continue
        found = [unions[id(operand), way] for operand, way in operands]
        unions[key] = found[0] if part[0] == "not" else _joined(found, (part[0] == "or") != negated)
    return unions[id(formula), False]


def _of_leaf(leaf: tuple[Any, ...], negated: bool) -> list[Conjunction] | None:
    if leaf[0] == "call":
        return None
    outcomes = 7 ^ leaf[3].outcomes if negated else leaf[3].outcomes
    if outcomes == 0:
        return []
    return [{}] if outcomes == 7 else [{(id(leaf[1]), id(leaf[2])): outcomes}]


def _joined(found: list[list[Conjunction] | None], either: bool) -> list[Conjunction] | None:
    left, right = found
    if left is None or right is None:
        return None
    union = left + right if either else [c for a in left for b in right if (c := _meet(a, b)) is not None]
    union = _simplified(union)
    return union if len(union) <= _MOST_CONJUNCTIONS else None


def _simplified(union: list[Conjunction]) -> list[Conjunction]:
    """Merge conjunctions that differ in one pair of sequences only, and drop those that others contain."""
    out: list[Conjunction] = []
    for conjunction in union:
        for at, other in enumerate(out):
            differing = [p for p in conjunction.keys() | other.keys() if conjunction.get(p, 7) != other.get(p, 7)]
            if not differing:
                break
            if len(differing) == 1:
                pair = differing[0]
                outcomes = conjunction.get(pair, 7) | other.get(pair, 7)
                merged = {**other, pair: outcomes}
                if outcomes == 7:
                    del merged[pair]
                out[at] = merged
                break
        else:
            out.append(conjunction)
    return out


def _signed_terms(union: list[Conjunction]) -> list[tuple[int, Conjunction]]:
    """Inclusion and exclusion: the union as a signed sum of conjunctions that hold no ``!=`` beside other terms."""
    signed: list[tuple[int, Conjunction]] = []
    for size in range(1, len(union) + 1):
        for chosen in combinations(union, size):
            both: Conjunction | None = {}
            for conjunction in chosen:
                both = None if both is None else _meet(both, conjunction)
            if both is not None:
                signed.append((1 if size % 2 else -1, both))
    out: list[tuple[int, Conjunction]] = []
    for sign, conjunction in signed:
        out += _without_not_equal(sign, conjunction)
    total: dict[tuple[tuple[tuple[int, int], int], ...], int] = {}
    for sign, conjunction in out:
        key = tuple(sorted(conjunction.items()))
        total[key] = total.get(key, 0) + sign
    return [(count, dict(key)) for key, count in total.items() if count != 0]


def _without_not_equal(sign: int, conjunction: Conjunction) -> list[tuple[int, Conjunction]]:
    for pair, outcomes in conjunction.items():
        if outcomes == LESS | GREATER and len(conjunction) > 1:
            rest = {p: o for p, o in conjunction.items() if p != pair}
            return _without_not_equal(sign, rest) + _without_not_equal(-sign, {**rest, pair: EQUAL})
    return [(sign, conjunction)]


def _split_not_equal(conjunction: Conjunction) -> list[Conjunction]:
    """For max and min: ``!=`` beside other terms is less or greater."""
    for pair, outcomes in conjunction.items():
        if outcomes == LESS | GREATER and len(conjunction) > 1:
            return _split_not_equal({**conjunction, pair: LESS}) + _split_not_equal({**conjunction, pair: GREATER})
    return [conjunction]


def aggregation_parts(formula: tuple[Any, ...], reduction: str) -> list[tuple[int, Conjunction]] | None:
    """Signed conjunctions whose counts and sums add up to the formula's, or whose best is; None where there are none.

    Leaves of the formula are ``("term", keys, queries, predicate)``; keys and queries are told apart by identity.
    """
    union = _conjunctions(formula)
    if union is None:
        return None
    if reduction in ("max", "min"):
        return [(1, part) for conjunction in union for part in _split_not_equal(conjunction)]
    return _signed_terms(union)


# --- The cost model ---------------------------------------------------------------------------------------------------


def _fast_cost(conjunction: Conjunction, n: int) -> float:
    """Nanoseconds that a conjunction takes on the fast routes, or infinity where it has none."""
    codes = [CORE_CODE[outcomes] for outcomes in conjunction.values()]
    if not _core.rasp_has_fast_route(codes):
        return math.inf
    equal = sum(code == 0 for code in codes)
    orders = sum(code in (2, 3, 4, 5) for code in codes)
    log = math.log2(n + 2)
    if orders == 2:
        return 9000 + 0.9 * n * log * log
    return 200 + n * (3 + 8 * (equal + (1 in codes)) + (0, 4 + 3 * log)[orders])


def _formula_cost(terms: int, n: int, causal: bool) -> float:
    """Nanoseconds of looking at every pair."""
    return 20 * n + (0.5 if causal else 1.0) * n * n * (0.5 + 0.4 * terms)


_CALLED_NANOSECONDS = 1.5  # of a compiled predicate, a pair


def _table_is_cheaper(formula: tuple[Any, ...], causal: bool) -> bool:
    """Whether a compiled predicate is better asked once for each distinct pair than for every pair."""
    n = formula[1].shape[-1]
    keys, queries = (len(np.unique(array)) for array in formula[1:3])
    pairs = (0.5 if causal else 1.0) * formula[1].size * n
    by_table = keys * queries * _CALLED_NANOSECONDS + 0.5 * formula[1].size * min(keys, queries)
    return bool(by_table < pairs * (_CALLED_NANOSECONDS + 0.5))


def plan_route(
    formula: tuple[Any, ...], reduction: str, n: int, causal: bool
) -> tuple[str, list[tuple[int, Conjunction]]]:
    """Return the route and, for "conjunctions", the signed conjunctions to run.

    "conjunctions": running totals, totals by key, trees, grids of digits. "table": one callable, by its truth table
    over the distinct keys and queries. "formula": every pair, in blocks; where a predicate is compiled, it is called
    for each.
    """
    if formula[0] == "call":
        compiled = compiled_address(formula[3]) is not None
        return (_NO_PLAN if compiled and not _table_is_cheaper(formula, causal) else "table"), []
    parts = aggregation_parts(formula, reduction)
    if parts is None:
        return _NO_PLAN, []
    fast = sum(_fast_cost(part, n) for _, part in parts)
    if fast > _formula_cost(len(_leaves(formula)), n, causal):
        return _NO_PLAN, []
    return "conjunctions", parts


# --- Running ----------------------------------------------------------------------------------------------------------


def aggregate_selector(
    selector: Selector,
    values: Int64 | None,
    reduction: str,
    default: float = 0,
    rounding: str = "truncate",
    *,
    threads: int = 1,
    backend: Backend | None = None,
    route: str | None = None,
) -> NDArray[Any]:
    """Run a reduction over a selector; `route` forces one of those that `plan_route` names."""
    real = rounding == "float" and reduction == "mean"
    out: NDArray[Any] = np.empty(selector.shape, dtype=np.float64 if real else np.int64)
    if _dispatch.choose(backend) == "numpy":
        _by_reference(selector, values, reduction, default, rounding, out)
        return out
    exact = real and values is not None and _sums_beyond_float(values)
    core_reduction = REDUCTIONS["mean" if reduction == "sum" else reduction]  # a sum is what a mean adds up
    target: Any = _new_totals(selector.shape, core_reduction) if exact or reduction == "sum" else out
    n = selector.shape[-1]
    rows = selector.shape[0] if len(selector.shape) == 2 else 1
    head: list[Any] = [(rows, n), selector.lengths, selector.causal]
    how: list[Any] = [
        values,
        core_reduction,
        ROUNDINGS[rounding],
        0 if real else default,
        float(default) if real else 0.0,
    ]
    parts: list[tuple[int, Conjunction]]
    formula = selector.formula
    if formula[0] == "term" and route is None:  # the common case, without planning
        _, key, query, predicate = formula
        _core.rasp_conjunction(*[*head, [(key, query, CORE_CODE[predicate.outcomes], 0)], *how, target, 1, threads])
    else:
        chosen, parts = plan_route(formula, reduction, n, selector.causal)
        if route is not None and route != chosen:
            chosen, parts = (route, _forced(formula, reduction)) if route == "conjunctions" else (route, [])
        if chosen == "table":
            _by_table(formula, head, how, target, threads)
        elif chosen == "conjunctions":
            _by_conjunctions(formula, parts, head, how, target, threads)
        else:
            _by_formula(formula, head, how, target, threads)
    if reduction == "sum":
        _add_up(target, selector, default, out)
    elif exact:
        _divide(target, selector, float(default), out)
    return out


def _sums_beyond_float(values: Int64) -> bool:
    """Whether a sum of the values may be no float64."""
    if values.size == 0:
        return False
    return bool(max(-int(values.min()), int(values.max())) * values.shape[-1] > 2**53)


def _divide(totals: tuple[Any, Any, Any], selector: Selector, default: float, out: NDArray[Any]) -> None:
    """Round the exact quotient once; 0 beyond the lengths of a batch."""
    counts, sums, _ = totals
    flat = zip(counts.reshape(-1).tolist(), sums.reshape(-1, 2).tolist(), strict=True)
    means = [((high << 64) + (low & (2**64 - 1))) / count if count else default for count, (low, high) in flat]
    out[...] = np.array(means, dtype=np.float64).reshape(out.shape)
    if selector.lengths is not None:
        out[np.arange(out.shape[-1]) >= selector.lengths[:, None]] = 0.0


def _add_up(totals: tuple[Any, Any, Any], selector: Selector, default: float, out: NDArray[Any]) -> None:
    """Take the sums where a key is selected; 0 beyond the lengths of a batch."""
    counts, sums, _ = totals
    low, high = sums[..., 0], sums[..., 1]
    bad = (counts > 0) & (high != low >> 63)
    if bad.any():
        raise NumericalError(f"sum: the result at position {position_of(bad)} does not fit 64 bits")
    out[...] = np.where(counts > 0, low, default)
    if selector.lengths is not None:
        out[np.arange(out.shape[-1]) >= selector.lengths[:, None]] = 0


def _forced(formula: tuple[Any, ...], reduction: str) -> list[tuple[int, Conjunction]]:
    parts = aggregation_parts(formula, reduction)
    if parts is None or any(math.isinf(_fast_cost(part, 1)) for _, part in parts):
        raise ArgumentError("route: this selector has no plan of fast conjunctions")
    return parts


def _by_conjunctions(
    formula: tuple[Any, ...],
    parts: list[tuple[int, Conjunction]],
    head: list[Any],
    how: list[Any],
    out: Target,
    threads: int,
) -> None:
    arrays = {id(array): array for leaf in _leaves(formula) for array in leaf[1:3]}
    terms = [
        (count, [(arrays[k], arrays[q], CORE_CODE[outcomes], 0) for (k, q), outcomes in conjunction.items()])
        for count, conjunction in parts
    ]
    if not terms:
        terms = [(1, [(None, None, CORE_CODE[0], 0)])]
    if len(terms) == 1 and terms[0][0] == 1:
        _core.rasp_conjunction(*[*head, terms[0][1], *how, out, 1, threads])
        return
    totals = out if isinstance(out, tuple) else _new_totals(out.shape, how[1])
    for count, conjunction_terms in terms:
        for _ in range(abs(count)):
            _core.rasp_conjunction(*[*head, conjunction_terms, *how, totals, 1 if count > 0 else -1, threads])
    if totals is not out:
        _core.rasp_finish(*[head[0], head[1], *how[1:], totals, out])


def _new_totals(shape: tuple[int, ...], reduction: int) -> tuple[Any, Any, Any]:
    count = np.zeros(shape, dtype=np.int64)
    total = np.zeros((*shape, 2), dtype=np.int64) if reduction == REDUCTIONS["mean"] else None
    best = np.full(shape, np.iinfo(np.int64).min) if reduction >= REDUCTIONS["max"] else None
    return count, total, best


def _distinct(array: Int64) -> tuple[list[int], NDArray[np.int32]]:
    distinct, ids = np.unique(array, return_inverse=True)
    return distinct.tolist(), ids.reshape(array.shape).astype(np.int32)


def _truth(keys: list[int], queries: list[int], predicate: PairPredicate) -> NDArray[np.uint8]:
    address = compiled_address(predicate)
    if address is not None:
        truth, bad = _core.rasp_truth(address, np.array(keys, dtype=np.int64), np.array(queries, dtype=np.int64))
        if bad is not None:
            key, query = keys[bad // len(queries)], queries[bad % len(queries)]
            raise ArgumentError(f"select: pred: raised an exception for key {key}, query {query}")
        return truth
    truth = np.zeros((len(keys), len(queries)), dtype=np.uint8)
    for row, key in enumerate(keys):
        truth[row] = [holds(predicate, key, query) for query in queries]
    return truth


def _by_table(formula: tuple[Any, ...], head: list[Any], how: list[Any], out: Target, threads: int) -> None:
    _, key_array, query_array, predicate = formula
    if key_array.size == 0:
        return
    keys, key_ids = _distinct(key_array)
    queries, query_ids = _distinct(query_array)
    block = max(1, _TABLE_BYTES // len(keys))
    if len(queries) <= block:
        _core.rasp_table(*[*head, (key_ids, query_ids, _truth(keys, queries, predicate)), *how, out, 1, threads])
        return
    totals = out if isinstance(out, tuple) else _new_totals(out.shape, how[1])
    for begin in range(0, len(queries), block):
        part = queries[begin : begin + block]
        asked = np.where((query_ids >= begin) & (query_ids < begin + len(part)), query_ids - begin, -1).astype(np.int32)
        _core.rasp_table(*[*head, (key_ids, asked, _truth(keys, part, predicate)), *how, totals, 1, threads])
    if totals is not out:
        _core.rasp_finish(*[head[0], head[1], *how[1:], totals, out])


def _by_formula(formula: tuple[Any, ...], head: list[Any], how: list[Any], out: Target, threads: int) -> None:
    leaves = _leaves(formula)
    if leaves[0][1].size == 0:
        return
    addresses = {id(leaf): compiled_address(leaf[3]) for leaf in leaves if leaf[0] == "call"}
    compared = [leaf for leaf in leaves if addresses.get(id(leaf), 0) is not None]
    called = [leaf for leaf in leaves if addresses.get(id(leaf), 0) is None]
    numbers = {id(leaf): number for number, leaf in enumerate(compared + called)}
    terms = [
        (k, q, CORE_CODE[pred.outcomes], 0) if kind == "term" else (k, q, CALLED, addresses[id(leaf)])
        for leaf in compared
        for kind, k, q, pred in [leaf]
    ]
    tables = []
    for _, key_array, query_array, predicate in called:
        keys, key_ids = _distinct(key_array)
        queries, query_ids = _distinct(query_array)
        tables.append((key_ids, query_ids, _truth(keys, queries, predicate)))
    _core.rasp_formula(*[*head, terms, tables, postfix(formula, numbers), *how, out, 1, threads])


def postfix(formula: tuple[Any, ...], numbers: dict[int, int]) -> list[int]:
    """Return the formula as the core reads it: leaves by number, operators after their operands.

    The operand that needs more of the core's stack goes first, so that chains need two places however they are nested.
    """
    needs: dict[int, int] = {}
    for part in postorder(formula):
        below = sorted((needs[id(operand)] for operand in part[1:]), reverse=True) if id(part) not in numbers else []
        needs[id(part)] = max([1, *(need + at for at, need in enumerate(below))])
    code: list[int] = []
    stack: list[tuple[Any, ...] | int] = [formula]
    while stack:
        top = stack.pop()
        if isinstance(top, int):
            code.append(top)
        elif id(top) in numbers:
            code.append(numbers[id(top)])
        else:
            stack.append({"and": -1, "or": -2, "not": -3}[top[0]])
            stack.extend(sorted(top[1:], key=lambda operand: needs[id(operand)]))
    return code


def _by_reference(
    selector: Selector, values: Int64 | None, reduction: str, default: float, rounding: str, out: NDArray[Any]
) -> None:
    n = selector.shape[-1]
    flat = out.reshape(-1, n) if n else out.reshape(0, 0)
    flat[...] = 0
    for row in range(len(flat)):
        end = n if selector.lengths is None else int(selector.lengths[row])
        matrix = _matrix(selector.formula, row, end, selector.causal)
        if reduction == "width":
            flat[row, :end] = _reference.width(matrix)
        elif values is not None:
            try:
                flat[row, :end] = _reference.aggregate(
                    matrix, values.reshape(-1, n)[row, :end], default, reduction, rounding
                )
            except OverflowError:
                raise NumericalError(f"{reduction}: a result does not fit 64 bits") from None


def term(key: Any, query: Any, predicate: Predicate | PairPredicate) -> tuple[Any, ...]:
    """Return a leaf of a formula, over arrays or symbols."""
    return ("term" if isinstance(predicate, Predicate) else "call", key, query, predicate)
