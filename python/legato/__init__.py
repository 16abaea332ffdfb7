"""Legato: fast compiled kernels for steps repeated many times.

Families: `legato.camera` (L1-optimal camera paths), `legato.diffusion` (sampling from diffusion models), `legato.rasp`
(programs of select and aggregate), `legato.rft` (reinforcement fine-tuning) and `legato.video` (video stabilization).
Each is imported where it is used; `import legato` needs NumPy alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from legato import _core
from legato._dispatch import BACKENDS

if TYPE_CHECKING:
    from legato import camera, diffusion, rasp, rft, video

__all__ = ["__version__", "backends", "build_info", "camera", "diffusion", "get_include", "rasp", "rft", "video"]

__version__: str = _core.version()

_FAMILIES = ("camera", "diffusion", "rasp", "rft", "video")


def backends() -> tuple[str, ...]:
    """Names that ``backend=`` and the environment variable LEGATO_BACKEND accept."""
    return BACKENDS


def build_info() -> dict[str, Any]:
    """Version, compiler, active and available instruction sets of the compiled core."""
    order = ("baseline", "avx2", "avx512")
    best = _core.best_isa()
    return {
        "version": __version__,
        "compiler": _core.build_text(),
        "isa": _core.active_isa(),
        "isas": order[: order.index(best) + 1],
    }


def get_include() -> str:
    """Folder of the C++ and C headers: ``legato/*.hpp`` and ``legato.h``.

    The library and the CMake package lie beside it; `docs/embedding.md` says how a build finds them.

    Examples
    --------
    >>> import pathlib
    >>> import legato
    >>> (pathlib.Path(legato.get_include()) / "legato.h").is_file()
    True
    """
    from importlib.resources import files

    return str(files("legato") / "include")


def __getattr__(name: str) -> Any:
    if name in _FAMILIES:
        return importlib.import_module(f"legato.{name}")
    raise AttributeError(f"module 'legato' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
