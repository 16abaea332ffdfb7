"""Motion between two pictures: corners, Lucas-Kanade with a backward check, robust homography.

The method, in order; the values are those measured on clips with known motion:

1. Work image: the frame reduced by a whole factor until its longer side is at most 960 px.
2. Corners: minimum eigenvalue of the structure tensor (Shi and Tomasi 1994), with a quota for each
   of 6 x 4 cells, so that evidence comes from the whole picture and not from its busiest part.
3. Pyramidal Lucas-Kanade (Bouguet 2001), forward and backward; a point that does not come home is
   dropped.
4. Start: USAC (Raguram et al. 2013) in OpenCV's fast setting, with a narrow threshold. Refit,
   always: Geman-McClure reweighted least squares over the model's subgroup of SL(3), in coordinates
   of unit frame width.
5. Fewer degrees of freedom where the evidence does not carry the model asked for; and none at all
   where the two pictures, brought together by the motion found, do not resemble each other.

The compiled core does all of it (``tracker.cpp``, ``track.cpp`` and ``fit.cpp`` of ``cpp/src/video/``),
with differences of its own: corners come from a half-size copy, one to a cell of a finer grid, and the
hypotheses of step 4 from four points in closed form with a truncated score. Points whose texture does
not fix them are left out by a measure of their pair; and where step 5 leaves only a translation, the
best of the models that were carried is taken. What stands in this file and in
`fitting` is the route by way of OpenCV, kept under a name to compare with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from legato import _core
from legato._scalars import as_choice, as_count, as_size, shown
from legato._turns import Turns, one_at_a_time
from legato.errors import ArgumentError
from legato.video.choices import BACKENDS, Backend
from legato.video.media.planes import Planes, Samples, as_planes, is_pyav, load_opencv
from legato.video.media.planes import luma as luma_of
from legato.video.motion.fitting import Floats, Grid, Model, apply, fit

__all__ = ["Backend", "Model", "Motion", "Tracker", "estimate_motion", "predicted_error_px"]


Fitted: TypeAlias = Model | Literal["identity"]  # identity: of a repeated frame
Gray: TypeAlias = NDArray[np.uint8]
Matches: TypeAlias = NDArray[np.float32]

# Below this a window and its pyramid have no room, and nothing useful can be measured.
_SHORTEST_WORK_SIDE = 24
_BYTES, _WORDS = np.dtype(np.uint8), np.dtype(np.uint16)

_CELLS = (6, 4)
_CELL_COUNT = _CELLS[0] * _CELLS[1]
_MOST_POINTS = 320
_CELL_QUOTA = math.ceil(1.3 * _MOST_POINTS / _CELL_COUNT)
_CORNER_BLOCK = 5
_CORNER_RADIUS = 6  # of the neighborhood in which a corner is the strongest
_CORNER_BORDER = 4
# In OpenCV's scale: what noise of one gray level makes, or a corner of about two levels.
_CORNER_FLOOR = 1e-5

_WINDOW = 15
_LEVELS = 4
_LK_ITERATIONS = 20
_LK_STEP_PX = 0.01
_ROUND_TRIP_PX = 0.6

# What a model needs before it is believed: inliers, and cells of the 24 that hold one.
_LADDER: tuple[Model, ...] = get_args(Model)  # from the richest down
_LEAST_INLIERS = {"homography": 25, "affine": 15, "similarity": 8, "translation": 5}
_LEAST_CELLS = {"homography": 6, "affine": 4, "similarity": 2, "translation": 1}
# Predicted standard deviation of a frame corner beyond which a model is not determined. Against
# ground truth the prediction reads 2.5 times too low: this stands for 1.5 px. At 0.4 the blurred
# frames of a walk fell back to a similarity that was 5 px off at the corners.
_MOST_CORNER_SD_PX = 0.6
# Correlation of the two pictures after alignment: independent noise gives 0.00 to 0.02, dark frames
# with as much noise as content 0.5, ordinary frames 0.9 and more.
_LEAST_AGREEMENT = 0.3
_AGREEMENT_BLUR = 33

# A frame counts as repeated if the change is less than a shift of this many pixels of the half-size
# copy would make. Repeated frames in H.264 at CRF 17 to 23 measure up to 0.042, sensor noise of two
# levels on a still scene 0.24.
_REPEAT_PX = 0.045
_REPEAT_CELL_CHANGE = 1.25  # gray levels, mean of a cell; measured up to 1.07


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """Motion from one frame to the one before it.

    Attributes
    ----------
    homography : (3, 3) float64 array
        Maps pixel coordinates of this frame to those of the previous frame, at full size, with
        pixel centers at integers and ``homography[2, 2] == 1``. The identity where `ok` is false.
    inliers : int
        Matches that agree with the homography.
    confidence : float
        0 to 1: the share of matches that agree, times ``min(1, inliers / 50)``, times
        ``min(1, cells / 12)`` where cells counts those of a 6 x 4 grid that hold an inlier, times
        the correlation of the two pictures (freed of their slow parts) once aligned. 1 for a
        repeated frame, 0 where `ok` is false. A figure to weight frames by, not a probability.
    ok : bool
        Whether the motion is known. False for black, flat, noisy or unrelated frames and for fits
        that no hand-held camera makes within one frame.
    points : (m, 4) float32 array
        Matched points at full size: x, y in this frame, then x, y in the previous one. The inliers
        come first, so ``points[:inliers]`` are they. Empty for a repeated frame and where `ok` is
        false.
    model : str
        "homography" (8 degrees of freedom), "affine" (6), "similarity" (4), "translation" (2) or
        "identity": what the evidence carried.
    duplicate : bool
        Whether the frame repeats the one before it, up to the noise of a codec; the homography is
        then exactly the identity.
    residual_px : float
        Median distance between the inliers and where the homography puts them, in pixels at full
        size; 0 for a repeated frame and NaN where `ok` is false.
    corner_covariance : (8, 8) float64 array
        Covariance, in square pixels at full size, of where the homography puts the corners of the
        frame: x and y of the top left, top right, bottom left and bottom right one. It comes from
        the residuals of the fit as if matches were independent; the errors of neighbors are not,
        and on clips of known motion the deviations that it predicts are 2.5 times too small. Zero
        for a repeated frame, NaN where `ok` is false.

    See Also
    --------
    Tracker : Estimate the motion of a video frame by frame.
    estimate_motion : Estimate the motion between two frames.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import video
    >>> picture = np.random.default_rng(0).integers(0, 255, (120, 160), dtype=np.uint8)
    >>> motion = video.estimate_motion(picture, picture)
    >>> motion.ok, motion.duplicate, motion.homography.tolist()
    (True, True, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    """

    homography: Floats
    inliers: int
    confidence: float
    ok: bool
    points: Matches
    model: Fitted
    duplicate: bool
    residual_px: float
    corner_covariance: Floats


def predicted_error_px(motion: Motion) -> float:
    """Predict the standard deviation of a frame corner's displacement from the covariance of the motion.

    Parameters
    ----------
    motion : Motion

    Returns
    -------
    float
        Pixels; 0 for a repeated frame and NaN where nothing is known.
    """
    return math.sqrt(float(motion.corner_covariance.trace()) / 4)


class Tracker:
    """Estimate the motion of a video frame by frame.

    The tracker keeps the reduced images of the last frame, so each frame is reduced once. The same
    frames give the same motion, bit for bit, on every processor. Threads may share it: one at a time
    works.

    Parameters
    ----------
    size : (int, int)
        Width and height of the frames, in pixels.
    model : {"homography", "affine", "similarity", "translation"}
        The richest model to fit.
    mask : (height, width) bool or uint8 array, optional
        Nonzero where the picture may be used; zero on what does not move with the scene, such as a
        logo. Points keep half a window (7 px of the work image) away from it.
    region : (int, int, int, int), optional
        x, y, width and height of the rectangle in which the picture may be used, besides what the
        mask says.
    bit_depth : int
        8 for uint8 frames; 9 to 16 for uint16 frames with so many significant low bits, which are
        rounded to eight after the reduction to the work image.
    backend : {"native", "opencv"}
        "native" is the compiled core. "opencv" is for comparison: it runs as many threads as
        ``cv2.setNumThreads`` says, and seeds OpenCV's random numbers before each use.

    Raises
    ------
    ArgumentError
        If an argument is not as described.
    DependencyError
        If OpenCV is asked for and not installed.

    See Also
    --------
    estimate_motion : Estimate the motion between two frames.
    analyze : Estimate the motion of a video: the first half of `stabilize`, to be used again.
    luma : Give the 8-bit luma of a frame: what motion is estimated from.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import video
    >>> picture = np.random.default_rng(0).integers(0, 255, (120, 160), dtype=np.uint8)
    >>> tracker = video.Tracker((160, 120))
    >>> tracker.push(picture) is None, tracker.push(picture).duplicate
    (True, True)
    >>> tracker.reset()
    >>> tracker.push(picture) is None
    True
    """

    def __init__(
        self,
        size: tuple[int, int],
        model: Model = "homography",
        *,
        mask: NDArray[Any] | None = None,
        region: tuple[int, int, int, int] | None = None,
        bit_depth: int = 8,
        backend: Backend = "native",
    ) -> None:
        backend = as_choice("backend", backend, BACKENDS)
        if backend == "opencv":
            load_opencv()  # a missing package is better reported here than at the second frame
        self._turns = Turns()
        self._grid = Grid.of(as_size("size", size))
        self._model = as_choice("model", model, _LADDER)
        hidden = None if mask is None else checked_mask(mask, self._grid.size)
        self._depth = _checked_depth(bit_depth)
        area = None if region is None else _checked_region(region, self._grid.size)
        self._core: _core.VideoTracker | None = None
        self._usable: Gray | None = None
        self._previous: _Frame | None = None
        if backend == "native":
            usable = np.empty(0, np.uint8) if hidden is None else np.ascontiguousarray(hidden != 0).view(np.uint8)
            self._core = _core.VideoTracker(
                *self._grid.size, _LADDER.index(model), usable, self._depth, area or (0, 0, 0, 0)
            )
        elif hidden is not None or area is not None:
            self._usable = _usable(_within(hidden, area, self._grid.size), self._grid)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frames, in pixels."""
        return self._grid.size

    @one_at_a_time
    def push(self, luma: Samples | Planes | Any) -> Motion | None:
        """Take the next frame and estimate how it moved.

        Parameters
        ----------
        luma : (height, width) uint8 or uint16 array, Planes, or av.VideoFrame
            Brightness of the frame, of the bit depth that the tracker was made for (the ``y`` of
            `Planes`, or see `legato.video.luma`), or a picture that has it. It is not kept.

        Returns
        -------
        Motion or None
            From this frame to the one before it; None for the first frame. A frame whose motion
            cannot be found gives a `Motion` with ``ok`` false, never an exception. A run of
            repeated frames counts as its first frame, so that a drift too slow to show between two
            frames is measured once it has added up.

        Raises
        ------
        ArgumentError
            If `luma` has another size, dtype or number of dimensions.

        See Also
        --------
        Tracker.reset : Forget the last frame: the next one counts as the first.
        """
        image = _checked_luma("luma", _brightness(luma, self._depth), self._grid.size, self._depth)
        if self._core is not None:
            return _pushed(self._core, image)
        frame = _Frame.of(_to_bytes(image, self._depth), self._grid)
        previous = self._previous
        if previous is None:
            self._previous = frame
            return None
        motion = _motion(previous, frame, self._grid, self._model, self._usable)
        if not motion.duplicate:
            self._previous = frame
        return motion

    @one_at_a_time
    def reset(self) -> None:
        """Forget the last frame: the next one counts as the first.

        See Also
        --------
        Tracker.push : Take the next frame and estimate how it moved.
        """
        self._previous = None
        if self._core is not None:
            self._core.reset()


def estimate_motion(
    previous_luma: Samples,
    luma: Samples,
    *,
    model: Model = "homography",
    mask: NDArray[Any] | None = None,
    region: tuple[int, int, int, int] | None = None,
    bit_depth: int = 8,
    backend: Backend = "native",
) -> Motion:
    """Estimate the motion between two frames.

    Parameters
    ----------
    previous_luma, luma : (height, width) uint8 or uint16 array
        Brightness of the two frames (see `legato.video.luma`).
    model : {"homography", "affine", "similarity", "translation"}
        The richest model to fit.
    mask : (height, width) bool or uint8 array, optional
        Nonzero where the picture may be used.
    region, bit_depth, backend
        As for `Tracker`.

    Returns
    -------
    Motion
        From `luma` to `previous_luma`.

    Raises
    ------
    ArgumentError
        If an argument is not as described.
    DependencyError
        If OpenCV is asked for and not installed.

    See Also
    --------
    Tracker : Estimate the motion of a video frame by frame.
    analyze : Estimate the motion of a video: the first half of `stabilize`, to be used again.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import video
    >>> wide = np.random.default_rng(0).integers(0, 255, (30, 50)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    >>> motion = video.estimate_motion(wide[:, :-5], wide[:, 5:])              # the camera went right by five pixels
    >>> motion.ok, round(float(motion.homography[0, 2]), 1)
    (True, 5.0)
    """
    depth = _checked_depth(bit_depth)
    first = _checked_luma("previous_luma", previous_luma, None, depth)
    size = int(first.shape[1]), int(first.shape[0])
    second = _checked_luma("luma", luma, size, depth)
    tracker = Tracker(size, model, mask=mask, region=region, bit_depth=depth, backend=backend)
    tracker.push(first)
    motion = tracker.push(second)
    assert motion is not None  # only the first frame has none
    return motion


def _pushed(core: _core.VideoTracker, luma: Samples) -> Motion | None:
    """Give the next frame to the compiled tracker."""
    step = luma.itemsize
    if luma.strides[1] != step or abs(luma.strides[0]) < step * luma.shape[1] or luma.strides[0] % step:
        luma = luma.copy()
    homography, covariance = np.empty((3, 3)), np.empty((8, 8))
    first, ok, duplicate, model, inliers, confidence, residual_px = core.push(luma, homography, covariance)
    if first:
        return None
    if not ok:
        return _unknown()
    kind: Fitted = "identity" if duplicate else _LADDER[model]
    return Motion(homography, inliers, confidence, True, core.matches(), kind, duplicate, residual_px, covariance)


class _Frame(NamedTuple):
    """The reduced images of one frame."""

    work: Gray
    half: Gray

    @classmethod
    def of(cls, luma: Gray, grid: Grid) -> _Frame:
        cv2 = load_opencv()
        if grid.work == grid.size:
            work = luma.copy()  # the caller may use its buffer again
        else:
            luma = np.ascontiguousarray(luma)
            work = cv2.resize(luma, grid.work, interpolation=cv2.INTER_AREA)
        return cls(work, cv2.resize(work, grid.half, interpolation=cv2.INTER_AREA))


def _motion(previous: _Frame, frame: _Frame, grid: Grid, model: Model, usable: Gray | None) -> Motion:
    if min(grid.work) < _SHORTEST_WORK_SIDE:
        return _unknown()
    corners = _corners(previous.work, usable)
    if len(corners) < _LEAST_INLIERS["translation"]:
        return _unknown()
    if _repeats(previous, frame):
        return Motion(np.eye(3), 0, 1.0, True, _no_points(), "identity", True, 0.0, np.zeros((8, 8)))
    here, there = _follow(previous.work, frame.work, corners, usable)
    most_sd = _MOST_CORNER_SD_PX * grid.px / grid.work[0]
    for candidate in _LADDER[_LADDER.index(model) :]:
        if len(here) < _LEAST_INLIERS[candidate]:
            continue
        found = fit(candidate, here, there, grid)
        if found is None or (found.corner_sd > most_sd and candidate != _LADDER[-1]):
            continue
        inliers = int(np.count_nonzero(found.inlier))
        cells = _cells(here[found.inlier], grid)
        if inliers < _LEAST_INLIERS[candidate] or cells < _LEAST_CELLS[candidate]:
            continue
        agreement = _agreement(previous, frame, found.matrix, grid)
        if agreement < _LEAST_AGREEMENT:
            continue
        share = inliers / len(here)
        return Motion(
            homography=_at_size(found.matrix, grid.work, grid.size, grid),
            inliers=inliers,
            confidence=share * min(1.0, inliers / 50) * min(1.0, cells / 12) * agreement,
            ok=True,
            points=_points(here, there, found.inlier, grid),
            model=candidate,
            duplicate=False,
            residual_px=found.residual * grid.size[0],
            corner_covariance=found.covariance * grid.size[0] ** 2,
        )
    return _unknown()


def _unknown() -> Motion:
    return Motion(np.eye(3), 0, 0.0, False, _no_points(), "identity", False, math.nan, np.full((8, 8), math.nan))


def _no_points() -> Matches:
    return np.empty((0, 4), np.float32)


def _points(here: Floats, there: Floats, inlier: NDArray[np.bool_], grid: Grid) -> Matches:
    """Give the matches at full size, the inliers first."""
    up = _between(grid.work, grid.size)
    order = np.argsort(~inlier, kind="stable")
    both = np.hstack([apply(up, here[order]), apply(up, there[order])])
    return both.astype(np.float32)


def _repeats(previous: _Frame, frame: _Frame) -> bool:
    """Whether the pictures differ by less than a motion worth measuring would make.

    A shift by d pixels changes a picture by about d times its mean gradient. On the half-size copy,
    where the noise of sensor and codec is averaged down, the limit is the change that a shift of
    `_REPEAT_PX` would make. No cell may change by more than a codec does, so that a still shot in
    which something moves is not called a repetition.
    """
    cv2 = load_opencv()
    if np.array_equal(previous.work, frame.work):
        return True
    image = frame.half
    change = _cell_means(cv2.absdiff(previous.half, image))
    if change.max() > _REPEAT_CELL_CHANGE:
        return False
    across = cv2.absdiff(image[:, 1:], image[:, :-1])
    down = cv2.absdiff(image[1:], image[:-1])
    slope = 0.5 * (cv2.mean(across)[0] + cv2.mean(down)[0])
    return bool(change.mean() <= _REPEAT_PX * slope)


def _cell_means(image: Gray) -> Floats:
    h, w = image.shape
    columns, rows = (np.arange(n + 1) * side // n for n, side in zip(_CELLS, (w, h), strict=True))
    sums = np.add.reduceat(image, rows[:-1], axis=0, dtype=np.int64)
    sums = np.add.reduceat(sums, columns[:-1], axis=1)
    means: Floats = sums / np.outer(np.diff(rows), np.diff(columns))
    return means


def _corners(work: Gray, usable: Gray | None) -> Matches:
    """Corners of a work image, (m, 2) x and y: about the same number from each cell, best first."""
    cv2 = load_opencv()
    response = cv2.cornerMinEigenVal(work, _CORNER_BLOCK)
    side = 2 * _CORNER_RADIUS + 1
    peak = response == cv2.dilate(response, np.ones((side, side), np.uint8))
    peak &= response > _CORNER_FLOOR
    peak[:_CORNER_BORDER] = peak[-_CORNER_BORDER:] = False
    peak[:, :_CORNER_BORDER] = peak[:, -_CORNER_BORDER:] = False
    if usable is not None:
        peak &= usable > 0
    iy, ix = np.nonzero(peak)
    score = response[iy, ix]
    h, w = work.shape
    cell = iy * _CELLS[1] // h * _CELLS[0] + ix * _CELLS[0] // w
    # Best first within each cell; the rank within the cell decides who is within the quota.
    order = np.lexsort((-score, cell))
    first = np.searchsorted(cell[order], np.arange(_CELL_COUNT))
    rank = np.arange(len(order)) - first[cell[order]]
    kept = order[rank < _CELL_QUOTA]
    kept = kept[np.argsort(-score[kept], kind="stable")[:_MOST_POINTS]]
    return np.stack([ix[kept], iy[kept]], 1).astype(np.float32)


def _follow(previous: Gray, current: Gray, corners: Matches, usable: Gray | None) -> tuple[Floats, Floats]:
    """Find corners of the previous frame again: positions here and there, (m, 2) work pixels."""
    cv2 = load_opencv()
    settings = {
        "winSize": (_WINDOW, _WINDOW),
        "maxLevel": _LEVELS,
        "criteria": (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, _LK_ITERATIONS, _LK_STEP_PX),
    }
    start = corners[:, None]
    end, found, _ = cv2.calcOpticalFlowPyrLK(previous, current, start, None, **settings)
    back, returned, _ = cv2.calcOpticalFlowPyrLK(current, previous, end, None, **settings)
    good = (found.ravel() > 0) & (returned.ravel() > 0)
    good &= np.abs(back - start).reshape(-1, 2).max(1) < _ROUND_TRIP_PX
    here, there = end.reshape(-1, 2)[good], corners[good]
    h, w = current.shape
    pixel = np.rint(here)
    good = ((pixel >= 0) & (pixel <= (w - 1, h - 1))).all(1)
    if usable is not None:
        column, row = pixel[good].astype(np.intp).T
        good[good] = usable[row, column] > 0
    return here[good].astype(np.float64), there[good].astype(np.float64)


def _cells(points: Floats, grid: Grid) -> int:
    """How many cells of the picture hold one of the points."""
    pixel = np.rint(points).astype(np.intp)
    cell = pixel[:, 1] * _CELLS[1] // grid.work[1] * _CELLS[0]
    cell += pixel[:, 0] * _CELLS[0] // grid.work[0]
    return len(np.unique(cell))


def _agreement(previous: _Frame, frame: _Frame, matrix: Floats, grid: Grid) -> float:
    """Correlation, 0 to 1, of the pictures aligned by a motion, without their slow parts.

    Neither a change of exposure nor a vignette tells of motion, so the local mean is taken out.
    """
    cv2 = load_opencv()
    aligned = cv2.warpPerspective(
        previous.half,
        _at_size(matrix, grid.work, grid.half, grid),
        grid.half,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    detail = []
    for image in (aligned, frame.half):
        image = image.astype(np.float32)
        detail.append((image - cv2.blur(image, (_AGREEMENT_BLUR, _AGREEMENT_BLUR))).ravel())
    a, b = detail
    energy = float(a @ a) * float(b @ b)
    return min(max(float(a @ b) / math.sqrt(energy), 0.0), 1.0) if energy > 0 else 0.0


def _at_size(matrix: Floats, work: tuple[int, int], size: tuple[int, int], grid: Grid) -> Floats:
    """Express a transform of unit frame width in pixels of an image of some size."""
    to_size = _between(work, size) @ grid.units
    scaled = to_size @ matrix @ np.linalg.inv(to_size)
    return np.asarray(scaled / scaled[2, 2])


def _between(source: tuple[int, int], target: tuple[int, int]) -> Floats:
    """Matrix from pixels of one image to pixels of its resized copy, pixel centers at integers."""
    sx, sy = target[0] / source[0], target[1] / source[1]
    return np.array([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5], [0, 0, 1.0]])


def _usable(mask: NDArray[Any], grid: Grid) -> Gray:
    """Reduce a mask to the work image, with a margin of half a window."""
    cv2 = load_opencv()
    hidden = (mask == 0).astype(np.uint8) * 255
    hidden = cv2.resize(hidden, grid.work, interpolation=cv2.INTER_AREA)
    hidden = cv2.dilate(hidden, np.ones((_WINDOW, _WINDOW), np.uint8))
    usable: Gray = (hidden == 0).astype(np.uint8)
    return usable


def checked_mask(mask: object, size: tuple[int, int]) -> NDArray[Any]:
    """Check a mask of pictures of this size."""
    w, h = size
    if not isinstance(mask, np.ndarray) or mask.dtype not in (np.bool_, np.uint8):
        kind = mask.dtype if isinstance(mask, np.ndarray) else type(mask).__name__
        raise ArgumentError(f"mask: expected a bool or uint8 array, got {kind}")
    if mask.shape != (h, w):
        raise ArgumentError(f"mask: expected shape {(h, w)} (height, width), got {mask.shape}")
    return mask


def _within(hidden: NDArray[Any] | None, area: tuple[int, int, int, int] | None, size: tuple[int, int]) -> NDArray[Any]:
    """Join a mask and a region to one mask."""
    mask = np.ones(size[::-1], bool) if hidden is None else hidden != 0
    if area is not None:
        x, y, w, h = area
        inside = np.zeros(size[::-1], bool)
        inside[y : y + h, x : x + w] = True
        mask &= inside
    return mask


def _to_bytes(luma: Samples, depth: int) -> Gray:
    """Round samples to eight bits, as the compiled tracker does at full size."""
    if depth == 8:
        return luma.view(np.uint8)
    drop = depth - 8
    rounded: Gray = np.minimum((luma.astype(np.uint32) + (1 << drop >> 1)) >> drop, 255).astype(np.uint8)
    return rounded


def _checked_depth(bit_depth: object) -> int:
    return as_count("bit_depth", bit_depth, 8, 16)


def _checked_region(region: object, size: tuple[int, int]) -> tuple[int, int, int, int]:
    try:
        x, y, w, h = (as_count("region", side, 0) for side in region)  # type: ignore[attr-defined]
    except Exception:  # not four, or no whole numbers
        x = y = w = h = 0
    if w > 0 and h > 0 and x + w <= size[0] and y + h <= size[1]:
        return x, y, w, h
    raise ArgumentError(f"region: expected (x, y, width, height), ints, within a frame of {size}, got {shown(region)}")


def _brightness(frame: Samples | Planes | Any, depth: int) -> Any:
    """Give the luma of a picture of several planes, in eight bits or as it is; anything else as it is."""
    if not isinstance(frame, Planes) and not is_pyav(frame):
        return frame
    picture = as_planes(frame)
    return picture.y if isinstance(picture, Planes) and depth > 8 else luma_of(picture)


def _checked_luma(name: str, luma: object, size: tuple[int, int] | None, depth: int) -> Samples:
    if not isinstance(luma, np.ndarray):
        raise ArgumentError(f"{name}: expected a NumPy array, got {type(luma).__name__}")
    if luma.ndim != 2 or luma.size == 0:
        raise ArgumentError(f"{name}: expected shape (height, width), got {luma.shape}")
    expected = _BYTES if depth == 8 else _WORDS
    if luma.dtype != expected:
        raise ArgumentError(
            f"{name}: expected dtype {expected} for a bit depth of {depth}, got {luma.dtype}; "
            "legato.video.luma reduces a frame to 8 bits"
        )
    if size is not None and luma.shape != size[::-1]:
        raise ArgumentError(f"{name}: expected shape {size[::-1]} (height, width), got {luma.shape}")
    return luma
