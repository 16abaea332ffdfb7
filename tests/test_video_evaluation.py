"""The metrics of a stabilized video, on pairs whose answer is known."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clips import scene, shaky, write_clip
from legato import camera, video
from legato.cli import main
from legato.errors import ArgumentError, InputError
from legato.video.media.reader import VideoReader
from legato.video.media.writer import VideoWriter
from legato.video.results import evaluation

SHARED = Path(__file__).parents[1].parent / "shared"
LARGE = (320, 240)
Pictures = list[np.ndarray]


def stored(path: Path, pictures: Pictures) -> Path:
    return write_clip(path, pictures, codec="ffv1", pixel_format="yuv444p")


def warped(pictures: Pictures, maps: np.ndarray, size: tuple[int, int] | None = None) -> Pictures:
    """Pictures seen through maps from original to result."""
    return [
        np.asarray(video.warp(p, np.linalg.inv(m), size or (p.shape[1], p.shape[0]), interpolation="bicubic"))
        for p, m in zip(pictures, maps, strict=True)
    ]


def about_center(affine: np.ndarray, size: tuple[int, int] = LARGE) -> np.ndarray:
    center = (np.array(size) - 1) / 2
    out = np.eye(3)
    out[:2, :2] = affine
    out[:2, 2] = center - affine @ center
    return out


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return list(shaky(10, LARGE, amplitude=5))


@pytest.fixture(scope="module")
def original(pictures: Pictures, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored(tmp_path_factory.mktemp("original") / "a.mkv", pictures)


def test_a_video_against_itself(original: Path) -> None:
    m = video.evaluate(original, original)
    assert m.frames == 10
    for value in (m.cropping, m.cropping_min, m.distortion, m.distortion_p5):
        assert value == pytest.approx(1, abs=1e-12)
    assert m.jitter_ratio == m.track_jitter_ratio == m.sharpness == 1
    assert m.border == m.outside == m.unmatched_frames == m.unknown_motions == 0


def test_jitter_is_that_of_the_known_shake(original: Path) -> None:
    # As `shaky` draws it: whole pixels, the same at all corners.
    rng = np.random.default_rng(1)
    at = np.array([rng.integers(-5, 6, 2) + np.array([t // 2, 0]) for t in range(10)])
    bend = np.diff(at, 2, axis=0) * 640 / LARGE[0]
    expected = math.sqrt((bend**2).sum(1).mean())
    m = video.evaluate(original, original)
    assert m.original_jitter_px == pytest.approx(expected, rel=0.01)
    assert m.original_track_jitter_px == pytest.approx(expected, rel=0.03)
    assert m.jitter_median_px == pytest.approx(np.median(np.hypot(*bend.T)), rel=0.02)


@pytest.mark.parametrize(
    ("affine", "cropping", "distortion"),
    [
        (np.diag([1.25, 1.25]), 0.8, 1.0),
        (np.diag([1.44, 1.2]), 1 / math.sqrt(1.44 * 1.2), 1 / 1.2),
        (np.array([[1.1, 0.22], [0, 1.1]]), 1 / 1.1, 0.8190),  # a shear of 0.2 has no eigenvalue but one
        (1.3 * np.array([[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]]), 1 / 1.3, 1.0),
        (np.diag([0.95, 0.95]), 1.0, 1.0),
    ],
    ids=["zoom", "stretch", "shear", "roll", "smaller"],
)
def test_cropping_and_distortion(
    original: Path, pictures: Pictures, tmp_path: Path, affine: np.ndarray, cropping: float, distortion: float
) -> None:
    maps = np.tile(about_center(affine), (len(pictures), 1, 1))
    m = video.evaluate(original, stored(tmp_path / "b.mkv", warped(pictures, maps)))
    assert m.unmatched_frames == 0
    assert m.cropping == pytest.approx(cropping, abs=0.003)
    assert m.cropping_min == pytest.approx(cropping, abs=0.01)
    assert m.distortion_p5 == pytest.approx(distortion, abs=0.01)
    # What a constant zoom does to jitter: it makes it larger.
    assert m.jitter_ratio == pytest.approx(float(np.sqrt((affine**2).sum() / 2)), rel=0.1)


def test_the_size_of_the_result_does_not_matter(original: Path, pictures: Pictures, tmp_path: Path) -> None:
    half = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1.0]])
    small = warped(pictures, np.tile(half, (10, 1, 1)), (160, 120))
    m = video.evaluate(original, stored(tmp_path / "b.mkv", small))
    assert (m.size, m.stabilized_size) == (LARGE, (160, 120))
    assert m.cropping == pytest.approx(1, abs=0.005)
    assert m.jitter_ratio == pytest.approx(1, abs=0.02)
    assert m.track_jitter_ratio == pytest.approx(1, abs=0.04)
    assert m.outside == 0


@pytest.mark.parametrize("fill", [None, 0], ids=["replicated", "black"])
def test_what_lies_outside_is_found(original: Path, pictures: Pictures, tmp_path: Path, fill: int | None) -> None:
    shift = np.tile(np.eye(3), (10, 1, 1))
    shift[:, 0, 2] = 40
    shifted = warped(pictures, shift)
    if fill is not None:
        for picture in shifted:
            picture[:, :40] = fill
    m = video.evaluate(original, stored(tmp_path / "b.mkv", shifted))
    assert m.outside == pytest.approx(40 / 320, abs=0.02)
    assert m.border == (pytest.approx(40 / 320, abs=0.005) if fill == 0 else 0)
    assert m.original_border == 0


def test_a_soft_picture_is_told(original: Path, pictures: Pictures, tmp_path: Path) -> None:
    soft = [((p.astype(int) + np.roll(p, 1, 0) + np.roll(p, 1, 1) + np.roll(p, 1, (0, 1))) // 4) for p in pictures]
    m = video.evaluate(original, stored(tmp_path / "b.mkv", [p.astype(np.uint8) for p in soft]))
    assert m.sharpness < 0.7


def test_a_stabilized_clip_is_found_steadier(original: Path, tmp_path: Path) -> None:
    report = video.stabilize(
        original, tmp_path / "b.mkv", codec="ffv1", guard=False
    )  # which leaves so few frames alone
    m = video.evaluate(original, tmp_path / "b.mkv")
    assert m.jitter_ratio < 0.2
    assert m.track_jitter_ratio < 0.2
    assert m.cropping == pytest.approx(report.cropping, abs=0.005)
    assert m.outside == 0
    assert m.slow_share > m.original_slow_share


def test_dropped_frames_need_an_offset(original: Path, pictures: Pictures, tmp_path: Path) -> None:
    late = stored(tmp_path / "late.mkv", pictures[3:8])
    with pytest.raises(InputError, match=r"5 frames against 10 .*offset"):
        video.evaluate(original, late)
    with pytest.raises(InputError, match=r"10 frames against 5 .*offset"):
        video.evaluate(late, original)
    m = video.evaluate(original, late, offset=3)
    assert m.frames == 5
    assert m.cropping == pytest.approx(1, abs=1e-12)
    assert m.jitter_ratio == 1


def test_another_scene_is_refused(original: Path, tmp_path: Path) -> None:
    other = stored(tmp_path / "b.mkv", list(shaky(10, LARGE, seed=9)))
    with pytest.raises(InputError, match="10 of 10 pictures do not resemble"):
        video.evaluate(original, other)


@pytest.mark.parametrize("offset", [-1, 1.5, True, 11])
def test_bad_offset(original: Path, offset: object) -> None:
    with pytest.raises(ArgumentError, match="offset"):
        video.evaluate(original, original, offset=offset)  # type: ignore[arg-type]


def test_offset_beyond_the_end(original: Path) -> None:
    with pytest.raises(InputError, match="no frame to compare"):
        video.evaluate(original, original, offset=10)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_frames(pictures: Pictures, tmp_path: Path, count: int) -> None:
    clip = stored(tmp_path / "a.mkv", pictures[:count])
    m = video.evaluate(clip, clip)
    assert m.frames == count
    assert m.cropping == 1
    assert (m.jitter_px > 0) == (count > 2)
    json.loads(m.to_json())


def test_tiny_pictures_are_refused(tmp_path: Path) -> None:
    clip = stored(tmp_path / "a.mkv", [scene((16, 16))] * 3)
    with pytest.raises(InputError, match="16x16 is too small"):
        video.evaluate(clip, clip)


def test_what_is_not_known_is_null(tmp_path: Path) -> None:
    clip = stored(tmp_path / "a.mkv", [scene((64, 48))] * 2)
    m = video.evaluate(clip, clip)
    assert math.isnan(m.track_jitter_px)
    assert math.isnan(m.jitter_ratio)
    assert json.loads(m.to_json())["track_jitter_px"] is None


def test_progress_counts_frames(original: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    video.evaluate(original, original, progress=lambda *step: seen.append(step))
    assert seen == [("measure", t, 10) for t in range(1, 11)]


def test_nothing_to_match_is_said(tmp_path: Path) -> None:
    black = write_clip(tmp_path / "black.mp4", [np.zeros((120, 160, 3), np.uint8)] * 6)
    with pytest.raises(InputError, match=r"black\.mp4: nothing in it can be followed"):
        video.evaluate(black, black)


def test_the_bar_is_for_terminals(
    original: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for terminal, quiet in ((False, False), (True, False), (True, True)):
        monkeypatch.setattr("sys.stderr.isatty", lambda terminal=terminal: terminal)
        assert main(["evaluate", str(original), str(original), *(["--quiet"] if quiet else [])]) == 0
        out, err = capsys.readouterr()
        assert "jitter, px" in out
        assert ("measuring" in err) == (terminal and not quiet)


@pytest.mark.parametrize(("limited", "value", "found"), [(True, 16, True), (True, 30, False), (False, 5, True)])
def test_black_is_black_in_either_range(limited: bool, value: int, found: bool) -> None:
    picture = np.full((60, 80), 100, np.uint8)
    picture[:, :8] = value
    picture[20:30, 40:50] = value  # inside: no border
    black = 16 + 9 if limited else 10
    assert evaluation._border(picture, black) == pytest.approx(0.1 if found else 0)


def test_command(original: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["evaluate", str(original), str(original)]) == 0
    assert "jitter of tracks" in capsys.readouterr().out
    assert main(["evaluate", str(original), str(original), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["jitter_ratio"] == content["track_jitter_ratio"] == 1
    assert main(["evaluate", str(original), str(tmp_path / "none.mp4")]) == 1
    assert main(["evaluate", str(original), str(original), "--offset", "-2"]) == 2
    assert "offset" in capsys.readouterr().err


@pytest.fixture
def first_frames(tmp_path: Path) -> Callable[[str, int], Path]:
    def cut(name: str, count: int) -> Path:
        with VideoReader(SHARED / "clips" / f"{name}.mp4") as reader:
            out = tmp_path / f"{name}.mkv"
            with VideoWriter(out, reader, codec="ffv1") as writer:
                for frame in reader:
                    if frame.index < count:
                        writer.write(frame.planes, frame.pts, frame.duration)
        return out

    return cut


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nus_plaza", "synth_walk"])
def test_agrees_with_an_independent_script(name: str, first_frames: Callable[[str, int], Path], tmp_path: Path) -> None:
    script = SHARED / "eval" / "stab_metrics.py"
    if not script.exists():
        pytest.skip("the clips and the script for local measurement are not here")
    clip = first_frames(name, 40)
    video.stabilize(clip, tmp_path / "out.mkv", options=camera.PathOptions(crop=0.12, inset_px=0.5), codec="ffv1")
    ours = video.evaluate(clip, tmp_path / "out.mkv")

    def theirs(result: Path) -> dict[str, float]:
        command = [sys.executable, str(script), str(clip), str(result), "--json"]
        return dict(json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout))

    before, after = theirs(clip), theirs(tmp_path / "out.mkv")
    assert ours.original_jitter_px == pytest.approx(before["jit_a"], rel=0.03)
    assert ours.jitter_px == pytest.approx(after["jit_a"], abs=0.03 * before["jit_a"])
    assert ours.cropping == pytest.approx(after["cropping"], abs=0.004)
    assert ours.distortion_p5 == pytest.approx(after["dist_p5"], abs=0.01)
    assert ours.original_stability == pytest.approx(before["stability"], abs=0.1)
    assert ours.sharpness == pytest.approx(after["sharp"], abs=0.06)
