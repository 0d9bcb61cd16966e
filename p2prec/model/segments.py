"""Contributing a history piece by piece: each stretch of time has a taste of its own.

Films that somebody saw in the same month have more in common than films they saw ten years apart, and so have the things
of one shopping trip. A history is cut into segments of about `segment_interactions`; each is contributed with a user factor
that is solved with the rest of the history at the weight `segment_floor`. So the item factors learn what goes together,
not only who likes what, and no byte more is sent.
"""

from __future__ import annotations

import numpy as np

from p2prec.manifest import LearningParameters
from p2prec.model.contribution import Contribution, contribution, sample_items
from p2prec.model.user import item_gram, solve_user
from p2prec.types import FloatArray, IndexArray


def draw_segments(
    parameters: LearningParameters, ranks: FloatArray, weights: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Cut histories into segments at random: (..., k) float32, the number of each interaction's segment, from 0.

    ranks: (..., k) by `recency_ranks`; weights: (..., k), 0 for padding. A history of n has n / segment_interactions segments,
    rounded, of about the same length but for the first and the last; where the cuts are is drawn afresh. Interactions
    of the same time stay together, so without times there is one segment, as there is for ratings. A segment may be
    empty. They are numbered from a random one on, in turn, so the first few are a fair sample.
    """
    if parameters.objective == "explicit":
        return np.zeros_like(weights)
    shift, start = (rng.random((*weights.shape[:-1], 2)).astype(np.float32)[..., at : at + 1] for at in (0, 1))
    length = (weights > 0).sum(axis=-1, keepdims=True).astype(np.float32)
    count = np.maximum(np.floor(length / np.float32(parameters.segment_interactions) + np.float32(0.5)), np.float32(1))
    place = np.floor(ranks * count / np.maximum(length, np.float32(1)) + shift - np.float32(0.5))
    place = np.minimum(np.maximum(place, np.float32(0)), count - 1)
    turned = place - np.floor(start * count)
    segments: FloatArray = np.where(turned < 0, turned + count, turned)
    return segments


def contribute_segments(
    parameters: LearningParameters,
    item_factors: FloatArray,
    items: IndexArray,
    values: FloatArray,
    weights: FloatArray,
    ranks: FloatArray,
    limit: int,
    rng: np.random.Generator,
    *,
    gram: FloatArray | None = None,
) -> Contribution:
    """A peer's contribution, before clipping and noise: the whole history, or whole segments of it up to `limit` items.

    items, values, weights, gram: as in `solve_user`; ranks: (..., k) by `recency_ranks`.
    """
    segments = draw_segments(parameters, ranks, weights, rng)
    chosen = sample_items(weights, limit, rng, first=segments)
    floor = np.float32(parameters.segment_floor)
    if gram is None and parameters.objective == "implicit":
        gram = item_gram(parameters, item_factors)
    factors: FloatArray | None = None
    last = np.where(chosen > 0, segments, np.float32(0)).max() if weights.size else 0
    for segment in range(int(last) + 1):
        inside = segments == segment
        in_force = np.where(inside, weights, floor * weights)
        own = solve_user(parameters, item_factors, items, values, in_force, gram=gram)
        each = own[..., None, :]
        factors = each if factors is None else np.where(inside[..., None], each, factors)
    assert factors is not None  # there is at least one segment
    return contribution(parameters, item_factors, factors, items, values, chosen)
