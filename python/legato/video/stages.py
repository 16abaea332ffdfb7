"""The stages of stabilizing a file, each an object with one job: to follow its motion, to draw, to write.

Decoder, tracker, warp and encoder work beside each other. Pictures that wait are kept as they were decoded; where that
would be too much memory, or the path is planned as a whole, the file is read a second time to be drawn.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from legato._files import PathLike, PendingFile
from legato.errors import ArgumentError, InputError
from legato.video.choices import Rotation
from legato.video.filling import VIEW, Beyond, Filler, Lender, Neighborhood, Retreat, Source, reach_frames
from legato.video.framing import Framing, beyond, blackened, moved
from legato.video.media.copying import VideoCopy
from legato.video.media.decoding import Ahead, Decoder
from legato.video.media.planes import Planes
from legato.video.media.reader import VideoFrame, VideoReader
from legato.video.media.writer import VideoWriter
from legato.video.motion.analysis import Analysis, FrameTracker, Step
from legato.video.motion.letterbox import Inset, inside, picture_inside, warp_inside
from legato.video.motion.refinement import block_frames, looked_again
from legato.video.options import Estimate, Request
from legato.video.pipeline import DEPTH, Consumer, Producer, Stopwatch, room_for_pictures
from legato.video.planning import PathPlanner, window_frames
from legato.video.presets import believable_rate
from legato.video.progress import Progress
from legato.video.results.report import StabilizeReport
from legato.video.results.tracks import TrackJitter
from legato.video.side_files import SideFiles
from legato.video.warping import warp

__all__ = ["Drawing", "Following", "Writing", "followed", "opened", "tracker_of"]

Floats: TypeAlias = NDArray[np.float64]
_ToDraw: TypeAlias = tuple[tuple[VideoFrame, int], Lender, list[Source]]  # with the place in the video

# Jitter is measured in three pictures out of so many: 0.3 ms a picture of 640 x 360.
_MEASURED_EVERY = 15


def opened(source: PathLike, asked: Estimate, rotation: Rotation) -> VideoReader:
    """Open a video as its options say."""
    return VideoReader(
        source.decoder() if isinstance(source, Ahead) else source,
        rotate=rotation == "apply",
        stream=asked.stream,
        deinterlace=asked.deinterlace,
        allow_playlists=asked.allow_playlists,
    )


def tracker_of(reader: VideoReader, asked: Estimate, inset: Inset | None) -> FrameTracker:
    """Give what follows the frames of a video, inside of its bars."""
    return FrameTracker(
        reader, mask=asked.mask, region=asked.region, subject=asked.subject, backend=asked.backend, inset=inset
    )


def followed(
    pictures: Iterable[VideoFrame], reader: VideoReader, tracker: FrameTracker, watch: Stopwatch, tell: Progress
) -> Iterator[tuple[VideoFrame, Step]]:
    """Follow the frames of a reader, and look again where that is called for."""
    size = (reader.width, reader.height)
    steps = tracker.follow(pictures, watch, tell)
    return looked_again(steps, size, float(reader.frame_rate), tracker.usable, watch, tell, tracker.backend)


class Following:
    """Reads the video, and follows it where its motion is not known already.

    Attributes
    ----------
    reader : VideoReader
    inset : (x, y, width, height) of int, or None
        The picture inside of black bars.
    """

    def __init__(self, request: Request, open_files: contextlib.ExitStack, watch: Stopwatch, tell: Progress) -> None:
        self._request, self._open_files, self._watch, self._tell = request, open_files, watch, tell
        self._known = known = request.known
        self._steps: list[Step] = []
        reader = opened(request.begun or request.source, request.estimate, request.rotation)
        self.reader = reader = open_files.enter_context(reader)
        size = (reader.width, reader.height)
        if known is not None and known.size != size:
            was, now = ("{}x{}".format(*s) for s in (known.size, size))
            raise InputError(f"{known.source}: motion of a video of {was}, and {reader.path} is {now}")
        self.inset = picture_inside(reader)
        self._tracker = None if known is not None else tracker_of(reader, request.estimate, self.inset)
        # The first pictures are decoded while the rest is made ready.
        self._pictures = open_files.enter_context(Producer(watch.steps(reader, "decode"), "decode"))
        self._read = False

    def steps(self) -> Iterator[tuple[VideoFrame | None, Step]]:
        """Give each frame and its motion; no frames where the motion is known, since nothing needs to be read then."""
        if self._tracker is None:
            assert self._known is not None
            for step in self._known.steps():
                yield None, step
            return
        for frame, step in followed(self._pictures, self.reader, self._tracker, self._watch, self._tell):
            self._steps.append(replace(step, traces=None))  # which is for the guard alone, and much
            yield frame, step
        self._read = True

    def analysis(self) -> Analysis:
        """Give the motion of the whole video."""
        if self._tracker is None:
            assert self._known is not None
            return self._known
        return self._tracker.analysis(self._steps)

    def read(self) -> None:
        """See to it that the video was read to its end: what it holds may be damaged, or another than was followed."""
        if not self._read:
            assert self._known is not None
            for frame in self._known.check_pictures(self._pictures):
                self._tell("check", frame.index + 1, len(self._known))
            self._read = True

    def pictures(self, analysis: Analysis) -> Iterator[VideoFrame]:
        """Give all pictures, from the first on; a file that was read is read again."""
        if self._read:
            again = self._watch.steps(_again(self._request.source, self.reader), "decode")
            self._pictures = self._open_files.enter_context(Producer(again, "decode"))
        return analysis.check_pictures(self._pictures)


class _Waiting:
    """Pictures that have been followed and not drawn yet.

    Attributes
    ----------
    frames : deque of VideoFrame
    whole : bool
        Whether they are all here; otherwise there was no room for them, and none is kept.
    """

    def __init__(self, room: int, planned: int, expected: int | None) -> None:
        self.frames: deque[VideoFrame] = deque()
        self.whole = True
        self._room, self._planned, self._expected = room, planned, expected
        self._bytes = 0  # of a picture

    def add(self, frame: VideoFrame, *, begun: bool) -> None:
        """Keep a picture; let go of all once they are, or are certain to become, too many, and none is drawn yet."""
        count = len(self.frames) + 1
        if frame.index == 0:
            planes = frame.planes
            self._bytes = planes.nbytes
            count = self._expected or 1
            if self._planned:  # and a block may be held for a second look
                held = block_frames((planes.y.shape[1], planes.y.shape[0]), planes.y.itemsize)
                count = min(count, self._planned + held)
        if count * self._bytes > self._room and not begun:
            self.whole = False
        if self.whole:
            self.frames.append(frame)
        else:
            self.frames.clear()


def _again(source: PathLike, first: VideoReader) -> Iterator[VideoFrame]:
    decoder = Decoder(source, stream=first.decoder.stream.index, allow_playlists=first.decoder.allow_playlists)
    with VideoReader(decoder, rotate=first.rotate, deinterlace=first.deinterlace) as reader:
        yield from reader


def _copy(destination: PathLike, reader: VideoReader, writer: VideoWriter) -> VideoCopy | None:
    """Put a copy of the packets in the writer's place, where the pictures would be the same but for the encoding."""
    sound = not (reader.skipped_packets or reader.damaged_frames or reader.repaired_timestamps)
    if not sound or reader.rotation or writer.size != (reader.width, reader.height):
        return None
    try:
        copy = VideoCopy(destination, reader)
    except ArgumentError:
        return None  # the container does not hold them
    writer.abort()
    return copy


class Drawing:
    """Keeps pictures until they are planned, draws them by their corrections and gives them to the encoder.

    Warp and encoder work in two threads of their own.
    """

    def __init__(
        self,
        request: Request,
        following: Following,
        writing: Writing,
        plan: PathPlanner,
        open_files: contextlib.ExitStack,
        watch: Stopwatch,
        tell: Progress,
    ) -> None:
        reader, self._inset = following.reader, following.inset
        # What is drawn anew: the output, or what of it is inside of black bars.
        x, y, *inner = self._inset or (0, 0, reader.width, reader.height)
        right, bottom = (min(a + b, c) for a, b, c in zip((x, y), inner, writing.writer.size, strict=True))
        self._part: Inset = (x, y, right - x, bottom - y)
        self._corner = np.array([x, y], np.float64)
        self._output, self._writer, self._plan = request.output, writing.writer, plan
        self._watch, self._tell = watch, tell
        self._color_range = reader.color.range
        self._taken = 0  # planned pictures that were taken from those that wait
        self._count = 0  # pictures handed to the warp
        sizes = (reader.width, reader.height), writing.writer.size
        self._before, self._after = (TrackJitter(size, _MEASURED_EVERY) for size in sizes)
        # Half of what comes out of the plan at once waits before the encoder: the tracker is twice as fast as that.
        window_s = request.aim.setting.window_s
        rate = believable_rate(float(reader.frame_rate))
        window, stride = (0, 0) if window_s is None else window_frames(window_s, rate)
        self.filler = filler = Filler(rate) if request.aim.filled else None
        reach = 0 if filler is None else reach_frames(writing.writer.new_planes().nbytes, rate)
        self._neighbors = Neighborhood(reach, rate)
        self._retreat: Retreat[_ToDraw] = Retreat(self._part[2:], rate)
        self._around = 0 if filler is None else 2 * reach + self._retreat.span
        room = open_files.enter_context(room_for_pictures())
        self._waiting = _Waiting(room, window + stride // 2 + self._around, reader.frame_count)
        self._stages = open_files.enter_context(contextlib.ExitStack())
        self._encode = self._stages.enter_context(Consumer(writing.encode, "encode"))
        self._drawing = open_files.enter_context(contextlib.ExitStack())
        self._warp = self._drawing.enter_context(Consumer(self._drawn, "warp", stride // 2 + DEPTH))

    @property
    def filled(self) -> dict[str, float] | None:
        """What was filled, in figures; None: that was not asked for."""
        if self.filler is None:
            return None
        memory = self._around * self._writer.new_planes().nbytes
        kept = {"view": VIEW, "reach_frames": self._neighbors.reach, "memory_bytes": memory}
        return kept | self.filler.filling.figures() | {"retreat": self._retreat.mean}

    def keep(self, frame: VideoFrame | None) -> None:
        """Take the next picture, to be drawn when it is planned; None: it is not here, and will be read for that."""
        if frame is None:
            self._waiting.whole = False
        else:
            self._waiting.add(frame, begun=self._taken > 0)

    def draw_ready(self, expected: int | None) -> None:
        """Draw the pictures that wait and are planned; of how many in all, as far as that is known."""
        while self._waiting.frames and self._taken < self._plan.ready:
            self._draw(self._waiting.frames.popleft(), expected)

    def draw_rest(self, following: Following, analysis: Analysis) -> None:
        """Draw all that is not drawn yet; everything is planned."""
        if self._waiting.whole:
            self.draw_ready(len(analysis))
        else:
            for frame in following.pictures(analysis):
                self._draw(frame, len(analysis))

    def finish_drawing(self) -> None:
        """There are no more pictures. Where pictures are filled, wait until it is settled how all are drawn."""
        for one in self._neighbors.finish():
            self._hand_over(one, self._count)
        if self.filler is not None:
            self._warp(None)
            self._drawing.close()

    def finish(self) -> None:
        """Wait until all that was taken is drawn and encoded."""
        self._drawing.close()
        self._stages.close()

    @property
    def jitter_px(self) -> tuple[float, float]:
        """Measured jitter before and after, of a sample of the pictures drawn."""
        return self._before.px, self._after.px

    def _draw(self, frame: VideoFrame, expected: int | None) -> None:
        step = self._plan.step(self._taken)
        planes = frame.planes if self._inset is None else inside(frame.planes, self._inset)
        lender = Lender(planes, self._within(step.motion), step.ok)
        for one in self._neighbors.push((frame, self._taken), lender):
            self._hand_over(one, expected)
        self._taken += 1

    def _within(self, mapping: Floats) -> Floats:
        """Give a map between pictures as one between what is inside of their bars."""
        return np.asarray(moved(-self._corner) @ mapping @ moved(self._corner))

    def _hand_over(self, one: _ToDraw, expected: int | None) -> None:
        self._warp(one)  # waits while too many lie there
        self._count += 1
        self._tell("render", self._count, expected)

    def _drawn(self, one: _ToDraw | None) -> None:
        """Draw a picture, or those that are behind it; None: there are no more."""
        if self.filler is None:
            ready: list[tuple[_ToDraw, Floats | None]] = [] if one is None else [(one, None)]
        else:
            with self._watch("fill"):
                tried = () if one is None else self._tried(self.filler, one)
                ready = list(self._retreat.finish() if one is None else self._retreat.push(one, *tried))
        for first, moved_in in ready:
            index = first[0][1]
            if moved_in is not None:
                moved_in = moved(self._corner) @ moved_in @ moved(-self._corner)
                self._plan.corrections[index] = self._plan.corrections[index] @ moved_in
            self._finish(first)

    def _tried(self, filler: Filler, one: _ToDraw) -> tuple[NDArray[np.float32], Beyond] | tuple[()]:
        """Give the errors that a picture would have, and where; not of all pictures."""
        (_, index), lender, sources = one
        if self._plan.inside or not self._retreat.looks_at(index):
            return ()
        view = Beyond(self._within(self._plan.corrections[index]), self._part[2:], lender.planes.size)
        return filler.tried(view.size, view.correction, lender, sources), view

    def _finish(self, one: _ToDraw) -> None:
        (frame, index), lender, sources = one
        correction = self._plan.corrections[index]
        shown: NDArray[np.bool_] | None = None
        how: Any = {"interpolation": self._output.interpolation, "threads": self._output.threads}
        with self._watch("warp"):
            steady = self._writer.new_planes()
            if self._inset is None:
                warp(frame.planes, correction, self._writer.size, out=steady, **how)
            else:
                warp_inside(frame.planes, correction, self._inset, steady, **how)
            if self._output.keep_borders is not None:
                outside = beyond(correction, steady.size, frame.planes.size)
                blackened(steady, outside, self._color_range)
                shown = ~outside
        if self.filler is not None:
            with self._watch("fill"):
                self.filler(inside(steady, self._part), self._within(correction), lender, sources)
        with self._watch("metrics"):
            self._before.push(frame.planes)
            self._after.push(steady)
        self._encode((frame, steady, shown))


class Writing:
    """The files: the result, encoded or copied, and those beside it, whole or not at all.

    Attributes
    ----------
    framing : Framing
        What is shown of them.
    writer : VideoWriter
        Of the steady pictures.
    copy : VideoCopy or None
        What takes its place where the packets are kept.
    pair_writer : VideoWriter or None
        Of original and result side by side.
    beside : SideFiles
    """

    def __init__(
        self,
        request: Request,
        following: Following,
        beside: SideFiles,
        open_files: contextlib.ExitStack,
        watch: Stopwatch,
    ) -> None:
        self._request, self._open_files, self._watch, self.beside = request, open_files, watch, beside
        files, encoding = request.files, request.output.encoding
        self.copy: VideoCopy | None = None
        reader, inset = following.reader, following.inset
        size, border, scale = (reader.width, reader.height), request.output.keep_borders, request.output.scale
        if inset is not None and not scale:
            raise ArgumentError("scale: a picture between black bars cannot be cut out of them: it has to be enlarged")
        view = VIEW if request.aim.filled else None
        self.framing = Framing.of(size, request.aim.path_options, scale=scale, border=border, inset=inset, view=view)
        self.writer = VideoWriter(
            request.destination, reader, size=self.framing.size, alpha=border == "transparent", **encoding
        )
        open_files.callback(self.writer.abort)
        self.pair_writer = None
        if files["compare"] is not None:
            from legato.video.results.comparison import Comparison

            pair = (2 * self.writer.size[0], self.writer.size[1])
            self.pair_writer = VideoWriter(files["compare"], reader, size=pair, **encoding)
            open_files.callback(self.pair_writer.abort)
            self._comparison = Comparison(self.writer.size)
        self._pending = {
            name: open_files.enter_context(PendingFile(path))
            for name in ("report", "plot", "save_motion")
            if (path := files[name]) is not None
        }

    @property
    def written(self) -> VideoWriter | VideoCopy:
        """What makes the result."""
        return self.copy or self.writer

    @property
    def comparison(self) -> VideoWriter | None:
        """What makes the comparison, unless that failed."""
        pair_writer = self.pair_writer
        return None if pair_writer is None or pair_writer.path in self.beside.errors else pair_writer

    def encode(self, item: tuple[VideoFrame, Planes, NDArray[np.bool_] | None]) -> None:
        """Write an original and its steady picture, and where that shows something."""
        frame, steady, shown = item
        pair_writer = self.comparison
        if pair_writer is not None:
            with self._watch("compare"), self.beside.attempt(pair_writer.path):
                pair = self._comparison.draw(self.framing.cut(frame.planes), steady, pair_writer.new_planes())
                pair_writer.write(pair, frame.pts, frame.duration)
            if pair_writer.path in self.beside.errors:
                pair_writer.abort()  # at once: on a full disk the result needs its room
        with self._watch("encode"):
            self.writer.write(steady, frame.pts, frame.duration, shown=shown)

    def write_motion(self, analysis: Analysis) -> None:
        """Write the motion file, if it was asked for."""
        if "save_motion" in self._pending:
            pending = self._pending["save_motion"]
            with self.beside.attempt(pending.destination):
                pending.write_text(analysis.lines())

    def copied(self, following: Following) -> bool:
        """Copy the packets instead, where the pictures would be the same but for the encoding; False: they are not."""
        request = self._request
        if request.output.chosen or request.estimate.deinterlace or self.pair_writer is not None:
            return False
        following.read()
        self.copy = _copy(request.destination, following.reader, self.writer)
        if self.copy is not None:
            self._open_files.callback(self.copy.abort)
        return self.copy is not None

    def finish(self) -> None:
        """Write what encoders and copy still hold."""
        with self._watch("encode" if self.copy is None else "copy"):
            self.written.finish()
        pair_writer = self.comparison
        if pair_writer is not None:
            with self._watch("compare"), self.beside.attempt(pair_writer.path):
                pair_writer.finish()

    def write_plot(self, draw_path: Callable[[IO[bytes], str], None]) -> None:
        """Draw the path before and after, if that was asked for."""
        if "plot" in self._pending:
            pending = self._pending["plot"]
            with self._watch("plot"), self.beside.attempt(pending.destination), pending.opened() as file:
                draw_path(file, pending.destination.suffix)

    def commit(self, result: StabilizeReport) -> None:
        """Write the report, and let all files appear under their names."""
        if "report" in self._pending:
            pending = self._pending["report"]
            with self.beside.attempt(pending.destination):
                pending.write_text([result.to_json()])
        self.written.commit()
        others: dict[Path, PendingFile | VideoWriter] = {one.destination: one for one in self._pending.values()}
        if self.pair_writer is not None:
            others[self.pair_writer.path] = self.pair_writer
        for path, other in others.items():
            if path not in self.beside.errors:
                with self.beside.attempt(path):
                    other.commit()
