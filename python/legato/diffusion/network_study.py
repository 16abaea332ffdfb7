"""The guidance paper's claims on a trained network: the digits denoiser of the course (docs/course).

Each function takes images with labels and a model as `sample` takes one, with ``given(label)`` for the conditional
model, and returns a `Table`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legato._arrays import Float64
from legato._scalars import as_count
from legato.diffusion.models import guided
from legato.diffusion.reproduction import Table
from legato.diffusion.sampling import sample
from legato.diffusion.schedules import Schedule

__all__ = ["digits", "digits_equivalence", "frechet_distance"]

_SIGMAS = {"sigma_max": 20.0, "sigma_min": 0.02}
_WAYS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("CFG-DDIM", {"sampler": "ddim"}),
    ("CFG-DDPM", {"sampler": "ddpm"}),
    ("PCG K = 1", {"sampler": "ddim", "corrector_steps": 1}),
    ("PCG K = 2", {"sampler": "ddim", "corrector_steps": 2}),
    ("PCG K = 4", {"sampler": "ddim", "corrector_steps": 4}),
)


def frechet_distance(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Return Frechet's distance of two samples (n, d), taken for Gaussians: |m - m'|^2 + tr(S + S' - 2 (S S')^(1/2)).

    Dowson and Landau (1982); of the numbers themselves, not of a network's features.
    """
    means, covariances = zip(*((np.mean(z, 0), np.cov(z, rowvar=False)) for z in (x, y)), strict=True)
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    middle = np.linalg.eigvalsh(root @ covariances[1] @ root)
    traces = sum(float(np.trace(one)) for one in covariances)
    return float(((means[0] - means[1]) ** 2).sum()) + traces - 2 * float(np.sqrt(np.maximum(middle, 0)).sum())


def _drawn(model: Any, classes: NDArray[Any], scale: float, each: int, steps: int, seed: int, **how: Any) -> Float64:
    """Draw so many images of each class, (classes, each, d)."""
    schedule = Schedule.karras(steps, **_SIGMAS)
    return np.array(
        [
            sample(
                guided(model.given(int(label)), model), (each, model.dimension), schedule, guidance_scale=scale,
                seeds=1000 * seed + int(label), **how,
            )
            for label in classes
        ],
        np.float64,
    )  # fmt: skip


def digits(
    model: Any, images: NDArray[Any], labels: NDArray[Any], scales: Sequence[float] = (1.5, 2.0, 3.0), *,
    each: int = 25, runs: int = 4, steps: int = 50,
) -> Table:  # fmt: skip
    """Compare CFG and PCG on a network: distance to the data, whose class the images are of, and their variety.

    Parameters
    ----------
    model
        Predicts eps; with ``given(label)`` and ``dimension``.
    images, labels : array, shapes (n, d) and (n,)
        The data. The class of a sample is that of its nearest image.
    scales : sequence of float
        Guidance scales gamma.
    each, runs, steps : int
        Samples of each class in a run, runs with seeds of their own (which the standard errors are of), steps.
    """
    _check(each, runs, steps)
    data, classes = images.astype(np.float64), np.unique(labels)
    spread = {label: data[labels == label].var(0).sum() for label in classes}

    def measures(x: Float64) -> tuple[float, float, float]:
        flat = x.reshape(-1, x.shape[-1])
        squares = (data**2).sum(1) - 2 * flat @ data.T
        found = labels[squares.argmin(1)].reshape(x.shape[:2])
        kept = [one.var(0, ddof=1).sum() / spread[label] for one, label in zip(x, classes, strict=True)]
        return frechet_distance(flat, data), float((found == classes[:, None]).mean()), float(np.mean(kept))

    rows: list[tuple[Any, ...]] = []
    for scale in scales:
        for name, how in _WAYS:
            of_runs = [measures(_drawn(model, classes, scale, each, steps, seed, **how)) for seed in range(runs)]
            pairs = zip(np.mean(of_runs, 0), np.std(of_runs, 0, ddof=1) / runs**0.5, strict=True)
            rows.append((scale, name, *(float(one) for pair in pairs for one in pair)))
    return Table(
        "digits",
        "images of a trained network by CFG and by PCG, against the data",
        (
            "gamma", "sampler", "Frechet distance", "standard error", "accuracy", "its standard error",
            "variance within class", "standard error of it",
        ),
        rows,
        verdicts=_verdicts_on_digits(rows),
    )  # fmt: skip


def _verdicts_on_digits(rows: list[tuple[Any, ...]]) -> dict[str, bool]:
    of = {(row[0], row[1]): row for row in rows}
    verdicts = {}
    for scale in dict.fromkeys(row[0] for row in rows):
        one = of[scale, "PCG K = 1"]
        for other in ("CFG-DDIM", "CFG-DDPM"):
            two = of[scale, other]
            clear = two[2] - one[2] > 2 * (one[3] ** 2 + two[3] ** 2) ** 0.5
            verdicts[f"gamma {scale:g}: PCG K = 1 is nearer to the data than {other}, by two standard errors"] = clear
        variances = [of[scale, name][6] for name in ("CFG-DDIM", "CFG-DDPM", "PCG K = 1")]
        verdicts[f"gamma {scale:g}: of these, PCG K = 1 keeps most variance"] = variances[2] == max(variances)
    largest = max(row[0] for row in rows)
    breaks = of[largest, "PCG K = 4"][2] > 2 * of[largest, "PCG K = 1"][2]
    return verdicts | {f"gamma {largest:g}: four correctors a step leave the data": breaks}


def digits_equivalence(
    model: Any, images: NDArray[Any], labels: NDArray[Any], scale: float = 2.0, *, each: int = 25, runs: int = 3,
    counts: Sequence[int] = (25, 50, 100, 200),
) -> Table:  # fmt: skip
    """Show theorem 3 on a network: CFG-DDPM(gamma) and PCG(2 gamma - 1) become one, CFG-DDIM stays another.

    Parameters
    ----------
    model, images, labels
        As in `digits`; of the images the number of numbers alone is used.
    scale : float
        gamma.
    each, runs : int
        As in `digits`. The floor is the distance of two runs of CFG-DDPM.
    counts : sequence of int
        Steps.
    """
    _check(each, runs, min(counts))
    classes = np.unique(labels)
    rows: list[tuple[Any, ...]] = []
    for steps in counts:

        def images_of(which: int, seed: int, steps: int = steps) -> Float64:
            x = _drawn(model, classes, scale, each, steps, seed, **_WAYS[which][1])
            return x.reshape(-1, images.shape[1])

        found: list[tuple[float, float, float]] = []
        for run in range(runs):
            ddpm = images_of(1, run)
            found.append(
                (
                    frechet_distance(ddpm, images_of(2, 100 + run)),
                    frechet_distance(ddpm, images_of(0, 100 + run)),
                    frechet_distance(ddpm, images_of(1, 100 + run)),
                )
            )
        pairs = zip(np.mean(found, 0), np.std(found, 0, ddof=1) / runs**0.5, strict=True)
        rows.append((steps, *(float(one) for pair in pairs for one in pair)))
    first, last = rows[0], rows[-1]
    error = 2 * (last[2] ** 2 + last[6] ** 2) ** 0.5
    apart = 2 * (last[4] ** 2 + last[6] ** 2) ** 0.5
    excess = [row[1] - row[5] for row in rows]
    return Table(
        "digits_equivalence",
        f"Frechet distance of CFG-DDPM at gamma {scale:g} to PCG, to CFG-DDIM, and to itself with other seeds",
        ("steps", "to PCG", "standard error", "to CFG-DDIM", "its standard error", "floor", "standard error of it"),
        rows,
        verdicts={
            f"with {last[0]} steps PCG is CFG-DDPM to the floor, by two standard errors": excess[-1] < error,
            f"with {first[0]} steps it is farther beyond the floor": excess[0] > excess[-1],
            "what it is beyond the floor falls with every count": all(b < a for a, b in itertools.pairwise(excess)),
            f"with {last[0]} steps CFG-DDIM is not, by two standard errors": last[3] - last[5] > apart,
        },
    )


def _check(each: int, runs: int, steps: int) -> None:
    for name, value, least in (("each", each, 2), ("runs", runs, 2), ("steps", steps, 1)):
        as_count(name, value, least)
