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
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legato._extras import install_command
from legato._files import write_whole
from legato.errors import ArgumentError, DependencyError
from legato.rasp import tasks
from legato.rasp.interpolation import and_counter_example
from legato.rasp.tasks import Batch, Task

__all__ = ["Curve", "Study", "run"]

TASKS = ("count", "sort", "copy_unique", "mode", "copy_repeated", "parity", "parity_scratchpad")
Ints = NDArray[np.int64]
_GENERALIZES = 0.5  #: share of right answers at the longest test from which we say so


@dataclass(frozen=True)
class Settings:
    """What is trained, and on what."""

    train_length: int = 20  #: lengths 1 .. train_length
    test_lengths: tuple[int, ...] = (10, 20, 30, 40)
    steps: int = 3000
    rows: int = 32  #: a step, of two instances each
    test_rows: int = 256
    width: int = 64
    layers: int = 2
    heads: int = 2
    rate: float = 3e-3
    decay: float = 0.05  #: of the weights of matrices
    seeds: tuple[int, ...] = (1, 2, 3)

    @classmethod
    def quick(cls) -> Settings:
        """Return settings for about 20 CPU seconds a task: half the length, a third of the steps, one seed."""
        return cls(train_length=10, test_lengths=(5, 10, 15, 20), steps=1000, seeds=(1,))


@dataclass(frozen=True)
class Curve:
    """One task: how many test instances were right, by length; of networks, a number for each seed."""

    task: str
    generalizes: bool  #: whether the conjecture expects it: there is a short RASP-L program
    program_length: int | None  #: core operations, library expanded; None: the task comes without a program
    accuracy: dict[int, list[float]]  #: whole answers
    token_accuracy: dict[int, list[float]]  #: tokens of answers
    program_accuracy: dict[int, float]  #: of the task's program; empty without one
    loss: list[float]  #: mean over the last tenth of the training
    seconds: float  #: of this thread's CPU
    data_share: float  #: of them, spent on instances

    def median(self, length: int) -> float:
        """Return the median over the seeds."""
        return float(np.median(self.accuracy[length]))


@dataclass(frozen=True)
class Study:
    """What `run` found."""

    settings: Settings
    curves: tuple[Curve, ...]
    torch: str  #: version
    interpolation: dict[str, str] = field(default_factory=dict)  #: the counter-example, as exact fractions

    def table(self) -> str:
        """Return medians of the accuracies as text, with their range over the seeds, one line a task."""
        lengths = self.settings.test_lengths
        rows = [["task", "program", *(str(n) for n in lengths)]]
        for curve in self.curves:
            kind = f"RASP-L, {curve.program_length}" if curve.generalizes else "none"
            rows.append([curve.task, kind, *(_shown(curve.accuracy[n]) for n in lengths)])
        widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
        return "\n".join(
            "  ".join(x.ljust(w) if at < 2 else x.rjust(w) for at, (x, w) in enumerate(zip(row, widths, strict=True)))
            for row in rows
        )

    def verdict(self) -> str:
        """Return what the medians at the longest test say of the conjecture, task by task, in one sentence."""
        longest = max(self.settings.test_lengths)
        said = [(curve, curve.median(longest) >= _GENERALIZES) for curve in self.curves]
        agree = [curve.task for curve, does in said if does == curve.generalizes]
        against = [curve.task for curve, does in said if does != curve.generalizes]
        text = f"At length {longest}, trained up to {self.settings.train_length}, as the conjecture expects: "
        text += ", ".join(agree) or "none"
        if against:
            text += f"; otherwise: {', '.join(against)}"
        return f"{text} (half of the answers right, or not; {len(self.settings.seeds)} seeds)."

    def save(self, folder: str | Path) -> tuple[Path, Path]:
        """Write `study.json` and the picture `study.svg`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        picture = self._picture()
        text = json.dumps(dataclasses.asdict(self), indent=1) + "\n"
        return write_whole(folder / "study.json", text), write_whole(folder / "study.svg", picture)

    def _picture(self) -> bytes:
        try:
            import matplotlib as mpl
            from matplotlib.figure import Figure
        except ImportError:
            raise DependencyError(f"the picture needs matplotlib: {install_command('study')}") from None
        figure = Figure(figsize=(7.5, 4.2), layout="constrained")
        axes = figure.subplots()
        for curve in self.curves:
            style = "o-" if curve.generalizes else "x--"
            lengths = list(curve.accuracy)
            (line,) = axes.plot(lengths, [100 * curve.median(n) for n in lengths], style, label=curve.task)
            low, high = ([100 * end(curve.accuracy[n]) for n in lengths] for end in (min, max))
            axes.fill_between(lengths, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        axes.axvline(self.settings.train_length, color="0.6", linewidth=1)
        axes.annotate(" longest trained", (self.settings.train_length, 2), color="0.4", fontsize=8)
        axes.set(xlabel="length", ylabel="answers exactly right, %", ylim=(-3, 103))
        axes.legend(fontsize=8, title="solid: short RASP-L program", title_fontsize=8)
        buffer = io.BytesIO()
        with mpl.rc_context({"svg.hashsalt": "legato", "svg.fonttype": "none"}):
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        return buffer.getvalue()


def run(names: tuple[str, ...] = TASKS, settings: Settings | None = None,
        report: Callable[[str], None] = lambda _: None) -> Study:  # fmt: skip
    """Train networks for each task and test them on longer instances; minutes on a CPU, one thread.

    Parameters
    ----------
    names : tuple of str
        Out of ``legato.rasp.tasks.ALL``.
    settings : Settings, optional
    report : callable, optional
        Called with a line of text about every tenth of a training.

    Raises
    ------
    ArgumentError
        Unknown task, or settings that do not fit together.
    DependencyError
        torch is not installed.
    """
    settings = Settings() if settings is None else settings
    torch = _torch()
    chosen = []
    for name in names:
        if name not in tasks.ALL:
            raise ArgumentError(f"tasks: expected some of {', '.join(tasks.ALL)}, got {name!r}")
        chosen.append(tasks.ALL[name])
    for name in ("train_length", "steps", "rows", "test_rows", "width", "layers", "heads"):
        if getattr(settings, name) < 1:
            raise ArgumentError(f"{name}: expected at least 1, got {getattr(settings, name)}")
    if settings.width % settings.heads:
        raise ArgumentError(f"width: expected a multiple of heads = {settings.heads}, got {settings.width}")
    if not settings.seeds or min(settings.seeds) < 0:
        raise ArgumentError(f"seeds: expected at least one, none of them negative, got {settings.seeds}")
    if not settings.test_lengths or min(settings.test_lengths) < 1:
        raise ArgumentError(f"test_lengths: expected lengths of at least 1, got {settings.test_lengths}")
    drawn = [_Instances(task, settings) for task in chosen]  # what does not fit is said before hours of training
    with _one_thread(torch):
        curves = tuple(_curve(torch, instances, settings, report) for instances in drawn)
    example = and_counter_example()
    exact = {
        "wrong_uniform": str(example.wrong_uniform),
        "wrong_leading_ones": str(example.wrong_leading_ones),
        "program_wrong": str(example.program_wrong),
    }
    return Study(settings, curves, torch.__version__, exact)


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


class _Instances:
    """Instances of a task as ids of a vocabulary of its own: its tokens, then a mark of the beginning."""

    def __init__(self, task: Task, settings: Settings) -> None:
        self.task = task
        self.longest = longest = max(settings.train_length, *settings.test_lengths)
        supply = longest + max(2, longest // 15)  # wider alphabets take far longer to learn
        given = {"copy_unique": "alphabet", "sort": "alphabet", "count": "largest", "parity_scratchpad": "hints"}
        self._options = {given[task.name]: supply} if task.name in given else {}
        many = [self.task.sample(n, 4096, seed=n, **self._options).tokens for n in {1, (longest + 1) // 2, longest}]
        self._low = min(int(tokens.min()) for tokens in many)
        self.begin = max(int(tokens.max()) for tokens in many) - self._low + 1
        self.vocabulary = self.begin + 1
        self.places = math.ceil(1.1 * (max(tokens.shape[1] for tokens in many) + 1))

    def draw(self, length: int, rows: int, seed: int) -> tuple[Batch, Ints]:
        """Return instances, and their ids with the mark first: (rows, n + 1)."""
        batch = self.task.sample(length, rows, seed=seed, **self._options)
        ids = np.concatenate([np.full((rows, 1), self.begin), batch.tokens - self._low], axis=1)
        return batch, np.clip(ids, 0, self.begin)  # what pads is read by nobody

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


def _network(torch: Any, settings: Settings, vocabulary: int, places: int) -> Any:
    nn, width, heads = torch.nn, settings.width, settings.heads

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
            self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
            for layer in (self.out, self.down):
                nn.init.normal_(layer.weight, std=0.4 / math.sqrt(2 * settings.layers * width))

        def forward(self, x: Any, seen: Any) -> Any:
            b, n, _ = x.shape
            parts = self.project(self.norm(x)).view(b, n, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
            mixed = nn.functional.scaled_dot_product_attention(*parts, attn_mask=seen)
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
            x = self.token(ids) + self.place(places)
            for block in self.blocks:
                x = block(x, seen)
            return self.head(self.norm(x)[wanted])

    return Decoder()


def _curve(torch: Any, instances: _Instances, settings: Settings, report: Callable[[str], None]) -> Curve:
    began = time.thread_time()
    task = instances.task
    accuracy: dict[int, list[float]] = {length: [] for length in settings.test_lengths}
    token_accuracy: dict[int, list[float]] = {length: [] for length in settings.test_lengths}
    program_accuracy: dict[int, float] = {}
    losses: list[float] = []
    on_data = 0.0
    program = None if task.solution is None else task.program
    for seed in settings.seeds:
        network, loss, seconds = _trained(torch, instances, settings, seed, report)
        losses.append(loss)
        on_data += seconds
        for length in settings.test_lengths:
            batch, ids = instances.draw(length, settings.test_rows, 10_000_019 + length)  # no seed of the training
            at = np.arange(1, ids.shape[1])
            asked = (at > batch.prompt_lengths[:, None]) & (at <= batch.lengths[:, None])
            rng = np.random.default_rng(length)
            offset = rng.integers(0, max(1, instances.places - ids.shape[1] + 1), (len(ids), 1))
            inputs = (ids[:, :-1], offset + at - 1, np.zeros_like(ids[:, 1:]), asked)
            with torch.no_grad():
                said = network(*(torch.from_numpy(x) for x in inputs)).argmax(dim=-1).numpy()
            right = ~asked
            right[asked] = said == ids[:, 1:][asked]
            accuracy[length].append(float(right.all(axis=1).mean()))
            token_accuracy[length].append(float(right[asked].mean()))
            if program is not None and length not in program_accuracy:
                answers = program.batch(batch.tokens, batch.lengths)[:, :-1] == batch.tokens[:, 1:]
                program_accuracy[length] = float((answers | ~asked[:, 1:]).all(axis=1).mean())
    check = None if program is None else program.check()
    spent = time.thread_time() - began
    return Curve(
        task.name,
        task.generalizes,
        None if check is None else check.expanded_length,
        accuracy,
        token_accuracy,
        program_accuracy,
        losses,
        round(spent, 1),
        round(on_data / max(spent, 1e-9), 3),
    )


def _trained(
    torch: Any, instances: _Instances, settings: Settings, seed: int, report: Callable[[str], None]
) -> tuple[Any, float, float]:
    """Return a network, its last loss, and the seconds that the instances took."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = _network(torch, settings, instances.vocabulary, instances.places)
    matrices = [p for name, p in network.named_parameters() if p.ndim == 2 and name.startswith("blocks")]
    rest = [p for name, p in network.named_parameters() if not (p.ndim == 2 and name.startswith("blocks"))]
    groups = [{"params": matrices, "weight_decay": settings.decay}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=settings.rate, betas=(0.9, 0.98))
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
