"""Whether a clip gains by being stabilized: measured on the tracker's own matches, one decision of the clip.

A point that was matched in two pairs of frames has been in three frames, and its second difference tells how much it
shakes, by no model of motion. Drawn by the corrections of the standard path the three places are others, and so is the
second difference. Squared and pooled over the clip, and the root of after over before taken, that is q: below 1 the
pictures would be steadier, above 1 the path would put in more shake than it takes out, as where the camera stands still
and a car drives through. Zoom is in the corrections, and so is charged. ``docs/quality.md`` has the evidence.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from legato.video.motion.tracking import Matches

__all__ = ["Gain", "Guard", "bends", "traces"]

Floats: TypeAlias = NDArray[np.float64]

# Lengths are in pixels of a picture so wide.
_REFERENCE_WIDTH = 640
# How near a match must arrive to a corner that the next pair starts from, to be the same point. Half of them do.
_SAME_POINT_PX = 2.5
# Of a frame's points, those that bend most are left out; a frame of fewer points is.
_KEPT_POINTS, _LEAST_POINTS = 0.9, 4
# Of the clip: below, nothing can be said, and nothing is to be gained.
_LEAST_FRAMES = 10
# Part of the frames that repeat the one before, from which on these are slides or a screen.
_MOST_REPEATS = 0.5
# The clip is stabilized as soon as its first seconds, two at least, have so low a q: then that stands.
_OPENED_AT, _OPENED_AFTER = 0.6, 2
# Or at its end, with so low a q, unless so many of its seconds were worse by more than a tenth.
_CLOSED_AT, _WORSE_BY, _MOST_WORSE = 0.9, 1.1, 0.35


@dataclass(frozen=True, slots=True)
class Gain:
    """What stabilizing a clip brings, by the points that were followed; lengths at a width of 640 pixels.

    Attributes
    ----------
    worthwhile : bool
        The decision: whether the clip is stabilized.
    before_px, after_px : float
        Root mean square second difference of the points, as filmed and by the standard path; NaN where there were none.
    worst : float
        Largest ratio of after to before of one second; NaN where there was none.
    worst_at_s : float
        When that second began.
    worse : float
        Part of the seconds that the path makes worse by more than a tenth.
    repeats : float
        Part of the frames that repeat the one before.
    """

    worthwhile: bool
    before_px: float = math.nan
    after_px: float = math.nan
    worst: float = math.nan
    worst_at_s: float = math.nan
    worse: float = 0.0
    repeats: float = 0.0

    @property
    def ratio(self) -> float:
        """What is left of the shake, q; NaN where nothing shook or nothing was followed."""
        return self.after_px / self.before_px if self.before_px > 0 else math.nan

    def reason(self) -> str:
        """Give the reason for leaving a clip as it is, for a report."""
        because = "too few frames could be followed to tell whether it shakes"
        if self.repeats >= _MOST_REPEATS:
            because = f"{self.repeats:.0%} of its frames repeat the one before"
        elif math.isfinite(self.ratio):
            because = f"the standard path would leave {self.ratio:.2f} of the shake of its points"
            if math.isfinite(self.worst):
                because += f", in the second from {self.worst_at_s:.0f} s on {self.worst:.2f}"
        return f"left as it is: {because} (guard; it can be switched off)"

    def content(self) -> dict[str, Any]:
        """Give what a motion file holds."""
        return {name: value for name, value in asdict(self).items() if value == value}

    @classmethod
    def of(cls, content: object) -> Self:
        """Read what `content` gave.

        Raises
        ------
        ValueError
            If it is something else.
        """
        if not isinstance(content, dict) or not isinstance(content.get("worthwhile"), bool):
            raise ValueError("worthwhile: expected true or false")
        numbers = {name: content[name] for name in cls.__slots__ if name != "worthwhile" and name in content}
        for name, number in numbers.items():
            if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < 1e12:
                raise ValueError(f"{name}: expected a number of at least 0")
        return cls(content["worthwhile"], **{name: float(number) for name, number in numbers.items()})


def traces(earlier: Matches, later: Matches, size: tuple[int, int]) -> NDArray[np.float32]:
    """Find the points that two pairs of frames have in common.

    Parameters
    ----------
    earlier : (m, 4) float32 array
        Matches of frames t - 1 and t - 2 (see `Motion.points`).
    later : (n, 4) float32 array
        Matches of frames t and t - 1.
    size : (width, height)

    Returns
    -------
    (k, 3, 2) float32 array
        Where each point was in frames t - 2, t - 1 and t. The later pair starts from corners of frame t - 1: what
        arrived near one of them is that corner, and where it came from is moved by as much as it missed.
    """
    if len(earlier) == 0 or len(later) == 0:
        return np.empty((0, 3, 2), np.float32)
    arrived, corner = earlier[:, :2].astype(np.float64), later[:, 2:].astype(np.float64)
    apart = (corner**2).sum(1)[:, None] + (arrived**2).sum(1) - 2 * corner @ arrived.T
    nearest = apart.argmin(1)
    missed = corner - arrived[nearest]
    places = np.stack([earlier[nearest, 2:] + missed, corner, later[:, :2]], 1)
    reach = _SAME_POINT_PX * max(1.0, size[0] / _REFERENCE_WIDTH)
    return np.asarray(places[(missed**2).sum(1) < reach**2], np.float32)


def bends(points: NDArray[np.float32], corrections: Floats | None, width: int) -> float:
    """Mean squared second difference of a frame's traces, the worst tenth left out; NaN if they are few.

    Parameters
    ----------
    points : (k, 3, 2) float32 array
        See `traces`.
    corrections : (3, 3, 3) float64 array, or None
        Of the three frames, output pixel to input pixel; None: as filmed.
    width : int
        Of the frames.

    Returns
    -------
    float
        Square pixels, at a width of 640.
    """
    if len(points) < _LEAST_POINTS:
        return math.nan
    places = np.swapaxes(points, 0, 1).astype(np.float64)
    if corrections is not None:
        to_drawn = np.swapaxes(np.linalg.inv(corrections), 1, 2)
        whole = np.concatenate([places, np.ones((*places.shape[:2], 1))], 2) @ to_drawn
        places = whole[..., :2] / whole[..., 2:]
    squared = np.sort(((places[0] - 2 * places[1] + places[2]) ** 2).sum(1))
    kept = squared[: math.ceil(_KEPT_POINTS * len(squared))]
    return float(kept.mean()) * (_REFERENCE_WIDTH / width) ** 2


class Guard:
    """Decides while the frames of a clip come in whether it is stabilized; once it is, that stands.

    Parameters
    ----------
    size : (width, height)
    frame_rate : float
        Frames a second.
    """

    def __init__(self, size: tuple[int, int], frame_rate: float) -> None:
        self.opened = False
        self._width, self._rate = size[0], frame_rate
        self._length = max(5, round(frame_rate))  # of a segment: about a second
        self._planned: list[Floats] = []  # the last two corrections
        self._frames = self._repeats = self._measured = 0
        self._segment: list[tuple[float, float]] = []  # before and after, of the frames of the present segment
        self._segments: list[tuple[float, float, int]] = []  # sums of before and after; where it began
        self._worse = 0
        self._before = self._after = 0.0  # sums of whole segments

    def push(self, frames: Iterable[tuple[NDArray[np.float32] | None, bool]], corrections: Iterable[Floats]) -> None:
        """Take the next frames: their traces, whether they repeat the one before; and how the standard path draws them.

        Parameters
        ----------
        frames : iterable of ((k, 3, 2) float32 array or None, bool)
        corrections : iterable of (3, 3) float64 array
            Output pixel to input pixel.
        """
        for (points, repeated), correction in zip(frames, corrections, strict=True):
            self._planned = [*self._planned[-2:], correction]
            if points is not None and len(self._planned) == 3:
                before = bends(points, None, self._width)
                if math.isfinite(before):
                    self._segment.append((before, bends(points, np.array(self._planned), self._width)))
            self._frames += 1
            self._repeats += repeated
            if self._frames % self._length == 0:
                self._close_segment()
                if len(self._segments) >= _OPENED_AFTER:
                    self._open()

    def finish(self) -> Gain:
        """There are no more frames: give what was found, and the decision."""
        if self._frames % self._length:
            self._close_segment()
        self._open()
        ratio = math.sqrt(self._after / self._before) if self._before > 0 else math.inf
        seconds = len(self._segments)
        worse = self._worse / seconds if seconds else 0.0
        gains = ratio <= _CLOSED_AT and worse <= _MOST_WORSE and self._measured >= _LEAST_FRAMES
        self.opened = self.opened or (gains and not self._repeating)
        frames = max(self._measured, 1)
        known = self._measured > 0
        worst, at = max(((math.sqrt(a / b), at) for b, a, at in self._segments if b > 0), default=(math.nan, math.nan))
        return Gain(
            worthwhile=self.opened,
            before_px=math.sqrt(self._before / frames) if known else math.nan,
            after_px=math.sqrt(self._after / frames) if known else math.nan,
            worst=worst,
            worst_at_s=at / self._rate,
            worse=worse,
            repeats=self._repeats / max(self._frames, 1),
        )

    @property
    def _repeating(self) -> bool:
        return self._repeats >= _MOST_REPEATS * self._frames

    def _close_segment(self) -> None:
        frames, self._segment = self._segment, []
        if len(frames) >= max(3, self._length // 5):
            before, after = (math.fsum(part) for part in zip(*frames, strict=True))
            began = (self._frames - 1) // self._length * self._length
            self._segments.append((before, after, began))
            self._worse += after > _WORSE_BY**2 * before
            self._before += before
            self._after += after
            self._measured += len(frames)

    def _open(self) -> None:
        """Open where the frames so far gain much."""
        enough = self._measured >= _LEAST_FRAMES and not self._repeating
        self.opened = self.opened or (enough and 0 < self._after <= _OPENED_AT**2 * self._before)
