"""Keep the rollouts of a TRL trainer in a file that `legato rft scan` and `legato rft watch` read.

trainer = GRPOTrainer(..., reward_funcs=[logged(accuracy, "rollouts.jsonl")])
legato rft watch . --range 0 1
"""

from __future__ import annotations

from typing import Any

from legato import rft
from legato.rft.callbacks import logged


def accuracy(prompts: list[str], completions: list[str], **_: Any) -> list[float | None]:
    """Reward 1 where the completion holds the prompt's number."""
    return [float(p in c) for p, c in zip(prompts, completions, strict=True)]


if __name__ == "__main__":
    wrapped = logged(accuracy, "rollouts.jsonl")
    wrapped(prompts=["1"] * 8 + ["2"] * 8, completions=["1", "0"] * 4 + ["0"] * 8)
    print(rft.scan("rollouts.jsonl", value_range=(0, 1)).to_table())
