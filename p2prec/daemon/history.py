"""The owner's interactions as the running peer sees them: what it trains on, what it measures with, what it never recommends."""

from __future__ import annotations

import numpy as np

from p2prec.data.catalogue import Catalogue
from p2prec.data.interactions import TrainingPairs, training_pairs
from p2prec.data.split import held_out
from p2prec.manifest import Manifest
from p2prec.storage.store import Store
from p2prec.types import IndexArray


class History:
    """Follows the store, which the command line writes to while the daemon runs."""

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        catalogue: Catalogue,
        holdout_fraction: float,
        holdout_secret: bytes | None = None,
    ) -> None:
        """holdout_secret: as in `p2prec.config.DaemonSettings`."""
        self._store = store
        self._objective = manifest.learning.objective
        self._catalogue = catalogue
        self._fraction = holdout_fraction
        self._secret = holdout_secret or store.local_secret("held-out")
        self._data_version = store.data_version()
        self._revision = -1
        self.count = 0
        """Interactions logged, of any kind and item."""
        self.pairs: TrainingPairs
        """Everything usable, for the owner's own recommendations."""
        self.training: TrainingPairs
        """What contributions and measurements may use."""
        self.test_items: IndexArray
        """(k,) items held out to measure with."""
        self.seen: IndexArray
        """(s,) every item of the catalogue that the owner did anything with."""
        self._reload()

    def refresh(self) -> bool:
        """Take over what other processes have written. Returns True when the interactions changed. Raises StoreError."""
        version = self._store.data_version()
        if version == self._data_version:
            return False
        changed = self._reload()
        self._data_version = version  # not before: what could not be read is read the next time
        return changed

    def _reload(self) -> bool:
        revision = self._store.interactions_revision()
        if revision == self._revision:
            return False
        interactions = self._store.interactions()
        self._revision = revision
        self.count = len(interactions)
        self.pairs = training_pairs(interactions, self._catalogue, self._objective)
        keys = [self._catalogue.keys[i] for i in self.pairs.items.tolist()]
        out = held_out(keys, self._secret, self._fraction)
        self.training = self.pairs.where(~out)
        self.test_items = self.pairs.items[out]
        touched = {i.item for i in interactions if i.item in self._catalogue}
        self.seen = np.array(sorted(self._catalogue.index_of(key) for key in touched), np.int64)
        return True
