"""`legato reproduce`: verdicts are computed, and what cannot be run says why."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from legato import claims
from legato.claims import Claim
from legato.claims.running import _timed
from legato.cli import main
from legato.errors import ArgumentError, DependencyError


@pytest.mark.parametrize("paper", claims.PAPERS)
def test_every_claim_holds_in_the_quick_form(paper: str) -> None:
    told: list[Claim] = []
    found = claims.run([paper], quick=True, done=told.append)
    assert told == found
    assert len(found) >= 4
    for claim in found:
        assert claim.holds is True, claim
        assert claim.paper == paper
        assert claim.stated
        assert claim.found


def test_a_wrong_value_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdict comes from what is found: another closed form, bound or law, and it says so."""
    from legato.claims import guidance
    from legato.diffusion import reproduction

    true = reproduction.closed_forms
    monkeypatch.setattr(
        reproduction, "closed_forms", lambda scale: (true(scale)[0], *(1.2 * v for v in true(scale)[1:]))
    )
    assert all(claim.holds is False for claim in guidance._variances(True))
    monkeypatch.undo()
    monkeypatch.setattr(reproduction, "closed_means", lambda _: (1.0, 20.0, 30.0))
    assert not any(claim.holds for claim in guidance._means(True))


def test_what_needs_a_package_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def needy(quick: bool) -> list[Claim]:
        """Networks."""
        raise DependencyError(f"needs torch ({quick})")

    rft = importlib.import_module("legato.claims.rft")
    monkeypatch.setattr(rft, "GROUPS", (needy,))
    assert [(c.text, c.holds, c.found) for c in _timed(rft, True)] == [
        ("Networks.", None, "not run: needs torch (True)")
    ]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib, of the diffusion extra")
    written = tmp_path / "c.json", tmp_path / "c.md", tmp_path / "c.svg"
    stored = zip(("--json", "--markdown", "--plot"), map(str, written), strict=True)
    assert main(["reproduce", "steps", "--quick", *(word for pair in stored for word in pair)]) == 0
    out = capsys.readouterr().out
    assert "steps: Step-by-step diffusion: an elementary tutorial (arXiv 2406.08929)" in out
    assert "holds: DDIM of a single point" in out
    assert "not run here" in out
    content = json.loads(written[0].read_text())
    assert {claim["holds"] for claim in content} == {True}
    assert written[1].read_text().count("\n| steps |") == len(content)
    assert written[2].read_text().count("<!-- steps: ") == sum(claim["error"] is not None for claim in content) > 3


def test_what_does_not_hold_is_code_3(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    steps = importlib.import_module("legato.claims.steps")
    monkeypatch.setattr(steps, "GROUPS", (lambda _: [Claim("a", "1", "2", False), Claim("b", "", "none", None)],))
    assert main(["reproduce", "steps"]) == 3
    out = capsys.readouterr().out
    assert "DOES NOT HOLD: a" in out
    assert "2 claims in 0.0 minutes: 0 hold, 1 do not, 1 not judged" in out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("reproduce nothing", 2, "PAPER: expected some of camera, guidance, steps, rasp, rft, or all, got 'nothing'"),
        ("reproduce steps --json absent/c.json", 1, "no such directory"),
        ("reproduce steps --json c --markdown c", 2, "is the same file as"),
        ("reproduce steps --plot claims.txt", 2, "--plot: expected a file ending in .svg, .png, .pdf, got claims.txt"),
    ],
)
def test_bad_input_is_named(
    words: str,
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == code
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_papers_are_known() -> None:
    assert set(claims.PAPERS) == set(claims.NOT_RUN)
    with pytest.raises(ArgumentError, match="papers"):
        claims.run(["cinema"])
