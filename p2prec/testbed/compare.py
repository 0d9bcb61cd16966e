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
SLOTS_ALIKE = 16.0
"""So many measurements, one after the other, tell as much as one would, since a model drifts over minutes: NDCG@10 of 80 people
who had learned for half an hour, at rounds of 2 s, correlated with itself by .92 a slot later, .53 after eight, 0 after 16."""
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


Interval: TypeAlias = tuple[float, float]
"""From and to, seconds of the run."""


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


def measure(
    history: Mapping[str, Sequence[Sample]], from_s: float, to_s: float, *, without: Sequence[Interval] = ()
) -> Measurement:
    """What the peers of a history measured between two moments of the run, but for some times in between."""
    kept = {
        host: [one for one in samples if not any(begin <= one.t <= end for begin, end in without)]
        for host, samples in history.items()
    }
    starts_s = [from_s + number * SLOT_S for number in range(int((to_s - from_s) / SLOT_S))]
    slots = [quality for start_s in starts_s if (quality := _quality(kept, start_s, start_s + SLOT_S))]
    return Measurement(_quality(kept, from_s, to_s), slots)


def compare(before: Measurement, after: Measurement) -> tuple[dict[str, Ratio], int]:
    """The ratio of each of `JUDGED`, and how many people are in both. No ratios when that could not be measured.

    How much a mean over a slot varies is taken from the longer of the two, since what drifts shows over a long time alone.
    """
    people = before.quality.keys() & after.quality.keys()
    ratios = {}
    for metric in JUDGED:
        reference, value = _mean(before.quality, people, metric), _mean(after.quality, people, metric)
        slots_after = _slot_means(after, people, metric)
        slots_before = _slot_means(before, people, metric) if before.slots else slots_after
        if not reference or min(len(slots_before), len(slots_after)) < MIN_SLOTS:
            return {}, len(people)
        longer = max(slots_after, slots_before, key=len)
        if not (mean := fmean(longer)):
            return {}, len(people)
        ratio, spread = value / reference, stdev(longer) / mean
        known = 1 / _independent(slots_before) + 1 / _independent(slots_after)
        ratios[metric] = Ratio(ratio, ratio * spread * math.sqrt(known))
    return ratios, len(people)


def _quality(history: Mapping[str, Sequence[Sample]], from_s: float, to_s: float) -> dict[str, dict[str, float]]:
    found = {}
    for samples in history.values():
        inside = [sample for sample in samples if from_s <= sample.t <= to_s]
        quality = mean_quality(inside)
        if quality is not None:
            found[inside[-1].person] = quality
    return found


def _mean(quality: Quality, people: Collection[str], metric: str) -> float:
    return fmean(quality[person][metric] for person in people) if people else 0.0


def _slot_means(measurement: Measurement, people: Collection[str], metric: str) -> list[float]:
    """Means over people, of the measurements that have all of them."""
    return [_mean(slot, people, metric) for slot in measurement.slots if people and slot.keys() >= set(people)]


def _independent(slots: Sequence[float]) -> float:
    """As many measurements that have nothing to do with each other would tell as much."""
    return max(1.0, len(slots) / SLOTS_ALIKE)
