"""Small histories for the lab's tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from p2prec.data.catalogue import Catalogue
from p2prec.data.histories import Histories, group_histories
from p2prec.data.synthetic import synthetic_histories
from p2prec.types import ItemKey


def histories_of(rows: Mapping[str, Sequence[tuple[int, float, float]]], n_items: int) -> Histories:
    """{user: [(item, value, time), ...]} with the items "0" to n_items - 1."""
    keys = tuple(ItemKey(str(item)) for item in range(n_items))
    flat = [(user, *row) for user, own in rows.items() for row in own]
    return group_histories(
        Catalogue(keys, keys),
        [user for user, *_ in flat],
        [keys[int(item)] for _, item, _, _ in flat],
        [value for *_, value, _ in flat],
        [time for *_, time in flat],
    )


def crowd(n_people: int = 24, n_items: int = 40, seed: int = 0) -> Histories:
    """Made-up people with something to learn and with times."""
    return synthetic_histories(n_people, n_items, seed, mean_history=15)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)
