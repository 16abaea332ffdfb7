"""Read a video file: frames as planes, upright or as stored, with times, color tags and what is wrong with the file."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from legato._files import PathLike
from legato._turns import Turns, one_at_a_time
from legato.errors import InputError
from legato.video.media.colors import MATRIX_BT601, MATRIX_BT709, RANGE_FULL, RANGE_LIMITED, ColorTags, HdrMetadata
from legato.video.media.decoding import Decoder, load_av
from legato.video.media.filters import deinterlaced
from legato.video.media.planes import ColorOrder, Planes, is_rgb, planar_format, planar_frame, planes_of

__all__ = ["VideoFrame", "VideoReader"]


_CHROMA_NAMES = {  # by width and height over a square of 16
    (16, 16): "4:4:4",
    (8, 16): "4:2:2",
    (16, 8): "4:4:0",
    (8, 8): "4:2:0",
    (4, 16): "4:1:1",
    (4, 4): "4:1:0",
}
NOT_TRANSPARENT = "transparency is not kept"


_UNTAGGED = ColorTags()


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
    color : ColorTags
        What the numbers of the picture mean.

    See Also
    --------
    VideoReader : Read the pictures of a video file, in order, once.

    Examples
    --------
    >>> from legato import video
    >>> truth = video.synthesize("shaky.mp4", size=(160, 120), frames=3)
    >>> with video.VideoReader("shaky.mp4") as reader:
    ...     frame = next(iter(reader))
    >>> frame.index, frame.to_array("rgb").shape, frame.to_array("rgb").dtype
    (0, (120, 160, 3), dtype('uint8'))
    """

    planes: Planes
    pts: int
    duration: int
    time_base: Fraction
    key: bool
    index: int
    color: ColorTags = _UNTAGGED

    @property
    def time_s(self) -> float:
        """Time of presentation in seconds."""
        return float(self.pts * self.time_base)

    def to_array(self, order: ColorOrder = "rgb") -> NDArray[np.uint8]:
        """Give the picture as `Planes.to_array` does, by its own color tags.

        See Also
        --------
        Planes.to_array : Give the picture as packed colors or as gray, eight bits a sample, 0 to 255.
        """
        return self.planes.to_array(order, color=self.color)


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
        A file that FFmpeg can read, or one that is opened.
    rotate : bool
        Whether to turn the pictures upright as the file says; otherwise they come as they are stored.
    stream : int, optional
        Which of the file's streams, as FFmpeg counts all of them from 0; by default see `Decoder`.
    deinterlace : bool
        Whether pictures of two interleaved fields become whole ones, by FFmpeg's filter ``bwdif``, as many as they
        were: those that are marked as interlaced, or all where the first is not.
    allow_playlists : bool
        Whether the file may be a list of other files (HLS, DASH, concat and the like), which are then read.

    Attributes
    ----------
    decoder : Decoder
        What opened the file and decodes it.
    path : Path
        The file.
    rotate, deinterlace : bool
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
        Color tags of the pictures handed on.
    hdr : HdrMetadata
        What the first picture says of the display and the light of an HDR master.
    codec : str
        Name of the codec.
    has_audio : bool
        Whether the file has sound.
    sample_aspect_ratio : Fraction
        Width of a pixel over its height.
    interlaced : bool
        Whether the first frame is marked as interlaced.
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

    See Also
    --------
    VideoWriter : Write pictures to a video file with the sound, subtitles and tags of the video that they came from.
    VideoFrame : One decoded picture and its place in time.

    Examples
    --------
    >>> from legato import video
    >>> truth = video.synthesize("shaky.mp4", size=(160, 120), frames=3)
    >>> reader = video.VideoReader("shaky.mp4")
    >>> reader.width, reader.height, [frame.index for frame in reader]
    (160, 120, [0, 1, 2])
    >>> reader.close()
    """

    def __init__(
        self,
        path: PathLike | Decoder,
        *,
        rotate: bool = True,
        stream: int | None = None,
        deinterlace: bool = False,
        allow_playlists: bool = False,
    ) -> None:
        self._turns = Turns()
        self._av = load_av()
        self.decoder = (
            path if isinstance(path, Decoder) else Decoder(path, stream=stream, allow_playlists=allow_playlists)
        )
        self._container, self._stream = self.decoder.container, self.decoder.stream
        self.path = self.decoder.path
        self.rotate, self.deinterlace = rotate, deinterlace
        self.display_matrix: tuple[int, ...] | None = None
        self.damaged_frames = self.repaired_timestamps = 0
        self.notes: list[str] = []
        try:
            self._decoded = self.decoder.frames()
            first = next(self._decoded, None)
            if first is None:
                raise InputError(f"{self.path}: {self.decoder.no_frame}")
            self.interlaced = bool(first.interlaced_frame)
            if deinterlace:
                whole = deinterlaced(itertools.chain([first], self._decoded), self._stream, every=not self.interlaced)
                first, self._decoded = next(whole), whole
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
        self.pixel_format = planar_format(first.format, transposed=self._orientation.transposed)
        self.color = self._color(first)
        self.hdr = HdrMetadata.of(first)
        if stream.metadata.get("alpha_mode") == "1" or self._transparent(first):
            self.notes.append(NOT_TRANSPARENT)
        if self.interlaced and not self.deinterlace:
            self.notes.append("interlaced pictures are treated as progressive (--deinterlace, deinterlace=True)")
        if self.deinterlace and not self.interlaced:
            self.notes.append("no mark of interlacing: all pictures were deinterlaced, the upper field first")
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

    def _color(self, frame: Any) -> ColorTags:
        tags = {
            "range": int(frame.color_range),
            "primaries": int(frame.color_primaries),
            "transfer": int(frame.color_trc),
            "matrix": int(frame.colorspace),
        }
        if is_rgb(frame.format):
            tags["range"] = RANGE_LIMITED
            tags["matrix"] = MATRIX_BT709 if frame.height >= 720 else MATRIX_BT601
        elif self.stored_format.startswith("yuvj"):
            tags["range"] = RANGE_FULL
        return ColorTags(**tags)

    def __iter__(self) -> Iterator[VideoFrame]:
        """Give the frames in order of presentation; a second iteration finds none left."""
        step = 1 / (self.frame_rate * self.time_base)
        anchor, anchor_index = 0, 0  # the last timestamp that the file gave, and its frame
        last: int | None = None
        index = 0
        while (frame := self._next()) is not None:
            if (int(frame.width), int(frame.height)) != self._stored_size:
                self._resize(frame, index)
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
                color=self.color,
            )
            index += 1

    def _resize(self, frame: Any, index: int) -> None:
        """Take a picture of another size than those before: no file does that."""
        was = "{}x{}".format(*self._stored_size)
        raise InputError(f"{self.path}: frame {index} is {frame.width}x{frame.height} but the video began as {was}")

    @property
    def first_picture(self) -> Planes | None:
        """The first picture, as long as no frame was read."""
        return None if self._first is None else self._planes(self._first)

    @one_at_a_time
    def _next(self) -> Any:
        first, self._first = self._first, None
        return next(self._decoded, None) if first is None else first

    def _planes(self, frame: Any) -> Planes:
        planes = planes_of(planar_frame(frame, self.pixel_format, self.color.matrix), self.chroma_location)
        if self._orientation == _Orientation():
            return planes
        y, u, v = (None if p is None else self._orientation(p) for p in (planes.y, planes.u, planes.v))
        assert y is not None
        return Planes(y, u, v, planes.bit_depth, planes.chroma_location)

    @one_at_a_time
    def close(self) -> None:
        """Close the file.

        See Also
        --------
        VideoWriter.close : Finish the file and give it its final name.
        """
        self._first = None
        self.decoder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def chroma_name(pixel_format: Any) -> str:
    """Name what there is of color in a picture."""
    if is_rgb(pixel_format):
        return "RGB"
    if sum(not component.is_alpha for component in pixel_format.components) < 3:
        return "gray"
    ratio = (pixel_format.chroma_width(16), pixel_format.chroma_height(16))
    return _CHROMA_NAMES.get(ratio, "{}x{} in 16".format(*ratio))


def keep_within_depth(samples: Sequence[NDArray[Any]], bit_depth: int) -> None:
    """Cut off what is beyond the depth, in place: pictures of damaged streams have it, and x264 ends the process."""
    if bit_depth in (8, 16):
        return
    most = (1 << bit_depth) - 1
    for plane in samples:
        if plane.max() > most:
            np.minimum(plane, most, out=plane)
