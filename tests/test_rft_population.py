"""Intervals hold what they say: simulated coverage of every interval of the doctor, and verdicts without evidence."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="pyarrow is in the rft extra")
pytest.importorskip("scipy", reason="SciPy is in the rft extra")

from legato import rft
from legato.rft.intervals import bounded_mean_low, share_interval
from legato.rft.population import RewardScale, kinds_of, population
from legato.rft.rollouts import Rollouts

LEVELS = (0.8, 0.9, 0.95)


def scan(rewards: Any, **options: Any) -> rft.Report:
    """One row of rewards a prompt."""
    table = np.asarray(rewards, np.float64)
    ids = np.repeat(np.arange(len(table)), table.shape[1])
    return rft.scan({"uid": ids, "reward": table.ravel()}, **options)


def rare_success(rng: np.random.Generator, shape: tuple[int, int]) -> Any:
    """A little shaping, and a success in fifty: a std of 2.7 tau that eight rollouts mostly miss."""
    return 0.01 * rng.random(shape) + 0.99 * (rng.random(shape) < 0.02)


def moment(distribution: Any) -> float:
    return float(distribution(np.random.default_rng(9), (1, 4_000_000)).std())


BOUNDED = {
    "rare success": rare_success,
    "uniform": lambda rng, shape: rng.random(shape),
    "beta": lambda rng, shape: rng.beta(0.3, 0.6, shape),
    "three values": lambda rng, shape: rng.choice([0.0, 0.1, 1.0], shape, p=[0.6, 0.3, 0.1]),
    "nearly constant": lambda rng, shape: 0.5 + 1e-4 * rng.random(shape) - (rng.random(shape) < 0.001) * 0.4,
    "coin in a wider range": lambda rng, shape: 0.25 + 0.5 * (rng.random(shape) < 0.1),
}


def coverage(rewards: Any, std: float, value_range: Any = None) -> dict[float, float]:
    """Share of the prompts whose interval holds the std, by level."""
    table = np.asarray(rewards, np.float64)
    ids = np.repeat(np.arange(len(table)), table.shape[1])
    found = rft.Scan(value_range=value_range).update({"uid": ids, "reward": table.ravel()})
    inside = {}
    for level in LEVELS:
        report = found.report(level=level)
        inside[level] = ((report.std_low <= std + 1e-12) & (std <= report.std_high + 1e-12)).mean()
    return inside


@pytest.mark.parametrize("name", BOUNDED)
def test_std_intervals_of_bounded_rewards_cover(name: str) -> None:
    rng, std = np.random.default_rng(1), moment(BOUNDED[name])
    for n in (2, 8, 200):
        for value_range in ((0.0, 1.0), None):
            found = coverage(BOUNDED[name](rng, (1000, n)), std, value_range)
            assert all(share >= level - 0.01 for level, share in found.items()), (n, value_range, found)


@pytest.mark.parametrize("p", [0.001, 0.03, 0.3, 0.5, 0.97])
def test_std_intervals_of_two_values_cover(p: float) -> None:
    rng = np.random.default_rng(2)
    for n, low, high in ((3, 0.0, 1.0), (8, 0.0, 2.0), (50, -3.0, 5.0)):
        found = coverage(np.where(rng.random((2000, n)) < p, high, low), (high - low) * math.sqrt(p * (1 - p)))
        assert all(share >= level - 0.01 for level, share in found.items()), (n, found)


@pytest.mark.parametrize("level", LEVELS)
def test_std_intervals_of_unbounded_rewards_cover(level: float) -> None:
    """Lognormal and Student's t: no sample bounds the std from above, and the interval says so."""
    rng = np.random.default_rng(3)
    for std, draw in (
        (math.sqrt((math.e - 1) * math.e), lambda n: rng.lognormal(size=n)),
        (math.sqrt(3.0), lambda n: rng.standard_t(3, n)),
        (1.0, lambda n: rng.normal(size=n)),
    ):
        for n in (4, 64, 1000):
            pairs = np.array([rft.reward_std_interval(draw(n), level) for _ in range(200)])
            assert np.isinf(pairs[:, 1]).all()
            assert (pairs[:, 0] <= std).mean() >= level - 0.01
    assert pairs[:, 0].min() > 0.4  # of a thousand Gaussian rewards it is worth something
    report = scan(rng.lognormal(size=(50, 8)) * 10)
    assert np.isinf(report.std_high).all()
    assert not set(report.verdict) & {"vanishing", "solved"}
    assert any("no sample bounds a std" in note for note in report.notes)


def test_intervals_of_a_single_prompt() -> None:
    assert rft.reward_std_interval([0.0] * 8) == (0.0, math.inf)
    assert rft.reward_std_interval([0.0] * 8, method="chi2") == (0.0, math.inf)
    inner = rft.reward_std_interval([0.25] * 4 + [0.75] * 4, value_range=(0, 1))  # two values, but not the ends
    assert inner[0] == 0.0
    assert 0.25 < inner[1] <= 0.5
    rng = np.random.default_rng(4)
    inside = []
    for _ in range(500):
        low, high = rft.reward_std_interval(np.where(rng.random(40) < 0.02, 0.8, 0.2), 0.95, (0, 1))
        inside.append(low <= 0.6 * math.sqrt(0.02 * 0.98) <= high)
    assert np.mean(inside) >= 0.94


def test_no_false_vanishing() -> None:
    """The case of a rare success beside shaping: 5000 prompts, none called vanishing."""
    report = scan(rare_success(np.random.default_rng(5), (5000, 8)))
    assert report.overall["verdicts"]["vanishing"] == 0
    assert report.overall["verdicts"]["suspect"] > 4000
    surely = scan(np.full((3, 3000), 0.5) + 1e-6 * np.random.default_rng(6).random((3, 3000)))
    assert set(surely.verdict) == {"vanishing"}  # three thousand nearly equal rewards do prove it


def test_solved_needs_evidence() -> None:
    rng = np.random.default_rng(7)
    lucky = scan(rng.integers(0, 2, (4000, 4)).astype(float))
    assert lucky.overall["verdicts"]["solved"] == 0
    for values in (rng.random((2000, 200)) < 0.94, np.sqrt(rng.random((2000, 200)))):  # below and far below 0.95
        assert scan(values, level=0.9).overall["shares"]["solved"] <= 0.06
    assert set(scan(np.ones((2, 72))).verdict) == {"solved"}
    assert set(scan(np.where(rng.random((5, 400)) < 0.5, 1.0, 0.97), value_range=(0, 1)).verdict) == {"solved"}
    n, share = np.array([100]), np.array([0.97])
    for level in LEVELS:
        low = bounded_mean_low(n, share, level)[0]
        assert 100 * (0.97 * math.log(0.97 / low) + 0.03 * math.log(0.03 / (1 - low))) == pytest.approx(
            math.log(2 / (1 - level))
        )


def test_one_outlier_does_not_set_the_range() -> None:
    rewards = np.where(np.random.default_rng(8).random((1000, 8)) < 0.5, 2.0, 0.0)
    rewards[17, 3] = -100.0
    report = scan(rewards)
    assert report.settings["value_range"] == [0.0, 2.0]
    assert report.overall["verdicts"]["solved"] == 0
    assert report.overall["verdicts"]["healthy"] > 900
    assert any("far from the others, down to -100" in note for note in report.notes)


def test_groups_are_estimated_without_bias() -> None:
    """(C(k, G) + C(n - k, G)) / C(n, G): the share of all groups of G that can be drawn, told by trying them all."""
    rewards = np.array([[0, 0, 0, 0, 0, 1], [1, 1, 0, 1, 0, 1], [0, 0, 0, 0, 0, 0]], float)
    for size in (2, 3, 4):
        drawn = [[row[list(chosen)] for chosen in combinations(range(6), size)] for row in rewards]
        constant = np.mean([[len(set(group)) == 1 for group in groups] for groups in drawn])
        signal = np.mean([[group.std() for group in groups] for groups in drawn])
        report = scan(rewards, group_size=size)
        found = report.overall["population"]
        assert found["no_gradient"]["share"] == pytest.approx(constant)
        assert found["all_zero"]["share"] == pytest.approx(
            np.mean([[not group.any() for group in groups] for groups in drawn])
        )
        row = next((r for r in report.overall["group_sizes"] if r["size"] == size), None)
        if row is not None:
            assert row["useful"] == pytest.approx(1 - constant)
            assert row["signal"] == pytest.approx(signal)
            assert row["rollouts_per_useful"] == pytest.approx(size / (1 - constant))
    report = scan(rewards, group_size=8)
    assert report.overall["population"]["no_gradient"] == {"share": None, "low": 0.0, "high": 1.0, "groups": 0}
    assert any("3 groups have fewer rollouts than a group of 8" in note for note in report.notes)
    assert "not known" in report.to_table()


def test_group_size_of_the_log() -> None:
    assert scan(np.zeros((4, 6))).settings["group_size"] == 6
    assert scan(np.zeros((4, 1000))).settings["group_size"] == 8


POPULATIONS = {
    "beta": lambda rng, count: rng.beta(0.4, 0.8, count),
    "hard": lambda rng, count: rng.beta(0.05, 1.0, count),
    "extremes": lambda rng, count: rng.choice([0.0, 0.001, 0.5, 0.9995, 1.0], count, p=[0.3, 0.2, 0.2, 0.1, 0.2]),
    "edge": lambda rng, count: rng.choice([0.0024, 0.0026, 0.6], count),
}


@pytest.mark.parametrize("rounds", [150, pytest.param(2500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", POPULATIONS)
def test_population_shares_cover(name: str, rounds: int) -> None:
    """Four shares at three levels; the tolerance is 1 %, and three errors of the simulation where it is short."""
    rng = np.random.default_rng(10)
    p = POPULATIONS[name](rng, 400_000)
    truth = {
        "no_gradient": np.mean(p**8 + (1 - p) ** 8), "all_zero": np.mean((1 - p) ** 8), "all_one": np.mean(p**8),
        "small_std": np.mean(np.sqrt(p * (1 - p)) < 0.05),
    }  # fmt: skip
    scale = RewardScale(0.0, 1.0, True, True, True)
    for prompts, n in ((40, 8), (40, 12), (25, 300)):
        inside = {(key, level): 0 for key in truth for level in LEVELS}
        for _ in range(rounds):
            rewards = rng.random((prompts, n)) < rng.choice(p, prompts)[:, None]
            sums = Rollouts()
            sums.update({"uid": np.repeat(np.arange(prompts), n), "reward": rewards.ravel().astype(float)})
            groups = sums.groups()
            kinds = kinds_of(groups, scale)
            for level in LEVELS:
                found = population(groups, kinds, scale, 8, 0.05, level).as_dict()
                for key, value in truth.items():
                    inside[key, level] += found[key]["low"] - 1e-12 <= value <= found[key]["high"] + 1e-12
        for (key, level), count in inside.items():
            error = 3 * math.sqrt(level * (1 - level) / rounds) if rounds < 1000 else 0.0
            assert count / rounds >= level - max(0.01, error), (key, level, prompts, n)


def test_small_std_is_not_claimed_from_a_few_rollouts() -> None:
    found = scan(np.zeros((500, 8))).overall["population"]["small_std"]
    assert (found["share"], found["low"], found["high"]) == (1.0, 0.0, 1.0)
    found = scan(np.zeros((500, 3000))).overall["population"]["small_std"]
    assert found["low"] > 0.98
    found = scan(np.tile([0.0, 1.0], (500, 4))).overall["population"]["small_std"]
    assert found["high"] < 0.01


@pytest.mark.parametrize("level", LEVELS)
def test_shares_of_anything_cover(level: float) -> None:
    """Numbers in [0, 1] of any distribution: fifty prompts, many times."""
    rng = np.random.default_rng(11)
    for mean, draw in (
        (0.2, lambda: rng.beta(0.2, 0.8, 50)),
        (0.5, lambda: rng.choice([0.0, 0.5, 1.0], 50, p=[0.1, 0.8, 0.1])),
        (0.003, lambda: 0.003 * (rng.random(50) < 0.01) * 100),
        (0.98, lambda: rng.choice([0.96, 1.0], 50)),
    ):
        pairs = np.array([share_interval(float(draw().mean()), 50, level, False) for _ in range(200)])
        assert ((pairs[:, 0] <= mean) & (mean <= pairs[:, 1])).mean() >= level - 0.01
