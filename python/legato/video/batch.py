"""Many videos: names of the results, several at the same time, and going on where an earlier run stopped."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from legato._executors import Submits, submitted
from legato._files import PathLike, check_destinations, checked_path
from legato._printing import printable
from legato._scalars import as_count
from legato.errors import ArgumentError, LegatoError, OutputError, SideFileError
from legato.video.media.copying import CONTAINERS
from legato.video.options import Beside
from legato.video.progress import Progress, told_of_many
from legato.video.results.report import StabilizeReport
from legato.video.stabilizing import stabilize

__all__ = ["Item", "result_paths", "stabilize_all"]


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """What became of one video of many.

    Attributes
    ----------
    source, destination : Path
        The files.
    status : {"done", "skipped", "failed"}
        Skipped: the result was there already.
    error : Exception or None
        Why it failed.
    report : StabilizeReport or None
        What was done; also where the result is complete, and the failure is that of a file beside it.
    """

    source: Path
    destination: Path
    status: Literal["done", "skipped", "failed"]
    error: Exception | None = None
    report: StabilizeReport | None = None

    def content(self) -> dict[str, Any]:
        """Give what can be written as JSON."""
        return {
            "source": os.fspath(self.source),
            "destination": os.fspath(self.destination),
            "status": self.status,
            "error": None if self.error is None else self.error_text,
            "report": None if self.report is None else json.loads(self.report.to_json()),
        }

    @property
    def error_text(self) -> str:
        """The error in one line; empty where there is none."""
        if self.error is None:
            return ""
        text = printable(" ".join(str(self.error).split())) or type(self.error).__name__
        return text if isinstance(self.error, LegatoError) else f"unexpected {type(self.error).__name__}: {text}"


def result_paths(
    sources: Sequence[PathLike], folder: PathLike | None = None, suffix: str | None = None, extension: str | None = None
) -> list[Path]:
    """Name the results of many videos.

    Parameters
    ----------
    sources : sequence of str or path
        The videos.
    folder : str or path, optional
        Where the results go; made if absent. By default each goes beside its source.
    suffix : str, optional
        Added to each name: by default "_stabilized" without a folder and nothing with one.
    extension : str, optional
        Such as ".mkv" or "mkv"; by default that of the source, or .mp4 where nothing can be written under that.

    Returns
    -------
    list of Path

    Raises
    ------
    ArgumentError
        If two results would have one name, or a name is that of a source.
    OutputError
        If the folder cannot be made.

    See Also
    --------
    stabilize_all : Stabilize many videos; one that fails does not stop the others.

    Examples
    --------
    >>> from legato import video
    >>> [path.name for path in video.result_paths(["a.mp4", "b.mov"])]
    ['a_stabilized.mp4', 'b_stabilized.mov']
    """
    if suffix is None:
        suffix = "_stabilized" if folder is None else ""
    results: dict[str, Path] = {}
    taken = {os.path.realpath(source): source for source in sources}
    for given in sources:
        source = Path(given)
        kind = extension or (source.suffix if source.suffix.lower() in CONTAINERS else ".mp4")
        kind = kind if kind.startswith(".") else f".{kind}"
        result = (source.parent if folder is None else Path(folder)) / f"{source.stem}{suffix}{kind}"
        key = os.path.realpath(result)
        if key == os.path.realpath(source):
            what = "suffix: expected some text" if folder is None else "output-folder: expected another, or a suffix"
            raise ArgumentError(f"{what}: {result} would be written over itself")
        if key in taken:
            raise ArgumentError(f"sources: {taken[key]} would be written over by the result of {source}")
        if key in results:
            raise ArgumentError(f"output-folder: two results would be named {result}")
        results[key] = result
    if folder is not None:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder}: cannot be made ({error.strerror})") from error
    return list(results.values())


def _check_names(sources: Sequence[PathLike], destinations: Sequence[PathLike], options: dict[str, Any]) -> None:
    """Refuse that a file which belongs to one result is written over that of another, or over a source."""
    written: dict[str, Path | None] = {}
    for given in destinations:
        destination = checked_path("destinations", given)
        if f"destination {destination}" in written:
            raise ArgumentError(f"destinations: {destination} is there twice")
        written[f"destination {destination}"] = destination
        for name, path in Beside.of(options).files(destination).items():
            written[f"{name} of {destination}"] = path
    check_destinations({f"input {source}": source for source in sources}, written)


class _Stopped(BaseException):
    """The work is to end: raised in the threads that do it."""


def stabilize_all(
    sources: Sequence[PathLike],
    destinations: Sequence[PathLike],
    *,
    jobs: int = 1,
    executor: Submits | None = None,
    resume: bool = False,
    tell: Callable[[Item], None] | None = None,
    progress: bool = False,
    **options: Any,
) -> list[Item]:
    """Stabilize many videos; one that fails does not stop the others.

    Parameters
    ----------
    sources, destinations : sequences of str or path
        What to read, and under which names to write (see `result_paths`).
    jobs : int
        Videos at the same time. One alone uses several cores already; more pay off where there are many cores.
    executor : object with ``submit``, optional
        What runs the videos instead of threads of this process: a `concurrent.futures` executor, loky's, Dask's client.
        Its workers must see the files under the same absolute paths. A worker that dies leaves no part of a file; its
        video has failed, unless the engine tries again as Dask does.
    resume : bool
        Leave out a video whose result exists and is not older than it. Since results appear complete or not at all,
        it is finished.
    tell : callable, optional
        Called with each item when it is finished, by one thread at a time.
    progress : bool
        Show a bar on stderr.
    **options
        Those of `legato.video.stabilize`.

    Returns
    -------
    list of Item
        In the order of the sources.

    Raises
    ------
    ArgumentError
        If no video was done because of wrong arguments, or these are not as described.

    See Also
    --------
    stabilize : Turn a shaky video into a steady one; keep its sound, timestamps, rotation and colour tags.
    result_paths : Name the results of many videos.

    Examples
    --------
    >>> from legato import video
    >>> truth = video.synthesize("shaky.mp4", size=(160, 120), frames=6)
    >>> sources = ["shaky.mp4", "missing.mp4"]
    >>> items = video.stabilize_all(sources, video.result_paths(sources, "steady"))
    >>> [item.error is None for item in items]
    [True, False]
    """
    jobs = as_count("jobs", jobs)
    if len(sources) != len(destinations):
        raise ArgumentError(f"destinations: expected {len(sources)}, as many as sources; got {len(destinations)}")
    _check_names(sources, destinations, options)
    if executor is not None:
        if jobs != 1:
            raise ArgumentError("jobs: expected none beside an executor, which has workers of its own")
        return _unless_all_are_wrong(_elsewhere(executor, sources, destinations, resume, options, tell, progress))
    stop, telling = threading.Event(), threading.Lock()

    def work(source: PathLike, destination: PathLike, show: Progress) -> Item:
        item = Item(Path(source), Path(destination), "skipped")
        if stop.is_set():
            return item

        def watch(stage: str, done: int, total: int | None) -> None:
            if stop.is_set():
                raise _Stopped
            show(stage, done, total)

        try:
            item = _one(source, destination, resume, options, watch)
        except _Stopped:
            return item
        show("end", 0, None)
        if tell is not None:
            with telling:
                try:
                    tell(item)
                except BaseException:
                    stop.set()
                    raise
        return item

    with (
        told_of_many(progress, len(sources)) as of,
        concurrent.futures.ThreadPoolExecutor(jobs, thread_name_prefix="legato-job") as pool,
    ):
        try:
            items = list(pool.map(work, sources, destinations, map(of, range(len(sources)))))
        except BaseException:  # the threads see it at their next frame, and clean up
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return _unless_all_are_wrong(items)


def _one(
    source: PathLike, destination: PathLike, resume: bool, options: dict[str, Any], progress: bool | Progress = False
) -> Item:
    """Stabilize a video, in whatever process."""
    item = Item(Path(source), Path(destination), "skipped")
    if resume and _finished(item.source, item.destination):
        return item
    try:
        return dataclasses.replace(
            item, status="done", report=stabilize(source, destination, progress=progress, **options)
        )
    except _Stopped:
        raise
    except SideFileError as error:
        return dataclasses.replace(item, status="failed", error=error, report=error.report)
    except Exception as error:  # of whatever kind: the other videos do not depend on it
        return dataclasses.replace(item, status="failed", error=error)


def _elsewhere(
    executor: Submits,
    sources: Sequence[PathLike],
    destinations: Sequence[PathLike],
    resume: bool,
    options: dict[str, Any],
    tell: Callable[[Item], None] | None,
    progress: bool,
) -> list[Item]:
    """Stabilize the videos by tasks of an executor; a bar moves when a video is finished."""
    rows = [
        (Path(source).absolute(), Path(destination).absolute(), resume, options)
        for source, destination in zip(sources, destinations, strict=True)
    ]
    items = []
    with told_of_many(progress, len(rows)) as of, closing(submitted(executor, _one, *zip(*rows, strict=True))) as tasks:
        shows = [of(number) for number in range(len(rows))]
        for number, task in enumerate(tasks):
            own = Item(Path(sources[number]), Path(destinations[number]), "failed")
            try:
                found = task.result()
                own = dataclasses.replace(own, status=found.status, error=found.error, report=found.report)
            except Exception as error:  # of the engine: a worker that is gone, options that do not pickle
                own = dataclasses.replace(own, error=error)
            shows[number]("end", 0, None)
            if tell is not None:
                tell(own)
            items.append(own)
    return items


def _unless_all_are_wrong(items: list[Item]) -> list[Item]:
    """Return the items, or raise where every video failed because of wrong arguments."""
    wrong = [item.error for item in items if isinstance(item.error, ArgumentError)]
    if wrong and len(wrong) == sum(item.status != "skipped" for item in items):
        raise wrong[0]
    return items


def _finished(source: Path, destination: Path) -> bool:
    try:
        return destination.stat().st_mtime_ns >= source.stat().st_mtime_ns
    except OSError:
        return False
