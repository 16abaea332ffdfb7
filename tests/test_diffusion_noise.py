"""Noise: known answers, the same bits whatever the batch, and what a Gaussian must look like."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import DATA
from legato import diffusion as D
from legato.errors import ArgumentError

KAT = json.loads((DATA / "diffusion" / "rng_kat.json").read_text())
GENERATORS = ("threefry", "philox")


def words(texts: list[str]) -> np.ndarray:
    return np.array([int(text, 16) for text in texts], np.uint32)


@pytest.mark.parametrize("case", KAT["threefry4x32"])
def test_threefry_known_answers(case: dict, backend: str) -> None:
    out = D.threefry4x32(words(case["ctr"]), words(case["key"]), rounds=case["rounds"], backend=backend)
    assert out.tolist() == words(case["out"]).tolist()


@pytest.mark.parametrize("case", KAT["philox4x32_10"])
def test_philox_known_answers(case: dict, backend: str) -> None:
    assert D.philox4x32(words(case["ctr"]), words(case["key"]), backend=backend).tolist() == words(case["out"]).tolist()


def test_blocks_broadcast_and_refuse() -> None:
    counters = np.arange(8, dtype=np.uint32).reshape(2, 4)
    both = D.threefry4x32(counters, [1, 2, 3, 4])
    assert both.shape == (2, 4)
    assert (both[1] == D.threefry4x32(counters[1], [1, 2, 3, 4])).all()
    with pytest.raises(ArgumentError, match="rounds"):
        D.threefry4x32(counters, [1, 2, 3, 4], rounds=7)
    with pytest.raises(ArgumentError, match="counter"):
        D.philox4x32([1, 2, 3], [1, 2])
    with pytest.raises(ArgumentError, match="32-bit"):
        D.philox4x32([1, 2, 3, 2**32], [1, 2])
    with pytest.raises(ArgumentError, match="key"):
        D.philox4x32(np.zeros((3, 4), int), np.zeros((2, 2), int))


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (17, 5), (5, 64), (2, 65), (3, 1000), (2, 3, 1025), (1, 5000), (7,)])
def test_both_backends_draw_the_same_bits(shape: tuple[int, ...], generator: str) -> None:
    seeds = np.arange(shape[0]) * 977 + 2**40
    for given_seeds in (2**63 + 5, seeds):
        options = {"step": 3, "substep": 2, "generator": generator}
        native = D.normal(shape, given_seeds, backend="native", **options)
        assert native.tobytes() == D.normal(shape, given_seeds, backend="numpy", **options).tobytes()


@settings(max_examples=40, deadline=None)
@given(
    samples=st.integers(1, 40),
    elements=st.integers(0, 1500),
    cut=st.integers(0, 40),
    threads=st.integers(1, 4),
    generator=st.sampled_from(GENERATORS),
)
def test_a_sample_does_not_know_its_batch(samples: int, elements: int, cut: int, threads: int, generator: str) -> None:
    cut = min(cut, samples)
    whole = D.normal((samples, elements), 11, step=2, threads=threads, generator=generator)
    parts = [
        D.normal((cut, elements), 11, step=2, generator=generator),
        D.normal((samples - cut, elements), 11, step=2, first_sample=cut, generator=generator),
    ]
    assert (whole == np.concatenate(parts)).all()
    longer = D.normal((samples, elements + 3), 11, step=2, generator=generator)
    assert (whole == longer[:, :elements]).all()


def test_batch_of_64_equals_64_singles() -> None:
    seeds = np.arange(64) ** 3
    batch = D.normal((64, 3, 37), seeds, step=9, threads=3)
    for i, seed in enumerate(seeds):
        assert (batch[i] == D.normal((1, 3, 37), [seed], step=9)[0]).all()
    assert (D.normal((1, 50), 5) == D.normal((1, 50), [5])).all()


def test_every_part_of_the_address_matters() -> None:
    base = {"seeds": 1, "step": 4, "substep": 0, "first_sample": 0, "generator": "threefry"}
    changes = [{}, {"seeds": 2}, {"seeds": 1 + 2**32}, {"step": 5}, {"step": -1}, {"substep": 1}, {"first_sample": 1}]
    changes += [{"generator": "philox"}, {"first_sample": 2**33}]
    drawn = {D.normal((1, 8), **{**base, **change}).tobytes() for change in changes}
    assert len(drawn) == len(changes)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
@pytest.mark.parametrize("shape", [(3, 700), (40, 3)])
def test_the_seed_means_the_same_in_every_storage(dtype: str, shape: tuple[int, int], backend: str) -> None:
    single = D.normal(shape, 3, backend=backend)
    stored = D.normal(shape, 3, dtype=dtype, backend=backend)
    if dtype == "bfloat16":
        back = (stored.astype(np.uint32) << 16).view(np.float32)
        assert np.abs(back - single).max() <= 2.0**-8 * np.abs(single).max()
    else:
        assert (stored == single.astype(dtype)).all()


def test_a_dtype_is_a_name_or_a_type_of_numpy() -> None:
    for dtype in (np.float64, np.dtype("float64"), "float64"):
        assert D.normal((3, 5), 1, dtype=dtype).dtype == np.float64
        schedule, gm = D.Schedule.vp_linear(3), D.GaussianMixture([1], [[0.0]], [1.0])
        assert D.sample(gm, (2, 1), schedule, dtype=dtype).dtype == np.float64
    with pytest.raises(ArgumentError, match="dtype"):
        D.normal((3,), 1, dtype=np.int32)


def test_out_is_written_and_checked() -> None:
    out = np.empty((2, 9), np.float16)
    assert D.normal((2, 9), 1, dtype="float16", out=out) is out
    frozen = out.copy()
    frozen.flags.writeable = False
    for bad in (np.empty((2, 9)), np.empty((9, 2), np.float16).T, frozen):
        with pytest.raises(ArgumentError, match="out"):
            D.normal((2, 9), 1, dtype="float16", out=bad)


@pytest.mark.parametrize("generator", GENERATORS)
def test_moments_tails_and_correlations(generator: str) -> None:
    """Two million numbers: moments within five standard errors, tails as often as they should be, no correlation."""
    n = 1 << 21
    z = D.normal((8, n // 8), 2024, generator=generator).astype(np.float64)
    flat = z.ravel()
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((flat**power).mean() - mean) < 5 * np.sqrt(variance / n)
    for bound, probability in ((1, 0.317310508), (2, 0.0455002639), (3, 0.00269979606), (4, 6.33424837e-5)):
        count, expected = (np.abs(flat) > bound).sum(), n * probability
        assert abs(count - expected) < 5 * np.sqrt(expected)
    for lag in (1, 2, 3, 4, 16, 64):
        assert abs((flat[:-lag] * flat[lag:]).mean()) < 5 / np.sqrt(n)
        assert abs((flat[:-lag] ** 2 * flat[lag:] ** 2).mean() - 1) < 5 * np.sqrt(8 / n)
    correlation = np.corrcoef(z)
    assert np.abs(correlation - np.eye(8)).max() < 5 / np.sqrt(n / 8)
    steps = np.stack([D.normal((1, n // 8), 2024, step=k, generator=generator)[0] for k in range(4)])
    assert np.abs(np.corrcoef(steps) - np.eye(4)).max() < 5 / np.sqrt(n / 8)


def test_the_radius_is_right_from_the_center_to_the_tail() -> None:
    """The reference on chosen words against float64: small radii as exact as large ones, and the largest is 6.76."""
    from legato.diffusion._reference import _box_muller

    a = np.concatenate(
        [2 ** np.arange(32, dtype=np.uint64), 2**32 - 2 ** np.arange(32, dtype=np.uint64), [0, 2**32 - 1]]
    )
    a = a.astype(np.uint32)
    cosine, sine = _box_muller(a, np.zeros_like(a))
    exact = np.sqrt(-2 * np.log1p(-(2.0**32 - a.astype(float) - 0.5) / 2.0**32))
    assert (sine == 0).all()
    assert np.abs(cosine / exact - 1).max() < 3e-7
    assert cosine.max() > 6.75


def test_seeds_in_a_list_reach_to_64_bits() -> None:
    """NumPy makes floats of integers on both sides of 2^63."""
    seeds = [1, 2**63 + 1, 2**64 - 1]
    np.testing.assert_array_equal(D.normal((3, 5), seeds), D.normal((3, 5), np.array(seeds, np.uint64)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": ()}, "shape"),
        ({"shape": (2, -1)}, "shape"),
        ({"dtype": "int8"}, "dtype"),
        ({"seeds": -1}, "seeds"),
        ({"seeds": 1.5}, "seeds"),
        ({"seeds": 2**64}, "seeds"),
        ({"seeds": [1, 2, 3]}, "seeds"),
        ({"step": -2}, "step"),
        ({"step": 2**32 - 1}, "step"),
        ({"substep": -1}, "substep"),
        ({"generator": "mt"}, "generator"),
        ({"first_sample": -1}, "first_sample"),
        ({"first_sample": 2**32, "generator": "philox"}, "Philox"),
        ({"threads": 0}, "threads"),
        ({"backend": "cuda"}, "backend"),
    ],
)
def test_bad_input(arguments: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        D.normal(**{"shape": (2, 3), **arguments})


# --- Brownian paths ---------------------------------------------------------------------------------------------------


def test_increments_add_up() -> None:
    """However an interval is cut, and in whatever order it is asked for."""
    shape = (7, 5)
    whole = D.brownian(shape, 0.1, 0.95, seeds=3, dtype="float64")
    for cuts in ([0.3], [0.25, 0.5, 0.75], np.sort(np.random.default_rng(0).uniform(0.1, 0.95, 40)).tolist()):
        times = [0.1, *cuts, 0.95]
        parts = [D.brownian(shape, a, b, seeds=3, dtype="float64") for a, b in itertools.pairwise(times)]
        np.testing.assert_allclose(sum(parts[::-1]), whole, rtol=0, atol=1e-13)
    np.testing.assert_allclose(D.brownian(shape, 0.95, 0.1, seeds=3, dtype="float64"), -whole, rtol=0, atol=1e-14)
    np.testing.assert_allclose(D.brownian(shape, 0.1, 0.95, seeds=3), whole, rtol=0, atol=1e-6)
    assert (D.brownian(shape, 0.3, 0.3, seeds=3) == 0).all()


def test_paths_are_brownian() -> None:
    """Variances are lengths, also of short intervals at odd places; disjoint intervals are independent."""
    shape, n = (400, 250), 100_000
    times = [0.0, 0.0123, 0.0124, 0.3, 0.5, 0.50001, 0.77, 1.0]
    parts = np.stack([
        D.brownian(shape, a, b, seeds=9).ravel() for a, b in itertools.pairwise(times)
    ])  # fmt: skip
    lengths = np.diff(np.round(np.array(times) * 2**24) / 2**24)
    scaled = parts / np.sqrt(lengths)[:, None]
    covariance = scaled @ scaled.T / n
    assert np.abs(covariance - np.eye(len(lengths))).max() < 6 / np.sqrt(n)
    assert np.abs((scaled**4).mean(1) - 3).max() < 0.1


def test_paths_do_not_know_their_batch_or_threads() -> None:
    whole = D.brownian((300, 700), 0.2, 0.7, seeds=5)
    assert (D.brownian((300, 700), 0.2, 0.7, seeds=5, threads=3) == whole).all()
    assert (D.brownian((1, 700), 0.2, 0.7, seeds=5, first_sample=123) == whole[123]).all()
    own = D.brownian((2, 4), 0.2, 0.7, seeds=[8, 9])
    assert (D.brownian((1, 4), 0.2, 0.7, seeds=[9]) == own[1]).all()


@pytest.mark.parametrize("sampler", ["ddpm", "dpmpp_2m_sde", "er_sde", "reverse_sde"])
def test_runs_on_a_path_converge_to_one_sample(sampler: str) -> None:
    """With the noise of steps, another number of steps gives another sample; with that of a path, nearly the same."""
    gm = D.GaussianMixture([0.5, 0.5], [[-1.0, 0.4], [1.0, 0.0]], [0.1, 0.1])

    def runs(noise: str) -> list[np.ndarray]:
        x = D.normal((64, 2), 4, dtype="float64") * 10.0
        return [
            D.sample(gm, (64, 2), D.Schedule.karras(steps, sigma_max=10.0), sampler, x=x, seeds=4, noise=noise)
            for steps in (25, 100, 400)
        ]

    def apart(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.median(np.linalg.norm(a - b, axis=1)))

    coarse, middle, fine = runs("path")
    assert apart(middle, fine) < 0.6 * apart(coarse, fine)
    assert apart(middle, fine) < 0.12
    other = runs("step")
    assert apart(other[1], other[2]) > 0.3


def test_bad_paths() -> None:
    for call, name in (
        (lambda: D.brownian((2, 2), -0.1, 0.5), "start"),
        (lambda: D.brownian((2, 2), 0.1, 1.5), "end"),
        (lambda: D.brownian((2, 2), 0.1, 0.5, dtype="float16"), "dtype"),
        (lambda: D.brownian((2, 2), 0.1, 0.5, seeds=-1), "seeds"),
    ):
        with pytest.raises(ArgumentError, match=name):
            call()
    gm = D.GaussianMixture([1.0], [[0.0]], [1.0])
    with pytest.raises(ArgumentError, match="noise: expected one of step, path"):
        D.sample(gm, (2, 1), D.Schedule.karras(3), "ddpm", noise="tree")
    near = D.Schedule([1.0, 1.0, 1.0], [1.0, 1.0 - 1e-9, 0.0])
    with pytest.raises(ArgumentError, match="schedule: step 0 is shorter"):
        D.sample(gm, (2, 1), near, "ddpm", noise="path")
