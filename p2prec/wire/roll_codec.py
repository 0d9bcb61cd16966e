"""Entries of a sum's roll to bytes and back (protocols/privacy-v7.md, "The roll"): rows of a fixed size, so that many are read at
the cost of a few messages.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from p2prec.identity import PUBLIC_KEY_BYTES, SIGNATURE_BYTES
from p2prec.peer.roll import PART_ENTRIES
from p2prec.peer.sum_messages import MAX_DISTANCE, Contributed, Enrolled, RollPart
from p2prec.peer.sum_roster import WORD_BYTES
from p2prec.privacy.masks import PUBLIC_KEY_BYTES as MASK_KEY_BYTES
from p2prec.privacy.plan import PAIRS
from p2prec.wire.fields import exactly, malformed, uint
from p2prec.wire.peer_keys import key_of, peer_of_key

_ENROLLED: Final = struct.Struct(f"{PUBLIC_KEY_BYTES}s{MASK_KEY_BYTES}s{WORD_BYTES}s{SIGNATURE_BYTES}sB")
_CONTRIBUTED: Final = struct.Struct(f"{PUBLIC_KEY_BYTES}s{WORD_BYTES}s")


def pack_roll(part: RollPart) -> tuple[int, bytes, bytes]:
    """The elements of a part of the roll."""
    enrolled = b"".join(
        _ENROLLED.pack(key_of(one.origin), one.mask_key, one.commitment, one.signature, one.distance)
        for one in part.enrolled
    )
    contributed = b"".join(_CONTRIBUTED.pack(key_of(origin), word) for origin, word in part.contributed)
    return part.number, enrolled, contributed


def read_roll(fields: Any) -> RollPart:
    """A part of the roll, from outside. Raises RemoteMisbehaviour ("malformed")."""
    if not isinstance(fields, tuple):
        raise malformed("a part of the roll is not an array")
    number, enrolled, contributed = exactly(fields, 3)
    part = RollPart(
        uint(number, "sum", 1, PAIRS),
        tuple(
            Enrolled(peer_of_key(key), mask_key, commitment, signature, distance)
            for key, mask_key, commitment, signature, distance in _rows(enrolled, "enrolled", _ENROLLED)
        ),
        tuple(Contributed(peer_of_key(key), word) for key, word in _rows(contributed, "contributed", _CONTRIBUTED)),
    )
    if any(one.distance > MAX_DISTANCE for one in part.enrolled):
        raise malformed("somebody has enrolled from too far away")
    return part


def _rows(data: Any, name: str, row: struct.Struct) -> Any:
    if not isinstance(data, bytes) or len(data) % row.size or len(data) > PART_ENTRIES * row.size:
        raise malformed(f"{name} is not binary of at most {PART_ENTRIES} times {row.size} bytes")
    return row.iter_unpack(data)
