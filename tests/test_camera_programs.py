"""The program behind a camera path: vectors solved to a certified gap, every iteration cap, other solvers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import DATA, camera_arrays
from legato import camera
from legato.errors import ArgumentError

VECTORS = sorted((DATA / "camera_qp").glob("*.npz"))
LONGEST = DATA / "camera_qp" / "dev-walk-N10000-s1.npz"


def program_of(path: Path) -> tuple[camera.BandedProgram, dict[str, Any]]:
    with np.load(path) as archive:
        z = {key: archive[key] for key in archive.files}
    held = z["b_hist"] if z["has_hist"] else np.empty((0, 8))
    c = np.vstack([z["c_hist"], z["c"]]) if z["has_hist"] else z["c"]
    weights = np.zeros((3, 9))
    weights[:, :8] = z["w"][:, None] * z["comp_scale"]
    return (
        camera.BandedProgram(
            velocity=np.vstack([np.zeros(8), np.diff(c, axis=0)]),
            weights=weights,
            quadratic=np.diag(z["lam"]),
            row_matrix=np.vstack([z["G"], -z["G"]]),
            row_bound=np.concatenate([z["ug"], -z["lg"]]),
            lower=z["lb"],
            upper=z["ub"],
            held=held,
        ),
        z,
    )


def test_there_are_vectors() -> None:
    assert len(VECTORS) == 11


@pytest.mark.parametrize("file", VECTORS, ids=lambda p: p.stem)
def test_certified_optimum(file: Path) -> None:
    program, z = program_of(file)
    solved = program.solve(tolerance=1e-9)
    assert solved.status == "optimal"
    assert solved.gap <= 1e-9 * max(solved.objective, 1e-5 * z["f_zero"])
    assert solved.objective - solved.gap <= z["f_star"] + z["cert_gap"]
    assert solved.objective == pytest.approx(z["f_star"], rel=1e-9)
    assert program.objective(solved.path) == pytest.approx(solved.objective, rel=1e-12)
    assert program.violation(solved.path) <= 1e-12
    if file == LONGEST:
        return  # seconds; the others repeat as well
    again = program.solve(tolerance=1e-9)
    assert again.path.tobytes() == solved.path.tobytes()


def check_caps(file: Path, caps: Iterable[int]) -> list[float]:
    """Gaps to the optimum at each cap; every path is feasible and its certificate holds."""
    program, z = program_of(file)
    scale = max(float(z["f_star"]), 1e-3 * float(z["f_zero"]))
    gaps = []
    for cap in caps:
        solved = program.solve(tolerance=1e-9, max_iterations=cap)
        assert solved.iterations <= cap
        assert program.violation(solved.path) <= 1e-12
        assert solved.objective - solved.gap <= z["f_star"] + z["cert_gap"]
        gaps.append(float(solved.objective - z["f_star"]) / scale)
    return gaps


@pytest.mark.parametrize("file", [v for v in VECTORS if v != LONGEST], ids=lambda p: p.stem)
def test_every_iteration_cap_is_feasible_and_certified(file: Path) -> None:
    gaps = check_caps(file, range(31))
    assert gaps[10] < 0.05
    assert gaps[-1] < 1e-6


@pytest.mark.parametrize("caps", [(0, 1, 3, 10), pytest.param(range(31), marks=pytest.mark.slow)], ids=["some", "all"])
def test_iteration_caps_on_ten_thousand_frames(caps: Iterable[int]) -> None:
    assert check_caps(LONGEST, caps)[-1] < 0.05


@pytest.mark.parametrize(("solver", "tolerance"), [("clarabel", 1e-8), ("piqp", 1e-7)])
@pytest.mark.parametrize("name", ["dev-walk-N60-s1", "dev-hist-N60-s2"])
def test_other_solvers_agree(solver: str, tolerance: float, name: str) -> None:
    pytest.importorskip(solver, reason="the solvers extra is not installed")
    program, z = program_of(DATA / "camera_qp" / f"{name}.npz")
    solved = program.solve(solver=solver, tolerance=tolerance)
    assert solved.status == "optimal"
    assert solved.objective == pytest.approx(z["f_star"], rel=1e-5)
    assert solved.gap <= 1e-4 * z["f_star"]
    assert program.violation(solved.path) <= 1e-6


def test_osqp_reports_the_gap_it_reached() -> None:
    pytest.importorskip("osqp", reason="the solvers extra is not installed")
    program, z = program_of(DATA / "camera_qp" / "dev-walk-N60-s1.npz")
    solved = program.solve(solver="osqp", tolerance=1e-5, max_iterations=500)
    assert solved.status == "iteration_limit"
    assert solved.gap > 1e-3 * z["f_star"]


def random_program(seed: int, n: int, held: int, soft: int, per_frame: bool) -> camera.BandedProgram:
    rng = np.random.default_rng(seed)
    Q = rng.normal(size=(n, 8, 8) if per_frame else (8, 8))
    bend = rng.normal(size=(5, 8))
    weights = rng.uniform(0.1, 3, size=(3, 9)) * (rng.uniform(size=(3, 9)) > 0.2)
    m = 5 + soft
    bound = rng.uniform(0.05, 0.3, size=(n, m) if per_frame else m)
    if soft:
        bound[..., -soft:] -= 0.2  # some of them cannot be met at zero
    return camera.BandedProgram(
        velocity=0.1 * rng.normal(size=(n, 8)),
        weights=weights,
        quadratic=Q @ np.swapaxes(Q, -1, -2) + np.eye(8),
        linear=0.3 * rng.normal(size=(n, 8)) if seed % 2 else None,
        row_matrix=rng.normal(size=(n, m, 8) if per_frame else (m, 8)),
        row_bound=bound,
        lower=np.array([-0.3] * 4 + [-np.inf] * 4),
        upper=np.array([0.2] * 4 + [np.inf] * 4),
        held=0.02 * rng.normal(size=(held, 8)),
        soft_rows=soft,
        penalty=2.0 if soft else 0.0,
        constant=5.0,
        acceleration=bend.T @ bend if seed % 3 else None,
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(0, 4), st.integers(0, 11), st.booleans())
def test_random_programs_against_clarabel(seed: int, n: int, held: int, soft: int, per_frame: bool) -> None:
    """The twin of the compiled solver: the sparse form, built in SciPy, by another solver."""
    pytest.importorskip("clarabel", reason="the test extra is not installed")
    program = random_program(seed, n, min(held, n - 1), soft, per_frame)
    ours = program.solve(tolerance=1e-9)
    theirs = program.solve(solver="clarabel", tolerance=1e-9)
    assert ours.status == "optimal"
    assert ours.objective == pytest.approx(theirs.objective, rel=1e-6, abs=1e-7)
    assert program.objective(ours.path) == pytest.approx(ours.objective, rel=1e-10)
    assert program.violation(ours.path) <= 1e-12
    twin = program.solve(tolerance=1e-8, backend="numpy")
    assert twin.status == "optimal"
    assert twin.objective == pytest.approx(ours.objective, rel=2e-8)


def test_sparse_form_has_the_objective_of_the_program() -> None:
    pytest.importorskip("scipy", reason="the test extra is not installed")
    program = random_program(4, 6, 2, 3, True)
    sparse = program.sparse()
    assert sparse.A.shape == (len(sparse.l), len(sparse.q))
    assert sparse.coordinates.shape == (4, 8)
    # With the other variables at their best for a given path, x'Px/2 + q'x is the program's objective.
    rng = np.random.default_rng(0)
    path = np.vstack([program.held, 0.01 * rng.normal(size=(4, 8))])
    x = np.zeros(len(sparse.q))
    x[sparse.coordinates] = path[2:]
    general = sparse.A.shape[0] - len(x)
    residual = sparse.A[:general] @ x - sparse.u[:general]
    equal = sparse.l[:general] == sparse.u[:general]
    value = 0.5 * x @ (sparse.P @ x) + sparse.constant
    for row in np.flatnonzero(equal):  # r = s+ - s-
        line = sparse.A[row].toarray().ravel()
        value += abs(residual[row]) * sparse.q[np.flatnonzero(line == -1)[-1]]
    for row in np.flatnonzero(~equal):  # a soft row has its violation as the last variable
        line = sparse.A[row].toarray().ravel()
        last = np.flatnonzero(line)[-1]
        if last not in sparse.coordinates:
            value += max(residual[row], 0) * sparse.q[last]
    value += (sparse.q[sparse.coordinates] * path[2:]).sum()
    assert value == pytest.approx(program.objective(path), rel=1e-12)


def test_solvers_of_smooth_path_agree() -> None:
    pytest.importorskip("clarabel", reason="the test extra is not installed")
    f = camera_arrays("qp60_paper.npz")["f"]
    motion = camera.exp_homography(f.reshape(-1, 3, 3))
    for options in (
        camera.PathOptions(tolerance=1e-7),
        camera.PathOptions(tolerance=1e-7, relinearize=0, model="similarity", weights=(0, 10, 1, 100)),
    ):
        ours = camera.smooth_path(motion, (1920, 1080), options, units="width")
        theirs = camera.smooth_path(motion, (1920, 1080), options, units="width", solver="clarabel")
        assert theirs.status == "optimal"
        assert theirs.rounds == ours.rounds
        assert theirs.objective == pytest.approx(ours.objective, rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"velocity": np.zeros((3, 7))}, "velocity: expected shape"),
        ({"weights": -np.ones((3, 9))}, "weights: expected numbers"),
        ({"quadratic": np.eye(7)}, "quadratic: expected shape"),
        ({"row_matrix": np.zeros((2, 8))}, "row_bound: expected shape"),
        ({"row_matrix": np.zeros((2, 8)), "row_bound": np.zeros(3)}, "row_bound: expected shape"),
        ({"held": np.zeros((4, 8))}, "held: expected at most 3"),
        ({"soft_rows": 1}, "soft_rows: expected a whole number from 0 to 0"),
        ({"row_matrix": np.zeros((2, 8)), "row_bound": np.ones(2), "soft_rows": 1}, "penalty: expected"),
    ],
)
def test_bad_programs(changes: dict[str, Any], match: str) -> None:
    keywords: dict[str, Any] = {"velocity": np.zeros((3, 8)), "weights": np.ones((3, 9)), "quadratic": np.eye(8)}
    with pytest.raises(ArgumentError, match=match):
        camera.BandedProgram(**{**keywords, **changes})


def test_an_infeasible_program_says_so() -> None:
    program = camera.BandedProgram(
        np.zeros((3, 8)), np.ones((3, 9)), np.eye(8), row_matrix=np.zeros((1, 8)), row_bound=np.array([-1.0])
    )
    with pytest.raises(camera.InfeasibleError):
        program.solve()
    with pytest.raises(ArgumentError, match="solver: expected one of"):
        program.solve(solver="simplex")
