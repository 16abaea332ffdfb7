"""Curves as a small SVG picture, without a package: what a notebook shows of a path or a schedule."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["curves_svg"]

_WIDTH, _HEIGHT, _LEFT, _GAP, _TITLE = 480, 90, 70, 14, 20
_INKS = ("#9aa5b1", "#1f5f8b", "#c2571a")  # readable on white and on black
_MOST_POINTS = 960  # two a pixel


def curves_svg(title: str, panels: Mapping[str, Mapping[str, ArrayLike]]) -> str:
    """Return a picture of panels, one below the other; in each the curves of one unit by name, over their index."""
    parts, top = [f'<text x="{_LEFT}" y="14" font-weight="bold">{escape(title)}</text>'], _TITLE
    for name, curves in panels.items():
        lines = {key: np.asarray(y, np.float64) for key, y in curves.items()}
        finite = np.concatenate([y[np.isfinite(y)] for y in lines.values()])
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
        parts.append(
            f'<rect x="{_LEFT}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="#9aa5b1"/>'
            f'<text x="{_LEFT + 4}" y="{top + 13}">{escape(name)}</text>'
            f'<text x="{_LEFT - 4}" y="{top + 10}" text-anchor="end">{high:.3g}</text>'
            f'<text x="{_LEFT - 4}" y="{top + _HEIGHT}" text-anchor="end">{low:.3g}</text>'
        )
        for i, (key, y) in enumerate(lines.items()):
            ink = _INKS[i % len(_INKS)]
            if len(lines) > 1:
                right = _LEFT + _WIDTH - 4 - 70 * (len(lines) - 1 - i)
                parts.append(f'<text x="{right}" y="{top + 13}" text-anchor="end" fill="{ink}">{escape(key)}</text>')
            parts.append(f'<path d="{_line(y, low, high, top)}" fill="none" stroke="{ink}"/>')
        top += _HEIGHT + _GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 10}" height="{top}" '
        f'font-family="sans-serif" font-size="11" fill="currentColor">{"".join(parts)}</svg>'
    )


def _line(y: np.ndarray, low: float, high: float, top: int) -> str:
    """Return the path of a curve; numbers that are not finite are gaps in it."""
    at = np.unique(np.linspace(0, max(len(y) - 1, 0), min(len(y), _MOST_POINTS)).astype(int))
    words, pen = [], "M"
    for i in at:
        if not np.isfinite(y[i]):
            pen = "M"
            continue
        across = _LEFT + _WIDTH * i / max(len(y) - 1, 1)
        up = top + _HEIGHT * (0.5 if high == low else (high - y[i]) / (high - low))
        words.append(f"{pen}{across:.1f} {up:.1f}")
        pen = "L"
    return "".join(words)
