"""Values of the RASP language as text, in the form of its authors' own prompt."""

from __future__ import annotations

from typing import Any

from legato.errors import LegatoError
from legato.rasp.expressions import Applied, Function, evaluated
from legato.rasp.graph import Choice, Value

__all__ = ["Examples", "applied_text", "plain", "quoted"]


class Examples:
    """The inputs that values are shown on, and whether they are."""

    def __init__(self) -> None:
        self.sequence: str | list[Any] = "hello"
        self.selector: str | list[Any] = "hello"
        self.show_sequences = True
        self.show_selectors = True
        self.full = False  # sequences as a table of input and output

    def named(self, name: str, value: Any) -> str:
        """Return the text of a value under its name: as it is shown where it is assigned or asked for."""
        if isinstance(value, Value):
            return self._sequence(name, value)
        if isinstance(value, Choice):
            title = f"     selector: {name}"
            if not self.show_selectors:
                return title
            try:
                rows = evaluated(value, list(self.selector))
            except LegatoError as error:
                return f"{title}\n \t Example: {quoted(self.selector)} is an error: {error}"
            return "\n".join([title, " \t Example:", *_matrix(list(self.selector), rows, " ")])
        if isinstance(value, Function):
            return f"     {value}"
        if isinstance(value, list | dict):
            kind = "list" if isinstance(value, list) else "dict"
            return f"     {kind}: {name} = {plain(value)}"
        return f"    value: {name} =  {plain(value)}"

    def _sequence(self, name: str, value: Value) -> str:
        title = f"     s-op: {name}"
        if not self.show_sequences:
            return title
        try:
            found = evaluated(value, list(self.sequence))
        except LegatoError as error:
            return f"{title}\n \t Example: {name}({quoted(self.sequence)}) is an error: {error}"
        if self.full:
            lines = _table(list(self.sequence), found, " ")
            if lines:
                return "\n".join([title, " \t Example:", *lines])
            return f"{title}\n \t Example: {_text(found)} [skipped full display: identical values]"
        return f"{title}\n \t Example: {name}({quoted(self.sequence)}) = {_text(found)}"


def applied_text(value: Applied, full: bool) -> str:
    """Return the text of what an s-op or a selector gave on an input."""
    if value.matrix:
        return "\n".join(["\t = ", *_matrix(value.tokens, list(value))])
    lines = _table(value.tokens, list(value), "") if full else []
    return "\n".join(["\t = ", *lines]) if lines else f"\t =  {_text(list(value))}"


def _matrix(tokens: list[Any], rows: list[list[bool]], before: str = "") -> list[str]:
    width = max(len(str(x)) for x in tokens)
    head = " ".join(str(x).rjust(width) for x in tokens)
    lines = [f"{before}\t\t\t {' ' * width}   {head}"]
    for token, row in zip(tokens, rows, strict=True):
        cells = " ".join(("1" if on else " ").rjust(width) for on in row)
        lines.append(f"{before}\t\t\t {str(token).rjust(width)} | {cells}")
    return lines


def _table(tokens: list[Any], found: list[Any], before: str) -> list[str]:
    """Return input above output; nothing where all elements are one."""
    if len(set(found)) == 1:
        return []
    shown = [[_small(x) for x in row] for row in (tokens, found)]
    width = max(len(text) for row in shown for text in row)
    lines = []
    for name, row, values in zip(("input:  ", "output: "), shown, (tokens, found), strict=True):
        lines.append(f"{before}\t\t{name} {' '.join(text.rjust(width) for text in row)} \t ({_type(values)}s)")
    return lines


def _text(values: list[Any]) -> str:
    if len(values) > 1 and len(set(values)) == 1:
        return f"[{_small(values[0])}]*{len(values)} ({_type(values)}s)"
    return f"[{', '.join(_small(x) for x in values)}] ({_type(values)}s)"


def _type(values: list[Any]) -> str:
    for kind, name in ((str, "string"), (bool, "bool"), (int, "int")):
        if all(isinstance(x, kind) for x in values):
            return name
    return "float"


def _small(x: Any) -> str:
    if isinstance(x, bool):
        return "T" if x else "F"
    return str(round(x, 3)) if isinstance(x, float) else str(x)


def quoted(x: Any) -> str:
    """Return an example as it is written: a string in quotes, or a list."""
    return f'"{x}"' if isinstance(x, str) else plain(x)


def plain(value: Any) -> str:
    """Return the text of a value that needs no input."""
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(plain(x) for x in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{plain(key)}: {plain(x)}' for key, x in value.items())}}}"
    if isinstance(value, Value | Choice):
        return value.label or ("s-op" if isinstance(value, Value) else "selector")
    return f"{value:.6g}" if isinstance(value, float) else str(value)
