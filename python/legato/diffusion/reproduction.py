"""Claims of "Classifier-Free Guidance is a Predictor-Corrector" (arXiv 2408.09000), run and held against their numbers.

Each function returns a `Table`; ``legato diffusion reproduce`` prints, stores and draws them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from legato._scalars import as_count
from legato.diffusion.models import GaussianMixture, guided
from legato.diffusion.moments import gaussian_moments
from legato.diffusion.plans import HigherOrder
from legato.diffusion.sampling import sample
from legato.diffusion.schedules import Schedule
from legato.diffusion.steps import Sampler

__all__ = ["Table", "counterexample1", "counterexample2", "equivalence"]

COND, UNCOND = (0.0, 1.0), (0.0, 2.0)  # N(0, 1) given the class, N(0, 2) without


@dataclass(frozen=True)
class Table:
    """Rows of numbers under `columns`; `claim` says what they show.

    None stands where a column says nothing on a row. `curves` are for the plot: abscissae and ordinates by name.
    """

    name: str
    claim: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    curves: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)


def closed_forms(scale: float) -> tuple[float, float, float]:
    """Return the variances of the powered law, of CFG-DDPM and of CFG-DDIM for small steps (Theorems 1, 2)."""
    return 2 / (scale + 1), (2 - 2 ** (2 - 2 * scale)) / (2 * scale - 1), 2 ** (1 - scale)


def counterexample1(
    scales: Sequence[float] = tuple(range(1, 11)), *, chains: int = 1_000_000, steps: int = 1000, threads: int = 1
) -> Table:
    """Show that neither CFG sampler gives the powered law: variances by formula, by exact recursion and by simulation.

    Parameters
    ----------
    scales : sequence of float
        Guidance scales gamma.
    chains, steps : int
        Of the simulation (DDPM: Euler's reverse SDE; DDIM: Heun's method on its ODE).
    threads : int
    """
    _check_sizes(chains=chains, steps=steps)
    schedule = Schedule.vp_linear(steps)
    pair = guided(*(GaussianMixture([1.0], [[m]], [v]) for m, v in (COND, UNCOND)))
    rows: list[tuple[Any, ...]] = []
    for scale in scales:
        powered, ddpm, ddim = closed_forms(scale)
        routes: tuple[tuple[str, Sampler | HigherOrder, Sampler, float], ...] = (
            ("CFG-DDPM", "reverse_sde", "reverse_sde", ddpm),
            ("CFG-DDIM", "heun", "ddim", ddim),
        )
        for name, sampler, first_order, closed in routes:
            exact = gaussian_moments(schedule, sampler=first_order, cond=COND, uncond=UNCOND, guidance_scale=scale)[1]
            x = sample(pair, (chains, 1), schedule, sampler, guidance_scale=scale, seeds=1, threads=threads)
            simulated = float(x.astype(np.float64).var())
            rows.append((scale, name, powered, closed, exact, simulated, simulated / closed - 1))
    return Table(
        "counterexample1",
        "variance of guided samples; neither sampler gives the powered law 2 / (gamma + 1)",
        ("gamma", "sampler", "powered", "closed form", f"first order, {steps} steps", "simulated", "error"),
        rows,
    )


def counterexample2(scale: float = 3.0, *, chains: int = 40_000, steps: int = 300, threads: int = 1) -> Table:
    """Guide a mixture: DDIM's modes lose their width, DDPM's and PCG's are nearly alike, and none is the powered law.

    Four modes at -3, -1, 1, 3 of variance 0.15, equal without the class and (0, 0.2, 0.8, 0) with it. The powered law
    is integrated numerically; the errors are taken against it, and twenty correctors of scale gamma a step do reach
    it. (The paper's own parameters are not stated; these are ours.)

    Parameters
    ----------
    scale : float
        gamma.
    chains, steps : int
        Of the simulation.
    threads : int
    """
    _check_sizes(chains=chains, steps=steps)
    means = np.array([[-3.0], [-1.0], [1.0], [3.0]])
    uncond = GaussianMixture(np.ones(4), means, np.full(4, 0.15))
    cond = uncond.reweighted([0.0, 0.2, 0.8, 0.0])
    grid = np.linspace(-8, 8, 20001)
    log = scale * cond.log_density(grid[:, None], 1.0, 0.0) + (1 - scale) * uncond.log_density(grid[:, None], 1.0, 0.0)
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    mean = float((weight * grid).sum())
    variance = float((weight * (grid - mean) ** 2).sum())
    rows: list[tuple[Any, ...]] = [("powered law", mean, variance, None, None, None, None)]
    shown = slice(7500, 15001, 50)  # -2 to 4
    curves = {"powered law": (grid[shown].tolist(), (weight[shown] / (grid[1] - grid[0])).tolist())}
    schedule, edges = Schedule.vp_linear(steps), np.linspace(-2, 4, 121)
    ways: tuple[tuple[str, Sampler, dict[str, Any]], ...] = (
        ("CFG-DDIM", "ddim", {}),
        ("CFG-DDPM", "ddpm", {}),
        ("PCG", "ddim", {"corrector_steps": 1}),
        ("20 correctors of gamma", "ddim", {"corrector_steps": 20, "corrector_scale": scale}),
    )
    for name, sampler, options in ways:
        drawn = sample(
            guided(cond, uncond), (chains, 1), schedule, sampler, guidance_scale=scale, seeds=2, threads=threads,
            **options,
        )  # fmt: skip
        x = drawn.astype(np.float64)
        found = float(x.mean()), float(x.var())
        rows.append((name, *found, mean, variance, found[0] / mean - 1, found[1] / variance - 1))
        counts = np.histogram(x, edges)[0] / (chains * (edges[1] - edges[0]))
        curves[name] = (((edges[1:] + edges[:-1]) / 2).tolist(), counts.tolist())
    return Table(
        "counterexample2",
        f"mean and variance at gamma {scale:g}; neither CFG nor one corrector gives the powered law",
        ("law", "mean", "variance", "powered mean", "powered variance", "error of mean", "error of variance"),
        rows,
        curves,
    )


def equivalence(scales: Sequence[float] = (1.5, 3.0, 7.0), *, finest: int = 3200) -> Table:
    """Show that CFG-DDPM(gamma) and PCG(2 gamma - 1, one corrector) become one, at first order (Theorem 3).

    Parameters
    ----------
    scales : sequence of float
        Guidance scales gamma.
    finest : int
        Step counts are 50, 100, ... up to it. The closed form is that of CFG-DDPM for small steps.
    """
    _check_sizes(finest=finest)
    rows: list[tuple[Any, ...]] = []
    for scale in scales:
        before = None
        steps = 50
        while steps <= finest:
            schedule = Schedule.vp_linear(steps)
            laws: dict[str, Any] = {"cond": (1.0, 1.0), "uncond": UNCOND, "guidance_scale": scale}
            ddpm = gaussian_moments(schedule, sampler="reverse_sde", **laws)[1]
            pcg = gaussian_moments(schedule, sampler="pf_ode", corrector_steps=1, **laws)[1]
            gap = abs(ddpm - pcg)
            order: float | None = float(np.log2(before / gap)) if before is not None else None
            closed = closed_forms(scale)[1]
            rows.append((scale, steps, ddpm, pcg, gap, order, closed, ddpm / closed - 1, pcg / closed - 1))
            before, steps = gap, 2 * steps
    return Table(
        "equivalence",
        "variance of CFG-DDPM(gamma) and of PCG(2 gamma - 1); the order of their difference in the step count is 1",
        (
            "gamma", "steps", "CFG-DDPM", "PCG", "difference", "order", "closed form", "error of CFG-DDPM",
            "error of PCG",
        ),
        rows,
    )  # fmt: skip


def _check_sizes(**sizes: int) -> None:
    for name, value in sizes.items():
        least = 50 if name == "finest" else 2 if name == "chains" else 1
        as_count(name, value, least)
