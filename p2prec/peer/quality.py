"""How good the device's own recommendations are, measured by the device on the held-out part of its own interactions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from p2prec.metrics.ranking import RankingScores, ranking_scores
from p2prec.model.schedule import rounds_between_contributions
from p2prec.model.state import ModelState, served_factors
from p2prec.model.user import scores, solve_user
from p2prec.peer.learner import Learner
from p2prec.types import FloatArray, IndexArray

ALONE_ROUNDS = 30
"""Rounds after which a model that hears from nobody has settled."""


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

    item_keys, seed: what `learner` was made from. start: the swarm's common start, where it is at hand. Costs ALONE_ROUNDS
    rounds: keep the result while the interactions stay the same.
    """
    privacy = msgspec.structs.replace(learner.privacy, noise_multiplier=0.0)
    alone = Learner(learner.parameters, privacy, item_keys, seed, None if start is None else start.copy())
    alone.swarm_size_estimate = 1.0
    alone.set_interactions(learner.items, learner.values)
    rng = np.random.default_rng(0)  # decides only which items a long history samples
    for done in range(ALONE_ROUNDS):
        if done % rounds_between_contributions(learner.parameters) == 0:
            alone.contribute(rng)
            alone.state.probe[:] = 0  # alone, all is mixed at once
        alone.step()
    alone.solve()
    return alone.scores()


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
