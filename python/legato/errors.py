"""Exceptions of Legato: one tree, one class for each kind of trouble.

Every message is one line that names the argument or the file and says what was expected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "ArgumentError",
    "DependencyError",
    "HomographyError",
    "IndexRangeError",
    "InfeasibleError",
    "InputError",
    "LegatoError",
    "NumericalError",
    "OutputError",
    "SideFileError",
    "error_of_status",
]


class LegatoError(Exception):
    """Base class of everything Legato raises on purpose."""


class ArgumentError(LegatoError, ValueError):
    """An argument has a wrong shape, dtype or value."""


class IndexRangeError(ArgumentError, IndexError):
    """An index points outside of what it indexes."""


class DependencyError(LegatoError, ImportError):
    """An optional package is missing; the message says how to install it."""


class InputError(LegatoError, OSError):
    """A file cannot be read, or is not what it should be."""


class OutputError(LegatoError, OSError):
    """A file cannot be written."""


class SideFileError(OutputError):
    """A file beside a result cannot be written; the result itself is complete, and so are the others.

    Attributes
    ----------
    errors : dict of Path to Exception
        What went wrong, by file.
    report : object
        What the call would have returned.
    """

    def __init__(self, message: str, errors: dict[Path, Exception], report: object) -> None:
        super().__init__(message)
        self.errors = errors
        self.report: Any = report


class NumericalError(LegatoError, ArithmeticError):
    """The data admit no answer, or arithmetic broke down."""


class HomographyError(NumericalError, ValueError):
    """A matrix that is not finite, is singular, or has no principal logarithm."""


class InfeasibleError(NumericalError):
    """The constraints exclude every path; the message names the first frame."""


def error_of_status(code: int, text: str, what: str) -> LegatoError:
    """Turn a status of the core into the exception a caller sees; the compiled module calls this.

    Parameters
    ----------
    code : int
        `Status` of the surface.
    text : str
        What the core says of it.
    what : str
        The argument or the step that it concerns.

    Returns
    -------
    LegatoError
    """
    message = f"{what}: {text}"
    if code in {2, 3, 4}:  # not finite, singular, no principal logarithm
        return HomographyError(message)
    if code == 6:
        return InfeasibleError(message)
    if code == 8:
        return NumericalError(message)
    return ArgumentError(message)
