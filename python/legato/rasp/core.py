"""The core operations of RASP-L, on arrays or on symbols of a program being traced.

Zhou, Bradley, Littwin, Razin, Saremi, Susskind, Bengio, Nakkiran, "What Algorithms can Transformers Learn? A Study in
Length Generalization" (2023). Sequences are int64 of shape (n,), or (b, n) with ``lengths`` (b,). Keys come before
queries, and a query sees the keys at its own place and before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from legato import _core
from legato._arrays import Int64, as_int64
from legato._dispatch import Backend, choose
from legato._scalars import as_choice, as_flag, as_number, as_threads, shown
from legato.errors import ArgumentError
from legato.rasp.following import symbolic_form
from legato.rasp.graph import Choice, Value, apply_symbolic, as_value
from legato.rasp.maps import apply_callable, apply_named
from legato.rasp.nodes import Node
from legato.rasp.predicates import CORE_CODE, Predicate
from legato.rasp.selectors import (
    REDUCTIONS,
    ROUNDINGS,
    PairPredicate,
    Reduction,
    Rounding,
    Selector,
    aggregate_selector,
    term,
)
from legato.rasp.structure import settled

__all__ = [
    "aggr",
    "aggr_max",
    "aggr_mean",
    "aggr_min",
    "aggr_sum",
    "full",
    "indices",
    "kqv",
    "sel_width",
    "select",
    "seq_map",
    "tok_map",
]

Float64 = NDArray[np.float64]
_REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)
_ROUNDINGS: tuple[Rounding, ...] = get_args(Rounding)
Operand: TypeAlias = Value | ArrayLike  # a sequence: of a program being traced, or an array


def sequence(op: str, name: str, value: Any) -> Int64:
    """Return an int64 array of shape (n,) or (b, n)."""
    if type(value) is np.ndarray and value.dtype == np.int64 and value.flags.c_contiguous and 1 <= value.ndim <= 2:
        return value
    if type(value) in (list, tuple) and len(value) and hasattr(value[0], "__len__") and not isinstance(value[0], str):
        for row, other in enumerate(value):
            if not hasattr(other, "__len__") or len(other) != len(value[0]):
                raise ArgumentError(
                    f"{op}: {name}: expected rows of one length (pad them, give lengths=), row {row} differs from row 0"
                )
    array = as_int64(f"{op}: {name}", value)
    if array.ndim not in (1, 2):
        raise ArgumentError(f"{op}: {name}: expected shape (n,) or (batch, n), got {array.shape}")
    return array


def sequences(op: str, **values: ArrayLike) -> list[Int64]:
    """Int64 arrays of one shape; scalars are repeated."""
    arrays: dict[str, Any] = {name: x if _is_scalar(x) else sequence(op, name, x) for name, x in values.items()}
    shape = next((x.shape for x in arrays.values() if not _is_scalar(x)), None)
    if shape is None:
        raise ArgumentError(f"{op}: expected at least one sequence among {', '.join(values)}")
    out: list[Int64] = []
    for name, x in arrays.items():
        if _is_scalar(x):
            out.append(np.full(shape, as_int64(f"{op}: {name}", x)))
        elif x.shape != shape:
            raise ArgumentError(f"{op}: {name}: expected shape {shape} as {next(iter(values))} has, got {x.shape}")
        else:
            out.append(x)
    return out


def _is_scalar(x: Any) -> bool:
    return isinstance(x, bool | int | float | np.generic) or (isinstance(x, np.ndarray) and x.ndim == 0)


def is_symbolic(*values: Any) -> bool:
    """Whether a program is being traced."""
    for x in values:  # noqa: SIM110 - any() would cost more than the rest of a short call
        if isinstance(x, Node):
            return True
    return False


def check_lengths(op: str, lengths: ArrayLike | None, shape: tuple[int, ...]) -> Int64 | None:
    """Row lengths (b,) of a batch (b, n), or None."""
    if lengths is None:
        return None
    array = as_int64(f"{op}: lengths", lengths)
    if len(shape) != 2 or array.shape != shape[:1]:
        raise ArgumentError(f"{op}: lengths: expected one for each row of a (batch, n) array, got shape {array.shape}")
    bad = (array < 0) | (array > shape[1])
    if bad.any():
        row = int(np.argmax(bad))
        raise ArgumentError(f"{op}: lengths: expected 0 to {shape[1]}, got {array[row]} at row {row}")
    return array


def map_values(op: str, *operands: Any) -> Any:
    """Return a named elementwise operation on symbols or arrays."""
    return apply_symbolic(op, *operands) if is_symbolic(*operands) else apply_named(op, *operands)


@overload
def full(x: Value, const: int) -> Value: ...
@overload
def full(x: ArrayLike, const: int) -> Int64: ...
def full(x: Any, const: int) -> Any:
    """Return a constant sequence as long as `x`; a float is truncated toward zero.

    See Also
    --------
    indices : Positions 0 .. n-1.

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.full([5, 6, 7], 2)
    array([2, 2, 2])
    """
    if is_symbolic(x):
        constant = bool(const) if isinstance(const, bool | np.bool_) else whole("full: const", const)
        return Value("constant", (), value=constant)
    return np.full(sequence("full", "x", x).shape, whole("full: const", const), dtype=np.int64)


@overload
def indices(x: Value) -> Value: ...
@overload
def indices(x: ArrayLike) -> Int64: ...
def indices(x: Any) -> Any:
    """Positions 0 .. n-1.

    See Also
    --------
    full : Return a constant sequence as long as `x`; a float is truncated toward zero.

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.indices([5, 6, 7])
    array([0, 1, 2])
    """
    if is_symbolic(x):
        return Value("indices")
    array = sequence("indices", "x", x)
    return np.broadcast_to(np.arange(array.shape[-1], dtype=np.int64), array.shape).copy()


@overload
def tok_map(x: Value, func: Callable[[Any], Any]) -> Value: ...
@overload
def tok_map(x: ArrayLike, func: Callable[[Any], Any]) -> Int64: ...
def tok_map(x: Any, func: Callable[[Any], Any]) -> Any:
    """Apply `func` to every element; results are truncated toward zero.

    `func` is called once for each distinct value, with a Python integer.

    See Also
    --------
    seq_map : Apply `func` to the pairs of elements of two sequences of one length; results are truncated toward zero.

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.tok_map([-3, 2, 5], lambda a: a / 2)
    array([-1,  1,  2])
    """
    _check_function("tok_map", func)
    if is_symbolic(x):
        return _symbolic_map(func, x)
    return apply_callable("tok_map", func, sequence("tok_map", "x", x))


@overload
def seq_map(x: Value, y: Operand, func: Callable[[Any, Any], Any]) -> Value: ...
@overload
def seq_map(x: ArrayLike, y: Value, func: Callable[[Any, Any], Any]) -> Value: ...
@overload
def seq_map(x: ArrayLike, y: ArrayLike, func: Callable[[Any, Any], Any]) -> Int64: ...
def seq_map(x: Any, y: Any, func: Callable[[Any, Any], Any]) -> Any:
    """Apply `func` to the pairs of elements of two sequences of one length; results are truncated toward zero.

    `func` is called once for each distinct pair, with Python integers. (The peer zips: it shortens silently.)

    See Also
    --------
    tok_map : Apply `func` to every element; results are truncated toward zero.

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.seq_map([1, 2, 3], [3, 2, 1], lambda a, b: a if a > b else -b)
    array([-3, -2,  3])
    """
    _check_function("seq_map", func)
    if is_symbolic(x, y):
        return _symbolic_map(func, x, y)
    return apply_callable("seq_map", func, *sequences("seq_map", x=x, y=y))


def _check_function(op: str, func: object) -> None:
    if not callable(func):
        raise ArgumentError(f"{op}: func: expected a function, got {shown(func)}")


def _symbolic_map(func: Callable[..., Any], *operands: Any) -> Value:
    values = tuple(as_value(x) for x in operands)
    found = symbolic_form(func, values)
    if found is None:
        found = apply_symbolic(func, *values)
        found.attributes["whole"] = True
    return found


@overload
def select(k: Value, q: Operand, pred: Predicate | PairPredicate, causal: bool = True) -> Choice: ...
@overload
def select(k: ArrayLike, q: Value, pred: Predicate | PairPredicate, causal: bool = True) -> Choice: ...
@overload
def select(
    k: ArrayLike,
    q: ArrayLike,
    pred: Predicate | PairPredicate,
    causal: bool = True,
    *,
    lengths: ArrayLike | None = None,
) -> Selector: ...
def select(
    k: Any,
    q: Any,
    pred: Predicate | PairPredicate,
    causal: bool = True,
    *,
    lengths: ArrayLike | None = None,
) -> Any:
    """Which keys each query looks at: A[i, j] = pred(k[j], q[i]), and j <= i when `causal`.

    Parameters
    ----------
    k, q : array_like, shape (n,) or (b, n), integers
        Keys and queries; a scalar is repeated.
    pred : Predicate or callable
        ``equals leq lt geq gt neq true false``, or any function ``(key, query) -> bool`` of two Python integers, which
        is called once for each distinct pair. One compiled by Numba (``njit``, or ``cfunc`` of
        ``boolean(int64, int64)``) is called from compiled code, so wide alphabets are no loss.
    causal : bool
    lengths : array_like, shape (b,), optional
        Lengths of the rows of a batch.

    Returns
    -------
    Selector
        Nothing is evaluated yet; ``numpy.asarray`` gives the matrix.

    Raises
    ------
    ArgumentError
        Shapes differ, a key is NaN or no integer, or (once evaluated) `pred` returns something else than bool.

    See Also
    --------
    aggr : Reduce the values of the selected keys.
    sel_width : Return number of keys that each query selects.
    kqv : ``aggr(select(k, q, pred, causal), v, default, reduction)``: one attention head.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import rasp
    >>> np.asarray(rasp.select([1, 2, 1], [1, 2, 1], rasp.equals)).astype(int).tolist()
    [[1, 0, 0], [0, 1, 0], [1, 0, 1]]
    """
    causal = as_flag("select: causal", causal)
    if not callable(pred):
        raise ArgumentError(f"select: pred: expected a predicate (key, query) -> bool, got {type(pred).__name__}")
    if is_symbolic(k, q):
        return Choice("select", (as_value(k), as_value(q)), predicate=pred, causal=causal)
    if type(k) is np.ndarray is type(q) and k.dtype == q.dtype == np.int64 and k.shape == q.shape:
        keys, queries = sequence("select", "k", k), sequence("select", "q", q)
    else:
        keys, queries = sequences("select", k=k, q=q)
    return Selector(term(keys, queries, pred), keys.shape, causal, check_lengths("select", lengths, keys.shape))


@overload
def sel_width(A: Choice) -> Value: ...
@overload
def sel_width(A: Selector, *, threads: int = 1, backend: Backend | None = None) -> Int64: ...
def sel_width(A: Any, *, threads: int = 1, backend: Backend | None = None) -> Any:
    """Return number of keys that each query selects.

    See Also
    --------
    select : Which keys each query looks at: A[i, j] = pred(k[j], q[i]), and j <= i when `causal`.
    num_prev : How many ``x[j]``, j <= i, equal ``q[i]``.

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.sel_width(rasp.select([7, 8, 7, 7], [7, 7, 8, 7], rasp.equals))
    array([1, 1, 1, 3])
    """
    threads = as_threads(threads)
    if is_symbolic(A):
        return Value("width", (A,))
    return aggregate_selector(settled(_selector("sel_width", A)), None, "width", threads=threads, backend=backend)


@overload
def aggr(
    A: Choice, v: Operand, default: float = 0, reduction: Reduction = "mean", *, rounding: Rounding = "truncate"
) -> Value: ...
@overload
def aggr(
    A: Selector,
    v: ArrayLike,
    default: float = 0,
    reduction: Literal["mean"] = "mean",
    *,
    rounding: Literal["float"],
    threads: int = 1,
    backend: Backend | None = None,
) -> Float64: ...
@overload
def aggr(
    A: Selector,
    v: ArrayLike,
    default: float = 0,
    *,
    reduction: Literal["max", "min", "sum"],
    rounding: Rounding = "truncate",
    threads: int = 1,
    backend: Backend | None = None,
) -> Int64: ...
@overload
def aggr(
    A: Selector,
    v: ArrayLike,
    default: float = 0,
    reduction: Reduction = "mean",
    *,
    rounding: Literal["truncate", "floor"] = "truncate",
    threads: int = 1,
    backend: Backend | None = None,
) -> Int64: ...
@overload
def aggr(
    A: Selector,
    v: ArrayLike,
    default: float = 0,
    reduction: Reduction = "mean",
    *,
    rounding: Rounding,
    threads: int = 1,
    backend: Backend | None = None,
) -> Int64 | Float64: ...
def aggr(
    A: Any,
    v: Any,
    default: float = 0,
    reduction: Reduction = "mean",
    *,
    rounding: Rounding = "truncate",
    threads: int = 1,
    backend: Backend | None = None,
) -> Any:
    """Reduce the values of the selected keys.

    Parameters
    ----------
    A : Selector
    v : array_like, the selector's shape, integers
    default : number
        Output where nothing is selected; truncated toward zero unless the output is float.
    reduction : {"mean", "max", "min", "sum"}
    rounding : {"truncate", "floor", "float"}
        Of the mean: toward zero as RASP-L's NumPy code, down as its Haskell twin, or float64 as RASP itself. The sum
        is exact (128 bits where needed), so nothing wraps.
    threads : int
        Over the rows of a batch; the result does not depend on it.
    backend : {"native", "numpy"}, optional

    Returns
    -------
    ndarray, the selector's shape, int64 (float64 for ``rounding="float"``)
        0 beyond the lengths of a batch.

    Raises
    ------
    ArgumentError
        Unknown reduction or rounding, or lengths that differ.
    NumericalError
        A sum does not fit 64 bits.

    See Also
    --------
    select : Which keys each query looks at: A[i, j] = pred(k[j], q[i]), and j <= i when `causal`.
    kqv : ``aggr(select(k, q, pred, causal), v, default, reduction)``: one attention head.
    aggr_mean : `aggr` with ``reduction="mean"``.

    Examples
    --------
    >>> from legato import rasp
    >>> A = rasp.select([1, 2, 3, 4], [3, 3, 3, 3], rasp.lt)
    >>> rasp.aggr(A, [10, 25, 30, 40]), rasp.aggr(A, [10, 20, 30, 40], reduction="max")
    (array([10, 17, 17, 17]), array([10, 20, 20, 20]))
    """
    reduction = as_choice("aggr: reduction", reduction, _REDUCTIONS)
    rounding = as_choice("aggr: rounding", rounding, _ROUNDINGS)
    threads = as_threads(threads)
    real = rounding == "float" and reduction == "mean"
    default = _default(default, real)
    if is_symbolic(A, v):
        if not isinstance(A, Choice):
            raise ArgumentError(f"aggr: A: expected a selector, got {type(A).__name__}")
        rounding = rounding if reduction == "mean" else "truncate"
        return Value("aggregate", (A, as_value(v)), default=default, reduction=reduction, rounding=rounding)
    selector = _selector("aggr", A)
    values = np.full(selector.shape, as_int64("aggr: v", v)) if _is_scalar(v) else sequence("aggr", "v", v)
    if values.shape != selector.shape:
        raise ArgumentError(f"aggr: v: expected shape {selector.shape} as the selector has, got {values.shape}")
    return aggregate_selector(settled(selector), values, reduction, default, rounding, threads=threads, backend=backend)


def _default(default: float, real: bool) -> float:
    if real and not isinstance(default, bool | np.bool_):
        return as_number("aggr: default", default, finite=False)
    return whole("aggr: default", default)


def whole(name: str, value: Any) -> int:
    """Return a 64-bit integer; booleans are 0 and 1, and a float is truncated toward zero."""
    if type(value) is int and -(2**63) <= value < 2**63:
        return value
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, float | np.floating) and math.isfinite(value):
        value = int(value)
    if not isinstance(value, int | np.integer | np.bool_):
        raise ArgumentError(f"{name}: expected a number, got {shown(value)}")
    if not -(2**63) <= int(value) < 2**63:
        raise ArgumentError(f"{name}: expected a 64-bit integer, got {shown(value)}")
    return int(value)


def _selector(op: str, A: Any) -> Selector:
    if not isinstance(A, Selector):
        raise ArgumentError(f"{op}: A: expected a selector made by select(), got {type(A).__name__}")
    return A


@overload
def aggr_mean(A: Choice, v: Operand, default: float = 0, *, rounding: Rounding = "truncate") -> Value: ...
@overload
def aggr_mean(
    A: Selector,
    v: ArrayLike,
    default: float = 0,
    *,
    rounding: Literal["truncate", "floor"] = "truncate",
    threads: int = 1,
    backend: Backend | None = None,
) -> Int64: ...
@overload
def aggr_mean(
    A: Selector,
    v: ArrayLike,
    default: float = 0,
    *,
    rounding: Rounding,
    threads: int = 1,
    backend: Backend | None = None,
) -> Int64 | Float64: ...
def aggr_mean(A: Any, v: Any, default: float = 0, **options: Any) -> Any:
    """`aggr` with ``reduction="mean"``.

    See Also
    --------
    aggr : Reduce the values of the selected keys.

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.aggr_mean(rasp.select([1, 2, 3], [1, 2, 3], rasp.leq), [4, 9, 5])
    array([4, 6, 6])
    """
    return aggr(A, v, default, "mean", **options)


@overload
def aggr_max(A: Choice, v: Operand, default: float = 0) -> Value: ...
@overload
def aggr_max(
    A: Selector,
    v: ArrayLike,
    default: float = 0,
    *,
    rounding: Rounding = "truncate",
    threads: int = 1,
    backend: Backend | None = None,
) -> Int64: ...
def aggr_max(A: Any, v: Any, default: float = 0, **options: Any) -> Any:
    """`aggr` with ``reduction="max"``.

    See Also
    --------
    aggr : Reduce the values of the selected keys.

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.aggr_max(rasp.select([1, 2, 3], [1, 2, 3], rasp.leq), [4, 9, 5])
    array([4, 9, 9])
    """
    return aggr(A, v, default, "max", **options)


@overload
def aggr_min(A: Choice, v: Operand, default: float = 0) -> Value: ...
@overload
def aggr_min(
    A: Selector,
    v: ArrayLike,
    default: float = 0,
    *,
    rounding: Rounding = "truncate",
    threads: int = 1,
    backend: Backend | None = None,
) -> Int64: ...
def aggr_min(A: Any, v: Any, default: float = 0, **options: Any) -> Any:
    """`aggr` with ``reduction="min"``.

    See Also
    --------
    aggr : Reduce the values of the selected keys.

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.aggr_min(rasp.select([1, 2, 3], [1, 2, 3], rasp.leq), [4, 9, 5])
    array([4, 4, 4])
    """
    return aggr(A, v, default, "min", **options)


@overload
def aggr_sum(A: Choice, v: Operand, default: float = 0) -> Value: ...
@overload
def aggr_sum(
    A: Selector,
    v: ArrayLike,
    default: float = 0,
    *,
    rounding: Rounding = "truncate",
    threads: int = 1,
    backend: Backend | None = None,
) -> Int64: ...
def aggr_sum(A: Any, v: Any, default: float = 0, **options: Any) -> Any:
    """`aggr` with ``reduction="sum"``.

    See Also
    --------
    aggr : Reduce the values of the selected keys.

    Examples
    --------
    >>> from legato import rasp
    >>> x = [3, 5, 3, 4]
    >>> rasp.aggr_sum(rasp.select(x, x, rasp.equals), x)
    array([3, 5, 6, 4])
    """
    return aggr(A, v, default, "sum", **options)


@overload
def kqv(
    k: Value,
    q: Operand,
    v: Operand,
    pred: Predicate | PairPredicate,
    default: float = 0,
    reduction: Reduction = "mean",
    causal: bool = True,
    *,
    rounding: Rounding = "truncate",
) -> Value: ...
@overload
def kqv(
    k: ArrayLike,
    q: Value,
    v: Operand,
    pred: Predicate | PairPredicate,
    default: float = 0,
    reduction: Reduction = "mean",
    causal: bool = True,
    *,
    rounding: Rounding = "truncate",
) -> Value: ...
@overload
def kqv(
    k: ArrayLike,
    q: ArrayLike,
    v: Value,
    pred: Predicate | PairPredicate,
    default: float = 0,
    reduction: Reduction = "mean",
    causal: bool = True,
    *,
    rounding: Rounding = "truncate",
) -> Value: ...
@overload
def kqv(
    k: ArrayLike,
    q: ArrayLike,
    v: ArrayLike,
    pred: Predicate | PairPredicate,
    default: float = 0,
    reduction: Literal["mean"] = "mean",
    causal: bool = True,
    *,
    rounding: Literal["float"],
    lengths: ArrayLike | None = None,
    threads: int = 1,
    backend: Backend | None = None,
) -> Float64: ...
@overload
def kqv(
    k: ArrayLike,
    q: ArrayLike,
    v: ArrayLike,
    pred: Predicate | PairPredicate,
    default: float = 0,
    reduction: Reduction = "mean",
    causal: bool = True,
    *,
    rounding: Literal["truncate", "floor"] = "truncate",
    lengths: ArrayLike | None = None,
    threads: int = 1,
    backend: Backend | None = None,
) -> Int64: ...
@overload
def kqv(
    k: ArrayLike,
    q: ArrayLike,
    v: ArrayLike,
    pred: Predicate | PairPredicate,
    default: float = 0,
    reduction: Reduction = "mean",
    causal: bool = True,
    *,
    rounding: Rounding,
    lengths: ArrayLike | None = None,
    threads: int = 1,
    backend: Backend | None = None,
) -> Int64 | Float64: ...
def kqv(
    k: Any,
    q: Any,
    v: Any,
    pred: Predicate | PairPredicate,
    default: float = 0,
    reduction: Reduction = "mean",
    causal: bool = True,
    *,
    rounding: Rounding = "truncate",
    lengths: ArrayLike | None = None,
    threads: int = 1,
    backend: Backend | None = None,
) -> NDArray[Any] | Any:
    """``aggr(select(k, q, pred, causal), v, default, reduction)``: one attention head.

    See Also
    --------
    select : Which keys each query looks at: A[i, j] = pred(k[j], q[i]), and j <= i when `causal`.
    aggr : Reduce the values of the selected keys.
    sel_width : Return number of keys that each query selects.

    Examples
    --------
    >>> from legato import rasp
    >>> x = [1, 1, 0, 1]
    >>> rasp.kqv(x, 0, 0, rasp.equals, default=1)       # a running AND
    array([1, 1, 0, 0])
    """
    if (
        lengths is None
        and type(k) is type(q) is type(v) is np.ndarray
        and k.shape == q.shape == v.shape
        and k.dtype == q.dtype == v.dtype == np.int64
        and k.ndim == 1
        and k.flags.c_contiguous
        and q.flags.c_contiguous
        and v.flags.c_contiguous
        and type(pred) is Predicate
        and type(default) is int
        and -(2**63) <= default < 2**63
        and causal is True
        and isinstance(reduction, str)
        and isinstance(rounding, str)
        and reduction in ("mean", "max", "min")
        and rounding in ("truncate", "floor")
        and type(threads) is int
        and 0 < threads < 2**31
        and choose(backend) == "native"
    ):  # what needs no conversion: on few tokens the general way costs several times what is computed
        out = np.empty(k.shape, dtype=np.int64)
        _core.rasp_conjunction(
            (1, len(k)), None, True, [(k, q, CORE_CODE[pred.outcomes], 0)], v, REDUCTIONS[reduction],
            ROUNDINGS[rounding], default, 0.0, out, 1, threads,
        )  # fmt: skip
        return out
    A = select(k, q, pred, causal, lengths=lengths)
    return aggr(A, v, default, reduction, rounding=rounding, threads=threads, backend=backend)
