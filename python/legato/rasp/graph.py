"""The symbols that programs are built of: values (sequences) and choices (selectors), combined by operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from legato.errors import ArgumentError
from legato.rasp.drawing import graph_svg, steps_of
from legato.rasp.evaluation import evaluate
from legato.rasp.nodes import Node, interned
from legato.rasp.pictures import Picture, Steps, heat_map

__all__ = ["Choice", "SOp", "Value", "apply_symbolic", "as_value"]


class Choice(Node):
    """A selector of a program: ``&``, ``|`` and ``~`` combine."""

    __slots__ = ()
    __hash__ = None

    def __call__(self, sequence: Any, *, causal: bool = False) -> list[list[bool]]:
        """Return the rows of the matrix on a Python sequence, bidirectional unless `causal` (see `sops`)."""
        return evaluate(self, sequence, causal=causal)

    def heat_map(self, sequence: Any, *, causal: bool = False) -> Picture:
        """Draw the matrix on a Python sequence, bidirectional unless `causal`."""
        items = list(sequence)
        return heat_map(evaluate(self, items, causal=causal), items, items, self.label or "")

    def _repr_svg_(self) -> str:
        return graph_svg(interned(self), self.name)

    def __and__(self, other: Choice) -> Choice:
        return Choice("and", (self, other))

    def __or__(self, other: Choice) -> Choice:
        return Choice("or", (self, other))

    def __invert__(self) -> Choice:
        return self.inputs[0] if self.kind == "not" else Choice("not", (self,))  # type: ignore[return-value]


def apply_symbolic(op: str | Callable[..., Any], *operands: Any) -> Value:
    """Record an elementwise operation; operands that are not nodes become constants."""
    make = SOp if any(isinstance(x, SOp) for x in operands) else Value
    return make("map", tuple(as_value(x) for x in operands), op=op)


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

    def __call__(self, sequence: Any, *, causal: bool = False) -> list[Any]:
        """Evaluate on a Python sequence, bidirectional unless `causal` (see `legato.rasp.sops`)."""
        return evaluate(self, sequence, causal=causal)

    def steps(self, sequence: Any, *, causal: bool = False) -> Steps:
        """Evaluate on a Python sequence and keep every step: text, or a table in notebooks."""
        return steps_of(interned(self), list(sequence), causal)

    def _repr_svg_(self) -> str:
        return graph_svg(interned(self), self.name)

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


class SOp(Value):
    """A sequence as the compiler community writes it: ``&``, ``|`` and ``~`` are Python's `and`, `or` and `not`."""

    __slots__ = ()
    __hash__ = None

    def __and__(self, other: Any) -> Value:
        return apply_symbolic("both", self, other)

    def __rand__(self, other: Any) -> Value:
        return apply_symbolic("both", other, self)

    def __or__(self, other: Any) -> Value:
        return apply_symbolic("either", self, other)

    def __ror__(self, other: Any) -> Value:
        return apply_symbolic("either", other, self)

    def __invert__(self) -> Value:
        return apply_symbolic("not", self)
