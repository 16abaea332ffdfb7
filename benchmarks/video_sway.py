"""Sway that the presets leave, planned: px at a width of 640, degrees of roll, and jitter beside them.

python benchmarks/video_sway.py CLIPS_DIR [--presets standard steady smooth]

The motion of each clip is estimated once, and every path planned from it; nothing is drawn.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from legato import camera, video
from legato.video.planning import window_frames
from legato.video.presets import PresetName, preset_named


def planned(analysis: video.Analysis, motion: np.ndarray, name: PresetName) -> np.ndarray:
    """Give the corrections of a preset."""
    preset = preset_named(name)
    rate = analysis.frame_rate or 30.0
    options = preset.options().at_frame_rate(rate)
    window, stride = (None, None) if preset.window_s is None else window_frames(preset.window_s, rate)
    path = camera.smooth_path(motion, analysis.size, options, window=window, stride=stride)
    return camera.contain(path.corrections, analysis.size, options) @ camera.crop_map(analysis.size, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--presets", nargs="+", default=["standard", "steady", "smooth"])
    options = parser.parse_args()
    print(f"{'clip':14s} " + " ".join(f"{name:>22s}" for name in ("input", *options.presets)))
    for clip in sorted(options.clips.glob("*.mp4")):
        analysis = video.analyze(clip)
        motion = camera.bridge_motion(analysis.motion, analysis.ok)
        still = np.tile(np.eye(3), (len(motion), 1, 1))
        cells = []
        for corrections in (still, *(planned(analysis, motion, name) for name in options.presets)):
            unit = 640 / analysis.size[0]
            sway = camera.path_sway(motion, corrections, analysis.size, analysis.frame_rate or 30.0)
            jitter = camera.path_metrics(motion, corrections, analysis.size).jitter_px
            cells.append(f"{sway.px * unit:9.1f} {sway.roll_deg:5.2f} {jitter * unit:6.3f}")
        print(f"{clip.stem:14s} " + " ".join(cells), flush=True)


if __name__ == "__main__":
    main()
