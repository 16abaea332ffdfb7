"""What machine this is, as figures must say."""

from __future__ import annotations

from pathlib import Path

__all__ = ["processor"]


def processor() -> str:
    """Return the name of the processor as Linux gives it, or else what the system knows of it."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    import platform  # slow to load, and Linux does without

    return platform.processor() or platform.machine()
