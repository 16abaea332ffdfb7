"""`legato bench`: every row is the same work as its peers', and two runs are judged by their spread."""

from __future__ import annotations

import copy
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from legato import bench
from legato.cli import bench as bench_command
from legato.cli import main
from legato.errors import ArgumentError, InputError


def agree(ours: Any, theirs: Any) -> None:
    assert ours == theirs


@pytest.mark.slow
@pytest.mark.parametrize("family", bench.FAMILIES)
def test_every_row_agrees_with_its_peers(family: str) -> None:
    """The answers are asserted by the run itself; how fast anybody is is not a matter of tests."""
    told: list[bench.Timing] = []
    measured = bench.run([family], seconds=1e-3, done=told.append)
    assert told == measured.timings
    assert len(told) >= 3
    for timing in told:
        assert timing.family == family
        assert timing.ratios
        assert set(timing.seconds) == {"legato", *timing.ratios}
        assert timing.rounds >= 5
        for low, middle, high in [*timing.seconds.values(), *timing.ratios.values()]:
            assert 0 < low <= middle <= high


def test_a_wrong_answer_is_not_timed() -> None:
    row = bench.Row("rft", "one", lambda: 1, {"wrong": lambda: 2}, agree)
    with pytest.raises(AssertionError):
        bench.measure(row, 1e-3)


def test_the_ratio_is_of_the_same_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes by the work done, and twice as fast at first, as a machine does whose neighbors wake up."""
    now = 0.0

    def work(amount: float) -> int:
        nonlocal now
        now += amount * (1 if now < 0.2 else 2)
        return 1

    monkeypatch.setattr(bench.timing, "_clock", lambda: lambda: now)
    row = bench.Row("rft", "sum", lambda: work(1e-3), {"ten": lambda: work(1e-2)}, agree, lambda: work(5e-4))
    timing = bench.measure(row, 0.01)
    assert timing.rounds >= 5
    assert timing.ratios["ten"][1] == pytest.approx(10)
    assert timing.share is not None
    assert timing.share[1] == pytest.approx(0.5)
    assert set(timing.seconds) == {"legato", "ten"}


def a_run(*ratios: float, spread: float = 0.01) -> dict[str, Any]:
    timings = [
        {"family": "rft", "name": f"row {i}", "ratios": {"NumPy": [r * (1 - spread), r, r * (1 + spread)]}}
        for i, r in enumerate(ratios)
    ]
    return {"machine": {"processor": "one"}, "packages": {"numpy": "2.0", "legato": "1"}, "timings": timings}


def test_changes_beyond_the_spread_are_judged() -> None:
    changes, notes = bench.compare(a_run(2.0, 2.0, 2.0, 2.0), a_run(2.06, 3.0, 1.0, 2.02))
    assert [change.verdict for change in changes] == ["same", "faster", "slower", "same"]
    assert changes[1].factor == pytest.approx(1.5)
    assert notes == []
    assert [change.verdict for change in bench.compare(a_run(2.0, spread=0.2), a_run(3.0, spread=0.2))[0]] == ["same"]


def test_what_cannot_be_compared_is_told() -> None:
    after = a_run(2.0)
    after["machine"]["processor"], after["packages"]["numpy"], after["packages"]["legato"] = "another", "2.1", "2"
    changes, notes = bench.compare(a_run(2.0, 3.0), after)
    assert len(changes) == 1
    assert notes == [
        "rft / row 1 / NumPy: in one of the runs alone",
        "processor: one, then another",
        "numpy: 2.0, then 2.1",
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda run: run.pop("timings"),
        lambda run: run.update(machine=None),
        lambda run: run.update(timings=[1]),
        lambda run: run["timings"][0].update(ratios={"NumPy": [1, 2]}),
        lambda run: run["timings"][0].update(ratios={"NumPy": [3, 2, 1]}),
        lambda run: run["timings"][0].update(ratios={"NumPy": ["a", "b", "c"]}),
        lambda run: run["timings"][0].update(ratios={"NumPy": [1, 2, float("nan")]}),
    ],
)
def test_what_is_no_run_is_named(change: Any) -> None:
    broken = copy.deepcopy(a_run(2.0))
    change(broken)
    with pytest.raises(InputError, match=r"^b\.json: expected a run as"):
        bench.compare(a_run(2.0), broken, names=("a.json", "b.json"))
    with pytest.raises(InputError, match=r"^a\.json: expected"):
        bench.compare([], a_run(2.0), names=("a.json", "b.json"))  # type: ignore[arg-type]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.json"
    assert main(["bench", "rasp", "--seconds", "1e-3", "--json", str(file)]) == 0
    out = capsys.readouterr().out
    assert "rasp: mean over equals, 4096 tokens: " in out
    assert "NumPy broadcasting" in out
    assert main(["bench", "compare", str(file), str(file)]) == 0
    assert capsys.readouterr().out.count("same") == 4
    run = json.loads(file.read_text())
    for name, factor in (("a.json", 1), ("b.json", 3)):  # without the spread of a test's few rounds
        for timing in run["timings"]:
            timing["ratios"] = {peer: [values[1] / factor] * 3 for peer, values in timing["ratios"].items()}
        (tmp_path / name).write_text(json.dumps(run))
    assert main(["bench", "compare", str(file), str(tmp_path / "b.json")]) == 3
    assert capsys.readouterr().out.count("slower") == 4


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            "bench comera",
            2,
            "neither a command nor one of camera, video, diffusion, rasp, rft (did you mean 'camera'?)",
        ),
        ("bench rft compare", 2, "families: expected some of camera, video, diffusion, rasp, rft, got 'compare'"),
        ("bench rft --seconds 0", 2, "seconds: expected a positive number, got 0.0"),
        ("bench rft --json absent/a.json", 1, "no such directory"),
        ("bench compare a.json b.json", 1, "a.json: cannot be read"),
    ],
)
def test_bad_input_is_named(
    words: str,
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == code
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_command_offers_every_family() -> None:
    assert bench_command.FAMILIES == bench.FAMILIES


def test_a_family_must_be_known() -> None:
    with pytest.raises(ArgumentError, match="families"):
        bench.run(["rftt"])


def test_the_table_of_the_readme_is_that_of_its_run() -> None:
    root = Path(__file__).parents[1]
    if not (root / "benchmarks" / "report.py").exists():
        pytest.skip("the benchmarks are not here")
    spec = importlib.util.spec_from_file_location("report", root / "benchmarks" / "report.py")
    assert spec is not None
    assert spec.loader is not None
    report = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(report)
    run, text = json.loads(report.RUN.read_text()), (root / "README.md").read_text()
    assert report.page(text, run) == text
    assert {timing["family"] for timing in run["timings"]} == set(bench.FAMILIES)
    for timing in run["timings"]:  # one slower row must change the page
        timing["ratios"] = {peer: [7 * value for value in values] for peer, values in timing["ratios"].items()}
    assert report.page(text, run) != text
