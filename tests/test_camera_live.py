"""The compiled live path has the bits of the one in NumPy: every delay, every preset, whatever happens on the way."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from legato import camera
from legato.camera.live import _Line
from legato.camera.problem import check_task
from legato.errors import ArgumentError
from test_camera_paths import shaky

SIZE = (640, 360)
FAST = camera.PathOptions(relinearize=1, tolerance=1e-4)
Step = tuple["np.ndarray | None", bool]


def eventful(count: int, seed: int) -> list[Step]:
    """A shaky clip with motions that are not known, one at a time and in runs, wild ones, and cuts."""
    rng = np.random.default_rng(seed)
    steps: list[Step] = [(motion, False) for motion in shaky(count, seed=seed)]
    for t in rng.choice(count, count // 12, replace=False):
        steps[t] = None, False
    start = int(rng.integers(10, count - 10))
    steps[start : start + 7] = [(None, False)] * 7
    steps[count // 3] = camera.exp_homography(0.3 * np.array([[0, 1, 1], [-1, 0, 1], [0.5, 0.2, 0]])), False
    for t in (count // 2, count // 2 + 1, count - 5):
        steps[t] = steps[t][0], True
    return steps


def in_numpy(options: camera.PathOptions, latency: int, predicted: int, steps: list[Step], later=None) -> np.ndarray:
    """The path by the twin, its windows solved by the compiled solver."""
    line = _Line(check_task(SIZE, options, None, 0.0, "banded", "native"), latency, predicted)
    out = []
    for t, (motion, cut) in enumerate(steps):
        if later is not None and t == len(steps) // 4:
            line.task = check_task(SIZE, later, None, 0.0, "banded", "native")
        out.append(line.push(motion, cut))
    return np.concatenate([*out, line.finish()])


def compiled(path: camera.LivePath, steps: list[Step], later=None) -> np.ndarray:
    out = []
    for t, (motion, cut) in enumerate(steps):
        if later is not None and t == len(steps) // 4:
            path.options = later
        out.append(path.push(motion, cut=cut))
        assert len(out[-1]) == (t >= path.latency_frames)
        assert path.pending_frames == min(t + 1, path.latency_frames)
    return np.concatenate([*out, path.finish()])


@pytest.mark.parametrize("latency", [0, 1, 10, 30, 60])
def test_every_delay_has_the_bits_of_the_twin(latency: int) -> None:
    steps = eventful(100, seed=latency)
    for predicted in (0, 15):
        path = camera.LivePath(SIZE, FAST, latency_frames=latency, units="width", predicted=predicted)
        expected = in_numpy(FAST, latency, predicted, steps)
        assert len(expected) == len(steps)
        assert compiled(path, steps).tobytes() == expected.tobytes()
        assert compiled(path, steps[:40]).tobytes() == in_numpy(FAST, latency, predicted, steps[:40]).tobytes()


@pytest.mark.parametrize("fps", [12.5, 30, 120])
def test_presets_at_their_frame_rate_and_options_that_change(fps: float) -> None:
    video = pytest.importorskip("legato.video.presets", reason="needs PyAV, of the video extra")
    steps = eventful(60, seed=int(fps))
    for preset in video.PRESETS.values():
        options = preset.live_options().at_frame_rate(fps)
        path = camera.LivePath(SIZE, options, latency_frames=3, units="width")
        later = dataclasses.replace(options, crop=0.3, window_scale=0.8, weights=(1.0, 30.0, 20.0, 10.0))
        got = compiled(path, steps, later)
        assert path.options == later
        assert got.tobytes() == in_numpy(options, 3, 15, steps, later).tobytes()


def test_both_backends_agree() -> None:
    exact = dataclasses.replace(FAST, tolerance=1e-9)
    steps: list[Step] = [(None if t in (9, 10, 25) else motion, t == 18) for t, motion in enumerate(shaky(32, seed=3))]
    for predicted in (0, 6):
        one, other = (
            compiled(camera.LivePath(SIZE, exact, latency_frames=4, predicted=predicted, backend=backend), steps)
            for backend in ("native", "numpy")
        )
        assert np.abs(one - other).max() < 1e-2  # pixels


def test_a_path_goes_over_to_new_options_from_where_it_is() -> None:
    steps: list[Step] = [(motion, False) for motion in shaky(80, seed=2)]
    wide = dataclasses.replace(FAST, crop=0.3)
    path = camera.LivePath(SIZE, FAST, latency_frames=5, units="width")
    changed, plain = compiled(path, steps, wide), in_numpy(FAST, 5, 15, steps)
    assert changed[:15].tobytes() == plain[:15].tobytes()
    assert np.abs(changed[15:] - plain[15:]).max() > 1e-3
    with pytest.raises(ArgumentError, match="crop"):
        path.options = dataclasses.replace(FAST, inset_px=100.0)
    with pytest.raises(ArgumentError, match="options"):
        path.options = 0.2  # type: ignore[assignment]
    assert path.options == wide


def test_what_no_compiled_path_can_lay_out() -> None:
    for more in ({"latency_frames": 2**24}, {"predicted": 1001}):
        with pytest.raises(ArgumentError, match=f"{next(iter(more))}: expected "):
            camera.LivePath(SIZE, **more)
