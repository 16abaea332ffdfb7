"""Losses: gradients are derivatives, aggregations, masked numbers, bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legato import rft
from legato.errors import ArgumentError
from legato.rft.losses import KL_KINDS, MODES, SURROGATES


def batch(seed: int, shape: tuple[int, int] = (3, 6)) -> tuple[Any, Any, Any, Any]:
    """logp, old_logp, advantages, and a mask of which a row is empty."""
    rng = np.random.default_rng(seed)
    new, old = rng.normal(-1.0, 0.4, (2, *shape))
    mask = rng.random(shape) < 0.7
    mask[-1] = False
    return new, old, rng.normal(size=shape) * 2, mask


def derivative(loss: Any, x: Any, step: float = 1e-6) -> Any:
    """Of a number by each entry, from both sides."""
    found = np.empty(x.shape)
    for at in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[at] += step
        down[at] -= step
        found[at] = (loss(up) - loss(down)) / (2 * step)
    return found


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


def test_one_advantage_a_sequence_is_not_one_a_step() -> None:
    """With b == t an array of b would be taken for one a step."""
    new, old, advantages = np.zeros((2, 2)), np.zeros((2, 2)), np.array([1.0, -1.0])
    for call in (rft.ppo_loss, rft.policy_loss):
        with pytest.raises(ArgumentError, match=r"advantages: expected shape \(2, 2\).*one a sequence: x\[:, None\]"):
            call(new, old, advantages)
    assert rft.ppo_loss(new, old, advantages[:, None]).loss.tolist() == [[-1, -1], [1, 1]]
    assert rft.ppo_loss(new, old, 2.0).loss.tolist() == [[-2, -2], [-2, -2]]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", SURROGATES)
def test_gradient_of_the_aggregate(kind: Any, mode: Any) -> None:
    new, old, a, mask = batch(1)
    weights = np.random.default_rng(2).random(new.shape)
    options: dict[str, Any] = {"kind": kind, "mode": mode, "weights": weights, "eps_high": 0.3, "max_len": 9}
    if kind in ("ppo", "gspo"):
        options["dual_clip"] = 2.0
    found = rft.policy_loss(new, old, a, mask, **options)
    if kind == "cispo":  # its clipped ratio is a constant
        held = np.clip(np.exp(new - old), 0.8, 1.3)
        expected = derivative(lambda x: rft.masked_mean(-held * a * x * weights, mask, mode, 9), new)
    elif kind == "gspo_token":  # the loss of "gspo", but each token goes on from the sequence's mean by itself
        mean = (np.where(mask, new - old, 0).sum(1) / np.maximum(mask.sum(1), 1))[:, None]
        token = [rft.ppo_loss(new, new - mean, a, 0.2, 0.3)]
        assert found.loss == pytest.approx(rft.masked_mean(token[0].loss * weights, mask, mode, 9))
        expected = derivative(
            lambda x: rft.masked_mean(rft.ppo_loss(x, new - mean, a, 0.2, 0.3).loss * weights, mask, mode, 9), new
        )
    else:
        expected = derivative(lambda x: rft.policy_loss(x, old, a, mask, **options).loss, new)
    np.testing.assert_allclose(found.grad_logp, expected, 1e-6, 1e-8)
    assert (found.grad_logp[~mask] == 0).all()
    assert (found.ratio[~mask] == 0).all()


def test_sequence_gradients_agree_where_a_sequence_has_one_advantage() -> None:
    new, old, a, mask = batch(3)
    for mode in ("grpo", "seq-mean-token-mean"):
        one, two = (rft.policy_loss(new, old, a[:, :1], mask, kind, mode) for kind in ("gspo", "gspo_token"))
        np.testing.assert_allclose(one.grad_logp, two.grad_logp, 1e-12, 1e-15)
        assert one.loss == two.loss


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("kind", KL_KINDS)
def test_kl_losses(kind: Any, corrected: bool) -> None:
    new, old, _, mask = batch(4)
    reference = batch(5)[0] + np.where(batch(5)[3], 0.0, 1.5)
    options: dict[str, Any] = {"kind": kind, "cap": 1.1, "old_logp": old if corrected else None}
    found = rft.kl_loss(new, reference, mask, **options)
    d = new - reference
    plain = {"k1": d, "k2": d * d / 2, "k3": np.expm1(-d) + d, "abs": np.abs(d)}[kind[:2] if "k" in kind else kind]
    expected = np.clip(plain, -1.1, 1.1) * (np.exp(new - old) if corrected else 1.0)
    np.testing.assert_allclose(found.estimate, np.where(mask, expected, 0), 1e-12)
    assert found.loss == pytest.approx(rft.masked_mean(expected, mask))
    assert (np.abs(plain[mask]) > 1.1).any()
    if not kind.endswith("+"):
        slope = derivative(lambda x: rft.kl_loss(x, reference, mask, **options).loss, new)
        np.testing.assert_allclose(found.grad_logp, slope, 1e-6, 1e-8)
    elif not corrected:
        np.testing.assert_allclose(found.grad_logp, rft.token_weights(mask) * d, 1e-12)


def test_value_losses() -> None:
    values, old, goal, mask = batch(6)
    for clip in (0.1, 0.5, None):
        found = rft.value_loss(values, old, goal, mask, clip, "seq-mean-token-sum")
        loss = [rft.value_loss, (old, goal, mask, clip, "seq-mean-token-sum")]
        slope = derivative(lambda x, loss=loss: loss[0](x, *loss[1]).loss, values)
        np.testing.assert_allclose(found.grad_values, slope, 1e-6, 1e-8)
        assert found.clipped.any() == (clip is not None)
    assert rft.value_loss([[3.0]], [[0.0]], [[1.0]], clip=None).loss == 2.0


def test_importance_weights() -> None:
    new, old = np.log([[0.5, 0.25, 0.1], [0.5, 0.5, 0.5]]), np.log([[0.25, 0.25, 0.4], [0.1, 0.5, 0.5]])
    mask = np.array([[1, 1, 1], [1, 1, 0]])
    weights = rft.importance_weights(new, old, mask)
    np.testing.assert_allclose(weights, [[2, 1, 0.25], [2, 1, 0]])
    np.testing.assert_allclose(rft.importance_weights(new, old, mask, low=0.5)[0], [2, 1, 0.5])
    np.testing.assert_allclose(rft.importance_weights(new, old, mask, bounding="mask", low=0.5)[0], [2, 1, 0])
    np.testing.assert_allclose(rft.importance_weights(new, old, mask, high=None)[1], [5, 1, 0])
    sequences = rft.importance_weights(new, old, mask, level="sequence", high=3.0)
    np.testing.assert_allclose(sequences, [[0.5] * 3, [3, 3, 0]])
    means = rft.importance_weights(new, old, mask, level="geometric", high=None)
    np.testing.assert_allclose(means, [[0.5 ** (1 / 3)] * 3, [5**0.5] * 2 + [0]])
    for level, count in (("token", mask.sum()), ("sequence", None)):
        scaled = rft.importance_weights(new, old, mask, level=level, normalize=True)
        mean = scaled.sum() / count if count else scaled[:, 0].mean()
        assert mean == pytest.approx(1.0)
    assert rft.importance_weights(np.full((1, 2), -900.0), np.zeros((1, 2)), high=None).min() > 0


def test_masked_numbers_have_no_part() -> None:
    new, old, a, mask = batch(7)
    wild = [np.where(mask, x, bad) for x, bad in ((new, np.nan), (old, np.inf), (a, np.nan))]
    for kind in SURROGATES:
        one, two = rft.policy_loss(new, old, a, mask, kind), rft.policy_loss(*wild, mask, kind)
        assert one.loss == two.loss
        np.testing.assert_array_equal(one.grad_logp, two.grad_logp)
    assert rft.kl_loss(*wild[:2], mask).loss == rft.kl_loss(new, old, mask).loss
    assert rft.value_loss(*wild, mask).loss == rft.value_loss(new, old, a, mask).loss
    np.testing.assert_array_equal(rft.importance_weights(*wild[:2], mask), rft.importance_weights(new, old, mask))
    single = rft.policy_loss(new.astype(np.float32), old, a, mask)
    assert single.grad_logp.dtype == np.float32


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
        ((one, None, "token-mean", None, 0), "count"),
    ):
        with pytest.raises(ArgumentError, match=message):
            rft.masked_mean(*arguments)
    for call, message in (
        (lambda: rft.policy_loss([0.0], [0.0], [0.0]), r"logp: expected shape \(b, t\)"),
        (lambda: rft.policy_loss(one, one, one, kind="trpo"), "kind"),
        (lambda: rft.policy_loss(one, one, one, kind="sapo", gates=(1.0, 0.0)), "gates"),
        (lambda: rft.policy_loss(one, one, one, kind="sapo", dual_clip=2.0), "dual_clip: expected None with sapo"),
        (lambda: rft.policy_loss(one, one, one, weights=[1.0, 2.0]), "weights"),
        (lambda: rft.kl_loss(one, [[1.0, 2.0]]), "ref_logp"),
        (lambda: rft.kl_loss(one, one, kind="k4"), "kind"),
        (lambda: rft.kl_loss(one, one, cap=0.0), "cap"),
        (lambda: rft.value_loss(one, one, [[1.0, 2.0]]), "returns"),
        (lambda: rft.value_loss(one, one, one, clip=-1.0), "clip"),
        (lambda: rft.importance_weights(one, one, level="word"), "level"),
        (lambda: rft.importance_weights(one, one, bounding="drop"), "bounding"),
        (lambda: rft.importance_weights(one, one, low=3.0), "low: expected at most high = 2, got 3"),
        (lambda: rft.token_weights([1, 0]), r"mask: expected shape \(b, t\)"),
    ):
        with pytest.raises(ArgumentError, match=message):
            call()


def test_aggregations_have_the_values_of_their_source() -> None:
    x, mask = [[1.0, np.nan], [3.0, 5.0]], [[1, 0], [1, 1]]
    wanted = {
        "token-mean": 3.0, "token-sum": 9.0, "seq-mean-token-mean": 2.5, "seq-mean-token-sum": 4.5,
        "seq-mean-token-sum-norm": 0.5, "grpo": 2.5, "bnpo": 3.0, "dr_grpo": 0.5, "dapo": 3.0,
    }  # fmt: skip
    with_empty = wanted | {"grpo": 5 / 3, "dr_grpo": 1 / 3}  # only TRL's count sequences without a token
    for mode in MODES:
        assert rft.masked_mean(x, mask, mode, 9) == pytest.approx(wanted[mode])
        assert rft.masked_mean([*x, [7.0, 7.0]], [*mask, [0, 0]], mode, 9) == pytest.approx(with_empty[mode])
        assert rft.masked_mean(x, np.zeros((2, 2)), mode) == 0
        assert rft.masked_mean(np.empty((0, 3)), None, mode) == 0
        halves = [rft.masked_mean(x[i : i + 1], mask[i : i + 1], mode, 9, count=12) for i in (0, 1)]
        whole = rft.masked_mean(x, mask, mode, 9, count=12)
        assert sum(halves) == pytest.approx(whole)  # parts of a batch add up
        slope = derivative(lambda v, mode=mode: rft.masked_mean(v, mask, mode, 9), np.ones((2, 2)))
        np.testing.assert_allclose(rft.token_weights(mask, mode, 9), slope, 1e-6, 1e-9)
