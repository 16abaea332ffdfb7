"""The live line: nothing lost, nothing out of step, and an end in good order whatever the source or the output do."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av", reason="needs PyAV, of the video extra")

from clips import SIZE, av, leftovers, shaky, times, under_way, write_clip
from legato import _core, camera, cli, video
from legato.errors import ArgumentError, DependencyError, InputError, OutputError
from legato.video.live.line import _Line
from legato.video.live.queue import LiveQueue
from legato.video.live.report import LatencyHistogram
from legato.video.live.sink import Target, _colored
from legato.video.live.source import Reading, Source, _Arrived, _LiveDecoder
from legato.video.live.stabilizer import Stabilizer

COUNT = 24
LEGATO = [sys.executable, "-m", "legato", "live"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shaky clip with B frames in MPEG-TS."""
    return write_clip(tmp_path_factory.mktemp("live") / "clip.ts", shaky(COUNT, SIZE), container="mpegts")


@contextlib.contextmanager
def served(*answers: Callable[[socket.socket], None]) -> Iterator[str]:
    """A TCP server on this machine that answers each connection in its own way and then takes no more."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                connection, _ = server.accept()
                with connection, contextlib.suppress(OSError):
                    answer(connection)
            server.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        thread.join(5)


def sending(data: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(data)


def holding(data: bytes, seconds: float) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.sendall(data)
        time.sleep(seconds)

    return answer


def decoded(path: Path) -> list[video.VideoFrame]:
    with video.VideoReader(path) as reader:
        return list(reader)


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="needs files without a name")
@pytest.mark.parametrize("name", ["out.mp4", "out.y4m"])
def test_a_killed_process_leaves_nothing(clip: Path, tmp_path: Path, name: str) -> None:
    command = [*LEGATO, "--input", "-", "--output", tmp_path / name, "--report", tmp_path / "r.json", "--quiet"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(clip.read_bytes())
        process.stdin.flush()
        begin = time.monotonic()
        while len(under_way(tmp_path, process.pid)) < 2 and process.poll() is None and time.monotonic() - begin < 30:
            time.sleep(0.02)
        assert process.poll() is None
        process.kill()
    assert list(tmp_path.iterdir()) == []


def test_mask_and_region_reach_the_tracker(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    masks: list[np.ndarray] = []
    plan = _core.VideoLivePlan

    def spied(*arguments: Any) -> object:
        masks.append(arguments[-1])
        return plan(*arguments)

    monkeypatch.setattr(_core, "VideoLivePlan", spied)
    assert cli.main(["live", "--input", str(clip), "--output", str(tmp_path / "a.mp4"), "--region", "8,4,40,30"]) == 0
    expected = np.zeros(SIZE[::-1], bool)
    expected[4:34, 8:48] = True
    np.testing.assert_array_equal(masks[-1], expected)
    with pytest.raises(ArgumentError, match="mask: black everywhere"):
        video.stabilize_live(clip, tmp_path / "b.mp4", mask=np.zeros(SIZE[::-1], bool))


def test_a_run_too_short_for_a_latency(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write_clip(tmp_path / "one.mp4", shaky(1))
    assert cli.main(["live", "--input", str(one), "--output", str(tmp_path / "a.mp4")]) == 0
    text = capsys.readouterr().out
    assert ": 1 frame in" in text
    assert "nan" not in text


def test_a_whole_mp4_through_a_pipe_is_explained(tmp_path: Path) -> None:
    data = write_clip(tmp_path / "a.mp4", shaky(40, (320, 240))).read_bytes()
    command = [*LEGATO, "--input", "-", "--output", tmp_path / "b.mp4"]
    done = subprocess.run(command, input=data, capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "cannot come through a pipe" in done.stderr.decode().splitlines()[-1]


def test_files_are_checked_before_the_work(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"older")
    with pytest.raises(InputError, match=r"nope\.mp4: no such file"):
        video.stabilize_live(tmp_path / "nope.mp4", tmp_path / "out.mp4")
    with pytest.raises(ArgumentError, match=r"report: .* is the same file as the input"):
        video.stabilize_live(clip, tmp_path / "new.mp4", report=clip)
    (tmp_path / "mask.png").write_bytes(b"of the user")
    with pytest.raises(ArgumentError, match=r"report: .* is the same file as the mask"):
        video.stabilize_live(clip, tmp_path / "new.mp4", mask=tmp_path / "mask.png", report=tmp_path / "mask.png")
    with pytest.raises(ArgumentError, match="encoder_preset: expected one of"):
        video.stabilize_live(clip, tmp_path / "new.mp4", encoder_preset="placebo")
    assert (tmp_path / "out.mp4").read_bytes() == b"older"


def test_a_file_comes_out_frame_for_frame(tmp_path: Path) -> None:
    """Lossless in and out, timestamps that vary: every picture is that of its time, steadied, and nothing else."""
    stamps = [0, 33, 67, 100, 200, 210, 250, 301, 333, 400, 433, 467, 500]
    source = write_clip(
        tmp_path / "in.mkv", shaky(13, SIZE), codec="ffv1", pts=stamps, time_base=Fraction(1, 1000), rate=30
    )
    report = video.stabilize_live(source, tmp_path / "out.mkv", latency_frames=5, codec="ffv1", fps=30)
    assert (report.ended, report.note) == ("input", "")
    assert (report.frames_read, report.frames_dropped, report.frames_written) == (13, 0, 13)
    assert times(tmp_path / "out.mkv") == [Fraction(pts, 1000) for pts in stamps]
    stabilizer = video.Stabilizer(SIZE, 30, latency_frames=5)
    expected = [out for frame in decoded(source) for out in stabilizer.push(frame)] + stabilizer.flush()
    for want, got in zip(expected, decoded(tmp_path / "out.mkv"), strict=True):
        for name in "yuv":
            assert np.array_equal(getattr(want.planes, name), getattr(got.planes, name))
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".avi", ".webm", ".y4m"])
def test_every_kind_of_file(clip: Path, tmp_path: Path, suffix: str) -> None:
    report = video.stabilize_live(clip, tmp_path / f"out{suffix}", latency_frames=3, encoder_preset="ultrafast")
    assert report.frames_written == COUNT
    assert len(decoded(tmp_path / f"out{suffix}")) == COUNT
    step = np.diff([float(t) for t in times(tmp_path / f"out{suffix}")])
    assert np.abs(step - 1 / 30).max() < 2e-3


@pytest.mark.parametrize("kind", ["gray", "yuv422p", "yuv444p", "yuv420p10le"])
def test_formats_and_odd_sizes(tmp_path: Path, kind: str) -> None:
    source = write_clip(tmp_path / "in.mkv", shaky(6, (97, 65)), codec="ffv1", pixel_format=kind)
    for name, taken in (("out.mp4", (96, 64)), ("out.y4m", (97, 65))):
        report = video.stabilize_live(source, tmp_path / name, latency_frames=2)
        assert report.size == (taken if name.endswith("mp4") or kind == "yuv444p" or kind == "gray" else report.size)
        with video.VideoReader(tmp_path / name) as reader:
            assert (reader.width, reader.height) == report.size
            assert len(list(reader)) == 6


@pytest.mark.parametrize(("bits", "depth"), [(8, 8), (9, 10), (12, 10), (10, 8)])
def test_gray_keeps_its_brightness_in_another_depth(bits: int, depth: int) -> None:
    white = np.full((4, 6), (1 << bits) - 1, np.uint8 if bits == 8 else np.uint16)
    planes = _colored(video.Planes(white, bit_depth=bits), depth)
    assert planes.bit_depth == depth
    assert ((1 << depth) - 2 <= planes.y).all()
    assert planes.u is not None
    assert (planes.u == 1 << (depth - 1)).all()


def test_gray_keeps_its_range(tmp_path: Path) -> None:
    halves = np.zeros((64, 96), np.uint8)
    halves[:, 48:] = 255
    source = write_clip(tmp_path / "in.mkv", [np.dstack([halves] * 3)] * 3, codec="ffv1", pixel_format="gray")
    video.stabilize_live(source, tmp_path / "out.mp4", latency_frames=1, crf=4)
    with video.VideoReader(tmp_path / "out.mp4") as reader:
        planes = next(iter(reader)).planes
    assert planes.y[10:50, :30].max() <= 2
    assert planes.y[10:50, -30:].min() >= 253
    assert planes.u is not None
    assert set(np.unique(planes.u)) <= {127, 128, 129}


def test_y4m_through_pipes(clip: Path, tmp_path: Path) -> None:
    """Standard input to standard output is the same, byte for byte, as file to file."""
    video.stabilize_live(clip, tmp_path / "first.y4m", latency_frames=4)
    video.stabilize_live(tmp_path / "first.y4m", tmp_path / "second.y4m", latency_frames=4)
    piped = subprocess.run(
        [*LEGATO, "--input", "-", "--output", "-", "--latency", "4"],
        input=(tmp_path / "first.y4m").read_bytes(),
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert piped.stdout == (tmp_path / "second.y4m").read_bytes()
    assert b"24 frames" in piped.stderr


def test_a_stream_that_dies_and_comes_back(clip: Path, tmp_path: Path) -> None:
    data = clip.read_bytes()
    with served(sending(data), sending(data)) as url:
        report = video.stabilize_live(url, tmp_path / "out.mkv", latency_frames=5, reconnect_s=1)
    assert report.ended == "lost"
    assert "tcp://127.0.0.1" in report.note
    assert report.reconnects == 1
    assert report.frames_written == report.frames_read == 2 * COUNT
    assert report.cuts == 1
    steps = np.diff([float(t) for t in times(tmp_path / "out.mkv")])
    assert len(steps) == 2 * COUNT - 1
    away = steps[COUNT - 1]
    assert 0 < away < 5
    assert np.abs(np.delete(steps, COUNT - 1) - 1 / 30).max() < 2e-3


def test_a_stream_that_comes_back_in_another_size_is_another_scene(clip: Path, tmp_path: Path) -> None:
    other = write_clip(tmp_path / "other.ts", shaky(12, (96, 96)), container="mpegts")
    with served(sending(clip.read_bytes()), sending(other.read_bytes())) as url:
        report = video.stabilize_live(url, tmp_path / "out.mkv", latency_frames=5, reconnect_s=1)
    assert report.frames_read == report.frames_written == COUNT + 12
    assert (report.reconnects, report.cuts, report.size) == (1, 1, SIZE)
    shown = decoded(tmp_path / "out.mkv")
    assert len(shown) == COUNT + 12
    with video.VideoReader(tmp_path / "out.mkv") as reader:
        last = list(reader)[-1].planes.y
    # 96x96 in 160x120: enlarged to 120x120, between columns of black.
    assert last[:, :18].max() < 30
    assert last[:, -18:].max() < 30
    assert last[:, 24:-24].std() > 10


def test_a_stream_that_comes_back_in_another_format(clip: Path, tmp_path: Path) -> None:
    other = write_clip(tmp_path / "other.ts", shaky(5), container="mpegts", pixel_format="yuv444p")
    told: list[video.LiveReport] = []
    with (
        served(sending(clip.read_bytes()), sending(other.read_bytes())) as url,
        pytest.raises(InputError, match=r"came back as yuv444p, was yuv420p") as failure,
    ):
        video.stabilize_live(
            url, tmp_path / "out.mkv", latency_frames=5, reconnect_s=5, report=tmp_path / "r.json", tell=told.append
        )
    assert len(decoded(tmp_path / "out.mkv")) == COUNT  # what had been written is complete
    content = json.loads((tmp_path / "r.json").read_text())
    assert (content["ended"], content["note"]) == ("failed", str(failure.value))
    assert content["frames_read"] == content["frames_written"] == told[0].frames_written == COUNT


def test_a_size_that_changes_in_mid_stream(clip: Path, tmp_path: Path) -> None:
    larger = write_clip(tmp_path / "larger.ts", shaky(12, (320, 240)), container="mpegts")
    command = [*LEGATO, "--input", "-", "--output", tmp_path / "out.mkv", "--json"]
    piped = clip.read_bytes() + larger.read_bytes()
    done = subprocess.run(command, input=piped, timeout=60, check=True, capture_output=True)
    report = json.loads(done.stdout)
    assert report["frames_read"] == report["frames_written"] > COUNT + 6  # pictures at the seam may not be decodable
    assert (report["cuts"], report["size"]) == (1, list(SIZE))
    with video.VideoReader(tmp_path / "out.mkv") as reader:
        assert all(frame.planes.size == SIZE for frame in reader)


def heard(path: Path) -> tuple[list[Fraction], np.ndarray]:
    """Times of the packets of sound, and the samples."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        begun = [p.pts * p.time_base for p in container.demux(stream) if p.size]
        container.seek(0)
        samples = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    return begun, np.concatenate(samples)


@pytest.mark.parametrize(
    ("kind", "sound", "name", "how"),
    [
        ("mpegts", "aac", "out.ts", "copied"),
        ("mpegts", "aac", "out.mkv", "copied"),
        ("mpegts", "aac", "out.mp4", "copied"),
        ("matroska", "pcm_s16le", "out.ts", "encoded"),
        ("matroska", "pcm_s16le", "out.mp4", "copied"),
        ("matroska", "pcm_s16le", "out.webm", "encoded"),
        ("matroska", "aac", "out.y4m", "none"),
        ("mpegts", "aac", "out.avi", "none"),
    ],
)
def test_sound_is_as_late_as_the_pictures(tmp_path: Path, kind: str, sound: str, name: str, how: str) -> None:
    source = write_clip(tmp_path / "in.bin", shaky(45), container=kind, sound=sound)
    out = tmp_path / name
    command = [*LEGATO, "--input", "-", "--output", out, "--latency", "6", "--json"]
    done = subprocess.run(command, input=source.read_bytes(), timeout=100, check=True, capture_output=True)
    assert json.loads(done.stdout)["sound"] == how
    if how == "none":
        return
    begun, samples = heard(out)
    shown = times(out)
    assert abs(float(begun[0] - shown[0])) < 0.05
    assert abs(float(begun[-1] - shown[-1])) < 0.08
    assert all(a < b for a, b in itertools.pairwise(begun))
    # A tone of 440 Hz, without a gap.
    whole = samples[4800 : 4800 * (len(samples) // 4800) - 4800].astype(np.float64)
    spectrum = np.abs(np.fft.rfft(whole * np.hanning(len(whole))))
    assert np.argmax(spectrum) * 48000 / len(whole) == pytest.approx(440, abs=3)
    loud = np.abs(whole.reshape(-1, 480)).max(1)
    assert loud.min() > 0.6 * loud.max()


def test_sound_goes_on_where_the_stream_does(tmp_path: Path) -> None:
    data = write_clip(tmp_path / "in.ts", shaky(45), container="mpegts", sound="aac").read_bytes()
    out = tmp_path / "out.mkv"
    with served(sending(data), sending(data)) as url:
        report = video.stabilize_live(url, out, latency_frames=5, reconnect_s=1)
    assert (report.reconnects, report.sound) == (1, "copied")
    begun, shown = heard(out)[0], times(out)
    gaps = [max(b - a for a, b in itertools.pairwise(one)) for one in (begun, shown)]
    assert abs(float(gaps[0] - gaps[1])) < 0.1  # as long as the pictures were away
    assert abs(float(begun[-1] - shown[-1])) < 0.1


def test_sound_may_be_left_out(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.ts", shaky(20), container="mpegts", sound="aac")
    assert cli.main(["live", "--input", str(source), "--output", str(tmp_path / "a.ts"), "--no-sound", "--quiet"]) == 0
    with av.open(str(tmp_path / "a.ts")) as container:
        assert not container.streams.audio
    assert video.stabilize_live(source, tmp_path / "b.ts").sound == "copied"  # a file's, too


def test_what_is_asked_of_cameras_and_streams() -> None:
    made = Source.of("tcp://host:1", None, options={"probesize": "32", "listen": "1"})
    assert (made.options["probesize"], made.options["listen"]) == ("32", "1")
    if Path("/dev/video0").exists():
        asked = Source.of(0, 25.0, camera_size=(1280, 720), options={"input_format": "mjpeg"}).options
        assert asked == {"framerate": "25", "video_size": "1280x720", "input_format": "mjpeg"}
    with pytest.raises(ArgumentError, match="camera_size: expected together with the number of a camera"):
        video.stabilize_live("tcp://host:1", "out.ts", camera_size=(640, 480))
    with pytest.raises(ArgumentError, match="camera_size"):
        video.stabilize_live(0, "out.ts", camera_size=(640, 0))
    with pytest.raises(ArgumentError, match="input_options: expected together with a camera, a stream or a pipe"):
        video.stabilize_live("file.mp4", "out.ts", input_options={"a": "b"})
    with pytest.raises(ArgumentError, match="input_options: expected a mapping of text to text"):
        video.stabilize_live("tcp://host:1", "out.ts", input_options={"a": 1})
    for wrong in (["--camera-size", "1280"], ["--input-option", "probesize"]):
        assert cli.main(["live", "--input", "0", "--output", "out.ts", *wrong]) == 2


def test_a_clock_that_starts_anew(clip: Path, tmp_path: Path) -> None:
    """As a server does that plays a file in a loop."""
    with served(sending(clip.read_bytes() * 3)) as url:
        report = video.stabilize_live(url, tmp_path / "out.mkv", latency_frames=5, reconnect_s=0)
    assert report.ended == "input"
    steps = np.diff([float(t) for t in times(tmp_path / "out.mkv")])
    assert report.frames_written == len(steps) + 1
    assert len(steps) >= 3 * COUNT - 9  # pictures at the seams may not be decodable
    assert steps.min() > 0.03
    assert steps.max() < 0.2


def test_a_clock_that_is_wrong_for_a_moment(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One damaged timestamp, back or ahead, shifts that picture alone."""
    decode = _LiveDecoder._decode_packet
    wrong = {6: -90_000, 12: -1500, 17: 100 * 90_000}
    seen = 0

    def damaged(self: _LiveDecoder, packet: object) -> list[object]:
        nonlocal seen
        frames = decode(self, packet)
        for frame in frames:
            frame.pts += wrong.get(seen, 0)
            seen += 1
        return frames

    monkeypatch.setattr(_LiveDecoder, "_decode_packet", damaged)
    with served(sending(clip.read_bytes())) as url:
        report = video.stabilize_live(url, tmp_path / "out.mkv", latency_frames=3, reconnect_s=0)
    assert report.repaired_timestamps == 2  # half a frame back is still after the picture before
    late = np.array([float(t) for t in times(tmp_path / "out.mkv")]) - np.arange(COUNT) / 30
    assert np.abs(np.delete(late, [6, 12, 17])).max() < 2e-3
    assert np.abs(late).max() < 0.04


def test_a_pause_in_a_pipe_is_no_jump_of_a_clock(tmp_path: Path) -> None:
    stamps = [*range(8), *range(700, 708)]  # a screen recording with nothing new for 23 s
    source = write_clip(tmp_path / "in.ts", shaky(16), pts=stamps, time_base=Fraction(1, 30), container="mpegts")
    command = [*LEGATO, "--input", "-", "--output", tmp_path / "out.mkv", "--quiet"]
    subprocess.run(command, input=source.read_bytes(), timeout=60, check=True)
    assert [round(30 * t) for t in times(tmp_path / "out.mkv")] == stamps


@pytest.mark.parametrize("rate", [Fraction(1, 2), Fraction(24000, 1001), Fraction(480)])
def test_a_true_rate_is_kept(tmp_path: Path, rate: Fraction) -> None:
    source = write_clip(tmp_path / "in.avi", shaky(6), codec="ffv1", rate=rate)
    report = video.stabilize_live(source, tmp_path / "one.y4m", latency_frames=2, fps=float(rate))
    assert report.frame_rate == pytest.approx(float(rate))
    video.stabilize_live(tmp_path / "one.y4m", tmp_path / "two.y4m", latency_frames=2)
    assert f" F{rate.numerator}:{rate.denominator} ".encode() in (tmp_path / "two.y4m").read_bytes()[:80]


@pytest.mark.parametrize("muxer", ["h264", "mjpeg"])
def test_a_rate_for_pictures_without_times(tmp_path: Path, muxer: str) -> None:
    codec, form = ("libx264", "yuv420p") if muxer == "h264" else ("mjpeg", "yuvj420p")
    source = write_clip(tmp_path / f"in.{muxer}", shaky(12), codec=codec, pixel_format=form, container=muxer)
    command = [*LEGATO, "--input", "-", "--output", tmp_path / "out.mp4", "--fps", "50", "--quiet"]
    subprocess.run(command, input=source.read_bytes(), timeout=60, check=True)
    assert times(tmp_path / "out.mp4") == [Fraction(t, 50) for t in range(12)]


FFMPEG = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="the other side is the ffmpeg command")


@contextlib.contextmanager
def ffmpeg(*arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def once_it_listens(run: Callable[[], video.LiveReport]) -> video.LiveReport:
    """Run as soon as the other side takes a connection; to try that out would be the one that it takes."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return run()
        except (InputError, OutputError) as error:
            if time.monotonic() > deadline or "refused" not in str(error):
                raise
            time.sleep(0.05)


@FFMPEG
@pytest.mark.parametrize(
    ("url", "muxer"), [("http://127.0.0.1:{}/a.ts", "mpegts"), ("rtmp://127.0.0.1:{}/live/a", "flv")]
)
def test_input_from_a_server(clip: Path, tmp_path: Path, url: str, muxer: str) -> None:
    url = url.format(free_port())
    with ffmpeg("-i", clip, "-c", "copy", "-f", muxer, "-listen", "1", url):
        report = once_it_listens(
            lambda: video.stabilize_live(url, tmp_path / "out.mkv", latency_frames=5, reconnect_s=0)
        )
    assert (report.frames_read, report.frames_dropped, report.frames_written) == (COUNT, 0, COUNT)
    assert np.abs(np.diff([float(t) for t in times(tmp_path / "out.mkv")]) - 1 / 30).max() < 2e-3


@FFMPEG
@pytest.mark.parametrize(
    ("url", "options"),
    [("rtsp://127.0.0.1:{}/a", ["-rtsp_flags", "listen"]), ("rtmp://127.0.0.1:{}/live/a", ["-listen", "1"])],
)
def test_output_to_a_server(clip: Path, tmp_path: Path, url: str, options: list[str]) -> None:
    url = url.format(free_port())
    with ffmpeg(*options, "-i", url, "-c", "copy", tmp_path / "taken.mkv") as server:
        report = once_it_listens(lambda: video.stabilize_live(clip, url, latency_frames=5))
        server.wait(20)
    assert report.frames_written == COUNT
    assert len(decoded(tmp_path / "taken.mkv")) == COUNT


def taking(kept: list[bytes], most: int) -> Callable[[socket.socket], None]:
    """Reads so much and hangs up, so that the sender is told at once."""

    def answer(connection: socket.socket) -> None:
        got = b""
        while len(got) < most and (more := connection.recv(4096)):
            got += more
        kept.append(got)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return answer


def test_an_output_that_breaks_is_opened_again(tmp_path: Path) -> None:
    source, taken = write_clip(tmp_path / "long.mkv", shaky(240)), list[bytes]()
    with served(taking(taken, 20_000), taking(taken, 1 << 30)) as url:
        report = video.stabilize_live(source, url, latency_frames=3, crf=5)
    assert (report.frames_written, report.output_reconnects, report.reconnects) == (240, 1, 0)
    assert "output opened again" in report.summary()
    (tmp_path / "rest.ts").write_bytes(taken[1])
    assert 0 < len(decoded(tmp_path / "rest.ts")) < 240


@pytest.mark.parametrize("reconnect_s", [0, 0.3])
def test_an_output_that_does_not_come_back(tmp_path: Path, reconnect_s: float) -> None:
    source = write_clip(tmp_path / "long.mkv", shaky(240))
    with served(taking([], 20_000)) as url, pytest.raises(OutputError, match=r"tcp://.*cannot be written"):
        video.stabilize_live(source, url, latency_frames=3, crf=5, reconnect_s=reconnect_s)


@FFMPEG
def test_a_server_that_is_killed_and_started_again(clip: Path, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/a.ts"
    serve = ("-re", "-stream_loop", "-1", "-i", clip, "-c", "copy", "-f", "mpegts", "-listen", "1", url)
    reports: list[video.LiveReport] = []

    def run() -> None:
        reports.append(
            once_it_listens(
                lambda: video.stabilize_live(
                    url, tmp_path / "out.mkv", latency_frames=5, reconnect_s=10, stall_s=5, duration_s=3.5
                )
            )
        )

    line = threading.Thread(target=run)
    line.start()
    with ffmpeg(*serve):
        time.sleep(1.5)  # it starts and plays for a while
    with ffmpeg(*serve):
        line.join(20)
    (report,) = reports
    assert (report.ended, report.reconnects, report.frames_dropped) == ("duration", 1, 0)
    stamps = times(tmp_path / "out.mkv")
    assert len(stamps) == report.frames_written == report.frames_read > COUNT
    steps = np.diff([float(t) for t in stamps])
    assert (steps > 0.01).all()
    assert (steps > 0.2).sum() == 1  # while nobody was there


def test_a_first_packet_without_a_time(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of RTSP: it belongs before the second, which has the time of the beginning."""
    decode = _LiveDecoder._decode_packet
    seen = 0

    def untimed(self: _LiveDecoder, packet: object) -> list[object]:
        nonlocal seen
        frames = decode(self, packet)
        for frame in frames:
            if seen < 2:
                frame.pts = None
            seen += 1
        return frames

    monkeypatch.setattr(_LiveDecoder, "_decode_packet", untimed)
    with served(sending(clip.read_bytes())) as url:
        report = video.stabilize_live(url, tmp_path / "out.mkv", latency_frames=5, reconnect_s=0)
    assert report.frames_written == COUNT
    assert np.abs(np.diff([float(t) for t in times(tmp_path / "out.mkv")]) - 1 / 30).max() < 2e-3


def test_a_stream_that_stalls(clip: Path, tmp_path: Path) -> None:
    data = clip.read_bytes()
    with served(holding(data[: len(data) // 188 // 2 * 188], 2)) as url:
        began = time.monotonic()
        report = video.stabilize_live(url, tmp_path / "out.mkv", latency_frames=3, stall_s=0.5, reconnect_s=0)
        assert time.monotonic() - began < 10
    assert report.ended in ("lost", "stalled")
    assert report.note
    assert 0 < report.frames_written == report.frames_read < COUNT
    assert len(decoded(tmp_path / "out.mkv")) == report.frames_written


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are of POSIX")
@pytest.mark.parametrize("share", [0.0, 0.9])
def test_a_pipe_that_stalls(clip: Path, tmp_path: Path, share: float) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    data = clip.read_bytes()
    over = threading.Event()

    def write() -> None:
        with pipe.open("wb", buffering=0) as end:
            end.write(data[: int(share * len(data))])
            over.wait(20)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        if share == 0:
            with pytest.raises(InputError, match=r"pipe: gave no picture for 0\.3 s"):
                video.stabilize_live(pipe, tmp_path / "out.mkv", stall_s=0.3)
            assert not (tmp_path / "out.mkv").exists()
        else:
            report = video.stabilize_live(pipe, tmp_path / "out.mkv", latency_frames=3, stall_s=0.3)
            assert report.ended == "stalled"
            assert "gave no picture" in report.note
            assert len(decoded(tmp_path / "out.mkv")) == report.frames_written > 0
    finally:
        over.set()
        writer.join()
    assert not leftovers(tmp_path)


def test_broken_streams_do_no_harm(clip: Path, tmp_path: Path) -> None:
    data = np.frombuffer(clip.read_bytes(), np.uint8)
    faults = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        broken = data.copy()
        broken[rng.integers(len(data) // 4, len(data), 40)] = rng.integers(0, 256, 40)
        with served(sending(broken[: rng.integers(len(data) // 2, len(data))].tobytes())) as url:
            report = video.stabilize_live(url, tmp_path / "out.mkv", latency_frames=2, reconnect_s=0, stall_s=2)
        assert report.frames_written == report.frames_read > 0
        faults += report.skipped_packets + report.damaged_frames + report.repaired_timestamps
        assert (np.diff([float(t) for t in times(tmp_path / "out.mkv")]) > 0).all()
    assert faults > 0


def test_what_is_too_slow_drops_the_oldest_of_a_stream_and_nothing_of_a_file(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push = video.Stabilizer.push
    pushed: list[int] = []

    def slow(self: video.Stabilizer, frame: video.VideoFrame, *, cut: bool = False) -> list[video.VideoFrame]:
        time.sleep(0.05)
        pushed.append(frame.index)
        return push(self, frame, cut=cut)

    monkeypatch.setattr(video.Stabilizer, "push", slow)
    monkeypatch.setattr("legato.video.live.source._QUEUED_S", 0.2)
    with served(sending(clip.read_bytes())) as url:
        report = video.stabilize_live(url, tmp_path / "out.mkv", latency_frames=2, reconnect_s=0)
    assert report.frames_read == COUNT
    assert 0 < report.frames_dropped == COUNT - len(pushed)
    assert report.frames_written == len(pushed)
    assert pushed == sorted(pushed)
    assert pushed[-6:] == list(range(COUNT - 6, COUNT))  # the newest are kept
    stamps = [round(30 * t) for t in times(tmp_path / "out.mkv")]
    assert stamps == [index - pushed[0] for index in pushed]
    pushed.clear()
    report = video.stabilize_live(clip, tmp_path / "out.mkv", latency_frames=2)
    assert (report.frames_dropped, pushed) == (0, list(range(COUNT)))


def test_the_queue() -> None:
    queue: LiveQueue[int] = LiveQueue(3)
    assert [queue.put(i, 0.0) for i in range(5)] == [True] * 5
    assert queue.dropped == 2
    assert queue.get() == 2
    threading.Timer(0.05, queue.close).start()
    assert queue.put(5)
    assert not queue.put(6)  # waits for room, and then for nothing
    assert [queue.get(), queue.over, queue.get(), queue.get(), queue.over] == [3, False, 4, 5, True]
    assert queue.get() is None
    assert LiveQueue[int](1).get(0.01) is None


def test_a_connection_begins_a_scene_though_its_first_picture_is_dropped(clip: Path) -> None:
    cuts: list[bool] = []

    class Spy:
        size = SIZE

        def push(self, _frame: video.VideoFrame, *, cut: bool) -> list[video.VideoFrame]:
            cuts.append(cut)
            return []

        flush = list

    reading = Reading(Source.of(clip, None), 0, 0, None)
    line = _Line(reading, Target.of("out.mkv", None), Spy, None, {}, 0, 0, False)
    line._stabilizer = Spy()  # type: ignore[assignment]
    reading.queue.capacity = 3
    frame = decoded(clip)[0]
    for connection in (0, 0, 1, 1):
        reading.queue.put(_Arrived(frame, 0.0, connection), 0.0)
    assert reading.queue.get().connection == 0  # type: ignore[union-attr]
    for _ in range(2):  # drops the other of the old connection, and the first of the new one
        reading.queue.put(_Arrived(frame, 0.0, 1), 0.0)
    reading.queue.close()
    line._compute()
    assert (reading.queue.dropped, cuts) == (2, [True, False, False])
    assert line._error is None


def test_the_histogram() -> None:
    values = np.random.default_rng(0).lognormal(-4, 1, 5000)
    histogram = LatencyHistogram()
    assert np.isnan(histogram.percentile_s(50))
    assert histogram.coarse() == []
    for value in values:
        histogram.record(value)
    for q in (1, 50, 90, 99, 100):
        exact = np.percentile(values, q, method="inverted_cdf")
        assert exact * 0.9999 <= histogram.percentile_s(q) <= exact * 1.0101
    coarse = histogram.coarse()
    assert sum(count for _, count in coarse) == histogram.count == 5000
    below = sum(count for upper, count in coarse if upper <= 32)
    assert below / 5000 == pytest.approx((values < 0.032).mean(), abs=0.02)
    for value in (0.0, 1e9):
        histogram.record(value)
    assert histogram.percentile_s(100) == histogram.max_s == 1e9 or histogram.percentile_s(100) >= 1e3


def test_a_duration(clip: Path, tmp_path: Path) -> None:
    report = video.stabilize_live(clip, tmp_path / "out.mkv", latency_frames=4, duration_s=0.4)
    assert (report.ended, report.frames_written) == ("duration", 12)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_completes_the_output(clip: Path, tmp_path: Path, number: signal.Signals, code: int) -> None:
    out = tmp_path / "out.mp4"
    process = subprocess.Popen(
        [*LEGATO, "--input", "-", "--output", str(out), "--latency", "4", "--stall", "0", "--report", "r.json"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(clip.read_bytes())
    process.stdin.flush()
    deadline = time.monotonic() + 30
    while len(under_way(tmp_path, process.pid)) < 2 and time.monotonic() < deadline:  # report and output
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(number)
    text, error = process.communicate(timeout=30)
    assert process.returncode == code, error
    assert b"Traceback" not in error
    frames = len(decoded(out))
    assert 0 < frames <= COUNT
    assert f"{frames} frames".encode() in text
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["ended"], report["frames_read"], report["frames_written"]) == ("interrupted", frames, frames)
    assert not leftovers(tmp_path)


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="that it listens is read in /proc")
def test_an_output_that_nobody_connects_to(clip: Path, tmp_path: Path) -> None:
    port = free_port()
    url = f"tcp://127.0.0.1:{port}?listen=1"
    command = [*LEGATO, "--input", str(clip), "--output", url, "--report", tmp_path / "r.json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    listens = re.compile(rf":{port:04X} 00000000:0000 0A ")
    deadline = time.monotonic() + 30
    while not listens.search(Path("/proc/net/tcp").read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=10)
    assert process.returncode == -signal.SIGINT
    assert b"Traceback" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_report_that_does_not_fit(clip: Path, tmp_path: Path) -> None:
    command = [*LEGATO, "--input", str(clip), "--output", tmp_path / "out.mkv", "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == 1
    assert b"standard output: cannot be written" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_an_output_that_is_closed(clip: Path) -> None:
    many = clip.read_bytes() * 8  # more y4m than a pipe holds
    arguments = [*LEGATO, "--input", "-", "--output", "-", "--latency", "2"]
    closed = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert closed.stdout is not None
    closed.stdout.close()
    closed.stdout = None
    _, error = closed.communicate(many, timeout=30)
    assert closed.returncode == 1
    assert b"standard output: cannot be written" in error
    assert b"Traceback" not in error


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_an_output_that_takes_nothing(clip: Path) -> None:
    many = clip.read_bytes() * 8
    arguments = [*LEGATO, "--input", "-", "--output", "-", "--latency", "2"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    deaf = subprocess.Popen(arguments, **pipes)
    assert deaf.stdin is not None
    assert deaf.stderr is not None
    feeder = threading.Thread(target=_feed, args=(deaf.stdin, many))
    feeder.start()
    assert select.select([deaf.stdout], [], [], 60)[0]  # it has begun
    time.sleep(2.5)  # it has filled the pipe and waits
    assert deaf.poll() is None
    deaf.send_signal(signal.SIGINT)
    assert deaf.wait(timeout=30) == 130
    feeder.join()
    assert b"takes no pictures" in deaf.stderr.read()
    for stream in (deaf.stdout, deaf.stderr):
        assert stream is not None
        stream.close()


def _feed(stream: object, data: bytes) -> None:
    with contextlib.suppress(OSError):
        stream.write(data)  # type: ignore[attr-defined]
    with contextlib.suppress(OSError):
        stream.close()  # type: ignore[attr-defined]


def test_the_command(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, report = tmp_path / "out.mp4", tmp_path / "report.json"
    arguments = ["live", "--input", str(clip), "--output", str(out), "--latency", "3", "--report", str(report)]
    assert cli.main(arguments) == 0
    said = capsys.readouterr().out
    assert "24 frames" in said
    assert "p99" in said
    content = json.loads(report.read_text())
    assert content["frames_written"] == COUNT
    assert content["delay_ms"] == pytest.approx(100)
    assert 0 < content["latency_ms"]["p50"] <= content["latency_ms"]["p99"] <= content["latency_ms"]["max"]
    assert sum(count for _, count in content["latency_ms"]["histogram"]) == COUNT - 3
    assert cli.main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ended"] == "input"
    assert cli.main([*arguments, "--no-overwrite"]) == 2
    assert "exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--input", "none.mp4"], 1, "none.mp4: no such file"),
        (["--input", "99"], 1, "camera 99"),
        (["--input", "tcp://127.0.0.1:9"], 1, "tcp://127.0.0.1:9: cannot be opened"),
        (["--input", "rtsp://me:secret@127.0.0.1:9/x"], 1, "rtsp://me:***@127.0.0.1:9/x: cannot be opened"),
        (["--input", "CLIP", "--output", "CLIP"], 2, "same file"),
        (["--input", "CLIP", "--output", "out.xyz"], 2, "unknown kind"),
        (["--input", "CLIP", "--output", "no/such/out.mp4"], 1, "no such directory"),
        (["--input", "CLIP", "--latency", "-1"], 2, "latency_frames"),
        (["--input", "CLIP", "--crop", "2"], 2, "crop"),
        (["--input", "CLIP", "--fps", "0"], 2, "fps"),
        (["--input", "CLIP", "--fps", "1e-9"], 2, "fps"),
        (["--input", "CLIP", "--duration", "-3"], 2, "duration_s"),
        (["--input", "CLIP", "--stall", "-1"], 2, "stall_s"),
        (["--input", "CLIP", "--container", "y4m"], 2, "container"),
        (["--input", "CLIP", "--codec", "none"], 2, "no encoder named"),
        (["--input", "CLIP", "--codec", "aac"], 2, "an encoder of audio"),
        (["--input", "CLIP", "--codec", "prores_ks"], 2, "mp4 streams cannot hold prores_ks"),
        (["--input", "CLIP", "--codec", "mpeg4"], 2, "mpeg4 refuses 160x120"),
        (["--input", "CLIP", "--encoder-preset", "warp"], 2, "preset"),
        (["--input", "CLIP", "--output", "out.y4m", "--codec", "libx264"], 2, "not coded"),
        ([], 2, "--input"),
    ],
)
def test_errors_are_one_line(
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [str(clip) if a == "CLIP" else a for a in arguments]
    output = [] if "--output" in arguments else ["--output", "out.mp4"]
    assert cli.main(["live", *given, *output]) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_windows(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The window itself needs a screen; here OpenCV is a stand-in that keeps what it is shown."""
    shown: list[np.ndarray] = []

    class Cv2:
        WINDOW_NORMAL = WINDOW_GUI_NORMAL = WND_PROP_VISIBLE = 0
        gui = "NONE"
        quit_after = 10**9

        def getBuildInformation(self) -> str:  # noqa: N802
            return f"  GUI:                 {self.gui}\n"

        def imshow(self, _title: str, picture: np.ndarray) -> None:
            shown.append(picture)

        def waitKey(self, _ms: int) -> int:  # noqa: N802
            return ord("q") if len(shown) >= self.quit_after else -1

        def getWindowProperty(self, *_: object) -> float:  # noqa: N802
            return 1.0

        def namedWindow(self, *_: object) -> None: ...  # noqa: N802
        def resizeWindow(self, *_: object) -> None: ...  # noqa: N802
        def destroyAllWindows(self) -> None: ...  # noqa: N802

    cv2 = Cv2()
    monkeypatch.setattr("legato.video.live.sink.load_opencv", lambda: cv2)
    with pytest.raises(DependencyError, match="without windows"):
        video.stabilize_live(clip, "window")
    cv2.gui = "QT5"
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if sys.platform.startswith("linux"):
        with pytest.raises(OutputError, match="no display"):
            video.stabilize_live(clip, "window")
    monkeypatch.setenv("DISPLAY", ":0")
    report = video.stabilize_live(clip, "window", latency_frames=3)
    assert (report.ended, report.frames_written, len(shown)) == ("input", COUNT, COUNT)
    assert shown[0].shape == (SIZE[1], SIZE[0], 3)
    shown.clear()
    cv2.quit_after = 5
    report = video.stabilize_live(clip, "window", latency_frames=3)
    assert report.ended == "window"
    assert 5 <= len(shown) < COUNT


@pytest.mark.parametrize(("preset", "crop"), [("gentle", 0.14), ("standard", 0.18), ("walk", 0.21), ("tripod", 0.26)])
def test_presets(
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    preset: str,
    crop: float,
) -> None:
    given: list[camera.PathOptions] = []
    make = Stabilizer

    def noted(*arguments: object, **keywords: object) -> video.Stabilizer:
        given.append(keywords["options"])  # type: ignore[arg-type]
        return make(*arguments, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr("legato.video.live.line.Stabilizer", noted)
    arguments = ["live", "--input", str(clip), "--output", str(tmp_path / "out.mkv"), "--preset", preset]
    assert cli.main([*arguments, "--duration", "0.2", "--quiet"]) == 0
    assert given[-1].crop == crop
    assert (given[-1].weights == camera.PathOptions().weights) == (preset != "tripod")
    assert cli.main([*arguments, "--crop", "0.3", "--duration", "0.2", "--quiet"]) == 0
    assert given[-1].crop == 0.3
    assert cli.main([*arguments[:-1], "follow"]) == 2
    assert "in a live video there is none" in capsys.readouterr().err


def test_options_and_arguments(clip: Path, tmp_path: Path) -> None:
    report = video.stabilize_live(
        clip, tmp_path / "out.mkv", options=camera.PathOptions(crop=0.2), crop=0.3, threads=2, interpolation="lanczos"
    )
    assert report.frames_written == COUNT
    with pytest.raises(ArgumentError, match="container"):
        video.stabilize_live(clip, "-", container="mp4")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="reconnect_s"):
        video.stabilize_live(clip, tmp_path / "out.mkv", reconnect_s=float("nan"))
