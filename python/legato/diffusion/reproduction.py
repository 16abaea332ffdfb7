"""Claims of "Classifier-Free Guidance is a Predictor-Corrector" (arXiv 2408.09000), run and held against their numbers.

Each function returns a `Table`; ``legato diffusion reproduce`` prints, stores and draws them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
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

__all__ = [
    "Table",
    "counterexample1",
    "counterexample2",
    "equivalence",
    "many_correctors",
    "mean_shift",
    "one_timestep",
    "two_dimensions",
]

COND, UNCOND = (0.0, 1.0), (0.0, 2.0)  # N(0, 1) given the class, N(0, 2) without
_WAYS: tuple[tuple[str, Sampler, Callable[[float], dict[str, Any]]], ...] = (  # of guiding by a scale
    ("CFG-DDIM", "ddim", lambda _: {}),
    ("CFG-DDPM", "ddpm", lambda _: {}),
    ("PCG", "ddim", lambda _: {"corrector_steps": 1}),
    ("20 correctors of gamma", "ddim", lambda scale: {"corrector_steps": 20, "corrector_scale": scale}),
)


@dataclass(frozen=True)
class Table:
    """Rows of numbers under `columns`; `claim` says what they show.

    None stands where a column says nothing on a row. `curves` are for the plot: abscissae and ordinates by name.
    `verdicts` are sentences, each with whether these very rows bear it out.
    """

    name: str
    claim: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    curves: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    verdicts: dict[str, bool] = field(default_factory=dict)


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
            # the law is Gaussian, so its variance is known to simulated * sqrt(2 / chains)
            spread = simulated * (2 / chains) ** 0.5
            rows.append((scale, name, powered, closed, exact, simulated, spread, simulated / closed - 1))
    return Table(
        "counterexample1",
        "variance of guided samples; neither sampler gives the powered law 2 / (gamma + 1)",
        (
            "gamma", "sampler", "powered", "closed form", f"first order, {steps} steps", "simulated", "standard error",
            "error",
        ),
        rows,
        verdicts={
            "simulated variances are the closed forms, to 1 % and three standard errors": all(
                abs(row[5] - row[3]) < 0.01 * row[3] + 3 * row[6] for row in rows
            ),
            "no sampler has the powered law's variance where gamma is above 1": all(
                row[3] < row[2] for row in rows if row[0] > 1
            ),
        },
    )  # fmt: skip


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
    rows: list[tuple[Any, ...]] = [("powered law", mean, variance, *[None] * 6)]
    shown = slice(7500, 15001, 50)  # -2 to 4
    curves = {"powered law": (grid[shown].tolist(), (weight[shown] / (grid[1] - grid[0])).tolist())}
    schedule, edges = Schedule.vp_linear(steps), np.linspace(-2, 4, 121)
    for name, sampler, options in _WAYS:
        drawn = sample(
            guided(cond, uncond), (chains, 1), schedule, sampler, guidance_scale=scale, seeds=2, threads=threads,
            **options(scale),
        )  # fmt: skip
        x = drawn.astype(np.float64)
        found, errors = (float(x.mean()), float(x.var())), _standard_errors(x)
        rows.append((name, *found, *errors, mean, variance, found[0] / mean - 1, found[1] / variance - 1))
        counts = np.histogram(x, edges)[0] / (chains * (edges[1] - edges[0]))
        curves[name] = (((edges[1:] + edges[:-1]) / 2).tolist(), counts.tolist())
    return Table(
        "counterexample2",
        f"mean and variance at gamma {scale:g}; neither CFG nor one corrector gives the powered law",
        (
            "law", "mean", "variance", "its standard error", "and of variance", "powered mean", "powered variance",
            "error of mean", "error of variance",
        ),
        rows,
        curves,
        verdicts=_verdicts_against_powered({row[0]: (row[2], row[4] or 0.0) for row in rows}),
    )  # fmt: skip


def mean_shift(scales: Sequence[float] = (1, 1.5, 2, 3, 5, 7, 10), *, steps: int = 4000) -> Table:
    """Show how guidance moves the mean where the class does (N(1, 1) with it, N(0, 2) without).

    Parameters
    ----------
    scales : sequence of float
        Guidance scales gamma.
    steps : int
        Of the exact recursions, held against the closed forms for small steps: c (1 - r^gamma) / (1 - r) for CFG-DDPM
        with r = 1 / 2, an integral for CFG-DDIM, gamma / (gamma + (1 - gamma) r) for the powered law.
    """
    _check_sizes(steps=steps)
    schedule = Schedule.ve(steps, 300.0, sigma_min=0.003)
    rows: list[tuple[Any, ...]] = []
    for scale in scales:
        powered, ddpm, ddim = closed_means(scale)
        laws: dict[str, Any] = {"cond": (1.0, 1.0), "uncond": UNCOND, "guidance_scale": scale}
        by_ddpm = gaussian_moments(schedule, sampler="ddpm", **laws)[0]
        by_ddim = gaussian_moments(schedule, sampler="heun", **laws)[0]
        errors = by_ddpm / ddpm - 1, by_ddim / ddim - 1
        rows.append((scale, powered, ddpm, by_ddpm, errors[0], ddim, by_ddim, errors[1]))
    return Table(
        "mean_shift",
        "mean of guided samples; CFG-DDIM goes beyond the limit 2 of the others and comes back to it",
        (
            "gamma", "powered", "CFG-DDPM, closed form", f"{steps} steps", "error", "CFG-DDIM, closed form",
            "by Heun", "error of it",
        ),
        rows,
        verdicts={
            "CFG-DDIM's mean goes beyond 2, the limit of the others": max(row[5] for row in rows) > 2,
            "the others' do not": max(max(row[1:3]) for row in rows) <= 2,
            "recursions are within 1 % of the closed forms": all(max(abs(row[4]), abs(row[7])) < 0.01 for row in rows),
        },
    )  # fmt: skip


def closed_means(scale: float) -> tuple[float, float, float]:
    """Return the means of the powered law, of CFG-DDPM and of CFG-DDIM for small steps, N(1, 1) and N(0, 2)."""
    r = 0.5
    powered = scale / (scale + (1 - scale) * r)
    ddpm = (1 - r**scale) / (1 - r)
    # (g / 2) r^(g / 2) (1 - r)^(-1/2) times the integral of u^(-1 - g / 2) (1 - u)^(-1/2) from r to 1, by u = 1 - v^2
    nodes, weights = np.polynomial.legendre.leggauss(200)
    top = (1 - r) ** 0.5
    v = top * (nodes + 1) / 2
    integral = float((2 * (1 - v * v) ** (-1 - scale / 2) * weights).sum() * top / 2)
    return powered, ddpm, scale / 2 * r ** (scale / 2) / top * integral


def many_correctors(scale: float = 3.0, counts: Sequence[int] = (1, 2, 4, 8, 16, 32, 64), *, steps: int = 250) -> Table:
    """Show that PCG samples the powered law of scale 2 gamma - 1 as its correctors become many: the error is as 1 / K.

    Parameters
    ----------
    scale : float
        gamma.
    counts : sequence of int
        K.
    steps : int
        Of the exact recursion, beside one of four times as many: the error is that of K, not of the steps.
    """
    _check_sizes(steps=steps)
    powered = closed_forms(2 * scale - 1)[0]
    rows: list[tuple[Any, ...]] = []
    for count in counts:
        found = [
            gaussian_moments(
                Schedule.vp_linear(n), cond=COND, uncond=UNCOND, guidance_scale=scale, corrector_steps=count
            )[1]
            for n in (steps, 4 * steps)
        ]
        rows.append((count, *found, powered, *(one / powered - 1 for one in found)))
    return Table(
        "many_correctors",
        f"variance of PCG at gamma {scale:g} for K correctors a step; the powered law is that of 2 gamma - 1",
        ("K", f"{steps} steps", f"{4 * steps} steps", "powered law", "error", "error with more steps"),
        rows,
        verdicts={
            "the error falls with K, like 1 / K in the end": all(
                abs(after[4]) < abs(before[4]) for before, after in itertools.pairwise(rows)
            )
            and abs(rows[-1][4] * rows[-1][0] / (rows[-2][4] * rows[-2][0]) - 1) < 0.1,
        },
    )


def one_timestep(scale: float = 3.0, *, finest: int = 3200) -> Table:
    """Show that PCG may take one timestep for both: a corrector at the level where the predictor starts.

    Parameters
    ----------
    scale : float
        gamma.
    finest : int
        Step counts are 50, 100, ... up to it, of exact recursions; errors are against CFG-DDPM's closed form.
    """
    _check_sizes(finest=finest)
    closed = closed_forms(scale)[1]
    rows: list[tuple[Any, ...]] = []
    before: tuple[float, float] | None = None
    steps = 50
    while steps <= finest:
        schedule = Schedule.vp_linear(steps)
        laws: dict[str, Any] = {"cond": COND, "uncond": UNCOND, "guidance_scale": scale}
        after = gaussian_moments(schedule, sampler="ddim", corrector_steps=1, **laws)[1]
        found = after, _variance_of_one_timestep(schedule, 2 * scale - 1)
        errors = found[0] / closed - 1, found[1] / closed - 1
        orders = (None, None) if before is None else tuple(
            float(np.log2(abs(old / new))) for old, new in zip(before, errors, strict=True)
        )  # fmt: skip
        rows.append((steps, found[0], errors[0], orders[0], found[1], errors[1], orders[1], closed))
        before, steps = errors, 2 * steps
    return Table(
        "one_timestep",
        f"variance at gamma {scale:g} of PCG, whose corrector is at the new level, and with both at the old one",
        ("steps", "PCG", "error", "order", "one timestep", "error of it", "order of it", "CFG-DDPM, closed form"),
        rows,
        verdicts={
            "both go to CFG-DDPM's variance, at first order": all(0.8 < rows[-1][i] < 1.2 for i in (3, 6)),
            "both are within 1 % of it in the end": max(abs(rows[-1][2]), abs(rows[-1][5])) < 0.01,
        },
    )


def _variance_of_one_timestep(schedule: Schedule, scale: float) -> float:
    """Return the variance of Langevin by the guided score, then DDIM by the class, both at the level of their start."""
    a, s = schedule.alpha, schedule.sigma
    variance = float(s[0] ** 2)
    for k, size in enumerate(schedule.forward_variance):
        total, other = (a[k] ** 2 * v + s[k] ** 2 for v in (COND[1], UNCOND[1]))
        slope = 1.0 - size / 2 * (scale / total + (1.0 - scale) / other)
        x0 = a[k] * COND[1] / total
        predicted = a[k + 1] * x0 + s[k + 1] * (1.0 - a[k] * x0) / s[k]
        variance = predicted**2 * (slope**2 * variance + size)
    return float(variance)


def two_dimensions(scale: float = 3.0, *, chains: int = 40_000, steps: int = 300, threads: int = 1) -> Table:
    """Guide a mixture in the plane, whose powered law is integrated on a grid: modes move and narrow.

    Four modes at (+-1, +-1) of variance 0.15, equal without the class and (0.7, 0.3, 0, 0) with it.

    Parameters
    ----------
    scale : float
        gamma.
    chains, steps : int
        Of the simulation.
    threads : int
    """
    _check_sizes(chains=chains, steps=steps)
    corners = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    uncond = GaussianMixture(np.ones(4), corners, np.full(4, 0.15))
    cond = uncond.reweighted([0.7, 0.3, 0.0, 0.0])
    axis = np.linspace(-5, 5, 501)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    log = scale * cond.log_density(grid, 1.0, 0.0) + (1 - scale) * uncond.log_density(grid, 1.0, 0.0)
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    mean = weight @ grid
    variance = weight @ (grid - mean) ** 2
    rows: list[tuple[Any, ...]] = [("powered law", *mean.tolist(), *variance.tolist(), None, None)]
    schedule = Schedule.vp_linear(steps)
    for name, sampler, options in _WAYS:
        drawn = sample(
            guided(cond, uncond), (chains, 2), schedule, sampler, guidance_scale=scale, seeds=2, threads=threads,
            **options(scale),
        )  # fmt: skip
        x = drawn.astype(np.float64)
        errors = [_standard_errors(x[:, i]) for i in range(2)]
        found = *x.mean(0).tolist(), *x.var(0).tolist()
        rows.append((name, *found, max(one[0] for one in errors), max(one[1] for one in errors)))
    return Table(
        "two_dimensions",
        f"means and variances in the plane at gamma {scale:g}",
        ("law", "mean 1", "mean 2", "variance 1", "variance 2", "standard error of means", "and of variances"),
        rows,
        verdicts=_verdicts_against_powered({row[0]: (row[3], row[6] or 0.0) for row in rows}),
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
        verdicts={
            "the difference falls at first order": all(
                0.9 < row[5] < 1.1 for row in rows if row[1] == rows[-1][1] and row[5] is not None
            ),
        },
    )  # fmt: skip


def _verdicts_against_powered(variances: dict[str, tuple[float, float]]) -> dict[str, bool]:
    """Say which laws have the powered law's variance, and which do not; each comes with its standard error."""
    powered = variances["powered law"][0]
    off = {name: abs(found - powered) - 3 * error for name, (found, error) in variances.items()}
    apart = {f"{name} has not the powered law's variance": off[name] > 0 for name in ("CFG-DDIM", "CFG-DDPM", "PCG")}
    return {**apart, "20 correctors of gamma have it, to 5 %": off["20 correctors of gamma"] < 0.05 * powered}


def _standard_errors(x: np.ndarray) -> tuple[float, float]:
    """Return those of the mean and of the variance of independent numbers, by their moments."""
    off = x - x.mean()
    variance = float((off**2).mean())
    fourth = float((off**4).mean())
    return (variance / len(x)) ** 0.5, (max(fourth - variance**2, 0.0) / len(x)) ** 0.5


def _check_sizes(**sizes: int) -> None:
    for name, value in sizes.items():
        least = 50 if name == "finest" else 2 if name == "chains" else 1
        as_count(name, value, least)
