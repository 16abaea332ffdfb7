"""Names that arguments of several stages take; without NumPy, so that the command knows them before it is loaded."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

__all__ = ["INCLUSIONS", "INTERPOLATIONS", "ROTATIONS", "Inclusion", "Interpolation", "Rotation"]

Inclusion: TypeAlias = Literal["soft", "hard"]
Interpolation: TypeAlias = Literal["bilinear", "bicubic", "lanczos"]
Rotation: TypeAlias = Literal["apply", "keep"]

INCLUSIONS: tuple[Inclusion, ...] = get_args(Inclusion)
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)  # numbered as the core numbers them
ROTATIONS: tuple[Rotation, ...] = get_args(Rotation)
