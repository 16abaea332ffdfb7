"""The scene of synthesized clips: a town by a river, and a ferry to pass in front of it, drawn by OpenCV's pen."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from legato._scalars import as_count, as_size
from legato.errors import ArgumentError
from legato.video.media.planes import load_opencv

__all__ = ["Sprite", "checked_size", "draw_ferry", "render_scene"]

Floats: TypeAlias = NDArray[np.float64]
Image: TypeAlias = NDArray[np.uint8]
Color: TypeAlias = tuple[float, float, float]

_MOST_ASPECT = 4

# The drawing. Lengths are in units of which the scene is 1080 high; x grows to the right, y down.
_TALL = 1080.0
_ROW_BASE, _QUAY, _WATER, _BANK = 655.0, 694.0, 738.0, 930.0

_WALLS = "f2e3c6 e9c9a1 dfae7b d98f6c c9705a f0d9b5 e7e0d2 b9c4b0 a8bccb d8b4a6 f4ead9 cfa36a bfcad6"
_ROOFS = "a4533b 8f4634 b8633f 9c5a45 7d3f33 6b5a57 b05a3c 86523f"
_SHUTTERS = "3f6b57 2f5a78 7a3b34 5b6b3a 8a6a3c 39506b"
_AWNINGS = "c8493e 2f6f8f 3f7d55 d99a2b 8a4f7d"
_GREENS = "3d5a2c 4a6b33 57793a 33522f 648243"


def render_scene(seed: int = 1, size: tuple[int, int] = (1920, 1080)) -> Image:
    """Draw a town by a river.

    Parameters
    ----------
    seed : int
        Of everything that chance decides in it; not negative.
    size : (int, int)
        Width and height in pixels: 16 to 16384, one at most four times the other.

    Returns
    -------
    (height, width, 3) uint8 array
        BGR, smoothed so that it can be sampled at its own density without aliasing.

    Raises
    ------
    ArgumentError
        If an argument is not as described.
    DependencyError
        If OpenCV is not installed.
    """
    as_count("seed", seed, 0, 2**64 - 1)
    width, height = checked_size(size, 16, 16384)
    cv2 = load_opencv()
    rng = np.random.default_rng([seed, 0])
    # Twice the size, for edges without steps; a large scene is fine enough as it is.
    finer = 2 if width * height <= 8_000_000 else 1
    canvas = _Canvas(_sky(rng, (width * finer, height * finer)))
    _balloons(canvas, rng)
    _mountains(canvas, rng)
    _hills(canvas, rng)
    _row(canvas, rng, base=600, scale=0.72, haze=0.34)
    _church(canvas, canvas.wide * rng.uniform(0.38, 0.62), 640)
    _row(canvas, rng, base=628, scale=0.86, haze=0.16)
    _row(canvas, rng, base=_ROW_BASE, scale=1.0, haze=0.0)
    _street(canvas, rng)
    _quay_wall(canvas, rng)
    _river(canvas, rng)
    _boats(canvas, rng)
    _near_bank(canvas, rng)
    image = cv2.resize(canvas.image, (width, height), interpolation=cv2.INTER_AREA)
    # What paper and brush would do: a slow and a fine variation of brightness.
    gain = 0.94 + 0.06 * _clouded(rng, (width, height), 6 / height, 2)
    gain += 0.06 * _clouded(rng, (width, height), 180 / height, 3)
    for rows in np.array_split(np.arange(height), max(1, height // 256)):
        part = np.s_[rows[0] : rows[-1] + 1]
        image[part] = np.clip(image[part] * gain[part, :, None], 0, 255).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 0.55))


class _Canvas:
    """A picture to draw on, in units; a unit has as many pixels as make it 1080 high, or as told."""

    def __init__(self, image: Image, unit: float | None = None) -> None:
        self._cv2 = load_opencv()
        self.image = np.ascontiguousarray(image)
        self.unit = image.shape[0] / _TALL if unit is None else unit
        self.wide = image.shape[1] / self.unit

    def _fixed(self, points: Any) -> NDArray[np.int32]:
        """Positions in OpenCV's fixed point: 1/16 of a pixel."""
        scaled = (np.asarray(points, np.float64) * self.unit - 0.5) * 16
        return np.rint(scaled).astype(np.int32)

    def polygon(self, points: Any, color: Color) -> None:
        self._cv2.fillPoly(self.image, [self._fixed(points)], color, self._cv2.LINE_AA, 4)

    def box(self, x: float, y: float, w: float, h: float, color: Color) -> None:
        self.polygon([(x, y), (x + w, y), (x + w, y + h), (x, y + h)], color)

    def line(self, points: Any, color: Color, width: float = 1.0) -> None:
        thickness = max(1, round(width * self.unit))
        self._cv2.polylines(self.image, [self._fixed(points)], False, color, thickness, self._cv2.LINE_AA, 4)

    def disc(self, x: float, y: float, radius: float, color: Color, squash: float = 1.0) -> None:
        center = self._fixed((x, y))
        across = max(1, round(radius * self.unit * 16))
        down = max(1, round(radius * squash * self.unit * 16))
        self._cv2.ellipse(
            self.image, (int(center[0]), int(center[1])), (across, down), 0, 0, 360, color, -1, self._cv2.LINE_AA, 4
        )


def _colors(palette: str) -> list[Color]:
    """Read a row of RRGGBB as BGR."""
    return [(float(b), float(g), float(r)) for r, g, b in map(bytes.fromhex, palette.split())]


def _pick(rng: np.random.Generator, palette: str) -> Color:
    choices = _colors(palette)
    return choices[int(rng.integers(len(choices)))]


def _mixed(a: Color, b: Color, share: float) -> Color:
    """Mix `share` of b with the rest of a."""
    return (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share)


def _lit(color: Color, factor: float) -> Color:
    b, g, r = (min(255.0, max(0.0, value * factor)) for value in color)
    return b, g, r


_HAZE = _colors("c9d6e2")[0]
_INK = _colors("3a3230")[0]
_CREAM = _colors("f6efe0")[0]


def _clouded(
    rng: np.random.Generator, size: tuple[int, int], per_pixel: float, octaves: int, flat: float = 1
) -> NDArray[np.float32]:
    """Draw noise of several octaves, 0 to 1; `flat` times wider than high."""
    cv2 = load_opencv()
    w, h = size
    total = np.zeros((h, w), np.float32)
    weight = 0.0
    for octave in range(octaves):
        cells = per_pixel * 2**octave
        rows, columns = max(2, round(h * cells)) + 1, max(2, round(w * cells / flat)) + 1
        grid = rng.random((min(rows, h), min(columns, w)), np.float32)
        share = 0.5**octave
        total += share * cv2.resize(grid, (w, h), interpolation=cv2.INTER_CUBIC)
        weight += share
    return np.asarray(np.clip(total / np.float32(weight), 0, 1), np.float32)


def _ridge(rng: np.random.Generator, wide: float, step: float, waves: float) -> Floats:
    """Draw a line of hills: x, and height from -1 to 1, (m, 2)."""
    x = np.arange(-step, wide + 2 * step, step)
    y = np.zeros_like(x)
    for octave in range(7):
        length = _TALL / waves / 2**octave
        place = (x + step) / length
        knots = rng.uniform(-1, 1, int(place[-1]) + 2)
        index = place.astype(int)
        blend = place - index
        blend = blend * blend * (3 - 2 * blend)
        y += 0.5**octave * ((1 - blend) * knots[index] + blend * knots[index + 1])
    return np.stack([x, y], 1)


def _sky(rng: np.random.Generator, size: tuple[int, int]) -> Image:
    cv2 = load_opencv()
    w, h = max(2, size[0] // 4), max(2, size[1] // 4)
    y = np.linspace(0, 1, h, dtype=np.float32)
    knots = [0, 0.18, 0.36, 0.5, 1]
    ramp = np.array(_colors("4f86c0 7fb0d8 b9d6e6 f3e3c8 f3e3c8"), np.float32)
    sky = np.stack([np.interp(y, knots, ramp[:, k]) for k in range(3)], 1)[:, None]
    sky = np.repeat(sky, w, 1).astype(np.float32)
    body = _clouded(rng, (w, h), 7 / h, 6, flat=2.2)
    height = np.linspace(0, 1, h, dtype=np.float32)[:, None]
    cover = np.clip((body - 0.5 + 0.05 * np.sin(9 * height)) / 0.16, 0, 1)
    cover = cover * cover * (3 - 2 * cover) * np.clip((0.5 - height) / 0.1, 0, 1)
    # Light from above and from the left: a cloud is bright where it thins toward the sun.
    shift = max(1, h // 60)
    toward = np.pad(body, ((shift, 0), (shift, 0)), mode="edge")[:h, :w] - body
    light = np.clip(0.62 - 5.0 * toward, 0, 1)[:, :, None]
    bright, dark = (np.array(c, np.float32) for c in _colors("fffaf0 a9b4c6"))
    cloud = dark + (bright - dark) * light
    sky += (cloud - sky) * (0.93 * cover)[:, :, None]
    return np.asarray(cv2.resize(np.clip(sky, 0, 255).astype(np.uint8), size, interpolation=cv2.INTER_CUBIC))


def _balloons(canvas: _Canvas, rng: np.random.Generator) -> None:
    for _ in range(max(1, round(canvas.wide / 480))):
        x, y = canvas.wide * rng.uniform(0.08, 0.92), rng.uniform(110, 340)
        radius = rng.uniform(15, 27)
        first, second = _pick(rng, _AWNINGS), _pick(rng, "f6efe0 f2c84b e8d9b0")
        basket = y + 1.95 * radius
        for dx in (-0.16, 0.16):
            canvas.line([(x + 3 * dx * radius, y + 0.9 * radius), (x + dx * radius, basket)], _INK, 0.7)
        canvas.box(x - 0.17 * radius, basket, 0.34 * radius, 0.28 * radius, _colors("7a5636")[0])
        # Gores narrow toward the side of the ball, and darken away from the light.
        edges = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 9))
        height = np.linspace(-1, 1, 25)
        round_ = np.sqrt(np.maximum(1 - height**2, 0)) * np.where(height > 0, 1 - 0.42 * height**2, 1)
        for k, (a, b) in enumerate(pairwise(edges)):
            tone = _lit(second if k % 2 else first, 1.1 - 0.05 * k)
            left = np.stack([x + radius * a * round_, y + 1.25 * radius * height], 1)
            right = np.stack([x + radius * b * round_, y + 1.25 * radius * height], 1)
            canvas.polygon(np.vstack([left, right[::-1]]), tone)


def _mountains(canvas: _Canvas, rng: np.random.Generator) -> None:
    for level, (crest, rise, color) in enumerate(
        zip((425, 455, 486), (80, 52, 34), _colors("a9bdd2 8ca9bd 7c9ea3"), strict=True)
    ):
        ridge = _ridge(rng, canvas.wide, 4, 2.2 + level)
        top = crest - rise * (0.35 + 0.65 * ridge[:, 1])
        outline = np.stack([ridge[:, 0], top], 1)
        floor = [(canvas.wide + 8, 720), (-8, 720)]
        canvas.polygon(np.vstack([outline, floor]), color)
        # Slopes that face away from the light.
        for x, y in outline[1::7]:
            length = rng.uniform(8, 30) * (1 + 0.4 * (2 - level))
            slant = rng.uniform(0.4, 1.1)
            canvas.polygon(
                [(x, y), (x + length * slant, y + length), (x + 0.3 * length * slant, y + length)],
                _lit(color, rng.uniform(0.90, 0.97)),
            )


def _hills(canvas: _Canvas, rng: np.random.Generator) -> None:
    """Draw a wooded hill behind the town, with meadows, single houses and a castle."""
    ridge = _ridge(rng, canvas.wide, 5, 1.7)
    top = 452 - 30 * ridge[:, 1]
    ground = _colors("93a765")[0]
    outline = np.stack([ridge[:, 0], top], 1)
    canvas.polygon(np.vstack([outline, [(canvas.wide + 8, 740), (-8, 740)]]), _mixed(ground, _HAZE, 0.25))

    def crest(x: float) -> float:
        return float(np.interp(x, outline[:, 0], outline[:, 1]))

    for _ in range(int(canvas.wide / 26)):  # fields and hedges
        x = rng.uniform(-40, canvas.wide)
        y = crest(x) + rng.uniform(10, 70)
        w, h = rng.uniform(40, 120), rng.uniform(8, 22)
        tone = _mixed(_lit(ground, rng.uniform(0.85, 1.2)), _colors("d8c67a")[0], rng.uniform(0, 0.5))
        canvas.polygon([(x, y), (x + w, y - 5), (x + w * 1.2, y + h - 5), (x + 0.1 * w, y + h)], tone)
    castle = canvas.wide * rng.uniform(0.62, 0.74)
    _castle(canvas, castle, crest(castle) + 14)
    count = int(canvas.wide * 0.62)
    places = np.stack([rng.uniform(-10, canvas.wide + 10, count), rng.uniform(0, 1, count)], 1)
    places = places[np.argsort(places[:, 1])]
    clumps = _ridge(rng, canvas.wide, 5, 9)
    for x, depth in places:
        if np.interp(x, clumps[:, 0], clumps[:, 1]) < -0.25 + 0.4 * math.sin(depth * 40):
            continue
        y = crest(x) + 2 + 95 * depth
        _small_tree(canvas, rng, x, y, 5.5 + 6 * depth, 0.34 - 0.16 * depth)
    for _ in range(int(canvas.wide / 75)):
        x = rng.uniform(0, canvas.wide)
        _house(canvas, rng, x, crest(x) + rng.uniform(25, 70), 26, 17, scale=0.33, haze=0.3)


def _small_tree(canvas: _Canvas, rng: np.random.Generator, x: float, y: float, radius: float, haze: float) -> None:
    color = _mixed(_pick(rng, _GREENS), _HAZE, haze)
    tall = rng.uniform(0.9, 1.7)
    canvas.disc(x + 0.25 * radius, y + 0.1 * radius, radius, _lit(color, 0.72), tall)
    canvas.disc(x, y, radius * 0.86, color, tall)
    canvas.disc(x - 0.28 * radius, y - 0.4 * radius * tall, radius * 0.5, _lit(color, 1.22), tall)


def _castle(canvas: _Canvas, x: float, foot: float) -> None:
    stone = _mixed(_colors("c9b295")[0], _HAZE, 0.18)
    for dx, w, h, pointed in ((-58, 22, 58, True), (-40, 70, 36, False), (22, 18, 80, True), (40, 34, 46, False)):
        left, top = x + dx, foot - h
        canvas.box(left, top, w, h + 6, stone)
        canvas.box(left + 0.62 * w, top, 0.38 * w, h + 6, _lit(stone, 0.82))
        if pointed:
            roof = _mixed(_colors("6a4a48")[0], _HAZE, 0.2)
            canvas.polygon([(left - 2, top), (left + w / 2, top - 30), (left + w + 2, top)], roof)
            canvas.polygon([(left + w / 2, top), (left + w / 2, top - 30), (left + w + 2, top)], _lit(roof, 0.8))
        else:
            for k in range(int(w / 6)):
                canvas.box(left + 6 * k, top - 4, 3.2, 4, stone)
        for k in range(int(w / 10)):
            for level in range(int(h / 18)):
                canvas.box(left + 5 + 10 * k, top + 7 + 18 * level, 2.6, 6, _lit(_INK, 1.3))


def _row(canvas: _Canvas, rng: np.random.Generator, *, base: float, scale: float, haze: float) -> None:
    """Draw houses side by side, from the left edge to the right."""
    x = rng.uniform(-60, -10)
    while x < canvas.wide + 10:
        w = scale * rng.uniform(62, 118)
        h = scale * rng.uniform(92, 172)
        _house(canvas, rng, x, base, w, h, scale=scale, haze=haze)
        x += w + (scale * rng.uniform(4, 26) if rng.random() < 0.16 else 0)


def _house(
    canvas: _Canvas, rng: np.random.Generator, x: float, base: float, w: float, h: float, *, scale: float, haze: float
) -> None:
    """Draw a house with its left lower corner at (x, base), h high to the eaves."""
    wall = _mixed(_lit(_pick(rng, _WALLS), rng.uniform(0.92, 1.05)), _HAZE, haze)
    roof = _mixed(_lit(_pick(rng, _ROOFS), rng.uniform(0.9, 1.12)), _HAZE, haze)
    top = base - h
    gabled = rng.random() < 0.5
    rise = (0.55 if gabled else 0.3) * w * rng.uniform(0.85, 1.15)
    rise = min(rise, 62 * scale)
    small = scale < 0.5
    chimney = x + w * rng.uniform(0.15, 0.75)
    if not small:
        _chimney(canvas, chimney, top - 0.9 * rise, 9 * scale, 0.62 * rise, haze)
    canvas.box(x, top, w, h, wall)
    if gabled:
        stepped = rng.random() < 0.3
        _gable(canvas, x, top, w, rise, wall, roof, scale, stepped=stepped)
    else:
        _eaves_roof(canvas, rng, x, top, w, rise, roof, scale, plain=small)
    # Daylight falls from the left: a facade darkens a little to the right and to the ground.
    for k in range(3):
        share = 0.12 + 0.1 * k
        canvas.box(x + w * (1 - share * 0.5), top + 1, w * 0.055, h - 1, _lit(wall, 0.95 - 0.03 * k))
    canvas.box(x + w - 1.6 * scale, top, 1.6 * scale, h, _lit(wall, 0.7))
    if small:
        for k in range(2):
            canvas.box(x + w * (0.2 + 0.4 * k), top + 0.3 * h, 0.17 * w, 0.34 * h, _lit(_INK, 1.4))
        return
    canvas.box(x, top, w, 4 * scale, _lit(wall, 0.66))  # shadow of the eaves
    if rng.random() < 0.22:
        _timber(canvas, rng, x, top, w, h, scale, haze)
    ground = 38 * scale
    storey = rng.uniform(29, 35) * scale
    floors = max(1, int((h - ground - 6 * scale) / storey))
    columns = max(2, int(w / (rng.uniform(22, 29) * scale)))
    glass = _Glass.of(rng, scale, haze)
    pitch = w / columns
    for floor in range(floors):
        y = base - ground - (floor + 1) * storey + 7 * scale
        if floor and rng.random() < 0.25:
            canvas.box(x, y + glass.high + 5 * scale, w, 1.8 * scale, _lit(wall, 0.86))
        for column in range(columns):
            glass.window(canvas, rng, x + (column + 0.5) * pitch, y)
    if gabled and rise > 26 * scale:
        glass.window(canvas, rng, x + w / 2, top - 0.52 * rise)
    _ground_floor(canvas, rng, x, base, w, ground, wall, scale, haze)


def _chimney(canvas: _Canvas, x: float, y: float, w: float, h: float, haze: float) -> None:
    brick = _mixed(_colors("94563f")[0], _HAZE, haze)
    canvas.box(x, y, w, h, brick)
    canvas.box(x + 0.6 * w, y, 0.4 * w, h, _lit(brick, 0.75))
    canvas.box(x - 0.12 * w, y - 0.25 * w, 1.24 * w, 0.3 * w, _lit(brick, 0.6))


def _gable(
    canvas: _Canvas,
    x: float,
    top: float,
    w: float,
    rise: float,
    wall: Color,
    roof: Color,
    scale: float,
    *,
    stepped: bool,
) -> None:
    if stepped:
        steps = 5
        for k in range(steps):
            inset = 0.5 * w * k / steps
            low, high = top - rise * k / steps, top - rise * (k + 1.25) / steps
            canvas.box(x + inset, high, w - 2 * inset, low - high + 1, wall)
            canvas.box(x + inset - scale, high - 2 * scale, 0.5 * w / steps + 2 * scale, 2.6 * scale, _lit(roof, 1.0))
            canvas.box(
                x + w - inset - 0.5 * w / steps - scale,
                high - 2 * scale,
                0.5 * w / steps + 2 * scale,
                2.6 * scale,
                _lit(roof, 0.8),
            )
        return
    canvas.polygon([(x, top + 1), (x + w / 2, top - rise), (x + w, top + 1)], wall)
    over = 4.5 * scale
    thick = 7 * scale
    peak = (x + w / 2, top - rise - thick)
    left, right = (x - over, top + 2 * scale), (x + w + over, top + 2 * scale)
    canvas.polygon([left, peak, (peak[0], peak[1] + thick), (x + over, top + 2 * scale)], _lit(roof, 1.1))
    canvas.polygon([right, peak, (peak[0], peak[1] + thick), (x + w - over, top + 2 * scale)], _lit(roof, 0.78))


def _eaves_roof(
    canvas: _Canvas,
    rng: np.random.Generator,
    x: float,
    top: float,
    w: float,
    rise: float,
    roof: Color,
    scale: float,
    *,
    plain: bool,
) -> None:
    inset = 0.10 * w
    over = 3.5 * scale

    def edge(share: float) -> tuple[float, float, float]:
        """Give left end, right end and height of a course of tiles; share 0 at the eaves."""
        return x - over + (inset + over) * share, x + w + over - (inset + over) * share, top - rise * share

    l0, r0, y0 = edge(0)
    l1, r1, y1 = edge(1)
    canvas.polygon([(l0, y0 + 2 * scale), (r0, y0 + 2 * scale), (r1, y1), (l1, y1)], roof)
    if plain:
        return
    courses = max(3, int(rise / (5.2 * scale)))
    for course in range(courses):
        low, high = edge(course / courses), edge((course + 0.45) / courses)
        tone = _lit(roof, 0.86 + 0.06 * (course % 2))
        canvas.polygon([(low[0], low[2]), (low[1], low[2]), (high[1], high[2]), (high[0], high[2])], tone)
        step = 6.4 * scale
        offset = step * 0.5 * (course % 2)
        for tile in np.arange(low[0] + offset, low[1], step):
            if rng.random() < 0.55:
                tint = _lit(roof, rng.uniform(0.7, 1.22))
                canvas.box(tile, high[2], step * 0.62, (low[2] - high[2]) * 1.1, tint)
    canvas.line([(l1, y1), (r1, y1)], _lit(roof, 0.62), 2.2 * scale)
    if rise > 24 * scale and w > 60 * scale:
        for share in (0.5,) if w < 92 * scale else (0.3, 0.7):
            _dormer(canvas, x + w * share, top - 0.2 * rise, roof, scale)


def _dormer(canvas: _Canvas, x: float, y: float, roof: Color, scale: float) -> None:
    w, h = 14 * scale, 13 * scale
    canvas.box(x - w / 2, y - h, w, h, _mixed(_CREAM, roof, 0.15))
    canvas.box(x - w / 4, y - 0.8 * h, w / 2, 0.66 * h, _lit(_INK, 1.25))
    canvas.line([(x, y - 0.8 * h), (x, y - 0.14 * h)], _CREAM, scale)
    canvas.polygon(
        [(x - 0.72 * w, y - h + scale), (x, y - h - 8 * scale), (x + 0.72 * w, y - h + scale)], _lit(roof, 0.72)
    )


def _timber(
    canvas: _Canvas, rng: np.random.Generator, x: float, top: float, w: float, h: float, scale: float, haze: float
) -> None:
    beam = _mixed(_colors("5a3f30")[0], _HAZE, haze)
    wide = 2.6 * scale
    levels = np.linspace(top + 2 * scale, top + h - 40 * scale, max(2, int(h / (34 * scale))))
    posts = np.linspace(x + wide, x + w - wide, max(3, int(w / (26 * scale))))
    for y in levels:
        canvas.line([(x, y), (x + w, y)], beam, wide)
    for post in posts:
        canvas.line([(post, levels[0]), (post, levels[-1])], beam, wide)
    for a, b in pairwise(levels):
        for left, right in ((posts[0], posts[1]), (posts[-1], posts[-2])):
            if rng.random() < 0.8:
                canvas.line([(left, b), (right, a)], beam, 0.8 * wide)


class _Glass(NamedTuple):
    """The windows of one house: they are all alike."""

    wide: float
    high: float
    frame: Color
    shutter: Color | None
    flowers: bool
    arched: bool
    scale: float
    haze: float

    @classmethod
    def of(cls, rng: np.random.Generator, scale: float, haze: float) -> _Glass:
        shutter = _mixed(_pick(rng, _SHUTTERS), _HAZE, haze) if rng.random() < 0.5 else None
        return cls(
            wide=rng.uniform(9.5, 12) * scale,
            high=rng.uniform(16, 20) * scale,
            frame=_mixed(_CREAM, _HAZE, haze),
            shutter=shutter,
            flowers=bool(rng.random() < 0.4),
            arched=bool(rng.random() < 0.2),
            scale=scale,
            haze=haze,
        )

    def window(self, canvas: _Canvas, rng: np.random.Generator, x: float, y: float) -> None:
        """Draw one window with the middle of its upper edge at (x, y)."""
        s, w, h = self.scale, self.wide, self.high
        if self.shutter is not None:
            for side in (-1, 1):
                left = x + side * (w / 2 + 3 * s) - 2.6 * s
                canvas.box(left, y - s, 5.2 * s, h + 2 * s, self.shutter)
                for k in range(4):
                    canvas.box(left + 0.8 * s, y + (0.12 + 0.23 * k) * h, 3.6 * s, 0.9 * s, _lit(self.shutter, 0.72))
        canvas.box(x - w / 2 - 1.5 * s, y - 1.5 * s, w + 3 * s, h + 3 * s, self.frame)
        if self.arched:
            canvas.disc(x, y, w / 2 + 1.5 * s, self.frame, 0.55)
        lit = rng.random() < 0.12
        pane = _colors("f3cf83")[0] if lit else _lit(_colors("4a5f74")[0], rng.uniform(0.7, 1.25))
        pane = _mixed(pane, _HAZE, self.haze)
        canvas.box(x - w / 2, y, w, h, pane)
        # The sky in the upper panes, and the shadow of the frame.
        canvas.polygon([(x - w / 2, y), (x + w / 2, y), (x - w / 2, y + 0.62 * h)], _lit(pane, 1.0 if lit else 1.32))
        canvas.box(x - w / 2, y, w, 1.4 * s, _lit(pane, 0.6))
        canvas.line([(x, y), (x, y + h)], self.frame, 1.3 * s)
        canvas.line([(x - w / 2, y + 0.4 * h), (x + w / 2, y + 0.4 * h)], self.frame, 1.3 * s)
        canvas.box(x - w / 2 - 3 * s, y + h + 1.5 * s, w + 6 * s, 1.8 * s, _lit(self.frame, 0.8))
        if self.flowers:
            canvas.box(
                x - w / 2 - 2 * s, y + h - 0.5 * s, w + 4 * s, 3 * s, _mixed(_colors("5c7a3a")[0], _HAZE, self.haze)
            )
            for k in range(6):
                bloom = _mixed(_pick(rng, "d8434e e9738d f2c14e e25b2f ffffff"), _HAZE, self.haze)
                canvas.disc(x + (k - 2.5) * w / 5, y + h + rng.uniform(-1.5, 0.8) * s, 1.2 * s, bloom)


def _ground_floor(
    canvas: _Canvas,
    rng: np.random.Generator,
    x: float,
    base: float,
    w: float,
    h: float,
    wall: Color,
    scale: float,
    haze: float,
) -> None:
    s = scale
    canvas.box(x, base - h, w, 2.2 * s, _lit(wall, 0.8))
    canvas.box(x, base - 6 * s, w, 6 * s, _mixed(_lit(wall, 0.62), _colors("8a8378")[0], 0.4))
    door = x + w * rng.uniform(0.12, 0.24)
    wood = _mixed(_pick(rng, _SHUTTERS), _HAZE, haze)
    canvas.box(door - 8 * s, base - 30 * s, 16 * s, 30 * s, _mixed(_CREAM, wall, 0.4))
    canvas.disc(door, base - 30 * s, 8 * s, _mixed(_CREAM, wall, 0.4), 0.7)
    canvas.box(door - 6 * s, base - 28 * s, 12 * s, 28 * s, wood)
    for k in range(2):
        for level in range(2):
            canvas.box(door - 4.6 * s + 5 * s * k, base - (25 - 12 * level) * s, 4 * s, 9 * s, _lit(wood, 0.76))
    left = door + 14 * s
    room = x + w - left - 5 * s
    if room < 14 * s:
        return
    glass = _mixed(_lit(_colors("3f5363")[0], rng.uniform(0.8, 1.3)), _HAZE, haze)
    canvas.box(left, base - 27 * s, room, 20 * s, _mixed(_CREAM, _HAZE, haze))
    panes = max(1, round(room / (16 * s)))
    for k in range(panes):
        a, b = left + room * k / panes + 1.2 * s, left + room * (k + 1) / panes - 1.2 * s
        canvas.box(a, base - 25.5 * s, b - a, 17 * s, glass)
        canvas.polygon(
            [(a, base - 25.5 * s), (a + 0.7 * (b - a), base - 25.5 * s), (a, base - 14 * s)], _lit(glass, 1.35)
        )
        for _ in range(3):  # what the shop sells
            goods = _mixed(_pick(rng, "d9a441 c8553d e8dcc2 7fa36b b58fb0"), glass, 0.25)
            canvas.disc(
                rng.uniform(a + 2 * s, max(a + 2.1 * s, b - 2 * s)), base - rng.uniform(10, 14) * s, 1.9 * s, goods
            )
    if rng.random() < 0.75:
        cloth = _mixed(_pick(rng, _AWNINGS), _HAZE, haze)
        stripes = max(3, round(room / (7 * s)))
        for k in range(stripes):
            a, b = left - 3 * s + (room + 6 * s) * np.array([k, k + 1]) / stripes
            tone = cloth if k % 2 else _mixed(_CREAM, _HAZE, haze)
            canvas.polygon([(a, base - 34 * s), (b, base - 34 * s), (b, base - 24 * s), (a, base - 24 * s)], tone)
            canvas.disc((a + b) / 2, base - 24 * s, (b - a) / 2, tone, 0.7)
        canvas.box(left - 3 * s, base - 35 * s, room + 6 * s, 1.6 * s, _lit(cloth, 0.7))


def _church(canvas: _Canvas, x: float, base: float) -> None:
    haze = 0.12
    stone = _mixed(_colors("dccbae")[0], _HAZE, haze)
    slate = _mixed(_colors("4f6470")[0], _HAZE, haze)
    high, w = 235, 46
    top = base - high
    canvas.box(x, base - 120, 150, 120, _lit(stone, 0.96))  # the nave
    canvas.polygon(
        [(x - 4, base - 118), (x + 16, base - 172), (x + 146, base - 172), (x + 160, base - 118)], _lit(slate, 1.1)
    )
    for k in range(9):
        y = base - 122 - 5.4 * k
        canvas.line([(x + 2 * k, y), (x + 158 - 1.6 * k, y)], _lit(slate, 0.9), 1.2)
    canvas.box(x, top, w, high, stone)
    canvas.box(x + 0.66 * w, top, 0.34 * w, high, _lit(stone, 0.84))
    for y in np.arange(top + 6, base, 9.0):
        canvas.line([(x, y), (x + w, y)], _lit(stone, 0.9), 0.8)
        for k in range(4):
            joint = x + w * (0.1 + 0.25 * k + 0.12 * (int(y) % 2))
            canvas.line([(joint, y), (joint, y + 9)], _lit(stone, 0.9), 0.8)
    for level in (26, 78):
        for dx in (0.28, 0.72):
            cx = x + dx * w
            canvas.box(cx - 5, top + level, 10, 24, _lit(_INK, 1.1))
            canvas.disc(cx, top + level, 5, _lit(_INK, 1.1))
            for k in range(4):
                canvas.box(cx - 5, top + level + 3 + 6 * k, 10, 1.6, _lit(stone, 0.7))
    face = (x + w / 2, top + 62)
    canvas.disc(*face, 9.5, _lit(slate, 0.7))
    canvas.disc(*face, 8, _CREAM)
    canvas.line([face, (face[0] + 3.5, face[1] - 3)], _INK, 1.4)
    canvas.line([face, (face[0] - 1.5, face[1] - 6.4)], _INK, 1.1)
    canvas.box(x - 4, top - 4, w + 8, 7, _lit(stone, 0.78))
    tip = (x + w / 2, top - 150)
    canvas.polygon([(x - 3, top - 4), tip, (x + w + 3, top - 4)], slate)
    canvas.polygon([(x + 0.62 * w, top - 4), tip, (x + w + 3, top - 4)], _lit(slate, 0.74))
    for share in np.linspace(0.06, 0.9, 16):
        half = (0.5 * w + 3) * (1 - share)
        y = top - 4 - 146 * share
        canvas.line([(tip[0] - half, y), (tip[0] + half, y)], _lit(slate, 0.86), 0.9)
    gold = _colors("e8b93f")[0]
    canvas.disc(tip[0], tip[1] - 2, 3, gold)
    canvas.line([(tip[0], tip[1] - 22), (tip[0], tip[1])], gold, 1.6)
    canvas.line([(tip[0] - 6, tip[1] - 15), (tip[0] + 6, tip[1] - 15)], gold, 1.6)


def _street(canvas: _Canvas, rng: np.random.Generator) -> None:
    """Draw the quay before the houses: paving, trees, lamps, people."""
    paving = _colors("c3b29a")[0]
    canvas.box(-5, _ROW_BASE - 1, canvas.wide + 10, _QUAY - _ROW_BASE + 2, paving)
    canvas.box(-5, _ROW_BASE - 1, canvas.wide + 10, 4, _lit(paving, 0.72))
    rows = np.linspace(_ROW_BASE + 5, _QUAY - 2, 7)
    for k, y in enumerate(rows):
        step = 7 + 1.5 * k
        for x in np.arange(-5 + step * (0.5 * (k % 2)), canvas.wide, step):
            canvas.box(x, y, step * 0.86, 4.4, _lit(paving, rng.uniform(0.82, 1.1)))
    x = rng.uniform(20, 90)
    while x < canvas.wide:
        kind = rng.random()
        if kind < 0.5:
            _tree(canvas, rng, x, _QUAY - 8, rng.uniform(26, 38))
        elif kind < 0.78:
            _lamp(canvas, x, _QUAY - 5)
        else:
            _bench(canvas, x, _QUAY - 6)
        for _ in range(int(rng.integers(0, 3))):
            _person(canvas, rng, x + rng.uniform(20, 70), rng.uniform(_ROW_BASE + 14, _QUAY - 3))
        x += rng.uniform(62, 130)


def _tree(canvas: _Canvas, rng: np.random.Generator, x: float, foot: float, radius: float) -> None:
    bark = _colors("5b4636")[0]
    crown = foot - 2.1 * radius
    canvas.disc(x + 6, foot, 0.8 * radius, _lit(_colors("a0927c")[0], 0.85), 0.13)
    canvas.polygon([(x - 3, foot), (x - 1.8, crown), (x + 1.8, crown), (x + 3.4, foot)], bark)
    for bend in (-1, 1):
        canvas.line([(x, crown + 0.7 * radius), (x + bend * 0.45 * radius, crown + 0.1 * radius)], bark, 1.8)
    leaf = _pick(rng, "4f7438 5d8140 6c8a3c 86903c a8893a 49703f")
    count = int(7.5 * radius)
    for k in range(count):
        # From the shaded underside to the lit top left, smaller and smaller.
        share = k / count
        angle, reach = rng.uniform(0, 2 * np.pi), radius * math.sqrt(rng.random()) * (1 - 0.25 * share)
        dx = reach * math.cos(angle) - 0.16 * radius * share
        dy = 0.9 * reach * math.sin(angle) - 0.22 * radius * share
        tone = 0.58 + 0.66 * share + rng.uniform(-0.1, 0.1)
        canvas.disc(x + dx, crown + dy, radius * (0.2 - 0.12 * share), _lit(leaf, tone))


def _lamp(canvas: _Canvas, x: float, foot: float) -> None:
    iron = _lit(_INK, 0.9)
    canvas.line([(x, foot), (x, foot - 58)], iron, 2.2)
    canvas.box(x - 3, foot - 5, 6, 5, iron)
    canvas.line([(x - 7, foot - 52), (x + 7, foot - 52)], iron, 1.5)
    canvas.polygon(
        [(x - 3.4, foot - 58), (x + 3.4, foot - 58), (x + 5, foot - 69), (x - 5, foot - 69)], _colors("fbe9ae")[0]
    )
    canvas.polygon([(x - 6, foot - 69), (x, foot - 75), (x + 6, foot - 69)], iron)


def _bench(canvas: _Canvas, x: float, foot: float) -> None:
    wood = _colors("7c5535")[0]
    for k in range(3):
        canvas.box(x, foot - 9 - 3.6 * k, 30, 2.4, _lit(wood, 1 + 0.1 * k))
    for dx in (3, 25):
        canvas.box(x + dx, foot - 16, 2, 16, _INK)


def _person(canvas: _Canvas, rng: np.random.Generator, x: float, foot: float) -> None:
    coat = _pick(rng, "8c2f39 2c4f73 3f5f45 d4a03c 6d4c7d 333a45 e3dccb b5673a")
    skin = _pick(rng, "e8bd9a c68d63 8a5a3c f0cfb0")
    size = rng.uniform(0.9, 1.1)
    canvas.disc(x + 3, foot, 6, _colors("93866f")[0], 0.25)
    for dx in (-2.4, 0.8):
        canvas.box(x + dx * size, foot - 11 * size, 2.2 * size, 11 * size, _lit(_INK, 1.1))
    canvas.polygon(
        [
            (x - 3.8 * size, foot - 9 * size),
            (x - 2.8 * size, foot - 22 * size),
            (x + 2.8 * size, foot - 22 * size),
            (x + 3.8 * size, foot - 9 * size),
        ],
        coat,
    )
    canvas.box(x + 1.2 * size, foot - 21 * size, 1.8 * size, 11 * size, _lit(coat, 0.72))
    canvas.disc(x, foot - 25 * size, 2.9 * size, skin)
    canvas.disc(x, foot - 26.4 * size, 2.9 * size, _pick(rng, "2b211c 6b4a2f a8874c 3a3230"), 0.62)


def _quay_wall(canvas: _Canvas, rng: np.random.Generator) -> None:
    stone = _colors("a3927b")[0]
    canvas.box(-5, _QUAY, canvas.wide + 10, _WATER - _QUAY + 4, _lit(stone, 0.62))
    rows = 5
    high = (_WATER - _QUAY) / rows
    for row in range(rows):
        y = _QUAY + row * high
        x = rng.uniform(-30, 0)
        while x < canvas.wide:
            w = rng.uniform(14, 34)
            tone = _mixed(_lit(stone, rng.uniform(0.78, 1.14)), _colors("5f6e48")[0], 0.12 * row * rng.random())
            canvas.box(x + 0.8, y + 0.8, w - 1.6, high - 1.6, tone)
            canvas.box(x + 0.8, y + 0.8, w - 1.6, 1.4, _lit(tone, 1.16))
            x += w
    canvas.box(-5, _QUAY - 3, canvas.wide + 10, 5, _lit(stone, 1.22))
    for x in np.arange(rng.uniform(0, 40), canvas.wide, 47.0):
        canvas.line([(x, _QUAY - 3), (x, _QUAY - 18)], _INK, 1.8)
    for dy in (-17, -10):
        canvas.line([(-5, _QUAY + dy), (canvas.wide + 5, _QUAY + dy)], _INK, 1.3)


def _river(canvas: _Canvas, rng: np.random.Generator) -> None:
    """Draw water with the town upside down in it."""
    cv2 = load_opencv()
    unit = canvas.unit
    top, bottom = round(_WATER * unit), round((_BANK + 20) * unit)
    h, w = bottom - top, canvas.image.shape[1]
    depth = np.arange(h, dtype=np.float32)[:, None] / h
    waves = _clouded(rng, (w, h), 9 / h, 4, flat=7) - 0.5
    x = np.arange(w, dtype=np.float32)[None] + 26 * unit * waves * (0.25 + depth)
    y = top - np.arange(h, dtype=np.float32)[:, None] * 1.12 + 70 * unit * waves * (0.12 + depth)
    mirrored = cv2.remap(canvas.image, x, np.clip(y, 0, top - 1), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    mirrored = cv2.GaussianBlur(mirrored, (0, 0), sigmaX=1.2 * unit, sigmaY=3 * unit).astype(np.float32)
    near, far = (np.array(c, np.float32) for c in _colors("2c5a73 7fa4b4"))
    water = far + (near - far) * depth[:, :, None]
    share = (0.52 - 0.24 * depth)[:, :, None]
    mixed = water + (mirrored - water) * share
    ripple = _clouded(rng, (w, h), 26 / h, 3, flat=6) - 0.5
    mixed *= (1 + 0.55 * ripple)[:, :, None]
    canvas.image[top:bottom] = np.clip(mixed, 0, 255).astype(np.uint8)
    canvas.box(-5, _WATER - 2, canvas.wide + 10, 5, _lit(_colors("3b4a40")[0], 0.8))
    for _ in range(int(canvas.wide * 0.9)):
        depth_here = rng.random() ** 0.8
        x0, y0 = rng.uniform(-20, canvas.wide), _WATER + 6 + (_BANK - _WATER) * depth_here
        length = rng.uniform(5, 16) * (0.5 + 1.4 * depth_here)
        bright = rng.random() < 0.5
        color = _colors("c8dbe2" if bright else "26404f")[0]
        thick = 0.5 + 0.9 * depth_here
        canvas.polygon(
            [(x0, y0), (x0 + length / 2, y0 - thick), (x0 + length, y0), (x0 + length / 2, y0 + thick)], color
        )


def _boats(canvas: _Canvas, rng: np.random.Generator) -> None:
    x = rng.uniform(60, 200)
    while x < canvas.wide:
        y = rng.uniform(_WATER + 16, _WATER + 62)
        if rng.random() < 0.45:
            _sailing_boat(canvas, rng, x, y)
        else:
            _rowing_boat(canvas, rng, x, y)
        x += rng.uniform(150, 320)


def _rowing_boat(canvas: _Canvas, rng: np.random.Generator, x: float, y: float) -> None:
    hull = _pick(rng, "b5473c 2e6b7a e6dfcf 4a6b4a c78a3b")
    canvas.disc(x + 34, y + 11, 40, _lit(_colors("22323a")[0], 0.9), 0.1)
    canvas.polygon([(x, y - 3), (x + 66, y - 5), (x + 57, y + 9), (x + 10, y + 9)], hull)
    canvas.polygon([(x + 3, y - 2.4), (x + 63, y - 4.2), (x + 60, y - 0.5), (x + 6, y + 0.6)], _lit(hull, 0.5))
    canvas.line([(x, y - 3), (x + 66, y - 5)], _lit(hull, 1.35), 1.6)
    canvas.line([(x + 8, y + 5), (x + 59, y + 4.4)], _CREAM, 1.2)
    for dx in (20, 38):
        canvas.box(x + dx, y - 3.5, 5, 3, _colors("8f6a45")[0])


def _sailing_boat(canvas: _Canvas, rng: np.random.Generator, x: float, y: float) -> None:
    hull = _pick(rng, "f1ede2 2b4a66 a33d35 e2d5b8")
    wood = _colors("8a6238")[0]
    canvas.disc(x + 44, y + 13, 52, _lit(_colors("22323a")[0], 0.9), 0.1)
    canvas.line([(x + 40, y), (x + 40, y - 118)], wood, 2.2)
    canvas.line([(x + 40, y - 16), (x + 82, y - 18)], wood, 1.8)
    sail = _pick(rng, "f7f0df e7d3ab d46a4c f3efe6")
    canvas.polygon([(x + 42, y - 112), (x + 42, y - 20), (x + 80, y - 21), (x + 66, y - 62)], sail)
    canvas.polygon([(x + 37, y - 100), (x + 37, y - 12), (x + 8, y - 11), (x + 20, y - 52)], _lit(sail, 0.86))
    for k in range(5):
        canvas.line([(x + 42, y - 36 - 14 * k), (x + 76 - 6.4 * k, y - 37 - 14 * k)], _lit(sail, 0.84), 0.8)
    canvas.polygon([(x - 2, y - 6), (x + 92, y - 8), (x + 80, y + 11), (x + 14, y + 11)], hull)
    canvas.polygon([(x + 6, y + 4), (x + 85, y + 3), (x + 80, y + 11), (x + 14, y + 11)], _lit(hull, 0.62))
    canvas.box(x + 46, y - 15, 26, 9, _lit(wood, 1.2))
    for k in range(3):
        canvas.box(x + 49 + 8 * k, y - 13, 4.6, 4.6, _INK)


def _near_bank(canvas: _Canvas, rng: np.random.Generator) -> None:
    """Draw the meadow on this side, with reeds along the water."""
    ridge = _ridge(rng, canvas.wide, 8, 3)
    top = _BANK + 12 * ridge[:, 1]
    grass = _colors("6f8a3d")[0]
    outline = np.stack([ridge[:, 0], top], 1)
    canvas.polygon(np.vstack([outline, [(canvas.wide + 20, _TALL + 9), (-20, _TALL + 9)]]), _lit(grass, 0.75))
    count = int(canvas.wide * 4.2)
    depth = np.sort(rng.random(count))
    for share, x in zip(depth, rng.uniform(-10, canvas.wide + 10, count), strict=True):
        y = _BANK + 6 + (_TALL - _BANK + 12) * share
        tall = rng.uniform(7, 17) * (0.6 + 0.8 * share)
        lean = rng.normal(0, 0.25) * tall
        tone = _mixed(_lit(grass, rng.uniform(0.6, 1.35)), _colors("c9b458")[0], 0.5 * rng.random() ** 3)
        canvas.polygon([(x - 1.1, y), (x + lean, y - tall), (x + 1.1, y)], tone)
        if rng.random() < 0.045:
            bloom = _pick(rng, "f4f1e6 f2cf4a d95763 b08bd0 f2a53a")
            for dx, dy in ((-1.4, 0), (1.4, 0), (0, -1.4), (0, 1.4)):
                canvas.disc(x + lean + dx, y - tall + dy, 1.5 + share, bloom)
            canvas.disc(x + lean, y - tall, 1.2, _colors("e0a020")[0])
    for x in rng.uniform(0, canvas.wide, int(canvas.wide / 9)):
        y = float(np.interp(x, outline[:, 0], top)) + rng.uniform(2, 16)
        tall = rng.uniform(18, 44)
        lean = rng.normal(2, 4)
        canvas.line(
            [(x, y), (x + 0.4 * lean, y - 0.6 * tall), (x + lean, y - tall)],
            _lit(_colors("5d7038")[0], rng.uniform(0.7, 1.2)),
            1.3,
        )
        if rng.random() < 0.4:
            canvas.line([(x + 0.8 * lean, y - 0.86 * tall), (x + lean, y - tall)], _colors("5a3b26")[0], 3)


class Sprite(NamedTuple):
    """Something that moves in front of the scene."""

    image: NDArray[np.float32]  # (h, w, 3), already multiplied by the opacity
    opacity: NDArray[np.float32]  # (h, w), 0 to 1
    unit: float  # pixels of the scene to a unit

    def before(self, scene: Image, time_s: float) -> Image:
        """Put it in front of a copy of the scene, where it is at that time."""
        cv2 = load_opencv()
        h, w = self.opacity.shape
        # Through the middle of the scene at a walking pace, and back if the clip is long.
        swing = -0.27 * math.sin(2 * math.pi * time_s / 32 - 0.5)
        x = (0.5 + swing) * scene.shape[1] - 0.5 * w
        y = self.unit * (560 + 5 * math.sin(1.7 * time_s))
        left, top = math.floor(x), math.floor(y)
        shift = np.array([[1, 0, x - left], [0, 1, y - top]])
        y0, y1 = max(top, 0), min(top + h, scene.shape[0])
        x0, x1 = max(left, 0), min(left + w, scene.shape[1])
        cut = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
        image = cv2.warpAffine(self.image, shift, (w, h))[cut]
        opacity = cv2.warpAffine(self.opacity, shift, (w, h))[cut][:, :, None]
        result = scene.copy()
        behind = result[y0:y1, x0:x1]
        result[y0:y1, x0:x1] = np.rint(behind * (1 - opacity) + image).astype(np.uint8)
        return result


def draw_ferry(seed: int, scene_size: tuple[int, int]) -> Sprite:
    """Draw a river steamer, 700 units long: the foreground that a tracker must not follow."""
    cv2 = load_opencv()
    unit = scene_size[1] / _TALL
    size = max(1, round(720 * unit)), max(1, round(290 * unit))
    # Drawn on two grounds: where they show through, the ferry is not.
    layers = []
    for ground in (0, 255):
        canvas = _Canvas(np.full((2 * size[1], 2 * size[0], 3), ground, np.uint8), 2 * unit)
        _paint_ferry(canvas, np.random.default_rng([seed, 4]))
        small = cv2.resize(canvas.image, size, interpolation=cv2.INTER_AREA)
        layers.append(small.astype(np.float32))
    on_black, on_white = layers
    opacity = np.clip(1 - (on_white - on_black).mean(2) / 255, 0, 1)
    return Sprite(on_black, opacity, unit)


def _paint_ferry(canvas: _Canvas, rng: np.random.Generator) -> None:
    hull = _pick(rng, "a83a32 24506e 2f6150")
    white = _colors("f5f1e6")[0]
    foot = 268
    canvas.polygon([(10, 196), (705, 186), (672, foot), (48, foot)], hull)
    canvas.polygon([(30, 238), (688, 232), (672, foot), (48, foot)], _lit(hull, 0.66))
    canvas.line([(10, 197), (705, 187)], white, 5)
    canvas.line([(24, 226), (694, 219)], _lit(hull, 1.5), 2)
    for k in range(16):
        canvas.disc(70 + 38 * k, 212 - 0.5 * k, 6, white)
        canvas.disc(70 + 38 * k, 212 - 0.5 * k, 4, _INK)
    canvas.box(70, 140, 560, 54, white)
    canvas.box(70, 140, 560, 5, _lit(white, 0.8))
    for k in range(17):
        glass = _lit(_colors("4d6b80")[0], rng.uniform(0.8, 1.3))
        canvas.box(82 + 32 * k, 152, 22, 26, glass)
        canvas.polygon([(82 + 32 * k, 152), (104 + 32 * k, 152), (82 + 32 * k, 170)], _lit(glass, 1.4))
        if rng.random() < 0.6:
            _person(canvas, rng, 92 + 32 * k, 187)
            canvas.box(82 + 32 * k, 178, 22, 10, white)
    canvas.box(54, 134, 596, 8, _lit(hull, 1.1))
    canvas.box(150, 84, 330, 50, white)
    for k in range(11):
        glass = _lit(_colors("4d6b80")[0], rng.uniform(0.8, 1.3))
        canvas.box(160 + 29 * k, 94, 20, 22, glass)
        canvas.polygon([(160 + 29 * k, 94), (180 + 29 * k, 94), (160 + 29 * k, 110)], _lit(glass, 1.4))
    canvas.box(138, 78, 354, 7, _lit(hull, 1.1))
    for x in np.arange(500, 650, 12.0):
        canvas.line([(x, 134), (x, 112)], white, 1.6)
    for y in (112, 122):
        canvas.line([(492, y), (648, y)], white, 1.8)
    for k in range(7):
        _person(canvas, rng, 512 + 20 * k, 134)
    canvas.polygon([(250, 78), (256, 10), (300, 10), (306, 78)], _lit(hull, 0.9))
    canvas.polygon([(253, 44), (254, 28), (302, 28), (303, 44)], _colors("f0c14b")[0])
    canvas.box(252, 6, 52, 8, _INK)
    canvas.line([(654, 188), (676, 110)], _INK, 2.5)
    canvas.polygon([(676, 110), (714, 116), (670, 132)], _colors("d64b3f")[0])
    for k in range(6):
        canvas.disc(96 + 100 * k, 206 + 20, 10, _INK)
        canvas.disc(96 + 100 * k, 206 + 20, 6, _lit(hull, 0.5))


def checked_size(size: object, least: int, most: int) -> tuple[int, int]:
    """Return (width, height) as ints within limits, or refuse."""
    width, height = as_size("size", size, least, most)
    if max(width, height) > _MOST_ASPECT * min(width, height):
        raise ArgumentError(f"size: expected one side at most {_MOST_ASPECT} times the other, got {(width, height)}")
    return width, height
