"""Cinematic-L1 camera paths in plain NumPy: the specification the compiled kernels are held against.

Written to be read beside the paper (Bradley et al., WACV 2021); equation and section numbers are the paper's. Slow:
the interior point is dense, for some tens of frames.

Conventions: lengths in frame widths, origin at the frame center, y down; logarithms are row-major 9-vectors of trace 0.
F_t maps frame t to frame t-1; P_t acts on the crop window of frame t.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from legato.errors import HomographyError, InfeasibleError

Float64 = NDArray[np.float64]

# --- section 2: log-homographies --------------------------------------------------------------------------------------


def normalize(H: Float64) -> Float64:
    """H / cbrt(det H)."""
    return np.asarray(H / np.cbrt(np.linalg.det(H))[..., None, None])


def exp_homography(h: Float64) -> Float64:
    """Matrix exponential by scaling and squaring of its Taylor series."""
    h = np.asarray(h, float)
    flat = h.reshape(-1, 3, 3)
    size = np.abs(flat).sum(-1).max(-1)
    if not (size <= 500).all():
        raise HomographyError(f"log[{np.flatnonzero(~(size <= 500))[0]}]: the input holds NaN or infinity")
    out = np.empty_like(flat)
    for index, x in enumerate(flat):
        squarings = max(0, int(np.ceil(np.log2(max(size[index], 1e-300) / 0.25))))
        x = x / 2.0**squarings
        term = x.copy()
        z = x.copy()  # exp(x) - I, so that small motions keep their digits
        for k in range(2, 18):
            term = term @ x / k
            z = z + term
        for _ in range(squarings):
            z = 2 * z + z @ z
        out[index] = np.eye(3) + z
    return out.reshape(h.shape)


def log_homography(H: Float64) -> Float64:
    """Principal logarithm of H / cbrt(det H): square roots, then the integral of (I + x E)^-1 E by Gauss-Legendre."""
    H = np.asarray(H, float)
    flat = H.reshape(-1, 3, 3)
    nodes, weights = np.polynomial.legendre.leggauss(10)
    nodes, weights = (nodes + 1) / 2, weights / 2
    out = np.empty_like(flat)
    for index, M in enumerate(flat):
        if not np.isfinite(M).all():
            raise HomographyError(f"homography[{index}]: the input holds NaN or infinity")
        M = M / 2.0 ** np.floor(np.log2(np.abs(M).max())) if M.any() else M
        if abs(np.linalg.det(M)) <= 1e-60:
            raise HomographyError(f"homography[{index}]: a matrix that must be invertible is singular")
        A = normalize(M)
        if _on_branch_cut(A):
            raise HomographyError(f"homography[{index}]: a homography has no principal logarithm")
        roots = 0
        while np.abs(A - np.eye(3)).sum(0).max() > 0.25:
            A = _square_root(A)
            roots += 1
        E = A - np.eye(3)
        log = sum(w * np.linalg.solve(np.eye(3) + x * E, E) for x, w in zip(nodes, weights, strict=True))
        log = 2.0**roots * np.asarray(log)
        out[index] = log - np.eye(3) * np.trace(log) / 3
    return out.reshape(H.shape)


def _on_branch_cut(A: Float64) -> bool:
    eigenvalues = np.linalg.eigvals(A)
    return bool(np.any((np.abs(eigenvalues.imag) <= 1e-7 * np.abs(eigenvalues)) & (eigenvalues.real <= 0)))


def _square_root(A: Float64) -> Float64:
    Y, Z = A, np.eye(3)
    for _ in range(60):
        last = Y
        Y, Z = (Y + np.linalg.inv(Z)) / 2, (Z + np.linalg.inv(Y)) / 2
        if np.abs(Y - last).max() <= 1e-16 * np.abs(Y).max():
            break
    return Y


def apply(H: Float64, points: Float64) -> Float64:
    """Images of points (m, 2) under one homography."""
    q = np.column_stack([points, np.ones(len(points))]) @ H.T
    return np.asarray(q[:, :2] / q[:, 2:])


# --- section 4: crop constraints --------------------------------------------------------------------------------------


def window_corners(scale: float, aspect: float) -> Float64:
    """Corners of the crop window: TL TR BR BL."""
    return 0.5 * scale * np.array([[-1, -aspect], [1, -aspect], [1, aspect], [-1, aspect]])


def point_jacobian(points: Float64) -> Float64:
    """d/dh of exp(h) x at h = 0: rows x0 y0 x1 y1 ..., (2m, 9)."""
    rows = []
    for x, y in points:
        rows.append([x, y, 1, 0, 0, 0, -x * x, -x * y, -x])
        rows.append([0, 0, 0, x, y, 1, -x * y, -y * y, -y])
    return np.array(rows)


def point_jacobian_at(p: Float64, points: Float64, step: float = 1e-6) -> Float64:
    """d/dp of exp(p) x at p by central differences, (2m, 9)."""
    J = np.zeros((2 * len(points), 9))
    for k in range(9):
        d = np.zeros(9)
        d[k] = step
        ahead = apply(exp_homography((p + d).reshape(3, 3)), points)
        behind = apply(exp_homography((p - d).reshape(3, 3)), points)
        J[:, k] = ((ahead - behind) / (2 * step)).ravel()
    return J


def area(c: Float64) -> float:
    """Shoelace area of four corners."""
    x, y = c.T
    return float(0.5 * np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def sides(c: Float64) -> Float64:
    """Lengths of the four sides."""
    return np.asarray(np.linalg.norm(np.roll(c, -1, axis=0) - c, axis=1))


def crop_rows(p: Float64, aspect: float, options: Any) -> tuple[Float64, Float64]:
    """G (13, 9) and h (13,) with G p' <= h, linearized at p: crop corners, area, sides."""
    corners = window_corners(options.effective_window_scale, aspect)
    J = point_jacobian(corners) if not p.any() else point_jacobian_at(p, corners)
    c = apply(exp_homography(p.reshape(3, 3)), corners)
    keep = 1 - options.crop
    inset = options.inset
    half = np.tile([0.5 - inset, 0.5 * aspect - inset], 4)
    sign = np.sign(corners).ravel()
    gradient = np.column_stack(
        [0.5 * (np.roll(c[:, 1], -1) - np.roll(c[:, 1], 1)), 0.5 * (np.roll(c[:, 0], 1) - np.roll(c[:, 0], -1))]
    ).ravel()
    S = np.zeros((4, 8))
    for i in range(4):
        j = (i + 1) % 4
        u = (c[j] - c[i]) / np.linalg.norm(c[j] - c[i])
        S[i, 2 * i : 2 * i + 2] -= u
        S[i, 2 * j : 2 * j + 2] += u
    G = np.vstack([sign[:, None] * J, -(gradient @ J)[None], -S @ J])
    value = np.concatenate([sign * c.ravel(), [-area(c)], -sides(c)])
    limit = np.concatenate([half, [-keep * keep * aspect], -keep * np.array([1, aspect, 1, aspect])])
    return G, limit - value + G @ p


def exact_violation(P: Float64, aspect: float, options: Any) -> Float64:
    """How far the exact window leaves its allowed rectangle, per frame, frame widths."""
    corners = window_corners(options.effective_window_scale, aspect)
    half = np.array([0.5, 0.5 * aspect]) - options.inset
    return np.array([max(0.0, (np.abs(apply(H, corners)) - half).max()) for H in P])


def contain(P: Float64, aspect: float, options: Any) -> Float64:
    """Multiply logarithms by the largest factor below 1, to 2^-30, that brings the exact window inside."""
    out = P.copy()
    for t, H in enumerate(P):
        if exact_violation(H[None], aspect, options)[0] > 0:
            try:
                h = log_homography(H)
            except HomographyError as error:
                raise HomographyError(f"corrections[{t}]: {str(error).partition(': ')[2]}") from None
            inside, outside = 0.0, 1.0
            for _ in range(30):
                factor = (inside + outside) / 2
                # What is too far off for an exponential is outside.
                far = not np.abs(factor * h).sum(-1).max() <= 500
                if far or exact_violation(exp_homography(factor * h)[None], aspect, options)[0] > 0:
                    outside = factor
                else:
                    inside = factor
            out[t] = exp_homography(inside * h)
    return out


# --- sections 3 and 5: the program ------------------------------------------------------------------------------------


NO_RATIO = -1.4  # R = -1/f^2 for a lens of 0.85 frame widths, where the motion tells nothing


def estimate_ratio(f: Float64) -> float:
    """R of k = R t by least squares over the motion, clipped to [-3, -0.3]."""
    t, k = f[1:, [2, 5]], f[1:, [6, 7]]
    return float(np.clip((k * t).sum() / (t * t).sum(), -3.0, -0.3)) if t.any() else NO_RATIO


def frame_quadratic(options: Any, weight: float, ratio: float) -> Float64:
    """Q (9, 9) of 1/2 p'Q p: fidelity, anisotropy, shear, keystone."""
    Q: Float64 = weight * options.weights[0] * np.eye(9)
    for form, w in (
        ({0: 1.0, 4: -1.0}, options.anisotropy),
        ({1: 1.0, 3: 1.0}, options.shear),
        ({6: 1.0, 2: -ratio}, options.keystone),
        ({7: 1.0, 5: -ratio}, options.keystone),
    ):
        v = np.zeros(9)
        for entry, value in form.items():
            v[entry] = value
        Q += 2 * w * np.outer(v, v)
    return Q


def acceleration_quadratic(weight: float, points: Float64) -> Float64:
    """Give A (9, 9) of 1/2 e'A e: weight times the mean squared acceleration of the points."""
    J = point_jacobian(points)
    return np.asarray(2 * weight / len(points) * J.T @ J)


def objective(p: Float64, velocity: Float64, options: Any, ratio: float, frame_weight: Float64 | None = None) -> float:
    """Equation (4) with the quadratic terms of section 5, over p (n, 9); velocity[t] leads from frame t - 1 to t."""
    weight = np.ones(len(p)) if frame_weight is None else frame_weight
    total = sum(0.5 * p[t] @ frame_quadratic(options, weight[t], ratio) @ p[t] for t in range(len(p)))
    e = np.diff(p, axis=0) + velocity[1:]
    roll = np.array([1, options.roll_weight, 1, options.roll_weight, 1, 1, 1, 1, 1])
    for w in options.weights[1:]:
        total += w * (np.abs(e) * roll).sum()
        e = np.diff(e, axis=0)
    return float(total)


def solve_program(
    program: Any, start: Float64, fallback: Float64, tolerance: float, max_iterations: int
) -> tuple[Float64, float, float, int, bool]:
    """Solve a `BandedProgram`: Mehrotra's predictor and corrector on the exactly condensed system, kept dense.

    `start` (n, 8) holds the held frames; free frames not strictly inside begin at `fallback`. Returns the path, its
    objective, the certified gap, the iterations, and whether the gap is below the tolerance.
    """
    n, pinned = len(start), len(program.held)
    m = n - pinned
    path = start.copy()
    if m == 0:
        return path, float(program.constant), 0.0, 0, True
    free = range(pinned, n)

    def of_frame(value: Float64, t: int, shared: int) -> Float64:
        return value if value.ndim == shared else np.asarray(value[t])

    # residual = R b + d: the L1 terms that touch a free frame, then the soft rows; each costs high r+ + low r-
    pick = np.vstack([np.eye(8), np.eye(8)[:2].sum(0)])
    blocks, constants, high, low = [], [], [], []
    difference, offset = np.eye(n), program.velocity
    for k, weight in enumerate(program.weights, start=1):
        difference = np.diff(difference, axis=0)
        offset = np.diff(offset, axis=0) if k > 1 else offset[1:]
        rows = pick[weight > 0]
        for i in range(max(pinned - k, 0), len(difference)):
            blocks.append(np.kron(difference[i, pinned:], rows))
            constants.append(rows @ (offset[i] + difference[i, :pinned] @ program.held))
            high.append(weight[weight > 0])
            low.append(weight[weight > 0])
    # 1/2 (D b + c)' A (D b + c) for the second differences
    bend, pull, bent = np.zeros((8 * m, 8 * m)), np.zeros(8 * m), 0.0
    if program.acceleration is not None and n > 2:
        second = np.diff(np.eye(n), n=2, axis=0)[max(pinned - 2, 0) :]
        fixed = np.diff(program.velocity[1:], axis=0)[max(pinned - 2, 0) :] + second[:, :pinned] @ program.held
        bend = np.kron(second[:, pinned:].T @ second[:, pinned:], program.acceleration)
        pull = (second[:, pinned:].T @ fixed @ program.acceleration).ravel()
        bent = 0.5 * float(np.einsum("ti,ij,tj->", fixed, program.acceleration, fixed))
    # G b <= h: the hard rows and the box
    bounded = np.flatnonzero(np.isfinite(program.upper))
    box = np.vstack([np.eye(8)[bounded], -np.eye(8)[bounded]])
    box_limit = np.concatenate([program.upper[bounded], -program.lower[bounded]])
    hard = program.row_bound.shape[-1] - program.soft_rows
    G_blocks, limits = [], []
    Q, q = np.zeros((8 * m, 8 * m)), np.zeros(8 * m)
    for i, t in enumerate(free):
        matrix, bound = of_frame(program.row_matrix, t, 2), np.minimum(of_frame(program.row_bound, t, 1), 1e6)
        at = np.eye(m)[i]
        G_blocks.append(np.vstack([matrix[:hard], box]))
        limits.append(np.concatenate([bound[:hard], box_limit]))
        if program.soft_rows:
            blocks.append(np.kron(at, matrix[hard:]))
            constants.append(-bound[hard:])
            high.append(np.full(program.soft_rows, program.penalty))
            low.append(np.zeros(program.soft_rows))
        Q[8 * i : 8 * i + 8, 8 * i : 8 * i + 8] = of_frame(program.quadratic, t, 2)
        if program.linear is not None:
            q[8 * i : 8 * i + 8] = program.linear[t]
        for point in (path[t], fallback[t]):
            path[t] = point
            if (G_blocks[i] @ path[t] < limits[i]).all():
                break
        else:
            raise InfeasibleError(f"the program, frame {t}: the constraints exclude every path")
    R = np.vstack(blocks) if blocks else np.zeros((0, 8 * m))
    d, hi, lo = (np.concatenate(part) if part else np.zeros(0) for part in (constants, high, low))
    G, h = np.zeros((sum(map(len, limits)), 8 * m)), np.concatenate(limits)
    for i, block in enumerate(G_blocks):
        G[i * len(block) : (i + 1) * len(block), 8 * i : 8 * i + 8] = block

    def value(b: Float64) -> float:
        r = R @ b + d
        cost = 0.5 * b @ (Q + bend) @ b + (q + pull) @ b + bent
        return float(cost + hi @ np.maximum(r, 0) + lo @ np.maximum(-r, 0) + program.constant)

    b = path[pinned:].ravel()
    first = value(b)
    if first == 0 and program.linear is None:  # nothing is negative: the optimum
        return path, 0.0, 0.0, 0, True
    # Everything on the central path of mu: s+ - s- = r, mu / s+ + mu / s- = hi + lo, s z = mu.
    mu = max(10 * first / (27 * m), 1e-12)
    r, width = R @ b + d, hi + lo
    root = np.sqrt(4 * mu**2 + (width * r) ** 2)
    big = (2 * mu + width * np.abs(r) + root) / (2 * width)
    small = (mu + 2 * mu**2 / (root + width * np.abs(r))) / width
    sp, sm = np.where(r < 0, small, big), np.where(r < 0, big, small)
    zp, zm = mu / sp, mu / sm
    s = h - G @ b
    z = mu / s
    room = np.tile(program.upper - program.lower, m) if len(bounded) == 8 else None
    iteration = 0
    while True:
        gradient = (Q + bend) @ b + q + pull + R.T @ (zm - lo) + G.T @ z
        products = sp @ zp + sm @ zm + s @ z
        # Rigorous (solver page, 3.2): what the gradient leaves open, and no more than the box lets it be.
        curved = (0.5 * gradient * np.linalg.solve(Q, gradient)).reshape(m, 8).sum(1)
        if room is not None:
            curved = np.minimum(curved, (np.abs(gradient) * room).reshape(m, 8).sum(1))
        gap = float(products + curved.sum())
        now = value(b)
        optimal = gap <= tolerance * max(now, 1e-5 * first)
        if optimal or iteration >= max_iterations:
            break
        iteration += 1
        mu = float(products) / (2 * len(sp) + len(s))
        condensed = 1 / (sp / zp + sm / zm + 1e-12)
        H = Q + bend + (R.T * condensed) @ R + (G.T * (z / s)) @ G
        cp, cm, c = -sp * zp, -sm * zm, -s * z
        for corrector in (False, True):
            shift = condensed * (cm / zm - cp / zp)
            db = np.linalg.solve(H, -gradient - R.T @ shift - G.T @ (c / s))
            dy = condensed * (R @ db) + shift
            dsp, dsm = (cp + sp * dy) / zp, (cm - sm * dy) / zm
            ds = -G @ db
            dz = (c - z * ds) / s
            share = 0.995 if corrector else 1.0
            primal = share * min(1.0, 1 / _largest(-dsp / sp, -dsm / sm, -ds / s))
            dual = share * min(1.0, 1 / _largest(dy / zp, -dy / zm, -dz / z))
            if not corrector:
                after = (
                    (sp + primal * dsp) @ (zp - dual * dy)
                    + (sm + primal * dsm) @ (zm + dual * dy)
                    + (s + primal * ds) @ (z + dual * dz)
                )
                sigma = float(np.clip((after / products) ** 3, 1e-6, 1.0))
                cp, cm = sigma * mu - sp * zp + dsp * dy, sigma * mu - sm * zm - dsm * dy
                c = sigma * mu - s * z - ds * dz
        b = b + primal * db
        sp, sm, s = sp + primal * dsp, sm + primal * dsm, s + primal * ds
        zp, zm, z = zp - dual * dy, zm + dual * dy, z + dual * dz
        drift = R @ b + d - (sp - sm)
        sp, sm = sp + np.maximum(drift, 0), sm + np.maximum(-drift, 0)
    path[pinned:] = b.reshape(m, 8)
    return path, now, gap, iteration, optimal


def _largest(*ratios: Float64) -> float:
    return max(1e-300, *(float(r.max(initial=0.0)) for r in ratios))
