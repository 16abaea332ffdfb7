"""Multistep solvers, which look back at what the model predicted before."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import diffusers
from diffusers.schedulers.scheduling_utils import SchedulerOutput

from legato._turns import one_at_a_time
from legato.diffusion.multistep import Level, Slope, Weights, adams_weights, log_snr
from legato.diffusion.schedulers.run import Run, combined
from legato.errors import ArgumentError

if TYPE_CHECKING:
    import torch


class Multistep(Run):
    """What the solvers share: the levels of their sigmas, and steps that are counted."""

    # diffusers' own attributes
    model_outputs: list[Any]  # of the last steps, oldest first
    timestep_list: list[Any]
    lower_order_nums: int
    this_order: int
    this_predictor_order: int
    this_corrector_order: int
    last_sample: Any
    last_noise: Any

    def _begun(self, timestep: Any) -> int:
        """Return the number of the step; these solvers take any timestep for that of the step they are at."""
        mine: Any = self
        if mine.num_inference_steps is None:
            raise ArgumentError("scheduler: call set_timesteps() first")
        if mine.step_index is None:
            mine._init_step_index(timestep)
        return self._counted(timestep)

    def _levels(self, k: int, order: int) -> list[Level]:
        """Return where step k leads, where it starts, and where the steps before started."""
        mine: Any = self
        sigmas = [float(mine.sigmas[i]) for i in range(k + 1, k - order, -1)]
        if self.config.get("use_flow_sigmas"):
            return [(1.0 - sigma, sigma) for sigma in sigmas]
        alphas = [1.0 / (sigma * sigma + 1.0) ** 0.5 for sigma in sigmas]
        return [(alpha, sigma * alpha) for alpha, sigma in zip(alphas, sigmas, strict=True)]


class DPMSolverMultistepScheduler(Multistep, diffusers.DPMSolverMultistepScheduler):  # type: ignore[misc]
    """diffusers' DPMSolverMultistepScheduler, of every algorithm, order and spacing; `step` is Legato's."""

    @one_at_a_time
    def step(
        self,
        model_output: torch.Tensor,
        timestep: int | torch.Tensor,
        sample: torch.Tensor,
        generator: Any = None,
        variance_noise: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> Any:
        """Take one step; of lower order where fewer predictions are known, and at the end as the config says.

        Parameters
        ----------
        model_output, sample : Tensor, shape (samples, ...)
            The prediction, of ``prediction_type``, and the state it was made at.
        timestep : int or Tensor
            One of ``timesteps``; the scheduler counts its steps.
        generator : torch.Generator or list of them, optional
            Of the stochastic algorithms: where the seed of the run is drawn, unless the scheduler has ``seeds``.
        variance_noise : Tensor, optional
            Noise to use instead.
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
        k = self._begun(timestep)
        out = self.convert_model_output(model_output, sample=sample)
        self.model_outputs = [*self.model_outputs[1:], out]
        order = self._order(k)
        weights = self._cached(self.sigmas, (k, order), lambda: self._weights(k, order))
        self.lower_order_nums = min(self.lower_order_nums + 1, self.config.solver_order)
        noise = self._noise(weights[2], variance_noise, generator, k)
        after = combined(sample, self.model_outputs[::-1], weights, noise).to(out.dtype)
        self._step_index += 1
        return SchedulerOutput(prev_sample=after) if return_dict else (after,)

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
        return dpm_weights(self.config.algorithm_type, self.config.solver_type, end, past[:order])


class UniPCMultistepScheduler(Multistep, diffusers.UniPCMultistepScheduler):  # type: ignore[misc]
    """diffusers' UniPCMultistepScheduler, of every order and both B(h); `step` is Legato's."""

    @one_at_a_time
    def step(
        self,
        model_output: torch.Tensor,
        timestep: int | torch.Tensor,
        sample: torch.Tensor,
        return_dict: bool = True,
    ) -> Any:
        """Correct the step before by the new prediction, and take the next one.

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
        k = self._begun(timestep)
        if self.solver_p:  # another scheduler predicts: theirs
            return super().step(model_output, timestep, sample, return_dict)
        out = self.convert_model_output(model_output, sample=sample)
        past = [one for one in self.model_outputs[::-1] if one is not None]
        if k > 0 and k - 1 not in self.disable_corrector and self.last_sample is not None:
            order = self.this_order
            weights = self._cached(self.sigmas, (k, order, "corrector"), lambda: self._corrector(k, order))
            sample = combined(self.last_sample, [out, *past], weights, {}).to(sample.dtype)
        most = self.config.solver_order
        if self.config.lower_order_final:
            most = min(most, len(self.timesteps) - k)
        self.this_order = order = min(most, self.lower_order_nums + 1)
        self.model_outputs = [*self.model_outputs[1:], out]
        self.timestep_list = [*self.timestep_list[1:], timestep]
        self.last_sample = sample
        weights = self._cached(self.sigmas, (k, order), lambda: self._predictor(k, order))
        after = combined(sample, [out, *past], weights, {}).to(sample.dtype)
        self.lower_order_nums = min(self.lower_order_nums + 1, self.config.solver_order)
        self._step_index += 1
        return SchedulerOutput(prev_sample=after) if return_dict else (after,)

    def _predictor(self, k: int, order: int) -> Weights:
        end, *nodes = self._levels(k, order)
        return adams_weights(self._kind(), nodes[0], end, nodes, slope=self._slope())

    def _corrector(self, k: int, order: int) -> Weights:
        end, start, *before = self._levels(k - 1, order)
        # with one prediction before, its simplified form; else the integral, for whose slopes two nodes need no other
        slope: Slope = self._slope() if order == 1 else "exact"
        return adams_weights(self._kind(), start, end, [end, start, *before], slope=slope)

    def _kind(self) -> Any:
        return "x0" if self.predict_x0 else "epsilon"

    def _slope(self) -> Slope:
        return "midpoint" if self.config.solver_type == "bh2" else "linear"


class DEISMultistepScheduler(Multistep, diffusers.DEISMultistepScheduler):  # type: ignore[misc]
    """diffusers' DEISMultistepScheduler (log rho), of every order; `step` is Legato's."""

    @one_at_a_time
    def step(
        self,
        model_output: torch.Tensor,
        timestep: int | torch.Tensor,
        sample: torch.Tensor,
        return_dict: bool = True,
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
        k = self._begun(timestep)
        out = self.convert_model_output(model_output, sample=sample)
        self.model_outputs = [*self.model_outputs[1:], out]
        left = len(self.timesteps) - k
        order = min(self.config.solver_order, self.lower_order_nums + 1)
        if self.config.lower_order_final and len(self.timesteps) < 15:
            order = min(order, left)
        weights = self._cached(self.sigmas, (k, order), lambda: self._weights(k, order))
        after = combined(sample, self.model_outputs[::-1], weights, {}).to(sample.dtype)
        self.lower_order_nums = min(self.lower_order_nums + 1, self.config.solver_order)
        self._step_index += 1
        return SchedulerOutput(prev_sample=after) if return_dict else (after,)

    def _weights(self, k: int, order: int) -> Weights:
        end, *nodes = self._levels(k, order)
        return adams_weights("epsilon", nodes[0], end, nodes)


class SASolverScheduler(Multistep, diffusers.SASolverScheduler):  # type: ignore[misc]
    """diffusers' SASolverScheduler, of every order and both predictions; `step` is Legato's."""

    @one_at_a_time
    def step(
        self,
        model_output: torch.Tensor,
        timestep: int | torch.Tensor,
        sample: torch.Tensor,
        generator: Any = None,
        return_dict: bool = True,
    ) -> Any:
        """Correct the step before by the new prediction, with the noise it had, and take the next one.

        Parameters
        ----------
        model_output, sample : Tensor, shape (samples, ...)
            The prediction, of ``prediction_type``, and the state it was made at.
        timestep : int or Tensor
            One of ``timesteps``; the scheduler counts its steps.
        generator : torch.Generator or list of them, optional
            Where the seed of the run is drawn, unless the scheduler has ``seeds``.
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
        k = self._begun(timestep)
        out = self.convert_model_output(model_output, sample=sample)
        past = [one for one in self.model_outputs[::-1] if one is not None]
        if k > 0 and self.last_sample is not None:
            order, tau = self.this_corrector_order, float(self.tau_func(self.timestep_list[-1]))
            weights = self._cached(self.sigmas, (k, order, tau, True), lambda: self._corrector(k, order, tau))
            sample = combined(self.last_sample, [out, *past], weights, self.last_noise).to(sample.dtype)
        self.model_outputs = [*self.model_outputs[1:], out]
        self.timestep_list = [*self.timestep_list[1:], timestep]
        ahead, behind, left = self.config.predictor_order, self.config.corrector_order, len(self.timesteps) - k
        if self.config.lower_order_final:
            ahead, behind = min(ahead, left), min(behind, left + 1)
        self.this_predictor_order = order = min(ahead, self.lower_order_nums + 1)
        self.this_corrector_order = min(behind, self.lower_order_nums + 2)
        tau = float(self.tau_func(timestep))
        weights = self._cached(self.sigmas, (k, order, tau, False), lambda: self._predictor(k, order, tau))
        self.last_sample, self.last_noise = sample, self._noise(weights[2], None, generator, k)
        after = combined(sample, [out, *past], weights, self.last_noise).to(sample.dtype)
        most = max(self.config.predictor_order, self.config.corrector_order - 1)
        self.lower_order_nums = min(self.lower_order_nums + 1, most)
        self._step_index += 1
        return SchedulerOutput(prev_sample=after) if return_dict else (after,)

    def _predictor(self, k: int, order: int, tau: float) -> Weights:
        end, *nodes = self._levels(k, order)
        return adams_weights(self._kind(), nodes[0], end, nodes, tau=tau, slope=self._slope())

    def _corrector(self, k: int, order: int, tau: float) -> Weights:
        nodes = self._levels(k - 1, max(order - 1, 1))
        return adams_weights(self._kind(), nodes[1], nodes[0], nodes[:order], tau=tau, slope=self._slope())

    def _kind(self) -> Any:
        return "x0" if self.predict_x0 else "epsilon"

    def _slope(self) -> Slope:
        return "linear" if self.predict_x0 else "exact"


def dpm_weights(algorithm: str, solver: str, end: Level, past: list[Level]) -> Weights:
    """Weights of one step of DPM-Solver (Lu et al. 2022, arXiv 2206.00927 and 2211.01095), of order len(past).

    Parameters
    ----------
    algorithm : {"dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++"}
        Of which prediction, eps or x0 ("++"), and of which equation.
    solver : {"midpoint", "heun"}
        Of the second order; the third has one form.
    end : (alpha, sigma)
        Where the step leads.
    past : list of (alpha, sigma)
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
