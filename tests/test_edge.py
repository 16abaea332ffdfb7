"""`examples/edge/stabilize_y4m.c`, built against the installed core: the bits of `video.Stabilizer`."""

from __future__ import annotations

import os
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="needs PyAV, of the video extra")

import legato
from clips import shaky
from legato import video

EXAMPLE = Path(__file__).parents[1] / "examples" / "edge" / "stabilize_y4m.c"
CLIPS = Path(__file__).parents[1].parent / "shared" / "clips"
SIZE = (161, 120)  # odd: chroma sides are rounded up
COMPILERS = shutil.which(os.environ.get("CC", "cc")), shutil.which(os.environ.get("CXX", "c++"))

pytestmark = pytest.mark.skipif(None in COMPILERS, reason="needs a C and a C++ compiler")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("edge")
    include = Path(legato.get_include())
    c, cpp = map(str, COMPILERS)
    built = folder / "stabilize_y4m"
    steps = [c, "-std=c99", "-Wall", "-Wextra", "-Werror", "-O1", "-c", str(EXAMPLE), f"-I{include}"]
    subprocess.run([*steps, "-o", str(folder / "edge.o")], check=True)
    library = include.parent / "lib"
    subprocess.run([cpp, str(folder / "edge.o"), f"-L{library}", "-llegato", "-lpthread", "-o", str(built)], check=True)
    return built


def content(pictures: list[video.Planes], header: bytes) -> bytes:
    """The y4m of pictures."""
    parts = [b"YUV4MPEG2 W%d H%d " % pictures[0].size, header, b"\n"]
    for picture in pictures:
        parts.append(b"FRAME\n")
        parts += [p.astype(f"<u{p.itemsize}").tobytes() for p in (picture.y, picture.u, picture.v) if p is not None]
    return b"".join(parts)


def ran(program: Path, given: bytes, *arguments: str, fails: bool = False) -> tuple[bytes, str]:
    done = subprocess.run([program, *arguments], input=given, capture_output=True, check=False)
    assert done.returncode == fails, done.stderr
    return done.stdout, done.stderr.decode()


def steadied(pictures: list[video.Planes], fps: float, latency: int, preset: str = "standard") -> list[video.Planes]:
    stabilizer = video.Stabilizer(
        pictures[0].size, fps, options=video.PRESETS[preset].live_options(), latency_frames=latency
    )
    out = [steady for picture in pictures for steady in stabilizer.push(picture)]
    return out + stabilizer.flush()


def drawn(count: int, sx: int, sy: int, depth: int = 8, location: str = "left") -> list[video.Planes]:
    out = []
    for picture in shaky(count, SIZE, seed=5):
        planes = [picture[:, :, 1], picture[::sy, ::sx, 0], picture[::sy, ::sx, 2]]
        if depth > 8:
            planes = [p.astype(np.uint16) << (depth - 8) | 1 for p in planes]
        y, u, v = (np.ascontiguousarray(p) for p in planes)
        out.append(video.Planes(y, u, v, depth, location))  # type: ignore[arg-type]
    return out


@pytest.mark.parametrize("latency", [0, 1, 10, 30, 60])
@pytest.mark.parametrize("preset", ["standard", "steady"])
def test_every_delay_has_the_bits_of_python(program: Path, latency: int, preset: str) -> None:
    pictures = drawn(45, 2, 2)
    header = b"F24000:1001 Ip A1:1 C420mpeg2"
    given, expected = content(pictures, header), content(steadied(pictures, 24000 / 1001, latency, preset), header)
    assert ran(program, given, str(latency), preset) == (expected, "")
    if (latency, preset) == (10, "standard"):
        assert ran(program, given) == (expected, "")


@pytest.mark.parametrize(
    ("chroma", "sx", "sy", "depth", "location"),
    [
        ("420jpeg", 2, 2, 8, "center"),
        ("420p10", 2, 2, 10, "left"),
        ("422", 2, 1, 8, "left"),
        ("422p10 XYSCSS=422P10", 2, 1, 10, "left"),
        ("444", 1, 1, 8, "left"),
        ("444p12", 1, 1, 12, "left"),
    ],
)
def test_chroma_and_depth_are_kept(program: Path, chroma: str, sx: int, sy: int, depth: int, location: str) -> None:
    pictures = drawn(12, sx, sy, depth, location)
    header = b"F30:1 C" + chroma.encode()
    expected = content(steadied(pictures, 30, 3), header)
    assert ran(program, content(pictures, header), "3") == (expected, "")


@pytest.mark.parametrize("depth", [8, 10])
def test_gray_is_kept(program: Path, depth: int) -> None:
    pictures = [video.Planes(p.y, bit_depth=depth) for p in drawn(8, 1, 1, depth)]
    header = b"F30:1 Cmono" + (b"10" if depth == 10 else b"")
    assert ran(program, content(pictures, header), "3")[0] == content(steadied(pictures, 30, 3), header)


def test_what_breaks_off_is_flushed(program: Path) -> None:
    pictures = drawn(9, 2, 2)
    header = b"F30:1 Ip C420mpeg2"
    whole = content(pictures, header)
    for cut in (100, pictures[0].nbytes + 3):  # within a picture, and within the line that begins it
        out, said = ran(program, whole[:-cut], "5", fails=True)
        assert out == content(steadied(pictures[:8], 30, 5), header)
        assert "breaks off" in said


def test_what_is_taken_for_something_else_or_refused_is_said(program: Path) -> None:
    pictures = drawn(4, 2, 2)
    for mark in ("It", "Ib", "Im"):
        header = f"F30:1 {mark} C420mpeg2".encode()
        out, said = ran(program, content(pictures, header), "2")
        assert out == content(steadied(pictures, 30, 2), header)
        assert f"interlaced ({mark}), taken for progressive" in said
    for header, name in ((b"F30:1 C411", "4:2:0"), (b"F30:1 C420p17", "4:2:0"), (b"F0:0 C420mpeg2", "frame rate")):
        out, said = ran(program, content(pictures, header), fails=True)
        assert out == b""
        assert name in said
    for arguments, name in ((("5", "best"), "expected"), (("99999999",), "latency")):
        assert name in ran(program, content(pictures, b"F30:1 C420mpeg2"), *arguments, fails=True)[1]


@pytest.mark.slow
@pytest.mark.skipif(not CLIPS.is_dir(), reason="the clips for local measurement are not here")
@pytest.mark.parametrize("name", sorted(p.name for p in CLIPS.glob("*.mp4")) or ["none"])
def test_clips_have_the_bits_of_python(program: Path, name: str) -> None:
    pictures = []
    with video.VideoReader(CLIPS / name) as reader:
        rate = Fraction(reader.frame_rate)
        for frame in reader:
            pictures.append(frame.planes)
            if len(pictures) == 70:
                break
    assert pictures[0].subsampling == (2, 2)
    chroma = {"left": "420mpeg2", "center": "420jpeg"}[pictures[0].chroma_location]
    header = f"F{rate.numerator}:{rate.denominator} C{chroma}".encode()
    given = content(pictures, header)
    for latency in (0, 1, 10, 30, 60):
        expected = content(steadied(pictures, rate.numerator / rate.denominator, latency), header)
        assert ran(program, given, str(latency))[0] == expected
