"""The daemon's control socket: newline-delimited JSON over a Unix socket that only the peer's owner can open.

`{"v": 1, "command": "status", "arguments": {}}` is answered by `{"ok": true, "result": {...}}` or by
`{"ok": false, "kind": "usage" | "failed", "error": "...", "remedy": "..."}`. A connection carries any number of requests, one
after the other. The blocking client is `p2prec.api.client`; docs/how-to/control-socket.md is the text for other programs.

Nothing that a local client does can stall the daemon: lines, clients, waiting and answering are bounded, and answering takes
at most half of the event loop's time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec

from p2prec.api.client import MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, VERSION
from p2prec.errors import P2PRecError, StateError, UsageError

Handler = Callable[[str, dict[str, Any]], dict[str, Any]]
"""Answers one command. Runs on the event loop, so it must take milliseconds. Raises UsageError for a wrong question, another
P2PRecError for what cannot be done; anything else is a bug: it is logged, and the client is told so."""

MAX_CLIENTS = 16
"""Connections served at once; one more is told so and closed."""
IDLE_DEADLINE_S = 30.0
"""A connection that sends no whole request for so long is closed."""
WRITE_DEADLINE_S = 5.0
"""A client that does not read its answer within this time is cut off."""

logger = logging.getLogger(__name__)


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    v: Literal[1]
    command: str
    arguments: dict[str, Any] = {}


class ControlServer:
    """Listens on `path` and answers with `handler`. Start and close it once; it holds no state between requests."""

    def __init__(
        self,
        path: Path,
        handler: Handler,
        *,
        max_clients: int = MAX_CLIENTS,
        idle_deadline_s: float = IDLE_DEADLINE_S,
        write_deadline_s: float = WRITE_DEADLINE_S,
    ) -> None:
        self._path = path
        self._handler = handler
        self._max_clients = max_clients
        self._idle_deadline_s = idle_deadline_s
        self._write_deadline_s = write_deadline_s
        self._server: asyncio.Server | None = None
        self._identity: tuple[int, int] | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()

    @property
    def n_clients(self) -> int:
        """Connections being served."""
        return len(self._clients)

    async def start(self) -> None:
        """Listen. The caller holds the daemon's lock on the state directory, so a socket found there is a dead daemon's.

        Raises StateError when something listens there all the same, or when the path is not a socket or cannot be bound.
        """
        _remove_stale_socket(self._path)
        listener = _bind_private(self._path)
        found = self._path.stat()
        self._identity = (found.st_dev, found.st_ino)
        self._server = await asyncio.start_unix_server(self._accept, sock=listener, limit=MAX_REQUEST_BYTES - 1)

    async def close(self) -> None:
        """Stop listening, cut off the clients, and remove the socket if it is still ours. Safe to call twice."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        clients = list(self._clients)
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        with contextlib.suppress(FileNotFoundError):
            found = self._path.stat()
            if (found.st_dev, found.st_ino) == self._identity:
                self._path.unlink()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        writer.transport.set_write_buffer_limits(high=0)  # drain() then means: the kernel has it all
        try:
            if len(self._clients) >= self._max_clients:
                await self._write(writer, _failure("the daemon is serving too many clients; try again", kind="failed"))
                return
            self._clients.add(task)
            await self._serve(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # The client left, idled, does not read, or we are closing: nobody is there to be told.
            pass
        finally:
            self._clients.discard(task)
            writer.transport.abort()  # Not close(): it would wait for a client that does not read.

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                async with asyncio.timeout(self._idle_deadline_s):
                    line = await reader.readuntil(b"\n")
            except asyncio.LimitOverrunError:
                await self._write(writer, _failure(f"a request has at most {MAX_REQUEST_BYTES} bytes"))
                return
            await self._write(writer, await self._answer(line))

    async def _answer(self, line: bytes) -> bytes:
        """Answer one request in its turn, then rest as long as it took: at most half of the loop's time goes to clients."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            began = loop.time()
            response = answer(line, self._handler)
            await asyncio.sleep(loop.time() - began)
        return response

    async def _write(self, writer: asyncio.StreamWriter, response: bytes) -> None:
        async with asyncio.timeout(self._write_deadline_s):
            writer.write(response)
            await writer.drain()


def answer(line: bytes, handler: Handler) -> bytes:
    """The response line to a request line. Never raises: whatever goes wrong is said in the response."""
    try:
        request = msgspec.json.decode(line, type=_Request)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _failure(f"not a request of version {VERSION}: {error}")
    try:
        response = _encode({"ok": True, "result": handler(request.command, request.arguments)})
    except UsageError as error:
        return _failure(str(error), remedy=error.remedy)
    except P2PRecError as error:
        return _failure(str(error), kind="failed")
    except Exception:
        logger.exception("control: %s failed", request.command[:64])
        return _failure(f"the daemon failed at {request.command[:64]!r}; its log says why", kind="failed")
    if len(response) > MAX_RESPONSE_BYTES:
        return _failure("the answer is too long to send; ask for less")
    return response


def _failure(error: str, *, remedy: str = "", kind: Literal["usage", "failed"] = "usage") -> bytes:
    return _encode({"ok": False, "kind": kind, "error": error, "remedy": remedy})


def _encode(response: dict[str, Any]) -> bytes:
    """One line of JSON. Infinity and NaN, which JSON does not have, become null."""
    return msgspec.json.encode(response) + b"\n"


def _remove_stale_socket(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StateError(f"{path} is in the way: it is not a socket", remedy=f"move it elsewhere: mv {path} {path}.old")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError:  # Its backlog is full, or we may not open it: somebody is there.
            pass
    raise StateError(f"another daemon listens on {path}", remedy="stop it first, or use another --state directory")


def _bind_private(path: Path) -> socket.socket:
    """A listening socket with mode 0600 from the moment that it exists: the umask covers the gap before any chmod."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    previous = os.umask(0o177)
    try:
        listener.bind(str(path))
        listener.listen(MAX_CLIENTS)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise StateError(f"cannot listen on {path}: {error}") from error
    finally:
        os.umask(previous)
    return listener
