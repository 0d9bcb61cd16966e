"""The kernels of a lab's round in machine code: the same numbers to the bit, several times as fast. Needs numba."""

from __future__ import annotations

from importlib.util import find_spec


def is_available() -> bool:
    """Whether numba is installed."""
    return find_spec("numba") is not None
