"""Video files: reading and writing pictures in planar YUV, with all else in the file kept.

What is kept and what is not, in one place:

- **Pictures** are handed on as the decoder gives them (views, no copy) in 8-bit planar 4:2:0, 4:2:2, 4:4:4 and gray
  and in their 9 to 16-bit little-endian forms. Every other format becomes the nearest of these that loses no chroma:
  NV12 and P010 become 4:2:0 planar of the same depth, RGB and palettes become 4:4:4 (BT.709 matrix from 720 lines
  up, BT.601 below, limited range), alpha is dropped.
- **Rotation and mirroring** (the display matrix) are applied to the pixels and the tag is not written again, because
  not every player reads it; or, if asked, the pixels stay as they are stored and the tag is written again. A rotation
  by anything but quarter turns is always left alone and reported.
- **Timestamps** are kept exactly, variable frame rate included, as far as the container's clock allows. Times of
  presentation are never changed to fit those of decoding; these are made where they are missing. Matroska and WebM
  count milliseconds from zero (sound that begins earlier, as AAC in MP4 does, moves everything along with it), AVI
  counts frames. Streams with arbitrary start times (MPEG-TS and the like) are moved to start at zero, all by the same
  amount.
- **Odd sizes**: a picture with subsampled chroma is written without its last odd column or row, since H.264 and its
  players need even sizes. Nothing is padded, so no pixel is invented.
- **Sound, subtitles and attachments** are copied packet by packet where the container can hold them (attachments:
  Matroska alone); what it cannot hold is named in `VideoWriter.not_copied`. Data streams, cover pictures and further
  video streams are not copied.
- Sample aspect ratio, colour range, primaries, transfer and matrix, chapters and text metadata are written again. HDR
  mastering metadata is not.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import os
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from legato import _core
from legato._files import PathLike, PendingFile, reason
from legato._turns import Turns, one_at_a_time
from legato.errors import ArgumentError, InputError, OutputError
from legato.video.decoding import Decoder, is_cover, load_av, open_media
from legato.video.planes import Planes

__all__ = [
    "CONTAINERS",
    "ColorTags",
    "VideoCopy",
    "VideoFrame",
    "VideoReader",
    "VideoWriter",
    "available_codecs",
    "encodable_size",
]

# Extension of the destination -> muxer, encoder where none is asked for.
CONTAINERS = {
    ".mp4": ("mp4", "libx264"),
    ".m4v": ("mp4", "libx264"),
    ".mov": ("mov", "libx264"),
    ".mkv": ("matroska", "libx264"),
    ".webm": ("webm", "libvpx-vp9"),
    ".avi": ("avi", "libx264"),
    ".ts": ("mpegts", "libx264"),
}
_EDIT_LISTS = ("mp4", "mov")
_PRIMING_S = 0.15  # the most that encoders of sound put before its beginning
_LAST_CHAPTER_S = 10**8
_MOST_REORDERED = 16  # pictures that H.264 and H.265 may hold back, and so packets that tell a decoding time
_ATTACHES = "matroska"  # WebM's muxer leaves attachments out without a word, and MPEG-TS makes private data of them
_NOT_STRICT = 0x20000  # AVFMT_TS_NONSTRICT: two packets may have one decoding time
_PRESETS = (
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
)
_DEEP_WEBM = "libsvtav1"  # in .webm where there are more than 8 bits, which this VP9 has not
_DEEP_LEAST_SIDE = 64  # of a picture that it takes
_SVT_PRESETS = dict(zip(_PRESETS, ("10", "9", "8", "7", "6", "5", "4", "3", "2"), strict=True))
_MOST_CRF = {"libx264": 51, "libx265": 51}
_CODEC_FAMILIES = {
    "h264": ("libx264", "h264"),
    "hevc": ("libx265", "hevc"),
    "av1": ("libsvtav1", "libdav1d"),
    "vp9": ("libvpx-vp9", "vp9"),
    "ffv1": ("ffv1", "ffv1"),
    "prores": ("prores_ks", "prores"),
    "mpeg4": ("mpeg4", "mpeg4"),
    "mjpeg": ("mjpeg", "mjpeg"),
}

_CHROMA_NAMES = {  # by width and height over a square of 16
    (16, 16): "4:4:4",
    (8, 16): "4:2:2",
    (16, 8): "4:4:0",
    (8, 8): "4:2:0",
    (4, 16): "4:1:1",
    (4, 4): "4:1:0",
}
_ARBITRARY_START = 0x0200  # AVFMT_TS_DISCONT
_RANGE_LIMITED, _RANGE_FULL = 1, 2  # AVColorRange
_MATRIX_BT709, _MATRIX_BT601 = 1, 6  # AVColorSpace

# Written by the muxer itself, or true only of the file that was read.
_STALE_METADATA = {
    "alpha_mode",
    "encoder",
    "major_brand",
    "minor_version",
    "compatible_brands",
    "rotate",
    "duration",
    "vendor_id",
    "handler_name",
}
NOT_TRANSPARENT = "transparency is not kept"


def check_encoder_preset(name: str, value: object) -> None:
    """Refuse what is no encoder's speed."""
    if value not in _PRESETS:
        raise ArgumentError(f"{name}: expected one of {', '.join(_PRESETS)}; got {value!r}")


@dataclass(frozen=True, slots=True)
class ColorTags:
    """How the numbers of a picture mean colour, as FFmpeg numbers it (ITU-T H.273); 2 or 0 is unspecified.

    Attributes
    ----------
    range : int
        1 limited ("TV"), 2 full ("PC").
    primaries, transfer, matrix : int
        Colour primaries, transfer characteristics and YUV matrix.
    """

    range: int = 0
    primaries: int = 2
    transfer: int = 2
    matrix: int = 2


@dataclass(frozen=True, slots=True, eq=False)
class VideoFrame:
    """One decoded picture and its place in time.

    Attributes
    ----------
    planes : Planes
        The picture, upright. Read-only views of the decoder's memory where that was possible.
    pts : int
        Time of presentation, in units of `time_base`; strictly increasing from frame to frame.
    duration : int
        Time on screen in units of `time_base`; 0 where the file does not say.
    time_base : Fraction
        Seconds in one unit.
    key : bool
        Whether the frame was coded without reference to others.
    index : int
        Position in the video, from 0.
    """

    planes: Planes
    pts: int
    duration: int
    time_base: Fraction
    key: bool
    index: int

    @property
    def time_s(self) -> float:
        """Time of presentation in seconds."""
        return float(self.pts * self.time_base)


class _Orientation(NamedTuple):
    """How stored pixels become upright ones: first transposed, then mirrored."""

    transposed: bool = False
    mirrored_x: bool = False
    mirrored_y: bool = False

    @classmethod
    def of(cls, matrix: Sequence[int]) -> _Orientation | None:
        """Read a display matrix (x' = a x + c y, y' = b x + d y); None unless it is made of quarter turns."""
        a, b, c, d = (matrix[i] / 65536 for i in (0, 1, 3, 4))
        scale = max(abs(a), abs(b), abs(c), abs(d)) or 1.0
        if max(abs(b), abs(c)) < 0.02 * scale:
            return cls(False, a < 0, d < 0)
        if max(abs(a), abs(d)) < 0.02 * scale:
            return cls(True, c < 0, b < 0)
        return None

    def __call__(self, plane: NDArray[Any]) -> NDArray[Any]:
        if self.transposed:
            plane = plane.T
        if self.mirrored_x:
            plane = plane[:, ::-1]
        if self.mirrored_y:
            plane = plane[::-1]
        return np.ascontiguousarray(plane)


class VideoReader:
    """Read the pictures of a video file, in order, once.

    Opening decodes the first frame, so that size, format and rotation are known and a file without pictures is
    refused at once.

    Parameters
    ----------
    path : str, path or Decoder
        A file that FFmpeg can read, or one that is opened. Its first video stream that is not a cover picture is used.
    rotate : bool
        Whether to turn the pictures upright as the file says; otherwise they come as they are stored.
    allow_playlists : bool
        Whether the file may be a list of other files (HLS, DASH, concat and the like), which are then read.

    Attributes
    ----------
    decoder : Decoder
        What opened the file and decodes it.
    path : Path
        The file.
    rotate : bool
        As given.
    width, height : int
        Size of the upright pictures, in pixels.
    frame_rate : Fraction
        Average frames per second, as the file states it; 25 where it states none.
    time_base : Fraction
        Unit of the timestamps, in seconds.
    frame_count : int or None
        Number of frames according to the file; a hint, not a promise.
    duration_s : float or None
        Length according to the file.
    rotation : int
        Degrees counterclockwise by which the stored pictures were turned to be upright.
    display_matrix : tuple of 9 int, or None
        The file's display matrix, if it was not applied: how a player is to turn the pictures.
    stored_format : str
        FFmpeg's name of the pixel format in the file.
    pixel_format : str
        FFmpeg's name of the format in which the pictures are handed on.
    chroma_location : str
        "left", or "center" for JPEG and its kin.
    color : ColorTags
        Colour tags of the pictures handed on.
    codec : str
        Name of the codec.
    has_audio : bool
        Whether the file has sound.
    sample_aspect_ratio : Fraction
        Width of a pixel over its height.
    interlaced : bool
        Whether the first frame is marked as interlaced; it is treated as progressive.
    skipped_packets, damaged_frames, repaired_timestamps : int
        Counted while reading: packets that could not be decoded, frames that the decoder marks as damaged (they are
        handed on), timestamps that were missing or did not increase.
    hidden_packets : int
        Counted while reading: packets of pictures that are not shown, as the file's edit list says.
    cut_within : bool
        Whether one of these comes after the beginning.
    notes : list of str
        What a user should know about how the file was read.

    Raises
    ------
    InputError
        If the file cannot be read, is no video, has no frame, or changes its size.
    DependencyError
        If PyAV is not installed.
    """

    def __init__(self, path: PathLike | Decoder, *, rotate: bool = True, allow_playlists: bool = False) -> None:
        self._turns = Turns()
        self._av = load_av()
        self.decoder = path if isinstance(path, Decoder) else Decoder(path, allow_playlists=allow_playlists)
        self._container, self._stream = self.decoder.container, self.decoder.stream
        self.path = self.decoder.path
        self.rotate = rotate
        self.display_matrix: tuple[int, ...] | None = None
        self.damaged_frames = self.repaired_timestamps = 0
        self.notes: list[str] = []
        try:
            self._decoded = self.decoder.frames()
            first = next(self._decoded, None)
            if first is None:
                raise InputError(f"{self.path}: {self.decoder.no_frame}")
            self._first: Any = first
            self._describe(first)
        except BaseException:
            self.decoder.close()
            raise

    @property
    def skipped_packets(self) -> int:
        """Packets so far that could not be decoded."""
        return self.decoder.skipped_packets

    @property
    def hidden_packets(self) -> int:
        """Packets so far of pictures that are not shown."""
        return self.decoder.hidden_packets

    @property
    def cut_within(self) -> bool:
        """Whether one of these came after the beginning."""
        return self.decoder.cut_within

    def _describe(self, first: Any) -> None:
        stream, container = self._stream, self._container
        self.codec = str(stream.codec_context.codec.canonical_name)
        self.has_audio = bool(container.streams.audio)
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate
        self.frame_rate = Fraction(rate) if rate else Fraction(25)
        self.time_base = Fraction(stream.time_base or 1 / self.frame_rate)
        self.duration_s: float | None = None
        if stream.duration:
            self.duration_s = float(stream.duration * self.time_base)
        elif container.duration:
            self.duration_s = container.duration / self._av.time_base
        self.frame_count: int | None = int(stream.frames) or None
        if self.frame_count is None and self.duration_s is not None:
            self.frame_count = max(1, round(self.duration_s * self.frame_rate))

        self._stored_size = (int(first.width), int(first.height))
        self._orientation, self.rotation = self._oriented(first)
        self.width, self.height = self._stored_size
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        if self._orientation.transposed:
            self.width, self.height = self.height, self.width
            aspect = 1 / aspect
        self.sample_aspect_ratio = aspect

        self.stored_format = str(first.format.name)
        self.pixel_format = self._planar(first.format)
        self.color = self._color(first)
        self.interlaced = bool(first.interlaced_frame)
        if stream.metadata.get("alpha_mode") == "1" or self._transparent(first):
            self.notes.append(NOT_TRANSPARENT)
        if self.interlaced:
            self.notes.append("interlaced pictures are treated as progressive")
        jpeg = self.stored_format.startswith("yuvj") or self.codec == "mjpeg"
        self.chroma_location: Literal["left", "center"] = "center" if jpeg else "left"

    def _transparent(self, first: Any) -> bool:
        if not any(component.is_alpha for component in first.format.components):
            return False
        if self.codec != "gif":
            return True
        # Decoded with alpha, whether there is a transparent pixel or not.
        alpha = first.reformat(format="yuva444p").planes[3]
        rows = np.frombuffer(alpha, np.uint8).reshape(alpha.height, alpha.line_size)
        return bool(rows[:, : alpha.width].min() < 255)

    def _oriented(self, frame: Any) -> tuple[_Orientation, int]:
        upright = _Orientation()
        kinds = importlib.import_module("av.sidedata.sidedata")
        try:
            data = frame.side_data[kinds.Type.DISPLAYMATRIX]
        except (KeyError, IndexError):
            return upright, 0
        matrix = np.frombuffer(bytes(data), np.int32).tolist()
        orientation = _Orientation.of(matrix)
        if orientation is None or not self.rotate:
            self.display_matrix = tuple(matrix)
            if orientation is None:
                self.notes.append(f"a rotation by {frame.rotation} degrees was left as it is")
            return upright, 0
        return orientation, int(frame.rotation)

    def _planar(self, stored: Any) -> str:
        """Nearest planar YUV or gray format that loses no chroma and no depth (up to 16 bits)."""
        components = [c for c in stored.components if not c.is_alpha]
        depth = max(c.bits for c in components)
        if _is_rgb(stored):
            layout = "yuv444p"
        elif len(components) < 3:
            layout = "gray"
        else:
            wide, high = stored.chroma_width(16), stored.chroma_height(16)
            layout = "yuv444p"
            if wide <= 8:
                layout = "yuv420p" if high <= 8 else "yuv422p"
            if layout == "yuv422p" and self._orientation.transposed:
                layout = "yuv444p"  # turned 4:2:2 is 4:4:0, which encoders do not take
        depth = next((d for d in (8, 9, 10, 12, 14, 16) if d >= depth), 16)
        return layout if depth == 8 else f"{layout}{depth}le"

    def _color(self, frame: Any) -> ColorTags:
        tags = {
            "range": int(frame.color_range),
            "primaries": int(frame.color_primaries),
            "transfer": int(frame.color_trc),
            "matrix": int(frame.colorspace),
        }
        if _is_rgb(frame.format):
            tags["range"] = _RANGE_LIMITED
            tags["matrix"] = _MATRIX_BT709 if frame.height >= 720 else _MATRIX_BT601
        elif self.stored_format.startswith("yuvj"):
            tags["range"] = _RANGE_FULL
        return ColorTags(**tags)

    def __iter__(self) -> Iterator[VideoFrame]:
        """Give the frames in order of presentation; a second iteration finds none left."""
        step = 1 / (self.frame_rate * self.time_base)
        anchor, anchor_index = 0, 0  # the last timestamp that the file gave, and its frame
        last: int | None = None
        index = 0
        while (frame := self._next()) is not None:
            if (int(frame.width), int(frame.height)) != self._stored_size:
                was = "{}x{}".format(*self._stored_size)
                raise InputError(
                    f"{self.path}: frame {index} is {frame.width}x{frame.height} but the video began as {was}"
                )
            if frame.pts is None:
                pts = anchor + round((index - anchor_index) * step)
                self.repaired_timestamps += 1
            else:
                pts = int(frame.pts)
                anchor, anchor_index = pts, index
            if last is not None and pts <= last:
                pts = last + 1
                self.repaired_timestamps += 1
            last = pts
            self.damaged_frames += bool(frame.is_corrupt)
            yield VideoFrame(
                planes=self._planes(frame),
                pts=pts,
                duration=int(getattr(frame, "duration", 0) or 0),
                time_base=self.time_base,
                key=bool(frame.key_frame),
                index=index,
            )
            index += 1

    @one_at_a_time
    def _next(self) -> Any:
        first, self._first = self._first, None
        return next(self._decoded, None) if first is None else first

    def _planes(self, frame: Any) -> Planes:
        if frame.format.name.replace("yuvj", "yuv") != self.pixel_format:
            matrix = None
            if _is_rgb(frame.format):
                matrix = "ITU709" if self.color.matrix == _MATRIX_BT709 else "ITU601"
            frame = frame.reformat(format=self.pixel_format, dst_colorspace=matrix)
        arrays = _plane_views(frame, writable=False)
        if self._orientation != _Orientation():
            arrays = [self._orientation(plane) for plane in arrays]
        return _as_planes(arrays, self.pixel_format, self.chroma_location)

    @one_at_a_time
    def close(self) -> None:
        """Close the file."""
        self._first = None
        self.decoder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_rgb(pixel_format: Any) -> bool:
    return bool(pixel_format.is_rgb or pixel_format.has_palette)


def _chroma_name(pixel_format: Any) -> str:
    """Name what there is of color in a picture."""
    if _is_rgb(pixel_format):
        return "RGB"
    if sum(not component.is_alpha for component in pixel_format.components) < 3:
        return "gray"
    ratio = (pixel_format.chroma_width(16), pixel_format.chroma_height(16))
    return _CHROMA_NAMES.get(ratio, "{}x{} in 16".format(*ratio))


@functools.cache
def _depth(pixel_format: str) -> int:
    digits = pixel_format.removesuffix("le").partition("p" if "yuv" in pixel_format else "gray")[2]
    return int(digits) if digits else 8


def _as_planes(arrays: Sequence[NDArray[Any]], pixel_format: str, location: Literal["left", "center"]) -> Planes:
    u, v = (arrays[1], arrays[2]) if len(arrays) == 3 else (None, None)
    return Planes(arrays[0], u, v, bit_depth=_depth(pixel_format), chroma_location=location)


def _plane_views(frame: Any, *, writable: bool) -> list[NDArray[Any]]:
    """Arrays over the memory of a frame in one of our planar formats; its rows may be padded."""
    dtype = np.dtype(np.uint8 if _depth(frame.format.name) == 8 else "<u2")
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


def keep_within_depth(samples: Sequence[NDArray[Any]], bit_depth: int) -> None:
    """Cut off what is beyond the depth, in place: pictures of damaged streams have it, and x264 ends the process."""
    if bit_depth in (8, 16):
        return
    most = (1 << bit_depth) - 1
    for plane in samples:
        if plane.max() > most:
            np.minimum(plane, most, out=plane)


def find_encoder(name: object) -> Any:
    """Find an encoder of video by FFmpeg's name, or say that there is none."""
    try:
        encoder = load_av().codec.Codec(name, "w")
    except (ValueError, LookupError, TypeError) as error:
        raise ArgumentError(f"codec: no encoder named {name!r} in this FFmpeg") from error
    if encoder.type != "video":
        raise ArgumentError(f"codec: {name!r} is an encoder of {encoder.type}, expected of video")
    return encoder


def add_video_stream(container: Any, codec: str, rate: Fraction, where: str) -> Any:
    """Add a stream of pictures to a container, or say that it does not hold such."""
    try:
        return container.add_stream(codec, rate=rate)
    except ValueError as error:
        raise ArgumentError(f"codec: {where} cannot hold {codec}") from error


def open_encoder(context: Any) -> None:
    """Open an encoder whose settings are made, or say what it refuses."""
    try:
        context.open()
    except (load_av().FFmpegError, ValueError) as error:
        raise ArgumentError(
            f"codec: {context.name} refuses {context.width}x{context.height} {context.pix_fmt} with "
            f"{context.options} ({reason(error)})"
        ) from error


def encodable_size(size: tuple[int, int], pixel_format: str) -> tuple[int, int]:
    """Give the size in which a picture is written: without the odd column or row that subsampled chroma forbids.

    Parameters
    ----------
    size : (int, int)
        Width and height in pixels.
    pixel_format : str
        FFmpeg's name of the encoder's pixel format.

    Returns
    -------
    (int, int)
        The same size, or one less in a direction in which the chroma is subsampled; never below 2 there.
    """
    width, height = size
    if "420" in pixel_format or "422" in pixel_format:
        width = max(2, width - width % 2)
    if "420" in pixel_format:
        height = max(2, height - height % 2)
    return width, height


class VideoWriter:
    """Write pictures to a video file with the sound, subtitles and tags of the video that they came from.

    The file grows without a name (a hidden one where the system knows no unnamed files) and appears under its own by
    `close`, complete or not at all: leaving the ``with`` block by an exception removes what was written and leaves an
    older file as it was.

    Parameters
    ----------
    path : str or path
        Destination: .mp4, .m4v, .mov, .mkv, .webm, .avi or .ts.
    source : VideoReader
        The video whose timestamps, pixel format, tags and other streams are taken over.
    size : (int, int), optional
        Width and height to write; by default the source's. See `encodable_size`.
    codec : str, optional
        FFmpeg's name of an encoder; by default libx264, and in .webm libvpx-vp9, or libsvtav1 for more than 8 bits.
    crf : float
        Constant quality, for encoders that have it: lower is better and larger. 18 is close to transparent in
        H.264 and H.265.
    preset : str
        Speed against size, "ultrafast" to "veryslow", for libx264, libx265 and libsvtav1.
    pixel_format : str, optional
        FFmpeg's name; by default the source's, or the nearest that the encoder takes.
    codec_options : dict, optional
        Further options of the encoder, by FFmpeg's names.
    copy_streams : bool
        Whether to copy sound, subtitles and attachments.

    Attributes
    ----------
    size : (int, int)
        Size of the pictures written.
    codec, pixel_format : str
        What is encoded.
    copied, not_copied : list of str
        The source's other streams, by what became of them.
    notes : list of str
        What of the pictures' depth and chroma, and of chapters, could not be kept.
    frames : int
        Pictures written so far.

    Raises
    ------
    ArgumentError
        If the extension, codec, preset, crf or an option is unknown.
    OutputError
        If the file cannot be written.
    """

    def __init__(
        self,
        path: PathLike,
        source: VideoReader,
        *,
        size: tuple[int, int] | None = None,
        codec: str | None = None,
        crf: float = 18,
        preset: str = "veryfast",
        pixel_format: str | None = None,
        codec_options: dict[str, str] | None = None,
        copy_streams: bool = True,
    ) -> None:
        self._turns = Turns()
        self._av = load_av()
        self.path = Path(path)
        self._muxer, default_codec = _container_of(self.path)
        self._planar_format = source.pixel_format
        if self._muxer == "webm" and _depth(self._planar_format) > 8:
            there = available_codecs()["av1"]["encoder"] == _DEEP_WEBM
            if there and min(size or (source.width, source.height)) >= _DEEP_LEAST_SIDE:
                default_codec = _DEEP_WEBM
        self.codec = codec or default_codec
        self._location: Literal["left", "center"] = source.chroma_location
        encoder = find_encoder(self.codec)
        self.pixel_format = self._chosen_format(encoder, pixel_format)
        self.notes = self._losses(source, asked=pixel_format is not None)
        self.size = encodable_size(size or (source.width, source.height), self.pixel_format)
        self._time_base, self._clock = source.time_base, source.time_base
        if self._muxer == "avi":  # counts frames, so its clock must tick once a frame
            self._clock = 1 / source.frame_rate
        self._counts_frames = self._clock != self._time_base
        self.copied: list[str] = []
        self.not_copied: list[str] = []
        self.frames = 0
        self._durations: dict[int, int] = {}
        self._last_pts: int | None = None
        self._shift_s = _start_shift(source)
        self._shift = round(self._shift_s / source.time_base)
        # Pictures given by `new_planes` and not written yet; weak, since a caller may drop one.
        self._handed: weakref.WeakKeyDictionary[Planes, Any] = weakref.WeakKeyDictionary()
        self._copier: _StreamCopier | None = None
        self._timing: _Timing | None = None

        self._pending = PendingFile(self.path, unnamed=True)
        try:
            self._container = _opened_for_writing(self._av, self._pending.path, self._muxer, self._clock)
            self._stream = self._video_stream(source, encoder)
            self._open_encoder(_encoder_options(self.codec, crf, preset, self._muxer), codec_options)
            if copy_streams:
                self._copier = _StreamCopier(self._av, source, self._container, self._muxer)
                self._copier.shift_s = self._shift_s
                self.copied, self.not_copied = self._copier.copied, self._copier.not_copied
            self.notes += _take_over_tags(source, self._container)
        except BaseException:
            self.abort()
            raise

    def _chosen_format(self, encoder: Any, asked: str | None) -> str:
        taken = [f.name for f in encoder.video_formats or ()]
        if asked is not None:
            if not isinstance(asked, str) or (taken and asked not in taken):
                raise ArgumentError(f"pixel_format: {self.codec} takes {', '.join(taken)}; got {asked!r}")
            return asked
        wanted = self._planar_format
        if not taken or wanted in taken:
            return wanted

        def loss(name: str) -> tuple[int, int, int, int]:
            chroma = ("gray", "yuv420p", "yuv422p", "yuv444p")
            mine, other = (next(i for i, c in enumerate(chroma) if n.startswith(c)) for n in (wanted, name))
            deeper = _depth(name) - _depth(wanted)
            return max(0, mine - other), max(0, -deeper), max(0, other - mine), max(0, deeper)

        planar = [n for n in taken if n in _planar_names()]
        return min(planar, key=loss) if planar else str(taken[0])

    def _losses(self, source: VideoReader, *, asked: bool) -> list[str]:
        """Tell what becomes of depth and chroma on the way from the file to the encoder."""
        stored, planar, written = (
            self._av.VideoFormat(name, 16, 16)
            for name in (source.stored_format, self._planar_format, self.pixel_format)
        )
        notes = []
        deep, kept = (max(c.bits for c in f.components if not c.is_alpha) for f in (stored, written))
        if kept < deep:
            most = max(c.bits for c in planar.components)
            why = "as asked" if asked else f"{self.codec} takes no more" if kept < most else "more is not handled"
            notes.append(f"{deep} bits became {kept}: {why}")
        had, has = _chroma_name(stored), _chroma_name(written)
        if had not in (has, "gray"):
            why = f"{self.codec} takes no {had}"
            if asked:
                why = "as asked"
            elif has == _chroma_name(planar):
                why = "pictures are drawn in YUV" if had == "RGB" else "it was resampled"
            notes.append(f"{had if had == 'RGB' else f'chroma {had}'} became {has}: {why}")
        return notes

    def _video_stream(self, source: VideoReader, encoder: Any) -> Any:
        rate = source.frame_rate.limit_denominator(100_000)
        stream = add_video_stream(self._container, encoder.name, rate, f"{self.path.suffix} files")
        context = stream.codec_context
        context.width, context.height = self.size
        context.pix_fmt = self.pixel_format
        context.time_base = stream.time_base = self._clock
        context.sample_aspect_ratio = source.sample_aspect_ratio
        context.color_range = source.color.range
        context.color_primaries = source.color.primaries
        context.color_trc = source.color.transfer
        context.colorspace = source.color.matrix
        # PyAV's own default is threads within a frame, which costs x264 quality.
        context.thread_type = "AUTO"
        if self.codec == "libx265" and self._muxer in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # Apple's players open no other
        if source.display_matrix is not None:
            stream.set_display_matrix(source.display_matrix)
        stream.metadata.update(_lasting(source._stream.metadata))
        return stream

    def _open_encoder(self, options: dict[str, str], extra: dict[str, str] | None) -> None:
        context = self._stream.codec_context
        context.options = {**options, **(extra or {})}
        open_encoder(context)
        unknown = sorted(set(extra or {}) & set(context.options))
        if unknown:
            raise ArgumentError(f"codec_options: {self.codec} has no option {', '.join(unknown)}")

    def new_planes(self) -> Planes:
        """Give a picture of the size and format to write, over the encoder's memory, content undefined.

        Handed to `write`, it is not copied again. Several may be under way at once, and filled by another thread than
        the one that writes.
        """
        frame = self._av.VideoFrame(*self.size, self._planar_format)
        planes = _as_planes(_plane_views(frame, writable=True), self._planar_format, self._location)
        self._handed[planes] = frame
        return planes

    @one_at_a_time
    def write(self, planes: Planes, pts: int, duration: int = 0) -> None:
        """Encode the next picture.

        Parameters
        ----------
        planes : Planes
            A picture of `size`, in the source's planar format.
        pts, duration : int
            Its time of presentation and its time on screen (0: unknown), in the source's time base.
        """
        frame = self._framed(planes)
        pts -= self._shift
        if self._counts_frames:
            pts = round(pts * self._time_base / self._clock)
            duration = 1
            if self._last_pts is not None and pts <= self._last_pts:
                raise OutputError(
                    f"{self.path}: {self.path.suffix} holds one constant frame rate and this video's varies; "
                    "write .mp4 or .mkv"
                )
        self._last_pts = pts
        frame.pts, frame.time_base = pts, self._clock
        if duration:
            self._durations[pts] = duration
        self._encode(frame)
        self.frames += 1

    def _framed(self, planes: Planes) -> Any:
        handed = self._handed.pop(planes, None)
        if handed is not None:
            keep_within_depth([p for p in (planes.y, planes.u, planes.v) if p is not None], planes.bit_depth)
            return handed
        frame = self._av.VideoFrame(*self.size, self._planar_format)
        views = _plane_views(frame, writable=True)
        given = [p for p in (planes.y, planes.u, planes.v) if p is not None]
        if [p.shape for p in given] != [v.shape for v in views] or given[0].dtype != views[0].dtype:
            raise ArgumentError(f"planes: expected a picture of {self.size[0]}x{self.size[1]} {self._planar_format}")
        for view, plane in zip(views, given, strict=True):
            view[...] = plane
        keep_within_depth(views, planes.bit_depth)
        return frame

    def _gray(self, frame: Any) -> Any:
        """Give the luma alone as it is: FFmpeg would stretch it to the full range, whatever the tags say."""
        gray = self._av.VideoFrame(*self.size, self.pixel_format)
        luma, target = _plane_views(frame, writable=False)[0], _plane_views(gray, writable=True)[0]
        up = _depth(self.pixel_format) - _depth(self._planar_format)
        if up >= 0:
            target[...] = luma.astype(target.dtype) << up
        else:
            rounded = (luma.astype(np.uint32) + (1 << (-up - 1))) >> -up
            target[...] = np.minimum(rounded, (1 << _depth(self.pixel_format)) - 1)
        gray.pts, gray.time_base = frame.pts, frame.time_base
        return gray

    def _encode(self, frame: Any) -> None:
        if frame is not None and self.pixel_format.startswith("gray") and self.pixel_format != self._planar_format:
            frame = self._gray(frame)
        try:
            for packet in self._stream.encode(frame):
                duration = self._durations.pop(packet.pts, 0)
                if duration:  # encoders leave it out, and then the last frame's would be a guess
                    packet.duration = duration
                if self._timing is None:
                    self._container.start_encoding()  # the stream's clock is known from here on
                    self._timing = _Timing(self._stream, self._muxer)
                for timed in self._timing.push(packet):
                    if self._copier is not None:
                        self._copier.copy_until(timed.dts * float(timed.time_base))
                    self._container.mux(timed)
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise OutputError(f"{self.path}: cannot be written ({reason(error)})") from error

    @one_at_a_time
    def finish(self) -> None:
        """Encode what is still in the encoder and complete the file, without its final name yet.

        Raises
        ------
        OutputError
            If no picture was written or the file cannot be completed.
        """
        if self.frames == 0:
            raise OutputError(f"{self.path}: no picture was written")
        self._encode(None)
        try:
            if self._copier is not None:
                self._copier.copy_until(float("inf"))
            self._container.close()
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise OutputError(f"{self.path}: cannot be written ({reason(error)})") from error
        if self._copier is not None:
            self._copier.close()

    @property
    def damaged_packets(self) -> int:
        """Packets of copied streams that were so damaged that the container could not take them; they are left out."""
        return 0 if self._copier is None else self._copier.damaged

    @one_at_a_time
    def commit(self) -> None:
        """Give the finished file its final name."""
        self._pending.commit()

    @one_at_a_time
    def close(self) -> None:
        """Finish the file and give it its final name."""
        self.finish()
        self.commit()

    @one_at_a_time
    def abort(self) -> None:
        """Remove what was written; after `commit` nothing happens."""
        _abandon(self._pending, self._copier, getattr(self, "_container", None))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            self.abort()


class _Timing:
    """Packets of one stream on the clock of another, with decoding times such as a muxer takes.

    Times of presentation stay what they are. A decoding time that is missing is extrapolated backwards from the next
    one that is known; they increase, and none is later than the presentation of its packet or of one that follows.

    Parameters
    ----------
    target : av.stream.Stream
        Where the packets go; its container's header is written.
    muxer : str
        The kind of container.
    shift_s : Fraction
        Seconds by which all times are moved back.
    ahead : int
        Packets that are looked at before one is given.

    Attributes
    ----------
    target : av.stream.Stream
    lost : int
        Packets left out since they are to be shown before one can be decoded that comes before them.
    """

    def __init__(self, target: Any, muxer: str, *, shift_s: Fraction = Fraction(0), ahead: int = 0) -> None:
        self.target = target
        self.lost = 0
        self._shift_s, self._shift = shift_s, 0
        self._clock = Fraction(target.time_base)
        self._rate: Fraction | None = None  # ticks of the target in one of the packets
        self._ahead = ahead
        lax = target.type == "subtitle" or int(target.container.format.flags) & _NOT_STRICT
        self._gap = 0 if lax else 1  # between two packets
        # MPEG-TS has no times below zero: for a decoding time, FFmpeg would move the presentation of everything.
        self._least = 0 if muxer == "mpegts" else None
        self._window: deque[Any] = deque()
        self._last: int | None = None
        self._end = 0  # of the packet before

    def push(self, packet: Any) -> Iterator[Any]:
        """Take the next packet; give those whose time has come."""
        if self._rate is None:  # once a stream: fractions take their time
            self._shift = round(self._shift_s / packet.time_base)
            self._rate = packet.time_base / self._clock
        dts, pts, duration = packet.dts, packet.pts, packet.duration or 0
        packet.stream, packet.time_base = self.target, self._clock
        packet.dts = None if dts is None else self._moved(dts - self._shift)
        given = dts if pts is None else pts
        packet.pts = self._end if given is None else self._moved(given - self._shift)
        packet.duration = self._moved(duration)
        self._end = packet.pts + packet.duration
        self._window.append(packet)
        if len(self._window) > self._ahead:
            yield from self._first()

    def rest(self) -> Iterator[Any]:
        """Give the packets that are left."""
        while self._window:
            yield from self._first()

    def _moved(self, time: int) -> int:
        assert self._rate is not None
        n, d = self._rate.numerator, self._rate.denominator
        return (2 * time * n + d) // (2 * d)

    def _first(self) -> Iterator[Any]:
        shown = [packet.pts for packet in self._window]
        latest = min(pts - self._gap * k for k, pts in enumerate(shown))
        dts = next((p.dts - k * self._step(shown) for k, p in enumerate(self._window) if p.dts is not None), latest)
        dts = min(dts, latest)
        if self._least is not None:
            dts = max(dts, min(self._least, latest))
        if self._last is not None:
            dts = max(dts, self._last + self._gap)
        packet = self._window.popleft()
        if dts > packet.pts:
            self.lost += 1
            return
        packet.dts = self._last = dts
        yield packet

    def _step(self, shown: list[int]) -> int:
        """Give the mean time from one of these packets to the next."""
        return max(1, (max(shown) - min(shown)) // max(1, len(shown) - 1))


class _StreamCopier:
    """Copy the other streams of a file, read a second time so that memory does not depend on its interleaving.

    With `pictures` its pictures, too.
    """

    def __init__(self, av: Any, source: VideoReader, output: Any, muxer: str, *, pictures: bool = False) -> None:
        self._av = av
        self._output = output
        self._muxer = muxer
        self._keeps_edits = muxer in _EDIT_LISTS
        self._primes: dict[int, bool] = {}
        self.copied: list[str] = []
        self.not_copied: list[str] = []
        self.shift_s = Fraction(0)
        self.damaged = 0
        self._targets: dict[int, Any] = {}
        self._timed: Iterator[Any] | None = None
        self._held: Any = None
        self._input = open_media(source.path, allow_playlists=source.decoder.allow_playlists)
        for stream in self._input.streams:
            if stream.index == source._stream.index:
                if pictures and not self._fits(stream, muxer):
                    raise ArgumentError(f"path: {muxer} files cannot hold {source.codec} as it is")
                if pictures:
                    self._add(stream)
                    if source.display_matrix is not None:
                        self._targets[stream.index].set_display_matrix(source.display_matrix)
                continue
            label = _stream_label(stream)
            if stream.type in ("audio", "subtitle", "attachment") and self._fits(stream, muxer):
                self._add(stream)
                self.copied.append(label)
            else:
                self.not_copied.append(label)
        wanted = [s for s in self._input.streams if s.index in self._targets]
        self._packets: Iterator[Any] = self._input.demux(wanted) if wanted else iter(())

    def _fits(self, stream: Any, muxer: str) -> bool:
        """Ask the muxer, by writing a header with this stream alone: no table of codecs says it as surely."""
        if stream.type == "attachment" and muxer != _ATTACHES:
            return False
        written = io.BytesIO()
        try:
            with self._av.open(written, "w", format=muxer) as trial:
                target = trial.add_stream_from_template(stream)
                trial.start_encoding()
                if muxer == "mpegts":
                    self._add_any_packet(trial, target)
        except (self._av.FFmpegError, ValueError, TypeError, AttributeError):
            return False
        return muxer != "mpegts" or not self._private(written)

    def _add_any_packet(self, trial: Any, target: Any) -> None:
        """Write something, so that the tables that name the streams are written."""
        packet = self._av.Packet(bytes(64))
        packet.stream, packet.time_base = target, target.time_base
        packet.pts = packet.dts = 0
        with contextlib.suppress(self._av.FFmpegError):  # some look into it
            trial.mux(packet)

    def _private(self, written: io.BytesIO) -> bool:
        """Whether the only stream of an MPEG-TS is private data: it takes any codec so, and no player reads that."""
        written.seek(0)
        try:
            with self._av.open(written, format="mpegts") as back:
                return any(stream.type == "data" for stream in back.streams)
        except (self._av.FFmpegError, ValueError):
            return False

    def _add(self, stream: Any) -> None:
        target = self._output.add_stream_from_template(stream)
        target.metadata.update(_lasting(stream.metadata))
        with contextlib.suppress(AttributeError):  # not every version of PyAV
            target.disposition = stream.disposition
        if stream.type != "attachment":
            self._targets[stream.index] = target

    def copy_until(self, time_s: float) -> None:
        """Copy packets in the order of the file until one belongs after the given time."""
        if self._timed is None:
            self._timed = self._packets_with_times()
        while (packet := next(self._timed, None) if self._held is None else self._held) is not None:
            self._held = packet if packet.dts * float(packet.time_base) > time_s else None
            if self._held is not None:
                return
            try:
                self._output.mux(packet)
            except self._av.error.InvalidDataError:
                self.damaged += 1  # a muxer that looks into its packets refuses this one, and takes the next

    def _packets_with_times(self) -> Iterator[Any]:
        self._output.start_encoding()  # the clocks of the streams are known from here on
        timing = {
            index: _Timing(
                target,
                self._muxer,
                shift_s=self.shift_s,
                # Subtitles are too far apart to wait for the next, and may have one time.
                ahead=0 if target.type == "subtitle" else _MOST_REORDERED,
            )
            for index, target in self._targets.items()
        }
        for packet in self._packets_of_file():
            if packet.size and not self._hidden(packet):
                yield from timing[packet.stream.index].push(packet)
        for one in timing.values():
            yield from one.rest()
            if one.lost and one.target.type == "video":
                raise ValueError(f"{one.lost} pictures come too late to be decoded")
            self.damaged += one.lost

    def _packets_of_file(self) -> Iterator[Any]:
        with contextlib.suppress(self._av.FFmpegError):  # the rest of a damaged file
            yield from self._packets

    def _hidden(self, packet: Any) -> bool:
        """Whether an edit list cuts a packet off, which the container cannot say; what primes a decoder is kept."""
        if self._keeps_edits or not packet.is_discard or packet.pts is None:
            return False
        begin, end = packet.pts, packet.pts + (packet.duration or 0)
        # All of a short beginning is priming; of a long one the last packet, and the one that ends at zero.
        primes = self._primes.setdefault(packet.stream.index, begin * packet.time_base >= -_PRIMING_S)
        return not primes and end + (packet.duration or 0) < 0

    def close(self) -> None:
        for reading in (self._timed, self._packets):
            close = getattr(reading, "close", None)
            if close is not None:
                close()
        self._held = None
        self._input.close()


class VideoCopy:
    """Write a video's own packets, pictures and all, to another file: nothing is lost to encoding again.

    Parameters
    ----------
    path : str or path
        Destination, as for `VideoWriter`.
    source : VideoReader
        The video, its pictures read to the end; it is read a second time.

    Attributes
    ----------
    copied, not_copied : list of str
        The source's streams but the pictures, by what became of them.
    notes : list of str
        What besides the pictures, of which everything is kept, was left out.

    Raises
    ------
    ArgumentError
        If the destination's container cannot hold the packets as they are, or not what an edit list cuts off; or if
        pictures have no times or wrong ones.
    OutputError
        If the file cannot be written.
    """

    def __init__(self, path: PathLike, source: VideoReader) -> None:
        self._turns = Turns()
        self._av = load_av()
        self.path = Path(path)
        muxer, _ = _container_of(self.path)
        if muxer == "avi":
            raise ArgumentError("path: .avi files have no room for when pictures are shown")
        if source.hidden_packets and (muxer not in _EDIT_LISTS or source.cut_within):
            raise ArgumentError(f"path: {muxer} files have no room for what an edit list cuts off")
        if source.repaired_timestamps:
            raise ArgumentError("path: pictures without times, or of wrong ones, cannot be copied as they are")
        self.notes: list[str] = []
        self._pending = PendingFile(self.path, unnamed=True)
        self._copier: _StreamCopier | None = None
        try:
            self._container = _opened_for_writing(self._av, self._pending.path, muxer, source.time_base)
            self._copier = _StreamCopier(self._av, source, self._container, muxer, pictures=True)
            self._copier.shift_s = _start_shift(source)
            self.copied, self.not_copied = self._copier.copied, self._copier.not_copied
            self.notes += _take_over_tags(source, self._container)
        except BaseException:
            self.abort()
            raise

    @one_at_a_time
    def finish(self) -> None:
        """Copy everything and complete the file, without its final name yet."""
        assert self._copier is not None
        try:
            self._copier.copy_until(float("inf"))
            self._container.close()
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise OutputError(f"{self.path}: cannot be written ({reason(error)})") from error
        self._copier.close()

    @property
    def damaged_packets(self) -> int:
        """Packets that were so damaged that the container could not take them; they are left out."""
        return 0 if self._copier is None else self._copier.damaged

    @one_at_a_time
    def commit(self) -> None:
        """Give the finished file its final name."""
        self._pending.commit()

    @one_at_a_time
    def abort(self) -> None:
        """Remove what was written; after `commit` nothing happens."""
        _abandon(self._pending, self._copier, getattr(self, "_container", None))


def _opened_for_writing(av: Any, path: Path, muxer: str, clock: Fraction) -> Any:
    options = {}
    if muxer in _EDIT_LISTS:
        # The movie's clock counts late starts; its usual milliseconds would round them.
        scale = clock.denominator
        scale *= -(-10_000 // scale)
        options = {"movflags": "faststart", "movie_timescale": str(scale)}
    return av.open(str(path), "w", format=muxer, container_options=options)


def _take_over_tags(source: VideoReader, container: Any) -> list[str]:
    """Write metadata and chapters again; tell what of them is left out."""
    container.metadata.update(_lasting(source._container.metadata))
    with contextlib.suppress(AttributeError, source._av.FFmpegError):  # not every version
        chapters = source._container.chapters()
        # A muxer that counts nanoseconds refuses the whole file for one that is too far away.
        sound = [c for c in chapters if 0 <= c["start"] <= c["end"] and c["end"] * c["time_base"] <= _LAST_CHAPTER_S]
        container.set_chapters(sound)
        if len(sound) < len(chapters):
            return [f"chapters left out, of impossible times: {len(chapters) - len(sound)}"]
    return []


def _abandon(pending: PendingFile, copier: _StreamCopier | None, container: Any) -> None:
    # Closing completes the file as far as it can, and that must not be seen under a name. An unnamed file stays open
    # meanwhile, since the muxer may open it a second time.
    if not pending.unnamed:
        pending.discard()
    if copier is not None:
        copier.close()
    if container is not None:
        with contextlib.suppress(Exception):
            container.close()
    pending.discard()


def _stream_label(stream: Any) -> str:
    codec = getattr(stream.codec_context, "name", None) if stream.codec_context else None
    language = stream.metadata.get("language")
    parts = [f"#{stream.index}", "cover" if is_cover(stream) else stream.type, codec, language]
    return " ".join(str(p) for p in parts if p)


def _lasting(metadata: dict[str, str]) -> dict[str, str]:
    return {
        k: v
        for k, v in metadata.items()
        if k.lower() not in _STALE_METADATA
        and not k.upper().startswith(("_STATISTICS", "BPS", "NUMBER_OF_", "DURATION"))
    }


def _start_shift(source: VideoReader) -> Fraction:
    """Seconds by which all streams are moved back, for containers whose clock starts anywhere."""
    container = source._container
    if not int(container.format.flags) & _ARBITRARY_START:
        return Fraction(0)
    return Fraction(container.start_time or 0, source._av.time_base)


def _container_of(path: Path) -> tuple[str, str]:
    try:
        return CONTAINERS[path.suffix.lower()]
    except KeyError:
        known = ", ".join(CONTAINERS)
        raise ArgumentError(f"{path}: unknown kind of video file {path.suffix!r}; expected one of {known}") from None


def _planar_names() -> set[str]:
    depths = ("", "9le", "10le", "12le", "14le", "16le")
    return {f"{a}{d}" for a in ("gray", "yuv420p", "yuv422p", "yuv444p") for d in depths}


def _encoder_options(codec: str, crf: float, preset: str, muxer: str) -> dict[str, str]:
    most = _MOST_CRF.get(codec, 63)
    if not (isinstance(crf, int | float | np.number) and 0 <= crf <= most):
        raise ArgumentError(f"crf: expected a number from 0 to {most} for {codec}, got {crf!r}")
    check_encoder_preset("preset", preset)
    options: dict[str, str] = {}
    if codec in ("libx264", "libx265"):
        options = {"crf": f"{crf:g}", "preset": preset}
        if codec == "libx264" and _core.best_isa() == "avx512":
            # With its code for AVX-512 the bytes differ from run to run at some widths (PyAV 18).
            options["x264-params"] = "asm=avx2"
        if codec == "libx265":
            options["x265-params"] = "log-level=error"  # it writes to stderr by itself
    elif codec in ("libvpx-vp9", "libvpx"):
        options = {"crf": f"{crf:g}", "deadline": "good", "cpu-used": "4"}
        if codec == "libvpx-vp9":
            options["row-mt"] = "1"
    elif codec == "libsvtav1":
        options = {"crf": f"{crf:g}", "preset": _SVT_PRESETS[preset]}
        os.environ.setdefault("SVT_LOG", "1")  # errors only: it, too, writes to stderr by itself
    elif codec in ("mpeg4", "mjpeg", "mpeg2video"):
        options = {"flags": "+qscale", "global_quality": str(3 * 118)}  # quantizer 3
        if codec == "mjpeg":
            options["strict"] = "unofficial"  # or it takes full range only
    if muxer == "avi" and codec.startswith(("libx26", "mpeg")):
        options["bf"] = "0"  # AVI has no way to say in which order frames are shown
    return options


def available_codecs() -> dict[str, dict[str, str | None]]:
    """Tell which well-known video codecs this FFmpeg can write and read.

    Returns
    -------
    dict
        Family ("h264", "av1", ...) to {"encoder": name or None, "decoder": name or None}.

    Raises
    ------
    DependencyError
        If PyAV is not installed.
    """
    av = load_av()

    def present(name: str, mode: str) -> str | None:
        try:
            av.codec.Codec(name, mode)
        except (ValueError, LookupError):
            return None
        return name

    return {
        family: {"encoder": present(encoder, "w"), "decoder": present(decoder, "r")}
        for family, (encoder, decoder) in _CODEC_FAMILIES.items()
    }
