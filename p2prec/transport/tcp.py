"""What the transports over TCP share: listening, dialling, and what strangers may cost (interface: `p2prec.transport.base`).

Inbound connections are strangers until their handshake is over. They are counted and capped before a byte of theirs is read;
every refusal goes to `on_refused` and a counter, never to a log of its own. How a connection is secured is each transport's
own: it implements `_connection`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

from p2prec.config import TransportKind
from p2prec.errors import RemoteMisbehaviour, TransportFailure
from p2prec.transport.base import Accept, Connection
from p2prec.transport.mismatch import TransportMismatch

_BACKLOG = 128
_ACCEPT_PAUSE_S = 1.0
"""After running out of file descriptors: trying again at once would only burn CPU."""


class InboundRefusal(StrEnum):
    """Why an inbound connection did not come about."""

    TOO_MANY = "too-many-connections"
    TOO_MANY_FROM_ADDRESS = "too-many-from-address"
    TOO_MANY_HANDSHAKES = "too-many-handshakes"
    HANDSHAKE_FAILED = "handshake-failed"
    """Not of this swarm, not a peer, of another transport, too slow, or gone."""


OnRefused = Callable[[str, InboundRefusal, str], None]
"""Called with the remote host, the reason and a detail for people."""

OnMismatch = Callable[[str, int, TransportKind], None]
"""Called with the host and the dialled port (0: they dialled us) of somebody that speaks another transport, and which."""


@dataclass(frozen=True, slots=True)
class InboundLimits:
    """What strangers may cost. Raising any of these costs memory (TLS: 25 KB) and a descriptor a connection."""

    connections: int = 128
    """Inbound connections at a time, those in their handshake included."""
    per_address: int = 16
    """Of these from one remote address. Lower stops a crowd of one machine; too low locks out peers behind one router."""
    per_own_address: int = 1024
    """The same for connections from this machine, where many peers may run on purpose."""
    pending_handshakes: int = 32
    """Connections that have not yet shown who they are."""
    handshake_deadline_s: float = 10.0
    """Lower frees places sooner from those that only connect; too low locks out slow devices."""


class TcpConnection(Connection, Protocol):
    """A connection that owns a TCP socket; of use once `handshake` has returned."""

    async def handshake(self, *, deadline_s: float) -> None:
        """Authenticate both sides. Raises TransportFailure, and closes, when that fails."""
        ...


C = TypeVar("C", bound=TcpConnection)


class TcpTransport(ABC, Generic[C]):
    """Listens and dials for one peer of one swarm. Implements `p2prec.transport.base.Transport`."""

    def __init__(
        self,
        *,
        limits: InboundLimits | None = None,
        on_refused: OnRefused | None = None,
        on_mismatch: OnMismatch | None = None,
    ) -> None:
        self._limits = limits or InboundLimits()
        self._on_refused = on_refused
        self._on_mismatch = on_mismatch
        self._refused: Counter[InboundRefusal] = Counter()
        self._listener: socket.socket | None = None
        self._connections: set[C] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._inbound: Counter[str] = Counter()
        self._pending_handshakes = 0

    @abstractmethod
    def _connection(self, sock: socket.socket, host: str, *, outbound: bool) -> C:
        """A connection over a connected, non-blocking socket, which it owns from here on. It leaves `_connections` when it
        closes."""

    @property
    def listen_port(self) -> int:
        """The bound port; 0 while not listening."""
        return 0 if self._listener is None else int(self._listener.getsockname()[1])

    @property
    def refused(self) -> dict[InboundRefusal, int]:
        """How many inbound connections were refused, by reason."""
        return dict(self._refused)

    async def listen(self, host: str, port: int, accept: Accept) -> None:
        """See `Transport.listen`. `::` listens on IPv4 as well. May be called once."""
        if self._listener is not None:
            raise RuntimeError("already listening")
        family, address = (await _resolve(host, port))[0]
        both = host == "::" and socket.has_dualstack_ipv6()
        try:
            self._listener = socket.create_server(address, family=family, backlog=_BACKLOG, dualstack_ipv6=both)
        except OSError as error:
            raise TransportFailure(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
        self._listener.setblocking(False)
        self._resume_accepting(accept)

    async def dial(self, host: str, port: int, *, deadline_s: float) -> C:
        """See `Transport.dial`. A name's addresses share the deadline."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + deadline_s
        try:
            async with asyncio.timeout_at(deadline):
                addresses = await _resolve(host, port)
                sock, remote_host = await _connect(addresses, deadline)
        except TimeoutError:
            raise TransportFailure(f"{host}:{port} did not answer within {deadline_s:g} s") from None
        except OSError as error:
            raise TransportFailure(f"{host}:{port}: {error.strerror or error}") from error
        connection = self._keep(sock, remote_host, outbound=True)
        try:
            await connection.handshake(deadline_s=deadline - loop.time())
        except TransportMismatch as mismatch:
            self._tell_mismatch(host, port, mismatch)
            raise
        return connection

    async def close(self) -> None:
        """See `Transport.close`. When it returns, no task or socket of this transport is left."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for connection in list(self._connections):
            await connection.close()
        tasks = self._tasks - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _resume_accepting(self, accept: Accept) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().add_reader(self._listener, self._accept_waiting, self._listener, accept)

    def _accept_waiting(self, listener: socket.socket, accept: Accept) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(_BACKLOG):
            try:
                sock, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                self._refuse("", InboundRefusal.TOO_MANY, error.strerror or str(error))
                loop.remove_reader(listener)
                loop.call_later(_ACCEPT_PAUSE_S, self._resume_accepting, accept)
                return
            self._admit(sock, _plain_host(address[0]), accept)

    def _admit(self, sock: socket.socket, host: str, accept: Accept) -> None:
        """Start the handshake, unless a cap is reached."""
        limits = self._limits
        own = _plain_host(sock.getsockname()[0]) == host  # loopback, or this machine by its own address
        per_address = limits.per_own_address if own else limits.per_address
        if self._inbound.total() >= limits.connections:
            refusal = InboundRefusal.TOO_MANY
        elif self._inbound[host] >= per_address:
            refusal = InboundRefusal.TOO_MANY_FROM_ADDRESS
        elif self._pending_handshakes >= limits.pending_handshakes:
            refusal = InboundRefusal.TOO_MANY_HANDSHAKES
        else:
            self._start_serving(sock, host, accept)
            return
        sock.close()
        self._refuse(host, refusal, "")

    def _start_serving(self, sock: socket.socket, host: str, accept: Accept) -> None:
        sock.setblocking(False)
        connection = self._keep(sock, host, outbound=False)
        task = asyncio.get_running_loop().create_task(self._serve(connection, accept))
        self._inbound[host] += 1
        self._pending_handshakes += 1
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: C, accept: Accept) -> None:
        host = connection.remote_host
        try:
            if await self._shakes_hands(connection):
                # Either ends a connection in the ordinary way; anything else is a fault of ours, and shown as one.
                with contextlib.suppress(TransportFailure, RemoteMisbehaviour):
                    await accept(connection)
        finally:
            await connection.close()
            self._inbound[host] -= 1
            if not self._inbound[host]:
                del self._inbound[host]

    async def _shakes_hands(self, connection: C) -> bool:
        try:
            await connection.handshake(deadline_s=self._limits.handshake_deadline_s)
        except TransportFailure as failure:
            if isinstance(failure, TransportMismatch):
                self._tell_mismatch(connection.remote_host, 0, failure)
            self._refuse(connection.remote_host, InboundRefusal.HANDSHAKE_FAILED, str(failure))
            return False
        finally:
            self._pending_handshakes -= 1
        return True

    def _keep(self, sock: socket.socket, host: str, *, outbound: bool) -> C:
        connection = self._connection(sock, host, outbound=outbound)
        self._connections.add(connection)
        return connection

    def _tell_mismatch(self, host: str, port: int, mismatch: TransportMismatch) -> None:
        if self._on_mismatch is not None:
            self._on_mismatch(host, port, mismatch.spoken)

    def _refuse(self, host: str, refusal: InboundRefusal, detail: str) -> None:
        self._refused[refusal] += 1
        if self._on_refused is not None:
            self._on_refused(host, refusal, detail)


_Address = tuple[socket.AddressFamily, tuple[Any, ...]]
"""A family and its socket address, the host's literal first."""


async def _resolve(host: str, port: int) -> list[_Address]:
    """The socket addresses of a literal (at once) or a name (by the system's resolver, in a thread)."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise TransportFailure(f"{host}: no such host ({error})") from error
    return [(family, address) for family, _, _, _, address in found]


async def _connect(addresses: list[_Address], deadline: float) -> tuple[socket.socket, str]:
    """A socket to the first address that answers, and that address; each gets its share of the time that is left.

    Raises the last one's OSError.
    """
    loop = asyncio.get_running_loop()
    failure: OSError = OSError("no address")
    for index, (family, address) in enumerate(addresses):
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        connected = False
        share_s = (deadline - loop.time()) / (len(addresses) - index)
        try:
            async with asyncio.timeout(share_s):
                await loop.sock_connect(sock, address)
            connected = True
            return sock, _plain_host(address[0])
        except OSError as error:
            failure = error
        finally:
            if not connected:
                sock.close()
    raise failure


def _plain_host(host: str) -> str:
    """The literal of an address, IPv4 as such even where a dual-stack socket shows it as IPv6."""
    literal = ipaddress.ip_address(host)
    if isinstance(literal, ipaddress.IPv6Address) and literal.ipv4_mapped is not None:
        return str(literal.ipv4_mapped)
    return host


def configure(sock: socket.socket) -> None:
    """Frames leave at once; a connection whose other end vanished without a word is noticed in two minutes."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, option):  # macOS spells the first one differently and has the others
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
