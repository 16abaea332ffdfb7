"""``legato rasp [FILE]``: the RASP language at the terminal and in scripts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

NAME = "rasp"
HELP = "run RASP programs: a prompt, or a file"
DESCRIPTION = (
    "The RASP language of Weiss, Goldberg and Yahav. Without FILE a prompt; with FILE its statements, and what they\n"
    'show goes to stdout. Statements end with a semicolon. At the prompt: set example "hello", show example,\n'
    'examples on|off, load "file";, draw(expression);, exit.'
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("source", metavar="FILE", type=Path, nargs="?", help="a .rasp file to run instead of a prompt")
    parser.add_argument("--input", metavar="TEXT", help='the example that is shown (default: "hello")')
    parser.add_argument("--evaluate", metavar="EXPRESSION", help="print one expression on the input, after FILE")
    parser.add_argument("--analyze", metavar="EXPRESSION", help="print its attention layers and heads")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from legato.errors import ArgumentError, InputError
    from legato.rasp import Interpreter, LanguageError

    interpreter = Interpreter()
    if arguments.input is not None:
        if not arguments.input:
            raise ArgumentError("--input: expected at least one token")
        interpreter.example = list(arguments.input)
    try:
        if arguments.source is not None:
            try:
                source = arguments.source.read_text()
            except OSError as error:
                raise InputError(f"{arguments.source}: cannot be read: {error.strerror}") from None
            for text in interpreter.run(source):
                print(text)
        if arguments.evaluate is not None:
            print(interpreter.evaluate(arguments.evaluate, interpreter.example))
        if arguments.analyze is not None:
            found = interpreter.analyze(arguments.analyze)
            print(f"layers {found.n_layers}, heads {found.max_heads}, heads per layer {found.heads_per_layer}")
    except LanguageError as error:
        print(f"{arguments.source or 'expression'}: {error}", file=sys.stderr)
        return 1
    if arguments.source is None and arguments.evaluate is None and arguments.analyze is None:
        return _prompt(interpreter)
    return 0


def _prompt(interpreter: object) -> int:
    """Read statements until exit or end of file; an unfinished one goes on in the next line."""
    from legato.errors import LegatoError
    from legato.rasp import Interpreter
    from legato.rasp.language import IncompleteSource

    assert isinstance(interpreter, Interpreter)
    if sys.stdin.isatty():
        import readline  # noqa: F401  # history and editing for input()

        print('RASP: statements end with ; and "exit" leaves')
    waiting = ""
    while not interpreter.finished:
        try:
            line = input(".. " if waiting else ">> ")
        except EOFError:
            print()
            break
        except KeyboardInterrupt:
            print()
            waiting = ""
            continue
        waiting = f"{waiting}\n{line}" if waiting else line
        if not waiting.strip():
            waiting = ""
            continue
        try:
            for text in interpreter.run(waiting):
                print(text)
        except IncompleteSource as error:
            if line.strip():
                continue
            print(error)
        except LegatoError as error:
            print(error)
        waiting = ""
    return 0
