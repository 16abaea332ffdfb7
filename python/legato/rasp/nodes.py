"""The graph of a program: its nodes, their order, and which of them are one."""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from legato.rasp.operations import BOOLEAN

__all__ = ["Node", "deciding", "interned", "kinds_of", "scope", "selector_parts", "static_kind", "topological"]


class _Scopes(threading.local):
    """Library functions that are being called, the outermost first; each thread has its own."""

    def __init__(self) -> None:
        self.open: list[tuple[str, int]] = []


_scopes = _Scopes()
_calls = itertools.count()
_deciding: contextvars.ContextVar[Callable[[Node], bool] | None] = contextvars.ContextVar("_deciding", default=None)


class Node:
    """A step of a program. `kind` says which, `inputs` are nodes, `attributes` the rest.

    Value kinds: tokens, indices, length, constant, sequence, map, width, aggregate. Choice kinds: select, matrix, and,
    or, not.
    """

    __slots__ = ("annotations", "attributes", "inputs", "kind", "label", "scope")
    __hash__ = None  # type: ignore[assignment]  # so that a set or dict lookup of a symbol fails instead of lying

    def __init__(self, kind: str, inputs: tuple[Node, ...] = (), **attributes: Any) -> None:
        self.kind = kind
        self.inputs = inputs
        self.attributes = attributes
        self.label: str | None = None
        self.annotations: dict[str, Any] = {}  #: marks that others put there, as `sops.numerical`; no meaning here
        self.scope = _scopes.open[0] if _scopes.open else None

    @property
    def name(self) -> str:
        """The label, or what kind of step it is."""
        return self.label or self.kind

    def named(self, label: str) -> Any:
        """Give the node a name for messages, drawings and weights; returns the node."""
        self.label = label
        return self

    def annotated(self, **annotations: Any) -> Any:
        """Add marks to the node; `name` is its name. Returns the node."""
        if "name" in annotations:
            self.label = annotations.pop("name")
        self.annotations = {**self.annotations, **annotations}
        return self

    def __bool__(self) -> bool:
        decide = _deciding.get()
        if decide is not None:
            return decide(self)
        raise TypeError(f"a symbol ({self.kind}) has no truth value: use where(), & | ~, or seq_map")

    def __iter__(self) -> Iterator[Any]:
        raise TypeError(f"a symbol ({self.kind}) cannot be iterated")


@contextlib.contextmanager
def deciding(decide: Callable[[Node], bool]) -> Iterator[None]:
    """Inside, a symbol has the truth value that `decide` says."""
    token = _deciding.set(decide)
    try:
        yield
    finally:
        _deciding.reset(token)


@contextlib.contextmanager
def scope(name: str) -> Iterator[None]:
    """Nodes made inside belong to one call of the library function `name` (the outermost one)."""
    _scopes.open.append((name, next(_calls)))
    try:
        yield
    finally:
        _scopes.open.pop()


def topological(outputs: Sequence[Node]) -> list[Node]:
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


def selector_parts(choice: Node) -> list[Node]:
    """Return the nodes that a selector is put together from, each once and operands first; its selects are leaves."""
    order: list[Node] = []
    done: set[int] = set()
    stack = [(choice, False)]
    while stack:
        node, ready = stack.pop()
        if id(node) in done:
            continue
        if ready or node.kind not in ("and", "or", "not"):
            done.add(id(node))
            order.append(node)
        else:
            stack.append((node, True))
            stack.extend((part, False) for part in reversed(node.inputs))
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
                found.label, found.scope, found.annotations = node.label, node.scope, node.annotations
            by_key[key] = found
            order.append(found)
        elif found.label is None:
            found.label = node.label
        canonical[id(node)] = found
    return order


_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis))


def _identity(x: Any) -> str:
    """Return a key that is equal only for attributes that mean the same: the object itself, unless that is proved.

    Proved equal are plain values of one type, tuples of them, and functions of the same code over the same globals
    whose defaults and closures are such values; a bound method is its function and its object. (A key is a text, so
    that keys sort.)
    """
    kind = type(x)
    if kind in _PLAIN:
        return f"{kind.__name__} {x!r}"
    if kind in (tuple, frozenset):
        parts = [_identity(part) for part in x]
        return f"{kind.__name__} [{', '.join(parts if kind is tuple else sorted(parts))}]"
    if kind is types.MethodType:
        return f"method {_identity(x.__func__)} of {id(x.__self__)}"
    if kind is types.FunctionType:
        keywords = tuple(sorted((x.__kwdefaults__ or {}).items()))
        cells = ", ".join(_identity_of_cell(cell) for cell in x.__closure__ or ())
        return (
            f"function {id(x.__code__)} {id(x.__globals__)} {_identity(x.__defaults__)} {_identity(keywords)} [{cells}]"
        )
    return f"object {id(x)}"


def _identity_of_cell(cell: Any) -> str:
    try:
        content = cell.cell_contents
    except ValueError:  # not filled yet
        return f"cell {id(cell)}"
    if type(content) is types.FunctionType:  # may refer to itself: never looked into
        return f"object {id(content)}"
    return _identity(content)


def static_kind(value: Node) -> str:
    """Return what elements are, told from the operations alone: "bool", "int" or "float"."""
    return kinds_of(topological((value,)))[-1]


def kinds_of(order: list[Node]) -> list[str]:
    """`static_kind` of each node of a graph, inputs first."""
    kinds: dict[int, str] = {}
    for node in order:
        kinds[id(node)] = _kind(node, [kinds[id(source)] for source in node.inputs])
    return [kinds[id(node)] for node in order]


def _kind(node: Node, inputs: list[str]) -> str:
    op = node.attributes.get("op")
    if node.kind == "constant":
        return type(node.attributes["value"]).__name__
    if node.kind != "map":
        return "float" if node.attributes.get("rounding") == "float" else "int"
    if op in BOOLEAN:
        return "bool"
    if op == "integer" or callable(op):
        return "int"
    branches = inputs[1:] if op == "where" else inputs
    if op == "pow" and not _is_natural(node.inputs[1]):
        return "float"
    if op == "truediv" or "float" in branches:
        return "float"
    if op in {"and", "or", "xor", "invert", "where", "both", "either"}:
        return "bool" if set(branches) == {"bool"} else "int"
    return "int"


def _is_natural(node: Node) -> bool:
    value = node.attributes.get("value")
    return node.kind == "constant" and isinstance(value, int) and value >= 0
