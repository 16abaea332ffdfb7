"""The log: silent unless the program that uses the library says otherwise, as by ``logging.basicConfig``."""

from __future__ import annotations

import logging

__all__ = ["LOG"]

LOG = logging.getLogger("legato")
LOG.addHandler(logging.NullHandler())
