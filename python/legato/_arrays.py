"""The only array door: dtype policy, contiguity, shapes with argument names."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from legato._scalars import shown
from legato.errors import ArgumentError

__all__ = [
    "STORAGES",
    "as_any",
    "as_booleans",
    "as_float64",
    "as_floating",
    "as_indices",
    "as_int64",
    "as_logits",
    "as_matrices",
    "as_real",
    "as_stored",
    "given_back",
    "on_device",
    "output_apart",
    "overlap",
    "refuse_gradients",
    "storage_name",
    "storage_of",
]

_FLOAT64, _INT64 = np.dtype(np.float64), np.dtype(np.int64)
_FLOATS = frozenset({_FLOAT64, np.dtype(np.float32)})
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_CUDA = 2
_OVERLAP_WORK: Any = 1000  # steps of an exact answer; arrays of ordinary strides take fewer

# Storage types by name. NumPy knows no bfloat16: its bits travel as uint16, whatever package made the array.
STORAGES = {"float32": np.float32, "float64": np.float64, "float16": np.float16, "bfloat16": np.uint16}
_NATIVE_STORAGES = {np.dtype(kind): name for name, kind in STORAGES.items() if name != "bfloat16"}


def storage_name(name: str, value: DTypeLike, known: Collection[str] = STORAGES) -> str:
    """Return the name of a storage type given by name or as what NumPy takes for a dtype."""
    if value is not None and not isinstance(value, str):
        with suppress(Exception):  # of whatever is no dtype
            value = _NATIVE_STORAGES.get(np.dtype(value), value)
    if isinstance(value, str) and value in known:
        return value
    raise ArgumentError(f"{name}: expected one of {', '.join(known)}, got {shown(value)}")


def as_float64(name: str, value: ArrayLike, shape: tuple[int | None, ...] | None = None) -> Float64:
    """Return `value` as a C-contiguous float64 array of real numbers.

    Anything NumPy can read is taken, and DLPack arrays in CPU memory without a copy. `shape` is checked where given;
    ``None`` in it stands for any length.
    """
    if type(value) is np.ndarray and value.dtype is _FLOAT64 and _plain(value):
        array = value  # the common case, without ceremony
    else:
        array = _from_any(name, value)
        if array.dtype.kind not in "fiub":
            raise ArgumentError(f"{name}: expected real numbers, got dtype {array.dtype}")
        array = _made_plain(np.atleast_1d(array), np.float64)
    if shape is not None:
        fits = array.ndim == len(shape) and all(
            want is None or have == want for have, want in zip(array.shape, shape, strict=True)
        )
        if not fits:
            wanted = "(" + ", ".join("n" if want is None else str(want) for want in shape) + ")"
            raise ArgumentError(f"{name}: expected shape {wanted}, got {array.shape}")
    return array


def as_int64(name: str, value: ArrayLike) -> Int64:
    """Return `value` as a C-contiguous int64 array.

    Integers and booleans are taken, and floats that are whole numbers. NaN, fractions and numbers beyond 64 bits are
    errors that name the position.
    """
    array = value if isinstance(value, np.ndarray) else _from_any(name, value)
    kind = array.dtype.kind
    if kind in "ib":
        return _made_plain(np.atleast_1d(array), np.int64)
    if kind == "u":
        bad = array > np.iinfo(np.int64).max
    elif kind == "f":
        with np.errstate(invalid="ignore"):
            bad = ~((array == np.trunc(array)) & (array >= -(2.0**63)) & (array < 2.0**63))
    elif kind == "O" and all(isinstance(x, int | np.integer) for x in array.flat):
        bad = np.array([not -(2**63) <= int(x) < 2**63 for x in array.flat], dtype=bool).reshape(array.shape)
    else:
        raise ArgumentError(f"{name}: expected integers, got dtype {array.dtype}")
    if bad.any():
        at = np.unravel_index(int(np.argmax(bad)), array.shape)
        where = ", ".join(str(int(i)) for i in at)
        raise ArgumentError(f"{name}: expected 64-bit integers, got {array[at]} at position {where}")
    return _made_plain(np.atleast_1d(array), np.int64)


def as_booleans(name: str, value: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return `value` as a bool array of that shape."""
    array = _from_any(name, value)
    if array.dtype != bool or array.shape != shape:
        raise ArgumentError(f"{name}: expected bool of shape {shape}, got {array.dtype} of shape {array.shape}")
    return array


def as_real(name: str, value: Any) -> NDArray[Any]:
    """Return `value` as the array of real numbers that it is, of any type and order."""
    array = _from_any(name, value)
    if array.dtype.kind not in "fiub":
        raise ArgumentError(f"{name}: expected real numbers, got dtype {array.dtype}")
    return array


def as_any(name: str, value: Any) -> NDArray[Any]:
    """Return `value` as an array of whatever it holds."""
    return _from_any(name, value)


def as_matrices(name: str, value: ArrayLike) -> Float64:
    """Return `value` as a C-contiguous float64 array of shape (..., 3, 3)."""
    array = as_float64(name, value)
    if array.ndim < 2 or array.shape[-2:] != (3, 3):
        raise ArgumentError(f"{name}: expected shape (..., 3, 3), got {array.shape}")
    return array


def as_floating(name: str, value: Any) -> NDArray[Any]:
    """Return `value` as a C-contiguous array, float32 where it is float32 and float64 otherwise."""
    if type(value) is np.ndarray and value.dtype in _FLOATS and _plain(value):
        return value  # the common case, without ceremony
    array = _from_any(name, value)
    if array.dtype.kind not in "fiub":
        raise ArgumentError(f"{name}: expected real numbers, got dtype {array.dtype}")
    return _made_plain(np.atleast_1d(array), np.float32 if array.dtype == np.float32 else np.float64)


def as_indices(name: str, value: Any, length: int | None = None) -> NDArray[np.int64]:
    """Return `value` as a C-contiguous one-dimensional int64 array of whole numbers."""
    if type(value) is np.ndarray and value.dtype is _INT64 and _plain(value):
        array = value  # the common case, without ceremony
    else:
        array = _from_any(name, value)
        if array.dtype.kind not in "iu" and array.size > 0:
            raise ArgumentError(f"{name}: expected whole numbers, got dtype {array.dtype}")
        array = _made_plain(array, np.int64)
    if array.ndim != 1 or (length is not None and len(array) != length):
        raise ArgumentError(f"{name}: expected shape ({'n' if length is None else length},), got {array.shape}")
    return array


def as_logits(name: str, value: Any) -> tuple[NDArray[Any], str]:
    """Return `value` as a C-contiguous (n, v) array and its storage: "float32", "bfloat16" or "float16".

    The 16-bit kinds come back as uint16 bit patterns of the same memory. bfloat16 is what torch, JAX and ml_dtypes call
    by that name, or a uint16 array. Float64 and whole numbers are converted to float32.
    """
    if type(value) is np.ndarray and value.ndim == 2 and value.size and _plain(value):
        if value.dtype == np.float32:  # the common cases, without ceremony
            return value, "float32"
        if value.dtype == np.uint16:
            return value, "bfloat16"
    array = _from_any(name, value, bits=True)
    if array.dtype == np.uint16:
        array, kind = _made_plain(array, np.uint16), "bfloat16"
    else:
        array, kind = as_stored(name, array)
    if kind == "float64":
        array, kind = array.astype(np.float32), "float32"
    if array.ndim != 2 or array.shape[1] == 0:
        raise ArgumentError(f"{name}: expected shape (n, v) with v >= 1, got {array.shape}")
    return array.view(np.uint16) if kind == "float16" else array, kind


def as_stored(name: str, value: Any, storage: str | None = None) -> tuple[NDArray[Any], str]:
    """Return `value` as a C-contiguous array of one of the storage types, and the name of the type.

    float32, float64, float16 and bfloat16 are taken as they are, from NumPy or through DLPack, without a copy where
    the array is contiguous; other real numbers become float64. With `storage` given, another type is refused.
    """
    if type(value) is np.ndarray and _plain(value):  # the common case, without ceremony
        known = _NATIVE_STORAGES.get(value.dtype)
        if known is not None and storage in (None, known):
            return value, known
    array = _from_any(name, value, bits=True)
    kind = _storage_of(value, array)
    if kind not in STORAGES:
        if array.dtype.kind not in "iub":
            raise ArgumentError(f"{name}: expected float32, float64, float16 or bfloat16, got {array.dtype}")
        array, kind = array.astype(np.float64), "float64"
    if storage is not None and kind != storage:
        raise ArgumentError(f"{name}: expected {storage} like the state, got {kind}")
    return _made_plain(array, array.dtype), kind


def output_apart(
    name: str, out: Any, shape: tuple[int, ...], storage: str, inputs: Sequence[Any]
) -> tuple[NDArray[Any], list[Any]]:
    """Return the memory to write to (that of `out`, or new) and `inputs` as a kernel may read them meanwhile.

    Inputs whose memory `out` overlaps come back as copies, so that the result is what it would be elsewhere. The very
    array (place, shape and strides of `out`) stays itself: every kernel reads an entry, or a row, before it writes it.
    ``None`` among the inputs stays.
    """
    if out is None:
        return np.empty(shape, STORAGES[storage]), list(inputs)
    if type(out) is np.ndarray and out.dtype == STORAGES[storage] and out.dtype.isnative:
        target: NDArray[Any] = out  # the common case, without ceremony
        fits = True
    else:  # NumPy does not copy what comes through DLPack, so it is the caller's memory that is written
        fits = out.dtype.isnative if isinstance(out, np.ndarray) else hasattr(out, "__dlpack__")
        target = _from_any(name, out, bits=True) if fits else np.empty(0)
        fits = fits and _storage_of(out, target) == storage
    if not (fits and target.shape == shape and target.flags.carray):
        raise ArgumentError(f"{name}: expected a writable C-contiguous {storage} array of shape {shape}")
    return target, [
        value if value is None or _is_the_very(value, target) or not overlap(value, target) else value.copy()
        for value in inputs
    ]


def overlap(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two arrays have memory in common; what would take long to decide counts as yes."""
    if not np.may_share_memory(one, other):
        return False
    try:
        return np.shares_memory(one, other, max_work=_OVERLAP_WORK)
    except np.exceptions.TooHardError:
        return True


def _is_the_very(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether entry by entry both are the same memory."""
    return (
        one.__array_interface__["data"][0] == other.__array_interface__["data"][0]
        and one.shape == other.shape
        and one.strides == other.strides
        and one.itemsize == other.itemsize
    )


def given_back(value: Any, array: Any) -> Any:
    """Return `array`, a result of ours for the input `value`, as what that is.

    That is: a tensor of torch for one of torch, an array of the package that made `value` where it has the array API's
    ``asarray``, else `array` itself; in the order of `value`'s axes in memory where the shapes are equal; bits of
    bfloat16 as that type. Everything else of the type is the caller's: `array` has it already.
    """
    if type(value) is np.ndarray and value.dtype in _FLOATS and value.flags.c_contiguous:
        return array  # the common case, without ceremony
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        tensor = torch.from_dlpack(array) if on_device(array) else torch.from_numpy(array)
        if _is_bfloat16(value):
            tensor = tensor.view(torch.int16).view(torch.bfloat16)
        alike = tensor.shape == value.shape and not value.is_contiguous()
        return torch.empty_like(value.detach(), dtype=tensor.dtype).copy_(tensor) if alike else tensor
    if isinstance(value, np.ndarray):
        array = array.view(value.dtype) if _is_bfloat16(value) else array
        if array.shape != value.shape or value.flags.c_contiguous:
            return array
        out = np.empty_like(value, dtype=array.dtype, subok=False)
        out[...] = array
        return out
    namespace = getattr(value, "__array_namespace__", None)
    if namespace is None or not hasattr(value, "__dlpack__"):
        return array
    return namespace().asarray(array.view(value.dtype) if _is_bfloat16(value) else array)


def refuse_gradients(name: str, value: Any) -> None:
    """Refuse a tensor through which gradients are being recorded, which a result of ours would lose."""
    torch = sys.modules.get("torch")
    if torch is not None and getattr(value, "requires_grad", False) and torch.is_grad_enabled():
        raise ArgumentError(
            f"{name}: expected an array without gradients, which would be lost here; detach() it, or call under "
            "torch.no_grad()"
        )


def on_device(value: Any) -> bool:
    """Whether `value` is an array in GPU memory, by its own word (DLPack's device 2, CUDA), with a shape and a type."""
    if type(value) is np.ndarray or not (hasattr(value, "shape") and hasattr(value, "dtype")):
        return False
    try:
        place = getattr(value, "__dlpack_device__", None)
        return place is not None and int(place()[0]) == _CUDA
    except Exception:  # a stranger that cannot say where it is
        return False


def _plain(array: NDArray[Any]) -> bool:
    flags = array.flags
    return flags.c_contiguous and flags.aligned


def _made_plain(array: NDArray[Any], kind: DTypeLike) -> NDArray[Any]:
    """C-contiguous, and aligned as compiled code reads it."""
    array = np.asarray(array, dtype=kind, order="C")
    return array if array.flags.aligned else array.copy()


def storage_of(value: Any) -> str:
    """Return the name of an array's type as its package calls it; "" of what is no array."""
    try:
        return str(getattr(value, "dtype", "")).removeprefix("torch.")
    except Exception:  # a stranger's dtype
        return ""


def _storage_of(value: Any, array: NDArray[Any]) -> str:
    return "bfloat16" if _is_bfloat16(value) else array.dtype.name


def _is_bfloat16(value: Any) -> bool:
    return storage_of(value) == "bfloat16"


def _bits_of_bfloat16(value: Any) -> Any:
    """Return an array of bfloat16 (ml_dtypes or torch) as 16-bit integers over the same memory; others as they are."""
    if not _is_bfloat16(value):
        return value
    if isinstance(value, np.ndarray):
        return value.view(np.uint16)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return value.detach().view(torch.int16).numpy().view(np.uint16)
    return np.asarray(value).view(np.uint16)


def _from_any(name: str, value: Any, bits: bool = False) -> NDArray[Any]:
    """Return what NumPy makes of `value`; with `bits`, bfloat16 as 16-bit integers over the same memory."""
    try:
        if bits:
            value = _bits_of_bfloat16(value)
        if not isinstance(value, np.ndarray) and hasattr(value, "__dlpack__"):
            if getattr(value, "requires_grad", False):
                value = value.detach()
            torch = sys.modules.get("torch")
            if torch is not None and isinstance(value, torch.Tensor):
                return np.asarray(value.numpy())  # NumPy before 2.1 can only read what comes by DLPack
            return np.from_dlpack(value)
        array = np.asarray(value)
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    except MemoryError:
        raise
    except Exception as error:  # whatever a stranger's __array__ or __dlpack__ raises
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ArgumentError(f"{name}: expected an array in CPU memory ({reason})") from None
