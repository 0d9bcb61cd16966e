"""Made-up histories, for when no real ones can be had. Never mistake a figure that was measured on them for a real
one."""

from __future__ import annotations

import numpy as np

from p2prec.data.catalogue import Catalogue
from p2prec.data.histories import Histories
from p2prec.types import ItemKey

_N_TASTES = 8
_TASTE_STRENGTH = 2.0
"""Weight of taste against popularity in what people choose."""
_START_TIME = 1.6e9


def synthetic_histories(n_users: int, n_items: int, seed: int, *, mean_history: int = 60) -> Histories:
    """People with low-rank tastes who choose items by popularity and taste: the structure that a recommender can learn.

    Item popularity falls as a power law (exponent 0.8); items and people have factors in 8 dimensions; each person's
    items are drawn without replacement with probability proportional to exp(log-popularity + 2 taste). Ratings of 1
    to 5 follow taste.
    """
    rng = np.random.default_rng(seed)
    log_popularity = -0.8 * np.log(1.0 + rng.permutation(n_items))
    item_factors = rng.normal(size=(n_items, _N_TASTES)) / np.sqrt(_N_TASTES)
    lengths = np.clip(rng.lognormal(np.log(mean_history), 0.5, n_users).astype(np.int64), 20, max(20, n_items // 3))
    lengths = np.minimum(lengths, n_items)
    items, values = [], []
    for length in lengths:
        taste = item_factors @ rng.normal(size=_N_TASTES)
        # The Gumbel trick: the largest perturbed log-weights are a draw without replacement.
        perturbed = log_popularity + _TASTE_STRENGTH * taste + rng.gumbel(size=n_items)
        chosen = np.sort(np.argpartition(-perturbed, length - 1)[:length])
        items.append(chosen)
        values.append(np.clip(np.round(3.5 + taste[chosen] + rng.normal(scale=0.5, size=length)), 1, 5))
    n_rows = int(lengths.sum())
    return Histories(
        catalogue=Catalogue(
            tuple(ItemKey(str(row + 1)) for row in range(n_items)),
            tuple(f"Synthetic item {row + 1}" for row in range(n_items)),
        ),
        users=tuple(str(user + 1) for user in range(n_users)),
        offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        items=np.concatenate(items).astype(np.int64),
        values=np.concatenate(values).astype(np.float32),
        times=_START_TIME + rng.uniform(0, 1e8, n_rows),
    )
