"""Learning from two sums: the statistics stay within their norm, and noise is told from taste."""

from __future__ import annotations

import numpy as np
import pytest

from p2prec.model.pairs import (
    MAX_SELECTED,
    POPULARITY_ITEMS,
    expected_popularity,
    fit,
    n_pairs,
    n_selected,
    pack,
    pair_factors,
    pair_noise,
    pair_reasons,
    pair_scores,
    pair_statistic,
    popularity_model,
    popularity_noise,
    popularity_of,
    popularity_statistic,
    select,
    unpack,
)
from p2prec.types import FloatArray, IndexArray

N_ITEMS = 60


def people(rng: np.random.Generator, n: int = 400) -> list[IndexArray]:
    """Two kinds, who like different halves of the items; low numbers are popular."""
    likely = 0.6 / (1 + np.arange(N_ITEMS) % 30 / 5)
    return [
        np.flatnonzero(rng.random(N_ITEMS) < np.where((np.arange(N_ITEMS) < 30) == (person % 2), likely, likely / 8))
        for person in range(n)
    ]


def sums(histories: list[IndexArray], count: int = 40) -> tuple[FloatArray, IndexArray, FloatArray, FloatArray]:
    popularity = popularity_of(np.mean([popularity_statistic(h, N_ITEMS) for h in histories], axis=0))
    selected = select(popularity, count)
    expected = expected_popularity(popularity, selected, 0.0)
    return (
        popularity,
        selected,
        expected,
        np.mean([pair_statistic(h, selected, expected, N_ITEMS) for h in histories], axis=0),
    )


@pytest.mark.parametrize("length", [0, 1, POPULARITY_ITEMS, POPULARITY_ITEMS + 1, 200])
def test_a_vote_has_norm_one_at_most(length: int) -> None:
    vote = popularity_statistic(np.arange(length), 200)
    assert np.linalg.norm(vote) <= 1 + 1e-6
    assert np.count_nonzero(vote) == length
    if length >= POPULARITY_ITEMS:
        assert np.linalg.norm(vote) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("items", [[], [0], [59], [0, 1, 2, 30, 31], list(range(N_ITEMS))])
def test_a_pair_statistic_has_norm_one_or_none(items: list[int]) -> None:
    expected = np.full(40, 0.2, np.float32)
    found = pair_statistic(np.array(items, np.int64), np.arange(40), expected, N_ITEMS)
    known = any(item < 40 for item in items)
    assert np.linalg.norm(found) == pytest.approx(1.0 if known else 0.0, abs=1e-5)


def test_packing_keeps_the_norm_and_comes_back() -> None:
    rng = np.random.default_rng(1)
    half = rng.normal(size=(7, 7))
    matrix = (half + half.T).astype(np.float32)
    packed = pack(matrix)
    assert len(packed) == n_pairs(7)
    assert np.linalg.norm(packed) == pytest.approx(np.linalg.norm(matrix), rel=1e-6)
    assert np.allclose(unpack(packed, 7), matrix, atol=1e-6)


def test_tastes_are_found_and_used() -> None:
    rng = np.random.default_rng(1)
    model = fit(*sums(people(rng)), std=0.0)
    mine = np.array([2, 3, 4, 6])
    scores = pair_scores(model, mine)
    others = np.setdiff1d(model.selected, mine)
    assert scores[others[others < 30]].mean() > scores[others[others >= 30]].mean()


def test_strong_noise_leaves_popularity() -> None:
    rng = np.random.default_rng(1)
    popularity, selected, expected, mean = sums(people(rng))
    std = 10.0
    noisy = (mean + rng.normal(0, std, len(mean))).astype(np.float32)
    # Not a single eigenvalue beyond what noise alone gives, but for chance near its edge.
    model = fit(popularity, selected, expected, noisy, std * 1.1)
    assert len(model.gains) == 0
    assert np.array_equal(np.argsort(pair_scores(model, np.array([2, 40]))), np.argsort(popularity))


def test_noise_is_noticed_without_being_told() -> None:
    rng = np.random.default_rng(2)
    popularity, selected, expected, mean = sums(people(rng))
    assert pair_noise(mean, len(selected)) < 1e-3
    assert pair_noise((mean + rng.normal(0, 0.1, len(mean))).astype(np.float32), len(selected)) == pytest.approx(
        0.1, rel=0.2
    )
    vote = np.zeros(2000, np.float32)
    assert popularity_noise(vote) == 0
    assert popularity_noise(rng.normal(0, 0.3, 2000).astype(np.float32)) == pytest.approx(0.3, rel=0.1)
    # Fitting believes what it sees more than what it is told.
    told = fit(popularity, selected, expected, (mean + rng.normal(0, 0.1, len(mean))).astype(np.float32), std=0.0)
    assert len(told.gains) <= 3


def test_how_many_items_are_selected() -> None:
    assert n_selected(1682, 943, 1.55) < n_selected(1682, 943, 3.0)
    assert n_selected(100, 943, 1.55) == 100
    assert n_selected(100_000, 10_000_000, 5.0) == MAX_SELECTED
    assert n_selected(100, 50, 1e-9) == 2


def test_expected_popularity_is_never_nothing() -> None:
    popularity = np.array([0.5, -0.2, 0.0], np.float32)
    assert expected_popularity(popularity, np.arange(3), 0.1).tolist() == pytest.approx([0.5, 0.1, 0.1])
    assert (expected_popularity(popularity, np.arange(3), 0.0) > 0).all()


def test_before_the_second_sum_everybody_gets_the_popular_items() -> None:
    popularity = np.array([0.1, 0.5, -0.02, 0.3], np.float32)
    model = popularity_model(popularity, 0.01)
    for items in ([], [0], [1, 3]):
        scores = pair_scores(model, np.array(items, np.int64))
        assert np.argsort(-scores).tolist() == [1, 3, 0, 2]
        assert not pair_reasons(model, np.array(items, np.int64), 1).any()
    assert np.isfinite(pair_scores(popularity_model(np.full(4, -1, np.float32), 0.0), np.array([0]))).all()


def test_an_item_is_recommended_because_of_items_of_its_own_kind() -> None:
    model = fit(*sums(people(np.random.default_rng(0), 4000)), 0.004)
    own = np.array([0, 1, 2, 3, 30])
    reasons = pair_reasons(model, own, 4)
    assert reasons[:4].min() > 0 > reasons[4]
    assert not pair_reasons(model, own, 34).any()  # of the other kind: ranked by popularity
    rare = int(np.setdiff1d(np.arange(N_ITEMS), model.selected)[0])
    assert not pair_reasons(model, own, rare).any()
    assert not pair_reasons(model, np.array([rare]), 4).any()


def test_reasons_and_what_activity_takes_off_make_the_whole_taste_part() -> None:
    model = fit(*sums(people(np.random.default_rng(1))), 0.0)
    items = np.array([0, 1, 5, 30])
    taste = pair_scores(model, items)[4] - model.popularity[4] * len(items) / model.expected.sum()
    place = {int(item): at for at, item in enumerate(model.selected)}
    row = model.directions @ (model.gains * model.directions[place[4]])
    activity = np.isin(model.selected, items).sum() / model.expected.sum()
    taken_off = float(np.minimum(activity * model.expected, 0.9) @ row)
    assert pair_reasons(model, items, 4).sum() - taken_off == pytest.approx(taste, abs=1e-4)


def test_items_of_a_kind_are_alike() -> None:
    model = fit(*sums(people(np.random.default_rng(2), 4000)), 0.004)
    factors = pair_factors(model)
    kind = model.selected < 30
    cosines = factors @ factors.T / np.outer(*[np.linalg.norm(factors, axis=1)] * 2)
    assert cosines[np.ix_(kind, kind)].mean() > 0.3 > cosines[np.ix_(kind, ~kind)].mean()
