"""Programs: Python functions of the token sequence, traced to a graph and evaluated whole, in batches or streaming."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from legato import _core
from legato._arrays import as_int64
from legato._dispatch import Backend, choose
from legato._files import read_json, write_whole
from legato._scalars import as_count, as_threads, shown
from legato._turns import Turns, one_at_a_time
from legato.errors import ArgumentError, InputError, LegatoError, NumericalError
from legato.rasp.core import check_lengths, sequence
from legato.rasp.drawing import Engine, graph_svg, listing, steps_of, write_svg
from legato.rasp.following import called
from legato.rasp.graph import Choice, Value, as_value
from legato.rasp.instructions import instructions
from legato.rasp.legality import Report, inspect
from legato.rasp.maps import apply_callable, apply_named
from legato.rasp.nodes import Node, interned
from legato.rasp.operations import OPERATIONS
from legato.rasp.pictures import Steps
from legato.rasp.predicates import BY_NAME, Predicate
from legato.rasp.selectors import Selector, aggregate_selector, term
from legato.rasp.streams import Stream
from legato.rasp.structure import settled

__all__ = ["Program"]

_FORMAT = 1
_SHORT = 256  # tokens


class Program:
    """A RASP-L program.

    Parameters
    ----------
    function : callable or symbol
        Takes the token sequence and returns a sequence, by the functions of `legato.rasp` and Python's operators. It
        is called once, on symbols: branches on values must be `where`, `tok_map` or `seq_map`.
    name : str, optional
        For printing; by default the function's.

    Raises
    ------
    ArgumentError
        The function branches on a symbol, recurses without end, or returns no sequence.

    See Also
    --------
    compile : Compile a program to the weights of a transformer.
    kqv : ``aggr(select(k, q, pred, causal), v, default, reduction)``: one attention head.
    Steps : What a program does with one input, step by step: text, or a table in notebooks.

    Examples
    --------
    >>> from legato import rasp
    >>> p = rasp.Program(lambda x: rasp.cumsum(x == 7) * 10)
    >>> p([7, 1, 7])
    array([10, 10, 20])
    >>> [p.step(t) for t in [7, 1, 7]]
    [10, 10, 20]
    >>> p.reset()
    >>> p.batch([[7, 1], [7, 7]]).tolist(), p.generate([7], max_new=2)
    ([[10, 10], [10, 20]], [10, 10])
    >>> p.check().legal, p.check().heads
    (False, 1)
    >>> print(p.show())
    def program(x):
        s6 = sel_width(select(truth((x == 7)), True, equals))
        return (s6 * 10)
    >>> p.save("program.json").name, p.draw("program.svg", engine="rows").name
    ('program.json', 'program.svg')
    >>> print(rasp.Program(p.written()).show())
    def program(x):
        s6 = sel_width(select(truth((x == 7)), True, equals))
        return (s6 * 10)
    """

    def __init__(self, function: Callable[[Any], Any] | Value, name: str | None = None) -> None:
        if name is not None and not isinstance(name, str):
            raise ArgumentError(f"name: expected a text, got {type(name).__name__}")
        self.name = str(name or getattr(function, "__name__", "program"))
        self._function = function
        output = function if isinstance(function, Value) else self._traced(function)
        self.nodes: list[Node] = interned(as_value(output))
        position = {id(node): at for at, node in enumerate(self.nodes)}
        self._inputs = [[position[id(source)] for source in node.inputs] for node in self.nodes]
        last_use = {source: at for at, sources in enumerate(self._inputs) for source in sources}
        self._released: list[list[int]] = [[] for _ in self.nodes]
        for source, at in last_use.items():
            self._released[at].append(source)
        self._check_nodes()
        self._turns = Turns()  # of the stream; all else stays as it is made
        self._stream: Stream | None = None

    def _traced(self, function: Callable[[Any], Any]) -> Any:
        try:
            output = function(Value("tokens"))
        except RecursionError:
            raise ArgumentError(f"{self.name}: the function recurses without end while it is traced") from None
        except TypeError as error:
            if isinstance(error, LegatoError):
                raise
            raise ArgumentError(f"{self.name}: cannot be traced: {error}") from error
        if not isinstance(output, Value | int | np.integer):
            raise ArgumentError(
                f"{self.name}: expected a function that returns a sequence, got {type(output).__name__}"
            )
        return output

    def written(self) -> Value:
        """Return the program as its function writes it: nothing merged, functions to be called and not followed.

        See Also
        --------
        Program.show : Return the program as readable RASP-L, one line for each shared step.
        """
        if isinstance(self._function, Value):
            return self._function
        with called():
            return as_value(self._traced(self._function))

    def _check_nodes(self) -> None:
        for node in self.nodes:
            if node.kind in ("length", "sequence", "matrix") or node.attributes.get("rounding") == "value":
                raise ArgumentError(f"{self.name}: the node {node.label or node.kind} is no RASP-L; use rasp.sops")
            if node.kind == "select" and node.attributes["causal"] is None:
                raise ArgumentError(f"{self.name}: a select that is neither causal nor not; use rasp.sops")
            if node.kind in ("and", "or") and len({self._causal(part) for part in node.inputs}) > 1:
                raise ArgumentError(f"{self.name}: selector {node.kind}: expected both causal or both not")

    def _causal(self, choice: Node) -> bool:
        while choice.kind != "select":
            choice = choice.inputs[0]
        return bool(choice.attributes["causal"])

    def __repr__(self) -> str:
        return f"Program({self.name}, {len(self.nodes)} nodes)"

    # --- evaluation ---

    def __call__(self, x: ArrayLike, *, threads: int = 1, backend: Backend | None = None) -> NDArray[Any]:
        """Evaluate on a whole sequence (n,); int64 unless the program ends in a float."""
        tokens = sequence(self.name, "x", x)
        if tokens.ndim != 1:
            raise ArgumentError(f"{self.name}: x: expected shape (n,), got {tokens.shape}; use batch() for rows")
        threads = as_threads(threads)
        if len(tokens) <= _SHORT and self._short is not None and choose(backend) == "native":
            found: NDArray[Any] | None = self._short.whole(tokens)
            if found is not None:
                return found
        return self._evaluate(tokens, None, threads, backend)

    @cached_property
    def _words(self) -> NDArray[np.int64] | None:
        return instructions(self.nodes)

    @cached_property
    def _short(self) -> Any:
        """The stream that takes whole short sequences: one pass of it costs less than the calls of an aggregation."""
        return None if self._words is None else _core.RaspStream(self._words)

    def batch(
        self, X: ArrayLike, lengths: ArrayLike | None = None, *, threads: int = 1, backend: Backend | None = None
    ) -> NDArray[Any]:
        """Evaluate on the rows of (b, n); outputs beyond `lengths` (b,) are 0.

        Rows are shared among `threads`; the result does not depend on it.

        See Also
        --------
        Program.step : Append one token and return the output at its position.
        """
        tokens = sequence(self.name, "X", X)
        if tokens.ndim != 2:
            raise ArgumentError(f"{self.name}: X: expected shape (batch, n), got {tokens.shape}")
        ends = check_lengths(self.name, lengths, tokens.shape)
        threads = as_threads(threads)
        try:
            return self._evaluate(tokens, ends, threads, backend)
        except (ArgumentError, NumericalError):
            if ends is None:
                raise
        return self._row_by_row(tokens, ends, threads, backend)

    def _row_by_row(
        self, tokens: NDArray[np.int64], lengths: NDArray[np.int64], threads: int, backend: Backend | None
    ) -> NDArray[Any]:
        """Evaluate rows at their own length: an error beyond the end of a row is none, any other names the row."""
        out: NDArray[Any] | None = None
        for row, end in enumerate(lengths.tolist()):
            try:
                found = self._evaluate(tokens[row, :end].copy(), None, threads, backend)
            except (ArgumentError, NumericalError) as error:
                raise type(error)(f"row {row}: {error}") from None
            if out is None:
                out = np.zeros(tokens.shape, dtype=found.dtype)
            out[row, :end] = found
        return np.zeros(tokens.shape, dtype=np.int64) if out is None else out

    def _evaluate(
        self, tokens: NDArray[np.int64], lengths: NDArray[np.int64] | None, threads: int, backend: Backend | None
    ) -> NDArray[Any]:
        if lengths is not None:
            tokens = np.where(np.arange(tokens.shape[1]) < lengths[:, None], tokens, 0)
        results: list[Any] = [None] * len(self.nodes)
        for at, node in enumerate(self.nodes):
            sources = self._inputs[at]
            inputs = [results[source] for source in sources]
            results[at] = self._run(node, inputs, tokens, lengths, threads, backend)
            for source in self._released[at]:
                results[source] = None
        out = np.broadcast_to(np.asarray(results[-1]), tokens.shape)
        if out.dtype.kind != "f":
            out = out.astype(np.int64)
        if lengths is not None:
            out = np.where(np.arange(tokens.shape[1]) < lengths[:, None], out, out.dtype.type(0))
        return np.ascontiguousarray(out)

    def _run(
        self,
        node: Node,
        inputs: list[Any],
        tokens: NDArray[np.int64],
        lengths: NDArray[np.int64] | None,
        threads: int,
        backend: Backend | None,
    ) -> Any:
        kind, how = node.kind, node.attributes
        if kind == "tokens":
            return tokens
        if kind == "indices":
            return np.broadcast_to(np.arange(tokens.shape[-1], dtype=np.int64), tokens.shape)
        if kind == "constant":
            return how["value"]
        if kind == "map":
            return self._mapped(node, inputs, tokens)
        if kind == "select":
            keys, queries = (self._whole(x, tokens) for x in inputs)
            return Selector(term(keys, queries, how["predicate"]), tokens.shape, how["causal"], lengths)
        if kind in ("and", "or"):
            return inputs[0] & inputs[1] if kind == "and" else inputs[0] | inputs[1]
        if kind == "not":
            return ~inputs[0]
        if kind == "width":
            return aggregate_selector(settled(inputs[0]), None, "width", threads=threads, backend=backend)
        if kind == "aggregate":
            values = self._whole(inputs[1], tokens)
            return aggregate_selector(
                settled(inputs[0]),
                values,
                how["reduction"],
                how["default"],
                how["rounding"],
                threads=threads,
                backend=backend,
            )
        raise ArgumentError(f"{self.name}: the node {kind} has no causal meaning; evaluate it with rasp.sops")

    def _mapped(self, node: Node, inputs: list[Any], tokens: NDArray[np.int64]) -> Any:
        op = node.attributes["op"]
        if isinstance(op, str):
            wide = node.attributes.get("wide", False)
            if any(isinstance(x, np.ndarray) for x in inputs):
                return apply_named(op, *inputs, wide=wide)
            if tokens.size == 0:  # no position, so nothing that could be an error there
                return 0
            return apply_named(op, *inputs, wide=wide).item()
        name = node.label or ("tok_map" if len(inputs) == 1 else "seq_map")
        return apply_callable(name, op, *(np.broadcast_to(np.asarray(x), tokens.shape) for x in inputs))

    def _whole(self, x: Any, tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return an aggregation's operand: int64, as long as the tokens, and one array for one node."""
        array = np.asarray(x)
        if array.dtype.kind == "f":
            array = as_int64(f"{self.name}: a selector's operand", array)
        if array.shape != tokens.shape:
            array = np.broadcast_to(array, tokens.shape)
        return np.ascontiguousarray(array, dtype=np.int64)

    # --- streaming ---

    @one_at_a_time
    def step(self, token: int) -> Any:
        """Append one token and return the output at its position.

        The state is kept from call to call; `reset` forgets it. O(1) for equality, O(log^2 n) for orderings.

        Raises
        ------
        ArgumentError
            A selector of the program is not causal, the token is no 64-bit integer, or an earlier token failed (a
            division by zero, an overflow) and there was no `reset` since.

        See Also
        --------
        Program.generate : Greedy generation: the output at the last position becomes the next token.
        Program.reset : Forget the tokens that `step` has seen.
        """
        if self._stream is None:
            self._stream = self._new_stream()
        at = self._stream.length
        if not isinstance(token, int | np.integer):
            raise ArgumentError(f"{self.name}: token at position {at}: expected an integer, got {type(token).__name__}")
        number = int(token)
        if not -(2**63) <= number < 2**63:
            raise ArgumentError(f"{self.name}: token at position {at}: expected a 64-bit integer, got {number}")
        out = self._stream.push(number)
        return out if isinstance(out, float) else int(out)

    def _new_stream(self) -> Stream:
        return Stream(self.nodes, self._words if choose(None) == "native" else None)

    @one_at_a_time
    def reset(self) -> None:
        """Forget the tokens that `step` has seen.

        See Also
        --------
        Program.step : Append one token and return the output at its position.
        """
        self._stream = None

    @one_at_a_time
    def generate(
        self,
        prompt: Iterable[int],
        stop: int | Callable[[int], bool] | None = None,
        max_new: int = 1000,
    ) -> list[int]:
        """Greedy generation: the output at the last position becomes the next token.

        Parameters
        ----------
        prompt : iterable of int
            At least one token.
        stop : int or callable, optional
            The token, or a test of a token, after which to stop; that token is returned too.
        max_new : int
            Most tokens to generate.

        Returns
        -------
        list of int
            The new tokens. The state of `step` is replaced by that of this generation.

        See Also
        --------
        Program.step : Append one token and return the output at its position.
        """
        if stop is not None and not callable(stop) and not isinstance(stop, int | np.integer):
            raise ArgumentError(f"{self.name}: stop: expected a token or a test of one, got {shown(stop)}")
        max_new = as_count(f"{self.name}: max_new", max_new, 0, 2**63 - 1)
        try:
            tokens = list(prompt)
        except Exception:  # no iterable, or one that raises
            raise ArgumentError(f"{self.name}: prompt: expected tokens, got {shown(prompt)}") from None
        if not tokens:
            raise ArgumentError(f"{self.name}: prompt: expected at least one token")
        self.reset()
        if not callable(stop) and max_new > 0 and all(type(x) is int and -(2**63) <= x < 2**63 for x in tokens):
            stream = self._stream = self._new_stream()
            first = stream.extend(tokens)
            if isinstance(first, int):  # a float is no token
                ends = first == stop or max_new == 1
                return [first] if ends else [first, *stream.generate(first, stop, max_new - 1)]
            self.reset()
        for token in tokens:
            out = self.step(token)
        found: list[int] = []
        while len(found) < max_new:
            found.append(out)
            if stop is not None and (stop(out) if callable(stop) else out == stop):
                break
            if len(found) < max_new:
                out = self.step(out)
        return found

    def instructions(self) -> NDArray[np.int64]:
        """Return the program as the words that the C face runs (``legato_rasp_stream_create``).

        Raises
        ------
        ArgumentError
            The program has no instructions: a selector is not causal, a Python function is called, or an operation is
            one that the core leaves to Python (powers but of natural constants, remainders of floats).

        See Also
        --------
        Program.save : Write the program as JSON.

        Examples
        --------
        >>> from legato import rasp
        >>> rasp.Program(lambda x: x + 3).instructions().tolist()
        [1, 3, 0, 0, 2, 3, 3, 0, 1]
        """
        if self._words is None:
            raise ArgumentError(f"{self.name}: the program has no instructions: it looks ahead or calls Python")
        return self._words.copy()

    # --- looking at it ---

    def check(self, bits: int = 8) -> Report:
        """Legality as RASP-L by our rule (see `legato.rasp.legality`), depth, heads and program length.

        See Also
        --------
        Report : What `Program.check` found.
        """
        return inspect(self.nodes, as_count(f"{self.name}: bits", bits, 1, 62))

    def show(self) -> str:
        """Return the program as readable RASP-L, one line for each shared step.

        See Also
        --------
        Program.draw : Write the graph as SVG.
        Program.steps : Evaluate on a sequence (n,) and keep every step: text.
        """
        return listing(self.nodes, self.name)

    def draw(self, path: str | Path, engine: Engine = "auto") -> Path:
        """Write the graph as SVG.

        Parameters
        ----------
        path : path
        engine : {"auto", "dot", "rows"}
            Graphviz (its program ``dot``), or our own rows of boxes; "auto" takes Graphviz where it is installed.

        See Also
        --------
        Program.show : Return the program as readable RASP-L, one line for each shared step.
        """
        return write_svg(self.nodes, self.name, Path(path), engine)

    def steps(self, x: ArrayLike) -> Steps:
        """Evaluate on a sequence (n,) and keep every step: text, or a table with its selectors in notebooks.

        See Also
        --------
        Program.show : Return the program as readable RASP-L, one line for each shared step.

        Examples
        --------
        >>> from legato import rasp
        >>> print(rasp.Program(lambda x: rasp.num_prev(x, x) * 10).steps([7, 1, 7]))
                                                 7  1  7
        sel_width(select(x, x, equals))          1  1  2
        (sel_width(select(x, x, equals)) * 10)  10 10 20
        """
        tokens = sequence(self.name, "x", x)
        if tokens.ndim != 1:
            raise ArgumentError(f"{self.name}: x: expected shape (n,), got {tokens.shape}")
        return steps_of(self.nodes, tokens.tolist(), True)

    def _repr_svg_(self) -> str:
        return graph_svg(self.nodes, self.name)

    # --- files ---

    def save(self, path: str | Path) -> Path:
        """Write the program as JSON.

        Raises
        ------
        ArgumentError
            A node holds a Python function that could not be followed as an expression.

        See Also
        --------
        Program.instructions : Return the program as the words that the C face runs (``legato_rasp_stream_create``).
        """
        position = {id(node): at for at, node in enumerate(self.nodes)}
        rows = []
        for at, node in enumerate(self.nodes):
            how: dict[str, Any] = {}
            for key, value in node.attributes.items():
                if isinstance(value, Predicate):
                    how[key] = value.name
                elif callable(value):
                    raise ArgumentError(
                        f"{self.name}: node {node.label or f'#{at} ({node.kind})'}: a Python function cannot be saved; "
                        "write it with operators and where()"
                    )
                else:
                    how[key] = value
            rows.append(
                {
                    "kind": node.kind,
                    "inputs": [position[id(source)] for source in node.inputs],
                    "attributes": how,
                    "label": node.label,
                    "scope": node.scope,
                }
            )
        document = {"format": "legato.rasp.Program", "version": _FORMAT, "name": self.name, "nodes": rows}
        return write_whole(path, json.dumps(document, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Program:
        """Read a program that `save` wrote."""
        document = read_json(path)
        if not isinstance(document, dict) or document.get("format") != "legato.rasp.Program":
            raise InputError(f"{path}: not a saved program")
        if document.get("version") != _FORMAT:
            raise InputError(f"{path}: version {document.get('version')}, expected {_FORMAT}")
        nodes: list[Node] = []
        try:
            for row in document["nodes"]:
                how = dict(row["attributes"])
                if "predicate" in how:
                    how["predicate"] = BY_NAME[how["predicate"]]
                if row["kind"] == "map" and how["op"] not in OPERATIONS:
                    raise KeyError(how["op"])
                inputs = tuple(nodes[at] for at in row["inputs"])
                make = Choice if row["kind"] in ("select", "and", "or", "not") else Value
                node: Node = make(row["kind"], inputs, **how)
                node.label = row["label"]
                node.scope = None if row["scope"] is None else (row["scope"][0], row["scope"][1])
                nodes.append(node)
            output, name = nodes[-1], str(document["name"])
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path}: damaged: {type(error).__name__} {error}") from None
        if not isinstance(output, Value):
            raise InputError(f"{path}: damaged: the last node is no sequence")
        return cls(output, name=name)
