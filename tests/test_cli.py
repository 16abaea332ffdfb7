"""The `legato` command: exit codes, one-line errors, and nothing left behind."""

from __future__ import annotations

import inspect
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clips import packets, shaky, times, under_way, write_clip
from legato._extras import install_command
from legato.camera import PathOptions
from legato.cli import _parser, main
from legato.video import VideoWriter, stabilizing

pytest.importorskip("av", reason="needs PyAV")
pytest.importorskip("cv2", reason="needs OpenCV")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "in.mp4", shaky(24), sound="aac")


def run(*arguments: object) -> int:
    return main([str(a) for a in arguments])


# --- stabilize ----------------------------------------------------------------------------------


def test_stabilize(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.mp4"
    code = run("stabilize", clip, out, "--report", tmp_path / "r.json", "--compare", "--encoder-preset", "ultrafast")
    assert code == 0
    text, err = capsys.readouterr()
    assert err == ""  # no bar where stderr is no terminal
    assert text.count("\n") == 1
    assert "jitter" in text
    assert "% of the view kept" in text
    assert times(out) == times(clip)
    assert packets(out, "audio") == packets(clip, "audio")
    assert (tmp_path / "out_compare.mp4").exists()
    assert json.loads((tmp_path / "r.json").read_text())["frames"] == 24


def test_options_are_passed_on(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, pair = tmp_path / "out.mkv", tmp_path / "pair.mkv"
    options = ["--crop", 0.2, "--codec", "ffv1", "--compare", pair, "--interpolation", "bicubic", "--json"]
    assert run("stabilize", clip, out, *options) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["options"]["crop"] == 0.2
    assert report["codec"] == "ffv1"
    assert report["comparison"] == str(pair)
    assert pair.exists()


def test_quiet_is_silent(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("stabilize", clip, tmp_path / "out.mp4", "--quiet", "--encoder-preset", "ultrafast") == 0
    assert capsys.readouterr() == ("", "")


def test_what_was_not_copied_is_said(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("stabilize", clip, tmp_path / "out.webm", "--crf", 50) == 0
    assert "not copied: #1 audio aac" in capsys.readouterr().out


def test_the_defaults_in_the_help_are_true(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("stabilize", "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    parameters = inspect.signature(stabilizing.stabilize).parameters
    expected = {n: parameters[n].default for n in ("interpolation", "encoder_preset", "preset")}
    crf = inspect.signature(VideoWriter).parameters["crf"].default
    for default in (PathOptions().crop, crf, *expected.values()):
        assert f"(default: {default})" in text
    assert expected.items() <= vars(_parser().parse_args(["stabilize", "a", "b"])).items()


# --- errors -------------------------------------------------------------------------------------


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("legato")
    assert ": error: " in err
    return err


def test_failures_are_one_line_and_code_1(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.mp4").write_text("no video\n")
    for source, destination, words in (
        (tmp_path / "absent.mp4", tmp_path / "out.mp4", "absent.mp4: no such file"),
        (tmp_path / "text.mp4", tmp_path / "out.mp4", "text.mp4: not a video"),
        (tmp_path, tmp_path / "out.mp4", "a directory"),
        (clip, tmp_path / "absent" / "out.mp4", "no such directory"),
    ):
        assert run("stabilize", source, destination) == 1
        assert words in one_line(capsys)
    assert [p.name for p in tmp_path.iterdir()] == ["text.mp4"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--debug"], "COMMAND"),
        (["stabilise"], "invalid choice: 'stabilise' (did you mean 'stabilize'?)"),
        (["stabilize", "IN"], "OUT"),
        (["stabilize", "IN", "OUT.mp4", "--crop", "much"], "--crop"),
        (["stabilize", "IN", "OUT.mp4", "--crop", "1.5"], "crop"),
        (["stabilize", "IN", "OUT.xyz"], "unknown kind of video file"),
        (["stabilize", "IN", "IN"], "same file as the input"),
        (["stabilize", "IN", "OUT.mp4", "--codec", "nope"], "no encoder named 'nope'"),
        (["stabilize", "IN", "OUT.mp4", "--encoder-preset", "warp9"], "preset: expected one of"),
        (["stabilize", "IN", "OUT.mp4", "--plot", "p.txt"], "plot: expected"),
        (["demo", "OUT", "--size", "big"], "--size"),
        (["demo", "OUT", "--size", "15x9"], "size: expected"),
        (["demo", "OUT", "--frames", "0"], "frames: expected"),
        (["info", "--nope"], "--nope"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    named = {"IN": str(clip)}
    given = [named.get(a, str(tmp_path / a) if a.startswith("OUT") else a) for a in arguments]
    assert run(*given) == 2
    assert words in one_line(capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_bug_is_one_line_too(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr(stabilizing, "stabilize", broken)
    assert run("stabilize", clip, tmp_path / "out.mp4") == 1
    assert "unexpected ZeroDivisionError: two lines" in one_line(capsys)
    with pytest.raises(ZeroDivisionError):
        run("stabilize", clip, tmp_path / "out.mp4", "--debug")


def test_a_missing_package_is_named(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, arguments in (("av", []), ("matplotlib", ["--plot", tmp_path / "p.svg"])):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, module, None)
            assert run("stabilize", clip, tmp_path / "out.mp4", *arguments) == 1
        assert install_command("video") in one_line(capsys)
    assert list(tmp_path.iterdir()) == []


def test_streams_are_not_taken_for_files(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for source in ("http://example.com/a.mp4", "-"):
        assert run("stabilize", source, tmp_path / "out.mp4") == 1
        assert "streams are for `legato live`" in one_line(capsys)
    assert run("analyze", clip, "-o", "-") == 1
    assert "-: expected a file name" in one_line(capsys)
    assert not Path("-").exists()


def test_a_reader_that_has_enough_is_no_error(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    said = io.StringIO()
    monkeypatch.setattr(sys, "stdout", Closed())
    monkeypatch.setattr(sys, "stderr", said)
    assert run("stabilize", clip, tmp_path / "out.mp4", "--json", "--encoder-preset", "ultrafast") == 1
    assert said.getvalue() == ""
    assert times(tmp_path / "out.mp4") == times(clip)


def test_no_overwrite(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out.mp4").write_bytes(b"older")
    assert run("stabilize", clip, tmp_path / "out.mp4", "--no-overwrite") == 2
    assert "exists" in one_line(capsys)
    assert (tmp_path / "out.mp4").read_bytes() == b"older"


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_an_interruption_leaves_nothing(tmp_path: Path, number: int, code: int, word: str) -> None:
    clip = write_clip(tmp_path / "in.mp4", shaky(150, (320, 240)))
    out = tmp_path / "out"
    out.mkdir()
    (out / "out.mp4").write_bytes(b"older")
    command = [sys.executable, "-m", "legato", "stabilize", clip, out / "out.mp4", "--encoder-preset", "veryslow"]
    command += ["--report", out / "report.json"]

    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        begin = time.monotonic()
        while not under_way(out, process.pid) and process.poll() is None and time.monotonic() - begin < 30:
            time.sleep(0.02)
        time.sleep(0.2)  # into the work
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == code
    # An editable install may report its rebuild before; the command itself says one line.
    assert err.splitlines()[-1] == f"legato: {word}"
    assert "Traceback" not in err
    assert [p.name for p in out.iterdir()] == ["out.mp4"]
    assert (out / "out.mp4").read_bytes() == b"older"


# --- demo, info, help ---------------------------------------------------------------------------


def test_demo_shows_what_was_gained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "a" / "demo"
    assert run("demo", folder, "--frames", 40, "--size", "320x180", "--seed", 3) == 0
    names = {"shaky.mp4", "ground_truth.npz", "stabilized.mp4", "comparison.mp4", "path.svg", "report.json"}
    assert {p.name for p in folder.iterdir()} == names
    text = capsys.readouterr().out
    line = next(line for line in text.splitlines() if "jitter (residual" in line)
    before, after = (float(word) for word in line.split()[-2:])
    assert after < 0.3 * before
    assert text.splitlines()[-1] == f"now open {folder / 'comparison.mp4'}"
    assert times(folder / "stabilized.mp4") == times(folder / "shaky.mp4")
    assert packets(folder / "stabilized.mp4", "audio") == packets(folder / "shaky.mp4", "audio")


def test_demo_as_a_loop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Animated WebP (RIFF): half the pictures of 30 a second, the pair and its strip 640 wide, for ever."""
    assert run("demo", tmp_path, "--frames", 24, "--size", "320x180", "--loop") == 0
    content = (tmp_path / "loop.webp").read_bytes()
    assert content[:4] + content[8:16] == b"RIFFWEBPVP8X"
    assert int.from_bytes(content[4:8], "little") + 8 == len(content)
    width, height = (int.from_bytes(content[at : at + 3], "little") + 1 for at in (24, 27))
    assert (width, height) == (640, 180 + 63)
    assert content[content.index(b"ANIM") + 12 :][:2] == b"\0\0"
    assert content.count(b"ANMF") == 12
    assert "loop.webp" in capsys.readouterr().out


def test_demo_into_a_file_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").touch()
    assert run("demo", tmp_path / "taken") == 1
    assert "taken: cannot be made" in one_line(capsys)


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info") == 0
    text = capsys.readouterr().out
    for word in ("legato", "isa", "backends", "ffmpeg", "h264"):
        assert word in text
    assert run("info", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["codecs"]["h264"]["encoder"] == "libx264"
    assert facts["build"]["isa"] in facts["build"]["isas"]
    assert facts["packages"]["numpy"]


@pytest.mark.parametrize("command", [[], ["stabilize"], ["analyze"], ["render"], ["view"], ["demo"], ["info"]])
def test_help_documents_the_exit_codes(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    assert run(*command, "--help") == 0
    text = capsys.readouterr().out
    for code in ("0 ", "1 ", "2 ", "130 "):
        assert f"\n  {code}" in text


@pytest.mark.parametrize("statement", ["main(['info', '--help'])", "import legato.video; legato.video.__all__"])
def test_help_and_import_load_nothing_heavy(statement: str) -> None:
    heavy = ("av", "cv2", "matplotlib", "rich", "scipy", "numba")
    code = (
        f"import sys; from legato.cli import main; {statement}; "
        f"print(*[m for m in {heavy!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == ""
