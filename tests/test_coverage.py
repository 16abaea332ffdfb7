"""The table of which function runs where: it is what the code says, and no hole is silent."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import legato
from legato.errors import ArgumentError

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def coverage() -> ModuleType:
    specification = importlib.util.spec_from_file_location("coverage_page", DOCS / "coverage.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_page_is_what_the_code_says(coverage: ModuleType) -> None:
    page = coverage.page(coverage.table())
    assert page == (DOCS / "coverage.md").read_text(), "regenerate: python docs/coverage.py > docs/coverage.md"


def test_every_door_is_found(coverage: ModuleType) -> None:
    rows = coverage.table()
    assert rows["diffusion"]["apply_step"] == set(coverage.COLUMNS)
    assert {"native", "numpy", "numba", "torch", "C++"} <= rows["rft"]["gae"]
    assert {"native", "C", "C++"} <= rows["camera"]["PathStream"]
    assert "numba" in rows["rasp"]["select"]


def test_a_hole_without_a_reason_is_an_error(coverage: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(coverage.REASONS, ("torch", "rasp"))
    with pytest.raises(KeyError, match="rasp"):
        coverage.page(coverage.table())


@pytest.mark.parametrize("name", ["cupy", "numba", "torch"])
def test_a_backend_that_is_none_is_refused(name: str) -> None:
    """Doors of their own are no ``backend=``: nothing is copied behind the caller's back."""
    with pytest.raises(ArgumentError, match="backend: expected one of"):
        legato.rft.gae([[1.0]], [[0.0]], backend=name)
