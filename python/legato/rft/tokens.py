"""Statistics of sampled tokens from logits, in one pass, and their gradient; KL estimates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legato import _core, _dispatch
from legato._arrays import as_any, as_floating, as_indices, as_logits, as_real, given_back, on_device, output_apart
from legato._dispatch import Backend
from legato._gpu import as_given, check_backend
from legato._scalars import as_flag, as_number, as_threads, shown
from legato.errors import ArgumentError, IndexRangeError
from legato.rft import _reference

__all__ = ["KLEstimates", "TokenStats", "kl_estimates", "token_stats", "token_stats_backward"]

Float32 = NDArray[np.float32]

_TEMPERATURES = (1e-6, 1e6)
_NO_MASK = np.empty(0, np.uint8)


@dataclass(frozen=True, slots=True)
class TokenStats:
    """What `token_stats` says of each row; float32 arrays of shape (n,).

    Attributes
    ----------
    logp : ndarray
        Log-probability of the row's token, nats; (n, k) of its k tokens.
    entropy : ndarray
        Shannon entropy of the row's distribution, nats.
    sum_p2 : ndarray
        Sum of the squared probabilities: the chance that two draws agree.
    lse : ndarray
        log sum exp(logits / temperature).
    largest : ndarray
        The largest logit.
    log_sum : ndarray
        lse - largest / temperature with all its digits; exp(-log_sum) is the probability of the likeliest token.
    temperature : float
        What the logits were divided by.

    See Also
    --------
    token_stats : Log-probability, entropy, sum of squared probabilities and log-sum-exp of each row, in one pass.
    token_stats_backward : Gradient with respect to the logits of sum grad_logp * logp + sum grad_entropy * entropy.

    Examples
    --------
    >>> from legato import rft
    >>> stats = rft.token_stats([[0.0, 0.0], [0.0, -float("inf")]], [0, 0])
    >>> stats.sum_p2.tolist(), stats.entropy.round(3)
    ([0.5, 1.0], array([0.693, 0.   ], dtype=float32))
    """

    logp: Float32
    entropy: Float32
    sum_p2: Float32
    lse: Float32
    largest: Float32
    log_sum: Float32
    temperature: float = 1.0


def token_stats(
    logits: Any,
    ids: Any,
    temperature: float = 1.0,
    *,
    entropy: bool = True,
    mask: Any = None,
    threads: int = 1,
    backend: Backend | None = None,
) -> TokenStats:
    """Log-probability, entropy, sum of squared probabilities and log-sum-exp of each row, in one pass.

    Parameters
    ----------
    logits : array, shape (n, v)
        float32, bfloat16 (torch, JAX, ml_dtypes, or uint16 bit patterns) or float16, NumPy or DLPack in CPU memory;
        read in place where contiguous. Float64 is converted to float32. Minus infinity masks an entry. In GPU memory
        all arrays must be there, and the kernel of ``cpp/cuda`` runs through CuPy: the same bits as on a CPU with FMA.
    ids : array of int, shape (n,) or (n, k)
        The token of each row, or several of each; in GPU memory one.
    temperature : float
        The distribution is softmax(logits / temperature); between 1e-6 and 1e6.
    entropy : bool
        False leaves out entropy and sum_p2, which are then NaN; the rest has the same bits, and comes sooner where the
        arithmetic is what costs.
    mask : array, shape (n,), optional
        Rows where it is zero are not read and give 0.
    threads : int
        Threads to use; the result does not depend on it.
    backend : {"native", "numpy"}, optional

    Returns
    -------
    TokenStats
        NaN in rows that are all minus infinity or hold NaN or plus infinity.

    Raises
    ------
    IndexRangeError
        An id is outside [0, v) (an ArgumentError and an IndexError).
    ArgumentError
        A shape, dtype or the temperature is wrong.

    See Also
    --------
    token_stats_backward : Gradient with respect to the logits of sum grad_logp * logp + sum grad_entropy * entropy.
    legato.torch : The same for torch's autograd.

    Notes
    -----
    Float32 arithmetic with float64 sums of blocks, the maximum subtracted first. Against float64: logp within 2e-5,
    entropy 5e-5, sum_p2 1e-6 (absolute), lse 1e-6 (relative). The same bits on every instruction set and for every
    batch split. No temporary of the size of the logits.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import rft
    >>> stats = rft.token_stats(np.zeros((1, 4), np.float32), [2])
    >>> stats.logp, stats.entropy, stats.sum_p2
    (array([-1.3862944], dtype=float32), array([1.3862944], dtype=float32), array([0.25], dtype=float32))
    """
    temperature = _temperature(temperature)
    if on_device(logits):
        from legato.rft import _cupy

        check_backend(backend)
        table = _cupy.token_stats(logits, ids, temperature, mask, as_flag("entropy", entropy))
        logp, uncertainty, sum_p2, lse, largest, log_sum = (as_given(logits, row) for row in table)
        return TokenStats(logp, uncertainty, sum_p2, lse, largest, log_sum, temperature)
    rows, kind, tokens, keep = _rows(logits, ids, mask)
    first = _first(tokens)
    table = np.empty((6, len(rows)), np.float32)
    threads, entropy = as_threads(threads), as_flag("entropy", entropy)
    if _dispatch.choose(backend) == "numpy":
        on = np.ones(len(rows), bool) if len(keep) == 0 else keep != 0
        table[:] = 0
        z = _reference.logits_to_float64(rows[on], kind)
        table[:, on] = np.array(_reference.token_stats(z, first[on], temperature))
    elif kind == "float32":
        _core.rft_token_stats(rows, first, temperature, keep, table, entropy, threads)
    else:
        _core.rft_token_stats_half(rows, kind == "bfloat16", first, temperature, keep, table, entropy, threads)
    if not entropy:
        table[1:3] = np.nan
    logp, uncertainty, sum_p2, lse, largest, log_sum = table
    found = TokenStats(logp, uncertainty, sum_p2, lse, largest, log_sum, temperature)
    if tokens.ndim == 1:
        return found
    logp = _log_probabilities(rows, kind, tokens, found).astype(np.float32)
    if len(keep):
        logp[keep == 0] = 0
    return replace(found, logp=logp)


def token_stats_backward(
    logits: Any,
    ids: Any,
    stats: TokenStats,
    grad_logp: Any,
    grad_entropy: Any = None,
    temperature: float | None = None,
    out: Any = None,
    *,
    mask: Any = None,
    threads: int = 1,
    backend: Backend | None = None,
) -> NDArray[Any]:
    """Gradient with respect to the logits of sum grad_logp * logp + sum grad_entropy * entropy.

    Parameters
    ----------
    logits, ids, mask, threads, backend
        As given to `token_stats`.
    stats : TokenStats
        What `token_stats` returned.
    grad_logp : array, shape of ids
    grad_entropy : array, shape (n,), optional
        Upstream gradients; no entropy part by default.
    temperature : float, optional
        That of the statistics, which is the default; another is refused.
    out : array, optional
        (n, v) of the storage of the logits to write into, contiguous; it may be the logits themselves, or overlap any
        input (which is then copied).

    Returns
    -------
    ndarray, shape (n, v)
        ``(grad_logp (onehot - p) - grad_entropy p (log p + H)) / T`` in the storage of the logits: float32, float16, or
        uint16 bit patterns of bfloat16.

    Raises
    ------
    IndexRangeError, ArgumentError
        As `token_stats`; or `out` does not fit.

    See Also
    --------
    token_stats : Log-probability, entropy, sum of squared probabilities and log-sum-exp of each row, in one pass.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import rft
    >>> logits = np.zeros((1, 2), np.float32)
    >>> rft.token_stats_backward(logits, [0], rft.token_stats(logits, [0]), grad_logp=[1.0])
    array([[ 0.5, -0.5]], dtype=float32)
    """
    if on_device(logits):
        from legato.rft import _cupy

        check_backend(backend)
        _temperature_of(stats, temperature)
        found = _cupy.token_stats_backward(logits, ids, stats, grad_logp, grad_entropy, out, mask)
        return given_back(logits, found) if out is None else out  # type: ignore[no-any-return]
    rows, kind, tokens, keep = _rows(logits, ids, mask)
    n = len(rows)
    given = _float32("grad_logp", grad_logp, tokens.shape)
    upstream = given if tokens.ndim == 1 else given.sum(axis=1, dtype=np.float64).astype(np.float32)
    weights = [upstream, np.empty(0, np.float32)]
    if grad_entropy is not None:
        weights[1] = _float32("grad_entropy", grad_entropy, (n,))
    temperature = _temperature_of(stats, temperature)
    if stats.entropy.shape != (n,):
        raise ArgumentError(f"stats: expected those of {n} rows, got {stats.entropy.shape[0]}")
    if grad_entropy is not None and (np.isnan(stats.entropy) & ~np.isnan(stats.log_sum)).any():
        raise ArgumentError("stats: expected the entropy too, for its gradient")
    spread = None if tokens.ndim == 1 else _gradients_of_tokens(rows, kind, tokens, stats, given, weights)
    gradient, (rows, tokens, *weights) = output_apart("out", out, rows.shape, kind, [rows, tokens, *weights])
    if kind == "float16":
        gradient = gradient.view(np.uint16)
    threads = as_threads(threads)
    if _dispatch.choose(backend) == "numpy":
        _store(gradient, kind, _numpy_gradient(rows, kind, _first(tokens), temperature, weights, keep))
    else:
        table = np.stack([stats.entropy, stats.largest, stats.log_sum])
        rest = (_first(tokens), temperature, keep, table, weights[0], weights[1], gradient, threads)
        if kind == "float32":
            _core.rft_token_stats_backward(rows, *rest)
        else:
            _core.rft_token_stats_backward_half(rows, kind == "bfloat16", *rest)
    if spread is not None:  # the kernel gave all of a row's weight to its first token
        entries = np.empty(spread.shape, gradient.dtype)
        _store(entries, kind, spread)
        on = slice(None) if len(keep) == 0 else keep != 0
        gradient[np.arange(n)[on, None], tokens[on]] = entries[on]
    return gradient.view(np.float16) if kind == "float16" else gradient


@dataclass(frozen=True, slots=True)
class KLEstimates:
    """Per-token estimates of KL(policy || reference) for tokens drawn from the policy; all in nats.

    Attributes
    ----------
    k1 : ndarray
        d = logp - ref_logp: unbiased, of either sign.
    k2 : ndarray
        d^2 / 2: biased, small variance.
    k3 : ndarray
        exp(-d) - 1 + d: unbiased, never negative.

    See Also
    --------
    kl_estimates : Three estimates of KL(policy || reference) per token (Schulman, "Approximating KL divergence", 2020).
    kl_loss : Penalty of KL(policy || reference) over a batch of sampled tokens, and its gradient.

    Examples
    --------
    >>> from legato import rft
    >>> found = rft.kl_estimates([-1.0], [-1.0])
    >>> found.k1.tolist(), found.k3.tolist()
    ([0.0], [0.0])
    """

    k1: NDArray[Any]
    k2: NDArray[Any]
    k3: NDArray[Any]


def kl_estimates(logp: Any, ref_logp: Any) -> KLEstimates:
    """Three estimates of KL(policy || reference) per token (Schulman, "Approximating KL divergence", 2020).

    Parameters
    ----------
    logp, ref_logp : array, of one shape
        Log-probabilities of the same tokens, nats.

    Returns
    -------
    KLEstimates
        float32 where both inputs are, else float64. k3 uses expm1, so a tiny d gives d^2 / 2 and never a negative.

    See Also
    --------
    kl_loss : Penalty of KL(policy || reference) over a batch of sampled tokens, and its gradient.

    Examples
    --------
    >>> from legato import rft
    >>> found = rft.kl_estimates([-1.0, -2.0], [-1.5, -1.5])
    >>> found.k1, found.k2, found.k3.round(4)
    (array([ 0.5, -0.5]), array([0.125, 0.125]), array([0.1065, 0.1487]))
    """
    policy, reference = as_floating("logp", logp), as_floating("ref_logp", ref_logp)
    if reference.shape != policy.shape:
        raise ArgumentError(f"ref_logp: expected shape {policy.shape}, that of logp, got {reference.shape}")
    d = policy - reference
    return KLEstimates(d, 0.5 * d * d, np.expm1(-d) + d)


def _temperature(temperature: float) -> float:
    return as_number("temperature", temperature, least=_TEMPERATURES[0], most=_TEMPERATURES[1])


def _temperature_of(stats: Any, temperature: float | None) -> float:
    """Return that of the statistics; another one is refused."""
    if not isinstance(stats, TokenStats):
        raise ArgumentError(f"stats: expected what token_stats returned, got {shown(stats)}")
    if temperature is not None and _temperature(temperature) != stats.temperature:
        raise ArgumentError(f"temperature: expected {stats.temperature:g}, that of the statistics, got {temperature:g}")
    return float(stats.temperature)


def _rows(logits: Any, ids: Any, mask: Any) -> tuple[NDArray[Any], str, NDArray[np.int64], NDArray[np.uint8]]:
    rows, kind = as_logits("logits", logits)
    given = as_any("ids", ids)
    if given.ndim == 2:
        if len(given) != len(rows) or given.shape[1] == 0:
            raise ArgumentError(f"ids: expected shape ({len(rows)}, k) with k >= 1, got {given.shape}")
        tokens = as_indices("ids", given.reshape(-1)).reshape(given.shape)
    else:
        tokens = as_indices("ids", given, len(rows))
    keep = _NO_MASK
    if mask is not None:
        keep = (as_real("mask", mask) != 0).astype(np.uint8)
        if keep.shape != (len(rows),):
            raise ArgumentError(f"mask: expected shape ({len(rows)},), got {keep.shape}")
        tokens = np.where(keep.reshape(-1, *[1] * (tokens.ndim - 1)) != 0, tokens, 0)
    outside = tokens.view(np.uint64) >= rows.shape[1]  # negative ones are among the largest
    if outside.any():
        at = np.unravel_index(int(np.argmax(outside)), tokens.shape)
        place = ", ".join(map(str, at))
        raise IndexRangeError(f"ids[{place}]: expected 0 <= id < {rows.shape[1]}, got {tokens[at]}")
    return rows, kind, tokens, keep


def _first(tokens: NDArray[np.int64]) -> NDArray[np.int64]:
    """One token of each row."""
    return tokens if tokens.ndim == 1 else np.ascontiguousarray(tokens[:, 0])


def _log_probabilities(rows: NDArray[Any], kind: str, tokens: NDArray[np.int64], stats: TokenStats) -> NDArray[Any]:
    """Of several tokens a row, from what is known of the row."""
    z = _reference.logits_to_float64(np.take_along_axis(rows, tokens, axis=1), kind)
    with np.errstate(invalid="ignore"):  # a row of minus infinity
        return np.asarray((z - stats.largest[:, None]) / stats.temperature - stats.log_sum[:, None])


def _gradients_of_tokens(
    rows: NDArray[Any],
    kind: str,
    tokens: NDArray[np.int64],
    stats: TokenStats,
    grad_logp: Float32,
    weights: list[Float32],
) -> NDArray[Any]:
    """Entries of the gradient at several tokens a row, some of which may be the same."""
    log_p = _log_probabilities(rows, kind, tokens, stats)
    place = np.arange(len(rows))[:, None] * rows.shape[1] + tokens
    _, back = np.unique(place.ravel(), return_inverse=True)
    own = np.bincount(back.ravel(), weights=grad_logp.ravel())[back.ravel()].reshape(tokens.shape)
    p = np.exp(log_p)
    found = own - weights[0][:, None] * p
    if len(weights[1]):
        information = np.where(p > 0, log_p, 0.0) + stats.entropy[:, None]
        found -= weights[1][:, None] * p * information
    return np.asarray(found / stats.temperature)


def _float32(name: str, value: Any, shape: tuple[int, ...]) -> Float32:
    array = as_floating(name, value).astype(np.float32, copy=False)
    if array.shape != shape:
        raise ArgumentError(f"{name}: expected shape {shape}, got {array.shape}")
    return array


def _numpy_gradient(
    rows: NDArray[Any],
    kind: str,
    tokens: NDArray[np.int64],
    temperature: float,
    weights: list[Float32],
    keep: NDArray[np.uint8],
) -> NDArray[Any]:
    on = np.ones(len(rows), bool) if len(keep) == 0 else keep != 0
    entropy = weights[1].astype(np.float64)[on] if len(weights[1]) else None
    gradient = np.zeros(rows.shape)
    gradient[on] = _reference.token_stats_backward(
        _reference.logits_to_float64(rows[on], kind),
        tokens[on],
        temperature,
        weights[0].astype(np.float64)[on],
        entropy,
    )
    return gradient


def _store(out: NDArray[Any], kind: str, values: NDArray[Any]) -> None:
    if kind == "float32":
        out[...] = values
    elif kind == "float16":
        out[...] = values.astype(np.float16).view(np.uint16)
    else:  # to nearest, ties to even
        bits = values.astype(np.float32).view(np.uint32)
        out[...] = np.where(
            np.isnan(values), np.uint32(0x7FC0), (bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) >> 16
        )
