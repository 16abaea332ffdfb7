"""``python -m legato``: the `legato` command."""

from __future__ import annotations

import sys

from legato.cli import main

if __name__ == "__main__":
    sys.exit(main())
