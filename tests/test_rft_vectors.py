"""The expected numbers of the specification, on every backend."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from conftest import DATA
from legato import rft
from legato.rft import _reference
from legato.rft.theory import constant_group_probability


def cases(name: str) -> list[Any]:
    return json.loads((DATA / "rft" / f"{name}.json").read_text())["cases"]


def numbers(x: Any) -> np.ndarray:
    """Nan and inf stand as strings."""
    return np.array([numbers(e) if isinstance(e, list) else float(e) for e in x])


def close(found: Any, expected: Any, rel: float, abs_: float = 0.0) -> None:
    np.testing.assert_allclose(found, numbers(expected) if isinstance(expected, list) else expected, rel, abs_)


def bfloat16(x: np.ndarray) -> np.ndarray:
    bits = x.astype(np.float32).view(np.uint32)
    assert not (bits & 0xFFFF).any()
    return (bits >> 16).astype(np.uint16)


@pytest.mark.parametrize("case", cases("token_stats"), ids=lambda c: f"{c['dtype']}-{len(c['logits'][0])}")
def test_token_stats(case: dict[str, Any], backend: str) -> None:
    logits = numbers(case["logits"]).astype(np.float32)
    is_brain = case["dtype"] == "bf16"
    logits = bfloat16(logits) if is_brain else logits
    stats = rft.token_stats(logits, case["ids"], case["temperature"], backend=backend)
    close(stats.logp, case["logp"], 0, 2e-5)
    close(stats.entropy, case["entropy"], 0, 5e-5)
    close(stats.sum_p2, case["sum_p2"], 0, 1e-6)
    close(stats.lse, case["lse"], 1e-6)
    assert stats.logp.dtype == np.float32
    if "grad_logits" in case:
        weights = numbers(case["grad_logp"]).astype(np.float32)
        grad = rft.token_stats_backward(
            logits, case["ids"], stats, weights, temperature=case["temperature"], backend=backend
        )
        if is_brain:  # rounded to the storage of the logits
            close((grad.astype(np.uint32) << 16).view(np.float32), case["grad_logits"], 2**-8, 2e-6)
        else:
            close(grad, case["grad_logits"], 0, 2e-6)


@pytest.mark.parametrize("case", cases("kl_estimators"))
def test_kl(case: dict[str, Any]) -> None:
    found = rft.kl_estimates(case["logp"], case["ref_logp"])
    for name in ("k1", "k2", "k3"):
        close(getattr(found, name), case[name], 1e-9, 1e-14)
    assert (found.k3 >= 0).all()


@pytest.mark.parametrize("case", cases("groups"), ids=lambda c: c["kind"])
def test_groups(case: dict[str, Any], backend: str) -> None:
    rewards, groups = case["rewards"], case["groups"]
    stats = rft.group_stats(rewards, groups, backend=backend)
    for name, key in [(n, n) for n in ("n", "mean", "var_biased", "var_unbiased", "std_biased", "min", "max")] + [
        ("std_unbiased", "std_unbiased_var")
    ]:
        close(getattr(stats, name), case[key], 1e-10, 1e-12)
    np.testing.assert_array_equal(stats.zero_std, case["zero_std"])
    constant = stats.zero_std[groups]
    assert (stats.std_biased[stats.zero_std] == 0).all()
    for kind in ("grpo", "dr_grpo", "rloo", "reinforce_plus_plus_baseline"):
        found = rft.group_advantages(rewards, groups, kind, backend=backend)
        close(found, case["adv_batch" if kind == "reinforce_plus_plus_baseline" else f"adv_{kind}"], 1e-10, 1e-12)
        assert (found[constant] == 0).all()
    raw = rft.group_advantages(rewards, groups, "rloo", singleton="raw", backend=backend)
    close(raw, case["adv_rloo_singleton_raw"], 1e-10, 1e-12)
    loo = rft.leave_one_out(rewards, groups, backend=backend)
    close(loo.mean, case["loo_mean"], 1e-10, 1e-12)
    close(loo.std, case["loo_std"], 1e-10, 1e-12)
    close(loo.advantage, case["adv_loo_norm"], 1e-10, 1e-12)
    assert (loo.std[numbers(case["loo_std"]) == 0] == 0).all()


@pytest.mark.parametrize("case", cases("gae"), ids=lambda c: f"{c['mode']}-{c['lam']}")
def test_gae(case: dict[str, Any], backend: str) -> None:
    rewards, values, mask = (np.array(case[k]) for k in ("rewards", "values", "mask"))
    options: dict[str, Any] = {"gamma": case["gamma"], "lam": case["lam"], "backend": backend}
    advantages, returns = rft.gae(rewards, values, mask, **options)
    close(advantages, case["adv"], 1e-10, 1e-10)
    close(returns, case["returns"], 1e-10, 1e-10)
    close(
        rft.gae(rewards, values, mask, bootstrap=case["bootstrap"], **options)[0], case["adv_bootstrap"], 1e-10, 1e-10
    )
    close(rft.discounted_returns(rewards, mask, case["gamma"], backend=backend), case["rewards_to_go"], 1e-10, 1e-10)
    single = rft.gae(rewards.astype(np.float32), values.astype(np.float32), mask, **options)
    assert single[0].dtype == np.float32
    close(single[0], case["adv"], 0, 5e-5)


@pytest.mark.parametrize("case", cases("ppo_loss"))
def test_ppo_loss(case: dict[str, Any]) -> None:
    found = rft.ppo_loss(
        case["logp"], case["old_logp"], case["adv"], case["eps_low"], case["eps_high"], case["dual_clip"]
    )
    for name in ("loss", "grad_logp", "ratio"):
        close(getattr(found, name), case[name], 1e-10, 1e-12)
    np.testing.assert_array_equal(found.clipped, case["clipped"])
    for mode, expected in case["aggregate"].items():
        close(rft.masked_mean(found.loss, case["mask"], mode), expected, 1e-10)


@pytest.mark.parametrize("case", cases("value_grad"))
def test_value_grad(case: dict[str, Any]) -> None:
    value, std, grad = rft.value_grad(case["logits"], case["rewards"])
    close(value, case["value"], 1e-11, 1e-13)
    close(std, case["std"], 1e-11, 1e-13)
    close(grad, case["grad_logits"], 1e-11, 1e-13)


@pytest.mark.parametrize("case", cases("exact_policy"), ids=lambda c: f"V{c['V']}-L{c['L']}")
def test_exact_policy(case: dict[str, Any]) -> None:
    """The policy's logits are W phi(prefix): the gradient in W and its bounds follow by the chain rule."""
    phi, weights, rewards = (np.array(case[k]) for k in ("phi", "W", "rewards"))
    levels = np.split(phi @ weights.T, np.cumsum([case["V"] ** level for level in range(case["L"] - 1)]))
    found = rft.sequence_value_grad(levels, rewards)
    close(found.value, case["value"], 1e-9, 1e-12)
    close(found.std, case["std"], 1e-9, 1e-12)
    close(np.concatenate(found.grad).T @ phi, case["grad"], 1e-9, 1e-12)
    close(found.one_minus_p2, case["sum_1mp2"], 1e-9)
    bounds = rft.gradient_bounds(case["std"], case["L"], case["gamma"], case["sum_1mp2"])
    close(bounds.paper, case["bounds"]["paper"], 1e-9)
    close(bounds.sqrt_half_length, case["bounds"]["sqrt_L2"], 1e-9)
    close(bounds.trace, case["bounds"]["trace"], 1e-9)
    listed = _reference.sequence_policy(levels, rewards)
    close(listed["probabilities"], case["probs"], 1e-9, 1e-12)
    lift = np.kron(np.eye(len(phi)), np.eye(case["V"]))
    jacobian = np.einsum("kd,vw->kvwd", phi, np.eye(case["V"])).reshape(lift.shape[0], -1)
    fisher = np.linalg.eigvalsh(jacobian.T @ listed["fisher"] @ jacobian)[-1]
    close(fisher, case["fisher_max_eig"], 1e-9)
    close(case["std"] * np.sqrt(fisher), case["bounds"]["fisher"], 1e-9)


@pytest.mark.parametrize("case", cases("std_inference"), ids=lambda c: c["method"])
def test_std_inference(case: dict[str, Any]) -> None:
    if case["method"] == "p_zero_group":
        close(constant_group_probability(case["p"], case["G"]), case["value"], 1e-7, 1e-9)
    elif case["method"] == "c4":
        from legato.rft.intervals import expected_std_ratio

        close(expected_std_ratio(np.array(case["n"])), case["c4"], 1e-7)
    else:
        found = rft.reward_std_interval(case["rewards"], case["level"], case.get("value_range"), case["method"])
        close(found, case["ci"], 1e-7, 1e-9)


@pytest.mark.parametrize("case", cases("gradient_flow_times"))
def test_gradient_flow_times(case: dict[str, Any]) -> None:
    close(rft.gradient_flow_time(case["p0"], case["p1"], case["K"]), [case["rft"], case["sft"]], 1e-10)
