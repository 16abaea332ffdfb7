"""Speed of the camera kernels. `pytest benchmarks --benchmark-group-by=group`; every answer is asserted."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import legato
from legato import camera

pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is in the bench extra")

COUNT = 1000


def logs(n: int = COUNT, size: float = 0.02) -> np.ndarray:
    h = np.random.default_rng(0).normal(scale=size, size=(n, 3, 3))
    h[:, 2, 2] = -h[:, 0, 0] - h[:, 1, 1]
    return h


def shaky(n: int) -> np.ndarray:
    """Motion in frame widths: a slow pan with tremor, roll and the keystone that goes with rotation."""
    rng = np.random.default_rng(1)
    h = np.zeros((n, 9))
    h[:, 2] = 0.002 + 0.005 * rng.normal(size=n)
    h[:, 5] = 0.005 * rng.normal(size=n)
    h[:, 3] = 0.003 * rng.normal(size=n)
    h[:, 1] = -h[:, 3]
    h[:, [6, 7]] = -1.2 * h[:, [2, 5]]
    return camera.exp_homography(h.reshape(n, 3, 3))


@pytest.mark.benchmark(group="log of 1000 homographies")
@pytest.mark.parametrize("peer", ["legato", "numpy-reference", "scipy-logm"])
def test_log(benchmark: Any, peer: str) -> None:
    h = logs()
    H = camera.exp_homography(h)
    if peer == "scipy-logm":
        linalg = pytest.importorskip("scipy.linalg", reason="SciPy is in the bench extra")
        got = benchmark.pedantic(lambda: np.array([linalg.logm(x) for x in H]), rounds=1)
    elif peer == "numpy-reference":
        got = benchmark.pedantic(lambda: camera.log_homography(H, backend="numpy"), rounds=3)
    else:
        got = benchmark(camera.log_homography, H)
    np.testing.assert_allclose(got, h, atol=1e-13)


@pytest.mark.benchmark(group="exp of 1000 homographies")
@pytest.mark.parametrize("peer", ["legato", "numpy-reference", "scipy-expm"])
def test_exp(benchmark: Any, peer: str) -> None:
    h = logs()
    expected = camera.exp_homography(h, backend="numpy")
    if peer == "scipy-expm":
        linalg = pytest.importorskip("scipy.linalg", reason="SciPy is in the bench extra")
        got = benchmark(linalg.expm, h)
    elif peer == "numpy-reference":
        got = benchmark.pedantic(lambda: camera.exp_homography(h, backend="numpy"), rounds=3)
    else:
        got = benchmark(camera.exp_homography, h)
    np.testing.assert_allclose(got, expected, atol=1e-13)


@pytest.mark.benchmark(group="camera path, linear model")
@pytest.mark.parametrize("frames", [60, 240, 1000])
def test_path(benchmark: Any, frames: int) -> None:
    motion = shaky(frames)
    options = camera.PathOptions(relinearize=0, tolerance=1e-4)
    path = benchmark(camera.smooth_path, motion, (1920, 1080), options, units="width")
    assert path.status == "optimal"
    tight = camera.smooth_path(motion, (1920, 1080), camera.PathOptions(relinearize=0), units="width")
    assert tight.objective <= path.objective * (1 + 1e-6)
    assert path.objective <= tight.objective * (1 + 1e-4)


ISA_PROBE = """
import statistics, sys, time
import numpy as np
from legato import _core, camera
sys.path.insert(0, sys.argv[1])
from bench_camera import logs, shaky
h = logs()
H = camera.exp_homography(h)
motion = shaky(240)
options = camera.PathOptions(relinearize=0, tolerance=1e-4)
work = {
    "exp": lambda: camera.exp_homography(h),
    "log": lambda: camera.log_homography(H),
    "path": lambda: camera.smooth_path(motion, (1920, 1080), options, units="width"),
}
for name, function in work.items():
    function()
    seconds = []
    for _ in range(21):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    print(name, statistics.median(seconds))
assert _core.last_isa() == _core.active_isa()
"""


@pytest.mark.benchmark(group="instruction sets")
def test_isa_copies_earn_their_place(benchmark: Any) -> None:
    """Seconds on each instruction set, in turn; the ratios to the baseline go into the report."""
    isas = legato.build_info()["isas"]
    seconds: dict[str, dict[str, list[float]]] = {isa: {} for isa in isas}

    def once() -> None:
        for isa in isas:
            result = subprocess.run(
                [sys.executable, "-c", ISA_PROBE, str(Path(__file__).parent)],
                env={**os.environ, "LEGATO_ISA": isa},
                capture_output=True,
                text=True,
                check=True,
            )
            for line in result.stdout.splitlines()[-3:]:
                name, value = line.split()
                seconds[isa].setdefault(name, []).append(float(value))

    benchmark.pedantic(once, rounds=3)
    for below, isa in itertools.pairwise(isas):
        for name, values in seconds[isa].items():
            ratio = float(np.median(seconds[below][name]) / np.median(values))
            benchmark.extra_info[f"{name}: {isa} over {below}"] = round(ratio, 2)
    assert all(len(values) >= 3 for by_name in seconds.values() for values in by_name.values())
