"""Step-by-step diffusion (arXiv 2406.08929): what the tutorial proves of DDPM, DDIM and flows, with exact models."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from legato import diffusion as D
from legato.claims.running import Claim

__all__ = ["GROUPS"]


def _mixture() -> D.GaussianMixture:
    return D.GaussianMixture([0.3, 0.7], [[-2.0, 0.5], [1.5, -1.0]], [0.2, 0.4])


def _orders(quick: bool) -> Iterator[Claim]:
    """DDPM and DDIM become exact as steps become small (Theorems 1 and 2)."""
    law = (0.7, 0.4)
    counts = (100, 200) if quick else (400, 800)
    for sampler, name in (("ddpm", "DDPM"), ("ddim", "DDIM")):
        errors = []
        for steps in counts:
            schedule = D.Schedule.ve(steps, 20.0, sigma_min=0.002)
            start = (law[0], law[1] + schedule.sigma[0] ** 2)  # the law itself at the first level
            found = D.gaussian_moments(schedule, sampler=sampler, cond=law, start=start)  # type: ignore[arg-type]
            errors.append(abs(found[1] - law[1]))
        order = math.log2(errors[0] / errors[1])
        yield Claim(
            f"{name} samples the target as its steps become small",
            "error to 0, first order",
            f"variance off by {errors[-1] / law[1]:.2%} at {counts[1]} steps, order {order:.3f}",
            abs(order - 1) < 0.15 and errors[-1] < 0.05 * law[1],
            errors[-1] / law[1],
        )


def _point_mass(quick: bool) -> Iterator[Claim]:
    """DDIM of a point is exact (Claims 3 and 5)."""
    point = D.GaussianMixture([1.0], [[0.7, -1.2]], [1e-30])
    worst = 0.0
    for steps in (1, 2, 7, 50 if quick else 1000):
        x = D.sample(point, (64, 2), D.Schedule.ve(steps, 10.0), "ddim", seeds=1).astype(float)
        worst = max(worst, float(np.abs(x - (0.7, -1.2)).max()))
    yield Claim(
        "DDIM of a single point gives it with any number of steps", "exact", f"off by {worst:.1e}", worst < 1e-5, worst
    )


def _flow(quick: bool) -> Iterator[Claim]:
    """DDIM is a flow (Lemma 4)."""
    mixture, scale, worst = _mixture(), 5.0, 0.0
    for steps in (10, 50 if quick else 500):
        tau = np.linspace(1.0, 0.0, steps + 1)
        schedule = D.Schedule(np.ones(steps + 1), scale * tau)
        x = D.normal((256, 2), 3) * np.float32(scale)
        by_ddim = D.sample(mixture, (256, 2), schedule, "ddim", x=x.astype(np.float64))
        y = x.astype(np.float64)
        for now, then in itertools.pairwise(tau):  # Euler's steps of dx/dtau = E[x1 - x0 | x]
            y = y + (then - now) * (y - mixture.denoise(y, 1.0, scale * now)) / now
        worst = max(worst, float(np.abs(by_ddim - y).max()))
    yield Claim(
        "DDIM on levels sigma is Euler's method on the linear flow of diffusion's coupling, at times sigma / sigma_max",
        "the same",
        f"off by {worst:.1e}",
        worst < 1e-10,
        worst,
    )


def _posterior(quick: bool) -> Iterator[Claim]:
    """Small reverse steps are nearly Gaussian (Lemma 1)."""
    grid = np.linspace(-12, 12, 4001 if quick else 20_001)
    mixture = D.GaussianMixture([0.3, 0.7], [[-2.0], [1.5]], [0.2, 0.4])
    step = grid[1] - grid[0]
    divergences = []
    for s in (0.2, 0.1):
        z = 0.3
        score = float(mixture.score(np.array([[z]]), 1.0, s)[0, 0])
        log = mixture.log_density(grid[:, None], 1.0, 0.0) - (grid - z) ** 2 / (2 * s * s)
        posterior = np.exp(log - log.max())
        posterior /= posterior.sum() * step
        normal = np.exp(-((grid - z - s * s * score) ** 2) / (2 * s * s)) / (s * math.sqrt(2 * math.pi))
        seen = normal > 1e-200
        ratio = np.log(normal[seen]) - np.log(np.maximum(posterior[seen], 1e-300))
        divergences.append(float((normal[seen] * ratio).sum() * step))
    order = math.log2(divergences[0] / divergences[1])
    yield Claim(
        "what came before a small step of noise s is nearly N(mean, s^2): the divergence falls with its fourth power",
        "order 4",
        f"order {order:.2f}",
        order > 3.5,
    )


def _regression(quick: bool) -> Iterator[Claim]:
    """Regression: the mean of the step before, from the denoiser (Claim 2)."""
    mixture = D.GaussianMixture([0.3, 0.7], [[-2.0], [1.5]], [0.2, 0.4])
    grid = np.linspace(-12, 12, 4001 if quick else 20_001)
    worst = 0.0
    for z in (-1.0, 0.3, 2.0):
        for t, dt in ((1.0, 0.5), (0.5, 0.1)):
            # law of x_{t - dt} given x_t = z, integrated: prior at t - dt times the noise of the step
            log = mixture.log_density(grid[:, None], 1.0, math.sqrt(t - dt)) - (grid - z) ** 2 / (2 * dt)
            weight = np.exp(log - log.max())
            integrated = float((weight * grid).sum() / weight.sum())
            clean = float(mixture.denoise(np.array([[z]]), 1.0, math.sqrt(t))[0, 0])
            worst = max(worst, abs(integrated - (dt / t * clean + (1 - dt / t) * z)))
    yield Claim(
        "E[x_{t-dt} | x_t] is (dt / t) E[x_0 | x_t] + (1 - dt / t) x_t for any dt",
        "exact",
        f"off by {worst:.1e}",
        worst < 1e-6,
        worst,
    )


GROUPS = (_orders, _point_mass, _flow, _posterior, _regression)
