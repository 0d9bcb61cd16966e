"""Many small ridge regressions: one half of an alternating least squares sweep."""

from __future__ import annotations

import numpy as np

from p2prec.types import DoubleArray, FloatArray, IndexArray


def solve_rows(
    offsets: IndexArray, features: FloatArray, weights: FloatArray, targets: FloatArray, system: DoubleArray
) -> FloatArray:
    """`(system_u + sum_k w_k x_k x_k')^-1 sum_k w_k t_k x_k` for each row u, over its observations k.

    offsets: (n + 1,) row u has the observations offsets[u] to offsets[u + 1]. features: (n_obs, c); weights, targets:
    (n_obs,). system: (n, c, c), or (c, c) for all: the regularization and whatever else every row shares; it makes the sum
    invertible. Returns (n, c) float32.
    """
    n, c = len(offsets) - 1, features.shape[1]
    systems = np.array(np.broadcast_to(system, (n, c, c)), np.float64)
    sides = np.zeros((n, c))
    weighted = features * weights[:, None]
    for row in range(n):
        own = slice(int(offsets[row]), int(offsets[row + 1]))
        systems[row] += weighted[own].T @ features[own]
        sides[row] = targets[own] @ weighted[own]
    return np.linalg.solve(systems, sides[..., None])[..., 0].astype(np.float32)


def by_item(items: IndexArray, n_items: int) -> tuple[IndexArray, IndexArray]:
    """The observations regrouped by item: (order, offsets), with `order` the observations item after item."""
    order = np.argsort(items, kind="stable")
    offsets = np.concatenate(([0], np.cumsum(np.bincount(items, minlength=n_items)))).astype(np.int64)
    return order, offsets
