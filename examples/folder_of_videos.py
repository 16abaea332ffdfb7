"""Steady every video of a folder; one that fails does not stop the others, and what is done is not done again.

python folder_of_videos.py shaky/ steady/
"""

from __future__ import annotations

import sys
from pathlib import Path

from legato import video

ENDINGS = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"}


def main(*arguments: str) -> int:
    """Steady the videos of the first folder into the second; give the number that failed."""
    if len(arguments) != 2 or not Path(arguments[0]).is_dir():
        sys.exit("usage: python folder_of_videos.py FOLDER_OF_VIDEOS FOLDER_OF_RESULTS")
    source, results = map(Path, arguments)
    videos = sorted(path for path in source.iterdir() if path.suffix.lower() in ENDINGS)
    if not videos:
        sys.exit(f"{source}: no file ends in {', '.join(sorted(ENDINGS))}")
    results.mkdir(parents=True, exist_ok=True)
    items = video.stabilize_all(videos, video.result_paths(videos, results), resume=True)
    for item in items:
        if item.report is not None:
            jitter = f"{item.report.jitter_in_px:.2f} px of jitter before, {item.report.jitter_out_px:.2f} after"
            print(f"{item.source.name}: {jitter}")
        else:
            print(f"{item.source.name}: {item.error or 'was done already'}")
    return sum(item.status == "failed" for item in items)


if __name__ == "__main__":
    sys.exit(min(main(*sys.argv[1:]), 1))
