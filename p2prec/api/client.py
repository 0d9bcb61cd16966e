"""The blocking side of the control socket: one question, one answer, with a deadline.

Needs neither asyncio nor numpy, so that `p2prec status` answers in the time it takes to start Python. The format is described
in docs/how-to/control-socket.md: a line of JSON each way.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from typing import Any

from p2prec.errors import P2PRecError, UsageError

VERSION = 1
"""Version of the request format; a request of another version is refused."""
MAX_REQUEST_BYTES = 64 << 10
"""Longest request line that the daemon reads, newline included."""
MAX_RESPONSE_BYTES = 8 << 20
"""Longest response line that the client reads, newline included."""
DEFAULT_DEADLINE_S = 10.0


class DaemonNotRunning(P2PRecError):
    """Nobody listens on the control socket. The caller answers from the store instead."""


class ControlFailure(P2PRecError):
    """The daemon is there but did not answer properly: too slow, cut off, not our protocol, or an error of its own."""


def call(
    path: str | os.PathLike[str], command: str, *, deadline_s: float = DEFAULT_DEADLINE_S, **arguments: Any
) -> dict[str, Any]:
    """Ask the daemon that listens on the Unix socket `path`, and return its result.

    `arguments` are the command's, as JSON values. The whole conversation takes at most `deadline_s` seconds.
    Raises DaemonNotRunning when nobody listens, UsageError when the daemon says that the question was wrong (with its remedy),
    ControlFailure otherwise.
    """
    request = (
        json.dumps({"v": VERSION, "command": command, "arguments": arguments}, separators=(",", ":")).encode() + b"\n"
    )
    if len(request) > MAX_REQUEST_BYTES:
        raise UsageError(f"the request is {len(request)} bytes long; at most {MAX_REQUEST_BYTES} are possible")
    deadline = time.monotonic() + deadline_s
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.settimeout(deadline_s)
            connection.connect(os.fspath(path))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
            raise DaemonNotRunning(f"no daemon listens on {os.fspath(path)}") from error
        except OSError as error:
            raise ControlFailure(f"the daemon's socket {os.fspath(path)} cannot be reached: {error}") from error
        try:
            # A daemon with too many clients answers at once and closes: the answer is there even if the request no longer fits.
            with contextlib.suppress(BrokenPipeError):
                connection.sendall(request)
            line = _read_line(connection, deadline)
        except TimeoutError as error:
            raise ControlFailure(f"the daemon did not answer within {deadline_s:g} s") from error
        except OSError as error:
            raise ControlFailure(f"the daemon broke off: {error}") from error
    return _result(line)


def _read_line(connection: socket.socket, deadline: float) -> bytes:
    """Everything up to the first newline; raises TimeoutError past the deadline, ControlFailure when there is no such line."""
    received = bytearray()
    while not received.endswith(b"\n"):
        remaining_s = deadline - time.monotonic()
        if remaining_s <= 0:
            raise TimeoutError
        connection.settimeout(remaining_s)
        chunk = connection.recv(1 << 16)
        if not chunk:
            raise ControlFailure("the daemon broke off before it had answered; its log says why")
        received += chunk
        if len(received) > MAX_RESPONSE_BYTES:
            raise ControlFailure(f"the daemon's answer is longer than {MAX_RESPONSE_BYTES >> 20} MiB")
    return bytes(received)


def _result(line: bytes) -> dict[str, Any]:
    """The result inside a response line, or the error that it carries."""
    try:
        response = json.loads(line)
        if response["ok"] is True:
            result = response["result"]
            if not isinstance(result, dict):
                raise TypeError
            return result
        message, remedy, kind = str(response["error"]), str(response.get("remedy") or ""), response.get("kind")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ControlFailure("the daemon's answer is not understood; is it of another version?") from error
    if kind == "usage":
        raise UsageError(message, remedy=remedy)
    raise ControlFailure(message)
