"""Whole sampling runs: compiled for exact models, around any callable otherwise."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from legato import _core, _dispatch
from legato._arrays import Float64, as_stored, on_device, storage_name
from legato._dispatch import Backend
from legato._scalars import as_choice, as_count, as_flag, as_number, as_shape, as_threads, shown
from legato.diffusion import _reference
from legato.diffusion.guidance import Guidance, accumulated, guidance_of
from legato.diffusion.models import EmpiricalDenoiser, GaussianMixture, Guided, _check_level
from legato.diffusion.noise import Generator, Seeds, Streams, normal
from legato.diffusion.schedules import Schedule
from legato.diffusion.stability import check_langevin
from legato.diffusion.steps import (
    PREDICTIONS,
    SAMPLERS,
    Prediction,
    Sampler,
    _from_epsilon,
    _table,
    apply_step,
    convert_prediction,
    sizes_of_steps,
    step_coefficients,
)
from legato.errors import ArgumentError, NumericalError

__all__ = ["gaussian_moments", "langevin", "sample"]

SecondOrder: TypeAlias = Literal["heun", "dpmpp_2m"]
Form: TypeAlias = Prediction | Literal["exact"]  # what the rows take for the model's output
SECOND_ORDER: tuple[SecondOrder, ...] = get_args(SecondOrder)


def sample(
    model: Any,
    shape: tuple[int, ...],
    schedule: Schedule,
    sampler: Sampler | SecondOrder = "ddim",
    *,
    eta: float | None = None,
    guidance_scale: float | Guidance = 1.0,
    corrector_steps: int = 0,
    corrector_scale: float | None = None,
    corrector_size: ArrayLike | None = None,
    seeds: Seeds = 0,
    x: Any = None,
    start: int = 0,
    stop: int | None = None,
    callback: Callable[[int, NDArray[Any]], Any] | None = None,
    progress: bool = False,
    prediction: Prediction = "epsilon",
    arrays: Callable[[NDArray[Any]], Any] | None = None,
    dtype: DTypeLike = "float32",
    generator: Generator = "threefry",
    first_sample: int = 0,
    threads: int = 1,
    backend: Backend | None = None,
) -> NDArray[Any]:
    """Run a sampler through a schedule.

    Parameters
    ----------
    model : GaussianMixture, EmpiricalDenoiser, Guided, callable, numba.cfunc or scipy.LowLevelCallable
        Exact models (and `guided` pairs of them) run whole in compiled code. A Python callable is called as
        ``model(x, alpha, sigma, k)`` and returns a prediction of the shape of x. A C function has the signature
        ``void (const T* x, T* out, int64 n, int64 d, double alpha, double sigma, int64 k)`` with T double or float, as
        `dtype` says, and is called without the interpreter lock; a LowLevelCallable with user data gets it as one more
        pointer at the end. Its declared types are checked (void pointers are taken at their word); a ctypes function
        without `argtypes` and ``restype = None`` is refused.
    shape : tuple of int
        (samples, ...); (samples, d) for exact models and C functions.
    schedule : Schedule
    sampler : str
        Those of `step_coefficients` but "langevin", and "heun" (Karras et al. 2022, algorithm 1 without churn) and
        "dpmpp_2m" (DPM-Solver++ 2M, Lu et al. 2022; first order at both ends).
    eta : float, optional
        As in `step_coefficients`.
    guidance_scale : float or Guidance
        Needs a `guided` pair where it is not 1.
    corrector_steps : int
        K of PCG (arXiv 2408.09000): the predictor is then the conditional model alone, and K Langevin steps follow at
        the new level, with the guided score (plain guidance, with an interval if need be).
    corrector_scale : float, optional
        Their gamma'; by default 2 guidance_scale - 1.
    corrector_size : array_like, scalar or (N,), optional
        Langevin step sizes. Default: the variance the forward process adds (for the Euler samplers, their g^2 dt). Each
        must be stable for the guided law at its level, see `langevin` (of mixtures with more components the tails are
        not looked at).
    seeds, generator, first_sample
        As in `normal`. Step k draws (step k, substep 0); its j-th corrector (step k, substep j); the start (step -1).
    x : array_like, optional
        State at level `start`; by default sigma_0 times noise. It is not changed. In GPU memory (CuPy, torch) the whole
        run stays there: for Python callables, with plain or CFG++ guidance.
    start, stop : int
        First step, and the step before which to stop: a run cut in two gives the same bits ("dpmpp_2m" begins anew
        with first order).
    callback : callable, optional
        ``callback(k, x)`` after step k; a true result stops the run. x is the state itself.
    progress : bool
        Show a bar (needs rich).
    prediction : {"epsilon", "x0", "v", "flow", "score"}
        What a callable predicts; for an exact model, the prediction that `Guidance`'s rescale and "zero_star" act on.
    arrays : callable, optional
        Turns the NumPy state into what a callable wants, such as ``torch.from_dlpack``; its results come back through
        DLPack.
    dtype : {"float32", "float64"}
        Of the state, where `x` is not given.
    threads : int
        The result does not depend on it.
    backend : {"native", "numpy"}, optional

    Returns
    -------
    ndarray of `shape`

    Raises
    ------
    ArgumentError
        Arguments that make no sense, and corrector steps that are unstable for Gaussian mixtures.
    NumericalError
        The result is not finite.

    Notes
    -----
    The last level often has sigma 0. The corrector runs there for Gaussian mixtures (their score exists) and is skipped
    for every other model.

    Examples
    --------
    >>> from legato import diffusion as D
    >>> gm = D.GaussianMixture([1.0], [[3.0]], [0.04])
    >>> x = D.sample(gm, (1000, 1), D.Schedule.karras(40), seeds=1)
    >>> bool(abs(x.mean() - 3.0) < 0.05)
    True
    """
    end = _check_range(schedule, start, stop)
    sampler = as_choice("sampler", sampler, (*SAMPLERS, *SECOND_ORDER))
    _check_correctors(corrector_steps, corrector_scale)
    if callback is not None and not callable(callback):
        raise ArgumentError(f"callback: expected a callable, got {type(callback).__name__}")
    threads = as_threads(threads)
    rule = guidance_of(guidance_scale)
    runner = _Runner(model, prediction, arrays, threads, backend)
    if runner.alone and (rule.scale != 1 or rule.rule != "cfg" or corrector_scale not in (None, 1.0)):
        raise ArgumentError("guidance_scale: expected 1, or a guided(cond, uncond) pair as model")
    state = _start(x, shape, schedule, start, dtype, seeds, generator, first_sample, threads, backend)
    if on_device(state):
        runner.refuse_on_device(rule, backend)
    streams = Streams(seeds, len(state), first_sample, generator)
    form = runner.form(rule, sampler)
    rows = _plan(
        schedule, sampler, eta, rule, corrector_steps, corrector_scale, corrector_size, form, runner.has_score, start,
        end,
    )  # fmt: skip
    correctors = rows[rows[:, 10] > 0]
    if runner.has_score and len(correctors):
        check_langevin("corrector_size", "corrector_scale", correctors, runner.cond, runner.uncond)
    progress = as_flag("progress", progress)
    stepwise = callback is not None or progress
    looks_back = stepwise and sampler == "dpmpp_2m"  # from piece to piece, which compiled runs do not
    pieces = [rows[rows[:, 9] == k] for k in range(start, end)] if stepwise else [rows]
    with _bar(progress, end - start) as advance:
        for k, piece in enumerate(pieces, start):
            state = runner.run(state, piece, streams, rule, form, compiled=not looks_back)
            advance()
            if callback is not None and callback(k, state):
                break
    return _finite(state, "corrector_size", correctors)


def langevin(
    model: Any,
    x: Any,
    step_size: float,
    n_steps: int,
    seeds: Seeds = 0,
    *,
    alpha: float = 1.0,
    sigma: float = 0.0,
    guidance_scale: float = 1.0,
    first_step: int = 0,
    prediction: Prediction = "score",
    generator: Generator = "threefry",
    first_sample: int = 0,
    threads: int = 1,
    backend: Backend | None = None,
) -> NDArray[Any]:
    """Unadjusted Langevin dynamics at one level: x + step_size / 2 score + sqrt(step_size) z, `n_steps` times.

    Parameters
    ----------
    model
        As in `sample`; a callable predicts the score unless `prediction` says otherwise.
    x : array_like, shape (samples, ...)
        The start; it is not changed.
    step_size : float
        For a Gaussian of precision P the chain is stable for 0 < step_size P < 4, and its stationary variance is
        1 / (P (1 - step_size P / 4)).
    n_steps : int
    seeds, generator, first_sample
        As in `normal`; step k draws (step first_step + k, substep 0).
    alpha, sigma : float
        The level: the law of alpha x0 + sigma eps is sampled.
    guidance_scale : float
        Needs a `guided` pair where it is not 1.
    threads : int
    backend : {"native", "numpy"}, optional

    Returns
    -------
    ndarray like x

    Raises
    ------
    ArgumentError
        Not 0 < step_size P < 4 for the guided precision P of Gaussian mixtures, among others.
    NumericalError
        The result is not finite.

    Notes
    -----
    With single Gaussians, P is g / V_cond + (1 - g) / V_uncond in every eigendirection. With more components, the
    largest P is the narrowest component's where both models have the same ones, else what the narrowest one of cond
    and the widest of uncond make of it (for g > 1); the smallest is that of the far tails. For other models nothing
    is known beforehand, and only a result that is not finite is refused.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import diffusion as D
    >>> gm = D.GaussianMixture([1.0], [[0.0]], [1.0])
    >>> x = D.langevin(gm, np.zeros((4000, 1), np.float32), 0.1, 200)
    >>> bool(abs(x.var() - 1 / (1 - 0.1 / 4)) < 0.08)
    True
    """
    _check_level(alpha, sigma)
    guidance_scale = as_number("guidance_scale", guidance_scale)
    first_step = as_count("first_step", first_step, 0, 2**32 - 2)
    step_size = as_number("step_size", step_size, above=0)
    n_steps = as_count("n_steps", n_steps, 0, 10**8)
    threads = as_threads(threads)
    runner = _Runner(model, prediction, None, threads, backend)
    if runner.alone and guidance_scale != 1:
        raise ArgumentError("guidance_scale: expected 1, or a guided(cond, uncond) pair as model")
    if not runner.has_score and sigma <= 0 and (runner.exact or prediction != "score"):
        raise ArgumentError(f"sigma: expected a positive level for this model, got {sigma}")
    state = _stored_like(x)("x", x)[0].copy()
    if state.ndim == 0:
        raise ArgumentError("x: expected at least one axis, that of the samples")
    if not np.isfinite(state).all():
        raise ArgumentError("x: expected finite numbers")
    if on_device(state):
        runner.refuse_on_device(Guidance(guidance_scale), backend)
    rows = np.zeros((n_steps, 12))
    form = "exact" if runner.exact else prediction
    rows[:, :2], rows[:, 4] = (alpha, sigma), guidance_scale
    rows[:, 9] = first_step + np.arange(n_steps)
    rows[:, [2, 3, 8, 11]] = _corrector_row(alpha, sigma, step_size, form)
    if runner.has_score:
        check_langevin("step_size", "guidance_scale", rows[:1], runner.cond, runner.uncond)
    streams = Streams(seeds, len(state), first_sample, generator)
    return _finite(runner.run(state, rows, streams, Guidance(guidance_scale), form), "step_size", rows)


def gaussian_moments(
    schedule: Schedule,
    *,
    sampler: Sampler = "ddim",
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
    """Exact mean and variance that a first-order sampler gives in one dimension, where all models are Gaussian.

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

    Notes
    -----
    Every step is linear in x: V' = (A + B kappa)^2 V + C^2, and the mean likewise (derivation in docs/diffusion.md).

    Examples
    --------
    >>> from legato import diffusion as D
    >>> mean, variance = D.gaussian_moments(D.Schedule.ve(4000, 100.0, sigma_min=0.01), cond=(0, 1), uncond=(0, 2),
    ...                                     guidance_scale=3.0)
    >>> round(variance, 2)                                  # 2^(1 - 3): CFG with DDIM
    0.25
    """
    guidance_scale = as_number("guidance_scale", guidance_scale)
    end = _check_range(schedule, 0, stop)
    _check_correctors(corrector_steps, corrector_scale)
    if as_choice("sampler", sampler, (*SAMPLERS, *SECOND_ORDER)) in SECOND_ORDER:
        raise ArgumentError(f"sampler: the moments of {sampler!r} are not to be had step by step")
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
    rows = _plan(
        schedule, sampler, eta, Guidance(guidance_scale), corrector_steps, corrector_scale, corrector_size, "exact",
        vc > 0 and vu > 0, 0, end,
    )  # fmt: skip
    for alpha, sigma, a, b, g, _, _, _, noise, _, _, score in rows:
        totals = [alpha * alpha * v + sigma * sigma for v in (vc, vu)]
        if score:  # out = -(x - alpha m) / total
            slopes = [-1.0 / total for total in totals]
            offsets = [alpha * m / total for m, total in zip((mc, mu), totals, strict=True)]
        else:  # out = m + alpha v / total (x - alpha m)
            slopes = [alpha * v / total for v, total in zip((vc, vu), totals, strict=True)]
            offsets = [m * sigma * sigma / total for m, total in zip((mc, mu), totals, strict=True)]
        slope = g * slopes[0] + (1 - g) * slopes[1]
        offset = g * offsets[0] + (1 - g) * offsets[1]
        mean = (a + b * slope) * mean + b * offset
        variance = (a + b * slope) ** 2 * variance + noise * noise
    if not np.isfinite([mean, variance]).all():
        raise NumericalError("guidance_scale: the moments are not finite; the steps are unstable at this scale")
    return float(mean), float(variance)


def _check_range(schedule: Schedule, start: int, stop: int | None) -> int:
    if not isinstance(schedule, Schedule):
        raise ArgumentError(f"schedule: expected a Schedule, got {type(schedule).__name__}")
    steps = len(schedule)
    end = steps if stop is None else stop
    if not all(isinstance(k, int | np.integer) for k in (start, end)) or not 0 <= start <= end <= steps:
        raise ArgumentError(
            f"start, stop: expected integers, 0 <= start <= stop <= {steps}, got {shown(start)}, {shown(end)}"
        )
    return int(end)


def _check_correctors(steps: int, scale: float | None) -> None:
    as_count("corrector_steps", steps, 0, 10**6)
    if scale is not None:
        as_number("corrector_scale", scale)


# --- The table of a run -----------------------------------------------------------------------------------------------


def _corrector_row(alpha: float, sigma: float, size: float, form: Form) -> tuple[float, float, float, float]:
    """Return (a, b, noise, score) of a Langevin step, for exact models by their score."""
    if form == "exact":
        return 1.0, 0.5 * size, size**0.5, 1.0
    if form == "score":
        return 1.0, 0.5 * size, size**0.5, 0.0
    level = [np.array([value]) for value in (alpha, sigma)]
    on_eps = np.array([-size / (2 * sigma)])
    a, b, noise = _from_epsilon(np.ones(1), on_eps, np.array([size**0.5]), level[0], level[1], form)[0]
    return float(a), float(b), float(noise), 0.0


def _plan(
    schedule: Schedule,
    sampler: Sampler | SecondOrder,
    eta: float | None,
    rule: Guidance,
    corrector_steps: int,
    corrector_scale: float | None,
    corrector_size: ArrayLike | None,
    form: Form,
    has_score: bool,
    first: int,
    after: int,
) -> Float64:
    """Return rows (R, 12) of steps [first, after): diffusion.hpp's Row; `form` says what the model's output is."""
    a, s = schedule.alpha, schedule.sigma
    if corrector_steps and not rule.linear:
        raise ArgumentError(f"guidance_scale: PCG guides by rule 'cfg' without rescale, got {rule}")
    if eta is not None:
        eta = as_number("eta", eta, least=0, most=1)
    if sampler == "heun" or sampler == "dpmpp_2m":
        if eta not in (None, 0):
            raise ArgumentError(f"eta: sampler {sampler!r} has none")
        if corrector_steps or rule.rule == "cfg++":
            raise ArgumentError(f"sampler: {sampler!r} takes neither correctors nor CFG++")
        return _second_order(schedule, sampler, rule, first, after, first)
    if sampler == "langevin":
        raise ArgumentError("sampler: for Langevin at one level call langevin()")
    kind: Prediction = "x0" if form == "exact" else form
    table = step_coefficients(schedule, sampler, eta=eta, prediction=kind)
    if corrector_steps:
        euler = sampler in ("reverse_sde", "pf_ode")
        default = schedule.euler_increments()[1] if euler else schedule.forward_variance
        sizes = default if corrector_size is None else sizes_of_steps("corrector_size", corrector_size, len(schedule))
    rows = []
    for k in range(first, after):
        scale = 1.0 if corrector_steps else rule.scale_at(a[k], s[k])
        on_x, on_out, noise = table[k]
        extra = 0.0
        if rule.rule == "cfg++":  # x' = a' x0 + s' eps_u; eps_u by what the model predicts
            if sampler != "ddim" or noise != 0 or corrector_steps:
                raise ArgumentError("guidance_scale: CFG++ goes with sampler 'ddim', eta 0, and no corrector")
            ones = np.ones(1)
            level = a[k] * ones, s[k] * ones
            denoise = _toward(kind, *level, a[k + 1] * ones, 0 * ones)[0]
            renoise = _toward(kind, *level, 0 * ones, s[k + 1] * ones)[0]
            on_x, on_out, extra = denoise[0] + renoise[0], denoise[1], renoise[1]
        rows.append([a[k], s[k], on_x, on_out, scale, extra, 0, 0, noise, k, 0, 0])
        if corrector_steps and (s[k + 1] > 0 or has_score):
            guided_by = 2 * rule.scale - 1 if corrector_scale is None else corrector_scale
            if rule.interval is not None and rule.scale_at(a[k + 1], s[k + 1]) != rule.scale:
                guided_by = 1.0
            b_x, b_out, b_noise, score = _corrector_row(a[k + 1], s[k + 1], float(sizes[k]), form)
            for j in range(corrector_steps):
                rows.append([a[k + 1], s[k + 1], b_x, b_out, guided_by, 0, 0, 0, b_noise, k, j + 1, score])
    return np.array(rows, float).reshape(-1, 12)


def _toward(form: Prediction, a: Float64, s: Float64, a1: Float64, toward: Float64) -> Float64:
    return _table(a, s, a1, toward, 0 * a, form)


def _second_order(
    schedule: Schedule, sampler: SecondOrder, rule: Guidance, first: int, after: int, start: int
) -> Float64:
    """Heun in x / alpha over sigma / alpha (EDM, algorithm 1), and DPM-Solver++ 2M in log(alpha / sigma)."""
    a, s = schedule.alpha, schedule.sigma
    if a[0] == 0:
        raise ArgumentError(f"schedule: sampler {sampler!r} needs alpha > 0 at every level")
    rows = []
    for k in range(first, after):
        scale = rule.scale_at(a[k], s[k])
        if sampler == "heun":
            rows.append([a[k], s[k], s[k + 1] / s[k], a[k + 1] - a[k] * s[k + 1] / s[k], scale, 0, 0, 0, 0, k, 0, 0])
            if s[k + 1] > 0:
                level, level1 = s[k] / a[k], s[k + 1] / a[k + 1]
                slope = 0.5 * (level1 - level) / level1
                scale1 = rule.scale_at(a[k + 1], s[k + 1])
                base = 0.5 * a[k + 1] / a[k]
                rows.append([a[k + 1], s[k + 1], 0.5 + slope, -a[k + 1] * slope, scale1, 0, 0, base, 0, k, 0, 0])
            continue
        on_x, on_out = s[k + 1] / s[k], a[k + 1] - a[k] * s[k + 1] / s[k]
        previous = 0.0
        if k > start and s[k + 1] > 0:
            lam = np.log(a[k - 1 : k + 2] / s[k - 1 : k + 2])
            half_over_r = 0.5 * (lam[2] - lam[1]) / (lam[1] - lam[0])
            on_out, previous = on_out * (1 + half_over_r), -on_out * half_over_r
        rows.append([a[k], s[k], on_x, on_out, scale, 0, previous, 0, 0, k, 0, 0])
    return np.array(rows, float).reshape(-1, 12)


# --- Running it -------------------------------------------------------------------------------------------------------


class _Runner:
    """One or two models, and how to run a table of rows with them."""

    def __init__(
        self,
        model: Any,
        prediction: Prediction,
        arrays: Callable[[NDArray[Any]], Any] | None,
        threads: int,
        backend: Backend | None,
    ) -> None:
        prediction = as_choice("prediction", prediction, PREDICTIONS)
        self.alone = not isinstance(model, Guided)
        self.cond, self.uncond = (model, model) if self.alone else (model.cond, model.uncond)
        self.exact = isinstance(self.cond, GaussianMixture | EmpiricalDenoiser)
        self.has_score = isinstance(self.cond, GaussianMixture) and isinstance(self.uncond, GaussianMixture)
        self.prediction = prediction
        self.arrays = arrays
        self.threads = threads
        self.backend: Backend | None = _dispatch.choose(backend)
        self.past: tuple[Any, Any] | None = None  # prediction and state of the row before
        self.difference: NDArray[Any] | None = None  # accumulated, of "apg"
        if not self.exact:
            self.cond, self.uncond = (_callable(one, arrays) for one in (self.cond, self.uncond))

    def refuse_on_device(self, rule: Guidance, backend: Backend | None) -> None:
        """Refuse what does not run on a state in GPU memory."""
        if backend is not None:
            raise ArgumentError(f"backend: expected none for a state in GPU memory, got {backend!r}")
        if self.exact or isinstance(self.cond, _CFunction) or isinstance(self.uncond, _CFunction):
            raise ArgumentError("x: expected an array in CPU memory, where exact models and C functions run")
        if not rule.linear:
            raise ArgumentError(f"guidance_scale: expected cfg or cfg++ for a state in GPU memory, got {rule.rule}")
        self.backend = None

    def form(self, rule: Guidance, sampler: Sampler | SecondOrder) -> Form:
        """Return what the rows' `out` is: x0 (or the score, in correctors) of "exact" models, else a prediction."""
        if self.exact:
            return "exact"
        made_in_x0 = rule.rule == "apg" or sampler in SECOND_ORDER
        return "x0" if made_in_x0 else self.prediction

    def run(
        self,
        state: NDArray[Any],
        rows: Float64,
        streams: Streams,
        rule: Guidance,
        form: Form,
        *,
        compiled: bool = True,
    ) -> NDArray[Any]:
        """Return the state after the rows."""
        if self.exact and rule.linear and compiled:
            return self._run_exact(state, rows, streams)
        return self._run_callables(state, rows, streams, rule, form, compiled)

    def _run_exact(self, state: NDArray[Any], rows: Float64, streams: Streams) -> NDArray[Any]:
        if state.ndim != 2 or state.shape[1] != self.cond.dimension or state.dtype.kind != "f" or state.itemsize < 4:
            raise ArgumentError(
                f"shape: expected (samples, {self.cond.dimension}), float32 or float64, got {state.shape} {state.dtype}"
            )
        if self.backend == "numpy":

            def evaluate(model: Any) -> Any:
                return lambda x, alpha, sigma, score: model._evaluate_numpy(x, alpha, sigma, score)

            def draw(step: int, substep: int) -> Any:
                return streams.reference(state.shape[1], step, substep)

            done = _reference.chains(evaluate(self.cond), evaluate(self.uncond), rows, draw, state.astype(float))
            return done.astype(state.dtype)
        run = _core.diffusion_chains_f32 if state.dtype == np.float32 else _core.diffusion_chains_f64
        native = [one._model(state.dtype) for one in (self.cond, self.uncond)]
        run(native[0], native[1], rows, streams.native(), state, self.threads)
        return state

    def _predict(self, model: Any, x: NDArray[Any], row: Float64, form: Form) -> NDArray[Any]:
        alpha, sigma, score = row[0], row[1], bool(row[11])
        if self.exact:
            return np.asarray(model.score(x, alpha, sigma) if score else model.denoise(x, alpha, sigma))
        out = _stored_like(x)("model's result", model(x, alpha, sigma, int(row[9])))[0]
        if out.shape != x.shape:
            raise ArgumentError(f"model: expected a result of shape {x.shape}, got {out.shape}")
        if form != self.prediction:
            wanted: Prediction = "x0" if form == "exact" else form
            out = convert_prediction(out, x, alpha, sigma, given=self.prediction, wanted=wanted)
        return out.astype(x.dtype, order="C", copy=False)  # type: ignore[no-any-return]

    def _weights(
        self, rule: Guidance, x: NDArray[Any], cond: NDArray[Any], uncond: NDArray[Any], row: Float64, form: Form
    ) -> tuple[Float64, Float64]:
        """Weights of the two predictions and of x, for a rule that acts on what the model predicts."""
        alpha, sigma, scale, step = row[0], row[1], row[4], int(row[9])
        given: Prediction = "x0" if form == "exact" else form
        if given == self.prediction:
            return rule.weights(cond, uncond, scale, step), np.zeros(1)
        cond, uncond = (
            convert_prediction(one, x, alpha, sigma, given=given, wanted=self.prediction).astype(x.dtype, copy=False)
            for one in (cond, uncond)
        )
        pair = rule.weights(cond, uncond, scale, step)
        # the model predicts p x + q x0, so that sum w (p x + q x0_i) stands for x0 = sum w x0_i + (sum w - 1) p / q x
        divisor = {"epsilon": alpha, "v": (alpha**2 + sigma**2) / alpha if alpha else np.inf, "score": alpha}
        missing = 1.0 - pair.sum(1)
        by = divisor.get(self.prediction, alpha + sigma)  # flow
        if by == 0 and (missing != 0).any():
            raise ArgumentError(
                f"guidance_scale: {self.prediction!r} says nothing on x0 where alpha is 0; expected prediction 'v' or "
                f"'flow' with rule {rule.rule!r} or a rescale"
            )
        return pair, missing / (by or 1.0)

    def _run_callables(
        self, state: NDArray[Any], rows: Float64, streams: Streams, rule: Guidance, form: Form, compiled: bool
    ) -> NDArray[Any]:
        remembers = bool((rows[:, 6:8] != 0).any()) or not compiled
        seeds = int(streams.array[0]) if streams.shared else streams.array
        generator: Generator = "philox" if streams.philox else "threefry"
        for row in rows:
            _, _, a, b, g, extra, previous, base, noise, step, substep, _ = row
            out = self._predict(self.cond, state, row, form)
            second, weights = None, np.array([[b, 0.0]])
            lean: Any = 0.0  # weight of x in the guided prediction
            if g != 1 or extra != 0 or (not rule.linear and substep == 0):
                second = self._predict(self.uncond, state, row, form)
                if rule.rule == "apg" and substep == 0:
                    second = self.difference = accumulated(out - second, self.difference, rule.momentum)
                if substep or rule.linear or rule.rule == "apg":
                    pair = np.array([[g, 1.0 - g]]) if substep else rule.weights(out, second, g, int(step))
                else:
                    pair, lean = self._weights(rule, state, out, second, row, form)
                if remembers:  # the guided prediction itself is wanted later
                    out = apply_step(state, out, _with_x(lean, 0.0), second, weights=pair)
                    second, lean = None, 0.0
                else:
                    weights = b * pair + np.array([0.0, extra])
            before = state.copy() if remembers else None
            if previous != 0 and self.past is not None:
                second, weights = self.past[0], np.array([[b, previous]])
            state = apply_step(
                state, out, _with_x(a + b * lean, noise), second, weights=weights, seeds=seeds, step=int(step),
                substep=int(substep), generator=generator, first_sample=streams.first, out=state,
                threads=self.threads, backend=self.backend,
            )  # fmt: skip
            if base != 0 and self.past is not None:
                state += state.dtype.type(base) * self.past[1]
            self.past = (out, before) if remembers else None
        return state


def _with_x(on_x: Any, noise: float) -> Any:
    """Coefficients of a step, one row a sample where the weight of x is."""
    if np.ndim(on_x) == 0 or len(on_x) == 1:
        return float(np.reshape(on_x, ())), 0.0, noise
    return np.stack([on_x, np.zeros_like(on_x), np.full_like(on_x, noise)], 1)


def _stored_like(x: Any) -> Callable[[str, Any], tuple[Any, str]]:
    """`as_stored`, or its counterpart where x is in GPU memory."""
    if not on_device(x):
        return as_stored
    from legato.diffusion import _cupy

    return _cupy.stored


def _callable(model: Any, arrays: Callable[[NDArray[Any]], Any] | None) -> Callable[..., Any]:
    """`model` as a callable on NumPy arrays."""
    function = _c_function(model)
    if function is not None:
        return function
    if not callable(model):
        raise ArgumentError(f"model: expected an exact model, a callable or a C function, got {type(model).__name__}")
    if arrays is None:
        return model  # type: ignore[no-any-return]
    return lambda x, alpha, sigma, k: model(arrays(x), alpha, sigma, k)


def _c_function(model: Any) -> _CFunction | None:
    """Take a numba.cfunc, ctypes function or scipy.LowLevelCallable, its types checked; None for anything else."""
    if type(model).__name__ == "LowLevelCallable":
        function = getattr(model.function, "ctypes", model.function)  # of numba, or ctypes' own
        if not isinstance(function, ctypes._CFuncPtr):  # type: ignore[attr-defined]
            raise ArgumentError("model: expected a LowLevelCallable of a ctypes or numba function")
        data = model.user_data
        pointer = None if data is None else ctypes.cast(data, ctypes.c_void_p)
        signature = model.signature if function.argtypes is None else None
        return _CFunction(function, signature, data is not None, pointer)
    if hasattr(model, "address") and hasattr(model, "native_name"):  # numba.cfunc
        return _CFunction(model.ctypes)
    return _CFunction(model) if isinstance(model, ctypes._CFuncPtr) else None  # type: ignore[attr-defined]


_SIGNATURE = "void (const T* x, T* out, int64 n, int64 d, double alpha, double sigma, int64 k)"
_SIZES = ("long", "long long", "int64", "int64_t", "npy_int64", "ssize_t", "Py_ssize_t")  # in signatures written out


class _CFunction:
    """A C function on batches; ctypes lets go of the interpreter lock while it runs.

    What its pointers point to would be written beyond its end, were it taken for another type: so types are checked.
    """

    def __init__(self, function: Any, signature: str | None = None, has_data: bool = False, data: Any = None) -> None:
        if signature is None:
            kinds = None if function.argtypes is None else [_kind_of(one) for one in function.argtypes]
            nothing = function.restype is None
        else:
            result, _, words = signature.replace("const ", "").replace(" *", "*").rstrip(") ").partition("(")
            kinds = [_kind_of_word(word.strip()) for word in words.split(",")]
            nothing = result.strip() == "void"
        plain = ["size", "size", "double", "double", "size", *["pointer"] * has_data]
        same = kinds is not None and nothing and [("pointer" if "*" in one else one) for one in kinds[2:]] == plain
        reals = kinds[:2] if same and kinds is not None else []
        if len(reals) != 2 or reals[0] != reals[1] or reals[0] not in ("float*", "double*", "pointer"):
            found = "types that are not declared" if kinds is None else f"({', '.join(kinds)})"
            more = ", void* user_data" if has_data else ""
            raise ArgumentError(
                f"model: expected a C function {_SIGNATURE[:-1]}{more}), T float or double as dtype says, got "
                f"{found}{'' if nothing else ' with a result'}"
            )
        self.real = {"float*": "float32", "double*": "float64"}.get(reals[0])  # None: void*, taken at its word
        types = [ctypes.c_void_p] * 2 + [ctypes.c_int64] * 2 + [ctypes.c_double] * 2 + [ctypes.c_int64]
        self.extra = [data] if has_data else []
        address = ctypes.cast(function, ctypes.c_void_p).value or 0
        self.function = ctypes.CFUNCTYPE(None, *types, *[ctypes.c_void_p] * len(self.extra))(address)
        self.held = function  # a ctypes callback lives as long as its object

    def __call__(self, x: NDArray[Any], alpha: float, sigma: float, k: int) -> NDArray[Any]:
        if x.ndim != 2:
            raise ArgumentError(f"shape: expected (samples, d) for a C function, got {x.shape}")
        if self.real not in (None, x.dtype.name):
            raise ArgumentError(
                f"model: expected a C function {_SIGNATURE} with T {'float' if x.itemsize == 4 else 'double'}, because "
                f"dtype is {x.dtype.name}, got one of {self.real}"
            )
        out = np.full_like(x, np.nan)  # stays where the function raises or forgets to write
        self.function(x.ctypes.data, out.ctypes.data, *x.shape, alpha, sigma, k, *self.extra)
        if bool(np.isnan(out).any()):
            raise NumericalError(
                f"model: expected a C function that writes every number of its result, got NaN at step {k}; one that "
                "raises has written nothing"
            )
        return out


def _kind_of(kind: Any) -> str:
    """Return what a ctypes type means in the signature of a model."""
    pointed = getattr(kind, "_type_", None)
    if kind is ctypes.c_void_p:
        return "pointer"
    if pointed is ctypes.c_float or pointed is ctypes.c_double:
        return "float*" if pointed is ctypes.c_float else "double*"
    if isinstance(pointed, str) and pointed in "lqLQ" and ctypes.sizeof(kind) == 8:
        return "size"
    return "double" if kind is ctypes.c_double else str(getattr(kind, "__name__", kind))


def _kind_of_word(word: str) -> str:
    """`_kind_of` for the words of a signature as SciPy writes it."""
    if word.endswith("*"):
        return {"void*": "pointer"}.get(word, word)
    return "size" if word in _SIZES else word


def _finite(state: NDArray[Any], name: str, langevin_rows: Float64) -> NDArray[Any]:
    """Return the state after a run, or say what may have made it infinite."""
    if bool(np.isfinite(state).all()):
        return state
    if len(langevin_rows):
        largest = float(langevin_rows[:, 8].max()) ** 2
        raise NumericalError(
            f"{name}: the result is not finite, with steps up to {largest:g}; Langevin is stable where {name} * "
            "precision of the guided law lies between 0 and 4"
        )
    raise NumericalError("model: the result is not finite; expected finite predictions, and a scale that they can bear")


def _start(
    x: Any,
    shape: tuple[int, ...],
    schedule: Schedule,
    start: int,
    dtype: DTypeLike,
    seeds: Seeds,
    generator: Generator,
    first_sample: int,
    threads: int,
    backend: Backend | None,
) -> NDArray[Any]:
    shape = as_shape("shape", shape)
    if x is not None:
        state, kind = _stored_like(x)("x", x)
        if state.shape != shape:
            raise ArgumentError(f"x: expected shape {shape}, got {state.shape}")
        if kind not in ("float32", "float64"):
            raise ArgumentError(f"x: expected float32 or float64, got {kind}")
        if not np.isfinite(state).all():
            raise ArgumentError("x: expected finite numbers")
        return state.copy()  # type: ignore[no-any-return]
    dtype = storage_name("dtype", dtype, ("float32", "float64"))
    if start != 0:
        raise ArgumentError("x: expected the state at level start, because start is not 0")
    options: dict[str, Any] = {"generator": generator, "first_sample": first_sample, "threads": threads}
    state = normal(shape, seeds, step=-1, dtype=dtype, backend=backend, **options)
    state *= state.dtype.type(schedule.sigma[0])
    return state


@contextmanager
def _bar(wanted: bool, total: int) -> Any:
    if not wanted:
        yield lambda: None
        return
    try:
        from rich.progress import Progress
    except ImportError:
        from legato.errors import DependencyError

        raise DependencyError("progress: needs rich (pip install rich)") from None
    with Progress(transient=True) as bar:
        task = bar.add_task("sampling", total=total)
        yield lambda: bar.advance(task)
