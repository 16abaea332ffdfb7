"""Guidance inside diffusers' pipelines: a guider of modular ones, and PCG in any.

`LegatoGuidance` is a guider (``diffusers.guiders``) with the rules of `legato.diffusion.Guidance`. `PCGScheduler` takes
the steps of the predictor-corrector of arXiv 2408.09000, with the guidance scale of each from `PCGGuidance` in modular
pipelines, and from its own ``guide`` as ``callback_on_step_end=`` in the others.

diffusers is imported with this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffusers.configuration_utils import register_to_config
from diffusers.guiders.guider_utils import BaseGuidance, GuiderOutput

from legato._scalars import as_count, as_number
from legato._turns import one_at_a_time
from legato.diffusion.guidance import Guidance, Rule, accumulated
from legato.diffusion.schedulers.first_order import DDIMScheduler
from legato.diffusion.schedulers.run import alike, fused
from legato.errors import ArgumentError

if TYPE_CHECKING:
    import torch

__all__ = ["LegatoGuidance", "PCGGuidance", "PCGScheduler"]

_ALMOST_ONE = 1.0 + 2.0**-20  # pipelines take 1 itself for "no guidance", and then predict once


class LegatoGuidance(BaseGuidance):  # type: ignore[misc]
    """A guider of diffusers that follows a rule of `legato.diffusion.Guidance`.

    Parameters
    ----------
    guidance_scale : float
        As in `Guidance`: 1 is the conditional model.
    rule : {"cfg", "apg", "zero_star"}
        All act on what the network predicts. ("cfg++" is a way to step, not a prediction.)
    rescale, momentum, norm, parallel, zero_steps
        As in `Guidance`.
    start, stop : float
        The part of the steps that is guided; elsewhere the conditional prediction alone.
    enabled : bool

    Raises
    ------
    ArgumentError
        A number or a name that makes no sense.
    """

    _input_predictions = ["pred_cond", "pred_uncond"]  # noqa: RUF012  (as theirs)

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        guidance_scale: float = 7.5,
        rule: Rule = "cfg",
        rescale: float = 0.0,
        momentum: float = 0.0,
        norm: float = 0.0,
        parallel: float = 1.0,
        zero_steps: int = 1,
        start: float = 0.0,
        stop: float = 1.0,
        enabled: bool = True,
    ) -> None:
        super().__init__(start, stop, enabled)
        if rule == "cfg++":
            raise ArgumentError("rule: 'cfg++' is a way to step, not a prediction; expected cfg, apg or zero_star")
        self.guidance = Guidance(
            guidance_scale, rule, rescale=rescale, momentum=momentum, norm=norm, parallel=parallel,
            zero_steps=zero_steps,
        )  # fmt: skip
        self._difference: Any = None

    def prepare_inputs(self, data: Any) -> list[Any]:
        """Return one batch a prediction."""
        names = self._input_predictions[: self.num_conditions]
        return [self._prepare_batch(data, i, name) for i, name in enumerate(names)]

    def prepare_inputs_from_block_state(self, data: Any, input_fields: dict[str, Any]) -> list[Any]:
        """Return one batch a prediction."""
        names = self._input_predictions[: self.num_conditions]
        return [self._prepare_batch_from_block_state(input_fields, data, i, name) for i, name in enumerate(names)]

    def forward(self, pred_cond: torch.Tensor, pred_uncond: torch.Tensor | None = None) -> Any:
        """Return the guided prediction beside those it is made of."""
        pred = pred_cond
        if pred_uncond is not None and self.num_conditions == 2:
            pred = self._guided(pred_cond, pred_uncond)
        return GuiderOutput(pred=pred, pred_cond=pred_cond, pred_uncond=pred_uncond)

    def _guided(self, cond: torch.Tensor, uncond: torch.Tensor) -> torch.Tensor:
        step, second = int(self._step or 0), uncond
        if self.guidance.rule == "apg":
            before = None if step == 0 else self._difference
            second = self._difference = accumulated(cond - uncond, before, self.guidance.momentum)
        if self.guidance.linear:
            return second + self.guidance.scale * (cond - second)
        # weights are a few numbers a sample, made on the CPU
        first_there, second_there = (one.detach().to("cpu") for one in (cond, second))
        weights = self.guidance.weights(first_there, second_there, self.guidance.scale, step)
        of_cond, of_second = (cond.new_tensor(column).reshape(-1, *[1] * (cond.ndim - 1)) for column in weights.T)
        return of_cond * cond + of_second * second

    @property
    def is_conditional(self) -> bool:
        """Whether the batch that is being prepared is the conditional one."""
        return bool(self._count_prepared == 1)

    @property
    def num_conditions(self) -> int:
        """Return how many predictions this step needs."""
        if not self._enabled or (self.guidance.scale == 1.0 and self.guidance.linear):
            return 1
        if self._num_inference_steps is None:
            return 2
        first, after = (int(part * self._num_inference_steps) for part in (self._start, self._stop))
        return 2 if first <= self._step < after else 1


class PCGScheduler(DDIMScheduler):
    """DDIM's steps by the conditional model alone, each followed by Langevin steps by the guided one.

    ``PCGScheduler.from_config(pipe.scheduler.config).guided(3.0, corrector_steps=1)`` makes one. A pipeline runs it
    unmodified: ``timesteps`` has every level but the first `corrector_steps` times more, for the correctors there.
    """

    guidance_scale, corrector_steps = 1.0, 1

    def guided(self, guidance_scale: float, *, corrector_steps: int = 1) -> PCGScheduler:
        """Set the scale gamma and the number of correctors.

        Parameters
        ----------
        guidance_scale : float
            gamma: one corrector a step of scale 2 gamma - 1 is CFG-DDPM(gamma) in the limit of small steps (theorem 3).
        corrector_steps : int
            K, from 1.

        Returns
        -------
        PCGScheduler
            Itself.
        """
        self.guidance_scale = as_number("guidance_scale", guidance_scale)
        self.corrector_steps = as_count("corrector_steps", corrector_steps)
        return self

    def set_timesteps(self, num_inference_steps: Any = None, *args: Any, **options: Any) -> None:
        """Set the timesteps of that many predictor steps; the correctors' are among them."""
        super().set_timesteps(num_inference_steps, *args, **options)
        times = self.timesteps
        self._levels = times.tolist()
        self.timesteps = times.new_tensor(
            [*self._levels[:1], *(t for t in self._levels[1:] for _ in range(self.corrector_steps + 1))]
        )
        self._at = 0

    def scale_of(self, step: int) -> float:
        """Return the guidance scale of a step of the pipeline: 1 for predictors, 2 gamma - 1 for correctors."""
        return 1.0 if self._part(step)[1] == self.corrector_steps else 2.0 * self.guidance_scale - 1.0

    @property
    def at_start(self) -> float:
        """``guidance_scale=`` for the pipeline's call: the predictor's, though guided."""
        return _ALMOST_ONE

    def guide(self, pipe: Any, step: int, timestep: Any, given: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """``callback_on_step_end=`` of pipelines: sets the guidance scale of the next step."""
        scale = self.scale_of(step + 1)
        pipe._guidance_scale = _ALMOST_ONE if scale == 1.0 else scale
        return given

    def _part(self, step: int) -> tuple[int, int]:
        """Return the number of the level, and which of its evaluations this is: the last one predicts."""
        level, part = divmod(step - 1, self.corrector_steps + 1)
        return (0, self.corrector_steps) if step == 0 else (level + 1, part)

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
        """Take a step of the predictor, or one of a corrector; parameters and result are those of DDIM's.

        Raises
        ------
        ArgumentError
            Before ``set_timesteps``; more steps than the run has; eta other than 0; scales that make Langevin unstable
            cannot be told beforehand.
        """
        if self.num_inference_steps is None:
            raise ArgumentError("scheduler: call set_timesteps() first")
        if eta != 0:
            raise ArgumentError(f"eta: expected 0, the noise of PCG is its correctors', got {eta}")
        if self._at >= len(self.timesteps):
            raise ArgumentError(f"timestep: this run has {len(self.timesteps)} steps, and all are taken")
        level, part = self._part(self._at)
        here = int(self._levels[level])
        if int(timestep) != here:
            raise ArgumentError(f"timestep: expected {here} in step {self._at}, got {int(timestep)}")
        self._at += 1
        if part == self.corrector_steps:
            return DDIMScheduler.step(
                self, model_output, here, sample, 0.0, use_clipped_model_output, None, None, return_dict
            )
        before = int(self._levels[level - 1])
        seen, (_, sigma), _ = self._row(here, 0.0)
        square, square1 = (float(self.alphas_cumprod[t]) for t in (before, here))
        size = max((1.0 - square) - square / square1 * (1.0 - square1), 0.0)
        noise = self._noise(size**0.5, variance_noise, generator, self._at - 1)
        if "seeds" in noise:  # the noise that sample() has for this corrector
            noise |= {"step": level - 1, "substep": part + 1}
        x, out = alike(sample, model_output)
        p, q, r, u = seen
        after = fused(x, out, (1.0 - size / (2 * sigma) * r, -size / (2 * sigma) * u, size**0.5), **noise)
        x0 = self._bounded((x * p).add_(out, alpha=q) if p else out * q)
        if not return_dict:
            return after, x0
        from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput

        return DDIMSchedulerOutput(prev_sample=after, pred_original_sample=x0)


class PCGGuidance(LegatoGuidance):
    """The guider of a `PCGScheduler`: the conditional prediction in predictors, the guided one in correctors.

    Parameters
    ----------
    scheduler : PCGScheduler
        Whose steps these are.
    """

    def __init__(self, scheduler: PCGScheduler) -> None:
        super().__init__(guidance_scale=2.0 * scheduler.guidance_scale - 1.0)
        self.scheduler = scheduler

    @property
    def num_conditions(self) -> int:
        """Return how many predictions this step needs."""
        return 1 if self._step is not None and self.scheduler.scale_of(self._step) == 1.0 else 2
