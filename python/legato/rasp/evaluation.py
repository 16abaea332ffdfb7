"""Evaluation of a graph on any Python values: the meaning of `legato.rasp.sops` and of the language.

Sequences may hold strings, numbers, booleans and None. Selectors run on the same engine as everything else: keys and
queries are replaced by ranks or numbers.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legato.errors import ArgumentError
from legato.rasp.nodes import Node, interned, topological
from legato.rasp.operations import OPERATIONS
from legato.rasp.predicates import EQUAL, GREATER, LESS, Predicate, holds
from legato.rasp.selectors import Selector, aggregate_selector, term

__all__ = ["REFUSALS", "evaluate", "reason", "scalar_function", "steps"]

#: How a function says that it has no answer for its arguments.
REFUSALS = (TypeError, ValueError, ArithmeticError, LookupError)


def evaluate(value: Node, sequence: Sequence[Any], *, causal: bool = False, merged: bool = True) -> list[Any]:
    """Evaluate on a sequence of Python values.

    Parameters
    ----------
    value : symbol
        A sequence, or a selector (then the rows of its matrix are returned).
    sequence : sequence
        The tokens.
    causal : bool
        Whether selectors see only j <= i. Selects that say so themselves (RASP-L) keep their own way.
    merged : bool
        Whether equal sub-expressions are evaluated once; without, every node that was written, by itself.

    Raises
    ------
    ArgumentError
        A named comparison meets None, the types cannot be compared, or several values that are no numbers are averaged.
    """
    order = interned(value) if merged else topological((value,))
    return collections.deque(steps(order, sequence, causal=causal), maxlen=1)[0][1]


def steps(
    order: list[Node], sequence: Sequence[Any], *, causal: bool = False, matrices: bool = False
) -> Iterator[tuple[Node, list[Any]]]:
    """Evaluate the nodes of a graph, inputs first: each with its elements, or with the rows of its matrix.

    Matrices of selectors other than the last node are only made when `matrices` says so; else they are empty.
    """
    items = list(sequence)
    results: dict[int, Any] = {}
    for node in order:
        inputs = [results[id(source)] for source in node.inputs]
        out = results[id(node)] = _RUN[node.kind](node, inputs, items, causal)
        if isinstance(out, Selector):
            yield node, np.asarray(out).tolist() if matrices or node is order[-1] else []
        else:
            yield node, list(out)


def reason(error: Exception) -> str:
    """Return what an error of a function says; that of a dict is the bare key."""
    return f"no key {error}" if isinstance(error, KeyError) else str(error)


def _name(node: Node) -> str:
    op = node.attributes.get("op")
    return node.label or (op if isinstance(op, str) else node.kind)


def scalar_function(node: Node) -> Callable[..., Any]:
    """Return what a map does to one element of each of its inputs, which are not None."""
    op = node.attributes["op"]
    function: Callable[..., Any] = OPERATIONS[op].scalar if isinstance(op, str) else op
    if node.attributes.get("whole"):  # a map of the core: truncated toward zero
        return lambda *values: int(function(*values))
    return function


def _map(node: Node, inputs: list[list[Any]], items: list[Any], _causal: bool) -> list[Any]:
    op = node.attributes["op"]
    function = scalar_function(node)
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
        except REFUSALS as error:
            shown = ", ".join(repr(x) for x in values)
            why = reason(error)
            raise ArgumentError(f"{_name(node)}: cannot be applied to {shown} at position {at}: {why}") from None
    del items
    return out


def _select(node: Node, inputs: list[list[Any]], items: list[Any], causal: bool) -> Selector:
    keys, queries = inputs
    predicate = node.attributes["predicate"]
    own = node.attributes["causal"]
    shape, hidden = (len(items),), causal if own is None else own
    if isinstance(predicate, Predicate):
        for role, values in (("key", keys), ("query", queries)):
            for at, x in enumerate(values):
                if x is None or x != x:
                    raise ArgumentError(f"select: the {role} at position {at} is {'None' if x is None else 'NaN'}")
        k, q = _ranks(keys, queries, predicate)
        return Selector(term(k, q, predicate), shape, hidden, None)
    distinct_keys, k = _numbered(keys)
    distinct_queries, q = _numbered(queries)

    def by_number(key: int, query: int) -> bool:
        asked = distinct_keys[key], distinct_queries[query]
        if own is not None:  # RASP-L's own predicates return bool
            return holds(predicate, *asked)
        try:
            return bool(predicate(*asked))
        except REFUSALS as error:
            raise ArgumentError(
                f"select: the predicate cannot be asked about key {asked[0]!r}, query {asked[1]!r}: {reason(error)}"
            ) from None

    return Selector(term(k, q, by_number), shape, hidden, None)


def _numbered(values: list[Any]) -> tuple[list[Any], NDArray[np.int64]]:
    """Return the distinct values and the number of each element; what has no hash is distinct from all else."""
    numbers: dict[Any, int] = {}
    distinct: list[Any] = []
    ids = []
    for x in values:
        try:
            at = numbers.setdefault((type(x), x), len(distinct))
        except TypeError:
            at = len(distinct)
        if at == len(distinct):
            distinct.append(x)
        ids.append(at)
    return distinct, np.array(ids, dtype=np.int64)


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
    if how["reduction"] == "sum":
        return _sums(np.asarray(selector), values, how["default"])
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


def _sums(matrix: NDArray[np.bool_], values: list[Any], default: Any) -> list[Any]:
    out = []
    for i, row in enumerate(matrix):
        chosen = [values[j] for j in np.flatnonzero(row).tolist()]
        if not all(isinstance(v, int | float) for v in chosen):
            bad = next(v for v in chosen if not isinstance(v, int | float))
            raise ArgumentError(f"sum: {bad!r}, selected at position {i}, is no number")
        out.append(sum(chosen) if chosen else default)
    return out


def _given(node: Node, _inputs: list[Any], items: list[Any], _causal: bool) -> list[Any]:
    value = node.attributes["value"]
    if node.attributes["checked"] and len(value) != len(items):
        raise ArgumentError(f"{_name(node)}: {len(value)} elements for an input of {len(items)}")
    return list(value)


def _matrix(node: Node, _inputs: list[Any], items: list[Any], causal: bool) -> Selector:
    """Look the pair of positions up, as a predicate."""
    rows = _given(node, [], items, causal)
    here = np.arange(len(items), dtype=np.int64)
    return Selector(term(here, here, lambda key, query: bool(rows[query][key])), (len(items),), causal, None)


_RUN: dict[str, Callable[[Node, list[Any], list[Any], bool], Any]] = {
    "tokens": lambda _node, _inputs, items, _causal: items,
    "indices": lambda _node, _inputs, items, _causal: list(range(len(items))),
    "length": lambda _node, _inputs, items, _causal: [len(items)] * len(items),
    "constant": lambda node, _inputs, items, _causal: [node.attributes["value"]] * len(items),
    "sequence": _given,
    "matrix": _matrix,
    "map": _map,
    "select": _select,
    "and": lambda _node, inputs, _items, _causal: inputs[0] & inputs[1],
    "or": lambda _node, inputs, _items, _causal: inputs[0] | inputs[1],
    "not": lambda _node, inputs, _items, _causal: ~inputs[0],
    "width": lambda _node, inputs, _items, _causal: aggregate_selector(inputs[0], None, "width").tolist(),
    "aggregate": _aggregate,
}
