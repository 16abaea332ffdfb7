"""``legato render IN MOTION OUT``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from legato.cli.stabilize import add_options, add_talk, chosen, followed, show, shown
from legato.video.options import Aim, Beside, Estimate, Output

NAME = "render"
HELP = "stabilize a video whose motion is in a motion file"
DESCRIPTION = (
    "Stabilize a video whose motion is in a motion file, from `legato analyze` or from other software: the second\n"
    "pass of `legato stabilize`."
)

EXAMPLES = (
    "legato render shaky.mp4 motion.jsonl steady.mp4",
    "legato render shaky.mp4 motion.jsonl tripod.mp4 --preset tripod --crop 0.2",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("source", metavar="IN", type=Path, help="the video to read")
    parser.add_argument("motion", metavar="MOTION", type=Path, help="the motion file")
    parser.add_argument("destination", metavar="OUT", type=Path, help="the video to write")
    add_options(parser, Aim)
    add_options(parser, Estimate, "stream", "deinterlace", "allow_playlists")
    add_options(parser, Beside, "compare", "report", "plot")
    add_options(parser, Output)
    add_talk(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from legato.video.stabilizing import render

    progress = not arguments.quiet and sys.stderr.isatty()
    with shown(arguments):
        report = render(arguments.source, destination=arguments.destination, progress=progress, **chosen(arguments))
        show(report, arguments)
    return 0 if followed(report, arguments.destination) else 1
