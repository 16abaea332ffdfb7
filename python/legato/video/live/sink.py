"""Where steady live pictures go: a file, a stream, a pipe or a window."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from legato._files import PendingFile, reason
from legato.errors import ArgumentError, DependencyError, OutputError
from legato.video.live.report import without_password
from legato.video.live.sound import LiveSound, SoundQueue
from legato.video.live.source import URL
from legato.video.media.copying import container_of
from legato.video.media.decoding import load_av
from legato.video.media.encoders import add_video_stream, encodable_size, encoder_options, find_encoder, open_encoder
from legato.video.media.planes import Planes, depth_of, load_opencv, plane_views
from legato.video.media.reader import VideoFrame, VideoReader, keep_within_depth

Container: TypeAlias = Literal["y4m", "mpegts"]
CONTAINERS: tuple[Container, ...] = get_args(Container)
_KEY_FRAME_S = 2.0  # who joins a stream waits at most so long
_URL_MUXERS = {"rtmp": "flv", "rtmps": "flv", "rtsp": "rtsp"}


@dataclass(frozen=True, slots=True)
class Target:
    """Where pictures go."""

    name: str
    url: str
    muxer: str
    codec: str
    path: Path | None = None  # of a file, which appears when it is complete
    window: bool = False

    @property
    def streamed(self) -> bool:
        """Whether it is reached by a network, and may come back."""
        return self.path is None and not self.window and self.url != "pipe:1"

    @classmethod
    def of(cls, destination: str, container: str | None) -> Target:
        """Tell what kind of place a destination is, and how pictures are written there."""
        muxer, codec = ("mpegts", "libx264") if container == "mpegts" else ("yuv4mpegpipe", "rawvideo")
        if destination == "window":
            return cls("window", "", "", "", window=True)
        if destination == "-":
            if sys.stdout is not None and sys.stdout.isatty():
                raise ArgumentError("destination: expected standard output to be a pipe or a file, not a terminal")
            return cls("standard output", "pipe:1", muxer, codec)
        if container is not None:
            raise ArgumentError('container: expected together with destination "-"; a name or URL says its own')
        if URL.match(destination):
            muxer = _URL_MUXERS.get(destination.partition(":")[0].lower(), "mpegts")
            return cls(without_password(destination), destination, muxer, "libx264")
        path = Path(destination)
        if path.suffix.lower() == ".y4m":
            return cls(destination, "", "yuv4mpegpipe", "rawvideo", path)
        muxer, codec = container_of(path)
        if muxer == "gif":
            raise ArgumentError("destination: a GIF is for `legato stabilize`; a live video may have no end")
        return cls(destination, "", muxer, codec, path)


class Sink(Protocol):
    """What takes the steady pictures."""

    def write(self, frame: VideoFrame) -> list[int]:
        """Take the next picture; return the numbers of those that have left the program."""

    def finish(self) -> None:
        """Complete what was written."""

    def discard(self) -> None:
        """Remove what was written, if it has not been completed; another thread may be writing still."""

    def close(self) -> None:
        """Give everything back."""


class LiveEncoder:
    """A file, a stream or a pipe."""

    def __init__(
        self,
        target: Target,
        reader: VideoReader,
        rate: float,
        sound: SoundQueue,
        *,
        codec: str | None,
        crf: float,
        preset: str,
    ) -> None:
        self._av = load_av()
        self._name = target.name
        raw = target.codec == "rawvideo"
        if raw and codec is not None:
            raise ArgumentError("codec: expected none for y4m, which is not coded")
        name = codec or target.codec
        encoder = find_encoder(name)
        self._planar = reader.pixel_format
        pixel_format = _output_format(self._planar, None if raw else [f.name for f in encoder.video_formats or ()])
        # FFmpeg would take gray for full range whatever its tag says, and scale it.
        self._colored = self._planar.startswith("gray") and pixel_format.startswith("yuv420p")
        if self._colored:
            self._planar = pixel_format
        self.size = encodable_size((reader.width, reader.height), pixel_format)
        # y4m and AVI count frames; all others carry times.
        counted = raw or target.muxer == "avi"
        steady_rate = max(Fraction(rate).limit_denominator(1001), Fraction(1, 1001))
        self._clock = 1 / steady_rate if counted else reader.time_base
        self._counted, self._count = counted, 0
        self._numbers: dict[int, tuple[int, int]] = {}  # of the pictures in the encoder, and durations, by timestamp
        self._shift: int | None = None
        self._rate = rate
        self._began_s = self._end_s = Fraction(0)
        self._pending = None if target.path is None else PendingFile(target.path)
        self._container: Any = None
        try:
            url = target.url if self._pending is None else str(self._pending.path)
            # One without the other is not to be held back for long.
            together = {} if sound.stream is None else {"max_interleave_delta": "200000"}
            self._container = self._av.open(url, "w", format=target.muxer, container_options=together)
            self._stream = add_video_stream(self._container, name, steady_rate, f"{target.muxer} streams")
            context = self._stream.codec_context
            context.width, context.height = self.size
            context.pix_fmt = pixel_format
            context.time_base = self._stream.time_base = self._clock
            context.sample_aspect_ratio = reader.sample_aspect_ratio
            context.color_range, context.color_primaries = reader.color.range, reader.color.primaries
            context.color_trc, context.colorspace = reader.color.transfer, reader.color.matrix
            if not raw:
                context.gop_size = max(1, round(_KEY_FRAME_S * rate))
                context.options = _live_options(name, crf, preset, target.muxer)
            open_encoder(context)
            self.sound = LiveSound(self._container, target.muxer, sound)
            with contextlib.nullcontext() if self._pending else _ended_at_once():
                self._container.start_encoding()
        except BaseException as error:
            self.discard()
            self.close()
            if isinstance(error, ArgumentError) or not isinstance(error, (self._av.FFmpegError, ValueError, OSError)):
                raise
            raise OutputError(f"{self._name}: cannot be written ({reason(error)})") from error

    def write(self, frame: VideoFrame) -> list[int]:
        """Take the next picture; give the times of those that have left."""
        planes = _colored(frame.planes, depth_of(self._planar)) if self._colored else frame.planes
        picture = _filled(self._av.VideoFrame(*self.size, self._planar), planes)
        if self._counted:
            picture.pts = self._count
        else:
            self._shift = frame.pts if self._shift is None else self._shift
            picture.pts = frame.pts - self._shift
        picture.time_base = self._clock
        self._numbers[picture.pts] = self._count, 1 if self._counted else frame.duration
        self._count += 1
        numbers = self._encode(picture)
        if self._shift is not None:
            step = frame.duration or round(1 / (self._rate * frame.time_base))
            self._began_s, self._end_s = self._shift * frame.time_base, (frame.pts + step) * frame.time_base
            self._attempt(lambda: self.sound.write(frame.pts * frame.time_base, self._began_s))
        return numbers

    def _attempt(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise OutputError(f"{self._name}: cannot be written ({reason(error)})") from error

    def _encode(self, picture: Any) -> list[int]:
        try:
            packets = self._stream.encode(picture)
            numbers = []
            for packet in packets:
                if packet.pts in self._numbers:
                    number, duration = self._numbers.pop(packet.pts)
                    numbers.append(number)
                    if duration > 0 and packet.time_base == self._clock:
                        packet.duration = duration
                self._container.mux(packet)
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise OutputError(f"{self._name}: cannot be written ({reason(error)})") from error
        return numbers

    def finish(self) -> None:
        """Write what is left, and put a file under its name."""
        if self._count == 0:
            raise OutputError(f"{self._name}: no picture was written")
        self._encode(None)
        self._attempt(lambda: self.sound.finish(self._end_s, self._began_s))
        self._attempt(self._container.close)
        if self._pending is not None:
            self._pending.commit()

    def discard(self) -> None:
        """Let go of a file that is not to stay."""
        if self._pending is not None:
            self._pending.discard()

    def close(self) -> None:
        """Let go of everything, whatever the state."""
        if self._container is not None:
            with contextlib.suppress(Exception):
                self._container.close()


@contextlib.contextmanager
def _ended_at_once() -> Iterator[None]:
    """Let SIGINT and SIGTERM end the process: while PyAV opens an output, which may wait for ever, no Python runs."""
    ours: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        ours = {n: h for n in (signal.SIGINT, signal.SIGTERM) if callable(h := signal.getsignal(n))}
    for number in ours:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)


def _filled(picture: Any, planes: Planes) -> Any:
    """Copy planes into a frame of FFmpeg's, without the odd column or row that it may not have."""
    given = [p for p in (planes.y, planes.u, planes.v) if p is not None]
    views = plane_views(picture, writable=True)
    for view, plane in zip(views, given, strict=True):
        view[...] = plane[: view.shape[0], : view.shape[1]]
    keep_within_depth(views, planes.bit_depth)
    return picture


def _output_format(planar: str, taken: list[str] | None) -> str:
    """Pixel format to write: y4m (None) has four of 8 bits; players of coded streams want 4:2:0."""
    if taken is None:
        return re.sub(r"(?<=[ypv])(9|1[0246])le$", "", planar)
    depth = depth_of(planar)
    for name in ("yuv420p" if depth == 8 else f"yuv420p{depth}le", "yuv420p10le" if depth > 8 else "", "yuv420p"):
        if not taken or name in taken:
            return name
    return taken[0]


def _colored(gray: Planes, depth: int) -> Planes:
    """Give a gray picture chroma without color, in 4:2:0."""
    y: NDArray[Any] = gray.y
    if depth != gray.bit_depth:
        more = depth - gray.bit_depth
        y = (y << more if more > 0 else y >> -more).astype(np.uint8 if depth == 8 else np.uint16)
    chroma = np.full(((y.shape[0] + 1) // 2, (y.shape[1] + 1) // 2), 1 << (depth - 1), y.dtype)
    return Planes(y, chroma, chroma, depth, gray.chroma_location)


def _live_options(codec: str, crf: float, preset: str, muxer: str) -> dict[str, str]:
    options = encoder_options(codec, crf, preset, muxer)
    if codec in ("libx264", "libx265"):
        options["tune"] = "zerolatency"
    elif codec in ("libvpx", "libvpx-vp9"):
        options.update(deadline="realtime", **{"cpu-used": "8", "lag-in-frames": "0"})
    return options


class WindowSink:
    """A window on the screen; q, Escape or closing it ends the run."""

    _TITLE = "legato live"

    def __init__(self, reader: VideoReader) -> None:
        self._cv2 = load_opencv()
        self._av = load_av()
        self._reader = reader
        self._count = 0
        self.closed = False
        self._cv2.namedWindow(self._TITLE, self._cv2.WINDOW_NORMAL | self._cv2.WINDOW_GUI_NORMAL)  # no tools of Qt's
        self._cv2.resizeWindow(self._TITLE, reader.width, reader.height)

    @staticmethod
    def check() -> None:
        """Raise where no window can be opened: OpenCV would end the process, or fail at the first picture."""
        cv2 = load_opencv()
        if re.search(r"GUI:\s+NONE", cv2.getBuildInformation()):
            raise DependencyError(
                "destination: this OpenCV was built without windows; install opencv-python in place of "
                "opencv-python-headless, or pipe to a player: --output - | ffplay -"
            )
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise OutputError("window: there is no display (DISPLAY and WAYLAND_DISPLAY are not set)")

    def write(self, frame: VideoFrame) -> list[int]:
        """Take the next picture; give the times of those that have left."""
        picture = self._av.VideoFrame(self._reader.width, self._reader.height, self._reader.pixel_format)
        _filled(picture, frame.planes).color_range = self._reader.color.range
        self._cv2.imshow(self._TITLE, picture.to_ndarray(format="bgr24"))
        self.turn()
        self._count += 1
        return [self._count - 1]

    def turn(self) -> None:
        """Let the window react."""
        if (
            self._cv2.waitKey(1) & 0xFF in (ord("q"), 27)
            or self._cv2.getWindowProperty(self._TITLE, self._cv2.WND_PROP_VISIBLE) < 1
        ):
            self.closed = True

    def finish(self) -> None:
        """Write what is left, and put a file under its name."""
        self.close()

    def discard(self) -> None:
        """Let go of a file that is not to stay."""

    def close(self) -> None:
        """Let go of everything, whatever the state."""
        with contextlib.suppress(Exception):
            self._cv2.destroyAllWindows()
