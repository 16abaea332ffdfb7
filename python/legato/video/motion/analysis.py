"""How the camera moved through a video, kept in memory or in a motion file.

A motion file is JSON lines (UTF-8): an object that describes the video, then one object a frame. docs/video.md has
the format, so that motion from a gyroscope or from another tracker can be written by anybody.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from legato import __version__
from legato._files import PathLike, PendingFile, check_destinations, checked_path, json_lines, parse_fraction
from legato.errors import ArgumentError, InputError
from legato.video.choices import Backend, Rotation
from legato.video.media.decoding import load_av, open_media
from legato.video.media.reader import VideoFrame, VideoReader
from legato.video.motion.guard import Gain, traces
from legato.video.motion.letterbox import Inset
from legato.video.motion.subjects import Box, SubjectTracker, check_box
from legato.video.pipeline import Stopwatch
from legato.video.progress import Progress

__all__ = ["Analysis", "FrameTracker", "Rotation", "Step", "read_mask", "usable_area"]

Floats: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_] | NDArray[np.uint8]

_FORMAT, _VERSION = "legato-motion", 1
_LONGEST_TICK_S = 3600
_MOST_LINE_BYTES = 1 << 20
# Clocks of containers count milliseconds or finer, so the same frame is at most this far from itself.
_SAME_TIME_S = 0.0015
_LEAST_DOWN = 0.1  # of the vertical, that a camera must see across its picture to know its roll
_LARGEST = 1e12  # of a number in a file: what is beyond would overflow later, and mean nothing


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What is known of one frame: a row of an `Analysis`.

    Attributes
    ----------
    motion : (3, 3) float64 array
        From this frame to the one before; the identity where `ok` is false.
    ok, duplicate : bool
    confidence, error_px : float
        NaN where they are not known.
    pts : int or None
    subject : (x, y, width, height) or None
    traces : (k, 3, 2) float32 array or None
        Where points were in the two frames before and are in this one (see `guard`); None where nobody says.
    roll : float
        Radians by which the camera is turned clockwise out of the level; NaN where nobody says.
    """

    motion: Floats
    ok: bool
    duplicate: bool = False
    confidence: float = math.nan
    error_px: float = math.nan
    pts: int | None = None
    subject: Box | None = None
    traces: NDArray[np.float32] | None = None
    roll: float = math.nan


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """How the camera moved through a video, and when its frames are shown.

    Attributes
    ----------
    size : (int, int)
        Width and height of the pictures, in pixels.
    motion : (n, 3, 3) float64 array
        Homographies from frame t to frame t - 1, pixels, pixel centers at integers; the identity in frame 0 and where
        `ok` is false.
    ok, duplicate : (n,) bool arrays
        Frames whose motion is known, and those that repeat the one before.
    confidence : (n,) float64 array
        0 to 1 (see `Motion`); NaN where the origin of the motion does not say.
    error_px : (n,) float64 array, or None
        Predicted standard deviation of the displacement of the frame's corners, in pixels; NaN where it is not known.
    pts : (n,) int64 array, or None
        Times of presentation in units of `time_base`; None where a file does not say.
    time_base : Fraction or None
        Seconds.
    frame_rate, duration_s : float or None
        Average frames per second; seconds from the first picture to the end of the last.
    subject : (n, 4) float64 array, or None
        Box x, y, width, height of the subject that was followed, in pixels; NaN where it was lost.
    rotation : {"apply", "keep"}
        Whether the pictures were turned upright before.
    source : str
        The video, or the motion file.
    skipped_packets, damaged_frames, repaired_timestamps : int
        Counted by the reader (see `VideoReader`).
    notes : tuple of str
        What a user should know about how the video was read.
    gain : Gain or None
        What stabilizing brings, and so whether the guard leaves the clip as it is; None where nothing is known of it.
    roll : (n,) float64 array, or None
        Radians by which the camera is turned clockwise out of the level, of motion files that tell; NaN where it is not
        known.

    See Also
    --------
    analyze : Estimate the motion of a video: the first half of `stabilize`, to be used again.
    render : Stabilize a video whose motion is known: the second half of `stabilize`.

    Examples
    --------
    >>> from legato import video
    >>> truth = video.synthesize("shaky.mp4", size=(160, 120), frames=6)
    >>> found = video.analyze("shaky.mp4")
    >>> found.motion.shape, found.time_s(3), len(list(found.steps()))
    ((6, 3, 3), 0.1, 6)
    >>> found.save("shaky.motion")
    >>> next(found.lines()).startswith("{")
    True
    >>> with video.VideoReader("shaky.mp4") as reader:
    ...     sum(1 for picture in found.check_pictures(reader))
    6
    """

    size: tuple[int, int]
    motion: Floats
    ok: NDArray[np.bool_]
    duplicate: NDArray[np.bool_]
    confidence: Floats
    error_px: Floats | None = None
    pts: NDArray[np.int64] | None = None
    time_base: Fraction | None = None
    frame_rate: float | None = None
    duration_s: float | None = None
    subject: Floats | None = None
    rotation: Rotation = "apply"
    source: str = ""
    skipped_packets: int = 0
    damaged_frames: int = 0
    repaired_timestamps: int = 0
    notes: tuple[str, ...] = ()
    gain: Gain | None = None
    roll: Floats | None = None

    def __len__(self) -> int:
        return len(self.motion)

    @property
    def known(self) -> bool:
        """Whether any frame moved in a way that was measured."""
        moved = self.ok & ~self.duplicate
        return bool(moved[1:].any())  # the first frame has nothing before it

    @property
    def failed(self) -> list[int]:
        """Frames whose motion is not known."""
        return [int(t) for t in np.flatnonzero(~self.ok)]

    def steps(self) -> Iterator[Step]:
        """Go through the frames.

        See Also
        --------
        Analysis.time_s : Time of presentation of a frame in seconds, if it is known.
        """
        for t in range(len(self)):
            box = None if self.subject is None else self.subject[t].tolist()
            yield Step(
                motion=self.motion[t],
                ok=bool(self.ok[t]),
                duplicate=bool(self.duplicate[t]),
                confidence=float(self.confidence[t]),
                error_px=math.nan if self.error_px is None else float(self.error_px[t]),
                pts=None if self.pts is None else int(self.pts[t]),
                subject=None if box is None or not all(map(math.isfinite, box)) else tuple(box),
                roll=math.nan if self.roll is None else float(self.roll[t]),
            )

    def time_s(self, index: int) -> float | None:
        """Time of presentation of a frame in seconds, if it is known.

        See Also
        --------
        Analysis.steps : Go through the frames.
        """
        if self.pts is None or self.time_base is None:
            return None
        return float(int(self.pts[index]) * self.time_base)

    def check_pictures(self, pictures: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
        """Go through the pictures of the video that this is the motion of.

        Raises
        ------
        InputError
            If they are those of another: more or fewer, or shown at other times.

        See Also
        --------
        render : Stabilize a video whose motion is known: the second half of `stabilize`.
        """
        count, done = len(self), 0
        for frame in pictures:
            if done == count:
                raise InputError(f"{self.source}: motion of {count} frames, and the video has more")
            at = self.time_s(done)
            if at is not None and abs(at - frame.time_s) > _SAME_TIME_S:
                raise InputError(
                    f"{self.source}: motion of another video: frame {done} is shown at {frame.time_s:.4f} s, "
                    f"not at {at:.4f} s"
                )
            yield frame
            done += 1
        if done != count:
            raise InputError(f"{self.source}: motion of {count} frames, and the video has only {done}")

    def save(self, path: PathLike) -> None:
        """Write a motion file, whole or not at all.

        Raises
        ------
        ArgumentError
            If it is the file that the motion comes from.
        OutputError
            If the file cannot be written.

        See Also
        --------
        Analysis.lines : Go through the lines of a motion file.
        """
        check_destinations({"source": self.source} if self.source else {}, {"path": path})
        with PendingFile(path) as pending:
            pending.write_text(self.lines())
            pending.commit()

    def lines(self) -> Iterator[str]:
        """Go through the lines of a motion file.

        See Also
        --------
        Analysis.save : Write a motion file, whole or not at all.
        """
        head = {
            "format": _FORMAT,
            "version": _VERSION,
            "size": list(self.size),
            "frames": len(self),
            "frame_rate": self.frame_rate,
            "duration_s": self.duration_s,
            "time_base": None if self.time_base is None else str(self.time_base),
            "rotation": self.rotation,
            "source": self.source,
            "created_by": f"legato {__version__}",
            "notes": list(self.notes),
            "gain": None if self.gain is None else self.gain.content(),
        }
        yield _line({key: value for key, value in head.items() if value not in (None, [])})
        for t in range(len(self)):
            yield _line(self._row(t))

    def _row(self, t: int) -> dict[str, Any]:
        row: dict[str, Any] = {}
        if self.pts is not None:
            row["pts"] = int(self.pts[t])
        row["homography"] = self.motion[t].ravel().tolist() if t and self.ok[t] else None
        if math.isfinite(self.confidence[t]):
            row["confidence"] = float(self.confidence[t])
        if self.error_px is not None and math.isfinite(self.error_px[t]):
            row["error_px"] = float(self.error_px[t])
        if self.duplicate[t]:
            row["duplicate"] = True
        if self.roll is not None and math.isfinite(self.roll[t]):
            row["roll_deg"] = math.degrees(self.roll[t])
        if self.subject is not None and np.isfinite(self.subject[t]).all():
            row["subject"] = self.subject[t].tolist()
        return row

    @classmethod
    def load(cls, path: PathLike) -> Self:
        """Read a motion file.

        Raises
        ------
        InputError
            If the file cannot be read, is incomplete, or is not as described.
        """
        path = Path(path)
        lines = _objects(path)
        head = next(lines, None)
        if head is None or head[1].get("format") != _FORMAT:
            raise InputError(f"{path}: not a motion file of Legato")
        return cls(**_read(path, head[1], lines))


def _line(content: dict[str, Any]) -> str:
    return json.dumps(content, allow_nan=False, separators=(",", ":")) + "\n"


def _objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Objects of a file of JSON lines, each with the words by which an error names it."""
    lines = json_lines(path, _MOST_LINE_BYTES)
    begun = False
    while True:
        try:
            number, content = next(lines)
        except StopIteration:
            return
        except InputError as error:
            if not begun and str(error).startswith(f"{path}: line"):
                raise InputError(f"{path}: not a motion file of Legato") from None
            if ": not JSON" in str(error):
                raise InputError(f"{error}; is the file complete?") from None
            raise
        begun, where = True, f"{path}: line {number}"
        if not isinstance(content, dict):
            raise InputError(f"{where}: expected a JSON object")
        yield where, content


def _read(path: Path, head: dict[str, Any], lines: Iterator[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Read what `Analysis` is made of."""
    if head.get("version") != _VERSION:
        raise InputError(f"{path}: a motion file of version {reprlib.repr(head.get('version'))}, expected {_VERSION}")
    where = f"{path}: line 1"
    size = tuple(int(v) for v in _numbers(where, head, "size", 2))
    if min(size) < 1:
        raise InputError(f"{where}: size: expected width and height of at least 1")
    camera = _numbers(where, head, "camera", 4) if "camera" in head else None
    if camera is not None and not (camera[:2] > 0).all():
        raise InputError(f"{where}: camera: expected focal lengths above 0")
    rotation = head.get("rotation", "apply")
    if rotation not in ("apply", "keep"):
        raise InputError(f"{where}: rotation: expected 'apply' or 'keep', got {reprlib.repr(rotation)}")
    motion: list[Floats] = []
    pts: list[int] = []
    ok, duplicate, confidence, error, subject, roll = [], [], [], [], [], []
    before: Floats | None = None
    for where, row in lines:
        first = not motion
        step = None
        roll.append(np.radians(_numbers(where, row, "roll_deg", 1)[0]) if row.get("roll_deg") is not None else np.nan)
        if row.get("homography") is not None:
            step = _numbers(where, row, "homography", 9).reshape(3, 3)
        if row.get("orientation") is not None:
            if camera is None:
                raise InputError(f"{where}: orientation: needs 'camera' in line 1")
            now = _turn(where, _numbers(where, row, "orientation", 4))
            if before is not None and step is None:
                step = _of_turn(where, before, now, camera)
            before = now
            roll[-1] = _roll_of(now) if math.isnan(roll[-1]) else roll[-1]
        else:
            before = None
        ok.append(first or step is not None)
        motion.append(np.eye(3) if first or step is None else step)
        duplicate.append(not first and row.get("duplicate") is True)
        confidence.append(_numbers(where, row, "confidence", 1)[0] if "confidence" in row else np.nan)
        error.append(abs(_numbers(where, row, "error_px", 1)[0]) if "error_px" in row else np.nan)
        if row.get("pts") is not None:
            if type(row["pts"]) is not int or abs(row["pts"]) >= 1 << 62 or (pts and row["pts"] <= pts[-1]):
                raise InputError(f"{where}: pts: expected whole numbers that increase")
            pts.append(row["pts"])
        box = row.get("subject")
        subject.append(np.full(4, np.nan) if box is None else _numbers(where, row, "subject", 4))
    count = len(motion)
    if count == 0:
        raise InputError(f"{path}: no frame in the motion file")
    if head.get("frames", count) != count:
        said = reprlib.repr(head["frames"])
        raise InputError(f"{path}: {count} frames where the first line says {said}; is the file complete?")
    if pts and len(pts) != count:
        raise InputError(f"{path}: pts: expected in all frames or in none, got {len(pts)} of {count}")
    boxes = np.array(subject)
    try:
        gain = Gain.of(head["gain"]) if "gain" in head else None
    except ValueError as wrong:
        raise InputError(f"{path}: line 1: gain: {wrong}") from None
    notes = head["notes"] if isinstance(head.get("notes"), list) else []
    time_base = _time_base(path, head)
    if pts and time_base is None:
        raise InputError(f"{path}: line 1: pts need a 'time_base'")
    return {
        "size": size,
        "motion": np.array(motion),
        "ok": np.array(ok),
        "duplicate": np.array(duplicate),
        "confidence": np.array(confidence),
        "error_px": np.array(error) if np.isfinite(error).any() else None,
        "pts": np.array(pts, np.int64) if pts else None,
        "time_base": time_base,
        "frame_rate": _positive(path, head, "frame_rate"),
        "duration_s": _positive(path, head, "duration_s"),
        "subject": boxes if np.isfinite(boxes).any() else None,
        "rotation": rotation,
        "source": os.fspath(path),
        "notes": tuple(note for note in notes if isinstance(note, str)),
        "gain": gain,
        "roll": np.array(roll) if np.isfinite(roll).any() else None,
    }


def _numbers(where: str, row: dict[str, Any], name: str, count: int) -> Floats:
    given = row.get(name)
    listed: list[Any] = given if isinstance(given, list) else [given]
    # A whole number of a thousand digits is JSON, too.
    real = all(type(v) in (int, float) and abs(v) < _LARGEST for v in listed)
    if len(listed) != count or not real:
        raise InputError(f"{where}: {name}: expected {count} finite number{'s' if count > 1 else ''}")
    return np.array(listed, np.float64)


def _positive(path: Path, head: dict[str, Any], name: str) -> float | None:
    if head.get(name) is None:
        return None
    value = float(_numbers(f"{path}: line 1", head, name, 1)[0])
    if value <= 0:
        raise InputError(f"{path}: line 1: {name}: expected a number above 0")
    return value


def _time_base(path: Path, head: dict[str, Any]) -> Fraction | None:
    if head.get("time_base") is None:
        return None
    given, value = head["time_base"], Fraction(0)
    if isinstance(given, str):
        with contextlib.suppress(ValueError):
            value = parse_fraction(given)
    elif type(given) in (int, float) and 0 < given <= _LONGEST_TICK_S:
        value = Fraction(given)
    if not 0 < value <= _LONGEST_TICK_S:
        raise InputError(f"{path}: line 1: time_base: expected seconds such as '1/90000'")
    return value


def _turn(where: str, q: Floats) -> Floats:
    """Rotation matrix of a quaternion w, x, y, z."""
    length = float(np.linalg.norm(q))
    if not length > 1e-6:
        raise InputError(f"{where}: orientation: expected a quaternion w, x, y, z other than 0")
    w, x, y, z = q / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _roll_of(turn: Floats) -> float:
    """Radians by which a camera is turned clockwise out of the level; NaN where it looks straight up or down."""
    right, down = turn[1, :2]  # of the fixed y axis, as the camera sees it
    return math.atan2(right, down) if math.hypot(right, down) > _LEAST_DOWN else math.nan


def _of_turn(where: str, before: Floats, now: Floats, camera: Floats) -> Floats:
    """Homography between two views of a camera that only turned: K R_before^T R_now K^-1."""
    fx, fy, cx, cy = camera
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    with np.errstate(all="ignore"):
        K_inverse = np.array([[1 / fx, 0, -cx / fx], [0, 1 / fy, -cy / fy], [0, 0, 1]])
        H = K @ before.T @ now @ K_inverse
        H /= H[2, 2]
    if not np.isfinite(H).all():
        raise InputError(f"{where}: orientation: the camera turns so far that no homography says it")
    return np.asarray(H)


def read_mask(mask: PathLike | NDArray[Any], size: tuple[int, int]) -> Mask:
    """Read a mask for the tracker.

    Parameters
    ----------
    mask : path, or (height, width) bool or uint8 array
        A picture file, white where the scene may be followed and black where not; or the same as an array.
    size : (int, int)
        Width and height that it has to have.

    Returns
    -------
    (height, width) bool array
        True where the scene may be followed.

    Raises
    ------
    InputError
        If the file is not a picture.
    ArgumentError
        If the size is another.
    """
    if isinstance(mask, np.ndarray):
        if mask.shape != size[::-1] or mask.dtype not in (np.bool_, np.uint8):
            raise ArgumentError(
                f"mask: expected a bool or uint8 array of shape {size[::-1]}, got {mask.dtype} of shape {mask.shape}"
            )
        return np.asarray(mask != 0)
    av = load_av()
    path = checked_path("mask", mask)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with open_media(path) as picture:
            gray = next(picture.decode(video=0)).to_ndarray(format="gray")
    except (av.FFmpegError, StopIteration, IndexError, ValueError) as error:
        raise InputError(f"{path}: not a picture") from error
    if gray.shape != size[::-1]:
        raise ArgumentError(f"mask: {path} is {gray.shape[1]}x{gray.shape[0]}, the video {size[0]}x{size[1]}")
    return np.asarray(gray >= 128)


def usable_area(size: tuple[int, int], mask: PathLike | NDArray[Any] | None, region: Box | None) -> Mask | None:
    """Tell where the scene may be followed, by mask and region together; None: everywhere.

    Raises
    ------
    InputError, ArgumentError
        As `read_mask`; also if nothing is left.
    """
    usable = None if mask is None else read_mask(mask, size)
    if region is not None:
        x, y, w, h = check_box("region", region, size)
        if x < 0 or y < 0 or x + w > size[0] or y + h > size[1]:
            raise ArgumentError(
                f"region: {x:g},{y:g},{w:g},{h:g} reaches beyond the picture of {size[0]}x{size[1]}, expected inside"
            )
        inside = np.zeros(size[::-1], bool)
        inside[max(0, math.floor(y)) : math.ceil(y + h), max(0, math.floor(x)) : math.ceil(x + w)] = True
        usable = inside if usable is None else np.asarray(usable & inside)
    if usable is not None and not usable.any():
        raise ArgumentError(
            "mask: black everywhere" + ("" if region is None else " in the region") + ", expected white"
        )
    return usable


class FrameTracker:
    """The estimate of the motion: follow the camera, and perhaps a subject, through the frames of a reader.

    Parameters
    ----------
    reader : VideoReader
        Where the frames come from.
    mask, region, subject, backend
        As for `legato.video.analyze`.
    inset : (x, y, width, height) of int, or None
        The picture inside of black bars.

    Attributes
    ----------
    backend : {"native", "opencv"}
        As given.
    usable : (height, width) bool or uint8 array, or None
        Where the scene may be followed, by mask and region together.
    """

    def __init__(
        self,
        reader: VideoReader,
        *,
        mask: PathLike | NDArray[Any] | None = None,
        region: Box | None = None,
        subject: Box | None = None,
        backend: Backend = "native",
        inset: Inset | None = None,
    ) -> None:
        from legato.video.motion.tracking import Tracker

        self._reader = reader
        size = (reader.width, reader.height)
        self.usable = usable_area(size, mask, region)
        self.backend = backend
        if inset is not None:
            x, y, w, h = inset
            within = np.zeros(size[::-1], bool)
            within[y : y + h, x : x + w] = True
            self.usable = within if self.usable is None else np.asarray((self.usable != 0) & within)
        self._tracker = Tracker(size, mask=self.usable, backend=backend)
        self._subject = None if subject is None else SubjectTracker(size, subject)
        self._points: NDArray[np.float32] = np.empty((0, 4), np.float32)  # of the pair of frames before
        self._last_duration = 0

    def follow(
        self, frames: Iterable[VideoFrame], watch: Stopwatch, tell: Progress
    ) -> Iterator[tuple[VideoFrame, Step]]:
        """Go through all frames of the reader; give each with its step."""
        from legato.video.media.planes import luma
        from legato.video.motion.tracking import predicted_error_px

        for frame in frames:
            with watch("track"):
                picture = luma(frame.planes)
                motion = self._tracker.push(picture)
                box = None if self._subject is None else self._subject.push(picture)
                if motion is None:
                    step = Step(np.eye(3), True, confidence=1.0, pts=frame.pts, subject=box)
                else:
                    step = Step(
                        np.asarray(motion.homography, np.float64),
                        bool(motion.ok),
                        bool(motion.duplicate),
                        float(motion.confidence),
                        predicted_error_px(motion),
                        frame.pts,
                        box,
                        traces(self._points, motion.points, self._tracker.size),
                    )
                    self._points = motion.points
            self._last_duration = frame.duration
            tell("track", frame.index + 1, self._reader.frame_count)
            yield frame, step

    def analysis(self, steps: Sequence[Step]) -> Analysis:
        """Put together what was found, once the reader is at its end."""
        reader, pts = self._reader, [step.pts or 0 for step in steps]
        count = len(steps)
        span = (pts[-1] - pts[0]) * reader.time_base
        rate = (count - 1) / span if span > 0 else reader.frame_rate
        error = np.array([step.error_px for step in steps])
        return Analysis(
            size=(reader.width, reader.height),
            motion=np.array([step.motion for step in steps]),
            ok=np.array([step.ok for step in steps]),
            duplicate=np.array([step.duplicate for step in steps]),
            confidence=np.array([step.confidence for step in steps]),
            error_px=error if np.isfinite(error).any() else None,
            pts=np.array(pts, np.int64),
            time_base=reader.time_base,
            frame_rate=float(rate),
            duration_s=float(span + (self._last_duration * reader.time_base or 1 / Fraction(rate))),
            subject=None if self._subject is None else np.array([step.subject or (np.nan,) * 4 for step in steps]),
            rotation="apply" if reader.rotate else "keep",
            source=os.fspath(reader.path),
            skipped_packets=reader.skipped_packets,
            damaged_frames=reader.damaged_frames,
            repaired_timestamps=reader.repaired_timestamps,
            notes=(*reader.notes, *self._small_area(steps)),
        )

    def _small_area(self, steps: Sequence[Step]) -> list[str]:
        """Say that mask and region may be why nothing was found."""
        if self.usable is None or any(step.ok and not step.duplicate for step in steps[1:]):
            return []
        return [f"mask and region leave {self.usable.mean():.2g} of the picture to follow the scene in"]
