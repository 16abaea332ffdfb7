"""Multistep solvers, which look back at what the model predicted before."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import diffusers
from diffusers.schedulers.scheduling_utils import SchedulerOutput

from legato._turns import one_at_a_time
from legato.diffusion.schedulers.run import Run, alike, fused
from legato.errors import ArgumentError

if TYPE_CHECKING:
    import torch

Level = tuple[float, float]
Weights = tuple[float, tuple[float, ...], float]  # of x, of the predictions from the last one back, of the noise


class DPMSolverMultistepScheduler(Run, diffusers.DPMSolverMultistepScheduler):  # type: ignore[misc]
    """diffusers' DPMSolverMultistepScheduler, of every algorithm, order and spacing; `step` is Legato's."""

    model_outputs: list[Any]  # of the last steps, oldest first
    lower_order_nums: int

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
        if self.num_inference_steps is None:
            raise ArgumentError("scheduler: call set_timesteps() first")
        if self.step_index is None:
            self._init_step_index(timestep)
        k = self._counted(timestep)
        out = self.convert_model_output(model_output, sample=sample)
        self.model_outputs = [*self.model_outputs[1:], out]
        order = self._order(k)
        on_x, weights, w = self._cached(self.sigmas, (k, order), lambda: self._weights(k, order))
        self.lower_order_nums = min(self.lower_order_nums + 1, self.config.solver_order)
        noise = self._noise(w, variance_noise, generator, k)
        x, out = alike(sample, out)
        past = self.model_outputs[-2] if len(weights) > 1 else None
        after = fused(x, out, (on_x, weights[0], w), second=past, weight=(*weights, 0.0)[1], **noise)
        if len(weights) > 2:
            after = after.add(self.model_outputs[-3], alpha=weights[2])
        after = after.to(self.model_outputs[-1].dtype)
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
        levels = [self._level(float(self.sigmas[i])) for i in range(k + 1, k - order, -1)]
        steps = [math.inf if one[1] == 0 else _log_snr(*one) for one in levels]
        while order > 1 and (steps[order - 1] == steps[order] or steps[0] == steps[1]):
            order -= 1  # two levels are the same one: no slope can be had from them
        return dpm_weights(self.config.algorithm_type, self.config.solver_type, levels[: order + 1], steps[: order + 1])

    def _level(self, sigma: float) -> Level:
        if self.config.use_flow_sigmas:
            return 1.0 - sigma, sigma
        alpha = 1.0 / (sigma * sigma + 1.0) ** 0.5
        return alpha, sigma * alpha


def _log_snr(alpha: float, sigma: float) -> float:
    return math.log(alpha / sigma) if alpha > 0 else -math.inf


def dpm_weights(algorithm: str, solver: str, levels: list[Level], steps: list[float]) -> Weights:
    """Weights of one step of DPM-Solver (Lu et al. 2022, arXiv 2206.00927 and 2211.01095), of order len(levels) - 1.

    Parameters
    ----------
    algorithm : {"dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++"}
        Of which prediction, eps or x0 ("++"), and of which equation.
    solver : {"midpoint", "heun"}
        Of the second order; the third has one form.
    levels : list of (alpha, sigma)
        Where the step leads, where it starts, and where the steps before started.
    steps : list of float
        log(alpha / sigma) of these.

    Returns
    -------
    on_x, (on the last prediction, on the one before, ...), on_noise
    """
    (alpha, sigma), (alpha0, sigma0) = levels[:2]
    h = steps[0] - steps[1]
    if algorithm == "dpmsolver++":
        on_x, scale, phi, w = sigma / sigma0, alpha, -math.expm1(-h), 0.0
        rate = -h
    elif algorithm == "dpmsolver":
        on_x, scale, phi, w = alpha / alpha0, -sigma, math.expm1(h), 0.0
        rate = h
    elif algorithm == "sde-dpmsolver++":
        spread = -math.expm1(-2.0 * h)
        on_x, scale, phi, w = sigma / sigma0 * math.exp(-h), alpha, spread, sigma * spread**0.5
        rate = -2.0 * h
    else:
        on_x, scale, phi, w = alpha / alpha0, -2.0 * sigma, math.expm1(h), sigma * math.expm1(2.0 * h) ** 0.5
        rate = h
    if len(levels) == 2:
        return on_x, (scale * phi,), w
    first = scale * (phi / rate + 1.0 if rate < 0 else phi / rate - 1.0)  # of the first difference, to all orders
    h0 = steps[1] - steps[2]
    if len(levels) == 3:
        slope = (0.5 * scale * phi if solver == "midpoint" else first) * h / h0
        return on_x, (scale * phi + slope, -slope), w
    h1 = steps[2] - steps[3]
    # diffusers takes the half off for "sde-dpmsolver++", too, which costs it the third order; the same numbers here
    half = 0.5 if algorithm == "dpmsolver++" else -0.5
    second = scale * ((phi - abs(rate)) / rate**2 + half)
    # D1 = (1 + u) d0 - u d1 and D2 = (d0 - d1) h / (h0 + h1), where d_i are the slopes in units of h
    u, over = h0 / (h0 + h1), h / (h0 + h1)
    on_d0, on_d1 = first * (1.0 + u) + second * over, -first * u - second * over
    a, b = on_d0 * h / h0, on_d1 * h / h1
    return on_x, (scale * phi + a, b - a, -b), w
