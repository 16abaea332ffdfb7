"""The counter-example to minimum-degree interpolation, computed exactly.

Inputs x in {0, 1}^n, label AND of all bits; in training the last k bits are 1. A function's degree profile is its
Fourier weight by level, W_d = sum over |S| = d of fhat(S)^2, compared from the highest level down. Restricting a
coordinate lowers the profile, so the interpolator of least profile depends on no coordinate that is constant in
training: it predicts the AND of the first n - k bits. The RASP-L program is a running AND.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import comb

import numpy as np

from legato.errors import ArgumentError
from legato.rasp.core import full, kqv
from legato.rasp.predicates import equals

__all__ = ["CounterExample", "and_counter_example", "degree_profile"]


@dataclass(frozen=True)
class CounterExample:
    """Exact numbers of the counter-example."""

    program_profile: tuple[Fraction, ...]  #: W_0 .. W_n of the AND of all bits
    interpolator_profile: tuple[Fraction, ...]  #: of the AND of the bits that vary in training
    wrong_uniform: Fraction  #: error of the interpolator on uniform inputs
    wrong_leading_ones: Fraction  #: and on inputs whose leading bits are 1
    program_wrong: Fraction  #: of the RASP-L program, on every input with leading ones and on random ones


def degree_profile(bits: int, variables: int) -> tuple[Fraction, ...]:
    """Return W_0 .. W_bits of the AND of `variables` out of `bits` coordinates, as a 0/1 function.

    Every fhat(S) over subsets of the variables is 2^-variables in size: AND is the product of (1 + chi_i) / 2.
    """
    if not 0 <= variables <= bits:
        raise ArgumentError(f"variables: expected 0 to {bits}, got {variables}")
    return tuple(Fraction(comb(variables, d), 4**variables) if d <= variables else Fraction(0) for d in range(bits + 1))


def and_counter_example(bits: int = 20, fixed: int = 5, samples: int = 200, seed: int = 0) -> CounterExample:
    """Compute the counter-example for `bits` bits of which the last `fixed` are 1 in training.

    Examples
    --------
    >>> from legato.rasp.interpolation import and_counter_example
    >>> found = and_counter_example()
    >>> found.wrong_leading_ones, found.wrong_uniform, found.program_wrong
    (Fraction(31, 32), Fraction(31, 1048576), Fraction(0, 1))
    """
    if not 0 < fixed < bits or fixed > 16:
        raise ArgumentError(f"fixed: expected 1 to {min(bits - 1, 16)}, got {fixed}")
    ends = (np.arange(2**fixed)[:, None] >> np.arange(fixed)) & 1
    x = np.concatenate([np.ones((2**fixed, bits - fixed), dtype=np.int64), ends], axis=1)
    truth = x.all(axis=1)
    guess = x[:, : bits - fixed].all(axis=1)
    wrong = Fraction(int((truth != guess).sum()), 2**fixed)
    tested = np.concatenate([x, np.random.default_rng(seed).integers(0, 2, (samples, bits))])
    program = kqv(tested, full(tested, 0), full(tested, 0), equals, default=1)[:, -1]
    program_wrong = Fraction(int((program != tested.all(axis=1)).sum()), len(tested))
    return CounterExample(
        degree_profile(bits, bits),
        degree_profile(bits, bits - fixed),
        wrong / 2 ** (bits - fixed),
        wrong,
        program_wrong,
    )
