"""Matrix factorization with biases, trained in one place (Koren, Bell & Volinsky 2009, equation 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from p2prec.lab.baselines.base import Fitted, Objective, OnRound, Training, silent
from p2prec.lab.baselines.least_squares import by_item, solve_rows
from p2prec.lab.baselines.matrix import biases
from p2prec.lab.dataset import person_of_row
from p2prec.types import FloatArray


@dataclass(frozen=True, slots=True)
class BiasedMf:
    """`r_ui = mu + b_u + b_i + p_u.q_i` by alternating least squares with weighted regularization (Zhou et al. 2008).

    A person's factor and bias are solved together, then each item's. A row is regularized by `reg` for each of its
    ratings, plus `reg_floor`.
    """

    name: ClassVar[str] = "biased_mf"
    objectives: ClassVar[frozenset[Objective]] = frozenset({"explicit"})
    n_factors: int = 16
    reg: float = 0.04
    reg_floor: float = 7.0
    sweeps: int = 20

    def fit(self, train: Training, rng: np.random.Generator, on_round: OnRound = silent) -> Fitted:
        histories, d = train.histories, self.n_factors
        people, items, values = person_of_row(histories), histories.items, histories.values
        order, item_offsets = by_item(items, train.n_items)
        mean, user_bias, item_bias = biases(histories)
        users: FloatArray = np.zeros((train.n_people, d + 1), np.float32)
        rows: FloatArray = rng.normal(0.0, 0.1, (train.n_items, d + 1)).astype(np.float32)
        users[:, d], rows[:, d] = user_bias, item_bias
        for sweep in range(self.sweeps):
            users = self._half(histories.offsets, rows[items], values - np.float32(mean))
            rows = self._half(item_offsets, users[people[order]], values[order] - np.float32(mean))
            on_round(sweep + 1)
        return Fitted(np.float32(mean) + users[:, d:] + rows[:, d] + users[:, :d] @ rows[:, :d].T)

    def _half(self, offsets: np.ndarray, other: FloatArray, targets: FloatArray) -> FloatArray:
        """Solve one side. other: (n_obs, d + 1) the other side's row of each rating, its bias last."""
        features = other.copy()
        features[:, -1] = 1
        counts = np.diff(offsets)
        reg = self.reg * counts + self.reg_floor
        system = reg[:, None, None] * np.eye(features.shape[1])
        return solve_rows(offsets, features, np.ones(len(targets), np.float32), targets - other[:, -1], system)
