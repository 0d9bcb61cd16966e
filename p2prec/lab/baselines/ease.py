"""EASE: one linear map from items to items in closed form (Steck 2019). Hard to beat on small catalogues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from p2prec.lab.baselines.base import Fitted, Objective, OnRound, Training, silent
from p2prec.lab.baselines.matrix import check_items_by_items, dense


@dataclass(frozen=True, slots=True)
class Ease:
    """`B = I - P diag(1 / diag P)` with `P = (X'X + reg I)^-1` (equation 8); scores are `X B`.

    B has a zero diagonal: no item explains itself.
    """

    name: ClassVar[str] = "ease"
    objectives: ClassVar[frozenset[Objective]] = frozenset({"implicit"})
    reg: float = 200.0

    def fit(self, train: Training, rng: np.random.Generator, on_round: OnRound = silent) -> Fitted:
        check_items_by_items(train.histories, 4)
        matrix = dense(train.histories)
        gram = (matrix.T @ matrix).astype(np.float64)
        gram[np.diag_indices_from(gram)] += self.reg
        inverse = np.linalg.inv(gram)
        weights = inverse / -np.diag(inverse)
        np.fill_diagonal(weights, 0)
        return Fitted(matrix @ weights.astype(np.float32))
