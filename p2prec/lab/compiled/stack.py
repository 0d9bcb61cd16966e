"""The states of all peers in one array a field, with the learners' own states as views into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from p2prec.model.state import FIELDS, ModelState
from p2prec.peer.learner import Learner
from p2prec.types import DoubleArray, FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class StackedStates:
    """As `ModelState` with one leading axis, tables factors first: (n_peers, n_columns, n_items)."""

    item_factors: FloatArray
    average: FloatArray
    gradient: FloatArray
    evidence: FloatArray
    """(n_peers, n_items)."""
    gram: FloatArray
    probe: FloatArray
    age: DoubleArray
    """(n_peers,)."""
    contributions: DoubleArray

    @classmethod
    def of(cls, learners: Sequence[Learner]) -> StackedStates:
        """Takes over the learners' states: from now on they read and change these arrays."""
        start = {name: _in_memory(name, getattr(learners[0].state, name)) for name in FIELDS}
        stacked = cls(**{name: np.empty((len(learners), *one.shape), one.dtype) for name, one in start.items()})
        for peer, learner in enumerate(learners):
            stacked.put(peer, learner.state)
            learner.state = stacked.view(peer)
        return stacked

    def view(self, peer: int) -> ModelState:
        """One peer's state, in place."""
        return ModelState(**{name: _in_memory(name, getattr(self, name)[peer, ...]) for name in FIELDS})

    def put(self, peer: int, state: ModelState) -> None:
        """Overwrite one peer's state."""
        for name in FIELDS:
            getattr(self, name)[peer] = _in_memory(name, getattr(state, name))


_TABLES = ("item_factors", "average", "gradient")


def _in_memory(name: str, array: np.ndarray) -> np.ndarray:
    """A peer's table as it lies in memory, factors first, and back; other fields as they are."""
    return np.swapaxes(array, -1, -2) if name in _TABLES else array
