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


def trajectory(scheduler: Any, steps: int = STEPS, **options: Any) -> list[Any]:
    scheduler.set_timesteps(steps)
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
    bound = 3e-5 if beta == "squaredcos_cap_v2" else 1e-5  # alpha is nearly 0 here, and they compute in float32
    close(trajectory(S.DDIMScheduler(**config, **PLAIN, seeds=0), eta=eta), trajectory(theirs, eta=eta, **noise), bound)


@pytest.mark.parametrize("steps", [50, 30])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_spacings(spacing: str, steps: int) -> None:
    """Their DDIM looks back by a stride that is not always that of its timesteps, and so does ours."""
    options = {"timestep_spacing": spacing, **PLAIN}
    ours, theirs = S.DDIMScheduler(**options, seeds=0), diffusers.DDIMScheduler(**options)
    close(trajectory(ours, steps), trajectory(theirs, steps))
    assert ours.timesteps.tolist() == theirs.timesteps.tolist()
    stochastic, noise = {"eta": 0.7}, {"eta": 0.7, "variance_noise": noise_of_step}
    close(trajectory(ours, steps, **stochastic), trajectory(theirs, steps, **noise))


@pytest.mark.parametrize(
    "config", [{}, {"clip_sample": True, "prediction_type": "v_prediction"}, {"clip_sample": True}]
)
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_ddpm(monkeypatch: pytest.MonkeyPatch, config: dict, spacing: str) -> None:
    theirs = diffusers.DDPMScheduler(**{**PLAIN, **config}, timestep_spacing=spacing)
    module = __import__(type(theirs).__module__, fromlist=["randn_tensor"])
    count = iter(range(STEPS))
    monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: noise_of_step(next(count)))
    close(trajectory(S.DDPMScheduler.from_config(theirs.config, seeds=0)), trajectory(theirs))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_clipped_ddim(prediction: str, again: bool, eta: float) -> None:
    theirs = diffusers.DDIMScheduler(clip_sample_range=0.3, prediction_type=prediction)
    ours = S.DDIMScheduler.from_config(theirs.config, seeds=0)
    assert ours.config.clip_sample
    options = {"eta": eta, "use_clipped_model_output": again}
    noise = {"variance_noise": noise_of_step} if eta else {}
    close(trajectory(ours, **options), trajectory(theirs, **options, **noise))
    x, t = torch.ones(SHAPE), ours.timesteps[0]
    assert ours.step(x, t, 9 * x).pred_original_sample.abs().max() <= 0.3


BETAS = np.linspace(0.01, 0.03, 1000) ** 1.1


@pytest.mark.parametrize(
    "config",
    [
        {"trained_betas": BETAS},
        {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"},
        {"set_alpha_to_one": False},
        {"set_alpha_to_one": False, "steps_offset": 1},
    ],
    ids=lambda config: next(iter(config)) + str(len(config)),
)
def test_ddim_on_other_levels(config: dict) -> None:
    theirs = diffusers.DDIMScheduler(**config, **PLAIN)
    close(trajectory(S.DDIMScheduler.from_config(theirs.config)), trajectory(theirs), 3e-5)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("config", [{"trained_betas": BETAS}, {"rescale_betas_zero_snr": True}, {"steps_offset": 1}])
def test_solver_on_other_levels(config: dict, spacing: str) -> None:
    theirs = diffusers.DPMSolverMultistepScheduler(prediction_type="v_prediction", timestep_spacing=spacing, **config)
    close(trajectory(S.DPMSolverMultistepScheduler.from_config(theirs.config)), trajectory(theirs), 5e-5)
    theirs = diffusers.EulerAncestralDiscreteScheduler(timestep_spacing=spacing, **config)
    ours = S.EulerAncestralDiscreteScheduler.from_config(theirs.config)
    for one in (ours, theirs):
        one.set_timesteps(STEPS)
    assert torch.equal(ours.sigmas, theirs.sigmas)
    assert torch.equal(ours.timesteps, theirs.timesteps)


def test_names_that_are_no_fields_are_refused() -> None:
    for kind in (S.DDIMScheduler, S.FlowMatchEulerDiscreteScheduler):
        with pytest.raises(ArgumentError, match="timestep_spaceing: not a field of"):
            kind(timestep_spaceing="trailing")
    with pytest.raises(ArgumentError, match="clip_sample: not a field of"):
        S.DPMSolverMultistepScheduler(clip_sample=True)
    for config in (diffusers.PNDMScheduler().config, diffusers.DDIMScheduler().config):  # what pipelines hand over
        assert len(S.DPMSolverMultistepScheduler.from_config(config)) == 1000


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("EDMDPMSolverMultistepScheduler", {}),
        ("DPMSolverMultistepScheduler", {}),
        ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}),
        ("UniPCMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}),
    ],
)
def test_levels_by_their_own_rule(name: str, config: dict) -> None:
    theirs = getattr(diffusers, name)(**config)
    theirs.set_timesteps(12)
    s = D.Schedule.from_diffusers(theirs)
    x0, z = (torch.from_numpy(D.normal(SHAPE, seed)) for seed in (1, 2))
    for k in (0, 5, 11):
        noisy = theirs.add_noise(x0, z, theirs.timesteps[k].repeat(2))
        close([s.alpha[k] * x0 + s.sigma[k] * z], [noisy])
    alpha = 1.0 if "EDM" in name else 1 - s.sigma if config else 1 / np.sqrt(1 + np.array(theirs.sigmas) ** 2)
    np.testing.assert_allclose(s.alpha, alpha * np.ones(13), atol=1e-6)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_euler_ancestral(monkeypatch: pytest.MonkeyPatch, prediction: str) -> None:
    theirs = diffusers.EulerAncestralDiscreteScheduler(prediction_type=prediction, timestep_spacing="linspace")
    ours = S.EulerAncestralDiscreteScheduler(prediction_type=prediction, timestep_spacing="linspace", seeds=0)
    with_noise_of_steps(monkeypatch, theirs)
    close(trajectory(ours), trajectory(theirs))


def with_noise_of_steps(monkeypatch: pytest.MonkeyPatch, theirs: Any, first: int = 0) -> None:
    """Let a scheduler of diffusers draw, call by call, the noise of the steps of seed 0."""
    module = __import__(type(theirs).__module__, fromlist=["randn_tensor"])
    count = iter(range(first, STEPS))
    monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: noise_of_step(next(count)))


def in_float64(theirs: Any) -> Any:
    """Let a scheduler of diffusers work out its coefficients in float64: of float32, differences lose four digits."""
    plain = theirs.set_timesteps

    def set_timesteps(*args: Any, **options: Any) -> None:
        plain(*args, **options)
        theirs.sigmas = theirs.sigmas.double()

    theirs.set_timesteps = set_timesteps
    return theirs


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("options", [{}, {"s_churn": 20.0, "s_tmin": 0.5, "s_noise": 1.01}])
def test_euler(monkeypatch: pytest.MonkeyPatch, prediction: str, options: dict) -> None:
    config = {"prediction_type": prediction, "timestep_spacing": "linspace", "use_karras_sigmas": bool(options)}
    theirs = diffusers.EulerDiscreteScheduler(**config)
    with_noise_of_steps(monkeypatch, theirs)
    close(trajectory(S.EulerDiscreteScheduler(**config, seeds=0), **options), trajectory(theirs, **options))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("config", [{}, {"use_karras_sigmas": True}, {"clip_sample": True}])
def test_heun(prediction: str, config: dict) -> None:
    theirs = diffusers.HeunDiscreteScheduler(prediction_type=prediction, **config)
    close(trajectory(S.HeunDiscreteScheduler.from_config(theirs.config)), trajectory(theirs))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"solver_type": "bh1"},
        {"predict_x0": False},
        {"predict_x0": False, "solver_type": "bh1"},
        {"disable_corrector": [0, 7]},
        {"use_karras_sigmas": True},
        {"lower_order_final": False, "final_sigmas_type": "sigma_min"},
    ],
)
def test_unipc(config: dict, order: int, prediction: str) -> None:
    theirs = in_float64(diffusers.UniPCMultistepScheduler(solver_order=order, prediction_type=prediction, **config))
    close(trajectory(S.UniPCMultistepScheduler.from_config(theirs.config)), trajectory(theirs))


def test_solvers_of_flows() -> None:
    config = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
    for name in ("UniPCMultistepScheduler", "DEISMultistepScheduler"):
        theirs = in_float64(getattr(diffusers, name)(**config))
        close(trajectory(getattr(S, name).from_config(theirs.config)), trajectory(theirs))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("steps", [12, STEPS])
def test_deis(order: int, prediction: str, steps: int) -> None:
    theirs = in_float64(diffusers.DEISMultistepScheduler(solver_order=order, prediction_type=prediction))
    close(trajectory(S.DEISMultistepScheduler.from_config(theirs.config), steps), trajectory(theirs, steps))


@pytest.mark.parametrize("algorithm", ["data_prediction", "noise_prediction"])
@pytest.mark.parametrize("orders", [(1, 1), (1, 2), (2, 2), (3, 3), (2, 1)])
@pytest.mark.parametrize("tau", [0.0, 0.6, None])
def test_sa_solver(monkeypatch: pytest.MonkeyPatch, tau: float | None, orders: tuple, algorithm: str) -> None:
    config = {"predictor_order": orders[0], "corrector_order": orders[1], "algorithm_type": algorithm}
    if tau is not None:
        config["tau_func"] = lambda _: torch.tensor(tau)
    theirs = in_float64(diffusers.SASolverScheduler(**config))
    if tau is None:
        theirs.tau_func = lambda t: torch.tensor(1.0 if 200 <= t <= 800 else 0.0)  # theirs wants a tensor
    ours = S.SASolverScheduler(**config, seeds=0)
    with_noise_of_steps(monkeypatch, theirs)
    close(trajectory(ours), trajectory(theirs))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_lcm(monkeypatch: pytest.MonkeyPatch, prediction: str) -> None:
    for config in ({}, {"clip_sample": True}):
        theirs = diffusers.LCMScheduler(prediction_type=prediction, **config)
        with_noise_of_steps(monkeypatch, theirs)
        close(trajectory(S.LCMScheduler.from_config(theirs.config, seeds=0), 8), trajectory(theirs, 8))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_tcd(monkeypatch: pytest.MonkeyPatch, prediction: str, eta: float) -> None:
    theirs = diffusers.TCDScheduler(prediction_type=prediction)
    with_noise_of_steps(monkeypatch, theirs)
    close(trajectory(S.TCDScheduler.from_config(theirs.config, seeds=0), 8, eta=eta), trajectory(theirs, 8, eta=eta))


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_sample_has_tcds_own_timesteps(monkeypatch: pytest.MonkeyPatch, eta: float) -> None:
    """All but the last step, where theirs ends at the least noise that was trained and ours without any."""
    theirs = diffusers.TCDScheduler()
    with_noise_of_steps(monkeypatch, theirs)
    states = trajectory(theirs, 8, eta=eta)
    levels = D.Schedule.from_diffusers(theirs)
    assert levels.trained is not None

    def model(x: Any, _alpha: float, _sigma: float, k: int) -> Any:
        return fake_model(torch.from_numpy(x), levels.time[k]).numpy()

    ours = [
        D.sample(model, SHAPE, levels, "tcd", eta=eta, x=D.normal(SHAPE, 1), stop=stop, seeds=0) for stop in range(1, 8)
    ]
    close([torch.from_numpy(x) for x in ours], states[:7])
    with pytest.raises(ArgumentError, match="time: expected whole numbers"):
        D.Schedule(levels.alpha, levels.sigma, time=levels.time + 0.5, trained=levels.trained)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_ddim_inversion(prediction: str) -> None:
    theirs = diffusers.DDIMInverseScheduler(prediction_type=prediction, **PLAIN)
    close(trajectory(S.DDIMInverseScheduler.from_config(theirs.config)), trajectory(theirs))


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
    for scheduler in (diffusers.DDIMScheduler(clip_sample=False), S.DDIMScheduler(clip_sample=False)):
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
    both = scheduler.step(x, t, x, generator=generators, return_dict=False)[0]
    for i, seed in enumerate((3, 4)):
        one = torch.Generator().manual_seed(seed)
        for generator in ([one], [torch.Generator().manual_seed(seed)]):
            single = scheduler.step(x[i : i + 1], t, x[i : i + 1], generator=generator, return_dict=False)[0]
            assert torch.equal(single[0], both[i])


@pytest.mark.parametrize(
    ("name", "config", "options"),
    [
        ("DDIMScheduler", {}, {"eta": 1.0}),
        ("DDPMScheduler", {}, {}),
        ("DDPMScheduler", {"variance_type": "fixed_large"}, {}),
        ("EulerAncestralDiscreteScheduler", {}, {}),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, {}),
        ("FlowMatchEulerDiscreteScheduler", {"stochastic_sampling": True}, {}),
        ("EulerDiscreteScheduler", {}, {"s_churn": 1.0}),
        ("LCMScheduler", {}, {}),
        ("TCDScheduler", {}, {}),
        ("SASolverScheduler", {"tau_func": torch.ones_like}, {}),
    ],
)
def test_two_runs_draw_different_noise(name: str, config: dict, options: dict) -> None:
    """Noise of two runs is not correlated: without a generator, and with one that is used twice."""
    scheduler = getattr(S, name)(**config)

    def drawn(generator: Any = None) -> Any:
        """The noise of a run: what it adds to a run with the same states and no noise of its own."""
        scheduler.set_timesteps(4)
        zero = torch.zeros(4, 3, 32, 32)
        out = []
        for t in scheduler.timesteps[:3]:
            out.append(scheduler.step(zero, t, zero, generator=generator, **options).prev_sample)
        return torch.stack(out)

    def correlation(a: Any, b: Any) -> float:
        return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])

    torch.manual_seed(7)
    first, second = drawn(), drawn()
    assert first.std() > 0
    assert abs(correlation(first, second)) < 0.05
    if name != "SASolverScheduler":  # whose corrector takes the noise of the step before again
        assert abs(correlation(first[0], first[1])) < 0.05
    torch.manual_seed(7)
    assert torch.equal(drawn(), first)  # torch's default generator decides
    generator = torch.Generator().manual_seed(5)
    third, fourth = drawn(generator), drawn(generator)
    assert abs(correlation(third, fourth)) < 0.05
    assert torch.equal(drawn(torch.Generator().manual_seed(5)), third)


def test_a_generator_moves_by_one_draw_a_run() -> None:
    scheduler, x = S.DDPMScheduler(), torch.ones(SHAPE)
    generator, other = (torch.Generator().manual_seed(5) for _ in range(2))
    scheduler.set_timesteps(10)
    for t in scheduler.timesteps:
        scheduler.step(x, t, x, generator=generator)
    torch.randint(0, 2**63 - 1, (1,), generator=other)
    assert torch.equal(generator.get_state(), other.get_state())
    t = scheduler.timesteps[4]
    again = [scheduler.step(x, t, x, generator=generator)[0] for _ in range(2)]
    assert not torch.equal(*again)  # going back begins another run


def test_bad_use() -> None:
    scheduler = S.DDIMScheduler()
    x = torch.zeros(SHAPE)
    with pytest.raises(ArgumentError, match="set_timesteps"):
        scheduler.step(x, 3, x)
    scheduler.set_timesteps(10)
    for t in (-1, 1000):
        with pytest.raises(ArgumentError, match="timestep"):
            scheduler.step(x, t, x)
    with pytest.raises(ArgumentError, match="num_inference_steps"):
        scheduler.set_timesteps(0)
    with pytest.raises(ArgumentError, match="eta"):
        scheduler.step(x, 1, x, eta=1.5)
    with pytest.raises(ArgumentError, match="model_output"):
        scheduler.step(x[:1], 1, x)
    with pytest.raises(ArgumentError, match="variance_noise"):
        scheduler.step(x, 1, x, eta=1.0, generator=torch.Generator(), variance_noise=x)
    for kind in (S.FlowMatchEulerDiscreteScheduler, S.EulerAncestralDiscreteScheduler):
        counting = kind()
        counting.set_timesteps(3)
        for bad in (0, torch.tensor(1), 123.4):
            with pytest.raises(ArgumentError, match="timestep"):
                counting.step(x, bad, x)
        for t in counting.timesteps:
            counting.step(x, t, x)
        with pytest.raises(ArgumentError, match="timestep: this run has 3 steps"):
            counting.step(x, t, x)
    none = S.DDIMScheduler(rescale_betas_zero_snr=True, timestep_spacing="trailing")
    none.set_timesteps(10)
    with pytest.raises(ArgumentError, match="prediction_type"):
        none.step(x, none.timesteps[0], x)
    with pytest.raises(ArgumentError, match="channels"):
        S.DDPMScheduler(variance_type="learned").step(x, 5, x)
