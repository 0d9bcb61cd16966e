"""A whole swarm in one array program: the rounds of the daemon, computed for all peers at once with the same kernels.

What it leaves out is the network: every exchange succeeds, and all peers step at the same moment. A parity test holds
the daemons' quality next to this one's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from p2prec.manifest import LearningParameters, PrivacyParameters
from p2prec.model.contribution import absorb, contribution, sample_items
from p2prec.model.quantize import apply_exchange, quantize_state
from p2prec.model.schedule import contributes_at
from p2prec.model.state import ModelState, initial_state
from p2prec.model.step import step
from p2prec.model.user import scores, solve_user
from p2prec.peer.learner import privatize
from p2prec.types import FloatArray, IndexArray


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """Everyone's interactions, padded to the longest history."""

    items: IndexArray
    """(n_peers, k) item indices; 0 where weights is 0."""
    values: FloatArray
    """(n_peers, k) ratings, or 1."""
    weights: FloatArray
    """(n_peers, k) 1, or 0 for padding."""

    @classmethod
    def of(cls, histories: Sequence[tuple[IndexArray, FloatArray]]) -> People:
        """histories: one (items, values) pair a person, distinct items each."""
        longest = max(len(items) for items, _ in histories)
        people = cls(*(np.zeros((len(histories), longest), dtype) for dtype in (np.int64, np.float32, np.float32)))
        for peer, (items, values) in enumerate(histories):
            people.items[peer, : len(items)] = items
            people.values[peer, : len(items)] = values
            people.weights[peer, : len(items)] = 1
        return people


class LabSwarm:
    """N peers that gossip over a fixed graph, or with everyone."""

    def __init__(
        self,
        parameters: LearningParameters,
        privacy: PrivacyParameters,
        item_keys: Sequence[str],
        seed: bytes,
        people: People,
        rng: np.random.Generator,
        *,
        degree: int | None = None,
        views: Sequence[IndexArray] | None = None,
        swarm_size: int | None = None,
    ) -> None:
        """degree: neighbours that each peer picks (links count both ways, so views are about twice as large); None:
        all. views: whom each peer can exchange with, instead of a random graph (`p2prec.lab.topology`); may be nobody.
        swarm_size: what peers take for the number of peers; None: that number.
        """
        self.parameters = parameters
        self.privacy = privacy
        self.people = people
        self._rng = rng
        n_peers = len(people.items)
        self.swarm_size = n_peers if swarm_size is None else swarm_size
        self.state = _repeated(initial_state(parameters, seed, item_keys), n_peers)
        self.user_factors = self._solved()
        self._views = _random_views(n_peers, degree, rng) if views is None else list(views)

    @property
    def n_peers(self) -> int:
        return len(self.people.items)

    def run(self, rounds: int) -> None:
        for _ in range(rounds):
            self.round()

    def round(self) -> None:
        """Solve, contribute when due, one exchange started by every peer, step."""
        self.user_factors = self._solved()
        if contributes_at(self.parameters, int(self.state.age[0])):
            self._contribute()
        self.mix()
        step(self.parameters, self.state, self.swarm_size)

    def mix(self) -> None:
        """One exchange started by every peer.

        A daemon that has stepped exchanges at once, so what devices hold is what the lab holds after `run` and `mix`:
        after `run` alone, each copy has just moved by itself, which costs early rounds a few percent of quality.
        """
        for batch in disjoint_batches(self._draw_partners()):
            self._exchange(batch[:, 0], batch[:, 1])

    def scores(self) -> FloatArray:
        """(n_peers, n_items) each peer's scores by its own copy of the item factors."""
        self.user_factors = self._solved()
        return scores(self.parameters, self.state.item_factors, self.user_factors)

    def _solved(self) -> FloatArray:
        people = self.people
        return solve_user(self.parameters, self.state.item_factors, people.items, people.values, people.weights)

    def _contribute(self) -> None:
        people, limit = self.people, self.privacy.max_items_per_contribution
        weights = sample_items(people.weights, limit, self._rng)
        own = contribution(
            self.parameters, self.state.item_factors, self.user_factors, people.items, people.values, weights
        )
        absorb(self.parameters, self.state, privatize(self.privacy, own, self._rng, peer_axes=1))

    def _draw_partners(self) -> IndexArray:
        """(n_exchanges, 2) initiator and responder, in the order in which the exchanges happen."""
        initiators = self._rng.permutation(self.n_peers)
        pairs = [(peer, self._rng.choice(self._views[peer])) for peer in initiators if len(self._views[peer])]
        return np.array(pairs, np.int64).reshape(-1, 2)

    def _exchange(self, first: IndexArray, second: IndexArray) -> None:
        one, other = take(self.state, first), take(self.state, second)
        sent, received = quantize_state(one, self._rng), quantize_state(other, self._rng)
        one_age = one.age.copy()
        apply_exchange(one, sent, received, other.age)
        apply_exchange(other, received, sent, one_age)
        put(self.state, first, one)
        put(self.state, second, other)


def disjoint_batches(pairs: IndexArray) -> list[IndexArray]:
    """Split a sequence of exchanges (n, 2) into batches in which no peer occurs twice, with the same result as one by
    one.
    """
    if not len(pairs):
        return []
    last = np.full(int(pairs.max()) + 1, -1)
    batch_of = np.empty(len(pairs), np.int64)
    for at, (one, other) in enumerate(pairs):
        batch_of[at] = max(last[one], last[other]) + 1
        last[one] = last[other] = batch_of[at]
    return [pairs[batch_of == batch] for batch in range(int(batch_of.max()) + 1)]


def _random_views(n_peers: int, degree: int | None, rng: np.random.Generator) -> list[IndexArray]:
    """Whom each peer can exchange with."""
    everyone = np.arange(n_peers)
    if degree is None or degree >= n_peers - 1:
        return [np.delete(everyone, peer) for peer in range(n_peers)]
    linked = np.zeros((n_peers, n_peers), np.bool_)
    for peer in range(n_peers):
        linked[peer, rng.choice(np.delete(everyone, peer), degree, replace=False)] = True
    linked |= linked.T
    return [np.flatnonzero(row) for row in linked]


def _repeated(state: ModelState, n_peers: int) -> ModelState:
    return ModelState(*(np.repeat(getattr(state, name)[None], n_peers, axis=0) for name in _FIELDS))


def take(state: ModelState, peers: IndexArray) -> ModelState:
    """A copy of some peers' states."""
    return ModelState(*(getattr(state, name)[peers] for name in _FIELDS))


def put(state: ModelState, peers: IndexArray, part: ModelState) -> None:
    """Write back what `take` took."""
    for name in _FIELDS:
        getattr(state, name)[peers] = getattr(part, name)


_FIELDS = ("item_factors", "gradient", "evidence", "gram", "age")
