"""Named settings of a camera path."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from legato import camera
from legato._scalars import shown
from legato.errors import ArgumentError

__all__ = ["PRESETS", "Preset", "PresetName", "believable_rate", "preset_named"]

# Frames a second of shaking hands and what films them. A time-lapse says less, and is not steadier for it.
_SLOWEST, _FASTEST = 5.0, 1000.0

PresetName: TypeAlias = Literal["gentle", "standard", "smooth", "steady", "full", "tripod", "follow", "pan", "walk"]

# Weight of the corners' squared acceleration, at 30 frames a second. Where the crop is used up it takes 30 % of the
# jitter that the L1 terms alone leave (a tenth of it 17 %); where they find a hold or an even pan it changes little.
_ACCELERATION = 1e6
# Factor of the weights of roll: takes a third off the roll where it is a degree, for no more jitter (docs/quality.md).
_LEVEL = 100.0
# Weights of anisotropy and shear, in files: three times the default takes from the strongest distortion, and leaves the
# median of the jitter as it is (docs/quality.md).
_UNDISTORTED = 3000.0
# Of the gap and of the rounds of re-linearization, in files: more changes nothing that can be measured in the picture.
# A path that would leave the frame by more than 0.05 px gets further rounds in any case.
_TOLERANCE, _ROUNDS = 1e-3, 1
# Of a window of the path, a third of which is look-ahead. On nine shaky clips such windows leave the jitter that one
# solve of the whole clip leaves, within 0.003 of the clip's own (docs/quality.md).
_WINDOW_S = 3.0
# Of the crop. On nine shaky clips, ten frames of delay, the median of the jitter's ratio was 0.115 with a crop of 0.15
# and 0.109 with 0.18 (no term of acceleration), and the view kept nearly the same.
_LIVE_ROOM = 0.06


@dataclass(frozen=True, slots=True)
class Preset:
    """A named setting.

    Attributes
    ----------
    about : str
        What it is for.
    changes : dict
        What differs from the default `legato.camera.PathOptions`.
    center : float
        Weight that pulls the subject or the salient points to the center of the picture, at 30 frames a second.
    window_s : float or None
        Seconds of a file that are planned at once, a third of them look-ahead; None: the whole of it.
    fill : bool
        Whether the picture is kept whole, what a frame lacks of it taken from its neighbors.
    """

    about: str
    changes: dict[str, Any] = field(default_factory=dict)
    center: float = 0.0
    window_s: float | None = _WINDOW_S
    fill: bool = False

    def options(self) -> camera.PathOptions:
        """Give the path options; all presets keep half a pixel from the frame's edge."""
        options = camera.PathOptions(
            inset_px=0.5,
            acceleration=_ACCELERATION,
            anisotropy=_UNDISTORTED,
            shear=_UNDISTORTED,
            tolerance=_TOLERANCE,
            relinearize=_ROUNDS,
        )
        return replace(options, **self.changes)

    def live_options(self) -> camera.PathOptions:
        """Give the path options for live video: with the future unknown, a path needs more room.

        There is time for each picture, so it is solved as exactly as `legato.camera` does by default. The weights of
        distortion are its, too: those of files were not measured with so short a view.
        """
        exact, options = camera.PathOptions(), self.options()
        return replace(
            options,
            crop=round(options.crop + _LIVE_ROOM, 6),
            tolerance=exact.tolerance,
            relinearize=exact.relinearize,
            anisotropy=exact.anisotropy,
            shear=exact.shear,
        )


PRESETS = {
    "gentle": Preset("takes the tremble out and keeps 92 % of the view", {"crop": 0.08}),
    "standard": Preset("steady holds, pans and curves; keeps 88 % of the view"),
    "smooth": Preset("for strong shake, as of walking; keeps 85 % of the view", {"crop": 0.15}),
    "steady": Preset(
        "holds the horizon: less roll for no more jitter; keeps 88 % of the view",
        {"acceleration": 10 * _ACCELERATION, "roll_weight": _LEVEL},
    ),
    "full": Preset(  # the window is where the path may go, and is not taken from the picture; the crop is its zoom
        "the slow sway goes, too; keeps 98 % of the view, with borders from neighboring frames",
        {"crop": 0.275, "window_scale": 0.75, "acceleration": 10 * _ACCELERATION},
        window_s=6.0,
        fill=True,
    ),
    "tripod": Preset(
        "stands still as long as the crop allows; keeps 80 % of the view",
        {"crop": 0.2, "weights": (0.01, 100.0, 10.0, 100.0)},
        window_s=None,
    ),
    "follow": Preset(  # sharper turns keep closer to the subject
        "brings a subject or salient points to the middle; keeps 75 % of the view",
        {"crop": 0.25, "acceleration": 0.0},
        center=10.0,
        window_s=None,
    ),
}
# What a filmed motion is called; an L1 path holds, pans and accelerates by itself, so these need nothing of their own.
_ALIASES = {"pan": "standard", "walk": "smooth"}


def preset_named(name: PresetName) -> Preset:
    """Look a preset up; "pan" is another name of "standard" and "walk" of "smooth"."""
    known = [*PRESETS, *_ALIASES]
    if not isinstance(name, str) or name not in known:
        raise ArgumentError(
            f"preset: expected one of {', '.join(known)}; got {shown(name)} (the encoder's speed is encoder_preset)"
        )
    return PRESETS[_ALIASES.get(name, name)]


def believable_rate(frame_rate: float) -> float:
    """Give the nearest rate that weights and windows can be adapted to."""
    return min(max(frame_rate, _SLOWEST), _FASTEST)
