"""The short set of benchmarks: a handful of rows a family, each against named peers, the answer asserted first.

``legato bench`` runs it on the user's own machine. The full set with its tables is `benchmarks/` in the repository.
"""

from __future__ import annotations

from legato.bench.comparison import Change, compare
from legato.bench.running import FAMILIES, Run, run
from legato.bench.timing import Row, Timing, measure

__all__ = ["FAMILIES", "Change", "Row", "Run", "Timing", "compare", "measure", "run"]
