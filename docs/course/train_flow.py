"""Train the course's flow from an annulus to a spiral: ``python docs/course/train_flow.py`` (torch, half a minute).

Pseudocode 4 of arXiv 2406.08929: draw both ends and a time, regress the difference. Writes `flow.npz`, with the network
as it was after 200 steps beside it.
"""

from __future__ import annotations

import numpy as np
import torch
from flow_network import FREQUENCIES, WEIGHTS, annulus, spiral

WIDTH, STEPS, EARLY, BATCH = 96, 2500, 200, 256


def fresh_weights() -> dict[str, torch.Tensor]:
    shapes = {"points": (2, WIDTH), "time": (1 + 2 * len(FREQUENCIES), WIDTH), "bias": (WIDTH,)}
    shapes |= {"a": (WIDTH, WIDTH), "abias": (WIDTH,), "b": (WIDTH, WIDTH), "bbias": (WIDTH,)}
    shapes |= {"out": (WIDTH, 2), "outbias": (2,)}
    return {
        name: ((torch.randn(shape) / shape[0] ** 0.5) if len(shape) > 1 else torch.zeros(shape)).requires_grad_()
        for name, shape in shapes.items()
    }


def velocity(w: dict[str, torch.Tensor], x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """`flow_network.Flow`, with a time for each row."""
    silu = torch.nn.functional.silu
    angle = t * torch.from_numpy(FREQUENCIES)
    h = silu(x @ w["points"] + torch.cat([t, angle.cos(), angle.sin()], 1) @ w["time"] + w["bias"])
    for block in ("a", "b"):
        h = h + silu(h @ w[block] + w[f"{block}bias"])
    return h @ w["out"] + w["outbias"]


def train() -> dict[str, np.ndarray]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    weights, stored = fresh_weights(), {}
    optimizer = torch.optim.Adam(weights.values(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for step in range(STEPS):
        if step == EARLY:
            stored |= {f"early_{name}": w.detach().numpy().astype(np.float16) for name, w in weights.items()}
        x0, x1 = (torch.from_numpy(ends(BATCH, 2 * step + i)) for i, ends in enumerate((spiral, annulus)))
        t = torch.rand(BATCH, 1)
        loss = ((velocity(weights, t * x1 + (1 - t) * x0, t) - (x1 - x0)) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 1000 == 0:
            print(f"step {step + 1}: loss {loss.item():.3f}", flush=True)
    return stored | {f"trained_{name}": w.detach().numpy().astype(np.float16) for name, w in weights.items()}


if __name__ == "__main__":
    np.savez_compressed(WEIGHTS, **train())
    print(f"{WEIGHTS}: {WEIGHTS.stat().st_size} bytes")
