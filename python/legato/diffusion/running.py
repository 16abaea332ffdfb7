"""Running a table of rows: whole in compiled code for exact models, evaluation by evaluation around callables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from legato import _core, _dispatch
from legato._arrays import Float64, as_stored, on_device, refuse_gradients
from legato._dispatch import Backend
from legato._scalars import as_choice
from legato.diffusion import _reference
from legato.diffusion.callables import CFunction, as_callable
from legato.diffusion.guidance import Guidance, accumulated
from legato.diffusion.models import EmpiricalDenoiser, GaussianMixture, Guided
from legato.diffusion.noise import Generator, Streams, brownian, path_time
from legato.diffusion.plans import HIGHER_ORDER_SAMPLERS, Form, Row, column
from legato.diffusion.steps import PREDICTIONS, Prediction, apply_step, convert_prediction
from legato.errors import ArgumentError, NumericalError

__all__ = ["NOISES", "NoiseOf", "Runner", "finite", "stored_like"]

NoiseOf: TypeAlias = Literal["step", "path"]
NOISES: tuple[NoiseOf, ...] = get_args(NoiseOf)


class Runner:
    """One or two models, and how to run a table of rows with them."""

    def __init__(
        self,
        model: Any,
        prediction: Prediction,
        arrays: Callable[[NDArray[Any]], Any] | None,
        threads: int,
        backend: Backend | None,
        noise: NoiseOf = "step",
    ) -> None:
        self.path = as_choice("noise", noise, NOISES) == "path"
        self.prediction: Prediction = as_choice("prediction", prediction, PREDICTIONS)
        self.alone = not isinstance(model, Guided)
        self.cond, self.uncond = (model, model) if self.alone else (model.cond, model.uncond)
        self.exact = isinstance(self.cond, GaussianMixture | EmpiricalDenoiser)
        self.has_score = isinstance(self.cond, GaussianMixture) and isinstance(self.uncond, GaussianMixture)
        self.threads = threads
        self.backend = backend
        _dispatch.choose(backend)  # refuses what is none
        self.schedule: Any = None  # for noise of a path
        self.past: list[NDArray[Any]] = []  # predictions of the two rows before, the last one first
        self.last_x: NDArray[Any] | None = None
        self.difference: NDArray[Any] | None = None  # accumulated, of "apg"
        if not self.exact:
            self.cond, self.uncond = (as_callable(one, arrays) for one in (self.cond, self.uncond))

    def refuse_on_device(self, rule: Guidance, backend: Backend | None) -> None:
        """Refuse what does not run on a state in GPU memory."""
        if backend is not None:
            raise ArgumentError(f"backend: expected none for a state in GPU memory, got {backend!r}")
        if self.exact or isinstance(self.cond, CFunction) or isinstance(self.uncond, CFunction):
            raise ArgumentError("x: expected an array in CPU memory, where exact models and C functions run")
        if self.path:
            raise ArgumentError("noise: expected 'step' for a state in GPU memory, got 'path'")
        if not rule.linear:
            raise ArgumentError(f"guidance_scale: expected cfg or cfg++ for a state in GPU memory, got {rule.rule}")

    def form(self, rule: Guidance, sampler: str) -> Form:
        """Return what the rows' `out` is: x0 (or the score, in correctors) of "exact" models, else a prediction."""
        if self.exact:
            return "exact"
        made_in_x0 = rule.rule == "apg" or sampler in HIGHER_ORDER_SAMPLERS
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
        if self.exact and rule.linear and compiled and not self.path:
            return self._run_exact(state, rows, streams)
        return self._run_callables(state, rows, streams, rule, form, compiled)

    def _run_exact(self, state: NDArray[Any], rows: Float64, streams: Streams) -> NDArray[Any]:
        if state.ndim != 2 or state.shape[1] != self.cond.dimension or state.dtype.kind != "f" or state.itemsize < 4:
            raise ArgumentError(
                f"shape: expected (samples, {self.cond.dimension}), float32 or float64, got {state.shape} {state.dtype}"
            )
        if _dispatch.choose(self.backend) == "numpy":

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

    def _predict(self, model: Any, x: NDArray[Any], row: Row, form: Form) -> NDArray[Any]:
        if self.exact:
            return np.asarray((model.score if row.score else model.denoise)(x, row.alpha, row.sigma))
        given = model(x, row.alpha, row.sigma, int(row.step))
        if type(given) is np.ndarray is type(x) and given.dtype is x.dtype and given.shape == x.shape:
            wanted = _prediction_of(row, form)
            if wanted == self.prediction and given.flags.c_contiguous and given.flags.aligned:
                return given  # the common case, without ceremony
        refuse_gradients("model's result", given)
        out = stored_like(x)("model's result", given)[0]
        if out.shape != x.shape:
            raise ArgumentError(f"model: expected a result of shape {x.shape}, got {out.shape}")
        wanted = _prediction_of(row, form)
        if wanted != self.prediction:
            out = convert_prediction(out, x, row.alpha, row.sigma, given=self.prediction, wanted=wanted)
        return out.astype(x.dtype, order="C", copy=False)  # type: ignore[no-any-return]

    def _weights(
        self, rule: Guidance, x: NDArray[Any], cond: NDArray[Any], uncond: NDArray[Any], row: Row, form: Form
    ) -> tuple[Float64, Any]:
        """Weights of the two predictions and of x, for a rule that acts on what the model predicts."""
        alpha, sigma, given = row.alpha, row.sigma, _prediction_of(row, form)
        if given == self.prediction:
            return rule.weights(cond, uncond, row.guidance, int(row.step)), 0.0
        cond, uncond = (
            convert_prediction(one, x, alpha, sigma, given=given, wanted=self.prediction).astype(x.dtype, copy=False)
            for one in (cond, uncond)
        )
        pair = rule.weights(cond, uncond, row.guidance, int(row.step))
        # out = p + q x, so that sum w (p_i + q x) stands for sum w p_i + (1 - sum w) (-q x): of what is given, p + q' x
        missing = 1.0 - pair.sum(1)
        return pair, missing * self._share_of_x(given, alpha, sigma, bool((missing != 0).any()), rule)

    def _share_of_x(self, given: Prediction, alpha: float, sigma: float, matters: bool, rule: Guidance) -> float:
        """Return what x0 (or the score) is of x where the model's own prediction is 0."""
        divisor = {"epsilon": alpha, "v": (alpha**2 + sigma**2) / alpha if alpha else np.inf, "score": alpha}
        by = divisor.get(self.prediction, np.inf if self.prediction == "x0" else alpha + sigma)
        if by == 0 and matters:
            raise ArgumentError(
                f"guidance_scale: {self.prediction!r} says nothing on x0 where alpha is 0; expected prediction 'v' or "
                f"'flow' with rule {rule.rule!r} or a rescale"
            )
        share = 1.0 / (by or 1.0)
        return share if given == "x0" else (alpha * share - 1.0) / sigma**2

    def _guided(self, state: NDArray[Any], row: Row, rule: Guidance, form: Form) -> tuple[Any, Any, Any, Any]:
        """Return the predictions (the second may be None), their weights (samples or 1, 2), and the weight of x."""
        out = self._predict(self.cond, state, row, form)
        if row.guidance == 1 and row.on_uncond == 0 and (rule.linear or row.substep):
            return out, None, None, 0.0
        second = self._predict(self.uncond, state, row, form)
        if row.substep or rule.linear:
            return out, second, np.array([[row.guidance, 1.0 - row.guidance]]), 0.0
        if rule.rule == "apg":
            second = self.difference = accumulated(out - second, self.difference, rule.momentum)
            return out, second, rule.weights(out, second, row.guidance, int(row.step)), 0.0
        return out, second, *self._weights(rule, state, out, second, row, form)

    def _of_path(self, state: NDArray[Any], row: Row, seeds: Any, generator: Generator, first: int) -> NDArray[Any]:
        """Return the increment of the run's Brownian path over a step, for unit variance."""
        a, s = (levels[int(row.step) :][:2] for levels in (self.schedule.alpha, self.schedule.sigma))
        ends = [path_time("schedule", float(time)) for time in s / (a + s)]
        if ends[0] == ends[1]:
            raise ArgumentError(f"schedule: step {int(row.step)} is shorter than 2^-24 in sigma / (alpha + sigma)")
        options: dict[str, Any] = {"generator": generator, "first_sample": first, "threads": self.threads}
        z = brownian(state.shape, ends[0], ends[1], seeds, dtype=state.dtype, **options)
        z /= z.dtype.type(abs(ends[1] - ends[0]) ** 0.5)
        return z

    def _run_callables(
        self, state: NDArray[Any], rows: Float64, streams: Streams, rule: Guidance, form: Form, compiled: bool
    ) -> NDArray[Any]:
        looks_back = any((column(rows, name) != 0).any() for name in ("on_last", "on_earlier", "on_last_x"))
        remembers = looks_back or not compiled
        seeds = int(streams.array[0]) if streams.shared else streams.array
        generator: Generator = "philox" if streams.philox else "threefry"
        rest: dict[str, Any] = {"seeds": seeds, "generator": generator, "first_sample": streams.first}
        rest |= {"threads": self.threads, "backend": self.backend}
        plain = not (remembers or self.path or streams.philox) and streams.shared and self.backend is None
        for row in map(Row._make, rows.tolist()):
            if plain and row.guidance == 1 and row.on_uncond == 0 and (rule.linear or row.substep):
                after = _core.diffusion_step_quickly(
                    state, self._predict(self.cond, state, row, form), (row.on_x, row.on_out, row.noise), None, 1.0,
                    seeds, int(row.step), int(row.substep), streams.first, None, self.threads,
                )  # fmt: skip
                if after is not None:
                    state = after
                    continue
            out, second, pair, lean = self._guided(state, row, rule, form)
            if remembers and second is not None:  # the guided prediction itself is wanted later
                out = apply_step(state, out, _with_x(lean, 0.0), second, weights=pair, threads=self.threads)
                second, lean = None, 0.0
            coef: Any = (row.on_x, row.on_out, row.noise)
            by: dict[str, Any] = {}
            if second is not None and (np.ndim(lean) or lean or row.on_uncond or not (rule.linear or row.substep)):
                coef = _with_x(row.on_x + row.on_out * lean, row.noise)
                by["weights"] = row.on_out * pair + np.array([0.0, row.on_uncond])
            elif second is not None:
                by["guidance_scale"] = row.guidance
            elif row.on_last != 0 and self.past:
                second, by["weights"] = self.past[0], (row.on_out, row.on_last)
            if self.path and row.noise != 0 and not row.substep:
                by["noise"] = self._of_path(state, row, seeds, generator, streams.first)
            # the model may have kept the state it was given: each step has an array of its own
            after = apply_step(state, out, coef, second, step=int(row.step), substep=int(row.substep), **by, **rest)
            if row.on_earlier != 0 and len(self.past) > 1:
                after += after.dtype.type(row.on_earlier) * self.past[1]
            if row.on_last_x != 0 and self.last_x is not None:
                after += after.dtype.type(row.on_last_x) * self.last_x
            if remembers:
                self.past, self.last_x = [out, *self.past[:1]], state
            state = after
        return state


def _prediction_of(row: Row, form: Form) -> Prediction:
    return "score" if row.score else "x0" if form == "exact" else form


def _with_x(on_x: Any, noise: float) -> Any:
    """Coefficients of a step, one row a sample where the weight of x is."""
    if np.ndim(on_x) == 0 or len(on_x) == 1:
        return float(np.reshape(on_x, ())), 0.0, noise
    return np.stack([on_x, np.zeros_like(on_x), np.full_like(on_x, noise)], 1)


def stored_like(x: Any) -> Callable[[str, Any], tuple[Any, str]]:
    """`as_stored`, or its counterpart where x is in GPU memory."""
    if not on_device(x):
        return as_stored
    from legato.diffusion import _cupy

    return _cupy.stored


def finite(state: NDArray[Any], name: str, langevin_rows: Float64) -> NDArray[Any]:
    """Return the state after a run, or say what may have made it infinite."""
    if bool(np.isfinite(state).all()):
        return state
    if len(langevin_rows):
        largest = float(column(langevin_rows, "noise").max()) ** 2
        raise NumericalError(
            f"{name}: the result is not finite, with steps up to {largest:g}; Langevin is stable where {name} * "
            "precision of the guided law lies between 0 and 4"
        )
    raise NumericalError("model: the result is not finite; expected finite predictions, and a scale that they can bear")
