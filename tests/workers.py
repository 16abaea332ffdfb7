"""Numbered cases judged in processes of their own, so that a crash is found and not suffered.

A worker prints ``number<TAB>outcome`` for each of its cases, in order; an outcome that begins with "wrong" is a fault.
A worker that dies or is silent for too long is replaced, and the case it was at is answered for it.
"""

from __future__ import annotations

import os
import re
import resource
import select
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence

__all__ = ["answers", "in_bounded_memory", "sanitized"]

_ADDRESS_SPACE = 6 << 30
# The lines of a sanitizer, of faulthandler or of the interpreter that say what happened.
_TELLING = re.compile(
    r"^(.*ERROR: \w+Sanitizer.*|.*runtime error:.*|WARNING: ThreadSanitizer.*|Fatal Python error.*)$", re.M
)
_OURS = re.compile(r"^ +#\d+ .*?((?:legato::|legato/_core|/cpp/(?:src|python|include|c)/).*)$", re.M)
# Sanitizers answer `new` of too much memory by ending the process, where the library would raise MemoryError.
_MEMORY = re.compile(r"AddressSanitizer: (?:out of memory|allocator is|requested allocation size|specified RSS limit)")


def sanitized() -> bool:
    """Whether this process runs under a sanitizer, whose shadow takes more addresses than a limit would leave."""
    return re.search(r"lib[at]san", os.environ.get("LD_PRELOAD", "")) is not None


def in_bounded_memory() -> None:
    """Make this process refuse more memory than a machine has; under a sanitizer ASAN_OPTIONS do."""
    if not sanitized():
        resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))


def answers(
    command: Callable[[int, int], Sequence[str]],
    first: int,
    count: int,
    *,
    limit_s: float,
    environment: dict[str, str] | None = None,
) -> Iterator[tuple[int, str]]:
    """The outcome of each case from `first` on, by workers that ``command(first, count)`` starts.

    Leaks in which compiled code of Legato had a part are told under the last number.
    """
    options = ":".join(filter(None, (os.environ.get("ASAN_OPTIONS"), "detect_leaks=1")))
    # Leaks are looked for where a worker ends well, whatever its exit code: Python's own are many, and no fault.
    own = {**os.environ, "ASAN_OPTIONS": options, **(environment or {})}
    last = first + count
    while first < last:
        with (
            tempfile.TemporaryFile("w+", errors="replace") as errors,
            subprocess.Popen(
                command(first, last - first), stdout=subprocess.PIPE, stderr=errors, bufsize=0, env=own
            ) as process,
        ):
            assert process.stdout is not None
            pending = b""
            while True:
                ready, _, _ = select.select([process.stdout], [], [], limit_s)
                piece = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
                if not piece:
                    break
                *lines, pending = (pending + piece).split(b"\n")
                for line in lines:
                    number, _, outcome = line.decode(errors="replace").partition("\t")
                    assert int(number) == first, f"case {number} answered, {first} expected"
                    yield first, outcome
                    first += 1
            if not ready:
                process.kill()
            code = process.wait()
            errors.seek(0)
            told = errors.read()
        if first < last:
            yield first, _fate(told, code, hung=not ready, limit_s=limit_s)
            first += 1
        else:
            for block in told.split("\n\n"):
                if "leak of" in block and _OURS.search(block):
                    yield last - 1, f"wrong: leak\n{block.strip()}"


def _fate(told: str, code: int, *, hung: bool, limit_s: float) -> str:
    """What became of a worker that did not answer."""
    if hung:
        return f"wrong: hung (silent for {limit_s:g} s)"
    if _MEMORY.search(told):
        return "refused: MemoryError"
    telling = _TELLING.search(told)
    where = _OURS.search(told)
    line = telling.group(1).strip() if telling else " ".join(told.split())[-300:]
    line = re.sub(r"0x[0-9a-f]+|==\d+==", "", line)
    return f"wrong: crashed with {code}: {line}{' in ' + where.group(1) if where else ''}\n{told[-6000:]}"
