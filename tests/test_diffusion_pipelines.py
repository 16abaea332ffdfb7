"""Unmodified pipelines of diffusers with Legato's schedulers: the same images, saved and loaded again."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from legato import diffusion as D

torch = pytest.importorskip("torch", reason="torch is not installed")
with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
    patch.setenv("USE_TF", "0")
    warnings.simplefilter("ignore")
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")

from legato.diffusion import schedulers as S  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers and torch warn of their own doings
SIZE, STEPS = 16, 4


def vae(channels: int) -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(8,), norm_num_groups=4, latent_channels=channels, sample_size=SIZE, layers_per_block=1,
        shift_factor=0.1,
    )  # fmt: skip


def unet(**fields: Any) -> Any:
    return diffusers.UNet2DConditionModel(
        sample_size=SIZE, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8, **fields,
    )  # fmt: skip


def embeddings(*shape: int, seed: int) -> Any:
    return torch.from_numpy(D.normal(shape, seed))


PICTURE = {"image": np.linspace(0, 1, SIZE * SIZE * 3, dtype=np.float32).reshape(1, SIZE, SIZE, 3)}
SAID = {"prompt_embeds": embeddings(1, 4, 8, seed=1)}
NOT_SAID = {"negative_prompt_embeds": embeddings(1, 4, 8, seed=2), "guidance_scale": 3.0}
POOLED = {"pooled_prompt_embeds": embeddings(1, 8, seed=3)}
NOT_POOLED = {"negative_pooled_prompt_embeds": embeddings(1, 8, seed=4)}
NO_TEXT = {"text_encoder": None, "tokenizer": None}
NO_TEXT_2 = {**NO_TEXT, "text_encoder_2": None, "tokenizer_2": None}
SIZED = {"height": SIZE, "width": SIZE}


def stable_diffusion(kind: str = "StableDiffusionPipeline") -> tuple[Any, dict]:
    theirs = diffusers.PNDMScheduler(steps_offset=1, skip_prk_steps=True)  # the pipeline asks for both
    rest = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipe = getattr(diffusers, kind)(vae=vae(4), unet=unet(), scheduler=theirs, **NO_TEXT, **rest)
    return pipe, {**SAID, **NOT_SAID}


def stable_diffusion_xl() -> tuple[Any, dict]:
    time = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    net = unet(**time, projection_class_embeddings_input_dim=56, transformer_layers_per_block=1)
    pipe = diffusers.StableDiffusionXLPipeline(
        vae=vae(4), unet=net, scheduler=diffusers.EulerDiscreteScheduler(), add_watermarker=False, **NO_TEXT_2
    )
    return pipe, {**SAID, **NOT_SAID, **POOLED, **NOT_POOLED}


def stable_diffusion_3() -> tuple[Any, dict]:
    net = diffusers.SD3Transformer2DModel(
        sample_size=SIZE, patch_size=1, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2,
        caption_projection_dim=16, joint_attention_dim=8, pooled_projection_dim=8, out_channels=4,
    )  # fmt: skip
    pipe = diffusers.StableDiffusion3Pipeline(
        transformer=net, vae=vae(4), scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), **NO_TEXT_2,
        text_encoder_3=None, tokenizer_3=None,
    )  # fmt: skip
    return pipe, {**SAID, **NOT_SAID, **POOLED, **NOT_POOLED}


def flux() -> tuple[Any, dict]:
    net = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=8, pooled_projection_dim=8, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    shifting = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0)
    pipe = diffusers.FluxPipeline(transformer=net, vae=vae(1), scheduler=shifting, **NO_TEXT_2)
    return pipe, {**SAID, **POOLED}


def dit() -> tuple[Any, dict]:
    net = diffusers.DiTTransformer2DModel(
        sample_size=SIZE, num_layers=1, patch_size=2, attention_head_dim=4, num_attention_heads=2, in_channels=4,
        out_channels=8, num_embeds_ada_norm=1000,
    )  # fmt: skip
    pipe = diffusers.DiTPipeline(transformer=net, vae=vae(4), scheduler=diffusers.DDIMScheduler())
    return pipe, {"class_labels": [1], "guidance_scale": 3.0}


def ddpm() -> tuple[Any, dict]:
    net = diffusers.UNet2DModel(
        sample_size=SIZE, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    return diffusers.DDPMPipeline(unet=net, scheduler=diffusers.DDPMScheduler(clip_sample=False)), {}


def image_to_image() -> tuple[Any, dict]:
    pipe, inputs = stable_diffusion("StableDiffusionImg2ImgPipeline")
    return pipe, {**inputs, **PICTURE, "strength": 0.7}


def inpaint() -> tuple[Any, dict]:
    pipe, inputs = stable_diffusion("StableDiffusionInpaintPipeline")
    mask = np.zeros((1, SIZE, SIZE, 1), np.float32)
    mask[:, :, : SIZE // 2] = 1
    return pipe, {**inputs, **PICTURE, **SIZED, "mask_image": mask, "strength": 0.8}


SOLVER = "DPMSolverMultistepScheduler"
KARRAS = {"use_karras_sigmas": True}
CASES: list[tuple[Callable[[], tuple[Any, dict]], str, dict, dict]] = [
    (stable_diffusion, "DDIMScheduler", {"clip_sample": False}, SIZED),
    (stable_diffusion, SOLVER, KARRAS, SIZED),
    (stable_diffusion, SOLVER, {"algorithm_type": "sde-dpmsolver++", **KARRAS}, SIZED),
    (stable_diffusion, "EulerAncestralDiscreteScheduler", {}, SIZED),
    (stable_diffusion, SOLVER, {"timesteps": [900, 700, 300, 20]}, SIZED),
    (stable_diffusion, "EulerDiscreteScheduler", {}, SIZED),
    (stable_diffusion, "HeunDiscreteScheduler", {}, SIZED),
    (stable_diffusion, "UniPCMultistepScheduler", KARRAS, SIZED),
    (stable_diffusion, "DEISMultistepScheduler", {}, SIZED),
    (stable_diffusion, "SASolverScheduler", {}, SIZED),
    (stable_diffusion, "LCMScheduler", {}, SIZED),
    (stable_diffusion, "TCDScheduler", {}, SIZED),
    (stable_diffusion_xl, SOLVER, {"use_exponential_sigmas": True, "solver_order": 3}, SIZED),
    (stable_diffusion_3, "FlowMatchEulerDiscreteScheduler", {}, SIZED),
    (stable_diffusion_3, SOLVER, {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}, SIZED),
    (flux, "FlowMatchEulerDiscreteScheduler", {}, SIZED),
    (flux, "FlowMatchEulerDiscreteScheduler", {"sigmas": [1.0, 0.7, 0.4, 0.1]}, SIZED),
    (dit, "DDIMScheduler", {"clip_sample": False}, {}),
    (ddpm, "DDPMScheduler", {"clip_sample": False}, {}),
    (image_to_image, "DDIMScheduler", {"clip_sample": False}, {}),
    (image_to_image, "UniPCMultistepScheduler", {}, {}),
    (inpaint, "DDIMScheduler", {"clip_sample": False}, {}),
    (inpaint, SOLVER, {}, {}),
]
NAMES = [f"{build.__name__}-{name}-{number}" for number, (build, name, _, _) in enumerate(CASES)]


def made(build: Callable[[], tuple[Any, dict]]) -> tuple[Any, dict]:
    torch.manual_seed(0)
    if build not in (dit, ddpm):
        pytest.importorskip("transformers", reason="diffusers has these pipelines with transformers alone")
    pipe, inputs = build()
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval()  # DiT forgets labels at random in training
    pipe.set_progress_bar_config(disable=True)
    return pipe, inputs


def image(pipe: Any, inputs: dict, seed: int | None = 3) -> np.ndarray:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    with torch.no_grad():
        return np.asarray(pipe(**inputs, num_inference_steps=STEPS, generator=generator, output_type="np").images)


@pytest.mark.parametrize(("build", "name", "config", "more"), CASES, ids=NAMES)
def test_the_same_images(monkeypatch: pytest.MonkeyPatch, build: Callable, name: str, config: dict, more: dict) -> None:
    pipe, inputs = made(build)
    config = dict(config)
    inputs = {**inputs, **more, **{key: config.pop(key) for key in ("timesteps", "sigmas") if key in config}}
    theirs = getattr(diffusers, name).from_config(pipe.scheduler.config, **config)
    ours = getattr(S, name).from_config(pipe.scheduler.config, **config, seeds=0)
    assert dict(ours.config) == dict(theirs.config)
    pipe.scheduler = ours
    mine = image(pipe, inputs)
    module = __import__(getattr(diffusers, name).__module__, fromlist=["_"])
    if hasattr(module, "randn_tensor"):  # give theirs our noise
        count = iter(range(STEPS))
        noise = lambda shape, **_: torch.from_numpy(D.normal(tuple(shape), 0, step=next(count)))  # noqa: E731
        monkeypatch.setattr(module, "randn_tensor", noise)
    if hasattr(theirs, "tau_func"):
        theirs.tau_func = lambda t: torch.tensor(1.0 if 200 <= t <= 800 else 0.0)  # theirs wants a tensor
    pipe.scheduler = theirs
    assert np.isfinite(mine).all()
    assert mine.std() > 0.01
    assert np.abs(mine - image(pipe, inputs)).max() < 1e-5


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (stable_diffusion, "EulerAncestralDiscreteScheduler"),
        (stable_diffusion_xl, "DPMSolverMultistepScheduler"),
        (stable_diffusion_3, "FlowMatchEulerDiscreteScheduler"),
        (flux, "FlowMatchEulerDiscreteScheduler"),
        (dit, "DDIMScheduler"),
        (ddpm, "DDPMScheduler"),
        (image_to_image, "UniPCMultistepScheduler"),
        (inpaint, "LCMScheduler"),
    ],
)
def test_saved_and_loaded(tmp_path: Path, build: Callable, name: str) -> None:
    pipe, inputs = made(build)
    pipe.scheduler = getattr(S, name).from_config(pipe.scheduler.config)
    pipe.save_pretrained(tmp_path)
    absent = {part: None for part, held in pipe.components.items() if held is None}
    again = type(pipe).from_pretrained(tmp_path, **absent)
    again.set_progress_bar_config(disable=True)
    assert type(again.scheduler) is getattr(S, name)
    fields = [field for field in getattr(diffusers, name)().config if not field.startswith("_")]
    assert [again.scheduler.config[one] for one in fields] == [pipe.scheduler.config[one] for one in fields]
    more = SIZED if build not in (dit, ddpm, image_to_image) else {}
    np.testing.assert_array_equal(image(again, {**inputs, **more}), image(pipe, {**inputs, **more}))


def test_two_stochastic_calls_differ() -> None:
    pipe, _ = made(ddpm)
    pipe.scheduler = S.DDPMScheduler(clip_sample=False)
    torch.manual_seed(1)
    one, two = (image(pipe, {"batch_size": 2}, seed=None) for _ in range(2))
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.2
    assert abs(np.corrcoef(one[0].ravel(), one[1].ravel())[0, 1]) < 0.2


def test_image_7_of_a_batch_is_the_single_image() -> None:
    """Bit for bit, with a network that takes its images one at a time: whose noise it is depends on the image alone."""

    class OneByOne(diffusers.UNet2DModel):  # type: ignore[misc]
        def forward(self, sample: Any, timestep: Any, *args: Any, **options: Any) -> Any:  # noqa: ARG002
            parts = [super(OneByOne, self).forward(one[None], timestep).sample for one in sample]
            return diffusers.models.unets.unet_2d.UNet2DOutput(sample=torch.cat(parts))

    torch.manual_seed(0)
    net = OneByOne(
        sample_size=8, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    ).eval()  # fmt: skip
    pipe = diffusers.DDPMPipeline(unet=net, scheduler=diffusers.DDPMScheduler(clip_sample=False))
    pipe.set_progress_bar_config(disable=True)

    def images(seeds: list[int]) -> np.ndarray:
        pipe.scheduler = S.DDPMScheduler(clip_sample=False)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        with torch.no_grad():
            given = {"batch_size": len(seeds), "num_inference_steps": STEPS, "output_type": "np"}
            return np.asarray(pipe(**given, generator=generators).images)

    batch = images(list(range(100, 116)))
    assert batch.std() > 0.01
    assert (images([107])[0] == batch[7]).all()
    assert (images([107, 3])[0] == batch[7]).all()
