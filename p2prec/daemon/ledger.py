"""The core's ledger, on disk: a row is durable before anything that it pays for can be sent."""

from __future__ import annotations

import time

from p2prec.manifest import Manifest
from p2prec.privacy.ledger import Budget
from p2prec.storage.store import Store


class StoreLedger:
    """Implements `p2prec.peer.contributor.Ledger`."""

    def __init__(self, store: Store, manifest: Manifest) -> None:
        self._store = store
        self._swarm_id = manifest.swarm_id
        self._budget = Budget.of(manifest)
        self._contributions = store.ledger_contributions(manifest.swarm_id)
        self._in_doubt = False
        """Whether the last row may be on disk although writing it failed."""

    @property
    def contributions(self) -> int:
        return self._contributions

    @property
    def epsilon_spent(self) -> float:
        return self._budget.epsilon_after(self._contributions)

    @property
    def may_contribute(self) -> bool:
        return self._budget.allows(self._contributions)

    def record(self) -> int:
        """Raises StoreError; then nothing may be sent, though the row may turn out to be there (it counts as spent)."""
        if self._in_doubt:
            self._contributions = max(self._contributions, self._store.ledger_contributions(self._swarm_id))
        self._in_doubt = True
        entry = self._budget.entry(self._contributions, self._swarm_id, time.time())
        self._store.append_ledger(entry)
        self._in_doubt = False
        self._contributions = entry.contribution
        return entry.contribution
