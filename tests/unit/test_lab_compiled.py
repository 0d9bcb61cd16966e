"""Machine code reaches what numpy reaches, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeVar
from unittest import mock

import msgspec
import numpy as np
import pytest

from p2prec.data.synthetic import synthetic_histories
from p2prec.lab import engines
from p2prec.lab.baselines import gossip_learning, local_mf
from p2prec.lab.baselines.base import Training
from p2prec.lab.baselines.gossip_learning import GossipLearning
from p2prec.lab.baselines.local_mf import SgdSettings
from p2prec.lab.config import config_from
from p2prec.lab.schedule import Conditions
from p2prec.lab.swarm import LabSwarm
from p2prec.lab.topology import random_views
from p2prec.manifest import recommended
from p2prec.model.rounding import MAX_MAGNITUDE
from p2prec.model.state import FIELDS

pytest.importorskip("numba", reason="numba is not installed: pip install 'p2prec[fast]'")

from p2prec.lab.compiled.swarm import CompiledSwarm

Swarm = TypeVar("Swarm", bound=LabSwarm)
N_PEERS, N_ITEMS, ROUNDS = 24, 90, 5
HISTORIES = synthetic_histories(N_PEERS, N_ITEMS, 0)
Objective = Literal["explicit", "implicit"]


def swarm(
    kind: Callable[..., Swarm], objective: Objective, conditions: Conditions | None = None, **changes: Any
) -> Swarm:
    learning, privacy = recommended(objective)
    learning = msgspec.structs.replace(learning, n_factors=5, contribute_every_exchanges=4, **changes)
    rng = np.random.default_rng(3)
    views = random_views(N_PEERS, 4, rng)
    own = [HISTORIES.of(person) for person in range(N_PEERS)]
    keys = HISTORIES.catalogue.keys
    return kind(learning, privacy, keys, bytes(32), own, rng, views=views, conditions=conditions)


def few(kind: Callable[..., Swarm], n_items: int, n_factors: int) -> Swarm:
    """Three people."""
    histories = synthetic_histories(3, n_items, 0)
    learning, privacy = recommended("explicit")
    learning = msgspec.structs.replace(learning, n_factors=n_factors)
    own = [histories.of(person) for person in range(3)]
    return kind(learning, privacy, histories.catalogue.keys, bytes(32), own, np.random.default_rng(0))


def assert_same(one: LabSwarm, other: LabSwarm) -> None:
    for peer, (mine, others) in enumerate(zip(one.learners, other.learners, strict=True)):
        for name in FIELDS:
            here, there = getattr(mine.state, name), getattr(others.state, name)
            assert np.array_equal(here, there, equal_nan=True), (peer, name)
    assert one.traffic == other.traffic


@pytest.mark.parametrize("objective", ["explicit", "implicit"])
@pytest.mark.parametrize(
    "changes", [{}, {"n_parts": 3}, {"n_parts": 2, "factors_per_byte": 1, "gradients_per_byte": 2}]
)
@pytest.mark.parametrize("conditions", [None, Conditions(drop=0.3, online=0.6)])
def test_the_same_to_the_bit(objective: Objective, changes: dict[str, Any], conditions: Conditions | None) -> None:
    numpy = swarm(LabSwarm, objective, conditions, **changes)
    compiled = swarm(CompiledSwarm, objective, conditions, **changes)
    numpy.run(ROUNDS)
    compiled.run(ROUNDS)
    assert_same(numpy, compiled)
    assert np.array_equal(numpy.scores(), compiled.scores())


@pytest.mark.parametrize(("n_processes", "n_parts"), [(1, 2), (3, 2), (2, 20)])
@pytest.mark.parametrize("conditions", [None, Conditions(drop=0.3, online=0.6)])
def test_however_many_processes(n_processes: int, n_parts: int, conditions: Conditions | None) -> None:
    """Three meetings at a time, so that there is something to share."""
    numpy = swarm(LabSwarm, "explicit", conditions, n_parts=n_parts)
    with mock.patch("p2prec.lab.compiled.swarm.AT_ONCE", 3):
        compiled = swarm(partial(CompiledSwarm, n_processes=n_processes), "explicit", conditions, n_parts=n_parts)
    numpy.run(ROUNDS)
    compiled.run(ROUNDS)
    assert_same(numpy, compiled)
    assert np.array_equal(numpy.scores(), compiled.scores())


def test_more_parts_than_rows_of_some() -> None:
    """90 items in 64 parts: runs of two, and nothing in the last nineteen."""
    numpy, compiled = (swarm(kind, "explicit", n_parts=64) for kind in (LabSwarm, CompiledSwarm))
    numpy.run(2)
    compiled.run(2)
    assert_same(numpy, compiled)


def test_more_factors_than_items() -> None:
    """The gram is then the larger table."""
    numpy, compiled = (few(kind, 4, 32) for kind in (LabSwarm, CompiledSwarm))
    numpy.run(4)
    compiled.run(4)
    assert_same(numpy, compiled)


def test_more_rows_than_the_dither_has_numbers() -> None:
    numpy, compiled = (few(kind, 70_000, 1) for kind in (LabSwarm, CompiledSwarm))
    numpy.run(2)
    compiled.run(2)
    assert_same(numpy, compiled)


@pytest.mark.parametrize("value", [10 * MAX_MAGNITUDE, -MAX_MAGNITUDE, np.inf, np.nan])
@pytest.mark.parametrize("field", ["item_factors", "gradient", "evidence", "probe"])
def test_broken_numbers_are_met_alike(value: float, field: str) -> None:
    """What may not be transmitted is cut, and who is broken begins anew."""
    swarms = [swarm(kind, "explicit") for kind in (LabSwarm, CompiledSwarm)]
    for one in swarms:
        one.run(2)
        for peer in (3, 4):
            getattr(one.learners[peer].state, field)[7] = value
        with np.errstate(all="ignore"):
            one.run(3)
    assert_same(*swarms)


def test_chosen_by_itself_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    train = Training.of(HISTORIES, "explicit", 1)
    views = random_views(N_PEERS, 4, np.random.default_rng(0))

    def made(backend: str) -> type[object]:
        config = config_from({"data": "any", "objective": "explicit", "backend": backend})
        return type(engines._swarm(config, train, views, np.random.default_rng(0)))

    assert made("auto") is made("numba") is CompiledSwarm
    assert made("numpy") is LabSwarm
    monkeypatch.setattr(engines, "can_compile", lambda: False)
    assert made("auto") is LabSwarm


@pytest.mark.parametrize("n_factors", [3, 8, 21])
def test_gossip_learning_to_the_bit(n_factors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    train = Training.of(HISTORIES, "explicit", 4)
    method = GossipLearning(SgdSettings(n_factors, learning_rate=0.05, reg=0.1))
    compiled = method.fit(train, np.random.default_rng(0))
    for module in (gossip_learning, local_mf):
        monkeypatch.setattr(module, "can_compile", lambda: False)
    assert np.array_equal(method.fit(train, np.random.default_rng(0)).scores, compiled.scores)
