"""The numbers of the messages of private sums (protocols/privacy-v8.md, "Messages")."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

from p2prec.wire.fields import uint


class SumKind(IntEnum):
    """The messages of a private sum."""

    PAIR = 1
    MASKED = 2
    MASK_NOTED = 3
    NOT_MASKED = 4
    WITNESSED = 5
    DEPOSIT = 6
    OFFER = 7
    ANSWER = 8
    DECLINE = 9
    COMMIT = 10
    RESOLVE = 11
    RESOLUTION = 12
    CLAIMED = 13
    INHERITED = 14
    HAND_OVER = 15
    HANDED_OVER = 16
    SEEN = 17
    RETURNED = 18
    SUSPECTED = 19
    ALIVE = 20
    GONE = 21
    SELECTION = 22
    VOIDED = 23
    RESULT_REQUEST = 24
    RESULT = 25
    SEALED = 26
    OPENED = 27
    TAKEN_OUT = 28
    WITHDRAWN = 29


_KINDS: Final = tuple(SumKind)
"""From 1 on without a gap."""


def kind_of(value: Any) -> SumKind:
    """The kind with this number, from outside. Raises RemoteMisbehaviour ("malformed")."""
    return _KINDS[uint(value, "kind", 1, len(_KINDS)) - 1]
