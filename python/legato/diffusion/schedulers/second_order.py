"""Heun's method, which evaluates the model twice a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import diffusers
from diffusers.schedulers import scheduling_heun_discrete

from legato._turns import one_at_a_time
from legato.diffusion.schedulers.run import Run, alike, fused, seen_in_sigma

if TYPE_CHECKING:
    import torch


class HeunDiscreteScheduler(Run, diffusers.HeunDiscreteScheduler):  # type: ignore[misc]
    """diffusers' HeunDiscreteScheduler; `step` is Legato's. The state is x0 + sigma eps."""

    sample: Any  # where the first half of a step began, what it gave, and its length; None between steps
    prev_derivative: Any
    dt: Any

    @one_at_a_time
    def step(
        self, model_output: torch.Tensor, timestep: float | torch.Tensor, sample: torch.Tensor, return_dict: bool = True
    ) -> Any:
        """Take half a step: Euler's first, then the mean of both slopes.

        Parameters
        ----------
        model_output, sample : Tensor, shape (samples, ...)
            The prediction, of ``prediction_type``, and the state it was made at.
        timestep : float or Tensor
            One of ``timesteps``; the scheduler counts its steps.
        return_dict : bool
            Whether to return diffusers' output or a tuple.

        Returns
        -------
        HeunDiscreteSchedulerOutput or tuple
            The next state, and x0 as predicted.

        Raises
        ------
        ArgumentError
            The timestep is not one of this run's.
        """
        k = self._counted(timestep)
        first = self.state_in_first_order
        sigma, sigma1 = (self._numbers(self.sigmas)[k + i] for i in ((0, 1) if first else (-1, 0)))
        at = sigma if first else sigma1
        x, out = alike(sample, model_output)
        p, q, _, _ = seen_in_sigma(self.config.prediction_type, at)
        x0 = self._bounded(fused(x, out, (p, q, 0.0)))
        if first:
            after = fused(x, x0, (sigma1 / sigma, 1.0 - sigma1 / sigma, 0.0))
            self.sample, self.prev_derivative, self.dt = x, after, sigma1 - sigma  # Euler's state stands for the slope
        else:
            half = 0.5 * self.dt / sigma1
            middle = fused(self.sample, self.prev_derivative, (0.5, 0.5, 0.0))
            after = fused(x, x0, (half, -half, 0.0), second=middle, weight=1.0)
            self.sample = self.prev_derivative = self.dt = None
        self._step_index += 1
        if not return_dict:
            return after, x0
        return scheduling_heun_discrete.HeunDiscreteSchedulerOutput(prev_sample=after, pred_original_sample=x0)
