"""Stabilize every clip of a folder with one setting and measure the results.

python benchmarks/video_quality.py CLIPS_DIR [--output DIR] [--crop 0.12] [--no-guard] [--script SCRIPT --maxn 180]
python benchmarks/video_quality.py CLIPS_DIR --sway [--presets standard steady smooth full]

The table is `legato.video.evaluate`'s; "own" is the part of its jitter that a clip keeps by its own estimated motion,
"whole" the same if its path were solved at once, "q" what the guard
went by. Clips with a CLIP.npz beside them, of arrays H
(frame to scene), I (the path without shake) and the scene's scale s, get rows from this ground truth. --script names
another program that is run as SCRIPT INPUT OUTPUT --maxn N --json and prints jit_a, cropping and distortion, to have a
second opinion.

--sway: what each preset leaves between 0.3 and 1.5 Hz, measured in its result: corners in px at a width of 640 and
roll in degrees; beside them the part of the jitter of tracks that it keeps, and of the picture.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from legato import camera, video
from legato.video.motion.tracking import predicted_error_px
from legato.video.presets import PresetName

STILL = ("car_highway", "ocv_tree")  # nearly still: not to be made worse, and no part of the medians


def second_opinion(script: Path, original: Path, result: Path, frames: int) -> dict[str, float]:
    command = [sys.executable, str(script), str(original), str(result), "--maxn", str(frames), "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return dict(json.loads(done.stdout))


def errors_of(clip: Path) -> np.ndarray:
    """Predicted standard deviation of a corner for every motion."""
    with video.VideoReader(clip) as reader:
        tracker = video.Tracker((reader.width, reader.height))
        steps = [tracker.push(video.luma(frame.planes)) for frame in reader]
    return np.array([predicted_error_px(step) for step in steps if step is not None])


def against_truth(truth: Path, report: video.StabilizeReport, predicted: np.ndarray) -> str:
    """Errors of the estimated motion, of the steadied picture, and of the path, in px at a width of 640."""
    data = np.load(truth)
    scene, intended = data["H"], data["I"]
    w, h = report.size
    unit = 640 / w
    motion = np.tile(np.eye(3), (len(scene), 1, 1))
    motion[1:] = np.linalg.solve(scene[:-1], scene[1:])
    corners = np.array([[0, 0, 1], [w - 1, 0, 1], [w - 1, h - 1, 1], [0, h - 1, 1]], float)

    def moved(maps: np.ndarray) -> np.ndarray:
        q = corners @ np.swapaxes(maps, 1, 2)
        return q[..., :2] / q[..., 2:]

    def rms(error: np.ndarray) -> float:
        return float(np.sqrt((error**2).sum(-1).mean())) * unit

    off = rms(moved(report.motion[1:]) - moved(motion[1:]))
    known = predicted[np.isfinite(predicted)]
    times = off / (unit * np.sqrt((known**2).mean()))
    metrics = camera.path_metrics(motion, report.corrections, report.size)
    seen = moved(np.linalg.inv(intended) @ scene @ report.corrections)
    before = moved(np.linalg.inv(intended) @ scene)
    path, path_before = (rms(m - m.mean(0)) for m in (seen, before))
    return (
        f"{truth.stem:14s} motion {off:.3f}, {times:.1f} times the prediction; "
        f"true jitter {metrics.input_jitter_px * unit:.2f} -> {metrics.jitter_px * unit:.3f}; "
        f"distance from the intended path {path_before:.1f} -> {path:.1f}"
    )


def in_one_solve(report: video.StabilizeReport) -> float:
    """Jitter that the path of the whole clip, solved at once, leaves of the clip's own."""
    options = camera.PathOptions(**report.options).at_frame_rate(report.frame_rate)
    path = camera.smooth_path(report.motion, report.size, options)
    window = camera.contain(path.corrections, report.size, options)
    metrics = camera.path_metrics(report.motion, window @ camera.crop_map(report.size, options), report.size)
    return float(metrics.jitter_px / metrics.input_jitter_px)


def compare_sway(clips: Path, presets: list[PresetName], folder: Path) -> None:
    print(f"{'clip':15s} {'input':>11s}  " + "  ".join(f"{name:>24s}" for name in presets))
    for clip in sorted(clips.glob("*.mp4")):
        results = []
        for name in presets:
            video.stabilize(clip, folder / clip.name, preset=name, guard=True)
            results.append(video.evaluate(clip, folder / clip.name))
        cells = (f"{m.sway_px:6.1f} {m.sway_deg:5.2f} {m.track_jitter_ratio:5.3f} {m.cropping:5.3f}" for m in results)
        before = f"{results[0].original_sway_px:5.1f} {results[0].original_sway_deg:5.2f}"
        print(f"{clip.stem:15s} {before}  " + "  ".join(cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--output", type=Path, help="keep the results here")
    parser.add_argument("--crop", type=float)
    parser.add_argument("--guard", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--script", type=Path)
    parser.add_argument("--maxn", type=int, default=180, help="frames that the script looks at")
    parser.add_argument("--sway", action="store_true")
    parser.add_argument("--presets", nargs="+", default=["standard", "steady", "smooth", "full"])
    options = parser.parse_args()
    folder = options.output or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    if options.sway:
        compare_sway(options.clips, options.presets, folder)
        return
    head = "clip            jitter in   out  ratio  tracks  crop  least  distort  outside  beyond  black  sharp"
    print(f"{head}     own  whole      q  path" + ("  | script: ratio   crop  distort" if options.script else ""))
    truths, ratios, tracks, opinions = [], [], [], []
    for clip in sorted(options.clips.glob("*.mp4")):
        result = folder / clip.name
        report = video.stabilize(clip, result, crop=options.crop, guard=options.guard)
        m = video.evaluate(clip, result)
        errors = errors_of(clip)
        own = report.planned_jitter_out_px / report.planned_jitter_in_px
        row = (
            f"{clip.stem:14s} {m.original_jitter_px:10.2f} {m.jitter_px:5.2f} {m.jitter_ratio:6.3f} "
            f"{m.track_jitter_ratio:7.3f} {m.cropping:5.3f} {m.cropping_min:6.3f} {m.distortion:8.3f} "
            f"{m.outside:8.5f} {report.violation_px:7.3f} {m.border - m.original_border:6.3f} {m.sharpness:6.2f}  "
            f"{own:6.3f} {in_one_solve(report):6.3f} {report.guard_ratio:6.3f}  {report.path_status}"
        )
        shaky = clip.stem not in STILL
        if shaky:
            ratios.append(m.jitter_ratio)
            tracks.append(m.track_jitter_ratio)
        if options.script:
            before = second_opinion(options.script, clip, clip, options.maxn)["jit_a"]
            after = second_opinion(options.script, clip, result, options.maxn)
            row += f"  |  {after['jit_a'] / before:6.3f} {after['cropping']:6.3f} {after['distortion']:8.3f}"
            if shaky:
                opinions.append(after["jit_a"] / before)
        print(row, flush=True)
        truth = clip.with_suffix(".npz")
        if truth.exists():
            truths.append(against_truth(truth, report, errors))
    print(f"median of the {len(ratios)} shaky clips: {np.median(ratios):.3f}, tracks {np.median(tracks):.3f}", end="")
    print(f", script {np.median(opinions):.3f}" if opinions else "")
    print("against ground truth, px at a width of 640:", *truths, sep="\n")


if __name__ == "__main__":
    main()
