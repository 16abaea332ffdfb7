"""Keep the rollouts of a TRL trainer in a file that `legato rft scan` reads.

trainer = GRPOTrainer(..., reward_funcs=[logged(accuracy, "rollouts.jsonl")])
legato rft scan rollouts.jsonl --range 0 1
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from legato import rft

Reward = Callable[..., list[float | None]]


def logged(reward: Reward, path: str | Path, group_size: int = 8) -> Reward:
    """Wrap a reward function: its rewards go to the file too, and a line says how many groups carry no signal.

    A reward of None, "does not apply", is not kept.
    """

    def function(prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:
        rewards = reward(prompts=prompts, completions=completions, **columns)
        with Path(path).open("a", encoding="utf-8") as file:
            for prompt, value in zip(prompts, rewards, strict=True):
                if value is None:
                    continue
                text = prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True)
                file.write(json.dumps({"prompt": text, "reward": float(value)}) + "\n")
        given = [i for i, value in enumerate(rewards) if value is not None]
        stats = rft.group_stats([rewards[i] for i in given], np.array(given, np.int64) // group_size)
        print(f"groups without a signal: {stats.zero_std[stats.n > 0].mean():.0%}")
        return rewards

    function.__name__ = getattr(reward, "__name__", "reward")
    return function


if __name__ == "__main__":

    def accuracy(prompts: list[str], completions: list[str], **_: Any) -> list[float | None]:
        """Reward 1 where the completion holds the prompt's number."""
        return [float(p in c) for p, c in zip(prompts, completions, strict=True)]

    wrapped = logged(accuracy, "rollouts.jsonl")
    wrapped(prompts=["1"] * 8 + ["2"] * 8, completions=["1", "0"] * 4 + ["0"] * 8)
    print(rft.scan("rollouts.jsonl", value_range=(0, 1)).to_table())
