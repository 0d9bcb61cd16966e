"""The batched engine plays what `LabSwarm` plays, on numpy and on torch: to rounding, given the same random bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
import pytest
from lab_people import crowd

from p2prec.data.interactions import TrainingPairs
from p2prec.lab.backend import Randoms, backend
from p2prec.lab.batched import BatchedSwarm
from p2prec.lab.schedule import Conditions
from p2prec.lab.swarm import LabSwarm
from p2prec.manifest import LearningParameters, PrivacyParameters, recommended
from p2prec.model.rounding import MAX_MAGNITUDE
from p2prec.model.state import FIELDS
from p2prec.types import IndexArray

SEED = bytes(range(32))
N_PEERS, N_ITEMS = 24, 40
HISTORIES = crowd(N_PEERS, N_ITEMS)
KEYS = HISTORIES.catalogue.keys
BACKENDS = ["numpy", "torch"]


class PeerRandoms:
    """Each peer's own stream, as in `LabSwarm`."""

    def __init__(self, rng: np.random.Generator) -> None:
        _, *self.rngs = rng.spawn(N_PEERS + 1)

    def of(self, peers: IndexArray) -> Any:
        return Stacked([self.rngs[peer] for peer in peers.tolist()])


class Stacked:
    """A leading axis over several streams."""

    def __init__(self, rngs: Sequence[np.random.Generator]) -> None:
        self.rngs = rngs

    def _stack(self, draw: Callable[[np.random.Generator], Any]) -> np.ndarray:
        return np.stack([np.asarray(draw(rng)) for rng in self.rngs])

    def random(self, size: Sequence[int]) -> np.ndarray:
        return self._stack(lambda rng: rng.random(tuple(size)[1:]))

    def integers(self, high: int, size: Sequence[int]) -> np.ndarray:
        return self._stack(lambda rng: rng.integers(high))

    def bytes(self, length: int) -> bytes:
        return b"".join(rng.bytes(length // len(self.rngs)) for rng in self.rngs)


def parameters(
    objective: Literal["implicit", "explicit"], **changes: Any
) -> tuple[LearningParameters, PrivacyParameters]:
    learning, privacy = recommended(objective)
    privacy = msgspec.structs.replace(privacy, max_items_per_contribution=1000)
    return msgspec.structs.replace(learning, n_factors=4, **changes), privacy


def people() -> list[TrainingPairs]:
    return [HISTORIES.of(person) for person in range(N_PEERS)]


def batched(
    name: str,
    learning: LearningParameters,
    privacy: PrivacyParameters,
    *,
    conditions: Conditions | None = None,
    randoms: Randoms | None = None,
) -> BatchedSwarm:
    if name == "torch":
        pytest.importorskip("torch", reason="torch is not installed: pip install 'p2prec[torch]'")
    return BatchedSwarm(
        learning,
        privacy,
        KEYS,
        SEED,
        people(),
        np.random.default_rng(3),
        backend=backend(name),
        conditions=conditions,
        randoms=randoms,
    )


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize(
    ("objective", "changes"),
    [
        ("explicit", {}),
        ("implicit", {}),
        ("implicit", {"n_parts": 3, "factors_per_byte": 1, "segment_interactions": 5}),
    ],
)
def test_it_plays_what_the_learners_play(
    name: str, objective: Literal["implicit", "explicit"], changes: dict[str, Any]
) -> None:
    learning, privacy = parameters(objective, contribute_every_exchanges=4, **changes)
    privacy = msgspec.structs.replace(privacy, noise_multiplier=0.0)  # a device draws it from a stream of its own
    one = LabSwarm(learning, privacy, KEYS, SEED, people(), np.random.default_rng(3))
    same = batched(name, learning, privacy, randoms=PeerRandoms(np.random.default_rng(3)))
    one.run(4)
    same.run(4)
    for field in FIELDS:
        expected = np.stack([getattr(learner.state, field) for learner in one.learners])
        computed = same._backend.host(getattr(same.state, field))
        off = np.abs(computed - expected) > 1e-5 + 1e-5 * np.abs(expected)
        # Where the last bit decides whether a value is rounded up or down, that value may come out a level apart.
        assert off.mean() < 0.05, field
    assert same.traffic == one.traffic
    assert same.consensus_distance() == pytest.approx(one.consensus_distance(), rel=0.01)
    assert np.abs(same.scores() - one.scores()).mean() < 0.01 * one.scores().std()


@pytest.mark.parametrize("name", BACKENDS)
def test_on_a_bad_network_too(name: str) -> None:
    """With its own random bits: the same course of events, and tables that differ by chance only."""
    learning, privacy = parameters("explicit", contribute_every_exchanges=4, factors_per_byte=1, gradients_per_byte=1)
    conditions = Conditions(drop=0.3, online=0.6)
    one = LabSwarm(learning, privacy, KEYS, SEED, people(), np.random.default_rng(3), conditions=conditions)
    other = batched(name, learning, privacy, conditions=conditions)
    one.run(12)
    other.run(12)
    assert other.traffic == one.traffic
    assert other.state.age.tolist() == [learner.age for learner in one.learners]
    difference = other.scores() - one.scores()
    assert np.abs(difference).mean() < 0.1 * one.scores().std()


@pytest.mark.parametrize("name", BACKENDS)
def test_a_peer_whose_numbers_broke_begins_anew(name: str) -> None:
    swarm = batched(name, *parameters("explicit"))
    swarm.run(2)
    swarm.state.item_factors[np.array([5])] = 10 * MAX_MAGNITUDE
    swarm.state.item_factors[np.array([7])] = np.nan
    swarm._step(np.array([4, 5, 6, 7]))
    assert swarm.state.age[[5, 7]].tolist() == [0, 0]
    assert swarm.state.age[[4, 6]].min() > 0
    factors = swarm._backend.host(swarm.state.item_factors)
    start = swarm._backend.host(swarm._start.item_factors)[0]
    assert [np.array_equal(factors[peer], start) for peer in (4, 5, 6, 7)] == [False, True, False, True]


@pytest.mark.parametrize("name", BACKENDS)
def test_its_own_random_bits_follow_from_the_seed(name: str) -> None:
    learning, privacy = parameters("implicit")
    privacy = msgspec.structs.replace(privacy, max_items_per_contribution=5)  # items are sampled
    one, again = (batched(name, learning, privacy) for _ in range(2))
    one.run(3)
    again.run(3)
    assert np.array_equal(one.scores(), again.scores())
    assert np.isfinite(one.scores()).all()
