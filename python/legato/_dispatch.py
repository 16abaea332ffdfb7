"""The only backend choice: ``backend=``, then LEGATO_BACKEND, then native, then numpy."""

from __future__ import annotations

import os
from typing import Literal, TypeAlias, get_args

__all__ = ["BACKENDS", "Backend", "choose"]

Backend: TypeAlias = Literal["native", "numpy"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)


def choose(backend: Backend | None) -> Backend:
    """Return the name of the backend to run: "native" (the C++ core) or "numpy" (the reference)."""
    name = (os.environ.get("LEGATO_BACKEND") or "native") if backend is None else backend
    if isinstance(name, str) and name in BACKENDS:
        return name
    from legato._scalars import as_choice  # which needs NumPy; a decoder that runs ahead does without

    return as_choice("LEGATO_BACKEND" if backend is None else "backend", name, BACKENDS)
