"""Which function runs where, read from the code; prints `docs/coverage.md`.

python docs/coverage.py > docs/coverage.md
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / "python" / "legato"
FAMILIES = ("camera", "diffusion", "rasp", "rft", "video")
COLUMNS = ("native", "numpy", "numba", "cupy", "torch", "C", "C++")

# What the two other faces call by another name: a class of Python is its calls there.
OTHER_NAMES = {
    "camera": {
        "stream_push": "PathStream",
        "push": "PathStream",
        "solve_banded": "BandedProgram",
        "set_options": "LivePath",
    },
    "diffusion": {"run_chains": "sample", "evaluate": "GaussianMixture"},
    "rasp": {"aggregate_conjunction": "aggr"},
    "rft": {"group_moments": "group_stats"},
    "video": {
        "tracker_push": "Tracker",
        "push": "Tracker",
        "warp_packed": "warp",
        "live_push": "Stabilizer",
        "flush": "Stabilizer",
    },
}

# Why a function of a family is not there. A hole without a reason is an error.
REASONS = {
    ("numpy", "camera"): "the program has its reference in the tests",
    ("numpy", "diffusion"): "exact models have their reference in the tests",
    ("numpy", "rasp"): "by way of `aggr`",
    ("numpy", "rft"): "it is NumPy's own arithmetic",
    ("numpy", "video"): "the other backend is OpenCV; the reference is in the tests",
    ("numba", "camera"): "a whole solve is no part of a loop",
    ("numba", "diffusion"): "tables, words for known answers and whole runs are no part of a loop",
    ("numba", "rft"): "its results are objects of Python",
    ("numba", "video"): "pictures are objects of Python",
    ("cupy", "camera"): "not there yet",
    ("cupy", "diffusion"): "not there yet",
    ("cupy", "rasp"): "not there yet",
    ("cupy", "rft"): "not there yet",
    ("cupy", "video"): "a copy over the bus costs more than the warp",
    ("torch", "camera"): "no gradient is asked for; tensors in CPU memory are taken as arrays",
    ("torch", "diffusion"): "no gradient is asked for; tensors in CPU memory are taken as arrays",
    ("torch", "rasp"): "integers have no gradient",
    ("torch", "rft"): "no gradient is asked for; tensors in CPU memory are taken as arrays",
    ("torch", "video"): "pictures have no gradient here",
    ("C", "camera"): "programs of one's own are C++",
    ("C", "diffusion"): "C++ has it",
    ("C", "rasp"): "C++ has it",
    ("C", "rft"): "C++ has it; as capsules for Numba, SciPy and Cython, see [numba](numba.md)",
    ("C", "video"): "C++ has it",
    ("C++", "video"): "made of others in Python",
    ("native", "camera"): "by Python",
    ("C++", "camera"): "made of others in Python",
    ("C++", "diffusion"): "made of others in Python",
    ("C++", "rasp"): "made of others in Python",
    ("C++", "rft"): "made of others in Python",
}

Rows = dict[str, dict[str, set[str]]]  # family -> function -> columns


def functions(family: str) -> dict[str, ast.FunctionDef | ast.ClassDef]:
    """Find the functions and classes of a family's files by name."""
    found = {}
    for path in sorted((PYTHON / family).rglob("*.py")):
        if not path.name.startswith("_"):
            tree = ast.parse(path.read_text())
            found.update({n.name: n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)})
    return found


def public(family: str) -> set[str]:
    """Read the names at a family's door."""
    for node in ast.parse((PYTHON / family / "__init__.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(re.findall(r"'(\w+)'", ast.unparse(node.value)))
    raise LookupError(family)


def names_in(path: Path, pattern: str) -> set[str]:
    """Find what a pattern finds in a file, or in none where there is no file."""
    return set(re.findall(pattern, path.read_text())) if path.exists() else set()


def table() -> Rows:
    """Read the code: who takes ``backend=``, who is overloaded, registered, declared."""
    operators = {name for path in PYTHON.rglob("*.py") for name in names_in(path, r'custom_op\("legato::(\w+)"')}
    if names_in(PYTHON / "rft" / "autograd.py", "def token_logp_entropy"):
        operators |= {"token_stats", "token_stats_backward"}
    rows: Rows = {}
    for family in FAMILIES:
        door, defined = public(family), functions(family)
        others = OTHER_NAMES[family]

        def known(names: set[str], door: set[str] = door, others: dict[str, str] = others) -> set[str]:
            return {others.get(name, name) for name in names} & door

        headers = [ROOT / "cpp" / "include" / "legato" / f"{family}.hpp"]
        if family == "video":
            headers.append(headers[0].with_name("live.hpp"))
        faces = sorted((ROOT / "cpp" / "c").glob("*.h"))
        by_column = {
            "numba": known(names_in(PYTHON / family / "_numba.py", rf"@compiles\({family}\.(\w+)")),
            "torch": known(operators) if family != "camera" else set(),
            "C": known({n for path in faces for n in names_in(path, rf"legato_{family}_(\w+?)(?:_[fu]\d+)?\(")}),
            "C++": known({n for path in headers for n in names_in(path, r"\bStatus (\w+)\(")}),
        }
        by_column["C++"] |= {"Tracker"} if family == "video" else set()
        backed = set()
        for name, node in defined.items():
            if name in door and isinstance(node, ast.FunctionDef):
                body = ast.unparse(node)
                if re.search(r"\bbackend: ", body.split("->")[0]):
                    backed.add(name)
                if "_cupy." in body or "In GPU memory" in body:
                    by_column.setdefault("cupy", set()).add(name)
        by_column["native"] = backed | set().union(*by_column.values())
        by_column["numpy"] = backed if family != "video" else set()
        rows[family] = {
            name: {column for column in COLUMNS if name in by_column.get(column, ())}
            for name in sorted(set().union(*by_column.values()))
        }
    return rows


def page(rows: Rows) -> str:
    """Write the page; LookupError where a hole has no reason."""
    lines = [
        "# Which function runs where",
        "",
        "Made from the code by `python docs/coverage.py`; a test holds the two together. `native` and `numpy` are what",
        "`backend=` takes (another name is an error, never a copy behind your back); the array type chooses CuPy. The",
        "columns [numba](numba.md), torch (`legato.torch`, `legato.rft.autograd`), [C and C++](embedding.md) are doors",
        "of their own to the same kernels. A number is the reason why something is not there.",
        "",
        f"| function | {' | '.join(COLUMNS)} |",
        f"|---|{'---|' * len(COLUMNS)}",
    ]
    numbers: dict[str, int] = {}
    for family, functions_of in rows.items():
        for name, there in functions_of.items():
            cells = []
            for column in COLUMNS:
                if column in there:
                    cells.append("yes")
                else:
                    reason = REASONS[column, family]
                    cells.append(str(numbers.setdefault(reason, len(numbers) + 1)))
            lines.append(f"| `{family}.{name}` | {' | '.join(cells)} |")
    lines += ["", *(f"{number}. {reason}" for reason, number in numbers.items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(table()), end="")
