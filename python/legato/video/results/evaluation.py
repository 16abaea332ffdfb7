"""How steady a video became: the metrics of the field on any pair of files, and a check that trusts no motion model.

Everything is measured from the pixels of the two files; nothing is taken from whoever stabilized them. Definitions,
their pitfalls and what each figure cannot see are in ``docs/quality.md``.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from legato import camera
from legato._files import PathLike, read_text
from legato._scalars import as_count
from legato.errors import ArgumentError, InputError
from legato.video.media.planes import luma
from legato.video.media.reader import VideoReader
from legato.video.motion.tracking import Motion, Tracker, estimate_motion
from legato.video.progress import Progress, told
from legato.video.results.tracks import TrackJitter
from legato.video.warping import warp

__all__ = ["VideoMetrics", "evaluate"]

Floats: TypeAlias = NDArray[np.float64]
Gray: TypeAlias = NDArray[np.uint8]

_REFERENCE_WIDTH = 640
# Zooms tried where nothing is known of how the result was cut out of the original.
_ZOOMS = (1.0, 1.12, 1.25, 1.4, 1.6, 1.9)
_MOST_UNPAIRED = 1  # pictures that encoders add or lose at the end
_LEAST_SIDE = 24  # what the tracker needs
_DARK = 10  # of 255 above black
_LEAST_BORDER = 0.0015
_SHARPNESS_STEP = 10
_OUTSIDE_GRID = (65, 37)
_OUTSIDE_PX = 1.0
_MOST_BYTES = 1 << 30  # of a report


@dataclass(frozen=True, slots=True)
class VideoMetrics:
    """Measures of a stabilized video against its original.

    Lengths are in pixels of a picture 640 wide, so that videos of different sizes compare; zooming in makes the
    result's larger, as it should.

    Attributes
    ----------
    original, stabilized : str
        The files.
    frames : int
        Pairs of pictures compared.
    unpaired_frames : int
        Pictures at the end of the original (above 0) or of the result (below 0) that the other has no partner for.
    size, stabilized_size : (int, int)
        Width and height in pixels.
    cropping, cropping_min : float
        Linear part of the picture that is kept, at most 1: mean and minimum over frames of the inverse scale
        sqrt(det A), A the affine part of the homography from original to result. Smaller outputs are charged.
    distortion, distortion_p5 : float
        Smallest ratio of the singular values of A over frames, and its 5th percentile; 1 is none.
    jitter_px, jitter_median_px, original_jitter_px : float
        Root mean square over frames and the four corners of the change, from frame to frame, of the corners'
        displacement; its median frame; and the first for the original.
    stability, original_stability : float
        The field's: energy of the five lowest frequencies over that of all but the mean, of the length of the
        accumulated translation and of the accumulated roll; the smaller of both.
    slow_share, original_slow_share : float
        Share of the energy of the corners' velocity at up to 1/30 cycle a frame.
    track_jitter_px, original_track_jitter_px : float
        Without a motion model: root mean square over frames of |x(t-1) - 2 x(t) + x(t+1)| of points followed through
        three frames, the worst tenth of each frame left out. NaN where no frame had points enough.
    sway_px, original_sway_px, sway_deg, original_sway_deg : float
        Slow to and fro between 0.3 and 1.5 Hz: of the corners, and of the roll in degrees (see
        `legato.camera.path_sway`). NaN for clips too short to have any.
    border, original_border : float
        Mean share of the picture that is black and touches its edge. Dark scenery counts too: compare the two.
    outside : float
        Mean share of the result whose source lies more than a pixel beyond the original's frame: filled in, whatever
        the filling looks like. As exact as the estimated homography.
    sharpness : float
        Median ratio of Laplacian energy to that of a bicubic warp of the original with the same geometry.
    unmatched_frames, unknown_motions : int
        Pictures that could not be aligned with the original (left out of cropping, distortion, outside, sharpness);
        motions between pictures of the result that could not be estimated (interpolated).

    See Also
    --------
    evaluate : Measure a stabilized video against its original.

    Examples
    --------
    >>> from legato import video
    >>> truth = video.synthesize("shaky.mp4", size=(160, 120), frames=6)
    >>> metrics = video.evaluate("shaky.mp4", "shaky.mp4")
    >>> metrics.frames, round(metrics.cropping, 2), metrics.to_json()[0], len(metrics.table().splitlines()) > 5
    (6, 1.0, '{', True)
    """

    original: str
    stabilized: str
    frames: int
    unpaired_frames: int
    size: tuple[int, int]
    stabilized_size: tuple[int, int]
    cropping: float
    cropping_min: float
    distortion: float
    distortion_p5: float
    jitter_px: float
    jitter_median_px: float
    original_jitter_px: float
    stability: float
    original_stability: float
    slow_share: float
    original_slow_share: float
    track_jitter_px: float
    original_track_jitter_px: float
    sway_px: float
    original_sway_px: float
    sway_deg: float
    original_sway_deg: float
    border: float
    original_border: float
    outside: float
    sharpness: float
    unmatched_frames: int
    unknown_motions: int

    @property
    def jitter_ratio(self) -> float:
        """`jitter_px` over the original's; NaN for a static original."""
        return _ratio(self.jitter_px, self.original_jitter_px)

    @property
    def track_jitter_ratio(self) -> float:
        """`track_jitter_px` over the original's; NaN for a static original."""
        return _ratio(self.track_jitter_px, self.original_track_jitter_px)

    def to_json(self) -> str:
        """Give the metrics as JSON text, the two ratios included; what is not finite becomes null.

        See Also
        --------
        VideoMetrics.table : Give the metrics as lines of text, original beside result.
        """
        content = {**asdict(self), "jitter_ratio": self.jitter_ratio, "track_jitter_ratio": self.track_jitter_ratio}
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in content.items()}
        return json.dumps(finite, indent=2, allow_nan=False) + "\n"

    def table(self) -> str:
        """Give the metrics as lines of text, original beside result.

        See Also
        --------
        VideoMetrics.to_json : Give the metrics as JSON text, the two ratios included; what is not finite becomes null.
        """
        rows: list[tuple[str | float | None, ...]] = [
            ("", "original", "stabilized", "ratio"),
            ("jitter, px", self.original_jitter_px, self.jitter_px, self.jitter_ratio),
            ("jitter of tracks, px", self.original_track_jitter_px, self.track_jitter_px, self.track_jitter_ratio),
            ("sway, px", self.original_sway_px, self.sway_px, _ratio(self.sway_px, self.original_sway_px)),
            ("sway of roll, deg", self.original_sway_deg, self.sway_deg, _ratio(self.sway_deg, self.original_sway_deg)),
            ("stability (field)", self.original_stability, self.stability, None),
            ("slow share", self.original_slow_share, self.slow_share, None),
            ("black border", self.original_border, self.border, None),
            ("cropping", None, self.cropping, None),
            ("distortion", None, self.distortion, None),
            ("outside the frame", None, self.outside, None),
            ("sharpness", None, self.sharpness, None),
        ]
        lines = [" ".join(f"{_cell(v):>{22 if c == 0 else 11}}" for c, v in enumerate(row)) for row in rows]
        note = f"{self.frames} frames, {self.unmatched_frames} unmatched, {self.unknown_motions} of unknown motion"
        if self.unpaired_frames:
            longer = "original" if self.unpaired_frames > 0 else "stabilized"
            note += f"; {abs(self.unpaired_frames)} left over at the end of the {longer}"
        return "\n".join([*lines, note]) + "\n"


def evaluate(
    original: PathLike,
    stabilized: PathLike,
    *,
    offset: int | None = None,
    report: PathLike | None = None,
    stream: int | None = None,
    deinterlace: bool = False,
    allow_playlists: bool = False,
    progress: bool | Progress = False,
) -> VideoMetrics:
    """Measure a stabilized video against its original.

    Works for files of any tool. Pictures are compared in order, frame by frame; the sizes may differ.

    Parameters
    ----------
    original, stabilized : str or path
        The two videos.
    offset : int, optional
        The original's frame that the first frame of the result shows, for tools that drop frames; what is left over
        at the end of either is then ignored. By default both must have the same number of frames, give or take one.
    report : path, optional
        Of `stabilize`, as JSON: what it says was filled from neighboring frames does not count as `outside`.
    stream : int, optional
        Which stream of the original, as for `legato.video.analyze`.
    deinterlace : bool
        Whether the original is deinterlaced before, as for `legato.video.analyze`.
    allow_playlists : bool
        As for `stabilize`.
    progress : bool or callable
        As for `stabilize`; the stage is "measure".

    Returns
    -------
    VideoMetrics

    Raises
    ------
    InputError
        If a file cannot be read or is tiny, the numbers of frames differ by more than one, most pictures do not show
        the same scene, or the report is none or of other pictures.
    ArgumentError
        If `offset` is negative or beyond the original.
    DependencyError
        If a package of the extra ``video`` is not installed.

    See Also
    --------
    stabilize : Turn a shaky video into a steady one; keep its sound, timestamps, rotation and colour tags.
    legato.camera.path_metrics : Measure a path from its motion and corrections.

    Examples
    --------
    >>> from legato import video
    >>> truth = video.synthesize("shaky.mp4", size=(160, 120), frames=6)
    >>> round(video.evaluate("shaky.mp4", "shaky.mp4").distortion, 2)
    1.0
    """
    if offset is not None:
        offset = as_count("offset", offset, 0)
    with (
        told(progress) as tell,
        VideoReader(original, stream=stream, deinterlace=deinterlace, allow_playlists=allow_playlists) as before,
        VideoReader(stabilized, allow_playlists=allow_playlists) as after,
    ):
        sizes = (before.width, before.height), (after.width, after.height)
        for path, size in zip((original, stabilized), sizes, strict=True):
            if min(size) < _LEAST_SIDE:
                raise InputError(f"{path}: {size[0]}x{size[1]} is too small to measure, expected {_LEAST_SIDE} a side")
        filled = None if report is None else _filled(Path(report), sizes)
        first, second = (_Film(size, reader) for size, reader in zip(sizes, (before, after), strict=True))
        alignment = _Alignment(*sizes)
        skipped = 0
        frames = unpaired = 0
        left, right = _lumas(before), _lumas(after)
        for _ in itertools.islice(left, offset or 0):
            skipped += 1
        if skipped < (offset or 0):
            raise ArgumentError(f"offset: {original} has {skipped} frames, got {offset}")
        for a, b in itertools.zip_longest(left, right):
            if a is None or b is None:
                rest = 1 + sum(1 for _ in (right if a is None else left))
                unpaired = -rest if a is None else rest
                break
            known = None if filled is None or frames >= len(filled) else filled[frames]
            alignment.push(a, b, first.push(a), second.push(b), known)
            frames += 1
            tell("measure", frames, after.frame_count)
    if offset is None and abs(unpaired) > _MOST_UNPAIRED:
        counts = frames + max(unpaired, 0), frames + max(-unpaired, 0)
        raise InputError(
            f"{stabilized}: {counts[1]} frames against {counts[0]} of {original}; give an offset "
            "(the original's frame that its first frame shows) to compare what both have"
        )
    if frames == 0:
        raise InputError(f"{stabilized}: has no frame to compare with {original}")
    if alignment.unmatched > frames // 2 and frames > 1 and first.unknown == frames - 1:
        raise InputError(f"{original}: nothing in it can be followed (black, flat), so that nothing can be matched")
    if alignment.unmatched > frames // 2:
        raise InputError(
            f"{stabilized}: {alignment.unmatched} of {frames} pictures do not resemble those of {original} "
            "at the same place: another video, or frames out of step"
        )
    return _metrics(os.fspath(original), os.fspath(stabilized), frames, unpaired, first, second, alignment)


def _metrics(
    original: str, stabilized: str, frames: int, unpaired: int, first: _Film, second: _Film, alignment: _Alignment
) -> VideoMetrics:
    maps = np.array(alignment.maps)
    affine = maps[:, :2, :2] / maps[:, 2:, 2:]
    singular = np.linalg.svd(affine, compute_uv=False)
    relative = second.size[0] / first.size[0]
    cropping = np.minimum(1, relative / np.sqrt(singular.prod(-1)))
    anisotropy = singular[:, 1] / singular[:, 0]
    before, after = first.path(), second.path()
    original_sway, sway = first.sway(), second.sway()
    return VideoMetrics(
        original=original,
        stabilized=stabilized,
        frames=frames,
        unpaired_frames=unpaired,
        size=first.size,
        stabilized_size=second.size,
        cropping=float(cropping.mean()),
        cropping_min=float(cropping.min()),
        distortion=float(anisotropy.min()),
        distortion_p5=float(np.percentile(anisotropy, 5)),
        jitter_px=after.input_jitter_px * second.unit,
        jitter_median_px=second.median_jitter_px(),
        original_jitter_px=before.input_jitter_px * first.unit,
        stability=min(after.stability_translation, after.stability_rotation),
        original_stability=min(before.stability_translation, before.stability_rotation),
        slow_share=after.input_stability,
        original_slow_share=before.input_stability,
        track_jitter_px=second.tracks.px,
        original_track_jitter_px=first.tracks.px,
        sway_px=sway.px * second.unit,
        original_sway_px=original_sway.px * first.unit,
        sway_deg=sway.roll_deg,
        original_sway_deg=original_sway.roll_deg,
        border=float(np.mean(second.borders)),
        original_border=float(np.mean(first.borders)),
        outside=float(np.mean(alignment.outside)),
        sharpness=float(np.median(alignment.sharpness)) if alignment.sharpness else math.nan,
        unmatched_frames=alignment.unmatched,
        unknown_motions=second.unknown,
    )


class _Film:
    """One of the two videos: how its pictures move, and how much of them is black border."""

    def __init__(self, size: tuple[int, int], reader: VideoReader) -> None:
        self.size = size
        self.unit = _REFERENCE_WIDTH / size[0]
        self.borders: list[float] = []
        self.unknown = 0
        self._black = _black_level(reader)
        self._rate = float(reader.frame_rate)
        self._tracker = Tracker(size)
        self._motion = [np.eye(3)]
        self._ok = [True]
        self.tracks = TrackJitter(size)

    def push(self, picture: Gray) -> Motion | None:
        self.borders.append(_border(picture, self._black))
        self.tracks.push(picture)
        motion = self._tracker.push(picture)
        if motion is not None:
            self._motion.append(motion.homography)
            self._ok.append(motion.ok)
            self.unknown += not motion.ok
        return motion

    def steps(self) -> Floats:
        """Homographies from each frame to the next, after one that is not read."""
        motion = camera.bridge_motion(np.array(self._motion), np.array(self._ok))
        return np.asarray(np.linalg.inv(motion), np.float64)

    def path(self) -> camera.PathMetrics:
        steps = self.steps()
        return camera.path_metrics(steps, np.tile(np.eye(3), (len(steps), 1, 1)), self.size)

    def sway(self) -> camera.Sway:
        motion = camera.bridge_motion(np.array(self._motion), np.array(self._ok))
        return camera.path_sway(motion, np.tile(np.eye(3), (len(motion), 1, 1)), self.size, self._rate)

    def median_jitter_px(self) -> float:
        width, height = self.size
        corners = np.array([[0, 0, 1], [width - 1, 0, 1], [width - 1, height - 1, 1], [0, height - 1, 1]], float)
        moved = corners @ np.swapaxes(self.steps()[1:], 1, 2)
        change = np.diff(moved[..., :2] / moved[..., 2:], axis=0)
        return float(np.median(np.sqrt((change**2).sum(-1).mean(-1)))) * self.unit if len(change) else 0.0


class _Alignment:
    """The homographies from the pictures of the original to those of the result."""

    def __init__(self, size: tuple[int, int], target: tuple[int, int]) -> None:
        self.maps: list[Floats] = []
        self.outside: list[float] = []
        self.sharpness: list[float] = []
        self.unmatched = 0
        self._size, self._target = size, target
        self._guess: Floats | None = None
        self._count = 0

    def push(
        self, before: Gray, after: Gray, motion: Motion | None, steady: Motion | None, filled: Floats | None = None
    ) -> None:
        """Take the next pair; `filled`: the map from result to original beyond which all is filled on purpose."""
        guess = self._guess
        if guess is not None and motion is not None and steady is not None:
            # The way by the frame before: original -> its predecessor -> that one's result -> this result.
            guess = np.linalg.inv(steady.homography) @ guess @ motion.homography
        guesses = ([] if guess is None else [guess]) + [self._zoomed(z) for z in _ZOOMS]
        found = None if guess is None else self._refined(before, after, guess)
        if found is None:
            candidates = [self._matched(before, after, g) for g in guesses]
            best, confidence = max(candidates, key=lambda c: c[1])
            found = None if confidence == 0 else self._refined(before, after, best)
        if found is None:
            self.unmatched += 1
            self._guess = guess
        else:
            self._guess = found
            self.maps.append(found)
            self.outside.append(self._outside(found, filled))
            if self._count % _SHARPNESS_STEP == 0:
                self.sharpness.append(self._sharpness(before, after, found))
        self._count += 1

    def _zoomed(self, zoom: float) -> Floats:
        """Guess that the result is the original's middle at a zoom."""
        (w, h), (tw, th) = self._size, self._target
        sx, sy = zoom * tw / w, zoom * th / h
        return np.array([[sx, 0, 0.5 * (tw - 1 - sx * (w - 1))], [0, sy, 0.5 * (th - 1 - sy * (h - 1))], [0, 0, 1.0]])

    def _matched(self, before: Gray, after: Gray, guess: Floats) -> tuple[Floats, float]:
        """Find a better map than the guess, and the confidence in it."""
        moved = np.asarray(warp(before, np.linalg.inv(guess), self._target, interpolation="bicubic"))
        step = estimate_motion(moved, after)
        found = np.linalg.inv(step.homography) @ guess
        return found / found[2, 2], step.confidence if step.ok else 0.0

    def _refined(self, before: Gray, after: Gray, guess: Floats) -> Floats | None:
        found, confidence = self._matched(before, after, guess)
        if confidence > 0 and _corner_shift(found, guess, self._size) > _OUTSIDE_PX:
            found, confidence = self._matched(before, after, found)
        return found if confidence > 0 else None

    def _outside(self, found: Floats, filled: Floats | None) -> float:
        x, y = np.meshgrid(*(np.linspace(0, side - 1, n) for side, n in zip(self._target, _OUTSIDE_GRID, strict=True)))
        places = np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
        outside = self._beyond(np.linalg.inv(found) @ places) > _OUTSIDE_PX
        if filled is not None:
            outside &= self._beyond(filled @ places) <= 0
        return float(np.mean(outside))

    def _beyond(self, source: Floats) -> Floats:
        """How far outside of the original places are, in its pixels; negative inside."""
        x, y = source[:2] / source[2]
        return np.asarray(np.maximum.reduce([-x, x - (self._size[0] - 1), -y, y - (self._size[1] - 1)]))

    def _sharpness(self, before: Gray, after: Gray, found: Floats) -> float:
        moved = np.asarray(warp(before, np.linalg.inv(found), self._target, interpolation="bicubic"))
        return _ratio(_laplacian_energy(after), _laplacian_energy(moved))


def _filled(report: Path, sizes: tuple[tuple[int, int], tuple[int, int]]) -> Floats | None:
    """Read the corrections of a report, by which pictures were filled; None: they were not."""
    try:
        content = json.loads(read_text(report, _MOST_BYTES))
        if content["filled"] is None:
            return None
        corrections = np.array(content["corrections"], np.float64).reshape(-1, 3, 3)
        size = tuple(content["size"])
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise InputError(f"{report}: not a report of `legato stabilize`") from error
    if (size, size) != sizes:
        raise InputError(f"{report}: of pictures of another size")
    if not np.isfinite(corrections).all():
        raise InputError(f"{report}: corrections: expected finite numbers")
    return corrections


def _lumas(reader: VideoReader) -> Iterator[Gray]:
    return (luma(frame.planes).copy() for frame in reader)


def _black_level(reader: VideoReader) -> int:
    """Give the brightest luma that counts as black: limited range begins at 16."""
    full = 2  # AVCOL_RANGE_JPEG
    return _DARK if reader.color.range == full else 16 + round(_DARK * 219 / 255)


def _border(picture: Gray, black: int) -> float:
    """Share of pixels that are black together with all others of their row or column up to an edge."""
    dark = picture <= black
    if not (dark[0].any() or dark[-1].any() or dark[:, 0].any() or dark[:, -1].any()):
        return 0.0
    reached = np.zeros_like(dark)
    for axis in (0, 1):
        reached |= np.logical_and.accumulate(dark, axis=axis)
        reached |= np.flip(np.logical_and.accumulate(np.flip(dark, axis), axis=axis), axis)
    share = float(reached.mean())
    return share if share > _LEAST_BORDER else 0.0


def _corner_shift(a: Floats, b: Floats, size: tuple[int, int]) -> float:
    corners = np.array([[0, size[0] - 1, size[0] - 1, 0], [0, 0, size[1] - 1, size[1] - 1], [1, 1, 1, 1]], float)
    p, q = a @ corners, b @ corners
    return float(np.abs(p[:2] / p[2] - q[:2] / q[2]).max())


def _laplacian_energy(picture: Gray) -> float:
    p = picture.astype(np.float32)
    bend = p[:-2, 1:-1] + p[2:, 1:-1] + p[1:-1, :-2] + p[1:-1, 2:] - 4 * p[1:-1, 1:-1]
    return float((bend[7:-7, 7:-7] ** 2).mean()) if min(bend.shape) > 16 else 0.0


def _cell(value: str | float | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:.3f}"


def _ratio(a: float, b: float) -> float:
    return a / b if b > 0 else math.nan
