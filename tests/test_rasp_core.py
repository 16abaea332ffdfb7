"""RASP-L core and library: the peer's numbers, every route of the engine against the reference, bad input."""

from __future__ import annotations

import functools
import json
import operator
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import legato
from legato import rasp
from legato.errors import ArgumentError, NumericalError
from legato.rasp import _reference, functions
from legato.rasp.selectors import Selector, aggregate_selector, plan_route

DATA = Path(__file__).parent / "data" / "rasp"
PREDICATES: dict[str, Any] = {
    "eq": rasp.equals,
    "neq": rasp.neq,
    "lt": rasp.lt,
    "leq": rasp.leq,
    "gt": rasp.gt,
    "geq": rasp.geq,
    "true": rasp.true,
    "false": rasp.false,
    "k": lambda k, q: bool(k),  # noqa: ARG005
    "q": lambda k, q: bool(q),  # noqa: ARG005
    "k_plus_1_eq_q": lambda k, q: k + 1 == q,
    "abs_le_2": lambda k, q: abs(k - q) <= 2,
    "same_parity": lambda k, q: (k - q) % 2 == 0,
}


def vectors(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((DATA / f"{name}.json").read_text())["vectors"]
    assert found
    return found


# --- the peer's numbers -----------------------------------------------------------------------------------------------


def test_core_vectors(backend: str) -> None:
    for case in vectors("np_core"):
        k, q = np.array(case["k"]), np.array(case["q"])
        predicate = PREDICATES[case["pred"]]
        A = rasp.select(k, q, predicate, case["causal"])
        if case["op"] == "select":
            got = np.asarray(A, dtype=int)
        elif case["op"] == "sel_width":
            got = rasp.sel_width(A, backend=backend)
        elif case["op"] == "aggr":
            got = rasp.aggr(A, case["v"], case["default"], case["reduction"], backend=backend)
        else:
            got = rasp.kqv(k, q, case["v"], predicate, case["default"], case["reduction"], backend=backend)
        assert got.tolist() == case["out"], case


def test_library_vectors() -> None:
    """`[patched]`: argmax, argmin and mode raise TypeError in the peer; there keys are x, queries the running max."""
    for case in vectors("np_lib"):
        function = getattr(rasp, case["op"].removesuffix("[patched]"))
        assert function(*case["args"].values()).tolist() == case["out"], case


LIBRARY: dict[str, Any] = {
    "shift_right": lambda x, y, z: rasp.shift_right(x, 2, default=-4),  # noqa: ARG005
    "cumsum": lambda x, y, z: rasp.cumsum(x),  # noqa: ARG005
    "where": rasp.where,
    "mask": lambda x, y, z: rasp.mask(x, y, 9),  # noqa: ARG005
    "maximum": lambda x, y, z: rasp.maximum(x),  # noqa: ARG005
    "minimum": lambda x, y, z: rasp.minimum(x),  # noqa: ARG005
    "argmax": lambda x, y, z: rasp.argmax(x),  # noqa: ARG005
    "argmin": lambda x, y, z: rasp.argmin(x),  # noqa: ARG005
    "num_prev": lambda x, y, z: rasp.num_prev(x, y),  # noqa: ARG005
    "has_seen": lambda x, y, z: rasp.has_seen(x, y),  # noqa: ARG005
    "firsts": lambda x, y, z: rasp.firsts(x, y, default=-7),  # noqa: ARG005
    "lasts": lambda x, y, z: rasp.lasts(x, y),  # noqa: ARG005
    "index_select": lambda x, y, z: rasp.index_select(x, y, default=5),  # noqa: ARG005
    "first_true": lambda x, y, z: rasp.first_true(x),  # noqa: ARG005
    "mode": lambda x, y, z: rasp.mode(x),  # noqa: ARG005
    "binary_mode": lambda x, y, z: rasp.binary_mode(x),  # noqa: ARG005
    "induct_kqv": lambda x, y, z: rasp.induct_kqv(x, y, z, offset=1),
    "induct": lambda x, y, z: rasp.induct(x, y, offset=1),  # noqa: ARG005
    "induct_prev": lambda x, y, z: rasp.induct_prev(x, y, offset=-1),  # noqa: ARG005
    "rightmost": lambda x, y, z: rasp.rightmost(rasp.select(x, y, rasp.lt), z, -6),
    "leftmost": lambda x, y, z: rasp.leftmost(rasp.select(x, y, rasp.lt), z, -6),
    "counts_reach": lambda x, y, z: rasp.counts_reach([x, y], [2, -1], 3),  # noqa: ARG005
}


def test_no_library_function_is_forgotten() -> None:
    """What is tested below by definition, in batches and token by token is the whole library."""
    assert set(LIBRARY) == set(functions.__all__)


@pytest.mark.parametrize("name", LIBRARY)
def test_library_by_definition(name: str) -> None:
    """Words of the specification, position by position, in plain Python."""
    rng = np.random.default_rng(3)
    for n in (0, 1, 2, 9, 40):
        x, y, z = (rng.integers(-2, 5, n).tolist() for _ in range(3))
        expected = [_by_definition(name, x[: i + 1], y[: i + 1], z[: i + 1]) for i in range(n)]
        assert LIBRARY[name](np.array(x), np.array(y), np.array(z)).tolist() == expected


def _by_definition(name: str, x: list[int], y: list[int], z: list[int]) -> int:
    i = len(x) - 1
    q = y[i]
    hits = [j for j in range(i + 1) if x[j] == q]
    counts = [x[: j + 1].count(x[j]) for j in range(i + 1)]
    latest = max(j for j in range(i + 1) if counts[j] == max(counts))
    shifted = [-999, *x[:-1]]
    found = next((j for j in range(i + 1) if shifted[j] == q), -999)
    answers = {
        "shift_right": lambda: x[i - 2] if i >= 2 else -4,
        "cumsum": lambda: sum(1 for a in x if a),
        "where": lambda: y[i] if x[i] else z[i],
        "mask": lambda: x[i] if y[i] else 9,
        "maximum": lambda: max(x),
        "minimum": lambda: min(x),
        "argmax": lambda: max(j for j in range(i + 1) if x[j] == max(x)),
        "argmin": lambda: max(j for j in range(i + 1) if x[j] == min(x)),
        "num_prev": lambda: len(hits),
        "has_seen": lambda: int(bool(hits)),
        "firsts": lambda: hits[0] if hits else -7,
        "lasts": lambda: hits[-1] if hits else -1,
        "index_select": lambda: x[q] if 0 <= q <= i else 5,
        "first_true": lambda: x.index(1) if 1 in x else -1,
        "mode": lambda: x[latest],
        "binary_mode": lambda: int(x.count(1) > x.count(0)),
        "induct_kqv": lambda: z[found] if found >= 0 else 0,
        "induct": lambda: x[found] if found >= 0 else 0,
        "induct_prev": lambda: x[hits[0] - 1] if hits and hits[0] >= 1 else 0,
        "rightmost": lambda: next((z[j] for j in range(i, -1, -1) if x[j] < q), -6),
        "leftmost": lambda: next((z[j] for j in range(i + 1) if x[j] < q), -6),
        "counts_reach": lambda: int(2 * sum(1 for a in x if a) - sum(1 for a in y if a) >= 3),
    }
    return answers[name]()


@pytest.mark.parametrize("name", LIBRARY)
def test_library_in_batches(name: str) -> None:
    rng = np.random.default_rng(4)
    x, y, z = (rng.integers(-1, 3, (5, 12)) for _ in range(3))
    lengths = [12, 0, 1, 7, 11]
    got = rasp.Program(lambda t: LIBRARY[name](t, t, t)).batch(x, lengths, threads=2)
    for row, n in enumerate(lengths):
        assert got[row, :n].tolist() == LIBRARY[name](x[row, :n], x[row, :n], x[row, :n]).tolist()
        assert not got[row, n:].any()
    assert np.array_equal(LIBRARY[name](x, y, z)[3], LIBRARY[name](x[3], y[3], z[3]))


def test_library_lengths() -> None:
    x = np.ones((2, 4), dtype=np.int64)
    assert rasp.cumsum(x, lengths=[2, 4]).tolist() == [[1, 2, 0, 0], [1, 2, 3, 4]]
    with pytest.raises(ArgumentError, match="cumsum: lengths: expected 0 to 4, got 5 at row 1"):
        rasp.cumsum(x, lengths=[2, 5])


# --- every route is the reference -------------------------------------------------------------------------------------

KINDS = [rasp.equals, rasp.neq, rasp.lt, rasp.leq, rasp.gt, rasp.geq, rasp.true, rasp.false]
RANGES = [2, 40, 10**9]


@st.composite
def problems(draw: st.DrawFn) -> tuple[Selector, np.ndarray, int]:
    n, rows = draw(st.integers(0, 40)), draw(st.integers(1, 2))
    reach = draw(st.sampled_from(RANGES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    arrays = [rng.integers(-reach, reach + 1, (rows, n)) for _ in range(4)]
    arrays[3] = np.where(rng.random((rows, n)) < 0.5, arrays[0], arrays[3])
    arrays.append(np.broadcast_to(np.arange(n), (rows, n)).copy())
    values = rng.integers(-reach, reach + 1, (rows, n))
    if draw(st.integers(0, 9)) == 0:
        values = rng.choice(np.array([-(2**63), 2**63 - 1, 2**62, 0]), (rows, n))
    causal = draw(st.booleans())
    lengths = rng.integers(0, n + 1, rows) if draw(st.booleans()) else None

    def leaf() -> Selector:
        k, q = draw(st.integers(0, 4)), draw(st.integers(0, 4))
        return rasp.select(arrays[k], arrays[q], draw(st.sampled_from(KINDS)), causal, lengths=lengths)

    A = leaf()
    for _ in range(draw(st.integers(0, 3))):
        shape = draw(st.integers(0, 3))
        A = ~A if shape == 0 else A & leaf() if shape == 1 else A | leaf() if shape == 2 else leaf() & ~A
    return A, values, draw(st.integers(-3, 3))


def check_routes(problem: tuple[Selector, np.ndarray, int]) -> int:
    A, values, default = problem
    compared = 0
    for reduction in ("width", "mean", "max", "min", "sum"):
        for rounding in ("truncate", "floor", "float") if reduction == "mean" else ("truncate",):
            routes = [None, "formula"]
            if plan_route(A.formula, reduction, 10**6, A.causal)[0] == "conjunctions":
                routes.append("conjunctions")
            try:
                wanted = aggregate_selector(A, values, reduction, default, rounding, backend="numpy")
            except NumericalError:  # a sum beyond 64 bits
                for route in routes:
                    with pytest.raises(NumericalError, match="sum: the result at position"):
                        aggregate_selector(A, values, reduction, default, rounding, route=route)
                continue
            for route in routes:
                got = aggregate_selector(A, values, reduction, default, rounding, route=route, threads=2)
                if rounding == "float":
                    np.testing.assert_allclose(got, wanted, rtol=1e-15)
                else:
                    assert np.array_equal(got, wanted), (reduction, rounding, route)
                compared += 1
    return compared


def test_sums_are_exact_or_refused() -> None:
    """Sums pass beyond 64 bits on the way; one that ends there is an error with its position, by every route."""
    x = np.array([2**62, 2**62, -(2**62), -(2**62), 5])
    whole = rasp.select(x, x, rasp.true, causal=False)
    assert rasp.aggr_sum(whole, x).tolist() == [5] * 5
    assert rasp.aggr(whole, x, reduction="sum", rounding="float").dtype == np.int64
    none = rasp.select(x, x, rasp.false)
    assert rasp.aggr_sum(none, x, default=-3).tolist() == [-3] * 5
    causal = rasp.select(x, x, rasp.leq) | rasp.select(x, 0, rasp.gt)
    for route in ("conjunctions", "formula"):
        with pytest.raises(NumericalError, match="sum: the result at position 1 does not fit 64 bits"):
            aggregate_selector(causal, x, "sum", route=route)
    program = rasp.Program(lambda t: rasp.kqv(t, t, t, rasp.true, reduction="sum"))
    with pytest.raises(NumericalError, match="sum: the result at position 1 does not fit 64 bits"):
        program(x)
    assert program.step(2**62) == 2**62
    with pytest.raises(NumericalError, match="sum: the result at position 1 does not fit 64 bits"):
        program.step(2**62)
    batch = rasp.kqv([[1, 2, 3], [4, 5, 6]], 0, [[1, 2, 3], [4, 5, 6]], rasp.gt, reduction="sum", lengths=[2, 3])
    assert batch.tolist() == [[1, 3, 0], [4, 9, 15]]


@settings(max_examples=150, deadline=None)
@given(problems())
def test_routes(problem: tuple[Selector, np.ndarray, int]) -> None:
    check_routes(problem)


def _random_program(rng: np.random.Generator) -> tuple[Selector, np.ndarray, np.ndarray]:
    """A formula of up to four comparisons, values, and the matrix by comparing every pair."""
    n, reach = int(rng.integers(1, 25)), int(rng.choice(RANGES))
    arrays = [rng.integers(-reach, reach + 1, n) for _ in range(4)]
    arrays[3] = np.where(rng.random(n) < 0.5, arrays[0], arrays[3])
    arrays.append(np.arange(n))
    causal = bool(rng.integers(2))
    order = np.tri(n, dtype=bool) if causal else np.ones((n, n), dtype=bool)

    def leaf() -> tuple[Selector, np.ndarray]:
        k, q, at = arrays[rng.integers(5)], arrays[rng.integers(5)], int(rng.integers(len(KINDS)))
        compare = (np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal, None, None)[at]
        full = np.full((n, n), KINDS[at] is rasp.true)
        return rasp.select(k, q, KINDS[at], causal), full if compare is None else compare(k[None, :], q[:, None])

    A, matrix = leaf()
    for _ in range(int(rng.integers(0, 4))):
        (B, other), shape = leaf(), int(rng.integers(4))
        A = (~A, A & B, A | B, B & ~A)[shape]
        matrix = (~matrix, matrix & other, matrix | other, other & ~matrix)[shape]
    values = (
        rng.choice([-(2**63), 2**63 - 1, 2**62, 0], n) if rng.random() < 0.1 else rng.integers(-reach, reach + 1, n)
    )
    return A, values, matrix & order


def test_ten_thousand_random_programs() -> None:
    """Each by every route it has, the four reductions, against the n x n matrix; keys to 10^9, negative, repeated."""
    programs = 0

    @settings(max_examples=420, deadline=None, database=None)
    @given(st.integers(0, 2**63))
    def run(seed: int) -> None:
        nonlocal programs
        rng = np.random.default_rng(seed)
        for _ in range(25):
            A, values, matrix = _random_program(rng)
            default = int(rng.integers(-3, 4))
            for reduction in ("width", "mean", "max", "min"):
                if reduction == "width":
                    wanted = _reference.width(matrix)
                else:
                    wanted = _reference.aggregate(matrix, values, default, reduction, "truncate")
                routes = ["formula"]
                if plan_route(A.formula, reduction, 10**6, A.causal)[0] == "conjunctions":
                    routes.append("conjunctions")
                for route in routes:
                    got = aggregate_selector(A, values, reduction, default, route=route)
                    assert np.array_equal(got, wanted), (seed, reduction, route)
            programs += 1

    run()
    assert programs >= 10_000


@pytest.mark.parametrize("name", ["k", "k_plus_1_eq_q", "abs_le_2", "same_parity"])
@pytest.mark.parametrize("causal", [True, False])
def test_callables_by_table(name: str, causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for reach_k, reach_q in ((3, 30), (30, 3)):
        k, q = rng.integers(-reach_k, reach_k, (2, 70)), rng.integers(-reach_q, reach_q, (2, 70))
        v = rng.integers(-9, 9, (2, 70))
        A = rasp.select(k, q, PREDICATES[name], causal)
        B = A & ~rasp.select(k, q, rasp.lt, causal)
        for reduction in ("width", "mean", "max", "min", "sum"):
            for selector in (A, B, ~A):
                wanted = aggregate_selector(selector, v, reduction, -1, backend="numpy")
                assert np.array_equal(aggregate_selector(selector, v, reduction, -1), wanted)
            with monkeypatch.context() as patch:  # tables in several blocks
                patch.setattr("legato.rasp.selectors._TABLE_BYTES", 17)
                wanted = aggregate_selector(A, v, reduction, -1, backend="numpy")
                assert np.array_equal(aggregate_selector(A, v, reduction, -1), wanted)


def test_predicate_is_called_once_for_each_distinct_pair() -> None:
    calls: list[tuple[int, int]] = []

    def predicate(k: int, q: int) -> bool:
        calls.append((k, q))
        return k < q

    rasp.sel_width(rasp.select(np.arange(600) % 3, np.arange(600) % 4, predicate))
    assert sorted(calls) == [(k, q) for k in range(3) for q in range(4)]


@pytest.mark.parametrize("way", ["njit", "cfunc"])
def test_compiled_predicates(way: str) -> None:
    """Wide alphabets by every pair, small ones by the table, and beside other terms: the Python function's numbers."""
    numba = pytest.importorskip("numba", reason="numba is what compiles such predicates")

    def near(k: int, q: int) -> bool:
        return abs(k - q) <= 300

    compiled = numba.njit(near) if way == "njit" else numba.cfunc("boolean(int64, int64)")(near)
    rng = np.random.default_rng(2)
    for reach, route in ((5000, "formula"), (400, "table")):
        k, q, v = (rng.integers(-reach, reach, (2, 80)) * (1 if reach > 1000 else 100) for _ in range(3))
        if reach == 400:
            k, q = k % 700, q % 700
        for causal in (True, False):
            A, B = (rasp.select(k, q, p, causal, lengths=[80, 50]) for p in (compiled, near))
            assert plan_route(A.formula, "max", 80, causal)[0] == route
            other = rasp.select(v, q, rasp.lt, causal, lengths=[80, 50])
            for reduction in ("width", "mean", "max", "min"):
                for fast, slow in ((A, B), (A & ~other, B & ~other)):
                    got = aggregate_selector(fast, v, reduction, -1)
                    assert np.array_equal(got, aggregate_selector(slow, v, reduction, -1, backend="numpy"))
    program = rasp.Program(lambda x: rasp.kqv(x, x, x, compiled, reduction="max"))
    x = rng.integers(-1000, 1000, 30)
    assert [program.step(int(t)) for t in x] == program(x).tolist() == rasp.kqv(x, x, x, near, reduction="max").tolist()


@pytest.mark.parametrize("way", ["njit", "cfunc"])
def test_compiled_predicates_that_raise(way: str) -> None:
    """Numba's wrapper would print the exception and answer with what its memory holds."""
    numba = pytest.importorskip("numba", reason="numba is what compiles such predicates")

    def odd(k: int, q: int) -> bool:
        if k == 3 and q == 5:
            raise ValueError("no such pair")
        return (k + q) % 2 == 1

    compiled = numba.njit(odd) if way == "njit" else numba.cfunc("boolean(int64, int64)")(odd)
    k, q = np.arange(60) % 4, np.arange(60) % 6
    raising, fine = (rasp.select(keys, q, compiled, causal=False) for keys in (k, k % 3))
    wanted = aggregate_selector(rasp.select(k % 3, q, odd, causal=False), None, "width", backend="numpy")
    for route, message in (
        ("table", "raised an exception for key 3, query 5"),
        ("formula", "a function of the caller"),
    ):
        with pytest.raises(ArgumentError, match=f"select: pred: {message}"):
            aggregate_selector(raising, None, "width", route=route)
        assert np.array_equal(aggregate_selector(fine, None, "width", route=route), wanted)


def test_compiled_predicates_of_the_wrong_kind() -> None:
    numba = pytest.importorskip("numba", reason="numba is what compiles such predicates")
    for predicate, message in (
        (numba.njit(lambda k, q: k - q), r"expected a compiled predicate boolean\(int64, int64\)"),
        (numba.njit(lambda k, q: k.imag_part or q), "Numba cannot compile it"),
        (numba.cfunc("boolean(float64, int64)")(lambda k, q: k < q), "expected a compiled predicate"),
    ):
        with pytest.raises(ArgumentError, match=message):
            rasp.kqv([1, 2], [1, 2], [1, 2], predicate)


@pytest.mark.parametrize("n", [31, 32, 33, 63, 64, 65, 255, 256, 257, 1000])
def test_block_edges(n: int) -> None:
    """Around the blocks of the formula route, of two orderings, and the crossover."""
    rng = np.random.default_rng(n)
    a, b, c, d, v = (rng.integers(0, 30, n) for _ in range(5))
    for causal in (True, False):
        A = rasp.select(a, b, rasp.lt, causal) & rasp.select(c, d, rasp.geq, causal)
        for reduction in ("width", "mean", "max", "min"):
            got = [aggregate_selector(A, v, reduction, -1, route=route) for route in (None, "formula", "conjunctions")]
            assert np.array_equal(got[0], got[1])
            assert np.array_equal(got[1], got[2])


def _wide_keys(kind: str, rng: np.random.Generator, n: int) -> np.ndarray:
    if kind == "uniform":
        return rng.integers(-(10**9), 10**9, n)
    if kind == "repeated":  # more keys than a bucket holds share one value
        return rng.choice(rng.integers(-(2**40), 2**40, 3), n)
    if kind == "skewed":
        return (2.0 ** rng.uniform(0, 62, n)).astype(np.int64)
    return rng.choice(np.array([-(2**63), -(2**63) + 1, -1, 0, 1, 2**63 - 2, 2**63 - 1]), n)


@pytest.mark.parametrize("kind", ["uniform", "repeated", "skewed", "extreme"])
def test_buckets_of_wide_keys(kind: str) -> None:
    """Rows long enough for several buckets, against every pair."""
    rng = np.random.default_rng(11)
    n = 9000
    a, c = (_wide_keys(kind, rng, n) for _ in range(2))
    b, d = np.roll(a, 1), np.where(rng.random(n) < 0.5, c, _wide_keys("uniform", rng, n))
    v = rng.integers(-(10**9), 10**9, n)
    huge = rng.choice(np.array([-(2**63), 2**63 - 1, 2**62, 0]), n)
    turn = 0
    for predicates in (
        "eq", "neq", "lt", "leq", "gt", "geq", "eq lt", "eq geq", "eq eq", "eq eq eq", "eq gt eq", "lt geq", "gt leq"
    ):  # fmt: skip
        for causal in (True, False):
            pairs = iter([(a, b), (c, d), (b, b)])
            A = functools.reduce(
                operator.and_, (rasp.select(*next(pairs), PREDICATES[p], causal) for p in predicates.split())
            )
            for reduction in (("width", "max"), ("mean", "min"), ("mean", "max"))[turn % 3]:
                turn += 1
                values = huge if turn % 5 == 0 else v
                got = aggregate_selector(A, values, reduction, -5, route="conjunctions")
                wanted = aggregate_selector(A, values, reduction, -5, route="formula")
                assert np.array_equal(got, wanted), (predicates, causal, reduction)


@pytest.mark.parametrize("queries", ["any", "repeated", "beyond"])
@pytest.mark.parametrize("causal", [True, False])
def test_two_orderings_of_long_rows(queries: str, causal: bool) -> None:
    """Longer than one chunk of queries; by identities, because every pair would take minutes."""
    rng = np.random.default_rng(8)
    n, reach = 150_000, 10**9
    a, b, c, d, v = (rng.integers(-reach, reach, n) for _ in range(5))
    if queries == "repeated":  # all queries look into one part of the keys
        b, d = np.full(n, 12345), rng.choice([-7, 12345], n)
    if queries == "beyond":
        b[rng.random(n) < 0.5], d[rng.random(n) < 0.5] = 2 * reach, -2 * reach
    below = rasp.select(a, b, rasp.lt, causal)
    above, others = rasp.select(c, d, rasp.gt, causal), rasp.select(c, d, rasp.leq, causal)
    parts = (below & above, below & others)
    widths = [rasp.sel_width(part) for part in parts]
    assert np.array_equal(widths[0] + widths[1], rasp.sel_width(below))
    sums = [rasp.aggr(part, v, rounding="float") * width for part, width in zip(parts, widths, strict=True)]
    whole = rasp.aggr(below, v, rounding="float") * rasp.sel_width(below)
    np.testing.assert_allclose(sums[0] + sums[1], whole, rtol=1e-9, atol=1e-2)
    for reduction, better in (("max", np.maximum), ("min", np.minimum)):
        none = -reach if reduction == "max" else reach
        best = [rasp.aggr(part, v, none, reduction) for part in parts]
        assert np.array_equal(better(*best), rasp.aggr(below, v, none, reduction))
    both = below & rasp.select(a, d, rasp.lt, causal)  # is below the smaller query
    smaller = rasp.select(a, np.minimum(b, d), rasp.lt, causal)
    assert np.array_equal(rasp.aggr(both, v), rasp.aggr(smaller, v))


@settings(max_examples=60, deadline=None)
@given(st.integers(200, 3000), st.sampled_from(RANGES), st.booleans(), st.booleans(), st.integers(0, 2**32))
def test_two_orderings_by_every_route(n: int, reach: int, causal: bool, alike: bool, seed: int) -> None:
    """Long enough for grids, and for parts of parts; keys and queries of the two may go together."""
    rng = np.random.default_rng(seed)
    a, b, c, d, v = (rng.integers(-reach, reach + 1, n) for _ in range(5))
    if alike:
        c, d = a + rng.integers(0, 3, n), b - rng.integers(0, 3, n)
    orders = [rasp.lt, rasp.leq, rasp.gt, rasp.geq]
    A = rasp.select(a, b, orders[seed % 4], causal) & rasp.select(c, d, orders[seed // 4 % 4], causal)
    for reduction in ("width", "mean", "max", "min"):
        got = aggregate_selector(A, v, reduction, -1, route="conjunctions")
        assert np.array_equal(got, aggregate_selector(A, v, reduction, -1, route="formula"))


def test_two_orderings_of_rows_of_many_lengths() -> None:
    rng = np.random.default_rng(9)
    lengths = [2000, 0, 1, 300, 1999]
    a, b, c, d, v = (rng.integers(-(10**9), 10**9, (5, 2000)) for _ in range(5))
    A = rasp.select(a, b, rasp.leq, lengths=lengths) & rasp.select(c, d, rasp.gt, lengths=lengths)
    for reduction in ("mean", "min"):
        got = aggregate_selector(A, v, reduction, -1, route="conjunctions", threads=2)
        assert np.array_equal(got, aggregate_selector(A, v, reduction, -1, route="formula"))


def test_threads_do_not_matter() -> None:
    rng = np.random.default_rng(1)
    x, y, v = (rng.integers(0, 9, (13, 200)) for _ in range(3))
    A = rasp.select(x, y, rasp.lt)
    assert np.array_equal(rasp.aggr(A, v), rasp.aggr(A, v, threads=4))


def test_sums_are_exact() -> None:
    """The peer wraps: three times 2**62 give [2**62, -2**62, ...]."""
    x = np.full(3, 2**62)
    assert rasp.kqv(x, x, x, rasp.equals).tolist() == [2**62] * 3
    low = np.array([-(2**63), 2**63 - 1])
    assert rasp.kqv(low, low, low, rasp.true).tolist() == [-(2**63), 0]
    assert rasp.kqv(low, low, low, rasp.true, rounding="floor").tolist() == [-(2**63), -1]


def test_extremes_are_values_too() -> None:
    v = np.array([-(2**63), 2**63 - 1])
    assert rasp.kqv([0, 1], [0, 0], v, rasp.equals, default=5, reduction="max").tolist() == [-(2**63)] * 2
    assert rasp.kqv([0, 1], [1, 1], v, rasp.equals, default=5, reduction="min").tolist() == [5, 2**63 - 1]
    assert rasp.kqv([0, 1], [1, 0], v, rasp.neq, default=5, reduction="max").tolist() == [-(2**63), 2**63 - 1]


PROBE = """
import hashlib
import numpy as np
from legato import _core, rasp
from legato.rasp.selectors import aggregate_selector
rng = np.random.default_rng(0)
k, q, v = (rng.integers(-9, 9, (2, 700)) for _ in range(3))
A = rasp.select(k, q, rasp.lt) | ~rasp.select(q, v, rasp.geq)
digest = hashlib.sha256()
for reduction in ("width", "mean", "max", "min"):
    digest.update(aggregate_selector(A, v, reduction, 0, route="formula").tobytes())
    assert np.array_equal(aggregate_selector(A, v, reduction, 0, route="conjunctions"),
                          aggregate_selector(A, v, reduction, 0, route="formula"))
k, q, v = (rng.integers(-10**9, 10**9, 9000) for _ in range(3))  # several buckets
for reduction in ("width", "mean", "max", "min"):
    for A in (rasp.select(k, q, rasp.equals), rasp.select(k, q, rasp.geq),
              rasp.select(k, q, rasp.lt) & rasp.select(v, k, rasp.geq)):
        digest.update(aggregate_selector(A, v, reduction, 0).tobytes())
print(digest.hexdigest(), _core.last_isa())
"""


def test_forced_isa_ran_and_gives_the_same_bits() -> None:
    digests = set()
    for isa in legato.build_info()["isas"]:
        result = subprocess.run(
            [sys.executable, "-c", PROBE],
            env={**os.environ, "LEGATO_ISA": isa},
            capture_output=True,
            text=True,
            check=True,
        )
        digest, ran = result.stdout.split()[-2:]
        assert ran == isa
        digests.add(digest)
    assert len(digests) == 1


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: rasp.kqv([1], [1], [1], rasp.equals, reduction="median"),
            "aggr: reduction: expected one of mean",
        ),
        (
            lambda: rasp.kqv([1], [1], [1], rasp.equals, rounding="up"),
            "aggr: rounding: expected one of truncate",
        ),
        (lambda: rasp.select([1, 2, 3], [1, 2], rasp.equals), r"select: q: expected shape \(3,\) as k has"),
        (lambda: rasp.seq_map([1, 2, 3], [1, 2], max), r"seq_map: y: expected shape \(3,\)"),
        (lambda: rasp.select([1.0, float("nan")], [1, 1], rasp.lt), "select: k: .* got nan at position 1"),
        (lambda: rasp.select([1, 2.5], [1, 1], rasp.lt), "select: k: .* got 2.5 at position 1"),
        (lambda: rasp.select([1, 2**70], [1, 1], rasp.lt), "select: k: .* at position 1"),
        (lambda: rasp.select(["a"], [1], rasp.lt), "select: k: expected integers"),
        (lambda: rasp.select([1], [1], 3), "select: pred: expected a predicate"),
        (lambda: rasp.sel_width(rasp.select([2], [7], lambda k, q: k - q)), "returns bool, got int for key 2, query 7"),
        (lambda: rasp.kqv([2], [7], [1], lambda k, q: None, backend="numpy"), "bool, got NoneType for key 2, query 7"),  # noqa: ARG005
        (lambda: rasp.select([[1, 2], [1, 2], [1]], 1, rasp.lt), "select: k: expected rows of one length .* row 2"),
        (lambda: rasp.kqv([1, 2], [1, 2], [1, float("nan")], rasp.lt), "aggr: v: .* got nan at position 1"),
        (lambda: rasp.kqv([1, 2], [1, 2], [1], rasp.lt), r"aggr: v: expected shape \(2,\) as the selector has"),
        (lambda: rasp.sel_width(np.eye(3)), "sel_width: A: expected a selector"),
        (lambda: rasp.tok_map([1, 2], lambda a: 2**70 * a), "tok_map: the result at position 0 does not fit"),
        (lambda: rasp.tok_map([1, 2], lambda a: float("inf") * (a - 1)), "tok_map: the result at position"),
        (lambda: rasp.tok_map([1, 2], str.__class__), "tok_map: expected a function that returns numbers"),
        (lambda: rasp.cumsum(np.zeros((2, 2, 2))), "expected shape"),
        (lambda: rasp.cumsum(np.zeros((2, 2)), lengths=[1]), "cumsum: lengths: expected one for each row"),
        (lambda: rasp.induct_prev([1], [1], offset=0), "induct_prev: offset: expected a negative number"),
        (lambda: rasp.where([1], None, [1]), "where: x: expected a sequence"),
        (lambda: rasp.select([1], [1], rasp.lt) & rasp.select([1], [1], rasp.lt, False), "both causal or both not"),
    ],
)
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises((ArgumentError, NumericalError), match=message):
        call()


def test_empty_sequences() -> None:
    for function in LIBRARY.values():
        assert function(np.array([]), np.array([]), np.array([])).shape == (0,)
    assert rasp.kqv([], [], [], lambda k, q: k == q).shape == (0,)
