"""The doctor's report as one HTML page: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import html
import math
from typing import Any

from legato._printing import printable
from legato.rft.findings import Findings, one_lines
from legato.rft.plots import COLORS, histogram, scatter, timeline

__all__ = ["report_page"]

_MEANING = {
    "vanishing": "the whole interval of the std is below tau: reinforcement alone will hardly move it",
    "suspect": "the sample's std is below tau, but too few rollouts tell: roll out more, or add supervised examples",
    "healthy": "the sample's std is at least tau",
    "solved": "the interval of the mean reward is near the top of the range: little left to learn",
}
# Styles alone are let in, and these are our own: a word of the rollouts that got past the escapes could do nothing.
_POLICY = (
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">"
)
_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --line: #d5dae1; --soft: #f4f6f8;
  --low: #b3261e; --high: #5b6b7f; --good: #1a7f4b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --paper: #14171b; --line: #363c45; --soft: #1d2127;
  --low: #e5736b; --high: #93a1b3; --good: #4fb37d; } }
* { box-sizing: border-box; }
body { margin: 1.5rem auto; max-width: 66rem; padding: 0 1rem; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.lead { font-size: 1.15rem; margin: .8rem 0 .4rem; } .lead b { font-size: 2rem; }
.bar { display: flex; height: 1.6rem; border-radius: .4rem; overflow: hidden; background: var(--line); }
.bar div { min-width: 1px; }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: .4rem 0; font-size: 13px; }
.key i { display: inline-block; width: .8em; height: .8em; border-radius: .2em; margin-right: .4em; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: .5rem 1.5rem; }
figure { margin: 0; } figcaption { font-size: 13px; opacity: .85; }
svg { width: 100%; height: auto; } svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { text-align: right; padding: .25rem .5rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { vertical-align: bottom; } th, td { overflow-wrap: normal; }
.scroll { overflow-x: auto; }
@media (max-width: 40rem) { th, td { padding: .25rem .3rem; } th, td:first-child { white-space: normal; }
  .prompts td:first-child { min-width: 8.5rem; line-height: 1.3; overflow-wrap: anywhere; }
  svg text { font-size: 15px; } ul { padding-left: 1.2rem; } }
"""


def report_page(report: Findings, limit: int, refresh_s: int | None = None) -> str:
    """Return the page."""
    refresh = "" if refresh_s is None else f'<meta http-equiv="refresh" content="{int(refresh_s)}">'
    shown = report.order()[:limit]
    what = "Groups" if report.has_steps else "Prompts"
    advice = "".join(f"<li>{line}</li>" for line in _advice(report))
    notes = "".join(f"<li>{_escaped(note)}</li>" for note in report.notes)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{_POLICY}<title>Reward std report</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{refresh}<style>{_STYLE}</style>'
        f"</head><body>\n<h1>Which prompts can learn by reinforcement?</h1>\n{_headline(report)}\n"
        f"<h2>What to do</h2>\n<ul>{advice}</ul>\n{_over_time(report)}"
        f'<h2>Mean and standard deviation of the reward</h2>\n<div class="grid"><figure>{scatter(report)}\n'
        "<figcaption>One disk for all of one place, larger for more of them. The curve is the largest std that a mean "
        "allows; with few rollouts a sample's std, which divides by n - 1, can lie a little above.</figcaption>"
        f"</figure><figure>{histogram(report)}<figcaption>How the standard deviations are spread; the dashed line is "
        f"tau.</figcaption></figure></div>\n{_verdict_key(report)}\n"
        f"<h2>What other group sizes would give</h2>\n{_group_sizes(report)}\n{_reward_columns(report)}"
        f"<h2>{what} of the smallest standard deviation ({len(shown)} of {len(report.n)})</h2>\n"
        f'<div class="scroll">{_table(report, shown)}</div>\n'
        f"<h2>What to keep in mind</h2>\n<ul>{notes}</ul>\n</body></html>\n"
    )


def _headline(report: Findings) -> str:
    o, s = report.overall, report.settings
    p = o["population"]
    low, high = s["value_range"]
    steps = f" in {len(o['steps'])} steps" if report.has_steps else ""
    facts = (
        f"{o['prompts']} prompts{steps}, {o['rollouts']} rollouts; rewards in [{low:g}, {high:g}]; tau {s['tau']:g}; "
        f"{s['level']:.0%} intervals."
    )
    if p["no_gradient"]["share"] is None:
        return (
            f'<p class="lead">No group has the {p["group_size"]} rollouts of a training group: shares of groups are '
            f"not known.</p><p>{facts}</p>"
        )
    none, zero, one = (p[name]["share"] for name in ("no_gradient", "all_zero", "all_one"))
    between = max(0.0, none - zero - one)
    parts = (
        ("var(--low)", zero, f"all rewards {low:g}: {_with_interval(p['all_zero'])}"),
        ("#d98200", between, f"all rewards one value between: {between:.1%}" if between > 0.0005 else ""),
        ("var(--high)", one, f"all rewards {high:g}: {_with_interval(p['all_one'])}"),
        ("var(--good)", 1 - none, f"with a gradient: {1 - none:.1%}"),
    )
    bar = "".join(f'<div style="width:{share:.2%};background:{color}"></div>' for color, share, _ in parts)
    key = "".join(f'<span><i style="background:{color}"></i>{text}</span>' for color, _, text in parts if text)
    return (
        f'<p class="lead"><b>{none:.1%}</b> of groups of {p["group_size"]} rollouts have no gradient '
        f"({p['no_gradient']['low']:.1%} to {p['no_gradient']['high']:.1%})</p>"
        f'<div class="bar" role="img" aria-label="shares of groups">{bar}</div><div class="key">{key}</div>'
        f"<p>{_small_std(p['small_std'])} {facts}</p>"
    )


def _small_std(share: dict[str, Any]) -> str:
    if (share["low"], share["high"]) == (0.0, 1.0):
        return "How many prompts have a policy whose reward std is below tau cannot be told from these rollouts."
    return f"Prompts whose policy has a reward std below tau: between {share['low']:.1%} and {share['high']:.1%}."


def _advice(report: Findings) -> list[str]:
    """Say what follows from the numbers."""
    o = report.overall
    p = o["population"]
    found = []
    zero, one = p["all_zero"]["share"] or 0.0, p["all_one"]["share"] or 0.0
    if zero >= 0.1:
        found.append(
            f"{zero:.0%} of groups fail throughout. Reinforcement cannot move them: lift them with supervised examples "
            "first (<code>legato rft rank</code> names them), or leave them for later (<code>legato rft select</code>)."
        )
    if one >= 0.1:
        found.append(
            f"{one:.0%} of groups succeed throughout: they cost rollouts and teach nothing "
            "(<code>legato rft select</code> leaves them out)."
        )
    known = [row for row in o["group_sizes"] if row["useful"] is not None]
    if len(known) > 1:
        first, last = known[0], known[-1]
        found.append(
            f"Of the rollouts, {first['useful']:.0%} are in groups with a gradient at {first['size']} a group, and "
            f"{last['useful']:.0%} at {last['size']}, the largest size that this log can tell."
        )
    shares = {name: c["share_of_variance"] for name, c in o["columns"].items() if c["share_of_variance"] is not None}
    if shares:
        name = max(shares, key=lambda n: shares[n])
        found.append(f"{_escaped(name)} carries {shares[name]:.0%} of the reward's variance within groups.")
    suspects = o["verdicts"]["suspect"]
    if suspects:
        found.append(f"{suspects} verdicts are open: more rollouts of those prompts would settle them.")
    return found or ["Nothing stands out: scan again later in training."]


def _over_time(report: Findings) -> str:
    steps = [step for step in report.overall["steps"] if step["step"] is not None]
    if len(steps) < 2:
        return ""
    shares = {
        "no_gradient": ("#8a63d2", "no gradient"),
        "all_zero": (COLORS["vanishing"], "all at the bottom"),
        "all_one": (COLORS["solved"], "all at the top"),
    }
    rewards = {"mean": ("#2f6fb3", "mean reward"), "std": (COLORS["healthy"], "mean std within groups")}

    def figure(lines: dict[str, tuple[str, str]], y_name: str, top: float | None) -> str:
        key = "".join(f'<span><i style="background:{color}"></i>{label}</span>' for color, label in lines.values())
        return f'<figure>{timeline(steps, lines, y_name, top)}<div class="key">{key}</div></figure>'

    head = "".join(f"<th>{name}</th>" for name in ("step", "groups", "mean", "std", "no gradient", "all 0", "all 1"))
    rows = "".join(
        f"<tr><td>{s['step']}</td><td>{s['groups']}</td><td>{_number(s['mean'])}</td><td>{_number(s['std'])}</td>"
        f"<td>{s['no_gradient']:.1%}</td><td>{s['all_zero']:.1%}</td><td>{s['all_one']:.1%}</td></tr>"
        for s in steps[-20:]
    )
    return (
        f'<h2>Over time</h2>\n<div class="grid">{figure(shares, "share of groups", 1.0)}'
        f"{figure(rewards, 'reward', None)}</div>\n<details><summary>The last {min(len(steps), 20)} steps as numbers"
        f'</summary><div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        "</details>\n"
    )


def _verdict_key(report: Findings) -> str:
    o = report.overall
    return (
        '<div class="key">'
        + "".join(
            f'<span title="{_MEANING[name]}"><i style="background:{color}"></i>{name}: {o["shares"][name]:.1%} '
            f"({o['verdicts'][name]})</span>"
            for name, color in COLORS.items()
        )
        + "</div><details><summary>What the verdicts mean</summary><ul>"
        + "".join(f"<li><b>{name}</b>: {text}</li>" for name, text in _MEANING.items())
        + "</ul></details>"
    )


def _group_sizes(report: Findings) -> str:
    rows = []
    for row in report.overall["group_sizes"]:
        if row["useful"] is None:
            rows.append(f"<tr><td>{row['size']} and more</td><td>not known</td><td></td><td></td></tr>")
            break
        cost = "-" if row["rollouts_per_useful"] is None else f"{row['rollouts_per_useful']:.1f}"
        rows.append(
            f"<tr><td>{row['size']}</td><td>{row['useful']:.1%} ({row['low']:.1%} to {row['high']:.1%})</td>"
            f"<td>{cost}</td><td>{_number(row['signal'])}</td></tr>"
        )
    head = "".join(f"<th>{name}</th>" for name in ("size", "groups with a gradient", "rollouts for one", "mean std"))
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _reward_columns(report: Findings) -> str:
    columns = report.overall["columns"]
    if not columns:
        return ""
    names = ("reward", "mean", "mean std", "constant groups", "share of the variance")
    head = "".join(f"<th>{name}</th>" for name in names)
    rows = "".join(
        f"<tr><td>{_escaped(name)}</td><td>{_number(c['mean'])}</td><td>{_number(c['mean_std'])}</td>"
        f"<td>{c['constant']:.1%}</td>"
        f"<td>{'-' if c['share_of_variance'] is None else format(c['share_of_variance'], '.1%')}</td></tr>"
        for name, c in columns.items()
    )
    return (
        f'<h2>Which reward carries the variance</h2>\n<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>\n"
    )


def _table(report: Findings, shown: Any) -> str:
    steps = ("step",) if report.has_steps else ()
    names = ("prompt", *steps, "verdict", "mean", "std", "n", "interval", "rollouts needed")
    prompts = one_lines([report.prompt[i] for i in shown], 60)
    head = "".join(f"<th>{name}</th>" for name in names)
    rows = []
    for i, prompt in zip(shown, prompts, strict=True):
        verdict = str(report.verdict[i])
        high = float(report.std_high[i])
        cells = (
            f'<span title="{_escaped(str(report.prompt[i])[:1000])}">{_escaped(prompt)}</span>',
            *((str(report.step[i]),) if steps else ()),
            f'<span style="color:{COLORS[verdict]};font-weight:600">{verdict}</span>',
            _number(float(report.mean[i])),
            _number(float(report.std[i])),
            str(report.n[i]),
            f"{report.std_low[i]:.4f} to {high:.4f}" if math.isfinite(high) else "not bounded",
            str(report.more_rollouts[i]) if report.more_rollouts[i] else "",
        )
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f'<table class="prompts"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _escaped(text: str) -> str:
    return html.escape(printable(text))


def _with_interval(share: dict[str, Any]) -> str:
    return f"{share['share']:.1%} ({share['low']:.1%} to {share['high']:.1%})"


def _number(x: float | None) -> str:
    return "-" if x is None or not math.isfinite(x) else f"{x:.4f}"
