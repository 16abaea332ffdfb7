"""Small clips of our own drawing, and what the tests of video files read back from a file."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av", reason="needs PyAV, of the video extra")

from legato.video.media.reader import VideoReader  # noqa: E402
from legato.video.media.writer import VideoWriter  # noqa: E402

SIZE = (160, 120)


def scene(size: tuple[int, int], seed: int = 1) -> np.ndarray:
    """A coloured texture with detail at several scales, (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    width, height = size
    picture = np.zeros((height, width, 3))
    for cell, weight in ((32, 0.5), (8, 0.3), (4, 0.2)):
        coarse = rng.random((height // cell + 2, width // cell + 2, 3))
        picture += weight * np.kron(coarse, np.ones((cell, cell, 1)))[:height, :width]
    return (picture * 255).astype(np.uint8)


def shaky(count: int, size: tuple[int, int] = SIZE, *, amplitude: int = 4, seed: int = 1) -> Iterator[np.ndarray]:
    """Views of one scene from a slow pan with a random shake, (height, width, 3) uint8."""
    width, height = size
    margin = amplitude + count
    whole = scene((width + 2 * margin, height + 2 * margin), seed)
    rng = np.random.default_rng(seed)
    for t in range(count):
        dx, dy = rng.integers(-amplitude, amplitude + 1, 2)
        x, y = margin + dx + t // 2, margin + dy
        yield np.ascontiguousarray(whole[y : y + height, x : x + width])


def write_clip(
    path: Path,
    pictures: Iterable[np.ndarray],
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    rate: Fraction | int = 30,
    pts: list[int] | None = None,
    time_base: Fraction | None = None,
    sound: str | None = None,
    subtitles: Path | None = None,
    colors: tuple[int, int, int, int] | None = None,
    container: str | None = None,
) -> Path:
    """Encode RGB pictures with PyAV alone, independently of the code under test."""
    if codec == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # read once a process: it writes to stderr by itself
    frames = list(pictures)
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w", format=container) as out:
        video = out.add_stream(codec, rate=rate)
        video.width, video.height, video.pix_fmt = width, height, pixel_format
        if time_base is not None:
            video.codec_context.time_base = time_base
            video.time_base = time_base
        if codec.startswith("libx26"):
            video.options = {"crf": "16", "preset": "ultrafast", "bf": "2"}
        if colors is not None:
            context = video.codec_context
            context.color_range, context.color_primaries = colors[:2]
            context.color_trc, context.colorspace = colors[2:]
        voice = None
        if sound is not None:
            voice = out.add_stream(sound, rate=48000)
            voice.layout = "mono"
        text = None
        if subtitles is not None:
            text_in = av.open(str(subtitles))
            text = out.add_stream_from_template(text_in.streams[0])
            text.metadata["language"] = "eng"
        out.metadata["title"] = "a clip"
        for t, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if pixel_format != "bgr0":
                frame = frame.reformat(format=pixel_format)
            if pts is not None:
                frame.pts, frame.time_base = pts[t], time_base
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if codec == "libsvtav1" and hasattr(os, "sched_setscheduler"):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))  # it leaves root's threads in real time
        if voice is not None:
            samples = round(len(frames) / float(rate) * 48000)
            tone = np.sin(np.arange(samples) * 2 * np.pi * 440 / 48000).astype(np.float32) * 0.3
            block = voice.codec_context.frame_size or 1024
            for begin in range(0, samples, block):
                chunk = tone[None, begin : begin + block]
                if voice.format.name.startswith("s16"):
                    chunk = (chunk * 32767).astype(np.int16)
                piece = av.AudioFrame.from_ndarray(chunk, format=voice.format.name, layout="mono")
                piece.sample_rate, piece.pts = 48000, begin
                out.mux(voice.encode(piece))
            out.mux(voice.encode(None))
        if text is not None:
            for packet in text_in.demux():
                if packet.size:
                    packet.stream = text
                    out.mux(packet)
            text_in.close()
    return path


def packets(path: Path, kind: str) -> list[tuple[Fraction | None, bytes]]:
    """Times and bytes of the packets of the first stream of a kind."""
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams if s.type == kind)
        return [(None if p.pts is None else p.pts * p.time_base, bytes(p)) for p in container.demux(stream) if p.size]


def times(path: Path) -> list[Fraction]:
    """Times of presentation of the decoded pictures."""
    with av.open(str(path)) as container:
        return [f.pts * f.time_base for f in container.decode(video=0)]


def pictures(path: Path) -> list[np.ndarray]:
    """Luma of every frame. What is to be compared must be lossless: encoders choose other bits on other processors."""
    with VideoReader(path) as reader:
        return [np.array(frame.planes.y) for frame in reader]


def copy_video(source: Path, destination: Path, preset: str = "ultrafast", **options: object) -> VideoWriter:
    """Through our reader and writer, picture by picture."""
    with (
        VideoReader(source) as reader,
        VideoWriter(destination, reader, preset=preset, **options) as writer,
    ):
        width, height = writer.size
        for frame in reader:
            target = writer.new_planes()
            for name in ("y", "u", "v"):
                to, given = getattr(target, name), getattr(frame.planes, name)
                if to is not None:
                    to[...] = given[: to.shape[0], : to.shape[1]]
            assert target.size == (width, height)
            writer.write(target, frame.pts, frame.duration)
    return writer


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name.startswith("."))


def under_way(folder: Path, process: int | str = "self") -> list[str]:
    """Unfinished files in a folder: hidden ones, and on Linux those that a process has open and that have no name."""
    nameless = set()  # a muxer may have opened one a second time
    for handle in Path(f"/proc/{process}/fd").glob("*"):
        with contextlib.suppress(OSError):  # closed meanwhile
            target = str(handle.readlink())
            if target.startswith(f"{folder.resolve()}/#"):
                nameless.add(target)
    return leftovers(folder) + sorted(nameless)


def turned(clip: Path, matrix: tuple[int, int, int, int]) -> Path:
    """The clip with another display matrix in its track header (ISO/IEC 14496-12, 8.3.2)."""
    data = bytearray(clip.read_bytes())
    at = data.index(b"tkhd")
    assert data[at + 4] == 0  # version 0: the matrix begins 44 bytes after the name
    a, b, c, d = (v * 65536 for v in matrix)
    struct.pack_into(">9i", data, at + 44, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    target = clip.with_name(f"turned{'_'.join(map(str, matrix))}.mp4")
    target.write_bytes(bytes(data))
    return target
