"""How long reinforcement and supervision take in a model of one input."""

from __future__ import annotations

import math
from dataclasses import dataclass

from legato.rft.theory import constant_group_probability, gradient_flow_time

__all__ = ["Plan", "plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Times of gradient flow for one input, and how many groups carry a signal.

    Attributes
    ----------
    p0, p1 : float
    n_labels : int
    std : float
        Reward std (rewards +1 and -1) at p0.
    rft, sft : float
        Times from p0 to p1 by either method.
    sft_to_half_then_rft : float
        Supervised to p = 1/2, then reinforcement: where the second becomes the faster one.
    useful_groups : dict of int to float
        Share of groups of that size that are not constant at p0.

    See Also
    --------
    plan : Say how long reinforcement and supervision take from a success probability of p0 (a model of one input).

    Examples
    --------
    >>> from legato import rft
    >>> found = rft.plan(p0=0.01, n_labels=10)
    >>> round(found.rft / found.sft, 1), round(found.useful_groups[8], 3)
    (3.8, 0.077)
    >>> print(found.to_table().splitlines()[0])
    one input, 10 labels, from p = 0.01 (reward std 0.199) to p = 0.9
    """

    p0: float
    p1: float
    n_labels: int
    std: float
    rft: float
    sft: float
    sft_to_half_then_rft: float
    useful_groups: dict[int, float]

    def to_table(self) -> str:
        """Write the numbers, for a terminal.

        See Also
        --------
        gradient_flow_time : The times alone.
        """
        groups = "".join(f"  G = {size:<3} {share:8.2%}\n" for size, share in self.useful_groups.items())
        return (
            f"one input, {self.n_labels} labels, from p = {self.p0:g} (reward std {self.std:.4g}) to p = {self.p1:g}\n"
            f"  reinforcement only               {self.rft:12.1f}\n"
            f"  supervised only                  {self.sft:12.1f}\n"
            f"  supervised to 1/2, then the other{self.sft_to_half_then_rft:12.1f}\n"
            f"(units of gradient-flow time on the logits; a model, not a forecast)\n"
            f"groups with a signal at p = {self.p0:g}:\n{groups}"
        )


def plan(p0: float, n_labels: int, p1: float = 0.9) -> Plan:
    """Say how long reinforcement and supervision take from a success probability of p0 (a model of one input).

    Parameters
    ----------
    p0, p1 : float
        0 < p0 <= p1 < 1.
    n_labels : int
        Possible outputs; all but one share the rest equally.

    Returns
    -------
    Plan

    See Also
    --------
    gradient_flow_time : The times alone.
    Plan : Times of gradient flow for one input, and how many groups carry a signal.

    Examples
    --------
    >>> from legato import rft
    >>> found = rft.plan(p0=0.001, n_labels=10)
    >>> round(found.rft / found.sft, 1), round(found.useful_groups[8], 4)
    (28.3, 0.008)
    """
    rft, sft = gradient_flow_time(p0, p1, n_labels)
    middle = min(max(0.5, p0), p1)
    both = gradient_flow_time(p0, middle, n_labels)[1] + gradient_flow_time(middle, p1, n_labels)[0]
    useful = {size: float(1 - constant_group_probability(p0, size)) for size in (4, 8, 16, 32, 64)}
    return Plan(p0, p1, n_labels, 2 * math.sqrt(p0 * (1 - p0)), rft, sft, both, useful)
