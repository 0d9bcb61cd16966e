"""What one peer's own interactions have to say about the item rows, before clipping and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2prec.manifest import LearningParameters
from p2prec.model.state import ModelState, n_gram_factors
from p2prec.model.user import item_rows
from p2prec.types import FloatArray, IndexArray

EVIDENCE_WEIGHT = np.float32(0.25)
"""What a touched row counts in `evidence`. Gradient and evidence share one clip norm, and the evidence of a long
history would eat most of it at weight 1; being about the same in every contribution, it also stands more noise than
the gradient does."""


@dataclass(frozen=True, slots=True, eq=False)
class Contribution:
    """Dense over all items: which rows are non-zero is as secret as their values."""

    gradient: FloatArray
    """s_u: (..., n_items, n_columns) float32, non-zero on the touched rows only until noise is added."""
    evidence: FloatArray
    """w_u: (..., n_items) float32, EVIDENCE_WEIGHT on the touched rows."""
    gram: FloatArray
    """p p': (..., n_factors, n_factors) float32; (..., 0, 0) for explicit feedback."""


def contribution(
    parameters: LearningParameters,
    item_factors: FloatArray,
    user_factor: FloatArray,
    items: IndexArray,
    values: FloatArray,
    weights: FloatArray | None = None,
) -> Contribution:
    """The descent direction of each touched item row, `error * p` (explicit: `error * (p, 1)`), and which rows those
    are.

    Shapes as in `solve_user`. weights: 0 leaves an item out (padding, or not sampled this time).
    """
    weights = np.ones_like(values) if weights is None else weights
    d = parameters.n_factors
    rows = item_rows(item_factors, items)
    factor = user_factor[..., None, :d]
    predicted = (rows[..., :d] * factor).sum(axis=-1)
    feature = factor
    if parameters.objective == "explicit":
        predicted = predicted + rows[..., d] + user_factor[..., d:]
        feature = np.concatenate([factor, np.ones_like(factor[..., :1])], axis=-1)
    steps = ((values - predicted) * weights)[..., None] * feature

    gradient = np.zeros_like(item_factors)
    evidence = np.zeros(item_factors.shape[:-1], np.float32)
    touched = np.nonzero(weights > 0)
    rows_at = (*touched[:-1], items[touched])
    gradient[rows_at] = steps[touched]
    evidence[rows_at] = EVIDENCE_WEIGHT * weights[touched]
    if n_gram_factors(parameters):
        gram = user_factor[..., :, None] * user_factor[..., None, :]
    else:
        gram = np.zeros((*item_factors.shape[:-2], 0, 0), np.float32)
    return Contribution(gradient, evidence, gram)


def sample_items(weights: FloatArray, limit: int, rng: np.random.Generator) -> FloatArray:
    """Set all but `limit` random non-zero entries of each row of `weights` (..., k) to 0.

    Drawn afresh for every contribution, so that in time all of the user's items are heard.
    """
    if weights.shape[-1] <= limit:
        return weights
    order = np.where(weights > 0, rng.random(weights.shape), 2.0)
    cut = np.partition(order, limit - 1, axis=-1)[..., limit - 1 : limit]
    return np.where(order <= cut, weights, np.float32(0))


def touched_share(state: ModelState) -> FloatArray:
    """(..., n_items) the share of the swarm's contributions that touch each item, as far as this peer knows; >= 0.

    Clipping and noise blur it. Its order is the swarm's popularity.
    """
    share: FloatArray = np.maximum(state.evidence, 0).astype(np.float32, copy=False)
    return share / EVIDENCE_WEIGHT


def absorb(parameters: LearningParameters, state: ModelState, own: Contribution) -> None:
    """Blend a contribution into the accumulators, in place: `S <- beta S + (1 - beta) s_u`, and so for W and G."""
    keep, take = np.float32(parameters.momentum), np.float32(1.0 - parameters.momentum)
    for accumulator, new in (
        (state.gradient, own.gradient),
        (state.evidence, own.evidence),
        (state.gram, own.gram),
    ):
        accumulator *= keep
        accumulator += take * new
