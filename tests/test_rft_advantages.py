"""Groups, returns and losses: exact zeros, gaps, backends, bad input."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legato import _core, rft
from legato.errors import ArgumentError, IndexRangeError, NumericalError
from legato.rft.advantages import KINDS


@settings(deadline=None, max_examples=80)
@given(
    seed=st.integers(0, 2**31), n=st.integers(1, 40), groups=st.integers(1, 8), digits=st.sampled_from([0, 1, 8]),
)  # fmt: skip
def test_backends_agree(seed: int, n: int, groups: int, digits: int) -> None:
    rng = np.random.default_rng(seed)
    r, g = np.round(rng.normal(size=n), digits), rng.integers(0, groups, n)
    a, b = (rft.group_stats(r, g, n_groups=groups, backend=name) for name in ("native", "numpy"))
    for name in ("n", "mean", "var_biased", "var_unbiased", "min", "max", "zero_std"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), 1e-12, 1e-14)
    for kind in KINDS:
        found = rft.group_advantages(r, g, kind)
        np.testing.assert_allclose(found, rft.group_advantages(r, g, kind, backend="numpy"), 1e-9, 1e-10)
        assert (found[a.zero_std[g]] == 0).all()
        if kind in ("dr_grpo", "grpo"):
            np.testing.assert_allclose(np.bincount(g, weights=found), 0, atol=1e-9)
    x, y = (rft.leave_one_out(r, g, backend=name) for name in ("native", "numpy"))
    np.testing.assert_allclose(x.mean, y.mean, 1e-9, 1e-12)
    np.testing.assert_allclose(x.std, y.std, 1e-7, 1e-9)
    np.testing.assert_array_equal(x.std == 0, y.std == 0)


@settings(deadline=None, max_examples=60)
@given(value=st.floats(-1e6, 1e6), size=st.integers(1, 20), outlier=st.floats(-1e6, 1e6))
def test_constant_groups_are_exactly_zero(value: float, size: int, outlier: float) -> None:
    stats = rft.group_stats([value] * size, [0] * size)
    assert stats.var_biased[0] == 0
    assert stats.mean[0] == value
    for kind in KINDS:
        assert (rft.group_advantages([value] * size, [0] * size, kind, eps=0.0) == 0).all()
    loo = rft.leave_one_out([value] * size + [outlier], [0] * (size + 1))
    assert loo.mean[-1] == value
    assert loo.advantage[-1] == outlier - value
    assert size == 1 or loo.std[-1] == 0


def test_known_failure_of_the_naive_formula() -> None:
    """NVIDIA-NeMo/RL #4158: seven times 0.95 and one 0, where rounding errors became advantages of a million."""
    r = np.array([0.95] * 7 + [0.0])
    naive = (r[-1] - r[:-1].mean()) / max(r[:-1].std(ddof=1), 1e-300)
    assert abs(naive) > 1e6 or r[:-1].std(ddof=1) == 0
    assert rft.leave_one_out(r, [0] * 8).advantage[-1] == -0.95


def test_nearly_constant_others_keep_their_digits() -> None:
    r = np.array([1.0, 1.0 + 1e-9, 1.0 - 1e-9, 1.0 + 2e-9, -50.0])
    found = rft.leave_one_out(r, [0] * 5)
    assert found.std[-1] == pytest.approx(r[:-1].std(ddof=1), rel=1e-6)


def test_groups_that_do_not_occur_and_groups_of_one(backend: str) -> None:
    stats = rft.group_stats([2.0], [3], backend=backend)
    assert stats.n.tolist() == [0, 0, 0, 1]
    assert np.isnan(stats.mean[:3]).all()
    assert np.isnan(stats.var_unbiased).all()
    assert stats.zero_std.tolist() == [False, False, False, True]
    assert rft.group_advantages([2.0], [3], backend=backend) == 0
    assert rft.group_advantages([2.0], [3], singleton="raw", backend=backend) == 2.0
    empty = rft.group_stats([], [], backend=backend)
    assert empty.n.shape == (0,)
    assert rft.group_advantages([], [], "grpo_batch", backend=backend).shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1.0, np.nan], [0, 0]), ArgumentError, r"rewards\[1\]: expected a finite number, got nan"),
        (([np.inf], [0]), ArgumentError, r"rewards\[0\]"),
        (([1.0], [-1]), IndexRangeError, r"groups\[0\]: expected 0 <= id"),
        (([1.0, 2.0], [0]), ArgumentError, r"groups: expected shape \(2,\)"),
        (([[1.0]], [0]), ArgumentError, r"rewards: expected shape \(n,\)"),
        (([1.0], [10**12]), ArgumentError, "groups: expected ids from 0 on"),
        (([1.0, 2e150], [0, 0]), ArgumentError, r"rewards\[1\]: expected a size of at most 1e\+150, got 2e"),
        (([1.0, 2.0], ["a", None]), ArgumentError, "groups: expected whole numbers or names"),
        (([1.0, 2.0], ["a"]), ArgumentError, r"groups: expected"),
        ((["a"], [0]), ArgumentError, "rewards: expected real numbers"),
    ],
)
def test_bad_groups(arguments: Any, error: type[Exception], message: str, backend: str) -> None:
    with pytest.raises(error, match=message):
        rft.group_stats(*arguments, backend=backend)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"kind": "ppo"}, "kind"), ({"ddof": 2}, "ddof"), ({"singleton": "one"}, "singleton"), ({"eps": -1.0}, "eps")],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        rft.group_advantages([1.0], [0], **options)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**31), rows=st.integers(0, 4), columns=st.integers(1, 12), gamma=st.floats(0, 1))
def test_gae_properties(seed: int, rows: int, columns: int, gamma: float) -> None:
    rng = np.random.default_rng(seed)
    r, v = rng.normal(size=(2, rows, columns))
    mask, last = rng.integers(0, 2, (rows, columns)), rng.normal(size=rows)
    a, b = (rft.gae(r, v, mask, gamma, 0.9, last, backend=name) for name in ("native", "numpy"))
    np.testing.assert_allclose(a[0], b[0], 1e-12, 1e-12)
    np.testing.assert_allclose(a[1], b[1], 1e-12, 1e-12)
    for i in range(rows):  # a gap is as if the step were not there
        on = mask[i] != 0
        if on.any():
            dense = rft.gae(r[i : i + 1, on], v[i : i + 1, on], None, gamma, 0.9, last[i : i + 1])
            np.testing.assert_array_equal(dense[0][0], a[0][i, on])
        assert (a[0][i, ~on] == 0).all()
    np.testing.assert_allclose(rft.gae(r, v, mask, gamma, 0.0)[0] + v * mask, rft.gae(r, v, mask, gamma, 0.0)[1])


@pytest.mark.parametrize("kind", KINDS)
def test_groups_by_name(kind: Any, backend: str) -> None:
    names, r = np.array(["b", "a", "b", "é", "a", "b"]), np.array([1.0, 0.0, 2.0, 5.0, 3.0, 2.5])
    numbers = np.unique(names, return_inverse=True)[1]
    expected = rft.group_advantages(r, numbers, kind, backend=backend)
    for same in (names, names.tolist(), names.astype(object), np.char.encode(names, "utf-8")):
        np.testing.assert_array_equal(rft.group_advantages(r, same, kind, backend=backend), expected)
    stats = rft.group_stats(r, names, backend=backend)
    assert stats.groups.tolist() == ["a", "b", "é"]
    assert stats.n.tolist() == [2, 3, 1]
    assert rft.group_stats(r, numbers, n_groups=4).groups.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(rft.leave_one_out(r, names).mean, rft.leave_one_out(r, numbers).mean)


def test_deviations_over_the_batch() -> None:
    """TRL's divides by the std of all rewards, REINFORCE++ with a baseline by that of what is centered."""
    r, g = np.array([0.0, 1.0, 10.0, 13.0]), [0, 0, 1, 1]
    centered = np.array([-0.5, 0.5, -1.5, 1.5])
    np.testing.assert_allclose(rft.group_advantages(r, g, "grpo_batch", eps=0.5), centered / (r.std(ddof=1) + 0.5))
    found = rft.group_advantages(r, g, "reinforce_plus_plus_baseline", eps=0.5)
    np.testing.assert_allclose(found, centered / (centered.std(ddof=1) + 0.5))


@settings(deadline=None, max_examples=60)
@given(rewards=st.lists(st.sampled_from([0.0, 1.0, 0.25, -3.0]), min_size=1, max_size=7), k=st.integers(1, 7))
def test_pass_at_k_against_all_subsets(rewards: list[float], k: int) -> None:
    if k > len(rewards):
        with pytest.raises(ArgumentError, match=f"groups: expected at least {k} rewards"):
            rft.pass_at_k_advantages(rewards, [0] * len(rewards), k)
        return
    expected = np.zeros(len(rewards))
    subsets = list(itertools.combinations(range(len(rewards)), k))
    for i in range(len(rewards)):
        for chosen in subsets:
            if i in chosen:
                others = [rewards[j] for j in chosen if j != i]
                expected[i] += (max(rewards[j] for j in chosen) - (max(others) if others else 0.0)) / len(subsets)
    found = rft.pass_at_k_advantages([*rewards, 7.0, *[8.0] * k], ["a"] * len(rewards) + ["b"] * (k + 1), k)
    np.testing.assert_allclose(found[: len(rewards)], expected, 1e-12, 1e-12)


def test_whitening(backend: str) -> None:
    rng = np.random.default_rng(0)
    x, mask = rng.normal(3, 2, (4, 6)), rng.random((4, 6)) < 0.7
    x[~mask] = np.nan
    kept = x[mask]
    found = rft.whiten(x, mask)
    np.testing.assert_allclose(found[mask], (kept - kept.mean()) / np.sqrt(kept.var(ddof=1) + 1e-8))
    assert (found[~mask] == 0).all()
    still = rft.whiten(x, mask, shift_mean=False)
    assert still[mask].mean() == pytest.approx(kept.mean())
    assert (rft.whiten(np.full((2, 3), 0.1)) == 0).all()
    assert rft.whiten(np.empty((0, 3))).shape == (0, 3)
    assert rft.whiten([[5.0]], shift_mean=False) == 5.0
    r = rng.normal(size=(4, 6)).astype(np.float32)
    advantages, returns = rft.reinforce_plus_plus(r, mask, 0.9, backend=backend)
    np.testing.assert_array_equal(returns, rft.discounted_returns(r, mask, 0.9, backend=backend))
    np.testing.assert_array_equal(advantages, rft.whiten(returns, mask))
    assert advantages.dtype == np.float32
    advantages, returns = rft.remax(r, np.arange(4.0, dtype=np.float32), mask, backend=backend)
    np.testing.assert_allclose(advantages, np.where(mask, returns - np.arange(4.0)[:, None], 0), 1e-6)


def test_results_that_overflow_are_errors(backend: str) -> None:
    with pytest.raises(NumericalError, match=r"advantages: expected finite results of type float64, got -?inf"):
        rft.gae([[1e308, 1e308]], [[0.0, 0.0]], None, 1.0, 1.0, backend=backend)
    tiny = np.full((1, 2), 3e38, np.float32)
    with pytest.raises(NumericalError, match="type float32"):
        rft.gae(tiny, np.zeros_like(tiny), None, 1.0, 1.0, backend=backend)
    for kind in KINDS:
        assert np.isfinite(rft.group_advantages([1e150, -1e150], [0, 0], kind, backend=backend)).all()
        with pytest.raises(ArgumentError, match="at most 1e"):
            rft.group_advantages([1e308, -1e308], [0, 0], kind, backend=backend)


def test_discounted_returns_by_hand() -> None:
    found = rft.discounted_returns([[1.0, 2.0, 4.0]], [[1, 0, 1]], 0.5)
    np.testing.assert_array_equal(found, [[3.0, 0.0, 4.0]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], [1.0]), r"rewards: expected shape \(b, t\)"),
        (([[1.0]], [[1.0, 2.0]]), "values: expected shape"),
        (([[1.0]], [[1.0]], [[1, 1]]), "mask: expected shape"),
        (([[1.0]], [[1.0]], None, np.nan), "gamma"),
        (([[1.0]], [[1.0]], None, 1.0, np.inf), "lam"),
        (([[1.0]], [[1.0]], None, 1.0, 1.0, [1.0, 2.0]), "bootstrap: expected shape"),
    ],
)
def test_bad_gae(arguments: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        rft.gae(*arguments)


@pytest.mark.parametrize("scale", [-1, 5, 2**31 - 1])
def test_the_core_refuses_rules_that_it_does_not_have(scale: int) -> None:
    rewards, groups, advantages = np.zeros(2), np.zeros(2, np.int64), np.full(2, 7.0)
    with pytest.raises(ArgumentError, match="scale"):
        _core.rft_group_advantages(rewards, groups, 1, scale, 1, 1e-4, False, advantages)
    assert (advantages == 7.0).all()
