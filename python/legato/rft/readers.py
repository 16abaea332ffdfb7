"""Rollouts wherever they are: files, folders and tables, each as batches of named Arrow arrays.

A reader converts the columns that it is asked for and no others. Prompts that are chats or other nested values become
their canonical JSON: keys in order, fields that are null left out (a table cannot tell null from missing).
"""

from __future__ import annotations

import glob
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from legato import _core
from legato._files import DAMAGED_ARCHIVE, MOST_BYTES, parse_json
from legato._scalars import shown
from legato.errors import ArgumentError, InputError, LegatoError
from legato.rft.documents import (
    archived_samples,
    harness_filter,
    harness_task,
    is_table,
    rows_of_document,
    rows_of_tables,
)
from legato.rft.layouts import Field, Kind, fields_of_schema
from legato.rft.prompts import NameTable, canonical_json, int64_or_decimal

__all__ = ["UNUSABLE", "Part", "files_of", "is_rollout_file", "json_lines_part", "parts_of", "step_of"]

_BATCH = 1 << 18  # rollouts held at once, fewer where prompts are long
_BATCH_BYTES = 1 << 26
_BLOCK = 1 << 24  # bytes of text at once, and the most of a line of JSON
_REMEMBERED = 1 << 26  # characters of JSON whose keys are kept from one batch to the next
_HEAD = 64  # rows of text that show which columns there are
_HEAD_BYTES = 1 << 22  # and bytes that show which of them repeat
_COMPRESSED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4"}
_SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".arrow", ".feather", ".ipc", ".npz", ".eval")
_SUMMARIES = {"aggregated_results.jsonl"}  # of SkyRL, beside its rollouts
# A training step in the name of a file or of its folder, words after it or not; numbers of shards are none.
_STEP = re.compile(
    r"(?:^|[_\-.])(?:global[_-]?)?(?:step|completions|iter(?:ation)?)[_\-]?(\d+)(?:[_\-][a-z]+)*$|^(\d+)$"
)

# What Arrow raises for a Python value that it has no type for: its own errors are ValueErrors, TypeErrors and the like.
UNUSABLE = (ValueError, TypeError, KeyError, OverflowError, NotImplementedError, RecursionError)

Arrays = dict[str, Any]  # Arrow arrays of one length by the column's name


class Part:
    """One file or table: what columns it has, and their values in batches.

    Attributes
    ----------
    name : str
        For messages.
    fields : dict of str to Field
    step : int or None
        That the file's name tells.
    path : path or None
        Of the file.
    metrics : tuple of str
        Columns that the file itself names as its metrics.
    only : (str, str) or None
        A column, and what it has in the rows that count.
    task : str or None
        That the file's name tells, where its ids are those of one task.
    """

    metrics: tuple[str, ...] = ()
    only: tuple[str, str] | None = None
    task: str | None = None
    path: Path | None = None

    def __init__(self, name: str, fields: Mapping[str, Field], step: int | None = None) -> None:
        self.name, self.fields, self.step = name, dict(fields), step

    def batches(self, names: Sequence[str], prompt: str) -> Iterator[Arrays]:
        """Yield these columns in the order of the rows."""
        raise NotImplementedError

    def head(self, name: str) -> Any:
        """Return the first rows of a column, which may be the prompt; None if there are none."""
        return next(iter(self.batches([name], name)), {}).get(name)

    def _learn(self, row: Mapping[str, Any]) -> None:
        """Take what the first row of lm-eval's samples tells of the file."""
        named, kept = row.get("metrics"), harness_filter(row)
        if isinstance(named, list) and all(isinstance(metric, str) for metric in named):
            self.metrics = tuple(named)
        if kept is not None:
            self.only = ("filter", kept)

    def _error(self, row: int, column: str, what: str) -> InputError:
        return InputError(f"{self.name}: row {row}, column {column!r}: {what}")


def parts_of(source: Any) -> Iterator[Part]:
    """Yield the files or the table of a source.

    Parameters
    ----------
    source : path, pattern or folder, sequence of them, mapping of columns, iterable of mappings, or a table
        A table: pyarrow, or anything with the Arrow C stream interface (pandas, polars, DuckDB), or Hugging Face's.
    """
    import pyarrow as pa

    if isinstance(source, str | Path):
        source = [source]
    if isinstance(source, Part):
        yield source
        return
    if isinstance(source, pa.RecordBatch):
        source = pa.Table.from_batches([source])
    if hasattr(source, "collect") and hasattr(source, "collect_schema"):  # polars' lazy frame
        source = source.collect()
    if hasattr(source, "with_format") and hasattr(source, "features"):  # Hugging Face's data set
        source = source.with_format("arrow")[:]
    if isinstance(source, pa.Table):
        yield _TablePart("table", source)
    elif isinstance(source, pa.RecordBatchReader) or hasattr(source, "__arrow_c_stream__"):
        try:
            reader = pa.RecordBatchReader.from_stream(source)
        except (pa.ArrowException, TypeError) as error:
            raise InputError(f"table: {_one_line(error)}") from None
        yield _StreamPart("table", reader)
    elif isinstance(source, Mapping):
        yield _ColumnsPart("table", source)
    elif isinstance(source, Sequence) and all(isinstance(item, str | Path) for item in source):
        for path in files_of(source):
            yield _file_part(path)
    elif isinstance(source, Iterable) and not isinstance(source, str | bytes | np.ndarray):
        yield _RowsPart("rows", iter(source))
    else:
        raise ArgumentError(f"source: expected files, a folder, a table, columns or rows, got {type(source).__name__}")


def files_of(source: Any) -> list[Path]:
    """Return the files that paths, folders and patterns stand for."""
    sources = [source] if isinstance(source, str | Path) else source
    if not isinstance(sources, Sequence) or not all(isinstance(item, str | Path) for item in sources):
        raise ArgumentError(f"source: expected files, got {type(source).__name__}")
    if not sources:
        raise ArgumentError("source: expected at least one file")
    return list(chain.from_iterable(map(_files, sources)))


def is_rollout_file(path: Path) -> bool:
    """Tell whether a file's name is that of a table."""
    named = path.name not in _SUMMARIES and not path.name.startswith((".", "cache-"))
    return named and _kind_of_file(path)[0] in _SUFFIXES


def _files(source: str | Path) -> list[Path]:
    """Return the files that a path, a folder or a pattern stands for, numbers in their names in order."""
    path = Path(source)
    if path.is_dir():
        found = [p for p in path.rglob("*") if p.is_file() and is_rollout_file(p)]
        tables = [p for p in found if _kind_of_file(p)[0] != ".json"]  # .json beside tables describes them
        found = tables or found
        if not found:
            raise InputError(f"{path}: no rollouts in this folder; expected files that end in {', '.join(_SUFFIXES)}")
    elif not path.exists() and glob.has_magic(str(source)):
        found = [Path(p) for p in glob.glob(str(source), recursive=True) if Path(p).is_file()]  # noqa: PTH207
        if not found:
            raise InputError(f"{source}: no file has such a name")
    elif not path.is_file():
        raise InputError(f"{path}: no such file")
    else:
        return [path]
    return sorted(found, key=lambda p: [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", str(p))])


def _kind_of_file(path: Path) -> tuple[str, str | None]:
    """Return what a file's name says of its content and of its compression."""
    packing = _COMPRESSED.get(path.suffix.lower())
    inner = path.with_suffix("") if packing else path
    return inner.suffix.lower(), packing


def step_of(path: Path) -> int | None:
    """Return the training step in the name of a file or of its folder."""
    name = path.name
    while Path(name).suffix.lower() in (*_COMPRESSED, *_SUFFIXES):
        name = Path(name).stem
    for part in (name, path.parent.name):
        found = _STEP.search(part)
        if found and (part is name or found[1]):
            return int(found[1] or found[2])
    return None


def _file_part(path: Path) -> Part:
    import pyarrow as pa

    kind, packing = _kind_of_file(path)
    readers = {
        ".parquet": _ParquetPart, ".arrow": _ipc_part, ".feather": _ipc_part, ".ipc": _ipc_part, ".npz": _npz_part,
        ".csv": _CsvPart, ".tsv": _CsvPart, ".json": _json_part, ".jsonl": _json_part, ".ndjson": _json_part,
        ".eval": _eval_part,
    }  # fmt: skip
    if kind not in readers or (packing and kind in (".parquet", ".npz", ".eval")):
        raise InputError(
            f"{path}: expected a .parquet, .jsonl, .json, .csv, .tsv, .arrow, .feather, .npz or .eval file, texts also "
            "with .gz or .zst"
        )
    titles = {".arrow": "Arrow", ".feather": "Arrow", ".ipc": "Arrow"}
    try:
        part: Part = readers[kind](path)
    except (pa.ArrowException, OSError, EOFError, *UNUSABLE) as error:
        if isinstance(error, LegatoError):
            raise
        title = titles.get(kind, kind[1:].capitalize() if kind == ".parquet" else kind[1:].upper())
        raise InputError(f"{path}: cannot be read as {title} ({_one_line(error)})") from None
    part.step, part.task, part.path = step_of(path), harness_task(path), path
    return part


def _open(path: Path) -> Any:
    """Open a text, unpacked."""
    import pyarrow as pa

    return pa.input_stream(str(path), compression=_kind_of_file(path)[1])


class _TablePart(Part):
    def __init__(self, name: str, table: Any) -> None:
        super().__init__(name, fields_of_schema(table.schema))
        self.table = table

    def batches(self, names: Sequence[str], prompt: str) -> Iterator[Arrays]:  # noqa: ARG002
        for batch in self.table.to_batches(max_chunksize=_BATCH):
            yield self._arrays(batch, names)

    def _arrays(self, batch: Any, names: Sequence[str]) -> Arrays:
        import pyarrow.compute as pc

        found = {}
        for name in names:
            first, *inner = self.fields[name].path
            array = batch.column(first)
            for step in inner:
                array = pc.struct_field(array, step)
            found[name] = array
        return found


class _StreamPart(_TablePart):
    """A table that comes once: its first batch is kept for the second look."""

    def __init__(self, name: str, reader: Any) -> None:
        Part.__init__(self, name, fields_of_schema(reader.schema))
        self._first = next(reader, None)
        self._rest = reader

    def head(self, name: str) -> Any:
        return None if self._first is None else self._arrays(self._first, [name])[name]

    def batches(self, names: Sequence[str], prompt: str) -> Iterator[Arrays]:  # noqa: ARG002
        first = [] if self._first is None else [self._first]
        for batch in chain(first, self._rest):
            for start in range(0, batch.num_rows, _BATCH):
                yield self._arrays(batch.slice(start, _BATCH), names)


class _ParquetPart(_TablePart):
    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self._path = path
        with pq.ParquetFile(path) as file:
            Part.__init__(self, str(path), fields_of_schema(file.schema_arrow))
            leaves = [file.schema.column(i) for i in range(len(file.schema))]
            self._texts = {leaf.path for leaf in leaves if leaf.logical_type.type == "STRING"}
            self._chunks = [
                {part.path_in_schema: part for part in map(group.column, range(group.num_columns))}
                for group in map(file.metadata.row_group, range(file.num_row_groups))
            ]

    def head(self, name: str) -> Any:
        import pyarrow.parquet as pq

        with pq.ParquetFile(self._path) as reader:
            batch = next(reader.iter_batches(batch_size=1 << 14, columns=self._leaves([name])), None)
        return None if batch is None else self._arrays(batch, [name])[name]

    def batches(self, names: Sequence[str], prompt: str) -> Iterator[Arrays]:
        import pyarrow.parquet as pq

        parts: dict[str, list[Any]] = {}
        for path, part in chain.from_iterable(group.items() for group in self._chunks):
            if (path + ".").startswith(prompt + "."):
                parts.setdefault(path, []).append(part)
        # Also of texts within chats: to tell rows apart by codes is quick.
        coded = [path for path, chunks in parts.items() if path in self._texts and all(map(_is_coded, chunks))]
        every = chain.from_iterable(parts.values())
        longest = max((part.total_uncompressed_size / max(part.num_values, 1) for part in every), default=0)
        size = max(1024, min(_BATCH, int(_BATCH_BYTES / max(longest, 1))))
        groups: list[Any] = [list(range(len(self._chunks)))]
        if coded and coded != [prompt]:  # Arrow puts no codes of two dictionaries into one nested array
            groups = [[group] for group in groups[0]]
        with pq.ParquetFile(self._path, read_dictionary=coded) as reader:
            for some in groups:
                for batch in reader.iter_batches(batch_size=size, row_groups=some, columns=self._leaves(names)):
                    yield self._arrays(batch, names)

    def _leaves(self, names: Sequence[str]) -> list[str]:
        return [".".join(self.fields[name].path) for name in names]


def _is_coded(part: Any) -> bool:
    """Tell whether a column chunk of Parquet is codes of a dictionary throughout, by its size.

    Writers give up on a dictionary that grows too large; to read what they then wrote as a dictionary is slow.
    """
    if not part.has_dictionary_page or part.dictionary_page_offset is None:
        return False
    pages = part.total_compressed_size - (part.data_page_offset - part.dictionary_page_offset)
    return bool(pages <= 2.5 * part.num_values + 1024)


def _ipc_part(path: Path) -> Part:
    """Arrow's file and stream format, and Feather."""
    import pyarrow as pa
    import pyarrow.feather as pf

    if _kind_of_file(path)[1]:
        return _StreamPart(str(path), pa.ipc.open_stream(_open(path)))
    with path.open("rb") as file:
        start = file.read(6)
    if start[:4] == b"FEA1":
        return _TablePart(str(path), pf.read_table(path))
    source = pa.memory_map(str(path))
    if start != b"ARROW1":
        return _StreamPart(str(path), pa.ipc.open_stream(source))
    file = pa.ipc.open_file(source)
    batches = (file.get_batch(i) for i in range(file.num_record_batches))
    return _StreamPart(str(path), pa.RecordBatchReader.from_batches(file.schema, batches))


class _CsvPart(_TablePart):
    def __init__(self, path: Path) -> None:
        self._path = path
        with _open(path) as stream, self._reader(stream) as reader:
            Part.__init__(self, str(path), fields_of_schema(reader.schema))

    def _reader(self, stream: Any, names: Sequence[str] | None = None) -> Any:
        import pyarrow.csv as pc

        return pc.open_csv(
            stream,
            read_options=pc.ReadOptions(block_size=_BLOCK),
            parse_options=pc.ParseOptions(
                delimiter="\t" if _kind_of_file(self._path)[0] == ".tsv" else ",", newlines_in_values=True
            ),
            convert_options=pc.ConvertOptions(include_columns=names),
        )

    def batches(self, names: Sequence[str], prompt: str) -> Iterator[Arrays]:  # noqa: ARG002
        with _open(self._path) as stream, self._reader(stream, names) as reader:
            for batch in reader:
                yield self._arrays(batch, names)


def _npz_part(path: Path) -> Part:
    import pyarrow as pa

    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except DAMAGED_ARCHIVE as error:
        raise InputError(f"{path}: cannot be read as NPZ ({_one_line(error)})") from None
    shapes = {name: array.shape for name, array in arrays.items()}
    if any(len(shape) != 1 for shape in shapes.values()) or len(set(shapes.values())) > 1:
        raise InputError(f"{path}: expected columns of one length, got {shapes}")
    return _TablePart(str(path), pa.table({name: pa.array(array) for name, array in arrays.items()}))


class _ColumnsPart(Part):
    """Python's lists or arrays by their names."""

    def __init__(self, name: str, columns: Mapping[str, Any]) -> None:
        self._columns = {str(key): values for key, values in columns.items()}
        lengths = {}
        for key, values in self._columns.items():
            try:
                lengths[key] = len(values)
                listed = hasattr(values, "__getitem__") and not isinstance(values, Mapping)
            except TypeError:
                listed = False
            if not listed:
                raise InputError(f"{name}: column {key!r}: expected a list or an array, got {type(values).__name__}")
        if len(set(lengths.values())) > 1:
            raise InputError(f"{name}: expected columns of one length, got {lengths}")
        count = min(_HEAD, *lengths.values()) if lengths else 0
        rows = [{key: values[i] for key, values in self._columns.items()} for i in range(count)]
        super().__init__(name, _fields_of_rows(rows))

    def batches(self, names: Sequence[str], prompt: str) -> Iterator[Arrays]:
        import pyarrow as pa

        count = len(next(iter(self._columns.values()), []))
        for start in range(0, count, _BATCH):
            found = {}
            for name in names:
                first, *inner = self.fields[name].path
                values = self._columns[first][start : start + _BATCH]
                if isinstance(values, np.ndarray | pa.Array | pa.ChunkedArray) and not inner:
                    try:
                        array = pa.array(values)
                    except UNUSABLE as error:
                        raise InputError(f"{self.name}: column {name!r}: {_one_line(error)}") from None
                    found[name] = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
                else:
                    column = [_inside(value, inner) for value in values]
                    found[name] = _python_column(self, name, column, start, name == prompt)
            yield found


class _RowsPart(Part):
    """Python's mappings, one a rollout; they come once."""

    def __init__(self, name: str, rows: Iterator[Any]) -> None:
        self._rows, self._head = rows, []
        self.name = name
        self._head = [self._row(i, row) for i, row in enumerate(islice(rows, _HEAD))]
        super().__init__(name, _fields_of_rows(self._head))
        if self._head:
            self._learn(self._head[0])

    def _row(self, number: int, row: Any) -> Mapping[str, Any]:
        if isinstance(row, Mapping):
            return row
        if self.name == "rows":
            raise ArgumentError(
                f"source: expected files, a folder, a table, columns or rows, got {type(row).__name__} as row {number}"
            )
        raise InputError(f"{self.name}: row {number}: expected an object, got {type(row).__name__}")

    def head(self, name: str) -> Any:
        more = [self._row(len(self._head) + i, row) for i, row in enumerate(islice(self._rows, 1 << 14))]
        self._head += more
        return self._arrays(self._head, [name], name, 0)[name]

    def batches(self, names: Sequence[str], prompt: str) -> Iterator[Arrays]:
        start = 0
        rows = chain(self._head, self._rows)
        while batch := [self._row(start + i, row) for i, row in enumerate(islice(rows, _BATCH))]:
            yield self._arrays(batch, names, prompt, start)
            start += len(batch)

    def _arrays(self, rows: Sequence[Mapping[str, Any]], names: Sequence[str], prompt: str, start: int) -> Arrays:
        return {
            name: _python_column(
                self, name, [_inside(row, self.fields[name].path) for row in rows], start, name == prompt
            )
            for name in names
        }


def _inside(value: Any, path: Sequence[str]) -> Any:
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


_KINDS: tuple[tuple[Any, Kind], ...] = (
    ((bool, np.bool_), "boolean"), ((int, float, np.number), "number"), (str, "text"), (Mapping, "object"),
    ((list, tuple, np.ndarray), "list"),
)  # fmt: skip


def _fields_of_rows(rows: Iterable[Mapping[str, Any]], outer: tuple[str, ...] = ()) -> dict[str, Field]:
    """Return the columns of mappings, those inside of others with dotted names; rows may differ."""
    found: dict[str, Field] = {}
    for row in rows:
        for key, value in row.items():
            path = (*outer, str(key))
            kind = next((name for types, name in _KINDS if isinstance(value, types)), "null" if value is None else None)
            if kind == "object" and len(path) < 4:
                for name, field in _fields_of_rows([value], path).items():
                    found.setdefault(name, field)
            name = ".".join(path)
            if name not in found or found[name].kind == "null":
                found[name] = Field(path, kind or "other")
    return found


def _python_column(part: Part, name: str, values: list[Any], start: int, key: bool) -> Any:
    """Convert Python's values; prompts to integers or strings, rewards to numbers, strings or lists of numbers."""
    import pyarrow as pa

    values = [value.item() if isinstance(value, np.generic) else value for value in values]
    kinds = {type(value) for value in values} - {type(None)}
    nested = any(issubclass(kind, Mapping | list | tuple | np.ndarray) for kind in kinds)
    if key:
        if kinds <= {int, bool} and kinds:
            return int64_or_decimal(values)
        wrong = next((i for i, v in enumerate(values) if isinstance(v, int | float)), None)
        if wrong is not None and kinds - {int, bool, float}:
            first = next(i for i, v in enumerate(values) if v is not None)
            expected = type(values[first]).__name__ if first != wrong else "string"
            wrong = (
                wrong
                if first != wrong
                else next(i for i, v in enumerate(values) if v is not None and not isinstance(v, int | float))
            )
            raise part._error(
                start + wrong, name, f"expected {'string' if expected == 'str' else expected}, got {values[wrong]!r}"
            )
        return pa.array([_key(part, name, start + row, value) for row, value in enumerate(values)], pa.string())
    if nested:
        values = [[v] if isinstance(v, int | float | str) else v for v in values]
        kind: Any = pa.list_(pa.float64())
    else:
        kind = pa.string() if str in kinds else pa.float64()
        values = [v if v is None or kind == pa.float64() else str(v) for v in values]
    try:
        return pa.array([float(v) if isinstance(v, bool) else v for v in values], kind)
    except UNUSABLE:
        for row, value in enumerate(values):
            try:
                pa.array([value], kind)
            except UNUSABLE:
                raise part._error(start + row, name, f"expected numbers, got {_short(value)}") from None
        raise


def _key(part: Part, name: str, row: int, value: Any) -> str | None:
    try:
        text = value if value is None or isinstance(value, str) else canonical_json(value)
        if text is not None and not text.isascii():
            text.encode()
    except UNUSABLE as error:
        raise part._error(row, name, f"expected a text or JSON ({_one_line(error)})") from None
    return text


def _json_part(path: Path) -> Part:
    """Lines of objects, an array of them, columns by name, a wandb table, or EvalPlus's results."""
    with _open(path) as stream:
        start = stream.read(1 << 12).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if start == b"[" or _kind_of_file(path)[0] == ".json":
        with _open(path) as stream:
            text = stream.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise InputError(f"{path}: longer than {MOST_BYTES} bytes; lines of JSON (.jsonl) may be of any number")
        try:
            found = parse_json(text.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
        except ValueError as error:
            if not str(error).startswith("Extra data"):
                raise InputError(f"{path}: not JSON ({error})") from None
        else:
            return _document_part(str(path), found)
    return json_lines_part(str(path), path)


def _document_part(name: str, found: Any) -> Part:
    if not isinstance(found, list | dict):
        raise InputError(f"{name}: expected an array or an object, got {type(found).__name__}")
    rows = found if isinstance(found, list) else rows_of_document(found)
    return _ColumnsPart(name, rows) if isinstance(rows, Mapping) else _RowsPart(name, iter(rows))


def json_lines_part(name: str, source: Path | bytes, step: int | None = None) -> Part:
    """Read lines of JSON objects, of a file or from memory."""
    lines = _JsonLinesPart(name, io.BytesIO(source) if isinstance(source, bytes) else source)
    part = _RowsPart(name, rows_of_tables(name, lines.rows())) if lines.of_tables else lines
    part.step = step
    return part


def _eval_part(path: Path) -> Part:
    try:
        return _RowsPart(str(path), archived_samples(path))
    except DAMAGED_ARCHIVE as error:
        if isinstance(error, LegatoError):
            raise
        raise InputError(f"{path}: cannot be read as a log of Inspect ({_one_line(error)})") from None


_NULL, _NUMBER, _TEXT, _ESCAPED, _BOOLEAN, _ARRAY, _OBJECT = range(1, 8)  # legato::rft::JsonKind


class _JsonLinesPart(Part):
    def __init__(self, name: str, source: Path | BinaryIO) -> None:
        self._source = source
        self._known: dict[str, tuple[NameTable, list[str | None]]] = {}  # JSON and its keys, by the quotes around it
        self.name = name
        head = list(islice(self.rows(), _HEAD))
        super().__init__(name, _fields_of_rows(head))
        self.of_tables = bool(head) and is_table(head[0])
        if head:
            self._learn(head[0])

    def _blocks(self, size: int = _BLOCK) -> Iterator[bytes]:
        """Yield whole lines, none longer than a block."""
        if not isinstance(self._source, Path):
            self._source.seek(0)
        stream = _open(self._source) if isinstance(self._source, Path) else self._source
        rest, lines, first = b"", 0, True
        while block := stream.read(size):
            block = rest + block
            if first:
                block, first = block.removeprefix(b"\xef\xbb\xbf"), False
            cut, end = block.rfind(b"\n") + 1, block.find(b"\n")
            if (end if cut else len(block)) > _BLOCK:
                raise InputError(f"{self.name}: line {lines + 1}: longer than {_BLOCK} bytes")
            lines += block.count(b"\n")
            rest = block[cut:]
            if cut:
                yield block[:cut]
        if rest.strip():
            yield rest

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the lines, parsed."""
        number = 1
        for block in self._blocks():
            for line in io.BytesIO(block):
                if line.strip():
                    yield self._row(line, number)
                number += 1

    def _row(self, line: bytes, number: int) -> dict[str, Any]:
        where = f"{self.name}: line {number}"
        try:
            row = parse_json(line.decode())
        except UnicodeDecodeError as error:
            raise InputError(f"{where}: not UTF-8 text ({error.reason} at byte {error.start})") from None
        except ValueError as error:
            raise InputError(f"{where}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise InputError(f"{where}: expected an object, got {type(row).__name__}")
        return row

    def head(self, name: str) -> Any:
        return next(self._batches([name], name, _HEAD_BYTES), {}).get(name)

    def batches(self, names: Sequence[str], prompt: str) -> Iterator[Arrays]:
        return self._batches(names, prompt, _BLOCK)

    def _batches(self, names: Sequence[str], prompt: str, size: int) -> Iterator[Arrays]:
        paths = [[json.dumps(key)[1:-1] for key in self.fields[name].path] for name in names]
        done = lines = 0
        for block in self._blocks(size):
            text = np.frombuffer(block, np.uint8)
            count = int(np.count_nonzero(text == 10)) + 1
            fields = np.zeros((count, len(names), 3), np.int64)
            rows, bad = _core.rft_json_fields(text, paths, fields)
            if bad < len(block):
                number = lines + block.count(b"\n", 0, bad) + 1
                self._row(block[bad:].split(b"\n", 1)[0], number)
                raise InputError(f"{self.name}: line {number}: not JSON")
            yield {
                name: self._column(text, fields[:rows, at], name, done, name == prompt) for at, name in enumerate(names)
            }
            done += rows
            lines += count - 1

    def _column(self, text: NDArray[np.uint8], fields: NDArray[np.int64], name: str, start: int, key: bool) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        kinds = fields[:, 2]
        raw = _slices(text, fields)
        try:
            raw = raw.cast(pa.string())
        except pa.ArrowException as error:
            raise InputError(f"{self.name}: column {name!r}, rows from {start} on: not UTF-8 ({error})") from None
        there = set(np.unique(kinds).tolist())
        if there & {0, _NULL}:
            raw = pc.if_else(pa.array(kinds > _NULL), raw, pa.scalar(None, pa.string()))
        if key:
            return self._keys(raw, kinds, there, name, start)
        if there & {_ARRAY, _OBJECT}:
            values = [None if v is None else self._value(v, name, start + row) for row, v in enumerate(raw.to_pylist())]
            return _python_column(self, name, values, start, False)
        if there <= {0, _NULL, _NUMBER}:
            return self._cast(raw, pa.float64(), name, start)
        if there <= {0, _NULL, _NUMBER, _BOOLEAN}:
            raw = pc.if_else(pc.equal(raw, "true"), "1", pc.if_else(pc.equal(raw, "false"), "0", raw))
            return self._cast(raw, pa.float64(), name, start)
        return raw

    def _keys(self, raw: Any, kinds: NDArray[np.int64], there: set[int], name: str, start: int) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        if there & {_NUMBER, _BOOLEAN}:
            if there & {_TEXT, _ESCAPED, _ARRAY, _OBJECT}:
                plain = np.isin(kinds, [_NUMBER, _BOOLEAN])
                first = int(np.argmax(kinds > _NULL))
                row = int(np.argmax(plain != plain[first]))
                expected = "a number" if plain[first] else "string"
                raise self._error(start + row, name, f"expected {expected} as in the rows before, got {raw[row]}")
            return int64_or_decimal(raw) if _BOOLEAN not in there else raw
        nested = np.isin(kinds, [_ARRAY, _OBJECT])
        for rows, quote in ((kinds == _ESCAPED, '"'), (nested, "")):
            if not rows.any():
                continue
            found = self._parsed(raw.filter(pa.array(rows)), quote, name, start + np.flatnonzero(rows))
            if rows.all():
                return found
            raw = pc.replace_with_mask(raw, pa.array(rows), found.dictionary_decode())
        return raw

    def _parsed(self, raw: Any, quote: str, name: str, rows: NDArray[np.int64]) -> Any:
        """Return the keys of JSON, each parsed once."""
        import pyarrow as pa

        known, keys = self._known.get(quote, (NameTable(), []))
        if sum(len(key or "") for key in keys) > _REMEMBERED:
            known, keys = NameTable(), []
        self._known[quote] = known, keys
        codes = known.number(raw)
        places, first = np.unique(codes, return_index=True)
        for at in first[np.searchsorted(places, len(keys)) :].tolist():  # new ones, in the order met
            row = int(rows[at])
            keys.append(_key(self, name, row, self._value(f"{quote}{raw[at].as_py()}{quote}", name, row)))
        found = np.searchsorted(places, codes).astype(np.int32)
        return pa.DictionaryArray.from_arrays(found, pa.array([keys[place] for place in places.tolist()], pa.string()))

    def _value(self, text: str, name: str, row: int) -> Any:
        try:
            return parse_json(text)
        except ValueError as error:
            raise self._error(row, name, f"not JSON ({error})") from None

    def _cast(self, raw: Any, kind: Any, name: str, start: int) -> Any:
        import pyarrow as pa

        try:
            return raw.cast(kind)
        except pa.ArrowException:
            for row, value in enumerate(raw.to_pylist()):
                try:
                    pa.scalar(value, pa.string()).cast(kind)
                except pa.ArrowException:
                    raise self._error(start + row, name, f"expected numbers, got {value}") from None
            raise


def _slices(text: NDArray[np.uint8], fields: NDArray[np.int64]) -> Any:
    """Pieces of a text, which are in its order: the gaps between them are pieces too, and left out."""
    import pyarrow as pa

    offsets = np.zeros(2 * len(fields) + 1, np.int64)
    offsets[0:-1:2], offsets[1::2] = fields[:, 0], fields[:, 1]
    offsets[-1] = offsets[-2] if len(fields) else 0
    pieces = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), 2 * len(fields), [None, pa.py_buffer(offsets), pa.py_buffer(text)]
    )
    return pieces.take(pa.array(np.arange(0, 2 * len(fields), 2))).cast(pa.binary())


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _short(value: Any) -> str:
    return f"{'string ' if isinstance(value, str) else ''}{shown(value)}"
