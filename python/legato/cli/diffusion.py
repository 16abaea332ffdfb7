"""``legato diffusion``: the claims of the guidance paper as commands."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from legato.errors import DependencyError, OutputError

NAME = "diffusion"
HELP = "diffusion sampling: reproduce the claims of the guidance paper"
DESCRIPTION = (
    "Reproduces claims of arXiv 2408.09000 with exact models; prints tables of theory, our value and the error."
)
CLAIMS = ("counterexample1", "counterexample2", "equivalence")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``reproduce`` and its options."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    reproduce = commands.add_parser("reproduce", help="run one claim, or all of them")
    reproduce.add_argument("claim", choices=(*CLAIMS, "all"))
    reproduce.add_argument("--chains", type=int, metavar="N", help="chains of the simulations")
    reproduce.add_argument("--threads", type=int, default=1, metavar="N")
    reproduce.add_argument("--json", type=Path, metavar="FILE", help="store the tables")
    reproduce.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the table (one claim)")


def run(arguments: argparse.Namespace) -> int:
    """Run the claims and print their tables."""
    from legato.diffusion import reproduction

    names = CLAIMS if arguments.claim == "all" else (arguments.claim,)
    tables = []
    for name in names:
        options: dict[str, Any] = {}
        if name != "equivalence":
            options["threads"] = arguments.threads
            if arguments.chains is not None:
                options["chains"] = arguments.chains
        table = getattr(reproduction, name)(**options)
        tables.append(table)
        print(_text(table))
    try:
        if arguments.json is not None:
            arguments.json.write_text(json.dumps([vars(table) for table in tables], indent=1))
        if arguments.plot is not None:
            _draw(tables[0], arguments.plot)
    except OSError as error:
        raise OutputError(f"{error.filename}: {error.strerror}") from None
    return 0


def _text(table: Any) -> str:
    cells = [table.columns, *([_cell(value) for value in row] for row in table.rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.columns))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join([f"{table.name}: {table.claim}", *lines, ""])


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _draw(table: Any, path: Path) -> None:
    try:
        import matplotlib as mpl
    except ImportError:
        raise DependencyError("--plot: needs matplotlib (pip install legato[diffusion])") from None
    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    names = [i for i, value in enumerate(table.rows[0]) if isinstance(value, str)]
    key = names[0] if names else 0
    numbers = [i for i, value in enumerate(table.rows[0]) if isinstance(value, int | float) and i != key]
    for label in dict.fromkeys(row[key] for row in table.rows):
        rows = [row for row in table.rows if row[key] == label]
        for i in numbers[1:]:
            axes.plot(
                [row[numbers[0]] for row in rows], [row[i] for row in rows], "o-", label=f"{label} {table.columns[i]}"
            )
    axes.set_xlabel(table.columns[numbers[0]])
    axes.set_title(table.name)
    axes.legend(fontsize=6)
    figure.savefig(path)
    pyplot.close(figure)
