"""The swarm's own model trained in one place: what gossip could reach at best."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from msgspec import structs

from p2prec.data.histories import Histories
from p2prec.lab.baselines.base import BOTH, Fitted, Objective, OnRound, Training, silent
from p2prec.lab.baselines.kernel_rounds import people_in_chunks, scores_by_one_copy
from p2prec.manifest import LearningParameters, PrivacyParameters
from p2prec.model.contribution import Contribution, absorb
from p2prec.model.schedule import rounds_between_contributions
from p2prec.model.state import PROBE_WIDTH, ModelState, initial_state, served_factors
from p2prec.model.step import step
from p2prec.model.user import item_gram
from p2prec.peer.learner import privatize


@dataclass(frozen=True, slots=True)
class Central:
    """One copy of the item factors; each contribution is the mean of everybody's, clipped (and noised) as a peer's is.

    The same kernels, schedule and start as the swarm's, so the difference is what gossip and rounding cost.
    """

    name: ClassVar[str] = "central"
    objectives: ClassVar[frozenset[Objective]] = BOTH
    learning: LearningParameters
    privacy: PrivacyParameters
    seed: bytes

    def fit(self, train: Training, rng: np.random.Generator, on_round: OnRound = silent) -> Fitted:
        state = initial_state(self.learning, self.seed, train.histories.catalogue.keys)
        for done in range(train.rounds):
            if done % rounds_between_contributions(self.learning) == 0:
                own = self._mean_contribution(state, train.histories, rng)
                absorb(self.learning, state, own, np.zeros(PROBE_WIDTH, np.float32))  # mixed at once
            step(self.learning, state, train.n_people)
            on_round(done + 1)
        return Fitted(scores_by_one_copy(self.learning, served_factors(state), train.histories))

    def _mean_contribution(self, state: ModelState, histories: Histories, rng: np.random.Generator) -> Contribution:
        gram = None if self.learning.objective == "explicit" else item_gram(self.learning, state.item_factors[None])
        clipping = structs.replace(self.privacy, noise_multiplier=0.0)
        totals = [np.zeros(table.shape) for table in (state.gradient, state.evidence, state.gram)]
        for rows, people in people_in_chunks(histories):
            n = rows.stop - rows.start
            factors = np.broadcast_to(state.item_factors, (n, *state.item_factors.shape))
            limit = self.privacy.max_items_per_contribution
            own = people.contribution(self.learning, factors, limit, rng, gram=gram)
            clipped = privatize(clipping, own, rng, peer_axes=1)
            for total, part in zip(totals, (clipped.gradient, clipped.evidence, clipped.gram), strict=True):
                total += part.sum(axis=0)
        # The independent noise of n people adds up to noise of sqrt(n) times its standard deviation: drawn as one.
        n = len(histories)
        norms = (self.privacy.clip_norm, self.privacy.clip_norm, self.privacy.gram_clip_norm)
        for total, norm in zip(totals, norms, strict=True):
            total += self.privacy.noise_multiplier * norm * math.sqrt(n) * rng.standard_normal(total.shape)
        return Contribution(*((total / n).astype(np.float32) for total in totals))
