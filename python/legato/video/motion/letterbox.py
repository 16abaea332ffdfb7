"""Black bars: the picture inside of them is the frame.

A row belongs to a bar where nearly all of it is of one dark level that does not change through the clip, and the same
is true at the opposite side: dark scenery changes, and white margins of slides are not dark. Where the first picture
has no such row, as in most clips, no more is looked at; else some two dozen pictures from all of the clip are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from legato.video.media.decoding import load_av, open_media
from legato.video.media.planes import Planes, luma
from legato.video.media.reader import VideoReader
from legato.video.warping import warp

__all__ = ["Inset", "bars", "inside", "picture_inside", "warp_inside"]

Gray: TypeAlias = NDArray[np.uint8]
Inset: TypeAlias = tuple[int, int, int, int]  # x, y, width, height of the picture, in whole pixels

# Of a line of a bar: nearly all samples within so many levels of its median, nearly all of the time; the median within
# so many of what it usually is and of the edge's; and no brighter than black of limited range and its ringing.
_NEARLY_ALL, _FLAT, _STILL, _DARK = 0.95, 3, 2, 32
_LEAST_LINES = 4
# A codec's ringing lights the last lines of a bar: the edge is a strong step within so many.
_RINGING = 8
_SAMPLES = 24


def bars(pictures: list[Gray]) -> Inset | None:
    """Find the picture inside of black bars; None where there are none.

    Parameters
    ----------
    pictures : list of (height, width) uint8 array
        Some of a clip, in any order.

    Returns
    -------
    (x, y, width, height) of int, or None
    """
    stack = np.array(pictures, np.float32)
    height, width = stack.shape[1:]
    margin = width // 20
    top, bottom = _pair(stack[:, :, margin : width - margin])
    left, right = _pair(np.swapaxes(stack[:, top : height - bottom], 1, 2))
    if not (top or left):
        return None
    return left, top, width - left - right, height - top - bottom


def _pair(lines: NDArray[np.float32]) -> tuple[int, int]:
    """Count the lines of the bars at both ends; (0, 0) unless both have one. lines: (pictures, lines, samples)."""
    half = lines.shape[1] // 2
    ends = [_thickness(lines[:, :half]), _thickness(lines[:, ::-1][:, :half])]
    return (ends[0], ends[1]) if all(_LEAST_LINES <= end < half for end in ends) else (0, 0)


def _thickness(lines: NDArray[np.float32]) -> int:
    middle = np.median(lines, 2)
    flat = (np.abs(lines - middle[..., None]) <= _FLAT).mean(2) >= _NEARLY_ALL
    usual = np.median(middle, 0)
    still = (flat & (np.abs(middle - usual) <= _STILL)).mean(0) >= _NEARLY_ALL
    bar = still & (np.abs(usual - usual[0]) <= _FLAT) & (usual <= _DARK)
    count = len(bar) if bar.all() else int(bar.argmin())
    if count < _LEAST_LINES or count == len(bar):
        return count
    steps = np.abs(np.diff(lines[:, count - 1 : count + _RINGING], axis=1)).mean((0, 2))
    return count + int((steps > steps.max() / 2).argmax())  # the first of the strong ones


def picture_inside(reader: VideoReader) -> Inset | None:
    """Find the picture inside of a video's black bars, before its first frame is read; None: it is the frame.

    The edges are moved inwards to whole samples of chroma. A video whose pictures are turned is not looked into, nor
    one that cannot be sought in.
    """
    first = reader.first_picture
    if first is None:
        return None
    once = bars([luma(first)])
    if reader.rotation or not Path(reader.path).is_file() or (once is None and luma(first).max() > _DARK):
        return None
    samples = list(_sampled(reader))
    found = bars(samples) if len(samples) > 1 else None
    if found is None:
        return None
    sx, sy = first.subsampling
    x, y = -(-found[0] // sx) * sx, -(-found[1] // sy) * sy
    right, bottom = ((found[0] + found[2]) // sx * sx, (found[1] + found[3]) // sy * sy)
    return x, y, right - x, bottom - y


def _sampled(reader: VideoReader) -> Iterator[Gray]:
    """Decode pictures from all of the clip, as far as it can be sought in."""
    av = load_av()
    with (
        contextlib.suppress(av.FFmpegError),
        open_media(reader.path, allow_playlists=reader.decoder.allow_playlists) as container,
    ):
        stream = container.streams[reader.decoder.stream.index]
        length = (reader.duration_s or 0) / reader.time_base
        for at in np.linspace(0, float(length), _SAMPLES, endpoint=False):
            container.seek(int(at + (stream.start_time or 0)), stream=stream)
            picture = next(container.decode(stream), None)
            if picture is not None and (picture.width, picture.height) == (reader.width, reader.height):
                yield picture.to_ndarray(format="gray")


def warp_inside(picture: Planes, correction: NDArray[np.float64], inset: Inset, out: Planes, **how: Any) -> None:
    """Draw what is inside of the bars anew, and leave the bars as they are.

    Parameters
    ----------
    picture, out : Planes
        Of the whole; `out` may lack the last row or column.
    correction : (3, 3) float64 array
        Output pixel to input pixel, of the whole.
    inset : (x, y, width, height)
    **how
        See `warp`.
    """
    width, height = out.size
    warp(picture, np.eye(3), (width, height), out=out)
    x, y = inset[:2]
    right, bottom = min(x + inset[2], width), min(y + inset[3], height)
    source, target = inside(picture, inset), inside(out, (x, y, right - x, bottom - y))
    there = np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])
    warp(source, np.linalg.inv(there) @ correction @ there, target.size, out=target, **how)


def inside(picture: Planes, inset: Inset) -> Planes:
    """Give the picture inside of the bars; views."""
    x, y, width, height = inset
    sx, sy = picture.subsampling
    rows, columns = slice(y // sy, -(-(y + height) // sy)), slice(x // sx, -(-(x + width) // sx))
    u, v = (None if plane is None else plane[rows, columns] for plane in (picture.u, picture.v))
    return Planes(picture.y[y : y + height, x : x + width], u, v, picture.bit_depth, picture.chroma_location)
