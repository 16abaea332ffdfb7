"""From rewards to advantages: statistics of groups, leave-one-out baselines, returns over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from legato import _core, _dispatch
from legato._arrays import Float64, as_any, as_float64, as_floating, as_indices, on_device, output_apart, overlap
from legato._dispatch import Backend
from legato._gpu import as_given, check_backend
from legato._scalars import as_choice, as_count, as_flag, as_number, shown
from legato.errors import ArgumentError, IndexRangeError, NumericalError
from legato.rft import _reference

__all__ = [
    "GroupStats",
    "LeaveOneOut",
    "discounted_returns",
    "gae",
    "group_advantages",
    "group_stats",
    "leave_one_out",
    "pass_at_k_advantages",
    "reinforce_plus_plus",
    "remax",
    "whiten",
]


Kind: TypeAlias = Literal["grpo", "dr_grpo", "rloo", "grpo_batch", "reinforce_plus_plus_baseline"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Singleton: TypeAlias = Literal["zero", "raw"]
SINGLETONS: tuple[Singleton, ...] = get_args(Singleton)
_SCALES = {"grpo": 0, "rloo": 1, "dr_grpo": 2, "reinforce_plus_plus_baseline": 3, "grpo_batch": 4}  # GroupScale
LARGEST_REWARD = 1e150  # squares must not overflow; the core's kLargestReward


@dataclass(frozen=True, slots=True)
class GroupStats:
    """Statistics of each group's rewards; arrays of shape (g,), in order of the group id.

    Attributes
    ----------
    groups : ndarray
        The ids: 0, 1, ..., or the names in order.
    n : ndarray of int
        Rewards in the group; ids that do not occur have 0.
    mean, min, max : ndarray
        NaN, inf and -inf for an empty group.
    var_biased, std_biased : ndarray
        Divided by n; 0 for an empty group.
    var_unbiased, std_unbiased : ndarray
        Divided by n - 1 (the root is not unbiased); NaN for fewer than two.
    zero_std : ndarray of bool
        All rewards of the group are the same number. Its variances are exactly 0.

    See Also
    --------
    group_stats : Count, mean, variance and range of the rewards of each group.
    group_advantages : Advantages of rewards relative to their group.

    Examples
    --------
    >>> from legato import rft
    >>> stats = rft.group_stats([1.0, 0.0, 1.0], ["b", "b", "a"])
    >>> stats.groups.tolist(), stats.n.tolist(), stats.std_biased.tolist()
    (['a', 'b'], [1, 2], [0.0, 0.5])
    """

    groups: NDArray[Any]
    n: NDArray[np.int64]
    mean: Float64
    var_biased: Float64
    var_unbiased: Float64
    std_biased: Float64
    std_unbiased: Float64
    min: Float64
    max: Float64
    zero_std: NDArray[np.bool_]


def group_stats(
    rewards: Any, groups: Any, *, n_groups: int | None = None, backend: Backend | None = None
) -> GroupStats:
    """Count, mean, variance and range of the rewards of each group.

    Parameters
    ----------
    rewards : array, shape (n,)
        Finite numbers of at most 1e150; the arithmetic is float64.
    groups : array of int or str, shape (n,)
        Which group each reward belongs to, in any order: whole numbers from 0 on, or names. In GPU memory both are,
        groups are numbers, and the kernels of ``cpp/cuda`` run through CuPy, with the same bits; so do `gae` and
        `group_advantages`.
    n_groups : int, optional
        How many groups there are; by default the largest id plus one.
    backend : {"native", "numpy"}, optional

    Returns
    -------
    GroupStats

    Raises
    ------
    ArgumentError
        A reward is not finite or beyond 1e150, or shapes do not fit.
    IndexRangeError
        A group id is negative or not below `n_groups`.

    See Also
    --------
    group_advantages : Advantages of rewards relative to their group.
    reward_std_interval : Confidence interval of the standard deviation of the reward of one prompt.

    Notes
    -----
    Two passes, each group shifted by its least reward first: a constant group gives exactly 0, whatever the rounding of
    its mean. Never E[x^2] - E[x]^2.

    Examples
    --------
    >>> from legato import rft
    >>> stats = rft.group_stats([1, 0, 0.3, 0.3], [0, 0, 1, 1])
    >>> stats.mean, stats.zero_std
    (array([0.5, 0.3]), array([False,  True]))
    """
    if on_device(rewards):
        return _group_stats_on_device(rewards, groups, n_groups, backend)
    r, g, names = _paired(rewards, groups)
    count = _count(g, n_groups)
    n, least, largest, mean, m2 = _moments(r, g, count, backend)
    with np.errstate(divide="ignore", invalid="ignore"):
        biased = m2 / np.maximum(n, 1)
        unbiased = np.where(n > 1, m2 / (n - 1), np.nan)
    return GroupStats(
        np.arange(count) if names is None else names,
        n,
        np.where(n > 0, mean, np.nan),
        biased,
        unbiased,
        np.sqrt(biased),
        np.sqrt(unbiased),
        least,
        largest,
        (n > 0) & (least == largest),
    )


def _group_stats_on_device(rewards: Any, groups: Any, n_groups: int | None, backend: Backend | None) -> GroupStats:
    from legato._gpu import import_cupy
    from legato.rft import _cupy

    check_backend(backend)
    cupy = import_cupy()
    wanted = None if n_groups is None else as_count("n_groups", n_groups, 0)
    n, least, largest, mean, m2 = _cupy.group_moments(rewards, groups, wanted, _most_groups(len(rewards)))
    biased = m2 / cupy.maximum(n, 1)
    unbiased = cupy.where(n > 1, m2 / cupy.maximum(n - 1, 1), cupy.nan)
    found = (
        cupy.arange(len(n)), n, cupy.where(n > 0, mean, cupy.nan), biased, unbiased, cupy.sqrt(biased),
        cupy.sqrt(unbiased), least, largest, (n > 0) & (least == largest),
    )  # fmt: skip
    return GroupStats(*(as_given(rewards, x) for x in found))


def group_advantages(
    rewards: Any,
    groups: Any,
    kind: Kind = "grpo",
    ddof: Literal[0, 1] = 1,
    eps: float = 1e-4,
    singleton: Singleton = "zero",
    *,
    backend: Backend | None = None,
) -> Float64:
    """Advantages of rewards relative to their group.

    Parameters
    ----------
    rewards, groups : array, shape (n,)
        As for `group_stats`.
    kind : {"grpo", "dr_grpo", "rloo", "grpo_batch", "reinforce_plus_plus_baseline"}
        "grpo": centered, over the group's std + eps (arXiv 2402.03300). "dr_grpo": centered only (arXiv 2503.20783).
        "rloo": minus the mean of the others (arXiv 2402.14740). "grpo_batch": centered, over the std of all rewards +
        eps (TRL's ``scale_rewards="batch"``, arXiv 2508.08221). "reinforce_plus_plus_baseline": centered, over the std
        of all centered rewards + eps (arXiv 2501.03262; verl whitens over tokens instead: `whiten`).
    ddof : {0, 1}
        The std divides by n - ddof.
    eps : float
        Added to the std.
    singleton : {"zero", "raw"}
        What the advantage of a group of one is: 0, or its reward.
    backend : {"native", "numpy"}, optional

    Returns
    -------
    ndarray, shape (n,), float64
        Exactly 0 throughout a group whose rewards are all equal.

    See Also
    --------
    group_stats : Count, mean, variance and range of the rewards of each group.
    leave_one_out : Compare each reward with the others of its group.
    pass_at_k_advantages : Advantages whose policy gradient is that of the best of k rewards, without bias.

    Examples
    --------
    >>> from legato import rft
    >>> rft.group_advantages([1, 0, 0, 0, 1, 1], [0, 0, 0, 0, 1, 1]).round(3)
    array([ 1.5, -0.5, -0.5, -0.5,  0. ,  0. ])
    >>> rft.group_advantages([1, 0, 0, 0, 1, 1], [0, 0, 0, 0, 1, 1], kind="dr_grpo")
    array([ 0.75, -0.25, -0.25, -0.25,  0.  ,  0.  ])
    """
    scaling = _SCALES[as_choice("kind", kind, KINDS)]
    as_count("ddof", ddof, 0, 1)
    eps = as_number("eps", eps, least=0)
    raw = as_choice("singleton", singleton, SINGLETONS) == "raw"
    if on_device(rewards):
        from legato.rft import _cupy

        check_backend(backend)
        most = _most_groups(len(rewards))
        return as_given(  # type: ignore[no-any-return]
            rewards, _cupy.group_advantages(rewards, groups, most, scaling, ddof, eps, raw)
        )
    r, g, _ = _paired(rewards, groups)
    if _dispatch.choose(backend) == "numpy":
        n, least, _, mean, m2 = _moments(r, g, _count(g, None), backend)
        return _reference.group_advantages(r, g, n, least, mean, m2, kind, ddof, eps, raw)
    advantages, most = np.empty(len(r)), _most_groups(len(r))
    status, bad, count = _core.rft_group_advantages(r, g, most, scaling, ddof, eps, raw, advantages)
    if status:
        if count > most:
            raise _sparse(count)
        _refuse(status, bad, r, g, count)
    return advantages


@dataclass(frozen=True, slots=True)
class LeaveOneOut:
    """Statistics of the others of each reward's group; arrays of shape (n,).

    Attributes
    ----------
    mean : ndarray
        Of the others; NaN in a group of one.
    std : ndarray
        Of the others, divided by their count - 1; exactly 0 where they are all equal, NaN for fewer than two others.
    advantage : ndarray
        (reward - mean) / (std + eps); reward - mean where the std is 0 or NaN; 0 in a group of one.

    See Also
    --------
    leave_one_out : Compare each reward with the others of its group.

    Examples
    --------
    >>> from legato import rft
    >>> rft.leave_one_out([1.0, 0.0, 0.0], [0, 0, 0]).mean.tolist()
    [0.0, 0.5, 0.5]
    """

    mean: Float64
    std: Float64
    advantage: Float64


def leave_one_out(rewards: Any, groups: Any, eps: float = 1e-4, *, backend: Backend | None = None) -> LeaveOneOut:
    """Compare each reward with the others of its group.

    Parameters
    ----------
    rewards, groups : array, shape (n,)
        As for `group_stats`.
    eps : float
        Added to the std in the advantage.
    backend : {"native", "numpy"}, optional
        "numpy" is a plain loop.

    Returns
    -------
    LeaveOneOut

    See Also
    --------
    group_advantages : Among its rules "rloo", the numerator alone.

    Notes
    -----
    That the others are constant is found by comparing them, not by a threshold on the std: seven times 0.95 beside one
    0 has a std of rounding errors, which would turn into an advantage of about -10^6.

    Examples
    --------
    >>> from legato import rft
    >>> found = rft.leave_one_out([1.0, 0.0, 0.5], [0, 0, 0])
    >>> found.mean, found.advantage.round(3)
    (array([0.25, 0.75, 0.5 ]), array([ 2.121, -2.121,  0.   ]))
    """
    r, g, _ = _paired(rewards, groups)
    count = _count(g, None)
    eps = as_number("eps", eps, least=0)
    if _dispatch.choose(backend) == "numpy":
        return LeaveOneOut(*_reference.leave_one_out(r, g, eps))
    n, least, largest, mean, m2 = (x[g] for x in _moments(r, g, count, backend))
    others = n - 1
    c = (r - least) - (mean - least)
    at_least, at_largest = (np.bincount(g[r == edge], minlength=count)[g] for edge in (least, largest))
    with np.errstate(divide="ignore", invalid="ignore"):
        loo_mean = np.where(others > 0, mean - c / others, np.nan)
        loo_m2 = m2 - c * c * (n / others)
        rest_is_least = (at_least == others) & (r == largest) | (least == largest)
        rest_is_largest = (at_largest == others) & (r == least)
        cancelled = (loo_m2 < 1e-6 * m2) & ~rest_is_least & ~rest_is_largest & (others > 1)
        std = np.sqrt(np.maximum(loo_m2, 0.0) / (others - 1))
    if cancelled.any():
        _recompute(r, g, np.flatnonzero(cancelled), loo_mean, std)
    some = others > 0
    loo_mean = np.where(some & rest_is_least, least, np.where(some & rest_is_largest, largest, loo_mean))
    std = np.where(others > 1, np.where(rest_is_least | rest_is_largest, 0.0, std), np.nan)
    centered = np.where(some, r - loo_mean, 0.0)
    return LeaveOneOut(loo_mean, std, centered / np.where(std > 0, std + eps, 1.0))


def pass_at_k_advantages(rewards: Any, groups: Any, k: int) -> Float64:
    """Advantages whose policy gradient is that of the best of k rewards, without bias.

    Parameters
    ----------
    rewards, groups : array, shape (n,)
        As for `group_stats`.
    k : int
        Answers that a user draws; groups of fewer rewards are refused.

    Returns
    -------
    ndarray, shape (n,), float64
        Over the subsets of size k of the group that hold the reward, of C(m, k): the sum of what it adds to the best
        of the others. Never negative. For k = 1 the reward over m, without a baseline.

    See Also
    --------
    group_advantages : Advantages of rewards relative to their group.

    Notes
    -----
    The estimator of Walder and Karkhanis, "Pass@K Policy Optimization", arXiv 2505.15201 (its "sloo_minus_one"), for
    rewards of any value: with the rewards in order r_1 <= ... <= r_m, ``A_i = sum_{j<i} C(j-1, k-2) (r_i - r_j) /
    C(m, k)``. For k = m it is the best minus the second best for the best (Tang et al., arXiv 2503.19595; verl's
    "grpo_passk" without its division by the std).

    Examples
    --------
    >>> from legato import rft
    >>> rft.pass_at_k_advantages([1.0, 0.0, 0.0, 0.0], ["a"] * 4, k=2)
    array([0.5, 0. , 0. , 0. ])
    """
    r, g, _ = _paired(rewards, groups)
    k = as_count("k", k)
    n = _moments(r, g, _count(g, None), None)[0]
    small = np.flatnonzero((n > 0) & (n < k))
    if len(small):
        raise ArgumentError(f"groups: expected at least {k} rewards in each, got {n[small[0]]} in group {small[0]}")
    return _reference.pass_at_k_advantages(r, g, k)


def gae(
    rewards: Any,
    values: Any,
    mask: Any = None,
    gamma: float = 1.0,
    lam: float = 0.95,
    bootstrap: Any = None,
    *,
    out: tuple[Any, Any] | None = None,
    backend: Backend | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Generalized advantage estimation (Schulman et al., arXiv 1506.02438), with gaps.

    Parameters
    ----------
    rewards, values : array, shape (b, t)
        Float32 stays float32 where both are; otherwise float64.
    mask : array, shape (b, t), optional
        Steps where it is zero are skipped: the next value and the next advantage are carried across them, and rewards
        there do not count.
    gamma, lam : float
        Discount and the mixing of horizons.
    bootstrap : array, shape (b,), optional
        Value after the last step; 0 by default.
    out : pair of arrays, optional
        Of shape (b, t) and the type of the results, for advantages and returns. They may be, or overlap, inputs (which
        are then copied), but not each other.
    backend : {"native", "numpy"}, optional

    Returns
    -------
    advantages, returns : ndarray, shape (b, t)
        returns = advantages + values; 0 where masked. No whitening (`whiten`). The recurrence runs in float64.

    Raises
    ------
    NumericalError
        A result is not a number of its type: an input is not finite, or it overflows.

    See Also
    --------
    discounted_returns : Sum of the rewards from each step on, discounted by gamma a step that counts.
    whiten : Scale numbers to variance 1, and unless told otherwise to mean 0, over what is not masked.

    Examples
    --------
    >>> from legato import rft
    >>> advantages, returns = rft.gae(rewards=[[0.0, 1.0]], values=[[0.5, 0.5]], gamma=1.0, lam=1.0)
    >>> advantages, returns
    (array([[0.5, 0.5]]), array([[1., 1.]]))
    """
    gamma, lam = as_number("gamma", gamma), as_number("lam", lam)
    if on_device(rewards):
        from legato.rft import _cupy

        check_backend(backend)
        found = _cupy.gae(rewards, values, mask, gamma, lam, bootstrap, out)
        return found if out is not None else (as_given(rewards, found[0]), as_given(rewards, found[1]))
    r, v = as_floating("rewards", rewards), as_floating("values", values)
    dtype = r.dtype if r.dtype == v.dtype else np.dtype(np.float64)
    if r.ndim != 2:
        raise ArgumentError(f"rewards: expected shape (b, t), got {r.shape}")
    if v.shape != r.shape:
        raise ArgumentError(f"values: expected shape {r.shape}, got {v.shape}")
    on = as_mask("mask", mask, r.shape)
    last = None
    if bootstrap is not None:
        last = as_floating("bootstrap", bootstrap).astype(dtype, copy=False)
        if last.shape != (len(r),):
            raise ArgumentError(f"bootstrap: expected shape ({len(r)},), got {last.shape}")
    if r.dtype != v.dtype:
        r, v = r.astype(dtype, copy=False), v.astype(dtype, copy=False)
    advantages, returns, (r, v, on, last) = _outputs(out, r.shape, dtype.name, [r, v, on, last])
    if _dispatch.choose(backend) == "numpy":
        double = (r.astype(np.float64), v.astype(np.float64))
        with np.errstate(over="ignore", invalid="ignore"):
            advantages[...], returns[...] = _reference.gae(*double, on, gamma, lam, last)
        _check_finite("advantages", advantages)
        return (advantages, returns) if out is None else out
    steps = np.empty(0, np.uint8) if on is None else on
    ends: NDArray[Any] = np.empty(0, dtype) if last is None else last
    run: Any = _core.rft_gae_f32 if dtype == np.float32 else _core.rft_gae_f64
    run(r, v, steps, ends, gamma, lam, advantages, returns)
    _check_finite("advantages", advantages)
    return (advantages, returns) if out is None else out


def _outputs(out: Any, shape: tuple[int, ...], kind: str, inputs: list[Any]) -> tuple[Any, Any, list[Any]]:
    """Return the memory of two results, and the inputs as a kernel may read them meanwhile."""
    if out is None:
        return np.empty(shape, kind), np.empty(shape, kind), inputs
    if not (isinstance(out, tuple | list) and len(out) == 2):
        raise ArgumentError(f"out: expected two arrays, for advantages and returns, got {shown(out)}")
    first, inputs = output_apart("out[0]", out[0], shape, kind, inputs)
    second, inputs = output_apart("out[1]", out[1], shape, kind, inputs)
    if overlap(first, second):
        raise ArgumentError("out: expected two arrays apart from each other")
    return first, second, inputs


def discounted_returns(
    rewards: Any, mask: Any = None, gamma: float = 1.0, *, backend: Backend | None = None
) -> NDArray[Any]:
    """Sum of the rewards from each step on, discounted by gamma a step that counts.

    Parameters
    ----------
    rewards, mask, gamma, backend
        As for `gae`, of which this is the case of values 0 and lam 1.

    Returns
    -------
    ndarray, shape (b, t)
        0 where masked.

    See Also
    --------
    gae : Generalized advantage estimation (Schulman et al., arXiv 1506.02438), with gaps.
    reinforce_plus_plus : REINFORCE++ (arXiv 2501.03262): returns over time, whitened over the tokens of the batch.

    Examples
    --------
    >>> from legato import rft
    >>> rft.discounted_returns([[1.0, 0.0, 2.0]], gamma=0.5)
    array([[1.5, 1. , 2. ]])
    """
    r = as_floating("rewards", rewards)
    return gae(r, np.zeros_like(r), mask, gamma, 1.0, backend=backend)[0]


def reinforce_plus_plus(
    rewards: Any, mask: Any = None, gamma: float = 1.0, *, backend: Backend | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """REINFORCE++ (arXiv 2501.03262): returns over time, whitened over the tokens of the batch.

    Parameters
    ----------
    rewards, mask, gamma, backend
        As for `discounted_returns`; penalties such as that of the KL divergence are in the rewards.

    Returns
    -------
    advantages, returns : ndarray, shape (b, t)
        0 where masked.

    See Also
    --------
    discounted_returns : Sum of the rewards from each step on, discounted by gamma a step that counts.
    whiten : Scale numbers to variance 1, and unless told otherwise to mean 0, over what is not masked.

    Examples
    --------
    >>> from legato import rft
    >>> advantages, returns = rft.reinforce_plus_plus([[0.0, 1.0], [0.0, -1.0]])
    >>> returns, advantages.round(3)
    (array([[ 1.,  1.],
           [-1., -1.]]), array([[ 0.866,  0.866],
           [-0.866, -0.866]]))
    """
    returns = discounted_returns(rewards, mask, gamma, backend=backend)
    return whiten(returns, mask), returns


def remax(
    rewards: Any, baselines: Any, mask: Any = None, *, backend: Backend | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """ReMax (arXiv 2310.10505): what is still to come, minus the reward of the greedy answer to the same prompt.

    Parameters
    ----------
    rewards : array, shape (b, t)
    baselines : array, shape (b,)
        Rewards of the greedy answers.
    mask : array, shape (b, t), optional
    backend : {"native", "numpy"}, optional

    Returns
    -------
    advantages, returns : ndarray, shape (b, t)
        0 where masked.

    See Also
    --------
    group_advantages : Advantages of rewards relative to their group.

    Examples
    --------
    >>> from legato import rft
    >>> advantages, returns = rft.remax([[0.0, 1.0]], baselines=[0.25])
    >>> advantages, returns
    (array([[0.75, 0.75]]), array([[1., 1.]]))
    """
    returns = discounted_returns(rewards, mask, backend=backend)
    base = as_floating("baselines", baselines)
    if base.shape != (len(returns),):
        raise ArgumentError(f"baselines: expected shape ({len(returns)},), got {base.shape}")
    advantages = returns - base[:, None].astype(returns.dtype, copy=False)
    on = as_mask("mask", mask, returns.shape)
    return advantages if on is None else np.where(on != 0, advantages, returns.dtype.type(0)), returns


def whiten(x: Any, mask: Any = None, *, shift_mean: bool = True, eps: float = 1e-8) -> NDArray[Any]:
    """Scale numbers to variance 1, and unless told otherwise to mean 0, over what is not masked.

    Parameters
    ----------
    x : array
        float32 stays float32; sums are float64.
    mask : array of the same shape, optional
    shift_mean : bool
        False keeps the mean.
    eps : float
        Added to the variance, which divides by one less than the count (as verl's ``masked_whiten``).

    Returns
    -------
    ndarray
        0 where masked; what is masked may be anything. One number, or none, is left as it is but for its mean.

    See Also
    --------
    reinforce_plus_plus : REINFORCE++ (arXiv 2501.03262): returns over time, whitened over the tokens of the batch.
    masked_mean : Reduce (b, t) numbers to one over the steps whose mask is not zero.

    Examples
    --------
    >>> from legato import rft
    >>> rft.whiten([1.0, 2.0, 3.0, 9.0], mask=[1, 1, 1, 0]).round(6)
    array([-1.,  0.,  1.,  0.])
    """
    given = as_floating("x", x)
    shift, eps = as_flag("shift_mean", shift_mean), as_number("eps", eps, least=0)
    on = as_mask("mask", mask, given.shape)
    kept = np.ones(given.shape, bool) if on is None else on != 0
    values = given[kept].astype(np.float64)
    if len(values) == 0:
        return np.zeros_like(given)
    first = float(values[0])  # equal numbers give exactly 0
    values -= first
    mean = float(values.mean())
    values -= mean
    with np.errstate(over="ignore", invalid="ignore"):
        variance = float(values @ values) / (len(values) - 1) if len(values) > 1 else 1.0
        values /= np.sqrt(variance + eps) or 1.0
        if not shift:
            values += first + mean
    whitened = np.zeros_like(given)
    whitened[kept] = values
    _check_finite("x", whitened)
    return whitened


def as_mask(name: str, mask: Any, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """Return a mask as 0 and 1 of the given shape, or None."""
    if mask is None:
        return None
    if type(mask) is np.ndarray and mask.dtype == np.bool_ and mask.flags.c_contiguous:
        array = mask.view(np.uint8)  # the common case, without ceremony
    else:
        given = mask if isinstance(mask, np.ndarray) and mask.dtype.kind in "biu" else as_floating(name, mask)
        array = np.ascontiguousarray(given if given.dtype == np.bool_ else given != 0).view(np.uint8)
    if array.shape != shape:
        raise ArgumentError(f"{name}: expected shape {shape}, got {array.shape}")
    return array


def _paired(rewards: Any, groups: Any) -> tuple[Float64, NDArray[np.int64], NDArray[Any] | None]:
    """Return rewards, the numbers of their groups, and the groups' names where they have some."""
    r = as_float64("rewards", rewards)
    if r.ndim != 1:
        raise ArgumentError(f"rewards: expected shape (n,), got {r.shape}")
    given = as_any("groups", groups)
    if given.dtype.kind not in "OUST" or given.shape != r.shape or given.size == 0:
        return r, as_indices("groups", given, len(r)), None
    try:
        names, numbers = np.unique(given, return_inverse=True)
    except TypeError:  # None, or names of several kinds
        raise ArgumentError("groups: expected whole numbers or names, one a reward") from None
    return r, numbers.astype(np.int64, copy=False), names


def _count(g: NDArray[np.int64], n_groups: int | None) -> int:
    if n_groups is not None:
        return as_count("n_groups", n_groups, 0)
    count = int(g.max()) + 1 if len(g) else 0
    if count > _most_groups(len(g)):
        raise _sparse(count)
    return count


def _check_finite(name: str, values: NDArray[Any]) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(values.sum()):  # one sum is quicker than a look at each
            return
    bad = ~np.isfinite(values)
    if bad.any():
        at = tuple(map(int, np.unravel_index(int(np.argmax(bad)), values.shape)))
        raise NumericalError(f"{name}: expected finite results of type {values.dtype}, got {values[at]} at {list(at)}")


def _most_groups(rewards: int) -> int:
    """Return how many groups the memory of their statistics may be taken for."""
    return 64 * rewards + 1_000_000


def _sparse(count: int) -> ArgumentError:
    return ArgumentError(f"groups: expected ids from 0 on, got {count - 1}; ids of any kind are taken as strings")


def _moments(r: Float64, g: NDArray[np.int64], count: int, backend: Backend | None) -> tuple[Any, ...]:
    if _dispatch.choose(backend) == "numpy":
        outside, wild = (g < 0) | (g >= count), ~(np.abs(r) <= LARGEST_REWARD)
        if outside.any() or wild.any():
            bad = int(np.argmax(outside | wild))
            _refuse(1 if outside[bad] else 2, bad, r, g, count)
        return _reference.group_moments(r, g, count)
    n = np.empty(count, np.int64)
    out = [np.empty(count) for _ in range(4)]
    _refuse(*_core.rft_group_moments(r, g, n, *out), r, g, count)
    return (n, *out)


def _refuse(status: int, bad: int, r: Float64, g: NDArray[np.int64], count: int) -> None:
    """Raise what the core has found wrong with a reward or its group."""
    if status == 0:
        return
    if status == 1:
        raise IndexRangeError(f"groups[{bad}]: expected 0 <= id < {count}, got {g[bad]}")
    wanted = f"a size of at most {LARGEST_REWARD:g}" if np.isfinite(r[bad]) else "a finite number"
    raise ArgumentError(f"rewards[{bad}]: expected {wanted}, got {r[bad]}")


def _recompute(r: Float64, g: NDArray[np.int64], which: NDArray[np.int64], mean: Float64, std: Float64) -> None:
    """Statistics of the others where the difference of sums has lost its digits."""
    order = np.argsort(g, kind="stable")
    start = np.searchsorted(g[order], g[which])
    stop = np.searchsorted(g[order], g[which], side="right")
    for i, first, last in zip(which, start, stop, strict=True):
        members = order[first:last]
        others = r[members[members != i]]
        least = others.min()
        shifted = others - least
        mean[i], std[i] = least + shifted.mean(), shifted.std(ddof=1)
