"""Names that arguments of several stages take; without NumPy, so that the command knows them before it is loaded."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

__all__ = [
    "BACKENDS",
    "BORDERS",
    "INCLUSIONS",
    "INTERPOLATIONS",
    "LEVELS",
    "ROTATIONS",
    "Backend",
    "Border",
    "Inclusion",
    "Interpolation",
    "Level",
    "Rotation",
]

Backend: TypeAlias = Literal["native", "opencv"]
Border: TypeAlias = Literal["black", "transparent"]
Inclusion: TypeAlias = Literal["soft", "hard"]
Interpolation: TypeAlias = Literal["bilinear", "bicubic", "lanczos"]
Level: TypeAlias = Literal["mean", "orientation"] | float  # degrees
Rotation: TypeAlias = Literal["apply", "keep"]

BACKENDS: tuple[Backend, ...] = get_args(Backend)
BORDERS: tuple[Border, ...] = get_args(Border)
INCLUSIONS: tuple[Inclusion, ...] = get_args(Inclusion)
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)  # numbered as the core numbers them
LEVELS = ("mean", "orientation")
ROTATIONS: tuple[Rotation, ...] = get_args(Rotation)
