"""Gossip learning as published: models walk, are merged by age, and are updated where they arrive.

Hegedus, Danner & Jelasity 2021, "Decentralized learning works", algorithm 1, for the item factors of Hegedus, Berta,
Kocsis, Benczur & Jelasity 2016, "Robust decentralized low-rank matrix decomposition".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from p2prec.lab.backend import can_compile
from p2prec.lab.baselines.base import BOTH, FLOAT_BYTES, Fitted, Objective, OnRound, Training, silent
from p2prec.lab.baselines.local_mf import SGD_SETTINGS, LocalData, LocalModels, SgdSettings, local_pass, scores, start
from p2prec.lab.schedule import disjoint_batches
from p2prec.types import FloatArray, IndexArray


@dataclass(frozen=True, slots=True)
class GossipLearning:
    """Each round every peer sends its copy to one random peer, which merges the two row by row,
    `q <- (age q + age' q') / (age + age')`, `age <- max(age, age')`, and makes one pass over its own interactions.

    A row's age is how often it was updated. User factors never move.
    """

    name: ClassVar[str] = "gossip_learning"
    objectives: ClassVar[frozenset[Objective]] = BOTH
    sgd: SgdSettings | None = None
    """None: `SGD_SETTINGS`."""

    def fit(self, train: Training, rng: np.random.Generator, on_round: OnRound = silent) -> Fitted:
        sgd = self.sgd or SGD_SETTINGS[train.objective]
        data, models = LocalData.of(train, rng), start(train, sgd, rng)
        ages = np.zeros(models.item_factors.shape[:2], np.float32)
        for done in range(train.rounds if train.n_people > 1 else 0):
            for batch in disjoint_batches(_one_message_each(train.n_people, rng)):
                _deliver(models, ages, data, batch[:, 0], batch[:, 1], sgd, rng)
            on_round(done + 1)
        sent = models.message_bytes + FLOAT_BYTES * train.n_items
        return Fitted(scores(models, train.objective), train.rounds, sent, sent)


def _deliver(
    models: LocalModels,
    ages: FloatArray,
    data: LocalData,
    senders: IndexArray,
    receivers: IndexArray,
    sgd: SgdSettings,
    rng: np.random.Generator,
) -> None:
    """Messages between distinct peers: each receiver merges, then updates; in place."""
    if can_compile():
        from p2prec.lab.compiled.sgd import merge_into

        merge_into(models.item_factors, ages, receivers, senders)
    else:
        merged, age = merge(
            models.item_factors[receivers], ages[receivers], models.item_factors[senders], ages[senders]
        )
        models.item_factors[receivers], ages[receivers] = merged, age
    local_pass(models, data, receivers, sgd, rng)
    ages[receivers] += data.touched[receivers]


def merge(
    own: FloatArray, own_age: FloatArray, other: FloatArray, other_age: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Rows (..., n_items, c) and ages (..., n_items) after a merge; rows that nobody has updated are averaged plainly."""
    total = own_age + other_age
    share = np.where(total > 0, other_age / np.maximum(total, np.float32(1)), np.float32(0.5))[..., None]
    return own + share * (other - own), np.maximum(own_age, other_age)


def _one_message_each(n_peers: int, rng: np.random.Generator) -> IndexArray:
    """(n_peers, 2) sender and receiver, never the same, in the order in which messages arrive."""
    senders = rng.permutation(n_peers)
    receivers = (senders + rng.integers(1, n_peers, n_peers)) % n_peers
    return np.stack([senders, receivers], axis=1)
