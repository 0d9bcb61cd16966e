"""Full-ranking metrics of one user: NDCG@k, hit rate@k, AUC. Every item that is not excluded competes; nothing is
sampled.

Tied scores count as ordered at random, in expectation (McSherry & Najork 2008): a model that cannot tell items apart
scores what chance would, whatever the order of the catalogue. Popularity and cold models tie often, so this decides
comparisons.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2prec.types import BoolArray, DoubleArray, FloatArray, IndexArray


@dataclass(frozen=True, slots=True)
class RankingScores:
    """The three metrics of one user's ranking, each in [0, 1]."""

    ndcg: float
    """NDCG@k with binary relevance; the ideal ranking has min(k, number of relevant items) hits on top."""
    hit_rate: float
    """Probability that at least one relevant item is among the first k."""
    auc: float
    """Probability that a relevant item outranks an irrelevant one; 0.5 when there is no irrelevant one."""


def ranking_scores(
    scores: FloatArray | DoubleArray, relevant: IndexArray, excluded: IndexArray, k: int = 10
) -> RankingScores:
    """All three metrics from one sort.

    scores: (n_items,) finite; higher is better.
    relevant: indices of the held-out items, distinct, at least one, none of them excluded.
    excluded: indices of the items that do not compete: the user's training part.
    Raises ValueError when `relevant` is empty, overlaps `excluded`, or a score is not finite.
    """
    competes = _competing(scores, relevant, excluded)
    is_relevant = np.zeros(len(scores), dtype=np.bool_)
    is_relevant[relevant] = True
    wide: DoubleArray = scores.astype(np.float64)
    ascending = np.sort(wide[competes])
    irrelevant = np.sort(wide[competes & ~is_relevant])
    own = wide[is_relevant]
    above = len(ascending) - np.searchsorted(ascending, own, side="right")
    tied = len(ascending) - np.searchsorted(ascending, own, side="left") - above
    return RankingScores(ndcg=_ndcg(above, tied, k), hit_rate=_hit_rate(above, tied, k), auc=_auc(own, irrelevant))


def ndcg_at_k(scores: FloatArray | DoubleArray, relevant: IndexArray, excluded: IndexArray, k: int = 10) -> float:
    """NDCG@k over the full ranking; arguments and errors as `ranking_scores`."""
    return ranking_scores(scores, relevant, excluded, k).ndcg


def hit_rate_at_k(scores: FloatArray | DoubleArray, relevant: IndexArray, excluded: IndexArray, k: int = 10) -> float:
    """Hit rate@k over the full ranking; arguments and errors as `ranking_scores`."""
    return ranking_scores(scores, relevant, excluded, k).hit_rate


def auc(scores: FloatArray | DoubleArray, relevant: IndexArray, excluded: IndexArray) -> float:
    """Area under the ROC curve over the full ranking; arguments and errors as `ranking_scores`."""
    return ranking_scores(scores, relevant, excluded).auc


def _competing(scores: FloatArray | DoubleArray, relevant: IndexArray, excluded: IndexArray) -> BoolArray:
    if len(relevant) == 0:
        raise ValueError("a ranking without a relevant item has no quality")
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")
    competes = np.ones(len(scores), dtype=np.bool_)
    competes[excluded] = False
    if not competes[relevant].all():
        raise ValueError("a relevant item is excluded from the ranking")
    return competes


def _ndcg(above: IndexArray, tied: IndexArray, k: int) -> float:
    """above, tied: for each relevant item, how many items score higher, and how many the same (itself included)."""
    discounts = np.concatenate(([0.0], np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))))
    # An item is equally likely on each of the positions of its tie group; those beyond k gain nothing.
    gain = (discounts[np.minimum(above + tied, k)] - discounts[np.minimum(above, k)]) / tied
    return float(gain.sum() / discounts[min(k, len(above))])


def _hit_rate(above: IndexArray, tied: IndexArray, k: int) -> float:
    if (above + tied <= k).any():
        return 1.0
    straddling = np.flatnonzero(above < k)
    if len(straddling) == 0:
        return 0.0
    # All of these lie in the one tie group that the k-th place cuts: `places` of its `size` members get in.
    size, places = int(tied[straddling[0]]), k - int(above[straddling[0]])
    drawn = np.arange(len(straddling))
    return float(1.0 - np.prod(np.maximum(size - places - drawn, 0) / (size - drawn)))


def _auc(own: DoubleArray, irrelevant: DoubleArray) -> float:
    if len(irrelevant) == 0:
        return 0.5
    below = np.searchsorted(irrelevant, own, side="left")
    not_above = np.searchsorted(irrelevant, own, side="right")
    return float((below + not_above).mean() / (2 * len(irrelevant)))
