"""Packets that are copied: sound, subtitles and attachments beside new pictures, or a whole video as it is."""

from __future__ import annotations

import contextlib
import io
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from legato._files import PathLike, PendingFile, reason
from legato._turns import Turns, one_at_a_time
from legato.errors import ArgumentError, OutputError
from legato.video.media.decoding import is_cover, load_av, open_media
from legato.video.media.reader import VideoReader

__all__ = ["CONTAINERS", "VideoCopy", "holds"]


# Extension of the destination -> muxer, encoder where none is asked for.
CONTAINERS = {
    ".mp4": ("mp4", "libx264"),
    ".m4v": ("mp4", "libx264"),
    ".mov": ("mov", "libx264"),
    ".mkv": ("matroska", "libx264"),
    ".webm": ("webm", "libvpx-vp9"),
    ".avi": ("avi", "libx264"),
    ".ts": ("mpegts", "libx264"),
    ".gif": ("gif", "gif"),
}
_EDIT_LISTS = ("mp4", "mov")
_DESCRIBE_LATE = (*_EDIT_LISTS, "mpegts")  # these say what a stream is after its first packets
_PRIMING_S = 0.15  # the most that encoders of sound put before its beginning
_LAST_CHAPTER_S = 10**8
_MOST_REORDERED = 16  # pictures that H.264 and H.265 may hold back, and so packets that tell a decoding time
_ATTACHES = "matroska"  # WebM's muxer leaves attachments out without a word, and MPEG-TS makes private data of them
_NOT_STRICT = 0x20000  # AVFMT_TS_NONSTRICT: two packets may have one decoding time
_ARBITRARY_START = 0x0200  # AVFMT_TS_DISCONT

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


class PacketTiming:
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


class StreamCopier:
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
        self._path, self._allow_playlists = source.path, source.decoder.allow_playlists
        self._input = open_media(self._path, allow_playlists=self._allow_playlists)
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
        """Ask the muxer, by writing a file with this stream alone: no table of codecs says it as surely."""
        if stream.type == "attachment" and muxer != _ATTACHES:
            return False
        if holds(stream, muxer):
            return True
        # Some look into a packet to describe its stream, and for them it has to be one of its own.
        own = self._first_packet(stream) if muxer in _EDIT_LISTS else None
        return own is not None and holds(stream, muxer, own)

    def _first_packet(self, stream: Any) -> Any:
        """Read the first packet of a stream, by itself; None: there is none."""
        with (
            contextlib.suppress(self._av.FFmpegError, ValueError),
            open_media(self._path, allow_playlists=self._allow_playlists) as again,
        ):
            return next((p for p in again.demux(again.streams[stream.index]) if p.size), None)
        return None

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
            index: PacketTiming(
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


def holds(stream: Any, muxer: str, packet: Any = None) -> bool:
    """Ask a muxer whether it takes a stream, by writing a file with this alone.

    Parameters
    ----------
    stream : av.stream.Stream
    muxer : str
    packet : av.Packet, optional
        What is written, so that what describes the stream is; by default any bytes.
    """
    av = load_av()
    written = io.BytesIO()
    try:
        with av.open(written, "w", format=muxer) as trial:
            target = trial.add_stream_from_template(stream)
            trial.start_encoding()
            if muxer in _DESCRIBE_LATE:
                packet = packet or av.Packet(bytes(64))
                packet.stream, packet.time_base = target, target.time_base
                packet.pts = packet.dts = 0
                with contextlib.suppress(av.FFmpegError):  # some look into it
                    trial.mux(packet)
    except (av.FFmpegError, ValueError, TypeError, AttributeError):
        return False
    return muxer != "mpegts" or not _private(written)


def _private(written: io.BytesIO) -> bool:
    """Whether the only stream of an MPEG-TS is private data: it takes any codec so, and no player reads that."""
    av = load_av()
    written.seek(0)
    try:
        with av.open(written, format="mpegts") as back:
            return any(stream.type == "data" for stream in back.streams)
    except (av.FFmpegError, ValueError):
        return False


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
        muxer, _ = container_of(self.path)
        if muxer == "avi":
            raise ArgumentError("path: .avi files have no room for when pictures are shown")
        if source.hidden_packets and (muxer not in _EDIT_LISTS or source.cut_within):
            raise ArgumentError(f"path: {muxer} files have no room for what an edit list cuts off")
        if source.repaired_timestamps:
            raise ArgumentError("path: pictures without times, or of wrong ones, cannot be copied as they are")
        self.notes: list[str] = []
        self._pending = PendingFile(self.path)
        self._copier: StreamCopier | None = None
        try:
            self._container = opened_for_writing(self._av, self._pending.path, muxer, source.time_base)
            self._copier = StreamCopier(self._av, source, self._container, muxer, pictures=True)
            self._copier.shift_s = start_shift(source)
            self.copied, self.not_copied = self._copier.copied, self._copier.not_copied
            self.notes += take_over_tags(source, self._container)
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
        abandon(self._pending, self._copier, getattr(self, "_container", None))


def opened_for_writing(av: Any, path: Path, muxer: str, clock: Fraction) -> Any:
    options = {}
    if muxer in _EDIT_LISTS:
        # The movie's clock counts late starts; its usual milliseconds would round them.
        scale = clock.denominator
        scale *= -(-10_000 // scale)
        options = {"movflags": "faststart", "movie_timescale": str(scale)}
    return av.open(str(path), "w", format=muxer, container_options=options)


def take_over_tags(source: VideoReader, container: Any) -> list[str]:
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


def abandon(pending: PendingFile, copier: StreamCopier | None, container: Any) -> None:
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


def start_shift(source: VideoReader) -> Fraction:
    """Seconds by which all streams are moved back, for containers whose clock starts anywhere."""
    container = source._container
    if not int(container.format.flags) & _ARBITRARY_START:
        return Fraction(0)
    return Fraction(container.start_time or 0, source._av.time_base)


def container_of(path: Path) -> tuple[str, str]:
    try:
        return CONTAINERS[path.suffix.lower()]
    except KeyError:
        known = ", ".join(CONTAINERS)
        raise ArgumentError(f"{path}: unknown kind of video file {path.suffix!r}; expected one of {known}") from None
