"""Noise and steps in GPU memory give the CPU's bits where a CPU runs the kernels."""

import re

import numpy as np
import pytest

import fake_cupy
from legato import _gpu
from legato import diffusion as D
from legato._extras import install_command
from legato.errors import ArgumentError, DependencyError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cuda")


@pytest.fixture
def gpu(monkeypatch, folder):
    _gpu._module.cache_clear()
    yield fake_cupy.install(monkeypatch, folder)
    _gpu._module.cache_clear()


def some(shape, dtype, seed):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def test_noise_in_gpu_memory_is_the_cpus(gpu):
    for dtype in ("float32", "float64", "float16"):
        for seeds in (5, [1, 2**63 + 1, 3]):
            for generator in ("threefry", "philox"):
                options = {"step": 7, "substep": 1, "dtype": dtype, "generator": generator}
                out = gpu.asarray(np.zeros((3, 5, 7), dtype))
                assert D.normal((3, 5, 7), seeds, out=out, **options) is out
                np.testing.assert_array_equal(np.asarray(out), D.normal((3, 5, 7), seeds, **options))
    out = gpu.asarray(np.zeros((2, 9), np.float32))
    D.normal((2, 9), 5, out=out, first_sample=2**33, step=-1)
    np.testing.assert_array_equal(np.asarray(out), D.normal((2, 9), 5, first_sample=2**33, step=-1))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_step_in_gpu_memory_is_the_cpus(gpu, dtype):
    x, eps, uncond, noise = (some((3, 41), dtype, k) for k in range(4))
    tables = [(0.9, -0.3, 0.2), np.array([(0.9, -0.3, 0.2), (1.0, 0.5, 0.0), (0.1, 0.2, 0.3)])]
    for coef in tables:
        for guided in (False, True):
            for given in (False, True):
                options = {"seeds": 11, "step": 3, "guidance_scale": 2.5 if guided else 1.0}
                arrays = (x, eps, uncond if guided else None, noise if given else None)
                on_gpu = [None if a is None else gpu.asarray(a) for a in arrays]
                want = D.apply_step(arrays[0], arrays[1], coef, arrays[2], noise=arrays[3], **options)
                got = D.apply_step(on_gpu[0], on_gpu[1], coef, on_gpu[2], noise=on_gpu[3], **options)
                assert isinstance(got, gpu.ndarray)
                np.testing.assert_array_equal(np.asarray(got), want)
                np.testing.assert_array_equal(np.asarray(on_gpu[0]), x)
    state = gpu.asarray(x)
    assert D.apply_step(state, gpu.asarray(eps), (0.5, 1.0, 0.0), out=state) is state
    np.testing.assert_array_equal(np.asarray(state), D.apply_step(x, eps, (0.5, 1.0, 0.0)))


@pytest.mark.parametrize(
    ("sampler", "eta", "steps"), [("ddim", 0.5, 0), ("ddpm", None, 2), ("heun", None, 0), ("dpmpp_2m", None, 0)]
)
def test_whole_runs_stay_in_gpu_memory(gpu, sampler, eta, steps):
    schedule = D.Schedule.vp_cosine(8)
    places = set()

    def model(x, alpha, sigma, k):
        places.add(type(x).__name__)
        return x * np.float32(alpha * sigma) - np.float32(0.1 * k)

    def other(x, *_):
        return x * np.float32(0.5)

    x = some((4, 10), np.float32, 0)
    options = {"eta": eta, "corrector_steps": steps, "seeds": 3, "guidance_scale": 1.5}
    pair = D.guided(model, other)
    want = D.sample(pair, x.shape, schedule, sampler, x=x, **options)
    assert places == {"ndarray"}
    state = gpu.asarray(x)
    kinds = []
    got = D.sample(pair, x.shape, schedule, sampler, x=state, callback=lambda _, x: kinds.append(type(x)), **options)
    assert set(kinds) == {gpu.ndarray}
    np.testing.assert_array_equal(np.asarray(got), want)
    np.testing.assert_array_equal(np.asarray(state), x)


def test_langevin_in_gpu_memory(gpu):
    x = some((4, 3), np.float32, 1)
    want = D.langevin(lambda x, *_: -x, x, 0.1, 5, seeds=2)
    got = D.langevin(lambda x, *_: -x, gpu.asarray(x), 0.1, 5, seeds=2)
    np.testing.assert_array_equal(np.asarray(got), want)


def test_other_packages_come_through_dlpack(gpu):
    class Tensor:
        """As much of a tensor on a GPU as is asked for."""

        requires_grad = False

        def __init__(self, array):
            self.array, self.dtype, self.shape, self.ndim = array, array.dtype, array.shape, array.ndim

        def __dlpack_device__(self):
            return 2, 0

        def is_contiguous(self):
            return True

        def as_cupy(self):
            return self.array.view(gpu.ndarray)

    x, eps = some((2, 6), np.float32, 0), some((2, 6), np.float32, 1)
    want = D.apply_step(x, eps, (0.5, 1.0, 0.25), seeds=4)
    out = Tensor(x)
    assert D.apply_step(out, Tensor(eps), (0.5, 1.0, 0.25), seeds=4, out=out) is out
    np.testing.assert_array_equal(x, want)


def test_bad_input_is_named(gpu):
    x = gpu.asarray(some((3, 4), np.float32, 0))
    plan = D.Schedule.vp_cosine(4)
    with pytest.raises(ArgumentError, match="eps: expected an array in GPU memory"):
        D.apply_step(x, np.asarray(x), (1, 1, 0))
    with pytest.raises(ArgumentError, match=r"eps: expected shape \(3, 4\)"):
        D.apply_step(x, x[:, :3], (1, 1, 0))
    with pytest.raises(ArgumentError, match="eps: expected float32"):
        D.apply_step(x, x.astype(np.float64), (1, 1, 0))
    with pytest.raises(ArgumentError, match="x: expected one of"):
        D.apply_step(x.astype(np.int32), x, (1, 1, 0))
    with pytest.raises(ArgumentError, match="backend: expected none"):
        D.apply_step(x, x, (1, 1, 0), backend="native")
    with pytest.raises(ArgumentError, match=r"out: .*contiguous"):
        D.normal((4, 3), out=x.T)
    with pytest.raises(ArgumentError, match="guidance_scale: expected cfg"):
        D.sample(D.guided(np.add, np.add), x.shape, plan, x=x, guidance_scale=D.Guidance(2.0, rescale=0.5))
    with pytest.raises(ArgumentError, match="x: expected an array in CPU memory"):
        D.sample(D.GaussianMixture([1.0], [[0.0] * 4], [1.0]), x.shape, plan, x=x)


def test_no_cupy_is_said(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    x = fake_cupy.asarray(np.zeros((2, 2), np.float32))
    with pytest.raises(DependencyError, match=re.escape(install_command("cuda12"))):
        D.apply_step(x, x, (1, 1, 0))
