"""What a scan keeps of rollouts: exact sums of the rewards of each group, a prompt at a step of training.

The sums are integers, so that files, batches and shards may come in any order and give the same bits.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from legato import _core
from legato._arrays import Float64
from legato._extras import install_command
from legato._scalars import as_choice, shown
from legato.errors import ArgumentError, DependencyError, InputError, LegatoError
from legato.rft.layouts import PROMPT_IDS, PROMPT_TEXTS, STEPS, Columns, Roles, choose_columns, prompt_candidates
from legato.rft.prompts import NameTable, prompt_keys
from legato.rft.readers import UNUSABLE, Part, files_of, parts_of

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["NAN_RULES", "NO_STEP", "Groups", "NanRule", "Rollouts"]

NanRule: TypeAlias = Literal["error", "drop"]
NAN_RULES: tuple[NanRule, ...] = get_args(NanRule)
_LARGEST_REWARD = 1e150  # squares must not overflow
NO_STEP = -(1 << 63)
_WORDS = {
    "true": 1.0, "pass": 1.0, "passed": 1.0, "correct": 1.0, "success": 1.0, "yes": 1.0,
    "false": 0.0, "fail": 0.0, "failed": 0.0, "incorrect": 0.0, "wrong": 0.0, "timeout": 0.0, "timed out": 0.0,
    "no": 0.0, "failure": 0.0,
    "c": 1.0, "p": 0.5, "i": 0.0, "n": 0.0,  # Inspect: correct, partly, incorrect, no answer
}  # fmt: skip
_WIDE = 13  # words of the sums of rewards off the grid


@dataclass(frozen=True)
class Groups:
    """Rewards of groups, in order of step and prompt.

    Attributes
    ----------
    prompt : list
        Integers or strings.
    step : ndarray of int
        `NO_STEP` where there is none.
    n, least_count, largest_count : ndarray of int
        Rollouts, and how many have the least and the largest reward of the group.
    least, largest, mean, m2 : ndarray
        m2: sum of squared deviations.
    tokens : tuple of ndarray, optional
        Sums over the rollouts of lengths, and of 1 - p of their tokens.
    columns : dict of str to (ndarray, ndarray, ndarray)
        Of each of several reward columns: mean, m2, and m2 of all the others together.
    """

    prompt: list[Any]
    step: NDArray[np.int64]
    n: NDArray[np.int64]
    least: Float64
    largest: Float64
    least_count: NDArray[np.int64]
    largest_count: NDArray[np.int64]
    mean: Float64
    m2: Float64
    tokens: tuple[Float64, Float64] | None
    columns: dict[str, tuple[Float64, Float64, Float64]]


class _Sums:
    """Exact sums of one number a rollout, by group."""

    def __init__(self) -> None:
        self.rows, self.wide = _aligned(0), np.zeros((0, _WIDE), np.int64)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.rows, self.wide = _aligned(len(state["rows"])), state["wide"]
        self.rows[:] = state["rows"]

    def reserve(self, count: int) -> None:
        """Make room for groups."""
        if len(self.rows) < count:
            rows = _aligned(count)
            rows[: len(self.rows)] = self.rows
            self.rows = rows
        if len(self.wide) and len(self.wide) < count:
            wide = np.zeros((count, _WIDE), np.int64)
            wide[: len(self.wide)] = self.wide
            self.wide = wide

    def add(self, numbers: NDArray[np.uint32], rewards: NDArray[Any], low: float, high: float) -> int:
        """Add rewards of groups; or nothing, and return the index of the first that is not in the range."""
        run = _core.rft_add_rewards_f32 if rewards.dtype == np.float32 else _core.rft_add_rewards_f64
        bad = run(rewards, numbers, low, high, self.rows, self.wide)
        if bad is None:
            self.wide = np.zeros((len(self.rows), _WIDE), np.int64)
            bad = run(rewards, numbers, low, high, self.rows, self.wide)
        assert bad is not None
        return bad

    def merge(self, other: _Sums, count: int, numbers: NDArray[np.uint32]) -> None:
        """Add the sums of another's groups, which have these numbers here."""
        if len(other.wide) and not len(self.wide):
            self.wide = np.zeros((len(self.rows), _WIDE), np.int64)
        _core.rft_merge_rewards(other.rows[:count], other.wide[:count], numbers, self.rows, self.wide)

    def take(self, groups: NDArray[np.int64]) -> _Sums:
        """Return the sums of these groups."""
        found = _Sums()
        if len(groups) and (np.diff(groups) == 1).all():  # as they are
            here = slice(int(groups[0]), int(groups[-1]) + 1)
            found.rows, found.wide = self.rows[here], self.wide[here]
            return found
        found.rows = _aligned(len(groups))
        np.take(self.rows, groups, axis=0, out=found.rows, mode="clip")
        if len(self.wide):
            found.wide = self.wide[groups]
        return found

    def moments(self, count: int) -> tuple[Float64, Float64]:
        """Mean and sum of squared deviations."""
        found = np.empty((2, count))
        _core.rft_reward_moments(self.rows[:count], self.wide[:count], *found)
        return found[0], found[1]


def _aligned(count: int) -> Float64:
    """Rows of eight zeros, a cache line each."""
    room = np.zeros(8 * count + 8)
    first = -room.ctypes.data % 64 // 8
    found: Float64 = room[first : len(room) - 8 + first].reshape(-1, 8)
    return found


@dataclass
class Rollouts:
    """Sums over rollouts, which grow by `update` and `merge`; memory goes with the groups, not with the rollouts.

    Attributes
    ----------
    columns : Columns
    nan : {"error", "drop"}
        What to do with rewards that are missing, NaN or infinite.
    value_range : (float, float)
        Least and largest possible reward.
    count, dropped : int
        Rollouts counted, and left out because the reward was not a finite number.
    reward_columns : tuple of str
        Where the rewards came from.
    notes, files : dict
        What a reader should know of how files were read, and which were; keys only, in the order met.
    """

    columns: Columns = field(default_factory=Columns)
    nan: NanRule = "error"
    value_range: tuple[float, float] = (-math.inf, math.inf)
    count: int = 0
    dropped: int = 0
    reward_columns: tuple[str, ...] = ()
    notes: dict[str, None] = field(default_factory=dict)
    files: dict[Path, None] = field(default_factory=dict)
    _prompts: NameTable = field(default_factory=partial(NameTable, gaps=True), repr=False)
    _units: NameTable | None = field(default=None, repr=False)  # (step, prompt), where there are steps
    _steps: dict[int, int] = field(default_factory=dict, repr=False)
    _sums: _Sums = field(default_factory=_Sums, repr=False)
    _tokens: tuple[_Sums, _Sums] | None = field(default=None, repr=False)
    _parts: dict[str, tuple[_Sums, _Sums]] = field(default_factory=dict, repr=False)  # a column, and all others

    def __post_init__(self) -> None:
        if not isinstance(self.columns, Columns):
            raise ArgumentError(f"columns: expected Columns, got {shown(self.columns)}")
        self.nan = as_choice("nan", self.nan, NAN_RULES)
        low, high = self.value_range
        self.value_range = (max(low, -_LARGEST_REWARD), min(high, _LARGEST_REWARD))

    def update(
        self, source: Any, progress: Callable[[int], None] | None = None, executor: Executor | None = None
    ) -> list[str]:
        """Read rollouts once, in batches, and return the names of what was read.

        Parameters
        ----------
        source
            See `legato.rft.readers.parts_of`.
        progress : callable, optional
            Called with the rollouts read so far.
        executor : concurrent.futures.Executor, optional
            Reads the files of the source, each a task.

        Raises
        ------
        InputError
            A file or a value cannot be used; the message names file, row and column. What came before it is counted.
        """
        if progress is not None and not callable(progress):
            raise ArgumentError(f"progress: expected a callable, got {shown(progress)}")
        if executor is not None:
            from concurrent.futures import Executor

            if not isinstance(executor, Executor):
                raise ArgumentError(f"executor: expected a concurrent.futures.Executor, got {shown(executor)}")
        try:
            import pyarrow as pa
        except ImportError:
            raise DependencyError(f"pyarrow is missing: {install_command('rft')}") from None
        names = []
        if executor is not None:
            names = [str(path) for path in files_of(source)]
            for found in executor.map(partial(_read_one, Rollouts(self.columns, self.nan, self.value_range)), names):
                self.merge(found)
                if progress is not None:
                    progress(self.count)
            return names
        roles = None
        for part in parts_of(source):
            names.append(part.name)
            if part.path is not None:
                self.files[part.path] = None
            row = 0
            if not part.fields:  # an empty file
                continue
            try:
                roles = self._roles(part, roles)
                wanted = dict.fromkeys([*roles.columns, *(() if part.only is None else part.only[:1])])
                for batch in part.batches(list(wanted), roles.prompt):
                    row += self._add(part, roles, batch, row)
                    if progress is not None:
                        progress(self.count)
            except (pa.ArrowException, OSError, *UNUSABLE) as error:
                if isinstance(error, LegatoError):
                    raise
                reason = " ".join(str(error).split())
                raise InputError(f"{part.name}: rows from {row} on cannot be read ({reason})") from None
        return names

    def merge(self, other: Rollouts) -> None:
        """Count what another scan has counted; the order of merges does not show."""
        self.files |= other.files
        if other._prompts.count == 0:
            self.dropped += other.dropped
            return
        names = other._prompts.names()
        chunk = 1 << 18
        prompts = np.concatenate(
            [self._prompts.number(prompt_keys(names.slice(i, chunk))) for i in range(0, len(names), chunk)]
        )
        if other._units is None:
            count = other._prompts.count
            numbers = self._number_units(prompts, None)
        else:
            count = other._units.count
            keys = other._units.integers()
            steps = np.array(list(other._steps), np.int64)[keys >> 32]
            numbers = self._number_units(prompts[keys & 0xFFFFFFFF], steps)
        if other._tokens is not None and self._tokens is None:
            self._tokens = (_Sums(), _Sums())
        for name in other._parts:
            self._parts.setdefault(name, (_Sums(), _Sums()))
        self._reserve()
        self._sums.merge(other._sums, count, numbers)
        if other._tokens is not None and self._tokens is not None:
            for mine, theirs in zip(self._tokens, other._tokens, strict=True):
                mine.merge(theirs, count, numbers)
        for name, pair in other._parts.items():
            for mine, theirs in zip(self._parts[name], pair, strict=True):
                mine.merge(theirs, count, numbers)
        self.count += other.count
        self.dropped += other.dropped
        self.reward_columns = tuple(dict.fromkeys((*self.reward_columns, *other.reward_columns)))
        self.notes |= other.notes

    def groups(self) -> Groups:
        """Return the sums of each group so far."""
        by_name = self._prompts.order()
        if self._units is None:
            at = by_name[self._sums.rows[by_name, 0].view(np.int64) > 0]
            numbers, steps = at, np.full(len(at), NO_STEP)
        else:
            kept = np.flatnonzero(self._sums.rows[: self._units.count, 0].view(np.int64))
            keys = self._units.integers()[kept]
            numbers, steps = keys & 0xFFFFFFFF, np.array(list(self._steps), np.int64)[keys >> 32]
            rank = np.empty(self._prompts.count, np.int64)
            rank[by_name] = np.arange(self._prompts.count)
            order = np.lexsort((rank[numbers], steps))
            at, numbers, steps = kept[order], numbers[order], steps[order]
        sums = self._sums.take(at)
        n, least, largest, both = sums.rows.T[:4]
        counts = np.ascontiguousarray(both).view(np.uint32).reshape(-1, 2).astype(np.int64)
        n = np.ascontiguousarray(n).view(np.int64)
        mean, m2 = sums.moments(len(at))
        tokens = None
        if self._tokens is not None:
            lengths, loose = (s.take(at).moments(len(at))[0] * n for s in self._tokens)
            tokens = (lengths, loose)
        columns = {}
        for name, (own, others) in self._parts.items():
            columns[name] = (*own.take(at).moments(len(at)), others.take(at).moments(len(at))[1])
        return Groups(
            self._prompts.to_list(numbers), steps, n, np.ascontiguousarray(least), np.ascontiguousarray(largest),
            counts[:, 0], counts[:, 1], mean, m2, tokens, columns,
        )  # fmt: skip

    def _roles(self, part: Part, before: Roles | None) -> Roles:
        """Choose the columns of a file, as in the file before if it has them."""
        if before is not None and all(column in part.fields for column in before.columns):
            return before
        candidates = prompt_candidates(part.fields, self.columns)
        prompt = candidates[0] if candidates else None
        if len(candidates) > 1 and not _repeats(part, candidates[0]):
            prompt = next((name for name in candidates[1:] if _repeats(part, name)), prompt)
            if prompt != candidates[0]:
                self.notes[
                    f"{candidates[0]!r} is another one in every row: the prompts are those of {prompt!r} "
                    "(--prompt-col says otherwise)"
                ] = None
        text = next((name for name in candidates if name in PROMPT_TEXTS), None)
        if prompt in PROMPT_IDS and text is not None and _is_shared(part, prompt, text):
            self.notes[
                f"{prompt!r} stands for several prompts: they are told apart by {text!r} (--prompt-col says otherwise)"
            ] = None
            prompt = text
        whole = [n for n in STEPS if n in part.fields and part.fields[n].kind == "text" and _is_whole(part, n)]
        return choose_columns(part.fields, self.columns, part.name, prompt, part.metrics, whole)

    def _add(self, part: Part, roles: Roles, batch: Mapping[str, Any], first_row: int) -> int:
        """Count a batch and return how many rows it has."""
        import pyarrow as pa
        import pyarrow.compute as pc

        rows_read = len(batch[roles.prompt])
        if not self.reward_columns:
            self.reward_columns = roles.rewards

        def place(at: int, column: str) -> str:
            return f"{part.name}: row {first_row + int(rows[at])}, column {column!r}"

        rows = np.arange(rows_read)
        steps = None
        if roles.step is not None:
            steps = _step_numbers(batch[roles.step], f"{part.name}: column {roles.step!r}")
        elif part.step is not None and self.columns.step != "none":
            steps = np.full(rows_read, part.step)
        if self.columns.steps is not None:
            if steps is None:
                raise InputError(f"{part.name}: no step column (step, global_step, ...); name it with --step-col")
            first, last = self.columns.steps
            rows = np.flatnonzero((steps >= first) & (steps <= last))
            steps = steps[rows]
            batch = {name: array.take(pa.array(rows)) for name, array in batch.items()}
        if part.only is not None:
            column, value = part.only
            kept = np.flatnonzero(pc.fill_null(pc.equal(batch[column], value), False).to_numpy(zero_copy_only=False))
            if len(kept) < len(rows):
                self.notes[f"of each answer's scores, those of the {column} {value!r} count"] = None
            rows, steps = rows[kept], steps if steps is None else steps[kept]
            batch = {name: array.take(pa.array(kept)) for name, array in batch.items()}
        columns = [_numbers(batch[name], roles.lists, partial(place, column=name)) for name in roles.rewards]
        keys = prompt_keys(batch[roles.prompt])
        if part.task is not None and roles.prompt == "doc_id":
            keys = pc.binary_join_element_wise(part.task, keys.cast(pa.string()), "/")
        if keys.null_count:
            raise InputError(f"{place(pc.index(pc.is_null(keys), True).as_py(), roles.prompt)}: missing")
        try:
            prompts = self._prompts.number(keys)
        except InputError as error:
            raise InputError(f"{place(0, roles.prompt)}: {error}") from None
        repeats = columns[0][1]
        if repeats is not None:
            if roles.logprobs is not None or any(
                other is None or not np.array_equal(other, repeats) for _, other in columns
            ):
                raise InputError(f"{place(0, roles.rewards[0])}: lists of rewards beside columns of other lengths")
            rows, prompts = np.repeat(rows, repeats), np.repeat(prompts, repeats)
            steps = steps if steps is None else np.repeat(steps, repeats)
            self.notes[f"each list of {roles.rewards[0]!r} has one reward for each rollout of a prompt"] = None
        values = [value for value, _ in columns]
        rewards, filled = _total(values, roles.partial)
        tokens = (
            [] if roles.logprobs is None else _token_sums(batch[roles.logprobs], partial(place, column=roles.logprobs))
        )
        units = self._number_units(prompts, steps)
        if len(values) > 1:
            for name in roles.rewards:
                self._parts.setdefault(name, (_Sums(), _Sums()))
        if tokens and self._tokens is None:
            self._tokens = (_Sums(), _Sums())
        self._reserve()
        good = self._add_rewards(units, rewards, lambda at: place(at, "+".join(roles.rewards)))
        if good is not None:
            units, rewards = units[good], rewards[good]
            tokens, filled = [x[good] for x in tokens], [x[good] for x in filled]
        self._add_beside(units, rewards, filled, tokens, roles)
        return rows_read

    def _add_rewards(
        self, units: NDArray[np.uint32], rewards: NDArray[Any], place: Callable[[int], str]
    ) -> NDArray[np.int64] | None:
        """Count rewards; return which of them, if not all."""
        bad = self._sums.add(units, rewards, *self.value_range)
        good = None
        if bad < len(rewards) and self.nan == "drop":
            good = np.flatnonzero(np.isfinite(rewards))
            self.dropped += len(rewards) - len(good)
            units, rewards = units[good], rewards[good]
            bad = self._sums.add(units, rewards, *self.value_range)
        if bad < len(rewards):
            where, reward = place(int(bad if good is None else good[bad])), float(rewards[bad])
            if math.isfinite(reward):
                low, high = self.value_range
                raise InputError(f"{where}: reward {reward:g} is outside of [{low:g}, {high:g}]")
            raise InputError(f"{where}: expected a finite reward, got {reward} (--nan drop leaves such rows out)")
        self.count += len(rewards)
        return good

    def _add_beside(
        self,
        units: NDArray[np.uint32],
        rewards: NDArray[Any],
        filled: list[Float64],
        tokens: list[Float64],
        roles: Roles,
    ) -> None:
        """Sum what is told apart beside the reward: its columns, and tokens."""
        for sums, values in zip(self._tokens or (), tokens, strict=False):
            sums.add(units, values, -math.inf, math.inf)
        if len(filled) > 1:
            for name, values in zip(roles.rewards, filled, strict=True):
                own, others = self._parts[name]
                own.add(units, values, -math.inf, math.inf)
                others.add(units, rewards - values, -math.inf, math.inf)

    def _number_units(self, prompts: NDArray[np.uint32], steps: NDArray[np.int64] | None) -> NDArray[np.uint32]:
        """Return the numbers of groups: those of the prompts, unless there are steps."""
        if steps is None and self._units is None:
            return prompts
        if self._units is None:
            self._units = NameTable()
            self._units.kind = "integers"
            if self._sums.rows.size:
                self._steps[NO_STEP] = 0
                self._units.number_integers(np.arange(self._sums_count(), dtype=np.int64))
        if steps is None:
            code: Any = self._steps.setdefault(NO_STEP, len(self._steps))
        else:
            found, back = np.unique(steps, return_inverse=True)
            code = np.array([self._steps.setdefault(int(step), len(self._steps)) for step in found], np.int64)[back]
        return self._units.number_integers(np.ascontiguousarray(prompts.astype(np.int64) | (np.int64(1) * code << 32)))

    def _sums_count(self) -> int:
        used = np.flatnonzero(self._sums.rows[:, 0].view(np.int64))
        return int(used[-1]) + 1 if len(used) else 0

    def _reserve(self) -> None:
        capacity = (self._prompts if self._units is None else self._units).capacity
        for sums in (self._sums, *(self._tokens or ()), *(s for pair in self._parts.values() for s in pair)):
            sums.reserve(capacity)


def _read_one(like: Rollouts, name: str) -> Rollouts:
    found = Rollouts(like.columns, like.nan, like.value_range)
    found.update(name)
    return found


def _repeats(part: Part, name: str) -> bool:
    """Tell whether some prompt of the first rows is there twice."""
    array = part.head(name)
    if array is None or len(array) < 2:
        return True
    keys = prompt_keys(array).drop_null()
    numbers = NameTable().number(keys)
    return len(np.unique(numbers)) < len(numbers)


def _is_shared(part: Part, name: str, text: str) -> bool:
    """Tell whether an id of the first rows stands for several texts, most of which are there more than once."""
    try:
        columns = [part.head(column) for column in (name, text)]
    except InputError:  # of a column that may not be read at all
        return False
    if any(column is None or column.null_count for column in columns):
        return False
    ids, texts = (NameTable().number(prompt_keys(column)) for column in columns)
    _, counts = np.unique(texts, return_counts=True)
    pairs = len(np.unique(ids.astype(np.int64) << 32 | texts))
    repeated = counts[counts > 1].sum() > 0.5 * len(texts)
    return bool(len(np.unique(ids)) < pairs == len(counts) and repeated)


def _is_whole(part: Part, name: str) -> bool:
    """Tell whether the texts of a column's first rows are whole numbers."""
    import pyarrow as pa

    try:
        array = part.head(name)
        return array is not None and len(array.cast(pa.int64())) > 0
    except pa.ArrowException:
        return False


def _total(values: list[NDArray[Any]], partial_sums: bool) -> tuple[NDArray[Any], list[Float64]]:
    """Return the reward of each rollout, and its terms with 0 where one does not apply."""
    if len(values) == 1:
        return values[0], []
    terms = np.array(values, np.float64)
    missing = np.isnan(terms) & partial_sums
    filled = np.where(missing, 0.0, terms)
    return np.where(missing.all(axis=0), np.nan, filled.sum(axis=0)), list(filled)


def _step_numbers(column: Any, where: str) -> NDArray[np.int64]:
    import pyarrow as pa
    import pyarrow.compute as pc

    t = pa.types
    if t.is_dictionary(column.type):
        column = column.dictionary_decode()
    if t.is_string(column.type):  # as some tables of runs have it
        with contextlib.suppress(pa.ArrowException):
            column = column.cast(pa.int64())
    if not (t.is_integer(column.type) or t.is_floating(column.type)):
        raise InputError(f"{where}: expected numbers, got {column.type}")
    try:
        found: NDArray[np.int64] = pc.fill_null(column, -1).cast(pa.int64()).to_numpy(zero_copy_only=False)
    except pa.ArrowException as error:
        raise InputError(f"{where}: expected whole numbers ({' '.join(str(error).split())})") from None
    if column.null_count:
        raise InputError(f"{where}: row {pc.index(pc.is_null(column), True).as_py()} has no step")
    return found


def _numbers(column: Any, lists: str, place: Callable[[int], str]) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
    """Return numbers, NaN where there are none; of lists that have one a rollout also how many each."""
    import pyarrow as pa
    import pyarrow.compute as pc

    t = pa.types
    kind = column.type
    if t.is_dictionary(kind):
        return _numbers(column.dictionary_decode(), lists, place)
    if t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind):
        if t.is_fixed_size_list(kind):
            column = column.cast(pa.list_(kind.value_type))
        lengths = np.where(column.is_null(), 1, pc.fill_null(pc.list_value_length(column), 0)).astype(np.int64)
        if column.null_count:
            column = pc.if_else(column.is_valid(), column, pa.scalar([None], column.type))
        values, _ = _numbers(column.flatten(), lists, lambda at: place(_row_of(lengths, at)))
        if (lengths == 1).all():
            return values, None
        if lists == "each":
            return values, lengths
        sums = np.zeros(len(lengths) + 1)
        full = np.flatnonzero(lengths)
        sums[full] = np.add.reduceat(values, (np.cumsum(lengths) - lengths)[full]) if len(full) else 0.0
        return sums[:-1], None
    if t.is_string(kind) or t.is_large_string(kind):
        return _words(column, place), None
    if t.is_null(kind):
        return np.full(len(column), np.nan), None
    if not (t.is_floating(kind) or t.is_integer(kind) or t.is_boolean(kind) or t.is_decimal(kind)):
        raise InputError(f"{place(0)}: expected numbers, got {kind}")
    if t.is_boolean(kind):
        column = column.cast(pa.uint8())
    if not (t.is_float32(kind) or t.is_float64(kind)):
        column = column.cast(pa.float64(), safe=False)
    found: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return found, None


def _row_of(lengths: NDArray[np.int64], at: int) -> int:
    return int(np.searchsorted(np.cumsum(lengths), at, side="right"))


def _words(column: Any, place: Callable[[int], str]) -> NDArray[Any]:
    """Numbers that are written as texts, and passed or failed."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        found: NDArray[Any] = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        return found
    except pa.ArrowException:
        pass
    coded = column.dictionary_encode()
    values = []
    for text in coded.dictionary.to_pylist():
        try:
            values.append(_WORDS[text.strip().lower()] if text.strip().lower() in _WORDS else float(text))
        except ValueError:
            at = pc.index(column, text).as_py()
            raise InputError(f"{place(at)}: expected numbers, got string {text[:60]!r}") from None
    codes = coded.indices.fill_null(0).to_numpy()
    return np.where(column.is_null(), np.nan, np.array(values or [np.nan])[codes])


def _token_sums(lists: Any, place: Callable[[int], str]) -> list[Float64]:
    """Tokens, and sum of 1 - p of them, of each rollout."""
    import pyarrow as pa

    if not (pa.types.is_list(lists.type) or pa.types.is_large_list(lists.type)):
        raise InputError(f"{place(0)}: expected lists of log-probabilities, got {lists.type}")
    offsets = lists.offsets.to_numpy()
    values = lists.flatten().cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    lengths = np.diff(offsets)
    if lists.null_count:
        lengths = np.where(lists.is_null().to_numpy(zero_copy_only=False), 0, lengths)
    bad = ~(values <= 0)
    if bad.any():
        row = _row_of(lengths, int(np.argmax(bad)))
        raise InputError(f"{place(row)}: expected log-probabilities <= 0, got {values[bad][0]}")
    loose = np.zeros(len(lengths))
    full = np.flatnonzero(lengths)
    if len(full):
        loose[full] = np.add.reduceat(1.0 - np.exp(values), (np.cumsum(lengths) - lengths)[full])
    return [lengths.astype(np.float64), loose]
