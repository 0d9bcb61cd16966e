"""Graphs, lost messages and absent peers."""

from __future__ import annotations

import numpy as np
import pytest
from lab_people import crowd, histories_of, rng

from p2prec.lab import topology
from p2prec.lab.baselines.base import Objective
from p2prec.lab.network import Conditions, NetworkedSwarm, consensus_distance
from p2prec.lab.swarm import LabSwarm, People
from p2prec.manifest import LearningParameters, PrivacyParameters
from p2prec.model.quantize import table_shapes
from p2prec.types import IndexArray

SEED = bytes(32)
HISTORIES = crowd()
KEYS = HISTORIES.catalogue.keys
PEOPLE = People.of([(one.items, np.ones_like(one.values)) for one in map(HISTORIES.of, range(len(HISTORIES)))])
LEARNING = LearningParameters(n_factors=3)


def views(kind: topology.Kind = "random", degree: int = 3) -> list[IndexArray]:
    return topology.neighbours(kind, HISTORIES, rng(1), degree)


def swarm(drop: float = 0.0, online: float = 1.0, learning: LearningParameters = LEARNING) -> NetworkedSwarm:
    conditions = Conditions(drop, online)
    return NetworkedSwarm(
        learning, PrivacyParameters(), KEYS, SEED, PEOPLE, rng(5), views=views(), conditions=conditions
    )


# --- graphs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", topology.KINDS)
@pytest.mark.parametrize("n_peers", [2, 3, 7, 24])
def test_links_count_both_ways_and_reach_everybody(kind: topology.Kind, n_peers: int) -> None:
    links = topology.neighbours(kind, crowd(n_peers), rng(), degree=2)
    linked = np.zeros((n_peers, n_peers), np.bool_)
    for peer, row in enumerate(links):
        linked[peer, row] = True
    assert (linked == linked.T).all()
    assert not linked.diagonal().any()
    assert topology.components(linked).max() == 0


def test_graphs_have_their_shapes() -> None:
    assert {len(row) for row in views("ring", 4)} == {4}
    assert views("ring", 4)[0].tolist() == [1, 2, 22, 23]
    assert {len(row) for row in topology.neighbours("torus", crowd(25), rng())} == {4}
    assert {len(row) for row in views("random", 23)} == {23}
    assert min(len(row) for row in views("random", 3)) >= 3
    moved = sum(
        row.tolist() != ring.tolist() for row, ring in zip(views("smallworld", 6), views("ring", 6), strict=True)
    )
    assert 0 < moved < 24


def test_friends_share_a_taste() -> None:
    one, other = [(i, 1, 1) for i in range(5)], [(i, 1, 1) for i in range(5, 10)]
    histories = histories_of({"a": one, "b": other, "c": one, "d": other, "e": one, "f": other}, 10)
    links = topology.neighbours("friends", histories, rng(), degree=2)
    crossing = sum((peer + friend) % 2 for peer, row in enumerate(links) for friend in row)
    assert crossing == 2  # the one link that keeps the swarm in one piece, from both ends


def test_the_same_seed_draws_the_same_graph() -> None:
    assert [row.tolist() for row in views()] == [row.tolist() for row in views()]


# --- faults -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["implicit", "explicit"])
def test_a_perfect_network_computes_what_the_plain_swarm_does(objective: Objective) -> None:
    learning = LearningParameters(objective=objective, n_factors=3)
    networked = swarm(learning=learning)
    plain = LabSwarm(learning, PrivacyParameters(), KEYS, SEED, PEOPLE, rng(5), views=views())
    networked.run(8)
    plain.run(8)
    np.testing.assert_array_equal(networked.state.item_factors, plain.state.item_factors)


def test_traffic_of_a_perfect_network() -> None:
    networked = swarm()
    networked.run(4)
    traffic = networked.traffic
    assert traffic.exchanges == traffic.peer_rounds == 4 * 24
    assert traffic.messages == 3 * traffic.exchanges
    assert traffic.payload_bytes == 2 * traffic.exchanges * table_shapes(LEARNING, 40).payload_bytes


def test_lost_messages_fail_exchanges_as_often_as_two_messages_are_lost() -> None:
    networked = swarm(drop=0.3)
    networked.run(40)
    traffic = networked.traffic
    offers = 40 * 24
    assert traffic.exchanges / offers == pytest.approx(0.49, abs=0.05)
    answers = traffic.messages - offers - traffic.exchanges
    assert answers / offers == pytest.approx(0.7, abs=0.05)


def test_whoever_mixed_nothing_neither_steps_nor_ages() -> None:
    networked = swarm(drop=0.6)
    networked.round()
    still = networked.state.age == 0
    assert 0 < still.sum() < 24
    start = networked.state.item_factors[still]
    assert (start == start[0]).all()


def test_absent_peers_do_nothing_and_come_back() -> None:
    networked = swarm(online=0.5)
    shares = []
    for _ in range(200):
        before = networked.state.item_factors.copy()
        networked.round()
        away = ~networked._present
        np.testing.assert_array_equal(networked.state.item_factors[away], before[away])
        shares.append(networked._present.mean())
    assert np.mean(shares) == pytest.approx(0.5, abs=0.1)
    assert (networked.state.age > 20).all()


def test_everybody_contributes_on_their_own_schedule() -> None:
    learning = LearningParameters(n_factors=3, contribute_every_rounds=4)
    networked = swarm(learning=learning)
    contributed = []
    inner = networked._contribute
    networked._contribute = lambda: contributed.append(int(networked.state.age[0])) or inner()  # type: ignore[method-assign]
    networked.run(9)
    assert contributed == [0, 4, 8]


def test_some_peers_contribute_exactly_as_all_do() -> None:
    everybody, some = swarm(), swarm()
    everybody._contribute()
    some._contribute_some(np.array([3, 0, 17]))
    for name in ("gradient", "evidence", "gram"):
        whole, part = getattr(everybody.state, name), getattr(some.state, name)
        np.testing.assert_allclose(part[[0, 3, 17]], whole[[0, 3, 17]], atol=1e-6)
        assert not np.delete(part, [0, 3, 17], axis=0).any()


def test_sums_are_conserved_under_loss() -> None:
    networked = swarm(drop=0.3, learning=LearningParameters(n_factors=3, contribute_every_rounds=10_000))
    networked.round()
    before = networked.state.gradient.sum(axis=0)
    networked.run(20)
    np.testing.assert_allclose(networked.state.gradient.sum(axis=0), before, atol=1e-4)


def test_consensus_distance_is_zero_for_equal_copies_and_shrinks_as_they_mix() -> None:
    networked = swarm(learning=LearningParameters(n_factors=3, contribute_every_rounds=10_000))
    assert consensus_distance(networked) == pytest.approx(0, abs=1e-6)
    networked.run(2)
    early = consensus_distance(networked)
    networked.run(60)
    assert consensus_distance(networked) < 0.3 * early
