"""Stabilize a video file: estimate the motion, smooth the path, draw the pictures again.

The file is read once. While its first pictures are drawn and encoded, later ones are still being followed: each waits
until a window of the path that begins with it is planned. Decoder, tracker, warp and encoder work beside each other.
Pictures that wait are kept as they were decoded; where that would be too much memory, or the path is planned as a
whole, the file is read a second time to be drawn.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from legato import camera
from legato._files import PathLike, PendingFile
from legato._log import LOG
from legato._scalars import as_choice
from legato.errors import ArgumentError, InputError
from legato.video.choices import ROTATIONS, Backend, Border, Inclusion, Interpolation, Rotation
from legato.video.filling import VIEW, Filler, Lender, Neighborhood, Retreat, Source, between, reach_frames
from legato.video.framing import Framing, beyond, blackened
from legato.video.media.copying import VideoCopy
from legato.video.media.decoding import Ahead, Decoder
from legato.video.media.planes import Planes
from legato.video.media.reader import NOT_TRANSPARENT, VideoFrame, VideoReader
from legato.video.media.writer import VideoWriter
from legato.video.motion.analysis import Analysis, FrameTracker, Step
from legato.video.motion.letterbox import Inset, picture_inside, warp_inside
from legato.video.motion.refinement import block_frames, looked_again
from legato.video.motion.subjects import Box
from legato.video.options import Aim, Estimate, Request
from legato.video.pipeline import DEPTH, Consumer, Producer, Stopwatch, room_for_pictures
from legato.video.planning import Aims, PathPlanner, window_frames
from legato.video.presets import PresetName, believable_rate
from legato.video.progress import Progress, told
from legato.video.results.figures import curves, path_figures
from legato.video.results.report import StabilizeReport, package_versions
from legato.video.results.tracks import TrackJitter
from legato.video.side_files import SideFiles
from legato.video.warping import warp

__all__ = ["analyze", "render", "stabilize"]

Floats: TypeAlias = NDArray[np.float64]
_ToDraw: TypeAlias = tuple[tuple[VideoFrame, int], Lender, list[Source]]  # with the place in the video

# Jitter is measured in three pictures out of so many: 0.3 ms a picture of 640 x 360.
_MEASURED_EVERY = 15


def analyze(
    source: PathLike,
    *,
    mask: PathLike | NDArray[Any] | None = None,
    region: Box | None = None,
    subject: Box | None = None,
    rotation: Rotation = "apply",
    stream: int | None = None,
    deinterlace: bool = False,
    backend: Backend = "native",
    allow_playlists: bool = False,
    progress: bool | Progress = False,
) -> Analysis:
    """Estimate the motion of a video: the first half of `stabilize`, to be used again.

    Pairs of frames whose motion is hard to measure are looked at twice, the second time in steadied pictures.

    Parameters
    ----------
    source : str or path
        The video to read.
    mask : path, or (height, width) bool or uint8 array, optional
        Where the scene may be followed: white (nonzero). Black: logos, the car's dashboard, people close by.
    region : (x, y, width, height), optional
        Follow the scene within this box alone, in pixels.
    subject : (x, y, width, height), optional
        A box in the first frame that is followed, to be kept in view and, by the preset "follow", in the middle.
    rotation : {"apply", "keep"}
        Whether the pictures are turned upright before, or stay as they are stored with their tag.
    stream : int, optional
        Which of the file's streams, as FFmpeg counts all of them from 0; by default the video stream that is marked as
        default, of several, or of none, the one of the largest pictures.
    deinterlace : bool
        Whether pictures of two interleaved fields become whole ones first, by FFmpeg's filter ``bwdif``: those that are
        marked as interlaced, or all where the first is not.
    backend : {"native", "opencv"}
        What follows the scene (see `Tracker`); OpenCV is for comparison.
    allow_playlists : bool
        As for `stabilize`.
    progress : bool or callable
        As for `stabilize`.

    Returns
    -------
    Analysis
        To be given to `render`, or saved to a motion file.

    Raises
    ------
    InputError
        If the source cannot be read, is no video, or changes its size.
    ArgumentError
        If an argument is not as described.
    DependencyError
        If a package of the extra ``video`` is not installed.
    """
    asked = Estimate.of(locals())  # first of all: these are the arguments, and nothing else yet
    rotation = as_choice("rotation", rotation, ROTATIONS)
    watch = Stopwatch()
    with told(progress) as tell, _opened(source, asked, rotation) as reader:
        inset = picture_inside(reader)
        tracker = _tracker(reader, asked, inset)
        with Producer(watch.steps(reader, "decode"), "decode") as pictures:
            plan = _planner(Aim(), Estimate(), reader, watch, inset)
            steps = []
            for _, step in _followed(pictures, reader, tracker, watch, tell):
                plan.push(step)
                steps.append(replace(step, traces=None))
            plan.finish()
            return replace(tracker.analysis(steps), gain=plan.gain)


def render(source: PathLike, motion: Analysis | PathLike, destination: PathLike, **options: Any) -> StabilizeReport:
    """Stabilize a video whose motion is known: the second half of `stabilize`.

    Parameters
    ----------
    source : str or path
        The video to read.
    motion : Analysis or path
        What `analyze` gave, or a motion file; also one written by other software.
    destination : str or path
        The video to write.
    **options
        Those of `stabilize`, but `mask`, `region` and `subject`, which are for the estimate of the motion.

    Returns
    -------
    StabilizeReport

    Raises
    ------
    InputError
        Also if the motion is of another video: frames, size or timestamps differ.
    """
    return stabilize(source, destination, motion=motion, **options)


def stabilize(
    source: PathLike,
    destination: PathLike,
    *,
    motion: Analysis | PathLike | None = None,
    preset: PresetName = "standard",
    crop: float | None = None,
    options: camera.PathOptions | None = None,
    mask: PathLike | NDArray[Any] | None = None,
    region: Box | None = None,
    subject: Box | None = None,
    salient: PathLike | NDArray[Any] | None = None,
    inclusion: Inclusion = "soft",
    center: float | None = None,
    fill: bool | None = None,
    guard: bool | None = None,
    rotation: Rotation | None = None,
    stream: int | None = None,
    deinterlace: bool = False,
    backend: Backend = "native",
    interpolation: Interpolation = "bicubic",
    keep_borders: Border | None = None,
    scale: bool = True,
    codec: str | None = None,
    crf: float | None = None,
    encoder_preset: str = "veryfast",
    pixel_format: str | None = None,
    overwrite: bool = True,
    save_motion: PathLike | None = None,
    compare: bool | PathLike | None = None,
    report: bool | PathLike | None = None,
    plot: bool | PathLike | None = None,
    allow_playlists: bool = False,
    progress: bool | Progress = False,
    threads: int = 1,
) -> StabilizeReport:
    """Turn a shaky video into a steady one; keep its sound, timestamps, rotation and colour tags.

    Every file appears under its name complete or not at all: after an error or an interruption, what stood there
    before stands there still. A file beside the result that cannot be written costs neither that nor the others.

    Parameters
    ----------
    source : str or path
        The video to read.
    destination : str or path
        The video to write; its extension picks the container (see `VideoWriter`).
    motion : Analysis or path, optional
        The motion, where it is known already: what `analyze` gave, or a motion file.
    preset : {"standard", "gentle", "smooth", "steady", "full", "tripod", "follow"}
        How steady against how much of the view is kept. "pan" and "walk" are other names of "standard" and "smooth".
    crop : float, optional
        Part of the field of view that may be given up, in place of the preset's; more is smoother.
    options : legato.camera.PathOptions, optional
        The whole path problem, in place of the preset's. Weights are meant for 30 frames a second and adapted to the
        video's rate.
    mask, region, subject
        For the estimate of the motion, see `analyze`. The subject is kept in view.
    salient : path or (n, m, 2) array, optional
        Points to keep in view, in pixels, NaN for none; or a CSV or JSON file of points and boxes (see
        `legato.video.motion.subjects.read_salient`).
    inclusion : {"soft", "hard"}
        Whether subject and salient points are kept in view as far as possible, or must be: then it is an error where
        the crop does not allow it.
    center : float, optional
        Weight that pulls the subject, or the middle of the salient points, to the center of the picture; by default
        that of the preset, which is 0 but for "follow".
    fill : bool, optional
        Whether to show 98 % of the view whatever the crop, and to take what a frame lacks of it from the frames before
        and after; by default only in the preset "full".
    guard : bool, optional
        Whether a clip that would not become steadier is left as it is. By default it is, and the report's
        `not_followed` names what was asked for in vain; True takes that for an answer. Not asked where there is
        something to bring to the middle.
    rotation : {"apply", "keep"}, optional
        Whether the pictures are turned upright, or stay as they are stored and the tag is written again; by default
        as the motion was estimated, or "apply".
    stream, deinterlace, backend
        See `analyze`.
    interpolation : {"bilinear", "bicubic", "lanczos"}
        How pictures are resampled. Bilinear is the fastest and visibly softens the picture.
    keep_borders : {"black", "transparent"}, optional
        Show all that there is of each steadied picture, uncropped, and this where there is none. Transparent: in .mov
        (by default ProRes 4444), .webm (VP9) and .mkv (FFV1).
    scale : bool
        Whether what the crop leaves is enlarged to the size of the source. Otherwise it is written as it is: a smaller
        picture, of the same size whatever the clip is.
    codec, crf, encoder_preset, pixel_format
        The encoder (see `VideoWriter`). Where none but `encoder_preset` is given, a clip that is left as it is keeps
        its own packets and is not encoded again, if the destination's container can hold them.
    overwrite : bool
        Whether existing files may be replaced; looked at before the work.
    save_motion : path, optional
        Also write the motion file.
    compare, report, plot : bool or path, optional
        Also write original and result side by side, the report as JSON, and a drawing of the camera path before and
        after (.svg, .png or .pdf). True: beside the destination, with "_compare", "_report.json" and "_path.svg" added
        to its name.
    allow_playlists : bool
        Whether the source may be a list of other files (HLS, DASH, concat and the like): FFmpeg then reads whatever it
        names, files of this computer included.
    progress : bool or callable
        True shows a bar on stderr; a callable gets (stage, frames done, frames in all or None), with the stages
        "track", "refine" (where motions are measured twice) or "check" (of a known motion that rests), and "render",
        which take turns.
    threads : int
        Threads for the warp; decoder and encoder choose their own.

    Returns
    -------
    StabilizeReport
        What was done, with the estimated motion and the corrections.

    Raises
    ------
    InputError
        If the source cannot be read, is no video, or changes its size, or the motion is not its own.
    OutputError
        If a file cannot be written.
    SideFileError
        If that is one beside the result, and the result is complete.
    ArgumentError
        If an argument is not as described, or a destination is the source itself.
    InfeasibleError
        If points that must be in view cannot be.
    DependencyError
        If a package of the extra ``video`` is not installed.
    """
    request = Request.of(locals())  # first of all: these are the arguments, and nothing else yet
    watch, beside = Stopwatch(), SideFiles()
    LOG.debug("stabilize %s -> %s", request.source, request.destination)
    with contextlib.ExitStack() as open_files:
        tell = open_files.enter_context(told(progress))
        following = _Following(request, open_files, watch, tell)
        # All files to write are opened now: what is wrong with them is better known before the work.
        writing = _Writing(request, following, beside, open_files, watch)
        plan = _planner(
            request.aim, request.estimate, following.reader, watch, following.inset, request.known, writing.framing
        )
        drawing = _Drawing(request, following, writing, plan, open_files, watch, tell)
        for frame, step in following.steps():
            drawing.keep(frame)
            plan.push(step)
            drawing.draw_ready(following.reader.frame_count)
        plan.finish()
        analysis = replace(following.analysis(), gain=plan.gain)
        writing.write_motion(analysis)
        if not (plan.status == "rest" and writing.copied(following)):
            drawing.draw_rest(following, analysis)
        drawing.finish_drawing()
        measured = _Reporting(request, following.reader, analysis, plan, watch)  # while the encoder is at the last
        drawing.finish()
        writing.finish()
        writing.write_plot(measured)
        result = measured.report(writing, drawing.jitter_px, drawing.filled)
        writing.commit(result)
    LOG.info("%s", result.summary())
    for note in result.notes:
        LOG.info("%s: %s", request.destination, note)
    beside.check(request.destination, result)
    return result


def _opened(source: PathLike, asked: Estimate, rotation: Rotation) -> VideoReader:
    opened = source.decoder() if isinstance(source, Ahead) else source
    return VideoReader(
        opened,
        rotate=rotation == "apply",
        stream=asked.stream,
        deinterlace=asked.deinterlace,
        allow_playlists=asked.allow_playlists,
    )


def _tracker(reader: VideoReader, asked: Estimate, inset: Inset | None) -> FrameTracker:
    return FrameTracker(
        reader, mask=asked.mask, region=asked.region, subject=asked.subject, backend=asked.backend, inset=inset
    )


def _followed(
    pictures: Iterable[VideoFrame], reader: VideoReader, tracker: FrameTracker, watch: Stopwatch, tell: Progress
) -> Iterator[tuple[VideoFrame, Step]]:
    """Follow the frames of a reader, and look again where that is called for."""
    size = (reader.width, reader.height)
    steps = tracker.follow(pictures, watch, tell)
    return looked_again(steps, size, float(reader.frame_rate), tracker.usable, watch, tell, tracker.backend)


class _Following:
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
        reader = _opened(request.begun or request.source, request.estimate, request.rotation)
        self.reader = reader = open_files.enter_context(reader)
        size = (reader.width, reader.height)
        if known is not None and known.size != size:
            was, now = ("{}x{}".format(*s) for s in (known.size, size))
            raise InputError(f"{known.source}: motion of a video of {was}, and {reader.path} is {now}")
        self.inset = picture_inside(reader)
        self._tracker = None if known is not None else _tracker(reader, request.estimate, self.inset)
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
        for frame, step in _followed(self._pictures, self.reader, self._tracker, self._watch, self._tell):
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


def _planner(
    aim: Aim,
    estimate: Estimate,
    reader: VideoReader,
    watch: Stopwatch,
    inset: Inset | None,
    known: Analysis | None = None,
    framing: Framing | None = None,
) -> PathPlanner:
    subject = estimate.subject is not None or (known is not None and known.subject is not None)
    aims = Aims.of(aim.salient, subject=subject, hard=aim.inclusion == "hard", center=aim.pull)
    return PathPlanner(
        (reader.width, reader.height),
        aim.path_options,
        window_s=aim.setting.window_s,
        guard=aim.guard is not False,
        gain=None if known is None else known.gain,
        inset=inset,
        aims=aims,
        time_base=reader.time_base if known is None else known.time_base,
        frame_rate=float(reader.frame_rate if known is None else known.frame_rate or reader.frame_rate),
        watch=watch,
        framing=framing,
    )


def _lost(analysis: Analysis) -> int | None:
    if analysis.subject is None:
        return None
    gone = np.flatnonzero(np.isnan(analysis.subject).any(1))
    return int(gone[0]) if len(gone) else None


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


def _notes(
    analysis: Analysis,
    reader: VideoReader,
    plan: PathPlanner,
    written: VideoWriter | VideoCopy,
    *,
    copied: bool,
    hard: bool,
) -> list[str]:
    notes = list(dict.fromkeys([*analysis.notes, *reader.notes]))
    if plan.status not in ("optimal", "none", "rest"):
        why = f" ({plan.status}); what must be in view leaves it little room, a larger crop gives more" if hard else ""
        notes.append("the path is feasible but not proven optimal" + (why or f": {plan.status}"))
    if plan.status == "rest" and plan.gain is not None:
        notes.append(plan.gain.reason())
    notes += written.notes
    if copied:
        notes = [note for note in notes if note != NOT_TRANSPARENT]
        notes.append("its pictures are not encoded again")
    if written.damaged_packets:
        notes.append(f"{written.damaged_packets} damaged packets of sound or subtitles were left out")
    lost = _lost(analysis)
    if lost is not None:
        notes.append(f"the subject was lost in frame {lost}")
    return notes


class _Drawing:
    """Keeps pictures until they are planned, draws them by their corrections and gives them to the encoder.

    Warp and encoder work in two threads of their own.
    """

    def __init__(
        self,
        request: Request,
        following: _Following,
        writing: _Writing,
        plan: PathPlanner,
        open_files: contextlib.ExitStack,
        watch: Stopwatch,
        tell: Progress,
    ) -> None:
        reader, self._inset = following.reader, following.inset
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
        self._retreat: Retreat[_ToDraw] = Retreat(writing.writer.size, rate)
        self._window_map = camera.crop_map((reader.width, reader.height), request.aim.path_options)
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

    def draw_rest(self, following: _Following, analysis: Analysis) -> None:
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
        lender = Lender(frame.planes, step.motion, step.ok)
        for one in self._neighbors.push((frame, self._taken), lender):
            self._hand_over(one, expected)
        self._taken += 1

    def _hand_over(self, one: _ToDraw, expected: int | None) -> None:
        self._warp(one)  # waits while too many lie there
        self._count += 1
        self._tell("render", self._count, expected)

    def _drawn(self, one: _ToDraw | None) -> None:
        """Draw a picture, or those that are behind it; None: there are no more."""
        if self.filler is None:
            ready = [] if one is None else [(one, 0.0)]
        else:
            with self._watch("fill"):
                tried = () if one is None else self._tried(self.filler, one)
                ready = list(self._retreat.finish() if one is None else self._retreat.push(one, *tried))
        for first, share in ready:
            index = first[0][1]
            if share > 0:
                self._plan.corrections[index] = between(*self._views(index), share)
            self._finish(first)

    def _views(self, index: int) -> tuple[Floats, Floats]:
        """How a picture is drawn that needs filling, and how the window alone is, which does not."""
        return self._plan.corrections[index], self._plan.window[index] @ self._window_map

    def _tried(self, filler: Filler, one: _ToDraw) -> tuple[NDArray[np.float32], Floats, Floats] | tuple[()]:
        """Give the errors that a picture would have; not of all pictures."""
        (_, index), lender, sources = one
        if self._plan.inside or not self._retreat.looks_at(index):
            return ()
        wide, narrow = self._views(index)
        return filler.tried(self._writer.size, wide, lender, sources), wide, narrow

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
                self.filler(steady, correction, lender, sources)
        with self._watch("metrics"):
            self._before.push(frame.planes)
            self._after.push(steady)
        self._encode((frame, steady, shown))


class _Writing:
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
        following: _Following,
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
        if inset is not None and request.aim.filled:
            raise ArgumentError("fill: a picture between black bars is not filled, it can only be cropped")
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

    def copied(self, following: _Following) -> bool:
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

    def write_plot(self, measured: _Reporting) -> None:
        """Draw the path before and after, if that was asked for."""
        if "plot" in self._pending:
            pending = self._pending["plot"]
            with self._watch("plot"), self.beside.attempt(pending.destination), pending.opened() as file:
                measured.draw_path(file, pending.destination.suffix)

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


class _Reporting:
    """Measures the path when it is planned, and tells what was done when that is written."""

    def __init__(
        self, request: Request, reader: VideoReader, analysis: Analysis, plan: PathPlanner, watch: Stopwatch
    ) -> None:
        self._request, self._reader, self._analysis, self._plan, self._watch = request, reader, analysis, plan, watch
        self._size = (reader.width, reader.height)
        self._rate = analysis.frame_rate or float(reader.frame_rate)
        with watch("metrics"):
            self._motion = camera.bridge_motion(analysis.motion, analysis.ok)
            solved = plan.status not in ("none", "rest")
            shown = np.array(plan.corrections)
            if solved and not plan.framing.wide:
                shown = np.array(plan.window) @ plan.framing.measured
            self._figures = path_figures(self._motion, shown, self._size, self._rate, plan.gain, inside=plan.inside)
            self._curves = curves(analysis, self._motion, np.array(plan.window), self._rate)

    def draw_path(self, file: IO[bytes], kind: str) -> None:
        """Draw the path before and after."""
        from legato.camera.plotting import plot_path

        plot_path(self._motion, np.array(self._plan.window), self._size, file, fps=self._rate, kind=kind)

    def report(
        self, writing: _Writing, jitter_px: tuple[float, float], filled: dict[str, float] | None
    ) -> StabilizeReport:
        """Tell what was done; `jitter_px`: measured, before and after; `filled`: in figures."""
        request, reader, analysis, plan, watch = (
            self._request,
            self._reader,
            self._analysis,
            self._plan,
            self._watch,
        )
        writer, written, comparison = writing.writer, writing.written, writing.comparison
        copied = writing.copy is not None
        if copied and plan.gain is not None:
            jitter_px = plan.gain.before_px, plan.gain.before_px
        alone = plan.status == "rest" and request.aim.guard is None
        return StabilizeReport(
            source=os.fspath(request.source),
            destination=os.fspath(request.destination),
            comparison=None if comparison is None else str(comparison.path),
            motion_file=request.known.source if request.known is not None else None,
            frames=len(analysis),
            size=self._size,
            output_size=writer.size,
            frame_rate=self._rate,
            duration_s=analysis.duration_s or len(analysis) / self._rate,
            codec=reader.codec if copied else writer.codec,
            pixel_format=reader.stored_format if copied else writer.pixel_format,
            preset=request.aim.preset,
            options=asdict(request.aim.path_options),
            motion_known=analysis.known,
            failed=analysis.failed,
            duplicates=[int(t) for t in np.flatnonzero(analysis.duplicate)],
            path_status=plan.status,
            path_gap=plan.gap,
            path_iterations=plan.iterations,
            jitter_in_px=jitter_px[0],
            jitter_out_px=jitter_px[1],
            not_followed=request.asked if alone else [],
            **self._figures,
            filled=filled if plan.inside is False else None,
            subject_lost=_lost(analysis),
            copied_streams=list(written.copied),
            dropped_streams=list(written.not_copied),
            skipped_packets=reader.skipped_packets,
            damaged_frames=reader.damaged_frames,
            repaired_timestamps=reader.repaired_timestamps,
            notes=[
                *_notes(analysis, reader, plan, written, copied=copied, hard=request.aim.inclusion == "hard"),
                *writing.beside.failures(),
            ],
            seconds={**watch.seconds, "total": watch.total},
            shares=watch.shares(),
            versions=package_versions(),
            curves=self._curves,
            motion=self._motion,
            corrections=np.array(plan.corrections),
        )
