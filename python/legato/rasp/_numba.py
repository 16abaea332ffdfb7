"""Select and aggregate inside of ``@njit`` functions. Imported by Numba's entry point alone.

There a selector is one comparison: a tuple (keys, queries, predicate, causal, lengths), and the predicate's type says
which comparison it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.core.imputils import lower_constant
from numba.extending import NativeValue, models, register_jitable, register_model, typeof_impl, unbox

from legato import rasp
from legato._calls import call, compiles, constant, is_none, pointer, refuse, want_array, want_none
from legato.errors import ArgumentError
from legato.rasp.predicates import CORE_CODE, Predicate
from legato.rasp.selectors import REDUCTIONS, ROUNDINGS

_aggregate = call("legato_rasp_aggregate_i64")
_selected: Any = rasp.select


class PredicateType(types.Type):
    """A predicate known by name; its type is all there is to it."""

    def __init__(self, outcomes: int) -> None:
        self.outcomes = outcomes
        super().__init__(name=f"legato.rasp.Predicate({outcomes})")


@typeof_impl.register(Predicate)
def _typeof_predicate(value: Predicate, context: Any) -> PredicateType:
    return PredicateType(value.outcomes)


register_model(PredicateType)(models.OpaqueModel)


@unbox(PredicateType)
def _unbox_predicate(kind: Any, value: Any, c: Any) -> Any:
    return NativeValue(c.context.get_dummy_value())


@lower_constant(PredicateType)
def _constant_predicate(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    return context.get_dummy_value()


def _is_integer(kind: Any) -> bool:
    return isinstance(kind, types.Integer | types.Boolean)


def _is_selector(kind: Any) -> bool:
    return isinstance(kind, types.BaseTuple) and len(kind) == 5 and isinstance(kind[2], PredicateType)


def _like(sequence: Any, other: Any) -> Any:
    """Return the function (sequence, other) -> the first, repeated to the shape of the second where it is a number."""
    if not _is_integer(sequence):
        return register_jitable(lambda sequence, other: sequence)
    return register_jitable(lambda sequence, other: np.full(other.shape, np.int64(sequence)))


@compiles(rasp.select)
def _select(k: Any, q: Any, pred: Any, causal: Any = True, lengths: Any = None) -> Any:
    for name, sequence in (("k", k), ("q", q)):
        if not _is_integer(sequence):
            want_array(f"select: {name}", sequence, (types.int64,))
            if sequence.ndim not in (1, 2):
                refuse(f"select: {name}", "an array of shape (n,) or (batch, n)", sequence)
    if _is_integer(k) and _is_integer(q):
        refuse("select: k, q", "at least one sequence", k)
    if not isinstance(pred, PredicateType):
        refuse("select: pred", "a predicate known by name (equals, leq, lt, geq, gt, neq, true, false)", pred)
    ragged = not want_none("select: lengths", lengths, (types.int64,), 1)
    keys, queries = _like(k, q), _like(q, k)

    def select(k: Any, q: Any, pred: Any, causal: Any = True, lengths: Any = None) -> Any:
        key, query = keys(k, q), queries(q, k)
        if query.shape != key.shape:
            raise ArgumentError("select: q: expected the shape of k")
        if ragged:
            if key.ndim != 2 or len(lengths) != key.shape[0]:
                raise ArgumentError("select: lengths: expected one for each row of a (batch, n) array")
            for length in lengths:
                if length < 0 or length > key.shape[1]:
                    raise ArgumentError("select: lengths: expected 0 to n")
        return key, query, pred, bool(causal), lengths

    return select


def _aggregation(selector: Any, values: Any, reduction: str, rounding: str) -> Any:
    """Return what an overload runs: (selector, values, default, threads) -> integers."""
    if not _is_selector(selector):
        refuse("A", "a selector made by select(); they are not combined in compiled code", selector)
    if not (is_none(values) or _is_integer(values)):
        want_array("v", values, (types.int64,))
    compare, reduced, rounded = CORE_CODE[selector[2].outcomes], REDUCTIONS[reduction], ROUNDINGS[rounding]
    valued = not is_none(values)
    repeated = _like(values, selector[0]) if valued else register_jitable(lambda values, other: values)

    @register_jitable
    def aggregate(selector: Any, values: Any, default: int, threads: int) -> Any:
        key, query, _, causal, lengths = selector
        value = repeated(values, key)
        if valued and value.shape != key.shape:
            raise ArgumentError("aggr: v: expected the selector's shape")
        if threads < 1:
            raise ArgumentError("threads: expected 1 or more")
        found = np.empty(key.shape, np.int64)
        n = key.shape[-1]
        rows = key.size // n if n > 0 else 0
        status = _aggregate(
            pointer(key),
            pointer(query),
            compare,
            1 if causal else 0,
            pointer(lengths),
            rows,
            n,
            pointer(value),
            reduced,
            rounded,
            default,
            pointer(found),
            threads,
        )
        if status < 0:
            raise MemoryError("aggr: no memory for the work")
        if status != 0:
            raise ArgumentError("aggr: the sequences are too long")
        return found

    return aggregate


@compiles(rasp.sel_width)
def _sel_width(A: Any, threads: Any = 1) -> Any:
    run = _aggregation(A, None, "width", "truncate")
    return lambda A, threads=1: run(A, None, 0, threads)


def _roundings(rounding: Any) -> str:
    return str(constant("aggr: rounding", rounding, ("truncate", "floor")))


@compiles(rasp.aggr, prefer_literal=True)
def _aggr(
    A: Any,
    v: Any,
    default: Any = 0,
    reduction: Any = "mean",
    rounding: Any = "truncate",
    threads: Any = 1,
) -> Any:
    run = _aggregation(A, v, constant("aggr: reduction", reduction, ("mean", "max", "min")), _roundings(rounding))

    def aggr(
        A: Any,
        v: Any,
        default: Any = 0,
        reduction: Any = "mean",
        rounding: Any = "truncate",
        threads: Any = 1,
    ) -> Any:
        return run(A, v, np.int64(default), threads)

    return aggr


@compiles(rasp.aggr_mean, prefer_literal=True)
def _aggr_mean(A: Any, v: Any, default: Any = 0, rounding: Any = "truncate", threads: Any = 1) -> Any:
    run = _aggregation(A, v, "mean", _roundings(rounding))
    return lambda A, v, default=0, rounding="truncate", threads=1: run(A, v, np.int64(default), threads)


@compiles(rasp.aggr_max)
def _aggr_max(A: Any, v: Any, default: Any = 0, threads: Any = 1) -> Any:
    run = _aggregation(A, v, "max", "truncate")
    return lambda A, v, default=0, threads=1: run(A, v, np.int64(default), threads)


@compiles(rasp.aggr_min)
def _aggr_min(A: Any, v: Any, default: Any = 0, threads: Any = 1) -> Any:
    run = _aggregation(A, v, "min", "truncate")
    return lambda A, v, default=0, threads=1: run(A, v, np.int64(default), threads)


@compiles(rasp.kqv, prefer_literal=True)
def _kqv(
    k: Any,
    q: Any,
    v: Any,
    pred: Any,
    default: Any = 0,
    reduction: Any = "mean",
    causal: Any = True,
    rounding: Any = "truncate",
    lengths: Any = None,
    threads: Any = 1,
) -> Any:
    if not isinstance(pred, PredicateType):
        refuse("kqv: pred", "a predicate known by name (equals, leq, lt, geq, gt, neq, true, false)", pred)
    if not (isinstance(k, types.Array) or isinstance(q, types.Array)):
        refuse("kqv: k, q", "at least one sequence", k)
    keys = k if isinstance(k, types.Array) else q.copy(layout="C")
    selector = types.Tuple((keys, keys, pred, types.boolean, types.none if is_none(lengths) else lengths))
    run = _aggregation(selector, v, constant("kqv: reduction", reduction, ("mean", "max", "min")), _roundings(rounding))

    def kqv(
        k: Any,
        q: Any,
        v: Any,
        pred: Any,
        default: Any = 0,
        reduction: Any = "mean",
        causal: Any = True,
        rounding: Any = "truncate",
        lengths: Any = None,
        threads: Any = 1,
    ) -> Any:
        return run(_selected(k, q, pred, causal, lengths), v, np.int64(default), threads)

    return kqv
