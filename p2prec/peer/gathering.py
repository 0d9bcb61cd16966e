"""Words about the dead are gathered by one peer before everybody hears them, in a private sum that does not hurry.

What many say at one moment would come to everybody from all directions and in many frames, since it has come different ways. So
each beat has a *collector*, which all find by its number: words go there, as a message to one peer does, and it tells everybody
all of them at once. That they come together costs time, and nothing else: whoever does not hear its own word come back says it to
everybody itself, so that a collector which has died, or suppresses something, can only delay.
"""

from __future__ import annotations

import bisect
import hashlib
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from msgspec import Struct

from p2prec.identity import peer_id_of
from p2prec.peer.sum_messages import Letter, Relayed
from p2prec.peer.sum_times import Timetable
from p2prec.types import PeerId

HOLD = 0.4
"""Of a notice: for so long after a beat its collector waits for words. Among a thousand people nearly all have come by then."""
PATIENCE = 0.7
"""Of a notice after a beat: who has not heard its own word by then says it to everybody. What is heard 1.1 notices after a beat
still counts (`Timetable.noticed`)."""
_LABEL = b"p2prec collector 1"


class Gathering(NamedTuple):
    """Of the words of one beat."""

    collector: PeerId
    until: float
    """When it tells everybody."""
    back_by: float
    """When whoever has not heard its own word says it to everybody itself."""


def gathering(
    number: int, times: Timetable, members: Sequence[PeerId], is_out: Callable[[PeerId], bool], now: float
) -> Gathering | None:
    """Of the latest beat; None in a sum without beats, and with nobody left.

    number: of the sum. members: who takes part, sorted. is_out: who is not to be asked. Peers that know different people as dead
    find the same collector, unless it is one of these.
    """
    beat = times.latest_beat(now)
    if beat is None or not members:
        return None
    place = peer_id_of(hashlib.sha256(_LABEL + bytes((number,)) + beat.to_bytes(8, "big")).digest())
    first = bisect.bisect_left(members, place)
    after = (members[(first + step) % len(members)] for step in range(len(members)))
    collector = next((member for member in after if not is_out(member)), None)
    if collector is None:
        return None
    began = times.start + beat * times.beat_s
    return Gathering(collector, began + HOLD * times.notice_s, began + PATIENCE * times.notice_s)


class _Waiting(Struct, frozen=True):
    relayed: Relayed
    letter: Letter
    at: float


class Words:
    """What waits at one peer, by signature: as their collector, and as their origin."""

    def __init__(self) -> None:
        self._held: dict[bytes, _Waiting] = {}
        self._awaited: dict[bytes, _Waiting] = {}

    @property
    def due(self) -> float:
        """When there is something to say to everybody."""
        if not self._held and not self._awaited:
            return math.inf
        return min(waiting.at for words in (self._held, self._awaited) for waiting in words.values())

    def hold(self, relayed: Relayed, letter: Letter, until: float) -> None:
        """As the collector."""
        self._held[relayed.signature] = _Waiting(relayed, letter, until)

    def wait_for(self, relayed: Relayed, letter: Letter, back_by: float) -> None:
        """Of this peer's own, until it has come back."""
        self._awaited[relayed.signature] = _Waiting(relayed, letter, back_by)

    def came_back(self, relayed: Relayed) -> bool:
        """Whether this is a word of this peer's own that it waited for. It does no longer."""
        waiting = self._awaited.get(relayed.signature)
        if waiting is None or waiting.relayed != relayed:
            return False
        del self._awaited[relayed.signature]
        return True

    def take(self, now: float) -> list[tuple[Relayed, Letter]]:
        """What is due to be said, the own words last."""
        if now < self.due:
            return []
        taken = []
        for words in (self._held, self._awaited):
            due = [name for name, waiting in words.items() if now >= waiting.at]
            taken += [(waiting.relayed, waiting.letter) for waiting in map(words.pop, due)]
        return taken

    def forget(self, number: int) -> None:
        """A sum is over."""
        for words in (self._held, self._awaited):
            for name in [name for name, waiting in words.items() if waiting.relayed.number == number]:
                del words[name]
