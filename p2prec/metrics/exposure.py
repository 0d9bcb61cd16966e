"""Which items get shown: a recommender that only repeats the hits is accurate and of little use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2prec.types import BoolArray, IndexArray

HEAD_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Exposure:
    """Of everybody's top-k lists together, each in [0, 1]."""

    long_tail_share: float
    """Share of the recommended places that go to items of the long tail."""
    coverage: float
    """Share of the catalogue that is recommended to anybody."""
    gini: float
    """Gini coefficient of the places over the catalogue: 0 every item as often, towards 1 few items have all."""


def long_tail(counts: IndexArray, head_share: float = HEAD_SHARE) -> BoolArray:
    """The items beyond the head, (n_items,): the head is the fewest items that take `head_share` of all interactions
    (Abdollahpouri, Burke & Mobasher 2017).

    counts: (n_items,) training interactions of each item. Equally popular items are taken in the catalogue's order.
    """
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    tail = np.ones(len(counts), np.bool_)
    tail[order[before < head_share * counts.sum()]] = False
    return tail


def exposure(recommended: IndexArray, counts: IndexArray) -> Exposure:
    """What the lists show.

    recommended: (n_places,) item indices of all lists, at least one; counts: (n_items,) training interactions.
    """
    shown = np.bincount(recommended, minlength=len(counts))
    return Exposure(
        long_tail_share=float(shown[long_tail(counts)].sum() / shown.sum()),
        coverage=float((shown > 0).mean()),
        gini=_gini(shown),
    )


def _gini(shown: IndexArray) -> float:
    ascending = np.sort(shown).astype(np.float64)
    n = len(ascending)
    weighted = float((np.arange(1, n + 1) * ascending).sum())
    return 2.0 * weighted / (n * float(ascending.sum())) - (n + 1) / n
