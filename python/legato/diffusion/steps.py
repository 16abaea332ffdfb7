"""One step of a sampler: its coefficients, and the fused pass that applies them."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from legato import _core, _dispatch
from legato._arrays import (
    Float64,
    as_float64,
    as_real,
    as_stored,
    given_back,
    on_device,
    output_apart,
    refuse_gradients,
)
from legato._dispatch import Backend
from legato._gpu import check_backend
from legato._scalars import as_choice, as_number, as_threads, shown
from legato.diffusion import _reference
from legato.diffusion.noise import Generator, Seeds, Streams, from_storage, to_storage
from legato.diffusion.schedules import Schedule
from legato.errors import ArgumentError

__all__ = ["PREDICTIONS", "SAMPLERS", "Prediction", "Sampler", "apply_step", "convert_prediction", "step_coefficients"]

Sampler: TypeAlias = Literal[
    "ddim",
    "ddpm",
    "euler",
    "euler_ancestral",
    "lcm",
    "tcd",
    "reverse_sde",
    "pf_ode",
    "tutorial_ddpm",
    "tutorial_ddim",
    "langevin",
    "flow_euler",
]
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
Prediction: TypeAlias = Literal["epsilon", "x0", "v", "flow", "score"]
PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)
_WITH_ETA = {"ddim": 0.0, "euler_ancestral": 1.0, "tcd": 0.3}  # and what it is without a word


def step_coefficients(
    schedule: Schedule,
    sampler: Sampler = "ddim",
    *,
    eta: float | None = None,
    prediction: Prediction | None = None,
    step_size: ArrayLike | None = None,
) -> Float64:
    """Table (A, B, C) of x' = A x + B out + C z, one row a step.

    Parameters
    ----------
    schedule : Schedule
    sampler : str
        "ddim" (noise `eta`, 0 by default) and "euler" (its deterministic case, which is Euler's method in x / alpha
        over sigma / alpha), "ddpm" (ancestral: eta 1), "euler_ancestral" (k-diffusion's, eta 1), "tcd" (x0 noised with
        the share sqrt(1 - eta^2) of the predicted noise and the share eta of fresh noise, 0.3 by default: the gamma of
        Kim et al. 2023 and Zheng et al. 2024; where the schedule has `trained` levels, down to the trained timestep
        (1 - eta) t' below the next one t', and back to t' by fresh noise) and "lcm" (fresh noise alone, Luo et al.
        2023), "reverse_sde" and "pf_ode" (Euler), "tutorial_ddpm" and "tutorial_ddim" (arXiv 2406.08929, algorithms 1
        and 2; alpha must be 1),
        "langevin" (of `step_size`, at level k), "flow_euler" (out is the velocity eps - x0).
    eta : float, optional
        Noise of "ddim", "euler_ancestral" and "tcd", 0 to 1.
    prediction : {"epsilon", "x0", "v", "flow", "score"}, optional
        What `out` is: the noise (default), x0, v = alpha eps - sigma x0, the velocity eps - x0, or the
        score.
    step_size : array_like, scalar or shape (N,), optional
        Of "langevin": d in x + d/2 score + sqrt(d) z. Default: the variance the forward process adds.

    Returns
    -------
    ndarray, shape (N, 3), float64

    Raises
    ------
    ArgumentError
        Unknown names; a sampler that the schedule does not admit; a schedule that starts at alpha 0 with "epsilon" or
        "score" (x0 cannot be had from them there).

    See Also
    --------
    apply_step : One step in one pass: x' = A x + B (eps_uncond + guidance_scale (eps - eps_uncond)) + C z.
    sample : Run a sampler through a schedule.

    Notes
    -----
    A schedule may start at alpha 0 (`Schedule.flow`, or no signal left). The drift and the diffusion of the SDE are
    infinite there; the first step of "pf_ode" is then that of "ddim" and the first one of "reverse_sde" that of "ddpm",
    which integrate their linear part exactly.

    Examples
    --------
    >>> from legato import diffusion as D
    >>> D.step_coefficients(D.Schedule.ve(2, 2.0), "tutorial_ddim").round(3).tolist()
    [[1.0, -0.586, 0.0], [1.0, -1.414, 0.0]]
    """
    if not isinstance(schedule, Schedule):
        raise ArgumentError(f"schedule: expected a Schedule, got {shown(schedule)}")
    sampler = as_choice("sampler", sampler, SAMPLERS)
    wanted: Prediction = "flow" if sampler == "flow_euler" else "epsilon"
    if prediction is not None:
        wanted = as_choice("prediction", prediction, PREDICTIONS)
    if eta is not None:
        eta = as_number("eta", eta, least=0, most=1)
    if eta not in (None, 0) and sampler not in _WITH_ETA:
        raise ArgumentError(f"eta: sampler {sampler!r} has none")
    if step_size is not None and sampler != "langevin":
        raise ArgumentError(f"step_size: sampler {sampler!r} has none")
    a, s, a1, s1 = schedule.alpha[:-1], schedule.sigma[:-1], schedule.alpha[1:], schedule.sigma[1:]

    if sampler in ("tcd", "lcm"):
        share = 1.0 if sampler == "lcm" else _WITH_ETA["tcd"] if eta is None else eta
        w = share * s1
        if sampler == "tcd" and schedule.trained is not None and schedule.time is not None:
            w = np.zeros_like(s1)  # the last step ends where it is
            between = schedule.trained[((1.0 - share) * schedule.time[1:]).astype(int)]
            w[:-1] = np.sqrt(np.maximum(1.0 - a1[:-1] ** 2 / between, 0.0))
        return rewritten(a, s, wanted, on_x0=a1, on_eps=np.sqrt(np.maximum(s1 * s1 - w * w, 0.0)), noise=w)
    if sampler in ("ddim", "ddpm", "euler", "euler_ancestral", "flow_euler"):
        default = {"ddpm": 1.0, "euler": 0.0, "flow_euler": 0.0}.get(sampler, _WITH_ETA.get(sampler, 0.0))
        return ddim_table(a, s, a1, s1, default if eta is None else eta, wanted)
    if sampler in ("tutorial_ddpm", "tutorial_ddim"):
        if not ((a == 1).all() and (a1 == 1).all()):
            raise ArgumentError(f"schedule: sampler {sampler!r} needs alpha 1 at every level (VE)")
        if sampler == "tutorial_ddim":
            return rewritten(a, s, wanted, on_x=1.0, on_eps=s1 - s)
        added = s * s - s1 * s1
        return rewritten(a, s, wanted, on_x=1.0, on_eps=-added / s, noise=np.sqrt(added))
    if sampler == "langevin":
        size = schedule.forward_variance if step_size is None else sizes_of_steps("step_size", step_size, len(s))
        return rewritten(a, s, wanted, on_x=1.0, on_eps=-size / (2 * s), noise=np.sqrt(size))
    stochastic = sampler == "reverse_sde"
    drift, added = schedule.euler_increments()
    bare = int(a[0] == 0 and not np.isfinite(drift[0] + added[0]))  # how many steps from where they are infinite
    table = np.empty((len(s), 3))
    table[:bare] = ddim_table(a[:bare], s[:bare], a1[:bare], s1[:bare], float(stochastic), wanted)
    table[bare:] = rewritten(
        a[bare:], s[bare:], wanted, on_x=1.0 + drift[bare:], on_eps=-(1.0 if stochastic else 0.5) * (added / s)[bare:],
        noise=np.sqrt(added[bare:]) if stochastic else 0.0,
    )  # fmt: skip
    return table


def sizes_of_steps(name: str, value: ArrayLike, steps: int) -> Float64:
    """Return one positive size a step."""
    sizes = as_float64(name, value)
    if sizes.shape not in ((), (1,), (steps,)):
        raise ArgumentError(f"{name}: expected one number or shape ({steps},), got {sizes.shape}")
    if not (np.isfinite(sizes).all() and (sizes > 0).all()):
        raise ArgumentError(f"{name}: expected positive numbers")
    return np.broadcast_to(sizes, (steps,))


def ddim_table(a: Float64, s: Float64, a1: Float64, s1: Float64, eta: float, prediction: Prediction) -> Float64:
    """Return (A, B, C) of DDIM with noise `eta`, from levels (a, s) to levels (a1, s1)."""
    # w^2 = eta^2 s'^2 (1 - (a s' / (a' s))^2), the variance of the posterior at eta 1 (spec: DDIM's sigma_t)
    w = eta * s1 * np.sqrt(np.maximum(1.0 - (a * s1 / (a1 * s)) ** 2, 0.0))
    return rewritten(a, s, prediction, on_x0=a1, on_eps=np.sqrt(np.maximum(s1 * s1 - w * w, 0.0)), noise=w)


def rewritten(
    a: Any, s: Any, prediction: Prediction, *, on_x: Any = 0.0, on_x0: Any = 0.0, on_eps: Any = 0.0, noise: Any = 0.0
) -> Float64:
    """Return (A, B, C) of on_x x + on_x0 x0 + on_eps eps + noise z, in terms of x and of what is predicted at (a, s).

    Of numbers, shape (3,); of arrays of one length, (N, 3).
    """
    a, s = np.asarray(a, np.float64), np.asarray(s, np.float64)
    if prediction in ("epsilon", "score"):
        if np.any((a == 0) & (np.asarray(on_x0) != 0)):
            raise ArgumentError(
                f"prediction: {prediction!r} says nothing on x0 where alpha is 0; expected x0, v or flow"
            )
        of_x0 = on_x0 / np.where(a == 0, 1.0, a)
        by_x, by_out = on_x + of_x0, on_eps - of_x0 * s
        if prediction == "score":
            by_out = -s * by_out
    elif prediction == "x0":
        of_eps = on_eps / np.where(s == 0, 1.0, s)
        by_x, by_out = on_x + of_eps, on_x0 - of_eps * a
    elif prediction == "v":  # x0 = (a x - s v) / (a^2 + s^2), eps = (s x + a v) / (a^2 + s^2)
        square = a * a + s * s
        by_x, by_out = on_x + (on_x0 * a + on_eps * s) / square, (on_eps * a - on_x0 * s) / square
    else:  # flow: x0 = (x - s out) / (a + s), eps = (x + a out) / (a + s)
        by_x, by_out = on_x + (on_x0 + on_eps) / (a + s), (on_eps * a - on_x0 * s) / (a + s)
    return np.stack(np.broadcast_arrays(by_x, by_out, noise), -1)


def convert_prediction(out: Any, x: Any, alpha: float, sigma: float, *, given: Prediction, wanted: Prediction) -> Any:
    """Turn one kind of prediction into another.

    Parameters
    ----------
    out, x : array_like of one shape
        The prediction, and the state x = alpha x0 + sigma eps it was made at.
    alpha, sigma : float
        The level. What divides by one that is 0 is refused.
    given, wanted : {"epsilon", "x0", "v", "flow", "score"}
        v is alpha eps - sigma x0, flow is eps - x0.

    Returns
    -------
    array
        Of the package of `out` and `x`, whose own arithmetic this is: tensors keep their place and their gradients.

    See Also
    --------
    step_coefficients : Table (A, B, C) of x' = A x + B out + C z, one row a step.

    Examples
    --------
    >>> from legato import diffusion as D
    >>> x0 = D.convert_prediction(0.5, 2.0, alpha=0.8, sigma=0.6, given="epsilon", wanted="x0")
    >>> float(x0)                                                # (2 - 0.6 * 0.5) / 0.8
    2.125
    """
    given, wanted = as_choice("given", given, PREDICTIONS), as_choice("wanted", wanted, PREDICTIONS)
    alpha, sigma = as_number("alpha", alpha, least=0), as_number("sigma", sigma, least=0)
    y, o = (value if _computes(value) else as_real(name, value) for name, value in (("x", x), ("out", out)))
    if y.shape != o.shape:
        raise ArgumentError(f"x: expected shape {tuple(o.shape)} as out has, got {tuple(y.shape)}")
    if given == wanted:
        return o
    if given in ("epsilon", "score"):
        eps = o if given == "epsilon" else -sigma * o
        x0 = (y - sigma * eps) / alpha if alpha > 0 else None
    elif given == "x0":
        x0, eps = o, (y - alpha * o) / sigma if sigma > 0 else None
    elif given == "v":
        square = alpha * alpha + sigma * sigma
        x0, eps = (alpha * y - sigma * o) / square, (sigma * y + alpha * o) / square
    else:
        x0 = (y - sigma * o) / (alpha + sigma)
        eps = x0 + o
    needed = {"epsilon": eps, "x0": x0, "score": None if eps is None or sigma == 0 else -eps / sigma}
    if wanted in ("v", "flow"):
        if x0 is None or eps is None:
            needed[wanted] = None
        else:
            needed[wanted] = alpha * eps - sigma * x0 if wanted == "v" else eps - x0
    if needed[wanted] is None:
        raise ArgumentError(f"wanted: {given!r} does not determine {wanted!r} at alpha {alpha}, sigma {sigma}")
    result: Any = needed[wanted]
    return result if _computes(result) else np.asarray(result)


def _computes(value: Any) -> bool:
    """Whether `value` is an array of another package, whose own arithmetic keeps its place and its gradients."""
    return type(value) is not np.ndarray and hasattr(value, "__dlpack__") and hasattr(value, "__mul__")


def apply_step(
    x: Any,
    eps: Any,
    coef: ArrayLike,
    eps_uncond: Any = None,
    guidance_scale: float = 1.0,
    *,
    seeds: Seeds = 0,
    step: int = 0,
    substep: int = 0,
    noise: Any = None,
    weights: ArrayLike | None = None,
    generator: Generator = "threefry",
    first_sample: int = 0,
    out: Any = None,
    threads: int = 1,
    backend: Backend | None = None,
) -> Any:
    """One step in one pass: x' = A x + B (eps_uncond + guidance_scale (eps - eps_uncond)) + C z.

    Parameters
    ----------
    x : array, shape (samples, ...)
        State: float32, float64, float16 or bfloat16; arithmetic is float32, and float64 for float64. In GPU memory
        (CuPy, or torch and JAX through CuPy) the step runs there, with the same bits, and the other arrays must be
        there too.
    eps, eps_uncond : array like x
        Predictions of the kind that `coef` is for. Without `eps_uncond` there is no guidance.
    coef : array_like, shape (3,) or (samples, 3)
        (A, B, C), as `step_coefficients` returns them.
    guidance_scale : float
        1 is the conditional model (Ho and Salimans' w is guidance_scale - 1).
    seeds, step, substep, generator, first_sample
        Which noise to draw where C is not 0, as in `normal`.
    noise : array like x, optional
        Noise to use instead.
    weights : array_like, shape (2,) or (samples, 2), optional
        Weights of eps and eps_uncond that take the place of B and `guidance_scale` (see `guidance`).
    out : array like x, optional
        Where to write; it may be `x` itself or overlap any input (which is then copied).
    threads : int
        The result does not depend on it.
    backend : {"native", "numpy"}, optional

    Returns
    -------
    array
        `out` where it was given, else what `x` is: an array of its package, place, type and order of axes in memory.

    Raises
    ------
    ArgumentError
        Shapes or types differ, a coefficient is not finite, or a tensor records gradients.

    See Also
    --------
    step_coefficients : Table (A, B, C) of x' = A x + B out + C z, one row a step.
    sample : Run a sampler through a schedule.

    Notes
    -----
    States and predictions are not looked through: where one is NaN or infinite, so is the result.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import diffusion as D
    >>> x, eps = np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32)
    >>> D.apply_step(x, eps, (0.5, 1.0, 0.0)).tolist()
    [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]
    """
    if noise is None and weights is None and backend is None and isinstance(generator, str) and generator == "threefry":
        done = _core.diffusion_step_quickly(
            x, eps, coef, eps_uncond, guidance_scale, seeds, step, substep, first_sample, out, threads
        )
        if done is not None:
            return done
    for name, value in (("x", x), ("eps", eps), ("eps_uncond", eps_uncond), ("noise", noise), ("out", out)):
        refuse_gradients(name, value)
    if on_device(x):
        from legato.diffusion import _cupy

        check_backend(backend)
        samples = int(x.shape[0]) if x.ndim else 0
        table = _full_coefficients(coef, weights, guidance_scale, eps_uncond is not None, samples)
        address = Streams(seeds, samples, first_sample, generator).address(step, substep)
        after = _cupy.apply_step(x, eps, eps_uncond, noise, table, address, out)
        return after if out is not None else given_back(x, after)
    state, storage = as_stored("x", x)
    if state.ndim == 0:
        raise ArgumentError("x: expected at least one axis, that of the samples")
    others = []
    for name, value in (("eps", eps), ("eps_uncond", eps_uncond), ("noise", noise)):
        array = None if value is None else as_stored(name, value, storage)[0]
        if array is not None and array.shape != state.shape:
            raise ArgumentError(f"{name}: expected shape {state.shape}, got {array.shape}")
        others.append(array)
    if eps is None:
        raise ArgumentError("eps: expected an array")
    samples = state.shape[0]
    elements = math.prod(state.shape[1:])
    table = _full_coefficients(coef, weights, guidance_scale, eps_uncond is not None, samples)
    threads = as_threads(threads)
    target, (state, cond, uncond, given) = output_apart("out", out, state.shape, storage, [state, *others])
    streams = Streams(seeds, samples, first_sample, generator)
    streams.address(step, substep)
    if _dispatch.choose(backend) == "numpy":
        z = given
        if z is None and (table[:, 3] != 0).any():
            z = to_storage(streams.reference(elements, step, substep), "float32").reshape(state.shape)
        elif z is not None:
            z = from_storage(z, storage)
        target[...] = _step_in_numpy(state, cond, uncond, z, table, storage)
    else:
        _core.diffusion_step(
            storage,
            samples,
            elements,
            table,
            state,
            cond,
            uncond,
            given,
            streams.native(step, substep),
            target,
            threads,
        )
    return out if out is not None else given_back(x, target)


def _full_coefficients(
    coef: ArrayLike, weights: ArrayLike | None, guidance_scale: float, guided: bool, samples: int
) -> Float64:
    """(1 or samples, 4): a, weight of eps, weight of eps_uncond, noise."""
    guidance_scale = as_number("guidance_scale", guidance_scale)
    if isinstance(coef, np.ndarray) and coef.shape == (3,):
        coef = tuple(coef.tolist())
    if weights is None and isinstance(coef, tuple) and len(coef) == 3 and (guided or guidance_scale == 1):
        a, b, c = (as_number("coef", number) for number in coef)
        if math.isfinite(a) and math.isfinite(b * guidance_scale) and math.isfinite(c):
            return np.array([[a, b * guidance_scale, b * (1.0 - guidance_scale), c]], np.float64)
    table = as_float64("coef", coef)
    if table.shape not in ((3,), (samples, 3)):
        raise ArgumentError(f"coef: expected shape (3,) or ({samples}, 3), got {table.shape}")
    table = np.atleast_2d(table)
    if weights is None:
        if not guided and guidance_scale != 1:
            raise ArgumentError("eps_uncond: expected an array, because guidance_scale is not 1")
        pair = table[:, 1:2] * np.array([guidance_scale, 1.0 - guidance_scale])
    else:
        pair = np.atleast_2d(as_float64("weights", weights))
        if pair.shape not in ((1, 2), (samples, 2)):
            raise ArgumentError(f"weights: expected shape (2,) or ({samples}, 2), got {pair.shape}")
    rows = max(len(table), len(pair))
    full = np.empty((rows, 4))
    full[:, 0], full[:, 1:3], full[:, 3] = table[:, 0], pair, table[:, 2]
    if not np.isfinite(full).all():
        raise ArgumentError("coef: expected finite coefficients")
    return full


def _step_in_numpy(
    x: NDArray[Any], cond: NDArray[Any], uncond: NDArray[Any] | None, z: Any, table: Float64, storage: str
) -> NDArray[Any]:
    real = np.float64 if storage == "float64" else np.float32
    a, c, u, n = (column.astype(real).reshape(-1, *[1] * (x.ndim - 1)) for column in table.T)
    value = from_storage(x, storage) * a + from_storage(cond, storage) * c
    if uncond is not None:
        value = value + from_storage(uncond, storage) * u
    if z is not None:
        value = np.where(n != 0, value + z.astype(real) * n, value)
    return to_storage(value, storage)


def guidance_sums(
    cond: Any, uncond: Any, x: Any = None, *, threads: int = 1, backend: Backend | None = None
) -> Float64:
    """Add up what guidance rules are made of, over each sample, in float64.

    Parameters
    ----------
    cond, uncond, x : array, shape (samples, ...)
        Of one storage type; the sums of `x` are 0 without it.
    threads : int
    backend : {"native", "numpy"}, optional

    Returns
    -------
    ndarray, shape (samples, 8)
        c.c, u.u, c.u, sum c, sum u, x.c, x.u, x.x.

    See Also
    --------
    Guidance : A guidance rule, for the ``guidance_scale=`` of `sample`.
    apply_step : Takes the weights that a rule makes of them.

    Examples
    --------
    >>> from legato import diffusion as D
    >>> D.guidance_sums([[1.0, 2.0]], [[3.0, 4.0]]).tolist()
    [[5.0, 25.0, 11.0, 3.0, 7.0, 0.0, 0.0, 0.0]]
    """
    for name, value in (("cond", cond), ("uncond", uncond), ("x", x)):
        refuse_gradients(name, value)
    c, storage = as_stored("cond", cond)
    u = as_stored("uncond", uncond, storage)[0]
    at = None if x is None else as_stored("x", x, storage)[0]
    if c.ndim == 0:
        raise ArgumentError("cond: expected shape (samples, ...), got a number")
    for name, array in (("uncond", u), ("x", at)):
        if array is not None and array.shape != c.shape:
            raise ArgumentError(f"{name}: expected shape {c.shape} as cond has, got {array.shape}")
    threads = as_threads(threads)
    samples, elements = c.shape[0], int(np.prod(c.shape[1:], dtype=np.int64))
    if _dispatch.choose(backend) == "numpy":
        flat = [None if y is None else from_storage(y, storage).reshape(samples, -1) for y in (c, u, at)]
        return _reference.sums(*flat)  # type: ignore[arg-type]
    out = np.empty((samples, 8))
    _core.diffusion_sums(storage, samples, elements, c, u, at, out, threads)
    return out
