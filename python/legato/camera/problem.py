"""The path problem: its task, its rows, and the solvers behind one door."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from legato import _core, _dispatch
from legato._arrays import Float64, as_float64
from legato._dispatch import Backend
from legato._scalars import as_choice, as_number
from legato.camera import _reference
from legato.camera.frames import crop_room_px
from legato.camera.homographies import exp_homography, log_homography, to_pixel_units, to_width_units
from legato.camera.options import MODELS, UNITS, PathOptions, Units, check_options, check_size
from legato.camera.programs import SOLVERS, STATUS, BandedProgram, ProgramSolution, Solver
from legato.errors import ArgumentError, InfeasibleError

__all__ = ["contain"]


_ROLL = np.array([0, -0.5, 0, 0.5, 0, 0, 0, 0, 0])  # the turn of a correction, as a form on its logarithm
_FARTHEST = 100  # frame widths to a point: the linearized bounds of farther ones mean nothing


class Frames(NamedTuple):
    """What a solve needs of its frames, in frame widths."""

    motion: Float64  # n x 3 x 3
    weight: Float64  # n, or empty
    salient: Float64  # n x m x 2
    targets: Float64  # n x 2, or empty
    rolls: Float64 = np.empty(0)  # n, or empty: radians that each correction is to turn by

    def slice(self, first: int, end: int) -> Frames:
        return Frames(
            self.motion[first:end],
            self.weight[first:end] if len(self.weight) else self.weight,
            self.salient[first:end],
            self.targets[first:end] if len(self.targets) else self.targets,
            self.rolls[first:end] if len(self.rolls) else self.rolls,
        )


class Task(NamedTuple):
    """What stays the same from solve to solve."""

    size: tuple[int, int]
    options: PathOptions
    salient_weight: float | None  # None: hard
    target_weight: float
    solver: Solver
    backend: Backend
    level_weight: float = 0.0

    @property
    def aspect(self) -> float:
        return self.size[1] / self.size[0]

    @property
    def width_options(self) -> _WidthOptions:
        return _WidthOptions(self.options, self.options.inset_px / self.size[0], 1 / self.size[0])


class Solution(NamedTuple):
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


def acceleration_rate(task: Task) -> Float64:
    corners = _reference.window_corners(task.options.effective_window_scale, task.aspect)
    return _reference.acceleration_quadratic(task.options.acceleration, corners)


class _Model(NamedTuple):
    """Coordinates of a model's algebra: p = basis x, x = projection p; weight of each coordinate's L1 term."""

    basis: Float64  # 9 x 8
    projection: Float64  # 8 x 9
    weight: Float64  # 9

    def weights(self, roll_weight: float) -> Float64:
        """Give the weight of each coordinate's L1 term, those of p12 and p21 times a factor."""
        return np.asarray(self.weight * np.array([1, 1, roll_weight, roll_weight, 1, 1, 1, 1, 1]))

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


MODEL = {name: _model(name) for name in MODELS}


def path_rows(
    frames: Frames, task: Task, ratio: float, held: Float64, velocity: Float64, at: Float64 | None
) -> BandedProgram:
    """Build the linear model about `at` (n, 9; None: at rest)."""
    options = task.width_options
    model = MODEL[task.options.model]
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
    if len(frames.rolls) and task.level_weight > 0:
        wanted = np.where(np.isnan(frames.rolls), 0, frames.rolls)
        weight = np.where(np.isnan(frames.rolls), 0, task.level_weight)
        Q9 = Q9 + 2 * weight[:, None, None] * np.outer(_ROLL, _ROLL)
        pull = -2 * (weight * wanted)[:, None] * _ROLL @ model.basis
        linear = pull if linear is None else linear + pull
        constant += float((weight * wanted**2).sum())
    if linear is None and len(frames.weight) == 0 and n:
        Q9 = Q9[0]
    unused = np.diag((~model.basis.any(0)).astype(float))
    places = np.zeros((1, 9)) if at is None else at
    crop = [_reference.crop_rows(p, task.aspect, options) for p in places]
    last = np.broadcast_to(np.outer((1, -1), np.eye(9)[8]), (len(places), 2, 9))
    rows = np.concatenate([np.array([G for G, _ in crop]), last], 1)
    bounds = np.concatenate([np.array([h for _, h in crop]), np.full((len(places), 2), task.options.bound)], 1)
    if m:
        salient, inside = salient_rows(frames.salient, np.zeros((n, 9)) if at is None else at, task)
        rows = np.concatenate([np.broadcast_to(rows, (n, 15, 9)), salient], 1)
        bounds = np.concatenate([np.broadcast_to(bounds, (n, 15)), inside], 1)
    elif at is None:  # every frame has the rows of the window at rest
        rows, bounds = rows[0], bounds[0]
    soft = 4 * m if task.salient_weight is not None else 0
    return BandedProgram(
        velocity=velocity @ model.projection.T,
        weights=np.outer(task.options.weights[1:], model.weights(task.options.roll_weight)),
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
        acceleration=model.basis.T @ acceleration_rate(task) @ model.basis if task.options.acceleration > 0 else None,
    )


def salient_rows(points: Float64, at: Float64, task: Task) -> tuple[Float64, Float64]:
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


def as_rolls(rolls: ArrayLike | None, n: int) -> Float64:
    """Check radians that n corrections are to turn by; NaN: any."""
    if rolls is None:
        return np.empty(0)
    found = as_float64("rolls", rolls, (n,))
    if np.abs(found).max(initial=0, where=~np.isnan(found)) > math.pi:
        raise ArgumentError("rolls: expected NaN or radians from -pi to pi")
    return found


def in_width_units(frames: Frames, size: tuple[int, int], units: Units) -> Frames:
    """Frames with lengths in frame widths."""
    if as_choice("units", units, UNITS) == "pixel":
        center = (np.array(size) - 1) / 2
        frames = Frames(
            to_width_units(frames.motion, size),
            frames.weight,
            (frames.salient - center) / size[0],
            (frames.targets - center) / size[0],
            frames.rolls,
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
    level_weight: float = 0.0,
) -> Task:
    """Check what stays the same from solve to solve."""
    width, height = check_size(size)
    inset = options.inset_px / width
    if not min(1 - 2 * inset, 1 - 2 * inset * width / height) > 1 - options.crop:
        raise ArgumentError(
            f"crop: expected more than the {2 * options.inset_px / min(width, height):.2g} that inset_px, "
            f"{options.inset_px:g}, takes of {width:g}x{height:g} pixels; got {options.crop:g}"
        )
    if salient_weight is not None:
        salient_weight = as_number("salient_weight", salient_weight, least=1e-12, below=1e12)
    target_weight = as_number("target_weight", target_weight, least=0, below=1e12)
    solver = as_choice("solver", solver, SOLVERS)
    level_weight = as_number("level_weight", level_weight, least=0, below=1e12)
    return Task((width, height), options, salient_weight, target_weight, solver, backend, level_weight)


def solve_frames(
    frames: Frames, task: Task, ratio: float | None, held: Float64, first: int, end: int | None = None
) -> Solution:
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
        frames.rolls,
        task.level_weight,
        corrections.reshape(n, 9),
        logs.reshape(n, 9),
        violation,
    )
    if found["status"] not in STATUS:
        raise infeasible(task, violation, first, first + found["bad_frame"])
    return Solution(
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


def core_options(task: Task, ratio: float | None) -> _core.CameraPathOptions:
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
        roll_weight=options.roll_weight,
        bound=options.bound,
        inset=options.inset_px / task.size[0],
        pixel=1 / task.size[0],
        relinearize=options.relinearize,
        tolerance=options.tolerance,
        max_iterations=options.max_iterations,
    )


def infeasible(task: Task, missing: Float64, first: int, bad_frame: int) -> InfeasibleError:
    """Return the error of a solve without a path; frames from `first` on lack `missing` to show their points."""
    frames = np.flatnonzero(missing > 0)
    if task.salient_weight is None and len(frames):
        names = ", ".join(str(first + t) for t in frames[:20]) + (", ..." if len(frames) > 20 else "")
        return InfeasibleError(f"salient: the points cannot all be kept in view in frames {names}")
    return InfeasibleError(f"motion, frame {bad_frame}: the constraints exclude every path")


def _solve_in_numpy(
    frames: Frames, task: Task, ratio: float | None, held: Float64, first: int, end: int | None
) -> Solution:
    """Do the rounds of `smooth_path` in NumPy, around the dense solver or another package's."""
    options = task.options
    n, pinned = len(frames.motion), len(held)
    F = frames.motion.copy()
    F[:1] = np.eye(3)
    velocity = log_homography(F).reshape(n, 9)
    ratio = ratio if ratio is not None else _reference.estimate_ratio(velocity)
    model = MODEL[options.model]
    hard_points = frames.salient.shape[1] > 0 and task.salient_weight is None
    at, iterations = None, 0
    for rounds in range(options.relinearize + 5):
        program = path_rows(frames, task, ratio, held, velocity, at)
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
    return Solution(
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


def _resting_log(task: Task) -> Float64:
    """Return a pure zoom strictly inside every crop row: halfway between the smallest window and the frame."""
    options, inset = task.options, task.width_options.inset
    scale = options.effective_window_scale
    zoom = 0.5 * ((1 - options.crop) + min(1 - 2 * inset, 1 - 2 * inset / task.aspect)) / scale - 1
    return zoom / 3 * np.array([1, 0, 0, 0, 1, 0, 0, 0, -2.0])


def _find_inside(program: BandedProgram, start: Float64, task: Task, first: int) -> Float64:
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


class _WidthOptions:
    """`PathOptions` as the reference reads them, with the lengths that depend on the frame size in frame widths."""

    def __init__(self, options: PathOptions, inset: float, pixel: float) -> None:
        self._options = options
        self.inset = inset
        self.pixel = pixel

    def __getattr__(self, name: str) -> object:
        return getattr(self._options, name)


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

    See Also
    --------
    filter_path : Smooth a camera path with a linear filter, then shrink what leaves the frame (`contain`).
    crop_map : Map from output pixels to pixels of the crop window, shape (3, 3).

    Examples
    --------
    >>> import numpy as np
    >>> from legato import camera
    >>> far = np.eye(3) + [[0, 0, 100], [0, 0, 0], [0, 0, 0]]
    >>> float(camera.contain([far], size=(640, 360))[0, 0, 2].round(1))     # what a crop of 12 % leaves
    19.2
    """
    options = check_options(options)
    size = check_size(size)
    P = as_float64("corrections", corrections, (None, 3, 3)).copy()
    bad = np.flatnonzero(~(crop_room_px(P, size, options) >= 0))
    if len(bad):
        # A little more than asked, for the rounding of the change of units.
        inner = dataclasses.replace(options, inset_px=options.inset_px + 1e-9)
        task = Task(size, inner, None, 0.0, "banded", _dispatch.choose(backend))
        whole = to_width_units(P, size)
        if task.backend == "native":
            _core.camera_contain(whole.reshape(-1, 9), task.aspect, core_options(task, None), whole.reshape(-1, 9))
        else:
            whole = _reference.contain(whole, task.aspect, task.width_options)
        P[bad] = to_pixel_units(whole[bad], size)
    return P
