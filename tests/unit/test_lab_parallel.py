"""Several processes reach what one reaches, to the bit."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import pytest

from p2prec.data.synthetic import synthetic_histories
from p2prec.errors import UsageError
from p2prec.lab.parallel import ParallelSwarm
from p2prec.lab.schedule import Conditions
from p2prec.lab.swarm import LabSwarm
from p2prec.lab.topology import random_views
from p2prec.manifest import recommended
from p2prec.types import FloatArray

N_PEERS, N_ITEMS, ROUNDS = 24, 40, 6
HISTORIES = synthetic_histories(N_PEERS, N_ITEMS, 0)

pytestmark = pytest.mark.skipif(not ParallelSwarm.fits(1000, 2), reason="needs fork")


def swarm(n_parts: int = 2, conditions: Conditions | None = None) -> LabSwarm:
    learning, privacy = recommended("implicit")
    learning = msgspec.structs.replace(learning, n_factors=4, n_parts=n_parts, contribute_every_exchanges=4)
    rng = np.random.default_rng(3)
    views = random_views(N_PEERS, 4, rng)
    own = [HISTORIES.of(person) for person in range(N_PEERS)]
    return LabSwarm(
        learning, privacy, HISTORIES.catalogue.keys, bytes(32), own, rng, views=views, conditions=conditions
    )


@pytest.fixture(params=[1, 2, 3])
def n_workers(request: pytest.FixtureRequest) -> Iterator[int]:
    yield request.param


@pytest.mark.parametrize(
    ("n_parts", "conditions"), [(1, Conditions()), (3, Conditions()), (2, Conditions(drop=0.3, online=0.6))]
)
def test_the_same_to_the_bit(n_workers: int, n_parts: int, conditions: Conditions) -> None:
    alone, parallel = swarm(n_parts, conditions), ParallelSwarm(swarm(n_parts, conditions), n_workers)
    alone.run(ROUNDS)
    parallel.run(ROUNDS)
    theirs: FloatArray = parallel.scores()
    assert np.array_equal(alone.scores(), theirs)
    assert parallel.traffic == alone.traffic
    assert parallel.consensus_distance() == pytest.approx(alone.consensus_distance(), rel=1e-6)
    assert parallel.peak_rss_bytes() > 0
    parallel.close()


def test_a_failure_in_a_process_is_told_and_nobody_waits() -> None:
    broken = swarm()
    broken.learners[0].parameters = None  # type: ignore[assignment]
    parallel = ParallelSwarm(broken, 2)
    with pytest.raises(UsageError, match="a process of the lab"):
        parallel.run(2)
    parallel.close()
