"""Two pictures side by side, labelled: what a person looks at to judge a result."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from legato._arrays import overlap
from legato.errors import ArgumentError
from legato.video.media.planes import Planes, load_opencv

__all__ = ["Comparison"]

# Of the picture's height; small pictures still need letters that can be read.
_LETTER_HEIGHT = 0.035
_SMALLEST_LETTER_PX = 9
# Luma of the label's ground and letters at 8 bits: black and white in limited range, nearly so in full range.
_DARK, _BRIGHT = 16, 235
_GROUND_OPACITY = 0.6
_LONGEST_SIDE = 32766  # as pictures are warped


class Comparison:
    """Put two pictures of one size beside each other, each with a label in its upper left corner.

    The labels are drawn once; each picture then costs a copy.

    Parameters
    ----------
    size : (int, int)
        Width and height of one picture in pixels.
    labels : (str, str)
        Texts for the left and the right picture.

    Raises
    ------
    ArgumentError
        If the size or the labels are not two ints and two texts.
    DependencyError
        If OpenCV, which draws the letters, is not installed.

    See Also
    --------
    stabilize : Writes such a video with ``compare=``.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import video
    >>> left, right = (video.as_planes(np.full((48, 64), gray, np.uint8)) for gray in (50, 200))
    >>> pair = video.Comparison((64, 48))
    >>> out = video.as_planes(np.zeros(pair.size[::-1], np.uint8))
    >>> pair.draw(left, right, out).y[-1, [0, -1]].tolist()
    [50, 200]
    """

    def __init__(self, size: tuple[int, int], labels: tuple[str, str] = ("original", "stabilized")) -> None:
        # OpenCV draws beyond its canvas when a letter's height leaves 32 bits.
        if not (_is_pair(size, int | np.integer) and all(1 <= side <= _LONGEST_SIDE for side in size)):
            raise ArgumentError(f"size: expected (width, height), two ints from 1 to {_LONGEST_SIDE}")
        if not _is_pair(labels, str):
            raise ArgumentError("labels: expected two texts")
        self._half = int(size[0]), int(size[1])
        self._tags = [_letters(text, size) for text in labels]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the pair."""
        return 2 * self._half[0], self._half[1]

    def draw(self, left: Planes, right: Planes, out: Planes) -> Planes:
        """Write the pair into a picture.

        Parameters
        ----------
        left, right : Planes
            Pictures of one format, at least as large as `size` says; what is beyond is left out.
        out : Planes
            Picture of the pair's `size` in the same format, in memory of its own; overwritten.

        Returns
        -------
        Planes
            `out`.

        See Also
        --------
        Planes : One picture in planar YUV, or in gray when it has no chroma.
        """
        width, height = self._half
        for name, picture in (("left", left), ("right", right), ("out", out)):
            if not isinstance(picture, Planes):
                raise ArgumentError(f"{name}: expected Planes, got {type(picture).__name__}")
        if out.size != self.size:
            raise ArgumentError(f"out: expected a picture of {self.size}, got {out.size}")
        for picture in (left, right):
            if picture.size[0] < width or picture.size[1] < height:
                raise ArgumentError(f"pictures: expected at least {width}x{height}, got {picture.size}")
            if any(overlap(one, other) for one in _present(out) for other in _present(picture)):
                raise ArgumentError("out: expected memory of its own, got memory of a picture")
        for side, picture in enumerate((left, right)):
            for source, target in zip(_present(picture), _present(out), strict=True):
                rows, columns = target.shape[0], target.shape[1] // 2
                target[:, side * columns : (side + 1) * columns] = source[:rows, :columns]
            self._label(out, side)
        return out

    def _label(self, out: Planes, side: int) -> None:
        letters = self._tags[side]
        depth_scale = 1 << (out.bit_depth - 8)
        rows, columns = letters.shape
        x = side * self._half[0]
        ground = out.y[:rows, x : x + columns]
        dark = ground * (1 - _GROUND_OPACITY) + _DARK * depth_scale * _GROUND_OPACITY
        ground[...] = dark + (_BRIGHT * depth_scale - dark) * letters
        sx, sy = out.subsampling
        gray = 128 * depth_scale
        for plane in (out.u, out.v):
            if plane is not None:
                patch = plane[: rows // sy, x // sx : (x + columns) // sx]
                patch[...] = gray + (patch.astype(np.float32) - gray) * (1 - _GROUND_OPACITY)


def _is_pair(value: object, kind: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(item, kind) for item in value)


def _present(picture: Planes) -> list[NDArray[Any]]:
    return [p for p in (picture.y, picture.u, picture.v) if p is not None]


def _letters(text: str, size: tuple[int, int]) -> NDArray[np.float32]:
    """Opacity of white letters on their ground, cut to at most one picture's size."""
    cv2 = load_opencv()
    font = cv2.FONT_HERSHEY_SIMPLEX
    letter = max(_SMALLEST_LETTER_PX, round(_LETTER_HEIGHT * size[1]))
    thickness = max(1, letter // 9)
    scale = cv2.getFontScaleFromHeight(font, letter, thickness)
    (width, height), below = cv2.getTextSize(text, font, scale, thickness)
    margin = max(3, letter // 2)
    # Even, so that the ground ends with whole chroma samples.
    canvas = np.zeros(((height + below + 2 * margin + 1) & ~1, (width + 2 * margin + 1) & ~1), np.uint8)
    origin = (margin, margin + height)
    cv2.putText(canvas, text, origin, font, scale, 255, thickness, cv2.LINE_AA)
    return canvas[: size[1], : size[0]].astype(np.float32) / np.float32(255)
