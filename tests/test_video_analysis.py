"""Motion files, presets, masks, subjects: what happens between the two passes."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clips import SIZE, leftovers, pictures, scene, shaky, times, turned, write_clip
from legato import camera, video
from legato.errors import ArgumentError, InfeasibleError, InputError, LegatoError
from legato.video import pipeline
from legato.video.motion import subjects
from legato.video.motion.analysis import read_mask
from legato.video.motion.subjects import SubjectTracker, box_corners, read_salient
from legato.video.presets import PRESETS, preset_named

av = pytest.importorskip("av", reason="needs PyAV")

FAST = {"encoder_preset": "ultrafast"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shaky clip."""
    return write_clip(tmp_path_factory.mktemp("clip") / "in.mp4", shaky(30))


@pytest.fixture(scope="module")
def analysis(clip: Path) -> video.Analysis:
    return video.analyze(clip)


def same(one: video.Analysis, two: video.Analysis) -> None:
    for name in ("motion", "ok", "duplicate", "confidence", "pts", "subject"):
        a, b = getattr(one, name), getattr(two, name)
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_array_equal(a, b)
    for name in ("size", "time_base", "frame_rate", "duration_s", "rotation", "notes"):
        assert getattr(one, name) == getattr(two, name)


# --- motion files -------------------------------------------------------------------------------


def test_a_motion_file_takes_the_place_of_the_first_pass(clip: Path, tmp_path: Path) -> None:
    whole = video.stabilize(clip, tmp_path / "a.mp4", save_motion=tmp_path / "m.jsonl", crf=0, **FAST)
    video.analyze(clip).save(tmp_path / "again.jsonl")
    assert (tmp_path / "m.jsonl").read_bytes() == (tmp_path / "again.jsonl").read_bytes()
    later = video.render(clip, tmp_path / "m.jsonl", tmp_path / "b.mp4", crf=0, **FAST)
    np.testing.assert_array_equal(pictures(tmp_path / "a.mp4"), pictures(tmp_path / "b.mp4"))
    np.testing.assert_array_equal(whole.corrections, later.corrections)
    assert later.motion_file == str(tmp_path / "m.jsonl")
    assert "track" not in later.seconds
    other = video.render(clip, video.Analysis.load(tmp_path / "m.jsonl"), tmp_path / "c.mp4", crop=0.3, **FAST)
    assert other.cropping < later.cropping
    assert leftovers(tmp_path) == []


def test_what_is_saved_comes_back_exactly(tmp_path: Path) -> None:
    pictures = list(shaky(16))
    pictures[5] = pictures[4]
    pictures[9] = np.zeros_like(pictures[9])
    rng = np.random.default_rng(2)
    pts = np.cumsum(rng.integers(20, 60, 16)).tolist()
    clip = write_clip(tmp_path / "in.mp4", pictures, pts=pts, time_base=Fraction(1, 1000))
    analysis = video.analyze(clip, subject=(50, 40, 40, 40))
    assert analysis.duplicate[5]
    assert 9 in analysis.failed
    analysis.save(tmp_path / "m.jsonl")
    with pytest.raises(ArgumentError, match="is the same file as the source"):
        video.Analysis.load(tmp_path / "m.jsonl").save(tmp_path / "m.jsonl")
    same(analysis, video.Analysis.load(tmp_path / "m.jsonl"))


def test_the_smallest_motion_file_of_other_software(clip: Path, analysis: video.Analysis, tmp_path: Path) -> None:
    lines = [{"format": "legato-motion", "version": 1, "size": list(SIZE)}]
    lines += [{"homography": H.ravel().tolist()} for H in analysis.motion]
    file = tmp_path / "m.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))  # no last newline
    report = video.render(clip, file, tmp_path / "out.mp4", **FAST)
    own = video.render(clip, analysis, tmp_path / "own.mp4", **FAST)
    np.testing.assert_allclose(report.corrections, own.corrections, atol=1e-9)
    assert report.frame_rate == 30
    assert times(tmp_path / "out.mp4") == times(clip)


def test_orientations_of_a_gyroscope(tmp_path: Path) -> None:
    """A camera that turns by known angles: the homographies are K R_before^T R_now K^-1."""
    angles = np.radians([0.0, 1.0, 3.0])
    head = {"format": "legato-motion", "version": 1, "size": [160, 120], "camera": [200, 200, 79.5, 59.5]}
    rows = [{"orientation": [np.cos(a / 2), 0, 0, 2 * np.sin(a / 2) / 2]} for a in angles]  # roll
    (tmp_path / "roll.jsonl").write_text("\n".join(map(json.dumps, [head, *rows])))
    motion = video.Analysis.load(tmp_path / "roll.jsonl").motion
    center = np.array([79.5, 59.5])
    for t, step in ((1, np.radians(1)), (2, np.radians(2))):
        turn = np.array([[np.cos(step), -np.sin(step)], [np.sin(step), np.cos(step)]])
        expected = np.eye(3)
        expected[:2, :2], expected[:2, 2] = turn, center - turn @ center
        np.testing.assert_allclose(motion[t], expected, atol=1e-12)
    rows = [{"orientation": [2 * np.cos(a / 2), 0, 2 * np.sin(a / 2), 0]} for a in angles]  # pan, any length
    (tmp_path / "pan.jsonl").write_text("\n".join(map(json.dumps, [head, *rows])))
    pan = video.Analysis.load(tmp_path / "pan.jsonl").motion
    moved = pan[1] @ [*center, 1]
    np.testing.assert_allclose(moved[:2] / moved[2], [center[0] + 200 * np.tan(np.radians(1)), center[1]], atol=1e-9)


HEAD = '{"format":"legato-motion","version":1,"size":[160,120]}\n'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "not a motion file"),
        ("hello\n", "not a motion file"),
        ("[1]\n", "line 1: expected a JSON object"),
        ('{"format":"other"}\n', "not a motion file"),
        ('{"format":"legato-motion","version":2}\n', "version 2, expected 1"),
        ('{"format":"legato-motion","version":1}\n', "size: expected 2"),
        ('{"format":"legato-motion","version":1,"size":[0,5]}\n', "size: expected width"),
        (HEAD, "no frame"),
        (HEAD + '{"homography":[1,2]}\n', "line 2: homography: expected 9"),
        (HEAD + '{"homography":[1,0,0,0,1,0,0,0,NaN]}\n', "line 2: homography: expected 9 finite"),
        (HEAD + '{"homography":[1,0,0,0,1,0,0,0,1' + "0" * 400 + "]}\n", "line 2: not JSON .a number of 401 digits"),
        (HEAD + '{}\n{"homogr', "line 3: not JSON .Unterminated string starting at column 2.; is the file complete"),
        (HEAD + '{"pts":1}\n{"pts":1}\n', "pts: expected whole numbers that increase"),
        (HEAD + '{"pts":1}\n{"pts":2}\n', "pts need a 'time_base'"),
        (HEAD.replace("}", ',"time_base":"1/0"}') + '{"pts":1}\n', "time_base: expected seconds"),
        (HEAD.replace("}", ',"time_base":1e300,"notes":3}') + '{"pts":1}\n', "time_base: expected seconds"),
        (HEAD.replace("}", ',"time_base":"1/30"}') + '{"pts":1}\n{}\n', "pts: expected in all frames or in none"),
        (HEAD.replace("}", ',"frames":3}') + "{}\n{}\n", "2 frames where the first line says 3; is the file complete"),
        (HEAD.replace("}", ',"frame_rate":-1}') + "{}\n", "frame_rate: expected a number above 0"),
        (HEAD.replace("}", ',"rotation":"x"}') + "{}\n", "rotation: expected"),
        (HEAD + '{"orientation":[1,0,0,0]}\n', "needs 'camera'"),
        (HEAD.replace("}", ',"camera":[1,1,0,0]}') + '{"orientation":[0,0,0,0]}\n', "orientation: expected a quat"),
        (
            HEAD.replace("}", ',"camera":[1e-300,1,0,0]}')
            + '{"orientation":[1,0,0,0]}\n{"orientation":[0.7,0,0.7,0]}\n',
            "line 3: orientation: .* no homography",
        ),
        *(
            (HEAD.replace("}", f',"time_base":{base}}}') + '{"pts":0}\n', "line 1: time_base: expected seconds")
            for base in ('"1e-99999999"', '"1e99999999"', f'"1/{"9" * 5000}"', f'"0.{"0" * 5000}1"', "1e-400", "true")
        ),
        (HEAD + "[" * 100_000 + "]" * 100_000, "line 2: not JSON"),
        ("[" * 100_000, "not a motion file"),
        (HEAD.replace("1,", f'"{"v" * 100_000}",'), r"version 'v+\.\.\.v+', expected 1"),
        (HEAD.replace("}", f',"frames":1{"0" * 4000}}}') + "{}\n", "not a motion file of Legato"),
        (HEAD + '{"pts":1' + "0" * 5000 + "}\n", "line 2: not JSON"),
        (HEAD + '{"homography":null' + " " * (1 << 20) + "}\n", "line 2: longer than 1048576 bytes"),
        ("\xff\xfe\n", "not a motion file"),
    ],
)
def test_bad_motion_files_name_the_line(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "m.jsonl").write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=words) as caught:
        video.Analysis.load(tmp_path / "m.jsonl")
    assert str(caught.value).startswith(f"{tmp_path / 'm.jsonl'}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(tmp_path)) + 200


def test_ten_gigabytes_in_one_line_are_not_read(clip: Path, tmp_path: Path) -> None:
    """Zeros that take no room on the disk, in each kind of file that is read as text."""
    with (tmp_path / "long.json").open("wb") as file:
        file.truncate(10 << 30)
    with (tmp_path / "long.jsonl").open("wb") as file:
        file.write(HEAD.encode())
        file.truncate(10 << 30)
    with pytest.raises(InputError, match=r"long\.json: not a motion file"):
        video.Analysis.load(tmp_path / "long.json")
    with pytest.raises(InputError, match=r"long\.jsonl: line 2: longer than"):
        video.render(clip, tmp_path / "long.jsonl", tmp_path / "out.mp4")
    with pytest.raises(InputError, match=r"long\.json: longer than"):
        read_salient(tmp_path / "long.json", 4)


def test_the_unit_of_time_that_never_ended() -> None:
    with pytest.raises(InputError, match=r"timebase\.jsonl: line 1: time_base: expected seconds such as '1/90000'"):
        video.Analysis.load(Path(__file__).parent / "data" / "timebase.jsonl")


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ('"1/90000"', Fraction(1, 90_000)),
        ('"1001/30000"', Fraction(1001, 30_000)),
        ('"0.04"', Fraction(1, 25)),
        ("0.5", Fraction(1, 2)),
        ("1", Fraction(1)),
    ],
)
def test_units_of_time(tmp_path: Path, given: str, read: Fraction) -> None:
    (tmp_path / "m.jsonl").write_text(HEAD.replace("}", f',"time_base":{given}}}') + '{"pts":0}\n')
    assert video.Analysis.load(tmp_path / "m.jsonl").time_base == read


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_damaged_motion_file_is_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, analysis: video.Analysis, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    analysis.save(folder / "m.jsonl")
    content = bytearray((folder / "m.jsonl").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "m.jsonl").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        read = video.Analysis.load(folder / "m.jsonl")
    except InputError:
        return
    assert len(read) == 30
    assert np.isfinite(read.motion).all()


@pytest.mark.parametrize("kind", ["random", "zero", "mirror", "far", "tiny"])
def test_motion_that_no_camera_makes_ends_in_an_error_or_a_whole_video(clip: Path, tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(1)
    motion = np.tile(np.eye(3), (30, 1, 1))
    motion[10:20] = {
        "random": rng.normal(size=(10, 3, 3)),
        "zero": np.zeros((3, 3)),
        "mirror": np.diag([-1.0, 1, 1]),
        "far": [[1, 0, 1e9], [0, 1, 0], [0, 0, 1]],
        "tiny": np.eye(3) * 1e-200,
    }[kind]
    analysis = video.Analysis(
        size=SIZE, motion=motion, ok=np.ones(30, bool), duplicate=np.zeros(30, bool), confidence=np.ones(30)
    )
    try:
        report = video.render(clip, analysis, tmp_path / "out.mp4", **FAST)
    except LegatoError:
        assert list(tmp_path.iterdir()) == []
        return
    assert report.violation_px == 0
    assert len(times(tmp_path / "out.mp4")) == 30


def test_motion_of_another_video_is_refused(clip: Path, tmp_path: Path) -> None:
    others = {
        "more": write_clip(tmp_path / "short.mp4", shaky(25)),
        "only 30": write_clip(tmp_path / "long.mp4", shaky(31)),
        "motion of a video of 96x64": write_clip(tmp_path / "small.mp4", shaky(30, (96, 64))),
        "frame 1 is shown at 0.0333 s, not at 0.0400 s": write_clip(tmp_path / "slow.mp4", shaky(30), rate=25),
    }
    for words, other in others.items():
        with pytest.raises(InputError, match=words):
            video.render(clip, video.analyze(other), tmp_path / "out.mp4", **FAST)
    with pytest.raises(InputError, match="cannot be read"):
        video.render(clip, tmp_path / "absent.jsonl", tmp_path / "out.mp4")
    with pytest.raises(ArgumentError, match="mask, region and subject: the motion is given"):
        video.render(clip, video.analyze(clip), tmp_path / "out.mp4", region=(0, 0, 50, 50))
    (tmp_path / "m.mp4").write_text("")
    with pytest.raises(ArgumentError, match=r"destination: .* is the same file as the motion"):
        video.render(clip, tmp_path / "m.mp4", tmp_path / "m.mp4")
    assert not (tmp_path / "out.mp4").exists()
    assert leftovers(tmp_path) == []


# --- known shake in, index-exact correction out -------------------------------------------------


@settings(deadline=None, max_examples=10)
@given(
    steps=st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=2, max_size=10),
    gaps=st.integers(0, 10_000),
    kept=st.booleans(),
)
def test_each_frame_gets_the_correction_of_its_own_shake(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int]], gaps: int, kept: bool
) -> None:
    """Whole-pixel shakes of one picture: the motion found is that of the frame, and so is the picture written."""
    folder = tmp_path_factory.mktemp("steps")
    places = np.cumsum([(0, 0), *steps], axis=0)
    places -= places.min(0)
    whole = scene((SIZE[0] + int(places[:, 0].max()), SIZE[1] + int(places[:, 1].max())), seed=4)
    views = [np.ascontiguousarray(whole[y : y + SIZE[1], x : x + SIZE[0]]) for x, y in places]
    pts = np.cumsum(np.random.default_rng(gaps).integers(1, 9, len(views))).tolist()
    clip = write_clip(folder / "in.mkv", views, codec="ffv1", pts=[40 * p for p in pts], time_base=Fraction(1, 1000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "_MOST_KEPT_BYTES", 1 << 30 if kept else 0)
        report = video.stabilize(clip, folder / "out.mkv", codec="ffv1")
    for t, (dx, dy) in enumerate(steps, start=1):
        center = np.array([79.5, 59.5, 1])
        np.testing.assert_allclose((report.motion[t] @ center - center)[:2], [dx, dy], atol=0.2)
    assert times(folder / "out.mkv") == times(clip)
    with video.VideoReader(clip) as before, video.VideoReader(folder / "out.mkv") as after:
        for correction, one, two in zip(report.corrections, before, after, strict=True):
            expected = video.warp(one.planes, correction, interpolation="bicubic")
            np.testing.assert_array_equal(two.planes.y, expected.y)


# --- presets ------------------------------------------------------------------------------------


def test_presets_trade_view_for_steadiness(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", shaky(30, amplitude=9))
    analysis = video.analyze(clip)
    reports = {
        name: video.render(clip, analysis, tmp_path / "out.mp4", preset=name, **FAST)
        for name in ("gentle", "standard", "smooth")
    }
    jitter = [r.planned_jitter_out_px for r in reports.values()]
    view = [r.cropping for r in reports.values()]
    assert sorted(jitter, reverse=True) == jitter
    assert sorted(view, reverse=True) == view
    assert reports["standard"].options["crop"] == camera.PathOptions().crop
    assert preset_named("pan") is PRESETS["standard"]
    assert preset_named("walk") is PRESETS["smooth"]
    with pytest.raises(ArgumentError, match=r"preset: expected one of gentle, .*encoder_preset"):
        video.render(clip, analysis, tmp_path / "out.mp4", preset="veryfast")


def test_the_tripod_stands_still(tmp_path: Path) -> None:
    truth = video.synthesize(tmp_path / "still.mp4", kind="still", seed=2, size=(320, 180), frames=60)
    report = video.stabilize(tmp_path / "still.mp4", tmp_path / "out.mp4", preset="tripod", **FAST)
    width, height = truth.size
    corners = np.array([[0, width, width, 0], [0, 0, height, height], [1, 1, 1, 1]], float)
    place = np.eye(3)
    seen = []
    for t, correction in enumerate(report.corrections):
        place = place @ truth.motion[t]
        at = place @ correction @ corners
        seen.append(at[:2] / at[2])
    shake = [float(np.ptp(np.cumsum(truth.motion[:, axis, 2]))) for axis in (0, 1)]
    assert min(shake) > 3  # there was something to do
    assert np.ptp(np.array(seen), axis=0).max() < 1


def test_following_needs_something_to_follow(clip: Path, analysis: video.Analysis, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="nothing to follow"):
        video.render(clip, analysis, tmp_path / "out.mp4", preset="follow")
    with pytest.raises(ArgumentError, match="center: expected"):
        video.render(clip, analysis, tmp_path / "out.mp4", center=-1)


# --- masks, regions -----------------------------------------------------------------------------


def half_moving(count: int = 16) -> list[np.ndarray]:
    """A still scene on the left, and on the right one that moves by three pixels a frame."""
    width, height = 240, 120
    still, moving = scene((width, height), 1), scene((width + 3 * count, height), 2)
    pictures = []
    for t in range(count):
        picture = still.copy()
        picture[:, width // 3 :] = moving[:, width // 3 + 3 * t : width + 3 * t]
        picture[:4, :4] = 255 * (t % 2)  # or the left half would count as repeated
        pictures.append(picture)
    return pictures


def test_mask_and_region_choose_the_scene(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mkv", half_moving(), codec="ffv1")
    left = np.zeros((120, 240), np.uint8)
    left[:, :76] = 255
    right = write_clip(
        tmp_path / "right.png",
        [np.repeat((255 - left)[..., None], 3, 2)],
        codec="png",
        pixel_format="rgb24",
        container="image2",
    )
    horizontal = {
        "mask": video.analyze(clip, mask=left).motion[1:, 0, 2],
        "file": video.analyze(clip, mask=right).motion[1:, 0, 2],
        "region": video.analyze(clip, region=(0, 0, 76, 120)).motion[1:, 0, 2],
    }
    np.testing.assert_allclose(horizontal["mask"], 0, atol=0.1)
    np.testing.assert_allclose(horizontal["region"], 0, atol=0.1)
    np.testing.assert_allclose(horizontal["file"], 3, atol=0.1)
    with pytest.raises(ArgumentError, match="mask: black"):  # nothing is left
        video.analyze(clip, mask=left, region=(80, 0, 160, 120))


def test_bad_masks_and_boxes(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InputError, match=r"text.png: not a picture"):
        video.analyze(clip, mask=tmp_path / "text.png")
    with pytest.raises(InputError, match="no such file"):
        video.analyze(clip, mask=tmp_path / "absent.png")
    with pytest.raises(ArgumentError, match="mask: expected a bool or uint8"):
        video.analyze(clip, mask=np.ones((3, 3), bool))
    with pytest.raises(ArgumentError, match=r"mask: .*in.mp4 is 160x120, the video 10x10"):
        read_mask(clip, (10, 10))
    for box in ((1, 2, 3), (0, 0, 0, 5), (0, 0, float("nan"), 5), "box", (500, 0, 10, 10)):
        for name in ("region", "subject"):
            with pytest.raises(ArgumentError, match=f"{name}: "):
                video.analyze(clip, **{name: box})
    for region in ((-1, 0, 20, 20), (0, -1, 20, 20), (150, 0, 20, 20), (0, 110, 20, 20)):
        with pytest.raises(ArgumentError, match=r"region: .* reaches beyond the picture of 160x120"):
            video.analyze(clip, region=region)


# --- subjects and salient points ----------------------------------------------------------------


def walker(count: int = 40) -> tuple[list[np.ndarray], np.ndarray]:
    """A textured square that walks through a scene filmed with a shaking hand; its boxes."""
    size = (240, 160)
    rng = np.random.default_rng(3)
    whole, square = scene((size[0] + 24, size[1] + 24), 5), scene((40, 40), 9)[:, :, ::-1] // 2 + 100
    pictures, boxes = [], []
    for t in range(count):
        dx, dy = 10 + rng.integers(-3, 4, 2)
        picture = whole[dy : dy + size[1], dx : dx + size[0]].copy()
        x, y = 60 + 2 * t - dx, 70 - dy
        picture[y : y + 40, x : x + 40] = square
        pictures.append(picture)
        boxes.append((x, y, 40, 40))
    return pictures, np.array(boxes, float)


def test_a_subject_is_followed_kept_and_centered(tmp_path: Path) -> None:
    pictures, boxes = walker()
    clip = write_clip(tmp_path / "in.mkv", pictures, codec="ffv1")
    analysis = video.analyze(clip, subject=tuple(boxes[0]))
    assert analysis.subject is not None
    np.testing.assert_allclose(analysis.subject, boxes, atol=3)

    def distance(report: video.StabilizeReport) -> float:
        middle = np.append(boxes[:, :2] + 20, np.ones((len(boxes), 1)), axis=1)
        seen = np.linalg.solve(report.corrections, middle[..., None])[..., 0]
        return float(np.abs(seen[:, 0] / seen[:, 2] - 119.5).mean())

    standard = video.render(clip, analysis, tmp_path / "a.mp4", crop=0.25, **FAST)
    followed = video.render(clip, analysis, tmp_path / "b.mp4", preset="follow", **FAST)
    assert distance(followed) < 0.6 * distance(standard)
    assert followed.planned_jitter_out_px < 0.2 * followed.planned_jitter_in_px
    assert followed.violation_px == 0
    assert followed.subject_lost is None


def test_a_subject_that_is_covered_is_lost_and_said_to_be(tmp_path: Path) -> None:
    pictures, boxes = walker(16)
    for t in range(8, 16):
        x, y = boxes[t, :2].astype(int)
        pictures[t][y - 10 : y + 50, x - 10 : x + 50] = 90
    clip = write_clip(tmp_path / "in.mkv", pictures, codec="ffv1")
    report = video.stabilize(clip, tmp_path / "out.mp4", subject=tuple(boxes[0]), **FAST)
    assert report.subject_lost == 8
    assert "the subject was lost in frame 8" in report.notes


def test_a_subject_tracker_on_nothing() -> None:
    flat = np.full((60, 80), 128, np.uint8)
    tracker = SubjectTracker((80, 60), (10, 10, 20, 20))
    tracker.push(flat)
    assert tracker.push(flat) is None
    assert tracker.push(flat) is None


def test_salient_files(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("frame,x,y,width,height\n0,1,2,,\n2,3,4,10,20\n2,5,6,0,0\n")
    points = read_salient(tmp_path / "a.csv", 4)
    assert points.shape == (4, 5, 2)
    np.testing.assert_array_equal(points[0, 0], [1, 2])
    np.testing.assert_array_equal(points[2], [[3, 4], [13, 4], [13, 24], [3, 24], [5, 6]])
    assert np.isnan(points[[1, 3]]).all()
    rows = [{"frame": 0, "x": 1, "y": 2}, {"frame": 2, "x": 3, "y": 4, "width": 10, "height": 20}]
    rows.append({"frame": 2, "x": 5, "y": 6})
    for content in (rows, {"salient": rows}):
        (tmp_path / "a.json").write_text(json.dumps(content))
        np.testing.assert_array_equal(read_salient(tmp_path / "a.json", 4), points)
    np.testing.assert_array_equal(box_corners(np.array([[3.0, 4, 10, 20]]))[0], points[2, :4])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "x,y\n1,2\n", "line 2: expected frame, x, y"),
        ("a.csv", "frame,x,y\n0,1,2\n0,one,2\n", "line 3: expected frame, x, y"),
        ("a.csv", "frame,x,y\n9,1,2\n", "line 2: frame 9 of a video of 4"),
        ("a.csv", "frame,x,y\n0,nan,2\n", "line 2: expected finite"),
        ("a.csv", "frame,x,y\n0.5,1,2\n", "line 2: expected a whole number as frame, got 0.5"),
        ("a.csv", "frame,x,y\ninf,1,2\n", "line 2: expected frame, x, y"),
        ("a.json", '[{"frame":1.7,"x":1,"y":2}]', "entry 0: expected a whole number as frame"),
        ("a.json", '[{"frame":1,"x":1,"y":true}]', "entry 0: expected frame"),
        ("a.csv", "", "no point in it"),
        ("a.csv", "frame,x,y\n", "no point in it"),
        ("a.json", "[]", "no point in it"),
        ("a.json", "", "not JSON"),
        ("a.csv", "\xff\xd8\xff\xe0\0\0JFIF", "not UTF-8 text"),
        ("a.json", "\xff\xd8\xff\xe0\0\0JFIF", "not UTF-8 text"),
        ("a.csv", "frame,x,y\n" + "1" * 200_000, "not CSV"),
        ("a.csv", "frame,x,y\n\0,1,1\n", "not CSV|line 2: expected frame"),
        ("a.json", "[" * 100_000, "not JSON"),
        ("a.json", '[{"frame":0,"x":1' + "0" * 5000 + ',"y":0}]', "not JSON"),
        ("a.json", '[{"frame":0,"x":1' + "0" * 4000 + ',"y":0}]', "entry 0: expected frame"),
        ("a.json", "{", "not JSON"),
        ("a.json", "[1]", "expected a list of objects"),
        ("a.json", '[{"frame":0,"x":1}]', "entry 0: expected frame"),
    ],
)
def test_bad_salient_files_name_the_row(tmp_path: Path, name: str, content: str, words: str) -> None:
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=words) as caught:
        read_salient(tmp_path / name, 4)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(tmp_path)) + 200


def test_salient_points_that_would_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subjects, "_MOST_CELLS", 1000)
    (tmp_path / "a.csv").write_text("\n".join(["frame,x,y", "200,0,0", *["0,1,1"] * 10]))
    with pytest.raises(InputError, match=r"a\.csv: 10 points in one frame are too many for 201 frames"):
        read_salient(tmp_path / "a.csv")


def test_hard_inclusion_holds_or_fails(clip: Path, analysis: video.Analysis, tmp_path: Path) -> None:
    points = np.full((30, 1, 2), np.nan)
    points[:, 0] = (8, 60)
    report = video.render(clip, analysis, tmp_path / "out.mp4", salient=points, inclusion="hard", crop=0.3, **FAST)
    seen = np.linalg.solve(report.corrections, [[[8], [60], [1]]])[..., 0]  # of a matrix in NumPy 1, too
    assert (seen[:, 0] / seen[:, 2] >= -0.51).all()
    free = video.render(clip, analysis, tmp_path / "out.mp4", crop=0.3, **FAST)
    seen = np.linalg.solve(free.corrections, [[[8], [60], [1]]])[..., 0]
    assert (seen[:, 0] / seen[:, 2] < -1).any()
    far = np.array([[[-50.0, 60.0], [220.0, 60.0]]] * 30)
    with pytest.raises(InfeasibleError):
        video.render(clip, analysis, tmp_path / "no.mp4", salient=far, inclusion="hard", **FAST)
    video.render(clip, analysis, tmp_path / "soft.mp4", salient=far, **FAST)
    with pytest.raises(ArgumentError, match="salient: expected shape"):
        video.render(clip, analysis, tmp_path / "no.mp4", salient=np.zeros((3, 1, 2)), **FAST)
    assert not (tmp_path / "no.mp4").exists()


# --- rotation -----------------------------------------------------------------------------------


def test_a_rotation_tag_can_be_kept(tmp_path: Path) -> None:
    clip = turned(write_clip(tmp_path / "plain.mp4", shaky(8)), (0, 1, -1, 0))
    report = video.stabilize(clip, tmp_path / "kept.mp4", rotation="keep", save_motion=tmp_path / "m.jsonl", **FAST)
    assert report.output_size == SIZE
    with av.open(str(clip)) as one, av.open(str(tmp_path / "kept.mp4")) as two:
        assert next(one.decode(video=0)).rotation == next(two.decode(video=0)).rotation != 0
    assert video.Analysis.load(tmp_path / "m.jsonl").rotation == "keep"
    again = video.render(clip, tmp_path / "m.jsonl", tmp_path / "again.mp4", **FAST)  # as the motion was measured
    assert again.output_size == SIZE
    with pytest.raises(ArgumentError, match="rotation: the motion was estimated with 'keep'"):
        video.render(clip, tmp_path / "m.jsonl", tmp_path / "out.mp4", rotation="apply")
    with pytest.raises(ArgumentError, match="rotation: expected"):
        video.stabilize(clip, tmp_path / "out.mp4", rotation="left")
