"""The whole picture: what a frame lacks of the view is taken from the frames before and after it.

The compiled kernel (`legato::video::fill`) completes one picture from the frames that it is given; what is here keeps
those frames at hand while pictures are drawn in order, within bounds that follow from their size alone.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from legato import _core
from legato.errors import ArgumentError
from legato.video.media.planes import Planes, luma
from legato.video.warping import overhang_px, siting_of, warp

__all__ = [
    "VIEW",
    "Filler",
    "Filling",
    "Lender",
    "Neighborhood",
    "Retreat",
    "Source",
    "between",
    "reach_frames",
]

Floats: TypeAlias = NDArray[np.float64]
T = TypeVar("T")

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
# Where the filling would fail, less of the view is shown. One picture in so many is tried; what fails there is held for
# so many pictures on both sides, and the view changes as a Gaussian of so many does, at 30 frames a second.
_LOOKED_AT, _HELD, _SLOW = 5, 12, 8
_LEAST = 0.005
# A cell is bad from the first of these predicted errors on, wholly so from the second: so many gray levels. So much of
# a picture may be.
_BAD = 40.0, 80.0
_MOST_BAD = 0.005
_STEPS = 8  # between the two views that are tried
# Of the picture whose points are followed, as the tracker has it.
_LONGEST_WORK_SIDE = 960


def reach_frames(picture_bytes: int, frame_rate: float) -> int:
    """Give how many frames before and after a picture are kept to complete it: a matter of size and rate alone."""
    scale = max(frame_rate / 30, 1.0)
    fitting = (round(reach * scale) for reach in _REACHES if 2 * reach * scale * picture_bytes <= _MOST_BYTES)
    return next(fitting, _DISTANCES[2])


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
        errors, figures = self._filled(drawn, correction, lender, sources)
        self._note(*figures)
        return errors

    def tried(
        self, size: tuple[int, int], correction: Floats, lender: Lender, sources: list[Source]
    ) -> NDArray[np.float32]:
        """Give the errors that a picture of this size would have; they do not count for the figures."""
        gray = Planes(lender.planes.y, bit_depth=lender.planes.bit_depth)
        drawn = warp(gray, correction, size, interpolation="bilinear")
        return self._filled(drawn, correction, lender, sources)[0]

    def _filled(
        self, drawn: Planes, correction: Floats, lender: Lender, sources: list[Source]
    ) -> tuple[NDArray[np.float32], tuple[float, float, float]]:
        across, down = _core.video_fill_cells(*drawn.size)
        errors = np.zeros((down, across), np.float32)
        if overhang_px(correction[None], lender.planes.size, drawn.size) == 0:
            return errors, (0.0, 0.0, 0.0)
        chroma = drawn.u is not None
        for source in sources:
            planes = source.lender.planes
            if planes.bit_depth != drawn.bit_depth or (planes.u is None and chroma):
                raise ArgumentError("sources: expected pictures of the kind of the one to complete")
        count = 3 if chroma else 1
        lending = [
            (_planes(s.lender.planes)[:count], s.lender.pyramid, np.ascontiguousarray(s.map), s.distance)
            for s in sources
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
        return errors, (outside, membrane, error)

    def _note(self, outside: float, membrane: float, error: float) -> None:
        self.filling.outside.append(outside)
        self.filling.membrane.append(membrane)
        self.filling.error.append(error)


class Retreat(Generic[T]):
    """Tells how far pictures must fall back from the whole view to the crop window, which needs no filling.

    Pictures come in and go out in order; they go out `span` later, since what fails casts its shadow ahead: a view that
    narrows does so slowly.

    Parameters
    ----------
    size : (width, height)
        Of the pictures that are drawn.
    frame_rate : float
    """

    def __init__(self, size: tuple[int, int], frame_rate: float = 30.0) -> None:
        self._size = size
        scale = max(frame_rate / 30, 1.0)
        self._held, self._slow = round(_HELD * scale), round(_SLOW * scale)
        self._every = round(_LOOKED_AT * scale)
        self.span = self._held + 3 * self._slow
        self._shares: list[float] = []
        self._needs: list[float] = []
        self._waiting: deque[T] = deque()
        offsets = np.arange(-3 * self._slow, 3 * self._slow + 1)
        self._weights = np.exp(-0.5 * (offsets / self._slow) ** 2)
        self._weights /= self._weights.sum()

    @property
    def mean(self) -> float:
        """Mean share of the window in the pictures given."""
        return float(np.mean(self._shares or [0.0]))

    def looks_at(self, index: int) -> bool:
        """Tell whether a picture, by its place in the video, is to be tried before it is drawn."""
        return index % self._every == self._every // 2

    def push(
        self,
        picture: T,
        errors: NDArray[np.float32] | None = None,
        wide: Floats | None = None,
        narrow: Floats | None = None,
    ) -> Iterator[tuple[T, float]]:
        """Take the next picture, and what trying it gave; give those that are settled, with their share of the window.

        `wide` and `narrow` are the corrections that draw the whole view and the window.
        """
        before = self._needs[-1] if self._needs else 0.0
        self._needs.append(before)
        if errors is not None and wide is not None and narrow is not None:
            self._needs[-1] = _fallen_back(errors, wide, narrow, self._size)
        self._waiting.append(picture)
        if len(self._waiting) > self.span:
            yield self._settled()

    def finish(self) -> Iterator[tuple[T, float]]:
        """There are no more pictures: give the rest."""
        while self._waiting:
            yield self._settled()

    def _settled(self) -> tuple[T, float]:
        index = len(self._needs) - len(self._waiting)
        around = np.clip(np.arange(index - self.span, index + self.span + 1), 0, len(self._needs) - 1)
        needs = np.array(self._needs)[around]
        held = np.lib.stride_tricks.sliding_window_view(needs, 2 * self._held + 1).max(1)
        share = float(self._weights @ held)
        share = max(share - _LEAST, 0.0) / (1 - _LEAST)  # without a step, which would be seen
        self._shares.append(share)
        return self._waiting.popleft(), share


def _fallen_back(errors: NDArray[np.float32], wide: Floats, narrow: Floats, size: tuple[int, int]) -> float:
    """Give the least share of the narrow view by which bad cells are no longer seen, but for a few."""
    first, whole = _BAD
    bad = np.clip((np.nan_to_num(errors, posinf=2 * whole) - first) / (whole - first), 0, 1)
    rows, columns = np.nonzero(bad)
    weights = bad[rows, columns] / errors.size
    if weights.sum() <= _MOST_BAD:
        return 0.0
    side = math.ceil(size[0] / errors.shape[1])
    seen = wide @ np.stack([(columns + 0.5) * side, (rows + 0.5) * side, np.ones(len(rows))])
    for step in range(1, _STEPS):
        x, y, w = np.linalg.inv(between(wide, narrow, step / _STEPS)) @ seen
        shown = (x >= 0) & (y >= 0) & (x < size[0] * w) & (y < size[1] * w)
        if weights[shown].sum() <= _MOST_BAD:
            return step / _STEPS
    return 1.0


def between(wide: Floats, narrow: Floats, share: float) -> Floats:
    """Give the correction between two; entries are near enough to each other to be mixed."""
    return np.asarray((1 - share) * wide / wide[2, 2] + share * narrow / narrow[2, 2])


def _planes(picture: Planes) -> list[Any]:
    return [plane for plane in (picture.y, picture.u, picture.v) if plane is not None]
