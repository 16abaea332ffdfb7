"""A second look at the pairs of frames whose motion is hard to measure, in pictures that are steady already.

Blur, a shutter that rolls and parallax grow with the motion, and with them the error of the fit. Drawn by a first path,
two frames differ by little more than that error: what is left between them is measured where it will be seen.

It is taken block by block while the frames come in: the first path is that of a block alone, since all that is asked of
it is that neighbors are drawn alike. A second answer stands only where it is, by its own prediction, the better one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from legato import camera
from legato.video.choices import Backend
from legato.video.media.planes import luma
from legato.video.media.reader import VideoFrame
from legato.video.motion.analysis import Mask, Step
from legato.video.motion.guard import bends
from legato.video.motion.tracking import Motion, estimate_motion, predicted_error_px
from legato.video.pipeline import Stopwatch
from legato.video.presets import believable_rate, preset_named
from legato.video.progress import Progress
from legato.video.warping import warp

__all__ = ["looked_again"]

Floats: TypeAlias = NDArray[np.float64]

# Predicted deviation of a corner, at a width of 640, from which a pair is looked at again. Ordinary clips have no such
# pair; half of those of a hard walk are. From 0.15 to 0.25 the result is about the same (docs/quality.md).
_HARD_PX = 0.2
# Frames of a block, fewer where that many pictures' luma would be too much memory.
_BLOCK = 60
_MOST_BYTES = 1 << 29


def block_frames(size: tuple[int, int], sample_bytes: int = 1) -> int:
    """Give how many frames a second look holds back at most: a matter of their size alone."""
    return max(2, min(_BLOCK, _MOST_BYTES // (size[0] * size[1] * sample_bytes)))


def looked_again(
    steps: Iterable[tuple[VideoFrame, Step]],
    size: tuple[int, int],
    frame_rate: float,
    mask: Mask | None,
    watch: Stopwatch,
    tell: Progress,
    backend: Backend = "native",
) -> Iterator[tuple[VideoFrame, Step]]:
    """Measure the hard pairs again; most clips have none, and cost nothing.

    A pair is hard if its motion was measured, but badly, in a block that its rough path makes steadier.

    Parameters
    ----------
    steps : iterable of (VideoFrame, Step)
        The frames of a video from the first one on, and what the tracker found.
    size : (width, height)
    frame_rate : float
        Frames a second, about.
    mask : (height, width) bool or uint8 array, or None
        Where the scene may be followed.
    watch, tell
        The stage is called "refine".
    backend : {"native", "opencv"}
        What measures (see `estimate_motion`).

    Yields
    ------
    (VideoFrame, Step)
        The same frames; held back, from the first hard pair of a block on, until its end.
    """
    again = _SecondLook(size, frame_rate, mask, watch, tell, backend)
    length = 0
    known: list[Step] = []
    waiting: list[VideoFrame] = []
    before: VideoFrame | None = None  # of those that wait
    for frame, step in steps:
        if not known:
            length = block_frames(size, frame.planes.y.itemsize)
        known.append(step)
        if waiting or again.hard(known, len(known) - 1):
            waiting.append(frame)
        else:
            before = frame
            yield frame, step
        if waiting and len(known) % length == 0:
            again.measure(known, before, waiting, length)
            yield from zip(waiting, known[-len(waiting) :], strict=True)
            before, waiting = waiting[-1], []
    if waiting:
        again.measure(known, before, waiting, length)
        yield from zip(waiting, known[-len(waiting) :], strict=True)


class _SecondLook:
    """The measurement of a block's hard pairs."""

    def __init__(
        self,
        size: tuple[int, int],
        frame_rate: float,
        mask: Mask | None,
        watch: Stopwatch,
        tell: Progress,
        backend: Backend,
    ) -> None:
        self._size, self._backend = size, backend
        options = preset_named("standard").options().at_frame_rate(believable_rate(frame_rate))
        self._options = replace(options, tolerance=1e-3)
        self._visible = None if mask is None else (mask != 0).astype(np.uint8) * 255
        self._watch, self._tell = watch, tell
        self._done = 0

    def hard(self, steps: list[Step], t: int) -> bool:
        """Tell whether the motion from frame t to the one before is measured, but badly."""
        step = steps[t]
        # The motion after a repeated frame began before it.
        new = t > 0 and step.ok and not step.duplicate and not steps[t - 1].duplicate
        return new and step.error_px * 640 / self._size[0] > _HARD_PX

    def measure(self, steps: list[Step], before: VideoFrame | None, waiting: list[VideoFrame], length: int) -> None:
        """Put better steps into the list, for the last frames of it: those that wait."""
        with self._watch("refine"):
            first = len(steps) - len(waiting)
            begin = max((len(steps) - 1) // length * length - 1, 0)  # the last frame of the block before
            corrections = self._rough(steps[begin:])
            if not self._steadier(steps[begin:], corrections):
                return
            earlier = None if before is None else _Steady.of(before, corrections[first - 1 - begin], self._visible)
            for t, frame in enumerate(waiting, start=first):
                now: _Steady | None = None
                hard = self.hard(steps, t)
                if hard or (t + 1 < len(steps) and self.hard(steps, t + 1)):
                    now = _Steady.of(frame, corrections[t - begin], self._visible)
                if hard and earlier is not None and now is not None:
                    step = now.since(earlier, self._backend)
                    # Elsewhere the second pictures, which are resampled, say less than the first.
                    if step is not None and predicted_error_px(step) < steps[t].error_px:
                        here, there = corrections[t - begin], corrections[t - 1 - begin]
                        whole = there @ step.homography @ np.linalg.inv(here)
                        steps[t] = replace(steps[t], motion=whole / whole[2, 2], error_px=predicted_error_px(step))
                    self._done += 1
                    self._tell("refine", self._done, None)
                earlier = now

    def _steadier(self, steps: list[Step], corrections: Floats) -> bool:
        """Tell whether the rough path makes a block steadier; true where no points were followed."""
        pairs = [
            (bends(step.traces, None, self._size[0]), bends(step.traces, corrections[t - 2 : t + 1], self._size[0]))
            for t, step in enumerate(steps)
            if t >= 2 and step.traces is not None
        ]
        before, after = (np.nansum(part) for part in zip(*pairs, strict=True)) if pairs else (0, 0)
        return bool(after <= before)

    def _rough(self, steps: list[Step]) -> Floats:
        motion = camera.bridge_motion(np.array([s.motion for s in steps]), np.array([s.ok for s in steps]))
        path = camera.smooth_path(motion, self._size, self._options)
        corrections = camera.contain(path.corrections, self._size, self._options)
        return np.asarray(corrections @ camera.crop_map(self._size, self._options))


class _Steady(NamedTuple):
    """A picture drawn by the first path, and what of it may be followed."""

    picture: NDArray[np.uint8]
    visible: NDArray[np.uint8] | None

    @classmethod
    def of(cls, frame: VideoFrame, correction: Floats, visible: NDArray[np.uint8] | None) -> _Steady:
        picture = warp(luma(frame.planes), correction, interpolation="bicubic")
        return cls(picture, None if visible is None else warp(visible, correction))

    def since(self, before: _Steady, backend: Backend) -> Motion | None:
        """Measure the motion to the picture before; None where it cannot be told or seems to be none."""
        mask = None
        if self.visible is not None and before.visible is not None:
            mask = np.minimum(self.visible, before.visible) > 127
        step = estimate_motion(before.picture, self.picture, mask=mask, backend=backend)
        return step if step.ok and not step.duplicate else None
