"""What the compiled video kernels should compute, in double precision and without tricks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "bicubic_weights",
    "corner_response",
    "corners",
    "follow",
    "lanczos_weights",
    "positions",
    "pyramid",
    "refit",
    "warp_plane",
]

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


def halved(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mean of two by two pixels, rounded; an odd last row or column is left out."""
    h, w = image.shape[0] // 2, image.shape[1] // 2
    wide = image[: 2 * h, : 2 * w].astype(np.int64)
    total = (wide[::2, ::2] + wide[::2, 1::2] + wide[1::2, ::2] + wide[1::2, 1::2] + 2) >> 2
    return np.asarray(total.astype(np.uint8))


def pyramid(image: NDArray[np.uint8], shortest: int = 12, most: int = 5) -> list[NDArray[np.uint8]]:
    """Levels by halves, the image itself first, while both sides keep `shortest` pixels."""
    levels = [image]
    while len(levels) < most and min(image.shape) >> len(levels) >= shortest:
        levels.append(halved(levels[-1]))
    return levels


def corner_response(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Smaller eigenvalue of the structure tensor of Sobel gradients over 3 x 3 pixels (Shi and Tomasi 1994)."""
    h, w = image.shape
    p = np.pad(image, 2, mode="edge").astype(np.int64)
    across, down = p[:, 2:] - p[:, :-2], p[2:] - p[:-2]
    gx = across[:-2] + 2 * across[1:-1] + across[2:]
    gy = down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]

    def summed(product: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.asarray(sum(product[r : r + h, c : c + w] for r in range(3) for c in range(3)))

    a, b, c = summed(gx * gx), summed(gx * gy), summed(gy * gy)
    half, side, cross = (v.astype(np.float32) for v in (a + c, a - c, b))
    half, side = np.float32(0.5) * half, np.float32(0.5) * side
    response: NDArray[np.float32] = half - np.sqrt(side * side + cross * cross)
    return response


def corners(image: NDArray[np.uint8], most: int) -> NDArray[np.float32]:
    """Corners (n, 2), best first: the strongest of each cell of a grid, and a quota for each of 6 x 4 parts.

    Sought on the half of an image wider than 640 pixels. The same bits as the compiled kernel.
    """
    levels = pyramid(image)
    index = 1 if image.shape[1] > 640 and len(levels) > 1 else 0
    level = levels[index]
    h, w = level.shape
    border, cell = 3, max(4, math.floor(math.sqrt(w * h / 620) + 0.5))
    response = corner_response(level)
    response[border + 1 :: 2] = 0  # three rows go into a response, so every second tells enough
    best: dict[tuple[int, int], tuple[np.float32, int, int]] = {}
    for top in range(0, h, cell):
        for left in range(0, w, cell):
            x0, y0 = max(left, border), max(top, border)
            block = response[y0 : min(top + cell, h - border), x0 : min(left + cell, w - border)]
            if block.size == 0 or block.max() <= 0:
                continue
            x, y = np.argwhere(block.max() == block.T)[0]  # the first column, in it the first row
            best[top // cell, left // cell] = block.max(), x0 + int(x), y0 + int(y)
    if not best:
        return np.empty((0, 2), np.float32)
    least = max(np.float32(120), np.float32(1e-3) * max(score for score, _, _ in best.values()))
    strong = {place: corner for place, corner in best.items() if corner[0] > least}
    kept = []
    for (r, c), (score, x, y) in strong.items():
        near = [(r + i, c + j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i or j) and (r + i, c + j) in strong]
        # Of two that are closer than half a cell the weaker goes; of equals, the later.
        if not any(
            (strong[n][0] > score or (strong[n][0] == score and n < (r, c)))
            and (strong[n][1] - x) ** 2 + (strong[n][2] - y) ** 2 < 0.25 * cell * cell
            for n in near
        ):
            kept.append((-score, (r, c), x, y))
    quota, held = -(-(most * 13 // 10) // 24), np.zeros(24, int)
    points: list[tuple[int, int]] = []
    for _, _, x, y in sorted(kept):
        part = y * 4 // h * 6 + x * 6 // w
        held[part] += 1
        if held[part] <= quota and len(points) < most:
            points.append((x, y))
    scale = np.float32(1 << index)
    return (np.array(points, np.float32).reshape(-1, 2) + np.float32(0.5)) * scale - np.float32(0.5)


def follow(
    before: NDArray[np.uint8], after: NDArray[np.uint8], points: NDArray[Any], steps: int = 10, window: int = 15
) -> Floats:
    """Pyramidal Lucas-Kanade (Bouguet 2001), forward: where points (n, 2) are in the other picture.

    Gradients are Scharr's, of the interpolated template. NaN where the picture has no texture.
    """
    reach = window // 2
    grid_y, grid_x = np.mgrid[-reach - 1 : reach + 2, -reach - 1 : reach + 2].astype(np.float64)
    levels = list(zip(pyramid(before), pyramid(after), strict=True))
    moved = np.zeros_like(points, np.float64)
    for k in range(len(levels) - 1, -1, -1):
        first, second = levels[k]
        place = (points.astype(np.float64) + 0.5) / 2**k - 0.5
        moved *= 2.0 if k < len(levels) - 1 else 1.0
        patch = _bilinear(first, place[:, 0, None, None] + grid_x, place[:, 1, None, None] + grid_y)
        side, middle = 3 / 32, 10 / 32
        dx, dy = patch[:, :, 2:] - patch[:, :, :-2], patch[:, 2:] - patch[:, :-2]
        gx = side * (dx[:, :-2] + dx[:, 2:]) + middle * dx[:, 1:-1]
        gy = side * (dy[:, :, :-2] + dy[:, :, 2:]) + middle * dy[:, :, 1:-1]
        a, b, c = ((p * q).sum((1, 2)) for p, q in ((gx, gx), (gx, gy), (gy, gy)))
        least = 0.5 * (a + c - np.sqrt((a - c) ** 2 + 4 * b * b))
        flat = least < 0.25 * window * window
        if k == 0:
            moved[flat] = np.nan
        moving = ~flat
        for _ in range(steps):
            at = place + moved
            here = _bilinear(
                second, at[:, 0, None, None] + grid_x[1:-1, 1:-1], at[:, 1, None, None] + grid_y[1:-1, 1:-1]
            )
            difference = patch[:, 1:-1, 1:-1] - here
            e, f = (difference * gx).sum((1, 2)), (difference * gy).sum((1, 2))
            with np.errstate(divide="ignore", invalid="ignore"):
                step = np.stack([c * e - b * f, a * f - b * e], 1) / (a * c - b * b)[:, None]
            moved[moving] += step[moving]
            moving &= (step**2).sum(1) >= 0.01**2
    return np.asarray(points + moved)


def _bilinear(image: NDArray[np.uint8], x: Floats, y: Floats) -> Floats:
    h, w = image.shape
    x, y = np.nan_to_num(x, nan=-100.0), np.nan_to_num(y, nan=-100.0)
    left, top = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    fx, fy = x - left, y - top
    columns, rows = (np.clip(left + i, 0, w - 1) for i in (0, 1)), [np.clip(top + i, 0, h - 1) for i in (0, 1)]
    (near, far), source = columns, image.astype(np.float64)
    upper, lower = (source[r, near] * (1 - fx) + source[r, far] * fx for r in rows)
    return np.asarray(upper * (1 - fy) + lower * fy)


def refit(
    matrix: NDArray[Any], here: NDArray[Any], there: NDArray[Any], threshold_px: float = 0.5, steps: int = 60
) -> Floats:
    """Geman-McClure reweighted least squares of a homography, from `matrix`, until it stands still.

    The scale is 1.4826 times the median error of the matches within six thresholds, at least 0.1 px; a match has lost
    three quarters of its weight at four times that.
    """
    x, y = here.T.astype(np.float64)
    H = np.asarray(matrix, np.float64) / matrix[2][2]
    for _ in range(steps):
        w = H[2, 0] * x + H[2, 1] * y + H[2, 2]
        u, v = (H[0, 0] * x + H[0, 1] * y + H[0, 2]) / w, (H[1, 0] * x + H[1, 1] * y + H[1, 2]) / w
        p, q = u - there[:, 0], v - there[:, 1]
        error = np.hypot(p, q)
        near = np.sort(error[error < 6 * threshold_px])
        near = near if len(near) >= 4 else np.sort(error)
        sigma = max(1.4826 * near[len(near) // 2], 0.1)
        weight = 1 / (1 + (error / (4 * sigma)) ** 2)  # the root of the weight
        zero, one = np.zeros_like(x), np.ones_like(x)
        across = np.stack([x, y, one, zero, zero, zero, -u * x, -u * y], 1) / w[:, None]
        down = np.stack([zero, zero, zero, x, y, one, -v * x, -v * y], 1) / w[:, None]
        rows = np.concatenate([across, down]) * np.concatenate([weight, weight])[:, None]
        step = np.linalg.lstsq(rows, -np.concatenate([p, q]) * np.concatenate([weight, weight]), rcond=None)[0]
        H = H + np.append(step, 0).reshape(3, 3)
        if np.abs(step).max() < 1e-12:
            break
    return np.asarray(H)
