"""Sampling runs: exact moments, guidance, the same bits however a run is cut, and models of every kind."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import legato
from conftest import DATA
from legato import diffusion as D
from legato.errors import ArgumentError, NumericalError

MOMENTS = json.loads((DATA / "diffusion" / "gaussian_moments.json").read_text())
NAMES = {  # of the vectors: sampler, correctors
    "ddim": ("ddim", 0),
    "ddpm_em": ("reverse_sde", 0),
    "ddim_em": ("pf_ode", 0),
    "ddpm_eta1": ("ddpm", 0),
    "pcg_em": ("pf_ode", 1),
    "pcg_ddim": ("ddim", 1),
    "tutorial_ddpm": ("tutorial_ddpm", 0),
    "tutorial_ddim": ("tutorial_ddim", 0),
}
SAMPLERS = ("ddim", "ddpm", "euler_ancestral", "reverse_sde", "pf_ode")


@pytest.mark.parametrize("case", MOMENTS["finite_step"], ids=lambda c: f"{c['sampler']}-{c['g']}-{c['N']}")
def test_finite_step_moments_of_the_vectors(case: dict) -> None:
    sampler, correctors = NAMES[case["sampler"]]
    schedule = D.Schedule.vp_linear(case["N"])
    if case["path"].startswith("ve"):
        schedule = D.Schedule.ve(case["N"], float(case["path"].split("sigma_q=")[1].split(",")[0]))
    got = D.gaussian_moments(
        schedule,
        sampler=sampler,
        cond=case["cond"],
        uncond=case["uncond"],
        start=case["start"],
        guidance_scale=case["g"],
        corrector_steps=correctors * case["K"],
    )
    np.testing.assert_allclose(got, (case["mean"], case["var"]), rtol=1e-10)


@pytest.mark.parametrize("case", [c for c in MOMENTS["closed_form"] if c["vc"] == 1.0], ids=lambda c: f"g{c['g']}")
def test_samplers_converge_to_the_closed_forms(case: dict) -> None:
    """Counterexample 1: the ODE gives 2^(1-g), the SDE (2 - 2^(2-2g)) / (2g - 1), neither the powered 2 / (g + 1)."""
    laws = {"cond": (case["c"], case["vc"]), "uncond": (0.0, case["vu"]), "guidance_scale": case["g"]}
    schedule = D.Schedule.ve(16000, 300.0, sigma_min=0.003)
    mean, variance = D.gaussian_moments(schedule, sampler="ddim", **laws)
    assert mean == pytest.approx(case["M_ode"], rel=5e-3)
    assert variance == pytest.approx(case["V_ode"], rel=5e-3)
    mean, variance = D.gaussian_moments(schedule, sampler="ddpm", **laws)
    assert mean == pytest.approx(case["M_sde"], rel=5e-3)
    assert variance == pytest.approx(case["V_sde"], rel=6e-3)


def test_pcg_table_of_the_vectors_and_its_order() -> None:
    rows = json.loads((DATA / "diffusion" / "pcg_equivalence.json").read_text())["rows"]
    gaps: dict[float, list[float]] = {}
    for g, steps, *expected in rows:
        laws = {"cond": (1, 1), "uncond": (0, 2), "start": (0, 1), "guidance_scale": g}
        s = D.Schedule.vp_linear(int(steps))
        runs = (("reverse_sde", 0), ("pf_ode", 1), ("ddpm", 0), ("ddim", 1))
        got = [D.gaussian_moments(s, sampler=name, corrector_steps=k, **laws)[1] for name, k in runs]
        np.testing.assert_allclose(got, expected, rtol=1e-10)
        gaps.setdefault(g, []).append(abs(got[0] - got[1]))
    for gap in gaps.values():
        order = np.log2(np.array(gap[:-1]) / gap[1:])
        assert (order[-3:] > 0.9).all()
        assert (order[-3:] < 1.1).all()


def test_many_correctors_sample_the_powered_law() -> None:
    laws = {"cond": (0, 1), "uncond": (0, 2), "guidance_scale": 3.0}
    s = D.Schedule.vp_linear(1000)
    variances = [D.gaussian_moments(s, corrector_steps=k, **laws)[1] for k in (1, 2, 4, 8, 16, 64)]
    np.testing.assert_allclose(variances, [0.38734, 0.35560, 0.34344, 0.33816, 0.33569, 0.33390], atol=1e-4)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(("scale", "correctors"), [(1.0, 0), (3.0, 0), (3.0, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_chains_have_the_exact_moments(sampler: str, scale: float, correctors: int, dtype: str) -> None:
    cond, uncond = (1.0, 1.0), (0.0, 2.0)
    models = [D.GaussianMixture([1.0], [[m]], [v]) for m, v in (cond, uncond)]
    s = D.Schedule.vp_linear(60)
    n = 100_000
    options = {"sampler": sampler, "guidance_scale": scale, "corrector_steps": correctors}
    x = D.sample(D.guided(*models), (n, 1), s, seeds=4, dtype=dtype, **options).astype(float)
    mean, variance = D.gaussian_moments(s, cond=cond, uncond=uncond, **options)
    assert abs(x.mean() - mean) < 5 * np.sqrt(variance / n)
    assert abs(x.var() - variance) < 5 * variance * np.sqrt(2 / n)


def two_modes() -> tuple[D.GaussianMixture, D.Guided]:
    gm = D.GaussianMixture([0.25] * 4, [[-3.0, 1], [-1, 0], [1, 0], [3, -1]], [0.15, 0.2, 0.1, 0.15])
    return gm, D.guided(gm.reweighted([0.0, 0.2, 0.8, 0.0]), gm)


def apart(model: D.Guided) -> D.Guided:
    """The pair without what lets it share exponentials: one component split in two."""
    both = []
    for gm in (model.cond, model.uncond):
        pick = [0, 0, *range(1, len(gm.weights))]
        weights = gm.weights[pick]
        weights[:2] /= 2
        both.append(D.GaussianMixture(weights, gm.means[pick], gm.covariances[pick]))
    both[1] = D.GaussianMixture(both[1].weights, both[1].means + 0.0, both[1].covariances[:, None] * np.ones(2))
    return D.guided(*both)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shared_components_change_nothing(dtype: str) -> None:
    """Also where every component near a sample has weight 0 in the conditional model."""
    _, pair = two_modes()
    s = D.Schedule.ve(30, 10.0, sigma_min=0.01)
    for scale in (1.0, 3.0):
        options = {"guidance_scale": scale, "seeds": 1, "dtype": dtype, "sampler": "ddpm"}
        shared, split = (D.sample(m, (300, 2), s, **options) for m in (pair, apart(pair)))
        np.testing.assert_allclose(shared, split, atol=2e-2 if dtype == "float32" else 1e-8)
    far = np.array([[-3.0, 1.0], [-300.0, 40.0]], dtype)
    lone = D.Schedule([1.0, 1.0], [0.01, 0.0])
    both = [D.sample(m, (2, 2), lone, x=far, guidance_scale=2.0, dtype=dtype) for m in (pair, apart(pair))]
    assert np.isfinite(both[0]).all()
    np.testing.assert_allclose(*both, rtol=1e-4)


@pytest.mark.parametrize("sampler", [*SAMPLERS, "heun", "dpmpp_2m"])
@pytest.mark.parametrize("correctors", [0, 2])
@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
def test_compiled_loops_equal_loops_around_callables(sampler: str, correctors: int, prediction: str) -> None:
    """The same run by the compiled loop, by its NumPy twin, and around Python callables that predict otherwise."""
    if correctors and sampler in ("heun", "dpmpp_2m"):
        pytest.skip("second-order samplers take no correctors")
    _, pair = two_modes()
    s = D.Schedule.vp_linear(25, t_end=0.02)  # sigma > 0 at the end, so that the corrector has an eps there
    options = {"sampler": sampler, "guidance_scale": 2.0, "corrector_steps": correctors, "seeds": 3, "dtype": "float64"}
    compiled = D.sample(pair, (40, 2), s, **options)
    np.testing.assert_allclose(D.sample(pair, (40, 2), s, backend="numpy", **options), compiled, rtol=1e-7, atol=1e-7)

    def predictor(model: D.GaussianMixture) -> object:
        def predict(x: np.ndarray, alpha: float, sigma: float, k: int) -> np.ndarray:
            assert 0 <= k < 25
            given = model.denoise(x, alpha, sigma)
            return D.convert_prediction(given, x, alpha, sigma, given="x0", wanted=prediction)

        return predict

    around = D.guided(predictor(pair.cond), predictor(pair.uncond))
    by_callables = D.sample(around, (40, 2), s, prediction=prediction, **options)
    np.testing.assert_allclose(by_callables, compiled, rtol=1e-6, atol=1e-6)
    seen: list[int] = []
    stepwise = D.sample(pair, (40, 2), s, callback=lambda k, _: seen.append(k), **options)
    np.testing.assert_allclose(stepwise, compiled, rtol=1e-9, atol=1e-9)
    assert seen == list(range(25))


def test_empirical_denoiser_samples_its_data() -> None:
    rng = np.random.default_rng(0)
    data, labels = rng.normal(size=(200, 6)).astype(np.float32) * 3, np.arange(200) % 4
    ed = D.EmpiricalDenoiser(data, labels)
    x = D.sample(D.guided(ed.given(2), ed), (50, 6), D.Schedule.karras(60), guidance_scale=2.0, seeds=5)
    nearest = ((x[:, None] - data[None]) ** 2).sum(-1)
    assert nearest.min(1).max() < 1e-6
    assert (labels[nearest.argmin(1)] == 2).all()


def test_ddim_trajectory_of_the_vectors(backend: str) -> None:
    case = json.loads((DATA / "diffusion" / "ddim_trajectory.json").read_text())
    ed, sigma = D.EmpiricalDenoiser(case["data"]), np.array(case["sigma"])
    states: list[np.ndarray] = []
    options = {"x": np.array(case["x1"]), "callback": lambda _, x: states.append(x.copy()), "backend": backend}
    D.sample(ed, (3, 2), D.Schedule(np.ones(11), sigma), **options)
    np.testing.assert_allclose(states, case["trajectory"][1:], atol=1e-9)
    # Claim 4, exactly: DDIM on the grid sigma is Euler of the linear flow, coupled by diffusion, on tau = sigma / 3.
    x = np.array(case["x1"])
    for now, after in zip(sigma[:-1] / 3, sigma[1:] / 3, strict=True):
        x = x + (after - now) * (x - ed.denoise(x, 1.0, 3 * now)) / now
    np.testing.assert_allclose(x, states[-1], atol=1e-9)


# --- The same bits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("generator", ["threefry", "philox"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["shared", "full", "cloud"])
def test_a_run_does_not_know_its_batch_threads_or_cuts(kind: str, dtype: str, generator: str) -> None:
    _, pair = two_modes()
    if kind == "full":
        pair = D.guided(D.GaussianMixture([0.4, 0.6], [[0, 1], [2, 0]], [np.eye(2), np.eye(2) * 0.2]), pair.uncond)
    if kind == "cloud":
        data = np.random.default_rng(0).normal(size=(90, 2)).astype(dtype)
        cloud = D.EmpiricalDenoiser(data, np.arange(90) % 2)
        pair = D.guided(cloud.given(1), cloud)
    s = D.Schedule.vp_linear(40)
    options = {"sampler": "ddpm", "guidance_scale": 2.0, "corrector_steps": 1, "dtype": dtype, "generator": generator}
    n = 64 if dtype == "float64" else 2100
    whole = D.sample(pair, (n, 2), s, seeds=9, **options)
    for threads in (2, 3):
        assert (D.sample(pair, (n, 2), s, seeds=9, threads=threads, **options) == whole).all()
    for i in [0, 1, 15, 16, 63, n - 1]:
        assert (D.sample(pair, (1, 2), s, seeds=9, first_sample=i, **options) == whole[i]).all()
    seeds = np.arange(64) * 7919
    batch = D.sample(pair, (64, 2), s, seeds=seeds, **options)
    singles = [D.sample(pair, (1, 2), s, seeds=[seed], **options)[0] for seed in seeds]
    assert (batch == singles).all()
    for cut in (0, 1, 17, 40):
        half = D.sample(pair, (64, 2), s, seeds=seeds, stop=cut, **options)
        assert (D.sample(pair, (64, 2), s, seeds=seeds, x=half, start=cut, **options) == batch).all()


PROBE = """
import hashlib
import numpy as np
from legato import _core, diffusion as D
digest, ran = hashlib.sha256(), set()
def take(array):
    digest.update(np.ascontiguousarray(array).tobytes())
    ran.add(_core.last_isa())
for generator in ("threefry", "philox"):
    for dtype in ("float32", "float64", "float16", "bfloat16"):
        for shape in ((3, 1500), (40, 5)):
            take(D.normal(shape, 5, step=1, dtype=dtype, generator=generator))
x, e, u = D.normal((3, 4, 1111), 1)
take(D.guidance_sums(x, e, u))
for dtype in ("float32", "float64", "float16"):
    take(D.apply_step(x.astype(dtype), e.astype(dtype), (0.9, 0.2, 0.3), u.astype(dtype), 3.0, seeds=2))
gm = D.GaussianMixture([0.2, 0.5, 0.3], [[0, 1], [2, 0], [-1, -1]], [0.1, 0.2, 0.3])
full = D.GaussianMixture([0.4, 0.6], [[0, 1], [2, 0]], [[[1, 0.3], [0.3, 1]], [[0.5, 0], [0, 0.2]]])
data = D.EmpiricalDenoiser(np.random.default_rng(0).normal(size=(150, 2)), np.arange(150) % 3)
s = D.Schedule.vp_linear(30)
for pair in (D.guided(gm.reweighted([1, 0, 1]), gm), D.guided(full, gm), D.guided(data.given(1), data)):
    for dtype in ("float32", "float64"):
        for sampler in ("ddpm", "heun", "dpmpp_2m", "unipc"):
            take(D.sample(pair, (70, 2), s, sampler, guidance_scale=2.0, dtype=dtype))
        take(D.sample(pair, (70, 2), s, "ddim", guidance_scale=2.0, dtype=dtype, corrector_steps=1))
take(gm.log_density(x[0, :10, None] * np.ones(2), 0.5, 0.5))
for dtype in ("float32", "float64"):
    for n, d in ((1, 1), (130, 15), (130, 16), (200, 17), (90, 100)):
        wide = np.random.default_rng(1).normal(size=(n, d)).astype(dtype)
        for sigma in (0.0, 0.05, 0.3, 2.0):
            x = (0.8 * wide[:37] + (sigma + 0.01) * np.random.default_rng(2).normal(size=wide[:37].shape)).astype(dtype)
            take(D.EmpiricalDenoiser(wide, log_weights=np.arange(n) % 5).denoise(x, 0.8, sigma))
print(digest.hexdigest(), *ran)
"""


def answer(isa: str) -> list[str]:
    environment = {**os.environ, "LEGATO_ISA": isa}
    return subprocess.run(
        [sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, check=True
    ).stdout.split()[-2:]


def test_every_isa_gives_the_same_bits() -> None:
    isas = legato.build_info()["isas"]
    answers = [answer(isa) for isa in isas]
    assert [ran for _, ran in answers] == list(isas)  # the forced copy ran, and no other
    assert len({digest for digest, _ in answers}) == 1


# --- Models of the user -----------------------------------------------------------------------------------------------


def test_callables_on_images() -> None:
    """State of any shape, a callback that stops the run, and torch-style conversion of the arrays."""
    s = D.Schedule.vp_scaled_linear(10)
    calls: list[int] = []

    class Wrapped:
        def __init__(self, array: np.ndarray) -> None:
            self.array = array

    def model(x: Wrapped, alpha: float, sigma: float, k: int) -> np.ndarray:
        calls.append(k)
        assert alpha == s.alpha[k]
        return sigma * x.array

    x = D.sample(model, (2, 3, 8, 8), s, eta=0.5, arrays=Wrapped, callback=lambda k, _: k == 4)
    assert x.shape == (2, 3, 8, 8)
    assert calls == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("sampler", ["ddim", "heun", "unipc"])
def test_a_model_may_keep_the_states_it_is_given(sampler: str) -> None:
    """The array is the state of that evaluation: later steps do not write into it; what the model writes, they read."""
    s, kept, copies = D.Schedule.karras(6), [], []

    def model(x: np.ndarray, _alpha: float, sigma: float, _k: int) -> np.ndarray:
        kept.append(x)
        copies.append(x.copy())
        return 0.3 * sigma * x

    D.sample(model, (4, 3), s, sampler)
    assert len({array.ctypes.data for array in kept}) == len(kept)
    for array, copy in zip(kept, copies, strict=True):
        assert (array == copy).all()
    start = np.ones((4, 3))
    D.sample(model, (4, 3), s, sampler, x=start)
    D.langevin(model, start, 0.1, 3, prediction="epsilon", sigma=1.0)
    assert (start == 1).all()

    def masking(x: np.ndarray, *_: object) -> np.ndarray:
        x[:, 0] = 2.0
        return np.zeros_like(x)

    assert (D.sample(masking, (4, 3), s, "ddim", stop=3)[:, 0] == 2.0).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("user_data", [False, True])
def test_c_functions(dtype: str, user_data: bool) -> None:
    scipy = pytest.importorskip("scipy", reason="scipy.LowLevelCallable is what is tested")
    real = ctypes.c_float if dtype == "float32" else ctypes.c_double
    kinds = [ctypes.POINTER(real)] * 2 + [ctypes.c_int64] * 2 + [ctypes.c_double] * 2 + [ctypes.c_int64]
    extra = [ctypes.c_void_p] if user_data else []

    @ctypes.CFUNCTYPE(None, *kinds, *extra)
    def model(x: object, out: object, n: int, d: int, alpha: float, sigma: float, k: int, *data: int) -> None:  # noqa: ARG001
        scale = ctypes.cast(data[0], ctypes.POINTER(ctypes.c_double))[0] if data else 0.5
        for i in range(n * d):
            out[i] = scale * sigma * x[i]  # type: ignore[index]

    held = ctypes.c_double(0.5)
    pointer = ctypes.cast(ctypes.pointer(held), ctypes.c_void_p)
    wrapped = scipy.LowLevelCallable(model, pointer) if user_data else scipy.LowLevelCallable(model)
    s = D.Schedule.vp_linear(7)
    got = D.sample(wrapped, (5, 3), s, sampler="ddpm", dtype=dtype)
    wanted = D.sample(lambda x, _a, sigma, _k: (0.5 * sigma * x).astype(dtype), (5, 3), s, sampler="ddpm", dtype=dtype)
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
    with pytest.raises(ArgumentError, match="C function"):
        D.sample(wrapped, (5, 3, 1), s)


def test_numba_cfunc() -> None:
    numba = pytest.importorskip("numba", reason="numba is not installed")
    t = numba.types
    signature = t.void(t.CPointer(t.float32), t.CPointer(t.float32), t.int64, t.int64, t.float64, t.float64, t.int64)

    @numba.cfunc(signature)
    def model(x, out, n, d, alpha, sigma, k):  # noqa: ARG001
        for i in range(n * d):
            out[i] = sigma * x[i]

    s = D.Schedule.vp_linear(9)
    got = D.sample(model, (6, 2), s)
    np.testing.assert_allclose(got, D.sample(lambda x, _a, sigma, _k: np.float32(sigma) * x, (6, 2), s), rtol=1e-5)


def c_model(real: type = ctypes.c_float, size: type = ctypes.c_int64, result: object = None, *more: type) -> object:
    kinds = [ctypes.POINTER(real)] * 2 + [size] * 2 + [ctypes.c_double] * 2 + [ctypes.c_int64, *more]
    return ctypes.CFUNCTYPE(result, *kinds)(lambda *_: None)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (c_model(ctypes.c_double), "T float, because dtype is float32, got one of float64"),
        (c_model(ctypes.c_int), "expected a C function void"),
        (c_model(ctypes.c_float, ctypes.c_int32), "expected a C function void"),
        (c_model(ctypes.c_float, ctypes.c_int64, ctypes.c_double), "with a result"),
        (c_model(ctypes.c_float, ctypes.c_int64, None, ctypes.c_void_p), "expected a C function void"),
        (ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(lambda x: x), "expected a C function void"),
        (ctypes.CDLL(None).abs, "not declared"),
    ],
)
def test_c_functions_of_the_wrong_type_are_refused(function: object, message: str) -> None:
    """They would read and write beyond the end of the state."""
    with pytest.raises(ArgumentError, match=message):
        D.sample(function, (2000, 2), D.Schedule.vp_linear(20))


def test_low_level_callables_of_the_wrong_type_are_refused() -> None:
    scipy = pytest.importorskip("scipy", reason="scipy.LowLevelCallable is what is tested")
    s = D.Schedule.vp_linear(3)
    held = ctypes.cast(ctypes.pointer(ctypes.c_double(0.5)), ctypes.c_void_p)
    for wrong in (scipy.LowLevelCallable(c_model(ctypes.c_double)), scipy.LowLevelCallable(c_model(), held)):
        with pytest.raises(ArgumentError, match="expected a C function"):
            D.sample(wrong, (5, 2), s)
    kept = c_model()
    address = ctypes.cast(kept, ctypes.c_void_p).value  # type: ignore[arg-type]
    words = "void (const {0} *, {0} *, int64_t, long, double, double, long)"
    for real, fits in (("float", True), ("double", False)):
        function = type(ctypes.CDLL(None).abs)(address)  # of no declared types
        wrapped = scipy.LowLevelCallable(function, signature=words.format(real))
        if fits:
            D.sample(wrapped, (5, 2), s, stop=0)
        else:
            with pytest.raises(ArgumentError, match="T float"):
                D.sample(wrapped, (5, 2), s)


def test_numba_cfunc_of_the_wrong_type_is_refused() -> None:
    numba = pytest.importorskip("numba", reason="numba is not installed")
    t = numba.types
    signature = t.void(t.CPointer(t.float64), t.CPointer(t.float64), t.int64, t.int64, t.float64, t.float64, t.int64)
    wide = numba.cfunc(signature)(lambda x, out, n, d, alpha, sigma, k: None)  # noqa: ARG005
    for wrong in (wide, numba.cfunc("float64(float64)")(lambda x: x)):
        with pytest.raises(ArgumentError, match="C function void"):
            D.sample(wrong, (2000, 2), D.Schedule.vp_linear(20))
    D.sample(wide, (2000, 2), D.Schedule.vp_linear(20), dtype="float64", stop=0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_c_function_that_writes_nothing_is_named(dtype: str) -> None:
    """Its result was memory of before, other numbers every time."""
    s = D.Schedule.vp_linear(5)
    silent = c_model(ctypes.c_float if dtype == "float32" else ctypes.c_double)
    for model, options in ((silent, {}), (D.guided(silent, silent), {"guidance_scale": 2.0})):
        with pytest.raises(NumericalError, match="model: expected a C function that writes every number"):
            D.sample(model, (6, 2), s, dtype=dtype, **options)
        with pytest.raises(NumericalError, match="model: expected a C function that writes every number"):
            D.langevin(model, np.ones((6, 2), dtype), 0.1, 3, **options)


def test_a_c_function_that_forgets_one_number_is_named() -> None:
    kinds = [ctypes.POINTER(ctypes.c_float)] * 2 + [ctypes.c_int64] * 2 + [ctypes.c_double] * 2 + [ctypes.c_int64]

    def all_but_the_last(x, out, n, d, *_):
        for i in range(n * d - 1):
            out[i] = x[i]

    with pytest.raises(NumericalError, match="got NaN at step 0"):
        D.sample(ctypes.CFUNCTYPE(None, *kinds)(all_but_the_last), (6, 2), D.Schedule.vp_linear(5))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # what Numba makes of the exception
def test_a_numba_cfunc_that_raises_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    numba = pytest.importorskip("numba", reason="numba is not installed")
    t = numba.types
    signature = t.void(t.CPointer(t.float32), t.CPointer(t.float32), t.int64, t.int64, t.float64, t.float64, t.int64)

    @numba.cfunc(signature)
    def model(x, out, n, d, alpha, sigma, k):  # noqa: ARG001
        if n > 0:
            raise ValueError("no weights")
        out[0] = 0

    with pytest.raises(NumericalError, match="one that raises has written nothing"):
        D.sample(model, (6, 2), D.Schedule.vp_linear(9))
    capfd.readouterr()  # Numba prints the exception


# --- Guidance ---------------------------------------------------------------------------------------------------------


def predictions(shape: tuple[int, ...] = (3, 4, 5)) -> tuple[D.Guided, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    x, c, u = rng.normal(size=(3, *shape))
    return D.guided(lambda *_: c, lambda *_: u), x, c, u


def one_step(pair: D.Guided, x: np.ndarray, rule: D.Guidance, **options: object) -> tuple[np.ndarray, D.Schedule]:
    s = D.Schedule([0.6, 0.8], [0.8, 0.6])
    return D.sample(pair, x.shape, s, x=x, guidance_scale=rule, **options), s


def ddim_by_hand(x: np.ndarray, eps: np.ndarray, renoise: np.ndarray | None = None) -> np.ndarray:
    return 0.8 * (x - 0.8 * eps) / 0.6 + 0.6 * (eps if renoise is None else renoise)


def test_guidance_rules_by_hand() -> None:
    pair, x, c, u = predictions()
    cfg = u + 3 * (c - u)
    axes = (1, 2)
    np.testing.assert_allclose(one_step(pair, x, D.Guidance(3.0))[0], ddim_by_hand(x, cfg), atol=1e-12)
    ratio = c.std(axes, keepdims=True) / cfg.std(axes, keepdims=True)
    np.testing.assert_allclose(
        one_step(pair, x, D.Guidance(3.0, rescale=0.7))[0], ddim_by_hand(x, cfg * (0.7 * ratio + 0.3)), atol=1e-12
    )
    np.testing.assert_allclose(
        one_step(pair, x, D.Guidance(0.6, rule="cfg++"))[0], ddim_by_hand(x, u + 0.6 * (c - u), u), atol=1e-12
    )
    best = (c * u).sum(axes, keepdims=True) / (u * u).sum(axes, keepdims=True)
    star = best * u + 3 * (c - best * u)
    rule = D.Guidance(3.0, rule="zero_star", zero_steps=0)
    np.testing.assert_allclose(one_step(pair, x, rule)[0], ddim_by_hand(x, star), atol=1e-12)
    rule = D.Guidance(3.0, rule="zero_star", zero_steps=1)
    np.testing.assert_allclose(one_step(pair, x, rule)[0], ddim_by_hand(x, 0 * c), atol=1e-12)
    for low, high, wanted in ((0.0, 1.0, c), (1.0, 2.0, cfg)):
        rule = D.Guidance(3.0, interval=(low, high))
        np.testing.assert_allclose(one_step(pair, x, rule)[0], ddim_by_hand(x, wanted), atol=1e-12)


def test_apg_by_hand() -> None:
    pair, x, c, u = predictions()
    x0c, x0u = ((x - 0.8 * eps) / 0.6 for eps in (c, u))
    axes = (1, 2)
    difference = x0c - x0u
    difference = difference * np.minimum(1, 2.0 / np.sqrt((difference**2).sum(axes, keepdims=True)))
    along = (difference * x0c).sum(axes, keepdims=True) / (x0c * x0c).sum(axes, keepdims=True) * x0c
    x0 = x0c + 2.0 * (difference - along + 0.3 * along)
    rule = D.Guidance(3.0, rule="apg", norm=2.0, parallel=0.3)
    eps = (x - 0.6 * x0) / 0.8
    np.testing.assert_allclose(one_step(pair, x, rule)[0], ddim_by_hand(x, eps), atol=1e-12)


@pytest.mark.parametrize(
    "rule",
    [
        D.Guidance(2.0, rescale=0.5),
        D.Guidance(0.7, rule="cfg++"),
        D.Guidance(2.0, rule="apg", momentum=-0.5, norm=1.0, parallel=0.0),
        D.Guidance(2.0, rule="zero_star"),
        D.Guidance(2.0, interval=(0.5, 2.0)),
    ],
    ids=lambda rule: rule.rule + ("-rescale" if rule.rescale else "") + ("-interval" if rule.interval else ""),
)
def test_guidance_rules_on_exact_models(rule: D.Guidance) -> None:
    """A rule on exact models equals the rule on callables that predict eps, and a cut run where it has no memory."""
    _, pair = two_modes()
    s = D.Schedule.vp_linear(20, t_end=0.01)
    exact = D.sample(pair, (30, 2), s, guidance_scale=rule, dtype="float64")
    around = D.guided(*(lambda x, a, sg, _k, m=m: m.eps(x, a, sg) for m in (pair.cond, pair.uncond)))
    if rule.rule in ("cfg", "cfg++") and not rule.rescale:
        np.testing.assert_allclose(D.sample(around, (30, 2), s, guidance_scale=rule, dtype="float64"), exact, atol=1e-6)
    else:
        assert np.isfinite(exact).all()
    if rule.rule == "apg":
        np.testing.assert_allclose(D.sample(around, (30, 2), s, guidance_scale=rule, dtype="float64"), exact, atol=1e-6)
    stepwise = D.sample(pair, (30, 2), s, guidance_scale=rule, dtype="float64", callback=lambda *_: False)
    np.testing.assert_allclose(stepwise, exact, atol=1e-9)


ON_OUTPUTS = [D.Guidance(3.0, rescale=0.7), D.Guidance(3.0, "zero_star", zero_steps=2)]


@pytest.mark.parametrize("rule", ON_OUTPUTS, ids=["rescale", "zero_star"])
@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "heun", "dpmpp_2m"])
@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v", "flow", "score"])
def test_rules_act_on_what_the_model_predicts(rule: D.Guidance, sampler: str, prediction: str) -> None:
    """Exact models, which work in x0, and callables give the same, also under samplers that work in x0."""
    _, pair = two_modes()
    s = D.Schedule.vp_linear(20, t_end=0.01)

    def predictor(model: D.GaussianMixture) -> object:
        return lambda x, a, sg, _k: D.convert_prediction(
            model.denoise(x, a, sg), x, a, sg, given="x0", wanted=prediction
        )

    around = D.guided(predictor(pair.cond), predictor(pair.uncond))
    options = {"guidance_scale": rule, "prediction": prediction, "dtype": "float64"}
    exact, by_callables = (D.sample(m, (30, 2), s, sampler, **options) for m in (pair, around))
    np.testing.assert_allclose(by_callables, exact, atol=1e-5)
    if prediction == "epsilon":
        del options["prediction"]
        np.testing.assert_array_equal(D.sample(pair, (30, 2), s, sampler, **options), exact)


@pytest.mark.parametrize("rule", ON_OUTPUTS, ids=["rescale", "zero_star"])
def test_samplers_agree_on_a_rule(rule: D.Guidance) -> None:
    """With many steps the samplers solve one equation, that of the guided epsilon."""
    pair = D.guided(gaussian([1.0, 0.5, 0.3], 1.0), gaussian([2.0, 2.0, 2.0]))
    s = D.Schedule.vp_linear(2000, t_end=0.01)
    options = {"guidance_scale": rule, "dtype": "float64"}
    ddim, heun, solver = (D.sample(pair, (20, 3), s, name, **options) for name in ("ddim", "heun", "dpmpp_2m"))
    assert np.abs(ddim - solver).max() < 0.01
    assert np.abs(heun - solver).max() < 0.01


def test_zero_star_says_epsilon_0() -> None:
    _, pair = two_modes()
    x, s = np.full((1, 2), 80.0), D.Schedule.ve(4, 80.0, sigma_min=1.0)
    for sampler in ("ddim", "dpmpp_2m", "heun"):
        rule = D.Guidance(3.0, "zero_star", zero_steps=1)
        got = D.sample(pair, (1, 2), s, sampler, x=x, stop=1, guidance_scale=rule)
        np.testing.assert_allclose(got, 80.0, rtol=1e-12)
    flow = D.Schedule.flow(4)
    with pytest.raises(ArgumentError, match="says nothing on x0 where alpha is 0; expected prediction 'v' or 'flow'"):
        D.sample(pair, (5, 2), flow, "flow_euler", guidance_scale=D.Guidance(3.0, "zero_star"))
    start = D.normal((5, 2), 0, step=-1, dtype="float64")
    options = {"guidance_scale": D.Guidance(3.0, "zero_star"), "prediction": "flow", "stop": 1, "dtype": "float64"}
    np.testing.assert_allclose(D.sample(pair, (5, 2), flow, "flow_euler", **options), start, atol=1e-12)


# --- Langevin ---------------------------------------------------------------------------------------------------------


def test_langevin_has_its_stationary_variance() -> None:
    gm = D.GaussianMixture([1.0], [[2.0]], [0.5])
    alpha, sigma, step = 0.8, 0.6, 0.5
    precision = 1 / (alpha**2 * 0.5 + sigma**2)
    n = 40_000
    x = D.langevin(gm, np.zeros((n, 1)), step, 100, alpha=alpha, sigma=sigma)
    variance = 1 / (precision * (1 - step * precision / 4))
    assert abs(x.mean() - alpha * 2.0) < 5 * np.sqrt(variance / n)
    assert abs(x.var() - variance) < 5 * variance * np.sqrt(2 / n)
    again = D.langevin(gm, np.zeros((n, 1)), step, 40, alpha=alpha, sigma=sigma)
    rest = D.langevin(gm, again, step, 60, alpha=alpha, sigma=sigma, first_step=40)
    assert (rest == x).all()
    around = D.langevin(lambda y, a, s, _k: gm.score(y, a, s), np.zeros((50, 1)), step, 100, alpha=alpha, sigma=sigma)
    np.testing.assert_allclose(around, x[:50], atol=1e-9)


def gaussian(variance: object, mean: float = 0.0) -> D.GaussianMixture:
    return D.GaussianMixture([1.0], np.full((1, np.shape(variance)[-1] if np.shape(variance) else 1), mean), [variance])


@pytest.mark.parametrize(
    ("cond", "uncond", "scale", "bound"),
    [
        (1.0, 2.0, 5.0, 4 / 3),
        ([1.0, 0.5], [2.0, 4.0], 3.0, 4 / 5.5),  # the second axis: 3 / 0.5 - 2 / 4
        ([[1.0, 0.3], [0.3, 1.0]], [[2.0, 0.6], [0.6, 2.0]], 2.0, 4 / (1.5 / 0.7)),
        ([[1.0, 0.3], [0.3, 1.0]], [2.0, 4.0], 2.0, None),
    ],
)
def test_langevin_is_stable_up_to_its_bound(cond: object, uncond: object, scale: float, bound: float | None) -> None:
    pair = D.guided(gaussian(cond), gaussian(uncond))
    d = pair.cond.dimension
    if bound is None:  # directions that differ: by the matrix
        precision = scale * np.linalg.inv(np.array(cond)) + (1 - scale) * np.diag(1 / np.array(uncond))
        bound = 4 / float(np.linalg.eigvalsh(precision).max())
    with pytest.raises(ArgumentError, match=r"step_size.*unstable.*below"):
        D.langevin(pair, np.zeros((3, d)), bound * 1.001, 500, guidance_scale=scale)
    x = D.langevin(pair, np.zeros((3, d)), bound * 0.99, 2000, guidance_scale=scale)
    assert np.abs(x).max() < 1e3


def test_langevin_refuses_what_diverges() -> None:
    wide, narrow = gaussian(2.0), gaussian(1.0)
    with pytest.raises(ArgumentError, match=r"guidance_scale: 5 leaves a guided law of precision -1\.5 "):
        D.langevin(D.guided(wide, narrow), np.zeros((3, 1)), 0.1, 500, guidance_scale=5.0)
    modes = D.GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], [2.0, 0.5])
    with pytest.raises(ArgumentError, match=r"precision -13\.5 "):
        D.langevin(D.guided(modes, gaussian([1.0, 0.25])), np.zeros((3, 2)), 0.01, 5, guidance_scale=5.0)
    lacking = D.guided(modes.reweighted([0, 1]), modes)  # in the far tails the wide component is uncond's alone
    with pytest.raises(ArgumentError, match=r"below 0\.5 for the narrowest component"):  # 5 / 0.5 - 4 / 2
        D.langevin(lacking, np.zeros((3, 2)), 1.9, 5, guidance_scale=5.0)
    assert np.abs(D.langevin(lacking, np.full((3, 2), 9.0), 0.49, 3000, guidance_scale=5.0)).max() < 1e3
    shared = D.guided(modes.reweighted([0.1, 0.9]), modes)
    D.langevin(shared, np.zeros((3, 2)), 1.9, 5, guidance_scale=5.0)
    with pytest.raises(ArgumentError, match="below 2 for the narrowest component"):
        D.langevin(shared, np.zeros((3, 2)), 2.0, 5, guidance_scale=5.0)
    apart_ones = D.guided(modes, gaussian([4.0, 4.0]))
    with pytest.raises(ArgumentError, match=r"below 0\.444444"):  # 5 / 0.5 - 4 / 4
        D.langevin(apart_ones, np.zeros((3, 2)), 1.0, 5, guidance_scale=5.0)
    full = D.GaussianMixture([1, 1], np.zeros((2, 2)), [np.eye(2), [[1.0, 0.5], [0.5, 1.0]]])
    with pytest.raises(ArgumentError, match="below 2 for the narrowest"):
        D.langevin(full, np.zeros((3, 2)), 2.5, 5)


def test_correctors_that_diverge_are_refused() -> None:
    pair = D.guided(gaussian(1.0), gaussian(2.0))
    s = D.Schedule.vp_linear(20)
    for options in ({"corrector_steps": 1, "corrector_size": 50.0}, {"guidance_scale": 40, "corrector_steps": 200}):
        with pytest.raises(ArgumentError, match=r"corrector_size: .* unstable \(step .*below"):
            D.sample(pair, (5, 1), s, **options)
    with pytest.raises(ArgumentError, match="corrector_scale: 9 leaves"):
        D.sample(D.guided(pair.uncond, pair.cond), (5, 1), s, guidance_scale=5.0, corrector_steps=1)


def test_results_that_are_not_finite_are_errors() -> None:
    s = D.Schedule.vp_linear(20)
    far = D.guided(lambda x, *_: 9 * x, lambda x, *_: -9 * x)
    with pytest.raises(NumericalError, match="corrector_size: the result is not finite, with steps up to 50"):
        D.sample(far, (5, 1), s, guidance_scale=2.0, corrector_steps=40, corrector_size=50.0)
    with pytest.raises(NumericalError, match="step_size: the result is not finite, with steps up to 9;"):
        D.langevin(lambda x, *_: -x, np.ones((2, 1)), 9.0, 2000)
    with pytest.raises(NumericalError, match="model: the result is not finite"):
        D.sample(lambda x, *_: np.full_like(x, np.nan), (5, 1), s)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda gm, _s: D.langevin(gm, np.zeros((2, 2)), 0.4, 5), "unstable.*below 0.4 "),
        (lambda gm, _s: D.langevin(gm, np.full((2, 2), np.nan), 0.1, 5), "x: expected finite"),
        (lambda gm, _s: D.langevin(gm, np.zeros((2, 2)), 0.1, 5, sigma=-1), "sigma"),
        (lambda gm, _s: D.langevin(gm, np.zeros((2, 2)), 0.1, 5, alpha=-1), "alpha"),
        (lambda gm, _s: D.langevin(gm, np.zeros((2, 2)), 0.1, 5, first_step=-5), "first_step"),
        (lambda gm, _s: D.langevin(gm, np.zeros((2, 2)), 0.1, 5, guidance_scale=D.Guidance(1.0)), "guidance_scale"),
        (lambda gm, _s: D.langevin(gm, np.zeros((2, 2)), -1, 5), "step_size"),
        (lambda gm, _s: D.langevin(gm, np.zeros((2, 2)), 0.1, -5), "n_steps"),
        (lambda gm, _s: D.langevin(gm, np.zeros((2, 2)), 0.1, 5, guidance_scale=2.0), "guided"),
        (lambda _gm, _s: D.langevin(D.EmpiricalDenoiser([[0.0]]), np.zeros((2, 1)), 0.1, 5), "sigma"),
        (lambda gm, s: D.sample(gm, (5, 2), s, guidance_scale=2.0), "guided"),
        (lambda gm, s: D.sample(gm, (5, 3), s), "shape"),
        (lambda gm, s: D.sample(gm, (5, 2), s, "langevin"), "langevin"),
        (lambda gm, s: D.sample(gm, (5, 2), s, "nope"), "sampler"),
        (lambda gm, s: D.sample(gm, (5, 2), s, start=3), "x: expected the state"),
        (lambda gm, s: D.sample(gm, (5, 2), s, stop=99), "start, stop"),
        (lambda gm, s: D.sample(gm, (5, 2), s, stop=3.0), "start, stop"),
        (lambda gm, _s: D.sample(gm, (5, 2), 50), "schedule: expected a Schedule"),
        (lambda gm, s: D.sample(gm, (5, 2), s, guidance_scale="a"), "guidance_scale"),
        (lambda gm, s: D.sample(gm, (5, 2), s, guidance_scale=np.nan), "guidance_scale"),
        (lambda gm, s: D.sample(gm, (5, 2), s, corrector_steps=1, corrector_scale="a"), "corrector_scale"),
        (lambda gm, s: D.sample(gm, (5, 2), s, corrector_steps=1, corrector_size=[0.1, 0.2]), "corrector_size"),
        (lambda gm, s: D.sample(gm, (5, 2), s, first_sample=1.5), "first_sample"),
        (lambda _gm, s: D.step_coefficients(s, "langevin", step_size=[0.1, 0.2]), "step_size: expected one number or"),
        (lambda gm, _s: gm.score(np.zeros((1, 2)), 0, 0), "alpha, sigma"),
        (lambda _gm, s: D.gaussian_moments(s, cond=(0, 1), stop=99), "start, stop"),
        (lambda _gm, s: D.gaussian_moments(s, cond=(0, 1), corrector_steps=-1), "corrector_steps"),
        (lambda _gm, s: D.gaussian_moments(s, cond=(0, 1), guidance_scale=D.Guidance(1.0)), "guidance_scale"),
        (lambda _gm, s: D.gaussian_moments(s, cond=(0, 1, 2)), "cond: expected"),
        (lambda _gm, _s: D.gaussian_moments(50, cond=(0, 1)), "schedule"),
        (lambda gm, s: D.sample(gm, (5, 2), s, "heun", eta=0.5), "eta: sampler 'heun' has none"),
        (lambda gm, s: D.sample(D.guided(gm, gm), (5, 2), s, corrector_steps=1, guidance_scale=ON_OUTPUTS[0]), "PCG"),
        (lambda gm, s: D.sample(D.guided(gm, gm), (5, 2), s, corrector_steps=1, guidance_scale=ON_OUTPUTS[1]), "PCG"),
        (lambda _gm, s: D.step_coefficients(s, "ddim", step_size=0.1), "step_size: sampler 'ddim' has none"),
        (lambda _gm, _s: D.Guidance(2.0, momentum=-0.5), "momentum: goes with rule 'apg'"),
        (lambda _gm, _s: D.Guidance(2.0, "apg", zero_steps=3), "zero_steps: goes with rule 'zero_star'"),
        (lambda gm, s: D.sample(gm, (5, 2), s, eta="a"), "eta"),
        (lambda gm, s: D.sample(gm, (5, 2), s, callback=3), "callback"),
        (lambda gm, _s: D.langevin(gm, np.zeros((2, 2)), "a", 5), "step_size"),
        (lambda gm, _s: gm.score(np.zeros((1, 2)), "a", 1), "alpha"),
        (lambda _gm, _s: D.Schedule.karras(5, sigma_min="a"), "sigma_min"),
        (lambda _gm, _s: D.Schedule.ve(5, 2.0, sigma_min=3.0), "sigma_min"),
        (
            lambda _gm, s: D.sample(D.guided(gaussian(1), gaussian(2)), (2, 1), s, guidance_scale=ON_OUTPUTS[0]),
            "rescale",
        ),
        (lambda _gm, _s: D.Guidance("a"), "scale"),
        (lambda _gm, _s: D.Guidance(1.0, interval=(1,)), "interval"),
        (lambda _gm, _s: D.Guidance(1.0, interval=(np.nan, 1)), "interval"),
        (lambda _gm, _s: D.Guidance(1.0, "apg", norm=np.nan), "norm"),
        (lambda _gm, _s: D.Guidance(1.0, "apg", momentum=np.nan), "momentum"),
        (lambda _gm, _s: D.Guidance(1.0, "zero_star", zero_steps=1.5), "zero_steps"),
        (lambda gm, s: D.sample(gm, (5, 2), s, x=np.zeros((4, 2))), "x: expected shape"),
        (lambda gm, s: D.sample(gm, (5, 2), s, x=np.full((5, 2), np.nan)), "finite"),
        (lambda gm, s: D.sample(gm, (5, 2), s, dtype="float16"), "dtype"),
        (lambda gm, s: D.sample(gm, (5, 2), s, corrector_steps=-1), "corrector_steps"),
        (lambda gm, s: D.sample(gm, (5, 2), s, corrector_steps=1, corrector_size=-1), "corrector_size"),
        (lambda gm, s: D.sample(gm, (5, 2), s, "heun", corrector_steps=1), "heun"),
        (lambda gm, s: D.sample(gm, (5, 2), s, prediction="noise"), "prediction"),
        (lambda _gm, s: D.sample(3, (5, 2), s), "model"),
        (lambda _gm, s: D.sample(lambda *_: np.zeros((5, 3)), (5, 2), s), "model: expected a result"),
        (lambda gm, s: D.sample(D.guided(gm, gm), (5, 2), s, "ddpm", guidance_scale=D.Guidance(1, "cfg++")), "CFG"),
        (lambda _gm, s: D.gaussian_moments(s, cond=(0, 1), guidance_scale=2), "uncond"),
        (lambda _gm, s: D.gaussian_moments(s, cond=(0, -1)), "cond"),
        (lambda _gm, s: D.gaussian_moments(s, cond=(0, 1), sampler="heun", corrector_steps=1), "heun"),
        (lambda _gm, _s: D.Guidance(np.nan), "scale"),
        (lambda _gm, _s: D.Guidance(1.0, rule="x"), "rule"),
        (lambda _gm, _s: D.Guidance(1.0, rescale=2), "rescale"),
        (lambda _gm, _s: D.Guidance(1.0, rule="apg", rescale=0.5), "rescale"),
        (lambda _gm, _s: D.Guidance(1.0, interval=(2, 1)), "interval"),
        (lambda _gm, _s: D.Guidance(1.0, norm=-1), "norm"),
    ],
)
def test_bad_runs(call: object, message: str) -> None:
    gm = D.GaussianMixture([0.5, 0.5], [[0, 0], [1, 1]], [0.1, 0.2])
    with pytest.raises(ArgumentError, match=message):
        call(gm, D.Schedule.vp_linear(5))  # type: ignore[operator]


def test_the_corrector_at_the_last_level() -> None:
    """Run for mixtures, whose score exists at sigma 0; skipped for models that predict eps."""
    s = D.Schedule.vp_linear(5)
    levels: list[float] = []

    def model(x: np.ndarray, _alpha: float, sigma: float, _k: int) -> np.ndarray:
        levels.append(sigma)
        return np.zeros_like(x)

    D.sample(model, (2, 1), s, corrector_steps=1)
    assert len(levels) == 9
    assert min(levels) > 0


def test_blocks_go_to_any_thread() -> None:
    """Samples of several blocks, taken by whichever thread asks: the bits of one thread, for chains and evaluations."""
    model = D.GaussianMixture([0.3, 0.7], [[-2.0, 0.0], [2.0, 1.0]], [0.1, 0.2])
    one, *others = (
        D.sample(model, (9001, 2), D.Schedule.vp_linear(12), "ddpm", seeds=3, threads=threads) for threads in (1, 2, 5)
    )
    assert all((one == other).all() for other in others)
    first, *rest = (model.score(one, 0.8, 0.6, threads=threads) for threads in (1, 2, 5))
    assert all((first == other).all() for other in rest)
    x, eps = (D.normal((40, 65536), seed) for seed in (1, 2))
    first, *rest = (D.apply_step(x, eps, (0.9, 0.1, 0.2), seeds=4, threads=threads) for threads in (1, 2, 5))
    assert all((first == other).all() for other in rest)


def test_langevin_of_no_step_and_of_levels_that_are_large_integers() -> None:
    mixture = D.GaussianMixture([1.0], [[0.0, 0.0]], [1.0])
    x = np.ones((2, 2))
    assert np.array_equal(D.langevin(mixture, x, 0.1, 0), x)
    assert D.langevin(mixture, x[:0], 0.1, 0).shape == (0, 2)
    assert np.isfinite(D.langevin(mixture, x, 0.1, 2, alpha=2**64)).all()
