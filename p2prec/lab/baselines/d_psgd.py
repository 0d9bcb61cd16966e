"""D-PSGD (Lian et al. 2017, algorithm 1): a step on the own data, then an average with all neighbours of a fixed graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from p2prec.lab import topology
from p2prec.lab.baselines.base import BOTH, Fitted, Objective, OnRound, Training, silent
from p2prec.lab.baselines.local_mf import SGD_SETTINGS, LocalData, SgdSettings, local_pass, scores, start
from p2prec.lab.baselines.mixing import mix
from p2prec.types import FloatArray, IndexArray


@dataclass(frozen=True, slots=True)
class DPsgd:
    """The item factors are the shared parameters, the user factors stay at home. One local step is one pass.

    The weights are Metropolis-Hastings': symmetric and doubly stochastic on any graph.
    """

    name: ClassVar[str] = "d_psgd"
    objectives: ClassVar[frozenset[Objective]] = BOTH
    sgd: SgdSettings | None = None
    """None: `SGD_SETTINGS`."""
    degree: int = 4
    """Neighbours that a peer picks in the random graph; it sends to about twice as many."""

    def fit(self, train: Training, rng: np.random.Generator, on_round: OnRound = silent) -> Fitted:
        sgd = self.sgd or SGD_SETTINGS[train.objective]
        data, models = LocalData.of(train, rng), start(train, sgd, rng)
        links = topology.neighbours("random", train.histories, rng, self.degree)
        sources, weights = metropolis(links)
        everyone = np.arange(train.n_people)
        for done in range(train.rounds):
            local_pass(models, data, everyone, sgd, rng)
            mix(models.item_factors, sources, weights)
            on_round(done + 1)
        sent = models.message_bytes * float(np.mean([len(row) for row in links]))
        return Fitted(scores(models, train.objective), train.rounds, sent, sent)


def metropolis(links: Sequence[IndexArray]) -> tuple[list[IndexArray], list[FloatArray]]:
    """Each peer's neighbours and itself, and their weights `1 / (1 + max(degree, degree'))`; its own is what is left."""
    degrees = np.array([len(row) for row in links])
    sources, weights = [], []
    for peer, row in enumerate(links):
        shares = 1.0 / (1.0 + np.maximum(degrees[row], degrees[peer]))
        sources.append(np.append(row, peer).astype(np.int64))
        weights.append(np.append(shares, 1.0 - shares.sum()).astype(np.float32))
    return sources, weights
