"""``out=`` that overlaps an input: in every public function, what is written is what a call without it returns."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from legato import camera, rft, video
from legato import diffusion as D
from legato.errors import ArgumentError

FAMILIES = ("camera", "diffusion", "rasp", "rft", "video")
INPUTS = {"diffusion.convert_prediction"}  # what a model put out is its input

RNG = np.random.default_rng(5)
TURN = np.array([[0.99, -0.02, 2.0], [0.02, 0.99, -1.0], [1e-5, 0, 1]])


class Case(NamedTuple):
    """A function with its arrays by name, the shape and type of `out`, and how to call it."""

    arrays: dict[str, np.ndarray]
    shape: tuple[int, ...]
    dtype: Any
    call: Callable[..., Any]
    backends: tuple[str, ...] = ("native", "numpy")


def homographies() -> np.ndarray:
    H = np.tile(np.eye(3), (9, 1, 1))
    H[:, :2, 2] = RNG.normal(0, 0.1, (9, 2))
    return H


def step(dtype: str) -> Case:
    draw = {name: RNG.normal(size=(6, 50)).astype("f4") for name in ("x", "eps", "eps_uncond", "noise")}
    if dtype == "bfloat16":
        arrays: dict[str, Any] = {name: (a.view(np.uint32) >> 16).astype(np.uint16) for name, a in draw.items()}
    else:
        arrays = {name: a.astype(dtype) for name, a in draw.items()}
    arrays["seeds"] = np.arange(6, dtype=np.uint64)
    arrays["coef"] = np.tile([0.9, 0.3, 0.2], (6, 1))

    def call(out: Any, backend: str, **given: Any) -> Any:
        if dtype == "bfloat16":
            ml = pytest.importorskip("ml_dtypes")
            given = {k: v.view(ml.bfloat16) if v.dtype == np.uint16 else v for k, v in given.items()}
            out = None if out is None else out.view(ml.bfloat16)
        return D.apply_step(guidance_scale=2.0, out=out, backend=backend, **given)

    kind = np.uint16 if dtype == "bfloat16" else np.dtype(dtype)
    return Case(arrays, (6, 50), kind, call)


def quick_step(dtype: str) -> Case:
    """The arguments that compiled code takes without looking at them in Python."""
    arrays = {name: RNG.normal(size=(6, 50)).astype(dtype) for name in ("x", "eps", "eps_uncond")}

    def call(out: Any, backend: str, **given: Any) -> Any:
        assert backend == "native"
        return D.apply_step(coef=(0.9, 0.3, 0.2), guidance_scale=2.0, out=out, **given)

    return Case(arrays, (6, 50), np.dtype(dtype), call, ("native",))


def draws() -> Case:
    def call(out: Any, backend: str, seeds: Any) -> Any:
        return D.normal((6, 50), seeds, out=out, backend=backend)

    return Case({"seeds": np.arange(6, dtype=np.uint64)}, (6, 50), np.float32, call)


def backward(dtype: str) -> Case:
    logits = RNG.normal(size=(8, 33)).astype(dtype)
    ids = RNG.integers(0, 33, 8)
    stats = rft.token_stats(logits, ids)
    arrays = {
        "logits": logits, "ids": ids, "grad_logp": RNG.normal(size=8).astype("f4"),
        "grad_entropy": RNG.normal(size=8).astype("f4"), "mask": np.ones(8, np.uint8),
        **{name: getattr(stats, name) for name in ("entropy", "largest", "log_sum")},
    }  # fmt: skip

    def call(out: Any, backend: str, entropy: Any, largest: Any, log_sum: Any, **given: Any) -> Any:
        parts = rft.TokenStats(stats.logp, entropy, stats.sum_p2, stats.lse, largest, log_sum)
        return rft.token_stats_backward(stats=parts, out=out, backend=backend, **given)

    return Case(arrays, (8, 33), np.dtype(dtype), call)


def advantages(which: int) -> Case:
    """One of the two outputs over an input; the other has memory of its own."""
    arrays = {name: RNG.normal(size=(6, 50)) for name in ("rewards", "values")}
    arrays |= {"mask": RNG.random((6, 50)) > 0.2, "bootstrap": RNG.normal(size=6)}

    def call(out: Any, backend: str, **given: Any) -> Any:
        pair = [np.empty((6, 50)), np.empty((6, 50))]
        if out is not None:
            pair[which] = out
        assert rft.gae(out=(pair[0], pair[1]), backend=backend, **given)[which] is pair[which]
        return pair[which]

    return Case(arrays, (6, 50), np.float64, call)


def picture(shape: tuple[int, ...], dtype: Any) -> Case:
    frame = RNG.integers(0, 200, shape).astype(dtype)

    def call(out: Any, backend: str, frame: Any, correction: Any) -> Any:
        return video.warp(frame, correction, out=out, backend=backend)

    return Case({"frame": frame, "correction": TURN}, shape, dtype, call, ("native", "opencv"))


def chroma() -> Case:
    """Planes, where each plane of the output may lie over each plane of the frame."""
    arrays = {name: RNG.integers(0, 200, (24, 32)).astype(np.uint8) for name in ("y", "u", "v")}

    def call(out: Any, backend: str, y: Any, u: Any, v: Any) -> Any:
        own = [np.empty((24, 32), np.uint8) for _ in range(3)]
        planes = None if out is None else video.Planes(own[0], out, own[2])
        return video.warp(video.Planes(y, u, v), TURN, out=planes, backend=backend).u

    return Case(arrays, (24, 32), np.uint8, call, ("native", "opencv"))


def pair() -> Case:
    arrays = {name: RNG.integers(0, 200, (60, 96)).astype(np.uint8) for name in ("left", "right")}
    drawn = []

    def call(out: Any, backend: str, left: Any, right: Any) -> Any:
        assert backend == "native"
        pytest.importorskip("cv2")
        drawn[:] = drawn or [video.Comparison((96, 60))]
        target = video.Planes(np.zeros((60, 192), np.uint8) if out is None else out)
        return drawn[0].draw(video.Planes(left), video.Planes(right), target).y

    return Case(arrays, (60, 192), np.uint8, call, ("native",))


def logarithm(out: Any, backend: str, homography: Any) -> Any:
    return camera.log_homography(homography, out=out, backend=backend)


def exponential(out: Any, backend: str, log: Any) -> Any:
    return camera.exp_homography(log, out=out, backend=backend)


CASES: dict[str, list[Case]] = {
    "camera.log_homography": [Case({"homography": homographies()}, (9, 3, 3), np.float64, logarithm)],
    "camera.exp_homography": [
        Case({"log": camera.log_homography(homographies())}, (9, 3, 3), np.float64, exponential)
    ],
    "diffusion.apply_step": [
        *(step(kind) for kind in ("float32", "float64", "float16", "bfloat16")),
        *(quick_step(kind) for kind in ("float32", "float64")),
    ],
    "diffusion.normal": [draws()],
    "rft.gae": [advantages(0), advantages(1)],
    "rft.token_stats_backward": [backward(kind) for kind in ("float32", "float16")],
    "video.warp": [picture((40, 56), np.uint8), picture((40, 56), np.uint16), picture((40, 56, 3), np.uint8), chroma()],
    "video.Comparison.draw": [pair()],
}  # fmt: skip


def with_out() -> Iterator[str]:
    """Every public function and method that has an ``out``."""
    for family in FAMILIES:
        module = importlib.import_module(f"legato.{family}")
        for name in module.__all__:
            thing = getattr(module, name)
            parts = {name: thing}
            if inspect.isclass(thing):
                parts = {f"{name}.{k}": getattr(thing, k) for k in vars(thing) if not k.startswith("_")}
            for place, function in parts.items():
                if inspect.isroutine(function) and "out" in inspect.signature(function).parameters:
                    yield f"{family}.{place}"


def test_every_output_is_tried() -> None:
    assert set(with_out()) - INPUTS == set(CASES), (
        "a function with out= goes through the door of _arrays, and into CASES"
    )


def over(array: np.ndarray, shape: tuple[int, ...], dtype: Any, shift: int) -> tuple[np.ndarray, np.ndarray]:
    """Put an array into a buffer, and an output `shift` bytes after it over the same memory."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    room = 64 * (1 + (abs(shift) + 63) // 64)
    memory = np.zeros(2 * room + max(size, array.nbytes), np.uint8)
    inside = memory[room : room + array.nbytes].view(array.dtype).reshape(array.shape)
    inside[...] = array
    return inside, memory[room + shift : room + shift + size].view(dtype).reshape(shape)


@pytest.mark.parametrize(
    ("name", "at", "backend"),
    [
        (name, at, backend)
        for name, cases in CASES.items()
        for at, case in enumerate(cases)
        for backend in case.backends
    ],
)
def test_outputs_over_inputs(name: str, at: int, backend: str) -> None:
    case = CASES[name][at]
    if backend == "opencv":
        pytest.importorskip("cv2")
    want = np.array(case.call(None, backend, **case.arrays))
    item = np.dtype(case.dtype).itemsize
    row = item * case.shape[-1]
    refusals = set()
    for which, array in case.arrays.items():
        for shift in (0, item, -item, row, -row, 3 * row, -3 * row):
            arrays = {key: a.copy() for key, a in case.arrays.items()}
            arrays[which], out = over(array, case.shape, case.dtype, shift)
            if not np.shares_memory(arrays[which], out):
                continue
            try:
                got = case.call(out, backend, **arrays)
            except ArgumentError as error:
                refusals.add(str(error).partition(":")[0])
                continue
            np.testing.assert_array_equal(np.asarray(got), want, err_msg=f"{which} {shift}")
            np.testing.assert_array_equal(out.view(want.dtype), want, err_msg=f"{which} {shift}")
    assert refusals <= ({"out", "out.u"} if name.startswith("video") else set())  # elsewhere the input is copied


@pytest.mark.parametrize("shift", [0, 1, -1, 50])
def test_outputs_of_torch_over_inputs(shift: int) -> None:
    torch = pytest.importorskip("torch")
    x, eps = RNG.normal(size=(2, 6, 50)).astype("f4")
    want = D.apply_step(x, eps, (0.9, 0.3, 0.0))
    inside, out = over(x, x.shape, x.dtype, 4 * shift)
    tensor = torch.from_numpy(out)
    assert D.apply_step(torch.from_numpy(inside), torch.from_numpy(eps), (0.9, 0.3, 0.0), out=tensor) is tensor
    np.testing.assert_array_equal(tensor.numpy(), want)


def test_planes_of_an_output_over_one_another() -> None:
    planes = video.Planes(*RNG.integers(0, 200, (3, 24, 32)).astype(np.uint8))
    memory = np.empty((30, 32), np.uint8)
    out = video.Planes(memory[:24], memory[6:], np.empty((24, 32), np.uint8))
    with pytest.raises(ArgumentError, match=r"out\.u: expected memory of its own"):
        video.warp(planes, TURN, out=out)
    with pytest.raises(ArgumentError, match="out: expected memory for each sample"):
        video.warp(memory, TURN, out=np.lib.stride_tricks.as_strided(np.empty(32, np.uint8), (30, 32), (0, 1)))


def test_two_outputs_over_one_another() -> None:
    x, memory = RNG.normal(size=(2, 3, 5)), np.empty((2, 3, 5))
    found = rft.gae(*x, out=(memory[0], memory[1]))
    assert found[0].base is memory
    np.testing.assert_array_equal(memory, rft.gae(*x))
    with pytest.raises(ArgumentError, match="out: expected two arrays apart"):
        rft.gae(*x, out=(memory[0], memory[0]))
    with pytest.raises(ArgumentError, match=r"out\[1\]: expected a writable C-contiguous float64"):
        rft.gae(*x, out=(memory[0], memory[1, :2]))
    with pytest.raises(ArgumentError, match="out: expected two arrays, for advantages and returns"):
        rft.gae(*x, out=memory[0, 0, 0])


def test_interleaved_halves_share_nothing() -> None:
    """Fields of an interlaced picture lie within one another's bounds, and are two pictures all the same."""
    both = RNG.integers(0, 200, (48, 40)).astype(np.uint8)
    want = video.warp(both[::2].copy(), TURN)
    assert np.array_equal(video.warp(both[::2], TURN, out=both[1::2]), want)


@pytest.mark.parametrize("bad", [[[0.0] * 50] * 6, memoryview(bytearray(1200)), "out", 3])
def test_outputs_that_are_no_arrays(bad: Any) -> None:
    x = np.zeros((6, 50))
    with pytest.raises(ArgumentError, match="out: expected a writable"):
        D.apply_step(x, x, (1.0, 0.0, 0.0), out=bad)


def test_outputs_in_gpu_memory_over_inputs(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: Any) -> None:
    import fake_cupy

    gpu = fake_cupy.install(monkeypatch, tmp_path_factory.mktemp("gpu"))
    x, eps = RNG.normal(size=(2, 6, 50)).astype("f4")
    want = D.apply_step(x, eps, (0.9, 0.3, 0.0))
    for shift in (0, 4, -4, 200):
        inside, out = (a.view(gpu.ndarray) for a in over(x, x.shape, x.dtype, shift))
        got = D.apply_step(inside, gpu.asarray(eps), (0.9, 0.3, 0.0), out=out)
        np.testing.assert_array_equal(np.asarray(got), want, err_msg=str(shift))
