"""The quality of the same people at two times: a ratio, and how well it is known.

Ten recommendations to each of a few dozen people jump from round to round, so a ratio without its error says little.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TypeAlias

from p2prec.testbed.sample import Sample, mean_quality

Quality: TypeAlias = Mapping[str, Mapping[str, float]]
"""Figures by person, as `p2prec.testbed.sample.mean_quality` names them."""

JUDGED = {"ndcg_at_10": "NDCG@10", "auc": "AUC"}
SLOT_S = 10.0
"""As often as peers measure."""
SLOTS_ALIKE = 4.0
"""So many measurements, one after the other, tell as much as one would: a model changes over a minute, not over a round."""
MIN_SLOTS = 3
MAX_ERROR = 0.02
"""A ratio that is not known this well (its standard error) proves nothing."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """Quality over some time."""

    quality: Quality
    """The mean of each person over all of it."""
    slots: Sequence[Quality] = ()
    """Measurement by measurement. Empty when only the means are known: they are then taken to be known as well, or as badly, as
    what they are compared with."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """Quality after over quality before, of the same people."""

    value: float
    error: float
    """Standard error."""

    def reaches(self, share: float) -> bool:
        """Whether it is at least `share`, as far as it was measured, and was measured well enough."""
        return self.error <= MAX_ERROR and self.value + self.error >= share

    def __str__(self) -> str:
        return f"{self.value:.3f} +- {self.error:.3f}"


def measure(history: Mapping[str, Sequence[Sample]], from_s: float, to_s: float) -> Measurement:
    """What the peers of a history measured between two moments of the run."""
    starts_s = [from_s + number * SLOT_S for number in range(int((to_s - from_s) / SLOT_S))]
    slots = [_quality(history, start_s, start_s + SLOT_S) for start_s in starts_s]
    return Measurement(_quality(history, from_s, to_s), slots)


def compare(before: Measurement, after: Measurement) -> tuple[dict[str, Ratio], int]:
    """The ratio of each of `JUDGED`, and how many people are in both. No ratios when that could not be measured."""
    people = before.quality.keys() & after.quality.keys()
    ratios = {}
    for metric in JUDGED:
        reference, value = _mean(before.quality, people, metric), _mean(after.quality, people, metric)
        error_after = _relative_error(after, people, metric)
        error_before = _relative_error(before, people, metric) if before.slots else error_after
        if not reference or error_after is None or error_before is None:
            return {}, len(people)
        ratio = value / reference
        ratios[metric] = Ratio(ratio, ratio * math.hypot(error_before, error_after))
    return ratios, len(people)


def _quality(history: Mapping[str, Sequence[Sample]], from_s: float, to_s: float) -> dict[str, dict[str, float]]:
    found = {}
    for samples in history.values():
        quality = mean_quality(sample for sample in samples if from_s <= sample.t <= to_s)
        if quality is not None:
            found[samples[-1].person] = quality
    return found


def _mean(quality: Quality, people: Collection[str], metric: str) -> float:
    return fmean(quality[person][metric] for person in people) if people else 0.0


def _relative_error(measurement: Measurement, people: Collection[str], metric: str) -> float | None:
    """Standard error of the mean over people, as a share of it; None when there are too few measurements with all of them."""
    means = [_mean(slot, people, metric) for slot in measurement.slots if people and slot.keys() >= set(people)]
    if len(means) < MIN_SLOTS or not fmean(means):
        return None
    return stdev(means) / fmean(means) / math.sqrt(max(1.0, len(means) / SLOTS_ALIKE))
