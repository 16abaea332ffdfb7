"""Estimate and warp against libvidstab, through Debian's ffmpeg: CPU time per frame, one thread, interleaved medians.

python benchmarks/libvidstab.py [--frames 60] [--rounds 5] [--sizes 640x360 1280x720 1920x1080]

What ffmpeg itself spends (reading raw frames, writing none) is measured in the same round and taken off.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from legato import camera
from legato.video import Planes, Tracker, warp
from legato.video.synthetic import synthesis


def shaken(size: tuple[int, int], count: int) -> list[Planes]:
    """Views of a drawn scene from an unsteady hand."""
    w, h = size
    packed = synthesis.render_scene(3, (w + w // 4, h + h // 4))
    y = np.ascontiguousarray(packed[:, :, 1])
    chroma = [np.ascontiguousarray(packed[::2, ::2, c]) for c in (0, 2)]
    scene = Planes(y, *chroma)
    rng = np.random.default_rng(1)
    frames = []
    for t in range(count):
        dx, dy = rng.normal(0, 0.006 * w, 2)
        turn = rng.normal(0, 0.006)
        c, s = np.cos(turn), np.sin(turn)
        matrix = np.array([[c, -s, w / 8 + dx + 0.2 * t], [s, c, h / 8 + dy], [0, 0, 1]])
        frames.append(warp(scene, matrix, size, interpolation="bicubic"))
    return frames


def cpu_of(command: list[str], folder: Path) -> float:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    message = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode != 0:
        raise RuntimeError(message.decode()[-500:])
    return usage.ru_utime + usage.ru_stime


def measure(size: tuple[int, int], count: int, rounds: int) -> None:
    w, h = size
    frames = shaken(size, count)
    correction = camera.crop_map(size, camera.PathOptions(crop=0.12)) @ np.array(
        [[1, -0.01, 0.004 * w], [0.01, 1, -0.004 * h], [0, 0, 1]]
    )
    target = Planes(*(np.empty_like(p) for p in (frames[0].y, frames[0].u, frames[0].v)))  # type: ignore[arg-type]
    ours: dict[str, list[float]] = {"estimate": [], "warp": []}
    theirs: dict[str, list[float]] = {"detect": [], "transform": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "clip.yuv").open("wb") as raw:
            for frame in frames:
                for plane in (frame.y, frame.u, frame.v):
                    raw.write(plane.tobytes())  # type: ignore[union-attr]
        source = ["ffmpeg", "-v", "error", "-nostdin", "-threads", "1", "-filter_threads", "1"]
        source += ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{w}x{h}", "-i", "clip.yuv"]
        sink = ["-f", "null", "-"]
        for _ in range(rounds):
            idle = cpu_of([*source, *sink], folder)
            detect = cpu_of([*source, "-vf", "vidstabdetect", *sink], folder)
            transform = cpu_of([*source, "-vf", "vidstabtransform=interpol=bilinear", *sink], folder)
            theirs["detect"].append((detect - idle) / count)
            theirs["transform"].append((transform - idle) / count)
            tracker = Tracker(size)
            begin = time.process_time()
            motions = [tracker.push(frame.y) for frame in frames]
            ours["estimate"].append((time.process_time() - begin) / count)
            assert all(m is None or m.ok for m in motions)
            begin = time.process_time()
            for frame in frames:
                warp(frame, correction, out=target)
            ours["warp"].append((time.process_time() - begin) / count)
    row = {k: 1e3 * statistics.median(v) for k, v in {**ours, **theirs}.items()}
    own, peer = row["estimate"] + row["warp"], row["detect"] + row["transform"]
    print(
        f"{w}x{h}: ours {row['estimate']:.2f} + {row['warp']:.2f} = {own:.2f} ms, "
        f"libvidstab {row['detect']:.2f} + {row['transform']:.2f} = {peer:.2f} ms, ratio {peer / own:.1f}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", nargs="+", default=["640x360", "1280x720", "1920x1080"])
    arguments = parser.parse_args()
    if shutil.which("ffmpeg") is None:
        print("ffmpeg with libvidstab is needed (Debian: apt-get install ffmpeg)", file=sys.stderr)
        return 2
    for size in arguments.sizes:
        w, h = (int(side) for side in size.split("x"))
        measure((w, h), arguments.frames, arguments.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
