"""The policy loss and the ways to reduce it over tokens and sequences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from legato._arrays import as_floating
from legato._scalars import as_choice, as_count, as_number
from legato.errors import ArgumentError
from legato.rft import _reference
from legato.rft.advantages import as_mask

__all__ = ["PPOLoss", "masked_mean", "ppo_loss"]

Mode: TypeAlias = Literal["token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"]
MODES: tuple[Mode, ...] = get_args(Mode)


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
    """

    loss: NDArray[Any]
    grad_logp: NDArray[Any]
    ratio: NDArray[Any]
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
    advantages : array, shape (b, t) or (b, 1) or what broadcasts
    eps_low, eps_high : float
        The ratio is clipped to [1 - eps_low, 1 + eps_high].
    dual_clip : float, optional
        Above 1: the loss of a negative advantage is at most -advantage * dual_clip (Ye et al., arXiv 1912.09729).

    Returns
    -------
    PPOLoss
        float32 where logp, old_logp and advantages are, else float64.
    """
    new, old, a = (
        as_floating(name, x) for name, x in (("logp", logp), ("old_logp", old_logp), ("advantages", advantages))
    )
    if old.shape != new.shape:
        raise ArgumentError(f"old_logp: expected shape {new.shape}, got {old.shape}")
    try:
        a = np.broadcast_to(a, new.shape)
    except ValueError:
        raise ArgumentError(f"advantages: expected a shape that fits {new.shape}, got {a.shape}") from None
    eps_low, eps_high = as_number("eps_low", eps_low, least=0, most=1), as_number("eps_high", eps_high, least=0)
    if dual_clip is not None:
        dual_clip = as_number("dual_clip", dual_clip, above=1)
    return PPOLoss(*_reference.ppo_loss(new, old, a, eps_low, eps_high, dual_clip))


def masked_mean(
    x: Any,
    mask: Any = None,
    mode: Mode = "token-mean",
    max_len: int | None = None,
) -> float:
    """Reduce (b, t) numbers to one over the steps whose mask is not zero.

    Parameters
    ----------
    x : array, shape (b, t)
        What is masked may be anything, NaN included.
    mask : array, shape (b, t), optional
        Zero or not; every step by default.
    mode : str
        "token-mean": over all tokens. "seq-mean-token-mean": mean over sequences of their token means (0 for an empty
        one). "seq-mean-token-sum": mean over sequences of their sums. "seq-mean-token-sum-norm": that over `max_len`.
    max_len : int, optional
        By default t.

    Returns
    -------
    float
        0 where nothing counts.
    """
    values = as_floating("x", x).astype(np.float64, copy=False)
    if values.ndim != 2:
        raise ArgumentError(f"x: expected shape (b, t), got {values.shape}")
    mode = as_choice("mode", mode, MODES)
    length = values.shape[1] if max_len is None else as_count("max_len", max_len, most=2**62)
    on = as_mask("mask", mask, values.shape)
    counted = values if on is None else np.where(on != 0, values, 0.0)
    tokens = np.full(len(values), values.shape[1]) if on is None else on.sum(axis=1, dtype=np.int64)
    if len(values) == 0:
        return 0.0
    if mode == "token-mean":
        return float(counted.sum() / max(int(tokens.sum()), 1))
    if mode == "seq-mean-token-mean":
        return float((counted.sum(axis=1) / np.maximum(tokens, 1)).mean())
    total = float(counted.sum(axis=1).mean())
    return total / max(length, 1) if mode == "seq-mean-token-sum-norm" else total
