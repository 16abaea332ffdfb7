"""Tune a camera path with arrays alone: what a larger crop buys in steadiness.

python camera_path.py                # a drawn motion
python camera_path.py motion.npy     # homographies, frame t to frame t - 1, shape (n, 3, 3), of 1280x720
"""

from __future__ import annotations

import sys

import numpy as np

from legato import camera
from legato.errors import LegatoError

SIZE = (1280, 720)


def walking(frames: int = 150) -> np.ndarray:
    """Give the motion of someone who pans while walking, in pixels from frame to frame."""
    step = np.arange(frames) / 30 * 2 * np.pi
    sway = np.stack([12 * np.sin(step), 9 * np.sin(2 * step)], axis=1)
    place = sway + np.random.default_rng(0).normal(scale=2, size=(frames, 2)) + [[3.0 * t, 0.0] for t in range(frames)]
    motion = np.tile(np.eye(3), (frames, 1, 1))
    motion[1:, :2, 2] = np.diff(place, axis=0)
    return motion


def main(*arguments: str) -> None:
    """Print one row for each crop."""
    try:
        motion = np.load(arguments[0]) if arguments else walking()
        rows = ["crop  jitter before  after    view kept  status"]
        for crop in (0.04, 0.08, 0.12, 0.2):
            options = camera.PathOptions(crop=crop, inset_px=0.5)
            path = camera.smooth_path(motion, SIZE, options)
            drawn = path.corrections @ camera.crop_map(SIZE, options)  # output pixels to input pixels
            found = camera.path_metrics(motion, drawn, SIZE)
            jitter = f"{found.input_jitter_px:10.2f} px {found.jitter_px:6.3f} px"
            rows.append(f"{crop:4.2f}  {jitter}  {found.cropping:8.1%}  {path.status}")
    except (LegatoError, OSError, ValueError) as error:
        sys.exit(f"{arguments[0] if arguments else 'walking'}: {error}")
    print("\n".join(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
