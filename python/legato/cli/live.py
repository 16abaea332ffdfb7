"""``legato live --input SOURCE --output DESTINATION``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from legato._printing import say, say_error
from legato.cli.stabilize import add_options, chosen
from legato.video.options import Aim, Estimate, Output

NAME = "live"
EXAMPLES = (
    "legato live --input 0 --output window",
    "legato live --input 0 --output steady.mkv --duration 60",
    "legato live --input rtsp://camera/1 --output steady.ts --latency 5",
)
HELP = "steady a camera, a stream or a pipe while it runs"
DESCRIPTION = (
    "Steady a video while it runs, with a fixed delay of some frames and bounded memory; its sound is as late.\n"
    "A camera or network stream that is too fast loses its oldest waiting pictures, one that breaks off is\n"
    "opened again; files and pipes wait instead. Ctrl-C ends in good order: the output is completed."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.set_defaults(again=True)  # a second Ctrl-C means: at once
    parser.add_argument(
        "--input", metavar="N|URL|FILE|-", required=True, help="number of a camera, stream, file or standard input"
    )
    parser.add_argument(
        "--output",
        metavar="URL|FILE|-|window",
        required=True,
        help="stream, file (.mp4 .mkv .ts .y4m ...), standard output or a window",
    )
    parser.add_argument(
        "--latency", metavar="FRAMES", type=int, default=10, help="delay, from 0 up (default: %(default)s)"
    )
    add_options(
        parser,
        Aim,
        "preset",
        help="gentle, standard, smooth, steady or tripod; pan and walk are standard and smooth (default: %(default)s)",
    )
    add_options(
        parser,
        Aim,
        "crop",
        help="part of the field of view that may be given up, between 0 and 1; presets have their own (default: 0.18)",
    )
    add_options(parser, Estimate, "mask", "region")
    parser.add_argument(
        "--guard",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="leave pictures as they are while they would not become steadier (default: yes)",
    )
    parser.add_argument("--fps", type=float, help="frames a second, where the input does not say; asked of a camera")
    parser.add_argument("--camera-size", metavar="WxH", type=_size, help="asked of a camera, such as 1280x720")
    parser.add_argument(
        "--input-option",
        metavar="KEY=VALUE",
        type=_pair,
        action="append",
        default=[],
        help="an option by which FFmpeg opens the input, such as input_format=mjpeg of a camera; any number of times",
    )
    add_options(parser, Output, "interpolation")
    parser.add_argument(
        "--sound",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="carry the sound, as late as the pictures: copied, or encoded where the output needs that (default: yes)",
    )
    parser.add_argument(
        "--container", choices=("y4m", "mpegts"), help="of standard output (default: y4m, which is not coded)"
    )
    add_options(parser, Output, "codec", help="FFmpeg encoder (default: libx264; libvpx-vp9 for .webm)")
    add_options(parser, Output, "crf", default=20, help="constant quality, lower is better (default: %(default)s)")
    add_options(parser, Output, "encoder_preset", metavar=None)
    parser.add_argument("--duration", metavar="SECONDS", type=float, help="stop after so much video")
    parser.add_argument(
        "--stall",
        metavar="SECONDS",
        type=float,
        default=10,
        help="an input that gives nothing for so long is lost; 0 waits for ever (default: %(default)s)",
    )
    parser.add_argument(
        "--reconnect",
        metavar="SECONDS",
        type=float,
        default=60,
        help="time in which a lost camera or stream is opened again (default: %(default)s)",
    )
    parser.add_argument("--report", metavar="FILE.json", type=Path, help="also write a report")
    add_options(parser, Output, "overwrite")
    add_options(parser, Estimate, "allow_playlists")
    add_options(parser, Output, "threads", type=int, help="threads for the warp (default: %(default)s)")
    parser.add_argument("--quiet", action="store_true", help="no progress line and no summary")
    parser.add_argument("--json", action="store_true", help="write the report to stdout (to stderr with --output -)")


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected a size such as 1280x720, got {text!r}")
    return int(width), int(height)


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not (key and sign):
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text!r}")
    return key, value


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from legato.video.live.line import stabilize_live
    from legato.video.live.report import LiveReport

    out = sys.stderr if arguments.output == "-" else sys.stdout

    def tell(report: LiveReport) -> None:
        if arguments.json:
            say(report.to_json(), end="", file=out)
        elif not arguments.quiet:
            say(report.summary(), file=out)

    report = stabilize_live(
        arguments.input,
        arguments.output,
        latency_frames=arguments.latency,
        fps=arguments.fps,
        camera_size=arguments.camera_size,
        input_options=dict(arguments.input_option),
        sound=arguments.sound,
        container=arguments.container,
        duration_s=arguments.duration,
        stall_s=arguments.stall,
        reconnect_s=arguments.reconnect,
        tell=tell,
        progress=not arguments.quiet and sys.stderr.isatty(),
        **chosen(arguments),
    )
    if report.note:
        say_error(report.note)
    return {"interrupted": 130, "stalled": 1, "lost": 1}.get(report.ended, 0)
