"""Python functions as expressions: followed where that is certain, and else left to be called.

A function is run on symbols only if its byte code is straight-line arithmetic on its arguments and on numbers: no
branch, no call but of `abs`, no attribute, no identity test, no handler. Nothing else can tell a symbol from a number,
so what such a function builds is what it computes.
"""

from __future__ import annotations

import builtins
import contextlib
import contextvars
import dis
import types
from collections.abc import Callable, Iterator
from typing import Any

from legato.rasp.graph import Value, apply_symbolic
from legato.rasp.nodes import static_kind, topological
from legato.rasp.operations import SAME
from legato.rasp.predicates import EQUAL, GREATER, LESS, Predicate

__all__ = ["Written", "called", "followed", "is_arithmetic", "symbolic_form"]

_STRAIGHT = {
    "BINARY_OP", "CACHE", "CALL", "COMPARE_OP", "COPY_FREE_VARS", "EXTENDED_ARG", "LOAD_CONST", "LOAD_DEREF",
    "LOAD_FAST", "LOAD_FAST_BORROW", "LOAD_FAST_BORROW_LOAD_FAST_BORROW", "LOAD_FAST_CHECK", "LOAD_FAST_LOAD_FAST",
    "LOAD_GLOBAL", "LOAD_SMALL_INT", "NOP", "NOT_TAKEN", "POP_TOP", "PRECALL", "PUSH_NULL", "RESUME", "RETURN_CONST",
    "RETURN_VALUE", "STORE_FAST", "STORE_FAST_LOAD_FAST", "STORE_FAST_STORE_FAST", "UNARY_INVERT", "UNARY_NEGATIVE",
}  # fmt: skip
# Branches forward, which cannot make a loop; of `and`, `or`, conditional expressions and chains of comparisons.
_BRANCHES = {
    "COPY", "JUMP_FORWARD", "JUMP_IF_FALSE_OR_POP", "JUMP_IF_TRUE_OR_POP", "POP_JUMP_FORWARD_IF_FALSE",
    "POP_JUMP_FORWARD_IF_TRUE", "POP_JUMP_IF_FALSE", "POP_JUMP_IF_TRUE", "SWAP", "TO_BOOL", "UNARY_NOT",
}  # fmt: skip
_BY_OUTCOMES = {
    EQUAL: "eq",
    LESS | GREATER: "ne",
    LESS: "lt",
    LESS | EQUAL: "le",
    GREATER: "gt",
    GREATER | EQUAL: "ge",
}
_follows = contextvars.ContextVar("_follows", default=True)
_UNARY = {"neg", "abs", "truth", "integer", "not"}


@contextlib.contextmanager
def called() -> Iterator[None]:
    """Inside, no function is followed: every one is called."""
    token = _follows.set(False)
    try:
        yield
    finally:
        _follows.reset(token)


def _is_number(x: Any) -> bool:
    return type(x) in (bool, int, float)


def is_arithmetic(function: Any) -> bool:
    """Whether a function does nothing but arithmetic on its arguments and on numbers, and branch on that."""
    return _follows.get() and _is_straight(function, _STRAIGHT | _BRANCHES)


class Written:
    """How a function is written: equal for functions of one code over equal numbers, wherever those come from."""

    __slots__ = ("_key", "function")

    def __init__(self, function: types.FunctionType, numbers: list[str]) -> None:
        self.function = function
        self._key = (function.__code__, *numbers)

    @classmethod
    def of(cls, function: Any) -> Written | None:
        """Return how it is written, or None where it depends on more than numbers, so that it must be called."""
        if type(function) is not types.FunctionType or not _follows.get():
            return None
        names = function.__code__.co_names
        seen = [function.__globals__.get(name, getattr(builtins, name, None)) for name in names]
        seen += [*(function.__defaults__ or ()), *dict(sorted((function.__kwdefaults__ or {}).items())).values()]
        try:
            seen += [cell.cell_contents for cell in function.__closure__ or ()]
        except ValueError:  # an empty one
            return None
        if not all(_is_number(x) or x is abs for x in seen):
            return None
        return cls(function, [repr(x) for x in seen])

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Written) and self._key == other._key


def _is_straight(function: Any, allowed: set[str] = _STRAIGHT) -> bool:
    """Whether a function does nothing but arithmetic on its arguments and on numbers."""
    if type(function) is not types.FunctionType:
        return False
    code = function.__code__
    if getattr(code, "co_exceptiontable", b"") or code.co_flags & 0x0C:  # handlers; *args and **keywords
        return False
    given = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    if not all(_is_number(x) for x in given):
        return False
    free = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
    for step in dis.get_instructions(code):
        if step.opname not in allowed:
            return False
        if step.opname in ("LOAD_CONST", "RETURN_CONST") and not _is_number(step.argval):
            return False
        if step.opname == "LOAD_DEREF":
            try:
                if not _is_number(free[step.argval].cell_contents):
                    return False
            except (KeyError, ValueError):  # a cell of its own, or an empty one
                return False
        if step.opname == "LOAD_GLOBAL":
            found = function.__globals__.get(step.argval, getattr(builtins, step.argval, None))
            if not (_is_number(found) or found is abs):
                return False
    return True


def _operation(function: Any, operands: int) -> str | None:
    """Return the operation that a named function is."""
    if isinstance(function, Predicate):
        return _BY_OUTCOMES.get(function.outcomes) if operands == 2 else None
    try:
        op = SAME.get(function)
    except TypeError:  # no hash
        return None
    return op if op is not None and (op in _UNARY) == (operands == 1) else None


def followed(function: Callable[..., Any], values: tuple[Value, ...]) -> Value | int | float | None:
    """Return what the function computes, as an expression over `values` or a number, or None where it must be called.

    What the function computes on its way may leave 64 bits, as it does in Python; these nodes are marked `wide`.
    """
    if not _follows.get():
        return None
    op = _operation(function, len(values))
    if op is not None:
        return apply_symbolic(op, *values)
    if not _is_straight(function):
        return None
    try:
        result = function(*values)
    except Exception:  # a wrong number of arguments, a division of constants: the call will say it
        return None
    if _is_number(result):
        return result  # type: ignore[no-any-return]
    if not isinstance(result, Value):
        return None
    before = {id(node) for node in topological(values)}
    for node in topological((result,)):
        if node is not result and node.kind == "map" and id(node) not in before:
            node.attributes["wide"] = True
    return result


def symbolic_form(function: Callable[..., Any], values: tuple[Value, ...]) -> Value | None:
    """Return a map of the core, truncated toward zero, as an expression, or None where it must be called."""
    result = followed(function, values)
    if result is None:
        return None
    if not isinstance(result, Value):
        whole = result == result and abs(result) < 2**63
        return Value("constant", (), value=int(result)) if whole else None
    if static_kind(result) == "int":
        return result
    if not any(result is value for value in values) and result.kind == "map":
        result.attributes["wide"] = True
    return apply_symbolic("integer", result)
