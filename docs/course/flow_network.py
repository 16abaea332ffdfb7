"""The course's flow from an annulus to a spiral: points of both, and the small network that was trained on them.

`train_flow.py` makes the weights; nothing here needs torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

WEIGHTS = Path(__file__).with_name("flow.npz")
FREQUENCIES = np.pi * 2.0 ** np.arange(4, dtype=np.float32)  # of the time


def annulus(count: int, seed: int) -> Floats:
    """Return points between radius 2 and radius 3, evenly by area: a base that is no Gaussian."""
    rng = np.random.default_rng(seed)
    radius, angle = np.sqrt(rng.uniform(4, 9, count)), rng.uniform(0, 2 * np.pi, count)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).astype(np.float32)


def spiral(count: int, seed: int) -> Floats:
    """Return points of a spiral of one and a quarter turns, with noise of 0.03 about it."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0.5, 3.0, count) * np.pi
    points = np.stack([angle * np.cos(angle), angle * np.sin(angle)], 1) / 5
    return (points + 0.03 * rng.normal(size=points.shape)).astype(np.float32)


def distance_to_spiral(x: Floats) -> NDArray[np.float64]:
    """Return how far points are from the spiral's line."""
    angle = np.linspace(0.5, 3.0, 2000) * np.pi
    line = np.stack([angle * np.cos(angle), angle * np.sin(angle)], 1) / 5
    return np.asarray(np.linalg.norm(x[:, None] - line, axis=2).min(axis=1))


@dataclass(frozen=True)
class Flow:
    """The trained network as a model for `legato.diffusion.sample`: it predicts x1 - x0, called "flow" there.

    The points of the base stand where noise would, so alpha is 1 - t and sigma is t.
    """

    weights: dict[str, Floats]

    @classmethod
    def load(cls, which: str = "trained") -> Flow:
        """Read the network as "trained", or as it was "early" in its training."""
        with np.load(WEIGHTS) as file:
            names = [name for name in file.files if name.startswith(which)]
            return cls({name.partition("_")[2]: file[name].astype(np.float32) for name in names})

    def __call__(self, x: Floats, _alpha: float, sigma: float, _k: int) -> Floats:
        w, angle = self.weights, np.float32(sigma) * FREQUENCIES
        time = np.concatenate([[np.float32(sigma)], np.cos(angle), np.sin(angle)])
        h = silu(x @ w["points"] + time @ w["time"] + w["bias"])
        for block in ("a", "b"):
            h = h + silu(h @ w[block] + w[f"{block}bias"])
        return (h @ w["out"] + w["outbias"]).astype(x.dtype)


def silu(x: Floats) -> Floats:
    return x / (1 + np.exp(-x))
