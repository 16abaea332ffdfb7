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
    """Base class of everything Legato raises on purpose.

    See Also
    --------
    ArgumentError : An argument has a wrong shape, dtype or value.
    InputError : A file cannot be read, or is not what it should be.
    NumericalError : The data admit no answer, or arithmetic broke down.

    Examples
    --------
    >>> from legato import camera, errors
    >>> try:
    ...     camera.log_homography([[0.0]])
    ... except errors.LegatoError as error:
    ...     print(type(error).__name__)
    ArgumentError
    """


class ArgumentError(LegatoError, ValueError):
    """An argument has a wrong shape, dtype or value.

    See Also
    --------
    IndexRangeError : Of indices.
    LegatoError : Base class of everything Legato raises on purpose.

    Examples
    --------
    >>> from legato import errors, rft
    >>> try:
    ...     rft.group_stats([1.0, float("nan")], [0, 0])
    ... except errors.ArgumentError as error:
    ...     print(isinstance(error, ValueError))
    True
    """


class IndexRangeError(ArgumentError, IndexError):
    """An index points outside of what it indexes.

    See Also
    --------
    ArgumentError : An argument has a wrong shape, dtype or value.

    Examples
    --------
    >>> from legato import errors, rft
    >>> try:
    ...     rft.token_stats([[0.0, 1.0]], [2])
    ... except errors.IndexRangeError as error:
    ...     print(isinstance(error, IndexError), isinstance(error, errors.ArgumentError))
    True True
    """


class DependencyError(LegatoError, ImportError):
    """An optional package is missing; the message says how to install it.

    See Also
    --------
    LegatoError : Base class of everything Legato raises on purpose.

    Examples
    --------
    >>> from legato import errors
    >>> issubclass(errors.DependencyError, ImportError)
    True
    """


class InputError(LegatoError, OSError):
    """A file cannot be read, or is not what it should be.

    See Also
    --------
    OutputError : A file cannot be written.

    Examples
    --------
    >>> from legato import errors, rft
    >>> try:
    ...     rft.scan("absent.jsonl")
    ... except errors.InputError as error:
    ...     print("absent.jsonl" in str(error))
    True
    """


class OutputError(LegatoError, OSError):
    """A file cannot be written.

    See Also
    --------
    InputError : A file cannot be read, or is not what it should be.
    SideFileError : A file beside a result cannot be written; the result itself is complete, and so are the others.

    Examples
    --------
    >>> from legato import errors
    >>> issubclass(errors.OutputError, errors.LegatoError)
    True
    """


class SideFileError(OutputError):
    """A file beside a result cannot be written; the result itself is complete, and so are the others.

    Attributes
    ----------
    errors : dict of Path to Exception
        What went wrong, by file.
    report : object
        What the call would have returned.

    See Also
    --------
    OutputError : A file cannot be written.

    Examples
    --------
    >>> from pathlib import Path
    >>> from legato import errors
    >>> error = errors.SideFileError("one file is missing", {Path("path.svg"): OSError("disk full")}, report=None)
    >>> [path.name for path in error.errors]
    ['path.svg']
    """

    def __init__(self, message: str, errors: dict[Path, Exception], report: object) -> None:
        super().__init__(message)
        self.errors = errors
        self.report: Any = report


class NumericalError(LegatoError, ArithmeticError):
    """The data admit no answer, or arithmetic broke down.

    See Also
    --------
    HomographyError : A matrix that is not finite, is singular, or has no principal logarithm.
    InfeasibleError : The constraints exclude every path; the message names the first frame.

    Examples
    --------
    >>> from legato import errors, rft
    >>> try:
    ...     rft.gae([[1e308, 1e308]], [[0.0, 0.0]])
    ... except errors.NumericalError:
    ...     print("beyond the numbers of its type")
    beyond the numbers of its type
    """


class HomographyError(NumericalError, ValueError):
    """A matrix that is not finite, is singular, or has no principal logarithm.

    See Also
    --------
    legato.camera.log_homography : Logarithm of homographies, normalized to determinant 1.

    Examples
    --------
    >>> from legato import camera
    >>> try:
    ...     camera.log_homography([[-1, 0, 0], [0, -1, 0], [0, 0, 1]])     # a roll of 180 degrees
    ... except camera.HomographyError:
    ...     print("no principal logarithm")
    no principal logarithm
    """


class InfeasibleError(NumericalError):
    """The constraints exclude every path; the message names the first frame.

    See Also
    --------
    legato.camera.smooth_path : Find the L1-optimal camera path of a clip.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import camera
    >>> beyond = np.full((10, 1, 2), 5000.0)                               # no crop has it in view
    >>> try:
    ...     camera.smooth_path(np.tile(np.eye(3), (10, 1, 1)), size=(640, 360), salient=beyond)
    ... except camera.InfeasibleError:
    ...     print("no path")
    no path
    """


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

    See Also
    --------
    LegatoError : What it makes, one of the classes below.

    Examples
    --------
    >>> from legato import errors
    >>> errors.error_of_status(3, "not finite", "motion")
    HomographyError('motion: not finite')
    """
    message = f"{what}: {text}"
    if code in {2, 3, 4}:  # not finite, singular, no principal logarithm
        return HomographyError(message)
    if code == 6:
        return InfeasibleError(message)
    if code == 8:
        return NumericalError(message)
    return ArgumentError(message)
