"""Where live pictures come from: cameras, streams, pipes and files, read beside the computing and opened again."""

from __future__ import annotations

import itertools
import math
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

from legato._files import PathLike, reason
from legato.errors import ArgumentError, InputError
from legato.video.live.queue import READ_QUEUE, LiveQueue
from legato.video.live.report import without_password
from legato.video.live.sound import SoundQueue
from legato.video.media.decoding import TRUST, Decoder, media_only
from legato.video.media.reader import VideoFrame, VideoReader

_QUEUED_S = 1.0  # of pictures between reading and computing, where the source cannot wait
_QUEUED_BYTES = 256 << 20
RETRY_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
_CLOCK_JUMP_S = 10.0
SLOWEST, FASTEST, FASTEST_BELIEVED = 0.001, 1000.0, 240.0  # frames a second
_MOST_AHEAD = 4
_MOST_HEARD = 4096  # packets of sound before the next picture
_PROBE = {"analyzeduration": "500000", "probesize": "1000000"}  # the start of a stream is not held back for long
URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")

# Protocols of FFmpeg that reach no file of this computer. A playlist from a network may name nothing else.
_NETWORK = (
    *("crypto", "data", "ffrtmpcrypt", "ffrtmphttp", "ftp", "gopher", "gophers", "http", "httpproxy", "https"),
    *("icecast", "mmsh", "mmst", "rist", "rtmp", "rtmpe", "rtmps", "rtmpt", "rtmpte", "rtmpts", "rtp", "rtsp", "rtsps"),
    *("sctp", "sftp", "srt", "srtp", "tcp", "tls", "udp", "udplite", "zmq"),
)


@dataclass(frozen=True, slots=True)
class Source:
    """Where pictures come from."""

    name: str  # for messages: without a password
    url: str
    live: bool  # comes at its own pace and may be opened again
    path: Path | None = None  # of a plain file
    fps: float | None = None  # in place of what it says
    format: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    allow_playlists: bool = False  # of a plain file
    sound: bool = False  # whether it is read

    @classmethod
    def of(
        cls,
        source: PathLike | int,
        fps: float | None,
        allow_playlists: bool = False,
        *,
        camera_size: tuple[int, int] | None = None,
        options: Mapping[str, str] | None = None,
        sound: bool = False,
    ) -> Source:
        """Tell what kind of source is named, and how it is opened."""
        text = str(source) if isinstance(source, int) else os.fspath(source)
        given = dict(options or {})
        if text.isdecimal():
            return cls._camera(int(text), fps, camera_size, given)
        if camera_size is not None:
            raise ArgumentError("camera_size: expected together with the number of a camera")
        told = cls._of_text(text, fps, allow_playlists)
        if given and told.path is not None:
            raise ArgumentError("input_options: expected together with a camera, a stream or a pipe, not with a file")
        return replace(told, options={**told.options, **given}, sound=sound)

    @classmethod
    def _of_text(cls, text: str, fps: float | None, allow_playlists: bool) -> Source:
        options = dict(_PROBE)
        if fps is not None:
            options["framerate"] = f"{fps:g}"  # heeded where the pictures have no times
        scheme = URL.match(text)
        if scheme and scheme[1].lower() in _NETWORK:
            options["protocol_whitelist"] = ",".join(_NETWORK)
        elif not allow_playlists:
            options |= media_only()
        if text == "-":
            return cls("standard input", "pipe:0", False, fps=fps, options=options)
        if scheme:
            if text.startswith("rtsp"):
                options["rtsp_transport"] = "tcp"  # over UDP pictures break, and firewalls forbid it
            return cls(without_password(text), text, True, fps=fps, options=options)
        path = Path(text)
        if path.exists() and not path.is_file() and not path.is_dir():
            return cls(text, str(path.absolute()), False, fps=fps, options=options)  # a named pipe
        return cls(text, text, False, path=path, fps=fps, allow_playlists=allow_playlists)

    @classmethod
    def _camera(cls, number: int, fps: float | None, size: tuple[int, int] | None, given: dict[str, str]) -> Source:
        options = {} if fps is None else {"framerate": f"{fps:g}"}
        if size is not None:
            options["video_size"] = f"{size[0]}x{size[1]}"
        options |= given
        if sys.platform == "darwin":
            return cls(f"camera {number}", str(number), True, None, fps, "avfoundation", options)
        if not sys.platform.startswith("linux"):
            raise ArgumentError("source: cameras by number are known on Linux and macOS; give a URL here")
        device = f"/dev/video{number}"
        if not Path(device).exists():
            raise InputError(f"camera {number}: there is no {device}")
        return cls(f"camera {number}", device, True, None, fps, "v4l2", options)


class _LiveDecoder(Decoder):
    """A decoder that holds nothing back, and says when each picture came in.

    Attributes
    ----------
    arrived_s, busy_s : float
        When the last packet was read, and how long decoding took.
    lost : str
        Why the source broke off.
    sound : av.audio.stream.AudioStream or None
        What is heard, if that is asked for and there is such.
    heard : deque of av.Packet
        Its packets that were read and not taken yet.
    """

    def __init__(self, source: Source, timeout_s: float) -> None:
        self._source, self._timeout_s = source, timeout_s
        self.arrived_s = time.monotonic()
        self.busy_s = 0.0
        self.lost = ""
        self.sound: Any = None
        self.heard: deque[Any] = deque(maxlen=_MOST_HEARD)
        super().__init__(source.name, allow_playlists=source.allow_playlists)
        if source.sound:
            self.sound = next((s for s in self.container.streams.audio if s.codec_context is not None), None)
        if source.path is None:
            self.stream.thread_type = "SLICE"  # threads that take a frame each hold as many back

    def _opened(self) -> Any:
        source = self._source
        if source.path is not None:
            return super()._opened()
        self.path = cast(Path, source.name)  # a Path would take the slashes of a URL for its own
        if not source.live and source.format is None:
            self.no_frame += " (an MP4 with its index at the end cannot come through a pipe: name the file)"
        timeout = (self._timeout_s, self._timeout_s) if self._timeout_s else None
        try:
            return self.av.open(
                source.url,
                format=source.format,
                options=source.options,
                timeout=timeout,
                metadata_errors="replace",
            )
        except (self.av.FFmpegError, ValueError, OSError) as error:
            raise InputError(f"{source.name}: cannot be opened ({self._why(error)})") from error

    def _wanted(self) -> list[Any]:
        return [self.stream] if self.sound is None else [self.stream, self.sound]

    def _put_aside(self, packet: Any) -> None:
        if packet.size and packet.pts is not None:
            self.heard.append(packet)

    def _why(self, error: BaseException) -> str:
        if isinstance(error, self.av.ExitError):  # FFmpeg was told to give up
            return f"it gave nothing for {self._timeout_s:g} s"
        if isinstance(error, self.av.ArgumentError) and "format_whitelist" in self._source.options:
            return f"{reason(error)}; a list of other files is not read ({TRUST})"
        return reason(error)

    def _broke_off(self, error: Exception) -> bool:
        if self._source.path is not None or isinstance(error, self.av.InvalidDataError):
            return super()._broke_off(error)
        self.lost = self._why(error)
        return True

    def _decode_packet(self, packet: Any) -> list[Any]:
        began_s = time.monotonic()
        if packet is not None:
            self.arrived_s = began_s
        frames = super()._decode_packet(packet)
        self.busy_s += time.monotonic() - began_s
        return frames


class _LiveReader(VideoReader):
    """A reader that repairs clocks that jump, and takes pictures of another size as they come.

    Attributes
    ----------
    decoder : _LiveDecoder
    live : bool
        Whether the source has no end of its own.
    """

    decoder: _LiveDecoder

    def __init__(self, source: Source, timeout_s: float) -> None:
        self._source = source
        decoder = _LiveDecoder(source, timeout_s)
        self._before_s = decoder.arrived_s
        self._shifts = 0, 0  # of the timestamps, now and before
        self._latest: int | None = None
        self._ahead: deque[Any] = deque()  # frames that were needed to time the first
        super().__init__(decoder)

    def _describe(self, first: Any) -> None:
        super()._describe(first)
        # A stream that knows its length is a file, wherever it lies.
        self.live = self._source.live and self._container.duration is None
        if self._source.fps is not None:
            self.frame_rate = Fraction(self._source.fps).limit_denominator(1001)

    def _next(self) -> Any:
        frame = self._ahead.popleft() if self._ahead else super()._next()
        if frame is None or self._source.path is not None:
            return frame
        step = max(1, round(1 / (self.frame_rate * self.time_base)))
        if frame.pts is None and self._latest is None:
            # RTSP's first packet has no time yet; the second may have that of the beginning.
            while len(self._ahead) < _MOST_AHEAD and (following := super()._next()) is not None:
                self._ahead.append(following)
                if following.pts is not None:
                    frame.pts = int(following.pts) - len(self._ahead) * step
                    break
        if frame.pts is None:
            return frame
        frame.pts = self._latest = self._placed(int(frame.pts), step)
        self._before_s = self.decoder.arrived_s
        return frame

    def _resize(self, frame: Any, _index: int) -> None:
        self._stored_size = self.width, self.height = int(frame.width), int(frame.height)
        if self._orientation.transposed:
            self.width, self.height = self.height, self.width

    @property
    def shift(self) -> int:
        """By how much the timestamps are moved now."""
        return self._shifts[0]

    def _placed(self, pts: int, step: int) -> int:
        """Give a timestamp on a clock that never goes back, whatever the sender's does."""
        if self._latest is None:
            return pts
        # What does not come at its own pace may well have a pause.
        most_s = _CLOCK_JUMP_S + self.decoder.arrived_s - self._before_s if self.live else math.inf
        shifts = [s for s in self._shifts if 0 < (pts + s - self._latest) * self.time_base < most_s]
        if shifts:  # a clock that was wrong for a moment counts on where it was before
            shift = min(shifts)
        else:  # the sender began to count anew: go on one frame after the last
            shift = self._latest + step - pts
            self.repaired_timestamps += 1
        if shift != self._shifts[0]:
            self._shifts = shift, self._shifts[0]
        return pts + shift


@dataclass(frozen=True, slots=True, eq=False)
class _Arrived:
    """A picture on its way through the line."""

    frame: VideoFrame
    at_s: float  # when its packet was read
    connection: int  # each begins a scene


class Reading:
    """The thread that reads: opens the source, opens it again, decodes, and puts pictures into the queue."""

    def __init__(self, source: Source, stall_s: float, reconnect_s: float, duration_s: float | None) -> None:
        self.source = source
        self.queue: LiveQueue[_Arrived] = LiveQueue(READ_QUEUE)
        self.sound = SoundQueue()
        self.first: _LiveReader | None = None
        self.opened = threading.Event()  # or failed to
        self.error: BaseException | None = None
        self.ended, self.note = "", ""
        self.frames = self.reconnects = 0
        self.faults = {"skipped_packets": 0, "damaged_frames": 0, "repaired_timestamps": 0}
        self.busy_s = 0.0
        self.reopening = False  # the source is lost; the thread keeps the time itself
        self._time_base = Fraction(1)
        self._first_pts: int | None = None
        self._stall_s, self._reconnect_s, self._duration_s = stall_s, reconnect_s, duration_s
        self._stop = threading.Event()
        self._last_s = 0.0  # when the last picture came in
        self._last_pts: int | None = None
        # A thread that hangs in a system call must not keep the program from ending.
        self.thread = threading.Thread(target=self._run, name="legato-read", daemon=True)

    def stop(self, ended: str, note: str = "") -> None:
        """End the reading from outside, whatever the thread is waiting for."""
        if not self.ended:
            self.ended, self.note = ended, note
        self._stop.set()
        self.queue.close()

    @property
    def stopped(self) -> bool:
        """Whether the end came from outside."""
        return self._stop.is_set()

    def _run(self) -> None:
        try:
            reader = _LiveReader(self.source, self._stall_s)
            self.first, self._time_base = reader, reader.time_base
            self.sound.stream = reader.decoder.sound
            picture_bytes = reader.width * reader.height * (3 if reader.pixel_format.endswith("p") else 6)
            rate = max(float(reader.frame_rate), 1.0)
            if self.source.live:
                self.queue.capacity = max(4, min(round(_QUEUED_S * rate), _QUEUED_BYTES // picture_bytes))
            self.opened.set()
            again: _LiveReader | None = reader
            while again is not None:
                with again as reader:
                    try:
                        lost = self._read(reader)
                    finally:
                        for name in self.faults:
                            self.faults[name] += getattr(reader, name)
                again = self._open_again(reader) if lost else None
        except BaseException as error:
            self.error = error
            self.ended = self.ended or "failed"
        finally:
            self.ended = self.ended or "input"
            self.queue.close()
            self.opened.set()

    def _read(self, reader: _LiveReader) -> bool:
        """Hand every picture on; True if the source broke off and may come back."""
        patience_s = 1 / max(float(reader.frame_rate), 1.0) if reader.live else None
        shift: int | None = None if reader is not self.first else 0
        for frame in reader:
            self.busy_s += reader.decoder.busy_s
            reader.decoder.busy_s = 0.0
            pts = frame.pts
            if reader.time_base != self._time_base:
                pts = round(pts * reader.time_base / self._time_base)
            if shift is None:
                # As long after the last picture as the clock on the wall says.
                away = max(1, round((reader.decoder.arrived_s - self._last_s) / self._time_base))
                shift = (self._last_pts or 0) + away - pts
            pts += shift
            self._hear(reader, shift)
            if self._first_pts is None:
                self._first_pts = pts
            if self._duration_s is not None and float((pts - self._first_pts) * self._time_base) >= self._duration_s:
                self.ended = self.ended or "duration"
                return False
            placed = replace(frame, pts=pts, time_base=self._time_base, index=self.frames)
            self._last_pts, self._last_s = pts, reader.decoder.arrived_s
            if not self.queue.put(_Arrived(placed, reader.decoder.arrived_s, self.reconnects), patience_s):
                return False
            self.frames += 1
        self._hear(reader, shift)
        if reader.live and (reader.decoder.lost or self._reconnect_s > 0):
            self.note = f"{self.source.name}: {reader.decoder.lost or 'the stream ended'}"
            return True
        if reader.decoder.lost:
            self.ended, self.note = self.ended or "lost", f"{self.source.name}: {reader.decoder.lost}"
        return False

    def _hear(self, reader: _LiveReader, shift: int | None) -> None:
        """Hand on the sound that was read, on the clock of the pictures."""
        moved_s = reader.shift * reader.time_base + (shift or 0) * self._time_base
        while reader.decoder.heard:
            packet = reader.decoder.heard.popleft()
            self.sound.put(packet, packet.pts * Fraction(packet.time_base) + moved_s)

    def _open_again(self, before: _LiveReader) -> _LiveReader | None:
        self.reopening = True
        began_s = time.monotonic()
        for delay_s in itertools.chain(RETRY_S, itertools.repeat(RETRY_S[-1])):
            if time.monotonic() - began_s + delay_s > self._reconnect_s or self._stop.wait(delay_s):
                break
            try:
                reader = _LiveReader(self.source, self._stall_s)
            except InputError as error:
                self.note = str(error)
                continue
            if before.pixel_format != reader.pixel_format:
                reader.close()
                raise InputError(f"{self.source.name}: came back as {reader.pixel_format}, was {before.pixel_format}")
            self.reconnects += 1
            self.reopening = False
            return reader
        self.ended = self.ended or "lost"
        return None


def believed_rate(reader: _LiveReader) -> float:
    """Frames a second; what streams of no fixed rate say is sometimes the rate of their clock."""
    rate = float(reader.frame_rate)
    if reader._container.format.name == "yuv4mpegpipe":
        return rate  # counts frames
    slowest = 1.0 if reader.live else SLOWEST
    return rate if slowest <= rate <= FASTEST_BELIEVED else 30.0
