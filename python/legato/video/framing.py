"""What of a steadied picture is shown: the crop window enlarged or as it is, or all that there is, with borders."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from legato import camera
from legato.video.choices import Border
from legato.video.media.colors import RANGE_FULL
from legato.video.media.planes import Planes

__all__ = ["Framing", "beyond", "blackened", "moved"]

Floats: TypeAlias = NDArray[np.float64]


def moved(by: Floats) -> Floats:
    """Give the map that shifts points by so much."""
    return np.array([[1, 0, by[0]], [0, 1, by[1]], [0, 0, 1.0]])


class Framing(NamedTuple):
    """How the pixels of the output lie on the crop window of the path.

    Attributes
    ----------
    size : (int, int)
        Width and height of the output, in pixels.
    to_window : (3, 3) float64 array
        From its pixels to those of the crop window: a path's ``window[t] @ to_window`` leads on to the input.
    at_rest : (3, 3) float64 array
        From its pixels to the input's where there is no path.
    measured : (3, 3) float64 array
        In place of `to_window` where a path is measured: without what a cut does not enlarge.
    corner : (int, int)
        Pixel of the input, at rest, of the output's first one.
    border : {"black", "transparent"} or None
        What stands where there is no picture; None: there is picture everywhere.
    wide : bool
        Whether more than the crop window is shown, and so what the frame may lack.
    """

    size: tuple[int, int]
    to_window: Floats
    at_rest: Floats
    measured: Floats
    corner: tuple[int, int] = (0, 0)
    border: Border | None = None
    wide: bool = False

    @classmethod
    def of(
        cls,
        size: tuple[int, int],
        options: camera.PathOptions,
        *,
        scale: bool = True,
        border: Border | None = None,
        inset: tuple[int, int, int, int] | None = None,
        view: float | None = None,
    ) -> Self:
        """Frame pictures of a size, inside of black bars: enlarged, cut (not `scale`), or whole with borders.

        `view`: a part of the frame that is shown in place of the crop window.
        """
        if view is not None:
            options = replace(options, window_scale=max(view, 1 - options.crop))
        x, y, *inner = inset or (0, 0, *size)
        corner = np.array([x, y], np.float64)
        window = np.asarray(moved(corner) @ camera.crop_map((inner[0], inner[1]), options) @ moved(-corner))
        whole = np.eye(3)
        if view is not None:
            return cls(size, window, whole, window, wide=True)
        if border is not None:
            return cls(size, whole, whole, whole, border=border)
        if scale:
            return cls(size, window, whole, window)
        # From pixels of even numbers, where chroma samples lie.
        first = [math.ceil(window[axis, 2] / 2) * 2 for axis in (0, 1)]
        last = [math.floor(side - 1 - window[axis, 2]) for axis, side in enumerate(size)]
        x, y = first
        cut = np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])
        return cls((max(last[0] - x + 1, 1), max(last[1] - y + 1, 1)), cut, cut, window, (x, y))

    def cut(self, planes: Planes) -> Planes:
        """Give the part of an input's picture that the output shows at rest; views."""
        x, y = self.corner
        if (x, y) == (0, 0):
            return planes
        sx, sy = planes.subsampling
        u, v = (None if p is None else p[y // sy :, x // sx :] for p in (planes.u, planes.v))
        return Planes(planes.y[y:, x:], u, v, planes.bit_depth, planes.chroma_location)


def beyond(correction: Floats, size: tuple[int, int], source_size: tuple[int, int]) -> NDArray[np.bool_]:
    """Tell which pixels of an output show what lies beyond the input.

    Parameters
    ----------
    correction : (3, 3) float64 array
        From pixels of the output to those of the input, centers at integers.
    size, source_size : (int, int)
        Width and height of output and input.

    Returns
    -------
    (height, width) bool array
    """
    x, y, w = correction
    # The input reaches half a pixel beyond its outermost centers; each of its edges bounds a half plane of the output.
    edges = np.array([x + 0.5 * w, (source_size[0] - 0.5) * w - x, y + 0.5 * w, (source_size[1] - 0.5) * w - y, w])
    rows = np.arange(size[1])
    first, last = np.zeros(size[1]), np.full(size[1], size[0] - 1.0)
    for a, b, c in edges / np.abs(edges).max(1, keepdims=True):
        rest = b * rows + c
        if abs(a) < 1e-12:
            last[rest < 0] = -1
        elif a > 0:
            np.maximum(first, -rest / a, out=first)
        else:
            np.minimum(last, -rest / a, out=last)
    columns = np.arange(size[0])
    outside: NDArray[np.bool_] = (columns < np.ceil(first)[:, None]) | (columns > np.floor(last)[:, None])
    return outside


def blackened(planes: Planes, outside: NDArray[np.bool_], color_range: int) -> None:
    """Make pixels black, in place; chroma samples where all that they cover is.

    Parameters
    ----------
    planes : Planes
        Written to.
    outside : (height, width) bool array
    color_range : int
        FFmpeg's number (see `ColorTags`).
    """
    if not outside.any():
        return
    unit = 1 << (planes.bit_depth - 8)
    full = color_range == RANGE_FULL or (planes.u is None and not color_range)
    np.copyto(planes.y, np.asarray(0 if full else 16 * unit, planes.y.dtype), where=outside)
    sx, sy = planes.subsampling
    for plane in (planes.u, planes.v):
        if plane is not None:
            ends = [np.arange(n) * step for n, step in zip(plane.shape, (sy, sx), strict=True)]
            edges: list[list[NDArray[Any]]] = [
                [begin, np.minimum(begin + step - 1, side - 1)]
                for begin, step, side in zip(ends, (sy, sx), outside.shape, strict=True)
            ]
            covered = np.logical_and.reduce([outside[r][:, c] for r in edges[0] for c in edges[1]])
            np.copyto(plane, np.asarray(128 * unit, plane.dtype), where=covered)
