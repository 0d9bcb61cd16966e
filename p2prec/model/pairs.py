"""Learning from sums alone: how popular the items are, and which tastes go together (implicit feedback, private swarms).

A model that is trained step by step asks people again and again, and pays for privacy every time. This one asks twice. First
for the popularity of all items; then, over the `n_selected` most popular of them, for the mean of `y y'`, where y is what
a person has more or less of than the popularity of the items lets expect, at length 1. Everything else (the eigenvectors of
that matrix, what of them is noise, the scores) each device computes for itself, as often as it likes, at no cost in privacy.

Both statistics have L2 norm at most 1 for every person, so the noise of a Gaussian mechanism is 1/mu of them. What is known about
the noise is used in full: a symmetric matrix of pure noise with standard deviation s has eigenvalues up to `2 s sqrt(K)`; below
that nothing can be told from noise, and above it both the bias of an eigenvalue and how far its eigenvector has turned are known
(Benaych-Georges & Nadakuditi 2011, "The eigenvalues and eigenvectors of finite, low rank perturbations of large random
matrices", theorem 2.1 and section 3.1). docs/research/0003-privacy.md has the measurements.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from p2prec.types import DoubleArray, FloatArray, IndexArray

POPULARITY_ITEMS = 50
"""Histories longer than this weigh less in the popularity, so that one person's influence stays bounded."""
RIDGE = 2.0
"""Shrinks weak directions: at 2, an axis with two n_selected-ths of the variance counts half."""
MAX_SELECTED = 400
"""Items among which pairs are counted, at most: 80,200 values."""
_SELECTED_FACTOR = 6.0
_MAX_SHARE = 0.9
_LEAST_ACTIVITY = 0.1
VOID_ABOVE = 1.5
"""A sum with so many times the planned noise is void: masks have not cancelled. It is mixed again (protocols/privacy-v8.md)."""
_SQRT2 = np.float32(math.sqrt(2.0))


@dataclass(frozen=True, slots=True, eq=False)
class PairModel:
    """What a device knows after both sums; all of it is post-processing of them."""

    popularity: FloatArray
    """(n_items,) share of the people who know the item, long histories counted less; noise makes rare ones negative."""
    selected: IndexArray
    """(n_selected,) the items that `directions` speak about, the most popular first."""
    expected: FloatArray
    """(n_selected,) > 0: the popularity of the selected items, as people centre their histories by it."""
    directions: FloatArray
    """(n_selected, n_directions) orthonormal columns; n_directions may be 0."""
    gains: FloatArray
    """(n_directions,) in [0, 1): how much of what a person shows along a direction is believed."""


def n_selected(n_items: int, n_people: int, mu: float) -> int:
    """Among how many items to count pairs: the more people and the less noise (mu: 1 over the noise multiplier of the sum), the
    more. `6 sqrt(n mu)` was within 3% of the best of 4, 6 and 9 times that root for 943 and 6,040 people and epsilon from 1 to 8.
    """
    wanted = _SELECTED_FACTOR * math.sqrt(n_people * min(mu, 10.0))
    return min(n_items, MAX_SELECTED, max(2, round(wanted)))


def n_pairs(selected: int) -> int:
    """Length of a pair statistic."""
    return selected * (selected + 1) // 2


def popularity_statistic(items: IndexArray, n_items: int) -> FloatArray:
    """A person's vote for the items they know, (n_items,) float32 of norm at most 1: equal weights, and above
    POPULARITY_ITEMS items smaller ones.

    items: distinct indices. Everybody's mean times `sqrt(POPULARITY_ITEMS)` is the popularity.
    """
    vote = np.zeros(n_items, np.float32)
    if len(items):
        vote[items] = 1.0 / math.sqrt(max(len(items), POPULARITY_ITEMS))
    return vote


def popularity_of(mean_vote: FloatArray) -> FloatArray:
    """The popularity of the items, from the mean of all people's `popularity_statistic`."""
    return (mean_vote * np.float32(math.sqrt(POPULARITY_ITEMS))).astype(np.float32)


def select(popularity: FloatArray, count: int) -> IndexArray:
    """The `count` most popular items, the most popular first; equals in the order of the catalogue."""
    return np.argsort(-popularity, kind="stable")[:count].astype(np.int64)


def expected_popularity(popularity: FloatArray, selected: IndexArray, noise_std: float) -> FloatArray:
    """(n_selected,) the popularity to centre by: never below the noise that is in it, so never 0 or less.

    noise_std: standard deviation of the noise in `popularity`, >= 0.
    """
    return np.maximum(popularity[selected], np.float32(max(noise_std, 1e-6))).astype(np.float32)


def centred(items: IndexArray, selected: IndexArray, expected: FloatArray, n_items: int) -> tuple[FloatArray, float]:
    """What a person has more and less of than expected, (n_selected,), and how active they are: items had over items
    expected.
    """
    known = np.zeros(n_items, np.float32)
    known[items] = 1.0
    own = known[selected]
    activity = float(own.sum()) / float(expected.sum())
    return own - np.minimum(np.float32(activity) * expected, np.float32(_MAX_SHARE)), activity


def pair_statistic(items: IndexArray, selected: IndexArray, expected: FloatArray, n_items: int) -> FloatArray:
    """A person's `y y'`, packed: (n_pairs,) float32 of norm 1; all 0 for somebody who knows none of the selected items."""
    own, activity = centred(items, selected, expected, n_items)
    norm = float(np.linalg.norm(own))
    if activity == 0 or norm == 0:
        return np.zeros(n_pairs(len(selected)), np.float32)
    unit = own / np.float32(norm)
    return pack(np.outer(unit, unit))


def pack(matrix: FloatArray) -> FloatArray:
    """A symmetric matrix as a vector with the same norm: the upper triangle, row by row, entries off the diagonal times
    sqrt(2). So noise on the vector is half as strong (in variance) on those entries.
    """
    rows, columns = np.triu_indices(len(matrix))
    packed = matrix[rows, columns].astype(np.float32)
    packed[rows != columns] *= _SQRT2
    return packed


def unpack(packed: FloatArray, selected: int) -> DoubleArray:
    """The symmetric matrix (selected, selected) float64 of a packed one."""
    rows, columns = np.triu_indices(selected)
    matrix = np.zeros((selected, selected))
    matrix[rows, columns] = np.where(rows == columns, packed, packed / _SQRT2)
    return matrix + np.triu(matrix, 1).T


def popularity_noise(mean_vote: FloatArray) -> float:
    """How much noise there must be in a mean vote, as a standard deviation: no true vote is negative, so what is below 0 is
    noise. Too small by as much as items are popular (about a third of it too small for films), never much too large.
    """
    below = np.minimum(mean_vote, 0).astype(np.float64)
    return math.sqrt(2 * float(np.mean(below**2)))


def pair_noise(mean_pairs: FloatArray, selected: int) -> float:
    """How much noise there must be in a packed mean, as a standard deviation of one value: the true matrix has no negative
    eigenvalue.
    """
    lowest = float(np.linalg.eigvalsh(unpack(mean_pairs, selected))[0])
    return max(0.0, -lowest) / 2 * math.sqrt(2 / selected)


def fit(
    popularity: FloatArray, selected: IndexArray, expected: FloatArray, mean_pairs: FloatArray, std: float
) -> PairModel:
    """The model that both sums make.

    mean_pairs: (n_pairs,) the mean of all people's `pair_statistic`, noise included; std: the standard deviation of that noise on
    one packed value, >= 0.
    """
    eigenvalues, vectors = np.linalg.eigh(unpack(mean_pairs, len(selected)))
    order = np.argsort(-eigenvalues)
    # Half of the radius of the semicircle; more than was planned where something did not cancel (`pair_noise`).
    noise = max(std * math.sqrt(len(selected) / 2), -float(eigenvalues.min()) / 2)
    kept = order[eigenvalues[order] > max(2 * noise, 1e-9)]
    observed = eigenvalues[kept]
    true = (observed + np.sqrt(np.maximum(observed**2 - 4 * noise**2, 0))) / 2
    alignment = 1 - (noise / true) ** 2
    gains = alignment * true / (true + RIDGE / len(selected))
    return PairModel(popularity, selected, expected, vectors[:, kept].astype(np.float32), gains.astype(np.float32))


def pair_scores(model: PairModel, items: IndexArray) -> FloatArray:
    """(n_items,) scores for a person with these items: the popularity of all, times how active they are, corrected on the
    selected items by what the person's other items say. With no directions it is the ranking by popularity.
    """
    own, activity = centred(items, model.selected, model.expected, len(model.popularity))
    scores: FloatArray = model.popularity * np.float32(max(activity, _LEAST_ACTIVITY))
    scores[model.selected] += ((own @ model.directions) * model.gains) @ model.directions.T
    return scores


def popularity_model(popularity: FloatArray, noise_std: float) -> PairModel:
    """What a device knows between both sums: a ranking by popularity, for everybody.

    noise_std: standard deviation of the noise in `popularity`, >= 0.
    """
    selected = select(popularity, 1)
    expected = expected_popularity(popularity, selected, noise_std)
    return PairModel(popularity, selected, expected, np.zeros((1, 0), np.float32), np.zeros(0, np.float32))


def pair_reasons(model: PairModel, items: IndexArray, target: int) -> FloatArray:
    """(k,) how much each of a person's items adds to the taste part of the score of item `target`; 0 for those that the pairs do
    not speak about. All 0 where that part is not positive: such an item is ranked by its popularity.

    Leaves out what `pair_scores` takes off for being active, which is the same for every item.
    """
    place = np.full(len(model.popularity), -1, np.int64)
    place[model.selected] = np.arange(len(model.selected))
    reasons = np.zeros(len(items), np.float32)
    if place[target] < 0:
        return reasons
    influence = model.directions @ (model.gains * model.directions[place[target]])
    own, _ = centred(items, model.selected, model.expected, len(model.popularity))
    own[place[target]] = 0  # that the person has not had the item speaks neither for nor against it
    if float(own @ influence) > 0:
        known = place[items] >= 0
        reasons[known] = influence[place[items[known]]]
    return reasons


def pair_factors(model: PairModel) -> FloatArray:
    """(n_selected, n_directions) factors whose cosines say which of the selected items go together."""
    return model.directions * np.sqrt(model.gains)
