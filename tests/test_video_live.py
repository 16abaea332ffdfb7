"""Live pictures: the delay is exact, nothing is out of step, and nothing that comes later changes what is out."""

from __future__ import annotations

import dataclasses
import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("av", reason="needs PyAV, of the video extra")

from clips import scene, shaky
from legato import _core, camera, video
from legato.camera.live import _continued
from legato.camera.problem import check_task, core_options
from legato.errors import ArgumentError, HomographyError
from legato.video.live.stabilizer import LIVE_OPTIONS
from legato.video.presets import PRESETS
from live_plan import LiveGuard, LivePlan
from test_camera_paths import shaky as shaky_motion

SIZE = (160, 120)
FAST = camera.PathOptions(relinearize=1, tolerance=1e-4)
FPS = 30


def run_path(path: camera.LivePath, motion: list[np.ndarray | None], cuts: set[int] = frozenset()) -> list[np.ndarray]:
    """Every correction, checked to come out in the push where it is due."""
    out: list[np.ndarray] = []
    for t, step in enumerate(motion):
        new = path.push(step, cut=t in cuts)
        assert len(new) == (t >= path.latency_frames)
        out.extend(new)
    assert path.pending_frames == len(motion) - len(out)
    out.extend(path.finish())
    assert path.pending_frames == 0
    assert len(out) == len(motion)
    return out


def run_pictures(stabilizer: video.Stabilizer, pictures: list) -> tuple[list, np.ndarray]:
    out, corrections = [], []
    for t, picture in enumerate(pictures):
        new = stabilizer.push(picture)
        assert len(new) == len(stabilizer.corrections) == (t >= stabilizer.latency_frames)
        out.extend(new)
        corrections.extend(stabilizer.corrections)
    out.extend(stabilizer.flush())
    corrections.extend(stabilizer.corrections)
    assert len(out) == len(corrections) == len(pictures)
    assert stabilizer.pending_frames == 0
    return out, np.array(corrections)


def jolted(count: int, at: int, by: int) -> list[np.ndarray]:
    """Gray views of a scene that stands still but for one frame, which is `by` pixels off."""
    whole = scene((SIZE[0] + 2 * by, SIZE[1]), seed=4)[:, :, 1]
    offset = [by * (t == at) for t in range(count)]
    return [np.ascontiguousarray(whole[:, x : x + SIZE[0]]) for x in offset]


def overhang_px(corrections: np.ndarray) -> float:
    right, bottom = SIZE[0] - 1, SIZE[1] - 1
    corners = np.array([[0, right, right, 0], [0, 0, bottom, bottom], [1, 1, 1, 1]], float)
    x, y, w = np.moveaxis(corrections @ corners, 1, 0)
    return float(max(0, (-x / w).max(), (x / w - right).max(), (-y / w).max(), (y / w - bottom).max()))


def told_ahead(seen: np.ndarray, count: int) -> np.ndarray:
    """The model of `LivePath` one entry and one step at a time: least squares over rows, the ridge as rows more."""
    seen = seen.reshape(-1, 9)[-60:]
    out = np.zeros((count, 9))
    for entry, x in enumerate(seen.T):
        if len(x) < 12:
            out[:, entry] = (x.mean() if len(x) else 0) * 0.9 ** np.arange(1, count + 1)
            continue
        rows = np.array([x[t : t + 8] for t in range(len(x) - 8)])
        ridge = np.sqrt(0.05 * len(rows) * (x**2).mean()) * np.eye(8)
        model = np.linalg.lstsq(np.vstack([rows, ridge]), np.concatenate([x[8:], np.zeros(8)]), rcond=None)[0]
        most, series = 3 * np.sqrt((x**2).mean()), list(x)
        for t in range(count):
            series.append(float(np.clip(model @ series[-8:], -most, most)))
            out[t, entry] = series[-1]
    return out.reshape(count, 3, 3)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 12), st.integers(0, 8), st.integers(1, 30), st.integers(0, 99))
@example(latency=1, predicted=6, n=29, seed=2)
def test_each_correction_is_the_first_open_one_of_its_window(latency: int, predicted: int, n: int, seed: int) -> None:
    """The definition, by way of `smooth_path` alone."""
    options = dataclasses.replace(FAST, keystone_ratio=-1.0)
    motion = shaky_motion(n, seed=seed)
    path = camera.LivePath((640, 360), options, latency_frames=latency, units="width", predicted=predicted)
    got = run_path(path, list(motion))
    expected: list[np.ndarray] = []
    logs = camera.log_homography(motion)
    for t in range(n):
        first, end = max(0, t - 3), t + latency + 1
        window = motion[first:end]
        if end <= n:
            known = logs[1:end].reshape(-1, 9)[-60:]
            ahead = _continued(list(known), predicted)
            np.testing.assert_allclose(ahead, told_ahead(known, predicted), rtol=0, atol=1e-6)
            window = np.concatenate([window, camera.exp_homography(ahead)])
        held = np.array(expected[first:]).reshape(-1, 3, 3)
        solved = camera.smooth_path(window, (640, 360), options, units="width", fixed=held).corrections
        if end > n:  # the end of the scene is solved once
            expected.extend(solved[len(held) :])
            break
        expected.append(solved[len(held)])
    # Of the same model: a problem that is solved to a gap of 1e-4 makes much of its last bits.
    assert np.abs(np.array(got) - np.array(expected)).max() < 1e-12


def test_a_rhythm_is_told_ahead_and_noise_does_not_run_away() -> None:
    t = np.arange(90)
    wave = 0.01 * np.sin(t[:, None] * np.linspace(0.3, 0.8, 9))
    ahead = _continued(list(wave[:60]), 5).reshape(5, 9)
    assert np.abs(ahead - wave[60:65]).max() < 0.004
    growing = [np.full(9, 1.3**k) for k in range(60)]
    assert np.abs(_continued(growing, 500)).max() <= 3 * np.sqrt((np.array(growing) ** 2).mean(0)).max()
    assert not _continued([], 4).any()
    assert not _continued([np.zeros(9)] * 30, 4).any()


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_path_never_waits_nor_looks_ahead(data: st.DataObject) -> None:
    latency, n = data.draw(st.integers(0, 10)), data.draw(st.integers(1, 25))
    same = data.draw(st.integers(0, n))
    missing = data.draw(st.sets(st.integers(0, n)))
    cuts = data.draw(st.sets(st.integers(0, n), max_size=3))

    def corrections(seed: int) -> list[np.ndarray]:
        motion = [*shaky_motion(n + 1, seed=1)[:same], *shaky_motion(n + 1, seed=seed)[same:n]]
        path = camera.LivePath((640, 360), FAST, latency_frames=latency, units="width", predicted=3)
        return run_path(path, [None if t in missing else step for t, step in enumerate(motion)], cuts)

    one, other = corrections(2), corrections(3)
    assert np.isfinite(one).all()
    decided = max(0, same - latency)
    assert np.array(one[:decided]).tobytes() == np.array(other[:decided]).tobytes()


def test_a_path_is_reported_wrong_and_goes_on() -> None:
    motion = shaky_motion(12, seed=3)
    path = camera.LivePath((640, 360), FAST, latency_frames=2, units="width")
    plain = np.array(run_path(camera.LivePath((640, 360), FAST, latency_frames=2, units="width"), list(motion)))
    got: list[np.ndarray] = []
    for t, step in enumerate(motion):
        if t == 6:
            with pytest.raises(HomographyError):
                path.push(np.diag([1.0, -1.0, 1.0]))
            with pytest.raises(ArgumentError, match="motion"):
                path.push(np.eye(4))
        got.extend(path.push(step))
    got.extend(path.finish())
    assert np.array(got).tobytes() == plain.tobytes()
    with pytest.raises(ArgumentError, match="latency_frames"):
        camera.LivePath((640, 360), latency_frames=-1)
    with pytest.raises(ArgumentError, match="predicted"):
        camera.LivePath((640, 360), predicted=1.5)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="units"):
        camera.LivePath((640, 360), units="inch")


def test_more_delay_is_steadier() -> None:
    motion = shaky_motion(90, seed=11)
    jitter = []
    for latency in (0, 3, 10, 30):
        path = camera.LivePath((640, 360), FAST, latency_frames=latency, units="width")
        P = np.array(run_path(path, list(motion)))
        e = camera.log_homography(np.linalg.inv(P[:-1]) @ motion[1:] @ P[1:])[:, :2, 2]
        jitter.append(float(np.sqrt((np.diff(e, axis=0) ** 2).mean())))
    shake = camera.log_homography(motion[1:])[:, :2, 2]
    assert jitter[0] < 0.8 * np.sqrt((np.diff(shake, axis=0) ** 2).mean())
    assert jitter[3] <= jitter[2] < jitter[1] < jitter[0]


@pytest.mark.parametrize("latency", range(41))
def test_known_shake_in_index_exact_correction_out(latency: int) -> None:
    """One frame is 5 px off; the picture and the correction that undo it are that frame's and no other's."""
    at, by, count = 22, 5, 45
    pictures = jolted(count, at, by)
    options = dataclasses.replace(FAST, crop=0.18)
    stabilizer = video.Stabilizer(SIZE, FPS, options=options, latency_frames=latency, interpolation="bilinear")
    steady, corrections = run_pictures(stabilizer, pictures)
    for picture, correction, out in zip(pictures, corrections, steady, strict=True):
        assert np.array_equal(video.warp(picture, correction), out)
    moved = corrections @ np.array([SIZE[0] / 2, SIZE[1] / 2, 1])
    x = moved[:, 0] / moved[:, 2]
    undone = x[at] - (x[at - 1] + x[at + 1]) / 2
    assert undone == pytest.approx(-by, abs=0.35)
    # Nothing like it anywhere else, and the view stands still: the correction has the index of the jolt.
    others = np.delete(np.diff(x, 2), [at - 2, at - 1, at])
    assert np.abs(others).max() < 0.5
    seen = x + np.array([by * (t == at) for t in range(count)])
    assert np.abs(np.diff(seen)).max() < 0.4
    assert overhang_px(corrections) == 0


def test_pictures_of_every_kind_with_their_timestamps() -> None:
    bgr = list(shaky(8, SIZE))
    gray = [p[:, :, 1].copy() for p in bgr]
    planes = [video.Planes(g, g[::2, ::2].copy(), 255 - g[::2, ::2]) for g in gray]
    deep = [video.Planes(g.astype(np.uint16) << 2, bit_depth=10) for g in gray]
    stamps = [0, 3, 4, 100, 101, 200, 1000, 1007]
    stamped = [
        video.VideoFrame(p, pts, 7, Fraction(1, 90), pts == 0, 50 + t)
        for t, (p, pts) in enumerate(zip(planes, stamps, strict=True))
    ]
    base = run_pictures(video.Stabilizer(SIZE, FPS, latency_frames=3), gray)[1]
    for kind in (planes, deep, stamped):
        out, corrections = run_pictures(video.Stabilizer(SIZE, FPS, latency_frames=3), kind)
        assert {type(o) for o in out} == {type(kind[0])}
        assert corrections.tobytes() == base.tobytes()
    assert [(o.pts, o.duration, o.time_base, o.key, o.index) for o in out] == [
        (f.pts, f.duration, f.time_base, f.key, f.index) for f in stamped
    ]
    for t, o in enumerate(out):
        assert np.array_equal(o.planes.u, video.warp(planes[t], base[t], interpolation="bicubic").u)
    colored, _ = run_pictures(video.Stabilizer(SIZE, FPS, latency_frames=3), bgr)
    assert colored[0].shape == bgr[0].shape


@pytest.mark.parametrize("gray", [False, True])
def test_a_buffer_may_be_used_again(gray: bool) -> None:
    pictures = [*shaky(9, SIZE), *shaky(5, SIZE, seed=7)]
    if gray:
        pictures = [p[:, :, 1].copy() for p in pictures]
    base = video.Stabilizer(SIZE, FPS, latency_frames=4)
    expected, _ = run_pictures(base, pictures)
    stabilizer = video.Stabilizer(SIZE, FPS, latency_frames=4)
    buffer, got = np.empty_like(pictures[0]), []
    for picture in pictures:
        buffer[...] = picture
        got += stabilizer.push(buffer)
    buffer[...] = 0
    got += stabilizer.flush()
    assert all(np.array_equal(a, b) for a, b in zip(expected, got, strict=True))
    assert stabilizer.cuts == base.cuts == 1  # told by the picture before, which is not in the buffer any more


@pytest.mark.parametrize("latency", [0, 1, 5, 30])
def test_a_cut_parts_two_clips(latency: int) -> None:
    first, second = list(shaky(17, SIZE, seed=5)), list(shaky(14, SIZE, seed=6))
    _, corrections = run_pictures(video.Stabilizer(SIZE, FPS, latency_frames=latency), first + second)
    again = video.Stabilizer(SIZE, FPS, latency_frames=latency)
    assert np.concatenate([run_pictures(again, first)[1], run_pictures(again, second)[1]]).tobytes() == (
        corrections.tobytes()
    )
    assert again.cuts == 0
    counted = video.Stabilizer(SIZE, FPS, latency_frames=latency)
    run_pictures(counted, first + second)
    assert (counted.cuts, counted.failed, counted.frames) == (1, 0, 31)
    # The caller may know better.
    told = video.Stabilizer(SIZE, FPS, latency_frames=latency)
    for t, picture in enumerate(first):
        told.push(picture, cut=t == 9)
    assert told.cuts == 1


@pytest.mark.parametrize("latency", [0, 2, 12])
def test_failed_frames_are_bridged(latency: int) -> None:
    pictures = list(shaky(40, SIZE, seed=8))
    for t in (15, 16, 17, 30):
        pictures[t] = np.full_like(pictures[t], 16)
    stabilizer = video.Stabilizer(SIZE, FPS, latency_frames=latency)
    _, corrections = run_pictures(stabilizer, pictures)
    assert stabilizer.cuts == 0
    assert stabilizer.failed == 6  # the black ones, and the first after them
    assert overhang_px(corrections) == 0
    assert np.isfinite(corrections).all()


@pytest.mark.parametrize("between", [1, 3])
def test_a_cut_through_black(between: int) -> None:
    first, other = list(shaky(12, SIZE, seed=8)), list(shaky(12, SIZE, seed=9))
    black = [np.full_like(first[0], 16)] * between
    stabilizer = video.Stabilizer(SIZE, FPS, latency_frames=4)
    run_pictures(stabilizer, [*first, *black, *other])
    assert (stabilizer.cuts, stabilizer.failed) == (1, between)


def test_pictures_without_motion() -> None:
    black = [np.zeros(SIZE[::-1], np.uint8)] * 9
    stabilizer = video.Stabilizer(SIZE, FPS, latency_frames=2)
    steady, corrections = run_pictures(stabilizer, black)
    assert not any(s.any() for s in steady)
    assert np.ptp(corrections, axis=0).max() < 1e-9
    still = [scene(SIZE)] * 9
    stabilizer = video.Stabilizer(SIZE, FPS, latency_frames=2)
    _, corrections = run_pictures(stabilizer, still)
    assert stabilizer.duplicates == 8
    assert np.ptp(corrections, axis=0).max() < 1e-6
    for count in (1, 2, 3):
        assert len(run_pictures(video.Stabilizer(SIZE, FPS, latency_frames=5), still[:count])[0]) == count


def test_a_fixed_camera_is_left_alone() -> None:
    with video.VideoReader(Path(__file__).parent / "data" / "video" / "car_fixed_camera.mp4") as reader:
        planes = [frame.planes for frame in reader]
        fps = float(reader.frame_rate)
    guarded, free = (video.Stabilizer(planes[0].size, fps, latency_frames=5, guard=guard) for guard in (True, False))
    steady, corrections = run_pictures(guarded, planes)
    _, unguarded = run_pictures(free, planes)
    assert free.rested == 0
    assert guarded.rested > 0.5 * len(planes)
    np.testing.assert_array_equal(corrections[-1], np.eye(3))
    np.testing.assert_array_equal(steady[-1].y, planes[-1].y)
    assert np.abs(unguarded[-1] - np.eye(3)).max() > 0.01
    # The way there is slow.
    assert np.abs(np.diff(corrections[:, :2, 2], axis=0)).max() < 3
    shaken = video.Stabilizer(SIZE, FPS, latency_frames=5)
    run_pictures(shaken, list(shaky(60, SIZE, seed=3)))
    assert shaken.rested == 0


def test_the_guard_of_a_live_video_goes_to_and_fro() -> None:
    """A scene that stands still and then shakes, and a path that moves and then undoes the shake."""
    guard = LiveGuard((640, 360), 30)
    rng = np.random.default_rng(5)
    places = rng.uniform((40, 40), (600, 320), (30, 2))
    shake, drift = (rng.normal(0, 2, (400, 2)) for _ in range(2))
    shake[:200], drift[200:] = 0, 0

    def correction(t: int) -> np.ndarray:
        by = shake[t] + drift[t]
        return np.array([[1, 0, by[0]], [0, 1, by[1]], [0, 0, 1.0]])

    shares = []
    for t in range(400):
        points = None if t < 2 else np.stack([places + shake[s] for s in (t - 2, t - 1, t)], 1).astype(np.float32)
        shares.append(guard.push(points, correction(t)))
    assert shares[0] == 0
    assert shares[150] == 1
    assert shares[399] == 0
    assert np.abs(np.diff(shares)).max() < 0.05


def test_a_lens_that_stays_covered() -> None:
    motion = [*shaky_motion(30, seed=2), *[None] * 200]
    path = camera.LivePath((640, 360), FAST, latency_frames=2, units="width", predicted=5)
    P = np.array(run_path(path, motion))
    assert np.isfinite(P).all()
    assert np.abs(np.diff(P[-50:], axis=0)).max() < 1e-3


@pytest.mark.parametrize("latency", [0, 1, 10, 30])
def test_the_plan_is_that_of_its_twin(latency: int) -> None:
    """Shake, repeated and covered frames, a cut that is seen and one that is told, an end; the guard in all of it."""
    pictures = [p[:, :, 1].copy() for p in [*shaky(40, SIZE, seed=8), *shaky(25, SIZE, seed=9)]]
    pictures[20:22] = [pictures[19]] * 2
    pictures[30] = np.full_like(pictures[30], 16)
    for count, fps in ((65, 30.0), (50, 24000 / 1001)):
        stabilizer = video.Stabilizer(SIZE, fps, latency_frames=latency)
        twin = LivePlan(SIZE, LIVE_OPTIONS, fps, latency)
        for t, picture in enumerate(pictures[:count]):
            stabilizer.push(picture, cut=t == 10)
            expected = twin.push(picture, t == 10)
            np.testing.assert_allclose(stabilizer.corrections, expected, rtol=0, atol=1e-6)
        stabilizer.flush()
        np.testing.assert_allclose(stabilizer.corrections, twin.finish(), rtol=0, atol=1e-6)
        counts = [getattr(stabilizer, name) for name in ("frames", "failed", "duplicates", "cuts", "rested")]
        assert counts == [twin.frames, twin.failed, twin.duplicates, twin.cuts, twin.rested]


def test_the_guard_is_that_of_its_twin() -> None:
    with video.VideoReader(Path(__file__).parent / "data" / "video" / "car_fixed_camera.mp4") as reader:
        pictures = [frame.planes.y for frame in reader]
        fps = float(reader.frame_rate)
    size = pictures[0].shape[1], pictures[0].shape[0]
    stabilizer, twin = video.Stabilizer(size, fps, latency_frames=5), LivePlan(size, LIVE_OPTIONS, fps, 5)
    for picture in pictures:
        stabilizer.push(picture)
        np.testing.assert_allclose(stabilizer.corrections, twin.push(picture), rtol=0, atol=1e-6)
    assert stabilizer.rested == twin.rested > 10


def test_the_presets_of_both_languages() -> None:
    for number, preset in enumerate(video.PRESETS.values()):
        for width in (160, 1920):
            native = _core.video_live_options(number, width)
            task = check_task((width, width // 2), preset.live_options(), None, 0.0, "banded", "native")
            expected = core_options(task, None)
            names = [name for name in dir(native) if not name.startswith("_")]
            assert len(names) == 16
            for name in names:
                assert repr(getattr(native, name)) == repr(getattr(expected, name)), (preset, name)


def test_settings_change_without_a_jerk() -> None:
    pictures = [p[:, :, 1].copy() for p in shaky(40, SIZE, seed=3)] * 3

    def zooms(**settings: object) -> np.ndarray:
        stabilizer = video.Stabilizer(SIZE, FPS, latency_frames=4)
        out = []
        for t, picture in enumerate(pictures):
            if t == 20:
                stabilizer.change(**settings)  # type: ignore[arg-type]
            stabilizer.push(picture)
            out.extend(stabilizer.corrections)
        return np.array(out)

    base = zooms()
    wide, none = zooms(options=dataclasses.replace(LIVE_OPTIONS, crop=0.5)), zooms(strength=0.0)
    for changed in (wide, none, zooms(guard=False), zooms(fps=60.0)):
        assert changed[:16].tobytes() == base[:16].tobytes()
        assert np.abs(np.diff(changed[:, 0, 0])).max() < 0.03
    assert wide[-20:, 0, 0].mean() < base[-20:, 0, 0].mean() - 0.05
    np.testing.assert_array_equal(none[-1], np.eye(3))
    stabilizer = video.Stabilizer(SIZE, FPS, latency_frames=4)
    for name, wrong in (("options", {}), ("fps", 0), ("strength", 1.5), ("guard", 2)):
        with pytest.raises(ArgumentError, match=name):
            stabilizer.change(**{name: wrong})
    half = video.Stabilizer(SIZE, FPS, latency_frames=4, strength=0.5)
    halves = run_pictures(half, pictures[:30])[1]
    whole = run_pictures(video.Stabilizer(SIZE, FPS, latency_frames=4), pictures[:30])[1]
    np.testing.assert_allclose(halves, 0.5 * whole / whole[:, 2:, 2:] + 0.5 * np.eye(3), rtol=0, atol=1e-12)


def test_memory_does_not_grow() -> None:
    stabilizer = video.Stabilizer(SIZE, FPS, latency_frames=6, options=FAST)
    pictures = list(shaky(20, SIZE))
    sizes = []
    tracemalloc.start()
    try:
        for t in range(160):
            stabilizer.push(pictures[t % 20])
            assert stabilizer.pending_frames <= 6
            if t in (60, 159):
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sizes[1] - sizes[0] < pictures[0].nbytes


def test_arguments() -> None:
    stabilizer = video.Stabilizer(SIZE, FPS, latency_frames=0)
    picture = scene(SIZE)
    stabilizer.push(picture)
    with pytest.raises(ArgumentError, match=r"160x120.*161x120.*new Stabilizer"):
        stabilizer.push(scene((161, 120)))
    with pytest.raises(ArgumentError, match="frame"):
        stabilizer.push("picture")  # type: ignore[type-var]
    assert stabilizer.frames == 1
    assert stabilizer.size == SIZE
    for keywords in (
        {"latency_frames": -1},
        {"latency_frames": 1.0},
        {"fps": 0},
        {"interpolation": "nearest"},
        {"threads": 0},
        {"threads": True},
        {"options": {}},
        {"preset": "follow"},
        {"preset": "wild"},
        {"crop": 1.5},
        {"size": (0, 5)},
        {"size": (10**30, 120)},
        {"mask": np.ones((3, 3), bool)},
    ):
        with pytest.raises(ArgumentError):
            video.Stabilizer(**{"size": SIZE, "fps": FPS, **keywords})
    counts = video.Stabilizer(SIZE, FPS, latency_frames=np.int64(3), threads=np.int32(1))  # type: ignore[arg-type]
    assert type(counts.latency_frames) is int


def test_presets_and_crop_are_those_of_files_with_more_room() -> None:
    pictures = list(shaky(40))
    smooth = dataclasses.replace(PRESETS["smooth"].live_options(), crop=0.3)
    for keywords, options in (({}, LIVE_OPTIONS), ({"preset": "smooth", "crop": 0.3}, smooth)):
        named = run_pictures(video.Stabilizer(SIZE, FPS, **keywords), pictures)[1]  # type: ignore[arg-type]
        spelled = run_pictures(video.Stabilizer(SIZE, FPS, options=options, latency_frames=10), pictures)[1]
        np.testing.assert_array_equal(named, spelled)


def test_wild_motion_always_gets_a_correction() -> None:
    rng = np.random.default_rng(7)
    options = camera.PathOptions(crop=0.4, inset_px=0.5)
    path = camera.LivePath((160, 120), options, latency_frames=0)
    for t in range(150):
        h = rng.normal(scale=[0.1, 0.1, 0.3, 0.1, 0.1, 0.3, 0.2, 0.2, 0], size=9)
        h[8] = -h[0] - h[4]
        out = path.push(camera.exp_homography(h.reshape(3, 3)) if t else None)
        assert out.shape == (1, 3, 3)
        assert np.isfinite(out).all()
    assert path.pending_frames == 0


def test_chroma_that_may_be_written_is_copied_too() -> None:
    stabilizer = video.Stabilizer((64, 48), 30, latency_frames=2)
    y, u = np.full((48, 64), 90, np.uint8), np.full((24, 32), 100, np.uint8)
    y.flags.writeable = False
    out = stabilizer.push(video.Planes(y, u, u.copy()))
    u[:] = 7
    out += stabilizer.flush()
    assert (out[0].u == 100).all()
