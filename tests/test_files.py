"""The door for files: whole or not at all, nothing of the user's lost, and bounded before it is parsed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import re
import signal
import stat
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from conftest import files_of_at_most
from legato import rasp, rft
from legato._files import (
    PendingFile,
    check_destinations,
    json_lines,
    parse_fraction,
    parse_json,
    read_json,
    read_text,
    write_whole,
)
from legato.cli import main
from legato.errors import ArgumentError, InputError, OutputError

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")
both_kinds = pytest.mark.usefixtures("kind")
unprivileged = pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everything")


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture(params=["unnamed", "hidden"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to write: with and without files that have no name."""
    if request.param == "hidden":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    elif not hasattr(os, "O_TMPFILE"):
        pytest.skip("no unnamed files on this system")


# --- writing ------------------------------------------------------------------------------------


def test_an_unnamed_file_has_no_name_until_it_is_whole(tmp_path: Path) -> None:
    with PendingFile(tmp_path / "a.txt") as pending:
        if not pending.unnamed:
            pytest.skip("no unnamed files on this file system")
        pending.path.write_text("half")
        assert names(tmp_path) == []
    assert names(tmp_path) == []
    (tmp_path / "a.txt").write_text("older")
    for content in ("new", "newer"):
        with PendingFile(tmp_path / "a.txt") as pending:
            pending.path.write_text(content)
            pending.commit()
        assert (tmp_path / "a.txt").read_text() == content
    assert names(tmp_path) == ["a.txt"]
    handles = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        PendingFile(tmp_path / "a.txt").discard()
    assert len(list(Path("/proc/self/fd").iterdir())) == handles


def test_links_are_followed_and_the_usual_mode_is_given(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.json").symlink_to(tmp_path / "real" / "a.json")
    with PendingFile(tmp_path / "link.json") as pending:
        pending.write_text(["{}"])
        pending.commit()
    assert (tmp_path / "link.json").is_symlink()
    plain = tmp_path / "plain"
    plain.write_text("")
    assert (tmp_path / "real" / "a.json").stat().st_mode == plain.stat().st_mode
    assert names(tmp_path / "real") == ["a.json"]
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(OutputError, match="round: a symbolic link to itself"):
        write_whole(tmp_path / "round", "")
    assert (tmp_path / "round").is_symlink()


@posix
@both_kinds
def test_permissions_of_a_replaced_file_stay(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    for mode in (0o600, 0o664, 0o755):
        target.write_text("older")
        target.chmod(mode)
        assert write_whole(target, b"newer") == target
        assert stat.S_IMODE(target.stat().st_mode) == mode
    assert target.read_bytes() == b"newer"
    assert names(tmp_path) == ["a.json"]


@posix
@both_kinds
def test_the_umask_is_respected_and_never_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "umask", lambda _: pytest.fail("the umask belongs to the whole process"))
            write_whole(tmp_path / "a.txt", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


@unprivileged
@both_kinds
def test_a_write_protected_file_stays(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("older")
    target.chmod(0o444)
    with pytest.raises(OutputError, match=r"a\.txt: cannot be written \(Permission denied\)"):
        write_whole(target, "newer")
    assert target.read_text() == "older"


@posix
@both_kinds
def test_devices_and_pipes_are_written_through(tmp_path: Path) -> None:
    write_whole("/dev/null", "gone")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_whole(pipe, "through")
    reader.join()
    assert read == ["through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert names(tmp_path) == ["pipe"]
    with PendingFile(pipe) as pending, pytest.raises(OutputError, match="pipe: not a regular file"):
        _ = pending.path
    with pytest.raises(OutputError, match="-: expected a file name"):
        write_whole("-", "")


@posix
@pytest.mark.parametrize("name", ["/dev/stdout", "/proc/self/fd/1", "link"])
def test_standard_output_is_written_where_it_stands(tmp_path: Path, name: str) -> None:
    if not Path("/dev/stdout").exists():
        pytest.skip("no /dev/stdout on this system")
    (tmp_path / "link").symlink_to("/dev/stdout")
    log = tmp_path / "log"
    log.write_text("earlier\n")
    code = "import sys; from legato._files import write_whole; print('before'); write_whole(sys.argv[1], 'text\\n')"
    code += "; print('after')"
    with log.open("a") as out:
        subprocess.run([sys.executable, "-c", code, name], stdout=out, check=True, cwd=tmp_path)
    assert log.read_text() == "earlier\nbefore\ntext\nafter\n"
    piped = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert piped.stdout == "before\ntext\nafter\n"


@both_kinds
def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("older")
    for name in ("new.json", "old.json"):
        with (
            files_of_at_most(1000),
            pytest.raises(OutputError, match=rf"{name}: cannot be written \(File too large\)"),
            PendingFile(tmp_path / name) as pending,
        ):
            pending.write_text(["x" * 900, "y" * 900])
    assert names(tmp_path) == ["old.json"]
    assert (tmp_path / "old.json").read_text() == "older"
    if Path("/dev/full").exists():
        with pytest.raises(OutputError, match=rf"^/dev/full: cannot be written \({os.strerror(errno.ENOSPC)}\)"):
            write_whole("/dev/full", "text")


@both_kinds
def test_writers_of_one_file_do_not_tear_each_other(tmp_path: Path) -> None:
    """Each reader sees one text or the other, and what the user named like a temporary file stays."""
    target, mine = tmp_path / "race.txt", tmp_path / "race.txt.unfinished"
    mine.write_text("of the user")
    texts = ["a" * 300_000 + "\n", "b" * 200_000 + "\n"]
    write_whole(target, texts[0])
    torn: list[int] = []

    def write(text: str) -> None:
        for _ in range(20):
            write_whole(target, text)
            if (seen := target.read_text()) not in texts:
                torn.append(len(seen))

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torn == []
    assert names(tmp_path) == ["race.txt", "race.txt.unfinished"]
    assert mine.read_text() == "of the user"


@both_kinds
def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def half(error: BaseException) -> None:
        with PendingFile(tmp_path / "a.txt") as pending, pending.opened() as file:
            file.write(b"half")
            raise error

    for error in (ValueError("of the caller"), KeyboardInterrupt(), SystemExit()):
        with pytest.raises(type(error)):
            half(error)
    assert names(tmp_path) == []
    with pytest.raises(OutputError, match=r"absent/a\.txt: no such directory"):
        write_whole(tmp_path / "absent" / "a.txt", "")
    with pytest.raises(OutputError, match="a directory, expected a file name"):
        write_whole(tmp_path, "")


def test_text_that_is_no_unicode_is_written_nevertheless(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.txt", "a\udcffb\n")
    assert (tmp_path / "a.txt").read_text() == "a?b\n"


@posix
def test_destinations_are_never_sources(tmp_path: Path) -> None:
    source = tmp_path / "in.txt"
    source.write_text("")
    (tmp_path / "soft").symlink_to("in.txt")
    (tmp_path / "hard").hardlink_to(source)
    (tmp_path / "folder").symlink_to(tmp_path)
    for other in (source, tmp_path / "soft", tmp_path / "hard", tmp_path / "folder" / "in.txt"):
        for one, two in ((source, other), (other, source)):
            with pytest.raises(ArgumentError, match=f"^out: {re.escape(str(two))} is the same file as the input$"):
                check_destinations({"input": one}, {"out": two})
    new = tmp_path / "new"
    with pytest.raises(ArgumentError, match=r"page: .* is the same file as the report"):
        check_destinations({"input": source}, {"report": new, "page": tmp_path / "folder" / "new"})
    check_destinations({"input": "/dev/null"}, {"report": "/dev/null", "page": "/dev/null", "plot": None})
    check_destinations({"input": source}, {"report": new}, overwrite=False)
    with pytest.raises(ArgumentError, match="exists and overwrite is off"):
        check_destinations({}, {"report": source}, overwrite=False)


# --- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", r"not JSON \(Expecting value at column 1\)"),
        (b"\0\xff\xfe", "not UTF-8 text"),
        (b"[" * 100_000, r"not JSON \(nested too deeply\)"),
        (b'{"a":' * 100_000, r"not JSON \(nested too deeply\)"),
        (b"9" * 10_000_000, r"not JSON \(a number of 10000000 digits\)"),
        (b"[1, -" + b"9" * 400 + b"]", r"not JSON \(a number of 401 digits\)"),
        (b'{"a":\n 1', r"not JSON \(Expecting ',' delimiter at line 2, column 3\)"),
        (b"[" + b" " * (1 << 25), "longer than 20000000 bytes"),
    ],
    ids=["empty", "binary", "nested", "objects", "digits", "negative", "cut", "long"],
)
def test_hostile_json_is_one_clear_error(tmp_path: Path, content: bytes, match: str) -> None:
    path = tmp_path / "in.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}: {match}") as raised:
        read_json(path, 20_000_000)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300
    if content:
        path.write_bytes(b'{"a": 1}\n\n' + content.replace(b"\n", b"") + b"\n")
        with pytest.raises(InputError, match=rf"^{re.escape(str(path))}: line 3: "):
            list(json_lines(path, 20_000_000))


def test_what_is_no_file_of_text(tmp_path: Path) -> None:
    for read in (read_text, read_json, lambda path: list(json_lines(path))):
        with pytest.raises(InputError, match="cannot be read"):
            read(tmp_path)
        with pytest.raises(InputError, match="cannot be read"):
            read(tmp_path / "absent")
        with pytest.raises(InputError, match="cannot be read"):
            read("nul\0byte")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs endless files")
def test_files_without_an_end_are_read_to_the_bound() -> None:
    with pytest.raises(InputError, match="/dev/zero: longer than 1000 bytes"):
        read_text("/dev/zero", 1000)
    with pytest.raises(InputError, match="/dev/zero: line 1: longer than 1000 bytes"):
        next(json_lines("/dev/zero", 1000))


def test_json_as_it_is_meant(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": NaN}\r\n\n[1, 1e400, -1e-400]\n"last"')
    found = list(json_lines(path))
    assert [number for number, _ in found] == [1, 3, 4]
    assert found[1:] == [(3, [1, float("inf"), -0.0]), (4, "last")]
    assert parse_json("9" * 308) == int("9" * 308)
    assert read_text(path).startswith("{")


def test_fractions_are_bounded() -> None:
    assert parse_fraction("1001/30000") == Fraction(1001, 30000)
    assert [parse_fraction(t) for t in ("25", " 0.04 ", "-3/1")] == [25, Fraction(1, 25), -3]
    for text in ("1e-99999999", "1e99999999", "1/0", "1/00", "9" * 10**7, "1/" + "9" * 10**7, "", "x", "nan", "1 / 2"):
        with pytest.raises(ValueError, match="expected a fraction such as 1/30000") as raised:
            parse_fraction(text)
        assert len(str(raised.value)) < 120


# --- every command that writes ------------------------------------------------------------------


@pytest.fixture
def rollouts(tmp_path: Path) -> Path:
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    path = tmp_path / "in.jsonl"
    path.write_text('{"prompt": "a", "reward": 0.5}\n{"prompt": "a", "reward": 0.0}\n')
    return path


@posix
@pytest.mark.parametrize("link", ["itself", "soft", "hard", "through a folder"])
def test_rollouts_are_never_written_over(
    rollouts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], link: str
) -> None:
    before = rollouts.read_bytes()
    out = {"itself": rollouts, "through a folder": tmp_path / "folder" / "in.jsonl"}.get(link, tmp_path / "other")
    (tmp_path / "folder").symlink_to(tmp_path)
    if link == "soft":
        out.symlink_to(rollouts)
    elif link == "hard":
        out.hardlink_to(rollouts)
    for command in (
        ["scan", rollouts, "--out", out],
        ["scan", rollouts, "--html", out],
        ["rank", rollouts, "--out", out],
        ["compare", rollouts, rollouts, "--out", out],
        ["scan", rollouts, "--out", tmp_path / "new", "--html", tmp_path / "new"],
    ):
        assert main(["rft", *map(str, command), "--quiet"]) == 2
        assert "is the same file as the" in capsys.readouterr().err
    report = rft.scan([rollouts])
    with pytest.raises(ArgumentError, match="is the same file as the input"):
        report.save(out)
    assert rollouts.read_bytes() == before
    assert not (tmp_path / "new").exists()


@posix
def test_rollouts_are_judged_into_pipes_and_standard_output(rollouts: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("earlier\n")
    command = [sys.executable, "-m", "legato", "rft", "scan", str(rollouts), "--format", "csv", "--out"]
    with log.open("a") as out:
        subprocess.run([*command, "/dev/stdout"], stdout=out, check=True)
    assert log.read_text().startswith("earlier\nprompt,n,mean")
    done = subprocess.run([*command, "/dev/full"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "legato: error: /dev/full: cannot be written (No space left on device)\n",
    )
    rft.scan([rollouts]).save("/dev/null")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_what_is_wrong_with_an_output_is_said_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reproduction = pytest.importorskip("legato.diffusion.reproduction")
    monkeypatch.setattr(reproduction, "equivalence", lambda: pytest.fail("the work began"))
    claim = ["diffusion", "reproduce", "equivalence", "--json"]
    assert main([*claim, str(tmp_path / "absent" / "t.json")]) == 1
    assert main([*claim, str(tmp_path)]) == 1
    pytest.importorskip("matplotlib")
    assert main([*claim, str(tmp_path / "t.svg"), "--plot", str(tmp_path / "t.svg")]) == 2
    assert "is the same file as the --json" in capsys.readouterr().err
    assert names(tmp_path) == []


def test_tables_are_whole_or_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "t.json"
    table.write_text("older")
    with files_of_at_most(100):
        assert main(["diffusion", "reproduce", "equivalence", "--json", str(table)]) == 1
    assert "t.json: cannot be written (File too large)" in capsys.readouterr().err
    assert table.read_text() == "older"
    assert names(tmp_path) == ["t.json"]


def test_the_plot_of_a_path_goes_through_the_door(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from legato.camera.plotting import plot_path

    mine = tmp_path / ".p.part.svg"  # as an unfinished plot was once named
    mine.write_text("of the user")
    (tmp_path / "link.svg").symlink_to("p.svg")
    motion = np.stack([np.eye(3)] * 5)
    pictures = []
    for _ in range(2):
        plot_path(motion, motion, (64, 48), tmp_path / "link.svg")
        pictures.append((tmp_path / "p.svg").read_bytes())
    assert pictures[0] == pictures[1]
    assert mine.read_text() == "of the user"
    assert names(tmp_path) == [".p.part.svg", "link.svg", "p.svg"]


def test_programs_of_any_content(tmp_path: Path) -> None:
    path = rasp.Program(lambda x: x + 1).save(tmp_path / "p.json")
    document = json.loads(path.read_text())
    assert list(rasp.Program.load(path)([1, 2])) == [2, 3]
    for change in (
        {"nodes": 5}, {"nodes": ["ab"]}, {"nodes": []}, {"nodes": [{"kind": "map", "attributes": "ab"}]}, {"nodes": {}},
        {"nodes": [[]]}, {"version": 9}, {"format": None},
    ):  # fmt: skip
        path.write_text(json.dumps(document | change))
        with pytest.raises(InputError, match=r"p\.json: "):
            rasp.Program.load(path)
    del document["name"]
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"p\.json: damaged"):
        rasp.Program.load(path)


def test_rollouts_of_any_content(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    good = b'{"prompt": "a", "reward": 1}\n'
    deep = b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b', "reward": 1}\n'
    for name, content, match in (
        ("a.jsonl", b"", "expected at least one rollout"),
        ("a.jsonl", b"\0\xff", "line 1: not UTF-8 text"),
        ("a.jsonl", b"[1]\n", "row 0: expected an object, got int"),
        ("a.jsonl", deep, r"line 1: not JSON \(nested too deeply\)"),
        ("a.jsonl", good + deep, "line 2: not JSON|row 1"),
        ("a.jsonl", b'{"prompt": "a", "reward": ' + b"9" * 10**7 + b"}\n", "a number of 10000000 digits"),
        (
            "a.jsonl",
            good + b'{"prompt": "a", "reward": ' + b"9" * 400 + b"}\n",
            r"line 2: not JSON \(a number of 400 digits",
        ),
        ("a.jsonl", b'{"prompt": "\\ud800", "reward": 1}\n', "row 0, column .prompt."),
        ("a.jsonl", good + b'{"prompt": "\\ud800", "reward": 1}\n', "row 1, column 'prompt'"),
        ("a.jsonl", good + b'{"prompt": "' + b"a" * (40 << 20) + b'", "reward": 1}\n', "line 2: longer than 16777216"),
        ("a.parquet", b"", "cannot be read as Parquet"),
        ("a.parquet", b"PAR1" + bytes(100) + b"PAR1", "cannot be read as Parquet"),
        ("a.npz", b"", "cannot be read as NPZ"),
        ("a.npz", b"PK\3\4" + bytes(100), "cannot be read as NPZ"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=match) as raised:
            rft.scan(tmp_path / name)
        assert str(tmp_path / name) in str(raised.value)
        assert "\n" not in str(raised.value)
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(InputError, match=r"folder\.jsonl: "):
        rft.scan(tmp_path / "folder.jsonl")


def test_damaged_archives_are_clear_errors(tmp_path: Path) -> None:
    """Bytes of an .npz overwritten at random places: read, or refused."""
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    path = tmp_path / "a.npz"
    np.savez_compressed(path, prompt=np.arange(200) % 9, reward=np.arange(200) % 2)
    whole, rng = path.read_bytes(), random.Random(1)
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 8)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        with contextlib.suppress(InputError):
            rft.scan(path)


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="this system cannot hold signals")
@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP"])
def test_a_signal_in_the_moment_of_replacing_leaves_nothing(tmp_path: Path, number: str) -> None:
    """Between the link under the hidden name and the replacing, with what the system does of itself."""
    code = f"""
import os, signal
from legato import _files
link = _files._link
def linked(handle, name):
    link(handle, name)
    os.kill(os.getpid(), signal.{number})
_files._link = linked
signal.signal(signal.{number}, signal.SIG_DFL)
_files.write_whole("a.txt", "new")
"""
    (tmp_path / "a.txt").write_text("old")
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    assert ended.returncode == -getattr(signal, number)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "new"
