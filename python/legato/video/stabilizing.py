"""Stabilize a video file: estimate the motion, smooth the path, render the pictures again.

Two passes over the file, both streaming: the first keeps nine numbers a frame, the second one picture at a time, so
memory does not grow with the length of the video.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from legato import __version__, camera
from legato.errors import ArgumentError, DependencyError, InputError
from legato.video.files import PathLike, PendingFile, VideoFrame, VideoReader, VideoWriter
from legato.video.guard import Gain, expected_gain, predicted_error_px

if TYPE_CHECKING:
    from legato.video.warping import Interpolation

__all__ = ["Progress", "StabilizeReport", "stabilize"]

Progress: TypeAlias = Callable[[str, int, int | None], None]
Floats: TypeAlias = NDArray[np.float64]

_ERROR_STEP = 4  # the error of the motion is looked at in every so many frames
_PLOT_SUFFIXES = (".svg", ".png", ".pdf")
_PROGRESS_TITLES = {"track": "reading the motion", "render": "rendering"}


@dataclass(frozen=True, slots=True, eq=False)
class StabilizeReport:
    """What was done to a video and what was gained.

    Attributes
    ----------
    source, destination : str
        The files, as named by the caller.
    comparison : str or None
        The side-by-side video, if one was written.
    frames : int
        Pictures read and written.
    size, output_size : (int, int)
        Width and height in pixels.
    frame_rate : float
        Average frames per second, from the timestamps.
    duration_s : float
        From the first picture to the end of the last.
    codec, pixel_format : str
        Of the video written.
    options : dict
        The path options used, before they were adapted to the frame rate.
    motion_known : bool
        False when no frame had usable motion (black or flat pictures, a still image, a single frame): the pictures
        are then written as they are, without a crop.
    failed, duplicates : list of int
        Frames whose motion could not be estimated and was bridged from their neighbours, and frames that repeat the
        one before.
    path_status : str
        The solver's verdict; "none" when there was no path to smooth, "rest" when there was nothing to be gained and
        the pictures were left as they are (see `guard`).
    path_objective, path_gap : float
        Objective of the path problem and its certified gap.
    path_iterations : int
        Iterations of the solver.
    violation_px : float
        Largest distance by which a rendered picture reaches beyond the frame, in pixels; 0 is inside.
    cropping, distortion : float
        Mean part of the field of view that is kept (linear), and smallest ratio of the singular values of a
        correction's affine part: 1 is unchanged.
    jitter_in_px, jitter_out_px : float
        Residual acceleration of the picture before and after, in pixels, from the estimated motion.
    copied_streams, dropped_streams : list of str
        Sound, subtitles and others, by what became of them.
    skipped_packets, damaged_frames, repaired_timestamps : int
        Counted by the reader (see `VideoReader`).
    notes : list of str
        What else a user should know.
    seconds, shares : dict
        Wall time by stage, and its part of the total.
    versions : dict
        Of Legato and of the packages that did the work.
    motion, corrections : (n, 3, 3) float64 arrays
        Frame t to frame t - 1, with the failed ones bridged, and output pixel to input pixel; both in pixels. Not
        part of the JSON.
    """

    source: str
    destination: str
    comparison: str | None
    frames: int
    size: tuple[int, int]
    output_size: tuple[int, int]
    frame_rate: float
    duration_s: float
    codec: str
    pixel_format: str
    options: dict[str, Any]
    motion_known: bool
    failed: list[int]
    duplicates: list[int]
    path_status: str
    path_objective: float
    path_gap: float
    path_iterations: int
    violation_px: float
    cropping: float
    distortion: float
    jitter_in_px: float
    jitter_out_px: float
    copied_streams: list[str]
    dropped_streams: list[str]
    skipped_packets: int
    damaged_frames: int
    repaired_timestamps: int
    notes: list[str]
    seconds: dict[str, float]
    shares: dict[str, float]
    versions: dict[str, str]
    motion: Floats = field(repr=False, metadata={"json": False})
    corrections: Floats = field(repr=False, metadata={"json": False})

    def to_json(self) -> str:
        """Give the report as JSON text; a number that is not finite becomes null."""
        content = {f.name: _finite(getattr(self, f.name)) for f in fields(self) if f.metadata.get("json", True)}
        return json.dumps(content, indent=2, allow_nan=False) + "\n"

    def summary(self) -> str:
        """Give the result in one line."""
        rate = self.frames / self.seconds["total"] if self.seconds["total"] > 0 else math.inf
        speed = f"{self.frames} frames in {self.seconds['total']:.1f} s ({rate:.0f} fps)"
        if not self.motion_known:
            return f"{self.destination}: {speed}; no motion could be estimated, pictures unchanged"
        if self.path_status == "rest":
            return f"{self.destination}: {speed}; nothing to be gained, pictures unchanged"
        gain = f"jitter {self.jitter_in_px:.2f} -> {self.jitter_out_px:.2f} px"
        return f"{self.destination}: {speed}; {gain}, {self.cropping:.0%} of the view kept"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value


class _Stopwatch:
    """Wall time by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._begin = time.perf_counter()

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - begin
            self.seconds[stage] = self.seconds.get(stage, 0.0) + elapsed

    def frames(self, reader: VideoReader) -> Iterator[VideoFrame]:
        """Frames of a reader, with the time to decode them."""
        frames = iter(reader)
        while True:
            with self("decode"):
                frame = next(frames, None)
            if frame is None:
                return
            yield frame

    def total(self) -> dict[str, float]:
        total = time.perf_counter() - self._begin
        other = max(0.0, total - sum(self.seconds.values()))
        return {**self.seconds, "other": other, "total": total}


@dataclass(slots=True)
class _Analysis:
    """What the first pass leaves."""

    motion: Floats
    ok: NDArray[np.bool_]
    duplicates: list[int]
    error_px: Floats
    frame_rate: float
    duration_s: float

    @property
    def known(self) -> bool:
        """Whether any frame moved in a way that was measured."""
        moved = self.ok.copy()
        moved[:1] = False  # the first frame has nothing before it
        moved[self.duplicates] = False
        return bool(moved.any())

    @property
    def failed(self) -> list[int]:
        return [int(t) for t in np.flatnonzero(~self.ok)]


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


def stabilize(
    source: PathLike,
    destination: PathLike,
    *,
    options: camera.PathOptions | None = None,
    crop: float | None = None,
    interpolation: Interpolation = "bicubic",
    codec: str | None = None,
    crf: float = 18,
    preset: str = "veryfast",
    pixel_format: str | None = None,
    overwrite: bool = True,
    compare: bool | PathLike | None = None,
    report: PathLike | None = None,
    plot: PathLike | None = None,
    guard: bool = True,
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
    options : legato.camera.PathOptions, optional
        The path problem; by default its defaults with an inset of half a pixel. Weights are meant for 30 frames a
        second and adapted to the video's rate.
    crop : float, optional
        Part of the field of view that may be given up, in place of the options' own; more is smoother.
    interpolation : {"bilinear", "bicubic", "lanczos"}
        How pictures are resampled. Bilinear is the fastest and visibly softens the picture.
    codec, crf, preset, pixel_format
        The encoder (see `VideoWriter`).
    overwrite : bool
        Whether existing files may be replaced.
    compare : bool or path, optional
        Also write original and result side by side; True: beside the destination, with "_compare" added to its name.
    report : path, optional
        Also write the report as JSON.
    plot : path, optional
        Also draw the camera path before and after (.svg, .png or .pdf).
    guard : bool
        Whether a clip whose measured jitter is not clearly more than the error of its measurement is left as it is.
    progress : bool or callable
        True shows a bar on stderr; a callable gets (stage, frames done, frames in all or None), with the stages
        "track" and "render".
    threads : int
        Threads for the warp; decoder and encoder choose their own.

    Returns
    -------
    StabilizeReport
        What was done, with the estimated motion and the corrections.

    Raises
    ------
    InputError
        If the source cannot be read, is no video, or changes its size.
    OutputError
        If a file cannot be written.
    ArgumentError
        If an argument is not as described, or a destination is the source itself.
    DependencyError
        If a package of the extra ``video`` is not installed.
    """
    if options is None:
        options = camera.PathOptions(inset_px=0.5)
    if crop is not None:
        options = replace(options, crop=crop)
    comparison = _comparison_path(Path(destination), compare)
    _check_destinations(
        Path(source),
        {"destination": destination, "compare": comparison, "report": report, "plot": plot},
        overwrite,
    )
    if plot is not None:
        _check_plot(Path(plot))
    encoding = {"codec": codec, "crf": crf, "preset": preset, "pixel_format": pixel_format}
    watch = _Stopwatch()

    with contextlib.ExitStack() as open_files:
        tell = open_files.enter_context(_progress(progress))
        reader = open_files.enter_context(VideoReader(source))
        size = (reader.width, reader.height)
        # All files to write are opened now: what is wrong with them is better known before the work.
        writer = VideoWriter(destination, reader, **encoding)  # type: ignore[arg-type]
        open_files.callback(writer.abort)
        pair_writer = None
        if comparison is not None:
            pair = (2 * writer.size[0], writer.size[1])
            pair_writer = VideoWriter(comparison, reader, size=pair, **encoding)  # type: ignore[arg-type]
            open_files.callback(pair_writer.abort)
        report_file = None if report is None else open_files.enter_context(PendingFile(report))
        plot_file = None if plot is None else open_files.enter_context(PendingFile(plot))

        analysis = _analyse(reader, watch, tell)
        with watch("path"):
            motion = camera.bridge_motion(analysis.motion, analysis.ok)
            path = _path(analysis, motion, size, options, guard)
        with VideoReader(source) as again:
            _render(again, path.corrections, writer, pair_writer, interpolation, threads, watch, tell)
        with watch("encode"):
            writer.finish()
        if pair_writer is not None:
            with watch("compare"):
                pair_writer.finish()
        if plot_file is not None:
            with watch("plot"):
                from legato.camera.plotting import plot_path

                plot_path(motion, path.window, size, plot_file.path, fps=analysis.frame_rate)
        notes = list(reader.notes)
        if path.status not in ("optimal", "none", "rest"):
            notes.append(f"the path is feasible but not proven optimal: {path.status}")
        if path.gain is not None:
            notes.append(path.gain.reason())
        seconds = watch.total()
        result = StabilizeReport(
            source=os.fspath(source),
            destination=os.fspath(destination),
            comparison=None if comparison is None else os.fspath(comparison),
            frames=len(analysis.motion),
            size=size,
            output_size=writer.size,
            frame_rate=analysis.frame_rate,
            duration_s=analysis.duration_s,
            codec=writer.codec,
            pixel_format=writer.pixel_format,
            options=asdict(options),
            motion_known=analysis.known,
            failed=analysis.failed,
            duplicates=analysis.duplicates,
            path_status=path.status,
            path_objective=path.objective,
            path_gap=path.gap,
            path_iterations=path.iterations,
            violation_px=path.violation_px,
            cropping=path.cropping,
            distortion=path.distortion,
            jitter_in_px=path.jitter_in_px,
            jitter_out_px=path.jitter_out_px,
            copied_streams=list(writer.copied),
            dropped_streams=list(writer.not_copied),
            skipped_packets=reader.skipped_packets,
            damaged_frames=reader.damaged_frames,
            repaired_timestamps=reader.repaired_timestamps,
            notes=notes,
            seconds=seconds,
            shares={k: v / seconds["total"] for k, v in seconds.items() if k != "total"},
            versions=_versions(),
            motion=motion,
            corrections=path.corrections,
        )
        if report_file is not None:
            report_file.path.write_text(result.to_json(), encoding="utf-8")
        for finished in (writer, pair_writer, report_file, plot_file):
            if finished is not None:
                finished.commit()
    return result


def _comparison_path(destination: Path, compare: bool | PathLike | None) -> Path | None:
    if compare is None or compare is False:
        return None
    if compare is True:
        return destination.with_name(f"{destination.stem}_compare{destination.suffix}")
    return Path(compare)


def _check_destinations(source: Path, destinations: dict[str, PathLike | None], overwrite: bool) -> None:
    """Refuse to write over the source, over a file twice, or over an existing file against the caller's wish."""
    taken = {os.path.realpath(source): "the input"}
    for name, given in destinations.items():
        if given is None:
            continue
        path = Path(given)
        same = path.exists() and source.exists() and path.samefile(source)  # hard links too
        other = "the input" if same else taken.get(os.path.realpath(path))
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


def _analyse(reader: VideoReader, watch: _Stopwatch, tell: Progress) -> _Analysis:
    """First pass: the motion from each frame to the one before."""
    from legato.video.planes import luma
    from legato.video.tracking import Tracker

    tracker = Tracker((reader.width, reader.height))
    motion: list[Floats] = []
    ok: list[bool] = []
    duplicates: list[int] = []
    errors: list[float] = []
    first_pts = last_pts = last_duration = 0
    for frame in watch.frames(reader):
        with watch("track"):
            step = tracker.push(luma(frame.planes))
        if step is None:
            motion.append(np.eye(3))
            ok.append(True)
            first_pts = frame.pts
        else:
            motion.append(np.asarray(step.homography, np.float64))
            ok.append(bool(step.ok))
            if step.duplicate:
                duplicates.append(frame.index)
            if frame.index % _ERROR_STEP == 0:
                with watch("track"):
                    errors.append(predicted_error_px(step, tracker.size))
        last_pts, last_duration = frame.pts, frame.duration
        tell("track", frame.index + 1, reader.frame_count)

    count = len(motion)
    span = (last_pts - first_pts) * reader.time_base
    rate = (count - 1) / span if span > 0 else reader.frame_rate
    tail = last_duration * reader.time_base or 1 / Fraction(rate)
    return _Analysis(np.array(motion), np.array(ok), duplicates, np.array(errors), float(rate), float(span + tail))


def _path(
    analysis: _Analysis, motion: Floats, size: tuple[int, int], options: camera.PathOptions, guard: bool
) -> _Path:
    """Smooth the path; where nothing is known of the motion, or nothing to be gained, leave the pictures alone."""
    still = np.tile(np.eye(3), (len(motion), 1, 1))
    if not analysis.known:
        return _Path(still, still)
    gain = expected_gain(motion, analysis.error_px, size)
    if guard and not gain.worthwhile:
        return _Path(still, still, "rest", jitter_in_px=gain.jitter_px, jitter_out_px=gain.jitter_px, gain=gain)
    adapted = options.at_frame_rate(analysis.frame_rate)
    path = camera.smooth_path(motion, size, adapted)
    window = camera.contain(path.corrections, size, adapted)
    corrections = np.asarray(window @ camera.crop_map(size, adapted), np.float64)
    metrics = camera.path_metrics(motion, corrections, size)
    return _Path(
        corrections=corrections,
        window=window,
        status=str(path.status),
        objective=float(path.objective),
        gap=float(path.gap),
        iterations=int(path.iterations),
        violation_px=_overhang_px(corrections, size),
        cropping=float(metrics.cropping),
        distortion=float(metrics.distortion),
        jitter_in_px=float(metrics.input_jitter_px),
        jitter_out_px=float(metrics.jitter_px),
    )


def _overhang_px(corrections: Floats, size: tuple[int, int]) -> float:
    """Largest distance by which a corner of an output picture samples outside the input, in pixels."""
    right, bottom = size[0] - 1.0, size[1] - 1.0
    corners = np.array([[0, right, right, 0], [0, 0, bottom, bottom], [1, 1, 1, 1]], np.float64)
    mapped = corrections @ corners
    x, y = mapped[:, 0] / mapped[:, 2], mapped[:, 1] / mapped[:, 2]
    beyond = np.maximum.reduce([-x, x - right, -y, y - bottom])
    return float(max(0.0, beyond.max()))


def _render(
    reader: VideoReader,
    corrections: Floats,
    writer: VideoWriter,
    pair_writer: VideoWriter | None,
    interpolation: Interpolation,
    threads: int,
    watch: _Stopwatch,
    tell: Progress,
) -> None:
    """Second pass: draw every picture by its correction and encode it."""
    from legato.video.comparison import Comparison
    from legato.video.warping import warp

    count = len(corrections)
    comparison = None if pair_writer is None else Comparison(writer.size)
    done = 0
    for frame in watch.frames(reader):
        if frame.index >= count:
            done += 1
            break
        with watch("warp"):
            steady = warp(
                frame.planes,
                corrections[frame.index],
                writer.size,
                interpolation=interpolation,
                out=writer.new_planes(),
                threads=threads,
            )
        if pair_writer is not None and comparison is not None:
            with watch("compare"):
                pair = comparison.draw(frame.planes, steady, pair_writer.new_planes())
                pair_writer.write(pair, frame.pts, frame.duration)
        with watch("encode"):
            writer.write(steady, frame.pts, frame.duration)
        done = frame.index + 1
        tell("render", done, count)
    if done != count:
        more = "more" if done > count else f"only {done}"
        raise InputError(f"{reader.path}: gave {count} frames when first read and {more} when read again")


def _versions() -> dict[str, str]:
    versions = {"legato": __version__}
    for name in ("av", "opencv-python", "opencv-python-headless", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


@contextlib.contextmanager
def _progress(asked: bool | Progress) -> Iterator[Progress]:
    if callable(asked):
        yield asked
    elif not asked:
        yield lambda _stage, _done, _total: None
    else:
        try:
            rich = importlib.import_module("rich.progress")
            console = importlib.import_module("rich.console").Console(stderr=True)
        except ImportError as error:
            raise DependencyError('progress: rich is needed here: pip install "legato[video]"') from error
        bar = rich.Progress(
            rich.TextColumn("{task.description:>18}"),
            rich.BarColumn(),
            rich.MofNCompleteColumn(),
            rich.TextColumn("{task.fields[fps]:>4.0f} fps"),
            rich.TimeRemainingColumn(),
            console=console,
        )
        tasks: dict[str, Any] = {}

        def show(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                title = _PROGRESS_TITLES.get(stage, stage)
                tasks[stage] = bar.add_task(title, total=total, fps=0.0)
            task = bar.tasks[tasks[stage]]
            fps = done / task.elapsed if task.elapsed else 0.0
            bar.update(tasks[stage], completed=done, total=max(done, total or 0) or None, fps=fps)

        with bar:
            yield show
