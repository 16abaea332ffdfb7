"""README's table, from a run of the short set: nothing in it is typed.

    legato bench --json benchmarks/bench.json && python benchmarks/report.py

A test holds the page and `benchmarks/bench.json` together.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RUN = Path(__file__).with_name("bench.json")
BEGIN, END = "<!-- made by benchmarks/report.py -->\n", "<!-- end -->\n"


def duration(seconds: float) -> str:
    """Write a time with three digits."""
    unit, size = next(((u, s) for u, s in (("s", 1.0), ("ms", 1e-3)) if seconds >= s), ("us", 1e-6))
    return f"{seconds / size:.3g} {unit}" if seconds < 999.5 * size else f"{seconds / size:.0f} {unit}"


def times(ratio: float) -> str:
    """Write a ratio with two to three digits."""
    return f"{ratio:.2f}" if ratio < 9.995 else f"{ratio:.1f}" if ratio < 99.95 else f"{ratio:,.0f}"


def table(run: dict[str, Any]) -> str:
    """Write machine, versions and one row for each that was measured."""
    machine, packages = run["machine"], dict(run["packages"])
    version = packages.pop("legato")
    named = ", ".join(f"{name} {number}" for name, number in packages.items())
    lines = [
        f"`legato bench`, version {version}, on {machine['processors']} cores of {machine['processor']} "
        f"({machine['isa']} kernels), {machine['system']}, Python {machine['python']}, {named}; one thread each, "
        "medians of CPU time in turn, in parentheses the quartiles of the ratio.",
        "",
        "| | Legato | the others take, times as long |",
        "|---|---|---|",
    ]
    for timing in run["timings"]:
        others = "; ".join(
            f"{peer} {times(middle)} ({times(low)} to {times(high)})"
            for peer, (low, middle, high) in timing["ratios"].items()
        )
        lines.append(
            f"| {timing['family']}: {timing['name']} | {duration(timing['seconds']['legato'][1])} | {others} |"
        )
    return "\n".join(lines) + "\n"


def page(text: str, run: dict[str, Any]) -> str:
    """Put the table where a page has it."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"README.md: expected {BEGIN.strip()} and {END.strip()}")
    return f"{before}{BEGIN}{table(run)}{END}{after}"


def main() -> None:
    """Write README anew."""
    readme = ROOT / "README.md"
    readme.write_text(page(readme.read_text(), json.loads(RUN.read_text())))


if __name__ == "__main__":
    main()
