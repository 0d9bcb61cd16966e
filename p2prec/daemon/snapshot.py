"""The model between the learner and the store."""

from __future__ import annotations

import numpy as np

from p2prec.model.state import ModelState
from p2prec.storage.records import StoredModel
from p2prec.types import SwarmId

_TABLES = ("item_factors", "average", "gradient", "evidence", "gram", "probe")
_COUNT = "contributions"


def to_stored(state: ModelState, swarm_id: SwarmId) -> StoredModel:
    """The learner's state as the store keeps it; shares the arrays, so save it before the next round."""
    tables = {name: getattr(state, name) for name in _TABLES}
    tables[_COUNT] = state.contributions.astype(np.float32)
    return StoredModel(swarm_id, float(state.age), tables)


def from_stored(stored: StoredModel) -> ModelState:
    """Raises KeyError when a table is missing; shapes are the learner's to check."""
    tables = {name: stored.tables[name] for name in _TABLES}
    contributions = stored.tables[_COUNT].astype(np.float64)
    return ModelState(**tables, age=np.asarray(stored.age, np.float64), contributions=contributions)
