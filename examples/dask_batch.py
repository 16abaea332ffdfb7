"""Steady the videos of a folder on a Dask cluster: here one of this machine, elsewhere that of an address.

python dask_batch.py shaky/ steady/
python dask_batch.py shaky/ steady/ tcp://scheduler:8786     # the workers must see both folders
"""

from __future__ import annotations

import sys
from pathlib import Path

from legato import video

try:
    from distributed import Client
except ImportError:
    raise SystemExit("Dask's cluster is missing: pip install distributed") from None


def main(*arguments: str) -> int:
    """Steady the .mp4 files of the first folder into the second; give the number that failed."""
    if len(arguments) not in (2, 3) or not Path(arguments[0]).is_dir():
        sys.exit("usage: python dask_batch.py FOLDER_OF_VIDEOS FOLDER_OF_RESULTS [SCHEDULER]")
    videos = sorted(Path(arguments[0]).resolve().glob("*.mp4"))
    results = Path(arguments[1]).resolve()
    results.mkdir(parents=True, exist_ok=True)
    with Client(arguments[2]) if len(arguments) == 3 else Client(n_workers=2, dashboard_address=None) as client:
        items = video.stabilize_all(videos, video.result_paths(videos, results), executor=client)
    for item in items:
        print(f"{item.source.name}: {item.status}{f', {item.error}' if item.error else ''}")
    return sum(item.status == "failed" for item in items)


if __name__ == "__main__":  # the workers import this file
    sys.exit(min(main(*sys.argv[1:]), 1))
