"""The RASP language of Weiss, Goldberg, Yahav ("Thinking Like Transformers", ICML 2021): interpreter, analysis."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from legato._files import read_text, write_whole
from legato._turns import Turns, one_at_a_time
from legato.errors import ArgumentError, LegatoError
from legato.rasp.drawing import write_svg
from legato.rasp.expressions import RESERVED, Applied, Environment, Expressions, Function, Returned, evaluated
from legato.rasp.graph import Choice, Value, as_value
from legato.rasp.nodes import Node, interned
from legato.rasp.showing import Examples, applied_text, quoted
from legato.rasp.syntax import IncompleteSource, LanguageError, Statement, cut, rule

__all__ = ["Analysis", "IncompleteSource", "Interpreter", "LanguageError"]


@dataclass(frozen=True)
class Analysis:
    """Attention layers of an expression and the distinct selectors in each, as the language's authors count them.

    See Also
    --------
    Interpreter.analyze : Count layers and heads; `tokens` does not matter and is taken for symmetry with `evaluate`.

    Examples
    --------
    >>> from legato import rasp
    >>> rasp.Interpreter().analyze("length")
    Analysis(n_layers=1, max_heads=1, heads_per_layer={0: 0, 1: 1})
    """

    n_layers: int
    max_heads: int
    heads_per_layer: dict[int, int]  #: layer 0 has none: it is before the first attention


class Interpreter(Expressions):
    r"""Runs RASP source and keeps what it defines.

    The order of the operators is that of the language's published grammar (docs/rasp.md states it as a table): unary
    operators bind tightest, every binary one groups to the left.

    Parameters
    ----------
    library : bool
        Load the standard library, whose names then are constants, and the paper's examples.

    See Also
    --------
    Program : RASP-L in Python.
    LanguageError : An error in a RASP source; the message shows the line with a caret.

    Examples
    --------
    >>> from legato import rasp
    >>> r = rasp.Interpreter()
    >>> r.run('twice = indices * 2;')
    ['     s-op: twice\n \t Example: twice("hello") = [0, 2, 4, 6, 8] (ints)']
    >>> r.evaluate("twice", "abc")
    [0, 2, 4]
    >>> r.evaluate("sort(tokens, tokens)", "hello")
    ['e', 'h', 'l', 'l', 'o']
    >>> r.analyze("sort(tokens, tokens)", "hello").heads_per_layer
    {0: 0, 1: 2, 2: 1}
    >>> r.value("1 + 1"), "twice" in r.names()
    (2, True)
    """

    def __init__(self, library: bool = True) -> None:
        super().__init__()
        self._turns = Turns()
        self.examples = Examples()
        self.finished = False
        self._loading: list[Path] = []
        self._library = Environment("library")
        self._console = Environment("console", self._library)
        self.builtin["draw"] = self._draw
        self.scope = self._library
        if library:
            folder = files("legato.rasp") / "lib"
            self._run_all((folder / "standard.rasp").read_text(), Environment("library", None, self._library))
            self._run_all((folder / "examples.rasp").read_text(), Environment("examples", self._library, self._console))
        self.scope = self._console

    # --- outside ---

    @property
    def example(self) -> str | list[Any]:
        """The input that sequences are shown on; setting it sets that of selectors too."""
        return self.examples.sequence

    @example.setter
    def example(self, tokens: Sequence[Any]) -> None:
        if len(tokens) == 0:
            raise LanguageError("expected an example of at least one token")
        self.examples.sequence = self.examples.selector = tokens if isinstance(tokens, str) else list(tokens)

    @one_at_a_time
    def run(self, source: str, show: Callable[[str], object] | None = None) -> list[str]:
        """Run statements; the texts that they show, in the form of the language's own prompt.

        Parameters
        ----------
        source : str
        show : callable, optional
            Gets every text as soon as it is there, so before an error that a later statement makes.

        Raises
        ------
        LanguageError
            Syntax or evaluation, with line and caret. `IncompleteSource` where the source stops midway. What came
            before is kept.

        See Also
        --------
        Interpreter.evaluate : Evaluate an expression on an input; a selector gives the rows of its matrix.
        Interpreter.execute : Run a statement without showing it.
        """
        if not isinstance(source, str):
            raise ArgumentError(f"source: expected a text, got {type(source).__name__}")
        shown: list[str] = []
        for statement in cut(source):
            try:
                texts = self._run(statement)
            except IncompleteSource as error:
                error.rest = statement.text
                raise
            for text in texts:
                shown.append(text)
                if show is not None:
                    show(text)
            if self.finished:
                break
        return shown

    @one_at_a_time
    def value(self, expression: str) -> Any:
        """Return what an expression is: a sequence, a selector, a function or a plain value.

        See Also
        --------
        Interpreter.evaluate : Evaluate an expression on an input; a selector gives the rows of its matrix.
        """
        if not isinstance(expression, str):
            raise ArgumentError(f"expression: expected a text, got {type(expression).__name__}")
        found = list(cut(expression.rstrip().rstrip(";") + ";"))
        tree = found[0].tree() if len(found) == 1 else None
        if tree is None or rule(tree) != "show":
            raise LanguageError("expected one expression")
        with self._at_statement(found[0]):
            return self.several(tree.children[0])

    @one_at_a_time
    def evaluate(self, expression: str, tokens: Sequence[Any]) -> list[Any]:
        """Evaluate an expression on an input; a selector gives the rows of its matrix.

        Raises
        ------
        LanguageError
            The expression is wrong, is a function, or cannot be evaluated on this input; or the input is empty.

        See Also
        --------
        Interpreter.value : Return what an expression is: a sequence, a selector, a function or a plain value.
        """
        try:
            count = len(tokens)
        except TypeError:
            raise ArgumentError(f"tokens: expected a sequence, got {type(tokens).__name__}") from None
        if count == 0:
            raise LanguageError("expected an input of at least one token")
        value = self.value(expression)
        if isinstance(value, Applied):
            return list(value)
        if isinstance(value, Function) or (callable(value) and not isinstance(value, Node)):
            raise LanguageError("expected a sequence, got a function")
        if isinstance(value, list | dict):
            raise LanguageError("expected a sequence, got a list")
        try:
            return evaluated(value if isinstance(value, Choice) else as_value(value), list(tokens))
        except LanguageError:
            raise
        except LegatoError as error:
            raise LanguageError(str(error)) from None

    @one_at_a_time
    def analyze(self, expression: str, tokens: Sequence[Any] | None = None) -> Analysis:
        """Count layers and heads; `tokens` does not matter and is taken for symmetry with `evaluate`.

        See Also
        --------
        Analysis : Attention layers of an expression and the distinct selectors in each.
        """
        del tokens
        value = self.value(expression)
        if not isinstance(value, Node):
            return Analysis(0, 0, {0: 0})
        return analyze(value)

    @one_at_a_time
    def names(self) -> list[str]:
        """Return every name and word that a statement may use now; for completion at a prompt.

        See Also
        --------
        Interpreter.check_name : Refuse names that are reserved, and outside functions those of the library.
        """
        words = {"set example", "show example", "examples on", "examples off", "full seq display on", "load", "exit"}
        return sorted(words | RESERVED | set(self.builtin) | set(self._library.names) | set(self._console.names))

    # --- statements ---

    def _run(self, statement: Statement) -> list[str]:
        tree = statement.tree()
        with self._at_statement(statement):
            return self._shown_by(tree)

    @contextmanager
    def _at_statement(self, statement: Statement) -> Iterator[None]:
        """Evaluate in a statement; whatever happens, the names around are those from before."""
        outer, scope, depth = self._statement, self.scope, self._depth
        self._statement = statement
        try:
            yield
        except RecursionError:
            raise LanguageError("an expression is nested too deeply", statement.line, statement.column) from None
        finally:
            self._statement, self.scope, self._depth = outer, scope, depth

    def _run_all(self, source: str, scope: Environment) -> dict[str, Any]:
        """Run a file; what it names, as far as others may see it, by the last statement that does."""
        brought: dict[str, Any] = {}
        outer, self.scope = self.scope, scope
        shown = self.examples.show_sequences, self.examples.show_selectors
        self.examples.show_sequences = self.examples.show_selectors = False
        before: dict[str, Any] = {}
        try:
            for statement in cut(source):
                self._run(statement)
                for name, value in scope.names.items():
                    if before.get(name, brought) is not value and not name.startswith("_") and name != "out":
                        brought.pop(name, None)
                        brought[name] = value
                before = dict(scope.names)
        finally:
            self.scope = outer
            self.examples.show_sequences, self.examples.show_selectors = shown
        return brought

    def _shown_by(self, tree: Any) -> list[str]:
        """Run a statement of the outermost level; the texts that it shows."""
        kind, parts = rule(tree), tree.children
        if kind == "assign":
            names = self._targets(parts[0])
            value = self.several(parts[1])
            self.bind(names, value, parts[1])
            self.scope.names["out"] = value
            return [self.examples.named(name, self.scope.find(name)) for name in names]
        if kind == "define":
            self.execute(tree)
            return [self.examples.named(str(parts[0]), self.scope.find(str(parts[0])))]
        if kind == "show":
            value = self.several(parts[0])
            if isinstance(value, Applied):
                return [applied_text(value, self.examples.full)]
            if value is None or isinstance(value, Drawn):
                return [] if value is None else [str(value)]
            self.scope.names["out"] = value
            only = parts[0].children[0]
            return [self.examples.named(str(only.children[0]) if rule(only) == "name" else "out", value)]
        if kind in ("give", "loop"):
            self.execute(tree)
            return []
        return self._command(kind, parts, tree)

    def execute(self, tree: Any) -> None:
        """Run a statement without showing it.

        See Also
        --------
        Interpreter.run : Run statements; the texts that they show, in the form of the language's own prompt.
        """
        kind, parts = rule(tree), tree.children
        if kind == "assign":
            self.bind(self._targets(parts[0]), self.several(parts[1]), parts[1])
        elif kind == "define":
            self._define(parts, tree)
        elif kind == "give":
            value = self.several(parts[0])
            if self._depth == 0:
                raise self.error("return outside a function", tree)
            raise Returned(value)
        elif kind == "loop":
            for item in self.iterated(parts[1]):
                self.bind([str(name) for name in parts[0].children], item, tree)
                for statement in parts[2:]:
                    self.execute(statement)
        elif kind == "show":
            self.several(parts[0])
        else:
            raise self.error("expected an assignment, a loop, a definition or an expression inside a block", tree)

    def _command(self, kind: str, parts: list[Any], tree: Any) -> list[str]:
        which = "s-op" if "s-op" in str(parts[0]) else "selector" if "selector" in str(parts[0]) else "both"
        of_sequences, of_selectors = which != "selector", which != "s-op"
        examples = self.examples
        if kind == "set_example":
            value = self.evaluate_tree(parts[1])
            if not isinstance(value, str | list) or len(value) == 0:
                raise self.error("expected an example of at least one token, a string or a list", tree)
            if of_sequences:
                examples.sequence = value
            if of_selectors:
                examples.selector = value
        elif kind == "show_example":
            lines = [f"\ts-op example: {quoted(examples.sequence)}"] if of_sequences else []
            return lines + ([f"\tselector example: {quoted(examples.selector)}"] if of_selectors else [])
        elif kind == "switch_examples":
            on = str(parts[1]) == "on"
            if of_sequences:
                examples.show_sequences = on
            if of_selectors:
                examples.show_selectors = on
        elif kind == "switch_full":
            examples.full = str(parts[1]) == "on"
        elif kind == "load":
            return self._load(str(parts[1])[1:-1], tree)
        elif kind == "leave":
            self.finished = True
        return []

    def _load(self, name: str, tree: Any) -> list[str]:
        for path in (Path(name), Path(name + ".rasp"), Path(str(files("legato.rasp") / "lib" / f"{name}.rasp"))):
            if path.is_file():
                break
        else:
            raise self.error(f'load: no file "{name}"', tree)
        if path.resolve() in self._loading:
            raise self.error(f'load: "{name}" loads itself', tree)
        self._loading.append(path.resolve())
        try:
            brought = self._run_all(read_text(path), Environment(name, self._library, self.scope))
        except LanguageError as error:
            raise self.error(f'load "{name}": {error}', tree) from None
        finally:
            self._loading.pop()
        shown = Examples()
        shown.show_sequences = shown.show_selectors = False
        return [shown.named(name, value) for name, value in brought.items()]

    def _targets(self, targets: Any) -> list[str]:
        for target in targets.children:
            if rule(target) != "name":
                raise self.error("expected a name on the left of =", target)
        return [str(target.children[0]) for target in targets.children]

    def check_name(self, name: str, tree: Any) -> None:
        """Refuse names that are reserved, and outside functions those of the library.

        See Also
        --------
        Interpreter.bind : Let names stand for a value, or for its parts; sequences get the first name that they have.
        """
        super().check_name(name, tree)
        file_level = self._depth == 0 and self.scope.parent in (self._library, None)
        if file_level and self.scope.gives is not self._library and name in self._library.names:
            raise self.error(f"the name {name} is of the library and cannot be set", tree)

    def bind(self, names: list[str], value: Any, tree: Any) -> None:
        """Let names stand for a value, or for its parts; sequences get the first name that they have.

        See Also
        --------
        Interpreter.check_name : Refuse names that are reserved, and outside functions those of the library.
        """
        super().bind(names, value, tree)
        for name in names:
            item = self.scope.names[name]
            if isinstance(item, Node) and item.label is None and self._depth == 0:
                item.named(name)

    def _define(self, parts: list[Any], tree: Any) -> None:
        parameters: list[tuple[str, Any]] = []
        body = parts[1:]
        if body and rule(body[0]) == "parameters":
            for parameter in body[0].children:
                if rule(parameter) == "default":
                    parameters.append((str(parameter.children[0]), parameter.children[1]))
                else:
                    parameters.append((str(parameter), None))
            body = body[1:]
        name = str(parts[0])
        for given in [parameter for parameter, _ in parameters]:
            Expressions.check_name(self, given, tree)
        self.check_name(name, tree)
        self.scope.set(name, Function(name, parameters, body, self._statement, self.scope))

    def length(self) -> Value:
        """Return the library's length of the input.

        See Also
        --------
        Interpreter.value : Return what an expression is: a sequence, a selector, a function or a plain value.
        """
        found = self._library.names.get("length")
        return found if isinstance(found, Value) else super().length()

    def _draw(self, value: Any, tokens: Any = None) -> Drawn:
        """Draw a sequence as its graph, and with an input as a table of steps; a selector as a heat map."""
        if not isinstance(value, Value | Choice):
            raise TypeError(f"draw: expected an s-op or a selector, got {type(value).__name__}")
        path = Path(f"{value.label or 'drawing'}.svg")
        if isinstance(value, Choice):
            value.heat_map(self.examples.selector if tokens is None else tokens).save(path)
            return Drawn(f"written: {path}")
        write_svg(interned(value), path.stem, path)
        if tokens is None:
            return Drawn(f"written: {path}")
        table = write_whole(path.with_suffix(".html"), value.steps(tokens)._repr_html_())
        return Drawn(f"written: {path}, {table}")


class Drawn(str):
    """What `draw` says."""

    __slots__ = ()


def analyze(value: Node) -> Analysis:
    """Layers and heads of a graph: an aggregation is one layer above what it reads; a head is a distinct selector."""
    layer: dict[int, int] = {}
    heads: dict[int, set[int]] = {0: set()}
    order = interned(value)
    for node in order:
        below = max((layer[id(source)] for source in node.inputs), default=0)
        layer[id(node)] = below
        if node.kind in ("aggregate", "width"):
            layer[id(node)] = below + 1
            heads.setdefault(below + 1, set()).add(id(node.inputs[0]))
    depth = layer[id(order[-1])]
    counts = {at: len(heads.get(at, ())) for at in range(depth + 1)}
    return Analysis(depth, max(counts.values()), counts)
