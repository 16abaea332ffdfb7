"""A stand-in for CuPy on machines without a GPU: NumPy arrays that say they are on one, kernels run on the CPU.

`install` compiles the .cuh file as C++ (with `cpp/tests/cuda_on_cpu.h`), so that what is tested is the arithmetic, the
launch and the order and types of the arguments; what CuPy and the driver do is not.
"""

import contextlib
import ctypes
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PLACE = """
extern "C" void place(unsigned block, unsigned thread, unsigned blocks, unsigned threads) {
  blockIdx.x = block; threadIdx.x = thread; gridDim.x = blocks; blockDim.x = threads;
}
"""


class ndarray(np.ndarray):  # noqa: N801
    """An array that says it is in GPU memory."""

    def __dlpack_device__(self):
        return 2, 0

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
        source = folder / "kernels.cpp"
        source.write_text(f'#include "cuda_on_cpu.h"\n#include "cuda/diffusion.cuh"\n{PLACE}')
        includes = [f"-I{ROOT / 'cpp' / place}" for place in ("tests", "include", "")]
        flags = ["-std=c++20", "-O1", "-ffp-contract=off", "-shared", "-fPIC"]
        subprocess.run([compiler, *flags, *includes, str(source), "-o", str(library)], check=True)
    kernels = ctypes.CDLL(str(library))

    class RawModule:
        def __init__(self, code, options):
            self.code, self.options = code, options

        def get_function(self, name):
            function = getattr(kernels, name)

            def launch(grid, block, arguments):
                passed = [_as_c(argument) for argument in arguments]
                for at in range(grid[0]):
                    for thread in range(block[0]):
                        kernels.place(at, thread, grid[0], block[0])
                        function(*passed)

            return launch

    module = types.ModuleType("cupy")
    module.ndarray, module.RawModule, module.asarray = ndarray, RawModule, asarray
    module.may_share_memory = np.may_share_memory
    module.empty_like = lambda like: np.empty_like(like)
    module.ascontiguousarray = lambda a: np.ascontiguousarray(a).view(ndarray)
    module.from_dlpack = lambda a: a.as_cupy()
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def _as_c(argument):
    """As CuPy passes it: the address of an array, the bytes of a NumPy scalar."""
    if isinstance(argument, np.ndarray):
        assert type(argument) is ndarray, "a CPU array was handed to a kernel"
        return ctypes.c_void_p(argument.ctypes.data)
    kinds = {"uint64": ctypes.c_uint64, "uint32": ctypes.c_uint32, "int32": ctypes.c_int32, "float64": ctypes.c_double}
    return kinds[argument.dtype.name](argument.item())
