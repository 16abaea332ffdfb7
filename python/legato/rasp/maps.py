"""Elementwise operations on arrays: as Python computes them, checked for 64 bits; callables once a distinct value."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legato.errors import ArgumentError, NumericalError
from legato.rasp.operations import OPERATIONS

__all__ = ["apply_callable", "apply_named", "apply_scalar", "position_of", "scalar_result"]

_LOW, _HIGH = -(2**63), 2**63 - 1
_EXACT = 2**53  # integers up to this are float64
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
_DIVISIONS = {"floordiv", "mod", "truediv"}
_CAN_OVERFLOW = {"add", "sub", "mul", "neg", "abs", "floordiv"}
_ARITHMETIC = _CAN_OVERFLOW | _DIVISIONS | {"pow"}
_COMPARISONS = {"eq", "ne", "lt", "le", "gt", "ge"}


def apply_named(op: str, *operands: Any, wide: bool = False) -> NDArray[Any]:
    """Return a named operation on arrays and scalars of one shape; integers stay exact or are an error.

    With `wide`, integers that leave 64 bits stay too, in an array of Python numbers.
    """
    arrays = [np.asarray(x) for x in operands]
    if op in _ARITHMETIC:
        arrays = [x.astype(np.int64) if x.dtype == bool else x for x in arrays]
    if op == "pow" or any(x.dtype == object for x in arrays) or _needs_python(op, arrays):
        return _by_element(op, arrays, wide)
    if op in _DIVISIONS:
        zeros = np.broadcast_to(arrays[1] == 0, np.broadcast_shapes(*(x.shape for x in arrays)))
        if zeros.any():
            raise NumericalError(f"{op}: division by zero at position {position_of(zeros)}")
    if op == "where":
        return np.where(arrays[0].astype(bool), arrays[1], arrays[2])
    if op in ("truth", "not"):
        return arrays[0].astype(bool) if op == "truth" else ~arrays[0].astype(bool)
    if op in ("both", "either"):
        first, second = (arrays[1], arrays[0]) if op == "both" else arrays
        return np.where(arrays[0].astype(bool), first, second)
    if op == "integer":
        return _integers(op, np.trunc(arrays[0]) if arrays[0].dtype.kind == "f" else arrays[0])
    with np.errstate(all="ignore"):  # floats may become infinite or NaN, as they do in Python's own
        return np.asarray(_UFUNCS[op](*arrays))


def position_of(bad: NDArray[np.bool_]) -> str:
    """Return the place of the first element that is true, as an error shows it."""
    at = np.unravel_index(int(np.argmax(bad)), bad.shape)
    return ", ".join(str(int(i)) for i in at) or "0"


def _needs_python(op: str, arrays: list[NDArray[Any]]) -> bool:
    """Whether NumPy could overflow, or would round integers to float64 where Python does not."""
    if any(x.size == 0 for x in arrays):
        return False
    kinds = {x.dtype.kind for x in arrays}
    if op in _CAN_OVERFLOW and kinds == {"i"}:
        bounds = [max(-int(x.min()), int(x.max())) for x in arrays]
        if op == "floordiv":
            return bounds[0] > _HIGH
        return (bounds[0] * bounds[1] if op == "mul" else sum(bounds)) > _HIGH
    if (op == "truediv" and "i" in kinds) or (op in _COMPARISONS and {"i", "f"} <= kinds):
        return any(x.dtype.kind == "i" and max(-int(x.min()), int(x.max())) > _EXACT for x in arrays)
    return False


def _by_element(op: str, arrays: list[NDArray[Any]], wide: bool) -> NDArray[Any]:
    """Run the operation in Python, element by element."""
    shape = np.broadcast_shapes(*(x.shape for x in arrays))
    flat = [np.broadcast_to(x, shape).reshape(-1).tolist() for x in arrays]

    def place(at: int) -> str:
        return ", ".join(str(int(i)) for i in np.unravel_index(at, shape)) or "0"

    found = [
        apply_scalar(op, values, partial(place, at), wide=wide) for at, values in enumerate(zip(*flat, strict=True))
    ]
    types = {type(x) for x in found}
    if float in types:
        return np.array([float(x) for x in found], dtype=np.float64).reshape(shape)
    if types == {bool}:
        return np.array(found, dtype=bool).reshape(shape)
    fits = all(_LOW <= x <= _HIGH for x in found)
    out = np.empty(len(found), dtype=np.int64 if fits else object)
    out[:] = found
    return out.reshape(shape)


def apply_scalar(op: str, values: tuple[Any, ...], position: Callable[[], Any], *, wide: bool = False) -> Any:
    """Return a named operation on Python numbers; `position` names the element in an error."""
    try:
        result = OPERATIONS[op].scalar(*values)
    except ZeroDivisionError:
        raise NumericalError(f"{op}: division by zero at position {position()}") from None
    except (OverflowError, ValueError):  # a float that grows too large, an integer made of infinity or NaN
        raise NumericalError(f"{op}: the result at position {position()} is no finite number") from None
    if isinstance(result, complex):
        raise NumericalError(f"{op}: the result at position {position()} is no real number")
    if type(result) is int and not wide and not _LOW <= result <= _HIGH:
        raise NumericalError(f"{op}: the result at position {position()} does not fit 64 bits")
    return result


def _integers(op: str, array: NDArray[Any]) -> NDArray[np.int64]:
    if array.dtype.kind in "ib":
        return array.astype(np.int64)
    bad = ~((array >= _LOW) & (array < 2.0**63))
    if bad.any():
        raise NumericalError(f"{op}: the result at position {position_of(bad)} does not fit 64 bits")
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
        results[at] = scalar_result(name, function, values, partial(_first_of, ids, at))
    return results[ids].reshape(shape)


def scalar_result(name: str, function: Callable[..., Any], values: tuple[Any, ...], position: Callable[[], int]) -> int:
    """One call, truncated and checked; `position` names the element in an error."""
    try:
        result = function(*values)
    except ZeroDivisionError:
        raise NumericalError(f"{name}: division by zero at position {position()}") from None
    except OverflowError as error:
        raise NumericalError(f"{name}: at position {position()}: {error}") from None
    try:
        if isinstance(result, float | np.floating) and not math.isfinite(result):
            raise NumericalError(f"{name}: the result at position {position()} is {result}")
        number = int(result)
    except (TypeError, ValueError):
        raise ArgumentError(
            f"{name}: expected a function that returns numbers, got {type(result).__name__} at position {position()}"
        ) from None
    if not _LOW <= number <= _HIGH:
        raise NumericalError(f"{name}: the result at position {position()} does not fit 64 bits")
    return number


def _first_of(ids: NDArray[np.intp], at: int) -> int:
    return int(np.argmax(ids == at))
