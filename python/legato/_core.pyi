"""
The compiled core of Legato. Private: call it through the families.
"""
from __future__ import annotations
import collections.abc
import numpy
import numpy.typing
import typing
__all__: list[str] = ['CameraPathOptions', 'active_isa', 'best_isa', 'build_text', 'camera_crop_rows', 'camera_exp_homography', 'camera_log_homography', 'camera_smooth_path', 'camera_solve_banded', 'last_isa', 'version']
class CameraPathOptions:
    """
    legato::camera::PathOptions, lengths in frame widths.
    """
    def __init__(self, *, crop: typing.SupportsFloat | typing.SupportsIndex, window_scale: typing.SupportsFloat | typing.SupportsIndex, weights: typing.Annotated[collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex], "FixedSize(4)"], anisotropy: typing.SupportsFloat | typing.SupportsIndex, shear: typing.SupportsFloat | typing.SupportsIndex, keystone: typing.SupportsFloat | typing.SupportsIndex, keystone_ratio: typing.SupportsFloat | typing.SupportsIndex, bound: typing.SupportsFloat | typing.SupportsIndex, inset: typing.SupportsFloat | typing.SupportsIndex, pixel: typing.SupportsFloat | typing.SupportsIndex, relinearize: typing.SupportsInt | typing.SupportsIndex, tolerance: typing.SupportsFloat | typing.SupportsIndex, max_iterations: typing.SupportsInt | typing.SupportsIndex) -> None:
        ...
def active_isa() -> str:
    """
    Instruction set the kernels run.
    """
def best_isa() -> str:
    """
    Best instruction set of this processor.
    """
def build_text() -> str:
    """
    Compiler and architecture of the compiled core.
    """
def camera_crop_rows(log: numpy.typing.NDArray[numpy.float64], aspect: typing.SupportsFloat | typing.SupportsIndex, options: CameraPathOptions, row_matrix: numpy.typing.NDArray[numpy.float64], row_bound: numpy.typing.NDArray[numpy.float64]) -> None:
    """
    Crop, area and side rows of one frame linearized at log, into (13, 9) and (13,).
    """
def camera_exp_homography(log: numpy.typing.NDArray[numpy.float64], homography: numpy.typing.NDArray[numpy.float64], threads: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    Exponentials of (n, 9) logarithms into (n, 9).
    """
def camera_log_homography(homography: numpy.typing.NDArray[numpy.float64], log: numpy.typing.NDArray[numpy.float64], threads: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    Logarithms of (n, 9) homographies into (n, 9).
    """
def camera_smooth_path(motion: numpy.typing.NDArray[numpy.float64], aspect: typing.SupportsFloat | typing.SupportsIndex, options: CameraPathOptions, fixed: numpy.typing.NDArray[numpy.float64], frame_weight: numpy.typing.NDArray[numpy.float64], corrections: numpy.typing.NDArray[numpy.float64], logs: numpy.typing.NDArray[numpy.float64], violation: numpy.typing.NDArray[numpy.float64]) -> dict:
    """
    Whole-clip camera path; lengths in frame widths.
    """
def camera_solve_banded(velocity: numpy.typing.NDArray[numpy.float64], weights: numpy.typing.NDArray[numpy.float64], quadratic: numpy.typing.NDArray[numpy.float64], linear: numpy.typing.NDArray[numpy.float64], row_matrix: numpy.typing.NDArray[numpy.float64], row_bound: numpy.typing.NDArray[numpy.float64], lower: numpy.typing.NDArray[numpy.float64], upper: numpy.typing.NDArray[numpy.float64], pinned: typing.SupportsInt | typing.SupportsIndex, tolerance: typing.SupportsFloat | typing.SupportsIndex, max_iterations: typing.SupportsInt | typing.SupportsIndex, path: numpy.typing.NDArray[numpy.float64]) -> dict:
    """
    The banded L1 program over (n, 8); the path holds the start and gets the solution.
    """
def last_isa() -> str:
    """
    Instruction set of the kernel copy that ran last in this thread.
    """
def version() -> str:
    """
    Version of the compiled core.
    """
