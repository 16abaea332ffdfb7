"""Legato's functions inside of a user's compiled functions: the numbers, the errors and the cache."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from legato import _core, camera, rasp, rft
from legato import diffusion as D
from legato.errors import ArgumentError, HomographyError, IndexRangeError

numba = pytest.importorskip("numba", reason="numba is what compiles these functions")
njit = numba.njit(nogil=True)

rng = np.random.default_rng(7)


def homographies(n: int) -> np.ndarray:
    return np.eye(3) + 0.1 * rng.normal(size=(n, 3, 3))


def test_the_entry_point_is_declared() -> None:
    found = [entry.value for entry in metadata.entry_points(group="numba_extensions") if entry.name == "init"]
    assert "legato._numba:init" in found


class TestHomographies:
    def test_log_and_exp(self) -> None:
        @njit
        def both(h: Any) -> Any:
            return camera.log_homography(h), camera.exp_homography(camera.log_homography(h))

        for h in (homographies(7), homographies(1)[0], homographies(6).reshape(2, 3, 3, 3)):
            logs, back = both(h)
            np.testing.assert_array_equal(logs, camera.log_homography(h))
            np.testing.assert_array_equal(back, camera.exp_homography(camera.log_homography(h)))

    def test_into_memory_of_the_caller(self) -> None:
        @njit
        def into(x: Any, out: Any) -> Any:
            return camera.exp_homography(x, out=out)

        x = 0.1 * rng.normal(size=(4, 3, 3))
        out = np.empty_like(x)
        into(x, out)
        np.testing.assert_array_equal(out, camera.exp_homography(x))
        memory = np.concatenate([x, x[:1]])
        expected = camera.exp_homography(memory[:4])
        into(memory[:4], memory[1:])  # overlaps, an entry later
        np.testing.assert_array_equal(memory[1:], expected)
        into(x, x)
        np.testing.assert_array_equal(x, out)

    def test_contain(self) -> None:
        options = camera.PathOptions(crop=0.2, inset_px=3.0)

        @njit
        def by_default(p: Any) -> Any:
            return camera.contain(p, (640, 360))

        @njit
        def with_options(p: Any, options: Any) -> Any:
            return camera.contain(p, (640, 360), options)

        @njit
        def with_a_constant(p: Any) -> Any:
            return camera.contain(p, (640, 360), options=options)

        p = np.tile(np.eye(3), (50, 1, 1))
        p[:, :2, 2] = rng.normal(scale=30, size=(50, 2))
        p[:, 2, :2] = rng.normal(scale=1e-5, size=(50, 2))
        np.testing.assert_array_equal(by_default(p), camera.contain(p, (640, 360)))
        for run in (lambda p: with_options(p, options), with_a_constant):
            np.testing.assert_array_equal(run(p), camera.contain(p, (640, 360), options))

    def test_errors_are_those_of_legato(self) -> None:
        @njit
        def log(h: Any) -> Any:
            return camera.log_homography(h)

        for wrong, error, word in (
            (np.full((1, 3, 3), np.nan), HomographyError, "finite"),
            (np.zeros((1, 3, 3)), HomographyError, "singular"),
            (np.diag([-1.0, -1.0, 1.0]), HomographyError, "principal logarithm"),
            (np.zeros((2, 2)), ArgumentError, "shape"),
        ):
            with pytest.raises(error, match=word):
                log(wrong)
        for wrong in (np.eye(3, dtype=np.float32), np.eye(3)[:, ::-1], np.zeros(3)):
            with pytest.raises(numba.core.errors.TypingError, match="homography: expected"):
                log(wrong)


class TestDiffusion:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_normal(self, dtype: str) -> None:
        if dtype == "float32":

            @njit
            def draw(n: int, seed: Any) -> Any:
                return D.normal((n, 5), seed, step=3, substep=1)
        else:

            @njit
            def draw(n: int, seed: Any) -> Any:
                return D.normal((n, 5), seed, step=3, substep=1, dtype="float64")

        for seeds in (7, np.uint64(2**63 + 11), np.arange(4), np.arange(4, dtype=np.uint64)):
            wanted = D.normal((4, 5), int(seeds) if np.ndim(seeds) == 0 else seeds, step=3, substep=1, dtype=dtype)
            found = draw(4, seeds)
            assert found.dtype == wanted.dtype
            np.testing.assert_array_equal(found, wanted)
        assert draw(0, 7).shape == (0, 5)

    def test_normal_in_parts_and_into_memory(self) -> None:
        @njit
        def parts(out: Any) -> Any:
            D.normal((2, 3), 7, step=-1, out=out[:2])
            D.normal((2, 3), 7, step=-1, first_sample=2, out=out[2:])
            return D.normal(4, 7)

        out = np.empty((4, 3), np.float32)
        flat = parts(out)
        np.testing.assert_array_equal(out, D.normal((4, 3), 7, step=-1))
        np.testing.assert_array_equal(flat, D.normal(4, 7))

    def test_wrong_seeds_and_steps(self) -> None:
        @njit
        def draw(seeds: Any, step: int) -> Any:
            return D.normal((2, 2), seeds, step=step)

        for seeds, step, name in (
            (-1, 0, "seeds"),
            (np.array([1, -1]), 0, "seeds"),
            (np.arange(3), 0, "seeds"),
            (1, -2, "step"),
        ):
            with pytest.raises(ArgumentError, match=name):
                draw(seeds, step)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_step(self, dtype: Any) -> None:
        x, eps, uncond, z = (rng.normal(size=(6, 5)).astype(dtype) for _ in range(4))

        @njit
        def steps(x: Any, eps: Any, uncond: Any, z: Any, table: Any, pair: Any) -> Any:
            out = np.empty_like(x)
            D.apply_step(x, eps, (0.5, 0.25, 1), uncond, 7.5, seeds=3, step=2, out=out)
            return (
                D.apply_step(x, eps, (0.5, 0.25, 0.0)),
                out,
                D.apply_step(x, eps, table, noise=z),
                D.apply_step(x, eps, table[0], uncond, weights=pair, seeds=np.arange(6), first_sample=0),
            )

        table, pair = rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
        found = steps(x, eps, uncond, z, table, pair)
        wanted = (
            D.apply_step(x, eps, (0.5, 0.25, 0.0)),
            D.apply_step(x, eps, (0.5, 0.25, 1.0), uncond, 7.5, seeds=3, step=2),
            D.apply_step(x, eps, table, noise=z),
            D.apply_step(x, eps, table[0], uncond, weights=pair, seeds=np.arange(6)),
        )
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_wrong_steps(self) -> None:
        @njit
        def guided(x: Any, eps: Any, scale: float) -> Any:
            return D.apply_step(x, eps, (1.0, 1.0, 0.0), guidance_scale=scale)

        x = np.ones((2, 3))
        with pytest.raises(ArgumentError, match="eps_uncond"):
            guided(x, x, 2.0)
        with pytest.raises(ArgumentError, match="shape of x"):
            guided(x, np.ones((3, 3)), 1.0)
        with pytest.raises(numba.core.errors.TypingError, match="eps: expected"):
            guided(x, np.ones((2, 3), np.float32), 1.0)


class TestAdvantages:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_gae_and_returns(self, dtype: Any) -> None:
        @njit
        def plain(r: Any, v: Any) -> Any:
            return rft.gae(r, v, gamma=0.99)

        @njit
        def masked(r: Any, v: Any, m: Any, b: Any) -> Any:
            return rft.gae(r, v, m, 0.9, 0.8, b)

        @njit
        def returns(r: Any, m: Any) -> Any:
            return rft.discounted_returns(r, m, 0.9), rft.discounted_returns(r, gamma=0.5)

        r, v = rng.normal(size=(2, 5, 6)).astype(dtype)
        m, b = rng.random((5, 6)) > 0.3, rng.normal(size=5).astype(dtype)
        for found, wanted in (
            (plain(r, v), rft.gae(r, v, gamma=0.99)),
            (masked(r, v, m, b), rft.gae(r, v, m, 0.9, 0.8, b)),
            (masked(r, v, m.astype(np.uint8), b), rft.gae(r, v, m, 0.9, 0.8, b)),
            (returns(r, m), (rft.discounted_returns(r, m, 0.9), rft.discounted_returns(r, gamma=0.5))),
        ):
            for one, other in zip(found, wanted, strict=True):
                assert one.dtype == dtype
                np.testing.assert_array_equal(one, other)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_gae_row_by_row(self, dtype: Any) -> None:
        @njit
        def rows(r: Any, v: Any, m: Any, b: Any, a: Any, returns: Any) -> None:
            for i in range(len(r)):
                one = slice(i, i + 1)
                a[one], returns[one] = rft.gae(r[one], v[one], m[one], 0.9, 0.8, b[one])

        @njit
        def plain(r: Any, v: Any) -> Any:
            return rft.gae(r, v, gamma=1)

        r, v = rng.normal(size=(2, 40, 17)).astype(dtype)
        m, b = rng.random((40, 17)) > 0.3, rng.normal(size=40).astype(dtype)
        a, returns = np.empty_like(r), np.empty_like(r)
        rows(r, v, m, b, a, returns)
        for one, other in zip((a, returns), rft.gae(r, v, m, 0.9, 0.8, b), strict=True):
            np.testing.assert_array_equal(one, other)
        for one, other in zip(plain(r[:1], v[:1]), rft.gae(r[:1], v[:1], gamma=1), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_group_advantages(self) -> None:
        @njit
        def kinds(r: Any, g: Any) -> Any:
            return (
                rft.group_advantages(r, g),
                rft.group_advantages(r, g, "dr_grpo"),
                rft.group_advantages(r, g, kind="rloo", singleton="raw"),
                rft.group_advantages(r, g, "grpo", 0, 1e-6),
            )

        r, g = rng.integers(0, 3, 40).astype(float), rng.integers(0, 9, 40)
        wanted = (
            rft.group_advantages(r, g),
            rft.group_advantages(r, g, "dr_grpo"),
            rft.group_advantages(r, g, kind="rloo", singleton="raw"),
            rft.group_advantages(r, g, "grpo", 0, 1e-6),
        )
        for one, other in zip(kinds(r, g), wanted, strict=True):
            np.testing.assert_array_equal(one, other)
        for wrong, error in (
            ((r, -g), IndexRangeError),
            ((r, g * 10**12), ArgumentError),
            ((r * np.nan, g), ArgumentError),
            ((r, g[1:]), ArgumentError),
        ):
            with pytest.raises(error):
                kinds(*wrong)

    @pytest.mark.parametrize("kind", rft.advantages.KINDS)
    def test_every_kind_is_known(self, kind: str) -> None:
        @njit
        def of_kind(r: Any, g: Any) -> Any:
            return rft.group_advantages(r, g, kind)

        r, g = rng.integers(0, 3, 40).astype(float), rng.integers(0, 9, 40)
        np.testing.assert_array_equal(of_kind(r, g), rft.group_advantages(r, g, kind))

    def test_an_unknown_kind_is_refused(self) -> None:
        @njit
        def unknown(r: Any, g: Any) -> Any:
            return rft.group_advantages(r, g, "mean")

        with pytest.raises(numba.core.errors.TypingError, match="kind: expected one of 'grpo'"):
            unknown(np.zeros(2), np.zeros(2, np.int64))

    def test_token_stats(self) -> None:
        @njit
        def stats(logits: Any, ids: Any, mask: Any) -> Any:
            return rft.token_stats(logits, ids, 0.7), rft.token_stats(logits, ids, entropy=False, mask=mask)

        logits, ids = rng.normal(size=(5, 300)).astype(np.float32), rng.integers(0, 300, 5)
        mask = np.array([1, 0, 1, 1, 1], bool)
        brain = (logits.view(np.uint32) >> 16).astype(np.uint16)
        for stored in (logits, brain):  # compiled code on the CPU has no float16
            wanted = (
                rft.token_stats(stored, ids, 0.7),
                rft.token_stats(stored, ids, entropy=False, mask=mask),
            )
            for one, other in zip(stats(stored, ids, mask), wanted, strict=True):
                for name in ("logp", "entropy", "sum_p2", "lse", "largest", "log_sum"):
                    np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)
        with pytest.raises(IndexRangeError, match="ids"):
            stats(logits, ids + 300, mask)
        with pytest.raises(ArgumentError, match="ids"):
            stats(logits, ids[1:], mask)


class TestRasp:
    @pytest.mark.parametrize("shape", [(7,), (150,), (3, 90)])
    def test_widths_and_aggregates(self, shape: tuple[int, ...]) -> None:
        @njit
        def all_of(k: Any, q: Any, v: Any) -> Any:
            A = rasp.select(k, q, rasp.lt)
            B = rasp.select(k, 2, rasp.neq, False)
            return (
                rasp.sel_width(A),
                rasp.sel_width(B),
                rasp.aggr(A, v, 5),
                rasp.aggr(A, v, rounding="floor"),
                rasp.aggr_mean(B, 4, 7),
                rasp.aggr_max(A, v, -1),
                rasp.aggr_min(B, v),
                rasp.kqv(k, q, v, rasp.equals, reduction="max", causal=False),
                rasp.kqv(k, 1, v, rasp.geq, 3),
            )

        k, q = rng.integers(0, 5, (2, *shape))
        v = rng.integers(-50, 50, shape)
        for one, other in zip(all_of(k, q, v), all_of.py_func(k, q, v), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_lengths_and_a_predicate_for_an_argument(self) -> None:
        @njit
        def widths(k: Any, pred: Any, lengths: Any) -> Any:
            return rasp.sel_width(rasp.select(k, k, pred, lengths=lengths))

        k, lengths = rng.integers(0, 5, (3, 80)), np.array([80, 0, 13])
        for pred in (rasp.equals, rasp.leq, rasp.true, rasp.false):
            np.testing.assert_array_equal(
                widths(k, pred, lengths), rasp.sel_width(rasp.select(k, k, pred, lengths=lengths))
            )
        with pytest.raises(ArgumentError, match="lengths"):
            widths(k, rasp.equals, lengths + 1)

    def test_what_is_not_known_there_is_refused(self) -> None:
        @njit
        def called(k: Any) -> Any:
            return rasp.sel_width(rasp.select(k, k, min))

        @njit
        def real(k: Any) -> Any:
            return rasp.aggr(rasp.select(k, k, rasp.lt), k, rounding="float")

        for run, word in ((called, "pred: expected a predicate"), (real, "rounding: expected one of")):
            with pytest.raises(numba.core.errors.TypingError, match=word):
                run(np.arange(5))


PROGRAM = """
import numba, numpy as np
from legato import camera, rft, rasp, diffusion as D

@numba.njit(nogil=True, cache=True)
def user(r, v, h):
    a, returns = rft.gae(r, v)
    w = rasp.sel_width(rasp.select(np.arange(9), 3, rasp.lt))
    return a.sum() + camera.log_homography(h).sum() + D.normal((2, 3), 7)[1, 2] + w[4]

@numba.njit(cache=True)
def wrong(h):
    return camera.log_homography(h)

print(repr(user(np.ones((2, 3)), np.ones((2, 3)), np.eye(3) + 0.01)))
try:
    wrong(np.zeros((3, 3)))
except camera.HomographyError as error:
    print(error)
print(sum(user.stats.cache_hits.values()), sum(wrong.stats.cache_hits.values()))
"""


def test_what_is_cached_runs_in_the_next_process(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    where = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    first, second = (
        subprocess.run(
            [sys.executable, "program.py"], cwd=tmp_path, env=where, check=True, capture_output=True, text=True
        ).stdout.splitlines()
        for _ in range(2)
    )
    assert first[:2] == second[:2]
    assert "singular" in second[1]
    assert first[2] == "0 0"
    assert second[2] == "1 1"


def test_threads_run_side_by_side() -> None:
    """Compiled code holds no lock of Legato's; two threads give what one gives."""
    from concurrent.futures import ThreadPoolExecutor

    @njit
    def many(logs: Any, out: Any, k: int) -> None:
        for _ in range(k):
            camera.exp_homography(logs, out=out)

    logs = 0.1 * rng.normal(size=(2, 3, 3))
    outs = [np.empty_like(logs) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda out: many(logs, out, 2000), outs))
    for out in outs:
        np.testing.assert_array_equal(out, camera.exp_homography(logs))


class TestScipy:
    def test_every_capsule_has_the_signature_of_its_function(self) -> None:
        scipy = pytest.importorskip("scipy", reason="scipy reads the capsules")
        for name in _core.__pyx_capi__:
            signature = scipy.LowLevelCallable.from_cython(_core, name).signature
            assert signature.startswith("int ("), name

    def test_a_homography_is_a_coordinate_map(self) -> None:
        ndimage = pytest.importorskip("scipy.ndimage", reason="scipy is what asks for coordinates")
        image = rng.random((40, 50))
        h = np.array([[1.01, 0.02, 3], [-0.01, 0.99, 2], [1e-4, -2e-4, 1]])

        def by_hand(at: tuple[int, int]) -> tuple[float, float]:
            x, y, w = h @ (at[1], at[0], 1.0)
            return y / w, x / w

        found = ndimage.geometric_transform(image, camera.coordinate_map(h.tolist()), order=3)
        np.testing.assert_allclose(found, ndimage.geometric_transform(image, by_hand, order=3), atol=1e-12)
        with pytest.raises(ArgumentError, match="homography"):
            camera.coordinate_map(np.zeros((2, 3, 3)))
