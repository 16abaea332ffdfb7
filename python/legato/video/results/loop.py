"""A short loop of original and result side by side, the camera's way below them: what a page can show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from legato._arrays import Float64
from legato.video.media.animation import write_animation
from legato.video.media.planes import load_opencv
from legato.video.media.reader import VideoReader

__all__ = ["write_loop"]

_BEFORE, _AFTER, _GROUND = (217, 119, 6), (29, 78, 216), (250, 250, 250)  # of plots and pages
_STRIP = 0.35  # of the picture's height
_FINE = 3  # bits behind the point in OpenCV's coordinates


def write_loop(
    comparison: Path, before: Float64, after: Float64, destination: Path, *, width: int = 640, fps: int = 15
) -> None:
    """Write an animated WebP of a comparison video, the camera's way before and after drawn below as it goes.

    Parameters
    ----------
    comparison : path
        Original and result side by side, as ``--compare`` writes it.
    before, after : array, shape (n,)
        The camera's horizontal position at each frame, see `camera.path_curves`.
    destination : path
        The file.
    width : int
        Of the loop, in pixels.
    fps : int
        Pictures a second at most; frames between them are left out.

    Raises
    ------
    OutputError
        If the file cannot be written.
    DependencyError
        If PyAV or OpenCV is not installed.
    """
    with VideoReader(comparison) as reader:
        stride = max(1, round(float(reader.frame_rate) / fps))
        height = 2 * round(width * reader.height / reader.width / 2)
        pictures = _pictures(reader, (width, height), _Strip(before, after, (width, round(_STRIP * height))), stride)
        write_animation(destination, pictures, max(1, round(float(reader.frame_rate) / stride)))


def _pictures(reader: VideoReader, size: tuple[int, int], strip: _Strip, stride: int) -> Iterator[NDArray[np.uint8]]:
    cv2 = load_opencv()
    for index, frame in enumerate(reader):
        if index % stride == 0:
            pair = cv2.resize(frame.planes.to_array("rgb", color=reader.color), size, interpolation=cv2.INTER_AREA)
            yield np.vstack([pair, strip.at(index)])


class _Strip:
    """The two ways over time, and where on them the picture above is."""

    def __init__(self, before: Float64, after: Float64, size: tuple[int, int]) -> None:
        self._cv2 = load_opencv()
        self._size = size
        margin = 0.12 * size[1]
        both = np.concatenate([before, after])
        low, high = float(both.min()), float(both.max())
        self._x = np.linspace(margin, size[0] - margin, len(before))
        scale = (size[1] - 2 * margin) / max(high - low, 1e-9)
        ways = ((before, _BEFORE), (after, _AFTER))
        self._ways = [(size[1] - margin - (way - low) * scale, color) for way, color in ways]
        self._drawn = np.full((size[1], size[0], 3), _GROUND, np.uint8)
        for y, color in self._ways:
            points = np.stack([self._x, y], 1)
            fixed = np.rint(points * (1 << _FINE)).astype(np.int32)
            self._cv2.polylines(self._drawn, [fixed], False, color, 1, self._cv2.LINE_AA, _FINE)

    def at(self, index: int) -> NDArray[np.uint8]:
        """Draw the strip with a mark on both ways."""
        strip = self._drawn.copy()
        index = min(index, len(self._x) - 1)
        for y, color in self._ways:
            center = (round(self._x[index] * (1 << _FINE)), round(y[index] * (1 << _FINE)))
            self._cv2.circle(strip, center, 5 << _FINE, color, -1, self._cv2.LINE_AA, _FINE)
        return strip
