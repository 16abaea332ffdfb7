"""Names of a package that are imported when they are first asked for, so that importing the package stays quick."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping

__all__ = ["lazily"]


def lazily(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Make the ``__getattr__`` and ``__dir__`` of a package (PEP 562).

    Parameters
    ----------
    package : str
        Its ``__name__``.
    homes : mapping of str to str
        For each name the module that has it, from the package on; a module is its own home.

    Returns
    -------
    tuple of two functions
    """
    names = vars(sys.modules[package])

    def getattribute(name: str) -> object:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(f"{package}.{home}")
        value = module if name == home else getattr(module, name)
        names[name] = value  # the next look-up does not come here
        return value

    def directory() -> list[str]:
        return sorted(names.keys() | homes.keys())

    return getattribute, directory
