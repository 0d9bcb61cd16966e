"""The product's own kernels without its network: some people's solves, contributions and scores, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from p2prec.data.histories import Histories
from p2prec.lab.people import People
from p2prec.manifest import LearningParameters
from p2prec.model.user import scores
from p2prec.types import FloatArray

PEOPLE_AT_ONCE = 64
"""Bounds memory: a contribution is dense over all items."""


def people_in_chunks(histories: Histories) -> Iterator[tuple[slice, People]]:
    """Everybody's interactions, padded within each chunk only."""
    for start in range(0, len(histories), PEOPLE_AT_ONCE):
        chunk = range(start, min(start + PEOPLE_AT_ONCE, len(histories)))
        pairs = [histories.of(person) for person in chunk]
        yield (
            slice(chunk.start, chunk.stop),
            People.of([(one.items, one.values) for one in pairs], [one.times for one in pairs]),
        )


def scores_by_one_copy(parameters: LearningParameters, item_factors: FloatArray, histories: Histories) -> FloatArray:
    """(n_people, n_items): everybody scored with the same item factors (n_items, c)."""
    result = np.empty((len(histories), len(item_factors)), np.float32)
    for rows, people in people_in_chunks(histories):
        result[rows] = scores(parameters, item_factors[None], people.solved(parameters, item_factors[None]))
    return result
