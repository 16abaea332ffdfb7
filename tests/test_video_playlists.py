"""Lists of other files: a video from a stranger must not lead to what lies beside it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
from pathlib import Path

import numpy as np
import pytest

from clips import SIZE, shaky, write_clip
from legato import video
from legato.cli import main
from legato.errors import InputError
from legato.video.motion.analysis import read_mask

av = pytest.importorskip("av", reason="needs PyAV")

HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\n{}\n#EXT-X-ENDLIST\n"
LISTS = {
    "list.m3u8": (HLS.format("secret.ts"), "an HLS playlist"),
    "marked.m3u8": ("\ufeff" + HLS.format("secret.ts"), "an HLS playlist"),
    "hls.mp4": (HLS.format("secret.ts"), "an HLS playlist"),
    "list.ffconcat": ("ffconcat version 1.0\nfile secret.ts\n", "a concat script"),
    "concat.mp4": ("ffconcat version 1.0\nfile secret.ts\n", "a concat script"),
    "list.mpd": ('<?xml version="1.0"?>\n<MPD><BaseURL>secret.ts</BaseURL></MPD>\n', "a DASH manifest"),
    "list.sdp": ("v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nt=0 0\nm=video 9 RTP/AVP 96\n", r"a session description \(SDP\)"),
}
READ = ("list.m3u8", "list.ffconcat", "concat.mp4")  # which FFmpeg would follow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A secret, and files that name it."""
    folder = tmp_path_factory.mktemp("lists")
    write_clip(folder / "secret.ts", shaky(30), container="mpegts")
    write_clip(folder / "plain.mp4", shaky(30))
    for name, (content, _) in LISTS.items():
        (folder / name).write_text(content, encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_other_files_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    source, out, kind = folder / name, tmp_path / "out.mp4", LISTS[name][1]
    for run in (
        lambda: video.stabilize(source, out),
        lambda: video.analyze(source),
        lambda: video.stabilize_live(source, out),
        lambda: video.evaluate(folder / "plain.mp4", source),
        lambda: video.evaluate(source, folder / "plain.mp4"),
        lambda: read_mask(source, SIZE),
    ):
        with pytest.raises(InputError, match=f"{name}: not a video but {kind}, .* allow_playlists=True") as caught:
            run()
        assert "\n" not in str(caught.value)
    items = video.stabilize_all([source], [out])
    assert isinstance(items[0].error, InputError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", READ)
def test_a_list_that_is_trusted_is_read(folder: Path, tmp_path: Path, name: str) -> None:
    source, out, motion = folder / name, tmp_path / "out.mp4", tmp_path / "motion.jsonl"
    assert video.stabilize(source, out, allow_playlists=True).frames == 30
    video.analyze(source, allow_playlists=True).save(motion)
    assert video.render(source, motion, out, allow_playlists=True).frames == 30
    assert video.evaluate(source, source, allow_playlists=True).frames == 30
    assert video.stabilize_live(source, out, allow_playlists=True, latency_frames=2).frames_written == 30


@pytest.mark.parametrize(
    "arguments",
    [
        ["stabilize", "list.m3u8", "OUT"],
        ["analyze", "list.m3u8", "-o", "OUT"],
        ["render", "list.m3u8", "motion.jsonl", "OUT"],
        ["evaluate", "list.m3u8", "list.m3u8"],
        ["live", "--input", "list.m3u8", "--output", "OUT"],
        ["stabilize", "list.m3u8", "--output-folder", "OUTS"],
    ],
)
def test_the_command_has_to_be_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    for name in ("secret.ts", "list.m3u8"):
        shutil.copy(folder / name, tmp_path / name)
    video.analyze(folder / "secret.ts").save(tmp_path / "motion.jsonl")
    places = {"OUT": tmp_path / "out.mp4", "OUTS": tmp_path / "outs"}
    given = [str(places.get(a, tmp_path / a if (tmp_path / a).exists() else a)) for a in arguments]
    assert main(given) == 1
    assert "which names other files to be read (to trust it: --allow-playlists" in capsys.readouterr().err
    assert not (tmp_path / "out.mp4").exists()
    assert main([*given, "--allow-playlists"]) == 0


def test_view_shows_no_list(folder: Path, tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    video.stabilize(folder / "plain.mp4", tmp_path / "out.mp4", report=report)
    content = {**json.loads(report.read_text()), "source": str(folder / "list.m3u8")}
    report.write_text(json.dumps(content))
    assert main(["view", str(report), "--no-open"]) == 1
    assert main(["view", str(report), "--no-open", "--allow-playlists"]) == 0


def test_a_name_is_no_pattern(tmp_path: Path) -> None:
    """FFmpeg takes such names for a sequence of pictures."""
    pictures = {"a1.png": 255, "a%d.png": 0}
    for name, level in pictures.items():
        with av.open(str(tmp_path / "one.png"), "w", format="image2", options={"update": "1"}) as out:
            stream = out.add_stream("png", rate=1)
            stream.width, stream.height, stream.pix_fmt = *SIZE, "rgb24"
            picture = np.full((*SIZE[::-1], 3), level, np.uint8)
            out.mux([*stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")), *stream.encode(None)])
        (tmp_path / "one.png").rename(tmp_path / name)
    assert read_mask(tmp_path / "a1.png", SIZE).all()
    assert not read_mask(tmp_path / "a%d.png", SIZE).any()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_and_a_url_of_a_file_bring_no_list(folder: Path, tmp_path: Path) -> None:
    fifo, out = tmp_path / "fifo.m3u8", tmp_path / "out.mp4"
    for name in ("list.m3u8", "list.ffconcat"):
        os.mkfifo(fifo)
        content = (folder / name).read_text().replace("secret.ts", str(folder / "secret.ts"))
        writing = threading.Thread(target=fifo.write_text, args=(content,), daemon=True)
        writing.start()
        with pytest.raises(InputError, match="a list of other files is not read"):
            video.stabilize_live(fifo, out, stall_s=5)
        fifo.unlink()
        with pytest.raises(InputError, match="a list of other files is not read"):
            video.stabilize_live(f"file://{folder / name}", out)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("trusted", [False, True])
def test_a_list_from_a_network_names_no_file(folder: Path, tmp_path: Path, trusted: bool) -> None:
    """Of a protocol on which FFmpeg by itself sets no limit."""
    content = HLS.format(f"file://{folder / 'secret.ts'}").encode()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(content)

        threading.Thread(target=answer, daemon=True).start()
        url = f"tcp://127.0.0.1:{server.getsockname()[1]}/list.m3u8"
        with pytest.raises(InputError, match="cannot be opened"):
            video.stabilize_live(url, tmp_path / "out.mp4", reconnect_s=0, stall_s=5, allow_playlists=trusted)
    assert list(tmp_path.iterdir()) == []
