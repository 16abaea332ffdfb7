"""Cinematic-L1 (Bradley et al., WACV 2021): log-homographies, sparse derivatives, full homographies, windows."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from legato import camera
from legato.claims.running import Claim

__all__ = ["GROUPS"]

_SIZE = (1920, 1080)
_FOCAL = 0.85  # of the frame's width, as the paper's figures suggest
_MODEL = camera.PathOptions(
    crop=0.2,
    window_scale=0.9,
    weights=(1, 10, 1, 100),
    anisotropy=10,
    shear=10,
    keystone=10,
    keystone_ratio=-1 / _FOCAL**2,
    relinearize=0,
    tolerance=1e-6,
)
_EXACT = dataclasses.replace(_MODEL, relinearize=2)


def _motion(frames: int, seed: int = 0) -> NDArray[np.float64]:
    """Move a camera by hand: it pans, holds and pans back, with tremor, drift and roll; frame widths."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.normal(size=(frames, 3)), 0) * (4e-4, 6e-4, 4e-4)
    tremor = rng.normal(size=(frames, 3)) * (1.2e-3, 1.6e-3, 1e-3)
    angles = walk + tremor
    time_ = np.arange(frames) / 30
    angles[:, 1] += 0.15 * np.clip(np.abs((time_ % 20) - 10) - 4, 0, 4) / 4  # a pan in and out of a hold
    K = np.diag([_FOCAL, _FOCAL, 1.0])
    turned = np.array([_rotation(*angle) for angle in angles])
    steps = np.tile(np.eye(3), (frames, 1, 1))
    steps[1:] = K @ np.transpose(turned[:-1], (0, 2, 1)) @ turned[1:] @ np.linalg.inv(K)
    return steps


def _rotation(x: float, y: float, z: float) -> NDArray[np.float64]:
    (cx, sx), (cy, sy), (cz, sz) = ((math.cos(a), math.sin(a)) for a in (x, y, z))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x, np.float64)


def _solved(
    motion: NDArray[np.float64],
    options: camera.PathOptions = _MODEL,
    *,
    window: int | None = None,
    stride: int | None = None,
) -> camera.CameraPath:
    return camera.smooth_path(motion, _SIZE, options, units="width", window=window, stride=stride)


def _logarithms(quick: bool) -> Iterator[Claim]:
    """Homographies as sums of logarithms."""
    rng = np.random.default_rng(0)
    h = rng.normal(scale=0.05, size=(1000 if quick else 100_000, 3, 3))
    h[:, 2, 2] = -h[:, 0, 0] - h[:, 1, 1]
    H = camera.exp_homography(h)
    error = float(np.abs(camera.log_homography(H) - h).max())
    yield Claim(
        "log and exp are inverse on SL(3) near the identity", "log exp h = h", f"{error:.1e}", error < 1e-12, error
    )
    gaps = []
    for size in (1e-2, 5e-3):
        a, b = (size * one for one in np.split(h[:1000] / 0.05, 2))
        product = camera.exp_homography(a) @ camera.exp_homography(b)
        gaps.append(float(np.abs(camera.log_homography(product) - a - b).mean()))
    order = math.log2(gaps[0] / gaps[1])
    yield Claim(
        "log(H1 H2) is log H1 + log H2 to first order: what is left falls with the square of the motions",
        "order 2",
        f"order {order:.3f}",
        abs(order - 2) < 0.1,
        abs(order / 2 - 1),
    )


def _segments(quick: bool) -> Iterator[Claim]:
    """Paths of holds, pans and constant accelerations."""
    motion = _motion(300 if quick else 900)
    path = _solved(motion, dataclasses.replace(_MODEL, tolerance=1e-9))
    e = np.diff(path.log_corrections.reshape(-1, 9), axis=0) + camera.log_homography(motion[1:]).reshape(-1, 9)
    shares = []
    for _ in range(3):
        shares.append(float((np.abs(e) < 1e-8).mean()))
        e = np.diff(e, axis=0)
    yield Claim(
        "the L1 optimum has derivatives that are zero almost everywhere: holds, pans, constant accelerations",
        "sparse (a picture)",
        "zero: {:.0%}, {:.0%}, {:.0%} of the first, second, third".format(*shares),
        shares[2] > 0.9 and shares[0] > 0.5,
    )


def _models(quick: bool) -> Iterator[Claim]:
    """Full homographies against affine and similarity models; the crop."""
    motion = _motion(200 if quick else 600, seed=1)
    jitter = {}
    to_pixel = np.array([[_SIZE[0], 0, (_SIZE[0] - 1) / 2], [0, _SIZE[0], (_SIZE[1] - 1) / 2], [0, 0, 1]])
    back = np.linalg.inv(to_pixel)
    for model in ("homography", "affine", "similarity"):
        path = _solved(motion, dataclasses.replace(_EXACT, model=model))
        full = to_pixel @ camera.exp_homography(path.log_corrections) @ back @ camera.crop_map(_SIZE, path.options)
        metrics = camera.path_metrics(to_pixel @ motion @ back, full, _SIZE)
        jitter[model] = metrics.jitter_px
        if model == "homography":
            before, violation = metrics.input_jitter_px, float(path.violation_px.max())
    yield Claim(
        "corrections that are full homographies are steadier than affine and similarity ones at the same crop",
        "steadier",
        f"jitter {before:.2f} px before, then " + ", ".join(f"{jitter[model]:.3f}" for model in jitter),
        2 * jitter["homography"] < min(jitter["affine"], jitter["similarity"]),
    )
    yield Claim(
        "the crop window never leaves the frame",
        "0 px beyond it",
        f"at most {violation:.3f} px",
        violation < 0.05,
        violation,
    )


def _windows(quick: bool) -> Iterator[Claim]:
    """Windows: linear time, bounded memory, near the whole clip's optimum."""
    motion = _motion(600, seed=2)
    gap = _solved(motion, window=300, stride=250).objective / _solved(motion).objective - 1
    yield Claim(
        "windows that hold three frames of the one before are near the optimum of the whole clip",
        "near",
        f"objective {gap:.2%} above, 300 frames of which 250 are kept",
        0 <= gap < 0.02,
        gap,
    )
    if quick:  # a quick run may be a test, and time is no matter of tests
        return
    lengths = (5000, 40_000)
    loose, seconds = dataclasses.replace(_MODEL, tolerance=1e-4), []
    for frames in lengths:
        long = _motion(frames, seed=3)
        start = time.thread_time()
        _solved(long, loose, window=240, stride=200)
        seconds.append(time.thread_time() - start)
    exponent = math.log(seconds[1] / seconds[0]) / math.log(lengths[1] / lengths[0])
    rate = lengths[1] / seconds[1]
    yield Claim(
        "time grows linearly with the clip, and is beyond real time (the paper: 300 frames a second on a phone)",
        "exponent 1, 300 frames/s",
        f"exponent {exponent:.2f}, {rate:,.0f} frames a second of one core",
        abs(exponent - 1) < 0.15 and rate > 300,
        abs(exponent - 1),
    )


GROUPS = (_logarithms, _segments, _models, _windows)
