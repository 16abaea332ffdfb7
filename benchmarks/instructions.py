"""Instructions that the hot kernels take, counted by Valgrind: a loss shows however busy the machine is.

    cmake --preset release && cmake --build --preset release
    python benchmarks/instructions.py build/release/cpp/tests/hot_kernels

A kernel is run once and three times as often, and half of the difference counts, so that what surrounds it does not.
Valgrind 3.19 knows no AVX-512: the AVX2 copies are counted. `benchmarks/instructions.json` has the last counts, and by
which compiler; a kernel that takes 3 % more is an error with that compiler and is only told with another. `--update`
writes the file anew. Instructions are no times: a kernel may win by taking more of them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

RECORD = Path(__file__).with_suffix(".json")
MOST = 1.03


def counted(program: Path, kernel: str, repeats: int) -> int:
    """Count the instructions of a run."""
    told = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program, kernel, str(repeats)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LEGATO_ISA": "avx2"},
    )
    found = re.search(r"Collected : (\d+)", told.stderr)
    if told.returncode or found is None:
        raise SystemExit(f"{kernel}: {told.stderr}")
    return int(found[1])


def compiler(program: Path) -> str:
    """Read which compiler made a program, from what GCC and clang leave in it."""
    found = re.search(rb"GCC: \([^)]*\) [0-9.]+|clang version [0-9.]+", program.read_bytes())
    return found[0].decode() if found else "unknown"


def main() -> int:
    """Count, and hold the counts against the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path, help="hot_kernels, as built")
    parser.add_argument("--update", action="store_true", help="make the counts the record")
    given = parser.parse_args()
    names = subprocess.run([given.program], capture_output=True, text=True, check=True).stdout.split()
    if not names:
        raise SystemExit(f"{given.program}: names no kernel")
    counts = {}
    for name in names:
        once, thrice = (counted(given.program, name, repeats) for repeats in (1, 3))
        counts[name] = (thrice - once) // 2
    made_by = compiler(given.program)
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {"compiler": "", "instructions": {}}
    judged = record["compiler"] == made_by
    print(f"{made_by}; the record is of {record['compiler'] or 'nobody'}{'' if judged else ', so nothing is judged'}")
    worse = []
    for name, count in counts.items():
        before = record["instructions"].get(name)
        print(f"{name:<20}{count:>14,}" + (f"{count / before:>8.3f} of the record" if before else "     new"))
        if before and count > MOST * before:
            worse.append(name)
    if given.update:
        RECORD.write_text(json.dumps({"compiler": made_by, "instructions": counts}, indent=1) + "\n")
        return 0
    missing = [name for name in record["instructions"] if name not in counts] + [
        name for name in counts if name not in record["instructions"]
    ]
    if missing:
        print(f"only in one of both: {', '.join(missing)} (--update)")
    if worse:
        print(f"more than {MOST - 1:.0%} above the record: {', '.join(worse)}")
    return int(judged and bool(worse or missing))


if __name__ == "__main__":
    sys.exit(main())
