"""Running the swarm of an experiment: as one array program, or as production peers in the simulated world."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec
import numpy as np

from p2prec.lab import topology
from p2prec.lab.baselines.base import Training
from p2prec.lab.config import LabConfig
from p2prec.lab.schedule import Conditions
from p2prec.lab.swarm import LabSwarm
from p2prec.manifest import Manifest, reference_catalogue
from p2prec.types import FloatArray

_POLL_S = 0.1
"""Virtual seconds between looks at the simulated peers' ages."""


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """The swarm after some rounds."""

    round: int
    scores: Callable[[], FloatArray]
    """Computes (n_peers, n_items): each peer's scores by its own copy."""
    sent_bytes: int
    """By all peers together so far."""
    messages: int
    peer_rounds: int
    seconds: float
    """Spent on the rounds alone, not on measuring."""
    consensus_distance: float


def moments(config: LabConfig, train: Training, rng: np.random.Generator) -> Iterator[Moment]:
    """Run the swarm, stopping after every round (kernels) or at every measurement (peers)."""
    return _kernels(config, train, rng) if config.engine == "kernels" else _peers(config, train)


def measured_rounds(config: LabConfig) -> list[int]:
    """After which rounds to measure: the last always."""
    every = config.measure_every or max(1, config.rounds // 10)
    return sorted({*range(every, config.rounds + 1, every), config.rounds})


def _kernels(config: LabConfig, train: Training, rng: np.random.Generator) -> Iterator[Moment]:
    histories = train.histories
    graph_rng, swarm_rng = rng.spawn(2)
    swarm = LabSwarm(
        config.learning_parameters(),
        config.privacy_parameters(),
        histories.catalogue.keys,
        config.swarm_seed,
        [histories.of(person) for person in range(train.n_people)],
        swarm_rng,
        views=topology.neighbours(config.topology, histories, graph_rng, config.degree),
        conditions=Conditions(config.drop, config.online),
    )
    wanted, seconds = set(measured_rounds(config)), 0.0
    for done in range(1, config.rounds + 1):
        started = time.perf_counter()
        swarm.round()
        seconds += time.perf_counter() - started
        traffic = swarm.traffic
        distance = swarm.consensus_distance() if done in wanted else np.nan
        yield Moment(
            done, swarm.scores, traffic.payload_bytes, traffic.messages, traffic.peer_rounds, seconds, distance
        )


def _peers(config: LabConfig, train: Training) -> Iterator[Moment]:
    from p2prec.config import PeerSettings
    from p2prec.sim.world import World

    histories = train.histories
    catalogue = histories.catalogue
    learning = msgspec.structs.replace(config.learning_parameters(), round_interval_s=1.0)
    manifest = Manifest(
        name="lab",
        catalogue=reference_catalogue(catalogue.canonical_csv(), len(catalogue)),
        seed=config.swarm_seed.hex(),
        learning=learning,
        privacy=config.privacy_parameters(),
    )
    settings = PeerSettings(target_neighbours=config.degree, max_neighbours=max(24, 3 * config.degree))
    world = World(manifest, catalogue, seed=config.seed, settings=settings)
    started = time.perf_counter()
    for person in range(train.n_people):
        pairs = histories.of(person)
        host = f"10.{person >> 16}.{person >> 8 & 255}.{person & 255}"
        world.add(host, pairs.items, pairs.values, pairs.times)
    learners = [peer.learner for peer in world.peers.values()]

    def scores() -> FloatArray:
        for learner in learners:
            learner.solve()
        return np.stack([learner.scores() for learner in learners])

    seconds = time.perf_counter() - started
    for wanted in measured_rounds(config):
        started = time.perf_counter()
        while np.mean([learner.age for learner in learners]) < wanted:
            world.run(_POLL_S)
        seconds += time.perf_counter() - started
        factors = np.stack([learner.state.item_factors for learner in learners])
        spread = np.sqrt(((factors - factors.mean(axis=0)) ** 2).sum(axis=(1, 2)).mean())
        yield Moment(
            wanted,
            scores,
            world.network.frame_bytes,
            world.network.frames,
            wanted * len(learners),
            seconds,
            float(spread / np.linalg.norm(factors.mean(axis=0))),
        )
