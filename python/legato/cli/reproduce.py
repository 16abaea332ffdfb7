"""``legato reproduce``: the claims of the five papers as one table, every verdict computed."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING

from legato._extras import install_command
from legato._files import PendingFile, check_destinations
from legato._printing import say
from legato.claims.running import PAPERS
from legato.errors import ArgumentError, DependencyError

if TYPE_CHECKING:
    from legato.claims import Claim

NAME = "reproduce"
HELP = "run what the papers claim: their value, ours, a verdict"
DESCRIPTION = (
    "Runs every claim of the five papers that this machine can: what the paper states, what was found, and whether it "
    "holds, which is computed. What cannot run here is listed with the reason. With --quick it takes seconds; the "
    "networks of rasp and the digits of rft take longest without."
)
EXAMPLES = (
    "legato reproduce",
    "legato reproduce guidance steps --quick",
    "legato reproduce all --json claims.json --markdown claims.md --plot claims.svg",
)
_VERDICTS = {True: "holds", False: "DOES NOT HOLD", None: "not judged"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("paper", nargs="*", metavar="PAPER", help=f"{', '.join(PAPERS)} or all (the default)")
    parser.add_argument("--quick", action="store_true", help="fewer samples and seeds, and no networks")
    parser.add_argument("--json", type=Path, metavar="FILE", help="store the claims")
    parser.add_argument("--markdown", type=Path, metavar="FILE.md", help="store the table")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw how far ours are off (svg, png or pdf)")


def run(arguments: argparse.Namespace) -> int:
    """Run the claims; the exit code is 3 where one does not hold."""
    names = [name for name in arguments.paper if name != "all"]
    for name in names:
        if name not in PAPERS:
            raise ArgumentError(f"PAPER: expected some of {', '.join(PAPERS)}, or all, got {name!r}")
    if "all" in arguments.paper or not names:
        names = list(PAPERS)
    stored = {"--json": arguments.json, "--markdown": arguments.markdown, "--plot": arguments.plot}
    check_destinations({}, stored)
    from legato import claims
    from legato.claims import plotting

    if arguments.plot is not None:
        if arguments.plot.suffix.lower() not in plotting.FORMATS:
            raise ArgumentError(
                f"--plot: expected a file ending in {', '.join(plotting.FORMATS)}, got {arguments.plot}"
            )
        if importlib.util.find_spec("matplotlib") is None:
            raise DependencyError(f"--plot: needs matplotlib: {install_command('diffusion')}")
    with contextlib.ExitStack() as opened:
        files = {path: opened.enter_context(PendingFile(path)) for path in stored.values() if path}
        told: set[str] = set()

        def tell(claim: Claim) -> None:
            if claim.paper not in told:
                told.add(claim.paper)
                paper = claims.PAPERS[claim.paper]
                say(f"\n{claim.paper}: {paper.title} ({paper.source})")
            say(f"  {_VERDICTS[claim.holds]}: {claim.text}")
            say(f"      the paper: {claim.stated or '-'}; ours: {claim.found}", flush=True)

        found = claims.run(names, quick=arguments.quick, done=tell)
        say("\nnot run here")
        for name in names:
            say(f"  {name}: {claims.NOT_RUN[name]}")
        say(f"\n{_summary(found)}")
        if arguments.json:
            content = [dataclasses.asdict(claim) for claim in found]
            files[arguments.json].write_text([json.dumps(content, indent=1, allow_nan=False), "\n"])
        if arguments.markdown:
            files[arguments.markdown].write_text([_markdown(found)])
        if arguments.plot:
            with files[arguments.plot].opened() as file:
                plotting.draw(found, file, arguments.plot.suffix.lower())
        for pending in files.values():
            pending.commit()
    return 3 if any(claim.holds is False for claim in found) else 0


def _summary(found: list[Claim]) -> str:
    counts = {holds: sum(claim.holds is holds for claim in found) for holds in (True, False, None)}
    seconds = sum(claim.seconds for claim in found)
    return (
        f"{len(found)} claims in {seconds / 60:.1f} minutes: {counts[True]} hold, {counts[False]} do not, "
        f"{counts[None]} not judged"
    )


def _markdown(found: list[Claim]) -> str:
    lines = ["| paper | claim | stated | found | verdict | s |", "|---|---|---|---|---|---|"]
    for claim in found:
        cells = (
            claim.paper,
            claim.text,
            claim.stated,
            claim.found,
            _VERDICTS[claim.holds].lower(),
            f"{claim.seconds:.1f}",
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, "", _summary(found), ""])
