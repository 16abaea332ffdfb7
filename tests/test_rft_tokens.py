"""token_stats and its gradient: against the reference, bit for bit over batches and threads, edges and bad input."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import legato
from legato import _core, rft
from legato.errors import ArgumentError, IndexRangeError

INF = np.inf
FIELDS = ("logp", "entropy", "sum_p2", "lse", "largest", "log_sum")


def logits_of(kind: str, rows: int, columns: int, scale: float = 3.0, seed: int = 0) -> Any:
    z = (np.random.default_rng(seed).normal(size=(rows, columns)) * scale).astype(np.float32)
    if kind == "bfloat16":
        return (z.view(np.uint32) >> 16).astype(np.uint16)
    return z.astype(np.float16) if kind == "float16" else z


def same(a: rft.TokenStats, b: rft.TokenStats) -> None:
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(a, name).view(np.uint32), getattr(b, name).view(np.uint32))


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("columns", [1, 2, 15, 16, 17, 2047, 2048, 2049, 4096, 5003])
def test_against_the_reference(kind: str, columns: int) -> None:
    """Columns on both sides of a pack of 16 and of a block of 2048."""
    z, ids = logits_of(kind, 6, columns), np.arange(6) % columns
    found, expected = (rft.token_stats(z, ids, 0.8, backend=name) for name in ("native", "numpy"))
    np.testing.assert_allclose(found.logp, expected.logp, 0, 2e-5)
    np.testing.assert_allclose(found.entropy, expected.entropy, 0, 5e-5)
    np.testing.assert_allclose(found.sum_p2, expected.sum_p2, 0, 1e-6)
    np.testing.assert_allclose(found.lse, expected.lse, 1e-6, 1e-6)
    np.testing.assert_array_equal(found.largest, expected.largest)
    np.testing.assert_allclose(found.log_sum, expected.log_sum, 0, 2e-6)
    weights = np.linspace(-1, 2, 6).astype(np.float32)
    g, h = (
        rft.token_stats_backward(z, ids, found, weights, weights[::-1].copy(), 0.8, backend=name)
        for name in ("native", "numpy")
    )
    if kind == "bfloat16":
        g, h = ((x.astype(np.uint32) << 16).view(np.float32) for x in (g, h))
    step = {"float32": 0.0, "bfloat16": 2.0**-7, "float16": 2.0**-10}[kind]
    np.testing.assert_allclose(g.astype(float), h.astype(float), step, 5e-6)


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 5),
    columns=st.integers(1, 70),
    offset=st.sampled_from([0.0, 30000.0, -30000.0]),
    scale=st.sampled_from([1e-3, 1.0, 40.0]),
    temperature=st.sampled_from([0.1, 1.0, 2.0]),
    seed=st.integers(0, 2**31),
)
def test_properties(rows: int, columns: int, offset: float, scale: float, temperature: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    z = (rng.normal(size=(rows, columns)) * scale + offset).astype(np.float32)
    ids = rng.integers(0, columns, rows)
    stats = rft.token_stats(z, ids, temperature)
    expected = rft.token_stats(z, ids, temperature, backend="numpy")
    size = np.abs(expected.logp)
    assert (np.abs(stats.logp - expected.logp) <= 2e-5 + 2.4e-7 * size).all()
    assert (stats.logp <= 1e-6).all()
    assert ((stats.entropy >= 0) & (stats.entropy <= np.log(columns) + 1e-5)).all()
    assert ((stats.sum_p2 >= 1 / columns - 1e-6) & (stats.sum_p2 <= 1 + 1e-6)).all()
    weights = np.ones(rows, np.float32)
    gradient = rft.token_stats_backward(z, ids, stats, weights, weights, temperature)
    assert np.abs(gradient.sum(axis=1)).max() < 1e-4 / temperature  # a softmax does not see a common offset
    order = rng.permutation(columns)
    moved = rft.token_stats(z[:, order], np.argsort(order)[ids], temperature)
    np.testing.assert_allclose(moved.logp, stats.logp, 1e-6, 2e-6)


def test_gradient_is_the_derivative() -> None:
    z, ids, t = logits_of("float32", 3, 9).astype(np.float64), np.array([1, 8, 0]), 0.7
    weights, entropy_weights = np.array([1.0, -2.0, 0.5]), np.array([0.3, 0.1, -0.7])

    def objective(x: np.ndarray) -> float:
        from legato.rft import _reference

        logp, entropy, *_ = _reference.token_stats(x, ids, t)
        return float(weights @ logp + entropy_weights @ entropy)

    stats = rft.token_stats(z.astype(np.float32), ids, t)
    found = rft.token_stats_backward(
        z.astype(np.float32), ids, stats, weights.astype(np.float32), entropy_weights.astype(np.float32), t
    )
    step = 1e-6
    for row, column in [(0, 1), (0, 4), (1, 8), (2, 0), (2, 7)]:
        up, down = z.copy(), z.copy()
        up[row, column] += step
        down[row, column] -= step
        assert found[row, column] == pytest.approx((objective(up) - objective(down)) / (2 * step), abs=2e-5)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
def test_rows_do_not_depend_on_batch_or_threads(kind: str) -> None:
    z, ids = logits_of(kind, 37, 40_007), np.arange(37)
    whole = rft.token_stats(z, ids)
    same(rft.token_stats(z, ids, threads=4), whole)
    parts = [rft.token_stats(z[a:b], ids[a:b]) for a, b in ((0, 1), (1, 8), (8, 37))]
    same(rft.TokenStats(*(np.concatenate([getattr(p, n) for p in parts]) for n in FIELDS)), whole)
    weights = np.ones(37, np.float32)
    gradient = rft.token_stats_backward(z, ids, whole, weights)
    np.testing.assert_array_equal(rft.token_stats_backward(z, ids, whole, weights, threads=3), gradient)
    assert _core.last_isa() == legato.build_info()["isa"]


PROBE = """
import hashlib
import numpy as np
from legato import _core, rft
rng = np.random.default_rng(0)
digest, ran = hashlib.sha256(), set()
for columns in (7, 2049, 9001):
    z = (rng.normal(size=(9, columns)) * 4).astype(np.float32)
    for x in (z, (z.view(np.uint32) >> 16).astype(np.uint16), z.astype(np.float16)):
        stats = rft.token_stats(x, np.arange(9) % columns, 0.9)
        ran.add(_core.last_isa())
        one = np.ones(9, np.float32)
        g = rft.token_stats_backward(x, np.arange(9) % columns, stats, one, one, 0.9)
        ran.add(_core.last_isa())
        for part in (stats.logp, stats.entropy, stats.sum_p2, stats.lse, g):
            digest.update(part.tobytes())
        assert (rft.token_stats(x, np.arange(9) % columns, 0.9, entropy=False).logp == stats.logp).all()
        assert np.abs(stats.logp - rft.token_stats(x, np.arange(9) % columns, 0.9, backend="numpy").logp).max() < 2e-5
print(digest.hexdigest(), *ran)
"""


def answer(isa: str) -> list[str]:
    environment = {**os.environ, "LEGATO_ISA": isa}
    result = subprocess.run([sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, check=True)
    return result.stdout.splitlines()[-1].split()


def test_forced_isa_runs_and_processors_with_fma_agree() -> None:
    """The baseline copy rounds its products, so only the copies with fused ones give the same bits."""
    found = {isa: answer(isa) for isa in legato.build_info()["isas"]}
    for isa, (_, *ran) in found.items():
        assert ran == [isa]
    assert len({digest for isa, (digest, *_) in found.items() if isa != "baseline"}) <= 1


def test_no_temporary() -> None:
    """The resident memory of the process, at its peak during the call, grows by less than a mebibyte."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not (status.exists() and os.access(reset, os.W_OK)):
        pytest.skip("the peak of resident memory can be reset on Linux only")

    def kibibytes(name: str) -> int:
        return int(re.search(rf"{name}:\s+(\d+) kB", status.read_text()).group(1))  # type: ignore[union-attr]

    for kind in ("float32", "bfloat16", "float16"):
        z, ids = logits_of(kind, 64, 100_000), np.zeros(64, np.int64)
        rft.token_stats(z, ids)
        reset.write_text("5")
        before = kibibytes("VmRSS")
        rft.token_stats(z, ids)
        assert kibibytes("VmHWM") - before < 1024


def test_rows_without_a_distribution(backend: str) -> None:
    z = np.zeros((5, 3000), np.float32)
    z[0] = -INF
    z[1, 2500] = np.nan
    z[2, 7] = INF
    z[3, :2999] = -INF
    with np.errstate(invalid="ignore"):
        stats = rft.token_stats(z, [0, 0, 0, 2999, 1], backend=backend)
    for name in FIELDS:
        assert np.isnan(getattr(stats, name)[:3]).all()
    assert stats.logp[3] == 0
    assert stats.entropy[3] < 1e-9
    assert stats.sum_p2[3] == 1
    assert stats.logp[4] == pytest.approx(-np.log(3000), abs=1e-5)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
def test_without_entropy_the_rest_is_the_same(kind: str, backend: str) -> None:
    z, ids = logits_of(kind, 5, 4999), np.arange(5)
    whole = rft.token_stats(z, ids, 0.7, backend=backend)
    part = rft.token_stats(z, ids, 0.7, entropy=False, backend=backend)
    for name in ("logp", "lse", "largest", "log_sum"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name))
    assert np.isnan(part.entropy).all()
    assert np.isnan(part.sum_p2).all()
    weights = np.linspace(-1, 1, 5).astype(np.float32)
    gradients = [rft.token_stats_backward(z, ids, s, weights, None, 0.7, backend=backend) for s in (part, whole)]
    np.testing.assert_array_equal(*gradients)
    with pytest.raises(ArgumentError, match="stats: expected the entropy too"):
        rft.token_stats_backward(z, ids, part, weights, weights, 0.7, backend=backend)


def test_every_kind_of_nan_is_seen() -> None:
    """NaN with any low bits, of either sign, in every place of a pair of packs, and plus infinity."""
    for bits in (0x7FC00000, 0xFFC00000, 0x7FC001FF, 0xFF80007F, 0x7FFFFFFF, 0x7F800000):
        z = np.zeros((33, 33 + 2048), np.float32)
        z.view(np.uint32)[np.arange(33), np.arange(33) * 64] = bits
        for entropy in (True, False):
            with np.errstate(invalid="ignore"):
                assert np.isnan(rft.token_stats(z, np.zeros(33, np.int64), entropy=entropy).logp).all()
    for storage, first, infinity in ((np.uint16, 0x7F80, 0x7F80), (np.float16, 0x7C00, 0x7C00)):
        patterns = np.arange(first, 0x8000, dtype=np.uint16)
        patterns = np.concatenate([patterns, 0x8000 | patterns[patterns > infinity]])
        z16 = np.zeros((len(patterns), 35), np.uint16)
        z16[np.arange(len(patterns)), np.arange(len(patterns)) % 35] = patterns
        for entropy in (True, False):
            stats = rft.token_stats(z16.view(storage), np.zeros(len(patterns), np.int64), entropy=entropy)
            assert np.isnan(stats.logp).all()


def test_nan_where_everything_else_is_masked(backend: str) -> None:
    """A whole block of minus infinity with NaN in it, before and after a block with numbers."""
    for nan_at, number_at in ((10, 3000), (3000, 10)):
        z = np.full((1, 4096), -INF, np.float32)
        z[0, nan_at], z[0, number_at] = np.nan, 1.0
        assert np.isnan(rft.token_stats(z, [number_at], backend=backend).entropy).all()
        assert np.isnan(rft.token_stats(z, [number_at], entropy=False, backend=backend).logp).all()
        half = z.astype(np.float16)
        assert np.isnan(rft.token_stats(half, [number_at], entropy=False, backend=backend).logp).all()


def test_masked_entries_have_no_share_in_the_gradient() -> None:
    z = np.array([[0.0, -INF, 1.0]], np.float32)
    stats = rft.token_stats(z, [2])
    gradient = rft.token_stats_backward(z, [2], stats, np.ones(1, np.float32), np.ones(1, np.float32))
    assert gradient[0, 1] == 0
    assert np.isfinite(gradient).all()


def test_row_mask(backend: str) -> None:
    z = logits_of("float32", 4, 33)
    z[1] = np.nan
    keep = np.array([1, 0, 1, 0])
    stats = rft.token_stats(z, [3, 99, 4, -5], mask=keep, backend=backend)
    assert (stats.logp[keep == 0] == 0).all()
    same_rows = rft.token_stats(z[[0, 2]], [3, 4], backend=backend)
    np.testing.assert_array_equal(stats.logp[[0, 2]], same_rows.logp)
    g = rft.token_stats_backward(z, [3, 99, 4, -5], stats, np.ones(4, np.float32), mask=keep, backend=backend)
    assert (g[[1, 3]] == 0).all()
    assert (g[0] != 0).any()


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
def test_gradient_over_the_logits(kind: str) -> None:
    z, ids, weights = logits_of(kind, 5, 2100), np.arange(5), np.ones(5, np.float32)
    stats = rft.token_stats(z, ids)
    expected = rft.token_stats_backward(z, ids, stats, weights)
    place = z.copy()
    rft.token_stats_backward(place, ids, stats, weights, out=place)
    np.testing.assert_array_equal(place, expected)


def test_no_rows(backend: str) -> None:
    stats = rft.token_stats(np.empty((0, 4), np.float32), np.empty(0, np.int64), backend=backend)
    assert stats.logp.shape == (0,)


GOOD = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((GOOD, [0, 3]), IndexRangeError, r"ids\[1\]: expected 0 <= id < 3, got 3"),
        ((GOOD, [-1, 0]), IndexError, r"ids\[0\]"),
        ((GOOD, [0]), ArgumentError, r"ids: expected shape \(2,\)"),
        ((GOOD, [0.0, 1.0]), ArgumentError, "ids: expected whole numbers"),
        ((GOOD[0], [0]), ArgumentError, r"logits: expected shape \(n, v\)"),
        ((np.empty((2, 0), np.float32), [0, 0]), ArgumentError, "v >= 1"),
        ((GOOD.astype(complex), [0, 0]), ArgumentError, "logits: expected float32"),
        ((GOOD, [0, 0], 0.0), ArgumentError, "temperature"),
        ((GOOD, [0, 0], np.nan), ArgumentError, "temperature"),
    ],
)
def test_bad_input(arguments: tuple[Any, ...], error: type[Exception], message: str, backend: str) -> None:
    with pytest.raises(error, match=message):
        rft.token_stats(*arguments, backend=backend)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
def test_several_tokens_a_row(kind: str, backend: str) -> None:
    """As one call a token, and the gradients added up; a token may be there twice."""
    z, ids = logits_of(kind, 4, 2100), np.array([[0, 7, 7], [2099, 1, 0], [5, 6, 5], [3, 3, 3]])
    keep = np.array([1, 1, 0, 1])
    stats = rft.token_stats(z, ids, 0.7, mask=keep, backend=backend)
    single = [rft.token_stats(z, ids[:, k], 0.7, mask=keep, backend=backend) for k in range(3)]
    np.testing.assert_allclose(stats.logp, np.stack([s.logp for s in single], axis=1), 0, 1e-5)
    np.testing.assert_array_equal(stats.entropy, single[0].entropy)
    weights = np.linspace(-1, 2, 12).astype(np.float32).reshape(4, 3)
    entropy_weights = np.array([0.5, -1, 1, 2], np.float32)
    place = z.copy()
    found = rft.token_stats_backward(place, ids, stats, weights, entropy_weights, mask=keep, out=place, backend=backend)
    parts = [
        rft.token_stats_backward(
            wide(z, kind), ids[:, k], single[k], weights[:, k].copy(), entropy_weights if k == 0 else None, mask=keep,
            backend="numpy",
        )
        for k in range(3)
    ]  # fmt: skip
    step = {"float32": 1e-6, "bfloat16": 2.0**-8, "float16": 2.0**-10}[kind]
    np.testing.assert_allclose(wide(found, kind), np.sum(parts, axis=0), step, 5e-6)
    with pytest.raises(IndexRangeError, match=r"ids\[1, 0\]: expected 0 <= id < 2099, got 2099"):
        rft.token_stats(wide(z, kind)[:, :2099], ids, backend=backend)
    with pytest.raises(ArgumentError, match=r"ids: expected shape \(4, k\)"):
        rft.token_stats(z, ids[:2], backend=backend)
    with pytest.raises(ArgumentError, match=r"grad_logp: expected shape \(4, 3\)"):
        rft.token_stats_backward(z, ids, stats, weights[:, 0].copy(), backend=backend)


def wide(x: Any, kind: str) -> Any:
    return (x.astype(np.uint32) << 16).view(np.float32) if kind == "bfloat16" else x.astype(np.float32)


def test_statistics_know_their_temperature() -> None:
    z, weights = logits_of("float32", 2, 9), np.ones(2, np.float32)
    stats = rft.token_stats(z, [0, 1], 0.5)
    own = rft.token_stats_backward(z, [0, 1], stats, weights)
    np.testing.assert_array_equal(own, rft.token_stats_backward(z, [0, 1], stats, weights, temperature=0.5))
    with pytest.raises(ArgumentError, match=r"temperature: expected 0.5, that of the statistics, got 1"):
        rft.token_stats_backward(z, [0, 1], stats, weights, temperature=1.0)


def test_bad_threads_mask_and_outputs() -> None:
    with pytest.raises(ArgumentError, match="threads"):
        rft.token_stats(GOOD, [0, 0], threads=0)
    with pytest.raises(ArgumentError, match="mask: expected shape"):
        rft.token_stats(GOOD, [0, 0], mask=[1])
    stats, weights = rft.token_stats(GOOD, [0, 0]), np.ones(2, np.float32)
    with pytest.raises(ArgumentError, match=r"grad_logp: expected shape \(2,\)"):
        rft.token_stats_backward(GOOD, [0, 0], stats, weights[:1])
    with pytest.raises(ArgumentError, match="out: expected a writable C-contiguous float32"):
        rft.token_stats_backward(GOOD, [0, 0], stats, weights, out=np.zeros((3, 2), np.float32).T)
    with pytest.raises(ArgumentError, match="out: expected"):
        rft.token_stats_backward(GOOD, [0, 0], stats, weights, out=np.zeros((2, 3)))
    with pytest.raises(ArgumentError, match="stats: expected those of 1 rows"):
        rft.token_stats_backward(GOOD[:1], [0], stats, weights[:1])


def test_kl_shapes() -> None:
    assert rft.kl_estimates(np.zeros(3, np.float32), np.ones(3, np.float32)).k3.dtype == np.float32
    with pytest.raises(ArgumentError, match="ref_logp"):
        rft.kl_estimates(np.zeros(3), np.ones(2))


def test_every_float16_is_read_exactly() -> None:
    patterns = np.arange(1 << 16, dtype=np.uint16)
    values = patterns.view(np.float16)
    finite = np.isfinite(values)
    stats = rft.token_stats(values[finite][:, None], np.zeros(finite.sum(), np.int64))
    np.testing.assert_array_equal(stats.largest, values[finite].astype(np.float32))


def test_16_bit_gradients_round_to_nearest_even() -> None:
    """With p = 1/2 the gradient is half of grad_logp: float32 numbers of every size through the rounding."""
    rng = np.random.default_rng(0)
    exponents = np.concatenate([rng.uniform(-30, 16, 4000), rng.uniform(-26, -13, 4000)])
    weights = (rng.choice([-1.0, 1.0], 8000) * 2**exponents).astype(np.float32)
    ids, z = np.zeros(8000, np.int64), np.zeros((8000, 2), np.float16)
    for storage in (z, z.view(np.uint16)):
        stats = rft.token_stats(storage, ids)
        stats = rft.TokenStats(*(getattr(stats, n) for n in FIELDS[:5]), np.full(8000, np.log(2), np.float32))
        exact = rft.token_stats_backward(z.astype(np.float32), ids, stats, weights)
        found = rft.token_stats_backward(storage, ids, stats, weights)
        if storage.dtype == np.float16:
            np.testing.assert_array_equal(found, exact.astype(np.float16))
        else:
            bits = exact.view(np.uint32)
            np.testing.assert_array_equal(found, (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
def test_rows_whose_largest_logit_moves(kind: str) -> None:
    """Blocks that rise above the first by little and by much, one of minus infinity only, and a last odd column."""
    z = logits_of("float32", 4, 5 * 2048 + 1)
    z[:, :2048] -= np.array([0, 3, 60, np.inf], np.float32)[:, None]
    z[:, 4096:] += np.array([0, 7, 30, 30], np.float32)[:, None]
    z = z.astype(np.float16) if kind == "float16" else z
    z = (z.view(np.uint32) >> 16).astype(np.uint16) if kind == "bfloat16" else z
    ids = np.array([0, 5 * 2048, 4096, 3000])
    for temperature in (0.1, 1.0, 30.0):
        a, b = (rft.token_stats(z, ids, temperature, backend=name) for name in ("native", "numpy"))
        for name in FIELDS:
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), 1e-6, 5e-5, err_msg=f"{name} {temperature}")
