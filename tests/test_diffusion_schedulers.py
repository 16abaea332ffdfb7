"""Drop-in schedulers held against diffusers: the same numbers step by step, and the same images from a pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from legato import diffusion as D
from legato.errors import ArgumentError

torch = pytest.importorskip("torch", reason="torch is not installed")
with pytest.MonkeyPatch.context() as patch:
    patch.setenv("USE_TF", "0")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")

from legato.diffusion import schedulers as S  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers and torch warn of their own doings
STEPS = 50
SHAPE = (2, 3, 8, 8)


def fake_model(x: Any, t: Any) -> Any:
    """A smooth stand-in for a network."""
    return torch.tanh(0.7 * x + torch.sin(torch.as_tensor(float(t)) / 300.0)) * 0.8


def trajectory(scheduler: Any, **options: Any) -> list[Any]:
    scheduler.set_timesteps(STEPS)
    x = torch.from_numpy(D.normal(SHAPE, 1).astype(np.float32)) * float(getattr(scheduler, "init_noise_sigma", 1.0))
    states = []
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        out = fake_model(scaled, t)
        extra = {k: v(len(states)) if callable(v) else v for k, v in options.items()}
        x = scheduler.step(out, t, x, **extra).prev_sample
        states.append(x)
    return states


def close(ours: list[Any], theirs: list[Any], bound: float = 1e-5) -> None:
    scale = max(1.0, max(float(state.abs().max()) for state in theirs))
    assert max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True)) < bound * scale


def noise_of_step(k: int) -> Any:
    return torch.from_numpy(D.normal(SHAPE, 0, step=k))


PLAIN = {"clip_sample": False}


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("beta", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_ddim(eta: float, prediction: str, beta: str) -> None:
    config = {"prediction_type": prediction, "beta_schedule": beta}
    theirs = diffusers.DDIMScheduler(**config, **PLAIN)
    noise = {"variance_noise": noise_of_step} if eta > 0 else {}
    bound = 1e-4 if beta == "squaredcos_cap_v2" else 1e-5  # their alphas_cumprod is float32, and nearly 0 here
    close(trajectory(S.DDIMScheduler(**config), eta=eta), trajectory(theirs, eta=eta, **noise), bound)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_spacings(spacing: str) -> None:
    options = {"timestep_spacing": spacing}
    ours, theirs = S.DDIMScheduler(**options), diffusers.DDIMScheduler(**options, **PLAIN)
    ours.set_timesteps(STEPS)
    theirs.set_timesteps(STEPS)
    assert ours.timesteps.tolist() == theirs.timesteps.tolist()
    if spacing != "linspace":  # there their DDIM looks back by a fixed stride that is not that of its timesteps
        close(trajectory(ours), trajectory(theirs))


def test_ddpm(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = diffusers.DDPMScheduler(**PLAIN)
    module = __import__(type(theirs).__module__, fromlist=["randn_tensor"])
    count = iter(range(STEPS))
    monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: noise_of_step(next(count)))
    close(trajectory(S.DDPMScheduler()), trajectory(theirs))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_euler_ancestral(monkeypatch: pytest.MonkeyPatch, prediction: str) -> None:
    theirs = diffusers.EulerAncestralDiscreteScheduler(prediction_type=prediction, timestep_spacing="linspace")
    ours = S.EulerAncestralDiscreteScheduler(prediction_type=prediction, timestep_spacing="linspace")
    module = __import__(type(theirs).__module__, fromlist=["randn_tensor"])
    count = iter(range(STEPS))
    monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: noise_of_step(next(count)))
    close(trajectory(ours), trajectory(theirs))


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_match_euler(shift: float) -> None:
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    ours = S.FlowMatchEulerDiscreteScheduler(shift=shift)
    close(trajectory(ours), trajectory(theirs))
    np.testing.assert_allclose(ours.timesteps, theirs.timesteps, rtol=1e-6)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_dpm_solver_2m(prediction: str) -> None:
    theirs = diffusers.DPMSolverMultistepScheduler(prediction_type=prediction)
    close(trajectory(S.DPMSolverMultistepScheduler(prediction_type=prediction)), trajectory(theirs))


def test_add_noise() -> None:
    x, z = (torch.from_numpy(D.normal(SHAPE, seed)) for seed in (1, 2))
    t = torch.tensor([10, 700])
    close([S.DDIMScheduler().add_noise(x, z, t)], [diffusers.DDIMScheduler().add_noise(x, z, t)])
    ours, theirs = S.FlowMatchEulerDiscreteScheduler(shift=2.0), diffusers.FlowMatchEulerDiscreteScheduler(shift=2.0)
    ours.set_timesteps(STEPS)
    theirs.set_timesteps(STEPS)
    close([ours.scale_noise(x, ours.timesteps[[3, 20]], z)], [theirs.scale_noise(x, theirs.timesteps[[3, 20]], z)])


def test_schedule_from_diffusers() -> None:
    """The sampler around a callable, on the levels of their scheduler, does what their scheduler does."""
    theirs = diffusers.DDIMScheduler(**PLAIN)
    states = trajectory(theirs)
    schedule = D.Schedule.from_diffusers(theirs)
    assert schedule.time is not None
    x = D.sample(
        lambda x, _a, _s, k: fake_model(torch.from_numpy(x), schedule.time[k]), SHAPE, schedule, x=D.normal(SHAPE, 1)
    )
    close([torch.from_numpy(x)], [states[-1]])
    flow = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    flow.set_timesteps(10)
    np.testing.assert_allclose(D.Schedule.from_diffusers(flow).alpha + D.Schedule.from_diffusers(flow).sigma, 1)
    for kind, alpha in ((diffusers.EulerDiscreteScheduler, 1.0), (diffusers.DPMSolverMultistepScheduler, None)):
        other = kind()
        other.set_timesteps(10)
        s = D.Schedule.from_diffusers(other)
        assert len(s) == 10
        if alpha is not None:
            assert (s.alpha == alpha).all()


def test_an_unmodified_pipeline_gives_the_same_images() -> None:
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=16, in_channels=3, out_channels=3, layers_per_block=1, block_out_channels=(32, 32),
        norm_num_groups=8, down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    images = []
    for scheduler in (diffusers.DDIMScheduler(clip_sample=False), S.DDIMScheduler()):
        pipeline = diffusers.DDIMPipeline(unet=unet, scheduler=diffusers.DDIMScheduler(clip_sample=False))
        pipeline.scheduler = scheduler  # the pipeline's constructor would convert another class
        pipeline.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(3)
        images.append(pipeline(batch_size=2, generator=generator, num_inference_steps=10, output_type="np").images)
    assert images[0].std() > 0.01
    assert np.abs(images[0] - images[1]).max() < 1e-5


def test_noise_of_a_sample_is_its_own() -> None:
    """Batch of two equals two of one, with seeds or with a list of generators."""
    scheduler = S.DDPMScheduler(seeds=[3, 4])
    scheduler.set_timesteps(10)
    x = torch.from_numpy(D.normal(SHAPE, 1))
    t = scheduler.timesteps[4]
    both = scheduler.step(x, t, x)[0]
    for i, seed in enumerate((3, 4)):
        scheduler.seeds = [seed]
        assert torch.equal(scheduler.step(x[i : i + 1], t, x[i : i + 1]).prev_sample[0], both[i])
    scheduler.seeds = None
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    assert torch.equal(scheduler.step(x, t, x, generator=generators, return_dict=False)[0], both)


def test_bad_use() -> None:
    scheduler = S.DDIMScheduler()
    scheduler.set_timesteps(10)
    with pytest.raises(ArgumentError, match="timestep"):
        scheduler.step(torch.zeros(SHAPE), 3, torch.zeros(SHAPE))
    with pytest.raises(ArgumentError, match="num_inference_steps"):
        scheduler.set_timesteps(0)
    with pytest.raises(ArgumentError, match="cpu"):
        scheduler.set_timesteps(10, device="cuda")
    for bad in ({"prediction_type": "x"}, {"beta_schedule": "x"}, {"timestep_spacing": "x"}):
        with pytest.raises(ArgumentError, match=next(iter(bad))):
            S.DDIMScheduler(**bad)
    again = S.DDIMScheduler.from_config(diffusers.DDIMScheduler(beta_schedule="scaled_linear").config)
    assert again.config.beta_schedule == "scaled_linear"
    assert len(again) == 1000
    with pytest.raises(AttributeError):
        _ = again.config.nothing
