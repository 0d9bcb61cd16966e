"""What the two private sums of a swarm with a promise cost one person, and the rows of the ledger for them."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from p2prec.manifest import Promise
from p2prec.privacy.accountant import epsilon_of_mu
from p2prec.privacy.ledger import LedgerEntry
from p2prec.privacy.plan import PrivacyPlan


@dataclass(frozen=True, slots=True)
class SumBudget:
    """The price of each sum. A sum is one Gaussian mechanism in the ledger, of noise multiplier 1 / mu."""

    plan: PrivacyPlan

    @classmethod
    def of(cls, promise: Promise) -> SumBudget:
        """Raises ValueError for a promise that is none (`PrivacyPlan.of`)."""
        return cls(PrivacyPlan.of(promise.epsilon, promise.delta, promise.n_people))

    def mu_of(self, number: int) -> float:
        """Of sum 1 or 2."""
        return (self.plan.popularity, self.plan.pairs)[number - 1].mu

    def mu_after(self, numbers: Collection[int]) -> float:
        """Of these sums together."""
        return math.sqrt(math.fsum(self.mu_of(number) ** 2 for number in set(numbers)))

    def epsilon_after(self, numbers: Collection[int]) -> float:
        """What contributing to these sums has spent in all; 0 for none, the promise for both."""
        return epsilon_of_mu(self.mu_after(numbers), self.plan.delta)

    def entry(self, number: int, earlier: Collection[int], swarm_id: bytes, now: float) -> LedgerEntry:
        """The row of a sum, after contributions to `earlier` ones. Write it before sending anything."""
        return LedgerEntry(
            contribution=number,
            time=now,
            swarm_id=swarm_id,
            noise_multiplier=1 / self.mu_of(number),
            releases=1,
            epsilon_after=self.epsilon_after({*earlier, number}),
            delta=self.plan.delta,
        )
