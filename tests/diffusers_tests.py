"""Run diffusers' own scheduler tests with Legato's classes in the place of theirs.

``python tests/diffusers_tests.py CLONE`` takes a clone of diffusers' repository, whose tests its wheels lack. Each test
runs with their classes and with ours; what fails with ours alone must be in `KNOWN`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

# Sums of a run, held by them against those of torch's noise of one seed; ours is other noise.
_SUMS = {
    "test_scheduler_ddpm": ("full_loop_no_noise", "full_loop_with_noise", "full_loop_with_v_prediction"),
    "test_scheduler_euler_ancestral": (
        "full_loop_device", "full_loop_no_noise", "full_loop_with_noise", "full_loop_with_v_prediction",
    ),
    "test_scheduler_lcm": ("full_loop_multistep",),
}  # fmt: skip
KNOWN = {f"{file}: {test}" for file, tests in _SUMS.items() for test in tests}
KNOWN.add("test_scheduler_ddim_inverse: thresholding")  # a field that the class does not have; theirs drops any such
FILES = ("ddim", "ddim_inverse", "ddpm", "deis", "dpm_multi", "euler", "euler_ancestral", "heun", "lcm", "sasolver",
         "tcd", "unipc")  # fmt: skip
_PLUGIN = """
import diffusers
from legato.diffusion import schedulers
for name in schedulers.__all__:
    setattr(diffusers, name, getattr(schedulers, name))
"""


def failures(clone: Path, *options: str, path: str = "") -> tuple[set[str], str]:
    """Return the tests that fail, and pytest's last line."""
    files = [f"tests/schedulers/test_scheduler_{name}.py" for name in FILES] + ["tests/schedulers/test_schedulers.py"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider", "-W", "ignore", *options, *files],
        cwd=clone, env=os.environ | {"USE_TF": "0", "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if run.returncode not in (0, 1):
        sys.exit(run.stdout[-2000:] + run.stderr[-2000:])
    found = re.findall(r"^FAILED tests/schedulers/(\w+)\.py::\w+::test_(\w+)", run.stdout, re.M)
    return {f"{file}: {test}" for file, test in found}, run.stdout.strip().splitlines()[-1]


def main() -> int:
    """Print both outcomes, and what fails with ours alone."""
    clone = Path(sys.argv[1])
    theirs, line = failures(clone)
    print("their classes:", line)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "legato_in_place.py").write_text(_PLUGIN)
        ours, line = failures(clone, "-p", "legato_in_place", path=folder)
    print("our classes:  ", line)
    for test in sorted(ours - theirs):
        print("ours alone:", test, "" if test in KNOWN else "(NEW)")
    return int(ours - theirs != KNOWN)


if __name__ == "__main__":
    sys.exit(main())
