"""``legato diffusion``: the claims of the guidance paper as commands."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from legato._extras import install_command
from legato._files import PendingFile, check_destinations
from legato._printing import say
from legato.errors import ArgumentError, DependencyError

NAME = "diffusion"
HELP = "diffusion sampling: reproduce the claims of the guidance paper"
DESCRIPTION = (
    "Reproduces claims of arXiv 2408.09000 with exact models; prints tables of theory, our value and the error."
)
EXAMPLES = (
    "legato diffusion reproduce all",
    "legato diffusion reproduce counterexample1 --plot variances.svg",
)
PICTURES = (".svg", ".png", ".pdf")
CLAIMS = (
    "counterexample1", "counterexample2", "mean_shift", "two_dimensions", "equivalence", "many_correctors",
    "one_timestep",
)  # fmt: skip
OF_NETWORK = ("digits", "digits_equivalence")
SIMULATED = ("counterexample1", "counterexample2", "two_dimensions")  # the others are exact recursions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``reproduce`` and its options."""
    commands = parser.add_subparsers()
    reproduce = commands.add_parser(
        "reproduce", help="run one claim, or all of them", description=DESCRIPTION, examples=EXAMPLES
    )
    reproduce.add_argument(
        "claim",
        metavar="CLAIM",
        choices=(*CLAIMS, *OF_NETWORK, "all"),
        help=f"{', '.join(CLAIMS)} or all of these; on the course's network {' or '.join(OF_NETWORK)} (minutes)",
    )
    reproduce.add_argument(
        "--course",
        type=Path,
        metavar="DIR",
        default=Path("docs/course"),
        help="a clone's docs/course, with digits.py and its network (docs/course)",
    )
    reproduce.add_argument("--chains", type=int, metavar="N", help="chains of the simulations")
    reproduce.add_argument("--threads", type=int, default=1, metavar="N")
    reproduce.add_argument("--json", type=Path, metavar="FILE", help="store the tables, and the plot's curves")
    reproduce.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the claims (svg, png or pdf)")


def run(arguments: argparse.Namespace) -> int:
    """Run the claims and print their tables."""
    _check(arguments)
    names = CLAIMS if arguments.claim == "all" else (arguments.claim,)
    with contextlib.ExitStack() as opened:
        files = {
            name: opened.enter_context(PendingFile(path))
            for name, path in (("json", arguments.json), ("plot", arguments.plot))
            if path is not None
        }
        tables = _tables(names, arguments)
        if "json" in files:
            files["json"].write_text([json.dumps([vars(table) for table in tables], indent=1, allow_nan=False)])
        if "plot" in files:
            with files["plot"].opened() as file:
                _draw(tables, file, arguments.plot.suffix.lower())
        for pending in files.values():
            pending.commit()
    return 0


def _tables(names: Sequence[str], arguments: argparse.Namespace) -> list[Any]:
    from legato.diffusion import network_study, reproduction

    tables = []
    for name in names:
        options: dict[str, Any] = {}
        if name in SIMULATED:
            options["threads"] = arguments.threads
            if arguments.chains is not None:
                options["chains"] = arguments.chains
        if name in OF_NETWORK:
            table = getattr(network_study, name)(*_network(arguments.course))
        else:
            table = getattr(reproduction, name)(**options)
        tables.append(table)
        say(_text(table))
    return tables


def _check(arguments: argparse.Namespace) -> None:
    """Refuse before the work what could not be done or stored after it."""
    if arguments.chains is not None and arguments.chains < 2:
        raise ArgumentError(f"--chains: expected at least 2, got {arguments.chains}")
    if arguments.threads < 1:
        raise ArgumentError(f"--threads: expected at least 1, got {arguments.threads}")
    if arguments.claim in OF_NETWORK:
        if not (arguments.course / "digits.py").is_file():
            raise ArgumentError(f"--course: expected the folder docs/course of a clone, got {arguments.course}")
        if importlib.util.find_spec("sklearn") is None:
            raise DependencyError(f"{arguments.claim}: needs scikit-learn: pip install scikit-learn")
    check_destinations({}, {"--json": arguments.json, "--plot": arguments.plot})
    if arguments.plot is not None:
        if arguments.plot.suffix.lower() not in PICTURES:
            raise ArgumentError(f"--plot: expected a file ending in {', '.join(PICTURES)}, got {arguments.plot}")
        if importlib.util.find_spec("matplotlib") is None:
            raise DependencyError(f"--plot: needs matplotlib: {install_command('diffusion')}")


def _network(course: Path) -> tuple[Any, Any, Any]:
    """Return the course's network, and the images and labels that it was trained on."""
    spec = importlib.util.spec_from_file_location("digits", course / "digits.py")
    if spec is None or spec.loader is None:
        raise ArgumentError(f"--course: expected a folder with digits.py, got {course}")
    room = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = room
    spec.loader.exec_module(room)
    images, labels = room.images()
    return room.Denoiser.load(), images[: room.TRAINING], labels[: room.TRAINING]


def _text(table: Any) -> str:
    cells = [table.columns, *([_cell(value) for value in row] for row in table.rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.columns))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    said = [f"{'yes' if holds else 'NO'}: {sentence}" for sentence, holds in table.verdicts.items()]
    return "\n".join([f"{table.name}: {table.claim}", *lines, *said, ""])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _draw(tables: list[Any], file: IO[bytes], kind: str) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(tables), figsize=(6.4 * len(tables), 4.8), squeeze=False)
    for table, axes in zip(tables, panels[0], strict=True):
        _DRAWINGS[table.name](table, axes)
        axes.set_title(table.name)
        axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file, format=kind[1:])
    pyplot.close(figure)


def _draw_variances(table: Any, axes: Any) -> None:
    """Draw simulated variances as points on the curves of theory."""
    of = {name: i for i, name in enumerate(table.columns)}
    for color, sampler in (("C0", "CFG-DDPM"), ("C1", "CFG-DDIM")):
        rows = [row for row in table.rows if row[of["sampler"]] == sampler]
        scales = [row[of["gamma"]] for row in rows]
        axes.plot(scales, [row[of["closed form"]] for row in rows], color=color, label=f"{sampler}, closed form")
        axes.plot(scales, [row[of["simulated"]] for row in rows], "o", color=color, label=f"{sampler}, simulated")
    axes.plot(scales, [row[of["powered"]] for row in rows], "k--", label="powered law")
    axes.set(xlabel="guidance scale gamma", ylabel="variance", yscale="log")


def _draw_densities(table: Any, axes: Any) -> None:
    for i, (name, (at, density)) in enumerate(table.curves.items()):
        color = "k" if i == 0 else f"C{i - 1}"
        axes.plot(
            at, density, "--" if i == 0 else "-", color=color, linewidth=2 if i == 0 else 1, label=name, zorder=9 - i
        )
        axes.axvline(table.rows[i][1], color=color, linewidth=0.6, linestyle=":")
    top = max(max(density) for name, (_, density) in table.curves.items() if name != "CFG-DDIM")
    axes.set(xlabel="x (dotted: means)", ylabel="density", ylim=(0, 2 * top))  # CFG-DDIM's narrow modes go beyond


def _draw_differences(table: Any, axes: Any) -> None:
    """Draw how fast the two samplers become one, beside a slope of first order."""
    for i, scale in enumerate(dict.fromkeys(row[0] for row in table.rows)):
        rows = [row for row in table.rows if row[0] == scale]
        axes.loglog([row[1] for row in rows], [row[4] for row in rows], "o-", color=f"C{i}", label=f"gamma {scale:g}")
    steps = [row[1] for row in rows]
    first = max(row[4] for row in table.rows)
    axes.loglog(steps, [2 * first * steps[0] / n for n in steps], "k--", label="first order, 1 / steps")
    axes.set(xlabel="steps", ylabel="|variance of CFG-DDPM - variance of PCG|")


def _draw_means(table: Any, axes: Any) -> None:
    scales = [row[0] for row in table.rows]
    for column, style in ((1, "k--"), (2, "C0"), (3, "C0o"), (5, "C1"), (6, "C1o")):
        name = table.columns[column]
        label = name if style[-1] != "o" else f"{table.columns[column - 1].partition(',')[0]}, {name}"
        axes.plot(scales, [row[column] for row in table.rows], style, label=label)
    axes.set(xlabel="guidance scale gamma", ylabel="mean")


def _draw_means_in_the_plane(table: Any, axes: Any) -> None:
    """Draw each law as its mean, with bars of one standard deviation."""
    for i, row in enumerate(table.rows):
        bars = {"xerr": row[3] ** 0.5, "yerr": row[4] ** 0.5, "capsize": 3, "color": "k" if i == 0 else f"C{i}"}
        axes.errorbar(row[1], row[2], fmt="o", label=row[0], **bars)
    axes.set(xlabel="x (bars: standard deviations)", ylabel="y")


def _draw_errors_of_one_timestep(table: Any, axes: Any) -> None:
    steps = [row[0] for row in table.rows]
    for column, name in ((2, table.columns[1]), (5, table.columns[4])):
        axes.loglog(steps, [abs(row[column]) for row in table.rows], "o-", label=name)
    axes.loglog(steps, [abs(table.rows[0][2]) * steps[0] / n for n in steps], "k--", label="first order, 1 / steps")
    axes.set(xlabel="steps", ylabel="error of the variance, relative")


def _draw_distances_of_digits(table: Any, axes: Any) -> None:
    for i, name in enumerate(dict.fromkeys(row[1] for row in table.rows)):
        rows = [row for row in table.rows if row[1] == name]
        bars = {"yerr": [row[3] for row in rows], "fmt": "o-", "color": f"C{i}", "capsize": 3}
        axes.errorbar([row[0] for row in rows], [row[2] for row in rows], label=name, **bars)
    axes.set(xlabel="guidance scale gamma", ylabel="Frechet distance to the data", yscale="log")


def _draw_distances_of_samplers(table: Any, axes: Any) -> None:
    for i, column in enumerate((1, 3, 5)):
        bars = {"yerr": [row[column + 1] for row in table.rows], "fmt": "o-", "color": f"C{i}", "capsize": 3}
        axes.errorbar([row[0] for row in table.rows], [row[column] for row in table.rows],
                      label=table.columns[column], **bars)  # fmt: skip
    axes.set(xlabel="steps", ylabel="Frechet distance to CFG-DDPM", xscale="log")


def _draw_errors_of_correctors(table: Any, axes: Any) -> None:
    counts = [row[0] for row in table.rows]
    axes.loglog(counts, [row[4] for row in table.rows], "o-", label=table.columns[1])
    axes.loglog(counts, [row[5] for row in table.rows], "x-", label=table.columns[2])
    axes.loglog(counts, [table.rows[0][4] / count for count in counts], "k--", label="1 / K")
    axes.set(xlabel="correctors a step, K", ylabel="error of the variance, relative")


_DRAWINGS = {
    "counterexample1": _draw_variances,
    "counterexample2": _draw_densities,
    "mean_shift": _draw_means,
    "two_dimensions": _draw_means_in_the_plane,
    "equivalence": _draw_differences,
    "many_correctors": _draw_errors_of_correctors,
    "one_timestep": _draw_errors_of_one_timestep,
    "digits": _draw_distances_of_digits,
    "digits_equivalence": _draw_distances_of_samplers,
}
