"""When a peer lets something of its own into the shared tables, and what has to be written down before."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from p2prec.errors import StoreError
from p2prec.manifest import Manifest
from p2prec.peer.events import BudgetSpent, Contributed, Event, LedgerFailed
from p2prec.peer.learner import Learner


class Ledger(Protocol):
    """The device's account of what it has given away."""

    @property
    def epsilon_spent(self) -> float: ...

    @property
    def contributions(self) -> int:
        """Contributions ever made to this swarm by this identity."""
        ...

    @property
    def may_contribute(self) -> bool:
        """Whether one more contribution stays within the budget."""
        ...

    def record(self) -> int:
        """Write down one more contribution, durably, and return its number. Raises StoreError, and then nothing may be sent."""
        ...


class Contributor:
    """Contributes whenever the learner is due to, within the budget, never without a ledger row."""

    def __init__(self, learner: Learner, ledger: Ledger, manifest: Manifest) -> None:
        self._learner = learner
        self._ledger = ledger
        self._manifest = manifest
        # A peer that was here before waits its turn: restarts, however many, cost no budget.
        if ledger.contributions:
            learner.postpone_contribution()
        self._budget_spent = False
        self._ledger_fails = False

    @property
    def contributions(self) -> int:
        return self._ledger.contributions

    def round_begins(self, rng: np.random.Generator) -> list[Event]:
        """Contribute if it is time to.

        A peer without history contributes too (noise, if the swarm adds any): whether somebody contributes says nothing. After
        a failed write it tries again every round, and says so once.
        """
        if not self._learner.due_to_contribute:
            return []
        if not self._ledger.may_contribute:
            return self._budget_is_spent()
        try:
            number = self._ledger.record()
        except StoreError as error:
            told, self._ledger_fails = self._ledger_fails, True
            return [] if told else [LedgerFailed(str(error))]
        self._ledger_fails = False
        self._learner.contribute(rng)
        return [Contributed(number, self._ledger.epsilon_spent, self._manifest.privacy.delta)]

    def _budget_is_spent(self) -> list[Event]:
        told, self._budget_spent = self._budget_spent, True
        budget = self._manifest.privacy.epsilon_budget
        return [] if told else [BudgetSpent(self._ledger.epsilon_spent, math.inf if budget is None else budget)]
