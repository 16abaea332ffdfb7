"""The package from outside: what an import costs and loads, the stub, the names."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import legato
from legato._extras import install_command, requirements

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


@pytest.mark.parametrize(
    ("family", "waiting"),
    [
        ("rft", {"doctor", "report", "theory", "reproduction", "selection", "watching"}),
        ("rasp", {"compiling", "language", "tasks", "datasets", "weights", "sops"}),
    ],
)
def test_import_loads_the_kernels_alone(family: str, waiting: set[str]) -> None:
    """A training step does not pay for the doctor, nor a selector for the language; their names lead to them."""
    code = f"""
import sys, legato.{family} as family
print(*(name.removeprefix(family.__name__ + ".") for name in sys.modules))
assert set(family.__all__) <= set(dir(family))
print(all(getattr(family, name) is not None for name in family.__all__))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, there = result.stdout.splitlines()[-2:]
    assert not waiting & set(loaded.split())
    assert there == "True"


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
    text = metadata.distribution("legato").read_text("direct_url.json")
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
    for namespace in (legato, legato.rft, legato.video):
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


def _tracked() -> set[str]:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("needs git and its record of the files")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in listed.stdout.split("\0") if (ROOT / name).is_file()}


def test_wheel_holds_the_package_and_nothing_else() -> None:
    if _is_editable():
        pytest.skip("an editable install has no files of its own")
    installed = {str(path) for path in metadata.files("legato") or () if path.suffix != ".pyc"}
    package = {name for name in installed if name.startswith("legato/")}
    around = {re.sub(r"^legato-[0-9.]+\.dist-info/", "", name) for name in installed - package}
    assert {"licenses/LICENSE", "licenses/THIRD_PARTY.md"} <= around
    assert "entry_points.txt" in around
    assert not {name for name in around if "/" in name.removeprefix("licenses/") and not name.endswith("bin/legato")}
    module = {name for name in package if re.fullmatch(r"legato/_core\.[\w-]+\.so", name)}
    assert len(module) == 1
    wanted = {name.removeprefix("python/") for name in _tracked() if name.startswith("python/legato/")}
    for source, place in (
        ("cpp/include/", "legato/include/"),
        ("cpp/c/legato.h", "legato/include/legato.h"),
        ("cpp/c/legato_live.h", "legato/include/legato_live.h"),
        ("cpp/cuda/", "legato/include/legato/cuda/"),
    ):
        wanted |= {name.replace(source, place) for name in _tracked() if name.startswith(source)}
    built = {name for name in package if name.startswith("legato/lib/")}
    assert {"legato/lib/liblegato.a", "legato/lib/cmake/legato/legatoConfig.cmake"} <= built
    assert package - module - built == wanted


def test_what_an_index_shows_leads_somewhere() -> None:
    """Pictures and links of the README that are relative to the repository are broken on an index."""
    if _is_editable():
        pytest.skip("an editable install keeps the description of the day it was made")
    shown = metadata.metadata("legato")
    description = shown.get("Description") or str(shown.get_payload())
    assert description.lstrip().startswith("# Legato")
    assert "CONTRIBUTING says" in description
    assert not re.search(r"\]\((?!https?://)", description)
    assert "<img" not in description


def test_sdist_holds_what_git_tracks(tmp_path: Path) -> None:
    for name in ("scikit_build_core", "hatch_fancy_pypi_readme"):
        pytest.importorskip(name, reason="what builds the source distribution is not installed")
    tracked, source = _tracked(), tmp_path / "source"
    for name in tracked:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    for stray in ("dist/legato.whl", "build/release/legato.o", "python/legato/_core.so", "demo/clip.mp4"):
        (source / stray).parent.mkdir(parents=True, exist_ok=True)
        (source / stray).touch()
    build = "import sys; from scikit_build_core.build import build_sdist; build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=source, capture_output=True, check=True)
    with tarfile.open(next(tmp_path.glob("legato-*.tar.gz"))) as archive:
        held = {name.split("/", 1)[1] for name in archive.getnames()}
    assert held == {name for name in tracked if not name.startswith((".ci/", ".github/"))} | {"PKG-INFO"}


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


class Recorded(metadata.Distribution):
    """A copy of Legato as pip might have recorded it."""

    listed = (
        "numpy>=1.26",
        'lark>=1.1; extra == "rasp"',
        'av>=14.2; extra == "video"',
        'legato[opencv]; extra == "video"',
        'opencv-python-headless>=4.10 ; extra == "opencv"',
        "legato[rasp,video]; extra == 'all'",
    )

    def __init__(self, source: dict[str, object] | None) -> None:
        self.source = source

    def read_text(self, filename: str) -> str | None:
        if filename == "direct_url.json":
            return None if self.source is None else json.dumps(self.source)
        return "Name: legato\n" + "".join(f"Requires-Dist: {line}\n" for line in self.listed)

    def locate_file(self, path: object) -> Path:
        raise FileNotFoundError(path)


class TestInstallCommand:
    def install(self, monkeypatch: pytest.MonkeyPatch, source: dict[str, object] | None) -> None:
        monkeypatch.setattr(metadata.Distribution, "from_name", lambda _: Recorded(source))

    def test_extras_of_extras_are_spelled_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.install(monkeypatch, None)
        assert requirements("video") == ["av>=14.2", "opencv-python-headless>=4.10"]
        assert requirements("all") == ["lark>=1.1", "av>=14.2", "opencv-python-headless>=4.10"]
        assert requirements("no-such-extra") == []

    def test_a_clone_is_named_from_where_one_stands(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        clone = tmp_path / "a clone"
        clone.mkdir()
        (clone / "pyproject.toml").touch()
        self.install(monkeypatch, {"url": clone.as_uri(), "dir_info": {}})
        monkeypatch.chdir(clone)
        assert install_command("rasp") == 'pip install ".[rasp]"'
        monkeypatch.chdir(tmp_path)
        assert install_command("rasp") == f'pip install "{clone}[rasp]"'

    def test_other_copies_name_the_packages(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """An editable copy, a clone that is gone, a wheel, a repository, an index, a record of another make."""
        (tmp_path / "pyproject.toml").touch()
        for source in (
            {"url": tmp_path.as_uri(), "dir_info": {"editable": True}},
            {"url": (tmp_path / "gone").as_uri(), "dir_info": {}},
            {"url": (tmp_path / "legato.whl").as_uri(), "archive_info": {}},
            {"url": "https://example.org/legato", "vcs_info": {"vcs": "git", "commit_id": "0"}},
            None,
            {"url": None},
            {"dir_info": 1},
        ):
            self.install(monkeypatch, source)
            assert install_command("video") == 'pip install "av>=14.2" "opencv-python-headless>=4.10"', source

    def test_without_metadata(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(name: str) -> metadata.Distribution:
            raise metadata.PackageNotFoundError(name)

        monkeypatch.setattr(metadata.Distribution, "from_name", missing)
        assert install_command("video") == 'pip install ".[video]"'

    def test_every_extra_that_is_named_exists(self) -> None:
        """In the code by its command, in the pages by `".[...]"`; no index is asked for `legato`."""
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        folders = ("python", "docs", "benchmarks", "examples", "tests", ".ci", ".github", "cpp")
        files = [*ROOT.glob("*.md"), *(file for folder in folders for file in (ROOT / folder).rglob("*"))]
        texts = {
            file: file.read_text()
            for file in files
            if file != Path(__file__) and (file.suffix in {".py", ".md", ".html", ".yml", ".pyi"} or file.name == "run")
        }
        named = set()
        for file, text in texts.items():
            assert not re.search(r"legato\[\w", text), f"{file} names a package of an index"
            named |= set(re.findall(r"""install_command\(["'](\w+)["']\)""", text))
            for group in re.findall(r"""["']\.\[([\w,]+)\]["']""", text):
                named |= set(group.split(","))
        assert {"video", "rft", "rasp", "solvers", "study", "cuda12", "cuda13", "test"} <= named
        assert named <= extras.keys()
