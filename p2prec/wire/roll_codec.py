"""Entries of a sum's roll to bytes and back (protocols/privacy-v8.md, "The roll"): rows of a fixed size, so that many are read at
the cost of a few messages.

A row comes from one neighbour after the other, and goes to several: those of who has enrolled are remembered.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from p2prec.identity import PUBLIC_KEY_BYTES, SIGNATURE_BYTES
from p2prec.peer.roll import PART_ENTRIES
from p2prec.peer.sum_messages import MAX_DISTANCE, Contributed, Enrolled, Enrolment, RollPart
from p2prec.peer.sum_roster import WORD_BYTES
from p2prec.privacy.masks import PUBLIC_KEY_BYTES as MASK_KEY_BYTES
from p2prec.privacy.plan import PAIRS
from p2prec.wire.fields import exactly, malformed, uint
from p2prec.wire.peer_keys import key_of, peer_of_key

_ENROLMENT: Final = struct.Struct(f"{PUBLIC_KEY_BYTES}s{MASK_KEY_BYTES}s{WORD_BYTES}s{SIGNATURE_BYTES}s")
_DISTANCES: Final = tuple(bytes((distance,)) for distance in range(MAX_DISTANCE + 1))
"""What follows an enrolment."""
_ENROLLED_BYTES: Final = _ENROLMENT.size + 1
_CONTRIBUTED: Final = struct.Struct(f"{PUBLIC_KEY_BYTES}s{WORD_BYTES}s")
_REMEMBERED = 1 << 14
"""Enrolments that need not be taken apart again: twelve megabytes in a swarm that has as many."""


class RollCodec:
    """Holds a bounded memory of enrolments, and nothing else."""

    def __init__(self) -> None:
        self._by_row: dict[bytes, Enrolment] = {}
        self._rows: dict[bytes, bytes] = {}
        """By signature."""

    def pack(self, part: RollPart) -> tuple[int, bytes, bytes, bool]:
        """The elements of a part of the roll."""
        enrolled = b"".join([self._row(one.enrolment) + _DISTANCES[one.distance] for one in part.enrolled])
        contributed = b"".join([_CONTRIBUTED.pack(key_of(origin), word) for origin, word in part.contributed])
        return part.number, enrolled, contributed, part.is_gathered

    def read(self, fields: Any) -> RollPart:
        """A part of the roll, from outside. Raises RemoteMisbehaviour ("malformed")."""
        if not isinstance(fields, tuple):
            raise malformed("a part of the roll is not an array")
        number, enrolled, contributed, is_gathered = exactly(fields, 4)
        if not isinstance(is_gathered, bool):
            raise malformed("whether contributions are gathered is no boolean")
        _check(enrolled, "enrolled", _ENROLLED_BYTES)
        _check(contributed, "contributed", _CONTRIBUTED.size)
        return RollPart(
            uint(number, "sum", 1, PAIRS),
            tuple([self._enrolled(enrolled, start) for start in range(0, len(enrolled), _ENROLLED_BYTES)]),
            tuple([Contributed(peer_of_key(key), word) for key, word in _CONTRIBUTED.iter_unpack(contributed)]),
            is_gathered,
        )

    def _enrolled(self, rows: bytes, start: int) -> Enrolled:
        end = start + _ENROLMENT.size
        row, distance = rows[start:end], rows[end]
        if distance > MAX_DISTANCE:
            raise malformed("somebody has enrolled from too far away")
        enrolment = self._by_row.get(row)
        if enrolment is None:
            key, mask_key, commitment, signature = _ENROLMENT.unpack(row)
            enrolment = Enrolment(peer_of_key(key), mask_key, commitment, signature)
            self._remember(enrolment, row)
        return Enrolled(enrolment, distance)

    def _row(self, enrolment: Enrolment) -> bytes:
        row = self._rows.get(enrolment.signature)
        if row is None or self._by_row[row] != enrolment:
            origin = key_of(enrolment.origin)
            return _ENROLMENT.pack(origin, enrolment.mask_key, enrolment.commitment, enrolment.signature)
        return row

    def _remember(self, enrolment: Enrolment, row: bytes) -> None:
        if len(self._by_row) >= _REMEMBERED:
            self._by_row.clear()
            self._rows.clear()
        self._by_row[row] = enrolment
        self._rows[enrolment.signature] = row


def _check(rows: Any, name: str, n_bytes: int) -> None:
    if not isinstance(rows, bytes) or len(rows) % n_bytes or len(rows) > PART_ENTRIES * n_bytes:
        raise malformed(f"{name} is not binary of at most {PART_ENTRIES} times {n_bytes} bytes")
