"""The log: silent unless the program that uses the library says otherwise, as by ``logging.basicConfig``."""

from __future__ import annotations

import logging
import os

from legato._printing import printable

__all__ = ["LOG"]


def _shown(record: logging.LogRecord) -> bool:
    """Let names of files into the log as they would be printed: a log is read at terminals, and written as UTF-8."""
    if isinstance(record.args, tuple):
        record.args = tuple(printable(one) if isinstance(one, str | os.PathLike) else one for one in record.args)
    return True


LOG = logging.getLogger("legato")
LOG.addHandler(logging.NullHandler())
LOG.addFilter(_shown)
