"""Values of the RASP language as text, in the form of its authors' own prompt."""

from __future__ import annotations

from typing import Any

from legato.errors import LegatoError
from legato.rasp.expressions import Applied, Function, evaluated
from legato.rasp.graph import Choice, Value

__all__ = ["Examples", "applied_text", "quoted"]


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
        return "\n".join(self._lines(name, value))

    def _lines(self, name: str, value: Any, tabs: int = 0, key: str = "") -> list[str]:
        """Return the lines of a value; a part of a list or of a dict stands `tabs` in and has no name, or its key."""
        before = "\t" * tabs
        start = f"{before} {key}"
        if isinstance(value, Value):
            return self._sequence(name or value.name, value, before, f"{start}    ")
        if isinstance(value, Choice):
            return self._selector(name or value.name, value, before, f"{start}    ")
        if isinstance(value, Function) or callable(value):
            return [f"{start}    {value if isinstance(value, Function) else f'built-in function: {name}'}"]
        if isinstance(value, list | dict):
            kind = "list" if isinstance(value, list) else "dict"
            return self._parts(f"   {kind}: {f'{name} = ' if name else ''}", value, tabs, start)
        title = f"{start}   value: " if key else f"{before}    value: "
        return [f"{title}{f'{name} = ' if name else ''} {quoted(value)}"]

    def _parts(self, title: str, value: list[Any] | dict[Any, Any], tabs: int, start: str) -> list[str]:
        """Return a list or a dict in one line where its parts are plain, else with lines for each part."""
        parts = list(value.items()) if isinstance(value, dict) else [("", part) for part in value]
        if all(isinstance(part, str | bool | int | float) for _, part in parts):
            return [f"{start} {title}{value}"]
        opening, closing, further = (" {", "}", 3) if isinstance(value, dict) else (" [", "]", 2)
        before = "\t" * tabs
        lines = [f"{start} {title}{before}{opening}"]
        for key, part in parts:
            lines += self._lines("", part, tabs + further, f"{quoted(key)} : " if isinstance(value, dict) else "")
        return [*lines, f"{before}{' ' * (len(title) + 2)}{closing}"]

    def _sequence(self, name: str, value: Value, before: str, start: str) -> list[str]:
        title, example = f"{start}s-op: {name}", f"{before} \t Example:"
        if not self.show_sequences:
            return [title]
        try:
            found = evaluated(value, list(self.sequence))
        except LegatoError as error:
            return [title, f"{example} {name}({quoted(self.sequence)}) is an error: {error}"]
        if self.full:
            lines = _table(list(self.sequence), found, f"{before} ")
            if lines:
                return [title, example, *lines]
        given = f"{example} {name}({quoted(self.sequence)}) = {_text(found)}"
        return [title, f"{given} [skipped full display: identical values]" if self.full else given]

    def _selector(self, name: str, value: Choice, before: str, start: str) -> list[str]:
        title, example = f"{start}selector: {name}", f"{before} \t Example:"
        if not self.show_selectors:
            return [title]
        try:
            rows = evaluated(value, list(self.selector))
        except LegatoError as error:
            return [title, f"{example} {quoted(self.selector)} is an error: {error}"]
        return [title, example, *_matrix(list(self.selector), rows, f"{before} ")]


def applied_text(value: Applied, full: bool) -> str:
    """Return the text of what an s-op or a selector gave on an input."""
    if value.matrix:
        return "\n".join(["\t = ", *_matrix(value.tokens, list(value), " ")])
    lines = _table(value.tokens, list(value), " ") if full else []
    return "\n".join(["\t = ", *lines]) if lines else f"\t =  {_text(list(value))}"


def _matrix(tokens: list[Any], rows: list[list[bool]], before: str) -> list[str]:
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
    shown = [_cells(tokens), _cells(found)]
    width = max(len(text) for row in shown for text in row)
    lines = []
    for name, row, values in zip(("input:  ", "output: "), shown, (tokens, found), strict=True):
        lines.append(f"{before}\t\t{name} {' '.join(text.rjust(width) for text in row)} \t ({_type(values)}s)")
    return lines


def _cells(values: list[Any]) -> list[str]:
    """Return the elements as texts; of booleans the rarer one alone, both where they are as many."""
    texts = [_small(x) for x in values]
    if _type(values) != "bool":
        return texts
    true, false = texts.count("T"), texts.count("F")
    shown = {"T"} if true < false else {"F"} if false < true else {"T", "F"}
    return [text if text in shown else "" for text in texts]


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
    """Return a plain value or an example as it is written: a string in double quotes."""
    return f'"{x}"' if isinstance(x, str) else str(x)
