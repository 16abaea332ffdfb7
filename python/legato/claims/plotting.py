"""A picture of how far each claim's value is from the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from legato.claims.running import Claim

__all__ = ["FORMATS", "draw"]

FORMATS = (".svg", ".png", ".pdf")
_COLORS = {True: "tab:blue", False: "tab:red", None: "tab:gray"}
_SMALLEST = 1e-17  # where an error of exactly 0 is drawn
_LETTERS = 90


def draw(claims: Sequence[Claim], file: IO[bytes], kind: str) -> None:
    """Draw the errors of the claims that have one, in their order, on a logarithmic axis.

    Parameters
    ----------
    claims : sequence of Claim
        As `run` gives them.
    file : binary file
        Where to write.
    kind : str
        Of `FORMATS`.
    """
    from matplotlib.figure import Figure

    drawn = [claim for claim in claims if claim.error is not None]
    figure = Figure(figsize=(10, 1.2 + 0.28 * len(drawn)), layout="constrained")
    axes = figure.subplots()
    for row, claim in enumerate(drawn):
        axes.plot(max(abs(claim.error or 0.0), _SMALLEST), row, "o", color=_COLORS[claim.holds])
    texts = [f"{claim.paper}: {claim.text}" for claim in drawn]
    axes.set_yticks(
        range(len(drawn)), [t if len(t) <= _LETTERS else t[: _LETTERS - 3] + "..." for t in texts], fontsize=7
    )
    axes.set(xscale="log", xlabel="distance from the paper's value (blue: holds, red: does not)")
    axes.invert_yaxis()
    axes.grid(axis="both", alpha=0.3)
    figure.savefig(file, format=kind[1:])
