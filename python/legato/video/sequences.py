"""Pictures in memory, steadied as a file is: with the whole clip's look-ahead, and memory for a window of it."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from legato import camera
from legato._files import PathLike
from legato._scalars import as_number
from legato.errors import ArgumentError
from legato.video.choices import Backend, Inclusion, Interpolation, Level
from legato.video.media.frames import Frame, owned, picture_of, redrawn
from legato.video.media.planes import Planes, luma
from legato.video.media.reader import VideoFrame
from legato.video.motion.analysis import Step, usable_area
from legato.video.motion.refinement import looked_again
from legato.video.motion.subjects import Box, SubjectTracker
from legato.video.motion.tracking import Tracker, predicted_error_px
from legato.video.options import Aim, Estimate, Output
from legato.video.pipeline import Stopwatch
from legato.video.planning import Aims, PathPlanner
from legato.video.presets import PresetName
from legato.video.warping import warp

__all__ = ["stabilize_frames"]

FrameT = TypeVar("FrameT", bound=Frame)
_FASTEST = 1000.0  # frames a second
_AS_IT_IS = np.eye(3)


@overload
def stabilize_frames(frames: NDArray[Any], fps: float, **options: Any) -> NDArray[Any]: ...
@overload
def stabilize_frames(frames: Iterable[FrameT], fps: float, **options: Any) -> Iterator[FrameT]: ...
def stabilize_frames(  # type: ignore[misc]  # the options are said once, here
    frames: Iterable[Any],
    fps: float,
    *,
    preset: PresetName = "standard",
    crop: float | None = None,
    options: camera.PathOptions | None = None,
    mask: PathLike | NDArray[Any] | None = None,
    region: Box | None = None,
    subject: Box | None = None,
    salient: PathLike | NDArray[Any] | None = None,
    inclusion: Inclusion = "soft",
    center: float | None = None,
    level: Level | None = None,
    guard: bool = True,
    interpolation: Interpolation = "bicubic",
    backend: Backend = "native",
    threads: int = 1,
) -> Any:
    """Steady the pictures of a clip: what `stabilize` does to a file.

    Parameters
    ----------
    frames : (n, h, w, 3) uint8 array, (n, h, w) uint8 or uint16 array, or iterable of frames
        The clip, in order: RGB or BGR (the order is kept, and matters little to what follows the scene) or gray; or any
        iterable of (h, w, 3) or (h, w) arrays, `Planes`, `VideoFrame` or av.VideoFrame, of one size.
    fps : float
        Frames a second.
    preset, crop, options, mask, region, subject, salient, inclusion, center, level, guard
        As for `stabilize`.
    interpolation, backend, threads
        As for `stabilize`.

    Returns
    -------
    array, or iterator of frames of the kind that came in
        As many as came in, at the same size. An array for an array. The iterator reads ahead and holds some three
        seconds of pictures (the presets tripod and follow: all of them); one that may be written is copied, so that its
        buffer may be used again. A clip that the guard leaves alone comes out as it was.

    Raises
    ------
    ArgumentError
        If an argument is not as described, or a frame is no picture or has another size than the first.
    InfeasibleError
        If points that must be in view cannot be.

    See Also
    --------
    stabilize : Turn a shaky video into a steady one; keep its sound, timestamps, rotation and colour tags.
    Stabilizer : Steady pictures with a fixed delay.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import video
    >>> video.stabilize_frames(np.zeros((8, 48, 64, 3), np.uint8), 30).shape
    (8, 48, 64, 3)
    """
    given = locals()
    whole = isinstance(frames, np.ndarray)
    if isinstance(frames, np.ndarray) and frames.ndim not in (3, 4):
        raise ArgumentError(f"frames: expected shape (n, h, w, 3) or (n, h, w), got {frames.shape}")
    if not isinstance(frames, Iterable) or isinstance(frames, str | bytes | bytearray | memoryview):
        raise ArgumentError(f"frames: expected an array or an iterable of frames, got {type(frames).__name__}")
    rest = iter(frames)
    rate = as_number("fps", fps, above=0, most=_FASTEST)
    aim, estimate, output = Aim.of(given), Estimate.of(given), Output.of(given)
    first = next(rest, None)
    steady: Iterator[Any] = iter(())
    if first is not None:
        clip = _Clip(first, rate, aim, estimate, output)
        steady = clip.steady(itertools.chain([first], rest))
    if not whole:
        return steady
    out = np.empty_like(frames)
    for t, picture in enumerate(steady):
        out[t] = picture
    return out


class _Clip:
    """A clip whose first picture is known."""

    def __init__(self, first: Frame, rate: float, aim: Aim, estimate: Estimate, output: Output) -> None:
        height, width = luma(picture_of(first)).shape
        self._size, self._rate, self._output = (width, height), rate, output
        self._backend = estimate.backend
        self._usable = usable_area(self._size, estimate.mask, estimate.region)
        self._tracker = Tracker(self._size, mask=self._usable, backend=self._backend)
        self._subject = None if estimate.subject is None else SubjectTracker(self._size, estimate.subject)
        has_subject = self._subject is not None
        if aim.pull > 0 and aim.salient is None and not has_subject:
            raise ArgumentError("center: nothing to follow: give a subject or salient points (preset 'follow', too)")
        if aim.level == "orientation":
            raise ArgumentError("level: expected 'mean' or degrees: only a motion file tells orientations")
        hard = aim.inclusion == "hard"
        aims = Aims.of(aim.salient, subject=has_subject, hard=hard, center=aim.pull, level=aim.level)
        self._watch = Stopwatch()
        self._plan = PathPlanner(
            self._size,
            aim.path_options,
            window_s=aim.window_s,
            guard=aim.guard is not False,
            aims=aims,
            time_base=None,
            frame_rate=rate,
            watch=self._watch,
        )
        self._waiting: deque[Frame] = deque()
        self._drawn = 0

    def steady(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Go through the steadied frames."""

        def silent(_stage: str, _done: int, _count: int | None) -> None:
            pass

        followed = self._followed(frames)
        again = looked_again(followed, self._size, self._rate, self._usable, self._watch, silent, self._backend)
        for _, step in again:
            self._plan.push(step)
            yield from self._ready()
        self._plan.finish()
        yield from self._ready()

    def _followed(self, frames: Iterable[Frame]) -> Iterator[tuple[VideoFrame, Step]]:
        """Follow the frames; of each the brightness goes on, for a second look."""
        for t, frame in enumerate(frames):
            brightness = luma(picture_of(frame))
            if brightness.shape != self._size[::-1]:
                height, width = brightness.shape
                raise ArgumentError(
                    f"frames: expected {self._size[0]}x{self._size[1]} as the first, got {width}x{height} in frame {t}"
                )
            mine = owned(frame)
            self._waiting.append(mine)
            motion = self._tracker.push(brightness)
            box = None if self._subject is None else self._subject.push(brightness)
            step = Step(np.eye(3), True, confidence=1.0, subject=box)
            if motion is not None:
                step = Step(
                    motion.homography,
                    motion.ok,
                    motion.duplicate,
                    motion.confidence,
                    predicted_error_px(motion) if motion.ok else math.nan,
                    subject=box,
                )
            kept = brightness if brightness.base is None else luma(picture_of(mine))  # never the caller's memory
            yield VideoFrame(Planes(kept), t, 1, Fraction(1, 1), False, t), step

    def _ready(self) -> Iterator[Frame]:
        while self._waiting and self._drawn < self._plan.ready:
            frame, correction = self._waiting.popleft(), self._plan.corrections[self._drawn]
            self._drawn += 1
            if np.array_equal(correction, _AS_IT_IS):
                yield frame
                continue
            output = self._output
            picture = warp(picture_of(frame), correction, interpolation=output.interpolation, threads=output.threads)
            yield redrawn(frame, picture)
