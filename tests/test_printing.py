"""The door for what is printed: nothing steers a terminal, and nothing becomes a formula."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import DATA
from legato._printing import csv_cell, printable, say
from legato.cli import main

HOSTILE = DATA / "rft" / "prompts_hostile.jsonl"
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]")


def test_what_steers_becomes_visible() -> None:
    assert printable("\x1b[31mred\x07") == r"\x1b[31mred\x07"
    assert printable("a\u202eb\u2066\u2028") == r"a\u202eb\u2066\u2028"
    assert printable("tab\there\r\nnext") == r"tab\there\r\nnext"
    assert printable("tab\there\r\nnext", "\t\n") == "tab\there\\r\nnext"
    assert printable("\x9b\x7f\udcff\U000e0041") == r"\x9b\x7f\udcff\U000e0041"
    plain = "caf\u00e9 \u65e5\u672c \u00a0 \U0001f468\u200d\U0001f469 C:\\x"
    assert printable(plain) == plain
    assert printable(Path("a\nb")) == r"a\nb"
    assert printable(None) == "None"


def test_say_keeps_lines_alone(capsys: pytest.CaptureFixture[str]) -> None:
    say("one\n\ttwo\x1b[2J", flush=True)
    say()
    say(3, end="")
    assert capsys.readouterr().out == "one\n\ttwo\\x1b[2J\n\n3"


@pytest.mark.parametrize(
    "text", ["=1+1", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1", "-", "+1e", "-1-"]
)
def test_no_text_is_a_formula(text: str) -> None:
    assert csv_cell(text) == "'" + printable(text, "\n\t")


@pytest.mark.parametrize("value", [-1, -2.5, None, "-1", "+2.5e-3", "-.5", "1-2", "a=b", "", "'=1", " =1"])
def test_numbers_and_plain_texts_stay(value: object) -> None:
    assert csv_cell(value) == value


def test_a_long_cell_takes_no_time() -> None:
    digits = "-" + "9" * 1_000_000 + "x"
    assert csv_cell(digits) == "'" + digits


@pytest.mark.parametrize("form", ["table", "csv", "json", "html"])
def test_hostile_ids_in_every_format(capsys: pytest.CaptureFixture[str], form: str) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    assert main(["rft", "scan", str(HOSTILE), "--format", form, "--quiet"]) == 0
    out = capsys.readouterr().out
    assert not STEERING.search(out)
    if form == "table":
        assert r"\x1b[31mred\x1b]0;pwned\x07" in out
        assert r"a\u202eb" in out
    elif form == "csv":
        ids = [row["prompt"] for row in csv.DictReader(io.StringIO(out))]
        assert '\'=HYPERLINK("http://evil","x")' in ids
        assert {"'+1+1", "'-2+3", "'@SUM(A1)", r"a\u202eb", "tab\there", "nl\nx", "norm"} < set(ids)
        assert all(float(row["mean"]) >= 0 for row in csv.DictReader(io.StringIO(out)))
    elif form == "json":  # the ids as they are
        given = {json.loads(line)["prompt"] for line in HOSTILE.read_text().splitlines()}
        assert {row["prompt"] for row in json.loads(out)["prompts"]} == given
    else:
        assert "<script" not in out
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in out
        assert "default-src 'none'" in out


def test_hostile_names_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In errors, of files and of arguments, of every command that reads one."""
    pytest.importorskip("av", reason="needs PyAV")
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    name = tmp_path / "a\x1b[31m\u202eb\nlegato: error: forged.mp4"
    commands = (
        ["stabilize", name, tmp_path / "o.mp4"],
        ["stabilize", name, name, "--resume"],
        ["stabilize", name, "--output-folder", tmp_path / "out"],
        ["analyze", name, "-o", tmp_path / "o.jsonl"],
        ["render", name, name, tmp_path / "o.mp4"],
        ["evaluate", name, name],
        ["live", name, tmp_path / "o.mp4"],
        ["view", name],
        ["rasp", name],
        ["rft", "scan", name],
        ["diffusion", "reproduce", "equivalence", "--plot", name],
        ["info", name],
    )
    for command in commands:
        assert main([str(part) for part in command]) in (1, 2)
        told = capsys.readouterr()
        assert not STEERING.search(told.out + told.err), command
        assert not re.search("^legato: error: forged", told.err, re.MULTILINE), command
        assert told.err.count("\n") == 1, command


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium to look at the page with")
def test_the_page_of_rollouts_is_shown_as_meant(tmp_path: Path) -> None:
    """With the content policy, its own styles are in force."""
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    page = tmp_path / "r.html"
    assert main(["rft", "scan", str(HOSTILE), "--html", str(page), "--out", str(tmp_path / "r.txt"), "--quiet"]) == 0
    shot = tmp_path / "shot.png"
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--window-size=1000,2400", f"--screenshot={shot}", page.as_uri()]
    subprocess.run(command, capture_output=True, timeout=120, check=False)
    av = pytest.importorskip("av", reason="needs PyAV")
    with av.open(str(shot)) as picture:
        pixels = next(picture.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    for red, green, blue in ((0xB3, 0x26, 0x1E), (0xD9, 0x82, 0x00), (0x1A, 0x7F, 0x4B), (0x5B, 0x6B, 0x7F)):
        near = abs(pixels - (red, green, blue)).max(2) < 8
        assert near.sum() > 100  # the mark of a verdict's card
