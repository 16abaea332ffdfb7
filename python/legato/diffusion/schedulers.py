"""Schedulers with the interface of diffusers, on Legato's fused step: drop-in for an unmodified pipeline on CPU.

They speak torch because pipelines do; torch is imported where it is needed. Unlike their models they draw noise that
depends on (seed, step, element) alone: pass ``seeds=`` to the constructor, or a ``generator`` whose initial seed then
counts (one a sample where it is a list).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from legato._arrays import Float64
from legato.diffusion.noise import Seeds
from legato.diffusion.schedules import Schedule
from legato.diffusion.steps import apply_step, step_coefficients
from legato.errors import ArgumentError

__all__ = [
    "DDIMScheduler",
    "DDPMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerAncestralDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "SchedulerOutput",
]

_KINDS = {"epsilon": "epsilon", "sample": "x0", "v_prediction": "v"}


class _Config(dict[str, Any]):
    """A dictionary whose entries are attributes too, as pipelines expect."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


@dataclass
class SchedulerOutput:
    """Result of ``step``: the next state, and x0 as predicted in this step."""

    prev_sample: Any
    pred_original_sample: Any = None

    def __iter__(self) -> Iterator[Any]:
        """Iterate like the tuple that ``return_dict=False`` gives."""
        return iter((self.prev_sample, self.pred_original_sample))

    def __getitem__(self, index: int) -> Any:
        return (self.prev_sample, self.pred_original_sample)[index]


class _Scheduler:
    """What the schedulers share: the trained levels, the timesteps of a run, and the fused step."""

    order = 1
    init_noise_sigma: Any = 1.0
    _sampler = "ddim"

    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        prediction_type: str = "epsilon",
        timestep_spacing: str = "leading",
        steps_offset: int = 0,
        set_alpha_to_one: bool = True,
        rescale_betas_zero_snr: bool = False,
        seeds: Seeds | None = None,
        **others: Any,
    ) -> None:
        if prediction_type not in _KINDS:
            raise ArgumentError(f"prediction_type: expected one of {', '.join(_KINDS)}, got {prediction_type!r}")
        self.alphas_cumprod_float64 = _alphas_cumprod(beta_schedule, beta_start, beta_end, num_train_timesteps)
        if rescale_betas_zero_snr:
            root = np.sqrt(self.alphas_cumprod_float64)
            root = (root - root[-1]) * root[0] / (root[0] - root[-1])
            self.alphas_cumprod_float64 = root**2
        self.config = _Config(
            num_train_timesteps=num_train_timesteps,
            beta_start=beta_start,
            beta_end=beta_end,
            beta_schedule=beta_schedule,
            prediction_type=prediction_type,
            timestep_spacing=timestep_spacing,
            steps_offset=steps_offset,
            set_alpha_to_one=set_alpha_to_one,
            rescale_betas_zero_snr=rescale_betas_zero_snr,
            clip_sample=False,
            **others,
        )
        self.seeds = seeds
        self.num_inference_steps: int | None = None
        self.timesteps: Any = np.arange(num_train_timesteps)[::-1]  # until set_timesteps()
        self._schedule: Schedule | None = None
        self._index: dict[float, int] = {}
        self._tables: dict[float, Float64] = {}
        if timestep_spacing not in ("leading", "trailing", "linspace"):
            raise ArgumentError(f"timestep_spacing: expected leading, trailing or linspace, got {timestep_spacing!r}")

    @property
    def alphas_cumprod(self) -> Any:
        """alpha^2 of the trained levels, least noise first, as a torch tensor."""
        import torch

        return torch.from_numpy(self.alphas_cumprod_float64.astype(np.float32))

    @property
    def schedule(self) -> Schedule:
        """The levels of the run."""
        if self._schedule is None:
            raise ArgumentError("scheduler: call set_timesteps() first")
        return self._schedule

    @classmethod
    def from_config(cls, config: Any, **overrides: Any) -> Any:
        """Make a scheduler from the config of another, diffusers' or Legato's."""
        known = {key: value for key, value in dict(config).items() if not key.startswith("_")}
        known.pop("clip_sample", None)
        return cls(**{**known, **overrides})

    def __len__(self) -> int:
        """Return the number of trained levels."""
        return int(self.config.num_train_timesteps)

    def scale_model_input(self, sample: Any, timestep: Any = None) -> Any:  # noqa: ARG002  (their signature)
        """Return the sample as the model wants it."""
        return sample

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        """Choose the timesteps of a run of `num_inference_steps` steps."""
        if device is not None and str(device) not in ("cpu", "meta"):
            raise ArgumentError(f"device: Legato's schedulers run on cpu, got {device}")
        trained = self.config.num_train_timesteps
        if not 1 <= num_inference_steps <= trained:
            raise ArgumentError(f"num_inference_steps: expected 1 to {trained}, got {num_inference_steps}")
        self.num_inference_steps = num_inference_steps
        time = self._spaced(num_inference_steps)
        squares = self.alphas_cumprod_float64
        last = 1.0 if self.config.set_alpha_to_one else squares[0]
        # DDIM and DDPM look one stride back from each timestep, which is where the next one is
        levels = np.append(np.interp(time, np.arange(trained), squares), last)
        self._install(Schedule(np.sqrt(levels), np.sqrt(1 - levels)), time)

    def _spaced(self, steps: int) -> Float64:
        trained, spacing = self.config.num_train_timesteps, self.config.timestep_spacing
        if spacing == "leading":
            times = (np.arange(steps) * (trained // steps)).round()[::-1] + self.config.steps_offset
            return np.asarray(times, np.float64)
        if spacing == "trailing":
            return np.asarray(np.round(np.arange(trained, 0, -trained / steps)) - 1.0, np.float64)
        return np.asarray(np.linspace(0, trained - 1, steps).round()[::-1], np.float64)

    def _install(self, schedule: Schedule, time: Float64) -> None:
        import torch

        self._schedule = schedule
        whole = bool((time == np.round(time)).all()) and not isinstance(self, FlowMatchEulerDiscreteScheduler)
        dtype = torch.int64 if whole else torch.float32
        self.timesteps = torch.tensor(time.copy(), dtype=dtype)
        self._index = {float(t): k for k, t in enumerate(self.timesteps.tolist())}
        self._tables = {}

    def _step_index(self, timestep: Any) -> int:
        index = self._index.get(float(timestep))
        if index is None:
            raise ArgumentError(f"timestep: {float(timestep)} is not one of this run's timesteps")
        return index

    def _table(self, eta: float, kind: str) -> Float64:
        if eta not in self._tables:
            options = {} if self._sampler in ("ddpm", "flow_euler") else {"eta": eta}
            self._tables[eta] = step_coefficients(self.schedule, self._sampler, prediction=kind, **options)
        return self._tables[eta]

    def _kind(self) -> str:
        return _KINDS[self.config.prediction_type]

    def _seeds(self, generator: Any) -> Seeds:
        if self.seeds is not None:
            return self.seeds
        if generator is None:
            return 0
        if isinstance(generator, list):
            return np.array([one.initial_seed() % 2**64 for one in generator], np.uint64)
        return int(generator.initial_seed()) % 2**64

    def _fused(
        self, model_output: Any, timestep: Any, sample: Any, eta: float, generator: Any, noise: Any, return_dict: bool
    ) -> Any:
        k = self._step_index(timestep)
        level = self.schedule.alpha[k], self.schedule.sigma[k]
        x, out = sample.contiguous(), model_output.contiguous().to(sample.dtype)
        kind = self._kind()
        import torch

        after = torch.empty_like(x)
        apply_step(
            x, out, self._table(eta, kind)[k], seeds=self._seeds(generator), step=k,
            noise=None if noise is None else noise.contiguous(), out=after,
        )  # fmt: skip
        if not return_dict:
            return (after, _x0(x, out, *level, kind))
        return SchedulerOutput(after, _x0(x, out, *level, kind))

    def add_noise(self, original_samples: Any, noise: Any, timesteps: Any) -> Any:
        """Return alpha x0 + sigma noise at trained timesteps, one a sample."""
        import torch

        squares = torch.from_numpy(self.alphas_cumprod_float64)[timesteps.to(torch.int64)]
        shape = (-1, *[1] * (original_samples.ndim - 1))
        alpha, sigma = (
            level.to(original_samples.dtype).reshape(shape) for level in (squares**0.5, (1 - squares) ** 0.5)
        )
        return alpha * original_samples + sigma * noise


class DDIMScheduler(_Scheduler):
    """diffusers' DDIMScheduler without clipping and thresholding."""

    def step(
        self,
        model_output: Any,
        timestep: Any,
        sample: Any,
        eta: float = 0.0,
        use_clipped_model_output: bool = False,
        generator: Any = None,
        variance_noise: Any = None,
        return_dict: bool = True,
    ) -> Any:
        """Take one step; `eta` 0 is DDIM, 1 has the variance of DDPM."""
        del use_clipped_model_output  # nothing is clipped
        return self._fused(model_output, timestep, sample, eta, generator, variance_noise, return_dict)


class DDPMScheduler(_Scheduler):
    """diffusers' DDPMScheduler with variance_type "fixed_small", without clipping and thresholding."""

    _sampler = "ddpm"

    def step(
        self, model_output: Any, timestep: Any, sample: Any, generator: Any = None, return_dict: bool = True,
        *, variance_noise: Any = None,
    ) -> Any:  # fmt: skip
        """Take one ancestral step."""
        return self._fused(model_output, timestep, sample, 1.0, generator, variance_noise, return_dict)


class EulerAncestralDiscreteScheduler(_Scheduler):
    """diffusers' EulerAncestralDiscreteScheduler: the state is x0 + sigma eps."""

    _sampler = "euler_ancestral"

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        """Choose the timesteps of a run; levels between trained ones are interpolated in sigma."""
        super().set_timesteps(num_inference_steps, device)
        time = self._spaced(num_inference_steps)
        if self.config.timestep_spacing == "linspace":
            time = np.linspace(0, self.config.num_train_timesteps - 1, num_inference_steps)[::-1]
        squares = self.alphas_cumprod_float64
        trained = np.sqrt((1 - squares) / squares)
        sigma = np.append(np.interp(time, np.arange(len(trained)), trained), 0.0)
        self._install(Schedule(np.ones(len(sigma)), sigma), time)
        spread = float(sigma[0])
        leading = self.config.timestep_spacing == "leading"
        self.init_noise_sigma = (spread**2 + 1) ** 0.5 if leading else spread

    def scale_model_input(self, sample: Any, timestep: Any = None) -> Any:
        """Return sample / sqrt(sigma^2 + 1), the variance-preserving state."""
        sigma = self.schedule.sigma[self._step_index(timestep)]
        return sample / (sigma**2 + 1) ** 0.5

    def step(
        self, model_output: Any, timestep: Any, sample: Any, generator: Any = None, return_dict: bool = True,
        *, variance_noise: Any = None,
    ) -> Any:  # fmt: skip
        """Take one ancestral Euler step."""
        if self.config.prediction_type == "v_prediction":  # v of the variance-preserving state, in terms of this one
            square = self.schedule.sigma[self._step_index(timestep)] ** 2
            model_output = sample / (square + 1) - model_output * (square / (square + 1)) ** 0.5
        return self._fused(model_output, timestep, sample, 1.0, generator, variance_noise, return_dict)

    def _kind(self) -> str:
        return "x0" if self.config.prediction_type == "v_prediction" else super()._kind()

    def add_noise(self, original_samples: Any, noise: Any, timesteps: Any) -> Any:
        """Return x0 + sigma noise at timesteps of the run, one a sample."""
        import torch

        sigma = torch.tensor(
            [self.schedule.sigma[self._step_index(t)] for t in timesteps], dtype=original_samples.dtype
        )
        return original_samples + sigma.reshape(-1, *[1] * (original_samples.ndim - 1)) * noise


class FlowMatchEulerDiscreteScheduler(_Scheduler):
    """diffusers' FlowMatchEulerDiscreteScheduler with a fixed shift: the model predicts eps - x0."""

    _sampler = "flow_euler"

    def __init__(self, num_train_timesteps: int = 1000, shift: float = 1.0, seeds: Seeds | None = None, **others: Any):
        super().__init__(num_train_timesteps, seeds=seeds, shift=shift, **others)

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        """Choose the timesteps of a run: sigma falls linearly before the shift."""
        super().set_timesteps(num_inference_steps, device)
        trained, shift = self.config.num_train_timesteps, self.config.shift

        def shifted(sigma: Float64) -> Float64:
            return np.asarray(shift * sigma / (1 + (shift - 1) * sigma), np.float64)

        ends = shifted(np.array([1.0, 1.0 / trained]))  # diffusers shifts the trained range, and then the run again
        sigma = np.append(shifted(np.linspace(ends[0], ends[1], num_inference_steps)), 0.0)
        self._install(Schedule(1 - sigma, sigma), sigma[:-1] * trained)
        self.sigmas = sigma

    def step(self, model_output: Any, timestep: Any, sample: Any, return_dict: bool = True, **_: Any) -> Any:
        """Take one Euler step of the flow."""
        return self._fused(model_output, timestep, sample, 0.0, None, None, return_dict)

    def _kind(self) -> str:
        return "flow"

    def scale_noise(self, sample: Any, timestep: Any, noise: Any) -> Any:
        """Return (1 - sigma) x0 + sigma noise at timesteps of the run, one a sample."""
        import torch

        sigma = torch.tensor([self.schedule.sigma[self._step_index(t)] for t in timestep], dtype=sample.dtype)
        sigma = sigma.reshape(-1, *[1] * (sample.ndim - 1))
        return sigma * noise + (1 - sigma) * sample

    add_noise = None  # type: ignore[assignment]


class DPMSolverMultistepScheduler(_Scheduler):
    """diffusers' DPMSolverMultistepScheduler, algorithm "dpmsolver++", order 2 (midpoint), final sigma 0."""

    def __init__(self, num_train_timesteps: int = 1000, seeds: Seeds | None = None, **others: Any) -> None:
        others.setdefault("timestep_spacing", "linspace")
        super().__init__(num_train_timesteps, seeds=seeds, **others)

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        """Choose the timesteps of a run, and forget the last one."""
        super().set_timesteps(num_inference_steps, device)
        trained = self.config.num_train_timesteps
        spacing = self.config.timestep_spacing
        if spacing == "linspace":
            time = np.linspace(0, trained - 1, num_inference_steps + 1).round()[::-1][:-1]
        elif spacing == "leading":
            stride = trained // (num_inference_steps + 1)
            time = (np.arange(num_inference_steps + 1) * stride).round()[::-1][:-1] + self.config.steps_offset
        else:
            time = self._spaced(num_inference_steps)
        levels = np.append(np.interp(time, np.arange(trained), self.alphas_cumprod_float64), 1.0)
        self._install(Schedule(np.sqrt(levels), np.sqrt(1 - levels)), time.astype(float))
        self._previous: Any = None

    def step(
        self, model_output: Any, timestep: Any, sample: Any, generator: Any = None, return_dict: bool = True, **_: Any
    ) -> Any:
        """Take one step; the first and the last are of first order."""
        import torch

        from legato.diffusion.guidance import Guidance
        from legato.diffusion.sampling import _second_order

        del generator  # the solver draws nothing
        k = self._step_index(timestep)
        alpha, sigma = self.schedule.alpha[k], self.schedule.sigma[k]
        x = sample.contiguous()
        x0 = _x0(x, model_output.to(sample.dtype), alpha, sigma, self._kind()).contiguous()
        begin = 0 if k > 0 and self._previous is not None else k
        row = _second_order(self.schedule, "dpmpp_2m", Guidance(1.0), k, k + 1, begin)[0]
        after = torch.empty_like(x)
        if row[6] != 0:
            apply_step(x, x0, (row[2], 0.0, 0.0), self._previous, weights=(row[3], row[6]), out=after)
        else:
            apply_step(x, x0, (row[2], row[3], 0.0), out=after)
        self._previous = x0
        return SchedulerOutput(after, x0) if return_dict else (after,)


def _alphas_cumprod(name: str, start: float, end: float, count: int) -> Float64:
    if name == "linear":
        betas = np.linspace(start, end, count)
    elif name == "scaled_linear":
        betas = np.linspace(start**0.5, end**0.5, count) ** 2
    elif name == "squaredcos_cap_v2":
        edges = np.cos((np.arange(count + 1) / count + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - edges[1:] / edges[:-1], 0.999)
    else:
        raise ArgumentError(f"beta_schedule: expected linear, scaled_linear or squaredcos_cap_v2, got {name!r}")
    return np.asarray(np.cumprod(1.0 - betas))


def _x0(x: Any, out: Any, alpha: float, sigma: float, kind: str) -> Any:
    """x0 as predicted, in torch."""
    if kind == "x0":
        return out
    if kind == "v":
        return (alpha * x - sigma * out) / (alpha**2 + sigma**2)
    if kind == "flow":
        return (x - sigma * out) / (alpha + sigma)
    return (x - sigma * out) / alpha
