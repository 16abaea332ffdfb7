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
_AT_ONCE = 1 << 20  # numbers of levels x components x dimensions


def guided_precisions(
    cond: GaussianMixture, uncond: GaussianMixture, alpha: Float64, sigma: Float64, scale: Float64
) -> tuple[Float64, Float64]:
    """Return the smallest and the largest precision of scale * (score of cond) + (1 - scale) * (score of uncond).

    One of each for every level, shape (L,). Exact where each model has one component. Otherwise the largest is that of
    the narrowest component where the two have the same components, or the most that one component of each can make of
    it; the smallest is that of the far tails along the axes, which must not be negative, or the guided law cannot be
    normalized.
    """
    models = [(gm, np.flatnonzero(gm.weights > 0)) for gm in (cond, uncond)]
    weights = scale[:, None], 1.0 - scale[:, None]
    variances = [  # (L, K, d)
        alpha[:, None, None] ** 2 * gm.principal[0][kept] + sigma[:, None, None] ** 2 for gm, kept in models
    ]
    if all(len(kept) == 1 for _, kept in models):
        both = _of_one_component(models, [v[:, 0] for v in variances], weights)
        return both.min(1), both.max(1)
    tails = [_along_axes(gm, kept, v).min(1) for (gm, kept), v in zip(models, variances, strict=True)]
    low = (weights[0] * tails[0] + weights[1] * tails[1]).min(1)
    if (
        np.array_equal(models[0][1], models[1][1])
        and np.array_equal(cond.means, uncond.means)
        and np.array_equal(cond.covariances, uncond.covariances)
    ):
        return low, 1.0 / variances[0].min((1, 2))
    high: Float64 = np.zeros((len(alpha), 1))
    for (gm, _), v, weight in zip(models, variances, weights, strict=True):
        by_axes = v if gm.principal[1] is None else v.reshape(len(v), -1, 1)  # where the axes are known
        high = high + weight / np.where(weight > 0, by_axes.min(1), by_axes.max(1))
    return low, high.max(1)


def _of_one_component(
    models: list[tuple[GaussianMixture, np.ndarray]], variances: list[Float64], weights: tuple[Float64, Float64]
) -> Float64:
    """Return the eigenvalues of the guided precision, (L, d)."""
    axes = [None if gm.principal[1] is None else gm.principal[1][kept[0]] for gm, kept in models]
    round_ones = [bool((gm.principal[0][kept] == gm.principal[0][kept][0, 0]).all()) for gm, kept in models]
    if any(round_ones) or (axes[0] is None and axes[1] is None) or np.array_equal(axes[0], axes[1]):  # type: ignore[arg-type]
        return np.asarray(weights[0] / variances[0] + weights[1] / variances[1])
    dimension = variances[0].shape[1]
    total = np.zeros((len(variances[0]), dimension, dimension))
    for rotation, v, weight in zip(axes, variances, weights, strict=True):
        turned = np.eye(dimension) if rotation is None else rotation
        total += (turned * (weight / v)[:, None, :]) @ turned.T
    return np.asarray(np.linalg.eigvalsh(total), np.float64)


def _along_axes(gm: GaussianMixture, kept: np.ndarray, variances: Float64) -> Float64:
    """Return e' P e of each component for every axis e, (L, components, d)."""
    rotations = gm.principal[1]
    return 1.0 / variances if rotations is None else np.einsum("kij,lkj->lki", rotations[kept] ** 2, 1.0 / variances)


def check_langevin(name: str, scale_name: str, rows: Float64, cond: GaussianMixture, uncond: GaussianMixture) -> None:
    """Refuse Langevin rows (legato/diffusion.hpp, Row) whose step, called `name`, is not stable for the mixtures."""
    single = all(int((gm.weights > 0).sum()) == 1 for gm in (cond, uncond))
    whose = "the guided Gaussian" if single and cond is not uncond else "the narrowest component"
    levels = np.stack([column(rows, name) for name in ("alpha", "sigma", "guidance", "noise")], 1)
    levels[:, 3] **= 2
    first = np.concatenate([[True], (levels[1:] != levels[:-1]).any(1)])  # correctors of one level follow each other
    levels, steps = levels[first], column(rows, "step")[first]
    at_once = max(1, _AT_ONCE // max(gm.means.size for gm in (cond, uncond)))
    for begin in range(0, len(levels), at_once):
        alpha, sigma, scale, size = levels[begin : begin + at_once].T
        low, high = guided_precisions(cond, uncond, alpha, sigma, scale)
        # a few correctors at each level do not reach a tail's end
        flat = (low <= 0) & (single or name == "step_size")
        for i in np.flatnonzero(flat | (size * high >= _STABLE * (1 - 1e-12))):  # the size comes as a square root
            at = f" (step {int(steps[begin + i])}, alpha {alpha[i]:g}, sigma {sigma[i]:g})"
            if flat[i]:
                raise ArgumentError(
                    f"{scale_name}: {scale[i]:g} leaves a guided law of precision {low[i]:g}{at}; {name} * precision "
                    "must lie between 0 and 4"
                )
            raise ArgumentError(
                f"{name}: {size[i]:g} is unstable{at}; {name} * precision must lie between 0 and 4, so {name} below "
                f"{_STABLE / high[i]:g} for {whose}"
            )
