"""Quality of a camera path from known transforms, in pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from legato._arrays import Float64, as_float64
from legato.camera.paths import check_size, move_points
from legato.errors import ArgumentError

__all__ = ["PathMetrics", "path_metrics"]


@dataclass(frozen=True)
class PathMetrics:
    """Quality of a camera path.

    Attributes
    ----------
    jitter_px, input_jitter_px : float
        Root mean square, over frames and the four frame corners, of the change from frame to frame of the corners'
        displacement (the path's acceleration), after and before; pixels per frame squared. 0 below three frames.
    velocity_px, input_velocity_px : float
        Root mean square displacement of the corners from frame to frame, after and before; pixels per frame.
    cropping : float
        Mean over frames of the linear scale of the picture that is kept, at most 1.
    distortion : float
        Smallest ratio, over frames, of the singular values of the affine part of the correction; 1 is none.
    """

    jitter_px: float
    input_jitter_px: float
    velocity_px: float
    input_velocity_px: float
    cropping: float
    distortion: float


def path_metrics(motion: ArrayLike, corrections: ArrayLike, size: tuple[int, int]) -> PathMetrics:
    """Measure a path from its motion and corrections.

    Parameters
    ----------
    motion : array_like, shape (n, 3, 3)
        Frame t to frame t - 1, pixels; ``motion[0]`` is not read.
    corrections : array_like, shape (n, 3, 3)
        Output pixels to input pixels: ``path.corrections``, or ``path.corrections @ crop_map(size, options)`` to count
        the window scale too.
    size : (width, height)

    Returns
    -------
    PathMetrics

    Notes
    -----
    The stabilized motion is P_{t-1}^-1 F_t P_t exactly, not its linear model. The scale of a correction M is
    1 / sqrt(det A) with A the affine part of M^-1, which, unlike sqrt(m00 m11), does not count roll as zoom.
    """
    width, height = check_size(size)
    F = as_float64("motion", motion, (None, 3, 3)).copy()
    P = as_float64("corrections", corrections, (len(F), 3, 3))
    if len(F) == 0:
        raise ArgumentError("motion: expected at least one frame")
    F[0] = np.eye(3)
    try:
        inverse = np.linalg.inv(P)
    except np.linalg.LinAlgError:
        raise ArgumentError("corrections: expected invertible matrices") from None
    corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], float)
    after = move_points(inverse[:-1] @ F[1:] @ P[1:], corners) - corners
    before = move_points(F[1:], corners) - corners
    affine = inverse[:, :2, :2] / inverse[:, 2:, 2:]
    singular = np.linalg.svd(affine, compute_uv=False)
    return PathMetrics(
        jitter_px=_rms(np.diff(after, axis=0)),
        input_jitter_px=_rms(np.diff(before, axis=0)),
        velocity_px=_rms(after),
        input_velocity_px=_rms(before),
        cropping=float(np.minimum(1, 1 / np.sqrt(singular.prod(-1))).mean()),
        distortion=float((singular[:, 1] / singular[:, 0]).min()),
    )


def _rms(displacement: Float64) -> float:
    return float(np.sqrt((displacement**2).sum(-1).mean())) if displacement.size else 0.0
