"""A swarm without its network: the daemon's own learners, and between them nothing but the course of the exchanges.

`p2prec.lab.schedule` says who meets whom; what a peer does then is what `p2prec.peer.peer` does, without sockets, signatures
and clocks. The simulated production peers of `--engine peers` reach the same numbers (tests/simulation/test_parity.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from p2prec.data.interactions import TrainingPairs
from p2prec.lab.schedule import Conditions, Fate, Meeting, Schedule, one_by_one
from p2prec.manifest import LearningParameters, PrivacyParameters
from p2prec.model.quantize import Transmitted, between, move, other_share, table_shapes, transmit
from p2prec.model.state import ModelState, initial_state
from p2prec.peer.learner import Learner
from p2prec.types import BoolArray, FloatArray, IndexArray


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

    def count(self, meetings: IndexArray, part_bytes: Sequence[int], present: BoolArray) -> None:
        """Add a round of `Schedule.draw`. part_bytes: of a message about each part; present: who was there."""
        part, fate = meetings[:, 2], meetings[:, 3]
        answered, applied = fate != Fate.OFFER_LOST, int((fate == Fate.APPLIED).sum())
        self.messages += len(meetings) + int(answered.sum()) + applied
        self.payload_bytes += int(((1 + answered) * np.array(part_bytes)[part]).sum())
        self.exchanges += applied
        self.peer_rounds += int(present.sum())


class LabSwarm:
    """N peers that gossip over a fixed graph, or with everyone."""

    def __init__(
        self,
        parameters: LearningParameters,
        privacy: PrivacyParameters,
        item_keys: Sequence[str],
        seed: bytes,
        histories: Sequence[TrainingPairs],
        rng: np.random.Generator,
        *,
        views: Sequence[IndexArray] | None = None,
        conditions: Conditions | None = None,
    ) -> None:
        """histories: what each peer learns from. views: whom each peer can exchange with; None: with everyone.
        rng: its children decide everything random, one for the course of events and one for each peer.
        """
        n_peers = len(histories)
        self.parameters = parameters
        self.traffic = Traffic()
        course_rng, *self._rngs = rng.spawn(n_peers + 1)
        views = everyone(n_peers) if views is None else views
        self.schedule = Schedule(views, parameters.n_parts, conditions or Conditions(), course_rng)
        states = self._copies(initial_state(parameters, seed, item_keys), n_peers)
        self.learners = [
            _learner(Learner(parameters, privacy, item_keys, seed, state), own, n_peers)
            for state, own in zip(states, histories, strict=True)
        ]
        self._rounds = np.zeros(n_peers, np.int64)
        self._mixed = np.zeros(n_peers, np.bool_)
        self._part_bytes = part_bytes(parameters, len(item_keys))

    def _copies(self, start: ModelState, count: int) -> Iterable[ModelState]:
        """A state for each peer."""
        return (start.copy() for _ in range(count))

    @property
    def n_peers(self) -> int:
        return len(self.learners)

    def run(self, rounds: int) -> None:
        for _ in range(rounds):
            self.round()

    def round(self) -> None:
        """One round of every peer that is there."""
        meetings = self.schedule.draw()
        for meeting in one_by_one(meetings):
            self.meet(meeting)
        self.count(self.traffic, meetings)

    def count(self, traffic: Traffic, meetings: IndexArray) -> None:
        """Add the round that was drawn last."""
        traffic.count(meetings, self._part_bytes, self.schedule.present)

    def scores(self) -> FloatArray:
        """(n_peers, n_items) each peer's scores by its own copy of the item factors."""
        return scores_of(self.learners)

    def consensus_distance(self) -> float:
        """How far apart the copies of the item factors are (`consensus_distance`)."""
        return consensus_distance([learner.state.item_factors for learner in self.learners])

    def meet(self, meeting: Meeting) -> None:
        """Play one meeting, both sides."""
        one, other = self.learners[meeting.initiator], self.learners[meeting.responder]
        if meeting.begins:
            self.begin_round(meeting.initiator)
        sent = self.transmit(meeting.initiator, meeting.part)
        if meeting.fate is Fate.OFFER_LOST:
            return
        received = self.transmit(meeting.responder, meeting.part)
        if meeting.fate is Fate.ANSWER_LOST:
            return
        by = between(sent, received)
        # Not 1 minus the one share: what two devices compute, each for itself, is met to the last bit.
        shares = other_share(one.age, other.age), other_share(other.age, one.age)
        move(self.parameters, one.state, by, shares[0], 0.5)
        move(self.parameters, other.state, by, -shares[1], -0.5)
        for peer in meeting.pair:
            self._exchanged(peer)

    def _exchanged(self, peer: int) -> None:
        self.learners[peer].exchanged()
        self._mixed[peer] = self._rounds[peer] > 0  # what arrives before the first own round is not stepped on

    def transmit(self, peer: int, part: int) -> Transmitted:
        """What a peer sends about a part of its tables."""
        return transmit(self.parameters, self.learners[peer].state, part, self._rngs[peer])

    def begin_round(self, peer: int) -> None:
        """As `Peer` begins one: step on what was mixed, then contribute when due."""
        learner = self.learners[peer]
        if self._mixed[peer]:
            self._mixed[peer] = False
            learner.step()
        self._rounds[peer] += 1
        if learner.due_to_contribute:
            learner.contribute(self._rngs[peer])


def part_bytes(parameters: LearningParameters, n_items: int) -> list[int]:
    """The payload of a message about each part of the tables."""
    return [table_shapes(parameters, n_items, part).payload_bytes for part in range(parameters.n_parts)]


def everyone(n_peers: int) -> list[IndexArray]:
    """Views of a swarm in which each peer knows all others."""
    return [np.delete(np.arange(n_peers), peer) for peer in range(n_peers)]


def scores_of(learners: Sequence[Learner]) -> FloatArray:
    """(n_peers, n_items) each peer's scores by its own copy of the item factors."""
    rows = np.empty((len(learners), learners[0].n_items), np.float32)
    for row, learner in zip(rows, learners, strict=True):
        learner.solve()
        row[:] = learner.scores()
    return rows


def consensus_distance(factors: Sequence[FloatArray]) -> float:
    """How far apart copies are: root mean square distance of a peer's item factors (n_items, c) from their mean, over the norm
    of that mean. 0: all have the same.
    """
    mean = np.zeros(factors[0].shape)
    for copy in factors:
        mean += copy
    mean /= len(factors)
    squared = sum(float(((copy - mean) ** 2).sum()) for copy in factors)
    norm = float(np.linalg.norm(mean))
    return float(np.sqrt(squared / len(factors)) / norm) if norm > 0 else 0.0


def _learner(learner: Learner, own: TrainingPairs, n_peers: int) -> Learner:
    learner.set_interactions(own.items, own.values, own.times)
    learner.swarm_size_estimate = float(n_peers)
    return learner
