"""Live video: from a camera, a stream, a pipe or a file, steadied on the way, to a window, a stream, a pipe or a file.

Reading, computing and writing run on threads of their own, with bounded queues between them. Who gives way when one
of them is too slow is decided in one place, the queue between reading and computing:

- **A camera or a network stream** cannot wait. When a second of pictures is queued and none was taken for the time of
  a frame, the oldest decoded picture is dropped and counted; the pictures that remain keep their timestamps. Packets
  are never dropped before they are decoded, since that would spoil the pictures that refer to them.
- **A file or a pipe** waits: nothing is dropped, and a slow reader of our output slows the whole line down.

A camera or a network stream that ends, breaks or gives nothing for `stall_s` is opened again, first at once, then
after a half, one, two, four, then every eight seconds; it continues as a new scene, with timestamps that count the time
in between. A pipe or a file that gives nothing for so long ends the run. Either way what was written is completed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import re
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar, cast, get_args

import numpy as np
from numpy.typing import NDArray

from legato import camera
from legato._files import PathLike, PendingFile, check_destinations, checked_path, reason
from legato._printing import printable
from legato._scalars import as_choice, as_flag, as_number, shown
from legato.errors import ArgumentError, DependencyError, InputError, OutputError
from legato.video import files
from legato.video.analysis import usable_area
from legato.video.decoding import TRUST, Decoder, load_av, media_only
from legato.video.files import (
    VideoFrame,
    VideoReader,
    check_encoder_preset,
    encodable_size,
)
from legato.video.live import Stabilizer
from legato.video.planes import Planes, load_opencv
from legato.video.planning import believable_rate
from legato.video.presets import PresetName, preset_named
from legato.video.report import counted
from legato.video.stabilizing import SideFiles
from legato.video.subjects import Box
from legato.video.warping import Interpolation

__all__ = ["LatencyHistogram", "LiveReport", "stabilize_live"]

Container: TypeAlias = Literal["y4m", "mpegts"]
CONTAINERS: tuple[Container, ...] = get_args(Container)

_QUEUED_S = 1.0  # of pictures between reading and computing, where the source cannot wait
_QUEUED_BYTES = 256 << 20
_READ_QUEUE = _WRITE_QUEUE = 4
_RETRY_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
_CLOCK_JUMP_S = 10.0
_SLOWEST, _FASTEST, _FASTEST_BELIEVED = 0.001, 1000.0, 240.0  # frames a second
_MOST_AHEAD = 4
_GRACE_S = 5.0  # for what is under way when the run has to end
_SLACK_S = 2.0  # in which FFmpeg may notice by itself that a stream stalls
_TICK_S = 0.1
_PROBE = {"analyzeduration": "500000", "probesize": "1000000"}  # the start of a stream is not held back for long
_KEY_FRAME_S = 2.0  # who joins a stream waits at most so long

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
# Protocols of FFmpeg that reach no file of this computer. A playlist from a network may name nothing else.
_NETWORK = (
    *("crypto", "data", "ffrtmpcrypt", "ffrtmphttp", "ftp", "gopher", "gophers", "http", "httpproxy", "https"),
    *("icecast", "mmsh", "mmst", "rist", "rtmp", "rtmpe", "rtmps", "rtmpt", "rtmpte", "rtmpts", "rtp", "rtsp", "rtsps"),
    *("sctp", "sftp", "srt", "srtp", "tcp", "tls", "udp", "udplite", "zmq"),
)
_URL_MUXERS = {"rtmp": "flv", "rtmps": "flv", "rtsp": "rtsp"}

Item = TypeVar("Item")


class LatencyHistogram:
    """Times in bins of one percent, from 10 microseconds to 1000 seconds: bounded, however many are recorded."""

    _LEAST, _RATIO = 1e-5, 1.01

    def __init__(self) -> None:
        bins = math.ceil(math.log(1e8) / math.log(self._RATIO))
        self._counts = np.zeros(bins + 1, np.int64)
        self.max_s = 0.0

    @property
    def count(self) -> int:
        """Times recorded."""
        return int(self._counts.sum())

    def record(self, seconds: float) -> None:
        """Count a time."""
        at = math.log(max(seconds, self._LEAST) / self._LEAST) / math.log(self._RATIO)
        self._counts[min(math.ceil(at), len(self._counts) - 1)] += 1
        self.max_s = max(self.max_s, seconds)

    def percentile_s(self, q: float) -> float:
        """Give the time that `q` percent do not exceed, to one percent; NaN before anything is recorded."""
        total = self.count
        if total == 0:
            return math.nan
        at = int(np.searchsorted(np.cumsum(self._counts), max(1, math.ceil(q / 100 * total))))
        return min(self._LEAST * self._RATIO**at, self.max_s)

    def coarse(self) -> list[tuple[float, int]]:
        """Give (upper edge in ms, count) in bins of a factor of two, without empty ones at the ends."""
        edges_ms = 1e3 * self._LEAST * self._RATIO ** np.arange(len(self._counts))
        powers = np.ceil(np.log2(edges_ms)).astype(int)
        sums = {int(p): int(self._counts[powers == p].sum()) for p in range(powers[0], powers[-1] + 1)}
        used = [p for p, count in sums.items() if count]
        return [(2.0**p, sums[p]) for p in range(used[0], used[-1] + 1)] if used else []


@dataclass(frozen=True, slots=True)
class LiveReport:
    """What a live run did.

    Attributes
    ----------
    source, destination : str
        As named by the caller, without passwords.
    ended : {"input", "duration", "window", "interrupted", "stalled", "lost", "failed"}
        Why it ended: the input was over, the duration asked for was reached, the window was closed, Ctrl-C or SIGTERM;
        or the input gave nothing for too long, or broke off and did not come back; or an error, which is also raised.
        But for an error of the output, what was written is complete.
    note : str
        What went wrong, in one line; empty where nothing did.
    size : (int, int)
        Of the pictures written.
    frame_rate : float
        Frames a second of the pictures, to which the weights were adapted.
    latency_frames : int
        The delay asked for.
    frames_read, frames_dropped, frames_written : int
        Pictures decoded and taken on, dropped since computing could not keep up, and written.
    skipped_packets, damaged_frames, repaired_timestamps : int
        As counted by `VideoReader`, over all connections.
    failed, duplicates, cuts : int
        As counted by `Stabilizer`.
    reconnects : int
        How often the source was opened again.
    latency_ms : dict
        Time from when the packet of frame t + latency_frames was read until frame t was written: what comes on top of
        the delay asked for. "p50", "p90", "p99", "max", and "histogram" as (upper edge, count).
    delay_ms : float
        The delay asked for.
    busy : dict
        Share of the wall time that each thread worked: "read" (decoding), "compute", "write".
    seconds : float
        Wall time from the first picture to the end.
    """

    source: str
    destination: str
    ended: str
    note: str
    size: tuple[int, int]
    frame_rate: float
    latency_frames: int
    frames_read: int
    frames_dropped: int
    frames_written: int
    skipped_packets: int
    damaged_frames: int
    repaired_timestamps: int
    failed: int
    duplicates: int
    cuts: int
    reconnects: int
    latency_ms: dict[str, Any]
    delay_ms: float
    busy: dict[str, float]
    seconds: float

    def to_json(self) -> str:
        """Give the report as JSON text; what is not known becomes null."""

        def finite(value: Any) -> Any:
            return None if isinstance(value, float) and not math.isfinite(value) else value

        content = {k: {n: finite(x) for n, x in v.items()} if isinstance(v, dict) else v for k, v in self._items()}
        return json.dumps(content, indent=2, allow_nan=False) + "\n"

    def _items(self) -> list[tuple[str, Any]]:
        return list(asdict(self).items())

    def summary(self) -> str:
        """Give the run in two lines."""
        lost = f", {self.frames_dropped} dropped" if self.frames_dropped else ""
        if self.skipped_packets or self.damaged_frames:
            skipped, damaged = counted(self.skipped_packets, "packet"), counted(self.damaged_frames, "frame")
            lost += f", {skipped} skipped, {damaged} damaged"
        again = f", reconnected {self.reconnects} times" if self.reconnects else ""
        rate = self.frames_written / self.seconds if self.seconds > 0 else 0.0
        late = self.latency_ms
        beyond = "too short to say what came on top of it"  # all pictures were released by the end of the stream
        if math.isfinite(late["p50"]):
            beyond = f"beyond it p50 {late['p50']:.1f} ms, p99 {late['p99']:.1f} ms, most {late['max']:.1f} ms"
        return (
            f"{printable(self.destination)}: {counted(self.frames_written, 'frame')} in {self.seconds:.1f} s "
            f"({rate:.1f} fps){lost}{again}; ended: {self.ended}\n"
            f"  delay {counted(self.latency_frames, 'frame')} ({self.delay_ms:.0f} ms), {beyond}"
        )


def stabilize_live(
    source: PathLike | int,
    destination: PathLike,
    *,
    latency_frames: int = 10,
    preset: PresetName = "standard",
    options: camera.PathOptions | None = None,
    crop: float | None = None,
    mask: PathLike | NDArray[Any] | None = None,
    region: Box | None = None,
    fps: float | None = None,
    interpolation: Interpolation = "bilinear",
    container: Container | None = None,
    codec: str | None = None,
    crf: float = 20,
    encoder_preset: str = "veryfast",
    overwrite: bool = True,
    duration_s: float | None = None,
    stall_s: float = 10.0,
    reconnect_s: float = 60.0,
    report: PathLike | None = None,
    allow_playlists: bool = False,
    tell: Callable[[LiveReport], None] | None = None,
    progress: bool = False,
    threads: int = 1,
) -> LiveReport:
    """Steady a live video with a fixed delay.

    Only the picture is carried: a live output has no sound.

    Parameters
    ----------
    source : int, str or path
        Number of a camera, URL (RTSP, RTMP, TCP, UDP, HTTP, ...), "-" for standard input (anything that FFmpeg
        recognizes, such as MPEG-TS or y4m), or a file.
    destination : str or path
        File (.mp4 .m4v .mov .mkv .webm .avi .ts .y4m), URL, "-" for standard output, or "window".
    latency_frames : int
        See `Stabilizer`.
    preset : {"standard", "gentle", "smooth", "tripod"}
        As of `stabilize`, with 0.06 more crop. There is nothing to "follow" in a live video.
    options, crop : optional
        Path options in place of the preset's, and their crop.
    mask, region : optional
        Where the scene may be followed, as for `legato.video.analyze`.
    fps : float, optional
        Frames a second, where the source does not say or is wrong; asked of a camera.
    interpolation : {"bilinear", "bicubic", "lanczos"}
    container : {"y4m", "mpegts"}, optional
        Of standard output; y4m by default: no coding at all, and one constant frame rate.
    codec, crf, encoder_preset
        As `stabilize` has them; x264 is set to hold nothing back.
    overwrite : bool
        Whether an existing file may be replaced.
    duration_s : float, optional
        Stop when so many seconds of video are read.
    stall_s : float
        Seconds without a picture after which the source counts as lost; 0 waits for ever.
    reconnect_s : float
        Seconds during which a camera or a network stream is opened again; 0: not at all.
    report : path, optional
        Also write the report as JSON, whatever the end; not where no picture came or the output could not be opened.
    allow_playlists : bool
        Whether a file, a pipe, or what a URL of no network names may be a list of files, which are then read. What a
        network gives may be one (HLS), but may only name what lies in a network, whatever is said here.
    tell : callable, optional
        Called with the report where it would be written: also before an error is raised.
    progress : bool
        A line a second on stderr.
    threads : int
        Threads for the warp.

    Returns
    -------
    LiveReport
        Also after Ctrl-C, which ends the run in good order and is reported, not raised.

    Raises
    ------
    InputError
        If the source cannot be opened or changes its size in mid-stream.
    OutputError
        If the output cannot be written, such as a pipe that its reader closed.
    SideFileError
        If the report cannot be written, and the output is complete.
    ArgumentError
        If an argument is not as described.
    DependencyError
        If a package is missing; for "window" OpenCV with its windows.
    """
    chosen = preset_named(preset)
    if chosen.center > 0:
        raise ArgumentError(f"preset: {preset!r} follows a subject, and in a live video there is none")
    check_encoder_preset("encoder_preset", encoder_preset)
    if options is not None and not isinstance(options, camera.PathOptions):
        raise ArgumentError(f"options: expected a legato.camera.PathOptions, got {shown(options)}")
    if options is None:
        options = chosen.live_options()
    if crop is not None:
        options = replace(options, crop=crop)
    if fps is not None:
        fps = as_number("fps", fps, least=_SLOWEST, most=_FASTEST)
    if duration_s is not None:
        duration_s = as_number("duration_s", duration_s, above=0)
    stall_s, reconnect_s = as_number("stall_s", stall_s, least=0), as_number("reconnect_s", reconnect_s, least=0)
    if container is not None:
        container = as_choice("container", container, CONTAINERS)
    overwrite = as_flag("overwrite", overwrite)
    # What is wrong with the arguments is better known before a camera is opened.
    Stabilizer(
        (640, 360), 30, options=options, latency_frames=latency_frames, interpolation=interpolation, threads=threads
    )
    origin = _Source.of(source, fps, allow_playlists)
    target = _Target.of(os.fspath(destination), container)
    inputs: dict[str, PathLike] = {} if origin.path is None else {"input": origin.path}
    if mask is not None and not isinstance(mask, np.ndarray):
        inputs["mask"] = checked_path("mask", mask)
    check_destinations(
        inputs,
        {"destination": target.path, "report": None if report is None else Path(report)},
        overwrite,
    )
    if target.window:
        _Window.check()
    beside = SideFiles()
    with contextlib.ExitStack() as open_files:
        report_file = None if report is None else open_files.enter_context(PendingFile(report, unnamed=True))
        reading = _Reading(origin, stall_s, reconnect_s, duration_s)
        line = _Line(
            reading,
            target,
            lambda size, rate: Stabilizer(
                size,
                rate,
                options=options,
                latency_frames=latency_frames,
                interpolation=interpolation,
                mask=usable_area(size, mask, region),
                threads=threads,
            ),
            fps,
            {"codec": codec, "crf": crf, "preset": encoder_preset},
            stall_s,
            progress,
        )
        result, failure = line.run()
        if report_file is not None:
            with beside.attempt(report_file.destination):
                report_file.write_text([result.to_json()])
                report_file.commit()
        if tell is not None:
            tell(result)
        if failure is not None:
            raise failure
    beside.check(target.name, result)
    return result


class _Queue(Generic[Item]):
    """Items from one thread to another, at most so many."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.dropped = 0
        self._items: deque[Item] = deque()
        self._closed = False
        self._changed = threading.Condition()

    @property
    def waiting(self) -> int:
        """Items in the queue."""
        return len(self._items)

    def put(self, item: Item, drop_after_s: float | None = None) -> bool:
        """Add an item; wait for room, or after a while drop the oldest to make it. False: nobody takes any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self.capacity, drop_after_s)
            if self._closed:
                return False
            if len(self._items) >= self.capacity:
                self._items.popleft()
                self.dropped += 1
            self._items.append(item)
            self._changed.notify_all()
            return True

    def get(self, timeout_s: float | None = None) -> Item | None:
        """Take the oldest item; None after the time, or when the queue is closed and empty (see `over`)."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._items, timeout_s)
            if not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self, discard: bool = False) -> None:
        """Take nothing more; what is in the queue can still be taken, unless it is discarded."""
        with self._changed:
            self._closed = True
            if discard:
                self._items.clear()
            self._changed.notify_all()

    @property
    def over(self) -> bool:
        """Whether the queue is closed and empty."""
        with self._changed:
            return self._closed and not self._items


@dataclass(frozen=True, slots=True)
class _Source:
    """Where pictures come from."""

    name: str  # for messages: without a password
    url: str
    live: bool  # comes at its own pace and may be opened again
    path: Path | None = None  # of a plain file
    fps: float | None = None  # in place of what it says
    format: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    allow_playlists: bool = False  # of a plain file

    @classmethod
    def of(cls, source: PathLike | int, fps: float | None, allow_playlists: bool = False) -> _Source:
        text = str(source) if isinstance(source, int) else os.fspath(source)
        if text.isdecimal():
            return cls._camera(int(text), fps)
        options = dict(_PROBE)
        if fps is not None:
            options["framerate"] = f"{fps:g}"  # heeded where the pictures have no times
        scheme = _URL.match(text)
        if scheme and scheme[1].lower() in _NETWORK:
            options["protocol_whitelist"] = ",".join(_NETWORK)
        elif not allow_playlists:
            options |= media_only()
        if text == "-":
            return cls("standard input", "pipe:0", False, fps=fps, options=options)
        if scheme:
            if text.startswith("rtsp"):
                options["rtsp_transport"] = "tcp"  # over UDP pictures break, and firewalls forbid it
            return cls(_without_password(text), text, True, fps=fps, options=options)
        path = Path(text)
        if path.exists() and not path.is_file() and not path.is_dir():
            return cls(text, str(path.absolute()), False, fps=fps, options=options)  # a named pipe
        return cls(text, text, False, path=path, fps=fps, allow_playlists=allow_playlists)

    @classmethod
    def _camera(cls, number: int, fps: float | None) -> _Source:
        options = {} if fps is None else {"framerate": f"{fps:g}"}
        if sys.platform == "darwin":
            return cls(f"camera {number}", str(number), True, None, fps, "avfoundation", options)
        if not sys.platform.startswith("linux"):
            raise ArgumentError("source: cameras by number are known on Linux and macOS; give a URL here")
        device = f"/dev/video{number}"
        if not Path(device).exists():
            raise InputError(f"camera {number}: there is no {device}")
        return cls(f"camera {number}", device, True, None, fps, "v4l2", options)


@dataclass(frozen=True, slots=True)
class _Target:
    """Where pictures go."""

    name: str
    url: str
    muxer: str
    codec: str
    path: Path | None = None  # of a file, which appears when it is complete
    window: bool = False

    @classmethod
    def of(cls, destination: str, container: str | None) -> _Target:
        muxer, codec = ("mpegts", "libx264") if container == "mpegts" else ("yuv4mpegpipe", "rawvideo")
        if destination == "window":
            return cls("window", "", "", "", window=True)
        if destination == "-":
            if sys.stdout is not None and sys.stdout.isatty():
                raise ArgumentError("destination: expected standard output to be a pipe or a file, not a terminal")
            return cls("standard output", "pipe:1", muxer, codec)
        if container is not None:
            raise ArgumentError('container: expected together with destination "-"; a name or URL says its own')
        if _URL.match(destination):
            muxer = _URL_MUXERS.get(destination.partition(":")[0].lower(), "mpegts")
            return cls(_without_password(destination), destination, muxer, "libx264")
        path = Path(destination)
        if path.suffix.lower() == ".y4m":
            return cls(destination, "", "yuv4mpegpipe", "rawvideo", path)
        muxer, codec = files._container_of(path)
        return cls(destination, "", muxer, codec, path)


def _without_password(url: str) -> str:
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", url)


class _LiveDecoder(Decoder):
    """A decoder that holds nothing back, and says when each picture came in.

    Attributes
    ----------
    arrived_s, busy_s : float
        When the last packet was read, and how long decoding took.
    lost : str
        Why the source broke off.
    """

    def __init__(self, source: _Source, timeout_s: float) -> None:
        self._source, self._timeout_s = source, timeout_s
        self.arrived_s = time.monotonic()
        self.busy_s = 0.0
        self.lost = ""
        super().__init__(source.name, allow_playlists=source.allow_playlists)
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
    """A reader that repairs clocks that jump.

    Attributes
    ----------
    decoder : _LiveDecoder
    live : bool
        Whether the source has no end of its own.
    """

    decoder: _LiveDecoder

    def __init__(self, source: _Source, timeout_s: float) -> None:
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


class _Reading:
    """The thread that reads: opens the source, opens it again, decodes, and puts pictures into the queue."""

    def __init__(self, source: _Source, stall_s: float, reconnect_s: float, duration_s: float | None) -> None:
        self.source = source
        self.queue: _Queue[_Arrived] = _Queue(_READ_QUEUE)
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
        if reader.live and (reader.decoder.lost or self._reconnect_s > 0):
            self.note = f"{self.source.name}: {reader.decoder.lost or 'the stream ended'}"
            return True
        if reader.decoder.lost:
            self.ended, self.note = self.ended or "lost", f"{self.source.name}: {reader.decoder.lost}"
        return False

    def _open_again(self, before: _LiveReader) -> _LiveReader | None:
        self.reopening = True
        began_s = time.monotonic()
        for delay_s in itertools.chain(_RETRY_S, itertools.repeat(_RETRY_S[-1])):
            if time.monotonic() - began_s + delay_s > self._reconnect_s or self._stop.wait(delay_s):
                break
            try:
                reader = _LiveReader(self.source, self._stall_s)
            except InputError as error:
                self.note = str(error)
                continue
            was, now = ((r.width, r.height, r.pixel_format) for r in (before, reader))
            if was != now:
                reader.close()
                raise InputError("{}: came back as {}x{} {}, was {}x{} {}".format(self.source.name, *now, *was))
            self.reconnects += 1
            self.reopening = False
            return reader
        self.ended = self.ended or "lost"
        return None


class _Sink(Protocol):
    """What takes the steady pictures."""

    def write(self, frame: VideoFrame) -> list[int]:
        """Take the next picture; return the numbers of those that have left the program."""

    def finish(self) -> None:
        """Complete what was written."""

    def discard(self) -> None:
        """Remove what was written, if it has not been completed; another thread may be writing still."""

    def close(self) -> None:
        """Give everything back."""


class _Encoder:
    """A file, a stream or a pipe."""

    def __init__(
        self, target: _Target, reader: VideoReader, rate: float, codec: str | None, crf: float, preset: str
    ) -> None:
        self._av = load_av()
        self._name = target.name
        raw = target.codec == "rawvideo"
        if raw and codec is not None:
            raise ArgumentError("codec: expected none for y4m, which is not coded")
        name = codec or target.codec
        encoder = files.find_encoder(name)
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
        self._pending = None if target.path is None else PendingFile(target.path, unnamed=True)
        self._container: Any = None
        try:
            url = target.url if self._pending is None else str(self._pending.path)
            self._container = self._av.open(url, "w", format=target.muxer)
            self._stream = files.add_video_stream(self._container, name, steady_rate, f"{target.muxer} streams")
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
            files.open_encoder(context)
            with contextlib.nullcontext() if self._pending else _ended_at_once():
                self._container.start_encoding()
        except BaseException as error:
            self.discard()
            self.close()
            if isinstance(error, ArgumentError) or not isinstance(error, (self._av.FFmpegError, ValueError, OSError)):
                raise
            raise OutputError(f"{self._name}: cannot be written ({reason(error)})") from error

    def write(self, frame: VideoFrame) -> list[int]:
        planes = _colored(frame.planes, files._depth(self._planar)) if self._colored else frame.planes
        picture = _filled(self._av.VideoFrame(*self.size, self._planar), planes)
        if self._counted:
            picture.pts = self._count
        else:
            self._shift = frame.pts if self._shift is None else self._shift
            picture.pts = frame.pts - self._shift
        picture.time_base = self._clock
        self._numbers[picture.pts] = self._count, 1 if self._counted else frame.duration
        self._count += 1
        return self._encode(picture)

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
        if self._count == 0:
            raise OutputError(f"{self._name}: no picture was written")
        self._encode(None)
        try:
            self._container.close()
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise OutputError(f"{self._name}: cannot be written ({reason(error)})") from error
        if self._pending is not None:
            self._pending.commit()

    def discard(self) -> None:
        if self._pending is not None:
            self._pending.discard()

    def close(self) -> None:
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
    views = files._plane_views(picture, writable=True)
    for view, plane in zip(views, given, strict=True):
        view[...] = plane[: view.shape[0], : view.shape[1]]
    files.keep_within_depth(views, planes.bit_depth)
    return picture


def _output_format(planar: str, taken: list[str] | None) -> str:
    """Pixel format to write: y4m (None) has four of 8 bits; players of coded streams want 4:2:0."""
    if taken is None:
        return re.sub(r"(?<=[ypv])(9|1[0246])le$", "", planar)
    depth = files._depth(planar)
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
    options = files._encoder_options(codec, crf, preset, muxer)
    if codec in ("libx264", "libx265"):
        options["tune"] = "zerolatency"
    elif codec in ("libvpx", "libvpx-vp9"):
        options.update(deadline="realtime", **{"cpu-used": "8", "lag-in-frames": "0"})
    return options


class _Window:
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
        self.close()

    def discard(self) -> None:
        pass

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._cv2.destroyAllWindows()


def _believed(reader: _LiveReader) -> float:
    """Frames a second; what streams of no fixed rate say is sometimes the rate of their clock."""
    rate = float(reader.frame_rate)
    if reader._container.format.name == "yuv4mpegpipe":
        return rate  # counts frames
    slowest = 1.0 if reader.live else _SLOWEST
    return rate if slowest <= rate <= _FASTEST_BELIEVED else 30.0


class _Line:
    """The whole line, watched by the thread that runs it, which is the one that gets Ctrl-C and owns windows."""

    def __init__(
        self,
        reading: _Reading,
        target: _Target,
        stabilizer: Callable[[tuple[int, int], float], Stabilizer],
        fps: float | None,
        encoding: dict[str, Any],
        stall_s: float,
        progress: bool,
    ) -> None:
        self._reading, self._target, self._make = reading, target, stabilizer
        self._fps, self._encoding, self._stall_s, self._progress = fps, encoding, stall_s, progress
        self._steady: _Queue[tuple[VideoFrame, float | None]] = _Queue(_WRITE_QUEUE)
        self._latency = LatencyHistogram()
        self._waiting: dict[int, float] = {}
        self._written = 0
        self._busy = {"compute": 0.0, "write": 0.0}
        self._error: BaseException | None = None
        self._done = threading.Event()
        self._sink: _Sink

    def run(self) -> tuple[LiveReport, BaseException | None]:
        """Run to the end; give the report, and what is to be raised."""
        reading = self._reading
        reading.thread.start()
        try:
            self._wait_for_first()
            reader = reading.first
            assert reader is not None
            rate = self._fps or _believed(reader)
            self._stabilizer = self._make((reader.width, reader.height), believable_rate(rate))
            self._window = _Window(reader) if self._target.window else None
            self._sink = self._window or _Encoder(self._target, reader, rate, **self._encoding)
        except BaseException:
            reading.stop("interrupted")
            raise
        self._began_s = time.monotonic()
        workers = [threading.Thread(target=self._compute, name="legato-compute", daemon=True)]
        if self._window is None:
            workers.append(threading.Thread(target=self._write, name="legato-write", daemon=True))
        for worker in workers:
            worker.start()
        stop: BaseException | None = None
        try:
            try:
                self._watch()
            except BaseException as error:  # Ctrl-C, or the like: in good order, what is under way included
                stop = error
                reading.stop("interrupted")
                reading.ended = (
                    "interrupted"  # the signal may have broken off a read first, which then looks like an end
                )
                self._watch()
        finally:  # and a second Ctrl-C, without it
            reading.stop("interrupted")
            self._steady.close(discard=True)
            # A thread inside the core must not outlive the interpreter; those that may hang are inside FFmpeg.
            workers[0].join()
            reading.thread.join(_TICK_S)
            self._sink.discard()
            if self._done.is_set():
                self._sink.close()
        failure = self._error or reading.error
        if isinstance(stop, KeyboardInterrupt):
            # A file that is not there counts for more than a Ctrl-C.
            keeps = isinstance(failure, OutputError) and self._target.path is not None
            failure = failure if keeps else None
        elif stop is not None:
            failure = stop
        if failure is not None and stop is None:
            reading.ended, reading.note = "failed", str(failure)
        return self._report(rate), failure

    def _wait_for_first(self) -> None:
        reading = self._reading
        quiet_s = 0.0
        while not reading.opened.wait(_TICK_S):
            quiet_s += _TICK_S  # not by the clock: a program that was suspended has not waited
            if self._stall_s and quiet_s > self._stall_s + _SLACK_S * reading.source.live:
                raise InputError(f"{reading.source.name}: gave no picture for {self._stall_s:g} s")
        if reading.error is not None:
            raise reading.error

    def _watch(self) -> None:
        """Wait for the end; see to it that it comes."""
        reading = self._reading
        quiet_s = idle_s = 0.0
        seen = written = -1
        told_s = time.monotonic()
        while not self._turn():
            progressed = reading.frames != seen or reading.reopening or reading.queue.waiting
            quiet_s = 0.0 if progressed else quiet_s + _TICK_S
            idle_s = 0.0 if self._written != written else idle_s + _TICK_S
            seen, written = reading.frames, self._written
            if self._stall_s and not reading.ended and quiet_s > self._stall_s + _SLACK_S * reading.source.live:
                reading.stop("stalled", f"{reading.source.name}: gave no picture for {self._stall_s:g} s")
                idle_s = 0.0
            if reading.ended and idle_s > _GRACE_S and (reading.stopped or self._error):
                return  # the output takes nothing any more
            if self._window is not None and self._window.closed:
                reading.stop("window")
            if self._progress and time.monotonic() - told_s >= 1:
                told_s = time.monotonic()
                self._tell()
        if self._progress:
            with contextlib.suppress(OSError, ValueError):
                print(file=sys.stderr)

    def _turn(self) -> bool:
        """Wait a little, or show a picture; True when all is written."""
        if self._window is None:
            return self._done.wait(_TICK_S)
        item = self._steady.get(_TICK_S)
        if item is not None:
            self._hand_over(*item)
            return False
        self._window.turn()
        if self._steady.over:
            self._sink.finish()
            self._done.set()
        return self._done.is_set()

    def _tell(self) -> None:
        late_ms = 1e3 * self._latency.percentile_s(99)
        rate = self._written / (time.monotonic() - self._began_s)
        line = (
            f"\r{self._written} frames, {rate:.1f} fps, beyond the delay p99 {late_ms:.0f} ms, "
            f"{self._reading.queue.dropped} dropped{', reconnecting' if self._reading.reopening else ''}   "
        )
        with contextlib.suppress(OSError, ValueError):  # nobody reads it, and the run does not depend on it
            print(line, end="", file=sys.stderr, flush=True)

    def _compute(self) -> None:
        connection = 0
        try:
            while (item := self._reading.queue.get()) is not None:
                began_s = time.perf_counter()
                steady = self._stabilizer.push(item.frame, cut=item.connection != connection)
                connection = item.connection
                self._busy["compute"] += time.perf_counter() - began_s
                for frame in steady:
                    if not self._steady.put((frame, item.at_s)):
                        return
            for last in self._stabilizer.flush():
                self._steady.put((cast(VideoFrame, last), None))
        except BaseException as error:
            self._fail(error)
        finally:
            self._steady.close()

    def _write(self) -> None:
        try:
            while (item := self._steady.get()) is not None:
                self._hand_over(*item)
            if self._error is None:
                self._sink.finish()
        except BaseException as error:
            self._fail(error)
        finally:
            self._done.set()

    def _hand_over(self, frame: VideoFrame, at_s: float | None) -> None:
        began_s = time.perf_counter()
        if at_s is not None:
            self._waiting[self._written] = at_s
        gone = self._sink.write(frame)
        self._busy["write"] += time.perf_counter() - began_s
        now_s = time.monotonic()
        for number in gone:
            arrived_s = self._waiting.pop(number, None)
            if arrived_s is not None:  # what a flush releases was not waited for
                self._latency.record(now_s - arrived_s)
        self._written += 1

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self._reading.stop("failed")
        self._steady.close(discard=True)

    def _report(self, rate: float) -> LiveReport:
        reading, stabilizer = self._reading, self._stabilizer
        seconds = time.monotonic() - self._began_s
        note = reading.note if reading.ended in ("stalled", "lost", "failed") else ""
        if not self._done.is_set():
            note = f"{self._target.name}: takes no pictures any more; what was written is not complete"
        assert reading.first is not None
        busy = {"read": reading.busy_s, **self._busy}
        late = self._latency
        return LiveReport(
            source=reading.source.name,
            destination=self._target.name,
            ended=reading.ended,
            note=note,
            size=getattr(self._sink, "size", stabilizer.size),
            frame_rate=rate,
            latency_frames=stabilizer.latency_frames,
            frames_read=reading.frames,
            frames_dropped=reading.queue.dropped,
            frames_written=self._written,
            **reading.faults,
            failed=stabilizer.failed,
            duplicates=stabilizer.duplicates,
            cuts=stabilizer.cuts,
            reconnects=reading.reconnects,
            latency_ms={
                **{f"p{q}": 1e3 * late.percentile_s(q) for q in (50, 90, 99)},
                "max": 1e3 * late.max_s,
                "histogram": late.coarse(),
            },
            delay_ms=1e3 * stabilizer.latency_frames / rate,
            busy={stage: spent / seconds for stage, spent in busy.items()},
            seconds=seconds,
        )
