"""``legato demo DIR``: the main job on a clip whose true camera motion is known."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from legato._printing import printable, say
from legato.errors import ArgumentError, DependencyError, OutputError, SideFileError
from legato.video.synthetic import KINDS

NAME = "demo"
HELP = "render a shaky clip, stabilize it and show what was gained"
DESCRIPTION = (
    "Render a shaky clip with sound whose true camera motion is known, stabilize it, and measure what was gained.\n"
    "Writes into DIR: shaky.mp4, ground_truth.npz, stabilized.mp4, comparison.mp4, path.svg, report.json."
)

EXAMPLES = ("legato demo demo/", "legato demo demo/ --kind run --seed 7 --size 1280x720", "legato demo demo/ --loop")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder to write to; made if absent")
    parser.add_argument("--frames", type=int, default=240, help="length (default: %(default)s)")
    parser.add_argument("--size", type=_size, default=(640, 360), metavar="WxH", help="in pixels (default: 640x360)")
    parser.add_argument("--seed", type=int, default=1, help="of the scene and the shake (default: 1)")
    parser.add_argument("--kind", choices=KINDS, default="walk", help="what the camera does (default: %(default)s)")
    parser.add_argument("--loop", action="store_true", help="write loop.webp, too: a short animation for a page")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no table")


def _size(text: str) -> tuple[int, int]:
    width, x, height = text.lower().partition("x")
    if not (x and width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected a size such as 640x360, got {text!r}")
    return int(width), int(height)


def _announced(_stage: str, done: int, _total: int | None) -> None:
    """Say what takes a while, where there is no bar."""
    if done == 1:
        say("drawing a shaky clip and stabilizing it ...", file=sys.stderr)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from legato import camera
    from legato.camera.plotting import path_curves
    from legato.video.results.loop import write_loop
    from legato.video.side_files import SideFiles
    from legato.video.stabilizing import stabilize
    from legato.video.synthetic.synthesis import synthesize

    folder: Path = arguments.folder
    progress = not arguments.quiet and sys.stderr.isatty()
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror})") from error
    shaky, steady = folder / "shaky.mp4", folder / "stabilized.mp4"
    comparison, plot, report_file, loop = (
        folder / name for name in ("comparison.mp4", "path.svg", "report.json", "loop.webp")
    )
    try:
        truth = synthesize(
            shaky,
            kind=arguments.kind,
            seed=arguments.seed,
            size=arguments.size,
            frames=arguments.frames,
            audio=True,
            progress=progress or (not arguments.quiet and _announced),
        )
    except (ArgumentError, DependencyError):  # nothing was begun
        if made:
            folder.rmdir()
        raise
    beside = SideFiles()
    with beside.attempt(folder / "ground_truth.npz"):
        truth.save(folder / "ground_truth.npz")
    try:
        report = stabilize(
            shaky,
            steady,
            compare=comparison,
            report=report_file,
            plot=plot,
            progress=progress,
        )
    except SideFileError as error:
        report = error.report
        beside.errors |= error.errors
    if arguments.loop and comparison not in beside.errors:
        with beside.attempt(loop):
            before, after = path_curves(truth.motion, report.corrections, truth.size)
            write_loop(comparison, before["horizontal (px)"], after["horizontal (px)"], loop)
    gained = camera.path_metrics(truth.motion, report.corrections, truth.size)
    if not arguments.quiet:
        say(report.summary())
        say()
        say("measured with the true camera motion      before     after")
        say(f"  jitter (residual acceleration, px)     {gained.input_jitter_px:8.3f}  {gained.jitter_px:8.3f}")
        say(f"  field of view kept                         100 %  {report.cropping:7.1%}")
        say(f"  largest reach beyond the frame, px             -  {report.violation_px:8.3f}")
        say()
        for path, what in (
            (shaky, "what the camera saw"),
            (steady, "the result"),
            (plot, "the camera path before and after"),
            (report_file, "all numbers"),
            (comparison, "both side by side"),
            (loop, "the same as a short animation, the camera's way below"),
        ):
            if path not in beside.errors and (arguments.loop or path != loop):
                say(f"  {printable(path)}: {what}")
        say(f"\nnow open {printable(steady if comparison in beside.errors else comparison)}")
    beside.check(steady, report)
    return 0
