"""A model of motion fitted to matches: a start by OpenCV's consensus, then a refit that outliers do not pull.

Step 4 of `tracking`, and the sizes that go with it.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from legato.video.media.planes import load_opencv

__all__ = ["Fit", "Floats", "Grid", "Model", "apply", "fit"]


Model: TypeAlias = Literal["homography", "affine", "similarity", "translation"]
Floats: TypeAlias = NDArray[np.float64]

# The longer side after reduction by a whole factor. A pair at 1080p measured 0.02 px of corner error
# at half size and 0.1 px at quarter size.
_LONGEST_WORK_SIDE = 960
# The width up to which thresholds are in pixels of the work image; beyond, they grow with it.
_REFERENCE_WIDTH = 640

# A score with a wider threshold (0.5 px, or MAGSAC++ with any) may choose a transform bent to fit a
# moving foreground as well: 2 px of corner error in place of 0.07.
_USAC_ITERATIONS = 500
_USAC_CONFIDENCE = 0.999
_USAC_PX = 0.3
_SIMPLE_MODEL_PX = 1.5  # for models that the true motion only comes near to
_RNG_SEED = 1

_REFIT_STEPS = 12
_REFIT_STOP = 1e-7
# In standard deviations of the matches: where a match has lost three quarters of its weight, and
# where it stops counting as an inlier. On clips with known motion and on real ones 4 is a little better
# than 3 and clearly better than 2; at 6 a moving foreground begins to pull (0.09 px of corner error for 0.06).
_REFIT_SCALE = 4.0
_INLIER_SCALE = 4.0
_LEAST_SIGMA_PX = 0.1

_FREEDOM = {"homography": 8, "affine": 6, "similarity": 4, "translation": 2}

# Directions of sl(3) over the nine entries of a matrix: two translations, rotation, scale, two
# shears, two keystones. The first k of them span the group of each simpler model.
_DIRECTIONS = np.array(
    [
        [0, 0, 1, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 1, 0, 0, 0],
        [0, -1, 0, 1, 0, 0, 0, 0, 0],
        [1, 0, 0, 0, 1, 0, 0, 0, -2],
        [1, 0, 0, 0, -1, 0, 0, 0, 0],
        [0, 1, 0, 1, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 1, 0],
    ],
    np.float64,
)


class Grid(NamedTuple):
    """The sizes (width, height) of a frame, of its work image and of a copy half that size."""

    size: tuple[int, int]
    work: tuple[int, int]
    half: tuple[int, int]

    @classmethod
    def of(cls, size: tuple[int, int]) -> Grid:
        """Choose them for frames of this size."""
        factor = math.ceil(max(size) / _LONGEST_WORK_SIDE)
        work = _divided(size, factor)
        return cls(size, work, _divided(work, 2))

    @property
    def px(self) -> float:
        """What thresholds in pixels are multiplied by: points of small images are no more exact."""
        return max(1.0, self.work[0] / _REFERENCE_WIDTH)

    @property
    def units(self) -> Floats:
        """Matrix from coordinates of unit frame width about the center to work pixels."""
        w, h = self.work
        return np.array([[w, 0, 0.5 * (w - 1)], [0, w, 0.5 * (h - 1)], [0, 0, 1.0]])

    @property
    def corners(self) -> Floats:
        """Corners of the frame in coordinates of unit frame width, (4, 2)."""
        aspect = self.work[1] / self.work[0]
        return 0.5 * np.array([[-1, -aspect], [1, -aspect], [-1, aspect], [1, aspect]])


class Fit(NamedTuple):
    """A transform in coordinates of unit frame width, with what speaks for it."""

    matrix: Floats
    inlier: NDArray[np.bool_]
    residual: float  # median over the inliers
    covariance: Floats  # predicted, of the four frame corners, (8, 8)

    @property
    def corner_sd(self) -> float:
        """Predicted standard deviation of a frame corner."""
        return math.sqrt(max(float(np.trace(self.covariance)) / 4, 0.0))


def fit(model: Model, here: Floats, there: Floats, grid: Grid) -> Fit | None:
    """Fit a model to matches in work pixels; None where it is not a motion a camera makes."""
    cv2 = load_opencv()
    to_units = np.linalg.inv(grid.units)
    # Matches of pictures that have nothing in common can be degenerate in any way.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        try:
            start = _start(model, here, there, grid.px)
            if start is None:
                return None
            start = np.asarray(to_units @ start @ grid.units)
            if not _sane(start):
                return None
            found = _refit(model, start, apply(to_units, here), apply(to_units, there), grid)
        except (np.linalg.LinAlgError, cv2.error):
            return None
        return found if _sane(found.matrix) and math.isfinite(found.covariance.sum() + found.residual) else None


def _start(model: Model, here: Floats, there: Floats, px: float) -> Floats | None:
    """Find a first transform that outliers have not bent, in work pixels."""
    cv2 = load_opencv()
    if model == "translation":
        shift = np.median(there - here, axis=0)
        return np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]])
    cv2.setRNGSeed(_RNG_SEED)
    if model == "homography":
        found, _ = cv2.findHomography(
            here, there, cv2.USAC_FAST, _USAC_PX * px, maxIters=_USAC_ITERATIONS, confidence=_USAC_CONFIDENCE
        )
        return None if found is None else np.asarray(found, np.float64)
    estimate = cv2.estimateAffine2D if model == "affine" else cv2.estimateAffinePartial2D
    rows, _ = estimate(here, there, method=cv2.RANSAC, ransacReprojThreshold=_SIMPLE_MODEL_PX * px)
    return None if rows is None else np.vstack([rows, [0, 0, 1]]).astype(np.float64)


def _refit(model: Model, start: Floats, x: Floats, y: Floats, grid: Grid) -> Fit:
    """Minimize the Geman-McClure cost of |F x - y| over the model's group, beginning at `start`."""
    directions = _DIRECTIONS[: _FREEDOM[model]]
    floor = _LEAST_SIGMA_PX / grid.work[0]
    ridge = 1e-12 * np.eye(len(directions))
    matrix = start
    for _ in range(_REFIT_STEPS):
        moved = apply(matrix, x)
        difference = moved - y
        error = np.hypot(difference[:, 0], difference[:, 1])
        # The standard deviation as the median gives it falls while the fit improves, which anneals
        # the cost.
        sigma = max(1.4826 * float(np.median(error)), floor)
        weight = 1 / (1 + (error / (_REFIT_SCALE * sigma)) ** 2) ** 2
        jacobian = _velocity(moved) @ directions.T
        weighted = jacobian * np.repeat(weight, 2)[:, None]
        normal = weighted.T @ jacobian + ridge
        step = -np.linalg.solve(normal, weighted.T @ difference.ravel())
        # I + step lies in each model's group up to scale: no exponential is needed to move in it.
        matrix = (np.eye(3) + (step @ directions).reshape(3, 3)) @ matrix
        if np.abs(step).max() < _REFIT_STOP:
            break
    difference = apply(matrix, x) - y
    error = np.hypot(difference[:, 0], difference[:, 1])
    inlier = error <= _INLIER_SCALE * sigma  # at least half of the matches, by the choice of sigma
    residual = float(np.median(error[inlier])) if inlier.any() else math.inf
    # No match is better than the floor says: few of them in a line agree with anything.
    variance = max(float(weight @ error**2 / (2 * weight.sum())), floor**2)
    spread = _velocity(grid.corners) @ directions.T
    covariance = variance * (spread @ np.linalg.solve(normal, spread.T))
    return Fit(matrix / matrix[2, 2], inlier, residual, covariance)


def _velocity(points: Floats) -> Floats:
    """How points (m, 2) move with the nine entries of a small step off the identity: (2 m, 9)."""
    x, y = points[:, 0], points[:, 1]
    o, i = np.zeros_like(x), np.ones_like(x)
    across = [x, y, i, o, o, o, -x * x, -x * y, -x]
    down = [o, o, o, x, y, i, -x * y, -y * y, -y]
    return np.stack(across + down, 1).reshape(-1, 9)


def _sane(matrix: Floats) -> bool:
    """Whether a hand-held camera could have moved so within one frame (unit frame width)."""
    if not np.isfinite(matrix).all() or abs(matrix[2, 2]) < 1e-6:
        return False
    matrix = matrix / matrix[2, 2]
    stretch = np.linalg.svd(matrix[:2, :2], compute_uv=False)
    return bool(
        np.linalg.det(matrix) > 0
        and stretch[1] > 0.8
        and stretch[0] < 1.25
        and np.abs(matrix[2, :2]).max() < 0.25
        and np.abs(matrix[:2, 2]).max() < 0.5
    )


def apply(matrix: NDArray[Any], points: NDArray[Any]) -> Floats:
    """Where a transform takes points, (m, 2)."""
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(moved[:, :2] / moved[:, 2:])


def _divided(size: tuple[int, int], factor: int) -> tuple[int, int]:
    return max(1, round(size[0] / factor)), max(1, round(size[1] / factor))
