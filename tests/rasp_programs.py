"""Programs of the compiler community's library (tracr), in our operators: what tests and benchmarks compile."""

from __future__ import annotations

from typing import Any

from legato.rasp.sops import (
    Aggregate,
    Comparison,
    Full,
    LinearSequenceMap,
    Map,
    Select,
    SelectorWidth,
    SequenceMap,
    indices,
    length,
    tokens,
)

EQ, LT, LEQ, TRUE = Comparison.EQ, Comparison.LT, Comparison.LEQ, Comparison.TRUE
HIST = SelectorWidth(Select(tokens, tokens, EQ))


def make_frac_prevs(bools: Any) -> Any:
    return Aggregate(Select(indices, indices, LEQ), bools)


def make_shift_by(offset: int, sop: Any) -> Any:
    return Aggregate(Select(indices, SequenceMap(lambda i: i - offset, indices), EQ), sop)


def make_detect(sop: Any, pattern: str) -> Any:
    parts = [make_shift_by(len(pattern) - 1 - at, sop == c) for at, c in enumerate(pattern)]
    out = parts[0]
    for part in parts[1:]:
        out = SequenceMap(lambda x, y: x and y, part, out)
    return out


def make_pair_balance(sop: Any, opening: str, closing: str) -> Any:
    return LinearSequenceMap(make_frac_prevs(sop == opening), make_frac_prevs(sop == closing), 1, -1)


def make_length() -> Any:
    return SelectorWidth(Select(tokens, tokens, TRUE))


def make_shuffle_dyck(pairs: list[str]) -> Any:
    balances = [make_pair_balance(tokens, *pair) for pair in pairs]
    negative = [Map(lambda x: x < 0, b) for b in balances]
    any_negative = negative[0] if len(pairs) == 1 else SequenceMap(lambda a, b: a or b, *negative)
    has_negative = Aggregate(Select(any_negative, Full(True), EQ), Full(1), default=0) > 0
    zero = [Map(lambda x: x == 0, b) for b in balances]
    all_zero = zero[0] if len(pairs) == 1 else SequenceMap(lambda a, b: a and b, *zero)
    last_zero = Aggregate(Select(indices, make_length() - 1, EQ), all_zero)
    return SequenceMap(lambda last, bad: last and not bad, last_zero, has_negative)


def make_sort_unique(values: Any, keys: Any) -> Any:
    return Aggregate(Select(SelectorWidth(Select(keys, keys, LT)), indices, EQ), values)


PROGRAMS: dict[str, Any] = {
    "make_length": make_length(),
    "make_hist": SelectorWidth(Select(tokens, tokens, EQ)),
    "make_sort_unique(tokens,tokens)": make_sort_unique(tokens, tokens),
    'make_frac_prevs(tokens=="a")': make_frac_prevs(tokens == "a"),
    "shift_by(2,tokens)": make_shift_by(2, tokens),
    'detect_pattern(tokens,"ab")': make_detect(tokens, "ab"),
    'make_count(tokens,"a")': SelectorWidth(Select(tokens, Full("a"), EQ)),
    "make_nary_sequencemap(x+y-z; tokens,indices,length)": SequenceMap(
        lambda x, y, z: x + y - z, tokens, indices, length
    ),
    "SelectorWidth(tokens<tokens | (tokens==tokens & idx<idx))": SelectorWidth(
        Select(tokens, tokens, LT) | (Select(tokens, tokens, EQ) & Select(indices, indices, LT))
    ),
    "Aggregate(tokens>tokens, indices, default=-1)": Aggregate(
        Select(tokens, tokens, Comparison.GT), indices, default=-1
    ),
    'make_shuffle_dyck(["()"])': make_shuffle_dyck(["()"]),
}


def make_sort(values: Any, keys: Any) -> Any:
    before = Select(keys, keys, LT) | (Select(keys, keys, EQ) & Select(indices, indices, LT))
    return Aggregate(Select(SelectorWidth(before), indices, EQ), values)


ABC, NUMBERS = ["a", "b", "c"], [1, 2, 3]
# The compiler's 18 library programs (longest input 4 or 6, as its own tests do).
COMPILED: dict[str, tuple[Any, list[Any], int]] = {
    "length": (PROGRAMS["make_length"], ABC, 6),
    "length primitive": (length, ABC, 6),
    "reverse": (Aggregate(Select(indices, SequenceMap(lambda n, i: n - i - 1, length, indices), EQ), tokens), ABC, 5),
    "pair_balance": (make_pair_balance(tokens, "(", ")"), ["(", ")"], 6),
    "shuffle_dyck": (make_shuffle_dyck(["()"]), ["(", ")"], 6),
    "shuffle_dyck2": (make_shuffle_dyck(["()", "{}"]), ["(", ")", "{", "}"], 3),
    "hist": (HIST, ABC, 6),
    "sort_unique": (PROGRAMS["make_sort_unique(tokens,tokens)"], NUMBERS, 4),
    "sort": (make_sort(tokens, tokens), NUMBERS, 4),
    "sort_freq": (make_sort(tokens, Map(lambda h: -h, HIST)), NUMBERS, 4),
    "frac_prevs": (PROGRAMS['make_frac_prevs(tokens=="a")'], ABC, 6),
    "shift_by(2)": (make_shift_by(2, tokens), ABC, 6),
    "shift_by(-1)": (make_shift_by(-1, tokens), ABC, 6),
    "detect ab": (make_detect(tokens, "ab"), ABC, 6),
    "detect aba": (make_detect(tokens, "aba"), ABC, 5),
    "count": (PROGRAMS['make_count(tokens,"a")'], ABC, 6),
    "count_less_freq": (SelectorWidth(Select(HIST, Full(2), Comparison.LEQ)), ABC, 6),
    "nary": (SequenceMap(lambda x, y, z: x + y - z, tokens, indices, length), NUMBERS, 5),
}
