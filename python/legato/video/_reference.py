"""What the compiled video kernels should compute, in double precision and without tricks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["bicubic_weights", "lanczos_weights", "positions", "warp_plane"]

Floats = NDArray[np.float64]


def positions(correction: NDArray[Any], size: tuple[int, int]) -> tuple[Floats, Floats]:
    """Source coordinates of every pixel of an output of `size` (width, height)."""
    y, x = np.mgrid[: size[1], : size[0]].astype(np.float64)
    H = np.asarray(correction, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        w = H[2, 0] * x + H[2, 1] * y + H[2, 2]
        return (H[0, 0] * x + H[0, 1] * y + H[0, 2]) / w, (H[1, 0] * x + H[1, 1] * y + H[1, 2]) / w


def bicubic_weights(t: Floats, a: float = -0.75) -> list[Floats]:
    """Weights of the samples at -1, 0, 1, 2 for a position t in [0, 1); Keys 1981, equation 4."""

    def near(s: Floats) -> Floats:
        return ((a + 2) * s - (a + 3)) * s * s + 1

    def far(s: Floats) -> Floats:
        return ((a * s - 5 * a) * s + 8 * a) * s - 4 * a

    return [far(1 + t), near(t), near(1 - t), far(2 - t)]


def lanczos_weights(t: Floats) -> list[Floats]:
    """Weights of the samples at -3 to 4: sinc(x) sinc(x / 4), normalized to sum one."""
    weights = [np.sinc(t - k) * np.sinc((t - k) / 4) for k in range(-3, 5)]
    total = sum(weights)
    return [w / total for w in weights]


def warp_plane(
    plane: NDArray[Any], correction: NDArray[Any], size: tuple[int, int], interpolation: str = "bilinear"
) -> Floats:
    """One plane resampled, (h, w) floats, neither rounded nor clipped; edges replicated."""
    x, y = positions(correction, size)
    height, width = plane.shape
    x, y = np.clip(x, -16, width + 16), np.clip(y, -16, height + 16)
    left, top = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    weights = {"bilinear": lambda t: [1 - t, t], "bicubic": bicubic_weights, "lanczos": lanczos_weights}[interpolation]
    across, down = weights(x - left), weights(y - top)
    first = 1 - len(across) // 2
    source = plane.astype(np.float64)
    total = np.zeros(x.shape)
    for r, wy in enumerate(down):
        row = np.clip(top + first + r, 0, height - 1)
        total += wy * sum(wx * source[row, np.clip(left + first + c, 0, width - 1)] for c, wx in enumerate(across))
    return total
