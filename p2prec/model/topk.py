"""Ranking on the device: the best items for a user, and the items most like one."""

from __future__ import annotations

import numpy as np

from p2prec.model.user import scores
from p2prec.types import FloatArray, IndexArray

__all__ = ["scores", "similar_items", "top_k"]


def top_k(values: FloatArray, k: int, exclude: IndexArray | None = None) -> IndexArray:
    """Indices of the k largest of `values` (n_items,), best first; ties go to the lower index.

    exclude: indices never returned (what the user has had). Fewer than k come back when fewer are left.
    """
    ranked = values.copy()
    if exclude is not None:
        ranked[exclude] = -np.inf
    k = min(k, int(np.count_nonzero(ranked > -np.inf)))
    if k <= 0:
        return np.empty(0, np.int64)
    threshold = np.partition(ranked, ranked.size - k)[ranked.size - k]
    above = np.flatnonzero(ranked > threshold)
    tied = np.flatnonzero(ranked == threshold)[: k - above.size]
    chosen = np.concatenate([above, tied])
    return chosen[np.lexsort((chosen, -ranked[chosen]))]


def similar_items(factors: FloatArray, item: int, k: int) -> tuple[IndexArray, FloatArray]:
    """The k items nearest to `item` by cosine of their factors, best first, and the cosines; never `item` itself.

    factors: (n_items, n_factors) without a bias column. A row of zeros is like nothing: cosine 0.
    """
    lengths = np.linalg.norm(factors, axis=1)
    cosines = factors @ factors[item] / np.maximum(lengths * lengths[item], np.float32(1e-12))
    best = top_k(cosines, k, np.array([item], np.int64))
    return best, cosines[best]
