"""``legato stabilize IN OUT``, ``legato stabilize IN... --output-folder DIR``."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from legato._printing import printable, say, say_error
from legato.errors import ArgumentError, SideFileError
from legato.video.media.decoding import Ahead
from legato.video.options import RECORDS, Aim, Beside, Estimate, Options, Output

if TYPE_CHECKING:
    from legato.video.batch import Item

NAME = "stabilize"
HELP = "turn shaky videos into steady ones"
DESCRIPTION = (
    "Turn a shaky video into a steady one. Sound, subtitles, timestamps, rotation and colour tags are kept.\n"
    "The kind of file follows the extension of OUT: .mp4 .m4v .mov .mkv .webm .avi .ts .gif.\n"
    "With --output-folder or --suffix every PATH is read, and written under a name made from its own."
)


EXAMPLES = (
    "legato stabilize shaky.mp4 steady.mp4",
    "legato stabilize shaky.mp4 steady.mp4 --preset tripod --compare",
    "legato stabilize *.mp4 --output-folder steady/ --resume",
)
# What a record of options is about, as a heading in the help.
_TITLES: dict[type[Options], str] = {
    Aim: "camera path",
    Estimate: "motion",
    Beside: "files beside the result",
    Output: "encoding",
}


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


def add_options(parser: argparse._ActionsContainer, record: type[Options], *names: str, **changed: Any) -> None:
    """Declare the options of a record as its fields say, or only those of these names; `changed`: said otherwise.

    In the help they stand together under the record's heading.
    """
    parser = _section(parser, _TITLES[record])
    for option in dataclasses.fields(record):  # type: ignore[arg-type]
        if option.name in names if names else option.metadata:
            declared = {"default": option.default, **option.metadata, **changed}
            count = declared.pop("numbers", None)
            if count is not None:
                declared["type"] = numbers(count)
            # What is on can be put off.
            if declared.pop("switch", option.default is True):
                declared["action"] = argparse.BooleanOptionalAction
            elif option.default is False:
                declared["action"] = "store_true"
            parser.add_argument(f"--{option.name.replace('_', '-')}", **declared)


def _section(parser: argparse._ActionsContainer, title: str) -> argparse._ActionsContainer:
    there = next((group for group in parser._action_groups if group.title == title), None)
    return there or parser.add_argument_group(title)


def add_talk(parser: argparse.ArgumentParser) -> None:
    """Declare how much is said."""
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no summary")
    parser.add_argument("--json", action="store_true", help="write the result to stdout as JSON")


def chosen(arguments: argparse.Namespace) -> dict[str, Any]:
    """Gather the options that the command has, by name."""
    given = vars(arguments)
    return {name: given[name] for record in RECORDS for name in record.names() if name in given}


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


def followed(report: Any, name: Path) -> bool:
    """Tell whether what was asked for was done; say so if it was not."""
    if report.not_followed:
        what = ", ".join(report.not_followed)
        say(f"legato: {printable(name)}: left as it is, so not followed: {what} (--no-guard, --guard)", file=sys.stderr)
    return not report.not_followed


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
    batch = parser.add_argument_group("many videos")
    batch.add_argument("--output-folder", metavar="DIR", type=Path, help="write each result into this folder")
    batch.add_argument("--suffix", help="add this to each result's name (default: _stabilized, beside its source)")
    batch.add_argument("--extension", help="of each result, such as mkv (default: that of its source, or .mp4)")
    batch.add_argument("-j", "--jobs", type=int, default=1, help="videos at the same time (default: %(default)s)")
    batch.add_argument(
        "--resume", action="store_true", help="leave out what is done: results that are newer than their source"
    )
    for record in RECORDS:
        add_options(parser, record)
    add_talk(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    options = chosen(arguments)
    many = arguments.output_folder is not None or arguments.suffix is not None
    if not many:
        if arguments.extension is not None:
            raise ArgumentError("extension: expected together with --output-folder or --suffix")
        if len(arguments.paths) != 2:
            raise ArgumentError(
                f"expected IN and OUT, got {_count(arguments.paths)}; --output-folder or --suffix takes any number of "
                "videos, and a file name that belongs to an option before IN is written --compare=FILE"
            )
        if not arguments.resume:
            source, destination = arguments.paths
            progress = not arguments.quiet and sys.stderr.isatty()
            # Its first pictures are decoded while the rest is loaded.
            with Ahead(source, stream=arguments.stream, allow_playlists=arguments.allow_playlists) as begun:
                from legato._scalars import as_count
                from legato.video.stabilizing import stabilize

                as_count("jobs", arguments.jobs)
                with shown(arguments):
                    report = stabilize(begun, destination, progress=progress, **options)
                    show(report, arguments)
            return 0 if followed(report, destination) else 1
    return _run_batch(arguments, options, many)


def _count(paths: list[Path]) -> str:
    return "1 name" if len(paths) == 1 else f"{len(paths)} names"


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
                say_error(item.error_text)
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
    alone = [item for item in items if item.report and not followed(item.report, item.destination)]
    if failed and len(items) > 1:
        say(f"legato: {failed} of {len(items)} failed", file=sys.stderr)
    return 1 if failed or alone else 0
