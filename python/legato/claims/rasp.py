"""What algorithms can transformers learn (arXiv 2310.16028): programs, their lengths, and small networks."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from legato._extras import install_command
from legato.claims.running import Claim
from legato.errors import DependencyError
from legato.rasp import study, tasks

__all__ = ["GROUPS"]


def _programs(quick: bool) -> Iterator[Claim]:
    """Tasks that generalize have short RASP-L programs, which are right at every length."""
    lengths = (3, 10, 30) if quick else (3, 10, 30, 100, 300)
    for name, task in tasks.ALL.items():
        if not task.generalizes:
            continue
        right = rows = 0
        for length in lengths:
            for prompt, answer in _instances(task, length, 8):
                rows += 1
                right += task.program.generate(prompt, stop=task.end, max_new=len(answer) + 1) == answer
        report = task.program.check()
        yield Claim(
            f"{name}: a short RASP-L program gives every answer, whatever the length",
            "exists",
            f"{right} of {rows} answers, lengths {lengths[0]} to {lengths[-1]}; length {report.expanded_length}",
            right == rows > 0 and report.legal,
        )


def _instances(task: tasks.Task, length: int, rows: int) -> Iterator[tuple[list[int], list[int]]]:
    try:
        batch = task.sample(length, rows, seed=length)
    except ValueError:  # an alphabet that has no so many symbols
        return
    for row in range(rows):
        yield batch.row(row)


def _networks(quick: bool) -> Iterator[Claim]:
    """Trained networks generalize in length on tasks with short programs, and not on others."""
    if quick:
        return
    if importlib.util.find_spec("torch") is None:
        raise DependencyError(f"needs torch: {install_command('study')}")
    names = ("count", "sort", "copy_unique", "mode", "copy_repeated", "parity")
    found = study.run({name: study.RECIPES[name].quick() for name in names if name in study.RECIPES})
    for curve in found.curves:
        median, at = curve.median(curve.longest), curve.settings.multiples[curve.longest]
        expected = "yes" if curve.generalizes else "no"
        learned = "" if curve.learned else "; not learned at the trained length, which says nothing"
        yield Claim(
            f"{curve.task}: a network trained on short instances answers longer ones",
            expected,
            f"{median:.0%} right at {at:g} times the length{learned}",
            None if not curve.learned else (median >= 0.5) == curve.generalizes,
        )


GROUPS = (_programs, _networks)
