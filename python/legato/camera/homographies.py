"""Homographies as the group SL(3): logarithm and exponential, and the change between pixels and frame widths."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from legato import _core, _dispatch
from legato._arrays import Float64, as_matrices, output_like
from legato.camera import _reference
from legato.errors import ArgumentError, HomographyError

__all__ = ["HomographyError", "exp_homography", "log_homography", "pixel_map"]


def log_homography(
    homography: ArrayLike,
    *,
    out: Float64 | None = None,
    threads: int = 1,
    backend: str | None = None,
) -> Float64:
    """Logarithm of homographies, normalized to determinant 1.

    Parameters
    ----------
    homography : array_like, shape (..., 3, 3)
        Invertible matrices of any scale, in any unit of length.
    out : ndarray, optional
        float64 array of the same shape to write into.
    threads : int
        Threads to use; the result does not depend on it.
    backend : {"native", "numpy"}, optional

    Returns
    -------
    ndarray, shape (..., 3, 3), float64
        Trace 0: ``expm(result) = H / cbrt(det H)``. Exact for pure translations.

    Raises
    ------
    HomographyError
        A matrix is not finite, is singular, or has no principal logarithm (an eigenvalue on the closed negative real
        axis after normalization, such as a roll of 180 degrees).
    ArgumentError
        The shape or dtype is wrong.

    Notes
    -----
    Inverse scaling and squaring with the series of ``2 artanh``; Cinematic-L1 (WACV 2021), section 2. Error below
    ``1e-13 + 1e-12 |log|``; the same bits on every instruction set.

    Examples
    --------
    >>> from legato import camera
    >>> camera.log_homography([[2, 0, 6], [0, 2, -4], [0, 0, 2]])
    array([[ 0.,  0.,  3.],
           [ 0.,  0., -2.],
           [ 0.,  0.,  0.]])
    """
    matrices = as_matrices("homography", homography)
    logs = output_like("out", out, matrices.shape)
    _check_threads(threads)
    if _dispatch.choose(backend) == "numpy":
        logs[...] = _reference.log_homography(matrices)
    else:
        _core.camera_log_homography(matrices.reshape(-1, 9), logs.reshape(-1, 9), threads)
    return logs


def exp_homography(
    log: ArrayLike,
    *,
    out: Float64 | None = None,
    threads: int = 1,
    backend: str | None = None,
) -> Float64:
    """Exponential of homography logarithms.

    Parameters
    ----------
    log : array_like, shape (..., 3, 3)
        Logarithms; trace 0 gives determinant 1.
    out : ndarray, optional
        float64 array of the same shape to write into.
    threads : int
        Threads to use; the result does not depend on it.
    backend : {"native", "numpy"}, optional

    Returns
    -------
    ndarray, shape (..., 3, 3), float64

    Raises
    ------
    HomographyError
        An entry is not finite, or an absolute row sum is above 500 (the exponential would overflow).
    ArgumentError
        The shape or dtype is wrong.

    Notes
    -----
    Scaling and squaring with the Pade approximant (6, 6); relative error below 1e-12.

    Examples
    --------
    >>> from legato import camera
    >>> camera.exp_homography([[0, 0, 3], [0, 0, -2], [0, 0, 0]])
    array([[ 1.,  0.,  3.],
           [ 0.,  1., -2.],
           [ 0.,  0.,  1.]])
    """
    logs = as_matrices("log", log)
    homographies = output_like("out", out, logs.shape)
    _check_threads(threads)
    if _dispatch.choose(backend) == "numpy":
        homographies[...] = _reference.exp_homography(logs)
    else:
        _core.camera_exp_homography(logs.reshape(-1, 9), homographies.reshape(-1, 9), threads)
    return homographies


def pixel_map(size: tuple[int, int]) -> Float64:
    """Map from frame widths (origin at the frame center) to pixels (pixel centers at whole numbers), shape (3, 3)."""
    width, height = size
    return np.array([[width, 0.0, (width - 1) / 2], [0.0, width, (height - 1) / 2], [0.0, 0.0, 1.0]])


def _check_threads(threads: int) -> None:
    if not isinstance(threads, int) or threads < 1:
        raise ArgumentError(f"threads: expected an integer of at least 1, got {threads!r}")
