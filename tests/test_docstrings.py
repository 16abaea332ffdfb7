"""Public doc-strings are what numpydoc's validator asks, but for what pyproject.toml leaves out; their examples run."""

from __future__ import annotations

import doctest
import importlib
import inspect
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import legato

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
CHECKS = set(tomllib.loads(PYPROJECT.read_text())["tool"]["numpydoc_validation"]["checks"])
MODULES = ["bench", "camera", "diffusion", "errors", "rasp", "rft", "video"]
# A function says what goes in and what comes out. In RASP's library both are sequences, and the summary says which.
OF_FUNCTIONS = {"PR01", "RT01"}
SHOWN = {"EX01"}  # of classes and functions; a class shows its methods
SAID_IN_THE_SUMMARY = {"camera.crop_map", "camera.path_program", "diffusion.langevin"}


def public(module: str) -> Iterator[str]:
    """Names of the functions, the classes and their methods that a module exports."""
    package = importlib.import_module(f"legato.{module}")
    for name in package.__all__:
        member = getattr(package, name)
        if inspect.isfunction(member) or inspect.isclass(member):
            yield f"{module}.{name}"
        if inspect.isclass(member):
            own = [key for key, value in vars(member).items() if callable(value) and not key.startswith("_")]
            yield from (f"{module}.{name}.{key}" for key in own)


@pytest.mark.parametrize("module", MODULES)
def test_doc_strings_are_valid(module: str) -> None:
    numpydoc = pytest.importorskip("numpydoc.validate", reason="needs numpydoc, of the docs extra")
    faults = []
    for name in public(module):
        found = numpydoc.validate(f"legato.{name}")
        a_function = name.count(".") == 1 and found["type"] == "function"
        asked = OF_FUNCTIONS if a_function and module != "rasp" and name not in SAID_IN_THE_SUMMARY else set()
        asked = asked | SHOWN if name.count(".") == 1 else asked
        faults += [f"{name}: {code} {text}" for code, text in found["errors"] if code not in CHECKS - asked]
    assert not faults, "\n".join(faults)


PACKAGE = Path(legato.__file__).parent
WITH_EXAMPLES = [
    path.relative_to(PACKAGE).with_suffix("") for path in sorted(PACKAGE.rglob("*.py")) if ">>>" in path.read_text()
]


IN_NEED = {Path("rft/sequences"): "torch"}  # of a package that the module imports only when it is called


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=str)
def test_examples_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if path in IN_NEED:
        pytest.importorskip(IN_NEED[path], reason=f"needs {IN_NEED[path]}")
    try:
        module = importlib.import_module(".".join(["legato", *path.parts]).removesuffix(".__init__"))
    except ImportError as error:
        pytest.skip(f"needs {error.name}")
    monkeypatch.chdir(tmp_path)  # where examples write files
    assert doctest.testmod(module).failed == 0
