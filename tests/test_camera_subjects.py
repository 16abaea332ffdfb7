"""Salient points, targets, model variants, the linear program, closed forms."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import camera_arrays
from legato import camera
from legato.camera import _reference
from legato.errors import ArgumentError
from test_camera_paths import SIZE, options_of, shaky

FRAME = (1920, 1080)


def moved(path: camera.CameraPath, points: np.ndarray) -> np.ndarray:
    """P_t^-1 point."""
    return np.array(
        [_reference.apply(np.linalg.inv(P), some) for P, some in zip(path.corrections, points, strict=True)]
    )


def test_saliency_vector(camera_cases: dict[str, Any]) -> None:
    case = camera_cases["cases"]["qp120_saliency"]
    arrays = camera_arrays(case["file"])
    motion = camera.exp_homography(arrays["f"].reshape(-1, 3, 3))
    hard = camera.smooth_path(motion, FRAME, options_of(case), units="width", salient=arrays["salient"])
    assert hard.objective <= case["obj_primal"] * (1 + 1e-6)
    assert hard.objective - hard.gap <= case["obj_primal"] * (1 + 1e-9)
    half = 0.45 * np.array([1, 9 / 16])
    outside = np.nanmax(np.abs(moved(hard, arrays["salient"])) - half)
    assert 1920 * outside == pytest.approx(case["salient_exact_violation_px"], abs=0.02)
    soft = camera.smooth_path(
        motion, FRAME, options_of(case), units="width", salient=arrays["salient"], salient_weight=1000.0
    )
    assert soft.objective == pytest.approx(case["obj_primal"], rel=1e-6)
    # Re-linearized, the points are where they should be exactly.
    exact = camera.smooth_path(motion, FRAME, options_of(case, relinearize=2), units="width", salient=arrays["salient"])
    assert 1920 * np.nanmax(np.abs(moved(exact, arrays["salient"])) - half) < 0.05
    assert exact.violation_px.max() < 0.05


def test_centering_vector(camera_cases: dict[str, Any]) -> None:
    case = camera_cases["cases"]["qp120_center"]
    arrays = camera_arrays(case["file"])
    motion = camera.exp_homography(arrays["f"].reshape(-1, 3, 3))
    path = camera.smooth_path(
        motion, FRAME, options_of(case), units="width", targets=arrays["target"][:, [2, 5]], target_weight=10.0
    )
    assert path.objective <= case["obj_primal"] * (1 + 1e-6)
    assert path.objective - path.gap <= case["obj_primal"] * (1 + 1e-9)


def test_infeasible_points_are_named(camera_cases: dict[str, Any], backend: str) -> None:
    """Spec test T9."""
    arrays = camera_arrays("qp20_infeasible.npz")
    case = camera_cases["cases"]["qp120_full"]
    motion = camera.exp_homography(arrays["f"].reshape(-1, 3, 3))
    some = arrays["salient"].copy()
    some[:8] = np.nan
    some[11:] = [0.3, 0.1]
    with pytest.raises(camera.InfeasibleError, match=r"salient: .* frames 8, 9, 10$"):
        camera.smooth_path(motion, FRAME, options_of(case), units="width", salient=some, backend=backend)
    with pytest.raises(camera.InfeasibleError, match=r"frames 18, 19, 20$"):  # numbers of the clip, not of the window
        camera.smooth_path(
            np.concatenate([motion[:10], motion]),
            FRAME,
            options_of(case),
            units="width",
            salient=np.concatenate([np.full((10, 1, 2), np.nan), some]),
            cuts=[10],
            backend=backend,
        )
    if backend == "numpy":
        return
    exact = options_of(case, relinearize=2)
    soft = camera.smooth_path(motion, FRAME, exact, units="width", salient=some, salient_weight=1000.0)
    assert soft.status == "optimal"
    assert soft.violation_px.max() <= 0.05  # the crop still holds
    pytest.importorskip("clarabel", reason="the test extra is not installed")
    program = camera.path_program(motion, FRAME, options_of(case), units="width", salient=some)
    with pytest.raises(camera.InfeasibleError):
        program.solve(solver="clarabel")


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(2, 14),
    st.sampled_from(["homography", "affine", "similarity", "translation"]),
    st.booleans(),
    st.booleans(),
)
def test_every_variant_against_the_sparse_program(seed: int, n: int, model: str, soft: bool, linear: bool) -> None:
    """The compiled path against a program built apart from it and solved by Clarabel."""
    pytest.importorskip("clarabel", reason="the test extra is not installed")
    rng = np.random.default_rng(seed)
    motion = shaky(n, seed)
    salient = rng.uniform(-0.47, 0.47, size=(n, 2, 2)) * [1, 9 / 16]
    salient[rng.uniform(size=(n, 2)) < 0.5] = np.nan
    keywords: dict[str, Any] = {
        "targets": np.where(rng.uniform(size=(n, 1)) < 0.3, np.nan, rng.normal(scale=0.02, size=(n, 2))),
        "target_weight": 0.0 if linear else 2.0,
        "frame_weight": rng.uniform(0.5, 2, n),
        "salient": salient,
        "salient_weight": 300.0 if soft else None,
    }
    options = camera.PathOptions(
        crop=0.2, model=model, relinearize=0, tolerance=1e-8, weights=(0.0 if linear else 1.0, 1, 10, 100)
    )
    try:
        path = camera.smooth_path(motion, SIZE, options, units="width", **keywords)
    except camera.InfeasibleError:
        assert not soft
        program = camera.path_program(motion, SIZE, options, units="width", **keywords)
        with pytest.raises(camera.InfeasibleError):
            program.solve(solver="clarabel", tolerance=1e-9)
        return
    program = camera.path_program(motion, SIZE, options, units="width", **keywords)
    other = program.solve(solver="clarabel", tolerance=1e-9)
    assert path.objective == pytest.approx(other.objective, rel=2e-5 if linear else 2e-6, abs=1e-6)
    assert path.gap <= 1e-4 * path.objective + (2e-5 if linear else 1e-6) * n
    p = path.log_corrections.reshape(-1, 9)
    if model != "homography":
        assert (p[:, 6:8] == 0).all()
    if model == "similarity":
        assert (p[:, 0] == p[:, 4]).all()
        assert (p[:, 1] == -p[:, 3]).all()
    if model == "translation":
        assert (p[:, [0, 1, 3, 4, 8]] == 0).all()


@pytest.mark.parametrize("model", ["homography", "affine", "similarity", "translation"])
@pytest.mark.parametrize("relinearize", [0, 1])
@pytest.mark.parametrize("subject", ["none", "soft", "hard", "linear"])
def test_native_equals_reference_with_everything(model: str, relinearize: int, subject: str) -> None:
    """The compiled path and its NumPy twin agree on every term of the program."""
    n = 9
    rng = np.random.default_rng(7)
    motion = shaky(n, 7)
    keywords: dict[str, Any] = {
        "targets": np.where(rng.uniform(size=(n, 1)) < 0.3, np.nan, rng.normal(scale=0.02, size=(n, 2))),
        "target_weight": 0.0 if subject == "linear" else 2.0,
        "rolls": np.where(rng.uniform(size=n) < 0.3, np.nan, rng.normal(scale=0.02, size=n)),
        "level_weight": 0.0 if subject == "linear" else 50.0,
        "frame_weight": rng.uniform(0.5, 2, n),
        "fixed": camera.exp_homography(0.05 * camera.log_homography(motion[:2]) @ np.diag([0, 0, 1.0])),
    }
    if subject in ("soft", "hard"):
        keywords["salient"] = np.tile([0.46 if subject == "soft" else 0.44, 0.05], (n, 1, 1))
        keywords["salient"][:3] = np.nan
        keywords["salient_weight"] = 300.0 if subject == "soft" else None
    options = camera.PathOptions(
        crop=0.2,
        model=model,
        relinearize=relinearize,
        tolerance=1e-9,
        keystone_ratio=-1.2,
        weights=(0.0 if subject == "linear" else 1.0, 1, 10, 100),
    )
    native, twin = (
        camera.smooth_path(motion, SIZE, options, units="width", backend=backend, **keywords)
        for backend in ("native", "numpy")
    )
    assert native.status == twin.status == "optimal"
    assert native.rounds == twin.rounds
    loose = subject == "linear"  # its optimum is a set
    assert native.objective == pytest.approx(twin.objective, rel=1e-3 if loose and relinearize else 1e-6, abs=1e-8)
    assert native.gap == pytest.approx(twin.gap, abs=1e-5 + 1e-8 * native.objective)
    if not loose:
        np.testing.assert_allclose(native.log_corrections, twin.log_corrections, atol=5e-5)


def test_salient_rows_are_the_derivative() -> None:
    """One round of re-linearization against the same round around another solver, whose rows are differenced."""
    pytest.importorskip("clarabel", reason="the test extra is not installed")
    motion = shaky(12, 3)
    salient = np.tile([0.46, 0.1], (12, 1, 1))
    options = camera.PathOptions(crop=0.2, relinearize=1, tolerance=1e-9, keystone_ratio=-1.2)
    ours, theirs = (
        camera.smooth_path(motion, SIZE, options, units="width", salient=salient, solver=solver)
        for solver in ("banded", "clarabel")
    )
    assert ours.objective == pytest.approx(theirs.objective, rel=1e-6)
    np.testing.assert_allclose(ours.log_corrections, theirs.log_corrections, atol=2e-5)


def test_tripod_in_closed_form() -> None:
    """Spec test T11: a small constant pan is held still."""
    n, f = 60, 0.0005
    motion = np.tile(np.eye(3), (n, 1, 1))
    motion[:, 0, 2] = f
    options = camera.PathOptions(
        crop=0.2,
        weights=(1, 10, 1, 100),
        anisotropy=10,
        shear=10,
        keystone=10,
        keystone_ratio=-1.384083044982699,
        relinearize=0,
        tolerance=1e-9,
    )
    path = camera.smooth_path(motion, FRAME, options, units="width")
    assert path.objective == pytest.approx(0.0884312933, rel=1e-8)
    np.testing.assert_allclose(path.log_corrections[:, 0, 2], f * ((n - 1) / 2 - np.arange(n)), atol=1e-6)
    motion[:, 0, 2] = 0.003
    pan = camera.smooth_path(motion, FRAME, options, units="width")
    assert pan.objective == pytest.approx(1.34227751, rel=1e-6)
    assert pan.log_corrections[0, 0, 2] == pytest.approx(0.0359936, abs=1e-5)
    assert pan.log_corrections[-1, 0, 2] == pytest.approx(-0.0359936, abs=1e-5)


def test_objective_is_never_above_rest() -> None:
    for seed in range(5):
        motion = shaky(50, seed, 0.02)
        options = camera.PathOptions(relinearize=0, keystone_ratio=-1.2)
        path = camera.smooth_path(motion, SIZE, options, units="width")
        program = camera.path_program(motion, SIZE, options, units="width")
        assert path.objective <= program.objective(np.zeros((50, 8)))


def test_linear_program_is_the_limit() -> None:
    motion = shaky(40, 7, 0.03)
    values = [
        camera.smooth_path(
            motion,
            SIZE,
            camera.PathOptions(weights=(w0, 1, 10, 100), anisotropy=0, shear=0, keystone=0, relinearize=0),
            units="width",
        )
        for w0 in (0.0, 1e-4, 1e-2)
    ]
    assert values[0].objective <= values[1].objective <= values[2].objective
    assert 0 <= values[0].gap <= 1e-4 * values[0].objective
    assert values[0].objective == pytest.approx(values[1].objective, rel=0.05)


@pytest.mark.parametrize(
    ("keywords", "match"),
    [
        ({"salient": np.zeros((6, 2))}, "salient: expected shape"),
        ({"salient": np.zeros((6, 1, 2)), "salient_weight": 0.0}, "salient_weight: expected"),
        ({"salient": np.full((6, 1, 2), 1e300)}, "salient: expected NaN or points within 100 frame widths"),
        ({"targets": np.zeros((5, 2))}, "targets: expected shape"),
        ({"targets": np.full((6, 2), -101.0)}, "targets: expected NaN or points within 100 frame widths"),
        ({"target_weight": -1.0}, "target_weight: expected"),
        ({"rolls": np.zeros(5)}, "rolls: expected shape"),
        ({"rolls": np.full(6, 3.2)}, "rolls: expected NaN or radians from -pi to pi"),
        ({"level_weight": -1.0}, "level_weight: expected"),
    ],
)
def test_bad_subjects(keywords: dict[str, Any], match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        camera.smooth_path(shaky(6), SIZE, units="width", **keywords)


@pytest.mark.parametrize("window", [None, 24])
@pytest.mark.parametrize("model", ["homography", "similarity"])
def test_the_roll_goes_where_it_is_wanted(model: str, window: int | None) -> None:
    """A camera that rolls and shifts at random: its pictures are turned as wanted, and not by themselves."""
    n = 80
    rng = np.random.default_rng(3)
    logs = np.zeros((n, 3, 3))
    roll = np.cumsum(0.01 * np.sin(np.arange(n) / 9) + rng.normal(scale=0.002, size=n))
    logs[1:, 1, 0] = np.diff(roll)
    logs[:, 0, 1] = -logs[:, 1, 0]
    logs[:, :2, 2] = rng.normal(scale=0.003, size=(n, 2))
    motion = camera.exp_homography(logs)
    options = camera.PathOptions(crop=0.25, model=model)

    def left(**keywords: Any) -> np.ndarray:
        path = camera.smooth_path(motion, SIZE, options, units="width", window=window, **keywords)
        assert path.violation_px.max() < 0.05
        turned = camera.log_homography(path.corrections)
        return roll + (turned[:, 1, 0] - turned[:, 0, 1]) / 2

    wanted = roll.mean() + 0.03
    assert np.ptp(roll) > 0.15
    assert np.abs(left() - wanted).max() > 0.02
    assert np.abs(left(rolls=wanted - roll, level_weight=3e3) - wanted).max() < 0.004
    unknown = np.where(np.arange(n) % 4 > 0, wanted - roll, np.nan)
    assert np.abs(left(rolls=unknown, level_weight=3e3) - wanted).max() < 0.006


def test_pixels_and_widths_are_the_same_subjects() -> None:
    n = 20
    to_pixel = np.array([[640, 0, 319.5], [0, 640, 179.5], [0, 0, 1]])
    motion = shaky(n, 8)
    points = np.tile([0.46, 0.05], (n, 1, 1))
    options = dataclasses.replace(camera.PathOptions(crop=0.2), tolerance=1e-9)
    width = camera.smooth_path(motion, SIZE, options, units="width", salient=points, targets=points[:, 0] / 9)
    pixel = camera.smooth_path(
        to_pixel @ motion @ np.linalg.inv(to_pixel),
        SIZE,
        options,
        salient=points * 640 + [319.5, 179.5],
        targets=points[:, 0] / 9 * 640 + [319.5, 179.5],
    )
    np.testing.assert_allclose(pixel.log_corrections, width.log_corrections, atol=1e-6)
