"""Tables of docs/camera-evidence.md: `python benchmarks/camera_reproduction.py [--quick]`. Needs the solvers extra.

The clip is tests/data/camera/motion600.npz: 600 frames at 30 fps, 1920 x 1080, a rotating pinhole camera with tremor,
roll, drift, a pan, a push-in and the pan back.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
import tracemalloc
from pathlib import Path

import numpy as np

from legato import _core, camera

DATA = Path(__file__).parents[1] / "tests" / "data" / "camera"
SIZE = (1920, 1080)
MODEL = camera.PathOptions(
    crop=0.2,
    window_scale=0.9,
    weights=(1, 10, 1, 100),
    anisotropy=10,
    shear=10,
    keystone=10,
    keystone_ratio=-1 / 0.85**2,
    relinearize=0,
    tolerance=1e-9,
)


def row(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |")


def head(title: str, *cells: str) -> None:
    print(f"\n{title}\n")
    row(*cells)
    row(*("---" for _ in cells))


def solve(motion: np.ndarray, options: camera.PathOptions, **keywords: object) -> camera.CameraPath:
    return camera.smooth_path(motion, SIZE, options, units="width", **keywords)  # type: ignore[arg-type]


def zero_shares(path: camera.CameraPath, motion: np.ndarray) -> list[str]:
    e = np.diff(path.log_corrections.reshape(-1, 9), axis=0) + camera.log_homography(motion[1:]).reshape(-1, 9)
    shares = []
    for _ in range(3):
        shares.append(f"{100 * (np.abs(e) < 1e-8).mean():.1f} %")
        e = np.diff(e, axis=0)
    return shares


def measures(path: camera.CameraPath, motion: np.ndarray) -> list[str]:
    to_pixel = np.array([[SIZE[0], 0, (SIZE[0] - 1) / 2], [0, SIZE[0], (SIZE[1] - 1) / 2], [0, 0, 1]])
    back = np.linalg.inv(to_pixel)
    full = to_pixel @ camera.exp_homography(path.log_corrections) @ back @ camera.crop_map(SIZE, path.options)
    m = camera.path_metrics(to_pixel @ motion @ back, full, SIZE)
    return [
        f"{m.jitter_px:.3f}",
        f"{m.stability:.4f}",
        f"{m.cropping:.3f}",
        f"{m.distortion:.3f}",
        f"{path.violation_px.max():.2f}",
    ]


def sparsity(motion: np.ndarray) -> None:
    head("Sparsity, global solve, |e| < 1e-8", "model", "objective", "e1 zero", "e2 zero", "e3 zero")
    path = solve(motion, MODEL)
    row("with distortion terms", f"{path.objective:.6f}", *zero_shares(path, motion))
    plain = solve(motion, dataclasses.replace(MODEL, anisotropy=0, shear=0, keystone=0))
    row("equation (4) alone", f"{plain.objective:.6f}", *zero_shares(plain, motion))


def windows(motion: np.ndarray, quick: bool) -> None:
    best = solve(motion, MODEL).objective
    head("Windows: objective above the whole clip's", "window", "kept", "gap", "CPU us a frame")
    pairs = [(300, 250), (240, 120), (180, 150), (180, 120), (120, 90), (120, 60), (120, 30), (60, 45), (60, 30)]
    for window, stride in [*pairs, (60, 15), (30, 15)][:: 3 if quick else 1]:
        options = dataclasses.replace(MODEL, tolerance=1e-6)
        start = time.thread_time()
        path = solve(motion, options, window=window, stride=stride)
        seconds = time.thread_time() - start
        gap = f"{100 * (path.objective / best - 1):.2f} %"
        row(window, stride, gap, f"{1e6 * seconds / len(motion):.0f}")


def ablation(motion: np.ndarray) -> None:
    columns = ("jitter (px/frame^2)", "stability", "cropping", "distortion", "crop violation (px)")
    head("Ablation, 600 frames", "variant", *columns)
    exact = dataclasses.replace(MODEL, relinearize=2, tolerance=1e-6)
    w0, w1, w2, w3 = MODEL.weights
    for name, options in {
        "the paper's linear model": dataclasses.replace(exact, relinearize=0),
        "re-linearized twice": exact,
        "without w1": dataclasses.replace(exact, weights=(w0, 0, w2, w3)),
        "without w2": dataclasses.replace(exact, weights=(w0, w1, 0, w3)),
        "without w3": dataclasses.replace(exact, weights=(w0, w1, w2, 0)),
        "w0 = 0 (linear program)": dataclasses.replace(exact, weights=(0, w1, w2, w3)),
        "without anisotropy and shear": dataclasses.replace(exact, anisotropy=0, shear=0),
        "without keystone": dataclasses.replace(exact, keystone=0),
        "crop 0.1": dataclasses.replace(exact, crop=0.1, window_scale=0.95),
        "crop 0.3": dataclasses.replace(exact, crop=0.3, window_scale=0.85),
        "affine": dataclasses.replace(exact, model="affine"),
        "similarity": dataclasses.replace(exact, model="similarity"),
        "translation": dataclasses.replace(exact, model="translation"),
        "this package's default weights": camera.PathOptions(crop=0.2),
    }.items():
        row(name, *measures(solve(motion, options), motion))
    to_pixel = np.array([[SIZE[0], 0, (SIZE[0] - 1) / 2], [0, SIZE[0], (SIZE[1] - 1) / 2], [0, 0, 1]])
    pixels = to_pixel @ motion @ np.linalg.inv(to_pixel)
    window = camera.PathOptions(crop=0.2)
    row("Gaussian, 15 frames", *measures(camera.filter_path(pixels, SIZE, window), motion))
    row("moving average, 31 frames", *measures(camera.filter_path(pixels, SIZE, window, kind="average"), motion))
    row("Grundmann 2011 (window 0.9)", *measures(camera.grundmann_path(pixels, SIZE, window), motion))


def resident_mb() -> float:
    """Physical memory of this process (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def offline(motion: np.ndarray, quick: bool) -> None:
    head("Long clips, gap 1e-4, window 240, 200 kept", "frames", "CPU s", "us a frame")
    options = dataclasses.replace(MODEL, tolerance=1e-4)
    for frames in (1000, 10_000) if quick else (1000, 10_000, 100_000):
        long = np.resize(motion, (frames, 3, 3))
        start = time.thread_time()
        solve(long, options, window=240, stride=200)
        seconds = time.thread_time() - start
        row(frames, f"{seconds:.2f}", f"{1e6 * seconds / frames:.1f}")


def memory(motion: np.ndarray, quick: bool) -> None:
    head(
        "Memory of a stream, window 240, 200 kept, as frames go by", "frames", "Python objects, peak", "process, growth"
    )
    options = dataclasses.replace(MODEL, tolerance=1e-4)
    stream = camera.PathStream(SIZE, options, window=240, stride=200, units="width")
    stream.push(motion)  # everything is allocated once
    tracemalloc.start()
    before, out, seen = resident_mb(), 0, len(motion)
    for report in (1000, 10_000) if quick else (1000, 10_000, 100_000):
        while seen < report:
            chunk = motion[1 : min(101, report - seen + 1)]
            out += len(stream.push(chunk))
            seen += len(chunk)
        row(seen, f"{tracemalloc.get_traced_memory()[1] / 2**20:.2f} MB", f"{resident_mb() - before:.2f} MB")
    tracemalloc.stop()
    assert out > 0
    head("Workspace of one solve", "frames", "MB", "kB a frame")
    core = _core.CameraPathOptions(
        crop=options.crop,
        window_scale=options.effective_window_scale,
        weights=options.weights,
        anisotropy=options.anisotropy,
        shear=options.shear,
        keystone=options.keystone,
        keystone_ratio=-1.0,
        bound=options.bound,
        inset=0.0,
        pixel=0.0,
        relinearize=0,
        tolerance=options.tolerance,
        max_iterations=options.max_iterations,
    )
    for frames in (60, 120, 240, 1000, 10_000):
        size = _core.camera_path_workspace_size(frames, core)
        row(frames, f"{size / 2**20:.1f}", f"{size / frames / 1000:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rows")
    quick = parser.parse_args().quick
    with np.load(DATA / "motion600.npz") as archive:
        motion = archive["F"]
    sparsity(motion)
    windows(motion, quick)
    ablation(motion)
    offline(motion, quick)
    memory(motion, quick)


if __name__ == "__main__":
    main()
