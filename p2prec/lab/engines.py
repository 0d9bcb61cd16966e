"""Running the swarm of an experiment: as learners with nothing between them, or as production peers in the simulated world."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from p2prec.data.interactions import TrainingPairs
from p2prec.errors import UsageError
from p2prec.lab import memory, topology
from p2prec.lab.backend import backend, can_compile
from p2prec.lab.baselines.base import Training
from p2prec.lab.batched import BatchedSwarm
from p2prec.lab.config import LabConfig
from p2prec.lab.schedule import Conditions
from p2prec.lab.swarm import LabSwarm
from p2prec.manifest import LearningParameters, Manifest, PrivacyParameters, reference_catalogue
from p2prec.model.state import FIELDS, initial_state
from p2prec.peer.learner import Learner
from p2prec.types import FloatArray, IndexArray, ItemKey

if TYPE_CHECKING:
    from p2prec.lab.compiled.swarm import CompiledSwarm
    from p2prec.lab.simulation import SimulatedSwarm


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
    """NaN where nothing is measured."""


def moments(config: LabConfig, train: Training, rng: np.random.Generator) -> Iterator[Moment]:
    """Run the swarm, stopping after every round. Bare learners and production peers go through the same states, to the bit.

    Raises UsageError for a swarm that is too large for this machine.
    """
    _check_size(config, train)
    graph_rng, swarm_rng = rng.spawn(2)
    views = topology.neighbours(config.topology, train.histories, graph_rng, config.degree)
    swarm = _swarm(config, train, views, swarm_rng)
    wanted, seconds = set(measured_rounds(config)), 0.0
    for done in range(1, config.rounds + 1):
        started = time.perf_counter()
        swarm.round()
        seconds += time.perf_counter() - started
        traffic = swarm.traffic
        distance = swarm.consensus_distance() if done in wanted else np.nan
        yield Moment(
            done,
            swarm.scores,
            traffic.payload_bytes,
            traffic.messages,
            traffic.peer_rounds,
            seconds,
            distance,
        )


_TABLES_OF_SCORES = 6
"""The swarm's, each baseline's and one in the making: (n_people, n_items) float32."""


def _check_size(config: LabConfig, train: Training) -> None:
    """Raises UsageError if not all peers' models fit into memory here."""
    if config.backend.startswith("torch"):
        return  # they are elsewhere, or torch says so
    one = initial_state(config.learning_parameters(), config.swarm_seed, train.histories.catalogue.keys)
    of_peer = sum(getattr(one, name).nbytes for name in FIELDS) + _TABLES_OF_SCORES * 4 * train.n_items
    fitting = int(min(train.n_people, 0.9 * memory.free_bytes() / of_peer))
    memory.require(
        of_peer * train.n_people,
        f"{train.n_people:,} peers with {train.n_items:,} items and {config.learning_parameters().n_factors} factors",
        remedy=f"try --peers {max(2, fitting)}, or fewer factors (--set learning.n_factors=N)",
    )


def measured_rounds(config: LabConfig) -> list[int]:
    """After which rounds to measure: the last always."""
    every = config.measure_every or max(1, config.rounds // 10)
    return sorted({*range(every, config.rounds + 1, every), config.rounds})


def _swarm(
    config: LabConfig, train: Training, views: list[IndexArray], rng: np.random.Generator
) -> LabSwarm | SimulatedSwarm | BatchedSwarm:
    if config.engine == "peers":
        return peers(config, train, views, rng)
    if config.backend.startswith("torch"):
        return batched(config, train, views, rng)
    if config.backend == "numba" or (config.backend == "auto" and can_compile()):
        return compiled(config, train, views, rng)
    return kernels(config, train, views, rng)


def kernels(config: LabConfig, train: Training, views: list[IndexArray], rng: np.random.Generator) -> LabSwarm:
    """The learners alone. views: whom each peer can exchange with."""
    return LabSwarm(*_learning(config, train), rng, views=views, conditions=_conditions(config))


def compiled(config: LabConfig, train: Training, views: list[IndexArray], rng: np.random.Generator) -> CompiledSwarm:
    """`kernels` in machine code, on all cores. Raises UsageError without numba."""
    try:
        from p2prec.lab.compiled.swarm import CompiledSwarm, compile_kernels
    except ImportError as error:
        raise UsageError("--backend numba needs numba", remedy="pip install 'p2prec[fast]'") from error
    compile_kernels(config.objective)
    return CompiledSwarm(*_learning(config, train), rng, views=views, conditions=_conditions(config))


def batched(config: LabConfig, train: Training, views: list[IndexArray], rng: np.random.Generator) -> BatchedSwarm:
    """Many peers at once, where the backend computes. views: as for `kernels`. Raises UsageError without the backend."""
    where = backend(config.backend)
    return BatchedSwarm(*_learning(config, train), rng, backend=where, views=views, conditions=_conditions(config))


def _learning(
    config: LabConfig, train: Training
) -> tuple[LearningParameters, PrivacyParameters, tuple[ItemKey, ...], bytes, list[TrainingPairs]]:
    """What a swarm learns with and from, in the order in which swarms take it."""
    histories = train.histories
    own = [histories.of(person) for person in range(train.n_people)]
    return (
        config.learning_parameters(),
        config.privacy_parameters(),
        histories.catalogue.keys,
        config.swarm_seed,
        own,
    )


def _conditions(config: LabConfig) -> Conditions:
    return Conditions(config.drop, config.online)


def peers(config: LabConfig, train: Training, views: list[IndexArray], rng: np.random.Generator) -> SimulatedSwarm:
    """The daemon's peers with their messages. views: as for `kernels`."""
    from p2prec.lab.simulation import SimulatedSwarm

    histories = train.histories
    catalogue = histories.catalogue
    manifest = Manifest(
        name="lab",
        catalogue=reference_catalogue(catalogue.canonical_csv(), len(catalogue)),
        seed=config.swarm_seed.hex(),
        learning=config.learning_parameters(),
        privacy=config.privacy_parameters(),
    )
    own = [histories.of(person) for person in range(train.n_people)]
    return SimulatedSwarm(manifest, catalogue, own, rng, views)


def deviations(swarm: Sequence[Learner], other: Sequence[Learner]) -> dict[str, float]:
    """For each field of a state the largest difference between two swarms' peers, over the field's largest entry in the first."""
    largest = {}
    for name in FIELDS:
        pairs = [(getattr(a.state, name), getattr(b.state, name)) for a, b in zip(swarm, other, strict=True)]
        scale = max(float(np.abs(one).max()) for one, _ in pairs)
        difference = max(float(np.abs(one - two).max()) for one, two in pairs)
        largest[name] = difference / scale if scale > 0 else difference
    return largest
