"""Rollouts from files and tables, in batches: prompt, reward, length and log-probabilities; moments per prompt.

Known layouts: TRL's completions_*.parquet (step, prompt, completion, one column a reward function, advantage) and
verl's JSONL dumps (input, output, score); otherwise the columns are named or guessed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from legato import _core
from legato._arrays import Float64
from legato.errors import ArgumentError, DependencyError, InputError

__all__ = ["Columns", "PromptMoments", "read_rollouts"]

PROMPT_COLUMNS = ("prompt_id", "uid", "index", "prompt", "input")
REWARD_COLUMNS = ("reward", "score")
_TRL = {"prompt", "completion", "advantage"}
_BATCH = 1 << 19  # rollouts held at once


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns to read; None: guess.

    Attributes
    ----------
    prompt : str, optional
        By default the first there is of prompt_id, uid, index, prompt, input.
    reward : str, optional
        By default reward or score; in TRL's layout the sum of the reward functions. Names with commas are added.
    logprobs : str, optional
        Lists of the log-probabilities of each rollout's tokens; not read unless named.
    step : str, optional
        With `steps` only.
    steps : (int, int), optional
        First and last step to count, both included.
    """

    prompt: str | None = None
    reward: str | None = None
    logprobs: str | None = None
    step: str | None = None
    steps: tuple[int, int] | None = None


@dataclass(slots=True)
class PromptMoments:
    """Moments of the rewards of each prompt, merged as they come; memory goes with prompts, not with rollouts.

    Attributes
    ----------
    reward_columns : list of str
        Where the rewards came from.
    rollouts, dropped : int
        Counted, and left out because the reward was not a finite number.
    """

    reward_columns: list[str] = field(default_factory=list)
    rollouts: int = 0
    dropped: int = 0
    _parts: list[tuple[Any, dict[str, NDArray[Any]]]] = field(default_factory=list)
    _waiting: int = 0
    _merged: int = 0

    def add(self, keys: Any, rewards: Float64, lengths: Float64 | None, loose: Float64 | None) -> None:
        """Add a batch: prompts (an Arrow array), rewards, and tokens and sum of 1 - p of each rollout."""
        if len(rewards) == 0:
            return
        codes, unique = _codes(keys)
        count = len(unique)
        n, (least, largest, mean, m2) = np.empty(count, np.int64), [np.empty(count) for _ in range(4)]
        status, bad = _core.rft_group_moments(rewards, codes, n, least, largest, mean, m2)
        assert status == 0, (status, bad)  # the rewards were checked
        part = {"n": n, "least": least, "largest": largest, "mean": mean, "m2": m2}
        if lengths is not None and loose is not None:
            part["length"] = np.bincount(codes, weights=lengths, minlength=count)
            part["loose"] = np.bincount(codes, weights=loose, minlength=count)
        self.rollouts += len(rewards)
        self._parts.append((unique, part))
        self._waiting += count
        if self._waiting > 2 * self._merged + 4 * _BATCH:
            self._merge()

    def finish(self) -> tuple[list[Any], dict[str, NDArray[Any]]]:
        """Return the prompts in order, and n, least, largest, mean, m2 (and sums of length, loose) of each."""
        if not self._parts:
            return [], {}
        self._merge()
        import pyarrow.compute as pc

        keys, part = self._parts[0]
        order = pc.sort_indices(keys)
        rank = order.to_numpy()
        return keys.take(order).to_pylist(), {name: values[rank] for name, values in part.items()}

    def _merge(self) -> None:
        if len(self._parts) > 1:
            import pyarrow as pa

            kinds = {keys.type for keys, _ in self._parts}
            if len(kinds) > 1:
                raise InputError(f"prompt ids: expected one type in all files, got {', '.join(map(str, kinds))}")
            encoded = pa.chunked_array([keys for keys, _ in self._parts]).combine_chunks().dictionary_encode()
            if isinstance(encoded, pa.ChunkedArray):
                encoded = encoded.combine_chunks()
            codes, unique = encoded.indices.to_numpy().astype(np.int64), encoded.dictionary
            names = set(self._parts[0][1])
            names.intersection_update(*(part for _, part in self._parts))
            joined = {name: np.concatenate([part[name] for _, part in self._parts]) for name in names}
            self._parts = [(unique, _merged(codes, len(unique), joined))]
        self._merged = self._waiting = len(self._parts[0][0])


def _merged(codes: NDArray[np.int64], count: int, part: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Chan's formula, shifted by the least of each prompt so that constant prompts stay exactly so."""
    n = np.bincount(codes, weights=part["n"], minlength=count)
    least, largest = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(least, codes, part["least"])
    np.maximum.at(largest, codes, part["largest"])
    shifted = part["mean"] - least[codes]
    mean = np.bincount(codes, weights=part["n"] * shifted, minlength=count) / n
    m2 = np.bincount(codes, weights=part["m2"] + part["n"] * (shifted - mean[codes]) ** 2, minlength=count)
    out = {"n": n.astype(np.int64), "least": least, "largest": largest, "mean": mean + least, "m2": m2}
    for name in ("length", "loose"):
        if name in part:
            out[name] = np.bincount(codes, weights=part[name], minlength=count)
    return out


def _codes(keys: Any) -> tuple[NDArray[np.int64], Any]:
    """Give each prompt of a batch a number; rollouts of one prompt often stand together, so runs come first."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(keys, pa.ChunkedArray):
        keys = keys.combine_chunks()
    if pa.types.is_dictionary(keys.type):
        indices = keys.indices.to_numpy()
        used = np.zeros(len(keys.dictionary), bool)
        used[indices] = True
        return (np.cumsum(used) - 1)[indices], keys.dictionary.filter(pa.array(used))
    head = keys.slice(0, 4096)
    if len(head) > 1 and pc.sum(pc.not_equal(head.slice(1), head.slice(0, len(head) - 1))).as_py() * 2 < len(head):
        runs = pc.run_end_encode(keys)
        encoded = runs.values.dictionary_encode()
        lengths = np.diff(runs.run_ends.to_numpy(), prepend=0)
        return np.repeat(encoded.indices.to_numpy().astype(np.int64), lengths), encoded.dictionary
    encoded = keys.dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary


def read_rollouts(
    source: Any,
    columns: Columns,
    nan: Literal["error", "drop"] = "error",
    value_range: tuple[float, float] = (-np.inf, np.inf),
    progress: Any = None,
) -> PromptMoments:
    """Read rollouts once, in batches.

    Parameters
    ----------
    source : path, sequence of paths, pyarrow.Table, mapping of columns, or sequence of mappings (rows)
        Files end in .parquet, .jsonl (or .ndjson, .json) or .npz.
    columns : Columns
    nan : {"error", "drop"}
        What to do with rewards that are missing, NaN or infinite.
    value_range : (float, float)
        Least and largest possible reward.
    progress : callable, optional
        Called with the rollouts read so far.

    Returns
    -------
    PromptMoments

    Raises
    ------
    InputError
        A file or a value cannot be used; the message names file, row and column.
    """
    if nan not in ("error", "drop"):
        raise ArgumentError(f"nan: expected error or drop, got {nan!r}")
    try:
        import pyarrow as pa
    except ImportError:
        raise DependencyError('pyarrow is missing: pip install "legato[rft]"') from None
    moments = PromptMoments()
    for name, batches in _sources(source, columns):
        row = 0
        try:
            for roles, batch in batches:
                _add_batch(moments, pa.table(batch), columns, roles, nan, value_range, name, row)
                row += batch.num_rows
                if progress is not None:
                    progress(moments.rollouts)
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{name}: {_one_line(error)}") from None
    return moments


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


@dataclass(frozen=True, slots=True)
class _Roles:
    """Which columns of a file say what."""

    prompt: str
    rewards: list[str]


def _sources(source: Any, columns: Columns) -> Iterator[tuple[str, Iterable[tuple[_Roles, Any]]]]:
    import pyarrow as pa

    if isinstance(source, str | Path):
        source = [source]
    if isinstance(source, pa.Table):
        yield "table", _table_batches(source, columns, "table")
    elif isinstance(source, Mapping):
        try:
            table = pa.table({k: pa.array(v) for k, v in source.items()})
        except (pa.ArrowException, TypeError) as error:
            raise InputError(f"table: {_one_line(error)}") from None
        yield "table", _table_batches(table, columns, "table")
    elif isinstance(source, Sequence) and all(isinstance(item, str | Path) for item in source):
        if not source:
            raise ArgumentError("source: expected at least one file")
        for path in map(Path, source):
            yield str(path), _file_batches(path, columns)
    elif isinstance(source, Sequence) and all(isinstance(item, Mapping) for item in source):
        try:
            table = pa.Table.from_pylist([dict(item) for item in source])
        except (pa.ArrowException, TypeError) as error:
            raise InputError(f"rows: {_one_line(error)}") from None
        yield "rows", _table_batches(table, columns, "rows")
    else:
        raise ArgumentError(f"source: expected files, a table, columns or rows, got {type(source).__name__}")


def _table_batches(table: Any, columns: Columns, name: str) -> Iterator[tuple[_Roles, Any]]:
    roles, needed = _needed(table.schema, columns, name)
    for batch in table.select(needed).to_batches(max_chunksize=_BATCH):
        yield roles, batch


def _file_batches(path: Path, columns: Columns) -> Iterator[tuple[_Roles, Any]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet_batches(path, columns)
    if suffix in (".jsonl", ".ndjson", ".json"):
        return _json_batches(path, columns)
    if suffix == ".npz":
        return _npz_batches(path, columns)
    raise InputError(f"{path}: expected a .parquet, .jsonl or .npz file")


def _parquet_batches(path: Path, columns: Columns) -> Iterator[tuple[_Roles, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({_one_line(error)})") from None
    with file:
        roles, needed = _needed(file.schema_arrow, columns, str(path))
        as_codes = [roles.prompt] if pa.types.is_string(file.schema_arrow.field(roles.prompt).type) else []
    with pq.ParquetFile(path, read_dictionary=as_codes) as coded:
        for batch in coded.iter_batches(batch_size=_BATCH, columns=needed):
            yield roles, batch


def _npz_batches(path: Path, columns: Columns) -> Iterator[tuple[_Roles, Any]]:
    import zipfile

    import pyarrow as pa

    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            roles, needed = _needed(pa.schema([(name, pa.null()) for name in archive.files]), columns, str(path))
            arrays = {name: archive[name] for name in needed}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be read as NPZ ({_one_line(error)})") from None
    lengths = {name: array.shape for name, array in arrays.items()}
    if any(len(shape) != 1 for shape in lengths.values()) or len(set(lengths.values())) > 1:
        raise InputError(f"{path}: expected columns of one length, got {lengths}")
    for batch in pa.table({name: pa.array(array) for name, array in arrays.items()}).to_batches(max_chunksize=_BATCH):
        yield roles, batch


def _json_batches(path: Path, columns: Columns) -> Iterator[tuple[_Roles, Any]]:
    """Arrow's reader for the columns that matter; where it stumbles, a plain one that knows the line and the column."""
    import pyarrow as pa
    import pyarrow.json as pj

    first = next(_json_rows(path), None)
    if first is None:
        return
    try:
        one = pa.Table.from_pylist([first])
    except pa.ArrowException as error:
        raise InputError(f"{path}: row 0: {_one_line(error)}") from None
    roles, needed = _needed(one.schema, columns, str(path))
    rewards = set(roles.rewards)
    schema = pa.schema(
        [
            (name, pa.float64() if name in rewards and not pa.types.is_string(one.schema.field(name).type) else kind)
            for name, kind in ((f.name, f.type) for f in one.schema)
            if name in needed
        ]
    )
    options = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    try:
        with pj.open_json(path, read_options=pj.ReadOptions(block_size=1 << 24), parse_options=options) as reader:
            for batch in reader:
                yield roles, batch
    except pa.ArrowException as error:
        _find_json_trouble(path, schema)
        raise InputError(f"{path}: {_one_line(error)}") from None


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        try:
            for number, line in enumerate(lines):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise InputError(f"{path}: row {number}: not JSON ({error.msg})") from None
                if not isinstance(row, dict):
                    raise InputError(f"{path}: row {number}: expected an object, got {type(row).__name__}")
                yield row
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None


def _find_json_trouble(path: Path, schema: Any) -> None:
    import pyarrow as pa

    for number, row in enumerate(_json_rows(path)):
        for column in schema:
            try:
                value = row.get(column.name)
                if isinstance(value, bool | str) and pa.types.is_floating(column.type):
                    raise pa.ArrowInvalid(f"got {value!r}")
                pa.array([value], column.type)
            except (pa.ArrowException, TypeError) as error:
                raise InputError(
                    f"{path}: row {number}, column {column.name!r}: expected {column.type} ({_one_line(error)})"
                ) from None


def _needed(schema: Any, columns: Columns, name: str) -> tuple[_Roles, list[str]]:
    roles = _Roles(_prompt_column(schema, columns, name), _reward_columns(schema, columns, name))
    wanted = [roles.prompt, *roles.rewards]
    if columns.logprobs is not None:
        wanted.append(columns.logprobs)
    if columns.steps is not None:
        wanted.append(columns.step or "step")
    for column in wanted:
        if column not in schema.names:
            raise InputError(f"{name}: no column {column!r}; there are {', '.join(map(repr, schema.names))}")
    return roles, list(dict.fromkeys(wanted))


def _prompt_column(schema: Any, columns: Columns, name: str) -> str:
    if columns.prompt is not None:
        return columns.prompt
    for column in PROMPT_COLUMNS:
        if column in schema.names:
            return column
    raise InputError(f"{name}: no prompt column ({', '.join(PROMPT_COLUMNS)}); name it with --prompt-col")


def _reward_columns(schema: Any, columns: Columns, name: str) -> list[str]:
    import pyarrow as pa

    if columns.reward is not None:
        return [part.strip() for part in columns.reward.split(",")]
    for column in REWARD_COLUMNS:
        if column in schema.names:
            return [column]
    if set(schema.names) >= _TRL:
        found = [f.name for f in schema if f.name not in {*_TRL, "step"} and pa.types.is_floating(f.type)]
        if found:
            return found
    raise InputError(f"{name}: no reward column ({', '.join(REWARD_COLUMNS)}); name it with --reward-col")


def _add_batch(
    moments: PromptMoments,
    table: Any,
    columns: Columns,
    roles: _Roles,
    nan: str,
    value_range: tuple[float, float],
    name: str,
    first_row: int,
) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    names = roles.rewards
    if not moments.reward_columns:
        moments.reward_columns = names
    rows = np.arange(table.num_rows)
    if columns.steps is not None:
        steps = table[columns.step or "step"]
        inside = pc.and_(pc.greater_equal(steps, columns.steps[0]), pc.less_equal(steps, columns.steps[1]))
        rows = np.flatnonzero(inside.to_numpy(zero_copy_only=False).astype(bool))
        table = table.filter(inside)
    parts = [_numbers(table[column], name, column) for column in names]
    rewards = parts[0] if len(parts) == 1 else np.sum(parts, axis=0)
    keys = _keys(table[roles.prompt])
    if keys.null_count:
        at = int(rows[int(np.argmax(pc.is_null(keys).to_numpy(zero_copy_only=False)))])
        raise InputError(f"{name}: row {first_row + at}, column {roles.prompt!r}: missing")
    lengths = loose = None
    if columns.logprobs is not None:
        lengths, loose = _token_sums(table[columns.logprobs].combine_chunks(), name, columns.logprobs, first_row)
    finite = np.isfinite(rewards)
    if not finite.all():
        at = int(np.argmin(finite))
        if nan == "error":
            where = f"{name}: row {first_row + int(rows[at])}, column {'+'.join(names)!r}"
            raise InputError(f"{where}: expected a finite reward, got {rewards[at]} (--nan drop leaves such rows out)")
        moments.dropped += int((~finite).sum())
        keys, rewards, rows = keys.filter(pa.array(finite)), rewards[finite], rows[finite]
        lengths, loose = (None if x is None else x[finite] for x in (lengths, loose))
    outside = (rewards < value_range[0]) | (rewards > value_range[1])
    if outside.any():
        at = int(np.argmax(outside))
        where = f"{name}: row {first_row + int(rows[at])}, column {'+'.join(names)!r}"
        raise InputError(f"{where}: reward {rewards[at]:g} is outside of [{value_range[0]:g}, {value_range[1]:g}]")
    moments.add(keys, rewards, lengths, loose)


def _numbers(column: Any, name: str, label: str) -> Float64:
    import pyarrow as pa

    kind = column.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise InputError(f"{name}: column {label!r}: expected numbers, got {kind}")
    values = column.combine_chunks()
    values = values if pa.types.is_float64(kind) else values.cast(pa.float64(), safe=False)
    found: Float64 = values.to_numpy(zero_copy_only=False)
    return found


def _keys(column: Any) -> Any:
    """Prompt ids as integers or strings; chats and other nested prompts as JSON."""
    import pyarrow as pa

    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_integer(array.type):
        return array.cast(pa.int64())
    if pa.types.is_string(array.type) or pa.types.is_dictionary(array.type):
        return array
    if pa.types.is_nested(array.type):
        return pa.array(
            [None if v is None else json.dumps(v, sort_keys=True, default=str) for v in array.to_pylist()], pa.string()
        )
    return array.cast(pa.string())


def _token_sums(lists: Any, name: str, column: str, first_row: int) -> tuple[Float64, Float64]:
    import pyarrow as pa

    if not (pa.types.is_list(lists.type) or pa.types.is_large_list(lists.type)):
        raise InputError(f"{name}: column {column!r}: expected lists of log-probabilities, got {lists.type}")
    offsets = lists.offsets.to_numpy()
    values = lists.flatten().cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    lengths = np.diff(offsets)
    if lists.null_count:
        lengths = np.where(lists.is_null().to_numpy(zero_copy_only=False), 0, lengths)
    bad = ~(values <= 0)
    if bad.any():
        row = int(np.searchsorted(np.cumsum(lengths), int(np.argmax(bad)), side="right"))
        raise InputError(
            f"{name}: row {first_row + row}, column {column!r}: expected log-probabilities <= 0, got {values[bad][0]}"
        )
    total = np.concatenate([[0.0], np.cumsum(1.0 - np.exp(values))])
    ends = np.cumsum(lengths)
    return lengths.astype(np.float64), total[ends] - total[ends - lengths]
