"""What the five papers claim and two cores can run: each claim, its value in the paper, ours, and a computed verdict.

``legato reproduce`` runs them. The families' own commands (`legato diffusion reproduce`, `legato rft reproduce`,
`legato rasp study`) run parts at length, with plots; this is the table of all.
"""

from __future__ import annotations

from legato.claims.running import NOT_RUN, PAPERS, Claim, Paper, run

__all__ = ["NOT_RUN", "PAPERS", "Claim", "Paper", "run"]
