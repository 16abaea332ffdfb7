"""The operators of the compiler community (Select, Aggregate, SelectorWidth, Map, SequenceMap) on any Python values.

Sequences may hold strings, numbers, booleans and None. Evaluation is bidirectional unless ``causal=True``. A mean of
one selected value is that value, of any type; a mean of several is a float and needs numbers. Elementwise functions
give None for None. Selectors run on the same engine as everything else: keys and queries are replaced by ranks.

Examples
--------
>>> from legato.rasp.sops import SelectorWidth, Select, Comparison, tokens
>>> hist = SelectorWidth(Select(tokens, tokens, Comparison.EQ))
>>> hist(list("abba")), hist(list("abba"), causal=True)
([2, 2, 2, 2], [1, 1, 2, 2])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legato.errors import ArgumentError
from legato.rasp.graph import OPERATIONS, Choice, Node, Value, apply_symbolic, as_value, interned
from legato.rasp.predicates import EQUAL, GREATER, LESS, Predicate, equals, false, geq, gt, holds, leq, lt, neq, true
from legato.rasp.selectors import Selector, aggregate_selector, term

__all__ = [
    "Aggregate",
    "Comparison",
    "Full",
    "LinearSequenceMap",
    "Map",
    "Select",
    "SelectorAnd",
    "SelectorNot",
    "SelectorOr",
    "SelectorWidth",
    "SequenceMap",
    "evaluate",
    "indices",
    "length",
    "tokens",
]

tokens = Value("tokens").named("tokens")  #: the input
indices = Value("indices").named("indices")  #: positions 0 .. n-1
length = Value("length").named("length")  #: n at every position


class Comparison:
    """The named comparisons of a key with a query."""

    EQ, NEQ, LT, LEQ, GT, GEQ, TRUE, FALSE = equals, neq, lt, leq, gt, geq, true, false


def Select(keys: Any, queries: Any, predicate: Predicate | Callable[[Any, Any], Any]) -> Choice:  # noqa: N802
    """Return the selector with row i, column j = predicate(keys[j], queries[i])."""
    return Choice("select", (as_value(keys), as_value(queries)), predicate=predicate, causal=None)


def Aggregate(selector: Choice, sop: Any, default: Any = None) -> Value:  # noqa: N802
    """Return the mean of the selected values, or the value itself where one is selected."""
    return Value("aggregate", (selector, as_value(sop)), default=default, reduction="mean", rounding="value")


def SelectorWidth(selector: Choice) -> Value:  # noqa: N802
    """Return the number of keys that each query selects."""
    return Value("width", (selector,))


def Map(f: Callable[[Any], Any], sop: Any) -> Value:  # noqa: N802
    """Apply `f` to every element."""
    return apply_symbolic(f, sop)


def SequenceMap(f: Callable[..., Any], *sops: Any) -> Value:  # noqa: N802
    """Apply `f` to the elements of two or more sequences at each position."""
    return apply_symbolic(f, *sops)


def LinearSequenceMap(first: Any, second: Any, first_factor: float, second_factor: float) -> Value:  # noqa: N802
    """Return ``first_factor * first + second_factor * second``."""
    return apply_symbolic("add", as_value(first) * first_factor, as_value(second) * second_factor)


def Full(value: Any) -> Value:  # noqa: N802
    """Return the same value at every position."""
    return as_value(value)


def SelectorAnd(a: Choice, b: Choice) -> Choice:  # noqa: N802
    """Return the keys that both select."""
    return a & b


def SelectorOr(a: Choice, b: Choice) -> Choice:  # noqa: N802
    """Return the keys that one of the two selects."""
    return a | b


def SelectorNot(a: Choice) -> Choice:  # noqa: N802
    """Return the keys that are not selected."""
    return ~a


def evaluate(value: Value | Choice, sequence: Sequence[Any], *, causal: bool = False) -> list[Any]:
    """Evaluate on a sequence of Python values.

    Parameters
    ----------
    value : symbol
        A sequence, or a selector (then the rows of its matrix are returned).
    sequence : sequence
        The tokens.
    causal : bool
        Whether selectors see only j <= i. Selects that say so themselves (RASP-L) keep their own way.

    Raises
    ------
    ArgumentError
        A key or query is None, the types cannot be compared, or several values that are no numbers are averaged.
    """
    items = list(sequence)
    order = interned(value)
    results: dict[int, Any] = {}
    for node in order:
        inputs = [results[id(source)] for source in node.inputs]
        results[id(node)] = _RUN[node.kind](node, inputs, items, causal)
    out = results[id(order[-1])]
    if isinstance(out, Selector):
        matrix: list[Any] = np.asarray(out).tolist()
        return matrix
    return list(out)


def _name(node: Node) -> str:
    return node.label or node.attributes.get("op") or node.kind if not callable(node.attributes.get("op")) else "map"


def _map(node: Node, inputs: list[list[Any]], items: list[Any], _causal: bool) -> list[Any]:
    op = node.attributes["op"]
    function = OPERATIONS[op].scalar if isinstance(op, str) else op
    out = []
    for at, values in enumerate(zip(*inputs, strict=True)):
        if op == "where":
            out.append(values[1] if values[0] else values[2])
            continue
        if any(x is None for x in values):
            out.append(None)
            continue
        try:
            out.append(function(*values))
        except (TypeError, ValueError, ArithmeticError) as error:
            shown = ", ".join(repr(x) for x in values)
            raise ArgumentError(f"{_name(node)}: cannot be applied to {shown} at position {at}: {error}") from None
    del items
    return out


def _select(node: Node, inputs: list[list[Any]], items: list[Any], causal: bool) -> Selector:
    keys, queries = inputs
    predicate = node.attributes["predicate"]
    own = node.attributes["causal"]
    for role, values in (("key", keys), ("query", queries)):
        if any(x is None for x in values):
            raise ArgumentError(f"select: the {role} at position {values.index(None)} is None")
        for at, x in enumerate(values):
            if x != x:
                raise ArgumentError(f"select: the {role} at position {at} is NaN")
    shape = (len(items),)
    if isinstance(predicate, Predicate):
        k, q = _ranks(keys, queries, predicate)
        return Selector(term(k, q, predicate), shape, causal if own is None else own, None)
    distinct_keys, k = _numbered(keys)
    distinct_queries, q = _numbered(queries)

    def by_number(key: int, query: int) -> bool:
        return holds(predicate, distinct_keys[key], distinct_queries[query])

    return Selector(term(k, q, by_number), shape, causal if own is None else own, None)


def _numbered(values: list[Any]) -> tuple[list[Any], NDArray[np.int64]]:
    numbers: dict[Any, int] = {}
    ids = [numbers.setdefault((type(x), x), len(numbers)) for x in values]
    return [x for _, x in numbers], np.array(ids, dtype=np.int64)


def _ranks(keys: list[Any], queries: list[Any], predicate: Predicate) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Integers that compare as the values do."""
    everything = keys + queries
    if all(type(x) is int and -(2**62) < x < 2**62 for x in everything):
        return np.array(keys, dtype=np.int64), np.array(queries, dtype=np.int64)
    numbers: dict[Any, int] = {}
    if predicate.outcomes in (EQUAL, LESS | GREATER, 0, 7):
        for x in everything:
            numbers.setdefault(x, len(numbers))
    else:
        try:
            numbers = {x: at for at, x in enumerate(sorted(set(everything)))}
        except TypeError:
            raise _no_order(keys, queries, predicate) from None
    return (
        np.array([numbers[x] for x in keys], dtype=np.int64),
        np.array([numbers[x] for x in queries], dtype=np.int64),
    )


def _no_order(keys: list[Any], queries: list[Any], predicate: Predicate) -> ArgumentError:
    """Name the first pair that cannot be compared."""
    for i, query in enumerate(queries):
        for j, key in enumerate(keys):
            try:
                predicate(key, query)
            except TypeError:
                return ArgumentError(
                    f"select: {predicate.name}: the key {key!r} at position {j} cannot be ordered with the query "
                    f"{query!r} at position {i}"
                )
    return ArgumentError(f"select: {predicate.name}: the values cannot be ordered")


def _aggregate(node: Node, inputs: list[Any], items: list[Any], _causal: bool) -> list[Any]:
    selector, values = inputs
    how = node.attributes
    if how["rounding"] != "value":
        numbers = np.array([int(v) for v in values], dtype=np.int64)
        found: list[Any] = aggregate_selector(
            selector, numbers, how["reduction"], how["default"], how["rounding"]
        ).tolist()
        return found
    widths = aggregate_selector(selector, None, "width")
    places = aggregate_selector(selector, np.arange(len(items), dtype=np.int64), "max", -1)
    out = [values[place] if place >= 0 else how["default"] for place in places.tolist()]
    several = np.flatnonzero(widths > 1)
    if several.size == 0:
        return out
    if all(isinstance(v, int) and abs(v) < 2**53 for v in values):
        means = aggregate_selector(selector, np.array([int(v) for v in values], dtype=np.int64), "mean", 0, "float")
        for i in several.tolist():
            out[i] = float(means[i])
        return out
    matrix = np.asarray(selector)
    for i in several.tolist():
        chosen = [values[j] for j in np.flatnonzero(matrix[i]).tolist()]
        if not all(isinstance(v, int | float) for v in chosen):
            raise ArgumentError(
                f"aggregate: {len(chosen)} values are selected at position {i} and not all are numbers: "
                f"{', '.join(repr(v) for v in chosen[:3])}"
            )
        out[i] = sum(chosen) / len(chosen)
    return out


_RUN: dict[str, Callable[[Node, list[Any], list[Any], bool], Any]] = {
    "tokens": lambda _node, _inputs, items, _causal: items,
    "indices": lambda _node, _inputs, items, _causal: list(range(len(items))),
    "length": lambda _node, _inputs, items, _causal: [len(items)] * len(items),
    "constant": lambda node, _inputs, items, _causal: [node.attributes["value"]] * len(items),
    "map": _map,
    "select": _select,
    "and": lambda _node, inputs, _items, _causal: inputs[0] & inputs[1],
    "or": lambda _node, inputs, _items, _causal: inputs[0] | inputs[1],
    "not": lambda _node, inputs, _items, _causal: ~inputs[0],
    "width": lambda _node, inputs, _items, _causal: aggregate_selector(inputs[0], None, "width").tolist(),
    "aggregate": _aggregate,
}
