"""Damaged videos and killed processes: `python tests/fuzz_video.py --inputs 1000 --kills 100`.

Every damaged file must end in a whole, readable result or in one clear error without a result; nothing may crash, hang
or leave a file behind. A process that is killed leaves the result as it was before, or whole. Runs in processes of its
own, so that a crash is found and not suffered. Prints what came of it; exit code 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import gc
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
from fractions import Fraction
from pathlib import Path

import numpy as np

import workers
from clips import scene, shaky, write_clip
from legato import video
from legato.errors import LegatoError

_TIMEOUT_S = 60.0
_FAST = {"encoder_preset": "ultrafast", "crf": 30}


def originals(folder: Path) -> list[Path]:
    """Small clips of many kinds, ten frames each but for one whose path takes several windows."""
    size = (96, 64)
    pts = np.cumsum([0, 30, 41, 33, 20, 64, 33, 33, 50, 33]).tolist()
    frames = list(shaky(10, size))
    noise = scene((16, 16))
    return [
        write_clip(folder / "h264.mp4", frames, sound="aac"),
        write_clip(folder / "vfr.mp4", frames, pts=pts, time_base=Fraction(1, 1000), pixel_format="yuv420p10le"),
        write_clip(folder / "h264.mkv", frames, sound="aac"),
        write_clip(folder / "vp9.webm", frames, codec="libvpx-vp9", sound="libopus"),
        write_clip(folder / "mpeg4.avi", frames, codec="mpeg4"),
        write_clip(folder / "h264.ts", frames, container="mpegts", sound="aac"),
        write_clip(folder / "raw.h264", frames, container="h264"),
        write_clip(folder / "lossless.mkv", frames, codec="ffv1", pixel_format="yuv444p"),
        write_clip(folder / "mjpeg.mov", frames, codec="mjpeg", pixel_format="yuvj420p"),
        write_clip(folder / "tiny.mp4", [noise] * 3),
        write_clip(folder / "windows.mp4", list(shaky(170, (64, 48))), sound="aac"),
    ]


def damaged(content: bytes, rng: random.Random) -> bytes:
    """One to three injuries: cut, overwritten, zeroed, repeated, left out, filled in."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data))
        if rng.random() < 0.4:
            at = min(at, rng.randrange(512))  # where the description is
        length = rng.choice((1, 4, 16, 64, 512))
        kind = rng.choice(("cut", "bits", "bytes", "zero", "repeat", "drop", "insert", "swap"))
        if kind == "cut":
            del data[max(1, at) :]
        elif kind == "bits":
            for _ in range(rng.randint(1, 40)):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        elif kind == "bytes":
            data[at : at + length] = rng.randbytes(len(data[at : at + length]))
        elif kind == "zero":
            data[at : at + length] = bytes(len(data[at : at + length]))
        elif kind == "repeat":
            data[at:at] = data[at : at + length]
        elif kind == "drop":
            del data[at : at + length]
        elif kind == "insert":
            data[at:at] = rng.randbytes(length)
        else:
            other = rng.randrange(len(data))
            data[at : at + length], data[other : other + length] = (
                data[other : other + length],
                data[at : at + length],
            )
        if not data:
            data = bytearray(b"\0")
    return bytes(data)


def judged(source: Path, folder: Path) -> str:
    """Stabilize a damaged file; the outcome in one line, beginning with "wrong" if it should not be."""
    out = folder / "out.mp4"
    try:
        report = video.stabilize(source, out, **_FAST)
    except LegatoError as error:
        outcome = f"refused ({type(error).__name__}): {error}"
        if "\n" in str(error):
            outcome = "wrong: an error of several lines"
        elif out.exists():
            outcome = "wrong: an error and a result"
    except Exception as error:
        outcome = f"wrong: {type(error).__name__}: {' '.join(str(error).split())}"
    else:
        with video.VideoReader(out) as reader:
            count = sum(1 for _ in reader)
        outcome = "done" if count == report.frames else f"wrong: {count} frames written of {report.frames}"
    out.unlink(missing_ok=True)
    left = sorted(p.name for p in folder.iterdir())
    return f"wrong: left behind {left}" if left else outcome


def work(clips: Path, seeds: list[int]) -> None:
    """Answer with a line for each seed (in a process of its own)."""
    sources = sorted(clips.iterdir())
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out"
        out.mkdir()
        for seed in seeds:
            rng = random.Random(seed)
            original = rng.choice(sources)
            file = Path(scratch) / f"damaged{original.suffix}"
            file.write_bytes(damaged(original.read_bytes(), rng))
            print(f"{seed}\t{judged(file, out)}\t{original.name}", flush=True)


def fuzz(clips: Path, count: int, first: int, verbose: bool) -> collections.Counter[str]:
    """Run damaged inputs, in a process that is replaced when it crashes or hangs."""
    outcomes: collections.Counter[str] = collections.Counter()

    def command(first: int, count: int) -> list[str]:
        return [sys.executable, __file__, "--worker", str(clips), "--first", str(first), "--inputs", str(count)]

    for seed, answer in workers.answers(command, first, count, limit_s=_TIMEOUT_S):
        outcome, _, name = answer.partition("\t")
        if outcome.startswith("wrong") or verbose:
            print(f"seed {seed}{f' ({name})' if name else ''}: {outcome}", flush=True)
        outcomes[outcome.partition(":")[0]] += 1
    return outcomes


def kill(source: Path, frames: int, count: int, first: int) -> collections.Counter[str]:
    """Kill processes in the midst of their work; half of them have an older result to keep.

    Three of four die at a picture as it is drawn, the others within 10 ms after its last picture.
    """
    outcomes: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        out = folder / "out.mp4"
        video.stabilize(source, out, **_FAST)
        whole = out.read_bytes()
        gc.collect()  # an encoder that is left here would be closed in the child, which has none of its threads
        for seed in range(first, first + count):
            rng = random.Random(seed)
            out.unlink(missing_ok=True)
            older = b"older" if seed % 2 else None
            if older is not None:
                out.write_bytes(older)
            process = os.fork()  # what is imported need not be imported again
            if process == 0:
                _stabilize_until_killed(source, out, frames, rng)
            _, status = os.waitpid(process, 0)
            killed = os.WIFSIGNALED(status)
            left = sorted(p.name for p in folder.iterdir() if p != out)
            now = out.read_bytes() if out.exists() else None
            if now not in (whole, older) or (now != whole and not killed):
                outcome = f"wrong: {'a half' if killed else 'no'} result"
            elif left:
                # An older file is replaced by a whole one under a hidden name: killed between the two, it stays.
                moment = older is not None and [(folder / name).read_bytes() for name in left] == [whole]
                outcome = "in the moment of replacing, whole under a hidden name" if moment else f"wrong: left {left}"
                for name in left:
                    (folder / name).unlink()
            else:
                outcome = "in the midst, nothing left" if now != whole else "too late, whole"
            outcomes[outcome] += 1
    return outcomes


def _stabilize_until_killed(source: Path, out: Path, frames: int, rng: random.Random) -> None:
    last = rng.random() < 0.25
    when = frames if last else rng.randint(1, frames)
    delay = rng.uniform(0, 0.01) if last else 0.0

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def watch(stage: str, done: int, _total: int | None) -> None:
        if stage == "render" and done == when:
            if last:
                threading.Timer(delay, die).start()
            else:
                die()

    with contextlib.suppress(BaseException):
        video.stabilize(source, out, progress=watch, **_FAST)
        os._exit(0)
    os._exit(1)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--verbose", action="store_true", help="tell the outcome of every input")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        work(arguments.worker, list(range(arguments.first, arguments.first + arguments.inputs)))
        return 0
    clips = Path(tempfile.mkdtemp())
    try:
        originals(clips)
        long = write_clip(clips / "long.mp4", shaky(60, (192, 128)))
        outcomes = {"kills": kill(long, 60, arguments.kills, arguments.first)}
        long.unlink()
        outcomes["inputs"] = fuzz(clips, arguments.inputs, arguments.first, arguments.verbose)
    finally:
        shutil.rmtree(clips, ignore_errors=True)
    for name, found in outcomes.items():
        print(f"{found.total()} {name}: " + ", ".join(f"{n} {what}" for what, n in found.most_common()))
    return int(any(what.startswith("wrong") for found in outcomes.values() for what in found))


if __name__ == "__main__":
    sys.exit(main())
