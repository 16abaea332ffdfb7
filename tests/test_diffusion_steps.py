"""Schedules, coefficient tables and the fused step."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import DATA
from legato import diffusion as D
from legato.errors import ArgumentError

ROWS = json.loads((DATA / "diffusion" / "step_coefs.json").read_text())["rows"]
SCHEDULES = {
    "vp_linear": D.Schedule.vp_linear(12),
    "vp_scaled_linear": D.Schedule.vp_scaled_linear(12),
    "vp_cosine": D.Schedule.vp_cosine(12),
    "ve": D.Schedule.ve(12, 3.0),
    "ve_geometric": D.Schedule.ve(12, 80.0, sigma_min=0.02),
    "karras": D.Schedule.karras(12),
    "flow": D.Schedule.flow(12, t_start=0.98),
    "flow_shift": D.Schedule.flow(12, shift=3.0, t_start=0.98),
}


def test_coefficients_of_the_vectors() -> None:
    for _, _, a, s, a1, s1, eta, *expected in ROWS:
        table = D.step_coefficients(D.Schedule([a, a1], [s, s1]), "ddim", eta=eta)
        np.testing.assert_allclose(table[0], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ddim_keeps_the_marginals(name: str, eta: float) -> None:
    """With the true eps and x0 the step lands on a' x0 with variance s'^2, whatever eta (tutorial, definition 1)."""
    s = SCHEDULES[name]
    table = D.step_coefficients(s, "ddim", eta=eta)
    a, sig, a1, sig1 = s.alpha[:-1], s.sigma[:-1], s.alpha[1:], s.sigma[1:]
    np.testing.assert_allclose(table[:, 0] * a, a1, rtol=1e-12)
    np.testing.assert_allclose((table[:, 0] * sig + table[:, 1]) ** 2 + table[:, 2] ** 2, sig1**2, atol=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "euler_ancestral", "reverse_sde", "pf_ode", "langevin"])
@pytest.mark.parametrize("prediction", ["x0", "v", "flow", "score"])
def test_every_prediction_takes_the_same_step(name: str, sampler: str, prediction: str) -> None:
    s = SCHEDULES[name]
    rng = np.random.default_rng(0)
    x, eps = rng.normal(size=(2, 50))
    by_eps = D.step_coefficients(s, sampler)
    by_other = D.step_coefficients(s, sampler, prediction=prediction)
    for k in range(len(s)):
        out = D.convert_prediction(eps, x, s.alpha[k], s.sigma[k], given="epsilon", wanted=prediction)
        back = D.convert_prediction(out, x, s.alpha[k], s.sigma[k], given=prediction, wanted="epsilon")
        np.testing.assert_allclose(back, eps, atol=1e-9)
        wanted = by_eps[k, 0] * x + by_eps[k, 1] * eps
        np.testing.assert_allclose(by_other[k, 0] * x + by_other[k, 1] * out, wanted, rtol=1e-9, atol=1e-9)
        assert by_other[k, 2] == by_eps[k, 2]


def test_relations_between_samplers() -> None:
    ve = D.Schedule.ve(20, 4.0)
    np.testing.assert_allclose(
        D.step_coefficients(ve, "euler_ancestral"), D.step_coefficients(ve, "ddim", eta=1.0), atol=1e-12
    )
    np.testing.assert_allclose(D.step_coefficients(ve, "tutorial_ddim"), D.step_coefficients(ve, "ddim"), atol=1e-12)
    flow = D.Schedule.flow(20)
    table = D.step_coefficients(flow, "flow_euler")
    np.testing.assert_allclose(table, np.stack([np.ones(20), np.diff(flow.sigma), np.zeros(20)], 1), atol=1e-15)
    vp = D.Schedule.vp_linear(7)
    beta = vp.diffusion
    np.testing.assert_allclose(
        D.step_coefficients(vp, "reverse_sde"), np.stack([1 + beta / 2, -beta / vp.sigma[:-1], np.sqrt(beta)], 1)
    )


def test_schedules_are_what_they_say() -> None:
    vp = D.Schedule.vp_linear(10)
    np.testing.assert_allclose(vp.alpha**2 + vp.sigma**2, 1, atol=1e-15)
    zero = vp.zero_terminal_snr()
    assert zero.alpha[0] == 0
    assert zero.alpha[-1] == 1
    shifted = D.Schedule.flow(4, shift=3.0)
    np.testing.assert_allclose(shifted.sigma[2], 3 * 0.5 / (1 + 2 * 0.5))
    squares = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    for spacing, first in (("leading", 980), ("trailing", 999), ("linspace", 999)):
        s = D.Schedule.from_alphas_cumprod(squares, 50, spacing=spacing)
        assert s.time is not None
        assert s.time[0] == first
        np.testing.assert_allclose(s.alpha[0] ** 2, squares[first])
    assert len(D.Schedule.from_alphas_cumprod(squares)) == 1000
    assert D.Schedule.karras(5).sigma[0] == pytest.approx(80)
    with pytest.raises(ValueError, match="read-only"):
        vp.alpha[0] = 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: D.Schedule([1.0], [1.0]), "at least 2"),
        (lambda: D.Schedule([1, 1], [1, 2]), "strictly"),
        (lambda: D.Schedule([1, 1], [1, 1]), "strictly"),
        (lambda: D.Schedule([1, 1], [1, -1]), "not negative"),
        (lambda: D.Schedule([1, np.nan], [1, 0.5]), "finite"),
        (lambda: D.Schedule([1, 1, 1], [1, 0, 0]), "positive"),
        (lambda: D.Schedule([1, 1], [1, 0.5], time=[1, 2, 3]), "time"),
        (lambda: D.Schedule.vp_linear(0), "steps"),
        (lambda: D.Schedule.karras(5, sigma_min=2, sigma_max=1), "sigma_min"),
        (lambda: D.Schedule.ve(5, 1.0, sigma_min=2.0), "sigma_min"),
        (lambda: D.Schedule.from_alphas_cumprod([0.5, 1.5]), "0 to 1"),
        (lambda: D.Schedule.from_alphas_cumprod([0.5, 0.4], 3), "steps"),
        (lambda: D.Schedule.from_alphas_cumprod([0.9, 0.4], 2, spacing="x"), "spacing"),
        (lambda: D.Schedule.from_diffusers(object()), "scheduler"),
        (lambda: D.step_coefficients(D.Schedule.flow(3)), "prediction"),
        (lambda: D.step_coefficients(D.Schedule.flow(3), "pf_ode"), "'epsilon' says nothing on x0 where alpha is 0"),
        (lambda: D.step_coefficients(D.Schedule.vp_linear(3), "tutorial_ddpm"), "alpha 1"),
        (lambda: D.step_coefficients(D.Schedule.vp_linear(3), "nope"), "sampler"),
        (lambda: D.step_coefficients(D.Schedule.vp_linear(3), eta=2.0), "eta"),
        (lambda: D.step_coefficients(D.Schedule.vp_linear(3), "ddpm", eta=0.5), "eta"),
        (lambda: D.step_coefficients(D.Schedule.vp_linear(3), prediction="y"), "prediction"),
        (lambda: D.step_coefficients(D.Schedule.vp_linear(3), "langevin", step_size=-1), "step_size"),
        (lambda: D.convert_prediction([1.0], [1.0], 0.0, 1.0, given="epsilon", wanted="x0"), "determine"),
        (lambda: D.convert_prediction([1.0], [1.0], 1.0, 0.0, given="x0", wanted="epsilon"), "determine"),
    ],
)
def test_bad_schedules(make: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()  # type: ignore[operator]


def arrays(shape: tuple[int, ...], storage: str, count: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.normal(size=shape).astype(storage) for _ in range(count)]


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(0, 35),
    elements=st.integers(0, 1200),
    storage=st.sampled_from(["float32", "float64", "float16"]),
    guided=st.booleans(),
    noise=st.sampled_from(["none", "drawn", "given"]),
    each=st.booleans(),
    generator=st.sampled_from(["threefry", "philox"]),
    threads=st.integers(1, 3),
)
def test_step_equals_its_twin(
    samples: int, elements: int, storage: str, guided: bool, noise: str, each: bool, generator: str, threads: int
) -> None:
    x, cond, uncond = arrays((samples, elements), storage)
    coef = np.array([0.9, -0.3, 0.0 if noise == "none" else 0.5])
    if each:
        coef = coef * np.linspace(0.5, 1.5, samples)[:, None]
        coef[::3, 2] = 0
    options = {
        "eps_uncond": uncond if guided else None,
        "guidance_scale": 2.5 if guided else 1.0,
        "seeds": 7,
        "step": 3,
        "generator": generator,
        "noise": uncond[:, ::-1] if noise == "given" else None,
    }
    native = D.apply_step(x, cond, coef, threads=threads, **options)
    assert native.dtype == storage
    twin = D.apply_step(x, cond, coef, backend="numpy", **options)
    np.testing.assert_array_equal(native, twin)
    for target in (x, cond):  # in place, over either input
        copy = target.copy()
        arguments = (copy, cond) if target is x else (x, copy)
        assert D.apply_step(*arguments, coef, out=copy, **options) is copy
        np.testing.assert_array_equal(copy, native)


def test_step_is_the_formula() -> None:
    x, cond, uncond = arrays((4, 100), "float64")
    z = D.normal((4, 100), 3, step=2, dtype="float64")
    got = D.apply_step(x, cond, (0.8, -0.2, 0.4), uncond, 3.0, seeds=3, step=2)
    np.testing.assert_allclose(got, 0.8 * x - 0.2 * (uncond + 3 * (cond - uncond)) + 0.4 * z, atol=1e-14)


def test_sixteen_bit_storage_rounds_once() -> None:
    """Every float16 and bfloat16 goes through the step unchanged, and results round to the nearest."""
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="bfloat16 arrays come from ml_dtypes")
    bits = np.arange(2**16, dtype=np.uint16)
    for kind in (np.float16, ml_dtypes.bfloat16):
        x = bits.view(kind)[None]
        same = D.apply_step(x, np.zeros_like(x), (1.0, 0.0, 0.0))
        assert same.dtype == kind
        with np.errstate(all="ignore"):
            finite, unknown = np.isfinite(x), np.isnan(x)
            assert (same.view(np.uint16)[finite] == np.where(bits == 0x8000, 0, bits)[None][finite]).all()
            assert np.isnan(same[unknown]).all()
            wanted = (x.astype(np.float32) * np.float32(1.2345)).astype(kind)
        got = D.apply_step(x, np.zeros_like(x), (1.2345, 0.0, 0.0))
        with np.errstate(all="ignore"):
            known = np.isfinite(wanted) & (wanted != 0)
        assert (got.view(np.uint16)[known] == wanted.view(np.uint16)[known]).all()


def test_torch_tensors_go_in_and_out() -> None:
    torch = pytest.importorskip("torch", reason="torch is in the diffusion extra's tests")
    x, eps, _ = (torch.from_numpy(array) for array in arrays((3, 70), "float32"))
    wanted = D.apply_step(x.numpy(), eps.numpy(), (0.9, 0.1, 0.2), seeds=1)
    kept = x.clone()
    assert D.apply_step(kept, eps, (0.9, 0.1, 0.2), seeds=1, out=kept) is kept
    assert (kept.numpy() == wanted).all()
    half = D.apply_step(x.bfloat16(), eps.bfloat16(), (0.9, 0.1, 0.2), seeds=1)
    assert half.dtype == torch.bfloat16
    assert np.abs(half.float().numpy() - wanted).max() < 0.05


def test_sums_are_the_same_by_both_backends(backend: str) -> None:
    c, u, x = arrays((3, 1234), "float32")
    got = D.guidance_sums(c, u, x, backend=backend)
    c, u, x = (y.astype(float) for y in (c, u, x))
    wanted = np.stack([c * c, u * u, c * u, c, u, x * c, x * u, x * x]).sum(-1).T
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-9)
    assert (D.guidance_sums(c[:1], u[:1], x[:1]) == D.guidance_sums(c, u, x, threads=2)[:1]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.float32(1)}, "axis"),
        ({"x": np.zeros((2, 3), complex)}, "x: expected"),
        ({"eps": np.zeros((2, 4), np.float32)}, "eps: expected shape"),
        ({"eps": np.zeros((2, 3))}, "eps: expected float32"),
        ({"coef": (1, 2)}, "coef"),
        ({"coef": (1, np.nan, 0)}, "finite"),
        ({"coef": np.ones((3, 3))}, "coef"),
        ({"guidance_scale": 2.0}, "eps_uncond"),
        ({"guidance_scale": "a"}, "guidance_scale"),
        ({"weights": (1, 2, 3)}, "weights"),
        ({"out": np.zeros((2, 3))}, "out"),
        ({"threads": 0}, "threads"),
        ({"eps": None}, "eps"),
        *(({"substep": bad, "backend": b}, "substep") for bad in (-1, 2**32, 1.5) for b in (None, "numpy")),
        *(({"step": bad, "backend": b}, "step") for bad in (-2, 2**32, 1.5) for b in (None, "numpy")),
    ],
)
def test_bad_steps(change: dict, message: str) -> None:
    good = {"x": np.zeros((2, 3), np.float32), "eps": np.zeros((2, 3), np.float32), "coef": (1.0, 0.0, 0.0)}
    with pytest.raises(ArgumentError, match=message):
        D.apply_step(**{**good, **change})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 5), (3, 64), (20, 3), (2, 3, 1500), (7,), (0, 4)])
@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_the_quick_way_in_is_the_same_step(shape: tuple[int, ...], dtype: str, scale: float) -> None:
    """Plain arguments skip the checks in Python; with backend= said, or a list of seeds, they do not."""
    x, c, u = (D.normal(shape, seed, dtype=dtype) for seed in (1, 2, 3))
    uncond = None if scale == 1.0 else u
    for coef, step in (((0.9, -0.2, 0.3), 4), (np.array([0.9, -0.2, 0.0]), 0), ((1, 0, 2), -1), ((1, 0, 2), 2**32 - 2)):
        options = {"seeds": 2**63 + 1, "step": step, "substep": 2, "first_sample": 9}
        slow = D.apply_step(x, c, coef, uncond, scale, backend="native", **options)
        assert slow.tobytes() == D.apply_step(x, c, coef, uncond, scale, **options).tobytes()
        out = x.copy()
        assert D.apply_step(out, c, coef, uncond, scale, out=out, threads=3, **options) is out
        assert slow.tobytes() == out.tobytes()


def test_the_quick_way_in_declines_what_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    x, e = np.ones((2, 6), np.float32), np.zeros((2, 6), np.float32)
    turned = np.asfortranarray(D.normal((2, 6), 1))
    assert (D.apply_step(turned, e, (1.0, 0.0, 0.0)) == turned).all()
    swapped = x.astype(">f8")
    assert (D.apply_step(swapped, swapped, (0.5, 0.5, 0.0)) == 1).all()
    frozen = x.copy()
    frozen.flags.writeable = False
    for change, message in (
        ({"out": frozen}, "out"),
        ({"out": np.ones((2, 6))}, "out"),
        ({"out": x.astype(">f4")}, "out"),
        ({"eps": np.zeros((2, 5), np.float32)}, "eps"),
        ({"eps": np.zeros((2, 6))}, "eps"),
        ({"coef": (1.0, np.nan, 0.0)}, "coef"),
        ({"guidance_scale": 2.0}, "eps_uncond"),
        ({"seeds": 2**64}, "seeds"),
        ({"step": 2**32}, "step"),
        ({"threads": 0}, "threads"),
    ):
        with pytest.raises(ArgumentError, match=message):
            D.apply_step(**{"x": x, "eps": e, "coef": (1.0, 1.0, 1.0), **change})
    monkeypatch.setenv("LEGATO_BACKEND", "fortran")
    with pytest.raises(ArgumentError, match="LEGATO_BACKEND"):
        D.apply_step(x, e, (1.0, 0.0, 0.0))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: D.Schedule.vp_linear(5, beta_min=np.nan), "beta_min"),
        (lambda: D.Schedule.vp_linear(5, beta_max=-1), "beta_max"),
        (lambda: D.Schedule.vp_linear(5, t_end=2), "t_end"),
        (lambda: D.Schedule.vp_scaled_linear(5, beta_end=np.nan), "beta_end"),
        (lambda: D.Schedule.vp_scaled_linear(5, train_steps=2.5), "train_steps"),
        (lambda: D.Schedule.vp_cosine(5, offset=-1), "offset"),
        (lambda: D.Schedule.vp_cosine(5, t_start=2), "t_start"),
        (lambda: D.Schedule.ve(5, np.nan), "sigma_max"),
        (lambda: D.Schedule.karras(5, rho=0), "rho"),
        (lambda: D.Schedule.karras(5, sigma_max=np.inf), "sigma_max"),
        (lambda: D.Schedule.flow(5, shift=0), "shift"),
        (lambda: D.Schedule.flow(5, shift="a"), "shift"),
        (lambda: D.Schedule.from_alphas_cumprod(np.linspace(0.9, 0.1, 9), steps=2.5), "steps"),
        (lambda: D.Schedule([0.5, 1], [0.5, 0], drift=[np.nan], diffusion=[1]), "drift"),
        (lambda: D.Schedule([0.5, 1], [0.5, 0], drift=[1], diffusion=[-1]), "diffusion"),
        (lambda: D.Schedule([0.5, 1], [0.5, 0], time=[np.nan]), "time"),
        (lambda: D.normal((2, 3), substep=1.5), "substep"),
        (lambda: D.normal((2, 3), first_sample=-1), "first_sample"),
    ],
)
def test_bad_numbers_are_named(call: object, name: str) -> None:
    with pytest.raises(ArgumentError, match=f"^{name}: expected"):
        call()  # type: ignore[operator]


def test_nan_in_gives_nan_out() -> None:
    x = np.array([[1.0, np.nan]])
    assert np.isnan(D.apply_step(x, x, (1.0, 0.5, 0.0))).tolist() == [[False, True]]


def test_a_stranger_that_says_it_is_on_a_device_is_refused() -> None:
    """DLPack's word alone is no array: without a shape and a type nothing can be done with it."""

    class Stranger:
        def __dlpack__(self, **_: object) -> object:
            return None

        def __dlpack_device__(self) -> tuple[int, int]:
            return 2, 0

    for bad in ({"x": Stranger()}, {"eps": Stranger()}):
        with pytest.raises(ArgumentError, match=next(iter(bad))):
            D.apply_step(**{"x": np.ones((2, 3)), "eps": np.ones((2, 3)), "coef": (1.0, 1.0, 0.0), **bad})
