"""The symmetric exchange: offer, answer, commit, and what happens when the connection breaks in between.

Both sides move by half of the difference of the two transmitted vectors, or neither does. The increment depends on nothing but
those vectors and additions commute, so a responder that missed the commit may apply it whenever it learns of it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from p2prec.config import PeerSettings
from p2prec.errors import RemoteMisbehaviour
from p2prec.model.quantize import QuantizedTables
from p2prec.peer.messages import Answer, Commit, Decline, DeclineReason, Offer, Refusal, Resolution, Resolve
from p2prec.types import PeerId

MAX_IN_DOUBT = 4
"""Answered exchanges without a commit that are kept; a new one then takes the place of the oldest."""
MAX_REMEMBERED = 1024
"""Exchanges that this peer applied as initiator and can still vouch for."""


class SharedModel(Protocol):
    """What an exchange needs of a learner (`p2prec.peer.learner.Learner`)."""

    @property
    def age(self) -> int:
        """Rounds of training behind the model."""
        ...

    def outgoing(self, part: int, rng: np.random.Generator) -> QuantizedTables:
        """A part of the shared tables as they will be transmitted."""
        ...

    def accepts(self, tables: QuantizedTables) -> bool:
        """Whether an honest peer of this swarm can have sent these tables."""
        ...

    def apply(self, sent: QuantizedTables, received: QuantizedTables, other_age: float) -> None:
        """Move by this side's increment of the exchange."""
        ...


@dataclass(frozen=True, slots=True)
class Initiated:
    """An offer of ours without an answer yet."""

    exchange_id: bytes
    peer_id: PeerId
    sent: QuantizedTables
    started_at: float


@dataclass(frozen=True, slots=True)
class InDoubt:
    """An answer of ours without a commit yet."""

    exchange_id: bytes
    peer_id: PeerId
    sent: QuantizedTables
    received: QuantizedTables
    other_age: int
    started_at: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """An exchange that ended, one way or the other."""

    peer_id: PeerId
    initiated: bool
    applied: bool
    started_at: float
    reason: str = ""


class Exchanger:
    """At most one exchange in flight as initiator, and one as responder."""

    def __init__(self, model: SharedModel, settings: PeerSettings) -> None:
        self._model = model
        self._settings = settings
        self._initiated: Initiated | None = None
        self._in_doubt: dict[bytes, InDoubt] = {}
        self._given_up: list[Outcome] = []
        self._vouched: OrderedDict[tuple[PeerId, bytes], None] = OrderedDict()

    @property
    def initiating(self) -> bool:
        return self._initiated is not None

    @property
    def in_doubt(self) -> int:
        """Answered exchanges whose commit has not arrived."""
        return len(self._in_doubt)

    # --- as initiator ---

    def begin(self, peer_id: PeerId, exchange_id: bytes, part: int, now: float, rng: np.random.Generator) -> Offer:
        """Open an exchange of a part of the tables. The caller has checked `initiating`."""
        assert self._initiated is None
        sent = self._model.outgoing(part, rng)
        self._initiated = Initiated(exchange_id, peer_id, sent, now)
        return Offer(exchange_id, self._model.age, sent)

    def on_answer(self, peer_id: PeerId, answer: Answer) -> tuple[Commit | Resolution, Outcome | None]:
        """Apply an answer and commit; an answer that comes after we gave up is told that nothing was applied."""
        pending = self._initiated
        if pending is None or (pending.exchange_id, pending.peer_id) != (answer.exchange_id, peer_id):
            return Resolution(answer.exchange_id, applied=False), None
        self._initiated = None
        self._check(answer.tables)
        if answer.tables.part != pending.sent.part:
            raise RemoteMisbehaviour(Refusal.UNEXPECTED, "an answer about another part of the tables")
        self._model.apply(pending.sent, answer.tables, answer.age_rounds)
        self._vouched[peer_id, answer.exchange_id] = None
        while len(self._vouched) > MAX_REMEMBERED:
            self._vouched.popitem(last=False)
        return Commit(answer.exchange_id), Outcome(peer_id, True, True, pending.started_at)

    def on_decline(self, peer_id: PeerId, decline: Decline) -> Outcome | None:
        pending = self._initiated
        if pending is None or (pending.exchange_id, pending.peer_id) != (decline.exchange_id, peer_id):
            return None  # we gave up first
        self._initiated = None
        return Outcome(peer_id, True, False, pending.started_at, decline.reason.name.lower())

    def on_resolve(self, peer_id: PeerId, resolve: Resolve) -> Resolution:
        return Resolution(resolve.exchange_id, applied=(peer_id, resolve.exchange_id) in self._vouched)

    # --- as responder ---

    def on_offer(self, peer_id: PeerId, offer: Offer, now: float, rng: np.random.Generator) -> Answer | Decline:
        """Answer an offer, or decline while another one is in flight.

        A peer has one exchange in doubt at most: whoever does not commit is answered again once it has said what became of
        it, and does not keep others waiting meanwhile.
        """
        self._check(offer.tables)
        fresh = now - self._settings.exchange_deadline_s
        if offer.exchange_id in self._in_doubt:
            raise RemoteMisbehaviour(Refusal.UNEXPECTED, "an exchange id was used twice")
        if any(d.peer_id == peer_id or d.started_at > fresh for d in self._in_doubt.values()):
            return Decline(offer.exchange_id, DeclineReason.BUSY)
        if len(self._in_doubt) >= MAX_IN_DOUBT:
            oldest = min(self._in_doubt.values(), key=lambda d: d.started_at)
            self._given_up.append(self._settle(oldest, applied=False))
        sent = self._model.outgoing(offer.tables.part, rng)
        self._in_doubt[offer.exchange_id] = InDoubt(
            offer.exchange_id, peer_id, sent, offer.tables, offer.age_rounds, now
        )
        return Answer(offer.exchange_id, self._model.age, sent)

    def on_commit(self, peer_id: PeerId, exchange_id: bytes) -> Outcome:
        """The initiator applied, so do we. Raises RemoteMisbehaviour for a commit to nothing."""
        doubt = self._in_doubt.get(exchange_id)
        if doubt is None or doubt.peer_id != peer_id:
            raise RemoteMisbehaviour(Refusal.UNEXPECTED, "commit to an exchange that was not answered")
        return self._settle(doubt, applied=True)

    def on_resolution(self, peer_id: PeerId, resolution: Resolution) -> Outcome | None:
        doubt = self._in_doubt.get(resolution.exchange_id)
        if doubt is None or doubt.peer_id != peer_id:
            return None
        return self._settle(doubt, applied=resolution.applied)

    def _settle(self, doubt: InDoubt, *, applied: bool) -> Outcome:
        del self._in_doubt[doubt.exchange_id]
        if applied:
            self._model.apply(doubt.sent, doubt.received, doubt.other_age)
        return Outcome(doubt.peer_id, False, applied, doubt.started_at, "" if applied else "not committed")

    # --- time and loss ---

    def questions_for(self, peer_id: PeerId) -> list[Resolve]:
        """What to ask a peer that we meet again."""
        return [Resolve(d.exchange_id) for d in self._in_doubt.values() if d.peer_id == peer_id]

    def lost(self, peer_id: PeerId) -> Outcome | None:
        """The connection broke: our offer is void. Answered exchanges stay in doubt until the peer is met again."""
        pending = self._initiated
        if pending is None or pending.peer_id != peer_id:
            return None
        self._initiated = None
        return Outcome(peer_id, True, False, pending.started_at, "connection lost")

    def expire(self, now: float) -> list[Outcome]:
        """Give up what has waited too long; returns that, and what had to make room since the last call."""
        outcomes, self._given_up = self._given_up, []
        pending = self._initiated
        if pending is not None and now - pending.started_at >= self._settings.exchange_deadline_s:
            self._initiated = None
            outcomes.append(Outcome(pending.peer_id, True, False, pending.started_at, "no answer"))
        for doubt in list(self._in_doubt.values()):
            if now - doubt.started_at >= self._settings.in_doubt_deadline_s:
                outcomes.append(self._settle(doubt, applied=False))
        return outcomes

    def _check(self, tables: QuantizedTables) -> None:
        if not self._model.accepts(tables):
            raise RemoteMisbehaviour(Refusal.MALFORMED, "tables that no honest peer of this swarm can send")
