"""Reinforcement fine-tuning: the tensor kernels of a policy-gradient step, and the reward-std doctor.

Arrays in, arrays out. Paper: Razin, Zhou, Saremi, Thilak, Bradley, Nakkiran, Susskind, Littwin, "Vanishing Gradients in
Reinforcement Finetuning of Language Models", ICLR 2024 (arXiv 2310.20703).

Examples
--------
>>> import numpy as np
>>> from legato import rft
>>> logits = np.array([[0.0, np.log(3.0)]], np.float32)
>>> stats = rft.token_stats(logits, ids=[1])
>>> round(float(np.exp(stats.logp[0])), 3)
0.75
>>> rft.group_advantages([1, 0, 1, 1], groups=[0, 0, 1, 1], kind="dr_grpo")
array([ 0.5, -0.5,  0. ,  0. ])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from legato._lazily import lazily
from legato.rft.advantages import (
    GroupStats,
    LeaveOneOut,
    discounted_returns,
    gae,
    group_advantages,
    group_stats,
    leave_one_out,
    pass_at_k_advantages,
    reinforce_plus_plus,
    remax,
    whiten,
)
from legato.rft.losses import (
    KLLoss,
    PolicyLoss,
    PPOLoss,
    ValueLoss,
    importance_weights,
    kl_loss,
    masked_mean,
    policy_loss,
    ppo_loss,
    token_weights,
    value_loss,
)
from legato.rft.tokens import KLEstimates, TokenStats, kl_estimates, token_stats, token_stats_backward

if TYPE_CHECKING:
    from legato.rft.comparison import Comparison, compare
    from legato.rft.doctor import Scan, scan
    from legato.rft.intervals import reward_std_interval
    from legato.rft.layouts import Columns
    from legato.rft.planning import Plan, plan
    from legato.rft.report import Report
    from legato.rft.reproduction import check_bounds, reproduce_digits
    from legato.rft.selection import Selection, select
    from legato.rft.sequences import reproduce_sequence
    from legato.rft.teaching import reproduce_teacher
    from legato.rft.theory import (
        GradientBounds,
        SequenceValueGrad,
        gradient_bounds,
        gradient_flow_time,
        sequence_value_grad,
        value_grad,
    )
    from legato.rft.watching import Watch

# A training step needs the kernels above; the doctor, the theory and the experiments are imported where they are used.
_HOMES = {
    "Columns": "layouts",
    "Comparison": "comparison",
    "GradientBounds": "theory",
    "Plan": "planning",
    "Report": "report",
    "Scan": "doctor",
    "Selection": "selection",
    "SequenceValueGrad": "theory",
    "Watch": "watching",
    "check_bounds": "reproduction",
    "compare": "comparison",
    "gradient_bounds": "theory",
    "gradient_flow_time": "theory",
    "plan": "planning",
    "reproduce_digits": "reproduction",
    "reproduce_sequence": "sequences",
    "reproduce_teacher": "teaching",
    "reward_std_interval": "intervals",
    "scan": "doctor",
    "select": "selection",
    "sequence_value_grad": "theory",
    "value_grad": "theory",
}

__all__ = [
    "Columns",
    "Comparison",
    "GradientBounds",
    "GroupStats",
    "KLEstimates",
    "KLLoss",
    "LeaveOneOut",
    "PPOLoss",
    "Plan",
    "PolicyLoss",
    "Report",
    "Scan",
    "Selection",
    "SequenceValueGrad",
    "TokenStats",
    "ValueLoss",
    "Watch",
    "check_bounds",
    "compare",
    "discounted_returns",
    "gae",
    "gradient_bounds",
    "gradient_flow_time",
    "group_advantages",
    "group_stats",
    "importance_weights",
    "kl_estimates",
    "kl_loss",
    "leave_one_out",
    "masked_mean",
    "pass_at_k_advantages",
    "plan",
    "policy_loss",
    "ppo_loss",
    "reinforce_plus_plus",
    "remax",
    "reproduce_digits",
    "reproduce_sequence",
    "reproduce_teacher",
    "reward_std_interval",
    "scan",
    "select",
    "sequence_value_grad",
    "token_stats",
    "token_stats_backward",
    "token_weights",
    "value_grad",
    "value_loss",
    "whiten",
]

__getattr__, __dir__ = lazily(__name__, _HOMES)
