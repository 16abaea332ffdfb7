"""The elementwise operations that a program knows by name."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["BOOLEAN", "OPERATIONS", "SAME", "Operation"]


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
    # Python's own, which the operators of `sops` mean: they return an operand
    "not": Operation(operator.not_, "(not {})"),
    "both": Operation(lambda a, b: a and b, "({} and {})"),
    "either": Operation(lambda a, b: a or b, "({} or {})"),
}
BOOLEAN = {"eq", "ne", "lt", "le", "gt", "ge", "truth", "not"}  #: operations whose result is a bool

#: Functions of Python that are one of the operations; `operator`'s, and what `abs` and `bool` are.
SAME: dict[Callable[..., Any], str] = {
    operator.add: "add",
    operator.sub: "sub",
    operator.mul: "mul",
    operator.floordiv: "floordiv",
    operator.truediv: "truediv",
    operator.mod: "mod",
    operator.pow: "pow",
    operator.eq: "eq",
    operator.ne: "ne",
    operator.lt: "lt",
    operator.le: "le",
    operator.gt: "gt",
    operator.ge: "ge",
    operator.and_: "and",
    operator.or_: "or",
    operator.xor: "xor",
    operator.neg: "neg",
    operator.abs: "abs",
    abs: "abs",
    bool: "truth",
    int: "integer",
    operator.not_: "not",
    operator.truth: "truth",
}
