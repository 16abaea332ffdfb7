"""Speed of the video kernels against OpenCV, one thread; every answer is asserted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from legato import _core
from legato.video import Planes, Tracker, warp
from legato.video.filling import Filler, Lender, Source
from legato.video.synthetic import synthesis

pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is in the bench extra")
cv2 = pytest.importorskip("cv2", reason="OpenCV is in the video extra")
cv2.setNumThreads(1)

SIZES = [(640, 360), (1280, 720), (1920, 1080)]
SHAKE = np.array([[0.93, -0.024, 30], [0.024, 0.93, 9], [8e-6, -6e-6, 1]])


def frame(size: tuple[int, int], bits: int = 8) -> Planes:
    packed = synthesis.render_scene(3, size)
    dtype = np.uint8 if bits == 8 else np.uint16
    channels = (packed[:, :, 1], packed[::2, ::2, 0], packed[::2, ::2, 2])
    return Planes(*(np.ascontiguousarray(c).astype(dtype) << (bits - 8) for c in channels), bit_depth=bits)


@pytest.mark.parametrize("backend", ["native", "opencv"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_warp(benchmark: Any, interpolation: Any, size: tuple[int, int], backend: Any) -> None:
    benchmark.group = f"warp {interpolation} {size[0]}x{size[1]}, three planes"
    source, out = frame(size), frame(size)
    benchmark(warp, source, SHAKE, interpolation=interpolation, out=out, backend=backend)
    other = warp(source, SHAKE, interpolation=interpolation, backend="opencv")
    assert np.abs(out.y.astype(int) - other.y).max() <= 2


@pytest.mark.parametrize("backend", ["native", "opencv"])
@pytest.mark.parametrize(
    ("interpolation", "bits"), [("bilinear", 10), ("bicubic", 10), ("lanczos", 8), ("lanczos", 10)]
)
def test_deep_and_sharp_warp(benchmark: Any, interpolation: Any, bits: int, backend: Any) -> None:
    benchmark.group = f"warp {interpolation} 1280x720 of {bits} bits, three planes"
    source, out = frame(SIZES[1], bits), frame(SIZES[1], bits)
    benchmark(warp, source, SHAKE, interpolation=interpolation, out=out, backend=backend)
    other = warp(source, SHAKE, interpolation=interpolation, backend="opencv")
    difference = np.abs(out.y.astype(int) - other.y)  # OpenCV's Lanczos takes positions in steps of 1/32 px
    assert difference.max() <= (8 if interpolation == "lanczos" else 2) << (bits - 8)
    assert difference.mean() < 0.5 * (1 << (bits - 8))


@pytest.mark.parametrize("size", [SIZES[0], SIZES[2]], ids=str)
def test_fill(benchmark: Any, size: tuple[int, int]) -> None:
    benchmark.group = "a border of 5 % filled from ten neighbors, three planes"
    (width, height), step = size, size[0] // 40
    scene = frame((width + 12 * step, height))

    def seen(x: int) -> Planes:
        half = slice(x // 2, (x + width) // 2)
        return Planes(*(p.copy() for p in (scene.y[:, x : x + width], scene.u[:, half], scene.v[:, half])))

    def shifted(x: int) -> Any:
        return np.array([[1.0, 0, x], [0, 1, 0], [0, 0, 1]])

    lenders = {k: Lender(seen((6 + k) * step), shifted(step), joined=True) for k in range(-5, 6)}
    sources = [Source(lenders[k], shifted(-k * step), abs(k)) for k in sorted(lenders, key=abs) if k]
    drawn, filler, view = seen(0), Filler(), shifted(2 * step)
    for lender in lenders.values():
        assert lender.pyramid is not None  # made once for all pictures that a frame lends to

    def complete() -> Planes:
        warp(lenders[0].planes, view, interpolation="bilinear", out=drawn)
        filler(drawn, view, lenders[0], sources)
        return drawn

    filled = benchmark(complete)
    truth = seen(8 * step)
    for plane, true in ((filled.y, truth.y), (filled.u, truth.u)):
        beyond = (slice(None), slice(-2 * step * plane.shape[1] // width, None))
        assert np.sqrt(np.mean((plane[beyond].astype(float) - true[beyond]) ** 2)) < 2
    assert filler.filling.outside[0] == pytest.approx(0.05, abs=0.001)
    assert filler.filling.membrane[0] < 0.001


@pytest.mark.parametrize("peer", ["legato", "opencv"])
def test_lucas_kanade(benchmark: Any, peer: str) -> None:
    benchmark.group = "Lucas-Kanade 15x15 forward and backward, 224 points, two pyramids each way"
    first = frame((720, 480)).y[40:400, 30:670].copy()
    second = warp(first, np.array([[1.0, 0, 3.5], [0, 1, -2.25], [0, 0, 1]]))
    points = _core.VideoPyramid(first, 1).corners(224)
    moved, found = np.empty_like(points), np.empty(len(points), np.uint8)
    if peer == "legato":

        def ours() -> None:  # OpenCV's call builds both pyramids each way, so ours are built twice as well
            for _ in range(2):
                before, after = _core.VideoPyramid(first, 1), _core.VideoPyramid(second, 1)
            before.follow(after, points, 0.5, moved, found)

        benchmark(ours)
    else:
        window, criteria = (15, 15), (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 10, 0.01)

        def both_ways() -> None:
            end, good, _ = cv2.calcOpticalFlowPyrLK(
                first, second, points[:, None], None, window, maxLevel=4, criteria=criteria
            )
            back, again, _ = cv2.calcOpticalFlowPyrLK(second, first, end, None, window, maxLevel=4, criteria=criteria)
            moved[:] = end[:, 0]
            near = np.abs(back[:, 0] - points).max(1) < 0.5
            found[:] = (good[:, 0] > 0) & (again[:, 0] > 0) & near

        benchmark(both_ways)
    error = np.linalg.norm((moved - points)[found > 0] - (-3.5, 2.25), axis=1)
    assert found.mean() > 0.8
    assert np.median(error) < 0.1


@pytest.mark.parametrize("peer", ["legato", "USAC_FAST"])
@pytest.mark.parametrize("outliers", [0.1, 0.5])
def test_fit(benchmark: Any, outliers: float, peer: str) -> None:
    benchmark.group = f"homography fit, 300 matches, {outliers:.0%} outliers"
    rng = np.random.default_rng(2)
    here = (rng.random((300, 2)) * (640, 360)).astype(np.float32)
    to = np.c_[here, np.ones(300)] @ SHAKE.T
    there = (to[:, :2] / to[:, 2:] + rng.normal(0, 0.15, (300, 2))).astype(np.float32)
    bad = rng.random(300) < outliers
    there[bad] = rng.random((bad.sum(), 2)) * (640, 360)
    found, inlier, covariance = np.empty((3, 3)), np.empty(300, np.uint8), np.empty((8, 8))
    if peer == "legato":
        benchmark(_core.video_fit_motion, here, there, 640, 360, 0, 0.5, 2000, 1, found, inlier, covariance)
    else:
        found = benchmark(cv2.findHomography, here, there, cv2.USAC_FAST, 1.5)[0]
    corner = np.array([[0, 0, 1], [639, 0, 1], [0, 359, 1], [639, 359, 1.0]]).T
    p, q = found @ corner, SHAKE @ corner
    assert np.abs(p[:2] / p[2] - q[:2] / q[2]).max() < 0.5


@pytest.mark.parametrize("backend", ["native", "opencv"])
def test_tracker(benchmark: Any, backend: Any) -> None:
    benchmark.group = "tracker, two frames of 640x360"
    first = frame((640, 360)).y
    second = warp(first, np.array([[1.0, 0, 3.5], [0, 1, -2.25], [0, 0, 1]]))
    tracker = Tracker((640, 360), backend=backend)
    tracker.push(first)

    def there_and_back() -> Any:
        tracker.push(second)
        return tracker.push(first)

    motion = benchmark(there_and_back)
    assert abs(motion.homography[0, 2] + 3.5) < 0.2
