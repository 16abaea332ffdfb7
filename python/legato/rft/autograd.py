"""Log-probabilities and entropies of tokens inside torch's autograd, on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from legato.errors import DependencyError
from legato.rft.tokens import TokenStats, token_stats, token_stats_backward

__all__ = ["token_logp_entropy"]


def token_logp_entropy(logits: Any, ids: Any, temperature: float = 1.0, threads: int = 1) -> tuple[Any, Any]:
    """Log-probability and entropy of tokens, differentiable with respect to the logits.

    Parameters
    ----------
    logits : torch.Tensor, shape (..., v)
        float32, bfloat16 or float16 in CPU memory; read in place where contiguous.
    ids : torch.Tensor of int64, shape (...)
    temperature : float
    threads : int

    Returns
    -------
    logp, entropy : torch.Tensor, shape (...), float32
        The backward pass makes one tensor of the size of the logits, the gradient.
    """
    try:
        import torch
    except ImportError:
        raise DependencyError("torch is missing: pip install torch") from None

    class Function(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, z: Any) -> tuple[Any, Any]:
            stats = token_stats(z, ids.reshape(-1), temperature, threads=threads)
            ctx.save_for_backward(z)
            ctx.stats = stats
            return torch.from_numpy(stats.logp), torch.from_numpy(stats.entropy)

        @staticmethod
        def backward(ctx: Any, grad_logp: Any, grad_entropy: Any) -> Any:
            (z,) = ctx.saved_tensors
            stats: TokenStats = ctx.stats
            gradient = torch.empty_like(z)
            token_stats_backward(
                z,
                ids.reshape(-1),
                stats,
                np.ascontiguousarray(grad_logp.numpy()),
                np.ascontiguousarray(grad_entropy.numpy()),
                temperature,
                out=gradient,
                threads=threads,
            )
            return gradient

    flat = logits.reshape(-1, logits.shape[-1]).contiguous()
    logp, entropy = Function.apply(flat)
    return logp.reshape(ids.shape), entropy.reshape(ids.shape)
