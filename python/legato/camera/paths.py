"""L1-optimal camera paths of whole clips (Cinematic-L1, WACV 2021)."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from legato import _core, _dispatch
from legato._arrays import Float64, as_float64
from legato.camera import _reference
from legato.camera.homographies import exp_homography, log_homography, to_pixel_units, to_width_units
from legato.errors import ArgumentError, InfeasibleError

__all__ = [
    "CameraPath",
    "InfeasibleError",
    "PathOptions",
    "bridge_motion",
    "contain",
    "crop_map",
    "smooth_path",
]


@dataclass(frozen=True)
class PathOptions:
    """Options of a camera path. Lengths are in frame widths, weights are for 30 frames a second.

    The paper publishes no weights; the defaults were chosen on real clips and matter little over two to four decades.
    What matters is `crop`.

    Parameters
    ----------
    crop : float
        At least ``1 - crop`` of the field of view (linear) is kept; 0 < crop < 1 (paper, section 4).
    window_scale : float, optional
        Scale of the crop window that corrections move; ``None``: ``1 - crop / 2``.
    weights : tuple of 4 floats
        w0 (L2 fidelity, above 0) and w1, w2, w3 (L1 of the first, second, third differences); paper, equation (4).
    anisotropy, shear : float
        Weights of (p11 - p22)^2 and (p12 + p21)^2 (paper, section 5).
    keystone : float
        Weight of (p31 - R p13)^2 + (p32 - R p23)^2 (paper, section 5).
    keystone_ratio : float, optional
        R < 0; ``None``: estimated from the motion, clipped to [-3, -0.3].
    bound : float
        Bound on the absolute entries of log P_t.
    inset_px : float
        The crop window stays this many pixels inside the frame.
    relinearize : int
        Rounds of sequential re-linearization about the present path, which make the model's velocities and crop
        exact; up to four more are done while a frame violates the crop by more than 0.05 px. 0 is the paper's linear
        model.
    tolerance : float
        Relative gap at which the solver stops.
    max_iterations : int
        Iteration cap of each solve; the path is feasible at any cap.
    """

    crop: float = 0.12
    window_scale: float | None = None
    weights: tuple[float, float, float, float] = (1.0, 1.0, 10.0, 100.0)
    anisotropy: float = 1000.0
    shear: float = 1000.0
    keystone: float = 100.0
    keystone_ratio: float | None = None
    bound: float = 1.0
    inset_px: float = 0.0
    relinearize: int = 2
    tolerance: float = 1e-6
    max_iterations: int = 100

    def __post_init__(self) -> None:
        weights = tuple(float(w) for w in self.weights)
        if len(weights) != 4 or not all(0 <= w < 1e12 for w in weights) or weights[0] <= 0:
            raise ArgumentError(f"weights: expected four numbers, the first above 0, none below, got {self.weights}")
        object.__setattr__(self, "weights", weights)
        _check_real("crop", self.crop, 0, 1)
        if self.window_scale is not None and not 1 - self.crop <= self.window_scale <= 1:
            raise ArgumentError(
                f"window_scale: expected a number from 1 - crop to 1, got {self.window_scale} with crop {self.crop}"
            )
        for name in ("anisotropy", "shear", "keystone", "inset_px"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and 0 <= value < 1e12):
                raise ArgumentError(f"{name}: expected a number of at least 0, got {value!r}")
        if self.keystone_ratio is not None and not math.isfinite(self.keystone_ratio):
            raise ArgumentError(f"keystone_ratio: expected a finite number, got {self.keystone_ratio}")
        _check_real("bound", self.bound, 0, math.inf)
        _check_real("tolerance", self.tolerance, 0, 1)
        for name in ("relinearize", "max_iterations"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 0:
                raise ArgumentError(f"{name}: expected an integer of at least 0, got {value!r}")

    @property
    def effective_window_scale(self) -> float:
        """`window_scale`, or ``1 - crop / 2``."""
        return 1 - self.crop / 2 if self.window_scale is None else self.window_scale

    def at_frame_rate(self, fps: float) -> PathOptions:
        """Return the options with weights that keep the same continuous-time objective at another frame rate.

        Differences of order k scale as dt^k, so w0 and the other quadratic weights are multiplied by 30 / fps, w2 by
        fps / 30 and w3 by (fps / 30)^2.
        """
        _check_real("fps", fps, 0, math.inf)
        rate = fps / 30
        w0, w1, w2, w3 = self.weights
        return dataclasses.replace(
            self,
            weights=(w0 / rate, w1, w2 * rate, w3 * rate**2),
            anisotropy=self.anisotropy / rate,
            shear=self.shear / rate,
            keystone=self.keystone / rate,
        )


@dataclass(frozen=True, eq=False)
class CameraPath:
    """A solved camera path.

    Attributes
    ----------
    corrections : ndarray, shape (n, 3, 3)
        P_t, in the units of the motion: acts on the crop window, so the window's point x samples the input at P_t x.
    log_corrections : ndarray, shape (n, 3, 3)
        log P_t in frame widths.
    status : str
        "optimal"; "iteration_limit" or "numerical_trouble", where the path is feasible but its gap larger than asked.
    objective, gap : float
        Objective of the (last) linear model and its certified absolute gap: the optimum is at least objective - gap.
    iterations, rounds : int
        Interior-point iterations of all solves; re-linearizations.
    violation_px : ndarray, shape (n,)
        Exact distance, in input pixels, by which the window leaves its allowed rectangle; 0 where it is inside.
    keystone_ratio : float
        The R that was used.
    """

    corrections: Float64
    log_corrections: Float64
    status: str
    objective: float
    gap: float
    iterations: int
    rounds: int
    violation_px: Float64
    keystone_ratio: float


_STATUS = {0: "optimal", 7: "iteration_limit", 8: "numerical_trouble"}


def smooth_path(
    motion: ArrayLike,
    size: tuple[int, int],
    options: PathOptions | None = None,
    *,
    units: str = "pixel",
    fixed: ArrayLike | None = None,
    frame_weight: ArrayLike | None = None,
    backend: str | None = None,
) -> CameraPath:
    """Find the L1-optimal camera path of a clip, the whole clip in one solve.

    Parameters
    ----------
    motion : array_like, shape (n, 3, 3)
        Homographies of any scale that map coordinates of frame t to frame t - 1; ``motion[0]`` is not read.
    size : (width, height)
        Frame size in pixels.
    options : PathOptions, optional
    units : {"pixel", "width"}
        "pixel": pixel centers at whole numbers. "width": origin at the frame center, unit one frame width.
    fixed : array_like, shape (k, 3, 3), optional
        Corrections of the first k frames, held.
    frame_weight : array_like, shape (n,), optional
        Factors on the fidelity weight w0 of each frame, above 0.
    backend : {"native", "numpy"}, optional

    Returns
    -------
    CameraPath

    Raises
    ------
    ArgumentError
        A shape or a value is wrong.
    HomographyError
        A motion is singular, not finite, or without a principal logarithm; the message names the frame.

    Notes
    -----
    Paper: Cinematic-L1, equation (4) with the terms of sections 4 and 5. The solver is a block-banded primal-dual
    interior point: time and memory linear in n, every iterate feasible, no allocation inside, the same bits on every
    instruction set.
    """
    options = PathOptions() if options is None else options
    width, height = check_size(size)
    F = as_float64("motion", motion, (None, 3, 3))
    n = len(F)
    held = np.empty((0, 3, 3)) if fixed is None else as_float64("fixed", fixed, (None, 3, 3))
    if len(held) > n:
        raise ArgumentError(f"fixed: expected at most {n} corrections, as many as motion has frames, got {len(held)}")
    weight = np.empty(0)
    if frame_weight is not None:
        weight = as_float64("frame_weight", frame_weight, (n,))
        if not ((weight > 0) & (weight < 1e12)).all():
            raise ArgumentError("frame_weight: expected numbers above 0")
    if units == "pixel":
        F, held = to_width_units(F, (width, height)), to_width_units(held, (width, height))
    elif units != "width":
        raise ArgumentError(f'units: expected "pixel" or "width", got {units!r}')
    aspect = height / width
    inset = options.inset_px / width
    room = min(1 - 2 * inset, 1 - 2 * inset / aspect)
    if not room > 1 - options.crop:
        raise ArgumentError(f"inset_px: expected less than the crop leaves free, got {options.inset_px}")

    corrections, logs, violation = np.empty((n, 3, 3)), np.empty((n, 3, 3)), np.empty(n)
    if _dispatch.choose(backend) == "numpy":
        path = _reference.smooth_path(
            F,
            aspect,
            _WidthOptions(options, inset, 1 / width),
            held if len(held) else None,
            weight if len(weight) else None,
        )
        corrections, logs, violation = path.corrections, path.logs, path.violation
        status = "optimal" if path.optimal else "iteration_limit"
        found: dict[str, Any] = {
            "objective": path.objective,
            "gap": path.gap,
            "iterations": path.iterations,
            "rounds": path.rounds,
            "keystone_ratio": path.ratio,
        }
    else:
        found = _core.camera_smooth_path(
            F.reshape(n, 9),
            aspect,
            _core.CameraPathOptions(
                crop=options.crop,
                window_scale=options.window_scale or 0.0,
                weights=options.weights,
                anisotropy=options.anisotropy,
                shear=options.shear,
                keystone=options.keystone,
                keystone_ratio=math.nan if options.keystone_ratio is None else options.keystone_ratio,
                bound=options.bound,
                inset=inset,
                pixel=1 / width,
                relinearize=options.relinearize,
                tolerance=options.tolerance,
                max_iterations=options.max_iterations,
            ),
            held.reshape(-1, 9),
            weight,
            corrections.reshape(n, 9),
            logs.reshape(n, 9),
            violation,
        )
        status = _STATUS[found["status"]]
    if units == "pixel":
        corrections = to_pixel_units(corrections, (width, height))
    return CameraPath(
        corrections=corrections,
        log_corrections=logs,
        status=status,
        objective=found["objective"],
        gap=found["gap"],
        iterations=found["iterations"],
        rounds=found["rounds"],
        violation_px=violation * width,
        keystone_ratio=found["keystone_ratio"],
    )


class _WidthOptions:
    """`PathOptions` as the reference reads them, with the lengths that depend on the frame size in frame widths."""

    def __init__(self, options: PathOptions, inset: float, pixel: float) -> None:
        self._options = options
        self.inset = inset
        self.pixel = pixel

    def __getattr__(self, name: str) -> object:
        return getattr(self._options, name)


def crop_map(size: tuple[int, int], options: PathOptions | None = None) -> Float64:
    """Map from output pixels to pixels of the crop window, shape (3, 3).

    The output is as large as the input, so this is a scaling by the window scale about the frame center;
    ``corrections[t] @ crop_map(size, options)`` maps output pixels to input pixels.
    """
    width, height = check_size(size)
    scale = (PathOptions() if options is None else options).effective_window_scale
    return np.array([[scale, 0, (1 - scale) * (width - 1) / 2], [0, scale, (1 - scale) * (height - 1) / 2], [0, 0, 1]])


def bridge_motion(motion: ArrayLike, ok: ArrayLike) -> Float64:
    """Fill failed motion estimates.

    Between two good frames the logarithms are interpolated linearly; before the first and after the last good one the
    motion is the identity.

    Parameters
    ----------
    motion : array_like, shape (n, 3, 3)
        Frame t to frame t - 1. What stands in failed frames and in frame 0 is not read.
    ok : array_like of bool, shape (n,)
        Frames whose motion can be trusted.

    Returns
    -------
    ndarray, shape (n, 3, 3), float64
    """
    F = as_float64("motion", motion, (None, 3, 3)).copy()
    good = np.asarray(ok)
    if good.dtype != bool or good.shape != (len(F),):
        raise ArgumentError(f"ok: expected bool of shape ({len(F)},), got {good.dtype} of shape {good.shape}")
    if len(F) == 0:
        return F
    F[0] = np.eye(3)
    good = good.copy()
    good[0] = False
    known = np.flatnonzero(good)
    F[~good] = np.eye(3)
    if len(known):
        gap = np.flatnonzero(~good)
        gap = gap[(gap > known[0]) & (gap < known[-1])]
        if len(gap):
            logs = log_homography(F[known]).reshape(-1, 9)
            filled = np.column_stack([np.interp(gap, known, entry) for entry in logs.T])
            F[gap] = exp_homography(filled.reshape(-1, 3, 3))
    return F


def contain(corrections: ArrayLike, size: tuple[int, int], options: PathOptions | None = None) -> Float64:
    """Shrink corrections, frame by frame, until the exact crop window lies inside the frame.

    A frame whose window already lies inside is left alone; another's logarithm is multiplied by the largest factor
    below 1 that brings it inside (bisection to 2^-30).

    Parameters
    ----------
    corrections : array_like, shape (n, 3, 3)
        In pixels.
    size : (width, height)
    options : PathOptions, optional
        Their window scale and inset.

    Returns
    -------
    ndarray, shape (n, 3, 3), float64
    """
    options = PathOptions() if options is None else options
    width, height = check_size(size)
    P = as_float64("corrections", corrections, (None, 3, 3)).copy()
    corners = window_corners_px((width, height), options)
    low = np.array([-0.5, -0.5]) + options.inset_px
    high = np.array([width - 0.5, height - 0.5]) - options.inset_px

    def outside(transforms: Float64) -> NDArray[np.bool_]:
        moved = move_points(transforms, corners)
        # A zero denominator or a flipped point compares false; that counts as outside.
        return np.asarray(~((moved >= low) & (moved <= high)).all((1, 2)))

    bad = np.flatnonzero(outside(P))
    if len(bad) == 0:
        return P
    logs = log_homography(to_width_units(P[bad], (width, height)))

    def shrunk(factor: Float64) -> Float64:
        return to_pixel_units(exp_homography(logs * factor[:, None, None]), (width, height))

    inside_factor, outside_factor = np.zeros(len(bad)), np.ones(len(bad))
    for _ in range(30):
        factor = (inside_factor + outside_factor) / 2
        still_out = outside(shrunk(factor))
        outside_factor = np.where(still_out, factor, outside_factor)
        inside_factor = np.where(still_out, inside_factor, factor)
    P[bad] = shrunk(inside_factor)
    return P


def window_corners_px(size: tuple[int, int], options: PathOptions) -> Float64:
    """Corners of the crop window at rest, pixels, TL TR BR BL, shape (4, 2)."""
    width, height = size
    corners = _reference.window_corners(options.effective_window_scale, height / width)
    return np.asarray(corners * width + np.array([(width - 1) / 2, (height - 1) / 2]))


def move_points(transforms: Float64, points: Float64) -> Float64:
    """Images of points (m, 2) under homographies (n, 3, 3), shape (n, m, 2)."""
    moved = np.column_stack([points, np.ones(len(points))]) @ np.swapaxes(transforms, 1, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(moved[..., :2] / moved[..., 2:])


def check_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return (width, height) as integers of at least 1."""
    try:
        width, height = (int(x) for x in size)
    except (TypeError, ValueError):
        width = height = 0
    if width < 1 or height < 1:
        raise ArgumentError(f"size: expected (width, height) in pixels, got {size!r}")
    return width, height


def _check_real(name: str, value: float, above: float, below: float) -> None:
    if not (isinstance(value, int | float) and above < value < below):
        raise ArgumentError(f"{name}: expected a number between {above} and {below}, got {value!r}")
