"""Speed of the whole command against ffmpeg: `python benchmarks/video_pipeline.py`.

A clip of our own drawing (`legato.video.synthesize`, with sound) goes from H.264 to x264 (veryfast, CRF 18), on two
cores, by

- `legato stabilize`, as a process of its own, with all its start-up;
- ffmpeg's vid.stab: vidstabdetect, then vidstabtransform and the encoder, two processes with vid.stab's defaults;
- decoding and encoding alone: by ffmpeg, and by Legato's reader and writer (the same libraries as the command uses).

The ways run in turn, round after round, and only figures of one round are compared: the table has the median over the
rounds of each time, and of its ratio to Legato's in the same round, with the smallest and largest. On a machine that is
shared the work of all cores says more than the clock. Then the stages' parts of the processor time: "other threads"
are those of decoder and encoder. Answers are checked: every way writes all frames, and Legato's picture is the
steadier for it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import legato
from legato import video

SIZES = {"360p": (640, 360), "720p": (1280, 720), "1080p": (1920, 1080)}
# Some four minutes of ten-second clips each: the shorter a run, the more of it is the noise of a shared machine.
ROUNDS = {"360p": 31, "720p": 9, "1080p": 5}
ENCODER = ["-vsync", "passthrough", "-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-c:a", "copy"]
PASSTHROUGH = """
import sys
from legato.video import VideoReader, VideoWriter
with VideoReader(sys.argv[1]) as reader, VideoWriter(sys.argv[2], reader) as writer:
    for frame in reader:
        target = writer.new_planes()
        target.y[...], target.u[...], target.v[...] = frame.planes.y, frame.planes.u, frame.planes.v
        writer.write(target, frame.pts, frame.duration)
"""


def cost(*commands: list[str]) -> tuple[float, float]:
    """Run commands one after the other: seconds from the first's start to the last's end, and of all cores' work."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    for command in commands:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    elapsed, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return elapsed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ways(clip: Path, folder: Path) -> dict[str, Callable[[], tuple[float, float]]]:
    """Make the contestants: each gives its cost and leaves out.mp4."""
    out, track, report = (str(folder / name) for name in ("out.mp4", "track.trf", "report.json"))
    ffmpeg = ["ffmpeg", "-nostdin", "-y", "-v", "error", "-i", str(clip)]
    return {
        "legato": lambda: cost(
            [sys.executable, "-m", "legato", "stabilize", str(clip), out, "--quiet", "--report", report]
        ),
        "decode + encode, ffmpeg": lambda: cost([*ffmpeg, *ENCODER, out]),
        "vid.stab": lambda: cost(
            [*ffmpeg, "-an", "-vf", f"vidstabdetect=result={track}", "-f", "null", "-"],
            [*ffmpeg, "-vf", f"vidstabtransform=input={track}", *ENCODER, out],
        ),
        "decode + encode, PyAV": lambda: cost([sys.executable, "-c", PASSTHROUGH, str(clip), out]),
    }


def measure(name: str, clip: Path, frames: int, rounds: int, folder: Path) -> None:
    """Measure one size and print its tables."""
    contestants = ways(clip, folder)
    costs: dict[str, list[tuple[float, float]]] = {way: [] for way in contestants}
    shares: dict[str, list[float]] = {}
    for turn in range(rounds):
        for way in [*contestants][:: (-1) ** turn]:
            costs[way].append(contestants[way]())
            with video.VideoReader(folder / "out.mp4") as reader:
                assert reader.frame_count == frames, (way, reader.frame_count)
        report = json.loads((folder / "report.json").read_text())
        assert report["planned_jitter_out_px"] < 0.2 * report["planned_jitter_in_px"]
        for stage, share in report["shares"].items():
            shares.setdefault(stage, []).append(share)
    print(f"\n{name}, {frames} frames, {rounds} rounds\n")
    print("| | seconds | frames/s | speed of legato over it (min to max) | core seconds | work of it over legato's |")
    print("|---|---|---|---|---|---|")
    for way, taken in costs.items():
        clock, work = ([round_[kind] for round_ in taken] for kind in (0, 1))
        own_clock, own_work = ([round_[kind] for round_ in costs["legato"]] for kind in (0, 1))
        faster = [other / own for other, own in zip(clock, own_clock, strict=True)]
        lighter = [other / own for other, own in zip(work, own_work, strict=True)]
        print(
            f"| {way} | {statistics.median(clock):.2f} | {frames / statistics.median(clock):.0f} "
            f"| {statistics.median(faster):.2f} ({min(faster):.2f} to {max(faster):.2f}) "
            f"| {statistics.median(work):.2f} | {statistics.median(lighter):.2f} |"
        )
    stages = ", ".join(f"{stage} {100 * statistics.median(s):.2f} %" for stage, s in shares.items())
    print(f"\nshares of the processor time: {stages}", flush=True)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--rounds", type=int, help=f"by default {ROUNDS}")
    parser.add_argument("--clips", type=Path, help="folder to keep the drawn clips in, to use them again")
    arguments = parser.parse_args()
    if shutil.which("ffmpeg") is None:
        sys.exit("ffmpeg with libvidstab is needed")
    print(f"legato {legato.__version__}, {os.cpu_count()} cores,", end=" ")
    print(subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True).stdout.splitlines()[0])
    with tempfile.TemporaryDirectory() as scratch:
        clips = arguments.clips or Path(scratch)
        clips.mkdir(parents=True, exist_ok=True)
        for name in arguments.sizes:
            clip = clips / f"{name}_{arguments.frames}.mp4"
            if not clip.exists():
                video.synthesize(clip, kind="walk", seed=1, size=SIZES[name], frames=arguments.frames, audio=True)
            measure(name, clip, arguments.frames, arguments.rounds or ROUNDS[name], Path(scratch))


if __name__ == "__main__":
    main()
