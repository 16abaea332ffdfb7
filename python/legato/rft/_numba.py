"""Advantages and token statistics inside of ``@njit`` functions. Imported by Numba's entry point alone."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import register_jitable

from legato import rft
from legato._calls import call, compiles, constant, pointer, want_array, want_none
from legato.errors import ArgumentError, IndexRangeError
from legato.rft.advantages import _SCALES, KINDS, SINGLETONS

_REALS = (types.float32, types.float64)
_MASKS = (types.uint8, types.boolean)
_advantages = call("legato_rft_group_advantages_f64")
_token_stats = call("legato_rft_token_stats")


@register_jitable
def _row(
    rewards: Any, values: Any, mask: Any, end: float, gamma: float, decay: float, advantages: Any, returns: Any
) -> None:
    """One row as the core has it, where a call would take as long as the row; rows that follow overlap."""
    next_value, last = end, 0.0
    for k in range(rewards.shape[1]):
        t = rewards.shape[1] - 1 - k
        if mask is not None and not mask[0, t]:
            advantages[0, t] = returns[0, t] = 0
            continue
        value = np.float64(values[0, t])
        last = np.float64(rewards[0, t]) + gamma * next_value - value + decay * last
        next_value = value
        advantages[0, t] = last
        returns[0, t] = last + value


@compiles(rft.gae)
def _gae(
    rewards: Any,
    values: Any,
    mask: Any = None,
    gamma: Any = 1.0,
    lam: Any = 0.95,
    bootstrap: Any = None,
) -> Any:
    want_array("rewards", rewards, _REALS, 2)
    numbers = (rewards.dtype,)
    want_array("values", values, numbers, 2)
    masked = not want_none("mask", mask, _MASKS, 2)
    ended = not want_none("bootstrap", bootstrap, numbers, 1)
    run = call(f"legato_rft_gae_f{rewards.dtype.bitwidth}")

    def gae(
        rewards: Any,
        values: Any,
        mask: Any = None,
        gamma: Any = 1.0,
        lam: Any = 0.95,
        bootstrap: Any = None,
    ) -> Any:
        if values.shape != rewards.shape:
            raise ArgumentError("values: expected the shape of rewards")
        if masked and mask.shape != rewards.shape:
            raise ArgumentError("mask: expected the shape of rewards")
        if ended and len(bootstrap) != len(rewards):
            raise ArgumentError("bootstrap: expected one number a row")
        if not (np.isfinite(gamma) and np.isfinite(lam)):
            raise ArgumentError("gamma, lam: expected finite numbers")
        advantages, returns = np.empty_like(rewards), np.empty_like(rewards)
        rows, steps = rewards.shape
        if rows == 1:
            end = np.float64(bootstrap[0]) if ended else 0.0
            _row(rewards, values, mask, end, float(gamma), float(gamma) * float(lam), advantages, returns)
            return advantages, returns
        status = run(
            pointer(rewards),
            pointer(values),
            pointer(mask),
            pointer(bootstrap),
            rows,
            steps,
            gamma,
            lam,
            pointer(advantages),
            pointer(returns),
        )
        if status != 0:
            raise ArgumentError("rewards: no memory has so many")
        return advantages, returns

    return gae


@compiles(rft.discounted_returns)
def _discounted_returns(rewards: Any, mask: Any = None, gamma: Any = 1.0) -> Any:
    want_array("rewards", rewards, _REALS, 2)
    return lambda rewards, mask=None, gamma=1.0: rft.gae(rewards, np.zeros_like(rewards), mask, gamma, 1.0)[0]


@compiles(rft.group_advantages, prefer_literal=True)
def _group_advantages(
    rewards: Any,
    groups: Any,
    kind: Any = "grpo",
    ddof: Any = 1,
    eps: Any = 1e-4,
    singleton: Any = "zero",
) -> Any:
    want_array("rewards", rewards, (types.float64,), 1)
    want_array("groups", groups, (types.int64,), 1)
    scale = _SCALES[constant("kind", kind, KINDS)]
    raw = int(constant("singleton", singleton, SINGLETONS) == "raw")

    def group_advantages(
        rewards: Any,
        groups: Any,
        kind: Any = "grpo",
        ddof: Any = 1,
        eps: Any = 1e-4,
        singleton: Any = "zero",
    ) -> Any:
        n = len(rewards)
        if len(groups) != n:
            raise ArgumentError("groups: expected one a reward")
        if ddof not in (0, 1):
            raise ArgumentError("ddof: expected 0 or 1")
        if not (eps >= 0 and np.isfinite(eps)):
            raise ArgumentError("eps: expected a finite number of 0 or more")
        found = np.empty(n)
        most = 64 * n + 1_000_000
        status = _advantages(
            pointer(rewards), pointer(groups), n, most, scale, ddof, eps, raw, pointer(found), pointer(None)
        )
        if status == 1:
            raise IndexRangeError("groups: expected ids from 0 on")
        if status == 2:
            raise ArgumentError("rewards: expected finite numbers")
        if status == 5:
            raise ArgumentError("groups: expected ids from 0 on without large gaps; number them with numpy.unique")
        if status != 0:
            raise MemoryError("groups: no memory for so many")
        return found

    return group_advantages


class TokenStats(NamedTuple):
    """What `token_stats` gives inside of compiled code: the fields of `legato.rft.TokenStats`."""

    logp: Any
    entropy: Any
    sum_p2: Any
    lse: Any
    largest: Any
    log_sum: Any


_LOGITS = {types.float32: 0, types.uint16: 1}  # the core's FloatType


@compiles(rft.token_stats)
def _token_statistics(
    logits: Any,
    ids: Any,
    temperature: Any = 1.0,
    entropy: Any = True,
    mask: Any = None,
    threads: Any = 1,
) -> Any:
    want_array("logits", logits, tuple(_LOGITS), 2)
    want_array("ids", ids, (types.int64,), 1)
    masked = not want_none("mask", mask, _MASKS, 1)
    storage = _LOGITS[logits.dtype]

    def token_stats(
        logits: Any, ids: Any, temperature: Any = 1.0, entropy: Any = True, mask: Any = None, threads: Any = 1
    ) -> Any:
        rows, columns = logits.shape
        if columns == 0:
            raise ArgumentError("logits: expected shape (n, v) with v >= 1")
        if len(ids) != rows:
            raise ArgumentError("ids: expected one a row")
        if masked and len(mask) != rows:
            raise ArgumentError("mask: expected one a row")
        if not 1e-6 <= temperature <= 1e6:
            raise ArgumentError("temperature: expected a number from 1e-6 to 1e6")
        if threads < 1:
            raise ArgumentError("threads: expected 1 or more")
        table = np.empty((6, rows), np.float32)
        status = _token_stats(
            pointer(logits),
            storage,
            pointer(ids),
            pointer(mask),
            rows,
            columns,
            temperature,
            1 if entropy else 0,
            pointer(table),
            threads,
            pointer(None),
        )
        if status != 0:
            raise IndexRangeError("ids: expected 0 <= id < v")
        if not entropy:
            table[1:3] = np.nan
        return TokenStats(table[0], table[1], table[2], table[3], table[4], table[5])

    return token_stats
