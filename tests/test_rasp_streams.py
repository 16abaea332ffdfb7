"""The compiled stream: blocks of every size, what it leaves to Python, damaged words; predicates as comparisons."""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rasp_random
from legato import _core, rasp
from legato.errors import ArgumentError, LegatoError, NumericalError
from legato.rasp.selectors import postorder
from legato.rasp.structure import settled, structured

SELECTORS: dict[str, Callable[[Any], Any]] = {
    "ordering": lambda x: rasp.select(x, rasp.shift_right(x, 1), rasp.lt),
    "ordering, inclusive": lambda x: rasp.select(x, x, rasp.geq),
    "ordering in groups": lambda x: rasp.select(x % 7, x % 5, rasp.equals) & rasp.select(x, x + 3, rasp.gt),
    "two orderings": lambda x: rasp.select(x, x % 11, rasp.gt) & rasp.select(x % 13, x % 17, rasp.leq),
    "two orderings in groups": lambda x: (
        rasp.select(x % 3, rasp.indices(x) % 4, rasp.equals)
        & rasp.select(x, rasp.shift_right(x, 2), rasp.geq)
        & rasp.select(rasp.indices(x), x, rasp.lt)
    ),
    "a union": lambda x: (
        rasp.select(x, x + 5, rasp.lt) & rasp.select(x, x - 9, rasp.gt) | rasp.select(x, 4, rasp.equals)
    ),
    "three orderings": lambda x: (
        rasp.select(x, x, rasp.leq) & rasp.select(x % 5, x % 7, rasp.lt) & rasp.select(x % 9, x % 8, rasp.gt)
    ),
    "not equal": lambda x: rasp.select(x % 9, x % 4, rasp.neq),
    "several equalities": lambda x: rasp.select(x % 9, x % 4, rasp.equals) & rasp.select(x % 2, x % 3, rasp.equals),
}


@pytest.mark.parametrize("reduction", ["width", "mean", "max", "min", "sum"])
@pytest.mark.parametrize("name", SELECTORS)
def test_long_streams(name: str, reduction: str) -> None:
    """Blocks are merged from 256 tokens on: the stream, on its own tokens and in one piece, is the whole evaluation."""

    def function(x: Any) -> Any:
        A = SELECTORS[name](x)
        return rasp.sel_width(A) if reduction == "width" else rasp.aggr(A, x * 3 - 50, -7, reduction)

    program = rasp.Program(function)
    for n, high in ((1300, 40), (1300, 10**6), (255, 30), (256, 30), (257, 30), (513, 5)):
        x = np.random.default_rng(n + high).integers(-high, high, n)
        wanted = program._evaluate(x, None, 1, None)
        stream = _core.RaspStream(program._words)
        assert np.array_equal(stream.whole(x), wanted)
        stream.reset()
        assert [stream.push(token) for token in x.tolist()] == wanted.tolist()
        assert np.array_equal(stream.tokens(), x)


def test_extreme_numbers_stream() -> None:
    """The smallest and the largest integers as keys, queries and values: no bound of an ordering wraps."""
    low, high = -(2**63), 2**63 - 1
    x = np.array([low, high, 0, low, high, -1, high, low] * 40)
    for predicate in (rasp.lt, rasp.leq, rasp.gt, rasp.geq, rasp.neq, rasp.equals):
        for reduction in ("mean", "max", "min"):
            program = rasp.Program(lambda t, p=predicate, r=reduction: rasp.kqv(t, rasp.shift_right(t, 1), t, p, 5, r))
            wanted = program._evaluate(x, None, 1, None)
            assert np.array_equal(program._short.whole(x), wanted)
            pairs = rasp.Program(
                lambda t, p=predicate, r=reduction: rasp.aggr(
                    rasp.select(t, rasp.shift_right(t, 1), p) & rasp.select(t, rasp.shift_right(t, 3), rasp.lt), t, 5, r
                )
            )
            assert np.array_equal(pairs._short.whole(x), pairs._evaluate(x, None, 1, None))


def test_what_leaves_64_bits_goes_on_in_python() -> None:
    """Steps before and after the core gave up are those of one stream."""
    program = rasp.Program(lambda x: rasp.tok_map(x, lambda a: a * 2**40 // 2**40) + rasp.cumsum(x == x))
    assert program._words is not None
    tokens = [1, 2, 2**30, 4, 5]
    assert [program.step(token) for token in tokens] == [2, 4, 2**30 + 3, 8, 10] == program(tokens).tolist()
    assert program.generate([2**30], max_new=4) == [2**30 + 1, 2**30 + 3, 2**30 + 6, 2**30 + 10]


def test_errors_name_the_position() -> None:
    program = rasp.Program(lambda x: 6 // x)
    assert [program.step(token) for token in (1, 2)] == [6, 3]
    with pytest.raises(NumericalError, match="division by zero at position 2"):
        program.step(0)
    with pytest.raises(ArgumentError, match="reset"):
        program.step(1)
    program.reset()
    assert program.step(3) == 2
    with pytest.raises(NumericalError, match="position 4"):
        rasp.Program(lambda x: 6 // (x - 4)).generate([0, 1, 2, 3, 4])
    with pytest.raises(NumericalError, match="position 1"):
        program([1, 0])


def test_generation_is_stepping() -> None:
    program = rasp.Program(lambda x: (x * 5 + rasp.num_prev(x, x)) % 17)
    for stop, most in ((None, 300), (3, 300), (None, 1), (None, 0), (99, 7)):
        program.reset()
        token, found = 4, []
        while len(found) < most:
            found.append(token := program.step(token))
            if token == stop:
                break
        assert program.generate([4], stop=stop, max_new=most) == found
        assert program.generate([4], stop=None if stop is None else lambda t, s=stop: t == s, max_new=most) == found
    after = program.generate([4], max_new=20)
    assert program.step(after[-1]) == program.generate([4], max_new=21)[-1]  # the state is that of the generation


def test_floats_stream() -> None:
    def function(x: Any) -> Any:
        mean = rasp.kqv(x, x, x, rasp.geq, 0.5, rounding="float")
        return rasp.where(mean > x, mean / 2, x - 0.25) * abs(mean - 1)

    program = rasp.Program(function)
    x = np.random.default_rng(2).integers(-9, 9, 60)
    assert program._words is not None
    assert np.array_equal(program(x), program(x, backend="numpy"))
    program.reset()
    assert [program.step(token) for token in x] == program(x).tolist()


@pytest.mark.parametrize("seed", range(40))
def test_damaged_words_are_refused(seed: int) -> None:
    """Whatever words: an error, or a program that runs in its own memory."""
    rng = np.random.default_rng(seed)
    words = rasp.Program(
        lambda x: rasp.aggr(SELECTORS["two orderings in groups"](x) | SELECTORS["three orderings"](x), x, 0, "max") // 2
    )._words
    assert words is not None
    for _ in range(60):
        damaged = words.copy()
        for _ in range(int(rng.integers(1, 4))):
            damaged[int(rng.integers(len(words)))] = int(rng.choice([-1, 0, 1, 2, 3, 5, 2**31, -(2**63), 2**63 - 1]))
        damaged = damaged[: int(rng.integers(len(words) // 2, len(words) + 1))]
        try:
            stream = _core.RaspStream(np.ascontiguousarray(damaged))
        except LegatoError:
            continue
        for token in rng.integers(-5, 5, 600).tolist():
            if stream.push(token) is None:
                break


# --- predicates as comparisons ----------------------------------------------------------------------------------------

COMPARISONS = {
    "distance": (lambda k, q: abs(k - q) < 1000, "and"),
    "distance, not": (lambda k, q: abs(k - q) >= 3, "not"),
    "linear": (lambda k, q: 3 * k - 2 * q + 1 <= q - k, "term"),
    "branches": (lambda k, q: k > 4 and (q < 2 or k == q), None),
    "chain": (lambda k, q: q - 2 < k <= q + 1, None),
    "conditional": (lambda k, q: k < q if q > 3 else k > 2 * q, None),
    "negated": (lambda k, q: not (k == q or abs(k) > 5), None),
    "a property of the key": (lambda k, q: k % 2 == 1, "term"),  # noqa: ARG005
    "constant": (lambda k, q: True, "term"),  # noqa: ARG005
}


@pytest.mark.parametrize("name", COMPARISONS)
def test_predicates_are_comparisons(name: str) -> None:
    predicate, kind = COMPARISONS[name]
    k, q = (np.random.default_rng(at).integers(-9, 9, 50) for at in (1, 2))
    A = rasp.select(k, q, predicate)
    found = settled(A)
    assert all(part[0] != "call" for part in postorder(found.formula))
    assert kind is None or found.formula[0] == kind
    wanted = np.array([[j <= i and bool(predicate(int(k[j]), int(q[i]))) for j in range(50)] for i in range(50)])
    assert np.array_equal(np.asarray(found), wanted)
    assert np.array_equal(rasp.sel_width(A), wanted.sum(axis=1))


@pytest.mark.parametrize(
    "predicate",
    [
        lambda k, q: k * q > 3,
        lambda k, q: k if q else False,  # no bool: the call says it
        lambda k, q: abs(k - q) / 2 < 1,
        lambda k, q: operator.lt(k, q),
        lambda k, q: any(k == x for x in (q, q + 1)),
        lambda k, q: (k is q) or True,
        lambda k, q: 10 // (k - q) > q,
    ],
)
def test_predicates_that_are_asked(predicate: Callable[[Any, Any], Any]) -> None:
    x = rasp.Program(lambda t: t).nodes[0]
    assert structured(predicate, x, x) is None


def test_predicates_beyond_64_bits_are_asked() -> None:
    """Both ends of the integers: k + 1 has no 64 bits, and the answer is Python's."""
    x = [2**63 - 1, -(2**63), 0, 2**63 - 1]
    predicate = lambda k, q: k + 1 > q  # noqa: E731
    wanted = [sum(predicate(k, q) for k in x[: i + 1]) for i, q in enumerate(x)]
    assert rasp.sel_width(rasp.select(x, x, predicate)).tolist() == wanted
    program = rasp.Program(lambda t: rasp.sel_width(rasp.select(t, t, predicate)))
    assert program(x).tolist() == [program.step(token) for token in x] == wanted


@pytest.mark.parametrize(
    "predicate",
    [
        lambda k, q: abs(k - q) < 10**30,
        lambda k, q: k - 10**19 < q - 10**19,
        lambda k, q: k < q or k == -(10**20),
        lambda k, q: abs(k * 2**62 - q) >= 2**64,
    ],
)
def test_constants_beyond_64_bits(predicate: Callable[[Any, Any], Any]) -> None:
    x = [3, -1, 3, 2, 7]
    wanted = [sum(predicate(k, q) for k in x[: i + 1]) for i, q in enumerate(x)]
    assert rasp.sel_width(rasp.select(x, x, predicate)).tolist() == wanted
    program = rasp.Program(lambda t: rasp.sel_width(rasp.select(t, t, predicate)))
    assert program(x).tolist() == [program.step(token) for token in x] == wanted


def test_closures_and_globals_are_read_anew() -> None:
    bound = 1
    predicate = lambda k, q: abs(k - q) <= bound  # noqa: E731
    x = [1, 2, 3, 4, 5]
    first = rasp.sel_width(rasp.select(x, x, predicate)).tolist()
    bound = 3
    assert first == [1, 2, 2, 2, 2]
    assert rasp.sel_width(rasp.select(x, x, predicate)).tolist() == [1, 2, 3, 4, 4]

    def shifted(k: int, q: int, by: float = 1) -> bool:
        return k + by == q

    for by, wanted in ((1, [0, 1, 1, 1, 1]), (2, [0, 0, 1, 1, 1]), (0.5, [0] * 5), (True, [0, 1, 1, 1, 1])):
        shifted.__defaults__ = (by,)
        assert rasp.sel_width(rasp.select(x, x, shifted)).tolist() == wanted


def test_random_programs_by_every_route(tmp_path: Path) -> None:
    saved = sum(rasp_random.check(np.random.default_rng([12, at]), tmp_path) for at in range(60))
    assert saved > 10


def test_a_stop_that_no_token_of_the_core_can_be() -> None:
    program = rasp.Program(lambda x: x + 1)
    assert program.generate([1, 2], max_new=3, stop=2**64) == program.generate([1, 2], max_new=3)
