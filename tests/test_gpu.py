"""The kernels for GPUs compile for every architecture asked for, and give the CPU's bits where a CPU runs them.

With `-m gpu` the same tests run on a device, or say that they were skipped.
"""

import ctypes
import functools
import importlib.resources
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

import fake_cupy
from legato import _core, _gpu, camera, rft
from legato.errors import ArgumentError, HomographyError, IndexRangeError, NumericalError

RNG = np.random.default_rng(7)
FUSED = _core.active_isa() != "baseline"  # rounds products of token statistics as the kernels do
KINDS = ("grpo", "dr_grpo", "rloo", "grpo_batch", "reinforce_plus_plus_baseline")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cuda")


@pytest.fixture(params=["stand-in", pytest.param("device", marks=pytest.mark.gpu)])
def gpu(request, monkeypatch, folder):
    """CuPy, or its stand-in on the CPU: what is tested is the same."""
    _gpu._module.cache_clear()
    if request.param == "stand-in":
        yield fake_cupy.install(monkeypatch, folder)
    else:
        cupy = pytest.importorskip("cupy", reason="needs CuPy and a GPU")
        if not cupy.cuda.is_available():
            pytest.skip("needs a GPU")
        yield cupy
    _gpu._module.cache_clear()


def equal(got, want):
    assert not isinstance(got, np.ndarray) or isinstance(got, fake_cupy.ndarray)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got.get(), want)


@pytest.mark.skipif(not FUSED, reason="the CPU's copy without fused products has other roundings")
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("entropy", [True, False])
def test_token_statistics(gpu, dtype, entropy):
    logits = (3 * RNG.normal(size=(5, 2100))).astype(dtype)
    logits[1] = -np.inf
    logits[2, 5] = np.nan
    ids, mask = RNG.integers(0, 2100, 5), np.array([1, 1, 1, 0, 1])
    ids[3] = -7  # masked
    want = rft.token_stats(logits, ids, 0.7, mask=mask, entropy=entropy)
    on = tuple(map(gpu.asarray, (logits, ids, mask)))
    got = rft.token_stats(on[0], on[1], 0.7, mask=on[2], entropy=entropy)
    for name in ("logp", "entropy", "sum_p2", "lse", "largest", "log_sum"):
        equal(getattr(got, name), getattr(want, name))
    if not entropy:
        with pytest.raises(ArgumentError, match="the entropy too"):
            rft.token_stats_backward(on[0], on[1], got, gpu.asarray(np.ones(5)), gpu.asarray(np.ones(5)), mask=on[2])
        return
    weights = RNG.normal(size=(2, 5)).astype(np.float32)
    want = rft.token_stats_backward(logits, ids, want, *weights, mask=mask)
    out = gpu.asarray(logits) if dtype != "float64" else None
    given = out if out is not None else on[0]
    found = rft.token_stats_backward(given, on[1], got, *map(gpu.asarray, weights), out=out, mask=on[2])
    assert out is None or found is out
    equal(found, want)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gae(gpu, dtype):
    rewards, values = RNG.normal(size=(2, 40, 50)).astype(dtype)
    mask, end = RNG.integers(0, 2, (40, 50)), RNG.normal(size=40).astype(dtype)
    for options in ({}, {"mask": mask, "bootstrap": end}):
        want = rft.gae(rewards, values, gamma=0.9, **options)
        on = {name: gpu.asarray(x) for name, x in options.items()}
        for got, expected in zip(
            rft.gae(gpu.asarray(rewards), gpu.asarray(values), gamma=0.9, **on), want, strict=True
        ):
            equal(got, expected)
    rewards[3, 4] = np.nan
    with pytest.raises(NumericalError, match="advantages: expected finite results"):
        rft.gae(gpu.asarray(rewards), gpu.asarray(values))


def test_groups(gpu):
    groups = RNG.integers(0, 30, 300)
    groups[groups == 4] = 5
    groups[7] = 31  # alone
    rewards = np.where(groups == 6, 0.1, RNG.normal(size=300))
    on = gpu.asarray(rewards), gpu.asarray(groups)
    want, got = rft.group_stats(rewards, groups, n_groups=40), rft.group_stats(*on, n_groups=40)
    for name in (
        "groups",
        "n",
        "mean",
        "var_biased",
        "var_unbiased",
        "std_biased",
        "std_unbiased",
        "min",
        "max",
        "zero_std",
    ):
        equal(getattr(got, name), getattr(want, name))
    for kind in KINDS:
        for singleton in ("zero", "raw"):
            options = {"kind": kind, "singleton": singleton, "ddof": 0}
            equal(rft.group_advantages(*on, **options), rft.group_advantages(rewards, groups, **options))


def test_homographies(gpu):
    matrices = np.eye(3) + RNG.normal(0, 0.1, (3, 30, 3, 3))
    logs = camera.log_homography(matrices)
    equal(camera.log_homography(gpu.asarray(matrices)), logs)
    out = gpu.asarray(logs)
    assert camera.exp_homography(out, out=out) is out
    equal(out, camera.exp_homography(logs))
    equal(camera.exp_homography(gpu.asarray(logs[:0])), logs[:0])


def test_bad_input_is_named_as_on_the_cpu(gpu):
    matrices = np.tile(np.eye(3), (4, 1, 1))
    for bad, wrong in (
        (np.nan * matrices[0], "NaN"),
        (0 * matrices[0], "singular"),
        (-matrices[0] * [1, 1, -1], "no principal"),
    ):
        matrices[2] = bad
        for place in (np.asarray, gpu.asarray):
            with pytest.raises(HomographyError, match=rf"homography\[2\]: .*{wrong}"):
                camera.log_homography(place(matrices))
    logs = np.zeros((4, 3, 3))
    logs[1, 0, 0] = 501
    for place in (np.asarray, gpu.asarray):
        with pytest.raises(HomographyError, match=r"log\[1\]: the input holds NaN or infinity"):
            camera.exp_homography(place(logs))
        with pytest.raises(IndexRangeError, match=r"ids\[1\]: expected 0 <= id < 4, got 4"):
            rft.token_stats(place(np.zeros((2, 4), np.float32)), place(np.array([0, 4])))
        with pytest.raises(IndexRangeError, match=r"groups\[1\]: expected 0 <= id < 1, got -1"):
            rft.group_stats(place(np.zeros(2)), place(np.array([0, -1])))
        with pytest.raises(ArgumentError, match=r"rewards\[0\]: expected a finite number, got nan"):
            rft.group_advantages(place(np.array([np.nan, 0])), place(np.array([0, 0])))
        with pytest.raises(ArgumentError, match="groups: expected ids from 0 on"):
            rft.group_advantages(place(np.zeros(2)), place(np.array([0, 10**9])))
        with pytest.raises(ArgumentError, match=r"rewards: expected shape \(b, t\)"):
            rft.gae(place(np.zeros(3)), place(np.zeros(3)))
        with pytest.raises(ArgumentError, match=r"values: expected shape \(1, 3\)"):
            rft.gae(place(np.zeros((1, 3))), place(np.zeros((1, 4))))
    x = gpu.asarray(matrices)
    with pytest.raises(ArgumentError, match="backend: expected none"):
        camera.log_homography(x, backend="numpy")
    with pytest.raises(ArgumentError, match="ids: expected an array in GPU memory"):
        rft.token_stats(gpu.asarray(np.zeros((2, 4), np.float32)), np.array([0, 1]))
    with pytest.raises(ArgumentError, match=r"ids: expected shape \(2,\)"):
        rft.token_stats(gpu.asarray(np.zeros((2, 4), np.float32)), gpu.asarray(np.zeros((2, 3), np.int64)))


# --- Compiled --------------------------------------------------------------------------------------------------------

HEADERS = Path(str(importlib.resources.files("legato") / "include"))


@functools.cache
def nvrtc():
    found = importlib.util.find_spec("nvidia")
    places = [Path(place) for place in found.submodule_search_locations] if found else []
    libraries = [library for place in places for library in place.glob("**/libnvrtc.so.*")]
    if not libraries:
        pytest.skip("needs NVRTC (pip install nvidia-cuda-nvrtc-cu12)")
    return ctypes.CDLL(str(libraries[0]))


class Compiled:
    """A source after NVRTC: as PTX, or for an architecture as machine code, whose log tells registers and spills."""

    def __init__(self, source, architecture=None):
        options = [*_gpu.OPTIONS, f"-I{HEADERS}"]
        if architecture is not None:
            options += [f"--gpu-architecture={architecture}", "--ptxas-options=-v"]
        library, self.program = nvrtc(), ctypes.c_void_p()
        made = library.nvrtcCreateProgram(ctypes.byref(self.program), source.encode(), b"legato.cu", 0, None, None)
        assert made == 0
        done = library.nvrtcCompileProgram(
            self.program, len(options), (ctypes.c_char_p * len(options))(*map(str.encode, options))
        )
        self.log = self._text("ProgramLog")
        assert done == 0, self.log

    def ptx(self):
        return self._text("PTX")

    def resources(self):
        """Give registers, bytes of stack and bytes spilled, by kernel."""
        found = {}
        for name, body in re.findall(
            r"Compiling entry function '(\w+)'(.*?)(?=Compiling entry|\Z)", self.log, re.DOTALL
        ):
            registers, stack, spilled, loaded = (
                int(re.search(rf"{pattern}", body)[1])
                for pattern in (
                    r"Used (\d+) reg",
                    r"(\d+) bytes stack",
                    r"(\d+) bytes spill stores",
                    r"(\d+) bytes spill loads",
                )
            )
            found[name] = registers, stack, spilled + loaded
        return found

    def _text(self, what):
        library, size = nvrtc(), ctypes.c_size_t()
        assert getattr(library, f"nvrtcGet{what}Size")(self.program, ctypes.byref(size)) == 0
        buffer = ctypes.create_string_buffer(size.value)
        assert getattr(library, f"nvrtcGet{what}")(self.program, buffer) == 0
        return buffer.value.decode()


ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90")
# By family: kernels, the most registers of one, and what may spill how many bytes, on a stack of at most as many.
BUDGETS = {
    "camera": (2, 104, {}),
    "diffusion": (8, 48, {}),
    "rft": (11, 64, {f"legato_rft_token_stats_{kind}": 16 for kind in ("float32", "float16", "bfloat16")}),
}


@pytest.mark.parametrize("family", BUDGETS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_registers_and_spills(family, architecture):
    kernels, most, spilling = BUDGETS[family]
    found = Compiled(_gpu.source(family), architecture).resources()
    assert len(found) == kernels
    for name, (registers, stack, spilled) in found.items():
        assert registers <= most, f"{name}: {registers} registers"
        assert max(stack, spilled) <= spilling.get(name, 0), f"{name}: {spilled} bytes spilled, {stack} of stack"


@pytest.mark.parametrize("family", BUDGETS)
def test_no_product_is_contracted(family):
    code = Compiled(_gpu.source(family)).ptx()
    assert ".entry legato_" in code
    assert "fma.rn.f64" not in code  # contracted numbers are not the CPU's
    # Those of token statistics are rounded once on the CPU too, and written as such.
    assert ("fma.rn.f32" in code) == (family == "rft")
    assert "sqrt.approx" not in code
    assert "div.approx" not in code


def test_blocks_meet_where_they_share_memory():
    for entry in re.split(
        r"(?=\.visible \.entry)", Compiled(_gpu.source("rft")).ptx() + Compiled(_gpu.source("camera")).ptx()
    ):
        name = re.search(r"\.entry (\w+)", entry)
        if name is not None:
            assert ("bar.sync" in entry) == bool(fake_cupy.TOGETHER.search(name[1])), name[1]


@pytest.mark.parametrize("header", ["diffusion", "homography", "moments", "random", "softmax"])
def test_the_arithmetic_compiles_for_gpus(header):
    assert ".version" in Compiled(f'#include "legato/math/{header}.h"\n').ptx()
