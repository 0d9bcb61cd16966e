"""Epidemic Learning (de Vos et al. 2023, EL-Local): as D-PSGD, but everybody sends to s fresh random peers each round."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from p2prec.lab.baselines.base import BOTH, Fitted, Objective, OnRound, Training, silent
from p2prec.lab.baselines.local_mf import SGD_SETTINGS, LocalData, SgdSettings, local_pass, scores, start
from p2prec.lab.baselines.mixing import mix
from p2prec.types import FloatArray, IndexArray


@dataclass(frozen=True, slots=True)
class EpidemicLearning:
    """A peer's item factors become the plain mean of its own and of all that it received in the round."""

    name: ClassVar[str] = "epidemic_learning"
    objectives: ClassVar[frozenset[Objective]] = BOTH
    sgd: SgdSettings | None = None
    """None: `SGD_SETTINGS`."""
    n_receivers: int | None = None
    """s: peers that each sends to; None: `ceil(log2(n_peers))`, as the paper has it."""

    def fit(self, train: Training, rng: np.random.Generator, on_round: OnRound = silent) -> Fitted:
        sgd = self.sgd or SGD_SETTINGS[train.objective]
        data, models = LocalData.of(train, rng), start(train, sgd, rng)
        n_peers = train.n_people
        wanted = math.ceil(math.log2(max(2, n_peers))) if self.n_receivers is None else self.n_receivers
        n_receivers = min(wanted, n_peers - 1)
        everyone = np.arange(n_peers)
        for done in range(train.rounds):
            local_pass(models, data, everyone, sgd, rng)
            sources = senders_of(n_peers, n_receivers, rng)
            mix(models.item_factors, sources, plain_means(sources))
            on_round(done + 1)
        sent = float(models.message_bytes * n_receivers)
        return Fitted(scores(models, train.objective), train.rounds, sent, sent)


def senders_of(n_peers: int, n_receivers: int, rng: np.random.Generator) -> list[IndexArray]:
    """For each peer itself and who sends to it, when each draws `n_receivers` distinct others."""
    sources: list[list[int]] = [[peer] for peer in range(n_peers)]
    for sender in range(n_peers):
        for chosen in rng.choice(n_peers - 1, n_receivers, replace=False) if n_receivers else ():
            sources[chosen + (chosen >= sender)].append(sender)
    return [np.array(row, np.int64) for row in sources]


def plain_means(sources: list[IndexArray]) -> list[FloatArray]:
    return [np.full(len(row), 1.0 / len(row), np.float32) for row in sources]
