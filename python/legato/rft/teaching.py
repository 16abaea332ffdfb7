"""An accurate reward model may teach slowly: reward models of one accuracy and another variance, by gradient flow.

Razin, Wang, Strauss, Wei, Lee, Arora, "What Makes a Reward Model a Good Teacher? An Optimization Perspective", NeurIPS
2025, arXiv 2503.15477. The policy is a softmax over some outputs to one prompt and its parameters are the logits, so
that the flow is exact; the reward models and the start are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from legato._arrays import Float64
from legato._scalars import as_count, as_number
from legato.rft import _reference
from legato.rft.theory import value_grad

__all__ = ["Teacher", "TeacherResult", "reproduce_teacher", "teacher_table", "teacher_verdicts"]

OUTPUTS = 12
LIKELY = 3  # outputs that are likely at the start, all of a middling true reward
_CHANGE = 0.02  # of the logits, in a step of the flow


@dataclass(frozen=True, slots=True)
class Teacher:
    """What a reward model does.

    Attributes
    ----------
    accuracy : float
        Share of pairs of outputs that it ranks as the true reward does.
    variance : float
        Of its reward under the policy at the start.
    time : float
        Of gradient flow on the expected model reward, until the expected true reward has gained so much.
    """

    accuracy: float
    variance: float
    time: float


@dataclass(frozen=True, slots=True)
class TeacherResult:
    """For one seed: the true reward as its own model, one that ranks as it does, and one that does not."""

    seed: int
    truth: Teacher
    accurate: Teacher
    inaccurate: Teacher


def reproduce_teacher(seed: int = 0, gain: float = 0.5) -> TeacherResult:
    """Let three reward models teach one policy.

    True rewards are in [-1, 1]: one output is worth 1, some that the policy likes are worth about 0, the rest less.
    "accurate" ranks every pair as the true reward does, but its rewards are a quarter as far apart. "inaccurate" tells
    the best output from the likely ones clearly and ranks the unlikely ones at random.

    Parameters
    ----------
    seed : int
    gain : float
        Of the expected true reward, which begins near 0.

    Returns
    -------
    TeacherResult

    See Also
    --------
    reproduce_digits : Run the paper's controlled experiment (its section 4.1) on scikit-learn's digits.

    Examples
    --------
    >>> from legato import rft
    >>> found = rft.reproduce_teacher()
    >>> found.accurate.accuracy, found.inaccurate.accuracy < 1, found.inaccurate.time < found.accurate.time
    (1.0, True, True)
    """
    seed, gain = as_count("seed", seed, 0), as_number("gain", gain, above=0, below=0.9)
    rng = np.random.default_rng(seed)
    truth = np.concatenate([[1.0], rng.uniform(-0.05, 0.05, LIKELY), rng.uniform(-1, -0.2, OUTPUTS - LIKELY - 1)])
    start = np.concatenate([[-3.0], np.zeros(LIKELY), np.full(OUTPUTS - LIKELY - 1, -5.0)])
    start += rng.normal(size=OUTPUTS) * 0.3
    accurate = 0.25 * truth
    inaccurate = np.concatenate([[1.0], rng.uniform(-0.6, -0.5, LIKELY), rng.uniform(-1, 1, OUTPUTS - LIKELY - 1)])
    models = (truth, accurate, inaccurate)
    return TeacherResult(seed, *(Teacher(*_teach(start, model, truth, gain)) for model in models))


def _teach(start: Float64, model: Float64, truth: Float64, gain: float) -> tuple[float, float, float]:
    """Accuracy, variance at the start, and time of the flow d logits / dt = gradient of the expected model reward."""
    above = np.triu_indices(len(truth), 1)
    same = np.sign(model[above[0]] - model[above[1]]) == np.sign(truth[above[0]] - truth[above[1]])
    std = float(value_grad(start[None], model[None])[1][0])

    def slope(z: Float64) -> Float64:
        return np.asarray(value_grad(z[None], model[None])[2][0])

    def worth(z: Float64) -> float:
        return float(_reference.softmax(z) @ truth)

    z, t, goal = start.copy(), 0.0, worth(start) + gain
    for _ in range(1_000_000):
        first = slope(z)
        step = _CHANGE / float(np.abs(first).max())
        second = slope(z + step / 2 * first)
        third = slope(z + step / 2 * second)
        fourth = slope(z + step * third)
        after = z + step / 6 * (first + 2 * second + 2 * third + fourth)
        if worth(after) >= goal:
            now, then = worth(z), worth(after)
            return float(same.mean()), std * std, t + step * (goal - now) / (then - now)
        z, t = after, t + step
    return float(same.mean()), std * std, np.inf


def teacher_verdicts(results: Sequence[TeacherResult]) -> dict[str, bool]:
    """Say which claims every seed bears out."""
    return {
        "a reward model that ranks all outputs rightly is slower than one that does not, and has less variance": all(
            r.accurate.accuracy == 1 > r.inaccurate.accuracy
            and r.accurate.time > r.inaccurate.time
            and r.accurate.variance < r.inaccurate.variance
            for r in results
        ),
        "it is slower than the true reward, which ranks as it does": all(
            r.accurate.time > r.truth.time for r in results
        ),
    }


def teacher_table(results: Sequence[TeacherResult]) -> str:
    """Write accuracy, variance and time of each model, for a terminal."""
    lines = [f"{'seed':<5} {'reward model':<14} {'accuracy':>9} {'variance':>10} {'time':>10}"]
    for result in results:
        for name in ("truth", "accurate", "inaccurate"):
            teacher: Teacher = getattr(result, name)
            lines.append(
                f"{result.seed:<5} {name:<14} {teacher.accuracy:9.1%} {teacher.variance:10.5f} {teacher.time:10.1f}"
            )
    lines += [f"{'holds' if holds else 'does not hold'}: {claim}" for claim, holds in teacher_verdicts(results).items()]
    return "\n".join(lines) + "\n"
