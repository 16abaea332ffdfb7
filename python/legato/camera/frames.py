"""Geometry of frames: the crop window, its corners and room, and motions bridged where none was measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from legato._arrays import Float64, as_booleans, as_float64
from legato.camera import _reference
from legato.camera.homographies import exp_homography, log_homography
from legato.camera.options import PathOptions, check_options, check_size

__all__ = ["bridge_motion", "crop_map"]


def crop_map(size: tuple[int, int], options: PathOptions | None = None) -> Float64:
    """Map from output pixels to pixels of the crop window, shape (3, 3).

    The output is as large as the input, so this is a scaling by the window scale about the frame center;
    ``corrections[t] @ crop_map(size, options)`` maps output pixels to input pixels.

    See Also
    --------
    smooth_path : Find the L1-optimal camera path of a clip.

    Examples
    --------
    >>> from legato import camera
    >>> camera.crop_map((641, 361), camera.PathOptions(crop=0.2)).round(3).tolist()
    [[0.9, 0.0, 32.0], [0.0, 0.9, 18.0], [0.0, 0.0, 1.0]]
    """
    width, height = check_size(size)
    scale = check_options(options).effective_window_scale
    return np.array([[scale, 0, (1 - scale) * (width - 1) / 2], [0, scale, (1 - scale) * (height - 1) / 2], [0, 0, 1]])


def bridge_motion(motion: ArrayLike, ok: ArrayLike) -> Float64:
    """Fill failed motion estimates.

    Between two good frames the logarithms are interpolated linearly; before the first and after the last good one the
    motion is the identity.

    Parameters
    ----------
    motion : array_like, shape (n, 3, 3)
        Frame t to frame t - 1. What stands in failed frames and in frame 0 is not read.
    ok : array_like of bool, shape (n,)
        Frames whose motion can be trusted.

    Returns
    -------
    ndarray, shape (n, 3, 3), float64

    See Also
    --------
    smooth_path : Does so with the frames that its `ok` leaves out.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import camera
    >>> motion = np.tile(np.eye(3), (4, 1, 1))
    >>> motion[1:, 0, 2] = [2.0, np.nan, 4.0]
    >>> camera.bridge_motion(motion, ok=[True, True, False, True])[:, 0, 2].round(6)
    array([0., 2., 3., 4.])
    """
    F = as_float64("motion", motion, (None, 3, 3)).copy()
    good = as_booleans("ok", ok, (len(F),))
    if len(F) == 0:
        return F
    good = good.copy()
    good[0] = False
    F[~good] = np.eye(3)
    return fill_motion(F, good, None)


def fill_motion(motion: Float64, good: NDArray[np.bool_], before: tuple[int, Float64] | None) -> Float64:
    """Motions with those that are not good interpolated between good neighbors, as logarithms; identity elsewhere.

    `before`: how many frames before the first one the last good motion was, and its logarithm.
    """
    F = motion.copy()
    F[~good] = np.eye(3)
    known = np.flatnonzero(good)
    at, logs = known, log_homography(F[known]).reshape(-1, 9)
    if before is not None:
        at, logs = np.append(-before[0], at), np.vstack([before[1], logs])
    gap = np.flatnonzero(~good)
    if len(at):
        gap = gap[(gap > at[0]) & (gap < at[-1])]
        if len(gap):
            filled = np.column_stack([np.interp(gap, at, entry) for entry in logs.T])
            F[gap] = exp_homography(filled.reshape(-1, 3, 3))
    return F


def window_corners_px(size: tuple[int, int], options: PathOptions) -> Float64:
    """Corners of the crop window at rest, pixels, TL TR BR BL, shape (4, 2)."""
    width, height = size
    corners = _reference.window_corners(options.effective_window_scale, height / width)
    return np.asarray(corners * width + np.array([(width - 1) / 2, (height - 1) / 2]))


def crop_room_px(corrections: Float64, size: tuple[int, int], options: PathOptions) -> Float64:
    """Exact distance of the crop window from the edge of its allowed rectangle, shape (n,); negative outside."""
    moved = move_points(corrections, window_corners_px(size, options))
    center = (np.array(size) - 1) / 2
    half = np.array(size) / 2 - options.inset_px
    return np.asarray((half - np.abs(moved - center)).min((1, 2)))


def move_points(transforms: Float64, points: Float64) -> Float64:
    """Images of points (m, 2) under homographies (n, 3, 3), shape (n, m, 2)."""
    moved = np.column_stack([points, np.ones(len(points))]) @ np.swapaxes(transforms, 1, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(moved[..., :2] / moved[..., 2:])
