"""What weights show and where they go: attention, activations, files, time limits, and other people's transformers."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from legato import rasp
from legato.errors import ArgumentError, InputError
from legato.rasp import sops
from rasp_programs import ABC, COMPILED, HIST

SHOWN = ["hist", "reverse", "shuffle_dyck", "sort", "detect ab", "nary"]


def dense(w: rasp.Weights, tokens: list[Any]) -> np.ndarray:
    """The formula of the transformer, on whole matrices."""
    ids = w.ids(tokens)
    x = w.token_embedding[ids] + w.position_embedding[: len(ids)]
    seen = np.tri(len(ids), dtype=bool) if w.causal else np.ones((len(ids), len(ids)), dtype=bool)
    for heads, (inner, bias, outer) in zip(w.heads, w.units, strict=True):
        added = np.zeros_like(x)
        for head in heads:
            scores = np.where(seen, (x @ head.query) @ (x @ head.key).T, -np.inf)
            scores = np.exp(scores - scores.max(axis=1, keepdims=True))
            added += (scores / scores.sum(axis=1, keepdims=True)) @ (x @ head.value) @ head.out
        x = x + added
        x = x + np.maximum(x @ inner + bias, 0) @ outer
    return x


@pytest.mark.parametrize("name", SHOWN)
def test_sparse_run_is_the_dense_one(name: str) -> None:
    program, vocab, max_len = COMPILED[name]
    w = rasp.compile(program, vocab, max_len, verify=False)
    rng = np.random.default_rng(1)
    for n in range(1, max_len + 1):
        tokens = [vocab[at] for at in rng.integers(len(vocab), size=n)]
        assert np.allclose(w.residual(tokens), dense(w, tokens), atol=1e-9)


@pytest.mark.parametrize("name", SHOWN)
def test_files_come_back(name: str, tmp_path: Path) -> None:
    program, vocab, max_len = COMPILED[name]
    w = rasp.compile(program, vocab, max_len, verify=False)
    again = rasp.Weights.load(w.save(tmp_path / "w.safetensors"))
    assert again.residual_layout == w.residual_layout
    assert (again.vocab, again.max_len, again.causal, again.output) == (w.vocab, w.max_len, w.causal, w.output)
    assert {k: v.tolist() for k, v in again.to_numpy().items()} == {k: v.tolist() for k, v in w.to_numpy().items()}
    tokens = [vocab[0], vocab[1], vocab[0]]
    assert again.forward(tokens) == w.forward(tokens)
    assert again.attention(tokens).keys() == w.attention(tokens).keys()
    assert again.verify(exhaustive=20, samples=5, program=program).compared > 5
    with pytest.raises(ArgumentError, match="program"):
        again.verify()


def test_damaged_files(tmp_path: Path) -> None:
    from safetensors.numpy import load, save_file

    path = rasp.compile(HIST, ABC, 3).save(tmp_path / "w.safetensors")
    arrays = load(path.read_bytes())
    save_file(arrays, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:200])
    for name in ("other", "text", "cut", "absent"):
        with pytest.raises(InputError):
            rasp.Weights.load(tmp_path / f"{name}.safetensors")


def test_attention_and_activations() -> None:
    w = rasp.compile(HIST.named("hist"), ABC, 4)
    (name, pattern), *rest = w.attention("abaa").items()
    assert name == "layers.0.hist"
    assert not rest
    assert pattern.shape == (5, 5)
    assert pattern.sum(axis=1) == pytest.approx(np.ones(5))
    assert pattern[1] == pytest.approx([1 / 4, 1 / 4, 0, 1 / 4, 1 / 4])  # BOS, then the three of its kind
    shown = w.activations("abaa")
    assert shown["hist"] == [3, 1, 3, 3]
    assert shown["tokens"] == list("abaa")
    assert shown["indices"] == [0, 1, 2, 3]
    assert shown["hist.share"] == pytest.approx([1 / 4, 1 / 2, 1 / 4, 1 / 4])
    causal = rasp.compile(rasp.Program(lambda x: rasp.num_prev(x, x)), [1, 2], 4)
    assert np.allclose(np.triu(causal.attention([1, 2, 1])["layers.0.width_2"], 1), 0)


def test_progress_and_time() -> None:
    told: list[tuple[str, float]] = []
    program, vocab, max_len = COMPILED["sort"]
    w = rasp.compile(program, vocab, max_len, progress=lambda what, share: told.append((what, share)))
    assert w.verification is not None
    assert w.verification.complete
    assert told[0][0] == "compile"
    assert told[-1] == ("verify", 1.0)
    shares = [share for what, share in told if what == "verify"]
    assert shares == sorted(shares)
    assert not w.verify(seconds=0).complete
    with pytest.raises(rasp.CompileError, match="the time is over"):
        rasp.compile(program, vocab, max_len, seconds=0)
    with pytest.raises(ArgumentError, match="progress"):
        w.verify(progress="yes")  # type: ignore[arg-type]


def test_progress_line(capsys: pytest.CaptureFixture[str]) -> None:
    rasp.compile(HIST, ABC, 2, progress=True)
    assert capsys.readouterr().err.endswith("verify: 100%\n")


# --- the compiler community's own files -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tracr_cases() -> list[dict[str, Any]]:
    """Its library and test cases as they are, from a clone of google-deepmind/tracr; only what they import is ours."""
    clone = os.environ.get("LEGATO_TRACR", "")
    if not clone:
        pytest.skip("LEGATO_TRACR names no clone of google-deepmind/tracr")
    folder = Path(clone) / "tracr" / "compiler"
    names = ["tracr", "tracr.rasp", "tracr.compiler", "tracr.compiler.lib", "tracr.compiler.test_cases"]
    modules = {name: types.ModuleType(name) for name in names}
    modules["tracr.rasp"].rasp = sops  # type: ignore[attr-defined]
    modules["tracr.compiler"].lib = modules["tracr.compiler.lib"]  # type: ignore[attr-defined]
    before = dict(sys.modules)
    sys.modules.update(modules)
    try:
        for name in names[3:]:
            path = folder / f"{name.rsplit('.', 1)[-1]}.py"
            exec(compile(path.read_text(), str(path), "exec"), modules[name].__dict__)
    finally:
        for name in names:
            sys.modules.pop(name)
            if name in before:
                sys.modules[name] = before[name]
    return modules["tracr.compiler.test_cases"].__dict__  # type: ignore[return-value]


def test_its_test_cases(tracr_cases: Any) -> None:
    cases = tracr_cases["TEST_CASES"]
    assert len(cases) == 43
    for case in cases:
        assert sops.evaluate(case["program"], case["test_input"]) == case["expected_output"], case["testcase_name"]
        if case["max_seq_len"] < len(case["test_input"]):
            continue
        w = rasp.compile(case["program"], sorted(case["vocab"]), case["max_seq_len"], verify=False)
        assert w.verify(exhaustive=8, samples=4).ok, case["testcase_name"]
        got = w.forward(case["test_input"])
        assert got == pytest.approx(case["expected_output"]), case["testcase_name"]


def test_its_causal_test_cases(tracr_cases: Any) -> None:
    for case in tracr_cases["CAUSAL_TEST_CASES"]:
        found = case["program"](case["test_input"], causal=True)
        assert found == case["expected_output"], case["testcase_name"]
        w = rasp.compile(case["program"], sorted(case["vocab"]), case["max_seq_len"], causal=True, verify=False)
        assert w.forward(case["test_input"]) == pytest.approx(case["expected_output"]), case["testcase_name"]


def test_what_its_compiler_refuses(tracr_cases: Any) -> None:
    """Programs beyond its subset: ours compiles and verifies them."""
    for case in tracr_cases["UNSUPPORTED_TEST_CASES"]:
        assert rasp.compile(case["program"], sorted(case["vocab"]), 4).verification.ok, case["testcase_name"]


# --- other people's transformers --------------------------------------------------------------------------------------

EXPORTED = [("hist", True), ("hist", False), ("detect ab", True), ("sort", False)]


def _inputs(name: str, causal: bool) -> tuple[rasp.Weights, list[list[Any]], list[list[Any]]]:
    program, vocab, max_len = COMPILED[name]
    w = rasp.compile(program, vocab, max_len, causal=causal, verify=False)
    rng = np.random.default_rng(3)
    inputs = [[vocab[at] for at in rng.integers(len(vocab), size=max_len)] for _ in range(6)]
    return w, inputs, [w.forward(tokens) for tokens in inputs]


@pytest.mark.parametrize(("name", "causal"), EXPORTED)
def test_gpt2(name: str, causal: bool, tmp_path: Path) -> None:
    """Hugging Face's class reads the files and gives the program's outputs; every GPT-2 is causal."""
    w, inputs, wanted = _inputs(name, causal)
    if not causal:
        with pytest.raises(ArgumentError, match="causal"):
            rasp.save_gpt2(w, tmp_path)
        return
    folder = rasp.save_gpt2(w, tmp_path / "model")
    torch = pytest.importorskip("torch", reason="torch runs the model")
    transformers = pytest.importorskip("transformers", reason="transformers has the class that loads the files")
    model = transformers.GPT2LMHeadModel.from_pretrained(folder, torch_dtype=torch.float64).eval()
    with torch.no_grad():
        logits = model(torch.tensor([w.ids(tokens) for tokens in inputs])).logits[:, 1:]
    values = rasp.logits_of(w).values
    assert [[values[at] for at in row] for row in logits.argmax(-1).tolist()] == wanted
    assert float(logits.max()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("name", "causal"), EXPORTED)
def test_hooked_transformer(name: str, causal: bool) -> None:
    """TransformerLens's class gives the program's outputs and our attention patterns."""
    pytest.importorskip("transformer_lens", reason="TransformerLens has the class that is filled")
    try:
        from transformer_lens import HookedTransformer  # noqa: F401
    except ImportError:
        pytest.skip("TransformerLens 4 has no HookedTransformer any more")
    import torch

    w, inputs, wanted = _inputs(name, causal)
    model = rasp.to_hooked(w)
    with torch.no_grad():
        logits, cache = model.run_with_cache(torch.tensor([w.ids(tokens) for tokens in inputs]))
    values = rasp.logits_of(w).values
    assert [[values[at] for at in row[1:]] for row in logits.argmax(-1).tolist()] == wanted
    patterns = iter(w.attention(inputs[0]).values())
    for layer, heads in enumerate(w.heads):
        for head in range(len(heads)):
            assert np.allclose(cache["pattern", layer][0, head].numpy(), next(patterns), atol=1e-6)


def test_logits_tell_tokens_from_other_outputs() -> None:
    w = rasp.compile(rasp.Program(lambda x: rasp.where(x > 1, x, x + 10)), [1, 2, 3], 2)
    logits = rasp.logits_of(w)
    assert logits.values[:5] == [1, 2, 3, None, 11]
    assert logits.unembedding.sum() == len(w.residual_layout[w.output][1])


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_heat_maps(tmp_path: Path) -> None:
    from xml.etree import ElementTree

    A = rasp.select([1, 2, 3], [3, 2, 1], rasp.leq)
    root = ElementTree.fromstring(A.heat_map().save(tmp_path / "a.svg").read_text())
    cells = [x.attrib["fill"] for x in root.iter("{http://www.w3.org/2000/svg}rect") if x.attrib["fill"] != "white"]
    dark = [color != "rgb(255,255,255)" for color in cells]
    assert dark == np.asarray(A).reshape(-1).tolist()
    assert [x.text for x in root.iter("{http://www.w3.org/2000/svg}text")] == ["1", "2", "3", "3", "2", "1"]
    assert A._repr_svg_() == A.heat_map().svg
    assert rasp.select([[1], [2]], [[1], [2]], rasp.leq)._repr_svg_() is None
    same = sops.Select(sops.tokens, sops.tokens, sops.Comparison.EQ).named("<same>")
    ElementTree.fromstring(same.heat_map("a<&").svg)
    ElementTree.fromstring(same._repr_svg_())
    ElementTree.fromstring(HIST._repr_svg_())
    ElementTree.fromstring(rasp.Program(lambda x: rasp.cumsum(x > 2))._repr_svg_())
    with pytest.raises(ArgumentError, match="shape"):
        rasp.heat_map([[1.0]], "ab", "ab")
    with pytest.raises(ArgumentError, match="finite"):
        rasp.heat_map([[float("nan")]], "a", "a")
    with pytest.raises(ArgumentError, match="at most 128"):
        rasp.heat_map(np.zeros((129, 129)), range(129), range(129))


def test_steps() -> None:
    from xml.etree import ElementTree

    steps = rasp.Program(lambda x: rasp.num_prev(x, x) > 1).steps([7, 1, 7])
    assert [row for _, row in steps.rows] == [
        [[True, False, False], [False, True, False], [True, False, True]],
        [1, 1, 2],
        [False, False, True],
    ]
    assert str(steps).splitlines()[-1].split() == ["(sel_width(select(x,", "x,", "equals))", ">", "1)", "F", "F", "T"]
    ElementTree.fromstring(steps._repr_html_())
    assert str(HIST.named("hist").steps("aba")) == "      a b a\nhist  2 1 2"


def test_notebook_says_what_it_shows(tmp_path: Path) -> None:
    """The cells of "from counting to addition", run in order, give the outputs that are stored in it."""
    path = Path(__file__).parents[1] / "examples" / "rasp_from_counting_to_addition.ipynb"
    scope: dict[str, Any] = {}
    shown = 0
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] != "code":
            continue
        body = ast.parse("".join(cell["source"])).body
        value, printed = None, io.StringIO()
        with contextlib.redirect_stdout(printed):
            for statement in body:
                if isinstance(statement, ast.Expr):
                    value = eval(compile(ast.Expression(statement.value), str(path), "eval"), scope)
                else:
                    exec(compile(ast.Module([statement], []), str(path), "exec"), scope)
        for output in cell["outputs"]:
            if output["output_type"] == "stream":
                assert printed.getvalue() == "".join(output["text"])
                continue
            pictures = {"image/svg+xml": "_repr_svg_", "text/html": "_repr_html_"}
            for mime, text in output["data"].items():
                if isinstance(value, rasp.Program) and mime == "image/svg+xml":  # by Graphviz, whose versions differ
                    from xml.etree import ElementTree

                    drawn = value.draw(tmp_path / "p.svg", "rows").read_text()
                    titles = [element.text for element in ElementTree.fromstring(drawn).iter() if element.text]
                    stored = [element.text for element in ElementTree.fromstring("".join(text)).iter()]
                    assert {title for title in titles if title.strip()} <= set(stored)
                elif mime in pictures:
                    assert getattr(value, pictures[mime])() == "".join(text)
                elif len(output["data"]) == 1:
                    assert repr(value) == "".join(text)
                shown += 1
    assert shown > 10
