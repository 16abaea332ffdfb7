"""``legato evaluate ORIGINAL STABILIZED``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from legato._printing import say
from legato.cli.stabilize import add_options
from legato.video.options import Estimate

NAME = "evaluate"
HELP = "measure a stabilized video against its original"
DESCRIPTION = (
    "Measure a stabilized video, of any tool, against its original: residual jitter, the field's metrics, and a check\n"
    "that follows points through three frames without a motion model. Lengths are pixels of a picture 640 wide."
)

EXAMPLES = ("legato evaluate shaky.mp4 steady.mp4", "legato evaluate shaky.mp4 steady.mp4 --json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("original", metavar="ORIGINAL", type=Path, help="the shaky video")
    parser.add_argument("stabilized", metavar="STABILIZED", type=Path, help="what a stabilizer made of it")
    parser.add_argument(
        "--offset",
        type=int,
        help="the frame of ORIGINAL that the first frame of STABILIZED shows, for tools that drop frames",
    )
    parser.add_argument(
        "--report",
        metavar="FILE.json",
        type=Path,
        help="of stabilize: what it says was filled from neighboring frames does not count as outside",
    )
    add_options(parser, Estimate, "stream", help="which stream of ORIGINAL, as ffprobe counts them")
    add_options(parser, Estimate, "deinterlace", help="make whole pictures of ORIGINAL's interlaced ones first")
    add_options(parser, Estimate, "allow_playlists")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--json", action="store_true", help="write all metrics as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from legato.video.results.evaluation import evaluate

    progress = not arguments.quiet and sys.stderr.isatty()
    metrics = evaluate(
        arguments.original,
        arguments.stabilized,
        offset=arguments.offset,
        report=arguments.report,
        stream=arguments.stream,
        deinterlace=arguments.deinterlace,
        allow_playlists=arguments.allow_playlists,
        progress=progress,
    )
    say(metrics.to_json() if arguments.json else metrics.table(), end="")
    return 0
