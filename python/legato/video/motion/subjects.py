"""What a path is to keep in view or in the middle: points and boxes from a file, or a box that is followed."""

from __future__ import annotations

import csv
import json
import math
import os
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from legato import _core
from legato._files import read_text
from legato._scalars import shown
from legato._turns import Turns, one_at_a_time
from legato.errors import ArgumentError, InputError

__all__ = ["Box", "SubjectTracker", "box_corners", "check_box", "read_salient"]

Box: TypeAlias = tuple[float, float, float, float]
Floats: TypeAlias = NDArray[np.float64]

_LONGEST_WORK_SIDE = 320
_MOST_POINTS = 120
_LEAST_POINTS = 6
_ROUND_TRIP_PX = 1.0
_LEAST_MARGIN_PX = 24  # a subject may move this far in a frame, or by half its size if that is more
_LEAST_SIDE_PX = 8.0
# Of the subject now with itself at the start, both reduced to this many pixels, slow parts taken out.
_PATCH = 24
_LEAST_LIKENESS = 0.2
_MOST_FRAMES = 1 << 24  # that a file may speak of
_MOST_CELLS = 1 << 26  # of the table of its points
_MOST_BYTES = 1 << 28  # of it


def check_box(name: str, box: object, size: tuple[int, int]) -> Box:
    """Check a box (x, y, width, height) in pixels that overlaps a frame of a size."""
    numbers = tuple(box) if isinstance(box, tuple | list | np.ndarray) else ()
    try:
        x, y, w, h = (float(v) for v in numbers)
        sound = w > 0 and h > 0 and all(math.isfinite(v) for v in (x, y, w, h))
    except Exception:  # not four, or no numbers
        sound = False
    if not sound:
        raise ArgumentError(
            f"{name}: expected x, y, width, height in pixels, width and height above 0; got {shown(box)}"
        )
    if x >= size[0] or y >= size[1] or x + w <= 0 or y + h <= 0:
        raise ArgumentError(f"{name}: {x:g},{y:g},{w:g},{h:g} lies outside of the picture of {size[0]}x{size[1]}")
    return x, y, w, h


def box_corners(boxes: Floats) -> Floats:
    """Corners of boxes (n, 4), shape (n, 4, 2)."""
    x, y, w, h = boxes.T
    return np.stack(
        [np.stack([x, y], -1), np.stack([x + w, y], -1), np.stack([x + w, y + h], -1), np.stack([x, y + h], -1)], 1
    )


def read_salient(path: str | os.PathLike[str], frames: int | None = None) -> Floats:
    """Read points and boxes to keep in view.

    Parameters
    ----------
    path : str or path
        CSV with a header, or JSON with a list of objects (or ``{"salient": [...]}``): ``frame``, ``x``, ``y`` and, for
        a box with its corner (x, y), ``width`` and ``height``. Pixels, frames counted from 0. A frame may have any
        number of rows; a row is for its frame alone.
    frames : int, optional
        Frames of the video; otherwise the last one named in the file is the last.

    Returns
    -------
    (frames, m, 2) float64 array
        Points, boxes as their corners; NaN where a frame has fewer than m.

    Raises
    ------
    InputError
        If the file cannot be read or a row is not as described.
    """
    path = Path(path)
    found: list[list[tuple[float, float]]] = [[] for _ in range(frames or 0)]
    most_frames = _MOST_FRAMES if frames is None else frames
    for where, row in _rows(path):
        try:
            x, y = _number(row["x"]), _number(row["y"])
            w, h = (_number(row.get(side) or 0) for side in ("width", "height"))
            at = _number(row["frame"])
            frame = int(at)
        except (KeyError, TypeError, ValueError, OverflowError):
            raise InputError(f"{path}: {where}: expected frame, x, y and perhaps width, height") from None
        if frame != at:
            raise InputError(f"{path}: {where}: expected a whole number as frame, got {at:g}")
        if not all(math.isfinite(v) for v in (x, y, w, h)) or w < 0 or h < 0:
            raise InputError(f"{path}: {where}: expected finite numbers, width and height of at least 0")
        if not 0 <= frame < most_frames:
            raise InputError(f"{path}: {where}: frame {frame} of a video of {most_frames}")
        found += [[] for _ in range(frame + 1 - len(found))]
        found[frame] += [(x, y), (x + w, y), (x + w, y + h), (x, y + h)] if w or h else [(x, y)]
    most = max((len(points) for points in found), default=0)
    if most == 0:
        raise InputError(f"{path}: no point in it; expected rows of frame, x, y and perhaps width, height")
    if len(found) * most > _MOST_CELLS:
        raise InputError(f"{path}: {most} points in one frame are too many for {len(found)} frames")
    table = np.full((len(found), most, 2), np.nan)
    for at, points in enumerate(found):
        table[at, : len(points)] = points or np.empty((0, 2))
    return table


def _number(value: object) -> float:
    if isinstance(value, bool):
        raise TypeError
    return float(value)  # type: ignore[arg-type]


def _rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Rows of a file of points, each with the words by which an error names it."""
    text = read_text(path, _MOST_BYTES)
    if path.suffix.lower() != ".json":
        try:
            return [(f"line {at}", row) for at, row in enumerate(csv.DictReader(text.splitlines()), start=2)]
        except csv.Error as error:  # NUL, or a field without an end
            raise InputError(f"{path}: not CSV ({error})") from None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error})") from None
    rows = content.get("salient") if isinstance(content, dict) else content
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path}: expected a list of objects with frame, x, y")
    return [(f"entry {at}", row) for at, row in enumerate(rows)]


class SubjectTracker:
    """Follow a box through a video.

    Corners inside the box are followed by Lucas-Kanade forward and back; the box moves by the median of their
    displacements and grows by the median ratio of their distances (Kalal, Mikolajczyk and Matas 2010, "Forward-backward
    error: automatic detection of tracking failures"). It counts as lost when few corners come home, when it leaves the
    picture, or when it no longer resembles the subject of the first frame; then it is not looked for again.

    Parameters
    ----------
    size : (int, int)
        Width and height of the frames in pixels.
    box : (x, y, width, height)
        The subject in the first frame, in pixels.
    """

    def __init__(self, size: tuple[int, int], box: Box) -> None:
        self._turns = Turns()
        self._size = size
        self._box: Box | None = check_box("subject", box, size)
        self._previous: NDArray[np.uint8] | None = None
        self._likeness: Floats | None = None

    @one_at_a_time
    def push(self, luma: NDArray[np.uint8]) -> Box | None:
        """Take the next frame; give the subject's box in it, or None once it is lost."""
        if self._box is None:
            return None
        if self._previous is not None:
            self._box = self._moved(self._previous, luma, self._box)
            if self._box is None:
                self._previous = None
                return None
        patch = _patch(luma, self._box)
        if self._likeness is None:
            self._likeness = patch
        elif float((patch * self._likeness).sum()) < _LEAST_LIKENESS:
            self._box = self._previous = None
            return None
        self._previous = luma.copy()
        return self._box

    def _moved(self, before: NDArray[np.uint8], after: NDArray[np.uint8], box: Box) -> Box | None:
        x, y, w, h = box
        margin = max(_LEAST_MARGIN_PX, w / 2, h / 2)
        left, top = max(0, math.floor(x - margin)), max(0, math.floor(y - margin))
        right, bottom = (
            min(self._size[0], math.ceil(x + w + margin)),
            min(self._size[1], math.ceil(y + h + margin)),
        )
        factor = math.ceil(max(right - left, bottom - top) / _LONGEST_WORK_SIDE)
        pyramids = [
            _core.VideoPyramid(np.ascontiguousarray(image[top:bottom, left:right]), factor) for image in (before, after)
        ]
        # A factor f puts the center of work pixel i at f i + (f - 1) / 2.
        shift = np.array([left, top]) + (factor - 1) / 2
        points = pyramids[0].corners(4 * _MOST_POINTS)
        at = points * factor + shift
        points = points[((at >= (x, y)) & (at < (x + w, y + h))).all(1)][:_MOST_POINTS]
        if len(points) < _LEAST_POINTS:
            return None
        moved, found = np.empty_like(points), np.empty(len(points), np.uint8)
        pyramids[0].follow(pyramids[1], np.ascontiguousarray(points), _ROUND_TRIP_PX, moved, found)
        kept = found != 0
        if kept.sum() < _LEAST_POINTS:
            return None
        old, new = points[kept].astype(float) * factor + shift, moved[kept].astype(float) * factor + shift
        step = np.median(new - old, axis=0)
        one, two = np.triu_indices(len(old), 1)
        apart = np.linalg.norm(old[one] - old[two], axis=1)
        far = apart > 1
        ratio = np.linalg.norm(new[one] - new[two], axis=1)[far] / apart[far]
        scale = float(np.median(ratio)) if len(ratio) else 1.0
        cx, cy = x + w / 2 + step[0], y + h / 2 + step[1]
        w, h = w * scale, h * scale
        inside = 0 <= cx < self._size[0] and 0 <= cy < self._size[1]
        if not inside or min(w, h) < min(_LEAST_SIDE_PX, *box[2:]) / 2 or max(w, h) > 2 * max(self._size):
            return None
        return cx - w / 2, cy - h / 2, w, h


def _patch(luma: NDArray[np.uint8], box: Box) -> Floats:
    """Give a small copy of what is in a box, of zero mean and unit length."""
    x, y, w, h = box
    steps = (np.arange(_PATCH) + 0.5) / _PATCH
    columns = np.clip(np.round(x + w * steps - 0.5), 0, luma.shape[1] - 1).astype(int)
    rows = np.clip(np.round(y + h * steps - 0.5), 0, luma.shape[0] - 1).astype(int)
    patch = luma[np.ix_(rows, columns)].astype(float)
    patch -= patch.mean()
    return np.asarray(patch / (np.linalg.norm(patch) or 1.0))
