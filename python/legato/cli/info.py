"""``legato info``: what this installation is and can do."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
from typing import Any

from legato._extras import install_command
from legato._printing import say

NAME = "info"
HELP = "show version, instruction sets, backends and codecs"
DESCRIPTION = "Show version, instruction sets, backends, video codecs and the versions of what does the work."

# Module -> the distributions that may bring it.
_PACKAGES = {
    "numpy": ("numpy",),
    "av": ("av",),
    "cv2": ("opencv-python", "opencv-python-headless", "opencv-contrib-python"),
    "rich": ("rich",),
    "matplotlib": ("matplotlib",),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("--json", action="store_true", help="write JSON")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    facts = _facts()
    if arguments.json:
        say(json.dumps(facts, indent=2, default=str))
        return 0
    say(f"legato {facts['version']}, Python {facts['python']}, {facts['platform']}")
    for name, value in facts["build"].items():
        if name != "version":
            say(f"  {name}: {_text(value)}")
    say(f"  backends: {_text(facts['backends'])}")
    say("packages")
    for name, version in facts["packages"].items():
        say(f"  {name}: {version or 'missing'}")
    if facts["codecs"]:
        say("video codecs (encoder, decoder)")
        for family, names in facts["codecs"].items():
            say(f"  {family}: {names['encoder'] or '-'}, {names['decoder'] or '-'}")
    if facts["missing"]:
        say(f"missing: {_text(facts['missing'])}; install with {install_command('video')}")
    return 0


def _facts() -> dict[str, Any]:
    import platform  # here, since it takes a while and every other command would wait for it

    import legato

    packages = {name: _version(name, homes) for name, homes in _PACKAGES.items()}
    codecs: dict[str, dict[str, str | None]] = {}
    if packages["av"]:
        from legato.video.media.encoders import available_codecs

        codecs = available_codecs()
        packages["ffmpeg"] = str(getattr(sys.modules["av"], "ffmpeg_version_info", "unknown"))
    return {
        "version": legato.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "build": legato.build_info(),
        "backends": legato.backends(),
        "packages": packages,
        "codecs": codecs,
        "missing": [name for name in _PACKAGES if not packages[name]],
    }


def _version(module: str, distributions: tuple[str, ...]) -> str | None:
    if importlib.util.find_spec(module) is None:
        return None
    metadata = importlib.import_module("importlib.metadata")  # needs half of the email package
    for name in distributions:
        try:
            return str(metadata.version(name))
        except metadata.PackageNotFoundError:
            continue
    return "unknown"


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(str(v) for v in value)
    return str(value)
