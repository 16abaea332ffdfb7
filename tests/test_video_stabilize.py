"""The main job on small clips: steady pictures, all else kept, and every kind of bad input."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from clips import (
    SIZE,
    leftovers,
    packets,
    scene,
    shaky,
    times,
    turned,
    under_way,
    write_clip,
)
from conftest import files_of_at_most
from legato import camera, video
from legato._files import PendingFile
from legato.errors import ArgumentError, InputError, OutputError, SideFileError
from legato.video import pipeline, stages
from legato.video.media.reader import VideoReader

pytest.importorskip("av", reason="needs PyAV")
pytest.importorskip("cv2", reason="needs OpenCV")

FAST = {"encoder_preset": "ultrafast"}
CLIPS = Path(__file__).parents[1].parent / "shared" / "clips"
SHAKY_CLIPS = ("nus_towers", "nus_plaza", "nus_fountain", "selh_walk", "selh_indoor", "synth_walk", "synth_walk_rs")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shaky clip with sound."""
    return write_clip(tmp_path_factory.mktemp("clip") / "in.mp4", shaky(30), sound="aac")


def luma_of(path: Path) -> list[np.ndarray]:
    with VideoReader(path) as reader:
        return [frame.planes.y.copy() for frame in reader]


def same_as(path: Path) -> np.ndarray:
    return np.stack(luma_of(path)).astype(int)


# --- what is gained and what is kept ------------------------------------------------------------


def test_the_picture_gets_steady_and_the_rest_is_kept(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    report = video.stabilize(clip, out, **FAST)
    assert report.motion_known
    assert report.path_status == "optimal"
    assert report.planned_jitter_out_px < 0.1 * report.planned_jitter_in_px
    assert report.frames == 30
    assert report.failed == report.duplicates == []
    assert report.violation_px == 0
    assert 0.88 <= report.cropping <= 1
    assert 0.9 < report.distortion <= 1
    assert times(out) == times(clip)
    assert packets(out, "audio") == packets(clip, "audio")
    # The gain is in the pictures, too, not only in the numbers.
    again = video.stabilize(out, tmp_path / "twice.mp4", **FAST)
    assert again.jitter_in_px < 0.25 * report.jitter_in_px
    assert leftovers(tmp_path) == []


def test_each_picture_gets_its_own_correction(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mkv", shaky(12), codec="ffv1")
    report = video.stabilize(clip, tmp_path / "out.mkv", codec="ffv1")
    with VideoReader(clip) as before, VideoReader(tmp_path / "out.mkv") as after:
        for correction, one, two in zip(report.corrections, before, after, strict=True):
            expected = video.warp(one.planes, correction, interpolation="bicubic")
            for name in "yuv":
                np.testing.assert_array_equal(getattr(two.planes, name), getattr(expected, name))


def test_no_pixel_comes_from_outside_the_frame(tmp_path: Path) -> None:
    bright = (np.clip(picture, 90, 255) for picture in shaky(30, amplitude=8))
    clip = write_clip(tmp_path / "in.mkv", bright, codec="ffv1")
    report = video.stabilize(clip, tmp_path / "out.mkv", codec="ffv1", crop=0.3)
    assert report.violation_px == 0
    assert report.cropping >= 0.7
    assert min(picture.min() for picture in luma_of(tmp_path / "out.mkv")) > 70


def test_options_and_crop_reach_the_path(clip: Path, tmp_path: Path) -> None:
    gentle = video.stabilize(clip, tmp_path / "a.mp4", crop=0.05, **FAST)
    options = camera.PathOptions(crop=0.3, inset_px=1.0)
    smooth = video.stabilize(clip, tmp_path / "b.mp4", options=options, **FAST)
    assert gentle.options["crop"] == 0.05
    assert smooth.options["inset_px"] == 1.0
    assert gentle.cropping > smooth.cropping
    assert gentle.planned_jitter_out_px > smooth.planned_jitter_out_px


def test_variable_frame_rate_and_ten_bits(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    pts = np.cumsum(rng.integers(20, 80, 24)).tolist()
    clip = write_clip(
        tmp_path / "in.mp4", shaky(24), pts=pts, time_base=Fraction(1, 1000), pixel_format="yuv420p10le", sound="aac"
    )
    report = video.stabilize(clip, tmp_path / "out.mp4", **FAST)
    assert times(tmp_path / "out.mp4") == times(clip)
    assert packets(tmp_path / "out.mp4", "audio") == packets(clip, "audio")
    assert report.pixel_format == "yuv420p10le"
    assert report.frame_rate == pytest.approx(23 / (pts[-1] - pts[0]) * 1000)


def probed(path: Path, *what: str) -> list[str]:
    """Lines that ffprobe prints of a file."""
    command = ["ffprobe", "-v", "error", "-of", "csv=p=0", *what, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [word.rstrip(",") for word in done.stdout.split()]


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="no ffprobe to ask")
@pytest.mark.parametrize(("extension", "pixel_format"), [(".mp4", "yuv420p10le"), (".mkv", "yuv420p")])
def test_ffprobe_finds_everything_kept(tmp_path: Path, pixel_format: str, extension: str) -> None:
    """Variable frame rate, AAC, rotation, colour tags, ten bits."""
    rng = np.random.default_rng(7)
    pts = np.cumsum(rng.integers(20, 90, 20)).tolist()
    plain = write_clip(
        tmp_path / "plain.mp4",
        shaky(20),
        pts=pts,
        time_base=Fraction(1, 1000),
        pixel_format=pixel_format,
        sound="aac",
        colors=(1, 9, 16, 9),
    )
    clip, out = turned(plain, (0, 1, -1, 0)), tmp_path / f"out{extension}"
    video.stabilize(clip, out, report=True, **FAST)
    shown = ("-select_streams", "v:0", "-show_entries", "frame=best_effort_timestamp_time")
    before, after = ([Fraction(line) for line in probed(path, *shown)] for path in (clip, out))
    first = after[0] - before[0]  # Matroska counts from zero, so the sound's early start moves everything
    if extension == ".mp4":
        assert first == 0
    assert [t - first for t in after] == before
    sound = ("-select_streams", "a:0", "-show_packets", "-show_data_hash", "md5", "-show_entries", "packet=data_hash")
    one, two = (re.findall("MD5:[0-9a-f]{32}", " ".join(probed(path, *sound))) for path in (clip, out))
    assert one == two
    assert len(one) > 10
    tags = "pix_fmt,color_range,color_space,color_transfer,color_primaries"
    of_stream = ("-select_streams", "v:0", "-show_entries", f"stream={tags}")
    assert probed(out, *of_stream) == probed(clip, *of_stream)
    assert pixel_format in probed(out, *of_stream)[0]
    assert probed(out, "-select_streams", "v:0", "-show_entries", "stream=width,height") == ["120,160"]


@pytest.mark.parametrize("pixel_format", ["yuv422p", "yuv444p", "gray"])
def test_other_formats(tmp_path: Path, pixel_format: str) -> None:
    clip = write_clip(tmp_path / "in.mkv", shaky(8), codec="ffv1", pixel_format=pixel_format)
    report = video.stabilize(clip, tmp_path / "out.mp4", compare=True, **FAST)
    assert report.pixel_format == pixel_format
    assert report.frames == 8


def test_odd_sizes_and_rotation(tmp_path: Path) -> None:
    odd = write_clip(tmp_path / "odd.mkv", shaky(8, (161, 121)), codec="ffv1")
    report = video.stabilize(odd, tmp_path / "odd.mp4", compare=True, **FAST)
    assert report.size == (161, 121)
    assert report.output_size == (160, 120)
    upright = turned(write_clip(tmp_path / "plain.mp4", shaky(8)), (0, 1, -1, 0))
    report = video.stabilize(upright, tmp_path / "upright.mp4", **FAST)
    assert report.output_size == SIZE[::-1]
    with VideoReader(tmp_path / "upright.mp4") as reader:
        assert reader.rotation == 0
        assert (reader.width, reader.height) == SIZE[::-1]


def test_comparison_shows_both_with_their_names(clip: Path, tmp_path: Path) -> None:
    report = video.stabilize(clip, tmp_path / "out.mp4", compare=True, crf=5, **FAST)
    pair = tmp_path / "out_compare.mp4"
    assert report.comparison == str(pair)
    assert times(pair) == times(clip)
    assert packets(pair, "audio") == packets(clip, "audio")
    width, height = SIZE
    both, steady, original = (luma_of(p)[7].astype(int) for p in (pair, tmp_path / "out.mp4", clip))
    assert both.shape == (height, 2 * width)
    below = slice(height // 2, None)  # the labels are above
    assert np.abs(both[below, :width] - original[below]).mean() < 3
    assert np.abs(both[below, width:] - steady[below]).mean() < 3
    for side in (0, width):
        label = both[:20, side : side + 40]
        assert label.max() > 200
        assert np.median(label) < np.median(both) - 30


@pytest.mark.parametrize(
    ("size", "labels", "message"),
    [
        ((2**31, 2**31), ("a", "b"), "size: expected"),  # crashed in OpenCV
        ((0, 5), ("a", "b"), "size: expected"),
        ((64, 48), ("a",), "labels: expected"),
        ((64, 48), (1, "b"), "labels: expected"),
    ],
)
def test_comparison_refuses_sizes_and_labels(size: Any, labels: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        video.Comparison(size, labels)


def test_comparison_of_deep_and_subsampled_pictures() -> None:
    rng = np.random.default_rng(1)
    planes = [
        video.Planes(
            rng.integers(200, 800, (60, 96), np.uint16),
            *(rng.integers(200, 800, (30, 48), np.uint16) for _ in range(2)),
            bit_depth=10,
        )
        for _ in range(2)
    ]
    pair = video.Comparison((96, 60))
    out = video.Planes(*(np.zeros(s, np.uint16) for s in ((60, 192), (30, 96), (30, 96))), bit_depth=10)
    assert pair.draw(*planes, out) is out
    for name, half in (("y", 96), ("u", 48), ("v", 48)):
        drawn = getattr(out, name)
        rows = slice(drawn.shape[0] * 2 // 3, None)
        np.testing.assert_array_equal(drawn[rows, :half], getattr(planes[0], name)[rows])
        np.testing.assert_array_equal(drawn[rows, half:], getattr(planes[1], name)[rows])
    assert out.y[:20].max() > 800  # letters
    with pytest.raises(ArgumentError, match="out: expected"):
        pair.draw(*planes, planes[0])


def test_report_is_complete_json(clip: Path, tmp_path: Path) -> None:
    report = video.stabilize(clip, tmp_path / "out.mp4", report=tmp_path / "r.json", **FAST)
    read = json.loads((tmp_path / "r.json").read_text())
    assert read == json.loads(report.to_json())
    assert read["frames"] == 30
    assert read["size"] == list(SIZE)
    assert read["duration_s"] == pytest.approx(1.0, abs=0.01)
    assert set(read["seconds"]) >= {"decode", "track", "path", "warp", "encode", "total"}
    assert sum(read["shares"].values()) == pytest.approx(1)
    assert read["versions"]["legato"]
    assert "motion" not in read
    assert report.motion.shape == report.corrections.shape == (30, 3, 3)
    assert "out.mp4" in report.summary()


def test_the_report_has_the_corrections(clip: Path, tmp_path: Path) -> None:
    report = video.stabilize(clip, tmp_path / "out.mp4", report=tmp_path / "r.json", **FAST)
    rows = json.loads((tmp_path / "r.json").read_text())["corrections"]
    np.testing.assert_allclose(np.array(rows).reshape(-1, 3, 3), report.corrections, rtol=1e-9)


@pytest.mark.parametrize("inclusion", ["soft", "hard"])
def test_a_path_that_is_not_proven_optimal_says_why(clip: Path, tmp_path: Path, inclusion: str) -> None:
    options = camera.PathOptions(max_iterations=1)
    points = np.full((30, 1, 2), 60.0)
    report = video.stabilize(
        clip, tmp_path / "out.mp4", options=options, salient=points, inclusion=inclusion, guard=False, **FAST
    )
    assert report.path_status == "iteration_limit"
    (note,) = (n for n in report.notes if "not proven optimal" in n)
    assert ("a larger crop gives more" in note) == (inclusion == "hard")


def test_too_little_to_follow_is_said(clip: Path, tmp_path: Path) -> None:
    refuse(ArgumentError, "mask: black", clip, tmp_path / "out.mp4", mask=np.zeros(SIZE[::-1], bool))
    report = video.stabilize(clip, tmp_path / "out.mp4", region=(5, 5, 3, 3), **FAST)
    assert not report.motion_known
    assert "mask and region leave 0.00047 of the picture to follow the scene in" in report.notes


def test_progress_is_told(clip: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    video.stabilize(clip, tmp_path / "out.mp4", progress=lambda *step: seen.append(step), **FAST)
    assert seen == [(stage, t, 30) for stage in ("track", "render") for t in range(1, 31)]


def test_the_progress_bar_goes_to_stderr(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video.stabilize(clip, tmp_path / "out.mp4", progress=True, **FAST)
    out, err = capsys.readouterr()
    assert out == ""
    assert "rendering" in err
    assert "30/30" in err


def test_plot_is_drawn(clip: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    video.stabilize(clip, tmp_path / "out.mp4", plot=tmp_path / "p.svg", **FAST)
    assert "<svg" in (tmp_path / "p.svg").read_text()
    assert leftovers(tmp_path) == []


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3])
def test_very_short_clips(tmp_path: Path, count: int) -> None:
    clip = write_clip(tmp_path / "in.mp4", shaky(count), sound="aac")
    report = video.stabilize(clip, tmp_path / "out.mp4", compare=True, **FAST)
    assert report.frames == count
    assert report.motion_known == (count > 1)
    assert times(tmp_path / "out.mp4") == times(clip)


@pytest.mark.parametrize("level", [0, 128])
def test_without_features_the_pictures_stay_as_they_are(tmp_path: Path, level: int) -> None:
    flat = (np.full((*SIZE[::-1], 3), level, np.uint8) for _ in range(8))
    clip = write_clip(tmp_path / "in.mkv", flat, codec="ffv1")
    report = video.stabilize(clip, tmp_path / "out.mkv", codec="ffv1")
    assert not report.motion_known
    assert "no motion" in report.summary()
    assert report.path_status == "none"
    assert report.cropping == 1
    np.testing.assert_array_equal(report.corrections, np.tile(np.eye(3), (8, 1, 1)))
    np.testing.assert_array_equal(same_as(tmp_path / "out.mkv"), same_as(clip))


def test_a_still_picture_stays_as_it_is(tmp_path: Path) -> None:
    still = scene(SIZE)
    clip = write_clip(tmp_path / "in.mkv", [still] * 8, codec="ffv1")
    report = video.stabilize(clip, tmp_path / "out.mkv", codec="ffv1")
    assert not report.motion_known
    np.testing.assert_array_equal(same_as(tmp_path / "out.mkv"), same_as(clip))


def test_dark_frames_in_the_middle_are_bridged(tmp_path: Path) -> None:
    pictures = list(shaky(24))
    for t in (10, 11):
        pictures[t] = np.zeros_like(pictures[t])
    clip = write_clip(tmp_path / "in.mp4", pictures)
    report = video.stabilize(clip, tmp_path / "out.mp4", **FAST)
    assert {10, 12} <= set(report.failed) <= {10, 11, 12}
    assert report.motion_known
    assert report.violation_px == 0


@pytest.mark.parametrize("kind", ["leaps", "turns", "flips", "noise"])
def test_huge_motion_gives_every_picture_and_no_border(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(5)
    whole = scene((3 * SIZE[0], 3 * SIZE[1]))
    middle = np.ascontiguousarray(whole[SIZE[1] : 2 * SIZE[1], SIZE[0] : 2 * SIZE[0]])
    pictures = []
    for t in range(16):
        x, y = rng.integers(0, 2 * SIZE[0]), rng.integers(0, 2 * SIZE[1])
        pictures.append(
            {
                "leaps": whole[y : y + SIZE[1], x : x + SIZE[0]],
                "turns": video.warp(middle, turn_about_center(25.0 * t)),
                "flips": middle[:: (-1) ** t, :: (-1) ** (t // 2)],
                "noise": rng.integers(0, 256, middle.shape, np.uint8),
            }[kind]
        )
    clip = write_clip(tmp_path / "in.mp4", pictures)
    report = video.stabilize(clip, tmp_path / "out.mp4", **FAST)
    assert times(tmp_path / "out.mp4") == times(clip)
    assert report.violation_px == 0
    assert np.isfinite(report.corrections).all()


def turn_about_center(degrees: float) -> np.ndarray:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    center = np.array([[1, 0, SIZE[0] / 2], [0, 1, SIZE[1] / 2], [0, 0, 1.0]])
    return center @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.linalg.inv(center)


def test_repeated_frames_are_reported(tmp_path: Path) -> None:
    pictures = list(shaky(20))
    pictures[9] = pictures[8]
    clip = write_clip(tmp_path / "in.mkv", pictures, codec="ffv1")
    report = video.stabilize(clip, tmp_path / "out.mp4", **FAST)
    assert report.duplicates == [9]


def refuse(expected: type[Exception], match: str, source: Path, destination: Path, **options: object) -> None:
    """The call fails with one clear line, and the destination's folder is as it was."""
    folder = destination.parent
    before = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} if folder.is_dir() else None
    with pytest.raises(expected, match=match) as caught:
        video.stabilize(source, destination, **options)
    assert "\n" not in str(caught.value)
    after = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} if folder.is_dir() else None
    assert after == before


def test_unreadable_sources(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    refuse(InputError, "absent.mp4: no such file", tmp_path / "absent.mp4", out)
    (tmp_path / "text.mp4").write_text("no video\n")
    refuse(InputError, "text.mp4: not a video", tmp_path / "text.mp4", out)
    (tmp_path / "empty.mp4").touch()
    refuse(InputError, "empty.mp4: not a video", tmp_path / "empty.mp4", out)
    (tmp_path / "folder").mkdir()
    refuse(InputError, "folder: a directory", tmp_path / "folder", out)


def test_damaged_sound_is_left_out_and_said(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.ts", shaky(30), container="mpegts", sound="aac")
    data = clip.read_bytes()
    at = data.index(b"\xff\xf1", len(data) // 2)  # where a packet of AAC begins (ISO/IEC 13818-7, ADTS)
    clip.write_bytes(data[:at] + b"\0\0" + data[at + 2 :])
    report = video.stabilize(clip, tmp_path / "out.mp4", **FAST)
    assert report.frames == 30
    assert any("damaged packets of sound" in note for note in report.notes), report.notes
    assert 10 < len(packets(tmp_path / "out.mp4", "audio")) < len(packets(clip, "audio"))


def test_a_size_change_in_mid_stream(tmp_path: Path) -> None:
    parts = [
        write_clip(tmp_path / f"{i}.ts", shaky(8, size), container="mpegts") for i, size in enumerate([SIZE, (128, 96)])
    ]
    both = tmp_path / "both.ts"
    both.write_bytes(b"".join(p.read_bytes() for p in parts))
    refuse(InputError, "both.ts: frame 8 is 128x96", both, tmp_path / "out.mp4", compare=True)


def test_impossible_destinations(clip: Path, tmp_path: Path) -> None:
    refuse(OutputError, "no such directory", clip, tmp_path / "absent" / "out.mp4")
    refuse(ArgumentError, "unknown kind of video file", clip, tmp_path / "out.txt")
    refuse(ArgumentError, "no encoder named", clip, tmp_path / "out.mp4", codec="nope")
    refuse(ArgumentError, "plot: expected a name", clip, tmp_path / "out.mp4", plot=tmp_path / "p.txt")
    refuse(OutputError, "no such directory", clip, tmp_path / "out.mp4", report=tmp_path / "absent" / "r.json")
    (tmp_path / "out.mp4").mkdir()
    refuse(OutputError, "a directory", clip, tmp_path / "out.mp4")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(clip: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    refuse(OutputError, "cannot be written", clip, locked / "out.mp4")


def test_the_output_is_never_the_input(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "in.mp4"
    source.write_bytes(clip.read_bytes())
    (tmp_path / "soft.mp4").symlink_to(source)
    os.link(source, tmp_path / "hard.mp4")
    monkeypatch.chdir(tmp_path)
    for name in ("in.mp4", "soft.mp4", "hard.mp4", "../" + tmp_path.name + "/in.mp4"):
        refuse(ArgumentError, "destination: .* is the same file as the input", source, Path(name))
    same = "is the same file as"
    refuse(ArgumentError, f"compare: .* {same} the input", source, Path("out.mp4"), compare=source)
    refuse(ArgumentError, f"report: .* {same} the destination", source, Path("out.mp4"), report="out.mp4")
    assert source.read_bytes() == clip.read_bytes()


def test_overwriting_can_be_forbidden(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"older")
    refuse(ArgumentError, "exists and overwrite is off", clip, tmp_path / "out.mp4", overwrite=False)
    video.stabilize(clip, tmp_path / "out.mp4", **FAST)
    assert len(luma_of(tmp_path / "out.mp4")) == 30


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"crf": "x"}, "crf: expected a number"),
        ({"crf": 60}, "crf: expected a number from 0 to 51 for libx264"),
        ({"center": "a"}, "center: expected a finite number"),
        ({"options": 3}, "options: expected a legato.camera.PathOptions"),
        ({"encoder_preset": "placebo"}, "encoder_preset: expected one of"),
        ({"codec": 3}, "codec: no encoder named 3"),
        ({"pixel_format": 3}, "pixel_format: libx264 takes"),
        ({"crop": 0.001}, "crop: expected more than the 0.0083"),
        ({"report": 3}, "report: expected a path"),
        ({"mask": 3}, "mask: expected a path"),
        ({"motion": 3}, "motion: expected a path"),
        ({"interpolation": "x"}, "interpolation: expected one of"),
        ({"threads": "x"}, "threads: expected"),
        ({"region": "x"}, "region: expected"),
    ],
)
def test_wrong_arguments_name_themselves(clip: Path, tmp_path: Path, options: dict[str, object], words: str) -> None:
    refuse(ArgumentError, f"^{re.escape(words)}", clip, tmp_path / "out.mp4", **options)
    for source, destination in ((3, tmp_path / "out.mp4"), (clip, None)):
        with pytest.raises(ArgumentError, match=r"^(source|destination): expected a path"):
            video.stabilize(source, destination)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("crop", [0.0, 1.0, -0.1, float("nan")])
def test_impossible_crops(clip: Path, tmp_path: Path, crop: float) -> None:
    refuse(ArgumentError, "crop", clip, tmp_path / "out.mp4", crop=crop)


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()])
@pytest.mark.parametrize("stage", ["track", "render"])
def test_a_failure_in_the_middle_leaves_nothing(clip: Path, tmp_path: Path, stage: str, error: BaseException) -> None:
    (tmp_path / "out.mp4").write_bytes(b"older")

    def fail(now: str, done: int, _total: int | None) -> None:
        if (now, done) == (stage, 20):
            assert len(under_way(tmp_path)) == 3  # the work has no names yet
            raise error

    with pytest.raises(type(error)):
        video.stabilize(clip, tmp_path / "out.mp4", compare=True, report=tmp_path / "r.json", progress=fail, **FAST)
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
    assert (tmp_path / "out.mp4").read_bytes() == b"older"


@pytest.mark.parametrize("name", ["report", "plot", "save_motion"])
def test_a_full_disk_names_the_file(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    class Full(PendingFile):
        @contextlib.contextmanager
        def opened(self) -> Iterator[IO[bytes]]:
            with files_of_at_most(100), super().opened() as file:
                yield file

    monkeypatch.setattr(stages, "PendingFile", Full)
    target = tmp_path / ("p.png" if name == "plot" else "p.json")
    match = f"^{re.escape(str(target))}: cannot be written"
    with pytest.raises(SideFileError, match=match):
        video.stabilize(clip, tmp_path / "out.mp4", **{name: target}, **FAST)
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
    assert len(times(tmp_path / "out.mp4")) == 30


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="needs files without a name")
def test_a_killed_process_leaves_nothing(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", shaky(150, (320, 240)))
    out = tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-m", "legato", "stabilize", clip, out / "out.mp4", "--encoder-preset", "veryslow"]
    command += ["--report", "--plot", "--compare", "--save-motion", out / "m.jsonl"]
    with subprocess.Popen(command) as process:
        begin = time.monotonic()
        while len(under_way(out, process.pid)) < 5 and process.poll() is None and time.monotonic() - begin < 30:
            time.sleep(0.02)
        assert process.poll() is None
        process.kill()
    assert list(out.iterdir()) == []


def test_a_file_that_changes_between_the_passes(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    longer = write_clip(tmp_path / "longer.mp4", shaky(33))
    shorter = write_clip(tmp_path / "shorter.mp4", shaky(28))
    reader = stages.VideoReader
    for other, words in ((longer, "more"), (shorter, "only 28")):
        opened: list[Path] = []

        def changing(path: Path, *, other: Path = other, opened: list[Path] = opened, **options: bool) -> VideoReader:
            opened.append(path)
            return reader(path if len(opened) == 1 else other, **options)

        monkeypatch.setattr(stages, "VideoReader", changing)
        monkeypatch.setattr(pipeline, "_MOST_KEPT_BYTES", 0)  # or the file is not read again
        with pytest.raises(InputError, match=f"motion of 30 frames, and the video has {words}"):
            video.stabilize(clip, tmp_path / "out.mp4", **FAST)
        assert not (tmp_path / "out.mp4").exists()
        assert leftovers(tmp_path) == []


# --- acceptance on clips kept beside the repository ---------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not CLIPS.is_dir(), reason="the clips for local measurement are not here")
@pytest.mark.parametrize("name", sorted(p.name for p in CLIPS.glob("*.mp4")) or ["none"])
def test_real_clips(name: str, tmp_path: Path) -> None:
    source = CLIPS / name
    report = video.stabilize(source, tmp_path / "out.mp4", **FAST)
    assert times(tmp_path / "out.mp4") == times(source)
    assert report.violation_px == 0
    if source.stem in SHAKY_CLIPS:
        assert report.planned_jitter_out_px < 0.3 * report.planned_jitter_in_px
    else:
        assert report.planned_jitter_out_px <= report.planned_jitter_in_px
