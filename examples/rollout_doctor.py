"""Write the rollouts of a training as JSON lines, and ask which prompts can learn from them.

python rollout_doctor.py rollouts.jsonl [page.html]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from legato import rft
from legato.errors import LegatoError

CHANCES = {"too hard": 0.0, "hard": 0.1, "in reach": 0.5, "easy": 0.95, "solved": 1.0}


def main(*arguments: str) -> None:
    """Write rollouts to the first file, scan it, and write the page to the second."""
    if len(arguments) not in (1, 2):
        sys.exit("usage: python rollout_doctor.py ROLLOUTS.jsonl [PAGE.html]")
    rng = np.random.default_rng(0)
    rows = [
        {"step": step, "prompt": prompt, "reward": float(rng.random() < chance)}
        for step in range(4)
        for prompt, chance in CHANCES.items()
        for _ in range(16)
    ]
    try:
        Path(arguments[0]).write_text("".join(json.dumps(row) + "\n" for row in rows))
        report = rft.scan(arguments[0], value_range=(0, 1))
        print(report.to_table())
        for page in arguments[1:]:
            report.save(page)
    except (LegatoError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
