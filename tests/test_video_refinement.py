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
from legato.video.media.planes import Planes
from legato.video.media.reader import VideoFrame
from legato.video.motion import refinement
from legato.video.motion.analysis import Step
from legato.video.motion.refinement import looked_again
from legato.video.pipeline import Stopwatch

SIZE = (320, 240)
COUNT = 12
SHAKE = np.random.default_rng(5).integers(-9, 10, (COUNT, 2))
LARGE = 0.5  # px: an error that calls for a second look, and leaves no doubt that there is shake, in few frames too


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


def bent(seed: int) -> list[Step]:
    """What the tracker may have found: off by about a pixel, and aware of it."""
    rng = np.random.default_rng(seed)
    motion = truth()
    motion[1:, :2, 2] += rng.normal(0, 0.7, (COUNT - 1, 2))
    motion[1:, :2, :2] += rng.normal(0, 0.003, (COUNT - 1, 2, 2))
    return [Step(m, True, error_px=LARGE if t else np.nan) for t, m in enumerate(motion)]


def motion_of(steps: list[Step]) -> np.ndarray:
    return np.array([step.motion for step in steps])


def corner_error(motion: np.ndarray) -> np.ndarray:
    corners = np.array([[0, 0, 1], [SIZE[0] - 1, 0, 1], [0, SIZE[1] - 1, 1], [SIZE[0] - 1, SIZE[1] - 1, 1]], float)
    moved = [corners @ np.swapaxes(m, 1, 2) for m in (motion[1:], truth()[1:])]
    difference = np.subtract(*(q[..., :2] / q[..., 2:] for q in moved))
    return np.asarray(np.sqrt((difference**2).sum(-1).mean(-1)))


def look_again(first: list[Step], pictures: list[np.ndarray], mask: np.ndarray | None = None) -> list[Step]:
    pairs = list(zip(frames(pictures), first, strict=True))
    out = list(looked_again(iter(pairs), SIZE, 30.0, mask, Stopwatch(), lambda *_: None))
    assert [frame.index for frame, _ in out] == list(range(COUNT))
    return [step for _, step in out]


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2, 3, 5, COUNT, 60]))
def test_a_second_look_finds_the_motion(seed: int, block: int) -> None:
    """Whatever the blocks that it is taken in."""
    first = bent(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refinement, "_BLOCK", block)
        second = look_again(first, views())
    assert corner_error(motion_of(first)).max() > 0.4
    assert corner_error(motion_of(second)).max() < 0.15
    assert max(step.error_px for step in second[1:]) < LARGE
    np.testing.assert_array_equal(second[0].motion, np.eye(3))


def test_a_mask_counts_in_the_second_look_too() -> None:
    mask = np.ones(SIZE[::-1], bool)
    mask[:, 165:] = False
    right = look_again(bent(1), views(logo=True), mask)
    wrong = look_again(bent(1), views(logo=True))
    assert corner_error(motion_of(right)).max() < 0.5
    assert corner_error(motion_of(wrong)).max() > 5


@pytest.mark.parametrize("error", [0.01, np.nan])
def test_what_is_measured_well_passes_at_once(error: float) -> None:
    first = [replace(step, error_px=error) for step in bent(2)]
    taken = []

    def pairs() -> Iterator[tuple[VideoFrame, Step]]:
        for pair in zip(frames(views()), first, strict=True):
            taken.append(pair)
            yield pair

    for t, (frame, step) in enumerate(looked_again(pairs(), SIZE, 30.0, None, Stopwatch(), lambda *_: None)):
        assert len(taken) == t + 1
        assert frame is taken[t][0]
        assert step is first[t]


def test_frames_are_held_from_the_first_hard_pair_to_the_end_of_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refinement, "_BLOCK", 5)
    first = [replace(step, error_px=LARGE if t == 7 else 0.01) for t, step in enumerate(bent(3))]
    taken: list[int] = []

    def pairs() -> Iterator[tuple[VideoFrame, Step]]:
        for frame, step in zip(frames(views()), first, strict=True):
            taken.append(frame.index)
            yield frame, step

    ahead = [
        len(taken) - frame.index - 1
        for frame, _ in looked_again(pairs(), SIZE, 30.0, None, Stopwatch(), lambda *_: None)
    ]
    assert ahead == [0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0]


def test_large_pictures_are_held_in_smaller_blocks() -> None:
    assert refinement.block_frames((640, 360)) == refinement.block_frames((3840, 2160)) == 60
    assert refinement.block_frames((7680, 4320)) * 7680 * 4320 <= 1 << 29
    assert refinement.block_frames((7680, 4320), 2) == refinement.block_frames((7680, 4320)) // 2
    assert refinement.block_frames((32766, 32766), 2) == 2


def test_nothing_to_steady_is_not_looked_at() -> None:
    """Points that rest are made to move by any path."""
    points = np.random.default_rng(0).uniform(20, 300, (40, 1, 2)).astype(np.float32)
    still = [replace(step, traces=np.repeat(points, 3, axis=1)) for step in bent(3)]
    assert look_again(still, views()) == still


def test_unknown_and_repeated_frames_stay_as_they_are() -> None:
    first = bent(4)
    first[3] = replace(first[3], ok=False)
    first[6] = replace(first[6], duplicate=True)
    second = look_again(first, views())
    changed = [not np.array_equal(a.motion, b.motion) for a, b in zip(first, second, strict=True)]
    assert changed == [t not in (0, 3, 6, 7) for t in range(COUNT)]
    assert all(a is b for a, b, new in zip(first, second, changed, strict=True) if not new)


def test_pictures_without_detail_change_nothing() -> None:
    first = bent(5)
    second = look_again(first, [np.full(SIZE[::-1], 90, np.uint8)] * COUNT)
    np.testing.assert_array_equal(motion_of(second), motion_of(first))


@pytest.mark.parametrize("kept", [True, False])
def test_one_command_and_two_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool) -> None:
    """Whether the pictures were kept or are read again, and whether the motion goes by way of a file."""
    monkeypatch.setattr(refinement, "_HARD_PX", 1e-3)
    monkeypatch.setattr(refinement, "_BLOCK", 5)
    if not kept:
        monkeypatch.setattr("legato.video.pipeline._MOST_KEPT_BYTES", 0)
    rgb = [np.repeat(picture[..., None], 3, 2) for picture in views()]
    clip = write_clip(tmp_path / "in.mkv", rgb, codec="ffv1")
    seen: list[tuple[str, int, int | None]] = []
    report = video.stabilize(clip, tmp_path / "out.mkv", codec="ffv1", progress=lambda *step: seen.append(step))
    assert [step for step in seen if step[0] == "refine"] == [("refine", t, None) for t in range(1, COUNT)]
    assert report.seconds["refine"] > 0
    analysis = video.analyze(clip)
    np.testing.assert_array_equal(analysis.motion[1:], report.motion[1:])
    analysis.save(tmp_path / "motion.jsonl")
    later = video.render(clip, tmp_path / "motion.jsonl", tmp_path / "later.mkv", codec="ffv1")
    np.testing.assert_array_equal(later.corrections, report.corrections)
