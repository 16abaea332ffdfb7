"""Baselines, metrics from transforms, pictures."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import camera_arrays
from legato import camera
from legato.errors import ArgumentError

SIZE = (1920, 1080)


def clip(n: int = 60, first: int = 120) -> np.ndarray:
    to_pixel = np.array([[1920, 0, 959.5], [0, 1920, 539.5], [0, 0, 1]])
    M = to_pixel @ camera_arrays("motion600.npz")["F"][first : first + n] @ np.linalg.inv(to_pixel)
    return np.asarray(M / M[:, 2:, 2:])


def test_the_order_of_the_methods() -> None:
    pytest.importorskip("scipy", reason="the test extra is not installed")
    motion = clip()
    options = camera.PathOptions(crop=0.2)
    jitter = {
        name: camera.path_metrics(motion, path.corrections, SIZE).jitter_px
        for name, path in {
            "l1": camera.smooth_path(motion, SIZE, options),
            "gaussian": camera.filter_path(motion, SIZE, options),
            "average": camera.filter_path(motion, SIZE, options, kind="average"),
            "grundmann": camera.grundmann_path(motion, SIZE),
        }.items()
    }
    before = camera.path_metrics(motion, np.tile(np.eye(3), (60, 1, 1)), SIZE).jitter_px
    assert jitter["l1"] < 0.2 * min(jitter["gaussian"], jitter["average"], jitter["grundmann"])
    assert max(jitter.values()) < 0.5 * before


def test_grundmann_is_the_affine_program() -> None:
    pytest.importorskip("scipy", reason="the test extra is not installed")
    motion = clip(40, 200)
    path = camera.grundmann_path(motion, SIZE, camera.PathOptions(crop=0.04))
    assert path.objective > 1
    assert path.violation_px.max() <= 1e-6
    center = np.array([[1, 0, -959.5], [0, 1, -539.5], [0, 0, 1]])
    B, A = center @ path.corrections @ np.linalg.inv(center), center @ motion @ np.linalg.inv(center)
    A = A / A[:, 2:, 2:]
    A[:, 2, :2] = 0
    assert (B[:, 2] == [0, 0, 1]).all()
    assert (np.abs(B[:, [0, 1], [0, 1]] - 1) <= 0.1 + 1e-9).all()
    e = (A[1:] @ B[1:] - B[:-1])[:, :2]
    value = 0.0
    for weight in (10, 1, 100):
        value += weight * (np.abs(e) * [100, 100, 1]).sum()
        e = np.diff(e, axis=0)
    assert path.objective == pytest.approx(value, rel=1e-9)
    rest = (A[1:] - np.eye(3))[:, :2]
    assert value < 10 * (np.abs(rest) * [100, 100, 1]).sum()
    one = camera.grundmann_path(motion[:1], SIZE)
    np.testing.assert_allclose(one.violation_px, 0, atol=1e-9)


def test_filters() -> None:
    pan = np.tile(np.eye(3), (50, 1, 1))
    pan[:, 0, 2] = 2.0
    for kind in ("gaussian", "average"):
        path = camera.filter_path(pan, SIZE, kind=kind, width_frames=4)
        np.testing.assert_allclose(path.corrections[15:35], np.tile(np.eye(3), (20, 1, 1)), atol=1e-8)
        assert path.status == "filtered"
        assert path.violation_px.max() == 0
    assert camera.filter_path(pan[:0], SIZE).corrections.shape == (0, 3, 3)
    with pytest.raises(ArgumentError, match="kind"):
        camera.filter_path(pan, SIZE, kind="median")
    with pytest.raises(ArgumentError, match="width_frames"):
        camera.filter_path(pan, SIZE, width_frames=0)
    with pytest.raises(ArgumentError, match="motion"):
        camera.grundmann_path(pan[:0], SIZE)


def rotation(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("A_scale1.25_smoothpan", np.diag([1.25, 1.25, 1])),
        ("B_rot10deg_scale1.25", np.diag([1.25, 1.25, 1]) @ rotation(10)),
        ("C_aniso1.2", np.diag([1.2, 1, 1])),
        ("D_shear0.2_pure", np.array([[1, 0.2, 0], [0, 1, 0], [0, 0, 1]])),
    ],
)
def test_synthetic_metrics(camera_cases: dict[str, Any], name: str, output: np.ndarray) -> None:
    """Spec test T10: input to output homographies of known shape under a perfect pan of the output."""
    expected = camera_cases["metrics_synthetic"]["results"][name]["clean"]
    pan = np.tile(np.eye(3), (200, 1, 1))
    pan[:, 0, 2] = 3.0
    P = np.tile(np.linalg.inv(output), (200, 1, 1))
    got = camera.path_metrics(P @ pan @ np.linalg.inv(P), P, (1280, 720))
    assert got.cropping == pytest.approx(expected["crop_linear_mean"], rel=1e-9)
    assert got.cropping_min == pytest.approx(expected["crop_linear_mean"], rel=1e-9)
    assert got.cropping_area == pytest.approx(expected["crop_area_mean"], rel=1e-9)
    assert got.distortion == pytest.approx(expected["distortion_min"], rel=1e-9)
    assert got.stability_translation == pytest.approx(expected["stability_trans"], rel=1e-9)
    assert got.stability_rotation == 1
    assert got.stability == pytest.approx(1)


def test_stability_sees_jitter_under_a_pan() -> None:
    identity = np.tile(np.eye(3), (200, 1, 1))
    pan = identity.copy()
    pan[:, 0, 2] = 3.0
    jitter = pan.copy()
    jitter[:, 0, 2] += np.where(np.arange(200) % 2, 6.0, -6.0)
    clean, shaken = (camera.path_metrics(m, identity, (1280, 720)) for m in (pan, jitter))
    assert clean.stability_translation == pytest.approx(shaken.stability_translation, abs=2e-3)  # the pitfall
    assert clean.stability == pytest.approx(1)
    assert shaken.stability < 0.3
    roll = np.array([rotation(0.3 * (-1) ** t) for t in range(200)])
    assert camera.path_metrics(roll, identity, (1280, 720)).stability_rotation < 0.01
    still = camera.path_metrics(identity, identity, (1280, 720))
    assert still.stability == still.stability_translation == still.stability_rotation == 1
    assert camera.path_metrics(identity[:1], identity[:1], (1280, 720)).stability == 1


def test_path_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the video extra is not installed")
    path = camera.smooth_path(clip(30), SIZE)
    path.plot(tmp_path / "path.svg", fps=30)
    path.plot(tmp_path / "again.svg", fps=30)
    text = (tmp_path / "path.svg").read_text()
    assert text.startswith("<?xml")
    camera.smooth_path(clip(30), SIZE, camera.PathOptions(relinearize=0)).plot(tmp_path / "linear.png")
    assert (tmp_path / "linear.png").stat().st_size > 10_000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.svg", "linear.png", "path.svg"]
    with pytest.raises(ArgumentError, match="destination"):
        path.plot(tmp_path / "path.gif")


@pytest.mark.parametrize("hz", [0.2, 0.5, 1.0, 2.0])
def test_sway_is_what_moves_slowly_to_and_fro(hz: float) -> None:
    n, fps = 600, 30.0
    t = np.arange(n) / fps
    turn = np.radians(0.5) * np.sin(2 * np.pi * hz * t)
    move = 20.0 * np.cos(2 * np.pi * hz * t) + 30 * t  # a pan is no sway
    c, s, middle = np.cos(turn), np.sin(turn), np.array([959.5, 539.5])
    place = np.tile(np.eye(3), (n, 1, 1))
    place[:, 0, 0], place[:, 0, 1], place[:, 1, 0], place[:, 1, 1] = c, -s, s, c
    place[:, :2, 2] = middle - place[:, :2, :2] @ middle
    place[:, 0, 2] += move
    motion = np.tile(np.eye(3), (n, 1, 1))
    motion[1:] = np.linalg.inv(place[:-1]) @ place[1:]
    still = np.tile(np.eye(3), (n, 1, 1))
    sway = camera.path_sway(motion, still, SIZE, fps)
    inside = 0.3 < hz < 1.5
    radius = np.hypot(*middle)
    assert sway.roll_deg == pytest.approx(0.5 / np.sqrt(2) if inside else 0, rel=0.02, abs=0.02)
    expected = np.sqrt((20**2 + (np.radians(0.5) * radius) ** 2) / 2)
    assert sway.px == pytest.approx(expected if inside else 0, rel=0.05, abs=1.0)
    # Corrections that follow the camera leave the pan alone.
    steady = np.linalg.inv(place)
    steady[:, :, 2] += 30 * t[:, None] * steady[:, :, 0]
    left = camera.path_sway(motion, steady, SIZE, fps)
    assert left.px == pytest.approx(0, abs=1e-6)
    assert left.roll_deg == pytest.approx(0, abs=1e-6)


def test_short_clips_have_no_sway() -> None:
    still = np.tile(np.eye(3), (10, 1, 1))
    for n in (1, 2, 10):
        assert np.isnan(camera.path_sway(still[:n], still[:n], SIZE, 30)).all()
    with pytest.raises(ArgumentError, match="fps"):
        camera.path_sway(still, still, SIZE, 0)


def test_a_weight_of_roll_takes_from_the_roll() -> None:
    """Where the crop is used up, as by a walk that rolls by a degree."""
    n, size = 240, (640, 360)
    t, rng = np.arange(n) / 30, np.random.default_rng(3)
    to_pixel = np.array([[640, 0, 319.5], [0, 640, 179.5], [0, 0, 1]])
    log = np.zeros((n, 3, 3))
    log[:, 1, 0] = np.radians(1.5) * np.sin(2 * np.pi * 0.9 * t)
    log[:, 0, 1] = -log[:, 1, 0]
    log[:, 0, 2] = 0.06 * np.sin(2 * np.pi * 0.45 * t + 1) + rng.normal(0, 0.002, n)
    log[:, 1, 2] = 0.04 * np.sin(2 * np.pi * 1.8 * t) + rng.normal(0, 0.002, n)
    place = to_pixel @ camera.exp_homography(log) @ np.linalg.inv(to_pixel)
    motion = np.tile(np.eye(3), (n, 1, 1))
    motion[1:] = np.linalg.inv(place[:-1]) @ place[1:]
    options = camera.PathOptions(acceleration=1e6, tolerance=1e-3)
    roll = {}
    for weight in (1.0, 100.0):
        path = camera.smooth_path(motion, size, dataclasses.replace(options, roll_weight=weight))
        roll[weight] = camera.path_sway(motion, path.corrections, size, 30).roll_deg
    assert roll[100.0] < 0.8 * roll[1.0]


def test_sway_of_what_is_no_path() -> None:
    motion = np.tile(np.eye(3), (6, 1, 1))
    for measured in (camera.path_sway, camera.path_metrics):
        with pytest.raises(ArgumentError, match="corrections: expected invertible matrices"):
            measured(motion, np.zeros((6, 3, 3)), SIZE, *((30,) if measured is camera.path_sway else ()))
