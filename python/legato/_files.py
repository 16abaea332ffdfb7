"""The door for files: outputs that appear whole or not at all, inputs that are bounded before they are parsed.

Every family writes through `PendingFile` or `write_whole`, asks `check_destinations` before it does, and reads text and
JSON through `read_text`, `read_json` and `json_lines`. Only the standard library is needed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import stat
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from legato.errors import ArgumentError, InputError, LegatoError, OutputError

if TYPE_CHECKING:
    from fractions import Fraction

__all__ = [
    "DAMAGED_ARCHIVE",
    "PathLike",
    "PendingFile",
    "append_lines",
    "check_destinations",
    "checked_path",
    "json_lines",
    "parse_fraction",
    "parse_json",
    "read_json",
    "read_text",
    "reason",
    "write_whole",
]

PathLike = str | os.PathLike[str]

MOST_BYTES = 1 << 28  # of a file that is read at once
MOST_LINE_BYTES = 1 << 26  # of a file that is read by lines: a million tokens of a rollout with their probabilities
MOST_DIGITS = 308  # of a whole number, which is finite as a double then

# What `numpy.load` and the modules beneath it raise for a damaged or hostile .npz.
DAMAGED_ARCHIVE = (
    OSError, EOFError, ValueError, KeyError, TypeError, OverflowError, MemoryError, RuntimeError, SyntaxError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip

_OF_OPEN_FILES = re.compile(r"/dev/fd|/proc/\d+(/task/\d+)?/fd")
_MOST_LINKS = 40  # as many as Linux follows


def checked_path(name: str, value: object) -> Path:
    """Take a path, or say which argument is none."""
    if isinstance(value, str | os.PathLike):
        return Path(value)
    try:
        shown = repr(value)
    except Exception:  # a stranger's __repr__
        shown = f"a value of type {type(value).__name__}"
    raise ArgumentError(f"{name}: expected a path, got {shown[:80]}")


def reason(error: BaseException) -> str:
    """One line from an exception of FFmpeg or of the system, without its number and path."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


# --- writing ------------------------------------------------------------------------------------


class PendingFile:
    """A file that appears under its destination's name when it is complete, and not before.

    The destination is touched by `commit` alone. Until then the file has no name at all, where the system can (Linux,
    on most file systems), so that nothing is left even by a process that is killed. Leaving the ``with`` block without
    it leaves nothing. A file that is replaced hands on its permissions, and its owner where the system allows that; a
    new one follows the umask. Of several hard links only the named one gets the new content.

    Devices, pipes and the names of open files (``/dev/stdout``) are no files that could be replaced: `opened` writes
    through to them, and they have no `path`.

    Parameters
    ----------
    destination : str or path
        The final name; if it is a symbolic link, the file that it points to.

    Attributes
    ----------
    destination : Path
        As given.

    Raises
    ------
    OutputError
        If no file can be made there, or the one that is there is write-protected.
    """

    def __init__(self, destination: PathLike) -> None:
        self.destination = Path(destination)
        self._final = Path(os.path.realpath(self.destination))
        self._handle: int | None = None
        self._hidden: Path | None = None
        folder = self._final.parent
        if os.fspath(destination) == "-":
            raise OutputError("-: expected a file name; standard output is for `legato live`")
        if self._final.is_dir():
            raise OutputError(f"{self.destination}: a directory, expected a file name")
        if self._final.is_symlink():
            raise OutputError(f"{self.destination}: a symbolic link to itself")
        open_file = _is_open_file(self.destination)
        if not (open_file or folder.is_dir()):
            raise OutputError(f"{self.destination}: no such directory: {self.destination.parent}")
        there = open_file or self._final.exists()
        if there and not os.access(self.destination, os.W_OK):
            raise OutputError(f"{self.destination}: cannot be written ({os.strerror(13)})")
        if open_file or (there and not self._final.is_file()):
            return
        self._hidden = folder / f".legato-{os.urandom(6).hex()}{self._final.suffix}"
        self._handle = _unnamed_file(folder)
        if self._handle is not None:
            return
        try:
            # Made now, so that a folder without permission is found before the work; the mode follows the umask.
            os.close(os.open(self._hidden, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except OSError as error:
            raise self._failure(error) from error

    @property
    def path(self) -> Path:
        """The name to write to; the file exists and is empty.

        Without an extension; where no file is without a name, a hidden one beside the destination with its extension.

        Raises
        ------
        OutputError
            If the destination is a device or a pipe.
        """
        if self._hidden is None:
            raise OutputError(f"{self.destination}: not a regular file")
        return self._hidden if self._handle is None else Path(f"/proc/self/fd/{self._handle}")

    @property
    def unnamed(self) -> bool:
        """Whether the file has no name yet."""
        return self._handle is not None

    @contextlib.contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """Open the file to write it; what goes wrong with it meanwhile names the destination.

        Raises
        ------
        OutputError
            If it cannot be written, such as on a full disk.
        """
        try:
            with _opened_through(self.destination) if self._hidden is None else self.path.open("wb") as file:
                yield file
        except BrokenPipeError:
            raise  # whoever reads it has enough
        except OSError as error:
            if isinstance(error, LegatoError):
                raise
            raise self._failure(error) from error

    def write_text(self, pieces: Iterable[str]) -> None:
        """Write the whole content as UTF-8, piece by piece; what is no character is written as a question mark.

        Raises
        ------
        OutputError
            As `opened`.
        """
        with self.opened() as file:
            for piece in pieces:
                file.write(piece.encode(errors="replace"))

    def commit(self) -> None:
        """Bring the content to the disk and give the file its final name.

        Raises
        ------
        OutputError
            If that is not possible.
        """
        if self._hidden is None:
            return
        try:
            handle = os.open(self.path, os.O_RDONLY)
            try:
                self._take_over_permissions(handle)
                os.fsync(handle)
            finally:
                os.close(handle)
            if self._handle is None:
                self._hidden.replace(self._final)
            else:
                self._name(self._handle, self._hidden)
        except OSError as error:
            raise self._failure(error) from error
        self.discard()

    def _take_over_permissions(self, handle: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            about = self._final.stat()
            if hasattr(os, "fchown"):
                with contextlib.suppress(OSError):  # only root gives files away
                    os.fchown(handle, about.st_uid, about.st_gid)
                os.fchmod(handle, stat.S_IMODE(about.st_mode) & 0o777)

    def _name(self, handle: int, hidden: Path) -> None:
        with contextlib.suppress(FileExistsError):
            _link(handle, self._final)
            return
        # A link cannot replace a file, so it gets the hidden name for the moment before the final one.
        with _signals_held():
            _link(handle, hidden)
            hidden.replace(self._final)

    def discard(self) -> None:
        """Remove what was written; after `commit` nothing happens."""
        if self._hidden is not None:
            with contextlib.suppress(OSError):
                self._hidden.unlink()
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def _failure(self, error: OSError) -> OutputError:
        return OutputError(f"{self.destination}: cannot be written ({reason(error)})")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()


def write_whole(path: PathLike, content: str | bytes) -> Path:
    """Write a file, whole or not at all; see `PendingFile`.

    Parameters
    ----------
    path : str or path
    content : str or bytes
        Text becomes UTF-8.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with PendingFile(path) as pending:
        if isinstance(content, str):
            pending.write_text([content])
        else:
            with pending.opened() as file:
                file.write(content)
        pending.commit()
    return pending.destination


def append_lines(path: PathLike, lines: str) -> None:
    """Add whole lines to a file in one write, so that several processes may do so at once.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    try:
        with Path(path).open("ab", buffering=0) as file:
            file.write(lines.encode(errors="replace"))
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: cannot be written ({reason(error)})") from error


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Let signals that end a process wait, where the system can: between two calls it would leave a file."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _unnamed_file(folder: Path) -> int | None:
    """Open a file in a folder that has no name, or None where there is no such thing."""
    kind = getattr(os, "O_TMPFILE", None)
    if kind is None or not Path("/proc/self/fd").is_dir():
        return None
    try:
        return os.open(folder, kind | os.O_RDWR, 0o666)
    except OSError:
        return None  # what else is wrong with the folder shows when a named file is made


def _link(handle: int, name: Path) -> None:
    """Give an open file without a name its first one."""
    folder = os.open(name.parent, os.O_RDONLY)
    try:
        # Python follows the link in /proc only if it is told a folder, which an absolute path does not use.
        os.link(f"/proc/self/fd/{handle}", name, src_dir_fd=folder)
    finally:
        os.close(folder)


def _open_file_of(path: Path) -> Path | None:
    """Follow a name such as /dev/stdout to the entry of an open file, such as /proc/1234/fd/1; None: another name."""
    for _ in range(_MOST_LINKS):
        path = Path(os.path.realpath(path.parent)) / path.name
        if _OF_OPEN_FILES.fullmatch(os.fspath(path.parent)) and path.name.isdecimal():
            return path
        try:
            path = path.parent / path.readlink()
        except OSError:
            return None
    return None


def _is_open_file(path: Path) -> bool:
    return _open_file_of(path) is not None


def _opened_through(path: Path) -> IO[bytes]:
    """Open what is no file that could be replaced."""
    entry = _open_file_of(path)
    if entry is not None and entry.parts[:3] in (("/", "dev", "fd"), ("/", "proc", str(os.getpid()))):
        # The open file itself, where it stands: opened by its name, what it holds already would be overwritten.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError):
                stream.flush()
        return os.fdopen(os.dup(int(entry.name)), "wb")
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND), "wb")


def check_destinations(
    sources: Mapping[str, PathLike], destinations: Mapping[str, PathLike | None], overwrite: bool = True
) -> None:
    """Refuse to write over a source, over a file twice, or over an existing file against the caller's wish.

    Parameters
    ----------
    sources, destinations : mapping
        Files by the names of their arguments; None: not asked for. Links of both kinds are followed. Devices and pipes
        may be written more than once.
    overwrite : bool
        Whether existing files may be replaced.

    Raises
    ------
    ArgumentError
    """
    taken = {key: name for name, path in sources.items() for key in _identities(path)}
    for name, path in destinations.items():
        if path is None:
            continue
        keys = _identities(path)
        other = next((taken[key] for key in keys if key in taken), None)
        if other is not None:
            raise ArgumentError(f"{name}: {path} is the same file as the {other}")
        if keys:
            taken[keys[0]] = name
        if not overwrite and keys and Path(path).exists():
            raise ArgumentError(f"{name}: {path} exists and overwrite is off")


def _identities(path: PathLike) -> list[object]:
    """Give what two names of one file have in common; nothing of a device or a pipe."""
    found: list[object] = [os.path.realpath(path)]
    with contextlib.suppress(OSError, ValueError):
        about = Path(path).stat()
        if not (stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode)):
            return []
        found.append((about.st_dev, about.st_ino))
    return found


# --- reading ------------------------------------------------------------------------------------


def read_text(path: PathLike, most_bytes: int = MOST_BYTES) -> str:
    """Read a text file in UTF-8, with or without a byte-order mark.

    Parameters
    ----------
    path : str or path
    most_bytes : int
        Of a longer file no more is read.

    Returns
    -------
    str

    Raises
    ------
    InputError
        If the file cannot be read, is longer, or is not UTF-8.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(most_bytes + 1)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({reason(error)})") from error
    if len(content) > most_bytes:
        raise InputError(f"{path}: longer than {most_bytes} bytes")
    return _decoded(content, f"{path}")


def read_json(path: PathLike, most_bytes: int = MOST_BYTES) -> Any:
    """Read a file that holds one JSON value.

    Parameters
    ----------
    path : str or path
    most_bytes : int
        As for `read_text`.

    Returns
    -------
    dict, list, str, int, float, bool or None

    Raises
    ------
    InputError
        As `read_text`, or if the file is not JSON.
    """
    try:
        return parse_json(read_text(path, most_bytes))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from None


def json_lines(path: PathLike, most_bytes: int = MOST_LINE_BYTES) -> Iterator[tuple[int, Any]]:
    """Go through a file that holds a JSON value in each line; empty lines do not count.

    Parameters
    ----------
    path : str or path
    most_bytes : int
        Of a longer line no more is read.

    Yields
    ------
    number : int
        Of the line, from 1.
    value : dict, list, str, int, float, bool or None

    Raises
    ------
    InputError
        If the file cannot be read, or a line is longer, not UTF-8 or not JSON; the message names it.
    """
    number = 0
    try:
        with Path(path).open("rb") as file:
            while line := file.readline(most_bytes + 1):
                number += 1
                if len(line) > most_bytes:
                    raise InputError(f"{path}: line {number}: longer than {most_bytes} bytes")
                if not line.strip():
                    continue
                text = _decoded(line, f"{path}: line {number}")
                try:
                    value = parse_json(text)
                except ValueError as error:
                    raise InputError(f"{path}: line {number}: not JSON ({error})") from None
                yield number, value
    except (OSError, ValueError) as error:
        if isinstance(error, LegatoError):
            raise
        raise InputError(f"{path}: cannot be read ({reason(error)})") from error


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 text ({error.reason} at byte {error.start})") from None


def parse_json(text: str) -> Any:
    """Parse one JSON value; whole numbers are bounded in length, and so is the nesting.

    Raises
    ------
    ValueError
        With one line that says what is wrong, and where.
    """
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise ValueError(f"{error.msg.removesuffix(' at')} at {place}column {error.colno}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


_DECODER = json.JSONDecoder(parse_int=_whole)


def parse_fraction(text: str) -> Fraction:
    """Parse "1001/30000", "25" or "0.04": no more digits than 64 bits have, and no exponent, which may be of any size.

    Raises
    ------
    ValueError
        If the text is something else, or divides by zero.
    """
    from fractions import Fraction

    found = re.fullmatch(r"\s*[+-]?[0-9]{1,20}(?:/0*[1-9][0-9]{0,19}|\.[0-9]{0,20})?\s*", text)
    if found is None:
        shown = text if len(text) <= 40 else f"{text[:40]}..."
        raise ValueError(f"expected a fraction such as 1/30000, got {shown!r}")
    return Fraction(text)
