"""The page of a report: whole, safe, and shown by a real browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clips import shaky, write_clip
from legato import video
from legato.cli import main
from legato.errors import ArgumentError, InputError
from legato.video.results.viewing import write_page

av = pytest.importorskip("av", reason="needs PyAV")

BROWSER = next((b for b in ("chromium", "chromium-browser", "google-chrome", "chrome") if shutil.which(b)), None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video with its report; VP8, which every browser plays."""
    folder = tmp_path_factory.mktemp("view")
    clip = write_clip(folder / "a <b>.webm", shaky(24, (160, 90)), codec="libvpx", pixel_format="yuv420p")
    video.stabilize(clip, folder / "out @DATA@.webm", codec="libvpx", crf=20, report=folder / "r.json")
    return folder


def test_the_page_holds_everything(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", str(folder / "r.json"), "--no-open"]) == 0
    assert capsys.readouterr().out == f"{folder / 'r.html'}\n"
    text = (folder / "r.html").read_text()
    assert re.findall(r'(?:src|href)="([^"]*)"', text) == ["a%20%3Cb%3E.webm", "out%20%40DATA%40.webm"]
    assert "http" not in text.split("<script>")[0].replace("http-equiv", "")
    assert "<title>out @DATA@.webm: before and after</title>" in text
    data = json.loads(re.search(r'type="application/json">(.*?)</script>', text)[1])
    assert len(data["curves"]["time_s"]) == 24
    assert data["curves"]["time_s"][15] == pytest.approx(0.5, abs=0.002)
    assert set(data["curves"]["before"]) == {"horizontal (px)", "vertical (px)", "roll (degrees)", "zoom (%)"}


def test_the_page_may_lie_elsewhere(folder: Path, tmp_path: Path) -> None:
    page = write_page(folder / "r.json", tmp_path / "page.html")
    source = re.findall(r' src="([^"]*)"', page.read_text())[0]
    assert source.startswith("../")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have no such names")
def test_a_name_that_is_no_text(folder: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.webm")
    shutil.copy(folder / "a <b>.webm", tmp_path / name)
    video.stabilize(tmp_path / name, tmp_path / "o.webm", codec="libvpx", report=tmp_path / "r.json")
    text = write_page(tmp_path / "r.json").read_text()
    assert re.findall(r' src="([^"]*)"', text) == ["caf%E9.webm", "o.webm"]


def test_the_page_finds_its_videos_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Original and result have one name, and the command runs elsewhere than the one that made the report."""
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "a.mp4", shaky(12, (160, 90)), sound="ac3")
    (tmp_path / "steady").mkdir()
    video.stabilize("a.mp4", "steady/a.mp4", report="steady/r.json", pixel_format="yuv420p")
    monkeypatch.chdir(tmp_path / "steady")
    text = write_page("r.json").read_text()
    assert re.findall(r' src="([^"]*)"', text) == ["../a.mp4", "a.mp4"]
    # As reports once were: nothing says which of the two it is.
    content = json.loads(Path("r.json").read_text())
    assert content["source"] == str(tmp_path / "a.mp4")
    Path("old.json").write_text(json.dumps({**content, "source": "a.mp4", "destination": "steady/a.mp4"}))
    with pytest.raises(InputError, match="source and destination are both found as"):
        write_page("old.json")
    monkeypatch.chdir(tmp_path)
    text = write_page("steady/old.json").read_text()
    assert re.findall(r' src="([^"]*)"', text) == ["../a.mp4", "a.mp4"]


def test_the_page_shows_the_notes(folder: Path, tmp_path: Path) -> None:
    content = json.loads((folder / "r.json").read_text())
    report = {**content, "notes": ["10 <bits> became 8"], "dropped_streams": ["#1 audio flac"]}
    (tmp_path / "r.json").write_text(json.dumps(report))
    text = write_page(tmp_path / "r.json").read_text()
    assert '<ul id="notes"><li>10 &lt;bits&gt; became 8</li><li>not copied: #1 audio flac</li></ul>' in text


def test_names_cannot_leave_their_place(folder: Path, tmp_path: Path) -> None:
    content = json.loads((folder / "r.json").read_text())
    lines = content["curves"]
    evil = "<!--<script>alert(1)</script>\u2028"
    lines["before"] = {evil: lines["before"].pop("zoom (%)"), **lines["before"]}
    report = {**content, "notes": ["\x1b[31mred\u202e"], "dropped_streams": [evil], "preset": evil}
    (tmp_path / "r.json").write_text(json.dumps(report))
    text = write_page(tmp_path / "r.json").read_text()
    assert text.count("<script") == 2
    assert text.count("</script") == 2
    assert "<!--" not in text
    data = re.search(r'type="application/json">(.*?)</script>', text)[1]
    assert "<" not in data
    assert evil in json.loads(data)["curves"]["before"]
    assert r"<li>\x1b[31mred\u202e</li>" in text


@pytest.mark.skipif(BROWSER is None, reason="no Chromium to look at the page with")
def test_no_other_script_runs(folder: Path, tmp_path: Path) -> None:
    """What had got into the page past every escape would do nothing, and the page's own script runs."""
    page = write_page(folder / "r.json", tmp_path / "page.html")
    foreign = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\"></body>"
    page.write_text(page.read_text().replace("</body>", foreign))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--virtual-time-budget=2000", "--dump-dom", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout
    assert "<title>out @DATA@.webm: before and after</title>" in dom
    assert dom.count("<canvas") == 4


@pytest.mark.skipif(BROWSER is None, reason="no Chromium to look at the page with")
@pytest.mark.parametrize("width", [600, 1000, 1400])
def test_nothing_reaches_beyond_the_window(folder: Path, tmp_path: Path, width: int) -> None:
    page = write_page(folder / "r.json", tmp_path / "page.html")
    probe = "<script>document.title = document.documentElement.scrollWidth + ' of ' + innerWidth</script></body>"
    text, policies = re.subn("<meta http-equiv[^>]*>", "", page.read_text())  # it would not let the probe run
    assert policies == 1
    page.write_text(text.replace("</body>", probe))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += [f"--window-size={width},900", "--virtual-time-budget=2000", "--dump-dom", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout
    reach, inner = map(int, re.search(r"<title>(\d+) of (\d+)</title>", dom).groups())
    assert reach <= inner <= width


def test_the_page_is_none_of_its_files(folder: Path) -> None:
    report = folder / "r.json"
    files = {path: path.read_bytes() for path in folder.iterdir() if path.suffix in (".json", ".webm")}
    assert len(files) == 3
    for path in files:
        with pytest.raises(ArgumentError, match="same file"):
            write_page(report, path)
    assert all(path.read_bytes() == content for path, content in files.items())


def test_what_is_no_report_is_refused(folder: Path, tmp_path: Path) -> None:
    good = json.loads((folder / "r.json").read_text())
    for content, words in (
        ("{", "not JSON"),
        ("[]", "not a report"),
        ('{"source": 3}', "not a report"),
        (json.dumps({**good, "curves": {"time_s": []}}), "curves: expected"),
        (json.dumps({**good, "source": "absent.mp4"}), "source: no such file"),
        ("[" * 100_000, "not JSON"),
        ("", "not JSON"),
        ("\0\1\2", "not JSON"),
        (json.dumps({**good, "frames": 10**4200}), "curves: expected"),
        (json.dumps({**good, "source": "a\0b"}), "source: no name of a file"),
        (json.dumps({**good, "comparison": "a\0b"}), "comparison: no name of a file"),
        (json.dumps({**good, "comparison": 5}), "comparison: not as"),
        (json.dumps({**good, "notes": 5}), "notes: not as"),
        (json.dumps({**good, "failed": 5}), "failed: not as"),
        (json.dumps({**good, "failed": [{}]}), "failed: not as"),
        (json.dumps({**good, "dropped_streams": True}), "dropped_streams: not as"),
        (json.dumps({**good, "preset": {}}), "preset: not as"),
        (json.dumps({**good, "frame_rate": float("nan")}), "not JSON"),
        (json.dumps({**good, "curves": {**good["curves"], "before": [1]}}), "curves: expected"),
        (json.dumps({**good, "curves": {**good["curves"], "time_s": ["<b>"] * 24}}), "curves: expected"),
        (json.dumps({**good, "curves": {**good["curves"], "time_s": [7] * 24}}).replace("[7,", "[1e999,"), "curves:"),
    ):
        (tmp_path / "r.json").write_text(content)
        with pytest.raises(InputError, match=words) as caught:
            write_page(tmp_path / "r.json")
        assert str(caught.value).startswith(f"{tmp_path / 'r.json'}: ")
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="cannot be read"):
        write_page(tmp_path / "absent.json")
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_odd_figures_are_not_shown(folder: Path) -> None:
    good = json.loads((folder / "r.json").read_text())
    odd = {
        "notes": ["half \ud800", 5, None],
        "frame_rate": {},
        "jitter_in_px": True,
        "cropping": 10**4000,
        "dropped_streams": [[1]],
        "size": ["\ud800"],
        "preset": "\udfff",
        "jitter_out_px": 123.5,
    }
    (folder / "odd.json").write_text(json.dumps({**good, **odd}).replace("123.5", "1e999"))
    text = write_page(folder / "odd.json", folder / "odd.html").read_text()
    (folder / "odd.json").unlink()
    assert "half ?" in text
    assert "unknown fps" in text
    assert "unknown px before, unknown px after" in text


@pytest.mark.skipif(BROWSER is None, reason="no Chromium to look at the page with")
def test_a_browser_shows_both_in_step(folder: Path, tmp_path: Path) -> None:
    page = write_page(folder / "r.json")
    command = [
        BROWSER,
        *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1000,1000"),
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    address, shot = page.as_uri() + "#t=0.5", tmp_path / "shot.png"

    def browse(budget_ms: int, what: str) -> str:
        line = [*command, f"--virtual-time-budget={budget_ms}", what, address]
        return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False).stdout

    # The budget is the page's time, which may run out before a busy machine has decoded the videos.
    for budget_ms in (6_000, 20_000, 60_000, 200_000, 600_000):
        dom = browse(budget_ms, "--dump-dom")
        shown = [re.search(rf'<html[^>]*data-{name}="([0-9.]+)"[^>]*>', dom) for name in ("before", "after")]
        browse(budget_ms, f"--screenshot={shot}")
        assert shot.is_file()
        with av.open(str(shot)) as picture:
            pixels = next(picture.decode(video=0)).to_ndarray(format="rgb24").astype(int)
        halves = [pixels[100:300, columns] for columns in (slice(20, 480), slice(520, 980))]
        # Decoded pictures, not the black of a video that does not play.
        played = all(half.std() > 20 and (half.max(2) > 60).mean() > 0.5 for half in halves)
        if played and all(shown):
            break
    assert played
    assert [found and found[1] for found in shown] == ["0.500", "0.500"]
    assert "0.50 s, frame 15" in dom
    assert 'id="trouble" hidden' in dom
    below = pixels[420:]
    red, blue = below[..., 0], below[..., 2]
    assert (red - blue > 60).sum() > 300  # the shaky curve
    assert (blue - red > 60).sum() > 300  # the steady curve
