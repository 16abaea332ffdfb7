"""A few of the calls that `.ci/run sanitized` makes: hostile arguments, and arrays against unreadable pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fence
import fuzz_api
import legato
from legato import rasp, rft
from legato.errors import ArgumentError

# What takes or gives files, or trains for minutes.
NOT_OF_ARGUMENTS_ALONE = {
    "VideoReader", "VideoWriter", "analyze", "available_codecs", "evaluate", "render", "result_paths", "stabilize",
    "stabilize_all", "stabilize_live", "synthesize", "check_bounds", "reproduce_digits",
    "reproduce_sequence", "reproduce_teacher", "Watch",
    "logits_of", "save_gpt2", "to_hooked",
}  # fmt: skip
# What calls answer or raise, and predicates whose kind is tried by another.
ANSWERS = {
    "camera": {"HomographyError", "InfeasibleError", "PathMetrics", "ProgramSolution", "SparseProgram", "Sway"},
    "video": {"Analysis", "GroundTruth", "LiveReport", "Motion", "StabilizeReport", "VideoFrame", "VideoMetrics"},
    "diffusion": {"Guided"},
    "rasp": {"Analysis", "CompileError", "Logits", "Picture", "Report", "Selector", "Steps", "Verification",
             "Weights", "false", "geq", "gt", "neq", "true"},
    "rft": {"Comparison", "GradientBounds", "GroupStats", "KLEstimates", "KLLoss", "LeaveOneOut", "PPOLoss", "Plan",
            "PolicyLoss", "Report", "Selection", "SequenceValueGrad", "TokenStats", "ValueLoss"},
}  # fmt: skip


@pytest.mark.parametrize("family", fuzz_api.FAMILIES)
def test_hostile_arguments_are_answered_or_refused(family: str) -> None:
    wrong = [
        f"{outcome}\npython tests/fuzz_api.py {' '.join(fuzz_api.reproduction(family, 1, number))}"
        for number, outcome in fuzz_api.fuzz(family, 300, 1)
        if outcome.startswith("wrong")
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("family", fence.FAMILIES)
def test_kernels_stay_within_their_arrays(family: str) -> None:
    isas = legato.build_info()["isas"]
    outcomes = [outcome for _, _, outcome in fence.compare(family, 60, 1, isas)]
    assert not [outcome for outcome in outcomes if outcome.startswith("wrong")]
    assert sum("answered" in outcome for outcome in outcomes) > len(outcomes) // 2


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: rft.compare(rft.scan({"prompt": ["a", "a"], "reward": [0.0, 1.0]}), {}), "after: expected a Report"),
        (lambda: rft.sequence_value_grad(1.0, [0.0]), "logits_tree: expected arrays or a callable, got float"),
        (lambda: rasp.Program(lambda tokens: tokens, np.empty(0)), "name: expected a text, got ndarray"),
        (lambda: rasp.Predicate(3, 1, max), "name: expected a text, got int"),
        (lambda: rasp.Predicate("lt", 8, max), "outcomes: expected a whole number from 0 to 7"),
        (lambda: rasp.Predicate("lt", 1, None), "compare: expected a callable, got NoneType"),
        (lambda: rasp.compile(1e308, [0], 3), "program: expected a Program or a traced sequence, got float"),
        (lambda: rasp.Interpreter().evaluate(3, "a"), "expression: expected a text, got int"),
        (lambda: rasp.Interpreter().evaluate("tokens", 3), "tokens: expected a sequence, got int"),
        (lambda: rasp.Interpreter().run(b"z = indices;"), "source: expected a text, got bytes"),
    ],
)
def test_strangers_in_place_of_records_are_refused(call: Callable[[], object], name: str) -> None:
    with pytest.raises(ArgumentError, match=f"^{name}"):
        call()


@pytest.mark.parametrize("family", fuzz_api.FAMILIES)
def test_every_public_call_is_fuzzed(family: str) -> None:
    module = getattr(legato, family)
    public = {name for name in module.__all__ if callable(getattr(module, name))}
    tried = set(re.findall(rf"\b{family}\.(\w+)", Path(fuzz_api.__file__).read_text()))
    assert public - tried == (NOT_OF_ARGUMENTS_ALONE & public) | ANSWERS[family]
