"""Homographies as the group SL(3): logarithm and exponential, and the change between pixels and frame widths."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from legato import _core, _dispatch
from legato._arrays import Float64, as_float64, as_matrices, on_device, output_apart
from legato._dispatch import Backend
from legato._extras import install_command
from legato._gpu import as_given, check_backend
from legato._scalars import as_threads
from legato.camera import _reference
from legato.errors import DependencyError, HomographyError

__all__ = ["HomographyError", "coordinate_map", "exp_homography", "log_homography", "to_pixel_units", "to_width_units"]


def log_homography(
    homography: ArrayLike,
    *,
    out: Float64 | None = None,
    threads: int = 1,
    backend: Backend | None = None,
) -> Float64:
    """Logarithm of homographies, normalized to determinant 1.

    Parameters
    ----------
    homography : array_like, shape (..., 3, 3)
        Invertible matrices of any scale, in any unit of length. In GPU memory the kernel of ``cpp/cuda`` runs through
        CuPy, with the same bits.
    out : ndarray, optional
        float64 array of the same shape to write into; it may be the input, or overlap it.
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

    See Also
    --------
    exp_homography : Exponential of homography logarithms.

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
    if on_device(homography):
        from legato.camera import _cupy

        check_backend(backend)
        return as_given(homography, _cupy.log_homography(homography, out))  # type: ignore[no-any-return]
    matrices = as_matrices("homography", homography)
    logs, (matrices,) = output_apart("out", out, matrices.shape, "float64", [matrices])
    threads = as_threads(threads)
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
    backend: Backend | None = None,
) -> Float64:
    """Exponential of homography logarithms.

    Parameters
    ----------
    log : array_like, shape (..., 3, 3)
        Logarithms; trace 0 gives determinant 1. In GPU memory as for `log_homography`.
    out : ndarray, optional
        float64 array of the same shape to write into; it may be the input, or overlap it.
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

    See Also
    --------
    log_homography : Logarithm of homographies, normalized to determinant 1.

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
    if on_device(log):
        from legato.camera import _cupy

        check_backend(backend)
        return as_given(log, _cupy.exp_homography(log, out))  # type: ignore[no-any-return]
    logs = as_matrices("log", log)
    homographies, (logs,) = output_apart("out", out, logs.shape, "float64", [logs])
    threads = as_threads(threads)
    if _dispatch.choose(backend) == "numpy":
        homographies[...] = _reference.exp_homography(logs)
    else:
        _core.camera_exp_homography(logs.reshape(-1, 9), homographies.reshape(-1, 9), threads)
    return homographies


def coordinate_map(homography: ArrayLike) -> Any:
    """Homography as compiled coordinates for `scipy.ndimage.geometric_transform`.

    Parameters
    ----------
    homography : array_like, shape (3, 3)
        From output pixels to source pixels, x before y.

    Returns
    -------
    scipy.LowLevelCallable
        For images of two axes, rows before columns. SciPy calls it without the interpreter.

    Raises
    ------
    ArgumentError
        The shape or dtype is wrong.
    DependencyError
        SciPy is missing.

    See Also
    --------
    legato.video.warp : Pictures of several planes, without SciPy.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import ndimage
    >>> from legato import camera
    >>> shift = camera.coordinate_map([[1, 0, 1], [0, 1, 0], [0, 0, 1]])
    >>> ndimage.geometric_transform(np.arange(6.0).reshape(2, 3), shift, order=1)
    array([[1., 2., 0.],
           [4., 5., 0.]])
    """
    matrix = as_float64("homography", homography, (3, 3))
    try:
        from scipy import LowLevelCallable
    except ImportError:
        raise DependencyError(f"SciPy is missing: {install_command('solvers')}") from None
    owner = _core.camera_homography_capsule(matrix)
    return LowLevelCallable.from_cython(_core, "legato_camera_coordinates", owner)


def to_width_units(homography: Float64, size: tuple[int, int]) -> Float64:
    """Homographies (..., 3, 3) from pixels (centers at whole numbers) to frame widths (origin at the frame center).

    Entry by entry rather than by matrix products, so that multiples of the identity stay exactly that.
    """
    width, height = size
    cx, cy = (width - 1) / 2, (height - 1) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = homography / np.where(homography[..., 2:, 2:] == 0, 1.0, homography[..., 2:, 2:])
        m = scaled * np.array([width, width, 1.0])
        m[..., 2] = scaled[..., 0] * cx + scaled[..., 1] * cy + scaled[..., 2]
        m[..., 0, :] = (m[..., 0, :] - cx * m[..., 2, :]) / width
        m[..., 1, :] = (m[..., 1, :] - cy * m[..., 2, :]) / width
    return np.ascontiguousarray(m)


def to_pixel_units(homography: Float64, size: tuple[int, int]) -> Float64:
    """Homographies (..., 3, 3) from frame widths to pixels, with h33 = 1; the inverse of `to_width_units`."""
    width, height = size
    cx, cy = (width - 1) / 2, (height - 1) / 2
    m = homography.copy()
    m[..., 0, :] = width * homography[..., 0, :] + cx * homography[..., 2, :]
    m[..., 1, :] = width * homography[..., 1, :] + cy * homography[..., 2, :]
    m[..., :2] /= width
    m[..., 2] -= cx * m[..., 0] + cy * m[..., 1]
    return np.asarray(m / m[..., 2:, 2:])
