"""What a device knows of its swarm's two sums: kept in the store under a checksum, and fitted to a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from p2prec.errors import StoreError
from p2prec.model.pairs import (
    POPULARITY_ITEMS,
    PairModel,
    expected_popularity,
    fit,
    n_pairs,
    popularity_model,
    popularity_of,
)
from p2prec.peer.sum_outcome import SumOutcome
from p2prec.privacy.plan import PAIRS, POPULARITY
from p2prec.storage.records import StoredModel
from p2prec.types import FloatArray, IndexArray, SwarmId


@dataclass(frozen=True, slots=True, eq=False)
class SumResults:
    """Of no, one or both sums. Everything a device computes from them is free: it spends no privacy."""

    outcomes: Mapping[int, SumOutcome] = field(default_factory=dict)
    """By the number of the sum, 1 and 2; never 2 without 1."""
    selected: IndexArray | None = None
    """(n_selected,) the items whose pairs were counted; not None once sum 2 is there."""

    @property
    def n_known(self) -> int:
        return len(self.outcomes)

    def model(self) -> PairModel | None:
        """What to recommend by: popularity after the first sum, taste after the second. None before."""
        vote, pairs = self.outcomes.get(POPULARITY), self.outcomes.get(PAIRS)
        if vote is None:
            return None
        popularity, noise_std = popularity_of(vote.mean), vote.noise_std * math.sqrt(POPULARITY_ITEMS)
        if pairs is None or self.selected is None:
            return popularity_model(popularity, noise_std)
        expected = expected_popularity(popularity, self.selected, noise_std)
        return fit(popularity, self.selected, expected, pairs.mean, pairs.noise_std)


def to_stored(results: SumResults, swarm_id: SwarmId) -> StoredModel:
    """For `Store.save_model`; `age` is the number of sums."""
    tables: dict[str, FloatArray] = {}
    for number, outcome in results.outcomes.items():
        facts = (outcome.people, outcome.noise_std, outcome.is_void, outcome.mixed_again, outcome.is_own)
        tables |= {f"mean{number}": outcome.mean, f"facts{number}": np.array(facts, np.float32)}
    if results.selected is not None:
        tables["selected"] = results.selected.astype(np.float32)  # exact: below 2^24
    return StoredModel(swarm_id, float(results.n_known), tables)


def from_stored(stored: StoredModel | None, n_items: int) -> SumResults:
    """Raises StoreError when the tables are not what `to_stored` makes for a swarm of `n_items` items. None: nothing is known."""
    if stored is None or not stored.tables:
        return SumResults()
    if not all(np.isfinite(table).all() for table in stored.tables.values()):
        raise StoreError("the saved results of the private sums are damaged: not finite")
    selected = _selected(stored, n_items) if "selected" in stored.tables else None
    outcomes = {POPULARITY: _outcome(stored, POPULARITY, n_items)}
    if selected is not None and f"mean{PAIRS}" in stored.tables:
        outcomes[PAIRS] = _outcome(stored, PAIRS, n_pairs(len(selected)))
    return SumResults(outcomes, selected)


def _outcome(stored: StoredModel, number: int, count: int) -> SumOutcome:
    people, noise_std, is_void, mixed_again, is_own = _table(stored, f"facts{number}", 5).tolist()
    if not (people >= 1 and noise_std >= 0):
        raise StoreError("the saved results of the private sums are damaged: nobody took part")
    mean = _table(stored, f"mean{number}", count)
    return SumOutcome(mean, int(people), noise_std, bool(is_void), bool(mixed_again), bool(is_own))


def _selected(stored: StoredModel, n_items: int) -> IndexArray:
    selected = stored.tables["selected"].astype(np.int64)
    if selected.ndim != 1 or not selected.size or selected.min() < 0 or selected.max() >= n_items:
        raise StoreError("the saved results of the private sums are damaged: no such items")
    if np.bincount(selected).max() > 1:
        raise StoreError("the saved results of the private sums are damaged: an item twice")
    return selected


def _table(stored: StoredModel, name: str, length: int) -> FloatArray:
    table = stored.tables.get(name)
    if table is None or table.shape != (length,):
        raise StoreError(f"the saved results of the private sums are damaged ({name})")
    return table
