"""C++ users of the installed package: what `examples/embedding` shows is built against it and run."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path

import numpy as np
import pytest

import legato
from legato import camera, rft

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "embedding"
COMPILER = shutil.which(os.environ.get("CXX", "c++"))


def run(*command: str, where: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=where, env={**os.environ, **environment}, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def cmake() -> str:
    found = shutil.which("cmake") or shutil.which("cmake", path=str(Path(sys.executable).parent))
    if found is None or shutil.which("c++") is None:
        pytest.skip("needs CMake and a C++ compiler")
    return found


def test_headers_library_and_package_are_in_the_wheel() -> None:
    prefix = resources.files("legato")
    assert Path(legato.get_include()) == Path(str(prefix / "include"))
    for name in ("include/legato.h", "include/legato/rft.hpp", "include/legato/math/homography.h", "lib/liblegato.a"):
        assert (prefix / name).is_file(), name
    assert "legato::legato" in (prefix / "lib" / "cmake" / "legato" / "legatoTargets.cmake").read_text()
    assert [entry.value for entry in metadata.entry_points(group="cmake.prefix", name="legato")] == ["legato"]


@pytest.mark.slow
def test_a_program_finds_the_package_and_gives_the_same_numbers(cmake: str, tmp_path: Path) -> None:
    prefix = Path(legato.get_include()).parent
    run(cmake, "-S", str(EXAMPLE), "-B", "build", f"-DCMAKE_PREFIX_PATH={prefix}", where=tmp_path)
    run(cmake, "--build", "build", where=tmp_path)
    printed = run("build/advantages", where=tmp_path)
    advantages, _ = rft.gae([[0.0, 0, 1], [0, 2, 0]], np.full((2, 3), 0.5), gamma=0.99)
    np.testing.assert_array_equal(np.array(printed.split(), float), advantages.ravel())
    motion = np.tile(np.eye(3), (60, 1, 1))
    motion[:, 0, 2] = np.where(np.arange(60) % 2 == 0, 0.01, -0.01)
    corrections = camera.smooth_path(motion, (16, 9), units="width").corrections
    np.testing.assert_array_equal(np.array(run("build/path", where=tmp_path).split(), float), corrections[:, 0, 2])


@pytest.mark.slow
def test_a_python_module_is_built_without_being_told_where(cmake: str, tmp_path: Path) -> None:
    for name in ("scikit_build_core", "pybind11"):
        pytest.importorskip(name, reason="what builds the module is not installed")
    source = tmp_path / "source"
    shutil.copytree(EXAMPLE, source)
    build = "import sys; from scikit_build_core.build import build_wheel; print(build_wheel(sys.argv[1]))"
    run(sys.executable, "-c", build, str(tmp_path), where=source, CMAKE_EXECUTABLE=cmake)
    shutil.unpack_archive(next(tmp_path.glob("steady-*.whl")), tmp_path / "site", "zip")
    library = next((tmp_path / "site").glob("steady*.so"))
    specification = importlib.util.spec_from_file_location("steady", library)
    assert specification is not None
    assert specification.loader is not None
    steady = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(steady)
    shifts = np.tile(np.eye(3), (2, 1, 1))
    shifts[:, 0, 2] = 1.0, 3.0
    np.testing.assert_array_equal(steady.mean(shifts), camera.exp_homography(camera.log_homography(shifts).mean(0)))
    with pytest.raises(ValueError, match="homographies"):
        steady.mean(np.eye(2))


@pytest.mark.slow
def test_a_checkout_is_fetched_into_another_build(cmake: str, tmp_path: Path) -> None:
    """As a part of another project Legato brings its library alone: no tests, no module."""
    root = Path(__file__).parents[1]
    run(cmake, "-S", str(EXAMPLE), "-B", "build", f"-DFETCHCONTENT_SOURCE_DIR_LEGATO={root}", where=tmp_path)
    targets = run(cmake, "--build", "build", "--target", "help", where=tmp_path)
    assert "advantages" in targets
    assert "legato" in targets
    assert "_core" not in targets


def blocks_of(language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / "embedding.md").read_text(), re.DOTALL)
    assert found
    return found


@pytest.mark.parametrize("name", ["advantages.cpp", "path.c"])
def test_the_page_shows_the_example_that_is_built(name: str) -> None:
    assert (EXAMPLE / name).read_text() in blocks_of(Path(name).suffix[1:])


@pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")
def test_the_cpp_of_the_page_compiles(tmp_path: Path) -> None:
    blocks = blocks_of("cpp")
    for number, block in enumerate(blocks):
        source = tmp_path / f"block_{number}.cpp"
        source.write_text(block)
        flags = ["-std=c++20", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{ROOT / 'cpp' / 'include'}"]
        done = subprocess.run([str(COMPILER), *flags, str(source)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
