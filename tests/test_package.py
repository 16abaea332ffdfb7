"""The package from outside: what an import costs and loads, the stub, the names."""

from __future__ import annotations

import importlib
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import legato

ROOT = Path(__file__).parents[1]
FAMILIES = ["legato.camera", "legato.diffusion", "legato.rasp", "legato.rft", "legato.video"]
HEAVY = {"cv2", "av", "numba", "scipy", "matplotlib", "rich", "cupy", "osqp", "torch", "pyarrow", "sklearn", "lark"}


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in result.stdout.splitlines()[-1].split()}


@pytest.mark.parametrize("module", ["legato", *FAMILIES, "legato.cli"])
def test_import_loads_nothing_heavy(module: str) -> None:
    loaded = loaded_by(f"import {module}")
    assert "legato" in loaded
    assert not loaded & HEAVY


def test_import_is_quick() -> None:
    """Under 0.15 s beyond NumPy, as the median of several fresh interpreters."""
    if _is_editable():
        pytest.skip("an editable install runs the build on import, which is what would be timed")
    code = """
import time, numpy
start = time.perf_counter()
import legato, legato.camera
print(time.perf_counter() - start)
"""
    command = [sys.executable, "-c", code]
    seconds = [
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]) for _ in range(5)
    ]
    assert statistics.median(seconds) < 0.15


def _is_editable() -> bool:
    from importlib.metadata import distribution

    text = distribution("legato").read_text("direct_url.json")
    return text is not None and json.loads(text).get("dir_info", {}).get("editable", False)


@pytest.mark.parametrize("module", ["legato", *FAMILIES, "legato.errors"])
def test_every_public_name_exists_and_is_documented(module: str) -> None:
    namespace = importlib.import_module(module)
    assert namespace.__doc__
    assert namespace.__all__
    for name in namespace.__all__:
        item = getattr(namespace, name)
        if callable(item):
            assert item.__doc__, f"{module}.{name} has no doc-string"
    assert set(namespace.__all__) <= set(dir(namespace))


def test_unknown_names_are_attribute_errors() -> None:
    for namespace in (legato, legato.video):
        with pytest.raises(AttributeError, match="no_such_name"):
            namespace.no_such_name  # noqa: B018


def test_build_info() -> None:
    info = legato.build_info()
    assert info["version"] == legato.__version__
    assert info["isa"] in info["isas"]
    assert info["isas"][0] == "baseline"
    assert legato.backends() == ("native", "numpy")


def test_headers_for_runtime_compilers_are_installed() -> None:
    from importlib.resources import files

    header = files("legato") / "include" / "legato" / "math" / "homography.h"
    assert "logarithm" in header.read_text()


def test_stub_is_what_the_module_says(tmp_path: Path) -> None:
    pytest.importorskip("pybind11_stubgen", reason="pybind11-stubgen is in the dev extra")
    stub = ROOT / "python" / "legato" / "_core.pyi"
    subprocess.run(
        [sys.executable, "-m", "pybind11_stubgen", "legato._core", "-o", str(tmp_path)],
        check=True,
        capture_output=True,
        env={**os.environ, "LEGATO_ISA": ""},
    )
    assert (tmp_path / "legato" / "_core.pyi").read_text() == stub.read_text(), (
        "regenerate: python -m pybind11_stubgen legato._core -o python"
    )
