"""How good the device's own recommendations are, measured by the device on the held-out part of its own interactions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from p2prec.metrics.ranking import RankingScores, ranking_scores
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

    test_items: (k,) items held out from the learner, k >= 1. alone: (n_items,) scores by `alone_scores`.
    """
    learner.solve()
    swarm = ranking_scores(learner.scores(), test_items, learner.items)
    popularity = ranking_scores(learner.state.evidence, test_items, learner.items)
    return _quality(swarm, popularity, ranking_scores(alone, test_items, learner.items), len(test_items))


def alone_scores(learner: Learner, item_keys: Sequence[str], seed: bytes) -> FloatArray:
    """(n_items,) scores after the same kernels, schedule and interactions with no neighbours and no noise.

    item_keys, seed: what `learner` was made from. Costs ALONE_ROUNDS rounds: keep it while the interactions stay the same.
    """
    privacy = msgspec.structs.replace(learner.privacy, noise_multiplier=0.0)
    alone = Learner(learner.parameters, privacy, item_keys, seed)
    alone.swarm_size_estimate = 1.0
    alone.set_interactions(learner.items, learner.values)
    rng = np.random.default_rng(0)  # decides only which items a long history samples
    for _ in range(ALONE_ROUNDS):
        alone.solve()
        if alone.due_to_contribute:
            alone.contribute(rng)
        alone.step()
    alone.solve()
    return alone.scores()


def _quality(swarm: RankingScores, popularity: RankingScores, alone: RankingScores, held_out: int) -> Quality:
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
