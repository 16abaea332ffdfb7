"""Numba's entry point: Legato's functions inside of ``@njit`` functions compile to direct calls of the core."""

from __future__ import annotations

import importlib

__all__ = ["FAMILIES", "init"]

FAMILIES = ("camera", "diffusion", "rasp", "rft")


def init() -> None:
    """Register the C functions and the overloads; Numba calls this before it compiles or loads anything."""
    from legato import _calls

    _calls.register_calls()
    for family in FAMILIES:
        importlib.import_module(f"legato.{family}._numba")
