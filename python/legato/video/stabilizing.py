"""Stabilize a video file: estimate the motion, smooth the path, render the pictures again.

Two passes over the file, both streaming: the first keeps nine numbers a frame, the second some pictures at a time, so
memory does not grow with the length of the video. The decoded pictures of a short video are kept between the two.
Within a pass decoder, kernels and encoder work beside each other.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from legato import camera
from legato.camera.plotting import path_curves
from legato.errors import ArgumentError, DependencyError, InputError
from legato.video.analysis import Analysis, FrameTracker, Rotation
from legato.video.files import PathLike, PendingFile, VideoCopy, VideoFrame, VideoReader, VideoWriter
from legato.video.guard import Gain, expected_gain
from legato.video.pipeline import Consumer, Producer, Stopwatch, free_memory
from legato.video.planes import Planes
from legato.video.presets import preset_named
from legato.video.progress import Progress, told
from legato.video.refinement import refined
from legato.video.report import StabilizeReport, package_versions
from legato.video.subjects import Box, box_corners, read_salient

if TYPE_CHECKING:
    from legato.video.warping import Interpolation

__all__ = ["analyze", "render", "stabilize"]

Floats: TypeAlias = NDArray[np.float64]
Inclusion: TypeAlias = Literal["soft", "hard"]

_PLOT_SUFFIXES = (".svg", ".png", ".pdf")
# Of decoded pictures, kept between the passes so that they need not be decoded again: a tenth of the work at 1080p.
_MOST_KEPT_BYTES = 2 << 30
_KEPT_SHARE = 4  # and one part in so many of the memory that is free
# Of the penalty on salient points outside of the picture, in units of the weight of the third differences: above ten
# it is as good as a hard bound where that can be met.
_SOFT_INCLUSION = 10.0
# Clocks of containers count milliseconds or finer, so the same frame is at most this far from itself.
_SAME_TIME_S = 0.0015


@dataclass(slots=True)
class _Path:
    """How the pictures are to be drawn, for each frame: output pixel to input pixel, and without the crop's zoom."""

    corrections: Floats
    window: Floats
    status: str = "none"
    objective: float = 0.0
    gap: float = 0.0
    iterations: int = 0
    violation_px: float = 0.0
    cropping: float = 1.0
    distortion: float = 1.0
    jitter_in_px: float = 0.0
    jitter_out_px: float = 0.0
    gain: Gain | None = None

    def measure(self, motion: Floats, size: tuple[int, int]) -> None:
        """Fill in what a path that was solved for is like."""
        if self.status in ("none", "rest"):
            return
        self.violation_px = _overhang_px(self.corrections, size)
        metrics = camera.path_metrics(motion, self.corrections, size)
        self.cropping, self.distortion = float(metrics.cropping), float(metrics.distortion)
        self.jitter_in_px, self.jitter_out_px = float(metrics.input_jitter_px), float(metrics.jitter_px)


@dataclass(frozen=True, slots=True)
class _Aims:
    """What is to be kept in view or in the middle, for `camera.smooth_path`."""

    salient: Floats | None = None
    salient_weight: float | None = None
    targets: Floats | None = None
    target_weight: float = 0.0


def analyze(
    source: PathLike,
    *,
    mask: PathLike | NDArray[Any] | None = None,
    region: Box | None = None,
    subject: Box | None = None,
    rotation: Rotation = "apply",
    progress: bool | Progress = False,
) -> Analysis:
    """Estimate the motion of a video: the first pass of `stabilize`, to be used again.

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
    with told(progress) as tell, _opened(source, rotation) as reader:
        tracker = FrameTracker(reader, mask=mask, region=region, subject=subject)
        watch = Stopwatch()
        first = tracker.run(watch, tell)
        return refined(first, lambda: _again(source, reader), tracker.usable, watch, tell)


def render(source: PathLike, motion: Analysis | PathLike, destination: PathLike, **options: Any) -> StabilizeReport:
    """Stabilize a video whose motion is known: the second pass of `stabilize`.

    Parameters
    ----------
    source : str or path
        The video to read.
    motion : Analysis or path
        What `analyze` gave, or a motion file; also one written by other software.
    destination : str or path
        The video to write.
    **options
        Those of `stabilize`, but `mask`, `region` and `subject`, which are for the first pass.

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
    preset: str = "standard",
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
    progress: bool | Progress = False,
    threads: int = 1,
) -> StabilizeReport:
    """Turn a shaky video into a steady one; keep its sound, timestamps, rotation and colour tags.

    Every file appears under its name complete or not at all: after an error or an interruption, what stood there
    before stands there still.

    Parameters
    ----------
    source : str or path
        The video to read.
    destination : str or path
        The video to write; its extension picks the container (see `VideoWriter`).
    motion : Analysis or path, optional
        The motion, where it is known already: what `analyze` gave, or a motion file. Then there is no first pass.
    preset : {"standard", "gentle", "smooth", "tripod", "follow"}
        How steady against how much of the view is kept. "pan" and "walk" are other names of "standard" and "smooth".
    crop : float, optional
        Part of the field of view that may be given up, in place of the preset's; more is smoother.
    options : legato.camera.PathOptions, optional
        The whole path problem, in place of the preset's. Weights are meant for 30 frames a second and adapted to the
        video's rate.
    mask, region, subject
        For the first pass, see `analyze`. The subject is kept in view.
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
        Whether existing files may be replaced.
    save_motion : path, optional
        Also write the motion file.
    compare, report, plot : bool or path, optional
        Also write original and result side by side, the report as JSON, and a drawing of the camera path before and
        after (.svg, .png or .pdf). True: beside the destination, with "_compare", "_report.json" and "_path.svg" added
        to its name.
    progress : bool or callable
        True shows a bar on stderr; a callable gets (stage, frames done, frames in all or None), with the stages
        "track", "refine" (where motions are measured twice) and "render".
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
    ArgumentError
        If an argument is not as described, or a destination is the source itself.
    InfeasibleError
        If points that must be in view cannot be.
    DependencyError
        If a package of the extra ``video`` is not installed.
    """
    chosen = preset_named(preset)
    path_options = chosen.options() if options is None else options
    if crop is not None:
        path_options = replace(path_options, crop=crop)
    if inclusion not in ("soft", "hard"):
        raise ArgumentError(f"inclusion: expected 'soft' or 'hard', got {inclusion!r}")
    target_weight = chosen.center if center is None else float(center)
    if not 0 <= target_weight < 1e12:
        raise ArgumentError(f"center: expected a number of at least 0, got {center!r}")
    outputs = {
        "compare": _beside(destination, compare, "_compare", Path(destination).suffix),
        "report": _beside(destination, report, "_report", ".json"),
        "plot": _beside(destination, plot, "_path", ".svg"),
        "save_motion": None if save_motion is None else Path(save_motion),
    }
    inputs = {"input": source}
    for name, given in (("motion", motion), ("mask", mask), ("salient", salient)):
        if isinstance(given, str | os.PathLike):
            inputs[name] = given
    check_destinations(inputs, {"destination": Path(destination), **outputs}, overwrite)
    if outputs["plot"] is not None:
        _check_plot(outputs["plot"])
    if motion is not None and not (mask is None and region is None and subject is None):
        raise ArgumentError("mask, region and subject: the motion is given, so there is no first pass to use them in")
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

    with contextlib.ExitStack() as open_files:
        tell = open_files.enter_context(told(progress))
        reader = open_files.enter_context(_opened(source, rotation or "apply"))
        size = (reader.width, reader.height)
        if known is not None and known.size != size:
            was, now = ("{}x{}".format(*s) for s in (known.size, size))
            raise InputError(f"{known.source}: motion of a video of {was}, and {reader.path} is {now}")
        tracker = None if known is not None else FrameTracker(reader, mask=mask, region=region, subject=subject)
        # All files to write are opened now: what is wrong with them is better known before the work.
        writer = VideoWriter(destination, reader, **encoding)
        open_files.callback(writer.abort)
        pair_writer = None
        if outputs["compare"] is not None:
            pair = (2 * writer.size[0], writer.size[1])
            pair_writer = VideoWriter(outputs["compare"], reader, size=pair, **encoding)
            open_files.callback(pair_writer.abort)
        pending = {
            name: open_files.enter_context(PendingFile(outputs[name] or ""))
            for name in ("report", "plot", "save_motion")
            if outputs[name] is not None
        }

        frames: Iterable[VideoFrame] = reader
        if known is None:
            assert tracker is not None
            kept = _Kept(min(_MOST_KEPT_BYTES, free_memory() // _KEPT_SHARE), reader.frame_count)
            analysis = tracker.run(watch, tell, kept.add)
            look = kept.look if kept.whole else lambda: _again(source, reader)
            analysis = refined(analysis, look, tracker.usable, watch, tell)
            frames = kept if kept.whole else _again(source, reader)
        else:
            analysis = known
        if "save_motion" in pending:
            analysis.write(pending["save_motion"].path)
        rate = analysis.frame_rate or float(reader.frame_rate)
        bridged = camera.bridge_motion(analysis.motion, analysis.ok)
        aims = _aims(analysis, salient, inclusion, target_weight * 30 / rate, path_options)
        gain = None
        if guard and aims.targets is None and analysis.known and analysis.error_px is not None:
            with watch("metrics"):
                gain = expected_gain(bridged, analysis.error_px, size)
        with watch("path"):
            path = _path(analysis, bridged, size, path_options.at_frame_rate(rate), aims, gain)
        with watch("metrics"):
            path.measure(bridged, size)
        asked = any(choice is not None for choice in (codec, crf, pixel_format, pair_writer))
        copy = _copy(destination, reader, writer) if path.status == "rest" and not asked else None
        if copy is None:
            _render(frames, analysis, path.corrections, writer, pair_writer, interpolation, threads, watch, tell)
        else:
            open_files.callback(copy.abort)
        written = copy or writer
        with watch("encode" if copy is None else "copy"):
            written.finish()
        if pair_writer is not None:
            with watch("compare"):
                pair_writer.finish()
        if "plot" in pending:
            with watch("plot"):
                from legato.camera.plotting import plot_path

                plot_path(bridged, path.window, size, pending["plot"].path, fps=rate)
        seconds = dict(watch.seconds)
        busy = sum(seconds.values())
        result = StabilizeReport(
            source=os.fspath(source),
            destination=os.fspath(destination),
            comparison=None if outputs["compare"] is None else os.fspath(outputs["compare"]),
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
            path_status=path.status,
            path_objective=path.objective,
            path_gap=path.gap,
            path_iterations=path.iterations,
            violation_px=path.violation_px,
            cropping=path.cropping,
            distortion=path.distortion,
            jitter_in_px=path.jitter_in_px,
            jitter_out_px=path.jitter_out_px,
            subject_lost=_lost(analysis),
            copied_streams=list(written.copied),
            dropped_streams=list(written.not_copied),
            skipped_packets=reader.skipped_packets,
            damaged_frames=reader.damaged_frames,
            repaired_timestamps=reader.repaired_timestamps,
            notes=_notes(analysis, reader, path, written, copied=copy is not None),
            seconds={**seconds, "total": watch.total},
            shares={stage: s / busy for stage, s in seconds.items()},
            versions=package_versions(),
            curves=_curves(analysis, bridged, path.window, size, rate),
            motion=bridged,
            corrections=path.corrections,
        )
        if "report" in pending:
            pending["report"].path.write_text(result.to_json(), encoding="utf-8")
        for finished in (written, pair_writer, *pending.values()):
            if finished is not None:
                finished.commit()
    return result


def _opened(source: PathLike, rotation: Rotation) -> VideoReader:
    if rotation not in ("apply", "keep"):
        raise ArgumentError(f"rotation: expected 'apply' or 'keep', got {rotation!r}")
    return VideoReader(source, rotate=rotation == "apply")


class _Kept:
    """The pictures of a short video, between the passes; given out once."""

    def __init__(self, most_bytes: int, expected: int | None) -> None:
        self._room = most_bytes
        self._expected = expected or 1
        self._frames: list[VideoFrame] = []

    def add(self, frame: VideoFrame) -> None:
        """Keep a picture; forget all of them once they are, or are certain to become, too many."""
        planes = frame.planes
        size = sum(p.nbytes for p in (planes.y, planes.u, planes.v) if p is not None)
        if frame.index == 0 and size * self._expected > self._room:
            self._room = 0
        self._room -= size
        if self.whole:
            self._frames.append(frame)
        else:
            self._frames.clear()

    @property
    def whole(self) -> bool:
        """Whether all pictures are here."""
        return self._room >= 0

    def look(self) -> Iterator[VideoFrame]:
        """Go through the pictures without giving them out."""
        return iter(self._frames)

    def __iter__(self) -> Iterator[VideoFrame]:
        self._frames.reverse()
        while self._frames:
            yield self._frames.pop()


def _again(source: PathLike, first: VideoReader) -> Iterator[VideoFrame]:
    with VideoReader(source, rotate=first.rotate) as reader:
        yield from reader


def _beside(destination: PathLike, asked: bool | PathLike | None, addition: str, suffix: str) -> Path | None:
    if asked is None or asked is False:
        return None
    if asked is True:
        given = Path(destination)
        return given.with_name(f"{given.stem}{addition}{suffix}")
    return Path(asked)


def check_destinations(
    sources: dict[str, PathLike], destinations: dict[str, Path | None], overwrite: bool = True
) -> None:
    """Refuse to write over a source, over a file twice, or over an existing file against the caller's wish.

    Parameters
    ----------
    sources, destinations : dict
        Files by the names of their arguments; None: not asked for.
    overwrite : bool
        Whether existing files may be replaced.

    Raises
    ------
    ArgumentError
    """
    taken = {os.path.realpath(path): f"the {name}" for name, path in sources.items()}
    for name, path in destinations.items():
        if path is None:
            continue
        # Hard links, too.
        same = (f"the {n}" for n, s in sources.items() if path.exists() and Path(s).exists() and path.samefile(s))
        other = next(same, None) or taken.get(os.path.realpath(path))
        if other is not None:
            raise ArgumentError(f"{name}: {path} is the same file as {other}")
        taken[os.path.realpath(path)] = f"the {name}"
        if not overwrite and path.exists():
            raise ArgumentError(f"{name}: {path} exists and overwrite is off")


def _check_plot(path: Path) -> None:
    """Refuse now what would fail only after the work."""
    if path.suffix.lower() not in _PLOT_SUFFIXES:
        raise ArgumentError(f"plot: expected a name ending in {', '.join(_PLOT_SUFFIXES)}; got {path}")
    try:
        importlib.import_module("matplotlib")
    except ImportError as error:
        raise DependencyError('plot: matplotlib is needed here: pip install "legato[video]"') from error


def _aims(
    analysis: Analysis,
    salient: PathLike | NDArray[Any] | None,
    inclusion: Inclusion,
    target_weight: float,
    options: camera.PathOptions,
) -> _Aims:
    """Gather subject and salient points."""
    points: list[Floats] = []
    if isinstance(salient, np.ndarray):
        points.append(salient)
    elif salient is not None:
        points.append(read_salient(salient, len(analysis)))
    if analysis.subject is not None:
        points.append(box_corners(analysis.subject))
    if not points:
        return _Aims()
    for given in points:
        if given.ndim != 3 or given.shape[0] != len(analysis) or given.shape[2] != 2:
            raise ArgumentError(f"salient: expected shape ({len(analysis)}, m, 2), got {given.shape}")
    together = np.concatenate(points, axis=1)
    known = np.asarray(np.isfinite(together).all(2))
    total = np.where(known[..., None], together, 0).sum(1)
    count = known.sum(1)[:, None]
    middle = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return _Aims(
        salient=together,
        salient_weight=None if inclusion == "hard" else _SOFT_INCLUSION * max(options.weights[1:]),
        targets=middle if target_weight > 0 else None,
        target_weight=target_weight,
    )


def _path(
    analysis: Analysis,
    motion: Floats,
    size: tuple[int, int],
    options: camera.PathOptions,
    aims: _Aims,
    gain: Gain | None,
) -> _Path:
    """Smooth the path; where nothing is known of the motion, or nothing to be gained, leave the pictures alone.

    `options` are for the video's own frame rate.
    """
    still = np.tile(np.eye(3), (len(motion), 1, 1))
    if not analysis.known:
        return _Path(still, still)
    if gain is not None and not gain.worthwhile:
        return _Path(still, still, "rest", jitter_in_px=gain.jitter_px, jitter_out_px=gain.jitter_px, gain=gain)
    path = camera.smooth_path(
        motion,
        size,
        options,
        salient=aims.salient,
        salient_weight=aims.salient_weight,
        targets=aims.targets,
        target_weight=aims.target_weight,
    )
    window = camera.contain(path.corrections, size, options)
    corrections = np.asarray(window @ camera.crop_map(size, options), np.float64)
    return _Path(
        corrections=corrections,
        window=window,
        status=str(path.status),
        objective=float(path.objective),
        gap=float(path.gap),
        iterations=int(path.iterations),
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
    analysis: Analysis, reader: VideoReader, path: _Path, written: VideoWriter | VideoCopy, *, copied: bool
) -> list[str]:
    notes = list(dict.fromkeys([*analysis.notes, *reader.notes]))
    if path.status not in ("optimal", "none", "rest"):
        notes.append(f"the path is feasible but not proven optimal: {path.status}")
    if path.gain is not None:
        notes.append(path.gain.reason())
    if copied:
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


def _render(
    frames: Iterable[VideoFrame],
    analysis: Analysis,
    corrections: Floats,
    writer: VideoWriter,
    pair_writer: VideoWriter | None,
    interpolation: Interpolation,
    threads: int,
    watch: Stopwatch,
    tell: Progress,
) -> None:
    """Second pass: draw every picture by its correction and encode it."""
    from legato.video.warping import warp

    count = len(corrections)
    done = 0
    with (
        Producer(watch.steps(frames, "decode"), "decode") as pictures,
        Consumer(_encoding(writer, pair_writer, watch), "encode") as give,
    ):
        for frame in pictures:
            if done == count:
                raise InputError(f"{analysis.source}: motion of {count} frames, and the video has more")
            at = analysis.time_s(done)
            if at is not None and abs(at - frame.time_s) > _SAME_TIME_S:
                raise InputError(
                    f"{analysis.source}: motion of another video: frame {done} is shown at {frame.time_s:.4f} s, "
                    f"not at {at:.4f} s"
                )
            with watch("warp"):
                steady = warp(
                    frame.planes,
                    corrections[done],
                    writer.size,
                    interpolation=interpolation,
                    out=writer.new_planes(),
                    threads=threads,
                )
            give((frame, steady))
            done += 1
            tell("render", done, count)
        if done != count:
            raise InputError(f"{analysis.source}: motion of {count} frames, and the video has only {done}")


def _encoding(
    writer: VideoWriter, pair_writer: VideoWriter | None, watch: Stopwatch
) -> Callable[[tuple[VideoFrame, Planes]], None]:
    """Make the function that writes an original and its steady picture."""
    from legato.video.comparison import Comparison

    comparison = None if pair_writer is None else Comparison(writer.size)

    def encode(item: tuple[VideoFrame, Planes]) -> None:
        frame, steady = item
        if pair_writer is not None and comparison is not None:
            with watch("compare"):
                pair = comparison.draw(frame.planes, steady, pair_writer.new_planes())
                pair_writer.write(pair, frame.pts, frame.duration)
        with watch("encode"):
            writer.write(steady, frame.pts, frame.duration)

    return encode
