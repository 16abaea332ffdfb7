"""Logarithms and exponentials of homographies in GPU memory, by the kernels of cpp/cuda/camera.cuh."""

from __future__ import annotations

from typing import Any

import numpy as np

from legato._gpu import import_cupy, launch, of_type, target
from legato.errors import ArgumentError, HomographyError

__all__ = ["exp_homography", "log_homography"]

_MATRICES = 64  # of a block of threads


def log_homography(homography: Any, out: Any) -> Any:
    """`legato.camera.log_homography` of a CuPy array or another in GPU memory."""
    logs, given, defects = _mapped("homography", homography, out, "log_homography")
    for at in _first_bad(defects):
        finite = bool(import_cupy().isfinite(given.reshape(-1, 9)[at]).all())
        text = "a matrix that must be invertible is singular" if finite else "the input holds NaN or infinity"
        if int(defects[at]) == 2:
            text = "a homography has no principal logarithm"
        raise HomographyError(f"homography[{at}]: {text}")
    return logs


def exp_homography(log: Any, out: Any) -> Any:
    """`legato.camera.exp_homography` of a CuPy array or another in GPU memory."""
    homographies, _, defects = _mapped("log", log, out, "exp_homography")
    for at in _first_bad(defects):
        raise HomographyError(f"log[{at}]: the input holds NaN or infinity, or a row beyond 500")
    return homographies


def _mapped(name: str, given: Any, out: Any, kernel: str) -> tuple[Any, Any, Any]:
    cupy = import_cupy()
    shape = tuple(map(int, given.shape))
    if shape[-2:] != (3, 3):
        raise ArgumentError(f"{name}: expected shape (..., 3, 3), got {shape}")
    matrices = of_type(name, given, np.float64, shape)
    found = cupy.empty_like(matrices) if out is None else target(out, shape, "float64")
    if cupy.may_share_memory(found, matrices):  # a copy, so that a bad matrix can still be looked at
        matrices = matrices.copy()
    n = matrices.size // 9
    with matrices.device:
        defects = cupy.empty(n, np.uint8)
        launch("camera", kernel, -(-n // _MATRICES), _MATRICES, np.uint64(n), matrices, found, defects)
    return found if out is None else out, matrices, defects


def _first_bad(defects: Any) -> list[int]:
    return [int(import_cupy().argmax(defects != 0))] if bool((defects != 0).any()) else []
