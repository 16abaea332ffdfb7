"""A second look at the pairs of frames whose motion is hard to measure, in pictures that are steady already.

Blur, a shutter that rolls and parallax grow with the motion, and with them the error of the fit. Drawn by a first path,
two frames differ by little more than that error: what is left between them is measured where it will be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from legato import camera
from legato.video.analysis import Analysis, Mask
from legato.video.files import VideoFrame
from legato.video.guard import expected_gain, predicted_error_px
from legato.video.pipeline import Stopwatch
from legato.video.planes import luma
from legato.video.presets import preset_named
from legato.video.progress import Progress
from legato.video.tracking import Motion, estimate_motion
from legato.video.warping import warp

__all__ = ["hard_pairs", "refined"]

Floats: TypeAlias = NDArray[np.float64]

# Predicted deviation of a corner, at a width of 640, from which a pair is looked at again. Ordinary clips have no such
# pair; half of those of a hard walk are. From 0.15 to 0.25 the result is about the same (docs/quality.md).
_HARD_PX = 0.2


def hard_pairs(analysis: Analysis) -> NDArray[np.bool_]:
    """Tell which motions are worth a second look: measured, but badly; none where nothing is to be steadied.

    Returns
    -------
    (n,) bool array
        True at t: from frame t to frame t - 1.
    """
    if analysis.error_px is None or not analysis.known:
        return np.zeros(len(analysis), bool)
    bridged = camera.bridge_motion(analysis.motion, analysis.ok)
    if not expected_gain(bridged, analysis.error_px, analysis.size).worthwhile:
        return np.zeros(len(analysis), bool)
    # The motion after a repeated frame began before it.
    new = analysis.ok & ~analysis.duplicate
    new[1:] &= ~analysis.duplicate[:-1]
    new[0] = False
    with np.errstate(invalid="ignore"):
        return np.asarray(new & (analysis.error_px * 640 / analysis.size[0] > _HARD_PX))


def refined(
    analysis: Analysis,
    pictures: Callable[[], Iterable[VideoFrame]],
    mask: Mask | None,
    watch: Stopwatch,
    tell: Progress,
) -> Analysis:
    """Measure the hard pairs again; most clips have none, and cost nothing.

    Parameters
    ----------
    analysis : Analysis
        What the first pass found.
    pictures : callable
        Gives the frames of the video once more, from the first one on.
    mask : (height, width) bool or uint8 array, or None
        Where the scene may be followed.
    watch, tell
        As for the first pass; the stage is called "refine".

    Returns
    -------
    Analysis
        The one given where no pair is hard.
    """
    hard = hard_pairs(analysis)
    if not hard.any():
        return analysis
    count, last = int(hard.sum()), int(np.flatnonzero(hard)[-1])
    with watch("path"):
        options = preset_named("standard").options()
        rough = replace(options.at_frame_rate(analysis.frame_rate or 30.0), tolerance=1e-3)
        path = camera.smooth_path(camera.bridge_motion(analysis.motion, analysis.ok), analysis.size, rough)
        corrections = camera.contain(path.corrections, analysis.size, rough) @ camera.crop_map(analysis.size, rough)
    motion, error = analysis.motion.copy(), np.array(analysis.error_px, np.float64)
    visible = None if mask is None else (mask != 0).astype(np.uint8) * 255
    before: _Steady | None = None
    done = 0
    for t, frame in enumerate(watch.steps(pictures(), "decode")):
        if t > last:
            break
        now: _Steady | None = None
        with watch("refine"):
            if hard[t] or hard[t + 1 : t + 2].any():
                now = _Steady.of(frame, corrections[t], visible)
            if hard[t] and before is not None and now is not None:
                step = now.since(before)
                if step is not None:
                    whole = corrections[t - 1] @ step.homography @ np.linalg.inv(corrections[t])
                    motion[t], error[t] = whole / whole[2, 2], predicted_error_px(step)
                done += 1
                tell("refine", done, count)
        before = now
    return replace(analysis, motion=motion, error_px=error)


@dataclass(frozen=True, slots=True)
class _Steady:
    """A picture drawn by the first path, and what of it may be followed."""

    picture: NDArray[np.uint8]
    visible: NDArray[np.uint8] | None

    @classmethod
    def of(cls, frame: VideoFrame, correction: Floats, visible: NDArray[np.uint8] | None) -> _Steady:
        picture = warp(luma(frame.planes), correction, interpolation="bicubic")
        return cls(picture, None if visible is None else warp(visible, correction))

    def since(self, before: _Steady) -> Motion | None:
        """Measure the motion to the picture before; None where it cannot be told or seems to be none."""
        mask = None
        if self.visible is not None and before.visible is not None:
            mask = np.minimum(self.visible, before.visible) > 127
        step = estimate_motion(before.picture, self.picture, mask=mask)
        return step if step.ok and not step.duplicate else None
