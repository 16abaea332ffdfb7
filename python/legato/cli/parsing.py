"""The parser of every command: examples, exit codes, suggestions, color, and ``--debug`` wherever it is put."""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

from legato._printing import colored, printable, say_error

__all__ = ["EXIT_CODES", "Parser"]

EXIT_CODES = {
    0: "done",
    1: "failed; one line on stderr says why, and no unfinished file is left under its final name",
    2: "wrong usage or arguments",
    3: "done, and a check found something: a --fail-on limit of `legato rft scan`, a bound or claim that does "
    "not hold, a row of `legato bench compare` that became slower",
    130: "interrupted (Ctrl-C); unfinished files were removed, and a live output was completed",
    143: "terminated (SIGTERM); the same",
}
"""What every command's exit code means; `docs/command.md` has the same table."""

_WIDTH = 78
_HEADING = re.compile(r"^[a-z][a-z ]*:", re.MULTILINE)
_FLAG = re.compile(r"(?<![\w-])--?[a-zA-Z][\w-]*")


class Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong, and what may have been meant.

    Parameters
    ----------
    examples : sequence of str
        Commands that the help shows.
    **declared
        As those of ``argparse.ArgumentParser``; sub-commands have parsers of this class, too.
    """

    def __init__(self, *, examples: Sequence[str] = (), **declared: Any) -> None:
        self.examples = tuple(examples)
        declared.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)  # for the epilog
        if declared.get("description"):
            declared["description"] = textwrap.fill(" ".join(declared["description"].split()), _WIDTH)
        super().__init__(epilog=_epilog(self.examples), allow_abbrev=False, **declared)
        self.color = False  # that of Python 3.14 does not ask what is said here
        self._commands: Any = None
        self._otherwise: str | None = None
        self._others: tuple[str, ...] = ()
        self._waiting: set[str] = set()
        # No default, since that of a sub-command would hide what was said before its name.
        self.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks and the log")

    def add_subparsers(self, *, otherwise: str | None = None, others: Sequence[str] = (), **declared: Any) -> Any:
        """Begin the sub-commands.

        `otherwise`: the one that is meant where none is named; `others`: what it takes, if not files.
        """
        self._otherwise, self._others = otherwise, tuple(others)
        declared = {"title": "commands", "metavar": "COMMAND", "required": True, **declared}
        self._commands = super().add_subparsers(**declared)
        return self._commands

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and refuse here what is not known, so that the message names this command's help."""
        given = sys.argv[1:] if args is None else list(args)
        if self._otherwise is not None:
            given = self._with_command(given)
        elif self._commands is not None and not given:
            self.print_help()
            self.exit()
        elif self._commands is None:
            self._refuse_unknown(word for word in given if word.startswith("--") and " " not in word)
        self._waiting = {action.dest for action in self._actions if not action.option_strings}
        arguments, unknown = super().parse_known_args(given, namespace)
        self._refuse_unknown(unknown)
        return arguments, unknown

    def _refuse_unknown(self, words: Iterable[str]) -> None:
        for word in words:
            name = word.partition("=")[0]
            if word == "--":  # what follows are no options
                return
            if name not in self._option_string_actions:
                what = "option" if word.startswith("-") else "argument"
                self.error(f"unrecognized {what}: {word}{_nearest(name, self._option_string_actions)}")

    def _with_command(self, given: list[str]) -> list[str]:
        names = self._commands.choices
        first = given[0] if given else ""
        if first in names or first in ("-h", "--help"):
            return given
        near = _nearest(first, (*names, *self._others))
        if near and first not in self._others and (self._others or not Path(first).exists()):
            other = f"one of {', '.join(self._others)}" if self._others else "a file"
            self.error(f"{first}: neither a command nor {other}{near}")
        return [self._otherwise or "", *given]

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        names = [str(choice) for choice in action.choices]
        said = _nearest(str(value), names) or f" (expected one of {', '.join(names)})"
        raise argparse.ArgumentError(action, f"invalid choice: {value!r}{said}")

    def _match_argument(self, action: argparse.Action, arg_strings_pattern: str) -> int:
        """Count what an action takes: a value that may be left out takes nothing that the command still waits for.

        A pattern of one "A" alone is what stands after an equals sign.
        """
        waiting = action.option_strings and action.nargs == "?" and arg_strings_pattern != "A" and self._waiting
        return 0 if waiting else super()._match_argument(action, arg_strings_pattern)

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if not action.option_strings:
            self._waiting.discard(action.dest)
        return super()._get_values(action, arg_strings)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where the help is, and end with code 2."""
        say_error(f"{printable(message)} (see {self.prog} --help)", self.prog)
        self.exit(2)

    def print_help(self, file: Any = None) -> None:
        """Print the help, with headings and options in color where that is welcome."""
        stream: IO[str] = sys.stdout if file is None else file
        text = self.format_help()
        if colored(stream):
            text = _FLAG.sub("\x1b[36m\\g<0>\x1b[0m", _HEADING.sub("\x1b[1m\\g<0>\x1b[0m", text))
        self._print_message(text, stream)


def _nearest(word: str, names: Any) -> str:
    import difflib  # only for a mistake

    near = difflib.get_close_matches(word, list(names), 1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _epilog(examples: Sequence[str]) -> str:
    lines = ["examples:", *(f"  {example}" for example in examples), ""] if examples else []
    lines.append("exit codes:")
    for code, meaning in EXIT_CODES.items():
        lines += textwrap.wrap(meaning, _WIDTH, initial_indent=f"  {code:<5}", subsequent_indent=" " * 7)
    return "\n".join(lines)
