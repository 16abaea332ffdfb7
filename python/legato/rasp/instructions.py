"""A causal program as the instructions of the compiled stream, where it has them.

Elements are bools, integers and floats, told apart before anything runs. What the instructions do not compute exactly
as Python does (an integer beyond 64 bits, a division by zero) stops the stream, and who runs it goes another way.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legato.rasp.graph import Choice, Value
from legato.rasp.nodes import Node, selector_parts
from legato.rasp.predicates import CORE_CODE, Predicate
from legato.rasp.selectors import REDUCTIONS, ROUNDINGS, aggregation_parts, postfix, postorder
from legato.rasp.structure import structured

__all__ = ["formula_of", "instructions"]

_VERSION = 1
# As the core numbers them.
_OPS = {name: code for code, name in enumerate((
    "tokens", "indices", "constant", "add", "sub", "mul", "floordiv", "mod", "pow", "eq", "ne", "lt", "le", "gt", "ge",
    "and", "or", "xor", "neg", "abs", "invert", "not", "truth", "where", "real", "exact", "integer", "real_add",
    "real_sub", "real_mul", "real_div", "real_eq", "real_ne", "real_lt", "real_le", "real_gt", "real_ge", "real_neg",
    "real_abs", "real_truth", "aggregate",
))}  # fmt: skip
_COMPARISONS = {"eq", "ne", "lt", "le", "gt", "ge"}
_REAL = {"add", "sub", "mul", "truediv", "neg", "abs"} | _COMPARISONS
_BITWISE = {"and", "or", "xor"}
_DEPTH = 16  # operands of a formula that the core keeps


class _Without(Exception):  # noqa: N818
    """The program has no instructions."""


def instructions(nodes: list[Node]) -> NDArray[np.int64] | None:
    """Return the words of a program (inputs first, the output last), or None where it has none."""
    try:
        return _Writer(nodes).words()
    except _Without:
        return None


def formula_of(choice: Node) -> tuple[Any, ...]:
    """Return the selector's formula over nodes; all its selects must be causal or all not."""
    made: dict[int, tuple[Any, ...]] = {}
    for node in selector_parts(choice):
        if node.kind == "select":
            predicate = node.attributes["predicate"]
            made[id(node)] = ("term" if isinstance(predicate, Predicate) else "call", *node.inputs, predicate)
        else:
            made[id(node)] = (node.kind, *(made[id(part)] for part in node.inputs))
    return made[id(choice)]


class _Writer:
    """Writes instructions; each has a number and a kind: "bool", "int" or "float"."""

    def __init__(self, nodes: list[Node]) -> None:
        self._nodes = nodes
        self._kinds: list[str] = []
        self._rows: list[list[int]] = []
        self._number: dict[int, int] = {}  # of a node
        self._known: dict[tuple[int, ...], int] = {}
        self._kept: list[Any] = []  # nodes made here; kept so that ids stay theirs

    def words(self) -> NDArray[np.int64]:
        for node in self._nodes:
            if not isinstance(node, Choice):
                self._at(node)
            elif node.kind == "select" and not node.attributes["causal"]:
                raise _Without
        last = self._number[id(self._nodes[-1])]
        if last != len(self._rows) - 1:  # the output is the last instruction
            self._rows.append([_OPS["where"], last, last, last])
            self._kinds.append(self._kinds[last])
        head = [_VERSION, len(self._rows), int(self._kinds[-1] == "float")]
        return np.array(head + [word for row in self._rows for word in row], dtype=np.int64)

    def _at(self, node: Node) -> int:
        found = self._number.get(id(node))
        if found is None:
            found = self._number[id(node)] = self._written(node)
        return found

    def _write(self, kind: str, op: str, *words: int) -> int:
        row = [_OPS[op], *words]
        at = self._known.get(tuple(row))
        if at is None or self._kinds[at] != kind:
            at = self._known[tuple(row)] = len(self._rows)
            self._rows.append(row)
            self._kinds.append(kind)
        return at

    def _written(self, node: Node) -> int:
        if node.kind in ("tokens", "indices"):
            return self._write("int", node.kind)
        if node.kind == "constant":
            return self._constant(node.attributes["value"])
        if node.kind == "map":
            op = node.attributes["op"]
            if not isinstance(op, str):
                raise _Without
            return self._map(op, [self._at(source) for source in node.inputs])
        if node.kind in ("width", "aggregate"):
            return self._aggregate(node)
        raise _Without

    def _constant(self, value: Any) -> int:
        if isinstance(value, float):
            return self._write("float", "constant", _bits(value))
        if not isinstance(value, int) or not -(2**63) <= value < 2**63:
            raise _Without
        return self._write("bool" if isinstance(value, bool) else "int", "constant", int(value))

    # --- elementwise ---

    def _map(self, op: str, inputs: list[int]) -> int:
        kinds = [self._kinds[at] for at in inputs]
        if op in ("where", "both", "either"):
            return self._choice(op, inputs)
        if op in ("truth", "not"):
            asked = self._truth(inputs[0])
            return asked if op == "truth" else self._write("bool", "not", asked)
        if op == "integer":
            return self._write("int", "integer", inputs[0]) if kinds[0] == "float" else self._as_int(inputs[0])
        if op in _BITWISE or op == "invert":
            if "float" in kinds:
                raise _Without
            if op == "invert" and kinds[0] == "bool":
                return self._write("bool", "not", inputs[0])
            return self._write("bool" if set(kinds) == {"bool"} else "int", op, *inputs)
        if op == "truediv" or "float" in kinds:
            return self._real(op, inputs, kinds)
        if op == "pow" and not self._is_natural(inputs[1]):
            raise _Without
        return self._write("bool" if op in _COMPARISONS else "int", op, *inputs)

    def _real(self, op: str, inputs: list[int], kinds: list[str]) -> int:
        if op not in _REAL:
            raise _Without
        # Python compares integers with floats exactly, and divides integers as if they were rounded once, at the end.
        how = "exact" if op in _COMPARISONS or op == "truediv" else "real"
        operands = [
            at if kind == "float" else self._write("float", how, at) for at, kind in zip(inputs, kinds, strict=True)
        ]
        name = "real_div" if op == "truediv" else f"real_{op}"
        return self._write("bool" if op in _COMPARISONS else "float", name, *operands)

    def _choice(self, op: str, inputs: list[int]) -> int:
        asked = self._truth(inputs[0])
        branches = inputs[1:] if op == "where" else inputs[::-1] if op == "both" else inputs
        kinds = {self._kinds[at] for at in branches}
        kind = kinds.pop() if len(kinds) == 1 else "int" if "float" not in kinds else "float"
        if kind == "float":
            branches = [at if self._kinds[at] == "float" else self._write("float", "exact", at) for at in branches]
        return self._write(kind, "where", asked, *branches)

    def _truth(self, at: int) -> int:
        kind = self._kinds[at]
        return at if kind == "bool" else self._write("bool", "real_truth" if kind == "float" else "truth", at)

    def _as_int(self, at: int) -> int:
        """Return the same numbers as integers: a bool is one already, but for its kind."""
        return at if self._kinds[at] == "int" else self._write("int", "where", at, at, at)

    def _is_natural(self, at: int) -> bool:
        row = self._rows[at]
        return row[0] == _OPS["constant"] and self._kinds[at] != "float" and row[1] >= 0

    # --- aggregations ---

    def _aggregate(self, node: Node) -> int:
        how = node.attributes
        reduction = "width" if node.kind == "width" else how["reduction"]
        rounding = "truncate" if node.kind == "width" else how["rounding"]
        if reduction not in REDUCTIONS or rounding not in ROUNDINGS:
            raise _Without
        value = -1 if node.kind == "width" else self._operand(node.inputs[1])
        real = reduction == "mean" and rounding == "float"
        fallback = how.get("default", 0)
        words = [value, REDUCTIONS[reduction], ROUNDINGS[rounding], _bits(fallback) if real else int(fallback)]
        formula = self._structured(formula_of(node.inputs[0]))
        parts = aggregation_parts(formula, reduction)
        words += self._formula(formula) if parts is None else self._conjunctions(formula, parts)
        return self._write("float" if real else "int", "aggregate", *words)

    def _operand(self, node: Node) -> int:
        at = self._at(node)
        if self._kinds[at] == "float":
            raise _Without
        return at

    def _structured(self, formula: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the formula with its Python predicates as comparisons of maps of keys and queries."""
        made: dict[int, tuple[Any, ...]] = {}
        for part in postorder(formula):
            if part[0] == "call":
                found = structured(part[3], part[1], part[2])
                if found is None:
                    raise _Without
                made[id(part)] = found
            elif part[0] == "term":
                made[id(part)] = part
            else:
                made[id(part)] = (part[0], *(made[id(operand)] for operand in part[1:]))
        self._kept.append(made)
        return made[id(formula)]

    def _term(self, key: Value, query: Value, outcomes: int) -> list[int]:
        return [self._operand(key), self._operand(query), CORE_CODE[outcomes]]

    def _conjunctions(self, formula: tuple[Any, ...], parts: list[tuple[int, Any]]) -> list[int]:
        nodes = {id(node): node for part in postorder(formula) if part[0] == "term" for node in part[1:3]}
        words, number = [], 0
        for count, conjunction in parts:
            terms = [self._term(nodes[k], nodes[q], outcomes) for (k, q), outcomes in conjunction.items()]
            for _ in range(abs(count)):
                words += [1 if count > 0 else -1, len(terms), *(word for term in terms for word in term)]
                number += 1
        return [0, number, *words]

    def _formula(self, formula: tuple[Any, ...]) -> list[int]:
        leaves = [part for part in postorder(formula) if part[0] == "term"]
        terms = [self._term(key, query, predicate.outcomes) for _, key, query, predicate in leaves]
        code = postfix(formula, {id(leaf): at for at, leaf in enumerate(leaves)})
        depth = most = 0
        for word in code:
            depth += 1 if word >= 0 else 0 if word == -3 else -1
            most = max(most, depth)
        if most > _DEPTH:
            raise _Without
        return [1, len(terms), *(word for term in terms for word in term), len(code), *code]


def _bits(x: float) -> int:
    return int(struct.unpack("<q", struct.pack("<d", float(x)))[0])
