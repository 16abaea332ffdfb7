"""Guidance around any denoiser, as a guider of diffusers, and PCG inside unmodified pipelines."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from legato import diffusion as D
from legato.errors import ArgumentError

torch = pytest.importorskip("torch", reason="torch is not installed")
with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
    patch.setenv("USE_TF", "0")
    warnings.simplefilter("ignore")
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    pytest.importorskip("diffusers.guiders", reason="this diffusers has no guiders")

from diffusers import guiders as theirs  # noqa: E402

from legato.diffusion import guiders  # noqa: E402
from legato.diffusion import schedulers as S  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers and torch warn of their own doings
SHAPE = (2, 3, 4, 4)


def cond(x: Any, alpha: float, sigma: float, _k: int) -> Any:
    return 0.6 * sigma * x + 0.1 * alpha


def uncond(x: Any, _alpha: float, sigma: float, _k: int) -> Any:
    return 0.4 * sigma * x - 0.2


@pytest.mark.parametrize("prediction", ["epsilon", "v", "x0"])
@pytest.mark.parametrize(
    "guidance",
    [
        D.Guidance(3.0),
        D.Guidance(3.0, interval=(0.3, 2.0)),
        D.Guidance(3.0, rescale=0.7),
        D.Guidance(3.0, "apg", momentum=-0.5, norm=2.0, parallel=0.3),
        D.Guidance(3.0, "zero_star", zero_steps=2),
    ],
    ids=lambda one: one.rule + str(one.rescale or one.interval or ""),
)
def test_a_guided_denoiser_is_what_a_run_does(guidance: D.Guidance, prediction: str) -> None:
    schedule = D.Schedule.vp_linear(8, t_end=0.05)
    options = {"prediction": prediction, "dtype": "float64", "eta": 0.5}
    wanted = D.sample(D.guided(cond, uncond), SHAPE, schedule, guidance_scale=guidance, **options)
    denoiser = D.GuidedDenoiser(cond, uncond, guidance, prediction)
    for _ in range(2):  # the second run begins anew
        np.testing.assert_allclose(D.sample(denoiser, SHAPE, schedule, **options), wanted, rtol=1e-9, atol=1e-9)
    x = torch.from_numpy(D.normal(SHAPE, 1))
    out = denoiser(x, 0.8, 0.6, 0)
    assert isinstance(out, torch.Tensor)
    np.testing.assert_allclose(out.numpy(), denoiser(x.numpy(), 0.8, 0.6, 0), rtol=1e-6)


def test_bad_guidance() -> None:
    with pytest.raises(ArgumentError, match=r"'cfg\+\+' steps with two predictions"):
        D.GuidedDenoiser(cond, uncond, D.Guidance(0.5, "cfg++"))
    with pytest.raises(ArgumentError, match=r"rule: 'cfg\+\+'"):
        guiders.LegatoGuidance(rule="cfg++")
    with pytest.raises(ArgumentError, match="momentum: goes with rule 'apg' alone"):
        guiders.LegatoGuidance(momentum=0.5)


@pytest.mark.parametrize(
    ("ours", "other", "fields"),
    [
        ({"guidance_scale": 4.0}, "ClassifierFreeGuidance", {"guidance_scale": 4.0}),
        ({"guidance_scale": 4.0, "rescale": 0.6}, "ClassifierFreeGuidance",
         {"guidance_scale": 4.0, "guidance_rescale": 0.6}),
        ({"guidance_scale": 4.0, "start": 0.25, "stop": 0.75}, "ClassifierFreeGuidance",
         {"guidance_scale": 4.0, "start": 0.25, "stop": 0.75}),
        ({"guidance_scale": 4.0, "rule": "zero_star", "zero_steps": 1}, "ClassifierFreeZeroStarGuidance",
         {"guidance_scale": 4.0, "zero_init_steps": 1}),
        ({"guidance_scale": 4.0, "rule": "apg", "momentum": -0.5, "norm": 5.0, "parallel": 0.2},
         "AdaptiveProjectedGuidance",
         {"guidance_scale": 3.0, "adaptive_projected_guidance_momentum": -0.5, "eta": 0.2,
          "adaptive_projected_guidance_rescale": 5.0, "use_original_formulation": True}),
    ],
)  # fmt: skip
def test_guiders_give_what_theirs_give(ours: dict, other: str, fields: dict) -> None:
    mine, peer = guiders.LegatoGuidance(**ours), getattr(theirs, other)(**fields)
    for step in range(8):
        data = {"hidden": tuple(torch.from_numpy(D.normal(SHAPE, seed, step=step)) for seed in (1, 2))}
        made = []
        for guider in (mine, peer):
            guider.set_state(step=step, num_inference_steps=8, timestep=torch.tensor(800))
            batches = guider.prepare_inputs(data)
            for batch in batches:
                batch.noise_pred = batch.hidden
            made.append(guider(batches).pred)
        torch.testing.assert_close(*made, rtol=1e-4, atol=1e-4)
    assert mine.new(guidance_scale=2.0).guidance.scale == 2.0


@pytest.mark.parametrize("correctors", [1, 3])
def test_pcg_steps_are_those_of_a_run(correctors: int) -> None:
    scheduler = guiders.PCGScheduler(clip_sample=False, seeds=5).guided(2.5, corrector_steps=correctors)
    scheduler.set_timesteps(10)
    assert len(scheduler.timesteps) == 1 + 9 * (correctors + 1)
    plain = S.DDIMScheduler(clip_sample=False)
    plain.set_timesteps(10)
    schedule = D.Schedule.from_diffusers(plain)
    x = D.normal(SHAPE, 3)
    wanted = D.sample(
        D.guided(cond, uncond), SHAPE, schedule, guidance_scale=2.5, corrector_steps=correctors, seeds=5, x=x
    )
    guider = guiders.PCGGuidance(scheduler)
    state = torch.from_numpy(x)
    for i, t in enumerate(scheduler.timesteps):
        level = schedule.time.tolist().index(float(t))
        a, s = float(schedule.alpha[level]), float(schedule.sigma[level])
        guider.set_state(step=i, num_inference_steps=len(scheduler.timesteps), timestep=t)
        batches = guider.prepare_inputs({"x": (cond(state, a, s, level), uncond(state, a, s, level))})
        for batch in batches:
            batch.noise_pred = batch.x
        state = scheduler.step(guider(batches).pred, t, state).prev_sample
    np.testing.assert_allclose(state.numpy(), wanted, rtol=1e-4, atol=1e-4)
    with pytest.raises(ArgumentError, match="all are taken"):
        scheduler.step(state, 0, state)


def test_pcg_inside_an_unmodified_pipeline() -> None:
    """Stable Diffusion's pipeline, its scheduler replaced and a callback given: PCG around its own network."""
    pytest.importorskip("transformers", reason="diffusers has these pipelines with transformers alone")
    from test_diffusion_pipelines import NOT_SAID, SAID, SIZED, stable_diffusion

    pipe, _ = stable_diffusion()
    pipe.set_progress_bar_config(disable=True)
    fields = {"steps_offset": 1, "clip_sample": False, "set_alpha_to_one": False}
    scheduler = guiders.PCGScheduler(**fields, seeds=7).guided(3.0, corrector_steps=1)
    pipe.scheduler = scheduler
    latents = torch.from_numpy(D.normal((1, 4, 16, 16), 3))
    call = {**SAID, **NOT_SAID, **SIZED, "latents": latents.clone(), "output_type": "latent"}
    call |= {"guidance_scale": scheduler.at_start, "callback_on_step_end": scheduler.guide, "num_inference_steps": 5}
    if pipe.vae_scale_factor != 1:
        call |= dict.fromkeys(SIZED, 16 * pipe.vae_scale_factor)
    found = pipe(**call).images
    plain = S.DDIMScheduler(**fields)
    plain.set_timesteps(5)
    schedule = D.Schedule.from_diffusers(plain)

    def denoiser(embedding: Any) -> Any:
        def predict(x: Any, _alpha: float, _sigma: float, k: int) -> Any:
            with torch.no_grad():
                return pipe.unet(torch.from_numpy(x), plain.timesteps[k], encoder_hidden_states=embedding)[0]

        return predict

    class Levels:
        """Correctors are evaluated at the level after the step, whose timestep the network is told."""

        def __init__(self, predict: Any) -> None:
            self.predict = predict

        def __call__(self, x: Any, alpha: float, sigma: float, _k: int) -> Any:
            return self.predict(x, alpha, sigma, int(np.argmin(abs(schedule.sigma[:-1] - sigma))))

    pair = D.guided(
        *(Levels(denoiser(embedding)) for embedding in (SAID["prompt_embeds"], NOT_SAID["negative_prompt_embeds"]))
    )
    wanted = D.sample(
        pair, (1, 4, 16, 16), schedule, guidance_scale=3.0, corrector_steps=1, seeds=7, x=latents.numpy(), stop=4
    )
    # the last step leads to the least trained level, where the pipeline has no timestep for a corrector
    wanted = D.sample(pair, (1, 4, 16, 16), schedule, guidance_scale=1.0, seeds=7, x=wanted, start=4)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-3, atol=1e-3)
