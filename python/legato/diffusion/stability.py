"""Where unadjusted Langevin steps are stable: 0 < size * precision < 4, by the precisions of mixtures at a level.

Along an eigenvector of precision P a step multiplies by 1 - size P / 2, which shrinks only in that range.
"""

from __future__ import annotations

import numpy as np

from legato._arrays import Float64
from legato.diffusion.models import GaussianMixture
from legato.diffusion.plans import column
from legato.errors import ArgumentError

__all__ = ["check_langevin", "guided_precisions"]

_STABLE = 4.0


def guided_precisions(
    cond: GaussianMixture, uncond: GaussianMixture, alpha: float, sigma: float, scale: float
) -> tuple[float, float]:
    """Return the smallest and the largest precision of scale * (score of cond) + (1 - scale) * (score of uncond).

    Exact where each model has one component. Otherwise the largest is that of the narrowest component where the two
    have the same components, or the most that one component of each can make of it; the smallest is that of the far
    tails along the axes, which must not be negative, or the guided law cannot be normalized.
    """
    models = [(gm, np.flatnonzero(gm.weights > 0)) for gm in (cond, uncond)]
    weights = scale, 1.0 - scale
    variances = [alpha**2 * gm.principal[0][kept] + sigma**2 for gm, kept in models]
    if all(len(kept) == 1 for _, kept in models):
        both = _of_one_component(models, variances, weights)
        return float(both.min()), float(both.max())
    tails = [_along_axes(gm, kept, v).min(0) for (gm, kept), v in zip(models, variances, strict=True)]
    low = float(np.min(weights[0] * tails[0] + weights[1] * tails[1]))
    if (
        np.array_equal(models[0][1], models[1][1])
        and np.array_equal(cond.means, uncond.means)
        and np.array_equal(cond.covariances, uncond.covariances)
    ):
        return low, float(1.0 / variances[0].min())
    high: Float64 = np.zeros(1)
    for (gm, _), v, weight in zip(models, variances, weights, strict=True):
        flat = v if gm.principal[1] is None else v.reshape(-1, 1)  # by axes where they are known
        high = high + weight / (flat.min(0) if weight > 0 else flat.max(0))
    return low, float(high.max())


def _of_one_component(
    models: list[tuple[GaussianMixture, np.ndarray]], variances: list[Float64], weights: tuple[float, float]
) -> Float64:
    """Return the eigenvalues of the guided precision."""
    axes = [None if gm.principal[1] is None else gm.principal[1][kept[0]] for gm, kept in models]
    round_ones = [bool((v == v.flat[0]).all()) for v in variances]
    if any(round_ones) or (axes[0] is None and axes[1] is None) or np.array_equal(axes[0], axes[1]):  # type: ignore[arg-type]
        a, b = (v.reshape(-1) if not flat else v.flat[:1] for v, flat in zip(variances, round_ones, strict=True))
        return np.asarray(weights[0] / a + weights[1] / b)
    total = np.zeros((variances[0].size, variances[0].size))
    for rotation, v, weight in zip(axes, variances, weights, strict=True):
        total += np.diag(weight / v[0]) if rotation is None else (rotation * (weight / v[0])) @ rotation.T
    return np.asarray(np.linalg.eigvalsh(total), np.float64)


def _along_axes(gm: GaussianMixture, kept: np.ndarray, variances: Float64) -> Float64:
    """Return e' P e of each component for every axis e, (components, d)."""
    rotations = gm.principal[1]
    return 1.0 / variances if rotations is None else np.einsum("kij,kj->ki", rotations[kept] ** 2, 1.0 / variances)


def check_langevin(name: str, scale_name: str, rows: Float64, cond: GaussianMixture, uncond: GaussianMixture) -> None:
    """Refuse Langevin rows (legato/diffusion.hpp, Row) whose step, called `name`, is not stable for the mixtures."""
    single = all(int((gm.weights > 0).sum()) == 1 for gm in (cond, uncond))
    whose = "the guided Gaussian" if single and cond is not uncond else "the narrowest component"
    levels = np.stack([column(rows, name) for name in ("alpha", "sigma", "guidance", "noise")], 1)
    levels[:, 3] **= 2
    steps = column(rows, "step")
    seen, where = np.unique(levels, axis=0, return_index=True)
    for (alpha, sigma, scale, size), row in zip(seen, where, strict=True):
        low, high = guided_precisions(cond, uncond, alpha, sigma, scale)
        at = f" (step {int(steps[row])}, alpha {alpha:g}, sigma {sigma:g})"
        if low <= 0 and (single or name == "step_size"):  # a few correctors at each level do not reach a tail's end
            raise ArgumentError(
                f"{scale_name}: {scale:g} leaves a guided law of precision {low:g}{at}; {name} * precision must lie "
                f"between 0 and 4"
            )
        if size * high >= _STABLE * (1 - 1e-12):  # the size comes as a square root
            raise ArgumentError(
                f"{name}: {size:g} is unstable{at}; {name} * precision must lie between 0 and 4, so {name} below "
                f"{_STABLE / high:g} for {whose}"
            )
