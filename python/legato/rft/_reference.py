"""The kernels of reinforcement fine-tuning in NumPy, float64 throughout, to be read beside the papers.

[1] Razin et al., "Vanishing Gradients in Reinforcement Finetuning of Language Models", ICLR 2024, arXiv 2310.20703.
[2] Schulman et al., "High-Dimensional Continuous Control Using Generalized Advantage Estimation", arXiv 1506.02438.
[3] Schulman et al., "Proximal Policy Optimization Algorithms", arXiv 1707.06347.
[4] Shao et al., "DeepSeekMath" (GRPO), arXiv 2402.03300; Liu et al. (Dr. GRPO), arXiv 2503.20783; Ahmadian et al.
    (RLOO), arXiv 2402.14740.
[5] Walder and Karkhanis, "Pass@K Policy Optimization", arXiv 2505.15201.
[6] MiniMax, "MiniMax-M1" (CISPO), arXiv 2506.13585.
[7] Gao et al., "Soft Adaptive Policy Optimization", arXiv 2511.20347.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "cispo_loss",
    "complement",
    "covariance",
    "gae",
    "group_advantages",
    "group_moments",
    "kl_estimate",
    "leave_one_out",
    "logits_to_float64",
    "pass_at_k_advantages",
    "ppo_loss",
    "sapo_loss",
    "sequence_policy",
    "softmax",
    "token_stats",
    "token_stats_backward",
    "value_loss",
]

Array = NDArray[Any]


def logits_to_float64(logits: Array, kind: str) -> Array:
    """Values of (n, v) logits given as float32, or as 16-bit patterns of bfloat16 or float16."""
    if kind == "bfloat16":
        return (logits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    if kind == "float16":
        return logits.view(np.float16).astype(np.float64)
    return logits.astype(np.float64)


def softmax(z: Array) -> Array:
    """exp(z) / sum exp(z) along the last axis."""
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def complement(p: Array) -> Array:
    """1 - p along the last axis, where the likeliest entry keeps its digits: it is the sum of the others."""
    rest = 1.0 - p
    at = p.argmax(axis=-1)[..., None]
    others = p.copy()
    np.put_along_axis(others, at, 0.0, axis=-1)
    np.put_along_axis(rest, at, others.sum(axis=-1, keepdims=True), axis=-1)
    return rest


def covariance(p: Array) -> Array:
    """diag(p) - p p' of each row."""
    c = -p[:, :, None] * p[:, None, :]
    diagonal = np.arange(p.shape[1])
    c[:, diagonal, diagonal] = p * complement(p)
    return np.asarray(c)


def token_stats(z: Array, ids: Array, temperature: float) -> tuple[Array, ...]:
    """Log p(id), entropy, sum p^2, log-sum-exp, largest and log sum e^(z - largest); NaN where there is none."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        m = z.max(axis=1, keepdims=True)
        d = (z - m) / temperature  # NaN for rows that are all -inf, or hold NaN or +inf
        e = np.exp(d)
        s = e.sum(axis=1)
        lse = np.log(s) + m[:, 0] / temperature
        logp = d[np.arange(len(z)), ids] - np.log(s)
        entropy = np.log(s) - (e * np.where(np.isneginf(d), 0.0, d)).sum(axis=1) / s  # 0 * -inf := 0
        sum_p2 = (e * e).sum(axis=1) / s**2
    stats = (logp, np.where(entropy < 0, 0.0, entropy), sum_p2, lse, m[:, 0], np.log(s))
    return tuple(np.where(np.isfinite(s), x, np.nan) for x in stats)


def token_stats_backward(z: Array, ids: Array, temperature: float, g: Array, g_entropy: Array | None) -> Array:
    """(g (onehot - p) - g_H p (log p + H)) / T."""
    rows = np.arange(len(z))
    p = softmax(z / temperature)
    out = -p * g[:, None]
    out[rows, ids] += g
    if g_entropy is not None:
        log_p = np.where(p > 0, np.log(np.where(p > 0, p, 1.0)), 0.0)
        entropy = -(p * log_p).sum(axis=1, keepdims=True)
        out -= p * (log_p + entropy) * g_entropy[:, None]
    return np.asarray(out / temperature)


def gae(
    r: Array, v: Array, mask: Array | None, gamma: float, lam: float, bootstrap: Array | None
) -> tuple[Array, Array]:
    """[2] equation 16, backwards in time; masked steps carry the next value and the next advantage across."""
    rows, columns = r.shape
    on = np.ones(r.shape, bool) if mask is None else mask != 0
    next_value = np.zeros(rows) if bootstrap is None else bootstrap.astype(np.float64)
    last = np.zeros(rows)
    advantages = np.zeros(r.shape)
    for t in range(columns - 1, -1, -1):
        delta = r[:, t] + gamma * next_value - v[:, t]
        last = np.where(on[:, t], delta + gamma * lam * last, last)
        next_value = np.where(on[:, t], v[:, t], next_value)
        advantages[:, t] = np.where(on[:, t], last, 0.0)
    return advantages, np.where(on, advantages + v, 0.0)


def group_moments(r: Array, g: Array, n_groups: int) -> tuple[Array, Array, Array, Array, Array]:
    """Count, least, largest, mean and sum of squared deviations of each group, shifted by the least first."""
    n = np.bincount(g, minlength=n_groups)
    least, largest = np.full(n_groups, np.inf), np.full(n_groups, -np.inf)
    np.minimum.at(least, g, r)
    np.maximum.at(largest, g, r)
    shift = np.where(n > 0, least, 0.0)
    d = r - shift[g]
    mean = np.bincount(g, weights=d, minlength=n_groups) / np.maximum(n, 1)
    m2 = np.bincount(g, weights=(d - mean[g]) ** 2, minlength=n_groups)
    return n, least, largest, mean + shift, m2


def group_advantages(
    r: Array, g: Array, n: Array, least: Array, mean: Array, m2: Array, kind: str, ddof: int, eps: float, raw: bool
) -> Array:
    """Centered rewards over the deviation of their group, (n - 1) / n, 1, or a deviation over all groups."""
    shift = np.where(n > 0, least, 0.0)
    centered = (r - shift[g]) - (mean - shift)[g]
    scale: Any = 1.0
    if kind == "grpo":
        scale = (np.sqrt(m2 / np.maximum(n - ddof, 1)) + eps)[g]
    elif kind == "rloo":
        scale = (np.maximum(n - 1, 1) / np.maximum(n, 1))[g]
    elif kind == "reinforce_plus_plus_baseline":
        scale = np.sqrt(centered @ centered / max(len(r) - ddof, 1)) + eps
    elif kind == "grpo_batch" and len(r):
        d = (r - r[0]) - (r - r[0]).mean()
        scale = np.sqrt(d @ d / max(len(r) - ddof, 1)) + eps
    advantages: Array = centered / np.where(scale == 0, 1.0, scale)
    return np.where(n[g] == 1, r, advantages) if raw else advantages


def leave_one_out(r: Array, g: Array, eps: float) -> tuple[Array, Array, Array]:
    """Mean and std (n - 1) of the others of each group, and (r - mean) / (std + eps); a loop, to be obvious."""
    mean, std, advantage = np.full(len(r), np.nan), np.full(len(r), np.nan), np.zeros(len(r))
    for i in range(len(r)):
        others = np.delete(r, i)[np.delete(g, i) == g[i]]
        if len(others) == 0:
            continue
        constant = others.min() == others.max()
        mean[i] = others[0] if constant else others.mean()
        if len(others) > 1:
            std[i] = 0.0 if constant else others.std(ddof=1)
        centered = r[i] - mean[i]
        advantage[i] = centered / (std[i] + eps) if std[i] > 0 else centered
    return mean, std, advantage


def pass_at_k_advantages(r: Array, g: Array, k: int) -> Array:
    """[5]: over subsets of size k that hold a reward, what it adds to the best of the others, over all subsets."""
    found = np.zeros(len(r))
    order = np.lexsort((r, g))
    for members in np.split(order, np.flatnonzero(np.diff(g[order])) + 1) if len(r) else []:
        m, x = len(members), r[members]
        if k == 1:
            found[members] = x / m
            continue
        # C(j, k - 2) / C(m, k): subsets of which j-th is the second best, for each better one
        share = np.array([math.comb(j, k - 2) / math.comb(m, k) for j in range(m)])
        below, held = np.cumsum(share) - share, np.cumsum(share * (x - x[0])) - share * (x - x[0])
        found[members] = below * (x - x[0]) - held
    return found


def ppo_loss(
    logp: Array, old: Array, a: Array, eps_low: float, eps_high: float, dual_clip: float | None
) -> tuple[Array, Array, Array, Array]:
    """[3] equation 7 as a loss, with the dual clip of arXiv 1912.09729: loss, d loss/d logp, ratio, clipped."""
    d = logp - old
    ratio = np.exp(np.clip(d, -20.0, 20.0))
    plain, bounded = -a * ratio, -a * np.clip(ratio, 1 - eps_low, 1 + eps_high)
    loss = np.maximum(plain, bounded)
    clipped = bounded > plain
    active = ~clipped & (np.abs(d) < 20.0)
    if dual_clip is not None:
        capped = (a < 0) & (-a * dual_clip < loss)
        loss = np.where(capped, -a * dual_clip, loss)
        active &= ~capped
    return loss, np.where(active, plain, 0.0), ratio, clipped


def cispo_loss(logp: Array, old: Array, a: Array, eps_low: float, eps_high: float) -> tuple[Array, Array, Array, Array]:
    """[6] as a loss, the clipped ratio held fixed: loss, d loss/d logp, ratio, clipped."""
    ratio = np.exp(np.clip(logp - old, -20.0, 20.0))
    held = np.clip(ratio, 1 - eps_low, 1 + eps_high)
    return -held * a * logp, -held * a, ratio, held != ratio


def sapo_loss(logp: Array, old: Array, a: Array, positive: float, negative: float) -> tuple[Array, Array, Array]:
    """[7] as a loss: a soft gate of the ratio in the place of the clip; loss, d loss/d logp, ratio."""
    d = logp - old
    ratio = np.exp(np.clip(d, -20.0, 20.0))
    tau = np.where(a > 0, positive, negative)
    with np.errstate(over="ignore"):
        gate = 1.0 / (1.0 + np.exp(-tau * (ratio - 1.0)))
    slope = np.where(np.abs(d) < 20.0, 4.0 * gate * (1.0 - gate) * ratio, 0.0)
    return -a * gate * 4.0 / tau, -a * slope, ratio


def kl_estimate(d: Array, kind: str) -> tuple[Array, Array]:
    """Schulman's estimates for d = logp - reference, and their derivatives; exponents clamped to +-20."""
    if kind == "k1":
        return d, np.ones_like(d)
    if kind == "abs":
        return np.abs(d), np.sign(d)
    if kind == "k2":
        return 0.5 * d * d, d
    held = np.clip(d, -20.0, 20.0)
    return np.expm1(-held) + held, np.where(np.abs(d) < 20.0, -np.expm1(-held), 0.0)


def value_loss(v: Array, old: Array, goal: Array, reach: float) -> tuple[Array, Array, Array]:
    """Half the larger squared error of v and of v kept within reach of old: loss, d loss/d v, whether the latter."""
    held = np.clip(v, old - reach, old + reach)
    plain, bounded = 0.5 * (v - goal) ** 2, 0.5 * (held - goal) ** 2
    clipped = bounded > plain
    return np.maximum(plain, bounded), np.where(clipped, 0.0, v - goal), clipped


def sequence_policy(tree: list[Array], r: Array) -> dict[str, Any]:
    """Enumerate an autoregressive policy: probabilities, value, std, gradient per prefix, Fisher matrix.

    tree[l] is (V**l, V): logits after each prefix of length l, prefixes in base-V order. r: V**L rewards. The
    parameters are the logits themselves. grad V = sum_y p(y) (r(y) - V) score(y); F = sum_y p(y) score score'.
    """
    length, width = len(tree), tree[0].shape[1]
    offset = np.cumsum([0, *[len(level) for level in tree]])
    probabilities, scores = [], []
    for y in itertools.product(range(width), repeat=length):
        chance, score, prefix = 1.0, np.zeros((offset[-1], width)), 0
        for level, token in enumerate(y):
            step = softmax(tree[level][prefix])
            chance *= float(step[token])
            score[offset[level] + prefix] = np.eye(width)[token] - step
            prefix = prefix * width + token
        probabilities.append(chance)
        scores.append(score.ravel())
    p, s = np.array(probabilities), np.array(scores)
    value = float(p @ r)
    return {
        "probabilities": p,
        "value": value,
        "std": float(np.sqrt(p @ (r - value) ** 2)),
        "grad": ((p * (r - value)) @ s).reshape(-1, width),
        "fisher": (s * p[:, None]).T @ s,
    }
