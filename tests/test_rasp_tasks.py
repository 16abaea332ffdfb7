"""Tasks: generated instances are right, programs solve them, token by token as well."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from legato import rasp
from legato.errors import ArgumentError
from legato.rasp import datasets, tasks
from legato.rasp.interpolation import and_counter_example, degree_profile, trained_counter_example
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


@pytest.mark.parametrize("name", ["addition_forward", "addition_reverse", "parity_scratchpad"])
def test_hints_begin_anywhere(name: str) -> None:
    """In a fixed supply, so that short instances show the hints of long ones; programs and oracles go along."""
    task = tasks.ALL[name]
    batch = task.sample(4, 200, seed=3, hints=9)
    first = batch.tokens[:, 1 if name.startswith("addition") else 0]
    places = 5 if name.startswith("addition") else 6
    assert len(set(first.tolist())) == places
    for at in range(40):
        prompt, answer = batch.row(at)
        assert task.oracle(prompt) == answer
        assert task.program.generate(prompt, stop=task.end, max_new=len(answer) + 3) == answer
    with pytest.raises(ArgumentError, match="hints: expected at least the"):
        task.sample(9, 3, hints=8)


@pytest.mark.parametrize("name", ["addition_forward", "addition_reverse"])
def test_plain_addition_has_the_digits_of_the_hinted(name: str) -> None:
    hinted, plain = tasks.ALL[name], tasks.ALL[f"{name}_plain"]
    rows = zip(*(task.sample(5, 30, seed=2, carry="balanced").tokens.tolist() for task in (hinted, plain)), strict=True)
    for with_hints, without in rows:
        assert [token for token in with_hints if token > tasks.FIRST_HINT] == without
    assert not plain.program.check().legal


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
    with pytest.raises(ArgumentError, match="sort: length: expected a whole number of at least 1, got 0"):
        tasks.sort.sample(0, 3)
    with pytest.raises(ArgumentError, match="sort: hints: expected an option out of alphabet"):
        tasks.sort.sample(3, 3, hints=4)
    with pytest.raises(ArgumentError, match="sort: alphabet: expected a whole number of at least 1, got 'a'"):
        tasks.sort.sample(3, 3, alphabet="a")
    with pytest.raises(ArgumentError, match="seed: expected at least one whole number, none of them negative"):
        tasks.sort.sample(3, 3, seed=-1)
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


def test_trained_counter_example() -> None:
    """A network that starts from small weights errs on the leading ones; table and verdict follow from the numbers."""
    found = trained_counter_example(bits=6, fixed=2, seeds=(1, 2), width=32, steps=800)
    assert found.exact == and_counter_example(6, 2)
    assert found.wrong_trained == (0.0, 0.0)
    assert all(0 <= share <= 0.75 for share in found.wrong_leading_ones)
    again = trained_counter_example(bits=6, fixed=2, seeds=(2,), width=32, steps=800)
    assert again.wrong_uniform == found.wrong_uniform[1:]
    table = found.table().splitlines()
    assert table[2] == "| interpolator, exact | 0 | 75 | 4.69 | 100 |"
    assert table[-1] == "| RASP-L program | 0 | 0 | 0 | 95.3 |"
    assert len(table) == 6
    made = dataclasses.replace(found, wrong_leading_ones=(0.75, 0.5), as_interpolator=(1.0, 0.9))
    assert made.verdict() == (
        "Of 2 networks that learned the inputs of the training, 1 is wrong on as many inputs with leading ones as the "
        "interpolator; 1 is the interpolator on every input."
    )
    untrained = dataclasses.replace(found, wrong_trained=(0.5, 0.1))
    assert untrained.verdict() == "No network learned the inputs of the training, so nothing follows."
    for bits, fixed, message in ((17, 5, "bits: expected at most 16"), (4, 4, "fixed: expected 1 to 3, got 4")):
        with pytest.raises(ArgumentError, match=message):
            trained_counter_example(bits, fixed)
    with pytest.raises(ArgumentError, match="seeds: expected at least one whole number"):
        trained_counter_example(4, 2, seeds=())
    with pytest.raises(ArgumentError, match="scale: expected a finite number above 0"):
        trained_counter_example(4, 2, scale=-1)


def test_names() -> None:
    assert rasp.tasks is tasks


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", tasks.ALL)
def test_data_sets(name: str, tmp_path: Path) -> None:
    """What is written is what the task says, in both forms, and the same with one seed."""
    task = tasks.ALL[name]
    path = datasets.write(tmp_path / "a.jsonl", task, range(1, 6), 40, seed=3)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) == 40
    assert {row["length"] for row in rows} == {1, 2, 3, 4, 5}
    assert all(row["answer"] == task.oracle(row["prompt"]) for row in rows)
    assert datasets.write(tmp_path / "b.jsonl", task, range(1, 6), 40, seed=3).read_bytes() == path.read_bytes()
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow writes Parquet")
    found = pq.read_table(datasets.write(tmp_path / "a.parquet", task, range(1, 6), 40, seed=3)).to_pylist()
    assert found == rows


def test_packed_contexts(tmp_path: Path) -> None:
    """Every instance stands in one context, whole, beside others, with nothing between."""
    path = datasets.write(tmp_path / "a.jsonl", tasks.copy_unique, range(1, 9), 60, context=48)
    single = datasets.write(tmp_path / "b.jsonl", tasks.copy_unique, range(1, 9), 60)
    wanted = sorted((row["prompt"], row["answer"]) for row in map(json.loads, single.read_text().splitlines()))
    found = []
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        assert len(row["tokens"]) == len(row["document"]) == len(row["answer"]) == 48
        for document in range(max(row["document"]) + 1):
            tokens = [
                (t, a)
                for t, d, a in zip(*(row[k] for k in ("tokens", "document", "answer")), strict=True)
                if d == document
            ]
            found.append(([t for t, a in tokens if not a], [t for t, a in tokens if a]))
        used = sum(d >= 0 for d in row["document"])
        assert row["document"] == sorted(row["document"][:used]) + [-1] * (48 - used)
    assert sorted(found) == wanted
    assert sum(d >= 0 for row in rows for d in row["document"]) > 0.8 * 48 * len(rows)
    with pytest.raises(ArgumentError, match="context: expected at least the"):
        datasets.write(tmp_path / "c.jsonl", tasks.copy_unique, [30], 1, context=48)
    with pytest.raises(ArgumentError, match=r"expected \.jsonl or \.parquet"):
        datasets.write(tmp_path / "c.csv", tasks.copy_unique, [3], 1)


@pytest.mark.parametrize("name", tasks.ALL)
def test_no_instances_are_an_empty_batch(name: str, tmp_path: Path) -> None:
    """So is a length that no row of a data set was drawn for."""
    task = tasks.ALL[name]
    assert len(task.sample(3, 0).tokens) == 0
    path = datasets.write(tmp_path / "a.jsonl", task, [3, 4, 5], 1)
    (row,) = map(json.loads, path.read_text().splitlines())
    assert task.oracle(row["prompt"]) == row["answer"]


def test_attention_of_one_key_and_counting() -> None:
    x = np.random.default_rng(5).integers(0, 4, 60)
    bits = rasp.shift_right(x, 1) % 2
    for A in (rasp.select(x, x, rasp.lt), rasp.select(x, 2, rasp.equals)):
        chosen = [np.flatnonzero(row) for row in np.asarray(A)]
        assert rasp.rightmost(A, x, -1).tolist() == [x[c[-1]] if len(c) else -1 for c in chosen]
        assert rasp.leftmost(A, x, -1).tolist() == [x[c[0]] if len(c) else -1 for c in chosen]
    wanted = 3 * np.cumsum(x == 1) - 2 * np.cumsum(bits == 1) >= 4
    assert np.array_equal(rasp.counts_reach([x == 1, bits], [3, -2], 4), wanted)
    traced = rasp.Program(
        lambda t: (
            rasp.counts_reach([t == 1, rasp.shift_right(t, 1) % 2], [3, -2], 4)
            + 2 * rasp.rightmost(rasp.select(t, t, rasp.lt), t, -1)
        )
    )
    assert np.array_equal(traced(x), wanted + 2 * rasp.rightmost(rasp.select(x, x, rasp.lt), x, -1))
    with pytest.raises(ArgumentError, match="one coefficient for each"):
        rasp.counts_reach([x], [1, 2])
