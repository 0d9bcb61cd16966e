"""A swarm with a promise, of the daemon's own peers over the simulated network: both sums, crashes, returns and newcomers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2prec.config import PeerSettings
from p2prec.data.catalogue import Catalogue
from p2prec.manifest import LearningParameters, Manifest, Promise, reference_catalogue
from p2prec.model.pairs import pair_statistic, popularity_statistic
from p2prec.peer.private_peer import PAIRS, POPULARITY
from p2prec.privacy.plan import PrivacyPlan
from p2prec.sim.world import SimulatedPeer, World
from p2prec.types import FloatArray, ItemKey

N_PEERS, N_ITEMS, N_PEOPLE = 60, 80, 50
PROMISE = Promise(
    epsilon=4.0,
    n_people=N_PEOPLE,
    start=30,
    second_after_s=94.0,
    enrol_s=5.0,
    contribute_s=10.0,
    recover_s=26.0,
    end_s=51.0,
    exchange_s=1.0,
    notice_s=2.0,
    answer_s=2.0,
)
SETTINGS = PeerSettings(
    tick_interval_s=1.0,
    dial_retry_s=2.0,
    target_neighbours=5,
    max_neighbours=8,
    peers_request_every_s=60.0,
    ping_after_s=60.0,
)
CLEAN = 1.35
"""Error over planned noise: sampling, eight bits, and copies that differ a little. One mask that does not cancel adds 3."""


def make_world(seed: int, n_peers: int = N_PEERS) -> World:
    catalogue = Catalogue(tuple(ItemKey(str(i)) for i in range(N_ITEMS)), tuple(f"Film {i}" for i in range(N_ITEMS)))
    manifest = Manifest(
        name="private",
        catalogue=reference_catalogue(catalogue.canonical_csv(), N_ITEMS),
        seed="07" * 32,
        learning=LearningParameters(n_factors=2),
        promise=PROMISE,
    )
    world = World(manifest, catalogue, seed=seed, settings=SETTINGS)
    rng = np.random.default_rng(seed)
    likely = 0.7 / (1 + np.arange(N_ITEMS) / 8)
    for person in range(n_peers):
        world.add(f"10.0.{person // 200}.{person % 200 + 1}", np.flatnonzero(rng.random(N_ITEMS) < likely))
    return world


@dataclass(frozen=True)
class Truth:
    """What a sum should have come to, over those who contributed."""

    mean: FloatArray
    noise_std: float


def truth(world: World, number: int, everybody: list[SimulatedPeer]) -> Truth:
    contributors = [peer for peer in everybody if number in peer.ledger.sums]
    assert contributors
    plan = PrivacyPlan.of(PROMISE.epsilon, PROMISE.delta, PROMISE.n_people)
    if number == POPULARITY:
        statistics = [popularity_statistic(peer.items, N_ITEMS) for peer in contributors]
        noise = plan.popularity
    else:
        statistics = []
        for peer in contributors:
            selected, expected = peer.private.selected, peer.private.expected
            assert selected is not None
            assert expected is not None
            statistics.append(pair_statistic(peer.items, selected, expected, N_ITEMS))
        noise = plan.pairs
    mean = np.mean(statistics, axis=0).astype(np.float32)
    return Truth(mean, noise.independent_std / np.sqrt(len(contributors)))


def error_ratio(world: World, number: int, everybody: list[SimulatedPeer]) -> float:
    """Root mean square error of all living copies over the noise that is meant to be in them."""
    exact = truth(world, number, everybody)
    errors = [peer.private.results[number].mean - exact.mean for peer in world.peers.values()]
    return float(np.sqrt(np.mean(np.square(errors)))) / exact.noise_std


def lists(world: World) -> set[bytes]:
    return {b"" if one.private.selected is None else one.private.selected.tobytes() for one in world.peers.values()}


def test_everybody_gets_both_sums() -> None:
    world = make_world(1)
    everybody = list(world.peers.values())
    world.run(PROMISE.end_of(PAIRS) + 5)
    assert all(peer.ledger.sums == [POPULARITY, PAIRS] for peer in everybody)
    assert len(lists(world)) == 1
    assert error_ratio(world, POPULARITY, everybody) < CLEAN
    assert error_ratio(world, PAIRS, everybody) < CLEAN
    assert all(peer.peer.refusals.total() == 0 for peer in everybody)
