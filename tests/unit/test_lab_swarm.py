"""Learners with nothing between them but a schedule."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from lab_people import crowd, rng

from p2prec.lab import topology
from p2prec.lab.schedule import Conditions
from p2prec.lab.swarm import LabSwarm, consensus_distance, everyone
from p2prec.manifest import LearningParameters, PrivacyParameters
from p2prec.model import contribution
from p2prec.model.quantize import table_shapes
from p2prec.model.state import ACCUMULATORS, FIELDS, own_part

SEED = bytes(32)
PEOPLE = crowd()
N_PEERS, N_ITEMS = 24, 40
KEYS = PEOPLE.catalogue.keys
LEARNING = LearningParameters(n_factors=3)
ONCE = msgspec.structs.replace(LEARNING, contribute_every_exchanges=10_000)


def swarm(drop: float = 0.0, online: float = 1.0, learning: LearningParameters = LEARNING, seed: int = 5) -> LabSwarm:
    return LabSwarm(
        learning,
        PrivacyParameters(noise_multiplier=0.01),
        KEYS,
        SEED,
        [PEOPLE.of(person) for person in range(N_PEERS)],
        rng(seed),
        views=topology.random_views(N_PEERS, 3, rng(1)),
        conditions=Conditions(drop, online),
    )


def ages(lab: LabSwarm) -> np.ndarray:
    return np.array([learner.age for learner in lab.learners])


def test_the_same_seed_gives_the_same_tables_whatever_the_threads_do() -> None:
    first, second, other = swarm(0.2, 0.8), swarm(0.2, 0.8), swarm(0.2, 0.8, seed=6)
    for lab in (first, second, other):
        lab.run(6)
    for one, two in zip(first.learners, second.learners, strict=True):
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(one.state, name), getattr(two.state, name), name)
    assert not np.array_equal(first.learners[0].state.gradient, other.learners[0].state.gradient)


@pytest.mark.parametrize("n_parts", [1, 3])
def test_traffic_of_a_perfect_network(n_parts: int) -> None:
    learning = msgspec.structs.replace(LEARNING, n_parts=n_parts)
    lab = swarm(learning=learning)
    lab.run(4)
    traffic = lab.traffic
    assert traffic.peer_rounds == 4 * N_PEERS
    assert traffic.exchanges == 4 * N_PEERS * n_parts
    assert traffic.messages == 3 * traffic.exchanges
    a_round = sum(2 * table_shapes(learning, N_ITEMS, part).payload_bytes for part in range(n_parts))
    assert traffic.payload_bytes == 4 * N_PEERS * a_round


def test_traffic_counts_what_is_lost() -> None:
    lab = swarm(drop=0.3)
    lab.run(30)
    traffic = lab.traffic
    size = table_shapes(LEARNING, N_ITEMS).payload_bytes
    offers_and_answers = traffic.payload_bytes // size
    assert traffic.messages == offers_and_answers + traffic.exchanges
    offers = offers_and_answers / 1.7
    assert traffic.exchanges / offers == pytest.approx(0.49, abs=0.05)


def test_everybody_steps_once_a_round_but_in_their_first() -> None:
    lab = swarm()
    lab.run(5)
    assert set(ages(lab)) == {4}


def test_whoever_mixed_nothing_neither_steps_nor_ages() -> None:
    lab = swarm(drop=0.6)
    lab.round()
    start = swarm().learners[0].state.item_factors
    for learner in lab.learners:
        np.testing.assert_allclose(learner.state.item_factors, start, atol=0.1)  # rounded, but nobody has stepped
    assert not ages(lab).any()
    lab.round()
    assert set(ages(lab)) == {0, 1}


def test_absent_peers_do_nothing_and_come_back() -> None:
    lab = swarm(online=0.5)
    for _ in range(60):
        before = [learner.state.copy() for learner in lab.learners]
        lab.round()
        for peer in np.flatnonzero(~lab.schedule.present):
            for name in FIELDS:
                np.testing.assert_array_equal(getattr(lab.learners[peer].state, name), getattr(before[peer], name))
    assert (ages(lab) > 5).all() and (ages(lab) < 60).all()
    assert lab.traffic.peer_rounds == pytest.approx(30 * N_PEERS, rel=0.2)


def test_contributions_are_counted_in_exchanges() -> None:
    lab = swarm(learning=msgspec.structs.replace(LEARNING, contribute_every_exchanges=6))
    lab.run(13)
    counts = np.array([learner.state.contributions for learner in lab.learners])
    assert counts.min() >= 3  # with exchanges that it began alone
    assert counts.mean() == pytest.approx(1 + 2 * 12 / 7, abs=0.7)


def test_sums_are_conserved_under_loss() -> None:
    lab = swarm(drop=0.3, learning=ONCE)
    lab.round()
    names = ("gradient", "evidence", "gram", "probe")
    before = {name: sum(getattr(learner.state, name) for learner in lab.learners) for name in names}
    lab.run(20)
    for name in names:
        after = sum(getattr(learner.state, name) for learner in lab.learners)
        np.testing.assert_allclose(after, before[name], atol=1e-4, err_msg=name)


def test_the_swarm_holds_what_everybody_has_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was lost on the way, and though everybody contributes again and again: each accumulator's sum is that of the own
    parts, but for what fades of others' words.
    """
    monkeypatch.setattr(contribution, "STANDING", 1.0)
    lab = swarm(drop=0.3)
    lab.run(40)
    assert min(learner.state.contributions for learner in lab.learners) > 1
    for name in ACCUMULATORS:
        held, own = (sum(getattr(one.state, field) for one in lab.learners) for field in (name, own_part(name)))
        assert np.abs(own).max() > 0.1
        np.testing.assert_allclose(held, own, atol=1e-4, err_msg=name)


def test_consensus_distance_is_zero_for_equal_copies_and_shrinks_as_they_mix() -> None:
    lab = swarm(learning=msgspec.structs.replace(ONCE, factors_per_byte=1))
    assert lab.consensus_distance() == pytest.approx(0, abs=1e-6)
    lab.run(3)
    early = lab.consensus_distance()
    lab.run(60)
    assert lab.consensus_distance() < 0.3 * early


def test_consensus_distance_by_hand() -> None:
    copies = [np.full((2, 2), 1.0, np.float32), np.full((2, 2), 3.0, np.float32)]
    assert consensus_distance(copies) == pytest.approx(0.5)
    assert consensus_distance([np.zeros((2, 2), np.float32)] * 2) == 0.0


def test_everyone_knows_all_others() -> None:
    assert [view.tolist() for view in everyone(3)] == [[1, 2], [0, 2], [0, 1]]
