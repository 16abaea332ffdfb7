"""The tasks of "What Algorithms can Transformers Learn?": instances, RASP-L solutions, oracles.

An instance is a prompt and an answer in one sequence; a program solves a task when greedy generation from the prompt
gives the answer. Formats are ours where the paper's listings could not be read.

Examples
--------
>>> from legato.rasp import tasks
>>> tasks.sort.program.generate([5, 2, 9, tasks.START], stop=tasks.END)
[2, 5, 9, -2]
>>> batch = tasks.count.sample(length=4, rows=3, seed=0)
>>> batch.tokens.shape, batch.prompt_lengths.tolist()
((3, 8), [3, 3, 3])
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legato._scalars import as_count, shown
from legato.errors import ArgumentError
from legato.rasp.core import full, indices, kqv
from legato.rasp.functions import (
    argmax,
    cumsum,
    first_true,
    firsts,
    has_seen,
    index_select,
    induct,
    induct_kqv,
    induct_prev,
    minimum,
    num_prev,
    shift_right,
    where,
)
from legato.rasp.predicates import equals, gt, lt
from legato.rasp.programs import Program

__all__ = [
    "ALL",
    "Batch",
    "Task",
    "addition_forward",
    "addition_forward_plain",
    "addition_reverse",
    "addition_reverse_plain",
    "copy_repeated",
    "copy_unique",
    "count",
    "mode",
    "mode_by_count",
    "mode_by_first",
    "parity",
    "parity_scratchpad",
    "sort",
]

Ints = NDArray[np.int64]

START, END = -1, -2  #: between prompt and answer, and after the answer (all tasks but addition)
PLUS, EQUALS, ADDITION_END, NOTHING = -2, -3, -5, -88  #: of addition, as in the authors' code; it begins with START
FIRST_HINT = -100  #: index hints of addition: -100 for the leading digit, -101, ...
BIT_HINT = 100  #: index hints of the parity scratchpad: 100, 101, ...
SYMBOL = 64  #: first symbol of the mode scratchpads; smaller tokens are counts


@dataclass(frozen=True)
class Batch:
    """Instances of one task."""

    tokens: Ints  #: (rows, n), padded with 0 after `lengths`
    lengths: Ints  #: (rows,)
    prompt_lengths: Ints  #: (rows,): the answer begins here

    def row(self, at: int) -> tuple[list[int], list[int]]:
        """Return prompt and answer of one instance."""
        split, end = int(self.prompt_lengths[at]), int(self.lengths[at])
        return self.tokens[at, :split].tolist(), self.tokens[at, split:end].tolist()


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes
    ----------
    solution : callable or None
        The next-token function, as RASP-L where there is one (`generalizes`), else as plain RASP or None.
    generalizes : bool
        Whether the paper's conjecture expects length generalization: a short RASP-L program exists.
    oracle : callable
        The answer to a prompt by independent plain Python.
    """

    name: str
    solution: Callable[[Any], Any] | None
    generalizes: bool
    oracle: Callable[[list[int]], list[int]]
    make: Callable[..., Batch]
    end: int = END

    @cached_property
    def program(self) -> Program:
        """The solution as a program."""
        if self.solution is None:
            raise ArgumentError(f"{self.name}: this task comes without a program")
        return Program(self.solution, name=self.name)

    def sample(self, length: int, rows: int, seed: int = 0, **options: Any) -> Batch:
        """Draw instances.

        Parameters
        ----------
        length : int
            Size of the task: numbers, symbols, digits or bits of the prompt.
        rows, seed : int
        **options
            Of the task: ``carry`` of addition is "standard", "balanced" or "hard"; ``alphabet`` of copies, sort and
            mode; ``hints`` of the parity scratchpad and of addition with hints, the supply of hints in which each
            instance begins at a random place (without it, at the first).

        Raises
        ------
        ArgumentError
            A number that is none, an option that the task does not have, or an instance that its alphabet or supply
            is too small for.
        """
        length, rows = as_count(f"{self.name}: length", length), as_count(f"{self.name}: rows", rows, least=0)
        for name, value in options.items():
            known = list(inspect.signature(self.make).parameters)[3:]
            if name not in known:
                raise ArgumentError(f"{self.name}: {name}: expected an option out of {', '.join(known) or 'none'}")
            if name != "carry" and value is not None:
                as_count(f"{self.name}: {name}", value)
        return self.make(length, rows, np.random.default_rng(as_seeds("seed", (seed,))[0]), **options)


def as_seeds(name: str, values: Any) -> tuple[int, ...]:
    """Return seeds of generators: at least one, whole numbers of at least 0."""
    seeds = tuple(values) if isinstance(values, Iterable) else ()
    if not seeds or not all(isinstance(seed, int | np.integer) and seed >= 0 for seed in seeds):
        raise ArgumentError(f"{name}: expected at least one whole number, none of them negative, got {shown(values)}")
    return tuple(int(seed) for seed in seeds)


def _batch(prompt: Ints, answer: Ints) -> Batch:
    tokens = np.concatenate([prompt, answer], axis=1)
    rows = len(tokens)
    return Batch(tokens, np.full(rows, tokens.shape[1]), np.full(rows, prompt.shape[1]))


def _column(rows: int, *tokens: int) -> Ints:
    return np.tile(np.array(tokens, dtype=np.int64), (rows, 1))


# --- count ------------------------------------------------------------------------------------------------------------


def _count(x: Any) -> Any:
    first = induct_prev(x, full(x, START), offset=-2)
    last = induct_prev(x, full(x, START), offset=-1)
    return where(x == START, first, where(x == last, full(x, END), x + 1))


def _count_oracle(prompt: list[int]) -> list[int]:
    return [*range(prompt[0], prompt[1] + 1), END]


def _count_make(length: int, rows: int, rng: np.random.Generator, largest: int = 127) -> Batch:
    if largest < length - 1:
        raise ArgumentError(f"count: expected length at most {largest + 1}, got {length}")
    first = rng.integers(0, largest - length + 2, (rows, 1))
    prompt = np.concatenate([first, first + length - 1, _column(rows, START)], axis=1)
    return _batch(prompt, np.concatenate([first + np.arange(length), _column(rows, END)], axis=1))


# --- mode -------------------------------------------------------------------------------------------------------------


def _mode(x: Any) -> Any:
    counts = where(x == START, full(x, 0), num_prev(x, x))
    return where(x == START, index_select(x, argmax(counts)), full(x, END))


def _mode_oracle(prompt: list[int]) -> list[int]:
    symbols = prompt[:-1]
    return [max(set(symbols), key=symbols.count), END]


@dataclass(frozen=True)
class _Drawn:
    """Rows with a unique most frequent symbol, and what the scratchpads tell of each row's `kinds` symbols."""

    tokens: Ints  #: (rows, length)
    symbols: Ints  #: (rows, kinds)
    counts: Ints  #: (rows, kinds); 0: the symbol does not occur
    mode: Ints  #: (rows, 1)

    def firsts(self) -> Ints:
        """Return where each symbol first stands: (rows, kinds), beyond the end for those that do not occur."""
        at = np.argmax(self.tokens[:, :, None] == self.symbols[:, None, :], axis=1)
        return np.asarray(np.where(self.counts > 0, at, self.tokens.shape[1]), dtype=np.int64)


def _mode_symbols(length: int, rows: int, rng: np.random.Generator, base: int, symbols: int, alphabet: int) -> _Drawn:
    """One occurrence of a tied symbol is turned into the first of the tied."""
    kinds = min(symbols, max(1, length - 1))
    chosen = _distinct(kinds, rows, rng, alphabet)
    draw = rng.integers(0, kinds, (rows, length))
    counts = (draw[:, :, None] == np.arange(kinds)).sum(axis=1)
    tied = counts == counts.max(axis=1, keepdims=True)
    row = np.flatnonzero(tied.sum(axis=1) > 1)
    first = np.argmax(tied[row], axis=1)
    tied[row, first] = False
    second = np.argmax(tied[row], axis=1)
    draw[row, np.argmax(draw[row] == second[:, None], axis=1)] = first
    counts[row, first] += 1
    counts[row, second] -= 1
    chosen = chosen + base
    best = np.argmax(counts, axis=1)[:, None]
    return _Drawn(np.take_along_axis(chosen, draw, axis=1), chosen, counts, np.take_along_axis(chosen, best, axis=1))


def _mode_make(length: int, rows: int, rng: np.random.Generator, symbols: int = 5, alphabet: int = 52) -> Batch:
    drawn = _mode_symbols(length, rows, rng, 0, symbols, alphabet)
    return _copy_of(drawn.tokens, drawn.mode)


def _totals(prompt: list[int]) -> list[tuple[int, int]]:
    symbols = prompt[:-1]
    return [(s, symbols.count(s)) for s in dict.fromkeys(symbols)]


def _mode_by_first_oracle(prompt: list[int]) -> list[int]:
    pairs = [token for pair in _totals(prompt) for token in pair]
    return [*pairs, _mode_oracle(prompt)[0], END]


def _mode_by_count_oracle(prompt: list[int]) -> list[int]:
    return [token for s, n in sorted(_totals(prompt), key=lambda x: (x[1], x[0])) for token in (n, s)] + [END]


def _scratchpad_make(by_count: bool) -> Callable[..., Batch]:
    def make(length: int, rows: int, rng: np.random.Generator, symbols: int = 5, alphabet: int = 52) -> Batch:
        if length >= SYMBOL:
            raise ArgumentError(f"mode scratchpad: expected length below {SYMBOL}, got {length}")
        drawn = _mode_symbols(length, rows, rng, SYMBOL, symbols, alphabet)
        kinds = drawn.counts.shape[1]
        absent = drawn.counts == 0
        # Symbols that do not occur come last: they are no part of the answer.
        rank = np.where(absent, 2**30, drawn.counts * 2**12 + drawn.symbols) if by_count else drawn.firsts()
        order = np.argsort(rank, axis=1)
        pair = [np.take_along_axis(x, order, axis=1) for x in (drawn.symbols, drawn.counts)]
        written = 2 * (kinds - absent.sum(axis=1))
        tail = 1 if by_count else 2  # END, or the mode and END
        answer = np.zeros((rows, 2 * kinds + tail), dtype=np.int64)
        answer[:, 0 : 2 * kinds : 2], answer[:, 1 : 2 * kinds : 2] = pair[::-1] if by_count else pair
        row = np.arange(rows)
        if not by_count:
            answer[row, written] = drawn.mode[:, 0]
        lengths = written + tail
        answer[row, lengths - 1] = END
        answer[np.arange(answer.shape[1]) >= lengths[:, None]] = 0
        prompt = np.concatenate([drawn.tokens, _column(rows, START)], axis=1)
        width = int(lengths.max(initial=0))
        return Batch(
            np.concatenate([prompt, answer[:, :width]], axis=1), lengths + length + 1, np.full(rows, length + 1)
        )

    return make


def _mode_by_first(x: Any) -> Any:
    """Symbol and count by first occurrence, then the symbol of the largest count written."""
    here, after = indices(x), has_seen(x, full(x, START))
    in_prompt = where(after, full(x, NOTHING), x)
    new = where((firsts(x, x) == here) & (after == 0), here, full(x, -1))  # where a symbol first stands
    symbol = shift_right(x, 1)  # at a count, the symbol that it counts
    following = kqv(new, firsts(x, symbol), here, gt, default=-1, reduction="min")
    is_count = (x < SYMBOL) & (x > 0) & (after == 1)
    written = where(is_count, x, full(x, 0))
    best = index_select(x, argmax(written) - 1)
    at_count = where(following == -1, best, index_select(x, following))
    over = (
        (x >= SYMBOL) & (after == 1) & (has_seen(where(is_count & (following == -1), full(x, 1), full(x, 0)), 1) == 1)
    )
    answer = where(is_count, at_count, where(over, full(x, END), num_prev(in_prompt, x)))
    return where(x == START, index_select(x, full(x, 0)), answer)


def _mode_by_count(x: Any) -> Any:
    """Count and symbol by increasing count, then by symbol; for at most five symbols.

    No position knows which symbols come to an end, so each of the five is looked up and counted by itself, and the
    smallest pair above the one written last is found among them: a long program for what a table would do at once.
    """
    after = has_seen(x, full(x, START))
    in_prompt = where(after, full(x, NOTHING), x)
    new = (num_prev(in_prompt, x) == 1) & (after == 0)
    order = where(new, cumsum(new), full(x, 0))
    before = shift_right(x, 1)
    begins = (x == START) | (before == START)
    last_count = where(begins, full(x, 0), where(x >= SYMBOL, before, shift_right(x, 2)))
    last_symbol = where(begins, full(x, 0), where(x >= SYMBOL, x, before))
    none = full(x, 2 * SYMBOL - 1)
    best_count, best_symbol = none, none
    for number in range(1, 6):
        symbol = kqv(order, full(x, number), x, equals, default=NOTHING, reduction="max")
        total = num_prev(in_prompt, symbol)
        above = (total > last_count) | ((total == last_count) & (symbol > last_symbol))
        better = (total < best_count) | ((total == best_count) & (symbol < best_symbol))
        taken = (symbol != NOTHING) & above & better
        best_count, best_symbol = where(taken, total, best_count), where(taken, symbol, best_symbol)
    at_symbol = where(best_count == none, full(x, END), best_count)
    return where((x < SYMBOL) & (x > 0), best_symbol, at_symbol)


# --- copy and sort ----------------------------------------------------------------------------------------------------


def _copy_unique(x: Any) -> Any:
    following = induct(x, x, offset=1)
    return where(x == START, index_select(x, full(x, 0)), where(following == START, full(x, END), following))


def _copy_repeated(x: Any) -> Any:
    """Plain RASP: the index arithmetic is what RASP-L forbids."""
    copied = index_select(x, indices(x) - first_true(x == START))
    return where(copied == START, full(x, END), copied)


def _copy_oracle(prompt: list[int]) -> list[int]:
    return [*prompt[:-1], END]


def _copy_of(drawn: Ints, answer: Ints) -> Batch:
    rows = len(drawn)
    return _batch(
        np.concatenate([drawn, _column(rows, START)], axis=1), np.concatenate([answer, _column(rows, END)], axis=1)
    )


def _distinct(length: int, rows: int, rng: np.random.Generator, alphabet: int) -> Ints:
    if length > alphabet:
        raise ArgumentError(f"expected length at most {alphabet}, the size of the alphabet, got {length}")
    return np.argsort(rng.random((rows, alphabet)), axis=1)[:, :length].astype(np.int64)


def _copy_unique_make(length: int, rows: int, rng: np.random.Generator, alphabet: int = 128) -> Batch:
    drawn = _distinct(length, rows, rng, alphabet)
    return _copy_of(drawn, drawn)


def _copy_repeated_make(length: int, rows: int, rng: np.random.Generator, alphabet: int = 2) -> Batch:
    drawn = rng.integers(0, alphabet, (rows, length))
    return _copy_of(drawn, drawn)


def _sort(x: Any) -> Any:
    return kqv(x, x, x, gt, default=END, reduction="min")


def _sort_oracle(prompt: list[int]) -> list[int]:
    return [*sorted(prompt[:-1]), END]


def _sort_make(length: int, rows: int, rng: np.random.Generator, alphabet: int = 128) -> Batch:
    drawn = _distinct(length, rows, rng, alphabet)
    return _copy_of(drawn, np.sort(drawn, axis=1))


# --- parity -----------------------------------------------------------------------------------------------------------


def _parity(x: Any) -> Any:
    """Plain RASP: a count taken modulo 2 is not RASP-L."""
    return where(x == START, cumsum(x == 1) % 2, full(x, END))


def _parity_oracle(prompt: list[int]) -> list[int]:
    return [sum(prompt[:-1]) % 2, END]


def _parity_make(length: int, rows: int, rng: np.random.Generator) -> Batch:
    bits = rng.integers(0, 2, (rows, length))
    return _copy_of(bits, bits.sum(axis=1, keepdims=True) % 2)


def _parity_scratchpad(x: Any) -> Any:
    """Hint and running parity of each 1: the next hint by order, the parity by the one before."""
    before, after = shift_right(x, 1), has_seen(x, full(x, START))
    ones = where((x == 1) & (after == 0), before, full(x, 0))  # the hint of each 1 of the prompt
    asked = where(x == START, full(x, BIT_HINT - 1), before)
    hint = kqv(ones, asked, ones, gt, default=END, reduction="min")
    bit = where(before == START, full(x, 1), 1 - before)
    return where(x >= BIT_HINT, bit, hint)


def _parity_scratchpad_oracle(prompt: list[int]) -> list[int]:
    out, running = [], 0
    for hint, bit in zip(prompt[:-1:2], prompt[1:-1:2], strict=True):
        if bit:
            running ^= 1
            out += [hint, running]
    return [*out, END]


def _hint_starts(length: int, rows: int, rng: np.random.Generator, hints: int | None) -> Ints:
    """Return how far into a fixed supply of hints each row begins (rows, 1); without a supply, at its start.

    A network sees the hints of long instances in training only where short ones begin anywhere.
    """
    if hints is None:
        return np.zeros((rows, 1), dtype=np.int64)
    if length > hints:
        raise ArgumentError(f"hints: expected at least the {length} of an instance, got {hints}")
    return rng.integers(0, hints - length + 1, (rows, 1))


def _parity_scratchpad_make(length: int, rows: int, rng: np.random.Generator, hints: int | None = None) -> Batch:
    bits = rng.integers(0, 2, (rows, length))
    first = BIT_HINT + _hint_starts(length, rows, rng, hints)
    prompt = np.empty((rows, 2 * length + 1), dtype=np.int64)
    prompt[:, 0:-1:2] = first + np.arange(length)
    prompt[:, 1:-1:2] = bits
    prompt[:, -1] = START
    ones = bits.sum(axis=1)
    order = np.argsort(1 - bits, axis=1, kind="stable")  # the places of the ones first
    width = 2 * length + 1
    answer = np.zeros((rows, width), dtype=np.int64)
    answer[:, 0:-1:2] = first + order
    answer[:, 1:-1:2] = (np.arange(length) + 1) % 2
    answer[np.arange(rows), 2 * ones] = END
    answer[np.arange(width) > 2 * ones[:, None]] = 0
    lengths = prompt.shape[1] + 2 * ones + 1
    tokens = np.concatenate([prompt, answer], axis=1)[:, : int(lengths.max(initial=prompt.shape[1]))]
    return Batch(tokens, lengths, np.full(rows, prompt.shape[1]))


# --- addition ---------------------------------------------------------------------------------------------------------


def _operands(x: Any) -> tuple[Any, Callable[[Any], Any], Callable[[Any], Any]]:
    """Return where the answer is, and the digits of the two operands by hint."""
    answering = has_seen(x, full(x, EQUALS))
    in_second = (has_seen(x, full(x, PLUS)) == 1) & (answering == 0)
    second = where(in_second, x, full(x, NOTHING))
    return in_second, lambda hint: induct(x, hint, offset=1), lambda hint: induct_kqv(second, hint, x, offset=1)


def _digit(total: Any, x: Any) -> Any:
    return where(total > 9, total - 10, total) + full(x, 0)


def _addition_reverse(x: Any) -> Any:
    """From the last digit on: the carry follows from the pair of digits before and the digit of the sum written there.

    Tokens of the prompt are predicted as the authors' program does: 0 or a carry at a hint, END after the signs.
    """
    in_second, first, _ = _operands(x)
    before, hint_before = shift_right(x, 1), shift_right(x, 2)
    place = where(in_second & (x >= 0), before, full(x, NOTHING))  # at a digit of the second operand, its hint
    pair = first(before) + x

    def total(hint: Any) -> Any:
        return kqv(place, hint, pair, equals, default=0)

    carry = (total(hint_before) > 9) | ((total(hint_before) == 9) & (before == 0))
    digit = _digit(total(x) + carry, x)
    hint = where((x < 0) | (before == _leading(x)), full(x, ADDITION_END), before + 1)
    return where(x <= FIRST_HINT, digit, where(x == EQUALS, minimum(x), hint))


def _addition_forward(x: Any) -> Any:
    """From the leading digit on: the carry comes from the next place below whose digits do not add up to 9."""
    in_second, first, second = _operands(x)
    before = shift_right(x, 1)
    pair = first(before) + x  # at a digit of the second operand
    decides = in_second & (x >= 0) & (pair != 9)
    place = where(decides, before, full(x, 1))
    below = kqv(place, x, place, lt, default=0, reduction="max")
    carry = kqv(place, below, where(pair > 9, full(x, 1), full(x, 0)), equals, default=0, reduction="max")
    digit = _digit(first(x) + second(x) + carry, x)
    known = has_seen(x, before - 1)
    hint = where(known, before - 1, full(x, ADDITION_END))
    return where(x <= FIRST_HINT, digit, where(x == EQUALS, _leading(x), hint))


def _leading(x: Any) -> Any:
    """Return the hint of the leading digits, which stands after START."""
    return index_select(x, full(x, 1))


def _addition_reverse_plain(x: Any) -> Any:
    """Plain RASP, the digits counted from the signs: as with hints, but each place is found by arithmetic."""
    here, plus, equal = indices(x), first_true(x == PLUS), first_true(x == EQUALS)
    written = here - equal  # digits of the sum

    def total(place: Any) -> Any:
        return index_select(x, plus - 1 - place) + index_select(x, equal - 1 - place)

    before = total(written - 1)
    carry = (x != EQUALS) & ((before > 9) | ((before == 9) & (x == 0)))
    return where(written == equal - plus - 1, full(x, ADDITION_END), _digit(total(written) + carry, x))


def _addition_forward_plain(x: Any) -> Any:
    """Plain RASP; the carry comes from the next place below whose digits do not add up to 9."""
    here, plus, equal = indices(x), first_true(x == PLUS), first_true(x == EQUALS)
    own = here - equal + 1  # places are numbered from the leading one, 1
    in_second = (has_seen(x, full(x, PLUS)) == 1) & (has_seen(x, full(x, EQUALS)) == 0)
    pair = index_select(x, here - plus) + x  # at a digit of the second operand
    place = where(in_second & (x >= 0) & (pair != 9), here - plus, full(x, 0))
    below = kqv(place, own, place, gt, default=0, reduction="min")
    carry = kqv(place, below, where(pair > 9, full(x, 1), full(x, 0)), equals, default=0, reduction="max")
    digit = _digit(index_select(x, own) + index_select(x, plus + own) + where(below == 0, full(x, 0), carry), x)
    return where(own == equal - plus, full(x, ADDITION_END), digit)


def _addition_oracle(reverse: bool, hinted: bool) -> Callable[[list[int]], list[int]]:
    def oracle(prompt: list[int]) -> list[int]:
        split = prompt.index(PLUS)
        a, b = ([d for d in part if d >= 0] for part in (prompt[1:split], prompt[split:]))
        digits = [int(d) for d in str(int("".join(map(str, a))) + int("".join(map(str, b)))).zfill(len(a))]
        pairs = [(prompt[1] - at, d) if hinted else (d,) for at, d in enumerate(digits)]
        return [token for pair in (reversed(pairs) if reverse else pairs) for token in pair] + [ADDITION_END]

    return oracle


def _addends(length: int, rows: int, rng: np.random.Generator, carry: str) -> tuple[Ints, Ints, Ints]:
    """Return the digits of two numbers with one leading zero, and of their sum: (rows, length + 1).

    Balanced: one carry chain of uniform length and place; hard: through all.
    """
    if carry not in ("standard", "balanced", "hard"):
        raise ArgumentError(f"addition: carry: expected standard, balanced or hard, got {carry!r}")
    a = rng.integers(0, 10, (rows, length))
    b = rng.integers(0, 10, (rows, length))
    if carry != "standard":
        low = rng.integers(0, 10 - a)  # no carries: a + b <= 9
        chain = np.full(rows, length) if carry == "hard" else rng.integers(0, length + 1, rows)
        end = length - (rng.random(rows) * (length - chain + 1)).astype(np.int64)  # first place below the chain
        place = np.arange(length)
        inside = (place >= (end - chain)[:, None]) & (place < end[:, None])
        starts = inside & (place == (end - 1)[:, None])  # the last place of the chain makes the carry
        b = np.where(inside, 9 - a, low)
        below = place == (end - chain - 1)[:, None]
        b = np.where(below & (a + b == 9), np.maximum(b - 1, 0), b)
        a = np.where(below & (a + b == 9), a - 1, a)  # the carry stops above the chain
        a = np.where(starts & (a == 0), 1, a)
        b = np.where(starts, np.minimum(9, 10 - a + (rng.random((rows, length)) * a).astype(np.int64)), b)
    zero = np.zeros((rows, 1), dtype=np.int64)
    a, b = np.concatenate([zero, a], axis=1), np.concatenate([zero, b], axis=1)
    total = a + b
    for at in range(length, 0, -1):
        total[:, at - 1] += total[:, at] // 10
        total[:, at] %= 10
    return a, b, total


def _sum_of(a: Ints, b: Ints, total: Ints) -> Batch:
    rows = len(a)
    prompt = [_column(rows, START), a, _column(rows, PLUS), b, _column(rows, EQUALS)]
    return _batch(np.concatenate(prompt, axis=1), np.concatenate([total, _column(rows, ADDITION_END)], axis=1))


def _addition_make(reverse: bool) -> Callable[..., Batch]:
    def make(
        length: int, rows: int, rng: np.random.Generator, carry: str = "standard", hints: int | None = None
    ) -> Batch:
        digits = _addends(length, rows, rng, carry)
        written = FIRST_HINT - _hint_starts(length + 1, rows, rng, hints) - np.arange(length + 1)
        a, b, total = (np.stack([written, d], axis=2) for d in digits)
        return _sum_of(*(x.reshape(rows, 2 * length + 2) for x in (a, b, total[:, ::-1] if reverse else total)))

    return make


def _addition_plain_make(reverse: bool) -> Callable[..., Batch]:
    def make(length: int, rows: int, rng: np.random.Generator, carry: str = "standard") -> Batch:
        a, b, total = _addends(length, rows, rng, carry)
        return _sum_of(a, b, total[:, ::-1] if reverse else total)

    return make


count = Task("count", _count, True, _count_oracle, _count_make)
mode = Task("mode", _mode, True, _mode_oracle, _mode_make)
mode_by_first = Task("mode_by_first", _mode_by_first, False, _mode_by_first_oracle, _scratchpad_make(False))
mode_by_count = Task("mode_by_count", _mode_by_count, False, _mode_by_count_oracle, _scratchpad_make(True))
copy_unique = Task("copy_unique", _copy_unique, True, _copy_oracle, _copy_unique_make)
copy_repeated = Task("copy_repeated", _copy_repeated, False, _copy_oracle, _copy_repeated_make)
sort = Task("sort", _sort, True, _sort_oracle, _sort_make)
parity = Task("parity", _parity, False, _parity_oracle, _parity_make)
parity_scratchpad = Task(
    "parity_scratchpad", _parity_scratchpad, True, _parity_scratchpad_oracle, _parity_scratchpad_make
)
addition_forward = Task(
    "addition_forward", _addition_forward, True, _addition_oracle(False, True), _addition_make(False), ADDITION_END
)
addition_reverse = Task(
    "addition_reverse", _addition_reverse, True, _addition_oracle(True, True), _addition_make(True), ADDITION_END
)
addition_forward_plain = Task(
    "addition_forward_plain", _addition_forward_plain, False, _addition_oracle(False, False),
    _addition_plain_make(False), ADDITION_END,
)  # fmt: skip
addition_reverse_plain = Task(
    "addition_reverse_plain", _addition_reverse_plain, False, _addition_oracle(True, False),
    _addition_plain_make(True), ADDITION_END,
)  # fmt: skip

ALL = {
    task.name: task
    for task in (count, mode, mode_by_first, mode_by_count, copy_unique, copy_repeated, sort, parity,
                 parity_scratchpad, addition_forward, addition_reverse, addition_forward_plain, addition_reverse_plain)
}  # fmt: skip
