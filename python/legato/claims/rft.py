"""Vanishing gradients in reinforcement finetuning (arXiv 2310.20703): the bound, and the controlled experiment."""

from __future__ import annotations

from collections.abc import Iterator

from legato.claims.running import Claim
from legato.rft import reproduction, teaching

__all__ = ["GROUPS"]


def _bound(quick: bool) -> Iterator[Claim]:
    """Gradients are bounded by the reward's standard deviation (Proposition 1)."""
    check = reproduction.check_bounds(200 if quick else 1500)
    yield Claim(
        "the norm of an input's gradient is at most 6 L gamma std^(2/3)",
        "no policy above",
        f"{check.violations['paper']} of {check.policies} random policies; nearest {check.largest['paper']:.3f} of it",
        check.violations["paper"] == 0,
    )
    slope = check.exponents["reward_scale"]
    yield Claim(
        "a small standard deviation makes it vanish", "yes", f"as std^{slope:.3f} where rewards shrink", slope > 2 / 3
    )


def _digits(quick: bool) -> Iterator[Claim]:
    """Digits: the controlled experiment (section 4.2)."""
    if quick:
        return
    results = [reproduction.reproduce_digits(seed=seed) for seed in range(3)]
    for text, holds in reproduction.digits_verdicts(results).items():
        yield Claim(text, "in every seed", f"{'in every' if holds else 'not in every'} of {len(results)} seeds", holds)


def _teacher(quick: bool) -> Iterator[Claim]:
    """Reward models of low variance teach slowly (the follow-up, arXiv 2503.15477)."""
    results = [teaching.reproduce_teacher(seed=seed) for seed in range(1 if quick else 3)]
    for text, holds in teaching.teacher_verdicts(results).items():
        shown = ", ".join(f"{getattr(results[0], name).time:.1f}" for name in ("accurate", "inaccurate", "truth"))
        yield Claim(
            text,
            "in every seed",
            f"times {shown}: accurate, inaccurate, true",
            holds,
        )


GROUPS = (_bound, _digits, _teacher)
