"""Rollouts from files and tables, in batches: prompt, reward, length and log-probabilities; moments per prompt.

Known layouts: TRL's completions_*.parquet (step, prompt, completion, one column a reward function, NaN where that one
does not apply, advantage) and verl's JSONL dumps (input, output, score); else columns are named or guessed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from legato import _core
from legato._arrays import Float64
from legato._extras import install_command
from legato._files import DAMAGED_ARCHIVE, json_lines
from legato._scalars import as_choice
from legato.errors import ArgumentError, DependencyError, InputError

__all__ = ["Columns", "NameTable", "PromptMoments", "files_of", "read_rollouts"]

NanRule: TypeAlias = Literal["error", "drop"]
NAN_RULES: tuple[NanRule, ...] = get_args(NanRule)
PROMPT_COLUMNS = ("prompt_id", "uid", "index", "prompt", "input")
REWARD_COLUMNS = ("reward", "score")
_TRL = {"prompt", "completion", "advantage"}
_BATCH = 1 << 18  # rollouts held at once, fewer where prompts are long
_BATCH_BYTES = 1 << 26
_MOST_ROW_BYTES = 1 << 24  # of JSON, which Arrow reads in blocks of that size
# What Arrow raises for a Python value that it has no type for: its own errors are ValueErrors, TypeErrors and the like.
_UNUSABLE = (ValueError, TypeError, KeyError, OverflowError, NotImplementedError)
_LARGEST_REWARD = 1e150  # squares must not overflow


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns to read; None: guess.

    Attributes
    ----------
    prompt : str, optional
        By default the first there is of prompt_id, uid, index, prompt, input.
    reward : str, optional
        By default reward or score; in TRL's layout the sum of all columns of fractions but the advantage, without those
        that are NaN in a row, as its trainer adds reward functions of weight 1. Names with commas are added.
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


class NameTable:
    """Integers or strings, numbered from 0 on as they are met; memory goes with the different ones.

    Attributes
    ----------
    count : int
        Different names so far.
    capacity : int
        Names there is room for.
    """

    def __init__(self) -> None:
        self.count = self.capacity = 0
        self._kind: Any = None  # Arrow's type
        self._slots, self._integers = np.zeros(1024, np.uint64), np.zeros(0, np.int64)
        self._offsets, self._text = np.zeros(1, np.uint64), np.zeros(0, np.uint8)

    def number(self, names: Any) -> NDArray[np.uint32]:
        """Return the number of each entry of an Arrow array without nulls: int64, string, or a dictionary of them."""
        import pyarrow as pa

        if pa.types.is_dictionary(names.type):
            codes: NDArray[np.int64] = names.indices.to_numpy()
            return self.number(_keys(names.dictionary))[codes]
        self._kind = self._kind or names.type
        if names.type != self._kind:
            raise InputError(f"expected {self._kind} as before, got {names.type}")
        if pa.types.is_int64(names.type):
            return self.number_integers(names.to_numpy())
        numbers = np.empty(len(names), np.uint32)
        done, (_, ends, text) = 0, names.buffers()
        offsets = np.frombuffer(ends or bytes(4), np.int32)[names.offset : names.offset + len(names) + 1]
        characters = np.frombuffer(text or b"", np.uint8)
        while done < len(names):
            table = (self._slots, self.count, self._offsets, self._text)
            self.count, more = _core.rft_number_strings(offsets[done:], characters, *table, numbers[done:])
            done += more
            if done < len(names):
                self._grow(int(offsets[done + 1] - offsets[done]))
        return numbers

    def number_integers(self, names: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Return the number of each integer."""
        numbers, done = np.empty(len(names), np.uint32), 0
        while done < len(names):
            table = (self._slots, self.count, self._integers)
            self.count, more = _core.rft_number_integers(names[done:], *table, numbers[done:])
            done += more
            if done < len(names):
                self._grow(None)
        return numbers

    def integers(self) -> NDArray[np.int64]:
        """Return the names, where they are integers."""
        return self._integers[: self.count]

    def sorted(self, kept: NDArray[np.int64]) -> tuple[list[Any], NDArray[np.int64]]:
        """Return the names of these numbers in order, and the numbers in that order."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if pa.types.is_int64(self._kind):
            order = kept[_order(self._integers[kept])]
            return self._integers[order].tolist(), order
        buffers = pa.py_buffer(self._offsets[: self.count + 1]), pa.py_buffer(self._text)
        texts = pa.LargeStringArray.from_buffers(self.count, *buffers).take(kept)
        rank = pc.sort_indices(texts)
        return texts.take(rank).to_pylist(), kept[rank.to_numpy()]

    def _grow(self, characters: int | None) -> None:
        """Make room for one more name (of that many characters), and for some times as many."""
        if self.count == self.capacity:
            if self.capacity:
                self._slots = np.zeros(4 * len(self._slots), np.uint64)
            self.capacity = len(self._slots) // 4 * 3
            if characters is None:
                self._integers = _longer(self._integers, self.capacity)
            else:
                self._offsets = _longer(self._offsets, self.capacity + 1)
            _core.rft_rebuild_slots(self._slots, self.count, self._integers, self._offsets, self._text)
        if characters is not None and (wanted := int(self._offsets[self.count]) + characters) > len(self._text):
            self._text = _longer(self._text, 2 * wanted)


class PromptMoments:
    """Sums of the rewards of each prompt; memory goes with prompts, not with rollouts.

    Attributes
    ----------
    prompts : NameTable
        The prompts met.
    reward_columns : list of str
        Where the rewards came from.
    rollouts, dropped : int
        Counted, and left out because the reward was not a finite number.
    """

    def __init__(self) -> None:
        self.prompts = NameTable()
        self.reward_columns: list[str] = []
        self.rollouts = self.dropped = 0
        self._sums, self._tokens = np.zeros((0, 8)), np.zeros((2, 0))

    def add(self, numbers: NDArray[np.uint32], rewards: NDArray[Any], value_range: tuple[float, float]) -> int:
        """Add rewards of prompts; or nothing, and return the index of the first that is not in the range."""
        if len(self._sums) < self.prompts.capacity:
            room = np.zeros(8 * self.prompts.capacity + 8)
            first = -room.ctypes.data % 64 // 8  # a cache line each
            longer = room[first : len(room) - 8 + first].reshape(-1, 8)
            longer[: len(self._sums)] = self._sums
            self._sums = longer
        run = _core.rft_add_rewards_f32 if rewards.dtype == np.float32 else _core.rft_add_rewards_f64
        bad: int = run(rewards, numbers, *value_range, self._sums)
        if bad == len(rewards):
            self.rollouts += bad
        return bad

    def add_tokens(self, numbers: NDArray[np.uint32], lengths: Float64, loose: Float64) -> None:
        """Add tokens and sum of 1 - p of each rollout."""
        self._tokens = _longer(self._tokens, len(self._sums))
        for total, values in zip(self._tokens, (lengths, loose), strict=True):
            np.add.at(total, numbers, values)

    def finish(self) -> tuple[list[Any], dict[str, NDArray[Any]]]:
        """Return the prompts in order, and n, least, largest, mean, m2 (and sums of length, loose) of each."""
        kept = np.flatnonzero(self._sums[:, 0].view(np.int64)[: self.prompts.count])
        prompts, order = self.prompts.sorted(kept)
        count = self.prompts.count
        moments = np.empty((2, count))
        _core.rft_reward_moments(self._sums[:count], *moments)
        n, least, largest = (self._sums[order, column] for column in range(3))
        found = {"n": n.view(np.int64), "least": least, "largest": largest}
        found |= {"mean": moments[0][order], "m2": moments[1][order]}
        if self._tokens.size:
            found["length"], found["loose"] = self._tokens[:, order]
        return prompts, found


def _longer(array: NDArray[Any], length: int) -> NDArray[Any]:
    """Return the array with zeros added to its last axis."""
    longer = np.zeros((*array.shape[:-1], length), array.dtype)
    longer[..., : array.shape[-1]] = array
    return longer


def _order(names: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return what sorts distinct integers: by their places where they are dense."""
    least, largest = int(names.min()), int(names.max())
    if largest - least >= 4 * len(names):
        return np.argsort(names)
    places = np.full(largest - least + 1, -1)
    places[names - least] = np.arange(len(names))
    return places[places >= 0]


def read_rollouts(
    source: Any,
    columns: Columns,
    nan: NanRule = "error",
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
        A file or a value cannot be used, or there is no rollout; the message names file, row and column.
    """
    nan = as_choice("nan", nan, NAN_RULES)
    try:
        import pyarrow as pa
    except ImportError:
        raise DependencyError(f"pyarrow is missing: {install_command('rft')}") from None
    value_range = (max(value_range[0], -_LARGEST_REWARD), min(value_range[1], _LARGEST_REWARD))
    moments = PromptMoments()
    names = []
    for name, batches in _sources(source, columns):
        names.append(name)
        row = 0
        try:
            for roles, batch in batches:
                _add_batch(moments, batch, columns, roles, nan, value_range, name, row)
                row += batch.num_rows
                if progress is not None:
                    progress(moments.rollouts)
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{name}: rows from {row} on cannot be read ({_one_line(error)})") from None
    if moments.rollouts == 0:
        left_out = f" besides {moments.dropped} without a finite reward" if moments.dropped else ""
        raise InputError(f"{', '.join(names)}: expected at least one rollout{left_out}, got none")
    return moments


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


@dataclass(frozen=True, slots=True)
class _Roles:
    """Which columns of a file say what; partial: a reward is the sum of those of its columns that are not NaN."""

    prompt: str
    rewards: list[str]
    partial: bool


def files_of(source: Any) -> list[Path]:
    """Tell which files `read_rollouts` reads for a source; none for rows and columns."""
    if isinstance(source, str | Path):
        return [Path(source)]
    if isinstance(source, Sequence) and all(isinstance(item, str | Path) for item in source):
        return [Path(item) for item in source]
    return []


def _sources(source: Any, columns: Columns) -> Iterator[tuple[str, Iterable[tuple[_Roles, Any]]]]:
    import pyarrow as pa

    if files := files_of(source):
        for path in files:
            yield str(path), _file_batches(path, columns)
    elif isinstance(source, pa.Table):
        yield "table", _table_batches(source, columns, "table")
    elif isinstance(source, Mapping):
        try:
            table = pa.table({k: pa.array(v) for k, v in source.items()})
        except _UNUSABLE as error:
            raise InputError(f"table: {_one_line(error)}") from None
        yield "table", _table_batches(table, columns, "table")
    elif isinstance(source, Sequence) and not source:
        raise ArgumentError("source: expected at least one file")
    elif isinstance(source, Sequence) and all(isinstance(item, Mapping) for item in source):
        try:
            table = pa.Table.from_pylist([dict(item) for item in source])
        except _UNUSABLE as error:
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
        at = file.schema.names.index(roles.prompt) if roles.prompt in file.schema.names else None
        parts = [file.metadata.row_group(i).column(at) for i in range(file.num_row_groups)] if at is not None else []
    coded = (
        bool(parts) and all(map(_is_coded, parts)) and pa.types.is_string(file.schema_arrow.field(roles.prompt).type)
    )
    longest = max((part.total_uncompressed_size / max(part.num_values, 1) for part in parts), default=0)
    size = max(1024, min(_BATCH, int(_BATCH_BYTES / max(longest, 1))))
    with pq.ParquetFile(path, read_dictionary=[roles.prompt] if coded else []) as reader:
        for batch in reader.iter_batches(batch_size=size, columns=needed):
            yield roles, batch


def _is_coded(part: Any) -> bool:
    """Tell whether a column chunk of Parquet is codes of a dictionary throughout, by its size.

    Writers give up on a dictionary that grows too large; to read what they then wrote as a dictionary is slow.
    """
    if not part.has_dictionary_page or part.dictionary_page_offset is None:
        return False
    pages = part.total_compressed_size - (part.data_page_offset - part.dictionary_page_offset)
    return bool(pages <= 2.5 * part.num_values + 1024)


def _npz_batches(path: Path, columns: Columns) -> Iterator[tuple[_Roles, Any]]:
    import pyarrow as pa

    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            roles, needed = _needed(pa.schema([(name, pa.null()) for name in archive.files]), columns, str(path))
            arrays = {name: archive[name] for name in needed}
    except DAMAGED_ARCHIVE as error:
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
    except _UNUSABLE as error:
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
        with pj.open_json(
            path, read_options=pj.ReadOptions(block_size=_MOST_ROW_BYTES), parse_options=options
        ) as reader:
            for batch in reader:
                yield roles, batch
    except pa.ArrowException as error:
        _find_json_trouble(path, schema)
        raise InputError(f"{path}: {_one_line(error)}") from None


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    for number, row in json_lines(path, _MOST_ROW_BYTES):
        if not isinstance(row, dict):
            raise InputError(f"{path}: line {number}: expected an object, got {type(row).__name__}")
        yield row


def _find_json_trouble(path: Path, schema: Any) -> None:
    import pyarrow as pa

    for number, row in enumerate(_json_rows(path)):
        for column in schema:
            try:
                value = row.get(column.name)
                if isinstance(value, bool | str) and pa.types.is_floating(column.type):
                    raise pa.ArrowInvalid(f"got {value!r}")
                pa.array([value], column.type)
            except _UNUSABLE as error:
                raise InputError(
                    f"{path}: row {number}, column {column.name!r}: expected {column.type} ({_one_line(error)})"
                ) from None


def _needed(schema: Any, columns: Columns, name: str) -> tuple[_Roles, list[str]]:
    roles = _Roles(_prompt_column(schema, columns, name), *_reward_columns(schema, columns, name))
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


def _reward_columns(schema: Any, columns: Columns, name: str) -> tuple[list[str], bool]:
    import pyarrow as pa

    if columns.reward is not None:
        return [part.strip() for part in columns.reward.split(",")], False
    for column in REWARD_COLUMNS:
        if column in schema.names:
            return [column], False
    if set(schema.names) >= _TRL:
        found = [f.name for f in schema if f.name not in {*_TRL, "step"} and pa.types.is_floating(f.type)]
        if found:
            return found, True
    raise InputError(f"{name}: no reward column ({', '.join(REWARD_COLUMNS)}); name it with --reward-col")


def _add_batch(
    moments: PromptMoments,
    batch: Any,
    columns: Columns,
    roles: _Roles,
    nan: str,
    value_range: tuple[float, float],
    name: str,
    first_row: int,
) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    moments.reward_columns = moments.reward_columns or roles.rewards
    inside = None
    if columns.steps is not None:
        step = columns.step or "step"
        steps = pa.array(_numbers(batch[step], name, step))
        inside = pc.and_(pc.greater_equal(steps, columns.steps[0]), pc.less_equal(steps, columns.steps[1]))
        batch = batch.filter(inside)

    def place(at: int, column: str) -> str:
        row = at if inside is None else int(np.flatnonzero(inside.to_numpy(zero_copy_only=False).astype(bool))[at])
        return f"{name}: row {first_row + row}, column {column!r}"

    parts = [_numbers(batch[column], name, column) for column in roles.rewards]
    rewards: NDArray[Any] = parts[0]
    if len(parts) > 1:
        values = np.array(parts, np.float64)
        missing = np.isnan(values) & roles.partial
        rewards = np.where(missing.all(axis=0), np.nan, np.where(missing, 0.0, values).sum(axis=0))
    keys = _keys(batch[roles.prompt])
    if keys.null_count:
        raise InputError(f"{place(pc.index(pc.is_null(keys), True).as_py(), roles.prompt)}: missing")
    tokens = [] if columns.logprobs is None else _token_sums(batch[columns.logprobs], place, columns.logprobs)
    try:
        numbers = moments.prompts.number(keys)
    except InputError as error:
        raise InputError(f"{place(0, roles.prompt)}: {error}") from None
    bad = moments.add(numbers, rewards, value_range)
    rows: Sequence[int] | NDArray[np.int64] = range(len(rewards))
    if bad < len(rows) and nan == "drop":
        finite = np.isfinite(rewards)
        moments.dropped += int((~finite).sum())
        rows = np.flatnonzero(finite)
        numbers, rewards, tokens = numbers[finite], rewards[finite], [x[finite] for x in tokens]
        bad = moments.add(numbers, rewards, value_range)
    if bad < len(rows):
        where, reward = place(int(rows[bad]), "+".join(roles.rewards)), rewards[bad]
        if np.isfinite(reward):
            raise InputError(f"{where}: reward {reward:g} is outside of [{value_range[0]:g}, {value_range[1]:g}]")
        raise InputError(f"{where}: expected a finite reward, got {reward} (--nan drop leaves such rows out)")
    if tokens:
        moments.add_tokens(numbers, *tokens)


def _numbers(column: Any, name: str, label: str) -> NDArray[Any]:
    import pyarrow as pa

    kind = column.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise InputError(f"{name}: column {label!r}: expected numbers, got {kind}")
    if not (pa.types.is_float32(kind) or pa.types.is_float64(kind)):
        column = column.cast(pa.float64(), safe=False)
    found: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return found


def _keys(array: Any) -> Any:
    """Prompt ids as integers, strings, or a dictionary of either; chats and other nested prompts as JSON."""
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        return array.dictionary_decode() if array.dictionary.null_count else array
    if pa.types.is_integer(array.type):
        return array.cast(pa.int64())
    if pa.types.is_nested(array.type):
        rows = array.to_pylist()
        return pa.array([None if v is None else json.dumps(v, sort_keys=True, default=str) for v in rows], pa.string())
    return array.cast(pa.string())


def _token_sums(lists: Any, place: Callable[[int, str], str], column: str) -> list[Float64]:
    import pyarrow as pa

    if not (pa.types.is_list(lists.type) or pa.types.is_large_list(lists.type)):
        raise InputError(f"{place(0, column)}: expected lists of log-probabilities, got {lists.type}")
    offsets = lists.offsets.to_numpy()
    values = lists.flatten().cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    lengths = np.diff(offsets)
    if lists.null_count:
        lengths = np.where(lists.is_null().to_numpy(zero_copy_only=False), 0, lengths)
    ends = np.cumsum(lengths)
    bad = ~(values <= 0)
    if bad.any():
        row = int(np.searchsorted(ends, int(np.argmax(bad)), side="right"))
        raise InputError(f"{place(row, column)}: expected log-probabilities <= 0, got {values[bad][0]}")
    total = np.concatenate([[0.0], np.cumsum(1.0 - np.exp(values))])
    return [lengths.astype(np.float64), total[ends] - total[ends - lengths]]
