"""A stand-in for CuPy on machines without a GPU: NumPy arrays that say they are on one, kernels run on the CPU.

`install` compiles the .cuh files as C++ (with `cpp/tests/cuda_on_cpu.h`), so that what is tested is the arithmetic, the
launch, the barriers, and the order and types of the arguments; what CuPy and the driver do is not.
"""

import contextlib
import ctypes
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
FAMILIES = ("camera", "diffusion", "rft")
# Kernels whose threads wait for one another: their blocks run as threads.
TOGETHER = re.compile(r"homography|token_stats_(float|bfloat)|gae|spread_of_all")


class ndarray(np.ndarray):  # noqa: N801
    """An array that says it is in GPU memory."""

    def __dlpack_device__(self):
        return 2, 0

    def get(self):
        return np.asarray(self)

    @property
    def data(self):
        return types.SimpleNamespace(ptr=self.ctypes.data)

    @property
    def device(self):
        return contextlib.nullcontext()


def asarray(values):
    return np.array(values).view(ndarray)


def install(monkeypatch, folder: Path) -> types.ModuleType:
    """Put the stand-in where `import cupy` finds it."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    library = folder / "kernels.so"
    if not library.exists():
        _compile(compiler, library)
    kernels = ctypes.CDLL(str(library))

    class RawModule:
        def __init__(self, code, options):
            self.code, self.options = code, options

        def get_function(self, name):
            def launch(grid, block, arguments):
                passed = [_as_c(argument) for argument in arguments]
                addresses = (ctypes.c_void_p * len(passed))(*map(ctypes.addressof, passed))
                together = bool(TOGETHER.search(name))
                getattr(kernels, f"launch_{name}")(together, grid[0], block[0], addresses)

            return launch

    module = types.ModuleType("cupy")
    module.ndarray, module.RawModule, module.asarray, module.nan = ndarray, RawModule, asarray, np.nan
    module.may_share_memory = np.may_share_memory
    for name in (
        "abs", "arange", "argmax", "argsort", "ascontiguousarray", "empty", "empty_like", "full", "isfinite", "isnan",
        "maximum", "searchsorted", "sqrt", "stack", "where",
    ):  # fmt: skip
        setattr(module, name, _on_device(getattr(np, name)))
    module.from_dlpack = lambda a: a.as_cupy()
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def _compile(compiler, library):
    """Compile all kernels, and beside each `launch_<name>`, which takes the addresses of its arguments."""
    includes = [f"-I{ROOT / 'cpp' / place}" for place in ("tests", "include", "")]
    flags = ["-std=c++20", "-O1", "-ffp-contract=off", "-fPIC", *includes]
    source = library.with_suffix(".cpp")
    text = '#include "cuda_on_cpu.h"\n' + "".join(f'#include "cuda/{family}.cuh"\n' for family in FAMILIES)
    source.write_text(text)
    whole = subprocess.run(
        [compiler, *flags, "-E", "-P", str(source)], check=True, capture_output=True, text=True
    ).stdout
    launches = [
        f'extern "C" void launch_{name}(bool together, unsigned blocks, unsigned threads, void** arguments) '
        f"{{ launch_packed(together, blocks, threads, {name}, arguments); }}\n"
        for name in re.findall(r'extern "C"\s+void\s+(legato_\w+)\(', whole)
    ]
    assert len(launches) > 20
    source.write_text(text + "".join(launches))
    subprocess.run([compiler, *flags, "-shared", str(source), "-pthread", "-o", str(library)], check=True)


def _on_device(function):
    """Wrap a function of NumPy whose results are arrays in GPU memory here."""

    def call(*arguments, **options):
        found = function(*arguments, **options)
        return found.view(ndarray) if isinstance(found, np.ndarray) else found

    return call


def _as_c(argument):
    """As CuPy passes it: the address of an array, the bytes of a NumPy scalar."""
    if isinstance(argument, np.ndarray):
        assert type(argument) is ndarray, "a CPU array was handed to a kernel"
        return ctypes.c_void_p(argument.ctypes.data)
    kinds = {"uint64": ctypes.c_uint64, "uint32": ctypes.c_uint32, "int32": ctypes.c_int32, "float64": ctypes.c_double}
    return kinds[argument.dtype.name](argument.item())
