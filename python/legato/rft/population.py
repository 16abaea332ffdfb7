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
from legato.rft.prompts import distinct_rows
from legato.rft.rollouts import Groups

__all__ = [
    "GROUP_SIZES",
    "Kinds",
    "Population",
    "RewardScale",
    "Share",
    "group_sizes",
    "kinds_of",
    "population",
    "usual_group_size",
]

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


@dataclass(frozen=True, slots=True)
class Kinds:
    """Groups that are alike for the shares, and how many of each kind: some hundreds of a million.

    least, largest: rollouts with the least and the largest reward of the group; bottom, top: with those of the range.
    """

    n: NDArray[np.int64]
    least: NDArray[np.int64]
    largest: NDArray[np.int64]
    bottom: NDArray[np.int64]
    top: NDArray[np.int64]
    count: NDArray[np.int64]

    def of(self, size: int) -> Kinds:
        """Those with at least so many rollouts."""
        enough = self.n >= size
        return Kinds(*(getattr(self, name)[enough] for name in self.__slots__))

    def share(self, values: Float64, size: int, level: float) -> Share:
        """Mean of a number in [0, 1] that each kind has, over the groups."""
        total = int(self.count.sum())
        if total == 0:
            return Share(None, 0.0, 1.0, 0)
        mean = min(1.0, float(np.dot(values, self.count)) / total)
        low, high = share_interval(mean, total, level, bool((self.n == size).all()))
        return Share(mean, min(low, mean), max(high, mean), total)


def kinds_of(groups: Groups, scale: RewardScale) -> Kinds:
    """Sort groups into kinds."""
    bottom = np.where(groups.least == scale.low, groups.least_count, 0)
    top = np.where(groups.largest == scale.high, groups.largest_count, 0)
    largest = np.where(groups.least == groups.largest, 0, groups.largest_count)
    rows, back = distinct_rows(groups.n, groups.least_count, largest, bottom, top)
    n, least, most, low, high = rows
    return Kinds(n, least, most, low, high, np.bincount(back, minlength=len(n)))


def population(groups: Groups, kinds: Kinds, scale: RewardScale, size: int, tau: float, level: float) -> Population:
    """Estimate the shares."""
    enough = kinds.of(size)
    return Population(
        enough.share(_constant(enough, size), size, level),
        enough.share(_drawn_alike(enough.bottom, enough.n, size), size, level),
        enough.share(_drawn_alike(enough.top, enough.n, size), size, level),
        _small_std(groups, kinds, scale, tau, level),
        size,
        len(groups.n) - int(enough.count.sum()),
    )


def group_sizes(everything: Kinds, scale: RewardScale, level: float) -> list[dict[str, Any]]:
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
        kinds = everything.of(size)
        share = kinds.share(1 - _constant(kinds, size), size, level)
        row: dict[str, Any] = {"size": size, "groups": share.groups}
        row |= dict.fromkeys(("useful", "low", "high", "rollouts_per_useful", "signal"))
        if share.share is not None:
            row |= {"useful": share.share, "low": share.low, "high": share.high}
            row["rollouts_per_useful"] = size / share.share if share.share else None
            if scale.two_valued:
                std = _group_std(kinds.top, kinds.n, size)
                row["signal"] = scale.width * float(np.dot(std, kinds.count)) / share.groups
        found.append(row)
    return found


def _drawn_alike(count: NDArray[np.int64], n: NDArray[np.int64], size: int) -> Float64:
    """C(count, size) / C(n, size): chance that `size` of n rollouts are all among these; n >= size."""
    found = np.ones(len(n))
    for j in range(min(size, int(count.max(initial=0)) + 1)):  # from there on it is 0
        found *= np.maximum(count - j, 0) / (n - j)
    return found


def _constant(kinds: Kinds, size: int) -> Float64:
    """Chance that `size` of a group's rollouts have one reward, for n >= size.

    Values between the group's least and largest count as distinct, which is exact for rewards of two values.
    """
    return _drawn_alike(kinds.least, kinds.n, size) + _drawn_alike(kinds.largest, kinds.n, size)


def _group_std(top: NDArray[np.int64], n: NDArray[np.int64], size: int) -> Float64:
    """Mean std, dividing by size, of groups of `size` of n rollouts of which `top` have 1 and the others 0."""
    from scipy.special import gammaln

    (k, m), back = distinct_rows(top, n)

    def log_choose(a: Any, b: Any) -> Any:
        with np.errstate(invalid="ignore"):
            found = gammaln(a + 1.0) - gammaln(b + 1.0) - gammaln(a - b + 1.0)
        return np.where((b >= 0) & (b <= a), found, -np.inf)

    mean = np.zeros(len(k))
    for ones in range(1, size):
        chance = np.exp(log_choose(k, ones) + log_choose(m - k, size - ones) - log_choose(m, size))
        mean += chance * np.sqrt(ones * (size - ones)) / size
    return np.asarray(mean[back])


def _small_std(groups: Groups, kinds: Kinds, scale: RewardScale, tau: float, level: float) -> Share:
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
        small, large, wrong_small, wrong_large = _two_valued_tests(kinds, scale, tau)
    else:
        wrong_small = wrong_large = _ERROR
        low, high = bounded_std_interval(n, std, groups.least, groups.largest, scale.ends, 1 - 2 * _ERROR)
        same = groups.least == groups.largest
        high = np.where(same, same_reward_std(n, groups.least, scale.ends, 1 - 2 * _ERROR), high)
        small, large = int((high < tau).sum()), int((low >= tau).sum())
    total = len(n)
    surely_small = float(proportion_interval(small, total, level)[0])
    surely_large = float(proportion_interval(large, total, level)[0])
    low_share = max(0.0, (surely_small - wrong_small) / (1 - wrong_small))
    high_share = 1 - max(0.0, (surely_large - wrong_large) / (1 - wrong_large))
    return Share(share, low_share, max(high_share, low_share), total)


def _two_valued_tests(kinds: Kinds, scale: RewardScale, tau: float) -> tuple[int, int, float, float]:
    """Count the prompts declared small and large; return also the largest chances of a wrong declaration."""
    from scipy.special import bdtr, bdtrc

    fewer = np.minimum(kinds.top, kinds.n - kinds.top)  # of the rarer reward
    edge = 0.5 - np.sqrt(max(0.25 - (tau / scale.width) ** 2, 0.0))  # its std is tau
    small = large = 0
    wrong_small = wrong_large = 0.0
    for n in np.unique(kinds.n).tolist():
        k = np.arange(min(n // 2, int(4 * n * edge) + 50) + 1, dtype=np.float64)
        # Large, wrongly: k or more of both kinds though p is at most the edge. Small, wrongly: k or fewer though not.
        at_least = np.where(k > 0, bdtrc(np.maximum(k - 1, 0), n, edge), 1.0)
        at_most = np.where(2 * k < n, bdtr(k, n, edge) + bdtrc(np.maximum(n - k - 1, 0), n, edge), 1.0)
        here = kinds.n == n
        rarer, count = fewer[here], kinds.count[here]
        if (enough := np.flatnonzero(at_least <= _ERROR)).size:
            large += int(count[rarer >= k[enough[0]]].sum())
            wrong_large = max(wrong_large, float(at_least[enough[0]]))
        if (few := np.flatnonzero(at_most <= _ERROR)).size:
            small += int(count[rarer <= k[few[-1]]].sum())
            wrong_small = max(wrong_small, float(at_most[few[-1]]))
    return small, large, wrong_small, wrong_large
