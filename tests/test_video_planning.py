"""Pictures are drawn by a path that is decided, window by window, while the motion comes in."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clips import SIZE, shaky, write_clip
from legato import camera, video
from legato.errors import ArgumentError, InputError
from legato.video import pipeline, planning, stages
from legato.video.motion.analysis import Step
from legato.video.pipeline import Stopwatch
from legato.video.planning import Aims, PathPlanner, window_frames
from legato.video.presets import PRESETS, preset_named

OPTIONS = preset_named("standard").options()


def walk(count: int, seed: int, px: float = 3.0) -> np.ndarray:
    """Motions of a shaky clip, frame t to frame t - 1."""
    motion = np.tile(np.eye(3), (count, 1, 1))
    motion[1:, :2, 2] = np.random.default_rng(seed).normal(0, px, (count - 1, 2))
    return motion


def steps_of(motion: np.ndarray, error: float = 0.0, missing: set[int] | None = None) -> list[Step]:
    """Steps with twenty points that each move with the picture, and each by so many pixels by themselves."""
    lost = missing or set()
    rng = np.random.default_rng(len(motion))
    home = np.array([[(x, y) for x in range(60, 640, 130) for y in range(50, 360, 90)]], float)
    places = home - np.cumsum(motion[:, None, :2, 2], axis=0)
    places += rng.normal(0, error, places.shape)
    return [
        Step(
            np.eye(3) if t in lost else m,
            t not in lost,
            pts=t,
            traces=np.moveaxis(places[t - 2 : t + 1], 0, 1).astype(np.float32) if t > 1 else None,
        )
        for t, m in enumerate(motion)
    ]


def planner(
    window_s: float | None = 2.0,
    guard: bool = True,
    aims: Aims | None = None,
    time_base: Fraction = Fraction(1, 30),
) -> PathPlanner:
    return PathPlanner(
        (640, 360),
        OPTIONS,
        window_s=window_s,
        guard=guard,
        aims=aims or Aims(),
        time_base=time_base,
        frame_rate=99.0,  # not asked: the times tell
        watch=Stopwatch(),
    )


def planned(steps: list[Step], **options: object) -> PathPlanner:
    plan = planner(**options)  # type: ignore[arg-type]
    for step in steps:
        plan.push(step)
    plan.finish()
    return plan


def test_a_pause_does_not_change_the_rate_and_a_time_lapse_is_steadied_too() -> None:
    def jitter(times: list[int], base: Fraction) -> float:
        motion = walk(200, 3)
        steps = [replace(step, pts=pts) for step, pts in zip(steps_of(motion), times, strict=True)]
        plan = planned(steps, window_s=3.0, guard=False, time_base=base)
        return camera.path_metrics(motion, np.array(plan.corrections), (640, 360)).jitter_px

    even = jitter(list(range(200)), Fraction(1, 30))
    paused = [t + (108000 if t > 30 else 0) for t in range(200)]  # for an hour
    assert jitter(paused, Fraction(1, 30)) == even
    assert jitter(list(range(200)), Fraction(60)) < 0.5  # a frame a minute
    assert jitter(list(range(200)), Fraction(1, 10**7)) < 6  # nonsense, and no error


@settings(max_examples=8, deadline=None)
@given(count=st.integers(2, 260), seed=st.integers(0, 99), holes=st.sets(st.integers(1, 250), max_size=30))
def test_the_path_is_that_of_the_windows(count: int, seed: int, holes: set[int]) -> None:
    motion, holes = walk(count, seed), {t for t in holes if t < count}
    plan = planned(steps_of(motion, missing=holes), guard=False)
    if len(holes) == count - 1:
        assert plan.status == "none"
        return
    ok = np.array([t not in holes for t in range(count)])
    expected = camera.smooth_path(motion, (640, 360), OPTIONS, window=60, stride=40, ok=ok)
    window = camera.contain(expected.corrections, (640, 360), OPTIONS)
    np.testing.assert_array_equal(np.array(plan.window), window)
    np.testing.assert_array_equal(np.array(plan.corrections), window @ camera.crop_map((640, 360), OPTIONS))
    assert plan.status == "optimal"
    assert plan.iterations == expected.iterations
    assert 0 <= plan.gap < math.inf


def test_frames_can_be_drawn_a_window_behind() -> None:
    plan, ready = planner(window_s=3.0), []
    for step in steps_of(walk(200, 1)):
        plan.push(step)
        ready.append(plan.ready)
    assert ready[88] == 0
    assert ready[89] == 60
    # A window keeps three frames of the one before.
    assert [t for t in range(90, 200) if ready[t] > ready[t - 1]] == list(range(146, 200, 57))
    assert all(t + 1 - ready[t] <= 90 for t in range(200))
    plan.finish()
    assert plan.ready == 200


def test_the_whole_clip_at_once() -> None:
    motion = walk(150, 2)
    plan = planner(window_s=None)
    for step in steps_of(motion):
        plan.push(step)
        assert plan.ready == 0
    plan.finish()
    expected = camera.smooth_path(motion, (640, 360), OPTIONS)
    np.testing.assert_array_equal(np.array(plan.window), camera.contain(expected.corrections, (640, 360), OPTIONS))
    assert plan.gap == expected.gap


@pytest.mark.parametrize("rate", [12.5, 30.0, 60.0])
def test_weights_follow_the_times_of_the_first_frames(rate: float) -> None:
    motion = walk(200, 3)
    # Ever slower: the later frames have no say.
    times = np.cumsum(np.r_[0, np.full(59, 1000 / rate), np.linspace(100, 500, 140)]).round()
    steps = [Step(m, True, pts=int(at)) for m, at in zip(motion, times, strict=True)]
    plan = planned(steps, window_s=4.0, guard=False, time_base=Fraction(1, 1000))
    seen = 59000 / times[59]
    window, stride = window_frames(4.0, seen)
    assert (window, stride) == {12.5: (60, 40), 30.0: (120, 80), 60.0: (240, 160)}[rate]
    options = OPTIONS.at_frame_rate(seen)
    expected = camera.smooth_path(motion, (640, 360), options, window=window, stride=stride)
    np.testing.assert_array_equal(np.array(plan.window), camera.contain(expected.corrections, (640, 360), options))


def test_a_clip_at_rest_is_left_alone_however_long() -> None:
    plan = planner()
    for step in steps_of(walk(2000, 4, px=0.01), error=0.5):
        plan.push(step)
        assert plan.ready == 0
        assert len(plan._unjudged) <= 90  # memory does not grow with their points
    plan.finish()
    assert plan.status == "rest"
    np.testing.assert_array_equal(np.array(plan.corrections), np.tile(np.eye(3), (2000, 1, 1)))
    assert plan.gain is not None
    assert not plan.gain.worthwhile


@pytest.mark.parametrize("still", [0, 100, 700])
def test_shake_that_begins_late_is_found(still: int) -> None:
    motion = np.concatenate([walk(still + 1, 5, px=0.01), walk(400, 5)[1:]])
    plan = planned(steps_of(motion, error=0.1))
    assert plan.status == "optimal"
    assert len(plan.corrections) == len(motion)
    assert np.abs(np.array(plan.corrections) - np.eye(3)).max() > 0.01


def test_a_shaky_clip_that_comes_to_rest_stays_stabilized() -> None:
    motion = np.concatenate([walk(120, 6), walk(5000, 6, px=0.01)])
    plan = planned(steps_of(motion, error=0.5))
    assert plan.status == "optimal"


def test_nothing_known_is_no_path() -> None:
    plan = planned(steps_of(walk(100, 7), missing=set(range(1, 100))))
    assert plan.status == "none"
    assert planned([]).corrections == []


def test_points_of_a_file_and_a_subject_are_kept_in_view() -> None:
    motion = walk(150, 8)
    table = np.full((100, 1, 2), np.nan)
    table[40:60] = [600.0, 30.0]
    steps = [
        Step(m, True, pts=t, subject=(300.0, 150.0, 20.0, 20.0) if t < 120 else None) for t, m in enumerate(motion)
    ]
    aims = Aims(table, "points.csv", subject=True, hard=True, center=5.0)
    plan = planned(steps, aims=aims)
    points, middle = aims.at(50, steps[50])
    assert points.shape == (5, 2)
    np.testing.assert_allclose(middle, points.mean(0))
    assert np.isnan(aims.at(130, steps[130])[0]).all()
    right, bottom = 639, 359
    for t in (*range(40, 60), 100):
        for x, y in aims.at(t, steps[t])[0]:
            if math.isfinite(x):
                at = np.linalg.inv(plan.corrections[t]) @ [x, y, 1]
                assert -0.6 <= at[0] / at[2] <= right + 0.6
                assert -0.6 <= at[1] / at[2] <= bottom + 0.6


def test_what_is_to_be_centered_comes_nearer_to_the_middle() -> None:
    steps = [Step(m, True, pts=t, subject=(380.0, 200.0, 20.0, 20.0)) for t, m in enumerate(walk(150, 8))]
    distance = []
    for center in (0.0, 1000.0):
        plan = planned(steps, aims=Aims(subject=True, center=center))
        middle = np.array(plan.corrections) @ [319.5, 179.5, 1]
        distance.append(np.abs(middle[:, :2] / middle[:, 2:] - [390, 210]).mean())
    assert distance[1] < 0.7 * distance[0]


def test_points_of_another_video_are_refused() -> None:
    with pytest.raises(InputError, match=r"points.csv: frame 99 of a video of 20"):
        planned(steps_of(walk(20, 9)), aims=Aims(np.full((100, 1, 2), np.nan), "points.csv"))
    with pytest.raises(ArgumentError, match=r"salient: expected shape \(20, m, 2\), got \(19, 1, 2\)"):
        planned(steps_of(walk(20, 9)), aims=Aims.of(np.zeros((19, 1, 2)), subject=False, hard=False, center=0.0))
    with pytest.raises(ArgumentError, match="salient: expected shape"):
        Aims.of(np.zeros((19, 2)), subject=False, hard=False, center=0.0)


# --- the whole command --------------------------------------------------------------------------

FAST = {"codec": "ffv1"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "in.mkv", shaky(150), codec="ffv1")


def pictures(path: Path) -> list[bytes]:
    with video.VideoReader(path) as reader:
        return [frame.planes.y.tobytes() for frame in reader]


@pytest.mark.parametrize("preset", sorted(set(PRESETS) - {"follow"}))
def test_room_decides_how_often_a_file_is_read_and_nothing_else(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str
) -> None:
    opened = []
    reader = stages.VideoReader

    def counted(*arguments: object, **options: object) -> video.VideoReader:
        opened.append(arguments)
        return reader(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(stages, "VideoReader", counted)
    frame = SIZE[0] * SIZE[1] * 3 // 2
    results = []
    # A window, what waits for the encoder and a block of the second look; none is short of the whole clip, since both
    # window and block are at least 60 frames.
    for name, room, times in (
        ("plenty", 1 << 30, 1),
        ("clip", 150 * frame, 1),
        ("short", 149 * frame, 2),
        ("none", 0, 2),
    ):
        monkeypatch.setattr(pipeline, "_MOST_KEPT_BYTES", room)
        opened.clear()
        report = video.stabilize(clip, tmp_path / f"{name}.mkv", preset=preset, **FAST)
        assert len(opened) == times, name
        assert report.frames == 150
        results.append((pictures(tmp_path / f"{name}.mkv"), report.corrections.tolist(), report.path_status))
    assert results[1:] == results[:-1]


def test_pictures_are_written_before_the_last_is_read(clip: Path, tmp_path: Path) -> None:
    seen: list[str] = []
    video.stabilize(clip, tmp_path / "out.mkv", progress=lambda stage, *_: seen.append(stage), **FAST)
    assert seen.count("track") == seen.count("render") == 150
    assert seen.index("render") == 90  # three seconds
    assert "track" in seen[seen.index("render") :]


def test_pictures_that_wait_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = write_clip(tmp_path / "in.mkv", shaky(420), codec="ffv1")
    most = 0
    add = stages._Waiting.add

    def counted(self: stages._Waiting, frame: video.VideoFrame, *, begun: bool) -> None:
        nonlocal most
        add(self, frame, begun=begun)
        most = max(most, len(self.frames))

    monkeypatch.setattr(stages._Waiting, "add", counted)
    room = (90 + 30 + 60) * SIZE[0] * SIZE[1] * 3 // 2
    monkeypatch.setattr(pipeline, "_MOST_KEPT_BYTES", room)
    report = video.stabilize(long, tmp_path / "out.mkv", **FAST)
    assert report.frames == 420
    assert most == 90


def test_render_plans_as_stabilize_does(clip: Path, tmp_path: Path) -> None:
    report = video.stabilize(clip, tmp_path / "one.mkv", save_motion=tmp_path / "m.jsonl", **FAST)
    video.render(clip, tmp_path / "m.jsonl", tmp_path / "two.mkv", **FAST)
    assert pictures(tmp_path / "one.mkv") == pictures(tmp_path / "two.mkv")
    assert planning.window_frames(3.0, report.frame_rate) == (90, 60)
