"""Clips of fixed cameras, drawn: whatever moves in them, none is made worse, and none is cropped for nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from clips import scene, shaky, write_clip
from legato import video

SIZE, COUNT = (320, 180), 75
# LEGATO_DRAWN_SEEDS=28 draws two hundred clips.
SEEDS = int(os.environ.get("LEGATO_DRAWN_SEEDS", "3"))
KINDS = ("car", "crowd", "water", "birds", "screen", "slides", "time-lapse")


def drawn(kind: str, seed: int) -> Iterator[np.ndarray]:
    """Pictures of one kind, (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    width, height = SIZE
    still, other = scene(SIZE, seed), scene((2 * width, 2 * height), seed + 1000)
    count = {"car": 1, "crowd": 25, "birds": 8}.get(kind, 0)
    sides = {"car": (150, 90), "crowd": (18, 36), "birds": (4, 3)}.get(kind, (1, 1))
    places = rng.uniform((-sides[0], 0), (width, height - sides[1]), (count, 2))
    speeds = rng.normal(0, 2, (count, 2)) * (1, 0.3) if kind != "car" else np.array([[rng.uniform(4, 9), 0.0]])
    if kind == "car":
        places[:, 0] = -sides[0]
    for t in range(COUNT):
        picture = still.copy()
        if kind == "birds":
            picture[:] = 150
            picture[height // 2 :] = still[height // 2 :]
        if kind == "water":
            for y in range(height // 2, height):
                picture[y] = np.roll(still[y], int(6 * np.sin(0.31 * t + 0.4 * y) + rng.normal(0, 1)), axis=0)
        if kind == "screen" and t % 15 < 4:
            picture[20:] = np.roll(still[20:], 12 * (t // 15 * 4 + t % 15), axis=0)
        elif kind == "screen":
            picture[20:] = np.roll(still[20:], 12 * (t // 15 * 4 + 3), axis=0)
        if kind == "slides":
            seen = int(min(1, (t % 25) / 5) * width)
            before, now = (scene(SIZE, seed + t // 25 + k) for k in (0, 1))
            picture = np.concatenate([before, now], 1)[:, seen : seen + width]
        if kind == "time-lapse":
            picture = (picture * rng.uniform(0.7, 1.0)).astype(np.uint8)
        for x, y in (places + speeds * t).astype(int):
            left, top, right, bottom = max(x, 0), max(y, 0), min(x + sides[0], width), min(y + sides[1], height)
            if left < right and top < bottom:
                picture[top:bottom, left:right] = other[top - y : bottom - y, left - x : right - x] // 2
        yield np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8) if t % 2 else picture


def check(kind: str, seed: int, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", drawn(kind, seed))
    report = video.stabilize(clip, tmp_path / "out.mp4", encoder_preset="ultrafast")
    if report.path_status in ("rest", "none"):
        assert report.cropping == 1
    else:
        assert video.evaluate(clip, tmp_path / "out.mp4").track_jitter_ratio <= 1.02


@pytest.mark.parametrize("kind", KINDS)
def test_a_fixed_camera_is_not_made_worse(kind: str, tmp_path: Path) -> None:
    check(kind, 1, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(2, 2 + SEEDS))
def test_no_fixed_camera_is_made_worse(kind: str, seed: int, tmp_path: Path) -> None:
    check(kind, seed, tmp_path)


@pytest.mark.parametrize("amplitude", [1, 4])
def test_a_shaky_one_gains(amplitude: int, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", shaky(COUNT, SIZE, amplitude=amplitude))
    report = video.stabilize(clip, tmp_path / "out.mp4", encoder_preset="ultrafast")
    assert report.path_status == "optimal"
    assert video.evaluate(clip, tmp_path / "out.mp4").track_jitter_ratio < 0.6
