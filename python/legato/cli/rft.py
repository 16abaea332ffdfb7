"""``legato rft``: which prompts can learn by reinforcement, before, during and between trainings."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from legato._files import PendingFile, check_destinations, write_whole
from legato._printing import printable, say
from legato._scalars import as_number
from legato.errors import ArgumentError, InputError

Writer = Callable[[PendingFile], None]

NAME = "rft"
HELP = "find prompts that cannot learn by reinforcement, from rollouts"
DESCRIPTION = (
    "Judge prompts by the standard deviation of their rollouts' rewards.\n"
    "FILE: Parquet, JSONL, JSON, CSV, Arrow or NPZ, texts also with .gz or .zst; a folder, or a pattern such as\n"
    "'run/*.parquet'. One row a rollout, as TRL, verl, OpenRLHF, NeMo, SkyRL, prime-rl, ms-swift, lm-eval, Inspect\n"
    "and EvalPlus write them, or one a prompt with a list of rewards."
)
EXAMPLES = (
    "legato rft scan 'run/*.parquet' --html page.html",
    "legato rft watch OUTPUT_DIR/completions",
    "legato rft plan --p0 0.05",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    commands = parser.add_subparsers()

    scan = commands.add_parser(
        "scan",
        help="judge each prompt",
        description="Judge each prompt of the rollouts.",
        examples=(*EXAMPLES[:1], "legato rft scan rollouts.jsonl --group-size 8 --fail-on no-gradient=50%"),
    )
    scan.add_argument("files", metavar="FILE", nargs="+", help="or a folder, or a pattern in quotes")
    _add_reading(scan)
    scan.add_argument(
        "--group-size", type=int, metavar="G", help="rollouts a prompt in training (default: as in the log, else 8)"
    )
    scan.add_argument(
        "--fail-on",
        action="append",
        default=[],
        type=_limit,
        metavar="WHAT=SHARE",
        help="exit with 3 if a larger share of groups has no-gradient, or is all-zero or all-one, or of prompts has a "
        "small-std; no-gradient=50%% for example",
    )
    scan.add_argument("--format", choices=("table", "json", "csv", "html"), help="default: table, or by --out")
    scan.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write there, not to stdout: .json, .csv, .html, .parquet, .arrow",
    )
    scan.add_argument("--limit", type=int, default=20, help="prompts listed in the table (default: 20)")
    scan.add_argument("--html", type=Path, metavar="FILE.html", help="also write a page with plots")
    scan.set_defaults(rft=_scan)

    watch = commands.add_parser(
        "watch",
        help="follow a training that is running",
        description="Follow the rollouts that a trainer writes to a folder: one line a step, and a page if wanted.",
        examples=("legato rft watch OUTPUT_DIR/completions --html page.html",),
    )
    watch.add_argument("folder", metavar="DIR", type=Path, help="for TRL: OUTPUT_DIR/completions")
    _add_reading(watch)
    watch.add_argument("--html", type=Path, metavar="FILE.html", help="a page that is kept up to date")
    watch.add_argument("--every", type=float, default=2.0, metavar="S", help="seconds between looks (default: 2)")
    watch.add_argument("--idle", type=float, metavar="S", help="stop when nothing has come for so many seconds")
    watch.add_argument("--once", action="store_true", help="look once and stop")
    watch.set_defaults(rft=_watch)

    select = commands.add_parser(
        "select",
        help="write the prompts to go on with",
        description="Sort prompts by pass rate into keep, easy and hard, for the next training.",
        examples=("legato rft select rollouts.jsonl --out next/ --band 0.1 0.9",),
    )
    select.add_argument("files", metavar="FILE", nargs="+")
    _add_reading(select)
    select.add_argument("--out", type=Path, metavar="DIR", required=True, help="where keep, easy and hard are written")
    select.add_argument(
        "--band", nargs=2, type=float, default=(0.1, 0.9), metavar=("LOW", "HIGH"), help="keep these (default: 0.1 0.9)"
    )
    select.add_argument("--min-std", type=float, default=0.0, metavar="S", help="and only with a std above this")
    select.add_argument(
        "--format", choices=("ids", "jsonl", "parquet"), default="ids", help="a prompt a line, or tables (default: ids)"
    )
    select.add_argument("--data", metavar="FILE", help="the prompts' data set: its rows are written, with all columns")
    select.add_argument("--key", metavar="NAME", help="its column with what the log calls the prompt (default: prompt)")
    select.set_defaults(rft=_select)

    rank = commands.add_parser(
        "rank",
        help="choose prompts for supervised finetuning",
        description="Choose prompts for supervised finetuning: those with the least gradient first.",
        examples=("legato rft rank rollouts.jsonl --budget 5% --out ids.txt",),
    )
    rank.add_argument("files", metavar="FILE", nargs="+")
    _add_reading(rank)
    rank.add_argument("--budget", type=_budget, default=0.01, metavar="N|P%", help="how many (default: 1%%)")
    rank.add_argument("--mix", type=float, default=0.0, help="healthy prompts to add for each chosen one (default: 0)")
    rank.add_argument("--out", type=Path, metavar="FILE", help="write there instead of to stdout")
    rank.set_defaults(rft=_rank)

    compare = commands.add_parser(
        "compare",
        help="compare the rollouts before and after a change",
        description="Compare the rollouts before and after a change, prompt by prompt.",
        examples=("legato rft compare before.jsonl after.jsonl",),
    )
    compare.add_argument("before", metavar="BEFORE", type=Path)
    compare.add_argument("after", metavar="AFTER", type=Path)
    _add_reading(compare)
    compare.add_argument("--format", choices=("table", "json"), default="table", help="default: table")
    compare.add_argument("--out", type=Path, metavar="FILE", help="write there instead of to stdout")
    compare.set_defaults(rft=_compare)

    plan = commands.add_parser(
        "plan",
        help="times of reinforcement and supervision in a model of one input",
        description="Compare the time that reinforcement and supervision take, in a model of one input.",
        examples=("legato rft plan --p0 0.05 --p1 0.9 --k 10",),
    )
    plan.add_argument("--p0", type=float, required=True, help="success probability now")
    plan.add_argument("--p1", type=float, default=0.9, help="success probability wanted (default: 0.9)")
    plan.add_argument("--k", type=int, default=10, help="possible outputs (default: 10)")
    plan.add_argument("--format", choices=("table", "json"), default="table", help="default: table")
    plan.set_defaults(rft=_plan)

    reproduce = commands.add_parser(
        "reproduce",
        help="run the papers' experiments, or check a theorem",
        description="Finetune on digits or a small transformer, learn from reward models, or try random policies.",
        examples=("legato rft reproduce bounds", "legato rft reproduce digits --seeds 1 --out curves.json"),
    )
    reproduce.add_argument(
        "what",
        choices=("digits", "sequence", "teacher", "bounds"),
        help="finetuning on digits, or of a small transformer (needs torch); reward models; random policies",
    )
    reproduce.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, ... (default: 3; bounds use one)")
    reproduce.add_argument("--steps", type=int, help="training steps (default: 10000 of digits, 2000 of sequence)")
    reproduce.add_argument("--policies", type=int, default=1500, help="random policies (default: 1500)")
    reproduce.add_argument("--out", type=Path, metavar="FILE.json", help="also write the curves or the numbers")
    reproduce.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the rewards over the steps of training")
    reproduce.add_argument("--quiet", action="store_true", help="no progress on stderr")
    reproduce.set_defaults(rft=_reproduce)


def _add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--range",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="least and largest possible reward (default: guess)",
    )
    parser.add_argument("--tau", type=float, help="a smaller std is small (default: 0.05 of the range)")
    parser.add_argument("--level", type=float, default=0.95, help="of the intervals (default: 0.95)")
    parser.add_argument("--solved-mean", type=float, default=0.95, help="share of the range (default: 0.95)")
    parser.add_argument("--interval", choices=("auto", "mp", "chi2"), default="auto", help="for rewards of many values")
    parser.add_argument("--prompt-col", metavar="NAME", help="default: prompt_id, uid, task_id, prompt, input, ...")
    parser.add_argument(
        "--reward-col",
        metavar="NAME[,NAME]",
        help="default: reward, score, passed, ..., or TRL's functions",
    )
    parser.add_argument("--logprobs-col", metavar="NAME", help="lists of token log-probabilities, for the bounds")
    parser.add_argument(
        "--step-col", metavar="NAME", help="default: step, global_step, ... or in the files' names; none: as one group"
    )
    parser.add_argument(
        "--lists",
        choices=("auto", "sum", "each"),
        default="auto",
        help="lists of rewards are one rollout's tokens (sum) or a prompt's rollouts (each)",
    )
    parser.add_argument("--steps", type=_steps, metavar="A:B", help="count training steps A to B only")
    parser.add_argument("--nan", choices=("error", "drop"), default="error", help="rewards that are no finite numbers")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def _limit(text: str) -> tuple[str, float]:
    name, _, share = text.partition("=")
    try:
        value = float(share.removesuffix("%")) / (100 if share.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if name not in ("no-gradient", "all-zero", "all-one", "small-std") or not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(
            f"expected no-gradient, all-zero, all-one or small-std with a share, such as no-gradient=0.5, got {text!r}"
        )
    return name, value


def _budget(text: str) -> float:
    try:
        value = float(text.removesuffix("%")) / 100 if text.endswith("%") else int(text)
    except ValueError:
        value = -1
    if value <= 0 or (text.endswith("%") and value > 1):
        raise argparse.ArgumentTypeError(f"expected a number of prompts or a percentage such as 1%, got {text!r}")
    return min(value, 0.999999999) if text.endswith("%") else value


def _steps(text: str) -> tuple[int, int]:
    first, colon, last = text.partition(":")
    try:
        steps = (int(first), int(last if colon else first))
    except ValueError:
        steps = (1, 0)
    if steps[0] > steps[1]:
        raise argparse.ArgumentTypeError(f"expected steps such as 10:20, got {text!r}")
    return steps


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    command: Callable[[argparse.Namespace], int] = arguments.rft
    return command(arguments)


def _columns(arguments: argparse.Namespace) -> Any:
    from legato.rft.layouts import Columns

    return Columns(
        arguments.prompt_col,
        arguments.reward_col,
        arguments.logprobs_col,
        arguments.step_col,
        arguments.steps,
        arguments.lists,
    )


def _settings(arguments: argparse.Namespace, group_size: int | None = None) -> Any:
    from legato.rft.judging import Settings

    return Settings(
        tuple(arguments.range) if arguments.range else None,
        arguments.tau,
        arguments.level,
        arguments.solved_mean,
        group_size,
        arguments.interval,
    )


def _report(arguments: argparse.Namespace, source: Any, group_size: int | None = None) -> Any:
    from legato.rft.doctor import scan

    show = not arguments.quiet and sys.stderr.isatty()
    settings = _settings(arguments, group_size)
    report = scan(
        source,
        **asdict(settings),
        columns=_columns(arguments),
        nan=arguments.nan,
        progress=_count if show else None,
    )
    if show:
        say(file=sys.stderr)
    return report


def _inputs(sources: Sequence[str | Path]) -> list[Path]:
    from legato.rft.readers import files_of

    return files_of(sources)


def _count(rollouts: int) -> None:
    sys.stderr.write(f"\r{rollouts} rollouts")
    sys.stderr.flush()


@contextlib.contextmanager
def _outputs(sources: Sequence[Path], **paths: Path | None) -> Iterator[Callable[[str, str | Writer], None]]:
    """Open what is to be written before the work, and give each file its name when all are whole.

    Yields a function that takes the name of an output and its text, which goes to stdout where no file was asked for,
    or what writes it to the file.
    """
    check_destinations({f"input {source}": source for source in sources}, paths)
    with contextlib.ExitStack() as opened:
        pending = {name: opened.enter_context(PendingFile(path)) for name, path in paths.items() if path is not None}

        def give(name: str, content: str | Writer) -> None:
            if not isinstance(content, str):
                content(pending[name])
            elif name in pending:
                pending[name].write_text([content])
            else:
                say(content, end="")

        yield give
        for file in pending.values():
            file.commit()


def _scan(arguments: argparse.Namespace) -> int:
    with _outputs(_inputs(arguments.files), out=arguments.out, html=arguments.html) as give:
        report = _report(arguments, arguments.files, group_size=arguments.group_size)
        if arguments.format is None and arguments.out is not None:
            give("out", report.write)
        elif arguments.format in (None, "table"):
            give("out", report.to_table(arguments.limit))
        else:
            give("out", {"json": report.to_json, "csv": report.to_csv, "html": report.to_html}[arguments.format]())
        if arguments.html is not None:
            give("html", report.to_html())
    if arguments.html is not None and arguments.out is None and arguments.format in (None, "table"):
        say(f"\nnow open {printable(arguments.html)}")
    exceeded = False
    for name, limit in arguments.fail_on:
        share = report.overall["population"][name.replace("-", "_")]["share"]
        if share is None:
            raise ArgumentError(f"--fail-on {name}: no group has so many rollouts as --group-size")
        if share > limit:
            what = "prompts" if name == "small-std" else "groups"
            say(f"legato: {name}: {share:.1%} of {what}, more than {limit:.1%}", file=sys.stderr)
            exceeded = True
    return 3 if exceeded else 0


def _watch(arguments: argparse.Namespace) -> int:
    from legato.rft.report import step_header, step_line
    from legato.rft.watching import Watch

    every = as_number("every", arguments.every, above=0, most=1e6)
    if arguments.html is not None:
        with PendingFile(arguments.html):
            pass  # what is wrong with it is said now
    watch = Watch(arguments.folder, settings=_settings(arguments), columns=_columns(arguments), nan=arguments.nan)
    say(step_header(), flush=True)
    told: dict[int | None, str] = {}
    troubles = 0
    quiet_since = time.monotonic()
    last: list[dict[str, Any]] = []

    def tell(steps: list[dict[str, Any]]) -> None:
        for step in steps:
            line = step_line(step)
            if told.get(step["step"]) != line:
                told[step["step"]] = line
                say(line, flush=True)

    try:
        while True:
            if watch.poll():
                quiet_since = time.monotonic()
                report = watch.report()
                last = report.overall["steps"]
                if arguments.html is not None:
                    check_destinations(
                        {f"input {file}": file for file in report.rollouts.files}, {"html": arguments.html}
                    )
                    write_whole(arguments.html, report.to_html(refresh_s=max(1, round(every))))
                tell(last[:-1])  # the newest may not be complete
            else:
                tell(last)
            for trouble in watch.trouble[troubles:]:
                say(f"legato: {trouble}", file=sys.stderr)
            troubles = len(watch.trouble)
            idle = arguments.idle is not None and time.monotonic() - quiet_since >= arguments.idle
            if arguments.once or idle:
                break
            time.sleep(every)
    except KeyboardInterrupt:
        pass
    tell(last)
    if not watch.rollouts:
        raise InputError(f"{arguments.folder}: no rollouts came")
    return 0


def _select(arguments: argparse.Namespace) -> int:
    from legato.rft.selection import select

    report = _report(arguments, arguments.files)
    chosen = select(report, tuple(arguments.band), arguments.min_std)
    chosen.save(arguments.out, arguments.format, arguments.data, arguments.key)
    say(f"{len(chosen.keep)} prompts to keep, {len(chosen.easy)} easy, {len(chosen.hard)} hard: {arguments.out}")
    return 0


def _rank(arguments: argparse.Namespace) -> int:
    from legato.rft.selection import id_line

    with _outputs(_inputs(arguments.files), out=arguments.out) as give:
        chosen = _report(arguments, arguments.files).rank(arguments.budget, arguments.mix)
        give("out", "".join(f"{id_line(prompt)}\n" for prompt in chosen))
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from legato.rft.comparison import compare

    with _outputs(_inputs([arguments.before, arguments.after]), out=arguments.out) as give:
        found = compare(_report(arguments, arguments.before), _report(arguments, arguments.after))
        give("out", found.to_json() if arguments.format == "json" else found.to_table())
    return 0


def _plan(arguments: argparse.Namespace) -> int:
    from legato.rft.planning import plan

    found = plan(arguments.p0, arguments.k, arguments.p1)
    say(json.dumps(asdict(found), indent=1) + "\n" if arguments.format == "json" else found.to_table(), end="")
    return 0


def _reproduce(arguments: argparse.Namespace) -> int:
    trained = arguments.what in ("digits", "sequence")
    if arguments.plot is not None and not trained:
        raise ArgumentError(f"--plot: {arguments.what} has no steps of training to draw")
    if arguments.seeds < 1:
        raise ArgumentError(f"seeds: expected a whole number >= 1, got {arguments.seeds}")
    with _outputs([], out=arguments.out, plot=arguments.plot) as give:
        if trained:
            from legato.rft.plots import curves

            results, table = _trained(arguments)
            numbers, failed = [result.as_dict() for result in results], False
            if arguments.plot is not None:
                give("plot", curves(results))
        else:
            table, numbers, failed = (_taught if arguments.what == "teacher" else _checked_bounds)(arguments)
        say(table, end="")
        if arguments.out is not None:
            give("out", json.dumps(numbers, indent=1) + "\n")
    return 3 if failed else 0


def _taught(arguments: argparse.Namespace) -> tuple[str, Any, bool]:
    from legato.rft.teaching import reproduce_teacher, teacher_table

    results = [reproduce_teacher(seed) for seed in range(arguments.seeds)]
    return teacher_table(results), [asdict(result) for result in results], False


def _checked_bounds(arguments: argparse.Namespace) -> tuple[str, Any, bool]:
    from legato.rft.reproduction import bounds_table, check_bounds

    check = check_bounds(arguments.policies)
    return bounds_table(check), asdict(check), any(check.violations.values())


def _trained(arguments: argparse.Namespace) -> tuple[Any, str]:
    from legato.rft.reproduction import digits_table, reproduce_digits

    tell = None if arguments.quiet else (lambda line: say(line, file=sys.stderr))
    if arguments.what == "sequence":
        from legato.rft.sequences import reproduce_sequence, sequence_table

        steps = 2000 if arguments.steps is None else arguments.steps
        found = [
            reproduce_sequence(seed, steps, pretraining_steps=max(1, min(1500, steps)), progress=tell)
            for seed in range(arguments.seeds)
        ]
        return found, sequence_table(found)
    steps = 10_000 if arguments.steps is None else arguments.steps
    results = [
        reproduce_digits(
            seed,
            steps=steps,
            sft_first=max(1, steps * 2 // 5),
            rft_after=max(1, steps // 5),
            pretraining_steps=min(2000, steps),
            progress=tell,
        )
        for seed in range(arguments.seeds)
    ]
    return results, digits_table(results)
