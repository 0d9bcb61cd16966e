"""Who is dead in a private sum: found out by neighbours, said to everybody, and contradicted by those who live (after SWIM).

A peer whose link broke and is not back after a while is suspected by the neighbour that lost it, aloud. If it lives and can be
reached at all it contradicts; every contradiction has a higher number than the suspicion, so that it also beats those that arrive
late. Whoever has heard of a suspicion and of no contradiction within a notice holds the peer for dead from then on, for the whole
sum. Das, Gupta, Motivala 2002, "SWIM"; without its probing: neighbours are pinged anyway. In a sum that does not hurry suspicions
wait for moments common to all, and all believe them at such a moment (`Timetable.beat`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from p2prec.peer.sum_messages import Alive, Suspected
from p2prec.peer.sum_times import Timetable
from p2prec.types import PeerId

PATIENCE = 0.5
"""Of a notice: for so long, up to twice as long, a lost neighbour may come back before it is suspected."""

CONTRADICTIONS_IN_A_NOTICE = 4
"""At most: whoever suspects a peer without end cannot use up what it may say in a sum."""


@dataclass(slots=True)
class _Suspicion:
    incarnation: int
    dead_at: float
    said: int
    """The highest number that was said with it."""


class DeathWatch:
    """One peer's view of who lives, in one sum."""

    def __init__(self, own_id: PeerId, times: Timetable, rng: np.random.Generator) -> None:
        self.own_id = own_id
        self._times, self._notice_s, self._rng = times, times.notice_s, rng
        self._incarnation = 0
        self._is_suspected = False
        self._contradicts_after = float("-inf")
        self._known: dict[PeerId, int] = {}
        """How often others have contradicted."""
        self._lost: dict[PeerId, float] = {}
        """Neighbours whose link broke, and when to say so."""
        self._suspected: dict[PeerId, _Suspicion] = {}

    def lost(self, peer: PeerId, now: float) -> None:
        """The link to a neighbour broke."""
        patience_s = PATIENCE * self._notice_s * (1 + float(self._rng.random()))
        self._lost.setdefault(peer, self._times.suspects(now + patience_s))

    def met(self, peer: PeerId) -> None:
        """It is a neighbour (again)."""
        self._lost.pop(peer, None)

    def on_suspected(self, message: Suspected, now: float) -> None:
        """Somebody suspects a peer, perhaps this one."""
        if message.peer == self.own_id:
            # What is older has been answered.
            self._is_suspected = self._is_suspected or message.incarnation >= self._incarnation
            return
        # A number from the future is made up, so that nothing the peer says could beat it.
        known = self._known.get(message.peer, 0)
        if message.incarnation >= known:
            self._lost.pop(message.peer, None)  # said already
            held = self._suspected.setdefault(
                message.peer, _Suspicion(known, self._times.noticed(now), message.incarnation)
            )
            held.said = max(held.said, message.incarnation)

    def is_suspected(self, peer: PeerId) -> bool:
        """Whether somebody suspects a peer that has not contradicted, nor is dead yet."""
        return peer in self._suspected

    def is_news(self, message: Suspected) -> bool:
        """Whether others may not have heard what a suspicion says from this peer: it has passed on none that says as much."""
        if message.peer == self.own_id:
            return True
        if message.incarnation < self._known.get(message.peer, 0):
            return False  # contradicted
        held = self._suspected.get(message.peer)
        return held is None or message.incarnation > held.said

    def contradictions(self, now: float) -> list[Alive]:
        """What this peer has to say of itself now; a few times a notice at most, however often it is suspected."""
        if not self._is_suspected or now < self._contradicts_after:
            return []
        self._is_suspected = False
        self._contradicts_after = now + self._notice_s / CONTRADICTIONS_IN_A_NOTICE
        self._incarnation += 1
        return [Alive(self._incarnation)]

    def incarnation_of(self, peer: PeerId) -> int:
        """How often a peer has contradicted, as far as known here; 0 of this one, which knows better."""
        return self._known.get(peer, 0)

    def on_alive(self, peer: PeerId, message: Alive) -> None:
        """A peer contradicts."""
        if message.incarnation > self._known.get(peer, 0):
            self._known[peer] = message.incarnation
            suspicion = self._suspected.get(peer)
            if suspicion is not None and suspicion.incarnation < message.incarnation:
                del self._suspected[peer]

    def excuse(self, now: float) -> None:
        """This peer itself was cut off or stood still: it has missed contradictions, so everybody gets their time again."""
        for peer in self._lost:
            self._lost[peer] = max(self._lost[peer], self._times.suspects(now + PATIENCE * self._notice_s))
        for suspicion in self._suspected.values():
            suspicion.dead_at = max(suspicion.dead_at, self._times.noticed(now))

    def forget(self, peer: PeerId) -> None:
        """It is dead, or was none of the sum's."""
        self._lost.pop(peer, None)
        self._suspected.pop(peer, None)

    def suspicions(self, now: float) -> list[Suspected]:
        """What to say to everybody now. This peer believes it from then on, like those who hear it."""
        due = [peer for peer, at in self._lost.items() if now >= at]
        found = [Suspected(peer, self._known.get(peer, 0)) for peer in due]
        for suspicion in found:
            del self._lost[suspicion.peer]
            self.on_suspected(suspicion, now)
            if self._times.beat_s:
                # Gathered, and not passed on by this peer yet.
                self._suspected[suspicion.peer].said -= 1
        return found

    def dead(self, now: float) -> list[PeerId]:
        """Who is to be held for dead from now on; each is returned once."""
        due = [peer for peer, suspicion in self._suspected.items() if now >= suspicion.dead_at]
        for peer in due:
            del self._suspected[peer]
        return due

    def due(self) -> float:
        """When there may be something to say or to believe."""
        due = self._contradicts_after if self._is_suspected else math.inf
        if self._lost:
            due = min(due, *self._lost.values())
        if self._suspected:
            due = min(due, *(suspicion.dead_at for suspicion in self._suspected.values()))
        return due
