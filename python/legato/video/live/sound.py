"""The sound of a live line: as late as its pictures, copied as it is or encoded as the output wants it."""

from __future__ import annotations

import contextlib
from collections import deque
from fractions import Fraction
from typing import Any

from legato.video.media.copying import holds
from legato.video.media.decoding import load_av

__all__ = ["LiveSound", "SoundQueue"]

_AHEAD_S = Fraction(1, 10)  # of the pictures: a muxer waits for both
_MOST_PACKETS = 1 << 14  # that wait, some minutes of sound
_SILENT = ("yuv4mpegpipe", "avi")  # hold none, or have no times
_COPIED_TO_RTSP = ("aac", "opus")  # no file could be tried there
_ENCODERS = {"webm": "libopus"}
_RESYNC_S = 0.05


class SoundQueue:
    """Packets of sound on the clock of the pictures, from the thread that reads to the one that writes.

    Attributes
    ----------
    stream : av.audio.stream.AudioStream or None
        What the last packet came from, at first what the first connection has; None: no sound.
    """

    def __init__(self) -> None:
        self.stream: Any = None
        self._packets: deque[tuple[Fraction, Any]] = deque(maxlen=_MOST_PACKETS)

    def put(self, packet: Any, time_s: Fraction) -> None:
        """Add a packet that is heard at a time; of another kind than the first connection's it is left out."""
        if self.stream is not None and _kind(packet.stream) == _kind(self.stream):
            self.stream = packet.stream  # of a connection that is open, where an output is opened again
            self._packets.append((time_s, packet))

    def take(self, until_s: Fraction | None) -> list[tuple[Fraction, Any]]:
        """Take those that are heard before a time; None: all."""
        taken = []
        while self._packets and (until_s is None or self._packets[0][0] < until_s):
            taken.append(self._packets.popleft())
        return taken


def _kind(stream: Any) -> tuple[Any, ...]:
    context = stream.codec_context
    return context.name, context.sample_rate, context.layout.nb_channels


class LiveSound:
    """A stream of sound in a live output.

    Parameters
    ----------
    container : av.container.OutputContainer
        The output, before its header is written.
    muxer : str
        Its kind.
    queue : SoundQueue
        Where the packets come from.

    Attributes
    ----------
    how : {"copied", "encoded", "none"}
        What becomes of the sound.
    """

    def __init__(self, container: Any, muxer: str, queue: SoundQueue) -> None:
        self._av = load_av()
        self._container, self._queue = container, queue
        self._decoder: Any = None
        self._resampler: Any = None
        self._last: int | None = None
        self._heard_s: Fraction | None = None  # the end of what was encoded
        self.how = "none"
        template = queue.stream
        if template is None or muxer in _SILENT:
            return
        name = template.codec_context.name
        copied = name in _COPIED_TO_RTSP if muxer == "rtsp" else holds(template, muxer)
        if copied:
            self._stream = container.add_stream_from_template(template)
            self.how = "copied"
            return
        codec = _ENCODERS.get(muxer, "aac")
        if codec not in self._av.codecs_available:
            return
        self._decoder = self._av.CodecContext.create(name, "r")
        for what in ("sample_rate", "layout", "extradata"):
            setattr(self._decoder, what, getattr(template.codec_context, what))
        rate = 48_000 if codec == "libopus" else template.codec_context.sample_rate
        self._stream = container.add_stream(codec, rate=rate)
        self._stream.codec_context.layout = "stereo" if template.codec_context.layout.nb_channels > 1 else "mono"
        self.how = "encoded"

    def write(self, until_s: Fraction, begin_s: Fraction) -> None:
        """Write what is heard up to a picture, and a little more.

        Parameters
        ----------
        until_s : Fraction
            When the picture is shown, on the source's clock.
        begin_s : Fraction
            When the first was: the output's clock begins there.
        """
        if self.how == "none":
            return
        for time_s, packet in self._queue.take(until_s + _AHEAD_S):
            if self._decoder is None:
                self._mux(packet, time_s - begin_s)
            else:
                self._encode(packet, time_s - begin_s)

    def finish(self, end_s: Fraction, begin_s: Fraction) -> None:
        """Write what is heard until the end of the last picture, and what an encoder still holds."""
        if self.how == "none":
            return
        self.write(end_s - _AHEAD_S, begin_s)
        if self._resampler is not None:
            for packet in self._stream.encode(None):
                self._container.mux(packet)

    def _mux(self, packet: Any, at_s: Fraction) -> None:
        clock = Fraction(self._stream.time_base)
        pts = round(at_s / clock)
        if pts < 0 or (self._last is not None and pts <= self._last):
            return
        packet.duration = round((packet.duration or 0) * packet.time_base / clock)
        packet.stream, packet.time_base = self._stream, clock
        packet.pts = packet.dts = self._last = pts
        with contextlib.suppress(self._av.error.InvalidDataError):  # a muxer that looks into them takes the next
            self._container.mux(packet)

    def _encode(self, packet: Any, at_s: Fraction) -> None:
        context = self._stream.codec_context
        if self._resampler is None:
            self._resampler = self._av.AudioResampler(
                format=context.format, layout=context.layout, rate=context.sample_rate, frame_size=context.frame_size
            )
        try:
            frames = self._decoder.decode(self._av.Packet(bytes(packet)))
        except self._av.FFmpegError:
            return
        for frame in frames:
            if at_s < 0:
                continue
            # What follows without a gap is counted on: times in milliseconds would leave clicks.
            if self._heard_s is None or abs(at_s - self._heard_s) > _RESYNC_S:
                self._heard_s = max(at_s, self._heard_s or at_s)
            frame.time_base = Fraction(1, frame.sample_rate)
            frame.pts = round(self._heard_s * frame.sample_rate)
            self._heard_s += Fraction(frame.samples, frame.sample_rate)
            at_s += Fraction(frame.samples, frame.sample_rate)
            for piece in self._resampler.resample(frame):
                for coded in self._stream.encode(piece):
                    self._container.mux(coded)
