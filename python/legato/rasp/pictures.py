"""Pictures of single values: a selector as a heat map, an evaluation as a table of steps. SVG and HTML, no packages."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape, unescape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from legato._arrays import as_float64
from legato._files import write_whole
from legato._printing import printable
from legato.errors import ArgumentError

__all__ = ["Picture", "Steps", "heat_map"]

_CELL = 22
_MOST_CELLS = 128  # a side
_DARK = (31, 95, 139)  # of a full cell; an empty one is white


class Picture:
    """An SVG picture: shown by notebooks, written by `save`.

    See Also
    --------
    heat_map : Draw a selector or an attention pattern: a row for each query, a column for each key.
    Selector.heat_map : Draw the matrix (n x n).

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.heat_map([[1, 0], [0, 1]], "ab", "ab").save("attention.svg").name
    'attention.svg'
    """

    def __init__(self, svg: str) -> None:
        self.svg = svg

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | Path) -> Path:
        """Write the picture.

        See Also
        --------
        heat_map : Draw a selector or an attention pattern: a row for each query, a column for each key.
        """
        return write_whole(path, self.svg)


def _shown(x: Any) -> str:
    if isinstance(x, np.generic):
        x = x.item()
    if isinstance(x, float):
        x = round(x, 3)
    return escape(printable("·" if x is None else "T" if x is True else "F" if x is False else x))


def heat_map(matrix: ArrayLike, queries: Sequence[Any], keys: Sequence[Any], title: str = "") -> Picture:
    """Draw a selector or an attention pattern: a row for each query, a column for each key.

    Parameters
    ----------
    matrix : array_like, shape (queries, keys)
        From 0, white, to 1, dark; booleans too.
    queries, keys : sequence
        What stands beside the rows and above the columns.
    title : str

    See Also
    --------
    Selector.heat_map : Draw the matrix (n x n).

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.heat_map([[1, 0], [0.5, 0.5]], "ab", "ab", "attention").svg[:4]
    '<svg'
    """
    cells = as_float64("matrix", matrix)
    queries, keys = _items("queries", queries), _items("keys", keys)
    if cells.shape != (len(queries), len(keys)):
        raise ArgumentError(f"matrix: expected shape ({len(queries)}, {len(keys)}), got {cells.shape}")
    if max(cells.shape, default=0) > _MOST_CELLS:
        raise ArgumentError(f"matrix: expected at most {_MOST_CELLS} rows and columns, got {cells.shape}")
    if not np.isfinite(cells).all():
        raise ArgumentError("matrix: expected finite numbers")
    if not isinstance(title, str):
        raise ArgumentError(f"title: expected a text, got {type(title).__name__}")
    rows, columns = [_shown(x) for x in queries], [_shown(x) for x in keys]
    wide = max([_CELL, *(8 * len(text) + 6 for text in columns)])
    left, top = max([0, *(8 * len(text) for text in rows)]) + 12, (24 if title else 4) + 20
    width, height = left + wide * len(columns) + 4, top + _CELL * len(rows) + 4
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{max(width, 9 * len(title))}" height="{height}" '
        f'font-family="monospace" font-size="13"><rect width="100%" height="100%" fill="white"/>'
    ]
    if title:
        parts.append(f'<text x="4" y="18" font-weight="bold">{_shown(title)}</text>')
    for j, text in enumerate(columns):
        parts.append(f'<text x="{left + wide * j + wide / 2:g}" y="{top - 6}" text-anchor="middle">{text}</text>')
    for i, text in enumerate(rows):
        parts.append(f'<text x="{left - 6}" y="{top + _CELL * i + 16}" text-anchor="end">{text}</text>')
        for j in range(len(columns)):
            share = min(max(float(cells[i, j]), 0.0), 1.0)
            color = ",".join(str(round(255 + (full - 255) * share)) for full in _DARK)
            parts.append(
                f'<rect x="{left + wide * j}" y="{top + _CELL * i}" width="{wide}" height="{_CELL}" '
                f'fill="rgb({color})" stroke="#bbb"><title>{rows[i]}, {columns[j]}: {cells[i, j]:.3g}</title></rect>'
            )
    return Picture("".join([*parts, "</svg>\n"]))


def _items(name: str, values: Any) -> list[Any]:
    try:
        return list(values)
    except Exception:  # no iterable, or one that raises
        raise ArgumentError(f"{name}: expected a sequence, got {type(values).__name__}") from None


class Steps:
    """What a program does with one input, step by step: text, or a table in notebooks.

    Attributes
    ----------
    tokens : list
    rows : list of (str, list)
        Name of each sequence, its elements; of a selector, the rows of its matrix.

    See Also
    --------
    Program.steps : Evaluate on a sequence (n,) and keep every step: text, or a table with its selectors in notebooks.

    Examples
    --------
    >>> from legato import rasp
    >>> found = rasp.Program(lambda x: x * 10).steps([7, 1])
    >>> found.tokens, found.rows
    ([7, 1], [('(x * 10)', [70, 10])])
    """

    def __init__(self, tokens: list[Any], rows: list[tuple[str, list[Any]]]) -> None:
        self.tokens, self.rows = tokens, rows

    def __str__(self) -> str:
        shown = [("", self.tokens), *((name, row) for name, row in self.rows if not self._is_matrix(row))]
        cells = [[unescape(_shown(x)) for x in row] for _, row in shown]
        width = max([1, *(len(text) for row in cells for text in row)])
        names = max(len(name) for name, _ in shown)
        lines = (
            f"{name.ljust(names)}  {' '.join(text.rjust(width) for text in row)}".rstrip()
            for (name, _), row in zip(shown, cells, strict=True)
        )
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Steps({len(self.rows)} steps on {len(self.tokens)} tokens)"

    @staticmethod
    def _is_matrix(row: list[Any]) -> bool:
        return bool(row) and isinstance(row[0], list)

    def _repr_html_(self) -> str:
        def line(name: str, cells: str) -> str:
            return f'<tr><th style="text-align:left">{escape(printable(name))}</th>{cells}</tr>'

        cell = 'style="text-align:right;min-width:2em"'
        head = "".join(f"<th {cell}>{_shown(x)}</th>" for x in self.tokens)
        lines = [line("", head)]
        for name, row in self.rows:
            if self._is_matrix(row):
                picture = heat_map(row, self.tokens, self.tokens).svg if len(row) <= _MOST_CELLS else ""
                cells = f'<td colspan="{len(self.tokens)}" style="text-align:right">{picture}</td>'
            else:
                cells = "".join(f"<td {cell}>{_shown(x)}</td>" for x in row)
            lines.append(line(name, cells))
        return f'<table style="font-family:monospace">{"".join(lines)}</table>'
