"""Exact models against the vectors, their NumPy twins and what theory says of them."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import DATA
from legato import diffusion as D
from legato.errors import ArgumentError

VECTORS = json.loads((DATA / "diffusion" / "mixture_score.json").read_text())
X = np.array(VECTORS["x"])


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda c: f"sigma{c['s']}")
@pytest.mark.parametrize("kind", ["diag", "full"])
def test_mixtures_of_the_vectors(case: dict, kind: str, backend: str) -> None:
    gm = D.GaussianMixture(VECTORS["w"], VECTORS["mu"], VECTORS["var" if kind == "diag" else "cov"])
    a, s = case["a"], case["s"]
    score = np.array(case[f"score_{kind}"])
    np.testing.assert_allclose(gm.score(X, a, s, backend=backend), score, rtol=1e-9)
    np.testing.assert_allclose(gm.log_density(X, a, s, backend=backend), case[f"logp_{kind}"], rtol=1e-9)
    np.testing.assert_allclose(gm.eps(X, a, s, backend=backend), -s * score, rtol=1e-9)
    np.testing.assert_allclose(gm.denoise(X, a, s, backend=backend), (X + s * s * score) / a, rtol=1e-9, atol=1e-9)
    single = gm.score(X.astype(np.float32), a, s, backend=backend)
    assert single.dtype == np.float32
    assert np.abs(single - score).max() < 2e-5 * np.abs(score).max()


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda c: f"sigma{c['s']}")
def test_ideal_denoiser_of_the_vectors(case: dict, backend: str) -> None:
    ed = D.EmpiricalDenoiser(VECTORS["mu"])
    got = ed.denoise(X, case["a"], case["s"], backend=backend)
    np.testing.assert_allclose(got, case["ideal_denoiser_data_mu"], atol=1e-10)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 9),
    d=st.integers(1, 6),
    n=st.integers(0, 40),
    kind=st.sampled_from(["isotropic", "diagonal", "full"]),
    alpha=st.sampled_from([0.0, 0.3, 1.0]),
    sigma=st.sampled_from([0.0, 0.05, 1.0, 30.0]),
    threads=st.integers(1, 3),
)
def test_mixture_equals_its_twin(
    seed: int, count: int, d: int, n: int, kind: str, alpha: float, sigma: float, threads: int
) -> None:
    if alpha == 0 and sigma == 0:
        sigma = 1.0
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(count, d)) * 2
    root = rng.normal(size=(count, d, d))
    full = root @ root.swapaxes(1, 2) + 0.3 * np.eye(d)
    shapes = {"isotropic": full[:, 0, 0], "diagonal": np.einsum("kii->ki", full), "full": full}
    weights = rng.uniform(size=count) * (rng.uniform(size=count) < 0.8)
    weights[0] += 0.1
    gm = D.GaussianMixture(weights, means, shapes[kind])
    x = alpha * rng.normal(size=(n, d)) * 3 + sigma * rng.normal(size=(n, d))
    for method in (gm.score, gm.denoise, gm.log_density):
        native = method(x, alpha, sigma, threads=threads)
        np.testing.assert_allclose(native, method(x, alpha, sigma, backend="numpy"), rtol=1e-8, atol=1e-8)
        if n:
            assert (method(x[n // 2 : n // 2 + 1], alpha, sigma) == native[n // 2]).all()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    points=st.integers(1, 300),
    d=st.integers(1, 20),
    n=st.integers(1, 35),
    sigma=st.sampled_from([0.0, 1e-20, 1e-3, 0.1, 1.0, 50.0]),
    alpha=st.sampled_from([0.0, 0.5, 1.0]),
    weighted=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
    threads=st.integers(1, 3),
)
def test_ideal_denoiser_equals_its_twin(
    seed: int, points: int, d: int, n: int, sigma: float, alpha: float, weighted: bool, dtype: str, threads: int
) -> None:
    rng = np.random.default_rng(seed)
    if alpha == 0 and sigma < 1e-2:
        alpha = 1.0  # without signal or noise every point is as near
    data = rng.normal(size=(points, d)).astype(dtype)
    weights = np.where(rng.uniform(size=points) < 0.2, -np.inf, rng.normal(size=points)) if weighted else None
    if weights is not None:
        weights[0] = 0.0
    ed = D.EmpiricalDenoiser(data, log_weights=weights)
    x = (alpha * data[rng.integers(points, size=n)] + (sigma + 0.01) * rng.normal(size=(n, d))).astype(dtype)
    native = ed.denoise(x, alpha, sigma, threads=threads)
    assert native.dtype == dtype
    twin = ed.denoise(x, alpha, sigma, backend="numpy")
    if dtype == "float32" and sigma <= 1e-3:  # where two points are as near in float32, either is right
        square = ((x[:, None].astype(float) - alpha * ed.data[None].astype(float)) ** 2).sum(-1)
        order = np.sort(square, 1)
        clear = order[:, 1] > order[:, 0] * (1 + 1e-4) + 40 * sigma**2 if len(ed.data) > 1 else np.ones(n, bool)
    else:
        clear = np.ones(n, bool)
    np.testing.assert_allclose(native[clear], twin[clear], atol=2e-4 if dtype == "float32" else 1e-9)
    assert (ed.denoise(x[n // 2 : n // 2 + 1], alpha, sigma) == native[n // 2]).all()


def test_small_sigma_is_the_nearest_neighbor() -> None:
    rng = np.random.default_rng(3)
    data = rng.normal(size=(500, 30)).astype(np.float32)
    x = rng.normal(size=(100, 30)).astype(np.float32)
    nearest = ((x[:, None].astype(float) - data[None].astype(float)) ** 2).sum(-1).argmin(1)
    for sigma in (0.0, 1e-30, 1e-4):
        assert (D.EmpiricalDenoiser(data).denoise(x, 1.0, sigma) == data[nearest]).all()


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e19])
def test_products_never_cost_accuracy(offset: float) -> None:
    """Far from the origin products of float32 say nothing, or overflow: then the distances decide."""
    rng = np.random.default_rng(5)
    data = (rng.normal(size=(300, 12)) * max(1.0, offset * 1e-2) + offset).astype(np.float32)
    x = data[rng.integers(300, size=70)] + data.std() * rng.normal(size=(70, 12)).astype(np.float32)
    for share in (0.02, 0.5, 20.0):
        sigma = share * float(data.std())
        if sigma > 1e18:
            continue  # sigma^2 is beyond float32
        ed = D.EmpiricalDenoiser(data)
        twin = D.EmpiricalDenoiser(data.astype(float)).denoise(x.astype(float), 1.0, sigma, backend="numpy")
        native = ed.denoise(x, 1.0, sigma)
        np.testing.assert_allclose(native, twin, atol=2e-4 * data.std() + 1e-6 * offset)
        for i in (0, 31, 32, 69):
            assert (ed.denoise(x[i : i + 1], 1.0, sigma) == native[i]).all()


def test_score_is_the_gradient_of_the_density() -> None:
    gm = D.GaussianMixture(VECTORS["w"], VECTORS["mu"], VECTORS["cov"])
    h = 1e-5
    for j in range(3):
        e = np.eye(3)[j] * h
        slope = (gm.log_density(X + e, 0.7, 0.5) - gm.log_density(X - e, 0.7, 0.5)) / (2 * h)
        np.testing.assert_allclose(slope, gm.score(X, 0.7, 0.5)[:, j], atol=1e-7)


def test_a_narrow_mixture_becomes_the_ideal_denoiser() -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(size=(20, 4))
    gm = D.GaussianMixture(np.ones(20), data, np.full(20, 1e-12))
    x = rng.normal(size=(30, 4))
    np.testing.assert_allclose(gm.denoise(x, 0.9, 0.4), D.EmpiricalDenoiser(data).denoise(x, 0.9, 0.4), atol=1e-9)


def test_classes() -> None:
    rng = np.random.default_rng(1)
    data, labels = rng.normal(size=(60, 3)), np.arange(60) % 3
    ed = D.EmpiricalDenoiser(data, labels)
    x = rng.normal(size=(10, 3))
    alone = D.EmpiricalDenoiser(data[labels == 1])
    np.testing.assert_array_equal(ed.denoise(x, 1.0, 0.5, label=1), alone.denoise(x, 1.0, 0.5))
    np.testing.assert_array_equal(ed.score(x, 1.0, 0.5, label=1), alone.score(x, 1.0, 0.5))
    np.testing.assert_allclose(ed.eps(x, 1.0, 0.5), -0.5 * ed.score(x, 1.0, 0.5, backend="numpy"), atol=1e-12)
    with pytest.raises(ArgumentError, match="label"):
        ed.given(7)
    with pytest.raises(ArgumentError, match="without labels"):
        alone.given(1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: D.GaussianMixture([1], [[0.0]], [0.0]), "positive definite"),
        (lambda: D.GaussianMixture([1], [[0.0]], [-1.0]), "positive definite"),
        (lambda: D.GaussianMixture([1], [[0.0, 0.0]], [[[1.0, 1.0], [1.0, 1.0]]]), "positive definite"),
        (lambda: D.GaussianMixture([1], [[0.0, 0.0]], [[[1.0, 0.5], [0.0, 1.0]]]), "symmetric"),
        (lambda: D.GaussianMixture([1, 1], [[0.0]], [1.0]), "means"),
        (lambda: D.GaussianMixture([1], [[0.0]], [1.0, 1.0]), "covariances"),
        (lambda: D.GaussianMixture([0], [[0.0]], [1.0]), "weights"),
        (lambda: D.GaussianMixture([np.nan], [[0.0]], [1.0]), "weights"),
        (lambda: D.GaussianMixture([1], [[np.inf]], [1.0]), "means"),
        (lambda: D.GaussianMixture([1], [[0.0]], [1.0]).score([[np.nan]], 1, 1), "x: expected finite"),
        (lambda: D.GaussianMixture([1], [[0.0]], [1.0]).score([[0.0, 1.0]], 1, 1), "x: expected shape"),
        (lambda: D.GaussianMixture([1], [[0.0]], [1.0]).score([[0.0]], 1, -1), "sigma"),
        (lambda: D.GaussianMixture([1], [[0.0]], [1.0]).score([[0.0]], np.nan, 1), "alpha"),
        (lambda: D.GaussianMixture([1], [[0.0]], [1.0]).log_density([[0.0]], 1, 1e160), "sigma: expected 0 or"),
        (lambda: D.GaussianMixture([1], [[0.0]], [1.0]).denoise([[0.0]], 1e-160, 0), "alpha: expected 0 or"),
        (lambda: D.EmpiricalDenoiser([1.0, 2.0]), "data"),
        (lambda: D.EmpiricalDenoiser([[np.nan]]), "data"),
        (lambda: D.EmpiricalDenoiser([[1.0]], labels=[1, 2]), "labels"),
        (lambda: D.EmpiricalDenoiser([[1.0]], log_weights=[-np.inf]), "log_weights"),
        (lambda: D.EmpiricalDenoiser([[1.0]]).score([[1.0]], 1.0, 0.0), "sigma > 0"),
        (lambda: D.guided(D.EmpiricalDenoiser([[1.0]]), len), "exact"),
        (lambda: D.guided(D.EmpiricalDenoiser([[1.0]]), D.EmpiricalDenoiser([[1.0, 2.0]])), "dimension"),
        (lambda: D.guided(D.guided(len, len), len), "pair"),
    ],
)
def test_bad_models(make: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(("dtype", "far", "farther"), [("f8", 2.0**63, 1e200), ("f4", 2.0**62, 1e30)])
def test_log_density_far_from_every_mean(dtype: str, far: float, farther: float) -> None:
    mixture = D.GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], [0.1, 0.2])
    x = np.array([[0.0, 0.0], [0.0, far], [farther, 0.0]], dtype)
    got = mixture.log_density(x, 0.9, 0.1)
    assert got[1] == pytest.approx(-0.5 * far**2 / (0.81 * 0.2 + 0.01), rel=1e-6)
    assert got[2] == -np.inf


def test_models_are_copied_and_pickled() -> None:
    x = np.linspace(-1, 1, 12).reshape(6, 2)
    full = [np.eye(2), np.array([[1.0, 0.3], [0.3, 0.5]])]
    models = [D.GaussianMixture([1, 2], np.eye(2), covariances) for covariances in ([1.0, 2.0], np.ones((2, 2)), full)]
    models.append(D.EmpiricalDenoiser(np.eye(2), labels=[0, 1]))
    for model in models:
        model.denoise(x, 0.8, 0.6)  # what is made on demand is made
        for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            np.testing.assert_array_equal(again.denoise(x, 0.8, 0.6), model.denoise(x, 0.8, 0.6))
    pair = D.guided(models[0].reweighted([1, 0]), models[0])
    schedule = D.Schedule.karras(5)
    for again in (copy.deepcopy(pair), pickle.loads(pickle.dumps(pair))):
        ours, theirs = (D.sample(one, (8, 2), schedule, guidance_scale=2.0) for one in (again, pair))
        np.testing.assert_array_equal(ours, theirs)


def test_weights_and_covariances_at_the_ends_of_float64() -> None:
    huge = D.GaussianMixture([1e308, 1e308, 5e307], [[-1.0], [1.0], [0.0]], [1.0, 1.0, 1.0])
    np.testing.assert_allclose(huge.weights, [0.4, 0.4, 0.2])
    tiny = D.GaussianMixture([1.0], [[0.5]], [1e-200])
    assert np.isfinite(tiny.score([[0.5], [0.6]], 1.0, 0.0)).all()
    for bad in ([1e-310], [[1e-310]], [[[1e-310]]]):
        with pytest.raises(ArgumentError, match="covariances: expected variances of at least"):
            D.GaussianMixture([1.0], [[0.5]], bad)


def test_far_out_no_density_is_left() -> None:
    """Squares beyond float64: no density, and the same score and mean by both backends."""
    x = np.array([[1e300, 0.0], [0.0, 0.0]])
    for weights in ([0.5, 0.5], [0.9, 0.1]):
        mixture = D.GaussianMixture(weights, [[-1.0, 0.0], [1.0, 0.0]], [0.1, 0.2])
        assert mixture.log_density(x, 0.9, 0.1).tolist()[0] == -np.inf
        for name in ("log_density", "score", "denoise"):
            native, numpy = (getattr(mixture, name)(x, 0.9, 0.1, backend=backend) for backend in ("native", "numpy"))
            np.testing.assert_allclose(native, numpy, rtol=1e-12)
