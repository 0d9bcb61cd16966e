"""The envelopes of relayed messages to bytes and back (protocols/privacy-v8.md, "Relayed messages"), every field checked.

The same message comes from one neighbour after the other, and goes to several: what was checked once is remembered, so that it
takes one comparison to know it again, and nothing is packed twice.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from typing import Any, Final

import msgpack
from msgspec import Struct

from p2prec.errors import RemoteMisbehaviour
from p2prec.identity import PUBLIC_KEY_BYTES, SIGNATURE_BYTES
from p2prec.peer.messages import Refusal
from p2prec.peer.post import FRAME_RELAYS
from p2prec.peer.sum_messages import MAX_HOPS, Relayed, Relays, SumMessage
from p2prec.privacy.plan import PAIRS
from p2prec.wire.fields import exactly, malformed, uint, unpack_array
from p2prec.wire.limits import TOKEN_BYTES
from p2prec.wire.peer_keys import key_of, peer_of_key
from p2prec.wire.roll_codec import RollCodec

_HEAD: Final = struct.Struct(f"{SIGNATURE_BYTES}sBB{TOKEN_BYTES}s{PUBLIC_KEY_BYTES}s")
"""Of a relayed message, after the byte of its hops: signature, sum, kind, token and origin. The receiver follows, if it is for
one peer, and the body."""
_REMEMBERED, _REMEMBERED_BYTES = 4096, 512
"""Relayed messages that need not be checked again, of so many bytes at most: together about five megabytes."""


class Known(Struct):
    """A relayed message that was checked."""

    relayed: Relayed
    packed: bytes
    """As it travels, but the hops."""
    message: SumMessage | None = None
    """What is inside, once somebody has looked."""
    is_verified: bool = False
    """Whether the signature was found to be the origin's."""


class RelayCodec:
    """Holds a bounded memory of what was checked before, and nothing else."""

    def __init__(self, max_body_bytes: int, flooded: Collection[int], routed: Collection[int]) -> None:
        """max_body_bytes: of the largest message inside. flooded, routed: the kinds of those for everybody and for one peer."""
        self._max_body_bytes, self._flooded, self._routed = max_body_bytes, frozenset(flooded), frozenset(routed)
        self._remembered: dict[bytes, Known] = {}
        """By signature."""
        self._roll = RollCodec()

    def encode(self, relays: Relays) -> bytes:
        """The payload of messages that are passed on, and of entries of the roll."""
        roll = [self._roll.pack(part) for part in relays.roll]
        payload: bytes = msgpack.packb([relays.is_eager, roll, [self._packed(relayed) for relayed in relays.relays]])
        return payload

    def decode(self, payload: bytes) -> Relays:
        """Their envelopes, checked; what is inside is opened when it is new (`p2prec.wire.seal`). Raises RemoteMisbehaviour."""
        is_eager, roll, relays = exactly(unpack_array(payload, max_items=FRAME_RELAYS), 3)
        if not isinstance(is_eager, bool):
            raise malformed("whether the sender is eager is no boolean")
        if not isinstance(roll, tuple) or not isinstance(relays, tuple):
            raise malformed("no array of relayed messages, or of parts of the roll")
        return Relays(tuple(map(self._relayed, relays)), tuple(map(self._roll.read, roll)), is_eager)

    def known(self, relayed: Relayed) -> Known | None:
        """What is remembered of a message, whatever its hops."""
        known = self._remembered.get(relayed.signature)
        if known is None:
            return None
        first = known.relayed
        return known if first is relayed or first.with_hops(relayed.hops) == relayed else None

    def _packed(self, relayed: Relayed) -> bytes:
        known = self.known(relayed)
        return bytes((relayed.hops,)) + (_pack(relayed) if known is None else known.packed)

    def _relayed(self, data: Any) -> Relayed:
        if not isinstance(data, bytes) or len(data) < 1 + _HEAD.size:
            raise malformed("a relayed message is not binary, or too short")
        hops, packed = data[0], data[1:]
        if hops > MAX_HOPS:
            raise malformed(f"hops are not within 0 to {MAX_HOPS}")
        known = self._remembered.get(packed[:SIGNATURE_BYTES])
        if known is not None and known.packed == packed:
            relayed = known.relayed
            return relayed if relayed.hops == hops else relayed.with_hops(hops)
        relayed = self._checked(hops, packed)
        if len(packed) <= _REMEMBERED_BYTES:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[relayed.signature] = Known(relayed, packed)
        return relayed

    def _checked(self, hops: int, packed: bytes) -> Relayed:
        signature, number, kind, token, origin = _HEAD.unpack_from(packed)
        uint(number, "sum", 1, PAIRS)
        to, body = None, packed[_HEAD.size :]
        if kind in self._routed:
            if len(body) < PUBLIC_KEY_BYTES:
                raise malformed("a relayed message for one peer without a receiver")
            to, body = peer_of_key(body[:PUBLIC_KEY_BYTES]), body[PUBLIC_KEY_BYTES:]
        elif kind not in self._flooded:
            raise malformed(f"what is of kind {kind} is not passed on")
        if len(body) > self._max_body_bytes:
            raise RemoteMisbehaviour(Refusal.OVERSIZED, f"a relayed body of {len(body)} bytes")
        return Relayed(peer_of_key(origin), to, number, token, hops, kind, body, signature)


def _pack(relayed: Relayed) -> bytes:
    """A relayed message as it travels, but the hops."""
    head = _HEAD.pack(relayed.signature, relayed.number, relayed.kind, relayed.token, key_of(relayed.origin))
    return head + (b"" if relayed.to is None else key_of(relayed.to)) + relayed.body
