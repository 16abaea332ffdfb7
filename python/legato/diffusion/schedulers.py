"""Schedulers with the interface of diffusers, on Legato's fused step: drop-in for an unmodified pipeline on CPU.

Put one into a pipeline by ``pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)``; a pipeline's
constructor would turn it back into diffusers' class. Fields of a config that are not supported are refused where they
would change the result.

They speak torch because pipelines do; torch is imported where it is needed. Unlike their models they draw noise that
depends on (seed, step, element) alone: pass ``seeds=`` to the constructor, or a ``generator`` whose initial seed then
counts (one a sample where it is a list).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from legato._arrays import Float64, as_float64
from legato._scalars import as_choice, as_count
from legato._turns import Turns, one_at_a_time
from legato.diffusion.noise import Seeds
from legato.diffusion.schedules import Schedule
from legato.diffusion.steps import Prediction, Sampler, apply_step, ddim_table, step_coefficients
from legato.errors import ArgumentError

__all__ = [
    "DDIMScheduler",
    "DDPMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerAncestralDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "SchedulerOutput",
]

_ANY = object()  # of a field that has no effect beside the others' neutral values
_BETAS = ("beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")
_SPACED = ("num_train_timesteps", "prediction_type", "timestep_spacing", "steps_offset")
_CLIPPED = ("clip_sample", "clip_sample_range")
_UNTHRESHOLDED = {"thresholding": False, "dynamic_thresholding_ratio": _ANY, "sample_max_value": _ANY}
_SAME_SIGMAS = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
_OTHERS = (  # fields of diffusers' other schedulers, which mean nothing to these
    "corrector_order", "disable_corrector", "interpolation_type", "original_inference_steps", "predict_x0",
    "predictor_order", "sigma_max", "sigma_min", "skip_prk_steps", "solver_p", "tau_func", "timestep_scaling",
    "timestep_type",
)  # fmt: skip
_KINDS: dict[str, Prediction] = {"epsilon": "epsilon", "sample": "x0", "v_prediction": "v"}


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
    _sampler: Sampler = "ddim"
    _fields: ClassVar[tuple[str, ...]] = ()  # of diffusers' class that this one follows
    _neutral: ClassVar[dict[str, Any]] = {}  # its other fields, with the one value that this class supports
    _spacing = "leading"
    _least = 0.0  # alpha^2 of the noisiest level under rescale_betas_zero_snr, as theirs

    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        *,
        seeds: Seeds | None = None,
        **fields: Any,
    ) -> None:
        betas = {"beta_start": beta_start, "beta_end": beta_end, "beta_schedule": beta_schedule}
        values = self._checked({"num_train_timesteps": num_train_timesteps, **betas, **fields})
        if not 0 < beta_start <= beta_end < 1:
            raise ArgumentError(f"beta_start, beta_end: expected 0 < start <= end < 1, got {beta_start}, {beta_end}")
        self._begin(values, seeds)

    def _begin(self, values: dict[str, Any], seeds: Seeds | None) -> None:
        count, kind, spacing = values["num_train_timesteps"], values["prediction_type"], values["timestep_spacing"]
        count = as_count("num_train_timesteps", count)
        as_choice("prediction_type", kind, _KINDS)
        if spacing not in ("leading", "trailing", "linspace"):
            raise ArgumentError(f"timestep_spacing: expected leading, trailing or linspace, got {spacing!r}")
        reach = values["clip_sample_range"]
        if not (np.isfinite(reach) and reach > 0):
            raise ArgumentError(f"clip_sample_range: expected a positive number, got {reach}")
        if values["trained_betas"] is None:
            squares = _alphas_cumprod(values["beta_schedule"], values["beta_start"], values["beta_end"], count)
        else:
            betas = as_float64("trained_betas", values["trained_betas"], (count,))
            if not ((betas > 0) & (betas < 1)).all():
                raise ArgumentError("trained_betas: expected numbers from 0 to 1")
            squares = np.asarray(np.cumprod(1.0 - betas), np.float64)
        if values["rescale_betas_zero_snr"]:
            root = np.sqrt(squares)
            root = (root - root[-1]) * root[0] / (root[0] - root[-1])
            squares = root**2
            squares[-1] = self._least
        self.alphas_cumprod_float64 = squares
        self._turns = Turns()
        self.config = _Config(values)
        self.seeds = seeds
        self.num_inference_steps: int | None = None
        self.timesteps: Any = np.arange(count)[::-1]  # until set_timesteps()
        self._schedule: Schedule | None = None
        self._index: dict[float, int] = {}
        self._tables: dict[tuple[float, str], Float64] = {}

    @classmethod
    def _checked(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """Return every field with its value; refuse names that are not known, and values that would be ignored."""
        for name, value in fields.items():
            if name not in cls._fields and name not in cls._neutral:
                known = ", ".join((*cls._fields, *cls._neutral))
                raise ArgumentError(f"{name}: not a field of {cls.__name__}; expected one of {known}")
            only = cls._neutral.get(name, _ANY)
            if only is not _ANY and not (value is only or value == only):
                raise ArgumentError(f"{name}: {cls.__name__} supports {only!r} alone, got {value!r}")
        return {**_DEFAULTS, "timestep_spacing": cls._spacing, **fields}

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
        """Make a scheduler from the config of another, diffusers' or Legato's.

        Parameters
        ----------
        config : mapping
            Fields that only other classes of diffusers have are left out, as it does.
        **overrides
            Fields that take the place of the config's, and `seeds`.

        Returns
        -------
        a scheduler of this class

        Raises
        ------
        ArgumentError
            A name that no class has, or a value that would change the result and is not supported.
        """
        known = {key: value for key, value in dict(config).items() if not key.startswith("_")}
        own = (*cls._fields, *cls._neutral)
        elsewhere = {name for one in _Scheduler.__subclasses__() for name in (*one._fields, *one._neutral)}
        known = {key: value for key, value in known.items() if key in own or key not in (*elsewhere, *_OTHERS)}
        return cls(**{**known, **overrides})

    def __len__(self) -> int:
        """Return the number of trained levels."""
        return int(self.config.num_train_timesteps)

    def scale_model_input(self, sample: Any, timestep: Any = None) -> Any:  # noqa: ARG002  (their signature)
        """Return the sample as the model wants it."""
        return sample

    @one_at_a_time
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
        # where the last timestep is 0, no level lies between it and alpha 1 (DDIM's own table then stays there)
        last = 1.0 if self.config.set_alpha_to_one or time[-1] == 0 else squares[0]
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

    def _table(self, eta: float, kind: Prediction) -> Float64:
        if (eta, kind) not in self._tables:
            options = {} if self._sampler in ("ddpm", "flow_euler") else {"eta": eta}
            self._tables[eta, kind] = step_coefficients(self.schedule, self._sampler, prediction=kind, **options)
        return self._tables[eta, kind]

    def _kind(self) -> Prediction:
        return _KINDS[self.config.prediction_type]

    def _apart(self, eta: float, k: int) -> tuple[float, float, float]:
        raise NotImplementedError(f"{type(self).__name__} keeps no eps: {eta}, {k}")

    def _seeds(self, generator: Any) -> Seeds:
        if self.seeds is not None:
            return self.seeds
        if generator is None:
            return 0
        if isinstance(generator, list):
            return np.array([one.initial_seed() % 2**64 for one in generator], np.uint64)
        return int(generator.initial_seed()) % 2**64

    def _fused(
        self, model_output: Any, timestep: Any, sample: Any, eta: float, generator: Any, noise: Any, return_dict: bool,
        keep_eps: bool = False,
    ) -> Any:  # fmt: skip
        import torch

        k = self._step_index(timestep)
        level = self.schedule.alpha[k], self.schedule.sigma[k]
        x, out = sample.contiguous(), model_output.contiguous().to(sample.dtype)
        kind = self._kind()
        coef, x0 = self._table(eta, kind)[k], _x0(x, out, *level, kind)
        if self.config.clip_sample:
            reach, unclipped = float(self.config.clip_sample_range), x0
            x0 = x0.clamp(-reach, reach)
            if keep_eps:  # x' = a' x0 + toward eps + w z, eps as the model predicts it
                x, out, coef = x0, _eps(x, out, unclipped, *level, kind), self._apart(eta, k)
            else:
                out, coef = x0, self._table(eta, "x0")[k]
        after = torch.empty_like(x)
        apply_step(
            x, out.contiguous(), coef, seeds=self._seeds(generator), step=k,
            noise=None if noise is None else noise.contiguous(), out=after,
        )  # fmt: skip
        return SchedulerOutput(after, x0) if return_dict else (after, x0)

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
    """diffusers' DDIMScheduler without thresholding; `clip_sample` is False by default (True there)."""

    _fields = (*_SPACED, *_BETAS, *_CLIPPED, "set_alpha_to_one")
    _neutral: ClassVar[dict[str, Any]] = _UNTHRESHOLDED

    @one_at_a_time
    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        """Choose the timesteps of a run of `num_inference_steps` steps."""
        super().set_timesteps(num_inference_steps, device)
        # diffusers' DDIM looks back by this stride, which is not always that of the timesteps
        before = np.asarray(self.timesteps) - self.config.num_train_timesteps // num_inference_steps
        last = 1.0 if self.config.set_alpha_to_one else self.alphas_cumprod_float64[0]
        squares = np.where(before >= 0, self.alphas_cumprod_float64[np.maximum(before, 0)], last)
        self._after = np.sqrt(squares), np.sqrt(1 - squares)

    def _table(self, eta: float, kind: Prediction) -> Float64:
        if (eta, kind) not in self._tables:
            if not 0 <= eta <= 1:
                raise ArgumentError(f"eta: expected 0 to 1, got {eta}")
            a, s = self.schedule.alpha[:-1], self.schedule.sigma[:-1]
            self._tables[eta, kind] = ddim_table(a, s, *self._after, eta, kind)
        return self._tables[eta, kind]

    def _apart(self, eta: float, k: int) -> tuple[float, float, float]:
        """Return the weights of x0, eps and the noise."""
        noise = float(self._table(eta, "x0")[k, 2])
        a1, s1 = (float(level[k]) for level in self._after)
        return a1, max(s1 * s1 - noise * noise, 0.0) ** 0.5, noise

    @one_at_a_time
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
        """Take one step.

        Parameters
        ----------
        model_output, sample : Tensor, shape (samples, ...)
            The prediction, of ``prediction_type``, and the state it was made at.
        timestep : int or float
            One of ``timesteps``.
        eta : float
            0 is DDIM, 1 has the variance of DDPM.
        use_clipped_model_output : bool
            Whether eps is that of the clipped x0.
        generator : torch.Generator or list of them, optional
            Its initial seed counts, where the scheduler has no ``seeds``.
        variance_noise : Tensor, optional
            Noise to use instead.
        return_dict : bool
            Whether to return a `SchedulerOutput` or a tuple.

        Returns
        -------
        SchedulerOutput or tuple
            The next state, and x0 as predicted.

        Raises
        ------
        ArgumentError
            The timestep is not one of this run's.
        """
        return self._fused(
            model_output, timestep, sample, eta, generator, variance_noise, return_dict,
            keep_eps=not use_clipped_model_output,
        )  # fmt: skip


class DDPMScheduler(_Scheduler):
    """diffusers' DDPMScheduler of variance "fixed_small", without thresholding; `clip_sample` is False by default."""

    _fields = (*_SPACED, *_BETAS, *_CLIPPED)
    _neutral: ClassVar[dict[str, Any]] = {**_UNTHRESHOLDED, "variance_type": "fixed_small"}
    _sampler = "ddpm"

    @one_at_a_time
    def step(
        self, model_output: Any, timestep: Any, sample: Any, generator: Any = None, return_dict: bool = True,
        *, variance_noise: Any = None,
    ) -> Any:  # fmt: skip
        """Take one ancestral step.

        Parameters
        ----------
        model_output, sample : Tensor, shape (samples, ...)
            The prediction, of ``prediction_type``, and the state it was made at.
        timestep : int or float
            One of ``timesteps``.
        generator : torch.Generator or list of them, optional
            Its initial seed counts, where the scheduler has no ``seeds``.
        variance_noise : Tensor, optional
            Noise to use instead.
        return_dict : bool
            Whether to return a `SchedulerOutput` or a tuple.

        Returns
        -------
        SchedulerOutput or tuple
            The next state, and x0 as predicted.

        Raises
        ------
        ArgumentError
            The timestep is not one of this run's.
        """
        return self._fused(model_output, timestep, sample, 1.0, generator, variance_noise, return_dict)


class EulerAncestralDiscreteScheduler(_Scheduler):
    """diffusers' EulerAncestralDiscreteScheduler: the state is x0 + sigma eps."""

    _sampler = "euler_ancestral"
    _fields = (*_SPACED, *_BETAS)
    _spacing = "linspace"
    _least = 2.0**-24

    @one_at_a_time
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

    @one_at_a_time
    def step(
        self, model_output: Any, timestep: Any, sample: Any, generator: Any = None, return_dict: bool = True,
        *, variance_noise: Any = None,
    ) -> Any:  # fmt: skip
        """Take one ancestral Euler step.

        Parameters
        ----------
        model_output, sample : Tensor, shape (samples, ...)
            The prediction, of ``prediction_type``, and the state it was made at.
        timestep : int or float
            One of ``timesteps``.
        generator : torch.Generator or list of them, optional
            Its initial seed counts, where the scheduler has no ``seeds``.
        variance_noise : Tensor, optional
            Noise to use instead.
        return_dict : bool
            Whether to return a `SchedulerOutput` or a tuple.

        Returns
        -------
        SchedulerOutput or tuple
            The next state, and x0 as predicted.

        Raises
        ------
        ArgumentError
            The timestep is not one of this run's.
        """
        if self.config.prediction_type == "v_prediction":  # v of the variance-preserving state, in terms of this one
            square = self.schedule.sigma[self._step_index(timestep)] ** 2
            model_output = sample / (square + 1) - model_output * (square / (square + 1)) ** 0.5
        return self._fused(model_output, timestep, sample, 1.0, generator, variance_noise, return_dict)

    def _kind(self) -> Prediction:
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
    _fields = ("num_train_timesteps", "shift")
    _neutral: ClassVar[dict[str, Any]] = {
        **_SAME_SIGMAS, "use_dynamic_shifting": False, "invert_sigmas": False, "shift_terminal": None,
        "stochastic_sampling": False, "base_shift": _ANY, "max_shift": _ANY, "base_image_seq_len": _ANY,
        "max_image_seq_len": _ANY, "time_shift_type": _ANY,
    }  # fmt: skip

    def __init__(
        self, num_train_timesteps: int = 1000, shift: float = 1.0, *, seeds: Seeds | None = None, **fields: Any
    ) -> None:
        if not (np.isfinite(shift) and shift > 0):
            raise ArgumentError(f"shift: expected a positive number, got {shift}")
        values = self._checked({"num_train_timesteps": num_train_timesteps, "shift": shift, **fields})
        self._begin(values, seeds)

    @one_at_a_time
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

    @one_at_a_time
    def step(self, model_output: Any, timestep: Any, sample: Any, return_dict: bool = True, **_: Any) -> Any:
        """Take one Euler step of the flow.

        Parameters
        ----------
        model_output, sample : Tensor, shape (samples, ...)
            The prediction (the velocity) and the state it was made at.
        timestep : int or float
            One of ``timesteps``.
        return_dict : bool
            Whether to return a `SchedulerOutput` or a tuple.

        Returns
        -------
        SchedulerOutput or tuple
            The next state, and x0 as predicted.

        Raises
        ------
        ArgumentError
            The timestep is not one of this run's.
        """
        return self._fused(model_output, timestep, sample, 0.0, None, None, return_dict)

    def _kind(self) -> Prediction:
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

    _fields = (*_SPACED, *_BETAS)
    _neutral: ClassVar[dict[str, Any]] = {
        **_UNTHRESHOLDED, **_SAME_SIGMAS, "solver_order": 2, "algorithm_type": "dpmsolver++", "solver_type": "midpoint",
        "final_sigmas_type": "zero", "lambda_min_clipped": -math.inf, "variance_type": None, "use_lu_lambdas": False,
        "use_flow_sigmas": False, "use_dynamic_shifting": False,
        **dict.fromkeys(("lower_order_final", "euler_at_final", "flow_shift", "time_shift_type"), _ANY),
    }  # fmt: skip
    _spacing = "linspace"
    _least = 2.0**-24

    @one_at_a_time
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

    @one_at_a_time
    def step(
        self, model_output: Any, timestep: Any, sample: Any, generator: Any = None, return_dict: bool = True, **_: Any
    ) -> Any:
        """Take one step; the first and the last are of first order.

        Parameters
        ----------
        model_output, sample : Tensor, shape (samples, ...)
            The prediction, of ``prediction_type``, and the state it was made at.
        timestep : int or float
            One of ``timesteps``.
        generator : torch.Generator or list of them, optional
            Not used: the solver draws nothing.
        return_dict : bool
            Whether to return a `SchedulerOutput` or a tuple.

        Returns
        -------
        SchedulerOutput or tuple
            The next state (and, in a `SchedulerOutput`, x0 as predicted).

        Raises
        ------
        ArgumentError
            The timestep is not one of this run's.
        """
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


_DEFAULTS: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
    "steps_offset": 0,
    "set_alpha_to_one": True,
    "rescale_betas_zero_snr": False,
    "clip_sample": False,
    "clip_sample_range": 1.0,
}


def _eps(x: Any, out: Any, x0: Any, alpha: float, sigma: float, kind: str) -> Any:
    """Eps as predicted, in torch."""
    return out if kind == "epsilon" else (x - alpha * x0) / sigma


def _x0(x: Any, out: Any, alpha: float, sigma: float, kind: str) -> Any:
    """x0 as predicted, in torch."""
    if kind == "x0":
        return out
    if kind == "v":
        return (alpha * x - sigma * out) / (alpha**2 + sigma**2)
    if kind == "flow":
        return (x - sigma * out) / (alpha + sigma)
    return (x - sigma * out) / alpha
