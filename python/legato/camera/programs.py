"""The linear model of a camera path as a program: for the banded solver, for others, and as sparse matrices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from legato import _core, _dispatch
from legato._arrays import Float64, as_float64
from legato._dispatch import Backend
from legato._extras import install_command
from legato._scalars import as_choice, as_count, as_number
from legato.camera import _reference
from legato.errors import ArgumentError, DependencyError, InfeasibleError

__all__ = ["SOLVERS", "BandedProgram", "ProgramSolution", "SparseProgram"]

Solver: TypeAlias = Literal["banded", "clarabel", "osqp", "piqp"]
SOLVERS: tuple[Solver, ...] = get_args(Solver)
STATUS = {0: "optimal", 7: "iteration_limit", 8: "numerical_trouble"}
_NO_BOUND = 1e6  # a row bound from here on is none


@dataclass(frozen=True, eq=False)
class ProgramSolution:
    """What a solver returned.

    Attributes
    ----------
    path : ndarray, shape (n, 8)
        Held frames first.
    objective, gap : float
        Objective of the path; its distance from the dual bound the solver reports ("banded": certified).
    iterations : int
    status : str
        "optimal", "iteration_limit" or "numerical_trouble".

    See Also
    --------
    BandedProgram.solve : Solve the program.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import camera
    >>> found = camera.path_program(np.tile(np.eye(3), (10, 1, 1)), size=(640, 360)).solve()
    >>> found.path.shape, found.status
    ((10, 8), 'optimal')
    """

    path: Float64
    objective: float
    gap: float
    iterations: int
    status: str


@dataclass(frozen=True, eq=False)
class SparseProgram:
    """minimize 1/2 x'Px + q'x + constant subject to l <= A x <= u, as `scipy.sparse` CSC matrices.

    The variables of each frame stand together: its eight coordinates, then s+ and s- of its L1 terms (the split form
    |r| = s+ + s-, r = s+ - s-, which general solvers like better than bounds -s <= r <= s), then the violations of its
    soft rows. The last ``len(q)`` rows of A are the identity: the bounds of the variables.

    Attributes
    ----------
    P, A : scipy.sparse.csc_matrix
        P in full, not a triangle.
    q, l, u : ndarray
    coordinates : ndarray of int, shape (free frames, 8)
        Where the path stands in x.
    constant : float

    See Also
    --------
    BandedProgram.sparse : Gives it.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import camera
    >>> sparse = camera.path_program(np.tile(np.eye(3), (5, 1, 1)), size=(640, 360)).sparse()
    >>> x = np.zeros(len(sparse.q))                                          # the path at rest, its coordinates:
    >>> x[sparse.coordinates].shape, sparse.A.format
    ((5, 8), 'csc')
    """

    P: Any
    q: Float64
    A: Any
    l: Float64  # noqa: E741 - the field's usual name
    u: Float64
    coordinates: NDArray[np.int64]
    constant: float


@dataclass(frozen=True, eq=False)
class BandedProgram:
    """minimize sum_t 1/2 b_t'Q b_t + q_t'b_t + 1/2 e_2'A e_2 + sum_k w_k |e_k|_1 subject to G_t b_t <= h_t and bounds.

    ``e_1(t) = b_t - b_{t-1} + v_t``, ``e_2``, ``e_3`` its first and second differences; a ninth component of each is
    the sum of its first two (the entry of a logarithm that trace zero ties to them).

    Parameters
    ----------
    velocity : array_like, shape (n, 8)
        v_t; v_0 is not read.
    weights : array_like, shape (3, 9)
        Of the three derivatives' components, at least 0.
    quadratic : array_like, shape (8, 8) or (n, 8, 8)
        Symmetric positive definite.
    linear : array_like, shape (n, 8), optional
    row_matrix, row_bound : array_like, shapes (m, 8) and (m,), or (n, m, 8) and (n, m), optional
        A bound of 1e6 and above is none.
    lower, upper : array_like, shape (8,), optional
        Both finite or both infinite for each coordinate.
    held : array_like, shape (k, 8), optional
        The first k frames, given.
    soft_rows, penalty : int, float
        The last `soft_rows` rows may be violated at the price of `penalty` times the violation.
    constant : float
        Added to the objective.
    acceleration : array_like, shape (8, 8), optional
        A: symmetric positive semidefinite.

    See Also
    --------
    path_program : Return the linear model of a path (`smooth_path` with ``relinearize=0``) as a program.
    smooth_path : Find the L1-optimal camera path of a clip.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import camera
    >>> velocity = np.zeros((30, 8))
    >>> velocity[:, 4] = 0.01 * (-1.0) ** np.arange(30)                # to and fro along x, in frame widths
    >>> program = camera.BandedProgram(velocity, weights=np.ones((3, 9)), quadratic=np.eye(8))
    >>> found = program.solve()
    >>> found.status, bool(program.objective(found.path) < program.objective(np.zeros((30, 8))))
    ('optimal', True)
    >>> program.violation(found.path)
    0.0
    """

    velocity: Float64
    weights: Float64
    quadratic: Float64
    linear: Float64 | None = None
    row_matrix: Float64 = field(default_factory=lambda: np.empty((0, 8)))
    row_bound: Float64 = field(default_factory=lambda: np.empty(0))
    lower: Float64 = field(default_factory=lambda: np.full(8, -np.inf))
    upper: Float64 = field(default_factory=lambda: np.full(8, np.inf))
    held: Float64 = field(default_factory=lambda: np.empty((0, 8)))
    soft_rows: int = 0
    penalty: float = 0.0
    constant: float = 0.0
    acceleration: Float64 | None = None

    def __post_init__(self) -> None:
        def put(name: str, value: ArrayLike, shape: tuple[int | None, ...]) -> Float64:
            array = as_float64(name, value, shape)
            object.__setattr__(self, name, array)
            return array

        n = len(put("velocity", self.velocity, (None, 8)))
        if not (put("weights", self.weights, (3, 9)) >= 0).all():
            raise ArgumentError("weights: expected numbers of at least 0")
        axes = {name: as_float64(name, getattr(self, name)).ndim for name in ("quadratic", "row_matrix", "row_bound")}
        put("quadratic", self.quadratic, (8, 8) if axes["quadratic"] == 2 else (n, 8, 8))
        if self.linear is not None:
            put("linear", self.linear, (n, 8))
        if self.acceleration is not None:
            put("acceleration", self.acceleration, (8, 8))
        m = put("row_matrix", self.row_matrix, (None, 8) if axes["row_matrix"] == 2 else (n, None, 8)).shape[-2]
        put("row_bound", self.row_bound, (m,) if axes["row_bound"] == 1 else (n, m))
        put("lower", self.lower, (8,))
        put("upper", self.upper, (8,))
        held = put("held", self.held, (None, 8))
        if len(held) > n:
            raise ArgumentError(f"held: expected at most {n} frames, got {len(held)}")
        object.__setattr__(self, "soft_rows", as_count("soft_rows", self.soft_rows, 0, m))
        object.__setattr__(self, "constant", as_number("constant", self.constant))
        above = 0.0 if self.soft_rows else None
        object.__setattr__(self, "penalty", as_number("penalty", self.penalty, above=above))

    def solve(
        self,
        *,
        solver: Solver = "banded",
        tolerance: float = 1e-6,
        max_iterations: int = 200,
        start: ArrayLike | None = None,
        backend: Backend | None = None,
    ) -> ProgramSolution:
        """Solve the program.

        Parameters
        ----------
        solver : {"banded", "clarabel", "osqp", "piqp"}
            "banded" is this package's interior point; every path it returns is feasible. The others get the split
            form of `sparse`, with `tolerance` as their own absolute and relative tolerances.
        tolerance : float
        max_iterations : int
        start : array_like, shape (n, 8), optional
            For "banded": a path to start from; frames that are not strictly inside start from zero.
        backend : {"native", "numpy"}, optional
            Of "banded": the compiled solver, or its dense twin in NumPy, for some tens of frames.

        Raises
        ------
        InfeasibleError
            A frame's rows exclude zero and the start ("banded"), or every path (the others).
        DependencyError
            The solver's package is not installed.

        See Also
        --------
        BandedProgram.sparse : Give the program to a solver of one's own.
        BandedProgram.violation : Largest violation of a hard row or a bound by the free frames, at least 0.
        """
        path = np.zeros_like(self.velocity) if start is None else as_float64("start", start, self.velocity.shape).copy()
        path[: len(self.held)] = self.held
        solver = as_choice("solver", solver, SOLVERS)
        tolerance = as_number("tolerance", tolerance, above=0, below=1)
        max_iterations = as_count("max_iterations", max_iterations, 0)
        if solver != "banded":
            return _peer(self, solver, tolerance, max_iterations, path)
        if _dispatch.choose(backend) == "numpy":
            path, value, gap, iterations, optimal = _reference.solve_program(
                self, path, np.zeros_like(path), tolerance, max_iterations
            )
            return ProgramSolution(path, value, gap, iterations, "optimal" if optimal else "iteration_limit")
        found = _core.camera_solve_banded(
            self.velocity,
            self.weights,
            self.quadratic,
            np.empty((0, 8)) if self.linear is None else self.linear,
            np.empty((0, 8)) if self.acceleration is None else self.acceleration,
            self.row_matrix,
            self.row_bound,
            self.lower,
            self.upper,
            len(self.held),
            self.soft_rows,
            self.penalty,
            self.constant,
            tolerance,
            max_iterations,
            path,
        )
        return ProgramSolution(path, found["objective"], found["gap"], found["iterations"], STATUS[found["status"]])

    def objective(self, path: ArrayLike) -> float:
        """Objective of a path, shape (n, 8): what does not concern the held frames alone.

        See Also
        --------
        BandedProgram.solve : Solve the program.
        """
        b = as_float64("path", path, self.velocity.shape)
        held = len(self.held)
        free = b[held:]
        Q = np.broadcast_to(self.quadratic, (len(b), 8, 8))[held:]
        total = self.constant + 0.5 * float(np.einsum("ti,tij,tj->", free, Q, free))
        if self.linear is not None:
            total += float((self.linear[held:] * free).sum())
        e = np.diff(b, axis=0) + self.velocity[1:]
        for k, weight in enumerate(self.weights, start=1):
            parts = np.column_stack([e, e[:, 0] + e[:, 1]])[max(held - k, 0) :]
            total += float((np.abs(parts) * weight).sum())
            if k == 2 and self.acceleration is not None:
                bent = parts[:, :8]
                total += 0.5 * float(np.einsum("ti,ij,tj->", bent, self.acceleration, bent))
            e = np.diff(e, axis=0)
        if self.soft_rows:
            total += self.penalty * float(np.maximum(self._excess(free)[:, -self.soft_rows :], 0).sum())
        return total

    def violation(self, path: ArrayLike) -> float:
        """Largest violation of a hard row or a bound by the free frames, at least 0.

        See Also
        --------
        BandedProgram.objective : Objective of a path, shape (n, 8): what does not concern the held frames alone.
        """
        free = as_float64("path", path, self.velocity.shape)[len(self.held) :]
        excess = self._excess(free)
        hard = excess[:, : excess.shape[1] - self.soft_rows]
        worst = [0.0, *(x.max(initial=0.0) for x in (hard, free - self.upper, self.lower - free))]
        return float(max(worst))

    def _excess(self, free: Float64) -> Float64:
        first = len(self.held)
        G, h = self.row_matrix, self.row_bound
        values = free @ G.T if G.ndim == 2 else np.einsum("tri,ti->tr", G[first:], free)
        bound = h if h.ndim == 1 else h[first:]
        return np.asarray(values - np.where(bound < _NO_BOUND, bound, np.inf))

    def sparse(self) -> SparseProgram:
        """Return the program in split form, interleaved by frame, as SciPy sparse matrices for any solver.

        Raises
        ------
        DependencyError
            SciPy is not installed.

        See Also
        --------
        BandedProgram.solve : Solve the program.

        Examples
        --------
        >>> import numpy as np
        >>> from legato import camera
        >>> sparse = camera.path_program(np.tile(np.eye(3), (10, 1, 1)), size=(640, 360)).sparse()
        >>> sparse.P.shape[0] == sparse.A.shape[1] == len(sparse.q), sparse.coordinates.shape
        (True, (10, 8))
        """
        try:
            from scipy import sparse
        except ImportError:
            raise DependencyError(f"SciPy is missing: {install_command('solvers')}") from None
        n, held = len(self.velocity), len(self.held)
        G, h = self.row_matrix, self.row_bound
        m = n - held
        # Triplets in frame order: variables and rows of a frame stand together.
        identity = sparse.identity(n, format="csr")
        step = identity
        constants = self.velocity
        differences: list[Any] = []
        offsets: list[Float64] = []
        for _ in range(3):
            step = (step[1:] - step[:-1]).tocsr()
            constants = constants[1:] if not differences else np.diff(constants, axis=0)
            differences.append(step)
            offsets.append(constants)
        pick = np.vstack([np.eye(8), np.eye(8)[0] + np.eye(8)[1]])
        blocks, frame_of_row, right, weight = [], [], [], []
        bend, pull, bent = sparse.csr_matrix((8 * m, 8 * m)), np.zeros(8 * m), 0.0
        for k in range(3):
            active = np.flatnonzero(self.weights[k] > 0)
            D = differences[k]
            if D.shape[0] == 0:
                continue
            known = D[:, :held] @ self.held if held else np.zeros((D.shape[0], 8))
            if k == 1 and self.acceleration is not None:
                rows = np.arange(max(held - 2, 0), D.shape[0])
                free, fixed = D[rows][:, held:], (offsets[1] + known)[rows]
                bend = sparse.kron(free.T @ free, self.acceleration, format="csr")
                pull = (free.T @ fixed @ self.acceleration).ravel()
                bent = 0.5 * float(np.einsum("ti,ij,tj->", fixed, self.acceleration, fixed))
            if len(active) == 0:
                continue
            d = (offsets[k] + known) @ pick[active].T
            rows = np.arange(max(held - k - 1, 0), D.shape[0])  # those that touch a free frame
            blocks.append(sparse.kron(D[rows][:, held:], pick[active], format="csr"))
            frame_of_row.append(np.repeat(rows + k + 1 - held, len(active)))
            right.append(-d[rows].ravel())
            weight.append(np.tile(self.weights[k][active], len(rows)))
        terms = sparse.vstack(blocks, format="csr") if blocks else sparse.csr_matrix((0, 8 * m))
        term_frame = np.concatenate(frame_of_row) if blocks else np.zeros(0, int)
        term_right = np.concatenate(right) if blocks else np.zeros(0)
        term_weight = np.concatenate(weight) if blocks else np.zeros(0)
        count, soft, rows_per_frame = len(term_right), self.soft_rows, G.shape[-2]
        frame_rows = [G] * m if G.ndim == 2 else list(G[held:])
        rows_matrix = sparse.block_diag(frame_rows, format="csr") if m else sparse.csr_matrix((0, 0))
        row_bound = np.tile(h, m) if h.ndim == 1 else h[held:].ravel()
        violation = sparse.kron(sparse.identity(m), np.eye(rows_per_frame)[:, rows_per_frame - soft :], format="csr")
        A = sparse.bmat(
            [
                [terms, -sparse.identity(count), sparse.identity(count), None],
                [rows_matrix, None, None, -violation if soft else None],
            ]
            if soft
            else [[terms, -sparse.identity(count), sparse.identity(count)], [rows_matrix, None, None]],
            format="csr",
        )
        row_frame = np.concatenate([term_frame, np.repeat(np.arange(m), rows_per_frame)])
        lower = np.concatenate([term_right, np.full(len(row_bound), -np.inf)])
        upper = np.concatenate([term_right, np.where(row_bound < _NO_BOUND, row_bound, np.inf)])
        column_frame = np.concatenate(
            [np.repeat(np.arange(m), 8), term_frame, term_frame, np.repeat(np.arange(m), soft)]
        )
        Q = [self.quadratic] * m if self.quadratic.ndim == 2 else list(self.quadratic[held:])
        size = len(column_frame)
        curved = sparse.block_diag(Q, format="csr") + bend if m else bend
        P = sparse.block_diag([curved, sparse.csr_matrix((size - 8 * m, size - 8 * m))], format="csr")
        linear = pull + (0.0 if self.linear is None else self.linear[held:].ravel())
        q = np.concatenate([linear, term_weight, term_weight, np.full(m * soft, self.penalty)])
        box_low = np.concatenate([np.tile(self.lower, m), np.zeros(size - 8 * m)])
        box_high = np.concatenate([np.tile(self.upper, m), np.full(size - 8 * m, np.inf)])
        kept = np.flatnonzero(np.isfinite(upper))
        rows = kept[np.argsort(row_frame[kept], kind="stable")]
        columns = np.argsort(column_frame, kind="stable")
        place = np.empty(size, np.int64)
        place[columns] = np.arange(size)
        return SparseProgram(
            P=P[columns][:, columns].tocsc(),
            q=q[columns],
            A=sparse.vstack([A[rows][:, columns], sparse.identity(size)], format="csc"),
            l=np.concatenate([lower[rows], box_low[columns]]),
            u=np.concatenate([upper[rows], box_high[columns]]),
            coordinates=place[: 8 * m].reshape(m, 8),
            constant=self.constant + bent,
        )


def _peer(
    program: BandedProgram, solver: Solver, tolerance: float, max_iterations: int, path: Float64
) -> ProgramSolution:
    sparse = program.sparse()
    try:
        x, dual, iterations, status = {"clarabel": _clarabel, "osqp": _osqp, "piqp": _piqp}[solver](
            sparse, tolerance, max_iterations
        )
    except ImportError:
        raise DependencyError(f"{solver} is missing: {install_command('solvers')}") from None
    if status == "infeasible":
        raise InfeasibleError("the program: the constraints exclude every path")
    path[len(program.held) :] = x[sparse.coordinates]
    objective = program.objective(path)
    return ProgramSolution(path, objective, abs(objective - sparse.constant - dual), iterations, status)


def clarabel_arguments(p: SparseProgram, tolerance: float, max_iterations: int) -> tuple[Any, ...]:
    """Return what `clarabel.DefaultSolver` takes."""
    import clarabel
    from scipy import sparse

    equal = p.l == p.u
    above, below = np.isfinite(p.u) & ~equal, np.isfinite(p.l) & ~equal
    A = sparse.vstack([p.A[equal], p.A[above], -p.A[below]], format="csc")
    b = np.concatenate([p.u[equal], p.u[above], -p.l[below]])
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_iter = max_iterations
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tolerance
    cones = [clarabel.ZeroConeT(int(equal.sum())), clarabel.NonnegativeConeT(int(above.sum() + below.sum()))]
    return sparse.triu(p.P, format="csc"), p.q, A, b, cones, settings


def _clarabel(p: SparseProgram, tolerance: float, max_iterations: int) -> tuple[Float64, float, int, str]:
    import clarabel

    result = clarabel.DefaultSolver(*clarabel_arguments(p, tolerance, max_iterations)).solve()
    status = str(result.status)
    word = (
        "infeasible"
        if "PrimalInfeasible" in status
        else "optimal"
        if status == "Solved"
        else "iteration_limit"
        if "Max" in status
        else "numerical_trouble"
    )
    return np.array(result.x), result.obj_val_dual, result.iterations, word


def _osqp(p: SparseProgram, tolerance: float, max_iterations: int) -> tuple[Float64, float, int, str]:
    import osqp
    from scipy import sparse

    solver = osqp.OSQP()
    solver.setup(
        sparse.triu(p.P, format="csc"),
        p.q,
        p.A,
        p.l,
        p.u,
        eps_abs=tolerance,
        eps_rel=tolerance,
        max_iter=max_iterations,
        verbose=False,
    )
    result = solver.solve(raise_error=False)
    status = result.info.status
    word = "optimal" if status == "solved" else "infeasible" if "primal inf" in status else "iteration_limit"
    return np.asarray(result.x), float(result.info.dual_obj_val), int(result.info.iter), word


def piqp_solver(p: SparseProgram, tolerance: float, max_iterations: int) -> tuple[Any, tuple[Any, ...]]:
    """Set up a PIQP solver; return it with the arguments by which `update` passes the program's numbers again."""
    import piqp

    general = p.A.shape[0] - len(p.q)
    equal = p.l[:general] == p.u[:general]
    A, low, high = p.A[:general], p.l[:general], p.u[:general]
    arguments = (
        p.P,
        p.q,
        A[equal].tocsc(),
        high[equal],
        A[~equal].tocsc(),
        low[~equal],
        high[~equal],
        p.l[general:],
        p.u[general:],
    )
    solver = piqp.SparseSolver()
    settings = solver.settings
    settings.verbose = False
    settings.max_iter = max_iterations
    settings.eps_abs = settings.eps_rel = tolerance
    settings.check_duality_gap = True
    settings.eps_duality_gap_abs = settings.eps_duality_gap_rel = tolerance
    solver.setup(*arguments)
    return solver, arguments


def _piqp(p: SparseProgram, tolerance: float, max_iterations: int) -> tuple[Float64, float, int, str]:
    solver, _ = piqp_solver(p, tolerance, max_iterations)
    status = str(solver.solve())
    info = solver.result.info
    word = (
        "infeasible"
        if "PRIMAL_INFEASIBLE" in status
        else "optimal"
        if status.endswith("SOLVED")
        else "iteration_limit"
        if "MAX_ITER" in status
        else "numerical_trouble"
    )
    return np.array(solver.result.x), float(info.dual_obj), int(info.iter), word
