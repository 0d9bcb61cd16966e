"""One file per command. Each registers itself on `app`; heavy imports stay inside the command's function, so that
`--help`, completion and errors are instant."""

from __future__ import annotations

import sys
from importlib import import_module

_COMMANDS = (
    "demo",
    "swarm",
    "start",
    "log",
    "import_",
    "forget",
    "recommend",
    "similar",
    "status",
    "privacy",
    "peers",
    "doctor",
    "identity",
    "lab",
    "testbed",
)
"""Modules of this package, in the order of the help text."""


def main() -> None:
    """Entry point of the `p2prec` script."""
    from p2prec.cli.app import run

    for name in _COMMANDS:
        import_module(f"p2prec.cli.{name}")
    sys.exit(run())
