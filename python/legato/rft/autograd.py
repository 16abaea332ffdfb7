"""Log-probabilities and entropies of tokens, and losses of them, inside torch: for autograd, compile and func."""

from __future__ import annotations

from typing import Any

import numpy as np

from legato._scalars import as_count, as_number
from legato.errors import ArgumentError, DependencyError
from legato.rft import losses
from legato.rft.losses import Mode, Surrogate
from legato.rft.tokens import TokenStats, token_stats, token_stats_backward

try:
    import torch
    from torch import library
except ImportError:
    raise DependencyError("torch is missing: pip install torch") from None
if not hasattr(library, "custom_op"):
    raise DependencyError(f"torch of 2.4 or later is needed, this is {torch.__version__}")

__all__ = ["policy_loss", "token_logp", "token_logp_entropy"]


def token_logp_entropy(
    logits: Any, ids: Any, temperature: float = 1.0, threads: int = 1, *, ignore_index: int = -100
) -> tuple[Any, Any]:
    """Log-probability and entropy of tokens, differentiable with respect to the logits.

    Parameters
    ----------
    logits : torch.Tensor, shape (..., v)
        float32, bfloat16 or float16 in CPU memory, read in place where contiguous; float64 is converted to float32.
    ids : torch.Tensor of whole numbers, shape (...) or (..., k)
        The token of each row, or k of each, such as a teacher's likeliest.
    temperature : float
    threads : int
    ignore_index : int
        Tokens of this id have log-probability 0 and no gradient; a row that has no other is not read, its entropy is 0.

    Returns
    -------
    logp : torch.Tensor, shape of ids, float32
    entropy : torch.Tensor, shape (...), float32

    Raises
    ------
    IndexRangeError, ArgumentError
        As `legato.rft.token_stats`; or the shapes do not fit.

    Notes
    -----
    The backward pass makes one tensor of the size of the logits, the gradient. It can be differentiated again
    (``create_graph=True``, `torch.func.hessian`): that pass is plain torch and makes several such tensors.
    """
    logp, entropy = _apply(logits, ids, temperature, ignore_index, True, threads)
    return logp, entropy


def token_logp(logits: Any, ids: Any, temperature: float = 1.0, threads: int = 1, *, ignore_index: int = -100) -> Any:
    """Log-probability of tokens alone, which is quicker; as `token_logp_entropy`."""
    return _apply(logits, ids, temperature, ignore_index, False, threads)[0]


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
) -> Any:
    """Loss of a batch of sampled tokens, differentiable with respect to logp; all else is held fixed.

    Parameters
    ----------
    logp : torch.Tensor, shape (b, t)
        In CPU memory; 16-bit types are converted to float32.
    old_logp, advantages, mask, weights : torch.Tensor
    kind, mode, eps_low, eps_high, dual_clip, gates, max_len, count
        As of `legato.rft.policy_loss`.

    Returns
    -------
    torch.Tensor
        One number. It has no second derivative: to ask for it is an error.
    """
    tensors = [logp, old_logp, advantages, *(x for x in (mask, weights) if x is not None)]
    if not all(isinstance(x, torch.Tensor) for x in tensors):
        raise ArgumentError("logp, old_logp, advantages, mask, weights: expected torch tensors")
    if any(x.device.type != "cpu" for x in tensors):
        raise ArgumentError("logp, old_logp, advantages, mask, weights: expected tensors in CPU memory")

    def wide(x: Any) -> Any:
        return x.to(torch.float32) if x.dtype in (torch.bfloat16, torch.float16) else x

    positive, negative = gates
    loss, _ = _run(
        _policy_loss,
        _PolicyLoss,
        wide(logp),
        wide(old_logp.detach()),
        wide(advantages.detach()),
        mask,
        None if weights is None else wide(weights.detach()),
        kind,
        mode,
        [float(eps_low), float(eps_high), float(positive), float(negative)],
        dual_clip,
        max_len,
        count,
    )
    return loss


def _apply(
    logits: Any, ids: Any, temperature: float, ignore_index: int, entropy: bool, threads: int
) -> tuple[Any, Any]:
    if not (isinstance(logits, torch.Tensor) and isinstance(ids, torch.Tensor)):
        raise ArgumentError("logits, ids: expected torch tensors")
    if logits.device.type != "cpu" or ids.device.type != "cpu":
        raise ArgumentError(f"logits, ids: expected tensors in CPU memory, got {logits.device} and {ids.device}")
    if logits.ndim < 1 or logits.shape[-1] == 0:
        raise ArgumentError(f"logits: expected shape (..., v) with v >= 1, got {tuple(logits.shape)}")
    several = ids.ndim == logits.ndim
    if tuple(ids.shape[: logits.ndim - 1]) != tuple(logits.shape[:-1]) or not (several or ids.ndim == logits.ndim - 1):
        rows = tuple(logits.shape[:-1])
        raise ArgumentError(f"ids: expected shape {rows} or {(*rows, 'k')}, got {tuple(ids.shape)}")
    if ids.dtype.is_floating_point or ids.dtype.is_complex or ids.dtype == torch.bool:
        raise ArgumentError(f"ids: expected whole numbers, got {ids.dtype}")
    if logits.dtype not in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        raise ArgumentError(f"logits: expected float32, bfloat16, float16 or float64, got {logits.dtype}")
    if logits.dtype == torch.float64:
        logits = logits.to(torch.float32)
    flat = logits.reshape(-1, logits.shape[-1])
    tokens = ids.to(torch.int64).reshape(flat.shape[0], ids.shape[-1] if several else 1)
    logp, entropies, _, _ = _run(
        _token_stats,
        _TokenStats,
        flat,
        tokens,
        as_number("temperature", temperature),
        as_count("ignore_index", ignore_index, -(2**62), 2**62),
        entropy,
        as_count("threads", threads),
    )
    return logp.reshape(ids.shape), entropies.reshape(logits.shape[:-1])


def _run(operator: Any, function: Any, *inputs: Any) -> Any:
    """Call an operator with its autograd: torch.compile sees into the operator, torch.func into the function only."""
    return operator(*inputs) if torch.compiler.is_compiling() else function.apply(*inputs)


@library.custom_op("legato::token_stats", mutates_args=(), device_types="cpu")  # type: ignore[untyped-decorator]
def _token_stats(
    logits: torch.Tensor, ids: torch.Tensor, temperature: float, ignore_index: int, entropy: bool, threads: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    tokens, counted, rows = _counted(ids, ignore_index)
    stats = token_stats(logits.contiguous(), tokens, temperature, entropy=entropy, mask=rows, threads=threads)
    logp = np.where(counted, stats.logp, np.float32(0))
    found = (logp, stats.entropy if entropy else np.zeros_like(stats.entropy), stats.largest, stats.log_sum)
    return tuple(torch.from_numpy(np.array(column)) for column in found)


@_token_stats.register_fake  # type: ignore[untyped-decorator]
def _(logits: torch.Tensor, ids: torch.Tensor, *_: Any) -> tuple[torch.Tensor, ...]:
    row = [logits.new_empty(logits.shape[0], dtype=torch.float32) for _ in range(3)]
    return (logits.new_empty(ids.shape, dtype=torch.float32), *row)


@library.custom_op("legato::token_stats_backward", mutates_args=(), device_types="cpu")  # type: ignore[untyped-decorator]
def _token_stats_backward(
    logits: torch.Tensor,
    ids: torch.Tensor,
    entropy: torch.Tensor,
    largest: torch.Tensor,
    log_sum: torch.Tensor,
    grad_logp: torch.Tensor,
    grad_entropy: torch.Tensor | None,
    temperature: float,
    ignore_index: int,
    threads: int,
) -> torch.Tensor:
    tokens, counted, rows = _counted(ids, ignore_index)
    blank = np.empty(0, np.float32)
    known = [column.detach().numpy() for column in (entropy, largest, log_sum)]
    stats = TokenStats(blank, known[0], blank, blank, known[1], known[2], temperature)
    gradient = torch.empty_like(logits, memory_format=torch.contiguous_format)
    token_stats_backward(
        logits.contiguous(),
        tokens,
        stats,
        np.where(counted, grad_logp.detach().numpy(), np.float32(0)),
        None if grad_entropy is None else grad_entropy.detach().numpy(),
        out=gradient,
        mask=rows,
        threads=threads,
    )
    return gradient


@_token_stats_backward.register_fake  # type: ignore[untyped-decorator]
def _(logits: torch.Tensor, *_: Any) -> torch.Tensor:
    return torch.empty_like(logits, memory_format=torch.contiguous_format)


def _counted(ids: torch.Tensor, ignore_index: int) -> tuple[Any, Any, Any]:
    """Ids that are in range, which of them count, and the rows that have some that does."""
    given = ids.numpy()
    counted = given != ignore_index
    return np.where(counted, given, 0), counted, counted.any(axis=1)


def _keep_stats(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    logits, ids, ctx.temperature, ctx.ignore_index, ctx.entropy, ctx.threads = inputs
    _, entropy, largest, log_sum = output
    ctx.save_for_backward(logits, ids, entropy, largest, log_sum)


def _differentiate(ctx: Any, grad_logp: Any, grad_entropy: Any, *_: Any) -> tuple[Any, ...]:
    gradient = _run(
        _token_stats_backward,
        _TokenStatsBackward,
        *(x.detach() if i > 1 else x for i, x in enumerate(ctx.saved_tensors)),
        grad_logp.contiguous(),
        grad_entropy.contiguous() if ctx.entropy else None,
        ctx.temperature,
        ctx.ignore_index,
        ctx.threads,
    )
    return gradient, None, None, None, None, None


def _keep_gradients(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001
    logits, ids, _, _, _, grad_logp, grad_entropy, ctx.temperature, ctx.ignore_index, _ = inputs
    ctx.save_for_backward(logits, ids, grad_logp, grad_entropy)


def _differentiate_again(ctx: Any, direction: Any) -> tuple[Any, ...]:
    """Differentiate <direction, gradient> by torch itself; it is rare, so memory does not matter."""
    logits, ids, grad_logp, grad_entropy = ctx.saved_tensors
    counted = ids != ctx.ignore_index
    tokens = torch.where(counted, ids, 0)
    rows = counted.any(dim=1, keepdim=True)
    v = torch.where(rows, direction.float(), 0.0) / ctx.temperature
    log_p = torch.log_softmax(torch.where(rows, logits.float(), 0.0) / ctx.temperature, -1)
    p = log_p.exp()
    g = torch.where(counted, grad_logp, 0.0)
    mean = (p * v).sum(-1, keepdim=True)
    by_logp = torch.where(counted, v.gather(-1, tokens) - mean, 0.0)
    # <v, gradient> = sum_k g_k (v_k - mean) - g_H sum_i p_i v_i (log p_i + H)
    by_logits = -g.sum(-1, keepdim=True) * p * (v - mean)
    by_entropy = None
    if grad_entropy is not None:
        safe = torch.where(p > 0, log_p, 0.0)
        entropy = -(p * safe).sum(-1, keepdim=True)
        information = safe + entropy
        product = (p * v * information).sum(-1, keepdim=True)
        by_entropy = torch.where(rows[:, 0], -product[:, 0], 0.0)
        inner = v * information + v - mean * (1 + information) - product
        by_logits = by_logits - grad_entropy[:, None] * p * inner
    by_logits = torch.where(rows, by_logits / ctx.temperature, 0.0).to(logits.dtype)
    return by_logits, None, None, None, None, by_logp, by_entropy, None, None, None


class _TokenStats(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(*inputs: Any) -> Any:
        return _token_stats(*inputs)

    setup_context = staticmethod(_keep_stats)
    backward = staticmethod(_differentiate)


class _TokenStatsBackward(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(*inputs: Any) -> Any:
        return _token_stats_backward(*inputs)

    setup_context = staticmethod(_keep_gradients)
    backward = staticmethod(_differentiate_again)


library.register_autograd(_token_stats, _differentiate, setup_context=_keep_stats)
library.register_autograd(_token_stats_backward, _differentiate_again, setup_context=_keep_gradients)


@library.custom_op("legato::policy_loss", mutates_args=(), device_types="cpu")  # type: ignore[untyped-decorator]
def _policy_loss(
    logp: torch.Tensor,
    old_logp: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor | None,
    weights: torch.Tensor | None,
    kind: str,
    mode: str,
    bounds: list[float],
    dual_clip: float | None,
    max_len: int | None,
    count: float | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    found = losses.policy_loss(
        logp,
        old_logp,
        advantages,
        None if mask is None else mask.numpy(),
        kind,  # type: ignore[arg-type]
        mode,  # type: ignore[arg-type]
        eps_low=bounds[0],
        eps_high=bounds[1],
        dual_clip=dual_clip,
        gates=(bounds[2], bounds[3]),
        weights=weights,
        max_len=max_len,
        count=count,
    )
    return logp.new_tensor(found.loss), torch.from_numpy(found.grad_logp)


@_policy_loss.register_fake  # type: ignore[untyped-decorator]
def _(logp: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return logp.new_empty(()), torch.empty_like(logp, memory_format=torch.contiguous_format)


@library.custom_op("legato::policy_gradient", mutates_args=(), device_types="cpu")  # type: ignore[untyped-decorator]
def _policy_gradient(logp: torch.Tensor, gradient: torch.Tensor, upstream: torch.Tensor) -> torch.Tensor:  # noqa: ARG001
    return gradient * upstream


@_policy_gradient.register_fake  # type: ignore[untyped-decorator]
def _(logp: torch.Tensor, gradient: torch.Tensor, upstream: torch.Tensor) -> torch.Tensor:  # noqa: ARG001
    return torch.empty_like(gradient)


def _keep_gradient(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, Any]) -> None:
    ctx.save_for_backward(inputs[0], output[1])


def _differentiate_loss(ctx: Any, upstream: Any, _: Any) -> tuple[Any, ...]:
    logp, gradient = ctx.saved_tensors
    found = _run(_policy_gradient, _PolicyGradient, logp, gradient.detach(), upstream)
    return (found, *[None] * 10)


def _keep_nothing(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    pass


def _refuse(ctx: Any, direction: Any) -> Any:
    raise NotImplementedError("policy_loss has no second derivative")


class _PolicyLoss(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(*inputs: Any) -> Any:
        return _policy_loss(*inputs)

    setup_context = staticmethod(_keep_gradient)
    backward = staticmethod(_differentiate_loss)


class _PolicyGradient(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(*inputs: Any) -> Any:
        return _policy_gradient(*inputs)

    setup_context = staticmethod(_keep_nothing)
    backward = staticmethod(_refuse)


library.register_autograd(_policy_loss, _differentiate_loss, setup_context=_keep_gradient)
library.register_autograd(_policy_gradient, _refuse, setup_context=_keep_nothing)
