"""The options of stabilizing are declared once: signatures, records and the command say the same."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import subprocess
import sys

import pytest

from legato.cli import _parser
from legato.video.options import RECORDS, Estimate
from legato.video.stabilizing import analyze, stabilize

OPTIONS = {option.name: option for record in RECORDS for option in dataclasses.fields(record)}
OF_PYTHON_ALONE = {"options", "threads"}


def keywords(function: object) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    return {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "progress"}


def declared(command: str) -> dict[str, argparse.Action]:
    parser = _parser(command)
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return {action.dest: action for action in commands.choices[command]._actions}


def test_the_records_are_the_signature() -> None:
    given = keywords(stabilize)
    assert given.keys() == OPTIONS.keys()
    for name, parameter in given.items():
        assert (parameter.default, parameter.annotation) == (OPTIONS[name].default, OPTIONS[name].type), name


def test_the_estimate_is_the_signature_of_analyze() -> None:
    given = keywords(analyze)
    assert given.keys() == set(Estimate.names()) - {"motion"}
    for name in given.keys() - {"rotation"}:  # where no motion is given, it is not that of one
        assert given[name].annotation == OPTIONS[name].type


def test_no_option_is_in_two_records() -> None:
    assert len(OPTIONS) == sum(len(dataclasses.fields(record)) for record in RECORDS)  # type: ignore[arg-type]


def test_the_command_declares_what_the_records_say() -> None:
    actions = declared("stabilize")
    assert {name for name, option in OPTIONS.items() if not option.metadata} == OF_PYTHON_ALONE
    assert actions.keys() & OPTIONS.keys() == OPTIONS.keys() - OF_PYTHON_ALONE
    for name in actions.keys() & OPTIONS.keys():
        action, metadata = actions[name], OPTIONS[name].metadata
        assert action.default == OPTIONS[name].default, name
        assert action.help == metadata["help"]
        assert action.choices == metadata.get("choices")
        assert action.metavar == metadata.get("metavar")


@pytest.mark.parametrize("record", RECORDS)
def test_records_are_frozen(record: type) -> None:
    made = record()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made, dataclasses.fields(record)[0].name, None)  # type: ignore[arg-type]


def test_declarations_load_no_more_than_the_decoder_does() -> None:
    code = """
import sys
import legato.video.media.decoding
before = set(sys.modules)
import legato.video.options
print(*sorted(name for name in set(sys.modules) - before if name.partition(".")[0] in ("legato", "numpy")))
"""
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == ["legato.video.choices", "legato.video.options"]
