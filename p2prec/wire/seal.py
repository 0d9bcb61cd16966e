"""Signatures of messages that pass through other peers (protocols/privacy-v2.md, "Relayed messages")."""

from __future__ import annotations

import hashlib

from p2prec.errors import RemoteMisbehaviour
from p2prec.identity import Identity
from p2prec.peer.messages import Refusal
from p2prec.peer.sum_messages import Relayed, SumMessage
from p2prec.types import PeerId, SwarmId
from p2prec.wire.signatures import Signatures
from p2prec.wire.sum_codec import SumCodec, key_of

RELAY_DOMAIN = b"p2prec/3 relayed"


class Seal:
    """One peer's (implements `p2prec.peer.post.Sealer`)."""

    def __init__(
        self, identity: Identity, swarm_id: SwarmId, codec: SumCodec, signatures: Signatures | None = None
    ) -> None:
        self._identity, self._swarm_id, self._codec = identity, swarm_id, codec
        self._signatures = signatures or Signatures()

    def seal(self, to: PeerId | None, number: int, token: bytes, hops: int, message: SumMessage) -> Relayed:
        kind, body = self._codec.encode_body(message)
        unsigned = Relayed(self._identity.peer_id, to, number, token, hops, kind, body, b"")
        signature = self._identity.sign(relay_signature_input(self._swarm_id, unsigned))
        return Relayed(unsigned.origin, to, number, token, hops, kind, body, signature)

    def open(self, relayed: Relayed) -> SumMessage:
        """The message inside. Raises RemoteMisbehaviour ("forged", "malformed")."""
        opened = self._codec.opened(relayed)
        if opened is not None:
            return opened
        signed = relay_signature_input(self._swarm_id, relayed)
        try:
            valid = self._signatures.are_valid(relayed.origin, relayed.signature, signed)
        except ValueError:  # the origin's key is no point of the curve
            valid = False
        if not valid:
            raise RemoteMisbehaviour(Refusal.FORGED, "the signature of a relayed message is not its origin's")
        message = self._codec.decode_body(relayed)
        self._codec.note_opened(relayed, message)
        return message


def relay_signature_input(swarm_id: SwarmId, relayed: Relayed) -> bytes:
    """The 154 bytes that the origin signs. Every part has a fixed length; `hops` is not among them."""
    return b"".join(
        (
            RELAY_DOMAIN,
            swarm_id,
            key_of(relayed.origin),
            bytes(32) if relayed.to is None else key_of(relayed.to),
            bytes((relayed.number,)),
            relayed.token,
            bytes((relayed.kind,)),
            hashlib.sha256(relayed.body).digest(),
        )
    )
