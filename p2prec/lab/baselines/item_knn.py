"""Item-based nearest neighbours (Sarwar et al. 2001; ratings: Koren 2010, equation 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from p2prec.lab.baselines.base import BOTH, Fitted, Objective, OnRound, Training, silent
from p2prec.lab.baselines.matrix import biases, check_items_by_items, dense, touched
from p2prec.types import FloatArray


@dataclass(frozen=True, slots=True)
class ItemKnn:
    """Cosine similarity, shrunk where few people support it: `s_ij = |U_ij| / (|U_ij| + shrink) * cos_ij`.

    Implicit: the score of an item is the sum of its similarities to the person's items, among each item's k nearest.
    Explicit: on what the biases leave of the ratings, `b_ui + sum_j s_ij (r_uj - b_uj) / sum_j |s_ij|` over the k nearest.
    """

    name: ClassVar[str] = "item_knn"
    objectives: ClassVar[frozenset[Objective]] = BOTH
    n_neighbours: int = 50
    n_neighbours_ratings: int = 200
    """The same for ratings, which say more about each neighbour and suffer less from many."""
    shrink: float = 50.0

    def fit(self, train: Training, rng: np.random.Generator, on_round: OnRound = silent) -> Fitted:
        check_items_by_items(train.histories, 3)
        if train.objective == "implicit":
            matrix = dense(train.histories)
            summed: FloatArray = matrix @ self._nearest(matrix, matrix, self.n_neighbours)
            return Fitted(summed)
        mean, user_bias, item_bias = biases(train.histories)
        expected = (mean + user_bias[:, None] + item_bias).astype(np.float32)
        mask = touched(train.histories).astype(np.float32)
        rest: FloatArray = (dense(train.histories) - expected) * mask
        similar = self._nearest(rest, mask, self.n_neighbours_ratings)
        weight: FloatArray = np.maximum(mask @ np.abs(similar), np.float32(1e-6))
        return Fitted((expected + rest @ similar / weight).astype(np.float32))

    def _nearest(self, matrix: FloatArray, mask: FloatArray, k: int) -> FloatArray:
        """(n_items, n_items): column i has the similarities of item i to its k nearest items, 0 elsewhere."""
        together = mask.T @ mask
        lengths = np.linalg.norm(matrix, axis=0)
        cosines = (matrix.T @ matrix) / np.maximum(np.outer(lengths, lengths), np.float32(1e-12))
        similar: FloatArray = (cosines * (together / (together + np.float32(self.shrink)))).astype(np.float32)
        np.fill_diagonal(similar, 0)
        if k < len(similar):
            cut = np.partition(similar, -k, axis=0)[-k]
            similar[similar < cut] = 0
        return similar
