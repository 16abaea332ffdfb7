"""The whole picture: what a frame lacks of the view is taken from the frames before and after it.

The compiled kernel (`legato::video::fill`) completes one picture from the frames that it is given; what is here keeps
those frames at hand while pictures are drawn in order, within bounds that follow from their size alone.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from legato import _core
from legato.errors import ArgumentError
from legato.video.media.planes import Planes, luma
from legato.video.warping import siting_of

__all__ = ["VIEW", "Filler", "Filling", "Lender", "Neighborhood", "looks_outside", "reach_frames"]

Floats: TypeAlias = NDArray[np.float64]

VIEW = 0.98  # part of the frame that is shown: edge rows are coded worse, and a little less is to be filled
# Frames between a picture and those that lend it their pixels, at 30 frames a second. Within a second they leave half
# a percent of the view uncovered at most; the farther ones are looked at only while something is (docs/quality.md).
_DISTANCES = (1, 2, 3, 5, 8, 12, 17, 23, 30, 40, 50, 60)
_REACHES = (60, 30, 15)
# Of the frames on both sides of a picture.
_MOST_BYTES = 400 << 20
# Weight falls by e over so many frames, at 30 frames a second: longer ones soften grass and water.
_FADE_FRAMES = 3.5
# Predicted error, gray levels, from which a smooth membrane is drawn instead.
_MOST_ERROR = 40.0
# Of the picture whose points are followed, as the tracker has it.
_LONGEST_WORK_SIDE = 960


def reach_frames(picture_bytes: int, frame_rate: float) -> int:
    """Give how many frames before and after a picture are kept to complete it: a matter of size and rate alone."""
    scale = max(frame_rate / 30, 1.0)
    fitting = (round(reach * scale) for reach in _REACHES if 2 * reach * scale * picture_bytes <= _MOST_BYTES)
    return next(fitting, _DISTANCES[2])


def looks_outside(correction: Floats, size: tuple[int, int], target_size: tuple[int, int]) -> bool:
    """Tell whether a picture that is drawn by a correction shows anything beyond the frame."""
    right, bottom = target_size[0] - 1.0, target_size[1] - 1.0
    corners = correction @ np.array([[0, right, right, 0], [0, 0, bottom, bottom], [1, 1, 1, 1]])
    x, y = corners[:2] / corners[2]
    return bool(x.min() < 0 or y.min() < 0 or x.max() > size[0] - 1 or y.max() > size[1] - 1)


class Lender:
    """A frame that may lend its pixels.

    Attributes
    ----------
    planes : Planes
    motion : (3, 3) float64 array
        To the frame before.
    joined : bool
        Whether that is known: nothing is taken across a cut.
    """

    __slots__ = ("_pyramid", "joined", "motion", "planes")

    def __init__(self, planes: Planes, motion: Floats, joined: bool) -> None:
        self.planes, self.motion, self.joined = planes, motion, joined
        self._pyramid: _core.VideoPyramid | None = None

    @property
    def pyramid(self) -> _core.VideoPyramid:
        """The reduced pictures in which points are followed; made when they are first asked for."""
        if self._pyramid is None:
            factor = math.ceil(max(self.planes.size) / _LONGEST_WORK_SIDE)
            self._pyramid = _core.VideoPyramid(luma(self.planes), factor)
        return self._pyramid


class Source(NamedTuple):
    """A frame that lends, and how it is reached.

    Attributes
    ----------
    lender : Lender
    map : (3, 3) float64 array
        From the pixels of the frame to be completed to its own.
    distance : int
        Frames between the two.
    """

    lender: Lender
    map: Floats
    distance: int


class Neighborhood:
    """Gives frame after frame with those around it, as far as nothing between them is unknown.

    Parameters
    ----------
    reach : int
        Frames on each side.
    frame_rate : float
        The distances of the sources are seconds rather than frames beyond 30 frames a second.
    """

    def __init__(self, reach: int, frame_rate: float = 30.0) -> None:
        self.reach = reach
        scale = max(frame_rate / 30, 1.0)
        self._distances = [d for d in (round(d * scale) for d in _DISTANCES) if d <= reach]
        self._kept: deque[tuple[Any, Lender]] = deque()
        self._next = 0  # of those kept, to be given

    def push(self, item: Any, lender: Lender) -> Iterator[tuple[Any, Lender, list[Source]]]:
        """Take the next frame, with what it is known by; give those that have all their neighbors now."""
        self._kept.append((item, lender))
        while len(self._kept) - self._next > self.reach:
            yield self._given()

    def finish(self) -> Iterator[tuple[Any, Lender, list[Source]]]:
        """There are no more frames: give the rest."""
        while self._next < len(self._kept):
            yield self._given()

    def _given(self) -> tuple[Any, Lender, list[Source]]:
        at = self._next
        item, lender = self._kept[at]
        sources = self._sources(at)
        self._next += 1
        if self._next > self.reach:
            self._kept.popleft()
            self._next -= 1
        return item, lender, sources

    def _sources(self, at: int) -> list[Source]:
        found = [*self._walk(at, -1), *self._walk(at, 1)]
        return sorted(found, key=lambda source: source.distance)

    def _walk(self, at: int, side: int) -> Iterator[Source]:
        """Go from frame to frame until one is not joined to the next."""
        farthest = self._distances[-1] if self._distances else 0
        chain = np.eye(3)
        for distance in range(1, farthest + 1):
            there = at + side * distance
            if not 0 <= there < len(self._kept):
                return
            later = self._kept[max(there, there - side)][1]
            if not later.joined:
                return
            step = later.motion if side < 0 else np.linalg.inv(later.motion)
            chain = step @ chain
            chain = chain / chain[2, 2]
            if distance in self._distances:
                yield Source(self._kept[there][1], chain, distance)


@dataclass(slots=True)
class Filling:
    """What was filled, picture by picture.

    Attributes
    ----------
    outside, membrane : list of float
        Share of each picture that shows what lies outside of its frame; and that no neighbor shows well enough.
    error : list of float
        Predicted mean error of what was filled, in gray levels of 256.
    """

    outside: list[float] = field(default_factory=list)
    membrane: list[float] = field(default_factory=list)
    error: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """Give the means over all pictures, and of the error the 95th percentile of those that were filled."""
        outside, membrane, error = (np.array(v or [0.0]) for v in (self.outside, self.membrane, self.error))
        filled = outside > 0
        return {
            "outside": float(outside.mean()),
            "membrane": float(membrane.mean()),
            "error": float(np.average(error, weights=outside)) if filled.any() else 0.0,
            "error_p95": float(np.percentile(error[filled], 95)) if filled.any() else 0.0,
        }


class Filler:
    """Completes pictures that `warp` drew.

    Parameters
    ----------
    frame_rate : float
    """

    def __init__(self, frame_rate: float = 30.0) -> None:
        self.filling = Filling()
        self._fade = _FADE_FRAMES * max(frame_rate / 30, 1.0)
        self._core = _core.VideoFiller()

    def __call__(self, drawn: Planes, correction: Floats, lender: Lender, sources: list[Source]) -> NDArray[np.float32]:
        """Complete a picture in place.

        Parameters
        ----------
        drawn : Planes
            What `warp` made of the frame by the correction; written to.
        correction : (3, 3) float64 array
            From the picture's pixels to the frame's.
        lender : Lender
            The frame itself.
        sources : list of Source
            Nearest first.

        Returns
        -------
        (m, n) float32 array
            Predicted error of each cell of the picture in gray levels of 256: 0 where nothing was filled, infinite
            where nothing is known.

        Raises
        ------
        ArgumentError
            If picture, frame and sources are not of one kind.
        """
        across, down = _core.video_fill_cells(*drawn.size)
        errors = np.zeros((down, across), np.float32)
        if not looks_outside(correction, lender.planes.size, drawn.size):
            self._note(0.0, 0.0, 0.0)
            return errors
        chroma = drawn.u is not None
        for source in sources:
            planes = source.lender.planes
            if planes.bit_depth != drawn.bit_depth or (planes.u is not None) != chroma:
                raise ArgumentError("sources: expected pictures of the kind of the one to complete")
        lending = [
            (_planes(s.lender.planes), s.lender.pyramid, np.ascontiguousarray(s.map), s.distance) for s in sources
        ]
        outside, membrane, error, _ = self._core.fill(
            np.ascontiguousarray(correction, np.float64),
            lender.pyramid,
            lending,
            _planes(drawn),
            drawn.bit_depth,
            siting_of(drawn),
            self._fade,
            _MOST_ERROR,
            errors,
        )
        self._note(outside, membrane, error)
        return errors

    def _note(self, outside: float, membrane: float, error: float) -> None:
        self.filling.outside.append(outside)
        self.filling.membrane.append(membrane)
        self.filling.error.append(error)


def _planes(picture: Planes) -> list[Any]:
    return [plane for plane in (picture.y, picture.u, picture.v) if plane is not None]
