"""Intervals that hold whatever the rewards' distribution: of a prompt's reward std and mean, and of shares of prompts.

Each says what it assumes. Rewards of two values: Clopper and Pearson. Bounded rewards: Maurer and Pontil (Empirical
Bernstein Bounds, 2009, Theorem 10), and the mass that a sample's range leaves out. Means of numbers in [0, 1] over
prompts: the smaller of Hoeffding's and Bentkus's tail bounds. Unbounded rewards have no upper end.
"""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from legato._arrays import Float64, as_float64
from legato._scalars import as_choice, as_number
from legato.errors import ArgumentError
from legato.rft.prompts import distinct_rows
from legato.rft.theory import reward_ends

__all__ = [
    "binary_std_interval",
    "bounded_mean_low",
    "bounded_std_interval",
    "expected_std_ratio",
    "gaussian_std_interval",
    "proportion_interval",
    "reward_std_interval",
    "same_reward_std",
    "share_interval",
]

Method: TypeAlias = Literal["auto", "bernoulli", "mp", "chi2"]
METHODS: tuple[Method, ...] = get_args(Method)


def reward_std_interval(
    rewards: Any,
    level: float = 0.95,
    value_range: tuple[float, float] | None = None,
    method: Method = "auto",
) -> tuple[float, float]:
    """Confidence interval of the standard deviation of the reward of one prompt.

    Parameters
    ----------
    rewards : array, shape (n,)
        Rewards of independent rollouts of the prompt.
    level : float
        Coverage, between 0 and 1.
    value_range : (float, float), optional
        Least and largest possible reward.
    method : {"auto", "bernoulli", "mp", "chi2"}
        "bernoulli": the rewards take two values, those of `value_range`; Clopper-Pearson on their frequency, mapped
        through (high - low) sqrt(p (1 - p)). "mp": Maurer and Pontil, any reward in `value_range`, wide below a few
        hundred rollouts. "chi2": Gaussian rewards, an assumption no bounded reward meets; skewed and heavy-tailed
        rewards are in it far less often than the level says. "auto": "bernoulli" if the rewards are the two ends of the
        range; else the smaller of "mp" and what the sample's range leaves out; without a range an interval from
        differences of pairs whose upper end is infinite, as no sample bounds the std of unbounded rewards.
        Needs SciPy, but for "mp" and for unbounded rewards.

    Returns
    -------
    low, high : float

    See Also
    --------
    group_stats : Count, mean, variance and range of the rewards of each group.
    scan : Say what share of groups has no gradient, and judge each prompt by the standard deviation of its rewards.

    Notes
    -----
    No bootstrap: of equal rewards it says [0, 0]. Eight failures in a row leave a std up to 0.48 possible.

    Examples
    --------
    >>> from legato import rft
    >>> low, high = rft.reward_std_interval([0.0] * 8, value_range=(0, 1))
    >>> low, round(high, 3)
    (0.0, 0.483)
    >>> rft.reward_std_interval([0.0] * 8)
    (0.0, inf)
    """
    r = as_float64("rewards", rewards)
    if r.ndim != 1 or len(r) == 0 or not np.isfinite(r).all():
        raise ArgumentError("rewards: expected finite numbers of shape (n,), n >= 1")
    level = as_number("level", level, above=0, below=1)
    method = as_choice("method", method, METHODS)
    ends = None if value_range is None else reward_ends("value_range", value_range)
    if ends is not None and (r.min() < ends[0] or r.max() > ends[1]):
        raise ArgumentError(f"rewards: expected numbers in the value range {ends}")
    two_values = ends is not None and bool(np.isin(r, ends).all())
    if method == "bernoulli" and not two_values:
        raise ArgumentError("value_range: expected the two values that the rewards take")
    if method == "mp" and ends is None:
        raise ArgumentError("value_range: expected the least and the largest possible reward for method mp")
    n = np.array([len(r)])
    std = np.array([r.std(ddof=1) if len(r) > 1 else 0.0])
    if method == "chi2":
        found = gaussian_std_interval(n, std, level)
    elif ends is None:
        return _pairs_low(r, level), math.inf
    elif method == "bernoulli" or (method == "auto" and two_values):
        low, high = binary_std_interval(np.array([np.sum(r == ends[1])]), n, level)
        found = (low * (ends[1] - ends[0]), high * (ends[1] - ends[0]))
    elif method == "mp":
        found = _maurer_pontil(n, std, ends, level)
    else:
        found = bounded_std_interval(n, std, np.array([r.min()]), np.array([r.max()]), ends, level)
    return float(found[0][0]), float(found[1][0])


def binary_std_interval(successes: NDArray[Any], n: NDArray[Any], level: float) -> tuple[Float64, Float64]:
    """Clopper-Pearson intervals of p, mapped through sqrt(p (1 - p)): its range over each interval."""
    low, high = proportion_interval(successes, n, level)
    ends = np.sqrt(low * (1 - low)), np.sqrt(high * (1 - high))
    inside = (low <= 0.5) & (high >= 0.5)
    return np.minimum(*ends), np.where(inside, 0.5, np.maximum(*ends))


def proportion_interval(successes: Any, n: Any, level: float) -> tuple[Float64, Float64]:
    """Clopper-Pearson interval of a probability."""
    from scipy.special import betaincinv

    alpha, k, n = 1 - level, np.asarray(successes, np.float64), np.asarray(n, np.float64)
    low = np.where(k > 0, betaincinv(np.maximum(k, 1), n - k + 1, alpha / 2), 0.0)
    high = np.where(k < n, betaincinv(k + 1, np.maximum(n - k, 1), 1 - alpha / 2), 1.0)
    return low, high


def bounded_std_interval(
    n: NDArray[Any], std: Float64, least: Float64, largest: Float64, ends: tuple[float, float], level: float
) -> tuple[Float64, Float64]:
    """Intervals of the std of rewards that are known to be in a range, n >= 1 of each.

    The lower end is Maurer and Pontil's. The upper end is the smaller of theirs and of another, at half the error each:
    a share q of the policy's rewards at most is outside of the sample's range (the range of n holds a share that is
    Beta(n - 1, 2) at least), so that the variance is at most a quarter of that range's square besides what q can add.
    """
    from scipy.special import betaincinv

    alpha = 1 - level
    width = ends[1] - ends[0]
    low, _ = _maurer_pontil(n, std, ends, level)
    _, high = _maurer_pontil(n, std, ends, 1 - alpha / 2)
    (sizes,), back = distinct_rows(n)
    q = np.where(sizes > 1, 1 - betaincinv(np.maximum(sizes - 1, 1), 2.0, alpha / 4), 1.0)[back]
    # A share 1 - q within [least, largest], q within the range: E[(r - c)^2] about the middle c of the first.
    half, middle = (largest - least) / 2, (largest + least) / 2
    farthest = np.maximum(ends[1] - middle, middle - ends[0])
    outside = np.sqrt(half**2 * (1 - q) + q * farthest**2)
    return low, np.minimum(np.minimum(high, outside), width / 2)


def same_reward_std(n: NDArray[Any], reward: Float64, ends: tuple[float, float], level: float) -> Float64:
    """Upper end of the std where all n rewards were equal: a share q at most differs, by what the range allows."""
    q = np.minimum(1 - ((1 - level) / 2) ** (1 / n), 0.5)
    farthest = np.maximum(reward - ends[0], ends[1] - reward)
    return np.asarray(np.minimum(farthest * np.sqrt(q * (1 - q)), (ends[1] - ends[0]) / 2))


def _maurer_pontil(n: NDArray[Any], std: Float64, ends: tuple[float, float], level: float) -> tuple[Float64, Float64]:
    width = ends[1] - ends[0]
    reach = width * np.sqrt(2 * math.log(2 / (1 - level)) / np.maximum(n - 1, 1))
    several = n > 1
    return (
        np.where(several, np.maximum(std - reach, 0.0), 0.0),
        np.where(several, np.minimum(std + reach, width / 2), width / 2),
    )


def gaussian_std_interval(n: NDArray[Any], std: Float64, level: float) -> tuple[Float64, Float64]:
    """Chi-square intervals; of equal rewards, which Gaussian ones never are, [0, infinity]."""
    from scipy.special import chdtri

    alpha, free = 1 - level, np.maximum(np.asarray(n) - 1, 1)
    total = std**2 * free
    known = (np.asarray(n) > 1) & (std > 0)
    low, high = np.sqrt(total / chdtri(free, alpha / 2)), np.sqrt(total / chdtri(free, 1 - alpha / 2))
    return np.where(known, low, 0.0), np.where(known, high, math.inf)


def _pairs_low(rewards: Float64, level: float) -> float:
    """Lower end of the std of any reward whatever.

    Half the squared difference of a pair has the variance for its mean; the mean of what is never negative is at least
    the integral of its tail, and the tail is within the one-sided Dvoretzky-Kiefer-Wolfowitz band (Massart 1990).
    """
    pairs = rewards[: len(rewards) // 2 * 2].reshape(-1, 2)
    if len(pairs) == 0:
        return 0.0
    halves = np.sort((pairs[:, 1] - pairs[:, 0]) ** 2 / 2)
    band = math.sqrt(math.log(2 / (1 - level)) / (2 * len(pairs)))
    tail = np.maximum(1 - np.arange(len(pairs)) / len(pairs) - band, 0.0)
    return math.sqrt(float(np.sum(np.diff(halves, prepend=0.0) * tail)))


def bounded_mean_low(n: NDArray[Any], mean: Float64, level: float) -> Float64:
    """Lower ends, at (1 - level) / 2, of means of n numbers in [0, 1] (Hoeffding 1963, equation 2.1)."""
    found = np.zeros(len(mean))
    lower, upper = found.copy(), mean.copy()
    target = math.log(2 / (1 - level))
    for _ in range(50):
        middle = (lower + upper) / 2
        inside = n * _divergence(mean, middle) <= target
        upper, lower = np.where(inside, middle, upper), np.where(inside, lower, middle)
    return lower


def _divergence(p: Float64, q: Float64) -> Float64:
    """Kullback-Leibler divergence of coins."""
    with np.errstate(divide="ignore", invalid="ignore"):
        heads = np.where(p > 0, p * np.log(p / q), 0.0)
        tails = np.where(p < 1, (1 - p) * np.log((1 - p) / (1 - q)), 0.0)
    return np.asarray(heads + tails)


def share_interval(mean: float, n: int, level: float, indicators: bool) -> tuple[float, float]:
    """Interval of what the mean of n independent numbers in [0, 1] estimates, each from another prompt.

    Of indicators, which are 0 or 1, it is Clopper-Pearson's. Else a mean mu is in it unless the mean seen would be too
    rare, by the smaller of Hoeffding's bound exp(-n KL) and Bentkus's e P(Binomial(n, mu) <= ceil(n mean)) (2004;
    together as in Bates et al. 2021). It holds for every distribution, and is some 1.3 times as wide as one that need
    not.
    """
    from scipy.special import bdtr

    if indicators:
        low, high = proportion_interval(round(mean * n), n, level)
        return float(low), float(high)

    def upper(mean: float) -> float:
        alpha = (1 - level) / 2
        low, high = mean, 1.0
        for _ in range(50):
            middle = (low + high) / 2
            if middle >= 1.0:
                return 1.0
            heads = mean * math.log(mean / middle) if mean > 0 else 0.0
            tails = (1 - mean) * math.log((1 - mean) / (1 - middle)) if mean < 1 else 0.0
            rare = min(math.exp(-n * (heads + tails)), math.e * float(bdtr(math.ceil(n * mean), n, middle)))
            low, high = (middle, high) if rare >= alpha else (low, middle)
        return high

    return 1 - upper(1 - mean), upper(mean)


def expected_std_ratio(n: Any) -> Float64:
    """E[s] / std for n Gaussian rewards, s dividing by n - 1 (often called c4). Not for binary rewards."""
    from scipy.special import gammaln

    m = np.asarray(n, np.float64)
    return np.asarray(np.sqrt(2.0 / (m - 1)) * np.exp(gammaln(m / 2) - gammaln((m - 1) / 2)))
