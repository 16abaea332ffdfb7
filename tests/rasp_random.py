"""Random RASP-L programs, run by every route and compared with the n x n reference.

    python tests/rasp_random.py 100000 --seed 7

runs that many, and prints the first program that disagrees; --first goes on where a run was stopped. A program that the
reference refuses must be refused by every route.
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
                how = one_of(["width", "mean", "mean floor", "max", "min", "sum"])
                if how == "width":
                    pool.append(rasp.sel_width(A))
                else:
                    reduction, *rounding = how.split()
                    pool.append(
                        rasp.aggr(A, one_of(pool), -3, reduction, rounding=rounding[0] if rounding else "truncate")
                    )
        return pool[-1]

    return function


def _outcome(call: Callable[[], Any]) -> list[int] | type[Exception]:
    """Return the values, or the class of the error."""
    try:
        return np.asarray(call()).tolist()  # type: ignore[no-any-return]
    except (ArgumentError, NumericalError) as error:
        return type(error)


def check(rng: np.random.Generator, folder: Path) -> bool:
    """Run one random program by every route; whether it could be saved. Raises AssertionError where two disagree."""
    function = random_function(rng)
    program = rasp.Program(function)
    tokens = rng.integers(-2, 7, (3, int(rng.integers(0, 24))))
    lengths = rng.integers(0, tokens.shape[1] + 1, 3)
    wanted = [_outcome(lambda row=row: program(row, backend="numpy")) for row in tokens]
    for row, want in zip(tokens, wanted, strict=True):
        program.reset()
        ways = {
            "whole": lambda row=row: program(row),
            "by arrays": lambda row=row: program._evaluate(row.copy(), None, 1, None),
            "streamed": lambda row=row: [program.step(token) for token in row],
            "eager": lambda row=row: np.broadcast_to(function(row), row.shape),
        }
        for way, call in ways.items():
            found = _outcome(call)
            assert found == want, f"{way}: {found} for {want} on {row.tolist()}"
    if any(isinstance(want, type) for want in wanted):
        return False
    for want, end, row in zip(wanted, lengths, program.batch(tokens, lengths), strict=True):
        assert row[:end].tolist() == want[:end], "batched"  # type: ignore[index]
        assert not row[end:].any(), "beyond the length"
    try:
        again = rasp.Program.load(program.save(folder / "program.json"))
    except ArgumentError:  # a Python function
        return False
    assert again(tokens[0]).tolist() == wanted[0], "loaded"
    return True


def run(count: int, seed: int, first: int = 0) -> None:
    """Check `count` programs."""
    start = time.perf_counter()
    saved = 0
    with tempfile.TemporaryDirectory() as folder:
        for at in range(first, first + count):
            try:
                saved += check(np.random.default_rng([seed, at]), Path(folder))
            except Exception as error:
                program = rasp.Program(random_function(np.random.default_rng([seed, at])))
                raise AssertionError(f"program {at} of seed {seed}: {error}\n{program.show()}") from error
    print(
        f"{count} programs of seed {seed} from {first} on agree, {saved} of them saved: "
        f"{time.perf_counter() - start:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first program")
    options = parser.parse_args()
    run(options.count, options.seed, options.first)
