"""Random RASP-L programs, run by every route and compared with the n x n reference.

    python tests/rasp_random.py 100000 --seed 7

runs that many, and prints the first program that disagrees.
"""

from __future__ import annotations

import argparse
import operator
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from legato import rasp
from legato.errors import ArgumentError, NumericalError

PREDICATES: list[Callable[[Any, Any], Any]] = [
    rasp.equals, rasp.neq, rasp.lt, rasp.leq, rasp.gt, rasp.geq, rasp.true, rasp.false,
    lambda k, q: k == q,
    lambda k, q: k + 1 < q,
    lambda k, q: abs(k - q) <= 2,
    lambda k, q: abs(k - q) > 2,
    lambda k, q: abs(2 * k - q + 1) == 3,
    lambda k, q: k > 0 and q <= 3,
    lambda k, q: q - 2 <= k < q + 3,
    lambda k, q: (k if k > q else q) > 4,
    lambda k, q: not (k == q or k == 2),
    lambda k, q: (k % 3 == q % 3) != (k < 2),
    lambda k, q: k * q > 4,
    lambda k, q: bool(k & q),
]  # fmt: skip
UNARY = [operator.neg, abs, lambda a: a // 2, lambda a: a % 3, lambda a: a * 2 - 1, lambda a: 7 if a == 2 else a]
BINARY = [operator.add, operator.sub, operator.mul, operator.eq, operator.lt, operator.ge, lambda a, b: a - 2 * b]
LIBRARY = [
    lambda x, y: rasp.shift_right(x + y, 1, default=-1),
    lambda x, y: rasp.num_prev(x, y),
    lambda x, y: rasp.cumsum(x > y),
    lambda x, y: rasp.induct(x, y, 1),
    lambda x, y: rasp.index_select(x, y),
    lambda x, y: rasp.where(x > y, x, y),
    lambda x, y: rasp.argmax(x) + y,
]  # fmt: skip


def random_function(rng: np.random.Generator) -> Callable[[Any], Any]:
    """Return a function of the tokens with one to six steps; the same on arrays and on symbols."""
    seed = int(rng.integers(2**62))

    def function(x: Any) -> Any:
        draw = np.random.default_rng(seed)
        pool = [x, rasp.indices(x), rasp.full(x, int(draw.integers(-2, 4)))]

        def one_of(things: list[Any]) -> Any:
            return things[int(draw.integers(len(things)))]

        def selector() -> Any:
            return rasp.select(one_of(pool), one_of(pool), one_of(PREDICATES))

        for _ in range(int(draw.integers(1, 7))):
            kind = draw.random()
            if kind < 0.2:
                pool.append(rasp.tok_map(one_of(pool), one_of(UNARY)))
            elif kind < 0.4:
                pool.append(rasp.seq_map(one_of(pool), one_of(pool), one_of(BINARY)))
            elif kind < 0.55:
                pool.append(one_of(LIBRARY)(one_of(pool), one_of(pool)))
            else:
                A = selector()
                for _ in range(int(draw.integers(0, 3))):
                    way = draw.random()
                    A = A & selector() if way < 0.45 else A | selector() if way < 0.8 else ~A
                how = one_of(["width", "mean", "mean floor", "max", "min"])
                if how == "width":
                    pool.append(rasp.sel_width(A))
                else:
                    reduction, *rounding = how.split()
                    pool.append(
                        rasp.aggr(A, one_of(pool), -3, reduction, rounding=rounding[0] if rounding else "truncate")
                    )
        return pool[-1]

    return function


def check(rng: np.random.Generator, folder: Path) -> bool:
    """Run one random program by every route; whether it could be saved. Raises AssertionError where two disagree."""
    function = random_function(rng)
    program = rasp.Program(function)
    tokens = rng.integers(-2, 7, (3, int(rng.integers(0, 24))))
    lengths = rng.integers(0, tokens.shape[1] + 1, 3)
    try:
        wanted = [program(row, backend="numpy") for row in tokens]
    except (ArgumentError, NumericalError):
        return False
    for row, want in zip(tokens, wanted, strict=True):
        assert np.array_equal(program(row), want), "whole"
        assert np.array_equal(program._evaluate(row.copy(), None, 1, None), want), "by arrays"
        program.reset()
        assert [program.step(token) for token in row] == want.tolist(), "streamed"
        assert np.array_equal(np.broadcast_to(function(row), row.shape), want), "eager"
    for row, end, found in zip(wanted, lengths, program.batch(tokens, lengths), strict=True):
        assert np.array_equal(found[:end], row[:end]), "batched"
        assert not found[end:].any(), "beyond the length"
    try:
        again = rasp.Program.load(program.save(folder / "program.json"))
    except ArgumentError:  # a Python function
        return False
    assert np.array_equal(again(tokens[0]), wanted[0]), "loaded"
    return True


def run(count: int, seed: int) -> None:
    """Check `count` programs."""
    start = time.perf_counter()
    saved = 0
    with tempfile.TemporaryDirectory() as folder:
        for at in range(count):
            try:
                saved += check(np.random.default_rng([seed, at]), Path(folder))
            except Exception as error:
                program = rasp.Program(random_function(np.random.default_rng([seed, at])))
                raise AssertionError(f"program {at} of seed {seed}: {error}\n{program.show()}") from error
    print(f"{count} programs of seed {seed} agree, {saved} of them saved: {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    run(options.count, options.seed)
