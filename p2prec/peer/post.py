"""Messages that pass through other peers: to everybody by flooding, to one peer along the way that its enrolment came.

The roll of who takes part, of which each has two entries, goes with them (`p2prec.peer.roll`). Every other message is signed by
its origin and passed on unchanged; mask partners, who have a key in common, use that instead. Most floods are verified before
they are passed on; the many (`UNPROVEN`) by whoever relies on them, and a message to one peer by that peer. A flood goes
once to a few neighbours (`p2prec.peer.eager`), but those it came from. What many say at one moment goes to one peer first, who
tells everybody (`p2prec.peer.gathering`). A message to a single peer goes to the neighbour from which
that peer's own enrolment came on the shortest way: each hop is nearer to it, without any routes to agree on. If that neighbour
is gone the next one it came from is taken; if none is left any other, who may have one. What comes again has found none where it
was sent, and is sent another: a search that no dead end holds. Its origin, which hears no answer, sends what is lost again, then
by all its neighbours at once: where one that led to nearly everybody's shortest way has died, most searches end where they began.

What is passed on waits for at most `hop_s`, so that one frame carries many, and neighbours that send the same meanwhile are left
out: until a moment that comes each `hop_s`, and differs from peer to peer. All that is kept is bounded, for each origin and
altogether; beyond the bounds messages are dropped without a word, since honest peers may differ in what they have kept.
"""

from __future__ import annotations

import functools
import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from msgspec import Struct

from p2prec.errors import RemoteMisbehaviour
from p2prec.peer.eager import Eager
from p2prec.peer.gathering import Gathering, Words
from p2prec.peer.messages import Refusal
from p2prec.peer.roll import Roll
from p2prec.peer.sum_messages import (
    BETWEEN_PARTNERS,
    ENTERED,
    FLOODED,
    GATHERED,
    MAX_HOPS,
    ROUTED,
    UNPROVEN,
    Claimed,
    Contributes,
    Enrol,
    Enrolment,
    Letter,
    Relayed,
    Relays,
    RollPart,
    SumMessage,
    proven,
)
from p2prec.types import PeerId

DETOUR = 4
"""What is said again goes at most twice as far as its receiver is, and so many hops more."""
MAX_FLOODS_OF_ONE = 1024
"""Of one origin in one sum. An honest one has a few words for each peer that dies near it."""
MAX_FLOODS = 200_000
"""Of all origins in one sum."""
MAX_WAITING = 20_000
"""To be passed on at the next flush."""
MAX_PASSED = 4096
"""Messages to one peer of which it is remembered where they went, in one sum; an honest swarm of a thousand has some 500."""
MAX_SERVED = 4096
"""Neighbours of whom it is remembered when they were sent all floods."""
FRAME_RELAYS = 1024
FRAME_BYTES = 200_000
"""In one frame; the rest goes into the next."""
_OVERHEAD = 160
"""Bytes of a relay but its body, about."""


class Sealer(Protocol):
    """Signs this peer's messages and opens those of others (`p2prec.wire.seal`)."""

    def seal(
        self, to: PeerId | None, number: int, token: bytes, hops: int, message: SumMessage, key: bytes | None = None
    ) -> Relayed:
        """key: authenticates the message, in place of a signature."""
        ...

    def enrol(self, number: int, message: Enrol) -> Enrolment:
        """This peer's entry in the roll of a sum."""
        ...

    def has_enrolled(self, number: int, enrolment: Enrolment) -> bool:
        """Whether an entry in the roll of a sum is its origin's."""
        ...

    def read(self, relayed: Relayed) -> SumMessage:
        """The message inside. Raises RemoteMisbehaviour if it is malformed."""
        ...

    def is_genuine(self, relayed: Relayed, key: bytes | None = None) -> bool:
        """Whether its signature is its origin's, or, with a key, somebody's who has that."""
        ...


class _Waiting(Struct):
    relayed: Relayed
    known_to: dict[PeerId, None]
    """Neighbours that have it, in the order in which it came from them or was sent there."""
    is_repeated: bool = False
    """Whether it is this peer's own, and has been said before."""


@dataclass(slots=True)
class _Sum:
    """What is remembered of one sum."""

    roll: Roll
    floods: OrderedDict[bytes, Relayed | None] = field(default_factory=OrderedDict)
    """By signature, in the order in which they came. None: it was no news, and is not passed on."""
    of_origin: dict[tuple[PeerId, bool], int] = field(default_factory=dict)
    """By origin, and whether it is proven: what others forge does not use up what it may say."""
    said: set[tuple[PeerId, type[SumMessage]]] = field(default_factory=set)
    """What this peer has said to whom."""
    passed: OrderedDict[bytes, dict[PeerId, None]] = field(default_factory=OrderedDict)
    """Of messages to one peer, by signature: neighbours that have had them."""

    def had(self, signature: bytes) -> dict[PeerId, None]:
        """Who has had a message to one peer, to be added to."""
        had = self.passed.setdefault(signature, {})
        self.passed.move_to_end(signature)
        if len(self.passed) > MAX_PASSED:
            self.passed.popitem(last=False)
        return had


class Post:
    """One peer's post office. The caller says which sums are under way, and delivers what comes out of `flush`."""

    def __init__(
        self,
        own_id: PeerId,
        sealer: Sealer,
        random_bytes: Callable[[int], bytes],
        hop_s: float,
        is_news: Callable[[Letter], bool] = lambda letter: True,
        key_with: Callable[[int, PeerId], bytes | None] = lambda number, partner: None,
        is_dead: Callable[[int, PeerId], bool] = lambda number, peer: False,
        gathering: Callable[[int], Gathering | None] = lambda number: None,
    ) -> None:
        """is_news: whether what somebody says to everybody has to be passed on, asked before it is delivered here, and of this
        peer's own words before it says them to everybody although they were gathered. key_with: the key that this peer has in
        common with a mask partner in a sum; None: it is none. is_dead: whether nothing that is for a peer in a sum need be
        passed on. gathering: of what is said in a sum now; None: everybody says it to everybody.
        """
        self.own_id, self._is_news, self._key_with, self._is_dead = own_id, is_news, key_with, is_dead
        self._gathering, self._words = gathering, Words()
        self._sealer, self._random_bytes, self._hop_s = sealer, random_bytes, hop_s
        self._sums: dict[int, _Sum] = {}
        self._outbox: dict[bytes, _Waiting] = {}
        """By signature."""
        self._phase_s = hop_s * random_bytes(1)[0] / 256
        """Everybody does much at the same moments, by the timetable. If all passed it on at the same moments as well, each link
        would carry each flood both ways."""
        self._due: float | None = None
        """When what waits is passed on, never if nothing does; None where that is to be worked out."""
        self._later: float | None = None
        """When something is to be said that was gathered, or has not come back; None where that is to be worked out."""
        self._served: dict[PeerId, float] = {}
        self._eager = Eager(random_bytes)

    def open(self, number: int) -> None:
        """A sum begins: its messages are taken from now on."""
        self._changed()
        if number not in self._sums:
            self._sums[number] = _Sum(Roll(number, self.own_id, self._has_enrolled))

    def close(self, number: int) -> None:
        """It is over: all that is kept of it is dropped."""
        self._sums.pop(number, None)
        self._words.forget(number)
        self._changed()

    @property
    def open_sums(self) -> Collection[int]:
        return self._sums.keys()

    def _has_enrolled(self, number: int, enrolment: Enrolment) -> bool:
        return self._sealer.has_enrolled(number, enrolment)

    # --- sending ---

    def send(self, to: PeerId | None, number: int, message: SumMessage, now: float) -> None:
        """Post an own message; it leaves with the next flush. to: None for everybody. Dropped if the sum is not open, and
        BETWEEN_PARTNERS if there is no key: the receiver is none, or has enrolled with a key that is none.
        """
        assert isinstance(message, (*FLOODED, *ENTERED) if to is None else ROUTED)
        self._changed()
        known, needs_key = self._sums.get(number), isinstance(message, BETWEEN_PARTNERS)
        key = self._key_with(number, to) if needs_key and to is not None else None
        if known is None or (needs_key and key is None):
            return
        if isinstance(message, Enrol):
            known.roll.enrol(self._sealer.enrol(number, message))
            return
        if isinstance(message, Contributes):
            known.roll.contribute(message.word, self._waiting_collector(number, now))
            return
        is_repeated = to is not None and (to, type(message)) in known.said
        # Whoever does not answer may be dead, and is not to be looked for everywhere by each of these.
        hops = min(MAX_HOPS, 2 * known.roll.hops_to(to) + DETOUR) if is_repeated and to is not None else MAX_HOPS
        relayed = self._sealer.seal(to, number, self._random_bytes(8), hops, message, key)
        if to is not None:
            known.said.add((to, type(message)))
            self._outbox[relayed.signature] = _Waiting(relayed, known.had(relayed.signature), is_repeated)
            return
        gathering = self._waiting_collector(number, now) if isinstance(message, GATHERED) else None
        if gathering is None:
            self._say(known, relayed)
        elif gathering.collector == self.own_id:
            self._words.hold(relayed, Letter(self.own_id, number, message), gathering.until)
        else:
            self._words.wait_for(relayed, Letter(self.own_id, number, message), gathering.back_by)
            self._outbox[relayed.signature] = _Waiting(relayed.one_hop_on(), known.had(relayed.signature))

    def _waiting_collector(self, number: int, now: float) -> Gathering | None:
        """By whom what is said now is gathered; None if it is not, or no longer."""
        gathering = self._gathering(number)
        return gathering if gathering is not None and now < gathering.until else None

    def _say(self, known: _Sum, relayed: Relayed) -> None:
        """To everybody, whoever has it already."""
        known.floods[relayed.signature] = relayed
        self._outbox[relayed.signature] = _Waiting(relayed, {})

    def _say_what_has_waited(self, now: float) -> None:
        """As the collector what was gathered, and what has not come back of this peer's own words."""
        if self._later is not None and now < self._later:
            return
        self._changed()
        for known in self._sums.values():
            known.roll.say_what_has_waited(now)
        for relayed, letter in self._words.take(now):
            # What came from others was news then, and is now but for claims, of which better ones may have come.
            is_settled = letter.origin != self.own_id and not isinstance(letter.message, Claimed)
            if is_settled or self._is_news(letter):
                self._say(self._sums[relayed.number], relayed)

    def due(self, now: float) -> float:
        """When to `flush` next: the next moment of this peer's own, if anything waits, or when it is to say what has waited."""
        if self._due is None:
            self._due = self._next_moment(now) if self._has_something else math.inf
        if self._later is None:
            self._later = min([self._words.due, *(known.roll.due for known in self._sums.values())])
        return self._due if self._due < self._later else self._later

    @property
    def _has_something(self) -> bool:
        """Whether anything waits to be passed on."""
        if self._outbox:
            return True
        return bool(self._sums) and (self._eager.is_due or any(known.roll.has_news for known in self._sums.values()))

    def _next_moment(self, now: float) -> float:
        wait_s = (self._phase_s - now) % self._hop_s
        return now + (wait_s if wait_s > 0.01 * self._hop_s else wait_s + self._hop_s)

    def _changed(self) -> None:
        """Something may wait now. If something was to be passed on already, the moment stays."""
        self._later = None
        if self._due == math.inf:
            self._due = None

    def flush(self, neighbours: Collection[PeerId], now: float) -> list[tuple[PeerId, Relays]]:
        """What to send to whom now; nothing before it is due, or without neighbours."""
        self._say_what_has_waited(now)
        if now < self.due(now):
            return []
        self._due = None
        everybody = sorted(neighbours)
        newly_chosen = self._eager.choose(everybody)
        if not everybody:
            return []
        outgoing: dict[PeerId, list[Relayed]] = {}
        eager = self._eager.among(everybody)
        for waiting in self._outbox.values():
            relayed, had = waiting.relayed, waiting.known_to
            chosen: Collection[PeerId]
            if relayed.is_flood:
                chosen = [neighbour for neighbour in eager if neighbour not in had]
            else:
                chosen = self._next(waiting, everybody)
                had.update(dict.fromkeys(chosen))
            for neighbour in chosen:
                outgoing.setdefault(neighbour, []).append(relayed)
        self._outbox.clear()
        entries: dict[PeerId, list[RollPart]] = {}
        for number, known in self._sums.items():
            gathering = self._gathering(number) if known.roll.has_news else None
            for to, part in known.roll.flush(everybody, eager, gathering):
                entries.setdefault(to, []).append(part)
        out: list[tuple[PeerId, Relays]] = []
        for to in sorted(outgoing.keys() | entries.keys() | newly_chosen):
            frames = self._frames(to, outgoing.get(to, []), entries.get(to, []))
            out += [(to, frame) for frame in frames or [Relays((), (), is_eager=True)]]
        return out

    def _frames(self, to: PeerId, relays: list[Relayed], entries: Collection[RollPart]) -> list[Relays]:
        return in_frames(relays, entries, is_eager=self._eager.has_chosen(to))

    def lost(self, neighbour: PeerId) -> None:
        """The link to a neighbour has ended."""
        self._changed()
        self._eager.lost(neighbour)

    def _next(self, waiting: _Waiting, neighbours: Collection[PeerId]) -> Collection[PeerId]:
        """Who is to have a message to one peer, or to the collector, now, of those who can be reached."""
        to, had = waiting.relayed.to, waiting.known_to
        others = [neighbour for neighbour in neighbours if neighbour not in had]
        if to is None:
            gathering = self._gathering(waiting.relayed.number)
            if gathering is None:
                return []
            to = gathering.collector
        if to in neighbours:
            return [to]
        known = self._sums.get(waiting.relayed.number)
        ways = known.roll.ways(to) if known is not None else []
        open_ways = [way for way in ways if way in others]
        first, second = waiting.relayed.token[:2]
        if waiting.is_repeated:
            return others
        if not had:
            return [open_ways[first % len(open_ways)]] if open_ways else neighbours
        if not others:
            # A dead end: back to whom it came from first, who will try another.
            back = next(iter(had))
            return [back] if back in neighbours and waiting.relayed.origin != self.own_id else []
        # Without a way of its own it goes to anybody else, who may have one.
        return open_ways[:1] or [others[(second + waiting.relayed.hops) % len(others)]]

    def catch_up(
        self, neighbour: PeerId, now: float, numbers: Collection[int], *, every_s: float
    ) -> list[tuple[PeerId, Relays]]:
        """All floods of these open sums, and their rolls, for a neighbour that has just been met and may have missed some."""
        self._eager.met()
        self._changed()
        if now - self._served.get(neighbour, float("-inf")) < every_s:
            return []
        if len(self._served) >= MAX_SERVED:
            self._served.clear()
        self._served[neighbour] = now
        floods = [
            relayed for number in numbers for relayed in self._sums[number].floods.values() if relayed is not None
        ]
        entries = [part for number in numbers for part in self._sums[number].roll.everything()]
        return [(neighbour, frame) for frame in self._frames(neighbour, floods, entries)]

    # --- receiving ---

    def receive(self, neighbour: PeerId, relays: Relays) -> Iterator[Letter]:
        """Take what a neighbour passes on; gives what is for this peer. Raises RemoteMisbehaviour for what no honest peer
        passes on: a flood whose signature is not the origin's, if it is of a kind that each verifies, or one that is malformed.
        What came before it has counted.
        """
        self._changed()
        if relays.is_eager:
            self._eager.chosen_by(neighbour)
        for part in relays.roll:
            known = self._sums.get(part.number)
            if known is not None:
                gathering = self._gathering(part.number) if part.is_gathered else None
                for origin, message, proof in known.roll.hear(neighbour, part, gathering):
                    yield Letter(origin, part.number, message, proof)
        for relayed in relays.relays:
            known = self._sums.get(relayed.number)
            if known is None:
                continue
            deliver = self._flood if relayed.is_flood else self._gathered if relayed.to is None else self._routed
            letter = deliver(neighbour, relayed, known)
            if letter is not None:
                yield letter

    def _flood(self, neighbour: PeerId, relayed: Relayed, known: _Sum) -> Letter | None:
        name = relayed.signature
        if name in known.floods:
            waiting = self._outbox.get(name)
            if waiting is not None:
                waiting.known_to[neighbour] = None
            return None
        if relayed.origin == self.own_id:
            if self._words.came_back(relayed):
                known.floods[name] = relayed
                self._pass_on(neighbour, relayed, {})
            return None
        letter = self._heard(relayed, known)
        if letter is not None and known.floods[name] is not None:
            self._pass_on(neighbour, relayed, {})
        return letter

    def _heard(self, relayed: Relayed, known: _Sum) -> Letter | None:
        """Of what is for everybody, and new. Notes whether it is news; None for what is beyond the bounds. Raises
        RemoteMisbehaviour.
        """
        message = self._sealer.read(relayed)
        is_proven = not isinstance(message, UNPROVEN)
        count = known.of_origin.get((relayed.origin, is_proven), 0)
        if count >= MAX_FLOODS_OF_ONE or len(known.floods) >= MAX_FLOODS:
            return None
        if is_proven and not self._sealer.is_genuine(relayed):
            raise RemoteMisbehaviour(Refusal.FORGED, "the signature of a relayed message is not its origin's")
        proof = proven if is_proven else functools.partial(self._sealer.is_genuine, relayed)
        letter = Letter(relayed.origin, relayed.number, message, proof)
        known.floods[relayed.signature] = relayed if self._is_news(letter) else None
        known.of_origin[relayed.origin, is_proven] = count + 1
        return letter

    def _gathered(self, neighbour: PeerId, relayed: Relayed, known: _Sum) -> Letter | None:
        """On its way to the collector, who is perhaps this peer. One that takes no part in the sum does not know who that is, and
        tells everybody.
        """
        gathering = self._gathering(relayed.number)
        if relayed.signature in known.floods or relayed.signature in self._outbox:
            return None
        if gathering is not None and gathering.collector != self.own_id:
            if relayed.hops > 0:
                self._pass_on(neighbour, relayed.one_hop_on(), known.had(relayed.signature))
            return None
        if relayed.origin == self.own_id:
            return None
        flood = relayed.with_hops(MAX_HOPS)
        try:
            letter = self._heard(flood, known)
        except RemoteMisbehaviour:  # no fault of the neighbour's, which has not looked into it
            return None
        if letter is None or known.floods[flood.signature] is None:
            return letter
        if gathering is not None:
            self._words.hold(flood, letter, gathering.until)
        else:
            self._say(known, flood)
        return letter

    def _routed(self, neighbour: PeerId, relayed: Relayed, known: _Sum) -> Letter | None:
        if relayed.signature in self._outbox:
            return None
        if relayed.to == self.own_id:
            return self._own(relayed, known)
        # What is for the dead would be passed around until its hops are used up.
        if relayed.hops > 0 and relayed.to is not None and not self._is_dead(relayed.number, relayed.to):
            self._pass_on(neighbour, relayed.one_hop_on(), known.had(relayed.signature))
        return None

    def _own(self, relayed: Relayed, known: _Sum) -> Letter | None:
        """Those who passed it on have not looked into it, so if something is wrong with it that is not the neighbour's fault.
        What was said again may come by several of them.
        """
        if relayed.signature in known.passed:
            return None
        try:
            message = self._sealer.read(relayed)
        except RemoteMisbehaviour:
            return None
        needs_key = isinstance(message, BETWEEN_PARTNERS)
        key = self._key_with(relayed.number, relayed.origin) if needs_key else None
        if (needs_key and key is None) or not self._sealer.is_genuine(relayed, key):
            return None
        known.had(relayed.signature)
        return Letter(relayed.origin, relayed.number, message)

    def _pass_on(self, neighbour: PeerId, relayed: Relayed, known_to: dict[PeerId, None]) -> None:
        known_to.setdefault(neighbour)
        if len(self._outbox) < MAX_WAITING:
            self._outbox[relayed.signature] = _Waiting(relayed, known_to)


def in_frames(relays: list[Relayed], entries: Collection[RollPart] = (), *, is_eager: bool = False) -> list[Relays]:
    """Relays, and parts of the roll before them, in frames of a bounded size, in their order."""
    frames: list[tuple[list[Relayed], list[RollPart]]] = []
    room = 0
    for part in entries:
        if part.size > room:
            frames.append(([], []))
            room = FRAME_BYTES
        room -= part.size
        frames[-1][1].append(part)
    for relayed in relays:
        size = len(relayed.body) + _OVERHEAD
        if size > room or len(frames[-1][0]) >= FRAME_RELAYS:
            frames.append(([], []))
            room = FRAME_BYTES
        room -= size
        frames[-1][0].append(relayed)
    return [Relays(tuple(relayed), tuple(parts), is_eager) for relayed, parts in frames]
