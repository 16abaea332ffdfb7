"""FFmpeg's own filters on pictures: whole ones out of interleaved fields, and few colors out of many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from legato._files import reason
from legato.errors import InputError
from legato.video.media.decoding import load_av

__all__ = ["FewColors", "deinterlaced"]


def deinterlaced(frames: Iterator[Any], stream: Any, *, every: bool) -> Iterator[Any]:
    """Make each picture of two fields one of a single moment: as many pictures as come in, at the same times.

    The filter is ``bwdif`` (Bob Weaver deinterlacing, after the BBC's Weston three-field filter).

    Parameters
    ----------
    frames : iterator of av.VideoFrame
        Decoded pictures.
    stream : av.video.stream.VideoStream
        Where they come from.
    every : bool
        Whether to do so with those that are not marked as interlaced, too.

    Raises
    ------
    InputError
        If the filter does not take them.
    """
    av = load_av()

    def weave(graph: Any, source: Any) -> Any:
        weaver = graph.add("bwdif", f"mode=send_frame:deint={'all' if every else 'interlaced'}")
        source.link_to(weaver)
        return weaver

    chain: _Chain | None = None
    try:
        for frame in frames:
            if chain is not None and not chain.takes(frame):
                yield from chain.push(None)
                chain = None
            chain = chain or _Chain(frame, Fraction(stream.time_base), weave)
            yield from chain.push(frame)
        if chain is not None:
            yield from chain.push(None)
    except (av.FFmpegError, ValueError) as error:
        raise InputError(f"deinterlace: FFmpeg's filter does not take these pictures ({reason(error)})") from error


class FewColors:
    """Pictures of at most 256 colors, chosen for each, in an ordered dither that does not crawl.

    Parameters
    ----------
    time_base : Fraction
        Seconds in a unit of their times.
    """

    def __init__(self, time_base: Fraction) -> None:
        self._time_base = time_base
        self._chain: _Chain | None = None

    def push(self, frame: Any | None) -> Iterator[Any]:
        """Take the next picture, or None for the end; give those that are ready, in format pal8."""
        if self._chain is None:
            if frame is None:
                return
            self._chain = _Chain(frame, self._time_base, self._chosen)
        yield from self._chain.push(frame)

    @staticmethod
    def _chosen(graph: Any, source: Any) -> Any:
        both, chosen = graph.add("split"), graph.add("palettegen", "stats_mode=single")
        drawn = graph.add("paletteuse", "new=1:dither=bayer:bayer_scale=3")
        source.link_to(both)
        both.link_to(chosen, 0, 0)
        both.link_to(drawn, 1, 0)
        chosen.link_to(drawn, 0, 1)
        return drawn


class _Chain:
    """Filters for pictures of one size and format.

    Parameters
    ----------
    first : av.VideoFrame
        Such a picture.
    time_base : Fraction
        Seconds in a unit of the times, which go in and come out.
    build : callable
        Adds filters to a graph, beginning at a source; gives the last.
    """

    def __init__(self, first: Any, time_base: Fraction, build: Callable[[Any, Any], Any]) -> None:
        self._av = load_av()
        self._kind, self._time_base = self._of(first), time_base
        graph = self._graph = self._av.filter.Graph()
        self._source = graph.add_buffer(
            width=first.width, height=first.height, format=first.format, time_base=time_base
        )
        self._sink = graph.add("buffersink")
        build(graph, self._source).link_to(self._sink)
        graph.configure()

    @staticmethod
    def _of(frame: Any) -> tuple[int, int, str]:
        return frame.width, frame.height, frame.format.name

    def takes(self, frame: Any) -> bool:
        """Whether a picture is of this size and format."""
        return self._of(frame) == self._kind

    def push(self, frame: Any | None) -> Iterator[Any]:
        """Take the next picture, or None for the end; give those that are ready."""
        if frame is not None:
            frame.time_base = self._time_base
        self._source.push(frame)
        while True:
            try:
                ready = self._sink.pull()
            except (self._av.BlockingIOError, self._av.EOFError):
                return
            if ready.pts is not None and ready.time_base:
                ready.pts = round(ready.pts * ready.time_base / self._time_base)
                ready.time_base = self._time_base
            yield ready
