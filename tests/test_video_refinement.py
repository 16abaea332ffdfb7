"""Pairs of frames whose motion is hard to measure are measured again in steadied pictures, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clips import scene, write_clip
from legato import video
from legato.video.files import VideoFrame
from legato.video.pipeline import Stopwatch
from legato.video.planes import Planes
from legato.video.refinement import hard_pairs, refined

SIZE = (320, 240)
COUNT = 12
SHAKE = np.random.default_rng(5).integers(-9, 10, (COUNT, 2))
LARGE = 2.0  # px: an error that calls for a second look


def views(logo: bool = False) -> list[np.ndarray]:
    """Windows of one scene at SHAKE; the logo is a large picture that does not move with it."""
    whole = scene((SIZE[0] + 40, SIZE[1] + 40), 2).mean(2).astype(np.uint8)
    out = []
    for x, y in SHAKE + 20:
        picture = whole[y : y + SIZE[1], x : x + SIZE[0]].copy()
        if logo:
            picture[:, 170:] = scene((150, SIZE[1]), 7).mean(2)
        out.append(picture)
    return out


def frames(pictures: list[np.ndarray]) -> Iterator[VideoFrame]:
    for t, picture in enumerate(pictures):
        yield VideoFrame(Planes(picture), t, 1, Fraction(1, 30), t == 0, t)


def truth() -> np.ndarray:
    """Motions from frame t to frame t - 1."""
    motion = np.tile(np.eye(3), (COUNT, 1, 1))
    motion[1:, :2, 2] = SHAKE[1:] - SHAKE[:-1]
    return motion


def bent(seed: int) -> video.Analysis:
    """What a first pass may have found: off by about a pixel, and aware of it."""
    rng = np.random.default_rng(seed)
    motion = truth()
    motion[1:, :2, 2] += rng.normal(0, 0.7, (COUNT - 1, 2))
    motion[1:, :2, :2] += rng.normal(0, 0.003, (COUNT - 1, 2, 2))
    known = np.ones(COUNT, bool)
    error = np.where(np.arange(COUNT) > 0, LARGE, np.nan)
    return video.Analysis(SIZE, motion, known, ~known, known.astype(float), error_px=error, frame_rate=30.0)


def corner_error(motion: np.ndarray) -> np.ndarray:
    corners = np.array([[0, 0, 1], [SIZE[0] - 1, 0, 1], [0, SIZE[1] - 1, 1], [SIZE[0] - 1, SIZE[1] - 1, 1]], float)
    moved = [corners @ np.swapaxes(m, 1, 2) for m in (motion[1:], truth()[1:])]
    difference = np.subtract(*(q[..., :2] / q[..., 2:] for q in moved))
    return np.asarray(np.sqrt((difference**2).sum(-1).mean(-1)))


def look_again(first: video.Analysis, pictures: list[np.ndarray], mask: np.ndarray | None = None) -> video.Analysis:
    return refined(first, lambda: frames(pictures), mask, Stopwatch(), lambda *_: None)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10**6))
def test_a_second_look_finds_the_motion(seed: int) -> None:
    first = bent(seed)
    second = look_again(first, views())
    assert corner_error(first.motion).max() > 0.4
    assert corner_error(second.motion).max() < 0.15
    assert second.error_px is not None
    assert np.nanmax(second.error_px) < LARGE
    np.testing.assert_array_equal(second.motion[0], np.eye(3))


def test_a_mask_counts_in_the_second_look_too() -> None:
    mask = np.ones(SIZE[::-1], bool)
    mask[:, 165:] = False
    right = look_again(bent(1), views(logo=True), mask)
    wrong = look_again(bent(1), views(logo=True))
    assert corner_error(right.motion).max() < 0.5
    assert corner_error(wrong.motion).max() > 5


def test_what_is_measured_well_is_not_looked_at() -> None:
    def never() -> Iterator[VideoFrame]:
        raise AssertionError("the pictures were asked for")

    first = bent(2)
    well = replace(first, error_px=np.full(COUNT, 0.01))
    assert refined(well, never, None, Stopwatch(), lambda *_: None) is well
    for unknown in (None, np.full(COUNT, np.nan)):
        assert not hard_pairs(replace(first, error_px=unknown)).any()


def test_nothing_to_steady_is_not_looked_at() -> None:
    """The guard leaves such a clip as it is."""
    still = replace(bent(3), motion=np.tile(np.eye(3), (COUNT, 1, 1)))
    assert not hard_pairs(still).any()


def test_unknown_and_repeated_frames_stay_as_they_are() -> None:
    first = bent(4)
    ok, duplicate = np.ones(COUNT, bool), np.zeros(COUNT, bool)
    ok[3], duplicate[6] = False, True
    first = replace(first, ok=ok, duplicate=duplicate)
    hard = hard_pairs(first)
    assert hard[[1, 2, 4, 5]].all()
    assert not hard[[0, 3, 6, 7]].any()
    second = look_again(first, views())
    np.testing.assert_array_equal(second.motion[~hard], first.motion[~hard])
    np.testing.assert_array_equal(np.asarray(second.error_px)[~hard], np.asarray(first.error_px)[~hard])
    assert (np.abs(second.motion - first.motion).max((1, 2))[hard] > 0).all()


def test_pictures_without_detail_change_nothing() -> None:
    first = bent(5)
    second = look_again(first, [np.full(SIZE[::-1], 90, np.uint8)] * COUNT)
    np.testing.assert_array_equal(second.motion, first.motion)


@pytest.mark.parametrize("kept", [True, False])
def test_one_command_and_two_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool) -> None:
    """Whether the pictures were kept or are read again, and whether the motion goes by way of a file."""
    monkeypatch.setattr("legato.video.refinement._HARD_PX", 1e-3)
    if not kept:
        monkeypatch.setattr("legato.video.stabilizing._MOST_KEPT_BYTES", 0)
    rgb = [np.repeat(picture[..., None], 3, 2) for picture in views()]
    clip = write_clip(tmp_path / "in.mkv", rgb, codec="ffv1")
    seen: list[tuple[str, int, int | None]] = []
    report = video.stabilize(clip, tmp_path / "out.mkv", codec="ffv1", progress=lambda *step: seen.append(step))
    assert [step for step in seen if step[0] == "refine"] == [("refine", t, COUNT - 1) for t in range(1, COUNT)]
    assert report.seconds["refine"] > 0
    analysis = video.analyze(clip)
    np.testing.assert_array_equal(analysis.motion[1:], report.motion[1:])
    analysis.save(tmp_path / "motion.jsonl")
    later = video.render(clip, tmp_path / "motion.jsonl", tmp_path / "later.mkv", codec="ffv1")
    np.testing.assert_array_equal(later.corrections, report.corrections)
