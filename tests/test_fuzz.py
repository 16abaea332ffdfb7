"""A few of the calls that `.ci/run sanitized` makes: hostile arguments, and arrays against unreadable pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import fence
import fuzz_api
import legato

# What takes or gives files, or trains for minutes.
NOT_OF_ARGUMENTS_ALONE = {
    "VideoReader", "VideoWriter", "analyze", "available_codecs", "evaluate", "render", "result_paths", "stabilize",
    "stabilize_all", "stabilize_live", "synthesize", "check_bounds", "reproduce_digits",
}  # fmt: skip
# What calls answer or raise, and predicates whose kind is tried by another.
ANSWERS = {
    "camera": {"HomographyError", "InfeasibleError", "PathMetrics", "ProgramSolution", "SparseProgram"},
    "video": {"Analysis", "GroundTruth", "LiveReport", "Motion", "StabilizeReport", "VideoFrame", "VideoMetrics"},
    "diffusion": {"Guided"},
    "rasp": {"Analysis", "CompileError", "LanguageError", "Report", "Selector", "Verification", "Weights", "false",
             "geq", "gt", "neq", "true"},
    "rft": {"Columns", "Comparison", "GradientBounds", "GroupStats", "KLEstimates", "LeaveOneOut", "PPOLoss", "Plan",
            "Report", "SequenceValueGrad", "TokenStats"},
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


@pytest.mark.parametrize("family", fuzz_api.FAMILIES)
def test_every_public_call_is_fuzzed(family: str) -> None:
    module = getattr(legato, family)
    public = {name for name in module.__all__ if callable(getattr(module, name))}
    tried = set(re.findall(rf"\b{family}\.(\w+)", Path(fuzz_api.__file__).read_text()))
    assert public - tried == (NOT_OF_ARGUMENTS_ALONE & public) | ANSWERS[family]
