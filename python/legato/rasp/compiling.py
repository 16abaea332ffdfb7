"""Programs as the weights of a transformer, and the check that both compute the same.

Every sequence of the program owns a piece of the residual stream: one coordinate for each value it can take (one-hot).
A selector is a bilinear form of the one-hot vectors of queries and keys; a token BOS before the input is attended where
nothing is selected. Attention gives, per reduction: the mean of the selected values, from which step functions of the
MLP read off the rounded one; the largest value, by adding its rank to the scores below the height of a selected key
(Zhou et al. 2023, appendix on max); or, for the width d, the share 1 / (d + 1) of BOS, read off by steps whose slope
follows from max_len. No layer norm; attention and MLP add to the stream.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legato._scalars import as_count, as_flag
from legato.errors import ArgumentError
from legato.rasp.evaluation import scalar_function
from legato.rasp.graph import Choice, Value
from legato.rasp.nodes import Node, interned, selector_parts
from legato.rasp.predicates import Predicate
from legato.rasp.programs import Program
from legato.rasp.weights import Clock, Head, Progress, Weights

__all__ = ["CompileError", "compile"]

Float = NDArray[np.float64]
_COLD = 100.0  # inverse temperature: what is not selected keeps exp(-50) of the weight


class CompileError(ArgumentError):
    """The program, or one node of it, has no weights; the message names the node.

    See Also
    --------
    compile : Compile a program to the weights of a transformer.

    Examples
    --------
    >>> from legato import rasp
    >>> try:
    ...     rasp.compile(rasp.Program(lambda x: rasp.cumsum(x)), vocab=range(9), max_len=4, max_values=2)
    ... except rasp.CompileError:
    ...     print("more values than allowed")
    more values than allowed
    """


@dataclass
class _Layer:
    # name, (query coordinate, key coordinate, score), coordinate read -> coordinates written
    noted: list[tuple[str, list[tuple[int, int, float]], dict[int, dict[int, float]]]] = field(default_factory=list)
    inner: list[tuple[dict[int, float], float]] = field(default_factory=list)  # hidden unit: weights and bias
    outer: list[dict[int, float]] = field(default_factory=list)  # hidden unit: where it adds


def compile(  # the name of the operation in the field
    program: Program | Value,
    vocab: Iterable[Any],
    max_len: int,
    *,
    causal: bool | None = None,
    max_values: int = 4096,
    verify: bool = True,
    seconds: float | None = None,
    progress: Progress = False,
) -> Weights:
    """Compile a program to the weights of a transformer.

    Parameters
    ----------
    program : Program or symbol
        RASP-L, or an expression of `legato.rasp.sops`.
    vocab : iterable
        The tokens.
    max_len : int
        Longest input, BOS not counted.
    causal : bool, optional
        For expressions of `sops`; by default programs are causal and expressions are not.
    max_values : int
        Most values one sequence may take, and most combinations one map may read.
    verify : bool
        Run `Weights.verify` and refuse weights that disagree with the program.
    seconds : float, optional
        How long it may take. Compiling beyond it is an error; verifying ends where it is over, as
        ``weights.verification.complete`` tells.
    progress : bool or callable
        True writes a line to the standard error; a function gets what is done and how much of it, from 0 to 1.

    Raises
    ------
    CompileError
        A node takes too many values, has no representation, the time is over, or the weights disagree with the program.

    See Also
    --------
    Weights : A compiled program.
    to_hooked : Return a `transformer_lens.HookedTransformer` (float64.
    save_gpt2 : Write ``config.json`` and ``model.safetensors`` of a Hugging Face `GPT2LMHeadModel` into a folder.

    Examples
    --------
    >>> from legato import rasp
    >>> w = rasp.compile(rasp.Program(lambda x: rasp.num_prev(x, x)), vocab=[1, 2, 3], max_len=6)
    >>> w.forward([1, 1, 3, 1]), w.n_layers
    ([1, 2, 1, 3], 1)
    """
    if not isinstance(program, Program | Node):
        raise ArgumentError(f"program: expected a Program or a traced sequence, got {type(program).__name__}")
    nodes = program.nodes if isinstance(program, Program) else interned(program)
    source = nodes[-1]
    if not isinstance(source, Value):
        raise CompileError("expected a sequence, got a selector")
    try:
        tokens = list(vocab)
        sound = bool(tokens) and len(set(tokens)) == len(tokens) and all(x == x for x in tokens)
    except Exception:  # cannot be gone through, has no hash, or cannot be compared
        sound = False
    if not sound:
        raise CompileError("vocab: expected at least one token, each once, and none of them NaN")
    max_len, max_values = as_count("max_len", max_len), as_count("max_values", max_values)
    verify = as_flag("verify", verify)
    own = {node.attributes["causal"] for node in nodes if node.kind == "select"} - {None}
    if len(own) > 1:
        raise CompileError("some selectors are causal and some are not")
    masked = own.pop() if own else (isinstance(program, Program) if causal is None else causal)
    written = program.written() if isinstance(program, Program) else program
    start = time.monotonic()
    weights = _Compiler(tokens, max_len, masked, max_values, Clock(seconds, progress)).compiled(source, written)
    if verify:
        left = None if seconds is None else max(0.0, start + seconds - time.monotonic())
        report = weights.verification = weights.verify(seconds=left, progress=progress)
        if not report.ok:
            first = report.failures[0] if report.failures else ("no input could be compared", "", "")
            raise CompileError(f"the weights disagree with the program: input {first[0]}: {first[1]}, model {first[2]}")
    return weights


class _Compiler:
    def __init__(self, vocab: list[Any], max_len: int, causal: bool, max_values: int, clock: Clock) -> None:
        self.vocab, self.max_len, self.causal, self.max_values = vocab, max_len, causal, max_values
        self.clock = clock
        self.width = 0
        self.scalars = {"one", "bos"}
        self.layout: dict[str, tuple[slice, list[Any]]] = {}
        self.values: dict[int, list[Any]] = {}
        self.piece: dict[int, slice] = {}
        self.ready: dict[int, int] = {}  # first layer that can read the node
        self.layers: list[_Layer] = []
        self.kept: list[Node] = []  # made here; kept so that ids stay theirs
        self.one = self._take("one", [1]).start
        self.bos = self._take("bos", [1]).start

    def _take(self, name: str, values: list[Any]) -> slice:
        base, at = name, 2
        while name in self.layout:
            name, at = f"{base}_{at}", at + 1
        piece = slice(self.width, self.width + len(values))
        self.width = piece.stop
        self.layout[name] = (piece, values)
        return piece

    def _scalar(self, node: Node, what: str) -> int:
        """Return a coordinate that holds a number: the share of BOS, a mean, whether something is selected."""
        at: int = self._take(f"{self._name(node)}.{what}", [what]).start
        self.scalars.add(next(reversed(self.layout)))
        return at

    def _layer(self, at: int) -> _Layer:
        while len(self.layers) <= at:
            self.layers.append(_Layer())
        return self.layers[at]

    def compiled(self, source: Value, written: Value) -> Weights:
        order = interned(source)
        self.names = {id(node): node.label or f"{_kind(node)}_{at}" for at, node in enumerate(order)}
        indices = next((n for n in order if n.kind == "indices"), Value("indices"))
        tokens = next((n for n in order if n.kind == "tokens"), Value("tokens"))
        self.kept += [indices, tokens]
        for node, name, values in ((tokens, "tokens", self.vocab), (indices, "indices", list(range(self.max_len)))):
            self._own(node, self._take(name, values), values, 0)
        for at, node in enumerate(order):
            if self.clock.over("compile", at / len(order)):
                raise CompileError(
                    f"node {self._name(node)}: the time is over; {at} of {len(order)} nodes are compiled"
                )
            if id(node) in self.piece or isinstance(node, Choice):
                continue
            if node.kind == "constant":
                self._own(node, slice(self.one, self.one + 1), [node.attributes["value"]], 0)
            elif node.kind == "map":
                self._map(node, list(node.inputs), _function(node))
            elif node.kind in ("width", "length"):
                self._width(node)
            else:
                self._aggregate(node)
        output = self._named_output(order[-1])
        self.clock.over("compile", 1.0)
        return Weights(
            self.vocab, self.max_len, self.causal, self.layout, self.scalars, output,
            [_heads(layer, self.width) for layer in self.layers], [_units(layer, self.width) for layer in self.layers],
            written,
        )  # fmt: skip

    def _named_output(self, node: Node) -> str:
        for name, (piece, _) in self.layout.items():
            if piece == self.piece[id(node)] and node.kind != "constant":
                return name
        piece = self._take("output", [node.attributes["value"]])  # a constant program
        self._unit(0, {self.one: 1.0}, 0.0, {piece.start: 1.0})
        return "output"

    def _own(self, node: Node, piece: slice, values: list[Any], ready: int) -> None:
        self.piece[id(node)], self.values[id(node)], self.ready[id(node)] = piece, values, ready

    def _name(self, node: Node) -> str:
        return self.names.get(id(node), node.kind)

    def _too_many(self, node: Node, count: int) -> CompileError:
        return CompileError(f"node {self._name(node)}: {count} values, more than max_values = {self.max_values}")

    def _unit(self, layer: int, weights: dict[int, float], bias: float, adds: dict[int, float]) -> None:
        target = self._layer(layer)
        target.inner.append((weights, bias))
        target.outer.append(adds)

    # --- elementwise ---

    def _map(self, node: Node, inputs: list[Node], function: Callable[..., Any]) -> None:
        free = [i for i, source in enumerate(inputs) if source.kind != "constant"]
        distinct: dict[int, Node] = {id(inputs[i]): inputs[i] for i in free}
        sources = list(distinct.values())
        sets = [self.values[id(source)] for source in sources]
        count = int(np.prod([len(s) for s in sets], dtype=float))
        if count > self.max_values:
            raise self._too_many(node, count)
        place = {id(source): at for at, source in enumerate(sources)}
        results: list[tuple[tuple[int, ...], Any]] = []
        for chosen in itertools.product(*(range(len(s)) for s in sets)):
            arguments = [
                source.attributes["value"] if source.kind == "constant"
                else sets[place[id(source)]][chosen[place[id(source)]]]
                for source in inputs
            ]  # fmt: skip
            try:
                result = function(*arguments)
            except (TypeError, ValueError, ArithmeticError, KeyError, IndexError):
                continue  # a combination that does not occur; verify() would see if it did
            results.append((chosen, result))
        values = _ordered(result for _, result in results)
        if not values:
            raise CompileError(f"node {self._name(node)}: it is an error for every value of its inputs")
        piece = self._take(self._name(node), values)
        layer = max((self.ready[id(source)] for source in sources), default=0)
        number = {_key(v): at for at, v in enumerate(values)}
        for chosen, result in results:
            weights = {self.piece[id(s)].start + at: 1.0 for s, at in zip(sources, chosen, strict=True)}
            bias = 1.0 - len(weights) if weights else 0.0
            self._unit(layer, weights or {self.one: 1.0}, bias, {piece.start + number[_key(result)]: 1.0})
        self._own(node, piece, values, layer + 1)

    # --- selectors ---

    def _pairs(self, choice: Node) -> list[tuple[Node, Node, Callable[[Any, Any], bool]]]:
        """Return key, query and predicate of selectors that must all hold."""
        found = _conjunction(choice)
        if found is not None:
            return found
        order = selector_parts(choice)
        asked = [part for part in order if part.kind == "select"]
        keys = list({id(s.inputs[0]): s.inputs[0] for s in asked}.values())
        queries = list({id(s.inputs[1]): s.inputs[1] for s in asked}.values())
        k, q = self._tuple(keys), self._tuple(queries)
        key_at = {id(node): at for at, node in enumerate(keys)}
        query_at = {id(node): at for at, node in enumerate(queries)}

        def holds(key: tuple[Any, ...], query: tuple[Any, ...]) -> bool:
            found: dict[int, bool] = {}
            for part in order:
                if part.kind == "select":
                    pair = key[key_at[id(part.inputs[0])]], query[query_at[id(part.inputs[1])]]
                    found[id(part)] = _holds(part, *pair)
                    continue
                below = [found[id(operand)] for operand in part.inputs]
                found[id(part)] = not below[0] if part.kind == "not" else (all if part.kind == "and" else any)(below)
            return found[id(choice)]

        return [(k, q, holds)]

    def _tuple(self, nodes: list[Node]) -> Node:
        made = Value("map", tuple(nodes), op=None)
        self.kept.append(made)
        self.names[id(made)] = "pair_" + "_".join(self._name(node) for node in nodes)
        self._map(made, nodes, lambda *x: x)
        return made

    def _head(
        self,
        node: Node,
        choice: Node | None,
        bos_height: float,
        ranked: tuple[Node, dict[int, float]] | None,
        values: dict[int, dict[int, float]],
        values_ready: int,
    ) -> int:
        """Add a head; `values` maps a coordinate read to the coordinates written. Returns its layer.

        Scores are _COLD times (number of predicates that hold, times the height of the ranks, plus the rank); BOS
        stands `bos_height` predicates high.
        """
        pairs = [] if choice is None else self._pairs(choice)
        scale = 1.0 if ranked is None else float(len(ranked[1]) + 1)
        entries: list[tuple[int, int, float]] = []  # query coordinate, key coordinate, score
        layer = values_ready
        for key, query, predicate in pairs:
            layer = max(layer, self.ready[id(key)], self.ready[id(query)])
            k0, q0 = self.piece[id(key)].start, self.piece[id(query)].start
            for a, k in enumerate(self.values[id(key)]):
                for b, q in enumerate(self.values[id(query)]):
                    if predicate(k, q):
                        entries.append((q0 + b, k0 + a, scale * _COLD))
        if choice is None:
            entries.append((self.one, self.one, _COLD))
        if ranked is not None:
            entries += [(self.one, at, _COLD * rank) for at, rank in ranked[1].items() if rank]
        entries.append((self.one, self.bos, _COLD * (scale * (max(len(pairs), 1) - 1 + bos_height))))
        entries.append((self.bos, self.bos, _COLD * scale * (len(pairs) + 2)))  # BOS sees itself alone
        self._layer(layer).noted.append((self._name(node), entries, values))
        return layer

    def _width(self, node: Node) -> None:
        share = self._scalar(node, "share")
        choice = node.inputs[0] if node.inputs else None
        layer = self._head(node, choice, 1.0, None, {self.bos: {share: 1.0}}, 0)
        values = list(range(self.max_len + 1))
        piece = self._take(self._name(node), values)
        # The width is at most d exactly when the share is above the middle of 1 / (d + 1) and 1 / (d + 2).
        steps = [(0.5 / (d + 1) + 0.5 / (d + 2), 0.5 / ((d + 1) * (d + 2))) for d in values[:-1]]
        for d, (threshold, half_gap) in enumerate(steps):
            self._step(
                layer, share, threshold, half_gap, self.one, 1.0, {piece.start + d: 1.0, piece.start + d + 1: -1.0}
            )
        self._unit(layer, {self.one: 1.0}, 0.0, {piece.stop - 1: 1.0})
        self._own(node, piece, values, layer + 1)

    def _step(
        self, layer: int, at: int, threshold: float, half_gap: float, gate: int, reach: float, adds: dict[int, float]
    ) -> None:
        """1 where coordinate `at` is above the threshold and the gate is open; exact outside the half gap around it."""
        slope = 1.0 / half_gap
        closed = slope * (reach + abs(threshold)) + 1.0
        for bias, sign in ((0.5, 1.0), (-0.5, -1.0)):
            self._unit(
                layer,
                {at: slope, gate: closed},
                bias - slope * threshold - closed,
                {to: sign * weight for to, weight in adds.items()},
            )

    def _aggregate(self, node: Node) -> None:
        choice, value = node.inputs
        how = node.attributes
        values = self.values[id(value)]
        numeric = all(isinstance(v, int | float) for v in values)
        if how["reduction"] in ("max", "min", "sum"):
            if not numeric:
                raise CompileError(f"node {self._name(node)}: {how['reduction']} of values that are no numbers")
            if how["reduction"] == "sum":
                self._sum(node, choice, value)
            else:
                self._largest(node, choice, value, self._scalar(node, "found"))
        elif numeric:
            self._mean(node, choice, value, self._scalar(node, "found"))
        else:
            self._copied(node, choice, value, self._scalar(node, "found"))

    def _largest(self, node: Node, choice: Node, value: Node, found: int) -> None:
        values = self.values[id(value)]
        ordered = sorted(range(len(values)), key=lambda at: values[at], reverse=node.attributes["reduction"] == "min")
        start = self.piece[id(value)].start
        ranks = {start + at: float(rank) for rank, at in enumerate(ordered)}
        out_values = _ordered([*values, node.attributes["default"]])
        number = {_key(v): at for at, v in enumerate(out_values)}
        piece = self._take(self._name(node), out_values)
        copies = {start + at: {piece.start + number[_key(v)]: 1.0} for at, v in enumerate(values)}
        copies.setdefault(self.one, {})
        copies[self.one] = {**copies[self.one], found: 1.0}
        # Ranks end below len(values); one predicate is len(values) + 1 high: BOS goes between.
        height = len(values) / (len(values) + 1.0)
        layer = self._head(node, choice, height, (value, ranks), copies, self.ready[id(value)])
        default = piece.start + number[_key(node.attributes["default"])]
        self._unit(layer, {self.one: 1.0, found: -1.0}, 0.0, {default: 1.0})
        self._own(node, piece, out_values, layer + 1)

    def _copied(self, node: Node, choice: Node, value: Node, found: int) -> None:
        """Values of any type, of which one is selected; verify() refuses programs that select several."""
        values = self.values[id(value)]
        out_values = _ordered([*values, node.attributes["default"]])
        number = {_key(v): at for at, v in enumerate(out_values)}
        piece = self._take(self._name(node), out_values)
        start = self.piece[id(value)].start
        copies = {start + at: {piece.start + number[_key(v)]: 1.0} for at, v in enumerate(values)}
        copies[self.one] = {**copies.get(self.one, {}), found: 1.0}
        layer = self._head(node, choice, 0.5, None, copies, self.ready[id(value)])
        default = piece.start + number[_key(node.attributes["default"])]
        self._unit(layer, {self.one: 1.0, found: -1.0}, 0.0, {default: 1.0})
        self._own(node, piece, out_values, layer + 1)

    def _mean(self, node: Node, choice: Node, value: Node, found: int) -> None:
        how = node.attributes
        values = self.values[id(value)]
        means, decode = self._means(node, values, how["rounding"])
        default = how["default"]
        out_values = _ordered([*decode, default])
        number = {_key(v): at for at, v in enumerate(out_values)}
        if len(out_values) > self.max_values:
            raise self._too_many(node, len(out_values))
        mean = self._scalar(node, "mean")
        piece = self._take(self._name(node), out_values)
        start = self.piece[id(value)].start
        reads: dict[int, dict[int, float]] = {}
        for at, v in enumerate(values):
            reads.setdefault(start + at, {})[mean] = float(v)
        reads.setdefault(self.one, {})[found] = 1.0
        layer = self._head(node, choice, 0.5, None, reads, self.ready[id(value)])
        self._unit(layer, {found: 1.0}, 0.0, {piece.start + number[_key(decode[0])]: 1.0})
        reach = max(abs(float(v)) for v in values) + 1.0
        for at in range(1, len(means)):
            below, above = means[at - 1][1], means[at][0]  # last mean of one value, first of the next
            old, new = (piece.start + number[_key(decode[i])] for i in (at - 1, at))
            adds = {old: -1.0, new: 1.0}
            self._step(layer, mean, float(below + above) / 2, float(above - below) / 2, found, reach, adds)
        self._unit(layer, {self.one: 1.0, found: -1.0}, 0.0, {piece.start + number[_key(default)]: 1.0})
        self._own(node, piece, out_values, layer + 1)

    def _sum(self, node: Node, choice: Node, value: Node) -> None:
        """Read the mean by steps of their own for each width, which is computed beside it: a sum is their product."""
        values, default = self.values[id(value)], node.attributes["default"]
        width = Value("width", (choice,))
        self.kept.append(width)
        self.names[id(width)] = f"{self._name(node)}.width"
        self._width(width)
        reachable: list[list[Fraction]] = [[Fraction(0)]]
        exact = {Fraction(v) for v in values}
        for count in range(1, self.max_len + 1):
            reachable.append(sorted({total + v for total in reachable[-1] for v in exact}))
            if sum(map(len, reachable)) > self.max_values:
                raise CompileError(
                    f"node {self._name(node)}: more than max_values = {self.max_values} sums of {count} values or fewer"
                )
        raw = {total: int(total) if total.denominator == 1 else float(total) for of in reachable for total in of}
        out_values = _ordered([*(raw[total] for of in reachable[1:] for total in of), default])
        number = {_key(v): at for at, v in enumerate(out_values)}
        mean = self._scalar(node, "mean")
        piece = self._take(self._name(node), out_values)
        reads: dict[int, dict[int, float]] = {}
        for at, v in enumerate(values):
            reads.setdefault(self.piece[id(value)].start + at, {})[mean] = float(v)
        layer = max(self._head(node, choice, 0.5, None, reads, self.ready[id(value)]), self.ready[id(width)])
        reach = max(abs(float(v)) for v in values) + 1.0
        for count, totals in enumerate(reachable):
            gate = self.piece[id(width)].start + count
            places = [piece.start + number[_key(raw[total] if count else default)] for total in totals]
            self._unit(layer, {gate: 1.0}, 0.0, {places[0]: 1.0})
            for at in range(1, len(totals)):
                middle, half = (totals[at] + totals[at - 1]) / (2 * count), (totals[at] - totals[at - 1]) / (2 * count)
                adds = {places[at - 1]: -1.0, places[at]: 1.0}
                self._step(layer, mean, float(middle), float(half), gate, reach, adds)
        self._own(node, piece, out_values, layer + 1)

    def _means(self, node: Node, values: list[Any], rounding: str) -> tuple[list[tuple[Fraction, Fraction]], list[Any]]:
        """Return, for each output in order, the smallest and largest mean that gives it."""
        exact = [Fraction(v) for v in values]
        low, high = min(exact), max(exact)
        n = self.max_len
        if rounding in ("truncate", "floor"):
            step = Fraction(1, n)
            outputs: list[Any] = list(range(_rounded(low, rounding), _rounded(high, rounding) + 1))
            bounds = []
            for v in outputs:
                first = Fraction(v) if rounding == "floor" or v > 0 else Fraction(v - 1) + step
                last = Fraction(v + 1) - step if rounding == "floor" or v >= 0 else Fraction(v)
                bounds.append((first, last))
            return bounds, outputs
        if any(v.denominator > n for v in exact):
            raise CompileError(f"node {self._name(node)}: a mean of values that are no small fractions")
        scale = int(np.lcm.reduce([v.denominator for v in exact]))
        span = int((high - low) * scale)
        if span * n * n > 4 * self.max_values * 8:
            raise self._too_many(node, span * n * n // 3)
        sums: set[Fraction] = set()
        whole = sorted({int((v - low) * scale) for v in exact})
        reachable = {0}
        for count in range(1, n + 1):
            reachable = {s + v for s in reachable for v in whole}
            sums |= {low + Fraction(s, scale * count) for s in reachable}
        ordered = sorted(sums)
        raw = {Fraction(v): v for v in values}
        return [(m, m) for m in ordered], [raw.get(m, float(m)) for m in ordered]


def _rounded(x: Fraction, rounding: str) -> int:
    return int(x) if rounding == "truncate" else x.numerator // x.denominator


def _kind(node: Node) -> str:
    op = node.attributes.get("op")
    return op if isinstance(op, str) else node.kind


def _key(value: Any) -> Any:
    """Return what makes True, 1 and 1.0 one value, as they are to the program."""
    return (value,) if not isinstance(value, str) else value


def _ordered(values: Iterable[Any]) -> list[Any]:
    distinct: dict[Any, Any] = {}
    for value in values:
        distinct.setdefault(_key(value), value)
    found = list(distinct.values())
    try:
        return sorted(found)
    except TypeError:
        return found


def _function(node: Node) -> Callable[..., Any]:
    function = scalar_function(node)
    if node.attributes["op"] == "where":
        return function
    return lambda *x: None if any(v is None for v in x) else function(*x)


def _holds(select: Node, key: Any, query: Any) -> bool:
    predicate = select.attributes["predicate"]
    if isinstance(predicate, Predicate) and (key is None or query is None):
        return False
    try:
        return bool(predicate(key, query))
    except (TypeError, ValueError, ArithmeticError):  # a pair that does not occur; verify() would see if it did
        return False


def _conjunction(choice: Node) -> list[tuple[Node, Node, Callable[[Any, Any], bool]]] | None:
    """Return the selectors that must all hold, or None where the formula is no conjunction."""
    found: list[tuple[Node, Node, Callable[[Any, Any], bool]]] = []
    stack = [(choice, False)]
    while stack:
        part, negated = stack.pop()
        if part.kind == "select":
            found.append((*part.inputs, functools.partial(_holds_or_not, part, negated)))  # type: ignore[arg-type]
        elif part.kind == "not":
            stack.append((part.inputs[0], not negated))
        elif (part.kind == "and") == negated:
            return None
        else:
            stack += [(operand, negated) for operand in reversed(part.inputs)]
    return found


def _holds_or_not(select: Node, negated: bool, key: Any, query: Any) -> bool:
    return _holds(select, key, query) != negated


def _units(layer: _Layer, width: int) -> tuple[Float, Float, Float]:
    """Return dense arrays of the units that were noted sparsely."""
    hidden = len(layer.inner)
    w1, b1, w2 = np.zeros((width, hidden)), np.zeros(hidden), np.zeros((hidden, width))
    for unit, ((weights, bias), adds) in enumerate(zip(layer.inner, layer.outer, strict=True)):
        b1[unit] = bias
        for at, weight in weights.items():
            w1[at, unit] += weight
        for at, weight in adds.items():
            w2[unit, at] += weight
    return w1, b1, w2


def _heads(layer: _Layer, width: int) -> list[Head]:
    """Return dense arrays of the heads that were noted sparsely."""
    heads = []
    for name, entries, reads in layer.noted:
        keys = sorted({k for _, k, _ in entries})
        column = {k: at for at, k in enumerate(keys)}
        query, key = np.zeros((width, len(keys))), np.zeros((width, len(keys)))
        for q, k, score in entries:
            query[q, column[k]] += score
        key[keys, np.arange(len(keys))] = 1.0
        targets = sorted({to for adds in reads.values() for to in adds})
        place = {to: at for at, to in enumerate(targets)}
        value, out = np.zeros((width, len(targets))), np.zeros((len(targets), width))
        for at, adds in reads.items():
            for to, weight in adds.items():
                value[at, place[to]] += weight
        out[np.arange(len(targets)), targets] = 1.0
        heads.append(Head(name, query, key, value, out))
    return heads
