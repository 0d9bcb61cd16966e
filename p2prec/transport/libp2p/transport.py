"""libp2p as a transport: TCP, Noise, yamux and one stream a connection (interface: `p2prec.transport.base`).

A private swarm stays private: Noise proves only who somebody is, so each side then shows the certificate that the TLS transport
would have shown, issued to that very key by the swarm's authority (docs/decisions/0007-libp2p.md).
"""

from __future__ import annotations

import logging
import os
import socket

from cryptography.hazmat.primitives.serialization import Encoding
from libp2p.crypto.ed25519 import Ed25519PrivateKey
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import X25519PrivateKey
from libp2p.custom_types import TProtocol
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from libp2p.security.security_multistream import SecurityMultistream
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux

from p2prec.identity import Identity
from p2prec.manifest import Manifest
from p2prec.transport.certificates import authority_certificate, authority_key, peer_certificate
from p2prec.transport.libp2p.connection import Libp2pConnection
from p2prec.transport.libp2p.session import PART_DEADLINE_S, Credentials
from p2prec.transport.libp2p.thread import TrioThread
from p2prec.transport.tcp import InboundLimits, OnMismatch, OnRefused, TcpTransport

if "LIBP2P_DEBUG" not in os.environ:
    # It logs strangers' faults as warnings, and has no handler: Python would print each to stderr.
    logging.getLogger("libp2p").addHandler(logging.NullHandler())


class Libp2pTransport(TcpTransport[Libp2pConnection]):
    """Listens and dials for one peer of one swarm. Made in the loop that uses it."""

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
        self._credentials = credentials(identity, manifest, membership_secret)
        self._thread = TrioThread(f"libp2p-{identity.peer_id[-8:]}")

    def _connection(self, sock: socket.socket, host: str, *, outbound: bool) -> Libp2pConnection:
        return Libp2pConnection(
            self._thread,
            sock,
            self._credentials,
            remote_host=host,
            outbound=outbound,
            on_close=self._connections.discard,
        )

    async def close(self) -> None:
        """See `Transport.close`. When it returns, no task, socket or thread of this transport is left."""
        await super().close()
        await self._thread.close(patience_s=2 * PART_DEADLINE_S)


def credentials(identity: Identity, manifest: Manifest, membership_secret: bytes | None) -> Credentials:
    """What a peer shows and demands in this swarm. Raises UsageError as `authority_key` does."""
    key = authority_key(manifest, membership_secret)
    own_key = Ed25519PrivateKey.from_bytes(identity.private_key.private_bytes_raw())
    noise = Noise(KeyPair(own_key, own_key.get_public_key()), X25519PrivateKey.new())
    return Credentials(
        security=SecurityMultistream({NOISE: noise}),
        muxers=MuxerMultistream({TProtocol(YAMUX): Yamux}),
        certificate=peer_certificate(manifest.swarm_id, key, identity).public_bytes(Encoding.DER),
        authority=authority_certificate(manifest.swarm_id, key),
    )
