"""Statistical battery for the noise: python benchmarks/noise_battery.py [--numbers 1e9] [--generator threefry].

Debian has neither PractRand nor TestU01; this is what we run in their place. Every test ends in a z score or a p value
from the exact law of its statistic, all of one run are printed, and the exit code is 1 when one has p < 1e-6.

The numbers come in 1024-element rows, row i of call k being stream i of step k, so "along" a row runs over counters and
"across" rows over streams and steps: both directions, where a counter-based generator would fail, are tested.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator

import numpy as np
from scipy import special, stats

from legato import diffusion as D

ROWS, COLUMNS = 4096, 1024
BOUNDS = np.array([0.5, 1.0, 2.0, 3.0, 4.0, 5.0])
LAGS = (1, 2, 3, 4, 8, 16, 64, 256)
BINS = 1024
GAP = 0.1  # probability of the event whose gaps are counted
GAPS = 64
BIRTHDAYS, DAYS = 4096, 2**32  # lambda = 4096^3 / (4 * 2^32) = 4 equal spacings a trial


def calls(numbers: int, seed: int, generator: str) -> Iterator[np.ndarray]:
    """(ROWS, COLUMNS) float32 normals, as often as `numbers` asks for."""
    out = np.empty((ROWS, COLUMNS), np.float32)
    for step in range(math.ceil(numbers / out.size)):
        yield D.normal(out.shape, seed, step=step, generator=generator, out=out)


def p_of(score: float) -> float:
    """Two-sided."""
    return float(special.erfc(abs(score) / math.sqrt(2)))


def battery(numbers: int, seed: int, generator: str) -> list[tuple[str, float, float]]:
    """Name, statistic and p value of every test."""
    total = 0
    powers = np.zeros(5)
    beyond = np.zeros((2, len(BOUNDS)))
    histogram = np.zeros(BINS)
    lagged = {(way, lag): np.zeros(3) for way in ("along", "across") for lag in LAGS}
    gaps = np.zeros(GAPS + 1)
    spacings = trials = 0
    between_calls = np.zeros(2)
    largest, last = 0.0, None
    for z in calls(numbers, seed, generator):
        total += z.size
        y = z.astype(np.float64)
        square = y * y
        powers += [y.sum(), square.sum(), (square * y).sum(), (square * square).sum(), (square**3).sum()]
        largest = max(largest, float(np.abs(z).max()))
        for i, bound in enumerate(BOUNDS):
            beyond[0, i] += (z > bound).sum()
            beyond[1, i] += (z < -bound).sum()
        uniform = special.ndtr(y)
        histogram += np.bincount(np.minimum((uniform * BINS).astype(np.int64), BINS - 1).ravel(), minlength=BINS)
        for way, a, s in (("along", y, square), ("across", y.T, square.T)):
            for lag in LAGS:
                left, right = a[:, :-lag], a[:, lag:]
                lagged[way, lag] += [
                    np.einsum("ij,ij->", left, right),
                    np.einsum("ij,ij->", s[:, :-lag] - 1, s[:, lag:] - 1),
                    left.size,
                ]
        if last is not None:
            between_calls += [np.einsum("ij,ij->", y, last), y.size]
        last = y
        for order in (uniform.ravel(), uniform.T.ravel()):
            hits = np.flatnonzero(order < GAP)
            gaps += np.bincount(np.minimum(np.diff(hits) - 1, GAPS), minlength=GAPS + 1)
        # A day is made of two neighbors, 16 bits of each: 2^32 days.
        half = np.minimum(uniform * 65536, 65535).astype(np.uint64)
        for pairs in (half.reshape(-1, 2), half.T.reshape(-1, 2)):
            days = np.sort(((pairs[:, 0] << np.uint64(16)) | pairs[:, 1]).reshape(-1, BIRTHDAYS), axis=1)
            steps = np.sort(np.diff(days, axis=1), axis=1)
            spacings += int((np.diff(steps, axis=1) == 0).sum())
            trials += len(days)
    results: list[tuple[str, float, float]] = []

    def score(name: str, value: float) -> None:
        results.append((name, value, p_of(value)))

    moments = (0.0, 1.0, 0.0, 3.0, 15.0)
    variances = (1.0, 2.0, 15.0, 96.0, 10395.0 - 225.0)
    for power, (value, mean, variance) in zip(
        (1, 2, 3, 4, 6), zip(powers, moments, variances, strict=True), strict=True
    ):
        score(f"moment {power}", (value / total - mean) / math.sqrt(variance / total))
    for side, name in enumerate(("above", "below -")):
        for bound, count in zip(BOUNDS, beyond[side], strict=True):
            expected = total * float(stats.norm.sf(bound))
            score(f"count {name}{bound:g}", (count - expected) / math.sqrt(expected * (1 - expected / total)))
    chi = float(((histogram - total / BINS) ** 2).sum() / (total / BINS))
    results.append((f"{BINS} equal bins, chi2", chi, two_sided(float(stats.chi2.sf(chi, BINS - 1)))))
    for (way, lag), (product, squares, count) in lagged.items():
        score(f"correlation {way}, lag {lag}", product / math.sqrt(count))
        score(f"correlation of squares {way}, lag {lag}", squares / math.sqrt(4 * count))
    if between_calls[1] > 0:
        score("correlation of step k and k + 1", between_calls[0] / math.sqrt(between_calls[1]))
    share = np.append(GAP * (1 - GAP) ** np.arange(GAPS), (1 - GAP) ** GAPS)
    chi = float(((gaps - gaps.sum() * share) ** 2 / (gaps.sum() * share)).sum())
    results.append(("gaps along and across, chi2", chi, two_sided(float(stats.chi2.sf(chi, GAPS)))))
    expected = trials * BIRTHDAYS**3 / (4.0 * DAYS)
    score("birthday spacings along and across", (spacings - expected) / math.sqrt(expected))
    # P(no number beyond r) = (1 - P(|z| > r))^n. The radius ends at 6.76: beyond about 1e10 numbers this one must fail.
    survival = 2 * float(stats.norm.sf(largest))
    results.append((f"largest of all {largest:.3f}", largest, two_sided(math.exp(-total * survival))))
    return results


def two_sided(p: float) -> float:
    """Too good counts as much as too bad."""
    return 2 * min(p, 1 - p)


def main() -> int:
    """Run it; 1 when a test fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--numbers", type=float, default=1e9)
    parser.add_argument("--generator", choices=("threefry", "philox"), default="threefry")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    results = battery(int(arguments.numbers), arguments.seed, arguments.generator)
    for name, value, p in results:
        print(f"{name:42} {value:14.4f}   p = {p:.3g}")
    smallest = min(p for _, _, p in results)
    print(
        f"{len(results)} tests on {arguments.numbers:.3g} numbers of {arguments.generator}: smallest p = {smallest:.3g}"
    )
    return int(smallest < 1e-6)


if __name__ == "__main__":
    sys.exit(main())
