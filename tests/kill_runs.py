"""Killed and starved runs of every command that writes: `python tests/kill_runs.py --kills 500 --first 0`.

A process is sent INT, TERM or KILL, sometimes twice, at a random time of its work: half of them anywhere, half near its
end, where files get their names. Afterwards every output is as it was before or whole, no other file is left, and what
the user has there, inputs and files named like temporary ones, is untouched. Then the same with a disk that is full at
each of the outputs in turn. Prints what came of it; exit code 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from clips import shaky, write_clip
from legato import cli, rasp, video

_TIMEOUT_S = 60.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
_HELD = (signal.SIGINT, signal.SIGTERM)
_ENDED = {0, 1, 130, 143, -signal.SIGINT, -signal.SIGTERM, -signal.SIGKILL}
_OLDER = b"older"
# What the user may have beside an output: named as temporary files are, here or elsewhere.
_LOOKALIKES = ("{}.unfinished", ".legato-mine{}", ".{}.part", "{}.tmp")


@dataclass(frozen=True)
class Kind:
    """A command, or a function that writes; what it reads, and what it writes."""

    arguments: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    run: Callable[[tuple[str, ...]], None] | None = None


def _command(arguments: tuple[str, ...]) -> None:
    sys.argv = ["legato", *arguments]
    cli.command()


def _save(_: tuple[str, ...]) -> None:
    """Save a program, its weights and its drawing over and over: one takes too short to be hit."""
    program = rasp.Program(lambda x: x + rasp.indices(x))
    weights = rasp.compile(program, range(4), 6)
    for _ in range(60):
        program.save("program.json")
        program.draw("drawing.svg", engine="rows")
        weights.save("weights.safetensors")


def whole(path: Path, expected: bytes) -> bool:
    """Whether an output is whole, by what an undisturbed run made of it; some tell how long or how far it went."""
    content = path.read_bytes()
    if path.suffix in (".mp4", ".mkv"):
        with video.VideoReader(path) as reader:
            return sum(1 for _ in reader) > 0 and reader.damaged_frames == reader.skipped_packets == 0
    if path.name.endswith(("r.json", "_report.json")):
        return set(json.loads(content)) == set(json.loads(expected))
    if path.suffix == ".safetensors":  # in any order
        import numpy as np
        import safetensors.numpy

        arrays, others = safetensors.numpy.load(content), safetensors.numpy.load(expected)
        return all(np.array_equal(arrays[name], others[name]) for name in others)
    return content == expected


_FAST = ("--quiet", "--encoder-preset", "ultrafast")
KINDS = {
    "stabilize": Kind(
        ("stabilize", "in.mp4", "out.mp4", "--report", "r.json", "--plot", "p.svg", "--save-motion", "m.jsonl", *_FAST),
        ("in.mp4",),
        ("out.mp4", "r.json", "p.svg", "m.jsonl"),
    ),
    "batch": Kind(
        ("stabilize", "in.mp4", "in2.mp4", "--suffix", "_s", "--report", "--jobs", "2", *_FAST),
        ("in.mp4", "in2.mp4"),
        ("in_s.mp4", "in2_s.mp4", "in_s_report.json", "in2_s_report.json"),
    ),
    "live": Kind(
        ("live", "--input", "in.mp4", "--output", "out.mkv", "--report", "r.json", *_FAST),
        ("in.mp4",),
        ("out.mkv", "r.json"),
    ),
    "scan": Kind(
        ("rft", "scan", "in.jsonl", "--format", "json", "--out", "s.json", "--html", "s.html", "--quiet"),
        ("in.jsonl",),
        ("s.json", "s.html"),
    ),
    "rank": Kind(
        ("rft", "rank", "in.jsonl", "--budget", "50%", "--out", "r.txt", "--quiet"), ("in.jsonl",), ("r.txt",)
    ),
    "diffusion": Kind(
        ("diffusion", "reproduce", "equivalence", "--json", "t.json", "--plot", "t.png"), (), ("t.json", "t.png")
    ),
    "rasp": Kind((), (), ("program.json", "drawing.svg", "weights.safetensors"), run=_save),
}


def make_inputs(folder: Path) -> None:
    """Write what the commands read."""
    write_clip(folder / "in.mp4", shaky(40, (192, 128)), sound="aac")
    write_clip(folder / "in2.mp4", shaky(25, (160, 96)))
    rng = random.Random(0)
    with (folder / "in.jsonl").open("w") as file:
        for prompt in range(4000):
            for _ in range(4):
                file.write(json.dumps({"prompt": f"p{prompt}", "reward": float(rng.random() < prompt / 4000)}) + "\n")


class Bench:
    """One command in a folder of its own, run again and again."""

    def __init__(self, name: str, inputs: Path, scratch: Path) -> None:
        self.kind = KINDS[name]
        self._inputs, self._folder = inputs, scratch / name
        self._log = scratch / f"{name}.log"
        self._prepare(older=())
        began_s = time.monotonic()
        code = self._wait(self._start())
        self.seconds = time.monotonic() - began_s
        assert code == 0, f"{name}: {self._log.read_text()}"
        self.expected = {output: (self._folder / output).read_bytes() for output in self.kind.outputs}

    def _prepare(self, older: Iterable[str]) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        for name in self.kind.inputs:
            shutil.copy(self._inputs / name, self._folder)
        for name in older:
            (self._folder / name).write_bytes(_OLDER)
        for form in _LOOKALIKES:
            (self._folder / form.format(self.kind.outputs[0])).write_text("of the user")
        self._before = {path.name: path.read_bytes() for path in self._folder.iterdir()}

    def _start(self, most_bytes: int | None = None) -> int:
        # A child that hears a signal before its work has begun would unwind this process's own frames.
        signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
        process = os.fork()  # what is imported need not be imported again
        if process == 0:
            self._work(most_bytes)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
        return process

    def _work(self, most_bytes: int | None) -> NoReturn:
        os.chdir(self._folder)
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(log, stream)
        if most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
            (self.kind.run or _command)(self.kind.arguments)
        except KeyboardInterrupt:
            os._exit(130)
        except BaseException as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)

    def _wait(self, process: int) -> int | None:
        """Give the exit code, or None and an end to a process that hangs."""
        until_s = time.monotonic() + _TIMEOUT_S
        while time.monotonic() < until_s:
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        return None

    def killed(self, seed: int) -> str:
        """Kill one run; the outcome, beginning with "wrong" if it should not be."""
        rng = random.Random(seed)
        self._prepare(older=[name for name in self.kind.outputs if rng.random() < 0.5])
        number = rng.choice(_SIGNALS)
        delay_s = self.seconds * (rng.uniform(0, 1) if rng.random() < 0.5 else rng.uniform(0.7, 1.05))
        again_s = rng.uniform(0, 0.03) if rng.random() < 0.3 else None
        process = self._start()
        time.sleep(delay_s)
        for pause_s in (0.0, again_s):
            if pause_s is not None:
                time.sleep(pause_s)
                os.kill(process, number)  # not reaped yet, so the number is nobody else's
        code = self._wait(process)
        if code not in _ENDED:
            return f"wrong: {number.name}: {'hangs' if code is None else f'ended with {code}'}"
        return self._judged(number.name)

    def starved(self, name: str) -> str:
        """Let the disk be full just before the end of an output."""
        outcomes = set()
        for older in ((), self.kind.outputs):
            self._prepare(older)
            code = self._wait(self._start(max(0, len(self.expected[name]) - 1)))
            told = self._log.read_text()
            if code != 1 or "cannot be written" not in told or not any(o in told for o in self.kind.outputs):
                return f"wrong: full disk at {name}: ended with {code}: {told[-300:]}"
            outcomes.add(self._judged("full disk"))
        return max(outcomes)  # "wrong" comes last

    def _judged(self, what: str) -> str:
        new, left = 0, []
        for path in sorted(self._folder.iterdir()):
            content = path.read_bytes()
            if self._before.get(path.name) == content:
                continue
            if path.name in self.kind.outputs:
                new += 1
                try:
                    torn = "" if whole(path, self.expected[path.name]) else "other content"
                except Exception as error:
                    torn = str(error)
                if torn:
                    return f"wrong: {what}: {path.name} is torn ({torn})"
            elif path.name in self._before:
                return f"wrong: {what}: {path.name} of the user was changed"
            else:
                left.append(path.name)
        missing = self._before.keys() - {path.name for path in self._folder.iterdir()}
        if missing:
            return f"wrong: {what}: {sorted(missing)} of the user is gone"
        if left:
            # A file is replaced by a whole one under a hidden name: killed between the two system calls, it stays.
            moment = what == "SIGKILL" and len(left) == 1 and left[0].startswith(".legato-")
            return f"{what}: in the moment of replacing" if moment else f"wrong: {what}: left {left}"
        return f"{what}: {new} of {len(self.kind.outputs)} whole, the rest as before"


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="in all, over the commands in turn")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--no-full-disk", action="store_true")
    parser.add_argument("--verbose", action="store_true", help="tell the outcome of every run")
    arguments = parser.parse_args()
    outcomes: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)

    def count(name: str, outcome: str, seed: int | None = None) -> None:
        outcomes[name][outcome] += 1
        if arguments.verbose or outcome.startswith("wrong"):
            print(f"{name}{'' if seed is None else f', seed {seed}'}: {outcome}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder) / "inputs"
        inputs.mkdir()
        make_inputs(inputs)
        benches = {name: Bench(name, inputs, Path(folder)) for name in arguments.only}
        for seed in range(arguments.first, arguments.first + arguments.kills):
            name = arguments.only[seed % len(arguments.only)]
            count(name, benches[name].killed(seed), seed)
        for name, bench in {} if arguments.no_full_disk else benches.items():
            for output in bench.kind.outputs:
                count(name, bench.starved(output))
    for name, found in outcomes.items():
        print(f"{name}: {found.total()} runs")
        for outcome, times in sorted(found.items()):
            print(f"  {times:4} {outcome}")
    return int(any(outcome.startswith("wrong") for found in outcomes.values() for outcome in found))


if __name__ == "__main__":
    sys.exit(main())
