"""What a program means: functions that stay themselves, maps as Python computes them, one answer on every route."""

from __future__ import annotations

import functools
import operator
import random
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from legato import rasp
from legato.errors import ArgumentError, NumericalError
from legato.rasp import sops
from legato.rasp.nodes import interned

Program = rasp.Program


def whole(function: Callable[[Any], Any], tokens: list[int]) -> list[Any]:
    """Evaluate whole, in a batch and token by token; the answers are one."""
    program = Program(function)
    found = program(tokens).tolist()
    assert program.batch(np.array([tokens, tokens], dtype=np.int64).reshape(2, -1)).tolist() == [found, found]
    program.reset()
    assert [program.step(token) for token in tokens] == found
    return found


# --- which functions are one ------------------------------------------------------------------------------------------


class Table:
    def __init__(self, table: Any) -> None:
        self.table = table

    def __repr__(self) -> str:
        return "Table"

    def look(self, at: int) -> int:
        return self.table[at]

    def holds(self, key: int, _query: int) -> bool:
        return key in self.table


A, B = Table([1, 2, 3]), Table([10, 20, 30])


def with_keyword(factor: int) -> Callable[[int], int]:
    return lambda a, *, k=factor: [k, 2 * k, 3 * k][a]


def with_default(factor: Any) -> Callable[[int], int]:
    return lambda a, k=factor: [k, 2 * k, 3 * k][a]


def over_object(box: Table) -> Callable[[int], int]:
    return lambda a: [box.table][a * 0]


def test_different_functions_stay_apart() -> None:
    assert whole(lambda x: rasp.tok_map(x, B.look) - rasp.tok_map(x, A.look), [0, 1, 2]) == [9, 18, 27]
    assert whole(lambda x: rasp.tok_map(x, with_keyword(10)) - rasp.tok_map(x, with_keyword(1)), [0, 1]) == [9, 18]
    assert whole(lambda x: rasp.tok_map(x, with_default(10)) - rasp.tok_map(x, with_default(1)), [0, 1]) == [9, 18]
    boxes = [over_object(Table(value)) for value in (1, 2)]
    assert whole(lambda x: rasp.tok_map(x, boxes[0]) * 10 + rasp.tok_map(x, boxes[1]), [0, 1]) == [12, 12]
    parts = [functools.partial(operator.getitem, table) for table in ([1, 2], [3, 4])]
    assert whole(lambda x: rasp.tok_map(x, parts[0]) * 10 + rasp.tok_map(x, parts[1]), [0, 1]) == [13, 24]
    one, two = Table({1}), Table({2, 3})
    assert whole(
        lambda x: rasp.sel_width(rasp.select(x, x, one.holds)) * 10 + rasp.sel_width(rasp.select(x, x, two.holds)),
        [1, 2, 3],
    ) == [10, 11, 12]
    pairs = sops.SequenceMap(lambda a, b: (a, b), sops.Map(A.look, sops.tokens), sops.Map(B.look, sops.tokens))
    assert pairs([0, 1, 2]) == [(1, 10), (2, 20), (3, 30)]
    full = sops.SequenceMap(lambda a, b: (a.table, b.table), sops.Full(A), sops.Full(B))
    assert full([0]) == [([1, 2, 3], [10, 20, 30])]
    mine = rasp.Predicate("equals", 1, lambda k, q: k < q)  # another predicate by a known name
    assert whole(
        lambda x: rasp.sel_width(rasp.select(x, 2, mine)) * 10 + rasp.sel_width(rasp.select(x, 2, rasp.equals)), [1, 2]
    ) == [10, 11]


def test_functions_that_are_proved_equal_are_one_node() -> None:
    def scaled(factor: float) -> Callable[[int], int]:
        return lambda a: int(a * factor) if a else 0

    def count(f: Any, g: Any) -> int:
        return len([n for n in interned(sops.Map(f, sops.tokens) + sops.Map(g, sops.tokens)) if n.kind == "map"])

    assert count(scaled(2), scaled(2)) == 2
    assert count(scaled(2), scaled(2.0)) == 3  # 2 and 2.0 are not one
    assert count(scaled(True), scaled(1)) == 3
    assert count(A.look, A.look) == 2
    assert count(A.look, B.look) == 3


def test_verify_runs_what_the_user_wrote() -> None:
    program = Program(lambda x: rasp.tok_map(x, B.look) - rasp.tok_map(x, A.look))
    assert rasp.compile(program, vocab=[0, 1, 2], max_len=3).forward([0, 1, 2]) == [9, 18, 27]
    halves = Program(lambda x: rasp.tok_map(x, lambda a: a / 2 if a > 0 else a / 4))  # maps of the core are truncated
    assert halves([3, -5, 0]).tolist() == [1, -1, 0]
    assert rasp.compile(halves, vocab=[3, -5, 0], max_len=3).forward([3, -5, 0]) == [1, -1, 0]
    followed = Program(lambda x: rasp.tok_map(x, lambda a: a // 2 + 1))
    weights = rasp.compile(followed, vocab=[0, 1, 2], max_len=3)
    for node in followed.nodes:  # damage what was followed: the eager run sees it
        if node.attributes.get("op") == "floordiv":
            node.attributes["op"] = "mul"
    assert weights.verify().ok
    with pytest.raises(rasp.CompileError, match="disagree"):
        rasp.compile(followed, vocab=[0, 1, 2], max_len=3)


# --- functions that are followed --------------------------------------------------------------------------------------


def catching(a: int) -> int:
    try:
        return {50: 1, 51: 2}[a]
    except Exception:
        return 0


def catching_all(a: int) -> int:
    try:
        return a + 1 if a > 3 else a
    except:  # noqa: E722
        return 77


def by_type(a: int) -> int:
    return 1 if isinstance(a, int) and a == 50 else a


def by_identity(a: int) -> int:
    return (a is not None) + (type(a) is int) * 2 + (hash(a) == a) * 4


def by_name(a: int) -> int:
    return len(str(a)) + len(repr(a))


class Odd:
    def __radd__(self, other: Any) -> Any:
        return other if isinstance(other, int) else other * 100


ODD = Odd()
FUNCTIONS: list[Callable[[int], Any]] = [
    catching,
    catching_all,
    by_type,
    by_identity,
    by_name,
    lambda a: a + ODD,
    lambda a: a + 1,
    lambda a: (a * 6364136223846793005 + 1) % 97,
    lambda a: a * 2**40 > 5,
    lambda a: (a + 2**62) - 2**62,
    lambda a: (a * a * a * a) // 10**60,
    lambda a: a / 7,
    lambda a: a**2 % 1009,
    lambda a: abs(a - 3),
    lambda a: -a if a > 2 else a,
    lambda a: a & 3,
    lambda a: ~a,
    lambda a: 5,  # noqa: ARG005
    abs,
    bool,
    operator.neg,
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=range(len(FUNCTIONS)))
def test_traced_is_eager(function: Callable[[int], Any]) -> None:
    tokens = [50, 51, 1, 0, -3, 5, 2**40, 2**53 + 1, -(2**61) - 1]
    wanted = [int(function(token)) for token in tokens]
    assert whole(lambda x: rasp.tok_map(x, function), tokens) == wanted
    assert rasp.tok_map(tokens, function).tolist() == wanted


def test_what_is_followed_and_what_is_called() -> None:
    def kinds(function: Any) -> list[Any]:
        return [n.attributes["op"] for n in Program(lambda x: rasp.tok_map(x, function)).nodes if n.kind == "map"]

    offset = 3
    assert kinds(lambda a: (a + offset) % 10) == ["add", "mod"]
    assert kinds(lambda a: abs(a) == 2) == ["abs", "eq", "integer"]
    assert callable(kinds(catching)[0])
    assert callable(kinds(lambda a: a + ODD)[0])
    two = Program(lambda x: rasp.seq_map(x, rasp.indices(x), rasp.equals)).nodes
    assert [n.attributes["op"] for n in two if n.kind == "map"] == ["eq", "integer"]
    assert Program(lambda x: rasp.seq_map(x, x + 1, operator.mul))([2, 3]).tolist() == [6, 12]


# --- one answer on every route ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "tokens", "wanted"),
    [
        (lambda x: ~rasp.where(x > 1, x, x == 0), [0, 1, 2], [-2, -1, -3]),
        (lambda x: x**-1, [1, 2], [1.0, 0.5]),
        (lambda x: x**2, [3, 2**31], [9, 2**62]),
        (lambda x: x / 3, [2**53 + 1, -(2**60) - 1], [(2**53 + 1) / 3, (-(2**60) - 1) / 3]),
        (lambda x: x / 3 * 1e30, [1], [1 / 3 * 1e30]),
        (lambda x: (x < 9007199254740992.0) * 1, [2**53 - 1, 2**53, 2**53 + 1], [1, 0, 0]),
        (lambda x: (x == 9007199254740992.0) * 1, [2**53, 2**53 + 1], [1, 0]),
        (lambda x: rasp.full(x, 7) // 2 + x, [1, 2], [4, 5]),
        (lambda x: x % 0, [], []),
        (lambda x: rasp.full(x, 1) // 0, [], []),
        (
            lambda x: rasp.kqv(x, rasp.indices(x), x, rasp.lt, rounding="float"),
            [-1, 9007199254740994, 9007199254740995, -1, -9007199254740995],
            [-1.0, -1.0, -1.0, -1.0, -9007199254740997 / 3],
        ),
    ],
)
def test_whole_is_streamed(function: Callable[[Any], Any], tokens: list[int], wanted: list[Any]) -> None:
    assert whole(function, tokens) == wanted


@pytest.mark.parametrize(
    ("function", "tokens", "message"),
    [
        (lambda x: rasp.full(x, 2**63 - 1) + 1, [0], "add: the result at position 0 does not fit 64 bits"),
        (lambda x: rasp.full(x, 1) // 0, [1], "floordiv: division by zero at position 0"),
        (lambda x: x % (x - 1), [2, 1], "mod: division by zero at position 1"),
        (lambda x: rasp.tok_map(x, lambda a: 1 // a if a else 1 // 0), [1, 0], "division by zero at position 1"),
        (lambda x: (x - 1) ** -1, [2, 1], "pow: division by zero at position 1"),
        (lambda x: x // -1, [1, -(2**63)], "floordiv: the result at position 1 does not fit 64 bits"),
        (lambda x: abs(x), [1, -(2**63)], "abs: the result at position 1 does not fit 64 bits"),
        (lambda x: x**0.5, [4, -4], "pow: the result at position 1 is no real number"),
        (lambda x: (x * 1.0) ** 400, [1, 10], "pow: the result at position 1 is no finite number"),
    ],
)
def test_errors_are_one(function: Callable[[Any], Any], tokens: list[int], message: str) -> None:
    program = Program(function)
    with pytest.raises(NumericalError, match=message):
        program(tokens)
    for token in tokens[:-1]:
        program.step(token)
    with pytest.raises(NumericalError, match=message):
        program.step(tokens[-1])


@pytest.mark.parametrize("backend", ["native", "numpy"])
@pytest.mark.parametrize("kind", ["one", "several", "table", "formula"])
def test_float_means_are_the_exact_quotient(kind: str, backend: Any) -> None:
    draw = random.Random(5)
    n = 90
    v = [draw.randrange(-(2**62), 2**62) for _ in range(2 * n)]
    k = [draw.randrange(4) for _ in range(2 * n)]
    rows, keys = np.array(v).reshape(2, n), np.array(k).reshape(2, n)
    lengths = [n, 40]
    same = rasp.select(keys, keys, rasp.equals, lengths=lengths)
    chosen = {
        "one": same,
        "several": same | rasp.select(keys, 1, rasp.lt, lengths=lengths),
        "table": rasp.select(keys, keys, lambda a, b: a == b, lengths=lengths),
        "formula": rasp.select(keys, keys, lambda a, b: a == b, lengths=lengths) & same,
    }[kind]
    found = rasp.aggr(chosen, rows, default=0.5, rounding="float", backend=backend)
    matrix = np.asarray(chosen)
    for row, length in enumerate(lengths):
        for i in range(n):
            picked = [int(x) for x in rows[row][matrix[row, i]]]
            wanted = float(Fraction(sum(picked), len(picked))) if picked else 0.5
            assert found[row, i] == (wanted if i < length else 0.0)


@pytest.mark.parametrize("join", [lambda s, t: s & t, lambda s, t: s | t, lambda s, _t: ~s, lambda s, t: ~(s & t)])
def test_deep_selectors(join: Callable[[Any, Any], Any]) -> None:
    def deep(x: Any) -> Any:
        parts = [rasp.select(x, x, rasp.equals), rasp.select(x, 1, lambda k, q: k >= q)]
        return rasp.sel_width(functools.reduce(lambda s, at: join(s, parts[at % 2]), range(1500), parts[0]))

    few = Program(lambda x: rasp.sel_width(functools.reduce(
        lambda s, at: join(s, [rasp.select(x, x, rasp.equals), rasp.select(x, 1, lambda k, q: k >= q)][at % 2]),
        range(4), rasp.select(x, x, rasp.equals),
    )))  # fmt: skip
    assert whole(deep, [1, 1, 0, 1]) == few([1, 1, 0, 1]).tolist()


# --- the operators of the compiler community --------------------------------------------------------------------------


def test_operators_are_pythons_logic() -> None:
    assert (~sops.tokens)([0, 1, 2]) == [True, False, False]
    assert (~sops.tokens)([0.0, 1.0]) == [True, False]
    assert (sops.tokens & 2)([0, 1, 2, 3]) == [0, 2, 2, 2]
    assert (2 & sops.tokens)([0, 1]) == [0, 1]
    assert (sops.tokens | 2)([0, 1, 2, 3]) == [2, 1, 2, 3]
    assert (0 | sops.tokens)([0, 1]) == [0, 1]
    assert (~(sops.tokens > 1) | sops.indices)([0, 2]) == [True, 1]
    assert (sops.tokens & "b")(["", "a", None]) == ["", "b", None]
    assert (~sops.Full(3))([1]) == [False]
    assert (sops.Map(lambda a: a - 1, sops.tokens) & sops.tokens)([1, 2]) == [0, 2]
    assert Program(lambda x: ~x & 3)([0, 1]).tolist() == [3, 2]  # RASP-L's are NumPy's


def test_predicates_may_be_truthy_and_see_none() -> None:
    width, select, tokens = sops.SelectorWidth, sops.Select, sops.tokens
    assert width(select(tokens, tokens, lambda k, q: k * q))([0, 1, 2, 3]) == [0, 3, 3, 3]
    gaps = sops.Map(lambda a: None if a == 1 else a, tokens)
    assert width(select(gaps, tokens, lambda k, q: k is None or k == q))([0, 1, 2, 3]) == [2, 1, 2, 2]
    assert width(select(tokens, tokens, lambda k, q: [1] if k == q else ""))(["a", "b", "a"]) == [2, 1, 2]
    for comparison in (sops.Comparison.EQ, sops.Comparison.TRUE):
        with pytest.raises(ArgumentError, match="the key at position 1 is None"):
            width(select(gaps, tokens, comparison))([0, 1])
    with pytest.raises(ArgumentError, match="cannot be asked about key None, query 1"):
        width(select(gaps, tokens, lambda k, q: k < q))([1, 0])
    with pytest.raises(ArgumentError, match="returns bool"):  # RASP-L stays strict
        rasp.sel_width(rasp.select([1], [1], lambda k, q: k * q))
    weights = rasp.compile(width(select(gaps, tokens, lambda k, q: k is None or k * q)), [0, 1, 2], 3)
    assert weights.forward([0, 1, 2]) == [1, 2, 2]


# --- legality ---------------------------------------------------------------------------------------------------------


def parity(x: Any) -> Any:
    """Exact parity from means of counts: half the number of ones, rounded, moves at every second one."""
    ones = x == 1
    half = rasp.kqv(x, rasp.full(x, 1), rasp.cumsum(ones), rasp.equals)
    up = rasp.where(ones, half != rasp.shift_right(half, 1), rasp.full(x, 0) == 1)
    return rasp.index_select(up, rasp.lasts(x, rasp.full(x, 1)))


def test_parity_by_means_is_refused() -> None:
    draw = random.Random(1)
    x = [draw.randrange(2) for _ in range(40)]
    assert Program(parity)(x).tolist() == [sum(x[: i + 1]) % 2 for i in range(40)]
    assert "the mean of a COUNT" in Program(parity).check().problems[0]

    def index_parity(mean: Any) -> Any:
        return (mean == rasp.shift_right(mean, 1, default=-1)) * 1

    for keys, queries, predicate in (("x", "x", rasp.true), ("x", "x", rasp.equals), ("x", 1, rasp.equals)):
        report = Program(
            lambda x, k=keys, q=queries, p=predicate: index_parity(
                rasp.kqv(x if k == "x" else k, x if q == "x" else q, rasp.indices(x), p)
            )
        ).check()
        assert not report.legal, (keys, queries, predicate)
        assert "the mean of an INDEX" in report.problems[0]


START, END = -1, -2


def counting(x: Any) -> Any:
    """The counting program of the authors' code, with its maps by named functions."""
    start = rasp.kqv(x, rasp.full(x, START), rasp.indices(x), rasp.equals, reduction="max")
    first = rasp.kqv(rasp.indices(x), start + 1, x, rasp.equals)
    last = rasp.kqv(rasp.indices(x), start + 2, x, rasp.equals)
    at_first = rasp.seq_map(rasp.indices(x), start + 2, rasp.equals)
    at_last = rasp.seq_map(x, last, rasp.equals)
    following = rasp.where(at_last, rasp.full(x, END), rasp.tok_map(x, lambda i: i + 1))
    return rasp.where(at_first, first, following)


PLUS, EQUALS, DONE, NONE, TOP = -2, -3, -5, -88, -100


def addition(x: Any, reverse: bool) -> Any:
    """The addition program of the authors' code: hints of -100 and below, either order of the digits."""

    def seen(token: int) -> Any:
        return rasp.has_seen(x, rasp.full(x, token))

    second = rasp.seq_map(seen(PLUS), seen(EQUALS), lambda a, b: a and not b)
    prompt = rasp.mask(x, 1 - seen(EQUALS))
    other = rasp.induct(prompt, rasp.shift_right(prompt, 1), offset=1)
    sums = rasp.mask(rasp.seq_map(x, other, lambda a, b: a + b if a >= 0 else a), second, NONE)
    digit = rasp.shift_right(x, 1)
    this, following = (rasp.induct(sums, at, offset=1) for at in (rasp.shift_right(x, 2), x))
    if reverse:
        carry = (this > 9) | ((this == 9) & (digit == 0))
        last, first = rasp.full(x, TOP), rasp.induct_prev(x, rasp.full(x, EQUALS), offset=-2)
        hint = digit + 1
        done = hint > last
    else:
        digits = rasp.mask(sums, x >= 0, NONE)
        gives = rasp.tok_map(digits, lambda a: 1 if a > 9 else 0)
        chains = rasp.cumsum((digits != 9) & (digits != NONE))
        before = rasp.tok_map(rasp.mask(chains, gives, NONE), lambda c: c - 1)
        ends = rasp.firsts(chains, before, default=NONE)
        inside = (following == 9) & ((this % 10) != digit)
        place = rasp.kqv(sums, x, rasp.indices(x), rasp.equals) + 1
        carry = inside | rasp.kqv(ends, place, rasp.full(x, 1), rasp.equals, default=0)
        last, first = rasp.induct_prev(x, rasp.full(x, EQUALS), offset=-2), rasp.full(x, TOP)
        hint = digit - 1
        done = hint < last
    is_hint = x > TOP
    out = rasp.where(is_hint, hint, (following + carry) % 10)
    out = rasp.where(done & is_hint, rasp.full(x, DONE), out)
    return rasp.where(x == EQUALS, first, out)


def test_the_authors_own_programs_are_legal() -> None:
    assert Program(counting).check().legal, Program(counting).check().problems
    assert Program(counting).generate([START, 3, 7], stop=END) == [3, 4, 5, 6, 7, END]
    for reverse in (True, False):
        program = Program(lambda x, way=reverse: addition(x, way), name="addition")
        assert program.check().legal, (reverse, program.check().problems)
        for a, b in ((2, 8), (95, 17), (999, 1), (123, 456), (0, 0)):
            width = len(str(max(a, b))) + 1
            hints = [TOP - at for at in range(width)]

            def written(number: int, turned: bool, hints: list[int] = hints) -> list[int]:
                pairs = list(zip(hints, map(int, str(number).zfill(len(hints))), strict=True))
                return [token for pair in (reversed(pairs) if turned else pairs) for token in pair]

            answer = program.generate(
                [START, *written(a, False), PLUS, *written(b, False), EQUALS], stop=DONE, max_new=40
            )
            assert answer == [*written(a + b, reverse), DONE], (reverse, a, b)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: rasp.kqv(x, 300, x, rasp.equals),
        lambda x: rasp.kqv(rasp.full(x, 300), x, x, rasp.equals),
        lambda x: rasp.kqv(x, x, x, rasp.gt, default=5000),
        lambda x: rasp.kqv(x, x, rasp.full(x, 300), rasp.gt),
        lambda x: rasp.where(x == 1, rasp.full(x, 1000), x),
        lambda x: x == 300,
        lambda x: x + 300,
    ],
)
def test_constants_beyond_the_type_are_refused(function: Any) -> None:
    assert "does not fit the token type" in Program(function).check().problems[0]
    assert Program(function).check(bits=16).legal


def test_constants_beside_positions_and_counts_are_free() -> None:
    assert Program(lambda x: rasp.indices(x) > 300).check().legal
    assert Program(lambda x: rasp.cumsum(x) > 300).check().legal
    assert Program(lambda x: rasp.firsts(x, x, default=-999)).check().legal
    assert Program(lambda x: rasp.cumsum(x) - 1).check().legal
    assert not Program(lambda x: 1 - rasp.cumsum(x)).check().legal
