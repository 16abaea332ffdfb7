"""The library of RASP-L, in terms of the core: every function works on arrays, batches and symbols, and is causal.

``out[i]`` depends on positions ``j <= i`` only. With ``lengths`` (b,) on a batch (b, n), outputs beyond a row's length
are 0.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike

from legato._arrays import Int64
from legato.errors import ArgumentError
from legato.rasp.core import (
    Operand,
    aggr,
    check_lengths,
    full,
    indices,
    is_symbolic,
    kqv,
    map_values,
    sel_width,
    select,
    sequences,
    whole,
)
from legato.rasp.graph import Choice, Value
from legato.rasp.nodes import scope
from legato.rasp.predicates import equals, true
from legato.rasp.selectors import Selector

__all__ = [
    "argmax",
    "argmin",
    "binary_mode",
    "counts_reach",
    "cumsum",
    "first_true",
    "firsts",
    "has_seen",
    "index_select",
    "induct",
    "induct_kqv",
    "induct_prev",
    "lasts",
    "leftmost",
    "mask",
    "maximum",
    "minimum",
    "mode",
    "num_prev",
    "rightmost",
    "shift_right",
    "where",
]


def _library(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a definition over the core a library function: `names` are its sequences, checked to be of one shape."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        position = {name: at for at, name in enumerate(names)}
        numbers = [name for name in inspect.signature(function).parameters if name not in position]

        @functools.wraps(function)
        def call(*args: Any, lengths: Any = None, **keywords: Any) -> Any:
            rest = [
                whole(f"{function.__name__}: {name}", x) for name, x in zip(numbers, args[len(names) :], strict=False)
            ]
            args = (*args[: len(names)], *rest, *args[len(names) + len(rest) :])
            for name in numbers:
                if name in keywords:
                    keywords[name] = whole(f"{function.__name__}: {name}", keywords[name])
            values: dict[str, Any] = {
                name: args[at] if at < len(args) else keywords.get(name) for name, at in position.items()
            }
            for name, value in values.items():
                if value is None:
                    raise ArgumentError(f"{function.__name__}: {name}: expected a sequence")
            if is_symbolic(*values.values()):
                with scope(function.__name__):
                    return function(*args, **keywords)
            arrays = sequences(function.__name__, **values)
            others = {key: x for key, x in keywords.items() if key not in position}
            row_lengths = check_lengths(function.__name__, lengths, arrays[0].shape)
            out = np.asarray(function(*arrays, *rest, **others), dtype=np.int64)
            if row_lengths is not None:
                out = np.where(np.arange(out.shape[-1]) < row_lengths[:, None], out, 0)
            return out

        return call

    return decorate


@overload
def shift_right(x: Value, n: int, default: int = 0) -> Value: ...
@overload
def shift_right(x: ArrayLike, n: int, default: int = 0, *, lengths: ArrayLike | None = None) -> Int64: ...
@_library("x")
def shift_right(x: Any, n: int, default: int = 0) -> Any:
    """``x[i - n]``, and `default` where that is before the start; a negative `n` gives all `default`.

    See Also
    --------
    index_select : ``x[idx[i]]`` where 0 <= idx[i] <= i, else `default`.

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.shift_right([1, 4, 0, 3], 1, default=-4)
    array([-4,  1,  4,  0])
    """
    here = indices(x)
    return kqv(map_values("add", here, n), here, x, equals, default=default)


@overload
def cumsum(bool_array: Value) -> Value: ...
@overload
def cumsum(bool_array: ArrayLike, *, lengths: ArrayLike | None = None) -> Int64: ...
@_library("bool_array")
def cumsum(bool_array: Any) -> Any:
    """Return number of elements so far that are not 0.

    See Also
    --------
    num_prev : How many ``x[j]``, j <= i, equal ``q[i]``.

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.cumsum([0, 1, 1, 0, 2])
    array([0, 1, 2, 2, 3])
    """
    return sel_width(select(map_values("truth", bool_array), full(bool_array, True), equals))


@overload
def where(condition: Value, x: Operand, y: Operand) -> Value: ...
@overload
def where(condition: ArrayLike, x: Value, y: Operand) -> Value: ...
@overload
def where(condition: ArrayLike, x: ArrayLike, y: Value) -> Value: ...
@overload
def where(condition: ArrayLike, x: ArrayLike, y: ArrayLike, *, lengths: ArrayLike | None = None) -> Int64: ...
@_library("condition", "x", "y")
def where(condition: Any, x: Any, y: Any) -> Any:
    """``x`` where `condition` is not 0, else ``y``.

    See Also
    --------
    mask : ``x`` where `bool_mask` is not 0, else `mask_val`.
    seq_map : Apply `func` to the pairs of elements of two sequences of one length; results are truncated toward zero.

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.where([1, 0, 1], [5, 6, 7], [0, 0, 0])
    array([5, 0, 7])
    """
    return map_values("where", condition, x, y)


@overload
def mask(x: Value, bool_mask: Operand, mask_val: int = 0) -> Value: ...
@overload
def mask(x: ArrayLike, bool_mask: Value, mask_val: int = 0) -> Value: ...
@overload
def mask(x: ArrayLike, bool_mask: ArrayLike, mask_val: int = 0, *, lengths: ArrayLike | None = None) -> Int64: ...
@_library("x", "bool_mask")
def mask(x: Any, bool_mask: Any, mask_val: int = 0) -> Any:
    """``x`` where `bool_mask` is not 0, else `mask_val`.

    See Also
    --------
    where : ``x`` where `condition` is not 0, else ``y``.

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.mask([5, 6, 7], [1, 0, 1])
    array([5, 0, 7])
    """
    return map_values("where", bool_mask, x, mask_val)


@overload
def maximum(x: Value) -> Value: ...
@overload
def maximum(x: ArrayLike, *, lengths: ArrayLike | None = None) -> Int64: ...
@_library("x")
def maximum(x: Any) -> Any:
    """Return running maximum.

    See Also
    --------
    minimum : Return running minimum.
    argmax : Latest position that holds the running maximum; the peer's raises TypeError.

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.maximum([1, 3, 2])
    array([1, 3, 3])
    """
    return kqv(x, x, x, true, reduction="max")


@overload
def minimum(x: Value) -> Value: ...
@overload
def minimum(x: ArrayLike, *, lengths: ArrayLike | None = None) -> Int64: ...
@_library("x")
def minimum(x: Any) -> Any:
    """Return running minimum.

    See Also
    --------
    maximum : Return running maximum.
    argmin : Latest position that holds the running minimum; the peer's raises TypeError.

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.minimum([2, 1, 3])
    array([2, 1, 1])
    """
    return kqv(x, x, x, true, reduction="min")


@overload
def argmax(x: Value) -> Value: ...
@overload
def argmax(x: ArrayLike, *, lengths: ArrayLike | None = None) -> Int64: ...
@_library("x")
def argmax(x: Any) -> Any:
    """Latest position that holds the running maximum; the peer's raises TypeError.

    See Also
    --------
    argmin : Latest position that holds the running minimum; the peer's raises TypeError.
    maximum : Return running maximum.

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.argmax([0, 4, 3, 4, 1])
    array([0, 1, 1, 3, 3])
    """
    return kqv(x, maximum(x), indices(x), equals, reduction="max")


@overload
def argmin(x: Value) -> Value: ...
@overload
def argmin(x: ArrayLike, *, lengths: ArrayLike | None = None) -> Int64: ...
@_library("x")
def argmin(x: Any) -> Any:
    """Latest position that holds the running minimum; the peer's raises TypeError.

    See Also
    --------
    argmax : Latest position that holds the running maximum; the peer's raises TypeError.
    minimum : Return running minimum.

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.argmin([4, 0, 3, 0, 1])
    array([0, 1, 1, 3, 3])
    """
    return kqv(x, minimum(x), indices(x), equals, reduction="max")


@overload
def num_prev(x: Value, q: Operand) -> Value: ...
@overload
def num_prev(x: ArrayLike, q: Value) -> Value: ...
@overload
def num_prev(x: ArrayLike, q: ArrayLike, *, lengths: ArrayLike | None = None) -> Int64: ...
@_library("x", "q")
def num_prev(x: Any, q: Any) -> Any:
    """How many ``x[j]``, j <= i, equal ``q[i]``.

    See Also
    --------
    has_seen : 1 where some ``x[j]``, j <= i, equals ``q[i]``, else 0.
    sel_width : Return number of keys that each query selects.

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.num_prev([5, 6, 5, 5], [5, 5, 5, 6])
    array([1, 1, 2, 1])
    """
    return sel_width(select(x, q, equals))


@overload
def has_seen(x: Value, q: Operand) -> Value: ...
@overload
def has_seen(x: ArrayLike, q: Value) -> Value: ...
@overload
def has_seen(x: ArrayLike, q: ArrayLike, *, lengths: ArrayLike | None = None) -> Int64: ...
@_library("x", "q")
def has_seen(x: Any, q: Any) -> Any:
    """1 where some ``x[j]``, j <= i, equals ``q[i]``, else 0.

    See Also
    --------
    num_prev : How many ``x[j]``, j <= i, equal ``q[i]``.

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.has_seen([5, 6, 7], [6, 6, 6])
    array([0, 1, 1])
    """
    return kqv(x, q, full(x, 1), equals, default=0)


@overload
def firsts(x: Value, q: Operand, default: int = -1) -> Value: ...
@overload
def firsts(x: ArrayLike, q: Value, default: int = -1) -> Value: ...
@overload
def firsts(x: ArrayLike, q: ArrayLike, default: int = -1, *, lengths: ArrayLike | None = None) -> Int64: ...
@_library("x", "q")
def firsts(x: Any, q: Any, default: int = -1) -> Any:
    """First j <= i with ``x[j] == q[i]``, or `default`.

    See Also
    --------
    lasts : Last j <= i with ``x[j] == q[i]``, or `default`.
    index_select : ``x[idx[i]]`` where 0 <= idx[i] <= i, else `default`.

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.firsts([5, 6, 5, 6], [5, 5, 5, 6])
    array([0, 0, 0, 1])
    """
    return kqv(x, q, indices(x), equals, default=default, reduction="min")


@overload
def lasts(x: Value, q: Operand, default: int = -1) -> Value: ...
@overload
def lasts(x: ArrayLike, q: Value, default: int = -1) -> Value: ...
@overload
def lasts(x: ArrayLike, q: ArrayLike, default: int = -1, *, lengths: ArrayLike | None = None) -> Int64: ...
@_library("x", "q")
def lasts(x: Any, q: Any, default: int = -1) -> Any:
    """Last j <= i with ``x[j] == q[i]``, or `default`.

    See Also
    --------
    firsts : First j <= i with ``x[j] == q[i]``, or `default`.

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.lasts([5, 6, 5, 6], [5, 5, 5, 5])
    array([0, 0, 2, 2])
    """
    return kqv(x, q, indices(x), equals, default=default, reduction="max")


@overload
def index_select(x: Value, idx: Operand, default: int = 0) -> Value: ...
@overload
def index_select(x: ArrayLike, idx: Value, default: int = 0) -> Value: ...
@overload
def index_select(x: ArrayLike, idx: ArrayLike, default: int = 0, *, lengths: ArrayLike | None = None) -> Int64: ...
@_library("x", "idx")
def index_select(x: Any, idx: Any, default: int = 0) -> Any:
    """``x[idx[i]]`` where 0 <= idx[i] <= i, else `default`.

    See Also
    --------
    shift_right : ``x[i - n]``, and `default` where that is before the start; a negative `n` gives all `default`.

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.index_select([5, 6, 7], [0, 0, 1])
    array([5, 5, 6])
    """
    return kqv(indices(x), idx, x, equals, default=default)


@overload
def first_true(x: Value, default: int = -1) -> Value: ...
@overload
def first_true(x: ArrayLike, default: int = -1, *, lengths: ArrayLike | None = None) -> Int64: ...
@_library("x")
def first_true(x: Any, default: int = -1) -> Any:
    """First position that holds 1, from there on; before it `default`. Only 1 counts, as in the peer.

    See Also
    --------
    firsts : First j <= i with ``x[j] == q[i]``, or `default`.

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.first_true([0, 0, 1, 0, 1])
    array([-1, -1,  2,  2,  2])
    """
    return kqv(x, full(x, 1), indices(x), equals, default=default, reduction="min")


@overload
def mode(x: Value) -> Value: ...
@overload
def mode(x: ArrayLike, *, lengths: ArrayLike | None = None) -> Int64: ...
@_library("x")
def mode(x: Any) -> Any:
    """Return running mode; among equal counts the token that reached the count last; the peer's raises TypeError.

    See Also
    --------
    binary_mode : 1 where more elements so far are 1 than 0, else 0.

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.mode([3, 2, 1, 2, 3, 2])
    array([3, 2, 1, 2, 3, 2])
    """
    return index_select(x, argmax(num_prev(x, x)))


@overload
def binary_mode(x: Value) -> Value: ...
@overload
def binary_mode(x: ArrayLike, *, lengths: ArrayLike | None = None) -> Int64: ...
@_library("x")
def binary_mode(x: Any) -> Any:
    """1 where more elements so far are 1 than 0, else 0.

    See Also
    --------
    mode : Return running mode; among equal counts the token that reached the count last; the peer's raises TypeError.

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.binary_mode([1, 0, 1, 0, 0])
    array([1, 0, 1, 0, 0])
    """
    ones, zeros = num_prev(x, full(x, 1)), num_prev(x, full(x, 0))
    return map_values("where", map_values("gt", ones, zeros), full(x, 1), full(x, 0))


@overload
def induct_kqv(k: Value, q: Operand, v: Operand, offset: int, default: int = 0, null_val: int = -999) -> Value: ...
@overload
def induct_kqv(k: ArrayLike, q: Value, v: Operand, offset: int, default: int = 0, null_val: int = -999) -> Value: ...
@overload
def induct_kqv(k: ArrayLike, q: ArrayLike, v: Value, offset: int, default: int = 0, null_val: int = -999) -> Value: ...
@overload
def induct_kqv(
    k: ArrayLike,
    q: ArrayLike,
    v: ArrayLike,
    offset: int,
    default: int = 0,
    null_val: int = -999,
    *,
    lengths: ArrayLike | None = None,
) -> Int64: ...
@_library("k", "q", "v")
def induct_kqv(k: Any, q: Any, v: Any, offset: int, default: int = 0, null_val: int = -999) -> Any:
    """``v[p]`` for the first p <= i with ``k[p - offset] == q[i]``, or `default`; an induction head.

    `null_val` stands for "no key here" and "not found": it must be no token and no position.

    See Also
    --------
    induct : `induct_kqv` with the keys as values.

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.induct_kqv([5, 6, 5], [5, 5, 5], [1, 2, 3], offset=1)
    array([0, 2, 2])
    """
    found = firsts(shift_right(k, offset, default=null_val), q, default=null_val)
    return index_select(v, found, default=default)


@overload
def induct(k: Value, q: Operand, offset: int, default: int = 0, null_val: int = -999) -> Value: ...
@overload
def induct(k: ArrayLike, q: Value, offset: int, default: int = 0, null_val: int = -999) -> Value: ...
@overload
def induct(
    k: ArrayLike, q: ArrayLike, offset: int, default: int = 0, null_val: int = -999, *, lengths: ArrayLike | None = None
) -> Int64: ...
@_library("k", "q")
def induct(k: Any, q: Any, offset: int, default: int = 0, null_val: int = -999) -> Any:
    """`induct_kqv` with the keys as values.

    See Also
    --------
    induct_kqv : ``v[p]`` for the first p <= i with ``k[p - offset] == q[i]``, or `default`; an induction head.
    induct_prev : ``k[p + offset]``, offset < 0, for the first p <= i with ``k[p] == q[i]``, or `default`.

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.induct([5, 6, 7, 5, 6], [5, 6, 7, 5, 6], offset=1)
    array([0, 0, 0, 6, 7])
    """
    return induct_kqv(k, q, k, offset=offset, default=default, null_val=null_val)


@overload
def induct_prev(k: Value, q: Operand, offset: int, default: int = 0, null_val: int = -999) -> Value: ...
@overload
def induct_prev(k: ArrayLike, q: Value, offset: int, default: int = 0, null_val: int = -999) -> Value: ...
@overload
def induct_prev(
    k: ArrayLike, q: ArrayLike, offset: int, default: int = 0, null_val: int = -999, *, lengths: ArrayLike | None = None
) -> Int64: ...
@_library("k", "q")
def induct_prev(k: Any, q: Any, offset: int, default: int = 0, null_val: int = -999) -> Any:
    """``k[p + offset]``, offset < 0, for the first p <= i with ``k[p] == q[i]``, or `default`.

    See Also
    --------
    induct : `induct_kqv` with the keys as values.

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.induct_prev([5, 6, 7, 6], [5, 6, 7, 6], offset=-1)
    array([0, 5, 6, 5])
    """
    if offset >= 0:
        raise ArgumentError(f"induct_prev: offset: expected a negative number, got {offset}")
    found = firsts(k, q, default=null_val)
    return index_select(k, map_values("add", found, offset), default=default)


@overload
def rightmost(A: Choice, v: Operand, default: int = 0) -> Value: ...
@overload
def rightmost(A: Selector, v: ArrayLike, default: int = 0) -> Int64: ...
def rightmost(A: Any, v: Any, default: int = 0) -> Any:
    """Return the value of the last selected key, or `default`: B-RASP's rightmost attention.

    Yang, Chiang, Angluin, "Masked Hard-Attention Transformers Recognize Exactly the Star-Free Languages" (2024).

    See Also
    --------
    leftmost : Return the value of the first selected key, or `default`: B-RASP's leftmost attention (see `rightmost`).

    Examples
    --------
    >>> from legato import rasp
    >>> x = [5, 6, 5, 7]
    >>> rasp.rightmost(rasp.select(x, 5, rasp.neq), x, default=-1)
    array([-1,  6,  6,  7])
    """
    return index_select(v, aggr(A, indices(v), -1, "max"), default)


@overload
def leftmost(A: Choice, v: Operand, default: int = 0) -> Value: ...
@overload
def leftmost(A: Selector, v: ArrayLike, default: int = 0) -> Int64: ...
def leftmost(A: Any, v: Any, default: int = 0) -> Any:
    """Return the value of the first selected key, or `default`: B-RASP's leftmost attention (see `rightmost`).

    See Also
    --------
    rightmost : Return the value of the last selected key, or `default`: B-RASP's rightmost attention.

    Examples
    --------
    >>> from legato import rasp
    >>> x = [5, 6, 5, 7]
    >>> rasp.leftmost(rasp.select(x, 5, rasp.neq), x, default=-1)
    array([-1,  6,  6,  6])
    """
    return index_select(v, aggr(A, indices(v), -1, "min"), default)


def counts_reach(conditions: Sequence[Any], coefficients: Sequence[int], least: int = 0) -> Any:
    """Whether a sum of counts reaches a bound: C-RASP's counting comparison.

    Count t is how many positions j <= i satisfy condition t. Yang, Chiang, "Counting Like Transformers: Compiling
    Temporal Counting Logic Into Softmax Transformers" (2024).

    Parameters
    ----------
    conditions : sequence of sequences (n,)
        What is counted: elements that are not 0.
    coefficients : sequence of int
        One for each condition.
    least : int

    Returns
    -------
    ndarray of int64, or symbol
        1 where the sum of coefficient times count is at least `least`.

    See Also
    --------
    cumsum : Return number of elements so far that are not 0.
    num_prev : How many ``x[j]``, j <= i, equal ``q[i]``.

    Examples
    --------
    >>> from legato import rasp
    >>> bits = np.array([1, 1, 0, 0, 0])
    >>> rasp.counts_reach([bits == 1, bits == 0], [1, -1])       # at least as many ones as zeros
    array([1, 1, 1, 1, 0])
    """
    try:
        counted, factors = list(conditions), list(coefficients)
    except Exception:  # no sequence, or one that raises
        raise ArgumentError("counts_reach: expected a sequence of conditions and one of coefficients") from None
    if len(counted) != len(factors) or not counted:
        raise ArgumentError(
            f"counts_reach: expected one coefficient for each condition, got {len(counted)} and {len(factors)}"
        )
    total: Any = None
    for at, (condition, coefficient) in enumerate(zip(counted, factors, strict=True)):
        part = map_values("mul", cumsum(condition), whole(f"counts_reach: coefficients[{at}]", coefficient))
        total = part if total is None else map_values("add", total, part)
    return map_values(
        "where", map_values("ge", total, whole("counts_reach: least", least)), full(total, 1), full(total, 0)
    )
