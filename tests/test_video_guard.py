"""Stabilizing does no harm: a clip whose points would not become steadier stays as it is."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clips import SIZE, av, scene, shaky, write_clip
from legato import video
from legato.cli import main
from legato.errors import InputError, OutputError
from legato.video.media.copying import VideoCopy
from legato.video.motion.guard import Gain, Guard, traces
from legato.video.motion.tracking import predicted_error_px
from legato.video.presets import PresetName

FAST = {"encoder_preset": "ultrafast"}
VIDEO = Path(__file__).parent / "data" / "video"


def points_at(places: list[np.ndarray]) -> list[np.ndarray]:
    """Traces of points that were at these places, (k, 2) each, one after the other."""
    return [np.stack(places[t - 2 : t + 1], 1).astype(np.float32) for t in range(2, len(places))]


def judged(shake: np.ndarray, corrected: np.ndarray, *, repeats: int = 0) -> Gain:
    """Judge a picture that shakes by so many pixels a frame, drawn so many pixels off."""
    grid = np.stack(np.meshgrid(np.arange(8), np.arange(6)), -1).reshape(-1, 2) * 40.0
    followed = [None, None, *points_at([grid + move for move in shake])][: len(shake)]
    guard = Guard((640, 360), 30)
    repeated = [t < repeats for t in range(len(shake))]
    guard.push(zip(followed, repeated, strict=True), [moved(x, y) for x, y in corrected])
    return guard.finish()


def moved(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def moves(count: int, px: float, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, px, (count, 2))


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 999), left=st.floats(0.02, 3.0), px=st.floats(0.1, 20.0))
def test_what_the_path_leaves_is_measured(seed: int, left: float, px: float) -> None:
    shake = moves(200, px, seed)
    gain = judged(shake, (1 - left) * shake)
    assert gain.ratio == pytest.approx(left, rel=0.02)
    assert gain.worst == pytest.approx(left, rel=0.05)
    assert gain.before_px == pytest.approx(np.sqrt(12) * px, rel=0.3)  # of second differences, in x and in y
    assert gain.worthwhile == (gain.ratio <= 0.9)


def test_zoom_is_charged() -> None:
    shake = moves(120, 2.0)
    grid = np.random.default_rng(2).uniform(0, 300, (30, 2))
    followed = [None, None, *points_at([grid + move for move in shake])]
    guard = Guard((640, 360), 30)
    guard.push(((points, False) for points in followed), [np.diag([1 / 1.5, 1 / 1.5, 1.0])] * len(shake))
    assert guard.finish().ratio == pytest.approx(1.5, rel=1e-3)


def test_harm_in_few_seconds_decides() -> None:
    """A still camera and a car that drives through for a second: the median of the frames would not see it."""
    shake = moves(300, 0.02)
    off = np.zeros_like(shake)
    off[90:120] = moves(30, 2.0, 2)
    gain = judged(shake, off)
    assert not gain.worthwhile
    assert gain.worst_at_s == 3.0
    assert gain.worst == pytest.approx(gain.ratio * math.sqrt(10), rel=0.1)
    assert "in the second from 3 s on" in gain.reason()


def test_it_opens_early_and_that_stands() -> None:
    shake = moves(600, 3.0)
    guard = Guard((640, 360), 30)
    grid = np.random.default_rng(3).uniform(0, 300, (30, 2))
    followed = [None, None, *points_at([grid + move for move in shake])]
    for t, (points, (x, y)) in enumerate(zip(followed, shake, strict=True)):
        part = 1 if t < 90 else -4
        guard.push([(points, False)], [moved(part * x, part * y)])
        assert guard.opened == (t >= 59)
    assert guard.finish().worthwhile


def test_slides_are_left_alone() -> None:
    shake = moves(200, 3.0)
    assert judged(shake, shake / 2, repeats=90).worthwhile
    gain = judged(shake, shake / 2, repeats=110)
    assert not gain.worthwhile
    assert "55% of its frames repeat" in gain.reason()


@pytest.mark.parametrize("count", [1, 2, 3, 11])
def test_few_frames_are_left_alone(count: int) -> None:
    gain = judged(moves(count, 3.0), 0.9 * moves(count, 3.0))
    assert not gain.worthwhile
    assert judged(moves(12, 3.0), 0.9 * moves(12, 3.0)).worthwhile


def test_exactly_still_is_not_worth_a_crop() -> None:
    assert not judged(np.zeros((100, 2)), np.zeros((100, 2))).worthwhile


def test_points_of_two_pairs_are_matched() -> None:
    rng = np.random.default_rng(4)
    corners = (
        np.stack(np.meshgrid(np.arange(20, 600, 40), np.arange(20, 340, 40)), -1).reshape(-1, 2).astype(np.float32)
    )
    arrived = (corners + rng.uniform(-1.5, 1.5, corners.shape)).astype(np.float32)
    earlier = np.hstack([arrived, corners - np.float32(7)])[::2]
    later = np.hstack([corners + np.float32(5), corners])
    found = traces(earlier, later, (640, 360))
    np.testing.assert_array_equal(found[:, 1], corners[::2])
    np.testing.assert_array_equal(found[:, 2], corners[::2] + 5)
    # Who missed the corner came from as far beside.
    np.testing.assert_allclose(found[:, 0], corners[::2] - 7 + (corners - arrived)[::2], atol=1e-4)
    assert len(traces(earlier[:0], later, (640, 360))) == 0
    assert len(traces(earlier + 19, later, (640, 360))) == 0


def test_a_gain_goes_through_a_file() -> None:
    gain = judged(moves(100, 2.0), moves(100, 1.0))
    assert Gain.of(gain.content()) == gain
    assert set(judged(moves(1, 1.0), moves(1, 1.0)).content()) == {"worthwhile", "worse", "repeats"}
    for content in (5, {}, {"worthwhile": 1}, {"worthwhile": True, "worst": -1}, {"worthwhile": True, "worse": "a"}):
        with pytest.raises(ValueError, match="expected"):
            Gain.of(content)


@pytest.mark.parametrize(
    ("name", "preset"),
    [("car_fixed_camera", "standard"), ("car_fixed_camera", "smooth"), ("slides", "tripod"), ("two_frames", "gentle")],
)
def test_what_would_not_gain_is_left_alone_whatever_the_preset(name: str, preset: PresetName, tmp_path: Path) -> None:
    motion = tmp_path / "motion.jsonl"
    clip = VIDEO / f"{name}.mp4"
    report = video.stabilize(clip, tmp_path / "out.mp4", preset=preset, save_motion=motion, **FAST)
    assert report.path_status == "rest"
    assert report.cropping == 1
    assert report.not_followed == ([] if preset == "standard" else [f"preset {preset}"])
    if name == "car_fixed_camera":
        assert report.guard_ratio > 3
        assert report.worst_second_ratio > report.guard_ratio
        assert report.jitter_in_px == report.jitter_out_px > 0
    again = video.render(clip, motion, tmp_path / "again.mp4", preset="gentle", crop=0.2, guard=True, **FAST)
    assert again.path_status == "rest"
    assert again.not_followed == []
    np.testing.assert_equal(again.guard_ratio, report.guard_ratio)


def test_the_command_says_what_it_did_not_follow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip, out = str(VIDEO / "two_frames.mp4"), str(tmp_path / "out.mp4")
    assert main(["stabilize", clip, out, "--quiet"]) == 0
    assert main(["stabilize", clip, out, "--guard", "--crop", "0.2", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["stabilize", clip, out, "--crop", "0.2", "--preset", "gentle", "--quiet"]) == 1
    assert "left as it is, so not followed: preset gentle, crop 0.2" in capsys.readouterr().err
    assert main(["stabilize", clip, "--output-folder", str(tmp_path), "--region", "9,9,50,50", "--quiet"]) == 1


def test_the_summary_shows_what_was_measured(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mkv", shaky(60), codec="ffv1")
    report = video.stabilize(clip, tmp_path / "out.mkv", codec="ffv1")
    metrics = video.evaluate(clip, tmp_path / "out.mkv")
    assert report.jitter_in_px == pytest.approx(metrics.original_track_jitter_px, rel=0.25)  # of twelve frames
    assert report.jitter_out_px == pytest.approx(metrics.track_jitter_px, rel=0.5)
    assert f"measured jitter {report.jitter_in_px:.2f} -> {report.jitter_out_px:.2f} px" in report.summary()
    assert report.guard_ratio < 0.6


def test_the_error_of_one_motion() -> None:
    rng = np.random.default_rng(2)
    picture = scene((320, 240)).mean(2)
    errors = []
    for noise in (2.0, 20.0):
        views = [np.clip(picture + rng.normal(0, noise, picture.shape), 0, 255).astype(np.uint8) for _ in range(2)]
        motion = video.estimate_motion(*views)
        assert motion.ok
        errors.append(predicted_error_px(motion))
    assert 0 < errors[0] < errors[1] < 5
    same = picture.astype(np.uint8)
    assert predicted_error_px(video.estimate_motion(same, same)) == 0
    flat = np.zeros((240, 320), np.uint8)
    assert math.isnan(predicted_error_px(video.estimate_motion(flat, flat + 9)))


def noisy_still(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    picture = scene(SIZE, 4).astype(float)
    return [np.clip(picture + rng.normal(0, 12, picture.shape), 0, 255).astype(np.uint8) for _ in range(count)]


def test_a_still_noisy_clip_stays_as_it_is(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mkv", noisy_still(20), codec="ffv1")
    report = video.stabilize(clip, tmp_path / "out.mkv", codec="ffv1")
    assert report.path_status == "rest"
    assert report.cropping == 1
    assert report.jitter_out_px == report.jitter_in_px
    assert [note for note in report.notes if "left as it is" in note]
    assert "unchanged" in report.summary()
    np.testing.assert_array_equal(report.corrections, np.tile(np.eye(3), (20, 1, 1)))
    assert (tmp_path / "out.mkv").stat().st_size > 0
    forced = video.stabilize(clip, tmp_path / "forced.mkv", codec="ffv1", guard=False)
    assert forced.path_status == "optimal"
    assert forced.cropping < 1


def test_a_shaky_clip_is_stabilized(tmp_path: Path) -> None:
    report = video.stabilize(write_clip(tmp_path / "in.mp4", shaky(20)), tmp_path / "out.mp4", **FAST)
    assert report.path_status == "optimal"


def packets(path: Path) -> dict[str, list[tuple[float, float, bytes]]]:
    """Times and content of the packets, by kind of stream."""
    found: dict[str, list[tuple[float, float, bytes]]] = {}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.size:
                times = (float(at * packet.time_base) for at in (packet.pts, packet.dts))
                found.setdefault(packet.stream.type, []).append((*times, bytes(packet)))
    return found


def shown(path: Path) -> list[tuple[float, bytes]]:
    with video.VideoReader(path) as reader:
        return [(frame.time_s, frame.planes.y.tobytes()) for frame in reader]


@pytest.mark.parametrize("container", ["mp4", "mkv", "mov", "ts"])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_what_is_left_as_it_is_keeps_its_packets(tmp_path: Path, codec: str, container: str) -> None:
    clip = write_clip(
        tmp_path / "in.mp4",
        noisy_still(16),
        codec=codec,
        sound="aac",
        pts=[0, *range(3, 18)],
        time_base=Fraction(1, 30),
    )
    report = video.stabilize(clip, tmp_path / f"out.{container}")
    assert report.path_status == "rest"
    assert "its pictures are not encoded again" in report.notes
    assert report.codec == {"libx264": "h264", "libx265": "hevc"}[codec]
    before, after = shown(clip), shown(tmp_path / f"out.{container}")
    assert [y for _, y in after] == [y for _, y in before]
    first = before[0][0] - after[0][0]
    np.testing.assert_allclose([t for t, _ in after], [t - first for t, _ in before], atol=1e-3)  # .mkv: milliseconds
    if container in ("mp4", "mov"):
        assert packets(tmp_path / f"out.{container}") == packets(clip)
    assert len(report.copied_streams) == 1


def test_a_known_motion_that_rests_is_of_this_video_and_what_is_copied_is_sound(tmp_path: Path) -> None:
    """Nothing of such a video is drawn, so all of it is read before it is copied."""
    clip = write_clip(tmp_path / "in.mp4", noisy_still(40))
    motion = tmp_path / "motion.jsonl"
    video.stabilize(clip, tmp_path / "out.mp4", save_motion=motion)
    report = video.render(clip, motion, tmp_path / "again.mp4")
    assert "its pictures are not encoded again" in report.notes
    assert shown(tmp_path / "again.mp4") == shown(clip)
    for name, count in (("short", 30), ("long", 50)):
        other = write_clip(tmp_path / f"{name}.mp4", noisy_still(count))
        with pytest.raises(InputError, match="motion of 40 frames, and the video has"):
            video.render(other, motion, tmp_path / "wrong.mp4")
        assert not (tmp_path / "wrong.mp4").exists()
    damaged = bytearray(clip.read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 1500] = bytes(1500)
    clip.write_bytes(damaged)
    video.stabilize(clip, tmp_path / "out.mp4", save_motion=motion)
    report = video.render(clip, motion, tmp_path / "again.mp4", **FAST)
    assert report.path_status == "rest"
    assert report.skipped_packets + report.damaged_frames > 0
    assert "its pictures are not encoded again" not in report.notes
    assert len(shown(tmp_path / "again.mp4")) == report.frames


def test_what_is_asked_for_is_encoded(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", noisy_still(12))
    for name, options in (
        ("crf.mp4", {"crf": 30}),
        ("codec.mp4", {"codec": "libx265"}),
        ("deep.mp4", {"pixel_format": "yuv422p"}),
        ("other.webm", {}),  # takes no H.264
        ("pair.mp4", {"compare": True}),
    ):
        report = video.stabilize(clip, tmp_path / name, **FAST, **options)
        assert report.path_status == "rest"
        assert "its pictures are not encoded again" not in report.notes
        assert len(shown(tmp_path / name)) == 12


def test_a_copy_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write_clip(tmp_path / "in.mp4", noisy_still(12))
    (tmp_path / "out.mp4").write_bytes(b"before")
    monkeypatch.setattr(VideoCopy, "finish", lambda _: (_ for _ in ()).throw(OutputError("disk full")))
    with pytest.raises(OutputError, match="disk full"):
        video.stabilize(clip, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == b"before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]
