"""The door for what is printed: ids, notes and names of files may hold anything, and a terminal obeys much of it."""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from typing import IO

__all__ = ["colored", "csv_cell", "printable", "say", "say_error"]

_DOUBTFUL = re.compile("[^ -~]")
_JOINERS = "\u200c\u200d"  # of scripts and of emoji; they move nothing
_FORMULA = re.compile("[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")  # the last four are the wide forms of the first
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def printable(text: object, kept: str = "") -> str:
    r"""Make the characters visible that would steer a terminal or reorder a line.

    These are control characters, escapes and line breaks among them, overrides of the writing direction and all else
    that Unicode does not count as printable but spaces and joiners. Each becomes its escape, such as ``\x1b``.

    Parameters
    ----------
    text : object
        Its ``str`` is taken.
    kept : str
        Characters to leave as they are, such as the line break of a text of several lines.

    Returns
    -------
    str
    """
    text = str(text)
    if text.isprintable():
        return text
    kept += _JOINERS

    def shown(found: re.Match[str]) -> str:
        c = found[0]
        harmless = c in kept or c.isprintable() or unicodedata.category(c) == "Zs"
        return c if harmless else c.encode("unicode_escape").decode()

    return _DOUBTFUL.sub(shown, text)


def say(text: object = "", *, file: IO[str] | None = None, end: str = "\n", flush: bool = False) -> None:
    """Print a text of one or several lines: all but line breaks and tabs is made `printable`.

    Parameters
    ----------
    text : object
        Its ``str`` is taken.
    file, end, flush
        As those of ``print``.
    """
    stream = sys.stdout if file is None else file
    if stream is None:  # as where there is no console
        return
    stream.write(printable(text, "\n\t") + end)
    if flush:
        stream.flush()


def say_error(text: object, command: str = "legato") -> None:
    """Print one line on stderr: what went wrong, after the name of the command and the word error."""
    word = "\x1b[1;31merror:\x1b[0m" if colored(sys.stderr) else "error:"
    if sys.stderr is not None:
        sys.stderr.write(f"{printable(command)}: {word} {printable(text)}\n")
        sys.stderr.flush()


def colored(stream: IO[str] | None) -> bool:
    """Tell whether color is welcome: at a terminal that has it, unless NO_COLOR is set (https://no-color.org)."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wanted and stream is not None and stream.isatty()


def csv_cell(value: object) -> object:
    """Neutralize a cell of CSV: a text that a spreadsheet would take for a formula is led by an apostrophe.

    Numbers stay what they are, also those that are texts; in other texts all but the line break and the tab is made
    `printable`.
    """
    if not isinstance(value, str):
        return value
    formula = _FORMULA.match(value) and not _NUMBER.fullmatch(value)
    return ("'" if formula else "") + printable(value, "\n\t")
