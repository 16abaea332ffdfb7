"""Files beside a result: each may fail without costing the result or the others."""

from __future__ import annotations

import io
import json
import shutil
import sys
import time
from pathlib import Path

import pytest

from clips import leftovers, shaky, times, write_clip
from legato import video
from legato.cli import main
from legato.errors import OutputError, SideFileError
from legato.video.live.sink import LiveEncoder
from legato.video.media.writer import VideoWriter

pytest.importorskip("av", reason="needs PyAV")
pytest.importorskip("cv2", reason="needs OpenCV")
pytest.importorskip("matplotlib", reason="needs matplotlib")

SIDES = {"compare": "c.mp4", "report": "r.json", "plot": "p.svg", "save_motion": "m.jsonl"}


def break_side(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one file fail where it is made."""
    from legato._files import PendingFile
    from legato.camera import plotting

    if name == "plot":  # by an error of somebody else's

        def fail(*_arguments: object, **_options: object) -> None:
            raise ValueError("no\nfont")

        monkeypatch.setattr(plotting, "plot_path", fail)
        return

    def failing(kind: type, method: str, path: str) -> None:
        good = getattr(kind, method)

        def write(self: object, *arguments: object, **keywords: object) -> object:
            if str(getattr(self, path)).endswith(SIDES[name]) and getattr(self, "frames", 5) >= 5:
                raise OutputError(f"{getattr(self, path)}: cannot be written (No space left on device)")
            return good(self, *arguments, **keywords)

        monkeypatch.setattr(kind, method, write)

    if name == "compare":
        failing(VideoWriter, "write", "path")
    else:
        failing(PendingFile, "write_text", "destination")


@pytest.mark.parametrize(
    ("command", "name"),
    [(c, n) for c in ("stabilize", "render", "batch") for n in SIDES if (c, n) != ("render", "save_motion")],
)
def test_a_failed_file_beside_the_result_costs_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, command: str
) -> None:
    clip, out, motion = write_clip(tmp_path / "in.mp4", shaky(20)), tmp_path / "out.mp4", tmp_path / "known.jsonl"
    if command == "render":
        video.analyze(clip).save(motion)
    break_side(name, monkeypatch)
    names = {k: v for k, v in SIDES.items() if command != "render" or k != "save_motion"}
    beside = {k: tmp_path / v for k, v in names.items()}

    def run() -> None:
        if command == "render":
            video.render(clip, motion, out, **beside)
        elif command == "batch":
            (item,) = video.stabilize_all([clip], [out], **beside)
            assert (item.status, item.report.frames) == ("failed", 20)
            assert item.error is not None
            raise item.error
        else:
            video.stabilize(clip, out, **beside)

    with pytest.raises(SideFileError, match=rf"{names[name]}: .*; .*out\.mp4 is complete") as caught:
        run()
    assert "\n" not in str(caught.value)
    assert caught.value.report.frames == 20
    assert list(caught.value.errors) == [beside[name]]
    assert len(times(out)) == 20
    assert {k for k, path in beside.items() if path.exists()} == set(beside) - {name}
    assert leftovers(tmp_path) == []
    if name != "report":
        told = json.loads(beside["report"].read_text())
        assert (told["comparison"] is None) == (name == "compare")
        assert names[name] in told["notes"][-1]

    for path in (out, *beside.values()):
        path.unlink(missing_ok=True)
    options = [f"--{k.replace('_', '-')}={path}" for k, path in beside.items()]
    given = {
        "stabilize": ["stabilize", str(clip), str(out)],
        "render": ["render", str(clip), str(motion), str(out)],
        "batch": ["stabilize", str(clip), str(out), "--resume"],
    }[command]
    capsys.readouterr()
    assert main([*given, *options]) == 1
    told_out, told_err = capsys.readouterr()
    assert told_out.startswith(f"{out}: 20 frames in ")
    assert names[name] in told_err
    assert told_err.count("\n") == 1
    assert len(times(out)) == 20


def test_a_folder_that_goes_away_costs_what_was_to_be_in_it(tmp_path: Path) -> None:
    clip, gone = write_clip(tmp_path / "in.mp4", shaky(20)), tmp_path / "gone"
    gone.mkdir()

    def watch(stage: str, done: int, _total: int | None) -> None:
        if stage == "track" and done == 10:
            shutil.rmtree(gone)

    with pytest.raises(SideFileError, match=r"r\.json: cannot be written"):
        video.stabilize(
            clip, tmp_path / "out.mp4", report=gone / "r.json", save_motion=tmp_path / "m.jsonl", progress=watch
        )
    assert len(times(tmp_path / "out.mp4")) == 20
    assert len(video.Analysis.load(tmp_path / "m.jsonl")) == 20


def test_a_failed_result_leaves_nothing_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write_clip(tmp_path / "in.mp4", shaky(20))

    def fail(_self: object) -> None:
        raise OutputError("out.mp4: cannot be written")

    monkeypatch.setattr(VideoWriter, "finish", fail)
    with pytest.raises(OutputError, match=r"^out\.mp4"):
        video.stabilize(clip, tmp_path / "out.mp4", **{k: tmp_path / v for k, v in SIDES.items()})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4"]


@pytest.mark.parametrize("name", ["ground_truth.npz", "path.svg"])
def test_a_demo_without_one_of_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    if name == "path.svg":
        break_side("plot", monkeypatch)
    else:
        (tmp_path / name).mkdir()
    assert main(["demo", str(tmp_path), "--frames", "12", "--size", "160x120"]) == 1
    told_out, told_err = capsys.readouterr()
    assert name in told_err.splitlines()[-1]
    assert "stabilized.mp4 is complete" in told_err
    assert "measured with the true camera motion" in told_out
    assert len(times(tmp_path / "stabilized.mp4")) == 12
    assert (tmp_path / "report.json").exists()


@pytest.mark.parametrize("command", [False, True])
def test_a_live_output_without_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: bool
) -> None:
    clip, out, told = write_clip(tmp_path / "in.mp4", shaky(20)), tmp_path / "out.mp4", []
    break_side("report", monkeypatch)
    if command:
        given = ["live", "--input", str(clip), "--output", str(out), "--report", str(tmp_path / "r.json")]
        assert main(given) == 1
        told_out, told_err = capsys.readouterr()
        assert f"{out}: 20 frames" in told_out
        assert "r.json: cannot be written" in told_err
    else:
        with pytest.raises(SideFileError, match=r"r\.json: cannot be written .*; .*out\.mp4 is complete"):
            video.stabilize_live(clip, out, report=tmp_path / "r.json", tell=told.append)
        assert told[0].frames_written == 20
    assert len(times(out)) == 20
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def test_what_went_wrong_with_a_live_output_counts_more_than_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = write_clip(tmp_path / "in.mp4", shaky(20))
    break_side("report", monkeypatch)

    def fail(_self: object) -> None:
        raise OutputError("out.mp4: cannot be written")

    monkeypatch.setattr(LiveEncoder, "finish", fail)
    with pytest.raises(OutputError, match=r"^out\.mp4"):
        video.stabilize_live(clip, tmp_path / "out.mp4", report=tmp_path / "r.json")


def test_a_progress_line_that_nobody_reads_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    clip = write_clip(tmp_path / "in.mp4", shaky(60))
    passing = iter(range(10_000))
    monkeypatch.setattr(sys, "stderr", Closed())
    monkeypatch.setattr(time, "monotonic", lambda: float(next(passing)))  # every look is a second later
    report = video.stabilize_live(clip, tmp_path / "out.mp4", progress=True)
    assert (report.ended, report.frames_written) == ("input", 60)
    assert len(times(tmp_path / "out.mp4")) == 60
