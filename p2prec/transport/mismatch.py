"""The other end speaks another transport: told by its first bytes, and said plainly, instead of "handshake failed"."""

from __future__ import annotations

from p2prec.config import TransportKind
from p2prec.errors import TransportFailure

FIRST_WORDS = b"\x13/multistream/1.0.0\n"
"""With these both sides of a libp2p connection begin (multistream-select 1.0)."""
NO_TLS_HERE = bytes.fromhex("15 0303 0002 02 46")
"""A TLS record with the fatal alert `protocol_version` (RFC 8446, 6): by it a side that waits for TLS's turn is told as well."""
_TLS_RECORD_TYPES = (0x14, 0x15, 0x16)
_TLS_MAJOR_VERSION = 0x03


class TransportMismatch(TransportFailure):
    """The other side is no stranger to networks, only to this transport. Retrying helps when one of the two is restarted."""

    def __init__(self, own: TransportKind, spoken: TransportKind) -> None:
        super().__init__(
            f"the other side speaks {spoken}, this peer {own}; they cannot meet (p2prec start --transport)"
        )
        self.spoken = spoken
        """What the other side speaks."""


def spoken_by(first_bytes: bytes) -> TransportKind | None:
    """What a side speaks that begins so; None when that cannot be told."""
    if first_bytes.startswith(FIRST_WORDS):
        return TransportKind.LIBP2P
    if len(first_bytes) > 1 and first_bytes[0] in _TLS_RECORD_TYPES and first_bytes[1] == _TLS_MAJOR_VERSION:
        return TransportKind.TLS
    return None
