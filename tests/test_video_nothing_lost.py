"""What a result keeps of its input: HDR, the right stream, whole pictures of interlaced ones, uncropped views."""

from __future__ import annotations

import json
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clips import SIZE, av, scene, shaky, times, write_clip
from conftest import DATA
from legato import video
from legato.cli import main
from legato.errors import ArgumentError, InputError, OutputError
from legato.video.framing import Framing, beyond
from legato.video.media.colors import HdrMetadata
from legato.video.media.encoders import available_codecs, encoder_options, find_encoder, taken_format
from legato.video.media.reader import VideoReader

FAST = {"encoder_preset": "ultrafast"}
HDR10, TWO_STREAMS, TWO_FRAMES = (DATA / "video" / f"{n}.mp4" for n in ("hdr10", "two_video_streams", "two_frames"))
NEEDS_X265 = pytest.mark.skipif(available_codecs()["hevc"]["encoder"] is None, reason="this FFmpeg has no libx265")


def probed(path: Path) -> dict[str, Any]:
    """What FFmpeg's own tool says of the first video stream, and of its first picture."""
    if shutil.which("ffprobe") is None:
        pytest.skip("needs ffprobe")
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-read_intervals", "%+#1", "-show_streams"]
    out = subprocess.run([*command, "-show_frames", "-of", "json", path], capture_output=True, check=True).stdout
    content = json.loads(out)
    return {**content["streams"][0], "frame": content["frames"][0]}


# --- HDR and encoders ---------------------------------------------------------------------------


@NEEDS_X265
@pytest.mark.parametrize("extension", ["mp4", "mov", "mkv", "ts"])
def test_hdr10_stays_hevc_with_its_display_and_light(tmp_path: Path, extension: str) -> None:
    out = tmp_path / f"out.{extension}"
    report = video.stabilize(HDR10, out, guard=False, **FAST)
    assert (report.codec, report.pixel_format) == ("libx265", "yuv420p10le")
    assert not [note for note in report.notes if "kept" in note or "became" in note]
    with VideoReader(HDR10) as before, VideoReader(out) as after:
        assert before.hdr.light_level == (1000, 400)
        assert before.hdr.luminance == (1e-4, 1000.0)
        assert before.hdr.primaries is not None
        assert after.hdr == before.hdr
        assert after.color == before.color
        assert (after.codec, after.stored_format) == ("hevc", "yuv420p10le")


@NEEDS_X265
def test_hdr10_as_ffprobe_sees_it(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    video.stabilize(HDR10, out, guard=False, **FAST)
    seen, was = probed(out), probed(HDR10)
    for name in ("codec_name", "codec_tag_string", "pix_fmt", "color_transfer", "color_primaries", "color_space"):
        assert seen[name] == (was[name] if name != "codec_tag_string" else "hvc1"), name
    kinds = ("Mastering display metadata", "Content light level metadata")
    told, truth = (
        [side for side in one["frame"]["side_data_list"] if side["side_data_type"] in kinds] for one in (seen, was)
    )
    assert told == truth
    assert len(told) == 2
    metrics = video.evaluate(HDR10, out)
    assert metrics.frames == 30


@NEEDS_X265
def test_hlg_stays_hevc_of_ten_bits(tmp_path: Path) -> None:
    hlg = (1, 9, 18, 9)
    clip = write_clip(tmp_path / "in.mp4", shaky(8), codec="libx265", pixel_format="yuv420p10le", colors=hlg)
    report = video.stabilize(clip, tmp_path / "out.mp4", guard=False, **FAST)
    assert report.codec == "libx265"
    with VideoReader(tmp_path / "out.mp4") as reader:
        assert (reader.codec, reader.stored_format, reader.color.transfer) == ("hevc", "yuv420p10le", 18)
        assert reader.hdr == HdrMetadata()


def test_what_an_encoder_cannot_say_is_said(tmp_path: Path) -> None:
    report = video.stabilize(HDR10, tmp_path / "out.mkv", guard=False, codec="ffv1")
    assert "mastering display and content light level not kept: ffv1 does not write them" in report.notes
    report = video.stabilize(HDR10, tmp_path / "out.mp4", guard=False, codec="libx264", **FAST)
    with VideoReader(tmp_path / "out.mp4") as reader:
        assert (reader.codec, reader.hdr.light_level) == ("h264", (1000, 400))
    assert report.notes == []
    lost = HdrMetadata(dynamic=("HDR10+",)).losses("libx265")
    assert lost == ["HDR10+ is not kept: it is of each picture as it was"]


@pytest.mark.parametrize(
    ("codec", "pixel_format", "extension", "expected"),
    [
        ("libx264", "yuv420p", "mp4", "libx264"),
        ("libx264", "yuv420p10le", "mp4", "libx264"),  # its own family, as it was
        ("libx265", "yuv420p", "mkv", "libx265"),
        ("libx265", "yuv420p", "avi", "libx264"),
        ("libx265", "yuv420p", "webm", "libvpx-vp9"),
        ("libvpx-vp9", "yuv420p", "mp4", "libvpx-vp9"),
        ("libvpx-vp9", "yuv420p", "mov", "libx264"),
        ("libsvtav1", "yuv420p10le", "webm", "libsvtav1"),
        ("prores_ks", "yuv422p10le", "mov", "prores_ks"),
        ("prores_ks", "yuv422p10le", "mp4", "libx265"),
        ("ffv1", "yuv444p", "mkv", "ffv1"),
        ("ffv1", "yuv420p10le", "mp4", "libx265"),
        ("mpeg4", "yuv420p", "mp4", "libx264"),
        ("mjpeg", "yuvj420p", "mkv", "libx264"),
    ],
)
def test_the_encoder_is_of_the_family_of_the_input(
    tmp_path: Path, codec: str, pixel_format: str, extension: str, expected: str
) -> None:
    if codec not in av.codecs_available or expected not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec} or no {expected}")
    clip = write_clip(tmp_path / "in.mkv", shaky(2, (96, 64)), codec=codec, pixel_format=pixel_format)
    with VideoReader(clip) as reader, video.VideoWriter(tmp_path / f"out.{extension}", reader) as writer:
        assert writer.codec == expected
        for frame in reader:
            writer.write(frame.planes, frame.pts, frame.duration)


def test_pictures_too_small_for_an_encoder_go_to_another_or_are_refused(tmp_path: Path) -> None:
    """x265 writes beyond its memory below 64 pixels: the process ended in the middle, or at its end."""
    clip = write_clip(tmp_path / "in.mkv", shaky(3, (48, 34)), codec="ffv1", pixel_format="yuv420p10le")
    report = video.stabilize(clip, tmp_path / "out.mp4", guard=False, **FAST)
    assert (report.codec, report.pixel_format) == ("libx264", "yuv420p10le")
    with pytest.raises(ArgumentError, match=r"codec: libx265 takes no pictures as small as 48x34"):
        video.stabilize(clip, tmp_path / "out.mp4", codec="libx265")


@pytest.mark.parametrize("preset", ["ultrafast", "veryfast", "medium", "veryslow"])
@pytest.mark.parametrize("codec", ["h264_nvenc", "hevc_nvenc", "hevc_qsv", "hevc_amf", "hevc_videotoolbox"])
def test_hardware_is_told_quality_and_speed_in_its_own_words(codec: str, preset: str) -> None:
    options = encoder_options(codec, 20, preset, "mp4")
    assert options
    assert "crf" not in options
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    if shutil.which("ffmpeg") is not None:  # the words are those that its help has
        asked = ["ffmpeg", "-hide_banner", "-h", f"encoder={codec}"]
        text = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
        if "AVOptions" in text:
            for name in options.keys() - {"b", "flags", "global_quality"}:
                assert f"-{name} " in text, name
    with pytest.raises(ArgumentError, match="crf: expected a number from 0 to 51"):
        encoder_options(codec, 52, preset, "mp4")


def test_hardware_keeps_the_depth(tmp_path: Path) -> None:
    """Its encoders take ten bits as P010, which is no planar name."""
    if "hevc_nvenc" not in av.codecs_available:
        pytest.skip("this FFmpeg has no hevc_nvenc")
    encoder = find_encoder("hevc_nvenc")
    assert taken_format(encoder, "yuv420p10le") == "p010le"
    assert taken_format(encoder, "yuv420p") == "yuv420p"
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is such hardware, and it may or may not have an encoder")
    with pytest.raises(ArgumentError, match=r"^codec: hevc_nvenc refuses 320x180 p010le"):
        video.stabilize(HDR10, tmp_path / "out.mp4", guard=False, codec="hevc_nvenc")


# --- which stream -------------------------------------------------------------------------------


def test_the_default_video_stream_is_taken(tmp_path: Path) -> None:
    report = video.stabilize(TWO_STREAMS, tmp_path / "out.mp4", guard=False, **FAST)
    assert report.size == (320, 180)
    assert report.dropped_streams == ["#0 video h264 und"]
    report = video.stabilize(TWO_STREAMS, tmp_path / "out.mp4", stream=0, guard=False, **FAST)
    assert report.size == (160, 90)
    with VideoReader(tmp_path / "out.mp4") as reader:
        assert (reader.width, reader.height) == (160, 90)
    assert video.analyze(TWO_STREAMS, stream=0).size == (160, 90)
    assert video.evaluate(TWO_STREAMS, tmp_path / "out.mp4", stream=0).size == (160, 90)


def test_of_streams_without_a_mark_the_largest_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "in.mkv"
    with av.open(str(path), "w") as out:
        streams = []
        for width in (64, 160, 96):
            stream = out.add_stream("libx264", rate=30)
            stream.width, stream.height, stream.pix_fmt = width, 48, "yuv420p"
            stream.disposition = av.stream.Disposition(0)
            streams.append(stream)
        for stream in streams:
            for picture in shaky(3, (stream.width, 48)):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            out.mux(stream.encode(None))
    with VideoReader(path) as reader:
        assert (reader.width, reader.decoder.stream.index) == (160, 1)
    with pytest.raises(ArgumentError, match=r"stream: .*in\.mkv has pictures in stream 0, 1, 2; got 3"):
        VideoReader(path, stream=3)


def test_the_command_takes_a_stream(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.mp4"
    assert main(["stabilize", str(TWO_STREAMS), str(out), "--stream", "0", "--no-guard", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["size"] == [160, 90]
    assert main(["stabilize", str(TWO_STREAMS), str(out), "--stream", "7"]) == 2
    assert "has pictures in stream 0, 1; got 7" in capsys.readouterr().err
    assert main(["stabilize", str(TWO_STREAMS), str(out), "--stream", "-1"]) == 2


# --- interlaced ---------------------------------------------------------------------------------


def interlaced_clip(path: Path, *, marked: bool) -> Path:
    """Two moments in each picture, the upper field first, from a camera that pans."""
    views = [np.roll(scene((240, 120)), -3 * t, 1)[:, : SIZE[0]] for t in range(40)]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        flags = {"flags": "+ildct+ilme", "x264-params": "tff=1"} if marked else {}
        stream.codec_context.options = {"crf": "10", "preset": "ultrafast", **flags}
        for first, second in zip(views[::2], views[1::2], strict=True):
            woven = first.copy()
            woven[1::2] = second[1::2]
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(woven), format="rgb24")))
        out.mux(stream.encode(None))
    return path


def combing(luma: np.ndarray) -> float:
    """How much more a row differs from its neighbor than from the next of its own field."""
    rows = luma.astype(np.float64)
    return float(np.abs(rows[1:-1] - rows[:-2]).mean() / np.abs(rows[2:] - rows[:-2]).mean())


@pytest.mark.parametrize("marked", [True, False])
def test_interlaced_pictures_become_whole_ones(tmp_path: Path, marked: bool) -> None:
    clip = interlaced_clip(tmp_path / "in.mp4", marked=marked)
    with VideoReader(clip) as reader:
        woven = list(reader)
        assert reader.interlaced == marked
        assert any("--deinterlace" in note for note in reader.notes) == marked
    with VideoReader(clip, deinterlace=True) as reader:
        whole = list(reader)
        assert any("no mark of interlacing" in note for note in reader.notes) != marked
        assert not any("treated as progressive" in note for note in reader.notes)
    assert [f.pts for f in whole] == [f.pts for f in woven]
    assert [f.planes.y.shape for f in whole] == [f.planes.y.shape for f in woven]
    for before, after in zip(woven[2:-2], whole[2:-2], strict=True):
        assert combing(before.planes.y) > 1.3
        assert combing(after.planes.y) < 1.0


def test_deinterlaced_from_end_to_end(tmp_path: Path) -> None:
    clip = interlaced_clip(tmp_path / "in.mp4", marked=True)
    out = tmp_path / "out.mp4"
    report = video.stabilize(clip, out, deinterlace=True, report=tmp_path / "r.json", **FAST)
    assert times(out) == times(clip)
    assert report.codec == "libx264"  # encoded, not copied, whatever the guard says
    with VideoReader(out) as reader:
        assert all(combing(frame.planes.y) < 1.05 for frame in list(reader)[2:-2])
    if shutil.which("ffprobe") is not None:
        assert probed(out)["field_order"] == "progressive"
    assert video.evaluate(clip, out, deinterlace=True).frames == 20
    told = video.stabilize(clip, out, guard=False, **FAST)
    assert any("interlaced pictures are treated as progressive" in note for note in told.notes)


# --- short results, and short videos ------------------------------------------------------------


@pytest.mark.parametrize("change", [-1, 1])
def test_a_result_of_one_frame_more_or_less_is_compared(tmp_path: Path, change: int) -> None:
    frames = list(shaky(31, amplitude=3))
    original = write_clip(tmp_path / "a.mp4", frames[:30])
    other = write_clip(tmp_path / "b.mp4", frames[: 30 + change])
    metrics = video.evaluate(original, other)
    assert metrics.frames == min(30, 30 + change)
    assert metrics.unpaired_frames == -change
    assert metrics.cropping == pytest.approx(1, abs=0.01)
    assert json.loads(metrics.to_json())["unpaired_frames"] == -change
    assert f"1 left over at the end of the {'original' if change < 0 else 'stabilized'}" in metrics.table()
    much = write_clip(tmp_path / "c.mp4", frames[:28])
    with pytest.raises(InputError, match=r"28 frames against 30 of .*; give an offset"):
        video.evaluate(original, much)


def test_two_pictures_come_out_whole(tmp_path: Path) -> None:
    for guard in (True, False):
        out = tmp_path / f"{guard}.mp4"
        report = video.stabilize(TWO_FRAMES, out, guard=guard, **FAST)
        assert (report.frames, times(out)) == (2, times(TWO_FRAMES))


# --- GIF ----------------------------------------------------------------------------------------


def test_a_gif_comes_out(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", shaky(20), rate=25, sound="aac")
    out = tmp_path / "out.gif"
    report = video.stabilize(clip, out, guard=False, crop=0.12)
    assert (report.codec, report.pixel_format) == ("gif", "pal8")
    assert report.notes == ["each picture has at most 256 colors"]
    assert report.dropped_streams == ["#1 audio aac und"]
    assert out.read_bytes()[:6] == b"GIF89a"
    assert times(out) == times(clip)
    with VideoReader(out) as reader, VideoReader(clip) as before:
        assert reader.codec == "gif"
        level = [np.mean([f.planes.y.mean() for f in one]) for one in (reader, before)]
        assert level[0] == pytest.approx(level[1], abs=2)  # neither range nor matrix was mistaken
    if shutil.which("ffprobe") is not None:
        assert probed(out)["codec_name"] == "gif"
    assert video.evaluate(clip, out).frames == 20


def test_a_gif_as_input_and_output(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", shaky(12), rate=25)
    video.stabilize(clip, tmp_path / "a.gif", guard=False)
    report = video.stabilize(tmp_path / "a.gif", tmp_path / "b.gif", guard=False)
    assert report.frames == 12
    assert times(tmp_path / "b.gif") == times(tmp_path / "a.gif")


def test_a_gif_counts_hundredths(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mkv", shaky(8), pts=list(range(0, 32, 4)), time_base=Fraction(1, 1000))
    with pytest.raises(OutputError, match=r"\.gif counts hundredths of a second"):
        video.stabilize(clip, tmp_path / "out.gif", guard=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mkv"]


# --- uncropped, and cut without scaling ---------------------------------------------------------


def test_pixels_beyond_the_input_are_told() -> None:
    rng = np.random.default_rng(1)
    size, source = (40, 30), (44, 28)
    for _ in range(50):
        correction = np.eye(3) + rng.normal(0, [[0.1, 0.1, 6], [0.1, 0.1, 6], [2e-3, 2e-3, 0]])
        y, x = np.mgrid[: size[1], : size[0]]
        u, v, w = np.tensordot(correction, np.stack([x, y, np.ones_like(x)]), 1)
        inside = (w > 0) & (u >= -0.5 * w) & (u <= (source[0] - 0.5) * w)
        inside &= (v >= -0.5 * w) & (v <= (source[1] - 0.5) * w)
        np.testing.assert_array_equal(beyond(correction, size, source), ~inside)
    assert not beyond(np.eye(3), size, size).any()


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_black_borders_show_the_whole_picture(tmp_path: Path, extension: str) -> None:
    white = [np.full_like(picture, 40) + picture // 2 for picture in shaky(24, amplitude=6)]
    clip = write_clip(tmp_path / f"in.{extension}", white)
    out = tmp_path / f"out.{extension}"
    report = video.stabilize(clip, out, guard=False, keep_borders="black", crf=1, **FAST)
    assert report.output_size == SIZE
    shown = []
    with VideoReader(out) as reader:
        for frame, correction in zip(reader, report.corrections, strict=True):
            outside = beyond(correction, SIZE, SIZE)
            shown.append(1 - outside.mean())
            if outside.any():
                deep = outside & ~np.pad(~outside, 2, mode="edge")[2:-2, 2:-2]
                assert np.abs(frame.planes.y[deep].astype(int) - 16).max() < 12
            assert frame.planes.y[~outside].mean() > 50
    assert 0.8 < min(shown) < 1
    cropped = video.stabilize(clip, tmp_path / "cropped.mp4", guard=False, **FAST)
    assert report.cropping == pytest.approx(cropped.cropping / 0.94, abs=0.01)  # half of the crop is the window's


@pytest.mark.parametrize(
    ("extension", "codec", "pixel_format"),
    [("mov", "prores_ks", "yuva444p10le"), ("webm", "libvpx-vp9", "yuva420p"), ("mkv", "ffv1", "yuva420p")],
)
def test_transparent_borders(tmp_path: Path, extension: str, codec: str, pixel_format: str) -> None:
    clip = write_clip(tmp_path / "in.mp4", shaky(12, amplitude=6))
    out = tmp_path / f"out.{extension}"
    report = video.stabilize(clip, out, guard=False, keep_borders="transparent")
    assert (report.codec, report.pixel_format) == (codec, pixel_format)
    decoder = "libvpx-vp9" if extension == "webm" else None  # FFmpeg's own leaves VP9's alpha out
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context if decoder is None else av.codec.CodecContext.create(decoder, "r")
        frames = [f for packet in container.demux(stream) for f in (context.decode(packet) if packet.size else [])]
        frames += context.decode(None)
    assert len(frames) == 12
    for frame, correction in zip(frames, report.corrections, strict=True):
        alpha = frame.reformat(format="yuva444p").planes[3]
        opaque = np.frombuffer(alpha, np.uint8).reshape(alpha.height, alpha.line_size)[:, : alpha.width] > 127
        assert (opaque == ~beyond(correction, SIZE, SIZE)).mean() > 0.995


def test_transparent_where_no_file_holds_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = write_clip(tmp_path / "in.mp4", shaky(4))
    with pytest.raises(ArgumentError, match=r"keep_borders: \.mp4 files hold no transparent pictures"):
        video.stabilize(clip, tmp_path / "out.mp4", keep_borders="transparent")
    with pytest.raises(ArgumentError, match="codec: libx264 takes no transparent pictures"):
        video.stabilize(clip, tmp_path / "out.mkv", keep_borders="transparent", codec="libx264")
    with pytest.raises(ArgumentError, match="keep_borders: expected one of black, transparent"):
        video.stabilize(clip, tmp_path / "out.mp4", keep_borders="white")
    with pytest.raises(ArgumentError, match="scale"):
        video.stabilize(clip, tmp_path / "out.mp4", keep_borders="black", scale=False)
    gray = write_clip(tmp_path / "gray.mkv", shaky(4), codec="ffv1", pixel_format="gray")
    with pytest.raises(ArgumentError, match="gray pictures have no transparent form"):
        video.stabilize(gray, tmp_path / "out.mkv", keep_borders="transparent")
    assert main(["stabilize", str(clip), str(tmp_path / "b.mp4"), "--keep-borders", "--no-guard", "--quiet"]) == 0
    assert main(["stabilize", str(clip), str(tmp_path / "b.webm"), "--keep-borders", "blue"]) == 2
    capsys.readouterr()


def test_a_cut_is_not_enlarged(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", shaky(24, amplitude=6))
    out = tmp_path / "out.mp4"
    report = video.stabilize(clip, out, guard=False, crop=0.2, scale=False, compare=True, **FAST)
    width, height = report.output_size
    assert width == pytest.approx(0.9 * SIZE[0], abs=4)  # half of the crop is the window's, half the path's own
    assert height == pytest.approx(0.9 * SIZE[1], abs=4)
    with VideoReader(out) as reader:
        assert (reader.width, reader.height) == (width, height)
    # One pixel of the output is one of the input: no more is enlarged than the motion asks for.
    scales = np.sqrt(np.abs(np.linalg.det(report.corrections[:, :2, :2])))
    assert scales.min() > 0.85
    assert scales.max() < 1.05
    assert all(not beyond(c, (width, height), SIZE).any() for c in report.corrections)
    usual = video.stabilize(clip, tmp_path / "usual.mp4", guard=False, crop=0.2, **FAST)
    assert report.cropping == pytest.approx(usual.cropping)
    assert usual.output_size == SIZE


def test_a_cut_has_one_size_also_at_rest(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", [scene(SIZE)] * 12)
    report = video.stabilize(clip, tmp_path / "out.mp4", scale=False, **FAST)
    framing = Framing.of(SIZE, video.PRESETS["standard"].options(), scale=False)
    x, y = framing.corner
    with VideoReader(clip) as before, VideoReader(tmp_path / "out.mp4") as after:
        left, right = next(iter(before)).planes.y, next(iter(after)).planes.y
    assert report.output_size == (right.shape[1], right.shape[0])
    part = left[y : y + right.shape[0], x : x + right.shape[1]].astype(int)
    assert np.abs(part - right).mean() < 3


def test_the_tracker_by_way_of_opencv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cv2", reason="needs OpenCV, of the opencv extra")
    clip = write_clip(tmp_path / "in.mp4", shaky(16))
    native, other = video.analyze(clip), video.analyze(clip, backend="opencv")
    assert not np.array_equal(native.motion, other.motion)
    np.testing.assert_allclose(native.motion[:, :2, 2], other.motion[:, :2, 2], atol=0.5)
    assert main(["stabilize", str(clip), str(tmp_path / "out.mp4"), "--backend", "opencv", "--quiet"]) == 0
    with pytest.raises(ArgumentError, match="backend: expected one of native, opencv"):
        video.analyze(clip, backend="cuda")
    capsys.readouterr()


@NEEDS_X265
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_few_pictures_by_x265(tmp_path: Path, count: int) -> None:
    """Of one or two, x265 computes decoding times from memory that it never wrote."""
    clip = write_clip(tmp_path / "in.mkv", shaky(count, (96, 64)), codec="ffv1", pixel_format="yuv420p10le")
    out = tmp_path / "out.mp4"
    for _ in range(2):
        assert video.stabilize(clip, out, guard=False, **FAST).codec == "libx265"
        assert times(out) == times(clip)
