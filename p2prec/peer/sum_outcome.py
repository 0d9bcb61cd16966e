"""What a private sum came to, as one peer knows it, and as it tells it to others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2prec.model.nearest import decode, encode
from p2prec.peer.inheritance import Trace
from p2prec.peer.private_sum import Share
from p2prec.peer.sum_messages import Result
from p2prec.privacy.plan import SumPlan
from p2prec.types import FloatArray, IndexArray


@dataclass(frozen=True, slots=True, eq=False)
class SumOutcome:
    """One sum that is over."""

    mean: FloatArray
    """(count,) the mean of everybody's statistic, noise included."""
    people: int
    """How many contributed."""
    noise_std: float
    """Standard deviation of the noise on one value, as planned."""
    is_void: bool = False
    """Whether there is more noise in it, since something has not cancelled."""
    mixed_again: bool = False
    """Whether it was void at first."""
    is_own: bool = True
    """Whether this peer mixed to the end itself; otherwise it is a neighbour's copy."""


def as_result(outcome: SumOutcome, plan: SumPlan, items: IndexArray | None) -> Result:
    """What to tell a neighbour that asks. items: of the second sum, which are counted in pairs."""
    value = encode((outcome.mean / np.float32(plan.unit)).astype(np.float32))
    return Result(Share(value, 1.0, Trace(0, None, 0)), outcome.people, items)


def from_result(result: Result, plan: SumPlan, count: int) -> FloatArray:
    """The mean that a neighbour tells, (count,)."""
    mean: FloatArray = decode(result.share.value, count) * np.float32(plan.unit / result.share.weight)
    return mean
