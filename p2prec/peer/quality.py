"""How good the device's own recommendations are, measured by the device on the held-out part of its own interactions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from p2prec.metrics.ranking import RankingScores, ranking_scores
from p2prec.model.contribution import absorb, draw_probe
from p2prec.model.recency import recency_ranks, recent_weights
from p2prec.model.rounding import is_transmittable
from p2prec.model.schedule import rounds_between_contributions
from p2prec.model.segments import contribute_segments
from p2prec.model.state import ModelState, initial_state, served_factors, state_of
from p2prec.model.step import step
from p2prec.model.user import item_gram, scores, solve_user
from p2prec.peer.learner import Learner, privatize
from p2prec.types import FloatArray, IndexArray

ALONE_ROUNDS = 30
"""Rounds after which a model that hears from nobody has settled."""
_RANK = 1e-6
"""Singular values below this share of the largest are none: item biases start at 0."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Full ranking of all items outside the training part; each in [0, 1]."""

    ndcg_at_10: float
    hr_at_10: float
    auc: float
    popularity_ndcg_at_10: float
    popularity_hr_at_10: float
    popularity_auc: float
    alone_ndcg_at_10: float
    alone_hr_at_10: float
    alone_auc: float
    held_out: int
    """Interactions measured on."""


def measure(learner: Learner, test_items: IndexArray, alone: FloatArray) -> Quality:
    """Compare the swarm's model with the swarm's popularity and with a model trained alone.

    The held-out items are of all times, not what came last, so all interactions count alike in asking for them.
    test_items: (k,) items held out from the learner, k >= 1. alone: (n_items,) scores by `alone_scores`.
    """
    factors = served_factors(learner.state)
    user = solve_user(learner.parameters, factors, learner.items, learner.values)
    swarm = ranking_scores(scores(learner.parameters, factors, user), test_items, learner.items)
    popularity = ranking_scores(learner.state.evidence, test_items, learner.items)
    return quality_of(swarm, popularity, ranking_scores(alone, test_items, learner.items), len(test_items))


def alone_scores(
    learner: Learner, item_keys: Sequence[str], seed: bytes, start: ModelState | None = None
) -> FloatArray:
    """(n_items,) scores after the same kernels, schedule and interactions with no neighbours and no noise.

    item_keys, seed: what `learner` was made from. start: the swarm's common start, where it is at hand; it is left alone. Costs
    ALONE_ROUNDS rounds of the rows of the own items and a few more: keep the result while the interactions stay the same.
    """
    start = initial_state(learner.parameters, seed, item_keys) if start is None else start
    own = np.sort(learner.items)
    others = np.ones(learner.n_items, np.bool_)
    others[own] = False
    # Alone, nothing tells rows apart of items that one has not touched: each round maps them all alike, and linearly. So a few
    # with the same Gram matrix take part in their place, and what becomes of those says what becomes of all.
    untouched = start.item_factors[others]
    few: FloatArray = np.asarray(np.linalg.qr(untouched, mode="r"))
    served, user = _train_alone(learner, own, np.concatenate([start.item_factors[own], few]))
    mapped = np.linalg.lstsq(few.astype(np.float64), served[len(own) :].astype(np.float64), rcond=_RANK)[0]
    factors = np.empty_like(start.item_factors)
    factors[own], factors[others] = served[: len(own)], untouched @ mapped
    return scores(learner.parameters, factors, user)


def _train_alone(learner: Learner, own: IndexArray, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The factors by which to recommend, and the user's, after ALONE_ROUNDS rounds from these item factors.

    own: (k,) the learner's items in ascending order, which the first k rows are of. The others stand for all other items.
    """
    parameters, values = learner.parameters, learner.values
    items, ones = np.searchsorted(own, learner.items), np.ones_like(values)
    ranks = recency_ranks(np.zeros(items.shape))
    privacy = msgspec.structs.replace(learner.privacy, noise_multiplier=0.0)
    rng = np.random.default_rng(0)  # decides only which items a long history samples

    def gram(factors: FloatArray) -> FloatArray | None:
        """Of all items. The penalty of a user factor is counted in items, so that of those without a row is added."""
        if parameters.objective == "explicit":
            return None
        missing = np.float32(parameters.user_reg * (learner.n_items - len(rows)))
        return item_gram(parameters, factors) + missing * np.eye(parameters.n_factors, dtype=np.float32)

    state = state_of(parameters, rows)
    for done in range(ALONE_ROUNDS):
        if done % rounds_between_contributions(parameters) == 0:
            factors, limit = state.item_factors, privacy.max_items_per_contribution
            said = contribute_segments(parameters, factors, items, values, ones, ranks, limit, rng, gram=gram(factors))
            absorb(parameters, state, privatize(privacy, said, rng), draw_probe(rng))
            state.probe[:] = 0  # alone, all is mixed at once
        step(parameters, state, 1.0)
        if not is_transmittable(state.item_factors):
            state = state_of(parameters, rows)  # as `Learner.step` begins anew
    served = served_factors(state)
    weights = recent_weights(parameters, ranks, ones)
    return served, solve_user(parameters, served, items, values, weights, gram=gram(served))


def quality_of(swarm: RankingScores, popularity: RankingScores, alone: RankingScores, held_out: int) -> Quality:
    """Of three rankings, measured on `held_out` items."""
    return Quality(
        ndcg_at_10=swarm.ndcg,
        hr_at_10=swarm.hit_rate,
        auc=swarm.auc,
        popularity_ndcg_at_10=popularity.ndcg,
        popularity_hr_at_10=popularity.hit_rate,
        popularity_auc=popularity.auc,
        alone_ndcg_at_10=alone.ndcg,
        alone_hr_at_10=alone.hit_rate,
        alone_auc=alone.auc,
        held_out=held_out,
    )
