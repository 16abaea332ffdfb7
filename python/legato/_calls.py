"""The core's C functions as Numba sees them, and what its overloads share. Imported by Numba's entry point alone."""

from __future__ import annotations

import ctypes
from typing import Any, NoReturn

import llvmlite.binding as llvm
from numba import types
from numba.core import cgutils, errors
from numba.extending import get_cython_function_address, intrinsic, overload, register_jitable

from legato import _core

__all__ = [
    "apart",
    "call",
    "compiles",
    "constant",
    "is_none",
    "lies_across",
    "pointer",
    "refuse",
    "register_calls",
    "want_array",
    "want_none",
]

_NUMBERS = {
    "int": types.int32,
    "size_t": types.uintp,
    "uint32_t": types.uint32,
    "uint64_t": types.uint64,
    "int64_t": types.int64,
    "float": types.float32,
    "double": types.float64,
}
_name_of = ctypes.pythonapi.PyCapsule_GetName
_name_of.restype, _name_of.argtypes = ctypes.c_char_p, (ctypes.py_object,)


def register_calls() -> None:
    """Give LLVM the addresses of the C functions by name: what Numba caches is then good in the next process."""
    for name in _core.__pyx_capi__:
        llvm.add_symbol(name, get_cython_function_address("legato._core", name))


def call(name: str) -> Any:
    """Return the C function of that name, to be called in compiled code; its signature is the capsule's."""
    text = _name_of(_core.__pyx_capi__[name]).decode()
    result, arguments = text.removesuffix(")").split(" (")
    kinds = [types.voidptr if "*" in argument else _NUMBERS[argument] for argument in arguments.split(", ")]
    return types.ExternalFunction(name, _NUMBERS[result](*kinds))


def compiles(function: Any, **options: Any) -> Any:
    """Decorate what a function of Legato is inside of compiled code; types of arguments in, the code out."""
    return overload(function, strict=False, **options)


@intrinsic
def pointer(typingctx: Any, array: Any) -> Any:
    """Address of an array's first element; null for None."""
    if is_none(array):
        return types.voidptr(array), lambda context, builder, signature, arguments: context.get_constant_null(
            types.voidptr
        )

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.bitcast(view.data, cgutils.voidptr_t)

    return types.voidptr(array), code


@intrinsic
def lies_across(typingctx: Any, array: Any, out: Any) -> Any:
    """Whether `out` lies over a part of an array without being the very same memory; ``array.ctypes`` takes longer."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        ends = []
        for kind, argument in zip(signature.args, arguments, strict=True):
            view = context.make_array(kind)(context, builder, argument)
            begin = builder.ptrtoint(view.data, context.get_value_type(types.intp))
            ends.append((begin, builder.add(begin, builder.mul(view.nitems, view.itemsize))))
        (begin, end), (other, other_end) = ends
        crossing = builder.and_(builder.icmp_signed("<", begin, other_end), builder.icmp_signed("<", other, end))
        return builder.and_(crossing, builder.icmp_signed("!=", begin, other))

    return types.boolean(array, out), code


@register_jitable
def apart(array: Any, out: Any) -> Any:
    """`array`, or a copy where `out` lies over a part of it; the very same memory stays."""
    return array.copy() if lies_across(array, out) else array


def is_none(kind: Any) -> bool:
    """Whether an argument of an overload is None, or left out with None for a default."""
    return kind is None or isinstance(kind, types.NoneType) or (isinstance(kind, types.Omitted) and kind.value is None)


def constant(name: str, kind: Any, known: Any) -> Any:
    """Return the value of an argument that must be written out in the code, one of `known`."""
    value = getattr(kind, "literal_value", getattr(kind, "value", kind))
    if not (isinstance(value, str) and value in known):
        refuse(name, f"one of {', '.join(map(repr, known))}, written out", kind)
    return value


def refuse(name: str, expected: str, kind: Any) -> NoReturn:
    """Say while a user's function is compiled what an argument should have been."""
    raise errors.TypingError(f"{name}: expected {expected}, got {kind}")


def want_array(
    name: str, kind: Any, numbers: tuple[Any, ...], axes: int | None = None, *, written: bool = False
) -> None:
    """Refuse what is no C-contiguous array of one of the types of numbers."""
    fits = isinstance(kind, types.Array) and kind.dtype in numbers and kind.layout == "C"
    if not fits or (axes is not None and kind.ndim != axes) or (written and not kind.mutable):
        of = f" of {axes} axes" if axes is not None else ""
        kinds = " or ".join(map(str, numbers))
        refuse(name, f"a {'writable ' if written else ''}C-contiguous {kinds} array{of}", kind)


def want_none(name: str, kind: Any, numbers: tuple[Any, ...], axes: int | None = None) -> bool:
    """Whether an optional array is missing; what is there must be an array as `want_array` has it."""
    if is_none(kind):
        return True
    want_array(name, kind, numbers, axes)
    return False
