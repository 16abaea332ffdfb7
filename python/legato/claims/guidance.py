"""Classifier-free guidance is a predictor-corrector (arXiv 2408.09000): tables of `legato.diffusion.reproduction`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from legato.claims.running import Claim
from legato.diffusion import reproduction

__all__ = ["GROUPS"]


def _variances(quick: bool) -> Iterator[Claim]:
    """Neither CFG sampler gives the powered law (Theorems 1 and 2)."""
    size = {"chains": 50_000, "steps": 400} if quick else {"chains": 300_000, "steps": 1000}
    table = reproduction.counterexample1((1.5, 3, 7), **size)
    at = {name: i for i, name in enumerate(table.columns)}
    for row in table.rows:
        scale, sampler, powered = (row[at[name]] for name in ("gamma", "sampler", "powered"))
        closed, found, spread = (row[at[name]] for name in ("closed form", "simulated", "standard error"))
        # beside chance, the error of the steps is left
        yield Claim(
            f"variance of {sampler} at gamma {scale:g}, which is not the powered law's {powered:.4g}",
            f"{closed:.6g}",
            f"{found:.6g} +- {spread:.1g}",
            abs(found - closed) < 4 * spread + 0.02 * closed and abs(found - powered) > 4 * spread,
            found / closed - 1,
        )


def _means(quick: bool) -> Iterator[Claim]:
    """Guidance moves the mean."""
    table = reproduction.mean_shift((1.5, 3, 7), steps=1000 if quick else 4000)
    for scale, powered, ddpm, by_ddpm, error, ddim, by_ddim, error_ddim in table.rows:
        for name, closed, found, off in (("DDPM", ddpm, by_ddpm, error), ("DDIM", ddim, by_ddim, error_ddim)):
            yield Claim(
                f"mean of CFG-{name} at gamma {scale:g} where the class is N(1, 1), which is not the powered law's "
                f"{powered:.4g}",
                f"{closed:.6g}",
                f"{found:.6g}",
                abs(off) < 0.01 and abs(found - powered) > 0.01,
                off,
            )


def _equivalence(quick: bool) -> Iterator[Claim]:
    """CFG-DDPM is PCG (Theorem 3)."""
    table = reproduction.equivalence((1.5, 3.0, 7.0), finest=800 if quick else 3200)
    for scale in dict.fromkeys(row[0] for row in table.rows):
        last = [row for row in table.rows if row[0] == scale][-1]
        steps, gap, order, closed = last[1], last[4], last[5], last[6]
        yield Claim(
            f"CFG-DDPM at gamma {scale:g} and PCG at {2 * scale - 1:g} become one as steps become small",
            "difference to 0, first order",
            f"{gap:.2g} at {steps} steps, order {order:.3f}",
            abs(order - 1) < 0.1 and gap < 0.05 * closed,
            gap / closed,
        )


def _correctors(quick: bool) -> Iterator[Claim]:
    """PCG with many correctors samples the powered law."""
    table = reproduction.many_correctors(counts=(1, 4, 16, 64), steps=100 if quick else 250)
    errors = [abs(row[5]) for row in table.rows]
    yield Claim(
        "with many correctors a step PCG at gamma 3 samples the powered law of 5",
        "error to 0",
        f"{errors[0]:.3f} with one, {errors[-1]:.4f} with 64",
        errors[-1] < 0.02 and all(later < sooner for sooner, later in itertools.pairwise(errors)),
        errors[-1],
    )


def _mixtures(quick: bool) -> Iterator[Claim]:
    """Mixtures are shifted and narrowed, not sharpened."""
    size = {"chains": 10_000, "steps": 150} if quick else {"chains": 40_000, "steps": 300}
    table = reproduction.counterexample2(3.0, **size)
    at = {row[0]: row for row in table.rows}
    mean, variance = at["powered law"][1:3]
    for name in ("CFG-DDIM", "CFG-DDPM"):
        row = at[name]
        off = abs(row[2] - variance) / row[4]
        yield Claim(
            f"{name} of a mixture of four at gamma 3 does not sample its powered law",
            f"variance {variance:.4f} of the powered law",
            f"{row[2]:.4f}, {off:.0f} standard errors away",
            off > 4,
            row[2] / variance - 1,
        )
    row = at["20 correctors of gamma"]
    yield Claim(
        "correctors of gamma do sample it",
        f"mean {mean:.4f}, variance {variance:.4f}",
        f"{row[1]:.4f}, {row[2]:.4f}",
        abs(row[1] / mean - 1) < 0.05 and abs(row[2] / variance - 1) < 0.1,
        row[2] / variance - 1,
    )


GROUPS = (_variances, _means, _equivalence, _correctors, _mixtures)
