"""Pictures of camera paths (matplotlib, imported when a picture is drawn)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from legato._arrays import Float64, as_float64
from legato.camera.homographies import log_homography, to_width_units
from legato.camera.paths import check_size
from legato.errors import ArgumentError, DependencyError, OutputError

__all__ = ["plot_path"]


def plot_path(
    motion: ArrayLike,
    corrections: ArrayLike,
    size: tuple[int, int],
    destination: str | os.PathLike[str],
    *,
    fps: float | None = None,
) -> None:
    """Draw the camera path before and after, component by component.

    Horizontal and vertical position, roll and zoom of the camera: sums of the motion's logarithms (the paper's
    feature path, equation (4)), and the same plus the corrections.

    Parameters
    ----------
    motion, corrections : array_like, shape (n, 3, 3)
        Frame t to frame t - 1, and P_t (`CameraPath.corrections`); pixels.
    size : (width, height)
    destination : path
        Ends in .svg, .png or .pdf; appears whole or not at all.
    fps : float, optional
        Makes the horizontal axis seconds instead of frames.

    Raises
    ------
    DependencyError
        matplotlib is not installed.
    ArgumentError, OutputError
        Wrong shapes or file name; the file cannot be written.
    """
    width, height = check_size(size)
    F = as_float64("motion", motion, (None, 3, 3)).copy()
    P = as_float64("corrections", corrections, (len(F), 3, 3))
    target = Path(destination)
    if target.suffix.lower() not in {".svg", ".png", ".pdf"}:
        raise ArgumentError(f"destination: expected a name ending in .svg, .png or .pdf, got {target.name}")
    if len(F) == 0:
        raise ArgumentError("motion: expected at least one frame")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise DependencyError('matplotlib is missing: pip install "legato[video]"') from None

    F[0] = np.eye(3)
    before = np.cumsum(log_homography(to_width_units(F, (width, height))), axis=0)
    after = before + log_homography(to_width_units(P, (width, height)))
    time = np.arange(len(F)) / (fps or 1)

    figure = Figure(figsize=(9, 7.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(4, 1, sharex=True)
    shaky, steady = _components(before, width), _components(after, width)
    for axis, label in zip(axes, shaky, strict=True):
        axis.plot(time, shaky[label], color="#c2410c", linewidth=0.9, label="shaky")
        axis.plot(time, steady[label], color="#1d4ed8", linewidth=1.8, label="stabilized")
        axis.set_ylabel(label)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False, ncols=2)
    axes[0].set_title("Camera path", loc="left", fontweight="bold")
    axes[-1].set_xlabel("frame" if fps is None else "seconds")

    part = target.with_name(f".{target.stem}.part{target.suffix}")
    try:
        # Without the date, the same path gives the same picture.
        figure.savefig(part, dpi=130, metadata={"Date": None} if target.suffix.lower() == ".svg" else None)
        part.replace(target)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written ({error.strerror or error})") from None
    finally:
        part.unlink(missing_ok=True)


def _components(logs: Float64, width: int) -> dict[str, Float64]:
    """Return what the curves show, by label, each of shape (n,)."""
    return {
        "horizontal (px)": width * logs[:, 0, 2],
        "vertical (px)": width * logs[:, 1, 2],
        "roll (degrees)": np.degrees(logs[:, 1, 0] - logs[:, 0, 1]) / 2,
        "zoom (%)": 100 * ((logs[:, 0, 0] + logs[:, 1, 1]) / 2 - logs[:, 2, 2]),
    }
