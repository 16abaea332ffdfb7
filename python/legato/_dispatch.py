"""The only backend choice: ``backend=``, then LEGATO_BACKEND, then native, then numpy."""

from __future__ import annotations

import os
from typing import Literal, TypeAlias, get_args

from legato._scalars import as_choice

__all__ = ["BACKENDS", "Backend", "choose"]

Backend: TypeAlias = Literal["native", "numpy"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)


def choose(backend: Backend | None) -> Backend:
    """Return the name of the backend to run: "native" (the C++ core) or "numpy" (the reference)."""
    if backend is not None:
        return as_choice("backend", backend, BACKENDS)
    return as_choice("LEGATO_BACKEND", os.environ.get("LEGATO_BACKEND") or "native", BACKENDS)
