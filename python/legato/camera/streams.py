"""Camera paths window by window: clips of any length in bounded memory, and live (Cinematic-L1, section 3)."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from legato import _core, _dispatch
from legato._arrays import Float64, as_float64
from legato._dispatch import Backend
from legato._scalars import as_choice, as_count, as_flag, shown
from legato._turns import Turns, one_at_a_time
from legato.camera import _reference
from legato.camera.frames import fill_motion
from legato.camera.homographies import exp_homography, log_homography, to_pixel_units
from legato.camera.options import UNITS, PathOptions, Units, check_options
from legato.camera.problem import (
    Frames,
    Solution,
    Task,
    as_rolls,
    check_task,
    core_options,
    in_width_units,
    infeasible,
    solve_frames,
)
from legato.camera.programs import STATUS, Solver
from legato.errors import ArgumentError, HomographyError

__all__ = ["PathStream"]

_PINNED = 3  # derivatives reach three frames back, so three pinned frames stand for the whole past
_SHORT_LOOK_AHEAD = 10  # frames; below that predicted motions help
_PREDICTED = 15
_DECAY = 0.9
_LONGEST_WINDOW, _MOST_PREDICTED = 2**24 - 1, 1000  # of the compiled stream, which lays out its memory beforehand
_MEAN_OF = 10  # frames whose mean motion is carried on


class PathStream:
    """A camera path while the motion is still coming in.

    Every window of `window` frames is solved as a whole, with the last three committed frames pinned; the first
    `stride` frames of it (the pinned ones included) are then committed and never change (paper, section 3). So
    ``stride - 3`` frames come out at a time, and the path of a frame is known at the latest ``window - 3`` frames
    after it. The result does not depend on how the frames are grouped into pushes, and is bit for bit that of
    `smooth_path` with the same `window` and `stride`. Memory does not grow. Threads may share it: one at a time works.

    Parameters
    ----------
    size : (width, height)
    options : PathOptions, optional
        A keystone ratio to be estimated is estimated from the scene so far.
    window, stride : int
        ``4 <= stride < window``, or ``stride=None``: a quarter of the window, at least 13 frames, of which ten are
        new; committing fewer at a time was measured to give worse paths.
    units : {"pixel", "width"}
    predicted : int, optional
        Motions appended to each window but a scene's last: the mean of the last ten, each 0.9 times the one before.
        ``None``: 15 where the look-ahead ``window - stride`` is at most ten frames, else none.
    salient_weight, target_weight, level_weight, solver, backend
        As for `smooth_path`.

    Attributes
    ----------
    status : str
        The worst verdict of the solver so far (see `CameraPath`); "optimal" before the first window.
    gap : float
        The largest certified gap of a window's own program so far; NaN before the first.
    iterations : int
        Of the solver, in all windows so far.

    See Also
    --------
    smooth_path : Find the L1-optimal camera path of a clip.
    LivePath : A camera path with a fixed delay, for pictures that are shown while they are filmed.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import camera
    >>> stream = camera.PathStream((640, 360), window=60, stride=30)
    >>> [len(stream.push(np.eye(3))) for _ in range(60)][-1], len(stream.finish())
    (30, 30)
    """

    def __init__(
        self,
        size: tuple[int, int],
        options: PathOptions | None = None,
        *,
        window: int = 120,
        stride: int | None = 30,
        units: Units = "pixel",
        predicted: int | None = None,
        salient_weight: float | None = None,
        target_weight: float = 0.0,
        level_weight: float = 0.0,
        solver: Solver = "banded",
        backend: Backend | None = None,
    ) -> None:
        options = check_options(options)
        task = check_task(size, options, salient_weight, target_weight, solver, _dispatch.choose(backend), level_weight)
        self._units = as_choice("units", units, UNITS)
        self._turns = Turns()
        self._size = task.size
        windows = _Windows(task, window, stride, predicted)
        self._latency = windows.window - _PINNED - 1
        self.status, self.gap, self.iterations = "optimal", math.nan, 0
        native = task.backend == "native" and task.solver == "banded"
        self._windows: _Windows | _NativeWindows = _NativeWindows(windows) if native else windows

    @property
    def latency_frames(self) -> int:
        """Most frames that must follow a frame before its correction comes out."""
        return self._latency

    @property
    @one_at_a_time
    def pending_frames(self) -> int:
        """Frames pushed whose corrections have not come out."""
        return self._windows.pending

    @one_at_a_time
    def push(
        self,
        motion: ArrayLike | None,
        *,
        cut: bool = False,
        salient: ArrayLike | None = None,
        targets: ArrayLike | None = None,
        rolls: ArrayLike | None = None,
        frame_weight: ArrayLike | None = None,
    ) -> Float64:
        """Take frames; return the corrections that became final.

        Parameters
        ----------
        motion : array_like, shape (3, 3) or (k, 3, 3), or None
            Frame t to frame t - 1; not read for the very first frame. ``None`` or NaN: the motion of a frame is
            missing. It is interpolated between its neighbors within the window; where none follows yet, the camera
            is taken to stand still.
        cut : bool
            A new scene starts with the first of these frames: what is pending comes out, nothing is smoothed across,
            and that frame's motion is not read.
        salient : array_like, shape (k, m, 2), optional
            With the same m in every push of a scene.
        targets : array_like, shape (k, 2), optional
        rolls : array_like, shape (k,), optional
        frame_weight : array_like, shape (k,), optional

        Returns
        -------
        ndarray, shape (j, 3, 3), j >= 0

        See Also
        --------
        PathStream.finish : End the scene: return the remaining corrections. The stream then waits for a new scene.
        """
        if motion is None:
            motion = np.full((1, 3, 3), np.nan)
        F = as_float64("motion", motion)
        F = as_float64("motion", F[None] if F.ndim == 2 else F, (None, 3, 3))
        k = len(F)
        weight = np.ones(k) if frame_weight is None else as_float64("frame_weight", frame_weight, (k,))
        if not ((weight > 0) & (weight < 1e12)).all():
            raise ArgumentError("frame_weight: expected numbers above 0")
        frames = Frames(
            F,
            weight,
            np.empty((k, 0, 2)) if salient is None else as_float64("salient", salient, (k, None, 2)),
            np.full((k, 2), np.nan) if targets is None else as_float64("targets", targets, (k, 2)),
            np.full(k, np.nan) if rolls is None else as_rolls(rolls, k),
        )
        good = np.asarray(~np.isnan(F).any((1, 2)))
        F = np.where(good[:, None, None], F, np.eye(3))
        frames = in_width_units(frames._replace(motion=F), self._size, self._units)
        return self._out(self._windows.push(frames, good, [0] if as_flag("cut", cut) else []))

    @one_at_a_time
    def finish(self) -> Float64:
        """End the scene: return the remaining corrections. The stream then waits for a new scene.

        See Also
        --------
        PathStream.push : Take frames; return the corrections that became final.
        """
        return self._out(self._windows.end_scene())

    def _out(self, parts: list[Solution] | list[_Solved]) -> Float64:
        order = list(STATUS.values()).index
        for part in parts:
            self.status = max(self.status, part.status, key=order)
            self.gap = part.gap if math.isnan(self.gap) else max(self.gap, part.gap)
            self.iterations += part.iterations
        P = np.concatenate([np.empty((0, 3, 3)), *(part.corrections for part in parts)])
        return to_pixel_units(P, self._size) if self._units == "pixel" else P


class _Solved(NamedTuple):
    """What a window brought, as far as `PathStream` tells it."""

    corrections: Float64
    status: str
    gap: float
    iterations: int


class _NativeWindows:
    """What `_Windows` does, for the package's own solver, compiled (`legato::camera::PathStream`)."""

    def __init__(self, windows: _Windows) -> None:
        for name, value, most in (
            ("window", windows.window, _LONGEST_WINDOW),
            ("predicted", windows.predicted, _MOST_PREDICTED),
        ):
            if value > most:
                raise ArgumentError(f"{name}: expected at most {most} for a compiled stream, got {value}")
        self._plan = windows
        self._stream: _core.CameraPathStream | None = None  # made when a scene tells how many salient points it has
        self._points = 0
        self._taken = 0  # frames, in the whole stream

    @property
    def pending(self) -> int:
        return self._stream.pending if self._stream is not None else 0

    def push(self, frames: Frames, good: NDArray[np.bool_], starts: list[int]) -> list[_Solved]:
        out = self.end_scene() if starts else []
        n, points = len(good), frames.salient.shape[1]
        if n == 0:
            return out
        if self._stream is None or (points != self._points and self.pending == 0):
            self._stream, self._points = self._create(points), points
        elif points != self._points:
            raise ArgumentError("salient: expected the same number of points in every push of a scene")
        motion = np.where(good[:, None, None], frames.motion, np.nan).reshape(n, 9)
        at = 0
        while at < n:
            found = self._stream.push(motion, frames.weight, frames.salient, frames.targets, frames.rolls, at)
            self._taken += found["taken"] - at
            at = found["taken"]
            out += self._final(found)
        return out

    def end_scene(self) -> list[_Solved]:
        return [] if self._stream is None else self._final(self._stream.finish())

    def _create(self, points: int) -> _core.CameraPathStream:
        plan, task = self._plan, self._plan.task
        return _core.CameraPathStream(
            core_options(task, task.options.keystone_ratio),
            task.aspect,
            plan.window,
            plan.stride,
            plan.predicted,
            points,
            task.salient_weight or 0.0,
            task.target_weight,
            task.level_weight,
            self._taken,
        )

    def _final(self, found: dict[str, Any]) -> list[_Solved]:
        if found["status"] not in STATUS:
            raise infeasible(self._plan.task, found["violation"], found["first_frame"], found["bad_frame"])
        corrections: Float64 = found["corrections"]
        if len(corrections) == 0:
            return []
        return [_Solved(corrections.reshape(-1, 3, 3), STATUS[found["status"]], found["gap"], found["iterations"])]


class _Windows:
    """The windows of a clip, in frame widths: what `PathStream` and windowed `smooth_path` share."""

    def __init__(self, task: Task, window: int, stride: int | None, predicted: int | None) -> None:
        window = as_count("window", window, _PINNED + 2)
        if stride is None:
            stride = min(max(window // 4, 13), window - 1)
        if isinstance(stride, bool) or not isinstance(stride, int | np.integer) or not _PINNED < stride < window:
            raise ArgumentError(f"stride: expected an integer from {_PINNED + 1} to window - 1, got {shown(stride)}")
        if predicted is None:
            predicted = _PREDICTED if window - stride <= _SHORT_LOOK_AHEAD else 0
        predicted = as_count("predicted", predicted, 0)
        self.task, self.window, self.stride, self.predicted = task, window, int(stride), predicted
        self.filled: list[Float64] | None = None  # motions as they were solved, where the caller wants them
        self._first = 0  # number in the clip of the first frame kept
        self._start_scene()

    def _start_scene(self) -> None:
        self._chunks: list[tuple[Frames, NDArray[np.bool_]]] = []
        self._kept = 0  # frames in the chunks
        self._pins = np.empty((0, 3, 3))
        self._fresh = True  # the next frame is a scene's first
        self._products = [0.0, 0.0]  # sums of k t and t t over the scene: the keystone ratio
        self._before: tuple[int, Float64] | None = None  # last good motion before the kept frames: distance, log

    @property
    def pending(self) -> int:
        return self._kept - len(self._pins)

    def push(self, frames: Frames, good: NDArray[np.bool_], starts: list[int]) -> list[Solution]:
        out: list[Solution] = []
        at, n = 0, len(frames.motion)
        marks = [start for start in starts if start < n]
        while at < n:
            if marks and at == marks[0]:
                marks.pop(0)
                out += self.end_scene()
            end = min(n, at + self.window - self._kept, *marks)
            self._append(frames.slice(at, end), good[at:end])
            at = end
            if self._kept == self.window:
                out.append(self._solve(last=False))
        return out

    def _append(self, frames: Frames, good: NDArray[np.bool_]) -> None:
        good = good.copy()
        if self._fresh and len(good):
            good[0] = False  # a scene's first frame has no motion
        logs = self._logs(frames.motion, np.flatnonzero(good))
        self._fresh = self._fresh and len(good) == 0
        for f in logs:  # one by one: the same sums however the frames are grouped
            self._products[0] += float(f[6] * f[2]) + float(f[7] * f[5])
            self._products[1] += float(f[2] * f[2]) + float(f[5] * f[5])
        self._chunks.append((frames, good))
        self._kept += len(good)

    def _logs(self, motion: Float64, at: NDArray[np.intp]) -> Float64:
        try:
            return log_homography(motion[at]).reshape(-1, 9)
        except HomographyError:
            for t in at:
                try:
                    log_homography(motion[t])
                except HomographyError as error:
                    reason = str(error).partition(": ")[2]
                    raise HomographyError(f"motion, frame {self._first + self._kept + t}: {reason}") from None
            raise

    def end_scene(self) -> list[Solution]:
        try:
            return [self._solve(last=True)] if self.pending > 0 else []
        finally:
            self._first += self._kept
            self._start_scene()

    def _solve(self, last: bool) -> Solution:
        good = np.concatenate([part for _, part in self._chunks])
        parts = [part for part, _ in self._chunks]
        points = {part.salient.shape[1] for part in parts}
        if len(points) > 1:
            raise ArgumentError("salient: expected the same number of points in every push of a scene")
        frames = Frames(*(np.concatenate(pieces) for pieces in zip(*parts, strict=True)))
        known = frames._replace(motion=fill_motion(frames.motion, good, self._before))
        kt, tt = self._products
        ratio = self.task.options.keystone_ratio
        if ratio is None:
            ratio = float(np.clip(kt / tt, -3.0, -0.3)) if tt > 0 else _reference.NO_RATIO
        n = len(good)
        keep = n if last else self.stride
        solved_frames = known if last else self._with_predictions(known)
        held = len(self._pins)
        solved = solve_frames(solved_frames, self.task, ratio, self._pins, self._first, keep)
        if self.filled is not None:
            self.filled.append(known.motion[held:keep])
        if not last:
            drop = self.stride - _PINNED
            seen = np.flatnonzero(good[:drop])
            if len(seen):
                self._before = drop - int(seen[-1]), log_homography(frames.motion[seen[-1]]).ravel()
            elif self._before is not None:
                self._before = self._before[0] + drop, self._before[1]
            self._chunks = [(frames.slice(drop, n), good[drop:])]
            self._kept = n - drop
            self._first += drop
            self._pins = solved.corrections[drop:]
        return solved._replace(
            corrections=solved.corrections[held:],
            logs=solved.logs[held:],
            violation=solved.violation[held:],
        )

    def _with_predictions(self, frames: Frames) -> Frames:
        k = self.predicted
        if k == 0:
            return frames
        recent = log_homography(frames.motion[max(len(frames.motion) - _MEAN_OF, 1) :])
        ahead = exp_homography(recent.mean(0) * np.cumprod(np.full(k, _DECAY))[:, None, None])
        m = frames.salient.shape[1]
        return Frames(
            np.concatenate([frames.motion, ahead]),
            np.concatenate([frames.weight, np.ones(k)]) if len(frames.weight) else frames.weight,
            np.concatenate([frames.salient, np.full((k, m, 2), np.nan)]),
            np.concatenate([frames.targets, np.full((k, 2), np.nan)]) if len(frames.targets) else frames.targets,
            np.concatenate([frames.rolls, np.full(k, np.nan)]) if len(frames.rolls) else frames.rolls,
        )


def smooth_in_windows(
    frames: Frames,
    task: Task,
    window: int,
    stride: int | None,
    starts: list[int],
    good: NDArray[np.bool_] | None,
) -> tuple[Float64, list[Solution]]:
    """Push a whole clip through the windows; return the motions as they were used, and the committed parts."""
    n = len(frames.motion)
    windows = _Windows(task, window, stride, None)
    windows.filled = []
    missing = np.zeros(n, bool) if good is None else ~good
    motion = np.where(missing[:, None, None], np.eye(3), frames.motion)
    whole = Frames(
        motion,
        frames.weight if len(frames.weight) else np.ones(n),
        frames.salient,
        frames.targets if len(frames.targets) else np.full((n, 2), np.nan),
        frames.rolls if len(frames.rolls) else np.full(n, np.nan),
    )
    parts = windows.push(whole, ~missing, starts)
    parts += windows.end_scene()
    return np.concatenate([np.empty((0, 3, 3)), *windows.filled]), parts
