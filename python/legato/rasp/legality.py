"""What a program costs, and whether it is RASP-L by our rule.

The paper leaves the exact rule for indices open. Ours, not the authors': every sequence has a type out of TOKEN (a
small integer), BOOL, INDEX (positions, shifted by constants, or picked by an aggregation) and COUNT (selector widths,
sums of BOOLs). Illegal are selectors that are not causal; arithmetic on an INDEX or a COUNT other than adding a
constant; INDEX compared with anything but an INDEX or a constant; the mean of an INDEX or a COUNT, unless it looks one
up; the sum of anything but a BOOL; constants that do not fit the token type, wherever they meet tokens: as operand,
branch, key, query, value or default; and Python functions of an INDEX or a COUNT. A mean looks one up where the
selector is `==` on positions, of which one is selected at most; and, for an INDEX, where the selector is `==` between
two different sequences of tokens, as the authors' own addition has it, though nothing holds such a program to tokens
that occur once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from legato.rasp.nodes import Node
from legato.rasp.predicates import EQUAL

__all__ = ["Report", "inspect"]

_COMPARISONS = {"eq", "ne", "lt", "le", "gt", "ge"}


@dataclass(frozen=True)
class Report:
    """What `Program.check` found.

    See Also
    --------
    Program.check : Legality as RASP-L by our rule (see `legato.rasp.legality`), depth, heads and program length.

    Examples
    --------
    >>> from legato import rasp
    >>> report = rasp.Program(lambda x: rasp.cumsum(x == 1)).check()
    >>> report.legal, report.problems, report.depth
    (True, (), 1)
    """

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
        return ("BOOL" if isinstance(node.attributes["value"], bool) else "CONSTANT"), None
    if kind == "select":
        if not node.attributes["causal"]:
            return "SELECTOR", "not causal: it reads the future"
        return "SELECTOR", _too_large(node, kinds, high)
    if kind in ("and", "or", "not"):
        return "SELECTOR", None
    if kind == "width":
        return "COUNT", None
    if kind == "aggregate":
        return _type_of_aggregate(node, kinds, high)
    return _type_of_map(node, kinds, high)


def _type_of_aggregate(node: Node, kinds: list[str], high: int) -> tuple[str, str | None]:
    how = node.attributes
    value = "TOKEN" if kinds[1] == "CONSTANT" else kinds[1]
    if how["reduction"] == "mean" and how["rounding"] == "float":
        return value, "a mean that is no integer"
    if how["reduction"] == "mean" and value in ("INDEX", "COUNT") and not _looks_up(node, value):
        return value, f"the mean of {'an' if value == 'INDEX' else 'a'} {value}"
    if how["reduction"] == "sum" and value != "BOOL":
        return value, f"the sum of {'an' if value == 'INDEX' else 'a'} {value}, which no head of RASP-L gives"
    if how["reduction"] == "sum":
        return "COUNT", _too_large(node, kinds, high)
    if value in ("TOKEN", "BOOL"):
        marks = node.scope is not None and node.scope[0].startswith("induct")  # their null_val: no token, by intent
        if not marks and not -high <= how["default"] < high:
            return value, f"the default {how['default']} does not fit the token type"
        return value, _too_large(node, kinds, high)
    return value, None


def _looks_up(node: Node, value: str) -> bool:
    """Whether a mean is of one position at most, or meant so (see the head of this file)."""
    choice = node.inputs[0]
    if choice.kind != "select" or getattr(choice.attributes["predicate"], "outcomes", None) != EQUAL:
        return False
    keys, queries = choice.inputs
    if _is_position(keys):
        return True
    constant = "constant" in (keys.kind, queries.kind)
    return value == "INDEX" and not constant and keys is not queries


def _is_position(node: Node) -> bool:
    """Whether the elements are all different: positions, or positions and a constant."""
    while node.kind == "map" and node.attributes["op"] in ("add", "sub", "integer"):
        moving = [source for source in node.inputs if source.kind != "constant"]
        if len(moving) != 1:
            return False
        node = moving[0]
    return node.kind == "indices"


def _too_large(node: Node, kinds: list[str], high: int) -> str | None:
    """Say which constant among the inputs does not fit the type of the tokens that it meets."""
    if {"INDEX", "COUNT"} & set(kinds):
        return None
    for source in node.inputs:
        value = source.attributes.get("value") if source.kind == "constant" else None
        if isinstance(value, int) and not -high <= value < high:
            return f"the constant {value} does not fit the token type"
    return None


def _type_of_map(node: Node, kinds: list[str], high: int) -> tuple[str, str | None]:
    op = node.attributes["op"]
    special = {"INDEX", "COUNT"} & set(kinds)
    if not isinstance(op, str):
        if special:
            return "TOKEN", f"a Python function of {' and '.join(sorted(special))}"
        return "TOKEN", _too_large(node, kinds, high)
    if op in _COMPARISONS:
        if "INDEX" in kinds and not set(kinds) <= {"INDEX", "CONSTANT"}:
            return "BOOL", f"INDEX compared with {next(k for k in kinds if k != 'INDEX')}"
        return "BOOL", _too_large(node, kinds, high)
    if op in ("truth", "not"):
        return "BOOL", None
    if op == "integer":
        return ("TOKEN" if kinds[0] == "CONSTANT" else kinds[0]), None
    if op == "where":
        return _type_of_choice(node, kinds, high)
    if op in ("and", "or", "xor", "invert", "both", "either") and set(kinds) <= {"BOOL"}:
        return "BOOL", None
    for name in ("COUNT", "INDEX"):
        if name in special:
            moved = op in ("add", "sub") and sorted(kinds) == sorted([name, "CONSTANT"]) and _is_moved(op, kinds)
            return name, None if moved else f"arithmetic on {'an' if name == 'INDEX' else 'a'} {name} ({op})"
    if op in ("truediv", "pow"):
        return "TOKEN", f"{op} is no map of small integers to small integers"
    return "TOKEN", _too_large(node, kinds, high)


def _is_moved(op: str, kinds: list[str]) -> bool:
    """Whether a constant is added to, or taken from, the other operand."""
    return op == "add" or kinds[1] == "CONSTANT"


def _type_of_choice(node: Node, kinds: list[str], high: int) -> tuple[str, str | None]:
    branches = {k for k in kinds[1:] if k != "CONSTANT"} or {"TOKEN"}
    if "BOOL" in branches and len(branches) == 2:
        branches.discard("BOOL")
    if len(branches) > 1:
        return "TOKEN", f"branches of two types: {' and '.join(sorted(branches))}"
    found = branches.pop()
    if found in ("INDEX", "COUNT"):
        return found, None
    return found, _too_large(node, ["BOOL", *kinds[1:]], high)
