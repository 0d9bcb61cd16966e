"""How evenly a model serves people: a mean hides those whom it fails."""

from __future__ import annotations

import numpy as np

from p2prec.types import DoubleArray, IndexArray

WORST_SHARE = 0.1
SPARSE_SHARE = 0.25


def worst_share_mean(values: DoubleArray, *, lower_is_worse: bool = True, share: float = WORST_SHARE) -> float:
    """Mean over the worst-served `share` of people (at least one): with 0.1, the worst decile.

    values: (n_people,) one figure a person, n_people >= 1. share: in (0, 1].
    """
    n_worst = max(1, round(share * len(values)))
    ordered = np.sort(values) if lower_is_worse else -np.sort(-values)
    return float(ordered[:n_worst].mean())


def sparse_and_dense_means(
    values: DoubleArray, history_lengths: IndexArray, share: float = SPARSE_SHARE
) -> tuple[float, float]:
    """Means over the people with the shortest and with the longest training histories, `share` of all each.

    values, history_lengths: (n_people,), n_people >= 1. People at the cut are taken in their order.
    """
    order = np.argsort(history_lengths, kind="stable")
    n_people = max(1, round(share * len(values)))
    return float(values[order[:n_people]].mean()), float(values[order[-n_people:]].mean())
