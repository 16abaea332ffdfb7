"""How the pictures of a video are to be drawn: decided while its motion comes in, frame by frame.

The path is solved in windows (`legato.camera.PathStream`), so that the first pictures can be drawn while the later ones
are still being followed, and memory does not grow with the length of the video.
"""

from __future__ import annotations

import os
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from legato import camera
from legato.errors import ArgumentError, InputError
from legato.video.motion.guard import Gain, Guard
from legato.video.motion.subjects import box_corners, read_salient
from legato.video.pipeline import Stopwatch
from legato.video.presets import believable_rate

if TYPE_CHECKING:
    from legato._files import PathLike
    from legato.video.motion.analysis import Step

__all__ = ["Aims", "PathPlanner", "window_frames"]

Floats: TypeAlias = NDArray[np.float64]

# Of the penalty on salient points outside of the picture, in units of the weight of the third differences: above ten
# it is as good as a hard bound where that can be met.
_SOFT_INCLUSION = 10.0
# Of a window, whatever the frame rate: fewer see too little, more are no better.
_LEAST_WINDOW, _MOST_WINDOW = 60, 240
# The frame rate that the weights are adapted to is that of so many frames, the first ones.
_TIMED = 60
# What takes so many times as long as most frames is a pause and says nothing about the rate.
_PAUSE = 4.0


def window_frames(window_s: float, frame_rate: float) -> tuple[int, int]:
    """Give the frames of a window of so many seconds, and how many of them are kept; the rest is look-ahead."""
    window = int(min(max(round(window_s * frame_rate), _LEAST_WINDOW), _MOST_WINDOW))
    return window, window * 2 // 3


class Aims(NamedTuple):
    """What is to be kept in view or in the middle.

    Attributes
    ----------
    salient : (n, m, 2) float64 array or None
        Points of each frame, in pixels, NaN for none; fewer rows than frames if they are of a file.
    source : str or None
        That file.
    subject : bool
        Whether the steps have a subject.
    hard : bool
        Whether they must be in view.
    center : float
        Weight that pulls their middle to the center of the picture, at 30 frames a second.
    """

    salient: Floats | None = None
    source: str | None = None
    subject: bool = False
    hard: bool = False
    center: float = 0.0

    @classmethod
    def of(cls, salient: PathLike | NDArray[np.float64] | None, *, subject: bool, hard: bool, center: float) -> Aims:
        """Read the points; say what is wrong with them before the work."""
        if salient is None or isinstance(salient, np.ndarray):
            if salient is not None and (salient.ndim != 3 or salient.shape[2] != 2):
                raise ArgumentError(f"salient: expected shape (frames, m, 2), got {salient.shape}")
            return cls(salient, None, subject, hard, center)
        return cls(read_salient(salient), os.fspath(salient), subject, hard, center)

    @property
    def points(self) -> int:
        """How many points a frame has at most."""
        return (0 if self.salient is None else self.salient.shape[1]) + 4 * self.subject

    def at(self, frame: int, step: Step) -> tuple[Floats, Floats]:
        """Points of a frame (m, 2), and the middle of those that there are, (2,); NaN for none."""
        points = np.full((self.points, 2), np.nan)
        if self.salient is not None and frame < len(self.salient):
            points[: self.salient.shape[1]] = self.salient[frame]
        if self.subject and step.subject is not None:
            points[-4:] = box_corners(np.array([step.subject]))[0]
        known = np.isfinite(points).all(1)
        return points, points[known].mean(0) if known.any() else np.full(2, np.nan)

    def check(self, frames: int) -> None:
        """Refuse points of another video, once it is known how many frames this one has."""
        rows = 0 if self.salient is None else len(self.salient)
        if self.source is not None and rows > frames:
            raise InputError(f"{self.source}: frame {rows - 1} of a video of {frames}")
        if self.salient is not None and self.source is None and rows != frames:
            raise ArgumentError(f"salient: expected shape ({frames}, m, 2), got {self.salient.shape}")


class PathPlanner:
    """Takes the steps of a video, one by one, and tells how its pictures are to be drawn.

    Nothing is told while nothing is to be gained (see `Guard`). A video in which that stays so is left as it is.

    Parameters
    ----------
    size : (width, height)
        Of the pictures, in pixels.
    options : legato.camera.PathOptions
        Meant for 30 frames a second; adapted to the video's rate.
    window_s : float or None
        Seconds that are planned at once, a third of them look-ahead; None: the whole video, by one solve.
    guard : bool
        Whether to ask if there is something to be gained; not asked where there is something to center.
    aims : Aims
    time_base : Fraction or None
        Seconds in one unit of the steps' `pts`.
    frame_rate : float
        Where the times of the first frames do not tell.
    watch : Stopwatch
        The stages are called "path" and, for what the guard asks, "metrics".
    view : float or None
        Part of the frame that the output shows, in place of the crop window: it may then look beyond the frame.

    Attributes
    ----------
    window, corrections : list of (3, 3) float64 array
        What is decided, from the first frame on: from the crop window's pixels to the input's, and from the output's.
    status : str
        See `StabilizeReport.path_status`.
    gap : float
        The largest certified gap of a solved program.
    iterations : int
    """

    def __init__(
        self,
        size: tuple[int, int],
        options: camera.PathOptions,
        *,
        window_s: float | None,
        guard: bool,
        aims: Aims,
        time_base: Fraction | None,
        frame_rate: float,
        watch: Stopwatch,
        view: float | None = None,
    ) -> None:
        self.window: list[Floats] = []
        self.corrections: list[Floats] = []
        self.status, self.gap, self.iterations = "none", 0.0, 0
        self._size, self._options, self._aims = size, options, aims
        self._window_s = window_s
        self._time_base, self._frame_rate = time_base, frame_rate
        self._watch, self._view = watch, view
        self._guard = Guard(size) if guard and not (aims.points and aims.center > 0) else None
        self._open = False
        self._steps: list[Step] = []
        self._known = False
        self._stream: camera.PathStream | None = None
        self._fed = 0  # steps that the stream has

    @property
    def gain(self) -> Gain | None:
        """What the guard found; None where it was not asked."""
        return None if self._guard is None else self._guard.gain

    @property
    def inside(self) -> bool:
        """Whether the pictures show nothing from beyond the frame."""
        return self._view is None or self.status in ("none", "rest")

    @property
    def ready(self) -> int:
        """How many frames, from the first on, can be drawn."""
        return len(self.corrections) if self._open else 0

    def step(self, frame: int) -> Step:
        """Give what was pushed of a frame."""
        return self._steps[frame]

    def push(self, step: Step) -> None:
        """Take the next frame."""
        self._steps.append(step)
        self._known |= step.ok and not step.duplicate and len(self._steps) > 1  # the first has nothing before it
        if self._window_s is None or len(self._steps) < _TIMED:
            return
        if self._stream is None:
            self._begin(self._window_s)
        assert self._stream is not None
        # All at once when they complete a window: one by one costs more than the solver does.
        if len(self._steps) - self._fed + self._stream.pending_frames > self._stream.latency_frames:
            self._feed()

    def finish(self) -> None:
        """There are no more frames: decide what is left."""
        count = len(self._steps)
        self._aims.check(count)
        if not self._ask(last=True):
            self.status = "rest" if self._known else "none"
            self.window = self.corrections = [np.eye(3)] * count
        elif self._window_s is None:
            self._solve_whole()
        else:
            if self._stream is None:
                self._begin(self._window_s)
            self._feed()
            assert self._stream is not None
            with self._watch("path"):
                window = self._stream.finish()
            self._take(window)
            self.status, self.gap, self.iterations = self._stream.status, self._stream.gap, self._stream.iterations
        self._open = True

    def _ask(self, *, last: bool = False) -> bool:
        self._open = self._open or (self._known and (self._guard is None or self._guard.opened(self._steps, last=last)))
        return self._open

    def _rate(self) -> float:
        rate = self._frame_rate
        times = [step.pts for step in self._steps[:_TIMED] if step.pts is not None]
        steps = np.diff(np.array(times, np.float64))
        steps = steps[steps > 0]
        if self._time_base is not None and len(steps):
            # Not by np.median: it imports the masked arrays, and all stages wait meanwhile.
            usual = np.sort(steps)[len(steps) // 2]
            even = steps[steps <= _PAUSE * usual]
            rate = 1 / float(even.mean() * float(self._time_base))
        return believable_rate(rate)

    def _adapted(self) -> dict[str, float | None]:
        """Adapt the options to the frame rate, and give the weights of the aims."""
        rate = self._rate()
        soft = _SOFT_INCLUSION * max(self._options.weights[1:])
        self._options = self._options.at_frame_rate(rate)
        return {
            "salient_weight": None if self._aims.hard or not self._aims.points else soft,
            "target_weight": self._aims.center * 30 / rate if self._aims.points else 0.0,
        }

    def _begin(self, window_s: float) -> None:
        window, stride = window_frames(window_s, self._rate())
        weights: Any = self._adapted()
        self._stream = camera.PathStream(self._size, self._options, window=window, stride=stride, **weights)

    def _feed(self) -> None:
        """Give the stream the steps that it does not have."""
        assert self._stream is not None
        first, self._fed = self._fed, len(self._steps)
        if first < self._fed:
            with self._watch("path"):
                steps = self._steps[first:]
                motion = np.array([step.motion if step.ok else np.full((3, 3), np.nan) for step in steps])
                salient, targets = self._aimed(first)
                window = self._stream.push(motion, salient=salient, targets=targets)
            self._take(window)

    def _aimed(self, first: int) -> tuple[Floats, Floats] | tuple[None, None]:
        if not self._aims.points:
            return None, None
        aimed = [self._aims.at(t, step) for t, step in enumerate(self._steps[first:], start=first)]
        return np.array([points for points, _ in aimed]), np.array([middle for _, middle in aimed])

    def _solve_whole(self) -> None:
        weights: Any = self._adapted()
        steps = self._steps
        with self._watch("path"):
            motion = camera.bridge_motion(np.array([s.motion for s in steps]), np.array([s.ok for s in steps]))
            salient, targets = self._aimed(0)
            path = camera.smooth_path(motion, self._size, self._options, salient=salient, targets=targets, **weights)
        self._take(path.corrections)
        self.status, self.gap, self.iterations = str(path.status), float(path.gap), int(path.iterations)

    def _take(self, window: Floats) -> None:
        """Keep what became final, shrunk where the exact window would leave the frame."""
        if len(window):
            with self._watch("path"):
                window = camera.contain(window, self._size, self._options)
                self.window.extend(window)
                self.corrections.extend(np.asarray(window @ self._shown(), np.float64))
            self._ask()

    def _shown(self) -> Floats:
        """Map from output pixels to those of the window."""
        options = self._options
        if self._view is not None:
            options = replace(options, window_scale=max(self._view, 1 - options.crop))
        return camera.crop_map(self._size, options)
