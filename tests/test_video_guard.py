"""Stabilizing does no harm: a clip whose jitter is not clearly more than its measurement's error stays as it is."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clips import SIZE, scene, shaky, write_clip
from legato import video
from legato.video.guard import Gain, expected_gain, predicted_error_px

FAST = {"encoder_preset": "ultrafast"}


def shaken(count: int, step_px: float, seed: int) -> np.ndarray:
    """Motions of pure translation, independent from frame to frame."""
    motion = np.tile(np.eye(3), (count, 1, 1))
    motion[1:, :2, 2] = np.random.default_rng(seed).normal(0, step_px, (count - 1, 2))
    return motion


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 999), true=st.floats(0.0, 20.0), noise=st.floats(0.01, 1.0))
def test_jitter_is_compared_with_error(seed: int, true: float, noise: float) -> None:
    motion = shaken(400, math.hypot(true, noise), seed)
    # Per corner, noise in x and y: the error of a displacement is sqrt(2) noise.
    gain = expected_gain(motion, np.full(50, math.sqrt(2) * noise), SIZE)
    # The change of independent steps has twice their variance, in x and in y.
    assert gain.jitter_px == pytest.approx(2 * math.hypot(true, noise), rel=0.15)
    assert gain.error_px == pytest.approx(3 * 2 * noise, rel=1e-9)
    if true < 2 * noise:
        assert not gain.worthwhile
    if true > 6 * noise:
        assert gain.worthwhile


def test_a_few_failures_do_not_decide() -> None:
    error = np.full(100, 0.1)
    error[::20] = 50.0
    assert expected_gain(shaken(100, 2.0, 1), error, SIZE) == expected_gain(shaken(100, 2.0, 1), np.full(9, 0.1), SIZE)


@pytest.mark.parametrize("error", [np.empty(0), np.full(5, math.nan)])
def test_nothing_known_forbids_nothing(error: np.ndarray) -> None:
    assert expected_gain(shaken(30, 0.01, 1), error, SIZE).worthwhile


@pytest.mark.parametrize("count", [1, 2])
def test_too_short_to_have_jitter(count: int) -> None:
    assert expected_gain(shaken(count, 0.01, 1), np.ones(1), SIZE).worthwhile


def test_exactly_still_is_not_worth_a_crop() -> None:
    assert not expected_gain(np.tile(np.eye(3), (10, 1, 1)), np.zeros(3), SIZE).worthwhile
    assert not Gain(0.0, 0.0).worthwhile


def test_the_error_of_one_motion() -> None:
    rng = np.random.default_rng(2)
    picture = scene((320, 240)).mean(2)
    errors = []
    for noise in (2.0, 20.0):
        views = [np.clip(picture + rng.normal(0, noise, picture.shape), 0, 255).astype(np.uint8) for _ in range(2)]
        motion = video.estimate_motion(*views)
        assert motion.ok
        errors.append(predicted_error_px(motion))
    assert 0 < errors[0] < errors[1] < 5
    same = picture.astype(np.uint8)
    assert predicted_error_px(video.estimate_motion(same, same)) == 0
    flat = np.zeros((240, 320), np.uint8)
    assert math.isnan(predicted_error_px(video.estimate_motion(flat, flat + 9)))


def noisy_still(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    picture = scene(SIZE, 4).astype(float)
    return [np.clip(picture + rng.normal(0, 12, picture.shape), 0, 255).astype(np.uint8) for _ in range(count)]


def test_a_still_noisy_clip_stays_as_it_is(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mkv", noisy_still(20), codec="ffv1")
    report = video.stabilize(clip, tmp_path / "out.mkv", codec="ffv1")
    assert report.path_status == "rest"
    assert report.cropping == 1
    assert report.jitter_out_px == report.jitter_in_px
    assert [note for note in report.notes if "left as it is" in note]
    assert "unchanged" in report.summary()
    np.testing.assert_array_equal(report.corrections, np.tile(np.eye(3), (20, 1, 1)))
    assert (tmp_path / "out.mkv").stat().st_size > 0
    forced = video.stabilize(clip, tmp_path / "forced.mkv", codec="ffv1", guard=False)
    assert forced.path_status == "optimal"
    assert forced.cropping < 1


def test_a_shaky_clip_is_stabilized(tmp_path: Path) -> None:
    report = video.stabilize(write_clip(tmp_path / "in.mp4", shaky(20)), tmp_path / "out.mp4", **FAST)
    assert report.path_status == "optimal"
