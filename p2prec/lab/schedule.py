"""Who exchanges with whom, in what order, and what goes wrong: decided before anything is computed, so that every engine
plays the same course.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from p2prec.peer.pace import OFFER_ATTEMPTS
from p2prec.types import BoolArray, IndexArray

ABSENCE_ROUNDS = 10.0
"""Mean length of an absence: long enough that a peer comes back to a swarm that has moved on."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What goes wrong, per round."""

    drop: float = 0.0
    """Probability that a message is lost, in [0, 1)."""
    online: float = 1.0
    """Share of the peers that is there at any time, in (0, 1]; absences last ABSENCE_ROUNDS on average, or longer where
    the share asks for it."""


class Fate(IntEnum):
    """What becomes of an exchange. (A lost commit is caught up on when the two meet again, so it counts as applied.)"""

    APPLIED = 0
    OFFER_LOST = 1
    ANSWER_LOST = 2


@dataclass(frozen=True, slots=True)
class Meeting:
    """One exchange, or the attempt at one."""

    initiator: int
    responder: int
    part: int
    """Of the tables."""
    begins: bool
    """Whether the initiator's round begins with it."""
    fate: Fate = Fate.APPLIED

    @property
    def pair(self) -> tuple[int, int]:
        return self.initiator, self.responder


def one_by_one(table: IndexArray) -> list[Meeting]:
    """The meetings in a table of `Schedule.draw`."""
    return [Meeting(one, other, part, bool(begins), Fate(fate)) for one, other, part, fate, begins in table.tolist()]


@dataclass(slots=True)
class _Turn:
    """A peer that has exchanges to start in this round."""

    peer: int
    part: int
    asked: list[int]


class Schedule:
    """Draws one round after the other.

    Each peer that is there begins its round at a moment of its own, and starts an exchange about each part of the tables
    with a random neighbour that is there. As in the daemon, what was not answered is tried again with another neighbour, some
    time later, OFFER_ATTEMPTS times in all.
    """

    def __init__(
        self, views: Sequence[IndexArray], n_parts: int, conditions: Conditions, rng: np.random.Generator
    ) -> None:
        """views: whom each peer can exchange with; may be nobody."""
        self._views = views
        self._all_views = np.concatenate([*views, np.empty(0, np.int64)])
        self._degrees = np.array([len(view) for view in views])
        self._first = np.cumsum(self._degrees) - self._degrees
        self._n_parts = n_parts
        self._conditions = conditions
        self._rng, self._fate = rng, rng.spawn(1)[0]
        self.present: BoolArray = self._fate.random(len(views)) < conditions.online
        """(n_peers,) who is there in the round drawn last."""

    def round(self) -> list[Meeting]:
        """The meetings of the next round, in order."""
        return one_by_one(self.draw())

    def draw(self) -> IndexArray:
        """The same as a table: (n, 5) int64 initiator, responder, part, fate, and whether the initiator's round begins."""
        self._come_and_go()
        everyone = bool(self.present.all())
        peers = self._rng.permutation(np.flatnonzero(self.present))
        if everyone and self._conditions.drop == 0:
            return self._undisturbed(peers)
        return self._disturbed(peers, everyone)

    def _undisturbed(self, peers: IndexArray) -> IndexArray:
        """What `_disturbed` comes to where every first attempt succeeds."""
        draws = self._rng.random((len(peers), self._n_parts))
        known = self._degrees[peers, None]
        met = np.broadcast_to(known > 0, draws.shape)
        place = (self._first[peers, None] + (draws * known).astype(np.int64))[met]
        one, part = (np.broadcast_to(axis, draws.shape)[met] for axis in (peers[:, None], np.arange(self._n_parts)))
        return np.stack([one, self._all_views[place], part, np.full(len(one), int(Fate.APPLIED)), part == 0], axis=1)

    def _disturbed(self, peers: IndexArray, everyone: bool) -> IndexArray:
        turns = [_Turn(peer, 0, []) for peer in peers.tolist()]
        meetings: list[tuple[int, int, int, int, bool]] = []
        for attempt in range(OFFER_ATTEMPTS):
            draws = self._rng.random((len(turns), self._n_parts)).tolist()
            late = []
            for turn, drawn in zip(turns, draws, strict=True):
                views = self._views[turn.peer]
                choices = views if everyone else views[self.present[views]]
                if turn.asked:
                    choices = choices[~np.isin(choices, turn.asked)]
                if len(choices) and not self._play(turn, choices, drawn, attempt == 0, meetings):
                    late.append(turn)
            turns = late
        return np.array(meetings, np.int64).reshape(-1, 5)

    def _play(
        self,
        turn: _Turn,
        choices: IndexArray,
        drawn: list[float],
        first: bool,
        meetings: list[tuple[int, int, int, int, bool]],
    ) -> bool:
        """Go through the parts until an attempt fails; whether none did."""
        for part in range(turn.part, self._n_parts):
            responder = int(choices[int(drawn[part] * len(choices))])
            fate = self._fate_of_messages()
            meetings.append((turn.peer, responder, part, int(fate), first and part == 0))
            if fate is not Fate.APPLIED:
                turn.part = part
                turn.asked.append(responder)
                return False
            turn.asked.clear()
        return True

    def _fate_of_messages(self) -> Fate:
        drop = self._conditions.drop
        if drop > 0:
            offer, answer = self._fate.random(2)
            if offer < drop:
                return Fate.OFFER_LOST
            if answer < drop:
                return Fate.ANSWER_LOST
        return Fate.APPLIED

    def _come_and_go(self) -> None:
        """Two-state Markov chains whose stationary share is `online`."""
        online = self._conditions.online
        if online >= 1:
            return
        absence = max(ABSENCE_ROUNDS, (1 - online) / online)
        leaves, returns = (1 - online) / (online * absence), 1 / absence
        turns = self._fate.random(len(self._views)) < np.where(self.present, leaves, returns)
        self.present = self.present ^ turns


def independent_batches(pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Divide a sequence of exchanges into batches (indices into it) in which no peer occurs twice, with the same result as one
    by one.
    """
    last: dict[int, int] = {}
    batches: list[list[int]] = []
    for at, (one, other) in enumerate(pairs):
        batch = max(last.get(one, -1), last.get(other, -1)) + 1
        last[one] = last[other] = batch
        if batch == len(batches):
            batches.append([])
        batches[batch].append(at)
    return batches


def disjoint_batches(pairs: IndexArray) -> list[IndexArray]:
    """`independent_batches` of an array (n, 2), as such arrays."""
    return [pairs[batch] for batch in independent_batches(pairs.tolist())]
