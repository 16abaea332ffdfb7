"""Steady a camera while it runs, ten frames late; drawn pictures where no camera is named.

python live_camera.py        # drawn
python live_camera.py 0      # a camera's number, or a file, with OpenCV
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

from legato import video


def drawn(count: int = 120) -> Iterator[np.ndarray]:
    """Draw views of a checkered wall by an unsteady hand."""
    rng = np.random.default_rng(0)
    wall = np.kron(rng.integers(0, 256, (50, 60, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    for x, y in np.rint(60 + rng.normal(scale=3, size=(count, 2))).astype(int):
        yield np.ascontiguousarray(wall[y : y + 240, x : x + 320])


def captured(name: str) -> Iterator[np.ndarray]:
    """Give the pictures of a camera or a file."""
    import cv2

    capture = cv2.VideoCapture(int(name) if name.isdigit() else name)
    if not capture.isOpened():
        sys.exit(f"{name}: no camera, and no video that OpenCV reads")
    while (read := capture.read())[0]:
        yield read[1]


def show(pictures: list[np.ndarray]) -> None:
    """Show pictures in a window, until Escape is pressed; needs the OpenCV that has windows, opencv-python."""
    import cv2

    for picture in pictures:
        cv2.imshow("steady", picture)
        if cv2.waitKey(1) == 27:
            sys.exit()


def shake(pictures: list[np.ndarray]) -> float:
    """Mean of how far the picture's content moves from frame to frame, in pixels."""
    height, width = pictures[0].shape[:2]
    tracker = video.Tracker((width, height))
    motions = [tracker.push(video.luma(picture)) for picture in pictures]
    moves = [motion.homography[:2, 2] for motion in motions if motion is not None]
    return float(np.linalg.norm(moves, axis=1).mean())


def main(*arguments: str) -> None:
    """Show a camera's steady pictures, or say what became of the drawn ones."""
    stabilizer, before, after = None, [], []
    for picture in captured(arguments[0]) if arguments else drawn():
        height, width = picture.shape[:2]
        stabilizer = stabilizer or video.Stabilizer((width, height), fps=30, latency_frames=10)
        steady = stabilizer.push(picture)  # none for ten frames, then one for each
        if arguments:
            show(steady)
        else:
            before.append(picture)
            after += steady
    if not arguments:
        after += stabilizer.flush()
        print(f"{len(after)} pictures, shake {shake(before):.2f} px a frame before, {shake(after):.2f} px after")


if __name__ == "__main__":
    main(*sys.argv[1:])
