"""Schedulers of first order: DDIM and its inversion, DDPM, Euler ancestral, Euler, and Euler of a flow."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import diffusers
from diffusers.schedulers import (
    scheduling_ddim,
    scheduling_ddim_inverse,
    scheduling_ddpm,
    scheduling_euler_ancestral_discrete,
    scheduling_euler_discrete,
)
from diffusers.schedulers import scheduling_flow_match_euler_discrete as scheduling_flow

from legato._scalars import as_number
from legato._turns import one_at_a_time
from legato.diffusion.multistep import Level
from legato.diffusion.schedulers.run import (
    Row,
    Run,
    Seen,
    alike,
    fused,
    in_type,
    refuse_numbers_of_steps,
    seen_at,
    seen_in_sigma,
)
from legato.errors import ArgumentError

if TYPE_CHECKING:
    import torch


class DDIMScheduler(Run, diffusers.DDIMScheduler):  # type: ignore[misc]
    """diffusers' DDIMScheduler; `step` is Legato's."""

    @one_at_a_time
    def step(
        self,
        model_output: torch.Tensor,
        timestep: int,
        sample: torch.Tensor,
        eta: float = 0.0,
        use_clipped_model_output: bool = False,
        generator: Any = None,
        variance_noise: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> Any:
        """Take one step.

        Parameters
        ----------
        model_output, sample : Tensor, shape (samples, ...)
            The prediction, of ``prediction_type``, and the state it was made at.
        timestep : int
            A trained one; it need not be on the list of the run.
        eta : float
            0 is DDIM, 1 has the variance of DDPM.
        use_clipped_model_output : bool
            Whether eps is that of the clipped x0.
        generator : torch.Generator or list of them, optional
            Where the seed of the run is drawn, unless the scheduler has ``seeds``.
        variance_noise : Tensor, optional
            Noise to use instead.
        return_dict : bool
            Whether to return diffusers' output or a tuple.

        Returns
        -------
        DDIMSchedulerOutput or tuple
            The next state, and x0 as predicted.

        Raises
        ------
        ArgumentError
            Before ``set_timesteps``; a timestep that is not trained; eta outside 0 to 1.
        """
        if self.num_inference_steps is None:
            raise ArgumentError("scheduler: call set_timesteps() first")
        t, eta = self._trained(timestep), as_number("eta", eta, least=0, most=1)
        seen, level, row = self._cached(self.alphas_cumprod, (t, eta), lambda: self._row(t, eta))
        noise = self._noise(row[3], variance_noise, generator, self._noise_place(t))
        after, x0 = self._mixed(
            *alike(sample, model_output), seen, level, row, noise, eps_of_bounded=use_clipped_model_output
        )
        if not return_dict:
            return after, x0
        return scheduling_ddim.DDIMSchedulerOutput(prev_sample=after, pred_original_sample=x0)

    def _row(self, t: int, eta: float) -> tuple[Seen, Level, Row]:
        before = t - self.config.num_train_timesteps // self.num_inference_steps
        square = self._numbers(self.alphas_cumprod)[t]
        square1 = float(self.alphas_cumprod[before] if before >= 0 else self.final_alpha_cumprod)
        alpha, sigma = square**0.5, (1.0 - square) ** 0.5
        variance = max((1.0 - square1) / (1.0 - square) * (1.0 - square / square1), 0.0)
        w = eta * variance**0.5
        row = 0.0, square1**0.5, max(1.0 - square1 - w * w, 0.0) ** 0.5, w
        return seen_at(self.config.prediction_type, alpha, sigma), (alpha, sigma), row


class DDPMScheduler(Run, diffusers.DDPMScheduler):  # type: ignore[misc]
    """diffusers' DDPMScheduler, of every variance type; `step` is Legato's."""

    @one_at_a_time
    def step(
        self,
        model_output: torch.Tensor,
        timestep: int,
        sample: torch.Tensor,
        generator: Any = None,
        return_dict: bool = True,
        *,
        variance_noise: torch.Tensor | None = None,
    ) -> Any:
        """Take one ancestral step.

        Parameters
        ----------
        model_output, sample : Tensor, shape (samples, ...)
            The prediction, of ``prediction_type``, and the state it was made at. Where the variance is learned, the
            prediction has twice the channels.
        timestep : int
            A trained one. Off the list of the run, the step leads to the next lower one on it.
        generator : torch.Generator or list of them, optional
            Where the seed of the run is drawn, unless the scheduler has ``seeds``.
        return_dict : bool
            Whether to return diffusers' output or a tuple.
        variance_noise : Tensor, optional
            Noise to use instead.

        Returns
        -------
        DDPMSchedulerOutput or tuple
            The next state, and x0 as predicted.

        Raises
        ------
        ArgumentError
            A timestep that is not trained; a learned variance that the prediction does not have.
        """
        import torch

        t = self._trained(timestep)
        kind = self.variance_type
        learned = None
        if kind in ("learned", "learned_range"):
            if model_output.shape[1] != 2 * sample.shape[1]:
                raise ArgumentError(f"model_output: expected twice {sample.shape[1]} channels, for {kind!r} variance")
            model_output, learned = torch.split(model_output, sample.shape[1], dim=1)
        seen, level, row, logs = self._cached(self.alphas_cumprod, (t, kind), lambda: self._row(t, kind))
        x, out = alike(sample, model_output)
        noise = self._noise(row[3], variance_noise, generator, self._noise_place(t))
        if learned is not None and row[3]:
            z = self._drawn_noise(x, noise)
            if kind == "learned":
                spread = learned**0.5
            else:
                part = (learned + 1) / 2
                spread = torch.exp(0.5 * (part * logs[1] + (1 - part) * logs[0]))
            noise = {"noise": (spread * z).to(x.dtype)}
        after, x0 = self._mixed(x, out, seen, level, row, noise)
        if not return_dict:
            return after, x0
        return scheduling_ddpm.DDPMSchedulerOutput(prev_sample=after, pred_original_sample=x0)

    def _drawn_noise(self, x: torch.Tensor, noise: dict[str, Any]) -> torch.Tensor:
        """Return the noise itself."""
        if noise.get("noise") is not None:
            return noise["noise"]
        zero = x.detach().new_zeros(x.shape)
        return fused(zero, zero, (0.0, 0.0, 1.0), **noise)

    def previous_timestep(self, timestep: Any) -> Any:
        """Return the timestep that a step leads to, -1 for none."""
        if not (self.custom_timesteps or self.num_inference_steps):
            return timestep - 1
        lower = self.timesteps[self.timesteps < int(timestep)]
        return lower[0] if len(lower) else self.timesteps.new_tensor(-1)

    def _row(self, t: int, kind: str) -> tuple[Seen, Level, Row, Level]:
        before = int(self.previous_timestep(t))
        square = self._numbers(self.alphas_cumprod)[t]
        square1 = self._numbers(self.alphas_cumprod)[before] if before >= 0 else 1.0
        beta = 1.0 - square / square1
        alpha, sigma = square**0.5, (1.0 - square) ** 0.5
        posterior = max((1.0 - square1) / (1.0 - square) * beta, 1e-20)
        w = 0.0
        if t > 0:  # the last step of a full run draws nothing
            w = {"fixed_large": beta**0.5, "fixed_large_log": beta**0.5, "learned": 1.0, "learned_range": 1.0}.get(
                kind, posterior**0.5
            )
        row = (1.0 - beta) ** 0.5 * (1.0 - square1) / (1.0 - square), square1**0.5 * beta / (1.0 - square), 0.0, w
        logs = math.log(posterior), math.log(max(beta, 1e-20))
        return seen_at(self.config.prediction_type, alpha, sigma), (alpha, sigma), row, logs


class EulerAncestralDiscreteScheduler(Run, diffusers.EulerAncestralDiscreteScheduler):  # type: ignore[misc]
    """diffusers' EulerAncestralDiscreteScheduler; `step` is Legato's. The state is x0 + sigma eps."""

    @one_at_a_time
    def step(
        self,
        model_output: torch.Tensor,
        timestep: float | torch.Tensor,
        sample: torch.Tensor,
        generator: Any = None,
        return_dict: bool = True,
        *,
        variance_noise: torch.Tensor | None = None,
    ) -> Any:
        """Take one ancestral Euler step.

        Parameters
        ----------
        model_output, sample : Tensor, shape (samples, ...)
            The prediction, of ``prediction_type``, and the state it was made at.
        timestep : float or Tensor
            One of ``timesteps``, not a number of a step; the scheduler counts its steps.
        generator : torch.Generator or list of them, optional
            Where the seed of the run is drawn, unless the scheduler has ``seeds``.
        return_dict : bool
            Whether to return diffusers' output or a tuple.
        variance_noise : Tensor, optional
            Noise to use instead.

        Returns
        -------
        EulerAncestralDiscreteSchedulerOutput or tuple
            The next state, and x0 as predicted.

        Raises
        ------
        ArgumentError
            The timestep is not one of this run's.
        """
        refuse_numbers_of_steps(timestep)
        k = self._counted(timestep)
        seen, level, row = self._cached(self.sigmas, k, lambda: self._row(k))
        noise = self._noise(row[3], variance_noise, generator, k)
        after, x0 = self._mixed(*alike(sample, model_output), seen, level, row, noise)
        after = in_type(after, model_output.dtype)
        self._step_index += 1
        if not return_dict:
            return after, x0
        return scheduling_euler_ancestral_discrete.EulerAncestralDiscreteSchedulerOutput(
            prev_sample=after, pred_original_sample=x0
        )

    def _row(self, k: int) -> tuple[Seen, Level, Row]:
        sigma, sigma1 = self._numbers(self.sigmas)[k], self._numbers(self.sigmas)[k + 1]
        up = (sigma1**2 * (sigma**2 - sigma1**2) / sigma**2) ** 0.5
        down = max(sigma1**2 - up**2, 0.0) ** 0.5
        return seen_in_sigma(self.config.prediction_type, sigma), (1.0, sigma), (0.0, 1.0, down, up)


class DDIMInverseScheduler(Run, diffusers.DDIMInverseScheduler):  # type: ignore[misc]
    """diffusers' DDIMInverseScheduler: DDIM from the image to the noise; `step` is Legato's."""

    @one_at_a_time
    def step(self, model_output: torch.Tensor, timestep: int, sample: torch.Tensor, return_dict: bool = True) -> Any:
        """Take one step toward the noise.

        Parameters
        ----------
        model_output, sample : Tensor, shape (samples, ...)
            The prediction, of ``prediction_type``, at the timestep; the state one stride before it.
        timestep : int
            One of ``timesteps``: where the step leads.
        return_dict : bool
            Whether to return diffusers' output or a tuple.

        Returns
        -------
        DDIMSchedulerOutput or tuple
            The next state, and x0 as predicted.

        Raises
        ------
        ArgumentError
            Before ``set_timesteps``; a timestep that is not trained.
        """
        if self.num_inference_steps is None:
            raise ArgumentError("scheduler: call set_timesteps() first")
        t = self._trained(timestep)
        seen, level, row = self._cached(self.alphas_cumprod, t, lambda: self._row(t))
        after, x0 = self._mixed(*alike(sample, model_output), seen, level, row, {})
        if not return_dict:
            return after, x0
        return scheduling_ddim_inverse.DDIMSchedulerOutput(prev_sample=after, pred_original_sample=x0)

    def _row(self, t: int) -> tuple[Seen, Level, Row]:
        trained = self.config.num_train_timesteps
        before = min(t - trained // self.num_inference_steps, trained - 1)
        square = float(self.alphas_cumprod[before] if before >= 0 else self.initial_alpha_cumprod)
        square1 = self._numbers(self.alphas_cumprod)[t]
        alpha, sigma = square**0.5, (1.0 - square) ** 0.5
        row = 0.0, square1**0.5, (1.0 - square1) ** 0.5, 0.0
        return seen_at(self.config.prediction_type, alpha, sigma), (alpha, sigma), row


class EulerDiscreteScheduler(Run, diffusers.EulerDiscreteScheduler):  # type: ignore[misc]
    """diffusers' EulerDiscreteScheduler; `step` is Legato's. The state is x0 + sigma eps."""

    @one_at_a_time
    def step(
        self,
        model_output: torch.Tensor,
        timestep: float | torch.Tensor,
        sample: torch.Tensor,
        s_churn: float = 0.0,
        s_tmin: float = 0.0,
        s_tmax: float = math.inf,
        s_noise: float = 1.0,
        generator: Any = None,
        return_dict: bool = True,
    ) -> Any:
        """Take one Euler step.

        Parameters
        ----------
        model_output, sample : Tensor, shape (samples, ...)
            The prediction, of ``prediction_type``, and the state it was made at.
        timestep : float or Tensor
            One of ``timesteps``, not a number of a step; the scheduler counts its steps.
        s_churn, s_tmin, s_tmax, s_noise : float
            How much noise a step begins with (Karras et al. 2022, algorithm 2), between which sigmas, and times what.
        generator : torch.Generator or list of them, optional
            With churn: where the seed of the run is drawn, unless the scheduler has ``seeds``.
        return_dict : bool
            Whether to return diffusers' output or a tuple.

        Returns
        -------
        EulerDiscreteSchedulerOutput or tuple
            The next state, and x0 as predicted.

        Raises
        ------
        ArgumentError
            The timestep is not one of this run's.
        """
        import torch

        refuse_numbers_of_steps(timestep)
        k = self._counted(timestep)
        churn = float(s_churn) if s_churn and s_tmin <= self._numbers(self.sigmas)[k] <= s_tmax else 0.0
        seen, level, row = self._cached(self.sigmas, (k, churn), lambda: self._row(k, churn))
        x, out = alike(sample.to(torch.float32) if sample.dtype != torch.float64 else sample, model_output)
        if churn:
            sigma = self._numbers(self.sigmas)[k]
            added = s_noise * (level[1] ** 2 - sigma**2) ** 0.5
            x = fused(x, x, (1.0, 0.0, added), **self._noise(added, None, generator, k))
        after, x0 = self._mixed(x, out, seen, level, row, {})
        after = in_type(after, model_output.dtype)
        self._step_index += 1
        if not return_dict:
            return after, x0
        return scheduling_euler_discrete.EulerDiscreteSchedulerOutput(prev_sample=after, pred_original_sample=x0)

    def _row(self, k: int, churn: float) -> tuple[Seen, Level, Row]:
        sigma, sigma1 = self._numbers(self.sigmas)[k], self._numbers(self.sigmas)[k + 1]
        raised = sigma * (1.0 + min(churn / (len(self.sigmas) - 1), 2**0.5 - 1.0))
        kind = self.config.prediction_type
        p, q, r, u = seen_in_sigma(kind, sigma if kind == "v_prediction" else raised)
        if raised != sigma:
            r, u = (1.0 - p) / raised, -q / raised
        return (p, q, r, u), (1.0, raised), (0.0, 1.0, sigma1, 0.0)


class FlowMatchEulerDiscreteScheduler(Run, diffusers.FlowMatchEulerDiscreteScheduler):  # type: ignore[misc]
    """diffusers' FlowMatchEulerDiscreteScheduler; `step` is Legato's. The model predicts eps - x0."""

    @one_at_a_time
    def step(
        self,
        model_output: torch.Tensor,
        timestep: float | torch.Tensor,
        sample: torch.Tensor,
        s_churn: float = 0.0,
        s_tmin: float = 0.0,
        s_tmax: float = math.inf,
        s_noise: float = 1.0,
        generator: Any = None,
        per_token_timesteps: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> Any:
        """Take one Euler step of the flow.

        Parameters
        ----------
        model_output, sample : Tensor, shape (samples, ...)
            The prediction (the velocity) and the state it was made at.
        timestep : float or Tensor
            One of ``timesteps``, not a number of a step; the scheduler counts its steps.
        s_churn, s_tmin, s_tmax, s_noise : float
            Not used, here as there.
        generator : torch.Generator or list of them, optional
            With ``stochastic_sampling``: where the seed of the run is drawn, unless the scheduler has ``seeds``.
        per_token_timesteps : Tensor, optional
            Levels of single tokens; such a step is diffusers' own.
        return_dict : bool
            Whether to return diffusers' output or a tuple.

        Returns
        -------
        FlowMatchEulerDiscreteSchedulerOutput or tuple
            The next state.

        Raises
        ------
        ArgumentError
            The timestep is not one of this run's.
        """
        refuse_numbers_of_steps(timestep)
        if per_token_timesteps is not None:
            return super().step(
                model_output, timestep, sample, s_churn, s_tmin, s_tmax, s_noise, generator, per_token_timesteps,
                return_dict,
            )  # fmt: skip
        k = self._counted(timestep)
        coef = self._cached(self.sigmas, None, self._table)[k]
        noise = self._noise(coef[2], None, generator, k) if coef[2] else {}
        after = in_type(fused(*alike(sample, model_output), coef, **noise), model_output.dtype)
        self._step_index += 1
        return scheduling_flow.FlowMatchEulerDiscreteSchedulerOutput(prev_sample=after) if return_dict else (after,)

    def _table(self) -> list[tuple[float, float, float]]:
        pairs = itertools.pairwise(self._numbers(self.sigmas))
        if self.config.stochastic_sampling:  # to x0, and noise anew
            return [(1.0 - sigma1, -(1.0 - sigma1) * sigma, sigma1) for sigma, sigma1 in pairs]
        return [(1.0, sigma1 - sigma, 0.0) for sigma, sigma1 in pairs]
