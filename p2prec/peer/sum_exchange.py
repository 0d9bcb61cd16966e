"""Symmetric exchanges of a private sum: both sides move, or neither does, whoever dies in between.

A peer is in one exchange at a time. An initiator that gives up never applies a late answer. A responder that has answered
waits for the commit, and asks for it; if the initiator died, the exchange happened if, and only if, somebody has met the
initiator afterwards: what nobody alive has seen is as if it had not been, on both sides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from p2prec.peer.private_sum import PrivateSum, Share
from p2prec.peer.sum_messages import SumAnswer, SumCommit, SumDecline, SumOffer, SumResolution, SumResolve
from p2prec.types import PeerId

COMMITS_REMEMBERED = 64
"""Exchanges that this peer applied as the initiator, for responders that missed the commit."""


@dataclass(frozen=True, slots=True, eq=False)
class _Open:
    partner: PeerId
    exchange: bytes
    sent: Share
    received: Share | None
    """None: this peer offered, and waits for an answer."""
    since: float


class SumExchanger:
    """The exchanges of one peer in one sum."""

    def __init__(self, value: PrivateSum) -> None:
        self._value = value
        self._open: _Open | None = None
        self._applied: list[bytes] = []

    @property
    def is_free(self) -> bool:
        """Whether the value may change otherwise, or another exchange begin."""
        return self._open is None

    @property
    def partner(self) -> PeerId | None:
        """With whom an exchange is open."""
        return self._open.partner if self._open is not None else None

    def offer(self, partner: PeerId, exchange: bytes, now: float) -> SumOffer:
        """Begin. Call only when `is_free`."""
        assert self._open is None
        share = self._value.outgoing()
        self._open = _Open(partner, exchange, share, None, now)
        return SumOffer(exchange, share)

    def on_offer(self, partner: PeerId, offer: SumOffer, now: float) -> SumAnswer | SumDecline:
        """Answer, or decline while busy."""
        if self._open is not None:
            return SumDecline(offer.exchange)
        share = self._value.outgoing()
        self._open = _Open(partner, offer.exchange, share, offer.share, now)
        return SumAnswer(offer.exchange, share)

    def on_answer(self, partner: PeerId, answer: SumAnswer) -> SumCommit | None:
        """Move. None for an answer that nobody waits for any more."""
        current = self._of(partner, answer.exchange)
        if current is None or current.received is not None:
            return None
        self._open = None
        self._value.apply(partner, current.sent, answer.share)
        self._applied = [*self._applied, answer.exchange][-COMMITS_REMEMBERED:]
        return SumCommit(answer.exchange)

    def on_decline(self, partner: PeerId, decline: SumDecline) -> None:
        current = self._of(partner, decline.exchange)
        if current is not None and current.received is None:
            self._open = None

    def on_commit(self, partner: PeerId, exchange: bytes) -> None:
        """Move as well. A commit to nothing is ignored: it may be late."""
        self._settle(partner, exchange, applied=True)

    def on_resolve(self, resolve: SumResolve) -> SumResolution:
        """Say whether this peer, the initiator, has moved. What is still open is given up: from now on it never will be."""
        if self._open is not None and self._open.exchange == resolve.exchange and self._open.received is None:
            self._open = None
        return SumResolution(resolve.exchange, resolve.exchange in self._applied)

    def on_resolution(self, partner: PeerId, resolution: SumResolution) -> None:
        self._settle(partner, resolution.exchange, applied=resolution.applied)

    def question(self) -> tuple[PeerId, SumResolve] | None:
        """What to ask, of whom, if an answer of this peer's is in doubt."""
        if self._open is None or self._open.received is None:
            return None
        return self._open.partner, SumResolve(self._open.exchange)

    def give_up(self, now: float, deadline_s: float) -> None:
        """Stop waiting for an answer that is overdue."""
        if now >= self.gives_up_at(deadline_s):
            self._open = None

    def gives_up_at(self, deadline_s: float) -> float:
        """When `give_up` will; never while no answer is awaited."""
        if self._open is None or self._open.received is not None:
            return math.inf
        return self._open.since + deadline_s

    def abandon(self) -> None:
        """The sum is mixed anew: what was open is void on both sides."""
        self._open = None

    def partner_died(self, dead: PeerId, seen_changes: int) -> None:
        """End what was open with a dead peer. seen_changes: the latest of its states that anybody alive has seen."""
        current = self._open
        if current is None or current.partner != dead:
            return
        if current.received is None:
            self._open = None
        else:
            self._settle(dead, current.exchange, applied=seen_changes > current.received.trace.changes)

    def _settle(self, partner: PeerId, exchange: bytes, *, applied: bool) -> None:
        current = self._of(partner, exchange)
        if current is None or current.received is None:
            return
        self._open = None
        if applied:
            self._value.apply(partner, current.sent, current.received)

    def _of(self, partner: PeerId, exchange: bytes) -> _Open | None:
        current = self._open
        return current if current is not None and (current.partner, current.exchange) == (partner, exchange) else None
