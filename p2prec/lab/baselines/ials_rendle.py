"""iALS with frequency-scaled regularization (Rendle, Krichene, Zhang & Koren 2021), which the library lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from p2prec.data.histories import Histories
from p2prec.lab.baselines.base import Fitted, Objective, OnRound, Training, silent
from p2prec.lab.baselines.least_squares import by_item, solve_rows
from p2prec.lab.dataset import person_of_row
from p2prec.types import DoubleArray, FloatArray


@dataclass(frozen=True, slots=True)
class IalsRendle:
    """Minimizes, by exact alternating solves (equations 4 and 14),

    sum_{ui observed} (1 - p_u.q_i)^2 + alpha0 sum_{all ui} (p_u.q_i)^2
      + reg (sum_u (n_u + alpha0 n_items)^nu |p_u|^2 + sum_i (n_i + alpha0 n_people)^nu |q_i|^2).
    """

    name: ClassVar[str] = "ials_rendle"
    objectives: ClassVar[frozenset[Objective]] = frozenset({"implicit"})
    n_factors: int = 32
    alpha0: float = 0.1
    reg: float = 0.01
    nu: float = 1.0
    sweeps: int = 15

    def fit(self, train: Training, rng: np.random.Generator, on_round: OnRound = silent) -> Fitted:
        users, rows = self.factors(train.histories, rng, on_round)
        return Fitted(users @ rows.T)

    def factors(
        self, histories: Histories, rng: np.random.Generator, on_round: OnRound = silent
    ) -> tuple[FloatArray, FloatArray]:
        """(n_people, d) and (n_items, d), the item factors solved last."""
        n_people, n_items = len(histories), len(histories.catalogue)
        people = person_of_row(histories)
        order, item_offsets = by_item(histories.items, n_items)
        rows = rng.normal(0.0, 0.1 / np.sqrt(self.n_factors), (n_items, self.n_factors)).astype(np.float32)
        users = np.zeros((n_people, self.n_factors), np.float32)
        for sweep in range(self.sweeps):
            users = self._half(histories.offsets, rows, histories.items)
            rows = self._half(item_offsets, users, people[order])
            on_round(sweep + 1)
        return users, rows

    def loss(self, histories: Histories, users: FloatArray, rows: FloatArray) -> float:
        """The objective above."""
        observed = np.einsum("kd,kd->k", users[person_of_row(histories)], rows[histories.items]).astype(np.float64)
        everything = float(((users.T @ users).astype(np.float64) * (rows.T @ rows)).sum())
        penalty = 0.0
        for counts, factors, n_others in (
            (np.diff(histories.offsets), users, len(rows)),
            (histories.counts(), rows, len(users)),
        ):
            penalty += float(self._strengths(counts, n_others) @ (factors.astype(np.float64) ** 2).sum(axis=1))
        return float(((1.0 - observed) ** 2).sum()) + self.alpha0 * everything + penalty

    def _half(self, offsets: np.ndarray, other: FloatArray, columns: np.ndarray) -> FloatArray:
        shared = self.alpha0 * (other.T @ other).astype(np.float64)
        strengths = self._strengths(np.diff(offsets), len(other))
        system = shared + strengths[:, None, None] * np.eye(self.n_factors)
        ones = np.ones(len(columns), np.float32)
        return solve_rows(offsets, other[columns], ones, ones, system)

    def _strengths(self, counts: np.ndarray, n_others: int) -> DoubleArray:
        return np.asarray(self.reg * (counts + self.alpha0 * n_others) ** self.nu, np.float64)
