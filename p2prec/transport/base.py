"""The transport interface: authenticated, ordered, framed byte connections between peers of one swarm.

A transport knows nothing of messages: it carries frames (already signed and encoded by `p2prec.wire`) and tells who is at the
other end. One contract suite (tests/contract/test_transport.py) runs on every implementation.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from p2prec.types import PeerId
from p2prec.wire.limits import MAX_FRAME_BYTES

__all__ = ["MAX_FRAME_BYTES", "Accept", "Connection", "Transport"]


class Connection(Protocol):
    """One live connection. Closed by either side; every wait has a deadline."""

    @property
    def remote_id(self) -> PeerId:
        """Who is at the other end, proven by the transport's handshake."""
        ...

    @property
    def remote_host(self) -> str:
        """The other end's IP address literal (or its name in a simulated network)."""
        ...

    @property
    def outbound(self) -> bool:
        """True when this side dialled."""
        ...

    @property
    def bytes_in(self) -> int: ...

    @property
    def bytes_out(self) -> int: ...

    async def send(self, frame: bytes, *, deadline_s: float) -> None:
        """Send one frame of at most MAX_FRAME_BYTES. Raises TransportFailure on a broken connection, of which what
        had arrived before may still be received, or a missed deadline (the connection is closed then: a half-sent frame cannot be
        mended)."""
        ...

    async def receive(self, *, deadline_s: float) -> bytes:
        """The next whole frame. Raises TransportFailure at the end of the stream or a missed deadline, RemoteMisbehaviour
        ("oversized", fatal) when the length prefix exceeds MAX_FRAME_BYTES."""
        ...

    async def close(self) -> None:
        """Close, without waiting for the other side. Idempotent."""
        ...


Accept = Callable[[Connection], Awaitable[None]]
"""Called for each inbound connection, in a task of its own; the connection is closed when it returns."""


class Transport(Protocol):
    """Listens and dials on behalf of one peer."""

    @property
    def listen_port(self) -> int:
        """The bound port; 0 before `listen`."""
        ...

    async def listen(self, host: str, port: int, accept: Accept) -> None:
        """Bind (port 0: any free one) and accept in the background. Raises TransportFailure when the address is taken."""
        ...

    async def dial(self, host: str, port: int, *, deadline_s: float) -> Connection:
        """Connect and authenticate. Raises TransportFailure. A server that refuses this peer's certificate shows only at the
        first receive (TLS 1.3), so nothing counts as connected before HELLO."""
        ...

    async def close(self) -> None:
        """Stop listening and close every connection."""
        ...
