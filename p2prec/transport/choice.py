"""The transport that the device's settings ask for."""

from __future__ import annotations

from p2prec.config import TransportKind
from p2prec.errors import UsageError
from p2prec.identity import Identity
from p2prec.manifest import Manifest
from p2prec.transport.base import Transport
from p2prec.transport.tcp import OnMismatch, OnRefused


def make_transport(
    kind: TransportKind,
    identity: Identity,
    manifest: Manifest,
    membership_secret: bytes | None,
    *,
    on_refused: OnRefused | None = None,
    on_mismatch: OnMismatch | None = None,
) -> Transport:
    """Raises UsageError when the membership secret does not fit the manifest, or libp2p is not installed."""
    if kind is TransportKind.TLS:
        from p2prec.transport.tls import TlsTransport

        return TlsTransport(identity, manifest, membership_secret, on_refused=on_refused, on_mismatch=on_mismatch)
    try:
        from p2prec.transport.libp2p.transport import Libp2pTransport
    except ImportError as error:
        raise UsageError(
            f"the libp2p transport cannot be loaded: {error}",
            remedy="pip install 'p2prec[libp2p]' (docs/transports.md)",
        ) from error
    return Libp2pTransport(identity, manifest, membership_secret, on_refused=on_refused, on_mismatch=on_mismatch)
