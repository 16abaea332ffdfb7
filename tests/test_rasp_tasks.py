"""Tasks: generated instances are right, programs solve them, token by token as well."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from legato import rasp
from legato.errors import ArgumentError
from legato.rasp import tasks
from legato.rasp.interpolation import and_counter_example, degree_profile
from test_rasp_core import vectors

LENGTHS = {"count": 40, "parity_scratchpad": 25, "addition_forward": 12, "addition_reverse": 12}


@pytest.mark.parametrize("name", tasks.ALL)
def test_instances_are_the_oracle(name: str) -> None:
    task = tasks.ALL[name]
    for length in (1, 2, 5, 20):
        batch = task.sample(length, 40, seed=length)
        assert (batch.lengths <= batch.tokens.shape[1]).all()
        for at in range(40):
            prompt, answer = batch.row(at)
            assert answer == task.oracle(prompt)
        assert np.array_equal(task.sample(length, 40, seed=length).tokens, batch.tokens)


@pytest.mark.parametrize("name", tasks.ALL)
def test_programs_solve_their_task(name: str) -> None:
    task = tasks.ALL[name]
    for length in (1, 2, 3, LENGTHS.get(name, 30)):
        batch = task.sample(length, 12, seed=7 * length)
        outputs = task.program.batch(batch.tokens, batch.lengths)
        for at in range(12):
            prompt, answer = batch.row(at)
            assert task.program.generate(prompt, stop=task.end, max_new=len(answer) + 3) == answer
            start = len(prompt) - 1
            assert outputs[at, start : start + len(answer)].tolist() == answer
            task.program.reset()
            assert [task.program.step(t) for t in prompt + answer] == task.program(prompt + answer).tolist()


@pytest.mark.parametrize("carry", ["standard", "balanced", "hard"])
@pytest.mark.parametrize("task", [tasks.addition_forward, tasks.addition_reverse])
def test_carries(task: tasks.Task, carry: str) -> None:
    batch = task.sample(8, 60, seed=1, carry=carry)
    for at in range(60):
        prompt, answer = batch.row(at)
        assert task.oracle(prompt) == answer
        assert task.program.generate(prompt, stop=task.end, max_new=50) == answer
        if carry == "hard":
            assert task.oracle(prompt)[:2] == answer[:2]
            digits = [t for t in (answer if task is tasks.addition_forward else answer[-3:]) if t >= 0]
            assert digits[0] == 1  # the chain reaches the leading zero


def count_from_start(x: Any) -> Any:
    """START first, start, end, then the numbers: the other format of count; the latest START begins the example."""
    here = rasp.indices(x)
    begin = rasp.lasts(x, rasp.full(x, tasks.START))
    first, last = rasp.index_select(x, begin + 1), rasp.index_select(x, begin + 2)
    return rasp.where(here == begin + 2, first, rasp.where(x == last, rasp.full(x, tasks.END), x + 1))


def test_peer_programs() -> None:
    """count and reverse addition at every position; copy, AND, sort and parity are compared elsewhere."""
    seen = 0
    counting = rasp.Program(count_from_start)
    for case in vectors("np_prog"):
        x, out = case["args"]["x"], case["out"]
        if case["op"] == "next_tok_addition_reverse":
            assert tasks.addition_reverse.program(x).tolist() == out
            seen += 1
        if case["op"].startswith("count"):
            assert counting(x).tolist() == out
            seen += 1
    assert seen == 60


def test_legality_agrees_with_the_paper() -> None:
    for name in ("mode", "copy_unique", "sort", "count", "parity_scratchpad", "addition_reverse", "addition_forward"):
        report = tasks.ALL[name].program.check()
        assert report.legal, (name, report.problems)
    for name in ("copy_repeated", "parity"):
        assert not tasks.ALL[name].program.check().legal
    forward, reverse = (tasks.ALL[n].program.check() for n in ("addition_forward", "addition_reverse"))
    assert forward.depth > reverse.depth


def test_task_errors() -> None:
    bare = tasks.Task("bare", None, False, tasks.sort.oracle, tasks.sort.make)
    with pytest.raises(ArgumentError, match="bare: this task comes without a program"):
        _ = bare.program
    with pytest.raises(ArgumentError, match="expected length >= 1"):
        tasks.sort.sample(0, 3)
    with pytest.raises(ArgumentError, match="the size of the alphabet"):
        tasks.sort.sample(200, 3)
    with pytest.raises(ArgumentError, match="carry"):
        tasks.addition_forward.sample(3, 3, carry="many")


def test_counter_example_is_exact() -> None:
    found = and_counter_example()
    assert found.wrong_leading_ones == Fraction(31, 32)
    assert found.wrong_uniform == Fraction(31, 2**20)
    assert found.program_wrong == 0
    assert found.interpolator_profile[::-1] < found.program_profile[::-1]
    # by the transform itself, for few bits
    bits, variables = 5, 3
    cube = (np.arange(2**bits)[:, None] >> np.arange(bits)) & 1
    f = cube[:, :variables].all(axis=1).astype(float)
    weights = [0.0] * (bits + 1)
    for subset in range(2**bits):
        chosen = (subset >> np.arange(bits)) & 1
        weights[chosen.sum()] += ((f * (1 - 2 * ((cube * chosen).sum(axis=1) % 2))).mean()) ** 2
    assert [float(w) for w in degree_profile(bits, variables)] == pytest.approx(weights, abs=1e-15)


def test_names() -> None:
    assert rasp.tasks is tasks
