"""``legato view REPORT``."""

from __future__ import annotations

import argparse
from pathlib import Path

from legato._printing import printable, say
from legato.cli.stabilize import add_options
from legato.video.options import Estimate

NAME = "view"
HELP = "show a video before and after in step, in a browser"
DESCRIPTION = (
    "Write a page that shows a video before and after in step, with the camera path beneath, and open it in the\n"
    "browser. REPORT is what `legato stabilize --report` wrote. Nothing leaves this computer."
)

EXAMPLES = ("legato view steady_report.json", "legato view steady_report.json -o page.html --no-open")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("report", metavar="REPORT", type=Path, help="the report, JSON")
    parser.add_argument("-o", "--output", metavar="PAGE.html", type=Path, help="the page (default: REPORT.html)")
    add_options(parser, Estimate, "allow_playlists")
    parser.add_argument("--open", action=argparse.BooleanOptionalAction, default=True, help="open it (default: yes)")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    import webbrowser

    from legato.video.results.viewing import write_page

    page = write_page(arguments.report, arguments.output, allow_playlists=arguments.allow_playlists)
    say(printable(page))
    if arguments.open:
        webbrowser.open(page.resolve().as_uri())
    return 0
