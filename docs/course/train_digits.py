"""Train the course's denoiser on scikit-learn's digits: ``python docs/course/train_digits.py`` (torch, two minutes).

Pseudocode 6 of arXiv 2406.08929: draw an image, a level and a noise; regress the image. Writes `digits.npz`.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from digits import DATA_STD, FREQUENCIES, NO_LABEL, TRAINING, WEIGHTS, images

WIDTH = 192


def fresh_weights() -> dict[str, torch.Tensor]:
    shapes = {"pixels": (64, WIDTH), "level": (16, WIDTH), "label": (11, WIDTH), "bias": (WIDTH,)}
    for block in ("a", "b"):
        shapes |= {f"{block}1": (WIDTH, WIDTH), f"{block}1_bias": (WIDTH,), f"{block}2": (WIDTH, WIDTH)}
    shapes |= {"out": (WIDTH, 64), "out_bias": (64,)}
    small = {"a2", "b2", "out"}  # the network begins as its linear part
    weights = {}
    for name, shape in shapes.items():
        scale = 0.0 if len(shape) == 1 else (0.1 if name in small else 1.0) / shape[0] ** 0.5
        weights[name] = (scale * torch.randn(shape)).requires_grad_()
    return weights


def denoise(w: dict[str, torch.Tensor], x: torch.Tensor, noise: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """`digits.Denoiser.denoise` at alpha 1, with a level and a label for each row."""
    silu = torch.nn.functional.silu
    total = (noise**2 + DATA_STD**2).sqrt()
    angle = noise.log() / 4 * torch.from_numpy(FREQUENCIES)
    level = torch.cat([angle.cos(), angle.sin()], 1)
    h = (x / total) @ w["pixels"] + level @ w["level"] + w["label"][labels] + w["bias"]
    for block in ("a", "b"):
        h = h + silu(silu(h) @ w[f"{block}1"] + w[f"{block}1_bias"]) @ w[f"{block}2"]
    out = silu(h) @ w["out"] + w["out_bias"]
    return DATA_STD**2 / total**2 * x + noise * DATA_STD / total * out


def train(steps: int, batch: int = 256) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    pixels, labels = (torch.from_numpy(a[:TRAINING]) for a in images())
    weights = fresh_weights()
    optimizer = torch.optim.AdamW(weights.values(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    average = {name: w.detach().clone() for name, w in weights.items()}
    begin = time.perf_counter()
    for step in range(steps):
        rows = torch.randint(TRAINING, (batch,))
        noise = (1.4 * torch.randn(batch, 1) - 0.6).exp()
        shown = torch.where(torch.rand(batch) < 0.2, NO_LABEL, labels[rows])
        x0 = pixels[rows]
        error = denoise(weights, x0 + noise * torch.randn_like(x0), noise, shown) - x0
        weight = (noise**2 + DATA_STD**2) / (noise * DATA_STD) ** 2
        loss = (weight * error**2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            for name, w in weights.items():
                average[name].lerp_(w, 1 - min(0.999, (1 + step) / (10 + step)))
        if (step + 1) % 1000 == 0:
            print(f"step {step + 1}: loss {loss.item():.4f}, {time.perf_counter() - begin:.0f} s", flush=True)
    return average


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000)
    weights = train(parser.parse_args().steps)
    np.savez_compressed(WEIGHTS, **{name: w.numpy().astype(np.float16) for name, w in weights.items()})
    print(f"{WEIGHTS}: {WEIGHTS.stat().st_size} bytes")
