"""The envelopes of relayed messages to msgpack and back (protocols/privacy-v7.md, "Relayed messages"), every field checked.

The same message comes from one neighbour after the other, and goes to several: what was checked or packed once is remembered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgpack

from p2prec.errors import RemoteMisbehaviour
from p2prec.identity import SIGNATURE_BYTES
from p2prec.peer.messages import Refusal
from p2prec.peer.post import FRAME_RELAYS
from p2prec.peer.sum_messages import MAX_HOPS, Relayed, Relays, SumMessage
from p2prec.privacy.plan import PAIRS
from p2prec.wire.fields import binary, exactly, malformed, uint, unpack_array
from p2prec.wire.limits import TOKEN_BYTES
from p2prec.wire.peer_keys import key_of, peer_of
from p2prec.wire.roll_codec import pack_roll, read_roll
from p2prec.wire.sum_kinds import kind_of

_HEAD: dict[bool, bytes] = {
    is_eager: msgpack.Packer().pack_array_header(3) + msgpack.packb(is_eager) for is_eager in (False, True)
}
"""Of a payload: how many elements it has, and the first."""
_HOPS = 4
"""Which element of a relayed message says how far it may go: all others stay as they are on its way."""
_REMEMBERED, _REMEMBERED_BYTES = 4096, 256
"""Relayed messages that need not be checked again, with so large a body at most: together about five megabytes."""


@dataclass(slots=True)
class Known:
    """A relayed message that was checked."""

    entry: tuple[Any, ...]
    """As it came."""
    relayed: Relayed
    packed: bytes = b""
    """As it goes on, if it has, with so many hops left."""
    packed_hops: int = -1
    message: SumMessage | None = None
    """What is inside, once somebody has looked."""
    is_verified: bool = False
    """Whether the signature was found to be the origin's."""


class RelayCodec:
    """Holds a bounded memory of what was checked before, and nothing else."""

    def __init__(self, max_body_bytes: int) -> None:
        """max_body_bytes: of the largest message inside."""
        self._max_body_bytes = max_body_bytes
        self._remembered: dict[bytes, Known] = {}
        """By signature."""

    def encode(self, relays: Relays) -> bytes:
        """The payload of messages that are passed on, and of entries of the roll."""
        packer = msgpack.Packer(use_bin_type=True)
        roll: bytes = packer.pack([pack_roll(part) for part in relays.roll])
        header: bytes = packer.pack_array_header(len(relays.relays))
        return b"".join((_HEAD[relays.is_eager], roll, header, *(self._packed(relayed) for relayed in relays.relays)))

    def decode(self, payload: bytes) -> Relays:
        """Their envelopes, checked; what is inside is opened when it is new (`p2prec.wire.seal`). Raises RemoteMisbehaviour."""
        is_eager, roll, relays = exactly(unpack_array(payload, max_items=FRAME_RELAYS), 3)
        if not isinstance(is_eager, bool):
            raise malformed("whether the sender is eager is no boolean")
        if not isinstance(roll, tuple) or not isinstance(relays, tuple):
            raise malformed("no array of relayed messages, or of parts of the roll")
        return Relays(
            tuple(self._relayed(entry) for entry in relays), tuple(read_roll(part) for part in roll), is_eager
        )

    def known(self, relayed: Relayed) -> Known | None:
        """What is remembered of a message, whatever its hops."""
        known = self._remembered.get(relayed.signature)
        if known is None:
            return None
        first = known.relayed
        return known if first is relayed or first.with_hops(relayed.hops) == relayed else None

    def _packed(self, relayed: Relayed) -> bytes:
        known = self.known(relayed)
        if known is None:
            return _pack_relayed(relayed)
        if known.packed_hops != relayed.hops:
            known.packed, known.packed_hops = _pack_relayed(relayed), relayed.hops
        return known.packed

    def _relayed(self, entry: Any) -> Relayed:
        if not isinstance(entry, tuple):
            raise malformed("a relayed message is not an array")
        origin, to, number, token, hops, kind, body, signature = exactly(entry, 8)
        if not isinstance(body, bytes):
            raise malformed("a body is not binary")
        if not isinstance(signature, bytes):
            raise malformed("a signature is not binary")
        known = self._remembered.get(signature)
        # True equals 1, and is none.
        if known is not None and type(number) is type(hops) is type(kind) is int:
            if known.entry == entry:
                return known.relayed
            if known.entry[:_HOPS] == entry[:_HOPS] and known.entry[_HOPS + 1 :] == entry[_HOPS + 1 :]:
                return known.relayed.with_hops(uint(hops, "hops", 0, MAX_HOPS))
        relayed = self._checked(origin, to, number, token, hops, kind, body, signature)
        if len(body) <= _REMEMBERED_BYTES:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[signature] = Known(entry, relayed)
        return relayed

    def _checked(
        self, origin: Any, to: Any, number: Any, token: Any, hops: Any, kind: Any, body: bytes, signature: Any
    ) -> Relayed:
        if len(body) > self._max_body_bytes:
            raise RemoteMisbehaviour(Refusal.OVERSIZED, f"a relayed body of {len(body)} bytes")
        return Relayed(
            peer_of(origin),
            None if to == b"" else peer_of(to),
            uint(number, "sum", 1, PAIRS),
            binary(token, "token", TOKEN_BYTES),
            uint(hops, "hops", 0, MAX_HOPS),
            int(kind_of(kind)),
            body,
            binary(signature, "signature", SIGNATURE_BYTES),
        )


def _pack_relayed(relayed: Relayed) -> bytes:
    to = b"" if relayed.to is None else key_of(relayed.to)
    fields = [key_of(relayed.origin), to, relayed.number, relayed.token, relayed.hops, relayed.kind, relayed.body]
    packed: bytes = msgpack.packb([*fields, relayed.signature], use_bin_type=True)
    return packed
