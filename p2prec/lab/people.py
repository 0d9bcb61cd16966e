"""Many people's interactions as padded arrays, for kernels that take them all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from p2prec.manifest import LearningParameters
from p2prec.model.contribution import Contribution
from p2prec.model.recency import recency_ranks, recent_weights
from p2prec.model.segments import contribute_segments
from p2prec.model.user import solve_user
from p2prec.types import DoubleArray, FloatArray, IndexArray


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """Everyone's interactions, padded to the longest history."""

    items: IndexArray
    """(n_peers, k) item indices; 0 where weights is 0."""
    values: FloatArray
    """(n_peers, k) ratings, or 1."""
    weights: FloatArray
    """(n_peers, k) 1, or 0 for padding."""
    ranks: FloatArray
    """(n_peers, k) by `recency_ranks`; 0 for padding, and where no times are known."""

    @classmethod
    def of(
        cls, histories: Sequence[tuple[IndexArray, FloatArray]], times: Sequence[DoubleArray] | None = None
    ) -> People:
        """histories: one (items, values) pair a person, distinct items each; times: of the same interactions, 0 where
        unknown.
        """
        longest = max(len(items) for items, _ in histories)
        dtypes = (np.int64, np.float32, np.float32, np.float32)
        people = cls(*(np.zeros((len(histories), longest), dtype) for dtype in dtypes))
        for peer, (items, values) in enumerate(histories):
            people.items[peer, : len(items)] = items
            people.values[peer, : len(items)] = values
            people.weights[peer, : len(items)] = 1
            if times is not None:
                people.ranks[peer, : len(items)] = recency_ranks(times[peer])
        return people

    def take(self, peers: IndexArray) -> People:
        """Some of them."""
        return People(self.items[peers], self.values[peers], self.weights[peers], self.ranks[peers])

    def solved(self, parameters: LearningParameters, item_factors: FloatArray) -> FloatArray:
        """(n_peers, d), or (n_peers, d + 1) with biases: everybody's user factor. item_factors: (n_peers or 1, n_items, c)."""
        weights = recent_weights(parameters, self.ranks, self.weights)
        return solve_user(parameters, item_factors, self.items, self.values, weights)

    def contribution(
        self,
        parameters: LearningParameters,
        item_factors: FloatArray,
        limit: int,
        rng: np.random.Generator,
        *,
        gram: FloatArray | None = None,
    ) -> Contribution:
        """Everybody's, of at most `limit` items, before clipping and noise. gram: as in `solve_user`."""
        own = (self.items, self.values, self.weights, self.ranks)
        return contribute_segments(parameters, item_factors, *own, limit, rng, gram=gram)
