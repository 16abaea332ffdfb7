"""A live run: pictures from a source through the stabilizer to a sink, in step with the clock."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from legato import camera
from legato._files import PathLike, PendingFile, check_destinations, checked_path
from legato._scalars import as_choice, as_flag, as_number, as_size, shown
from legato.errors import ArgumentError, InputError, OutputError
from legato.video.choices import Interpolation
from legato.video.framing import beyond, blackened
from legato.video.live.queue import WRITE_QUEUE, LiveQueue
from legato.video.live.report import LatencyHistogram, LiveReport
from legato.video.live.sink import CONTAINERS, Container, LiveEncoder, Sink, Target, WindowSink
from legato.video.live.source import FASTEST, RETRY_S, SLOWEST, Reading, Source, believed_rate
from legato.video.live.stabilizer import Stabilizer, live_aim
from legato.video.media.reader import VideoFrame
from legato.video.motion.analysis import usable_area
from legato.video.motion.subjects import Box
from legato.video.options import Output
from legato.video.presets import PresetName, believable_rate
from legato.video.side_files import SideFiles
from legato.video.warping import warp

__all__ = ["stabilize_live"]


_GRACE_S = 5.0  # for what is under way when the run has to end
_SLACK_S = 2.0  # in which FFmpeg may notice by itself that a stream stalls
_TICK_S = 0.1


def stabilize_live(
    source: PathLike | int,
    destination: PathLike,
    *,
    latency_frames: int = 10,
    preset: PresetName = "standard",
    options: camera.PathOptions | None = None,
    crop: float | None = None,
    mask: PathLike | NDArray[Any] | None = None,
    region: Box | None = None,
    guard: bool = True,
    fps: float | None = None,
    camera_size: tuple[int, int] | None = None,
    input_options: Mapping[str, str] | None = None,
    interpolation: Interpolation = "bicubic",
    sound: bool = True,
    container: Container | None = None,
    codec: str | None = None,
    crf: float = 20,
    encoder_preset: str = "veryfast",
    overwrite: bool = True,
    duration_s: float | None = None,
    stall_s: float = 10.0,
    reconnect_s: float = 60.0,
    report: PathLike | None = None,
    allow_playlists: bool = False,
    tell: Callable[[LiveReport], None] | None = None,
    progress: bool = False,
    threads: int = 1,
) -> LiveReport:
    """Steady a live video with a fixed delay.

    Parameters
    ----------
    source : int, str or path
        Number of a camera, URL (RTSP, RTMP, TCP, UDP, HTTP, ...), "-" for standard input (anything that FFmpeg
        recognizes, such as MPEG-TS or y4m), or a file.
    destination : str or path
        File (.mp4 .m4v .mov .mkv .webm .avi .ts .y4m), URL, "-" for standard output, or "window".
    latency_frames : int
        See `Stabilizer`.
    preset : {"standard", "gentle", "smooth", "steady", "tripod"}
        As of `stabilize`, with 0.06 more crop. There is nothing to "follow" in a live video.
    options, crop : optional
        Path options in place of the preset's, and their crop.
    mask, region : optional
        Where the scene may be followed, as for `legato.video.analyze`.
    guard : bool
        Whether pictures that would not become steadier are left as they are (see `Stabilizer`).
    fps : float, optional
        Frames a second, where the source does not say or is wrong; asked of a camera.
    camera_size : (int, int), optional
        Width and height that are asked of a camera.
    input_options : mapping of str to str, optional
        Further options by which FFmpeg opens a camera, a stream or a pipe, by its own names (``input_format`` of a
        camera, ``rtsp_transport``, ...).
    interpolation : {"bilinear", "bicubic", "lanczos"}
    sound : bool
        Whether sound is carried, as late as the pictures: copied, or encoded (AAC; Opus in .webm) where the output does
        not hold it as it is. y4m, AVI and a window have none.
    container : {"y4m", "mpegts"}, optional
        Of standard output; y4m by default: no coding at all, and one constant frame rate.
    codec, crf, encoder_preset
        As `stabilize` has them; x264 is set to hold nothing back.
    overwrite : bool
        Whether an existing file may be replaced.
    duration_s : float, optional
        Stop when so many seconds of video are read.
    stall_s : float
        Seconds without a picture after which the source counts as lost; 0 waits for ever.
    reconnect_s : float
        Seconds during which a camera, a network stream or an output to one is opened again; 0: not at all.
    report : path, optional
        Also write the report as JSON, whatever the end; not where no picture came or the output could not be opened.
    allow_playlists : bool
        Whether a file, a pipe, or what a URL of no network names may be a list of files, which are then read. What a
        network gives may be one (HLS), but may only name what lies in a network, whatever is said here.
    tell : callable, optional
        Called with the report where it would be written: also before an error is raised.
    progress : bool
        A line a second on stderr.
    threads : int
        Threads for the warp.

    Returns
    -------
    LiveReport
        Also after Ctrl-C, which ends the run in good order and is reported, not raised.

    Raises
    ------
    InputError
        If the source cannot be opened, or comes back with pictures of another format.
    OutputError
        If the output cannot be written, such as a pipe that its reader closed.
    SideFileError
        If the report cannot be written, and the output is complete.
    ArgumentError
        If an argument is not as described.
    DependencyError
        If a package is missing; for "window" OpenCV with its windows.

    See Also
    --------
    Stabilizer : Steady pictures with a fixed delay.
    stabilize : Turn a shaky video into a steady one; keep its sound, timestamps, rotation and colour tags.

    Examples
    --------
    >>> from legato import video
    >>> truth = video.synthesize("shaky.mp4", size=(160, 120), frames=6)
    >>> video.stabilize_live("shaky.mp4", "steady.mp4", latency_frames=2).frames_written
    6
    """
    output = Output(
        interpolation=interpolation,
        codec=codec,
        crf=crf,
        encoder_preset=encoder_preset,
        overwrite=overwrite,
        threads=threads,
    )
    path_options = live_aim(preset, crop, options).live_path_options
    if fps is not None:
        fps = as_number("fps", fps, least=SLOWEST, most=FASTEST)
    if duration_s is not None:
        duration_s = as_number("duration_s", duration_s, above=0)
    stall_s, reconnect_s = as_number("stall_s", stall_s, least=0), as_number("reconnect_s", reconnect_s, least=0)
    container = None if container is None else as_choice("container", container, CONTAINERS)
    # What is wrong with the arguments is better known before a camera is opened.
    how: dict[str, Any] = {
        "options": path_options,
        "latency_frames": latency_frames,
        "interpolation": output.interpolation,
        "guard": guard,
        "threads": output.threads,
    }
    Stabilizer((640, 360), 30, **how)
    camera_size = None if camera_size is None else as_size("camera_size", camera_size)
    origin = Source.of(
        source,
        fps,
        allow_playlists,
        camera_size=camera_size,
        options=_texts(input_options),
        sound=as_flag("sound", sound),
    )
    target = Target.of(os.fspath(destination), container)
    inputs: dict[str, PathLike] = {} if origin.path is None else {"input": origin.path}
    if mask is not None and not isinstance(mask, np.ndarray):
        inputs["mask"] = checked_path("mask", mask)
    check_destinations(
        inputs,
        {"destination": target.path, "report": None if report is None else Path(report)},
        output.overwrite,
    )
    if target.window:
        WindowSink.check()
    beside = SideFiles()
    with contextlib.ExitStack() as open_files:
        report_file = None if report is None else open_files.enter_context(PendingFile(report))
        reading = Reading(origin, stall_s, reconnect_s, duration_s)
        line = _Line(
            reading,
            target,
            lambda size, rate: Stabilizer(size, rate, mask=usable_area(size, mask, region), **how),
            fps,
            {"codec": output.codec, "crf": output.crf, "preset": output.encoder_preset},
            stall_s,
            reconnect_s,
            progress,
        )
        result, failure = line.run()
        if report_file is not None:
            with beside.attempt(report_file.destination):
                report_file.write_text([result.to_json()])
                report_file.commit()
        if tell is not None:
            tell(result)
        if failure is not None:
            raise failure
    beside.check(target.name, result)
    return result


def _texts(options: Mapping[str, str] | None) -> Mapping[str, str]:
    given = {} if options is None else options
    if not isinstance(given, Mapping) or not all(isinstance(text, str) for pair in given.items() for text in pair):
        raise ArgumentError(f"input_options: expected a mapping of text to text, got {shown(options)}")
    return given


class _Line:
    """The whole line, watched by the thread that runs it, which is the one that gets Ctrl-C and owns windows."""

    def __init__(
        self,
        reading: Reading,
        target: Target,
        stabilizer: Callable[[tuple[int, int], float], Stabilizer],
        fps: float | None,
        encoding: dict[str, Any],
        stall_s: float,
        reconnect_s: float,
        progress: bool,
    ) -> None:
        self._reading, self._target, self._make = reading, target, stabilizer
        self._fps, self._encoding, self._stall_s, self._progress = fps, encoding, stall_s, progress
        self._steady: LiveQueue[tuple[VideoFrame, float | None]] = LiveQueue(WRITE_QUEUE)
        self._latency = LatencyHistogram()
        self._waiting: dict[int, float] = {}
        self._reconnect_s = reconnect_s
        self._written = 0
        self._output_reconnects = 0
        self._before = 0  # pictures written before the output was opened last
        self._busy = {"compute": 0.0, "write": 0.0}
        self._error: BaseException | None = None
        self._done = threading.Event()
        self._sink: Sink
        self._open: Callable[[], LiveEncoder]

    def run(self) -> tuple[LiveReport, BaseException | None]:
        """Run to the end; give the report, and what is to be raised."""
        reading = self._reading
        reading.thread.start()
        try:
            self._wait_for_first()
            reader = reading.first
            assert reader is not None
            rate = self._fps or believed_rate(reader)
            self._size, self._rate = (reader.width, reader.height), believable_rate(rate)
            self._stabilizer = self._make(self._size, self._rate)
            self._window = WindowSink(reader) if self._target.window else None
            self._open = lambda: LiveEncoder(self._target, reader, rate, reading.sound, **self._encoding)
            self._sink = self._window or self._open()
        except BaseException:
            reading.stop("interrupted")
            raise
        self._began_s = time.monotonic()
        workers = [threading.Thread(target=self._compute, name="legato-compute", daemon=True)]
        if self._window is None:
            workers.append(threading.Thread(target=self._write, name="legato-write", daemon=True))
        for worker in workers:
            worker.start()
        stop: BaseException | None = None
        try:
            try:
                self._watch()
            except BaseException as error:  # Ctrl-C, or the like: in good order, what is under way included
                stop = error
                reading.stop("interrupted")
                reading.ended = (
                    "interrupted"  # the signal may have broken off a read first, which then looks like an end
                )
                self._watch()
        finally:  # and a second Ctrl-C, without it
            reading.stop("interrupted")
            self._steady.close(discard=True)
            # A thread inside the core must not outlive the interpreter; those that may hang are inside FFmpeg.
            workers[0].join()
            reading.thread.join(_TICK_S)
            self._sink.discard()
            if self._done.is_set():
                self._sink.close()
        failure = self._error or reading.error
        if isinstance(stop, KeyboardInterrupt):
            # A file that is not there counts for more than a Ctrl-C.
            keeps = isinstance(failure, OutputError) and self._target.path is not None
            failure = failure if keeps else None
        elif stop is not None:
            failure = stop
        if failure is not None and stop is None:
            reading.ended, reading.note = "failed", str(failure)
        return self._report(rate), failure

    def _wait_for_first(self) -> None:
        reading = self._reading
        quiet_s = 0.0
        while not reading.opened.wait(_TICK_S):
            quiet_s += _TICK_S  # not by the clock: a program that was suspended has not waited
            if self._stall_s and quiet_s > self._stall_s + _SLACK_S * reading.source.live:
                raise InputError(f"{reading.source.name}: gave no picture for {self._stall_s:g} s")
        if reading.error is not None:
            raise reading.error

    def _watch(self) -> None:
        """Wait for the end; see to it that it comes."""
        reading = self._reading
        quiet_s = idle_s = 0.0
        seen = written = -1
        told_s = time.monotonic()
        while not self._turn():
            progressed = reading.frames != seen or reading.reopening or reading.queue.waiting
            quiet_s = 0.0 if progressed else quiet_s + _TICK_S
            idle_s = 0.0 if self._written != written else idle_s + _TICK_S
            seen, written = reading.frames, self._written
            if self._stall_s and not reading.ended and quiet_s > self._stall_s + _SLACK_S * reading.source.live:
                reading.stop("stalled", f"{reading.source.name}: gave no picture for {self._stall_s:g} s")
                idle_s = 0.0
            if reading.ended and idle_s > _GRACE_S and (reading.stopped or self._error):
                return  # the output takes nothing any more
            if self._window is not None and self._window.closed:
                reading.stop("window")
            if self._progress and time.monotonic() - told_s >= 1:
                told_s = time.monotonic()
                self._tell()
        if self._progress:
            with contextlib.suppress(OSError, ValueError):
                print(file=sys.stderr)

    def _turn(self) -> bool:
        """Wait a little, or show a picture; True when all is written."""
        if self._window is None:
            return self._done.wait(_TICK_S)
        item = self._steady.get(_TICK_S)
        if item is not None:
            self._hand_over(*item)
            return False
        self._window.turn()
        if self._steady.over:
            self._sink.finish()
            self._done.set()
        return self._done.is_set()

    def _tell(self) -> None:
        late_ms = 1e3 * self._latency.percentile_s(99)
        rate = self._written / (time.monotonic() - self._began_s)
        line = (
            f"\r{self._written} frames, {rate:.1f} fps, beyond the delay p99 {late_ms:.0f} ms, "
            f"{self._reading.queue.dropped} dropped{', reconnecting' if self._reading.reopening else ''}   "
        )
        with contextlib.suppress(OSError, ValueError):  # nobody reads it, and the run does not depend on it
            print(line, end="", file=sys.stderr, flush=True)

    def _compute(self) -> None:
        connection = 0
        try:
            while (item := self._reading.queue.get()) is not None:
                began_s = time.perf_counter()
                if item.frame.planes.size != self._stabilizer.size:
                    self._begin_scene_of(item.frame.planes.size)
                steady = self._stabilizer.push(item.frame, cut=item.connection != connection)
                connection = item.connection
                fitted = [self._fitted(frame) for frame in steady]
                self._busy["compute"] += time.perf_counter() - began_s
                for frame in fitted:
                    if not self._steady.put((frame, item.at_s)):
                        return
            self._flush()
        except BaseException as error:
            self._fail(error)
        finally:
            self._steady.close()

    def _flush(self) -> None:
        """Hand on what the stabilizer holds."""
        for last in self._stabilizer.flush():
            self._steady.put((self._fitted(cast(VideoFrame, last)), None))

    def _begin_scene_of(self, size: tuple[int, int]) -> None:
        """Go on with pictures of another size: another scene, drawn into the output as it is."""
        self._flush()
        before = self._stabilizer
        self._stabilizer = self._make(size, self._rate)
        for name in ("failed", "duplicates", "cuts", "rested"):
            setattr(self._stabilizer, name, getattr(before, name) + (name == "cuts"))

    def _fitted(self, frame: VideoFrame) -> VideoFrame:
        """Draw a picture of another size than the output's into that, whole and in the middle of black."""
        width, height = frame.planes.size
        if (width, height) == self._size:
            return frame
        scale = max(width / self._size[0], height / self._size[1])
        fit = np.array([[scale, 0, 0], [0, scale, 0], [0, 0, 1.0]])
        fit[:2, 2] = [(width - 1 - scale * (self._size[0] - 1)) / 2, (height - 1 - scale * (self._size[1] - 1)) / 2]
        picture = warp(frame.planes, fit, self._size)
        blackened(picture, beyond(fit, self._size, (width, height)), frame.color.range)
        return replace(frame, planes=picture)

    def _write(self) -> None:
        try:
            while (item := self._steady.get()) is not None:
                self._hand_over(*item)
            if self._error is None:
                self._sink.finish()
        except BaseException as error:
            self._fail(error)
        finally:
            self._done.set()

    def _hand_over(self, frame: VideoFrame, at_s: float | None) -> None:
        began_s = time.perf_counter()
        if at_s is not None:
            self._waiting[self._written] = at_s
        gone = self._put_out(frame)
        self._busy["write"] += time.perf_counter() - began_s
        now_s = time.monotonic()
        for number in gone:
            arrived_s = self._waiting.pop(self._before + number, None)
            if arrived_s is not None:  # what a flush releases was not waited for
                self._latency.record(now_s - arrived_s)
        self._written += 1

    def _put_out(self, frame: VideoFrame) -> list[int]:
        """Write a picture; an output stream that breaks is opened again, and begins with it."""
        try:
            return self._sink.write(frame)
        except OutputError:
            if not self._target.streamed:
                raise
            began_s = time.monotonic()
            self._sink.close()
            for delay_s in itertools.chain(RETRY_S, itertools.repeat(RETRY_S[-1])):
                if self._reading.ended or time.monotonic() - began_s + delay_s > self._reconnect_s:
                    raise
                time.sleep(delay_s)
                if self._reading.reopening:  # what the sound is like is not known
                    continue
                with contextlib.suppress(OutputError):
                    self._sink = self._open()
                    self._output_reconnects += 1
                    self._waiting = {k: s for k, s in self._waiting.items() if k == self._written}
                    self._before = self._written
                    return self._sink.write(frame)
            raise

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self._reading.stop("failed")
        self._steady.close(discard=True)

    def _report(self, rate: float) -> LiveReport:
        reading, stabilizer = self._reading, self._stabilizer
        seconds = time.monotonic() - self._began_s
        note = reading.note if reading.ended in ("stalled", "lost", "failed") else ""
        if not self._done.is_set():
            note = f"{self._target.name}: takes no pictures any more; what was written is not complete"
        assert reading.first is not None
        busy = {"read": reading.busy_s, **self._busy}
        late = self._latency
        return LiveReport(
            source=reading.source.name,
            destination=self._target.name,
            ended=reading.ended,
            note=note,
            size=getattr(self._sink, "size", self._size),
            frame_rate=rate,
            latency_frames=stabilizer.latency_frames,
            frames_read=reading.frames,
            frames_dropped=reading.queue.dropped,
            frames_written=self._written,
            **reading.faults,
            failed=stabilizer.failed,
            duplicates=stabilizer.duplicates,
            cuts=stabilizer.cuts,
            rested=stabilizer.rested,
            reconnects=reading.reconnects,
            output_reconnects=self._output_reconnects,
            sound=self._sink.sound.how if isinstance(self._sink, LiveEncoder) else "none",
            latency_ms={
                **{f"p{q}": 1e3 * late.percentile_s(q) for q in (50, 90, 99)},
                "max": 1e3 * late.max_s,
                "histogram": late.coarse(),
            },
            delay_ms=1e3 * stabilizer.latency_frames / rate,
            busy={stage: spent / seconds for stage, spent in busy.items()},
            seconds=seconds,
        )
