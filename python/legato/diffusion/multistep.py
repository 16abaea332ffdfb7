"""Weights of multistep solvers: what one step takes of the state, of predictions now and before, and of noise.

With lambda = log(alpha / sigma), the reverse SDE with noise tau (0: the ODE, 1: the one of DDPM) is solved exactly but
for the prediction, which an exponential integrator interpolates by a polynomial in lambda. DPM-Solver (Lu et al. 2022),
DEIS in log rho (Zhang and Chen 2023), UniPC (Zhao et al. 2023) and SA-Solver (Xue et al. 2023) are such integrators.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np

from legato._arrays import Float64

__all__ = ["Level", "Slope", "Weights", "adams_weights", "er_sde_weights", "log_snr", "replaced"]

Level: TypeAlias = tuple[float, float]  # alpha, sigma
Weights: TypeAlias = tuple[float, tuple[float, ...], float]  # of x, of the predictions, of the noise
Slope: TypeAlias = Literal["exact", "midpoint", "linear"]

_ER_POINTS = 200  # of the integrals of ER-SDE, as in its authors' code


def log_snr(level: Level) -> float:
    """Return log(alpha / sigma), infinite where one of them is 0."""
    alpha, sigma = level
    return -math.inf if alpha == 0 else math.inf if sigma == 0 else math.log(alpha / sigma)


@functools.lru_cache(maxsize=4096)  # runs of as many steps have the same levels
def adams_weights(
    kind: Literal["x0", "epsilon"],
    start: Level,
    end: Level,
    nodes: tuple[Level, ...],
    *,
    tau: float = 0.0,
    slope: Slope = "exact",
) -> Weights:
    """Return the weights of a step from level `start` to level `end`.

    Parameters
    ----------
    kind : {"x0", "epsilon"}
        Which prediction is interpolated.
    nodes : tuple of (alpha, sigma)
        Where the predictions are: `start`, levels before it, and `end` itself for a corrector. Those at an infinite
        lambda, or all but `start` where `end` is at one, get weight 0: the limit. So does the second of two that are
        the same level.
    tau : float
        Noise of the SDE.
    slope : {"exact", "midpoint", "linear"}
        With two nodes: what multiplies the slope of the prediction. "exact" is the integral; "midpoint" is h / 2 times
        the weight of a constant (DPM-Solver, UniPC), "linear" the limit of that for small steps (SA-Solver's code).

    Returns
    -------
    on_x, (one weight a node), on_noise
    """
    (a, s), (a1, s1) = start, end
    rate = 1.0 + tau * tau
    shrink = a * s1 / (a1 * s)  # e^-h
    if kind == "x0":
        on_x = s1 / s * shrink ** (tau * tau)
        scale, total, turn = rate * a1, a1 * (1.0 - shrink**rate), -rate
        on_noise = s1 * math.sqrt(max(1.0 - shrink ** (2.0 * tau * tau), 0.0))
    else:
        grown = a1 * s / a  # sigma' e^h
        on_x = a1 / a
        scale, total, turn = -rate * s1, rate * (s1 - grown), 1.0
        on_noise = tau * math.sqrt(max(grown * grown - s1 * s1, 0.0))
    origin, h = log_snr(start), math.inf if shrink == 0 else -math.log(shrink)
    places = [log_snr(node) - origin if node != start else 0.0 for node in nodes]
    used = [i for i, at in enumerate(places) if places.index(at) == i and (at == 0 or math.isfinite(h + at))]
    weights = np.zeros(len(nodes))
    if len(used) == 1 or h == 0:
        weights[used[0]] = total
    elif len(used) == 2 and slope != "exact":
        here, other = sorted(used, key=lambda i: places[i] != 0)
        weights[other] = (0.5 * total * h if slope == "midpoint" else 0.5 * scale * h * h) / places[other]
        weights[here] = total - weights[other]
    else:
        u = np.array([places[i] for i in used]) / h
        moments = [scale * h * math.factorial(n) * _phi(n + 1, turn * h) for n in range(len(used))]
        weights[used] = np.linalg.solve(np.vander(u, increasing=True).T, moments)
    return on_x, tuple(weights.tolist()), on_noise


def _phi(k: int, z: float) -> float:
    """Return phi_k(z), the integral over v from 0 to 1 of e^((1 - v) z) v^(k - 1) / (k - 1)!."""
    if abs(z) < 2.0:  # the recursion loses digits here
        return math.fsum(z**j / math.factorial(j + k) for j in range(32))
    value = math.exp(z)
    for j in range(k):
        value = (value - 1.0 / math.factorial(j)) / z
    return value


def replaced(predictor: Weights, before: Weights | None, corrector: Weights | None) -> Weights:
    """Return the step after a corrector, in terms of the state that its predictor gave.

    The corrector takes the step before once more, with the same noise and the same weight of the state, so it adds the
    difference of the two steps' weights; then `predictor` follows. Its nodes are (now, one before, ...), those of
    `corrector` (now, one before, ...), those of the predictor `before` (one before, two before, ...).
    """
    on_x, ahead, on_noise = predictor
    if before is None or corrector is None:
        return predictor
    depth = max(len(ahead), len(corrector[1]), len(before[1]) + 1)
    total: Float64 = np.zeros(depth)
    total[: len(ahead)] += ahead
    total[: len(corrector[1])] += np.multiply(on_x, corrector[1])
    total[1 : len(before[1]) + 1] -= np.multiply(on_x, before[1])
    return on_x, tuple(total.tolist()), on_noise


def er_sde_weights(levels: Sequence[Level]) -> Weights:
    """Return the weights of a step of the extended reverse-time SDE solver (ER-SDE, Cui et al. 2023), on x0.

    Parameters
    ----------
    levels : sequence of (alpha, sigma)
        Where the step leads, where it starts, and up to two levels before; their number gives the order.

    Returns
    -------
    on_x, (now, one before, ...), on_noise

    Notes
    -----
    The noise scale is the authors' phi(l) = l (e^(l^0.3) + 10) of l = sigma / alpha, their integrals are sums of 200
    points, as in their code.
    """
    (a1, s1), (a, s) = levels[:2]
    if s1 == 0:
        return 0.0, (a1,), 0.0
    if a == 0:
        return 0.0, (a1,), s1
    l1, now = s1 / a1, s / a
    r = math.exp(_log_noise_scale(l1) - _log_noise_scale(now))
    on_x, weights = a1 / a * r, [a1 * (1.0 - r)]
    on_noise = a1 * math.sqrt(max(l1 * l1 - (now * r) ** 2, 0.0))
    before = [level[1] / level[0] for level in levels[2:] if level[0] > 0]
    if not before:
        return on_x, tuple(weights), on_noise
    dt = l1 - now
    points = l1 - dt / _ER_POINTS * np.arange(_ER_POINTS)
    shares = np.exp(_log_noise_scale(l1) - np.log(points) - np.logaddexp(points**0.3, math.log(10.0)))
    shares *= -dt / _ER_POINTS
    slope = a1 * (dt + float(shares.sum()))  # of d x0 / d l
    weights.append(0.0)
    first = now - before[0]
    if len(before) > 1:  # d x0 / d l between now and one before, and between that and two before: their difference
        apart = before[0] - before[1]
        second = (dt * dt + 2.0 * float(((points - now) * shares).sum())) * a1 / (now - before[1])
        slope += second
        weights = [weights[0], -second / apart, second / apart]
    weights[0] += slope / first
    weights[1] -= slope / first
    return on_x, tuple(weights), on_noise


def _log_noise_scale(level: float) -> float:
    return math.log(level) + float(np.logaddexp(level**0.3, math.log(10.0)))
