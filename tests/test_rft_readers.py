"""Logs as trainers and evaluation tools write them: prompts, rollouts and verdicts of each layout."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import DATA

pa = pytest.importorskip("pyarrow", reason="pyarrow is in the rft extra")
pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is in the rft extra")

from legato import _core, rft  # noqa: E402
from legato.errors import ArgumentError, InputError  # noqa: E402
from legato.rft import readers  # noqa: E402
from legato.rft.prompts import canonical_json, prompt_keys  # noqa: E402
from legato.rft.readers import parts_of, step_of  # noqa: E402

LAYOUTS = DATA / "rft" / "layouts"
EXPECTED = json.loads((LAYOUTS / "expected.json").read_text())
# The log that most of the files hold: two prompts that always fail, two in between, two that always succeed.
USUAL = {f"What is {i}+{i}?": share for i, share in enumerate((0.0, 0.0, 0.375, 0.5, 1.0, 1.0))}
OTHERS = {"lmeval.jsonl", "nemorl.jsonl", "two_steps", "bigint.jsonl", "x_u64.parquet"}
CHATS = {"x_toolcalls.jsonl", "x_dict_prompt.jsonl", "chat_mm_first_textonly.jsonl", "chat_extra.jsonl"}


@pytest.mark.parametrize("name", [name for name in EXPECTED if name and name != "nemorl.jsonl"])
def test_prompts_and_rollouts(name: str) -> None:
    report = rft.scan(LAYOUTS / name)
    assert [report.overall["prompts"], report.overall["rollouts"]] == EXPECTED[name][:2]
    if name in OTHERS | CHATS:
        return
    means = report.mean - (1.0 if name.startswith("completions") else 0.0)  # the second reward is always 1
    ids = [f"HumanEval/{i}" for i in range(6)] if name == "evalplus.jsonl" else list(USUAL)
    assert report.prompt == ids
    assert report.n.tolist() == [8] * 6
    assert means.tolist() == list(USUAL.values())
    assert report.verdict.tolist() == ["suspect", "suspect", "healthy", "healthy", "suspect", "suspect"]
    found = report.overall["population"]
    assert [found[key]["share"] for key in ("no_gradient", "all_zero", "all_one")] == [4 / 6, 2 / 6, 2 / 6]


def test_no_prompt_column_names_those_there_are() -> None:
    with pytest.raises(InputError, match=r"nemorl\.jsonl: no prompt column .*: content, rewards, .*idx; .*col content"):
        rft.scan(LAYOUTS / "nemorl.jsonl")
    report = rft.scan(LAYOUTS / "nemorl.jsonl", columns=rft.Columns(prompt="content"))
    assert (len(report.prompt), report.n.tolist()) == (6, [8] * 6)


def test_steps_are_told_apart() -> None:
    """Every group is constant, at 0 in the first step and at 1 in the second: pooled, all prompts would be healthy."""
    report = rft.scan(LAYOUTS / "two_steps")
    found = report.overall["population"]
    assert report.step.tolist() == [1] * 10 + [2] * 10
    assert (len(report.n), found["no_gradient"]["share"]) == (20, 1.0)
    assert (found["all_zero"]["share"], found["all_one"]["share"]) == (0.5, 0.5)
    assert [(s["step"], s["all_zero"], s["all_one"]) for s in report.overall["steps"]] == [(1, 1.0, 0.0), (2, 0.0, 1.0)]
    assert set(report.verdict) == {"suspect"}
    pooled = rft.scan(LAYOUTS / "two_steps", columns=rft.Columns(step="none"))
    assert set(pooled.verdict) == {"healthy"}


def test_a_file_a_step(tmp_path: Path) -> None:
    for step, reward in ((5, 0.0), (40, 1.0)):
        rows = [{"prompt": "a", "reward": reward}] * 4
        (tmp_path / f"step_{step}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert rft.scan(tmp_path).step.tolist() == [5, 40]
    assert rft.scan(str(tmp_path / "step_*.jsonl")).zero_std.all()
    assert rft.scan(tmp_path, columns=rft.Columns(steps=(6, 99))).step.tolist() == [40]
    for name, step in (
        ("completions_00012.parquet", 12), ("rollouts-step7.jsonl.gz", 7), ("global_step_3/data.parquet", 3),
        ("8.jsonl", 8), ("part-0.parquet", None), ("train-00000-of-00005.parquet", None), ("run2/data.json", None),
    ):  # fmt: skip
        assert step_of(Path(name)) == step, name


def test_prompts_of_chats() -> None:
    """Rows differ in their fields; a file and the same rows in Python give the same prompts."""
    for name in CHATS:
        rows = [json.loads(line) for line in (LAYOUTS / name).read_text().splitlines()]
        distinct = Counter(canonical_json(row["prompt"]) for row in rows)
        for source in (LAYOUTS / name, rows, iter(rows), {k: [row[k] for row in rows] for k in ("prompt", "reward")}):
            report = rft.scan(source)
            assert dict(zip(report.prompt, report.n.tolist(), strict=True)) == distinct, name


def chats(distinct: int, rows: int) -> list[list[dict[str, str]]]:
    """Chats of one or two messages in a shuffled order."""
    answer = {"role": "assistant", "content": "Which?"}
    order = np.random.default_rng(0).integers(0, distinct, rows).tolist()
    return [[{"role": "user", "content": f"What is {i}?"}, *([answer] if i % 3 else [])] for i in order]


@pytest.mark.parametrize("rows", [100, 3000])
def test_chats_in_parquet_are_read_as_codes(tmp_path: Path, rows: int) -> None:
    """In one group of rows or in many, each with a dictionary of its own."""
    table = pa.table({"prompt": chats(50, 3000), "reward": np.arange(3000) % 2.0})
    pq.write_table(table, tmp_path / "log.parquet", row_group_size=rows)
    (part,) = parts_of(tmp_path / "log.parquet")
    for batch in part.batches(["prompt"], "prompt"):
        assert pa.types.is_dictionary(batch["prompt"].type.value_type.field("content").type)
    report, plain = rft.scan(tmp_path / "log.parquet"), rft.scan(table)
    assert report.prompt == plain.prompt == sorted({canonical_json(chat) for chat in table["prompt"].to_pylist()})
    assert np.array_equal(report.n, plain.n)
    assert np.array_equal(report.mean, plain.mean)


def test_each_chat_of_lines_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many batches it is in."""
    given = chats(50, 3000)
    lines = [json.dumps({"prompt": chat, "reward": 1}) + "\n" for chat in given]
    (tmp_path / "log.jsonl").write_text("".join(lines))
    parsed: list[Any] = []

    def parse(chat: Any) -> str:
        parsed.append(chat)
        return canonical_json(chat)

    monkeypatch.setattr(readers, "_BLOCK", 1 << 14)
    monkeypatch.setattr(readers, "canonical_json", parse)
    report = rft.scan(tmp_path / "log.jsonl")
    assert len(parsed) == len(report.prompt) == 50
    assert report.n.sum() == 3000
    monkeypatch.setattr(readers, "_REMEMBERED", 0)  # what is forgotten is parsed again, to the same keys
    assert rft.scan(tmp_path / "log.jsonl").prompt == report.prompt
    assert len(parsed) > 100


@settings(deadline=None, max_examples=60)
@given(
    begin=st.sampled_from(["", "prompt-", "What is the sum of "]),
    names=st.lists(st.text(alphabet="a\x00é\U0001f600 ", max_size=12), min_size=1, max_size=40, unique=True),
)
def test_prompts_are_in_order_of_their_bytes(begin: str, names: list[str]) -> None:
    given = [begin + name for name in names]
    report = rft.scan({"prompt": given, "reward": np.zeros(len(given))})
    assert report.prompt == sorted(given, key=str.encode)


def test_numbers_of_numpy_in_prompts_are_numbers() -> None:
    """As a table has them; they were texts."""
    given = {"grid": np.array([[1, 2], [3, 4]]), "size": np.int64(2), "none": None}
    assert canonical_json(given) == '{"grid": [[1, 2], [3, 4]], "size": 2}'
    assert canonical_json({"say": "null", "none": [None, {"x": None}]}) == '{"none": [null, {}], "say": "null"}'


def test_chats_are_the_same_in_every_format(tmp_path: Path) -> None:
    rows = [
        {"prompt": [{"role": "user", "content": f'é "{i % 3}"\n\\'}, {"content": None, "role": "tool"}], "score": i % 2}
        for i in range(12)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "y.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False, indent=None) + "\n" for row in rows))
    reports = [rft.scan(source) for source in (rows, *sorted(tmp_path.iterdir()), pa.Table.from_pylist(rows))]
    assert len({report.to_json() for report in reports}) == 1
    assert json.loads(reports[0].prompt[0])[0]["content"] == 'é "0"\n\\'


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=80)
@given(prompts=st.lists(st.lists(JSON, min_size=1, max_size=3), min_size=1, max_size=6))
def test_any_prompt_is_keyed_by_its_json(prompts: list[Any]) -> None:
    report = rft.scan([{"prompt": prompt, "reward": 0.5} for prompt in prompts])
    assert report.prompt == sorted({canonical_json(prompt) for prompt in prompts}, key=lambda p: p.encode())
    try:
        array = pa.array(prompts)
    except pa.ArrowException:
        return
    assert prompt_keys(array).to_pylist() == [canonical_json(value) for value in array.to_pylist()]


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(st.fixed_dictionaries({"a": JSON, "prompt": st.text(), "b": JSON}), min_size=1, max_size=5))
def test_columns_that_no_one_asked_for_are_skipped(rows: list[dict[str, Any]], tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("rows") / "x.jsonl"
    text = "".join(json.dumps({**row, "reward": i % 2}, ensure_ascii=i % 2 == 0) + "\n" for i, row in enumerate(rows))
    path.write_text(text, encoding="utf-8")
    report = rft.scan(path)
    assert dict(zip(report.prompt, report.n.tolist(), strict=True)) == Counter(row["prompt"] for row in rows)


def test_bytes_and_large_integers_that_no_one_asked_for() -> None:
    table = pa.table({"prompt": ["a"] * 4, "raw": [b"\xff"] * 4, "big": pa.array([2**64 - 1] * 4, pa.uint64())})
    assert rft.scan(table.append_column("reward", pa.array([0, 1, 1, 0]))).n.tolist() == [4]


def test_integers_of_any_size(tmp_path: Path) -> None:
    for name in ("bigint.jsonl", "x_u64.parquet"):
        report = rft.scan(LAYOUTS / name)
        assert all(isinstance(prompt, int) and prompt >= 2**63 for prompt in report.prompt)
        assert report.prompt == sorted(report.prompt)
    small, large = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    small.write_text('{"uid": 7, "reward": 1}\n{"uid": 7, "reward": 0}\n')
    large.write_text('{"uid": 123456789012345678901234567890, "reward": 1}\n{"uid": 7, "reward": 1}\n')
    for files in ([small, large], [large, small]):
        report = rft.scan(files)
        assert (report.prompt, report.n.tolist()) == ([7, 123456789012345678901234567890], [3, 1])


def test_ids_that_number_the_rows_give_way() -> None:
    report = rft.scan(LAYOUTS / "uid_unique.parquet")
    assert any("'uid' is another one in every row" in note for note in report.notes)
    single = rft.scan({"uid": [1, 2, 3], "prompt": ["a", "b", "c"], "reward": [0, 1, 1]})
    assert single.prompt == [1, 2, 3]
    assert any("have one rollout" in note for note in single.notes)


def test_lists_of_rewards() -> None:
    rows = [{"prompt": "a", "score": [0.0, 0.5, 0.5]}, {"prompt": "a", "score": [0.25]}, {"prompt": "b", "score": []}]
    summed = rft.scan(rows)
    assert (summed.n.tolist(), summed.mean.tolist()) == ([2, 1], [0.625, 0.0])
    each = rft.scan(rows, columns=rft.Columns(lists="each"))
    assert (each.prompt, each.n.tolist(), each.mean.tolist()) == (["a"], [4], [0.3125])
    grouped = [{"prompt": "a", "responses": ["x", "y"], "score": [0.0, 1.0], "step": 3}]
    report = rft.scan(grouped)
    assert (report.n.tolist(), report.step.tolist(), report.mean.tolist()) == ([2], [3], [0.5])
    missing = rft.scan([{"prompt": "a", "score": [1.0, 1.0]}, {"prompt": "a", "score": None}], nan="drop")
    assert (missing.n.tolist(), missing.overall["dropped"]) == ([1], 1)


def test_words_and_truths(tmp_path: Path) -> None:
    for values in (["pass", "fail", "Passed", "0.5"], [True, False, True, 0.5], ["1", "0", " true", "5e-1"]):
        report = rft.scan({"task_id": ["t"] * 4, "base_status": values})
        assert report.mean.tolist() == [0.625]
        path = tmp_path / "x.jsonl"
        path.write_text("".join(json.dumps({"task_id": "t", "base_status": v}) + "\n" for v in values))
        assert rft.scan(path).mean.tolist() == [0.625]


def test_documents_of_json(tmp_path: Path) -> None:
    """EvalPlus's results, a wandb table, rows under a name, and a text over several lines."""
    rows = [{"prompt": p, "reward": r} for p in ("a", "b") for r in (0.0, 1.0)]
    evalplus = {"eval": {p: [{"task_id": p, "base_status": s} for s in ("pass", "fail")] for p in ("a", "b")}}
    wandb = {"columns": ["step", "prompt", "reward"], "data": [[1, row["prompt"], row["reward"]] for row in rows]}
    for found in (evalplus, wandb, {"rollouts": rows, "model": "m"}, rows, {k: [r[k] for r in rows] for k in rows[0]}):
        path = tmp_path / "x.json"
        path.write_text(json.dumps(found, indent=2))
        report = rft.scan(path)
        assert (report.prompt, report.mean.tolist()) == (["a", "b"], [0.5, 0.5])
    path.write_text("\n".join(map(json.dumps, rows)))  # lines, whatever the name says
    assert rft.scan(path).n.tolist() == [2, 2]
    for text, message in (('{"prompt": [1, 2', r"x\.json: not JSON"), ("3", "expected an array or an object")):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            rft.scan(path)


def test_layouts_of_other_trainers(tmp_path: Path) -> None:
    """NeMo-Gym's nested input, prime-rl's and verifiers' example ids, lm-eval's own list of metrics."""
    gym = [
        {"responses_create_params": {"input": [{"role": "user", "content": str(i % 2)}]}, "reward": float(i > 1)}
        for i in range(4)
    ]
    prime = [
        {"example_id": i % 2, "prompt": [{"role": "user", "content": "?"}], "reward": float(i > 1)} for i in range(4)
    ]
    harness = [{"doc_id": i % 2, "metrics": ["f1"], "f1": float(i > 1), "acc": 0.0} for i in range(4)]
    for rows in (gym, prime, harness):
        path = tmp_path / "x.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        report = rft.scan(path)
        assert (report.n.tolist(), report.mean.tolist()) == ([2, 2], [0.5, 0.5])


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_harness_samples_of_several_tasks(tmp_path: Path) -> None:
    """lm-eval counts documents from 0 in each task, and writes each answer once for each of its filters."""
    for task, right in (("gsm8k", 1), ("arc_easy", 0)):
        rows = [
            {"doc_id": i, "doc": {"question": "?"}, "target": "4", "arguments": {"gen_args_0": {"arg_0": task}},
             "resps": [["a"]], "filtered_resps": ["a"], "filter": kind, "metrics": ["exact_match"],
             "doc_hash": "0" * 64, "exact_match": float(right and kind == "strict-match")}
            for kind in ("strict-match", "flexible-extract") for i in range(3)
        ]  # fmt: skip
        lines(tmp_path / "model" / f"samples_{task}_2026-01-31T10-00-00.123456.jsonl", rows)
    report = rft.scan(tmp_path)
    assert report.prompt == [f"{task}/{i}" for task in ("arc_easy", "gsm8k") for i in range(3)]
    assert (report.n.tolist(), report.mean.tolist()) == ([1] * 6, [0.0] * 3 + [1.0] * 3)
    assert any("those of the filter 'strict-match' count" in note for note in report.notes)


def inspect_samples() -> list[dict[str, Any]]:
    return [
        {"id": i, "epoch": epoch, "input": f"What is {i}?", "target": "4", "uuid": f"{i}-{epoch}", "metadata": {},
         "messages": [{"role": "user", "content": f"What is {i}?"}, {"role": "assistant", "content": "4"}],
         "scores": {"match": {"value": "CIPN"[epoch - 1], "answer": "4", "explanation": "4"}}}
        for epoch in (1, 2, 3, 4) for i in range(3)
    ]  # fmt: skip


def test_inspect_logs(tmp_path: Path) -> None:
    """Both formats of its logs: a document, and an archive with a file a sample."""
    log = {"version": 2, "status": "success", "eval": {"task": "t", "dataset": {"samples": 3}, "scorers": []},
           "results": {"scores": []}, "samples": inspect_samples()}  # fmt: skip
    (tmp_path / "log.json").write_text(json.dumps(log, indent=2))
    with zipfile.ZipFile(tmp_path / "log.eval", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("_journal/start.json", "{}")
        for sample in log["samples"]:
            archive.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
        archive.writestr("header.json", json.dumps({key: log[key] for key in ("version", "eval", "results")}))
    for name in ("log.json", "log.eval"):
        report = rft.scan(tmp_path / name)
        assert (report.prompt, report.n.tolist()) == ([f"What is {i}?" for i in range(3)], [4] * 3)
        assert report.mean.tolist() == [0.375] * 3
    (tmp_path / "cut.eval").write_bytes((tmp_path / "log.eval").read_bytes()[:900])
    with pytest.raises(InputError, match=r"cut\.eval: cannot be read as a log of Inspect"):
        rft.scan(tmp_path / "cut.eval")
    with zipfile.ZipFile(tmp_path / "empty.eval", "w") as archive:
        archive.writestr("header.json", "{}")
    with pytest.raises(InputError, match=r"empty\.eval: no samples in this log"):
        rft.scan(tmp_path / "empty.eval")


def test_lines_with_the_table_of_a_step(tmp_path: Path) -> None:
    """ms-swift's completions.jsonl: a line a step, a list for each column, steps as texts."""
    tables = [
        {"step": [str(step)] * 4, "prompt": ["a", "a", "b", "b"], "completion": ["x"] * 4,
         "Accuracy": [0.0, 1.0, float(step), float(step)], "Format": [0.5] * 4, "advantages": [0.0] * 4,
         "solution": ["4"] * 4}
        for step in (0, 1)
    ]  # fmt: skip
    path = lines(tmp_path / "completions.jsonl", tables)
    report = rft.scan(path)
    assert (report.prompt, report.step.tolist(), report.n.tolist()) == (["a", "b"] * 2, [0, 0, 1, 1], [2] * 4)
    assert report.mean.tolist() == [1.0, 0.5, 1.0, 1.5]
    assert list(report.overall["columns"]) == ["Accuracy", "Format"]
    watch = rft.Watch(tmp_path)
    assert watch.poll()
    assert watch.report().to_json() == report.to_json()
    lines(path, [*tables, {**tables[0], "prompt": ["a"]}])
    with pytest.raises(InputError, match=r"completions\.jsonl: table 2: expected columns of one length"):
        rft.scan(path)


def test_lists_of_judged_answers(tmp_path: Path) -> None:
    """OpenR1's generations and LiveCodeBench's results: a row a problem, with a verdict for each answer."""
    openr1 = [
        {"problem": f"p{i}", "solution": "s", "answer": "4", "uuid": str(i), "generations": ["a"] * 4,
         "is_reasoning_complete": [True] * 4, "correctness_math_verify": [i > 0, True, False, False],
         "correctness_llama": None, "correctness_count": 2, "messages": [{"role": "user", "content": f"p{i}"}]}
        for i in range(2)
    ]  # fmt: skip
    livecodebench = [
        {"question_title": "t", "question_content": "c", "question_id": f"p{i}", "output_list": ["o"] * 4,
         "code_list": ["c"] * 4, "graded_list": [i > 0, True, False, False], "metadata": ["{}"] * 4, "pass@1": 0.5}
        for i in range(2)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(openr1), tmp_path / "openr1.parquet")
    (tmp_path / "eval_all.json").write_text(json.dumps(livecodebench, indent=4))
    for source in (openr1, tmp_path / "openr1.parquet", tmp_path / "eval_all.json"):
        report = rft.scan(source)
        assert (report.prompt, report.n.tolist(), report.mean.tolist()) == (["p0", "p1"], [4, 4], [0.25, 0.5])


def test_folders_of_steps_with_words_after_the_number(tmp_path: Path) -> None:
    """SkyRL's dumps of evaluations, beside which it puts the metrics of each."""
    for step, score in ((10, 0.0), (20, 1.0)):
        folder = tmp_path / f"global_step_{step}_evals"
        rows = [{"input_prompt": "a", "output_response": "x", "score": [0.0, score], "env_extras": {}}] * 3
        lines(folder / "gsm8k.jsonl", rows)
        lines(folder / "aggregated_results.jsonl", [{"eval/gsm8k/avg_score": score}])
    report = rft.scan(tmp_path)
    assert (report.step.tolist(), report.mean.tolist(), report.n.tolist()) == ([10, 20], [0.0, 1.0], [3, 3])


def test_ids_that_several_environments_share(tmp_path: Path) -> None:
    """prime-rl numbers the examples of each environment from 0: the prompts tell them apart."""
    rows = [
        {"example_id": i, "task": env, "prompt": [{"role": "user", "content": f"{env} {i}"}], "completion": [],
         "reward": float(env == "b"), "metrics": {"length": 3.0}}
        for _ in range(4) for env in "ab" for i in range(2)
    ]  # fmt: skip
    report = rft.scan(lines(tmp_path / "step_3" / "train_rollouts.jsonl", rows))
    assert (report.n.tolist(), report.step.tolist(), sorted(report.mean)) == ([4] * 4, [3] * 4, [0.0, 0.0, 1.0, 1.0])
    assert any("'example_id' stands for several prompts" in note for note in report.notes)
    once = [{**row, "prompt": f"{i} examples before {row['example_id']}"} for i, row in enumerate(rows)]
    assert rft.scan(once).prompt == [0, 1]  # a prompt that is never twice the same tells nothing
    unique = [{**row, "uid": str(i)} for i, row in enumerate(rows)]
    assert len(rft.scan(lines(tmp_path / "x.jsonl", unique)).prompt) == 4  # and an id that numbers rows nothing either


def test_folders_and_patterns(tmp_path: Path) -> None:
    table = pa.table({"prompt": ["a", "a"], "reward": [0.0, 1.0]})
    saved = tmp_path / "saved"  # as Hugging Face's save_to_disk does
    saved.mkdir()
    with (
        pa.OSFile(str(saved / "data-00000-of-00001.arrow"), "wb") as file,
        pa.ipc.new_stream(file, table.schema) as out,
    ):
        out.write_table(table)
    (saved / "state.json").write_text('{"_data_files": []}')
    (saved / "dataset_info.json").write_text("{}")
    assert rft.scan(saved).n.tolist() == [2]
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"prompt,reward\na,1\n"))
    assert rft.scan(tmp_path).n.tolist() == [3]
    assert rft.scan([saved, str(tmp_path / "*.csv.gz")]).n.tolist() == [3]
    with pytest.raises(InputError, match="no file has such a name"):
        rft.scan(str(tmp_path / "*.parquet"))
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="no rollouts in this folder"):
        rft.scan(tmp_path / "none")


def frames() -> dict[str, Any]:
    pandas, polars, duckdb = (
        pytest.importorskip(name, reason=f"{name} is in the peers extra") for name in ("pandas", "polars", "duckdb")
    )
    columns = {"prompt": ["a", "a", "b", "b"], "reward": [0.0, 1.0, 1.0, 1.0]}
    frame = pandas.DataFrame(columns)
    return {
        "pandas": frame,
        "polars": polars.DataFrame(columns),
        "lazy": polars.LazyFrame(columns),
        "duckdb": duckdb.connect().from_arrow(pa.table(columns)),
        "reader": pa.table(columns).to_reader(),
        "batch": pa.RecordBatch.from_pydict(columns),
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["pandas", "polars", "lazy", "duckdb", "reader", "batch"])
def test_tables_of_others(name: str) -> None:
    report = rft.scan(frames()[name])
    assert (report.prompt, report.mean.tolist()) == (["a", "b"], [0.5, 1.0])
    found = report.to_arrow()
    assert found.column_names[:4] == ["prompt", "n", "mean", "std"]
    assert found.to_pandas()["verdict"].tolist() == report.verdict.tolist()


REWARDS = st.sampled_from([0.0, 1.0, 0.5, 0.1, -0.0, 1e-3, 1e-300, 1e100, -7.25, 3e7]) | st.floats(
    -1e150, 1e150, allow_nan=False
)


@settings(deadline=None, max_examples=120)
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), REWARDS, st.integers(0, 2)), min_size=1, max_size=60),
    seed=st.integers(0, 2**31),
    steps=st.booleans(),
)
def test_any_split_gives_the_same_bits(rows: list[tuple[int, float, int]], seed: int, steps: bool) -> None:
    """Merged in any order, from any parts, with and without steps, of any rewards whatever."""
    rng = np.random.default_rng(seed)

    def table(chosen: Any) -> dict[str, Any]:
        found = {"uid": [rows[i][0] for i in chosen], "reward": [rows[i][1] for i in chosen]}
        return found | ({"step": [rows[i][2] for i in chosen]} if steps else {})

    whole = rft.scan(table(range(len(rows))))
    parts = [part for part in np.array_split(rng.permutation(len(rows)), rng.integers(1, 6)) if len(part)]
    scans = [rft.Scan().update(table(part)) for part in parts]
    reports = [scan.report() for scan in scans]
    for scan in scans[1:]:
        scans[0].merge(scan)
    merged = reports[-1]
    for report in reports[:-1]:
        merged = merged.merge(report)
    for found in (scans[0].report(), merged):
        assert found.prompt == whole.prompt
        assert found.to_json() == whole.to_json()
        for name in ("step", "n", "mean", "std", "std_low", "std_high"):
            assert getattr(found, name).tobytes() == getattr(whole, name).tobytes(), name


def test_exact_sums() -> None:
    """Means and stds are those of exact arithmetic, whatever the size of the rewards."""
    from fractions import Fraction

    rng = np.random.default_rng(0)
    for rewards in (
        rng.normal(1e6, 1e-3, 500), rng.random(500), rng.integers(0, 3, 500) / 4, 10.0 ** rng.uniform(-12, 12, 500),
        rng.normal(size=500).astype(np.float32),
    ):  # fmt: skip
        exact = [Fraction(float(r)) for r in rewards]
        mean = sum(exact) / len(exact)
        variance = sum((r - mean) ** 2 for r in exact) / (len(exact) - 1)
        report = rft.scan({"uid": np.zeros(500, int), "reward": rewards})
        assert report.mean[0] == float(mean)
        assert report.std[0] == pytest.approx(float(variance) ** 0.5, rel=1e-15)


def test_what_is_no_executor_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"executor: expected a concurrent\.futures\.Executor"):
        rft.scan([], executor=object())


@pytest.mark.parametrize("executor", [ThreadPoolExecutor, ProcessPoolExecutor])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_executors_read_the_files(executor: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for i in range(3):
        table = pa.table({"prompt": [f"p{j}" for j in rng.integers(0, 9, 50)], "reward": rng.random(50)})
        pq.write_table(table, tmp_path / f"part-{i}.parquet")
    with executor(2) as pool:
        found = rft.scan(tmp_path, executor=pool)
    assert found.to_json() == rft.scan(tmp_path).to_json()


def test_rewards_by_column() -> None:
    """The variance of a sum by its terms, and what works against the others."""
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 2, 400).astype(float), rng.integers(0, 2, 400) / 4
    ids = np.repeat(np.arange(40), 10)
    report = rft.scan({"uid": ids, "a": a, "b": b, "c": -b}, columns=rft.Columns(reward="a,b,c"))
    found = report.overall["columns"]
    assert found["a"]["share_of_variance"] == pytest.approx(1.0)
    np.testing.assert_allclose(report.column_std["b"], [b[ids == i].std(ddof=1) for i in range(40)], 1e-12)
    assert sum(part["share_of_variance"] for part in found.values()) == pytest.approx(1.0)
    two = rft.scan(LAYOUTS / "completions_00001.parquet")
    assert two.overall["columns"]["format_reward"] == {
        "mean": 1.0, "mean_std": 0.0, "constant": 1.0, "share_of_variance": 0.0,
    }  # fmt: skip
    assert two.column_std["accuracy_reward"].tolist() == two.std.tolist()


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from('abm\\"é'), inner, max_size=3),
    max_leaves=8,
)
JSON_ROWS = st.dictionaries(st.sampled_from(["a", "m", "b", 'q"']), JSON_VALUES, max_size=4)
JSON_KINDS = {1: type(None), 2: (int, float), 3: str, 4: str, 5: bool, 6: list, 7: dict}


@settings(deadline=None, max_examples=300)
@given(rows=st.lists(JSON_ROWS, max_size=4), indent=st.sampled_from([(",", ":"), (" , ", " : ")]), ascii=st.booleans())
def test_fields_of_json_lines_are_what_json_reads(rows: Any, indent: Any, ascii: bool) -> None:
    text = "\n".join(json.dumps(row, separators=indent, ensure_ascii=ascii) for row in rows)
    data = np.frombuffer(text.encode(), np.uint8)
    paths = [["a"], ["m", "a"], ["m"]]
    fields = np.zeros((len(rows) + 1, 3, 3), np.int64)
    assert _core.rft_json_fields(data, paths, fields) == (len(rows), len(data))
    for row, found in zip(rows, fields, strict=False):
        for path, (begin, end, kind) in zip(paths, found.tolist(), strict=True):
            holder = row if len(path) == 1 else row.get("m")
            if not isinstance(holder, dict) or path[-1] not in holder:
                assert kind == 0
                continue
            value = holder[path[-1]]
            raw = text.encode()[begin:end].decode()
            read = json.loads(f'"{raw}"' if kind in (3, 4) else raw)
            assert isinstance(value, JSON_KINDS[kind])
            assert json.dumps(read) == json.dumps(value)


@pytest.mark.parametrize("values", [2, None, {"a": 1}, {1, 2}, iter([1]), np.array(1.0)])
def test_a_column_that_is_no_list_is_named(values: Any) -> None:
    with pytest.raises(InputError, match="column 'reward': expected a list or an array, got"):
        rft.scan({"prompt": ["a", "b"], "reward": values})
