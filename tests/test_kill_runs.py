"""A few of the killed and starved runs of `kill_runs.py`: nothing torn, nothing left, nothing of the user's lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUNS = Path(__file__).with_name("kill_runs.py")


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="a killed process leaves its hidden file where all have names")
@pytest.mark.parametrize(
    ("commands", "needed"),
    [
        (("stabilize", "batch", "live"), ("av", "cv2", "matplotlib")),
        (("scan", "rank"), ("pyarrow", "scipy")),
        (("diffusion",), ("matplotlib",)),
        (("rasp",), ("safetensors",)),
    ],
)
def test_killed_and_starved(commands: tuple[str, ...], needed: tuple[str, ...]) -> None:
    for module in ("av", *needed):  # the clips and their check need PyAV
        pytest.importorskip(module)
    command = [sys.executable, str(RUNS), "--kills", str(3 * len(commands)), "--first", "30", "--only", *commands]
    found = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "wrong" not in found.stdout
