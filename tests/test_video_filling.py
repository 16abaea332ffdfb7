"""The whole picture: kernel against its twin and the truth, neighbors, cuts, bounds, and the way through files."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import legato
from legato import video
from legato.errors import ArgumentError, InputError
from legato.video import _reference
from legato.video.filling import (
    Beyond,
    Filler,
    Lender,
    Neighborhood,
    Retreat,
    Source,
    reach_frames,
)
from legato.video.media.planes import Planes
from legato.video.warping import overhang_px, warp

SIZE = (176, 120)
MARGIN = 60
# From the picture to the frame: 24 pixels of it lie to the left of the frame, some above.
VIEW = np.array([[1.01, 0.004, -24.5], [-0.003, 0.99, -5.25], [0, 0, 1]])


def texture(width: int, height: int, seed: int = 3) -> np.ndarray:
    """Detail at several scales, smooth enough to be resampled, (height, width) floats."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(float)
    waves = rng.uniform(-0.45, 0.45, (40, 2))
    phase = rng.uniform(0, 6.28, 40)
    return np.asarray(128 + 7 * sum(np.sin(a * x + b * y + p) for (a, b), p in zip(waves, phase, strict=True)))


SCENE = texture(SIZE[0] + 2 * MARGIN, SIZE[1] + 2 * MARGIN)


def seen_from(dx: float, dy: float, gain: float = 1.0) -> np.ndarray:
    """What a camera moved by (dx, dy) sees of the scene."""
    shift = np.array([[1, 0, MARGIN + dx], [0, 1, MARGIN + dy], [0, 0, 1]])
    picture = _reference.warp_plane(SCENE, shift, SIZE, "bicubic")
    return np.clip(picture * gain, 0, 255).round().astype(np.uint8)


def lent(picture: np.ndarray | Planes, dx: float, dy: float, distance: int) -> Source:
    planes = picture if isinstance(picture, Planes) else Planes(picture)
    return Source(Lender(planes, np.eye(3), True), np.array([[1, 0, -dx], [0, 1, -dy], [0, 0, 1.0]]), distance)


def in_color(y: np.ndarray, depth: int, sx: int, sy: int) -> Planes:
    """Luma, and chroma that follows it, of so many bits."""
    dtype = np.uint8 if depth == 8 else np.uint16
    u = np.ascontiguousarray(y[::sy, ::sx])
    planes = [(plane.astype(int) << depth - 8).astype(dtype) for plane in (y, u, 255 - u)]
    return Planes(*planes, depth)


FRAME = seen_from(0, 0)
VIEWS = [(-14.3, -2.6, 1), (-30.5, 12.25, 2), (-28.0, -9.5, 3), (6.0, -9.0, 5)]


def completed(frame: Planes, sources: list[Source], correction: np.ndarray = VIEW) -> tuple[Planes, np.ndarray, Filler]:
    filler = Filler()
    drawn = warp(frame, correction, interpolation="bicubic")
    errors = filler(drawn, correction, Lender(frame, np.eye(3), True), sources)
    return drawn, errors, filler


def outside() -> np.ndarray:
    x, y = _reference.positions(VIEW, SIZE)
    return np.asarray((x < 0) | (y < 0) | (x > SIZE[0] - 1) | (y > SIZE[1] - 1))


def test_what_is_filled_is_the_truth() -> None:
    drawn, errors, filler = completed(Planes(FRAME), [lent(seen_from(dx, dy), dx, dy, k) for dx, dy, k in VIEWS])
    truth = _reference.warp_plane(SCENE, np.array([[1, 0, MARGIN], [0, 1, MARGIN], [0, 0, 1]]) @ VIEW, SIZE, "bicubic")
    beyond = outside()
    assert 0.1 < beyond.mean() < 0.3
    assert np.sqrt(np.mean((drawn.y - truth)[beyond] ** 2)) < 2.5
    assert np.isfinite(errors).all()
    assert filler.filling.outside[0] == pytest.approx(beyond.mean(), abs=1e-3)
    assert filler.filling.membrane[0] < 1e-3
    assert 0 < filler.filling.error[0] < 6


def test_the_frame_keeps_its_own_pixels() -> None:
    drawn, _, _ = completed(Planes(FRAME), [lent(seen_from(dx, dy), dx, dy, k) for dx, dy, k in VIEWS])
    own = warp(Planes(FRAME), VIEW, interpolation="bicubic")
    x, y = _reference.positions(VIEW, SIZE)
    deep = np.minimum(np.minimum(x, SIZE[0] - 1 - x), np.minimum(y, SIZE[1] - 1 - y)) > 6.01
    np.testing.assert_array_equal(drawn.y[deep], own.y[deep])


def test_the_kernel_does_what_its_twin_does() -> None:
    views = [
        (seen_from(dx, dy, gain), dx, dy, k) for (dx, dy, k), gain in zip(VIEWS, (1.0, 1.06, 0.95, 1), strict=True)
    ]
    drawn, errors, _ = completed(Planes(FRAME), [lent(p, dx, dy, k) for p, dx, dy, k in views])
    before = np.asarray(warp(Planes(FRAME), VIEW, interpolation="bicubic").y)
    sources = [(p, np.array([[1, 0, -dx], [0, 1, -dy], [0, 0, 1.0]]), k) for p, dx, dy, k in views]
    twin, beyond, twin_errors = _reference.fill_picture(before, FRAME, VIEW, sources)
    both = beyond & np.isfinite(twin)
    difference = np.abs(drawn.y - twin)[both]
    assert both.sum() > 0.99 * beyond.sum()
    assert difference.mean() < 0.6
    assert np.percentile(difference, 99) < 3.5
    tiles = errors > 0
    np.testing.assert_array_equal(tiles, twin_errors > 0)
    np.testing.assert_allclose(errors[tiles], twin_errors[tiles], rtol=0.15, atol=0.4)


def test_a_brighter_source_is_matched_at_the_seam() -> None:
    drawn, _, _ = completed(Planes(FRAME), [lent(seen_from(*VIEWS[1][:2], 1.12), *VIEWS[1])])
    truth = _reference.warp_plane(SCENE, np.array([[1, 0, MARGIN], [0, 1, MARGIN], [0, 0, 1]]) @ VIEW, SIZE, "bicubic")
    assert abs(np.mean((drawn.y - truth)[outside()])) < 3  # it is 15 brighter


@pytest.mark.parametrize(("depth", "sx", "sy"), [(8, 2, 2), (8, 1, 1), (8, 2, 1), (8, 4, 4), (10, 2, 2), (16, 2, 2)])
def test_chroma_and_depth(depth: int, sx: int, sy: int) -> None:
    views = [(in_color(seen_from(dx, dy), depth, sx, sy), dx, dy, k) for dx, dy, k in VIEWS]
    drawn, errors, _ = completed(in_color(FRAME, depth, sx, sy), [lent(p, dx, dy, k) for p, dx, dy, k in views])
    gray, gray_errors, _ = completed(Planes(FRAME), [lent(seen_from(dx, dy), dx, dy, k) for dx, dy, k in VIEWS])
    np.testing.assert_allclose(drawn.y / 2 ** (depth - 8), gray.y, atol=1.01)
    np.testing.assert_allclose(errors, gray_errors, rtol=0.05, atol=0.3)
    assert drawn.u is not None
    assert drawn.v is not None
    # Chroma is sited where luma is sampled, but for half a sample of 4:2:0.
    assert np.abs(drawn.u.astype(int) + drawn.v - (255 << depth - 8)).max() <= 2 << depth - 8
    beyond = outside()[::sy, ::sx]
    off = (drawn.u / 2 ** (depth - 8) - drawn.y[::sy, ::sx] / 2 ** (depth - 8))[beyond]
    assert np.sqrt(np.mean(off**2)) < (4 if max(sx, sy) == 1 else 24)


def test_without_sources_a_membrane_is_drawn() -> None:
    drawn, errors, filler = completed(in_color(FRAME, 8, 2, 2), [])
    assert filler.filling.membrane == filler.filling.outside
    assert np.isinf(errors[errors > 0]).all()
    own = warp(Planes(FRAME), VIEW, interpolation="bicubic").y.astype(float)
    column = drawn.y[40:80, :20].astype(float)
    assert np.abs(np.diff(column, axis=0)).mean() < 0.7 * np.abs(np.diff(own[40:80, :20], axis=0)).mean()


def test_a_picture_within_its_frame_is_left_alone() -> None:
    inside = np.array([[0.9, 0, 8], [0, 0.9, 6], [0, 0, 1]])
    drawn, errors, filler = completed(Planes(FRAME), [lent(FRAME, 3, 2, 1)], inside)
    np.testing.assert_array_equal(drawn.y, warp(Planes(FRAME), inside, interpolation="bicubic").y)
    assert not errors.any()
    assert filler.filling.outside == [0.0]
    assert overhang_px(inside[None], SIZE) == 0
    assert overhang_px(VIEW[None], SIZE) == pytest.approx(24.5, abs=0.5)


def test_sources_of_another_kind_are_refused() -> None:
    with pytest.raises(ArgumentError, match="sources"):
        completed(in_color(FRAME, 8, 2, 2), [lent(FRAME, 3, 2, 1)])
    with pytest.raises(ArgumentError):
        completed(Planes(FRAME), [lent(FRAME[:-1], 3, 2, 1)])


def neighbors(joined: list[bool], reach: int) -> list[list[tuple[int, float]]]:
    """Distance and shift of the sources of each frame; each frame lies a pixel further right than the one before."""
    step = np.array([[1, 0, 1.0], [0, 1, 0], [0, 0, 1]])
    around = Neighborhood(reach)
    given = []
    most = 0
    for t, known in enumerate(joined):
        given += list(around.push(t, Lender(Planes(FRAME), step, known)))
        most = max(most, len(around._kept))
    given += list(around.finish())
    assert [t for t, _, _ in given] == list(range(len(joined)))
    assert most <= 2 * reach + 1
    return [[(s.distance, float(s.map[0, 2])) for s in sources] for _, _, sources in given]


def test_neighbors_on_both_sides_and_their_maps() -> None:
    found = neighbors([False, *[True] * 39], 8)
    assert found[0] == [(k, -float(k)) for k in (1, 2, 3, 5, 8)]
    assert found[20] == [(k, sign * k) for k in (1, 2, 3, 5, 8) for sign in (1.0, -1.0)]
    assert found[39] == [(k, float(k)) for k in (1, 2, 3, 5, 8)]


def test_nothing_is_taken_across_a_cut() -> None:
    found = neighbors([False, *[True] * 9, False, *[True] * 9], 8)
    assert all(shift > 0 for _, shift in found[9])  # all lie before
    assert all(shift < 0 for _, shift in found[10])  # all lie after


def test_reach_follows_from_the_size() -> None:
    assert reach_frames(640 * 360 * 3 // 2, 30) == 60
    assert reach_frames(640 * 360 * 3 // 2, 60) == 120
    assert reach_frames(1920 * 1080 * 3 // 2, 30) == 60
    assert reach_frames(3840 * 2160 * 3 // 2, 30) == 15
    assert all(
        2 * reach_frames(size, rate) * size <= max(400 << 20, 6 * size)
        for size, rate in itertools.product((10**5, 10**7, 10**8), (24, 30, 120))
    )


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    clips = pytest.importorskip("clips", reason="needs PyAV, of the video extra")
    return Path(clips.write_clip(tmp_path_factory.mktemp("fill") / "in.mkv", clips.shaky(70, (192, 144), amplitude=6)))


def luma_of(path: Path) -> np.ndarray:
    with video.VideoReader(path) as reader:
        return np.array([frame.planes.y for frame in reader])


def test_the_preset_full_keeps_the_picture(clip: Path, tmp_path: Path) -> None:
    full = video.stabilize(clip, tmp_path / "full.mkv", preset="full", guard=False)
    usual = video.stabilize(clip, tmp_path / "usual.mkv", guard=False)
    assert usual.filled is None
    assert full.filled is not None
    assert full.filled["view"] == 0.98
    assert full.filled["reach_frames"] == 60
    assert full.filled["memory_bytes"] == (120 + 48) * 192 * 144 * 3 // 2
    assert 0 < full.filled["outside"] < 0.3
    assert full.filled["membrane"] < 0.3 * full.filled["outside"]
    assert full.cropping > usual.cropping
    assert full.jitter_out_px < 0.02 * full.jitter_in_px
    assert full.frames == 70
    assert '"filled": {' in full.to_json()
    assert "filled" in full.summary()


def test_what_the_report_says_was_filled_is_not_outside(clip: Path, tmp_path: Path) -> None:
    result, report = tmp_path / "full.mkv", tmp_path / "report.json"
    video.stabilize(clip, result, preset="full", guard=False, report=report)
    plain = video.evaluate(clip, result)
    told = video.evaluate(clip, result, report=report)
    assert plain.outside > 0.02
    assert told.outside < 0.1 * plain.outside
    assert told.cropping == plain.cropping
    report.write_text('{"filled": {}, "corrections": [[1, 0, 0]], "size": [192, 144]}')
    with pytest.raises(InputError, match="not a report"):
        video.evaluate(clip, result, report=report)
    report.write_text('{"filled": {}, "corrections": [], "size": [190, 144]}')
    with pytest.raises(InputError, match="another size"):
        video.evaluate(clip, result, report=report)
    video.stabilize(clip, result, guard=False, report=report)
    assert video.evaluate(clip, result, report=report).outside == video.evaluate(clip, result).outside


def test_any_preset_can_be_filled_and_full_left_unfilled(clip: Path, tmp_path: Path) -> None:
    filled = video.stabilize(clip, tmp_path / "a.mkv", fill=True, guard=False)
    cropped = video.stabilize(clip, tmp_path / "b.mkv", preset="full", fill=False, guard=False)
    assert filled.filled is not None
    assert filled.cropping > 0.92
    assert cropped.filled is None
    assert cropped.violation_px < 0.01
    with pytest.raises(ArgumentError, match="fill"):
        video.stabilize(clip, tmp_path / "c.mkv", fill="yes")  # type: ignore[arg-type]


def test_a_second_reading_draws_the_same(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import contextlib

    from legato.video import stages

    video.stabilize(clip, tmp_path / "kept.mkv", preset="full", guard=False, save_motion=tmp_path / "motion.jsonl")
    monkeypatch.setattr(stages, "room_for_pictures", lambda: contextlib.nullcontext(0))
    video.stabilize(clip, tmp_path / "again.mkv", preset="full", guard=False)
    monkeypatch.undo()
    video.render(clip, tmp_path / "motion.jsonl", tmp_path / "rendered.mkv", preset="full", guard=False)
    expected = luma_of(tmp_path / "kept.mkv")
    np.testing.assert_array_equal(luma_of(tmp_path / "again.mkv"), expected)
    np.testing.assert_array_equal(luma_of(tmp_path / "rendered.mkv"), expected)


WIDE = np.array([[1.0, 0, 12], [0, 1, 0], [0, 0, 1]])  # shows twelve pixels beyond the right edge


def settled(bad: dict[int, np.ndarray], count: int = 120) -> list[np.ndarray]:
    """What the view becomes where filling would have these errors in some pictures, and small ones in the others."""
    retreat: Retreat[int] = Retreat(SIZE)
    given = []
    for t in range(count):
        tried = (bad.get(t, CELLS[3.0]), Beyond(WIDE, SIZE, SIZE)) if retreat.looks_at(t) else ()
        given += list(retreat.push(t, *tried))
        assert len(given) == max(0, t + 1 - retreat.span)
    given += list(retreat.finish())
    assert [t for t, _ in given] == list(range(count))
    return [np.eye(3) if moved is None else moved for _, moved in given]


def cells(right: float) -> np.ndarray:
    errors = np.zeros((15, 22), np.float32)
    errors[:, -2:] = right
    return errors


CELLS = {error: cells(error) for error in (3.0, 42.0, 55.0, np.inf)}


def test_the_view_moves_away_from_the_side_where_filling_would_fail_and_slowly() -> None:
    assert not any((moved != np.eye(3)).any() for moved in settled({}))
    views = np.array(settled(dict.fromkeys(range(52, 68), CELLS[np.inf])))
    shift = views[:, 0, 2]
    assert shift[60] < -7
    assert (views[:, 0, 0] == 1).all()
    assert (views[:, 1] == [0, 1, 0]).all()
    assert np.abs(shift[:5]).max() < 0.1
    assert np.abs(np.diff(shift)).max() < 0.5
    assert np.abs(np.diff(shift, 2)).max() < 0.05
    assert np.array(settled(dict.fromkeys(range(52, 68), CELLS[42.0])))[60, 0, 2] > shift[60]


def test_what_a_side_gives_up() -> None:
    beyond = Beyond(WIDE, SIZE, SIZE)
    np.testing.assert_array_equal(beyond.given_up(CELLS[3.0]), 0)
    np.testing.assert_array_equal(beyond.given_up(CELLS[42.0]), 0)  # they are few
    left, right, top, bottom = beyond.given_up(CELLS[np.inf])
    assert (left, top, bottom) == (0, 0, 0)
    assert 8 <= right <= 12
    # Both sides fail: what is left is between them.
    wide = np.array([[1.2, 0, -0.1 * SIZE[0]], [0, 1.2, -0.1 * SIZE[1]], [0, 0, 1]])
    both = CELLS[np.inf] + CELLS[np.inf][:, ::-1]
    both[:2] = both[-2:] = 0
    left, right, top, bottom = Beyond(wide, SIZE, SIZE).given_up(both)
    assert left == pytest.approx(right, abs=1)
    assert left > 4
    assert (top, bottom) == (0, 0)
    retreat: Retreat[int] = Retreat(SIZE)
    given = [view for t in range(100) for _, view in retreat.push(t, both, Beyond(wide, SIZE, SIZE))]
    assert given[0] is not None
    assert given[0][0, 0] < 0.95
    assert given[0][0, 2] == pytest.approx((1 - given[0][0, 0]) * (SIZE[0] - 1) / 2, abs=1)
    assert 0.03 < retreat.mean < 0.2


PROBE = """
import hashlib
import test_video_filling as here
from legato import _core
digest, ran = hashlib.sha256(), set()
for depth, sx, sy in ((8, 2, 2), (10, 2, 1), (8, 4, 4)):
    views = [(here.in_color(here.seen_from(dx, dy), depth, sx, sy), dx, dy, k) for dx, dy, k in here.VIEWS]
    drawn, errors, _ = here.completed(here.in_color(here.FRAME, depth, sx, sy), [here.lent(*view) for view in views])
    ran.add(_core.last_isa())
    for plane in (drawn.y, drawn.u, drawn.v, errors):
        digest.update(plane.tobytes())
print(digest.hexdigest(), *ran)
"""


def test_every_instruction_set_gives_the_same_bits() -> None:
    answers = {}
    for isa in legato.build_info()["isas"]:
        environment = {**os.environ, "LEGATO_ISA": isa, "PYTHONPATH": str(Path(__file__).parent)}
        told = subprocess.run(
            [sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, check=True
        )
        answers[isa] = told.stdout.split()
    assert {isa: ran for isa, (_, *ran) in answers.items()} == {isa: [isa] for isa in answers}
    assert len({digest for digest, *_ in answers.values()}) == 1
