"""Expressions of the RASP language: what each form of the grammar means."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from legato.errors import ArgumentError, LegatoError
from legato.rasp.evaluation import REFUSALS, reason, steps
from legato.rasp.graph import Choice, Value, apply_symbolic, as_value
from legato.rasp.nodes import Node, interned
from legato.rasp.operations import OPERATIONS
from legato.rasp.predicates import equals, geq, gt, leq, lt, neq
from legato.rasp.syntax import LanguageError, Statement, rule

__all__ = ["RESERVED", "Applied", "Environment", "Expressions", "Function", "Returned", "evaluated"]

_SELECT = {"==": equals, "!=": neq, "<": lt, "<=": leq, ">": gt, ">=": geq}
_NAMED = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge",
          "+": "add", "-": "sub", "*": "mul", "/": "truediv", "%": "mod", "^": "pow"}  # fmt: skip
_DEPTH = 100

#: Names that no program may give, besides those of the library.
RESERVED = {
    "True", "False", "and", "def", "else", "for", "get", "if", "in", "indices", "len", "not", "or", "out", "range",
    "return", "tokens_asis", "tokens_bool", "tokens_float", "tokens_int", "tokens_str", "zip",
    "aggregate", "draw", "indicator", "round", "select",
}  # fmt: skip


class Returned(Exception):  # noqa: N818  # control flow, caught by the call
    """A function returns."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Environment:
    """Names and what they stand for; what is not found here is looked for in the one around it."""

    def __init__(self, name: str, parent: Environment | None = None, gives: Environment | None = None) -> None:
        self.name = name
        self.parent = parent
        self.gives = gives  # receives what is set here, but for private names: a file that is loaded
        self.names: dict[str, Any] = {}

    def find(self, name: str) -> Any:
        """Return what a name stands for; KeyError where it stands for nothing."""
        at: Environment | None = self
        while at is not None:
            if name in at.names:
                return at.names[name]
            at = at.parent
        raise KeyError(name)

    def set(self, name: str, value: Any) -> None:
        """Let a name stand for a value."""
        self.names[name] = value
        if self.gives is not None and not name.startswith("_"):
            self.gives.set(name, value)


@dataclass
class Function:
    """A function of a program; it sees the names that were around its definition."""

    name: str
    parameters: list[tuple[str, Any]]  # with the tree of the default, or None
    body: list[Any]
    source: Statement
    around: Environment

    def __str__(self) -> str:
        return f"{self.around.name} function: {self.name}({', '.join(name for name, _ in self.parameters)})"


def evaluated(value: Value | Choice, tokens: list[Any]) -> list[Any]:
    """Evaluate on an input, as the language does: each sequence is of strings, or of numbers and booleans.

    Raises
    ------
    ArgumentError
        The input is empty, or a sequence is of different types.
    """
    if not tokens:
        raise ArgumentError("expected an input of at least one token")
    order = interned(value)
    found: list[Any] = []
    for node, found in steps(order, tokens):  # the last one is the answer
        if isinstance(node, Choice) or (node.kind == "tokens" and node is not order[-1]):
            continue
        strings = sum(isinstance(x, str) for x in found)
        if strings not in (0, len(found)):
            raise ArgumentError(f"{node.name}: a sequence of different types: {', '.join(map(repr, found[:12]))}")
        if strings == 0 and not all(isinstance(x, bool | int | float) for x in found):
            raise ArgumentError(f"{node.name}: expected strings, numbers or booleans, got {found[0]!r}")
    return found


class Expressions:
    """Evaluates trees of expressions; `Interpreter` adds statements."""

    def __init__(self) -> None:
        self.scope = Environment("console")
        self._statement = Statement("")
        self._depth = 0
        text = Value("tokens")
        self.builtin: dict[str, Any] = {
            "tokens": apply_symbolic(str, text).named("tokens"),
            "tokens_str": apply_symbolic(str, text).named("tokens_str"),
            "tokens_asis": text.named("tokens_asis"),
            "tokens_int": apply_symbolic(int, text).named("tokens_int"),
            "tokens_float": apply_symbolic(float, text).named("tokens_float"),
            "tokens_bool": apply_symbolic(bool, text).named("tokens_bool"),
            "indices": Value("indices").named("indices"),
            "True": True,
            "False": False,
            "aggregate": _aggregate,
            "indicator": lambda x: _applied(_indicator, x),
            "round": lambda x: _applied(round, x),
            "len": _length,
            "range": lambda *x: list(range(*x)),
            "zip": lambda *x: [list(row) for row in zip(*x, strict=True)],
        }

    def error(self, message: str, tree: Any) -> LanguageError:
        """Return an error at the place of a tree."""
        meta = getattr(tree, "meta", tree)
        return self._statement.error(message, getattr(meta, "line", 0), getattr(meta, "column", 0))

    def execute(self, tree: Any) -> Any:
        """Run a statement of a function's body."""
        raise NotImplementedError

    # --- forms ---

    def several(self, tree: Any) -> Any:
        """Return the values of a list of expressions, or of its only one."""
        values = [self.evaluate_tree(part) for part in tree.children]
        return values[0] if len(values) == 1 else values

    def evaluate_tree(self, tree: Any) -> Any:
        """Return the value of an expression."""
        try:
            method: Callable[[Any], Any] = getattr(self, f"_eval_{rule(tree)}")
            return method(tree)
        except (LanguageError, Returned):
            raise
        except (LegatoError, *REFUSALS) as error:
            raise self.error(reason(error), tree) from None

    def _eval_name(self, tree: Any) -> Any:
        name = str(tree.children[0])
        try:
            return self.scope.find(name)
        except KeyError:
            pass
        if name in self.builtin:
            return self.builtin[name]
        raise self.error(f"unknown name {name}", tree)

    def _eval_integer(self, tree: Any) -> Any:
        return int(tree.children[0])

    def _eval_real(self, tree: Any) -> Any:
        return float(tree.children[0])

    def _eval_string(self, tree: Any) -> Any:
        return str(tree.children[0])[1:-1]

    def _eval_list(self, tree: Any) -> Any:
        return [self.evaluate_tree(part) for part in tree.children]

    def _eval_dict(self, tree: Any) -> Any:
        return {self._key(pair.children[0]): self.evaluate_tree(pair.children[1]) for pair in tree.children}

    def _key(self, tree: Any) -> Any:
        key = self.evaluate_tree(tree)
        if not isinstance(key, str | bool | int | float):
            raise self.error(f"expected a string, a number or a boolean as key, got {type(key).__name__}", tree)
        return key

    def _eval_list_of(self, tree: Any) -> Any:
        return self._comprehended(tree, lambda: self.evaluate_tree(tree.children[0]))

    def _eval_dict_of(self, tree: Any) -> Any:
        key, value = tree.children[0].children
        return dict(self._comprehended(tree, lambda: (self._key(key), self.evaluate_tree(value))))

    def _comprehended(self, tree: Any, make: Callable[[], Any]) -> list[Any]:
        names = [str(name) for name in tree.children[1].children]
        made = []
        for item in self.iterated(tree.children[2]):
            with self.inside(Environment(self.scope.name, self.scope)):
                self.bind(names, item, tree)
                made.append(make())
        return made

    @contextmanager
    def inside(self, scope: Environment) -> Iterator[None]:
        """Look names up from this environment, for a while."""
        outer, self.scope = self.scope, scope
        try:
            yield
        finally:
            self.scope = outer

    def iterated(self, tree: Any) -> list[Any]:
        """Return what a loop goes through."""
        value = self.evaluate_tree(tree)
        if not isinstance(value, list | str | dict):
            raise self.error("expected a list, a string or a dict to go through", tree)
        return list(value)

    def bind(self, names: list[str], value: Any, tree: Any) -> None:
        """Let names stand for a value, or for its parts."""
        if len(names) == 1:
            values = [value]
        elif isinstance(value, list | tuple | str) and len(value) == len(names):
            values = list(value)
        else:
            raise self.error(f"expected {len(names)} values", tree)
        for name in names:
            self.check_name(name, tree)
        for name, item in zip(names, values, strict=True):
            self.scope.set(name, item)

    def check_name(self, name: str, tree: Any) -> None:
        """Refuse names that are reserved."""
        if name in RESERVED:
            raise self.error(f"the name {name} is reserved", tree)

    def _eval_choose(self, tree: Any) -> Any:
        then, condition, otherwise = tree.children
        asked = self.evaluate_tree(condition)
        if not isinstance(asked, Node):
            return self.evaluate_tree(then if asked else otherwise)
        if isinstance(asked, Choice):
            raise self.error("expected a sequence as condition, got a selector", condition)
        return apply_symbolic("where", asked, self.evaluate_tree(then), self.evaluate_tree(otherwise))

    def _eval_binary(self, tree: Any) -> Any:
        """Go down the left side without recursion: sums may be long."""
        chain = [tree]
        while rule(chain[-1].children[0]) == "binary":
            chain.append(chain[-1].children[0])
        value = self.evaluate_tree(chain[-1].children[0])
        for part in reversed(chain):
            _, op, right = part.children
            other = self.evaluate_tree(right)
            try:
                value = _combined(str(op), value, other)
            except (LegatoError, *REFUSALS) as error:
                raise self.error(reason(error), part) from None
        return value

    def _eval_not_(self, tree: Any) -> Any:
        value = self.evaluate_tree(tree.children[0])
        return ~value if isinstance(value, Choice) else _applied(operator.not_, value)

    def _eval_signed(self, tree: Any) -> Any:
        sign, operand = tree.children
        value = self.evaluate_tree(operand)
        if isinstance(value, Choice | str | list | dict | Function):
            raise TypeError(f"{sign}: expected a number or a sequence")
        return _named("neg", value) if str(sign) == "-" else value

    def _eval_contains(self, tree: Any) -> Any:
        item, group = (self.evaluate_tree(part) for part in tree.children)
        if isinstance(item, Choice | Function) or isinstance(group, Choice):
            raise self.error("in: expected an s-op or a plain value on the left, and a list or an s-op", tree)
        if isinstance(group, Value):  # whether any position holds the value
            if isinstance(item, Node):
                raise self.error("in: expected a plain list on the right of an s-op", tree)
            seen = apply_symbolic(_indicator, apply_symbolic("eq", group, item))
            return _named("gt", _aggregate(_everywhere(), seen), 0)
        if not isinstance(group, list | str | dict) or any(isinstance(x, Node) for x in group):
            raise self.error("in: expected a plain list on the right", tree)
        return _applied(functools.partial(_member, tuple(group)), item)

    def _eval_lacks(self, tree: Any) -> Any:
        return _applied(operator.not_, self._eval_contains(tree))

    def _eval_item(self, tree: Any) -> Any:
        group, index = (self.evaluate_tree(part) for part in tree.children)
        if isinstance(group, Value):
            return self._at(group, index, tree)
        if not isinstance(group, list | str | dict):
            raise self.error("expected an s-op, a list, a string or a dict before [", tree)
        if isinstance(index, Value):
            return apply_symbolic(functools.partial(operator.getitem, group), index)
        return group[index]

    def _at(self, sequence: Value, index: Any, tree: Any) -> Value:
        """Return the element at a position, everywhere; from the end where the position is negative."""
        if not isinstance(index, int):
            raise self.error("expected an integer as position of an s-op", tree)
        place = as_value(index) if index >= 0 else apply_symbolic("add", self.length(), index)
        choice = Choice("select", (Value("indices"), as_value(place)), predicate=equals, causal=None)
        return _aggregate(choice, sequence)

    def length(self) -> Value:
        """Return the length of the input."""
        return Value("length")

    def _eval_select(self, tree: Any) -> Any:
        keys, queries, op = tree.children
        operands = [self.evaluate_tree(keys), self.evaluate_tree(queries)]
        if any(isinstance(x, Choice | list | dict | Function) for x in operands):
            raise self.error("select: expected two sequences", tree)
        k, q = (as_value(x) for x in operands)
        return Choice("select", (k, q), predicate=_SELECT[str(op)], causal=None)

    def _eval_call(self, tree: Any) -> Any:
        function = self.evaluate_tree(tree.children[0])
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for argument in tree.children[1].children if len(tree.children) > 1 else ():
            if rule(argument) == "named":
                named[str(argument.children[0])] = self.evaluate_tree(argument.children[1])
            else:
                positional.append(self.evaluate_tree(argument))
        if isinstance(function, Function):
            return self._called(function, positional, named, tree)
        if isinstance(function, Value | Choice):
            if len(positional) != 1 or named or not isinstance(positional[0], str | list | dict):
                raise self.error("expected one input, a string or a list", tree)
            return Applied(evaluated(function, list(positional[0])), list(positional[0]), isinstance(function, Choice))
        if not callable(function):
            raise self.error(f"cannot be called: {function!r}", tree)
        return function(*positional, **named)

    def _called(self, function: Function, positional: list[Any], named: dict[str, Any], tree: Any) -> Any:
        names = [name for name, _ in function.parameters]
        if len(positional) > len(names):
            raise self.error(f"{function.name}: expected at most {len(names)} arguments, got {len(positional)}", tree)
        bound = dict(zip(names, positional, strict=False))
        for name, value in named.items():
            if name not in names or name in bound:
                raise self.error(f"{function.name}: unexpected argument {name}", tree)
            bound[name] = value
        if self._depth > _DEPTH:
            raise self.error(f"{function.name}: the program recurses without end", tree)
        scope = Environment(function.around.name, function.around)
        for name, default in function.parameters:
            if name not in bound and default is None:
                raise self.error(f"{function.name}: the argument {name} is missing", tree)
        outer, self._statement = self._statement, function.source
        self._depth += 1
        try:
            with self.inside(scope):
                for name, default in function.parameters:
                    scope.set(name, bound[name] if name in bound else self.evaluate_tree(default))
                for statement in function.body:
                    self.execute(statement)
        except Returned as done:
            return done.value
        finally:
            self._depth -= 1
            self._statement = outer
        return None


class Applied(list):  # type: ignore[type-arg]
    """What an s-op or a selector gives on an input: a list that knows the input."""

    def __init__(self, values: list[Any], tokens: list[Any], matrix: bool) -> None:
        super().__init__(values)
        self.tokens, self.matrix = tokens, matrix


def _combined(op: str, left: Any, right: Any) -> Any:
    if op not in ("and", "or"):
        return _named(_NAMED[op], left, right)
    if isinstance(left, Choice) or isinstance(right, Choice):
        if not (isinstance(left, Choice) and isinstance(right, Choice)):
            raise TypeError(f"{op}: expected two selectors or two sequences")
        return left & right if op == "and" else left | right
    if isinstance(left, Value) or isinstance(right, Value):
        return apply_symbolic(_and if op == "and" else _or, left, right)
    return (left and right) if op == "and" else (left or right)


def _named(op: str, *values: Any) -> Any:
    if any(isinstance(x, Choice) for x in values):
        raise TypeError(f"{op}: expected sequences, got a selector")
    if any(isinstance(x, Value) for x in values):
        if any(isinstance(x, list | dict | Function) for x in values):
            raise TypeError(f"{op}: expected sequences, numbers or strings")
        return apply_symbolic(op, *values)
    return OPERATIONS[op].scalar(*values)


def _applied(function: Callable[..., Any], *values: Any) -> Any:
    if any(isinstance(x, Choice | list | dict | Function) for x in values):
        raise TypeError(f"{getattr(function, '__name__', 'in').strip('_')}: expected sequences or plain values")
    return apply_symbolic(function, *values) if any(isinstance(x, Value) for x in values) else function(*values)


def _everywhere() -> Choice:
    return Choice("select", (as_value(1), as_value(1)), predicate=equals, causal=None)


def _aggregate(sel: Any, seq: Any, default: Any = 0) -> Value:
    if not isinstance(sel, Choice):
        raise TypeError(f"aggregate: expected a selector first, got {type(sel).__name__}")
    if isinstance(seq, Choice | list | dict | Function):
        raise TypeError("aggregate: expected a sequence or a plain value")
    if not isinstance(default, str | bool | int | float):
        raise TypeError("aggregate: default: expected a string, a number or a boolean, got a sequence")
    return Value("aggregate", (sel, as_value(seq)), default=default, reduction="mean", rounding="value")


def _length(x: Any) -> int:
    if not isinstance(x, list | str | dict):
        raise TypeError("len: expected a list")
    return len(x)


def _indicator(x: Any) -> int:
    return 1 if x else 0


def _and(a: Any, b: Any) -> bool:
    return bool(a and b)


def _or(a: Any, b: Any) -> bool:
    return bool(a or b)


def _member(members: tuple[Any, ...], x: Any) -> bool:
    return x in members
