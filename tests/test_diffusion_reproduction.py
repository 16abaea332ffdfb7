"""The guidance paper's claims, and the command that reproduces them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from legato.cli import diffusion as command
from legato.diffusion import reproduction
from legato.errors import OutputError


def test_counterexample1() -> None:
    table = reproduction.counterexample1((1, 2, 5), chains=40_000, steps=300)
    for _, sampler, powered, closed, exact, simulated, error in table.rows:
        assert simulated == pytest.approx(closed, rel=0.05)
        assert error == pytest.approx(simulated / closed - 1)
        assert sampler == "CFG-DDIM" or exact == pytest.approx(closed, rel=0.03)
        assert powered >= closed - 1e-12


@pytest.mark.slow
def test_counterexample1_at_full_size() -> None:
    """A million chains are within 1 % of the closed forms; the command runs every gamma from 1 to 10."""
    assert all(abs(row[-1]) < 0.01 for row in reproduction.counterexample1((1, 4, 10), threads=2).rows)


def test_counterexample2() -> None:
    found = {name: (mean, variance) for name, mean, variance in reproduction.counterexample2().rows}
    assert found["powered law"] == pytest.approx((0.966, 0.194), abs=2e-3)
    assert found["CFG-DDIM"][1] < 0.02 * found["powered law"][1]  # the modes have lost their width
    assert found["CFG-DDPM"] == pytest.approx((0.967, 0.102), abs=0.01)
    assert found["PCG"] == pytest.approx((0.967, 0.112), abs=0.01)


def test_equivalence_is_of_first_order() -> None:
    for _, steps, _, _, _, order in reproduction.equivalence().rows:
        assert steps < 400 or 0.9 < order < 1.1


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(words))


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = tmp_path / "tables.json"
    assert run("reproduce", "counterexample2", "--chains", "2000", "--json", str(stored)) == 0
    assert "powered law" in capsys.readouterr().out
    assert json.loads(stored.read_text())[0]["name"] == "counterexample2"
    with pytest.raises(OutputError, match="nowhere"):
        run("reproduce", "equivalence", "--json", str(tmp_path / "nowhere" / "x.json"))
    with pytest.raises(SystemExit):
        run("reproduce", "nothing")


@pytest.mark.parametrize("claim", ["equivalence", "counterexample2"])
def test_plot(tmp_path: Path, claim: str) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    picture = tmp_path / "p.svg"
    assert run("reproduce", claim, "--chains", "500", "--plot", str(picture)) == 0
    assert "<svg" in picture.read_text()
