"""The rules of the doors: which room may import which."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / "python" / "legato"
CPP = ROOT / "cpp"
FAMILIES = {"camera", "video", "diffusion", "rasp", "rft"}
ALLOWED = {
    "video": {"camera"},
    "cli": FAMILIES,
    "bench": FAMILIES,
    "claims": FAMILIES,
}  # which family a room may import, besides itself
HEAVY = {"cv2", "av", "numba", "scipy", "matplotlib", "rich", "cupy", "osqp", "torch", "xml", "http", "ssl", "asyncio"}
# What is imported only by those who have the package: by Numba's entry point, and by name.
AT_THE_TOP = {
    "_calls.py": "numba",
    "_numba.py": "numba",
    "torch.py": "torch",
    "autograd.py": "torch",
    "run.py": "torch",
}


def python_files() -> list[Path]:
    return sorted(PYTHON.rglob("*.py"))


def imports(path: Path) -> list[tuple[str, bool]]:
    """(module, at run time on import) for each import statement."""
    tree = ast.parse(path.read_text())
    lazy: set[ast.AST] = set()
    for node in ast.walk(tree):
        guard = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if guard or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lazy.update(ast.walk(node))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(name.name, node not in lazy) for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            found.append((module, node not in lazy))
            found += [(f"{module}.{name.name}", node not in lazy) for name in node.names if module == "legato"]
    return found


def room(path: Path) -> str:
    inside = path.relative_to(PYTHON)
    return inside.parts[0] if len(inside.parts) > 1 else ""


@pytest.mark.parametrize("path", python_files(), ids=lambda p: str(p.relative_to(PYTHON)))
def test_python_rooms(path: Path) -> None:
    here = room(path)
    for module, _ in imports(path):
        parts = module.split(".")
        if parts[0] == "legato" and len(parts) > 1 and parts[1] in FAMILIES - {here} and here:
            assert parts[1] in ALLOWED.get(here, set()), f"{path} imports {module}"


@pytest.mark.parametrize("path", python_files(), ids=lambda p: str(p.relative_to(PYTHON)))
def test_heavy_packages_are_imported_where_they_are_used(path: Path) -> None:
    for module, at_import in imports(path):
        heavy = module.split(".")[0] in HEAVY or module == "urllib.request"  # which brings http and ssl
        if AT_THE_TOP.get(path.name) == module.split(".")[0]:
            continue
        assert not (at_import and heavy), f"{path} imports {module} at the top"
        if module.split(".")[0] in {"cv2", "av"}:
            assert room(path) == "video" or path.name == "info.py", f"{path} imports {module}"


# Which wing of `video` may import which, and what of that which stands at the door.
WINGS: dict[str, set[str]] = {
    "media": set(),
    "motion": {"media", "choices", "pipeline", "presets", "progress", "warping"},
    "results": {"media", "motion", "progress", "warping"},
    "live": {
        "media",
        "motion",
        "results",
        "choices",
        "framing",
        "options",
        "planning",
        "presets",
        "side_files",
        "stabilizing",
        "warping",
    },
    "synthetic": {"media", "progress", "warping"},
}
# What stands at the door of `video`, from the ground up; each may import those before it and the wings named.
DOOR: dict[str, set[str]] = {
    "choices": set(),
    "side_files": set(),
    "progress": set(),
    "pipeline": {"media"},
    "presets": set(),
    "warping": {"media"},
    "framing": {"media"},
    "options": {"media", "motion"},
    "planning": {"media", "motion"},
    "sequences": {"media", "motion"},
    "filling": {"media"},
    "stages": {"media", "motion", "results"},
    "stabilizing": {"media", "motion", "results"},
    "batch": {"media", "results"},
}
LONGEST_FILE, LONGEST_FUNCTION = 800, 80  # lines; those of a function without its doc-string
# Longer with a reason: tables of scenery and of options, and the interior point method beside its paper.
LONGER_FILES = {"video/synthetic/scenery.py"}
LONGER_FUNCTIONS = {"add_arguments", "solve_program", "sparse"}


def module_of(path: Path) -> str:
    name = ".".join(path.relative_to(PYTHON.parent).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imported_files() -> dict[str, set[str]]:
    """Give the modules of legato that each of its files imports, at whatever time; rooms' front doors lead on."""
    modules = {module_of(path): path for path in python_files()}
    found: dict[str, set[str]] = {}
    for name, path in modules.items():
        found[name] = set()
        if path.name == "__init__.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names} & set(modules)
            elif isinstance(node, ast.ImportFrom) and node.module:
                named = {f"{node.module}.{alias.name}" for alias in node.names}
                found[name] |= (named & set(modules)) or ({node.module} & set(modules))
    return found


def test_no_files_import_each_other() -> None:
    """No chain of imports leads back to where it began."""
    found = imported_files()
    done: set[str] = set()

    def follow(name: str, chain: list[str]) -> None:
        assert name not in chain, " -> ".join([*chain[chain.index(name) :], name])
        if name not in done:
            for other in sorted(found[name]):
                follow(other, [*chain, name])
            done.add(name)

    for name in found:
        follow(name, [])


def test_the_wings_of_video_look_one_way() -> None:
    """Live and batch lean on stabilizing, that on planning and results, these on motion, that on warping and media."""
    ranks = list(DOOR)
    for name, others in imported_files().items():
        parts = name.split(".")
        if parts[:2] != ["legato", "video"] or len(parts) < 3:
            continue
        here = parts[2]
        for other in others:
            there = other.split(".")
            if there[:2] != ["legato", "video"] or len(there) < 3 or there[2] == here:
                continue
            if here in WINGS:
                assert there[2] in WINGS[here], f"{name} imports {other}"
            elif here in DOOR:
                lower = there[2] in DOOR[here] or (there[2] in DOOR and ranks.index(there[2]) < ranks.index(here))
                assert lower, f"{name} imports {other}"


@pytest.mark.parametrize("path", python_files(), ids=lambda p: str(p.relative_to(PYTHON)))
def test_files_and_functions_can_be_read_at_once(path: Path) -> None:
    text = path.read_text()
    if str(path.relative_to(PYTHON)) not in LONGER_FILES:
        assert len(text.splitlines()) <= LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name not in LONGER_FUNCTIONS:
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            if body:
                lines = (node.end_lineno or 0) - body[0].lineno + 1
                assert lines <= LONGEST_FUNCTION, f"{node.name}: {lines} lines"


def test_references_never_see_the_core() -> None:
    references = list(PYTHON.rglob("_reference.py"))
    assert references
    for path in references:
        assert not [module for module, _ in imports(path) if "_core" in module], path


def test_no_vague_file_names() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc"}
    files = [*PYTHON.rglob("*"), *CPP.rglob("*")]
    assert not [path for path in files if path.stem in vague]


def calls(path: Path) -> set[str]:
    """Names of what a file calls, dotted as they are written."""
    found = (node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    return {ast.unparse(function) for function in found}


def test_one_door_for_files() -> None:
    """Outputs go through `_files.py`, or they are torn where a process is killed."""
    in_place = re.compile(r"""open\([^)]*["'][wax]b?\+?["']|write_bytes\(|\.rename\(|umask|mkstemp|NamedTemporary""")
    for path in python_files():
        if path.name != "_files.py":
            lines = path.read_text().replace("av.open(", "").splitlines()
            code = [line for line in lines if not line.lstrip().startswith((">>> ", "... "))]  # examples may
            assert not in_place.search("\n".join(code)), path


def test_one_door_for_what_is_printed() -> None:
    for path in python_files():
        if room(path) == "cli":
            assert not calls(path) & {"print", "sys.stdout.write"}, path


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s+["<]([^">]+)[">]', path.read_text(), re.MULTILINE)


def sources(folder: str) -> list[Path]:
    found = [p for p in sorted((CPP / folder).rglob("*")) if p.suffix in {".h", ".hpp", ".cpp", ".c"}]
    assert found
    return found


def test_math_includes_only_math() -> None:
    for path in sources("include/legato/math"):
        assert all(name.startswith("legato/math/") for name in includes(path)), path


def test_core_never_sees_a_face() -> None:
    for path in sources("src") + sources("include"):
        assert not [n for n in includes(path) if "pybind11" in n or "python" in n.lower() or n == "legato.h"], path


@pytest.mark.parametrize(("face", "other"), [("python", "c"), ("c", "python")])
def test_faces_see_only_the_surface(face: str, other: str) -> None:
    own = {p.name for p in sources(face)}
    other_names = {p.name for p in sources(other)}
    inner = {p.name for p in sources("src")}
    for path in sources(face):
        for name in includes(path):
            assert name not in inner, f"{path} includes {name}"
            assert name in own or name not in other_names, f"{path} includes {name}"


def test_no_path_of_a_machine() -> None:
    """Nothing refers to a place outside the repository, but for the optional clips beside it."""
    pattern = re.compile(r"(?<![\w.])/(?:work|home|root|tmp)/\w")
    for path in [*python_files(), *sources("."), *(ROOT / "tests").rglob("*.py"), *ROOT.glob("*.md")]:
        if path.name != Path(__file__).name:
            assert not pattern.search(path.read_text()), path


def test_rasp_imports_one_way() -> None:
    """No circle of files in the family, imports inside functions counted."""
    folder = PYTHON / "rasp"
    below = {
        path.stem: {module.split(".")[2] for module, _ in imports(path) if module.startswith("legato.rasp.")}
        for path in folder.glob("*.py")
        if path.stem != "__init__"
    }
    while below:
        free = {name for name, used in below.items() if not used & (below.keys() - {name})}
        assert free, f"a circle among {sorted(below)}"
        below = {name: used for name, used in below.items() if name not in free}
