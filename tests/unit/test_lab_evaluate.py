"""Judging against the plainest implementation of the same definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from lab_people import crowd, histories_of, rng

from p2prec.lab.evaluate import Judge
from p2prec.lab.splits import LabSplit, split
from p2prec.metrics.exposure import exposure, long_tail
from p2prec.metrics.fairness import sparse_and_dense_means, worst_share_mean
from p2prec.metrics.sampled import sample_negatives, sampled_scores


@pytest.fixture(scope="module")
def parts() -> LabSplit:
    return split(crowd(20, 150), "last", rng())


def test_full_ranking_equals_the_naive_one(parts: LabSplit) -> None:
    scores = rng(3).normal(size=(20, 150)).astype(np.float32)
    hits, gains = [], []
    for person in range(20):
        seen = set(parts.train.of(person).items.tolist())
        (held,) = parts.test.of(person).items.tolist()
        ranked = sorted((item for item in range(150) if item not in seen), key=lambda item: -scores[person, item])
        rank = ranked.index(held)
        hits.append(rank < 10)
        gains.append(1 / math.log2(rank + 2) if rank < 10 else 0)
    judgement = Judge(parts, "implicit", rng()).judge(scores)
    assert judgement.figures["full"] == pytest.approx({"hr_at_10": np.mean(hits), "ndcg_at_10": np.mean(gains)})


def test_sampled_ranking_equals_the_naive_one(parts: LabSplit) -> None:
    scores = rng(4).normal(size=(20, 150)).astype(np.float32)
    draw = rng(7)
    hits, gains = [], []
    for person in range(20):
        touched = np.concatenate([parts.train.of(person).items, parts.test.of(person).items])
        negatives = sample_negatives(150, touched, draw)
        assert len(set(negatives.tolist()) - set(touched.tolist())) == 99
        rank = int((scores[person, negatives] > scores[person, parts.test.of(person).items[0]]).sum())
        hits.append(rank < 10)
        gains.append(1 / math.log2(rank + 2) if rank < 10 else 0)
    judgement = Judge(parts, "implicit", rng(7)).judge(scores)
    assert judgement.figures["sampled"] == pytest.approx({"hr_at_10": np.mean(hits), "ndcg_at_10": np.mean(gains)})


def test_questions_are_the_same_for_every_method(parts: LabSplit) -> None:
    judge = Judge(parts, "implicit", rng())
    scores = rng(5).normal(size=(20, 150)).astype(np.float32)
    assert (
        judge.judge(scores).figures
        == judge.judge(scores).figures
        == Judge(parts, "implicit", rng()).judge(scores).figures
    )


def test_few_negatives_are_all_taken() -> None:
    assert sample_negatives(5, np.array([1, 3]), rng()).tolist() == [0, 2, 4]
    assert sample_negatives(102, np.array([1, 3]), rng()).size == 99
    assert sample_negatives(2, np.array([0, 1]), rng()).size == 0
    histories = histories_of({"a": [(0, 1, 1), (1, 1, 2)], "b": [(0, 1, 1), (2, 1, 2)]}, 3)
    judge = Judge(split(histories, "last", rng()), "implicit", rng())
    assert judge.judge(np.zeros((2, 3), np.float32)).figures["sampled"]["hr_at_10"] == 1  # two candidates at most


def test_ties_count_as_ordered_at_random() -> None:
    constant = sampled_scores(np.zeros(4), np.zeros((4, 99)))
    assert constant.hit_rate == pytest.approx(0.1)
    assert constant.ndcg == pytest.approx(sum(1 / math.log2(place + 1) for place in range(1, 11)) / 100)


def test_ratings_are_pooled_and_cut_to_the_known_range() -> None:
    histories = histories_of({"a": [(0, 5, 1), (1, 1, 2), (2, 4, 3)], "b": [(0, 2, 1), (1, 3, 2)]}, 3)
    parts = split(histories, "last", rng())  # tests: (a, 2) = 4 and (b, 1) = 3; training ratings 1 to 5
    scores = np.array([[0, 0, 99], [0, 2.5, 0]], np.float32)
    judgement = Judge(parts, "explicit", rng()).judge(scores)
    assert judgement.figures["rmse"] == pytest.approx(math.sqrt(((5 - 4) ** 2 + 0.5**2) / 2))
    assert judgement.fairness["worst_decile_rmse"] == pytest.approx(1.0)


def test_people_without_a_test_part_do_not_count() -> None:
    histories = histories_of({"a": [(0, 5, 1), (1, 1, 2)], "b": [(0, 2, 0), (1, 3, 0)]}, 2)
    whole = split(histories, "random", rng())
    judged = Judge(whole, "explicit", rng())
    assert judged.people.tolist() == [u for u in range(2) if len(whole.test.of(u))]
    judged.judge(np.full((2, 2), 3, np.float32))


def test_worst_share_is_at_least_one_person() -> None:
    values = np.array([0.5, 0.1, 0.9, 0.3])
    assert worst_share_mean(values) == 0.1
    assert worst_share_mean(values, share=0.5) == pytest.approx(0.2)
    assert worst_share_mean(values, lower_is_worse=False) == 0.9


def test_sparse_and_dense_people() -> None:
    assert sparse_and_dense_means(np.array([1.0, 2, 3, 4]), np.array([9, 1, 5, 7])) == (2.0, 1.0)


def test_long_tail_is_what_the_head_leaves() -> None:
    assert long_tail(np.array([50, 30, 15, 5])).tolist() == [False, False, True, True]
    assert long_tail(np.array([50, 29, 16, 5])).tolist() == [False, False, False, True]


def test_exposure_of_equal_and_of_single_items() -> None:
    counts = np.array([50, 30, 15, 5])
    even = exposure(np.array([0, 1, 2, 3]), counts)
    assert (even.gini, even.coverage, even.long_tail_share) == (pytest.approx(0), 1, 0.5)
    single = exposure(np.array([3, 3, 3]), counts)
    assert (single.gini, single.coverage, single.long_tail_share) == (pytest.approx(0.75), 0.25, 1)
