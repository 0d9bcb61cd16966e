"""The core's ledger, on disk: a row is durable before anything that it pays for can be sent."""

from __future__ import annotations

import time

from p2prec.manifest import Manifest
from p2prec.privacy.ledger import Budget
from p2prec.storage.mark import LedgerMark
from p2prec.storage.store import Store


class StoreLedger:
    """Implements `p2prec.peer.contributor.Ledger`.

    Numbers count, never times: a clock that is set back or forward changes nothing.
    """

    def __init__(self, store: Store, manifest: Manifest, mark: LedgerMark | None = None) -> None:
        """mark: the second note outside of the store; None: there is none (tests). Raises StoreError when it is damaged."""
        self._store = store
        self._swarm_id = manifest.swarm_id
        self._budget = Budget.of(manifest)
        self._mark = mark
        in_store = store.ledger_contributions(manifest.swarm_id)
        noted = mark.contributions(manifest.swarm_id) if mark is not None else 0
        self._contributions = max(in_store, noted)
        self.forgotten = max(0, noted - in_store)
        """Contributions that the store no longer knows of: it comes from an old backup. They count as spent."""
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
        self._contributions = entry.contribution
        if self._mark is not None:
            self._mark.note(self._swarm_id, entry.contribution)
        self._in_doubt = False
        return entry.contribution
