"""A folder that a trainer is writing to, followed file by file and line by line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from legato._files import PathLike, checked_path
from legato._scalars import shown
from legato._turns import Turns, one_at_a_time
from legato.errors import ArgumentError, InputError
from legato.rft.judging import Settings
from legato.rft.layouts import Columns
from legato.rft.readers import is_rollout_file, json_lines_part, step_of
from legato.rft.report import Report
from legato.rft.rollouts import NanRule, Rollouts

__all__ = ["Watch"]

_PATIENCE = 3  # looks at a file that stays as it is and cannot be read, before that is said


class Watch:
    """The rollouts of a folder, as they come.

    Parameters
    ----------
    folder : path
        It may not be there yet. Files of tables count once they can be read, and once each; lines of JSON as they are
        added.
    settings : Settings, optional
        How to judge.
    columns, nan
        As of `legato.rft.scan`.

    Attributes
    ----------
    trouble : list of str
        Files that stay unreadable.

    See Also
    --------
    scan : Say what share of groups has no gradient, and judge each prompt by the standard deviation of its rewards.
    legato.rft.callbacks : The same from within TRL's trainer.

    Examples
    --------
    >>> from pathlib import Path
    >>> from legato import rft
    >>> watch = rft.Watch("log")
    >>> watch.poll()
    False
    >>> Path("log").mkdir()
    >>> with Path("log/1.jsonl").open("w") as file:
    ...     print('{"prompt": "a", "reward": 0.5}', file=file)
    >>> watch.poll(), watch.report().mean.tolist()
    (True, [0.5])
    """

    def __init__(
        self,
        folder: PathLike,
        *,
        settings: Settings | None = None,
        columns: Columns | None = None,
        nan: NanRule = "error",
    ) -> None:
        if not (settings is None or isinstance(settings, Settings)):
            raise ArgumentError(f"settings: expected Settings, got {shown(settings)}")
        self._folder, self._settings = checked_path("folder", folder), settings or Settings()
        value_range = self._settings.value_range
        self._new = (Columns() if columns is None else columns, nan, *(() if value_range is None else (value_range,)))
        self._rollouts = Rollouts(*self._new)
        self._seen: dict[Path, tuple[int, int]] = {}  # size and time of the last look
        self._failures: dict[Path, int] = {}
        self._done: dict[Path, int] = {}  # bytes read, of files of lines
        self.trouble: list[str] = []
        self._turns = Turns()

    @one_at_a_time
    def poll(self) -> bool:
        """Read what is new; tell whether anything was.

        See Also
        --------
        Watch.report : Judge what has come so far.
        """
        before = self._rollouts.count
        files = self._folder.rglob("*") if self._folder.is_dir() else iter(())
        for path in sorted(p for p in files if p.is_file() and is_rollout_file(p)):
            if path.suffix in (".jsonl", ".ndjson"):
                self._read_lines(path)
            elif path not in self._done:
                self._read_file(path)
        return self._rollouts.count > before

    @one_at_a_time
    def report(self) -> Report:
        """Judge what has come so far.

        Raises
        ------
        InputError
            There is nothing yet.

        See Also
        --------
        Watch.poll : Read what is new; tell whether anything was.
        """
        return Report.of(self._rollouts, self._settings)

    @property
    def rollouts(self) -> int:
        """Rollouts so far."""
        return self._rollouts.count

    def _read_lines(self, path: Path) -> None:
        start = self._done.get(path, 0)
        with path.open("rb") as file:
            file.seek(start)
            text = file.read()
        text = text[: text.rfind(b"\n") + 1]
        if text.strip() and self._count(path, json_lines_part(str(path), text, step_of(path))):
            self._done[path] = start + len(text)

    def _read_file(self, path: Path) -> None:
        state = (path.stat().st_size, path.stat().st_mtime_ns)
        settled = self._seen.get(path) == state
        self._seen[path] = state
        # Parquet and Arrow say at their end that they are whole; of others, nothing may have come since the last look.
        if state[0] and (settled or path.suffix in (".parquet", ".arrow", ".feather")) and self._count(path, path):
            self._done[path] = state[0]

    def _count(self, path: Path, source: Any) -> bool:
        """Count a file, or none of it."""
        found = Rollouts(*self._new)
        try:
            found.update(source)
        except InputError as error:
            self._failures[path] = self._failures.get(path, 0) + 1
            if self._failures[path] == _PATIENCE:
                self.trouble.append(" ".join(str(error).split()))
            return False
        found.files[path] = None
        self._rollouts.merge(found)
        return True
