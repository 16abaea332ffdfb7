"""The picture inside of black bars is the frame: bars stand still, and nothing of them is dragged into the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clips import shaky, write_clip
from legato import video
from legato.video.media.planes import luma
from legato.video.motion.letterbox import bars, picture_inside

LETTERBOX = Path(__file__).parent / "data" / "video" / "letterbox.mp4"
SIZE = (160, 120)


def boxed(count: int, left: int, top: int, right: int, bottom: int, *, level: int = 16) -> list[np.ndarray]:
    pictures = [picture.mean(2).astype(np.uint8) for picture in shaky(count, SIZE)]
    for picture in pictures:
        picture[:top] = picture[SIZE[1] - bottom :] = picture[:, :left] = picture[:, SIZE[0] - right :] = level
    return pictures


@pytest.mark.parametrize("box", [(0, 16, 0, 16), (20, 0, 24, 0), (12, 10, 12, 14)])
def test_bars_are_found(box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    assert bars(boxed(12, *box)) == (left, top, SIZE[0] - left - right, SIZE[1] - top - bottom)


def test_what_is_no_bar() -> None:
    assert bars(boxed(12, 0, 0, 0, 0)) is None
    assert bars(boxed(12, 0, 16, 0, 0)) is None  # one side alone
    assert bars(boxed(12, 0, 16, 0, 16, level=200)) is None  # the margins of slides
    assert bars(boxed(12, 0, 3, 0, 3)) is None
    assert bars([np.full((120, 160), 16, np.uint8)] * 5) is None  # all is black
    changing = [picture + np.uint8(4 * t) for t, picture in enumerate(boxed(6, 0, 16, 0, 16, level=4))]
    assert bars(changing) is None


def test_bars_stand_still(tmp_path: Path) -> None:
    with video.VideoReader(LETTERBOX) as reader:
        x, y, width, height = picture_inside(reader) or (0, 0, 0, 0)
    assert (x, y, width) == (0, 44, 640)
    assert 360 - 88 - 2 <= height <= 360 - 88  # the codec has darkened the last line
    report = video.stabilize(LETTERBOX, tmp_path / "out.mkv", codec="ffv1")
    assert report.path_status == "optimal"
    assert report.guard_ratio < 0.6
    with video.VideoReader(LETTERBOX) as before, video.VideoReader(tmp_path / "out.mkv") as after:
        for old, new in zip(before, after, strict=True):
            for rows in (slice(0, 44), slice(-44, None)):
                np.testing.assert_array_equal(luma(new.planes)[rows], luma(old.planes)[rows])
            edges = luma(new.planes)[[44, -47]]  # the picture reaches to them
            assert (edges > 32).mean() > 0.5
    analysis = video.analyze(LETTERBOX)
    again = video.render(LETTERBOX, analysis, tmp_path / "again.mkv", codec="ffv1")
    np.testing.assert_array_equal(again.corrections, report.corrections)
    points = np.full((len(analysis), 1, 2), 160.0)
    kept = video.render(LETTERBOX, analysis, tmp_path / "again.mkv", salient=points, codec="ffv1")
    assert kept.path_status == "optimal"


def test_the_picture_between_bars_is_filled(tmp_path: Path) -> None:
    report = video.stabilize(LETTERBOX, tmp_path / "out.mkv", preset="full", codec="ffv1")
    assert report.filled is not None
    assert report.filled["outside"] > 0.005
    assert report.cropping > 0.95
    with video.VideoReader(LETTERBOX) as before, video.VideoReader(tmp_path / "out.mkv") as after:
        for old, new in zip(before, after, strict=True):
            for rows in (slice(0, 44), slice(-44, None)):
                np.testing.assert_array_equal(luma(new.planes)[rows], luma(old.planes)[rows])
            assert (luma(new.planes)[[46, -49]] > 32).mean() > 0.5


def test_a_clip_that_begins_black_may_have_none(tmp_path: Path) -> None:
    dark = [np.zeros((120, 160, 3), np.uint8)] * 3
    clip = write_clip(tmp_path / "in.mp4", [*dark, *shaky(20)])
    with video.VideoReader(clip) as reader:
        assert picture_inside(reader) is None
    with video.VideoReader(clip) as reader:
        next(iter(reader))
        assert picture_inside(reader) is None  # too late to ask
