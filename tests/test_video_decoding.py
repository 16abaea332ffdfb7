"""Reading before NumPy is there: what is decoded ahead is what is decoded anyway, and errors come to who asks."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from clips import shaky, write_clip
from legato.errors import ArgumentError, InputError

av = pytest.importorskip("av", reason="needs PyAV")

from legato.video.media import decoding  # noqa: E402
from legato.video.media.decoding import Ahead, Decoder  # noqa: E402
from legato.video.media.reader import VideoReader  # noqa: E402
from legato.video.stabilizing import stabilize  # noqa: E402

COUNT = 24


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("ahead") / "in.mp4", shaky(COUNT))


def pictures(source: Path | Decoder) -> list[tuple[int, bytes]]:
    with VideoReader(source) as reader:
        return [(frame.pts, np.ascontiguousarray(frame.planes.y).tobytes()) for frame in reader]


def threads_ahead() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "legato-ahead"]


def test_it_needs_no_numpy() -> None:
    code = "import sys; from legato.video.media.decoding import Ahead; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("wait_s", [0, 0.3])
def test_what_is_ready_comes_first_and_the_rest_follows(clip: Path, wait_s: float) -> None:
    with Ahead(clip) as begun:
        time.sleep(wait_s)
        assert pictures(begun.decoder()) == pictures(clip)
    assert not threads_ahead()


def test_no_more_is_held_than_there_is_room_for(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_MOST_AHEAD_BYTES", 1)
    with Ahead(clip) as begun:
        time.sleep(0.3)
        decoder = begun.decoder()
        assert len(decoder._ready) == 1
        assert len(pictures(decoder)) == COUNT


def test_a_file_that_nobody_takes_is_closed(clip: Path) -> None:
    with Ahead(clip) as begun:
        begun._thread.join()
        decoder = begun._decoder
        assert decoder is not None
    assert not threads_ahead()
    with pytest.raises((AssertionError, ValueError)):  # PyAV's answer for a closed container
        next(decoder.container.demux(decoder.stream))


def test_errors_wait_until_the_file_is_asked_for(tmp_path: Path) -> None:
    with Ahead(tmp_path / "none.mp4") as begun:
        begun._thread.join()
        with pytest.raises(InputError, match="no such file"):
            begun.decoder()
    with Ahead(tmp_path / "none.mp4") as begun, pytest.raises(ArgumentError, match=r"^preset"):
        stabilize(begun, tmp_path / "out.mp4", preset="no such")


def test_damage_that_was_met_ahead_is_counted(clip: Path, tmp_path: Path) -> None:
    data = bytearray(clip.read_bytes())
    start = data.index(b"mdat") + len(data) // 2
    data[start : start + 1000] = np.random.default_rng(0).bytes(1000)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data)

    def faults(source: Path | Decoder) -> tuple[int, int, int]:
        with VideoReader(source) as reader:
            count = sum(1 for _ in reader)
            return count, reader.skipped_packets, reader.damaged_frames

    with Ahead(damaged) as begun:
        begun._thread.join()
        found = faults(begun.decoder())
    assert found == faults(damaged)
    assert found[1] + found[2] > 0


def test_the_command_gives_what_the_function_gives(clip: Path, tmp_path: Path) -> None:
    stabilize(clip, tmp_path / "a.mp4")
    command = [sys.executable, "-m", "legato", "stabilize", clip, tmp_path / "b.mp4", "--quiet"]
    subprocess.run(command, check=True)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_a_path_that_is_read_ahead_is_a_path(clip: Path) -> None:
    with Ahead(clip) as begun:
        assert Path(begun) == clip
        with pytest.raises(ArgumentError, match="is the same file"):
            stabilize(begun, clip)
