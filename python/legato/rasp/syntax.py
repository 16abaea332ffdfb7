"""The RASP language's syntax: a source cut into statements, and each parsed by `grammar.lark`; errors with a caret."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from legato._extras import install_command
from legato.errors import ArgumentError, DependencyError

if TYPE_CHECKING:
    from lark import Lark

__all__ = ["IncompleteSource", "LanguageError", "Statement", "cut", "rule"]

_WIDTH = 60  # of a source line that is shown with an error, on either side of the place


class LanguageError(ArgumentError):
    """An error in a RASP source; the message shows the line with a caret.

    See Also
    --------
    Interpreter : Runs RASP source and keeps what it defines.

    Examples
    --------
    >>> from legato import rasp
    >>> try:
    ...     rasp.Interpreter().run("a = ;")
    ... except rasp.LanguageError as error:
    ...     print(error.line)
    1
    """

    def __init__(self, message: str, line: int = 0, column: int = 0, text: str = "") -> None:
        self.line, self.column = line, column
        where = f"line {line}, column {column}: " if line else ""
        start = max(0, column - _WIDTH)  # of a long line what is around the place
        caret = f"\n  {text[start : start + 2 * _WIDTH]}\n  {' ' * (column - 1 - start)}^" if line and text else ""
        super().__init__(f"{where}{message}{caret}")


class IncompleteSource(LanguageError):  # noqa: N818  # a prompt goes on reading
    """The source ends in the middle of a statement."""

    rest = ""  #: the statement that is not finished; all before it has run


@functools.cache
def _parser() -> Lark:
    try:
        from lark import Lark
    except ImportError:
        raise DependencyError(f"the RASP language needs lark: {install_command('rasp')}") from None
    grammar = (files("legato.rasp") / "grammar.lark").read_text()
    return Lark(grammar, parser="lalr", propagate_positions=True, maybe_placeholders=False)


@functools.lru_cache(maxsize=512)
def _parsed(text: str) -> Any:
    return _parser().parse(text)


@dataclass(frozen=True)
class Statement:
    """One statement of a source, and where it begins there."""

    text: str
    line: int = 1
    column: int = 1

    def tree(self) -> Any:
        """Parse it.

        Raises
        ------
        LanguageError
            With the place; `IncompleteSource` where the statement is not finished.
        """
        from lark.exceptions import UnexpectedCharacters, UnexpectedToken

        try:
            return _parsed(self.text).children[0]
        except UnexpectedToken as error:
            if error.token.type == "$END":
                lines = self.text.split("\n")
                raise self.error(
                    "the source ends in the middle of a statement (is a ; missing?)",
                    len(lines),
                    len(lines[-1]) + 1,
                    IncompleteSource,
                ) from None
            raise self.error(f"unexpected {str(error.token)!r}", error.line, error.column) from None
        except UnexpectedCharacters as error:
            raise self.error(f"unexpected character {error.char!r}", error.line, error.column) from None

    def error(self, message: str, line: int, column: int, kind: type[LanguageError] = LanguageError) -> LanguageError:
        """Return an error at a place of this statement (from 1), told by its place in the source."""
        lines = self.text.split("\n")
        before = self.column - 1 if line == 1 else 0
        text = " " * before + lines[line - 1] if 0 < line <= len(lines) else ""
        return kind(message, line + self.line - 1 if line else 0, column + before, text)


_PIECE = re.compile(r"""\s+ | \#[^\n]* | "[^"\n]*" | '[^'\n]*' | [A-Za-z_]\w* | .""", re.VERBOSE | re.DOTALL)
_OF_THE_PROMPT = re.compile(
    r"(set|show)\s+((s-op|selector)\s+)?example\b"
    r"|((s-op|selector)\s+)?examples\s+(on|off)\b"
    r"|full\s+seq\s+display\s+(on|off)\b"
    r"|(exit|quit)\b(\s*\(\s*\))?\s*(;|\#|\n|$)"
)


def cut(source: str) -> Iterator[Statement]:
    """Cut a source into statements, each as it is asked for.

    A statement ends with its semicolon; `def` and `for` with their closing brace; those of the prompt, which need no
    semicolon (set, show, examples, full seq display, exit), with their line.
    """
    at, line, column = 0, 1, 1
    while at < len(source):
        begin = _skipped(source, at)
        if begin == len(source):
            return
        end = _end(source, begin)
        line, column = _moved(source, at, begin, line, column)
        yield Statement(source[begin:end], line, column)
        line, column = _moved(source, begin, end, line, column)
        at = end


def _skipped(source: str, at: int) -> int:
    """Return where the next statement begins: after blanks and comments."""
    while (found := _PIECE.match(source, at)) and (found[0].isspace() or found[0][0] == "#"):
        at = found.end()
    return at


def _moved(source: str, at: int, to: int, line: int, column: int) -> tuple[int, int]:
    lines = source.count("\n", at, to)
    return (line + lines, to - source.rfind("\n", at, to)) if lines else (line, column + to - at)


def _end(source: str, begin: int) -> int:
    command = _OF_THE_PROMPT.match(source, begin)
    first = _PIECE.match(source, begin)
    block = first is not None and first[0] in ("def", "for")
    depth, at = 0, begin
    while found := _PIECE.match(source, at):
        at, piece = found.end(), found[0]
        if piece in ("(", "[", "{"):
            depth += 1
        elif piece in (")", "]", "}"):
            depth = max(0, depth - 1)
            if piece == "}" and depth == 0 and block:
                after = _skipped(source, at)
                return after + 1 if source[after : after + 1] == ";" else at
        elif depth == 0 and (piece == ";" or (command and piece.isspace() and "\n" in piece)):
            return at
    return len(source)


def rule(tree: Any) -> str:
    """Return the name of the grammar's rule that a tree is of."""
    return str(getattr(tree, "data", ""))
