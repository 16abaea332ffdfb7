"""``legato analyze IN -o MOTION``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from legato._printing import printable, say
from legato.cli.stabilize import add_options, add_talk, chosen
from legato.video.options import Estimate

NAME = "analyze"
HELP = "estimate the motion of a video and write it to a motion file"
DESCRIPTION = (
    "Estimate the motion of a video: the first half of `legato stabilize`, written to a motion file (JSON lines) that\n"
    "`legato render` uses with any preset and crop, without a new pass."
)

EXAMPLES = ("legato analyze shaky.mp4 -o motion.jsonl", "legato analyze shaky.mp4 -o motion.jsonl --region 0,0,640,300")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("source", metavar="IN", type=Path, help="the video to read")
    parser.add_argument("-o", "--output", metavar="MOTION", type=Path, required=True, help="the motion file to write")
    add_options(parser, Estimate, *(name for name in Estimate.names() if name != "motion"))
    add_talk(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from legato._files import PendingFile, check_destinations
    from legato.video.stabilizing import analyze

    inputs = {"input": arguments.source, **({} if arguments.mask is None else {"mask": arguments.mask})}
    check_destinations(inputs, {"output": arguments.output})
    with PendingFile(arguments.output) as pending:
        options = {**chosen(arguments), "rotation": arguments.rotation or "apply"}
        progress = not arguments.quiet and sys.stderr.isatty()
        analysis = analyze(arguments.source, progress=progress, **options)
        pending.write_text(analysis.lines())
        pending.commit()
    failed = len(analysis.failed)
    if arguments.json:
        told = {"motion": str(arguments.output), "frames": len(analysis), "failed": analysis.failed}
        say(json.dumps({**told, "notes": analysis.notes}))
    elif not arguments.quiet:
        unknown = f", {failed} without known motion" if failed else ""
        say(f"{printable(arguments.output)}: {len(analysis)} frames{unknown}")
        for note in analysis.notes:
            say(f"  note: {printable(note)}")
    return 0
