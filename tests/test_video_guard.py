"""Stabilizing does no harm: a clip whose jitter is not clearly more than its measurement's error stays as it is."""

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
from legato.errors import InputError, OutputError
from legato.video.media.copying import VideoCopy
from legato.video.motion.guard import Gain, expected_gain
from legato.video.motion.tracking import predicted_error_px

FAST = {"encoder_preset": "ultrafast"}


def shaken(count: int, step_px: float, seed: int) -> np.ndarray:
    """Motions of pure translation, independent from frame to frame."""
    motion = np.tile(np.eye(3), (count, 1, 1))
    motion[1:, :2, 2] = np.random.default_rng(seed).normal(0, step_px, (count - 1, 2))
    return motion


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 999), true=st.floats(0.0, 20.0), noise=st.floats(0.01, 1.0))
def test_jitter_is_compared_with_error(seed: int, true: float, noise: float) -> None:
    motion = shaken(400, math.hypot(true, noise), seed)
    # Per corner, noise in x and y: the error of a displacement is sqrt(2) noise.
    gain = expected_gain(motion, np.full(50, math.sqrt(2) * noise), SIZE)
    # The change of independent steps has twice their variance, in x and in y.
    assert gain.jitter_px == pytest.approx(2 * math.hypot(true, noise), rel=0.15)
    assert gain.error_px == pytest.approx(3 * 2 * noise, rel=1e-9)
    if true < 2 * noise:
        assert not gain.worthwhile
    if true > 6 * noise:
        assert gain.worthwhile


def test_a_few_failures_do_not_decide() -> None:
    error = np.full(100, 0.1)
    error[::20] = 50.0
    assert expected_gain(shaken(100, 2.0, 1), error, SIZE) == expected_gain(shaken(100, 2.0, 1), np.full(9, 0.1), SIZE)


def test_repeated_frames_do_not_hide_the_error_of_the_others() -> None:
    error = np.where(np.arange(200) % 40, 0.0, 0.3)
    motion = shaken(200, 0.02, 1) * np.where(error > 0, 1, 0)[:, None, None]
    motion[error == 0] = np.eye(3)
    assert not expected_gain(motion, error, SIZE).worthwhile


@pytest.mark.parametrize("error", [np.empty(0), np.full(5, math.nan)])
def test_nothing_known_forbids_nothing(error: np.ndarray) -> None:
    assert expected_gain(shaken(30, 0.01, 1), error, SIZE).worthwhile


@pytest.mark.parametrize("count", [1, 2])
def test_too_short_to_have_jitter(count: int) -> None:
    assert expected_gain(shaken(count, 0.01, 1), np.ones(1), SIZE).worthwhile


def test_exactly_still_is_not_worth_a_crop() -> None:
    assert not expected_gain(np.tile(np.eye(3), (10, 1, 1)), np.zeros(3), SIZE).worthwhile
    assert not Gain(0.0, 0.0).worthwhile


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
