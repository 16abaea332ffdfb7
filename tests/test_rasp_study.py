"""The study of length generalization: a smoke run, its files, its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from legato import cli
from legato.errors import ArgumentError, DependencyError
from legato.rasp import study, tasks

TINY = study.Settings(
    train_length=4, test_lengths=(2, 6), steps=3, rows=4, test_rows=5, width=16, layers=1, heads=2, seeds=(1, 2)
)


def test_smoke_of_every_task(tmp_path: Path) -> None:
    """Three steps a task: the network is as untrained as it looks, the programs are right at every length."""
    pytest.importorskip("torch", reason="torch is in the study extra")
    pytest.importorskip("matplotlib", reason="matplotlib is in the study extra")
    lines: list[str] = []
    found = study.run(tuple(tasks.ALL), TINY, lines.append)
    assert [curve.task for curve in found.curves] == list(tasks.ALL)
    for curve in found.curves:
        assert set(curve.accuracy) == {2, 6}
        assert curve.program_accuracy == {2: 1.0, 6: 1.0}
        assert curve.program_length is not None
        assert all(0 < loss < 20 for loss in curve.loss)
        assert all(len(found) == 2 for found in (*curve.accuracy.values(), *curve.token_accuracy.values()))
        assert 0 < curve.data_share < 1
    assert len(lines) == 2 * 3 * len(tasks.ALL)
    assert found.verdict().startswith("At length 6, trained up to 4, as the conjecture expects: ")
    document, picture = found.save(tmp_path / "new")
    written = json.loads(document.read_text())
    assert written["interpolation"] == {
        "wrong_uniform": "31/1048576", "wrong_leading_ones": "31/32", "program_wrong": "0"
    }  # fmt: skip
    assert written["settings"]["steps"] == 3
    assert all(name in picture.read_text() for name in tasks.ALL)
    again = study.run(("count",), TINY)
    assert (again.curves[0].loss, again.curves[0].accuracy) == (found.curves[0].loss, found.curves[0].accuracy)


def test_a_short_training_learns() -> None:
    """Parity of one bit is a copy: a hundred steps are enough."""
    pytest.importorskip("torch", reason="torch is in the study extra")
    settings = study.Settings(
        train_length=1, test_lengths=(1,), steps=100, rows=8, width=16, heads=2, rate=0.02, seeds=(1,)
    )
    found = study.run(("parity",), settings)
    assert found.curves[0].accuracy == {1: [1.0]}
    assert found.curves[0].loss[0] < 0.3


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch", reason="torch is in the study extra")
    pytest.importorskip("matplotlib", reason="matplotlib is in the study extra")
    assert cli.main(["rasp", "study", "--tasks", "sort", "--steps", "2", "--train-length", "3", "--test-lengths", "2",
                     "--output", str(tmp_path)]) == 0  # fmt: skip
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == ["task", "program", "2"]
    assert out[1].split()[:2] == ["sort", "RASP-L,"]
    assert out[2].startswith("At length 2, trained up to 3")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study.json", "study.svg"]
    assert cli.main(["rasp", "study", "--tasks", "sorting"]) == 2
    assert "expected some of count, mode" in capsys.readouterr().err


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(DependencyError, match="the study needs torch"):
        study.run(("count",), TINY)
    monkeypatch.undo()
    pytest.importorskip("torch", reason="torch is in the study extra")
    for settings, message in (
        (study.Settings(steps=0), "steps: expected at least 1, got 0"),
        (study.Settings(width=11), "width: expected a multiple of heads = 2, got 11"),
        (study.Settings(test_lengths=()), "test_lengths: expected lengths of at least 1"),
        (study.Settings(seeds=()), "seeds: expected at least one"),
    ):
        with pytest.raises(ArgumentError, match=message):
            study.run(("count",), settings)
