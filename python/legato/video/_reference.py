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
    "extended",
    "fill_picture",
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
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    points: NDArray[Any],
    steps: int = 10,
    window: int = 15,
    start: Floats | None = None,
) -> Floats:
    """Pyramidal Lucas-Kanade (Bouguet 2001), forward: where points (n, 2) are in the other picture.

    With a `start` near the goal two levels are enough. Gradients are Scharr's, of the interpolated template. NaN where
    the picture has no texture.
    """
    reach = window // 2
    grid_y, grid_x = np.mgrid[-reach - 1 : reach + 2, -reach - 1 : reach + 2].astype(np.float64)
    levels = list(zip(pyramid(before), pyramid(after), strict=True))
    levels = levels if start is None else levels[:2]
    moved = np.zeros_like(points, np.float64) if start is None else (start - points) / 2 ** (len(levels) - 1)
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


def extended(values: Floats, weights: Floats, trust: float) -> Floats:
    """Weighted values (h, w, c) continued smoothly to where the weights (h, w) vanish.

    Pull-push (Gortler et al., SIGGRAPH 1996, section 3.4): means of what is known, coarser and coarser; then each finer
    level keeps what it knows, and takes the rest from the coarser one, which counts as `trust` of a weight.
    """
    h, w = weights.shape
    if min(h, w) <= 3:
        return np.asarray(values / (weights + 1e-9)[..., None])

    def halved_along(a: Floats, axis: int) -> Floats:
        n = a.shape[axis]
        first = 2 * np.arange((n + 1) // 2)
        taps = ((-1, 1 / 8), (0, 3 / 8), (1, 3 / 8), (2, 1 / 8))
        return np.asarray(sum(k * np.take(a, np.clip(first + i, 0, n - 1), axis) for i, k in taps))

    def doubled_along(a: Floats, axis: int, n: int) -> Floats:
        at = np.arange(n)
        near = np.minimum(at // 2, a.shape[axis] - 1)
        far = np.clip(near + np.where(at % 2 == 0, -1, 1), 0, a.shape[axis] - 1)
        return np.asarray(0.75 * np.take(a, near, axis) + 0.25 * np.take(a, far, axis))

    coarse = extended(halved_along(halved_along(values, 0), 1), halved_along(halved_along(weights, 0), 1), trust)
    up = doubled_along(doubled_along(coarse, 0, h), 1, w)
    return np.asarray((values + trust * up) / (weights + trust)[..., None])


class _Tiles:
    """The grid of a picture on which lives what varies slowly: values at nodes, `side` pixels apart."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.unit = max(1, (max(size) + 320) // 640)
        self.side = 8 * self.unit
        self.cells = -(-size[1] // self.side), -(-size[0] // self.side)

    def nodes(self) -> tuple[Floats, Floats]:
        y, x = np.mgrid[: self.cells[0] + 1, : self.cells[1] + 1].astype(np.float64) * self.side
        return x, y

    def pixels(self, nodes: Floats) -> Floats:
        """Interpolate a quantity (rows + 1, columns + 1) bilinearly."""
        (y, fy), (x, fx) = (np.divmod(np.arange(n) / self.side, 1.0) for n in self.size[::-1])
        y, x = y.astype(int), x.astype(int)
        a, b, c, d = nodes[y][:, x], nodes[y][:, x + 1], nodes[y + 1][:, x], nodes[y + 1][:, x + 1]
        top, bottom = a + fx * (b - a), c + fx * (d - c)
        return np.asarray(top + fy[:, None] * (bottom - top))

    def between(self, cells: Floats) -> Floats:
        """Give the nodes the mean of the cells around them."""
        p = np.pad(cells, 1, mode="edge")
        return np.asarray((p[:-1, :-1] + p[:-1, 1:] + p[1:, :-1] + p[1:, 1:]) / 4)

    def sums(self, pixels: NDArray[Any]) -> Floats:
        """Add up over each tile."""
        full = np.zeros((self.cells[0] * self.side, self.cells[1] * self.side))
        full[: pixels.shape[0], : pixels.shape[1]] = pixels
        return np.asarray(full.reshape(self.cells[0], self.side, self.cells[1], self.side).sum((1, 3)))


def fill_picture(
    drawn: NDArray[np.uint8],
    frame: NDArray[np.uint8],
    correction: NDArray[Any],
    sources: list[tuple[NDArray[np.uint8], NDArray[Any], int]],
    fade_frames: float = 3.5,
) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """Complete a gray picture from other frames, as `legato::video::fill` does; without the membrane.

    Parameters
    ----------
    drawn : (h, w) uint8 array
        What `warp` made of `frame` by `correction`.
    frame : (fh, fw) uint8 array
        At most 960 pixels wide.
    correction : (3, 3) array
    sources : list of (picture, map from the frame to it, frames between them)
        Nearest first.

    Returns
    -------
    filled : (h, w) float64 array
        NaN where no source reaches.
    outside : (h, w) bool array
        What lies outside of the frame.
    errors : (rows, columns) float64 array
        Mean predicted error of what was filled in each tile.
    """
    tiles = _Tiles((drawn.shape[1], drawn.shape[0]))
    unit, size = tiles.unit, (frame.shape[1], frame.shape[0])
    place = _moved(np.asarray(correction, np.float64), *tiles.nodes())
    x, y = (tiles.pixels(p) for p in place)
    inside = _depth(x, y, size)
    outside = inside < 0
    needy = tiles.sums(outside) > 0
    near = np.zeros_like(needy)
    for i in range(-3, 4):
        for j in range(-3, 4):
            rows, columns = (np.clip(np.arange(n) + k, 0, n - 1) for n, k in zip(needy.shape, (i, j), strict=True))
            near |= needy[rows][:, columns]
    deepest = _depth(*place, size)
    deepest = np.maximum.reduce([deepest[:-1, :-1], deepest[:-1, 1:], deepest[1:, :-1], deepest[1:, 1:]])
    band = near & (deepest >= 0)
    points = corners(frame, 224).astype(np.float64)
    points = points[_depth(points[:, 0], points[:, 1], size) <= 64 * unit]
    seen = np.stack(_moved(np.linalg.inv(correction), *points.T), 1)
    points = points[((seen >= 0) & (seen < np.array([tiles.cells[1], tiles.cells[0]]) * tiles.side)).all(1)][:72]
    value, square, whole, risk = (np.zeros(drawn.shape) for _ in range(4))
    first = np.full(tiles.cells, np.inf)
    for picture, there, distance in sources:
        shift = _extended_shift(tiles, frame, picture, np.asarray(there, np.float64), points, correction)
        sx, sy = (tiles.pixels(p) for p in _moved(there, place[0] + shift[0], place[1] + shift[1]))
        known = _depth(sx, sy, size) - 2
        shown = _bicubic(picture, sx, sy)
        step = np.zeros(drawn.shape)
        step[unit // 2 :: 2 * unit, unit // 2 :: 2 * unit] = 1
        in_band = np.repeat(np.repeat(band, tiles.side, 0), tiles.side, 1)[: drawn.shape[0], : drawn.shape[1]]
        weight = step * in_band * (inside >= 1) * (known >= 0) * (np.exp(-(inside - 1) / (12 * unit)) + 1e-3)
        difference = drawn - _bilinear(picture, np.clip(sx, 0, size[0] - 1), np.clip(sy, 0, size[1] - 1))
        each = tiles.sums(weight) / 16
        color = tiles.sums(weight * np.clip(difference, -40, 40)) / 16
        mean = np.repeat(np.repeat(color / np.maximum(each, 1e-12), tiles.side, 0), tiles.side, 1)
        error = tiles.sums(weight * np.abs(difference - mean[: drawn.shape[0], : drawn.shape[1]])) / 16
        known_there = extended(np.stack([color, error], 2), each, 0.02)
        color, error = (tiles.pixels(tiles.between(known_there[..., i])) for i in (0, 1))
        w = np.clip(known / (12 * unit), 0, 1) * np.exp(-distance / fade_frames) / (error**2 + 4)
        late = distance > first + 2.2 * fade_frames
        w[np.repeat(np.repeat(late, tiles.side, 0), tiles.side, 1)[: drawn.shape[0], : drawn.shape[1]]] = 0
        value += w * (shown + color)
        square += w * (shown + color) ** 2
        whole += w
        risk += w * error
        ends = _depth(*_moved(there, place[0] + shift[0], place[1] + shift[1]), size) - 2 > 0.3 * 12 * unit
        covered = ends[:-1, :-1] & ends[:-1, 1:] & ends[1:, :-1] & ends[1:, 1:]
        first = np.where(covered & needy & ~np.isfinite(first), distance, first)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = value / whole
        predicted = risk / whole + 2 * np.sqrt(np.maximum(square / whole - mean**2, 0))
    own = np.clip(inside / (6 * unit), 0, 1)
    near_seam = np.repeat(np.repeat(near, tiles.side, 0), tiles.side, 1)[: drawn.shape[0], : drawn.shape[1]]
    feathered = (own < 1) & near_seam & (whole > 1e-9)
    filled = np.where(feathered, own * drawn + (1 - own) * mean, drawn)
    filled[outside & ~(whole > 1e-9)] = np.nan
    count = tiles.sums(outside & (whole > 1e-9))
    with np.errstate(invalid="ignore"):
        errors = tiles.sums(np.where(outside & (whole > 1e-9), predicted, 0)) / np.maximum(count, 1)
    return filled, outside, errors


def _moved(matrix: NDArray[Any], x: Floats, y: Floats) -> tuple[Floats, Floats]:
    w = matrix[2][0] * x + matrix[2][1] * y + matrix[2][2]
    return (matrix[0][0] * x + matrix[0][1] * y + matrix[0][2]) / w, (
        matrix[1][0] * x + matrix[1][1] * y + matrix[1][2]
    ) / w


def _depth(x: Floats, y: Floats, size: tuple[int, int]) -> Floats:
    """How far inside of a picture a position lies; negative outside."""
    return np.asarray(np.minimum(np.minimum(x, size[0] - 1 - x), np.minimum(y, size[1] - 1 - y)))


def _bicubic(image: NDArray[np.uint8], x: Floats, y: Floats) -> Floats:
    h, w = image.shape
    x, y = np.clip(x, -1, w), np.clip(y, -1, h)
    left, top = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    across, down = bicubic_weights(x - left), bicubic_weights(y - top)
    rows, columns = ([np.clip(at - 1 + i, 0, n - 1) for i in range(4)] for at, n in ((top, h), (left, w)))
    source = image.astype(np.float64)
    lines = [sum(a * source[r, c] for a, c in zip(across, columns, strict=True)) for r in rows]
    return np.asarray(sum(d * line for d, line in zip(down, lines, strict=True)))


def _extended_shift(
    tiles: _Tiles,
    frame: NDArray[np.uint8],
    picture: NDArray[np.uint8],
    there: Floats,
    points: Floats,
    correction: NDArray[Any],
) -> tuple[Floats, Floats]:
    """Give what is left of the motion after the homography, at the nodes, in pixels of the frame."""
    size = (frame.shape[1], frame.shape[0])
    start = np.stack(_moved(there, *points.T), 1)
    shown = _depth(start[:, 0], start[:, 1], size) > 0
    here, start = points[shown], start[shown]
    rows, columns = (-(-n // 2) for n in tiles.cells)
    cells, weights = np.zeros((rows, columns, 2)), np.zeros((rows, columns))
    ends = follow(frame, picture, here, start=start)
    returned = follow(picture, frame, ends, start=here)
    home = ((returned - here) ** 2).sum(1) < 0.7**2
    for (px, py), moved in zip(here[home], ends[home], strict=True):
        back = np.array(_moved(np.linalg.inv(there), *moved)) - (px, py)
        if not (back @ back < (14 * tiles.unit) ** 2):
            continue
        sx, sy = _moved(np.linalg.inv(correction), px, py)
        c, r = (int(np.clip(v // (2 * tiles.side), 0, n - 1)) for v, n in ((sx, columns), (sy, rows)))
        weight = 0.15 + math.exp(-max(float(_depth(px, py, size)), 0) / (40 * tiles.unit))
        weights[r, c] += weight
        cells[r, c] += weight * back
    if not weights.any():
        return np.zeros((tiles.cells[0] + 1, tiles.cells[1] + 1)), np.zeros((tiles.cells[0] + 1, tiles.cells[1] + 1))
    values = extended(cells, weights, 0.1)
    y, x = (0.5 * np.arange(n + 1) - 0.5 for n in tiles.cells)
    (top, fy), (left, fx) = (np.divmod(v, 1.0) for v in (y, x))
    r0, r1 = (np.clip(top.astype(int) + i, 0, rows - 1) for i in (0, 1))
    c0, c1 = (np.clip(left.astype(int) + i, 0, columns - 1) for i in (0, 1))
    fx, fy = fx[:, None], fy[:, None, None]
    upper = values[r0][:, c0] + fx * (values[r0][:, c1] - values[r0][:, c0])
    lower = values[r1][:, c0] + fx * (values[r1][:, c1] - values[r1][:, c0])
    shift = upper + fy * (lower - upper)
    return shift[..., 0], shift[..., 1]
