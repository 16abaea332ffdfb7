"""Diffusion in NumPy, to be read beside the papers: noise, schedules' steps, exact models, moments.

Tutorial: Nakkiran, Bradley, Zhou, Advani, "Step-by-Step Diffusion: An Elementary Tutorial" (arXiv 2406.08929).
Guidance: Bradley, Nakkiran, "Classifier-Free Guidance is a Predictor-Corrector" (arXiv 2408.09000).
Noise: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
Notation: x_t = a x0 + s eps; index k falls in noise; primes stand for the level after the step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Words = NDArray[np.uint32]

__all__ = [
    "chains",
    "cloud_denoise",
    "ddim_step",
    "mixture_evaluate",
    "normal",
    "philox4x32",
    "sums",
    "threefry4x32",
]


# --- Noise ------------------------------------------------------------------------------------------------------------


def threefry4x32(counter: Words, key: Words, rounds: int) -> Words:
    """Threefry4x32 with `rounds` rounds, counters and keys (..., 4); SC 2011, section 3.3, rotations of Skein."""
    first, second = (10, 11, 13, 23, 6, 17, 25, 18), (26, 21, 27, 5, 20, 11, 10, 20)
    keys = [key[..., i : i + 1] for i in range(4)]  # slices: NumPy scalars would warn when they wrap around
    keys.append(np.uint32(0x1BD11BDA) ^ keys[0] ^ keys[1] ^ keys[2] ^ keys[3])

    def rotated(x: Words, count: int) -> Words:
        return (x << np.uint32(count)) | (x >> np.uint32(32 - count))

    x = [counter[..., i : i + 1] + keys[i] for i in range(4)]
    for turn in range(rounds):
        p, q = (1, 3) if turn % 2 == 0 else (3, 1)
        x[0] = x[0] + x[p]
        x[p] = rotated(x[p], first[turn % 8]) ^ x[0]
        x[2] = x[2] + x[q]
        x[q] = rotated(x[q], second[turn % 8]) ^ x[2]
        if turn % 4 == 3:
            injection = turn // 4 + 1
            x = [x[i] + keys[(injection + i) % 5] for i in range(4)]
            x[3] = x[3] + np.uint32(injection)
    return np.concatenate(x, -1)


def philox4x32(counter: Words, key: Words) -> Words:
    """Philox4x32-10, counters (..., 4), keys (..., 2); SC 2011, section 3.2."""
    x = [counter[..., i : i + 1].astype(np.uint64) for i in range(4)]
    k = [key[..., i : i + 1].astype(np.uint64) for i in range(2)]
    low = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        p, q = x[0] * np.uint64(0xD2511F53), x[2] * np.uint64(0xCD9E8D57)
        x = [(q >> np.uint64(32)) ^ x[1] ^ k[0], q & low, (p >> np.uint64(32)) ^ x[3] ^ k[1], p & low]
        k = [(k[0] + np.uint64(0x9E3779B9)) & low, (k[1] + np.uint64(0xBB67AE85)) & low]
    return np.concatenate(x, -1).astype(np.uint32)


def normal(
    seeds: NDArray[np.uint64], streams: NDArray[np.uint64], elements: int, step: int, substep: int, philox: bool
) -> NDArray[np.float32]:
    """Draw standard normals (samples, elements): element e is word e % 4 of block e // 4, and words go in pairs."""
    blocks = np.arange((elements + 3) // 4, dtype=np.uint64)
    shape = (len(seeds), len(blocks))

    def halves(x: NDArray[np.uint64]) -> list[Words]:
        return [(x & np.uint64(0xFFFFFFFF)).astype(np.uint32), (x >> np.uint64(32)).astype(np.uint32)]

    def all_of(*parts: Any) -> Words:
        return np.stack([np.broadcast_to(part, shape) for part in parts], -1).astype(np.uint32)

    seed, stream = (halves(x[:, None]) for x in (seeds, streams))
    block = halves(blocks[None])
    if philox:
        words = philox4x32(all_of(block[0], step, substep, stream[0]), all_of(*seed))
    else:
        words = threefry4x32(all_of(*block, step, substep), all_of(*seed, *stream), 13)
    z = np.empty(words.shape, np.float32)
    for pair in (0, 2):
        z[..., pair], z[..., pair + 1] = _box_muller(words[..., pair], words[..., pair + 1])
    return z.reshape(len(seeds), 4 * len(blocks))[:, :elements]


def _box_muller(a: Words, b: Words) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two normals from two words, in float32 operation by operation like math/random.h."""
    f = np.float32
    w = a.view(np.int32).astype(f) + f(0.5)  # negative where u = (a + 1/2) / 2^32 >= 1/2: then |w| is 2^32 (1 - u)
    bits = w.view(np.int32)
    exponent = np.where(w < 0, 0, (bits - np.int32(0x4F000000)) >> 23)
    m = (bits & 0x7FFFFF | 0x3F800000).view(f)
    t = np.where(w < 0, w * f(-(2.0**-31)), f(2) - m)
    square = t * t
    p = square * f(_LOG[6]) + (t * f(_LOG[5]) + f(_LOG[4]))
    p = p * square + (t * f(_LOG[3]) + f(_LOG[2]))
    p = p * square + (t * f(_LOG[1]) + f(_LOG[0]))
    radius = np.sqrt((p * square + t) + exponent.astype(f) * f(-1.386294361))
    quadrant = (b + np.uint32(0x20000000)) >> np.uint32(30)
    angle = (b << np.uint32(2)).view(np.int32).astype(f) * f(3.6572951981679e-10)
    square = angle * angle
    s = angle + angle * square * ((square * f(-1.951528322e-4) + f(8.332160762e-3)) * square - f(1.666665461e-1))
    c = f(1) + square * ((square * f(-1.359185356e-3) + f(4.165577704e-2)) * square - f(4.999988475e-1))
    odd = quadrant % 2 == 1
    sine = np.where(quadrant & 2, -np.where(odd, c, s), np.where(odd, c, s))
    cosine = np.where((quadrant + 1) & 2, -np.where(odd, s, c), np.where(odd, s, c))
    return radius * cosine, radius * sine


# -2 log(1 - t / 2) = t + t^2 (_LOG[0] + _LOG[1] t + ...) for t in [0, 1]; minimax, relative error below 1.6e-7
_LOG = (
    2.500123050e-01,
    8.303230836e-02,
    3.370785754e-02,
    3.176504996e-03,
    2.348796294e-02,
    -1.619008004e-02,
    9.067285663e-03,
)


# --- Steps ------------------------------------------------------------------------------------------------------------


def ddim_step(a: float, s: float, a1: float, s1: float, eta: float) -> tuple[float, float, float]:
    """Return (A, B, C) of x' = A x + B eps + C z: DDIM with noise eta; eta = 1 is ancestral DDPM."""
    w = eta * s1 * np.sqrt(max(1.0 - (a * s1 / (a1 * s)) ** 2, 0.0))
    r = a1 / a
    return r, np.sqrt(max(s1 * s1 - w * w, 0.0)) - r * s, w


def sums(cond: NDArray[Any], uncond: NDArray[Any], x: NDArray[Any] | None) -> Float64:
    """c.c, u.u, c.u, sum c, sum u, x.c, x.u, x.x of each row."""
    c, u = cond.astype(float), uncond.astype(float)
    y = np.zeros_like(c) if x is None else x.astype(float)
    products = (c * c, u * u, c * u, c, u, y * c, y * u, y * y)
    return np.stack([product.sum(1) for product in products], 1)


# --- Exact models -----------------------------------------------------------------------------------------------------


def mixture_evaluate(
    log_weights: Float64, means: Float64, covariances: Float64, x: Float64, a: float, s: float
) -> tuple[Float64, Float64, Float64]:
    """Log density (n,), score and E[x0 | x] (n, d) of a mixture with full covariances (K, d, d) at level (a, s)."""
    dimension = means.shape[1]
    logits = np.empty((len(x), len(means)))
    scores = np.empty((len(means), *x.shape))
    for k, (mean, covariance) in enumerate(zip(means, covariances, strict=True)):
        total = a * a * covariance + s * s * np.eye(dimension)
        off = x - a * mean
        scores[k] = -np.linalg.solve(total, off.T).T
        with np.errstate(over="ignore"):  # of points so far out that no density is left
            quadratic = -(off * scores[k]).sum(1)
        logits[:, k] = log_weights[k] - 0.5 * (quadratic + np.linalg.slogdet(2 * np.pi * total)[1])
    most = logits.max(1, keepdims=True)
    weights = np.exp(logits - np.where(np.isinf(most), 0.0, most))
    weights[np.isinf(most[:, 0])] = 1.0  # as the core
    log_density = most[:, 0] + np.log(weights.sum(1))
    responsibilities = weights / weights.sum(1, keepdims=True)
    score = np.einsum("nk,knd->nd", responsibilities, scores)
    # Tweedie: E[x0 | x] = (x + s^2 score) / a; by components, so that a = 0 is no exception.
    denoised = np.zeros_like(x)
    for k, (mean, covariance) in enumerate(zip(means, covariances, strict=True)):
        denoised += responsibilities[:, k : k + 1] * (mean - a * scores[k] @ covariance)
    return log_density, score, denoised


def cloud_denoise(data: Float64, log_weights: Float64 | None, x: Float64, a: float, s: float) -> Float64:
    """E[x0 | x] of points with weights: softmax of -|x - a y|^2 / (2 s^2) over the data; s = 0: the nearest point."""
    square = ((x[:, None] - a * data[None]) ** 2).sum(-1)
    square -= square.min(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        logits = np.where(square == 0, 0.0, -square / (2 * s * s) if s > 0 else -np.inf)
    if log_weights is not None:
        logits = logits + log_weights
    logits -= logits.max(1, keepdims=True)
    weights = np.exp(logits)
    return np.asarray((weights / weights.sum(1, keepdims=True)) @ data)


def chains(cond: Any, uncond: Any, rows: Float64, noise: Any, x: Float64) -> Float64:
    """Every row in turn: one evaluation and the update it serves (legato/diffusion.hpp, Row).

    `cond` and `uncond` map (x, alpha, sigma, score) to E[x0 | x] or the score; `noise` maps (step, substep) to normals.
    """
    last_out = earlier_out = last_x = np.zeros_like(x)
    for alpha, sigma, a, b, guidance, extra, previous, earlier, base, scale, step, substep, score in rows:
        u = uncond(x, alpha, sigma, bool(score)) if guidance != 1 or extra != 0 else 0.0
        c = cond(x, alpha, sigma, bool(score)) if guidance != 0 else 0.0
        out = u + guidance * (c - u)
        after = a * x + b * out + extra * u + previous * last_out + earlier * earlier_out + base * last_x
        if scale != 0:
            after = after + scale * noise(int(step), int(substep)).astype(np.float64)
        last_out, earlier_out, last_x, x = out, last_out, x, after
    return x
