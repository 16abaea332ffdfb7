"""Names that arguments of several stages take; without NumPy, so that the command knows them before it is loaded."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

__all__ = ["INCLUSIONS", "INTERPOLATIONS", "KINDS", "ROTATIONS", "Inclusion", "Interpolation", "Kind", "Rotation"]

Inclusion: TypeAlias = Literal["soft", "hard"]
Interpolation: TypeAlias = Literal["bilinear", "bicubic", "lanczos"]
Kind: TypeAlias = Literal["still", "walk", "pan", "run", "zoom"]  # of a drawn clip: what its camera does
Rotation: TypeAlias = Literal["apply", "keep"]

INCLUSIONS: tuple[Inclusion, ...] = get_args(Inclusion)
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)  # numbered as the core numbers them
KINDS: tuple[Kind, ...] = get_args(Kind)
ROTATIONS: tuple[Rotation, ...] = get_args(Rotation)
