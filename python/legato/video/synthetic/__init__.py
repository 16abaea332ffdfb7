"""Clips of our own drawing, whose motion is known."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

__all__ = ["KINDS", "Kind"]

Kind: TypeAlias = Literal["still", "walk", "pan", "run", "zoom"]

KINDS: tuple[Kind, ...] = get_args(Kind)  # what the holder of the camera does; here, where nothing heavy is loaded
