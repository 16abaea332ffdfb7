"""One object, several threads; `python tests/test_threads.py --seconds 60` goes on longer, as under ThreadSanitizer."""

from __future__ import annotations

import argparse
import itertools
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from legato import _core, camera, diffusion, rasp, rft, video

Operation = Callable[[], Any]
SIZE = (160, 120)


def share(operations: list[Operation], calls: int, seconds: float = 0.0) -> None:
    """Run each operation in a thread of its own; what any of them raises is raised here."""
    began, failures = time.monotonic(), list[BaseException]()

    def loop(operation: Operation) -> None:
        done = 0
        try:
            while not failures and (done < calls or time.monotonic() - began < seconds):
                operation()
                done += 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=loop, args=(operation,)) for operation in operations]
    pause = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(pause)
    if failures:
        raise failures[0]


def pictures() -> list[Any]:
    base = (np.random.default_rng(0).random((160, 200)) * 255).astype(np.uint8)
    return [np.ascontiguousarray(base[d : d + SIZE[1], d : d + SIZE[0]]) for d in range(0, 30, 3)]


def steps(count: int = 7) -> Any:
    F = np.tile(np.eye(3), (count, 1, 1))
    F[:, :2, 2] = np.random.default_rng(0).normal(size=(count, 2)) * 3
    return F


def small_calls() -> dict[str, Callable[[int], Any]]:
    """Calls of every family that a second thread would only make longer, given the number of threads."""
    rng = np.random.default_rng(0)
    mixture = diffusion.GaussianMixture(np.ones(3), rng.normal(size=(3, 2)), np.ones(3))
    points, levels = rng.normal(size=(640, 2)), diffusion.Schedule.vp_linear(20)
    cloud = diffusion.EmpiricalDenoiser(rng.normal(size=(64, 2)))
    x, eps = diffusion.normal((4, 16384), 1), diffusion.normal((4, 16384), 2)
    logits, rows = rng.normal(size=(24, 30000)).astype(np.float32), rng.integers(0, 9, (50, 64))
    picture = (rng.random((240, 320)) * 255).astype(np.uint8)
    return {
        "normal": lambda threads: diffusion.normal(x.shape, 5, threads=threads),
        "step": lambda threads: diffusion.apply_step(x, eps, (0.5, 0.25, 1.0), threads=threads),
        "sums": lambda threads: diffusion.guidance_sums(x, eps, threads=threads),
        "chains": lambda threads: diffusion.sample(mixture, (640, 2), levels, "ddpm", threads=threads),
        "mixture": lambda threads: mixture.score(points, 1.0, 0.5, threads=threads),
        "cloud": lambda threads: cloud.denoise(points, 1.0, 0.5, threads=threads),
        "homographies": lambda threads: camera.log_homography(steps(2000), threads=threads),
        "warp": lambda threads: video.warp(picture, steps(2)[1], threads=threads),
        "tokens": lambda threads: rft.token_stats(logits, np.arange(24), threads=threads).logp,
        "conjunction": lambda threads: rasp.kqv(rows, rows, rows, rasp.equals, threads=threads),
    }


@pytest.mark.parametrize("name", list(small_calls()))
def test_small_work_starts_no_thread_and_threads_change_no_bit(name: str) -> None:
    """Two threads are no slower than one where the second would cost more than it does: by count, not by time."""
    call = small_calls()[name]
    alone = call(1)
    try:
        _core.set_work_of_helper(300e3)  # what it is outside the tests
        before = _core.helpers_started()
        np.testing.assert_array_equal(call(8), alone)
        assert _core.helpers_started() == before
    finally:
        _core.set_work_of_helper(0)
    np.testing.assert_array_equal(call(3), alone)
    assert _core.helpers_started() > before


def finite(x: Any) -> None:
    assert np.isfinite(x).all()


def path_stream(backend: str) -> list[Operation]:
    stream = camera.PathStream((640, 360), window=30, stride=5, backend=backend)
    F = steps()
    return [*[lambda: finite(stream.push(F))] * 3, lambda: finite(stream.finish()), lambda: stream.pending_frames]


def live_path() -> list[Operation]:
    path = camera.LivePath((640, 360), latency_frames=5)
    step = steps(1)[0]
    return [*[lambda: finite(path.push(step))] * 3, lambda: finite(path.finish())]


def tracker() -> list[Operation]:
    shared, frames = video.Tracker(SIZE), [*pictures(), np.zeros(SIZE[::-1], np.uint8)]

    order = itertools.cycle(frames)

    def push() -> None:
        motion = shared.push(next(order))
        if motion is not None:
            finite(motion.homography)
            finite(motion.points)
            assert motion.inliers <= len(motion.points)

    return [push, push, push, shared.reset]


def stabilizer() -> list[Operation]:
    shared = video.Stabilizer(SIZE, 30, latency_frames=3)
    frames = pictures()
    return [*[lambda f=frame: shared.push(f) for frame in frames[:3]], shared.flush]


def program() -> list[Operation]:
    shared = rasp.Program(lambda t: rasp.num_prev(t, t))
    X = np.random.default_rng(0).integers(0, 9, (4, 50))
    want, generated = shared.batch(X), shared.generate([1, 2, 3], max_new=10)

    def same() -> None:
        assert (shared.batch(X) == want).all()

    def generate() -> None:
        assert shared.generate([1, 2, 3], max_new=10) == generated

    return [same, generate, lambda: shared.step(3), shared.reset]


def interpreter() -> list[Operation]:
    pytest.importorskip("lark")
    shared = rasp.Interpreter()

    def sort() -> None:
        assert shared.evaluate("sort(tokens, tokens)", "hello") == list("ehllo")

    return [sort, sort, lambda: shared.run("z = indices * 2;"), lambda: shared.analyze("sort(tokens, tokens)")]


def tracing() -> list[Operation]:
    """Programs made in several threads: which library function a node belongs to is the thread's own."""

    def trace() -> None:
        made = rasp.Program(lambda t: rasp.cumsum(t == 7) + t)
        assert {node.scope[0] for node in made.nodes if node.scope is not None} == {"cumsum"}

    def trace_other() -> None:
        made = rasp.Program(lambda t: rasp.num_prev(t, t) + t)
        assert "cumsum" not in {node.scope[0] for node in made.nodes if node.scope is not None}

    return [trace, trace, trace_other]


def denoiser() -> list[Operation]:
    rng = np.random.default_rng(0)
    data, labels, x = rng.normal(size=(200, 3)), np.arange(200) % 4, rng.normal(size=(5, 3))
    want = [diffusion.EmpiricalDenoiser(data, labels).denoise(x, 0.8, 0.6, label=k) for k in range(4)]
    shared = [diffusion.EmpiricalDenoiser(data, labels)]

    def same() -> None:
        for k in range(4):
            assert (shared[0].denoise(x, 0.8, 0.6, label=k) == want[k]).all()

    def renew() -> None:
        shared[0] = diffusion.EmpiricalDenoiser(data, labels)

    return [same, same, same, renew]


def scan() -> list[Operation]:
    """Rollouts are counted once each, whoever brings them; two scans that take each other's do not wait for ever."""
    pytest.importorskip("pyarrow")
    shared, other = rft.Scan(value_range=(0, 1)), rft.Scan(value_range=(0, 1))
    names = itertools.count()
    other.update({"uid": [0, 0], "reward": [0.0, 1.0]})

    def count(scan: rft.Scan) -> None:
        first = next(names) * 3
        scan.update({"uid": [first, first + 1, first + 2] * 8, "reward": [0.0, 1.0, 0.5] * 8})

    def judge() -> None:
        report = other.report()
        assert report.n.sum() == report.overall["rollouts"]

    return [lambda: count(shared), lambda: count(other), judge, lambda: (shared.merge(other), None)[1]]


def name_table() -> list[Operation]:
    pa = pytest.importorskip("pyarrow")
    from legato.rft.prompts import NameTable

    shared, rounds = NameTable(), itertools.count()

    def number() -> None:
        start = next(rounds) * 50
        names = pa.array([f"prompt {i}" for i in range(start, start + 100)])
        assert shared.to_list(shared.number(names)) == names.to_pylist()

    return [number] * 3


def kernels() -> list[Operation]:
    """Functions keep no state: the same inputs may be read by all, and the answer is the same."""
    rng = np.random.default_rng(0)
    logits, ids = rng.normal(size=(40, 900)).astype(np.float32), rng.integers(0, 900, 40)
    keys, F, frame = rng.integers(0, 9, 3000), steps(40), pictures()[0]
    tilt = np.array([[0.9, 0.1, 0.0], [-0.1, 0.9, 9.0], [0.0, 0.0, 1.0]])
    runs: list[Operation] = [
        lambda: diffusion.normal((50, 4000), 3, threads=2),
        lambda: rft.token_stats(logits, ids, threads=2).logp,
        lambda: rasp.sel_width(rasp.select(keys, keys, rasp.lt)),
        lambda: camera.smooth_path(F, size=(640, 360)).corrections,
        lambda: camera.contain(F, (640, 360)),
        lambda: video.warp(frame, tilt, threads=2),
    ]
    wanted = [run() for run in runs]

    def same() -> None:
        for run, want in zip(runs, wanted, strict=True):
            assert (run() == want).all()

    return [same] * 3


KINDS: dict[str, tuple[Callable[[], list[Operation]], int]] = {
    "path stream": (lambda: path_stream("native"), 400),
    "path stream in NumPy": (lambda: path_stream("numpy"), 4),
    "live path": (live_path, 60),
    "tracker": (tracker, 100),
    "stabilizer": (stabilizer, 20),
    "program": (program, 50),
    "interpreter": (interpreter, 20),
    "tracing": (tracing, 50),
    "denoiser": (denoiser, 100),
    "scan": (scan, 10),
    "name table": (name_table, 200),
    "kernels": (kernels, 10),
}


@pytest.mark.parametrize("kind", KINDS)
def test_shared(kind: str) -> None:
    make, calls = KINDS[kind]
    share(make(), calls)


def test_a_copy_has_a_lock_of_its_own() -> None:
    import copy
    import pickle

    denoise = diffusion.EmpiricalDenoiser([[0.0], [1.0]], [0, 1])
    for other in (copy.deepcopy(denoise), pickle.loads(pickle.dumps(denoise))):
        with denoise._turns:
            worker = threading.Thread(target=other.given, args=(0,))
            worker.start()
            worker.join(30)
            assert not worker.is_alive()


def main() -> None:
    """Share objects of each kind, for so many seconds in all."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kind", choices=list(KINDS), action="append")
    asked = parser.parse_args()
    kinds = asked.kind or list(KINDS)
    for kind in kinds:
        make, _ = KINDS[kind]
        share(make(), 1, asked.seconds / len(kinds))
        print(f"{kind}: no error")


if __name__ == "__main__":
    main()
