"""What a peer has learned and shares by gossip: item factors, the accumulators of the swarm's contributions, and their
age.

Tables lie in memory factor by factor (`factors_first`): operations on all rows at once then run along memory, several times
as fast as along rows of a dozen entries. Results do not depend on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from p2prec.manifest import LearningParameters
from p2prec.types import DoubleArray, FloatArray

PROBE_WIDTH = 16
"""Random signs that a peer contributes beside its data, to see how well contributions are mixed (`mixing`)."""


def n_columns(parameters: LearningParameters) -> int:
    """Columns of an item row: the factors, and for explicit feedback the item's bias in a last column."""
    return parameters.n_factors + (parameters.objective == "explicit")


@dataclass(slots=True, eq=False)
class ModelState:
    """The shared state of one peer, or of many along leading axes `...` (the lab). Changed in place by the kernels."""

    item_factors: FloatArray
    """Q: (..., n_items, n_columns) float32."""
    average: FloatArray
    """(..., n_items, n_columns) float32: Q over the last rounds, what the device recommends by (`served_factors`)."""
    gradient: FloatArray
    """S: (..., n_items, n_columns) float32, the swarm's mean descent direction of each item row."""
    evidence: FloatArray
    """W: (..., n_items) float32, how often the swarm's contributions touch the item (`contribution.touched_share`)."""
    gram: FloatArray
    """G: (..., n_columns, n_columns) float32, the swarm's mean of p p'; explicit: of (p, 1) (p, 1)'."""
    probe: FloatArray
    """(..., PROBE_WIDTH) float32, the mean of everybody's random signs (`mixing`)."""
    own_gradient: FloatArray
    """Like S: the mean of the owner's own latest contributions, noise and all; it takes the place of the one that it put into
    S before (`contribution.absorb`). So are the next three, for W, G and the probe. They never leave the device."""
    own_evidence: FloatArray
    own_gram: FloatArray
    own_probe: FloatArray
    age: DoubleArray
    """(...) float64: rounds of training behind this state."""
    contributions: DoubleArray
    """(...) float64: how often the owner has contributed."""

    def copy(self) -> ModelState:
        """A snapshot that later rounds leave alone."""
        return ModelState(**{name: getattr(self, name).copy(order="K") for name in FIELDS})


FIELDS = tuple(field.name for field in fields(ModelState))
ACCUMULATORS = ("gradient", "evidence", "gram", "probe")


def own_part(accumulator: str) -> str:
    """The field with what the owner has put into an accumulator."""
    return f"own_{accumulator}"


def factors_first(table: FloatArray) -> FloatArray:
    """The same (..., n_rows, n_columns), laid out in memory column by column."""
    return np.swapaxes(np.ascontiguousarray(np.swapaxes(table, -1, -2), like=table), -1, -2)


AVERAGED_ROUNDS = 10
"""Each copy jitters about the swarm's mean, with what it has not mixed yet; over so many rounds that averages out, and the model
has not moved on by much."""
AVERAGED_ROUNDS_AT_MOST = 40
AVERAGED_SHARE = 0.2
"""Of its rounds, as an older model moves more slowly."""


def averaged_rounds(age: DoubleArray) -> DoubleArray:
    """(...) over how many rounds a model of that age is averaged: a fifth of them, within AVERAGED_ROUNDS and
    AVERAGED_ROUNDS_AT_MOST, and not more than there were.
    """
    wanted = np.minimum(np.maximum(AVERAGED_SHARE * age, AVERAGED_ROUNDS), AVERAGED_ROUNDS_AT_MOST)
    rounds: DoubleArray = np.minimum(age + 1.0, wanted)
    return rounds


def average_in(state: ModelState) -> None:
    """Take the present item factors into the average, in place: a plain mean at first, then of about `averaged_rounds`.

    Averaging the iterates is what lets a step be large where there is no last round (Polyak & Juditsky 1992). It stays on
    the device and is never mixed.
    """
    weight = 1.0 / averaged_rounds(state.age)
    state.average += weight.astype(np.float32)[..., None, None] * (state.item_factors - state.average)


def served_factors(state: ModelState) -> FloatArray:
    """The item factors to recommend by, (..., n_items, n_columns): the average, or the present ones before the first round."""
    begun = state.age >= 1.0
    if np.all(begun):
        return state.average
    return np.where(np.asarray(begun)[..., None, None], state.average, state.item_factors)


def mixing(state: ModelState, swarm_size: float | DoubleArray) -> DoubleArray:
    """How much of what the accumulators hold is one person's: the sum of the squared weights with which contributions have
    come into them, from 1 (all from one) down to 1 / swarm_size (everybody's mean). Shape (...).

    The contributions' random signs are mixed as their data are: at weights a_1, a_2, ... an entry of the probe has the
    variance sum a_i^2. Sixteen of them tell it to within a third.
    """
    variance = np.square(state.probe).mean(axis=-1, dtype=np.float64)
    bounded: DoubleArray = np.clip(variance, 1.0 / np.asarray(swarm_size, np.float64), 1.0)
    return bounded


def initial_item_factors(parameters: LearningParameters, seed: bytes, item_keys: Sequence[str]) -> FloatArray:
    """The common start Q0, (n_items, n_columns): all peers begin in the same coordinates, or averaging would mean
    nothing.

    A row depends on the swarm's seed and the item's key alone, and is the same to the bit in any implementation:
    SHAKE-256 of seed and key gives d little-endian uint32 `u`, and an entry is `init_scale * sqrt(3) * ((2 u + 1) /
    2^32 - 1)`, uniform with standard deviation `init_scale`. Item biases start at 0.
    """
    d = parameters.n_factors
    stream = b"".join(hashlib.shake_256(seed + key.encode()).digest(4 * d) for key in item_keys)
    uniform = (2.0 * np.frombuffer(stream, dtype="<u4").astype(np.float64) + 1.0) / 2.0**32 - 1.0
    factors = np.zeros((len(item_keys), n_columns(parameters)), np.float32)
    factors[:, :d] = (parameters.init_scale * np.sqrt(3.0) * uniform).reshape(len(item_keys), d)
    return factors_first(factors)


def initial_state(parameters: LearningParameters, seed: bytes, item_keys: Sequence[str]) -> ModelState:
    """The state of a peer that has heard from nobody. seed: the manifest's 32 bytes; item_keys: in catalogue order."""
    return state_of(parameters, initial_item_factors(parameters, seed, item_keys))


def state_of(parameters: LearningParameters, item_factors: FloatArray) -> ModelState:
    """The state of a peer that has heard from nobody and begins with these (n_items, n_columns) item factors."""
    item_factors, columns = factors_first(item_factors), n_columns(parameters)
    nothing = {
        "gradient": np.zeros_like(item_factors),
        "evidence": np.zeros(len(item_factors), np.float32),
        "gram": np.zeros((columns, columns), np.float32),
        "probe": np.zeros(PROBE_WIDTH, np.float32),
    }
    return ModelState(
        item_factors=item_factors,
        average=item_factors.copy(order="K"),
        **nothing,
        **{own_part(name): table.copy(order="K") for name, table in nothing.items()},
        age=np.zeros((), np.float64),
        contributions=np.zeros((), np.float64),
    )
