"""How a reading command gets its answer: from the running daemon over its socket, else from the store on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2prec.api.client import DaemonNotRunning, call

if TYPE_CHECKING:
    from p2prec.storage.state import StateDirectory

Offline = Callable[["StateDirectory"], dict[str, Any]]
"""The same answer as the daemon's, computed from the state directory."""


def ask(state: Path | None, command: str, offline: Offline, **arguments: Any) -> dict[str, Any]:
    """The answer to `command`: the daemon's if one runs on this state directory, else `offline`'s.

    Raises StateError when no swarm was joined, and what `call` and `offline` raise.
    """
    directory = state_directory(state)
    try:
        return call(directory.control_socket_path, command, **arguments)
    except DaemonNotRunning:
        return offline(directory)


def state_directory(state: Path | None) -> StateDirectory:
    """The state directory to read: never made here, so that a mistyped `--state` leaves nothing behind."""
    from p2prec.storage.state import StateDirectory, default_state_path

    return StateDirectory((state or default_state_path()).expanduser().absolute())
