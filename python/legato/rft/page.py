"""The doctor's report as one HTML page: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import html
import math
from typing import Any

import numpy as np

from legato.rft.findings import Findings

__all__ = ["report_page"]

_COLORS = {"vanishing": "#b3261e", "suspect": "#d98200", "healthy": "#1a7f4b", "solved": "#5b6b7f"}
_MEANING = {
    "vanishing": "the std and its whole confidence interval are below tau: reinforcement alone will hardly move it",
    "suspect": "the sample's std is below tau, but too few rollouts tell: roll out more, or add supervised examples",
    "healthy": "the sample's std is at least tau",
    "solved": "the mean reward is near the top of the range: nothing left to learn",
}
_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --line: #d5dae1; --soft: #f4f6f8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --paper: #14171b; --line: #363c45; --soft: #1d2127; } }
body { margin: 2rem auto; max-width: 64rem; padding: 0 1rem; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(14rem, 1fr)); gap: .75rem; margin: 1.25rem 0; }
.card { border: 1px solid var(--line); border-left: .4rem solid var(--mark, var(--line)); padding: .6rem .8rem;
  border-radius: .4rem; background: var(--soft); }
.card b { font-size: 1.5rem; display: block; } .card small { display: block; opacity: .8; }
svg { width: 100%; height: auto; } svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { text-align: right; padding: .2rem .5rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; max-width: 24rem; overflow: hidden; text-overflow: ellipsis; }
.scroll { overflow-x: auto; }
"""


def report_page(report: Findings, limit: int) -> str:
    """Return the page."""
    o, s = report.overall, report.settings
    low, high = s["value_range"]
    cards = "".join(
        f'<div class="card" style="--mark:{_COLORS[name]}"><b>{o["shares"][name]:.1%}</b>{name} '
        f"({o['verdicts'][name]})<small>{_MEANING[name]}</small></div>"
        for name in _COLORS
    )
    facts = [
        ("prompts / rollouts", f"{o['prompts']} / {o['rollouts']}"),
        ("prompts of constant rewards", f"{o['zero_std']:.1%}"),
        ("std, 10th percentile / median", f"{_number(o['std_p10'])} / {_number(o['std_p50'])}"),
        (f"groups of {s['group_size']} without a gradient", _percent(o["population"]["no_gradient"]["share"])),
    ]
    fact_cards = "".join(f'<div class="card"><small>{name}</small><b>{value}</b></div>' for name, value in facts)
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in report.notes)
    shown = report.order()[:limit]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Reward std report</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>\n'
        f"<h1>Which prompts can learn by reinforcement?</h1>\n"
        f"<p>Rewards in [{low:g}, {high:g}]; a standard deviation below tau = {s['tau']:g} is small; "
        f"{s['level']:.0%} confidence intervals.</p>\n"
        f'<div class="cards">{cards}</div><div class="cards">{fact_cards}</div>\n'
        f"<h2>Mean and standard deviation of each prompt</h2>\n{_scatter(report)}\n"
        "<p>One disk for all prompts of one place, larger for more of them. The curve is the largest std that a mean "
        "allows; with few rollouts a sample's std, which divides by n - 1, can lie a little above.</p>\n"
        f"<h2>How the standard deviations are spread</h2>\n{_histogram(report)}\n"
        f"<h2>What to keep in mind</h2>\n<ul>{notes}</ul>\n"
        f"<h2>Prompts of the smallest standard deviation ({len(shown)} of {len(report.n)})</h2>\n"
        f'<div class="scroll">{_table(report, shown)}</div>\n</body></html>\n'
    )


def _table(report: Findings, shown: Any) -> str:
    head = "".join(
        f"<th>{name}</th>" for name in ("prompt", "n", "mean", "std", "interval", "verdict", "rollouts needed")
    )
    rows = []
    for i in shown:
        verdict = str(report.verdict[i])
        cells = (
            html.escape(" ".join(str(report.prompt[i]).split())[:200]),
            str(report.n[i]),
            _number(float(report.mean[i])),
            _number(float(report.std[i])),
            f"{report.std_low[i]:.4f} to {report.std_high[i]:.4f}",
            f'<span style="color:{_COLORS[verdict]};font-weight:600">{verdict}</span>',
            str(report.more_rollouts[i]) if report.more_rollouts[i] else "",
        )
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


class _Plot:
    """Axes over [x0, x1] and [y0, y1] in a box of 860 by 330; labels keep clear of disks on the axes."""

    left, top, width, height = 84, 12, 740, 260

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
                f'<text x="{at:.1f}" y="{self.top + self.height + 28}" text-anchor="middle">{tick:.6g}</text>'
            )
        for tick in _ticks(*y):
            if counts and tick != round(tick):
                continue
            at = self.up(tick)
            self.line(x, (tick, tick), 'stroke="var(--line)" stroke-opacity=".5"')
            self.parts.append(f'<text x="{self.left - 18}" y="{at + 4:.1f}" text-anchor="end">{tick:.6g}</text>')
        middle = self.top + self.height / 2
        self.parts.append(f'<text x="{self.left + self.width / 2}" y="324" text-anchor="middle">{x_name}</text>')
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
        return f'<svg viewBox="0 0 860 330" role="img" aria-label="{html.escape(label)}">{"".join(self.parts)}</svg>'


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers inside of [low, high]: about five."""
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= rough)
    return [round(k * step, 12) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _scatter(report: Findings) -> str:
    """Prompts that share a place are one disk whose area grows with their number."""
    low, high = report.settings["value_range"]
    half, tau = (high - low) / 2, report.settings["tau"]
    std = np.nan_to_num(report.std, nan=0.0)
    top = max(float(std.max()), half) * 1.08
    plot = _Plot((low, high), (0.0, top), "mean reward", "std of the reward")
    means = np.linspace(low, high, 121)
    plot.line(means, np.sqrt((means - low) * (high - means)), 'stroke="var(--line)" stroke-width="2"')
    plot.line((low, high), (tau, tau), 'stroke="#b3261e" stroke-dasharray="5 4"')
    plot.parts.append(
        f'<text x="{plot.left + plot.width / 2}" y="{plot.up(tau) - 6:.1f}" text-anchor="middle">tau = {tau:g}</text>'
    )
    columns = np.rint((report.mean - low) / (high - low) * 120).astype(int)
    rows = np.rint(std / top * 60).astype(int)
    for name, color in _COLORS.items():
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


def _histogram(report: Findings) -> str:
    """Prompts of each verdict on top of one another."""
    known = np.isfinite(report.std)
    low, high = report.settings["value_range"]
    top = max(float(report.std[known].max()) if known.any() else 0.0, (high - low) / 2)
    edges = np.linspace(0.0, top, 41)
    kinds = {name: np.histogram(report.std[known & (report.verdict == name)], edges)[0] for name in _COLORS}
    most = max(int(np.sum(list(kinds.values()), axis=0).max()), 1)
    plot = _Plot((0.0, top), (0.0, most), "std of the reward", "prompts", counts=True)
    below = np.zeros(40)
    for name, counts in kinds.items():
        for count, under, left, right in zip(counts, below, edges, edges[1:], strict=False):
            if count == 0:
                continue
            x, y, foot = plot.across(left), plot.up(under + count), plot.up(under)
            plot.parts.append(
                f'<rect x="{x + 0.5:.1f}" y="{y:.1f}" width="{plot.across(right) - x - 1:.1f}" '
                f'height="{foot - y:.1f}" fill="{_COLORS[name]}" fill-opacity=".75">'
                f"<title>{count} {name}</title></rect>"
            )
        below += counts
    tau = report.settings["tau"]
    plot.line((tau, tau), (0.0, most), 'stroke="#b3261e" stroke-dasharray="5 4"')
    return plot.draw("histogram of the standard deviations by verdict; the dashed line is tau")


def _number(x: float | None) -> str:
    return "-" if x is None or not math.isfinite(x) else f"{x:.4f}"


def _percent(x: float | None) -> str:
    return "-" if x is None else f"{x:.1%}"
