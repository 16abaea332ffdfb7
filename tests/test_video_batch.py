"""Many videos, damaged ones, full disks and killed processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from clips import leftovers, pictures, shaky, times, under_way, write_clip
from conftest import files_of_at_most
from legato import video
from legato.cli import main
from legato.errors import ArgumentError, OutputError
from legato.video import batch

pytest.importorskip("av", reason="needs PyAV")

FAST = {"encoder_preset": "ultrafast"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    return [write_clip(folder / f"{name}.mp4", shaky(12, (96, 64), seed=n)) for n, name in enumerate("abc")]


def run(*arguments: object) -> int:
    return main([str(a) for a in arguments])


# --- batches ------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_batch_reports_each_item_and_goes_on(
    clips: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], jobs: int
) -> None:
    (tmp_path / "bad.mp4").write_text("no video")
    out = tmp_path / "new" / "out"
    sources = [clips[0], tmp_path / "bad.mp4", *clips[1:]]
    code = run(
        "stabilize",
        *sources,
        "--output-folder",
        out,
        "-j",
        jobs,
        "--json",
        "--crf",
        "0",
        "--encoder-preset",
        "ultrafast",
    )
    assert code == 1
    text, err = capsys.readouterr()
    items = {Path(i["source"]).name: i for i in map(json.loads, text.splitlines())}
    assert {name: i["status"] for name, i in items.items()} == {
        "a.mp4": "done",
        "b.mp4": "done",
        "c.mp4": "done",
        "bad.mp4": "failed",
    }
    assert "not a video" in items["bad.mp4"]["error"]
    assert items["a.mp4"]["report"]["frames"] == 12
    assert err == "legato: 1 of 4 failed\n"
    assert sorted(p.name for p in out.iterdir()) == ["a.mp4", "b.mp4", "c.mp4"]
    alone = tmp_path / "alone.mp4"
    video.stabilize(clips[1], alone, crf=0, **FAST)
    np.testing.assert_array_equal(pictures(alone), pictures(out / "b.mp4"))


def test_a_batch_resumes(clips: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--output-folder", tmp_path, "--suffix", "_s", "--resume", "--encoder-preset", "ultrafast"]
    assert run("stabilize", *clips[:2], *options, "--report") == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a_s.mp4", "a_s_report.json", "b_s.mp4", "b_s_report.json"]
    done = (tmp_path / "a_s.mp4").stat().st_mtime_ns
    os.utime(tmp_path / "b_s.mp4", (0, 0))  # older than its source
    capsys.readouterr()
    assert run("stabilize", *clips, *options, "--json") == 0
    status = [json.loads(line)["status"] for line in capsys.readouterr().out.splitlines()]
    assert status == ["skipped", "done", "done"]
    assert (tmp_path / "a_s.mp4").stat().st_mtime_ns == done
    assert run("stabilize", clips[0], tmp_path / "a_s.mp4", "--resume") == 0
    assert "skipped" in capsys.readouterr().out


def test_results_are_named_without_collision(tmp_path: Path) -> None:
    names = video.result_paths(["x/a.mp4", "x/b.MOV", "x/c.3gp"])
    assert [str(n) for n in names] == ["x/a_stabilized.mp4", "x/b_stabilized.MOV", "x/c_stabilized.mp4"]
    names = video.result_paths(["x/a.mp4"], tmp_path / "new", extension=".mkv")
    assert names == [tmp_path / "new" / "a.mkv"]
    with pytest.raises(ArgumentError, match="two results would be named"):
        video.result_paths(["x/a.mp4", "y/a.mp4"], tmp_path)
    with pytest.raises(ArgumentError, match=r"output-folder: expected another, or a suffix: .* written over itself"):
        video.result_paths(["x/a.mp4"], "x")
    with pytest.raises(ArgumentError, match=r"suffix: expected some text: .* written over itself"):
        video.result_paths(["x/a.mp4"], suffix="")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be made"):
        video.result_paths(["x/a.mp4"], tmp_path / "file")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["A"], "expected IN and OUT"),
        (["A", "B", "C"], "expected IN and OUT"),
        (["A", "B", "--suffix", "_x", "--motion", "m"], "motion: it is for one video"),
        (["A", "B", "--suffix", "_x", "--report", "r.json"], "report: expected no file name"),
        (["A", "B", "--extension", "mkv"], "extension: expected together with"),
        (["A", "--suffix", "_x", "-j", "0"], "jobs: expected"),
        (["A", "--suffix", "_x", "--preset", "nope"], "preset: expected one of"),
        (["A", "--suffix", "_x", "--subject", "1,2,3"], "expected 4 numbers"),
    ],
)
def test_wrong_usage_of_a_batch(
    clips: list[Path], capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    named = dict(zip("ABC", map(str, clips), strict=True))
    before = sorted(clips[0].parent.iterdir())
    assert run("stabilize", *(named.get(a, a) for a in arguments)) == 2
    assert words in capsys.readouterr().err
    assert sorted(clips[0].parent.iterdir()) == before


def test_no_input_is_written_over(clips: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = tmp_path / "a.mp4", tmp_path / "a_s.mp4"
    shutil.copy(clips[0], one)
    shutil.copy(clips[0], other)
    assert run("stabilize", one, other, "--suffix", "_s") == 2
    assert "a_s.mp4 would be written over" in capsys.readouterr().err
    mask = tmp_path / "m.png"
    mask.write_bytes(b"a picture")
    assert run("analyze", one, "--mask", mask, "-o", mask) == 2
    assert mask.read_bytes() == b"a picture"
    assert other.read_bytes() == one.read_bytes() == clips[0].read_bytes()


def test_what_belongs_to_one_result_is_not_written_over_another(
    clips: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.mp4", "a_compare.mp4", "b.mp4"):
        shutil.copy(clips[0], tmp_path / name)
    sources = [tmp_path / "a.mp4", tmp_path / "a_compare.mp4"]
    out = tmp_path / "out"
    assert run("stabilize", *sources, "--output-folder", out, "--compare") == 2
    assert re.search(r"destination .*a_compare\.mp4: .* is the same file as the compare of", capsys.readouterr().err)
    assert list(out.iterdir()) == []
    (tmp_path / "b_s_path.svg").hardlink_to(tmp_path / "b.mp4")
    with pytest.raises(ArgumentError, match=r"plot of .*b_s\.mp4: .*b_s_path\.svg is the same file as the input"):
        video.stabilize_all([tmp_path / "b.mp4"], [tmp_path / "b_s.mp4"], plot=True)
    with pytest.raises(ArgumentError, match=r"destinations: .* is there twice"):
        video.stabilize_all(sources, [tmp_path / "c.mp4"] * 2)
    assert (tmp_path / "b.mp4").read_bytes() == clips[0].read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
def test_a_pipe_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert run("stabilize", tmp_path / "pipe.mp4", tmp_path / "out.mp4") == 1
    assert "legato live" in capsys.readouterr().err


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupted_batch_stops_cleanly(clips: list[Path], tmp_path: Path, jobs: int) -> None:
    seen: list[str] = []

    def tell(item: batch.Item) -> None:
        seen.append(item.status)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        video.stabilize_all(clips, video.result_paths(clips, tmp_path), jobs=jobs, tell=tell, **FAST)
    assert 1 <= len(seen) <= jobs
    assert len(list(tmp_path.iterdir())) <= jobs
    assert leftovers(tmp_path) == []


def test_what_is_wrong_for_all_is_said_once(
    clips: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("stabilize", *clips, "--output-folder", tmp_path, "--crop", 3) == 2
    assert capsys.readouterr() == ("", "legato: error: crop: expected a finite number above 0 and below 1, got 3.0\n")
    assert run("stabilize", *clips, "--output-folder", tmp_path, "--extension", "mkv", "--quiet") == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mkv", "b.mkv", "c.mkv"]
    assert run("stabilize", *clips, "--output-folder", tmp_path, "--extension", "mkv", "--no-overwrite") == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), err.count("exists and overwrite is off")) == ("", 3, 3)
    assert run("stabilize", *clips[:2], "-j", 0) == 2
    assert "jobs: expected" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_ctrl_c_ends_a_batch(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", shaky(150, (320, 240)))
    others = [tmp_path / f"{n}.mp4" for n in range(3)]
    for other in others:
        other.symlink_to(clip)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "legato", "stabilize", *others, "--output-folder", out, "-j", "2"]
    command += ["--encoder-preset", "veryslow", "--report"]

    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        begin = time.monotonic()
        while (
            not (out.is_dir() and under_way(out, process.pid))
            and process.poll() is None
            and time.monotonic() - begin < 30
        ):
            time.sleep(0.02)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "legato: interrupted"
    assert list(out.iterdir()) == []


# --- analyze and render -------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_in_a_row_are_one(tmp_path: Path, number: signal.Signals) -> None:
    clip = write_clip(tmp_path / "in.mp4", shaky(150, (320, 240)))
    out = tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-m", "legato", "stabilize", clip, out / "out.mp4", "--compare"]
    command += ["--encoder-preset", "slow"]
    for wait in (0.0, 0.03, 0.08):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        while not under_way(out, process.pid):
            assert process.poll() is None
            time.sleep(0.005)
        time.sleep(wait)
        for _ in range(6):
            process.send_signal(number)
            time.sleep(0.003)
        error = process.communicate(timeout=60)[1]
        assert process.returncode == 128 + number
        assert error.count("\n") == 1
        assert list(out.iterdir()) == []


def test_a_full_disk_names_the_motion_file(
    clips: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with files_of_at_most(100):
        assert run("analyze", clips[0], "-o", tmp_path / "m.jsonl") == 1
    assert f"error: {tmp_path / 'm.jsonl'}: cannot be written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_analyze_and_render(clips: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    motion, out = tmp_path / "m.jsonl", tmp_path / "out.mp4"
    assert run("analyze", clips[0], "-o", motion, "--subject", "20,20,30,30") == 0
    assert "m.jsonl: 12 frames" in capsys.readouterr().out
    assert run("analyze", clips[0], "-o", tmp_path / "n.jsonl", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "motion": str(tmp_path / "n.jsonl"), "frames": 12, "failed": [], "notes": []
    }  # fmt: skip
    assert run("render", clips[0], motion, out, "--preset", "follow", "--crf", "0", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["preset"] == "follow"
    assert report["motion_file"] == str(motion)
    assert times(out) == times(clips[0])
    again = tmp_path / "again.mp4"
    assert run("stabilize", clips[0], again, "--motion", motion, "--preset", "follow", "--crf", "0", "--quiet") == 0
    np.testing.assert_array_equal(pictures(again), pictures(out))
    assert run("stabilize", clips[0], again, "--motion", motion, "--rotation", "apply", "--quiet") == 0
    assert run("analyze", clips[0], "-o", tmp_path / "k.jsonl", "--rotation", "keep", "--quiet") == 0
    assert run("stabilize", clips[0], again, "--motion", tmp_path / "k.jsonl", "--rotation", "apply") == 2
    assert "rotation: the motion was estimated with 'keep'" in capsys.readouterr().err
    assert run("analyze", clips[0], "-o", clips[0]) == 2
    assert run("render", clips[1], tmp_path / "absent.jsonl", out) == 1
    assert "cannot be read" in capsys.readouterr().err


# --- faults -------------------------------------------------------------------------------------


def test_without_unnamed_files_there_are_hidden_ones(
    clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    seen: set[str] = set()
    video.stabilize(clips[0], tmp_path / "out.mp4", progress=lambda *_: seen.update(leftovers(tmp_path)), **FAST)
    assert len(seen) == 1
    assert leftovers(tmp_path) == []
    assert times(tmp_path / "out.mp4") == times(clips[0])


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    """In the middle of the video, and at its end."""
    rng = np.random.default_rng(1)
    noise = (np.clip(p + rng.normal(0, 20, p.shape), 0, 255).astype(np.uint8) for p in shaky(40))
    clip = write_clip(tmp_path / "in.mp4", noise, sound="aac")
    out = tmp_path / "out"
    out.mkdir()
    (out / "out.mp4").write_bytes(b"older")
    whole = tmp_path / "whole.mp4"
    video.stabilize(clip, whole, **FAST)
    limits = 2_000, whole.stat().st_size // 2, whole.stat().st_size - 100
    code = """if True:
        import resource, sys
        from legato.cli import main
        for limit in sys.argv[1].split(","):
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
            print(main(sys.argv[2:]))
    """
    command = [sys.executable, "-c", code, ",".join(map(str, limits)), "stabilize", clip, out / "out.mp4"]
    done = subprocess.run(
        [*command, "--report", "--encoder-preset", "ultrafast"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["1", "1", "1"]
    errors = [line for line in done.stderr.splitlines() if line.startswith("legato: error")]
    assert len(errors) == 3
    assert all("cannot be written" in line for line in errors)
    assert [p.name for p in out.iterdir()] == ["out.mp4"]
    assert (out / "out.mp4").read_bytes() == b"older"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes that it forks")
def test_damaged_files_and_killed_processes() -> None:
    script = Path(__file__).with_name("fuzz_video.py")
    command = [sys.executable, script, "--inputs", "30", "--kills", "10", "--first", "5000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "30 inputs: " in done.stdout
    assert "10 kills: " in done.stdout


@pytest.mark.parametrize("stretch", ["black", "jump", "noise", "flash"])
def test_stretches_without_motion_to_find(tmp_path: Path, stretch: str) -> None:
    pictures = list(shaky(24))
    rng = np.random.default_rng(1)
    for t in range(8, 16):
        if stretch == "black":
            pictures[t] = np.zeros_like(pictures[t])
        elif stretch == "noise":
            pictures[t] = rng.integers(0, 256, pictures[t].shape, np.uint8)
        elif stretch == "flash":
            pictures[t] = np.minimum(pictures[t].astype(int) * 3 + 60, 255).astype(np.uint8)
        else:
            pictures[t] = np.roll(pictures[t], (37 * t, 53 * t), (0, 1))
    clip = write_clip(tmp_path / "in.mkv", pictures, codec="ffv1")
    report = video.stabilize(clip, tmp_path / "out.mp4", **FAST)
    assert report.frames == 24
    assert report.violation_px == 0
    assert np.isfinite(report.corrections).all()
    assert report.distortion > 0.8
    assert times(tmp_path / "out.mp4") == times(clip)


def test_a_bar_for_all_videos(clips: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = [tmp_path / f"{k}.mp4" for k in range(3)]
    sources = [clips[0], tmp_path / "none.mp4", clips[1]]
    items = video.stabilize_all(sources, results, jobs=2, progress=True, **FAST)
    assert [item.status for item in items] == ["done", "failed", "done"]
    said = capsys.readouterr()
    assert "3 of 3 videos" in said.err
    assert "fps" in said.err
    assert said.out == ""


def test_the_bar_goes_on_with_the_frames() -> None:
    from legato.video import progress

    bars: list[tuple[float, int]] = []

    class Bar(pytest.importorskip("rich.progress", reason="rich is of the video extra").Progress):  # type: ignore[misc]
        def update(self, *_: object, **fields: object) -> None:
            bars.append((fields["completed"], fields["over"]))  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rich.progress.Progress", Bar)
        with progress.told_of_many(True, 2) as of:
            for stage, done, total in (("track", 5, 10), ("render", 5, 10), ("render", 10, 10), ("end", 0, None)):
                of(0)(stage, done, total)
            of(1)("track", 3, None)
    done = [completed for completed, _ in bars]
    assert done == sorted(done)
    assert done[3] == 1 < done[4] < 2
    assert [over for _, over in bars] == [0, 0, 0, 1, 1]
