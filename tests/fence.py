"""Every kernel on arrays that end, or begin, at an unreadable page: `python tests/fence.py --calls 10000 --seed 0`.

Shapes, pitches, types and options are drawn at random, with a liking for the ends of packs of lanes; a read or a write
one byte outside of an array ends the process. Each call is made on every instruction set that this processor has
(``--isa`` for one), and the bits of all answers must agree, but for what the page of a kernel excepts. A call that
refuses what was drawn (an empty array, a path that does not exist) must do so with an error of `legato.errors`.

A call is made from its seed, family and number alone, so the line printed for a fault runs that call again. Exit code 1
if anything was wrong. Under sanitizers: `.ci/run sanitized`.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import faulthandler
import hashlib
import mmap
import os
import random
import sys
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

import legato
import workers
from legato import camera, diffusion, rasp, rft, video
from legato.errors import LegatoError

Array = np.ndarray[Any, Any]

_LIMIT_S = 60.0  # of silence, for a call
_LANES = (0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33)  # lengths about the packs of every instruction set

_PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def _fence(size: int, front: bool) -> ctypes.Array[ctypes.c_char]:
    """`size` bytes that begin (or end) at a page which may not be touched; unmapped when nothing refers to them."""
    inside = -(-size // _PAGE) * _PAGE
    whole = inside + 2 * _PAGE
    base = _libc.mmap(None, whole, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    if base in (None, ctypes.c_void_p(-1).value):
        raise MemoryError(os.strerror(ctypes.get_errno()))
    for page in (base, base + _PAGE + inside):
        if _libc.mprotect(page, _PAGE, 0) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")
    memory = (ctypes.c_char * size).from_address(base + _PAGE + (0 if front else inside - size))
    weakref.finalize(memory, _libc.munmap, base, whole)
    return memory


class Draw:
    """What one call draws, from its own seed."""

    def __init__(self, key: str) -> None:
        self._random = random.Random(key)
        self.numbers = np.random.default_rng(self._random.getrandbits(64))

    def one(self, *choices: Any) -> Any:
        return self._random.choice(choices)

    def whole(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def often(self, chance: float) -> bool:
        return self._random.random() < chance

    def fenced(self, values: Any, pitch: int = 0) -> Array:
        """A copy of an array against a fence, its rows `pitch` numbers apart from each other."""
        values = np.asarray(values)
        strides = None
        size = values.nbytes
        if pitch and values.ndim >= 2 and size:
            row = values.nbytes // len(values)
            stride = row + pitch * values.itemsize
            size = stride * (len(values) - 1) + row
            strides = (stride, *np.empty(values.shape[1:], values.dtype).strides)
        memory = _fence(max(size, 1), front=self.often(0.4))
        array: Array = np.ndarray(values.shape, values.dtype, memory if size else None, 0, strides)
        array[...] = values
        return array

    def normal(self, *shape: int, dtype: str = "f8") -> Array:
        return self.fenced(self.numbers.normal(size=shape).astype(dtype))

    def motion(self, count: int) -> Array:
        """Homographies near the identity."""
        H = np.tile(np.eye(3), (count, 1, 1))
        H[:, :2, 2] = self.numbers.normal(scale=self.one(0.1, 3, 50), size=(count, 2))
        H[:, :2, :2] += self.numbers.normal(scale=0.01, size=(count, 2, 2))
        H[:, 2, :2] = self.numbers.normal(scale=1e-5, size=(count, 2))
        return H

    def picture(self, width: int, height: int, *channels: int, depth: int = 8) -> Array:
        """Noise, or clouds."""
        values = self.numbers.random((height, width, *channels))
        if self.often(0.3):
            values = np.clip(np.cumsum(np.cumsum(values - 0.5, 0), 1) / 10 + 0.5, 0, 1)
        return (values * ((1 << depth) - 1)).astype(np.uint8 if depth == 8 else np.uint16)


# ---- the calls


def logarithms(draw: Draw) -> list[Any]:
    H = draw.fenced(draw.motion(draw.one(*_LANES, 100)))
    threads = draw.one(1, 2, 3)
    log = camera.log_homography(H, out=draw.fenced(np.zeros_like(H)), threads=threads)
    return [log, camera.exp_homography(draw.fenced(log), out=draw.fenced(np.zeros_like(H)), threads=threads)]


def paths(draw: Draw) -> list[Any]:
    n, window = draw.one(1, 2, 3, 4, 5, 6, 8, 13, 31, 40), draw.one(None, None, 5, 8, 12)
    subject: dict[str, Any] = {}
    if draw.often(0.4):
        points = draw.numbers.random((n, draw.one(1, 2, 3, 5), 2)) * 60
        subject.update(salient=draw.fenced(points), salient_weight=draw.one(None, 1.0))
    if draw.often(0.3):
        subject.update(targets=draw.fenced(draw.numbers.random((n, 2)) * 60), target_weight=1.0)
    if draw.often(0.3):
        subject.update(frame_weight=draw.fenced(draw.numbers.random(n) + 0.1))
    if window is not None and n > window:
        subject.update(window=window, stride=4)
    options = None
    if draw.often(0.6):
        options = camera.PathOptions(
            crop=draw.one(0.05, 0.2, 0.4),
            acceleration=draw.one(0.0, 5.0),
            model=draw.one("homography", "affine", "similarity", "translation"),
        )
    path = camera.smooth_path(draw.fenced(draw.motion(n)), (64, 48), options, **subject)
    return [path.corrections, camera.contain(draw.fenced(path.corrections), (64, 48), options)]


def streams(draw: Draw) -> list[Any]:
    stream = camera.PathStream((64, 48), window=draw.one(5, 8, 16), stride=4)
    pushed = [
        stream.push(draw.fenced(draw.motion(draw.whole(1, 9))), cut=draw.often(0.2)) for _ in range(draw.whole(1, 6))
    ]
    return [*pushed, stream.finish()]


def warps(draw: Draw) -> Any:
    size, drawn = (draw.whole(1, 80), draw.whole(1, 60)), (draw.whole(1, 80), draw.whole(1, 60))
    M = draw.motion(1)[0]
    if draw.often(0.2):
        M = np.diag([draw.one(0.1, 10, -1, 0.001), draw.one(0.1, 10, -1), 1.0])
        M[:2, 2] = draw.numbers.normal(scale=100, size=2)
    elif draw.often(0.12):
        M[2] = draw.numbers.normal(size=3) * (0.1, 0.1, 1.0)
    elif draw.often(0.07):
        M = np.eye(3)
    kind = draw.one("gray", "deep gray", "color", "420", "422", "444", "deep 420")
    deep = kind.startswith("deep")
    depth = draw.one(9, 10, 12, 16) if deep else 8
    location = draw.one("left", "center")

    def plane(width: int, height: int, *channels: int, empty: bool) -> Array:
        values = draw.picture(width, height, *channels, depth=depth)
        return draw.fenced(values * (not empty), pitch=draw.one(0, 0, 1, 3, 7))

    def picture(width: int, height: int, empty: bool = False) -> Any:
        if kind == "color":
            return plane(width, height, 3, empty=empty)
        luma = plane(width, height, empty=empty)
        if kind == "gray":
            return luma
        if kind == "deep gray":
            return video.Planes(luma, bit_depth=depth)
        x, y = {"420": (2, 2), "422": (2, 1), "444": (1, 1)}[kind.removeprefix("deep ")]
        chroma = [plane(-(-width // x), -(-height // y), empty=empty) for _ in range(2)]
        return video.Planes(luma, *chroma, bit_depth=depth, chroma_location=location)

    frame = picture(*size)
    out = picture(*drawn, empty=True) if draw.often(0.75) else None
    interpolation = draw.one("bilinear", "bicubic", "lanczos")
    return video.warp(frame, M, drawn, interpolation=interpolation, out=out, threads=draw.one(1, 2))


def tracks(draw: Draw) -> list[Any]:
    small, large = (draw.whole(1, 200), draw.whole(1, 150)), (draw.whole(300, 700), draw.whole(200, 400))
    width, height = draw.one(small, large, (64, 48))
    depth = draw.one(8, 8, 8, 10, 12, 16)
    mask = None
    if draw.often(0.3):
        mask = draw.fenced((draw.numbers.random((height, width)) < draw.one(0.5, 0.99)).astype(np.uint8))
    model = draw.one("homography", "affine", "similarity", "translation")
    tracker = video.Tracker((width, height), model, mask=mask, bit_depth=depth)
    scene = draw.picture(width + 12, height + 12, depth=depth)
    found: list[Any] = []
    for _ in range(draw.whole(2, 4)):
        x, y = draw.whole(0, 12), draw.whole(0, 12)
        motion = tracker.push(draw.fenced(scene[y : y + height, x : x + width], pitch=draw.one(0, 0, 3)))
        if motion is not None:
            found += [motion.homography, np.asarray(motion.points), motion.corner_covariance]
    return found


def steps(draw: Draw) -> list[Any]:
    shape = draw.one(0, 1, 2, 5), draw.one(*_LANES, 4, 5, 64, 65, 127, 1000)
    dtype = draw.one("f4", "f8", "f2")
    guided = draw.often(0.6)
    answer = diffusion.apply_step(
        draw.normal(*shape, dtype=dtype),
        draw.normal(*shape, dtype=dtype),
        (1.0, 0.3, 0.5) if draw.often(0.6) else draw.normal(shape[0], 3),
        draw.normal(*shape, dtype=dtype) if guided else None,
        2.0 if guided else 1.0,
        seeds=draw.fenced(np.arange(shape[0], dtype=np.uint64)) if draw.often(0.3) else 5,
        noise=draw.normal(*shape, dtype=dtype) if draw.often(0.2) else None,
        out=draw.fenced(np.zeros(shape, dtype)) if draw.often(0.7) else None,
        threads=draw.one(1, 2),
    )
    noise = diffusion.normal(
        shape,
        draw.one(0, 7),
        dtype=np.dtype(dtype).name,
        out=draw.fenced(np.zeros(shape, dtype)),
        generator=draw.one("threefry", "philox"),
    )
    if draw.often(0.5):
        return [answer, noise]
    return [answer, noise, diffusion.guidance_sums(*(draw.normal(*shape, dtype=dtype) for _ in range(3)))]


def models(draw: Draw) -> list[Any]:
    size, count, n = draw.one(1, 2, 3, 4, 5, 7, 8, 9, 16, 17), draw.one(1, 2, 3, 8, 9), draw.one(1, 2, 5, 8, 17)
    dtype = draw.one("f4", "f8")
    spread = draw.numbers.random(count) + 0.1
    if draw.often(0.5):
        spread = np.array([np.eye(size) * (0.5 + i) + 0.01 for i in range(count)])
    weights = draw.fenced(np.full(count, 1 / count))
    mixture = diffusion.GaussianMixture(weights, draw.normal(count, size), draw.fenced(spread))
    x = draw.normal(n, size, dtype=dtype)
    data = draw.normal(draw.one(*_LANES[1:], 65), size, dtype=dtype)
    empirical = diffusion.EmpiricalDenoiser(data)
    return [
        mixture.score(x, 0.8, 0.6),
        mixture.denoise(x, 0.8, 0.6),
        mixture.log_density(x, 0.8, 0.6, threads=draw.one(1, 2)),
        empirical.denoise(x, 0.8, 0.6, threads=draw.one(1, 2)),
        empirical.score(x, 0.8, 0.6),
        diffusion.sample(mixture, (n, size), diffusion.Schedule.vp_cosine(4), draw.one("ddim", "ddpm"), seeds=3),
    ]


def selections(draw: Draw) -> list[Any]:
    n, rows = draw.one(*_LANES, 64, 65, 255, 256, 257, 1000), draw.one(None, None, 1, 2, 3)
    shape = (n,) if rows is None else (rows, n)
    high = draw.one(2, 50, 10**9, 2**62)
    lengths = draw.fenced(draw.numbers.integers(0, n + 1, rows)) if rows and draw.often(0.6) else None
    causal, threads = draw.often(0.7), draw.one(1, 2, 3)

    def tokens(high: int = high) -> Array:
        return draw.fenced(draw.numbers.integers(-high if draw.often(0.5) else 0, high, shape))

    def selector() -> Any:
        predicates = (rasp.equals, rasp.leq, rasp.lt, rasp.gt, rasp.geq, rasp.neq, rasp.true, rasp.false)
        return rasp.select(tokens(), tokens(), draw.one(*predicates), causal, lengths=lengths)

    chosen = selector()
    for _ in range(draw.one(0, 0, 1, 2, 3)):
        other = selector()
        chosen = ~chosen if draw.often(0.2) else chosen | other if draw.often(0.25) else chosen & other
    values = tokens(min(high, 10**9))  # whose sums stay within 64 bits
    reduction, rounding = draw.one("mean", "max", "min"), draw.one("truncate", "floor")
    return [
        rasp.aggr(chosen, values, draw.one(0, -1), reduction, rounding=rounding, threads=threads),
        rasp.sel_width(chosen, threads=threads),
    ]


def tokens(draw: Draw) -> list[Any]:
    n, v = draw.one(0, 1, 2, 7, 16), draw.one(*_LANES[1:], 63, 64, 65, 1000, 4097)
    logits = draw.numbers.normal(scale=draw.one(1, 30), size=(n, v)).astype(np.float32)
    kind = draw.one("float32", "float16", "bfloat16")
    if kind == "bfloat16":
        logits = (logits.view(np.uint32) >> 16).astype(np.uint16)
    logits = draw.fenced(logits.astype(np.float16) if kind == "float16" else logits)
    ids = draw.fenced(draw.numbers.integers(0, v, n))
    mask = draw.fenced(draw.numbers.random(n) < 0.7) if draw.often(0.4) else None
    threads = draw.one(1, 2)
    stats = rft.token_stats(logits, ids, draw.one(1.0, 0.7), mask=mask, threads=threads)
    gradient = rft.token_stats_backward(
        logits,
        ids,
        stats,
        draw.fenced(np.ones(n, np.float32)),
        draw.fenced(np.ones(n, np.float32)) if draw.often(0.5) else None,
        mask=mask,
        out=draw.fenced(np.zeros_like(logits)) if draw.often(0.5) else None,
        threads=threads,
    )
    return [stats, gradient]


def advantages(draw: Draw) -> list[Any]:
    n = draw.one(1, 2, 7, 64, 1000)
    groups = np.unique(draw.numbers.integers(0, draw.one(1, 3, 50), n), return_inverse=True)[1].astype(np.int64)
    rows, columns, dtype = draw.one(0, 1, 2, 3, 5, 8), draw.one(0, 1, 2, 3, 8, 17), draw.one("f4", "f8")
    rewards, values, returns = (draw.normal(rows, columns, dtype=dtype) for _ in range(3))
    mask = draw.fenced(draw.numbers.random((rows, columns)) < 0.8)
    kind = draw.one("grpo", "dr_grpo", "rloo", "grpo_batch", "reinforce_plus_plus_baseline")
    return [
        rft.group_advantages(draw.fenced(draw.numbers.random(n)), draw.fenced(groups), kind),
        rft.group_stats(draw.fenced(draw.numbers.random(n)), draw.fenced(groups)),
        rft.gae(rewards, values, mask, 0.9, 0.95, draw.fenced(np.ones(rows, dtype))),
        rft.discounted_returns(returns, gamma=0.9),
    ]


FAMILIES: dict[str, tuple[Callable[[Draw], Any], ...]] = {
    "camera": (logarithms, paths, streams),
    "video": (warps, warps, warps, tracks),
    "diffusion": (steps, steps, models),
    "rasp": (selections,),
    "rft": (tokens, tokens, advantages),
}

# Without FMA the baseline's logits round products before they are added: docs/rft.md.
_FUSED = (tokens.__name__,)


# ---- running


def _digest(value: Any, into: Any) -> None:
    if isinstance(value, np.ndarray):
        into.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, float):
        into.update(repr(value).encode())
    elif isinstance(value, tuple | list):
        for item in value:
            _digest(item, into)
    elif is_dataclass(value):
        for field in fields(value):
            _digest(getattr(value, field.name), into)


def judged(call: Callable[[Draw], Any], key: str) -> str:
    """Make one call; the digest of its answer, or why it refused."""
    try:
        answer = call(Draw(key))
    except LegatoError as error:
        return f"{call.__name__} refused: {' '.join(str(error).split())}"
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(str(error).split())
        return f"wrong: {call.__name__}: {type(error).__name__}: {text} at {Path(at.filename).name}:{at.lineno}"
    digest = hashlib.sha256()
    _digest(answer, digest)
    return f"{call.__name__} answered {digest.hexdigest()[:16]}"


def work(family: str, seed: int, first: int, count: int) -> None:
    """Answer with a line for each call (in a process of its own)."""
    faulthandler.enable()
    warnings.simplefilter("ignore")
    for number in range(first, first + count):
        key = f"{seed} {family} {number}"
        call = random.Random(f"call {key}").choice(FAMILIES[family])
        print(f"{number}\t{judged(call, key)}", flush=True)


def run(family: str, calls: int, seed: int, isa: str, *, first: int = 0) -> Iterator[tuple[int, str]]:
    """The number and outcome of each call of a family on an instruction set, in a process that may crash."""

    def command(first: int, count: int) -> list[str]:
        return [sys.executable, __file__, "--worker", *reproduction(family, seed, first, count)]

    return workers.answers(command, first, calls, limit_s=_LIMIT_S, environment={"LEGATO_ISA": isa})


def compare(family: str, calls: int, seed: int, isas: list[str], *, first: int = 0) -> Iterator[tuple[int, str, str]]:
    """The number, instruction set and outcome of each call; one whose bits differ from the first set's is wrong."""
    expected: dict[tuple[int, bool], tuple[str, str]] = {}
    for isa in isas:
        for number, outcome in run(family, calls, seed, isa, first=first):
            apart = isa == "baseline" and outcome.startswith(_FUSED)
            other_isa, other = expected.setdefault((number, apart), (isa, outcome))
            same = other == outcome or outcome.startswith("wrong")
            yield number, isa, outcome if same else f"wrong: {outcome}, on {other_isa} {other}"


def reproduction(family: str, seed: int, first: int, count: int = 1) -> list[str]:
    """The options that make these calls again."""
    return ["--family", family, "--seed", str(seed), "--first", str(first), "--calls", str(count)]


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    isas: list[str] = legato.build_info()["isas"]
    parser.add_argument("--calls", type=int, default=1000, help="calls of each family on each instruction set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--family", choices=FAMILIES, help="one family only")
    parser.add_argument("--first", type=int, default=0, help="number of the first call")
    parser.add_argument("--isa", choices=isas, help="one instruction set only")
    parser.add_argument("--verbose", action="store_true", help="tell the outcome of every call")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        work(chosen.family, chosen.seed, chosen.first, chosen.calls)
        return 0
    wanted = [chosen.isa] if chosen.isa else list(isas)
    failed = False
    for family in [chosen.family] if chosen.family else FAMILIES:
        kinds: collections.Counter[str] = collections.Counter()
        for number, isa, outcome in compare(family, chosen.calls, chosen.seed, wanted, first=chosen.first):
            wrong = outcome.startswith("wrong")
            kinds["wrong" if wrong else outcome.split()[1].rstrip(":")] += 1
            if wrong or chosen.verbose:
                print(f"{family} {number} on {isa}: {outcome}", flush=True)
            if wrong:
                again = " ".join(reproduction(family, chosen.seed, number))
                print(f"    LEGATO_ISA={isa} python tests/fence.py {again}", flush=True)
        failed |= kinds["wrong"] > 0
        told = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
        print(f"{kinds.total()} calls of {family} on {', '.join(wanted)}: {told}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
