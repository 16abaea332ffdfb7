"""The doctor end to end: known layouts, verdicts, the command, pages, and input that cannot be used."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import DATA

pa = pytest.importorskip("pyarrow", reason="pyarrow is in the rft extra")
pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is in the rft extra")

from legato import rft  # noqa: E402
from legato.cli import main  # noqa: E402
from legato.errors import ArgumentError, InputError  # noqa: E402
from legato.rft import readers  # noqa: E402
from legato.rft.findings import one_lines  # noqa: E402

CASE = json.loads((DATA / "rft" / "doctor.json").read_text())["cases"][0]
ROWS: list[dict[str, Any]] = CASE["rollouts"]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=17)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        np.savez(path, **{k: np.array([row[k] for row in rows]) for k in ("prompt_id", "reward")})
    return path


def cli(*arguments: object) -> int:
    return main(["rft", *map(str, arguments)])


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".npz"])
@pytest.mark.parametrize("reverse", [False, True])
def test_vectors(tmp_path: Path, suffix: str, reverse: bool) -> None:
    expected = CASE["expected"]
    path = write(tmp_path / f"rollouts{suffix}", ROWS[::-1] if reverse else ROWS)
    with_tokens = suffix != ".npz"
    report = rft.scan(
        path,
        value_range=tuple(CASE["value_range"]),
        tau=CASE["std_threshold"],
        solved_mean=CASE["solved_mean"],
        columns=rft.Columns(logprobs="token_logprobs" if with_tokens else None),
    )
    assert report.prompt == expected["prompt_id"]
    assert report.n.tolist() == expected["n"]
    for name, key in (("mean", "mean"), ("std", "std")):
        np.testing.assert_allclose(getattr(report, name), expected[key], 1e-9, 1e-12)
    np.testing.assert_array_equal(report.zero_std, expected["zero_std"])
    np.testing.assert_allclose(np.stack([report.std_low, report.std_high], 1), expected["ci95"], 1e-9, 1e-12)
    if with_tokens:
        np.testing.assert_allclose(report.bound_trace, expected["bound_logit_trace"], 1e-9, 1e-12)
        np.testing.assert_allclose(report.bound_sqrt_half_length, expected["bound_logit_sqrtL"], 1e-9, 1e-12)
    assert report.overall["zero_std"] == expected["frac_zero_std"]
    assert (report.std < 0.1).mean() == expected["frac_vanishing_lt_0p1"]
    assert report.rank(len(ROWS)) == expected["sft_first"]


def test_sources_give_the_same_report(tmp_path: Path) -> None:
    columns = {k: [row[k] for row in ROWS] for k in ("prompt_id", "reward")}
    half = [write(tmp_path / "a.parquet", ROWS[:40]), write(tmp_path / "b.parquet", ROWS[40:])]
    reports = [rft.scan(source) for source in (columns, pa.table(columns), ROWS, half, [str(p) for p in half])]
    assert len({report.to_json() for report in reports}) == 1


def test_small_batches_merge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every merge there is: many batches, compaction in between, the same moments."""
    rng = np.random.default_rng(0)
    table = pa.table({"uid": rng.integers(0, 40, 5000), "score": np.round(rng.random(5000), 2)})
    pq.write_table(table, tmp_path / "x.parquet")
    whole = rft.scan(tmp_path / "x.parquet")
    monkeypatch.setattr(readers, "_BATCH", 7)
    parts = rft.scan(tmp_path / "x.parquet")
    assert parts.prompt == whole.prompt
    np.testing.assert_array_equal(parts.n, whole.n)
    np.testing.assert_allclose(parts.mean, whole.mean, 1e-13)
    np.testing.assert_allclose(parts.std, whole.std, 1e-12)
    constant = pa.table({"uid": [1, 2] * 50, "score": [0.1, 0.7] * 50})
    assert rft.scan(constant).zero_std.all()


def test_trl_completions(tmp_path: Path) -> None:
    """The schema that TRL 1.16 logs: prompt and completion texts or chats, one column a reward function (NaN where it
    returned None), columns of the user's, advantage."""
    rows = [
        {
            "step": step,
            "prompt": [{"role": "user", "content": f"question {i}"}],
            "completion": [{"role": "assistant", "content": "..."}],
            "format_reward": float(i % 2),
            "accuracy_reward": float((i + k) % 2) if i > 1 else float("nan"),
            "solution": "4",
            "advantage": 0.0,
        }
        for step in (1, 2)
        for i in range(4)
        for k in range(4)
    ]
    path = write(tmp_path / "completions_00001.parquet", rows)
    assert rft.scan(path, value_range=(0, 2)).overall["steps"][1]["groups"] == 4
    report = rft.scan(path, value_range=(0, 2), columns=rft.Columns(step="none"))
    assert len(report.prompt) == 4
    assert json.loads(report.prompt[0])[0]["content"] == "question 0"
    assert report.zero_std.tolist() == [True, True, False, False]
    assert report.mean.tolist() == [0.0, 1.0, 0.5, 1.5]
    assert any("format_reward, accuracy_reward" in note for note in report.notes)
    first = rft.scan(path, value_range=(0, 2), columns=rft.Columns(steps=(1, 1)))
    assert first.n.tolist() == [4, 4, 4, 4]
    only = rft.scan(path, columns=rft.Columns(reward="format_reward"))
    assert only.zero_std.all()
    with pytest.raises(InputError, match=r"row 0, column 'format_reward\+accuracy_reward': expected a finite reward"):
        rft.scan(path, columns=rft.Columns(reward="format_reward, accuracy_reward"))
    rows[5]["format_reward"] = float("nan")  # no function applies
    with pytest.raises(InputError, match=r"row 5, column 'format_reward\+accuracy_reward': .* got nan"):
        rft.scan(write(path, rows))
    assert rft.scan(path, nan="drop").overall["dropped"] == 1


def test_a_file_of_trl() -> None:
    """Two steps of GRPOTrainer of TRL 1.16.0 with a random model; `test_a_training_of_trl_is_followed` makes such."""
    files = sorted((DATA / "rft").glob("trl_completions_*.parquet"))
    found = rft.scan(files, value_range=(0, 7))
    assert_report_of_trl(found)
    rewards: dict[str, list[float]] = {}
    advantages: dict[str, list[float]] = {}
    for row in (row for path in files for row in pq.read_table(path).to_pylist()):
        rewards.setdefault(row["prompt"], []).append(row["length_reward"] + (row["even_reward"] or 0.0))
        advantages.setdefault(row["prompt"], []).append(row["advantage"])
    for prompt, wanted in advantages.items():  # the trainer's own
        ours = rft.group_advantages(rewards[prompt], np.zeros(len(wanted), int), "grpo", eps=1e-4)
        np.testing.assert_allclose(ours, wanted, 0, 2e-6)
    assert found.mean.tolist() == [np.mean(rewards[prompt]) for prompt in found.prompt]


def assert_report_of_trl(report: rft.Report) -> None:
    assert report.n.tolist() == [4, 4, 4, 4]
    assert report.settings["reward_columns"] == ["length_reward", "even_reward"]
    assert all(re.fullmatch(r"w\d+ w\d+", prompt) for prompt in report.prompt)


def test_verl_dump(tmp_path: Path) -> None:
    rows = [{"input": f"q{i}", "output": "text", "score": float(k == 0), "step": 3} for i in range(3) for k in range(4)]
    report = rft.scan(write(tmp_path / "3.jsonl", rows))
    assert report.verdict.tolist() == ["healthy"] * 3
    assert report.settings["reward_columns"] == ["score"]


def test_verdicts_and_rollouts_needed() -> None:
    data: dict[str, list[Any]] = {"prompt": [], "reward": []}
    for prompt, rewards in {
        "lost": [0.0] * 3000, "few": [0.0] * 8, "done": [1.0] * 8, "surely": [1.0] * 72, "half": [0.0, 1.0] * 4,
        "once": [0.0], "lucky": [1.0],
    }.items():  # fmt: skip
        data["prompt"] += [prompt] * len(rewards)
        data["reward"] += rewards
    report = rft.scan(data, value_range=(0, 1))
    found = dict(zip(report.prompt, report.verdict.tolist(), strict=True))
    assert found == {
        "lost": "vanishing", "few": "suspect", "done": "suspect", "surely": "solved", "half": "healthy",
        "once": "suspect", "lucky": "suspect",
    }  # fmt: skip
    assert report.more_rollouts[report.prompt.index("done")] == 72
    needed = int(report.more_rollouts[report.prompt.index("few")])
    for count, verdict in ((needed - 1, "suspect"), (needed, "vanishing")):
        again = rft.scan({"prompt": ["x"] * count, "reward": [0.0] * count}, value_range=(0, 1))
        assert again.verdict.tolist() == [verdict]
    assert report.rank(2) == ["few", "lost"]
    assert report.rank(2, mix=0.5) == ["few", "lost", "half"]
    assert report.rank(0.01) == ["few"]


def test_constant_rewards_inside_the_range_are_not_certain() -> None:
    report = rft.scan({"prompt": ["x"] * 20, "reward": [0.5] * 20}, value_range=(0, 1))
    assert report.verdict.tolist() == ["suspect"]
    assert 0.1 < report.std_high[0] < 0.3
    assert rft.scan({"prompt": ["x"] * 20, "reward": [0.5] * 20}).std_high[0] == report.std_high[0]


def test_nearly_constant_rewards_are_reported() -> None:
    rewards = [0.5, 0.5 + 1e-6] * 4
    report = rft.scan({"prompt": ["x"] * 8, "reward": rewards}, value_range=(0, 1), interval="chi2")
    assert report.overall["near_constant"] == 1
    assert any("nearly but not exactly constant" in note for note in report.notes)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31), interval=st.sampled_from(["auto", "mp", "chi2"]), binary=st.booleans())
def test_report_properties(seed: int, interval: Any, binary: bool) -> None:
    rng = np.random.default_rng(seed)
    prompts = rng.integers(0, 12, 90)
    rewards = rng.integers(0, 2, 90).astype(float) if binary else np.round(rng.normal(size=90), 2)
    report = rft.scan({"prompt": prompts, "reward": rewards}, interval=interval)
    low, high = report.settings["value_range"]
    several = report.n > 1
    assert report.prompt == sorted(set(prompts.tolist()))
    assert (report.std_low <= report.std_high + 1e-12).all()
    if report.settings["bounded"]:
        assert (report.std_high <= (high - low) / 2 + 1e-12).all()
    assert sum(report.overall["verdicts"].values()) == len(report.n)
    for i in np.flatnonzero(several):
        mine = rewards[prompts == report.prompt[i]]
        assert report.std[i] == pytest.approx(mine.std(ddof=1), abs=1e-12)
        if binary:
            pair = rft.reward_std_interval(mine, value_range=(0, 1))
            assert (report.std_low[i], report.std_high[i]) == pytest.approx(pair, abs=1e-12)
    json.loads(report.to_json())
    assert len(report.to_csv().splitlines()) == len(report.n) + 1
    html = report.to_html()
    assert html.count("<svg") == 2
    bars = re.findall(r"<title>(\d+) (\w+)</title>", html)
    assert sum(int(count) for count, _ in bars) == several.sum()
    assert {name for _, name in bars} == set(report.verdict[several].tolist())


def test_compare_and_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = rft.scan({"prompt": ["a"] * 4 + ["b"] * 4 + ["c"] * 4, "reward": [0.0] * 8 + [0, 1, 0, 1]})
    after = rft.scan({"prompt": ["a"] * 4 + ["c"] * 4 + ["d"] * 4, "reward": [0.0, 1, 1, 0] * 3})
    found = rft.compare(before, after)
    assert found.overall["prompts"] == 2
    assert found.overall["crossed_up"] == 0.5
    assert (found.overall["only_before"], found.overall["only_after"]) == (1, 1)
    assert json.loads(found.to_json())["overall"]["mean_after"] == 0.5
    with pytest.raises(InputError, match="no prompt is in both"):
        rft.compare(before, rft.scan({"prompt": ["z"], "reward": [1.0]}))
    path = write(tmp_path / "x.jsonl", ROWS)
    assert cli("compare", path, path) == 0
    assert cli("plan", "--p0", 1e-4, "--k", 10) == 0
    text = capsys.readouterr().out
    assert "12 prompts in both" in text
    assert "4513.8" in text
    assert "18.4" in text
    assert rft.plan(0.001, 10).useful_groups[8] == pytest.approx(0.00797, abs=1e-4)


def test_command_formats_and_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "x.parquet", ROWS)
    assert cli("scan", path, "--range", 0, 1, "--tau", 0.1) == 0
    table = capsys.readouterr().out
    assert re.search(r"suspect +9 +75\.0%", table)
    assert re.search(r"without a gradient +75\.0%  \[42\.8%, 94\.5%\]", table)
    assert cli("scan", path, "--format", "json", "--fail-on", "no-gradient=80%", "--fail-on", "all-one=0.3") == 0
    assert json.loads(capsys.readouterr().out)["overall"]["prompts"] == 12
    assert cli("scan", path, "--format", "csv", "--fail-on", "no-gradient=0.5") == 3
    captured = capsys.readouterr()
    assert captured.out.startswith("prompt,n,mean")
    assert "no-gradient: 75.0% of groups, more than 50.0%" in captured.err
    assert cli("scan", path, "--group-size", 9, "--fail-on", "no-gradient=0.5") == 2
    capsys.readouterr()
    page = tmp_path / "page.html"
    assert cli("scan", path, "--html", page, "--out", tmp_path / "t.txt", "--logprobs-col", "token_logprobs") == 0
    html = page.read_text()
    assert not re.search(r"https?://|<script|@import|src=", html)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["page.html", "t.txt", "x.parquet"]
    assert cli("rank", path, "--budget", 2, "--tau", 0.1) == 0
    assert capsys.readouterr().out == "q01\nq02\n"
    assert cli("scan", tmp_path / "missing.parquet") == 1
    assert "no such file" in capsys.readouterr().err
    for wrong in (("--fail-on", "lost=0.1"), ("--steps", "3:1"), ("--fail-on", "no-gradient=2")):
        assert cli("scan", path, *wrong) == 2
    assert cli("rank", path, "--budget", "0%") == 2
    assert cli("scan", path, "--out", tmp_path / "no" / "where.txt") == 1
    assert "no such directory" in capsys.readouterr().err


def test_reproduce_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("reproduce", "bounds", "--policies", 60, "--out", tmp_path / "b.json") == 0
    assert "gamma std sqrt(L / 2)" in capsys.readouterr().out
    assert json.loads((tmp_path / "b.json").read_text())["policies"] == 60
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    plot = tmp_path / "d.svg"
    words = ("--seeds", 1, "--steps", 5, "--quiet", "--out", tmp_path / "d.json", "--plot", plot)
    assert cli("reproduce", "digits", *words) == 0
    told = capsys.readouterr().out
    assert "small-std inputs" in told
    assert "RFT, temperature 2" in told
    assert "does not hold: reinforcement solves inputs of large std" in told  # after five steps
    assert ElementTree.fromstring(plot.read_text()).tag.endswith("svg")
    assert set(json.loads((tmp_path / "d.json").read_text())[0]["correlations"]) == {"rft", "sft", "gradient", "slope"}
    assert cli("reproduce", "digits", "--seeds", 0) == 2
    assert cli("reproduce", "bounds", "--plot", plot) == 2


def test_reproduce_teachers_and_sequences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("reproduce", "teacher", "--seeds", 2, "--out", tmp_path / "t.json") == 0
    assert "does not hold" not in capsys.readouterr().out
    assert json.loads((tmp_path / "t.json").read_text())[1]["accurate"]["accuracy"] == 1.0
    pytest.importorskip("torch", reason="torch is in the peers extra")
    assert cli("reproduce", "sequence", "--seeds", 1, "--steps", 3, "--quiet", "--plot", tmp_path / "s.svg") == 0
    told = capsys.readouterr().out
    assert "small-std prompts" in told
    assert "correlation of std and gain" in told


BAD_ROWS = [{"prompt": "a", "reward": 0.0}, {"prompt": "a", "reward": 1.0}]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [*BAD_ROWS, {"prompt": "a", "reward": float("nan")}],
            r"row 2, column 'reward': expected a finite reward, got nan",
        ),
        ([*BAD_ROWS, {"prompt": "a", "reward": float("inf")}], r"row 2, column 'reward'.*inf"),
        ([*BAD_ROWS, {"prompt": "a", "reward": None}], r"row 2, column 'reward'"),
        ([*BAD_ROWS, {"prompt": None, "reward": 1.0}], r"row 2, column 'prompt': missing"),
        ([{"prompt": "a", "reward": "high"}], r"column 'reward': expected numbers, got string"),
        ([{"prompt": "a", "value": 1.0}], r"no reward column .*: prompt, value; .*--reward-col value"),
        ([{"text": "a", "reward": 1.0}], r"no prompt column .*: text, reward; .*--prompt-col text"),
    ],
)
@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_bad_values_name_file_row_and_column(tmp_path: Path, rows: Any, message: str, suffix: str) -> None:
    path = write(tmp_path / f"bad{suffix}", rows)
    with pytest.raises(InputError, match=re.escape(str(path)) + ": .*" + message):
        rft.scan(path)


def test_bad_json_names_the_row(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    lines = [json.dumps(row) for row in BAD_ROWS]
    for line, message in (
        ('{"prompt": "a", "rew', "line 3: not JSON"),
        ('{"prompt": "a", "reward": "one"}', "row 2, column 'reward': expected numbers, got string 'one'"),
        ('{"prompt": 3, "reward": 1}', "row 2, column 'prompt': expected string"),
        ("[1]", "line 3: expected an object"),
    ):
        path.write_text("\n".join([*lines, line]) + "\n")
        with pytest.raises(InputError, match=message):
            rft.scan(path)
    path.write_text("")
    with pytest.raises(InputError, match=r"x\.jsonl: expected at least one rollout, got none"):
        rft.scan(path)


def test_bad_files(tmp_path: Path) -> None:
    whole = write(tmp_path / "x.parquet", ROWS).read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    torn = bytearray(whole)
    torn[20:40] = b"\xff" * 20
    (tmp_path / "torn.parquet").write_bytes(torn)
    (tmp_path / "cut.npz").write_bytes(write(tmp_path / "x.npz", ROWS).read_bytes()[:100])
    np.savez(tmp_path / "uneven.npz", prompt=np.arange(3), reward=np.zeros(2))
    (tmp_path / "x.txt").write_text("?")
    for name, message in (
        ("cut.parquet", "cannot be read as Parquet"),
        ("torn.parquet", r"torn\.parquet: rows from 0 on cannot be read"),
        ("cut.npz", "cannot be read as NPZ"),
        ("uneven.npz", "expected columns of one length"),
        ("x.txt", "expected a .parquet, .jsonl, .json, .csv"),
    ):
        with pytest.raises(InputError, match=message):
            rft.scan(tmp_path / name)
    mixed = [write(tmp_path / "a.jsonl", BAD_ROWS), write(tmp_path / "b.jsonl", [{"prompt": 1, "reward": 0.0}])]
    with pytest.raises(InputError, match=r"b\.jsonl: row 0, column 'prompt': expected a string as before, got an int"):
        rft.scan(mixed)
    words = write(tmp_path / "words.jsonl", [{"prompt": "a", "reward": 0.0, "step": "first"}])
    with pytest.raises(InputError, match=r"words\.jsonl: column 'step': expected numbers, got string"):
        rft.scan(words, columns=rft.Columns(steps=(1, 2)))
    some = write(tmp_path / "some.jsonl", [{"prompt": "a", "reward": 0.0, "step": 1}])
    with pytest.raises(InputError, match=r"some\.jsonl: expected at least one rollout, got none"):
        rft.scan(some, columns=rft.Columns(steps=(2, 2)))
    wild = write(tmp_path / "wild.jsonl", [{"prompt": "a", "reward": float("nan")}])
    with pytest.raises(InputError, match=r"expected at least one rollout besides 1 without a finite reward"):
        rft.scan(wild, nan="drop")
    with pytest.raises(InputError, match="no column 'tokens'"):
        rft.scan(tmp_path / "x.parquet", columns=rft.Columns(logprobs="tokens"))
    with pytest.raises(InputError, match="expected lists of log-probabilities"):
        rft.scan(tmp_path / "x.parquet", columns=rft.Columns(logprobs="reward"))
    positive = [{"prompt": "a", "reward": 0.0, "lp": [-0.1]}, {"prompt": "a", "reward": 0.0, "lp": [-0.1, 0.2]}]
    with pytest.raises(InputError, match=r"row 1, column 'lp': expected log-probabilities <= 0, got 0\.2"):
        rft.scan(positive, columns=rft.Columns(logprobs="lp"))
    with pytest.raises(InputError, match=r"row 0, column 'reward': reward 1 is outside of \[0, 0\.5\]"):
        rft.scan(tmp_path / "x.parquet", value_range=(0, 0.5))


def test_bad_arguments_and_dropped_rows() -> None:
    data = {"prompt": ["a", "a", "b"], "reward": [0.0, np.nan, 1.0]}
    report = rft.scan(data, nan="drop")
    assert (report.overall["rollouts"], report.overall["dropped"]) == (2, 1)
    assert "1 rollouts without" in " ".join(report.notes)
    for options, message in (
        ({"level": 1.0}, "level"),
        ({"solved_mean": 0.0}, "solved_mean"),
        ({"group_size": 1}, "group_size"),
        ({"interval": "t"}, "interval"),
        ({"nan": "keep"}, "nan"),
        ({"tau": 0.0, "nan": "drop"}, "tau"),
        ({"value_range": (1, 0), "nan": "drop"}, "value_range"),
    ):
        with pytest.raises(ArgumentError, match=message):
            rft.scan(data, **options)
    with pytest.raises(ArgumentError, match="source"):
        rft.scan(3)
    with pytest.raises(ArgumentError, match="source"):
        rft.scan([])
    with pytest.raises(ArgumentError, match="budget"):
        report.rank(0)


def test_memory_goes_with_prompts(tmp_path: Path) -> None:
    """A million rollouts of twenty thousand prompts; the benchmark has ten million."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 20_000, 1_000_000)
    table = pa.table({"prompt_id": ids, "reward": (rng.random(len(ids)) < (ids % 11) / 10).astype(np.float32)})
    pq.write_table(table, tmp_path / "x.parquet")
    del table
    held = pa.total_allocated_bytes()
    peaks: list[int] = []
    report = rft.scan(tmp_path / "x.parquet", progress=lambda _: peaks.append(pa.total_allocated_bytes() - held))
    assert report.overall["rollouts"] == 1_000_000
    assert len(report.prompt) == 20_000
    assert report.zero_std.mean() == pytest.approx(2 / 11, abs=0.01)
    assert max(peaks) < 64 << 20


@pytest.mark.parametrize("kind", ["string", "large_string", "dictionary", "int64", "int32"])
def test_order_files_and_batches_do_not_show(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long prompts, rewards of many digits on a large offset: one report to the last bit."""
    rng = np.random.default_rng(0)
    ids = np.sort(rng.integers(0, 300, 6000))
    rewards = 1e4 + rng.normal(size=len(ids))
    names = pa.array(ids) if kind.startswith("int") else pa.array([f"{'long ' * (i % 40)}prompt {i}" for i in ids])
    names = names.dictionary_encode() if kind == "dictionary" else names.cast(getattr(pa, kind)())
    table = pa.table({"prompt": names, "reward": rewards})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=700)
    expected = rft.scan(table)
    monkeypatch.setattr(readers, "_BATCH", 101)
    shuffled = table.take(rng.permutation(len(ids)))
    pq.write_table(shuffled, tmp_path / "b.parquet", use_dictionary=False)
    for source in (tmp_path / "a.parquet", tmp_path / "b.parquet", shuffled):
        found = rft.scan(source)
        for name in ("n", "mean", "std", "std_low", "std_high"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=f"{name} {source}")
        assert found.prompt == expected.prompt
    if kind.startswith("int"):
        std = [rewards[ids == prompt].std(ddof=1) for prompt in expected.prompt]
        np.testing.assert_allclose(expected.std, std, 1e-9)


def test_groups_larger_than_any_there_is_end() -> None:
    report = rft.scan({"prompt": ["a"] * 8, "reward": [0.0, 1.0] * 4}, group_size=2**31 - 1)
    assert len(report.mean) == 1


def test_an_array_without_rows_is_no_tree() -> None:
    with pytest.raises(ArgumentError, match="logits_tree: expected arrays"):
        rft.sequence_value_grad(np.array(3), np.ones(2))


def scanned(ids: Any, parts: int, prompt: Any = None) -> rft.Report:
    """In so many parts, each with rewards that its ids give."""
    scan = rft.Scan(value_range=(0, 1))
    for part in np.array_split(ids, parts):
        names = part if prompt is None else [prompt(i) for i in part.tolist()]
        scan.update({"uid": names, "reward": (part % 7 == 0) * 0.5 + (part % 2) * 0.25})
    return scan.report()


@pytest.mark.parametrize("parts", [1, 3, 50])
@pytest.mark.parametrize(
    "ids",
    [
        np.random.default_rng(0).integers(0, 400, 3000),  # close together
        np.random.default_rng(1).integers(-300, -20, 3000),
        np.random.default_rng(2).integers(10**9, 10**9 + 300, 3000),
        np.concatenate([np.arange(500), [10**12, -(10**12)], np.arange(500)]),  # and then not
        np.arange(2000)[::-1],  # ever less
        np.arange(0, 30_000, 17),
        np.array([-(2**63), -(2**63) + 1, 2**63 - 1] * 3),
        np.array([-(2**63), -(2**63) + 1] * 40),
        np.array([2**63 - 2, 2**63 - 1] * 40),
    ],
    ids=lambda ids: f"{len(ids)} from {ids[0]}",
)
def test_integers_by_distance_or_by_table(ids: Any, parts: int) -> None:
    """Numbered by distance or in a table, integers are the same prompts as their texts are."""
    found, texts = scanned(ids, parts), scanned(ids, parts, str)
    assert found.prompt == sorted(set(ids.tolist()))
    by_text = {prompt: (n, m) for prompt, n, m in zip(texts.prompt, texts.n, texts.mean, strict=True)}
    assert {str(p): (n, m) for p, n, m in zip(found.prompt, found.n, found.mean, strict=True)} == by_text
    halves = [rft.Scan(value_range=(0, 1)) for _ in range(2)]
    for half, part in zip(halves, np.array_split(ids, 2), strict=True):
        half.update({"uid": part, "reward": (part % 7 == 0) * 0.5 + (part % 2) * 0.25})
    merged = halves[1].merge(halves[0]).report()
    assert merged.prompt == found.prompt
    np.testing.assert_array_equal(merged.mean, found.mean)
    np.testing.assert_array_equal(merged.std, found.std)


def test_integers_by_distance_have_steps() -> None:
    rows = {"uid": [5, 3, 5, 3, 9], "step": [2, 2, 1, 1, 1], "reward": [1.0, 0.0, 0.0, 0.5, 1.0]}
    report = rft.Scan().update({"uid": [3, 3], "reward": [0.0, 1.0]}).update(rows).report()
    assert report.prompt == [3, 3, 5, 9, 3, 5]
    assert report.n.tolist() == [2, 1, 1, 1, 1, 1]


def test_prompts_that_begin_alike_are_told_apart(tmp_path: Path) -> None:
    """Chat templates and instructions come first: what is shown of a prompt begins shortly before it differs."""
    start = "<|im_start|>system You are a careful assistant who answers at length. <|im_start|>user "
    prompts = [f"{start}What is {i}+{i}? Show your work, and then the answer in a box." for i in range(12)]
    report = rft.scan({"prompt": [p for p in prompts for _ in range(2)], "reward": [0.0] * 24}, value_range=(0, 1))
    page = tmp_path / "page.html"
    report.save(page)
    for text in (report.to_table(), page.read_text()):
        for i in range(12):
            assert sum(f"What is {i}+{i}?" in line for line in text.replace("<tr>", "\n").splitlines()) == 1
    assert one_lines(["short", "x" * 99, 5]) == ["short", "x" * 37 + "...", "5"]
    assert one_lines(["a" * 60, "a" * 60 + "b"]) == ["..." + "a" * 37, "..." + "a" * 36 + "b"]
