"""The table of a run: one row for each evaluation of the model and the update it serves."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike

from legato._arrays import Float64
from legato._scalars import as_choice, as_count, as_number
from legato.diffusion.guidance import Guidance
from legato.diffusion.multistep import Level, Weights, adams_weights, er_sde_weights, replaced
from legato.diffusion.schedules import Schedule
from legato.diffusion.steps import SAMPLERS, Prediction, Sampler, rewritten, sizes_of_steps, step_coefficients
from legato.errors import ArgumentError

__all__ = ["HIGHER_ORDER_SAMPLERS", "Correctors", "Form", "HigherOrder", "Row", "as_sampler", "column", "make_plan"]

HigherOrder: TypeAlias = Literal["heun", "dpmpp_2m", "dpmpp_2m_sde", "unipc", "deis", "sa_solver", "er_sde"]
HIGHER_ORDER_SAMPLERS: tuple[HigherOrder, ...] = get_args(HigherOrder)
Form: TypeAlias = Prediction | Literal["exact"]  # what the rows take for the model's output
_LONGEST_KEPT = 2000  # steps of a plan
_WITH_ETA = {"dpmpp_2m_sde": 1.0, "sa_solver": 1.0}


class Row(NamedTuple):
    """Numbers of diffusion.hpp's Row, in its order; `score` says that the output is the score, whatever the form."""

    alpha: float
    sigma: float
    on_x: float
    on_out: float
    guidance: float = 1.0
    on_uncond: float = 0.0
    on_last: float = 0.0  # on the output of the row before
    on_earlier: float = 0.0  # on that of the row before it
    on_last_x: float = 0.0
    noise: float = 0.0
    step: float = 0.0
    substep: float = 0.0
    score: float = 0.0


def column(rows: Float64, name: str) -> Float64:
    """Return one number of every row."""
    return rows[:, Row._fields.index(name)]


@dataclass(frozen=True)
class Correctors:
    """What PCG does after each step: how many Langevin steps, of which scale and size."""

    steps: int = 0
    scale: float | None = None
    size: ArrayLike | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        as_count("corrector_steps", self.steps, 0, 10**6)
        if self.scale is not None:
            as_number("corrector_scale", self.scale)


def as_sampler(value: Any) -> Sampler | HigherOrder:
    """Return the name of a sampler of whole runs."""
    sampler: Sampler | HigherOrder = as_choice("sampler", value, (*SAMPLERS, *HIGHER_ORDER_SAMPLERS))
    if sampler == "langevin":
        raise ArgumentError("sampler: for Langevin at one level call langevin()")
    return sampler


def make_plan(
    schedule: Schedule,
    sampler: Sampler | HigherOrder,
    eta: float | None,
    rule: Guidance,
    correctors: Correctors,
    form: Form,
    *,
    has_score: bool,
    first: int,
    after: int,
) -> Float64:
    """Return the rows of steps [first, after), read-only; `form` says what the model's output is.

    Where `has_score`, correctors run at sigma 0 as well. Plans of the last runs are kept: one chain takes less time
    than its plan.
    """
    if correctors.steps and not rule.linear:
        raise ArgumentError(f"guidance_scale: PCG guides by rule 'cfg' without rescale, got {rule}")
    if eta is not None:
        eta = as_number("eta", eta, least=0, most=1)
    short = after - first <= _LONGEST_KEPT and (correctors.size is None or type(correctors.size) in (int, float))
    rows = (_rows_kept if short else _rows)(schedule, sampler, eta, rule, correctors, form, has_score, first, after)
    rows.flags.writeable = False
    return rows


def _rows(
    schedule: Schedule, sampler: Sampler | HigherOrder, eta: float | None, rule: Guidance, correctors: Correctors,
    form: Form, has_score: bool, first: int, after: int,
) -> Float64:  # fmt: skip
    if sampler in HIGHER_ORDER_SAMPLERS:
        if eta not in (None, 0) and sampler not in _WITH_ETA:
            raise ArgumentError(f"eta: sampler {sampler!r} has none")
        if correctors.steps or rule.rule == "cfg++":
            raise ArgumentError(f"sampler: {sampler!r} takes neither correctors nor CFG++")
        made = _heun if sampler == "heun" else _multistep
        return _array(made(schedule, sampler, eta, rule, first, after))
    if rule.rule == "cfg++":
        if sampler not in ("ddim", "euler") or eta not in (None, 0) or correctors.steps:
            raise ArgumentError("guidance_scale: CFG++ goes with sampler 'ddim', eta 0, and no corrector")
        return _array(_renoised_without_class(schedule, form, rule, first, after))
    return _first_order(schedule, sampler, eta, rule, correctors, form, has_score, first, after)


_rows_kept = functools.lru_cache(maxsize=64)(_rows)


def _array(rows: list[Row]) -> Float64:
    return np.array(rows, np.float64).reshape(-1, len(Row._fields))


def corrector_row(alpha: float, sigma: float, size: float, form: Form, **rest: float) -> Row:
    """Return one Langevin step, for exact models by their score."""
    on_x, on_out, noise = _corrector_table(alpha, sigma, size, form).tolist()
    return Row(alpha, sigma, on_x, on_out, noise=noise, score=float(form == "exact"), **rest)


def _corrector_table(alpha: Any, sigma: Any, size: Any, form: Form) -> Float64:
    """Return (A, B, C) of Langevin steps, as `rewritten` does."""
    if form in ("exact", "score"):
        return np.stack(np.broadcast_arrays(1.0, 0.5 * size, np.sqrt(size)), -1)
    kind: Any = form
    return rewritten(alpha, sigma, kind, on_x=1.0, on_eps=-size / (2 * sigma), noise=np.sqrt(size))


def _first_order(
    schedule: Schedule, sampler: Any, eta: float | None, rule: Guidance, correctors: Correctors, form: Form,
    has_score: bool, first: int, after: int,
) -> Float64:  # fmt: skip
    """Return the rows of all steps, each followed by its correctors."""
    a, s = schedule.alpha, schedule.sigma
    kind: Prediction = "x0" if form == "exact" else form
    table = step_coefficients(schedule, sampler, eta=eta, prediction=kind)
    steps = np.arange(first, after)
    rows = np.zeros((len(steps), 1 + correctors.steps, len(Row._fields)))
    of = {name: rows[:, :, i] for i, name in enumerate(Row._fields)}
    of["step"][:] = steps[:, None]
    of["substep"][:] = np.arange(1 + correctors.steps)
    for names, values in (
        (("alpha", "sigma"), (a[steps], s[steps])),
        (("on_x", "on_out", "noise"), table[steps].T),
    ):
        for name, value in zip(names, values, strict=True):
            of[name][:, 0] = value
    of["guidance"][:, 0] = 1.0 if correctors.steps else _scales_at(rule, a[steps], s[steps])
    if correctors.steps == 0:
        return rows[:, 0]
    run = has_score | (s[steps + 1] > 0)  # a corrector at sigma 0 needs a score that exists there
    at, below = steps[run], steps[run] + 1
    scale = 2 * rule.scale - 1 if correctors.scale is None else correctors.scale
    corrected = _corrector_table(a[below], s[below], _corrector_sizes(schedule, sampler, correctors)[at], form)
    for name, value in (
        ("alpha", a[below]),
        ("sigma", s[below]),
        ("on_x", corrected[:, 0]),
        ("on_out", corrected[:, 1]),
        ("noise", corrected[:, 2]),
        ("guidance", _scales_at(rule, a[below], s[below], scale)),
        ("score", float(form == "exact")),
    ):
        of[name][run, 1:] = np.reshape(value, (-1, 1))
    kept = np.ones(rows.shape[:2], bool)
    kept[~run, 1:] = False
    return rows[kept]


def _scales_at(rule: Guidance, alpha: Float64, sigma: Float64, scale: float | None = None) -> Float64:
    """Return a scale, that of the rule by default, for levels inside the rule's interval, and 1 for the others."""
    scale = rule.scale if scale is None else scale
    if rule.interval is None:
        return np.full(len(alpha), scale)
    inside = (rule.interval[0] * alpha <= sigma) & (sigma <= rule.interval[1] * alpha)
    return np.where(inside, scale, 1.0)


def _corrector_sizes(schedule: Schedule, sampler: Any, correctors: Correctors) -> Any:
    if correctors.steps and correctors.size is not None:
        return sizes_of_steps("corrector_size", correctors.size, len(schedule))
    sizes = schedule.euler_increments()[1] if sampler in ("reverse_sde", "pf_ode") else schedule.forward_variance
    return np.where(np.isfinite(sizes), sizes, schedule.forward_variance)


def _renoised_without_class(schedule: Schedule, form: Form, rule: Guidance, first: int, after: int) -> list[Row]:
    """CFG++: x' = a' x0 + s' eps_u, with x0 of the guided prediction."""
    a, s = schedule.alpha.tolist(), schedule.sigma.tolist()
    kind: Prediction = "x0" if form == "exact" else form
    rows = []
    for k in range(first, after):
        of_x0, of_eps = (
            rewritten(a[k], s[k], kind, **{name: level}).tolist()
            for name, level in (("on_x0", a[k + 1]), ("on_eps", s[k + 1]))
        )
        scale = rule.scale_at(a[k], s[k])
        rows.append(Row(a[k], s[k], of_x0[0] + of_eps[0], of_x0[1], scale, on_uncond=of_eps[1], step=k))
    return rows


def _heun(schedule: Schedule, _sampler: Any, _eta: float | None, rule: Guidance, first: int, after: int) -> list[Row]:
    """Heun's method in x / q over sigma / q (EDM, algorithm 1, with q = alpha; q = alpha + sigma where alpha is 0)."""
    a, s = schedule.alpha.tolist(), schedule.sigma.tolist()
    flows = a[0] == 0  # then in the time of the flow, in which nothing is infinite
    rows = []
    for k in range(first, after):
        on_out = a[k + 1] - a[k] * s[k + 1] / s[k]
        rows.append(Row(a[k], s[k], s[k + 1] / s[k], on_out, rule.scale_at(a[k], s[k]), step=k))
        if s[k + 1] == 0:
            continue
        q, q1 = (a[i] + s[i] if flows else a[i] for i in (k, k + 1))
        level, level1 = s[k] / q, s[k + 1] / q1
        step = 0.5 * (level1 - level)
        scale = rule.scale_at(a[k + 1], s[k + 1])
        if not flows:  # dx = eps dl: x' = (x1 + base x) / 2 + ..., because x1 is Euler's x + (l1 - l) eps
            on_x, on_out = 0.5 + step / level1, -a[k + 1] * step / level1
        else:  # dx = (eps - x0) dt, of which eps - x0 = (x - (a + s) x0) / s
            on_x, on_out = 0.5 + step * q1 / s[k + 1], -step * q1 * q1 / s[k + 1]
        rows.append(Row(a[k + 1], s[k + 1], on_x, on_out, scale, on_last_x=0.5 * q1 / q, step=k))
    return rows


def _multistep(
    schedule: Schedule, sampler: Any, eta: float | None, rule: Guidance, first: int, after: int
) -> list[Row]:
    """Solvers that take predictions of up to two steps before; the run begins, and ends at sigma 0, with fewer."""
    levels: list[Level] = list(zip(schedule.alpha.tolist(), schedule.sigma.tolist(), strict=True))
    noise = _WITH_ETA.get(sampler, 0.0) if eta is None else eta
    rows: list[Row] = []
    before: Weights | None = None
    for k in range(first, after):
        past = tuple(levels[max(k - 2, first) : k + 1][::-1])  # now, one before, two before
        step, before = _step_of(sampler, noise, levels[k + 1], past, before)
        on_x, weights, on_noise = step
        alpha, sigma = levels[k]
        score = sampler == "deis" and alpha > 0
        if score:  # weights of eps = -sigma score, each at its own level
            weights = tuple(-weight * level[1] for weight, level in zip(weights, past, strict=True))
        now, last, earlier = (*weights, 0.0, 0.0)[:3]
        row = Row(alpha, sigma, on_x, now, rule.scale_at(alpha, sigma), 0.0, last, earlier, 0.0, on_noise, k)
        rows.append(row._replace(score=float(score)))
    return rows


def _step_of(
    sampler: str, noise: float, end: Level, past: tuple[Level, ...], before: Weights | None
) -> tuple[Weights, Weights | None]:
    """Return the weights of a step, and those of its predictor where the next step corrects it."""
    start = past[0]
    if sampler == "er_sde":
        return er_sde_weights([end, *past]), None
    if sampler == "deis":
        return adams_weights("epsilon" if start[0] > 0 else "x0", start, end, past), None
    if sampler in ("dpmpp_2m", "dpmpp_2m_sde"):
        return adams_weights("x0", start, end, past[:2], tau=noise**0.5, slope="midpoint"), None
    slope: Any = "midpoint" if sampler == "unipc" else "linear"
    ahead = adams_weights("x0", start, end, past[:2], tau=noise, slope=slope)
    corrector = None
    if before is not None and sampler == "unipc":  # of order 2 with the step before it, else half of the difference
        corrector = adams_weights("x0", past[1], start, past, tau=noise, slope="exact" if len(past) > 2 else "midpoint")
    elif before is not None:
        corrector = adams_weights("x0", past[1], start, past[:2], tau=noise, slope=slope)
    return replaced(ahead, before, corrector), ahead
