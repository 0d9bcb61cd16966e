"""Sixty-four peers of one private sum on a network that delivers in order, and a hand that kills them at any moment."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

import numpy as np

from p2prec.errors import StoreError
from p2prec.model.pairs import VOID_ABOVE
from p2prec.peer.sum_messages import Gone, Outgoing, SumMessage
from p2prec.peer.sum_peer import SumPeer
from p2prec.peer.sum_times import Timetable
from p2prec.privacy.plan import PrivacyPlan, SumPlan
from p2prec.types import FloatArray, PeerId, SwarmId

N_PEERS, N_PEOPLE, COUNT, N_DRAWN = 64, 56, 480, 48
PLAN: SumPlan = PrivacyPlan.of(1.0, 1e-5, N_PEOPLE).popularity
TIMES = Timetable(
    start=0.0,
    enrol_s=1.0,
    contribute_s=2.0,
    recover_s=12.0,
    end_s=36.0,
    again_s=24.0,
    exchange_s=1.0,
    notice_s=0.6,
    answer_s=2.0,
)
NOTICED_S = 0.5
"""From a death until everybody is told."""

LINK_LOST_S = 0.05
"""Until its neighbours have noticed that their links to it are gone."""

Killer = Callable[[PeerId, PeerId, SumMessage, float], list[PeerId]]
"""Sees each message before it arrives: sender, receiver,
message, time. Whom it returns dies at once; the message of a dead sender arrives all the same, that to a dead receiver does
not."""


class SumWorld:
    """Runs to the end of the sum; afterwards `error_ratio` says how much noise is left."""

    def __init__(
        self,
        seed: int,
        killer: Killer | None = None,
        silent: frozenset[int] = frozenset(),
        *,
        is_void: bool = False,
        full: frozenset[int] = frozenset(),
    ) -> None:
        """silent: peers whose statistic is 0; full: those whose disk is, so that they cannot contribute. is_void: everybody finds
        the sum void at its end; otherwise only a copy with more than 1.5 times the planned noise is, by a judge who knows the
        truth.
        """
        self._finds_void = is_void
        self.rng = np.random.default_rng(seed)
        self.ids = [PeerId(f"peer{n:03d}") for n in range(N_PEERS)]
        self.statistics = {peer: self._statistic(n in silent) for n, peer in enumerate(self.ids)}
        self.ledger: list[PeerId] = []
        self._full = {self.ids[n] for n in full}
        self.peers = {peer: self._made(peer) for peer in self.ids}
        self.dead: set[PeerId] = set()
        self.sent: list[tuple[float, PeerId, PeerId, SumMessage]] = []
        self.now = 0.0
        self.deaf: set[tuple[PeerId, PeerId]] = set()
        """Sender and receiver of messages to one peer that never arrive."""
        self._killer = killer
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._last_arrival: dict[tuple[PeerId, PeerId], float] = {}

    def _statistic(self, silent: bool) -> FloatArray:
        # The same few draws again and again: what is judged is the noise, which is new in every value.
        values = np.tile(self.rng.normal(size=N_DRAWN), COUNT // N_DRAWN)
        return (0 * values if silent else values / np.linalg.norm(values)).astype(np.float32)

    def _made(self, peer: PeerId) -> SumPeer:
        return SumPeer(
            peer,
            SwarmId(bytes(32)),
            1,
            PLAN,
            N_PEOPLE,
            COUNT,
            lambda: self.statistics[peer],
            lambda: self._record(peer),
            TIMES,
            np.random.default_rng(self.rng.integers(2**32)),
            is_void=lambda mean: self._finds_void or self._noise_in([mean]) > VOID_ABOVE,
        )

    def _record(self, peer: PeerId) -> None:
        if peer in self._full:
            raise StoreError("disk full")
        self.ledger.append(peer)

    @property
    def living(self) -> list[PeerId]:
        return [peer for peer in self.ids if self.lives(peer)]

    def lives(self, peer: PeerId) -> bool:
        return peer not in self.dead and not self.peers[peer].has_left

    def at(self, time: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (time, next(self._order), action))

    def kill(self, peer: PeerId) -> None:
        """Without a word. Everybody else learns of it NOTICED_S later."""
        if peer in self.dead:
            return
        self.dead.add(peer)
        for other in self.ids:
            self.at(self.now + LINK_LOST_S, lambda other=other: self._link_lost(other, peer))  # type: ignore[misc]
            self.at(self.now + NOTICED_S, lambda other=other: self._told(other, peer))  # type: ignore[misc]

    def _link_lost(self, other: PeerId, dead: PeerId) -> None:
        if self.lives(other):
            neighbours = [one for one in self.living if one != other]
            self.send(other, self.peers[other].link_lost(dead, neighbours, self.now))

    def _told(self, other: PeerId, dead: PeerId) -> None:
        if self.lives(other):
            self.send(other, self.peers[other].peer_died(dead, self.now))

    def send(self, sender: PeerId, messages: Outgoing) -> None:
        for to, message in messages:
            for receiver in self.ids if to is None else [to]:
                if receiver != sender and (to is None or (sender, receiver) not in self.deaf):
                    # In order, as on one connection.
                    arrival = max(
                        self.now + 0.01 + 0.1 * self.rng.random(),
                        self._last_arrival.get((sender, receiver), 0.0) + 1e-6,
                    )
                    self._last_arrival[sender, receiver] = arrival
                    self.at(arrival, lambda s=sender, r=receiver, m=message: self._arrives(s, r, m))  # type: ignore[misc]

    def _arrives(self, sender: PeerId, receiver: PeerId, message: SumMessage) -> None:
        for victim in self._killer(sender, receiver, message, self.now) if self._killer is not None else []:
            self.kill(victim)
        if self.lives(receiver):
            self.sent.append((self.now, sender, receiver, message))
            one = self.peers[receiver]
            gone = isinstance(message, Gone)
            self.send(receiver, one.peer_died(sender, self.now) if gone else one.receive(sender, message, self.now))

    def _ticks(self, peer: PeerId) -> None:
        if not self.lives(peer):
            return
        neighbours = [other for other in self.living if other != peer]
        self.send(peer, self.peers[peer].tick(self.now, neighbours))
        if not self.peers[peer].is_over:
            self.at(self.now + 0.2 + 0.05 * self.rng.random(), lambda: self._ticks(peer))

    def run(self) -> SumWorld:
        for peer in self.ids:
            self.at(0.05 * self.rng.random(), lambda peer=peer: self._ticks(peer))  # type: ignore[misc]
        while self._queue:
            self.now, _, action = heapq.heappop(self._queue)
            action()
        return self

    # --- what came out ---

    def error_ratio(self) -> float:
        """Root mean square error of all living copies, over the noise that the plan puts into a mean of this many."""
        return self._noise_in([self.peers[peer].value.mean() for peer in self.living])

    def _noise_in(self, means: list[FloatArray]) -> float:
        truth = np.mean([self.statistics[peer] for peer in set(self.ledger)], axis=0)
        errors = [mean - truth for mean in means]
        planned = PLAN.independent_std / np.sqrt(len(set(self.ledger)))
        return float(np.sqrt(np.mean(np.square(errors))) / planned)

    def total_weight(self) -> float:
        return sum(self.peers[peer].value.weight for peer in self.living)
