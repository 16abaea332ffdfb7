"""Losses of a policy-gradient step with their gradients, and the ways to reduce them over tokens and sequences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from legato._arrays import Float64, as_floating
from legato._scalars import as_choice, as_count, as_flag, as_number, shown
from legato.errors import ArgumentError
from legato.rft import _reference
from legato.rft.advantages import as_mask

__all__ = [
    "KLLoss",
    "PPOLoss",
    "PolicyLoss",
    "ValueLoss",
    "importance_weights",
    "kl_loss",
    "masked_mean",
    "policy_loss",
    "ppo_loss",
    "token_weights",
    "value_loss",
]

Mode: TypeAlias = Literal[
    "token-mean", "token-sum", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm",
    "grpo", "bnpo", "dr_grpo", "dapo",
]  # fmt: skip
MODES: tuple[Mode, ...] = get_args(Mode)
Surrogate: TypeAlias = Literal["ppo", "gspo", "gspo_token", "cispo", "sapo", "reinforce"]
SURROGATES: tuple[Surrogate, ...] = get_args(Surrogate)
KLKind: TypeAlias = Literal["k1", "k2", "k3", "abs", "k1+", "k3+"]
KL_KINDS: tuple[KLKind, ...] = get_args(KLKind)
Level: TypeAlias = Literal["token", "sequence", "geometric"]
LEVELS: tuple[Level, ...] = get_args(Level)
Bounding: TypeAlias = Literal["truncate", "mask"]
BOUNDINGS: tuple[Bounding, ...] = get_args(Bounding)


@dataclass(frozen=True, slots=True)
class PPOLoss:
    """The clipped surrogate, token by token; arrays of the shape of logp.

    Attributes
    ----------
    loss : ndarray
        To be minimized.
    grad_logp : ndarray
        d loss / d logp of each token, before any reduction.
    ratio : ndarray
        exp(logp - old_logp), the difference clamped to +-20.
    clipped : ndarray of bool
        The clip of the ratio is what counts.

    See Also
    --------
    ppo_loss : Proximal policy loss (Schulman et al., arXiv 1707.06347, eq. 7), clip bounds apart, optional dual clip.
    PolicyLoss : Of a whole batch.

    Examples
    --------
    >>> from legato import rft
    >>> found = rft.ppo_loss([[0.0, -1.0]], [[-1.0, -1.0]], [[1.0]])
    >>> found.ratio.round(3).tolist(), found.clipped.tolist()
    ([[2.718, 1.0]], [[True, False]])
    """

    loss: NDArray[Any]
    grad_logp: NDArray[Any]
    ratio: NDArray[Any]
    clipped: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PolicyLoss:
    """A policy loss over a batch; arrays of shape (b, t), 0 where masked.

    Attributes
    ----------
    loss : float
        To be minimized.
    grad_logp : ndarray
        d loss / d logp.
    ratio : ndarray
        exp(logp - old_logp) of tokens, or of their sequence's mean; the difference is clamped to +-20.
    clipped : ndarray of bool
        A bound of the ratio is what counts.

    See Also
    --------
    policy_loss : Loss of a batch of sampled tokens, reduced to one number, and its gradient.

    Examples
    --------
    >>> from legato import rft
    >>> found = rft.policy_loss([[0.0]], [[-1.0]], [[1.0]], eps_high=0.3)
    >>> found.loss, found.clipped.tolist(), found.grad_logp.tolist()
    (-1.3, [[True]], [[0.0]])
    """

    loss: float
    grad_logp: NDArray[Any]
    ratio: NDArray[Any]
    clipped: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class KLLoss:
    """A penalty of the KL divergence over a batch.

    Attributes
    ----------
    loss : float
    estimate : ndarray, shape (b, t)
        Of each token, nats; 0 where masked.
    grad_logp : ndarray, shape (b, t)
        d loss / d logp.

    See Also
    --------
    kl_loss : Penalty of KL(policy || reference) over a batch of sampled tokens, and its gradient.

    Examples
    --------
    >>> from legato import rft
    >>> rft.kl_loss([[-1.0, -2.0]], [[-1.0, -2.0]]).grad_logp.tolist()
    [[0.0, 0.0]]
    """

    loss: float
    estimate: NDArray[Any]
    grad_logp: NDArray[Any]


@dataclass(frozen=True, slots=True)
class ValueLoss:
    """A loss of predicted values over a batch.

    Attributes
    ----------
    loss : float
    grad_values : ndarray, shape (b, t)
        d loss / d values.
    clipped : ndarray of bool, shape (b, t)
        The clipped prediction is what counts.

    See Also
    --------
    value_loss : Half the squared error of predicted values.

    Examples
    --------
    >>> from legato import rft
    >>> found = rft.value_loss([[1.0, 0.0]], [[0.0, 0.0]], [[1.0, 1.0]])
    >>> found.clipped.tolist(), found.grad_values.tolist()
    ([[True, False]], [[0.0, -0.5]])
    """

    loss: float
    grad_values: NDArray[Any]
    clipped: NDArray[np.bool_]


def ppo_loss(
    logp: Any,
    old_logp: Any,
    advantages: Any,
    eps_low: float = 0.2,
    eps_high: float = 0.2,
    dual_clip: float | None = None,
) -> PPOLoss:
    """Proximal policy loss (Schulman et al., arXiv 1707.06347, eq. 7), clip bounds apart, optional dual clip.

    Parameters
    ----------
    logp, old_logp : array, shape (b, t)
        Log-probabilities of the sampled tokens now and when they were sampled, nats.
    advantages : array, shape (b, t), (b, 1) or (1, t), or a number
        One of a sequence is ``advantages[:, None]``: an array of fewer axes is refused.
    eps_low, eps_high : float
        The ratio is clipped to [1 - eps_low, 1 + eps_high].
    dual_clip : float, optional
        Above 1: the loss of a negative advantage is at most -advantage * dual_clip (Ye et al., arXiv 1912.09729).

    Returns
    -------
    PPOLoss
        float32 where logp, old_logp and advantages are, else float64. `policy_loss` reduces it, with its gradient.

    See Also
    --------
    policy_loss : Loss of a batch of sampled tokens, reduced to one number, and its gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import rft
    >>> found = rft.ppo_loss(np.log([1.5, 0.9]), np.zeros(2), [1.0, 1.0])
    >>> found.loss.round(3), found.clipped, found.grad_logp.round(3)
    (array([-1.2, -0.9]), array([ True, False]), array([ 0. , -0.9]))
    """
    new, old = as_floating("logp", logp), as_floating("old_logp", old_logp)
    if old.shape != new.shape:
        raise ArgumentError(f"old_logp: expected shape {new.shape}, got {old.shape}")
    a = _spread("advantages", advantages, new.shape)
    return PPOLoss(*_reference.ppo_loss(new, old, a, *_clip(eps_low, eps_high, dual_clip)))


def policy_loss(
    logp: Any,
    old_logp: Any,
    advantages: Any,
    mask: Any = None,
    kind: Surrogate = "ppo",
    mode: Mode = "token-mean",
    *,
    eps_low: float = 0.2,
    eps_high: float = 0.2,
    dual_clip: float | None = None,
    gates: tuple[float, float] = (1.0, 1.05),
    weights: Any = None,
    max_len: int | None = None,
    count: float | None = None,
) -> PolicyLoss:
    """Loss of a batch of sampled tokens, reduced to one number, and its gradient.

    Parameters
    ----------
    logp, old_logp : array, shape (b, t)
        Log-probabilities of the sampled tokens now and when they were sampled, nats.
    advantages : array, shape (b, t) or (b, 1)
    mask : array, shape (b, t), optional
        Tokens that count; what is masked may be anything, NaN included.
    kind : {"ppo", "gspo", "gspo_token", "cispo", "sapo", "reinforce"}
        With r the ratio of a token and A its advantage, a term of the loss is

        - "ppo": max(-A r, -A clip(r)), arXiv 1707.06347; with `dual_clip`, arXiv 1912.09729.
        - "gspo": the same of the sequence's ratio, the exponential of the mean difference, with the gradient of that
          mean (arXiv 2507.18071; TRL's ``importance_sampling_level="sequence"``).
        - "gspo_token": the same values, but each token has its own gradient (verl's "gspo"). It is that of "gspo"
          wherever advantages and weights of a sequence are equal.
        - "cispo": -A clip(r) logp, the clipped ratio a constant (arXiv 2506.13585). TRL's ``epsilon_high`` is
          1 + `eps_high` here, and `eps_low` 1: it has no lower bound.
        - "sapo": -A sigmoid(g (r - 1)) 4 / g, g the first of `gates` where A > 0, else the second (arXiv 2511.20347).
        - "reinforce": -A logp; old_logp has no part.
    mode : str
        How terms become one number: see `masked_mean`.
    eps_low, eps_high, dual_clip
        As of `ppo_loss`, for "ppo", "gspo", "gspo_token" and "cispo".
    gates : (float, float)
        Of "sapo".
    weights : array, shape (b, t) or (b, 1), optional
        Each term is multiplied by its own: see `importance_weights`.
    max_len, count
        See `masked_mean`.

    Returns
    -------
    PolicyLoss
        The arithmetic is float64; the gradient is float32 where logp is.

    See Also
    --------
    ppo_loss : Proximal policy loss (Schulman et al., arXiv 1707.06347, eq. 7), clip bounds apart, optional dual clip.
    kl_loss : Penalty of KL(policy || reference) over a batch of sampled tokens, and its gradient.
    masked_mean : Reduce (b, t) numbers to one over the steps whose mask is not zero.
    importance_weights : Weights of tokens that another program sampled than the one that trains.

    Examples
    --------
    >>> from legato import rft
    >>> found = rft.policy_loss([[-1.0, -2.0]], [[-1.0, -2.0]], [[1.0]])
    >>> found.loss, found.grad_logp
    (-1.0, array([[-0.5, -0.5]]))
    """
    new, on = _batch("logp", logp, mask)
    old = _like("old_logp", old_logp, new.shape)
    kept = on != 0
    x, y = (np.where(kept, v, 0.0).astype(np.float64) for v in (new, old))
    a = np.where(kept, _spread("advantages", advantages, new.shape), 0.0).astype(np.float64)
    kind = as_choice("kind", kind, SURROGATES)
    clip, positive_and_negative = _clip(eps_low, eps_high, dual_clip), _gates(gates)
    if dual_clip is not None and kind in ("cispo", "sapo", "reinforce"):
        raise ArgumentError(f"dual_clip: expected None with {kind}")
    per_token = token_weights(on, mode, max_len, count)
    if weights is not None:
        per_token = per_token * np.where(kept, _spread("weights", weights, new.shape), 0.0)
    tokens = np.maximum(kept.sum(axis=1, keepdims=True), 1)
    sequence = np.broadcast_to(np.where(kept, x - y, 0.0).sum(axis=1, keepdims=True) / tokens, x.shape)
    bounded = np.zeros(x.shape, bool)
    if kind in ("ppo", "gspo", "gspo_token"):
        difference = x - y if kind == "ppo" else sequence
        term, slope, ratio, bounded = _reference.ppo_loss(difference, np.zeros_like(x), a, *clip)
        if kind == "gspo":  # a token moves the ratio of all by its share in their mean
            whole = (per_token * slope).sum(axis=1, keepdims=True) / tokens
            gradient = np.where(kept, whole, 0.0)
        else:
            gradient = per_token * slope
    elif kind == "cispo":
        term, slope, ratio, bounded = _reference.cispo_loss(x, y, a, clip[0], clip[1])
        gradient = per_token * slope
    elif kind == "sapo":
        term, slope, ratio = _reference.sapo_loss(x, y, a, *positive_and_negative)
        gradient = per_token * slope
    else:
        term, ratio, gradient = -a * x, np.exp(np.clip(x - y, -20.0, 20.0)), -a * per_token
    return PolicyLoss(
        float((per_token * term).sum()), gradient.astype(new.dtype), np.where(kept, ratio, 0.0), bounded & kept
    )


def kl_loss(
    logp: Any,
    ref_logp: Any,
    mask: Any = None,
    kind: KLKind = "k3",
    mode: Mode = "token-mean",
    *,
    cap: float | None = None,
    old_logp: Any = None,
    max_len: int | None = None,
    count: float | None = None,
) -> KLLoss:
    """Penalty of KL(policy || reference) over a batch of sampled tokens, and its gradient.

    Parameters
    ----------
    logp, ref_logp : array, shape (b, t)
        Log-probabilities of the sampled tokens, nats; d is their difference.
    mask : array, shape (b, t), optional
    kind : {"k1", "k2", "k3", "abs", "k1+", "k3+"}
        The estimates of `kl_estimates`, or abs(d). With a plus the value is that of the estimate and the gradient that
        of k2, whose expectation is the divergence's gradient, which those of k1 and k3 are not (verl's names).
    mode : str
        See `masked_mean`.
    cap : float, optional
        Estimates are clamped to [-cap, cap], with no gradient beyond; verl's k3 has 10.
    old_logp : array, shape (b, t), optional
        Log-probabilities when the tokens were sampled: each estimate is multiplied by exp(logp - old_logp), which
        also has a gradient (the correction for tokens of an older policy, TRL's ``use_bias_correction_kl``).
    max_len, count
        See `masked_mean`.

    Returns
    -------
    KLLoss
        Differences are clamped to +-20 before exponentials, with no gradient beyond.

    See Also
    --------
    kl_estimates : Three estimates of KL(policy || reference) per token (Schulman, "Approximating KL divergence", 2020).
    policy_loss : Loss of a batch of sampled tokens, reduced to one number, and its gradient.

    Examples
    --------
    >>> from legato import rft
    >>> found = rft.kl_loss([[-1.0, -2.0]], [[-1.5, -1.5]], kind="k2")
    >>> found.loss, found.grad_logp
    (0.125, array([[ 0.25, -0.25]]))
    """
    new, on = _batch("logp", logp, mask)
    reference = _like("ref_logp", ref_logp, new.shape)
    kept = on != 0
    d = np.where(kept, new.astype(np.float64) - reference, 0.0)
    kind = as_choice("kind", kind, KL_KINDS)
    cap = np.inf if cap is None else as_number("cap", cap, above=0)
    estimate, slope = _reference.kl_estimate(d, kind.removesuffix("+"))
    slope = np.where(np.abs(estimate) <= cap, slope, 0.0)
    estimate = np.clip(estimate, -cap, cap)
    if kind.endswith("+"):
        slope = d
    if old_logp is not None:
        old = _like("old_logp", old_logp, new.shape)
        step = np.where(kept, new.astype(np.float64) - old, 0.0)
        ratio = np.exp(np.clip(step, -20.0, 20.0))
        slope = ratio * (slope + np.where(np.abs(step) < 20.0, estimate, 0.0))
        estimate = ratio * estimate
    per_token = token_weights(on, mode, max_len, count)
    return KLLoss(
        float((per_token * estimate).sum()), estimate.astype(new.dtype), (per_token * slope).astype(new.dtype)
    )


def value_loss(
    values: Any,
    old_values: Any,
    returns: Any,
    mask: Any = None,
    clip: float | None = 0.2,
    mode: Mode = "token-mean",
    *,
    max_len: int | None = None,
    count: float | None = None,
) -> ValueLoss:
    """Half the squared error of predicted values, or of their clipped change if that is larger (PPO's value loss).

    Parameters
    ----------
    values, old_values, returns : array, shape (b, t)
        Predictions now, predictions when the tokens were sampled, and what they should have been.
    mask : array, shape (b, t), optional
    clip : float, optional
        Predictions count as at most so far from the old ones; None does without.
    mode, max_len, count
        See `masked_mean`.

    Returns
    -------
    ValueLoss

    See Also
    --------
    policy_loss : Loss of a batch of sampled tokens, reduced to one number, and its gradient.
    gae : Gives what values are to be.

    Examples
    --------
    >>> from legato import rft
    >>> found = rft.value_loss([[0.1, 1.0]], [[0.0, 0.0]], [[1.0, 1.0]])
    >>> round(found.loss, 4), found.clipped
    (0.3625, array([[False,  True]]))
    """
    new, on = _batch("values", values, mask)
    kept = on != 0
    others = (_like("old_values", old_values, new.shape), _like("returns", returns, new.shape))
    v, old, goal = (np.where(kept, x, 0.0).astype(np.float64) for x in (new, *others))
    reach = np.inf if clip is None else as_number("clip", clip, least=0)
    loss, slope, bounded = _reference.value_loss(v, old, goal, reach)
    per_token = token_weights(on, mode, max_len, count)
    return ValueLoss(float((per_token * loss).sum()), (per_token * slope).astype(new.dtype), bounded & kept)


def importance_weights(
    logp: Any,
    rollout_logp: Any,
    mask: Any = None,
    *,
    level: Level = "token",
    bounding: Bounding = "truncate",
    low: float | None = None,
    high: float | None = 2.0,
    normalize: bool = False,
) -> NDArray[Any]:
    """Weights of tokens that another program sampled than the one that trains, such as an inference engine.

    Parameters
    ----------
    logp, rollout_logp : array, shape (b, t)
        Log-probabilities of the sampled tokens by the trainer, before its step, and by the sampler.
    mask : array, shape (b, t), optional
    level : {"token", "sequence", "geometric"}
        The ratio of the probabilities of a token, of its whole sequence, or the sequence's geometric mean.
    bounding : {"truncate", "mask"}
        Ratios outside of [low, high] become the bound (TIS), or 0 (MIS, IcePop). The names of levels and bounds are
        TRL's ("sequence_mask" is level "sequence" and bounding "mask").
    low, high : float, optional
        None leaves a side open.
    normalize : bool
        Divide by the mean, over tokens or over sequences.

    Returns
    -------
    ndarray, shape (b, t)
        0 where masked; of the type of logp. A constant: no gradient goes through it. Log-ratios are clamped to +-20.

    See Also
    --------
    policy_loss : Takes them as ``weights=``.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import rft
    >>> rft.importance_weights(np.log([[0.5, 0.9]]), np.log([[0.5, 0.3]]), high=2.0).round(6)
    array([[1., 2.]])
    """
    new, on = _batch("logp", logp, mask)
    other = _like("rollout_logp", rollout_logp, new.shape)
    level, bounding = as_choice("level", level, LEVELS), as_choice("bounding", bounding, BOUNDINGS)
    low = 0.0 if low is None else as_number("low", low, least=0)
    high = np.inf if high is None else as_number("high", high, above=0)
    if not low <= high:
        raise ArgumentError(f"low: expected at most high = {high:g}, got {low:g}")
    kept = on != 0
    d = np.where(kept, new.astype(np.float64) - other, 0.0)
    if level != "token":
        d = d.sum(axis=1, keepdims=True)
        if level == "geometric":
            d = d / np.maximum(kept.sum(axis=1, keepdims=True), 1)
    ratio = np.exp(np.clip(d, -20.0, 20.0))
    if bounding == "truncate":
        ratio = np.clip(ratio, low, high)
    else:
        ratio = np.where((ratio >= low) & (ratio <= high), ratio, 0.0)
    weights = np.where(kept, ratio, 0.0)
    if as_flag("normalize", normalize):
        some = kept.any(axis=1)
        mean = weights[kept].mean() if level == "token" and kept.any() else ratio[some].mean() if some.any() else 0.0
        weights /= mean if mean > 0 else 1.0
    return weights.astype(new.dtype)


def masked_mean(
    x: Any,
    mask: Any = None,
    mode: Mode = "token-mean",
    max_len: int | None = None,
    count: float | None = None,
) -> float:
    """Reduce (b, t) numbers to one over the steps whose mask is not zero.

    Parameters
    ----------
    x : array, shape (b, t)
        What is masked may be anything, NaN included.
    mask : array, shape (b, t), optional
        Zero or not; every step by default.
    mode : str
        By verl's names: "token-mean", over all tokens; "token-sum"; "seq-mean-token-mean", mean over sequences of their
        token means; "seq-mean-token-sum", of their sums; "seq-mean-token-sum-norm", that over `max_len` (Dr. GRPO).
        Sequences without a token do not count.

        By TRL's: "grpo", mean of the token means of all sequences, 0 for those without a token; "bnpo", over all
        tokens; "dr_grpo", the sum over sequences times `max_len`; "dapo", over the tokens of the whole batch, `count`.
    max_len : int, optional
        By default t.
    count : float, optional
        Where x is a part of a batch: the tokens ("token-mean", "bnpo", "dapo") or sequences (the others) of the whole,
        which the sum is then divided by.

    Returns
    -------
    float
        0 where nothing counts. `token_weights` is its gradient.

    See Also
    --------
    token_weights : Return the share that each token has in `masked_mean`, which is its gradient.

    Examples
    --------
    >>> from legato import rft
    >>> x, mask = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [[1, 1, 1], [1, 0, 0]]
    >>> rft.masked_mean(x, mask), rft.masked_mean(x, mask, "seq-mean-token-mean")
    (2.5, 3.0)
    """
    values = as_floating("x", x).astype(np.float64, copy=False)
    if values.ndim != 2:
        raise ArgumentError(f"x: expected shape (b, t), got {values.shape}")
    on = as_mask("mask", mask, values.shape)
    if on is None:
        on = np.ones(values.shape, np.uint8)
    return float((token_weights(on, mode, max_len, count) * np.where(on != 0, values, 0.0)).sum())


def token_weights(
    mask: Any, mode: Mode = "token-mean", max_len: int | None = None, count: float | None = None
) -> Float64:
    """Return the share that each token has in `masked_mean`, which is its gradient.

    Parameters
    ----------
    mask : array, shape (b, t)
    mode, max_len, count
        As of `masked_mean`.

    Returns
    -------
    ndarray, shape (b, t), float64
        0 where masked. An entropy bonus c adds ``-c * masked_mean(entropy, mask)`` to the loss, and ``-c *
        token_weights(mask)`` is its gradient, as `token_stats_backward` takes it.

    See Also
    --------
    masked_mean : Reduce (b, t) numbers to one over the steps whose mask is not zero.

    Examples
    --------
    >>> from legato import rft
    >>> rft.token_weights([[1, 1, 0], [1, 0, 0]], "seq-mean-token-mean")
    array([[0.25, 0.25, 0.  ],
           [0.5 , 0.  , 0.  ]])
    """
    given = mask if isinstance(mask, np.ndarray) else as_floating("mask", mask)
    if given.ndim != 2:
        raise ArgumentError(f"mask: expected shape (b, t), got {given.shape}")
    on = as_mask("mask", given, given.shape)
    assert on is not None
    mode = as_choice("mode", mode, MODES)
    length = on.shape[1] if max_len is None else as_count("max_len", max_len, most=2**62)
    whole = None if count is None else as_number("count", count, above=0)
    tokens = on.sum(axis=1, dtype=np.int64)[:, None]
    weights = on.astype(np.float64)
    if mode == "token-sum":
        return weights
    if mode in ("token-mean", "bnpo", "dapo"):
        return weights / (whole or max(int(tokens.sum()), 1))
    sequences = len(on) if mode in ("grpo", "dr_grpo") else int((tokens > 0).sum())
    weights /= whole or max(sequences, 1)
    if mode in ("grpo", "seq-mean-token-mean"):
        weights /= np.maximum(tokens, 1)
    if mode in ("dr_grpo", "seq-mean-token-sum-norm"):
        weights /= max(length, 1)
    return weights


def _batch(name: str, x: Any, mask: Any) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    values = as_floating(name, x)
    if values.ndim != 2:
        raise ArgumentError(f"{name}: expected shape (b, t), got {values.shape}")
    on = as_mask("mask", mask, values.shape)
    return values, np.ones(values.shape, np.uint8) if on is None else on


def _like(name: str, x: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    values = as_floating(name, x)
    if values.shape != shape:
        raise ArgumentError(f"{name}: expected shape {shape}, got {values.shape}")
    return values


def _spread(name: str, x: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """As of every token; one a sequence has its own axis, or it would be taken for one a step where b == t."""
    values = as_floating(name, x)
    if values.shape == (1,):
        values = values.reshape((1,) * len(shape))
    fits = values.ndim == len(shape) and all(
        size in (1, whole) for size, whole in zip(values.shape, shape, strict=True)
    )
    if not fits:
        told = " (one a sequence: x[:, None])" if values.ndim < len(shape) else ""
        raise ArgumentError(f"{name}: expected shape {shape}, or 1 for an axis, got {values.shape}{told}")
    return np.broadcast_to(values, shape)


def _clip(eps_low: float, eps_high: float, dual_clip: float | None) -> tuple[float, float, float | None]:
    low, high = as_number("eps_low", eps_low, least=0, most=1), as_number("eps_high", eps_high, least=0)
    return low, high, None if dual_clip is None else as_number("dual_clip", dual_clip, above=1)


def _gates(gates: tuple[float, float]) -> tuple[float, float]:
    try:
        positive, negative = (as_number("gates", gate, above=0) for gate in gates)
    except Exception:  # not two, or no numbers
        raise ArgumentError(f"gates: expected two numbers above 0, got {shown(gates)}") from None
    return positive, negative
