"""Programs as text and as pictures."""

from __future__ import annotations

import html
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from legato._files import write_whole
from legato._printing import printable
from legato._scalars import as_choice
from legato.errors import DependencyError
from legato.rasp.evaluation import steps
from legato.rasp.nodes import Node
from legato.rasp.operations import OPERATIONS
from legato.rasp.pictures import Steps

__all__ = ["graph_svg", "listing", "steps_of", "write_svg"]

Engine: TypeAlias = Literal["auto", "dot", "rows"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
_LONGEST = 40  # characters of a step; a longer one gets a name


def _expressions(nodes: list[Node]) -> tuple[dict[int, str], list[tuple[Node, str, str]]]:
    """Text of each node, and the lines that name the shared and the attending ones."""
    uses: dict[int, int] = {}
    for node in nodes:
        for source in node.inputs:
            uses[id(source)] = uses.get(id(source), 0) + 1
    text: dict[int, str] = {}
    lines: list[tuple[Node, str, str]] = []
    taken: set[str] = set()
    for at, node in enumerate(nodes):
        written = _written(node, [text[id(source)] for source in node.inputs])
        leaf = node.kind in ("tokens", "indices", "constant", "length")
        if not leaf and (uses.get(id(node), 0) > 1 or node.kind in ("width", "aggregate")) and at < len(nodes) - 1:
            name = node.label if node.label and node.label.isidentifier() and node.label not in taken else f"s{at}"
            taken.add(name)
            lines.append((node, name, written))
            written = name
        text[id(node)] = written
    return text, lines


def _written(node: Node, inputs: list[str]) -> str:
    how = node.attributes
    if node.kind == "tokens":
        return "x"
    if node.kind == "indices":
        return "indices(x)"
    if node.kind == "constant":
        return repr(how["value"])
    if node.kind == "map":
        op = how["op"]
        if isinstance(op, str):
            return OPERATIONS[op].text.format(*inputs)
        name = getattr(op, "__name__", "f")
        return f"{'tok_map' if len(inputs) == 1 else 'seq_map'}({', '.join(inputs)}, {name})"
    if node.kind == "select":
        predicate = how["predicate"]
        name = getattr(predicate, "name", getattr(predicate, "__name__", "f"))
        extra = "" if how["causal"] else ", causal=False"
        return f"select({inputs[0]}, {inputs[1]}, {name}{extra})"
    if node.kind in ("and", "or"):
        return f"({inputs[0]} {'&' if node.kind == 'and' else '|'} {inputs[1]})"
    if node.kind == "not":
        return f"~{inputs[0]}"
    if node.kind == "width":
        return f"sel_width({inputs[0]})"
    if node.kind == "aggregate":
        rounding = "" if how["rounding"] in ("truncate", "value") else f', rounding="{how["rounding"]}"'
        return f"aggr_{how['reduction']}({inputs[0]}, {inputs[1]}, default={how['default']!r}{rounding})"
    return node.kind


def listing(nodes: list[Node], name: str) -> str:
    """Return the program as readable RASP-L."""
    text, lines = _expressions(nodes)
    title = name if name.isidentifier() else "program"
    body = [f"    {label} = {written}" for _, label, written in lines]
    return "\n".join([f"def {title}(x):", *body, f"    return {text[id(nodes[-1])]}"])


_SELECTOR_COLOR = "#e4f5dc"
_COLORS = {"tokens": "#cfe8ff", "indices": "#cfe8ff", "map": "#ffffff", "width": "#ffe3b3", "aggregate": "#ffe3b3"}


def write_svg(nodes: list[Node], name: str, path: Path, engine: Engine = "auto") -> Path:
    """Write `graph_svg`."""
    return write_whole(path, graph_svg(nodes, name, engine))


def graph_svg(nodes: list[Node], name: str, engine: Engine = "auto") -> str:
    """Draw the graph as SVG: by Graphviz where its `dot` is installed, else (or with "rows") in rows of boxes."""
    engine = as_choice("draw: engine", engine, ENGINES)
    dot = None if engine == "rows" else shutil.which("dot")
    if dot is None and engine == "dot":
        raise DependencyError("draw: engine: Graphviz is not installed (no program dot)")
    return _in_rows(nodes, name) if dot is None else _by_graphviz(dot, nodes, name)


def steps_of(nodes: list[Node], tokens: Sequence[Any], causal: bool) -> Steps:
    """Evaluate a graph, inputs first, and keep every step but constants."""
    names: dict[int, str] = {}
    rows: list[tuple[str, list[Any]]] = []
    for node, found in steps(nodes, tokens, causal=causal, matrices=True):
        leaf = node.kind in ("tokens", "indices", "constant", "length")
        names[id(node)] = written = node.label or _written(node, [names[id(source)] for source in node.inputs])
        if not leaf and len(written) > _LONGEST:
            names[id(node)] = f"s{len(rows)}"
            written = f"s{len(rows)} = {written}"
        if node.kind not in ("constant", "tokens"):
            rows.append((written, found))
    return Steps(list(tokens), rows)


def _by_graphviz(dot: str, nodes: list[Node], name: str) -> str:
    number = {id(node): at for at, node in enumerate(nodes) if node.kind != "constant"}
    lines = [
        f"digraph {{ label={_quoted(name)}; labelloc=t; fontname=monospace;",
        'node [shape=box, style="filled,rounded", fontname=monospace, fontsize=12, color="#444444"];',
        'edge [color="#888888", arrowsize=0.6, fontname=monospace, fontsize=9, fontcolor="#555555"];',
    ]
    for node in nodes:
        if id(node) not in number:
            continue
        color = _COLORS.get(node.kind, _SELECTOR_COLOR)
        lines.append(f"n{number[id(node)]} [label={_quoted(_title(node))}, fillcolor={_quoted(color)}];")
        for source, role in zip(node.inputs, _roles(node), strict=True):
            if id(source) in number:
                label = f' [headlabel="{role}"]' if role else ""
                lines.append(f"n{number[id(source)]} -> n{number[id(node)]}{label};")
    run = subprocess.run([dot, "-Tsvg"], input="\n".join([*lines, "}"]).encode(), capture_output=True, check=False)
    if run.returncode != 0:
        raise DependencyError(f"draw: Graphviz failed: {run.stderr.decode(errors='replace').strip()[:200]}")
    return run.stdout.decode()


def _shown(text: str) -> str:
    return html.escape(printable(text), quote=False)


def _quoted(text: str) -> str:
    escaped = printable(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _in_rows(nodes: list[Node], name: str) -> str:
    """Draw the graph without edge routing: inputs at the top, one row for each depth."""
    shown = [node for node in nodes if node.kind != "constant"]
    rank: dict[int, int] = {}
    rows: dict[int, list[Node]] = {}
    for node in shown:
        rank[id(node)] = max((rank[id(s)] + 1 for s in node.inputs if id(s) in rank), default=0)
        rows.setdefault(rank[id(node)], []).append(node)
    width, height, gap_x, gap_y = 160, 34, 24, 44
    total = max(len(row) for row in rows.values()) * (width + gap_x) + gap_x
    place: dict[int, tuple[float, float]] = {}
    for depth, row in rows.items():
        left = (total - len(row) * (width + gap_x) + gap_x) / 2
        for at, node in enumerate(row):
            place[id(node)] = (left + at * (width + gap_x), 40 + depth * (height + gap_y))
    bottom = 40 + len(rows) * (height + gap_y)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total:.0f}" height="{bottom:.0f}" '
        f'font-family="monospace" font-size="12">',
        f'<text x="10" y="20" font-weight="bold">{_shown(name)}</text>',
    ]
    for node in shown:
        x, y = place[id(node)]
        for source in node.inputs:
            if id(source) in place:
                sx, sy = place[id(source)]
                parts.append(
                    f'<line x1="{sx + width / 2:.0f}" y1="{sy + height:.0f}" x2="{x + width / 2:.0f}" y2="{y:.0f}" '
                    'stroke="#888"/>'
                )
    for node in shown:
        x, y = place[id(node)]
        color = _COLORS.get(node.kind, _SELECTOR_COLOR)
        parts.append(
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{width}" height="{height}" rx="5" fill="{color}" stroke="#444"/>'
            f'<text x="{x + width / 2:.0f}" y="{y + 21:.0f}" text-anchor="middle">{_shown(_title(node))}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _roles(node: Node) -> tuple[str, ...]:
    """Return what stands at each edge that comes in, where it matters which is which."""
    if node.kind == "select":
        return ("key", "query")
    if node.kind == "aggregate":
        return ("", "value")
    if node.kind == "map" and node.attributes["op"] == "where":
        return ("if", "then", "else")
    return ("",) * len(node.inputs)


def _title(node: Node) -> str:
    if node.label:
        return node.label[:20]
    how = node.attributes
    if node.kind == "map":
        operands = [repr(s.attributes["value"]) if s.kind == "constant" else "." for s in node.inputs]
        op = how["op"]
        text = OPERATIONS[op].text.format(*operands) if isinstance(op, str) else getattr(op, "__name__", "f")
        return (text[1:-1] if text.startswith("(") else text)[:20]
    if node.kind == "select":
        name = getattr(how["predicate"], "name", "f")
        key, query = (repr(s.attributes["value"]) if s.kind == "constant" else "" for s in node.inputs)
        return " ".join(part for part in ("select", key, name, query) if part)[:20]
    if node.kind == "aggregate":
        return f"{how['reduction']}, default {how['default']}"[:20]
    return {"width": "selector width"}.get(node.kind, node.kind)
