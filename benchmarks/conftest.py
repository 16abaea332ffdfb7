"""What every benchmark shares: one thread for everybody, said before anything is imported, and a readable table."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from typing import Any

THREADS = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}
for _name, _value in THREADS.items():  # read when the packages are loaded; what the user has set stays
    os.environ.setdefault(_name, _value)

import pytest  # noqa: E402  it loads no peer, and the lines above come first anyway

import legato  # noqa: E402
from legato.bench.running import machine  # noqa: E402

# Module, distribution where it has another name.
PEERS = {
    "numpy": "",
    "scipy": "",
    "cv2": "opencv-python-headless",
    "clarabel": "",
    "osqp": "",
    "piqp": "",
    "torch": "",
    "numba": "",
    "jax": "",
    "diffusers": "",
    "torchsde": "",
    "pyarrow": "",
    "sklearn": "scikit-learn",
}


def _version(module: str) -> str | None:
    if importlib.util.find_spec(module) is None:
        return None
    try:
        return importlib.metadata.version(PEERS[module] or module)
    except importlib.metadata.PackageNotFoundError:  # from a distribution of another name
        return "of unknown version"


def pytest_configure(config: pytest.Config) -> None:
    """Group by claim, and show what can be compared, unless the command line says otherwise."""
    given = " ".join(config.invocation_params.args)
    if "--benchmark-columns" not in given:
        config.option.benchmark_columns = ["min", "median", "iqr", "rounds"]


@pytest.fixture(autouse=True)
def smoke(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--benchmark-min-rounds=1`` asks whether the benchmarks work, and not how fast anybody is: one call each."""
    if request.config.getoption("benchmark_min_rounds") > 1 or "benchmark" not in request.fixturenames:
        return
    benchmark = request.getfixturevalue("benchmark")
    pedantic = benchmark.pedantic

    def once(target: Any, *given: Any, **named: Any) -> Any:
        return pedantic(target, *given, **{**named, "rounds": 1, "iterations": 1, "warmup_rounds": 0})

    monkeypatch.setattr(benchmark, "pedantic", once)


def pytest_report_header() -> list[str]:
    """Say on what this runs, and which rows will be missing."""
    versions = {module: _version(module) for module in PEERS}
    here = machine()
    lines = [
        f"machine: {here['processor']}, {here['processors']} processors, {here['system']}",
        f"legato {legato.__version__}: {here['isa']} kernels, {legato.build_info()['compiler']}",
        "peers: " + ", ".join(f"{module} {version}" for module, version in versions.items() if version),
        "threads: " + ", ".join(f"{name}={os.environ[name]}" for name in THREADS),
    ]
    missing = [module for module, version in versions.items() if version is None]
    if missing:
        lines.append(f'rows left out, since not installed: {", ".join(missing)} (pip install ".[bench]" brings all)')
    return lines
