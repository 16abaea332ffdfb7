"""How far the work is, for a person or for the caller's own function."""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from legato._extras import install_command
from legato.errors import DependencyError

__all__ = ["Progress", "told", "told_of_many"]

Progress: TypeAlias = Callable[[str, int, int | None], None]
"""Takes the stage, the frames done and the frames in all (None: not known)."""

_TITLES = {
    "draw": "drawing the clip",
    "track": "reading the motion",
    "refine": "looking again",
    "check": "checking",
    "render": "rendering",
    "measure": "measuring",
}


_READING = 0.4  # of the work on a video, about


@contextlib.contextmanager
def told(asked: bool | Progress) -> Iterator[Progress]:
    """Give the function to call with each step: the caller's own, a bar on stderr, or one that does nothing."""
    if callable(asked):
        yield asked
        return
    if not asked:
        yield lambda _stage, _done, _total: None
        return
    rich = _rich()
    bar = _bar(rich, rich.TextColumn("{task.description:>18}"), rich.BarColumn(), rich.MofNCompleteColumn())
    tasks: dict[str, Any] = {}

    def show(stage: str, done: int, total: int | None) -> None:
        if stage not in tasks:
            title = _TITLES.get(stage, stage)
            tasks[stage] = bar.add_task(title, total=total, fps=0.0)
        task = bar.tasks[tasks[stage]]
        fps = done / task.elapsed if task.elapsed else 0.0
        bar.update(tasks[stage], completed=done, total=max(done, total or 0) or None, fps=fps)

    with bar:
        yield show


@contextlib.contextmanager
def told_of_many(asked: bool, count: int) -> Iterator[Callable[[int], Progress]]:
    """Give the function that gives the function to call with each step of one of many videos.

    One bar for all of them, from any thread; a stage "end" says that a video is over.
    """
    if not asked:
        yield lambda _which: lambda _stage, _done, _total: None
        return
    rich = _rich()
    bar = _bar(rich, rich.BarColumn(), rich.TextColumn("{task.fields[over]} of {task.total:.0f} videos"))
    task = bar.add_task("", total=count, fps=0.0, over=0)
    parts = [0.0] * count  # how much of each video is done, and of how many of its frames that speaks
    frames = [0.0] * count
    lock = threading.Lock()

    def of(which: int) -> Progress:
        def show(stage: str, done: int, total: int | None) -> None:
            with lock:
                if stage == "end":
                    parts[which] = 1.0
                else:
                    part = done / max(done, total or 0, 1)
                    parts[which] = _READING * part if stage == "track" else _READING + (0.999 - _READING) * part
                    frames[which] = parts[which] * max(done, total or 0)
                elapsed = bar.tasks[task].elapsed
                fps = sum(frames) / elapsed if elapsed else 0.0
                bar.update(task, completed=sum(parts), fps=fps, over=sum(part == 1 for part in parts))

        return show

    with bar:
        yield of


def _rich() -> Any:
    try:
        return importlib.import_module("rich.progress")
    except ImportError as error:
        raise DependencyError(f"progress: rich is needed here: {install_command('video')}") from error


def _bar(rich: Any, *columns: Any) -> Any:
    """Make a bar on stderr that ends with frames a second and the time left."""
    console = importlib.import_module("rich.console").Console(stderr=True)
    # What is printed meanwhile goes above the bar if it goes to the terminal, and where it should if not.
    return rich.Progress(
        *columns,
        rich.TextColumn("{task.fields[fps]:>4.0f} fps"),
        rich.TimeRemainingColumn(),
        console=console,
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
    )
