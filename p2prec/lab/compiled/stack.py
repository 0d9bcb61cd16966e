"""The states of all peers in one array a field, with each peer's own as a view into it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2prec.lab.team import shared
from p2prec.model.state import FIELDS, ModelState
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
    own_gradient: FloatArray
    own_evidence: FloatArray
    own_gram: FloatArray
    own_probe: FloatArray
    age: DoubleArray
    """(n_peers,)."""
    contributions: DoubleArray

    @classmethod
    def repeated(cls, state: ModelState, n_peers: int) -> StackedStates:
        """A copy of one state for each peer, in memory that a team has in common."""
        fields = {}
        for name in FIELDS:
            one = np.asarray(_in_memory(name, getattr(state, name)))
            fields[name] = shared((n_peers, *one.shape), one.dtype)
            fields[name][:] = one
        return cls(**fields)

    def view(self, peer: int) -> ModelState:
        """One peer's state, in place."""
        return ModelState(**{name: _in_memory(name, getattr(self, name)[peer, ...]) for name in FIELDS})

    def put(self, peer: int, state: ModelState) -> None:
        """Overwrite one peer's state."""
        for name in FIELDS:
            getattr(self, name)[peer] = _in_memory(name, getattr(state, name))


_TABLES = ("item_factors", "average", "gradient", "own_gradient")


def _in_memory(name: str, array: np.ndarray) -> np.ndarray:
    """A peer's table as it lies in memory, factors first, and back; other fields as they are."""
    return np.swapaxes(array, -1, -2) if name in _TABLES else array
