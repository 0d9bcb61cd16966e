"""What somebody who reads messages finds out about people, as the area under the ROC curve: 0.5 is nothing, 1 everything.

Every attack gets the messages of all people of a data set, as one matrix of what each message shows of each item, and all public
knowledge; for attributes also the clear histories of half of the people, to learn from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from p2prec.lab.audit.bound import auc
from p2prec.types import BoolArray, DoubleArray, FloatArray, IndexArray

RIDGE = 10.0
COMMUNITY_SHARE = 0.05
"""Of all pairs of people: the most alike are one community."""
SPLITS = 3
_MIN_KNOWN = 40


def touched_items(messages: FloatArray, histories: Sequence[IndexArray]) -> float:
    """Which items does a person know? By the size of what a message shows of each item; mean over people.

    With consecutive messages of one peer, messages are their differences: what came in between is known to both sides.
    """
    areas = []
    for shown, items in zip(np.abs(messages), histories, strict=True):
        if 0 < len(items) < messages.shape[1]:
            known = np.zeros(messages.shape[1], np.bool_)
            known[items] = True
            areas.append(auc(shown[known].astype(np.float64), shown[~known].astype(np.float64)))
    return float(np.mean(areas))


def membership(messages: FloatArray, silent: FloatArray, statistics: FloatArray) -> float:
    """Did a person whose whole history is known to the attacker contribute it? messages: of those who did; silent: of the same
    people contributing nothing; statistics: what they would contribute.
    """
    weight = statistics.astype(np.float64)
    return auc((weight * messages).sum(axis=1), (weight * silent).sum(axis=1))


def attribute(messages: FloatArray, clear: FloatArray, is_so: BoolArray, rng: np.random.Generator) -> float:
    """Does an attribute hold for a person? Ridge regression on the clear statistics of one half of the people, applied to the
    messages of the other half, and the other way round, for SPLITS splits. is_so: (n_people,).

    Raises ValueError with fewer than 40 people on either side: chance alone would make a finding.
    """
    if min(is_so.sum(), (~is_so).sum()) < _MIN_KNOWN:
        raise ValueError(f"an attribute of fewer than {_MIN_KNOWN} people cannot be audited")
    areas = []
    for _ in range(SPLITS):
        half = _stratified_half(is_so, rng)
        for known in (half, ~half):
            scores = _ridge_scores(clear[known], is_so[known], messages[~known])
            areas.append(auc(scores[is_so[~known]], scores[~is_so[~known]]))
    return float(np.mean(areas))


def _stratified_half(is_so: BoolArray, rng: np.random.Generator) -> BoolArray:
    half = np.zeros(len(is_so), np.bool_)
    for kind in (True, False):
        members = rng.permutation(np.flatnonzero(is_so == kind))
        half[members[: len(members) // 2]] = True
    return half


def _ridge_scores(clear: FloatArray, is_so: BoolArray, messages: FloatArray) -> DoubleArray:
    centre = clear.mean(axis=0, dtype=np.float64)
    features, target = clear - centre, is_so - is_so.mean()
    kernel = features @ features.T  # in the space of people: there are fewer than items
    penalty = RIDGE * float(np.trace(kernel)) / len(kernel) / 100
    weights = features.T @ np.linalg.solve(kernel + penalty * np.eye(len(kernel)), target)
    scores: DoubleArray = (messages - centre) @ weights
    return scores


def community(messages: FloatArray, clear: FloatArray) -> float:
    """Whose tastes are alike? By the cosine of two messages; alike are the COMMUNITY_SHARE most alike by their clear ones."""
    upper = np.triu_indices(len(messages), 1)
    truth, guess = _cosines(clear)[upper], _cosines(messages)[upper]
    alike = truth >= np.quantile(truth, 1 - COMMUNITY_SHARE)
    return auc(guess[alike], guess[~alike])


def _cosines(rows: FloatArray) -> DoubleArray:
    wide = rows.astype(np.float64)
    unit = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    cosines: DoubleArray = unit @ unit.T
    return cosines
