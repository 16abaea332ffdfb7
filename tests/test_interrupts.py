"""Ctrl-C during compiled runs, threads that are in one when Python ends, and subinterpreters.

`python tests/test_interrupts.py` prints how long after the signal each run ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

PATH = "F = np.tile(np.eye(3), (20000, 1, 1)); F[1:, :2, 2] = np.random.default_rng(0).normal(scale=4, size=(19999, 2))"
SLOW = "camera.PathOptions(tolerance=1e-9)"
# What is made first, and the run: each takes seconds on an idle processor.
RUNS = {
    "normal": ("from legato import diffusion as D", "D.normal((1 << 14, 1 << 15), 3, dtype='float16')"),
    "denoise": (
        "from legato import diffusion as D\ndata = np.random.default_rng(0).normal(size=(30000, 64))\n"
        "model = D.EmpiricalDenoiser(data)\nx = np.zeros((50000, 64))",
        "model.denoise(x, 0.7, 0.7, threads=2)",
    ),
    "sample": (
        "from legato import diffusion as D\nmodel = D.GaussianMixture([1 / 64] * 64, np.zeros((64, 2)), [0.1] * 64)",
        "D.sample(model, (400000, 2), D.Schedule.vp_cosine(1000), seeds=7)",
    ),
    "smooth_path": (f"from legato import camera\n{PATH}", f"camera.smooth_path(F, size=(1280, 720), options={SLOW})"),
    "formula": (
        "from legato import rasp\nk = np.random.default_rng(0).integers(0, 9, 300000); q = k[::-1].copy()\n"
        "three = rasp.select(k, k, rasp.lt) & rasp.select(q, k, rasp.lt) & rasp.select(k, q, rasp.lt)",
        "rasp.sel_width(three)",
    ),
    "dominance": (
        "from legato import rasp\nk, q = np.random.default_rng(0).integers(0, 1 << 40, (2, 4000000))\n"
        "two = rasp.select(k, q, rasp.lt) & rasp.select(q, k, rasp.lt)",
        "rasp.sel_width(two)",
    ),
}


def interrupted(name: str) -> tuple[float, subprocess.CompletedProcess[str]]:
    """Start a run, interrupt it after 0.3 s, and give the seconds until the first word of its end."""
    setup, run = RUNS[name]
    code = f"import numpy as np\n{setup}\nprint('ready', flush=True)\n{run}\nprint('done', flush=True)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(6) == b"ready\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        sent = time.monotonic()
        first = os.read(process.stderr.fileno(), 1 << 16)
        seconds = time.monotonic() - sent
        out, rest = process.communicate(timeout=100)
    return seconds, subprocess.CompletedProcess([], process.returncode, out.decode(), (first + rest).decode())


@pytest.mark.parametrize("name", RUNS)
def test_ctrl_c_ends_a_compiled_run(name: str) -> None:
    _, ended = interrupted(name)
    assert ended.stderr.rstrip().endswith("KeyboardInterrupt")
    assert "done" not in ended.stdout


def test_a_handler_that_does_not_raise_lets_the_run_go_on() -> None:
    code = """
import signal
from legato import diffusion as D
heard = []
signal.signal(signal.SIGALRM, lambda *_: heard.append(D.normal((2, 3), 1)))
want = D.normal((1 << 11, 1 << 14), 3, dtype="float16", threads=2)
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
got = D.normal((1 << 11, 1 << 14), 3, dtype="float16")
signal.setitimer(signal.ITIMER_REAL, 0)
assert heard and (got == want).all()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_python_ends_while_threads_are_in_kernels() -> None:
    code = """
import threading, time
from legato import diffusion as D
def busy():
    while True:
        D.normal((64, 20000), 3)
for _ in range(3):
    threading.Thread(target=busy, daemon=True).start()
time.sleep(0.3)
print("ended")
"""
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")


def test_subinterpreters_are_refused() -> None:
    code = '''
import legato
try:
    import _xxsubinterpreters as interpreters
except ImportError:
    import _interpreters as interpreters
other = interpreters.create()
try:
    print(interpreters.run_string(other, """
import contextlib
with contextlib.suppress(RuntimeError):  # an editable install would build, which needs a process
    import legato
import legato.camera
"""))
except Exception as error:
    print(error)
'''
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert (
        "legato cannot be imported in a subinterpreter" in done.stdout or "does not support loading in" in done.stdout
    )


def main() -> None:
    """Print how long after the signal each run ended."""
    for name in RUNS:
        seconds, ended = interrupted(name)
        print(f"{name}: {seconds:.3f} s, exit code {ended.returncode}")


if __name__ == "__main__":
    main()
