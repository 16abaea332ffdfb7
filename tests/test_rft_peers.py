"""Advantages and losses against the functions of verl that a trainer would call, where verl is installed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from legato import rft

torch = pytest.importorskip("torch", reason="torch is in the peers extra")
verl = pytest.importorskip("verl.trainer.ppo.core_algos", reason="verl is in no extra")

from legato.rft.autograd import policy_loss  # noqa: E402

MODES = ("token-mean", "token-sum", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm")
close = torch.testing.assert_close


def config(**changed: Any) -> Any:
    from verl.workers.config import ActorConfig

    return ActorConfig(strategy="fsdp", rollout_n=1, ppo_micro_batch_size_per_gpu=1, **changed)


def batch(seed: int = 0, shape: tuple[int, int] = (6, 5)) -> tuple[Any, ...]:
    """logp, old_logp, advantages and a mask of lengths, one of which is 0."""
    rng = np.random.default_rng(seed)
    logp, old = rng.normal(-2, 0.5, (2, *shape))
    lengths = rng.integers(1, shape[1] + 1, shape[0])
    lengths[-1] = 0
    mask = (np.arange(shape[1]) < lengths[:, None]).astype(np.float64)
    return tuple(map(torch.from_numpy, (logp, old, rng.normal(size=shape), mask)))


def outcomes(seed: int = 1) -> tuple[Any, Any, Any]:
    """Rewards at the last token of each sequence, a mask, and the prompts by name; one prompt has one sequence."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 6, 9)
    mask = np.arange(5) < lengths[:, None]
    rewards = np.where(np.arange(5) == lengths[:, None] - 1, rng.normal(size=9)[:, None], 0.0)
    names = np.array(["a", "b", "a", "b", "a", "b", "a", "b", "alone"], object)
    return torch.from_numpy(rewards), torch.from_numpy(mask.astype(np.float64)), names


def spread(per_sequence: Any, mask: Any) -> Any:
    return torch.from_numpy(np.asarray(per_sequence))[:, None] * mask


@pytest.mark.parametrize("mode", MODES)
def test_aggregations(mode: str) -> None:
    x, _, _, mask = batch()
    close(rft.masked_mean(x, mask, mode), verl.agg_loss(x, mask, mode).item(), atol=1e-7, rtol=1e-7)
    norm = verl.agg_loss(x, mask, "seq-mean-token-sum-norm", loss_scale_factor=11).item()
    assert rft.masked_mean(x, mask, "seq-mean-token-sum-norm", 11) == pytest.approx(norm)
    part = verl.agg_loss(x, mask, mode, batch_num_tokens=40, global_batch_size=12).item()
    if mode != "token-sum":
        count = 40 if mode == "token-mean" else 12
        assert rft.masked_mean(x, mask, mode, count=count) == pytest.approx(part, rel=1e-7)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("kind", "peer", "dual"),
    [("ppo", "vanilla", 3.0), ("gspo_token", "gspo", None), ("cispo", "cispo", None), ("sapo", "sapo", None),
     ("reinforce", "gpg", None)],
)  # fmt: skip
def test_policy_losses(kind: Any, peer: str, dual: float | None, mode: str) -> None:
    logp, old, advantages, mask = batch(2)
    advantages = advantages * 3  # beyond the dual clip, too
    logp[0, 0] = old[0, 0] + 2.0
    weights = torch.rand(logp.shape, dtype=torch.float64) * 2
    mode = "seq-mean-token-mean" if kind == "sapo" else mode  # its only one there
    found = []
    for run in ("verl", "legato"):
        x = logp.clone().requires_grad_()
        if run == "verl":
            options = config(clip_ratio_low=0.2, clip_ratio_high=0.28, clip_ratio_c=3.0)
            loss, _ = verl.get_policy_loss_fn(peer)(
                old, x, advantages, mask, loss_agg_mode=mode, config=options, rollout_is_weights=weights
            )
        else:
            loss = policy_loss(
                x, old, advantages, mask, kind, mode, eps_low=0.2, eps_high=0.28, dual_clip=dual, weights=weights
            )
        loss.backward()
        found.append((loss.detach(), x.grad))
    close(found[1][0], found[0][0], atol=1e-7, rtol=1e-7)
    close(found[1][1], found[0][1], atol=1e-8, rtol=1e-7)


@pytest.mark.parametrize("kind", ["k1", "k2", "k3", "abs", "k1+", "k3+"])
def test_kl_penalties(kind: Any) -> None:
    logp, ref, _, mask = batch(3)
    ref = ref + torch.linspace(-4, 4, ref.numel(), dtype=ref.dtype).reshape(ref.shape)  # beyond the cap of 10, too
    x = logp.clone().requires_grad_()
    penalty = verl.agg_loss(verl.kl_penalty(x, ref, kind), mask, "token-mean")
    penalty.backward()
    found = rft.kl_loss(logp, ref, mask, kind, cap=10.0 if "3" in kind else None)
    assert found.loss == pytest.approx(penalty.item(), rel=1e-7)
    np.testing.assert_allclose(found.grad_logp, x.grad.numpy(), 1e-7, 1e-9)


def test_value_losses() -> None:
    values, old, returns, mask = batch(4)
    x = values.clone().requires_grad_()
    loss, _ = verl.compute_value_loss(x, returns, old, mask, 0.2)
    loss.backward()
    found = rft.value_loss(values, old, returns, mask, 0.2)
    assert found.loss == pytest.approx(loss.item())
    np.testing.assert_allclose(found.grad_values, x.grad.numpy(), 1e-9, 1e-12)


def test_rollout_corrections() -> None:
    from verl.trainer.ppo.rollout_corr_helper import compute_rollout_correction_weights

    logp, rollout, _, mask = batch(5)
    for level in ("token", "sequence"):
        for threshold, options in ((1.3, {}), ("0.8_1.3", {"bounding": "mask", "low": 0.8})):
            for normalize in (False, True):
                wanted, _ = compute_rollout_correction_weights(
                    logp - rollout, mask, level, threshold, rollout_is_batch_normalize=normalize
                )
                found = rft.importance_weights(
                    logp, rollout, mask, level=level, high=1.3, normalize=normalize, **options
                )
                np.testing.assert_allclose(found, wanted, 1e-6, 1e-9)


def test_advantages() -> None:
    rewards, mask, names = outcomes()
    scores = rewards.sum(-1).numpy()
    options = SimpleNamespace(get=lambda name, default: {"norm_adv_by_std_in_grpo": False}.get(name, default))
    pairs = [
        (verl.compute_grpo_outcome_advantage(rewards.clone(), mask, names),
         rft.group_advantages(scores, names, eps=1e-6, singleton="raw")),
        (verl.compute_grpo_outcome_advantage(rewards.clone(), mask, names, norm_adv_by_std_in_grpo=False),
         rft.group_advantages(scores, names, "dr_grpo", singleton="raw")),
        (verl.compute_rloo_outcome_advantage(rewards.clone(), mask, names),
         rft.group_advantages(scores, names, "rloo", singleton="raw")),
        (verl.compute_rloo_vectorized_outcome_advantage(rewards.clone(), mask, names),
         rft.group_advantages(scores, names, "rloo")),
        (verl.compute_grpo_passk_outcome_advantage(rewards[:8].clone(), mask[:8], names[:8], config=options),
         rft.pass_at_k_advantages(scores[:8], names[:8], 4)),
    ]  # fmt: skip
    for (wanted, _), found in pairs:
        close(spread(found, mask[: len(found)]), wanted, atol=2e-6, rtol=2e-6)
    wanted, _ = verl.compute_reinforce_plus_plus_baseline_outcome_advantage(rewards.clone(), mask, names)
    centered = spread(rft.group_advantages(scores, names, "dr_grpo", singleton="raw"), mask)
    close(torch.from_numpy(rft.whiten(centered, mask)), wanted, atol=1e-7, rtol=1e-7)


def test_advantages_over_time() -> None:
    rewards, values, _, mask = batch(6)
    mask[:-1, 0] = 1
    mask[1, 1] = 0  # a gap
    found = rft.reinforce_plus_plus(rewards, mask, 0.9)
    wanted = verl.compute_reinforce_plus_plus_outcome_advantage(rewards, mask, config=SimpleNamespace(gamma=0.9))
    for x, y in zip(found, wanted, strict=True):
        close(torch.from_numpy(x), y, atol=1e-7, rtol=1e-7)
    wanted = verl.compute_remax_outcome_advantage(rewards, torch.arange(6.0), mask)
    advantages, returns = rft.remax(rewards, np.arange(6.0), mask)
    close(torch.from_numpy(advantages), wanted[0] * mask, atol=1e-9, rtol=1e-9)
    close(torch.from_numpy(returns), wanted[1] * mask, atol=1e-9, rtol=1e-9)
    advantages, returns = rft.gae(rewards, values, mask, 0.9, 0.8)
    wanted, wanted_returns = verl.compute_gae_advantage_return(rewards, values, mask, 0.9, 0.8)
    kept = mask.bool()
    close(torch.from_numpy(rft.whiten(advantages, mask))[kept], wanted[kept], atol=1e-6, rtol=1e-6)
    close(torch.from_numpy(returns)[kept], wanted_returns[kept], atol=1e-9, rtol=1e-9)
