"""What was done to a video, in numbers: for a person, for a program, and for `legato view`."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from legato import __version__
from legato._printing import printable
from legato.video.media.decoding import load_av

__all__ = ["StabilizeReport", "counted", "package_versions"]

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class StabilizeReport:
    """What was done to a video and what was gained.

    Attributes
    ----------
    source, destination : str
        The files, as named by the caller; in the JSON as absolute paths, so that it can be read anywhere.
    comparison : str or None
        The side-by-side video, if one was written.
    motion_file : str or None
        Where the motion came from, if it was not estimated now.
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
    preset : str
        The preset of the path.
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
    path_gap : float
        The largest certified gap of a solved program: of a window, or of the whole path.
    path_iterations : int
        Iterations of the solver.
    violation_px : float
        Largest distance by which a rendered picture reaches beyond the frame, in pixels; 0 is inside.
    cropping, distortion : float
        Mean part of the field of view that is kept (linear), and smallest ratio of the singular values of a
        correction's affine part: 1 is unchanged.
    jitter_in_px, jitter_out_px : float
        How much the pictures shake before and after, measured: root mean square second difference of points followed
        through three pictures, in a sample of them, in pixels at a width of 640 (see `evaluate`). Of a clip left as it
        is, both are what the tracker's points had. NaN where there were no such points.
    planned_jitter_in_px, planned_jitter_out_px : float
        What the estimated motion and the planned path say instead: root mean square change from frame to frame of the
        corners' displacement, in pixels. Less than what can be measured: no estimate is exact.
    sway_in_px, sway_out_px, sway_in_deg, sway_out_deg : float
        Planned slow to and fro, between 0.3 and 1.5 Hz, before and after: of the corners, at a width of 640 pixels, and
        of the roll (see `legato.camera.path_sway`). NaN for clips too short to have any.
    guard_ratio : float
        What the standard path leaves of the shake of the tracker's points, by which it is decided whether the clip is
        stabilized (see `guard`); NaN where they were too few, or the motion came from elsewhere.
    worst_second_ratio, worst_second_at_s : float
        The same of the second that it does least for, and when that began.
    not_followed : list of str
        What was asked for and not done, since the clip was left as it is.
    filled : dict or None
        Where the picture was kept whole (`fill`): the part of the frame that is shown ("view"); the mean share of the
        pictures that was filled from neighbors ("outside"), and that no neighbor shows well enough ("membrane"); the
        predicted mean error of what was filled in gray levels of 256 ("error", "error_p95" over pictures); how many
        frames on each side were kept for that ("reach_frames"), and the bytes of all that waited ("memory_bytes"); how
        far the view gave way where filling would fail ("retreat": the side that came in most, in parts of the picture,
        the mean).
        `violation_px` is then 0: what lies beyond the frame is filled.
    subject_lost : int or None
        The first frame in which the subject to follow was lost; None if it never was, or there is none.
    copied_streams, dropped_streams : list of str
        Sound, subtitles and others, by what became of them.
    skipped_packets, damaged_frames, repaired_timestamps : int
        Counted by the reader (see `VideoReader`).
    notes : list of str
        What else a user should know.
    seconds : dict
        Seconds by the clock that each stage was at work ("decode", "track", "path", "warp", "encode", ...). Stages
        overlap, so that "total", the time from beginning to end, may be less than their sum.
    shares : dict
        Part of the processor time that each stage's own thread used; decoder and encoder have more threads, which are
        the "other threads". Where several videos are worked on at the same time, these are of all of them.
    versions : dict
        Of Legato and of the packages that did the work.
    curves : dict
        What `legato view` draws: for "before" and "after" the horizontal and vertical position of the camera in
        pixels, its roll in degrees and its zoom in percent, one number a frame, and "time_s".
    motion, corrections : (n, 3, 3) float64 arrays
        Frame t to frame t - 1, with the failed ones bridged, and output pixel to input pixel; both in pixels. The
        corrections are in the JSON, nine numbers a frame, row by row; the motion has a file of its own.

    See Also
    --------
    stabilize : Turn a shaky video into a steady one; keep its sound, timestamps, rotation and colour tags.
    evaluate : Measure a stabilized video against its original.

    Examples
    --------
    >>> from legato import video
    >>> truth = video.synthesize("shaky.mp4", size=(160, 120), frames=6)
    >>> report = video.stabilize("shaky.mp4", "steady.mp4")
    >>> report.frames, report.size, report.to_json()[0]
    (6, (160, 120), '{')
    >>> report.summary().split(":")[0]
    'steady.mp4'
    """

    source: str
    destination: str
    comparison: str | None
    motion_file: str | None
    frames: int
    size: tuple[int, int]
    output_size: tuple[int, int]
    frame_rate: float
    duration_s: float
    codec: str
    pixel_format: str
    preset: str
    options: dict[str, Any]
    motion_known: bool
    failed: list[int]
    duplicates: list[int]
    path_status: str
    path_gap: float
    path_iterations: int
    violation_px: float
    cropping: float
    distortion: float
    jitter_in_px: float
    jitter_out_px: float
    planned_jitter_in_px: float
    planned_jitter_out_px: float
    sway_in_px: float
    sway_out_px: float
    sway_in_deg: float
    sway_out_deg: float
    guard_ratio: float
    worst_second_ratio: float
    worst_second_at_s: float
    not_followed: list[str]
    filled: dict[str, float] | None
    subject_lost: int | None
    copied_streams: list[str]
    dropped_streams: list[str]
    skipped_packets: int
    damaged_frames: int
    repaired_timestamps: int
    notes: list[str]
    seconds: dict[str, float]
    shares: dict[str, float]
    versions: dict[str, str]
    curves: dict[str, Any] = field(repr=False)
    motion: Floats = field(repr=False, metadata={"json": False})
    corrections: Floats = field(repr=False, metadata={"json": False})

    def to_json(self) -> str:
        """Give the report as JSON text; a number that is not finite becomes null.

        See Also
        --------
        StabilizeReport.summary : Give the result in one line.
        """
        content = {f.name: _finite(getattr(self, f.name)) for f in fields(self) if f.metadata.get("json", True)}
        for name in ("source", "destination", "comparison", "motion_file"):
            if content[name] is not None:
                content[name] = str(Path(content[name]).absolute())
        rows = [[float(f"{v:.10g}") for v in matrix.flat] for matrix in self.corrections]
        long = {"curves": content.pop("curves"), "corrections": rows}
        text = json.dumps(content, indent=2, allow_nan=False).removesuffix("\n}")
        for name, value in long.items():  # on one line: with a number a line it would be a long file
            text += f',\n  "{name}": {json.dumps(value, allow_nan=False, separators=(",", ":"))}'
        return text + "\n}\n"

    def summary(self) -> str:
        """Give the result in one line.

        See Also
        --------
        StabilizeReport.to_json : Give the report as JSON text; a number that is not finite becomes null.
        """
        name = printable(self.destination)
        rate = self.frames / self.seconds["total"] if self.seconds["total"] > 0 else math.inf
        speed = f"{counted(self.frames, 'frame')} in {self.seconds['total']:.1f} s ({rate:.0f} fps)"
        if not self.motion_known:
            return f"{name}: {speed}; no motion could be estimated, pictures unchanged"
        if self.path_status == "rest":
            return f"{name}: {speed}; nothing to be gained, pictures unchanged"
        gain = f"planned jitter {self.planned_jitter_in_px:.2f} -> {self.planned_jitter_out_px:.2f} px"
        if math.isfinite(self.jitter_in_px) and math.isfinite(self.jitter_out_px):
            gain = f"measured jitter {self.jitter_in_px:.2f} -> {self.jitter_out_px:.2f} px"
        filled = "" if self.filled is None else f", {self.filled['outside']:.1%} of the picture filled from neighbors"
        return f"{name}: {speed}; {gain}, {self.cropping:.0%} of the view kept{filled}"


def counted(number: int, what: str) -> str:
    """Say how many there are of something."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def package_versions() -> dict[str, str]:
    """Tell the versions of Legato and of the packages that do its work."""
    return {"legato": __version__, "av": str(load_av().__version__), "numpy": np.__version__}


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
