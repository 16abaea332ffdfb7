"""Reinforcement fine-tuning: statistics of tokens, GAE and group advantages beside NumPy, numba and torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from legato import rft
from legato.bench.timing import Row

__all__ = ["PEERS", "rows"]

PEERS = ("numpy", "numba", "torch")


def rows(peers: Mapping[str, Any]) -> Iterator[Row]:
    """Give the rows of the family, with those peers that are there."""
    yield _token_stats(peers.get("torch"))
    yield _gae(peers.get("numba"))
    yield _advantages()


def _token_stats(torch: Any) -> Row:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((256, 32000), np.float32) * 2
    ids = rng.integers(0, 32000, 256)

    def by_numpy() -> tuple[np.ndarray, np.ndarray]:
        shifted = logits - logits.max(1, keepdims=True)
        logp = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        return logp[np.arange(256), ids], -(np.exp(logp) * logp).sum(1)

    others: dict[str, Any] = {"NumPy": by_numpy}
    if torch is not None:
        z, t = torch.from_numpy(logits), torch.from_numpy(ids)

        def by_torch() -> tuple[Any, Any]:
            logp = torch.log_softmax(z, -1)
            return logp.gather(-1, t[:, None])[:, 0], -(logp.exp() * logp).sum(-1)

        others["torch"] = by_torch

    def agree(ours: Any, theirs: Any) -> None:
        np.testing.assert_allclose(ours.logp, np.asarray(theirs[0]), 0, 1e-4)
        np.testing.assert_allclose(ours.entropy, np.asarray(theirs[1]), 0, 1e-3)

    return Row(
        "rft",
        "log-probability and entropy, 256 x 32 000 float32",
        lambda: rft.token_stats(logits, ids),
        others,
        agree,
        logits.max,
    )


def _gae(numba: Any) -> Row:
    rng = np.random.default_rng(0)
    r, v = (rng.standard_normal((512, 512), np.float32) for _ in range(2))
    m = np.arange(512) < rng.integers(1, 513, (512, 1))

    def loop(r: Any, v: Any, m: Any, gamma: float, lam: float) -> Any:
        out, returns = np.zeros_like(r), np.zeros_like(r)
        for i in range(r.shape[0]):
            last, value = 0.0, 0.0
            for t in range(r.shape[1] - 1, -1, -1):
                if m[i, t]:
                    last = r[i, t] + gamma * value - v[i, t] + gamma * lam * last
                    value = v[i, t]
                    out[i, t], returns[i, t] = last, last + value
        return out, returns

    others: dict[str, Any] = {"our NumPy twin": lambda: rft.gae(r, v, m, 1.0, 0.95, backend="numpy")}
    if numba is not None:
        compiled = numba.njit(loop)
        others["numba"] = lambda: compiled(r, v, m, 1.0, 0.95)

    def agree(ours: Any, theirs: Any) -> None:
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine, other, 0, 1e-3)

    return Row("rft", "GAE and returns, 512 x 512 float32", lambda: rft.gae(r, v, m, 1.0, 0.95), others, agree)


def _advantages() -> Row:
    rng = np.random.default_rng(0)
    g, r = rng.permutation(np.arange(4096) % 512), rng.normal(size=4096)

    def by_numpy() -> Any:
        n = np.bincount(g, minlength=512)
        centered = r - (np.bincount(g, r, 512) / n)[g]
        return centered / (np.sqrt(np.bincount(g, centered * centered, 512) / (n - 1)) + 1e-4)[g]

    def agree(ours: Any, theirs: Any) -> None:
        np.testing.assert_allclose(ours, theirs, 1e-8, 1e-9)

    return Row(
        "rft",
        "group advantages, 4096 rewards in 512 groups",
        lambda: rft.group_advantages(r, g),
        {"NumPy bincount": by_numpy},
        agree,
    )
