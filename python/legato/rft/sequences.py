"""The paper's claim on sequences: a small transformer over characters, with a reward of whole outputs.

The reward is +1 for one output to each prompt and -1 for all others, so that its mean, its std and the exact policy
gradient follow from the probability of that output: V = 2 p - 1, std = 2 sqrt(p (1 - p)), grad V = 2 grad p. Nothing is
a matter of exploration, as in the experiment on digits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from legato._scalars import as_count
from legato.errors import DependencyError
from legato.rft.reproduction import DigitsResult, GroupState, Snapshot

__all__ = ["reproduce_sequence", "sequence_table", "sequence_verdicts"]

CHARACTERS, PROMPT, OUTPUT = 8, 3, 4
PROMPTS, SMALL = 200, 0.1  # share of prompts whose wanted output is not among those of pretraining
CHOICES = 5  # outputs that pretraining gives to each prompt
WIDTH, HEADS, LAYERS = 48, 4, 2
BATCH, RATE = 100, 1e-3


def reproduce_sequence(
    seed: int = 0,
    steps: int = 2000,
    pretraining_steps: int = 1500,
    every: int = 100,
    progress: Callable[[str], None] | None = None,
) -> DigitsResult:
    """Finetune a two-layer character transformer by reinforcement and by supervision.

    Pretraining spreads the probability of each prompt over five outputs of four characters. Finetuning wants one: for
    90 % of the prompts one of the five, which has a large reward std, for 10 % another, which has a small one.

    Parameters
    ----------
    seed : int
    steps : int
        Of reinforcement (exact policy gradient) and of supervision, each from the pretrained network.
    pretraining_steps, every : int
    progress : callable, optional
        Gets a line of text now and then.

    Returns
    -------
    DigitsResult
        Runs "pretrained", "rft" and "sft"; the gradient norm is that of the logits of the wanted output. Correlations
        "rft" and "sft", as of `reproduce_digits`.

    See Also
    --------
    reproduce_digits : Run the paper's controlled experiment (its section 4.1) on scikit-learn's digits.

    Examples
    --------
    >>> from legato import rft
    >>> sorted(rft.reproduce_sequence(steps=2, pretraining_steps=2, every=1).runs)
    ['pretrained', 'rft', 'sft']
    """
    steps, every = as_count("steps", steps), as_count("every", every)
    pretraining_steps, seed = as_count("pretraining_steps", pretraining_steps), as_count("seed", seed, 0)
    try:
        import torch
    except ImportError:
        raise DependencyError("torch is missing: pip install torch") from None
    functional = torch.nn.functional
    rng = np.random.default_rng(seed)
    codes = rng.choice(CHARACTERS**PROMPT, PROMPTS, replace=False)
    prompts = torch.from_numpy(codes[:, None] // CHARACTERS ** np.arange(PROMPT) % CHARACTERS)
    drawn = np.array([rng.choice(CHARACTERS**OUTPUT, CHOICES + 1, replace=False) for _ in range(PROMPTS)])
    outputs = torch.from_numpy(drawn[:, :, None] // CHARACTERS ** np.arange(OUTPUT) % CHARACTERS)
    small = np.zeros(PROMPTS, bool)
    small[rng.permutation(PROMPTS)[: int(SMALL * PROMPTS)]] = True
    wanted = outputs[np.arange(PROMPTS), np.where(small, CHOICES, 0)]
    torch.manual_seed(seed)
    network = _transformer(torch)

    def log_p(model: Any, rows: Any, output: Any) -> tuple[Any, Any]:
        """Of whole outputs, and the logits of their characters."""
        logits = model(torch.cat([prompts[rows], output[:, :-1]], dim=1))[:, PROMPT - 1 :]
        each = functional.log_softmax(logits, -1).gather(-1, output[..., None])[..., 0]
        return each.sum(1), logits

    def values(model: Any) -> tuple[Any, ...]:
        total, logits = log_p(model, slice(None), wanted)
        p = total.exp()
        (gradient,) = torch.autograd.grad(2 * p.sum(), logits)
        right = (logits.argmax(-1) == wanted).all(1)
        std = 2 * (p * (1 - p)).sqrt()
        norm = gradient.flatten(1).norm(dim=1)
        return tuple(x.detach().double().numpy() for x in (2 * p - 1, right, std, norm))

    def snapshot(model: Any, step: int) -> Snapshot:
        found = values(model)
        return Snapshot(step, *(GroupState(*(float(v[g].mean()) for v in found)) for g in (small, ~small)))

    def train(model: Any, loss: Callable[[Any, Any], Any], count: int, name: str) -> list[Snapshot]:
        adam = torch.optim.Adam(model.parameters(), RATE)
        curve = [snapshot(model, 0)]
        for step in range(1, count + 1):
            rows = torch.from_numpy(rng.choice(PROMPTS, BATCH, replace=False))
            adam.zero_grad()
            loss(model, rows).backward()
            adam.step()
            if step % every == 0 or step == count:
                curve.append(snapshot(model, step))
                if progress is not None and (step % (5 * every) == 0 or step == count):
                    now = curve[-1]
                    progress(
                        f"seed {seed}, {name}, step {step}: reward {now.small.reward:+.3f} on small-std prompts, "
                        f"{now.large.reward:+.3f} on large-std prompts"
                    )
        return curve

    def pretrain(model: Any, rows: Any) -> Any:
        chosen = torch.from_numpy(rng.integers(0, CHOICES, len(rows)))
        return -log_p(model, rows, outputs[rows, chosen])[0].mean()

    def reinforce(model: Any, rows: Any) -> Any:
        return -2 * log_p(model, rows, wanted[rows])[0].exp().mean()

    def supervise(model: Any, rows: Any) -> Any:
        return -log_p(model, rows, wanted[rows])[0].mean()

    result = DigitsResult(seed)
    result.runs["pretrained"] = train(network, pretrain, pretraining_steps, "pretraining")[-1:]
    start = {name: value.clone() for name, value in network.state_dict().items()}
    before, _, spread, _ = values(network)
    for name, loss in (("rft", reinforce), ("sft", supervise)):
        network.load_state_dict(start)
        result.runs[name] = train(network, loss, steps, name)
        result.correlations[name] = float(np.corrcoef(spread, values(network)[0] - before)[0, 1])
    return result


def _transformer(torch: Any) -> Any:
    """Characters to logits of the next, causal, with learned positions."""
    nn = torch.nn

    class Transformer(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.characters = nn.Embedding(CHARACTERS, WIDTH)
            self.positions = nn.Parameter(torch.randn(PROMPT + OUTPUT, WIDTH) * 0.1)
            layer = nn.TransformerEncoderLayer(
                WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
            self.head = nn.Linear(WIDTH, CHARACTERS)

        def forward(self, text: Any) -> Any:
            length = text.shape[1]
            later = torch.ones(length, length, dtype=torch.bool).triu(1)
            return self.head(self.layers(self.characters(text) + self.positions[:length], mask=later))

    return Transformer()


def sequence_verdicts(results: Sequence[DigitsResult]) -> dict[str, bool]:
    """Say which claims every seed bears out."""
    last = {name: [result.runs[name][-1] for result in results] for name in ("rft", "sft")}
    return {
        "reinforcement solves prompts of large std and leaves those of small std": all(
            state.large.reward > 0.9 and state.small.reward < 0 for state in last["rft"]
        ),
        "supervision solves both": all(state.large.reward > 0.9 and state.small.reward > 0.9 for state in last["sft"]),
        "std at the start tells the gain of reinforcement better than that of supervision": all(
            result.correlations["rft"] > max(0.5, result.correlations["sft"]) for result in results
        ),
    }


def sequence_table(results: Sequence[DigitsResult]) -> str:
    """Write the last snapshot of each run, for a terminal: reward (accuracy, std, gradient norm) of each group."""
    lines = [f"{'seed':<5} {'run':<12} {'steps':>6}   {'small-std prompts':<34} {'large-std prompts':<34}".rstrip()]
    for result in results:
        for run, curve in result.runs.items():
            groups = " ".join(
                f"{g.reward:+.3f}  ({g.accuracy:4.0%}, {g.std:.3f}, {g.gradient:.4f})".ljust(34)
                for g in (curve[-1].small, curve[-1].large)
            )
            lines.append(f"{result.seed:<5} {run:<12} {curve[-1].step:>6}   {groups}".rstrip())
        c = result.correlations
        lines.append(f"{result.seed:<5} correlation of std and gain {c['rft']:+.2f} by RFT, {c['sft']:+.2f} by SFT")
    lines += [
        f"{'holds' if holds else 'does not hold'}: {claim}" for claim, holds in sequence_verdicts(results).items()
    ]
    return "\n".join(lines) + "\n"
