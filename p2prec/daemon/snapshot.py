"""The model between the learner and the store."""

from __future__ import annotations

import numpy as np

from p2prec.model.state import ACCUMULATORS, ModelState, own_part
from p2prec.storage.records import StoredModel
from p2prec.types import SwarmId

_OWN = tuple(own_part(name) for name in ACCUMULATORS)
_TABLES = ("item_factors", "average", *ACCUMULATORS)
_COUNT = "contributions"


def to_stored(state: ModelState, swarm_id: SwarmId) -> StoredModel:
    """The learner's state as the store keeps it; shares the arrays, so save it before the next round."""
    tables = {name: getattr(state, name) for name in _TABLES + _OWN}
    tables[_COUNT] = state.contributions.astype(np.float32)
    return StoredModel(swarm_id, float(state.age), tables)


def from_stored(stored: StoredModel) -> ModelState:
    """Raises KeyError when a table is missing; shapes are the learner's to check.

    Before there were own parts, a contribution took the place of a share of all that was in an accumulator: a snapshot of then
    goes on with just that.
    """
    tables = {name: stored.tables[name] for name in _TABLES}
    for name, own in zip(ACCUMULATORS, _OWN, strict=True):
        tables[own] = stored.tables[own] if own in stored.tables else tables[name].copy()
    contributions = stored.tables[_COUNT].astype(np.float64)
    return ModelState(**tables, age=np.asarray(stored.age, np.float64), contributions=contributions)
