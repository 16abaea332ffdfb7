"""The only door of scalar arguments: numbers, counts, sizes and names, each refused by its own name."""

from __future__ import annotations

import math
from collections.abc import Collection
from numbers import Real
from typing import Any, TypeVar

import numpy as np

from legato.errors import ArgumentError

__all__ = ["as_choice", "as_count", "as_flag", "as_number", "as_shape", "as_size", "as_threads", "shown"]

Name = TypeVar("Name", bound=str)

_LONGEST_TEXT = 80
_MOST_AXES = 32  # of all NumPys
_MOST_ELEMENTS = 2**59  # eight bytes each, as far as NumPy counts bytes
_MOST_THREADS = 1024  # more never helps; the kernels count in 32 bits


def shown(value: object) -> str:
    """Return `value` as a message shows it: one line of bounded length, whatever its ``__repr__`` does."""
    if isinstance(value, np.ndarray) and value.ndim > 0:
        return f"an array of {value.dtype} {value.shape}"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a stranger's __repr__, or an int of more digits than Python prints
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 3]}..."


def as_count(name: str, value: object, least: int = 1, most: int = 2**31 - 1) -> int:
    """Return a whole number from `least` to `most` as an int; booleans are none."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ArgumentError(f"{name}: expected a whole number of at least {least}, got {shown(value)}")
    number = int(value)
    if not least <= number <= most:
        wanted = f"from {least} to {most}" if number > most else f"of at least {least}"
        raise ArgumentError(f"{name}: expected a whole number {wanted}, got {shown(value)}")
    return number


def as_threads(value: object) -> int:
    """Return a number of threads; what is beyond all machines counts as a thousand."""
    return min(as_count("threads", value, most=2**63 - 1), _MOST_THREADS)


def as_number(
    name: str,
    value: object,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    finite: bool = True,
) -> float:
    """Return a real number as a float, within the bounds; `least` and `most` are admitted, `above` and `below` not.

    Python's and NumPy's numbers are taken, and arrays of no dimension; booleans, text and NaN are none.
    """
    number = _real(value)
    if (
        number is not None
        and number == number
        and (math.isfinite(number) or not finite)
        and (least is None or number >= least)
        and (most is None or number <= most)
        and (above is None or number > above)
        and (below is None or number < below)
    ):
        return number
    bounds = [
        f"{word} {bound:g}"
        for word, bound in (("of at least", least), ("above", above), ("at most", most), ("below", below))
        if bound is not None
    ]
    wanted = " ".join(["a finite number" if finite else "a number", " and ".join(bounds)]).rstrip()
    raise ArgumentError(f"{name}: expected {wanted}, got {shown(value)}")


def _real(value: object) -> float | None:
    if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "fiu":
        value = value[()]
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        return float(value)
    except Exception:  # too large for a float, or a subclass that raises
        return None


def as_flag(name: str, value: object) -> bool:
    """Return True or False; NumPy's, 0 and 1 are taken for them."""
    if isinstance(value, bool | np.bool_) or (isinstance(value, int | np.integer) and value in (0, 1)):
        return bool(value)
    raise ArgumentError(f"{name}: expected True or False, got {shown(value)}")


def as_choice(name: str, value: object, known: Collection[Name]) -> Name:
    """Return the one of `known` names that `value` is."""
    if isinstance(value, str):
        for choice in known:
            if choice == value:
                return choice
    raise ArgumentError(f"{name}: expected one of {', '.join(known)}, got {shown(value)}")


def as_shape(name: str, value: Any) -> tuple[int, ...]:
    """Return a shape of at least one axis, the first that of samples; an int stands for one axis."""
    try:
        if (
            type(value) is tuple
            and 1 <= len(value) <= 4
            and all(type(side) is int and 0 <= side < 2**14 for side in value)
        ):
            return value  # the common case, without ceremony
        sides = (value,) if isinstance(value, int | np.integer) else tuple(value)
        sizes = tuple(as_count(name, side, 0, 2**62) for side in sides)
    except Exception:
        sizes = ()
    if not 1 <= len(sizes) <= _MOST_AXES:
        raise ArgumentError(f"{name}: expected a tuple of sizes, samples first, got {shown(value)}")
    if math.prod(max(size, 1) for size in sizes) > _MOST_ELEMENTS:
        raise ArgumentError(f"{name}: expected at most 2^59 elements, got {shown(value)}")
    return sizes


def as_size(name: str, value: Any, least: int = 1, most: int = 2**31 - 1) -> tuple[int, int]:
    """Return (width, height) as two ints from `least` to `most`."""
    try:
        width, height = value
        return as_count(name, width, least, most), as_count(name, height, least, most)
    except Exception:
        raise ArgumentError(
            f"{name}: expected (width, height), two whole numbers from {least} to {most}, got {shown(value)}"
        ) from None
