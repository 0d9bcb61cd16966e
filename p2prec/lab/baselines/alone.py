"""Everybody for themselves: the same kernels with no neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from p2prec.lab.baselines.base import BOTH, Fitted, Objective, OnRound, Training, silent
from p2prec.manifest import LearningParameters, PrivacyParameters
from p2prec.model.state import initial_state
from p2prec.peer.learner import Learner
from p2prec.peer.quality import alone_scores


@dataclass(frozen=True, slots=True)
class Alone:
    """What each device could do by itself, without noise: `p2prec.peer.quality.alone_scores` for all people."""

    name: ClassVar[str] = "alone"
    objectives: ClassVar[frozenset[Objective]] = BOTH
    learning: LearningParameters
    privacy: PrivacyParameters
    seed: bytes

    def fit(self, train: Training, rng: np.random.Generator, on_round: OnRound = silent) -> Fitted:
        result = np.empty((train.n_people, train.n_items), np.float32)
        keys = train.histories.catalogue.keys
        start = initial_state(self.learning, self.seed, keys)  # a hash for each item: once, not for each person
        for person in range(train.n_people):
            own = train.histories.of(person)
            learner = Learner(self.learning, self.privacy, keys, self.seed, start)
            learner.set_interactions(own.items, own.values, own.times)
            result[person] = alone_scores(learner, keys, self.seed, start)
            on_round(person + 1)
        return Fitted(result)
