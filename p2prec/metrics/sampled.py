"""Ranking one held-out item among sampled negatives, as NeuMF's protocol has it (He et al. 2017, section 4.1).

Comparable with published figures of the same protocol only, never with full ranking: the sample hides most of the
competition (Krichene & Rendle 2020).
"""

from __future__ import annotations

import numpy as np

from p2prec.types import DoubleArray, FloatArray, IndexArray

N_NEGATIVES = 99


def sample_negatives(
    n_items: int, touched: IndexArray, rng: np.random.Generator, n_negatives: int = N_NEGATIVES
) -> IndexArray:
    """Distinct items that the person never touched, in training or test: (n_negatives,), fewer if there are no more.

    touched: (k,) item indices.
    """
    free = np.ones(n_items, np.bool_)
    free[touched] = False
    candidates = np.flatnonzero(free)
    if len(candidates) <= n_negatives:
        return candidates
    return np.sort(rng.choice(candidates, n_negatives, replace=False))


def sampled_scores(
    positives: FloatArray | DoubleArray, negatives: FloatArray | DoubleArray, k: int = 10
) -> tuple[DoubleArray, DoubleArray]:
    """(n,) HR@k, the probability that the held-out item is among the first k, and (n,) NDCG@k, `1 / log2(rank + 1)` if it is.

    positives: (n,) score of each held-out item; negatives: (n, n_negatives) scores of what it competes with, NaN where a
    list is shorter. Ties count as ordered at random, in expectation, as in `ranking.ranking_scores`.
    Raises ValueError when there is no list.
    """
    if len(positives) == 0:
        raise ValueError("there is no candidate list to rank")
    above = (negatives > positives[:, None]).sum(axis=1)
    tied = (negatives == positives[:, None]).sum(axis=1) + 1
    # Equally likely on each of the places above ... above + tied - 1, counted from 0.
    hits = np.clip(k - above, 0, tied) / tied
    gains = np.concatenate(([0.0], np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))))
    ndcg = (gains[np.minimum(above + tied, k)] - gains[np.minimum(above, k)]) / tied
    return hits, ndcg
