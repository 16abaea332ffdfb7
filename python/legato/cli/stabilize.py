"""``legato stabilize IN OUT``, ``legato stabilize IN... --output-folder DIR``."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from legato._printing import printable, say
from legato.errors import ArgumentError, SideFileError
from legato.video.decoding import Ahead

if TYPE_CHECKING:
    from legato.video.batch import Item

NAME = "stabilize"
HELP = "turn shaky videos into steady ones"
DESCRIPTION = (
    "Turn a shaky video into a steady one. Sound, subtitles, timestamps, rotation and colour tags are kept.\n"
    "The kind of file follows the extension of OUT: .mp4 .m4v .mov .mkv .webm .avi .ts.\n"
    "With --output-folder or --suffix every PATH is read, and written under a name made from its own."
)


def numbers(count: int) -> Any:
    """Make a parser of numbers with commas between."""

    def parse(text: str) -> tuple[float, ...]:
        try:
            values = tuple(float(part) for part in text.split(","))
        except ValueError:
            values = ()
        if len(values) != count:
            raise argparse.ArgumentTypeError(f"expected {count} numbers with commas between, got {text!r}")
        return values

    return parse


_BOX: dict[str, Any] = {"type": numbers(4), "metavar": "X,Y,W,H"}


def add_area(parser: argparse.ArgumentParser) -> None:
    """Declare where the scene may be followed."""
    parser.add_argument("--mask", metavar="PICTURE", type=Path, help="follow the scene only where it is white")
    parser.add_argument("--region", **_BOX, help="follow the scene only inside this box, in pixels")


def add_estimate(parser: argparse.ArgumentParser) -> None:
    """Declare what the estimate of the motion depends on."""
    add_area(parser)
    parser.add_argument("--subject", **_BOX, help="a box in the first frame: followed, and kept in view")


def add_path(parser: argparse.ArgumentParser) -> None:
    """Declare what the path depends on."""
    parser.add_argument(
        "--preset",
        default="standard",
        metavar="NAME",
        help="gentle, standard, smooth, tripod or follow; pan and walk are standard and smooth (default: %(default)s)",
    )
    parser.add_argument(
        "--crop",
        type=float,
        help="part of the field of view that may be given up, between 0 and 1; more is smoother; "
        "presets have their own (default: 0.12)",
    )
    parser.add_argument(
        "--salient", metavar="FILE", type=Path, help="CSV or JSON file of points and boxes to keep in view"
    )
    parser.add_argument(
        "--guard",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="leave a clip alone whose jitter is not clearly more than the error of its measurement (default: yes)",
    )
    parser.add_argument(
        "--inclusion",
        choices=("soft", "hard"),
        default="soft",
        help="keep subject and salient points in view where possible, or fail (default: %(default)s)",
    )
    parser.add_argument(
        "--center", type=float, metavar="WEIGHT", help="pull them to the middle (default: 0; 10 in the preset follow)"
    )


def add_rotation(parser: argparse.ArgumentParser) -> None:
    """Declare what becomes of a rotation tag."""
    parser.add_argument(
        "--rotation",
        choices=("apply", "keep"),
        help="turn the pictures upright, or keep them as stored and the tag (default: as in the motion file, or apply)",
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """Declare how pictures are written and what is told."""
    parser.add_argument(
        "--compare",
        metavar="FILE",
        nargs="?",
        const=True,
        help="also write original and result side by side (default: OUT with _compare added; give it after OUT)",
    )
    parser.add_argument(
        "--report", metavar="FILE.json", nargs="?", const=True, help="also write a report (default: OUT_report.json)"
    )
    parser.add_argument(
        "--plot",
        metavar="FILE.svg|png",
        nargs="?",
        const=True,
        help="also draw the path before and after (default: OUT_path.svg)",
    )
    parser.add_argument(
        "--interpolation",
        choices=("bilinear", "bicubic", "lanczos"),
        default="bicubic",
        help="how pictures are resampled (default: %(default)s)",
    )
    parser.add_argument(
        "--codec", help="FFmpeg encoder (default: libx264; for .webm libvpx-vp9, or libsvtav1 beyond 8 bits)"
    )
    parser.add_argument("--crf", type=float, help="constant quality, lower is better (default: 18)")
    parser.add_argument(
        "--encoder-preset",
        default="veryfast",
        metavar="SPEED",
        help="encoder speed, ultrafast to veryslow (default: %(default)s)",
    )
    parser.add_argument("--pixel-format", help="FFmpeg pixel format (default: that of IN)")
    parser.add_argument(
        "--overwrite",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="replace existing files (default: yes)",
    )
    add_talk(parser)


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Declare what inputs may lead to."""
    parser.add_argument(
        "--allow-playlists",
        action="store_true",
        help="read also what an input names that is a list of other files (HLS, DASH, concat); otherwise it is refused",
    )


def add_talk(parser: argparse.ArgumentParser) -> None:
    """Declare how much is said."""
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no summary")
    parser.add_argument("--json", action="store_true", help="write the result to stdout as JSON")


PATH_OPTIONS = ("preset", "crop", "salient", "inclusion", "center", "guard")
OUTPUT_OPTIONS = (
    "compare",
    "report",
    "plot",
    "interpolation",
    "codec",
    "crf",
    "encoder_preset",
    "pixel_format",
    "overwrite",
)


def chosen(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Gather the arguments of these names."""
    return {name: getattr(arguments, name) for name in names}


def show(report: Any, arguments: argparse.Namespace) -> None:
    """Tell what was done, as much as was asked for."""
    if arguments.json:
        say(report.to_json(), end="")
    elif not arguments.quiet:
        say(report.summary())
        for note in report.notes:
            say(f"  note: {printable(note)}")
        if report.dropped_streams:
            say(f"  not copied: {printable(', '.join(report.dropped_streams))}")


@contextlib.contextmanager
def shown(arguments: argparse.Namespace) -> Iterator[None]:
    """Tell what was done also where only a file beside the result is missing, before that is an error."""
    try:
        yield
    except SideFileError as error:
        show(error.report, arguments)
        raise


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "paths", metavar="PATH", nargs="+", type=Path, help="IN OUT; or any number of videos to read (see above)"
    )
    parser.add_argument("--output-folder", metavar="DIR", type=Path, help="write each result into this folder")
    parser.add_argument("--suffix", help="add this to each result's name (default: _stabilized, beside its source)")
    parser.add_argument("--extension", help="of each result, such as mkv (default: that of its source, or .mp4)")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="videos at the same time (default: %(default)s)")
    parser.add_argument(
        "--resume", action="store_true", help="leave out what is done: results that are newer than their source"
    )
    add_path(parser)
    add_estimate(parser)
    add_rotation(parser)
    add_trust(parser)
    parser.add_argument("--motion", metavar="FILE", type=Path, help="a motion file, in place of the estimate")
    parser.add_argument("--save-motion", metavar="FILE", type=Path, help="also write the motion file")
    add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    options = chosen(
        arguments,
        *PATH_OPTIONS,
        *OUTPUT_OPTIONS,
        *("mask", "region", "subject", "motion", "save_motion", "rotation", "allow_playlists"),
    )
    many = arguments.output_folder is not None or arguments.suffix is not None
    if not many:
        if arguments.extension is not None:
            raise ArgumentError("extension: expected together with --output-folder or --suffix")
        if len(arguments.paths) != 2:
            raise ArgumentError("expected IN and OUT, or --output-folder or --suffix for any number of videos")
        if not arguments.resume:
            source, destination = arguments.paths
            progress = not arguments.quiet and sys.stderr.isatty()
            # Its first pictures are decoded while the rest is loaded.
            with Ahead(source, allow_playlists=arguments.allow_playlists) as begun:
                from legato._scalars import as_count
                from legato.video.stabilizing import stabilize

                as_count("jobs", arguments.jobs)
                with shown(arguments):
                    show(stabilize(begun, destination, progress=progress, **options), arguments)
            return 0
    return _run_batch(arguments, options, many)


def _run_batch(arguments: argparse.Namespace, options: dict[str, Any], many: bool) -> int:
    from legato.video.batch import result_paths, stabilize_all

    if many:
        sources = arguments.paths
        results = result_paths(sources, arguments.output_folder, arguments.suffix, arguments.extension)
        for name in ("compare", "report", "plot"):
            if options[name] not in (None, True):
                raise ArgumentError(f"{name}: expected no file name where there are several results")
        for name in ("motion", "save_motion", "salient", "subject"):
            if options[name] is not None and len(sources) > 1:
                raise ArgumentError(f"{name}: it is for one video, and there are {len(sources)}")
    else:
        sources, results = [arguments.paths[0]], [arguments.paths[1]]

    told = set()

    def tell(item: Item) -> None:
        if arguments.json:
            say(json.dumps(item.content(), allow_nan=False), flush=True)
        elif item.status == "failed":
            if item.error_text not in told:  # what is wrong with the arguments is wrong for all
                say(f"legato: error: {item.error_text}", file=sys.stderr, flush=True)
            told.add(item.error_text)
            if item.report and not arguments.quiet:
                say(item.report.summary(), flush=True)
        elif not arguments.quiet:
            say(item.report.summary() if item.report else f"{printable(item.destination)}: {item.status}", flush=True)

    progress = not arguments.quiet and sys.stderr.isatty()
    try:
        items = stabilize_all(
            sources, results, jobs=arguments.jobs, resume=arguments.resume, tell=tell, progress=progress, **options
        )
    except ArgumentError as error:
        if arguments.debug or str(error) not in told:
            raise
        return 2  # and it has been said
    failed = sum(item.status == "failed" for item in items)
    if failed and len(items) > 1:
        say(f"legato: {failed} of {len(items)} failed", file=sys.stderr)
    return 1 if failed else 0
