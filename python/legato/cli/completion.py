"""``legato completion SHELL``: what the shell needs to complete commands, options and files."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from pathlib import Path

from legato._extras import install_command
from legato._printing import say
from legato.errors import DependencyError

NAME = "completion"
HELP = "print a script that lets the shell complete commands and options"
DESCRIPTION = "Print a script that lets the shell complete commands, options, their choices and files. Needs shtab."
EXAMPLES = (
    "legato completion bash > ~/.local/share/bash-completion/completions/legato",
    "legato completion zsh > ~/.zfunc/_legato",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="the shell")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from legato.cli import _parser

    try:
        shtab = importlib.import_module("shtab")
    except ImportError as error:
        raise DependencyError(f"completion: shtab is needed here: {install_command('completion')}") from error
    parser = _parser()
    for action in _actions(parser):
        if action.type is Path or action.metavar == "FILE":
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    say(shtab.complete(parser, shell=arguments.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Go through the arguments of a parser and of its sub-commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from _actions(sub)
