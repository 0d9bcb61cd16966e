"""Two methods judged on the same people: how much of a difference may be the luck of who was asked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2prec.types import DoubleArray


@dataclass(frozen=True, slots=True)
class Ratio:
    """Of two means over the same people."""

    ratio: float
    standard_error: float
    """Over people, as drawn from many alike: 1 is within chance while it is less than two of these away."""


def ratio_of_means(one: DoubleArray, other: DoubleArray) -> Ratio | None:
    """`mean(one) / mean(other)`, linearised for its standard error (Cochran, Sampling Techniques, 1977, section 6.3).

    one, other: (n_people,), the same people in the same order. None if the other's mean is 0, or there are fewer than two people.
    """
    if one.shape != other.shape:
        raise ValueError(f"{one.shape} figures of people beside {other.shape}")
    mean = float(other.mean()) if len(other) > 1 else 0.0
    if mean == 0.0:
        return None
    ratio = float(one.mean()) / mean
    spread = float(np.std(one - ratio * other, ddof=1))
    return Ratio(ratio, spread / (abs(mean) * float(np.sqrt(len(one)))))
