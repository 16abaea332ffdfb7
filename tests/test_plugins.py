"""The frei0r and GStreamer plug-ins, built by a project of C alone against the installed package, in their hosts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import legato
from legato import video

PLUGINS = Path(__file__).parents[1] / "cpp" / "plugins"
WIDTH, HEIGHT, FRAMES, DELAY = 320, 240, 90, 10

pytestmark = pytest.mark.skipif(
    shutil.which("pkg-config") is None or shutil.which("cc") is None, reason="needs a C compiler and pkg-config"
)


def run(*command: str, **environment: str) -> None:
    done = subprocess.run(command, env={**os.environ, **environment}, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr, done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cmake = shutil.which("cmake") or shutil.which("cmake", path=str(Path(sys.executable).parent))
    if cmake is None:
        pytest.skip("needs CMake")
    folder = tmp_path_factory.mktemp("plugins")
    prefix = Path(legato.get_include()).parent
    run(cmake, "-S", str(PLUGINS), "-B", str(folder), f"-DCMAKE_PREFIX_PATH={prefix}", "-DCMAKE_BUILD_TYPE=Release")
    run(cmake, "--build", str(folder))
    return folder


def play_frei0r(built: Path, source: Path, pixels: str, target: Path, parameters: str = f"{DELAY / 50}") -> None:
    """FFmpeg; the last picture repeated brings out those that wait, and the first ones that come out are not theirs."""
    if not (built / "legato.so").is_file():
        pytest.skip("needs frei0r.h (Debian: frei0r-plugins-dev)")
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs ffmpeg")
    whole = f"tpad=stop={DELAY}:stop_mode=clone,frei0r=legato:{parameters},trim=start_frame={DELAY},setpts=PTS-STARTPTS"
    raw = ["-f", "rawvideo", "-pix_fmt", pixels]
    size = ["-s", f"{WIDTH}x{HEIGHT}", "-r", "30"]
    run(
        "ffmpeg", "-v", "error", *raw, *size, "-i", str(source), "-vf", whole, *raw, str(target), FREI0R_PATH=str(built)
    )


def play_gstreamer(built: Path, source: Path, pixels: str, target: Path, properties: str = "") -> None:
    if not (built / "libgstlegato.so").is_file():
        pytest.skip("needs GStreamer's headers (Debian: libgstreamer-plugins-base1.0-dev)")
    if shutil.which("gst-launch-1.0") is None:
        pytest.skip("needs gst-launch-1.0 (Debian: gstreamer1.0-tools, gstreamer1.0-plugins-base)")
    line = (
        f"filesrc location={source} ! rawvideoparse format={pixels} width={WIDTH} height={HEIGHT} framerate=30/1 "
        f"! legatostabilize latency={DELAY} {properties} ! filesink location={target}"
    )
    environment = {
        "GST_PLUGIN_PATH": str(built),
        "GST_REGISTRY": str(built / "registry.bin"),
        "GST_DEBUG_NO_COLOR": "1",
    }
    run("gst-launch-1.0", "-q", *line.split(), **environment)


@pytest.fixture(scope="module")
def shaky() -> NDArray[np.uint8]:
    """A textured wall, seen by hands that shake by whole pixels."""
    rng = np.random.default_rng(3)
    wall = rng.integers(0, 256, (80, 110)).repeat(6, 0).repeat(6, 1).astype(float)
    wall = (wall + np.roll(wall, 1, 0) + np.roll(wall, 1, 1) + np.roll(wall, (1, 1), (0, 1))) / 4
    at = (60 + rng.normal(scale=4, size=(FRAMES, 2)) + np.arange(FRAMES)[:, None] * [1.0, 0.3]).round().astype(int)
    return np.array([wall[y : y + HEIGHT, x : x + WIDTH] for x, y in at]).astype(np.uint8)


def jitter(pictures: NDArray[np.uint8]) -> float:
    """Root mean square of the acceleration, pixels, of pictures that move as a whole: by phase correlation."""
    spectra = np.fft.fft2(pictures - pictures.mean((1, 2), keepdims=True))
    cross = spectra[1:] * spectra[:-1].conj()
    peak = np.fft.ifft2(cross / (abs(cross) + 1e-9)).real.reshape(len(cross), -1).argmax(1)
    moved = np.stack([(peak % WIDTH + WIDTH // 2) % WIDTH, (peak // WIDTH + HEIGHT // 2) % HEIGHT], 1)
    return float(np.sqrt((np.diff(moved, axis=0) ** 2).sum(1).mean()))


def test_the_plugins_give_what_python_gives(built: Path, shaky: NDArray[np.uint8], tmp_path: Path) -> None:
    source, target = tmp_path / "gray.raw", tmp_path / "steady.raw"
    shaky.tofile(source)
    play_gstreamer(built, source, "gray8", target)
    steady = np.fromfile(target, np.uint8).reshape(shaky.shape)
    assert jitter(steady) < 0.05 * jitter(shaky)
    stabilizer = video.Stabilizer((WIDTH, HEIGHT), 30, latency_frames=DELAY)
    expected = [drawn for picture in shaky for drawn in stabilizer.push(picture)] + stabilizer.flush()
    np.testing.assert_array_equal(steady, np.array(expected))


def test_both_hosts_get_the_same_pictures(built: Path, shaky: NDArray[np.uint8], tmp_path: Path) -> None:
    source = tmp_path / "rgba.raw"
    tinted = np.stack([shaky, shaky // 2, 255 - shaky, np.full_like(shaky, 200)], -1)
    tinted.tofile(source)
    play_frei0r(built, source, "rgba", tmp_path / "frei0r.raw")
    play_gstreamer(built, source, "rgba", tmp_path / "gstreamer.raw")
    read = [np.fromfile(tmp_path / f"{host}.raw", np.uint8).reshape(tinted.shape) for host in ("frei0r", "gstreamer")]
    np.testing.assert_array_equal(*(pictures[:-DELAY] for pictures in read))  # frei0r is never told of the end


def test_chroma_moves_with_luma(built: Path, shaky: NDArray[np.uint8], tmp_path: Path) -> None:
    """Planar and interleaved chroma are drawn alike."""
    u, v = shaky[:, ::2, ::2], 255 - shaky[:, 1::2, 1::2]
    for pixels, chroma in (("i420", np.stack([u, v], 1)), ("nv12", np.stack([u, v], -1))):
        frames = np.concatenate([shaky.reshape(FRAMES, -1), chroma.reshape(FRAMES, -1)], 1)
        frames.tofile(tmp_path / f"{pixels}.raw")
        play_gstreamer(built, tmp_path / f"{pixels}.raw", pixels, tmp_path / f"{pixels}.steady")
    area = WIDTH * HEIGHT
    planar, packed = (np.fromfile(tmp_path / f"{p}.steady", np.uint8).reshape(FRAMES, -1) for p in ("i420", "nv12"))
    np.testing.assert_array_equal(planar[:, :area], packed[:, :area])
    np.testing.assert_array_equal(
        planar[:, area:].reshape(FRAMES, 2, -1).transpose(0, 2, 1), packed[:, area:].reshape(FRAMES, -1, 2)
    )
    assert jitter(planar[:, :area].reshape(shaky.shape)) < 0.05 * jitter(shaky)


def test_without_strength_pictures_are_as_they_were(built: Path, shaky: NDArray[np.uint8], tmp_path: Path) -> None:
    source, target = tmp_path / "gray.raw", tmp_path / "same.raw"
    shaky.tofile(source)
    play_gstreamer(built, source, "gray8", target, "strength=0 guard=false crop=0.3")
    assert target.read_bytes() == source.read_bytes()
