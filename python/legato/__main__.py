"""``python -m legato``: the `legato` command."""

from __future__ import annotations

from legato.cli import command

if __name__ == "__main__":
    command()
