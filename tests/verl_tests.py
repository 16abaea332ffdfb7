"""Run verl's own tests of its core algorithms with Legato's functions in the place of verl's.

``python tests/verl_tests.py CLONE`` takes a clone of verl's repository, whose tests its wheels lack, and an environment
in which that clone can be imported. Their tests hold a loop against its vectorized form: each of the two is replaced in
turn, so that ours is held against theirs. What fails with ours must fail with theirs, too.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

FILE = "tests/trainer/ppo/test_core_algos_on_cpu.py"
_LOOPS = ("compute_grpo_outcome_advantage", "compute_rloo_outcome_advantage")
_VECTORIZED = ("compute_grpo_vectorized_outcome_advantage", "compute_rloo_vectorized_outcome_advantage")
_GAE = "compute_gae_advantage_return"
IN_PLACE = {"GAE and the loops": (_GAE, *_LOOPS), "the vectorized forms": _VECTORIZED,
            "all of them": (_GAE, *_LOOPS, *_VECTORIZED)}  # fmt: skip
_PLUGIN = """
import os
import torch
import verl.trainer.ppo.core_algos as core
from legato import rft

def gae(token_level_rewards, values, response_mask, gamma, lam):
    advantages, returns = rft.gae(token_level_rewards, values, response_mask, float(gamma), float(lam))
    return torch.from_numpy(rft.whiten(advantages, response_mask)), torch.from_numpy(returns)

def outcome(kind, **options):
    def advantage(token_level_rewards, response_mask, index, **_):
        scores = token_level_rewards.sum(dim=-1).numpy()
        found = torch.from_numpy(rft.group_advantages(scores, index, kind, **options)).float()
        spread = found[:, None] * response_mask
        return spread, spread
    return advantage

ours = {"compute_gae_advantage_return": gae}
for name in ("compute_grpo_outcome_advantage", "compute_grpo_vectorized_outcome_advantage"):
    ours[name] = outcome("grpo", eps=1e-6, singleton="raw")
ours["compute_rloo_outcome_advantage"] = outcome("rloo", singleton="raw")
ours["compute_rloo_vectorized_outcome_advantage"] = outcome("rloo")
for name in os.environ["LEGATO_IN_PLACE"].split(","):
    setattr(core, name, ours[name])
"""


def failures(clone: Path, *options: str, path: str = "", in_place: str = "") -> tuple[set[str], str]:
    """Return the tests that fail, and pytest's last line."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "-W", "ignore", *options, FILE],
        cwd=clone, env=os.environ | {"PYTHONPATH": f"{path}:{clone}", "LEGATO_IN_PLACE": in_place},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if run.returncode not in (0, 1):
        sys.exit(run.stdout[-2000:] + run.stderr[-2000:])
    return set(re.findall(r"^FAILED (\S+)", run.stdout, re.M)), run.stdout.strip().splitlines()[-1]


def main() -> int:
    """Print the outcomes, and what fails with ours alone."""
    clone = Path(sys.argv[1]).resolve()
    theirs, line = failures(clone)
    print("verl's functions:", line)
    new = set()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "legato_in_place.py").write_text(_PLUGIN)
        for what, names in IN_PLACE.items():
            ours, line = failures(clone, "-p", "legato_in_place", path=folder, in_place=",".join(names))
            print(f"ours for {what}:", line)
            new |= ours - theirs
    for test in sorted(new):
        print("ours alone:", test)
    return int(bool(new))


if __name__ == "__main__":
    sys.exit(main())
