"""Signatures and authentication codes of messages that pass through other peers (protocols/privacy-v8.md, "Relayed messages")."""

from __future__ import annotations

import hashlib
import hmac

from p2prec.identity import SIGNATURE_BYTES, Identity
from p2prec.peer.sum_messages import Enrol, Enrolment, Relayed, SumMessage
from p2prec.types import PeerId, SwarmId
from p2prec.wire.peer_keys import key_of
from p2prec.wire.signatures import Signatures
from p2prec.wire.sum_codec import SumCodec

RELAY_DOMAIN, ENROLMENT_DOMAIN = b"p2prec/3 relayed", b"p2prec/3 enrolled"


class Seal:
    """One peer's (implements `p2prec.peer.post.Sealer`)."""

    def __init__(
        self, identity: Identity, swarm_id: SwarmId, codec: SumCodec, signatures: Signatures | None = None
    ) -> None:
        self._identity, self._swarm_id, self._codec = identity, swarm_id, codec
        self._signatures = signatures or Signatures()

    def seal(
        self, to: PeerId | None, number: int, token: bytes, hops: int, message: SumMessage, key: bytes | None = None
    ) -> Relayed:
        """A message of this peer's, on its way. key: 32 bytes that its receiver has as well, of a message BETWEEN_PARTNERS."""
        kind, body = self._codec.encode_body(message)
        unsigned = Relayed(self._identity.peer_id, to, number, token, hops, kind, body, b"")
        signed = relay_signature_input(self._swarm_id, unsigned)
        if key is None:
            self._signatures.made += 1
            signature = self._identity.sign(signed)
        else:
            signature = _code(key, signed)
        return Relayed(unsigned.origin, to, number, token, hops, kind, body, signature)

    def enrol(self, number: int, message: Enrol) -> Enrolment:
        """This peer's entry in the roll of a sum."""
        unsigned = Enrolment(self._identity.peer_id, message.mask_key, message.commitment, b"")
        self._signatures.made += 1
        signature = self._identity.sign(enrolment_signature_input(self._swarm_id, number, unsigned))
        return Enrolment(unsigned.origin, message.mask_key, message.commitment, signature)

    def has_enrolled(self, number: int, enrolment: Enrolment) -> bool:
        """Whether an entry in the roll of a sum is its origin's."""
        self._signatures.asked += 1
        signed = enrolment_signature_input(self._swarm_id, number, enrolment)
        return self._are_valid(enrolment.origin, enrolment.signature, signed)

    def read(self, relayed: Relayed) -> SumMessage:
        """The message inside, whoever has signed it. Raises RemoteMisbehaviour ("malformed")."""
        return self._codec.decode_body(relayed)

    def is_genuine(self, relayed: Relayed, key: bytes | None = None) -> bool:
        """Whether its signature is its origin's; with a key, whether somebody has authenticated it by that."""
        if key is not None:
            code = _code(key, relay_signature_input(self._swarm_id, relayed))
            return hmac.compare_digest(relayed.signature, code)
        self._signatures.asked += 1
        if self._codec.is_verified(relayed):
            return True
        signed = relay_signature_input(self._swarm_id, relayed)
        is_genuine = self._are_valid(relayed.origin, relayed.signature, signed)
        if is_genuine:
            self._codec.note_verified(relayed)
        return is_genuine

    def _are_valid(self, origin: PeerId, signature: bytes, signed: bytes) -> bool:
        try:
            return self._signatures.are_valid(origin, signature, signed)
        except ValueError:  # the origin's key is no point of the curve
            return False


def _code(key: bytes, signed: bytes) -> bytes:
    """BLAKE2b under a key (RFC 7693), as long as a signature."""
    return hashlib.blake2b(signed, key=key, digest_size=SIGNATURE_BYTES).digest()


def relay_signature_input(swarm_id: SwarmId, relayed: Relayed) -> bytes:
    """The 154 bytes that the origin signs or authenticates. Every part has a fixed length; `hops` is not among them."""
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


def enrolment_signature_input(swarm_id: SwarmId, number: int, enrolment: Enrolment) -> bytes:
    """The 146 bytes that the origin of an entry in the roll signs: all but the distance. Every part has a fixed length."""
    origin, number_byte = key_of(enrolment.origin), bytes((number,))
    return b"".join((ENROLMENT_DOMAIN, swarm_id, origin, number_byte, enrolment.mask_key, enrolment.commitment))
