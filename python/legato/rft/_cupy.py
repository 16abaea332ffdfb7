"""Token statistics and advantages in GPU memory, by the kernels of cpp/cuda/rft.cuh."""

from __future__ import annotations

from typing import Any

import numpy as np

from legato._arrays import on_device
from legato._gpu import NULL, import_cupy, launch, of_type, stored, target
from legato.errors import ArgumentError, IndexRangeError, NumericalError

__all__ = ["gae", "group_advantages", "group_moments", "mask_of", "token_stats", "token_stats_backward"]

_COLUMNS = 2048  # that sixteen threads take, kSoftmaxBlock
_GRADIENT_COLUMNS = 4096  # that a block of threads takes
_THREADS = 256


def token_stats(logits: Any, ids: Any, temperature: float, mask: Any, entropy: bool) -> Any:
    """Return the table (6, n) of `TokenStats`; without entropy its second and third rows are NaN."""
    rows, kind, tokens, keep = _rows(logits, ids, mask)
    n, v = rows.shape
    with rows.device:
        table = import_cupy().full((6, n), np.nan, np.float32)
        threads = min(256, max(64, 16 * -(-v // _COLUMNS)))
        launch(
            "rft", f"token_stats_{kind}", n, -(-threads // 32) * 32, np.uint64(n), np.uint64(v), rows, tokens,
            np.float64(temperature), keep, np.int32(entropy), table,
        )  # fmt: skip
    return table


def token_stats_backward(
    logits: Any, ids: Any, stats: Any, grad_logp: Any, grad_entropy: Any, out: Any, mask: Any
) -> Any:
    """Return the gradient (n, v); `stats` are `TokenStats` of arrays in GPU memory."""
    cupy = import_cupy()
    rows, kind, tokens, keep = _rows(logits, ids, mask)
    n, v = rows.shape
    of_rows = [of_type(name, getattr(stats, name), np.float32, (n,)) for name in ("entropy", "largest", "log_sum")]
    on_logp = of_type("grad_logp", grad_logp, np.float32, (n,))
    on_entropy = NULL if grad_entropy is None else of_type("grad_entropy", grad_entropy, np.float32, (n,))
    if grad_entropy is not None and bool((cupy.isnan(of_rows[0]) & ~cupy.isnan(of_rows[2])).any()):
        raise ArgumentError("stats: expected the entropy too, for its gradient")
    gradient = cupy.empty_like(rows) if out is None else target(out, (n, v), kind)
    if gradient.data.ptr != rows.data.ptr and _overlap(gradient, rows):
        rows = rows.copy()
    with rows.device:
        launch(
            "rft", f"token_stats_backward_{kind}", n * -(-v // _GRADIENT_COLUMNS), _THREADS, np.uint64(n), np.uint64(v),
            rows, tokens, np.float64(stats.temperature), keep, cupy.stack(of_rows), on_logp, on_entropy, gradient,
        )  # fmt: skip
    return gradient if out is None else out


def gae(
    rewards: Any, values: Any, mask: Any, gamma: float, lam: float, bootstrap: Any, out: Any = None
) -> tuple[Any, Any]:
    """Return advantages and returns as `legato.rft.gae` does."""
    cupy = import_cupy()
    kinds = {str(x.dtype).removeprefix("torch.") for x in (rewards, values) if hasattr(x, "dtype")}
    dtype = np.dtype(np.float32 if kinds == {"float32"} else np.float64)
    if rewards.ndim != 2:
        raise ArgumentError(f"rewards: expected shape (b, t), got {tuple(rewards.shape)}")
    b, t = shape = tuple(map(int, rewards.shape))
    r, v = of_type("rewards", rewards, dtype, shape), of_type("values", values, dtype, shape)
    on = mask_of(mask, shape)
    last = NULL if bootstrap is None else of_type("bootstrap", bootstrap, dtype, (b,))
    with r.device:
        if out is None:
            advantages, returns = cupy.empty_like(r), cupy.empty_like(r)
        else:
            advantages, returns = (target(array, shape, dtype.name) for array in out)
            r, v = (x.copy() if _overlap(x, advantages) or _overlap(x, returns) else x for x in (r, v))
        if r.size:
            launch(
                "rft", f"gae_{dtype}", -(-b // 32), 32, np.uint64(b), np.uint64(t), r, v, on, last, np.float64(gamma),
                np.float64(gamma * lam), advantages, returns,
            )  # fmt: skip
    _check_finite("advantages", advantages)
    return (advantages, returns) if out is None else out


def group_moments(rewards: Any, groups: Any, n_groups: int | None, most: int) -> tuple[Any, ...]:
    """Return count, least, largest, mean and m2 of each group."""
    cupy = import_cupy()
    r, order, start = _grouped(rewards, groups, n_groups, most)
    count = len(start) - 1
    with r.device:
        found = (cupy.empty(count, np.int64), *(cupy.empty(count, np.float64) for _ in range(4)))
        launch("rft", "group_moments", -(-count // _THREADS), _THREADS, np.uint64(count), r, order, start, *found)
    return found


def group_advantages(rewards: Any, groups: Any, most: int, scale: int, ddof: int, eps: float, raw: bool) -> Any:
    """Return the advantages; `scale` is the core's GroupScale."""
    cupy = import_cupy()
    r, order, start = _grouped(rewards, groups, None, most)
    count, rule = len(start) - 1, (np.int32(scale), np.int32(ddof), np.float64(eps))
    with r.device:
        found = cupy.empty_like(r)
        launch(
            "rft", "group_advantages", -(-count // _THREADS), _THREADS, np.uint64(count), r, order, start, *rule, found
        )
        if scale >= 3 and r.size:  # over the spread of all
            spread = cupy.empty(2, np.float64)
            launch("rft", "spread_of_all", 1, _THREADS, np.uint64(r.size), r if scale == 4 else found, *rule, spread)
            found /= spread[0]
        if raw:
            alone = order[start[:-1][start[1:] - start[:-1] == 1]]
            found[alone] = r[alone]
    return found


def mask_of(mask: Any, shape: tuple[int, ...]) -> Any:
    """Return a mask as 0 and 1, or the null pointer for none."""
    if mask is None:
        return NULL
    given = of_type("mask", mask, mask.dtype if not _is_torch(mask) else np.float64, shape)
    return import_cupy().ascontiguousarray((given != 0).astype(np.uint8))


def _overlap(one: Any, other: Any) -> bool:
    return bool(import_cupy().may_share_memory(one, other))


def _is_torch(array: Any) -> bool:
    return str(getattr(array, "dtype", "")).startswith("torch.")


def _rows(logits: Any, ids: Any, mask: Any) -> tuple[Any, str, Any, Any]:
    cupy = import_cupy()
    rows, kind = stored("logits", logits)
    if kind == "float64":
        rows, kind = rows.astype(np.float32), "float32"
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ArgumentError(f"logits: expected shape (n, v) with v >= 1, got {rows.shape}")
    n, v = rows.shape
    tokens = of_type("ids", ids, np.int64, (n,), "iu")
    keep = mask_of(mask, (n,))
    outside = (tokens < 0) | (tokens >= v)
    if keep is not NULL:
        outside &= keep != 0
    if bool(outside.any()):
        at = int(cupy.argmax(outside))
        raise IndexRangeError(f"ids[{at}]: expected 0 <= id < {v}, got {int(tokens[at])}")
    return rows, kind, tokens, keep


def _grouped(rewards: Any, groups: Any, n_groups: int | None, most: int) -> tuple[Any, Any, Any]:
    """Rewards; their order by group, in a group as they came; where each group begins in it, and the end."""
    cupy = import_cupy()
    if not on_device(rewards) or rewards.ndim != 1:
        raise ArgumentError("rewards: expected shape (n,), in GPU memory like the groups")
    n = int(rewards.shape[0])
    r = of_type("rewards", rewards, np.float64, (n,))
    g = of_type("groups", groups, np.int64, (n,), "iu")
    largest = int(g.max()) + 1 if n else 0
    count = largest if n_groups is None else n_groups
    if n_groups is None and count > most:
        raise ArgumentError(f"groups: expected ids from 0 on without large gaps, got {count - 1}")
    outside, wild = (g < 0) | (g >= count), ~(cupy.abs(r) <= 1e150)
    if bool((outside | wild).any()):
        at = int(cupy.argmax(outside | wild))
        if bool(outside[at]):
            raise IndexRangeError(f"groups[{at}]: expected 0 <= id < {count}, got {int(g[at])}")
        wanted = "a size of at most 1e+150" if bool(cupy.isfinite(r[at])) else "a finite number"
        raise ArgumentError(f"rewards[{at}]: expected {wanted}, got {float(r[at])}")
    order = cupy.argsort(g, kind="stable").astype(np.int64, copy=False)
    start = cupy.searchsorted(g[order], cupy.arange(count + 1)).astype(np.int64, copy=False)
    return r, order, start


def _check_finite(name: str, values: Any) -> None:
    cupy = import_cupy()
    bad = ~cupy.isfinite(values)
    if bool(bad.any()):
        at = tuple(map(int, np.unravel_index(int(cupy.argmax(bad)), values.shape)))
        found = float(values[at])
        raise NumericalError(f"{name}: expected finite results of type {values.dtype}, got {found} at {list(at)}")
