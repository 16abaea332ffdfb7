"""Every instruction set that this processor has gives the same bits, and the forced copy is the one that ran."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import legato

PROBE = """
import hashlib
import numpy as np
from legato import _core, camera
rng = np.random.default_rng(0)
h = rng.normal(scale=0.05, size=(300, 3, 3))
h[:, 2, 2] = -h[:, 0, 0] - h[:, 1, 1]
digest = hashlib.sha256()
ran = set()
H = camera.exp_homography(h)
ran.add(_core.last_isa())
digest.update(H.tobytes())
digest.update(camera.log_homography(H).tobytes())
ran.add(_core.last_isa())
motion = camera.exp_homography(h[:80] * 0.1)
path = camera.smooth_path(motion, (640, 360), units="width")
ran.add(_core.last_isa())
digest.update(path.corrections.tobytes())
digest.update(np.array([path.objective, path.gap]).tobytes())
points = np.full((80, 1, 2), 0.1)
for keywords in (
    {"window": 40, "stride": 20},
    {"salient": points},
    {"salient": points, "salient_weight": 500.0},
    {"targets": points[:, 0], "target_weight": 5.0},
):
    path = camera.smooth_path(motion, (640, 360), units="width", **keywords)
    ran.add(_core.last_isa())
    digest.update(path.corrections.tobytes())
for model in ("homography", "affine", "similarity", "translation"):
    options = camera.PathOptions(model=model, acceleration=1e4)
    path = camera.smooth_path(motion, (640, 360), options, units="width")
    digest.update(path.corrections.tobytes())
print(digest.hexdigest(), *ran)
"""


def run(isa: str | None) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "LEGATO_ISA"}
    if isa is not None:
        environment["LEGATO_ISA"] = isa
    return subprocess.run([sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, check=False)


def answer(isa: str | None) -> list[str]:
    result = run(isa)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()[-1].split()


@pytest.fixture(scope="module")
def digest() -> str:
    found, *ran = answer("baseline")
    assert ran == ["baseline"]
    return found


@pytest.mark.parametrize("isa", legato.build_info()["isas"])
def test_forced_isa_runs_and_gives_the_same_bits(isa: str, digest: str) -> None:
    found, *ran = answer(isa)
    assert ran == [isa]
    assert found == digest


def test_unforced_is_the_best(digest: str) -> None:
    found, *ran = answer(None)
    assert ran == [legato.build_info()["isas"][-1]]
    assert found == digest


def test_unknown_isa_is_refused() -> None:
    result = run("mmx")
    assert result.returncode != 0
    assert "LEGATO_ISA: expected baseline, avx2 or avx512" in result.stderr
