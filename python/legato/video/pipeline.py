"""Stages that run beside each other: bounded queues between threads, and the time that each stage was busy.

Decoder, kernels and encoder release the interpreter while they work, so threads are enough. A stage that is ahead
waits for the others: at most `DEPTH` items lie between two stages, or as many as are asked for, however long the video
is.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

__all__ = ["DEPTH", "Consumer", "Producer", "Stopwatch", "room_for_pictures"]

T = TypeVar("T")

# Enough to even out key frames and a busy neighbor; pictures are large.
DEPTH = 6
_END: Any = object()
# Reading a thread's clock lets Linux see whether another's turn has come, and a stage loses its processor in the middle
# of a picture. So all of its first blocks are read, and then one in so many.
_READ_ALL, _READ_EVERY = 32, 8
_UNKNOWN_MEMORY = 2 << 30
# Of decoded pictures that wait to be drawn, and one part in so many of the memory that is free.
_MOST_KEPT_BYTES = 2 << 30
_KEPT_SHARE = 4
_promised: list[int] = []
_promising = threading.Lock()


class _Stage(Generic[T]):
    """A thread and the queue beside it."""

    def __init__(self, name: str, depth: int = DEPTH) -> None:
        self._queue: queue.Queue[T] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"legato-{name}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # told to the other side, where it is raised
            self._error = error

    def _work(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        """End the thread without finishing its work, and wait for it."""
        self._stopped.set()
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()  # makes room for a `put` that waits
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(_END)  # ends a `get` that waits
        interruption: BaseException | None = None
        while self._thread.is_alive():  # whatever comes in between: the thread works on what is to be closed next
            try:
                self._thread.join()
            except BaseException as error:
                interruption = error
        if interruption is not None:
            raise interruption

    def __enter__(self) -> Self:
        return self


class Producer(_Stage[T]):
    """Iterate over something in a thread of its own, a few items ahead of who takes them.

    Use in a ``with`` block: leaving it ends the thread, also in the middle.

    Parameters
    ----------
    items : iterable
        What to go through.
    name : str
        Of the thread.
    """

    def __init__(self, items: Iterable[T], name: str) -> None:
        self._items = items
        super().__init__(name)

    def _work(self) -> None:
        try:
            for item in self._items:
                if self._stopped.is_set():
                    return
                self._queue.put(item)
        finally:
            if not self._stopped.is_set():
                self._queue.put(_END)

    def __iter__(self) -> Iterator[T]:
        while (item := self._queue.get()) is not _END:
            yield item
        self._thread.join()
        if self._error is not None:
            raise self._error

    def __exit__(self, *_: object) -> None:
        self.stop()


class Consumer(_Stage[T]):
    """Call a function with item after item in a thread of its own.

    Use in a ``with`` block: its end waits until the last item is done. After an error, here or in the thread, what
    still waits is dropped, and the thread's error is raised by the next call or by the end of the block.

    Parameters
    ----------
    function : callable
        Takes one item.
    name : str
        Of the thread.
    depth : int
        Items that may wait.
    """

    def __init__(self, function: Callable[[T], None], name: str, depth: int = DEPTH) -> None:
        self._function = function
        super().__init__(name, depth)

    def _work(self) -> None:
        try:
            while (item := self._queue.get()) is not _END:
                self._function(item)
        except BaseException:
            self._stopped.set()
            raise

    def __call__(self, item: T) -> None:
        """Hand over the next item; waits while too many lie there."""
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            return
        self._raise()

    def _raise(self) -> None:
        self._thread.join()
        if self._error is not None:
            raise self._error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self(_END)
                self._raise()
        finally:
            self.stop()  # also where waiting was interrupted: nobody may write to what is about to be closed


class _Tally:
    """What was counted of a stage."""

    __slots__ = ("blocks", "read_seconds", "read_work", "seconds")

    def __init__(self) -> None:
        self.blocks = 0
        self.seconds = self.read_seconds = self.read_work = 0.0

    @property
    def work(self) -> float:
        return self.read_work * self.seconds / self.read_seconds if self.read_seconds else 0.0


class _Timed:
    """A block whose time is counted. A class, since several are entered for each picture and a generator costs more."""

    __slots__ = ("_begin", "_tally", "_worked")

    def __init__(self, tally: _Tally) -> None:
        self._tally = tally

    def __enter__(self) -> None:
        blocks = self._tally.blocks
        self._worked = time.thread_time() if blocks < _READ_ALL or blocks % _READ_EVERY == 0 else None
        self._begin = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        tally, seconds = self._tally, time.perf_counter() - self._begin
        tally.blocks += 1
        tally.seconds += seconds
        if self._worked is not None:
            tally.read_seconds += seconds
            tally.read_work += time.thread_time() - self._worked


class Stopwatch:
    """Time of each stage."""

    def __init__(self) -> None:
        self._tallies: dict[str, _Tally] = {}
        self._begin = time.perf_counter()
        self._worked_before = time.process_time()

    def __call__(self, stage: str) -> _Timed:
        """Count the time of a ``with`` block; a stage is timed by one thread at a time."""
        tally = self._tallies.get(stage)
        if tally is None:
            tally = self._tallies[stage] = _Tally()
        return _Timed(tally)

    @property
    def seconds(self) -> dict[str, float]:
        """By the clock while a stage was at work, waiting for a processor included.

        Stages that overlap add up to more than the whole.
        """
        return {stage: tally.seconds for stage, tally in self._tallies.items()}

    @property
    def work(self) -> dict[str, float]:
        """Of a processor, used by the stage's own thread: without the threads that decoders and encoders have besides.

        Measured in the first blocks of a stage and in some of the later ones, and told for all.
        """
        return {stage: tally.work for stage, tally in self._tallies.items()}

    def shares(self) -> dict[str, float]:
        """Give each stage's part of the processor time of all; what no stage's own thread used are "other threads"."""
        work = self.work
        work["other threads"] = max(time.process_time() - self._worked_before - sum(work.values()), 0.0)
        whole = sum(work.values()) or 1.0
        return {stage: used / whole for stage, used in work.items()}

    def steps(self, items: Iterable[T], stage: str) -> Iterator[T]:
        """Go through something that makes its items on demand, and count the time that it takes for them."""
        iterator = iter(items)
        while True:
            with self(stage):
                item = next(iterator, _END)
            if item is _END:
                return
            yield item

    @property
    def total(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._begin


@contextlib.contextmanager
def room_for_pictures() -> Iterator[int]:
    """Give the bytes of pictures that a run may keep; what runs beside it were given does not count as free."""
    with _promising:
        room = max(min(_MOST_KEPT_BYTES, (_free_memory() - sum(_promised)) // _KEPT_SHARE), 0)
        _promised.append(room)
    try:
        yield room
    finally:
        with _promising:
            _promised.remove(room)


def _free_memory() -> int:
    """Bytes that this process may still take without harm to others; a guess of 2 GiB where the system does not say."""
    free = _UNKNOWN_MEMORY
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) << 10
    with contextlib.suppress(OSError, ValueError):  # of a container; "max" is no number
        most = int(Path("/sys/fs/cgroup/memory.max").read_text())
        free = min(free, most - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    return max(free, 0)
