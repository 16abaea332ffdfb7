"""The only backend choice: ``backend=``, then LEGATO_BACKEND, then native, then numpy."""

from __future__ import annotations

import os

from legato.errors import ArgumentError

__all__ = ["BACKENDS", "choose"]

BACKENDS = ("native", "numpy")


def choose(backend: str | None) -> str:
    """Return the name of the backend to run: "native" (the C++ core) or "numpy" (the reference)."""
    name, said_by = (
        (backend, "backend")
        if backend is not None
        else (os.environ.get("LEGATO_BACKEND") or "native", "LEGATO_BACKEND")
    )
    if name not in BACKENDS:
        raise ArgumentError(f"{said_by}: expected one of {', '.join(BACKENDS)}, got {name!r}")
    return name
