"""Programs as graphs: values (sequences) and choices (selectors), built by calling the operations on symbols."""

from __future__ import annotations

import contextlib
import itertools
import operator
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from legato.errors import ArgumentError
from legato.rasp.predicates import Predicate

__all__ = [
    "OPERATIONS",
    "Choice",
    "Node",
    "Operation",
    "Value",
    "apply_symbolic",
    "evaluate_scalar",
    "interned",
    "scope",
    "static_kind",
    "topological",
]


@dataclass(frozen=True)
class Operation:
    """An elementwise operation known by name: on Python scalars, and as printed."""

    scalar: Callable[..., Any]
    text: str


def _where(condition: Any, x: Any, y: Any) -> Any:
    return x if condition else y


def _invert(x: Any) -> Any:
    return not x if isinstance(x, bool) else ~x


OPERATIONS: dict[str, Operation] = {
    "add": Operation(operator.add, "({} + {})"),
    "sub": Operation(operator.sub, "({} - {})"),
    "mul": Operation(operator.mul, "({} * {})"),
    "floordiv": Operation(operator.floordiv, "({} // {})"),
    "truediv": Operation(operator.truediv, "({} / {})"),
    "mod": Operation(operator.mod, "({} % {})"),
    "pow": Operation(operator.pow, "({} ** {})"),
    "eq": Operation(operator.eq, "({} == {})"),
    "ne": Operation(operator.ne, "({} != {})"),
    "lt": Operation(operator.lt, "({} < {})"),
    "le": Operation(operator.le, "({} <= {})"),
    "gt": Operation(operator.gt, "({} > {})"),
    "ge": Operation(operator.ge, "({} >= {})"),
    "and": Operation(operator.and_, "({} & {})"),
    "or": Operation(operator.or_, "({} | {})"),
    "xor": Operation(operator.xor, "({} ^ {})"),
    "neg": Operation(operator.neg, "-{}"),
    "abs": Operation(abs, "abs({})"),
    "invert": Operation(_invert, "~{}"),
    "truth": Operation(bool, "truth({})"),
    "integer": Operation(int, "integer({})"),
    "where": Operation(_where, "where({}, {}, {})"),
}
BOOLEAN = {"eq", "ne", "lt", "le", "gt", "ge", "truth"}


class _Scopes(threading.local):
    """Library functions that are being called, the outermost first; each thread has its own."""

    def __init__(self) -> None:
        self.open: list[tuple[str, int]] = []


_scopes = _Scopes()
_calls = itertools.count()


class Node:
    """A step of a program. `kind` says which, `inputs` are nodes, `attributes` the rest.

    Value kinds: tokens, indices, length, constant, map, width, aggregate. Choice kinds: select, and, or, not.
    """

    __slots__ = ("attributes", "inputs", "kind", "label", "scope")
    __hash__ = None  # type: ignore[assignment]  # so that a set or dict lookup of a symbol fails instead of lying

    def __init__(self, kind: str, inputs: tuple[Node, ...] = (), **attributes: Any) -> None:
        self.kind = kind
        self.inputs = inputs
        self.attributes = attributes
        self.label: str | None = None
        self.scope = _scopes.open[0] if _scopes.open else None

    def named(self, label: str) -> Any:
        """Give the node a name for messages, drawings and weights; returns the node."""
        self.label = label
        return self

    def __call__(self, sequence: Any, *, causal: bool = False) -> list[Any]:
        """Evaluate on a Python sequence, bidirectional unless `causal` (see `legato.rasp.sops`)."""
        from legato.rasp.sops import evaluate

        if not isinstance(self, Value | Choice):
            raise TypeError("expected a sequence or a selector")
        return evaluate(self, sequence, causal=causal)

    def __bool__(self) -> bool:
        raise TypeError(f"a symbol ({self.kind}) has no truth value: use where(), & | ~, or seq_map")

    def __iter__(self) -> Iterator[Any]:
        raise TypeError(f"a symbol ({self.kind}) cannot be iterated")


class Choice(Node):
    """A selector of a program: ``&``, ``|`` and ``~`` combine."""

    __slots__ = ()

    def __and__(self, other: Choice) -> Choice:
        return Choice("and", (self, other))

    def __or__(self, other: Choice) -> Choice:
        return Choice("or", (self, other))

    def __invert__(self) -> Choice:
        return Choice("not", (self,))


def apply_symbolic(op: str | Callable[..., Any], *operands: Any) -> Value:
    """Record an elementwise operation; operands that are not nodes become constants."""
    return Value("map", tuple(as_value(x) for x in operands), op=op)


def as_value(x: Any) -> Value:
    """Return the node itself, or a constant."""
    if isinstance(x, Value):
        return x
    if isinstance(x, Node):
        raise ArgumentError(f"expected a sequence, got a selector ({x.kind})")
    return Value("constant", (), value=x.item() if hasattr(x, "item") and getattr(x, "ndim", 1) == 0 else x)


class Value(Node):
    """A sequence of a program; the arithmetic, comparison and logic operators work element by element."""

    __slots__ = ()
    __array_ufunc__ = None
    __hash__ = None

    def __add__(self, other: Any) -> Value:
        return apply_symbolic("add", self, other)

    def __radd__(self, other: Any) -> Value:
        return apply_symbolic("add", other, self)

    def __sub__(self, other: Any) -> Value:
        return apply_symbolic("sub", self, other)

    def __rsub__(self, other: Any) -> Value:
        return apply_symbolic("sub", other, self)

    def __mul__(self, other: Any) -> Value:
        return apply_symbolic("mul", self, other)

    def __rmul__(self, other: Any) -> Value:
        return apply_symbolic("mul", other, self)

    def __floordiv__(self, other: Any) -> Value:
        return apply_symbolic("floordiv", self, other)

    def __rfloordiv__(self, other: Any) -> Value:
        return apply_symbolic("floordiv", other, self)

    def __truediv__(self, other: Any) -> Value:
        return apply_symbolic("truediv", self, other)

    def __rtruediv__(self, other: Any) -> Value:
        return apply_symbolic("truediv", other, self)

    def __mod__(self, other: Any) -> Value:
        return apply_symbolic("mod", self, other)

    def __rmod__(self, other: Any) -> Value:
        return apply_symbolic("mod", other, self)

    def __pow__(self, other: Any) -> Value:
        return apply_symbolic("pow", self, other)

    def __rpow__(self, other: Any) -> Value:
        return apply_symbolic("pow", other, self)

    def __and__(self, other: Any) -> Value:
        return apply_symbolic("and", self, other)

    def __rand__(self, other: Any) -> Value:
        return apply_symbolic("and", other, self)

    def __or__(self, other: Any) -> Value:
        return apply_symbolic("or", self, other)

    def __ror__(self, other: Any) -> Value:
        return apply_symbolic("or", other, self)

    def __xor__(self, other: Any) -> Value:
        return apply_symbolic("xor", self, other)

    def __rxor__(self, other: Any) -> Value:
        return apply_symbolic("xor", other, self)

    def __invert__(self) -> Value:
        return apply_symbolic("invert", self)

    def __neg__(self) -> Value:
        return apply_symbolic("neg", self)

    def __abs__(self) -> Value:
        return apply_symbolic("abs", self)

    def __eq__(self, other: Any) -> Value:  # type: ignore[override]
        return apply_symbolic("eq", self, other)

    def __ne__(self, other: Any) -> Value:  # type: ignore[override]
        return apply_symbolic("ne", self, other)

    def __lt__(self, other: Any) -> Value:
        return apply_symbolic("lt", self, other)

    def __le__(self, other: Any) -> Value:
        return apply_symbolic("le", self, other)

    def __gt__(self, other: Any) -> Value:
        return apply_symbolic("gt", self, other)

    def __ge__(self, other: Any) -> Value:
        return apply_symbolic("ge", self, other)


@contextlib.contextmanager
def scope(name: str) -> Iterator[None]:
    """Nodes made inside belong to one call of the library function `name` (the outermost one)."""
    _scopes.open.append((name, next(_calls)))
    try:
        yield
    finally:
        _scopes.open.pop()


def topological(outputs: tuple[Node, ...]) -> list[Node]:
    """Every node once, inputs first. No recursion, so programs may be deep."""
    order: list[Node] = []
    done: set[int] = set()
    stack: list[tuple[Node, bool]] = [(node, False) for node in reversed(outputs)]
    while stack:
        node, ready = stack.pop()
        if id(node) in done:
            continue
        if ready:
            done.add(id(node))
            order.append(node)
        else:
            stack.append((node, True))
            stack.extend((source, False) for source in reversed(node.inputs) if id(source) not in done)
    return order


def interned(output: Node) -> list[Node]:
    """Return the graph with equal sub-expressions made one node, inputs first; the last one is the output."""
    canonical: dict[int, Node] = {}
    by_key: dict[Any, Node] = {}
    order: list[Node] = []
    for node in topological((output,)):
        inputs = tuple(canonical[id(source)] for source in node.inputs)
        attributes = tuple(sorted((name, _identity(x)) for name, x in node.attributes.items()))
        key = (node.kind, attributes, tuple(id(source) for source in inputs))
        found = by_key.get(key)
        if found is None:
            found = node
            if any(a is not b for a, b in zip(inputs, node.inputs, strict=True)):
                found = type(node)(node.kind, inputs, **node.attributes)
                found.label, found.scope = node.label, node.scope
            by_key[key] = found
            order.append(found)
        elif found.label is None:
            found.label = node.label
        canonical[id(node)] = found
    return order


def _identity(x: Any) -> Any:
    """Return a key that is equal for attributes that mean the same."""
    if isinstance(x, Predicate):
        return ("predicate", x.name)
    if callable(x):
        code = getattr(x, "__code__", None)
        cells = tuple(cell.cell_contents for cell in getattr(x, "__closure__", None) or ())
        details = (getattr(x, "__defaults__", None), cells)
        try:
            hash(details)
        except TypeError:
            return ("object", id(x))
        return ("object", id(x)) if code is None else ("code", id(code), repr(details), *map(type, cells))
    return (type(x).__name__, repr(x))


def evaluate_scalar(value: Value, bound: dict[int, Any]) -> Any:
    """Return the element of a graph of maps when the nodes with these ids have these elements."""
    results = dict(bound)
    for node in topological((value,)):
        if id(node) in results:
            continue
        if node.kind == "constant":
            results[id(node)] = node.attributes["value"]
        elif node.kind == "map":
            op = node.attributes["op"]
            function = OPERATIONS[op].scalar if isinstance(op, str) else op
            results[id(node)] = function(*(results[id(source)] for source in node.inputs))
        else:
            raise ArgumentError(f"expected elementwise operations only, got {node.kind}")
    return results[id(value)]


def static_kind(value: Node) -> str:
    """Return what elements are, told from the operations alone: "bool", "int", "float" or "unknown"."""
    kinds: dict[int, str] = {}
    for node in topological((value,)):
        inputs = [kinds[id(source)] for source in node.inputs]
        op = node.attributes.get("op")
        if node.kind == "constant":
            kind = type(node.attributes["value"]).__name__
        elif node.kind != "map":
            kind = "float" if node.attributes.get("rounding") == "float" else "int"
        elif op in BOOLEAN:
            kind = "bool"
        elif op == "integer" or callable(op):
            kind = "int"
        elif op in {"truediv", "pow"} or "float" in inputs:
            kind = "float"
        elif op in {"and", "or", "xor", "invert"}:
            kind = "bool" if set(inputs) == {"bool"} else "int"
        elif op == "where":
            kind = "bool" if set(inputs[1:]) == {"bool"} else "int"
        else:
            kind = "int"
        kinds[id(node)] = kind
    return kinds[id(value)]
