"""Guidance: how a conditional and an unconditional prediction become one.

Every rule is linear in the two predictions once a few sums over each sample are known, so a guided step stays what a
step without guidance is: one fused pass, after one pass for the sums where the rule needs any.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from legato._arrays import Float64
from legato._scalars import as_choice, as_count, as_number, shown
from legato.diffusion.steps import PREDICTIONS, Prediction, apply_step, convert_prediction, guidance_sums
from legato.errors import ArgumentError

__all__ = ["RULES", "Guidance", "GuidedDenoiser", "Rule"]

Rule: TypeAlias = Literal["cfg", "cfg++", "apg", "zero_star"]
RULES: tuple[Rule, ...] = get_args(Rule)


@dataclass(frozen=True)
class Guidance:
    """A guidance rule, for the ``guidance_scale=`` of `sample`.

    Parameters
    ----------
    scale : float
        g in uncond + g (cond - uncond); 1 is the conditional model. (Ho and Salimans 2022 count w = g - 1.)
    rule : {"cfg", "cfg++", "apg", "zero_star"}
        "cfg++" (Chung et al. 2024): x0 from the guided prediction, the noise from the unconditional one; scale 0 to 1.
        "apg" (Sadat et al. 2024): the difference in x0 with momentum, clamped norm, and its part along the conditional
        x0 scaled by `parallel`. "zero_star" (CFG-Zero*, Fan et al. 2025): the unconditional prediction times its best
        scale, and 0 predicted in the first `zero_steps` steps.
    interval : (float, float), optional
        Guide only where sigma / alpha lies in it (Kynkaanniemi et al. 2024); elsewhere the conditional model alone.
    rescale : float
        0 to 1: how far to bring the standard deviation of each sample's prediction back to that of the conditional one
        (Lin et al. 2023, section 3.4).
    momentum, norm, parallel
        Of "apg": weight of the past difference (negative in the paper), largest norm (0: none), eta of the paper.
    zero_steps : int
        Of "zero_star".

    Raises
    ------
    ArgumentError
        A number or a name that makes no sense, or one that the rule does not use.

    See Also
    --------
    sample : Run a sampler through a schedule.
    GuidedDenoiser : A conditional and an unconditional denoiser as one, guided by any rule, for loops of your own.

    Notes
    -----
    Plain guidance is the same in every parametrization of the prediction; the rules are not. As in their sources,
    `rescale` and "zero_star" act on what the model predicts (the ``prediction=`` of `sample`; exact models count as
    predicting epsilon unless it says otherwise), whatever the sampler works in, and the result is converted. "apg" acts
    on x0, "cfg++" on x0 and epsilon.

    Examples
    --------
    >>> from legato import diffusion as D
    >>> D.Guidance(5.0, interval=(0.2, 3.0)).scale_at(alpha=1.0, sigma=10.0)
    1.0
    >>> import numpy as np
    >>> cond, uncond = np.array([[2.0]]), np.array([[1.0]])
    >>> rule = D.Guidance(5.0)
    >>> rule.combined(cond, uncond, scale=5.0, step=0).tolist(), rule.weights(cond, uncond, scale=5.0, step=0).tolist()
    ([[6.0]], [[5.0, -4.0]])
    """

    scale: float
    rule: Rule = "cfg"
    interval: tuple[float, float] | None = None
    rescale: float = 0.0
    momentum: float = 0.0
    norm: float = 0.0
    parallel: float = 1.0
    zero_steps: int = 1

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        for name in ("scale", "rescale", "momentum", "norm", "parallel"):
            object.__setattr__(self, name, as_number(name, getattr(self, name)))
        as_choice("rule", self.rule, RULES)
        as_count("zero_steps", self.zero_steps, 0)
        if not 0 <= self.rescale <= 1:
            raise ArgumentError(f"rescale: expected 0 to 1, got {self.rescale}")
        if self.rescale and self.rule != "cfg":
            raise ArgumentError("rescale: goes with rule 'cfg' alone")
        if self.interval is not None:
            try:
                low, high = (as_number("interval", end, finite=False) for end in self.interval)
            except Exception:
                low, high = np.nan, np.nan
            if not low <= high:
                raise ArgumentError(f"interval: expected (low, high), got {shown(self.interval)}")
            object.__setattr__(self, "interval", (low, high))
        if self.norm < 0:
            raise ArgumentError(f"norm: expected a number that is not negative, got {self.norm}")
        for name, neutral, rule in (
            ("momentum", 0, "apg"), ("norm", 0, "apg"), ("parallel", 1, "apg"), ("zero_steps", 1, "zero_star")
        ):  # fmt: skip
            if getattr(self, name) != neutral and self.rule != rule:
                raise ArgumentError(f"{name}: goes with rule {rule!r} alone")

    @property
    def linear(self) -> bool:
        """Whether the weights are known before the predictions are (the compiled loops run these)."""
        return self.rule in ("cfg", "cfg++") and self.rescale == 0

    def scale_at(self, alpha: float, sigma: float) -> float:
        """Return the scale at a level: 1 outside the interval.

        See Also
        --------
        Guidance.combined : Return the guided prediction itself, of the kind of `cond`; of "apg".
        """
        if self.interval is None:
            return self.scale
        inside = self.interval[0] * alpha <= sigma <= self.interval[1] * alpha
        return self.scale if inside else 1.0

    def combined(self, cond: Any, uncond: Any, scale: float, step: int) -> Any:
        """Return the guided prediction itself, of the kind of `cond`; of "apg", `uncond` is the difference.

        See Also
        --------
        Guidance.weights : Return weights (samples, 2) of the two predictions.
        """
        weights = self.weights(cond, uncond, scale, step)
        return apply_step(cond, cond, (0.0, 0.0, 0.0), uncond, weights=weights)

    def weights(self, cond: Any, uncond: Any, scale: float, step: int) -> Float64:
        """Return weights (samples, 2) of the two predictions; for "apg" of x0 and of the (accumulated) difference.

        See Also
        --------
        Guidance.combined : Return the guided prediction itself, of the kind of `cond`; of "apg".
        """
        samples = len(cond)
        plain = np.tile([scale, 1.0 - scale], (samples, 1))
        if self.rule == "zero_star" and step < self.zero_steps:
            return np.zeros((samples, 2))
        if self.linear:
            return plain
        cc, uu, cu, c, u = guidance_sums(cond, uncond).T[:5]
        count = float(np.prod(cond.shape[1:], dtype=np.int64))
        tiny = np.finfo(float).tiny
        if self.rule == "zero_star":
            best = cu / np.maximum(uu, tiny)
            return np.stack([np.full(samples, scale), (1.0 - scale) * best], 1)
        if self.rule == "apg":
            shrink = np.minimum(1.0, self.norm / np.sqrt(np.maximum(uu, tiny))) if self.norm > 0 else np.ones(samples)
            along = shrink * cu / np.maximum(cc, tiny)
            return np.stack([1.0 + (scale - 1.0) * (self.parallel - 1.0) * along, (scale - 1.0) * shrink], 1)
        if count < 2:
            raise ArgumentError("rescale: expected samples of at least two elements, one has no standard deviation")
        mean = scale * c + (1.0 - scale) * u
        spread_c = cc - c * c / count
        spread = scale**2 * cc + (1.0 - scale) ** 2 * uu + 2 * scale * (1.0 - scale) * cu - mean * mean / count
        ratio = np.sqrt(np.maximum(spread_c, 0.0) / np.maximum(spread, tiny))
        return np.asarray(plain * (self.rescale * ratio + 1.0 - self.rescale)[:, None])


class GuidedDenoiser:
    """A conditional and an unconditional denoiser as one, guided by any rule, for loops of your own.

    Parameters
    ----------
    cond, uncond : callable
        ``model(x, alpha, sigma, k)``, as `sample` takes them: NumPy arrays or tensors. A weaker model as `uncond` is
        autoguidance.
    guidance : float or Guidance
        "cfg++" is no prediction, but a way to step, and is refused.
    prediction : {"epsilon", "x0", "v", "flow", "score"}
        What both predict, and what is returned. "apg" is applied in x0, the other rules to the prediction itself.

    Raises
    ------
    ArgumentError
        A rule that is no prediction.

    See Also
    --------
    Guidance : A guidance rule, for the ``guidance_scale=`` of `sample`.
    guided : For the loops of `sample`.

    Notes
    -----
    The difference that "apg" accumulates is that of a run, which begins where k does not rise.

    Examples
    --------
    >>> from legato import diffusion as D
    >>> both = D.GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [0.1, 0.1])
    >>> cond, uncond = (lambda x, a, s, k, gm=gm: gm.eps(x, a, s) for gm in (both.reweighted([0, 1]), both))
    >>> denoiser = D.GuidedDenoiser(cond, uncond, D.Guidance(3.0, interval=(0.1, 5.0)))
    >>> x = D.sample(denoiser, (100, 1), D.Schedule.karras(30), seeds=1)
    >>> bool((x > 0).all())
    True
    """

    def __init__(self, cond: Any, uncond: Any, guidance: float | Guidance, prediction: Prediction = "epsilon") -> None:
        for name, model in (("cond", cond), ("uncond", uncond)):
            if not callable(model):
                raise ArgumentError(f"{name}: expected a callable, got {type(model).__name__}")
        self.cond, self.uncond, self.guidance = cond, uncond, guidance_of(guidance)
        self.prediction: Prediction = as_choice("prediction", prediction, PREDICTIONS)
        if self.guidance.rule == "cfg++":
            raise ArgumentError("guidance: 'cfg++' steps with two predictions; give it to sample()")
        self._difference: Any = None
        self._last = -1

    def __call__(self, x: Any, alpha: float, sigma: float, k: int = 0) -> Any:
        """Return the guided prediction at x = alpha x0 + sigma eps in step k."""
        cond = self.cond(x, alpha, sigma, k)
        scale = self.guidance.scale_at(alpha, sigma)
        if scale == 1.0 and self.guidance.linear:
            return cond
        uncond = self.uncond(x, alpha, sigma, k)
        if self.guidance.rule != "apg":
            return self.guidance.combined(cond, uncond, scale, k)
        level: dict[str, Any] = {"alpha": alpha, "sigma": sigma}
        cond, uncond = (
            convert_prediction(one, x, given=self.prediction, wanted="x0", **level) for one in (cond, uncond)
        )
        begins = k <= self._last
        self._difference = accumulated(cond - uncond, None if begins else self._difference, self.guidance.momentum)
        self._last = k
        x0 = self.guidance.combined(cond, self._difference, scale, k)
        return convert_prediction(x0, x, given="x0", wanted=self.prediction, **level)


def guidance_of(value: float | Guidance) -> Guidance:
    """Take a number as plain guidance."""
    if isinstance(value, Guidance):
        return value
    return _plain(as_number("guidance_scale", value))


_plain = functools.lru_cache(maxsize=64)(Guidance)


def accumulated(difference: Any, before: Any, momentum: float) -> Any:
    """Return the running difference of "apg"."""
    return difference if before is None or momentum == 0 else difference + momentum * before
