"""Which rows are run beside which peers, on which machine."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import legato
from legato._machine import processor
from legato.bench.timing import Timing, measure
from legato.errors import ArgumentError

__all__ = ["FAMILIES", "Run", "machine", "run"]

FAMILIES = ("camera", "video", "diffusion", "rasp", "rft")
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Run:
    """What was measured, and where.

    Parameters
    ----------
    machine : dict
        Processor, its count, system, Python, instruction set of Legato's kernels.
    packages : dict of str to str
        Versions of Legato, NumPy and the peers.
    missing : list of str
        Peers that are not installed; their columns are left out.
    timings : list of Timing
        One for each row.

    See Also
    --------
    run : Measure the short set of some families.
    compare : Judge each row that two runs have in common.

    Examples
    --------
    >>> from legato import bench
    >>> run = bench.Run(machine={}, packages={}, missing=["torch"], timings=[])
    >>> run.to_dict()["missing"]
    ['torch']
    """

    machine: dict[str, Any]
    packages: dict[str, str]
    missing: list[str]
    timings: list[Timing]

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as JSON has it.

        See Also
        --------
        compare : Judge each row that two runs have in common.
        """
        return asdict(self)


def run(
    families: Sequence[str] = FAMILIES,
    *,
    seconds: float = 2.0,
    begun: Callable[[Run], None] | None = None,
    done: Callable[[Timing], None] | None = None,
) -> Run:
    """Measure the short set of some families.

    Parameters
    ----------
    families : sequence of str
        Of ``"camera"``, ``"video"``, ``"diffusion"``, ``"rasp"``, ``"rft"``.
    seconds : float
        About how long a row takes.
    begun, done : callable, optional
        Told of the machine and the peers before the first row, and of each row when it is measured.

    Returns
    -------
    Run

    Raises
    ------
    ArgumentError
        If a family is unknown or `seconds` is not positive.
    AssertionError
        If someone's answer is another than ours.

    See Also
    --------
    measure : Check that all give the same answer, then time them in turn, on one thread each.
    compare : Judge each row that two runs have in common.

    Examples
    --------
    >>> from legato import bench
    >>> [timing.family for timing in bench.run([]).timings]
    []
    """
    for family in families:
        if family not in FAMILIES:
            raise ArgumentError(f"families: expected some of {', '.join(FAMILIES)}, got {family!r}")
    if not 0 < seconds < float("inf"):
        raise ArgumentError(f"seconds: expected a positive number, got {seconds!r}")
    for name in _THREADS:  # before the peers are imported; those that are imported already are told below
        os.environ.setdefault(name, "1")
    rooms = {family: importlib.import_module(f"legato.bench.{family}") for family in families}
    asked = sorted({name for room in rooms.values() for name in room.PEERS})
    peers = {name: importlib.import_module(name) for name in asked if importlib.util.find_spec(name)}
    if "torch" in peers:
        peers["torch"].set_num_threads(1)
    if "cv2" in peers:
        peers["cv2"].setNumThreads(1)
    measured = Run(
        machine(),
        {"legato": legato.__version__, **{name: str(_version(module)) for name, module in peers.items()}},
        [name for name in asked if name not in peers],
        [],
    )
    if begun is not None:
        begun(measured)
    for room in rooms.values():
        for row in room.rows(peers):
            measured.timings.append(measure(row, seconds))
            if done is not None:
                done(measured.timings[-1])
    return measured


def _version(module: Any) -> object:
    return getattr(module, "__version__", "unknown")


def machine() -> dict[str, Any]:
    """Tell on what this runs: what a figure must stand with."""
    return {
        "processor": processor(),
        "processors": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "isa": legato.build_info()["isa"],
        "threads": {name: os.environ.get(name) for name in _THREADS},
    }
