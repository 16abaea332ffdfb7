"""Engines of others: whatever takes calls by ``submit``, as threads, processes, loky, Dask's client do."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from typing import Any, Protocol

from legato._scalars import shown
from legato.errors import ArgumentError

__all__ = ["Submits", "submitted"]


class Submits(Protocol):
    """What is asked of an executor: ``submit(function, *arguments)`` gives an object with ``result()``."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Any:
        """Run a call, somewhere."""


def submitted(executor: Submits, function: Callable[..., Any], *columns: Iterable[Any]) -> Generator[Any, None, None]:
    """Submit a call for each row of arguments; yield the tasks in order. Who stops early cancels what has not begun."""
    if not callable(getattr(executor, "submit", None)):
        raise ArgumentError(f"executor: expected an object with submit(function, *arguments), got {shown(executor)}")
    tasks: list[Any] = []
    try:
        tasks += [executor.submit(function, *row) for row in zip(*columns, strict=True)]
        yield from tasks
    except BaseException:
        for task in tasks:
            with suppress(Exception):  # a task that has no cancel, or no engine any more
                task.cancel()
        raise
