"""Programs: traced once, evaluated whole, in batches and token by token; generation, files, legality."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legato import rasp
from legato.errors import ArgumentError, DependencyError, InputError, NumericalError, OutputError
from test_rasp_core import LIBRARY, PREDICATES, vectors


def streamed(program: rasp.Program, x: Any) -> list[int]:
    program.reset()
    return [program.step(int(token)) for token in x]


@pytest.mark.parametrize("name", LIBRARY)
def test_library_streams(name: str) -> None:
    rng = np.random.default_rng(5)
    program = rasp.Program(lambda t: LIBRARY[name](t, rasp.shift_right(t, 1, default=2), t % 3))
    for n in (0, 1, 5, 60):
        x = rng.integers(-2, 6, n)
        assert streamed(program, x) == program(x).tolist()


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_random_programs_stream(data: st.DataObject) -> None:
    """Selectors of every kind, on derived keys and queries: whole, batch and streaming agree."""
    names = ["eq", "neq", "lt", "leq", "gt", "geq", "true", "abs_le_2"]

    def function(x: Any) -> Any:
        pool = [x, rasp.indices(x), x * 2 - 1, rasp.shift_right(x, 1)]

        def pick() -> Any:
            return pool[data.draw(st.integers(0, len(pool) - 1))]

        for _ in range(data.draw(st.integers(1, 4))):
            A = rasp.select(pick(), pick(), PREDICATES[data.draw(st.sampled_from(names))])
            for _ in range(data.draw(st.integers(0, 2))):
                B = rasp.select(pick(), pick(), PREDICATES[data.draw(st.sampled_from(names))])
                A = data.draw(st.sampled_from([A & B, A | B, ~A, A & ~B]))
            reduction = data.draw(st.sampled_from(["width", "mean", "max", "min"]))
            rounding = data.draw(st.sampled_from(["truncate", "floor"]))
            pool.append(
                rasp.sel_width(A) if reduction == "width" else rasp.aggr(A, pick(), -2, reduction, rounding=rounding)
            )
        return pool[-1]

    program = rasp.Program(function)
    x = np.array(data.draw(st.lists(st.integers(-4, 9), max_size=40)), dtype=np.int64)
    whole = program(x)
    assert whole.tolist() == program(x, backend="numpy").tolist()
    assert whole.tolist() == streamed(program, x)
    assert whole.tolist() == program.batch(np.stack([x, x[::-1]]))[0].tolist()


# --- the peer's programs ----------------------------------------------------------------------------------------------

START, END = -1, -2


def count(x: Any) -> Any:
    """Start, end, START: then start, start + 1, ..., end, END."""
    prompt_end = rasp.induct_prev(x, rasp.full(x, START), offset=-1)
    first = rasp.induct_prev(x, rasp.full(x, START), offset=-2)
    return rasp.where(x == START, first, rasp.where(x == prompt_end, rasp.full(x, END), x + 1))


def test_count_generates() -> None:
    program = rasp.Program(count)
    assert program.generate([3, 7, START], stop=END) == [3, 4, 5, 6, 7, END]
    assert program.generate([5, 1004, START], stop=END, max_new=2000) == [*range(5, 1005), END]
    assert program.generate([3, 7, START], stop=lambda t: t == 5) == [3, 4, 5]
    assert program.generate([3, 7, START], max_new=2) == [3, 4]


def copy_unique(x: Any) -> Any:
    """After -1 the first token, after any other the one that followed it."""
    first = rasp.index_select(x, rasp.full(x, 0))
    return rasp.where(x == -1, first, rasp.induct(x, x, 1))


def boolean_and(x: Any) -> Any:
    return rasp.kqv(x, rasp.full(x, 0), rasp.full(x, 0), rasp.equals, default=1)


def sort_next(x: Any) -> Any:
    return rasp.kqv(x, x, x, rasp.gt, default=-2, reduction="min")


def parity_via_cumsum(x: Any) -> Any:
    return rasp.cumsum(x) % 2


def test_program_vectors() -> None:
    ours = {
        "copy_unique": copy_unique,
        "boolean_and": boolean_and,
        "sort_next": sort_next,
        "parity_via_cumsum": parity_via_cumsum,
    }
    seen = 0
    for case in vectors("np_prog"):
        name = case["op"].split("[")[0]
        if name in ours:
            program = rasp.Program(ours[name])
            x = case["args"]["x"]
            assert program(x).tolist() == case["out"] == streamed(program, x)
            seen += 1
    assert seen >= 60


# --- tracing ----------------------------------------------------------------------------------------------------------


def test_shared_expressions_are_evaluated_once() -> None:
    """The peer's cost doubles with each level of x = f(x, g(x))."""

    def deep(x: Any) -> Any:
        for _ in range(60):
            x = rasp.kqv(x, x % 5, x + 1, rasp.leq, reduction="max")
            x = x - (x % 3)
        return x

    program = rasp.Program(deep)
    assert len(program.nodes) < 700
    x = np.arange(20)
    assert program(x).tolist() == streamed(program, x)


def test_equal_expressions_are_one_node() -> None:
    program = rasp.Program(lambda x: rasp.num_prev(x, x) + rasp.num_prev(x, x))
    assert sum(node.kind == "width" for node in program.nodes) == 1


def test_functions_become_expressions_or_are_called() -> None:
    program = rasp.Program(lambda x: rasp.seq_map(x, x + 1, lambda a, b: (a - b) / 2) + rasp.tok_map(x, abs))
    assert all(isinstance(node.attributes.get("op", ""), str) for node in program.nodes)
    assert program([-3, 4]).tolist() == [3, 4]  # -1/2 is truncated to 0
    table = {1: 10, 2: 20}
    branching = rasp.Program(lambda x: rasp.tok_map(x, lambda a: table.get(a, 0) if a > 0 else -1))
    assert branching([0, 1, 2, 3]).tolist() == [-1, 10, 20, 0] == streamed(branching, [0, 1, 2, 3])
    lookup = rasp.Program(lambda x: rasp.tok_map(x, lambda a: table.get(a, 0)))
    assert lookup([0, 1, 2, 3]).tolist() == [0, 10, 20, 0]


def test_trace_errors() -> None:
    def recursive(x: Any) -> Any:
        return recursive(x + 1)

    with pytest.raises(ArgumentError, match="recursive: the function recurses without end"):
        rasp.Program(recursive)
    with pytest.raises(ArgumentError, match=r"cannot be traced: a symbol .* has no truth value"):
        rasp.Program(lambda x: x if x == 1 else x + 1)
    with pytest.raises(ArgumentError, match="is no RASP-L; use"):
        rasp.Program(rasp.sops.length + 1)
    with pytest.raises(ArgumentError, match="neither causal nor not"):
        rasp.Program(rasp.sops.SelectorWidth(rasp.sops.Select(rasp.sops.tokens, 1, rasp.equals)))
    with pytest.raises(ArgumentError, match="expected a function that returns a sequence, got NoneType"):
        rasp.Program(lambda x: None)  # noqa: ARG005


def test_run_time_errors_name_operation_and_position() -> None:
    program = rasp.Program(lambda x: 12 // x)
    with pytest.raises(NumericalError, match="floordiv: division by zero at position 2"):
        program([1, 2, 0])
    with pytest.raises(NumericalError, match="floordiv: division by zero at position 1"):
        streamed(program, [1, 0])
    assert program.batch([[3, 0], [1, 2]], [1, 2]).tolist() == [[4, 0], [12, 6]]  # what is beyond the end is no error
    with pytest.raises(NumericalError, match="row 1: floordiv: division by zero at position 1"):
        program.batch([[3, 0], [1, 0]], [1, 2])
    product = rasp.Program(lambda x: x * x)
    with pytest.raises(NumericalError, match="mul: the result at position 1 does not fit"):
        product([3, 2**40])
    with pytest.raises(NumericalError, match="mul: the result at position 1 does not fit"):
        streamed(product, [3, 2**40])
    with pytest.raises(ArgumentError, match="token at position 1: expected an integer, got str"):
        product.step("a")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="token at position 1: expected a 64-bit integer"):
        product.generate([1, 2**63])
    with pytest.raises(ArgumentError, match=r"streaming: the token at position 1 failed; reset\(\)"):
        program.step(3)  # after the division by zero above
    assert streamed(program, [3, 4]) == [4, 3]
    with pytest.raises(ArgumentError, match="prompt: expected at least one token"):
        product.generate([])
    with pytest.raises(ArgumentError, match=r"X: expected rows of one length .* row 1 differs"):
        product.batch([[1, 2], [1]])
    with pytest.raises(ArgumentError, match=r"X: .* got nan at position 0, 1"):
        product.batch([[1.0, float("nan")]])
    truthy = rasp.Program(lambda x: rasp.kqv(x, x, x, lambda k, q: k))  # noqa: ARG005
    for run in (truthy, truthy.batch, truthy.generate):
        with pytest.raises(ArgumentError, match="returns bool, got int for key 4, query 4"):
            run([[4]] if run == truthy.batch else [4])


def test_future_is_refused_when_streaming() -> None:
    program = rasp.Program(lambda x: rasp.kqv(x, x, x, rasp.lt, reduction="max", causal=False))
    assert program([1, 3, 2]).tolist() == [0, 2, 1]
    with pytest.raises(ArgumentError, match="is not causal: it reads the future"):
        program.step(1)
    with pytest.raises(ArgumentError, match="streaming: the node select #1 is not causal"):
        program.generate([1])


# --- looking at programs, files ---------------------------------------------------------------------------------------


def test_check() -> None:
    legal = rasp.Program(copy_unique).check()
    assert legal.legal
    assert (legal.depth, legal.heads) == (3, 2)
    assert legal.length == 4  # index_select, ==, where, induct
    assert legal.expanded_length > legal.length
    parity = rasp.Program(parity_via_cumsum).check()
    assert not parity.legal
    assert "arithmetic on a COUNT (mod)" in parity.problems[0]
    for function, reason in (
        (lambda x: rasp.indices(x) * 2, "arithmetic on an INDEX"),
        (lambda x: rasp.indices(x) == x, "INDEX compared with TOKEN"),
        (lambda x: x + 1000, "does not fit the token type"),
        (lambda x: rasp.kqv(x, x, x, rasp.lt, causal=False), "reads the future"),
    ):
        report = rasp.Program(function).check()
        assert not report.legal
        assert reason in str(report)


@pytest.mark.parametrize("function", [count, copy_unique, boolean_and, sort_next, parity_via_cumsum])
def test_save_and_load(function: Any, tmp_path: Path) -> None:
    program = rasp.Program(function)
    again = rasp.Program.load(program.save(tmp_path / "p.json"))
    x = np.random.default_rng(0).integers(-2, 9, 50)
    assert again(x).tolist() == program(x).tolist()
    assert again.check() == program.check()
    assert again.show() == program.show()


def test_shown_programs_are_python(tmp_path: Path) -> None:
    program = rasp.Program(sort_next, name="sort_next")
    names: dict[str, Any] = {name: getattr(rasp, name) for name in rasp.__all__}
    exec(program.show(), names)
    x = [4, 9, 2, 4, 7]
    assert names["sort_next"](np.array(x)).tolist() == program(x).tolist()
    assert "<svg" in program.draw(tmp_path / "p.svg").read_text()


@pytest.mark.parametrize("engine", ["dot", "rows"])
def test_drawings(engine: str, tmp_path: Path) -> None:
    """Every node but the constants, and every edge between them, by Graphviz and by ourselves."""
    if engine == "dot" and shutil.which("dot") is None:
        pytest.skip("Graphviz is not installed")
    program = rasp.Program(lambda x: rasp.mode(x) + rasp.tok_map(x, abs), name='a "quoted" <name>')
    text = program.draw(tmp_path / "p.svg", engine).read_text()
    root = ElementTree.fromstring(text)
    boxes = [node for node in program.nodes if node.kind != "constant"]
    edges = sum(source.kind != "constant" for node in boxes for source in node.inputs)
    tags = [element.tag.rsplit("}", 1)[-1] for element in root.iter()]
    if engine == "rows":
        assert (tags.count("rect"), tags.count("line")) == (len(boxes), edges)
    else:
        assert text.count('class="node"') == len(boxes)
        assert text.count('class="edge"') == edges
        assert text.count(">key<") == text.count(">query<") == sum(node.kind == "select" for node in boxes)
    assert 'a "quoted" <name>' in [element.text for element in root.iter()]


def test_drawings_name_what_an_edge_is(tmp_path: Path) -> None:
    """A constant key or query stands in the box, so that `x == -1` and `x == -2` are told apart."""
    text = rasp.Program(lambda x: rasp.kqv(x, -1, x, rasp.equals) + 3).draw(tmp_path / "p.svg", "rows").read_text()
    assert ">select equals -1<" in text
    assert ">. + 3<" in text


def test_drawings_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = rasp.Program(sort_next)
    with pytest.raises(ArgumentError, match="engine: expected one of auto, dot, rows, got 'neato'"):
        program.draw(tmp_path / "p.svg", "neato")
    with pytest.raises(OutputError, match="no such directory"):
        program.draw(tmp_path / "no such folder" / "p.svg", "rows")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "<svg" in program.draw(tmp_path / "p.svg").read_text()
    with pytest.raises(DependencyError, match="Graphviz is not installed"):
        program.draw(tmp_path / "p.svg", "dot")
    assert [path.name for path in tmp_path.iterdir()] == ["p.svg"]


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        rasp.Program.load(tmp_path / "absent.json")
    for text, message in (
        ("{", "not JSON"),
        ("{}", "not a saved program"),
        (json.dumps({"format": "legato.rasp.Program", "version": 9}), "version 9"),
        (json.dumps({"format": "legato.rasp.Program", "version": 1, "name": "p", "nodes": [{}]}), "damaged"),
    ):
        (tmp_path / "p.json").write_text(text)
        with pytest.raises(InputError, match=message):
            rasp.Program.load(tmp_path / "p.json")
    opaque = rasp.Program(lambda x: rasp.tok_map(x, lambda a: 1 if a else 0))
    with pytest.raises(ArgumentError, match="a Python function cannot be saved"):
        opaque.save(tmp_path / "p.json")
