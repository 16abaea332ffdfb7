"""How far the work is, for a person or for the caller's own function."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from legato.errors import DependencyError

__all__ = ["Progress", "told"]

Progress: TypeAlias = Callable[[str, int, int | None], None]
"""Takes the stage, the frames done and the frames in all (None: not known)."""

_TITLES = {"track": "reading the motion", "refine": "looking again", "render": "rendering"}


@contextlib.contextmanager
def told(asked: bool | Progress) -> Iterator[Progress]:
    """Give the function to call with each step: the caller's own, a bar on stderr, or one that does nothing."""
    if callable(asked):
        yield asked
        return
    if not asked:
        yield lambda _stage, _done, _total: None
        return
    try:
        rich = importlib.import_module("rich.progress")
        console = importlib.import_module("rich.console").Console(stderr=True)
    except ImportError as error:
        raise DependencyError('progress: rich is needed here: pip install "legato[video]"') from error
    bar = rich.Progress(
        rich.TextColumn("{task.description:>18}"),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TextColumn("{task.fields[fps]:>4.0f} fps"),
        rich.TimeRemainingColumn(),
        console=console,
    )
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
