"""Video files opened and decoded: the part of reading that needs no NumPy, and so may begin before it is loaded."""

from __future__ import annotations

import functools
import importlib
import os
import re
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from legato._extras import install_command
from legato._files import PathLike, checked_path, reason
from legato.errors import ArgumentError, DependencyError, InputError

__all__ = [
    "TRUST",
    "Ahead",
    "Decoder",
    "is_cover",
    "load_av",
    "media_only",
    "open_media",
    "playlist_kind",
]

# FFmpeg reads these as pictures of text; nobody means that by a video.
_TEXT_FORMATS = {"tty", "bin", "adf", "idf", "xbin"}
# These open what a file names: other files, and whatever lies at an address.
_PLAYLIST_FORMATS = {
    "applehttp",
    "avisynth",
    "concat",
    "dash",
    "dvdvideo",
    "hls",
    "imf",
    "lavfi",
    "rtsp",
    "sap",
    "sdp",
    "vapoursynth",
    "vobsub",
    "webm_dash_manifest",
}
_PLAYLISTS = (
    (re.compile(rb"#EXTM3U"), "an HLS playlist"),
    (re.compile(rb"ffconcat version"), "a concat script"),
    (re.compile(rb"v=0\r?\n"), "a session description (SDP)"),
    (re.compile(rb"<.*<(MPD|SmoothStreamingMedia)\b|<MPD\b", re.DOTALL), "a DASH manifest"),
    (re.compile(rb"<.*<([a-z0-9]+:)?(CompositionPlaylist|AssetMap)\b", re.DOTALL), "an IMF playlist"),
    (re.compile(rb"# VobSub index file"), "an index of subtitles (VobSub)"),
)
TRUST = "to trust it: --allow-playlists, allow_playlists=True"
_PLAYLIST_HEAD = 4096  # bytes in which one says what it is
_DEFAULT, _ATTACHED_PICTURE = 1, 1 << 10  # AV_DISPOSITION_DEFAULT, _ATTACHED_PIC
_MOST_READ_FAILURES = 16  # in a row, before the rest of a damaged file is given up
_MOST_AHEAD_BYTES = 48 << 20  # of pictures decoded before anybody asks


def load_av() -> Any:
    """Import PyAV, or say how to install it."""
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise DependencyError(f"PyAV is needed here: {install_command('video')}") from error


def playlist_kind(path: Path) -> str | None:
    """Say what kind of list of other files a file is by its content; None: it is none that FFmpeg would follow."""
    try:
        with path.open("rb") as file:
            head = file.read(_PLAYLIST_HEAD)
    except OSError:
        return None
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return next((kind for pattern, kind in _PLAYLISTS if pattern.match(head)), None)


@functools.cache
def media_only() -> dict[str, str]:
    """Give the options by which FFmpeg opens nothing but what it was told to open."""
    formats = sorted(set(load_av().formats_available) - _PLAYLIST_FORMATS)
    return {"format_whitelist": ",".join(formats), "pattern_type": "none"}  # the second: no sequence of pictures


def open_media(path: Path, *, allow_playlists: bool = False) -> Any:
    """Open a file by FFmpeg: this alone, or also what it names.

    Raises
    ------
    InputError
        If it is a list of other files, and these are not allowed.
    av.FFmpegError
        If it cannot be read otherwise.
    """
    av = load_av()
    try:
        # An absolute path cannot be mistaken for a protocol such as "concat:".
        return av.open(
            str(path.absolute()), options={} if allow_playlists else dict(media_only()), metadata_errors="replace"
        )
    except av.FFmpegError as error:
        kind = None if allow_playlists else playlist_kind(path)
        if kind is None:
            raise
        raise InputError(f"{path}: not a video but {kind}, which names other files to be read ({TRUST})") from error


def is_cover(stream: Any) -> bool:
    """Whether a stream of pictures is a cover."""
    return bool(int(getattr(stream, "disposition", 0)) & _ATTACHED_PICTURE)


def _pixels(stream: Any) -> int:
    context = stream.codec_context
    return 0 if context is None else int(context.width) * int(context.height)


class Decoder:
    """Decode the pictures of a video file, in order, once.

    Parameters
    ----------
    path : str or path
        A file that FFmpeg can read.
    stream : int, optional
        Which of its streams, as FFmpeg counts all of them from 0. By default that of pictures, no cover, which the file
        says is the default one; of several, or where it says none, the one of the largest pictures.
    allow_playlists : bool
        Whether it may be a list of other files (HLS, DASH, concat and the like), which are then read.

    Attributes
    ----------
    av : module
        PyAV.
    path : Path
        The file.
    allow_playlists : bool
        As given.
    container, stream : av.container.InputContainer, av.video.stream.VideoStream
        The opened file and its pictures.
    skipped_packets, hidden_packets : int
        Counted while decoding: packets that could not be decoded, and those of pictures that are not shown, as the
        file's edit list says.
    cut_within : bool
        Whether one of the hidden comes after the beginning.

    Raises
    ------
    InputError
        If the file cannot be read or is no video.
    ArgumentError
        If the stream is not there or has no pictures.
    DependencyError
        If PyAV is not installed.
    """

    no_frame = "no frame could be decoded"  # what is said of such a file

    def __init__(self, path: PathLike, *, stream: int | None = None, allow_playlists: bool = False) -> None:
        self.av = load_av()
        self.path = checked_path("path", path)
        self.allow_playlists = allow_playlists
        self.skipped_packets = self.hidden_packets = 0
        self.cut_within = False
        self.container = self._opened()
        try:
            self.stream = self._video_stream(stream)
            self.stream.thread_type = "AUTO"
        except BaseException:
            self.container.close()
            raise
        self._rest = self._decoded()
        self._ready: deque[Any] = deque()

    def decode_ahead(self, asked: threading.Event) -> None:
        """Decode pictures to give later, until they are asked for or take much room."""
        held = 0
        while not asked.is_set() and held < _MOST_AHEAD_BYTES:
            frame = next(self._rest, None)
            if frame is None:
                return
            self._ready.append(frame)
            held += sum(plane.buffer_size for plane in frame.planes)

    def frames(self) -> Iterator[Any]:
        """Give the pictures, as `av.VideoFrame`; what is damaged is counted and skipped."""
        while self._ready:
            yield self._ready.popleft()
        yield from self._rest

    def close(self) -> None:
        """Close the file."""
        self._rest.close()  # type: ignore[attr-defined]
        self._ready.clear()
        self.container.close()

    def _opened(self) -> Any:
        path = self.path
        if not path.exists():
            text = os.fspath(path)
            stream = text == "-" or re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text)
            raise InputError(f"{path}: no such file" + ("; streams are for `legato live`" if stream else ""))
        if path.is_dir():
            raise InputError(f"{path}: a directory, expected a video file")
        if not path.is_file():
            raise InputError(f"{path}: not a file that can be read twice; streams are for `legato live`")
        try:
            container = open_media(path, allow_playlists=self.allow_playlists)
        except self.av.FFmpegError as error:
            if isinstance(error, PermissionError):
                raise InputError(f"{path}: cannot be read ({reason(error)})") from error
            raise InputError(f"{path}: not a video that can be read ({reason(error)})") from error
        if container.format.name in _TEXT_FORMATS:
            container.close()
            raise InputError(f"{path}: not a video (text)")
        return container

    def _video_stream(self, asked: int | None) -> Any:
        streams = [s for s in self.container.streams.video if not is_cover(s)]
        if not streams:
            raise InputError(f"{self.path}: has no video stream")
        if asked is not None:
            chosen = [s for s in streams if s.index == asked]
            if not chosen:
                there = ", ".join(str(s.index) for s in streams)
                raise ArgumentError(f"stream: {self.path} has pictures in stream {there}; got {asked!r}")
        else:
            chosen = [s for s in streams if int(getattr(s, "disposition", 0)) & _DEFAULT] or streams
        stream = max(chosen, key=_pixels)  # the first of equals
        if stream.codec_context is None:
            raise InputError(f"{self.path}: no decoder for its video stream")
        return stream

    def _decoded(self) -> Iterator[Any]:
        """Give decoded frames; what is damaged is counted and skipped."""
        container, stream = self.container, self.stream
        packets = container.demux(*self._wanted())
        failures = 0
        while failures < _MOST_READ_FAILURES:
            try:
                packet = next(packets, None)
            except (self.av.FFmpegError, OSError) as error:
                if self._broke_off(error):
                    break
                failures += 1
                self.skipped_packets += 1
                packets = container.demux(*self._wanted())
                continue
            failures = 0
            if packet is None or (packet.dts is None and not packet.size):
                break
            if packet.stream.index != stream.index:
                self._put_aside(packet)
                continue
            yield from self._decode_packet(packet)
        yield from self._decode_packet(None)

    def _wanted(self) -> list[Any]:
        """Streams whose packets are read."""
        return [self.stream]

    def _put_aside(self, packet: Any) -> None:
        """Take a packet of another stream."""

    def _broke_off(self, _error: Exception) -> bool:
        """Whether nothing more can come after this failure to read; in a file something may."""
        return False

    def _decode_packet(self, packet: Any) -> list[Any]:
        if packet is not None and packet.is_discard:
            self.hidden_packets += 1
            self.cut_within |= packet.pts is None or packet.pts >= 0
        try:
            frames: list[Any] = self.stream.codec_context.decode(packet)
        except self.av.FFmpegError:
            self.skipped_packets += 1
            return []
        return frames


class Ahead(os.PathLike[str]):
    """A video that is opened, and its first pictures decoded, in a thread of its own while a program is being loaded.

    It is a path as well, to whoever does not know that. Use in a ``with`` block.

    Parameters
    ----------
    path : str or path
        The file.
    stream, allow_playlists
        As for `Decoder`.

    Raises
    ------
    DependencyError
        If PyAV is not installed.
    """

    def __init__(self, path: PathLike, *, stream: int | None = None, allow_playlists: bool = False) -> None:
        load_av()
        self._path, self._stream, self._allow_playlists = path, stream, allow_playlists
        self._decoder: Decoder | None = None
        self._error: BaseException | None = None
        self._asked = threading.Event()
        self._thread = threading.Thread(target=self._run, name="legato-ahead", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._decoder = Decoder(self._path, stream=self._stream, allow_playlists=self._allow_playlists)
            self._decoder.decode_ahead(self._asked)
        except BaseException as error:  # told to who takes the decoder
            self._error = error

    def decoder(self) -> Decoder:
        """Give the decoder with what it has ready; it is the caller's from now on, and there is no second.

        Raises
        ------
        InputError
            As `Decoder`.
        """
        self._stop()
        if self._error is not None:
            raise self._error
        decoder, self._decoder = self._decoder, None
        assert decoder is not None
        return decoder

    def _stop(self) -> None:
        self._asked.set()
        self._thread.join()

    def __fspath__(self) -> str:
        return os.fspath(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        if self._decoder is not None:
            self._decoder.close()
