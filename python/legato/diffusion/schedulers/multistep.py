"""Multistep solvers, which look back at what the model predicted before."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import diffusers
from diffusers.schedulers.scheduling_utils import SchedulerOutput

from legato._turns import one_at_a_time
from legato.diffusion.multistep import Level, Slope, Weights, adams_weights, log_snr
from legato.diffusion.schedulers.run import Run, Seen, alike, combined, fused, in_type, seen_at
from legato.errors import ArgumentError

if TYPE_CHECKING:
    import torch

_CONVERTED = ("epsilon", "sample", "v_prediction", "flow_prediction")  # of which x0 and eps are known by two numbers


class Multistep(Run):
    """What the solvers share: steps that are counted, levels, and predictions now and before."""

    # diffusers' own attributes
    model_outputs: list[Any]  # of the last steps, oldest first
    timestep_list: list[Any]
    lower_order_nums: int
    this_order: int
    this_predictor_order: int
    this_corrector_order: int
    last_sample: Any
    last_noise: Any

    def step(
        self, model_output: torch.Tensor, timestep: int | torch.Tensor, sample: torch.Tensor, return_dict: bool = True
    ) -> Any:
        """Take one step; of lower order where fewer predictions are known, and at the end as the config says.

        Parameters
        ----------
        model_output, sample : Tensor, shape (samples, ...)
            The prediction, of ``prediction_type``, and the state it was made at.
        timestep : int or Tensor
            One of ``timesteps``; the scheduler counts its steps.
        return_dict : bool
            Whether to return diffusers' output or a tuple.

        Returns
        -------
        SchedulerOutput or tuple
            The next state.

        Raises
        ------
        ArgumentError
            Before ``set_timesteps``; more steps than the run has.
        """
        return self._stepped(model_output, timestep, sample, None, None, return_dict)

    @one_at_a_time
    def _stepped(
        self, model_output: Any, timestep: Any, sample: Any, generator: Any, variance_noise: Any, return_dict: bool
    ) -> Any:
        mine: Any = self
        if mine.num_inference_steps is None:
            raise ArgumentError("scheduler: call set_timesteps() first")
        if mine.step_index is None:  # these solvers take any timestep for that of the step they are at
            mine._init_step_index(timestep)
        k = self._counted(timestep)
        x, out = alike(sample, self._predicted(k, model_output, sample))
        past = [one for one in self.model_outputs[::-1] if one is not None]
        x = self._corrected(k, x, [out, *past])
        self.model_outputs = [*self.model_outputs[1:], out]
        if hasattr(self, "timestep_list"):
            self.timestep_list = [*self.timestep_list[1:], timestep]
        weights = self._ahead(k)
        noise = self._noise(weights[2], variance_noise, generator, k)
        self.last_sample, self.last_noise = x, noise
        after = in_type(combined(x, [out, *past], weights, noise), self._stored(sample, out))
        self.lower_order_nums = min(self.lower_order_nums + 1, self._most_known())
        mine._step_index += 1
        return SchedulerOutput(prev_sample=after) if return_dict else (after,)

    def _ahead(self, k: int) -> Weights:
        """Return the weights of step k."""
        raise NotImplementedError

    def _corrected(self, k: int, x: torch.Tensor, outs: list[torch.Tensor]) -> torch.Tensor:  # noqa: ARG002
        """Return the state, corrected by the new prediction where the solver does so."""
        return x

    def _stored(self, sample: torch.Tensor, out: torch.Tensor) -> torch.dtype:  # noqa: ARG002
        """Return the type of the next state."""
        return sample.dtype

    def _most_known(self) -> int:
        """Return how many predictions a step may look back at, itself included."""
        return int(self.config.solver_order)

    def _of_x0(self) -> bool:
        """Return whether x0 is interpolated, or eps."""
        raise NotImplementedError

    def _kind(self) -> Any:
        return "x0" if self._of_x0() else "epsilon"

    def _predicted(self, k: int, model_output: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
        """Return what is interpolated, x0 or eps, of a prediction at step k."""
        mine: Any = self
        kind = self.config.prediction_type
        if self.config.thresholding or self.config.get("variance_type") or kind not in _CONVERTED:
            return mine.convert_model_output(model_output, sample=sample)
        seen = self._cached(mine.sigmas, (k, "seen"), lambda: self._seen(k, kind))
        on_x, on_out = seen[:2] if self._of_x0() else seen[2:]
        if on_x == 0 and on_out == 1:
            return model_output
        return fused(*alike(sample, model_output), (on_x, on_out, 0.0))

    def _seen(self, k: int, kind: str) -> Seen:
        alpha, sigma = self._levels(k, 1)[1]
        if kind == "flow_prediction":  # eps - x0, where alpha + sigma is 1
            return 1.0, -sigma, 1.0, 1.0 - sigma
        return seen_at(kind, alpha, sigma)

    def _levels(self, k: int, order: int) -> tuple[Level, ...]:
        """Return where step k leads, where it starts, and where the steps before started."""
        mine: Any = self
        listed = self._numbers(mine.sigmas)
        sigmas = [listed[i] for i in range(k + 1, k - order, -1)]
        if self.config.get("use_flow_sigmas"):
            return tuple((1.0 - sigma, sigma) for sigma in sigmas)
        alphas = [1.0 / (sigma * sigma + 1.0) ** 0.5 for sigma in sigmas]
        return tuple((alpha, sigma * alpha) for alpha, sigma in zip(alphas, sigmas, strict=True))


class DPMSolverMultistepScheduler(Multistep, diffusers.DPMSolverMultistepScheduler):  # type: ignore[misc]
    """diffusers' DPMSolverMultistepScheduler, of every algorithm, order and spacing; `step` is Legato's."""

    def step(  # type: ignore[override]  # the order of arguments is theirs
        self,
        model_output: torch.Tensor,
        timestep: int | torch.Tensor,
        sample: torch.Tensor,
        generator: Any = None,
        variance_noise: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> Any:
        """Take one step, as the other solvers do; those of an SDE draw noise.

        Parameters
        ----------
        model_output, timestep, sample, return_dict
            As of `UniPCMultistepScheduler`.
        generator : torch.Generator or list of them, optional
            Of the stochastic algorithms: where the seed of the run is drawn, unless the scheduler has ``seeds``.
        variance_noise : Tensor, optional
            Noise to use instead.

        Returns
        -------
        SchedulerOutput or tuple
            The next state.

        Raises
        ------
        ArgumentError
            Before ``set_timesteps``; more steps than the run has.
        """
        return self._stepped(model_output, timestep, sample, generator, variance_noise, return_dict)

    def _of_x0(self) -> bool:
        return bool(self.config.algorithm_type.endswith("++"))

    def _stored(self, sample: torch.Tensor, out: torch.Tensor) -> torch.dtype:  # noqa: ARG002
        return out.dtype

    def _ahead(self, k: int) -> Weights:
        order = self._order(k)
        return self._cached(self.sigmas, (k, order), lambda: self._weights(k, order))  # type: ignore[no-any-return]

    def _order(self, k: int) -> int:
        """Return the order of step k, by their rules."""
        left, few = len(self.timesteps) - k, len(self.timesteps) < 15
        most: int = min(self.config.solver_order, self.lower_order_nums + 1)
        ends_at_zero = self.config.euler_at_final or self.config.final_sigmas_type == "zero"
        if left == 1 and (ends_at_zero or (self.config.lower_order_final and few)):
            return 1
        return min(most, 2) if left == 2 and self.config.lower_order_final and few else most

    def _weights(self, k: int, order: int) -> Weights:
        end, *past = self._levels(k, order)
        while order > 1 and (past[order - 1] == past[order - 2] or end == past[0]):
            order -= 1  # two levels are the same one: no slope can be had from them
        return dpm_weights(self.config.algorithm_type, self.config.solver_type, end, tuple(past[:order]))


class DEISMultistepScheduler(Multistep, diffusers.DEISMultistepScheduler):  # type: ignore[misc]
    """diffusers' DEISMultistepScheduler (log rho), of every order; `step` is Legato's."""

    def _of_x0(self) -> bool:
        return False

    def _ahead(self, k: int) -> Weights:
        order = min(self.config.solver_order, self.lower_order_nums + 1)
        if self.config.lower_order_final and len(self.timesteps) < 15:
            order = min(order, len(self.timesteps) - k)
        return self._cached(self.sigmas, (k, order), lambda: self._weights(k, order))  # type: ignore[no-any-return]

    def _weights(self, k: int, order: int) -> Weights:
        end, *nodes = self._levels(k, order)
        return adams_weights("epsilon", nodes[0], end, tuple(nodes))


class UniPCMultistepScheduler(Multistep, diffusers.UniPCMultistepScheduler):  # type: ignore[misc]
    """diffusers' UniPCMultistepScheduler, of every order and both B(h); `step` is Legato's."""

    def _stepped(
        self, model_output: Any, timestep: Any, sample: Any, generator: Any, variance_noise: Any, return_dict: bool
    ) -> Any:
        if self.solver_p:  # another scheduler predicts: theirs
            return diffusers.UniPCMultistepScheduler.step(self, model_output, timestep, sample, return_dict)
        return super()._stepped(model_output, timestep, sample, generator, variance_noise, return_dict)

    def _of_x0(self) -> bool:
        return bool(self.predict_x0)

    def _ahead(self, k: int) -> Weights:
        most = self.config.solver_order
        if self.config.lower_order_final:
            most = min(most, len(self.timesteps) - k)
        self.this_order = order = min(most, self.lower_order_nums + 1)
        return self._cached(self.sigmas, (k, order), lambda: self._predictor(k, order))  # type: ignore[no-any-return]

    def _corrected(self, k: int, x: torch.Tensor, outs: list[torch.Tensor]) -> torch.Tensor:
        if k == 0 or k - 1 in self.disable_corrector or self.last_sample is None:
            return x
        order = self.this_order
        weights = self._cached(self.sigmas, (k, order, "corrector"), lambda: self._corrector(k, order))
        return in_type(combined(self.last_sample, outs, weights, {}), x.dtype)

    def _predictor(self, k: int, order: int) -> Weights:
        end, *nodes = self._levels(k, order)
        return adams_weights(self._kind(), nodes[0], end, tuple(nodes), slope=self._slope())

    def _corrector(self, k: int, order: int) -> Weights:
        end, start, *before = self._levels(k - 1, order)
        # with one prediction before, its simplified form; else the integral, for whose slopes two nodes need no other
        slope: Slope = self._slope() if order == 1 else "exact"
        return adams_weights(self._kind(), start, end, (end, start, *before), slope=slope)

    def _slope(self) -> Slope:
        return "midpoint" if self.config.solver_type == "bh2" else "linear"


class SASolverScheduler(Multistep, diffusers.SASolverScheduler):  # type: ignore[misc]
    """diffusers' SASolverScheduler, of every order and both predictions; `step` is Legato's.

    The corrector takes the noise of the step before again.
    """

    def step(  # type: ignore[override]  # the order of arguments is theirs
        self,
        model_output: torch.Tensor,
        timestep: int | torch.Tensor,
        sample: torch.Tensor,
        generator: Any = None,
        return_dict: bool = True,
    ) -> Any:
        """Take one step, as the other solvers do, with noise.

        Parameters
        ----------
        model_output, timestep, sample, return_dict
            As of `UniPCMultistepScheduler`.
        generator : torch.Generator or list of them, optional
            Where the seed of the run is drawn, unless the scheduler has ``seeds``.

        Returns
        -------
        SchedulerOutput or tuple
            The next state.

        Raises
        ------
        ArgumentError
            Before ``set_timesteps``; more steps than the run has.
        """
        return self._stepped(model_output, timestep, sample, generator, None, return_dict)

    def _of_x0(self) -> bool:
        return bool(self.predict_x0)

    def _most_known(self) -> int:
        return int(max(self.config.predictor_order, self.config.corrector_order - 1))

    def _ahead(self, k: int) -> Weights:
        ahead, behind, left = self.config.predictor_order, self.config.corrector_order, len(self.timesteps) - k
        if self.config.lower_order_final:
            ahead, behind = min(ahead, left), min(behind, left + 1)
        self.this_predictor_order = order = min(ahead, self.lower_order_nums + 1)
        self.this_corrector_order = min(behind, self.lower_order_nums + 2)
        self._last_tau = tau = float(self.tau_func(self.timestep_list[-1]))
        return self._cached(  # type: ignore[no-any-return]
            self.sigmas, (k, order, tau, False), lambda: self._predictor(k, order, tau)
        )

    def _corrected(self, k: int, x: torch.Tensor, outs: list[torch.Tensor]) -> torch.Tensor:
        if k == 0 or self.last_sample is None:
            return x
        order, tau = self.this_corrector_order, self._last_tau
        weights = self._cached(self.sigmas, (k, order, tau, True), lambda: self._corrector(k, order, tau))
        return in_type(combined(self.last_sample, outs, weights, self.last_noise), x.dtype)

    def _predictor(self, k: int, order: int, tau: float) -> Weights:
        end, *nodes = self._levels(k, order)
        return adams_weights(self._kind(), nodes[0], end, tuple(nodes), tau=tau, slope=self._slope())

    def _corrector(self, k: int, order: int, tau: float) -> Weights:
        nodes = self._levels(k - 1, max(order - 1, 1))
        return adams_weights(self._kind(), nodes[1], nodes[0], nodes[:order], tau=tau, slope=self._slope())

    def _slope(self) -> Slope:
        return "linear" if self.predict_x0 else "exact"


def dpm_weights(algorithm: str, solver: str, end: Level, past: tuple[Level, ...]) -> Weights:
    """Weights of one step of DPM-Solver (Lu et al. 2022, arXiv 2206.00927 and 2211.01095), of order len(past).

    Parameters
    ----------
    algorithm : {"dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++"}
        Of which prediction, eps or x0 ("++"), and of which equation.
    solver : {"midpoint", "heun"}
        Of the second order; the third has one form.
    end : (alpha, sigma)
        Where the step leads.
    past : tuple of (alpha, sigma)
        Where it starts, and where the steps before started.

    Returns
    -------
    on_x, (on the last prediction, on the one before, ...), on_noise
    """
    kind: Any = "x0" if algorithm.endswith("++") else "epsilon"
    tau = float(algorithm.startswith("sde"))
    slope: Slope = "midpoint" if solver == "midpoint" else "exact"
    if len(past) < 3:
        return adams_weights(kind, past[0], end, past, tau=tau, slope=slope)
    on_x, (total,), w = adams_weights(kind, past[0], end, past[:1], tau=tau)
    places = [log_snr(level) for level in (end, *past)]
    h, h0, h1 = (places[i] - places[i + 1] for i in range(3))
    rate = -(1.0 + tau * tau) * h if kind == "x0" else h
    phi = abs(math.expm1(rate))
    scale = total / phi
    first = scale * (phi / rate + 1.0 if rate < 0 else phi / rate - 1.0)  # of the first difference, to all orders
    # diffusers takes the half off for "sde-dpmsolver++", too, which costs it the third order; the same numbers here
    second = scale * ((phi - abs(rate)) / rate**2 + (0.5 if algorithm == "dpmsolver++" else -0.5))
    # D1 = (1 + u) d0 - u d1 and D2 = (d0 - d1) h / (h0 + h1), where d_i are the slopes in units of h
    u, over = h0 / (h0 + h1), h / (h0 + h1)
    a, b = (first * (1.0 + u) + second * over) * h / h0, (-first * u - second * over) * h / h1
    return on_x, (total + a, b - a, -b), w
