"""The RASP language of Weiss, Goldberg, Yahav ("Thinking Like Transformers", ICML 2021): interpreter, analysis."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from legato._extras import install_command
from legato._files import read_text
from legato._turns import Turns, one_at_a_time
from legato.errors import ArgumentError, DependencyError, LegatoError
from legato.rasp.graph import Choice, Node, Value, apply_symbolic, as_value, interned
from legato.rasp.predicates import equals, geq, gt, leq, lt, neq
from legato.rasp.sops import evaluate

if TYPE_CHECKING:
    from lark import Lark

__all__ = ["Analysis", "IncompleteSource", "Interpreter", "LanguageError"]

_SELECT = {"==": equals, "!=": neq, "<": lt, "<=": leq, ">": gt, ">=": geq}
_NAMED = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge",
          "+": "add", "-": "sub", "*": "mul", "/": "truediv", "%": "mod"}  # fmt: skip
_DEPTH = 100


_WIDTH = 60  # of a source line that is shown with an error, on either side of the place


class LanguageError(ArgumentError):
    """An error in a RASP source; the message shows the line with a caret."""

    def __init__(self, message: str, line: int = 0, column: int = 0, text: str = "") -> None:
        self.line, self.column = line, column
        where = f"line {line}, column {column}: " if line else ""
        start = max(0, column - _WIDTH)  # of a long line what is around the place
        caret = f"\n  {text[start : start + 2 * _WIDTH]}\n  {' ' * (column - 1 - start)}^" if line and text else ""
        super().__init__(f"{where}{message}{caret}")


class IncompleteSource(LanguageError):  # noqa: N818  # a prompt goes on reading
    """The source ends in the middle of a statement."""


@dataclass(frozen=True)
class Analysis:
    """Attention layers of an expression and the distinct selectors in each, as the language's authors count them."""

    n_layers: int
    max_heads: int
    heads_per_layer: dict[int, int]  #: layer 0 has none: it is before the first attention


class _Return(Exception):  # noqa: N818  # control flow, caught by the call
    def __init__(self, value: Any) -> None:
        self.value = value


class _Exit(Exception):  # noqa: N818
    pass


@dataclass
class _Function:
    name: str
    parameters: list[tuple[str, Any]]  # with the tree of the default, or None
    body: list[Any]
    source: str


@functools.cache
def _parser() -> Lark:
    try:
        from lark import Lark
    except ImportError:
        raise DependencyError(f"the RASP language needs lark: {install_command('rasp')}") from None
    grammar = (files("legato.rasp") / "grammar.lark").read_text()
    return Lark(grammar, parser="lalr", propagate_positions=True, maybe_placeholders=False)


@functools.cache
def _parsed(source: str) -> Any:
    from lark.exceptions import UnexpectedCharacters, UnexpectedToken

    lines = source.split("\n")

    def line_of(number: int) -> str:
        return lines[number - 1] if 0 < number <= len(lines) else ""

    try:
        return _parser().parse(source)
    except UnexpectedToken as error:
        if error.token.type == "$END":
            raise IncompleteSource(
                "the source ends in the middle of a statement (is a ; missing?)",
                len(lines),
                len(lines[-1]) + 1,
                lines[-1],
            ) from None
        raise LanguageError(f"unexpected {str(error.token)!r}", error.line, error.column, line_of(error.line)) from None
    except UnexpectedCharacters as error:
        raise LanguageError(
            f"unexpected character {error.char!r}", error.line, error.column, line_of(error.line)
        ) from None


class Interpreter:
    """Runs RASP source and keeps what it defines.

    Parameters
    ----------
    library : bool
        Load the standard library and the paper's examples.

    Examples
    --------
    >>> from legato import rasp
    >>> r = rasp.Interpreter()
    >>> r.run('twice = indices * 2;')
    []
    >>> r.evaluate("twice", "abc")
    [0, 2, 4]
    >>> r.evaluate("sort(tokens, tokens)", "hello")
    ['e', 'h', 'l', 'l', 'o']
    >>> r.analyze("sort(tokens, tokens)", "hello").heads_per_layer
    {0: 0, 1: 2, 2: 1}
    """

    def __init__(self, library: bool = True) -> None:
        self._turns = Turns()
        self.example: list[Any] = list("hello")
        self.show_examples = True
        self.finished = False
        self._source = ""
        self._scopes: list[dict[str, Any]] = [{}]
        self._globals: dict[str, Any] = {
            "tokens": Value("tokens").named("tokens"),
            "tokens_str": apply_symbolic(str, Value("tokens")),
            "tokens_int": apply_symbolic(int, Value("tokens")),
            "tokens_float": apply_symbolic(float, Value("tokens")),
            "indices": Value("indices").named("indices"),
            "aggregate": self._aggregate,
            "indicator": lambda x: self._apply(_indicator, x),
            "round": lambda x: self._apply(round, x),
            "len": len,
            "range": lambda *x: list(range(*x)),
            "zip": lambda *x: [list(row) for row in zip(*x, strict=True)],
            "draw": self._draw,
        }
        if library:
            for name in ("standard", "examples"):
                self.run((files("legato.rasp") / "lib" / f"{name}.rasp").read_text())

    # --- outside ---

    @one_at_a_time
    def run(self, source: str) -> list[str]:
        """Run statements; the texts that expression statements show, one each.

        Raises
        ------
        LanguageError
            Syntax or evaluation, with line and caret. `IncompleteSource` where the source stops midway.
        """
        if not isinstance(source, str):
            raise ArgumentError(f"source: expected a text, got {type(source).__name__}")
        tree = _parsed(source)
        shown: list[str] = []
        outer, self._source = self._source, source
        try:
            for statement in tree.children:
                text = self._execute(statement)
                if text is not None:
                    shown.append(text)
                if self.finished:
                    break
        except RecursionError:
            raise LanguageError("the program recurses without end") from None
        finally:
            self._source = outer
        return shown

    @one_at_a_time
    def value(self, expression: str) -> Any:
        """Return what an expression is: a sequence, a selector, a function or a plain value."""
        if not isinstance(expression, str):
            raise ArgumentError(f"expression: expected a text, got {type(expression).__name__}")
        tree = _parsed(expression.rstrip().rstrip(";") + ";")
        if len(tree.children) != 1 or _rule(tree.children[0]) != "show":
            raise LanguageError("expected one expression")
        outer, self._source = self._source, expression
        try:
            return self._several(tree.children[0].children[0])
        finally:
            self._source = outer

    @one_at_a_time
    def evaluate(self, expression: str, tokens: Sequence[Any]) -> list[Any]:
        """Evaluate an expression on an input; a selector gives the rows of its matrix.

        Raises
        ------
        LanguageError
            The expression is wrong, is a function, or cannot be evaluated on this input; or the input is empty.
        """
        try:
            count = len(tokens)
        except TypeError:
            raise ArgumentError(f"tokens: expected a sequence, got {type(tokens).__name__}") from None
        if count == 0:
            raise LanguageError("expected an input of at least one token")
        value = self.value(expression)
        if isinstance(value, _Function) or (callable(value) and not isinstance(value, Node)):
            raise LanguageError("expected a sequence, got a function")
        node = value if isinstance(value, Choice) else as_value(value)
        try:
            return evaluate(node, list(tokens))
        except LanguageError:
            raise
        except LegatoError as error:
            raise LanguageError(str(error)) from None

    @one_at_a_time
    def analyze(self, expression: str, tokens: Sequence[Any] | None = None) -> Analysis:
        """Count layers and heads; `tokens` does not matter and is taken for symmetry with `evaluate`."""
        del tokens
        value = self.value(expression)
        if not isinstance(value, Node):
            return Analysis(0, 0, {0: 0})
        return analyze(value)

    # --- statements ---

    def _execute(self, tree: Any) -> str | None:
        rule, parts = _rule(tree), tree.children
        if rule == "assign":
            self._assign(parts[0], parts[1])
        elif rule == "define":
            self._define(parts)
        elif rule == "give":
            value = self._several(parts[0])
            if len(self._scopes) == 1:
                raise self._error("return outside a function", tree)
            raise _Return(value)
        elif rule == "loop":
            for item in self._iterated(parts[1]):
                self._bind([str(name) for name in parts[0].children], item, tree)
                for statement in parts[2:]:
                    self._execute(statement)
        elif rule == "show":
            return self._shown(self._several(parts[0]))
        else:
            return self._command(rule, parts, tree)
        return None

    def _command(self, rule: str, parts: list[Any], tree: Any) -> str | None:
        if rule == "set_example":
            value = str(parts[1])[1:-1] if not hasattr(parts[1], "data") else self._value(parts[1])
            if len(value) == 0:
                raise self._error("expected an example of at least one token", tree)
            self.example = list(value)
        elif rule == "show_example":
            return f"example: {_text(self.example)}"
        elif rule == "switch_examples":
            self.show_examples = str(parts[1]) == "on"
        elif rule == "load":
            self._load(str(parts[1])[1:-1], tree)
        elif rule == "leave":
            self.finished = True
        return None

    def _load(self, name: str, tree: Any) -> None:
        for path in (Path(name), Path(name + ".rasp"), Path(str(files("legato.rasp") / "lib" / f"{name}.rasp"))):
            if path.is_file():
                self.run(read_text(path))
                return
        raise self._error(f'load: no file "{name}"', tree)

    def _assign(self, targets: Any, source: Any) -> None:
        names = []
        for target in targets.children:
            if _rule(target) != "name":
                raise self._error("expected a name on the left of =", target)
            names.append(str(target.children[0]))
        self._bind(names, self._several(source), source)

    def _bind(self, names: list[str], value: Any, tree: Any) -> None:
        if len(names) == 1:
            values = [value]
        elif isinstance(value, list | tuple) and len(value) == len(names):
            values = list(value)
        else:
            raise self._error(f"expected {len(names)} values", tree)
        for name, item in zip(names, values, strict=True):
            if isinstance(item, Node) and item.label is None and len(self._scopes) == 1:
                item.named(name)
            self._scopes[-1][name] = item

    def _define(self, parts: list[Any]) -> None:
        parameters = []
        body = parts[1:]
        if body and _rule(body[0]) == "parameters":
            for parameter in body[0].children:
                if _rule(parameter) == "default":
                    parameters.append((str(parameter.children[0]), parameter.children[1]))
                else:
                    parameters.append((str(parameter), None))
            body = body[1:]
        name = str(parts[0])
        self._scopes[-1][name] = _Function(name, parameters, body, self._source)

    def _shown(self, value: Any) -> str:
        if isinstance(value, Choice):
            title = f"selector: {value.label or '(unnamed)'}"
            if not self.show_examples:
                return title
            rows = evaluate(value, self.example)
            width = max(len(str(x)) for x in self.example)
            head = " " * (width + 1) + " ".join(str(x).rjust(width) for x in self.example)
            lines = [
                f"{str(x).rjust(width)} {' '.join(('1' if on else ' ').rjust(width) for on in row)}"
                for x, row in zip(self.example, rows, strict=True)
            ]
            return "\n".join([title, head, *lines])
        if isinstance(value, Value):
            title = f"s-op: {value.label or '(unnamed)'}"
            if not self.show_examples:
                return title
            try:
                result = _text(evaluate(value, self.example))
            except LegatoError as error:
                return f"{title}\n  example: {_text(self.example)} gives an error: {error}"
            return f"{title}\n  example: {_text(self.example)} -> {result}"
        if isinstance(value, _Function):
            return f"function: {value.name}({', '.join(name for name, _ in value.parameters)})"
        return _text(value)

    # --- expressions ---

    def _several(self, tree: Any) -> Any:
        values = [self._value(part) for part in tree.children]
        return values[0] if len(values) == 1 else values

    def _value(self, tree: Any) -> Any:
        try:
            method: Callable[[Any], Any] = getattr(self, f"_eval_{_rule(tree)}")
            return method(tree)
        except (LanguageError, _Return):
            raise
        except (LegatoError, TypeError, ValueError, KeyError, IndexError, ArithmeticError) as error:
            raise self._error(f"no key {error}" if isinstance(error, KeyError) else str(error), tree) from None

    def _error(self, message: str, tree: Any) -> LanguageError:
        meta = getattr(tree, "meta", None)
        line, column = getattr(meta, "line", 0), getattr(meta, "column", 0)
        lines = self._source.split("\n")
        return LanguageError(message, line, column, lines[line - 1] if 0 < line <= len(lines) else "")

    def _eval_name(self, tree: Any) -> Any:
        name = str(tree.children[0])
        for scope in (self._scopes[-1], self._scopes[0], self._globals):
            if name in scope:
                return scope[name]
        raise self._error(f"unknown name {name}", tree)

    def _eval_integer(self, tree: Any) -> Any:
        return int(tree.children[0])

    def _eval_real(self, tree: Any) -> Any:
        return float(tree.children[0])

    def _eval_string(self, tree: Any) -> Any:
        return str(tree.children[0])[1:-1]

    def _eval_true(self, _tree: Any) -> Any:
        return True

    def _eval_false(self, _tree: Any) -> Any:
        return False

    def _eval_none(self, _tree: Any) -> Any:
        return None

    def _eval_list(self, tree: Any) -> Any:
        return [self._value(part) for part in tree.children]

    def _eval_dict(self, tree: Any) -> Any:
        return {self._value(pair.children[0]): self._value(pair.children[1]) for pair in tree.children}

    def _eval_list_of(self, tree: Any) -> Any:
        return [self._value(tree.children[0]) for _ in self._comprehended(tree)]

    def _eval_dict_of(self, tree: Any) -> Any:
        pair = tree.children[0]
        return {self._value(pair.children[0]): self._value(pair.children[1]) for _ in self._comprehended(tree)}

    def _comprehended(self, tree: Any) -> Iterator[None]:
        names = [str(name) for name in tree.children[1].children]
        self._scopes.append(dict(self._scopes[-1]) if len(self._scopes) > 1 else {})
        try:
            for item in self._iterated(tree.children[2]):
                self._bind(names, item, tree)
                if len(tree.children) == 3 or self._value(tree.children[3]):
                    yield
        finally:
            self._scopes.pop()

    def _iterated(self, tree: Any) -> list[Any]:
        value = self._value(tree)
        if not isinstance(value, list | str | dict):
            raise self._error("expected a list, a string or a dict to go through", tree)
        return list(value)

    def _eval_choose(self, tree: Any) -> Any:
        then, condition, otherwise = tree.children
        asked = self._value(condition)
        if not isinstance(asked, Node):
            return self._value(then if asked else otherwise)
        if isinstance(asked, Choice):
            raise self._error("expected a sequence as condition, got a selector", condition)
        return apply_symbolic("where", asked, self._value(then), self._value(otherwise))

    def _eval_or_(self, tree: Any) -> Any:
        return self._logic(tree, "or")

    def _eval_and_(self, tree: Any) -> Any:
        return self._logic(tree, "and")

    def _logic(self, tree: Any, kind: str) -> Any:
        left, right = (self._value(part) for part in tree.children)
        if isinstance(left, Choice) or isinstance(right, Choice):
            if not (isinstance(left, Choice) and isinstance(right, Choice)):
                raise self._error(f"{kind}: expected two selectors or two sequences", tree)
            return left & right if kind == "and" else left | right
        return self._apply(_and if kind == "and" else _or, left, right)

    def _eval_not_(self, tree: Any) -> Any:
        value = self._value(tree.children[0])
        return ~value if isinstance(value, Choice) else self._apply(_not, value)

    def _eval_compare(self, tree: Any) -> Any:
        left, op, right = tree.children
        return self._named(_NAMED[str(op)], self._value(left), self._value(right))

    _eval_arithmetic = _eval_compare

    def _eval_power(self, tree: Any) -> Any:
        return self._named("pow", *(self._value(part) for part in tree.children))

    def _eval_unary(self, tree: Any) -> Any:
        value = self._value(tree.children[1])
        return self._named("neg", value) if str(tree.children[0]) == "-" else value

    def _named(self, op: str, *values: Any) -> Any:
        from legato.rasp.graph import OPERATIONS

        if any(isinstance(x, Choice) for x in values):
            raise TypeError(f"{op}: expected sequences, got a selector")
        return apply_symbolic(op, *values) if _symbolic(values) else OPERATIONS[op].scalar(*values)

    def _apply(self, function: Callable[..., Any], *values: Any) -> Any:
        return apply_symbolic(function, *values) if _symbolic(values) else function(*values)

    def _eval_contains(self, tree: Any) -> Any:
        item, group = (self._value(part) for part in tree.children)
        if isinstance(group, Node) or (isinstance(group, list) and _symbolic(group)):
            raise self._error("in: expected a plain list on the right", tree)
        members = tuple(group)
        return self._apply(functools.partial(_member, members), item)

    def _eval_lacks(self, tree: Any) -> Any:
        return self._apply(_not, self._eval_contains(tree))

    def _eval_item(self, tree: Any) -> Any:
        group, index = (self._value(part) for part in tree.children)
        if isinstance(group, Node):
            raise self._error("expected a list, a string or a dict before [", tree)
        if isinstance(index, Value):
            table = group
            return apply_symbolic(lambda at: table[at], index)
        return group[index]

    def _eval_select(self, tree: Any) -> Any:
        keys, queries, op = tree.children
        operands = [self._value(keys), self._value(queries)]
        if any(isinstance(x, Choice | list | dict | _Function) for x in operands):
            raise self._error("select: expected two sequences", tree)
        k, q = (as_value(x) for x in operands)
        return Choice("select", (k, q), predicate=_SELECT[str(op)], causal=None)

    def _aggregate(self, sel: Any, seq: Any, default: Any = None) -> Value:
        if not isinstance(sel, Choice):
            raise TypeError(f"aggregate: expected a selector first, got {type(sel).__name__}")
        return Value("aggregate", (sel, as_value(seq)), default=default, reduction="mean", rounding="value")

    def _draw(self, value: Any, tokens: Any = None) -> str:
        from legato.rasp.drawing import write_svg

        path = Path(f"{getattr(value, 'label', None) or 'drawing'}.svg")
        del tokens
        write_svg(interned(as_value(value)), path.stem, path)
        return f"written: {path}"

    def _eval_call(self, tree: Any) -> Any:
        function = self._value(tree.children[0])
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for argument in tree.children[1].children if len(tree.children) > 1 else ():
            if _rule(argument) == "named":
                named[str(argument.children[0])] = self._value(argument.children[1])
            else:
                positional.append(self._value(argument))
        if isinstance(function, _Function):
            return self._called(function, positional, named, tree)
        if isinstance(function, Node):
            if len(positional) != 1 or named:
                raise self._error("expected one input", tree)
            return evaluate(function, list(positional[0]))  # type: ignore[arg-type]
        if not callable(function):
            raise self._error(f"cannot be called: {_text(function)}", tree)
        return function(*positional, **named)

    def _called(self, function: _Function, positional: list[Any], named: dict[str, Any], tree: Any) -> Any:
        names = [name for name, _ in function.parameters]
        if len(positional) > len(names):
            raise self._error(f"{function.name}: expected at most {len(names)} arguments, got {len(positional)}", tree)
        bound = dict(zip(names, positional, strict=False))
        for name, value in named.items():
            if name not in names or name in bound:
                raise self._error(f"{function.name}: unexpected argument {name}", tree)
            bound[name] = value
        for name, default in function.parameters:
            if name not in bound:
                if default is None:
                    raise self._error(f"{function.name}: the argument {name} is missing", tree)
                bound[name] = self._value(default)
        if len(self._scopes) > _DEPTH:
            raise self._error(f"{function.name}: the program recurses without end", tree)
        self._scopes.append(bound)
        outer, self._source = self._source, function.source
        try:
            for statement in function.body:
                self._execute(statement)
        except _Return as done:
            return done.value
        finally:
            self._scopes.pop()
            self._source = outer
        return None


def _rule(tree: Any) -> str:
    return str(getattr(tree, "data", ""))


def _symbolic(values: Any) -> bool:
    return any(isinstance(x, Value) for x in values)


def _indicator(x: Any) -> int:
    return 1 if x else 0


def _and(a: Any, b: Any) -> bool:
    return bool(a and b)


def _or(a: Any, b: Any) -> bool:
    return bool(a or b)


def _not(a: Any) -> bool:
    return not a


def _member(members: tuple[Any, ...], x: Any) -> bool:
    return x in members


def _text(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(x, str) and len(x) == 1 for x in value):
        return '"' + "".join(value) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(_text(x) for x in value) + "]"
    if isinstance(value, float):
        return f"{value:.6g}"
    return repr(value) if isinstance(value, str) else str(value)


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
