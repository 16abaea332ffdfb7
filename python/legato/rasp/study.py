"""Length generalization: small decoder-only transformers trained on the tasks, tested on longer instances.

For each task some networks, each from a seed of its own: pre-norm blocks, learned positions that start at a random
offset (so that every place is trained), two instances packed into a row so that none is padded, AdamW with a linear
warm-up and a cosine decay, the loss on the answer alone, a vocabulary of the task's own just above what the longest
test needs. A test instance counts when every token of its answer is the most likely one, which is what greedy
generation would give. Medians and ranges over the seeds are reported.

Beside the networks stands the task's own program, evaluated on the same instances, and the exact numbers of the
counter-example to minimum-degree interpolation.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legato._extras import install_command
from legato._files import append_lines, json_lines, write_whole
from legato._machine import processor
from legato._scalars import as_count, as_number
from legato.errors import ArgumentError, DependencyError
from legato.rasp import tasks
from legato.rasp.interpolation import and_counter_example
from legato.rasp.tasks import Batch, Task, as_seeds

__all__ = ["RECIPES", "Curve", "Settings", "Study", "Training", "run"]

Ints = NDArray[np.int64]
_CHANCE = {"parity": 0.5, "mode": 0.2}  #: share of right answers by guessing, where there are few to choose from
_WEAK = 0.5  #: a verdict nearer to the border, as a share of the way from there to all right, is called weak
_LEARNED = 0.9  #: share of right answers at the trained length below which nothing follows for longer ones


@dataclass(frozen=True)
class Settings:
    """What is trained, and on what."""

    train_length: int = 20  #: lengths 1 .. train_length
    multiples: tuple[float, ...] = (0.5, 1, 1.5, 2)  #: of that length, tested
    steps: int = 3000
    rows: int = 32  #: a step, of two instances each
    test_rows: int = 1000
    width: int = 64
    layers: int = 2
    heads: int = 1
    rate: float = 3e-3
    decay: float = 0.05  #: of the weights of matrices
    supply: int | None = None  #: of symbols or hints to draw from; None: just above what the longest test needs
    scaled: bool = False  #: attention logits times log(1 + visible tokens) / log(tokens of the longest trained)
    seeds: tuple[int, ...] = (1, 2, 3)

    def quick(self) -> Settings:
        """Return settings for a small part of the time: length 10 at most, 1000 steps, one seed."""
        return dataclasses.replace(self, train_length=min(10, self.train_length), steps=1000, seeds=self.seeds[:1])

    @property
    def test_lengths(self) -> tuple[int, ...]:
        """Lengths that are tested, in the order of `multiples`."""
        return tuple(max(1, round(multiple * self.train_length)) for multiple in self.multiples)


#: For each task of the study, what it is trained with.
RECIPES: Mapping[str, Settings] = {
    "count": Settings(train_length=16, steps=2000),
    "sort": Settings(train_length=12, steps=1200),
    "copy_unique": Settings(train_length=20, steps=2500),
    "mode": Settings(train_length=16, steps=2000, supply=20),
    "copy_repeated": Settings(train_length=10, steps=3500),
    "parity": Settings(train_length=10, steps=1000),
    "parity_scratchpad": Settings(train_length=12, steps=3000, layers=3),
    "addition_reverse": Settings(train_length=4, steps=4000, layers=4, heads=2, scaled=True),
    "addition_forward": Settings(train_length=4, steps=800, layers=3),
    "addition_reverse_plain": Settings(train_length=4, steps=800, layers=3),
    "addition_forward_plain": Settings(train_length=4, steps=800, layers=3),
}


@dataclass(frozen=True)
class Training:
    """One network, from one seed."""

    accuracy: tuple[float, ...]  #: share of test instances whose whole answer is right, by test length
    token_accuracy: tuple[float, ...]  #: share of right tokens of answers
    loss: float  #: mean over the last tenth of the training
    seconds: float  #: of this thread's CPU, tests included
    data_share: float  #: of them, spent on instances


@dataclass(frozen=True)
class Curve:
    """One task: how many test instances were right, by length; of networks, a number for each seed."""

    task: str
    generalizes: bool  #: whether the conjecture expects it: there is a short RASP-L program
    program_length: int | None  #: core operations, library expanded; None: the task comes without a program
    settings: Settings
    trainings: tuple[Training, ...]  #: one for each seed
    program_accuracy: tuple[float, ...]  #: of the task's program, by test length; empty without one

    def accuracies(self, at: int) -> list[float]:
        """Return the shares of right answers at a test length, numbered as in `settings`: one for each seed."""
        return [training.accuracy[at] for training in self.trainings]

    def median(self, at: int) -> float:
        """Return their median."""
        return float(np.median(self.accuracies(at)))

    @property
    def longest(self) -> int:
        """Number of the longest test."""
        return int(np.argmax(self.settings.test_lengths))

    @property
    def border(self) -> float:
        """Share of right answers at the longest test from which we say that it generalizes: halfway above chance."""
        return (1 + _CHANCE.get(self.task, 0.0)) / 2

    @property
    def learned(self) -> bool:
        """Whether the networks answer instances of the trained length, which all that follows rests on."""
        lengths = self.settings.test_lengths
        at = [number for number, length in enumerate(lengths) if length <= self.settings.train_length]
        return not at or self.median(max(at, key=lambda number: lengths[number])) >= _LEARNED

    @property
    def weak(self) -> bool:
        """Whether the longest test is near the border between generalizing and not, or on both sides of it."""
        found = self.accuracies(self.longest)
        both_sides = min(found) < self.border <= max(found)
        return both_sides or abs(self.median(self.longest) - self.border) < _WEAK * (1 - self.border)


@dataclass(frozen=True)
class Study:
    """What `run` found."""

    curves: tuple[Curve, ...]
    machine: str  #: processor and versions
    interpolation: dict[str, str] = field(default_factory=dict)  #: the counter-example, as exact fractions

    def table(self) -> str:
        """Return medians of the accuracies in percent, with their range over the seeds, as a table in Markdown.

        A line a task; the program's length is in core operations; columns are multiples of the longest trained length.
        Where tokens of the answers are given, they are those of the longest test.
        """
        multiples = sorted({multiple for curve in self.curves for multiple in curve.settings.multiples})
        names = ["task", "program", "trained to", *(f"{multiple:g}x" for multiple in multiples)]
        rows = [[*names, "tokens", "own program", "seeds", "CPU s"]]
        for curve in self.curves:
            given = curve.settings.multiples
            cells = [_shown(curve.accuracies(given.index(m))) if m in given else "" for m in multiples]
            tokens = _shown([training.token_accuracy[curve.longest] for training in curve.trainings])
            own = _shown([min(curve.program_accuracy)]) if curve.program_accuracy else ""
            length = "" if curve.program_length is None else f"{curve.program_length}"
            kind = f"RASP-L, {length}" if curve.generalizes else f"RASP, {length}" if length else "none"
            seconds = f"{sum(training.seconds for training in curve.trainings):.0f}"
            head = [curve.task, kind, str(curve.settings.train_length)]
            rows.append([*head, *cells, tokens, own, str(len(curve.trainings)), seconds])
        rows.insert(1, ["---"] * len(rows[0]))
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def verdict(self) -> str:
        """Return what the medians of the longest tests say of the conjecture, task by task.

        A task agrees where it generalizes (more than halfway from chance to all answers right) and is expected to, or
        neither; a task that is not learned at the trained length says nothing; weak contrasts are named.
        """
        agree: list[str] = []
        against: list[str] = []
        silent: list[str] = []
        for curve in self.curves:
            does = curve.median(curve.longest) >= curve.border
            kind = silent if not (curve.learned or does) else agree if does == curve.generalizes else against
            kind.append(curve.task)
        weak = [curve.task for curve in self.curves if curve.weak and curve.task not in silent]
        text = f"As the conjecture expects: {', '.join(agree) or 'none'}; otherwise: {', '.join(against) or 'none'}"
        if silent:
            text += f"; not learned at the trained length, which says nothing of longer ones: {', '.join(silent)}"
        seeds = _counted({len(curve.trainings) for curve in self.curves})
        text += f" (the border is halfway from chance to all answers right; {seeds})."
        if weak:
            text += f" Weak contrasts, near that border or with seeds on both sides of it: {', '.join(weak)}."
        return text

    def cost(self) -> str:
        """Return what was spent, in one sentence."""
        trainings = [training for curve in self.curves for training in curve.trainings]
        seconds = sum(training.seconds for training in trainings)
        share = sum(training.seconds * training.data_share for training in trainings) / max(seconds, 1e-9)
        return (
            f"{len(trainings)} trainings, {seconds / 60:.1f} CPU minutes, {100 * share:.0f} % of them for instances; "
            f"{self.machine}."
        )

    def save(self, folder: str | Path) -> tuple[Path, Path, Path]:
        """Write `study.json`, the picture `study.svg`, and `study.md`: table, verdict and cost."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        picture = self._picture()
        text = json.dumps(dataclasses.asdict(self), indent=1) + "\n"
        page = f"{self.table()}\n\n{self.verdict()} {self.cost()}\n"
        return (
            write_whole(folder / "study.json", text),
            write_whole(folder / "study.svg", picture),
            write_whole(folder / "study.md", page),
        )

    def _picture(self) -> bytes:
        try:
            import matplotlib as mpl
            from matplotlib.figure import Figure
        except ImportError:
            raise DependencyError(f"the picture needs matplotlib: {install_command('study')}") from None
        figure = Figure(figsize=(9.5, 4.4), layout="constrained")
        sides = figure.subplots(1, 2, sharey=True)
        for axes, generalizes in zip(sides, (True, False), strict=True):
            for curve in self.curves:
                if curve.generalizes != generalizes:
                    continue
                at = np.argsort(curve.settings.multiples)
                x = [curve.settings.multiples[i] for i in at]
                (line,) = axes.plot(x, [100 * curve.median(i) for i in at], "o-", label=curve.task)
                low, high = ([100 * end(curve.accuracies(i)) for i in at] for end in (min, max))
                axes.fill_between(x, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
            axes.axvline(1, color="0.6", linewidth=1)
            title = "short RASP-L program" if generalizes else "no short RASP-L program"
            axes.set(title=title, xlabel="length, in multiples of the longest trained", ylim=(-3, 103))
            if axes.get_legend_handles_labels()[0]:
                axes.legend(fontsize=8)
        sides[0].set(ylabel="answers exactly right, %: median, range of seeds")
        buffer = io.BytesIO()
        with mpl.rc_context({"svg.hashsalt": "legato", "svg.fonttype": "none"}):
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        return buffer.getvalue()


def run(recipes: Mapping[str, Settings] = RECIPES, report: Callable[[str], None] = lambda _: None,
        kept: str | Path | None = None) -> Study:  # fmt: skip
    """Train networks for each task and test them on longer instances; minutes on a CPU, one thread.

    Parameters
    ----------
    recipes : mapping of str to Settings
        Tasks out of ``legato.rasp.tasks.ALL``, and what each is trained with.
    report : callable, optional
        Called with a line of text about every tenth of a training.
    kept : path, optional
        JSON Lines of trainings: those of the same task, settings, seed and version of torch are taken from it and the
        others are added, each when it ends, so that a study that was stopped goes on.

    Raises
    ------
    ArgumentError
        Unknown task, or settings that do not fit together.
    DependencyError
        torch is not installed.
    """
    torch = _torch()
    for name, settings in recipes.items():
        _check(name, settings)
    drawn = {name: _Instances(tasks.ALL[name], settings) for name, settings in recipes.items()}  # said before hours
    ledger = _Ledger(None if kept is None else Path(kept), torch.__version__)
    with _one_thread(torch):
        curves = tuple(_curve(torch, drawn[name], settings, report, ledger) for name, settings in recipes.items())
    example = and_counter_example()
    exact = {
        "wrong_uniform": str(example.wrong_uniform),
        "wrong_leading_ones": str(example.wrong_leading_ones),
        "program_wrong": str(example.program_wrong),
    }
    machine = f"{processor()}, Python {platform.python_version()}, NumPy {np.__version__}, torch {torch.__version__}"
    return Study(curves, machine, exact)


def _check(name: str, settings: Settings) -> None:
    if name not in tasks.ALL:
        raise ArgumentError(f"tasks: expected some of {', '.join(tasks.ALL)}, got {name!r}")
    for argument in ("train_length", "steps", "rows", "test_rows", "width", "layers", "heads"):
        as_count(argument, getattr(settings, argument))
    if settings.supply is not None:
        as_count("supply", settings.supply)
    if settings.width % settings.heads:
        raise ArgumentError(f"width: expected a multiple of heads = {settings.heads}, got {settings.width}")
    as_seeds("seeds", settings.seeds)
    if not settings.multiples:
        raise ArgumentError("multiples: expected at least one")
    for multiple in settings.multiples:
        as_number("multiples", multiple, above=0, most=100)
    as_number("rate", settings.rate, above=0)
    as_number("decay", settings.decay, least=0)


class _Ledger:
    """Trainings that were made, in a file where there is one."""

    def __init__(self, path: Path | None, version: str) -> None:
        self._path, self._version = path, version
        self._lines = [] if path is None or not path.exists() else [line for _, line in json_lines(path)]

    def _key(self, task: str, settings: Settings, seed: int) -> dict[str, Any]:
        asked = json.loads(json.dumps({**dataclasses.asdict(settings), "seeds": [seed]}))
        return {"task": task, "settings": asked, "torch": self._version}

    def find(self, task: str, settings: Settings, seed: int) -> Training | None:
        """Return the training if it was made."""
        key = self._key(task, settings, seed)
        for line in self._lines:
            if isinstance(line, dict) and all(line.get(name) == value for name, value in key.items()):
                with contextlib.suppress(KeyError, TypeError):  # a line that others wrote
                    found = line["training"]
                    listed = {name: tuple(found[name]) for name in ("accuracy", "token_accuracy")}
                    return Training(**{**found, **listed})
        return None

    def add(self, task: str, settings: Settings, seed: int, training: Training) -> None:
        """Write it down."""
        line = {**self._key(task, settings, seed), "training": dataclasses.asdict(training)}
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            append_lines(self._path, json.dumps(line) + "\n")


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise DependencyError(f"the study needs torch: {install_command('study')}") from None
    return torch


@contextlib.contextmanager
def _one_thread(torch: Any) -> Iterator[None]:
    """More threads would only wait for one another at this size, and sums would depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _shown(accuracy: list[float]) -> str:
    low, middle, high = (f"{100 * x:.0f}" for x in (min(accuracy), float(np.median(accuracy)), max(accuracy)))
    return middle if low == high else f"{middle} ({low}-{high})"


def _counted(numbers: set[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low} seed{'s' * (low != 1)}" if low == high else f"{low} to {high} seeds"


#: Options of tasks that say how many tokens there are to draw from.
_SUPPLIES = {
    "copy_unique": "alphabet",
    "sort": "alphabet",
    "count": "largest",
    "mode": "alphabet",
    "parity_scratchpad": "hints",
    "addition_forward": "hints",
    "addition_reverse": "hints",
}


class _Instances:
    """Instances of a task as ids of a vocabulary of its own: its tokens, then a mark of the beginning."""

    def __init__(self, task: Task, settings: Settings) -> None:
        self.task = task
        longest = max(settings.train_length, *settings.test_lengths)
        supply = settings.supply or longest + max(2, longest // 15)  # wider alphabets take far longer to learn
        self._options = {_SUPPLIES[task.name]: supply} if task.name in _SUPPLIES else {}
        many = [self.task.sample(n, 256, seed=n, **self._options).tokens for n in range(1, longest + 1)]
        self._tokens = np.unique(np.concatenate([tokens.ravel() for tokens in many]))
        self.longest = 1 + many[settings.train_length - 1].shape[1]
        self.begin = len(self._tokens)
        self.vocabulary = self.begin + 1
        self.places = math.ceil(1.1 * (max(tokens.shape[1] for tokens in many) + 1))

    def draw(self, length: int, rows: int, seed: int) -> tuple[Batch, Ints]:
        """Return instances, and their ids with the mark first: (rows, n + 1)."""
        batch = self.task.sample(length, rows, seed=seed, **self._options)
        ids = np.minimum(np.searchsorted(self._tokens, batch.tokens), self.begin)
        return batch, np.concatenate([np.full((rows, 1), self.begin), ids], axis=1)

    def packed(self, rng: np.random.Generator, settings: Settings) -> tuple[Ints, Ints, Ints, NDArray[np.bool_]]:
        """Return rows of two instances, of lengths n and L + 1 - n: ids, places, documents, and what is answered."""
        first = rng.integers(1, settings.train_length + 1, settings.rows)
        parts = []
        for lengths in (first, settings.train_length + 1 - first):
            for length in np.unique(lengths).tolist():
                rows = np.flatnonzero(lengths == length)
                parts.append((rows, *self.draw(length, len(rows), int(rng.integers(2**62)))))
        total = np.zeros(settings.rows, dtype=np.int64)
        for rows, batch, _ in parts:
            total[rows] += batch.lengths + 1
        shape = (settings.rows, int(total.max()))
        ids, places = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        documents, answers = np.full(shape, -1), np.zeros(shape, dtype=bool)
        begin = np.zeros(settings.rows, dtype=np.int64)
        for number, (rows, batch, own) in enumerate(parts):
            at = np.arange(own.shape[1])
            sizes = batch.lengths + 1
            used = at < sizes[:, None]
            row, column = (np.broadcast_to(x, used.shape)[used] for x in (rows[:, None], begin[rows, None] + at))
            offset = rng.integers(0, np.maximum(1, self.places - sizes + 1))
            ids[row, column], documents[row, column] = own[used], number
            places[row, column] = (offset[:, None] + at)[used]
            answers[row, column] = (used & (at > batch.prompt_lengths[:, None]))[used]
            begin[rows] += sizes
        return ids, places, documents, answers[:, 1:]


def _network(torch: Any, settings: Settings, vocabulary: int, places: int, longest: int) -> Any:
    nn, width, heads = torch.nn, settings.width, settings.heads

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
            self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
            for layer in (self.out, self.down):
                nn.init.normal_(layer.weight, std=0.4 / math.sqrt(2 * settings.layers * width))

        def forward(self, x: Any, seen: Any, scale: Any) -> Any:
            b, n, _ = x.shape
            q, k, v = self.project(self.norm(x)).view(b, n, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
            mixed = nn.functional.scaled_dot_product_attention(q if scale is None else q * scale, k, v, attn_mask=seen)
            x = x + self.out(mixed.transpose(1, 2).reshape(b, n, width))
            return x + self.down(nn.functional.gelu(self.up(self.norm_mlp(x)), approximate="tanh"))

    class Decoder(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.token, self.place = nn.Embedding(vocabulary, width), nn.Embedding(places, width)
            for embedding in (self.token, self.place):
                nn.init.normal_(embedding.weight, std=0.3)
            self.blocks = nn.ModuleList([Block() for _ in range(settings.layers)])
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

        def forward(self, ids: Any, places: Any, documents: Any, wanted: Any) -> Any:
            """Return logits (k, vocabulary) where `wanted` (rows, n) is true."""
            same = documents[:, :, None] == documents[:, None, :]
            seen = (same & torch.ones_like(same[0]).tril())[:, None]
            scale = seen.sum(-1)[..., None].log1p() / math.log(longest) if settings.scaled else None
            x = self.token(ids) + self.place(places)
            for block in self.blocks:
                x = block(x, seen, scale)
            return self.head(self.norm(x)[wanted])

    return Decoder()


def _curve(
    torch: Any, instances: _Instances, settings: Settings, report: Callable[[str], None], ledger: _Ledger
) -> Curve:
    task = instances.task
    trainings = []
    for seed in settings.seeds:
        training = ledger.find(task.name, settings, seed)
        if training is None:
            training = _training(torch, instances, settings, seed, report)
            ledger.add(task.name, settings, seed, training)
        else:
            report(f"{task.name}, seed {seed}: made before")
        trainings.append(training)
    size = None if task.solution is None else task.program.check().expanded_length
    by_program = []
    for length in settings.test_lengths if size is not None else ():
        batch, _, asked = _test(instances, settings, length)
        answers = task.program.batch(batch.tokens, batch.lengths)[:, :-1] == batch.tokens[:, 1:]
        by_program.append(float((answers | ~asked[:, 1:]).all(axis=1).mean()))
    return Curve(task.name, task.generalizes, size, settings, tuple(trainings), tuple(by_program))


def _test(instances: _Instances, settings: Settings, length: int) -> tuple[Batch, Ints, NDArray[np.bool_]]:
    """Return test instances of a length, their ids, and which of these belong to answers; no seed of the training."""
    batch, ids = instances.draw(length, settings.test_rows, 10_000_019 + length)
    at = np.arange(1, ids.shape[1])
    return batch, ids, (at > batch.prompt_lengths[:, None]) & (at <= batch.lengths[:, None])


def _training(
    torch: Any, instances: _Instances, settings: Settings, seed: int, report: Callable[[str], None]
) -> Training:
    began = time.thread_time()
    network, loss, on_data = _trained(torch, instances, settings, seed, report)
    accuracy, token_accuracy = [], []
    for length in settings.test_lengths:
        _, ids, asked = _test(instances, settings, length)
        at = np.arange(ids.shape[1] - 1)
        free = max(1, instances.places - ids.shape[1] + 1)
        offset = np.random.default_rng(length).integers(0, free, (len(ids), 1))
        inputs = (ids[:, :-1], offset + at, np.zeros_like(ids[:, 1:]), asked)
        with torch.no_grad():
            said = network(*(torch.from_numpy(x) for x in inputs)).argmax(dim=-1).numpy()
        right = ~asked
        right[asked] = said == ids[:, 1:][asked]
        accuracy.append(float(right.all(axis=1).mean()))
        token_accuracy.append(float(right[asked].mean()))
    spent = time.thread_time() - began
    share = round(on_data / max(spent, 1e-9), 3)
    return Training(tuple(accuracy), tuple(token_accuracy), loss, round(spent, 1), share)


def _trained(
    torch: Any, instances: _Instances, settings: Settings, seed: int, report: Callable[[str], None]
) -> tuple[Any, float, float]:
    """Return a network, its last loss, and the seconds that the instances took."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = _network(torch, settings, instances.vocabulary, instances.places, instances.longest)
    matrices = [p for name, p in network.named_parameters() if p.ndim == 2 and name.startswith("blocks")]
    rest = [p for name, p in network.named_parameters() if not (p.ndim == 2 and name.startswith("blocks"))]
    groups = [{"params": matrices, "weight_decay": settings.decay}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=settings.rate, betas=(0.9, 0.98), fused=True)
    warm = max(1, settings.steps // 20)
    losses: list[float] = []
    on_data = 0.0
    for step in range(settings.steps):
        scale = min(1.0, (step + 1) / warm) * (0.02 + 0.49 * (1 + math.cos(math.pi * step / settings.steps)))
        for group in optimizer.param_groups:
            group["lr"] = settings.rate * scale
        start = time.thread_time()
        ids, places, documents, answers = (torch.from_numpy(x) for x in instances.packed(rng, settings))
        on_data += time.thread_time() - start
        logits = network(ids[:, :-1], places[:, :-1], documents[:, :-1], answers)
        loss = torch.nn.functional.cross_entropy(logits, ids[:, 1:][answers])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        if (step + 1) % max(1, settings.steps // 10) == 0:
            report(f"{instances.task.name}, seed {seed}: step {step + 1} of {settings.steps}, loss {losses[-1]:.4f}")
    return network, float(np.mean(losses[-max(1, settings.steps // 10) :])), on_data
