"""A small HTTP server for pages about one daemon: GET and HEAD, one request a connection, everything bounded.

The standard library's and the Prometheus client's servers answer from threads, which would read the daemon's state while it
changes, and wait for slow clients without end. This one lives on the daemon's event loop.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from p2prec.errors import TransportFailure

MAX_CLIENTS = 8
"""Connections served at once; one more is closed."""
MAX_REQUEST_BYTES = 8192
"""Request line and headers."""
DEADLINE_S = 5.0
"""For a client to send its request, and again to read its answer."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Page:
    """What a path answers."""

    content_type: str
    body: bytes
    status: HTTPStatus = HTTPStatus.OK


Handler = Callable[[str], Page]
"""Makes a page, given the request's Accept header. Runs on the event loop, so it must take milliseconds."""


class HttpServer:
    """Serves `pages` by path. Start and close it once."""

    def __init__(
        self, pages: Mapping[str, Handler], *, max_clients: int = MAX_CLIENTS, deadline_s: float = DEADLINE_S
    ) -> None:
        self._pages = pages
        self._max_clients = max_clients
        self._deadline_s = deadline_s
        self._server: asyncio.Server | None = None
        self._local_only = True
        self._clients: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()

    async def start(self, host: str, port: int) -> None:
        """Listen; port 0 picks a free one. Raises TransportFailure when the address cannot be bound."""
        try:
            self._server = await asyncio.start_server(self._accept, host, port, limit=MAX_REQUEST_BYTES)
        except OSError as error:
            number = error.errno or 0
            reason = os.strerror(number) if number > 0 else str(error)  # asyncio's own words repeat the address
            raise TransportFailure(f"cannot serve HTTP on {host}:{port}: {reason}") from error
        self._local_only = all(ipaddress.ip_address(name).is_loopback for name, *_ in self._names())

    @property
    def address(self) -> str:
        """HOST:PORT as it is bound; empty while not listening."""
        for host, port, *_ in self._names():
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return ""

    async def close(self) -> None:
        """Stop listening and cut off the clients. Safe to call twice."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        clients = list(self._clients)
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    @property
    def n_clients(self) -> int:
        """Connections being served."""
        return len(self._clients)

    def _names(self) -> list[tuple[str, int]]:
        return [listener.getsockname() for listener in self._server.sockets] if self._server is not None else []

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        writer.transport.set_write_buffer_limits(high=0)  # drain() then means: the kernel has it all
        try:
            if len(self._clients) >= self._max_clients:
                return
            self._clients.add(task)
            await self._serve(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client left, idled, does not read, or we are closing: nobody is there to be told
        finally:
            self._clients.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(self._deadline_s):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            page = _problem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"at most {MAX_REQUEST_BYTES} bytes")
            await self._write(writer, page, with_body=True)
            return
        await self._write(writer, await self._answer(head), with_body=not head.startswith(b"HEAD "))

    async def _answer(self, head: bytes) -> Page:
        """Answer in turn, then rest as long as it took: at most half of the loop's time goes to clients."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            began = loop.time()
            page = self._page(head)
            await asyncio.sleep(loop.time() - began)
        return page

    def _page(self, head: bytes) -> Page:
        """The page that a request's head asks for. Never raises: whatever goes wrong is a page too."""
        request_line, *lines = head.decode("latin-1").split("\r\n")
        parts = request_line.split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            return _problem(HTTPStatus.BAD_REQUEST, "not an HTTP/1.1 request")
        method, target, _ = parts
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if self._local_only and not _names_this_machine(headers.get("host", "")):
            return _problem(HTTPStatus.MISDIRECTED_REQUEST, "this page is for this machine only")
        handler = self._pages.get(target.partition("?")[0])
        if handler is None:
            return _problem(HTTPStatus.NOT_FOUND, f"there are {', '.join(sorted(self._pages))}")
        if method not in ("GET", "HEAD"):
            return _problem(HTTPStatus.METHOD_NOT_ALLOWED, "GET and HEAD only")
        try:
            return handler(headers.get("accept", ""))
        except Exception:
            logger.exception("internal error making a page; please report it")
            return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the log says why")

    async def _write(self, writer: asyncio.StreamWriter, page: Page, *, with_body: bool) -> None:
        allow = "Allow: GET, HEAD\r\n" if page.status is HTTPStatus.METHOD_NOT_ALLOWED else ""
        head = (
            f"HTTP/1.1 {page.status.value} {page.status.phrase}\r\n"
            f"Content-Type: {page.content_type}\r\n"
            f"Content-Length: {len(page.body)}\r\n"
            f"{allow}Connection: close\r\n\r\n"
        )
        async with asyncio.timeout(self._deadline_s):
            writer.write(head.encode("latin-1") + (page.body if with_body else b""))
            await writer.drain()


def _problem(status: HTTPStatus, text: str) -> Page:
    return Page("text/plain; charset=utf-8", f"{text}\n".encode(), status)


def _names_this_machine(host: str) -> bool:
    """Whether a Host header is a literal or localhost.

    A name that somebody else controls could be pointed here: the page of a stranger's site would then read ours through the
    owner's browser (DNS rebinding).
    """
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return name.lower() == "localhost"
    return True
