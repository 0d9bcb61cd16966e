"""Taste changes: what somebody did last says most about what comes next, and is weighted so, on the device itself."""

from __future__ import annotations

import numpy as np

from p2prec.manifest import LearningParameters
from p2prec.types import DoubleArray, FloatArray


def recency_ranks(times: DoubleArray) -> FloatArray:
    """How many of a person's interactions are newer: (k,) float32, 0 for the newest.

    times: (k,), any unit; unknown ones are 0, the oldest. Interactions of the same time share the mean of their ranks (a
    basket has no order), counted from the newest group's: without any times all ranks are 0.
    """
    if not times.size:
        return np.empty(0, np.float32)
    ascending = np.sort(times)
    last = np.searchsorted(ascending, times, side="right")
    first = np.searchsorted(ascending, times, side="left")
    ranks = times.size - (first + last + 1) / 2
    from_newest: FloatArray = (ranks - ranks.min()).astype(np.float32)
    return from_newest


def recent_weights(parameters: LearningParameters, ranks: FloatArray, weights: FloatArray) -> FloatArray:
    """What each interaction counts when predicting what comes next: short taste on top of a little long taste.

    ranks: (..., k) by `recency_ranks`; weights: (..., k) 1, or 0 for padding. The newest interaction counts 1, the others
    `(exp(-rank / recency_interactions) + recency_floor) / (1 + recency_floor)`: all 1 where no times are known. Ratings
    (explicit feedback) keep their weights.
    """
    if parameters.objective == "explicit":
        return weights
    floor = np.float32(parameters.recency_floor)
    recent = np.exp(ranks / np.float32(-parameters.recency_interactions))
    weighted: FloatArray = weights * ((recent + floor) / (1 + floor))
    return weighted
