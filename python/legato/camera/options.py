"""Options of a camera path, and the checks that every door shares."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from legato._scalars import as_choice, as_count, as_number, as_size, shown
from legato.errors import ArgumentError

__all__ = ["PathOptions"]


Model: TypeAlias = Literal["homography", "affine", "similarity", "translation"]
Units: TypeAlias = Literal["pixel", "width"]
MODELS: tuple[Model, ...] = get_args(Model)
UNITS: tuple[Units, ...] = get_args(Units)


@dataclass(frozen=True)
class PathOptions:
    """Options of a camera path. Lengths are in frame widths, weights are for 30 frames a second.

    The paper publishes no weights; the defaults were chosen on real clips and matter little over two to four decades.
    What matters is `crop`.

    Parameters
    ----------
    crop : float
        At least ``1 - crop`` of the field of view (linear) is kept; 0 < crop < 1 (paper, section 4).
    window_scale : float, optional
        Scale of the crop window that corrections move; ``None``: ``1 - crop / 2``.
    weights : tuple of 4 floats
        w0 (L2 fidelity; 0 is the linear program) and w1, w2, w3 (L1 of the first, second, third
        differences); paper, equation (4).
    anisotropy, shear : float
        Weights of (p11 - p22)^2 and (p12 + p21)^2 (paper, section 5).
    keystone : float
        Weight of (p31 - R p13)^2 + (p32 - R p23)^2 (paper, section 5).
    keystone_ratio : float, optional
        R < 0; ``None``: estimated from the motion, clipped to [-3, -0.3].
    acceleration : float
        Weight of the window corners' mean squared acceleration. The L1 terms alone gather what acceleration there must
        be in few frames; this spreads it, which lowers its root mean square. 0 is the paper's model.
    roll_weight : float
        Factor of w1, w2 and w3 for the entries p12 and p21, which are roll: 30 to 100 holds the horizon steadier.
    bound : float
        Bound on the absolute entries of log P_t.
    inset_px : float
        The crop window stays this many pixels inside the frame.
    relinearize : int
        Rounds of sequential re-linearization about the present path, which make the model's velocities and crop
        exact; up to four more are done while a frame violates the crop by more than 0.05 px. 0 is the paper's linear
        model; at most 1000.
    tolerance : float
        Relative gap at which the solver stops.
    max_iterations : int
        Iteration cap of each solve; the path is feasible at any cap.
    model : {"homography", "affine", "similarity", "translation"}
        What a correction may be. The motion's logarithm is projected on the model's algebra as well: what a model
        cannot correct costs nothing. "affine" is the model of Grundmann et al. (CVPR 2011); the keystone term exists
        for "homography" alone.

    See Also
    --------
    smooth_path : Find the L1-optimal camera path of a clip.
    PathStream : A camera path while the motion is still coming in.

    Examples
    --------
    >>> from legato import camera
    >>> camera.PathOptions(crop=0.2).weights
    (1.0, 1.0, 10.0, 100.0)
    >>> camera.PathOptions().at_frame_rate(60).weights
    (0.5, 1.0, 20.0, 400.0)
    """

    crop: float = 0.12
    window_scale: float | None = None
    weights: tuple[float, float, float, float] = (1.0, 1.0, 10.0, 100.0)
    anisotropy: float = 1000.0
    shear: float = 1000.0
    keystone: float = 100.0
    keystone_ratio: float | None = None
    acceleration: float = 0.0
    roll_weight: float = 1.0
    bound: float = 1.0
    inset_px: float = 0.0
    relinearize: int = 2
    tolerance: float = 1e-6
    max_iterations: int = 100
    model: Model = "homography"

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        put("weights", _checked_weights(self.weights))
        put("crop", as_number("crop", self.crop, above=0, below=1))
        if self.window_scale is not None:
            scale = as_number("window_scale", self.window_scale)
            if not 1 - self.crop <= scale <= 1:
                raise ArgumentError(
                    f"window_scale: expected a number from 1 - crop to 1, got {scale} with crop {self.crop}"
                )
            put("window_scale", scale)
        for name in ("anisotropy", "shear", "keystone", "acceleration", "roll_weight", "inset_px"):
            put(name, as_number(name, getattr(self, name), least=0, below=1e12))
        if self.keystone_ratio is not None:
            put("keystone_ratio", as_number("keystone_ratio", self.keystone_ratio))
        put("model", as_choice("model", self.model, MODELS))
        put("bound", as_number("bound", self.bound, above=0))
        put("tolerance", as_number("tolerance", self.tolerance, above=0, below=1))
        put("relinearize", as_count("relinearize", self.relinearize, 0, 1000))
        put("max_iterations", as_count("max_iterations", self.max_iterations, 0))

    @property
    def effective_window_scale(self) -> float:
        """`window_scale`, or ``1 - crop / 2``."""
        return 1 - self.crop / 2 if self.window_scale is None else self.window_scale

    def at_frame_rate(self, fps: float) -> PathOptions:
        """Return the options with weights that keep the same continuous-time objective at another frame rate.

        Differences of order k scale as dt^k, so w0 and the other quadratic weights of the corrections are multiplied by
        30 / fps, w2 by fps / 30, w3 by (fps / 30)^2 and that of the squared acceleration by (fps / 30)^3.

        See Also
        --------
        smooth_path : Find the L1-optimal camera path of a clip.
        """
        rate = as_number("fps", fps, least=1e-3, most=1e6) / 30
        w0, w1, w2, w3 = self.weights
        return dataclasses.replace(
            self,
            weights=(w0 / rate, w1, w2 * rate, w3 * (rate * rate)),
            anisotropy=self.anisotropy / rate,
            shear=self.shear / rate,
            keystone=self.keystone / rate,
            acceleration=min(self.acceleration * (rate * rate * rate), 9e11),  # damaged timestamps give any rate
        )


def check_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return (width, height) as integers of at least 1."""
    return as_size("size", size)


def check_options(options: PathOptions | None) -> PathOptions:
    """Return the options, or the default ones."""
    if options is None:
        return PathOptions()
    if not isinstance(options, PathOptions):
        raise ArgumentError(f"options: expected PathOptions, got {shown(options)}")
    return options


def _checked_weights(weights: object) -> tuple[float, float, float, float]:
    try:
        w0, w1, w2, w3 = (as_number("weights", w, least=0, below=1e12) for w in weights)  # type: ignore[attr-defined]
    except Exception:
        w0 = w1 = w2 = w3 = 0.0
    if not (w0 or w1 or w2 or w3):
        raise ArgumentError(f"weights: expected four numbers, none below 0, not all 0, got {shown(weights)}")
    return w0, w1, w2, w3
