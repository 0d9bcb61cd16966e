from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from p2prec.metrics.ranking import auc, hit_rate_at_k, ndcg_at_k, ranking_scores
from p2prec.metrics.rating import rmse


def by_permutation(scores: np.ndarray, relevant: set[int], excluded: set[int], k: int) -> tuple[float, float, float]:
    """The definition itself: average over all orders that the scores allow."""
    items = [item for item in range(len(scores)) if item not in excluded]
    orders = [
        order
        for order in itertools.permutations(items)
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(k, len(relevant))))
    ndcg = hit = 0.0
    pairs = wins = 0.0
    for order in orders:
        hits = [rank for rank, item in enumerate(order[:k]) if item in relevant]
        ndcg += sum(1 / math.log2(rank + 2) for rank in hits) / ideal
        hit += bool(hits)
        for a in relevant:
            for b in set(items) - relevant:
                pairs += 1
                wins += order.index(a) < order.index(b)
    return ndcg / len(orders), hit / len(orders), wins / pairs if pairs else 0.5


@pytest.mark.parametrize("seed", range(40))
def test_metrics_equal_their_definition_averaged_over_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_items, k = 7, int(rng.integers(1, 5))
    scores = rng.integers(0, 3, n_items).astype(np.float32)
    shuffled = rng.permutation(n_items)
    n_relevant = int(rng.integers(1, 4))
    relevant, excluded = shuffled[:n_relevant], shuffled[n_relevant : n_relevant + int(rng.integers(0, 3))]
    found = ranking_scores(scores, relevant, excluded, k)
    expected = by_permutation(scores, set(relevant.tolist()), set(excluded.tolist()), k)
    assert (found.ndcg, found.hit_rate, found.auc) == pytest.approx(expected, abs=1e-12)


def test_a_perfect_and_a_reversed_ranking() -> None:
    scores = np.arange(100, dtype=np.float32)
    none = np.array([], dtype=np.int64)
    best, worst = np.arange(95, 100), np.arange(5)
    assert (ndcg_at_k(scores, best, none), hit_rate_at_k(scores, best, none), auc(scores, best, none)) == (1, 1, 1)
    assert (ndcg_at_k(scores, worst, none), hit_rate_at_k(scores, worst, none), auc(scores, worst, none)) == (0, 0, 0)


def test_training_items_do_not_compete() -> None:
    scores = np.array([9.0, 8.0, 1.0, 0.0], np.float32)
    assert ndcg_at_k(scores, np.array([2]), np.array([0, 1]), k=1) == 1.0
    assert ndcg_at_k(scores, np.array([2]), np.array([0]), k=1) == 0.0


def test_a_model_that_knows_nothing_scores_as_chance_wherever_the_items_stand() -> None:
    scores = np.zeros(1000, np.float32)
    first, last = np.array([0]), np.array([999])
    none = np.array([], dtype=np.int64)
    assert hit_rate_at_k(scores, first, none) == pytest.approx(0.01)
    assert ranking_scores(scores, first, none) == ranking_scores(scores, last, none)
    assert auc(scores, first, none) == 0.5


def test_rankings_without_an_answer_are_refused() -> None:
    scores, none = np.zeros(3, np.float32), np.array([], dtype=np.int64)
    with pytest.raises(ValueError, match="without a relevant item"):
        ndcg_at_k(scores, none, none)
    with pytest.raises(ValueError, match="excluded"):
        ndcg_at_k(scores, np.array([1]), np.array([1]))
    with pytest.raises(ValueError, match="finite"):
        ndcg_at_k(np.array([0.0, np.nan], np.float32), np.array([1]), none)


def test_rmse() -> None:
    assert rmse(np.array([1.0, 2.0]), np.array([2.0, 4.0])) == pytest.approx(math.sqrt(2.5))
    with pytest.raises(ValueError, match="compare"):
        rmse(np.array([]), np.array([]))
    with pytest.raises(ValueError, match="compare"):
        rmse(np.zeros(2), np.zeros((2, 1)))
