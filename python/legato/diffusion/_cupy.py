"""Noise and steps in GPU memory, by the kernels of cpp/cuda/diffusion.cuh."""

from __future__ import annotations

from typing import Any

import numpy as np

from legato._arrays import Float64
from legato._gpu import NULL, import_cupy, launch, stored, target
from legato.errors import ArgumentError

__all__ = ["apply_step", "fill_normal"]

_THREADS = 256


def fill_normal(out: Any, address: tuple[Any, ...], shape: tuple[int, ...], dtype: str) -> None:
    """Fill `out` with what `legato.diffusion.normal` draws; `address` as `Streams.address` gives it."""
    array = target(out, shape, dtype)
    with array.device:
        _launch(f"normal_{dtype}", shape[0], array.size, *_noise(*address), array)


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
    cupy = import_cupy()
    state, storage = stored("x", x)
    if state.ndim == 0:
        raise ArgumentError("x: expected at least one axis, that of the samples")
    others = []
    for name, value in (("eps", eps), ("eps_uncond", eps_uncond), ("noise", noise)):
        array = None if value is None else stored(name, value, storage)[0]
        if array is not None and array.shape != state.shape:
            raise ArgumentError(f"{name}: expected shape {state.shape}, got {array.shape}")
        others.append(NULL if array is None else array)
    after = cupy.empty_like(state) if out is None else target(out, state.shape, storage)
    state = _apart(state, after)
    others = [value if value is NULL else _apart(value, after) for value in others]
    with state.device:
        rows = NULL if len(table) == 1 else cupy.asarray(table)
        _launch(
            f"step_{storage}", state.shape[0], state.size, *(np.float64(c) for c in table[0]), rows,
            state, *others, *_noise(*address), after,
        )  # fmt: skip
    return after if out is None else out


def _noise(array: Any, shared: bool, first: int, step: int, substep: int, philox: bool) -> tuple[Any, ...]:
    seeds = NULL if shared else import_cupy().asarray(array)
    seed = array[0] if array.size else np.uint64(0)
    return seed, seeds, np.uint64(first), np.uint32(step), np.uint32(substep), np.int32(philox)


def _launch(name: str, samples: int, size: int, *arguments: Any) -> None:
    if size == 0:
        return
    elements = size // samples
    blocks = -(-samples * -(-elements // 4) // _THREADS)
    launch("diffusion", name, blocks, _THREADS, np.uint64(samples), np.uint64(elements), *arguments)


def _apart(value: Any, written: Any) -> Any:
    """`value`, or a copy where writing `written` would change it before it is read (as `output_apart`)."""
    if value.data.ptr == written.data.ptr or not import_cupy().may_share_memory(value, written):
        return value
    return value.copy()
