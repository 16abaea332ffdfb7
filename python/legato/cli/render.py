"""``legato render IN MOTION OUT``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from legato.cli.stabilize import OUTPUT_OPTIONS, PATH_OPTIONS, add_output, add_path, add_trust, chosen, show, shown

NAME = "render"
HELP = "stabilize a video whose motion is in a motion file"
DESCRIPTION = (
    "Stabilize a video whose motion is in a motion file, from `legato analyze` or from other software: the second\n"
    "pass of `legato stabilize`."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("source", metavar="IN", type=Path, help="the video to read")
    parser.add_argument("motion", metavar="MOTION", type=Path, help="the motion file")
    parser.add_argument("destination", metavar="OUT", type=Path, help="the video to write")
    add_path(parser)
    add_trust(parser)
    add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from legato.video.stabilizing import render

    progress = not arguments.quiet and sys.stderr.isatty()
    options = chosen(arguments, *PATH_OPTIONS, *OUTPUT_OPTIONS, "allow_playlists")
    with shown(arguments):
        show(render(arguments.source, arguments.motion, arguments.destination, progress=progress, **options), arguments)
    return 0
