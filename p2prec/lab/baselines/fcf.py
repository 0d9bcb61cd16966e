"""Federated collaborative filtering (Ammad-ud-din et al. 2019): a server holds the item factors, clients send gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from p2prec.lab.baselines.base import FLOAT_BYTES, Fitted, Objective, OnRound, Training, silent
from p2prec.lab.baselines.least_squares import solve_rows
from p2prec.lab.dataset import person_of_row
from p2prec.types import DoubleArray, FloatArray


@dataclass(frozen=True, slots=True)
class Fcf:
    """Each round every client solves its own factor (equation 4) and sends, for all items,
    `f(u, i) = c_ui (p_ui - x_u.y_i) x_u` with `c = 1 + alpha p` (equation 8); the server sums them and takes one Adam step on
    `-2 sum_u f(u, i) + 2 reg y_i` (equations 7 and 9).
    """

    name: ClassVar[str] = "fcf"
    objectives: ClassVar[frozenset[Objective]] = frozenset({"implicit"})
    n_factors: int = 16
    alpha: float = 10.0
    reg: float = 10.0
    learning_rate: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.99

    def fit(self, train: Training, rng: np.random.Generator, on_round: OnRound = silent) -> Fitted:
        rows = rng.normal(0.0, 0.1, (train.n_items, self.n_factors)).astype(np.float32)
        first, second = np.zeros(rows.shape), np.zeros(rows.shape)
        for done in range(1, train.rounds + 1):
            users = self.clients(train, rows)
            gradient = self.gradient(train, rows, users)
            first += (1 - self.beta1) * (gradient - first)
            second += (1 - self.beta2) * (gradient**2 - second)
            step = first / (1 - self.beta1**done) / (np.sqrt(second / (1 - self.beta2**done)) + 1e-8)
            rows = (rows - self.learning_rate * step).astype(np.float32)
            on_round(done)
        table = float(rows.size * FLOAT_BYTES)
        return Fitted(self.clients(train, rows) @ rows.T, train.rounds, table, table)

    def clients(self, train: Training, rows: FloatArray) -> FloatArray:
        """(n_people, d): every client's own solve."""
        histories = train.histories
        shared = (rows.T @ rows).astype(np.float64) + self.reg * np.eye(self.n_factors)
        # Weight alpha on top of the 1 that every pair has; the target is so scaled that c p = 1 + alpha on what was touched.
        weights = np.full(len(histories.items), self.alpha, np.float32)
        targets = np.full(len(histories.items), (1 + self.alpha) / self.alpha, np.float32)
        return solve_rows(histories.offsets, rows[histories.items], weights, targets, shared)

    def gradient(self, train: Training, rows: FloatArray, users: FloatArray) -> DoubleArray:
        """(n_items, d): what the server makes of the clients' sum."""
        people, items = person_of_row(train.histories), train.histories.items
        everywhere: DoubleArray = -rows.astype(np.float64) @ (users.T @ users)  # c = 1 and p = 0 on every pair
        predicted = np.einsum("kd,kd->k", users[people], rows[items])
        extra = (1 + self.alpha) * (1 - predicted) + predicted
        np.add.at(everywhere, items, extra[:, None] * users[people])
        gradient: DoubleArray = -2 * everywhere + 2 * self.reg * rows
        return gradient
