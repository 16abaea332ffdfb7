"""Models of the user: Python callables, and C functions by address, whose types are checked."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legato.errors import ArgumentError, NumericalError

__all__ = ["CFunction", "as_callable"]


def as_callable(model: Any, arrays: Callable[[NDArray[Any]], Any] | None) -> Callable[..., Any]:
    """Return `model` as a callable on NumPy arrays."""
    function = _c_function(model)
    if function is not None:
        return function
    if not callable(model):
        raise ArgumentError(f"model: expected an exact model, a callable or a C function, got {type(model).__name__}")
    if arrays is None:
        return model  # type: ignore[no-any-return]
    return lambda x, alpha, sigma, k: model(arrays(x), alpha, sigma, k)


def _c_function(model: Any) -> CFunction | None:
    """Take a numba.cfunc, ctypes function or scipy.LowLevelCallable, its types checked; None for anything else."""
    if type(model).__name__ == "LowLevelCallable":
        function = getattr(model.function, "ctypes", model.function)  # of numba, or ctypes' own
        if not isinstance(function, ctypes._CFuncPtr):  # type: ignore[attr-defined]
            raise ArgumentError("model: expected a LowLevelCallable of a ctypes or numba function")
        data = model.user_data
        pointer = None if data is None else ctypes.cast(data, ctypes.c_void_p)
        signature = model.signature if function.argtypes is None else None
        return CFunction(function, signature, data is not None, pointer)
    if hasattr(model, "address") and hasattr(model, "native_name"):  # numba.cfunc
        return CFunction(model.ctypes)
    return CFunction(model) if isinstance(model, ctypes._CFuncPtr) else None  # type: ignore[attr-defined]


_SIGNATURE = "void (const T* x, T* out, int64 n, int64 d, double alpha, double sigma, int64 k)"
_SIZES = ("long", "long long", "int64", "int64_t", "npy_int64", "ssize_t", "Py_ssize_t")  # in signatures written out


class CFunction:
    """A C function on batches; ctypes lets go of the interpreter lock while it runs.

    What its pointers point to would be written beyond its end, were it taken for another type: so types are checked.
    """

    def __init__(self, function: Any, signature: str | None = None, has_data: bool = False, data: Any = None) -> None:
        if signature is None:
            kinds = None if function.argtypes is None else [_kind_of(one) for one in function.argtypes]
            nothing = function.restype is None
        else:
            result, _, words = signature.replace("const ", "").replace(" *", "*").rstrip(") ").partition("(")
            kinds = [_kind_of_word(word.strip()) for word in words.split(",")]
            nothing = result.strip() == "void"
        plain = ["size", "size", "double", "double", "size", *["pointer"] * has_data]
        same = kinds is not None and nothing and [("pointer" if "*" in one else one) for one in kinds[2:]] == plain
        reals = kinds[:2] if same and kinds is not None else []
        if len(reals) != 2 or reals[0] != reals[1] or reals[0] not in ("float*", "double*", "pointer"):
            found = "types that are not declared" if kinds is None else f"({', '.join(kinds)})"
            more = ", void* user_data" if has_data else ""
            raise ArgumentError(
                f"model: expected a C function {_SIGNATURE[:-1]}{more}), T float or double as dtype says, got "
                f"{found}{'' if nothing else ' with a result'}"
            )
        self.real = {"float*": "float32", "double*": "float64"}.get(reals[0])  # None: void*, taken at its word
        types = [ctypes.c_void_p] * 2 + [ctypes.c_int64] * 2 + [ctypes.c_double] * 2 + [ctypes.c_int64]
        self.extra = [data] if has_data else []
        address = ctypes.cast(function, ctypes.c_void_p).value or 0
        self.function = ctypes.CFUNCTYPE(None, *types, *[ctypes.c_void_p] * len(self.extra))(address)
        self.held = function  # a ctypes callback lives as long as its object

    def __call__(self, x: NDArray[Any], alpha: float, sigma: float, k: int) -> NDArray[Any]:
        """Return the function's prediction for a batch (samples, d)."""
        if x.ndim != 2:
            raise ArgumentError(f"shape: expected (samples, d) for a C function, got {x.shape}")
        if self.real not in (None, x.dtype.name):
            raise ArgumentError(
                f"model: expected a C function {_SIGNATURE} with T {'float' if x.itemsize == 4 else 'double'}, because "
                f"dtype is {x.dtype.name}, got one of {self.real}"
            )
        out = np.full_like(x, np.nan)  # stays where the function raises or forgets to write
        self.function(x.ctypes.data, out.ctypes.data, *x.shape, alpha, sigma, k, *self.extra)
        if bool(np.isnan(out).any()):
            raise NumericalError(
                f"model: expected a C function that writes every number of its result, got NaN at step {k}; one that "
                "raises has written nothing"
            )
        return out


def _kind_of(kind: Any) -> str:
    """Return what a ctypes type means in the signature of a model."""
    pointed = getattr(kind, "_type_", None)
    if kind is ctypes.c_void_p:
        return "pointer"
    if pointed is ctypes.c_float or pointed is ctypes.c_double:
        return "float*" if pointed is ctypes.c_float else "double*"
    if isinstance(pointed, str) and pointed in "lqLQ" and ctypes.sizeof(kind) == 8:
        return "size"
    return "double" if kind is ctypes.c_double else str(getattr(kind, "__name__", kind))


def _kind_of_word(word: str) -> str:
    """`_kind_of` for the words of a signature as SciPy writes it."""
    if word.endswith("*"):
        return {"void*": "pointer"}.get(word, word)
    return "size" if word in _SIZES else word
