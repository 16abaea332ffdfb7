"""Prompts as keys: integers or strings for Arrow columns of any type, and the table that numbers them."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legato import _core
from legato._turns import Turns, one_at_a_time
from legato.errors import InputError

__all__ = ["NameTable", "canonical_json", "distinct_rows", "int64_or_decimal", "prompt_keys"]


def canonical_json(value: Any) -> str:
    """Write a value as JSON, keys in order, without fields that are null."""
    text = _encode(value)
    return text if "null" not in text else _encode(_without_nulls(value))


def _plain(value: Any) -> Any:
    """Return what a value is to JSON, whose writer does not know it."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return str(value)


_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False, default=_plain).encode


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_without_nulls(inner) for inner in value]
    return value


def int64_or_decimal(values: Any) -> Any:
    """Convert integers, Python's or as Arrow's strings, to int64, or to decimals if some are larger."""
    import pyarrow as pa

    texts = isinstance(values, pa.Array)
    try:
        return values.cast(pa.int64()) if texts else pa.array([None if v is None else int(v) for v in values])
    except (pa.ArrowException, OverflowError):
        pass
    try:
        if texts:
            return values.cast(pa.decimal128(38, 0))
        return pa.array([None if v is None else Decimal(int(v)) for v in values], pa.decimal128(38, 0))
    except (pa.ArrowException, OverflowError):
        return values if texts else pa.array([None if v is None else str(v) for v in values], pa.string())


def prompt_keys(array: Any) -> Any:
    """Convert a column to int64, decimals, strings, or a dictionary of one; nested values to their JSON."""
    import pyarrow as pa
    import pyarrow.compute as pc

    t = pa.types
    if t.is_dictionary(array.type):
        if array.dictionary.null_count:
            return prompt_keys(array.dictionary_decode())
        if t.is_string(array.type.value_type) or t.is_int64(array.type.value_type):
            return array
        return pa.DictionaryArray.from_arrays(array.indices, prompt_keys(array.dictionary))
    if t.is_uint64(array.type):
        largest = pc.max(array).as_py()
        return array.cast(pa.int64() if largest is None or largest < 1 << 63 else pa.decimal128(38, 0))
    if t.is_integer(array.type):
        return array.cast(pa.int64())
    if t.is_decimal(array.type):
        return array.cast(pa.decimal128(38, 0))
    if t.is_nested(array.type):
        return _json_column(array)
    if t.is_binary(array.type) or t.is_large_binary(array.type) or t.is_fixed_size_binary(array.type):
        return pa.array([None if v is None else v.hex() for v in array.to_pylist()], pa.string())
    return array.cast(pa.string())


def _json_column(array: Any) -> Any:
    """Return the canonical JSON of each entry."""
    import pyarrow as pa

    if _is_simple(array.type):
        codes = _codes(array)
        if codes is None:
            return _write_json(array).cast(pa.string())
        codes = _numbered(codes)  # in the order met: a new one is larger than all before, and only its entry is written
        first = np.flatnonzero(codes > np.maximum.accumulate(np.concatenate([[-1], codes[:-1]])))
        texts = _write_json(array.take(pa.array(first))).cast(pa.string())
        indices = pa.array(codes.astype(np.int32))
        if texts.null_count:
            return texts.take(indices)
        return pa.DictionaryArray.from_arrays(indices, texts)
    return pa.array([None if v is None else canonical_json(v) for v in array.to_pylist()], pa.string())


def _codes(array: Any) -> NDArray[np.int64] | None:
    """Return a number from 0 on for each entry of a simple array, other ones of others; None if its lists are long."""
    import pyarrow as pa
    import pyarrow.compute as pc

    t, rows = pa.types, len(array)
    parts: list[NDArray[np.int64] | None]
    if t.is_null(array.type):
        return np.zeros(rows, np.int64)
    if t.is_struct(array.type):
        parts = [_codes(array.field(i)) for i in range(array.type.num_fields)]
    elif t.is_list(array.type) or t.is_large_list(array.type):
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy().astype(np.int64)
        longest = int(lengths.max(initial=0))
        inner = None if longest > _LONG else _codes(array.flatten())
        if inner is None:
            return None
        if longest * int(inner.max(initial=0) + 1).bit_length() > 63:
            inner = _numbered(inner)
        parts = [_packed(_places(inner + 1, lengths), rows)]
    elif t.is_dictionary(array.type):
        values = _codes(array.dictionary)
        indices = pc.fill_null(array.indices, 0).to_numpy()
        parts = [None if values is None else values[indices] if len(values) else np.zeros(rows, np.int64)]
    elif t.is_string(array.type) or t.is_large_string(array.type):
        parts = [NameTable().number(pc.fill_null(array.cast(pa.string()), "")).astype(np.int64)]
    else:
        parts = [pc.fill_null(array.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    if array.null_count:
        known.append(array.is_valid().to_numpy(zero_copy_only=False).astype(np.int64))
    return _packed(known, rows)


def _places(entries: NDArray[np.int64], lengths: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield the first entries of lists, the second ones, ...; numbers from 1 on, 0 where a list is shorter."""
    starts, longest = np.cumsum(lengths) - lengths, int(lengths.max(initial=0))
    even = bool((lengths == longest).all())
    for at in range(longest):
        here = lengths > at
        yield entries[at::longest] if even else np.where(here, entries[np.where(here, starts + at, 0)], 0)


def _packed(columns: Iterable[NDArray[np.int64]], rows: int) -> NDArray[np.int64]:
    """Return one number from 0 on for each row of columns, another one for another row."""
    found, used = np.zeros(rows, np.int64), 0
    for column in columns:
        if column.min(initial=0) < 0:
            column = _numbered(column)
        width = int(column.max(initial=0)).bit_length()
        if used + width > 63:
            found, column = _numbered(found), _numbered(column)
            used, width = (int(numbers.max(initial=0)).bit_length() for numbers in (found, column))
        found = (found << width) | column
        used += width
    return found


def _numbered(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return numbers of the different values, in the order met."""
    return NameTable().number_integers(np.ascontiguousarray(values)).astype(np.int64)


def distinct_rows(*columns: NDArray[np.int64]) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
    """Return the different rows of columns of integers, in the order met, and which of them each row is."""
    widths = [int(column.max(initial=0)).bit_length() for column in columns]
    if sum(widths) < 63 and all(column.min(initial=0) >= 0 for column in columns):  # one key has room for all
        key = np.zeros(len(columns[0]), np.int64)
        for column, width in zip(columns, widths, strict=True):
            key = (key << width) | column
        table = NameTable()
        codes = table.number_integers(key).astype(np.int64)
        rows, keys = [], table.integers()
        for width in reversed(widths):
            rows.append(keys & ((1 << width) - 1))
            keys = keys >> width
        return rows[::-1], codes
    codes = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        own, pairs = NameTable(), NameTable()
        numbers = own.number_integers(np.ascontiguousarray(column, np.int64)).astype(np.int64)
        codes = pairs.number_integers(codes * own.count + numbers).astype(np.int64)
    first = np.flatnonzero(codes > np.maximum.accumulate(np.concatenate([[-1], codes[:-1]])))
    return [column[first] for column in columns], codes


def _is_simple(kind: Any) -> bool:
    """Tell whether Arrow's kernels write a type's JSON as Python does: texts, integers and truths, however nested."""
    import pyarrow as pa

    t = pa.types
    if t.is_struct(kind):
        return all(_is_simple(kind.field(i).type) for i in range(kind.num_fields))
    if t.is_list(kind) or t.is_large_list(kind) or t.is_dictionary(kind):
        return _is_simple(kind.value_type)
    return bool(
        t.is_string(kind) or t.is_large_string(kind) or t.is_integer(kind) or t.is_boolean(kind) or t.is_null(kind)
    )


_LONG = 64  # entries of lists that are told apart one place after the other
_ESCAPES = (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t"), ("\b", "\\b"), ("\f", "\\f"))


def _join(*parts: Any, skip: bool = False, between: str = "") -> Any:
    """Join large strings entry by entry; an entry without one of them is null, or (skip) leaves it out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pa.large_string()
    parts = tuple(pa.scalar(part, text) if isinstance(part, str) else part for part in parts)
    nulls = "skip" if skip else "emit_null"
    return pc.binary_join_element_wise(*parts, pa.scalar(between, text), null_handling=nulls)


def _write_json(array: Any) -> Any:
    """Return large strings; null where the entry is."""
    import pyarrow as pa
    import pyarrow.compute as pc

    t, text = pa.types, pa.large_string()
    if t.is_null(array.type):
        return pa.nulls(len(array), text)
    if t.is_dictionary(array.type):
        return _write_json(array.dictionary).take(array.indices)
    if t.is_string(array.type) or t.is_large_string(array.type):
        found = array.cast(text)
        seen = np.zeros(256, np.bool_)
        seen[np.frombuffer(found.buffers()[2] or b"", np.uint8)] = True
        there = set(np.flatnonzero(seen).tolist())
        for plain, escaped in _ESCAPES:
            if ord(plain) in there:
                found = pc.replace_substring(found, plain, escaped)
        if min(there - {ord(plain) for plain, _ in _ESCAPES}, default=32) < 32:  # rare: by hand
            texts = [None if v is None else json.dumps(v, ensure_ascii=False)[1:-1] for v in array.to_pylist()]
            found = pa.array(texts, text)
        return _join('"', found, '"')
    if t.is_struct(array.type):
        members = []
        for at in sorted(range(array.type.num_fields), key=lambda i: array.type.field(i).name):
            key = json.dumps(array.type.field(at).name, ensure_ascii=False)
            members.append(_join(f"{key}: ", _write_json(array.field(at))))
        inner = pa.array([""] * len(array), text)
        if members:  # Arrow leaves out entries of which every part is null: the first part is made none
            empty = functools.reduce(pc.and_, map(pc.is_null, members))
            members[0] = pc.if_else(empty, pa.scalar("", text), members[0])
            inner = _join(*members, skip=True, between=", ")
        found = _join("{", inner, "}")
    elif t.is_list(array.type) or t.is_large_list(array.type):
        values = pc.fill_null(_write_json(array.values), "null")
        lists = pa.LargeListArray.from_arrays(array.offsets.cast(pa.int64()), values)
        found = _join("[", pc.binary_join(lists, pa.scalar(", ", text)), "]")
    else:
        return array.cast(text)
    return pc.if_else(array.is_valid(), found, pa.scalar(None, text)) if array.null_count else found


_NEAR = 1 << 21  # numbers by distance are at most this many more than the integers met


class NameTable:
    """Integers or strings, numbered from 0 on as they are met; memory goes with the different ones.

    Parameters
    ----------
    gaps : bool
        Integers that lie close together may be numbered by their distance from the least, which is quicker and in
        order, though not all of those numbers are then names.

    Attributes
    ----------
    count : int
        Different names so far; with gaps, numbers.
    capacity : int
        Names there is room for.
    """

    def __init__(self, gaps: bool = False) -> None:
        self.kind: str | None = None  # integers, strings, or decimals: integers too large for 64 bits, kept as strings
        self._turns = Turns()
        self._gaps, self._met = gaps, 0  # integers met so far, the same ones too
        self._least: int | None = None  # where numbers are distances
        self._clear()

    def _clear(self) -> None:
        self.count = self.capacity = 0
        self._slots, self._integers = np.zeros(1024, np.uint64), np.zeros(0, np.int64)
        self._offsets, self._text = np.zeros(1, np.uint64), np.zeros(0, np.uint8)

    @one_at_a_time
    def number(self, names: Any) -> NDArray[np.uint32]:
        """Return the number of each entry of what `prompt_keys` gives, without nulls."""
        import pyarrow as pa

        if pa.types.is_dictionary(names.type):
            codes: NDArray[np.int64] = names.indices.to_numpy()
            return self.number(names.dictionary)[codes]
        t = pa.types
        kind = "integers" if t.is_int64(names.type) else "decimals" if t.is_decimal(names.type) else "strings"
        if kind == "decimals" and self.kind == "integers":
            self._become_decimals()
        if kind == "integers" and self.kind == "decimals":
            kind, names = "decimals", names.cast(pa.decimal128(38, 0))
        self.kind = self.kind or kind
        if kind != self.kind:
            expected, got = ("a string" if k == "strings" else "an integer" for k in (self.kind, kind))
            raise InputError(f"expected {expected} as before, got {got}")
        if kind == "integers":
            return self.number_integers(names.to_numpy())
        return self._number_strings(names.cast(pa.string()) if kind == "decimals" else names)

    def _number_strings(self, names: Any) -> NDArray[np.uint32]:
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

    @one_at_a_time
    def number_integers(self, names: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Return the number of each integer."""
        numbers, done = np.empty(len(names), np.uint32), 0
        if self._gaps and len(names):
            least = self._reach(int(names.min()), int(names.max()), len(names))
            if least is not None:
                np.subtract(names, least, out=numbers, casting="unsafe")
                return numbers
            self._close_gaps()
        while done < len(names):
            table = (self._slots, self.count, self._integers)
            self.count, more = _core.rft_number_integers(names[done:], *table, numbers[done:])
            done += more
            if done < len(names):
                self._grow(None)
        return numbers

    def _reach(self, low: int, high: int, more: int) -> int | None:
        """Make numbers by distance go from `low` to `high`, and return the least; None if that is too far."""
        self._met += more
        most = min(8 * self._met, self._met + _NEAR)
        if self._least is None:
            below = max(0, most - (high - low + 1)) // 4  # room for lesser ones
            self._least = 0 if low >= 0 and high < most else max(low - below, -(1 << 63))
        if low < self._least or high - self._least >= most:
            return None
        self.count = max(self.count, high - self._least + 1)
        if self.count > self.capacity:
            self.capacity = self.count + self.count // 2
        return self._least

    def _close_gaps(self) -> None:
        """Go on with a table of names; those so far keep their numbers."""
        known = self.integers()
        self._gaps, self._least = False, None
        self._clear()
        self.number_integers(known)

    @one_at_a_time
    def integers(self) -> NDArray[np.int64]:
        """Return the names, where they are integers."""
        if self._least is not None:
            return np.arange(self.count, dtype=np.int64) + self._least  # its end may be beyond int64
        return self._integers[: self.count]

    @one_at_a_time
    def names(self) -> Any:
        """Return all names in the order of their numbers, as `number` takes them."""
        import pyarrow as pa

        if self.kind in (None, "integers"):
            return pa.array(self.integers())
        buffers = pa.py_buffer(self._offsets[: self.count + 1]), pa.py_buffer(self._text)
        texts = pa.LargeStringArray.from_buffers(self.count, *buffers)
        return texts.cast(pa.decimal128(38, 0)) if self.kind == "decimals" else texts

    @one_at_a_time
    def order(self) -> NDArray[np.int64]:
        """Return the numbers of all names, in order of the names."""
        import pyarrow.compute as pc

        if self._least is not None:
            return np.arange(self.count)
        if self.kind in (None, "integers"):
            return _order(self.integers())
        if self.kind == "strings":
            return _order_of_texts(self.names(), self._offsets[: self.count + 1].astype(np.int64), self._text)
        found: NDArray[np.int64] = pc.sort_indices(self.names()).to_numpy().astype(np.int64)
        return found

    @one_at_a_time
    def to_list(self, numbers: NDArray[Any]) -> list[Any]:
        """Return the names of these numbers: integers or strings."""
        if self.kind in (None, "integers"):
            found: list[Any] = (
                self._integers[numbers] if self._least is None else numbers.astype(np.int64) + self._least
            ).tolist()
            return found
        found = self.names().take(numbers).to_pylist()
        return [int(v) for v in found] if self.kind == "decimals" else found

    def _become_decimals(self) -> None:
        import pyarrow as pa

        old = pa.array(self.integers()).cast(pa.decimal128(38, 0))
        self.kind, self._gaps, self._least = None, False, None
        self._clear()
        self.number(old)

    def _grow(self, characters: int | None) -> None:
        """Make room for one more name (of that many characters), and for some times as many."""
        if self.count == self.capacity:
            if self.capacity:
                self._slots = np.zeros(4 * len(self._slots), np.uint64)
            self.capacity = len(self._slots) // 4 * 3
            if characters is None:
                self._integers = longer(self._integers, self.capacity)
            else:
                self._offsets = longer(self._offsets, self.capacity + 1)
            _core.rft_rebuild_slots(self._slots, self.count, self._integers, self._offsets, self._text)
        if characters is not None and (wanted := int(self._offsets[self.count]) + characters) > len(self._text):
            self._text = longer(self._text, 2 * wanted)


def longer(array: NDArray[Any], length: int) -> NDArray[Any]:
    """Return the array with zeros added to its last axis."""
    found = np.zeros((*array.shape[:-1], length), array.dtype)
    found[..., : array.shape[-1]] = array
    return found


def _order(names: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return what sorts distinct integers: by their places where they are dense."""
    if not len(names):
        return np.zeros(0, np.int64)
    least, largest = int(names.min()), int(names.max())
    if largest - least >= 4 * len(names):
        return np.argsort(names)
    places = np.full(largest - least + 1, -1)
    places[names - least] = np.arange(len(names))
    return places[places >= 0]


def _order_of_texts(texts: Any, ends: NDArray[np.int64], characters: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return what sorts distinct texts by their bytes: eight after those that all begin with, and the rest of ties."""
    import pyarrow.compute as pc

    if len(texts) < 2:
        return np.arange(len(texts))
    least, largest = (text.encode() for text in pc.min_max(texts).as_py().values())
    begin = next((at for at, (a, b) in enumerate(zip(least, largest, strict=False)) if a != b), len(least))
    start, left = ends[:-1] + begin, np.diff(ends) - begin
    key = np.zeros(len(texts), np.uint64)
    for at in range(8):
        byte = characters[np.minimum(start + at, len(characters) - 1)]
        key = (key << np.uint64(8)) | np.where(left > at, byte, np.uint8(0))
    found = np.argsort(key)
    same = np.diff(key[found]) == 0
    tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
    if len(tied):
        some = found[tied]
        found[tied] = some[pc.sort_indices(texts.take(some)).to_numpy()]
    return found
