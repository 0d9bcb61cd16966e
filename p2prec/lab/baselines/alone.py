"""Everybody for themselves: the same kernels with no neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import msgspec
import numpy as np

from p2prec.lab.baselines.base import BOTH, Fitted, Objective, OnRound, Training, silent
from p2prec.lab.baselines.kernel_rounds import people_in_chunks
from p2prec.lab.swarm import LabSwarm
from p2prec.manifest import LearningParameters, PrivacyParameters
from p2prec.peer.quality import ALONE_ROUNDS
from p2prec.types import IndexArray


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
        privacy = msgspec.structs.replace(self.privacy, noise_multiplier=0.0)
        keys = train.histories.catalogue.keys
        for rows, people in people_in_chunks(train.histories):
            nobody: list[IndexArray] = [np.empty(0, np.int64)] * len(people.items)
            loners = LabSwarm(self.learning, privacy, keys, self.seed, people, rng, views=nobody, swarm_size=1)
            loners.run(ALONE_ROUNDS)
            result[rows] = loners.scores()
            on_round(rows.stop)
        return Fitted(result)
