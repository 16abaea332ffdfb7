from __future__ import annotations

import importlib
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import clips
from legato._extras import install_command
from legato.errors import ArgumentError, DependencyError
from legato.video.media import planes
from legato.video.motion import tracking
from legato.video.motion.tracking import Motion, Tracker, estimate_motion
from legato.video.synthetic.scenery import render_scene
from legato.video.synthetic.synthesis import Kind, synthesize

cv2 = pytest.importorskip("cv2", reason="OpenCV is an optional package")

SIZE = (640, 360)
CLIPS = Path(__file__).parents[1].parent / "shared" / "clips"


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """A gray scene, 1280x720."""
    return np.asarray(cv2.cvtColor(render_scene(3, (1280, 720)), cv2.COLOR_BGR2GRAY))


def view(scene: np.ndarray, to_scene: np.ndarray, size: tuple[int, int] = SIZE) -> np.ndarray:
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpPerspective(scene, to_scene, size, flags=flags, borderMode=cv2.BORDER_REFLECT))


def centered(size: tuple[int, int] = SIZE) -> np.ndarray:
    """From pixels of a frame to pixels of the scene, the middle on the middle."""
    return np.array([[1.0, 0, (1280 - size[0]) / 2], [0, 1, (720 - size[1]) / 2], [0, 0, 1]])


def shake(rng: np.random.Generator, px: float = 12.0, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A hand's motion within one frame, as a homography of the frame."""
    w, h = size
    to_units = np.array([[1 / w, 0, -0.5], [0, 1 / w, -0.5 * h / w], [0, 0, 1]])
    small = rng.normal(0, 1, (3, 3)) * np.array([[0.01, 0.01, px / w], [0.01, 0.01, px / w], [0.02, 0.02, 0]])
    return np.linalg.inv(to_units) @ (np.eye(3) + small) @ to_units


def corner_error(a: np.ndarray, b: np.ndarray, size: tuple[int, int] = SIZE) -> float:
    """Root mean square over the four corners, in pixels."""
    w, h = size
    corners = np.array([[0, w, w, 0], [0, 0, h, h], [1, 1, 1, 1]]) - 0.5
    corners[2] = 1
    p, q = (matrix @ corners for matrix in (a, b))
    return float(np.sqrt((((p / p[2]) - (q / q[2])) ** 2).sum(0).mean()))


def noisy(image: np.ndarray, rng: np.random.Generator, sigma: float = 2.0) -> np.ndarray:
    return np.clip(np.rint(image + rng.normal(0, sigma, image.shape)), 0, 255).astype(np.uint8)


def noise(rng: np.random.Generator, mean: float, sigma: float, size: tuple[int, int] = SIZE) -> np.ndarray:
    return noisy(np.full(size[::-1], mean), rng, sigma)


def assert_unknown(motion: Motion) -> None:
    assert not motion.ok
    assert not motion.duplicate
    assert motion.confidence == 0
    assert motion.inliers == 0
    assert motion.model == "identity"
    assert np.array_equal(motion.homography, np.eye(3))
    assert motion.points.shape == (0, 4)
    assert motion.points.dtype == np.float32
    assert np.isnan(motion.residual_px)
    assert np.isnan(motion.corner_covariance).all()


def test_known_homographies_are_found(scene: np.ndarray) -> None:
    rng = np.random.default_rng(5)
    base, previous = centered(), noisy(view(scene, centered()), rng)
    errors = []
    for _ in range(10):
        truth = shake(rng)  # this frame -> previous frame
        motion = estimate_motion(previous, noisy(view(scene, base @ truth), rng))
        assert motion.ok
        assert motion.model == "homography"
        assert not motion.duplicate
        assert motion.homography.dtype == np.float64
        assert motion.homography[2, 2] == 1
        assert 0.8 < motion.confidence <= 1
        assert 100 <= motion.inliers <= len(motion.points) <= 320
        assert motion.residual_px < 0.25
        errors.append(corner_error(motion.homography, truth / truth[2, 2]))
    assert np.sqrt(np.mean(np.square(errors))) < 0.09
    assert max(errors) < 0.2


def test_points_are_this_frame_then_the_previous_and_inliers_come_first(scene: np.ndarray) -> None:
    truth = np.array([[1.0, 0, 9.25], [0, 1, -6.5], [0, 0, 1]])
    motion = estimate_motion(view(scene, centered()), view(scene, centered() @ truth))
    shift = motion.points[: motion.inliers, 2:] - motion.points[: motion.inliers, :2]
    assert np.abs(shift - (9.25, -6.5)).max() < 0.5
    distance = np.linalg.norm(shift - (9.25, -6.5), axis=1)
    assert np.median(distance) < 0.1
    here = motion.points[:, :2]
    assert (here >= -0.5).all()
    assert (here <= np.array(SIZE) - 0.5).all()


@pytest.mark.parametrize("distance", [40, 90])
def test_large_shifts(scene: np.ndarray, distance: float) -> None:
    truth = np.array([[1.0, 0, distance], [0, 1, -0.4 * distance], [0, 0, 1]])
    motion = estimate_motion(view(scene, centered()), view(scene, centered() @ truth))
    assert motion.ok
    assert corner_error(motion.homography, truth) < 0.3


def test_moving_foreground_is_not_followed(scene: np.ndarray) -> None:
    rng = np.random.default_rng(8)
    for shift in (2.2, 6.0, 15.0):
        truth = shake(rng, 4)
        frames = [view(scene, centered()), view(scene, centered() @ truth)]
        for k, frame in enumerate(frames):
            x = round(180 + shift * k)
            frame[190:350, x : x + 300] = scene[400:560, 700:1000]  # a third of what has corners
        motion = estimate_motion(frames[0], frames[1])
        assert corner_error(motion.homography, truth / truth[2, 2]) < 0.2, shift
        assert motion.confidence < 0.95


@pytest.mark.parametrize("size", [(1280, 720), (1277, 719), (960, 540), (360, 640), (321, 241)])
def test_sizes(size: tuple[int, int]) -> None:
    # Larger than the work image, odd, upright: the motion is in pixels of the frame all the same.
    big = cv2.cvtColor(render_scene(2, (size[0] + 160, size[1] + 160)), cv2.COLOR_BGR2GRAY)
    base = np.array([[1.0, 0, 80], [0, 1, 80], [0, 0, 1]])
    truth = shake(np.random.default_rng(3), 0.01 * size[0], size)
    motion = estimate_motion(view(big, base, size), view(big, base @ truth, size))
    assert motion.ok
    assert corner_error(motion.homography, truth / truth[2, 2], size) < 0.12 * max(1, max(size) / 640)


@pytest.mark.parametrize(
    ("model", "freedom"), [("translation", 2), ("similarity", 4), ("affine", 6), ("homography", 8)]
)
def test_models_stay_in_their_group(scene: np.ndarray, model: tracking.Model, freedom: int) -> None:
    rng = np.random.default_rng(4)
    turn, scale = 0.01, 1.004
    truth = {
        "translation": np.array([[1.0, 0, 4.3], [0, 1, -2.8], [0, 0, 1]]),
        "similarity": np.array([[scale, -turn, 4.3], [turn, scale, -2.8], [0, 0, 1]]),
        "affine": np.array([[1.006, -0.012, 4.3], [0.004, 0.997, -2.8], [0, 0, 1]]),
        "homography": shake(rng),
    }[model]
    motion = estimate_motion(view(scene, centered()), view(scene, centered() @ truth), model=model)
    assert motion.ok
    assert motion.model == model
    found = motion.homography
    assert corner_error(found, truth / truth[2, 2]) < 0.12
    if freedom < 8:
        assert np.array_equal(found[2], [0, 0, 1]) or np.abs(found[2] - [0, 0, 1]).max() < 1e-15
    if freedom < 6:
        assert found[0, 0] == pytest.approx(found[1, 1], abs=1e-12)
        assert found[0, 1] == pytest.approx(-found[1, 0], abs=1e-12)
    if freedom < 4:
        assert np.abs(found[:2, :2] - np.eye(2)).max() < 1e-12


def test_same_input_same_bits(scene: np.ndarray) -> None:
    rng = np.random.default_rng(6)
    frames = [noisy(view(scene, centered() @ shake(rng)), rng) for _ in range(4)]
    runs = []
    for disturb in (0, 99):
        cv2.setRNGSeed(disturb)
        tracker = Tracker(SIZE)
        runs.append([tracker.push(frame) for frame in frames])
    assert runs[0][0] is None
    for a, b in zip(runs[0][1:], runs[1][1:], strict=True):
        assert a is not None
        assert b is not None
        assert np.array_equal(a.homography, b.homography)
        assert np.array_equal(a.points, b.points)
        assert (a.inliers, a.confidence, a.residual_px) == (b.inliers, b.confidence, b.residual_px)
    pair = estimate_motion(frames[0], frames[1])
    assert np.array_equal(pair.homography, runs[0][1].homography)


def test_threads_and_the_setting_of_opencv_do_not_matter(scene: np.ndarray) -> None:
    frames = [view(scene, centered()), view(scene, centered() @ shake(np.random.default_rng(2)))]
    before = cv2.getNumThreads()
    try:
        found = []
        for count in (1, 2):
            cv2.setNumThreads(count)
            found.append(estimate_motion(frames[0], frames[1]).homography)
            assert cv2.getNumThreads() == count
    finally:
        cv2.setNumThreads(before)
    assert np.array_equal(found[0], found[1])


def test_tracker_keeps_no_hold_on_the_buffer(scene: np.ndarray) -> None:
    truth = shake(np.random.default_rng(7))
    tracker = Tracker(SIZE)
    buffer = view(scene, centered())
    expected = estimate_motion(buffer.copy(), view(scene, centered() @ truth))
    assert tracker.push(buffer) is None
    buffer[:] = view(scene, centered() @ truth)
    motion = tracker.push(buffer)
    assert motion is not None
    assert np.array_equal(motion.homography, expected.homography)


def test_reset_starts_again(scene: np.ndarray) -> None:
    tracker = Tracker(SIZE)
    frame = view(scene, centered())
    assert tracker.push(frame) is None
    assert tracker.push(frame) is not None
    tracker.reset()
    assert tracker.push(frame) is None


def test_strided_frames(scene: np.ndarray) -> None:
    frames = [view(scene, centered()), view(scene, centered() @ shake(np.random.default_rng(1)))]
    padded = [np.zeros((360, 704), np.uint8) for _ in frames]
    for target, frame in zip(padded, frames, strict=True):
        target[:, :640] = frame
    straight = estimate_motion(frames[0], frames[1])
    strided = estimate_motion(padded[0][:, :640], padded[1][:, :640])
    assert np.array_equal(straight.homography, strided.homography)


class TestRepeatedFrames:
    def check(self, motion: Motion | None) -> None:
        assert motion is not None
        assert motion.duplicate
        assert motion.ok
        assert motion.confidence == 1
        assert motion.model == "identity"
        assert motion.residual_px == 0
        assert np.array_equal(motion.homography, np.eye(3))
        assert motion.points.shape == (0, 4)
        assert not motion.corner_covariance.any()

    def test_exact(self, scene: np.ndarray) -> None:
        frame = view(scene, centered())
        self.check(estimate_motion(frame, frame.copy()))

    def test_noise_of_a_codec(self, scene: np.ndarray) -> None:
        rng = np.random.default_rng(3)
        frame = view(scene, centered())
        again = frame.copy()
        blocks = rng.integers(0, (44, 79), (40, 2)) * 8  # a few blocks coded anew
        for y, x in blocks:
            again[y : y + 8, x : x + 8] = noisy(frame[y : y + 8, x : x + 8], rng, 3)
        self.check(estimate_motion(frame, again))

    def test_a_local_change_is_none(self, scene: np.ndarray) -> None:
        # Still shot, something moves: the motion is (nearly) the identity, but the frame is new.
        frame = view(scene, centered())
        other = frame.copy()
        other[200:260, 300:380] = scene[450:510, 600:680]
        motion = estimate_motion(frame, other)
        assert not motion.duplicate
        assert motion.ok
        assert corner_error(motion.homography, np.eye(3)) < 0.1

    def test_small_motions_are_none(self, scene: np.ndarray) -> None:
        truth = np.array([[1.0, 0, 0.3], [0, 1, 0], [0, 0, 1]])
        motion = estimate_motion(view(scene, centered()), view(scene, centered() @ truth))
        assert not motion.duplicate
        assert corner_error(motion.homography, truth) < 0.1

    def test_a_slow_drift_is_not_lost(self, scene: np.ndarray) -> None:
        tracker = Tracker(SIZE)
        step = 0.04
        total = np.eye(3)
        repeats = 0
        for k in range(26):
            truth = np.array([[1.0, 0, step * k], [0, 1, 0], [0, 0, 1]])
            motion = tracker.push(view(scene, centered() @ truth))
            if motion is not None:
                total = total @ motion.homography
                repeats += motion.duplicate
        assert repeats > 0
        assert corner_error(total, np.array([[1.0, 0, step * 25], [0, 1, 0], [0, 0, 1]])) < 0.25


class TestNothingToSee:
    @pytest.mark.parametrize("level", [0, 16, 128, 255])
    def test_flat(self, level: int) -> None:
        frame = np.full((360, 640), level, np.uint8)
        assert_unknown(estimate_motion(frame, frame.copy()))
        assert_unknown(estimate_motion(frame, np.full_like(frame, 90)))

    def test_gradient(self) -> None:
        frame = np.tile(np.linspace(0, 255, 640).astype(np.uint8), (360, 1))
        assert_unknown(estimate_motion(frame, np.roll(frame, 3, 1)))

    @pytest.mark.parametrize(("mean", "sigma"), [(128, 1), (128, 2), (128, 30), (2, 2), (5, 4)])
    def test_noise(self, mean: float, sigma: float) -> None:
        rng = np.random.default_rng(9)
        assert_unknown(estimate_motion(noise(rng, mean, sigma), noise(rng, mean, sigma)))

    def test_cut(self, scene: np.ndarray) -> None:
        other = cv2.cvtColor(render_scene(12, SIZE), cv2.COLOR_BGR2GRAY)
        assert_unknown(estimate_motion(view(scene, centered()), other))
        assert_unknown(estimate_motion(other, view(scene, centered())))

    def test_to_black_and_back(self, scene: np.ndarray) -> None:
        frame, black = view(scene, centered()), np.zeros((360, 640), np.uint8)
        tracker = Tracker(SIZE)
        motions = [tracker.push(f) for f in (frame, black, frame, frame)]
        assert motions[0] is None
        assert motions[1] is not None
        assert motions[2] is not None
        assert motions[3] is not None
        assert_unknown(motions[1])
        assert_unknown(motions[2])
        assert motions[3].duplicate

    @pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (2, 3), (23, 40), (8000, 12)])
    def test_tiny(self, size: tuple[int, int]) -> None:
        rng = np.random.default_rng(0)
        tracker = Tracker(size)
        assert tracker.push(noise(rng, 128, 40, size)) is None
        for _ in range(2):
            motion = tracker.push(noise(rng, 128, 40, size))
            assert motion is not None
            assert_unknown(motion)

    @settings(max_examples=25, deadline=None)
    @given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**31), st.sampled_from(["noise", "blocks", "lines"]))
    def test_anything_of_any_size_is_answered(self, w: int, h: int, seed: int, kind: str) -> None:
        rng = np.random.default_rng(seed)
        frames = []
        for _ in range(2):
            frame = rng.integers(0, 256, (h, w)).astype(np.uint8)
            if kind == "blocks":
                frame = np.kron(frame[::8, ::8], np.ones((8, 8), np.uint8))[:h, :w]
            elif kind == "lines":
                frame = np.repeat(frame[:1], h, 0)
            frames.append(np.ascontiguousarray(frame))
        motion = estimate_motion(frames[0], frames[1])
        assert np.isfinite(motion.homography).all()
        assert 0 <= motion.confidence <= 1
        assert motion.ok or motion.confidence == 0
        assert motion.homography[2, 2] == 1

    def test_small_but_textured(self, scene: np.ndarray) -> None:
        frame = scene[300:364, 400:464]
        motion = estimate_motion(frame, scene[301:365, 402:466])
        assert motion.ok
        assert motion.homography[:2, 2] == pytest.approx([2, 1], abs=0.3)


class TestWeakEvidence:
    def test_one_patch_gives_fewer_degrees_of_freedom(self, scene: np.ndarray) -> None:
        truth = np.array([[1.0, 0, 3.4], [0, 1, -1.7], [0, 0, 1]])
        frames = []
        for matrix in (np.eye(3), truth):
            frame = np.full((360, 640), 120, np.uint8)
            x, y = round(-matrix[0, 2] * 2), round(-matrix[1, 2] * 2)
            frame[200 + y : 260 + y, 300 + x : 380 + x] = scene[420:480, 500:580]
            frames.append(frame)
        motion = estimate_motion(frames[0], frames[1])
        assert motion.ok
        assert motion.model in ("similarity", "translation")
        assert motion.confidence < 0.5
        assert motion.homography[:2, 2] == pytest.approx([7, -3], abs=1.5)

    def test_a_strip_is_not_stretched_over_the_frame(self, scene: np.ndarray) -> None:
        # Corners along one line only: keystone and height are all but open, shift and turn are not.
        rng = np.random.default_rng(2)
        truth = np.array([[1.0, 0, 5], [0, 1, 0], [0, 0, 1]])
        for rows in (6, 16, 40):
            frames = []
            for shift in (0, 5):
                frame = noise(rng, 120, 1)
                frame[174 : 174 + rows] = scene[470 : 470 + rows, 300 + shift : 940 + shift]
                frames.append(frame)
            motion = estimate_motion(frames[0], frames[1])
            assert motion.ok
            assert corner_error(motion.homography, truth) < 1.5, rows

    def test_a_motion_no_hand_makes_is_refused(self, scene: np.ndarray) -> None:
        zoom = np.array([[0.6, 0, 128], [0, 0.6, 72], [0, 0, 1]])
        motion = estimate_motion(view(scene, centered()), view(scene, centered() @ zoom))
        assert not motion.ok or np.abs(motion.homography[0, 0] - 1) < 0.25


class TestMask:
    def test_a_fixed_logo_is_left_out(self, scene: np.ndarray) -> None:
        truth = np.array([[1.0, 0, 6], [0, 1, 3], [0, 0, 1]])
        logo = scene[350:650, 200:760]
        frames = [view(scene, centered()), view(scene, centered() @ truth)]
        for frame in frames:
            frame[40:340, 40:600] = logo
        mask = np.ones((360, 640), bool)
        mask[40:340, 40:600] = False
        blind = estimate_motion(frames[0], frames[1])
        assert corner_error(blind.homography, truth) > 1
        for usable in (mask, mask.astype(np.uint8), mask.astype(np.uint8) * 255):
            motion = estimate_motion(frames[0], frames[1], mask=usable)
            assert motion.ok
            assert corner_error(motion.homography, truth) < 0.2
            x, y = np.rint(motion.points[:, :2].T).astype(int)
            assert mask[y, x].all()

    def test_nothing_left(self, scene: np.ndarray) -> None:
        frame = view(scene, centered())
        assert_unknown(estimate_motion(frame, frame, mask=np.zeros((360, 640), bool)))

    @pytest.mark.parametrize("mask", [np.ones((360, 639), bool), np.ones((360, 640)), [[1]], np.ones(3, np.uint8)])
    def test_wrong(self, mask: object) -> None:
        with pytest.raises(ArgumentError, match="mask: expected"):
            Tracker(SIZE, mask=mask)  # type: ignore[arg-type]


class TestArguments:
    @pytest.mark.parametrize(
        "luma",
        [
            np.zeros((360, 640), np.uint16),
            np.zeros((360, 640)),
            np.zeros((640, 360), np.uint8),
            np.zeros((360, 640, 3), np.uint8),
            np.zeros((0, 640), np.uint8),
            [[1, 2], [3, 4]],
            None,
        ],
    )
    def test_luma(self, luma: object) -> None:
        tracker = Tracker(SIZE)
        with pytest.raises(ArgumentError, match="luma: expected"):
            tracker.push(luma)  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="luma: expected"):
            estimate_motion(np.zeros((360, 640), np.uint8), luma)  # type: ignore[arg-type]
        if not isinstance(luma, np.ndarray) or luma.dtype != np.uint8 or luma.ndim != 2 or luma.size == 0:
            with pytest.raises(ArgumentError, match="previous_luma: expected"):
                estimate_motion(luma, np.zeros((360, 640), np.uint8))  # type: ignore[arg-type]

    @pytest.mark.parametrize("size", [(0, 5), (5,), (5.0, 5), "ab", None, (-3, 4), (3, 4, 5)])
    def test_size(self, size: object) -> None:
        with pytest.raises(ArgumentError, match="size: expected"):
            Tracker(size)  # type: ignore[arg-type]

    @pytest.mark.parametrize("model", ["identity", "Homography", None, 8])
    def test_model(self, model: object) -> None:
        with pytest.raises(ArgumentError, match="model: expected"):
            Tracker(SIZE, model)  # type: ignore[arg-type]

    def test_a_refused_frame_changes_nothing(self, scene: np.ndarray) -> None:
        tracker = Tracker(SIZE)
        frame = view(scene, centered())
        tracker.push(frame)
        with pytest.raises(ArgumentError):
            tracker.push(np.zeros((2, 2), np.uint8))
        motion = tracker.push(frame)
        assert motion is not None
        assert motion.duplicate

    def test_without_opencv(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(name: str) -> object:
            raise ModuleNotFoundError(name)

        monkeypatch.setattr(importlib, "import_module", missing)
        monkeypatch.setattr(planes.importlib, "import_module", missing)
        Tracker(SIZE)
        with pytest.raises(DependencyError, match=re.escape(install_command("opencv"))):
            Tracker(SIZE, backend="opencv")


def test_no_numerical_warnings(scene: np.ndarray) -> None:
    rng = np.random.default_rng(11)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(4):
            estimate_motion(noise(rng, 128, 20, (64, 48)), noise(rng, 128, 20, (64, 48)))
            estimate_motion(view(scene, centered()), view(scene, centered() @ shake(rng, 60)))


@pytest.mark.parametrize(("clip", "most"), [("synth_walk", 0.09), ("synth_pan_fg", 0.09), ("synth_still", 0.09)])
def test_clips_with_known_motion(clip: str, most: float) -> None:
    if not (CLIPS / f"{clip}.mp4").exists():
        pytest.skip("the shared clips are not beside the repository")
    av = pytest.importorskip("av", reason="PyAV is an optional package")
    to_photo = np.load(CLIPS / f"{clip}.npz")["H"]
    tracker = Tracker(SIZE)
    errors = []
    with av.open(str(CLIPS / f"{clip}.mp4")) as container:
        for t, frame in enumerate(container.decode(video=0)):
            if t == 25:
                break
            motion = tracker.push(frame.to_ndarray(format="gray"))
            if motion is not None:
                truth = np.linalg.solve(to_photo[t - 1], to_photo[t])
                errors.append(corner_error(motion.homography, truth / truth[2, 2]))
    assert np.sqrt(np.mean(np.square(errors))) < most


def by_opencv(previous: np.ndarray, luma: np.ndarray) -> np.ndarray:
    """The usual arrangement: corners of the whole picture, Lucas-Kanade both ways, USAC."""
    corners = cv2.goodFeaturesToTrack(previous, 300, 0.005, 8)
    settings = {"winSize": (15, 15), "maxLevel": 3, "criteria": (3, 20, 0.01)}
    there, good, _ = cv2.calcOpticalFlowPyrLK(previous, luma, corners, None, **settings)
    back, again, _ = cv2.calcOpticalFlowPyrLK(luma, previous, there, None, **settings)
    kept = (good.ravel() > 0) & (again.ravel() > 0) & (np.linalg.norm((back - corners)[:, 0], axis=1) < 0.5)
    found, _ = cv2.findHomography(there[kept], corners[kept], cv2.USAC_FAST, 1.0, maxIters=2000, confidence=0.999)
    return np.eye(3) if found is None else np.asarray(found)


@pytest.mark.parametrize("clip", ["synth_walk", "synth_walk_rs", "synth_pan_fg", "synth_still", "synth_run_blur2"])
def test_as_accurate_as_opencv_on_known_motion(clip: str) -> None:
    """Over all pairs: medians hide those that fail, as between a sharp and a blurred picture."""
    if not (CLIPS / f"{clip}.mp4").exists():
        pytest.skip("the shared clips are not beside the repository")
    av = pytest.importorskip("av", reason="PyAV is an optional package")
    to_photo = np.load(CLIPS / f"{clip}.npz")["H"]
    errors: dict[str, list[float]] = {"native": [], "opencv": [], "usual": []}
    trackers = {"native": Tracker(SIZE), "opencv": Tracker(SIZE, backend="opencv")}
    previous = None
    with av.open(str(CLIPS / f"{clip}.mp4")) as container:
        for t, frame in enumerate(container.decode(video=0)):
            luma = frame.to_ndarray(format="gray")
            motions = {name: tracker.push(luma) for name, tracker in trackers.items()}
            if previous is not None:
                truth = np.linalg.solve(to_photo[t - 1], to_photo[t])
                truth /= truth[2, 2]
                for name, motion in motions.items():
                    assert motion is not None
                    assert motion.ok
                    errors[name].append(corner_error(motion.homography, truth))
                errors["usual"].append(corner_error(by_opencv(previous, luma), truth))
            previous = luma

    def rms(error: list[float]) -> float:
        return float(np.sqrt(np.mean(np.square(error))))

    for name, error in errors.items():  # for the page on the kernels, with pytest -s
        print(f"{clip}, {name}: {rms(error):.3f} px, median {np.median(error):.3f}, worst {max(error):.2f}")
    ours, *theirs = (rms(error) for error in errors.values())
    assert ours <= 1.15 * min(theirs)


@pytest.mark.parametrize(
    ("kind", "blur", "gain", "seed", "most"),
    [("run", 0.5, 1, 11, 0.5), ("run", 0.7, 1, 12, 1.0), ("walk", 0, 0.08, 13, 0.8)],
)
def test_blurred_and_dark_pictures_keep_their_points(
    kind: Kind, blur: float, gain: float, seed: int, most: float, tmp_path: Path
) -> None:
    """Between a sharp and a blurred picture the difference is no noise, and points are as good as ever."""
    av = pytest.importorskip("av", reason="PyAV is an optional package")
    truth = synthesize(tmp_path / "clip.mp4", kind=kind, motion_blur=blur, seed=seed, frames=40)
    tracker, rng = Tracker(truth.size), np.random.default_rng(seed)
    errors = []
    with av.open(str(tmp_path / "clip.mp4")) as container:
        for t, frame in enumerate(container.decode(video=0)):
            picture = frame.to_ndarray(format="gray")
            if gain != 1:
                picture = noisy((16 + gain * picture.astype(float)), rng, 3)
            motion = tracker.push(picture)
            if motion is not None:
                assert motion.ok
                errors.append(corner_error(motion.homography, truth.motion[t]))
    assert np.sqrt(np.mean(np.square(errors))) < most


@pytest.mark.parametrize("apart", [(-30, 12), (40, -20)])
def test_what_does_not_go_with_the_picture_is_followed_too(apart: tuple[int, int]) -> None:
    """Most points begin where a few say that the picture went; the others are found as well."""
    whole, other = (clips.scene((420, 300), seed).mean(2).astype(np.uint8) for seed in (3, 8))
    steps = {False: np.array([3, -2]), True: np.array(apart)}

    def view(t: int) -> np.ndarray:
        x, y = 50 + t * steps[False]
        picture = whole[y : y + 200, x : x + 320].copy()
        x, y = 50 + t * steps[True]
        picture[:, 200:] = other[y : y + 200, x : x + 120]
        return picture

    tracker = Tracker((320, 200))
    assert tracker.push(view(0)) is None
    motion = tracker.push(view(1))
    assert motion is not None
    # The scene moves against the window.
    here, there = motion.points[:, :2], motion.points[:, 2:]
    right = there[:, 0] > 240
    left = there[:, 0] < 190
    for side, moved in ((right, True), (left, False)):
        assert side.sum() >= 20
        assert np.median(np.abs(there[side] - here[side] - steps[moved])) < 0.1
