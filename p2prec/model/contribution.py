"""What one peer's own interactions have to say about the item rows, before clipping and noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from p2prec.manifest import LearningParameters
from p2prec.model.state import PROBE_WIDTH, ModelState
from p2prec.model.user import item_rows
from p2prec.types import DoubleArray, FloatArray, IndexArray

EVIDENCE_WEIGHT = np.float32(0.25)
"""What a touched row counts in `evidence`. Gradient and evidence share one clip norm, and the evidence of a long
history would eat most of it at weight 1; being about the same in every contribution, it also stands more noise than
the gradient does."""

EVIDENCE_MEMORY = 0.95
"""Share of W that a new contribution leaves standing: who touches what changes slowly, and rows are divided by it."""
GRAM_MEMORY = 0.7
"""The same of G."""
STANDING = 0.95
"""The share in which a contribution takes the place of its author's last ones, rather than of what everybody has said. At 1, the
words of those who have left would stand for good, and so would every error."""


@dataclass(frozen=True, slots=True, eq=False)
class Contribution:
    """Dense over all items: which rows are non-zero is as secret as their values."""

    gradient: FloatArray
    """s_u: (..., n_items, n_columns) float32, non-zero on the touched rows only until noise is added."""
    evidence: FloatArray
    """w_u: (..., n_items) float32, EVIDENCE_WEIGHT on the touched rows."""
    gram: FloatArray
    """p p', the mean over the items: (..., n_columns, n_columns) float32; explicit: (p, 1) (p, 1)'."""


def contribution(
    parameters: LearningParameters,
    item_factors: FloatArray,
    user_factors: FloatArray,
    items: IndexArray,
    values: FloatArray,
    weights: FloatArray | None = None,
) -> Contribution:
    """The descent direction of each touched item row, `error * p` (explicit: `error * (p, 1)`), and which rows those
    are.

    user_factors: (..., k, n), as `solve_user` gives them, one for each of the items, or (..., 1, n), one for all. Other shapes
    as in `solve_user`. weights: 0 leaves an item out (padding, or not sampled this time).
    """
    weights = np.ones_like(values) if weights is None else weights
    d = parameters.n_factors
    rows = item_rows(item_factors, items)
    factor = user_factors[..., :d]
    predicted = (rows[..., :d] * factor).sum(axis=-1)
    feature = factor
    if parameters.objective == "explicit":
        predicted = predicted + rows[..., d] + user_factors[..., d]
        feature = np.concatenate([factor, np.ones_like(factor[..., :1])], axis=-1)
    steps = ((values - predicted) * weights)[..., None] * feature

    gradient = np.zeros_like(item_factors)
    evidence = np.zeros(item_factors.shape[:-1], np.float32, like=item_factors)
    touched = np.nonzero(weights > 0)
    rows_at = (*touched[:-1], items[touched])
    gradient[rows_at] = steps[touched]
    evidence[rows_at] = EVIDENCE_WEIGHT * weights[touched]
    share = weights / np.maximum(weights.sum(axis=-1, keepdims=True), np.float32(1))
    feature = np.broadcast_to(feature, rows.shape)
    gram = np.swapaxes(feature * share[..., None], -1, -2) @ feature
    return Contribution(gradient, evidence, gram)


def sample_items(
    weights: FloatArray, limit: int, rng: np.random.Generator, *, first: FloatArray | None = None
) -> FloatArray:
    """Set all but `limit` random non-zero entries of each row of `weights` (..., k) to 0.

    Drawn afresh for every contribution, so that in time all of the user's items are heard. first: (..., k) whole numbers;
    entries with smaller ones are taken before others.
    """
    if weights.shape[-1] <= limit:
        return weights
    drawn = rng.random(weights.shape)
    order = np.where(weights > 0, drawn if first is None else drawn + first, np.inf)
    cut = np.partition(order, limit - 1, axis=-1)[..., limit - 1 : limit]
    return np.where(order <= cut, weights, np.float32(0))


def touched_share(state: ModelState) -> FloatArray:
    """(..., n_items) the share of the swarm's contributions that touch each item, as far as this peer knows; >= 0.

    Clipping and noise blur it. Its order is the swarm's popularity.
    """
    share: FloatArray = np.maximum(state.evidence, 0).astype(np.float32, copy=False)
    return share / EVIDENCE_WEIGHT


def draw_probe(rng: np.random.Generator, leading: tuple[int, ...] = ()) -> FloatArray:
    """(*leading, PROBE_WIDTH) random signs, -1 or 1, to contribute beside the data (`p2prec.model.state.mixing`)."""
    bits = np.unpackbits(np.frombuffer(rng.bytes(math.prod(leading) * PROBE_WIDTH // 8), np.uint8))
    return np.float32(2) * bits.reshape(*leading, PROBE_WIDTH).astype(np.float32) - np.float32(1)


@dataclass(frozen=True, slots=True)
class AccumulatorMemory:
    """The share of the owner's last contributions that a new one leaves standing, in each accumulator: (...) float64."""

    gradient: DoubleArray
    evidence: DoubleArray
    gram: DoubleArray
    probe: DoubleArray


def accumulator_memory(parameters: LearningParameters, state: ModelState) -> AccumulatorMemory:
    """The first contributions count as a plain mean, so that none of them weighs more than later ones. W and G change slowly
    and remember more of them than S does.
    """
    mean = state.contributions / (state.contributions + 1.0)
    short = np.minimum(mean, parameters.momentum)
    medium = np.minimum(mean, np.maximum(parameters.momentum, GRAM_MEMORY))
    return AccumulatorMemory(short, np.minimum(mean, EVIDENCE_MEMORY), medium, short)


def absorb(parameters: LearningParameters, state: ModelState, own: Contribution, probe: FloatArray) -> None:
    """Put a contribution into the accumulators in the place of the owner's last ones, in place: with m the mean of those,

        S <- S + (1 - beta) (s_u - t m - (1 - t) S)        m <- m + (1 - beta) (s_u - m)        t = STANDING

    and so for W, G and the probe. At t = 1 the sum of everybody's S is that of everybody's m at any time, whatever was mixed
    (gradient tracking: Di Lorenzo & Scutari 2016, Nedic, Olshevsky & Shi 2017), and stays when somebody leaves.

    probe: as `draw_probe` makes it, drawn afresh for each contribution.
    """
    keep = accumulator_memory(parameters, state)
    for accumulator, last, new, kept in (
        (state.gradient, state.own_gradient, own.gradient, keep.gradient[..., None, None]),
        (state.evidence, state.own_evidence, own.evidence, keep.evidence[..., None]),
        (state.gram, state.own_gram, own.gram, keep.gram[..., None, None]),
        (state.probe, state.own_probe, probe, keep.probe[..., None]),
    ):
        gain = (1.0 - kept).astype(np.float32)
        accumulator += gain * (new - (np.float32(STANDING) * last + np.float32(1.0 - STANDING) * accumulator))
        last += gain * (new - last)
    state.contributions += 1.0
