"""The guidance paper's claims, and the command that reproduces them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from conftest import DATA
from legato import diffusion as D
from legato.cli import diffusion as command
from legato.cli.parsing import Parser
from legato.diffusion import network_study, reproduction
from legato.errors import ArgumentError, OutputError

MOMENTS = json.loads((DATA / "diffusion" / "gaussian_moments.json").read_text())


def test_counterexample1() -> None:
    table = reproduction.counterexample1((1, 2, 5), chains=40_000, steps=300)
    for _, sampler, powered, closed, exact, simulated, spread, error in table.rows:
        assert simulated == pytest.approx(closed, rel=0.05)
        assert error == pytest.approx(simulated / closed - 1)
        assert spread == pytest.approx(simulated * (2 / 40_000) ** 0.5)
        assert sampler == "CFG-DDIM" or exact == pytest.approx(closed, rel=0.03)
        assert powered >= closed - 1e-12


@pytest.mark.slow
def test_counterexample1_at_full_size() -> None:
    """A million chains are within 1 % of the closed forms; the command runs every gamma from 1 to 10."""
    assert all(abs(row[-1]) < 0.01 for row in reproduction.counterexample1((1, 4, 10), threads=2).rows)


def test_counterexample2() -> None:
    table = reproduction.counterexample2()
    found = {name: (mean, variance) for name, mean, variance, *_ in table.rows}
    for name, mean, variance, of_mean, of_variance, *theory, mean_error, variance_error in table.rows[1:]:
        assert tuple(theory) == found["powered law"]
        assert of_mean == pytest.approx((variance / 40_000) ** 0.5, rel=1e-6)
        assert 0 < of_variance < 0.02 * variance
        assert (mean_error, variance_error) == pytest.approx((mean / theory[0] - 1, variance / theory[1] - 1))
        assert sum(table.curves[name][1]) * 0.05 == pytest.approx(1, abs=0.01)
    assert found["20 correctors of gamma"] == pytest.approx(found["powered law"], rel=0.03)
    assert found["powered law"] == pytest.approx((0.966, 0.194), abs=2e-3)
    assert found["CFG-DDIM"][1] < 0.02 * found["powered law"][1]  # the modes have lost their width
    assert found["CFG-DDPM"] == pytest.approx((0.967, 0.102), abs=0.01)
    assert found["PCG"] == pytest.approx((0.967, 0.112), abs=0.01)


def test_mean_shift() -> None:
    """Values of the closed forms by another route: those of the vectors."""
    table = reproduction.mean_shift((1, 3, 5, 7), steps=4000)
    vectors = {case["g"]: case for case in MOMENTS["closed_form"] if (case["vc"], case["vu"], case["c"]) == (1, 2, 1)}
    for scale, powered, ddpm, _, ddpm_error, ddim, _, ddim_error in table.rows:
        assert powered == pytest.approx(2 * scale / (scale + 1))
        if scale in vectors:
            assert (ddpm, ddim) == pytest.approx((vectors[scale]["M_sde"], vectors[scale]["M_ode"]), rel=1e-6)
        assert abs(ddpm_error) < 1e-3
        assert abs(ddim_error) < 5e-3  # the start is at sigma 300, not at infinity
    assert [row[5] for row in table.rows] == pytest.approx([1, 2, 7 / 3, 2.4], rel=1e-9)


def test_many_correctors() -> None:
    table = reproduction.many_correctors(counts=(1, 4, 16, 64), steps=250)
    errors = [row[4] for row in table.rows]
    assert all(0 < after < before / 3.5 for before, after in itertools.pairwise(errors))
    assert errors[-1] * 64 == pytest.approx(errors[-2] * 16, rel=0.03)  # as 1 / K
    assert [row[5] for row in table.rows] == pytest.approx(errors, rel=0.05)


def test_two_dimensions() -> None:
    table = reproduction.two_dimensions(chains=8000, steps=200)
    of = {row[0]: np.array(row[1:]) for row in table.rows}
    powered = of["powered law"]
    near = of["20 correctors of gamma"]
    assert (abs(near[:2] - powered[:2]) < 5 * near[4] + 0.02).all()
    assert (abs(near[2:4] / powered[2:4] - 1) < 0.1).all()
    widths = [of[name][2] / powered[2] for name in ("CFG-DDIM", "CFG-DDPM", "PCG")]
    shifts = [of[name][0] - powered[0] for name in ("CFG-DDIM", "CFG-DDPM", "PCG")]
    assert widths == pytest.approx([0.40, 0.80, 0.88], abs=0.05)
    assert shifts == pytest.approx([0.39, 0.14, 0.12], abs=0.03)  # away from the other class


def test_one_timestep_for_predictor_and_corrector() -> None:
    """Both orders of the two go to CFG-DDPM's variance at first order; the recursion is what chains do."""
    table = reproduction.one_timestep()
    assert list(table.verdicts.values()) == [True, True]
    assert table.rows[-1][7] == reproduction.closed_forms(3.0)[1]
    schedule = D.Schedule.vp_linear(50)
    a, s = schedule.alpha, schedule.sigma
    x = s[0] * np.random.default_rng(0).normal(size=200_000)
    z = np.random.default_rng(1)
    for k, size in enumerate(schedule.forward_variance):
        score = -(5.0 / (a[k] ** 2 + s[k] ** 2) - 4.0 / (2 * a[k] ** 2 + s[k] ** 2)) * x
        x = x + size / 2 * score + size**0.5 * z.normal(size=x.shape)
        x0 = a[k] / (a[k] ** 2 + s[k] ** 2) * x
        x = a[k + 1] * x0 + s[k + 1] * (x - a[k] * x0) / s[k]
    assert table.rows[0][4] == pytest.approx(x.var(), rel=0.015)


def test_verdicts_are_of_the_rows() -> None:
    """Every table says what its rows bear out, and a table of other rows says no."""
    assert all(reproduction.counterexample1((1, 3), chains=20_000, steps=400).verdicts.values())
    assert all(reproduction.mean_shift(steps=2000).verdicts.values())
    assert not reproduction.mean_shift((1, 2), steps=2000).verdicts[
        "CFG-DDIM's mean goes beyond 2, the limit of the others"
    ]
    assert all(reproduction.many_correctors(counts=(1, 2, 4, 8, 16, 32)).verdicts.values())
    assert all(reproduction.equivalence(finest=800).verdicts.values())
    assert all(reproduction.counterexample2(chains=10_000, steps=200).verdicts.values())
    assert not all(reproduction.counterexample1((3,), chains=2000, steps=10).verdicts.values())


def test_frechet_distance() -> None:
    """Of Gaussians whose covariances commute: the squares of differences of means and of standard deviations."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 200_000, 2)) * [1.0, 2.0]
    y = y * [3.0, 0.5] + [1.0, 0.0]
    assert network_study.frechet_distance(x, y) == pytest.approx(1 + 2**2 + 1**2, rel=0.02)
    assert abs(network_study.frechet_distance(x, x)) < 1e-9


class TwoClasses:
    """An exact model that answers as the course's network does."""

    dimension = 2

    def __init__(self, label: int | None = None) -> None:
        both = D.GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], [0.1, 0.1])
        self.model = both if label is None else both.reweighted(np.eye(2)[label])

    def given(self, label: int) -> TwoClasses:
        return TwoClasses(label)

    def __call__(self, x: np.ndarray, alpha: float, sigma: float, _k: int) -> np.ndarray:
        return self.model.eps(x, alpha, sigma)


def two_classes() -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(400) % 2
    return (0.1**0.5 * D.normal((400, 2), 3) + np.where(labels == 0, -1, 1)[:, None] * [1, 0]), labels


def test_study_of_a_network() -> None:
    table = network_study.digits(TwoClasses(), *two_classes(), (3.0,), each=40, runs=2, steps=20)
    of = {row[1]: row for row in table.rows}
    assert len(of) == 5
    assert all(row[4] > 0.9 for row in table.rows)  # accuracy
    assert of["CFG-DDIM"][6] < of["PCG K = 1"][6]  # variance within a class
    assert table.verdicts["gamma 3: of these, PCG K = 1 keeps most variance"]
    table = network_study.digits_equivalence(TwoClasses(), *two_classes(), 3.0, each=100, runs=2, counts=(5, 200))
    assert table.rows[0][1] > table.rows[1][1]
    assert all(table.verdicts.values())
    with pytest.raises(ArgumentError, match="runs"):
        network_study.digits(TwoClasses(), *two_classes(), runs=1)


def test_course_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="--course: expected the folder docs/course"):
        run("reproduce", "digits", "--course", str(tmp_path))


def test_equivalence_is_of_first_order() -> None:
    table = reproduction.equivalence()
    for scale, steps, ddpm, pcg, _, order, closed, *errors in table.rows:
        assert steps < 400 or 0.9 < order < 1.1
        assert closed == reproduction.closed_forms(scale)[1]
        assert errors == pytest.approx([ddpm / closed - 1, pcg / closed - 1])
        assert steps < 3200 or max(map(abs, errors)) < 0.01


def run(*words: str) -> int:
    parser = Parser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(words))


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = tmp_path / "tables.json"
    assert run("reproduce", "counterexample2", "--chains", "2000", "--json", str(stored)) == 0
    assert "powered law" in capsys.readouterr().out
    assert json.loads(stored.read_text())[0]["name"] == "counterexample2"
    assert run("reproduce", "equivalence", "--json", str(stored)) == 0

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    assert json.loads(stored.read_text(), parse_constant=refuse)[0]["rows"][0][5] is None
    with pytest.raises(OutputError, match="nowhere"):
        run("reproduce", "equivalence", "--json", str(tmp_path / "nowhere" / "x.json"))
    with pytest.raises(SystemExit):
        run("reproduce", "nothing")


def test_what_cannot_be_stored_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in command.CLAIMS:
        monkeypatch.setattr(reproduction, name, None)  # nothing may run
    for words, error, message in (
        (("--chains", "0"), ArgumentError, "--chains: expected at least 2"),
        (("--threads", "0"), ArgumentError, "--threads"),
        (("--plot", str(tmp_path / "p.nothing")), ArgumentError, "--plot: expected a file ending in .svg"),
        (("--plot", str(tmp_path / "nowhere" / "p.svg")), OutputError, "nowhere"),
        (("--json", str(tmp_path / "nowhere" / "p.json")), OutputError, "nowhere"),
    ):
        with pytest.raises(error, match=message):
            run("reproduce", "all", *words)


def test_bad_sizes() -> None:
    for call in (
        lambda: reproduction.counterexample1(chains=0),
        lambda: reproduction.counterexample2(steps=0),
        lambda: reproduction.equivalence(finest=1),
    ):
        with pytest.raises(ArgumentError, match="expected a whole number of at least"):
            call()


@pytest.mark.parametrize(
    ("claim", "labels"),
    [
        ("counterexample1", ["guidance scale gamma", "variance", "CFG-DDIM, closed form", "powered law"]),
        ("counterexample2", ["density", "powered law", "PCG"]),
        ("mean_shift", ["guidance scale gamma", "mean", "CFG-DDIM, by Heun"]),
        ("two_dimensions", ["powered law", "y"]),
        ("equivalence", ["steps", "first order, 1 / steps"]),
        ("many_correctors", ["correctors a step, K", "1 / K"]),
        ("one_timestep", ["steps", "one timestep"]),
        ("all", [*command.CLAIMS, "powered law", "first order, 1 / steps"]),
    ],
)
def test_plot(tmp_path: Path, claim: str, labels: list[str]) -> None:
    mpl = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    picture = tmp_path / "p.svg"
    with mpl.rc_context({"svg.fonttype": "none"}):
        assert run("reproduce", claim, "--chains", "500", "--plot", str(picture)) == 0
    assert all(f">{label}<" in picture.read_text() for label in labels)
