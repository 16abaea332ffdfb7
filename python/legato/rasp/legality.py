"""What a program costs, and whether it is RASP-L by our rule.

The paper leaves the exact rule for indices open. Ours, not the authors': every sequence has a type out of TOKEN (a
small integer), BOOL, INDEX (positions, shifted by constants, or picked by an aggregation) and COUNT (selector widths).
Illegal are selectors that are not causal; arithmetic on an INDEX other than adding a constant, and INDEX compared with
anything but an INDEX or a constant; arithmetic on a COUNT other than comparison and max or min; constants that do not
fit the token type; and Python functions of an INDEX or a COUNT.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from legato.rasp.graph import Value
from legato.rasp.nodes import Node

__all__ = ["Report", "inspect"]

_COMPARISONS = {"eq", "ne", "lt", "le", "gt", "ge"}


@dataclass(frozen=True)
class Report:
    """What `Program.check` found."""

    legal: bool
    problems: tuple[str, ...]  #: one line each: the node and the reason
    depth: int  #: attention layers: the longest chain of aggregations
    heads: int  #: most heads in a layer
    heads_per_layer: tuple[int, ...]  #: from the first attention layer on
    length: int  #: calls of the library and core, shared ones once
    expanded_length: int  #: core operations with the library expanded
    types: tuple[str, ...] = field(repr=False, default=())  #: of the nodes, in order

    def __str__(self) -> str:
        head = "RASP-L: yes" if self.legal else "RASP-L: no"
        lines = [f"{head}; {self.depth} layers, {self.heads} heads, length {self.length} ({self.expanded_length})"]
        return "\n".join([*lines, *(f"  {problem}" for problem in self.problems)])


def inspect(nodes: list[Node], bits: int = 8) -> Report:
    """Types, legality, depth and length of a graph (inputs first)."""
    position = {id(node): at for at, node in enumerate(nodes)}
    types: dict[int, str] = {}
    layer: dict[int, int] = {}
    per_layer: dict[int, int] = {}
    problems: list[str] = []
    high = 2 ** (bits - 1)

    def name(node: Node) -> str:
        return node.label or f"#{position[id(node)]} {node.attributes.get('op') or node.kind}"

    for node in nodes:
        below = max((layer[id(source)] for source in node.inputs), default=0)
        kinds = [types[id(source)] for source in node.inputs]
        head = node.kind in ("width", "aggregate")
        layer[id(node)] = below + head
        if head:
            per_layer[below + 1] = per_layer.get(below + 1, 0) + 1
        types[id(node)], reason = _type_of(node, kinds, high)
        if reason:
            problems.append(f"{name(node)}: {reason}")
    depth = layer[id(nodes[-1])]
    heads = tuple(per_layer.get(at, 0) for at in range(1, max(per_layer, default=0) + 1))
    operations = [node for node in nodes if node.kind not in ("tokens", "constant", "indices")]
    core = sum(1 for node in operations if node.kind in ("map", "width", "aggregate", "and", "or", "not"))
    calls = {node.scope for node in operations if node.scope is not None}
    alone = sum(1 for node in operations if node.scope is None and node.kind != "select")
    return Report(
        legal=not problems,
        problems=tuple(problems),
        depth=depth,
        heads=max(heads, default=0),
        heads_per_layer=heads,
        length=len(calls) + alone,
        expanded_length=core,
        types=tuple(types[id(node)] for node in nodes),
    )


def _type_of(node: Node, kinds: list[str], high: int) -> tuple[str, str | None]:
    """Type of the node and what is wrong with it."""
    kind = node.kind
    if kind == "tokens":
        return "TOKEN", None
    if kind == "indices":
        return "INDEX", None
    if kind == "length":
        return "COUNT", "the length is known only at the end of the sequence"
    if kind == "constant":
        value = node.attributes["value"]
        if isinstance(value, bool):
            return "BOOL", None
        return "CONSTANT", None
    if kind == "select":
        return "SELECTOR", None if node.attributes["causal"] else "not causal: it reads the future"
    if kind in ("and", "or", "not"):
        return "SELECTOR", None
    if kind == "width":
        return "COUNT", None
    if kind == "aggregate":
        how = node.attributes
        value = "TOKEN" if kinds[1] == "CONSTANT" else kinds[1]
        if how["reduction"] == "mean" and how["rounding"] == "float":
            return value, "a mean that is no integer"
        return value, None
    return _type_of_map(node, kinds, high)


def _type_of_map(node: Node, kinds: list[str], high: int) -> tuple[str, str | None]:
    op = node.attributes["op"]
    special = {"INDEX", "COUNT"} & set(kinds)
    if not isinstance(op, str):
        if special:
            return "TOKEN", f"a Python function of {' and '.join(sorted(special))}"
        return "TOKEN", None
    if op in _COMPARISONS:
        if "INDEX" in kinds and not set(kinds) <= {"INDEX", "CONSTANT"}:
            return "BOOL", f"INDEX compared with {next(k for k in kinds if k != 'INDEX')}"
        return "BOOL", None
    if op == "truth":
        return "BOOL", None
    if op == "integer":
        return ("TOKEN" if kinds[0] == "CONSTANT" else kinds[0]), None
    if op == "where":
        branches = {k for k in kinds[1:] if k != "CONSTANT"} or {"TOKEN"}
        if len(branches) == 1:
            return branches.pop(), None
        if "BOOL" in branches and len(branches) == 2:
            branches.discard("BOOL")
            return branches.pop(), None
        return "TOKEN", f"branches of two types: {' and '.join(sorted(branches))}"
    if op in ("and", "or", "xor", "invert") and set(kinds) <= {"BOOL"}:
        return "BOOL", None
    if "COUNT" in special:
        return "COUNT", f"arithmetic on a COUNT ({op})"
    if "INDEX" in special:
        if op in ("add", "sub") and kinds in (["INDEX", "CONSTANT"], ["CONSTANT", "INDEX"]) and kinds[0] != "CONSTANT":
            return "INDEX", None
        if op == "add" and kinds == ["CONSTANT", "INDEX"]:
            return "INDEX", None
        return "INDEX", f"arithmetic on an INDEX ({op})"
    for source in node.inputs:
        value = source.attributes.get("value") if isinstance(source, Value) and source.kind == "constant" else None
        if isinstance(value, int) and not -high <= value < high:
            return "TOKEN", f"the constant {value} does not fit the token type"
    if op in ("truediv", "pow"):
        return "TOKEN", f"{op} is no map of small integers to small integers"
    return "TOKEN", None
