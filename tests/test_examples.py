"""The scripts of `examples/` do what they say, and answer a wrong call in one line."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(where: Path, script: str, *arguments: str | Path, fails: bool = False) -> str:
    """Run a script in a folder; give what it printed, or with `fails` the one line of its error."""
    command = [sys.executable, "-W", "error", EXAMPLES / script, *arguments]
    done = subprocess.run(command, cwd=where, check=False, capture_output=True, text=True)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    if fails:
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
    return done.stderr if fails else done.stdout


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    pytest.importorskip("av", reason="needs PyAV, of the video extra")
    from clips import shaky, write_clip

    (tmp_path / "shaky").mkdir()
    for n in range(2):
        write_clip(tmp_path / "shaky" / f"{n}.mp4", shaky(30, seed=n))
    return tmp_path


def test_folder_of_videos(clips: Path) -> None:
    (clips / "shaky" / "notes.txt").write_text("no video")
    first = run(clips, "folder_of_videos.py", "shaky", "steady")
    assert first.count("px of jitter before") == 2
    assert sorted(path.name for path in (clips / "steady").iterdir()) == ["0.mp4", "1.mp4"]
    assert run(clips, "folder_of_videos.py", "shaky", "steady").count("was done already") == 2
    assert "no file ends in" in run(clips, "folder_of_videos.py", "steady/..", "other", fails=True)


def test_dask_batch(clips: Path) -> None:
    pytest.importorskip("distributed", reason="Dask's cluster is not installed")
    assert run(clips, "dask_batch.py", "shaky", "steady") == "0.mp4: done\n1.mp4: done\n"
    assert (clips / "steady" / "1.mp4").stat().st_size > 0


def test_live_camera_without_a_camera(tmp_path: Path) -> None:
    words = run(tmp_path, "live_camera.py").split()
    before, after = float(words[3]), float(words[8])
    assert words[:3] == ["120", "pictures,", "shake"]
    assert after < before / 4


def test_camera_path(tmp_path: Path) -> None:
    import numpy as np

    assert run(tmp_path, "camera_path.py").count("optimal") == 4
    motion = np.tile(np.eye(3), (40, 1, 1))
    motion[::2, 0, 2] = 3.0
    np.save(tmp_path / "motion.npy", motion)
    assert run(tmp_path, "camera_path.py", "motion.npy").count("optimal") == 4
    np.save(tmp_path / "bad.npy", np.zeros(3))
    assert "bad.npy: motion: expected" in run(tmp_path, "camera_path.py", "bad.npy", fails=True)
    assert "missing.npy" in run(tmp_path, "camera_path.py", "missing.npy", fails=True)


def test_guidance(tmp_path: Path) -> None:
    for line in run(tmp_path, "guidance.py").splitlines()[1:]:
        *_, found, theory = line.split()
        assert abs(float(found) / float(theory) - 1) < 0.05


def test_digits_sampler(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="needs scikit-learn, which has the digits")
    assert run(tmp_path, "digits_sampler.py").splitlines()[-1].startswith("100%")


def test_rasp_program(tmp_path: Path) -> None:
    printed = run(tmp_path, "rasp_program.py")
    assert printed.count("[3, 1, 3, 3, 1] -> [0, 0, 1, 2, 1]") == 2
    assert "RASP-L: yes" in printed
    pytest.importorskip("safetensors", reason="needs safetensors, of the rasp extra")
    run(tmp_path, "rasp_program.py", "weights.safetensors")
    assert (tmp_path / "weights.safetensors").stat().st_size > 1000


def test_rollout_doctor(tmp_path: Path) -> None:
    assert "5 prompts, 4 steps, 20 groups" in run(tmp_path, "rollout_doctor.py", "rollouts.jsonl", "page.html")
    assert len([json.loads(line) for line in (tmp_path / "rollouts.jsonl").read_text().splitlines()]) == 320
    assert "<html" in (tmp_path / "page.html").read_text()


def test_reward_log(tmp_path: Path) -> None:
    assert "2 prompts" in run(tmp_path, "trl_reward_log.py")


def test_tuning_a_camera_path() -> None:
    """The cells of the notebook, run in order, give the outputs stored in it; its picture need only be drawn."""
    matplotlib = pytest.importorskip("matplotlib", reason="needs matplotlib, of the video extra")
    matplotlib.use("Agg")
    scope: dict[str, Any] = {}
    for cell in json.loads((EXAMPLES / "tuning_a_camera_path.ipynb").read_text())["cells"]:
        if cell["cell_type"] != "code":
            continue
        *statements, last = ast.parse("".join(cell["source"])).body
        value, printed = None, io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(ast.Module(statements, []), "notebook", "exec"), scope)
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), "notebook", "eval"), scope)
            else:
                exec(compile(ast.Module([last], []), "notebook", "exec"), scope)
        shown = [output.get("text") or output["data"]["text/plain"] for output in cell["outputs"]]
        found = [printed.getvalue()] if printed.getvalue() else [] if value is None else [repr(value)]
        assert found == ["".join(lines) for lines in shown]
    scope["plt"].close("all")


@pytest.mark.parametrize("script", ["folder_of_videos.py", "dask_batch.py", "rollout_doctor.py"])
def test_a_wrong_call_is_answered_in_one_line(tmp_path: Path, script: str) -> None:
    if script == "dask_batch.py":
        pytest.importorskip("distributed", reason="Dask's cluster is not installed")
    assert run(tmp_path, script, fails=True).startswith("usage: python ")


def test_each_example_is_in_the_table() -> None:
    table = (EXAMPLES / "README.md").read_text()
    for path in [*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.ipynb"), *EXAMPLES.glob("*/*.c*")]:
        assert f"]({path.relative_to(EXAMPLES)})" in table
