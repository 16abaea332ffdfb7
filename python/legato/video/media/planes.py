"""Pictures: planar YUV or gray planes, and the two doors through which frames enter the video family."""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from legato._extras import install_command
from legato._scalars import as_choice, shown
from legato.errors import ArgumentError, DependencyError

__all__ = ["ChromaLocation", "Picture", "Planes", "as_planes", "luma"]

ChromaLocation: TypeAlias = Literal["left", "center", "topleft"]
Samples: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]

_SUBSAMPLINGS = (1, 2, 4)
_DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16))
CHROMA_LOCATIONS: tuple[ChromaLocation, ...] = get_args(ChromaLocation)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Planes:
    """One picture in planar YUV, or in gray when it has no chroma.

    The arrays are kept, not copied. Two pictures are compared by identity; compare their planes to compare content.

    Parameters
    ----------
    y : (h, w) uint8 or uint16 array
        Luma samples.
    u, v : (ceil(h / sy), ceil(w / sx)) array of the same dtype, or None
        Chroma samples; both None for a gray picture. ``sx`` and ``sy`` are 1, 2 or 4.
    bit_depth : int
        Significant bits of a sample: 8 for uint8, 9 to 16 for uint16 (in the low bits, as in yuv420p10le).
    chroma_location : {"left", "center", "topleft"}
        Where a chroma sample sits among the luma samples it covers. "left" (MPEG-2, H.264 and HEVC by default):
        level with the left column, half-way down; "center" (MPEG-1, JPEG): in the middle; "topleft" (BT.2020):
        on the first luma sample. Source: ITU-T H.273 (2021), figure 7.

    Raises
    ------
    ArgumentError
        If a plane has another number of dimensions, shape or dtype than these.
    """

    y: Samples
    u: Samples | None = None
    v: Samples | None = None
    bit_depth: int = 8
    chroma_location: ChromaLocation = "left"

    def __post_init__(self) -> None:
        _check_plane("y", self.y)
        if (self.u is None) != (self.v is None):
            raise ArgumentError("u and v: expected both or neither (None for a gray picture)")
        for name, plane in (("u", self.u), ("v", self.v)):
            if plane is None:
                continue
            _check_plane(name, plane)
            if plane.dtype != self.y.dtype:
                raise ArgumentError(f"{name}: expected dtype {self.y.dtype} as y has, got {plane.dtype}")
        if self.u is not None and self.v is not None:
            if self.u.shape != self.v.shape:
                raise ArgumentError(f"v: expected shape {self.u.shape} as u has, got {self.v.shape}")
            for axis in (0, 1):
                if _factor(self.y.shape[axis], self.u.shape[axis]) is None:
                    raise ArgumentError(
                        f"u: expected shape (ceil(h / sy), ceil(w / sx)) with factors of 1, 2 or 4 "
                        f"for y of shape {self.y.shape}, got {self.u.shape}"
                    )
        depth = self.bit_depth
        if isinstance(depth, bool) or not isinstance(depth, (int, np.integer)):
            raise ArgumentError(f"bit_depth: expected an int, got {shown(depth)}")
        lowest, highest = (8, 8) if self.y.itemsize == 1 else (9, 16)
        if not lowest <= depth <= highest:
            expected = "8" if lowest == highest else f"{lowest} to {highest}"
            raise ArgumentError(f"bit_depth: expected {expected} for {self.y.dtype} planes, got {shown(depth)}")
        as_choice("chroma_location", self.chroma_location, CHROMA_LOCATIONS)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the luma plane, in pixels."""
        return int(self.y.shape[1]), int(self.y.shape[0])

    @property
    def nbytes(self) -> int:
        """Bytes of all samples."""
        return sum(plane.nbytes for plane in (self.y, self.u, self.v) if plane is not None)

    @property
    def subsampling(self) -> tuple[int, int]:
        """Horizontal and vertical chroma subsampling (sx, sy): (2, 2) is 4:2:0; (1, 1) also for gray.

        Where a picture is so small that several factors fit its shapes, the smallest is given.
        """
        if self.u is None:
            return 1, 1
        sx = _factor(self.y.shape[1], self.u.shape[1])
        sy = _factor(self.y.shape[0], self.u.shape[0])
        assert sx is not None  # checked when the picture was made
        assert sy is not None
        return sx, sy


Picture: TypeAlias = Planes | NDArray[np.uint8] | NDArray[np.uint16]
"""A frame as the video family takes it: Planes, gray (h, w), or packed BGR (h, w, 3) uint8."""


def as_planes(frame: object) -> Picture:
    """Check a frame and give gray arrays the form of `Planes`.

    Parameters
    ----------
    frame : Planes, (h, w) uint8 or uint16 array, or (h, w, 3) uint8 array
        A picture in planar YUV, gray (uint16: all 16 bits significant), or packed BGR.

    Returns
    -------
    Planes or ndarray
        `Planes` for planar and gray frames. A packed BGR frame has no planes to give without a conversion that
        would lose precision, so it is returned as the array that it is.

    Raises
    ------
    ArgumentError
        If the frame is none of these.
    """
    if isinstance(frame, Planes):
        return frame
    if not isinstance(frame, np.ndarray):
        raise ArgumentError(f"frame: expected Planes or a NumPy array, got {type(frame).__name__}")
    if frame.ndim == 2:
        _check_plane("frame", frame)
        return Planes(frame, bit_depth=8 if frame.dtype == np.uint8 else 16)
    if frame.ndim == 3 and frame.shape[2] == 3 and frame.dtype == np.uint8 and frame.size > 0:
        return frame
    raise ArgumentError(
        "frame: expected shape (h, w) of uint8 or uint16 or packed BGR (h, w, 3) of uint8, at least 1x1, "
        f"got {frame.shape} of {frame.dtype}"
    )


def luma(frame: object) -> NDArray[np.uint8]:
    """Give the 8-bit luma of a frame: what motion is estimated from.

    Parameters
    ----------
    frame : Planes, (h, w) uint8 or uint16 array, or (h, w, 3) uint8 array
        Deeper samples lose their low bits; BGR is converted with the BT.601 weights.

    Returns
    -------
    (h, w) uint8 array
        The frame's own array, not a copy, where it is already 8-bit planar or gray.

    Raises
    ------
    ArgumentError
        If the frame is not a picture (see `as_planes`).
    """
    picture = as_planes(frame)
    if isinstance(picture, Planes):
        if picture.y.itemsize == 1:
            return picture.y.view(np.uint8)
        # Samples above the stated depth are against the rules, but must not wrap around to dark.
        shifted: NDArray[np.uint8] = np.minimum(picture.y >> (picture.bit_depth - 8), 255).astype(np.uint8)
        return shifted
    # 0.114 B + 0.587 G + 0.299 R with 14 bits, as OpenCV rounds it.
    blue, green, red = (picture[..., channel].astype(np.uint32) for channel in range(3))
    gray: NDArray[np.uint8] = ((1868 * blue + 9617 * green + 4899 * red + 8192) >> 14).astype(np.uint8)
    return gray


def load_opencv() -> Any:
    """Import OpenCV where it is first needed, so that ``import legato.video`` stays light.

    Raises
    ------
    DependencyError
        If OpenCV is not installed.
    """
    try:
        return importlib.import_module("cv2")
    except ImportError as error:
        raise DependencyError(f"OpenCV is needed here: {install_command('opencv')}") from error


def _check_plane(name: str, plane: object) -> None:
    if not isinstance(plane, np.ndarray):
        raise ArgumentError(f"{name}: expected a NumPy array, got {type(plane).__name__}")
    if plane.ndim != 2 or plane.size == 0:
        raise ArgumentError(f"{name}: expected shape (h, w), at least 1x1, got {plane.shape}")
    if plane.dtype not in _DTYPES:
        raise ArgumentError(f"{name}: expected dtype uint8 or uint16, got {plane.dtype}")
    if not plane.flags.aligned:
        raise ArgumentError(f"{name}: expected samples at whole addresses, got an array that is not aligned")


@functools.lru_cache
def _factor(full: int, part: int) -> int | None:
    """Smallest subsampling factor that makes `part` samples of `full`; None where none does."""
    return next((factor for factor in _SUBSAMPLINGS if -(-full // factor) == part), None)
