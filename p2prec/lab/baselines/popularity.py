"""Popularity: the same scores for everybody. What any personal model has to beat (Cremonesi, Koren & Turrin 2010)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from p2prec.lab.baselines.base import BOTH, Fitted, Objective, OnRound, Training, silent


@dataclass(frozen=True, slots=True)
class Popularity:
    """Implicit: how many people touched the item. Explicit: the item's mean rating, `(sum + k mu) / (n + k)`."""

    name: ClassVar[str] = "popularity"
    objectives: ClassVar[frozenset[Objective]] = BOTH
    prior_ratings: float = 5.0
    """k: ratings at the global mean mu that every item is taken to have (explicit only)."""

    def fit(self, train: Training, rng: np.random.Generator, on_round: OnRound = silent) -> Fitted:
        histories = train.histories
        counts = histories.counts().astype(np.float64)
        if train.objective == "implicit":
            row = counts
        else:
            mean = float(histories.values.mean(dtype=np.float64))
            totals = np.bincount(histories.items, histories.values, minlength=train.n_items)
            row = (totals + self.prior_ratings * mean) / (counts + self.prior_ratings)
        return Fitted(np.tile(row.astype(np.float32), (train.n_people, 1)))
