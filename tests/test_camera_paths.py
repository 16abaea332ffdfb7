"""Camera paths: the vectors, the certificate, properties, bad input."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from conftest import camera_arrays
from legato import _core, camera
from legato.camera import _reference
from legato.camera.frames import crop_room_px
from legato.camera.homographies import to_pixel_units
from legato.camera.options import MODELS
from legato.camera.problem import MODEL
from legato.errors import ArgumentError, HomographyError

SIZE = (640, 360)


def options_of(case: dict[str, Any], **changes: Any) -> camera.PathOptions:
    options = camera.PathOptions(
        crop=case["crop"],
        window_scale=case["window_scale"],
        weights=tuple(case["w"]),
        anisotropy=case["w_aniso"],
        shear=case["w_shear"],
        keystone=case["w_key"],
        keystone_ratio=case["R"],
        relinearize=0,
    )
    return dataclasses.replace(options, **changes)


def linear_violation(case: dict[str, Any], p: np.ndarray) -> float:
    """Largest violation of the linear crop rows at rest and of trace 0, from the reference."""
    options = options_of(case)
    proxy = _WidthOptions(options)
    G, h = _reference.crop_rows(np.zeros(9), case["frame"][1] / case["frame"][0], proxy)
    return float(max((p @ G.T - h).max(), np.abs(p[:, 0] + p[:, 4] + p[:, 8]).max()))


class _WidthOptions:
    def __init__(self, options: camera.PathOptions) -> None:
        self.inset = 0.0
        self.crop = options.crop
        self.effective_window_scale = options.effective_window_scale


def shaky(n: int, seed: int = 0, size: float = 0.006) -> np.ndarray:
    """Motion in frame widths: a slow pan with tremor, roll and the keystone that goes with rotation."""
    rng = np.random.default_rng(seed)
    h = np.zeros((n, 9))
    h[:, 2] = 0.3 * size + size * rng.normal(size=n)
    h[:, 5] = size * rng.normal(size=n)
    h[:, 3] = 0.5 * size * rng.normal(size=n)
    h[:, 1] = -h[:, 3]
    h[:, [6, 7]] = -1.2 * h[:, [2, 5]]
    h[:1] = 0
    return camera.exp_homography(h.reshape(n, 3, 3))


@pytest.mark.parametrize(
    "name", ["qp12_paper", "qp60_paper", "qp120_paper", "qp120_full", "qp120_crop10", "qp60_full_pinned"]
)
def test_vectors(camera_cases: dict[str, Any], name: str) -> None:
    case = camera_cases["cases"][name]
    arrays = camera_arrays(case["file"])
    f, expected = arrays["f"], arrays["p"]
    fixed = camera.exp_homography(arrays["fixed"].reshape(-1, 3, 3)) if "fixed" in arrays else None
    motion = camera.exp_homography(f.reshape(-1, 3, 3))
    path = camera.smooth_path(motion, tuple(case["frame"]), options_of(case), units="width", fixed=fixed)
    assert path.status == "optimal"
    p = path.log_corrections.reshape(-1, 9)
    value = _reference.objective(p, f, options_of(case), case["R"])
    assert value <= case["obj_primal"] * (1 + 1e-6)
    assert path.objective == pytest.approx(value, rel=1e-10)
    assert path.objective - path.gap <= case["obj_primal"] * (1 + 1e-9)
    assert linear_violation(case, p) < 1e-9
    # strong convexity: |p - p*|^2 <= 2 (J - J*) / w0
    bound = np.sqrt(2 * max(value - case["obj_dual"], 0) / case["w"][0]) + 1e-5
    assert np.linalg.norm(p - expected) <= bound
    if "exact_crop_violation_px" in case:
        assert path.violation_px.max() == pytest.approx(case["exact_crop_violation_px"], abs=1e-2)
    if fixed is not None:
        np.testing.assert_allclose(p[: len(fixed)], arrays["fixed"], atol=1e-14)


@pytest.mark.parametrize("name", ["qp12_paper", "qp60_paper", "qp120_full"])
def test_derivatives_are_sparse(camera_cases: dict[str, Any], name: str) -> None:
    case = camera_cases["cases"][name]
    f = camera_arrays(case["file"])["f"]
    options = options_of(case, tolerance=1e-12)
    path = camera.smooth_path(camera.exp_homography(f.reshape(-1, 3, 3)), tuple(case["frame"]), options, units="width")
    e = np.diff(path.log_corrections.reshape(-1, 9), axis=0) + f[1:]
    for expected in case["zero_frac_1e8"]:
        assert (np.abs(e) < 1e-8).mean() == pytest.approx(expected, abs=0.01)
        e = np.diff(e, axis=0)


def test_geometry_vectors() -> None:
    arrays = camera_arrays("geometry.npz")
    for scale in (0.9, 0.8):
        corners = _reference.window_corners(scale, 9 / 16)
        np.testing.assert_allclose(corners, arrays[f"ws{scale}_corners"], atol=1e-15)
        np.testing.assert_allclose(_reference.point_jacobian(corners), arrays[f"ws{scale}_J"], atol=1e-15)
        options = camera.PathOptions(crop=0.25, window_scale=scale)
        G, h = native_rows(np.zeros(9), 9 / 16, options)
        sign = np.sign(corners).ravel()
        np.testing.assert_allclose(G[:8], sign[:, None] * arrays[f"ws{scale}_J"], atol=1e-15)
        np.testing.assert_allclose(-G[8], arrays[f"ws{scale}_dArea_dh"], atol=1e-15)
        np.testing.assert_allclose(-G[9:], arrays[f"ws{scale}_dSide_dh"], atol=1e-15)
        np.testing.assert_allclose(h[8], arrays[f"ws{scale}_area"] - 0.75**2 * 9 / 16, atol=1e-15)
        np.testing.assert_allclose(h[9:], arrays[f"ws{scale}_sides"] - 0.75 * np.array([1, 9 / 16] * 2), atol=1e-15)


def native_rows(p: np.ndarray, aspect: float, options: camera.PathOptions) -> tuple[np.ndarray, np.ndarray]:
    G, h = np.empty((13, 9)), np.empty(13)
    core = _core.CameraPathOptions(
        crop=options.crop,
        window_scale=options.effective_window_scale,
        weights=options.weights,
        anisotropy=0,
        shear=0,
        keystone=0,
        keystone_ratio=0,
        bound=1,
        inset=0,
        pixel=0,
        relinearize=0,
        tolerance=1e-6,
        max_iterations=1,
    )
    _core.camera_crop_rows(p, aspect, core, G, h)
    return G, h


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.3))
def test_rows_are_the_derivative(seed: int, size: float) -> None:
    """The analytic rows at any p against central differences of the exact geometry."""
    p = np.random.default_rng(seed).normal(scale=size / 3, size=9)
    p[8] = -p[0] - p[4]
    options = camera.PathOptions(crop=0.2)
    G, h = native_rows(p, 9 / 16, options)
    G_twin, h_twin = _reference.crop_rows(p, 9 / 16, _WidthOptions(options))
    np.testing.assert_allclose(G, G_twin, atol=1e-7)
    np.testing.assert_allclose(h, h_twin, atol=1e-7)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 11])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"relinearize": 0},
        {"window_scale": 0.88},
        {"inset_px": 0.5},
        {"acceleration": 1e4},
        {"roll_weight": 30.0},
        {"roll_weight": 30.0, "model": "similarity"},
    ],
)
def test_native_equals_reference(n: int, changes: dict[str, Any]) -> None:
    options = camera.PathOptions(**changes, tolerance=1e-9)
    motion = shaky(n, seed=n)
    weight = np.linspace(0.5, 3, n)
    fixed = camera.exp_homography(camera.log_homography(motion[:2]) * 0.1) if n > 4 else None
    native, twin = (
        camera.smooth_path(motion, SIZE, options, units="width", fixed=fixed, frame_weight=weight, backend=backend)
        for backend in ("native", "numpy")
    )
    assert native.status == twin.status == "optimal"
    assert native.objective == pytest.approx(twin.objective, rel=2e-9, abs=1e-12)
    assert native.rounds == twin.rounds
    np.testing.assert_allclose(native.log_corrections, twin.log_corrections, atol=3e-5)
    np.testing.assert_allclose(native.violation_px, twin.violation_px, atol=0.02)


@pytest.mark.parametrize(
    ("f", "w0", "w1", "a", "value"),
    [(0.01, 1, 10, 0.005, 2.5e-5), (0.5, 1, 0.1, 0.1, 0.04), (0.3, 2, 0.05, 0.025, 0.01375)],
)
def test_two_frames_in_closed_form(backend: str, f: float, w0: float, w1: float, a: float, value: float) -> None:
    motion = np.tile(np.eye(3), (2, 1, 1))
    motion[1, 0, 2] = f
    options = camera.PathOptions(
        crop=0.5, weights=(w0, w1, 0, 0), anisotropy=0, shear=0, keystone=0, relinearize=0, tolerance=1e-10
    )
    path = camera.smooth_path(motion, SIZE, options, units="width", backend=backend)
    assert path.objective == pytest.approx(value, rel=1e-8)
    np.testing.assert_allclose(path.log_corrections[:, 0, 2], [a, -a], atol=1e-5)


def test_static_clip_is_left_alone(backend: str) -> None:
    path = camera.smooth_path(np.tile(3 * np.eye(3), (20, 1, 1)), SIZE, backend=backend)
    assert (path.corrections == np.eye(3)).all()
    assert path.objective == 0
    assert path.gap == 0


def test_scaling_weights_scales_the_objective(camera_cases: dict[str, Any]) -> None:
    case = camera_cases["cases"]["qp60_paper"]
    motion = camera.exp_homography(camera_arrays(case["file"])["f"].reshape(-1, 3, 3))
    one, seven = (
        camera.smooth_path(
            motion,
            (1920, 1080),
            options_of(case, weights=tuple(c * w for w in case["w"]), tolerance=1e-9),
            units="width",
        )
        for c in (1, 7)
    )
    assert seven.objective == pytest.approx(7 * one.objective, rel=1e-8)
    np.testing.assert_allclose(seven.log_corrections, one.log_corrections, atol=1e-5)


def test_mirror_and_time_reversal() -> None:
    f = camera.log_homography(shaky(70, seed=9)).reshape(-1, 9)
    options = camera.PathOptions(relinearize=0, tolerance=1e-10, keystone_ratio=-1.2)

    def solve(f: np.ndarray) -> camera.CameraPath:
        return camera.smooth_path(camera.exp_homography(f.reshape(-1, 3, 3)), SIZE, options, units="width")

    path = solve(f)
    flips = np.array([1, -1, -1, -1, 1, 1, -1, 1, 1])
    mirrored = solve(f * flips)
    assert mirrored.objective == pytest.approx(path.objective, rel=1e-8)
    p = path.log_corrections.reshape(-1, 9)
    np.testing.assert_allclose(mirrored.log_corrections.reshape(-1, 9), p * flips, atol=2e-5)
    reversed_f = np.vstack([np.zeros(9), -f[:0:-1]])
    back = solve(reversed_f)
    assert back.objective == pytest.approx(path.objective, rel=1e-8)
    np.testing.assert_allclose(back.log_corrections.reshape(-1, 9), p[::-1], atol=2e-5)


def test_relinearization_on_the_vector(camera_cases: dict[str, Any]) -> None:
    """Beyond the paper: the exact objective falls and the crop becomes exact (spec test T8)."""
    case = camera_cases["cases"]["qp120_full"]
    f = camera_arrays(case["file"])["f"]
    motion = camera.exp_homography(f.reshape(-1, 3, 3))
    expected = [15.5096, 9.8027, 8.9425]
    for rounds, value in enumerate(expected):
        path = camera.smooth_path(
            motion, (1920, 1080), options_of(case, relinearize=rounds, tolerance=1e-9), units="width"
        )
        P, p = path.corrections, path.log_corrections.reshape(-1, 9)
        exact = camera.log_homography(np.linalg.inv(P[:-1]) @ motion[1:] @ P[1:]).reshape(-1, 9)
        velocity = np.vstack([np.zeros(9), exact - np.diff(p, axis=0)])
        got = _reference.objective(p, velocity, options_of(case), case["R"])
        assert got == pytest.approx(value, rel=2e-3)
        if rounds:
            assert path.violation_px.max() <= 0.05


@pytest.mark.parametrize("name", ["qp60_paper", "qp120_paper", "qp120_full", "qp120_crop10", "qp120_saliency"])
@pytest.mark.parametrize("crop", [None, 0.3])
def test_the_crop_is_exact_after_relinearization(camera_cases: dict[str, Any], name: str, crop: float | None) -> None:
    case = camera_cases["cases"][name]
    motion = camera.exp_homography(camera_arrays(case["file"])["f"].reshape(-1, 3, 3))
    options = options_of(case) if crop is None else options_of(case, crop=crop, window_scale=1 - crop)
    linear, exact = (
        camera.smooth_path(motion, (1920, 1080), dataclasses.replace(options, relinearize=rounds), units="width")
        for rounds in (0, 2)
    )
    assert linear.violation_px.max() > 0.5 or name == "qp60_paper"
    assert exact.violation_px.max() <= 0.05


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 60), st.integers(0, 10**6), st.floats(0.001, 0.03), st.floats(0.05, 0.3), st.integers(0, 12))
def test_every_path_is_feasible_and_certified(n: int, seed: int, size: float, crop: float, cap: int) -> None:
    motion = shaky(n, seed, size)
    options = camera.PathOptions(crop=crop, relinearize=0, max_iterations=cap)
    path = camera.smooth_path(motion, SIZE, options, units="width")
    assert path.status in ("optimal", "iteration_limit")
    p = path.log_corrections.reshape(-1, 9)
    G, h = native_rows(np.zeros(9), 9 / 16, options)
    assert (p @ G.T - h).max() <= 1e-12
    best = camera.smooth_path(motion, SIZE, dataclasses.replace(options, max_iterations=200), units="width")
    assert path.objective - path.gap <= best.objective * (1 + 1e-9) + 1e-12
    assert best.objective <= path.objective * (1 + 1e-6) + 1e-12


def test_against_a_general_solver() -> None:
    """The whole program handed to Clarabel as sparse matrices."""
    clarabel = pytest.importorskip("clarabel", reason="the test extra is not installed")
    sparse = pytest.importorskip("scipy.sparse")
    n = 40
    motion = shaky(n, seed=3)
    f = camera.log_homography(motion).reshape(n, 9)
    options = camera.PathOptions(relinearize=0, keystone_ratio=-1.2)
    path = camera.smooth_path(motion, SIZE, options, units="width")
    Q = sparse.block_diag([_reference.frame_quadratic(options, 1.0, -1.2)] * n)
    D, d, w = [], [], []
    step, constant = sparse.identity(9 * n, format="csc"), f
    constant = f[1:]
    for k in range(3):
        m = n - 1 - k
        step = sparse.kron(sparse.diags([-np.ones(m), np.ones(m)], [0, 1], (m, m + 1)), sparse.identity(9)) @ step
        if k:
            constant = np.diff(constant, axis=0)
        D.append(step)
        d.append(constant.ravel())
        w.append(np.full(9 * m, options.weights[k + 1]))
    D, d, w = sparse.vstack(D), np.concatenate(d), np.concatenate(w)
    u = len(d)
    G, h = _reference.crop_rows(np.zeros(9), 9 / 16, _WidthOptions(options))
    trace = sparse.kron(sparse.identity(n), np.array([[1, 0, 0, 0, 1, 0, 0, 0, 1]]))
    eye = sparse.identity(u)
    A = sparse.vstack(
        [
            sparse.hstack([trace, sparse.csc_matrix((n, u))]),
            sparse.hstack([D, -eye]),
            sparse.hstack([-D, -eye]),
            sparse.hstack([sparse.kron(sparse.identity(n), G), sparse.csc_matrix((13 * n, u))]),
        ]
    ).tocsc()
    b = np.concatenate([np.zeros(n), -d, d, np.tile(h, n)])
    settings_ = clarabel.DefaultSettings()
    settings_.verbose = False
    settings_.tol_gap_rel = settings_.tol_feas = 1e-9
    P = sparse.block_diag([Q, sparse.csc_matrix((u, u))]).tocsc()
    cones = [clarabel.ZeroConeT(n), clarabel.NonnegativeConeT(len(b) - n)]
    solution = clarabel.DefaultSolver(
        sparse.triu(P).tocsc(), np.concatenate([np.zeros(9 * n), w]), A, b, cones, settings_
    ).solve()
    assert path.objective == pytest.approx(solution.obj_val, rel=2e-6)
    p = np.array(solution.x)[: 9 * n]
    np.testing.assert_allclose(path.log_corrections.ravel(), p, atol=2e-4)


def test_pixel_units_are_the_same_problem() -> None:
    motion = shaky(30, seed=2)
    to_pixel = np.array([[640, 0, 319.5], [0, 640, 179.5], [0, 0, 1]])
    width = camera.smooth_path(motion, SIZE, units="width")
    pixel = camera.smooth_path(to_pixel @ motion @ np.linalg.inv(to_pixel), SIZE)
    assert pixel.objective == pytest.approx(width.objective, rel=1e-6)
    expected = to_pixel @ width.corrections @ np.linalg.inv(to_pixel)
    np.testing.assert_allclose(pixel.corrections, expected / expected[:, 2:, 2:], atol=0.02)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1e3, 1e5, 1e7]), st.sampled_from(MODELS))
@example(825841, 1e7, "homography")
@example(443, 1e7, "homography")
@example(665, 1e7, "similarity")
def test_squared_acceleration_is_traded_for_the_rest(seed: int, weight: float, model: str) -> None:
    """Of two optima each is the better one by its own objective, and their difference is the term."""
    motion = shaky(25, seed=seed, size=0.02)  # far more than the crop can take
    plain = camera.PathOptions(relinearize=0, tolerance=1e-9, keystone_ratio=-1.2, model=model)
    bent = dataclasses.replace(plain, acceleration=weight)
    without, spread = (camera.smooth_path(motion, SIZE, options, units="width") for options in (plain, bent))

    def mean_square(path: camera.CameraPath) -> float:
        corners = _reference.window_corners(0.94, SIZE[1] / SIZE[0])
        steps = np.diff(path.log_corrections.reshape(-1, 9), axis=0)
        first = camera.path_program(motion, SIZE, plain, units="width").velocity[1:] @ MODEL[model].basis.T
        e = np.diff(steps + first, axis=0) @ _reference.point_jacobian(corners).T
        return float((e**2).sum() / 4)

    term, term_without = weight * mean_square(spread), weight * mean_square(without)
    assert without.status == "optimal"
    # With a weight of 1e7 rounding ends one in a hundred short of 1e-9; then the best iterate stands.
    assert spread.status == "optimal" or (weight == 1e7 and spread.gap <= 1e-6 * spread.objective)
    assert spread.objective - spread.gap <= without.objective + term_without
    assert without.objective - without.gap <= spread.objective - term
    assert term <= term_without + spread.gap + without.gap


def test_frame_rate_keeps_the_continuous_objective() -> None:
    options = camera.PathOptions(acceleration=3.0).at_frame_rate(60)
    assert options.weights == (0.5, 1, 20, 400)
    assert (options.anisotropy, options.shear, options.keystone, options.acceleration) == (500, 500, 50, 24)
    assert camera.PathOptions().at_frame_rate(30) == camera.PathOptions()
    assert camera.PathOptions(acceleration=1e6).at_frame_rate(90000).acceleration == 9e11  # not refused


def test_bridge_motion() -> None:
    motion = np.tile(np.eye(3), (7, 1, 1))
    motion[:, 0, 2] = [99, 2, np.nan, np.nan, 8, 10, 77]
    ok = np.array([True, True, False, False, True, True, False])
    bridged = camera.bridge_motion(motion, ok)
    np.testing.assert_allclose(bridged[:, 0, 2], [0, 2, 4, 6, 8, 10, 0])
    assert (camera.bridge_motion(motion, np.zeros(7, bool)) == np.eye(3)).all()
    assert camera.bridge_motion(motion[:0], ok[:0]).shape == (0, 3, 3)
    with pytest.raises(ArgumentError, match="ok: expected bool"):
        camera.bridge_motion(motion, np.ones(7))


def test_contain_of_what_is_too_far_for_an_exponential() -> None:
    P = np.tile(np.eye(3), (2, 1, 1))
    P[1, 0, 2] = 2.0**63
    for backend in ("native", "numpy"):
        assert np.abs(camera.contain(P, SIZE, backend=backend)[1] - np.eye(3)).max() < 100


def test_contain_shrinks_only_what_leaves_the_frame() -> None:
    options = camera.PathOptions(crop=0.2, inset_px=0.5)
    P = np.tile(np.eye(3), (3, 1, 1))
    P[1, 0, 2] = 200.0  # the window of scale 0.9 may move 32 px minus the inset
    P[2, 1, 2] = 5.0
    contained = camera.contain(P, SIZE, options)
    assert (contained[[0, 2]] == P[[0, 2]]).all()
    assert contained[1, 0, 2] == pytest.approx(31.5, abs=1e-5)
    assert contained[1, 0, 2] <= 31.5


@pytest.mark.parametrize("backend", ["native", "numpy"])
def test_contain_is_exact_and_the_same_on_both_backends(backend: str) -> None:
    options = camera.PathOptions(crop=0.1, inset_px=0.5)
    logs = np.random.default_rng(3).normal(scale=[0.06, 0.02, 0.1, 0.02, 0.06, 0.1, 0.04, 0.04, 0.0], size=(200, 9))
    logs[:, 8] = -logs[:, 0] - logs[:, 4]
    P = to_pixel_units(camera.exp_homography(logs.reshape(-1, 3, 3)), SIZE)
    contained = camera.contain(P, SIZE, options, backend=backend)
    room = crop_room_px(contained, SIZE, options)
    assert (room >= 0).all()
    shrunk = crop_room_px(P, SIZE, options) < 0
    assert 100 < shrunk.sum() < 200
    assert (contained[~shrunk] == P[~shrunk]).all()
    # The window touches the edge: by the distance that a factor larger by 2^-30 would move a corner, and the 1e-9 px.
    assert room[shrunk].max() < 1e-5
    np.testing.assert_allclose(contained, camera.contain(P, SIZE, options, backend="numpy"), atol=1e-5)
    P[7] = [[1, 0, 900], [0, 0, 0], [0, 0, 1]]
    with pytest.raises(HomographyError, match=r"^corrections\[7\]: .* singular"):
        camera.contain(P, SIZE, options, backend=backend)


def test_metrics() -> None:
    motion = np.tile(np.eye(3), (50, 1, 1))
    motion[1:, 0, 2] = np.where(np.arange(49) % 2, 3.0, -3.0)
    identity = np.tile(np.eye(3), (50, 1, 1))
    same = camera.path_metrics(motion, identity, SIZE)
    assert same.jitter_px == same.input_jitter_px == pytest.approx(6)
    assert same.cropping == same.distortion == 1
    zoom = np.tile(np.diag([0.8, 0.8, 1.0]), (50, 1, 1))
    assert camera.path_metrics(motion, zoom, SIZE).cropping == pytest.approx(0.8)
    shear = identity.copy()
    shear[:, 0, 1] = 0.2
    assert camera.path_metrics(motion, shear, SIZE).distortion == pytest.approx(0.8190, abs=1e-4)
    undo = np.linalg.inv(np.array([functools.reduce(np.matmul, motion[: t + 1]) for t in range(50)]))
    assert camera.path_metrics(motion, undo, SIZE).jitter_px == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"crop": 0}, "crop"),
        ({"crop": 1.0}, "crop"),
        ({"crop": float("nan")}, "crop"),
        ({"window_scale": 0.5}, "window_scale"),
        ({"weights": (0, 0, 0, 0)}, "weights"),
        ({"model": "projective"}, "model"),
        ({"weights": (1, 1, 1)}, "weights"),
        ({"weights": (1, -1, 1, 1)}, "weights"),
        ({"anisotropy": -1}, "anisotropy"),
        ({"keystone_ratio": float("inf")}, "keystone_ratio"),
        ({"acceleration": -1}, "acceleration"),
        ({"roll_weight": -1}, "roll_weight"),
        ({"bound": 0}, "bound"),
        ({"inset_px": -1}, "inset_px"),
        ({"relinearize": 1.5}, "relinearize"),
        ({"tolerance": 0}, "tolerance"),
        ({"max_iterations": -1}, "max_iterations"),
    ],
)
def test_bad_options(changes: dict[str, Any], name: str) -> None:
    with pytest.raises(ArgumentError, match=f"^{name}: expected"):
        camera.PathOptions(**changes)


def test_bad_arguments(backend: str) -> None:
    motion = shaky(6)
    with pytest.raises(ArgumentError, match=r"motion: expected shape \(n, 3, 3\), got \(6, 9\)"):
        camera.smooth_path(motion.reshape(6, 9), SIZE, backend=backend)
    with pytest.raises(ArgumentError, match="size: expected"):
        camera.smooth_path(motion, (0, 360), backend=backend)
    with pytest.raises(ArgumentError, match="units: expected"):
        camera.smooth_path(motion, SIZE, units="inch", backend=backend)
    with pytest.raises(ArgumentError, match="fixed: expected at most 6"):
        camera.smooth_path(motion, SIZE, fixed=shaky(7), backend=backend)
    with pytest.raises(ArgumentError, match="frame_weight: expected"):
        camera.smooth_path(motion, SIZE, frame_weight=np.zeros(6), backend=backend)
    with pytest.raises(ArgumentError, match=r"crop: expected more than the 0\.28 that inset_px, 50, takes"):
        camera.smooth_path(motion, SIZE, camera.PathOptions(inset_px=50), backend=backend)
    motion[4, 1, 1] = np.nan
    with pytest.raises(camera.HomographyError, match="4"):
        camera.smooth_path(motion, SIZE, backend=backend)


def test_rounds_without_end_are_refused() -> None:
    with pytest.raises(ArgumentError, match="relinearize: expected a whole number from 0 to 1000"):
        camera.PathOptions(relinearize=2**31 - 1)
    assert camera.PathOptions(relinearize=1000).relinearize == 1000
