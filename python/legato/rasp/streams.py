"""Evaluation one token at a time: a state for each aggregation, append-only because causal programs never look ahead.

The core runs a program by its instructions, where it has them: O(1) a token for always, equality and inequality,
amortized O(log^2 n) for an ordering, O(log^3 n) for two, O(n) for other formulas. Python runs the rest, programs with
functions that are called and what leaves 64 bits on its way: the same but O(n) for two orderings, and O(distinct keys)
for a callable predicate.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legato import _core
from legato._turns import Turns, one_at_a_time
from legato.errors import ArgumentError, NumericalError
from legato.rasp.instructions import formula_of
from legato.rasp.maps import apply_scalar, scalar_result
from legato.rasp.nodes import Node, kinds_of, selector_parts
from legato.rasp.operations import OPERATIONS
from legato.rasp.predicates import EQUAL, GREATER, LESS, holds
from legato.rasp.selectors import aggregation_parts, postorder

__all__ = ["Stream"]


class _Totals:
    """Count and sum of values; or, for max, the best one."""

    __slots__ = ("best", "count", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0
        self.best: int | None = None

    def add(self, value: int) -> None:
        self.count += 1
        self.total += value
        if self.best is None or value > self.best:
            self.best = value

    def ask(self, _query: Any) -> tuple[int, int, int | None]:
        return self.count, self.total, self.best


class _Ordered:
    """Keys below a query: blocks of doubling size, sorted, with prefix totals."""

    __slots__ = ("blocks",)

    def __init__(self) -> None:
        self.blocks: list[tuple[list[int], list[int], list[int], list[int]]] = []

    def add(self, key: int, value: int) -> None:
        pairs = [(key, value)]
        while self.blocks and len(self.blocks[-1][0]) <= len(pairs):
            keys, values, _, _ = self.blocks.pop()
            pairs += zip(keys, values, strict=True)
        pairs.sort()
        keys, values = [k for k, _ in pairs], [v for _, v in pairs]
        self.blocks.append((keys, values, list(accumulate(values)), list(accumulate(values, max))))

    def ask(self, query: int, inclusive: bool) -> tuple[int, int, int | None]:
        count, total, best = 0, 0, None
        for keys, _, totals, bests in self.blocks:
            at = bisect_right(keys, query) if inclusive else bisect_left(keys, query)
            if at:
                count += at
                total += totals[at - 1]
                if best is None or bests[at - 1] > best:
                    best = bests[at - 1]
        return count, total, best


class _Scan:
    """Two orderings: every key that was seen."""

    __slots__ = ("seen",)

    def __init__(self) -> None:
        self.seen: list[tuple[tuple[int, ...], int]] = []


def _selected(outcomes: int, key: Any, query: Any) -> bool:
    outcome = LESS if key < query else GREATER if key > query else EQUAL
    return bool(outcomes & outcome)


class _Conjunction:
    """State of one conjunction: groups by the equal terms, and in each what the orderings need."""

    def __init__(self, terms: list[tuple[int, int, int]]) -> None:
        self.equal = [(k, q) for k, q, outcomes in terms if outcomes == EQUAL]
        self.rest = [(k, q, outcomes) for k, q, outcomes in terms if outcomes != EQUAL]
        self.groups: dict[Any, Any] = {}
        self.not_equal = len(self.rest) == 1 and self.rest[0][2] == LESS | GREATER
        self.every = _Totals()
        self.first: tuple[Any, int] | None = None  # the best value and its key, and the best of another key
        self.second: tuple[Any, int] | None = None

    def add(self, values: list[Any], value: int) -> None:
        if self.not_equal:
            self._add_other(values[self.rest[0][0]], value)
            return
        group = tuple(values[k] for k, _ in self.equal)
        state = self.groups.get(group)
        if state is None:
            state = self.groups[group] = (_Totals, _Ordered, _Scan)[min(len(self.rest), 2)]()
        if isinstance(state, _Totals):
            state.add(value)
        elif isinstance(state, _Ordered):
            k, _, outcomes = self.rest[0]
            state.add(-values[k] if outcomes & GREATER else values[k], value)
        else:
            state.seen.append((tuple(values[k] for k, _, _ in self.rest), value))

    def ask(self, values: list[Any]) -> tuple[int, int, int | None]:
        if self.not_equal:
            return self._ask_other(values[self.rest[0][1]])
        state = self.groups.get(tuple(values[q] for _, q in self.equal))
        if state is None:
            return 0, 0, None
        if isinstance(state, _Totals):
            return state.count, state.total, state.best
        if isinstance(state, _Ordered):
            _, q, outcomes = self.rest[0]
            return state.ask(-values[q] if outcomes & GREATER else values[q], bool(outcomes & EQUAL))
        found = _Totals()
        queries = [(values[q], outcomes) for _, q, outcomes in self.rest]
        for keys, value in state.seen:
            if all(_selected(o, key, query) for key, (query, o) in zip(keys, queries, strict=True)):
                found.add(value)
        return found.ask(None)

    def _add_other(self, key: Any, value: int) -> None:
        self.every.add(value)
        self.groups.setdefault(key, _Totals()).add(value)
        if self.first is None or key == self.first[0] or value > self.first[1]:
            if self.first is None or key == self.first[0]:
                self.first = (key, value if self.first is None else max(value, self.first[1]))
            else:
                self.first, self.second = (key, value), self.first
        elif self.second is None or value > self.second[1]:
            self.second = (key, value)

    def _ask_other(self, query: Any) -> tuple[int, int, int | None]:
        own = self.groups.get(query)
        best = self.second if self.first is not None and self.first[0] == query else self.first
        return (
            self.every.count - (own.count if own else 0),
            self.every.total - (own.total if own else 0),
            None if best is None else best[1],
        )


class _Called:
    """A formula with callables, or one that grew too long: totals for each distinct tuple of keys."""

    def __init__(self, formula: tuple[Any, ...], key_slots: list[int], position: dict[int, int]) -> None:
        self.parts = postorder(formula)
        self.slots = key_slots
        self.position = position
        self.groups: dict[tuple[Any, ...], _Totals] = {}

    def add(self, values: list[Any], value: int) -> None:
        key = tuple(values[slot] for slot in self.slots)
        self.groups.setdefault(key, _Totals()).add(value)

    def ask(self, values: list[Any]) -> tuple[int, int, int | None]:
        found = _Totals()
        for keys, totals in self.groups.items():
            if self._holds(dict(zip(self.slots, keys, strict=True)), values):
                found.count += totals.count
                found.total += totals.total
                if totals.best is not None and (found.best is None or totals.best > found.best):
                    found.best = totals.best
        return found.ask(None)

    def _holds(self, keys: dict[int, Any], values: list[Any]) -> bool:
        found: dict[int, bool] = {}
        for part in self.parts:
            kind = part[0]
            if kind in ("term", "call"):
                asked = keys[self.position[id(part[1])]], values[self.position[id(part[2])]]
                found[id(part)] = holds(part[3], *asked)
            elif kind == "not":
                found[id(part)] = not found[id(part[1])]
            else:
                left, right = found[id(part[1])], found[id(part[2])]
                found[id(part)] = left and right if kind == "and" else left or right
        return found[id(self.parts[-1])]


class Stream:
    """The state of a program between tokens.

    Parameters
    ----------
    nodes : list of Node
        Inputs first, the output last.
    words : ndarray of int64, optional
        Its instructions.
    """

    def __init__(self, nodes: list[Node], words: NDArray[np.int64] | None) -> None:
        self._nodes = nodes
        self._compiled = None if words is None else _core.RaspStream(words)
        self._interpreted = None if self._compiled is not None else _Interpreted(nodes)
        self._turns = Turns()
        self.length = 0

    @one_at_a_time
    def push(self, token: int) -> Any:
        """Append a token; the program's output at its position."""
        if self._compiled is not None:
            found = self._compiled.push(token)
            if found is not None:
                self.length += 1
                return found
            self._leave_core()
        return self._push(token)

    @one_at_a_time
    def extend(self, tokens: list[int]) -> Any:
        """Append tokens, at least one; the program's output at the last of them."""
        if self._compiled is not None:
            try:
                found = self._compiled.last(np.array(tokens, dtype=np.int64))
            except BaseException:  # a signal came: nobody knows how far it got
                self._compiled, self._interpreted = None, _Interpreted(self._nodes, failed=True)
                raise
            if found is not None:
                self.length += len(tokens)
                return found
            self._leave_core()
        for token in tokens:
            found = self._push(token)
        return found

    @one_at_a_time
    def generate(self, token: int, stop: int | None, most: int) -> list[int]:
        """Append a token, then each output in turn: the outputs, until `stop` was one."""
        found: list[int] = []
        if self._compiled is not None:
            try:
                end = stop if stop is not None and -(2**63) <= stop < 2**63 else None  # no token of the core is another
                written, sound = self._compiled.generate(token, end, most)
            except BaseException:
                self._compiled, self._interpreted = None, _Interpreted(self._nodes, failed=True)
                raise
            found = written.tolist()
            self.length += len(found)
            if sound:
                return found
            self._leave_core()
        while len(found) < most and not (found and found[-1] == stop):
            found.append(int(self._push(found[-1] if found else token)))
        return found

    def _push(self, token: int) -> Any:
        assert self._interpreted is not None
        found = self._interpreted.push(token)
        self.length = self._interpreted.length
        return found

    def _leave_core(self) -> None:
        """Go on in Python, from the token that the core could not take: it knows the error, or the larger numbers."""
        assert self._compiled is not None
        self._interpreted = _Interpreted(self._nodes)
        for token in self._compiled.tokens()[: self.length].tolist():
            self._interpreted.push(token)
        self._compiled = None


class _Interpreted:
    """The same in Python."""

    def __init__(self, nodes: list[Node], failed: bool = False) -> None:
        self._position = {id(node): at for at, node in enumerate(nodes)}
        self._kinds = kinds_of(nodes)
        self._values: list[Any] = [None] * len(nodes)
        self._steps: list[tuple[int, Callable[[], Any]]] = []
        self.length = 0
        self.token = 0
        self._failed = failed
        for at, node in enumerate(nodes):
            if node.kind == "constant":
                self._values[at] = node.attributes["value"]
            elif node.kind in ("tokens", "indices", "map", "width", "aggregate"):
                self._steps.append((at, getattr(self, f"_{node.kind}")(node, at)))
            elif node.kind == "length":
                raise ArgumentError("streaming: the node length reads the future")
            elif node.kind == "select" and not node.attributes["causal"]:
                raise ArgumentError(
                    f"streaming: the node {node.label or f'select #{at}'} is not causal: it reads the future"
                )

    def push(self, token: int) -> Any:
        """Append a token; the program's output at its position."""
        if self._failed:  # some nodes hold the token that failed, others do not
            raise ArgumentError(
                f"streaming: the token at position {self.length} failed; reset() forgets it and the rest"
            )
        self.token = token
        self._failed = True
        values = self._values
        for at, step in self._steps:
            values[at] = step()
        self._failed = False
        self.length += 1
        return values[-1]

    def _tokens(self, _node: Node, _at: int) -> Callable[[], Any]:
        return lambda: self.token

    def _indices(self, _node: Node, _at: int) -> Callable[[], Any]:
        return lambda: self.length

    def _map(self, node: Node, at: int) -> Callable[[], Any]:
        op = node.attributes["op"]
        values = self._values
        slots = [self._position[id(source)] for source in node.inputs]
        if not isinstance(op, str):
            name = "tok_map" if len(slots) == 1 else "seq_map"
            return lambda: scalar_result(name, op, tuple(values[s] for s in slots), lambda: self.length)
        function = OPERATIONS[op].scalar
        if op in {"eq", "ne", "lt", "le", "gt", "ge"}:
            a, b = slots
            return lambda: function(values[a], values[b])
        wide = node.attributes.get("wide", False)
        if op in ("where", "both", "either") and self._kinds[at] != "bool":  # bools beside numbers are numbers

            def chosen() -> Any:
                result = function(*[values[s] for s in slots])
                return int(result) if result is True or result is False else result

            return chosen

        def step() -> Any:
            return apply_scalar(op, tuple(values[s] for s in slots), lambda: self.length, wide=wide)

        return step

    def _width(self, node: Node, at: int) -> Callable[[], Any]:
        return self._reduce(node, at, None, "width", 0, "truncate")

    def _aggregate(self, node: Node, at: int) -> Callable[[], Any]:
        how = node.attributes
        value = self._position[id(node.inputs[1])]
        return self._reduce(node, at, value, how["reduction"], how["default"], how["rounding"])

    def _reduce(
        self, node: Node, _at: int, slot: int | None, reduction: str, default: float, rounding: str
    ) -> Callable[[], Any]:
        formula = formula_of(node.inputs[0])
        position, values = self._position, self._values
        parts = aggregation_parts(formula, reduction)
        states: list[tuple[int, _Conjunction | _Called]]
        if parts is None:
            leaves = [part for part in selector_parts(node.inputs[0]) if part.kind == "select"]
            keys = sorted({position[id(select.inputs[0])] for select in leaves})
            states = [(1, _Called(formula, keys, position))]
        else:
            states = [
                (sign, _Conjunction([(position[k], position[q], outcomes) for (k, q), outcomes in part.items()]))
                for sign, part in parts
            ]
        finish = _finisher(reduction, default, rounding, lambda: self.length)
        flip = -1 if reduction == "min" else 1
        if len(states) == 1 and states[0][0] == 1:  # most aggregations
            state = states[0][1]

            def step() -> Any:
                state.add(values, 0 if slot is None else flip * int(values[slot]))
                return finish(*state.ask(values))

            return step

        def step_all() -> Any:
            count, total, best = 0, 0, None
            value = 0 if slot is None else flip * int(values[slot])
            for sign, state in states:
                state.add(values, value)
                more, part_total, part_best = state.ask(values)
                count += sign * more
                total += sign * part_total
                if part_best is not None and (best is None or part_best > best):
                    best = part_best
            return finish(count, total, best)

        return step_all


def _finisher(
    reduction: str, default: float, rounding: str, position: Callable[[], int]
) -> Callable[[int, int, int | None], Any]:
    if reduction == "width":
        return lambda count, _total, _best: count
    if reduction == "sum":

        def summed(count: int, total: int, _best: int | None) -> Any:
            if not -(2**63) <= total < 2**63:
                raise NumericalError(f"sum: the result at position {position()} does not fit 64 bits")
            return total if count else default

        return summed
    if reduction != "mean":
        flip = -1 if reduction == "min" else 1
        return lambda _count, _total, best: default if best is None else flip * best
    if rounding == "floor":
        return lambda count, total, _best: total // count if count else default
    if rounding == "float":
        return lambda count, total, _best: total / count if count else default
    return lambda count, total, _best: default if not count else total // count if total >= 0 else -(-total // count)
