"""RASP: select-aggregate against the n x n calls of the peers and against NumPy broadcasting; long inputs; generation.

pytest benchmarks/bench_rasp.py --benchmark-columns=median --benchmark-group-by=group
"""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from legato import rasp
from legato.rasp import _reference, tasks
from legato.rasp.selectors import aggregate_selector
from rasp_programs import COMPILED

N = 4096
RNG = np.random.default_rng(0)
K, Q, V = (RNG.integers(0, 50, N) for _ in range(3))


def broadcast(predicate: Callable[[Any, Any], Any], reduction: str) -> np.ndarray:
    """Vectorized NumPy: the matrix at once."""
    A = predicate(K[None, :], Q[:, None]) & np.tri(N, dtype=bool)
    if reduction == "mean":
        count = A.sum(axis=1)
        return np.where(count, np.trunc((A @ V) / np.maximum(count, 1)), 0).astype(np.int64)
    best = np.where(A, V[None, :], np.iinfo(np.int64).min).max(axis=1)
    return np.where(A.any(axis=1), best, 0)


def by_calls(predicate: Callable[[int, int], bool], reduction: str) -> np.ndarray:
    """One Python call a pair, the matrix, then NumPy: the peer's way."""
    A = _reference.select(K, Q, predicate)
    count = A.sum(axis=1)
    if reduction == "mean":
        return np.where(count, np.trunc((A @ V) / np.maximum(count, 1)), 0).astype(np.int64)
    best = np.where(A, V[None, :], np.iinfo(np.int64).min).max(axis=1)
    return np.where(count > 0, best, 0)


CASES = {"EQ mean": (rasp.equals, "mean"), "LT max": (rasp.lt, "max")}
BARE: dict[str, Callable[[Any, Any], Any]] = {"EQ mean": lambda k, q: k == q, "LT max": lambda k, q: k < q}


@pytest.mark.parametrize("way", ["legato", "every pair in blocks", "numpy broadcast", "n^2 calls"])
@pytest.mark.parametrize("case", CASES)
def test_n_4096(benchmark: Any, case: str, way: str) -> None:
    predicate, reduction = CASES[case]
    benchmark.group = f"{case}, n = {N}"
    A = rasp.select(K, Q, predicate)
    run: dict[str, Callable[[], np.ndarray]] = {
        "legato": lambda: rasp.kqv(K, Q, V, predicate, reduction=reduction),
        "every pair in blocks": lambda: aggregate_selector(A, V, reduction, 0, route="formula"),
        "numpy broadcast": lambda: broadcast(BARE[case], reduction),
        "n^2 calls": lambda: by_calls(BARE[case], reduction),
    }
    wanted = broadcast(BARE[case], reduction)
    if way == "n^2 calls":
        assert np.array_equal(benchmark.pedantic(run[way], rounds=1), wanted)
    else:
        assert np.array_equal(run[way](), wanted)
        benchmark(run[way])


def wide(n: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(1)
    return tuple(rng.integers(-(10**9), 10**9, n) for _ in range(5))


def narrow(n: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(1)
    return tuple(rng.integers(0, 50, n) for _ in range(5))


LONG: dict[str, tuple[Any, Any, str]] = {
    "EQ, 50 symbols, mean": (narrow, rasp.equals, "mean"),
    "EQ, wide keys, mean": (wide, rasp.equals, "mean"),
    "LT, wide keys, mean": (wide, rasp.lt, "mean"),
    "LT, wide keys, max": (wide, rasp.lt, "max"),
    "LT and GT, wide keys, mean": (wide, (rasp.lt, rasp.gt), "mean"),
}


@pytest.mark.parametrize("n", [100_000, 1_000_000])
@pytest.mark.parametrize("case", LONG)
def test_long(benchmark: Any, case: str, n: int) -> None:
    make, predicate, reduction = LONG[case]
    k, q, v, c, d = make(n)
    benchmark.group = f"{case}, long"

    def selector(end: int) -> Any:
        if not isinstance(predicate, tuple):
            return rasp.select(k[:end], q[:end], predicate)
        return rasp.select(k[:end], q[:end], predicate[0]) & rasp.select(c[:end], d[:end], predicate[1])

    head = 2000  # causal: the beginning does not see the rest
    out = benchmark(lambda: rasp.aggr(selector(n), v, reduction=reduction))
    assert np.array_equal(out[:head], aggregate_selector(selector(head), v[:head], reduction, 0, route="formula"))


SELECTORS: dict[str, Callable[..., Any]] = {
    "true": lambda a, b, c, d: rasp.select(a, b, rasp.true),  # noqa: ARG005
    "EQ": lambda a, b, c, d: rasp.select(a, b, rasp.equals),  # noqa: ARG005
    "NEQ": lambda a, b, c, d: rasp.select(a, b, rasp.neq),  # noqa: ARG005
    "LT": lambda a, b, c, d: rasp.select(a, b, rasp.lt),  # noqa: ARG005
    "GEQ": lambda a, b, c, d: rasp.select(a, b, rasp.geq),  # noqa: ARG005
    "EQ and EQ": lambda a, b, c, d: rasp.select(a, b, rasp.equals) & rasp.select(c, d, rasp.equals),
    "EQ and LT": lambda a, b, c, d: rasp.select(a, b, rasp.equals) & rasp.select(c, d, rasp.lt),
    "LT and GT": lambda a, b, c, d: rasp.select(a, b, rasp.lt) & rasp.select(c, d, rasp.gt),
}


@pytest.mark.parametrize("make", [narrow, wide])
@pytest.mark.parametrize("name", SELECTORS)
def test_growth_exponent(name: str, make: Callable[[int], tuple[np.ndarray, ...]], request: Any) -> None:
    """From 10^5 to 10^6 tokens: medians of thread time, interleaved; every predicate with every reduction."""
    quick = request.config.getoption("benchmark_min_rounds") < 2  # how the benchmarks are kept alive, not measured
    rounds = 1 if quick else 7
    data = {n: make(n) for n in (100_000, 1_000_000)}
    for reduction in ("mean",) if quick else ("width", "mean", "max", "min"):
        seconds: dict[int, list[float]] = {n: [] for n in data}
        for _ in range(rounds):
            for n, (*keys, values) in data.items():
                selector = SELECTORS[name](*keys)
                start = time.thread_time()
                out = aggregate_selector(selector, values, reduction, 0)
                seconds[n].append(time.thread_time() - start)
                head = SELECTORS[name](*(x[:500] for x in keys))
                assert np.array_equal(out[:500], aggregate_selector(head, values[:500], reduction, 0, route="formula"))
        small, large = (float(np.median(seconds[n])) for n in data)
        exponent = math.log10(large / small)
        print(
            f"{name}, {make.__name__}, {reduction}: {small * 1e4:.1f} and {large * 1e3:.1f} ns a token, "
            f"exponent {exponent:.2f}"
        )


@pytest.mark.parametrize("case", ["equals", "lt", "equals & equals", "equals & lt", "lt & gt"])
def test_peak_memory(case: str) -> None:
    """Of a whole process, keys, queries, values, outputs included, beyond one of 1000 tokens; the mean needs most."""
    code = """
import sys
import numpy as np
from legato import rasp
n, case = int(sys.argv[1]), sys.argv[2].split(" & ")
rng = np.random.default_rng(0)
A = None
for name in case:
    k = rng.integers(-10**9, 10**9, n); q = np.roll(k, 1)
    term = rasp.select(k, q, getattr(rasp, name))
    A = term if A is None else A & term
rasp.aggr(A, q)
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""
    peak = [
        int(subprocess.run([sys.executable, "-c", code, str(n), case], capture_output=True, text=True, check=True)
            .stdout.split()[-1]) for n in (1000, 1_000_000)
    ]  # fmt: skip
    per_token = (peak[1] - peak[0]) * 1024 / 1e6
    print(f"{case}: {per_token:.0f} bytes a token")
    assert per_token < 100


@pytest.mark.parametrize("way", ["streaming", "recomputed, our engine", "recomputed, n^2 calls"])
@pytest.mark.parametrize("numbers", [100, 1000])
def test_generation(benchmark: Any, numbers: int, way: str) -> None:
    """The count program. Recomputation by calls is measured for 100 numbers only: it grows with the cube."""
    if way == "recomputed, n^2 calls" and numbers > 100:
        pytest.skip("hours at 1000 numbers; the ratio at 100 is a lower bound")
    benchmark.group = f"count, {numbers} numbers"
    program = tasks.count.program
    prompt = [5, 4 + numbers, tasks.START]
    wanted = tasks.count.oracle(prompt)

    def recompute(backend: str) -> list[int]:
        tokens = list(prompt)
        for _ in range(numbers + 1):
            tokens.append(int(program(tokens, backend=backend)[-1]))
        return tokens[3:]

    if way == "streaming":
        out = benchmark(lambda: program.generate(prompt, stop=tasks.END, max_new=numbers + 1))
    else:
        backend = "native" if "engine" in way else "numpy"
        out = benchmark.pedantic(recompute, args=(backend,), rounds=1)
    assert out == wanted


@pytest.mark.parametrize("name", [name for name in tasks.ALL if tasks.ALL[name].program is not None])
def test_generation_a_node(benchmark: Any, name: str) -> None:
    """500 tokens by each task's program, whatever they are; the whole evaluation says the same."""
    benchmark.group = "500 tokens generated, by program"
    program = tasks.ALL[name].program
    prompt, _ = tasks.ALL[name].sample(length=5, rows=1, seed=1).row(0)
    out = benchmark(lambda: program.generate(prompt, max_new=500))
    assert out == program([*prompt, *out])[len(prompt) - 1 : -1].tolist()
    seconds = []
    for _ in range(7):
        start = time.thread_time()
        program.generate(prompt, max_new=500)
        seconds.append(time.thread_time() - start)
    each = float(np.median(seconds)) / 500 / len(program.nodes)
    print(f"{name}: {each * 1e9:.0f} ns of thread time a token and node, {len(program.nodes)} nodes")


def test_generation_against_recomputation() -> None:
    """1000 numbers: the later half of the recomputations costs at least 500 times the one in the middle."""
    program = tasks.count.program
    prompt = [5, 1004, tasks.START]
    tokens = prompt + tasks.count.oracle(prompt)[:500]
    start = time.perf_counter()
    wanted = program(tokens, backend="numpy")
    one = time.perf_counter() - start
    assert np.array_equal(program(tokens), wanted)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        assert program.generate(prompt, stop=tasks.END, max_new=1001) == tasks.count.oracle(prompt)
        seconds.append(time.perf_counter() - start)
    ratio = 500 * one / float(np.median(seconds))
    streamed = float(np.median(seconds))
    print(f"recomputed once at 503 tokens: {one:.3f} s; 1001 streamed: {streamed * 1e3:.1f} ms; ratio > {ratio:.0f}")
    assert ratio > 1000


@pytest.mark.parametrize("name", tasks.ALL)
def test_task_generators(benchmark: Any, name: str) -> None:
    benchmark.group = "task generators, 1000 rows of length 20"
    batch = benchmark(lambda: tasks.ALL[name].sample(20, 1000, seed=1))
    if benchmark.stats is not None:
        print(f"{name}: {batch.lengths.sum() / benchmark.stats.stats.median / 1e6:.0f} million tokens a second")
    prompt, answer = batch.row(0)
    assert tasks.ALL[name].oracle(prompt) == answer


@pytest.mark.parametrize("way", ["table of a Python function", "compiled, every pair", "Python function, n^2 calls"])
def test_compiled_predicate(benchmark: Any, way: str) -> None:
    """A predicate without structure on keys that hardly repeat."""
    numba = pytest.importorskip("numba", reason="numba is what compiles the predicate")

    def near(k: int, q: int) -> bool:
        return abs(k - q) <= 1000

    n = 1500
    k, q, v = (x[:n] % 10**6 for x in wide(n)[:3])
    compiled = numba.cfunc("boolean(int64, int64)")(near)
    benchmark.group = f"|k - q| <= 1000, max, n = {n}, wide keys"
    run: dict[str, Callable[[], np.ndarray]] = {
        "table of a Python function": lambda: rasp.kqv(k, q, v, near, reduction="max"),
        "compiled, every pair": lambda: rasp.kqv(k, q, v, compiled, reduction="max"),
        "Python function, n^2 calls": lambda: rasp.kqv(k, q, v, near, reduction="max", backend="numpy"),
    }
    wanted = run["compiled, every pair"]()
    out = benchmark(run[way]) if way.startswith("compiled") else benchmark.pedantic(run[way], rounds=1)
    assert np.array_equal(out, wanted)


def test_compile_and_verify(benchmark: Any, request: Any) -> None:
    """The 18 library programs: weights, and all inputs while they are at most 2000, random ones beyond."""
    benchmark.group = "compile and verify, 18 programs"
    seconds: dict[str, float] = {}

    def run() -> dict[str, Any]:
        reports = {}
        for name, (program, vocab, max_len) in COMPILED.items():
            start = time.perf_counter()
            reports[name] = rasp.compile(program, vocab, max_len, verify=False).verify()
            seconds[name] = time.perf_counter() - start
        return reports

    reports = benchmark.pedantic(run, rounds=min(3, request.config.getoption("benchmark_min_rounds")))
    assert len(reports) == 18
    for name, report in reports.items():  # sort_unique: for distinct keys, by its name
        assert report.ok or (name == "sort_unique" and all(len(set(x)) < len(x) for x, _, _ in report.failures))
    print(", ".join(f"{name} {time * 1e3:.0f} ms" for name, time in seconds.items()))


@pytest.mark.parametrize("name", ["sort", "sort_freq", "shuffle_dyck2"])
def test_compile_six_symbols(benchmark: Any, name: str) -> None:
    """The widest of these programs over six symbols, up to length 4: all 1555 inputs are compared."""
    benchmark.group = "compile and verify, six symbols, length 4"
    vocabulary = list("(){}[]") if name == "shuffle_dyck2" else [1, 2, 3, 4, 5, 6]
    weights = benchmark.pedantic(lambda: rasp.compile(COMPILED[name][0], vocabulary, 4), rounds=1)
    assert weights.verification.ok
    assert weights.verification.exhaustive_length == 4


@pytest.mark.parametrize("way", ["legato", "NumPy by hand"])
@pytest.mark.parametrize("n", [5, 64])
def test_short_calls(benchmark: Any, n: int, way: str) -> None:
    """The count program on few tokens, and what one would write for it in NumPy."""
    x = np.array([3, 3 + n, tasks.START, *range(3, n)])[:n]
    program = tasks.count.program
    benchmark.group = f"count program, one call, {n} tokens"

    def by_hand() -> np.ndarray:
        place = np.arange(n)
        here = np.where(x == tasks.START, place, -999)
        start = np.where((x == tasks.START).cumsum() > 0, np.maximum.accumulate(here), -999)

        def at(shift: int) -> np.ndarray:
            found = start - shift
            return np.where(found >= 0, x[np.maximum(found, 0)], 0)

        return np.where(x == tasks.START, at(2), np.where(x == at(1), tasks.END, x + 1))

    assert np.array_equal(by_hand(), program(x))
    benchmark((lambda: program(x)) if way == "legato" else by_hand)


@pytest.mark.parametrize("n", [8, 64])
def test_short_single_calls(benchmark: Any, n: int) -> None:
    """One attention on few tokens."""
    benchmark.group = f"kqv, {n} tokens"
    k, q, v = (np.ascontiguousarray(x[:n]) for x in (K, Q, V))
    out = benchmark(lambda: rasp.kqv(k, q, v, rasp.equals, reduction="max"))
    assert np.array_equal(out, rasp.kqv(k, q, v, rasp.equals, reduction="max", backend="numpy"))


@pytest.mark.parametrize("way", ["streaming", "recomputed, our engine", "NumPy, the last row"])
def test_two_orderings_streamed(benchmark: Any, way: str) -> None:
    """One more token after 1000; per token in the streaming row: 1000 of them."""
    x = wide(1000)[0] % 10**6
    n = len(x)
    program = rasp.Program(
        lambda x: rasp.aggr(rasp.select(x, x // 3, rasp.gt) & rasp.select(x % 1009, x % 757, rasp.lt), x, 0, "max")
    )
    wanted = program._evaluate(x, None, 1, None)
    benchmark.group = "two orderings, max, n = 1000, a token"

    def last_row() -> int:
        A = (x > x[-1] // 3) & (x % 1009 < x[-1] % 757)
        return int(x[A].max()) if A.any() else 0

    if way == "streaming":

        def stream() -> list[int]:
            program.reset()
            return [program.step(token) for token in tokens]

        tokens = x.tolist()
        assert benchmark(stream) == wanted.tolist()
        seconds = []
        for _ in range(7):
            start = time.thread_time()
            stream()
            seconds.append(time.thread_time() - start)
        print(f"two orderings streamed: {np.median(seconds) / n * 1e6:.2f} us of thread time a token")
    elif way == "NumPy, the last row":
        assert benchmark(last_row) == wanted[-1]
    else:
        assert benchmark(lambda: program._evaluate(x, None, 1, None))[-1] == wanted[-1]


@pytest.mark.parametrize("way", ["legato", "NumPy broadcasting"])
def test_predicate_of_arithmetic(benchmark: Any, way: str) -> None:
    """A Python predicate that is followed: two orderings instead of n^2 calls."""
    n = 1500
    k, q, v = (x[:n] % 10**6 for x in wide(n)[:3])
    benchmark.group = f"|k - q| < 1000, max, n = {n}, wide keys, by a lambda"

    def by_broadcasting() -> np.ndarray:
        A = (np.abs(k[None, :] - q[:, None]) < 1000) & np.tri(n, dtype=bool)
        return np.where(A.any(axis=1), np.where(A, v[None, :], -(2**63)).max(axis=1), 0)

    assert np.array_equal(by_broadcasting(), rasp.kqv(k, q, v, lambda a, b: abs(a - b) < 1000, reduction="max"))
    run = {
        "legato": lambda: rasp.kqv(k, q, v, lambda a, b: abs(a - b) < 1000, reduction="max"),
        "NumPy broadcasting": by_broadcasting,
    }
    benchmark(run[way])
