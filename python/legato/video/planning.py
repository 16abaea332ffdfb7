"""How the pictures of a video are to be drawn: decided while its motion comes in, frame by frame.

The path is solved in windows (`legato.camera.PathStream`), so that the first pictures can be drawn while the later ones
are still being followed, and memory does not grow with the length of the video.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from legato import camera
from legato.camera.metrics import rolls_of
from legato.errors import ArgumentError, InputError
from legato.video.framing import Framing, moved
from legato.video.motion.guard import Gain, Guard
from legato.video.motion.subjects import box_corners, read_salient
from legato.video.pipeline import Stopwatch
from legato.video.presets import believable_rate, preset_named

if TYPE_CHECKING:
    from legato._files import PathLike
    from legato.video.motion.analysis import Step
    from legato.video.motion.letterbox import Inset

__all__ = ["Aims", "PathPlanner", "window_frames"]

Floats: TypeAlias = NDArray[np.float64]

# Of the penalty on salient points outside of the picture, in units of the weight of the third differences: above ten
# it is as good as a hard bound where that can be met.
_SOFT_INCLUSION = 10.0
# Of the pull to the level, at 30 frames a second: what is left is what the crop does not allow, and the noise of the
# measured rolls, which are added up, is smoothed.
_LEVEL_WEIGHT = 3e3
_MOST_ROLL = 0.5  # radians; beyond, no crop lets a correction follow
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
    level : {"mean", "orientation"}, float or None
        What the roll of the pictures is to be: its mean, so many degrees clockwise of that, or none by the
        orientation that the motion file has; None: whatever the path makes of it.
    """

    salient: Floats | None = None
    source: str | None = None
    subject: bool = False
    hard: bool = False
    center: float = 0.0
    level: float | str | None = None

    @classmethod
    def of(
        cls,
        salient: PathLike | NDArray[np.float64] | None,
        *,
        subject: bool,
        hard: bool,
        center: float,
        level: float | str | None = None,
    ) -> Aims:
        """Read the points; say what is wrong with them before the work."""
        if salient is None or isinstance(salient, np.ndarray):
            if salient is not None and (salient.ndim != 3 or salient.shape[2] != 2):
                raise ArgumentError(f"salient: expected shape (frames, m, 2), got {salient.shape}")
            return cls(salient, None, subject, hard, center, level)
        return cls(read_salient(salient), os.fspath(salient), subject, hard, center, level)

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

    def rolls(self, motion: Floats, steps: Sequence[Step], size: tuple[int, int]) -> Floats | None:
        """Radians by which each correction is to turn, NaN for any, (n,); None where nothing is to be level."""
        if self.level is None:
            return None
        if self.level == "orientation":
            return np.clip([-step.roll for step in steps], -_MOST_ROLL, _MOST_ROLL)
        rolls = np.cumsum(rolls_of(motion, size))
        # Where a motion is not known the sum begins anew, with a mean of its own.
        scene = np.cumsum([t > 0 and not step.ok for t, step in enumerate(steps)])
        rolls -= (np.bincount(scene, rolls) / np.bincount(scene))[scene]
        turn = 0.0 if self.level == "mean" else np.radians(self.level)
        return np.clip(-rolls - turn, -_MOST_ROLL, _MOST_ROLL)

    def check(self, frames: int) -> None:
        """Refuse points of another video, once it is known how many frames this one has."""
        rows = 0 if self.salient is None else len(self.salient)
        if self.source is not None and rows > frames:
            raise InputError(f"{self.source}: frame {rows - 1} of a video of {frames}")
        if self.salient is not None and self.source is None and rows != frames:
            raise ArgumentError(f"salient: expected shape ({frames}, m, 2), got {self.salient.shape}")


class _Windows:
    """A path that is solved in windows while the motion comes in.

    Attributes
    ----------
    window, corrections : list of (3, 3) float64 array
        See `PathPlanner`.
    status : str
    gap : float
    iterations : int
    """

    def __init__(
        self, inset: Inset, options: camera.PathOptions, framing: Framing, aims: Aims, watch: Stopwatch
    ) -> None:
        self.window: list[Floats] = []
        self.corrections: list[Floats] = []
        self.status, self.gap, self.iterations = "none", 0.0, 0
        self._corner, self._size = np.array(inset[:2], np.float64), inset[2:]
        self._options, self._framing, self._aims, self._watch = options, framing, aims, watch
        self._stream: camera.PathStream | None = None
        self._fed = 0  # steps that the stream has

    def begin(self, window_s: float | None, rate: float) -> None:
        """Adapt the options to the frame rate, and open the stream; by one solve if there is no window."""
        soft = _SOFT_INCLUSION * max(self._options.weights[1:])
        self._options = self._options.at_frame_rate(rate)
        self._weights: Any = {
            "salient_weight": None if self._aims.hard or not self._aims.points else soft,
            "target_weight": self._aims.center * 30 / rate if self._aims.points else 0.0,
            "level_weight": 0.0 if self._aims.level is None else _LEVEL_WEIGHT * 30 / rate,
        }
        if window_s is not None:
            window, stride = window_frames(window_s, rate)
            self._stream = camera.PathStream(self._size, self._options, window=window, stride=stride, **self._weights)

    def feed(self, steps: Sequence[Step]) -> None:
        """Take what is new of the steps, once it completes a window: one by one costs more than solving."""
        stream = self._stream
        if stream is not None and len(steps) - self._fed + stream.pending_frames > stream.latency_frames:
            self._push(steps)

    def finish(self, steps: Sequence[Step]) -> None:
        """There are no more steps than these."""
        if self._stream is None:
            self._solve_whole(steps)
            return
        self._push(steps)
        with self._watch("path"):
            window = self._stream.finish()
        self._take(window)
        self.status, self.gap, self.iterations = self._stream.status, self._stream.gap, self._stream.iterations

    def _push(self, steps: Sequence[Step]) -> None:
        assert self._stream is not None
        first, self._fed = self._fed, len(steps)
        if first < self._fed:
            with self._watch("path"):
                motion = self._within(step.motion if step.ok else np.full((3, 3), np.nan) for step in steps[first:])
                salient, targets = self._aimed(steps, first)
                window = self._stream.push(motion, salient=salient, targets=targets)
            self._take(window)

    def _aimed(self, steps: Sequence[Step], first: int) -> tuple[Floats, Floats] | tuple[None, None]:
        if not self._aims.points:
            return None, None
        aimed = [self._aims.at(t, step) for t, step in enumerate(steps[first:], start=first)]
        points, middles = (np.array(part) - self._corner for part in zip(*aimed, strict=True))
        return points, middles

    def _within(self, motion: Iterable[Floats]) -> Floats:
        """Give motions in pixels of the picture inside of the bars."""
        return np.asarray(moved(-self._corner) @ np.array(list(motion)) @ moved(self._corner))

    def _solve_whole(self, steps: Sequence[Step]) -> None:
        with self._watch("path"):
            motion = camera.bridge_motion(self._within(s.motion for s in steps), np.array([s.ok for s in steps]))
            salient, targets = self._aimed(steps, 0)
            rolls = self._aims.rolls(motion, steps, self._size)
            path = camera.smooth_path(
                motion, self._size, self._options, salient=salient, targets=targets, rolls=rolls, **self._weights
            )
        self._take(path.corrections)
        self.status, self.gap, self.iterations = str(path.status), float(path.gap), int(path.iterations)

    def _take(self, window: Floats) -> None:
        """Keep what became final, shrunk where the exact window would leave the frame."""
        if len(window):
            with self._watch("path"):
                window = camera.contain(window, self._size, self._options)
                window = np.asarray(moved(self._corner) @ window @ moved(-self._corner))
                self.window.extend(window)
                self.corrections.extend(window @ self._framing.to_window)


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
        Whether a video that gains nothing is left as it is; not where there is something to center or to turn, or where
        neither `gain` nor the traces of the steps tell.
    aims : Aims
    time_base : Fraction or None
        Seconds in one unit of the steps' `pts`.
    frame_rate : float
        Where the times of the first frames do not tell.
    watch : Stopwatch
        The stages are called "path" and, for what the guard asks, "metrics".
    framing : Framing, optional
        What is shown of the steadied pictures; by default the crop window, enlarged to `size`.
    gain : Gain or None
        What is known already of what there is to be gained.
    inset : (x, y, width, height) of int, or None
        The picture inside of black bars, which is then what must be filled; all else is in pixels of the whole.

    Attributes
    ----------
    window, corrections : list of (3, 3) float64 array
        What is decided, from the first frame on: from the crop window's pixels to the input's, and from the output's.
    status : str
        See `StabilizeReport.path_status`.
    gap : float
        The largest certified gap of a solved program.
    iterations : int
    gain : Gain or None
        What is to be gained, at the end; None where nobody tells.
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
        framing: Framing | None = None,
        gain: Gain | None = None,
        inset: Inset | None = None,
    ) -> None:
        self.window: list[Floats] = []
        self.corrections: list[Floats] = []
        self.status, self.gap, self.iterations = "none", 0.0, 0
        self.gain = gain
        self._size, self._aims = size, aims
        self._window_s = window_s
        self._time_base, self._frame_rate = time_base, frame_rate
        self._watch = watch
        self._guarded = guard and not (aims.points and aims.center > 0) and aims.level in (None, "mean")
        inset = inset or (0, 0, *size)
        self.framing = Framing.of(size, options, inset=inset) if framing is None else framing
        self._path = _Windows(inset, options, self.framing, aims, watch)
        # What the guard judges is the standard path, whatever is asked for.
        standard = preset_named("standard")
        usual = standard.options()
        enlarged = Framing.of(size, usual, inset=inset)
        own = options == usual and window_s == standard.window_s and not aims.points and aims.level is None
        own = own and np.array_equal(self.framing.to_window, enlarged.to_window)
        self._judged = self._path if own else _Windows(inset, usual, enlarged, Aims(), watch)
        self._judged_window_s = standard.window_s
        self._guard: Guard | None = None
        self._unjudged: list[tuple[NDArray[np.float32] | None, bool]] = []
        self._paths: list[_Windows] = []
        self._seen = 0  # frames that the guard has
        self._steps: list[Step] = []
        self._known = self._begun = self._decided = False

    @property
    def inside(self) -> bool:
        """Whether the pictures show nothing from beyond the frame."""
        return not self.framing.wide or (self._decided and self.status in ("none", "rest"))

    @property
    def ready(self) -> int:
        """How many frames, from the first on, can be drawn."""
        return len(self.corrections)

    def step(self, frame: int) -> Step:
        """Give what was pushed of a frame."""
        return self._steps[frame]

    def push(self, step: Step) -> None:
        """Take the next frame."""
        self._unjudged.append((step.traces, step.duplicate))
        self._steps.append(step if step.traces is None else replace(step, traces=None))
        self._known |= step.ok and not step.duplicate and len(self._steps) > 1  # the first has nothing before it
        if len(self._steps) < _TIMED:
            return
        if not self._begun:
            self._begin()
        for path in self._paths:
            path.feed(self._steps)
        self._judge()
        if self._worthwhile and self._window_s is not None:
            self.window, self.corrections = self._path.window, self._path.corrections

    def finish(self) -> None:
        """There are no more frames: decide what is left."""
        count, path, self._decided = len(self._steps), self._path, True
        self._aims.check(count)
        if not self._begun:
            self._begin()
        if self._known and self._guard is not None:
            self._judged.finish(self._steps)
            self._judge()
            self.gain = self._guard.finish()
        if self._worthwhile:
            if self._guard is None or path is not self._judged:
                path.finish(self._steps)
            self.window, self.corrections = path.window, path.corrections
            self.status, self.gap, self.iterations = path.status, path.gap, path.iterations
        else:
            self.status = "rest" if self._known else "none"
            self.window, self.corrections = [np.eye(3)] * count, [self.framing.at_rest] * count

    @property
    def _worthwhile(self) -> bool:
        """Whether the pictures are to be drawn anew, by what is known so far."""
        if not self._guarded or not self._known:
            return self._known
        if self.gain is not None:
            return self.gain.worthwhile
        return self._guard is None or self._guard.opened

    def _begin(self) -> None:
        """Open the paths, now that the frame rate is known."""
        rate, self._begun = self._rate(), True
        self._path.begin(self._window_s, rate)
        self._paths = [self._path]
        if self.gain is None and any(points is not None for points, _ in self._unjudged):
            self._guard = Guard(self._size, rate)
            if self._judged is not self._path:
                self._judged.begin(self._judged_window_s, rate)
                self._paths.append(self._judged)

    def _judge(self) -> None:
        """Let the guard see what the standard path decided."""
        if self._guard is None:
            self._unjudged.clear()
            return
        corrections = self._judged.corrections[self._seen :]
        self._seen += len(corrections)
        if corrections:
            with self._watch("metrics"):
                self._guard.push(self._unjudged[: len(corrections)], corrections)
                del self._unjudged[: len(corrections)]

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
