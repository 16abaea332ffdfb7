"""What a log says of all prompts: shares of groups without a gradient and of prompts of small std, with intervals.

A prompt's rollouts are a sample of its policy, and the prompts are a sample of a population: shares are estimated
without bias from each prompt, and their intervals hold whatever the distribution of the prompts.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legato._arrays import Float64
from legato.rft.intervals import bounded_std_interval, proportion_interval, same_reward_std, share_interval
from legato.rft.rollouts import Groups

__all__ = ["GROUP_SIZES", "Population", "RewardScale", "Share", "group_sizes", "population", "usual_group_size"]

GROUP_SIZES = (2, 4, 8, 16, 32, 64)
_ERROR = 0.05  # of a prompt's own test, at most; the share's interval allows for it


@dataclass(frozen=True, slots=True)
class RewardScale:
    """What is known of the values that rewards can take.

    Attributes
    ----------
    low, high : float
        The least and the largest that matter: "all-zero" and "all-one" groups are at them, tau and "solved" go by them.
    two_valued : bool
        All rewards of the log are one of the two.
    bounded : bool
        The policy's rewards cannot be elsewhere; else no sample bounds their std.
    given : bool
        By the user.
    """

    low: float
    high: float
    two_valued: bool
    bounded: bool
    given: bool

    @property
    def ends(self) -> tuple[float, float]:
        """Both."""
        return self.low, self.high

    @property
    def width(self) -> float:
        """Of the range."""
        return self.high - self.low


@dataclass(frozen=True, slots=True)
class Share:
    """A share of a population: the estimate, None where there is none, its interval, and the groups it is from."""

    share: float | None
    low: float
    high: float
    groups: int


@dataclass(frozen=True, slots=True)
class Population:
    """Shares of the prompts that the log is a sample of.

    Attributes
    ----------
    no_gradient, all_zero, all_one : Share
        Of groups of `group_size` rollouts: all rewards equal, all at the bottom, all at the top of the range. From
        groups with at least as many rollouts, unbiased.
    small_std : Share
        Of prompts whose reward has a std below tau under the policy. The share is the sample's, which is biased upwards
        (a small sample is often constant); the interval allows for that, and is wide below some hundred rollouts.
    group_size : int
    left_out : int
        Groups of fewer rollouts than that.
    """

    no_gradient: Share
    all_zero: Share
    all_one: Share
    small_std: Share
    group_size: int
    left_out: int

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self)


def usual_group_size(n: NDArray[np.int64]) -> int:
    """Return the commonest number of rollouts of a group, if it can be one of training; else 8."""
    sizes, counts = np.unique(n[(n >= 2) & (n <= 64)], return_counts=True)
    return int(sizes[np.argmax(counts)]) if len(sizes) and counts.max() >= len(n) / 2 else 8


def population(groups: Groups, scale: RewardScale, size: int, tau: float, level: float) -> Population:
    """Estimate the shares."""
    enough = groups.n >= size
    n = groups.n[enough]
    bottom = np.where(groups.least == scale.low, groups.least_count, 0)[enough]
    top = np.where(groups.largest == scale.high, groups.largest_count, 0)[enough]
    exact = bool((n == size).all())
    constant = _constant(groups, size)[enough]
    zero, one = _drawn_alike(bottom, n, size), _drawn_alike(top, n, size)
    return Population(
        _share(constant, level, exact),
        _share(zero, level, exact),
        _share(one, level, exact),
        _small_std(groups, scale, tau, level),
        size,
        int((~enough).sum()),
    )


def group_sizes(groups: Groups, scale: RewardScale, level: float) -> list[dict[str, Any]]:
    """Say what groups of each size would give and cost, without bias, from prompts with at least as many rollouts.

    Returns
    -------
    list of dict
        size; groups: prompts it is from; useful, low, high: share of groups that are not constant; rollouts_per_useful:
        what one of them costs; signal: mean std within a group, of two-valued rewards. None where no prompt has enough
        rollouts.
    """
    found = []
    for size in GROUP_SIZES:
        enough = groups.n >= size
        row: dict[str, Any] = {"size": size, "groups": int(enough.sum())}
        row |= dict.fromkeys(("useful", "low", "high", "rollouts_per_useful", "signal"))
        if enough.any():
            n = groups.n[enough]
            share = _share(1 - _constant(groups, size)[enough], level, bool((n == size).all()))
            row |= {"useful": share.share, "low": share.low, "high": share.high}
            row["rollouts_per_useful"] = size / share.share if share.share else None
            if scale.two_valued:
                top = np.where(groups.largest == scale.high, groups.largest_count, 0)[enough]
                row["signal"] = scale.width * float(_group_std(top, n, size).mean())
        found.append(row)
    return found


def _share(values: Float64, level: float, indicators: bool) -> Share:
    if len(values) == 0:
        return Share(None, 0.0, 1.0, 0)
    low, high = share_interval(values, level, indicators)
    mean = float(values.mean())
    return Share(mean, min(low, mean), max(high, mean), len(values))


def _drawn_alike(count: NDArray[np.int64], n: NDArray[np.int64], size: int) -> Float64:
    """C(count, size) / C(n, size): chance that `size` of n rollouts are all among these; n >= size."""
    found = np.ones(len(n))
    for j in range(size):
        found *= np.maximum(count - j, 0) / (n - j)
    return found


def _constant(groups: Groups, size: int) -> Float64:
    """Chance that `size` of a group's rollouts have one reward, for n >= size.

    Values between the group's least and largest count as distinct, which is exact for rewards of two values.
    """
    n = np.maximum(groups.n, size)
    same = groups.least == groups.largest
    ends = _drawn_alike(groups.least_count, n, size) + _drawn_alike(groups.largest_count, n, size)
    found: Float64 = np.where(same, 1.0, ends)
    return found


def _group_std(top: NDArray[np.int64], n: NDArray[np.int64], size: int) -> Float64:
    """Mean std, dividing by size, of groups of `size` of n rollouts of which `top` have 1 and the others 0."""
    pairs, back = np.unique(np.stack([top, n]), axis=1, return_inverse=True)
    k, m = pairs.astype(np.float64)
    ones = np.arange(size + 1)[:, None]
    from scipy.special import gammaln

    def log_choose(a: Any, b: Any) -> Any:
        with np.errstate(invalid="ignore"):
            found = gammaln(a + 1) - gammaln(b + 1) - gammaln(a - b + 1)
        return np.where((b >= 0) & (b <= a), found, -np.inf)

    chance = np.exp(log_choose(k, ones) + log_choose(m - k, size - ones) - log_choose(m, size))
    std = np.sqrt(ones * (size - ones)) / size
    return np.asarray((chance * std).sum(axis=0)[back.ravel()])


def _small_std(groups: Groups, scale: RewardScale, tau: float, level: float) -> Share:
    """Share of prompts of a std below tau: from what a test proves to be below to what none proves to be above.

    Of N prompts, V are declared small by a test that errs with a chance a at most where the std is not, so that E[V] is
    at most N (share + (1 - share) a); and the same for the large ones.
    """
    n = groups.n
    with np.errstate(invalid="ignore", divide="ignore"):
        std = np.sqrt(groups.m2 / np.maximum(n - 1, 1))
    share = float(np.mean((std < tau)[n > 1])) if (n > 1).any() else None
    if not scale.bounded or tau >= scale.width / 2:
        return Share(share, 0.0, 1.0, len(n))
    if scale.two_valued:
        small, large, wrong_small, wrong_large = _two_valued_tests(groups, scale, tau)
    else:
        wrong_small = wrong_large = _ERROR
        low, high = bounded_std_interval(n, std, groups.least, groups.largest, scale.ends, 1 - 2 * _ERROR)
        same = groups.least == groups.largest
        high = np.where(same, same_reward_std(n, groups.least, scale.ends, 1 - 2 * _ERROR), high)
        small, large = high < tau, low >= tau
    total = len(n)
    surely_small = float(proportion_interval(np.sum(small), total, level)[0])
    surely_large = float(proportion_interval(np.sum(large), total, level)[0])
    low_share = max(0.0, (surely_small - wrong_small) / (1 - wrong_small))
    high_share = 1 - max(0.0, (surely_large - wrong_large) / (1 - wrong_large))
    return Share(share, low_share, max(high_share, low_share), total)


def _two_valued_tests(
    groups: Groups, scale: RewardScale, tau: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], float, float]:
    """Prompts declared small and large, and the largest chances of a wrong declaration."""
    from scipy.special import bdtr, bdtrc

    ones = np.where(groups.largest == scale.high, groups.largest_count, 0)
    fewer = np.minimum(ones, groups.n - ones)  # of the rarer kind
    edge = 0.5 - np.sqrt(max(0.25 - (tau / scale.width) ** 2, 0.0))  # its std is tau
    small, large = np.zeros(len(ones), np.bool_), np.zeros(len(ones), np.bool_)
    wrong_small = wrong_large = 0.0
    sizes, back = np.unique(groups.n, return_inverse=True)
    for i, n in enumerate(sizes.tolist()):
        k = np.arange(min(n // 2, int(4 * n * edge) + 50) + 1, dtype=np.float64)
        # Large, wrongly: k or more of both kinds though p is at most the edge. Small, wrongly: k or fewer though not.
        at_least = np.where(k > 0, bdtrc(np.maximum(k - 1, 0), n, edge), 1.0)
        at_most = np.where(2 * k < n, bdtr(k, n, edge) + bdtrc(np.maximum(n - k - 1, 0), n, edge), 1.0)
        here = back == i
        if (enough := np.flatnonzero(at_least <= _ERROR)).size:
            large[here] = fewer[here] >= k[enough[0]]
            wrong_large = max(wrong_large, float(at_least[enough[0]]))
        if (few := np.flatnonzero(at_most <= _ERROR)).size:
            small[here] = fewer[here] <= k[few[-1]]
            wrong_small = max(wrong_small, float(at_most[few[-1]]))
    return small, large, wrong_small, wrong_large
