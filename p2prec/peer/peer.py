"""One peer, sans I/O: it is told what happened and when, and says what to do next.

The driver (`p2prec.daemon`, or the simulator) calls `opened`, `received`, `refused`, `closed`, `dial_failed`, `sighted` and
`tick`, each with the time; after each call it carries out `take_actions()` in order and logs `take_events()`, and calls `tick`
again no later than `next_deadline()`. Nothing here reads a clock, a socket, a file or a global random state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from p2prec.config import PeerSettings
from p2prec.errors import RemoteMisbehaviour
from p2prec.manifest import Manifest
from p2prec.peer.book import AddressBook
from p2prec.peer.contributor import Contributor, Ledger
from p2prec.peer.events import Action, Event, ExchangeDone, ExchangeFailed, ModelRestarted
from p2prec.peer.exchange import Exchanger, Outcome
from p2prec.peer.learner import Learner
from p2prec.peer.messages import (
    Answer,
    Commit,
    Decline,
    DeclineReason,
    Hello,
    Message,
    Offer,
    Refusal,
    Resolution,
    Resolve,
)
from p2prec.peer.neighbourhood import Neighbourhood
from p2prec.peer.pace import OFFER_ATTEMPTS, Pace, RandomPace
from p2prec.peer.sum_messages import InSum, Relays
from p2prec.peer.view import Link, View
from p2prec.types import PeerId

if TYPE_CHECKING:  # only swarms with a promise carry them
    from p2prec.peer.private_peer import Outbox, PrivatePeer


class Peer:
    """The core: the rounds and exchanges of one peer, over its `Neighbourhood`; or, in a swarm with a promise, its private sums
    and nothing else.
    """

    def __init__(
        self,
        *,
        peer_id: PeerId,
        instance: bytes,
        manifest: Manifest,
        learner: Learner,
        ledger: Ledger,
        settings: PeerSettings,
        rng: np.random.Generator,
        learning_rng: np.random.Generator,
        random_bytes: Callable[[int], bytes],
        now: float,
        agent: str = "",
        pace: Pace | None = None,
        swarm_size: int | None = None,
        private: PrivatePeer | None = None,
        unix_offset_s: float = 0.0,
    ) -> None:
        """`random_bytes` makes ids and nonces that others must not guess (os.urandom), `learning_rng` the noise, samples and
        rounding of what is learned, `rng` all other choices. `pace`: None for one of `rng`. `swarm_size`: where it is known for
        certain (a simulation); None: the peers in the address book, and this one. `private`: given if, and only if, the manifest
        has a promise; `unix_offset_s`: what to add to `now` to have seconds since 1970.
        """
        if (private is None) != (manifest.promise is None):
            raise ValueError("a swarm with a promise has private sums, and no other has")
        self.peer_id = peer_id
        self.instance = instance
        self.learner = learner
        self.listen_port = 0
        self.rounds = 0
        self.exchanges = 0
        self.neighbourhood = Neighbourhood(
            peer_id=peer_id,
            instance=instance,
            settings=settings,
            round_interval_s=manifest.learning.round_interval_s if private is None else private.pace_s,
            n_parts=manifest.learning.n_parts,
            rng=rng,
            random_bytes=random_bytes,
            now=now,
            on_met=self._met,
            on_lost=self._lost,
        )
        self.private = private
        if private is not None:
            private.objection = self._objection
        self.unix_offset_s = unix_offset_s
        """May be set anew, when the system's clock was."""
        self._now = now
        self._manifest = manifest
        self._contributor = Contributor(learner, ledger, manifest)
        self._settings = settings
        self._learning_rng = learning_rng
        self._random_bytes = random_bytes
        self._agent = agent
        self._exchanger = Exchanger(learner, settings)
        self._pace = pace or RandomPace(manifest.learning.round_interval_s, rng)
        self._swarm_size = swarm_size
        self._next_tick = now
        self._next_round = self._pace.first_round(now)
        self._part = 0
        """Which part of the tables this round's next exchange is about."""
        self._asked: set[PeerId] = set()
        """Neighbours that were made an offer of this part in this round."""
        self._mixed = False
        """Whether this round's exchange has been applied: a round that mixed nothing steps nothing."""

    # --- what the driver collects ---

    def take_actions(self) -> list[Action]:
        actions, self.neighbourhood.actions = self.neighbourhood.actions, []
        return actions

    def take_events(self) -> list[Event]:
        events, self.neighbourhood.events = self.neighbourhood.events, []
        return events

    def next_deadline(self) -> float:
        """When `tick` is due next. All finer deadlines are multiples of a tick, which is well below each of them."""
        if self.private is not None and not self.neighbourhood.leaving:
            due = self.private.next_deadline - self.unix_offset_s
            return due if due < self._next_tick else self._next_tick
        return min(self._next_tick, self._next_round)

    @property
    def book(self) -> AddressBook:
        return self.neighbourhood.book

    @property
    def view(self) -> View:
        return self.neighbourhood.view

    @property
    def neighbours(self) -> list[Link]:
        return list(self.view.neighbours.values())

    @property
    def refusals(self) -> Counter[str]:
        """Refused messages by reason, from all neighbours."""
        return self.neighbourhood.refusals

    @property
    def contributions(self) -> int:
        return self._contributor.contributions

    @property
    def in_doubt(self) -> int:
        return self._exchanger.in_doubt

    @property
    def conflict_host(self) -> str | None:
        """Where the same identity was last met, while that stops this peer's exchanges."""
        return self.neighbourhood.double.host

    # --- what the driver reports ---

    def sighted(self, peer_id: PeerId, instance: bytes | None, host: str, port: int, source: str, now: float) -> None:
        """Discovery found a peer. `instance` is known from mDNS only."""
        self.neighbourhood.sighted(peer_id, instance, host, port, source, now)

    def dial_failed(self, host: str, port: int, reason: str, now: float) -> None:
        self.neighbourhood.dial_failed(host, port, reason, now)

    def opened(
        self, number: int, remote_id: PeerId, host: str, *, outbound: bool, port: int, session_nonce: bytes, now: float
    ) -> None:
        """A connection exists and its other end is proven. `port`: where we dialled (outbound only)."""
        hello = Hello(
            self._manifest.swarm_id,
            self.instance,
            session_nonce,
            self.listen_port,
            self.learner.age,
            self._agent[:64],
        )
        self.neighbourhood.opened(number, remote_id, host, outbound=outbound, port=port, hello=hello, now=now)

    def closed(self, number: int, reason: str, now: float) -> None:
        """A connection ended without our doing."""
        self._now = now
        self.neighbourhood.closed(number, reason, now)

    def refused(self, number: int, error: RemoteMisbehaviour, now: float) -> None:
        """A message on this link broke the protocol (found by the wire layer or by this core)."""
        self.neighbourhood.refused(number, error, now)

    def received(self, number: int, message: Message, now: float) -> None:
        """A message that the wire layer has authenticated and validated."""
        link = self.view.links.get(number)
        if link is None:
            return  # it crossed our goodbye
        link.last_heard, link.ping_sent_at = now, None
        try:
            if not link.messages.take(now):
                raise RemoteMisbehaviour(Refusal.UNEXPECTED, "a flood of messages")
            self._now = now
            self._handle(link, message, now)
        except RemoteMisbehaviour as error:
            self.refused(number, error, now)

    def leave(self, now: float) -> None:
        """Say goodbye to everybody; afterwards the driver flushes and closes."""
        if self.private is not None:
            self._deliver(self.private.leave(now + self.unix_offset_s))
        self.neighbourhood.leave(now)

    # --- time ---

    def tick(self, now: float) -> None:
        self._now = now
        if self.neighbourhood.leaving:
            self._next_tick = self._next_round = now + self._settings.tick_interval_s
            return
        if now >= self._next_tick:
            self.neighbourhood.excuse(now - self._next_tick)
            self._next_tick = now + self._settings.tick_interval_s
            self.neighbourhood.look_after(now)
            for outcome in self._exchanger.expire(now):
                self._report(outcome, now)
        if self.private is not None:
            self.neighbourhood.is_steady = self.private.is_under_way
            if now >= self.private.next_deadline - self.unix_offset_s:
                self._deliver(self.private.tick(now + self.unix_offset_s, self.view.neighbours.keys()))
            return
        if now >= self._next_round:
            self._next_round = self._pace.next_round(self._next_round, now)
            self._begin_round(now)

    # --- rounds ---

    def _begin_round(self, now: float) -> None:
        """Finish the last round, then contribute when due, and offer an exchange (docs/algorithm.md)."""
        self._finish_round()
        if not self.view.neighbours or self.conflict_host is not None:
            return
        self.rounds += 1
        self.learner.swarm_size_estimate = self._swarm_size or len(self.book.peers) + 1
        self.neighbourhood.events.extend(self._contributor.round_begins(self._learning_rng))
        self._part = 0
        self._asked = set()
        self._offer(now)

    def _finish_round(self) -> None:
        """Step on what was mixed; a round that mixed nothing steps nothing, so a lonely peer does not drift or age."""
        if self._mixed:
            self._mixed = False
            if not self.learner.step():
                self.neighbourhood.events.append(ModelRestarted())

    def _offer(self, now: float) -> None:
        if self._exchanger.initiating or len(self._asked) >= OFFER_ATTEMPTS or self.conflict_host is not None:
            return
        link = self._pace.partner(self.view, self._part, frozenset(self._asked))
        if link is not None:
            self._asked.add(link.remote_id)
            exchange_id = self._random_bytes(16)
            offer = self._exchanger.begin(link.remote_id, exchange_id, self._part, now, self._learning_rng)
            self.neighbourhood.send(link, offer)

    def _report(self, outcome: Outcome, now: float) -> None:
        if outcome.applied:
            self.exchanges += 1
            # What arrives before the first own round is not stepped on: a starting swarm would bend its common start, of which
            # everything later is made, towards the few who contributed first (tests/simulation/test_parity.py).
            self._mixed = self.rounds > 0
            link = self.view.neighbours.get(outcome.peer_id)
            if link is not None:
                link.exchanges += 1
            self.neighbourhood.events.append(ExchangeDone(outcome.peer_id, outcome.initiated, now - outcome.started_at))
            if outcome.initiated and self._part + 1 < self._manifest.learning.n_parts:
                self._part += 1
                self._asked = set()
                self._offer(now)
            return
        self.neighbourhood.events.append(ExchangeFailed(outcome.peer_id, outcome.initiated, outcome.reason))
        if outcome.initiated:
            self._offer(now)

    # --- messages ---

    def _handle(self, link: Link, message: Message, now: float) -> None:
        if self.neighbourhood.handle(link, message, now):
            return
        if self.private is not None:
            self._handle_private(self.private, link, message, now + self.unix_offset_s)
            return
        match message:
            case Offer():
                self._on_offer(link, message, now)
            case Answer():
                reply, outcome = self._exchanger.on_answer(link.remote_id, message)
                self.neighbourhood.send(link, reply)
                if outcome is not None:
                    self._report(outcome, now)
            case Commit(exchange_id):
                self._report(self._exchanger.on_commit(link.remote_id, exchange_id), now)
            case Decline():
                declined = self._exchanger.on_decline(link.remote_id, message)
                if declined is not None:
                    self._report(declined, now)
            case Resolve():
                self.neighbourhood.send(link, self._exchanger.on_resolve(link.remote_id, message))
            case Resolution():
                resolved = self._exchanger.on_resolution(link.remote_id, message)
                if resolved is not None:
                    self._report(resolved, now)

    def _on_offer(self, link: Link, offer: Offer, now: float) -> None:
        if self.conflict_host is not None:
            self.neighbourhood.send(link, Decline(offer.exchange_id, DeclineReason.QUARANTINED))
            return
        if not link.offers.take(now):
            raise RemoteMisbehaviour(Refusal.UNEXPECTED, "a flood of offers")
        self.neighbourhood.send(link, self._exchanger.on_offer(link.remote_id, offer, now, self._learning_rng))

    # --- private sums ---

    def _handle_private(self, private: PrivatePeer, link: Link, message: Message, unix_now: float) -> None:
        if not isinstance(message, (InSum, Relays)):
            raise RemoteMisbehaviour(Refusal.UNEXPECTED, "an exchange of tables in a swarm with a promise")
        if self.view.neighbours.get(link.remote_id) is not link:
            return  # this link is about to be closed: another one joins the same pair
        self._deliver(private.received(link.remote_id, message, unix_now))

    def _deliver(self, outbox: Outbox) -> None:
        for to, message in outbox:
            link = self.view.neighbours.get(to)
            if link is not None:
                self.neighbourhood.send(link, message)

    def _objection(self) -> str:
        """Why nothing may be contributed now."""
        return "this identity also runs on another machine" if self.conflict_host is not None else ""

    # --- neighbours that come and go ---

    def _met(self, link: Link) -> None:
        """A peer has become a neighbour (again)."""
        if self.private is not None:
            self._deliver(self.private.met(link.remote_id, self._now + self.unix_offset_s))
        for question in self._exchanger.questions_for(link.remote_id):
            self.neighbourhood.send(link, question)

    def _lost(self, peer_id: PeerId) -> None:
        """A neighbour's link has ended: our offer to it is void."""
        if self.private is not None:
            self._deliver(self.private.lost(peer_id, self._now + self.unix_offset_s))
        outcome = self._exchanger.lost(peer_id)
        if outcome is not None:
            self.neighbourhood.events.append(ExchangeFailed(outcome.peer_id, outcome.initiated, outcome.reason))
