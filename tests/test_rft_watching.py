"""The doctor beside a training and between two: folders that grow, hooks of trainers, prompts to go on with."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow", reason="pyarrow is in the rft extra")
pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is in the rft extra")

from legato import rft  # noqa: E402
from legato.cli import main  # noqa: E402
from legato.errors import ArgumentError, InputError  # noqa: E402
from legato.rft.callbacks import logged, trl_callback, verl_reward  # noqa: E402


def cli(*arguments: object) -> int:
    return main(["rft", *map(str, arguments)])


def completions(step: int, rewards: list[float], prompts: int = 2) -> Any:
    """A step as TRL logs it."""
    each = len(rewards) // prompts
    return pa.table(
        {
            "step": [step] * len(rewards),
            "prompt": [f"p{i // each}" for i in range(len(rewards))],
            "completion": ["x"] * len(rewards),
            "accuracy": rewards,
            "advantage": [0.0] * len(rewards),
        }
    )


def test_files_count_once_and_when_they_are_whole(tmp_path: Path) -> None:
    folder = tmp_path / "completions"
    watch = rft.Watch(folder)
    assert not watch.poll()  # not there yet
    with pytest.raises(InputError, match="got none"):
        watch.report()
    folder.mkdir()
    pq.write_table(completions(1, [0.0, 1.0, 1.0, 1.0]), folder / "completions_00001.parquet")
    whole = (folder / "completions_00001.parquet").read_bytes()
    (folder / "completions_00002.parquet").write_bytes(whole[: len(whole) // 2])  # being written
    (folder / "config.yaml").write_text("no table")
    assert watch.poll()
    assert watch.rollouts == 4
    assert not watch.poll()
    pq.write_table(completions(2, [0.0, 0.0, 1.0, 1.0]), folder / "completions_00002.parquet")
    assert watch.poll()
    report = watch.report()
    assert report.to_json() == rft.scan(folder).to_json()
    assert [step["no_gradient"] for step in report.overall["steps"]] == [0.5, 1.0]
    (folder / "completions_00003.parquet").write_bytes(b"PAR1 never to be one")
    for _ in range(4):
        watch.poll()
    assert len(watch.trouble) == 1
    assert "completions_00003.parquet: cannot be read as Parquet" in watch.trouble[0]


def test_lines_count_as_they_are_added(tmp_path: Path) -> None:
    watch = rft.Watch(tmp_path)
    path = tmp_path / "rollouts.jsonl"
    rows = [json.dumps({"step": i // 8, "prompt": f"p{i % 4}", "reward": i % 2}) + "\n" for i in range(40)]
    rng = np.random.default_rng(0)
    text, at = "".join(rows).encode(), 0
    while at < len(text):  # cut anywhere
        more = int(rng.integers(1, 200))
        with path.open("ab") as file:
            file.write(text[at : at + more])
        at += more
        watch.poll()
    assert watch.rollouts == 40
    assert watch.report().to_json() == rft.scan(path).to_json()
    csv = tmp_path / "more.csv"
    csv.write_text("step,prompt,reward\n9,p9,1\n")
    assert not watch.poll()  # it may still grow
    assert watch.poll()
    assert watch.rollouts == 41


def test_watch_command_follows_a_writer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, page = tmp_path / "completions", tmp_path / "page.html"

    def write() -> None:
        folder.mkdir()
        for step in range(1, 5):
            pq.write_table(
                completions(step, [0.0, 0.0, float(step % 2), 1.0]), folder / f"completions_{step:05d}.parquet"
            )
            time.sleep(0.05)

    writer = threading.Thread(target=write)
    writer.start()
    assert cli("watch", folder, "--html", page, "--every", 0.02, "--idle", 0.5, "--range", 0, 1) == 0
    writer.join()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["step", "1", "2", "3", "4"]
    assert [line.split()[5] for line in lines[1:]] == ["100.0%", "50.0%", "100.0%", "50.0%"]
    assert '<meta http-equiv="refresh" content="1">' in page.read_text()
    assert cli("watch", tmp_path / "nothing", "--once") == 1
    assert "no rollouts came" in capsys.readouterr().err
    assert cli("watch", folder, "--every", 0) == 2


def test_a_logged_reward(tmp_path: Path) -> None:
    """What it keeps is what a scan reads; a reward of None does not count."""

    def reward(completions: list[str], **_: Any) -> list[float | None]:
        return [None if c == "-" else float(c) for c in completions]

    class State:
        global_step = 3

    wrapped = logged(reward, tmp_path / "log.jsonl")
    assert wrapped.__name__ == "reward"
    answers = ["0", "1", "1", "1", "0", "-"]
    chats = [[{"role": "user", "content": p}] for p in "aabbcc"]
    assert wrapped(prompts=chats, completions=answers, trainer_state=State()) == [0, 1, 1, 1, 0, None]
    report = rft.scan(tmp_path / "log.jsonl", value_range=(0, 1))
    assert (report.n.tolist(), report.step.tolist(), report.mean.tolist()) == ([2, 2, 1], [3] * 3, [0.5, 1.0, 0.0])


def test_a_reward_of_verl(tmp_path: Path) -> None:
    """Called as verl's reward managers call it, with keywords."""

    def compute_score(data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None) -> Any:  # noqa: ARG001
        score = float(solution_str == ground_truth)
        return {"score": score, "acc": score} if data_source == "gsm8k" else score

    wrapped = verl_reward(compute_score, tmp_path / "log.jsonl")
    for source, index, answer in (("gsm8k", 0, "4"), ("gsm8k", 0, "5"), ("math", 0, "4"), ("math", None, "4")):
        extra = {"split": "train", "index": None if index is None else np.int64(index)}
        found = wrapped(data_source=source, solution_str=answer, ground_truth="4", extra_info=extra)
        assert found == compute_score(source, answer, "4")
    report = rft.scan(tmp_path / "log.jsonl")
    assert sorted(report.n.tolist()) == [1, 1, 2]
    assert any('"index": 0' in prompt and "gsm8k" in prompt for prompt in report.prompt)


def test_select(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rates = {"never": 0.0, "rarely": 0.125, "half": 0.5, "mostly": 0.875, "always": 1.0}
    rows = [{"uid": name, "reward": float(k < 8 * rate)} for name, rate in rates.items() for k in range(8)]
    report = rft.scan(rows)
    found = rft.select(report)
    assert (found.keep, found.easy, found.hard) == (["half", "mostly", "rarely"], ["always"], ["never"])
    assert rft.select(report, (0.2, 0.8)).keep == ["half"]
    assert rft.select(report, (0.0, 1.0), min_std=0.4).keep == ["half"]
    assert rft.select(report, (0.0, 1.0), min_std=0.4).easy == ["always", "mostly"]
    log, out = tmp_path / "log.jsonl", tmp_path / "sets"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli("select", log, "--out", out) == 0
    assert capsys.readouterr().out.startswith("3 prompts to keep, 1 easy, 1 hard")
    assert (out / "keep.txt").read_text() == "half\nmostly\nrarely\n"
    data = tmp_path / "data.parquet"
    pq.write_table(pa.table({"id": list(rates), "prompt": [[{"role": "user", "content": n}] for n in rates]}), data)
    assert cli("select", log, "--out", out, "--format", "parquet", "--data", data, "--key", "id") == 0
    kept = pq.read_table(out / "keep.parquet").to_pylist()
    assert [row["id"] for row in kept] == ["rarely", "half", "mostly"]
    assert kept[0]["prompt"] == [{"role": "user", "content": "rarely"}]
    assert cli("select", log, "--out", out, "--format", "jsonl", "--data", data, "--key", "id") == 0
    assert json.loads((out / "hard.jsonl").read_text())["id"] == "never"
    assert cli("select", log, "--out", out, "--format", "jsonl", "--data", data, "--key", "name") == 1
    for options in ({"band": (0.5, 0.2)}, {"min_std": -1.0}):
        with pytest.raises(ArgumentError, match=next(iter(options))):
            rft.select(report, **options)
    with pytest.raises(ArgumentError, match="form"):
        found.save(out, "csv")  # type: ignore[arg-type]


def test_select_takes_the_last_step_and_gives_chats_back(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "?"}]
    rows = [{"step": s, "prompt": chat, "reward": float(s == 2 or k == 0)} for s in (1, 2) for k in range(4)]
    found = rft.select(rft.scan(rows))
    assert (len(found.easy), found.keep) == (1, [])
    found.save(tmp_path, "jsonl")
    assert json.loads((tmp_path / "easy.jsonl").read_text())["prompt"] == chat
    found.save(tmp_path, "parquet")
    assert pq.read_table(tmp_path / "easy.parquet")["prompt"].to_pylist() == [chat]
    assert pq.read_table(tmp_path / "keep.parquet").num_rows == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_training_of_trl_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps on the CPU: a model of one layer, a vocabulary of 43 words, no network; all three hooks beside it."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    trl = pytest.importorskip("trl", reason="trl is in the peers extra; its files are in tests/data")
    datasets, tokenizers, transformers = (
        pytest.importorskip(name, reason="trl needs it") for name in ("datasets", "tokenizers", "transformers")
    )
    words = ["[PAD]", "[EOS]", "[UNK]", *(f"w{i}" for i in range(40))]
    plain = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    )
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    special = {"pad_token": "[PAD]", "eos_token": "[EOS]", "unk_token": "[UNK]"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=plain, padding_side="left", **special)
    shape = transformers.GPT2Config(
        vocab_size=len(words), n_positions=64, n_embd=32, n_layer=1, n_head=2, pad_token_id=0, eos_token_id=1
    )

    def length_reward(completions: list[str], **_: Any) -> list[float]:
        return [float(len(text.split())) for text in completions]

    def even_reward(completions: list[str], log_extra: Any, **_: Any) -> list[float | None]:
        log_extra("last", [text[-3:] for text in completions])
        return [None if "0" in text else float(len(text) % 2) for text in completions]

    options = {"use_cpu": True, "bf16": False, "max_steps": 3, "report_to": [], "save_strategy": "no", "seed": 0}
    told: list[tuple[int, dict[str, float]]] = []
    page, folder = tmp_path / "page.html", tmp_path / "completions"
    callback = trl_callback(log=lambda numbers, step: told.append((step, numbers)), page=page, value_range=(0, 7))
    watch = rft.Watch(folder)
    trl.GRPOTrainer(
        model=transformers.GPT2LMHeadModel(shape),
        processing_class=tokenizer,
        reward_funcs=[logged(length_reward, tmp_path / "log.jsonl"), even_reward],
        args=trl.GRPOConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=8,
            num_generations=4,
            max_completion_length=6,
            log_completions=True,
            logging_steps=1,
            **options,
        ),
        train_dataset=datasets.Dataset.from_dict({"prompt": [f"w{i} w{i + 1}" for i in range(16)]}),
        callbacks=[callback],
    ).train()
    files = sorted(folder.glob("completions_*.parquet"))
    report = rft.scan(files, value_range=(0, 7))
    assert report.n.tolist() == [4] * 6
    assert report.settings["reward_columns"] == ["length_reward", "even_reward"]
    assert [step for step, _ in told] == [1, 2, 3]
    assert [numbers["legato/mean"] for _, numbers in told] == [step["mean"] for step in report.overall["steps"]]
    assert page.read_text().count("<svg") == 4
    assert watch.poll()
    assert watch.report().overall["steps"] == rft.scan(files).overall["steps"]
    kept, alone = rft.scan(tmp_path / "log.jsonl"), rft.scan(files, columns=rft.Columns(reward="length_reward"))
    assert kept.prompt == alone.prompt
    np.testing.assert_array_equal(kept.mean, alone.mean)
