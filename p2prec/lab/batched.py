"""`LabSwarm` with a leading peer axis: exchanges that touch no peer twice are one array operation, wherever the arrays are.

It plays the same course (`p2prec.lab.schedule`) with the same kernels, and given the same random bits reaches the same tables to
rounding (tests/unit/test_lab_batched.py). On a processor `LabSwarm` is faster; this one is for a GPU, which wants much to do at
once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields

import numpy as np

from p2prec.data.interactions import TrainingPairs
from p2prec.lab.backend import Backend, Randoms
from p2prec.lab.people import People
from p2prec.lab.schedule import Conditions, Fate, Meeting, Schedule, independent_batches, one_by_one
from p2prec.lab.swarm import Traffic, consensus_distance, everyone, part_bytes
from p2prec.manifest import LearningParameters, PrivacyParameters
from p2prec.model.contribution import absorb, draw_probe
from p2prec.model.quantize import between, move, other_share, transmit
from p2prec.model.rounding import MAX_MAGNITUDE
from p2prec.model.state import FIELDS, ModelState, initial_state, served_factors
from p2prec.model.step import step
from p2prec.model.user import scores
from p2prec.peer.learner import privatize
from p2prec.types import FloatArray, IndexArray

ON_THE_HOST = ("age", "contributions")
"""Fields of a state with one number a peer: they stay with the control flow that reads them."""


class BatchedSwarm:
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
        backend: Backend,
        views: Sequence[IndexArray] | None = None,
        conditions: Conditions | None = None,
        randoms: Randoms | None = None,
    ) -> None:
        """As `LabSwarm`. randoms: None: drawn where the arrays are."""
        n_peers = len(histories)
        self.parameters, self.privacy = parameters, privacy
        self.traffic = Traffic()
        course_rng, *peer_rngs = rng.spawn(n_peers + 1)
        views = everyone(n_peers) if views is None else views
        self._schedule = Schedule(views, parameters.n_parts, conditions or Conditions(), course_rng)
        self._backend = backend
        self._randoms = backend.randoms(peer_rngs[0]) if randoms is None else randoms
        people = People.of([(own.items, own.values) for own in histories], [own.times for own in histories])
        self._people = People(*(backend.array(getattr(people, field.name)) for field in fields(People)))
        self._start = self._repeated(initial_state(parameters, seed, item_keys), 1)
        self.state = self._repeated(initial_state(parameters, seed, item_keys), n_peers)
        self._rounds = np.zeros(n_peers, np.int64)
        self._mixed = np.zeros(n_peers, np.bool_)
        self._exchanges = np.full(n_peers, -1, np.int64)
        """Since the last contribution; -1: there was none."""
        self._n_items = len(item_keys)
        self._part_bytes = part_bytes(parameters, self._n_items)

    @property
    def n_peers(self) -> int:
        return len(self._rounds)

    def run(self, rounds: int) -> None:
        for _ in range(rounds):
            self.round()

    def round(self) -> None:
        """One round of every peer that is there."""
        table = self._schedule.draw()
        meetings = one_by_one(table)
        for batch in independent_batches(meeting.pair for meeting in meetings):
            chosen = [meetings[at] for at in batch]
            self._begin_rounds(np.array([one.initiator for one in chosen if one.begins], np.int64))
            for part in {one.part for one in chosen}:
                self._exchange(part, [one for one in chosen if one.part == part and one.fate is Fate.APPLIED])
        self.traffic.count(table, self._part_bytes, self._schedule.present)

    def scores(self) -> FloatArray:
        """(n_peers, n_items) each peer's scores by its own copy of the item factors."""
        result = np.empty((self.n_peers, self._n_items), np.float32)
        for peers in self._chunks(np.arange(self.n_peers)):
            factors = served_factors(self._take(peers))
            users = self._people.take(peers).solved(self.parameters, factors)
            result[peers] = self._backend.host(scores(self.parameters, factors, users))
        return result

    def consensus_distance(self) -> float:
        """How far apart the copies of the item factors are (`p2prec.lab.swarm.consensus_distance`)."""
        return consensus_distance(list(self._backend.host(self.state.item_factors)))

    def _begin_rounds(self, peers: IndexArray) -> None:
        """Of peers that are in no other meeting of the batch: step on what was mixed, then contribute when due."""
        stepping = peers[self._mixed[peers]]
        for chunk in self._chunks(stepping):
            self._step(chunk)
        self._mixed[stepping] = False
        self._rounds[peers] += 1
        since = self._exchanges[peers]
        due = peers[(since < 0) | (since >= self.parameters.contribute_every_exchanges * self.parameters.n_parts)]
        for chunk in self._chunks(due):
            self._contribute(chunk)
        self._exchanges[due] = 0

    def _step(self, peers: IndexArray) -> None:
        """A peer whose numbers broke begins anew, as the daemon's learner does."""
        state = self._take(peers)
        step(self.parameters, state, self.n_peers)
        factors = state.item_factors
        largest = self._backend.host(np.maximum(factors.max(axis=(-2, -1)), -factors.min(axis=(-2, -1))))
        broken = np.flatnonzero(~(largest <= MAX_MAGNITUDE))
        for name in FIELDS if broken.size else ():
            getattr(state, name)[broken] = getattr(self._start, name)
        self._put(peers, state)

    def _contribute(self, peers: IndexArray) -> None:
        state, rng = self._take(peers), self._randoms.of(peers)
        limit = self.privacy.max_items_per_contribution
        own = self._people.take(peers).contribution(self.parameters, state.item_factors, limit, rng)
        sent = privatize(self.privacy, own, rng, peer_axes=1)
        absorb(self.parameters, state, sent, draw_probe(rng, (len(peers),)))
        self._put(peers, state)

    def _exchange(self, part: int, meetings: Sequence[Meeting]) -> None:
        pairs = np.array([one.pair for one in meetings], np.int64).reshape(-1, 2)
        for chunk in self._chunks(pairs):
            first, second = chunk.T
            one, other = self._take(first), self._take(second)
            sent = transmit(self.parameters, one, part, self._randoms.of(first))
            received = transmit(self.parameters, other, part, self._randoms.of(second))
            by = between(sent, received)
            move(self.parameters, one, by, other_share(one.age, other.age), 0.5)
            move(self.parameters, other, by, -other_share(other.age, one.age), -0.5)
            self._put(first, one)
            self._put(second, other)
        self._exchanges[pairs[self._exchanges[pairs] >= 0]] += 1
        self._mixed[pairs[:, 0]] = True
        self._mixed[pairs[:, 1]] = self._rounds[pairs[:, 1]] > 0

    # --- some peers of all ---

    def _chunks(self, peers: IndexArray) -> Iterator[IndexArray]:
        """As many at once as suits the device."""
        at_once = self._backend.peers_at_once
        for start in range(0, len(peers), at_once):
            yield peers[start : start + at_once]

    def _take(self, peers: IndexArray) -> ModelState:
        """A copy of their states."""
        return ModelState(**{name: getattr(self.state, name)[peers] for name in FIELDS})

    def _put(self, peers: IndexArray, state: ModelState) -> None:
        """Write back what `_take` took."""
        for name in FIELDS:
            getattr(self.state, name)[peers] = getattr(state, name)

    def _repeated(self, state: ModelState, n_peers: int) -> ModelState:
        """For each peer a copy of its own."""
        once = {name: getattr(state, name)[None] for name in FIELDS}
        there = {name: one if name in ON_THE_HOST else self._backend.array(one) for name, one in once.items()}
        return ModelState(**{name: np.repeat(one, n_peers, axis=0) for name, one in there.items()})
