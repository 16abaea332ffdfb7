"""Arrays in GPU memory: the door to CuPy, and the kernels of cpp/cuda/, which NVRTC compiles when first used."""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import sys
from pathlib import Path
from typing import Any

import numpy as np

from legato._arrays import STORAGES, on_device
from legato._dispatch import Backend
from legato._extras import install_command
from legato.errors import ArgumentError, DependencyError

__all__ = [
    "NULL",
    "OPTIONS",
    "as_given",
    "check_backend",
    "import_cupy",
    "launch",
    "of_type",
    "source",
    "stored",
    "target",
]

NULL = np.uint64(0)  # for an array that a kernel may go without
OPTIONS = ("--std=c++17", "--fmad=false", "--diag-suppress=161")  # no contraction: the CPU's bits. 161: GCC's pragmas
_MOST_BLOCKS = 2**20


def check_backend(backend: Backend | None) -> None:
    """Refuse a choice where the memory has made it."""
    if backend is not None:
        raise ArgumentError(f"backend: expected none for arrays in GPU memory, got {backend!r}")


def stored(name: str, value: Any, storage: str | None = None) -> tuple[Any, str]:
    """Return `value` as a C-contiguous CuPy array and the name of its storage type, without a copy where it can.

    bfloat16 of other packages comes as integers of 16 bits over the same memory.
    """
    kind = _kind(name, value)
    if kind not in STORAGES or storage not in (None, kind):
        raise ArgumentError(f"{name}: expected {storage or 'one of ' + ', '.join(STORAGES)}, got {kind}")
    return import_cupy().ascontiguousarray(_as_cupy(value, kind)), kind


def of_type(name: str, value: Any, dtype: Any, shape: tuple[int, ...], kinds: str = "fiub") -> Any:
    """Return `value` as a C-contiguous CuPy array of that type and shape; its own type must be of `kinds`."""
    array = _as_cupy(value, _kind(name, value))
    if array.dtype.kind not in kinds:
        raise ArgumentError(f"{name}: expected {np.dtype(dtype)}, got {array.dtype}")
    if array.shape != shape:
        raise ArgumentError(f"{name}: expected shape {shape}, got {array.shape}")
    return import_cupy().ascontiguousarray(array.astype(dtype, copy=False))


def target(out: Any, shape: tuple[int, ...], storage: str) -> Any:
    """Return `out` as the CuPy array to write into."""
    array, _ = stored("out", out, storage)
    if array.shape != shape or not _contiguous(out):
        raise ArgumentError(f"out: expected a C-contiguous {storage} array of shape {shape}, got {array.shape}")
    return array


def as_given(value: Any, array: Any) -> Any:
    """Return a CuPy array of results as a tensor of torch where `value`, an input, is one."""
    torch = sys.modules.get("torch")
    return torch.from_dlpack(array) if torch is not None and isinstance(value, torch.Tensor) else array


def launch(family: str, name: str, blocks: int, threads: int, *arguments: Any) -> None:
    """Run a kernel of a family on the current device; NumPy scalars pass by value, CuPy arrays by address."""
    if blocks > 0:
        _module(family).get_function(f"legato_{family}_{name}")((min(blocks, _MOST_BLOCKS),), (threads,), arguments)


def source(family: str) -> str:
    """Return what NVRTC compiles."""
    return f'#include "legato/cuda/{family}.cuh"\n'


@functools.cache
def _module(family: str) -> Any:
    headers = Path(str(importlib.resources.files("legato") / "include"))
    seen = hashlib.sha256()  # CuPy caches compiled kernels by the text it is given, which would not see a new header
    for header in sorted(headers.rglob("*.*h")):
        seen.update(header.read_bytes())
    code = f"// {seen.hexdigest()}\n{source(family)}"
    return import_cupy().RawModule(code=code, options=(*OPTIONS, f"-I{headers}"))


def _kind(name: str, value: Any) -> str:
    import_cupy()
    if not on_device(value):
        raise ArgumentError(f"{name}: expected an array in GPU memory like the first, got {type(value).__name__}")
    return str(value.dtype).removeprefix("torch.")


def _as_cupy(value: Any, kind: str) -> Any:
    cupy = import_cupy()
    if getattr(value, "requires_grad", False):
        value = value.detach()
    if isinstance(value, cupy.ndarray):
        return value
    return cupy.from_dlpack(_bits_of(value) if kind == "bfloat16" else value)


def _contiguous(array: Any) -> bool:
    if hasattr(array, "is_contiguous"):  # torch
        return bool(array.is_contiguous())
    return bool(getattr(getattr(array, "flags", None), "c_contiguous", False))  # JAX has no flags and cannot be written


def _bits_of(value: Any) -> Any:
    """Return bfloat16 of torch or JAX as 16-bit integers over the same memory."""
    torch = sys.modules.get("torch")
    return value.view(torch.int16 if torch is not None and isinstance(value, torch.Tensor) else np.uint16)


def import_cupy() -> Any:
    """Return the package CuPy; DependencyError where it is missing."""
    try:
        import cupy
    except ImportError:
        raise DependencyError(
            f"x: arrays in GPU memory need cupy: {install_command('cuda12')}, for CUDA 13 {install_command('cuda13')}"
        ) from None
    return cupy
