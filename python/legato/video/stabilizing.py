"""Stabilize a video file: estimate the motion, smooth the path, draw the pictures again.

The file is read once. While its first pictures are drawn and encoded, later ones are still being followed: each waits
until a window of the path that begins with it is planned. Decoder, tracker, warp and encoder work beside each other.
Pictures that wait are kept as they were decoded; where that would be too much memory, or the path is planned as a
whole, the file is read a second time to be drawn.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from legato import camera
from legato._extras import install_command
from legato._files import PathLike, PendingFile, check_destinations, checked_path, reason
from legato._scalars import as_choice, as_flag, as_number, as_threads, shown
from legato.camera.plotting import path_curves
from legato.errors import ArgumentError, DependencyError, InputError, LegatoError, SideFileError
from legato.video.analysis import ROTATIONS, Analysis, FrameTracker, Rotation, Step
from legato.video.decoding import Ahead
from legato.video.files import (
    NOT_TRANSPARENT,
    VideoCopy,
    VideoFrame,
    VideoReader,
    VideoWriter,
    check_encoder_preset,
)
from legato.video.pipeline import DEPTH, Consumer, Producer, Stopwatch, room_for_pictures
from legato.video.planes import Planes
from legato.video.planning import Aims, PathPlanner, believable_rate, window_frames
from legato.video.presets import PresetName, preset_named
from legato.video.progress import Progress, told
from legato.video.refinement import block_frames, looked_again
from legato.video.report import StabilizeReport, package_versions
from legato.video.subjects import Box
from legato.video.warping import INTERPOLATIONS, Interpolation, warp

__all__ = ["analyze", "render", "stabilize"]

Floats: TypeAlias = NDArray[np.float64]
Inclusion: TypeAlias = Literal["soft", "hard"]
INCLUSIONS: tuple[Inclusion, ...] = get_args(Inclusion)

_PLOT_SUFFIXES = (".svg", ".png", ".pdf")
# Clocks of containers count milliseconds or finer, so the same frame is at most this far from itself.
_SAME_TIME_S = 0.0015


def analyze(
    source: PathLike,
    *,
    mask: PathLike | NDArray[Any] | None = None,
    region: Box | None = None,
    subject: Box | None = None,
    rotation: Rotation = "apply",
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
    with told(progress) as tell, _opened(source, rotation, allow_playlists) as reader:
        tracker = FrameTracker(reader, mask=mask, region=region, subject=subject)
        watch = Stopwatch()
        with Producer(watch.steps(reader, "decode"), "decode") as pictures:
            return tracker.analysis([step for _, step in _followed(pictures, reader, tracker, watch, tell)])


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
    guard: bool = True,
    rotation: Rotation | None = None,
    interpolation: Interpolation = "bicubic",
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
    preset : {"standard", "gentle", "smooth", "tripod", "follow"}
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
        `legato.video.subjects.read_salient`).
    inclusion : {"soft", "hard"}
        Whether subject and salient points are kept in view as far as possible, or must be: then it is an error where
        the crop does not allow it.
    center : float, optional
        Weight that pulls the subject, or the middle of the salient points, to the center of the picture; by default
        that of the preset, which is 0 but for "follow".
    guard : bool
        Whether a clip whose measured jitter is not clearly more than the error of its measurement is left as it is; not
        asked where there is something to bring to the middle.
    rotation : {"apply", "keep"}, optional
        Whether the pictures are turned upright, or stay as they are stored and the tag is written again; by default
        as the motion was estimated, or "apply".
    interpolation : {"bilinear", "bicubic", "lanczos"}
        How pictures are resampled. Bilinear is the fastest and visibly softens the picture.
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
    chosen = preset_named(preset)
    if options is not None and not isinstance(options, camera.PathOptions):
        raise ArgumentError(f"options: expected a legato.camera.PathOptions, got {shown(options)}")
    path_options = chosen.options() if options is None else options
    if crop is not None:
        path_options = replace(path_options, crop=crop)
    inclusion = as_choice("inclusion", inclusion, INCLUSIONS)
    target_weight = chosen.center if center is None else as_number("center", center, least=0, below=1e12)
    interpolation, threads = as_choice("interpolation", interpolation, INTERPOLATIONS), as_threads(threads)
    guard, overwrite = as_flag("guard", guard), as_flag("overwrite", overwrite)
    if rotation is not None:
        rotation = as_choice("rotation", rotation, ROTATIONS)
    check_encoder_preset("encoder_preset", encoder_preset)
    begun = source if isinstance(source, Ahead) else None
    source, destination = checked_path("source", source), checked_path("destination", destination)
    outputs = files_beside(destination, compare=compare, report=report, plot=plot, save_motion=save_motion)
    inputs: dict[str, PathLike] = {"input": source}
    for name, given in (("motion", motion), ("mask", mask), ("salient", salient)):
        if given is not None and not isinstance(given, Analysis | np.ndarray):
            inputs[name] = checked_path(name, given)
    check_destinations(inputs, {"destination": destination, **outputs}, overwrite)
    if outputs["plot"] is not None:
        _check_plot(outputs["plot"])
    if motion is not None and not (mask is None and region is None and subject is None):
        raise ArgumentError("mask, region and subject: the motion is given, so they would have no use")
    known = motion if isinstance(motion, Analysis) or motion is None else Analysis.load(motion)
    if known is not None:
        if rotation not in (None, known.rotation):
            raise ArgumentError(f"rotation: the motion was estimated with {known.rotation!r}")
        rotation = known.rotation
    if target_weight > 0 and salient is None and subject is None and (known is None or known.subject is None):
        raise ArgumentError("center: nothing to follow: give a subject or salient points (preset 'follow', too)")
    encoding: dict[str, Any] = {"codec": codec, "preset": encoder_preset, "pixel_format": pixel_format}
    if crf is not None:
        encoding["crf"] = crf
    watch = Stopwatch()
    beside = SideFiles()

    with contextlib.ExitStack() as open_files:
        tell = open_files.enter_context(told(progress))
        reader = open_files.enter_context(_opened(begun or source, rotation or "apply", allow_playlists))
        size = (reader.width, reader.height)
        if known is not None and known.size != size:
            was, now = ("{}x{}".format(*s) for s in (known.size, size))
            raise InputError(f"{known.source}: motion of a video of {was}, and {reader.path} is {now}")
        tracker = None if known is not None else FrameTracker(reader, mask=mask, region=region, subject=subject)
        # The first pictures are decoded while the rest is made ready.
        pictures = open_files.enter_context(Producer(watch.steps(reader, "decode"), "decode"))
        # All files to write are opened now: what is wrong with them is better known before the work.
        writer = VideoWriter(destination, reader, **encoding)
        open_files.callback(writer.abort)
        pair_writer = None
        if outputs["compare"] is not None:
            pair = (2 * writer.size[0], writer.size[1])
            pair_writer = VideoWriter(outputs["compare"], reader, size=pair, **encoding)
            open_files.callback(pair_writer.abort)
        pending = {
            name: open_files.enter_context(PendingFile(outputs[name] or "", unnamed=True))
            for name in ("report", "plot", "save_motion")
            if outputs[name] is not None
        }

        aims = Aims.of(
            salient,
            subject=subject is not None or (known is not None and known.subject is not None),
            hard=inclusion == "hard",
            center=target_weight,
        )
        window_s = chosen.window_s
        plan = PathPlanner(
            size,
            path_options,
            window_s=window_s,
            guard=guard and (known is None or known.error_px is not None),
            aims=aims,
            time_base=reader.time_base if known is None else known.time_base,
            frame_rate=float(reader.frame_rate if known is None else known.frame_rate or reader.frame_rate),
            watch=watch,
        )
        # Half of what comes out of the plan at once waits before the encoder: the tracker is twice as fast as that.
        known_rate = believable_rate(float(reader.frame_rate))
        window, stride = (0, 0) if window_s is None else window_frames(window_s, known_rate)
        room = open_files.enter_context(room_for_pictures())
        waiting = _Waiting(room, window + stride // 2, reader.frame_count)
        asked = any(choice is not None for choice in (codec, crf, pixel_format, pair_writer))
        copy: VideoCopy | None = None
        draw = open_files.enter_context(
            _Drawing(writer, pair_writer, beside, interpolation, threads, watch, depth=stride // 2 + DEPTH)
        )

        def draw_ready(count: int | None) -> None:
            while waiting.frames and draw.count < plan.ready:
                draw(waiting.frames.popleft(), plan.corrections[draw.count])
                tell("render", draw.count, count)

        if known is None:
            assert tracker is not None
            steps: list[Step] = []
            for frame, step in _followed(pictures, reader, tracker, watch, tell):
                waiting.add(frame, begun=draw.count > 0)
                steps.append(step)
                plan.push(step)
                draw_ready(reader.frame_count)
            analysis = tracker.analysis(steps)
        else:
            analysis = known
            waiting.whole = False
            for step in analysis.steps():
                plan.push(step)
        plan.finish()
        if "save_motion" in pending:
            with beside.attempt(pending["save_motion"].destination):
                pending["save_motion"].write_text(analysis.lines())
        read = known is None
        if plan.status == "rest" and not asked:
            if known is not None:  # read before it is copied: what it holds may be damaged, or another video
                for frame in _own(pictures, known):
                    tell("check", frame.index + 1, len(known))
                read = True
            copy = _copy(destination, reader, writer)
        if copy is not None:
            open_files.callback(copy.abort)
        elif waiting.whole:
            draw_ready(len(analysis))
        else:
            if read:
                again = watch.steps(_again(source, reader), "decode")
                pictures = open_files.enter_context(Producer(again, "decode"))
            for frame in _own(pictures, analysis):
                draw(frame, plan.corrections[frame.index])
                tell("render", draw.count, len(analysis))
        rate = analysis.frame_rate or float(reader.frame_rate)
        with watch("metrics"):  # while the encoder is at the last pictures
            bridged = camera.bridge_motion(analysis.motion, analysis.ok)
            figures = _figures(bridged, plan, size)
            curves = _curves(analysis, bridged, np.array(plan.window), size, rate)
        draw.finish()
        written = copy or writer
        with watch("encode" if copy is None else "copy"):
            written.finish()
        if pair_writer is not None and pair_writer.path not in beside.errors:
            with watch("compare"), beside.attempt(pair_writer.path):
                pair_writer.finish()
        if "plot" in pending:
            plot_file = pending["plot"]
            with watch("plot"), beside.attempt(plot_file.destination), plot_file.opened() as file:
                from legato.camera.plotting import plot_path

                kind = plot_file.destination.suffix
                plot_path(bridged, np.array(plan.window), size, file, fps=rate, kind=kind)
        result = StabilizeReport(
            source=os.fspath(source),
            destination=os.fspath(destination),
            comparison=None if pair_writer is None or pair_writer.path in beside.errors else str(pair_writer.path),
            motion_file=known.source if known is not None else None,
            frames=len(analysis),
            size=size,
            output_size=writer.size,
            frame_rate=rate,
            duration_s=analysis.duration_s or len(analysis) / rate,
            codec=writer.codec if copy is None else reader.codec,
            pixel_format=writer.pixel_format if copy is None else reader.stored_format,
            preset=preset,
            options=asdict(path_options),
            motion_known=analysis.known,
            failed=analysis.failed,
            duplicates=[int(t) for t in np.flatnonzero(analysis.duplicate)],
            path_status=plan.status,
            path_gap=plan.gap,
            path_iterations=plan.iterations,
            **figures,
            subject_lost=_lost(analysis),
            copied_streams=list(written.copied),
            dropped_streams=list(written.not_copied),
            skipped_packets=reader.skipped_packets,
            damaged_frames=reader.damaged_frames,
            repaired_timestamps=reader.repaired_timestamps,
            notes=[
                *_notes(analysis, reader, plan, written, copied=copy is not None, hard=aims.hard),
                *beside.failures(),
            ],
            seconds={**watch.seconds, "total": watch.total},
            shares=watch.shares(),
            versions=package_versions(),
            curves=curves,
            motion=bridged,
            corrections=np.array(plan.corrections),
        )
        if "report" in pending:
            with beside.attempt(pending["report"].destination):
                pending["report"].write_text([result.to_json()])
        written.commit()
        others: dict[Path, PendingFile | VideoWriter] = {one.destination: one for one in pending.values()}
        if pair_writer is not None:
            others[pair_writer.path] = pair_writer
        for path, other in others.items():
            if path not in beside.errors:
                with beside.attempt(path):
                    other.commit()
    beside.check(destination, result)
    return result


class SideFiles:
    """Files beside a result: what goes wrong with one costs that one alone, and is told when all is done.

    Attributes
    ----------
    errors : dict of Path to Exception
        What went wrong so far, by file.
    """

    def __init__(self) -> None:
        self.errors: dict[Path, Exception] = {}

    @contextlib.contextmanager
    def attempt(self, path: Path) -> Iterator[None]:
        """Take note of an error in the ``with`` block, which makes the file."""
        try:
            yield
        except Exception as error:  # of whatever kind: the result does not depend on it
            self.errors[path] = error

    def failures(self) -> list[str]:
        """Tell what went wrong, each in one line that names the file."""
        return [
            str(error)
            if isinstance(error, LegatoError)
            else f"{path}: cannot be made ({type(error).__name__}: {reason(error)})"
            for path, error in self.errors.items()
        ]

    def check(self, result: PathLike, report: object) -> None:
        """Raise what went wrong.

        Raises
        ------
        SideFileError
        """
        if self.errors:
            text = f"{'; '.join(self.failures())}; {os.fspath(result)} is complete"
            raise SideFileError(text, self.errors, report) from next(iter(self.errors.values()))


def _opened(source: PathLike, rotation: Rotation, allow_playlists: bool) -> VideoReader:
    rotation = as_choice("rotation", rotation, ROTATIONS)
    opened = source.decoder() if isinstance(source, Ahead) else source
    return VideoReader(opened, rotate=rotation == "apply", allow_playlists=allow_playlists)


def _followed(
    pictures: Iterable[VideoFrame], reader: VideoReader, tracker: FrameTracker, watch: Stopwatch, tell: Progress
) -> Iterator[tuple[VideoFrame, Step]]:
    """Follow the frames of a reader, and look again where that is called for."""
    size = (reader.width, reader.height)
    steps = tracker.follow(pictures, watch, tell)
    return looked_again(steps, size, float(reader.frame_rate), tracker.usable, watch, tell)


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
            self._bytes = sum(p.nbytes for p in (planes.y, planes.u, planes.v) if p is not None)
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
    with VideoReader(source, rotate=first.rotate, allow_playlists=first.decoder.allow_playlists) as reader:
        yield from reader


def files_beside(
    destination: Path,
    *,
    compare: bool | PathLike | None = None,
    report: bool | PathLike | None = None,
    plot: bool | PathLike | None = None,
    save_motion: PathLike | None = None,
    **_others: Any,
) -> dict[str, Path | None]:
    """Name the files that `stabilize` writes beside a result, by its arguments; None: not asked for."""

    def beside(name: str, asked: bool | PathLike | None, addition: str) -> Path | None:
        if asked is None or asked is False:
            return None
        if asked is True:
            return destination.with_name(f"{destination.stem}{addition}")
        return checked_path(name, asked)

    return {
        "compare": beside("compare", compare, f"_compare{destination.suffix}"),
        "report": beside("report", report, "_report.json"),
        "plot": beside("plot", plot, "_path.svg"),
        "save_motion": None if save_motion is None else checked_path("save_motion", save_motion),
    }


def _check_plot(path: Path) -> None:
    """Refuse now what would fail only after the work."""
    if path.suffix.lower() not in _PLOT_SUFFIXES:
        raise ArgumentError(f"plot: expected a name ending in {', '.join(_PLOT_SUFFIXES)}; got {path}")
    try:
        importlib.import_module("matplotlib")
    except ImportError as error:
        raise DependencyError(f"plot: matplotlib is needed here: {install_command('video')}") from error


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


def _curves(analysis: Analysis, motion: Floats, window: Floats, size: tuple[int, int], rate: float) -> dict[str, Any]:
    """Give what `legato view` draws, rounded to what can be seen."""
    times = [analysis.time_s(t) for t in range(len(motion))]
    first = times[0] or 0.0
    curves: dict[str, Any] = {
        "time_s": [round(t / rate if at is None else at - first, 4) for t, at in enumerate(times)]
    }
    for name, lines in zip(("before", "after"), path_curves(motion, window, size), strict=True):
        curves[name] = {label: np.round(line, 3).tolist() for label, line in lines.items()}
    return curves


def _overhang_px(corrections: Floats, size: tuple[int, int]) -> float:
    """Largest distance by which a corner of an output picture samples outside the input, in pixels."""
    right, bottom = size[0] - 1.0, size[1] - 1.0
    corners = np.array([[0, right, right, 0], [0, 0, bottom, bottom], [1, 1, 1, 1]], np.float64)
    mapped = corrections @ corners
    x, y = mapped[:, 0] / mapped[:, 2], mapped[:, 1] / mapped[:, 2]
    beyond = np.maximum.reduce([-x, x - right, -y, y - bottom])
    return float(max(0.0, beyond.max()))


def _figures(motion: Floats, plan: PathPlanner, size: tuple[int, int]) -> dict[str, float]:
    """Measure a path that was solved for."""
    jitter = plan.gain.jitter_px if plan.status == "rest" and plan.gain is not None else 0.0
    figures = {"violation_px": 0.0, "cropping": 1.0, "distortion": 1.0, "jitter_in_px": jitter, "jitter_out_px": jitter}
    if plan.status not in ("none", "rest"):
        corrections = np.array(plan.corrections)
        metrics = camera.path_metrics(motion, corrections, size)
        figures = {
            "violation_px": _overhang_px(corrections, size),
            "cropping": float(metrics.cropping),
            "distortion": float(metrics.distortion),
            "jitter_in_px": float(metrics.input_jitter_px),
            "jitter_out_px": float(metrics.jitter_px),
        }
    return figures


class _Drawing:
    """Draws pictures by their corrections and encodes them, in two threads; use in a ``with`` block.

    Attributes
    ----------
    count : int
        Pictures taken so far.
    """

    def __init__(
        self,
        writer: VideoWriter,
        pair_writer: VideoWriter | None,
        beside: SideFiles,
        interpolation: Interpolation,
        threads: int,
        watch: Stopwatch,
        depth: int,
    ) -> None:
        self.count = 0
        self._writer, self._pair_writer, self._beside = writer, pair_writer, beside
        self._interpolation, self._threads, self._watch = interpolation, threads, watch
        self._depth = depth
        self._stages = contextlib.ExitStack()

    def __enter__(self) -> Self:
        encode = _encoding(self._writer, self._pair_writer, self._beside, self._watch)
        self._encode = self._stages.enter_context(Consumer(encode, "encode"))
        self._warp = self._stages.enter_context(Consumer(self._drawn, "warp", self._depth))
        return self

    def __call__(self, frame: VideoFrame, correction: Floats) -> None:
        """Take the next picture; waits while too many lie there."""
        self._warp((frame, correction))
        self.count += 1

    def _drawn(self, item: tuple[VideoFrame, Floats]) -> None:
        frame, correction = item
        writer = self._writer
        with self._watch("warp"):
            steady = warp(
                frame.planes,
                correction,
                writer.size,
                interpolation=self._interpolation,
                out=writer.new_planes(),
                threads=self._threads,
            )
        self._encode((frame, steady))

    def finish(self) -> None:
        """Wait until all that was taken is drawn and given to the encoder."""
        self._stages.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stages.__exit__(kind, error, trace)


def _own(pictures: Iterable[VideoFrame], analysis: Analysis) -> Iterator[VideoFrame]:
    """Give the pictures of a video whose motion is known; refuse another video's."""
    count, done = len(analysis), 0
    for frame in pictures:
        if done == count:
            raise InputError(f"{analysis.source}: motion of {count} frames, and the video has more")
        at = analysis.time_s(done)
        if at is not None and abs(at - frame.time_s) > _SAME_TIME_S:
            raise InputError(
                f"{analysis.source}: motion of another video: frame {done} is shown at {frame.time_s:.4f} s, "
                f"not at {at:.4f} s"
            )
        yield frame
        done += 1
    if done != count:
        raise InputError(f"{analysis.source}: motion of {count} frames, and the video has only {done}")


def _encoding(
    writer: VideoWriter, pair_writer: VideoWriter | None, beside: SideFiles, watch: Stopwatch
) -> Callable[[tuple[VideoFrame, Planes]], None]:
    """Make the function that writes an original and its steady picture."""
    from legato.video.comparison import Comparison

    comparison = None if pair_writer is None else Comparison(writer.size)

    def encode(item: tuple[VideoFrame, Planes]) -> None:
        frame, steady = item
        if pair_writer is not None and comparison is not None and pair_writer.path not in beside.errors:
            with watch("compare"), beside.attempt(pair_writer.path):
                pair = comparison.draw(frame.planes, steady, pair_writer.new_planes())
                pair_writer.write(pair, frame.pts, frame.duration)
            if pair_writer.path in beside.errors:
                pair_writer.abort()  # at once: on a full disk the result needs its room
        with watch("encode"):
            writer.write(steady, frame.pts, frame.duration)

    return encode
