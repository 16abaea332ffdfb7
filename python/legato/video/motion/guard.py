"""Whether there is anything to steady: measured jitter against the error of the measurement.

A correction carries the error of the motion that it is made from. Where the camera stands nearly still, or where the
motion is hardly known, smoothing puts more jitter into the picture than it takes out. Let A be the root mean square
change from frame to frame of the corners' displacement, as measured, and N what of it is error. The true jitter then
is sqrt(A^2 - N^2), and a perfectly smooth path leaves N in the picture: it is a gain only while A^2 > 2 N^2.
``docs/quality.md`` has the evidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from legato import camera

if TYPE_CHECKING:
    from legato.video.motion.analysis import Step

__all__ = ["Gain", "Guard", "expected_gain"]

Floats: TypeAlias = NDArray[np.float64]

# The fit's own prediction takes matches for independent and the scene for a plane. On clips with known motion the true
# error is 1.3 to 1.7 times what it says, and real scenes are no planes. Any factor from 2 to 7 decides the clips of
# docs/quality.md in the same way.
_UNDERSTATED = 3.0
# Of the frames: their errors count no more than the one at this quantile, so that a few failures do not decide.
_TRUSTED = 0.9
# A guard that is shut asks again when there are so many times as many frames: the time it takes stays linear.
_ASKED_AGAIN = 1.25


class Gain(NamedTuple):
    """What stabilizing a clip can be expected to bring.

    Attributes
    ----------
    jitter_px : float
        Root mean square change from frame to frame of the corners' displacement, as measured; pixels.
    error_px : float
        How much of it the error of the measured motions accounts for; NaN where that is not known.
    """

    jitter_px: float
    error_px: float

    @property
    def worthwhile(self) -> bool:
        """Whether a smooth path leaves less jitter than there is; true where nothing is known."""
        return not self.jitter_px**2 <= 2 * self.error_px**2

    def reason(self) -> str:
        """Give the reason for leaving a clip as it is, for a report."""
        return (
            f"left as it is: the measured jitter of {self.jitter_px:.2f} px is not clearly more than the error of the "
            f"measurement, {self.error_px:.2f} px (guard; it can be switched off)"
        )


def expected_gain(motion: Floats, error_px: Floats, size: tuple[int, int]) -> Gain:
    """Compare the jitter of a clip with the error of its measurement.

    Parameters
    ----------
    motion : (n, 3, 3) float64 array
        Frame t to frame t - 1, pixels.
    error_px : (m,) float64 array
        Predicted standard deviations of the corners' displacement of any number of these motions; NaN is left out.
    size : (width, height)

    Returns
    -------
    Gain
    """
    known = error_px[np.isfinite(error_px)]
    if len(motion) < 3 or len(known) == 0:
        return Gain(math.nan, math.nan)
    still = np.tile(np.eye(3), (len(motion), 1, 1))
    jitter = camera.path_metrics(motion, still, size).input_jitter_px
    measured = np.sort(known[known > 0])  # repeated frames have none, and must not hide those of the others
    if len(measured):
        known = np.minimum(known, measured[int(_TRUSTED * (len(measured) - 1))])
    squared = known**2
    # A change of displacement has the errors of two motions in it.
    return Gain(jitter, _UNDERSTATED * math.sqrt(2 * float(squared.mean())))


class Guard:
    """Asks while the frames of a clip come in whether there is something to be gained; once there is, that stands.

    Parameters
    ----------
    size : (width, height)

    Attributes
    ----------
    gain : Gain or None
        The last answer.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.gain: Gain | None = None
        self._size = size
        self._open = False
        self._asked_at = 0

    def opened(self, steps: Sequence[Step], *, last: bool = False) -> bool:
        """Tell for the frames so far; `last`: there will be no more."""
        if self._open or (not last and len(steps) < _ASKED_AGAIN * self._asked_at):
            return self._open
        self._asked_at = len(steps)
        motion = camera.bridge_motion(np.array([s.motion for s in steps]), np.array([s.ok for s in steps]))
        self.gain = expected_gain(motion, np.array([s.error_px for s in steps]), self._size)
        self._open = self.gain.worthwhile
        return self._open
