"""Reading and writing video files: nothing lost, nothing invented, nothing half written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from clips import SIZE, copy_video, leftovers, packets, pictures, shaky, times, turned, write_clip
from legato.errors import ArgumentError, InputError, OutputError

av = pytest.importorskip("av", reason="needs PyAV")

from legato.video.media.copying import VideoCopy  # noqa: E402
from legato.video.media.encoders import available_codecs, encodable_size  # noqa: E402
from legato.video.media.planes import Planes  # noqa: E402
from legato.video.media.reader import VideoReader  # noqa: E402
from legato.video.media.writer import VideoWriter  # noqa: E402


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip with AAC sound."""
    return write_clip(tmp_path_factory.mktemp("clip") / "talking.mp4", shaky(30), sound="aac")


# --- reading ------------------------------------------------------------------------------------


def test_reader_tells_what_is_in_the_file(talking: Path) -> None:
    with VideoReader(talking) as reader:
        assert (reader.width, reader.height) == SIZE
        assert reader.frame_rate == 30
        assert reader.frame_count == 30
        assert reader.duration_s == pytest.approx(1.0)
        assert reader.codec == "h264"
        assert reader.stored_format == reader.pixel_format == "yuv420p"
        assert reader.has_audio
        assert reader.rotation == 0
        frames = list(reader)
    assert [f.index for f in frames] == list(range(30))
    assert frames[0].key
    assert frames[3].time_s == pytest.approx(0.1)
    assert reader.skipped_packets == reader.damaged_frames == reader.repaired_timestamps == 0


@pytest.mark.parametrize("size", [(160, 120), (162, 90), (50, 34), (161, 121)])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p"])
def test_planes_are_those_of_the_decoder(tmp_path: Path, size: tuple[int, int], pixel_format: str) -> None:
    clip = write_clip(tmp_path / "a.mkv", shaky(3, size), codec="ffv1", pixel_format=pixel_format)
    with av.open(str(clip)) as container, VideoReader(clip) as reader:
        for expected, frame in zip(container.decode(video=0), reader, strict=True):
            for name, plane in zip("yuv", expected.planes, strict=True):
                rows = np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, plane.line_size)
                got = getattr(frame.planes, name)
                np.testing.assert_array_equal(got, rows[:, : plane.width])
                assert not got.flags.writeable


@pytest.mark.parametrize(
    ("codec", "stored", "handed_on", "depth"),
    [
        ("ffv1", "yuv422p", "yuv422p", 8),
        ("ffv1", "gray", "gray", 8),
        ("ffv1", "gray16le", "gray16le", 16),
        ("ffv1", "yuv420p10le", "yuv420p10le", 10),
        ("ffv1", "yuv422p10le", "yuv422p10le", 10),
        ("ffv1", "yuv444p12le", "yuv444p12le", 12),
        ("ffv1", "yuva420p", "yuv420p", 8),
        ("ffv1", "yuv411p", "yuv422p", 8),
        ("ffv1", "yuv440p", "yuv444p", 8),
        ("ffv1", "bgr0", "yuv444p", 8),
        ("ffv1", "gbrp10le", "yuv444p10le", 10),
        ("rawvideo", "nv12", "yuv420p", 8),
        ("rawvideo", "yuyv422", "yuv422p", 8),
        ("rawvideo", "rgb24", "yuv444p", 8),
    ],
)
def test_every_pixel_format_becomes_planar_with_its_chroma(
    tmp_path: Path, codec: str, stored: str, handed_on: str, depth: int
) -> None:
    clip = write_clip(tmp_path / "a.nut", shaky(2), codec=codec, pixel_format=stored, container="nut")
    with VideoReader(clip) as reader:
        planes = next(iter(reader)).planes
        assert reader.pixel_format == handed_on
        assert planes.bit_depth == depth
        assert ("transparency is not kept" in reader.notes) == stored.startswith("yuva")
        assert planes.size == SIZE
    original = next(shaky(2)).astype(float)
    luma = original @ [0.299, 0.587, 0.114]
    if planes.u is not None:  # FFmpeg makes gray in full range
        luma = luma * (219 / 255) + 16
    assert np.abs(planes.y / 2.0 ** (depth - 8) - luma).mean() < 1.5
    if planes.u is not None:
        blue_minus_luma = (original[..., 2] - original @ [0.299, 0.587, 0.114]) * 0.564
        sx, sy = planes.subsampling
        chroma = np.repeat(np.repeat(planes.u / 2.0 ** (depth - 8), sy, 0), sx, 1)
        assert np.abs(chroma - 128 - blue_minus_luma * (224 / 255)).mean() < (8 if stored == "yuv411p" else 4)


@pytest.mark.parametrize("transparent", [False, True])
def test_a_gif_has_transparency_where_it_has(tmp_path: Path, transparent: bool) -> None:
    clip = write_clip(tmp_path / "a.gif", [np.zeros((40, 60, 3), np.uint8)], codec="gif", pixel_format="rgb8")
    data = bytearray(clip.read_bytes())
    at = data.index(b"\x21\xf9\x04")  # graphic control extension: flags, delay, transparent index
    data[at + 3], data[at + 6] = (data[at + 3] | 1 if transparent else data[at + 3] & ~1), 0
    clip.write_bytes(bytes(data))
    with VideoReader(clip) as reader:
        assert ("transparency is not kept" in reader.notes) == transparent


def test_the_alpha_of_webm_is_told_and_not_promised(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.webm", shaky(3), codec="libvpx-vp9", pixel_format="yuva420p")
    with VideoReader(clip) as reader:
        assert "transparency is not kept" in reader.notes
    copy_video(clip, tmp_path / "b.webm")
    with VideoReader(tmp_path / "b.webm") as reader:
        assert "transparency is not kept" not in reader.notes


def test_full_range_is_kept_as_such(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.avi", shaky(3), codec="mjpeg", pixel_format="yuvj420p")
    with VideoReader(clip) as reader:
        assert reader.pixel_format == "yuv420p"
        assert reader.color.range == 2
        assert next(iter(reader)).planes.chroma_location == "center"
    copy_video(clip, tmp_path / "b.mp4")
    with VideoReader(tmp_path / "b.mp4") as reader:
        assert reader.color.range == 2


@pytest.mark.parametrize(
    ("matrix", "upright", "degrees"),
    [
        ((0, 1, -1, 0), lambda a: np.rot90(a, -1), -90),
        ((-1, 0, 0, -1), lambda a: np.rot90(a, 2), 180),
        ((0, -1, 1, 0), lambda a: np.rot90(a, 1), 90),
        ((-1, 0, 0, 1), np.fliplr, None),
        ((0, 1, 1, 0), np.transpose, None),
    ],
)
def test_rotation_is_applied_to_the_pixels(
    tmp_path: Path, matrix: tuple[int, int, int, int], upright: object, degrees: int | None
) -> None:
    plain = write_clip(tmp_path / "plain.mp4", shaky(4))
    clip = turned(plain, matrix)
    with VideoReader(plain) as straight, VideoReader(clip) as reader:
        if degrees is not None:
            assert abs(reader.rotation) == abs(degrees)
        for before, after in zip(straight, reader, strict=True):
            assert after.planes.size == (reader.width, reader.height)
            for name in "yuv":
                np.testing.assert_array_equal(getattr(after.planes, name), upright(getattr(before.planes, name)))
    copy_video(clip, tmp_path / "out.mp4")
    with VideoReader(tmp_path / "out.mp4") as out:
        assert out.rotation == 0
        assert (out.width, out.height) == (reader.width, reader.height)


def test_other_angles_are_left_and_reported(tmp_path: Path) -> None:
    clip = turned(write_clip(tmp_path / "plain.mp4", shaky(2)), (1, 1, -1, 1))
    with VideoReader(clip) as reader:
        assert (reader.width, reader.height) == SIZE
        assert "rotation by" in reader.notes[0]


def test_interlaced_pictures_are_read_as_progressive_and_reported(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.options = {"x264-params": "tff=1"}
        for picture in shaky(4):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")))
        out.mux(stream.encode(None))
    with VideoReader(tmp_path / "a.mp4") as reader:
        assert reader.interlaced
        assert "interlaced pictures are treated as progressive (--deinterlace, deinterlace=True)" in reader.notes
        assert len(list(reader)) == 4


def test_missing_timestamps_follow_the_frame_rate(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.h264", shaky(10), rate=25, container="h264")
    with VideoReader(clip) as reader:
        frames = list(reader)
        assert len(frames) == 10
        np.testing.assert_allclose(np.diff([f.time_s for f in frames]), 0.04, atol=1e-6)


def test_damage_in_mid_stream_does_not_end_the_video(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.ts", shaky(40), container="mpegts")
    data = bytearray(clip.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = np.random.default_rng(1).bytes(4000)
    clip.write_bytes(bytes(data))
    counts = []
    for _ in range(3):
        with VideoReader(clip) as reader:
            counts.append(sum(1 for _ in reader))
    assert len(set(counts)) == 1  # the second pass must see as many as the first
    assert 30 <= counts[0] <= 40


def test_what_cannot_be_decoded_is_skipped_and_counted(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.avi", shaky(20), codec="mjpeg", pixel_format="yuvj420p")
    with av.open(str(clip)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(clip.read_bytes())
    for at, size in places[8:10]:
        data[at + 8 : at + size - 8] = bytes(size - 16)
    clip.write_bytes(bytes(data))
    with VideoReader(clip) as reader:
        frames = list(reader)
    assert reader.skipped_packets == 2
    assert [round(f.time_s * 30) for f in frames] == [*range(8), *range(10, 20)]  # none moved in time


def test_a_truncated_file_gives_what_is_there(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mkv", shaky(40))
    data = clip.read_bytes()
    clip.write_bytes(data[: int(len(data) * 0.6)])
    with VideoReader(clip) as reader:
        assert 10 <= sum(1 for _ in reader) < 40


def test_a_size_change_names_the_frame(tmp_path: Path) -> None:
    one = write_clip(tmp_path / "one.ts", shaky(12), container="mpegts")
    two = write_clip(tmp_path / "two.ts", shaky(12, (128, 96)), container="mpegts")
    both = tmp_path / "both.ts"
    both.write_bytes(one.read_bytes() + two.read_bytes())
    with (
        VideoReader(both) as reader,
        pytest.raises(InputError, match=r"both\.ts: frame 12 is 128x96 .* 160x120"),
    ):
        list(reader)


@pytest.mark.parametrize("content", [b"", b"just text, no video\n" * 50, b"\0" * 4096])
@pytest.mark.parametrize("name", ["a.mp4", "a.txt", "a"])
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=name) as caught:
        VideoReader(path)
    assert "\n" not in str(caught.value)


def test_missing_files_directories_and_sound_alone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        VideoReader(tmp_path / "absent.mp4")
    with pytest.raises(InputError, match="a directory"):
        VideoReader(tmp_path)
    with av.open(str(tmp_path / "tone.wav"), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        out.mux(stream.encode(frame))
    with pytest.raises(InputError, match="no video stream"):
        VideoReader(tmp_path / "tone.wav")


def test_a_video_without_frames_is_refused(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", shaky(2))
    data = clip.read_bytes()
    at = data.index(b"mdat")
    clip.write_bytes(data[: at + 4] + bytes(len(data) - at - 4))  # header kept, pictures wiped
    with pytest.raises(InputError, match=r"no frame could be decoded|not a video"):
        VideoReader(clip)


# --- writing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p", "gray", "yuv420p10le", "yuv444p16le"])
@pytest.mark.parametrize("size", [(160, 120), (50, 34)])
def test_a_lossless_copy_is_exact(tmp_path: Path, pixel_format: str, size: tuple[int, int]) -> None:
    clip = write_clip(tmp_path / "a.mkv", shaky(5, size), codec="ffv1", pixel_format=pixel_format)
    writer = copy_video(clip, tmp_path / "b.mkv", codec="ffv1")
    assert writer.pixel_format == pixel_format
    with VideoReader(clip) as before, VideoReader(tmp_path / "b.mkv") as after:
        for one, two in zip(before, after, strict=True):
            for name in "yuv":
                a, b = getattr(one.planes, name), getattr(two.planes, name)
                if a is not None:
                    np.testing.assert_array_equal(a, b)
            assert one.planes.bit_depth == two.planes.bit_depth


@pytest.mark.parametrize(
    ("stored", "name", "options", "notes"),
    [
        ("yuv420p10le", "b.mp4", {}, []),
        ("yuv420p10le", "b.mp4", {"pixel_format": "yuv420p"}, ["10 bits became 8: as asked"]),
        ("yuv420p10le", "b.webm", {"codec": "libvpx-vp9"}, ["10 bits became 8: libvpx-vp9 takes no more"]),
        ("yuv420p12le", "b.mp4", {}, []),
        ("yuv420p12le", "b.mp4", {"codec": "libx264"}, ["12 bits became 10: libx264 takes no more"]),
        ("yuv422p", "b.mp4", {"codec": "mpeg4"}, ["chroma 4:2:2 became 4:2:0: mpeg4 takes no 4:2:2"]),
        ("yuv411p", "b.mp4", {}, ["chroma 4:1:1 became 4:2:2: it was resampled"]),
        ("bgr0", "b.mp4", {}, ["RGB became 4:4:4: pictures are drawn in YUV"]),
        ("yuv420p", "b.mp4", {"pixel_format": "gray"}, ["chroma 4:2:0 became gray: as asked"]),
        ("gray", "b.webm", {}, []),
    ],
)
def test_what_becomes_of_depth_and_chroma_is_told(
    tmp_path: Path, stored: str, name: str, options: dict[str, str], notes: list[str]
) -> None:
    clip = write_clip(tmp_path / "a.mkv", shaky(3), codec="ffv1", pixel_format=stored)
    assert copy_video(clip, tmp_path / name, **options).notes == notes


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are seen in /proc")
def test_an_encoder_leaves_no_thread_in_real_time(tmp_path: Path) -> None:
    if available_codecs()["av1"]["encoder"] is None:
        pytest.skip("needs libsvtav1")

    def policies() -> set[int]:
        return {os.sched_getscheduler(int(task.name)) for task in Path("/proc/self/task").iterdir()}

    clip = write_clip(tmp_path / "a.mkv", shaky(6), codec="ffv1")
    before = policies()
    with VideoReader(clip) as reader, VideoWriter(tmp_path / "b.webm", reader, codec="libsvtav1") as writer:
        for frame in reader:
            writer.write(frame.planes, frame.pts, frame.duration)
        assert policies() == before == {os.SCHED_OTHER}


def test_webm_keeps_ten_bits(tmp_path: Path) -> None:
    if available_codecs()["av1"]["encoder"] is None:
        pytest.skip("needs libsvtav1")
    clip = write_clip(tmp_path / "a.mkv", shaky(6), codec="ffv1", pixel_format="yuv420p10le")
    writer = copy_video(clip, tmp_path / "b.webm")
    assert (writer.codec, writer.notes) == ("libsvtav1", [])
    with VideoReader(tmp_path / "b.webm") as reader:
        assert reader.stored_format == "yuv420p10le"
    small = write_clip(tmp_path / "s.mkv", shaky(6, (50, 34)), codec="ffv1", pixel_format="yuv420p10le")
    assert copy_video(small, tmp_path / "s.webm").codec == "libvpx-vp9"  # the other refuses so small a picture


@pytest.mark.parametrize("wanted", ["gray", "gray10le"])
@pytest.mark.parametrize("stored", ["yuv420p", "yuv420p10le"])
def test_gray_is_the_luma_as_it_is(tmp_path: Path, stored: str, wanted: str) -> None:
    clip = write_clip(tmp_path / "a.mkv", shaky(3), codec="ffv1", pixel_format=stored)
    copy_video(clip, tmp_path / "b.mkv", codec="ffv1", pixel_format=wanted)
    with VideoReader(clip) as before, VideoReader(tmp_path / "b.mkv") as after:
        assert after.stored_format == wanted
        for one, two in zip(before, after, strict=True):
            as_eight = [frame.planes.y / 2.0 ** (frame.planes.bit_depth - 8) for frame in (one, two)]
            assert np.abs(as_eight[0] - as_eight[1]).max() <= 0.5


@pytest.mark.parametrize("extension", ["mp4", "mov", "mkv", "m4v"])
def test_timestamps_are_exact_when_the_rate_varies(tmp_path: Path, extension: str) -> None:
    rng = np.random.default_rng(3)
    pts = np.cumsum(rng.integers(20, 90, 30)).tolist()  # milliseconds
    clip = write_clip(tmp_path / f"a.{extension}", shaky(30), pts=pts, time_base=Fraction(1, 1000))
    copy_video(clip, tmp_path / f"b.{extension}")
    assert times(tmp_path / f"b.{extension}") == times(clip)
    with av.open(str(tmp_path / f"b.{extension}")) as after:  # the last picture has its time, too
        begin = 0 if extension == "mkv" else pts[0]  # Matroska states the end, not the length
        end = pts[-1] + round(1000 / 30)
        assert after.duration / 1e6 == pytest.approx((end - begin) / 1000, abs=0.035)


def test_a_late_start_is_exact(tmp_path: Path) -> None:
    pts = [982 + 3000 * t for t in range(8)]  # not a whole number of milliseconds
    late = write_clip(
        tmp_path / "a.nut",
        shaky(8),
        pts=pts,
        time_base=Fraction(1, 90_000),
        codec="mjpeg",
        pixel_format="yuvj420p",
        container="nut",
    )
    assert times(late)[0] == Fraction(982, 90_000)
    copy_video(late, tmp_path / "b.mp4", codec="libx264")
    assert times(tmp_path / "b.mp4") == times(late)


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(25), Fraction(24000, 1001)])
def test_timestamps_are_exact_at_film_and_tv_rates(tmp_path: Path, rate: Fraction) -> None:
    clip = write_clip(tmp_path / "a.mp4", shaky(20), rate=rate)
    copy_video(clip, tmp_path / "b.mp4")
    assert times(tmp_path / "b.mp4") == times(clip)
    with VideoReader(tmp_path / "b.mp4") as reader:
        assert reader.frame_rate == rate
        assert reader.frame_count == 20


@pytest.mark.parametrize("pair", [("mp4", "mp4"), ("mp4", "mov"), ("mkv", "mkv"), ("mkv", "mp4")])
def test_sound_is_copied_packet_by_packet(tmp_path: Path, pair: tuple[str, str]) -> None:
    clip = write_clip(tmp_path / f"a.{pair[0]}", shaky(45), sound="aac")
    writer = copy_video(clip, tmp_path / f"b.{pair[1]}")
    assert len(writer.copied) == 1
    assert "audio aac" in writer.copied[0]
    before, after = packets(clip, "audio"), packets(tmp_path / f"b.{pair[1]}", "audio")
    assert [b for _, b in after] == [b for _, b in before]
    assert len(after) > 60
    np.testing.assert_allclose([float(t) for t, _ in after], [float(t) for t, _ in before], atol=1e-3)
    if pair[0] == pair[1]:
        assert [t for t, _ in after] == [t for t, _ in before]


def test_sound_longer_than_the_pictures_is_kept_whole(tmp_path: Path) -> None:
    long = write_clip(tmp_path / "long.mkv", shaky(60), sound="aac")
    with av.open(str(long)) as source, av.open(str(tmp_path / "a.mkv"), "w") as out:
        targets = [out.add_stream_from_template(s, opaque=True) for s in source.streams]
        for packet in source.demux():
            sound = packet.stream.type == "audio"
            if packet.size and (sound or packet.pts * packet.time_base < 1):
                packet.stream = targets[packet.stream.index]
                out.mux(packet)
    copy_video(tmp_path / "a.mkv", tmp_path / "b.mkv")
    assert len(times(tmp_path / "b.mkv")) == 30
    assert packets(tmp_path / "b.mkv", "audio") == packets(tmp_path / "a.mkv", "audio")


def test_sound_and_pictures_are_interleaved(talking: Path, tmp_path: Path) -> None:
    copy_video(talking, tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as container:
        order = [(p.pos, p.stream.type, float(p.dts * p.time_base)) for p in container.demux() if p.size]
    latest = {"audio": 0.0, "video": 0.0}
    for _, kind, time_s in sorted(order):
        latest[kind] = time_s
        assert abs(latest["audio"] - latest["video"]) < 0.5


def test_what_the_container_cannot_hold_is_reported(talking: Path, tmp_path: Path) -> None:
    writer = copy_video(talking, tmp_path / "b.webm", crf=40)
    assert writer.codec == "libvpx-vp9"
    assert writer.copied == []
    assert "audio aac" in writer.not_copied[0]
    assert times(tmp_path / "b.webm") == pytest.approx(times(talking), abs=1e-3)


def test_subtitles_and_metadata_are_kept(tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text("1\n00:00:00,100 --> 00:00:00,600\nHello\n", encoding="utf-8")
    clip = write_clip(tmp_path / "a.mkv", shaky(30), sound="aac", subtitles=tmp_path / "a.srt")
    writer = copy_video(clip, tmp_path / "b.mkv")
    assert [c.split()[1] for c in writer.copied] == ["audio", "subtitle"]
    assert packets(tmp_path / "b.mkv", "subtitle") == packets(clip, "subtitle")
    with av.open(str(tmp_path / "b.mkv")) as out:
        assert out.metadata["title"] == "a clip"
        assert out.streams.subtitles[0].metadata["language"] == "eng"
    in_mp4 = copy_video(clip, tmp_path / "b.mp4")
    assert [c.split()[1] for c in in_mp4.not_copied] == ["subtitle"]


def test_color_tags_are_kept(tmp_path: Path) -> None:
    tags = (1, 9, 16, 9)  # limited range, BT.2020, PQ
    clip = write_clip(tmp_path / "a.mp4", shaky(3), pixel_format="yuv420p10le", colors=tags)
    copy_video(clip, tmp_path / "b.mp4")
    with VideoReader(tmp_path / "b.mp4") as reader:
        color = reader.color
        assert (color.range, color.primaries, color.transfer, color.matrix) == tags


def test_ten_bits_stay_ten_bits(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", shaky(4), pixel_format="yuv420p10le")
    writer = copy_video(clip, tmp_path / "b.mp4")
    assert writer.pixel_format == "yuv420p10le"
    with VideoReader(tmp_path / "b.mp4") as reader:
        assert reader.stored_format == "yuv420p10le"


def test_samples_beyond_the_depth_are_cut_off(tmp_path: Path) -> None:
    """As the decoder leaves them where a stream is damaged; x264 ends the whole process over them."""
    clip = write_clip(tmp_path / "a.mkv", shaky(4), pixel_format="yuv420p10le")
    for codec in ("ffv1", "libx264"):
        with VideoReader(clip) as reader, VideoWriter(tmp_path / "b.mkv", reader, codec=codec) as writer:
            for frame in reader:
                copies = [np.array(p) for p in (frame.planes.y, frame.planes.u, frame.planes.v)]
                for plane in copies:
                    plane[:20, :20] = 32896
                planes = Planes(*copies, bit_depth=10)
                if frame.index % 2:
                    planes, given = writer.new_planes(), planes
                    for name in "yuv":
                        getattr(planes, name)[...] = getattr(given, name)
                writer.write(planes, frame.pts, frame.duration)
        with VideoReader(tmp_path / "b.mkv") as reader:
            tops = [int(plane[:20, :20].min()) for f in reader for plane in (f.planes.y, f.planes.u, f.planes.v)]
        assert len(tops) == 12
        assert min(tops) > 900
    assert tops[0] <= 1023


@pytest.mark.parametrize(
    ("codec", "extension", "name"),
    [
        ("libx265", "mp4", "hevc"),
        ("libsvtav1", "mkv", "av1"),
        ("libvpx-vp9", "mp4", "vp9"),
        ("prores_ks", "mov", "prores"),
        ("mpeg4", "mp4", "mpeg4"),
        ("mjpeg", "mkv", "mjpeg"),
        ("ffv1", "avi", "ffv1"),
    ],
)
def test_other_encoders(
    talking: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], codec: str, extension: str, name: str
) -> None:
    if codec not in av.codec.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    copy_video(talking, tmp_path / f"b.{extension}", codec=codec)
    assert capfd.readouterr() == ("", "")  # encoders that talk are told not to
    with VideoReader(tmp_path / f"b.{extension}") as reader:
        assert reader.codec == name
        assert sum(1 for _ in reader) == 30


@pytest.mark.parametrize(
    ("stored", "codec", "extension", "written"),
    [
        ("yuv444p12le", "libx264", "mp4", "yuv444p10le"),
        ("gray", "libx264", "mp4", "gray"),
        ("yuv422p10le", "mpeg4", "avi", "yuv420p"),
        ("gray", "mpeg4", "avi", "yuv420p"),
    ],
)
def test_the_nearest_format_that_the_encoder_takes(
    tmp_path: Path, stored: str, codec: str, extension: str, written: str
) -> None:
    clip = write_clip(tmp_path / "a.mkv", shaky(3), codec="ffv1", pixel_format=stored)
    writer = copy_video(clip, tmp_path / f"b.{extension}", codec=codec)
    assert writer.pixel_format == written
    with VideoReader(clip) as before, VideoReader(tmp_path / f"b.{extension}") as after:
        one, two = (next(iter(r)).planes for r in (before, after))
        levels = [p.y / 2.0 ** (p.bit_depth - 8) for p in (one, two)]
        assert np.abs(levels[0] - levels[1]).mean() < 5


@pytest.mark.parametrize(
    ("size", "stored", "written"),
    [
        ((161, 121), "yuv420p", (160, 120)),
        ((161, 121), "yuv422p", (160, 121)),
        ((161, 121), "yuv444p", (161, 121)),
        ((161, 120), "yuv420p", (160, 120)),
    ],
)
def test_odd_sizes_lose_a_column_or_row_and_gain_no_pixel(
    tmp_path: Path, size: tuple[int, int], stored: str, written: tuple[int, int]
) -> None:
    clip = write_clip(tmp_path / "a.mkv", shaky(3, size), codec="ffv1", pixel_format=stored)
    assert encodable_size(size, stored) == written
    copy_video(clip, tmp_path / "b.mp4", crf=1)
    with VideoReader(clip) as before, VideoReader(tmp_path / "b.mp4") as after:
        assert (after.width, after.height) == written
        one, two = (next(iter(r)).planes.y.astype(int) for r in (before, after))
        assert np.abs(one[: written[1], : written[0]] - two).max() < 12


def test_the_same_bytes_in_every_run(tmp_path: Path) -> None:
    """Of a width and a preset, too, with which x264's code for AVX-512 gives others in most runs."""
    clip = write_clip(tmp_path / "in.mkv", shaky(60, (480, 270), amplitude=12), codec="ffv1")
    results = set()
    for _ in range(8):
        copy_video(clip, tmp_path / "out.mp4", preset="veryfast")
        results.add((tmp_path / "out.mp4").read_bytes())
    assert len(results) == 1


@pytest.mark.parametrize(("sound", "kept"), [("aac", True), ("ac3", True), ("flac", False), ("pcm_s16le", False)])
def test_private_data_in_mpegts_is_no_copy(tmp_path: Path, sound: str, kept: bool) -> None:
    clip = write_clip(tmp_path / "a.mkv", shaky(20), sound=sound)
    writer = copy_video(clip, tmp_path / "b.ts")
    assert [len(writer.copied), len(writer.not_copied)] == [kept, not kept]
    with av.open(str(tmp_path / "b.ts")) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"][: 1 + kept]


def test_subtitles_and_pictures_that_mpegts_has_no_name_for(tmp_path: Path) -> None:
    (tmp_path / "s.srt").write_text("1\n00:00:00,100 --> 00:00:00,500\nhello\n")
    clip = write_clip(tmp_path / "a.mkv", shaky(20), subtitles=tmp_path / "s.srt", codec="ffv1")
    writer = copy_video(clip, tmp_path / "b.ts")
    assert [label.split()[1] for label in writer.not_copied] == ["subtitle"]
    with VideoReader(clip) as reader, pytest.raises(ArgumentError, match="mpegts files cannot hold ffv1"):
        VideoCopy(tmp_path / "c.ts", reader)


def test_mpegts_is_moved_to_start_at_zero(tmp_path: Path) -> None:
    late = [90_000 * 3 + 3000 * t for t in range(20)]  # three seconds after zero
    clip = write_clip(
        tmp_path / "a.ts",
        shaky(20),
        pts=late,
        time_base=Fraction(1, 90_000),
        sound="aac",
        container="mpegts",
    )
    copy_video(clip, tmp_path / "b.mp4")
    before, after = times(clip), times(tmp_path / "b.mp4")
    assert np.diff(after).tolist() == np.diff(before).tolist()
    first_sound = packets(clip, "audio")[0][0]
    moved_sound = packets(tmp_path / "b.mp4", "audio")[0][0]
    assert abs(moved_sound) < Fraction(1, 1000)
    assert abs((after[0] - moved_sound) - (before[0] - first_sound)) < Fraction(1, 1000)


def test_what_an_edit_list_cuts_off_stays_cut_off(tmp_path: Path) -> None:
    """As in clips that a phone trimmed, or `ffmpeg -ss 1.13 -c copy` made: packets are there that are not shown."""
    whole = write_clip(tmp_path / "whole.mp4", shaky(60), sound="aac")
    clip = tmp_path / "cut.mp4"
    with av.open(str(whole)) as read, av.open(str(clip), "w", options={"movie_timescale": "90000"}) as cut:
        targets = {stream.index: cut.add_stream_from_template(stream) for stream in read.streams}
        for packet in read.demux():
            if packet.size:
                moved = round(Fraction(34, 30) / packet.time_base)
                packet.pts, packet.dts = packet.pts - moved, packet.dts - moved
                packet.stream = targets[packet.stream.index]
                cut.mux(packet)
    with VideoReader(clip) as reader:
        shown = list(reader)
        assert len(shown) == 26
        assert (reader.hidden_packets, reader.cut_within) == (34, False)
        for name in ("a.mkv", "a.ts"):
            with pytest.raises(ArgumentError, match="no room for what an edit list cuts off"):
                VideoCopy(tmp_path / name, reader)
        copy = VideoCopy(tmp_path / "a.mp4", reader)
        copy.finish()
        copy.commit()
    assert len(pictures(tmp_path / "a.mp4")) == 26
    for name in ("b.mkv", "b.ts", "b.mp4"):
        copy_video(clip, tmp_path / name)
        seen, heard = times(tmp_path / name), packets(tmp_path / name, "audio")
        assert len(seen) == 26
        assert heard[-1][0] is not None
        assert heard[0][0] is not None
        # In the end and, but for what primes a decoder, at the beginning the sound is where the picture is.
        assert abs(heard[-1][0] - seen[-1]) < 0.05
        assert name == "b.mp4" or 0 <= seen[0] - heard[0][0] < 0.05


def test_avi_holds_a_constant_rate_and_refuses_another(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", shaky(10))
    copy_video(clip, tmp_path / "b.avi")
    with VideoReader(tmp_path / "b.avi") as reader:
        np.testing.assert_allclose(np.diff([f.time_s for f in reader]), 1 / 30, atol=1e-6)
    uneven = write_clip(
        tmp_path / "c.mp4",
        shaky(10),
        pts=[0, 5, 10, 15, 500, 600, 700, 800, 900, 1000],
        time_base=Fraction(1, 1000),
    )
    with pytest.raises(OutputError, match=r"d\.avi.*constant frame rate"):
        copy_video(uneven, tmp_path / "d.avi")
    assert not (tmp_path / "d.avi").exists()


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not installed")
@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_ffprobe_agrees(tmp_path: Path, extension: str) -> None:
    clip = write_clip(tmp_path / f"a.{extension}", shaky(40), sound="aac")
    copy_video(clip, tmp_path / f"b.{extension}")

    def probe(path: Path) -> dict[str, list[dict[str, str]]]:
        command = ["ffprobe", "-v", "error", "-of", "json", "-count_frames", "-show_entries"]
        entries = "stream=codec_type,nb_read_frames,duration,start_time:packet=pts_time,stream_index"
        text = subprocess.run([*command, entries, path], capture_output=True, text=True, check=True)
        assert text.stderr == ""
        found: dict[str, list[dict[str, str]]] = json.loads(text.stdout)
        return found

    before, after = probe(clip), probe(tmp_path / f"b.{extension}")
    by_kind = [{s["codec_type"]: s for s in p["streams"]} for p in (before, after)]
    for kind in ("video", "audio"):
        one, two = by_kind[0][kind], by_kind[1][kind]
        assert one["nb_read_frames"] == two["nb_read_frames"]
        if "duration" in one:  # the source, written by PyAV alone, lacks the last picture's time
            assert float(two["duration"]) == pytest.approx(float(one["duration"]), abs=5e-4)
        assert one["start_time"] == two["start_time"]


# --- nothing half written -----------------------------------------------------------------------


def test_an_error_leaves_nothing_and_the_old_file_untouched(talking: Path, tmp_path: Path) -> None:
    target = tmp_path / "b.mp4"
    target.write_bytes(b"older")

    def broken() -> None:
        with VideoReader(talking) as reader, VideoWriter(target, reader) as writer:
            for frame in reader:
                writer.write(frame.planes, frame.pts)
                if frame.index == 15:
                    raise RuntimeError("in mid-write")

    with pytest.raises(RuntimeError, match="in mid-write"):
        broken()
    assert target.read_bytes() == b"older"
    assert leftovers(tmp_path) == []


def test_without_a_picture_there_is_no_file(talking: Path, tmp_path: Path) -> None:
    def nothing() -> None:
        with VideoReader(talking) as reader, VideoWriter(tmp_path / "b.mp4", reader):
            pass

    with pytest.raises(OutputError, match="no picture"):
        nothing()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_reported_and_leaves_nothing(talking: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="needs POSIX limits")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OutputError, match=r"b\.mp4: cannot be written"):
            copy_video(talking, tmp_path / "b.mp4", crf=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "match"),
    [("absent/b.mp4", "no such directory"), ("folder.mp4", "a directory")],
)
def test_impossible_destinations(talking: Path, tmp_path: Path, name: str, match: str) -> None:
    (tmp_path / "folder.mp4").mkdir()
    with VideoReader(talking) as reader, pytest.raises(OutputError, match=match):
        VideoWriter(tmp_path / name, reader)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("extension", ["mp4", "mov"])
def test_sound_without_its_head_is_left_out_at_once(tmp_path: Path, extension: str) -> None:
    """MP4 describes Opus by a header that was lost: known at the beginning, and no error after all the work."""
    whole = write_clip(tmp_path / "a.webm", shaky(10), codec="libvpx-vp9", sound="libopus")
    data = whole.read_bytes()
    at = data.index(b"OpusHead")
    private = data.rindex(b"\x63\xa2", 0, at)  # its element: from here on unknown to readers
    damaged = tmp_path / "b.webm"
    damaged.write_bytes(data[:private] + b"\x63\xa3" + data[private + 2 :])
    out = tmp_path / f"c.{extension}"
    for clip, kept in ((whole, extension == "mp4"), (damaged, False)):
        writer = copy_video(clip, out)
        assert [label.split()[1:3] for label in writer.copied] == [["audio", "opus"]] * kept
        assert times(out) == times(clip)


@pytest.mark.parametrize("sound", ["aac", "ac3", "eac3", "libopus", "flac"])
def test_sound_that_mp4_holds_is_kept(tmp_path: Path, sound: str) -> None:
    clip = write_clip(tmp_path / "a.mkv", shaky(10), sound=sound)
    writer = copy_video(clip, tmp_path / "b.mp4")
    assert len(writer.copied) == 1
    assert [data for _, data in packets(tmp_path / "b.mp4", "audio")] == [data for _, data in packets(clip, "audio")]


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("b.xyz", {}, r"b\.xyz: unknown kind of video file '\.xyz'; expected one of \.mp4"),
        ("b", {}, "unknown kind"),
        ("b.mp4", {"codec": "nope"}, "no encoder named 'nope'"),
        ("b.mp4", {"codec": "aac"}, "encoder of audio"),
        ("b.webm", {"codec": "libx264"}, r"\.webm files cannot hold libx264"),
        ("b.mp4", {"crf": 99}, "crf: expected a number from 0 to 51"),
        ("b.mp4", {"preset": "warp9"}, "preset: expected one of"),
        ("b.mp4", {"pixel_format": "nope"}, "pixel_format: libx264 takes"),
        ("b.mp4", {"codec_options": {"nope": "1"}}, "codec_options: libx264 has no option nope"),
        ("b.mp4", {"codec_options": {"profile": "nope"}}, "codec: libx264 refuses"),
    ],
)
def test_wrong_arguments_name_themselves(
    talking: Path, tmp_path: Path, name: str, options: dict[str, object], match: str
) -> None:
    with VideoReader(talking) as reader, pytest.raises(ArgumentError, match=match) as caught:
        VideoWriter(tmp_path / name, reader, **options)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_available_codecs() -> None:
    codecs = available_codecs()
    assert codecs["h264"]["decoder"] == "h264"
    assert set(codecs) >= {"h264", "hevc", "av1", "vp9", "ffv1", "prores"}


# --- packets as they are ------------------------------------------------------------------------


def copied(source: Path, destination: Path) -> VideoCopy:
    with VideoReader(source) as reader:
        assert list(reader)
        copy = VideoCopy(destination, reader)
        copy.finish()
        copy.commit()
    return copy


def clock(path: Path) -> dict[str, list[tuple[Fraction, Fraction | None]]]:
    """Times of presentation and of decoding of all packets, by kind of stream."""
    found: dict[tuple[str, int], list[tuple[Fraction, Fraction | None]]] = {}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.size and packet.pts is not None:
                dts = None if packet.dts is None else packet.dts * packet.time_base
                key = packet.stream.type, packet.stream.index
                found.setdefault(key, []).append((packet.pts * packet.time_base, dts))
    kinds: dict[str, list[tuple[Fraction, Fraction | None]]] = {}
    for (kind, _), rows in sorted(found.items()):
        decoded = [dts for _, dts in rows if dts is not None]
        assert decoded == sorted(decoded), kind
        assert all(dts is None or dts <= pts for pts, dts in rows), kind
        kinds.setdefault(kind, []).extend(rows)
    return kinds


def reordered(path: Path, count: int = 40, sound: str | None = None, container: str | None = None) -> Path:
    """A clip whose pictures are not decoded in the order in which they are shown."""
    with av.open(str(path), "w", format=container) as out:
        video = out.add_stream("libx264", rate=30)
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        video.options = {"bf": "3", "b-pyramid": "normal", "x264-params": "b-adapt=0:keyint=15", "crf": "30"}
        voice = None
        if sound is not None:
            voice = out.add_stream(sound, rate=48000)
            voice.layout = "mono"
        for picture in shaky(count):
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")))
        out.mux(video.encode(None))
        if voice is not None:
            block = voice.codec_context.frame_size or 1024
            for begin in range(0, count * 1600, block):
                tone = np.sin(np.arange(begin, begin + block) / 20)[None] * 0.3
                whole = voice.format.name.startswith("s16")
                tone = (tone * 32767).astype(np.int16) if whole else tone.astype(np.float32)
                piece = av.AudioFrame.from_ndarray(tone, format=voice.format.name, layout="mono")
                piece.sample_rate, piece.pts = 48000, begin
                out.mux(voice.encode(piece))
            out.mux(voice.encode(None))
    return path


@pytest.mark.parametrize("extension", ["mkv", "mp4", "ts"])
def test_a_clip_left_alone_keeps_its_times(tmp_path: Path, extension: str) -> None:
    """The first packets have no time of decoding."""
    from legato import video

    clip, out = Path(__file__).parent / "data" / "bf_mkv.mkv", tmp_path / f"out.{extension}"
    assert "its pictures are not encoded again" in video.stabilize(clip, out).notes
    shown = [pts for pts, _ in clock(out)["video"]]
    assert [float(pts) for pts in shown[:5]] == [0, 0.133, 0.067, 0.033, 0.1]
    assert shown == [pts for pts, _ in clock(clip)["video"]]
    assert times(out) == times(clip)
    if extension != "ts":
        assert packets(out, "video") == packets(clip, "video")


@pytest.mark.parametrize("extension", ["mkv", "mp4", "mov", "ts"])
@pytest.mark.parametrize(
    ("stored", "sound"),
    [("mkv", "aac"), ("mkv", "libopus"), ("mkv", "ac3"), ("mkv", "flac"), ("mp4", "aac"), ("ts", "aac")],
)
def test_copied_packets_keep_their_times(tmp_path: Path, stored: str, sound: str, extension: str) -> None:
    """With B frames that refer to B frames, and sound that begins below zero."""
    clip = reordered(tmp_path / f"a.{stored}", sound=sound)
    before = clock(clip)
    assert [pts for pts, _ in before["video"]] != sorted(pts for pts, _ in before["video"])
    copied(clip, tmp_path / f"b.{extension}")
    after = clock(tmp_path / f"b.{extension}")
    # All by one amount: that by which the file begins below zero, or anywhere in MPEG-TS.
    moved = after["video"][0][0] - before["video"][0][0]
    begins = min(pts for rows in before.values() for pts, _ in rows)
    assert min(abs(moved), abs(moved + begins)) < 1e-3
    assert abs(moved) < 1e-3 or (begins < 0 and extension in ("mkv", "ts")) or stored == "ts"
    for kind in before if "audio" in after else ["video"]:
        off = [float(a - b - moved) for (a, _), (b, _) in zip(after[kind], before[kind], strict=True)]
        assert max(map(abs, off)) <= (1.01e-3 if extension == "mkv" else 1.2e-5), kind


def test_encoded_pictures_keep_their_times_in_mpegts(tmp_path: Path) -> None:
    """An encoder counts decoding times of B frames from below zero, where MPEG-TS has none."""
    clip = reordered(tmp_path / "a.mp4")
    writer = copy_video(clip, tmp_path / "b.ts", preset="medium")
    assert writer.codec == "libx264"
    rows = clock(tmp_path / "b.ts")["video"]
    assert [pts for pts, _ in rows] != sorted(pts for pts, _ in rows)
    assert times(tmp_path / "b.ts") == times(clip)


def test_subtitles_of_one_moment_stay_there(tmp_path: Path) -> None:
    lines = [f"{n}\n00:00:00,100 --> 00:00:00,{500 + n}00\nline {n}\n" for n in range(3)]
    (tmp_path / "a.srt").write_text("\n".join(lines))
    clip = write_clip(tmp_path / "a.mkv", shaky(30), subtitles=tmp_path / "a.srt")
    copy_video(clip, tmp_path / "b.mkv")
    assert packets(tmp_path / "b.mkv", "subtitle") == packets(clip, "subtitle")
    assert [float(pts) for pts, _ in packets(clip, "subtitle")] == [0.1] * 3


@pytest.mark.parametrize(("extension", "kept"), [("mkv", True), ("webm", False), ("mp4", False), ("ts", False)])
def test_attachments_are_kept_or_named(tmp_path: Path, extension: str, kept: bool) -> None:
    if not hasattr(av.container.OutputContainer, "add_attachment"):
        pytest.skip("this PyAV writes no attachments")
    content = np.random.default_rng(1).bytes(3000)
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        video = out.add_stream("libvpx-vp9" if extension == "webm" else "libx264", rate=30)
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        out.add_attachment("some.ttf", "application/x-truetype-font", content)
        out.add_attachment("notes.bin", "application/octet-stream", content[:100])
        for picture in shaky(5):
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")))
        out.mux(video.encode(None))
    for written, name in (
        (copied(tmp_path / "a.mkv", tmp_path / f"b.{extension}"), f"b.{extension}"),
        (copy_video(tmp_path / "a.mkv", tmp_path / f"c.{extension}"), f"c.{extension}"),
    ):
        labels = ["#1 attachment", "#2 attachment"]
        assert (written.copied, written.not_copied) == ((labels, []) if kept else ([], labels))
        with av.open(str(tmp_path / name)) as container:
            assert [stream.type for stream in container.streams] == ["video"] + ["attachment"] * (2 * kept)
            if kept:
                font = container.streams[1]
                assert (font.metadata["filename"], bytes(font.data)) == ("some.ttf", content)


@pytest.mark.parametrize("extension", ["mkv", "webm", "mp4", "mov", "ts"])
def test_chapters_of_impossible_times_do_not_cost_the_video(tmp_path: Path, extension: str) -> None:
    chapters = [(0, 500, "one"), (500, 900_000_000_000_000, "far"), (500, 900, "two")]
    with av.open(str(tmp_path / "a.nut"), "w") as out:
        video = out.add_stream("libx264", rate=30)
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        if not hasattr(out, "set_chapters"):
            pytest.skip("this PyAV writes no chapters")
        keys = ("start", "end", "metadata", "id", "time_base")
        out.set_chapters(
            [
                dict(zip(keys, (start, end, {"title": title}, n, Fraction(1, 1000)), strict=True))
                for n, (start, end, title) in enumerate(chapters, start=1)
            ]
        )
        for picture in shaky(30):
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")))
        out.mux(video.encode(None))
    written = copy_video(tmp_path / "a.nut", tmp_path / f"b.{extension}")
    assert written.notes == ["chapters left out, of impossible times: 1"]
    assert times(tmp_path / f"b.{extension}") == pytest.approx(times(tmp_path / "a.nut"), abs=1e-3)
    if extension in ("mkv", "mp4"):
        with av.open(str(tmp_path / f"b.{extension}")) as container:
            assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["one", "two"]


def test_pictures_without_times_are_not_copied(tmp_path: Path) -> None:
    """In the order of decoding they would be shown wrongly."""
    clip = write_clip(tmp_path / "a.h264", shaky(20), container="h264")
    with VideoReader(clip) as reader:
        assert len(list(reader)) == 20
        assert reader.repaired_timestamps
        with pytest.raises(ArgumentError, match="path: pictures without times"):
            VideoCopy(tmp_path / "b.mkv", reader)
    assert leftovers(tmp_path) == []


class Packet:
    """What is asked of a packet of PyAV."""

    def __init__(self, pts: int | None, dts: int | None, time_base: Fraction, duration: int = 0) -> None:
        self.pts, self.dts, self.time_base, self.duration = pts, dts, time_base, duration
        self.stream: object = None


def timed(packets: list[Packet], muxer: str, clock: Fraction, kind: str = "video", ahead: int = 16) -> list[Packet]:
    from legato.video.media.copying import PacketTiming

    container = SimpleNamespace(format=av.format.ContainerFormat(muxer, "w"))
    timing = PacketTiming(SimpleNamespace(time_base=clock, type=kind, container=container), muxer, ahead=ahead)
    given = [packet for one in packets for packet in timing.push(one)] + list(timing.rest())
    assert len(given) + timing.lost == len(packets)
    return given


@pytest.mark.parametrize("muxer", ["matroska", "mp4", "mpegts"])
@pytest.mark.parametrize("seed", range(20))
def test_decoding_times_are_made_and_times_of_presentation_left(muxer: str, seed: int) -> None:
    """Of any order that a decoder can put right, with any decoding times missing or wrong."""
    rng = np.random.default_rng(seed)
    count, back = 60, int(rng.integers(1, 16))
    shown = np.cumsum(rng.integers(2, 60, count)) - 100 * int(rng.integers(2))
    order = sorted(range(count), key=lambda k: k + rng.uniform(0, back))
    tick = Fraction(1, 1000)
    wrong = rng.random(count) < rng.choice([0, 0.2, 1])
    missing = rng.random(count) < rng.choice([0, 0.3, 1])
    decoded = [
        None if m else int(t) + (700 if w else -700) for t, m, w in zip(np.sort(shown), missing, wrong, strict=True)
    ]
    given = [Packet(int(shown[k]), dts, tick) for k, dts in zip(order, decoded, strict=True)]
    out = timed(given, muxer, Fraction(1, 90_000))
    assert [p.pts for p in out] == [90 * int(shown[k]) for k in order]
    steps = np.diff([p.dts for p in out])
    assert (steps >= (muxer != "matroska")).all()
    assert all(p.dts <= p.pts for p in out)
    if muxer == "mpegts" and shown.min() * 90 >= count:
        assert out[0].dts >= 0


def test_missing_decoding_times_go_backwards_from_the_first_known() -> None:
    shown = [0, 133, 67, 33, 100, 267, 200, 167, 233]
    decoded = [None, None, 0, 33, 67, 100, 133, 167, 200]
    tick = Fraction(1, 1000)
    out = timed([Packet(*both, tick) for both in zip(shown, decoded, strict=True)], "mp4", tick)
    assert [p.dts for p in out] == [-66, -33, *decoded[2:]]


def test_what_cannot_be_decoded_in_time_is_counted() -> None:
    tick = Fraction(1, 1000)
    out = timed([Packet(t, t, tick) for t in (*range(0, 900, 30), 10, 900)], "mp4", tick, "audio")
    assert [p.pts for p in out] == [*range(0, 900, 30), 900]
