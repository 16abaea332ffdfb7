"""Exact gradients and their bounds, intervals of the std, flow times, and the reproduction."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legato import rft
from legato.errors import ArgumentError
from legato.rft import _reference
from legato.rft.reproduction import bounds_table, digits_table


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**31), width=st.integers(1, 4), length=st.integers(1, 3), scale=st.sampled_from([0.1, 1, 8])
)
def test_tree_against_enumeration(seed: int, width: int, length: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    tree = [rng.normal(size=(width**level, width)) * scale for level in range(length)]
    rewards = rng.uniform(-1, 1, width**length)
    found, listed = rft.sequence_value_grad(tree, rewards), _reference.sequence_policy(tree, rewards)
    assert found.value == pytest.approx(listed["value"], abs=1e-12)
    assert found.std == pytest.approx(listed["std"], abs=1e-10)
    np.testing.assert_allclose(np.concatenate(found.grad), listed["grad"], 1e-9, 1e-12)
    fisher = np.sqrt(max(np.linalg.eigvalsh(listed["fisher"])[-1], 0.0)) * found.std
    assert found.bounds.fisher == pytest.approx(fisher, rel=1e-6, abs=1e-9)
    norm = np.linalg.norm(np.concatenate(found.grad))
    limits = (found.bounds.fisher, found.bounds.sqrt_half_length, found.bounds.trace, found.bounds.paper)
    assert all(norm <= limit * (1 + 1e-9) + 1e-12 for limit in limits)


def test_tree_by_callable_and_one_step() -> None:
    logits, rewards = np.array([[0.3, -1.0, 2.0]]), np.array([1.0, 0.0, -1.0])
    tree = rft.sequence_value_grad([logits], rewards)
    value, std, grad = rft.value_grad(logits, rewards[None])
    assert (tree.value, tree.std) == (pytest.approx(value[0]), pytest.approx(std[0]))
    np.testing.assert_allclose(tree.grad[0], grad)
    deep = rft.sequence_value_grad(
        lambda prefixes: np.stack([prefixes.sum(axis=1) * 1.0, np.ones(len(prefixes))], axis=1),
        np.arange(8.0),
        length=3,
    )
    levels = [np.array([[bin(i).count("1"), 1.0] for i in range(2**level)]) for level in range(3)]
    same = rft.sequence_value_grad(levels, np.arange(8.0))
    assert deep.value == same.value


def test_bound_is_attained() -> None:
    """Two outputs of probability 1/2: the linear bound is exact for every std, so its exponent cannot be improved."""
    for std in (1e-8, 1e-3, 1.0):
        _, found, grad = rft.value_grad([[0.0, 0.0]], [[-std, std]])
        bound = rft.gradient_bounds(found, 1).sqrt_half_length
        assert np.linalg.norm(grad) == pytest.approx(bound[0], rel=1e-12)


def test_constant_rewards_give_exact_zeros() -> None:
    _, std, grad = rft.value_grad(np.random.default_rng(0).normal(size=(5, 7)), np.full((5, 7), 0.3))
    assert (std == 0).all()
    assert (grad == 0).all()


def exact_gradient(z: np.ndarray, r: np.ndarray) -> np.ndarray:
    """p_i sum_j p_j (r_i - r_j) in fractions, of the float64 probabilities without their sum's rounding."""
    weights = [Fraction(float(np.exp(x - z.max()))) for x in z]
    total, rewards = sum(weights), [Fraction(float(x)) for x in r]
    value = sum(w * x for w, x in zip(weights, rewards, strict=True)) / total
    return np.array([float(w / total * (x - value)) for w, x in zip(weights, rewards, strict=True)])


@settings(deadline=None, max_examples=80)
@given(
    seed=st.integers(0, 2**31), width=st.integers(2, 6), peak=st.sampled_from([0.0, 5.0, 40.0, 300.0]),
    ties=st.booleans(),
)  # fmt: skip
def test_gradients_keep_their_digits_where_they_vanish(seed: int, width: int, peak: float, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    z, r = rng.normal(size=width), rng.uniform(-1, 1, width)
    z[0] += peak
    if ties:
        r[1] = r[0]
    _, std, grad = rft.value_grad(z[None], r[None])
    wanted = exact_gradient(z, r)
    np.testing.assert_allclose(grad[0], wanted, 1e-12, 1e-13 * np.abs(wanted).max())
    assert abs(grad[0].sum()) <= 1e-12 * np.abs(wanted).max()
    # A tree of two steps, the second of which is certain: the gradient of the first is the same.
    tree = [z[None], np.where(np.eye(width)[0], 50.0, 0.0) * np.ones((width, 1))]
    deep = rft.sequence_value_grad(tree, np.repeat(r, width))
    np.testing.assert_allclose(deep.grad[0][0], wanted, 1e-11, 1e-12 * np.abs(wanted).max())
    assert deep.std == pytest.approx(std[0], rel=1e-12)


def test_the_case_of_the_lost_half() -> None:
    _, std, grad = rft.value_grad([[40.0, 0.0]], [[1.0, -1.0]])
    p = np.exp(-40.0)
    np.testing.assert_allclose(grad, [[2 * p, -2 * p]], 1e-14)
    assert std[0] == pytest.approx(2 * np.sqrt(p), rel=1e-14)


def test_no_bound_is_violated_on_peaked_trees() -> None:
    """Logits of up to some hundreds: all but certain policies, whose gradients are far below the rounding of V."""
    rng = np.random.default_rng(12)
    for _ in range(1000):
        width, length = int(rng.integers(2, 5)), int(rng.integers(1, 4))
        tree = [rng.normal(size=(width**level, width)) * 10 ** rng.uniform(1, 2.5) for level in range(length)]
        found = rft.sequence_value_grad(tree, rng.uniform(-1, 1, width**length))
        norm = np.linalg.norm(np.concatenate(found.grad))
        limits = (found.bounds.fisher, found.bounds.sqrt_half_length, found.bounds.trace, found.bounds.paper)
        assert all(norm <= limit * (1 + 1e-9) for limit in limits)


def test_no_bound_is_violated_on_1500_policies() -> None:
    check = rft.check_bounds(1500)
    assert check.violations == dict.fromkeys(("paper", "sqrt_half_length", "trace", "fisher"), 0)
    assert check.largest["sqrt_half_length"] > 0.99
    assert check.largest["paper"] < 0.2
    assert check.exponents["reward_scale"] == pytest.approx(1.0, abs=1e-6)
    assert check.exponents["rare_success"] == pytest.approx(2.0, abs=1e-3)
    assert "violations" in bounds_table(check)


def test_gradient_flow_times_solve_the_equation() -> None:
    """Against a plain integration of the flow on the logits."""
    p0, p1, k = 0.02, 0.7, 5
    for index, drive in enumerate((lambda p, e: p * (2 * e - 1 - p @ (2 * e - 1)), lambda p, e: e - p)):
        z, e, t, dt = np.zeros(k), np.eye(k)[0], 0.0, 2e-3
        z[0] = np.log(p0 / (1 - p0) * (k - 1))
        while (p := _reference.softmax(z[None])[0])[0] < p1:
            middle = _reference.softmax((z + 0.5 * dt * drive(p, e))[None])[0]
            z, t = z + dt * drive(middle, e), t + dt
        assert rft.gradient_flow_time(p0, p1, k)[index] == pytest.approx(t, rel=2e-3, abs=2 * dt)


@settings(deadline=None, max_examples=60)
@given(n=st.integers(2, 30), seed=st.integers(0, 2**31), level=st.sampled_from([0.8, 0.95]))
def test_intervals_hold_the_sample(n: int, seed: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    binary = rng.integers(0, 2, n).astype(float)
    low, high = rft.reward_std_interval(binary, level, (0, 1))
    assert low - 1e-12 <= binary.std() <= high + 1e-12
    assert high <= 0.5
    any_reward = rng.uniform(-1, 1, n)
    low, high = rft.reward_std_interval(any_reward, level, (-1, 1))
    assert 0 <= low <= min(any_reward.std(ddof=1), high)
    low, high = rft.reward_std_interval(any_reward, level)
    assert low <= any_reward.std(ddof=1) <= high


def test_binary_interval_covers() -> None:
    rng = np.random.default_rng(0)
    for p in (0.02, 0.3, 0.5):
        inside = 0
        for _ in range(300):
            low, high = rft.reward_std_interval((rng.random(12) < p).astype(float), 0.9, (0, 1))
            inside += low - 1e-12 <= np.sqrt(p * (1 - p)) <= high + 1e-12
        assert inside >= 0.88 * 300


def test_intervals_of_one_rollout() -> None:
    assert rft.reward_std_interval([0.5], 0.95, (0, 1)) == (0.0, 0.5)
    assert rft.reward_std_interval([0.5]) == (0.0, np.inf)


def test_bad_input() -> None:
    for call, message in (
        (lambda: rft.reward_std_interval([]), "rewards"),
        (lambda: rft.reward_std_interval([np.nan]), "rewards"),
        (lambda: rft.reward_std_interval([0.0], 1.5), "level"),
        (lambda: rft.reward_std_interval([2.0], 0.9, (0, 1)), "value range"),
        (lambda: rft.reward_std_interval([0.0], 0.9, (1, 0)), "value_range"),
        (lambda: rft.reward_std_interval([0.5], 0.9, (0, 1), "bernoulli"), "two values"),
        (lambda: rft.reward_std_interval([0.5], 0.9, None, "mp"), "value_range"),
        (lambda: rft.reward_std_interval([0.5], 0.9, None, "bootstrap"), "method"),
        (lambda: rft.gradient_bounds(-1.0, 2), "std"),
        (lambda: rft.gradient_bounds(1.0, 2, gamma=-1), "gamma"),
        (lambda: rft.gradient_bounds(1.0, 2, one_minus_p=-1), "one_minus_p"),
        (lambda: rft.gradient_flow_time(0.0, 0.5, 3), "p0"),
        (lambda: rft.gradient_flow_time(0.1, 0.5, 1), "n_labels"),
        (lambda: rft.value_grad([1.0], [1.0]), "logits"),
        (lambda: rft.value_grad([[1.0]], [[1.0, 2.0]]), "rewards"),
        (lambda: rft.sequence_value_grad([], [1.0]), "logits_tree"),
        (lambda: rft.sequence_value_grad([[[0.0, 0.0]], [[0.0, 0.0]]], [1.0] * 4), r"logits_tree\[1\]"),
        (lambda: rft.sequence_value_grad([[[0.0, 0.0]]], [1.0]), "rewards"),
        (lambda: rft.sequence_value_grad(lambda p: p, [1.0]), "length"),
        (lambda: rft.check_bounds(0), "policies"),
        (lambda: rft.reproduce_digits(steps=0), "steps"),
    ):
        with pytest.raises(ArgumentError, match=message):
            call()


@pytest.mark.slow
def test_digits_stall_on_small_std_inputs() -> None:
    """A short run of the paper's experiment: the gap between the two groups is there from the start."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    result = rft.reproduce_digits(0, steps=1500, pretraining_steps=1500, sft_first=1000, rft_after=300, every=500)
    start, end, supervised = (result.runs[name][-1] for name in ("pretrained", "rft", "sft"))
    assert start.small.std < 0.25 < 0.7 < start.large.std
    assert end.large.reward > 0.8
    assert end.small.reward < -0.8
    assert end.small.std < 0.1 < 0.3 < supervised.small.std  # supervision is on its way, reinforcement has stopped
    assert "SFT, then RFT" in digits_table([result])
