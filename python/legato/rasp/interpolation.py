"""The counter-example to minimum-degree interpolation, computed exactly, and a small network trained on it.

Inputs x in {0, 1}^n, label AND of all bits; in training the last k bits are 1. A function's degree profile is its
Fourier weight by level, W_d = sum over |S| = d of fhat(S)^2, compared from the highest level down. Restricting a
coordinate lowers the profile, so the interpolator of least profile depends on no coordinate that is constant in
training: it predicts the AND of the first n - k bits. The RASP-L program is a running AND. What a trained network does
is measured: one with one hidden layer that starts from small weights, where gradient descent is said to prefer low
degrees (Abbe, Bengio, Lotfi, Rizk, "Generalization on the Unseen, Logic Reasoning and Degree Curriculum", 2023).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import comb

import numpy as np
from numpy.typing import NDArray

from legato._scalars import as_count, as_number
from legato.errors import ArgumentError
from legato.rasp.core import full, kqv
from legato.rasp.predicates import equals
from legato.rasp.tasks import as_seeds

__all__ = ["CounterExample", "TrainedExample", "and_counter_example", "degree_profile", "trained_counter_example"]

Float = NDArray[np.float64]
_MOST_BITS = 16  # of which all inputs are tried


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


@dataclass(frozen=True)
class TrainedExample:
    """A trained network beside the exact interpolator; shares of inputs that are answered wrongly."""

    bits: int
    fixed: int
    exact: CounterExample
    seeds: tuple[int, ...]
    wrong_trained: tuple[float, ...]  #: of the inputs of the training, for each seed
    wrong_leading_ones: tuple[float, ...]  #: of those whose leading bits are 1
    wrong_uniform: tuple[float, ...]  #: of all
    as_interpolator: tuple[float, ...]  #: answered as the interpolator does, of all

    def table(self) -> str:
        """Return percent of wrong answers as a table in Markdown; of the network a line for each seed."""
        rows = [
            ["percent wrong", "trained inputs", "leading ones", "all inputs", "as the interpolator"],
            ["---"] * 5,
            _row("interpolator, exact", 0.0, self.exact.wrong_leading_ones, self.exact.wrong_uniform, 1.0),
            *(
                _row(f"network, seed {seed}", *shares)
                for seed, *shares in zip(
                    self.seeds, self.wrong_trained, self.wrong_leading_ones, self.wrong_uniform, self.as_interpolator,
                    strict=True,
                )
            ),
            _row("RASP-L program", 0.0, self.exact.program_wrong, self.exact.program_wrong, self._program_as()),
        ]  # fmt: skip
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def _program_as(self) -> Fraction:
        return 1 - self.exact.wrong_uniform  # where the interpolator is right, both say the same

    def verdict(self) -> str:
        """Say in a sentence, from the numbers, whether the network errs where the interpolator does."""
        learned = [at for at, wrong in enumerate(self.wrong_trained) if wrong == 0]
        if not learned:
            return "No network learned the inputs of the training, so nothing follows."
        wanted = float(self.exact.wrong_leading_ones)
        same = sum(self.wrong_leading_ones[at] == wanted for at in learned)
        elsewhere = sum(self.as_interpolator[at] == 1.0 for at in learned)
        text = (
            f"Of {len(learned)} networks that learned the inputs of the training, {same} "
            f"{'is' if same == 1 else 'are'} wrong on as many inputs with leading ones as the interpolator"
        )
        if elsewhere == len(learned):
            return f"{text}, and all are the interpolator on every input."
        return f"{text}; {elsewhere} {'is' if elsewhere == 1 else 'are'} the interpolator on every input."


def _row(name: str, *shares: float | Fraction) -> list[str]:
    return [name, *(f"{100 * float(share):.3g}" for share in shares)]


def trained_counter_example(
    bits: int = 12,
    fixed: int = 5,
    seeds: tuple[int, ...] = (1, 2, 3),
    *,
    width: int = 128,
    steps: int = 3000,
    scale: float = 0.1,
) -> TrainedExample:
    """Train networks on the AND of `bits` bits of which the last `fixed` are 1, and try them on all inputs.

    Parameters
    ----------
    bits, fixed : int
        At most 16 bits, because all inputs are tried.
    seeds : tuple of int
        One for each network.
    width, steps : int
        Hidden units; steps of Adam on all inputs of the training, with the squared error.
    scale : float
        Of the weights at the start, in standard deviations of the usual ones. With 1 a network is no interpolator of
        low degree: it depends on the weights it started from.

    Raises
    ------
    ArgumentError
        Numbers that do not fit together.
    """
    bits, fixed = as_count("bits", bits), as_count("fixed", fixed)
    if bits > _MOST_BITS:
        raise ArgumentError(f"bits: expected at most {_MOST_BITS}, got {bits}")
    width, steps = as_count("width", width), as_count("steps", steps)
    scale, seeds = as_number("scale", scale, above=0), as_seeds("seeds", seeds)
    exact = and_counter_example(bits, fixed)
    cube = (np.arange(2**bits)[:, None] >> np.arange(bits)) & 1
    x = np.asarray(2.0 * cube - 1.0, dtype=np.float64)
    truth, interpolated, trained = (
        np.asarray(part.all(axis=1)) for part in (cube, cube[:, : bits - fixed], cube[:, bits - fixed :])
    )
    rows = []
    for seed in seeds:
        said = _network(x[trained], truth[trained].astype(np.float64), x, seed, width, steps, scale) > 0.5
        wrong = said != truth
        shares = (wrong[trained], wrong[interpolated], wrong, said == interpolated)
        rows.append(tuple(float(share.mean()) for share in shares))
    return TrainedExample(bits, fixed, exact, seeds, *zip(*rows, strict=True))


def _network(x: Float, y: Float, asked: Float, seed: int, width: int, steps: int, scale: float) -> Float:
    """Train one hidden layer of ReLU by Adam, with a rate that falls to 0, and answer what is asked."""
    rng = np.random.default_rng(seed)
    n, bits = x.shape
    parts: list[Float] = [
        rng.normal(size=(bits, width)) * (scale / np.sqrt(bits)),
        np.zeros(width),
        rng.normal(size=width) * (scale / np.sqrt(width)),
        np.zeros(1),
    ]
    first, second = ([np.zeros_like(part) for part in parts] for _ in range(2))
    for step in range(1, steps + 1):
        hidden = np.maximum(x @ parts[0] + parts[1], 0)
        error = 2 * (hidden @ parts[2] + parts[3] - y) / n
        back = error[:, None] * parts[2] * (hidden > 0)
        gradients = (x.T @ back, back.sum(axis=0), hidden.T @ error, error.sum(keepdims=True))
        rate = 3e-3 * (1 - step / steps)
        for part, gradient, mean, square in zip(parts, gradients, first, second, strict=True):
            mean += 0.1 * (gradient - mean)
            square += 0.001 * (gradient**2 - square)
            part -= rate * mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    return np.asarray(np.maximum(asked @ parts[0] + parts[1], 0) @ parts[2] + parts[3])
