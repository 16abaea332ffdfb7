"""Plots of the report's page and of the experiments, as SVG."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from legato.rft.findings import Findings

if TYPE_CHECKING:
    from legato.rft.reproduction import DigitsResult

__all__ = ["COLORS", "curves", "histogram", "scatter", "timeline"]

COLORS = {"vanishing": "#b3261e", "suspect": "#d98200", "healthy": "#1a7f4b", "solved": "#5b6b7f"}


class Plot:
    """Axes over [x0, x1] and [y0, y1] in a box of 480 by 300; labels keep clear of disks on the axes."""

    left, top, width, height = 62, 12, 404, 232

    def __init__(
        self, x: tuple[float, float], y: tuple[float, float], x_name: str, y_name: str, counts: bool = False
    ) -> None:
        self.x, self.y = x, y
        self.parts = [
            f'<rect x="{self.left}" y="{self.top}" width="{self.width}" height="{self.height}" fill="none" '
            'stroke="var(--line)"/>'
        ]
        for tick in _ticks(*x):
            at = self.across(tick)
            self.parts.append(
                f'<text x="{at:.1f}" y="{self.top + self.height + 22}" text-anchor="middle">{tick:.6g}</text>'
            )
        for tick in _ticks(*y):
            if counts and tick != round(tick):
                continue
            at = self.up(tick)
            self.line(x, (tick, tick), 'stroke="var(--line)" stroke-opacity=".5"')
            self.parts.append(f'<text x="{self.left - 12}" y="{at + 4:.1f}" text-anchor="end">{tick:.6g}</text>')
        middle = self.top + self.height / 2
        self.parts.append(f'<text x="{self.left + self.width / 2}" y="294" text-anchor="middle">{x_name}</text>')
        self.parts.append(
            f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">{y_name}</text>'
        )

    def across(self, x: float) -> float:
        return self.left + self.width * (x - self.x[0]) / (self.x[1] - self.x[0])

    def up(self, y: float) -> float:
        return self.top + self.height * (1 - (y - self.y[0]) / (self.y[1] - self.y[0]))

    def line(self, xs: Any, ys: Any, style: str) -> None:
        points = " ".join(f"{self.across(x):.1f},{self.up(y):.1f}" for x, y in zip(xs, ys, strict=True))
        self.parts.append(f'<polyline points="{points}" fill="none" {style}/>')

    def draw(self, label: str) -> str:
        return f'<svg viewBox="0 0 480 300" role="img" aria-label="{html.escape(label)}">{"".join(self.parts)}</svg>'


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers inside of [low, high]: about five."""
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= rough)
    return [round(k * step, 12) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def scatter(report: Findings) -> str:
    """Prompts that share a place are one disk whose area grows with their number."""
    low, high = report.settings["value_range"]
    half, tau = (high - low) / 2, report.settings["tau"]
    std = np.nan_to_num(report.std, nan=0.0)
    top = max(float(std.max()), half) * 1.08
    plot = Plot((low, high), (0.0, top), "mean reward", "std of the reward")
    means = np.linspace(low, high, 121)
    plot.line(means, np.sqrt((means - low) * (high - means)), 'stroke="var(--line)" stroke-width="2"')
    plot.line((low, high), (tau, tau), 'stroke="#b3261e" stroke-dasharray="5 4"')
    plot.parts.append(
        f'<text x="{plot.left + plot.width / 2}" y="{plot.up(tau) - 6:.1f}" text-anchor="middle">tau = {tau:g}</text>'
    )
    inside = np.clip(report.mean, low, high)  # an outlier may be far away
    columns = np.rint((inside - low) / (high - low) * 120).astype(int)
    rows = np.rint(std / top * 60).astype(int)
    for name, color in COLORS.items():
        kind = report.verdict == name
        cells, counts = np.unique(np.stack([columns[kind], rows[kind]]), axis=1, return_counts=True)
        for (column, row), count in zip(cells.T, counts, strict=True):
            x, y = plot.across(low + (high - low) * column / 120), plot.up(top * row / 60)
            size = 3.0 + 12.0 * math.sqrt(count / len(report.n))
            plot.parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}" fill="{color}" fill-opacity=".65">'
                f"<title>{count} {name}: mean {low + (high - low) * column / 120:.3g}, std {top * row / 60:.3g}</title>"
                "</circle>"
            )
    return plot.draw("mean reward against its standard deviation; the curve is the largest std a mean allows")


def curves(results: Sequence[DigitsResult]) -> str:
    """Rewards over the steps of reinforcement and supervision, a line a seed: a file of its own."""
    runs = [("rft", "#b3261e", "reinforcement"), ("sft", "#1a7f4b", "supervision")]
    most = max(result.runs[name][-1].step for result in results for name, _, _ in runs)
    plot = Plot((0.0, float(most)), (-1.05, 1.05), "step", "mean reward")
    for result in results:
        for name, color, _ in runs:
            for group, dash in (("small", ""), ("large", 'stroke-dasharray="4 4"')):
                steps = [state.step for state in result.runs[name]]
                rewards = [getattr(state, group).reward for state in result.runs[name]]
                plot.line(steps, rewards, f'stroke="{color}" stroke-width="1.6" stroke-opacity=".8" {dash}')
    for row, (_, color, label) in enumerate(runs):
        plot.parts.append(f'<text x="200" y="{110 + 18 * row}" fill="{color}">{label}</text>')
    plot.parts.append('<text x="200" y="146">solid: inputs of small std; dashed: of large std</text>')
    drawn = plot.draw("mean reward over the steps: solid where the std is small at the start, dashed where it is large")
    style = "<style>svg{--line:#999;font:13px sans-serif;background:#fff}</style>"
    return drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(">", f">{style}", 1) + "\n"


def histogram(report: Findings) -> str:
    """Prompts of each verdict on top of one another."""
    known = np.isfinite(report.std)
    low, high = report.settings["value_range"]
    top = max(float(report.std[known].max()) if known.any() else 0.0, (high - low) / 2)
    edges = np.linspace(0.0, top, 41)
    kinds = {name: np.histogram(report.std[known & (report.verdict == name)], edges)[0] for name in COLORS}
    most = max(int(np.sum(list(kinds.values()), axis=0).max()), 1)
    plot = Plot((0.0, top), (0.0, most), "std of the reward", "groups" if report.has_steps else "prompts", counts=True)
    below = np.zeros(40)
    for name, counts in kinds.items():
        for count, under, left, right in zip(counts, below, edges, edges[1:], strict=False):
            if count == 0:
                continue
            x, y, foot = plot.across(left), plot.up(under + count), plot.up(under)
            plot.parts.append(
                f'<rect x="{x + 0.5:.1f}" y="{y:.1f}" width="{plot.across(right) - x - 1:.1f}" '
                f'height="{foot - y:.1f}" fill="{COLORS[name]}" fill-opacity=".75">'
                f"<title>{count} {name}</title></rect>"
            )
        below += counts
    tau = report.settings["tau"]
    plot.line((tau, tau), (0.0, most), 'stroke="#b3261e" stroke-dasharray="5 4"')
    return plot.draw("histogram of the standard deviations by verdict; the dashed line is tau")


def timeline(steps: list[dict[str, Any]], lines: dict[str, tuple[str, str]], y_name: str, top: float | None) -> str:
    """Numbers over the steps of training: lines of name -> (color, label)."""
    x = [float(step["step"]) for step in steps]
    values = {name: [step[name] for step in steps] for name in lines}
    known = [v for row in values.values() for v in row if v is not None]
    low = min(0.0, *known) if known else 0.0
    high = top if top is not None else (max(known) * 1.08 if known and max(known) > low else low + 1.0)
    plot = Plot((min(x), max(x)), (low, high), "step", y_name)
    for name, (color, label) in lines.items():
        points = [(a, b) for a, b in zip(x, values[name], strict=True) if b is not None]
        plot.line([a for a, _ in points], [b for _, b in points], f'stroke="{color}" stroke-width="2"')
        if len(points) <= 60:
            for a, b in points:
                plot.parts.append(
                    f'<circle cx="{plot.across(a):.1f}" cy="{plot.up(b):.1f}" r="3" fill="{color}">'
                    f"<title>step {a:g}: {html.escape(label)} {b:.4g}</title></circle>"
                )
    return plot.draw(f"{', '.join(label for _, label in lines.values())} over the steps of training")
