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
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legato._extras import install_command
from legato._files import write_whole
from legato._scalars import as_count, as_flag
from legato.errors import ArgumentError, DependencyError
from legato.rasp.evaluation import evaluate, scalar_function
from legato.rasp.graph import Choice, Value
from legato.rasp.nodes import Node, interned, selector_parts
from legato.rasp.predicates import Predicate
from legato.rasp.programs import Program

__all__ = ["CompileError", "Verification", "Weights", "compile"]

Float = NDArray[np.float64]
_COLD = 100.0  # inverse temperature: what is not selected keeps exp(-50) of the weight


class CompileError(ArgumentError):
    """The program, or one node of it, has no weights; the message names the node."""


@dataclass(frozen=True)
class Verification:
    """What `Weights.verify` compared."""

    compared: int  #: inputs
    exhaustive_length: int  #: every input up to this length was among them
    skipped: int  #: inputs on which the program itself is an error
    failures: tuple[tuple[list[Any], list[Any], list[Any]], ...]  #: (input, program, model), the first ones

    @property
    def ok(self) -> bool:
        """Whether model and program agreed everywhere."""
        return not self.failures and self.compared > 0


@dataclass
class _Head:
    name: str
    query: Float  # (width, key size)
    key: Float
    value: Float  # (width, value size)
    out: Float  # (value size, width)


@dataclass
class _Layer:
    # name, (query coordinate, key coordinate, score), coordinate read -> coordinates written
    noted: list[tuple[str, list[tuple[int, int, float]], dict[int, dict[int, float]]]] = field(default_factory=list)
    heads: list[_Head] = field(default_factory=list)
    inner: list[tuple[dict[int, float], float]] = field(default_factory=list)  # hidden unit: weights and bias
    outer: list[dict[int, float]] = field(default_factory=list)  # hidden unit: where it adds


class Weights:
    """A compiled program.

    Attributes
    ----------
    residual_layout : dict of str to (slice, list)
        Name of each sequence, its coordinates and the values they stand for.
    width, n_layers, n_heads, n_parameters : int
    """

    def __init__(
        self,
        written: Value,
        causal: bool,
        vocab: list[Any],
        max_len: int,
        layout: dict[str, tuple[slice, list[Any]]],
        layers: list[_Layer],
        width: int,
        output: str,
    ) -> None:
        self._written, self._causal, self.vocab, self.max_len = written, causal, vocab, max_len
        self.residual_layout, self.width = layout, width
        self._output = output
        self._token = {x: at for at, x in enumerate(vocab)}
        self._heads = [layer.heads for layer in layers]
        self._mlp: list[tuple[Float, Float, Float]] = []
        for layer in layers:
            hidden = len(layer.inner)
            w1, b1, w2 = np.zeros((width, hidden)), np.zeros(hidden), np.zeros((hidden, width))
            for unit, ((weights, bias), adds) in enumerate(zip(layer.inner, layer.outer, strict=True)):
                b1[unit] = bias
                for at, weight in weights.items():
                    w1[at, unit] += weight
                for at, weight in adds.items():
                    w2[unit, at] += weight
            self._mlp.append((w1, b1, w2))
        self.token_embedding = np.zeros((len(vocab) + 1, width))  # the last row is BOS
        self.position_embedding = np.zeros((max_len + 1, width))  # the first row is BOS
        piece = layout["tokens"][0]
        self.token_embedding[np.arange(len(vocab)), np.arange(piece.start, piece.stop)] = 1
        self.token_embedding[:-1, layout["one"][0].start] = 1
        self.token_embedding[-1, layout["bos"][0].start] = 1
        place = layout["indices"][0]
        self.position_embedding[np.arange(1, max_len + 1), np.arange(place.start, place.stop)] = 1

    @property
    def n_layers(self) -> int:
        """Number of attention and MLP pairs."""
        return len(self._heads)

    @property
    def n_heads(self) -> int:
        """Most heads in a layer."""
        return max((len(heads) for heads in self._heads), default=0)

    @property
    def n_parameters(self) -> int:
        """Number of entries of all arrays."""
        return sum(array.size for array in self.to_numpy().values())

    def _ids(self, tokens: Iterable[Any]) -> list[int]:
        items = list(tokens)
        if not 1 <= len(items) <= self.max_len:
            raise ArgumentError(f"tokens: expected 1 to {self.max_len} tokens, got {len(items)}")
        for at, item in enumerate(items):
            if item not in self._token:
                raise ArgumentError(f"tokens: {item!r} at position {at} is not in the vocabulary")
        return [len(self.vocab), *(self._token[item] for item in items)]

    def residual(self, tokens: Iterable[Any]) -> Float:
        """Return the residual stream after the last layer, (n + 1, width) with BOS first; float64."""
        ids = self._ids(tokens)
        x = self.token_embedding[ids] + self.position_embedding[: len(ids)]
        seen = np.tri(len(ids), dtype=bool) if self._causal else np.ones((len(ids), len(ids)), dtype=bool)
        for heads, (w1, b1, w2) in zip(self._heads, self._mlp, strict=True):
            added = np.zeros_like(x)
            for head in heads:
                scores = np.where(seen, (x @ head.query) @ (x @ head.key).T, -np.inf)
                scores = np.exp(scores - scores.max(axis=1, keepdims=True))
                added += (scores / scores.sum(axis=1, keepdims=True)) @ (x @ head.value) @ head.out
            x = x + added
            x = x + np.maximum(x @ w1 + b1, 0) @ w2
        return x

    def forward(self, tokens: Iterable[Any]) -> list[Any]:
        """Run the transformer on tokens of the vocabulary; one output for each."""
        return self._decoded(self.residual(tokens))

    def _decoded(self, x: Float) -> list[Any]:
        piece, values = self.residual_layout[self._output]
        return [values[at] for at in np.argmax(x[1:, piece], axis=1)]

    def to_numpy(self) -> dict[str, Float]:
        """Return every array by name: embeddings, ``layers.i.heads.j.{query,key,value,out}``, ``layers.i.mlp.*``."""
        out = {"embedding.token": self.token_embedding, "embedding.position": self.position_embedding}
        for i, (heads, (w1, b1, w2)) in enumerate(zip(self._heads, self._mlp, strict=True)):
            for j, head in enumerate(heads):
                for part in ("query", "key", "value", "out"):
                    out[f"layers.{i}.heads.{j}.{part}"] = getattr(head, part)
            out |= {f"layers.{i}.mlp.inner": w1, f"layers.{i}.mlp.bias": b1, f"layers.{i}.mlp.outer": w2}
        return out

    def save(self, path: str | Path) -> Path:
        """Write the arrays as safetensors, with vocabulary and layout in the metadata."""
        try:
            from safetensors.numpy import save
        except ImportError:
            raise DependencyError(f"saving weights needs safetensors: {install_command('rasp')}") from None
        layout = {
            name: [s.start, s.stop, [repr(v) for v in values]] for name, (s, values) in self.residual_layout.items()
        }
        metadata = {"vocab": repr(self.vocab), "max_len": str(self.max_len), "causal": str(self._causal)}
        metadata |= {"output": self._output, "residual_layout": repr(layout)}
        arrays = {name: np.ascontiguousarray(array) for name, array in self.to_numpy().items() if array.size}
        return write_whole(path, save(arrays, metadata=metadata))

    def to_torch(self) -> Any:
        """Return a torch.nn.Module (float64): ids (n + 1,) with BOS = len(vocab) first -> residual stream."""
        try:
            import torch
        except ImportError:
            raise DependencyError("to_torch needs torch: pip install torch") from None
        causal, heads = self._causal, [len(h) for h in self._heads]
        arrays = {name.replace(".", "_"): torch.from_numpy(a.copy()) for name, a in self.to_numpy().items()}

        class Compiled(torch.nn.Module):  # type: ignore[misc,unused-ignore]
            def __init__(self) -> None:
                super().__init__()
                for name, array in arrays.items():
                    self.register_buffer(name, array)

            def forward(self, ids: Any) -> Any:
                get = self.get_buffer
                n = ids.shape[-1]
                x = get("embedding_token")[ids] + get("embedding_position")[:n]
                hidden = torch.ones(n, n, dtype=torch.bool, device=x.device).triu(1) if causal else None
                for i, count in enumerate(heads):
                    added = torch.zeros_like(x)
                    for j in range(count):
                        q, k, v, o = (get(f"layers_{i}_heads_{j}_{p}") for p in ("query", "key", "value", "out"))
                        scores = (x @ q) @ (x @ k).transpose(-1, -2)
                        if hidden is not None:
                            scores = scores.masked_fill(hidden, -torch.inf)
                        added = added + scores.softmax(-1) @ (x @ v) @ o
                    x = x + added
                    w1, b1, w2 = (get(f"layers_{i}_mlp_{p}") for p in ("inner", "bias", "outer"))
                    x = x + torch.relu(x @ w1 + b1) @ w2
                return x

        return Compiled()

    def verify(self, exhaustive: int = 2000, samples: int = 200, seed: int = 0) -> Verification:
        """Compare model and program, as it was written: run anew, nothing merged, functions called and not followed.

        Parameters
        ----------
        exhaustive : int
            All inputs of length 1, 2, ... are compared while their number stays within this.
        samples : int
            Random inputs of every greater length up to max_len, shared evenly; each length gets at least one.
        seed : int
        """
        exhaustive = as_count("exhaustive", exhaustive, 0)
        samples, seed = as_count("samples", samples, 0), as_count("seed", seed, 0, 2**64 - 1)
        inputs: list[tuple[Any, ...]] = []
        complete = 0
        for n in range(1, self.max_len + 1):
            if len(inputs) + len(self.vocab) ** n > exhaustive:
                break
            inputs += itertools.product(self.vocab, repeat=n)
            complete = n
        rng = np.random.default_rng(seed)
        longer = range(complete + 1, self.max_len + 1)
        for n in longer:
            for _ in range(max(1, samples // len(longer))):
                inputs.append(tuple(self.vocab[i] for i in rng.integers(len(self.vocab), size=n)))
        failures: list[tuple[list[Any], list[Any], list[Any]]] = []
        skipped = 0
        for tokens in inputs:
            try:
                wanted = evaluate(self._written, tokens, causal=self._causal, merged=False)
            except (ArgumentError, ArithmeticError):
                skipped += 1
                continue
            got = self.forward(tokens)
            if not all(_same(a, b) for a, b in zip(wanted, got, strict=True)) and len(failures) < 5:
                failures.append((list(tokens), wanted, got))
        return Verification(len(inputs) - skipped, complete, skipped, tuple(failures))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) or isinstance(b, float):
        return a is not None and b is not None and abs(a - b) <= 1e-9 * max(1.0, abs(a))
    return bool(a == b)


def compile(  # the name of the operation in the field
    program: Program | Value,
    vocab: Iterable[Any],
    max_len: int,
    *,
    causal: bool | None = None,
    max_values: int = 4096,
    verify: bool = True,
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

    Raises
    ------
    CompileError
        A node takes too many values, has no representation, or the weights disagree with the program.

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
    weights = _Compiler(tokens, max_len, masked, max_values).compiled(source, written)
    if verify:
        report = weights.verify()
        if not report.ok:
            first = report.failures[0] if report.failures else ("no input could be compared", "", "")
            raise CompileError(f"the weights disagree with the program: input {first[0]}: {first[1]}, model {first[2]}")
    return weights


class _Compiler:
    def __init__(self, vocab: list[Any], max_len: int, causal: bool, max_values: int) -> None:
        self.vocab, self.max_len, self.causal, self.max_values = vocab, max_len, causal, max_values
        self.width = 0
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
        for node in order:
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
        for layer in self.layers:
            layer.heads = _materialized(layer, self.width)
        return Weights(written, self.causal, self.vocab, self.max_len, self.layout, self.layers, self.width, output)

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
        share = self._take(f"{self._name(node)}.share", ["1 / (width + 1)"]).start
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
        found = self._take(f"{self._name(node)}.found", ["something selected"]).start
        numeric = all(isinstance(v, int | float) for v in values)
        if how["reduction"] in ("max", "min"):
            if not numeric:
                raise CompileError(f"node {self._name(node)}: {how['reduction']} of values that are no numbers")
            self._largest(node, choice, value, found)
        elif numeric:
            self._mean(node, choice, value, found)
        else:
            self._copied(node, choice, value, found)

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
        mean = self._take(f"{self._name(node)}.mean", ["mean of the selected"]).start
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


def _materialized(layer: _Layer, width: int) -> list[_Head]:
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
        heads.append(_Head(name, query, key, value, out))
    return heads
