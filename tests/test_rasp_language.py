"""The RASP language and the compiler community's operators: the peers' numbers, errors with a caret, a terminal."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from legato import rasp
from legato.cli import rasp as command
from legato.cli.parsing import Parser
from legato.errors import ArgumentError
from legato.rasp.language import IncompleteSource
from legato.rasp.sops import (
    Aggregate,
    Comparison,
    Map,
    Select,
    SelectorWidth,
    tokens,
)
from rasp_programs import PROGRAMS
from test_rasp_core import vectors

EQ, LT, LEQ, TRUE = Comparison.EQ, Comparison.LT, Comparison.LEQ, Comparison.TRUE


@pytest.fixture
def interpreter() -> rasp.Interpreter:
    return rasp.Interpreter()


def test_language_vectors(interpreter: rasp.Interpreter) -> None:
    """Outputs, layers and heads of the language authors' own interpreter."""
    for case in vectors("techsrl"):
        assert interpreter.evaluate(case["expr"], case["x"]) == case["out"], case
        found = interpreter.analyze(case["expr"], case["x"])
        wanted = case["analysis"]
        assert (found.n_layers, found.max_heads) == (wanted["n_layers"], wanted["max_heads"])
        assert {str(k): n for k, n in found.heads_per_layer.items()} == wanted["heads_per_layer"]


@pytest.mark.parametrize(
    ("expression", "text", "wanted", "layers", "heads"),
    [
        ("shift(indices,-1,99)", "bbaca", [1, 2, 3, 4, 99], 1, 1),
        ('mark_first_instance(tokens,"b")', "bbacc", [True, False, False, False, False], 1, 1),
        ("sort(indices,tokens)", "abbcb", [0, 1, 2, 4, 3], 2, 2),
        ("selector_width(not select(tokens,tokens,==))", "cbccc", [1, 4, 1, 1, 1], 1, 2),
        ("aggregate(select_next_identical(tokens),indices,-1)", "bcbba", [2, -1, 3, -1, -1], 2, 2),
        ('tokens if indices%2==0 else "x"', "abaab", ["a", "x", "a", "x", "b"], 0, 0),
        ("hist_nobos", "bbccb", [3, 3, 2, 2, 3], 1, 2),
        ("reverse", "babaa", ["a", "a", "b", "a", "b"], 2, 1),
        ("hist2_bos", "§bbabc", [0, 1, 1, 2, 1, 2], 2, 2),
        ("sort_by_most_freq", "§acbbc", ["§", "c", "b", "a", "§", "§"], 3, 2),
        ("dyck2_ptf", "(}})}", ["P", "F", "F", "F", "F"], 4, 2),
        ("dyck3_ptf", "([{}])", ["P", "P", "P", "P", "P", "T"], 4, 2),
    ],
)
def test_library_and_examples(
    interpreter: rasp.Interpreter, expression: str, text: str, wanted: list[Any], layers: int, heads: int
) -> None:
    assert interpreter.evaluate(expression, text) == wanted
    found = interpreter.analyze(expression)
    assert (found.n_layers, found.max_heads) == (layers, heads)


def test_dyck_against_a_stack(interpreter: rasp.Interpreter) -> None:
    from itertools import product

    for text in ("".join(x) for n in (1, 3, 5) for x in product("(){}", repeat=n)):
        stack: list[str] = []
        wanted = []
        failed = False
        for c in text:
            if c in "({":
                stack.append(c)
            elif not stack or stack.pop() + c not in ("()", "{}"):
                failed = True
            wanted.append("F" if failed else "P" if stack else "T")
        if len(text) < 5 or text[0] in "({":
            assert interpreter.evaluate("dyck2_ptf", text) == wanted, text


def test_long_inputs_stay_exact(interpreter: rasp.Interpreter) -> None:
    text = "(" * 300 + ")" * 300
    assert interpreter.evaluate("dyck1_ptf", text)[-1] == "T"
    assert interpreter.evaluate("length", "a" * 997) == [997] * 997


def test_statements(interpreter: rasp.Interpreter) -> None:
    shown = interpreter.run("""
        # everything the grammar has
        def both(a, b = 2) { return a + b, a * b; }
        x, y = both(indices);
        total = 0;
        for i, name in zip(range(3), ["p", "q", "r"]) { total = total + i; }
        squares = {n: n ^ 2 for n in [1, 2, 3]};
        total; squares[3]; len([c for c in "abc"]); 7 % 4; -2 * 3; both; x; 1 not in [2];
        set example "aab"
        select(tokens, tokens, ==) and not select(indices, indices, ==);
        show example;
        examples off
        y;
    """)
    assert shown[:5] == [
        "     console function: both(a, b)",
        '     s-op: x\n \t Example: x("hello") = [2, 3, 4, 5, 6] (ints)',
        '     s-op: y\n \t Example: y("hello") = [0, 2, 4, 6, 8] (ints)',
        "    value: total =  0",
        "     dict: squares = {1: 1, 2: 4, 3: 9}",
    ]
    assert [text.split("=  ")[-1] for text in shown[5:10]] == ["3", "9", "3", "3", "-6"]
    assert shown[10:13] == [shown[0], shown[1], "    value: out =  True"]
    assert shown[13] == (
        "     selector: out\n \t Example:\n \t\t\t     a a b\n \t\t\t a |   1  \n \t\t\t a | 1    \n \t\t\t b |      "
    )
    assert shown[14:] == ['\ts-op example: "aab"', '\tselector example: "aab"', "     s-op: y"]
    assert interpreter.evaluate('{"a": 1, "b": 2}[tokens]', "ab") == [1, 2]
    assert interpreter.value('x("ab")') == [2, 3]
    matrix = "\t = \n \t\t\t     a b\n \t\t\t a | 1 1\n \t\t\t b | 1 1"
    assert interpreter.run('x("ab"); full_s("ab");') == ["\t =  [2, 3] (ints)", matrix]


@pytest.mark.parametrize(
    ("source", "message", "line", "column"),
    [
        ("x = 1;\ny = x $ 2;", "unexpected character", 2, 7),
        ("x = ;", "unexpected ';'", 1, 5),
        ("a = 1;\nb = a + unknown;", "unknown name unknown", 2, 9),
        ("select(tokens, tokens, ==) + 1;", "expected sequences, got a selector", 1, 1),
        ("aggregate(tokens, tokens);", "aggregate: expected a selector first", 1, 1),
        ("def f(x) { return f(x); } f(1);", "recurses without end", 1, 19),
        ("def f(x) { return x; } f();", "the argument x is missing", 1, 24),
        ("x, y = 1;", "expected 2 values", 1, 8),
        ("return 1;", "return outside a function", 1, 1),
        ('load "no such file";', "no file", 1, 1),
        ("[1, 2][5];", "list index out of range", 1, 1),
    ],
)
def test_errors_show_the_place(
    interpreter: rasp.Interpreter, source: str, message: str, line: int, column: int
) -> None:
    with pytest.raises(rasp.LanguageError, match=message) as caught:
        interpreter.run(source)
    assert (caught.value.line, caught.value.column) == (line, column)
    if line:
        last = str(caught.value).splitlines()[-1]
        assert last.index("^") == column + 1


def test_incomplete_and_empty(interpreter: rasp.Interpreter) -> None:
    with pytest.raises(IncompleteSource):
        interpreter.run("def f(x) {")
    with pytest.raises(rasp.LanguageError, match="at least one token"):
        interpreter.evaluate("tokens", "")
    with pytest.raises(rasp.LanguageError, match="got a function"):
        interpreter.evaluate("sort", "ab")
    with pytest.raises(rasp.LanguageError, match="not all are numbers"):
        interpreter.evaluate("aggregate(full_s, tokens)", "ab")


def test_load_and_draw(interpreter: rasp.Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.rasp").write_text("third = load_from_location(tokens, 2);")
    assert interpreter.run('load "mine"; third;') == [
        "     s-op: third",
        '     s-op: third\n \t Example: third("hello") = [l]*5 (strings)',
    ]
    assert interpreter.run("draw(third);") == ["written: third.svg"]
    assert "<svg" in (tmp_path / "third.svg").read_text()


# --- the command ------------------------------------------------------------------------------------------------------


def call(*arguments: str) -> int:
    parser = Parser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(arguments))


def test_command_runs_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.rasp"
    path.write_text("sort(tokens, tokens);")
    assert call(str(path), "--input", "cab") == 0
    assert "[a, b, c] (strings)" in capsys.readouterr().out
    assert call("--evaluate", "indices", "--analyze", "reverse", "--input", "xy") == 0
    assert capsys.readouterr().out.splitlines()[0] == "[0, 1]"
    path.write_text("sort(;")
    assert call(str(path)) == 1
    assert "line 1, column 6: unexpected ';'" in capsys.readouterr().err
    with pytest.raises(ArgumentError, match="--input"):
        call("--input", "")


def session(folder: Path, lines: list[tuple[str, str]]) -> None:
    """Type lines at a real terminal and wait for what each must show."""
    import pty
    import select
    import time

    code = (
        "from legato.cli import parsing, rasp; p = parsing.Parser(); rasp.add_arguments(p); "
        "raise SystemExit(rasp.run(p.parse_args([])))"
    )
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.environ |= {"TERM": "dumb", "XDG_STATE_HOME": str(folder / "state")}
        os.execv(sys.executable, [sys.executable, "-c", code])
    seen = ""

    def until(text: str) -> None:
        nonlocal seen
        deadline = time.monotonic() + 60
        while text not in seen.replace("\r\n", "\n"):
            assert time.monotonic() < deadline, (text, seen)
            if select.select([terminal], [], [], 0.2)[0]:
                seen += os.read(terminal, 4096).decode(errors="replace")

    until(">> ")
    for typed, answer in lines:
        seen = ""
        os.write(terminal, f"{typed}\n".encode())
        until(answer)
    os.write(terminal, b"exit\n")
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_session_at_a_terminal(tmp_path: Path) -> None:
    """The language paper's examples, typed at a real terminal; files, errors, and the history in a second session."""
    (tmp_path / "mine.rasp").write_text("third = load_from_location(tokens, 2);")
    session(
        tmp_path,
        [
            ('set example "hello"', ">> "),
            ("show example", 's-op example: "hello"'),
            ("reverse;", "= [o, l, l, e, h]"),
            ("sort(tokens, tokens);", "= [e, h, l, l, o]"),
            ("hist_nobos;", "= [1, 1, 2, 2, 1]"),
            ("def f(x) {", ".. "),
            ("return x + 1; } f(indices);", "= [1, 2, 3, 4, 5]"),
            ('dyck1_ptf("()(");', "[P, T, P]"),
            ('dyck2_ptf("({)");', "[P, P, F]"),
            ('sort_by_most_freq("§abb");', "[§, b, a, §]"),
            ("examples off", ">> "),
            ("reverse;", "s-op: reverse\n>> "),
            ("examples on", ">> "),
            ('load "mine"; third;', "= [l]*5"),
            ('load "absent";', "no file"),
            ("draw(third);", "third.svg"),
            ("tokens +;", "unexpected ';'\n  tokens +;\n          ^"),
        ],
    )
    assert (tmp_path / "third.svg").read_text().count("<svg") == 1
    assert "sort(tokens, tokens);" in (tmp_path / "state" / "legato" / "rasp_history").read_text()
    session(tmp_path, [("length;", "[5]*5"), ("\x10\x10\x10\x10", "unknown name third")])  # four lines back


# --- Select, Aggregate, SelectorWidth, Map, SequenceMap ---------------------------------------------------------------


def test_compiler_community_vectors() -> None:
    """tracr's evaluators, bidirectional and causal; its `length` is n in both, the program make_length is not."""
    for case in vectors("tracr"):
        got = PROGRAMS[case["program"]](case["x"], causal=case["mode"] == "causal")
        assert got == pytest.approx(case["out"], rel=1e-15, abs=0) if _numbers(case["out"]) else got == case["out"], (
            case
        )


def _numbers(values: list[Any]) -> bool:
    return all(isinstance(x, int | float) and not isinstance(x, bool) for x in values)


def test_operators_errors() -> None:
    with pytest.raises(ArgumentError, match="the key at position 1 is None"):
        SelectorWidth(Select(tokens, tokens, EQ))(["a", None])
    with pytest.raises(ArgumentError, match="the key 1 at position 1 cannot be ordered with the query 'a'"):
        SelectorWidth(Select(tokens, tokens, LT))(["a", 1])
    with pytest.raises(ArgumentError, match="the key at position 1 is NaN"):
        SelectorWidth(Select(tokens, tokens, LT))([1.0, float("nan")])
    with pytest.raises(ArgumentError, match="at position 1"):
        Map(lambda x: 1 / x, tokens)([1, 0])
    assert Aggregate(Select(tokens, tokens, TRUE), tokens)([0.5, 1.5]) == [1.0, 1.0]
    assert Select(tokens, tokens, lambda k, q: k == q)([1, 2]) == [[True, False], [False, True]]
