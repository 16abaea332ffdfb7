"""Moments of sampling runs where all laws are Gaussian: by recursion, without a sample."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from legato._scalars import as_number, shown
from legato.diffusion.guidance import Guidance
from legato.diffusion.plans import Correctors, HigherOrder, Row, as_sampler, make_plan
from legato.diffusion.schedules import Schedule, check_range
from legato.diffusion.steps import Sampler
from legato.errors import ArgumentError, NumericalError

__all__ = ["gaussian_moments"]


def gaussian_moments(
    schedule: Schedule,
    *,
    sampler: Sampler | HigherOrder = "ddim",
    cond: tuple[float, float],
    uncond: tuple[float, float] | None = None,
    start: tuple[float, float] | None = None,
    guidance_scale: float = 1.0,
    eta: float | None = None,
    corrector_steps: int = 0,
    corrector_scale: float | None = None,
    corrector_size: ArrayLike | None = None,
    stop: int | None = None,
) -> tuple[float, float]:
    """Exact mean and variance that a sampler gives in one dimension, where all models are Gaussian.

    Parameters
    ----------
    schedule : Schedule
    sampler, guidance_scale, eta, corrector_steps, corrector_scale, corrector_size, stop
        As in `sample`.
    cond, uncond : (mean, variance)
        Laws of x0; without `uncond` there is no guidance.
    start : (mean, variance), optional
        Of the first state; by default (0, sigma_0^2).

    Returns
    -------
    mean, variance : float
        After the last step. They come from the same table of steps that `sample` runs.

    See Also
    --------
    sample : Run a sampler through a schedule.

    Notes
    -----
    Every step is linear in x: V' = (A + B kappa)^2 V + C^2, and the mean likewise (derivation in docs/diffusion.md);
    for solvers that look back, in x and what they remember of the two evaluations before.

    Examples
    --------
    >>> from legato import diffusion as D
    >>> mean, variance = D.gaussian_moments(D.Schedule.ve(4000, 100.0, sigma_min=0.01), cond=(0, 1), uncond=(0, 2),
    ...                                     guidance_scale=3.0)
    >>> round(variance, 2)                                  # 2^(1 - 3): CFG with DDIM
    0.25
    """
    guidance_scale = as_number("guidance_scale", guidance_scale)
    end = check_range(schedule, 0, stop)
    correctors = Correctors(corrector_steps, corrector_scale, corrector_size)
    sampler = as_sampler(sampler)
    if uncond is None and (guidance_scale != 1 or corrector_scale not in (None, 1.0)):
        raise ArgumentError("uncond: expected (mean, variance), because there is guidance")
    rest = (0.0, schedule.sigma[0] ** 2)
    pairs = []
    laws = (("cond", cond), ("uncond", cond if uncond is None else uncond), ("start", rest if start is None else start))
    for name, law in laws:
        try:
            m, v = (as_number(name, number) for number in law)
        except Exception:
            raise ArgumentError(f"{name}: expected (mean, variance), finite numbers, got {shown(law)}") from None
        if not (np.isfinite([m, v]).all() and v >= 0):
            raise ArgumentError(f"{name}: expected a finite mean and a variance that is not negative, got {law}")
        pairs.append((m, v))
    (mc, vc), (mu, vu), (mean, variance) = pairs
    rows = make_plan(
        schedule, sampler, eta, Guidance(guidance_scale), correctors, "exact", has_score=vc > 0 and vu > 0, first=0,
        after=end,
    )  # fmt: skip
    # of x, x before the last row, and the outputs of the last row and the one before it
    center, spread = np.array([mean, 0.0, 0.0, 0.0]), np.zeros((4, 4))
    spread[0, 0] = variance
    for row in (Row(*numbers) for numbers in rows.tolist()):
        totals = [row.alpha**2 * v + row.sigma**2 for v in (vc, vu)]
        if row.score:  # out = -(x - alpha m) / total
            slopes = [-1.0 / total for total in totals]
            offsets = [row.alpha * m / total for m, total in zip((mc, mu), totals, strict=True)]
        else:  # out = m + alpha v / total (x - alpha m)
            slopes = [row.alpha * v / total for v, total in zip((vc, vu), totals, strict=True)]
            offsets = [m * row.sigma**2 / total for m, total in zip((mc, mu), totals, strict=True)]
        g = row.guidance
        slope, offset = (g * pair[0] + (1 - g) * pair[1] for pair in (slopes, offsets))
        step = np.array(
            [
                [row.on_x + row.on_out * slope, row.on_last_x, row.on_last, row.on_earlier],
                [1.0, 0.0, 0.0, 0.0],
                [slope, 0.0, 0.0, 0.0],
                [0.0, 0.0, 1.0, 0.0],
            ]
        )
        center = step @ center + offset * np.array([row.on_out, 0.0, 1.0, 0.0])
        spread = step @ spread @ step.T
        spread[0, 0] += row.noise**2
    mean, variance = center[0], spread[0, 0]
    if not np.isfinite([mean, variance]).all():
        raise NumericalError("guidance_scale: the moments are not finite; the steps are unstable at this scale")
    return float(mean), float(variance)
