"""Quality of a camera path from known transforms, in pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from legato._arrays import Float64, as_float64
from legato._scalars import as_number
from legato.camera.frames import move_points
from legato.camera.options import check_size
from legato.errors import ArgumentError

__all__ = ["PathMetrics", "Sway", "path_metrics", "path_sway"]

# Hz: what a body that walks or stands does, between the pans that are meant and the tremble of hands.
_SWAY_HZ = (0.3, 1.5)


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
    cropping, cropping_min, cropping_area : float
        Linear scale of the picture that is kept, at most 1: mean and minimum over frames, and the mean of its square.
    distortion : float
        Smallest ratio, over frames, of the singular values of the affine part of the correction; 1 is none.
    stability, input_stability : float
        Share of the energy of the corners' velocities at frequencies up to 1/30 cycle a frame (1 Hz at 30 fps), after
        and before. 1 for a static camera and for a constant pan.
    stability_translation, stability_rotation : float
        The field's usual definition, for comparison: the stabilized motions multiplied up; of the length of the
        translation, and of the roll, the energy in the five lowest bins over that in all but the mean. It cannot see
        jitter under a pan and depends on the length of the clip. 1 where the signal is constant.

    See Also
    --------
    path_metrics : Measure a path from its motion and corrections.
    path_sway : Measure the sway that a path leaves.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import camera
    >>> still = np.tile(np.eye(3), (10, 1, 1))
    >>> metrics = camera.path_metrics(still, still, size=(640, 360))
    >>> metrics.jitter_px, metrics.cropping, metrics.stability
    (0.0, 1.0, 1.0)
    """

    jitter_px: float
    input_jitter_px: float
    velocity_px: float
    input_velocity_px: float
    cropping: float
    cropping_min: float
    cropping_area: float
    distortion: float
    stability: float
    input_stability: float
    stability_translation: float
    stability_rotation: float


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

    See Also
    --------
    path_sway : Measure the sway that a path leaves.
    legato.video.evaluate : Measure a stabilized video against its original.

    Notes
    -----
    The stabilized motion is P_{t-1}^-1 F_t P_t exactly, not its linear model. The scale of a correction M is
    1 / sqrt(det A) with A the affine part of M^-1, which, unlike sqrt(m00 m11), does not count roll as zoom.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import camera
    >>> motion = np.tile(np.eye(3), (60, 1, 1))
    >>> motion[:, 0, 2] = 2.0 * (-1.0) ** np.arange(60)
    >>> path = camera.smooth_path(motion, size=(640, 360))
    >>> metrics = camera.path_metrics(motion, path.corrections, size=(640, 360))
    >>> round(metrics.input_jitter_px, 2), bool(metrics.jitter_px < 0.01)
    (4.0, True)
    """
    width, height = check_size(size)
    F = as_float64("motion", motion, (None, 3, 3)).copy()
    P = as_float64("corrections", corrections, (len(F), 3, 3))
    if len(F) == 0:
        raise ArgumentError("motion: expected at least one frame")
    F[0] = np.eye(3)
    if not np.isfinite(F).all():
        raise ArgumentError("motion: expected finite matrices")
    inverse = _inverse(P)
    corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], float)
    steady = inverse[:-1] @ F[1:] @ P[1:]
    after = move_points(steady, corners) - corners
    before = move_points(F[1:], corners) - corners
    with np.errstate(all="ignore"):
        affine = inverse[:, :2, :2] / inverse[:, 2:, 2:]
    if not np.isfinite(affine).all():
        raise ArgumentError("corrections: expected invertible matrices that keep the frame's corner finite")
    singular = np.linalg.svd(affine, compute_uv=False)
    scale = np.minimum(1, 1 / np.sqrt(singular.prod(-1)))
    translation, roll = _accumulated(steady)
    return PathMetrics(
        jitter_px=_rms(np.diff(after, axis=0)),
        input_jitter_px=_rms(np.diff(before, axis=0)),
        velocity_px=_rms(after),
        input_velocity_px=_rms(before),
        cropping=float(scale.mean()),
        cropping_min=float(scale.min()),
        cropping_area=float((scale**2).mean()),
        distortion=float((singular[:, 1] / singular[:, 0]).min()),
        stability=_slow_share(after),
        input_stability=_slow_share(before),
        stability_translation=_low_bins(translation),
        stability_rotation=_low_bins(roll),
    )


class Sway(NamedTuple):
    """Slow to and fro of a picture, between 0.3 and 1.5 Hz.

    Attributes
    ----------
    px : float
        Root mean square over the four corners of how far they are from where they would be without it, pixels.
    roll_deg : float
        Root mean square roll about the center of the picture, degrees.

    See Also
    --------
    path_sway : Measure the sway that a path leaves.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import camera
    >>> still = np.tile(np.eye(3), (120, 1, 1))
    >>> camera.path_sway(still, still, size=(640, 360), fps=30)
    Sway(px=0.0, roll_deg=0.0)
    """

    px: float
    roll_deg: float


def path_sway(motion: ArrayLike, corrections: ArrayLike, size: tuple[int, int], fps: float) -> Sway:
    """Measure the sway that a path leaves.

    Parameters
    ----------
    motion, corrections, size
        As for `path_metrics`; identities as corrections give the sway of the input.
    fps : float
        Frames a second.

    Returns
    -------
    Sway
        NaN where the clip is too short to have a frequency of the band.

    See Also
    --------
    path_metrics : Measure a path from its motion and corrections.

    Notes
    -----
    Velocities of the corners, and of the roll of the Jacobian at the center, are added up; linear trend off, Hann
    window, power between the two frequencies. At the origin, where it is often taken, keystone counts as roll.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import camera
    >>> swaying = np.tile(np.eye(3), (150, 1, 1))
    >>> swaying[:, 0, 2] = np.diff(10.0 * np.sin(2 * np.pi * np.arange(151) / 30))      # 10 px, once a second
    >>> sway = camera.path_sway(swaying, np.tile(np.eye(3), (150, 1, 1)), size=(640, 360), fps=30)
    >>> round(sway.px), round(sway.roll_deg, 3)
    (7, 0.0)
    """
    width, height = check_size(size)
    rate = as_number("fps", fps, above=0)
    F = as_float64("motion", motion, (None, 3, 3))
    P = as_float64("corrections", corrections, (len(F), 3, 3))
    if len(F) < 2:
        return Sway(np.nan, np.nan)
    steady = _inverse(P[:-1]) @ F[1:] @ P[1:]
    corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], float)
    places = np.cumsum(move_points(steady, corners) - corners, axis=0).reshape(len(steady), 8)
    roll = np.cumsum(np.degrees(rolls_of(steady, (width, height))))
    power = _band_power(np.column_stack([places, roll]), rate)
    return Sway(float(np.sqrt(power[:8].sum() / 4)), float(np.sqrt(power[8])))


def rolls_of(motion: Float64, size: tuple[int, int]) -> Float64:
    """Radians by which each of the homographies (n, 3, 3) turns the center of a picture."""
    # d(x / z) = (dx - (x / z) dz) / z, at the center; the scale 1 / z turns nothing.
    center = motion @ np.array([(size[0] - 1) / 2, (size[1] - 1) / 2, 1.0])
    at = center[:, :2] / center[:, 2:]
    J = (motion[:, :2, :2] - at[:, :, None] * motion[:, 2:, :2]) / center[:, 2:, None]
    return np.asarray(np.arctan2(J[:, 1, 0] - J[:, 0, 1], J[:, 0, 0] + J[:, 1, 1]))


def _inverse(corrections: Float64) -> Float64:
    try:
        return np.asarray(np.linalg.inv(corrections), np.float64)
    except np.linalg.LinAlgError:
        raise ArgumentError("corrections: expected invertible matrices") from None


def _band_power(signals: Float64, rate: float) -> Float64:
    """Mean square of each column (n, k) within the band of sway; NaN where no frequency lies in it."""
    n = len(signals)
    low, high = _SWAY_HZ
    frequency = np.fft.rfftfreq(n, 1 / rate)
    inside = (frequency >= low) & (frequency < high)
    window = np.hanning(n)
    if not inside.any() or not window.any():
        return np.full(signals.shape[1], np.nan)
    trend = np.column_stack([np.arange(n), np.ones(n)])
    rest = signals - trend @ np.linalg.lstsq(trend, signals, rcond=None)[0]
    spectrum = np.abs(np.fft.rfft(rest * window[:, None], axis=0)[inside]) ** 2
    return np.asarray(2 * spectrum.sum(0) / (n * (window**2).sum()))


def _rms(displacement: Float64) -> float:
    return float(np.sqrt((displacement**2).sum(-1).mean())) if displacement.size else 0.0


def _slow_share(velocity: Float64) -> float:
    """Energy at up to 1/30 cycle a frame over all energy; velocity (n - 1, 4, 2)."""
    if len(velocity) == 0:
        return 1.0
    energy = (np.abs(np.fft.rfft(velocity, axis=0)) ** 2).sum((1, 2))
    energy[1 : (len(velocity) + 1) // 2] *= 2  # the mirrored half of the spectrum
    slow = np.fft.rfftfreq(len(velocity)) <= 1 / 30 + 1e-12
    return float(energy[slow].sum() / energy.sum()) if energy.sum() > 1e-18 * velocity.size else 1.0


def _accumulated(steady: Float64) -> tuple[Float64, Float64]:
    """Length of the translation, and roll, of the products of (n - 1, 3, 3) motions."""
    M = np.eye(3)
    translation, roll = np.zeros(len(steady)), np.zeros(len(steady))
    for t, step in enumerate(steady):
        M = M @ step
        M = M / M[2, 2]
        translation[t], roll[t] = np.hypot(M[0, 2], M[1, 2]), np.arctan2(M[1, 0], M[0, 0])
    return translation, np.unwrap(roll)


def _low_bins(signal: Float64) -> float:
    if len(signal) == 0 or np.ptp(signal) <= 1e-9:
        return 1.0
    energy = np.abs(np.fft.rfft(signal)) ** 2
    return float(energy[1:6].sum() / energy[1:].sum())
