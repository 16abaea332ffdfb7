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

import enum
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from legato.errors import ArgumentError
from legato.rasp.evaluation import evaluate
from legato.rasp.graph import Choice, SOp, as_value
from legato.rasp.nodes import Node
from legato.rasp.predicates import Predicate, equals, false, geq, gt, leq, lt, neq, true

__all__ = [
    "Aggregate",
    "Comparison",
    "ConstantSOp",
    "ConstantSelector",
    "Encoding",
    "Full",
    "LinearSequenceMap",
    "Map",
    "NumericValue",
    "RASPExpr",
    "SOp",
    "Select",
    "Selector",
    "SelectorAnd",
    "SelectorNot",
    "SelectorOr",
    "SelectorValue",
    "SelectorWidth",
    "SequenceMap",
    "Sum",
    "Value",
    "annotate",
    "categorical",
    "evaluate",
    "get_encoding",
    "indices",
    "is_categorical",
    "is_numerical",
    "length",
    "numerical",
    "selector_and",
    "selector_not",
    "selector_or",
    "sop_not",
    "tokens",
]

RASPExpr, Selector = Node, Choice  #: the names that annotations of programs use
Value = int | float | str | bool | None  #: an element
NumericValue = int | float
SelectorValue = list[list[bool]]

tokens = SOp("tokens").named("tokens")  #: the input
indices = SOp("indices").named("indices")  #: positions 0 .. n-1
length = SOp("length").named("length")  #: n at every position


class Comparison:
    """The named comparisons of a key with a query."""

    EQ, NEQ, LT, LEQ, GT, GEQ, TRUE, FALSE = equals, neq, lt, leq, gt, geq, true, false


def Select(keys: Any, queries: Any, predicate: Predicate | Callable[[Any, Any], Any]) -> Choice:  # noqa: N802
    """Return the selector with row i, column j = predicate(keys[j], queries[i]), by its truth value."""
    if not callable(predicate):
        raise ArgumentError(f"Select: predicate: expected a function (key, query), got {type(predicate).__name__}")
    return Choice("select", (as_value(keys), as_value(queries)), predicate=predicate, causal=None)


def Aggregate(selector: Choice, sop: Any, default: Any = None) -> SOp:  # noqa: N802
    """Return the mean of the selected values, or the value itself where one is selected."""
    _check_selector("Aggregate: selector", selector)
    return SOp("aggregate", (selector, as_value(sop)), default=default, reduction="mean", rounding="value")


def Sum(selector: Choice, sop: Any, default: Any = 0) -> SOp:  # noqa: N802
    """Return the sum of the selected values, or `default` where none is selected; ours, tracr has none.

    Examples
    --------
    >>> from legato.rasp.sops import Comparison, Select, Sum, tokens
    >>> Sum(Select(tokens, tokens, Comparison.LEQ), tokens)([2, 1, 3])
    [3, 1, 6]
    """
    _check_selector("Sum: selector", selector)
    return SOp("aggregate", (selector, as_value(sop)), default=default, reduction="sum", rounding="value")


def SelectorWidth(selector: Choice) -> SOp:  # noqa: N802
    """Return the number of keys that each query selects."""
    _check_selector("SelectorWidth: selector", selector)
    return SOp("width", (selector,))


def _check_selector(name: str, selector: object) -> None:
    if not isinstance(selector, Choice):
        raise ArgumentError(f"{name}: expected a selector, got {type(selector).__name__}")


def Map(f: Callable[[Any], Any], inner: Any, simplify: bool = True) -> SOp:  # noqa: N802
    """Apply `f` to every element; `simplify` is taken for the sake of programs that give it and changes nothing."""
    del simplify
    return _mapped("Map", f, inner)


def SequenceMap(  # noqa: N802
    f: Callable[..., Any], *sops: Any, fst: Any = None, snd: Any = None
) -> SOp:
    """Apply `f` to the elements of two or more sequences at each position; two may be given as `fst` and `snd`."""
    return _mapped("SequenceMap", f, *sops, *(x for x in (fst, snd) if x is not None))


def _mapped(name: str, f: Callable[..., Any], *sops: Any) -> SOp:
    if not callable(f) or isinstance(f, Node):
        raise ArgumentError(f"{name}: f: expected a function, got {type(f).__name__}")
    if not sops:
        raise ArgumentError(f"{name}: expected at least one sequence")
    return SOp("map", tuple(as_value(x) for x in sops), op=f)


def LinearSequenceMap(fst: Any, snd: Any, fst_fac: float, snd_fac: float) -> SOp:  # noqa: N802
    """Return ``fst_fac * fst + snd_fac * snd``."""
    parts = (SOp("map", (as_value(x), as_value(factor)), op="mul") for x, factor in ((fst, fst_fac), (snd, snd_fac)))
    return SOp("map", tuple(parts), op="add")


def Full(fill: Any) -> SOp:  # noqa: N802
    """Return the same value at every position."""
    return SOp("constant", (), value=fill)


def ConstantSOp(value: Sequence[Any], check_length: bool = True) -> SOp:  # noqa: N802
    """Return these elements, whatever the input; of another length they are an error when `check_length`."""
    return SOp("sequence", (), value=tuple(value), checked=bool(check_length))


def ConstantSelector(value: Sequence[Sequence[Any]], check_length: bool = True) -> Choice:  # noqa: N802
    """Return the selector of these rows, whatever the input."""
    rows = tuple(tuple(bool(x) for x in row) for row in value)
    return Choice("matrix", (), value=rows, checked=bool(check_length))


def sop_not(sop: Any) -> SOp:
    """Return Python's `not` of every element."""
    return SOp("map", (as_value(sop),), op="not")


def SelectorAnd(fst: Choice, snd: Choice) -> Choice:  # noqa: N802
    """Return the keys that both select."""
    return fst & snd


def SelectorOr(fst: Choice, snd: Choice) -> Choice:  # noqa: N802
    """Return the keys that one of the two selects."""
    return fst | snd


def SelectorNot(inner: Choice) -> Choice:  # noqa: N802
    """Return the keys that are not selected."""
    return ~inner


def selector_and(fst: Choice, snd: Choice, simplify: bool = True) -> Choice:
    """`SelectorAnd`; `simplify` changes nothing."""
    del simplify
    return fst & snd


def selector_or(fst: Choice, snd: Choice, simplify: bool = True) -> Choice:
    """`SelectorOr`; `simplify` changes nothing."""
    del simplify
    return fst | snd


def selector_not(inner: Choice, simplify: bool = True) -> Choice:
    """`SelectorNot`; `simplify` changes nothing."""
    del simplify
    return ~inner


class Encoding(enum.Enum):
    """How a compiler is asked to lay a sequence out. Ours takes one-hot for all, so the mark has no effect."""

    CATEGORICAL = "categorical"
    NUMERICAL = "numerical"


Marked = TypeVar("Marked", bound=Node)


def annotate(expr: Marked, **annotations: Any) -> Marked:
    """Add marks to an expression; `name` is its name. Returns the expression."""
    expr.annotated(**annotations)
    return expr


def numerical(sop: Marked) -> Marked:
    """Mark a sequence as numbers."""
    return annotate(sop, encoding=Encoding.NUMERICAL)


def categorical(sop: Marked) -> Marked:
    """Mark a sequence as categories, which is what all are without a mark."""
    return annotate(sop, encoding=Encoding.CATEGORICAL)


def get_encoding(sop: SOp) -> Encoding:
    """Return the mark of a sequence."""
    found: Encoding = sop.annotations.get("encoding", Encoding.CATEGORICAL)
    return found


def is_numerical(sop: SOp) -> bool:
    """Whether the sequence is marked as numbers."""
    return get_encoding(sop) is Encoding.NUMERICAL


def is_categorical(sop: SOp) -> bool:
    """Whether the sequence is marked as categories, or not marked."""
    return get_encoding(sop) is Encoding.CATEGORICAL
