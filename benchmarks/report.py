"""README's table, from a run of the short set: nothing in it is typed.

    legato bench --json benchmarks/bench.json && python benchmarks/report.py

A test holds the page and `benchmarks/bench.json` together.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from legato.bench.timing import duration_text, ratio_text

ROOT = Path(__file__).parents[1]
RUN = Path(__file__).with_name("bench.json")
BEGIN, END = "<!-- made by benchmarks/report.py -->\n", "<!-- end -->\n"


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
            f"{peer} {ratio_text(middle)} ({ratio_text(low)} to {ratio_text(high)})"
            for peer, (low, middle, high) in timing["ratios"].items()
        )
        lines.append(
            f"| {timing['family']}: {timing['name']} | {duration_text(timing['seconds']['legato'][1])} | {others} |"
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
