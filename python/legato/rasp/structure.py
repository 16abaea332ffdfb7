"""Python predicates as comparisons of a map of the key with a map of the query, where they are that.

A predicate of arithmetic, comparisons, `and`, `or`, `not` and conditional expressions is run on two symbols, once for
each way that its branches can go. A comparison of sums, or of the absolute value of one with a bound, is solved for the
key: ``abs(k - q) < 9`` is ``k < q + 9 and k > q - 9``. Integers only; what leaves 64 bits on the way is asked as it
was written.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from legato._arrays import Int64
from legato.errors import NumericalError
from legato.rasp.following import Written, is_arithmetic
from legato.rasp.graph import Value, apply_symbolic, as_value
from legato.rasp.maps import apply_named
from legato.rasp.nodes import Node, deciding, kinds_of, topological
from legato.rasp.predicates import BY_OUTCOMES, EQUAL, GREATER, LESS
from legato.rasp.selectors import Selector, postorder, term

__all__ = ["settled", "structured"]

_MOST_WAYS = 16
_OUTCOMES = {
    "eq": EQUAL,
    "ne": LESS | GREATER,
    "lt": LESS,
    "le": LESS | EQUAL,
    "gt": GREATER,
    "ge": GREATER | EQUAL,
}
_TURNED = {LESS: GREATER, GREATER: LESS}
Formula = tuple[Any, ...]


class _Without(Exception):  # noqa: N818
    """The predicate is no such comparison."""


def structured(predicate: Callable[..., Any], key: Any, query: Any) -> Formula | None:
    """Return a predicate as a formula of ("term", keys, queries, Predicate) over symbols, or None."""
    found = _solution(predicate)
    if found is None:
        return None
    k, q, formula = found
    made: dict[int, Any] = {id(k): as_value(key), id(q): as_value(query)}
    return _replaced(formula, lambda side: _substituted(side, made))


def _solution(predicate: Callable[..., Any]) -> tuple[Value, Value, Formula] | None:
    """Return a key, a query and the predicate as a formula over them, or None."""
    written = Written.of(predicate)
    return None if written is None else _solved_once(written)


@functools.lru_cache(maxsize=256)  # a lambda in a loop is another object each time; solving costs more than few tokens
def _solved_once(written: Written) -> tuple[Value, Value, Formula] | None:
    if not is_arithmetic(written.function):
        return None
    k, q = Value("key"), Value("query")
    try:
        return k, q, _union([_way(k, q, result, asked) for result, asked in _ways(written.function, k, q)])
    except _Without:
        return None


def settled(selector: Selector) -> Selector:
    """Return the selector with its Python predicates as comparisons of arrays, where they are that."""
    if selector.formula[0] == "term" or all(part[0] != "call" for part in postorder(selector.formula)):
        return selector
    made: dict[int, Formula] = {}
    for part in postorder(selector.formula):
        if part[0] == "call":
            made[id(part)] = _of_arrays(part) or part
        else:
            made[id(part)] = part if part[0] == "term" else (part[0], *(made[id(operand)] for operand in part[1:]))
    return Selector(made[id(selector.formula)], selector.shape, selector.causal, selector.lengths)


def _of_arrays(leaf: Formula) -> Formula | None:
    _, keys, queries, predicate = leaf
    solution = _solution(predicate)
    if solution is None:
        return None
    k, q, formula = solution
    found: dict[str, Any] = {}
    try:
        return _replaced(formula, lambda side: _evaluated(side, {id(k): keys, id(q): queries}, found))
    except (_Without, NumericalError):
        return None


def _replaced(formula: Formula, made: Callable[[Value], Any]) -> Formula:
    """Return the formula with other keys and queries in its terms."""
    if formula[0] == "term":
        return term(made(formula[1]), made(formula[2]), formula[3])
    return (formula[0], *(_replaced(part, made) for part in formula[1:]))


def _substituted(side: Value, made: dict[int, Any]) -> Value:
    for node in topological((side,)):
        if id(node) not in made:
            new = type(node)(node.kind, tuple(made[id(source)] for source in node.inputs), **node.attributes)
            made[id(node)] = new
            made[id(new)] = new  # and `new` lives as long as what is looked up here
    return made[id(side)]  # type: ignore[no-any-return]


def _evaluated(side: Value, given: dict[int, Int64], found: dict[str, Any]) -> Int64:
    """Return a side on arrays; equal expressions are one array, by which the engine knows them."""
    shape = next(iter(given.values())).shape
    names: dict[int, str] = {}
    for node in topological((side,)):
        if id(node) in given:
            names[id(node)] = node.kind
            found[node.kind] = given[id(node)]
            continue
        how = node.attributes
        inputs = [names[id(source)] for source in node.inputs]
        name = names[id(node)] = repr(how["value"]) if node.kind == "constant" else f"{how['op']}({', '.join(inputs)})"
        if name not in found:
            value = how.get("value")
            made = np.asarray(value if node.kind == "constant" else apply_named(how["op"], *(found[x] for x in inputs)))
            if made.dtype.kind not in "ib":  # beyond 64 bits
                raise _Without
            found[name] = made
    whole = f"whole {names[id(side)]}"
    if whole not in found:
        array = found[names[id(side)]]
        is_ready = isinstance(array, np.ndarray) and array.shape == shape and array.dtype == np.int64
        found[whole] = array if is_ready else np.ascontiguousarray(np.broadcast_to(array, shape), dtype=np.int64)
    return found[whole]  # type: ignore[no-any-return]


# --- From the function to conditions ----------------------------------------------------------------------------------


def _ways(predicate: Callable[..., Any], k: Value, q: Value) -> list[tuple[Any, list[tuple[Node, bool]]]]:
    """Return what the function returns in each way through its branches, and what was asked on it with which answer."""
    found: list[tuple[Any, list[tuple[Node, bool]]]] = []
    pending: list[list[bool]] = [[]]
    while pending:
        answers = pending.pop()
        asked: list[tuple[Node, bool]] = []

        def decide(node: Node, answers: list[bool] = answers, asked: list[tuple[Node, bool]] = asked) -> bool:
            answer = answers[len(asked)] if len(asked) < len(answers) else True
            asked.append((node, answer))
            return answer

        try:
            with deciding(decide):
                result = predicate(k, q)
        except Exception:  # a wrong number of arguments, a division of constants: the call will say it
            raise _Without from None
        found.append((result, asked))
        pending += [[answer for _, answer in asked[:at]] + [False] for at in range(len(answers), len(asked))]
        if len(found) + len(pending) > _MOST_WAYS:
            raise _Without
    return found


def _way(k: Value, q: Value, result: Any, asked: list[tuple[Node, bool]]) -> Formula:
    sides = _Sides(k, q)
    conditions = [sides.condition(node) if answer else _not(sides.condition(node)) for node, answer in asked]
    if not isinstance(result, bool) and not (
        isinstance(result, Value) and kinds_of(topological((result,)))[-1] == "bool"
    ):
        raise _Without  # no bool: the call will say it
    conditions.append(sides.condition(as_value(result)))
    out = conditions[0]
    for condition in conditions[1:]:
        out = ("and", out, condition)
    return out


def _union(formulas: list[Formula]) -> Formula:
    out = formulas[0]
    for formula in formulas[1:]:
        out = ("or", out, formula)
    return out


def _not(formula: Formula) -> Formula:
    if formula[0] == "not":
        return formula[1]  # type: ignore[no-any-return]
    if formula[0] == "term":
        return term(formula[1], formula[2], BY_OUTCOMES[7 ^ formula[3].outcomes])
    return ("not", formula)


# --- From conditions to comparisons of a key with a query -------------------------------------------------------------


class _Sides:
    """Tells what depends on the key from what depends on the query."""

    def __init__(self, k: Value, q: Value) -> None:
        self._k, self._q = k, q

    def condition(self, node: Node) -> Formula:
        """Return the truth of a node as a formula."""
        op = node.attributes.get("op")
        if node.kind == "constant":
            return term(as_value(1), as_value(int(bool(node.attributes["value"]))), BY_OUTCOMES[EQUAL])
        if op in _OUTCOMES:
            return self._compared(node.inputs[0], node.inputs[1], _OUTCOMES[op])
        kinds = [kinds_of(topological((source,)))[-1] for source in node.inputs]
        if op == "not" or (op == "invert" and kinds == ["bool"]):
            return _not(self.condition(node.inputs[0]))
        if op == "truth":
            return self.condition(node.inputs[0])
        if op in ("and", "or") and kinds == ["bool", "bool"]:
            return (op, *(self.condition(source) for source in node.inputs))
        if op == "xor" and kinds == ["bool", "bool"]:
            a, b = (self.condition(source) for source in node.inputs)
            return ("or", ("and", a, _not(b)), ("and", _not(a), b))
        return self._compared(node, as_value(0), LESS | GREATER)

    def _of(self, node: Node) -> set[str]:
        """Return which of key and query a node depends on; both must be integers on the way."""
        order = topological((node,))
        if "float" in kinds_of(order):
            raise _Without
        return {"key" if part is self._k else "query" for part in order if part is self._k or part is self._q}

    def _compared(self, a: Node, b: Node, outcomes: int) -> Formula:
        on_a, on_b = self._of(a), self._of(b)
        if on_a <= {"key"} and on_b <= {"query"}:
            return term(a, b, BY_OUTCOMES[outcomes])
        if on_a <= {"query"} and on_b <= {"key"}:
            return term(b, a, BY_OUTCOMES[_turned(outcomes)])
        if len(on_a | on_b) == 1:  # a property of the key or of the query alone
            fact, one = _comparison(a, b, outcomes), as_value(1)
            key, query = (fact, one) if "key" in on_a | on_b else (one, fact)
            return term(key, query, BY_OUTCOMES[EQUAL])
        for inner, bound, way in ((a, b, outcomes), (b, a, _turned(outcomes))):
            if inner.attributes.get("op") == "abs" and len(self._of(inner)) == 2 and len(self._of(bound)) < 2:
                return self._within(inner.inputs[0], bound, way)
        return self._solved(a, b, outcomes)

    def _within(self, inner: Node, bound: Node, outcomes: int) -> Formula:
        """Compare the absolute value of `inner` with a bound."""
        if outcomes & GREATER:
            return _not(self._within(inner, bound, 7 ^ outcomes))
        minus = apply_symbolic("neg", bound)
        if outcomes == EQUAL:
            either = ("or", self._compared(inner, bound, EQUAL), self._compared(inner, minus, EQUAL))
            return ("and", either, self._compared(bound, as_value(0), EQUAL | GREATER))
        return ("and", self._compared(inner, bound, outcomes), self._compared(inner, minus, _turned(outcomes)))

    def _solved(self, a: Node, b: Node, outcomes: int) -> Formula:
        """Compare a - b with 0: a sum of maps of the key and of maps of the query."""
        left: Value | None = None
        right: Value | None = None
        for factor, part in [*self._summands(a, 1), *self._summands(b, -1)]:
            if "key" in self._of(part):
                left = _added(left, factor, part)
            else:
                right = _added(right, -factor, part)
        key, query = (as_value(0) if side is None else side for side in (left, right))
        return term(key, query, BY_OUTCOMES[outcomes])

    def _summands(self, node: Node, factor: int) -> list[tuple[int, Node]]:
        if len(self._of(node)) < 2:
            return [(factor, node)]
        op, inputs = node.attributes.get("op"), node.inputs
        if op in ("add", "sub"):
            return [*self._summands(inputs[0], factor), *self._summands(inputs[1], factor if op == "add" else -factor)]
        if op == "neg":
            return self._summands(inputs[0], -factor)
        if op == "mul":
            for inner, other in (inputs, inputs[::-1]):
                value = other.attributes.get("value")
                if other.kind == "constant" and isinstance(value, int):
                    return self._summands(inner, factor * value)
        raise _Without


def _turned(outcomes: int) -> int:
    """Return the outcomes of comparing the other way round."""
    return (outcomes & EQUAL) | sum(_TURNED[way] for way in (LESS, GREATER) if outcomes & way)


def _comparison(a: Node, b: Node, outcomes: int) -> Value:
    return apply_symbolic(next(op for op, way in _OUTCOMES.items() if way == outcomes), a, b)


def _added(total: Value | None, factor: int, part: Node) -> Value:
    scaled: Any = part if abs(factor) == 1 else apply_symbolic("mul", part, abs(factor))
    if total is None:
        return scaled if factor > 0 else apply_symbolic("neg", scaled)
    return apply_symbolic("add" if factor > 0 else "sub", total, scaled)
