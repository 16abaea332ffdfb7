"""Pictures of camera paths (matplotlib, imported when a picture is drawn)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike

from legato._arrays import Float64, as_float64
from legato._curves import curves_svg
from legato._extras import install_command
from legato._files import PendingFile
from legato.camera.frames import crop_room_px
from legato.camera.homographies import exp_homography, log_homography, to_pixel_units, to_width_units
from legato.camera.options import PathOptions, check_size
from legato.errors import ArgumentError, DependencyError

__all__ = ["path_curves", "path_picture", "plot_path"]

_KINDS = (".svg", ".png", ".pdf")


def path_curves(
    motion: ArrayLike, corrections: ArrayLike, size: tuple[int, int]
) -> tuple[dict[str, Float64], dict[str, Float64]]:
    """Give the camera path before and after as curves.

    Horizontal and vertical position, roll and zoom of the camera: sums of the motion's logarithms (the paper's
    feature path, equation (4)), and the same plus the corrections.

    Parameters
    ----------
    motion, corrections : array_like, shape (n, 3, 3)
        Frame t to frame t - 1, and P_t (`CameraPath.corrections`); pixels.
    size : (width, height)

    Returns
    -------
    (dict, dict)
        Before and after: "horizontal (px)", "vertical (px)", "roll (degrees)" and "zoom (%)", each of shape (n,).

    Raises
    ------
    ArgumentError
        Wrong shapes.
    """
    size = check_size(size)
    F = as_float64("motion", motion, (None, 3, 3)).copy()
    P = as_float64("corrections", corrections, (len(F), 3, 3))
    F[:1] = np.eye(3)
    before = np.cumsum(log_homography(to_width_units(F, size)), axis=0)
    after = before + log_homography(to_width_units(P, size))
    return _components(before, size[0]), _components(after, size[0])


def plot_path(
    motion: ArrayLike,
    corrections: ArrayLike,
    size: tuple[int, int],
    destination: str | os.PathLike[str] | IO[bytes],
    *,
    fps: float | None = None,
    kind: str | None = None,
) -> None:
    """Draw the camera path before and after, component by component (see `path_curves`).

    Parameters
    ----------
    motion, corrections : array_like, shape (n, 3, 3)
        Frame t to frame t - 1, and P_t (`CameraPath.corrections`); pixels.
    size : (width, height)
    destination : path or binary file
        A name that ends in .svg, .png or .pdf and appears whole or not at all; or a file that is open for writing.
    fps : float, optional
        Makes the horizontal axis seconds instead of frames.
    kind : {".svg", ".png", ".pdf"}, optional
        What is drawn into an open file; otherwise the name says it.

    Raises
    ------
    DependencyError
        matplotlib is not installed.
    ArgumentError, OutputError
        Wrong shapes or file name; the file cannot be written.
    """
    shaky, steady = path_curves(motion, corrections, size)
    kind = _checked_kind(destination, kind)
    figure, axes = _figure(len(shaky["zoom (%)"]), 4)
    _draw_path(axes, shaky, steady, fps)
    _save(figure, destination, kind)


def path_picture(motion: Float64, log_corrections: Float64, size: tuple[int, int]) -> str:
    """Draw the four curves of `plot_path` as a small SVG, from what `CameraPath` holds."""
    before = np.cumsum(log_homography(motion), axis=0)
    held, steady = (_components(curve, size[0]) for curve in (before, before + log_corrections))
    return curves_svg("camera", {name: {"before": held[name], "after": steady[name]} for name in held})


def plot_solution(
    motion: Float64,
    log_corrections: Float64,
    size: tuple[int, int],
    options: PathOptions,
    destination: str | os.PathLike[str],
    *,
    fps: float | None,
    zero: float,
) -> None:
    """Draw `CameraPath.plot`: the four curves of `plot_path`, the derivatives and the room left to the crop."""
    width = size[0]
    kind = _checked_kind(destination, None)
    figure, axes = _figure(len(motion), 8)
    before = log_homography(motion)
    whole = np.cumsum(before, axis=0)
    _draw_path(axes[:4], _components(whole, width), _components(whole + log_corrections, width), fps)
    time = np.arange(len(before)) / (fps or 1)
    p = log_corrections.reshape(-1, 9)
    derivative = np.diff(p, axis=0) + before.reshape(-1, 9)[1:]
    if options.relinearize:  # the motions as they are, not as the linear model has them
        P = exp_homography(log_corrections)
        derivative = log_homography(np.linalg.inv(P[:-1]) @ motion[1:] @ P[1:]).reshape(-1, 9)
    for order, axis in enumerate(axes[4:7], start=1):
        at = time[order:]
        for entry, color, label in ((2, "#1d4ed8", "horizontal"), (5, "#0f766e", "vertical")):
            axis.plot(at, width * derivative[:, entry], color=color, linewidth=0.9, label=label)
        still = (np.abs(derivative) < zero).all(1)
        axis.plot(at[still], np.zeros(still.sum()), "|", color="#b45309", markersize=9, label="all nine zero")
        axis.set_ylabel(f"derivative {order}\n(px / frame{'' if order == 1 else f'^{order}'})")
        derivative = np.diff(derivative, axis=0)
    axes[4].legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False, ncols=3)
    room = crop_room_px(to_pixel_units(exp_homography(log_corrections), size), size, options)
    axes[7].fill_between(time, room, color="#a3a3a3", linewidth=0)
    axes[7].axhline(0, color="#b91c1c", linewidth=0.8)
    axes[7].set_ylabel("room to the\nframe edge (px)")
    _save(figure, destination, kind)


def _checked_kind(destination: str | os.PathLike[str] | IO[bytes], kind: str | None) -> str:
    if not isinstance(destination, str | os.PathLike):
        if kind is None or kind.lower() not in _KINDS:
            raise ArgumentError(f"kind: expected one of {', '.join(_KINDS)} for an open file, got {kind!r}")
        return kind.lower()
    target = Path(destination)
    if target.suffix.lower() not in _KINDS or kind is not None:
        raise ArgumentError(f"destination: expected a name ending in .svg, .png or .pdf, got {target.name}")
    return target.suffix.lower()


def _figure(frames: int, rows: int) -> tuple[Any, Any]:
    if frames == 0:
        raise ArgumentError("motion: expected at least one frame")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise DependencyError(f"matplotlib is missing: {install_command('video')}") from None
    figure = Figure(figsize=(9, 1.8 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, 1, sharex=True)
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _draw_path(axes: Any, shaky: dict[str, Float64], steady: dict[str, Float64], fps: float | None) -> None:
    for axis, label in zip(axes, shaky, strict=True):
        time = np.arange(len(shaky[label])) / (fps or 1)
        axis.plot(time, shaky[label], color="#c2410c", linewidth=0.9, label="shaky")
        axis.plot(time, steady[label], color="#1d4ed8", linewidth=1.8, label="stabilized")
        axis.set_ylabel(label)
    axes[0].legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False, ncols=2)
    axes[0].set_title("Camera path", loc="left", fontweight="bold")
    axes[0].figure.axes[-1].set_xlabel("frame" if fps is None else "seconds")


def _save(figure: Any, destination: str | os.PathLike[str] | IO[bytes], kind: str) -> None:
    if isinstance(destination, str | os.PathLike):
        with PendingFile(destination) as pending:
            with pending.opened() as file:
                _save(figure, file, kind)
            pending.commit()
        return
    import matplotlib as mpl

    # Without the date, and with names of its own choice, the same path gives the same picture.
    with mpl.rc_context({"svg.hashsalt": "legato"}):
        figure.savefig(destination, format=kind[1:], dpi=130, metadata={"Date": None} if kind == ".svg" else None)


def _components(logs: Float64, width: int) -> dict[str, Float64]:
    """Return what the curves show, by label, each of shape (n,)."""
    return {
        "horizontal (px)": width * logs[:, 0, 2],
        "vertical (px)": width * logs[:, 1, 2],
        "roll (degrees)": np.degrees(logs[:, 1, 0] - logs[:, 0, 1]) / 2,
        "zoom (%)": 100 * ((logs[:, 0, 0] + logs[:, 1, 1]) / 2 - logs[:, 2, 2]),
    }
