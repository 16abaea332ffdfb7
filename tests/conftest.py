"""What every test shares: where the data are, and the backends of the contract tests."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from legato import _core

# A test run in the background may have been told to ignore signals, which the processes that it starts inherit.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, _handler)

_core.set_work_of_helper(0)  # the threads that a test asks for, however little they have to do

DATA = Path(__file__).parent / "data"


@pytest.fixture(params=["native", "numpy"])
def backend(request: pytest.FixtureRequest) -> str:
    """Every backend a contract must hold on."""
    return str(request.param)


@pytest.fixture(scope="session")
def camera_cases() -> dict[str, Any]:
    """Parameters and expected numbers of the camera vectors."""
    index: dict[str, Any] = json.loads((DATA / "camera" / "index.json").read_text())
    return index


def camera_arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(DATA / "camera" / name) as archive:
        return {key: archive[key] for key in archive.files}


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes: what a full disk looks like, but for the words."""
    resource = pytest.importorskip("resource", reason="needs POSIX limits")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
