"""What camera paths are compared with: Grundmann et al. (CVPR 2011), Gaussian and moving-average smoothing."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike

from legato._arrays import Float64, as_float64
from legato._extras import install_command
from legato._scalars import as_choice, as_number
from legato.camera.frames import crop_room_px
from legato.camera.homographies import exp_homography, log_homography, to_pixel_units, to_width_units
from legato.camera.options import PathOptions, check_options, check_size
from legato.camera.paths import CameraPath
from legato.camera.problem import contain
from legato.errors import ArgumentError, DependencyError, HomographyError, InfeasibleError

__all__ = ["FILTERS", "Filter", "filter_path", "grundmann_path"]

Filter: TypeAlias = Literal["gaussian", "average"]
FILTERS: tuple[Filter, ...] = get_args(Filter)


def filter_path(
    motion: ArrayLike,
    size: tuple[int, int],
    options: PathOptions | None = None,
    *,
    kind: Filter = "gaussian",
    width_frames: float = 15.0,
) -> CameraPath:
    """Smooth a camera path with a linear filter, then shrink what leaves the frame (`contain`).

    Parameters
    ----------
    motion : array_like, shape (n, 3, 3)
        Frame t to frame t - 1, pixels; ``motion[0]`` is not read.
    size : (width, height)
    options : PathOptions, optional
        For the crop window.
    kind : {"gaussian", "average"}
    width_frames : float
        Standard deviation of the Gaussian (cut at three of them), or half width of the average. At the ends of the
        clip the kernel is cut and normalized.

    Returns
    -------
    CameraPath
        With status "filtered"; objective, gap and keystone ratio are NaN.

    See Also
    --------
    smooth_path : Find the L1-optimal camera path of a clip.
    grundmann_path : The linear program of 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import camera
    >>> motion = np.tile(np.eye(3), (60, 1, 1))
    >>> motion[:, 0, 2] = 2.0 * (-1.0) ** np.arange(60)
    >>> path = camera.filter_path(motion, size=(640, 360), width_frames=5.0)
    >>> metrics = camera.path_metrics(motion, path.corrections, size=(640, 360))
    >>> path.status, bool(metrics.jitter_px < 0.1 * metrics.input_jitter_px)
    ('filtered', True)
    """
    options = check_options(options)
    width, height = check_size(size)
    width_frames = as_number("width_frames", width_frames, above=0, below=1e6)
    kind = as_choice("kind", kind, FILTERS)
    F = as_float64("motion", motion, (None, 3, 3)).copy()
    F[:1] = np.eye(3)
    n = len(F)
    path = np.cumsum(log_homography(to_width_units(F, (width, height))).reshape(n, 9), axis=0)
    if kind == "gaussian":
        reach = math.ceil(3 * width_frames)
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width_frames) ** 2)
    else:
        reach = max(1, round(width_frames))
        kernel = np.ones(2 * reach + 1)
    total = np.convolve(np.ones(n), kernel)[reach : reach + n] if n else np.zeros(0)
    smooth = [np.convolve(entry, kernel)[reach : reach + n] / total for entry in path.T] if n else []
    p = (np.column_stack(smooth) if n else path) - path
    P = to_pixel_units(exp_homography(p.reshape(n, 3, 3)), (width, height))
    return _outcome(contain(P, (width, height), options), F, (width, height), options, "filtered", math.nan)


def grundmann_path(motion: ArrayLike, size: tuple[int, int], options: PathOptions | None = None) -> CameraPath:
    r"""Find the camera path of Grundmann, Kwatra and Essa, CVPR 2011: a linear program over affine transforms.

    Weights 10, 1, 100 of the first, second and third differences, 100 to 1 of the linear part to the translation (in
    pixels); 0.9 <= a, d <= 1.1, \|b\|, \|c\| <= 0.1, \|b + c\| <= 0.05, \|a - d\| <= 0.1; the crop window's corners
    stay in
    the frame. Solved by SciPy's HiGHS. A baseline: what a homography's perspective does is dropped.

    Parameters
    ----------
    motion : array_like, shape (n, 3, 3)
        Frame t to frame t - 1, pixels; ``motion[0]`` is not read.
    size : (width, height)
    options : PathOptions, optional
        Only crop, window scale and inset count; by default a crop of 0.2 with a window of 0.8, as in the paper.

    Returns
    -------
    CameraPath
        With status "optimal" and the program's objective (pixels); gap and keystone ratio are NaN.

    Raises
    ------
    DependencyError
        SciPy is not installed.
    InfeasibleError
        The solver found no path.

    See Also
    --------
    smooth_path : Find the L1-optimal camera path of a clip.
    filter_path : Smooth a camera path with a linear filter, then shrink what leaves the frame (`contain`).

    Examples
    --------
    >>> import numpy as np
    >>> from legato import camera
    >>> motion = np.tile(np.eye(3), (20, 1, 1))
    >>> motion[:, 0, 2] = 2.0 * (-1.0) ** np.arange(20)
    >>> path = camera.grundmann_path(motion, size=(640, 360))
    >>> path.status, path.corrections.shape
    ('optimal', (20, 3, 3))
    """
    try:
        from scipy import optimize, sparse
    except ImportError:
        raise DependencyError(f"SciPy is missing: {install_command('solvers')}") from None
    options = check_options(PathOptions(crop=0.2, window_scale=0.8) if options is None else options)
    width, height = check_size(size)
    F = as_float64("motion", motion, (None, 3, 3)).copy()
    F[:1] = np.eye(3)
    n = len(F)
    if n == 0:
        raise ArgumentError("motion: expected at least one frame")
    to_center = np.array([[1, 0, -(width - 1) / 2], [0, 1, -(height - 1) / 2], [0, 0, 1.0]])
    A = to_center @ F @ np.linalg.inv(to_center)
    with np.errstate(all="ignore"):
        A = A / A[:, 2:, 2:]
    if not np.isfinite(A).all():
        frame = int(np.argmin(np.isfinite(A).all((1, 2))))
        raise HomographyError(f"motion, frame {frame}: a matrix that is not finite, or keeps no center")
    # Unknowns of a frame: a b tx c d ty, the rows of B_t. F_{t+1} B_{t+1} mixes the two rows.
    step: Any = sparse.lil_matrix((6 * (n - 1), 6 * n))
    offset = np.zeros((n - 1, 6))
    for t in range(n - 1):
        step[6 * t : 6 * t + 6, 6 * t : 6 * t + 6] = -np.eye(6)
        step[6 * t : 6 * t + 6, 6 * t + 6 : 6 * t + 12] = np.kron(A[t + 1, :2, :2], np.eye(3))
        offset[t, [2, 5]] = A[t + 1, :2, 2]
    step = step.tocsr()
    blocks, constants, cost = [], [], []
    component = np.array([100.0, 100, 1, 100, 100, 1])
    for weight in (10.0, 1.0, 100.0):
        if step.shape[0] == 0:
            break
        blocks.append(step)
        constants.append(offset.ravel())
        cost.append(np.tile(weight * component, len(offset)))
        step, offset = (step[6:] - step[:-6]).tocsr(), np.diff(offset, axis=0)
    D = sparse.vstack(blocks, format="csr") if blocks else sparse.csr_matrix((0, 6 * n))
    e = np.concatenate(constants) if constants else np.zeros(0)
    w = np.concatenate(cost) if cost else np.zeros(0)
    scale = options.effective_window_scale
    half = np.array([width, height]) / 2
    corners = np.array([[x, y, 1] for x in (-1, 1) for y in (-1, 1)]) * np.append(scale * half, 1)
    frame_rows = np.vstack(
        [
            *(np.concatenate([c, np.zeros(3)]) for c in corners),
            *(np.concatenate([np.zeros(3), c]) for c in corners),
            [0, 1, 0, 1, 0, 0],
            [1, 0, 0, 0, -1, 0],
        ]
    )
    limit = np.concatenate([np.repeat(half - options.inset_px, 4), [0.05, 0.1]])
    rows = sparse.kron(sparse.identity(n), frame_rows)
    m = len(e)
    slack, none = -sparse.identity(m), sparse.csr_matrix((rows.shape[0], m))
    result = optimize.linprog(
        np.concatenate([np.zeros(6 * n), w]),
        A_ub=sparse.bmat([[D, slack], [-D, slack], [rows, none], [-rows, none]], format="csr"),
        b_ub=np.concatenate([-e, e, np.tile(limit, n), np.tile(limit, n)]),
        bounds=[*[(0.9, 1.1), (-0.1, 0.1), (None, None), (-0.1, 0.1), (0.9, 1.1), (None, None)] * n, *[(0, None)] * m],
        method="highs",
    )
    if result.x is None:
        raise InfeasibleError(f"motion: the affine program has no solution ({result.message})")
    P = np.tile(np.eye(3), (n, 1, 1))
    P[:, :2] = result.x[: 6 * n].reshape(n, 2, 3)
    P = np.linalg.inv(to_center) @ P @ to_center
    return _outcome(P, F, (width, height), options, "optimal", float(result.fun))


def _outcome(
    P: Float64, F: Float64, size: tuple[int, int], options: PathOptions, status: str, objective: float
) -> CameraPath:
    return CameraPath(
        corrections=P,
        log_corrections=log_homography(to_width_units(P, size)),
        status=status,
        objective=objective,
        gap=math.nan,
        iterations=0,
        rounds=0,
        violation_px=np.maximum(-crop_room_px(P, size, options), 0.0),
        keystone_ratio=math.nan,
        motion=to_width_units(F, size),
        size=size,
        options=options,
    )
