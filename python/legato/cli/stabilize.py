"""``legato stabilize IN OUT``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

NAME = "stabilize"
HELP = "turn a shaky video into a steady one"
DESCRIPTION = (
    "Turn a shaky video into a steady one. Sound, subtitles, timestamps, rotation and colour tags are kept.\n"
    "The kind of file follows the extension of OUT: .mp4 .m4v .mov .mkv .webm .avi .ts."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("source", metavar="IN", type=Path, help="the video to read")
    parser.add_argument("destination", metavar="OUT", type=Path, help="the video to write")
    parser.add_argument(
        "--crop",
        type=float,
        help="part of the field of view that may be given up, between 0 and 1; more is smoother (default: 0.12)",
    )
    parser.add_argument(
        "--compare",
        metavar="PATH",
        nargs="?",
        const=True,
        help="also write original and result side by side (default: OUT with _compare added; give it after OUT)",
    )
    parser.add_argument("--report", metavar="FILE.json", type=Path, help="also write a report")
    parser.add_argument("--plot", metavar="FILE.svg|png", type=Path, help="also draw the path before and after")
    parser.add_argument(
        "--interpolation",
        choices=("bilinear", "bicubic", "lanczos"),
        default="bicubic",
        help="how pictures are resampled (default: %(default)s)",
    )
    parser.add_argument("--codec", help="FFmpeg encoder (default: libx264; libvpx-vp9 for .webm)")
    parser.add_argument(
        "--crf", type=float, default=18, help="constant quality, lower is better (default: %(default)s)"
    )
    parser.add_argument(
        "--preset", default="veryfast", help="encoder speed, ultrafast to veryslow (default: %(default)s)"
    )
    parser.add_argument("--pixel-format", help="FFmpeg pixel format (default: that of IN)")
    parser.add_argument(
        "--overwrite",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="replace existing files (default: yes)",
    )
    parser.add_argument(
        "--guard",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="leave a clip alone whose jitter is not clearly more than the error of its measurement (default: yes)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no summary")
    parser.add_argument("--json", action="store_true", help="write the report to stdout")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from legato.video.stabilizing import stabilize

    report = stabilize(
        arguments.source,
        arguments.destination,
        crop=arguments.crop,
        interpolation=arguments.interpolation,
        codec=arguments.codec,
        crf=arguments.crf,
        preset=arguments.preset,
        pixel_format=arguments.pixel_format,
        overwrite=arguments.overwrite,
        compare=arguments.compare,
        report=arguments.report,
        plot=arguments.plot,
        guard=arguments.guard,
        progress=not arguments.quiet and sys.stderr.isatty(),
    )
    if arguments.json:
        sys.stdout.write(report.to_json())
    elif not arguments.quiet:
        print(report.summary())
        for note in report.notes:
            print(f"  note: {note}")
        if report.dropped_streams:
            print(f"  not copied: {', '.join(report.dropped_streams)}")
    return 0
