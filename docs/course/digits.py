"""The digits of the course: the data, and the small network that was trained on them, in NumPy.

`train_digits.py` makes the weights; nothing here needs torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

WEIGHTS = Path(__file__).with_name("digits.npz")
DATA_STD = 0.75  # of a pixel, over the training images
TRAINING = 1500  # the first 1500 images train, the other 297 are never shown to the network
NO_LABEL = 10
FREQUENCIES = 2.0 ** np.arange(8, dtype=np.float32)


def images() -> tuple[Floats, NDArray[np.int64]]:
    """Return the 1797 digits of scikit-learn as rows of 64 pixels in [-1, 1], shuffled by a fixed seed, and labels."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(pixels))
    return (pixels[order] / 8.0 - 1.0).astype(np.float32), labels[order].astype(np.int64)


@dataclass(frozen=True)
class Denoiser:
    """The trained network as a model for `legato.diffusion.sample`: it predicts eps at any level (alpha, sigma).

    With a label it is the conditional model, without one the unconditional model; both are one network, which saw no
    label in every fifth image of its training.
    """

    weights: dict[str, Floats]
    label: int | None = None
    dimension = 64

    @classmethod
    def load(cls) -> Denoiser:
        with np.load(WEIGHTS) as file:
            return cls({name: file[name].astype(np.float32) for name in file.files})

    def given(self, label: int) -> Denoiser:
        return Denoiser(self.weights, label)

    def denoise(self, x: Floats, alpha: float, sigma: float) -> Floats:
        """Estimate E[x0 | x], with the preconditioning of Karras et al. (2022), table 1, at the noise sigma / alpha."""
        w, noise = self.weights, np.float32(sigma / alpha)
        total = np.sqrt(noise**2 + DATA_STD**2)
        seen = x / np.float32(alpha)
        angle = np.log(noise) / 4 * FREQUENCIES
        level = np.concatenate([np.cos(angle), np.sin(angle)])
        label = np.zeros(11, np.float32)
        label[NO_LABEL if self.label is None else self.label] = 1
        h = (seen / total) @ w["pixels"] + level @ w["level"] + label @ w["label"] + w["bias"]
        for block in ("a", "b"):
            h = h + silu(silu(h) @ w[f"{block}1"] + w[f"{block}1_bias"]) @ w[f"{block}2"]
        out = silu(h) @ w["out"] + w["out_bias"]
        return (DATA_STD**2 / total**2 * seen + noise * DATA_STD / total * out).astype(x.dtype)

    def __call__(self, x: Floats, alpha: float, sigma: float, _k: int) -> Floats:
        return (x - np.float32(alpha) * self.denoise(x, alpha, sigma)) / np.float32(sigma)


def silu(x: Floats) -> Floats:
    return x / (1 + np.exp(-x))
