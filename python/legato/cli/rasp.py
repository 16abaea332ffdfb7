"""``legato rasp [FILE]``: the RASP language at the terminal and in scripts; ``legato rasp study``: length tried."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from legato._printing import printable, say

NAME = "rasp"
HELP = "run RASP programs: a prompt, or a file; study length generalization"
DESCRIPTION = (
    "The RASP language of Weiss, Goldberg and Yahav. Without FILE a prompt; with FILE its statements, and what they\n"
    'show goes to stdout. Statements end with a semicolon. At the prompt: set example "hello", show example,\n'
    'examples on|off, load "file";, draw(expression);, exit.\n'
    "With the word study instead of FILE: trains a small transformer on each task, tests it on longer instances, and\n"
    "writes study.json and study.svg (minutes; needs torch and matplotlib)."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "source", metavar="FILE", type=Path, nargs="?", help="a .rasp file to run instead of a prompt, or study"
    )
    parser.add_argument("--input", metavar="TEXT", help='the example that is shown (default: "hello")')
    parser.add_argument("--evaluate", metavar="EXPRESSION", help="print one expression on the input, after FILE")
    parser.add_argument("--analyze", metavar="EXPRESSION", help="print its attention layers and heads")
    study = parser.add_argument_group("study")
    study.add_argument("--tasks", nargs="+", metavar="TASK", help="of legato.rasp.tasks (default: seven of them)")
    study.add_argument("--steps", type=int, metavar="N", help="of training for each task (default: 1500)")
    study.add_argument("--train-length", type=int, metavar="N", help="longest instances of the training (default: 10)")
    study.add_argument("--test-lengths", type=int, nargs="+", metavar="N", help="(default: 4 7 10 12 15 20 30)")
    study.add_argument("--seed", type=int, metavar="N", help="of weights and instances (default: 0)")
    study.add_argument("--output", type=Path, default=Path(), metavar="FOLDER", help="of the two files (default: here)")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from legato._files import read_text
    from legato.errors import ArgumentError
    from legato.rasp import Interpreter, LanguageError

    if arguments.source == Path("study"):
        return _study(arguments)
    interpreter = Interpreter()
    if arguments.input is not None:
        if not arguments.input:
            raise ArgumentError("--input: expected at least one token")
        interpreter.example = list(arguments.input)
    try:
        if arguments.source is not None:
            for text in interpreter.run(read_text(arguments.source)):
                say(text)
        if arguments.evaluate is not None:
            say(interpreter.evaluate(arguments.evaluate, interpreter.example))
        if arguments.analyze is not None:
            found = interpreter.analyze(arguments.analyze)
            say(f"layers {found.n_layers}, heads {found.max_heads}, heads per layer {found.heads_per_layer}")
    except LanguageError as error:
        say(f"{printable(arguments.source or 'expression')}: {error}", file=sys.stderr)
        return 1
    if arguments.source is None and arguments.evaluate is None and arguments.analyze is None:
        return _prompt(interpreter)
    return 0


def _study(arguments: argparse.Namespace) -> int:
    from legato.rasp import study

    given = {
        "steps": arguments.steps,
        "train_length": arguments.train_length,
        "test_lengths": None if arguments.test_lengths is None else tuple(arguments.test_lengths),
        "seed": arguments.seed,
    }
    settings = study.Settings(**{name: value for name, value in given.items() if value is not None})
    names = study.TASKS if arguments.tasks is None else tuple(arguments.tasks)
    found = study.run(names, settings, report=lambda line: say(line, file=sys.stderr))
    say(found.table())
    for path in found.save(arguments.output):
        say(printable(path))
    return 0


@contextlib.contextmanager
def _history() -> Iterator[None]:
    """Editing for input(), with the lines of earlier sessions."""
    import readline

    say('RASP: statements end with ; and "exit" leaves')
    folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "legato"
    path = folder / "rasp_history"
    with contextlib.suppress(OSError):  # no history yet, or none that can be read: the prompt works without
        readline.read_history_file(path)
    readline.set_history_length(1000)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(path)


def _prompt(interpreter: object) -> int:
    """Read statements until exit or end of file; an unfinished one goes on in the next line."""
    from legato.errors import LegatoError
    from legato.rasp import Interpreter
    from legato.rasp.language import IncompleteSource

    assert isinstance(interpreter, Interpreter)
    waiting = ""
    with _history() if sys.stdin.isatty() else contextlib.nullcontext():
        while not interpreter.finished:
            try:
                line = input(".. " if waiting else ">> ")
            except EOFError:
                say()
                break
            except KeyboardInterrupt:
                say()
                waiting = ""
                continue
            waiting = f"{waiting}\n{line}" if waiting else line
            if not waiting.strip():
                waiting = ""
                continue
            try:
                for text in interpreter.run(waiting):
                    say(text)
            except IncompleteSource as error:
                if line.strip():
                    continue
                say(error)
            except LegatoError as error:
                say(error)
            waiting = ""
    return 0
