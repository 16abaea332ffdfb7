"""diffusers' schedulers with Legato's steps: fused, and with noise of (seed, step, element) alone.

Each class is a subclass of diffusers' own of the same name, so that configs, timesteps, sigmas and pipelines are
theirs; what differs is `step`. ``pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)`` puts one into a
pipeline.

Noise: the first stochastic step of a run draws one seed from the ``generator`` (one from each of a list; torch's
default one without any), and all noise of the run follows from it. A run begins with ``set_timesteps``, with another
generator, and where a step does not come after the one before. With ``seeds=`` in the constructor (an integer, or one a
sample), or set as an attribute, every run has the noise of these seeds.

diffusers is imported when a class is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from legato.diffusion.schedulers.consistency import LCMScheduler as LCMScheduler
    from legato.diffusion.schedulers.consistency import TCDScheduler as TCDScheduler
    from legato.diffusion.schedulers.first_order import DDIMInverseScheduler as DDIMInverseScheduler
    from legato.diffusion.schedulers.first_order import DDIMScheduler as DDIMScheduler
    from legato.diffusion.schedulers.first_order import DDPMScheduler as DDPMScheduler
    from legato.diffusion.schedulers.first_order import (
        EulerAncestralDiscreteScheduler as EulerAncestralDiscreteScheduler,
    )
    from legato.diffusion.schedulers.first_order import EulerDiscreteScheduler as EulerDiscreteScheduler
    from legato.diffusion.schedulers.first_order import (
        FlowMatchEulerDiscreteScheduler as FlowMatchEulerDiscreteScheduler,
    )
    from legato.diffusion.schedulers.multistep import DEISMultistepScheduler as DEISMultistepScheduler
    from legato.diffusion.schedulers.multistep import DPMSolverMultistepScheduler as DPMSolverMultistepScheduler
    from legato.diffusion.schedulers.multistep import SASolverScheduler as SASolverScheduler
    from legato.diffusion.schedulers.multistep import UniPCMultistepScheduler as UniPCMultistepScheduler
    from legato.diffusion.schedulers.second_order import HeunDiscreteScheduler as HeunDiscreteScheduler

_ROOMS = {
    "DDIMInverseScheduler": "first_order",
    "DDIMScheduler": "first_order",
    "DDPMScheduler": "first_order",
    "DEISMultistepScheduler": "multistep",
    "DPMSolverMultistepScheduler": "multistep",
    "EulerAncestralDiscreteScheduler": "first_order",
    "EulerDiscreteScheduler": "first_order",
    "FlowMatchEulerDiscreteScheduler": "first_order",
    "HeunDiscreteScheduler": "second_order",
    "LCMScheduler": "consistency",
    "SASolverScheduler": "multistep",
    "TCDScheduler": "consistency",
    "UniPCMultistepScheduler": "multistep",
}

__all__ = [
    "DDIMInverseScheduler",
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LCMScheduler",
    "SASolverScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
]


def __getattr__(name: str) -> Any:
    if name == "SchedulerMixin":  # what a pipeline's from_pretrained() looks for beside a class
        return import_module("diffusers").SchedulerMixin
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        made = getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
    except ImportError as error:
        from legato.errors import DependencyError

        raise DependencyError(f"{name}: needs diffusers and torch (pip install diffusers torch): {error}") from None
    globals()[name] = made
    return made


def __dir__() -> list[str]:
    return sorted(__all__)
