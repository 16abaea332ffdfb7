"""The ``legato`` command: one file per subcommand, no arithmetic."""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, NoReturn

from legato import __version__
from legato._printing import say, say_error
from legato.cli.parsing import Parser
from legato.errors import ArgumentError, LegatoError

__all__ = ["command", "main"]

_COMMANDS = (
    "stabilize",
    "live",
    "analyze",
    "render",
    "view",
    "evaluate",
    "demo",
    "diffusion",
    "rasp",
    "rft",
    "bench",
    "reproduce",
    "info",
    "completion",
)
_EXAMPLES = (
    "legato demo demo/",
    "legato stabilize shaky.mp4 steady.mp4",
    "legato rft scan 'run/*.parquet' --html page.html",
    "legato rasp run program.rasp --input hello",
    "legato COMMAND --help",
)


def _parser(asked: str | None = None) -> Parser:
    """Make the parser of all commands, or of one command alone where it is known which: the others take a while."""
    parser = Parser(
        prog="legato",
        description="Fast compiled kernels: steady videos, diffusion sampling, RASP programs, reward diagnostics.",
        examples=_EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"legato {__version__}")
    parser.set_defaults(debug=False)
    commands = parser.add_subparsers()
    for name in [asked] if asked in _COMMANDS else _COMMANDS:
        command = importlib.import_module(f"legato.cli.{name}")
        sub = commands.add_parser(
            command.NAME, help=command.HELP, description=command.DESCRIPTION, examples=command.EXAMPLES
        )
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``legato`` command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; by default those of the process.

    Returns
    -------
    int
        The exit code; `legato.cli.parsing.EXIT_CODES` says what it means.
    """
    return _run(sys.argv[1:] if argv is None else list(argv), alone=False)


def _run(given: list[str], *, alone: bool) -> int:
    """Run the command; `alone`: the process ends with it."""
    try:
        arguments = _parser(given[0] if given else None).parse_args(given)
    except SystemExit as done:  # argparse has said what there is to say
        return done.code if isinstance(done.code, int) else 0 if done.code is None else 2
    try:
        with (
            _log_shown() if arguments.debug else contextlib.nullcontext(),
            _ended_by_signals(once=not getattr(arguments, "again", False), alone=alone),
        ):
            code: int = arguments.run(arguments)
            return code
    except KeyboardInterrupt:
        say("legato: interrupted", file=sys.stderr)
        return 130
    except _Terminated:
        say("legato: terminated", file=sys.stderr)
        return 143
    except BrokenPipeError:  # whoever reads our output has enough
        return 1
    except Exception as error:
        if arguments.debug:
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None:
            text = f"standard output: cannot be written ({error.strerror})"
        elif not isinstance(error, LegatoError):
            text = f"unexpected {type(error).__name__}: {text} (--debug shows where)"
        say_error(text)
        return 2 if isinstance(error, ArgumentError) else 1


@contextlib.contextmanager
def _log_shown() -> Iterator[None]:
    """Write the log of the library to stderr, from its details up, while the command runs."""
    import logging

    log, handler = logging.getLogger("legato"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.setLevel(before)
        log.removeHandler(handler)


def command() -> NoReturn:
    """Be the process of the ``legato`` command, from its arguments to its exit code."""
    # Read when NumPy is loaded. No command multiplies matrices that would be worth waking a thread for each processor.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.set_threshold(100_000)  # modules are no garbage: looking for some is a fiftieth of a short command's time
    for stream in (sys.stdout, sys.stderr):  # a name that cannot be shown is no reason to fail
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = _run(sys.argv[1:], alone=True)
    except KeyboardInterrupt:  # before the work or after it
        code = 130
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (BrokenPipeError, AttributeError):  # nobody listens
        code = code or 1
    except OSError as error:
        code = code or 1
        with contextlib.suppress(OSError):
            say_error(f"standard output: cannot be written ({error.strerror})")
    # Files are complete and closed by now: there is nothing to take apart the interpreter for, which takes a while.
    os._exit(code)


class _Terminated(BaseException):
    """SIGTERM, as an exception that lets the ``with`` blocks remove their unfinished files."""


@contextlib.contextmanager
def _ended_by_signals(*, once: bool, alone: bool) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the work; `once`: nothing interrupts the removal of unfinished files then."""
    heard = False

    def stop(number: int, _frame: FrameType | None) -> NoReturn:
        nonlocal heard
        heard = True
        if once:
            for other in before:
                signal.signal(other, signal.SIG_IGN)
        raise _Terminated if number == signal.SIGTERM else KeyboardInterrupt

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # signals belong to it
        # Who started us with SIGINT ignored, as `nohup` and shells do for jobs in the background, wants it so.
        before = {n: h for n in (signal.SIGINT, signal.SIGTERM) if (h := signal.getsignal(n)) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        # A process that is about to end for a signal is not to die of the next one.
        for number, handler in () if heard and alone else before.items():
            signal.signal(number, handler)
