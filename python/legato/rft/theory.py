"""Exact gradients of enumerable policies, and bounds on them by the reward's standard deviation.

Paper: Razin et al., "Vanishing Gradients in Reinforcement Finetuning of Language Models", ICLR 2024, arXiv 2310.20703.
The tighter bounds are derived in docs/rft.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legato._arrays import Float64, as_float64, as_real
from legato._scalars import as_count, as_number, shown
from legato.errors import ArgumentError
from legato.rft import _reference

__all__ = [
    "GradientBounds",
    "SequenceValueGrad",
    "constant_group_probability",
    "gradient_bounds",
    "gradient_flow_time",
    "sequence_value_grad",
    "tree_advantages",
    "value_grad",
]


@dataclass(frozen=True, slots=True)
class GradientBounds:
    """Upper bounds on the norm of the gradient of the expected reward of one prompt.

    Attributes
    ----------
    paper : float or ndarray
        Theorem 1 of the paper: 6 L gamma h (std / h)^(2/3), h half the range of the rewards.
    sqrt_half_length : float or ndarray
        gamma std sqrt(L / 2), L the length or its expectation. Never above `paper`; attained for L = 1.
    trace : float, ndarray or None
        gamma std sqrt(sum over positions of E[1 - p(token)]); None where the probabilities are not given.
    fisher : float or None
        std sqrt(largest eigenvalue of the Fisher matrix): the tightest; only where the policy is known.

    See Also
    --------
    gradient_bounds : Bound the gradient norm of the expected reward by the reward's std.
    sequence_value_grad : The exact gradient beside them.

    Examples
    --------
    >>> from legato import rft
    >>> bounds = rft.gradient_bounds(std=0.5, length=2, one_minus_p=0.25)
    >>> bounds.sqrt_half_length, bounds.trace, bounds.fisher is None
    (0.5, 0.25, True)
    """

    paper: Any
    sqrt_half_length: Any
    trace: Any = None
    fisher: Any = None


def gradient_bounds(
    std: Any,
    length: Any,
    gamma: float | None = None,
    one_minus_p: Any = None,
    reward_range: tuple[float, float] = (-1.0, 1.0),
) -> GradientBounds:
    """Bound the gradient norm of the expected reward by the reward's std.

    Parameters
    ----------
    std : float or array
        Standard deviation of the reward under the policy.
    length : float or array
        Output length in tokens; its expectation where it varies (the bounds of Legato; the paper's takes the maximum).
    gamma : float, optional
        Largest spectral norm of the Jacobian of the logits with respect to the parameters. By default 1: the bounds are
        then on the gradient with respect to the logits.
    one_minus_p : float or array, optional
        Sum over the positions of E[1 - p(token)]: the mean over rollouts of ``sum(1 - exp(logp))``.
    reward_range : (float, float)
        Least and largest possible reward.

    Returns
    -------
    GradientBounds
        Numbers or arrays as given.

    See Also
    --------
    sequence_value_grad : Return the expected reward, its std and exact gradient for an autoregressive policy.
    check_bounds : Compare the exact gradient norm of random autoregressive policies with each bound.

    Notes
    -----
    Assumptions: outputs are drawn from a softmax policy; the std is that of the policy, not of a sample. With
    s = grad log p(y) and F = E[s s'], grad V = E[(r - V) s], so along any direction u the Cauchy-Schwarz inequality
    gives |u . grad V| <= std sqrt(u' F u). The terms of s are martingale differences, so F = sum_l E[J_l' C_l J_l] with
    C_l = diag(p_l) - p_l p_l', whose largest eigenvalue is at most 1/2 and whose trace is 1 - sum p_l^2.

    Examples
    --------
    >>> from legato import rft
    >>> bounds = rft.gradient_bounds(std=0.1, length=8)
    >>> round(bounds.paper, 3), round(bounds.sqrt_half_length, 3)
    (10.341, 0.2)
    """
    low, high = reward_ends("reward_range", reward_range)
    half = (high - low) / 2
    sigma, many = _not_negative("std", std), _not_negative("length", length)
    if not _broadcast(sigma, many):
        raise ArgumentError(f"length: expected a shape that fits std {sigma.shape}, got {many.shape}")
    scale = 1.0 if gamma is None else as_number("gamma", gamma, least=0)
    trace = None
    if one_minus_p is not None:
        loose = _not_negative("one_minus_p", one_minus_p)
        if not _broadcast(sigma, loose):
            raise ArgumentError(f"one_minus_p: expected a shape that fits std {sigma.shape}, got {loose.shape}")
        trace = _number(scale * sigma * np.sqrt(loose))
    return GradientBounds(
        _number(6.0 * many * scale * half * (sigma / half) ** (2.0 / 3.0)),
        _number(scale * sigma * np.sqrt(many / 2.0)),
        trace,
    )


def value_grad(logits: Any, rewards: Any) -> tuple[Float64, Float64, Float64]:
    """Return the expected reward of enumerable outputs, its std, and its exact gradient.

    Parameters
    ----------
    logits, rewards : array, shape (n, k)
        One row an input, one column an output.

    Returns
    -------
    value, std : ndarray, shape (n,)
    grad : ndarray, shape (n, k)
        d value / d logits = p (r - value).

    See Also
    --------
    sequence_value_grad : Return the expected reward, its std and exact gradient for an autoregressive policy.

    Examples
    --------
    >>> from legato import rft
    >>> rft.value_grad([[0.0, 0.0]], [[1.0, -1.0]])
    (array([0.]), array([1.]), array([[ 0.5, -0.5]]))
    """
    z, r = as_float64("logits", logits), as_float64("rewards", rewards)
    if z.ndim != 2 or z.shape[1] == 0:
        raise ArgumentError(f"logits: expected shape (n, k) with k >= 1, got {z.shape}")
    if r.shape != z.shape:
        raise ArgumentError(f"rewards: expected shape {z.shape}, got {r.shape}")
    p = _reference.softmax(z)
    base, excess, d = _advantages(p, r, np.zeros_like(r))
    grad = p * d
    return base + excess, np.sqrt((grad * d).sum(axis=1)), grad


@dataclass(frozen=True, slots=True)
class SequenceValueGrad:
    """Expected reward of an autoregressive policy over all outputs.

    Attributes
    ----------
    value, std : float
        Mean and standard deviation of the reward.
    grad : list of ndarray
        d value / d logits of the prefixes of each length: (v**l, v).
    bounds : GradientBounds
        On the norm of all of `grad` together.
    one_minus_p2 : float
        Sum over positions of E[1 - sum p^2], which is that of E[1 - p(token)].

    See Also
    --------
    sequence_value_grad : Return the expected reward, its std and exact gradient for an autoregressive policy.

    Examples
    --------
    >>> from legato import rft
    >>> found = rft.sequence_value_grad([[[0.0, 0.0]]], [1.0, -1.0])
    >>> found.value, found.std, found.grad[0].tolist(), found.one_minus_p2
    (0.0, 1.0, [[0.5, -0.5]], 0.5)
    """

    value: float
    std: float
    grad: list[Float64]
    bounds: GradientBounds
    one_minus_p2: float


def sequence_value_grad(
    logits_tree: Sequence[Any] | Callable[[NDArray[np.int64]], Any],
    rewards: Any,
    *,
    length: int | None = None,
    reward_range: tuple[float, float] = (-1.0, 1.0),
) -> SequenceValueGrad:
    """Return the expected reward, its std and exact gradient for an autoregressive policy, in O(v^L).

    Parameters
    ----------
    logits_tree : sequence of L arrays, or callable
        The l-th array is (v**l, v): the logits after each prefix of l tokens, prefixes numbered in base v with the
        first token slowest. A callable gets the prefixes (v**l, l) and returns that array; it needs `length`.
    rewards : array, shape (v**L,)
        Of every output, first token slowest.
    length : int, optional
        L, with a callable.
    reward_range : (float, float)
        For the paper's bound.

    Returns
    -------
    SequenceValueGrad
        Products forward over the tree, sums backward. The parameters are the logits themselves, so gamma is 1.

    See Also
    --------
    value_grad : Return the expected reward of enumerable outputs, its std, and its exact gradient.
    gradient_bounds : Bound the gradient norm of the expected reward by the reward's std.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import rft
    >>> found = rft.sequence_value_grad([np.zeros((1, 2)), np.zeros((2, 2))], rewards=[1.0, 0.0, 0.0, 0.0])
    >>> found.value, found.grad[0], bool(found.bounds.fisher >= np.linalg.norm(np.vstack(found.grad)))
    (0.25, array([[ 0.125, -0.125]]), True)
    """
    if callable(logits_tree):
        if length is None:
            raise ArgumentError("length: expected a whole number of at least 1 with a callable")
        length = as_count("length", length, most=64)
        tree: list[Float64] = []
        for depth in range(length):
            width = tree[0].shape[1] if tree else 0
            prefixes = np.indices((width,) * depth).reshape(depth, -1).T if depth else np.zeros((1, 0), np.int64)
            tree.append(as_float64(f"logits_tree(prefixes of {depth})", logits_tree(prefixes.astype(np.int64))))
    elif isinstance(logits_tree, Iterable) and getattr(logits_tree, "ndim", 1) > 0:
        tree = [as_float64(f"logits_tree[{i}]", level) for i, level in enumerate(logits_tree)]
    else:
        raise ArgumentError(f"logits_tree: expected arrays or a callable, got {type(logits_tree).__name__}")
    if not tree or tree[0].ndim != 2 or tree[0].shape[0] != 1 or tree[0].shape[1] < 1:
        raise ArgumentError("logits_tree: expected arrays of shape (v**l, v) for l = 0, 1, ...")
    width = tree[0].shape[1]
    for depth, level in enumerate(tree):
        if level.shape != (width**depth, width):
            raise ArgumentError(f"logits_tree[{depth}]: expected shape {(width**depth, width)}, got {level.shape}")
    r = as_float64("rewards", rewards, (width ** len(tree),))
    steps = [_reference.softmax(level) for level in tree]
    reach = [np.ones(1)]
    for p in steps:
        reach.append((reach[-1][:, None] * p).ravel())
    advantages, base, excess = tree_advantages(steps, r)
    grad = [w[:, None] * p * d for w, p, d in zip(reach, steps, advantages, strict=False)]
    std = math.sqrt(float(reach[-1] @ ((r - base) - excess) ** 2))
    loose = sum(float(w @ (p * _reference.complement(p)).sum(axis=1)) for w, p in zip(reach, steps, strict=False))
    bounds = gradient_bounds(std, len(steps), 1.0, loose, reward_range)
    largest = 0.0
    for weight, p in zip(reach, steps, strict=False):  # the Fisher matrix has a block for each prefix
        blocks = _reference.covariance(p)
        largest = max(largest, float((weight * np.linalg.eigvalsh(blocks)[:, -1]).max()))
    bounds = GradientBounds(bounds.paper, bounds.sqrt_half_length, bounds.trace, std * math.sqrt(max(largest, 0.0)))
    return SequenceValueGrad(base + excess, std, grad, bounds, loose)


def tree_advantages(steps: Sequence[Float64], rewards: Float64) -> tuple[list[Float64], float, float]:
    """Return what each token adds to the expected reward, and that reward in two parts.

    steps[l] is (v**l, v): probabilities after each prefix of length l. rewards: of each output. The advantages have the
    same shapes; they keep their digits where the policy is all but certain, as the expected reward of each prefix is
    held as the reward of its likeliest output, and the rest.
    """
    base, excess = rewards, np.zeros_like(rewards)
    found: list[Float64] = [np.empty(0)] * len(steps)
    for depth in range(len(steps) - 1, -1, -1):
        p = steps[depth]
        base, excess, found[depth] = _advantages(p, base.reshape(p.shape), excess.reshape(p.shape))
    return found, float(base[0]), float(excess[0])


def _advantages(p: Float64, base: Float64, excess: Float64) -> tuple[Float64, Float64, Float64]:
    """Of rows of outputs worth base + excess: the row's worth, as two parts, and r_i - V = sum_j p_j (r_i - r_j).

    Relative to the likeliest output: 1 - p of it, in which the gradient vanishes, is then never a difference.
    """
    at = p.argmax(axis=1)[:, None]
    chosen, rest = np.take_along_axis(base, at, axis=1), np.take_along_axis(excess, at, axis=1)
    d = (base - chosen) + (excess - rest)
    mean = (p * d).sum(axis=1, keepdims=True)
    return chosen[:, 0], (rest + mean)[:, 0], d - mean


def constant_group_probability(p: Any, size: int) -> Float64:
    """Chance that a group of `size` rollouts with success probability p has one reward only: p^G + (1 - p)^G."""
    q = np.asarray(p, np.float64)
    return np.asarray(q**size + (1 - q) ** size)


def gradient_flow_time(p0: float, p1: float, n_labels: int) -> tuple[float, float]:
    """Compute the times that gradient flow on the logits of one input takes from probability p0 to p1.

    Parameters
    ----------
    p0, p1 : float
        0 < p0 <= p1 < 1.
    n_labels : int
        K, the labels; the others share the rest equally.

    Returns
    -------
    rft, sft : float
        Time by the exact policy gradient of the reward +1 on the label and -1 elsewhere, and by cross entropy:
        dp/dt = 2 K/(K-1) p^2 (1-p)^2 and K/(K-1) p (1-p)^2.

    See Also
    --------
    plan : Say how long reinforcement and supervision take from a success probability of p0 (a model of one input).

    Examples
    --------
    >>> from legato import rft
    >>> [round(t, 1) for t in rft.gradient_flow_time(1e-4, 0.9, 10)]
    [4513.8, 18.4]
    """
    p0, p1 = as_number("p0", p0, above=0, below=1), as_number("p1", p1, above=0, below=1)
    if p0 > p1:
        raise ArgumentError(f"p0, p1: expected 0 < p0 <= p1 < 1, got {p0}, {p1}")
    n_labels = as_count("n_labels", n_labels, 2, 2**62)

    def odds(p: float) -> float:
        return math.log(p / (1 - p))

    def rft(p: float) -> float:
        return -1 / p + 1 / (1 - p) + 2 * odds(p)

    def sft(p: float) -> float:
        return odds(p) + 1 / (1 - p)

    share = (n_labels - 1) / n_labels
    return share / 2 * (rft(p1) - rft(p0)), share * (sft(p1) - sft(p0))


def reward_ends(name: str, value: tuple[float, float]) -> tuple[float, float]:
    """Return (least, largest) as two finite numbers."""
    try:
        low, high = (as_number(name, end) for end in value)
    except Exception:  # not two, or no numbers
        low = high = 0.0
    if not low < high:
        raise ArgumentError(f"{name}: expected two numbers, the least and the largest, got {shown(value)}")
    return low, high


def _not_negative(name: str, value: Any) -> Float64:
    array = as_real(name, value).astype(np.float64)
    if not np.all(array >= 0):
        raise ArgumentError(f"{name}: expected numbers of at least 0")
    return array


def _broadcast(one: Float64, other: Float64) -> bool:
    return all(1 in pair or pair[0] == pair[1] for pair in zip(one.shape[::-1], other.shape[::-1], strict=False))


def _number(x: Any) -> Any:
    return float(x) if np.ndim(x) == 0 else x
