"""Diffusion sampling: schedules, fused steps, guidance, exact models, and noise that depends on the seed alone.

Papers: Nakkiran et al., "Step-by-Step Diffusion" (arXiv 2406.08929); Bradley and Nakkiran, "Classifier-Free Guidance is
a Predictor-Corrector" (arXiv 2408.09000).

Examples
--------
>>> from legato import diffusion as D
>>> schedule = D.Schedule.karras(20)
>>> both = D.GaussianMixture([0.5, 0.5], [[-2.0, 0.0], [2.0, 0.0]], [0.1, 0.1])
>>> pair = D.guided(both.reweighted([0.0, 1.0]), both)
>>> x = D.sample(pair, (500, 2), schedule, sampler="ddim", guidance_scale=3.0, seeds=0)
>>> bool((x[:, 0] > 0).all())
True
"""

from __future__ import annotations

from legato.diffusion.guidance import Guidance, GuidedDenoiser
from legato.diffusion.models import EmpiricalDenoiser, GaussianMixture, Guided, guided
from legato.diffusion.moments import gaussian_moments
from legato.diffusion.noise import brownian, normal, philox4x32, threefry4x32
from legato.diffusion.plans import HIGHER_ORDER_SAMPLERS
from legato.diffusion.sampling import langevin, sample
from legato.diffusion.schedules import Schedule
from legato.diffusion.steps import (
    PREDICTIONS,
    SAMPLERS,
    apply_step,
    convert_prediction,
    guidance_sums,
    step_coefficients,
)

__all__ = [
    "HIGHER_ORDER_SAMPLERS",
    "PREDICTIONS",
    "SAMPLERS",
    "EmpiricalDenoiser",
    "GaussianMixture",
    "Guidance",
    "Guided",
    "GuidedDenoiser",
    "Schedule",
    "apply_step",
    "brownian",
    "convert_prediction",
    "gaussian_moments",
    "guidance_sums",
    "guided",
    "langevin",
    "normal",
    "philox4x32",
    "sample",
    "step_coefficients",
    "threefry4x32",
]
