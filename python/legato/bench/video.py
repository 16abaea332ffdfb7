"""Video: warp and tracker beside OpenCV on one drawn picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np

from legato.bench.timing import Row
from legato.video import Planes, Tracker, warp
from legato.video.synthetic.scenery import render_scene

__all__ = ["PEERS", "rows"]

PEERS = ("numpy", "cv2")
_SHAKE = np.array([[0.93, -0.024, 30], [0.024, 0.93, 9], [8e-6, -6e-6, 1]])
_SHIFT = np.array([[1.0, 0, 3.5], [0, 1, -2.25], [0, 0, 1]])


def rows(peers: Mapping[str, Any]) -> Iterator[Row]:
    """Give the rows of the family; without OpenCV, which draws the picture, there are none."""
    if "cv2" not in peers:
        return
    yield _warp("bilinear", (640, 360), 8)
    yield _warp("bicubic", (1280, 720), 8)
    yield _warp("bilinear", (1280, 720), 10)
    yield _tracker()


def _picture(size: tuple[int, int], bits: int = 8) -> Planes:
    packed = render_scene(3, size)
    dtype: Any = np.uint8 if bits == 8 else np.uint16
    y, u, v = (
        np.ascontiguousarray(plane, dtype) * dtype(1 << (bits - 8))
        for plane in (packed[:, :, 1], packed[::2, ::2, 0], packed[::2, ::2, 2])
    )
    return Planes(y, u, v, bit_depth=bits)


def _warp(interpolation: Literal["bilinear", "bicubic"], size: tuple[int, int], bits: int) -> Row:
    source, out, other = (_picture(size, bits) for _ in range(3))

    def agree(ours: Any, theirs: Any) -> None:
        assert np.abs(ours.y.astype(int) - theirs.y).max() <= 2 << (bits - 8)

    return Row(
        "video",
        f"warp {interpolation} {size[0]}x{size[1]}, three planes of {bits} bits",
        lambda: warp(source, _SHAKE, interpolation=interpolation, out=out),
        {"OpenCV": lambda: warp(source, _SHAKE, interpolation=interpolation, out=other, backend="opencv")},
        agree,
    )


def _tracker() -> Row:
    first = _picture((640, 360)).y
    second = warp(first, _SHIFT)

    def following(backend: Literal["native", "opencv"]) -> Any:
        tracker = Tracker((640, 360), backend=backend)
        tracker.push(first)

        def there_and_back() -> Any:
            tracker.push(second)
            motion = tracker.push(first)
            assert motion is not None
            return motion.homography

        return there_and_back

    def agree(ours: Any, theirs: Any) -> None:
        for found in (ours, theirs):
            assert np.abs(found[:2, 2] - (-3.5, 2.25)).max() < 0.2

    return Row("video", "tracker, two pictures of 640x360", following("native"), {"OpenCV": following("opencv")}, agree)
