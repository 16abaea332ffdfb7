"""What the compiled live plan (`legato::video::LivePlan`) should compute, in NumPy and in plain steps."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from legato import camera
from legato.video.motion.guard import bends, traces
from legato.video.motion.tracking import Tracker

Floats = NDArray[np.float64]

_LEAST_FRAMES = 10
# Live: q of the last seconds. Pictures are left as they are above the first, and steadied again below the second; it
# takes so many seconds to go from one to the other.
_LIVE_WINDOW_S, _LIVE_CLOSED_AT, _LIVE_OPENED_AT, _LIVE_CHANGE_S = 3.0, 0.9, 0.8, 1.5

_GLANCE = (32, 18)  # a picture reduced to this tells one scene from another
_GLANCE_SHIFT = 4  # cells by which a camera may have moved between two frames
_GLANCE_CONTRAST = 4.0  # gray levels: below, a picture is too flat to be told from another
_ALIKE = 0.6  # correlation of two glances below which they show two scenes


class LivePlan:
    """From luma to corrections, output pixel to input pixel: the tracker, a test for cuts, the path, crop and guard."""

    def __init__(
        self, size: tuple[int, int], options: camera.PathOptions, fps: float, latency: int, guard: bool = True
    ) -> None:
        self._options = options.at_frame_rate(fps)
        self._tracker = Tracker(size)
        self._path = camera.LivePath(size, self._options, latency_frames=latency)
        self._guard = LiveGuard(size, fps) if guard else None
        self._traced: deque[NDArray[np.float32] | None] = deque()  # of the pictures that wait
        self._points: NDArray[np.float32] | None = None  # of the newest motion
        self._before: NDArray[np.uint8] | None = None
        self._scene: NDArray[np.float32] | None = None  # how it looked before its motion could not be measured
        self.frames = self.failed = self.duplicates = self.cuts = self.rested = 0

    def push(self, luma: NDArray[np.uint8], cut: bool = False) -> Floats:
        if cut:
            self._tracker.reset()
        motion = self._tracker.push(luma)
        points, self._points = self._points, None if motion is None else motion.points
        size = self._tracker.size
        self._traced.append(None if points is None or motion is None else traces(points, motion.points, size))
        known: Floats | None = None
        if motion is not None and motion.ok:
            known = motion.homography
            self.duplicates += motion.duplicate
        elif motion is not None:
            cut = cut or not self._continues(luma)
            self.failed += not cut
        final = self._path.push(known, cut=cut)
        self.cuts += cut and self.frames > 0
        if cut:
            self._scene = None
        self.frames += 1
        self._before = luma
        return self._drawn(final)

    def finish(self) -> Floats:
        return self._drawn(self._path.finish())

    def _continues(self, luma: NDArray[np.uint8]) -> bool:
        assert self._before is not None
        before, after = _glance(self._before), _glance(luma)
        if before.std() >= _GLANCE_CONTRAST:
            self._scene = before
        # A flat picture, as of a covered lens or between two scenes, tells nothing; the next may.
        return self._scene is None or after.std() < _GLANCE_CONTRAST or _alike(self._scene, after)

    def _drawn(self, final: Floats) -> Floats:
        if len(final):
            final = camera.contain(final, self._tracker.size, self._options)
        out = final @ camera.crop_map(self._tracker.size, self._options)
        for correction in out:
            traced = self._traced.popleft()
            share = self._guard.push(traced, correction.copy()) if self._guard is not None else 0.0
            if share > 0:
                correction[:] = (1 - share) * correction / correction[2, 2] + share * np.eye(3)
                self.rested += share >= 0.5
        return np.asarray(out)


class LiveGuard:
    """Tells while a live video runs how far its pictures are left as they are: they are steadied until that does harm.

    Parameters
    ----------
    size : (width, height)
    frame_rate : float
        Frames a second.

    Attributes
    ----------
    resting : bool
        Whether pictures are left as they are, or on the way there.
    """

    def __init__(self, size: tuple[int, int], frame_rate: float) -> None:
        self.resting = False
        self._width = size[0]
        self._planned: deque[Floats] = deque(maxlen=3)
        self._recent: deque[tuple[float, float]] = deque(
            maxlen=max(2 * _LEAST_FRAMES, round(_LIVE_WINDOW_S * frame_rate))
        )
        self._step = 1 / (_LIVE_CHANGE_S * frame_rate)
        self._share = 0.0

    def push(self, points: NDArray[np.float32] | None, correction: Floats) -> float:
        """Take the next picture: its traces, None where there are none, and how it would be drawn.

        Parameters
        ----------
        points : (k, 3, 2) float32 array or None
            See `traces`.
        correction : (3, 3) float64 array
            Output pixel to input pixel.

        Returns
        -------
        float
            Share of the picture as it is, from 0, steadied, to 1.
        """
        self._planned.append(correction)
        if points is not None and len(self._planned) == 3:
            before = bends(points, None, self._width)
            if math.isfinite(before):
                self._recent.append((before, bends(points, np.array(self._planned), self._width)))
        if len(self._recent) >= _LEAST_FRAMES:
            before, after = (math.fsum(part) for part in zip(*self._recent, strict=True))
            if after > _LIVE_CLOSED_AT**2 * before:
                self.resting = True
            elif after <= _LIVE_OPENED_AT**2 * before:
                self.resting = False
        self._share = min(max(self._share + (self._step if self.resting else -self._step), 0.0), 1.0)
        return self._share**2 * (3 - 2 * self._share)  # without a jerk at either end


def _glance(brightness: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Reduce a picture to so few samples that only its scene can be told."""
    height, width = brightness.shape
    columns, rows = _GLANCE
    # Four samples a cell each way, where there are so many: enough for a mean, and far cheaper than all of them.
    x = np.linspace(0, width - 1, 4 * columns).astype(np.intp)
    y = np.linspace(0, height - 1, 4 * rows).astype(np.intp)
    samples = brightness[y[:, None], x].astype(np.float32)
    return np.asarray(samples.reshape(rows, 4, columns, 4).mean((1, 3)), np.float32)


def _alike(before: NDArray[np.float32], after: NDArray[np.float32]) -> bool:
    """Whether two glances may show one scene, the camera having moved a little."""
    reach = _GLANCE_SHIFT
    rows, columns = before.shape
    middle = after[reach:-reach, reach:-reach]
    middle = middle - middle.mean()
    norm = np.sqrt((middle**2).sum())
    for y in range(2 * reach + 1):
        for x in range(2 * reach + 1):
            part = before[y : y + rows - 2 * reach, x : x + columns - 2 * reach]
            part = part - part.mean()
            if float((part * middle).sum()) >= _ALIKE * float(norm * np.sqrt((part**2).sum())):
                return True
    return False
