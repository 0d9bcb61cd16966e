"""What recent interactions count, and how a history is contributed piece by piece: against plain loops."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from p2prec.manifest import LearningParameters
from p2prec.model.contribution import EVIDENCE_WEIGHT, contribution
from p2prec.model.recency import recency_ranks, recent_weights
from p2prec.model.segments import contribute_segments, draw_segments
from p2prec.model.user import explain, item_gram, scores, solve_user

M, D = 30, 4
IMPLICIT = LearningParameters(n_factors=D, segment_interactions=5, segment_floor=0.25)
EXPLICIT = msgspec.structs.replace(IMPLICIT, objective="explicit", user_reg=2.0)
EVERYTHING = 1000


def factors_of(parameters: LearningParameters, seed: int = 0) -> np.ndarray:
    columns = D + (parameters.objective == "explicit")
    return np.random.default_rng(seed).normal(0, 0.5, (M, columns)).astype(np.float32)


def history(n: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Items, ones, weights, and ranks of distinct times in another order than the items'."""
    rng = np.random.default_rng(seed)
    items = rng.choice(M, n, replace=False)
    ones = np.ones(n, np.float32)
    return items, ones, ones.copy(), recency_ranks(rng.permutation(n) + 1.0)


def test_ranks_count_what_is_newer() -> None:
    assert recency_ranks(np.array([30.0, 10.0, 40.0, 20.0])).tolist() == [1, 3, 0, 2]


def test_equal_times_share_a_rank_and_the_newest_group_has_rank_0() -> None:
    # Newest first: a basket of three (ranks 0, 1, 2: mean 1), one, a basket of two (4, 5: mean 4.5).
    assert recency_ranks(np.array([5.0, 9.0, 7.0, 9.0, 5.0, 9.0])).tolist() == [3.5, 0, 2, 0, 3.5, 0]


def test_unknown_times_are_the_oldest_and_no_times_are_no_order() -> None:
    assert recency_ranks(np.array([0.0, 8.0, 0.0])).tolist() == [1.5, 0, 1.5]
    assert recency_ranks(np.zeros(4)).tolist() == [0, 0, 0, 0]
    assert recency_ranks(np.empty(0)).shape == (0,)


def test_recent_weights_are_those_of_the_formula() -> None:
    parameters = msgspec.structs.replace(IMPLICIT, recency_interactions=2.5, recency_floor=0.1)
    ranks = np.array([0.0, 1.0, 7.0, 0.0], np.float32)
    weights = np.array([1, 1, 1, 0], np.float32)
    expected = [(math.exp(-rank / 2.5) + 0.1) / 1.1 for rank in (0.0, 1.0, 7.0)]
    np.testing.assert_allclose(recent_weights(parameters, ranks, weights), [*expected, 0.0], rtol=1e-6)
    assert recent_weights(parameters, ranks, weights).dtype == np.float32


def test_without_times_and_with_ratings_everything_counts_alike() -> None:
    weights = np.array([1, 1, 0], np.float32)
    assert recent_weights(IMPLICIT, np.zeros(3, np.float32), weights).tolist() == [1, 1, 0]
    assert recent_weights(EXPLICIT, np.array([0, 5, 2], np.float32), weights) is weights


def test_an_explanation_of_weighted_interactions_adds_up() -> None:
    item_factors = factors_of(IMPLICIT)
    items, values, weights, ranks = history(12)
    recent = recent_weights(IMPLICIT, ranks, weights)
    user = solve_user(IMPLICIT, item_factors, items, values, recent)
    explanation = explain(IMPLICIT, item_factors, items, values, 7, recent)
    assert explanation.contributions.sum() == pytest.approx(float(scores(IMPLICIT, item_factors, user)[7]), abs=1e-5)


def test_a_gram_that_is_known_already_changes_nothing() -> None:
    item_factors = factors_of(IMPLICIT)
    items, values, weights, _ = history(12)
    alone = solve_user(IMPLICIT, item_factors, items, values, weights)
    given = solve_user(IMPLICIT, item_factors, items, values, weights, gram=item_gram(IMPLICIT, item_factors))
    np.testing.assert_array_equal(alone, given)


# --- segments ---


def cuts_of(ranks: np.ndarray, segments: np.ndarray) -> int:
    """How often the segment changes from the newest interaction to the oldest."""
    return int((np.diff(segments[np.argsort(ranks)]) != 0).sum())


@pytest.mark.parametrize(
    ("n", "count"), [(1, 1), (7, 1), (8, 2), (12, 2), (13, 3), (30, 6)]
)  # rounded: 5 interactions each
def test_a_history_is_cut_into_stretches_of_time(n: int, count: int) -> None:
    _, _, weights, ranks = history(n)
    rng = np.random.default_rng(3)
    firsts = set()
    for _ in range(50):
        segments = draw_segments(IMPLICIT, ranks, weights, rng)
        sizes = np.bincount(segments.astype(int), minlength=count)
        assert len(sizes) == count and cuts_of(ranks, segments) == count - 1
        assert sizes.sum() == n and sizes.max() <= 1.5 * n / count + 1
        firsts.add(int(segments[np.argmin(ranks)]))
    assert firsts == set(range(count))  # the numbers begin anywhere


def test_cuts_fall_elsewhere_each_time_but_never_within_a_basket() -> None:
    times = np.repeat([1.0, 2.0, 3.0, 4.0, 5.0], 5)
    ranks, weights = recency_ranks(times), np.ones(25, np.float32)
    rng = np.random.default_rng(0)
    drawn = [draw_segments(IMPLICIT, ranks, weights, rng) for _ in range(30)]
    assert all(np.ptp(segments[times == time]) == 0 for segments in drawn for time in range(1, 6))
    _, _, weights, ranks = history(25)
    assert (
        len({tuple(np.diff(draw_segments(IMPLICIT, ranks, weights, rng)) != 0) for _ in range(30)}) == 5
    )  # every shift


def test_without_times_and_with_ratings_there_is_one_segment() -> None:
    rng = np.random.default_rng(0)
    unknown = draw_segments(IMPLICIT, np.zeros(25, np.float32), np.ones(25, np.float32), rng)
    assert np.ptp(unknown) == 0
    assert not draw_segments(EXPLICIT, history(25)[3], np.ones(25, np.float32), rng).any()


@pytest.mark.parametrize("limit", [EVERYTHING, 9])
@pytest.mark.parametrize("parameters", [IMPLICIT, EXPLICIT], ids=["implicit", "explicit"])
def test_a_contribution_is_that_of_a_plain_loop(parameters: LearningParameters, limit: int) -> None:
    item_factors = factors_of(parameters)
    items, values, weights, ranks = history(23)
    found = contribute_segments(
        parameters, item_factors, items, values, weights, ranks, limit, np.random.default_rng(8)
    )

    segments = draw_segments(parameters, ranks, weights, np.random.default_rng(8))
    gradient, chosen = np.zeros(item_factors.shape), np.flatnonzero(found.evidence)
    columns = item_factors.shape[1]
    gram = np.zeros((columns, columns))
    for item, segment in zip(items, segments, strict=True):
        if item not in chosen:
            continue
        own = np.where(segments == segment, 1.0, 0.25) if parameters.objective == "implicit" else np.ones(23)
        user = solve_user(parameters, item_factors, items, values, own.astype(np.float32)).astype(np.float64)
        row = item_factors[item].astype(np.float64)
        if parameters.objective == "implicit":
            feature, predicted = user, user @ row
        else:
            feature, predicted = np.append(user[:-1], 1.0), user[:-1] @ row[:-1] + user[-1] + row[-1]
        gradient[item] = (1 - predicted) * feature
        gram += np.outer(feature, feature) / len(chosen)
    np.testing.assert_allclose(found.gradient, gradient, atol=1e-5)
    np.testing.assert_allclose(found.gram, gram, atol=1e-5)
    assert len(chosen) == min(limit, 23)
    assert found.evidence[chosen] == pytest.approx(float(EVIDENCE_WEIGHT))


def test_a_limit_takes_whole_segments_first_and_all_items_in_time() -> None:
    items, values, weights, ranks = history(25)
    rng, heard = np.random.default_rng(5), np.zeros(M)
    for _ in range(300):
        own = contribute_segments(IMPLICIT, factors_of(IMPLICIT), items, values, weights, ranks, 10, rng)
        touched = own.evidence > 0
        assert touched.sum() == 10
        at = np.sort(ranks[touched[items]])
        assert (np.diff(at) > 1).sum() <= 9  # neighbours in time: two to four stretches, not ten single items
        heard += touched
    assert (np.diff(at) == 1).sum() >= 5
    np.testing.assert_allclose(heard[items] / 300, 10 / 25, atol=0.15)


def test_one_taste_for_all_is_the_contribution_without_segments() -> None:
    parameters = msgspec.structs.replace(IMPLICIT, segment_floor=1.0)
    item_factors = factors_of(parameters)
    items, values, weights, ranks = history(20)
    found = contribute_segments(parameters, item_factors, items, values, weights, ranks, 100, np.random.default_rng(0))
    user = solve_user(parameters, item_factors, items, values)
    expected = contribution(parameters, item_factors, user[None], items, values)
    np.testing.assert_allclose(found.gradient, expected.gradient, atol=1e-6)
    np.testing.assert_allclose(found.gram, np.outer(user, user), atol=1e-6)


def test_nobody_has_nothing_to_say() -> None:
    empty = np.empty(0, np.float32)
    own = contribute_segments(
        IMPLICIT, factors_of(IMPLICIT), np.empty(0, np.int64), empty, empty, empty, 10, np.random.default_rng(0)
    )
    assert not own.gradient.any() and not own.evidence.any() and not own.gram.any()


class Drawn:
    """One row of random numbers for each of several peers, as each would draw alone."""

    def __init__(self, seeds: list[int]) -> None:
        self._own = [np.random.default_rng(seed) for seed in seeds]

    def random(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.stack([rng.random(shape[1:]) for rng in self._own])


def test_many_peers_at_once_are_each_peer_alone() -> None:
    seeds, longest, lengths = [1, 2, 3], 22, [22, 9, 0]
    shape = (len(seeds), longest)
    items, values, weights, ranks = (np.zeros(shape, dtype) for dtype in (np.int64, *[np.float32] * 3))
    item_factors = np.stack([factors_of(IMPLICIT, seed) for seed in seeds])
    for peer, n in enumerate(lengths):
        for table, own in zip((items, values, weights, ranks), history(n, seeds[peer]), strict=True):
            table[peer, :n] = own
    together = contribute_segments(IMPLICIT, item_factors, items, values, weights, ranks, 50, Drawn(seeds))  # type: ignore[arg-type]
    for peer, n in enumerate(lengths):
        own = (table[peer, :n] for table in (items, values, weights, ranks))
        alone = contribute_segments(IMPLICIT, item_factors[peer], *own, 50, np.random.default_rng(seeds[peer]))
        np.testing.assert_allclose(together.gradient[peer], alone.gradient, atol=1e-5)
        np.testing.assert_allclose(together.gram[peer], alone.gram, atol=1e-5)
        np.testing.assert_array_equal(together.evidence[peer], alone.evidence)
