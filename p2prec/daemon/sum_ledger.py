"""The ledger of a swarm with a promise: whether this device has contributed to a private sum, for ever and whatever happens.

Numbers decide, never times: sum 1, then sum 2, each at most once. A row is durable in the store, and its number in the second
note beside it, before anything leaves. After a crash, a restart, a store restored from an old backup or a clock that was set, a
sum whose number is not beyond both counts as contributed to: the device sits it out, and has at worst lost its turn.
"""

from __future__ import annotations

import time

from p2prec.errors import StoreError
from p2prec.manifest import Promise
from p2prec.privacy.plan import SUMS
from p2prec.privacy.sum_budget import SumBudget
from p2prec.storage.mark import LedgerMark
from p2prec.storage.store import Store
from p2prec.types import SwarmId


class SumLedger:
    """Implements `p2prec.peer.contributor.Ledger` as well, as one that lets nothing of the ordinary kind out."""

    def __init__(self, store: Store, swarm_id: SwarmId, promise: Promise, mark: LedgerMark | None = None) -> None:
        """mark: the second note outside of the store; None: there is none (tests). Raises StoreError when it is damaged."""
        self._store, self._swarm_id, self._mark = store, swarm_id, mark
        self.budget = SumBudget.of(promise)
        in_store = frozenset(store.ledger_numbers(swarm_id))
        noted = mark.contributions(swarm_id) if mark is not None else 0
        forgotten = {number for number in SUMS if max(in_store, default=0) < number <= noted}
        self.forgotten = len(forgotten)
        """Sums that the store no longer knows of, as far as the second note tells: they count as spent."""
        self.spent_on = in_store | forgotten
        """Sums that this device has contributed to, or may have."""
        self._failed: set[int] = set()

    @property
    def epsilon_spent(self) -> float:
        return self.budget.epsilon_after(self.spent_on)

    @property
    def contributions(self) -> int:
        """How many sums this device has contributed to, or may have."""
        return len(self.spent_on)

    def is_open(self, number: int) -> bool:
        """Whether this device may still contribute to a sum."""
        return number in SUMS and number > max(self.spent_on | self._failed, default=0)

    def record_sum(self, number: int) -> None:
        """Write the row of a sum, durably. Raises StoreError when it was written before, or cannot be: then nothing may be sent,
        now or later.
        """
        if not self.is_open(number):
            raise StoreError(f"this device has contributed to sum {number} before, or must be taken to have")
        # Whatever happens below, there is no second attempt: the row may be on disk although writing it failed.
        self._failed.add(number)
        entry = self.budget.entry(number, self.spent_on, self._swarm_id, time.time())
        self._store.append_ledger(entry)
        self.spent_on |= {number}
        if self._mark is not None:
            self._mark.note(self._swarm_id, number)

    # The ordinary kind of contribution, which a promise rules out.

    @property
    def may_contribute(self) -> bool:
        return False

    def record(self) -> int:
        """Raises StoreError, always."""
        raise StoreError("in a swarm with a promise nothing is contributed but to its two sums")
