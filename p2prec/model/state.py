"""What a peer has learned and shares by gossip: item factors, gradient, evidence and Gram accumulators, and their
age.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from p2prec.manifest import LearningParameters
from p2prec.types import DoubleArray, FloatArray


def n_columns(parameters: LearningParameters) -> int:
    """Columns of an item row: the factors, and for explicit feedback the item's bias in a last column."""
    return parameters.n_factors + (parameters.objective == "explicit")


def n_gram_factors(parameters: LearningParameters) -> int:
    """Rows and columns of the Gram accumulator: none for explicit feedback, which has no unobserved pairs to account
    for.
    """
    return parameters.n_factors if parameters.objective == "implicit" else 0


@dataclass(slots=True, eq=False)
class ModelState:
    """The shared state of one peer, or of many along leading axes `...` (the lab). Changed in place by the kernels."""

    item_factors: FloatArray
    """Q: (..., n_items, n_columns) float32."""
    gradient: FloatArray
    """S: (..., n_items, n_columns) float32, the swarm's mean descent direction of each item row."""
    evidence: FloatArray
    """W: (..., n_items) float32, how often the swarm's contributions touch the item (`contribution.touched_share`)."""
    gram: FloatArray
    """G: (..., n_factors, n_factors) float32, the swarm's mean of p p'; (..., 0, 0) for explicit feedback."""
    age: DoubleArray
    """(...) float64: rounds of training behind this state."""

    def copy(self) -> ModelState:
        """A snapshot that later rounds leave alone."""
        return ModelState(
            self.item_factors.copy(), self.gradient.copy(), self.evidence.copy(), self.gram.copy(), self.age.copy()
        )


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
    return factors


def initial_state(parameters: LearningParameters, seed: bytes, item_keys: Sequence[str]) -> ModelState:
    """The state of a peer that has heard from nobody. seed: the manifest's 32 bytes; item_keys: in catalogue order."""
    item_factors = initial_item_factors(parameters, seed, item_keys)
    gram = n_gram_factors(parameters)
    return ModelState(
        item_factors=item_factors,
        gradient=np.zeros_like(item_factors),
        evidence=np.zeros(len(item_keys), np.float32),
        gram=np.zeros((gram, gram), np.float32),
        age=np.zeros((), np.float64),
    )
