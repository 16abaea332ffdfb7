"""Pictures in memory: clips of arrays and of PyAV's frames, planes as arrays, and the recipes of docs/arrays.md."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clips import SIZE, av, scene, shaky, write_clip
from legato import camera, video
from legato.errors import ArgumentError
from legato.video.media.colors import ColorTags

PAGE = Path(__file__).parents[1] / "docs" / "arrays.md"


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return np.stack(list(shaky(90)))


def jitter_px(pictures: Any) -> float:
    """How far the picture moves from frame to frame, without its slow parts."""
    tracker = video.Tracker(SIZE)
    steps = [m.homography for p in pictures if (m := tracker.push(video.luma(p))) is not None]
    motion = np.stack([np.eye(3), *steps])
    return float(camera.path_metrics(motion, np.tile(np.eye(3), (len(motion), 1, 1)), SIZE).input_jitter_px)


def frames_of(clip: np.ndarray, pixel_format: str) -> list[Any]:
    frames = []
    for t, picture in enumerate(clip):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixel_format)
        frame.pts, frame.time_base = 1000 + 40 * t, Fraction(1, 1200)
        frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc = 6, 1, 6, 6
        frames.append(frame)
    return frames


# --- clips --------------------------------------------------------------------------------------


def test_an_array_becomes_a_steady_array(clip: np.ndarray) -> None:
    steady = video.stabilize_frames(clip, 30)
    assert (steady.shape, steady.dtype) == (clip.shape, np.uint8)
    assert jitter_px(steady) < 0.2 * jitter_px(clip)
    gray = video.stabilize_frames(clip[..., 1], 30)
    assert gray.shape == clip.shape[:3]
    assert jitter_px(gray) < 0.2 * jitter_px(clip)
    deep = video.stabilize_frames(clip[..., 1].astype(np.uint16) << 8, 30)
    assert deep.dtype == np.uint16
    np.testing.assert_allclose(deep / 256.0, gray, atol=2)


def test_a_clip_in_memory_is_planned_as_a_file_is(clip: np.ndarray, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "in.mkv", clip, codec="ffv1", pixel_format="gray")
    report = video.stabilize(path, tmp_path / "out.mkv", codec="ffv1")
    with video.VideoReader(path) as reader, video.VideoReader(tmp_path / "out.mkv") as result:
        steady = list(video.stabilize_frames(iter(reader), 30))
        for mine, written in zip(steady, result, strict=True):
            np.testing.assert_allclose(mine.planes.y, written.planes.y, atol=1)  # Matroska's times are of whole ms
            assert mine.pts == written.pts
    assert report.path_status == "optimal"


@pytest.mark.parametrize("kind", ["arrays", "reused buffer", "planes", "rgb24", "yuv420p", "yuv420p10le", "gbrp10le"])
def test_what_goes_in_comes_out(clip: np.ndarray, kind: str) -> None:
    def reused() -> Iterator[np.ndarray]:
        buffer = np.empty_like(clip[0])
        for picture in clip:
            buffer[...] = picture
            yield buffer

    frames: Any = list(clip)
    if kind == "reused buffer":
        frames = reused()
    elif kind == "planes":
        frames = [video.as_planes(f) for f in frames_of(clip, "yuv422p")]
    elif kind != "arrays":
        frames = frames_of(clip, kind)
    steady = list(video.stabilize_frames(frames, 30))
    assert len(steady) == len(clip)
    assert jitter_px(steady) < 0.2 * jitter_px(clip)
    if kind in ("arrays", "reused buffer"):
        np.testing.assert_array_equal(np.stack(steady), video.stabilize_frames(clip, 30))
    elif kind == "planes":
        assert steady[0].subsampling == (2, 1)
    else:
        for before, after in zip(frames, steady, strict=True):
            for name in ("pts", "time_base", "colorspace", "color_range", "color_primaries", "color_trc"):
                assert getattr(after, name) == getattr(before, name), name
            assert (after.format.name, after.width, after.height) == (kind, *SIZE)


def test_the_iterator_reads_no_more_than_it_needs(clip: np.ndarray) -> None:
    taken = 0

    def counted() -> Iterator[np.ndarray]:
        nonlocal taken
        for _ in range(4):
            for picture in clip:
                taken += 1
                yield picture

    steady = video.stabilize_frames(counted(), 30)
    next(steady)
    assert taken <= 151  # a window and a block of second looks
    assert 1 + sum(1 for _ in steady) == taken == 4 * len(clip)


def test_what_rests_comes_out_as_it_was() -> None:
    still = np.stack([scene(SIZE)] * 10)
    np.testing.assert_array_equal(video.stabilize_frames(still, 30), still)
    assert list(video.stabilize_frames([], 30)) == []
    assert video.stabilize_frames(still[:0], 30).shape == (0, *still.shape[1:])
    for count in (1, 2, 3):
        assert len(video.stabilize_frames(still[:count], 30)) == count


def test_options_are_those_of_files(clip: np.ndarray) -> None:
    short = clip[:20]
    wide = video.stabilize_frames(short, 30, crop=0.3, guard=False)
    assert not np.array_equal(wide, video.stabilize_frames(short, 30, crop=0.05, guard=False))
    box = (40, 30, 60, 50)
    followed = video.stabilize_frames(short, 30, preset="follow", subject=box)
    assert followed.shape == short.shape
    for wrong, match in [
        ({"preset": "fast"}, "preset: expected one of"),
        ({"crop": 2.0}, "crop"),
        ({"interpolation": "nearest"}, "interpolation"),
        ({"mask": np.ones((3, 3), bool)}, "mask"),
        ({"preset": "follow"}, "center: nothing to follow"),
    ]:
        with pytest.raises(ArgumentError, match=match):
            video.stabilize_frames(short, 30, **wrong)
    with pytest.raises(ArgumentError, match="fps"):
        video.stabilize_frames(short, 0)
    with pytest.raises(ArgumentError, match=r"frames: expected shape \(n, h, w, 3\) or \(n, h, w\), got \(120, 160\)"):
        video.stabilize_frames(short[0, ..., 0], 30)
    with pytest.raises(ArgumentError, match="frames: expected an array or an iterable of frames, got int"):
        video.stabilize_frames(7, 30)
    with pytest.raises(ArgumentError, match="frames: expected 160x120 as the first, got 80x60 in frame 1"):
        list(video.stabilize_frames([short[0], short[0][:60, :80]], 30))
    with pytest.raises(ArgumentError, match="frame: expected Planes, a NumPy array or a frame of PyAV's, got str"):
        video.stabilize_frames(["picture"], 30)


# --- PyAV's frames ------------------------------------------------------------------------------


def test_the_stabilizer_takes_and_gives_frames_of_pyav(clip: np.ndarray) -> None:
    frames = frames_of(clip[:30], "yuv420p")
    stabilizer = video.Stabilizer(SIZE, 30, latency_frames=3)
    steady = [out for frame in frames for out in stabilizer.push(frame)] + stabilizer.flush()
    assert [f.pts for f in steady] == [f.pts for f in frames]
    assert {type(f).__name__ for f in steady} == {"VideoFrame"}
    other = video.Stabilizer(SIZE, 30, latency_frames=3)
    planes = [out for frame in frames for out in other.push(video.as_planes(frame))] + other.flush()
    for mine, theirs in zip(steady, planes, strict=True):
        np.testing.assert_array_equal(video.as_planes(mine).u, theirs.u)


def test_tracker_and_warp_take_frames_of_pyav(clip: np.ndarray) -> None:
    motions = []
    for kind in ("yuv420p", "yuv420p10le"):
        frames, tracker = frames_of(clip[:2], kind), video.Tracker(SIZE)
        assert tracker.push(frames[0]) is None
        motions.append(tracker.push(frames[1]).homography)
    deep = video.Tracker(SIZE, bit_depth=10)
    deep.push(frames[0])
    motions.append(deep.push(video.as_planes(frames[1])).homography)
    for motion in motions:
        np.testing.assert_allclose(motion, motions[0], atol=0.05)
    half = video.warp(frames[0], np.diag([2.0, 2.0, 1.0]), (80, 60))
    assert (half.format.name, half.width, half.height, half.pts) == ("yuv420p10le", 80, 60, frames[0].pts)
    with pytest.raises(ArgumentError, match="out: expected none for a frame of PyAV's"):
        video.warp(frames[0], np.eye(3), out=frames[1])


@pytest.mark.parametrize(
    ("pixel_format", "expected"),
    [("yuvj420p", "yuv420p"), ("nv12", "yuv420p"), ("yuva420p", "yuv420p"), ("gray", "gray"), ("yuyv422", "yuv422p")],
)
def test_any_frame_has_planes(clip: np.ndarray, pixel_format: str, expected: str) -> None:
    frame = frames_of(clip[:1], pixel_format)[0]
    planes = video.as_planes(frame)
    other = frame.reformat(format=expected)
    first = other.planes[0]
    rows = np.frombuffer(bytes(first), np.uint8).reshape(first.height, first.line_size)[:, : first.width]
    np.testing.assert_allclose(planes.y, rows, atol=18 if pixel_format == "yuvj420p" else 0)
    assert (planes.u is None) == (expected == "gray")
    assert planes.chroma_location == ("center" if pixel_format == "yuvj420p" else "left")
    assert not planes.y.flags.writeable
    packed = video.as_planes(frames_of(clip[:1], "rgb24")[0])
    np.testing.assert_array_equal(packed, clip[0][..., ::-1])


# --- planes as arrays ---------------------------------------------------------------------------


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("matrix", "red", "blue"), [(6, 0.299, 0.114), (1, 0.2126, 0.0722), (9, 0.2627, 0.0593)])
def test_planes_become_colors_by_their_matrix(full: bool, matrix: int, red: float, blue: float) -> None:
    rng = np.random.default_rng(matrix)
    rgb = rng.uniform(0.1, 0.9, (1, 40, 3)).repeat(4, 0).repeat(4, 1)  # flat cells: chroma is not resampled
    luma = rgb @ [red, 1 - red - blue, blue]
    cb, cr = (rgb[..., 2] - luma) / (2 - 2 * blue), (rgb[..., 0] - luma) / (2 - 2 * red)
    scale, low, chroma = (255, 0, 255) if full else (219, 16, 224)
    y, u, v = (np.rint(p).astype(np.uint8) for p in (luma * scale + low, cb * chroma + 128, cr * chroma + 128))
    planes = video.Planes(y, u[:, ::2].copy(), v[:, ::2].copy())
    tags = ColorTags(range=2 if full else 1, matrix=matrix)
    got = planes.to_array("rgb", color=tags)
    assert np.abs(got - 255 * rgb).max() < 5
    np.testing.assert_array_equal(planes.to_array("bgr", color=tags), got[..., ::-1])
    gray = planes.to_array("gray", color=tags)
    assert gray.shape == y.shape
    assert np.abs(gray - 255 * luma).max() < 3


def test_frames_of_a_file_become_colors(clip: np.ndarray, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "in.mkv", clip[:3], codec="ffv1", pixel_format="yuv444p")
    with video.VideoReader(path) as reader:
        for frame, picture in zip(reader, clip, strict=False):
            assert np.abs(frame.to_array("rgb").astype(int) - picture).max() <= 3
            assert frame.to_array("gray").shape == SIZE[::-1]
    with pytest.raises(ArgumentError, match="order: expected one of rgb, bgr, gray"):
        frame.planes.to_array("rgba")
    for order, shape in (("gray", (4, 4)), ("rgb", (4, 4, 3))):  # gray has a range, too
        limited = video.Planes(np.full((4, 4), 126, np.uint8)).to_array(order)
        np.testing.assert_array_equal(limited, np.full(shape, 128))
    deep = video.Planes(np.full((4, 4), 1023 << 2, np.uint16), bit_depth=12)
    assert deep.to_array("gray", color=ColorTags(range=2)).max() >= 254


# --- the page -----------------------------------------------------------------------------------


def recipes() -> list[tuple[str, str]]:
    sections = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]
    found = []
    for section in sections:
        name = section.partition("\n")[0]
        found += [(f"{name} {k}", code) for k, code in enumerate(re.findall(r"```python\n(.*?)```", section, re.S))]
    return found


@pytest.mark.parametrize(("name", "code"), recipes(), ids=[name for name, _ in recipes()])
@pytest.mark.filterwarnings("ignore")  # of the packages themselves
def test_the_recipes_run(name: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in re.findall(r"^(?:import|from) (imageio|moviepy|cv2)", code, re.MULTILINE):
        try:
            importlib.import_module(module)
        except ImportError:
            pytest.skip(f"needs {module}, of the extra peers")
    monkeypatch.chdir(tmp_path)
    write_clip(Path("shaky.mp4"), shaky(40), sound="aac")
    variables: dict[str, Any] = {}
    exec(compile(code, f"{PAGE.name}: {name}", "exec"), variables)
    results = [path for path in tmp_path.iterdir() if path.name.startswith("steady")]
    if not results:
        assert variables["shown"] == (30 if "vidgear" in name else 40)  # which gives nothing for the first frames
        return
    with video.VideoReader(results[0]) as reader:
        frames = list(reader)
        assert (reader.width, reader.height) == SIZE
    assert abs(len(frames) - 40) <= 1  # moviepy rounds the length
    assert jitter_px([frame.planes for frame in frames]) < 1.5
