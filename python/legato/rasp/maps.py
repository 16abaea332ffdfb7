"""Elementwise operations on arrays: checked for overflow, and Python callables called once for each distinct value."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legato.errors import ArgumentError, NumericalError
from legato.rasp.graph import Value, apply_symbolic
from legato.rasp.nodes import evaluate_scalar, static_kind
from legato.rasp.operations import OPERATIONS

__all__ = ["apply_callable", "apply_named", "symbolic_form"]

_LOW, _HIGH = -(2**63), 2**63 - 1
_UFUNCS: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "floordiv": np.floor_divide,
    "truediv": np.true_divide,
    "mod": np.mod,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "neg": np.negative,
    "abs": np.absolute,
    "invert": np.invert,
}
_CAN_OVERFLOW = {"add", "sub", "mul", "neg", "abs", "pow"}
_ARITHMETIC = _CAN_OVERFLOW | {"floordiv", "mod", "truediv"}


def apply_named(op: str, *operands: Any) -> NDArray[Any]:
    """Return a named operation on arrays and scalars of one shape; integers stay exact or are an error."""
    arrays = [np.asarray(x) for x in operands]
    if op in _ARITHMETIC:
        arrays = [x.astype(np.int64) if x.dtype == bool else x for x in arrays]
    integral = all(x.dtype.kind in "ib" for x in arrays)
    if op in {"floordiv", "mod", "truediv"} and (arrays[1] == 0).any():
        raise NumericalError(f"{op}: division by zero at position {_first(arrays[1] == 0, arrays)}")
    if op == "where":
        return np.where(arrays[0].astype(bool), arrays[1], arrays[2])
    if op == "truth":
        return arrays[0].astype(bool)
    if op == "integer":
        return _integers(op, np.trunc(arrays[0]) if arrays[0].dtype.kind == "f" else arrays[0])
    if op == "pow" or (op in _CAN_OVERFLOW and integral and _may_overflow(op, arrays)):
        out = np.frompyfunc(OPERATIONS[op].scalar, len(arrays), 1)(*(x.astype(object) for x in arrays))
        return _integers(op, np.asarray(out, dtype=object)) if integral else np.asarray(out, dtype=np.float64)
    return np.asarray(_UFUNCS[op](*arrays))


def _first(bad: NDArray[Any], arrays: list[NDArray[Any]]) -> str:
    shape = np.broadcast_shapes(*(x.shape for x in arrays))
    at = np.unravel_index(int(np.argmax(np.broadcast_to(bad, shape))), shape)
    return ", ".join(str(int(i)) for i in at) or "0"


def _may_overflow(op: str, arrays: list[NDArray[Any]]) -> bool:
    if any(x.size == 0 for x in arrays):
        return False
    bounds = [max(abs(int(x.min())), abs(int(x.max()))) for x in arrays]
    reach = bounds[0] * bounds[1] if op == "mul" else sum(bounds)
    return reach > _HIGH


def _integers(op: str, array: NDArray[Any]) -> NDArray[np.int64]:
    if array.dtype.kind in "ib":
        return array.astype(np.int64)
    if array.dtype == object:
        flat = list(array.reshape(-1))
        for at, x in enumerate(flat):
            if isinstance(x, float) and x != x:
                raise NumericalError(f"{op}: the result at position {at} is NaN")
            if not _LOW <= x <= _HIGH:
                raise NumericalError(f"{op}: the result at position {at} does not fit 64 bits")
        return np.array([int(x) for x in flat], dtype=np.int64).reshape(array.shape)
    bad = ~((array >= _LOW) & (array < 2.0**63))
    if bad.any():
        raise NumericalError(f"{op}: the result at position {_first(bad, [array])} does not fit 64 bits")
    return array.astype(np.int64)


def apply_callable(name: str, function: Callable[..., Any], *arrays: NDArray[Any]) -> NDArray[np.int64]:
    """Return a Python function of the elements, truncated toward zero to int64; called once for each distinct tuple."""
    shape = arrays[0].shape
    if arrays[0].size == 0:
        return np.zeros(shape, dtype=np.int64)
    flat = [x.reshape(-1) for x in arrays]
    if len(flat) == 1:
        distinct, ids = np.unique(flat[0], return_inverse=True)
        tuples = [(x,) for x in distinct.tolist()]
    else:
        codes = np.zeros(flat[0].size, dtype=np.int64)
        for x in flat:
            _, inverse = np.unique(x, return_inverse=True)
            _, codes = np.unique(codes * (int(inverse.max()) + 1) + inverse, return_inverse=True)
        _, first, ids = np.unique(codes, return_index=True, return_inverse=True)
        tuples = list(zip(*(x[first].tolist() for x in flat), strict=True))
    results = np.empty(len(tuples), dtype=np.int64)
    for at, values in enumerate(tuples):
        results[at] = scalar_result(name, function, values, partial(_position, ids, at))
    return results[ids].reshape(shape)


def scalar_result(name: str, function: Callable[..., Any], values: tuple[Any, ...], position: Callable[[], int]) -> int:
    """One call, truncated and checked; `position` names the element in an error."""
    result = function(*values)
    try:
        if isinstance(result, float | np.floating) and not np.isfinite(result):
            raise NumericalError(f"{name}: the result at position {position()} is {result}")
        number = int(result)
    except (TypeError, ValueError):
        raise ArgumentError(
            f"{name}: expected a function that returns numbers, got {type(result).__name__} at position {position()}"
        ) from None
    if not _LOW <= number <= _HIGH:
        raise NumericalError(f"{name}: the result at position {position()} does not fit 64 bits")
    return number


def _position(ids: NDArray[np.intp], at: int) -> int:
    return int(np.argmax(ids == at))


_PROBES = (-7, -3, -2, -1, 0, 1, 2, 3, 5, 10, 64, 101)


def symbolic_form(function: Callable[..., Any], values: tuple[Value, ...]) -> Value | None:
    """Return the function as an expression over `values`, or None when it cannot be followed."""
    try:
        result = function(*values)
        if isinstance(result, int | float | np.number | np.bool_):
            result = Value("constant", (), value=int(result))
        if not isinstance(result, Value):
            return None
        leaves = {id(v): at for at, v in enumerate(values)}
        for shift in range(len(_PROBES)):
            probe = tuple(_PROBES[(5 * shift + 3 * at + shift * at) % len(_PROBES)] for at in range(len(values)))
            try:
                wanted = function(*probe)
            except ArithmeticError:
                continue
            found = evaluate_scalar(result, {key: probe[at] for key, at in leaves.items()})
            if int(found) != int(wanted):
                return None
    except Exception:  # whatever a function does with a symbol, it can still be called on numbers
        return None
    return result if static_kind(result) == "int" else apply_symbolic("integer", result)
