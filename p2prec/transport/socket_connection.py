"""What connections share however they are secured: a socket, a proven other end, one sender and one receiver at a time."""

from __future__ import annotations

import asyncio
import socket

from p2prec.errors import TransportFailure
from p2prec.types import PeerId


class SocketConnection:
    """The part of `p2prec.transport.base.Connection` that TLS and libp2p share."""

    def __init__(self, sock: socket.socket, *, remote_host: str, outbound: bool) -> None:
        """sock: connected and non-blocking; owned by this object from here on."""
        self._socket = sock
        self._sending, self._receiving = asyncio.Lock(), asyncio.Lock()
        self._closed = False
        self._remote_id: PeerId | None = None
        """Proven by the handshake; None before."""
        self._remote_host, self._outbound = remote_host, outbound

    @property
    def remote_id(self) -> PeerId:
        """The peer id whose key the other side has proven to own."""
        if self._remote_id is None:
            raise TransportFailure("the handshake is not over")
        return self._remote_id

    @property
    def remote_host(self) -> str:
        return self._remote_host

    @property
    def outbound(self) -> bool:
        return self._outbound

    def _check_open(self) -> None:
        if self._closed:
            raise TransportFailure("the connection is closed")
