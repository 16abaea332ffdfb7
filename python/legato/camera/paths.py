"""L1-optimal camera paths of whole clips (Cinematic-L1, WACV 2021)."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from legato import _core, _dispatch
from legato._arrays import Float64, as_booleans, as_float64, as_int64
from legato._dispatch import Backend
from legato._scalars import as_choice, as_count, as_number, as_size, shown
from legato.camera import _reference
from legato.camera.homographies import exp_homography, log_homography, to_pixel_units, to_width_units
from legato.camera.programs import SOLVERS, STATUS, BandedProgram, ProgramSolution, Solver
from legato.errors import ArgumentError, InfeasibleError

__all__ = [
    "CameraPath",
    "InfeasibleError",
    "PathOptions",
    "bridge_motion",
    "contain",
    "crop_map",
    "path_program",
    "smooth_path",
]


_FARTHEST = 100  # frame widths to a point: the linearized bounds of farther ones mean nothing

Model: TypeAlias = Literal["homography", "affine", "similarity", "translation"]
Units: TypeAlias = Literal["pixel", "width"]
MODELS: tuple[Model, ...] = get_args(Model)
UNITS: tuple[Units, ...] = get_args(Units)


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
        w0 (L2 fidelity; 0 is the linear program) and w1, w2, w3 (L1 of the first, second, third
        differences); paper, equation (4).
    anisotropy, shear : float
        Weights of (p11 - p22)^2 and (p12 + p21)^2 (paper, section 5).
    keystone : float
        Weight of (p31 - R p13)^2 + (p32 - R p23)^2 (paper, section 5).
    keystone_ratio : float, optional
        R < 0; ``None``: estimated from the motion, clipped to [-3, -0.3].
    acceleration : float
        Weight of the window corners' mean squared acceleration. The L1 terms alone gather what acceleration there must
        be in few frames; this spreads it, which lowers its root mean square. 0 is the paper's model.
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
    model : {"homography", "affine", "similarity", "translation"}
        What a correction may be. The motion's logarithm is projected on the model's algebra as well: what a model
        cannot correct costs nothing. "affine" is the model of Grundmann et al. (CVPR 2011); the keystone term exists
        for "homography" alone.
    """

    crop: float = 0.12
    window_scale: float | None = None
    weights: tuple[float, float, float, float] = (1.0, 1.0, 10.0, 100.0)
    anisotropy: float = 1000.0
    shear: float = 1000.0
    keystone: float = 100.0
    keystone_ratio: float | None = None
    acceleration: float = 0.0
    bound: float = 1.0
    inset_px: float = 0.0
    relinearize: int = 2
    tolerance: float = 1e-6
    max_iterations: int = 100
    model: Model = "homography"

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        put("weights", _checked_weights(self.weights))
        put("crop", as_number("crop", self.crop, above=0, below=1))
        if self.window_scale is not None:
            scale = as_number("window_scale", self.window_scale)
            if not 1 - self.crop <= scale <= 1:
                raise ArgumentError(
                    f"window_scale: expected a number from 1 - crop to 1, got {scale} with crop {self.crop}"
                )
            put("window_scale", scale)
        for name in ("anisotropy", "shear", "keystone", "acceleration", "inset_px"):
            put(name, as_number(name, getattr(self, name), least=0, below=1e12))
        if self.keystone_ratio is not None:
            put("keystone_ratio", as_number("keystone_ratio", self.keystone_ratio))
        put("model", as_choice("model", self.model, MODELS))
        put("bound", as_number("bound", self.bound, above=0))
        put("tolerance", as_number("tolerance", self.tolerance, above=0, below=1))
        for name in ("relinearize", "max_iterations"):
            put(name, as_count(name, getattr(self, name), 0))

    @property
    def effective_window_scale(self) -> float:
        """`window_scale`, or ``1 - crop / 2``."""
        return 1 - self.crop / 2 if self.window_scale is None else self.window_scale

    def at_frame_rate(self, fps: float) -> PathOptions:
        """Return the options with weights that keep the same continuous-time objective at another frame rate.

        Differences of order k scale as dt^k, so w0 and the other quadratic weights of the corrections are multiplied by
        30 / fps, w2 by fps / 30, w3 by (fps / 30)^2 and that of the squared acceleration by (fps / 30)^3.
        """
        rate = as_number("fps", fps, least=1e-3, most=1e6) / 30
        w0, w1, w2, w3 = self.weights
        return dataclasses.replace(
            self,
            weights=(w0 / rate, w1, w2 * rate, w3 * rate**2),
            anisotropy=self.anisotropy / rate,
            shear=self.shear / rate,
            keystone=self.keystone / rate,
            acceleration=min(self.acceleration * rate**3, 9e11),  # damaged timestamps give any rate
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
        """
        from legato.camera.plotting import plot_solution

        plot_solution(self, destination, fps=fps, zero=zero)


class _Frames(NamedTuple):
    """What a solve needs of its frames, in frame widths."""

    motion: Float64  # n x 3 x 3
    weight: Float64  # n, or empty
    salient: Float64  # n x m x 2
    targets: Float64  # n x 2, or empty

    def slice(self, first: int, end: int) -> _Frames:
        return _Frames(
            self.motion[first:end],
            self.weight[first:end] if len(self.weight) else self.weight,
            self.salient[first:end],
            self.targets[first:end] if len(self.targets) else self.targets,
        )


class _Task(NamedTuple):
    """What stays the same from solve to solve."""

    size: tuple[int, int]
    options: PathOptions
    salient_weight: float | None  # None: hard
    target_weight: float
    solver: Solver
    backend: Backend

    @property
    def aspect(self) -> float:
        return self.size[1] / self.size[0]

    @property
    def width_options(self) -> _WidthOptions:
        return _WidthOptions(self.options, self.options.inset_px / self.size[0], 1 / self.size[0])


class _Solution(NamedTuple):
    """A solve's result, in frame widths."""

    corrections: Float64
    logs: Float64
    violation: Float64
    status: str
    objective: float
    gap: float
    iterations: int
    rounds: int
    ratio: float


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
        ``None``: they must be inside. A number: an exact penalty on their distance outside (frame widths), which a
        weight above about ten times w3 makes as good as hard where that is possible.
    targets : array_like, shape (n, 2), optional
        Points to be centered; NaN: none. Adds ``target_weight * |p_t - translation to the target|^2``.
    target_weight : float
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

    Notes
    -----
    Paper: Cinematic-L1, equation (4) with the terms of sections 4 and 5. The solver is a block-banded primal-dual
    interior point: time and memory linear in n, every iterate feasible, no allocation inside, the same bits on every
    instruction set. With `window` memory is bounded too, and the result is bit for bit that of `PathStream`.
    """
    options = check_options(options)
    task = check_task(size, options, salient_weight, target_weight, solver, _dispatch.choose(backend))
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
    frames = in_width_units(_Frames(F, weight, points, centers), task.size, units)
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
    parts: list[_Solution],
    motion: Float64,
    task: _Task,
    units: Units,
    starts: list[int],
    windowed: bool,
    frames: _Frames,
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
    P: Float64, logs: Float64, F: Float64, frames: _Frames, task: _Task, ratio: float, starts: list[int]
) -> float:
    """Objective of the whole path: of the linear model, or with exact velocities where it was re-linearized."""
    options, model = task.options, _MODEL[task.options.model]
    p = logs.reshape(-1, 9)
    keystone = options.keystone if options.model == "homography" else 0.0
    total = (
        options.anisotropy * ((p[:, 0] - p[:, 4]) ** 2).sum()
        + options.shear * ((p[:, 1] + p[:, 3]) ** 2).sum()
        + keystone * ((p[:, [6, 7]] - ratio * p[:, [2, 5]]) ** 2).sum()
        + 0.5 * options.weights[0] * ((p**2).sum(1) * (frames.weight if len(frames.weight) else 1.0)).sum()
    )
    if task.target_weight > 0:
        target = np.zeros_like(p)
        target[:, [2, 5]] = frames.targets
        total += task.target_weight * np.nansum(((p - target) ** 2).sum(1))
    if frames.salient.shape[1] and task.salient_weight is not None:
        G, h = _salient_rows(frames.salient, p if options.relinearize else np.zeros_like(p), task)
        total += task.salient_weight * np.maximum(np.einsum("tri,ti->tr", G, p) - h, 0).sum()
    for first, end in itertools.pairwise([0, *starts, len(P)]) if len(P) else []:
        if options.relinearize:
            steady = np.linalg.inv(P[first : end - 1]) @ F[first + 1 : end] @ P[first + 1 : end]
            e = log_homography(steady).reshape(-1, 9) @ (model.basis @ model.projection).T
        else:
            velocity = log_homography(F[first + 1 : end]).reshape(-1, 9)
            e = np.diff(p[first:end], axis=0) + velocity @ (model.basis @ model.projection).T
        for k, weight in enumerate(options.weights[1:], start=1):
            total += weight * np.abs(e).sum()
            if k == 2 and options.acceleration > 0:
                total += 0.5 * float(np.einsum("ti,ij,tj->", e, _acceleration(task), e))
            e = np.diff(e, axis=0)
    return float(total)


def _acceleration(task: _Task) -> Float64:
    corners = _reference.window_corners(task.options.effective_window_scale, task.aspect)
    return _reference.acceleration_quadratic(task.options.acceleration, corners)


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
    frame_weight: ArrayLike | None = None,
) -> BandedProgram:
    """Return the linear model of a path (`smooth_path` with ``relinearize=0``) as a program.

    Built here in NumPy, apart from the compiled code: `BandedProgram.sparse` hands it to any solver. Parameters as in
    `smooth_path`. Coordinates are the entries 11 22 12 21 13 23 31 32 of log P_t; for "similarity" 11 and 12 alone of
    the first four, with 22 = 11 and 21 = -12.
    """
    options = check_options(options)
    task = check_task(size, options, salient_weight, target_weight, "banded", "native")
    F = as_float64("motion", motion, (None, 3, 3)).copy()
    n = len(F)
    F[:1] = np.eye(3)
    frames = in_width_units(
        _Frames(
            F,
            np.empty(0) if frame_weight is None else as_float64("frame_weight", frame_weight, (n,)),
            np.empty((n, 0, 2)) if salient is None else as_float64("salient", salient, (n, None, 2)),
            np.empty((0, 2)) if targets is None else as_float64("targets", targets, (n, 2)),
        ),
        task.size,
        units,
    )
    held = np.empty((0, 3, 3)) if fixed is None else as_float64("fixed", fixed, (None, 3, 3))
    if units == "pixel":
        held = to_width_units(held, task.size)
    f = log_homography(frames.motion).reshape(n, 9)
    ratio = options.keystone_ratio if options.keystone_ratio is not None else _reference.estimate_ratio(f)
    return _program(frames, task, ratio, held, f, None)


class _Model(NamedTuple):
    """Coordinates of a model's algebra: p = basis x, x = projection p; weight of each coordinate's L1 term."""

    basis: Float64  # 9 x 8
    projection: Float64  # 8 x 9
    weight: Float64  # 9

    def coordinates(self, logs: Float64) -> Float64:
        return np.asarray(logs @ self.projection.T)


def _model(name: str) -> _Model:
    basis, projection, weight = np.zeros((9, 8)), np.zeros((8, 9)), np.zeros(9)
    entry = (0, 4, 1, 3, 2, 5, 6, 7)
    alone = {"homography": range(8), "affine": range(6), "similarity": (4, 5), "translation": (4, 5)}[name]
    for i in alone:
        basis[entry[i], i] = projection[i, entry[i]] = weight[i] = 1
    if name in ("homography", "affine"):
        basis[8, :2], weight[8] = -1, 1
    if name == "similarity":
        basis[[0, 4, 8], 0], projection[0, [0, 4]], weight[0] = (1, 1, -2), 0.5, 4
        basis[[1, 3], 2], projection[2, [1, 3]], weight[2] = (1, -1), (0.5, -0.5), 2
    return _Model(basis, projection, weight)


_MODEL = {name: _model(name) for name in MODELS}


def _program(
    frames: _Frames, task: _Task, ratio: float, held: Float64, velocity: Float64, at: Float64 | None
) -> BandedProgram:
    """Build the linear model about `at` (n, 9; None: at rest)."""
    options = task.width_options
    model = _MODEL[task.options.model]
    n, m = len(velocity), frames.salient.shape[1]
    fidelity = np.ones(n) if len(frames.weight) == 0 else frames.weight
    w0 = max(task.options.weights[0], _smallest_fidelity(task.options))
    terms = dataclasses.replace(task.options, keystone=task.options.keystone * (task.options.model == "homography"))
    rest = _reference.frame_quadratic(dataclasses.replace(terms, weights=(1.0, 0, 0, 0)), 0.0, ratio)
    Q9 = rest + (w0 * fidelity)[:, None, None] * np.eye(9)
    linear, constant = None, 0.0
    if len(frames.targets) and task.target_weight > 0:
        some = np.asarray(~np.isnan(frames.targets).any(1))
        target = np.zeros((n, 9))
        target[some, 2], target[some, 5] = frames.targets[some].T
        Q9 = Q9 + 2 * task.target_weight * some[:, None, None] * np.eye(9)
        linear = -2 * task.target_weight * target @ model.basis
        constant = float(task.target_weight * (target**2).sum())
    elif len(frames.weight) == 0 and n:
        Q9 = Q9[0]
    unused = np.diag((~model.basis.any(0)).astype(float))
    places = np.zeros((1, 9)) if at is None else at
    crop = [_reference.crop_rows(p, task.aspect, options) for p in places]
    last = np.broadcast_to(np.outer((1, -1), np.eye(9)[8]), (len(places), 2, 9))
    rows = np.concatenate([np.array([G for G, _ in crop]), last], 1)
    bounds = np.concatenate([np.array([h for _, h in crop]), np.full((len(places), 2), task.options.bound)], 1)
    if m:
        salient, inside = _salient_rows(frames.salient, np.zeros((n, 9)) if at is None else at, task)
        rows = np.concatenate([np.broadcast_to(rows, (n, 15, 9)), salient], 1)
        bounds = np.concatenate([np.broadcast_to(bounds, (n, 15)), inside], 1)
    elif at is None:  # every frame has the rows of the window at rest
        rows, bounds = rows[0], bounds[0]
    soft = 4 * m if task.salient_weight is not None else 0
    return BandedProgram(
        velocity=velocity @ model.projection.T,
        weights=np.outer(task.options.weights[1:], model.weight),
        quadratic=model.basis.T @ Q9 @ model.basis + unused,
        linear=linear,
        row_matrix=rows @ model.basis,
        row_bound=bounds,
        lower=np.full(8, -task.options.bound),
        upper=np.full(8, task.options.bound),
        held=log_homography(held).reshape(-1, 9) @ model.projection.T,
        soft_rows=soft,
        penalty=task.salient_weight or 0.0,
        constant=constant,
        acceleration=model.basis.T @ _acceleration(task) @ model.basis if task.options.acceleration > 0 else None,
    )


def _salient_rows(points: Float64, at: Float64, task: _Task) -> tuple[Float64, Float64]:
    """Rows that keep exp(-p) point in the crop window, linearized at p (n, 9): left right top bottom of each."""
    n, m = points.shape[:2]
    G, h = np.zeros((n, 4 * m, 9)), np.ones((n, 4 * m))
    half = 0.5 * task.options.effective_window_scale * np.array([1, task.aspect])
    for t, i in np.argwhere(~np.isnan(points).any(-1)):
        point, p = points[t, i][None], at[t]
        J = -_reference.point_jacobian(point) if not p.any() else -_reference.point_jacobian_at(-p, point)
        moved = _reference.apply(_reference.exp_homography(-p.reshape(3, 3)), point)[0]
        for axis in range(2):
            for side, sign in enumerate((-1, 1)):
                row = 4 * i + 2 * axis + side
                G[t, row] = sign * J[axis]
                h[t, row] = half[axis] - sign * (moved[axis] - J[axis] @ p)
    return G, h


def in_width_units(frames: _Frames, size: tuple[int, int], units: Units) -> _Frames:
    """Frames with lengths in frame widths."""
    if as_choice("units", units, UNITS) == "pixel":
        center = (np.array(size) - 1) / 2
        frames = _Frames(
            to_width_units(frames.motion, size),
            frames.weight,
            (frames.salient - center) / size[0],
            (frames.targets - center) / size[0],
        )
    for name, points in (("salient", frames.salient), ("targets", frames.targets)):
        if points.size and np.abs(points).max(initial=0, where=~np.isnan(points)) > _FARTHEST:
            raise ArgumentError(f"{name}: expected NaN or points within {_FARTHEST} frame widths of the middle")
    return frames


def check_task(
    size: tuple[int, int],
    options: PathOptions,
    salient_weight: float | None,
    target_weight: float,
    solver: Solver,
    backend: Backend,
) -> _Task:
    """Check what stays the same from solve to solve."""
    width, height = check_size(size)
    inset = options.inset_px / width
    if not min(1 - 2 * inset, 1 - 2 * inset * width / height) > 1 - options.crop:
        raise ArgumentError(
            f"crop: expected more than the {2 * options.inset_px / min(width, height):.2g} that inset_px, "
            f"{options.inset_px:g}, takes of {width:g}x{height:g} pixels; got {options.crop:g}"
        )
    if salient_weight is not None:
        salient_weight = as_number("salient_weight", salient_weight, above=0, below=1e12)
    target_weight = as_number("target_weight", target_weight, least=0, below=1e12)
    solver = as_choice("solver", solver, SOLVERS)
    return _Task((width, height), options, salient_weight, target_weight, solver, backend)


def solve_frames(
    frames: _Frames, task: _Task, ratio: float | None, held: Float64, first: int, end: int | None = None
) -> _Solution:
    """Solve once; drop frames from `end` on. `first`: the number of the first frame in the clip, for messages."""
    n = len(frames.motion)
    if task.backend == "numpy" or task.solver != "banded":
        return _solve_in_numpy(frames, task, ratio, held, first, end)
    corrections, logs, violation = np.empty((n, 3, 3)), np.empty((n, 3, 3)), np.empty(n)
    found = _core.camera_smooth_path(
        frames.motion.reshape(n, 9),
        task.aspect,
        core_options(task, ratio),
        held.reshape(-1, 9),
        frames.weight,
        frames.salient,
        task.salient_weight or 0.0,
        frames.targets,
        task.target_weight,
        corrections.reshape(n, 9),
        logs.reshape(n, 9),
        violation,
    )
    if found["status"] not in STATUS:
        raise infeasible(task, violation, first, first + found["bad_frame"])
    return _Solution(
        corrections[:end],
        logs[:end],
        violation[:end],
        STATUS[found["status"]],
        found["objective"],
        found["gap"],
        found["iterations"],
        found["rounds"],
        found["keystone_ratio"],
    )


def core_options(task: _Task, ratio: float | None) -> _core.CameraPathOptions:
    """Options as the compiled code takes them; a ratio of None is estimated from the motion."""
    options = task.options
    return _core.CameraPathOptions(
        model=options.model,
        crop=options.crop,
        window_scale=options.window_scale or 0.0,
        weights=options.weights,
        anisotropy=options.anisotropy,
        shear=options.shear,
        keystone=options.keystone,
        keystone_ratio=math.nan if ratio is None else ratio,
        acceleration=options.acceleration,
        bound=options.bound,
        inset=options.inset_px / task.size[0],
        pixel=1 / task.size[0],
        relinearize=options.relinearize,
        tolerance=options.tolerance,
        max_iterations=options.max_iterations,
    )


def infeasible(task: _Task, missing: Float64, first: int, bad_frame: int) -> InfeasibleError:
    """Return the error of a solve without a path; frames from `first` on lack `missing` to show their points."""
    frames = np.flatnonzero(missing > 0)
    if task.salient_weight is None and len(frames):
        names = ", ".join(str(first + t) for t in frames[:20]) + (", ..." if len(frames) > 20 else "")
        return InfeasibleError(f"salient: the points cannot all be kept in view in frames {names}")
    return InfeasibleError(f"motion, frame {bad_frame}: the constraints exclude every path")


def _solve_in_numpy(
    frames: _Frames, task: _Task, ratio: float | None, held: Float64, first: int, end: int | None
) -> _Solution:
    """Do the rounds of `smooth_path` in NumPy, around the dense solver or another package's."""
    options = task.options
    n, pinned = len(frames.motion), len(held)
    F = frames.motion.copy()
    F[:1] = np.eye(3)
    velocity = log_homography(F).reshape(n, 9)
    ratio = ratio if ratio is not None else _reference.estimate_ratio(velocity)
    model = _MODEL[options.model]
    hard_points = frames.salient.shape[1] > 0 and task.salient_weight is None
    at, iterations = None, 0
    for rounds in range(options.relinearize + 5):
        program = _program(frames, task, ratio, held, velocity, at)
        if task.solver == "banded":
            inside = np.tile(model.coordinates(_resting_log(task)), (n, 1))
            if hard_points:
                inside = _find_inside(program, inside, task, first)
            start = np.zeros((n, 8)) if at is None else inside + 0.9 * (model.coordinates(at) - inside)
            start[:pinned] = program.held
            x, objective, gap, count, optimal = _reference.solve_program(
                program, start, inside, options.tolerance, options.max_iterations
            )
            solved = ProgramSolution(x, objective, gap, count, "optimal" if optimal else "iteration_limit")
        else:
            solved = program.solve(
                solver=task.solver, tolerance=options.tolerance, max_iterations=options.max_iterations
            )
        iterations += solved.iterations
        at = solved.path @ model.basis.T
        P = exp_homography(at.reshape(n, 3, 3))
        violation = _reference.exact_violation(P, task.aspect, task.width_options)
        worst = violation[pinned:].max(initial=0.0)
        if options.relinearize == 0 or (rounds >= options.relinearize and worst <= 0.05 / task.size[0]):
            break
        exact = log_homography(np.linalg.inv(P[:-1]) @ F[1:] @ P[1:]).reshape(n - 1, 9)
        velocity = np.vstack([np.zeros((1, 9)), exact - np.diff(at, axis=0)])
    smallest = _smallest_fidelity(options)
    hidden = 4.5 * smallest * options.bound**2 * (n - pinned) if options.weights[0] < smallest else 0.0
    logs = at.reshape(n, 3, 3) if at is not None else np.empty((0, 3, 3))
    return _Solution(
        P[:end],
        logs[:end],
        violation[:end],
        solved.status,
        solved.objective + _held_cost(program),
        solved.gap + hidden,
        iterations,
        rounds,
        ratio,
    )


def _smallest_fidelity(options: PathOptions) -> float:
    """Return what stands for w0 in the linear program: the solver needs a definite Q."""
    return 1e-9 * sum(options.weights[1:])


def _held_cost(program: BandedProgram) -> float:
    """Cost of the held frames alone: a constant of the solve."""
    k = len(program.held)
    if k == 0:
        return 0.0
    alone = dataclasses.replace(
        program,
        velocity=program.velocity[:k],
        quadratic=program.quadratic if program.quadratic.ndim == 2 else program.quadratic[:k],
        linear=None if program.linear is None else program.linear[:k],
        row_matrix=np.empty((0, 8)),
        row_bound=np.empty(0),
        held=np.empty((0, 8)),
        soft_rows=0,
        constant=0.0,
    )
    return alone.objective(program.held)


def _resting_log(task: _Task) -> Float64:
    """Return a pure zoom strictly inside every crop row: halfway between the smallest window and the frame."""
    options, inset = task.options, task.width_options.inset
    scale = options.effective_window_scale
    zoom = 0.5 * ((1 - options.crop) + min(1 - 2 * inset, 1 - 2 * inset / task.aspect)) / scale - 1
    return zoom / 3 * np.array([1, 0, 0, 0, 1, 0, 0, 0, -2.0])


def _find_inside(program: BandedProgram, start: Float64, task: _Task, first: int) -> Float64:
    """Points strictly inside the rows of each frame: alone, without derivatives, the points' rows soft and tighter."""
    n, held = len(start), len(program.held)
    for margin in (1e-3, 1e-6):
        bound = program.row_bound.copy()
        bound[:, 15:] -= margin
        inside, missing = start.copy(), np.zeros(n)
        for t in range(held, n):
            alone = BandedProgram(
                velocity=np.zeros((1, 8)),
                weights=np.zeros((3, 9)),
                quadratic=np.eye(8),
                row_matrix=program.row_matrix[t],
                row_bound=bound[t],
                lower=program.lower,
                upper=program.upper,
                soft_rows=bound.shape[1] - 15,
                penalty=1e3,
            )
            inside[t] = _reference.solve_program(alone, start[t : t + 1], start[t : t + 1], 1e-9, 100)[0][0]
            missing[t] = not (program.row_matrix[t] @ inside[t] < program.row_bound[t]).all()
        if not missing.any():
            return inside
    raise infeasible(task, missing, first, first)


def _check_cuts(cuts: ArrayLike | None, n: int) -> list[int]:
    starts = as_int64("cuts", [] if cuts is None else cuts)
    if starts.ndim != 1:
        raise ArgumentError("cuts: expected whole numbers, the frames where a scene starts")
    found = sorted({int(t) for t in starts} - {0})
    if found and not 0 < found[0] <= found[-1] < n:
        raise ArgumentError(f"cuts: expected frames from 0 to {n - 1}, got {found[0]} to {found[-1]}")
    return found


def _check_ok(ok: ArrayLike | None, n: int) -> NDArray[np.bool_] | None:
    return None if ok is None else as_booleans("ok", ok, (n,))


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
    scale = check_options(options).effective_window_scale
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
    good = as_booleans("ok", ok, (len(F),))
    if len(F) == 0:
        return F
    good = good.copy()
    good[0] = False
    F[~good] = np.eye(3)
    return fill_motion(F, good, None)


def fill_motion(motion: Float64, good: NDArray[np.bool_], before: tuple[int, Float64] | None) -> Float64:
    """Motions with those that are not good interpolated between good neighbors, as logarithms; identity elsewhere.

    `before`: how many frames before the first one the last good motion was, and its logarithm.
    """
    F = motion.copy()
    F[~good] = np.eye(3)
    known = np.flatnonzero(good)
    at, logs = known, log_homography(F[known]).reshape(-1, 9)
    if before is not None:
        at, logs = np.append(-before[0], at), np.vstack([before[1], logs])
    gap = np.flatnonzero(~good)
    if len(at):
        gap = gap[(gap > at[0]) & (gap < at[-1])]
        if len(gap):
            filled = np.column_stack([np.interp(gap, at, entry) for entry in logs.T])
            F[gap] = exp_homography(filled.reshape(-1, 3, 3))
    return F


def contain(
    corrections: ArrayLike, size: tuple[int, int], options: PathOptions | None = None, *, backend: Backend | None = None
) -> Float64:
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
    backend : {"native", "numpy"}, optional

    Returns
    -------
    ndarray, shape (n, 3, 3), float64

    Raises
    ------
    HomographyError
        If a correction to be shrunk has no logarithm.
    """
    options = check_options(options)
    size = check_size(size)
    P = as_float64("corrections", corrections, (None, 3, 3)).copy()
    bad = np.flatnonzero(~(crop_room_px(P, size, options) >= 0))
    if len(bad):
        # A little more than asked, for the rounding of the change of units.
        inner = dataclasses.replace(options, inset_px=options.inset_px + 1e-9)
        task = _Task(size, inner, None, 0.0, "banded", _dispatch.choose(backend))
        whole = to_width_units(P, size)
        if task.backend == "native":
            _core.camera_contain(whole.reshape(-1, 9), task.aspect, core_options(task, None), whole.reshape(-1, 9))
        else:
            whole = _reference.contain(whole, task.aspect, task.width_options)
        P[bad] = to_pixel_units(whole[bad], size)
    return P


def window_corners_px(size: tuple[int, int], options: PathOptions) -> Float64:
    """Corners of the crop window at rest, pixels, TL TR BR BL, shape (4, 2)."""
    width, height = size
    corners = _reference.window_corners(options.effective_window_scale, height / width)
    return np.asarray(corners * width + np.array([(width - 1) / 2, (height - 1) / 2]))


def crop_room_px(corrections: Float64, size: tuple[int, int], options: PathOptions) -> Float64:
    """Exact distance of the crop window from the edge of its allowed rectangle, shape (n,); negative outside."""
    moved = move_points(corrections, window_corners_px(size, options))
    center = (np.array(size) - 1) / 2
    half = np.array(size) / 2 - options.inset_px
    return np.asarray((half - np.abs(moved - center)).min((1, 2)))


def move_points(transforms: Float64, points: Float64) -> Float64:
    """Images of points (m, 2) under homographies (n, 3, 3), shape (n, m, 2)."""
    moved = np.column_stack([points, np.ones(len(points))]) @ np.swapaxes(transforms, 1, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(moved[..., :2] / moved[..., 2:])


def check_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return (width, height) as integers of at least 1."""
    return as_size("size", size)


def check_options(options: PathOptions | None) -> PathOptions:
    """Return the options, or the default ones."""
    if options is None:
        return PathOptions()
    if not isinstance(options, PathOptions):
        raise ArgumentError(f"options: expected PathOptions, got {shown(options)}")
    return options


def _checked_weights(weights: object) -> tuple[float, float, float, float]:
    try:
        w0, w1, w2, w3 = (as_number("weights", w, least=0, below=1e12) for w in weights)  # type: ignore[attr-defined]
    except Exception:
        w0 = w1 = w2 = w3 = 0.0
    if not (w0 or w1 or w2 or w3):
        raise ArgumentError(f"weights: expected four numbers, none below 0, not all 0, got {shown(weights)}")
    return w0, w1, w2, w3
