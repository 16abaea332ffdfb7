"""Holding the horizon: the roll at its mean, at an angle, or upright by what a motion file tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from legato import video
from legato.camera.metrics import rolls_of
from legato.errors import ArgumentError
from legato.video.planning import Aims
from test_video_planning import planned, steps_of

SIZE = (640, 360)
COUNT = 120
# Degrees by which the camera is turned clockwise: a sway of 0.8 Hz, and a slope.
ROLL = 1.5 * np.sin(2 * np.pi * 0.8 * np.arange(COUNT) / 30) + np.linspace(0, 2, COUNT)


def turned(degrees: float, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Clockwise about the middle of a picture."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn, center = np.array([[c, -s], [s, c]]), (np.array(size) - 1) / 2
    return np.block([[turn, (center - turn @ center)[:, None]], [np.array([[0, 0, 1.0]])]])


def views(roll: np.ndarray, size: tuple[int, int] = SIZE) -> np.ndarray:
    """From each frame to the scene: the camera sways, too, so that the crop does not suffice for all of it."""
    sway = (
        size[0]
        / 640
        * np.array([60, 20])[:, None]
        * np.sin(2 * np.pi * np.outer([0.6, 1.2], np.arange(len(roll)) / 30))
    )
    return np.array(
        [turned(angle, size) @ [[1, 0, x], [0, 1, y], [0, 0, 1]] for angle, (x, y) in zip(roll, sway.T, strict=True)]
    )


def motion_of(roll: np.ndarray) -> np.ndarray:
    place = views(roll)
    return np.array([np.eye(3), *(np.linalg.inv(place[:-1]) @ place[1:])])


def left(corrections: Any, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Degrees by which the camera of the result is turned."""
    return ROLL[: len(corrections)] + np.degrees(rolls_of(np.array(corrections), size))


def test_the_roll_is_held_at_its_mean_or_at_an_angle() -> None:
    steps = steps_of(motion_of(ROLL))
    free = left(planned(steps, window_s=None, guard=False).corrections)
    level = left(planned(steps, window_s=None, guard=False, aims=Aims(level="mean")).corrections)
    assert np.abs(level - ROLL.mean()).max() < 0.3
    assert np.abs(free - ROLL.mean()).max() > 0.8
    # The picture turns clockwise where its camera turns the other way.
    tilted = left(planned(steps, window_s=None, aims=Aims(level=1.0)).corrections)
    assert np.median(tilted - ROLL.mean()) == pytest.approx(-1, abs=0.1)


def test_a_still_clip_is_turned_all_the_same() -> None:
    still = planned(steps_of(np.tile(np.eye(3), (80, 1, 1))), window_s=None, aims=Aims(level=-2.0))
    np.testing.assert_allclose(np.degrees(rolls_of(np.array(still.corrections), SIZE)), 2, atol=0.05)
    rest = planned(steps_of(np.tile(np.eye(3), (80, 1, 1))), window_s=None, aims=Aims(level="mean"))
    assert rest.status == "rest"


def test_each_scene_has_its_mean() -> None:
    roll = ROLL + 3.0 * (np.arange(COUNT) >= 60)
    motion = motion_of(roll)
    steps = steps_of(motion, missing={60})
    rolls = Aims(level="mean").rolls(motion, steps, SIZE)
    assert rolls is not None
    for scene in (slice(0, 60), slice(60, COUNT)):
        np.testing.assert_allclose(np.degrees(rolls[scene]), roll[scene].mean() - roll[scene], atol=1e-9)


def write_motion(path: Path, rows: list[dict[str, Any]], size: tuple[int, int] = SIZE) -> Path:
    head = {"format": "legato-motion", "version": 1, "size": size, "camera": [500, 500, *((s - 1) / 2 for s in size)]}
    path.write_text("\n".join(map(json.dumps, [head, *rows])))
    return path


def test_motion_files_tell_the_roll(tmp_path: Path) -> None:
    halves = np.radians(ROLL) / 2
    rows = [{"orientation": [np.cos(a), 0, 0, np.sin(a)]} for a in halves]
    rows[5] = {"orientation": [np.sqrt(0.5), np.sqrt(0.5), 0, 0]}  # straight up
    found = video.Analysis.load(write_motion(tmp_path / "a.jsonl", rows))
    assert found.roll is not None
    assert np.isnan(found.roll[5])
    np.testing.assert_allclose(np.degrees(np.delete(found.roll, 5)), np.delete(ROLL, 5), atol=1e-9)
    found.save(tmp_path / "b.jsonl")
    again = video.Analysis.load(tmp_path / "b.jsonl")
    assert again.roll is not None
    np.testing.assert_allclose(again.roll, found.roll, atol=1e-12)
    plain = [{"homography": turned(0).ravel().tolist(), "roll_deg": 2.0}, {}]
    told = video.Analysis.load(write_motion(tmp_path / "c.jsonl", plain))
    assert told.roll is not None
    np.testing.assert_allclose(np.degrees(told.roll), [2.0, np.nan])


@pytest.mark.parametrize("level", ["flat", "26", 30.0, float("nan"), True])
def test_bad_levels(level: Any, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="level: expected 'mean', 'orientation' or degrees from -25 to 25"):
        video.stabilize("in.mp4", tmp_path / "out.mkv", level=level)


def test_orientations_must_be_known(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="level: expected a motion file that has orientations"):
        video.stabilize("in.mp4", tmp_path / "out.mkv", level="orientation")
    with pytest.raises(ArgumentError, match="level: expected 'mean' or degrees"):
        video.stabilize_frames(np.zeros((4, 48, 64), np.uint8), 30, level="orientation")


def test_the_roll_of_a_clip_goes_down(tmp_path: Path) -> None:
    """The pictures of a camera that rolls as known: what `legato evaluate` finds of roll, and upright pictures."""
    clips = pytest.importorskip("clips", reason="needs PyAV, of the video extra")
    size, count = (256, 144), 90
    whole = np.ascontiguousarray(clips.scene((384, 272))[:, :, 1])
    middle = np.array([[1, 0, 64], [0, 1, 64], [0, 0, 1.0]])
    pictures = [
        np.repeat(video.warp(video.Planes(whole), middle @ view, size).y[..., None], 3, axis=2)
        for view in views(ROLL[:count], size)
    ]
    source = clips.write_clip(tmp_path / "in.mkv", pictures)
    usual = video.stabilize(source, tmp_path / "usual.mkv", guard=False)
    level = video.stabilize(source, tmp_path / "level.mkv", guard=False, level="mean")
    before, after = (video.evaluate(source, tmp_path / f"{name}.mkv") for name in ("usual", "level"))
    assert after.sway_deg < 0.5 * before.sway_deg
    assert np.std(left(level.corrections, size)) < 0.5 * np.std(left(usual.corrections, size))
    # By orientations, of a camera that was held askew all the time.
    rows = [{"orientation": [np.cos(a), 0, 0, np.sin(a)]} for a in np.radians(ROLL[:count]) / 2]
    motion = write_motion(tmp_path / "motion.jsonl", rows, size)
    upright = video.render(source, motion, tmp_path / "upright.mkv", level="orientation")
    assert np.abs(left(upright.corrections, size)).mean() < 0.2
