"""What is planned for a video, in numbers: of a path and its motion."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from legato import camera
from legato.camera.plotting import path_curves
from legato.video.motion.analysis import Analysis
from legato.video.motion.guard import Gain
from legato.video.warping import overhang_px

__all__ = ["curves", "path_figures"]

Floats: TypeAlias = NDArray[np.float64]


def path_figures(
    motion: Floats, corrections: Floats, size: tuple[int, int], rate: float, gain: Gain | None, *, inside: bool
) -> dict[str, Any]:
    """Give the figures of a path as `StabilizeReport` names them, and what the guard found.

    `inside`: the pictures show nothing from beyond the frame, or as much as is told.
    """
    metrics = camera.path_metrics(motion, corrections, size)
    before, after = (
        camera.path_sway(motion, c, size, rate) for c in (np.tile(np.eye(3), (len(motion), 1, 1)), corrections)
    )
    gain = gain or Gain(True)
    return {
        "violation_px": overhang_px(corrections, size) if inside else 0.0,
        "cropping": float(metrics.cropping),
        "distortion": float(metrics.distortion),
        "planned_jitter_in_px": float(metrics.input_jitter_px),
        "planned_jitter_out_px": float(metrics.jitter_px),
        "sway_in_px": before.px * 640 / size[0],
        "sway_out_px": after.px * 640 / size[0],
        "sway_in_deg": before.roll_deg,
        "sway_out_deg": after.roll_deg,
        "guard_ratio": gain.ratio,
        "worst_second_ratio": gain.worst,
        "worst_second_at_s": gain.worst_at_s,
    }


def curves(analysis: Analysis, motion: Floats, window: Floats, rate: float) -> dict[str, Any]:
    """Give what `legato view` draws, rounded to what can be seen."""
    times = [analysis.time_s(t) for t in range(len(motion))]
    first = times[0] or 0.0
    drawn: dict[str, Any] = {"time_s": [round(t / rate if at is None else at - first, 4) for t, at in enumerate(times)]}
    for name, lines in zip(("before", "after"), path_curves(motion, window, analysis.size), strict=True):
        drawn[name] = {label: np.round(line, 3).tolist() for label, line in lines.items()}
    return drawn
