"""The study of length generalization: a smoke run, its files, its refusals."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from legato import cli
from legato.errors import ArgumentError, DependencyError
from legato.rasp import study, tasks

TINY = study.Settings(
    train_length=4, multiples=(0.5, 1.5), steps=3, rows=4, test_rows=5, width=16, layers=1, heads=2, seeds=(1, 2)
)


def test_smoke_of_every_task(tmp_path: Path) -> None:
    """Three steps a task: the network is as untrained as it looks, the programs are right at every length."""
    pytest.importorskip("torch", reason="torch is in the study extra")
    pytest.importorskip("matplotlib", reason="matplotlib is in the study extra")
    lines: list[str] = []
    found = study.run(dict.fromkeys(tasks.ALL, TINY), lines.append)
    assert [curve.task for curve in found.curves] == list(tasks.ALL)
    for curve in found.curves:
        assert curve.settings.test_lengths == (2, 6)
        assert curve.program_accuracy == (1.0, 1.0)
        assert curve.program_length is not None
        assert len(curve.trainings) == 2
        for training in curve.trainings:
            assert 0 < training.loss < 20
            assert len(training.accuracy) == len(training.token_accuracy) == 2
            assert 0 < training.data_share < 1
    assert len(lines) == 2 * 3 * len(tasks.ALL)
    assert found.verdict().startswith("As the conjecture expects: ")
    document, picture, page = found.save(tmp_path / "new")
    assert page.read_text() == f"{found.table()}\n\n{found.verdict()} {found.cost()}\n"
    written = json.loads(document.read_text())
    assert written["interpolation"] == {
        "wrong_uniform": "31/1048576", "wrong_leading_ones": "31/32", "program_wrong": "0"
    }  # fmt: skip
    assert written["curves"][0]["settings"]["steps"] == 3
    assert all(name in picture.read_text() for name in tasks.ALL)
    scaled = study.run({"count": dataclasses.replace(TINY, scaled=True)}).curves[0]
    assert [t.loss for t in scaled.trainings] != [t.loss for t in found.curves[0].trainings]
    again = study.run({"count": TINY}).curves[0]
    assert [(t.loss, t.accuracy) for t in again.trainings] == [(t.loss, t.accuracy) for t in found.curves[0].trainings]


def _study(**accuracies: list[tuple[float, ...]]) -> study.Study:
    """A study of tasks whose networks gave these shares of right answers at 0.5, 1, 1.5 and 2 times the length."""
    curves = [
        study.Curve(
            name,
            tasks.ALL[name].generalizes,
            7,
            study.Settings(),
            tuple(study.Training(found, found, 0.5, 60.0, 0.1) for found in seeds),
            (1.0, 1.0, 1.0, 1.0),
        )
        for name, seeds in accuracies.items()
    ]
    return study.Study(tuple(curves), "a machine")


def test_a_supply_is_what_instances_draw_from() -> None:
    supplied = dataclasses.replace(TINY, train_length=20, supply=7)
    assert study._Instances(tasks.ALL["mode"], supplied).vocabulary == 7 + 3  # its symbols and three marks


def test_verdict() -> None:
    """It follows from the figures: what agrees, what does not, what says nothing, and which contrasts are weak."""
    found = _study(
        sort=[(1.0, 1.0, 1.0, 0.99), (1.0, 1.0, 0.9, 0.8), (1.0, 1.0, 1.0, 0.7)],
        count=[(1.0, 1.0, 0.4, 0.1)] * 3,
        mode=[(1.0, 0.5, 0.4, 0.1)] * 3,
        copy_repeated=[(1.0, 1.0, 0.4, 0.0)] * 3,
        parity=[(1.0, 1.0, 0.6, 0.51)] * 3,  # chance
        addition_reverse=[(1.0, 1.0, 0.9, 0.6)] * 3,
        copy_unique=[(1.0, 1.0, 1.0, 0.9), (1.0, 1.0, 1.0, 0.9), (1.0, 1.0, 1.0, 0.1)],
    )
    assert found.verdict() == (
        "As the conjecture expects: sort, copy_repeated, parity, addition_reverse, copy_unique; otherwise: count; "
        "not learned at the trained length, which says nothing of longer ones: mode (the border is halfway from chance "
        "to all answers right; 3 seeds). Weak contrasts, near that border or with seeds on both sides of it: "
        "addition_reverse, copy_unique."
    )
    assert found.table().splitlines()[:3] == [
        "| task | program | trained to | 0.5x | 1x | 1.5x | 2x | tokens | own program | seeds | CPU s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| sort | RASP-L, 7 | 20 | 100 | 100 | 100 (90-100) | 80 (70-99) | 80 (70-99) | 100 | 3 | 180 |",
    ]
    assert found.cost() == "21 trainings, 21.0 CPU minutes, 10 % of them for instances; a machine."


def test_a_study_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is in the study extra")
    kept = tmp_path / "new" / "trainings.jsonl"

    def stop(line: str) -> None:
        if line.startswith("count, seed 2: step 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.run({"count": TINY}, stop, kept)
    lines: list[str] = []
    found = study.run({"count": TINY}, lines.append, kept)
    assert lines == ["count, seed 1: made before", *(f"count, seed 2: {line.partition(': ')[2]}" for line in lines[1:])]
    assert len(lines) == 4
    assert [t.accuracy for t in found.curves[0].trainings] == [
        t.accuracy for t in study.run({"count": TINY}).curves[0].trainings
    ]
    assert len(kept.read_text().splitlines()) == 2
    other: list[str] = []
    study.run({"count": dataclasses.replace(TINY, steps=2)}, other.append, kept)  # other settings: another training
    assert len(other) == 4
    damaged = {**json.loads(kept.read_text().splitlines()[0]), "training": {"loss": 1}}
    kept.write_text(f'{json.dumps(damaged)}\n{{"task": "count"}}\n[1]\n')
    study.run({"count": TINY}, kept=kept)  # what is no training is left as it is
    assert kept.read_text().splitlines()[1:3] == ['{"task": "count"}', "[1]"]


def test_a_short_training_learns() -> None:
    """Parity of one bit is a copy: a hundred steps are enough."""
    pytest.importorskip("torch", reason="torch is in the study extra")
    settings = study.Settings(
        train_length=1, multiples=(1,), steps=100, rows=8, width=16, heads=2, rate=0.02, seeds=(1,)
    )
    (training,) = study.run({"parity": settings}).curves[0].trainings
    assert training.accuracy == (1.0,)
    assert training.loss < 0.3


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch", reason="torch is in the study extra")
    pytest.importorskip("matplotlib", reason="matplotlib is in the study extra")
    assert cli.main(["rasp", "study", "--tasks", "sort", "--steps", "2", "--train-length", "3", "--multiples", "0.5",
                     "--output", str(tmp_path)]) == 0  # fmt: skip
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("| task | program | trained to | 0.5x | tokens |")
    assert out[2].startswith("| sort | RASP-L, ")
    assert out[3].startswith("As the conjecture expects: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "study.json", "study.md", "study.svg", "trainings.jsonl"
    ]  # fmt: skip
    assert cli.main(["rasp", "study", "--tasks", "mode", "--steps", "2", "--train-length", "3", "--multiples", "1",
                     "--seeds", "4", "--heads", "2", "--supply", "9", "--scaled",
                     "--output", str(tmp_path)]) == 0  # fmt: skip
    made = json.loads((tmp_path / "study.json").read_text())["curves"][0]["settings"]
    assert (made["heads"], made["supply"], made["scaled"]) == (2, 9, True)
    assert cli.main(["rasp", "study", "--tasks", "sorting"]) == 2
    assert "expected some of count, mode" in capsys.readouterr().err


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(DependencyError, match="the study needs torch"):
        study.run({"count": TINY})
    monkeypatch.undo()
    pytest.importorskip("torch", reason="torch is in the study extra")
    for settings, message in (
        (study.Settings(steps=0), "steps: expected a whole number of at least 1, got 0"),
        (study.Settings(width=11, heads=2), "width: expected a multiple of heads = 2, got 11"),
        (study.Settings(train_length="a"), "train_length: expected a whole number of at least 1, got 'a'"),
        (study.Settings(multiples=()), "multiples: expected at least one"),
        (study.Settings(multiples=(1, float("nan"))), "multiples: expected a finite number above 0 and at most 100"),
        (study.Settings(seeds=(1, -2)), "seeds: expected at least one whole number, none of them negative"),
        (study.Settings(supply=0), "supply: expected a whole number of at least 1, got 0"),
        (study.Settings(train_length=8, multiples=(2,), supply=9), "count: expected length at most 10, got 11"),
        (study.Settings(seeds=()), "seeds: expected at least one"),
    ):
        with pytest.raises(ArgumentError, match=message):
            study.run({"count": settings})
