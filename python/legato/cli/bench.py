"""``legato bench``: the short set of benchmarks on this machine, and two runs held against each other."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from legato._files import PendingFile, read_json
from legato._printing import say
from legato.cli.parsing import Parser
from legato.errors import InputError

if TYPE_CHECKING:
    from legato.bench import Run, Timing

NAME = "bench"
HELP = "time the kernels on this machine beside those of other packages"
DESCRIPTION = (
    "Times the kernels of each family in turn with the packages that do the same and are installed; every answer is "
    "asserted first. Ratios say how many times as long the others take."
)
EXAMPLES = (
    "legato bench",
    "legato bench rft camera --json before.json",
    "legato bench compare before.json after.json",
)
FAMILIES = ("camera", "video", "diffusion", "rasp", "rft")


def add_arguments(parser: Parser) -> None:
    """Declare ``run``, which is meant where nothing is named, and ``compare``."""
    commands = parser.add_subparsers(otherwise="run", others=FAMILIES)
    run_ = commands.add_parser("run", help="time the kernels (the default)", description=DESCRIPTION, examples=EXAMPLES)
    run_.add_argument("family", nargs="*", metavar="FAMILY", help=f"some of {', '.join(FAMILIES)}; by default all")
    run_.add_argument("--seconds", type=float, default=2.0, metavar="S", help="about how long a row takes (2)")
    run_.add_argument("--json", type=Path, metavar="FILE", help="store the quartiles, machine and versions")
    compare = commands.add_parser(
        "compare",
        help="judge what became faster or slower",
        description="Compares two runs row by row. A row counts as changed where the quartiles do not overlap and the "
        "median moved by 5 % at least; the exit code is 3 where one became slower.",
        examples=EXAMPLES[2:],
    )
    compare.add_argument("before", type=Path, metavar="BEFORE.json")
    compare.add_argument("after", type=Path, metavar="AFTER.json")
    compare.set_defaults(compare=True)


def run(arguments: argparse.Namespace) -> int:
    """Run the short set, or compare two runs."""
    if getattr(arguments, "compare", False):
        return _compare(arguments.before, arguments.after)
    from legato import bench

    with contextlib.ExitStack() as opened:
        file = None
        if arguments.json is not None:
            file = opened.enter_context(PendingFile(arguments.json))
        families = tuple(dict.fromkeys(arguments.family)) or FAMILIES
        measured = bench.run(families, seconds=arguments.seconds, begun=_say_machine, done=_say_row)
        if file is not None:
            file.write_text([json.dumps(measured.to_dict(), indent=1, allow_nan=False)])
            file.commit()
    return 0


def _say_machine(run: Run) -> None:
    machine = run.machine
    say(f"{machine['processor']}, {machine['processors']} processors, {machine['system']}, {machine['isa']} kernels")
    say(", ".join(f"{name} {version}" for name, version in run.packages.items()))
    if run.missing:
        say(f"not installed, their columns are left out: {', '.join(run.missing)}")
    if set(machine["threads"].values()) != {"1"}:
        say(f"threads as the environment has them: {machine['threads']}")
    say("one thread each, medians of rounds in turn; in parentheses the quartiles")


def _say_row(timing: Timing) -> None:
    from legato.bench.timing import duration_text, ratio_text

    share = "" if timing.share is None else f", {timing.share[1]:.0%} of what the machine allows"
    say(f"{timing.family}: {timing.name}: {duration_text(timing.seconds['legato'][1])}{share}")
    for peer, (low, middle, high) in timing.ratios.items():
        said = f"{ratio_text(middle)} times as long ({ratio_text(low)} to {ratio_text(high)})"
        say(f"    {peer:<24}{duration_text(timing.seconds[peer][1]):>10}   {said}", flush=True)


def _compare(before: Path, after: Path) -> int:
    from legato.bench.comparison import compare

    changes, notes = compare(read_json(before), read_json(after), names=(str(before), str(after)))
    for change in changes:
        say(f"{change.verdict:<7}{change.factor:>6.2f} times the speed   {change.family}: {change.name}, {change.peer}")
    for note in notes:
        say(f"note: {note}")
    if not changes:
        raise InputError(f"{before} and {after} have no row in common")
    return 3 if any(change.verdict == "slower" for change in changes) else 0
