"""Length generalization, tried: a small decoder-only transformer trained on the tasks, tested on longer instances.

One network a task, from one seed: pre-norm blocks, learned positions that start at a random offset (so that every
position is trained), AdamW with a linear warm-up and a cosine decay, the loss on the answer alone. A test instance
counts when every token of its answer is the most likely one, which is what greedy generation would give.

Beside the network stands the task's own program, evaluated on the same instances, and the exact numbers of the
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

from legato._extras import install_command
from legato._files import write_whole
from legato.errors import ArgumentError, DependencyError
from legato.rasp import tasks
from legato.rasp.interpolation import and_counter_example
from legato.rasp.tasks import Batch, Task

__all__ = ["Curve", "Study", "run"]

TASKS = ("count", "sort", "copy_unique", "mode", "addition_reverse", "copy_repeated", "parity")
_LOWEST_TOKEN, _TOKENS = -180, 420  # every token of every task, hints of 80 digits included
_PLACES = 512  # learned positions


@dataclass(frozen=True)
class Settings:
    """What is trained, and on what."""

    train_length: int = 10  #: lengths 1 .. train_length
    test_lengths: tuple[int, ...] = (4, 7, 10, 12, 15, 20, 30)
    steps: int = 1500
    rows: int = 64  #: instances a step, all of one length
    test_rows: int = 128
    width: int = 64
    layers: int = 2
    heads: int = 4
    rate: float = 2e-3
    seed: int = 0


@dataclass(frozen=True)
class Curve:
    """One task: how many test instances were right, by length."""

    task: str
    generalizes: bool  #: whether the conjecture expects it: there is a short RASP-L program
    program_length: int | None  #: core operations, library expanded; None: the task comes without a program
    accuracy: dict[int, float]
    program_accuracy: dict[int, float]  #: of the task's program; empty without one
    loss: float  #: mean over the last tenth of the training
    seconds: float


@dataclass(frozen=True)
class Study:
    """What `run` found."""

    settings: Settings
    curves: tuple[Curve, ...]
    torch: str  #: version
    interpolation: dict[str, str] = field(default_factory=dict)  #: the counter-example, as exact fractions

    def table(self) -> str:
        """Return the accuracies as text, one line a task."""
        lengths = self.settings.test_lengths
        rows = [["task", "program", *(str(n) for n in lengths)]]
        for curve in self.curves:
            kind = "RASP-L" if curve.generalizes else "none"
            rows.append([curve.task, kind, *(f"{100 * curve.accuracy[n]:.0f}" for n in lengths)])
        widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
        return "\n".join(
            "  ".join(x.ljust(w) if at < 2 else x.rjust(w) for at, (x, w) in enumerate(zip(row, widths, strict=True)))
            for row in rows
        )

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
            axes.plot(list(curve.accuracy), [100 * a for a in curve.accuracy.values()], style, label=curve.task)
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
    """Train one network for each task and test it on longer instances; minutes on a CPU, one thread.

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
    if not settings.test_lengths or min(settings.test_lengths) < 1:
        raise ArgumentError(f"test_lengths: expected lengths of at least 1, got {settings.test_lengths}")
    for task in chosen:
        for length in (1, max(settings.train_length, *settings.test_lengths)):
            _ids(task.sample(length, 2, seed=0).tokens)  # what does not fit is said before hours of training
    with _one_thread(torch):
        curves = tuple(_curve(torch, task, settings, report) for task in chosen)
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


def _ids(tokens: Any) -> Any:
    ids = tokens - _LOWEST_TOKEN
    if ids.size and (ids.min() < 0 or ids.max() >= _TOKENS or tokens.shape[1] > _PLACES):
        raise ArgumentError("test_lengths: these instances are too long for the network's tokens or positions")
    return ids


def _answers(batch: Batch) -> Any:
    """Where the next token belongs to the answer: rows x (n - 1)."""
    place = np.arange(1, batch.tokens.shape[1])
    return (place >= batch.prompt_lengths[:, None]) & (place < batch.lengths[:, None])


def _network(torch: Any, settings: Settings) -> Any:
    nn, width, heads = torch.nn, settings.width, settings.heads

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
            self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

        def forward(self, x: Any) -> Any:
            b, n, _ = x.shape
            parts = self.project(self.norm(x)).view(b, n, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
            mixed = nn.functional.scaled_dot_product_attention(*parts, is_causal=True)
            x = x + self.out(mixed.transpose(1, 2).reshape(b, n, width))
            return x + self.mlp(self.norm_mlp(x))

    class Decoder(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.token, self.place = nn.Embedding(_TOKENS, width), nn.Embedding(_PLACES, width)
            self.blocks = nn.Sequential(*(Block() for _ in range(settings.layers)))
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, _TOKENS)

        def forward(self, ids: Any, start: int) -> Any:
            places = torch.arange(start, start + ids.shape[1])
            return self.head(self.norm(self.blocks(self.token(ids) + self.place(places))))

    return Decoder()


def _curve(torch: Any, task: Task, settings: Settings, report: Callable[[str], None]) -> Curve:
    began = time.monotonic()
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    longest = max(
        task.sample(length, 64, seed=length).tokens.shape[1]
        for length in (settings.train_length, *settings.test_lengths)
    )
    offsets = min(_PLACES, 2 * longest) - longest + 1  # of the first position
    network = _network(torch, settings)
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.rate, weight_decay=0.01)
    warm = max(1, settings.steps // 20)
    losses: list[float] = []
    for step in range(settings.steps):
        done = (step - warm) / max(1, settings.steps - warm)
        scale = (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = settings.rate * scale
        length = int(rng.integers(1, settings.train_length + 1))
        batch = task.sample(length, settings.rows, seed=int(rng.integers(2**62)))
        ids = torch.from_numpy(_ids(batch.tokens))
        wanted = torch.from_numpy(_answers(batch))
        logits = network(ids[:, :-1], int(rng.integers(offsets)))
        loss = torch.nn.functional.cross_entropy(logits[wanted], ids[:, 1:][wanted])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        if (step + 1) % max(1, settings.steps // 10) == 0:
            report(f"{task.name}: step {step + 1} of {settings.steps}, loss {losses[-1]:.4f}")
    accuracy: dict[int, float] = {}
    program_accuracy: dict[int, float] = {}
    program = None if task.solution is None else task.program
    for length in settings.test_lengths:
        batch = task.sample(length, settings.test_rows, seed=10_000_019 + length)  # no seed of the training
        asked = _answers(batch)
        ids = _ids(batch.tokens)
        with torch.no_grad():
            said = network(torch.from_numpy(ids[:, :-1]), 0).argmax(dim=-1).numpy()
        accuracy[length] = _right(said, ids[:, 1:], asked)
        if program is not None:
            said = program.batch(batch.tokens, batch.lengths)[:, :-1]
            program_accuracy[length] = _right(said, batch.tokens[:, 1:], asked)
    check = None if program is None else program.check()
    return Curve(
        task.name,
        task.generalizes,
        None if check is None else check.expanded_length,
        accuracy,
        program_accuracy,
        float(np.mean(losses[-max(1, settings.steps // 10) :])),
        round(time.monotonic() - began, 1),
    )


def _right(said: Any, wanted: Any, asked: Any) -> float:
    return float(np.mean(np.all((said == wanted) | ~asked, axis=1)))
