"""The envelope of every message, and what its signature covers (protocols/wire-v3.md, "Envelope" and "Signature")."""

from __future__ import annotations

import hashlib

import msgpack
from msgspec import Struct

from p2prec.errors import RemoteMisbehaviour
from p2prec.identity import SIGNATURE_BYTES
from p2prec.peer.messages import Refusal
from p2prec.wire.codec import MessageType
from p2prec.wire.fields import malformed, unpack_array
from p2prec.wire.limits import MAX_FRAME_BYTES, PROTOCOL_VERSION

SIGNATURE_DOMAIN = b"p2prec/3 message"
SESSION_DOMAIN = b"p2prec/3 session"
NO_SESSION = bytes(32)
"""Stands for the session id in the signature of HELLO, which is sent before both nonces are known."""

NO_SIGNATURE = bytes(SIGNATURE_BYTES)
"""In the envelope of RELAYS: everything in it is signed by those who said it, and the transport has proven who passes it on."""

_TYPES = {int(one): one for one in MessageType}
_N_FIELDS = 5
_MAX_FIELDS = 64
"""Of an envelope of whatever version: more than ours has, so that a later version is recognised as one."""
_MAX_SEQUENCE = (1 << 64) - 1


class Envelope(Struct, frozen=True):
    """A frame, taken apart but not yet believed."""

    kind: MessageType
    sequence: int
    payload: bytes
    signature: bytes
    """64 bytes; of RELAYS NO_SIGNATURE."""


def pack(envelope: Envelope) -> bytes:
    """The frame body."""
    fields = [PROTOCOL_VERSION, int(envelope.kind), envelope.sequence, envelope.payload, envelope.signature]
    frame: bytes = msgpack.packb(fields, use_bin_type=True)
    return frame


def unpack(frame: bytes) -> Envelope:
    """Take a frame apart. Raises RemoteMisbehaviour ("oversized" or "malformed"); no signature is checked here."""
    if len(frame) > MAX_FRAME_BYTES:
        raise RemoteMisbehaviour(Refusal.OVERSIZED, f"a frame of {len(frame)} bytes", fatal=True)
    fields = unpack_array(frame, max_items=_MAX_FIELDS)
    version = fields[0] if fields else None
    if type(version) is not int or version != PROTOCOL_VERSION:
        detail = f"the sender speaks version {version!r:.20}, this peer version {PROTOCOL_VERSION}"
        raise RemoteMisbehaviour(Refusal.MALFORMED, detail, fatal=True)
    if len(fields) != _N_FIELDS:
        raise malformed(f"an envelope of {len(fields)} fields instead of {_N_FIELDS}")
    kind, sequence, payload, signature = fields[1:]
    if type(sequence) is not int or not 0 <= sequence <= _MAX_SEQUENCE:  # a bool is an int to isinstance
        raise malformed("the sequence number is not an unsigned integer")
    if not isinstance(payload, bytes) or not isinstance(signature, bytes) or len(signature) != SIGNATURE_BYTES:
        raise malformed("no payload or no signature")
    known = _message_type(kind)
    if known is MessageType.RELAYS and signature != NO_SIGNATURE:
        raise malformed("RELAYS has a signature of its own")
    return Envelope(known, sequence, payload, signature)


def session_id(one_nonce: bytes, other_nonce: bytes) -> bytes:
    """32 bytes that both sides of a connection compute from their HELLOs' nonces, in whichever order they have them."""
    first, second = sorted((one_nonce, other_nonce))
    return hashlib.sha256(SESSION_DOMAIN + first + second).digest()


def signature_input(
    *, swarm_id: bytes, sender: bytes, receiver: bytes, session: bytes, kind: MessageType, sequence: int, payload: bytes
) -> bytes:
    """The 185 bytes that are signed. Every part has a fixed length, so no two messages share them.

    sender, receiver: 32-byte public keys. session: `session_id`, or NO_SESSION for HELLO.
    """
    return b"".join(
        (
            SIGNATURE_DOMAIN,
            swarm_id,
            sender,
            receiver,
            session,
            bytes((kind,)),
            sequence.to_bytes(8, "big"),
            hashlib.sha256(payload).digest(),
        )
    )


def _message_type(kind: object) -> MessageType:
    known = _TYPES.get(kind) if type(kind) is int else None  # a bool equals an int
    if known is None:
        raise malformed("unknown message type")
    return known
