"""Schedulers of consistency models: latent consistency (LCM) and trajectory consistency (TCD)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import diffusers
from diffusers.schedulers import scheduling_lcm, scheduling_tcd

from legato._scalars import as_number
from legato._turns import one_at_a_time
from legato.diffusion.multistep import Level
from legato.diffusion.schedulers.run import Row, Run, Seen, alike, fused, seen_at
from legato.errors import ArgumentError

if TYPE_CHECKING:
    import torch


class LCMScheduler(Run, diffusers.LCMScheduler):  # type: ignore[misc]
    """diffusers' LCMScheduler; `step` is Legato's."""

    @one_at_a_time
    def step(
        self,
        model_output: torch.Tensor,
        timestep: int | torch.Tensor,
        sample: torch.Tensor,
        generator: Any = None,
        return_dict: bool = True,
    ) -> Any:
        """Take one step: to the model's x0, and back to the next level by fresh noise.

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
        LCMSchedulerOutput or tuple
            The next state, and x0 as denoised by the boundary condition.

        Raises
        ------
        ArgumentError
            Before ``set_timesteps``; more steps than the run has.
        """
        if self.num_inference_steps is None:
            raise ArgumentError("scheduler: call set_timesteps() first")
        k, t = self._counted(timestep), self._trained(timestep)
        (p, q, _, _), kept, taken, (alpha, sigma) = self._cached(self.alphas_cumprod, (k, t), lambda: self._row(k, t))
        x, out = alike(sample, model_output)
        x0 = fused(x, out, (p, q, 0.0))
        denoised = fused(x, self._bounded(x0), (kept, taken, 0.0))
        after = denoised
        if k != self.num_inference_steps - 1:
            after = fused(denoised, denoised, (alpha, 0.0, sigma), **self._noise(sigma, None, generator, k))
        self._step_index += 1
        if not return_dict:
            return after, denoised
        return scheduling_lcm.LCMSchedulerOutput(prev_sample=after, denoised=denoised)

    def _row(self, k: int, t: int) -> tuple[Seen, float, float, Level]:
        square, square1 = (self._numbers(self.alphas_cumprod)[i] for i in (t, _next_timestep(self, k, t)))
        kept, taken = (float(one) for one in self.get_scalings_for_boundary_condition_discrete(t))
        seen = seen_at(self.config.prediction_type, square**0.5, (1.0 - square) ** 0.5)
        return seen, kept, taken, (square1**0.5, (1.0 - square1) ** 0.5)


class TCDScheduler(Run, diffusers.TCDScheduler):  # type: ignore[misc]
    """diffusers' TCDScheduler; `step` is Legato's."""

    @one_at_a_time
    def step(
        self,
        model_output: torch.Tensor,
        timestep: int | torch.Tensor,
        sample: torch.Tensor,
        eta: float = 0.3,
        generator: Any = None,
        return_dict: bool = True,
    ) -> Any:
        """Take one step: down the trajectory beyond the next level, and back to it by fresh noise.

        Parameters
        ----------
        model_output, sample : Tensor, shape (samples, ...)
            The prediction, of ``prediction_type``, and the state it was made at.
        timestep : int or Tensor
            One of ``timesteps``; the scheduler counts its steps.
        eta : float
            gamma of the paper: 0 adds no noise, 1 goes all the way to x0.
        generator : torch.Generator or list of them, optional
            Where the seed of the run is drawn, unless the scheduler has ``seeds``.
        return_dict : bool
            Whether to return diffusers' output or a tuple.

        Returns
        -------
        TCDSchedulerOutput or tuple
            The next state, and what it was before noise was added.

        Raises
        ------
        ArgumentError
            Before ``set_timesteps``; more steps than the run has; eta outside 0 to 1.
        """
        if self.num_inference_steps is None:
            raise ArgumentError("scheduler: call set_timesteps() first")
        k, t, eta = self._counted(timestep), self._trained(timestep), as_number("eta", eta, least=0, most=1)
        seen, level, row, (grow, w) = self._cached(self.alphas_cumprod, (k, t, eta), lambda: self._row(k, t, eta))
        noised, _ = self._mixed(*alike(sample, model_output), seen, level, row, {})
        after = noised
        if eta > 0 and k != self.num_inference_steps - 1:
            after = fused(noised, noised, (grow, 0.0, w), **self._noise(w, None, generator, k))
        self._step_index += 1
        if not return_dict:
            return after, noised
        return scheduling_tcd.TCDSchedulerOutput(prev_sample=after, pred_noised_sample=noised)

    def _row(self, k: int, t: int, eta: float) -> tuple[Seen, Level, Row, tuple[float, float]]:
        t1 = _next_timestep(self, k, 0)
        square, square1, below = (self._numbers(self.alphas_cumprod)[i] for i in (t, t1, int((1.0 - eta) * t1)))
        level = square**0.5, (1.0 - square) ** 0.5
        row = 0.0, below**0.5, (1.0 - below) ** 0.5, 0.0
        grow = square1 / below
        return seen_at(self.config.prediction_type, *level), level, row, (grow**0.5, max(1.0 - grow, 0.0) ** 0.5)

    def _bounded(self, x0: torch.Tensor) -> torch.Tensor:
        """Return x0: this scheduler's fields of clipping have no effect, there as here."""
        return x0


def _next_timestep(scheduler: Any, k: int, last: int) -> int:
    return int(scheduler.timesteps[k + 1]) if k + 1 < len(scheduler.timesteps) else last
