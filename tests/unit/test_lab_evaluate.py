"""Judging against the plainest implementation of the same definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from lab_people import crowd, histories_of, rng

from p2prec.lab.evaluate import Judge, mean_of, paired
from p2prec.lab.splits import LabSplit, split
from p2prec.metrics.exposure import exposure, long_tail
from p2prec.metrics.fairness import sparse_and_dense_means, worst_share_mean
from p2prec.metrics.paired import ratio_of_means
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


def test_the_mean_of_several_runs_is_that_of_everything(parts: LabSplit) -> None:
    judge = Judge(parts, "implicit", rng())
    one, other = (judge.judge(rng(seed).normal(size=(20, 150)).astype(np.float32)) for seed in (3, 4))
    mean = mean_of([one, other])
    for kind in ("full", "sampled"):
        for name, value in mean.figures[kind].items():  # type: ignore[union-attr]
            assert value == pytest.approx((one.figures[kind][name] + other.figures[kind][name]) / 2)  # type: ignore[index]
            people = (one.of_people[kind][name] + other.of_people[kind][name]) / 2
            np.testing.assert_allclose(mean.of_people[kind][name], people)
    assert mean.fairness["mean_auc"] == pytest.approx((one.fairness["mean_auc"] + other.fairness["mean_auc"]) / 2)
    assert mean_of([one]).figures == one.figures


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
    hits, ndcg = sampled_scores(np.zeros(4), np.zeros((4, 99)))
    assert hits == pytest.approx(0.1)
    assert ndcg == pytest.approx(sum(1 / math.log2(place + 1) for place in range(1, 11)) / 100)


def test_ratings_are_pooled_and_cut_to_the_known_range() -> None:
    histories = histories_of({"a": [(0, 5, 1), (1, 1, 2), (2, 4, 3)], "b": [(0, 2, 1), (1, 3, 2)]}, 3)
    parts = split(histories, "last", rng())  # tests: (a, 2) = 4 and (b, 1) = 3; training ratings 1 to 5
    scores = np.array([[0, 0, 99], [0, 2.5, 0]], np.float32)
    judgement = Judge(parts, "explicit", rng()).judge(scores)
    assert judgement.figures["rmse"] == pytest.approx(math.sqrt(((5 - 4) ** 2 + 0.5**2) / 2))
    assert judgement.fairness["worst_decile_rmse"] == pytest.approx(1.0)


def test_a_ratio_of_means_knows_how_much_of_it_is_luck() -> None:
    """The standard error that the formula gives is the spread over many draws of people."""
    draws = rng()
    people = draws.normal(1.0, 0.3, (2000, 400))
    other = people + draws.normal(0.0, 0.1, people.shape)
    one = 0.9 * people + draws.normal(0.0, 0.1, people.shape)
    ratios = [ratio_of_means(mine, theirs) for mine, theirs in zip(one, other, strict=True)]
    found = np.array([(ratio.ratio, ratio.standard_error) for ratio in ratios if ratio is not None])
    assert found[:, 0].mean() == pytest.approx(0.9, abs=0.001)
    assert found[:, 1].mean() == pytest.approx(found[:, 0].std(), rel=0.05)
    assert ratio_of_means(one[0], np.zeros(400)) is None
    assert ratio_of_means(one[0, :1], other[0, :1]) is None


def test_methods_are_compared_figure_by_figure_on_the_same_people() -> None:
    histories = histories_of({name: [(n, 1, 1), (n + 1, 5, 2), (n + 2, 3, 3)] for n, name in enumerate("abcd")}, 200)
    for kind, objective in (("last", "implicit"), ("random", "implicit"), ("random", "explicit")):
        parts = split(histories, kind, rng())
        judge = Judge(parts, objective, rng())
        noise = rng().normal(size=(4, 200)).astype(np.float32)
        one, other = judge.judge(noise + 2 * (np.arange(200) < 20)), judge.judge(noise + (np.arange(200) < 20))
        ratios, alike = paired(one, other), paired(one, one)
        for name, ratio in ratios.items() if objective == "implicit" else ():
            assert {key: of["ratio"] for key, of in ratio.items()} == pytest.approx(
                {key: one.figures[name][key] / other.figures[name][key] for key in ratio}
            )
            assert all(of["standard_error"] >= 0 for of in ratio.values())
            assert all(of == {"ratio": 1.0, "standard_error": 0.0} for of in alike[name].values())
    assert alike["rmse"] == {"ratio": 1.0, "standard_error": 0.0}
    assert ratios["rmse"]["standard_error"] > 0
    assert ratios["rmse"]["ratio"] == pytest.approx(one.figures["rmse"] / other.figures["rmse"])


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
