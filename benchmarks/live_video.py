"""What live stabilization reaches: figures of docs/live.md.

`python benchmarks/live_video.py quality CLIPS --score SCORER.py`: jitter of each clip of a folder after the live line
at several delays, as a ratio to the clip's own; medians of those that shake. The scorer is a script that is called with
an input, an output and --json, and prints a JSON object with "jit_a", "cropping" and "distortion".

`python benchmarks/live_video.py soak CLIP --seconds 300`: the clip in a loop, at its own pace, as MPEG-TS through a
pipe (needs the ffmpeg command) into `legato live` and out as MPEG-TS; frames lost, latency beyond the delay, memory.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from video_quality import STILL

from legato import video


def quality(arguments: argparse.Namespace) -> None:
    def score(before: Path, after: Path) -> dict[str, float]:
        command = [sys.executable, arguments.score, before, after, "--json", *arguments.score_options.split()]
        found: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
        return found

    print("| clip | " + " | ".join(f"{n} frames" for n in arguments.latency) + " |")
    print("|" + "---|" * (len(arguments.latency) + 1))
    ratios: dict[int, list[float]] = {n: [] for n in arguments.latency}
    rest: dict[int, list[tuple[float, float]]] = {n: [] for n in arguments.latency}
    for clip in sorted(Path(arguments.clips).glob("*.mp4")):
        if arguments.only and clip.stem not in arguments.only.split(","):
            continue
        own = score(clip, clip)["jit_a"]
        row = []
        for latency in arguments.latency:
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "out.mp4"
                report = video.stabilize_live(
                    clip, out, latency_frames=latency, crop=arguments.crop, crf=14, interpolation="bicubic"
                )
                with video.VideoReader(clip) as reader:
                    assert report.frames_written == sum(1 for _ in reader)
                scores = score(clip, out)
            row.append(scores["jit_a"] / own)
            if clip.stem not in STILL:
                ratios[latency].append(row[-1])
                rest[latency].append((scores["cropping"], scores["distortion"]))
        print(f"| {clip.stem} | " + " | ".join(f"{ratio:.3f}" for ratio in row) + " |", flush=True)
    print("| median | " + " | ".join(f"{statistics.median(ratios[n]):.3f}" for n in arguments.latency) + " |")
    for at, name in enumerate(("cropping", "distortion")):
        least = " | ".join(f"{min(r[at] for r in rest[n]):.3f}" for n in arguments.latency)
        print(f"| least {name} | {least} |")


def soak(arguments: argparse.Namespace) -> None:
    source = ["ffmpeg", "-v", "error", "-re", "-stream_loop", "-1", "-i", arguments.clip, "-t", str(arguments.seconds)]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "legato", "live", "--input", "-", "--output", "-", "--container", "mpegts"]
        command += ["--latency", str(arguments.latency[0]), "--report", str(report)]
        with (
            subprocess.Popen([*source, "-c", "copy", "-f", "mpegts", "-"], stdout=subprocess.PIPE) as sender,
            subprocess.Popen(command, stdin=sender.stdout, stdout=subprocess.DEVNULL) as line,
        ):
            assert sender.stdout is not None
            sender.stdout.close()
            memory, began, processor_s = [], time.monotonic(), 0.0
            while line.poll() is None:
                time.sleep(1)
                try:
                    status = Path(f"/proc/{line.pid}/status").read_text()
                    ticks = Path(f"/proc/{line.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
                except OSError:
                    break
                resident = [row for row in status.splitlines() if row.startswith("VmRSS")]
                if resident:
                    memory.append((time.monotonic() - began, int(resident[0].split()[1]) / 1024))
                    processor_s = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
        done = json.loads(report.read_text())
    late = done["latency_ms"]
    interval = 1000 / done["frame_rate"]
    print(f"{done['frames_read']} frames read, {done['frames_written']} written, {done['frames_dropped']} dropped")
    print(f"beyond the delay: p50 {late['p50']:.1f}, p99 {late['p99']:.1f}, most {late['max']:.1f} ms", end="; ")
    print(f"one frame is {interval:.1f} ms")
    print("histogram (upper edge in ms, frames):", late["histogram"])
    print("busy:", {k: round(v, 2) for k, v in done["busy"].items()}, f"processor: {processor_s:.0f} s in all")
    for second in (5, 30, 60, 120, 180, 240, 290):
        here = [size for at, size in memory if abs(at - second) < 0.8]
        if here:
            print(f"memory after {second} s: {here[0]:.1f} MiB")
    assert done["frames_written"] == done["frames_read"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True)
    part = kinds.add_parser("quality")
    part.add_argument("clips")
    part.add_argument("--score", required=True)
    part.add_argument("--score-options", default="--maxn 180 --step 12")
    part.add_argument("--only", help="names of clips, with commas")
    part.add_argument("--crop", type=float)
    part.add_argument("--latency", type=int, nargs="+", default=[0, 5, 10, 30])
    part.set_defaults(run=quality)
    part = kinds.add_parser("soak")
    part.add_argument("clip")
    part.add_argument("--seconds", type=float, default=300)
    part.add_argument("--latency", type=int, nargs=1, default=[10])
    part.set_defaults(run=soak)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
