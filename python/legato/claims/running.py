"""The papers, and how their claims are run."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from legato.errors import ArgumentError, DependencyError

__all__ = ["NOT_RUN", "PAPERS", "Claim", "Paper", "run"]


@dataclass(frozen=True)
class Claim:
    """One claim of a paper, run.

    Parameters
    ----------
    text : str
        What is claimed.
    stated : str
        The paper's value or relation; where it states none, what the claim demands.
    found : str
        Ours.
    holds : bool or None
        Computed from what was found; None where it could not be run.
    error : float, optional
        Distance of ours from the paper's value, relative unless the text says otherwise.
    paper : str
        Name in `PAPERS`; set by `run`.
    seconds : float
        What it took; set by `run`.
    """

    text: str
    stated: str
    found: str
    holds: bool | None
    error: float | None = None
    paper: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Paper:
    """A paper, and the module of this package that runs its claims."""

    title: str
    source: str


PAPERS = {
    "camera": Paper("Cinematic-L1 video stabilization with a log-homography model", "WACV 2021, arXiv 2011.08144"),
    "guidance": Paper("Classifier-free guidance is a predictor-corrector", "arXiv 2408.09000"),
    "steps": Paper("Step-by-step diffusion: an elementary tutorial", "arXiv 2406.08929"),
    "rasp": Paper("What algorithms can transformers learn?", "arXiv 2310.16028"),
    "rft": Paper("Vanishing gradients in reinforcement finetuning", "arXiv 2310.20703"),
}

NOT_RUN = {
    "camera": "its viewers' votes and its set of videos (people, and data that are not public); speed on a phone",
    "guidance": "samples of Stable Diffusion XL and of an EDM2 network on ImageNet (weights and a GPU)",
    "steps": "nothing: it is a tutorial, and its algorithms and claims are all here",
    "rasp": "networks of the paper's size, trained for as long (days); `legato rasp study` trains small ones",
    "rft": "language models on the GRUE benchmark (weights, data and GPUs)",
}
"""What of each paper this machine does not run, and why."""


def run(
    papers: Sequence[str] = tuple(PAPERS), *, quick: bool = False, done: Callable[[Claim], None] | None = None
) -> list[Claim]:
    """Run the claims of some papers.

    Parameters
    ----------
    papers : sequence of str
        Names in `PAPERS`.
    quick : bool
        Fewer samples, seeds and steps, and no networks: a minute instead of half an hour.
    done : callable, optional
        Told of each claim when it was run.

    Returns
    -------
    list of Claim

    Raises
    ------
    ArgumentError
        If a name is unknown.
    """
    for name in papers:
        if name not in PAPERS:
            raise ArgumentError(f"papers: expected some of {', '.join(PAPERS)}, got {name!r}")
    found = []
    for name in dict.fromkeys(papers):
        for claim in _timed(importlib.import_module(f"legato.claims.{name}"), quick):
            found.append(replace(claim, paper=name))
            if done is not None:
                done(found[-1])
    return found


def _timed(module: Any, quick: bool) -> Iterator[Claim]:
    """Run a paper's groups of claims; those whose package is missing are told as not run."""
    for group in module.GROUPS:
        start = time.perf_counter()
        try:
            claims = list(group(quick))
        except DependencyError as error:
            claims = [Claim(group.__doc__ or group.__name__, "", f"not run: {error}", None)]
        seconds = (time.perf_counter() - start) / max(len(claims), 1)
        for claim in claims:
            yield replace(claim, seconds=seconds)
