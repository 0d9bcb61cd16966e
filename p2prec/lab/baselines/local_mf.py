"""Factors that every peer trains by SGD on its own interactions: what the published decentralized methods share.

All peers at once: the k-th interaction of every peer is one array operation, so each peer goes through its interactions one
by one exactly as it would alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2prec.lab.backend import can_compile
from p2prec.lab.baselines.base import Objective, Training
from p2prec.lab.baselines.matrix import touched
from p2prec.types import BoolArray, FloatArray, IndexArray


@dataclass(frozen=True, slots=True)
class SgdSettings:
    """Explicit: squared error of `b_u + b_i + p.q`. Implicit: logistic loss of `p.q` with sampled negatives (NeuMF's)."""

    n_factors: int
    learning_rate: float
    reg: float
    """L2 weight per interaction, on both sides."""
    init_scale: float = 0.1
    n_negatives: int = 4
    """Untouched items drawn for each interaction (implicit only)."""


SGD_SETTINGS: dict[Objective, SgdSettings] = {
    "explicit": SgdSettings(n_factors=8, learning_rate=0.05, reg=0.1),
    "implicit": SgdSettings(n_factors=16, learning_rate=0.1, reg=0.002),
}
"""What served the published methods best of a few settings, on a validation part of MovieLens-100K's training part."""


_SUMMED_AT_ONCE = 128
"""So many numbers numpy adds up in one pass, which the compiled code repeats."""


@dataclass(slots=True, eq=False)
class LocalModels:
    """Everybody's copy of the item factors, and the user factors that stay at home."""

    item_factors: FloatArray
    """(n_peers, n_items, c): the factors, and for explicit feedback the item's bias last."""
    user_factors: FloatArray
    """(n_peers, c): the factors, and for explicit feedback the user's bias last."""

    @property
    def message_bytes(self) -> int:
        """One copy of the item factors as float32."""
        return int(self.item_factors[0].nbytes)


@dataclass(frozen=True, slots=True, eq=False)
class LocalData:
    """Everybody's interactions in an order of their own, padded."""

    items: IndexArray
    """(n_peers, k) item indices."""
    values: FloatArray
    """(n_peers, k) ratings, or 1."""
    lengths: IndexArray
    """(n_peers,) how many of the k are real."""
    touched: BoolArray
    """(n_peers, n_items)."""
    objective: Objective

    @classmethod
    def of(cls, train: Training, rng: np.random.Generator) -> LocalData:
        """rng: shuffles each peer's interactions once."""
        histories = train.histories
        lengths = np.diff(histories.offsets)
        items = np.zeros((train.n_people, max(1, int(lengths.max()))), np.int64)
        values = np.zeros(items.shape, np.float32)
        for peer, length in enumerate(lengths):
            pairs, order = histories.of(peer), rng.permutation(length)
            items[peer, :length], values[peer, :length] = pairs.items[order], pairs.values[order]
        return cls(items, values, lengths, touched(histories), train.objective)


def start(train: Training, settings: SgdSettings, rng: np.random.Generator) -> LocalModels:
    """One random start for all peers' item factors (kinder than the papers, which let each begin anywhere).

    A user's bias starts at the mean of their ratings, so that nothing is lost on learning it.
    """
    explicit = train.objective == "explicit"
    c = settings.n_factors + explicit
    item_factors = rng.normal(0.0, settings.init_scale, (train.n_items, c)).astype(np.float32)
    user_factors = rng.normal(0.0, settings.init_scale, (train.n_people, c)).astype(np.float32)
    if explicit:
        item_factors[:, -1] = 0
        values = train.histories.values
        mean = np.float32(values.mean(dtype=np.float64))
        for peer in range(train.n_people):
            own = train.histories.of(peer).values
            user_factors[peer, -1] = own.mean() if len(own) else mean
    return LocalModels(np.repeat(item_factors[None], train.n_people, axis=0), user_factors)


def local_pass(
    models: LocalModels, data: LocalData, peers: IndexArray, settings: SgdSettings, rng: np.random.Generator
) -> None:
    """Each of `peers` (distinct) goes once through its interactions, in place."""
    if data.objective == "explicit" and settings.n_factors <= _SUMMED_AT_ONCE and can_compile():
        from p2prec.lab.compiled.sgd import pass_over_ratings

        rate, reg = np.float32(settings.learning_rate), np.float32(settings.reg)
        factors = models.item_factors, models.user_factors
        pass_over_ratings(*factors, data.items, data.values, data.lengths, peers, rate, reg)
        return
    by_length = peers[np.argsort(-data.lengths[peers], kind="stable")]
    ascending = data.lengths[by_length][::-1]
    for k in range(int(ascending[-1]) if len(ascending) else 0):
        active = by_length[: len(ascending) - int(np.searchsorted(ascending, k, side="right"))]
        positives, values = data.items[active, k : k + 1], data.values[active, k : k + 1]
        if data.objective == "explicit":
            _descend(models, active, positives, values, settings, logistic=False)
        else:
            negatives = rng.integers(data.touched.shape[1], size=(len(active), settings.n_negatives))
            # An item that the peer has touched is no negative: asking for its present value moves nothing.
            wrong = data.touched[active[:, None], negatives]
            targets = np.concatenate([values, np.where(wrong, np.float32(np.nan), np.float32(0))], axis=1)
            _descend(models, active, np.concatenate([positives, negatives], axis=1), targets, settings, logistic=True)


def _descend(
    models: LocalModels,
    peers: IndexArray,
    items: IndexArray,
    targets: FloatArray,
    settings: SgdSettings,
    *,
    logistic: bool,
) -> None:
    """One SGD step of each peer on (n, b) items at once; a NaN target counts nothing."""
    rate, reg = np.float32(settings.learning_rate), np.float32(settings.reg)
    rows = models.item_factors[peers[:, None], items]
    users = models.user_factors[peers][:, None, :]
    if logistic:
        predicted = 1 / (1 + np.exp(-(rows * users).sum(axis=-1)))
        row_features, user_features = users, rows
    else:
        predicted = (rows[..., :-1] * users[..., :-1]).sum(axis=-1) + rows[..., -1] + users[..., -1]
        row_features, user_features = _with_one(users), _with_one(rows)
    errors = np.nan_to_num(targets - predicted, nan=0.0)[..., None]
    counted = ~np.isnan(targets)[..., None]
    models.item_factors[peers[:, None], items] = rows + rate * counted * (errors * row_features - reg * rows)
    pull = reg * counted * users
    if not logistic:
        pull[..., -1] = 0  # the user's bias is a mean rating, not a deviation from 0
    models.user_factors[peers] += rate * (errors * user_features - pull).sum(axis=1)


def _with_one(factors: FloatArray) -> FloatArray:
    """The other side's feature of a bias is 1."""
    features = factors.copy()
    features[..., -1] = 1
    return features


def scores(models: LocalModels, objective: Objective) -> FloatArray:
    """(n_peers, n_items) each peer's scores by its own copy."""
    item_factors, users = models.item_factors, models.user_factors
    if objective == "implicit":
        ranking: FloatArray = np.einsum("pic,pc->pi", item_factors, users)
        return ranking
    factors = np.einsum("pic,pc->pi", item_factors[..., :-1], users[:, :-1])
    result: FloatArray = factors + item_factors[..., -1] + users[:, -1:]
    return result
