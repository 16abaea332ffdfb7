"""What diffusers' own tests ask of a scheduler, re-stated for every class of ours (`diffusers_tests.py` runs theirs).

The tests of theirs hold a run against a sum that was written down; here the run of theirs is made beside.
"""

from __future__ import annotations

import copy
import inspect
import itertools
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("diffusers", reason="diffusers is not installed")
import diffusers
import torch

from legato import diffusion as D
from legato.diffusion import schedulers as S
from test_diffusion_schedulers import SHAPE, close, fake_model, in_float64, with_noise_of_steps

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers and torch warn of their own doings
STEPS = 12
FLOW = "FlowMatchEulerDiscreteScheduler"
WITH_BETAS = [name for name in S.__all__ if name != FLOW]
V = {"prediction_type": "v_prediction"}

OF_ALL = [
    {"num_train_timesteps": 500},
    {"beta_start": 0.001, "beta_end": 0.02},
    {"beta_schedule": "scaled_linear", **V},
    {"prediction_type": "sample"},
]
SPACED = [{"timestep_spacing": spacing, "steps_offset": 1} for spacing in ("leading", "trailing", "linspace")]
ZERO_SNR = [{"rescale_betas_zero_snr": True, **V, "timestep_spacing": "trailing"}]
SIGMAS = [{f"use_{kind}_sigmas": True} for kind in ("karras", "exponential", "beta")]
BOUNDED = [{"thresholding": True, "sample_max_value": 2.0, **more} for more in ({}, V)]
CLIPPED = [{"clip_sample": True, "clip_sample_range": 0.5}]
LOW_AT_END = [{"lower_order_final": False}, {"solver_order": 1}]
OWN: dict[str, list[dict[str, Any]]] = {
    "DDIMInverseScheduler": [*CLIPPED, {"set_alpha_to_one": False}],
    "DDIMScheduler": [*SPACED, *ZERO_SNR, *BOUNDED, *CLIPPED],
    "DDPMScheduler": [*SPACED, *ZERO_SNR, *BOUNDED, *CLIPPED, {"variance_type": "fixed_large"}],
    "DEISMultistepScheduler": [*SPACED, *BOUNDED, *LOW_AT_END, SIGMAS[0]],
    "DPMSolverMultistepScheduler": [
        *SPACED, *ZERO_SNR, *BOUNDED, *SIGMAS, *LOW_AT_END, {"solver_type": "heun"}, {"euler_at_final": True},
        {"use_lu_lambdas": True}, {"final_sigmas_type": "sigma_min"}, {"algorithm_type": "sde-dpmsolver++"},
        {"solver_order": 3}, {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"},
    ],
    "EulerAncestralDiscreteScheduler": [*SPACED, *ZERO_SNR],
    "EulerDiscreteScheduler": [*SPACED, *ZERO_SNR, *SIGMAS, {"final_sigmas_type": "sigma_min"}],
    FLOW: [
        {"shift": 3.0}, *SIGMAS, {"shift_terminal": 0.1}, {"stochastic_sampling": True}, {"invert_sigmas": True},
    ],
    "HeunDiscreteScheduler": [*SPACED, *SIGMAS, *CLIPPED],
    "LCMScheduler": [*BOUNDED, *CLIPPED, *ZERO_SNR],
    "SASolverScheduler": [*SPACED, *BOUNDED, SIGMAS[0], {"predictor_order": 3, "corrector_order": 3}],
    "TCDScheduler": [*ZERO_SNR],
    "UniPCMultistepScheduler": [*SPACED, *BOUNDED, *SIGMAS, *LOW_AT_END, {"solver_type": "bh1"}, {"solver_order": 3}],
}  # fmt: skip
CASES = [
    (name, config)
    for name in S.__all__
    for config in [{}, *(OF_ALL if name in WITH_BETAS else []), *OWN[name]]
    # theirs of these do not know it, or divide by 0
    if name not in ("EulerAncestralDiscreteScheduler", "DDIMInverseScheduler")
    or config.get("prediction_type") != "sample"
]


def configured(name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Add what a case leaves open: no clipping (their default bounds hide differences), a constant tau."""
    fields = inspect.signature(getattr(diffusers, name).__init__).parameters
    return {**({"clip_sample": False} if "clip_sample" in fields else {}), **config}


def run(scheduler: Any, steps: int = STEPS) -> list[Any]:
    scheduler.set_timesteps(steps)
    x = torch.from_numpy(D.normal(SHAPE, 1)) * float(getattr(scheduler, "init_noise_sigma", 1.0))
    states = []
    for t in scheduler.timesteps:
        seen = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x  # a flow has none
        x = scheduler.step(fake_model(seen, t), t, x).prev_sample
        states.append(x)
    return states


@pytest.mark.parametrize(("name", "config"), CASES, ids=lambda one: one if isinstance(one, str) else str(sorted(one)))
def test_every_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, config: dict[str, Any]) -> None:
    """A run of ours is one of theirs, with our noise, and one of ours that was stored and read again."""
    config = configured(name, config)
    theirs = getattr(diffusers, name)(**config)
    ours = getattr(S, name)(**config, seeds=0)
    mine = run(ours)
    if hasattr(__import__(type(theirs).__module__, fromlist=["_"]), "randn_tensor"):
        with_noise_of_steps(monkeypatch, theirs)
    if hasattr(theirs, "tau_func"):
        theirs.tau_func = lambda t: torch.tensor(1.0 if 200 <= t <= 800 else 0.0)  # theirs wants a tensor
    close(mine, run(in_float64(theirs) if "Multistep" in name or "SASolver" in name else theirs), 3e-5)
    assert torch.equal(torch.as_tensor(ours.timesteps), torch.as_tensor(theirs.timesteps))
    ours.save_config(tmp_path)
    again = getattr(S, name).from_pretrained(tmp_path)
    again.seeds = 0
    assert all(torch.equal(a, b) for a, b in zip(mine, run(again), strict=True))


@pytest.mark.parametrize("name", S.__all__)
def test_what_all_have(tmp_path: Path, name: str) -> None:
    """Outputs as a tuple and as their class, shapes, public names, copies, and a config that keeps what it is told."""
    kind, their_kind = getattr(S, name), getattr(diffusers, name)
    scheduler = kind(**configured(name, {}))
    x = torch.from_numpy(D.normal(SHAPE, 1))
    scheduler.set_timesteps(STEPS)
    t = scheduler.timesteps[0]
    given = {"generator": torch.manual_seed(0)} if "generator" in inspect.signature(kind.step).parameters else {}
    as_class = scheduler.step(0.1 * x, t, x, **given)
    scheduler.set_timesteps(STEPS)
    if given:
        given = {"generator": torch.manual_seed(0)}
    as_tuple = scheduler.step(0.1 * x, t, x, **given, return_dict=False)
    theirs = their_kind(**configured(name, {}))
    theirs.set_timesteps(STEPS)
    assert isinstance(as_class, type(theirs.step(0.1 * x, t, x)))
    assert isinstance(as_tuple, tuple)
    assert len(as_tuple) == len(theirs.step(0.1 * x, theirs.timesteps[1], x, return_dict=False))
    for a, b in zip(as_tuple, as_class.values(), strict=False):
        assert torch.equal(a, b)
    assert as_tuple[0].shape == x.shape
    assert as_tuple[0].dtype == x.dtype
    public = [one for one in dir(their_kind) if not one.startswith("_")]
    assert all(hasattr(kind, one) for one in public)
    if name != FLOW:
        assert scheduler.init_noise_sigma == theirs.init_noise_sigma
    assert [one.__name__ for one in scheduler.compatibles] == [one.__name__ for one in theirs.compatibles]
    assert ("kwargs" in inspect.signature(kind.__init__).parameters) == bool(kind._deprecated_kwargs)
    assert list(inspect.signature(kind.set_timesteps).parameters) == list(
        inspect.signature(their_kind.set_timesteps).parameters
    )
    pickled = scheduler if name == "SASolverScheduler" else pickle.loads(pickle.dumps(scheduler))  # theirs has a lambda
    for one in (copy.deepcopy(scheduler), pickled):
        assert dict(one.config) == dict(scheduler.config)
        assert type(one) is kind
    scheduler.dummy = 5
    scheduler.register_to_config(told=5)
    assert (scheduler.dummy, scheduler.config.told) == (5, 5)
    with pytest.raises(AttributeError, match="no attribute 'does_not_exist'"):
        _ = scheduler.does_not_exist
    scheduler.save_pretrained(tmp_path)
    assert kind.from_pretrained(tmp_path).config.told == 5


@pytest.mark.parametrize("name", [name for name in WITH_BETAS if name != "DDIMInverseScheduler"])
def test_noise_added_and_trained_betas(tmp_path: Path, name: str) -> None:
    ours, theirs = (getattr(room, name)() for room in (S, diffusers))
    x, z = (torch.from_numpy(D.normal(SHAPE, seed)) for seed in (1, 2))
    for one in (ours, theirs):
        one.set_timesteps(STEPS)
    t = ours.timesteps[5][None]
    assert torch.equal(ours.add_noise(x, z, t), theirs.add_noise(x, z, t))
    kind = getattr(S, name)
    made = kind(trained_betas=np.array([0.1, 0.3]))
    made.save_pretrained(tmp_path)
    assert kind.from_pretrained(tmp_path).betas.tolist() == made.betas.tolist() == [np.float32(0.1), np.float32(0.3)]


def test_configs_go_around_all_classes() -> None:
    """From one class to any other and back: what a class has no field for comes home unharmed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for first, second in itertools.permutations(WITH_BETAS, 2):
            made = getattr(S, first)(beta_end=0.03)
            back = getattr(S, first).from_config(getattr(S, second).from_config(made.config).config)
            assert back.config.beta_end == 0.03
            assert {**back.config, "_use_default_values": 0} == {
                **made.config, **{k: v for k, v in back.config.items() if k not in made.config},
                "_use_default_values": 0,
            }  # fmt: skip
