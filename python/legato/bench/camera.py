"""Camera: logarithm and exponential of homographies, and one window of the path's program beside other solvers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from legato import camera
from legato.bench.timing import Row

__all__ = ["PEERS", "rows"]

PEERS = ("numpy", "scipy", "piqp", "clarabel")
_GAP = 1e-4


def rows(peers: Mapping[str, Any]) -> Iterator[Row]:
    """Give the rows of the family, with those peers that are there."""
    yield from _homographies(peers)
    yield _window(peers)


def _homographies(peers: Mapping[str, Any]) -> Iterator[Row]:
    h = np.random.default_rng(0).normal(scale=0.02, size=(1000, 3, 3))
    h[:, 2, 2] = -h[:, 0, 0] - h[:, 1, 1]
    H = camera.exp_homography(h)

    def agree(ours: Any, theirs: Any) -> None:
        np.testing.assert_allclose(ours, theirs, 0, 1e-12)

    log = {"our NumPy twin": lambda: camera.log_homography(H, backend="numpy")}
    exp = {"our NumPy twin": lambda: camera.exp_homography(h, backend="numpy")}
    if "scipy" in peers:
        from scipy import linalg

        log["SciPy logm"] = lambda: np.array([linalg.logm(one) for one in H])
        exp["SciPy expm"] = lambda: linalg.expm(h)
    yield Row("camera", "log of 1000 homographies", lambda: camera.log_homography(H), log, agree)
    yield Row("camera", "exp of 1000 homographies", lambda: camera.exp_homography(h), exp, agree)


def _window(peers: Mapping[str, Any]) -> Row:
    """120 frames; each solver at the loosest tolerance with which it comes within 1e-4 of the optimum."""
    rng = np.random.default_rng(1)
    motion = np.zeros((120, 9))
    motion[:, [2, 5]] = 0.005 * rng.normal(size=(120, 2)) + (0.002, 0)
    motion[:, 3] = 0.003 * rng.normal(size=120)
    motion[:, 1] = -motion[:, 3]
    motion[:, [6, 7]] = -1.2 * motion[:, [2, 5]]
    options = camera.PathOptions(keystone_ratio=-1.2)
    homographies = camera.exp_homography(motion.reshape(-1, 3, 3))
    program = camera.path_program(homographies, (1920, 1080), options, units="width")
    best = program.solve(tolerance=1e-9).objective

    def solved_by(**solver: Any) -> Any:
        for tolerance in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6):
            if program.objective(program.solve(tolerance=tolerance, **solver).path) <= best * (1 + _GAP):
                return lambda: program.solve(tolerance=tolerance, **solver).path
        raise AssertionError(f"{solver.get('solver', 'legato')} did not come within {_GAP} of the optimum")

    def agree(ours: Any, theirs: Any) -> None:
        for path in (ours, theirs):
            assert abs(program.objective(path) / best - 1) <= _GAP
            assert program.violation(path) <= 1e-5

    names = {"piqp": "PIQP", "clarabel": "Clarabel"}
    others = {label: solved_by(solver=name) for name, label in names.items() if name in peers}
    return Row("camera", "path of 120 frames, within 1e-4 of the optimum", solved_by(), others, agree)
