"""FedMF (Chai, Wang, Chen & Yang 2020): clients train their own factors by SGD and send gradients of the item factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from p2prec.lab.baselines.base import BOTH, Fitted, Objective, OnRound, Training, silent
from p2prec.lab.baselines.local_mf import SGD_SETTINGS, LocalData, SgdSettings, local_pass, scores, start
from p2prec.types import FloatArray


@dataclass(frozen=True, slots=True)
class FedMf:
    """Each round every client downloads the item factors, makes one pass over its interactions, and uploads how it would
    change them; the server adds the mean of the changes of those who touched a row, times `server_rate`.

    "Full-text" uploads: every row, so that the server does not learn which were touched. Counted as float32; under the
    paper's homomorphic encryption they would be about a hundred times as large.
    """

    name: ClassVar[str] = "fedmf"
    objectives: ClassVar[frozenset[Objective]] = BOTH
    sgd: SgdSettings | None = None
    """None: `SGD_SETTINGS`."""
    server_rate: float = 5.0
    """More than 1 makes up for averaging changes that each client made alone."""

    def fit(self, train: Training, rng: np.random.Generator, on_round: OnRound = silent) -> Fitted:
        sgd = self.sgd or SGD_SETTINGS[train.objective]
        data, models = LocalData.of(train, rng), start(train, sgd, rng)
        everyone = np.arange(train.n_people)
        for done in range(train.rounds):
            before = models.item_factors[0].copy()
            local_pass(models, data, everyone, sgd, rng)
            models.item_factors[...] = before + np.float32(self.server_rate) * mean_change(before, models.item_factors)
            on_round(done + 1)
        table = float(models.message_bytes)
        return Fitted(scores(models, train.objective), train.rounds, table, table)


def mean_change(before: FloatArray, after: FloatArray) -> FloatArray:
    """(n_items, c): the mean over those clients that changed a row, 0 where none did.

    before: (n_items, c); after: (n_clients, n_items, c).
    """
    total, changed = np.zeros(before.shape, np.float64), np.zeros(len(before))
    for copy in after:
        difference = copy - before
        total += difference
        changed += difference.any(axis=1)
    return (total / np.maximum(changed, 1.0)[:, None]).astype(np.float32)
