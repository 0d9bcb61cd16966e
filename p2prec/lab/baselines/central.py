"""The swarm's own model trained in one place: what gossip could reach at best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from p2prec.data.histories import Histories
from p2prec.lab.baselines.base import BOTH, Fitted, Objective, OnRound, Training, silent
from p2prec.lab.baselines.kernel_rounds import people_in_chunks, scores_by_one_copy, solved
from p2prec.manifest import LearningParameters, PrivacyParameters
from p2prec.model.contribution import Contribution, absorb, contribution, sample_items
from p2prec.model.schedule import contributes_at
from p2prec.model.state import ModelState, initial_state
from p2prec.model.step import step
from p2prec.peer.learner import privatize


@dataclass(frozen=True, slots=True)
class Central:
    """One copy of the item factors; each contribution is the mean of everybody's, clipped (and noised) as a peer's is.

    The same kernels, schedule and start as the swarm's, so the difference is what gossip and eight bits cost.
    """

    name: ClassVar[str] = "central"
    objectives: ClassVar[frozenset[Objective]] = BOTH
    learning: LearningParameters
    privacy: PrivacyParameters
    seed: bytes

    def fit(self, train: Training, rng: np.random.Generator, on_round: OnRound = silent) -> Fitted:
        state = initial_state(self.learning, self.seed, train.histories.catalogue.keys)
        for done in range(train.rounds):
            if contributes_at(self.learning, int(state.age)):
                absorb(self.learning, state, self._mean_contribution(state, train.histories, rng))
            step(self.learning, state, train.n_people)
            on_round(done + 1)
        return Fitted(scores_by_one_copy(self.learning, state.item_factors, train.histories))

    def _mean_contribution(self, state: ModelState, histories: Histories, rng: np.random.Generator) -> Contribution:
        totals = [np.zeros(table.shape) for table in (state.gradient, state.evidence, state.gram)]
        for rows, people in people_in_chunks(histories):
            n = rows.stop - rows.start
            factors = np.broadcast_to(state.item_factors, (n, *state.item_factors.shape))
            weights = sample_items(people.weights, self.privacy.max_items_per_contribution, rng)
            users = solved(self.learning, state.item_factors[None], people)
            own = contribution(self.learning, factors, users, people.items, people.values, weights)
            sent = privatize(self.privacy, own, rng, peer_axes=1)
            for total, part in zip(totals, (sent.gradient, sent.evidence, sent.gram), strict=True):
                total += part.sum(axis=0)
        return Contribution(*((total / len(histories)).astype(np.float32) for total in totals))
