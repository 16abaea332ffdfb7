"""What modelling the rolling shutter would gain: residuals of tracked points, cross-validated.

python benchmarks/rolling_shutter.py CLIPS_DIR [--frames 180]

A row-time model has one number for a clip, the readout time tau in frame intervals. Row v of frame t shows the camera
at t + tau (v / h - 1/2), so beyond the homography F_t = exp f_t from frame t to t - 1 a point is moved by

    tau (a_here (f_t + f_{t+1}) / 2 - a_there (f_{t-1} + f_t) / 2),    a = v / h - 1/2,

to first order in tau, with the motion within a frame interpolated from its neighbors. For each tau the homographies
are fitted again to one half of the points and judged on the other. The free model is an upper bound on what any row
model can gain: a cubic in the row, four numbers of its own for every pair of frames, fitted and judged the same way.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from legato import _core, camera, video
from legato.video import VideoReader, luma

TAUS = np.arange(-10, 11) / 10
GATE_PX = 2.0  # points farther from the plane do not tell of the shutter
LEAST_POINTS = 60


def moved(H: np.ndarray, points: np.ndarray) -> np.ndarray:
    q = points @ H[:, :2].T + H[:, 2]
    return q[:, :2] / q[:, 2:]


def flow(log: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Velocity of points under a logarithm of a homography."""
    q = points @ log[:, :2].T + log[:, 2]
    return q[:, :2] - points * q[:, 2:]


def fitted(here: np.ndarray, there: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
    H, inlier = np.empty((3, 3)), np.empty(len(here), np.uint8)
    pair = [np.ascontiguousarray(p, np.float32) for p in (here, there)]
    found = _core.video_fit_motion(*pair, *size, 0, 0.5, 2000, 1, H, inlier)[0]
    return H if found else None


def tracked(path: Path, frames: int) -> tuple[list[np.ndarray], np.ndarray, tuple[int, int]]:
    points, motion = [], [np.eye(3)]
    with VideoReader(path) as reader:
        size = reader.width, reader.height
        tracker = video.Tracker(size)
        for frame in reader:
            step = tracker.push(luma(frame.planes))
            if step is not None:
                points.append(step.points.astype(np.float64))
                motion.append(step.homography)
            if frame.index + 1 >= frames:
                break
    return points, np.array(motion), size


def measure(path: Path, frames: int) -> tuple[float, float, float, float]:
    points, motion, size = tracked(path, frames)
    w, h = size
    units = np.array([[w, 0, (w - 1) / 2], [0, w, (h - 1) / 2], [0, 0, 1.0]])
    f = camera.log_homography(np.linalg.inv(units) @ motion @ units)
    f[0] = 0
    zero = int(np.argmin(np.abs(TAUS)))
    squares: list[list[np.ndarray]] = [[] for _ in TAUS]
    free: list[np.ndarray] = []
    for t in range(2, len(motion) - 1):
        p = points[t - 1]
        here, there = p[:, :2], p[:, 2:]
        if len(p) < LEAST_POINTS:
            continue
        close = np.linalg.norm(moved(motion[t], here) - there, axis=1) < GATE_PX * w / 640
        here, there = here[close], there[close]
        if len(here) < LEAST_POINTS:
            continue
        y, x = (moved(np.linalg.inv(units), q) for q in (here, there))
        row = (w / h * np.stack([y[:, 1], x[:, 1]]))[..., None]
        bend = row[0] * flow((f[t] + f[t + 1]) / 2, y) - row[1] * flow((f[t - 1] + f[t]) / 2, y)
        half = np.random.default_rng(t).random(len(here)) < 0.5
        for learn in (half, ~half):
            test = ~learn
            for i, tau in enumerate(TAUS):
                straight = there - tau * w * bend
                H = fitted(here[learn], straight[learn], size)
                if H is None:
                    continue
                rest = straight - moved(H, here)
                squares[i].append((rest[test] ** 2).sum(1))
                if i == zero:
                    v = 2 * row[0][:, 0]
                    terms = np.stack([v**2, v**3], 1)
                    weight = np.linalg.lstsq(terms[learn], rest[learn], rcond=None)[0]
                    free.append(((rest - terms @ weight)[test] ** 2).sum(1))
    rms = np.array([np.sqrt(np.concatenate(s).mean()) for s in squares]) * 640 / w
    best = int(np.argmin(rms))
    bound = float(np.sqrt(np.concatenate(free).mean())) * 640 / w
    return float(TAUS[best]), float(rms[zero]), float(rms[best]), bound


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--frames", type=int, default=180)
    options = parser.parse_args()
    print("residual of points within 2 px of the plane, px at a width of 640, on the half not fitted")
    print(f"{'clip':16s} {'plane':>8s} {'tau':>6s} {'shutter':>8s} {'gain':>7s} {'free':>8s} {'gain':>7s}")
    for path in sorted(options.clips.glob("*.mp4")):
        tau, plane, shutter, free = measure(path, options.frames)
        gains = [f"{100 * (1 - v / plane):6.1f}%" for v in (shutter, free)]
        print(
            f"{path.stem:16s} {plane:8.4f} {tau + 0.0:6.1f} {shutter:8.4f} {gains[0]} {free:8.4f} {gains[1]}",
            flush=True,
        )


if __name__ == "__main__":
    main()
