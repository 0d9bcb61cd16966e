"""TCP with mutual TLS 1.3: the default transport (interface: `p2prec.transport.base`)."""

from __future__ import annotations

import socket

from p2prec.identity import Identity
from p2prec.manifest import Manifest
from p2prec.transport.certificates import tls_contexts
from p2prec.transport.tcp import InboundLimits, OnMismatch, OnRefused, TcpTransport
from p2prec.transport.tls_connection import TlsConnection


class TlsTransport(TcpTransport[TlsConnection]):
    """Listens and dials for one peer of one swarm. Implements `p2prec.transport.base.Transport`."""

    def __init__(
        self,
        identity: Identity,
        manifest: Manifest,
        membership_secret: bytes | None = None,
        *,
        limits: InboundLimits | None = None,
        on_refused: OnRefused | None = None,
        on_mismatch: OnMismatch | None = None,
    ) -> None:
        """
        membership_secret: the 32-byte seed of a private swarm's membership key; None for an open swarm.
        Raises UsageError when it does not fit the manifest.
        """
        super().__init__(limits=limits, on_refused=on_refused, on_mismatch=on_mismatch)
        self._client_context, self._server_context = tls_contexts(manifest, membership_secret, identity)

    def _connection(self, sock: socket.socket, host: str, *, outbound: bool) -> TlsConnection:
        context = self._client_context if outbound else self._server_context
        return TlsConnection(sock, context, remote_host=host, outbound=outbound, on_close=self._connections.discard)
