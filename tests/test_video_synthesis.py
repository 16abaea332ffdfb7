from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from legato._extras import install_command
from legato.errors import ArgumentError, DependencyError, InputError, OutputError
from legato.video.motion.tracking import Tracker
from legato.video.synthetic import scenery, synthesis
from legato.video.synthetic.scenery import render_scene
from legato.video.synthetic.synthesis import GroundTruth, camera_path, synthesize

cv2 = pytest.importorskip("cv2", reason="OpenCV is an optional package")
av = pytest.importorskip("av", reason="PyAV is an optional package")

KINDS: list[Any] = ["still", "walk", "pan", "run", "zoom"]
SMALL: dict[str, Any] = {"size": (320, 180), "frames": 4}


def decoded(path: Path, pixel_format: str = "gray") -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format=pixel_format) for frame in container.decode(video=0)]


def corner_error(a: np.ndarray, b: np.ndarray, size: tuple[int, int]) -> float:
    w, h = size
    corners = np.array([[0, w, w, 0], [0, 0, h, h], [1, 1, 1, 1]]) - 0.5
    corners[2] = 1
    p, q = (matrix @ corners for matrix in (a, b))
    return float(np.sqrt((((p / p[2]) - (q / q[2])) ** 2).sum(0).mean()))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, GroundTruth]:
    """A walk of 24 frames with sound."""
    path = tmp_path_factory.mktemp("clip") / "walk.mp4"
    return path, synthesize(path, size=(480, 270), frames=24, audio=True)


@pytest.fixture(autouse=True)
def _drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes half a second; the tests of films share their scenes."""
    monkeypatch.setattr(synthesis, "render_scene", _scene)


@functools.cache
def _scene(seed: int, size: tuple[int, int]) -> np.ndarray:
    picture = render_scene(seed, size)
    picture.flags.writeable = False
    return picture


class TestScene:
    def test_same_seed_same_picture(self) -> None:
        first, second = render_scene(4, (128, 72)), render_scene(4, (128, 72))
        assert np.array_equal(first, second)
        assert first.shape == (72, 128, 3)
        assert first.dtype == np.uint8
        assert not np.array_equal(first, render_scene(5, (128, 72)))

    @pytest.mark.parametrize("size", [(16, 16), (32, 16), (30, 90)])
    def test_any_shape(self, size: tuple[int, int]) -> None:
        assert render_scene(0, size).shape == (size[1], size[0], 3)

    def test_rich_in_corners_everywhere_below_the_sky(self) -> None:
        gray = cv2.cvtColor(_scene(1, (960, 540)), cv2.COLOR_BGR2GRAY)
        response = cv2.cornerMinEigenVal(gray, 5)
        cells = response[220:520].reshape(5, 60, 12, 80).max(axis=(1, 3))
        assert (cells > 1e-3).mean() > 0.95
        assert len(np.unique(gray)) > 150

    def test_nothing_finer_than_sampling_can_show(self) -> None:
        gray = cv2.cvtColor(_scene(1, (960, 540)), cv2.COLOR_BGR2GRAY).astype(np.float64)
        power = np.abs(np.fft.rfft2(gray - gray.mean())) ** 2
        fy, fx = np.fft.fftfreq(540)[:, None], np.fft.rfftfreq(960)[None]
        assert power[np.hypot(fx, fy) > 0.4].sum() < 5e-3 * power.sum()

    @pytest.mark.parametrize("size", [(15, 100), (100,), (100.0, 100), (20_000, 20_000), (500, 100), "big"])
    def test_wrong_size(self, size: Any) -> None:
        with pytest.raises(ArgumentError, match=r"^size: expected"):
            render_scene(1, size)

    @pytest.mark.parametrize("seed", [-1, 1.5, None, True])
    def test_wrong_seed(self, seed: Any) -> None:
        with pytest.raises(ArgumentError, match=r"^seed: expected"):
            render_scene(seed, (64, 64))


class TestPath:
    @pytest.mark.parametrize("kind", KINDS)
    def test_intended_is_smooth_and_shake_is_not(self, kind: Any) -> None:
        path = camera_path(kind, seed=2, frames=120)
        assert path.intended.shape == path.shaken.shape == (960, 4)
        step = 1 / (30 * path.samples_per_frame)
        second = [np.diff(poses[:, :3], 2, axis=0) / step**2 for poses in (path.intended, path.shaken)]
        assert np.abs(second[0]).max() < 20  # degrees per second squared
        assert np.abs(second[1]).max() > 100
        # Twice continuously differentiable: the second derivative changes little from sample to sample.
        assert np.abs(np.diff(second[0], axis=0)).max() < 0.3
        assert (path.intended[:, 2] == 0).all()
        assert np.array_equal(path.intended[:, 3], path.shaken[:, 3])

    def test_kinds_are_what_they_say(self) -> None:
        paths = {kind: camera_path(kind, frames=240) for kind in KINDS}
        turned = {kind: np.ptp(path.intended[:, 0]) for kind, path in paths.items()}
        shaken = {kind: (path.shaken - path.intended)[:, 1].std() for kind, path in paths.items()}
        assert turned["still"] == 0
        assert turned["pan"] == pytest.approx(16)
        assert shaken["run"] > 2 * shaken["walk"] > 2 * shaken["still"]
        assert paths["zoom"].intended[-1, 3] == pytest.approx(1.35)
        assert paths["walk"].intended[:, 3].std() == 0

    def test_steps_and_tremor_have_their_frequencies(self) -> None:
        path = camera_path("walk", frames=480)
        shake = (path.shaken - path.intended)[:, 1]
        power = np.abs(np.fft.rfft(shake)) ** 2
        frequency = np.fft.rfftfreq(len(shake), 1 / 240)
        assert 1.75 < frequency[np.argmax(power)] < 2.05
        tremor = power[(frequency > 7.9) & (frequency < 12.1)].sum()
        assert np.sqrt(2 * tremor) / len(shake) == pytest.approx(0.06, rel=0.15)
        assert power[frequency > 13].sum() < 1e-3 * power.sum()

    def test_seeds(self) -> None:
        a, b, c = (camera_path("walk", seed=seed, frames=20).shaken for seed in (1, 1, 2))
        assert np.array_equal(a, b)
        assert not np.array_equal(a, c)

    @pytest.mark.parametrize("frames", [1, 2, 3])
    @pytest.mark.parametrize("kind", KINDS)
    def test_short(self, kind: Any, frames: int) -> None:
        path = camera_path(kind, frames=frames, fps=5)
        assert np.isfinite(path.shaken).all()
        assert np.isfinite(path.at(frames - 1)).all()

    def test_time_is_held_beyond_the_ends_and_linear_between_samples(self) -> None:
        path = camera_path("run", frames=10)
        assert np.array_equal(path.at(-3), path.shaken[0])
        assert np.allclose(path.at(99), path.shaken[-1], atol=1e-15)
        assert np.array_equal(path.at(4, shaken=False), path.intended[4 * path.samples_per_frame])
        assert path.at(4 + 0.5 / path.samples_per_frame) == pytest.approx(path.shaken[32:34].mean(0))

    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("kind", {"kind": "fly"}),
            ("seed", {"seed": -1}),
            ("frames", {"frames": 0}),
            ("frames", {"frames": 2.0}),
            ("fps", {"fps": 0.5}),
            ("fps", {"fps": float("nan")}),
            ("fps", {"fps": "30"}),
        ],
    )
    def test_wrong(self, name: str, arguments: dict[str, Any]) -> None:
        with pytest.raises(ArgumentError, match=rf"^{name}: expected"):
            camera_path(**arguments)


class TestTruth:
    def test_motion_goes_from_each_frame_to_the_one_before(self, clip: tuple[Path, GroundTruth]) -> None:
        _, truth = clip
        assert truth.motion.shape == truth.intended_motion.shape == (24, 3, 3)
        assert np.array_equal(truth.motion[0], np.eye(3))
        for t in (1, 12, 23):
            to_scene = truth.camera_to_scene[t - 1] @ truth.motion[t]
            assert np.allclose(to_scene / to_scene[2, 2], truth.camera_to_scene[t], atol=1e-9)
        assert (truth.motion[:, 2, 2] == 1).all()

    def test_the_camera_turns_about_one_point(self, clip: tuple[Path, GroundTruth]) -> None:
        # A pure rotation leaves K^-1 H K orthogonal up to scale: no homography but those of a turning camera.
        _, truth = clip
        w, h = truth.size
        focal = w / 2 / np.tan(np.radians(55) / 2)
        camera = np.array([[focal, 0, (w - 1) / 2], [0, focal, (h - 1) / 2], [0, 0, 1]])
        for motion in truth.motion[1::6]:
            turn = np.linalg.solve(camera, motion @ camera)
            turn /= np.cbrt(np.linalg.det(turn))
            assert np.allclose(turn @ turn.T, np.eye(3), atol=1e-9)

    def test_pictures_show_it(self, clip: tuple[Path, GroundTruth]) -> None:
        path, truth = clip
        frames = decoded(path)
        assert len(frames) == 24
        assert frames[0].shape == (270, 480)
        tracker = Tracker(truth.size)
        errors = []
        for frame, motion in zip(frames, truth.motion, strict=True):
            found = tracker.push(frame)
            if found is not None:
                assert found.ok
                errors.append(corner_error(found.homography, motion, truth.size))
        assert np.sqrt(np.mean(np.square(errors))) < 0.1

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("size", [(640, 360), (180, 320), (3840, 2160)])
    def test_the_scene_is_large_enough(self, kind: Any, size: tuple[int, int]) -> None:
        for seed in range(2):
            film = synthesis._Film.of(kind=kind, seed=seed, size=size, frames=40, fps=10)
            w, h = size
            corners = np.array([[0, w - 1, w - 1, 0], [0, 0, h - 1, h - 1], [1, 1, 1, 1]])
            for matrix in (*film.truth.camera_to_scene, *film.truth.intended_to_scene):
                seen = matrix @ corners
                x, y = seen[:2] / seen[2]
                assert x.min() >= 0
                assert y.min() >= 0
                assert x.max() <= film.scene_size[0] - 1
                assert y.max() <= film.scene_size[1] - 1
            assert film.density > 0.9
            assert film.scene_size[0] * film.scene_size[1] < 37_000_000

    def test_save_and_load(self, clip: tuple[Path, GroundTruth], tmp_path: Path) -> None:
        _, truth = clip
        for name in ("truth.npz", "truth"):
            truth.save(tmp_path / name)
            again = GroundTruth.load(tmp_path / name)
            assert np.array_equal(again.camera_to_scene, truth.camera_to_scene)
            assert np.array_equal(again.intended_to_scene, truth.intended_to_scene)
            assert (again.size, again.fps) == (truth.size, truth.fps)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["truth", "truth.npz"]

    def test_load_refuses_other_files(self, tmp_path: Path) -> None:
        (tmp_path / "text.npz").write_text("no archive")
        (tmp_path / "empty.npz").write_bytes(b"")
        np.savez(tmp_path / "other.npz", a=np.zeros(3))
        np.savez(tmp_path / "shape.npz", camera_to_scene=1, intended_to_scene=1, size=(1, 2), fps=30)
        np.save(tmp_path / "array.npy", np.zeros(3))
        for name in ("text.npz", "empty.npz", "other.npz", "shape.npz", "array.npy", "missing.npz"):
            with pytest.raises(InputError, match=name):
                GroundTruth.load(tmp_path / name)

    def test_shapes_are_checked(self) -> None:
        good = np.tile(np.eye(3), (4, 1, 1))
        with pytest.raises(ArgumentError, match=r"^camera_to_scene: expected"):
            GroundTruth(np.eye(3), good, (64, 48), 30.0)
        with pytest.raises(ArgumentError, match=r"^intended_to_scene: expected"):
            GroundTruth(good, good[:3], (64, 48), 30.0)


class TestFilm:
    def test_same_arguments_same_file(self, tmp_path: Path) -> None:
        for name in ("a.mp4", "b.mp4"):
            synthesize(tmp_path / name, **SMALL)
        assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
        synthesize(tmp_path / "c.mp4", **SMALL, seed=2)
        assert (tmp_path / "c.mp4").read_bytes() != (tmp_path / "a.mp4").read_bytes()

    def test_noise_is_new_in_each_frame_and_as_strong_as_asked(self) -> None:
        common: dict[str, Any] = {"kind": "still", "seed": 1, "size": (320, 180), "frames": 3, "fps": 30}
        clean = list(synthesis._Film.of(**common, noise=0).pictures())
        noisy = list(synthesis._Film.of(**common, noise=4).pictures())
        grain = [b.astype(float) - a for a, b in zip(clean, noisy, strict=True)]
        assert grain[0].std() == pytest.approx(4, rel=0.1)
        assert abs(np.corrcoef(grain[0].ravel(), grain[1].ravel())[0, 1]) < 0.02

    def test_rolling_shutter_bends_frames_about_the_middle_row(self) -> None:
        common: dict[str, Any] = {"kind": "run", "seed": 1, "size": (320, 180), "frames": 12, "fps": 30}
        film = synthesis._Film.of(**common, rolling_shutter=0.8)
        still = synthesis._Film.of(**common)
        scene = _scene(1, film.scene_size)
        assert np.array_equal(film.truth.camera_to_scene[4], film.to_scene(4.4))
        rolled = film._exposed(scene, 4.0).astype(float)
        middle = still._exposed(scene, 4.4).astype(float)
        off = np.abs(rolled - middle).mean(axis=(1, 2))
        assert off[88:92].max() < 0.3 * off[[10, 11, 12, -12, -11, -10]].mean()

    def test_motion_blur_takes_detail_away(self) -> None:
        common: dict[str, Any] = {"kind": "run", "seed": 1, "size": (320, 180), "frames": 4, "fps": 30}
        sharp, blurred = (
            list(synthesis._Film.of(**common, motion_blur=blur).pictures())[3].astype(np.float32) for blur in (0, 0.9)
        )
        assert cv2.Laplacian(blurred, cv2.CV_32F).std() < 0.8 * cv2.Laplacian(sharp, cv2.CV_32F).std()
        assert blurred.mean() == pytest.approx(sharp.mean(), rel=0.03)

    def test_foreground_moves_on_its_own(self) -> None:
        common: dict[str, Any] = {"kind": "still", "seed": 1, "size": (320, 180), "frames": 90, "fps": 30}
        film, empty = synthesis._Film.of(**common, foreground=True), synthesis._Film.of(**common)
        scene = _scene(1, film.scene_size)
        ferry = scenery.draw_ferry(1, film.scene_size)
        before = scene.copy()
        covered = []
        for time in (0.0, 2.9):
            view = ferry.before(scene, time)
            changed = (view != scene).any(axis=2)
            covered.append(changed)
            assert 0.05 < changed.mean() < 0.3
        assert np.array_equal(scene, before)
        columns = [np.flatnonzero(c.any(0)).mean() for c in covered]
        assert abs(columns[0] - columns[1]) > 0.04 * scene.shape[1]
        pictures = [next(iter(f.pictures())) for f in (film, empty)]
        assert (pictures[0] != pictures[1]).any(axis=2).mean() > 0.1

    @pytest.mark.parametrize("size", [(64, 64), (64, 240)])
    def test_foreground_fits_any_shape(self, size: tuple[int, int]) -> None:
        film = synthesis._Film.of(kind="still", seed=1, size=size, frames=2, fps=30, foreground=True)
        assert all(picture.shape == (size[1], size[0], 3) for picture in film.pictures())

    def test_sound(self, clip: tuple[Path, GroundTruth], tmp_path: Path) -> None:
        path, _ = clip
        with av.open(str(path)) as container:
            (stream,) = container.streams.audio
            assert stream.codec_context.name == "aac"
            sound = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
        assert sound.shape[0] == 2
        assert sound.shape[1] / 48_000 == pytest.approx(0.8, abs=0.05)
        assert 0.02 < sound.std() < 0.5
        assert np.abs(sound).max() <= 1.01
        synthesize(tmp_path / "silent.mkv", **SMALL)
        with av.open(str(tmp_path / "silent.mkv")) as container:
            assert not container.streams.audio

    def test_steps_are_heard_where_somebody_walks(self) -> None:
        loud = {}
        for kind in ("still", "walk"):
            film = synthesis._Film.of(kind=kind, seed=1, size=(64, 64), frames=90, fps=30)
            loud[kind] = np.abs(synthesis._sound(film)).max()
        assert loud["walk"] > 1.3 * loud["still"]

    @pytest.mark.parametrize("fps", [12.5, 24000 / 1001, 60])
    def test_frame_rates(self, tmp_path: Path, fps: float) -> None:
        truth = synthesize(tmp_path / "clip.mp4", **SMALL, fps=fps)
        assert truth.fps == fps
        with av.open(str(tmp_path / "clip.mp4")) as container:
            assert float(container.streams.video[0].average_rate) == pytest.approx(fps, rel=1e-4)

    def test_one_frame(self, tmp_path: Path) -> None:
        truth = synthesize(tmp_path / "clip.mov", size=(64, 64), frames=1, audio=True)
        assert truth.motion.shape == (1, 3, 3)
        assert len(decoded(tmp_path / "clip.mov")) == 1


class TestWriting:
    @pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError, MemoryError])
    def test_nothing_is_left_of_a_failure(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: type[BaseException]
    ) -> None:
        whole = synthesis._Film.pictures

        def some(film: synthesis._Film) -> Iterator[np.ndarray]:
            pictures = whole(film)
            yield next(pictures)
            yield next(pictures)
            raise failure

        monkeypatch.setattr(synthesis._Film, "pictures", some)
        path = tmp_path / "clip.mp4"
        with pytest.raises(failure):
            synthesize(path, **SMALL)
        assert list(tmp_path.iterdir()) == []
        path.write_bytes(b"what was there before")
        with pytest.raises(failure):
            synthesize(path, **SMALL, audio=True)
        assert list(tmp_path.iterdir()) == [path]
        assert path.read_bytes() == b"what was there before"

    def test_the_file_appears_when_it_is_complete(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = synthesis._Film.pictures
        path = tmp_path / "clip.mp4"

        def watched(film: synthesis._Film) -> Iterator[np.ndarray]:
            for picture in whole(film):
                assert not path.exists()
                yield picture

        monkeypatch.setattr(synthesis._Film, "pictures", watched)
        synthesize(path, **SMALL)
        assert list(tmp_path.iterdir()) == [path]

    def test_an_existing_file_is_replaced(self, tmp_path: Path) -> None:
        path = tmp_path / "clip.mp4"
        path.write_bytes(b"old")
        synthesize(str(path), **SMALL)
        assert len(decoded(path)) == 4

    def test_nowhere_to_write(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError):
            synthesize(tmp_path / "missing" / "clip.mp4", **SMALL)
        (tmp_path / "folder.mp4").mkdir()
        with pytest.raises(OutputError):
            synthesize(tmp_path / "folder.mp4", **SMALL)

    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("path", {"path": "clip.avi"}),
            ("path", {"path": "clip"}),
            ("kind", {"kind": "swim"}),
            ("kind", {"kind": None}),
            ("seed", {"seed": -2}),
            ("seed", {"seed": "1"}),
            ("size", {"size": (321, 180)}),
            ("size", {"size": (320, 181)}),
            ("size", {"size": (30, 30)}),
            ("size", {"size": (5000, 3000)}),
            ("size", {"size": (640, 64)}),
            ("size", {"size": 640}),
            ("frames", {"frames": 0}),
            ("frames", {"frames": 10.5}),
            ("fps", {"fps": 0}),
            ("fps", {"fps": 1000}),
            ("rolling_shutter", {"rolling_shutter": -0.1}),
            ("rolling_shutter", {"rolling_shutter": 1.1}),
            ("motion_blur", {"motion_blur": 2}),
            ("motion_blur", {"motion_blur": None}),
            ("noise", {"noise": -1}),
            ("noise", {"noise": float("nan")}),
            ("noise", {"noise": True}),
        ],
    )
    def test_wrong_arguments(self, tmp_path: Path, name: str, arguments: dict[str, Any]) -> None:
        given = {"path": tmp_path / "clip.mp4", **SMALL, **arguments}
        with pytest.raises(ArgumentError, match=rf"^{name}: expected"):
            synthesize(**given)
        assert list(tmp_path.iterdir()) == []

    def test_without_pyav(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = importlib.import_module

        def missing(name: str) -> Any:
            if name == "av":
                raise ModuleNotFoundError(name)
            return whole(name)

        monkeypatch.setattr(importlib, "import_module", missing)
        with pytest.raises(DependencyError, match=re.escape(install_command("video"))):
            synthesize(tmp_path / "clip.mp4", **SMALL)
        assert list(tmp_path.iterdir()) == []
