"""What installs the packages of an extra beside this copy of Legato.

An index that is asked for Legato by name gives whatever carries the name there. The command is therefore worded by how
this copy was installed, and names a folder or the packages themselves.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_REQUIREMENT = re.compile(r"""(?P<package>[^;]+?)\s*;\s*extra\s*==\s*["'](?P<extra>[^"']+)["']""")
_OWN_EXTRAS = re.compile(r"legato\[(?P<extras>[^\]]+)\]")


def requirements(extra: str) -> list[str]:
    """List the packages of an extra with their bounds, as this copy's metadata has them; extras of extras spelled out.

    Parameters
    ----------
    extra : str
        Name in ``[project.optional-dependencies]``.

    Returns
    -------
    list of str
        Such as ``["lark>=1.1", "safetensors>=0.4"]``; empty for a copy without metadata and for an unknown extra.
    """
    from importlib import metadata  # slow to load, and only needed when something is missing

    try:
        listed = metadata.requires("legato") or []
    except metadata.PackageNotFoundError:
        return []
    found = [match for match in map(_REQUIREMENT.fullmatch, listed) if match]
    packages: dict[str, None] = {}  # a set in order
    pending, seen = [extra], set()
    while pending:
        name = pending.pop(0)
        if name in seen:
            continue
        seen.add(name)
        for match in found:
            if match["extra"] == name:
                own = _OWN_EXTRAS.fullmatch(match["package"])
                if own:
                    pending += own["extras"].split(",")
                else:
                    packages[match["package"]] = None
    return list(packages)


def install_command(extra: str) -> str:
    """Word the command that installs an extra: ``pip install ".[rft]"`` for a copy installed from a clone.

    A clone that is not the current folder is named by its path. An editable copy would be built again with other
    settings, and the wheel of any other copy need not exist any more: then the packages are named.

    Parameters
    ----------
    extra : str
        Name in ``[project.optional-dependencies]``.

    Returns
    -------
    str
        One line for a shell.
    """
    clone = _clone()
    packages = requirements(extra)
    if clone is None and packages:
        return "pip install " + " ".join(f'"{package}"' for package in packages)
    here = clone is None or clone.samefile(".")
    return f'pip install "{"." if here else clone}[{extra}]"'


def _clone() -> Path | None:
    """Find the folder that pip built this copy from, if it is still there and the copy is not editable."""
    import json
    from importlib import metadata
    from pathlib import Path
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    try:
        recorded = json.loads(metadata.distribution("legato").read_text("direct_url.json") or "{}")  # PEP 610
        address = urlsplit(recorded["url"])
        folder = Path(url2pathname(address.path))
        copied = address.scheme == "file" and not recorded["dir_info"].get("editable")
        return folder if copied and (folder / "pyproject.toml").is_file() else None
    except (metadata.PackageNotFoundError, KeyError, TypeError, AttributeError, ValueError, OSError):
        return None
