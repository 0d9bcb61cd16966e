"""The numbers of the messages of private sums (protocols/privacy-v4.md, "Messages")."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

from p2prec.wire.fields import uint


class SumKind(IntEnum):
    """The messages of a private sum."""

    ENROL = 1
    PAIR = 2
    MASKED = 3
    MASK_NOTED = 4
    NOT_MASKED = 5
    WITNESSED = 6
    DEPOSIT = 7
    OFFER = 8
    ANSWER = 9
    DECLINE = 10
    COMMIT = 11
    RESOLVE = 12
    RESOLUTION = 13
    CLAIMED = 14
    INHERITED = 15
    HAND_OVER = 16
    HANDED_OVER = 17
    SEEN = 18
    RETURNED = 19
    SUSPECTED = 20
    ALIVE = 21
    GONE = 22
    SELECTION = 23
    VOIDED = 24
    RESULT_REQUEST = 25
    RESULT = 26
    SEALED = 27
    OPENED = 28
    TAKEN_OUT = 29
    CONTRIBUTES = 30
    WITHDRAWN = 31


_KINDS: Final = tuple(SumKind)
"""From 1 on without a gap."""


def kind_of(value: Any) -> SumKind:
    """The kind with this number, from outside. Raises RemoteMisbehaviour ("malformed")."""
    return _KINDS[uint(value, "kind", 1, len(_KINDS)) - 1]
