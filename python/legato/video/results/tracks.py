"""How much pictures shake, without a model of motion: points followed through three of them."""

from __future__ import annotations

import math

import numpy as np

from legato import _core
from legato.video.media.planes import Picture, luma
from legato.video.motion.guard import bends

__all__ = ["TrackJitter"]

_TRACKS = 300
_ROUND_TRIP_PX = 0.6
_LEAST_TRACKS = 8
_LONGEST_SIDE = 960


class TrackJitter:
    """Root mean square second difference of points, the worst tenth of each frame left out.

    Parameters
    ----------
    size : (width, height)
    every : int
        Look at three pictures out of so many: a sample is far cheaper.
    """

    def __init__(self, size: tuple[int, int], every: int = 1) -> None:
        self._width = size[0]
        self._factor = math.ceil(max(size) / _LONGEST_SIDE)
        self._every = every
        self._count = 0
        self._pyramids: list[_core.VideoPyramid] = []
        self._bends: list[float] = []

    def push(self, picture: Picture) -> None:
        """Take the next picture."""
        place = self._count % self._every
        self._count += 1
        if self._every > 3 and place >= 3:
            return
        if self._every > 3 and place == 0:
            self._pyramids.clear()
        self._pyramids = [*self._pyramids[-2:], _core.VideoPyramid(np.ascontiguousarray(luma(picture)), self._factor)]
        if len(self._pyramids) == 3:
            self._follow(*self._pyramids)

    def _follow(self, earlier: _core.VideoPyramid, now: _core.VideoPyramid, later: _core.VideoPyramid) -> None:
        points = now.corners(_TRACKS)
        places = [points, points, points]
        kept = np.ones(len(points), bool)
        for at, other in ((0, earlier), (2, later)):
            moved, found = np.empty_like(points), np.zeros(len(points), np.uint8)
            now.follow(other, points, _ROUND_TRIP_PX, moved, found)
            places[at] = moved
            kept &= found > 0
        if np.count_nonzero(kept) >= _LEAST_TRACKS:
            self._bends.append(bends(np.stack(places, 1)[kept] * self._factor, None, self._width))

    @property
    def px(self) -> float:
        """The figure, at a width of 640 pixels; NaN where no frame had points enough."""
        return math.sqrt(float(np.mean(self._bends))) if self._bends else math.nan
