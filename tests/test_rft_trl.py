"""Losses and log-probabilities against TRL's own: its trainer's loss is called without a trainer around it."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from legato import rft

torch = pytest.importorskip("torch", reason="torch is in the peers extra")
trl = pytest.importorskip("trl", reason="trl is in the peers extra")

from legato.rft.autograd import policy_loss, token_logp_entropy  # noqa: E402

LONGEST = 9
close = torch.testing.assert_close
pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' and accelerate's own


def batch(seed: int) -> dict[str, Any]:
    """Log-probabilities now, before and of a reference; advantages; lengths, one of which is 0; weights."""
    rng = np.random.default_rng(seed)
    logp, old, ref = rng.normal(-2, 0.5, (3, 6, 7))
    logp[0, 0] = old[0, 0] + 2.0
    lengths = np.array([7, 3, 1, 5, 7, 0])
    drawn = {
        "logp": logp,
        "old": old,
        "ref": ref,
        "advantages": rng.normal(size=6) * 3,
        "weights": rng.random((6, 7)) * 2,
    }
    mask = (np.arange(7) < lengths[:, None]).astype(np.int64)
    return {name: torch.from_numpy(x) for name, x in drawn.items()} | {"mask": torch.from_numpy(mask)}


def trainer_loss(x: Any, drawn: dict[str, Any], loss_type: str, level: str, beta: float, **options: Any) -> Any:
    """GRPOTrainer's loss of these log-probabilities, which stand for what a model would give."""
    settings = {"delta": None, "use_bias_correction_kl": False, "steps_per_generation": 1,
                "sapo_temperature_pos": 1.0, "sapo_temperature_neg": 1.05} | options  # fmt: skip
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (x, torch.zeros_like(x), None),
        model=SimpleNamespace(training=True),
        accelerator=SimpleNamespace(num_processes=1, gather=lambda t: t, reduce=lambda t, reduction: t),  # noqa: ARG005
        args=SimpleNamespace(**settings),
        loss_type=loss_type,
        importance_sampling_level=level,
        epsilon_low=0.2,
        epsilon_high=5.0 if loss_type == "cispo" else 0.28,
        beta=beta,
        max_completion_length=LONGEST,
        current_gradient_accumulation_steps=1,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        aux_loss_enabled=False,
        use_vllm=True,
        vllm_importance_sampling_correction=True,
        _entropy_bonus_enabled=False,
        _metrics={"train": defaultdict(list)},
    )
    mask = drawn["mask"]
    inputs = {
        "prompt_ids": torch.zeros(6, 1, dtype=torch.int64),
        "prompt_mask": torch.ones(6, 1, dtype=torch.int64),
        "completion_ids": mask,
        "completion_mask": mask,
        "advantages": drawn["advantages"],
        "old_per_token_logps": drawn["old"],
        "ref_per_token_logps": drawn["ref"],
        "importance_sampling_ratio": drawn["weights"],
        "num_items_in_batch": mask.sum(),
    }
    return trl.GRPOTrainer._compute_loss(trainer, None, inputs)


KINDS = {"cispo": "cispo", "sapo": "sapo"}
MODES: dict[str, dict[str, Any]] = {
    "grpo": {"mode": "grpo"},
    "bnpo": {"mode": "bnpo"},
    "dr_grpo": {"mode": "dr_grpo", "max_len": LONGEST},
    "dapo": {"mode": "dapo"},
    "cispo": {"mode": "dapo", "eps_low": 1.0, "eps_high": 4.0},
    "sapo": {"mode": "grpo", "gates": (1.0, float(np.float32(1.05)))},  # torch.where makes its numbers float32
    "luspo": {"mode": "dr_grpo", "max_len": 1},
}


CLIPPED = [name for name in MODES if name not in KINDS]
CASES = [(name, level, delta) for name in CLIPPED for level in ("token", "sequence") for delta in (None, 1.5)]


@pytest.mark.parametrize(("loss_type", "level", "delta"), [*CASES, *((name, "token", None) for name in KINDS)])
def test_policy_losses(loss_type: str, level: str, delta: float | None) -> None:
    kind: Any = KINDS.get(loss_type, "ppo" if level == "token" else "gspo")
    drawn = batch(1)
    x, y = (drawn["logp"].clone().requires_grad_() for _ in range(2))
    wanted = trainer_loss(x, drawn, loss_type, level, 0.0, delta=delta)
    options = {"eps_low": 0.2, "eps_high": 0.28, "dual_clip": delta} | MODES[loss_type]
    mask, advantages = drawn["mask"].double(), drawn["advantages"][:, None].expand(-1, 7)
    found = policy_loss(y, drawn["old"], advantages, mask, kind, weights=drawn["weights"], **options)
    wanted.backward()
    found.backward()
    close(found, wanted, atol=1e-12, rtol=1e-10)
    close(y.grad, x.grad, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("corrected", [False, True])
def test_kl_term(corrected: bool) -> None:
    drawn = batch(2)
    x = drawn["logp"].clone().requires_grad_()
    without = drawn | {"advantages": torch.zeros(6, dtype=torch.float64)}
    wanted = trainer_loss(x, without, "grpo", "token", 0.04, use_bias_correction_kl=corrected)
    wanted.backward()
    found = rft.kl_loss(
        drawn["logp"], drawn["ref"], drawn["mask"], "k3", "grpo", old_logp=drawn["old"] if corrected else None
    )
    assert 0.04 * found.loss == pytest.approx(wanted.item(), rel=1e-12)
    np.testing.assert_allclose(0.04 * found.grad_logp, x.grad.numpy(), 1e-10, 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_log_probabilities_and_entropies(dtype: Any) -> None:
    from trl.trainer.utils import entropy_from_logits, selective_log_softmax

    generator = torch.Generator().manual_seed(3)
    logits = (torch.randn(2, 5, 3000, generator=generator) * 4).to(dtype)
    ids = torch.randint(3000, (2, 5), generator=generator)
    logp, entropy = token_logp_entropy(logits, ids)
    exact = logits.float()  # TRL's own of bfloat16 has bfloat16's error
    close(logp, selective_log_softmax(exact, ids), atol=2e-5, rtol=0)
    close(entropy, entropy_from_logits(exact), atol=5e-5, rtol=0)
