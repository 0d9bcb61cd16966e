"""A lab swarm on a bad network: any graph, messages that are lost, peers that come and go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from p2prec.lab.swarm import LabSwarm, People, disjoint_batches, put, take
from p2prec.manifest import LearningParameters, PrivacyParameters
from p2prec.model.contribution import absorb, contribution, sample_items
from p2prec.model.quantize import table_shapes
from p2prec.model.step import step
from p2prec.peer.learner import privatize
from p2prec.types import BoolArray, IndexArray

ABSENCE_ROUNDS = 10.0
"""Mean length of an absence: long enough that a peer comes back to a swarm that has moved on."""
PEERS_AT_ONCE = 16
"""So many tables stay in the processor's cache: a third faster than all peers at once, and no copies of everything."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What goes wrong, per round."""

    drop: float = 0.0
    """Probability that a message is lost, in [0, 1)."""
    online: float = 1.0
    """Share of the peers that is there at any time, in (0, 1]; absences last ABSENCE_ROUNDS on average, or longer where
    the share asks for it."""


@dataclass(slots=True)
class Traffic:
    """What all peers have sent so far."""

    messages: int = 0
    """Offers, answers and commits, lost ones included."""
    payload_bytes: int = 0
    """Of the tables in offers and answers, without framing and signatures."""
    exchanges: int = 0
    """Applied by both sides."""
    peer_rounds: int = 0
    """Rounds of peers that were there."""


class NetworkedSwarm(LabSwarm):
    """`LabSwarm` under `Conditions`; without any it computes the very same rounds.

    An exchange whose offer or answer is lost leaves both sides as they were. (A lost commit is caught up on when the two
    meet again, so it counts as applied.) As in the daemon, a peer that mixed nothing in a round does not step, and does not
    age; one that is away does nothing at all, and its neighbours choose among those who are there.
    """

    def __init__(
        self,
        parameters: LearningParameters,
        privacy: PrivacyParameters,
        item_keys: Sequence[str],
        seed: bytes,
        people: People,
        rng: np.random.Generator,
        *,
        views: Sequence[IndexArray],
        conditions: Conditions,
    ) -> None:
        super().__init__(parameters, privacy, item_keys, seed, people, rng, views=views)
        self.traffic = Traffic()
        self._conditions = conditions
        self._fate = rng.spawn(1)[0]  # of its own, so that a perfect network draws as `LabSwarm` does
        self._present: BoolArray = self._fate.random(self.n_peers) < conditions.online
        self._rounds_until_contribution = np.zeros(self.n_peers, np.int64)
        self._message_bytes = table_shapes(parameters, len(item_keys)).payload_bytes

    def round(self) -> None:
        self._come_and_go()
        present = self._present
        self.user_factors = self._solved()
        self._contribute_when_due()
        arrived = self._deliver(self._draw_partners())
        for batch in disjoint_batches(arrived):
            for start in range(0, len(batch), PEERS_AT_ONCE):
                self._exchange(*batch[start : start + PEERS_AT_ONCE].T)
        self._step_where_mixed(arrived)
        self.traffic.peer_rounds += int(present.sum())

    def _come_and_go(self) -> None:
        """Two-state Markov chains whose stationary share is `online`."""
        online = self._conditions.online
        if online >= 1:
            return
        absence = max(ABSENCE_ROUNDS, (1 - online) / online)
        leaves, returns = (1 - online) / (online * absence), 1 / absence
        turns = self._fate.random(self.n_peers) < np.where(self._present, leaves, returns)
        self._present = self._present ^ turns

    def _contribute_when_due(self) -> None:
        due = self._present & (self._rounds_until_contribution <= 0)
        self._rounds_until_contribution[due] = self.parameters.contribute_every_rounds
        self._rounds_until_contribution[self._present] -= 1
        if due.all():
            self._contribute()
        elif due.any():
            self._contribute_some(np.flatnonzero(due))

    def _contribute_some(self, peers: IndexArray) -> None:
        everyone, part = self.people, take(self.state, peers)
        items, values = everyone.items[peers], everyone.values[peers]
        weights = sample_items(everyone.weights[peers], self.privacy.max_items_per_contribution, self._rng)
        own = contribution(self.parameters, part.item_factors, self.user_factors[peers], items, values, weights)
        absorb(self.parameters, part, privatize(self.privacy, own, self._rng, peer_axes=1))
        put(self.state, peers, part)

    def _draw_partners(self) -> IndexArray:
        if self._present.all():
            return super()._draw_partners()
        pairs = []
        for peer in self._rng.permutation(np.flatnonzero(self._present)):
            choices = self._views[peer][self._present[self._views[peer]]]
            if len(choices):
                pairs.append((peer, self._rng.choice(choices)))
        return np.array(pairs, np.int64).reshape(-1, 2)

    def _deliver(self, offers: IndexArray) -> IndexArray:
        """The exchanges of which neither offer nor answer is lost."""
        drop, n_offers = self._conditions.drop, len(offers)
        offered = np.ones(n_offers, np.bool_)
        answered = offered
        if drop > 0:
            offered = self._fate.random(n_offers) >= drop
            answered = offered & (self._fate.random(n_offers) >= drop)
        n_answers, n_commits = int(offered.sum()), int(answered.sum())
        self.traffic.messages += n_offers + n_answers + n_commits
        self.traffic.payload_bytes += (n_offers + n_answers) * self._message_bytes
        self.traffic.exchanges += n_commits
        return offers[answered]

    def _step_where_mixed(self, exchanges: IndexArray) -> None:
        mixed = np.unique(exchanges)
        for start in range(0, len(mixed), PEERS_AT_ONCE):
            peers = mixed[start : start + PEERS_AT_ONCE]
            part = take(self.state, peers)
            step(self.parameters, part, self.swarm_size)
            put(self.state, peers, part)


def consensus_distance(swarm: LabSwarm) -> float:
    """How far apart the copies are: root mean square distance of a peer's item factors from their mean, over the norm
    of that mean. 0: all have the same.
    """
    factors = swarm.state.item_factors
    mean = factors.mean(axis=0, dtype=np.float64)
    squared = sum(float(((copy - mean) ** 2).sum()) for copy in factors)
    norm = float(np.linalg.norm(mean))
    return float(np.sqrt(squared / len(factors)) / norm) if norm > 0 else 0.0
