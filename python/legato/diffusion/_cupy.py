"""Noise and steps in GPU memory: cpp/cuda/diffusion.cuh, compiled by NVRTC through CuPy when first used."""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import sys
from pathlib import Path
from typing import Any

import numpy as np

from legato._arrays import STORAGES, Float64, on_device
from legato._dispatch import Backend
from legato._extras import install_command
from legato.errors import ArgumentError, DependencyError

__all__ = ["apply_step", "check_backend", "fill_normal", "stored"]

_THREADS = 256
_NULL = np.uint64(0)
OPTIONS = ("--std=c++17", "--fmad=false", "--diag-suppress=161")  # no contraction: the CPU's bits. 161: GCC's pragmas
SOURCE = '#include "legato/cuda/diffusion.cuh"\n'


def check_backend(backend: Backend | None) -> None:
    """Refuse a choice where the memory has made it."""
    if backend is not None:
        raise ArgumentError(f"backend: expected none for arrays in GPU memory, got {backend!r}")


def stored(name: str, value: Any, storage: str | None = None) -> tuple[Any, str]:
    """Return `value` as a C-contiguous CuPy array and the name of its storage type, without a copy where it can.

    bfloat16 of other packages comes as integers of 16 bits over the same memory.
    """
    cupy = _import_cupy()
    if not on_device(value):
        raise ArgumentError(f"{name}: expected an array in GPU memory like the state, got {type(value).__name__}")
    kind = str(value.dtype).removeprefix("torch.")
    if kind not in STORAGES or storage not in (None, kind):
        raise ArgumentError(f"{name}: expected {storage or 'one of ' + ', '.join(STORAGES)}, got {kind}")
    if getattr(value, "requires_grad", False):
        value = value.detach()
    if not isinstance(value, cupy.ndarray):
        value = cupy.from_dlpack(_bits_of(value) if kind == "bfloat16" else value)
    return cupy.ascontiguousarray(value), kind


def fill_normal(out: Any, address: tuple[Any, ...], shape: tuple[int, ...], dtype: str) -> None:
    """Fill `out` with what `legato.diffusion.normal` draws; `address` as `Streams.address` gives it."""
    target = _target(out, shape, dtype)
    samples = shape[0]
    with target.device:
        _launch(f"legato_diffusion_normal_{dtype}", samples, target.size, *_noise(*address), target)


def apply_step(
    x: Any,
    eps: Any,
    eps_uncond: Any,
    noise: Any,
    table: Float64,
    address: tuple[Any, ...],
    out: Any,
) -> Any:
    """`legato.diffusion.apply_step` with its coefficients (1 or samples, 4) worked out."""
    cupy = _import_cupy()
    state, storage = stored("x", x)
    if state.ndim == 0:
        raise ArgumentError("x: expected at least one axis, that of the samples")
    others = []
    for name, value in (("eps", eps), ("eps_uncond", eps_uncond), ("noise", noise)):
        array = None if value is None else stored(name, value, storage)[0]
        if array is not None and array.shape != state.shape:
            raise ArgumentError(f"{name}: expected shape {state.shape}, got {array.shape}")
        others.append(_NULL if array is None else array)
    target = cupy.empty_like(state) if out is None else _target(out, state.shape, storage)
    state = _apart(state, target)
    others = [value if value is _NULL else _apart(value, target) for value in others]
    with state.device:
        rows = _NULL if len(table) == 1 else cupy.asarray(table)
        _launch(
            f"legato_diffusion_step_{storage}", state.shape[0], state.size, *(np.float64(c) for c in table[0]), rows,
            state, *others, *_noise(*address), target,
        )  # fmt: skip
    return target if out is None else out


def _noise(array: Any, shared: bool, first: int, step: int, substep: int, philox: bool) -> tuple[Any, ...]:
    seeds = _NULL if shared else _import_cupy().asarray(array)
    seed = array[0] if array.size else np.uint64(0)
    return seed, seeds, np.uint64(first), np.uint32(step), np.uint32(substep), np.int32(philox)


def _launch(name: str, samples: int, size: int, *arguments: Any) -> None:
    if size == 0:
        return
    elements = size // samples
    blocks = -(-samples * -(-elements // 4) // _THREADS)
    kernel = _module().get_function(name)
    kernel((min(blocks, 2**20),), (_THREADS,), (np.uint64(samples), np.uint64(elements), *arguments))


@functools.cache
def _module() -> Any:
    headers = Path(str(importlib.resources.files("legato") / "include"))
    seen = hashlib.sha256()  # CuPy caches compiled kernels by the text it is given, which would not see a new header
    for header in sorted(headers.rglob("*.*h")):
        seen.update(header.read_bytes())
    return _import_cupy().RawModule(code=f"// {seen.hexdigest()}\n{SOURCE}", options=(*OPTIONS, f"-I{headers}"))


def _target(out: Any, shape: tuple[int, ...], storage: str) -> Any:
    array, _ = stored("out", out, storage)
    if array.shape != shape or not _contiguous(out):
        raise ArgumentError(f"out: expected a C-contiguous {storage} array of shape {shape}, got {array.shape}")
    return array


def _apart(value: Any, target: Any) -> Any:
    """`value`, or a copy where writing `target` would change it before it is read (as `output_apart`)."""
    if value.data.ptr == target.data.ptr or not _import_cupy().may_share_memory(value, target):
        return value
    return value.copy()


def _contiguous(array: Any) -> bool:
    if hasattr(array, "is_contiguous"):  # torch
        return bool(array.is_contiguous())
    return bool(getattr(getattr(array, "flags", None), "c_contiguous", False))  # JAX has no flags and cannot be written


def _bits_of(value: Any) -> Any:
    """Return bfloat16 of torch or JAX as 16-bit integers over the same memory."""
    torch = sys.modules.get("torch")
    return value.view(torch.int16 if torch is not None and isinstance(value, torch.Tensor) else np.uint16)


def _import_cupy() -> Any:
    try:
        import cupy
    except ImportError:
        raise DependencyError(
            f"x: arrays in GPU memory need cupy: {install_command('cuda12')}, for CUDA 13 {install_command('cuda13')}"
        ) from None
    return cupy
