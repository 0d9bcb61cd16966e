"""Seeds on a command line."""

from __future__ import annotations


def seed_range(text: str) -> range:
    """FIRST-LAST, both included, or one seed. Raises ValueError for anything else."""
    first, dash, last = text.partition("-")
    return range(int(first), int(last if dash else first) + 1)
