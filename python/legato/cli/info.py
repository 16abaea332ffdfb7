"""``legato info``: what this installation is and can do."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
import textwrap
from typing import Any, NamedTuple

from legato._extras import install_command
from legato._printing import say

NAME = "info"
HELP = "show version, instruction sets, backends, packages and codecs"
DESCRIPTION = (
    "Show version, instruction sets, backends, video codecs, and every optional package: its version, or what it "
    "would enable and how it is installed."
)
EXAMPLES = ("legato info", "legato info --json")


class _Package(NamedTuple):
    """A package that some part of Legato uses, by the name it is imported by."""

    extra: str | None  # which brings it; None: it is always there
    enables: str
    distributions: tuple[str, ...] = ()  # which may bring it, where their name is another


_PACKAGES = {
    "numpy": _Package(None, "arrays"),
    "av": _Package("video", "reading and writing of videos"),
    "cv2": _Package(
        "video",
        "clips of the demo, labels of comparisons, windows, the other backend of tracker and warp",
        ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
    ),
    "rich": _Package("video", "progress bars"),
    "matplotlib": _Package("video", "plots"),
    "scipy": _Package("rft", "the doctor's intervals, linear programs of camera paths"),
    "pyarrow": _Package("rft", "rollouts in Parquet, Arrow, CSV and JSON"),
    "sklearn": _Package("rft", "legato rft reproduce digits", ("scikit-learn",)),
    "lark": _Package("rasp", "the RASP language"),
    "safetensors": _Package("rasp", "saving of transformer weights"),
    "torch": _Package("study", "legato rasp study, losses with gradients, tensors in and out"),
    "clarabel": _Package("solvers", "camera paths by Clarabel"),
    "osqp": _Package("solvers", "camera paths by OSQP"),
    "piqp": _Package("solvers", "camera paths by PIQP"),
    "numba": _Package("peers", "compiled predicates of RASP"),
    "diffusers": _Package("peers", "legato.diffusion.schedulers"),
    "transformers": _Package("peers", "legato.rft.callbacks for TRL"),
    "ml_dtypes": _Package("peers", "bfloat16 in NumPy arrays", ("ml_dtypes", "ml-dtypes")),
    "cupy": _Package("cuda12", "diffusion steps in GPU memory", ("cupy-cuda12x", "cupy-cuda13x", "cupy")),
    "shtab": _Package("completion", "legato completion"),
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
        enables = f"  {_PACKAGES[name].enables}" if name in _PACKAGES else ""
        say(
            textwrap.fill(
                f"{name:<12} {version or 'missing':<14}{enables}", 78, initial_indent="  ", subsequent_indent=" " * 31
            )
        )
    if facts["codecs"]:
        say("video codecs (encoder, decoder)")
        for family, names in facts["codecs"].items():
            say(f"  {family}: {names['encoder'] or '-'}, {names['decoder'] or '-'}")
    if facts["missing"]:
        say("what is missing, and how it is installed")
    for extra, names in facts["missing"].items():
        say(f"  {_text(names)}: {install_command(extra)}")
    return 0


def _facts() -> dict[str, Any]:
    import platform  # here, since it takes a while and every other command would wait for it

    import legato

    packages = {name: _version(name, package.distributions or (name,)) for name, package in _PACKAGES.items()}
    missing: dict[str, list[str]] = {}
    for name, package in _PACKAGES.items():
        if packages[name] is None and package.extra is not None:
            missing.setdefault(package.extra, []).append(name)
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
        "enables": {name: package.enables for name, package in _PACKAGES.items()},
        "codecs": codecs,
        "missing": missing,
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
