"""Corners, Lucas-Kanade and the fit of the core against their slow twins; accuracy on photographs; bad input."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legato import _core
from legato.errors import ArgumentError
from legato.video import Planes, Tracker, _reference, estimate_motion, luma, warp
from legato.video.synthetic import synthesis

CLIPS = Path(__file__).parents[1].parent / "shared" / "clips"
FRAME = np.array([[0, 0, 1], [639, 0, 1], [0, 359, 1], [639, 359, 1.0]]).T


def textured(rng: np.random.Generator, w: int, h: int, smooth: int = 2) -> np.ndarray:
    """Random blobs of a few pixels."""
    picture = rng.normal(0, 1, (h + 4 * smooth, w + 4 * smooth))
    for _ in range(2):
        for axis in (0, 1):
            total = np.cumsum(picture, axis)
            picture = np.take(total, range(smooth, total.shape[axis]), axis) - np.take(
                total, range(total.shape[axis] - smooth), axis
            )
    picture = picture[:h, :w] / picture.std()
    return np.clip(np.rint(128 + 45 * picture), 0, 255).astype(np.uint8)


def shake(rng: np.random.Generator, w: int, h: int, scale: float = 1.0) -> np.ndarray:
    """A hand's motion between two frames: 1.2 % of the width, 0.7 degrees, a little zoom and keystone."""
    turn, zoom = scale * np.deg2rad(rng.normal(0, 0.7)), np.exp(scale * rng.normal(0, 0.005))
    c, s = zoom * np.cos(turn), zoom * np.sin(turn)
    dx, dy = scale * rng.normal(0, 0.012 * w, 2)
    center = np.array([[1, 0, (w - 1) / 2], [0, 1, (h - 1) / 2], [0, 0, 1]])
    matrix: np.ndarray = (
        center @ [[c, -s, dx], [s, c, dy], [*(scale * rng.normal(0, 0.01, 2) / w), 1]] @ np.linalg.inv(center)
    )
    return matrix


def mapped(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    moved = np.c_[points, np.ones(len(points))] @ matrix.T
    return np.asarray(moved[:, :2] / moved[:, 2:])


def corner_error(a: np.ndarray, b: np.ndarray) -> float:
    p, q = a @ FRAME, b @ FRAME
    return float(np.abs(p[:2] / p[2] - q[:2] / q[2]).max())


def followed(before: np.ndarray, after: np.ndarray, points: np.ndarray, round_trip: float) -> tuple[Any, Any]:
    moved, found = np.empty_like(points), np.empty(len(points), np.uint8)
    _core.VideoPyramid(before, 1).follow(_core.VideoPyramid(after, 1), points, round_trip, moved, found)
    return moved, found > 0


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 200), st.integers(1, 150), st.integers(0, 2**31), st.integers(0, 5), st.sampled_from([1, 60, 224])
)
def test_corners_are_those_of_the_twin(w: int, h: int, seed: int, padding: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    store = textured(rng, w + padding, h, 1 + seed % 4)
    if seed % 3 == 0:
        store //= 32  # equals decide
    picture = store[:, :w]
    found = _core.VideoPyramid(picture, 1).corners(most)
    assert np.array_equal(found, _reference.corners(picture, most))


def test_corners_of_a_large_picture_come_from_its_half() -> None:
    picture = textured(np.random.default_rng(2), 781, 433, 4)
    found = _core.VideoPyramid(picture, 1).corners(224)
    assert len(found) > 150
    assert np.array_equal(found, _reference.corners(picture, 224))


@settings(max_examples=25, deadline=None)
@given(st.integers(60, 240), st.integers(60, 200), st.integers(0, 2**31), st.integers(0, 5))
def test_lucas_kanade_is_that_of_the_twin(w: int, h: int, seed: int, padding: int) -> None:
    rng = np.random.default_rng(seed)
    scene = textured(rng, w + 40, h + 40, 3)
    to_scene = np.array([[1.0, 0, 20], [0, 1, 20], [0, 0, 1]])
    views = []
    for matrix in (to_scene, to_scene @ shake(rng, w, h, 0.7)):
        store = np.zeros((h, w + padding), np.uint8)
        store[:, :w] = np.clip(np.rint(_reference.warp_plane(scene, matrix, (w, h), "bicubic")), 0, 255)
        views.append(store[:, :w])
    points = np.ascontiguousarray(_reference.corners(views[0], 60))
    moved, found = followed(views[0], views[1], points, 0.5)
    twin = _reference.follow(views[0], views[1], points)
    found &= ((twin > 8) & (twin < (w - 9, h - 9))).all(1)  # beyond, the padding of the two ends differently
    if found.any():
        distance = np.linalg.norm(moved - twin, axis=1)[found]
        assert np.median(distance) < 0.02
        assert np.mean(distance > 0.1) <= 0.1  # a point may settle elsewhere from a start a hair off


@settings(max_examples=40, deadline=None)
@given(st.integers(30, 300), st.integers(0, 2**31), st.sampled_from([0.0, 0.2, 0.45]))
def test_the_fit_ends_where_the_twin_stands_still(count: int, seed: int, outliers: float) -> None:
    rng = np.random.default_rng(seed)
    truth = shake(rng, 640, 360)
    here = rng.random((count, 2)) * (640, 360)
    there = mapped(truth, here) + rng.normal(0, 0.15, (count, 2))
    bad = rng.random(count) < outliers
    there[bad] = rng.random((bad.sum(), 2)) * (640, 360)
    here, there = here.astype(np.float32), there.astype(np.float32)
    found, covariance, inlier = np.empty((3, 3)), np.empty((8, 8)), np.empty(count, np.uint8)
    ok, inliers, _, residual, corner_sd = _core.video_fit_motion(
        here, there, 640, 360, 0, 0.5, 2000, 1, found, inlier, covariance
    )
    assert ok
    assert inliers == inlier.sum()
    assert corner_error(_reference.refit(found, here, there), found) < 2e-3
    assert corner_error(_reference.refit(truth / truth[2, 2], here, there), found) < 2e-2
    assert np.allclose(covariance, covariance.T)
    assert np.linalg.eigvalsh(covariance).min() > -1e-9 * covariance.trace()
    assert corner_sd == pytest.approx(np.sqrt(covariance.trace() / 4))
    again = found.copy()
    _core.video_fit_motion(here, there, 640, 360, 0, 0.5, 2000, 1, again, inlier, covariance)
    assert np.array_equal(again, found)
    assert residual < 0.5


def test_the_covariance_is_what_repeated_fits_show() -> None:
    rng = np.random.default_rng(5)
    truth = shake(rng, 640, 360)
    here = (rng.random((150, 2)) * (640, 360)).astype(np.float32)
    corners, predicted = [], np.zeros((8, 8))
    for _ in range(300):
        there = (mapped(truth, here) + rng.normal(0, 0.3, (150, 2))).astype(np.float32)
        found, covariance, inlier = np.empty((3, 3)), np.empty((8, 8)), np.empty(150, np.uint8)
        _core.video_fit_motion(here, there, 640, 360, 0, 0.5, 2000, 1, found, inlier, covariance)
        corners.append(mapped(found, FRAME[:2].T).ravel())
        predicted += covariance / 300
    seen = np.cov(np.array(corners).T)
    assert np.allclose(np.sqrt(np.diag(predicted)), np.sqrt(np.diag(seen)), rtol=0.25)
    scale = np.sqrt(np.outer(np.diag(seen), np.diag(seen)))
    assert np.abs(predicted - seen).max() < (0.5 * scale).max()
    assert np.corrcoef((predicted / scale).ravel(), (seen / scale).ravel())[0, 1] > 0.95


def photographs() -> list[np.ndarray]:
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn, which ships two photographs, is optional")
    colors = (datasets.load_sample_image(name).astype(float) for name in ("china.jpg", "flower.jpg"))
    return [np.rint(color @ [0.299, 0.587, 0.114]).astype(np.uint8) for color in colors]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_photographs_are_warped_within_a_gray_level(interpolation: Any) -> None:
    rng = np.random.default_rng(3)
    for photo in photographs():
        h, w = photo.shape
        for _ in range(1 if interpolation == "lanczos" else 2):
            correction = shake(rng, w, h, 2) @ np.array([[0.9, 0, 0.05 * w], [0, 0.9, 0.05 * h], [0, 0, 1]])
            expected = np.clip(_reference.warp_plane(photo, correction, (w, h), interpolation), 0, 255)
            result = warp(photo, correction, interpolation=interpolation)
            difference = np.abs(result - expected)
            print(f"{interpolation}: {difference.max():.2f} levels at most, {difference.mean():.3f} on average")
            assert np.abs(result - np.rint(expected)).max() <= 1
            assert difference.mean() < 0.255  # 0.25 is what rounding to whole levels costs


def test_lucas_kanade_is_as_accurate_as_opencv() -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is an optional package")
    rng = np.random.default_rng(1)
    size = w, h = 480, 320
    drawn = [np.ascontiguousarray(synthesis.render_scene(seed, (640, 430))[:, :, 1]) for seed in (3, 5)]
    errors: dict[str, dict[str, list[np.ndarray]]] = {}
    for k in range(12):
        kind, scene = (("drawn", drawn), ("photograph", photographs()))[k % 2]
        picture = scene[k // 2 % 2]
        middle = np.array([[1, 0, (picture.shape[1] - w) // 2], [0, 1, (picture.shape[0] - h) // 2], [0, 0, 1]])
        motion = shake(rng, w, h)
        views = []
        for matrix in (middle, middle @ motion):
            view = _reference.warp_plane(picture, matrix, size, "bicubic") + rng.normal(0, 2, (h, w))
            views.append(np.clip(np.rint(view), 0, 255).astype(np.uint8))
        points = _core.VideoPyramid(views[0], 1).corners(224)
        truth = mapped(np.linalg.inv(motion), points)
        inside = ((truth > 10) & (truth < (w - 11, h - 11))).all(1)
        points, truth = np.ascontiguousarray(points[inside]), truth[inside]
        moved, found = followed(views[0], views[1], points, 0.5)
        options = {"winSize": (15, 15), "maxLevel": 4, "criteria": (3, 20, 0.01)}
        there, good, _ = cv2.calcOpticalFlowPyrLK(*views, points[:, None], None, **options)
        back, again, _ = cv2.calcOpticalFlowPyrLK(views[1], views[0], there, None, **options)
        kept = (good.ravel() > 0) & (again.ravel() > 0) & (np.linalg.norm(back[:, 0] - points, axis=1) < 0.5)
        both = errors.setdefault(kind, {"ours": [], "theirs": []})
        both["ours"].append(np.linalg.norm(moved - truth, axis=1)[found])
        both["theirs"].append(np.linalg.norm(there[:, 0] - truth, axis=1)[kept])
    for kind, both in errors.items():
        ours, theirs = np.concatenate(both["ours"]), np.concatenate(both["theirs"])
        for name, error in (("Legato", ours), ("OpenCV", theirs)):  # for the page, with pytest -s
            print(f"{kind}, {name}: median {np.median(error):.4f} px, {np.mean(error > 1):.2%} of {len(error)} > 1 px")
        assert np.median(ours) <= 1.1 * np.median(theirs)
        assert len(ours) > 0.85 * len(
            theirs
        )  # one photograph is out of focus for the most part: there corners are noise
        assert np.mean(ours > 1) < 1e-3


def without(modules: str, code: str) -> None:
    """Run code where some packages cannot be imported."""
    blocked = f"import sys; sys.modules.update(dict.fromkeys({modules.split()}))\n"
    run = subprocess.run([sys.executable, "-c", blocked + code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_frames_need_neither_opencv_nor_pyav() -> None:
    without(
        "cv2 av",
        """
import numpy as np
from legato.video import Planes, estimate_motion, luma, warp
scene = np.kron(np.random.default_rng(1).integers(0, 256, (40, 50)), np.ones((6, 6))).astype(np.uint8)
first, second = scene[20:180, 20:240].copy(), scene[22:182, 17:237].copy()
motion = estimate_motion(first, second)
assert motion.ok and np.abs(motion.homography[:2, 2] - (-3, 2)).max() < 0.2, motion
for frame in (first, Planes(first, first[::2, ::2].copy(), first[::2, ::2].copy()), np.stack([first] * 3, 2)):
    warp(frame, motion.homography, interpolation="bicubic")
    luma(frame)
""",
    )


def test_stabilizing_a_file_needs_no_opencv(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is an optional package")
    from clips import shaky, write_clip

    clip = write_clip(tmp_path / "in.mp4", shaky(12))
    without(
        "cv2",
        f"""
from legato import video
video.stabilize({str(clip)!r}, {str(tmp_path / "out.mp4")!r})
""",
    )
    assert (tmp_path / "out.mp4").stat().st_size > 0


class TestDeepSamples:
    def test_the_same_motion_as_of_bytes(self) -> None:
        scene = textured(np.random.default_rng(4), 420, 320)
        frames = [np.ascontiguousarray(scene[y : y + 240, x : x + 320]) for x, y in ((40, 40), (43, 38))]
        expected = estimate_motion(*frames)
        for bits in (9, 10, 12, 16):
            deep = [frame.astype(np.uint16) << (bits - 8) for frame in frames]
            motion = estimate_motion(*deep, bit_depth=bits)
            assert np.array_equal(motion.homography, expected.homography)
            assert motion.inliers == expected.inliers

    def test_strides_and_samples_above_the_depth(self) -> None:
        rng = np.random.default_rng(4)
        scene = textured(rng, 420, 320).astype(np.uint16) << 2
        frames = [scene[y : y + 240, x : x + 320] for x, y in ((40, 40), (43, 38))]
        straight = estimate_motion(*[frame.copy() for frame in frames], bit_depth=10)
        assert np.array_equal(estimate_motion(*frames, bit_depth=10).homography, straight.homography)
        spread = [np.repeat(frame, 2, 1)[:, ::2] for frame in frames]
        assert np.array_equal(estimate_motion(*spread, bit_depth=10).homography, straight.homography)
        for frame in frames:
            frame[100:120, 100:140] = 65535  # white, not dark
        white = [np.where(frame > 1023, 1023, frame) for frame in frames]
        assert np.array_equal(
            estimate_motion(*frames, bit_depth=10).homography, estimate_motion(*white, bit_depth=10).homography
        )

    def test_as_good_as_the_luma_door(self) -> None:
        rng = np.random.default_rng(6)
        scene = synthesis.render_scene(3, (800, 500))[:, :, 1].astype(np.uint16) * 4
        truth = shake(rng, 640, 360)
        middle = np.array([[1.0, 0, 80], [0, 1, 70], [0, 0, 1]])
        frames = [
            np.clip(np.rint(_reference.warp_plane(scene, m, (640, 360), "bicubic")), 0, 1023).astype(np.uint16)
            for m in (middle, middle @ truth)
        ]
        deep = estimate_motion(*frames, bit_depth=10)
        shallow = estimate_motion(*[luma(Planes(frame, bit_depth=10)) for frame in frames])
        assert corner_error(deep.homography, truth) < 0.1
        assert corner_error(deep.homography, shallow.homography) < 0.1
        opencv = pytest.importorskip("cv2", reason="OpenCV is an optional package")
        assert opencv is not None
        assert corner_error(estimate_motion(*frames, bit_depth=10, backend="opencv").homography, truth) < 0.15


class TestRegion:
    def test_only_what_is_inside_counts(self) -> None:
        rng = np.random.default_rng(8)
        scene = textured(rng, 400, 300)
        frames = [scene[20:260, 20:340].copy(), scene[18:258, 23:343].copy()]
        for frame, shift in zip(frames, (0, 5), strict=True):
            frame[:, 160:] = scene[20:260, 60 + shift : 220 + shift]  # the right half moves otherwise
        motion = estimate_motion(*frames, region=(0, 0, 150, 240))
        assert motion.ok
        assert motion.homography[:2, 2] == pytest.approx([3, -2], abs=0.2)
        assert motion.points[:, 0].max() < 150
        mask = np.zeros((240, 320), bool)
        mask[:, :150] = True
        masked = estimate_motion(*frames, mask=mask)
        assert np.array_equal(masked.homography, motion.homography)
        both = estimate_motion(*frames, mask=mask, region=(0, 0, 320, 240))
        assert np.array_equal(both.homography, motion.homography)
        other = estimate_motion(*frames, region=(170, 0, 150, 240))
        assert other.homography[:2, 2] == pytest.approx([5, 0], abs=0.3)

    def test_for_opencv_as_well(self) -> None:
        pytest.importorskip("cv2", reason="OpenCV is an optional package")
        rng = np.random.default_rng(8)
        scene = textured(rng, 400, 300)
        frames = [scene[20:260, 20:340].copy(), scene[18:258, 23:343].copy()]
        motion = estimate_motion(*frames, region=(0, 0, 150, 240), backend="opencv")
        assert motion.points[:, 0].max() < 150
        assert motion.corner_covariance.shape == (8, 8)

    @pytest.mark.parametrize(
        "region", [(0, 0, 0, 5), (-1, 0, 5, 5), (0, 0, 65, 48), (60, 0, 5, 5), (0, 0, 5), (0.0, 0, 5, 5), "all", 5]
    )
    def test_wrong(self, region: Any) -> None:
        with pytest.raises(ArgumentError, match=r"^region: expected"):
            Tracker((64, 48), region=region)


class TestBadInput:
    @pytest.mark.parametrize("bit_depth", [7, 17, 8.0, True, None, "8"])
    def test_bit_depth(self, bit_depth: Any) -> None:
        with pytest.raises(ArgumentError, match=r"^bit_depth: expected"):
            Tracker((64, 48), bit_depth=bit_depth)
        with pytest.raises(ArgumentError, match=r"^bit_depth: expected"):
            estimate_motion(np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8), bit_depth=bit_depth)

    @pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 10), (np.uint16, 8), (np.int16, 10), (np.float32, 8)])
    def test_dtype(self, dtype: Any, bits: int) -> None:
        with pytest.raises(ArgumentError, match=r"^luma: expected dtype"):
            Tracker((64, 48), bit_depth=bits).push(np.zeros((48, 64), dtype))

    def test_another_size(self) -> None:
        tracker = Tracker((64, 48))
        tracker.push(np.zeros((48, 64), np.uint8))
        for shape in ((48, 65), (47, 64), (64, 48), (48, 64, 1)):
            with pytest.raises(ArgumentError, match=r"^luma: expected shape"):
                tracker.push(np.zeros(shape, np.uint8))

    @pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_mirrors(self, interpolation: Any, dtype: Any) -> None:
        rng = np.random.default_rng(1)
        picture = rng.integers(0, 256, (61, 150)).astype(dtype)
        across, down = np.diag([-1.0, 1, 1]), np.diag([1.0, -1, 1])
        across[0, 2], down[1, 2] = 149, 60
        assert np.array_equal(warp(picture, across, interpolation=interpolation), picture[:, ::-1])
        assert np.array_equal(warp(picture, down, interpolation=interpolation), picture[::-1])
        assert np.array_equal(warp(picture, across @ down, interpolation=interpolation), picture[::-1, ::-1])

    @pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
    def test_a_horizon_across_the_output(self, interpolation: Any) -> None:
        picture = textured(np.random.default_rng(1), 200, 150)
        matrix = np.array([[1, 0, 0], [0, 1, 0], [0.01, 0, -1.005]])  # the line x = 100.5 is at infinity
        result = warp(picture, matrix, interpolation=interpolation)
        expected = np.clip(_reference.warp_plane(picture, matrix, (200, 150), interpolation), 0, 255)
        far = np.abs(np.arange(200) - 100) > 30
        assert np.abs(result - expected)[:, far].mean() < 0.3

    @pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 2), (7, 7), (8, 3)])
    @pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_the_smallest_planes(self, size: tuple[int, int], interpolation: Any, dtype: Any) -> None:
        picture = np.random.default_rng(1).integers(0, 256, size[::-1]).astype(dtype)
        matrix = np.array([[0.9, 0.1, 0.2], [-0.1, 0.9, 0.3], [0, 0, 1]])
        expected = np.clip(_reference.warp_plane(picture, matrix, (40, 5), interpolation), 0, np.iinfo(dtype).max)
        assert np.abs(warp(picture, matrix, (40, 5), interpolation=interpolation) - expected).max() < 5

    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 2**31), st.floats(0.5, 0.62))
    def test_more_than_half_outliers(self, seed: int, outliers: float) -> None:
        rng = np.random.default_rng(seed)
        truth = shake(rng, 640, 360)
        here = (rng.random((300, 2)) * (640, 360)).astype(np.float32)
        there = (mapped(truth, here) + rng.normal(0, 0.15, (300, 2))).astype(np.float32)
        bad = rng.permutation(300) < round(300 * outliers)
        there[bad] = rng.random((bad.sum(), 2)) * (640, 360)
        found, covariance, inlier = np.empty((3, 3)), np.empty((8, 8)), np.empty(300, np.uint8)
        assert _core.video_fit_motion(here, there, 640, 360, 0, 0.5, 2000, 1, found, inlier, covariance)[0]
        assert corner_error(found, truth) < 1.0
        assert (inlier[bad] > 0).mean() < 0.1
