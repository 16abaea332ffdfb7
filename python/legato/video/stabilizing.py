"""Stabilize a video file: estimate the motion, smooth the path, draw the pictures again.

The file is read once. While its first pictures are drawn and encoded, later ones are still being followed: each waits
until a window of the path that begins with it is planned. Decoder, tracker, warp and encoder work beside each other.
Pictures that wait are kept as they were decoded; where that would be too much memory, or the path is planned as a
whole, the file is read a second time to be drawn.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict, replace
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from legato import camera
from legato._files import PathLike
from legato._log import LOG
from legato._scalars import as_choice
from legato.video.choices import ROTATIONS, Backend, Border, Inclusion, Interpolation, Level, Rotation
from legato.video.framing import Framing
from legato.video.media.copying import VideoCopy
from legato.video.media.reader import NOT_TRANSPARENT, VideoReader
from legato.video.media.writer import VideoWriter
from legato.video.motion.analysis import Analysis
from legato.video.motion.letterbox import Inset, picture_inside
from legato.video.motion.subjects import Box
from legato.video.options import Aim, Estimate, Request
from legato.video.pipeline import Producer, Stopwatch
from legato.video.planning import Aims, PathPlanner
from legato.video.presets import PresetName
from legato.video.progress import Progress, told
from legato.video.results.figures import curves, path_figures
from legato.video.results.report import StabilizeReport, package_versions
from legato.video.side_files import SideFiles
from legato.video.stages import Drawing, Following, Writing, followed, opened, tracker_of

__all__ = ["analyze", "render", "stabilize"]

Floats: TypeAlias = NDArray[np.float64]


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

    See Also
    --------
    render : Stabilize a video whose motion is known: the second half of `stabilize`.
    stabilize : Turn a shaky video into a steady one; keep its sound, timestamps, rotation and colour tags.
    Tracker : Estimate the motion of a video frame by frame.

    Examples
    --------
    >>> from legato import video
    >>> truth = video.synthesize("shaky.mp4", size=(160, 120), frames=6)
    >>> video.analyze("shaky.mp4").ok.shape
    (6,)
    """
    asked = Estimate.of(locals())  # first of all: these are the arguments, and nothing else yet
    rotation = as_choice("rotation", rotation, ROTATIONS)
    watch = Stopwatch()
    with told(progress) as tell, opened(source, asked, rotation) as reader:
        inset = picture_inside(reader)
        tracker = tracker_of(reader, asked, inset)
        with Producer(watch.steps(reader, "decode"), "decode") as pictures:
            plan = _planner(Aim(), Estimate(), reader, watch, inset)
            steps = []
            for _, step in followed(pictures, reader, tracker, watch, tell):
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

    See Also
    --------
    analyze : Estimate the motion of a video: the first half of `stabilize`, to be used again.
    stabilize : Turn a shaky video into a steady one; keep its sound, timestamps, rotation and colour tags.

    Examples
    --------
    >>> from legato import video
    >>> truth = video.synthesize("shaky.mp4", size=(160, 120), frames=6)
    >>> motion = video.analyze("shaky.mp4")
    >>> [video.render("shaky.mp4", motion, f"{crop}.mp4", crop=crop).frames for crop in (0.1, 0.2)]
    [6, 6]
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
    level: Level | None = None,
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
    level : {"mean", "orientation"} or float, optional
        Hold the horizon: the roll is kept at its mean, as far as the crop allows, or so many degrees clockwise of that;
        "orientation": upright, by the orientations that the motion file has. The whole video is planned at once.
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

    See Also
    --------
    stabilize_all : Stabilize many videos; one that fails does not stop the others.
    stabilize_frames : Steady the pictures of a clip: what `stabilize` does to a file.
    stabilize_live : Steady a live video with a fixed delay.
    analyze : Estimate the motion of a video: the first half of `stabilize`, to be used again.
    render : Stabilize a video whose motion is known: the second half of `stabilize`.

    Examples
    --------
    >>> from legato import video
    >>> truth = video.synthesize("shaky.mp4", size=(160, 120), frames=30)
    >>> report = video.stabilize("shaky.mp4", "steady.mp4", crop=0.15)
    >>> report.frames, bool(report.jitter_out_px <= report.jitter_in_px)
    (30, True)
    """
    request = Request.of(locals())  # first of all: these are the arguments, and nothing else yet
    watch, beside = Stopwatch(), SideFiles()
    LOG.debug("stabilize %s -> %s", request.source, request.destination)
    with contextlib.ExitStack() as open_files:
        tell = open_files.enter_context(told(progress))
        following = Following(request, open_files, watch, tell)
        # All files to write are opened now: what is wrong with them is better known before the work.
        writing = Writing(request, following, beside, open_files, watch)
        plan = _planner(
            request.aim, request.estimate, following.reader, watch, following.inset, request.known, writing.framing
        )
        drawing = Drawing(request, following, writing, plan, open_files, watch, tell)
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
        writing.write_plot(measured.draw_path)
        result = measured.report(writing, drawing.jitter_px, drawing.filled)
        writing.commit(result)
    LOG.info("%s", result.summary())
    for note in result.notes:
        LOG.info("%s: %s", request.destination, note)
    beside.check(request.destination, result)
    return result


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
    hard = aim.inclusion == "hard"
    aims = Aims.of(aim.salient, subject=subject, hard=hard, center=aim.pull, level=aim.level)
    return PathPlanner(
        (reader.width, reader.height),
        aim.path_options,
        window_s=aim.window_s,
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
        self, writing: Writing, jitter_px: tuple[float, float], filled: dict[str, float] | None
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
