"""Private swarms in the lab: what is conserved, what crashes leave behind, and what is learned."""

from __future__ import annotations

import numpy as np
import pytest

from p2prec.lab.gossip_sum import Crashes, decide, decide_again, play, weights
from p2prec.lab.noise_cost import costs
from p2prec.lab.noise_left import noise_left
from p2prec.lab.private_peers import SimulatedPrivateSwarm
from p2prec.lab.private_swarm import FreshDraw, PrivateSwarm, SwarmsDraw, learn_centrally, mask_graph, plan_of
from p2prec.lab.topology import random_views
from p2prec.model.pairs import n_pairs, pair_scores, unpack
from p2prec.privacy.plan import COLLUDING, MIN_PARTNERS
from p2prec.privacy.promise import mixing_rounds
from p2prec.types import IndexArray

N = 150


def everybody(n: int = N) -> list[IndexArray]:
    return [np.delete(np.arange(n), peer) for peer in range(n)]


def nobody(n: int = N) -> list[IndexArray]:
    return [np.empty(0, np.int64)] * n


@pytest.mark.parametrize("quantized", [False, True])
def test_exchanges_conserve_the_sum_and_reach_the_mean(quantized: bool) -> None:
    rng = np.random.default_rng(1)
    course = decide(everybody(), 25, Crashes(), rng)
    values = rng.normal(size=(N, 70)).astype(np.float32)
    before = values.sum(axis=0, dtype=np.float64)
    play(course, values, quantized=quantized)
    assert np.allclose(values.sum(axis=0, dtype=np.float64), before, atol=1e-3)
    assert np.abs(values - before / N).max() < (0.02 if quantized else 0.001)


@pytest.mark.parametrize("share", [0.1, 0.2])
def test_the_dead_are_inherited_from(share: float) -> None:
    rng = np.random.default_rng(2)
    course = decide(everybody(), 25, Crashes(share), rng)
    assert (~course.alive).sum() == round(share * N)
    weight = weights(course, np.ones(N, np.bool_))
    # Even those who had met nobody yet live on, by their guardians.
    assert weight[course.alive].sum() == pytest.approx(N, abs=0.6)
    again = decide_again(everybody(), 25, course, rng)
    assert weights(again, np.ones(N, np.bool_))[course.alive].sum() == pytest.approx(N - again.lost, abs=1e-3)


def test_without_inheritance_the_dead_take_their_share_along() -> None:
    rng = np.random.default_rng(2)
    course = decide(everybody(), 25, Crashes(0.2), rng, inherit=False)
    assert weights(course, np.ones(N, np.bool_))[course.alive].sum() < 0.9 * N
    assert course.lost > 0.1 * N


def test_noise_left_with_and_without_inheritance() -> None:
    found = [noise_left(everybody(200), 32, 0.1, np.random.default_rng(seed)) for seed in range(2)]
    lost = noise_left(everybody(200), 32, 0.1, np.random.default_rng(0), inherit=False)
    assert all(0.95 < one < 1.3 for one in found)
    assert lost > 5


def test_those_with_few_partners_sit_out() -> None:
    pairs, contributing = mask_graph(400, np.random.default_rng(1))
    counts = np.bincount(pairs.ravel(), minlength=400)
    assert (counts[contributing] >= MIN_PARTNERS).all()
    assert (counts[~contributing] == 0).all()


def test_a_swarm_learns_what_a_curator_learns() -> None:
    rng = np.random.default_rng(5)
    likely = 0.6 / (1 + np.arange(60) % 30 / 5)
    histories = [
        np.flatnonzero(rng.random(60) < np.where((np.arange(60) < 30) == (person % 2), likely, likely / 8))
        for person in range(300)
    ]
    views, rounds = everybody(300), mixing_rounds(300)
    swarm = PrivateSwarm(histories, 60, 8.0, 1e-5, rng, views=views, rounds=rounds, crashes=Crashes(0.1))
    models = swarm.learn()
    assert swarm.scores(models).shape == (300, 60)
    assert swarm.pair_sum.noise_ratio < 1.5
    central = learn_centrally(histories, 60, plan_of(8.0, 1e-5, 300), 1.0, FreshDraw(rng))
    own, theirs = np.array([2, 3, 4, 6]), np.array([32, 33, 34, 36])
    own_draw = SwarmsDraw(swarm.popularity_sum.noise, swarm.pair_sum.noise, models[0].selected, rng)
    alike = learn_centrally(histories, 60, plan_of(8.0, 1e-5, 300), 1.0, own_draw)
    assert (
        np.abs(alike.popularity - models[0].popularity).mean()
        < np.abs(central.popularity - models[0].popularity).mean() / 2
    )
    for model in (models[0], central, alike):
        low, high = np.arange(8, 14), np.arange(38, 44)
        for items, liked, other in ((own, low, high), (theirs, high, low)):
            scores = pair_scores(model, items)
            assert scores[liked].mean() > scores[other].mean()


def test_a_curator_with_the_swarms_draw_has_its_noise_at_a_curators_size() -> None:
    rng = np.random.default_rng(6)
    popularity, selected = 3 * rng.standard_normal(200).astype(np.float32), np.arange(50, 110)
    pairs = 0.1 * rng.standard_normal(n_pairs(60)).astype(np.float32)
    draw = SwarmsDraw(popularity, pairs, selected, rng)
    assert draw.of_popularity(200).std() == pytest.approx(1)
    assert np.corrcoef(draw.of_popularity(200), popularity)[0, 1] == pytest.approx(1)
    # A curator selects other items, in another order: what is known of a pair goes with it, the others are drawn.
    other = np.arange(119, 59, -1)
    found, known = unpack(draw.of_pairs(other), 60), unpack(pairs / pairs.std(), 60)
    assert found[59, 58] == pytest.approx(known[10, 11], rel=1e-5)  # items 60 and 61
    assert found[50, 10] == pytest.approx(known[19, 59], rel=1e-5)  # items 69 and 109
    assert draw.of_pairs(other).std() == pytest.approx(1, abs=0.05)


def test_a_promise_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        PrivateSwarm(
            nobody(40), 60, 8.0, 1e-5, np.random.default_rng(1), views=everybody(40), rounds=5, crashes=Crashes()
        )


@pytest.mark.slow
def test_the_daemons_own_peers_learn_it_too() -> None:
    """Over the simulated network, a tenth crashing at any time of each sum and coming back afterwards."""
    rng = np.random.default_rng(5)
    n, m = 56, 60
    histories = [np.flatnonzero(rng.random(m) < 0.5 / (1 + np.arange(m) / 8)) for _ in range(n)]
    swarm = SimulatedPrivateSwarm(histories, m, 8.0, 1e-5, rng, views=random_views(n, 4, rng), crashes=Crashes(0.1))
    told: list[float] = []
    models = swarm.learn(told.append)
    assert told == sorted(told)
    assert told[-1] == 1
    assert swarm.scores(models).shape == (n, m)
    for result in (swarm.popularity_sum, swarm.pair_sum):
        assert 0.9 < result.noise_ratio < 1.4
        assert result.contributors >= swarm.promise.n_people + COLLUDING
        assert (~result.course.alive).sum() == 6
    assert len({model.selected.tobytes() for model in models}) == 1


def test_what_noise_costs_and_what_chance_does() -> None:
    draws = np.array([0.09, 0.11])
    found = np.stack([[draws, 0.9 * draws], [draws + 0.02, 0.9 * (draws + 0.02)]])  # two seeds, two amounts, two draws
    first, more = costs(found)
    assert (first.ndcg_at_10, first.relative, first.standard_error) == (pytest.approx(0.11), 1.0, 0.0)
    assert more.relative == pytest.approx(0.9)
    assert more.standard_error == pytest.approx(0.1 * np.std(draws, ddof=1) / np.sqrt(2) / 0.11)
    # Two seeds, one draw each: the standard deviation of their mean is 1/sqrt(2) of a draw's.
    assert first.by_chance == pytest.approx(np.std(draws, ddof=1) / np.sqrt(2) / 0.11)
