"""Samplers of whole runs: held against their peers around one model, and their orders of convergence measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from legato import diffusion as D
from legato.diffusion.multistep import adams_weights
from legato.errors import ArgumentError

COND, UNCOND = (1.0, 0.5), (0.0, 2.0)
SHAPE = (3, 2)


def model(x: np.ndarray, alpha: float, sigma: float, _k: int) -> np.ndarray:
    """A smooth stand-in for a network: x0 = f(x, level)."""
    return np.tanh(0.7 * x + 0.3 * sigma) * 0.8 + 0.1 * alpha


def paths() -> dict[str, Any]:
    return {
        "vp": lambda steps: D.Schedule.vp_linear(steps, t_end=0.01),
        "ve": lambda steps: D.Schedule(np.ones(steps + 1), np.geomspace(20.0, 0.05, steps + 1)),
        "flow": D.Schedule.flow,
        "no signal": lambda steps: D.Schedule.vp_linear(steps, t_end=0.01).zero_terminal_snr(),
    }


def error_of_variance(sampler: str, schedule: D.Schedule, **options: Any) -> float:
    """Of a Gaussian law, all of whose samplers keep it for small steps."""
    a, s = schedule.alpha, schedule.sigma
    start = (a[0] * COND[0], a[0] ** 2 * COND[1] + s[0] ** 2)
    moments = D.gaussian_moments(schedule, sampler=sampler, cond=COND, start=start, **options)
    assert moments[0] == pytest.approx(a[-1] * COND[0], abs=2e-3)
    return abs(moments[1] - (a[-1] ** 2 * COND[1] + s[-1] ** 2))


@pytest.mark.parametrize(
    ("sampler", "orders"),
    [
        ("ddim", {"vp": 1, "ve": 1, "flow": 1, "no signal": 1}),
        ("euler", {"vp": 1, "ve": 1, "flow": 1, "no signal": 1}),
        ("flow_euler", {"vp": 1, "ve": 1, "flow": 1, "no signal": 1}),
        ("pf_ode", {"vp": 1, "ve": 1, "flow": 1}),
        ("ddpm", {"vp": 1, "ve": 1, "flow": 1, "no signal": 1}),
        ("euler_ancestral", {"vp": 1, "ve": 1, "flow": 1, "no signal": 1}),
        ("reverse_sde", {"vp": 1, "ve": 1, "flow": 2, "no signal": 1}),
        ("tutorial_ddpm", {"ve": 1}),
        ("tutorial_ddim", {"ve": 1}),
        ("heun", {"vp": 2, "ve": 2, "flow": 2}),
        ("dpmpp_2m", {"vp": 2, "ve": 2, "flow": 1.85}),
        ("dpmpp_2m_sde", {"vp": 2, "ve": 2, "flow": 1.85}),
        ("unipc", {"vp": 2.9, "ve": 3, "flow": 2.1}),
        ("deis", {"vp": 2.85, "ve": 2, "flow": 2}),
        ("sa_solver", {"vp": 2.5, "ve": 2, "flow": 2}),
        ("er_sde", {"ve": 1.3, "flow": 1.2}),
    ],
)
def test_orders_of_convergence(sampler: str, orders: dict[str, float]) -> None:
    """Measured from 320 to 640 steps. Runs begin with lower order, which limits that of the whole on some paths."""
    for path, order in orders.items():
        errors = [error_of_variance(sampler, paths()[path](steps)) for steps in (320, 640)]
        assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.12), path
        assert errors[1] < (0.015 if (sampler, path) == ("pf_ode", "ve") else 0.01)  # a large constant, of first order


@pytest.mark.parametrize("sampler", ["lcm", "tcd"])
def test_consistency_samplers_have_another_limit(sampler: str) -> None:
    """They take x0 as the end of the trajectory, which a denoiser's mean is not: more steps do not lead to the law."""
    for path in paths().values():
        errors = [error_of_variance(sampler, path(steps)) for steps in (320, 640)]
        assert np.log2(errors[0] / errors[1]) < 0.3
        assert errors[1] > 0.01


def test_langevin_is_of_first_order_in_its_step() -> None:
    """The stationary variance at one level, by the table alone."""
    schedule = D.Schedule([0.8, 1.0], [0.6, 0.0])
    variance = 0.8**2 * COND[1] + 0.6**2
    errors = []
    for size in (0.02, 0.01):
        ((a, b, c),) = D.step_coefficients(schedule, "langevin", step_size=size)
        slope = a + b * 0.6 / variance  # eps = sigma (x - mean) / variance
        errors.append(abs(c**2 / (1 - slope**2) - variance))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("sampler", [*D.SAMPLERS, *D.HIGHER_ORDER_SAMPLERS])
def test_every_sampler_starts_without_signal(sampler: str) -> None:
    """On flows and at zero terminal SNR: finite, and the law is that of the data."""
    if sampler in ("langevin", "tutorial_ddpm", "tutorial_ddim"):
        pytest.skip("for one level, or for alpha 1 alone")
    schedules = [D.Schedule.flow(400), D.Schedule.flow(400, shift=3.0)]
    if sampler != "pf_ode":  # its drift per step is the logarithm of two alphas, large after that start
        schedules.append(D.Schedule.vp_linear(400, t_end=1e-3).zero_terminal_snr())
    for schedule in schedules:
        mean, variance = D.gaussian_moments(schedule, sampler=sampler, cond=COND)
        assert mean == pytest.approx(COND[0], abs=0.01)
        assert sampler in ("lcm", "tcd") or variance == pytest.approx(COND[1], rel=0.05)
        for kind in ("x0", "v", "flow"):

            def predict(x: np.ndarray, alpha: float, sigma: float, k: int, kind: str = kind) -> np.ndarray:
                return D.convert_prediction(model(x, alpha, sigma, k), x, alpha, sigma, given="x0", wanted=kind)

            x = D.sample(predict, SHAPE, schedule, sampler, prediction=kind, dtype="float64", seeds=3)
            if kind == "x0":
                first = x
            np.testing.assert_allclose(x, first, rtol=1e-8, atol=1e-8)
        with pytest.raises(
            ArgumentError, match=r"says nothing on x0 where alpha is 0|does not determine 'x0' at alpha 0"
        ):
            D.sample(predict, SHAPE, schedule, sampler)


def test_flow_samplers_are_one_on_flows() -> None:
    """Euler of the flow, DDIM, and Euler of the probability flow ODE are the same steps there."""
    schedule = D.Schedule.flow(7, shift=2.0)
    tables = [D.step_coefficients(schedule, name, prediction="flow") for name in ("flow_euler", "ddim", "pf_ode")]
    for table in tables:
        np.testing.assert_allclose(table[:, 0], 1.0, atol=1e-12)
        np.testing.assert_allclose(table[:, 1], np.diff(schedule.sigma), atol=1e-12)


@pytest.mark.parametrize("sampler", D.HIGHER_ORDER_SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 12])
def test_compiled_runs_equal_their_twin_and_callables(sampler: str, steps: int) -> None:
    gm = D.GaussianMixture([0.3, 0.7], [[-1.0, 0.5], [1.0, 0.0]], [0.2, 0.4])
    pair = D.guided(gm.reweighted([1.0, 3.0]), gm)
    for schedule in (D.Schedule.karras(steps), D.Schedule.vp_linear(steps, t_end=0.02), D.Schedule.flow(steps)):
        options = {"guidance_scale": 2.0, "seeds": 3, "dtype": "float64"}
        compiled = D.sample(pair, (20, 2), schedule, sampler, **options)
        for twin in ({"backend": "numpy"}, {"callback": lambda *_: False}):
            np.testing.assert_allclose(D.sample(pair, (20, 2), schedule, sampler, **options, **twin), compiled, 1e-7)
        around = D.guided(*(lambda x, a, s, _k, gm=gm: gm.denoise(x, a, s) for gm in (pair.cond, pair.uncond)))
        by_callables = D.sample(around, (20, 2), schedule, sampler, prediction="x0", **options)
        np.testing.assert_allclose(by_callables, compiled, rtol=1e-7)


@pytest.mark.parametrize("sampler", ["dpmpp_2m_sde", "unipc", "sa_solver", "er_sde", "deis"])
def test_chains_have_the_moments_of_the_recursion(sampler: str) -> None:
    gm = D.GaussianMixture([1.0], [[COND[0]]], [COND[1]])
    for schedule in (D.Schedule.vp_linear(15), D.Schedule.flow(15)):
        x = D.sample(gm, (40_000, 1), schedule, sampler, seeds=5).astype(float)
        mean, variance = D.gaussian_moments(schedule, sampler=sampler, cond=COND)
        assert abs(x.mean() - mean) < 5 * np.sqrt(variance / len(x))
        assert abs(x.var() - variance) < 5 * variance * np.sqrt(2 / len(x))


def test_seeds_batches_and_threads() -> None:
    gm = D.GaussianMixture([0.3, 0.7], [[-1.0, 0.5], [1.0, 0.0]], [0.2, 0.4])
    schedule = D.Schedule.karras(9)
    for sampler in ("dpmpp_2m_sde", "unipc", "sa_solver", "er_sde", "deis", "lcm", "tcd"):
        whole = D.sample(gm, (40, 2), schedule, sampler, seeds=2)
        assert (D.sample(gm, (40, 2), schedule, sampler, seeds=2, threads=3) == whole).all()
        assert (D.sample(gm, (1, 2), schedule, sampler, seeds=2, first_sample=17) == whole[17]).all()


# --- Peers ------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # diffusers and torch warn of their own doings
def test_against_diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same levels, model and noise; theirs is the arithmetic of float32 throughout."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("USE_TF", "0")
        diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    steps = 16
    plain = {"prediction_type": "sample", "timestep_spacing": "trailing"}
    half = {"tau_func": lambda _: torch.tensor(0.6)}
    cases: list[tuple[str, dict[str, Any], Any]] = [
        ("dpmpp_2m", {}, diffusers.DPMSolverMultistepScheduler(**plain)),
        ("dpmpp_2m_sde", {}, diffusers.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", **plain)),
        ("unipc", {}, diffusers.UniPCMultistepScheduler(final_sigmas_type="zero", **plain)),
        ("deis", {}, diffusers.DEISMultistepScheduler(solver_order=3, lower_order_final=False, **plain)),
        ("sa_solver", {"eta": 0.6}, diffusers.SASolverScheduler(lower_order_final=False, **plain, **half)),
        ("euler", {}, diffusers.EulerDiscreteScheduler(**plain)),
        ("heun", {}, diffusers.HeunDiscreteScheduler(**plain)),
    ]
    for sampler, options, theirs in cases:
        module = __import__(type(theirs).__module__, fromlist=["randn_tensor"])
        draws = iter(range(steps))

        def draw(*_: Any, draws: Any = draws, **__: Any) -> Any:
            return torch.from_numpy(D.normal(SHAPE, 0, step=next(draws)))

        monkeypatch.setattr(module, "randn_tensor", draw, raising=False)
        theirs.set_timesteps(steps)
        twice = sampler == "heun"
        levels = np.array(theirs.sigmas, np.float64)
        if twice:
            levels = np.append(levels[:-1:2], 0.0)
        in_sigma = sampler in ("euler", "heun")
        alpha = np.ones_like(levels) if in_sigma else 1.0 / np.sqrt(1.0 + levels**2)
        schedule = D.Schedule(alpha, levels * alpha)
        x = D.normal(SHAPE, 9) * np.float32(schedule.sigma[0])
        state = torch.from_numpy(x)
        for k, t in enumerate(theirs.timesteps):
            at = (k + 1) // 2 if twice else k
            out = model(state.numpy(), float(schedule.alpha[at]), float(schedule.sigma[at]), at)
            state = theirs.step(torch.from_numpy(out.astype(np.float32)), t, state).prev_sample
        ours = D.sample(model, SHAPE, schedule, sampler, prediction="x0", x=x, **options)
        np.testing.assert_allclose(ours, state.numpy(), atol=1e-5 * max(1.0, float(state.abs().max())), err_msg=sampler)


def test_er_sde_against_its_authors() -> None:
    """Their code (ER-SDE-Solver, order 3), re-stated."""
    schedule = D.Schedule.karras(12, sigma_max=20.0)
    levels = schedule.sigma

    def scale(level: Any) -> Any:
        return level * (np.exp(level**0.3) + 10.0)

    x = first = D.normal(SHAPE, 9, dtype="float64") * levels[0]
    old = old_d = None
    for k in range(12):
        denoised = model(x, 1.0, levels[k], k)
        now, after = levels[k], levels[k + 1]
        if after == 0:
            x = denoised
            break
        r, dt = scale(after) / scale(now), after - now
        x = r * x + (1 - r) * denoised
        if k > 0:
            points = after - dt / 200 * np.arange(200)
            d = (denoised - old) / (now - levels[k - 1])
            x = x + (dt + (1 / scale(points)).sum() * -dt / 200 * scale(after)) * d
            if k > 1:
                u = (d - old_d) / ((now - levels[k - 2]) / 2)
                integral = ((points - now) / scale(points)).sum() * -dt / 200
                x = x + (dt**2 / 2 + integral * scale(after)) * u
            old_d = d
        x = x + np.sqrt(after**2 - (now * r) ** 2) * D.normal(SHAPE, 0, step=k).astype(np.float64)
        old = denoised
    ours = D.sample(model, SHAPE, schedule, "er_sde", prediction="x0", x=first)
    np.testing.assert_allclose(ours, x, rtol=1e-9, atol=1e-9)


def test_consistency_samplers() -> None:
    """LCM draws the noise of each level anew, TCD a part of it; at its ends TCD is DDIM and LCM."""
    schedule = D.Schedule.vp_linear(4, t_end=0.1)
    x = D.normal(SHAPE, 1, dtype="float64")
    lcm = x
    for k in range(4):
        x0 = model(lcm, schedule.alpha[k], schedule.sigma[k], k)
        lcm = schedule.alpha[k + 1] * x0 + schedule.sigma[k + 1] * D.normal(SHAPE, 0, step=k).astype(np.float64)
    options = {"prediction": "x0", "x": x}
    np.testing.assert_allclose(D.sample(model, SHAPE, schedule, "lcm", **options), lcm, rtol=1e-9)
    ends = [D.sample(model, SHAPE, schedule, "tcd", eta=eta, **options) for eta in (0.0, 1.0)]
    np.testing.assert_allclose(ends, [D.sample(model, SHAPE, schedule, "ddim", **options), lcm], rtol=1e-9)


# --- Weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["x0", "epsilon"])
@pytest.mark.parametrize("tau", [0.0, 0.7])
@pytest.mark.parametrize("step", [1e-3, 0.3, 3.0])
def test_weights_integrate_polynomials(kind: str, tau: float, step: float) -> None:
    """A prediction that is a polynomial of lambda is integrated exactly, against a fine quadrature."""
    lam = -1.0 + np.array([step, 0.0, -0.8 * step, -2.0 * step])
    levels = [
        tuple(float(v) for v in (1 / np.sqrt(1 + np.exp(-2 * at)), 1 / np.sqrt(1 + np.exp(2 * at)))) for at in lam
    ]
    (a1, s1), (a, s) = levels[:2]
    nodes, weights = np.polynomial.legendre.leggauss(60)
    fine = lam[1] + step * (nodes + 1) / 2
    rate = 1 + tau**2
    kernel = rate * a1 * np.exp(-rate * (lam[0] - fine)) if kind == "x0" else -rate * s1 * np.exp(lam[0] - fine)
    on_x, found, noise = adams_weights(kind, levels[1], levels[0], tuple(levels[1:]), tau=tau)
    for power in range(3):
        integral = float((kernel * (fine - lam[1]) ** power * weights).sum() * step / 2)
        assert np.dot(found, (lam[1:] - lam[1]) ** power) == pytest.approx(integral, rel=1e-9, abs=1e-15)
    if kind == "x0":
        assert on_x == pytest.approx(s1 / s * np.exp(-(tau**2) * step))
        assert noise == pytest.approx(s1 * np.sqrt(1 - np.exp(-2 * tau**2 * step)), abs=1e-12)
    else:
        assert on_x == pytest.approx(a1 / a)
        assert noise == pytest.approx(tau * s1 * np.sqrt(np.exp(2 * step) - 1), abs=1e-12)


def test_bad_runs() -> None:
    gm, schedule = D.GaussianMixture([1.0], [[0.0]], [1.0]), D.Schedule.karras(5)
    for sampler in D.HIGHER_ORDER_SAMPLERS:
        with pytest.raises(ArgumentError, match="takes neither correctors nor CFG"):
            D.sample(gm, (2, 1), schedule, sampler, corrector_steps=1)
    for sampler in ("unipc", "deis", "er_sde", "euler", "lcm"):
        with pytest.raises(ArgumentError, match="eta: sampler"):
            D.sample(gm, (2, 1), schedule, sampler, eta=0.5)
