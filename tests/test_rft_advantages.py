"""Groups, returns and losses: exact zeros, gaps, backends, bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legato import rft
from legato.errors import ArgumentError, IndexRangeError


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
    for kind in ("grpo", "dr_grpo", "rloo", "batch"):
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
    for kind in ("grpo", "dr_grpo", "rloo", "batch"):
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
    assert rft.group_advantages([], [], "batch", backend=backend).shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1.0, np.nan], [0, 0]), ArgumentError, r"rewards\[1\]: expected a finite number, got nan"),
        (([np.inf], [0]), ArgumentError, r"rewards\[0\]"),
        (([1.0], [-1]), IndexRangeError, r"groups\[0\]: expected 0 <= id"),
        (([1.0, 2.0], [0]), ArgumentError, r"groups: expected shape \(2,\)"),
        (([[1.0]], [0]), ArgumentError, r"rewards: expected shape \(n,\)"),
        (([1.0], [10**12]), ArgumentError, "groups: expected ids from 0 on"),
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


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**31), dual=st.sampled_from([None, 1.5, 3.0]))
def test_ppo_gradient_is_the_derivative(seed: int, dual: float | None) -> None:
    rng = np.random.default_rng(seed)
    new, old, a = rng.normal(size=(3, 2, 6)) * np.array([0.5, 0.5, 2.0])[:, None, None]
    found = rft.ppo_loss(new, old, a, 0.2, 0.3, dual)
    step = 1e-6
    slope = (rft.ppo_loss(new + step, old, a, 0.2, 0.3, dual).loss - found.loss) / step
    kinks = np.abs(found.ratio[..., None] - np.array([0.8, 1.3, dual or 9.0])).min(axis=-1) < 1e-4
    np.testing.assert_allclose(found.grad_logp[~kinks], slope[~kinks], 1e-4, 1e-4)
    if dual is not None:
        assert (found.loss[a < 0] <= -a[a < 0] * dual + 1e-12).all()


def test_ppo_clamps_the_log_ratio() -> None:
    found = rft.ppo_loss([[100.0]], [[0.0]], [[-1.0]])
    assert found.ratio[0, 0] == np.exp(20.0)
    assert found.grad_logp[0, 0] == 0


def test_bad_losses() -> None:
    one = [[0.0]]
    for arguments, message in (
        ((one, [[0.0, 1.0]], one), "old_logp"),
        ((one, one, [[1.0, 2.0]]), "advantages"),
        ((one, one, one, -0.1), "eps_low"),
        ((one, one, one, 0.2, 0.2, 1.0), "dual_clip"),
    ):
        with pytest.raises(ArgumentError, match=message):
            rft.ppo_loss(*arguments)
    for arguments, message in (
        (([1.0],), "x: expected shape"),
        ((one, [[1, 1]]), "mask"),
        ((one, None, "mean"), "mode"),
        ((one, None, "token-mean", 0), "max_len"),
    ):
        with pytest.raises(ArgumentError, match=message):
            rft.masked_mean(*arguments)


def test_masked_mean_ignores_what_is_masked() -> None:
    x, mask = [[1.0, np.nan], [3.0, 5.0]], [[1, 0], [1, 1]]
    assert rft.masked_mean(x, mask) == 3.0
    assert rft.masked_mean(x, mask, "seq-mean-token-mean") == 2.5
    assert rft.masked_mean(x, mask, "seq-mean-token-sum") == 4.5
    assert rft.masked_mean(x, mask, "seq-mean-token-sum-norm", max_len=9) == 0.5
    for mode in ("token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"):
        assert rft.masked_mean(x, np.zeros((2, 2)), mode) == 0
        assert rft.masked_mean(np.empty((0, 3)), None, mode) == 0
