"""L1-optimal camera paths: what users call."""

from __future__ import annotations

import itertools
import math
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from legato import _dispatch
from legato._arrays import Float64, as_booleans, as_float64, as_indices
from legato._dispatch import Backend
from legato.camera import _reference
from legato.camera.frames import bridge_motion
from legato.camera.homographies import log_homography, to_pixel_units, to_width_units
from legato.camera.options import PathOptions, Units, check_options
from legato.camera.problem import (
    MODEL,
    Frames,
    Solution,
    Task,
    acceleration_rate,
    as_rolls,
    check_task,
    in_width_units,
    path_rows,
    salient_rows,
    solve_frames,
)
from legato.camera.programs import STATUS, BandedProgram, Solver
from legato.errors import ArgumentError

__all__ = ["CameraPath", "path_program", "smooth_path"]


@dataclass(frozen=True, eq=False, repr=False)
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
        With windows, the worst of them.
    objective, gap : float
        Objective of the (last) linear model and its certified absolute gap: the optimum is at least objective - gap.
        With windows: the whole path's objective, and NaN, because no window knows the whole.
    iterations, rounds : int
        Interior-point iterations of all solves; re-linearizations (of the window with most).
    violation_px : ndarray, shape (n,)
        Exact distance, in input pixels, by which the window leaves its allowed rectangle; 0 where it is inside.
    keystone_ratio : float
        The R that was used (last).
    motion : ndarray, shape (n, 3, 3)
        What was smoothed, in frame widths, missing motions filled in.
    size : (width, height)
    options : PathOptions

    See Also
    --------
    smooth_path : Find the L1-optimal camera path of a clip.
    path_metrics : Measure a path from its motion and corrections.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import camera
    >>> path = camera.smooth_path(np.tile(np.eye(3), (20, 1, 1)), size=(640, 360))
    >>> path.status, path.corrections.shape, bool(path.violation_px.max() == 0)
    ('optimal', (20, 3, 3), True)
    >>> path.plot("path.svg", fps=30)
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
    motion: Float64
    size: tuple[int, int]
    options: PathOptions

    def __repr__(self) -> str:
        """Return one line: frames, verdict, gap and the window's largest reach beyond the frame."""
        beyond = float(self.violation_px.max(initial=0.0))
        return (
            f"<CameraPath of {len(self.corrections)} frames of {self.size[0]}x{self.size[1]}: {self.status}, "
            f"gap {self.gap:.2g}, at most {beyond:.2g} px outside>"
        )

    def _repr_svg_(self) -> str | None:
        """Draw what notebooks show: the camera before and after."""
        from legato.camera.plotting import path_picture

        return path_picture(self.motion, self.log_corrections, self.size) if len(self.corrections) else None

    def plot(self, destination: str | os.PathLike[str], *, fps: float | None = None, zero: float = 1e-6) -> None:
        """Draw the path, its derivatives with the runs where they are zero, and the room left to the crop.

        Parameters
        ----------
        destination : path
            Ends in .svg, .png or .pdf; appears whole or not at all.
        fps : float, optional
            Makes the horizontal axis seconds instead of frames.
        zero : float
            Derivatives whose nine entries (frame widths) are all below this count as zero.

        Raises
        ------
        DependencyError
            matplotlib is not installed.
        ArgumentError, OutputError
            Wrong file name, no frame; the file cannot be written.

        See Also
        --------
        path_metrics : Measure a path from its motion and corrections.
        """
        from legato.camera.plotting import plot_solution

        plot_solution(self.motion, self.log_corrections, self.size, self.options, destination, fps=fps, zero=zero)


def smooth_path(
    motion: ArrayLike,
    size: tuple[int, int],
    options: PathOptions | None = None,
    *,
    units: Units = "pixel",
    window: int | None = None,
    stride: int | None = None,
    fixed: ArrayLike | None = None,
    salient: ArrayLike | None = None,
    salient_weight: float | None = None,
    targets: ArrayLike | None = None,
    target_weight: float = 0.0,
    rolls: ArrayLike | None = None,
    level_weight: float = 0.0,
    frame_weight: ArrayLike | None = None,
    cuts: ArrayLike | None = None,
    ok: ArrayLike | None = None,
    solver: Solver = "banded",
    backend: Backend | None = None,
) -> CameraPath:
    """Find the L1-optimal camera path of a clip.

    Parameters
    ----------
    motion : array_like, shape (n, 3, 3)
        Homographies of any scale that map coordinates of frame t to frame t - 1; ``motion[0]`` is not read.
    size : (width, height)
        Frame size in pixels.
    options : PathOptions, optional
    units : {"pixel", "width"}
        Of motion, fixed, salient and targets. "pixel": pixel centers at whole numbers. "width": origin at the frame
        center, unit one frame width.
    window, stride : int, optional
        Frames solved at once and frames kept of them (paper, section 3): the next window begins with the last three
        kept frames, pinned. ``window=None``: the whole clip in one solve. ``stride=None``: a quarter of the window, at
        least 13 frames, of which ten are new. With a look-ahead ``window - stride`` of at most ten frames, predicted
        motions are appended to each window as `PathStream` says.
    fixed : array_like, shape (k, 3, 3), optional
        Corrections of the first k frames, held. Not with windows.
    salient : array_like, shape (n, m, 2), optional
        Points to keep inside the crop window, within 100 frame widths of its middle; NaN: none. For boxes give the
        corners, for regions the hull's vertices.
    salient_weight : float, optional
        ``None``: they must be inside. A number from 1e-12 up: an exact penalty on their distance outside (frame
        widths), which a weight above about ten times w3 makes as good as hard where that is possible.
    targets : array_like, shape (n, 2), optional
        Points to be centered; NaN: none. Adds ``target_weight * |p_t - translation to the target|^2``.
    target_weight : float
    rolls : array_like, shape (n,), optional
        Radians by which each correction is to turn (clockwise in the picture, y down); NaN: any. Adds
        ``level_weight * ((p21 - p12) / 2 - roll)^2``.
    level_weight : float
    frame_weight : array_like, shape (n,), optional
        Factors on the fidelity weight w0 of each frame, above 0.
    cuts : sequence of int, optional
        Frames where a new scene starts: their motion is not read, and nothing is smoothed across.
    ok : array_like of bool, shape (n,), optional
        False where the motion is missing; it is filled in as by `bridge_motion`.
    solver : {"banded", "clarabel", "osqp", "piqp"}
        "banded" is this package's; the others solve the same program, to compare, through their own packages. Their
        `iterations` and `gap` are their own, their tolerance is `options.tolerance`.
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
    InfeasibleError
        Hard salient points that cannot all be kept in view; the message names the frames.

    See Also
    --------
    PathStream : A camera path while the motion is still coming in.
    LivePath : A camera path with a fixed delay, for pictures that are shown while they are filmed.
    path_metrics : Measure a path from its motion and corrections.
    legato.video.stabilize : Turn a shaky video into a steady one; keep its sound, timestamps, rotation and colour tags.

    Notes
    -----
    Paper: Cinematic-L1, equation (4) with the terms of sections 4 and 5. The solver is a block-banded primal-dual
    interior point: time and memory linear in n, every iterate feasible, no allocation inside, the same bits on every
    instruction set. With `window` memory is bounded too, and the result is bit for bit that of `PathStream`.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import camera
    >>> motion = np.tile(np.eye(3), (60, 1, 1))
    >>> motion[:, 0, 2] = 2.0 * (-1.0) ** np.arange(60)                    # two pixels to and fro
    >>> path = camera.smooth_path(motion, size=(640, 360), options=camera.PathOptions(crop=0.1))
    >>> path.status, path.corrections.shape, bool(path.gap < 1e-5)
    ('optimal', (60, 3, 3), True)
    """
    options = check_options(options)
    task = check_task(size, options, salient_weight, target_weight, solver, _dispatch.choose(backend), level_weight)
    F = as_float64("motion", motion, (None, 3, 3))
    n = len(F)
    if fixed is not None and window is not None:
        raise ArgumentError("fixed: expected no held frames together with window")
    held = np.empty((0, 3, 3)) if fixed is None else as_float64("fixed", fixed, (None, 3, 3))
    if len(held) > n:
        raise ArgumentError(f"fixed: expected at most {n} corrections, as many as motion has frames, got {len(held)}")
    weight = np.empty(0)
    if frame_weight is not None:
        weight = as_float64("frame_weight", frame_weight, (n,))
        if not ((weight > 0) & (weight < 1e12)).all():
            raise ArgumentError("frame_weight: expected numbers above 0")
    points = np.empty((n, 0, 2)) if salient is None else as_float64("salient", salient, (n, None, 2))
    centers = np.empty((0, 2)) if targets is None else as_float64("targets", targets, (n, 2))
    starts = _check_cuts(cuts, n)
    good = _check_ok(ok, n)
    frames = in_width_units(Frames(F, weight, points, centers, as_rolls(rolls, n)), task.size, units)
    if units == "pixel":
        held = to_width_units(held, task.size)
    if window is None:
        if stride is not None:
            raise ArgumentError("stride: expected together with window")
        filled = np.empty((n, 3, 3))
        parts = []
        for first, end in itertools.pairwise([0, *starts, n]) if n else []:
            part = frames.slice(first, end)
            if good is not None:
                part = part._replace(motion=bridge_motion(part.motion, good[first:end]))
            filled[first:end] = part.motion
            pins = held[first:end]
            parts.append(solve_frames(part, task, options.keystone_ratio, pins, first))
    else:
        from legato.camera.streams import smooth_in_windows

        filled, parts = smooth_in_windows(frames, task, window, stride, starts, good)
    return _joined(parts, filled, task, units, starts, window is not None, frames)


def _joined(
    parts: list[Solution],
    motion: Float64,
    task: Task,
    units: Units,
    starts: list[int],
    windowed: bool,
    frames: Frames,
) -> CameraPath:
    def gather(name: str, shape: tuple[int, ...]) -> Float64:
        return np.concatenate([np.empty((0, *shape)), *(getattr(part, name) for part in parts)])

    corrections, logs = gather("corrections", (3, 3)), gather("logs", (3, 3))
    objective, gap = sum(part.objective for part in parts), sum(part.gap for part in parts)
    if len(motion):
        motion = motion.copy()
        motion[[0, *starts]] = np.eye(3)
    ratio = parts[-1].ratio if parts else math.nan
    if windowed:
        gap = math.nan
        objective = _whole_objective(corrections, logs, motion, frames, task, ratio, starts)
    worst = max((part.status for part in parts), key=lambda status: list(STATUS.values()).index(status), default="")
    return CameraPath(
        corrections=to_pixel_units(corrections, task.size) if units == "pixel" else corrections,
        log_corrections=logs,
        status=worst or "optimal",
        objective=float(objective),
        gap=float(gap),
        iterations=sum(part.iterations for part in parts),
        rounds=max((part.rounds for part in parts), default=0),
        violation_px=gather("violation", ()) * task.size[0],
        keystone_ratio=ratio,
        motion=motion,
        size=task.size,
        options=task.options,
    )


def _whole_objective(
    P: Float64, logs: Float64, F: Float64, frames: Frames, task: Task, ratio: float, starts: list[int]
) -> float:
    """Objective of the whole path: of the linear model, or with exact velocities where it was re-linearized."""
    options, model = task.options, MODEL[task.options.model]
    p = logs.reshape(-1, 9)
    keystone = options.keystone if options.model == "homography" else 0.0
    total = (
        options.anisotropy * ((p[:, 0] - p[:, 4]) ** 2).sum()
        + options.shear * ((p[:, 1] + p[:, 3]) ** 2).sum()
        + keystone * ((p[:, [6, 7]] - ratio * p[:, [2, 5]]) ** 2).sum()
        + 0.5 * options.weights[0] * ((p**2).sum(1) * (frames.weight if len(frames.weight) else 1.0)).sum()
    )
    if len(frames.targets) and task.target_weight > 0:
        target = np.zeros_like(p)
        target[:, [2, 5]] = frames.targets
        total += task.target_weight * np.nansum(((p - target) ** 2).sum(1))
    if len(frames.rolls) and task.level_weight > 0:
        total += task.level_weight * np.nansum(((p[:, 3] - p[:, 1]) / 2 - frames.rolls) ** 2)
    if frames.salient.shape[1] and task.salient_weight is not None:
        G, h = salient_rows(frames.salient, p if options.relinearize else np.zeros_like(p), task)
        total += task.salient_weight * np.maximum(np.einsum("tri,ti->tr", G, p) - h, 0).sum()
    for first, end in itertools.pairwise([0, *starts, len(P)]) if len(P) else []:
        if options.relinearize:
            steady = np.linalg.inv(P[first : end - 1]) @ F[first + 1 : end] @ P[first + 1 : end]
            e = log_homography(steady).reshape(-1, 9) @ (model.basis @ model.projection).T
        else:
            velocity = log_homography(F[first + 1 : end]).reshape(-1, 9)
            e = np.diff(p[first:end], axis=0) + velocity @ (model.basis @ model.projection).T
        roll = np.array([1, options.roll_weight, 1, options.roll_weight, 1, 1, 1, 1, 1])
        for k, weight in enumerate(options.weights[1:], start=1):
            total += weight * (np.abs(e) * roll).sum()
            if k == 2 and options.acceleration > 0:
                total += 0.5 * float(np.einsum("ti,ij,tj->", e, acceleration_rate(task), e))
            e = np.diff(e, axis=0)
    return float(total)


def path_program(
    motion: ArrayLike,
    size: tuple[int, int],
    options: PathOptions | None = None,
    *,
    units: Units = "pixel",
    fixed: ArrayLike | None = None,
    salient: ArrayLike | None = None,
    salient_weight: float | None = None,
    targets: ArrayLike | None = None,
    target_weight: float = 0.0,
    rolls: ArrayLike | None = None,
    level_weight: float = 0.0,
    frame_weight: ArrayLike | None = None,
) -> BandedProgram:
    """Return the linear model of a path (`smooth_path` with ``relinearize=0``) as a program.

    Built here in NumPy, apart from the compiled code: `BandedProgram.sparse` hands it to any solver. Parameters as in
    `smooth_path`. Coordinates are the entries 11 22 12 21 13 23 31 32 of log P_t; for "similarity" 11 and 12 alone of
    the first four, with 22 = 11 and 21 = -12.

    See Also
    --------
    smooth_path : Find the L1-optimal camera path of a clip.
    BandedProgram : What is returned.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import camera
    >>> program = camera.path_program(np.tile(np.eye(3), (10, 1, 1)), size=(640, 360))
    >>> program.velocity.shape, program.solve().status
    ((10, 8), 'optimal')
    """
    options = check_options(options)
    task = check_task(size, options, salient_weight, target_weight, "banded", "native", level_weight)
    F = as_float64("motion", motion, (None, 3, 3)).copy()
    n = len(F)
    F[:1] = np.eye(3)
    frames = in_width_units(
        Frames(
            F,
            np.empty(0) if frame_weight is None else as_float64("frame_weight", frame_weight, (n,)),
            np.empty((n, 0, 2)) if salient is None else as_float64("salient", salient, (n, None, 2)),
            np.empty((0, 2)) if targets is None else as_float64("targets", targets, (n, 2)),
            as_rolls(rolls, n),
        ),
        task.size,
        units,
    )
    held = np.empty((0, 3, 3)) if fixed is None else as_float64("fixed", fixed, (None, 3, 3))
    if units == "pixel":
        held = to_width_units(held, task.size)
    f = log_homography(frames.motion).reshape(n, 9)
    ratio = options.keystone_ratio if options.keystone_ratio is not None else _reference.estimate_ratio(f)
    return path_rows(frames, task, ratio, held, f, None)


def _check_cuts(cuts: ArrayLike | None, n: int) -> list[int]:
    starts = as_indices("cuts", [] if cuts is None else cuts)
    found = sorted({int(t) for t in starts} - {0})
    if found and not 0 < found[0] <= found[-1] < n:
        raise ArgumentError(f"cuts: expected frames from 0 to {n - 1}, got {found[0]} to {found[-1]}")
    return found


def _check_ok(ok: ArrayLike | None, n: int) -> NDArray[np.bool_] | None:
    return None if ok is None else as_booleans("ok", ok, (n,))
