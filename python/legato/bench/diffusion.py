"""Diffusion: one step, noise, whole chains and the ideal denoiser beside NumPy and torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from legato import diffusion as D
from legato.bench.timing import Row

__all__ = ["PEERS", "rows"]

PEERS = ("numpy", "torch")
_SHAPE = (1, 4, 128, 128)
_A, _B, _C, _G = 0.9, -0.2, 0.3, 5.0  # the step, its noise, and the guidance


def rows(peers: Mapping[str, Any]) -> Iterator[Row]:
    """Give the rows of the family, with those peers that are there."""
    torch = peers.get("torch")
    yield from _steps(torch)
    yield _fill(torch)
    yield _chains()
    yield _ideal(torch)


def _steps(torch: Any) -> Iterator[Row]:
    x, c, u = (D.normal(_SHAPE, seed) for seed in (1, 2, 3))
    out, more = np.empty_like(x), np.empty_like(x[..., :43])
    rng = np.random.Generator(np.random.SFC64(0))
    plain = {"NumPy": lambda: _A * x + _B * (u + _G * (c - u))}
    noisy = {
        "NumPy": lambda: _A * x + _B * (u + _G * (c - u)) + np.float32(_C) * rng.standard_normal(x.shape, np.float32)
    }
    if torch is not None:
        tx, tc, tu = (torch.from_numpy(array) for array in (x, c, u))
        plain["torch"] = lambda: _A * tx + _B * torch.lerp(tu, tc, _G)
        noisy["torch"] = lambda: (_A * tx + _B * torch.lerp(tu, tc, _G)).add_(torch.randn_like(tx), alpha=_C)
    still = np.asarray(plain["NumPy"]())

    def agree(ours: Any, theirs: Any) -> None:
        np.testing.assert_allclose(ours, np.asarray(theirs), 0, 1e-5)

    def agree_in_noise(ours: Any, theirs: Any) -> None:  # each draws its own
        for drawn in (ours, np.asarray(theirs)):
            assert abs((drawn - still).std() / _C - 1) < 0.02

    def limit() -> None:  # three reads and one write an element, as additions of as many bytes
        np.add(x, c, out=out)
        np.add(x[..., :43], c[..., :43], out=more)

    yield Row(
        "diffusion",
        "guided DDIM step, 65 536 float32",
        lambda: D.apply_step(x, c, (_A, _B, 0.0), u, _G, out=out),
        plain,
        agree,
        limit,
    )
    yield Row(
        "diffusion",
        "guided DDPM step with fresh noise, 65 536 float32",
        lambda: D.apply_step(x, c, (_A, _B, _C), u, _G, seeds=7, step=1, out=out),
        noisy,
        agree_in_noise,
    )


def _fill(torch: Any) -> Row:
    out = np.empty(_SHAPE, np.float32)
    rng = np.random.Generator(np.random.SFC64(0))
    others: dict[str, Any] = {"NumPy": lambda: rng.standard_normal(_SHAPE, np.float32)}
    if torch is not None:
        others["torch"] = lambda: torch.randn(_SHAPE)

    def agree(ours: Any, theirs: Any) -> None:
        for drawn in (ours, np.asarray(theirs)):
            assert abs(drawn.mean()) < 0.02
            assert abs(drawn.std() - 1) < 0.02

    return Row("diffusion", "65 536 normal float32", lambda: D.normal(_SHAPE, 1, out=out), others, agree)


def _chains() -> Row:
    """256 guided DDIM chains of 50 steps through a mixture of eight, models and steps in one call of ours."""
    angle = np.arange(8) * np.pi / 4
    means = 3 * np.stack([np.cos(angle), np.sin(angle)], 1)
    weights = np.array([8.0, 4, 2, 1, 1, 1, 2, 4])
    everything = D.GaussianMixture(np.ones(8), means, np.full(8, 0.2))
    pair = D.guided(everything.reweighted(weights), everything)
    schedule = D.Schedule.vp_linear(50)
    table = D.step_coefficients(schedule, "ddim", prediction="x0").astype(np.float32)
    start = D.normal((256, 2), 5, step=-1)
    mu, ratio = means.astype(np.float32), (8 * weights / weights.sum()).astype(np.float32)
    levels = np.stack([schedule.alpha[:-1], schedule.sigma[:-1]], 1).astype(np.float32)

    def by_numpy() -> Any:
        x = start
        for (alpha, sigma), (a, b, _) in zip(levels, table, strict=True):
            total = alpha * alpha * np.float32(0.2) + sigma * sigma
            off = x[:, None, :] - alpha * mu
            logit = np.float32(-0.5) * (off * off).sum(-1) / total
            e = np.exp(logit - logit.max(-1, keepdims=True))
            local = mu + (alpha * np.float32(0.2) / total) * off
            u = (e[..., None] * local).sum(1) / e.sum(1)[:, None]
            e = e * ratio
            c = (e[..., None] * local).sum(1) / e.sum(1)[:, None]
            x = a * x + b * (u + np.float32(3) * (c - u))
        return x

    def agree(ours: Any, theirs: Any) -> None:
        np.testing.assert_allclose(ours, theirs, 0, 2e-3)

    return Row(
        "diffusion",
        "256 guided chains of 50 steps, 2-D mixture of 8",
        lambda: D.sample(pair, (256, 2), schedule, "ddim", guidance_scale=3.0, x=start),
        {"NumPy": by_numpy},
        agree,
    )


def _ideal(torch: Any) -> Row:
    rng = np.random.default_rng(0)
    data = rng.random((1797, 64), np.float32)
    sigma = 0.5
    x = (data[rng.integers(len(data), size=256)] + sigma * rng.normal(size=(256, 64))).astype(np.float32)
    steep = np.float32(1 / sigma**2)
    bias = (-steep / 2 * (data * data).sum(1)).astype(np.float32)
    model = D.EmpiricalDenoiser(data)

    def by_numpy() -> Any:
        logits = steep * (x @ data.T) + bias
        weights = np.exp(logits - logits.max(1, keepdims=True))
        return (weights / weights.sum(1, keepdims=True)) @ data

    others: dict[str, Any] = {"NumPy": by_numpy}
    if torch is not None:
        q, y, b = (torch.from_numpy(array) for array in (x, data, bias))
        others["torch"] = lambda: torch.softmax(torch.addmm(b, q, y.T, alpha=float(steep)), 1) @ y

    def agree(ours: Any, theirs: Any) -> None:
        np.testing.assert_allclose(ours, np.asarray(theirs), 0, 1e-4)

    return Row(
        "diffusion", "ideal denoiser, 256 queries of 1797 x 64", lambda: model.denoise(x, 1.0, sigma), others, agree
    )
