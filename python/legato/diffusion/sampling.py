"""Whole sampling runs: compiled for exact models, around any callable otherwise."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from legato._arrays import Float64, given_back, on_device, refuse_gradients, storage_name
from legato._dispatch import Backend
from legato._scalars import as_count, as_flag, as_number, as_shape, as_threads
from legato.diffusion.guidance import Guidance, guidance_of
from legato.diffusion.models import GaussianMixture, Guided, check_level
from legato.diffusion.noise import Generator, Seeds, Streams, fill
from legato.diffusion.plans import (
    HIGHER_ORDER_SAMPLERS,
    Correctors,
    Form,
    HigherOrder,
    Row,
    as_sampler,
    column,
    corrector_row,
    make_plan,
)
from legato.diffusion.running import NoiseOf, Runner, finite, stored_like
from legato.diffusion.schedules import Schedule, check_range
from legato.diffusion.stability import check_langevin
from legato.diffusion.steps import Prediction, Sampler
from legato.errors import ArgumentError

__all__ = ["langevin", "sample"]


def sample(
    model: Any,
    shape: tuple[int, ...],
    schedule: Schedule,
    sampler: Sampler | HigherOrder = "ddim",
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
    noise: NoiseOf = "step",
    threads: int = 1,
    backend: Backend | None = None,
) -> Any:
    """Run a sampler through a schedule.

    Parameters
    ----------
    model : GaussianMixture, EmpiricalDenoiser, Guided, callable, numba.cfunc or scipy.LowLevelCallable
        Exact models (and `guided` pairs of them) run whole in compiled code. A Python callable is called as
        ``model(x, alpha, sigma, k)`` and returns a prediction of the shape of x, without gradients. x is the state of
        this evaluation: a model may keep it, no later step writes there; what the model writes into it, the step
        reads. A C function has the signature
        ``void (const T* x, T* out, int64 n, int64 d, double alpha, double sigma, int64 k)`` with T double or float, as
        `dtype` says, and is called without the interpreter lock; a LowLevelCallable with user data gets it as one more
        pointer at the end. Its declared types are checked (void pointers are taken at their word); a ctypes function
        without `argtypes` and ``restype = None`` is refused.
    shape : tuple of int
        (samples, ...); (samples, d) for exact models and C functions.
    schedule : Schedule
    sampler : str
        Those of `step_coefficients` but "langevin", and those of higher order: "heun" (Karras et al. 2022, algorithm 1
        without churn; in the time of the flow where the schedule begins at alpha 0), "dpmpp_2m" and "dpmpp_2m_sde"
        (DPM-Solver++ 2M and its SDE, Lu et al. 2022), "unipc" (UniPC-2 with B2, Zhao et al. 2023), "deis" (DEIS-3 in
        log rho, Zhang and Chen 2023), "sa_solver" (orders 2 and 2, Xue et al. 2023), "er_sde" (ER-SDE-3, Cui et al.
        2023). Those that look back begin with lower order, and take the step to sigma 0 with the first.
    eta : float, optional
        As in `step_coefficients`; of "dpmpp_2m_sde" k-diffusion's, and of "sa_solver" tau, both 1 by default.
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
    noise : {"step", "path"}
        "path": the noise of a step is the increment of one Brownian path of the seed over it, in the time
        sigma / (alpha + sigma). With more steps between the same levels the samples of a stochastic sampler then
        converge to those of one seed, as those of an ODE do (correctors keep the noise of their step). Such runs go
        evaluation by evaluation.
    x : array_like, optional
        State at level `start`; by default sigma_0 times noise. It is not changed. In GPU memory (CuPy, torch) the whole
        run stays there: for Python callables, with plain or CFG++ guidance.
    start, stop : int
        First step, and the step before which to stop: a run cut in two gives the same bits (those that look back begin
        anew with first order).
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
    array of `shape`
        Of the package, place, type and memory order of `x` where it was given.

    Raises
    ------
    ArgumentError
        Arguments that make no sense, tensors that record gradients, and corrector steps that are unstable for Gaussian
        mixtures.
    NumericalError
        The result is not finite.

    See Also
    --------
    step_coefficients : Table (A, B, C) of x' = A x + B out + C z, one row a step.
    guided : Pair a conditional model with an unconditional one, for guidance.
    gaussian_moments : Exact mean and variance that a sampler gives in one dimension, where all models are Gaussian.
    langevin : Unadjusted Langevin dynamics at one level: x + step_size / 2 score + sqrt(step_size) z, `n_steps` times.

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
    if callback is not None and not callable(callback):
        raise ArgumentError(f"callback: expected a callable, got {type(callback).__name__}")
    progress = as_flag("progress", progress)
    settle = _settled
    if callback is None and not progress and noise == "step" and type(guidance_scale) in (int, float):
        settle = _settled_before if _is_small(model) else _settled
    settings = (
        schedule, sampler, eta, guidance_scale, corrector_steps, corrector_scale, corrector_size, prediction, arrays,
        noise, start, stop, threads, backend,
    )  # fmt: skip
    try:
        run = settle(model, *settings)
    except TypeError:  # of a setting without a hash, or what it raises again
        run = _settled(model, *settings)
    runner, rule, rows = run.runner, run.rule, run.rows
    shape = as_shape("shape", shape)
    streams = Streams(seeds, shape[0], first_sample, generator)
    state = _start(x, shape, schedule, start, dtype, streams, runner.threads, backend)
    if on_device(state):
        runner.refuse_on_device(rule, backend)
    if callback is None and not progress:
        state = runner.run(state, rows, streams, rule, run.form)
        return given_back(x, finite(state, "corrector_size", run.langevin_rows))
    looks_back = run.sampler in HIGHER_ORDER_SAMPLERS  # from piece to piece, which compiled runs do not
    pieces = [rows[column(rows, "step") == k] for k in range(start, run.end)]
    with _bar(progress, len(pieces)) as advance:
        for k, piece in enumerate(pieces, start):
            state = runner.run(state, piece, streams, rule, run.form, compiled=not looks_back)
            advance()
            if callback is not None and callback(k, state):
                break
    return given_back(x, finite(state, "corrector_size", run.langevin_rows))


class _Settled(NamedTuple):
    """What a run is before its seeds and its state are known."""

    runner: Runner
    rule: Guidance
    form: Form
    sampler: Sampler | HigherOrder
    rows: Float64
    langevin_rows: Float64
    end: int


def _settled(
    model: Any, schedule: Schedule, sampler: Any, eta: float | None, guidance_scale: float | Guidance,
    corrector_steps: int, corrector_scale: float | None, corrector_size: Any, prediction: Prediction, arrays: Any,
    noise: NoiseOf, start: int, stop: int | None, threads: int, backend: Backend | None,
) -> _Settled:  # fmt: skip
    end = check_range(schedule, start, stop)
    sampler = as_sampler(sampler)
    correctors = Correctors(corrector_steps, corrector_scale, corrector_size)
    rule = guidance_of(guidance_scale)
    runner = Runner(model, prediction, arrays, as_threads(threads), backend, noise)
    runner.schedule = schedule
    if runner.alone and (rule.scale != 1 or rule.rule != "cfg" or corrector_scale not in (None, 1.0)):
        raise ArgumentError("guidance_scale: expected 1, or a guided(cond, uncond) pair as model")
    form = runner.form(rule, sampler)
    rows = make_plan(schedule, sampler, eta, rule, correctors, form, has_score=runner.has_score, first=start, after=end)
    langevin_rows = rows[column(rows, "substep") > 0] if correctors.steps else rows[:0]
    if runner.has_score and len(langevin_rows):
        check_langevin("corrector_size", "corrector_scale", langevin_rows, runner.cond, runner.uncond)
    return _Settled(runner, rule, form, sampler, rows, langevin_rows, end)


# One chain of a small mixture takes less time than to settle its run. Such a runner has no memory of its own.
_settled_before = functools.lru_cache(maxsize=32, typed=True)(_settled)
_LARGEST_KEPT = 1 << 14  # numbers of a mixture, since a kept run keeps its models


def _is_small(model: Any) -> bool:
    both = (model.cond, model.uncond) if type(model) is Guided else (model,)
    return all(type(one) is GaussianMixture and one.covariances.size <= _LARGEST_KEPT for one in both)


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
) -> Any:
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
    array like x
        Of its package, place, type and memory order.

    Raises
    ------
    ArgumentError
        Not 0 < step_size P < 4 for the guided precision P of Gaussian mixtures, among others.
    NumericalError
        The result is not finite.

    See Also
    --------
    sample : Runs it as a corrector with ``corrector_steps=``.

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
    alpha, sigma = check_level(alpha, sigma)
    guidance_scale = as_number("guidance_scale", guidance_scale)
    first_step = as_count("first_step", first_step, 0, 2**32 - 2)
    step_size = as_number("step_size", step_size, above=0)
    n_steps = as_count("n_steps", n_steps, 0, 10**8)
    threads = as_threads(threads)
    runner = Runner(model, prediction, None, threads, backend)
    if runner.alone and guidance_scale != 1:
        raise ArgumentError("guidance_scale: expected 1, or a guided(cond, uncond) pair as model")
    if not runner.has_score and sigma <= 0 and (runner.exact or prediction != "score"):
        raise ArgumentError(f"sigma: expected a positive level for this model, got {sigma}")
    refuse_gradients("x", x)
    state, kind = stored_like(x)("x", x)
    if kind == "bfloat16":
        raise ArgumentError("x: expected float32, float64 or float16, whose numbers a model can read, got bfloat16")
    state = state.copy()
    if state.ndim == 0:
        raise ArgumentError("x: expected at least one axis, that of the samples")
    if not np.isfinite(state).all():
        raise ArgumentError("x: expected finite numbers")
    if on_device(state):
        runner.refuse_on_device(Guidance(guidance_scale), backend)
    form = runner.form(Guidance(guidance_scale), "langevin")
    rows = np.tile(corrector_row(alpha, sigma, step_size, form, guidance=guidance_scale), (n_steps, 1))
    rows = rows.reshape(n_steps, len(Row._fields))
    column(rows, "step")[:] = first_step + np.arange(n_steps)
    if runner.has_score and n_steps:
        check_langevin("step_size", "guidance_scale", rows[:1], runner.cond, runner.uncond)
    streams = Streams(seeds, len(state), first_sample, generator)
    state = runner.run(state, rows, streams, Guidance(guidance_scale), form)
    return given_back(x, finite(state, "step_size", rows))


def _start(
    x: Any, shape: tuple[int, ...], schedule: Schedule, start: int, dtype: DTypeLike, streams: Streams, threads: int,
    backend: Backend | None,
) -> NDArray[Any]:  # fmt: skip
    if x is not None:
        refuse_gradients("x", x)
        state, kind = stored_like(x)("x", x)
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
    state = np.empty(shape, dtype)
    fill(state, dtype, streams, -1, 0, threads, backend)
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
