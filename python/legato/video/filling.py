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
    "Beyond",
    "Filler",
    "Filling",
    "Lender",
    "Neighborhood",
    "Retreat",
    "Source",
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
# Where the filling would fail the view gives way. One picture in so many is tried; what fails there is held for so many
# pictures on both sides, and the view changes as a Gaussian of so many does, at 30 frames a second.
_LOOKED_AT, _HELD, _SLOW = 5, 12, 12
# A cell is bad from the first of these predicted errors on, wholly so from the second: so many gray levels. So much of
# a picture may be; a side gives way if a part of that lies there.
_BAD = 40.0, 80.0
_MOST_BAD, _PART_OF_BAD = 0.007, 0.25
_STEPS = 8  # of giving way, that are tried
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
    """Tells how far the sides of the view must come in where filling would fail.

    A view that fails at one side moves towards the other, which costs no picture; only where both fail it narrows.
    Pictures come in and go out in order; they go out `span` later, since what fails casts its shadow ahead: a view
    that gives way does so slowly.

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
        self._given_up: list[float] = []
        self._needs: list[Floats] = []
        self._waiting: deque[T] = deque()
        offsets = np.arange(-3 * self._slow, 3 * self._slow + 1)
        self._weights = np.exp(-0.5 * (offsets / self._slow) ** 2)
        self._weights /= self._weights.sum()

    @property
    def mean(self) -> float:
        """Mean over the pictures given of how far a side came in, the one that did most, in parts of the picture."""
        return float(np.mean(self._given_up or [0.0]))

    def looks_at(self, index: int) -> bool:
        """Tell whether a picture, by its place in the video, is to be tried before it is drawn."""
        return index % self._every == self._every // 2

    def push(
        self, picture: T, errors: NDArray[np.float32] | None = None, beyond: Beyond | None = None
    ) -> Iterator[tuple[T, Floats | None]]:
        """Take the next picture, and what trying it gave: errors of its cells, and what it shows beyond its frame.

        Gives the pictures that are settled, each with the (3, 3) map from the view's pixels to those of the view that
        was tried; None: it stays.
        """
        self._needs.append(self._needs[-1] if self._needs else np.zeros(4))
        if errors is not None and beyond is not None:
            self._needs[-1] = beyond.given_up(errors)
        self._waiting.append(picture)
        if len(self._waiting) > self.span:
            yield self._settled()

    def finish(self) -> Iterator[tuple[T, Floats | None]]:
        """There are no more pictures: give the rest."""
        while self._waiting:
            yield self._settled()

    def _settled(self) -> tuple[T, Floats | None]:
        index = len(self._needs) - len(self._waiting)
        around = np.clip(np.arange(index - self.span, index + self.span + 1), 0, len(self._needs) - 1)
        needs = np.array(self._needs)[around]
        held = np.lib.stride_tricks.sliding_window_view(needs, 2 * self._held + 1, axis=0).max(-1)
        sides = self._weights @ held
        self._given_up.append(float((sides / np.repeat(self._size, 2)).max()))
        return self._waiting.popleft(), _moved_in(sides, self._size) if sides.any() else None


class Beyond(NamedTuple):
    """What a view shows beyond its frame.

    Attributes
    ----------
    correction : (3, 3) float64 array
        From the view's pixels to the frame's.
    size, frame_size : (width, height)
    """

    correction: Floats
    size: tuple[int, int]
    frame_size: tuple[int, int]

    def given_up(self, errors: NDArray[np.float32]) -> Floats:
        """Give by how many pixels left, right, top and bottom must come in for bad cells to be few: (4,), all >= 0."""
        first, whole = _BAD
        bad = np.clip((np.nan_to_num(errors, posinf=2 * whole) - first) / (whole - first), 0, 1)
        rows, columns = np.nonzero(bad)
        weights = bad[rows, columns] / errors.size
        needs = np.zeros(4)
        if weights.sum() <= _MOST_BAD:
            return needs
        side = math.ceil(self.size[0] / errors.shape[1])
        cells = np.stack([(columns + 0.5) * side, (rows + 0.5) * side, np.ones(len(rows))])
        x, y, w = self.correction @ cells
        outside = np.array([-x / w, x / w - (self.frame_size[0] - 1), -y / w, y / w - (self.frame_size[1] - 1)])
        of_side = np.bincount(outside.argmax(0), weights, 4)
        farthest = self._overhang() * (of_side > _PART_OF_BAD * _MOST_BAD)
        for step in range(1, _STEPS + 1):
            needs = farthest * (step / _STEPS)
            x, y, w = np.linalg.inv(_moved_in(needs, self.size)) @ cells
            shown = (x >= 0) & (y >= 0) & (x < self.size[0] * w) & (y < self.size[1] * w)
            if weights[shown].sum() <= _MOST_BAD:
                break
        return needs

    def _overhang(self) -> Floats:
        """Pixels of the view beyond the frame's left, right, top and bottom, at least 0."""
        right, bottom = self.frame_size[0] - 1, self.frame_size[1] - 1
        corners = np.array([[0, right, right, 0], [0, 0, bottom, bottom], [1, 1, 1, 1]], np.float64)
        x, y, w = np.linalg.inv(self.correction) @ corners
        x, y = x / w, y / w
        across, down = self.size[0] - 1, self.size[1] - 1
        sides = [max(x[0], x[3]), across - min(x[1], x[2]), max(y[0], y[1]), down - min(y[2], y[3])]
        return np.maximum(sides, 0)


def _moved_in(sides: Floats, size: tuple[int, int]) -> Floats:
    """Give the map from a view whose sides came in by so many pixels to the one before; shapes stay."""
    left, right, top, bottom = sides
    width, height = size
    scale = 1 - 2 * max(min(left, right) / width, min(top, bottom) / height)
    x, y = left - right + (1 - scale) * (width - 1) / 2, top - bottom + (1 - scale) * (height - 1) / 2
    return np.array([[scale, 0, x], [0, scale, y], [0, 0, 1.0]])


def _planes(picture: Planes) -> list[Any]:
    return [plane for plane in (picture.y, picture.u, picture.v) if plane is not None]
