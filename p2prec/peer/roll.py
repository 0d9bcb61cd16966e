"""The roll of a private sum: who has enrolled, and who has contributed. Everybody hears of everybody, from its neighbours.

There are two entries of each person, so what one costs is most of what hearing costs a device. They are no messages of their own,
but rows of a list, of a fixed size, and nobody verifies those of others: an enrolment is proven to whoever masks with its
origin, and to all where two contradict each other; a contribution proves itself by a word.
"""

from __future__ import annotations

import bisect
import functools
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from msgspec import Struct

from p2prec.peer.gathering import Gathering
from p2prec.peer.sum_messages import (
    MAX_DISTANCE,
    Contributed,
    Contributes,
    Enrol,
    Enrolled,
    Enrolment,
    Proof,
    RollPart,
    proven,
)
from p2prec.types import PeerId

MAX_ENROLLED = 100_000
MAX_ROUTES = 3
"""Neighbours kept as ways to one peer."""
MAX_OTHERS = 1024
"""Enrolments of one peer, besides the one that counts, that are verified."""
MAX_BROUGHT = 3
"""Times that a peer brings one contribution to the collector: it may come back from somebody without another way."""
PART_ENTRIES = 256
"""Of either kind in one part of the roll; a frame has room for several."""


class _Member(Struct):
    """What is known of one participant."""

    enrolment: Enrolment
    distance: int
    """With which it is passed on."""
    ways: list[tuple[int, PeerId]]
    """How far from it a neighbour is from which its enrolment came, and the neighbour; the nearest first."""
    is_genuine: bool | None = None
    """Whether its enrolment is its own; None: nobody has asked."""
    n_others: int = 0
    word: bytes = b""
    """What it has contributed with."""

    @property
    def enrolled(self) -> Enrolled:
        """As it is passed on."""
        return Enrolled(self.enrolment, self.distance)


@dataclass(slots=True)
class _News:
    """What is to be passed on next, and which neighbours have it."""

    enrolled: dict[PeerId, set[PeerId]] = field(default_factory=dict)
    contributed: dict[PeerId, set[PeerId]] = field(default_factory=dict)


class Roll:
    """As one peer knows it. The caller passes on what is new (`flush`)."""

    def __init__(self, number: int, own_id: PeerId, is_genuine: Callable[[int, Enrolment], bool]) -> None:
        """number: of the sum. is_genuine: whether an enrolment in it is signed by whom it names."""
        self._number, self._own_id, self._is_genuine = number, own_id, is_genuine
        self._members: dict[PeerId, _Member] = {}
        self._news = _News()
        self._held: dict[PeerId, None] = {}
        """As the collector: whose contributions wait until everybody is told."""
        self._held_until = math.inf
        self._to_bring: dict[PeerId, tuple[bytes, PeerId | None]] = {}
        """By whose contribution it is: its word, to be brought to the collector, and the neighbour that it came from."""
        self._brought: Counter[PeerId] = Counter()
        """How often each was brought."""
        self._back_by = math.inf
        """When this peer tells everybody of its own contribution, if it has not come back."""

    @property
    def has_news(self) -> bool:
        """Whether there is anything to pass on."""
        return bool(self._news.enrolled or self._news.contributed or self._to_bring)

    def ways(self, peer: PeerId) -> list[PeerId]:
        """Neighbours from which a participant's enrolment came, the nearest to it first."""
        member = self._members.get(peer)
        return [] if member is None else [neighbour for _, neighbour in member.ways]

    def hops_to(self, peer: PeerId) -> int:
        """How far away a participant is on the shortest way that is known; MAX_DISTANCE if none is."""
        member = self._members.get(peer)
        return member.ways[0][0] + 1 if member is not None and member.ways else MAX_DISTANCE

    # --- what this peer says ---

    def enrol(self, enrolment: Enrolment) -> None:
        self._members[self._own_id] = _Member(enrolment, 0, [], is_genuine=True)
        self._news.enrolled[self._own_id] = set()

    def contribute(self, word: bytes, gathering: Gathering | None) -> None:
        """Dropped if this peer has not enrolled. gathering: of what is said now; None: everybody tells everybody."""
        if self._own_id not in self._members:
            return
        self._members[self._own_id].word = word
        if gathering is None:
            self._news.contributed[self._own_id] = set()
        elif gathering.collector == self._own_id:
            self._hold(self._own_id, gathering.until)
        else:
            self._bring(self._own_id, word, None)
            self._back_by = gathering.back_by

    # --- what others say ---

    def hear(
        self, neighbour: PeerId, part: RollPart, gathering: Gathering | None = None
    ) -> Iterator[tuple[PeerId, Enrol | Contributes, Proof]]:
        """Take what a neighbour has of the roll. Gives what is new: who says what, and its proof.

        gathering: of what is said now.
        """
        members, waiting = self._members, self._news.enrolled
        for enrolled in part.enrolled:
            enrolment = enrolled.enrolment
            member = members.get(enrolment.origin)
            if member is not None and (member.enrolment is enrolment or member.enrolment == enrolment):
                known_to = waiting.get(enrolment.origin)
                if known_to is not None:
                    known_to.add(neighbour)
                    # A shorter way than that by which it came first.
                    member.distance = min(member.distance, enrolled.distance + 1)
                _note_way(member.ways, (enrolled.distance, neighbour))
            elif enrolment.origin != self._own_id and self._is_new(neighbour, enrolled, member):
                proof = functools.partial(self._is_genuine, self._number, enrolment)
                yield enrolment.origin, Enrol(enrolment.mask_key, enrolment.commitment), proof
        if part.is_gathered:
            yield from self._gather(neighbour, part.contributed, gathering)
            return
        for origin, word in part.contributed:
            member = members.get(origin)
            if member is None:
                continue
            if member.word:
                known_to = self._news.contributed.get(origin)
                if known_to is not None:
                    known_to.add(neighbour)
                elif origin == self._own_id and self._back_by < math.inf and word == member.word:
                    self._back_by = math.inf
                    self._news.contributed[origin] = {neighbour}
            elif origin != self._own_id and hashlib.sha256(word).digest() == member.enrolment.commitment:
                member.word = word
                self._news.contributed[origin] = {neighbour}
                yield origin, Contributes(word), proven

    def _gather(
        self, neighbour: PeerId, contributed: Collection[Contributed], gathering: Gathering | None
    ) -> Iterator[tuple[PeerId, Contributes, Proof]]:
        """Contributions on their way to the collector, who is perhaps this peer. They count for it, and for nobody on the way.
        Who takes no part in the sum does not know who that is, and tells everybody.
        """
        for origin, word in contributed:
            member = self._members.get(origin)
            if member is None or member.word or self._brought[origin] >= MAX_BROUGHT:
                continue
            if hashlib.sha256(word).digest() != member.enrolment.commitment:
                continue
            if gathering is None or gathering.collector == self._own_id:
                member.word = word
                if gathering is None:
                    self._news.contributed[origin] = set()
                else:
                    self._hold(origin, gathering.until)
                yield origin, Contributes(word), proven
            else:
                self._bring(origin, word, neighbour)

    def _hold(self, origin: PeerId, until: float) -> None:
        """As the collector."""
        self._held[origin], self._held_until = None, until

    def _bring(self, origin: PeerId, word: bytes, source: PeerId | None) -> None:
        """To the collector."""
        self._brought[origin] += 1
        self._to_bring[origin] = word, source

    @property
    def due(self) -> float:
        """When there is something to tell everybody that has waited (`say_what_has_waited`)."""
        return min(self._held_until if self._held else math.inf, self._back_by)

    def say_what_has_waited(self, now: float) -> None:
        """As the collector what was gathered, and this peer's own contribution if it has not come back."""
        if self._held and now >= self._held_until:
            self._news.contributed.update((origin, set()) for origin in self._held)
            self._held.clear()
        if now >= self._back_by:
            self._back_by = math.inf
            self._news.contributed[self._own_id] = set()

    def _is_new(self, neighbour: PeerId, enrolled: Enrolled, member: _Member | None) -> bool:
        """Note an enrolment of somebody of whom this peer knows none, or another; whether it counts from now on."""
        origin = enrolled.origin
        if member is None:
            if len(self._members) >= MAX_ENROLLED:
                return False
        elif not self._replaces(member, enrolled.enrolment):
            return False
        self._members[origin] = _Member(
            enrolled.enrolment,
            min(enrolled.distance + 1, MAX_DISTANCE),
            [(enrolled.distance, neighbour)],
            None if member is None else True,
            0 if member is None else member.n_others,
        )
        self._news.enrolled[origin] = {neighbour}
        self._news.contributed.pop(origin, None)
        self._held.pop(origin, None)
        return True

    def _replaces(self, member: _Member, other: Enrolment) -> bool:
        """Of two enrolments of one peer somebody lies about one: the first that is genuine counts."""
        if member.is_genuine is None:
            member.is_genuine = self._is_genuine(self._number, member.enrolment)
        if member.is_genuine or member.n_others >= MAX_OTHERS:
            return False
        member.n_others += 1
        return self._is_genuine(self._number, other)

    # --- passing on ---

    def flush(
        self, neighbours: Collection[PeerId], eager: Collection[PeerId], gathering: Gathering | None = None
    ) -> Iterator[tuple[PeerId, RollPart]]:
        """What to tell whom; with it all news have been told. eager: of the neighbours those to whom floods go. Enrolments go to
        all, since their ways are those of messages to one peer, and are to be short. gathering: of what is said now.
        """
        if not self.has_news:
            return
        if self._to_bring:
            yield from self._bringing(neighbours, gathering)
        news, self._news = self._news, _News()
        for neighbour in neighbours:
            enrolled = [peer for peer, known_to in news.enrolled.items() if neighbour not in known_to]
            contributed: list[PeerId] = []
            if neighbour in eager:
                contributed = [peer for peer, known_to in news.contributed.items() if neighbour not in known_to]
            for part in self._parts(enrolled, self._words_of(contributed)):
                yield neighbour, part

    def _bringing(
        self, neighbours: Collection[PeerId], gathering: Gathering | None
    ) -> Iterator[tuple[PeerId, RollPart]]:
        """Each a step nearer to the collector; without a way there but back, to somebody else, who may have one."""
        to_bring, self._to_bring = self._to_bring, {}
        if gathering is None:
            return
        collector = gathering.collector
        ways = [collector] if collector in neighbours else [way for way in self.ways(collector) if way in neighbours]
        by_way: dict[PeerId, list[Contributed]] = {}
        for origin, (word, source) in to_bring.items():
            open_ways = [way for way in ways if way != source]
            others = [neighbour for neighbour in neighbours if neighbour != source]
            if others:
                way = open_ways[0] if open_ways else others[word[0] % len(others)]
                by_way.setdefault(way, []).append(Contributed(origin, word))
        for way, rows in by_way.items():
            for part in self._parts([], rows, is_gathered=True):
                yield way, part

    def everything(self) -> list[RollPart]:
        """All that this peer knows, for a neighbour that may have missed it."""
        contributed = [peer for peer, member in self._members.items() if member.word]
        return self._parts(list(self._members), self._words_of(contributed))

    def _words_of(self, contributed: list[PeerId]) -> list[Contributed]:
        return [Contributed(peer, self._members[peer].word) for peer in contributed]

    def _parts(
        self, enrolled: list[PeerId], contributed: list[Contributed], *, is_gathered: bool = False
    ) -> list[RollPart]:
        members = self._members
        return [
            RollPart(
                self._number,
                tuple([members[peer].enrolled for peer in enrolled[start : start + PART_ENTRIES]]),
                tuple(contributed[start : start + PART_ENTRIES]),
                is_gathered,
            )
            for start in range(0, max(len(enrolled), len(contributed)), PART_ENTRIES)
        ]


def _note_way(ways: list[tuple[int, PeerId]], way: tuple[int, PeerId]) -> None:
    if len(ways) == MAX_ROUTES and way > ways[-1]:
        return
    for _, neighbour in ways:
        if neighbour == way[1]:
            return
    bisect.insort(ways, way)
    del ways[MAX_ROUTES:]
