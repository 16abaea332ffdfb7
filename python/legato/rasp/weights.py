"""The weights of a compiled program: heads and ReLU units on a residual stream whose pieces have names.

Nothing in the stream is ever overwritten, so the last residual shows every step of the program.
"""

from __future__ import annotations

import ast
import collections
import itertools
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from legato._extras import install_command
from legato._files import write_whole
from legato._scalars import as_count, as_number
from legato.errors import ArgumentError, DependencyError, InputError
from legato.rasp.evaluation import steps
from legato.rasp.graph import Value
from legato.rasp.nodes import topological

__all__ = ["Clock", "Head", "Progress", "Verification", "Weights"]

Float = NDArray[np.float64]
Progress: TypeAlias = bool | Callable[[str, float], object]
_FORMAT = "legato.rasp.Weights 1"
_BATCH = 1 << 21  # numbers of the hidden layer that are held at once


class Clock:
    """How far a long computation is, told at most ten times a second, and whether its time is over.

    Parameters
    ----------
    seconds : float, optional
        How long it may take.
    progress : bool or callable
        True writes a line to the standard error; a function gets what is done and how much of it, from 0 to 1.
    """

    def __init__(self, seconds: float | None, progress: Progress) -> None:
        if seconds is not None:
            seconds = as_number("seconds", seconds, least=0)
        if not isinstance(progress, bool) and not callable(progress):
            raise ArgumentError(f"progress: expected True, False or a function, got {type(progress).__name__}")
        self._end = None if seconds is None else time.monotonic() + seconds
        self._tell = _write_line if progress is True else progress
        self._next = 0.0

    def over(self, what: str, share: float) -> bool:
        """Tell how much of `what` is done; whether the time is over."""
        now = time.monotonic()
        if self._tell and (now >= self._next or share >= 1):
            self._next = now + 0.1
            self._tell(what, share)
        return self._end is not None and now > self._end


def _write_line(what: str, share: float) -> None:
    sys.stderr.write(f"\r{what}: {share:4.0%}" + ("\n" if share >= 1 else ""))
    sys.stderr.flush()


@dataclass(frozen=True)
class Verification:
    """What `Weights.verify` compared.

    See Also
    --------
    Weights.verify : Compare model and program, as it was written: run anew, nothing merged.

    Examples
    --------
    >>> from legato import rasp
    >>> w = rasp.compile(rasp.Program(lambda x: x * 2), vocab=[1, 2], max_len=3)
    >>> w.verification.failures, w.verification.complete
    ((), True)
    """

    compared: int  #: inputs
    exhaustive_length: int  #: every input up to this length was among them
    skipped: int  #: inputs on which the program itself is an error
    failures: tuple[tuple[list[Any], list[Any], list[Any]], ...]  #: (input, program, model), the first ones
    complete: bool = True  #: False: the time was over before all were compared

    @property
    def ok(self) -> bool:
        """Whether model and program agreed everywhere."""
        return not self.failures and self.compared > 0


@dataclass
class Head:
    """One attention head."""

    name: str
    query: Float  #: (width, key size)
    key: Float
    value: Float  #: (width, value size)
    out: Float  #: (value size, width)


Unit: TypeAlias = tuple[Float, Float, Float]  # inner (width, hidden), bias (hidden,), outer (hidden, width)


class _SparseHead:
    """A head by the coordinates that it reads and writes."""

    def __init__(self, head: Head) -> None:
        self.asks, self.query = _rows(head.query)
        self.shows, self.key = _rows(head.key)
        self.reads, value = _rows(head.value)
        self.writes = np.flatnonzero(head.out.any(axis=0))
        self.moved = value @ head.out[:, self.writes]


def _rows(matrix: Float) -> tuple[NDArray[np.intp], Float]:
    """Return the rows of a matrix that are not zero, and which they are."""
    found = np.flatnonzero(matrix.any(axis=1))
    return found, np.ascontiguousarray(matrix[found])


class _SparseUnits:
    """ReLU units, each of which reads and writes few coordinates."""

    def __init__(self, unit: Unit) -> None:
        inner, self.bias, outer = unit
        hidden = len(self.bias)
        of, read = np.nonzero(inner.T)
        count = np.bincount(of, minlength=hidden)
        most = int(count.max(initial=0))
        place = np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count)
        self.read = np.zeros((most, hidden), dtype=np.intp)
        self.weight = np.zeros((most, hidden))
        self.read[place, of] = read
        self.weight[place, of] = inner[read, of]
        to, self.unit = np.nonzero(outer.T)
        self.added = outer[self.unit, to]
        self.writes, self.starts = np.unique(to, return_index=True)

    def run(self, x: Float) -> None:
        """Add what the units write to the stream (width, tokens)."""
        if self.writes.size == 0:
            return
        step = max(1, _BATCH // max(len(self.bias), 1))
        for begin in range(0, x.shape[1], step):
            part = x[:, begin : begin + step]
            hidden = np.repeat(self.bias[:, None], part.shape[1], axis=1)
            for read, weight in zip(self.read, self.weight, strict=True):
                hidden += weight[:, None] * part[read]
            np.maximum(hidden, 0, out=hidden)
            part[self.writes] += np.add.reduceat(hidden[self.unit] * self.added[:, None], self.starts, axis=0)


class Weights:
    """A compiled program.

    Attributes
    ----------
    vocab : list
        The tokens. BOS, which stands before every input, is token ``len(vocab)``.
    max_len : int
        Longest input, BOS not counted.
    causal : bool
    residual_layout : dict of str to (slice, list)
        Name of each sequence, its coordinates and the values they stand for.
    scalars : set of str
        Names of the pieces that hold a number instead: the share of BOS, a mean, whether something is selected.
    output : str
        Name of the program's output.
    width, n_layers, n_heads, n_parameters : int
    verification : Verification or None
        What `compile` compared.

    See Also
    --------
    compile : Compile a program to the weights of a transformer.
    to_hooked : Return a `transformer_lens.HookedTransformer` (float64.
    save_gpt2 : Write ``config.json`` and ``model.safetensors`` of a Hugging Face `GPT2LMHeadModel` into a folder.

    Examples
    --------
    >>> from legato import rasp
    >>> w = rasp.compile(rasp.Program(lambda x: rasp.num_prev(x, x)), vocab=[1, 2], max_len=4)
    >>> w.ids([1, 2]), w.forward([1, 2, 1]), w.residual([1, 2, 1]).shape == (4, w.width)
    ([2, 0, 1], [1, 1, 2], True)
    >>> w.activations([1, 2, 1])[w.output], w.verify().failures
    ([1, 1, 2], ())
    >>> len(w.to_numpy()) > 2, w.save("weights.safetensors").name
    (True, 'weights.safetensors')
    """

    def __init__(
        self,
        vocab: list[Any],
        max_len: int,
        causal: bool,
        layout: dict[str, tuple[slice, list[Any]]],
        scalars: set[str],
        output: str,
        heads: list[list[Head]],
        units: list[Unit],
        written: Value | None = None,
    ) -> None:
        self.vocab, self.max_len, self.causal = vocab, max_len, causal
        self.residual_layout, self.scalars, self.output = layout, scalars, output
        self.width = max(piece.stop for piece, _ in layout.values())
        self.heads, self.units = heads, units
        self.verification: Verification | None = None
        self._written = written
        self._token = {x: at for at, x in enumerate(vocab)}
        self._sparse = [
            ([_SparseHead(head) for head in own], _SparseUnits(unit)) for own, unit in zip(heads, units, strict=True)
        ]
        self.token_embedding = np.zeros((len(vocab) + 1, self.width))  # the last row is BOS
        self.position_embedding = np.zeros((max_len + 1, self.width))  # the first row is BOS
        piece = layout["tokens"][0]
        self.token_embedding[np.arange(len(vocab)), np.arange(piece.start, piece.stop)] = 1
        self.token_embedding[:-1, layout["one"][0].start] = 1
        self.token_embedding[-1, layout["bos"][0].start] = 1
        place = layout["indices"][0]
        self.position_embedding[np.arange(1, max_len + 1), np.arange(place.start, place.stop)] = 1

    @property
    def n_layers(self) -> int:
        """Number of attention and MLP pairs."""
        return len(self.heads)

    @property
    def n_heads(self) -> int:
        """Most heads in a layer."""
        return max((len(heads) for heads in self.heads), default=0)

    @property
    def n_parameters(self) -> int:
        """Number of entries of all arrays."""
        return sum(array.size for array in self.to_numpy().values())

    # --- running ---

    def ids(self, tokens: Iterable[Any]) -> list[int]:
        """Return the numbers of tokens, with BOS first.

        See Also
        --------
        Weights.forward : Run the transformer on tokens of the vocabulary; one output for each.
        """
        items = list(tokens)
        if not 1 <= len(items) <= self.max_len:
            raise ArgumentError(f"tokens: expected 1 to {self.max_len} tokens, got {len(items)}")
        for at, item in enumerate(items):
            if item not in self._token:
                raise ArgumentError(f"tokens: {item!r} at position {at} is not in the vocabulary")
        return [len(self.vocab), *(self._token[item] for item in items)]

    def _run(self, ids: NDArray[np.intp], tell: Callable[[str, Float], None] | None = None) -> Float:
        """Return the last residuals of inputs (rows, n + 1): (rows, n + 1, width)."""
        rows, n = ids.shape
        x = (self.token_embedding[ids] + self.position_embedding[:n]).reshape(rows * n, self.width).T.copy()
        hidden = ~np.tri(n, dtype=bool) if self.causal else np.zeros((n, n), dtype=bool)
        for layer, (heads, units) in enumerate(self._sparse):
            added: list[tuple[_SparseHead, Float]] = []
            for at, head in enumerate(heads):
                query, key = (
                    (matrix.T @ x[read]).reshape(-1, rows, n).transpose(1, 2, 0)
                    for read, matrix in ((head.asks, head.query), (head.shows, head.key))
                )
                scores = query @ key.transpose(0, 2, 1)
                scores[:, hidden] = -np.inf
                scores = np.exp(scores - scores.max(axis=2, keepdims=True))
                scores /= scores.sum(axis=2, keepdims=True)
                if tell is not None:
                    tell(f"layers.{layer}.{self.heads[layer][at].name}", scores)
                moved = (head.moved.T @ x[head.reads]).reshape(-1, rows, n).transpose(1, 2, 0)
                added.append((head, scores @ moved))
            for head, value in added:
                x[head.writes] += value.reshape(rows * n, -1).T
            units.run(x)
        return np.ascontiguousarray(x.T).reshape(rows, n, self.width)

    def residual(self, tokens: Iterable[Any]) -> Float:
        """Return the residual stream after the last layer, (n + 1, width) with BOS first; float64.

        See Also
        --------
        Weights.activations : Return every sequence of the program as the stream holds it: its value at each token.
        """
        x: Float = self._run(np.array([self.ids(tokens)]))[0]
        return x

    def forward(self, tokens: Iterable[Any]) -> list[Any]:
        """Run the transformer on tokens of the vocabulary; one output for each.

        See Also
        --------
        Weights.residual : Return the residual stream after the last layer, (n + 1, width) with BOS first; float64.
        """
        return self._decoded(self.residual(tokens))

    def _decoded(self, x: Float) -> list[Any]:
        piece, values = self.residual_layout[self.output]
        return [values[at] for at in np.argmax(x[1:, piece], axis=1)]

    def attention(self, tokens: Iterable[Any]) -> dict[str, Float]:
        """Return the attention pattern of every head: (n + 1, n + 1), row query, column key, BOS first.

        Names are ``layers.i.`` and the sequence that the head computes; of a selector's width, the share of BOS is
        1 / (width + 1).

        See Also
        --------
        Weights.activations : Return every sequence of the program as the stream holds it: its value at each token.

        Examples
        --------
        >>> from legato import rasp
        >>> w = rasp.compile(rasp.Program(lambda x: rasp.num_prev(x, x)), vocab=[1, 2], max_len=4)
        >>> [pattern.round(2).tolist()[3] for pattern in w.attention([1, 2, 1]).values()]
        [[0.33, 0.33, 0.0, 0.33]]
        """
        found: dict[str, Float] = {}

        def tell(name: str, pattern: Float) -> None:
            base, at = name, 2
            while name in found:
                name, at = f"{base}_{at}", at + 1
            found[name] = pattern[0]

        self._run(np.array([self.ids(tokens)]), tell)
        return found

    def activations(self, tokens: Iterable[Any]) -> dict[str, list[Any]]:
        """Return every sequence of the program as the stream holds it: its value at each token, by name.

        Scalars are floats; None stands where no value of a sequence is near 1.

        See Also
        --------
        Weights.attention : Return the attention pattern of every head: (n + 1, n + 1), row query, column key.
        """
        x = self.residual(tokens)[1:]
        out: dict[str, list[Any]] = {}
        for name, (piece, values) in self.residual_layout.items():
            if name in self.scalars:
                out[name] = x[:, piece.start].tolist()
            elif name not in ("one", "bos"):
                best = np.argmax(x[:, piece], axis=1)
                out[name] = [values[at] if row[piece][at] > 0.5 else None for at, row in zip(best, x, strict=True)]
        return out

    # --- arrays and files ---

    def to_numpy(self) -> dict[str, Float]:
        """Return every array by name: embeddings, ``layers.i.heads.j.{query,key,value,out}``, ``layers.i.mlp.*``.

        See Also
        --------
        Weights.save : Write the arrays as safetensors, with vocabulary, layout and names in the metadata.
        """
        out = {"embedding.token": self.token_embedding, "embedding.position": self.position_embedding}
        for i, (heads, (w1, b1, w2)) in enumerate(zip(self.heads, self.units, strict=True)):
            for j, head in enumerate(heads):
                for part in ("query", "key", "value", "out"):
                    out[f"layers.{i}.heads.{j}.{part}"] = getattr(head, part)
            out |= {f"layers.{i}.mlp.inner": w1, f"layers.{i}.mlp.bias": b1, f"layers.{i}.mlp.outer": w2}
        return out

    def save(self, path: str | Path) -> Path:
        """Write the arrays as safetensors, with vocabulary, layout and names in the metadata.

        See Also
        --------
        Weights.to_numpy : Return every array by name: embeddings, ``layers.i.heads.j.{query,key,value,out}``.
        """
        try:
            from safetensors.numpy import save
        except ImportError:
            raise DependencyError(f"saving weights needs safetensors: {install_command('rasp')}") from None
        layout = {name: [s.start, s.stop, values] for name, (s, values) in self.residual_layout.items()}
        metadata = {"format": _FORMAT, "vocab": repr(self.vocab), "max_len": str(self.max_len)}
        metadata |= {"causal": str(self.causal), "output": self.output, "residual_layout": repr(layout)}
        metadata |= {
            "scalars": repr(sorted(self.scalars)),
            "heads": repr([[h.name for h in own] for own in self.heads]),
        }
        arrays = {name: np.ascontiguousarray(array) for name, array in self.to_numpy().items() if array.size}
        return write_whole(path, save(arrays, metadata=metadata))

    @classmethod
    def load(cls, path: str | Path) -> Weights:
        """Read weights that `save` wrote. They know their outputs, not the program: `verify` needs it given.

        Raises
        ------
        InputError
            The file is no such weights, or its values are none that Python's literals write.
        """
        try:
            from safetensors import SafetensorError, safe_open
        except ImportError:
            raise DependencyError(f"loading weights needs safetensors: {install_command('rasp')}") from None
        try:
            with safe_open(path, framework="numpy") as file:
                told = file.metadata() or {}
                arrays = {name: np.asarray(file.get_tensor(name), dtype=np.float64) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path}: cannot be read: {error}") from None
        if told.get("format") != _FORMAT:
            raise InputError(f"{path}: not saved weights")
        try:
            vocab, layout = ast.literal_eval(told["vocab"]), ast.literal_eval(told["residual_layout"])
            pieces = {str(name): (slice(start, stop), list(values)) for name, (start, stop, values) in layout.items()}
            width = max(piece.stop for piece, _ in pieces.values())
            heads, units = [], []
            for i, names in enumerate(ast.literal_eval(told["heads"])):
                own = [f"layers.{i}.heads.{j}." for j in range(len(names))]
                heads.append([_head_of(name, at, arrays, width) for name, at in zip(names, own, strict=True)])
                bias = arrays.get(f"layers.{i}.mlp.bias", np.zeros(0))
                inner = arrays.get(f"layers.{i}.mlp.inner", np.zeros((width, 0)))
                outer = arrays.get(f"layers.{i}.mlp.outer", np.zeros((0, width)))
                if inner.shape != (width, len(bias)) or outer.shape != (len(bias), width):
                    raise ValueError(f"layers.{i}.mlp: shapes {inner.shape}, {bias.shape}, {outer.shape}")
                units.append((inner, bias, outer))
            max_len, causal = int(told["max_len"]), told["causal"] == "True"
            return cls(
                vocab, max_len, causal, pieces, set(ast.literal_eval(told["scalars"])), told["output"], heads, units
            )
        except (KeyError, IndexError, TypeError, ValueError, SyntaxError, AttributeError) as error:
            raise InputError(f"{path}: damaged: {type(error).__name__} {error}") from None

    def to_torch(self) -> Any:
        """Return a torch.nn.Module (float64): ids (n + 1,) with BOS = len(vocab) first -> residual stream.

        See Also
        --------
        to_hooked : Return a `transformer_lens.HookedTransformer` (float64.

        Examples
        --------
        >>> from legato import rasp
        >>> from legato.errors import DependencyError
        >>> w = rasp.compile(rasp.Program(lambda x: x * 2), vocab=[1, 2], max_len=3)
        >>> try:
        ...     module = w.to_torch()
        ... except DependencyError:                              # torch is not installed
        ...     module = None
        """
        try:
            import torch
        except ImportError:
            raise DependencyError("to_torch needs torch: pip install torch") from None
        causal, heads = self.causal, [len(h) for h in self.heads]
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

    # --- verification ---

    def verify(
        self,
        exhaustive: int = 2000,
        samples: int = 200,
        seed: int = 0,
        *,
        program: Value | None = None,
        seconds: float | None = None,
        progress: Progress = False,
    ) -> Verification:
        """Compare model and program, as it was written: run anew, nothing merged, functions called and not followed.

        Parameters
        ----------
        exhaustive : int
            All inputs of length 1, 2, ... are compared while their number stays within this.
        samples : int
            Random inputs of every greater length up to max_len, shared evenly; each length gets at least one.
        seed : int
        program : symbol, optional
            For weights that were loaded: what they should compute.
        seconds : float, optional
            When these are over no more inputs are compared, and the result is not `complete`.
        progress : bool or callable
            True writes a line to the standard error; a function gets what is done and how much of it, from 0 to 1.

        See Also
        --------
        Verification : What `Weights.verify` compared.
        """
        written = self._written if program is None else program
        if not isinstance(written, Value):
            raise ArgumentError("verify: program: expected the traced program; weights from a file do not have it")
        exhaustive = as_count("exhaustive", exhaustive, 0)
        samples, seed = as_count("samples", samples, 0), as_count("seed", seed, 0, 2**64 - 1)
        clock = Clock(seconds, progress)
        order = topological((written,))
        groups, complete = self._inputs(exhaustive, samples, seed)
        total = sum(len(group) for group in groups)
        failures: list[tuple[list[Any], list[Any], list[Any]]] = []
        compared = skipped = 0
        for group in groups:
            size = max(1, (_BATCH << 1) // (self.width * (len(group[0]) + 1)))
            for begin in range(0, len(group), size):
                part = group[begin : begin + size]
                last = self._run(np.array([self.ids(tokens) for tokens in part]))
                for tokens, x in zip(part, last, strict=True):
                    if clock.over("verify", (compared + skipped) / total):
                        return Verification(compared, 0, skipped, tuple(failures), complete=False)
                    try:
                        wanted = collections.deque(steps(order, tokens, causal=self.causal), maxlen=1)[0][1]
                    except (ArgumentError, ArithmeticError):
                        skipped += 1
                        continue
                    compared += 1
                    got = self._decoded(x)
                    if not all(_same(a, b) for a, b in zip(wanted, got, strict=True)) and len(failures) < 5:
                        failures.append((list(tokens), wanted, got))
        clock.over("verify", 1.0)
        return Verification(compared, complete, skipped, tuple(failures))

    def _inputs(self, exhaustive: int, samples: int, seed: int) -> tuple[list[list[Sequence[Any]]], int]:
        """Return the inputs to compare, by length, and the length up to which they are all."""
        groups: list[list[Sequence[Any]]] = []
        for n in range(1, self.max_len + 1):
            if sum(map(len, groups)) + len(self.vocab) ** n > exhaustive:
                break
            groups.append(list(itertools.product(self.vocab, repeat=n)))
        complete = len(groups)
        rng = np.random.default_rng(seed)
        longer = range(complete + 1, self.max_len + 1)
        for n in longer:
            draws = (rng.integers(len(self.vocab), size=n) for _ in range(max(1, samples // len(longer))))
            groups.append([tuple(self.vocab[i] for i in draw) for draw in draws])
        return groups, complete


def _head_of(name: str, at: str, arrays: dict[str, Float], width: int) -> Head:
    query, key = (arrays.get(at + part, np.zeros((width, 0))) for part in ("query", "key"))
    value, out = arrays.get(at + "value", np.zeros((width, 0))), arrays.get(at + "out", np.zeros((0, width)))
    if query.shape != key.shape or {len(query), len(value), out.shape[1]} != {width} or value.shape[1] != len(out):
        raise ValueError(f"{at[:-1]}: shapes {query.shape}, {key.shape}, {value.shape}, {out.shape}")
    return Head(str(name), query, key, value, out)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) or isinstance(b, float):
        return a is not None and b is not None and abs(a - b) <= 1e-9 * max(1.0, abs(a))
    return bool(a == b)
