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
from legato.video.media.colors import MATRIX_BT601, MATRIX_BT709, RANGE_FULL, ColorTags
from legato.video.media.decoding import load_av

__all__ = ["ChromaLocation", "ColorOrder", "Picture", "Planes", "as_planes", "luma"]

ColorOrder: TypeAlias = Literal["rgb", "bgr", "gray"]
ChromaLocation: TypeAlias = Literal["left", "center", "topleft"]
Samples: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]

_HIGH_DEFINITION = 720  # lines from which on BT.709 is usual
_SCALER_BT601 = 5  # BT.470 BG, which has the same matrix
_SUBSAMPLINGS = (1, 2, 4)
_DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16))
COLOR_ORDERS: tuple[ColorOrder, ...] = get_args(ColorOrder)
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

    See Also
    --------
    as_planes : Check a frame and give gray arrays and those of PyAV the form of `Planes`.
    luma : Give the 8-bit luma of a frame: what motion is estimated from.
    warp : Resample a picture through a homography.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import video
    >>> gray = video.Planes(np.full((48, 64), 126, np.uint8))
    >>> gray.to_array("gray").shape, gray.to_array("rgb").shape
    ((48, 64), (48, 64, 3))
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

    def to_array(self, order: ColorOrder = "rgb", *, color: ColorTags | None = None) -> NDArray[np.uint8]:
        """Give the picture as packed colors or as gray, eight bits a sample, 0 to 255.

        Parameters
        ----------
        order : {"rgb", "bgr", "gray"}
            Of the colors in the last axis.
        color : ColorTags, optional
            What the numbers mean. What it leaves open, or all of it: limited range, and the matrix of BT.709 from 720
            lines up, of BT.601 below.

        Returns
        -------
        (h, w, 3) or, for gray, (h, w) uint8 array

        Raises
        ------
        ArgumentError
            If `order` is none of these.
        DependencyError
            If PyAV, whose converter makes colors, is not installed.

        See Also
        --------
        as_planes : Check a frame and give gray arrays and those of PyAV the form of `Planes`.
        """
        order = as_choice("order", order, COLOR_ORDERS)
        tags = color or ColorTags()
        full = tags.range == RANGE_FULL
        if order == "gray" or self.u is None:  # FFmpeg takes gray for full range, whatever it is told
            low, span = (
                (0, (1 << self.bit_depth) - 1) if full else (16 << self.bit_depth - 8, 219 << self.bit_depth - 8)
            )
            levels = (self.y.astype(np.float32) - low) * np.float32(255 / span)
            gray = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
            return gray if order == "gray" else np.repeat(gray[..., None], 3, axis=2)
        drawn = frame_of(self).reformat(
            format=f"{order}24",
            src_colorspace=_matrix_number(tags.matrix, self.size[1]),
            src_color_range="JPEG" if full else "MPEG",
            dst_color_range="JPEG",
        )
        return np.asarray(drawn.to_ndarray(), np.uint8)

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


def is_rgb(pixel_format: Any) -> bool:
    return bool(pixel_format.is_rgb or pixel_format.has_palette)


@functools.cache
def depth_of(pixel_format: str) -> int:
    digits = pixel_format.removesuffix("le").partition("p" if "yuv" in pixel_format else "gray")[2]
    return int(digits) if digits else 8


def planar_format(stored: Any, *, transposed: bool = False) -> str:
    """Name the nearest planar YUV or gray format that loses no chroma and no depth (up to 16 bits)."""
    components = [c for c in stored.components if not c.is_alpha]
    depth = max(c.bits for c in components)
    if is_rgb(stored):
        layout = "yuv444p"
    elif len(components) < 3:
        layout = "gray"
    else:
        wide, high = stored.chroma_width(16), stored.chroma_height(16)
        layout = "yuv444p"
        if wide <= 8:
            layout = "yuv420p" if high <= 8 else "yuv422p"
        if layout == "yuv422p" and transposed:
            layout = "yuv444p"  # turned 4:2:2 is 4:4:0, which encoders do not take
    depth = next((d for d in (8, 9, 10, 12, 14, 16) if d >= depth), 16)
    return layout if depth == 8 else f"{layout}{depth}le"


def planar_frame(frame: Any, planar: str, matrix: int) -> Any:
    """Give a frame of PyAV's in a planar format; RGB by the matrix of this number."""
    if frame.format.name.replace("yuvj", "yuv") == planar:
        return frame
    return frame.reformat(format=planar, dst_colorspace=_matrix_number(matrix, 0) if is_rgb(frame.format) else None)


def plane_views(frame: Any, *, writable: bool) -> list[NDArray[Any]]:
    """Arrays over the memory of a frame in one of our planar formats; its rows may be padded."""
    dtype = np.dtype(np.uint8 if depth_of(frame.format.name) == 8 else "<u2")
    views: list[NDArray[Any]] = []
    for plane in frame.planes:
        stride = plane.line_size
        view = np.ndarray((plane.height, plane.width), dtype, plane, 0, (abs(stride), dtype.itemsize))
        if stride < 0:  # stored bottom-up; OpenCV takes no negative strides
            view = np.ascontiguousarray(view[::-1])
        if not writable:
            view.flags.writeable = False  # other frames may still refer to this one
        views.append(view)
    return views


def planes_of(frame: Any, location: ChromaLocation, *, writable: bool = False) -> Planes:
    """Give the planes of a frame in one of our planar formats, over its memory; without its transparency."""
    views = plane_views(frame, writable=writable)
    u, v = (views[1], views[2]) if len(views) >= 3 else (None, None)
    return Planes(views[0], u, v, bit_depth=depth_of(frame.format.name), chroma_location=location)


def frame_of(planes: Planes) -> Any:
    """Copy a picture into a frame of PyAV's."""
    sx, sy = planes.subsampling
    if planes.u is None:
        layout = "gray"
    else:
        ratios = {(1, 1): "yuv444p", (2, 1): "yuv422p", (2, 2): "yuv420p", (4, 1): "yuv411p", (4, 4): "yuv410p"}
        layout = ratios.get((sx, sy), "")
    depth = next(d for d in (8, 9, 10, 12, 14, 16) if d >= planes.bit_depth)
    name = layout if depth == 8 else f"{layout}{depth}le"
    if not layout or (depth > 8 and max(sx, sy) > 2):
        raise ArgumentError(f"planes: chroma at 1/{sx} by 1/{sy} of {depth} bits has no name in FFmpeg")
    frame = load_av().VideoFrame(*planes.size, name)
    for view, plane in zip(plane_views(frame, writable=True), _present(planes), strict=True):
        view[...] = plane if depth == planes.bit_depth else plane << (depth - planes.bit_depth)
    return frame


def is_pyav(frame: object) -> bool:
    """Whether something is a picture of PyAV's; tells without importing it."""
    kind = type(frame)
    return kind.__name__ == "VideoFrame" and kind.__module__.partition(".")[0] == "av"


def like_pyav(picture: Picture, model: Any) -> Any:
    """Give a picture as a frame of PyAV's, with format, times and color tags of another (but its transparency)."""
    if isinstance(picture, Planes):
        frame = frame_of(picture)
        if frame.format.name != model.format.name.replace("yuvj", "yuv"):
            matrix = _matrix_number(int(model.colorspace), model.height) if is_rgb(model.format) else None
            frame = frame.reformat(format=model.format.name, src_colorspace=matrix)
    else:
        frame = load_av().VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="bgr24")
        frame = frame.reformat(format=model.format.name)
    frame.pts, frame.time_base = model.pts, model.time_base
    frame.color_range, frame.colorspace = model.color_range, model.colorspace
    frame.color_primaries, frame.color_trc = model.color_primaries, model.color_trc
    return frame


def _matrix_number(matrix: int, height: int) -> int:
    """Give the number of a YUV matrix in FFmpeg's scaler; if it is not said, the one usual for so many lines."""
    usual = MATRIX_BT709 if height >= _HIGH_DEFINITION else _SCALER_BT601
    known = {MATRIX_BT709: MATRIX_BT709, _SCALER_BT601: _SCALER_BT601, MATRIX_BT601: _SCALER_BT601, 9: 9}  # 9: BT.2020
    return known.get(matrix, usual)


def _present(planes: Planes) -> list[Samples]:
    return [p for p in (planes.y, planes.u, planes.v) if p is not None]


Picture: TypeAlias = Planes | NDArray[np.uint8] | NDArray[np.uint16]
"""A frame as the video family takes it: Planes, gray (h, w), or packed BGR (h, w, 3) uint8."""


def as_planes(frame: object) -> Picture:
    """Check a frame and give gray arrays and those of PyAV the form of `Planes`.

    Parameters
    ----------
    frame : Planes, (h, w) uint8 or uint16 array, (h, w, 3) uint8 array, or av.VideoFrame
        A picture in planar YUV, gray (uint16: all 16 bits significant), or packed BGR; or one of PyAV's in any format,
        whose transparency is left out.

    Returns
    -------
    Planes or ndarray
        `Planes` for planar and gray frames; views of PyAV's memory where its format is planar. A packed BGR frame has
        no planes to give without a conversion that would lose precision, so it is returned as the array that it is;
        a frame of PyAV's in RGB of eight bits as such an array.

    Raises
    ------
    ArgumentError
        If the frame is none of these.

    See Also
    --------
    luma : Give the 8-bit luma of a frame: what motion is estimated from.
    Planes : One picture in planar YUV, or in gray when it has no chroma.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import video
    >>> video.as_planes(np.zeros((48, 64), np.uint8)).y.shape
    (48, 64)
    """
    if isinstance(frame, Planes):
        return frame
    if is_pyav(frame):
        return _of_pyav(frame)
    if not isinstance(frame, np.ndarray):
        raise ArgumentError(f"frame: expected Planes, a NumPy array or a frame of PyAV's, got {type(frame).__name__}")
    if frame.ndim == 2:
        _check_plane("frame", frame)
        return Planes(frame, bit_depth=8 if frame.dtype == np.uint8 else 16)
    if frame.ndim == 3 and frame.shape[2] == 3 and frame.dtype == np.uint8 and frame.size > 0:
        return frame
    raise ArgumentError(
        "frame: expected shape (h, w) of uint8 or uint16 or packed BGR (h, w, 3) of uint8, at least 1x1, "
        f"got {frame.shape} of {frame.dtype}"
    )


def _of_pyav(frame: Any) -> Picture:
    depth = max(c.bits for c in frame.format.components if not c.is_alpha)
    if is_rgb(frame.format) and depth <= 8:
        packed: NDArray[np.uint8] = frame.to_ndarray(format="bgr24")
        return packed
    matrix = int(frame.colorspace)
    if is_rgb(frame.format):
        matrix = MATRIX_BT709 if frame.height >= _HIGH_DEFINITION else MATRIX_BT601
    planar = planar_frame(frame, planar_format(frame.format), matrix)
    return planes_of(planar, "center" if frame.format.name.startswith("yuvj") else "left")


def luma(frame: object) -> NDArray[np.uint8]:
    """Give the 8-bit luma of a frame: what motion is estimated from.

    Parameters
    ----------
    frame : Planes, (h, w) uint8 or uint16 array, (h, w, 3) uint8 array, or av.VideoFrame
        Deeper samples lose their low bits; BGR is converted with the BT.601 weights.

    Returns
    -------
    (h, w) uint8 array
        The frame's own array, not a copy, where it is already 8-bit planar or gray.

    Raises
    ------
    ArgumentError
        If the frame is not a picture (see `as_planes`).

    See Also
    --------
    as_planes : Check a frame and give gray arrays and those of PyAV the form of `Planes`.
    Tracker : Estimate the motion of a video frame by frame.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import video
    >>> video.luma(np.full((48, 64, 3), 255, np.uint8))[0, 0].tolist()
    255
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
