"""Files beside a result: each may fail without costing the result or the others."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from legato._files import PathLike, reason
from legato.errors import LegatoError, SideFileError

__all__ = ["SideFiles"]


class SideFiles:
    """Files beside a result: what goes wrong with one costs that one alone, and is told when all is done.

    Attributes
    ----------
    errors : dict of Path to Exception
        What went wrong so far, by file.
    """

    def __init__(self) -> None:
        self.errors: dict[Path, Exception] = {}

    @contextlib.contextmanager
    def attempt(self, path: Path) -> Iterator[None]:
        """Take note of an error in the ``with`` block, which makes the file."""
        try:
            yield
        except Exception as error:  # of whatever kind: the result does not depend on it
            self.errors[path] = error

    def failures(self) -> list[str]:
        """Tell what went wrong, each in one line that names the file."""
        return [
            str(error)
            if isinstance(error, LegatoError)
            else f"{path}: cannot be made ({type(error).__name__}: {reason(error)})"
            for path, error in self.errors.items()
        ]

    def check(self, result: PathLike, report: object) -> None:
        """Raise what went wrong.

        Raises
        ------
        SideFileError
        """
        if self.errors:
            text = f"{'; '.join(self.failures())}; {os.fspath(result)} is complete"
            raise SideFileError(text, self.errors, report) from next(iter(self.errors.values()))
