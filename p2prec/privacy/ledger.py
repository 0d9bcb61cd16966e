"""What contributions have cost: the rows of the ledger, and the budget that they are held against.

The ledger itself is `p2prec.storage.store`: a row is durable there before any message that carries the contribution
leaves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from p2prec.manifest import Manifest
from p2prec.privacy.accountant import epsilon


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One contribution, accounted before it was sent."""

    contribution: int
    """1 for the peer's first contribution to this swarm, then one more each time."""
    time: float
    """Seconds since 1970, UTC. For people; nothing is computed from it."""
    swarm_id: bytes
    """32 bytes."""
    noise_multiplier: float
    """Noise standard deviation over the clip norm; 0 when nothing was added."""
    releases: int
    """Gaussian mechanisms in this contribution: item rows and gram."""
    epsilon_after: float
    """Total over this and all earlier contributions to this swarm; infinite without noise."""
    delta: float


@dataclass(frozen=True, slots=True)
class LedgerTotal:
    """All contributions to one swarm together."""

    swarm_id: bytes
    contributions: int
    first_time: float
    """Seconds since 1970, UTC, as this device's clock said at the time."""
    last_time: float
    mu_squared: float
    """Of all Gaussian mechanisms together: they compose by adding this up. Infinite without noise."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a swarm's manifest lets one peer spend, at one noise multiplier throughout (a manifest never changes)."""

    noise_multiplier: float
    releases_per_contribution: int
    delta: float
    limit: float | None
    """Largest epsilon that may be spent; None: no limit."""

    @classmethod
    def of(cls, manifest: Manifest) -> Budget:
        """The budget of a swarm. A contribution is two Gaussian mechanisms: the item rows and the Gram matrix."""
        return cls(
            noise_multiplier=manifest.privacy.noise_multiplier,
            releases_per_contribution=2,
            delta=manifest.privacy.delta,
            limit=manifest.privacy.epsilon_budget,
        )

    def epsilon_after(self, n_contributions: int) -> float:
        """Epsilon that `n_contributions` contributions have spent in all; 0 for none, infinite without noise."""
        return epsilon(self.noise_multiplier, n_contributions * self.releases_per_contribution, self.delta)

    def allows(self, n_contributions: int) -> bool:
        """Whether a contribution more, after `n_contributions` of them, stays within the limit."""
        return self.limit is None or self.epsilon_after(n_contributions + 1) <= self.limit

    def entry(self, n_contributions: int, swarm_id: bytes, now: float) -> LedgerEntry:
        """The ledger row of the next contribution, after `n_contributions` of them. Write it before sending
        anything."""
        return LedgerEntry(
            contribution=n_contributions + 1,
            time=now,
            swarm_id=swarm_id,
            noise_multiplier=self.noise_multiplier,
            releases=self.releases_per_contribution,
            epsilon_after=self.epsilon_after(n_contributions + 1),
            delta=self.delta,
        )

    def max_contributions(self) -> int | None:
        """How many contributions fit into the limit in all; None when unlimited."""
        if self.limit is None:
            return None
        if math.isinf(self.epsilon_after(1)):
            return 0
        low, high = 0, 1
        while self.epsilon_after(high) <= self.limit:
            low, high = high, high * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.epsilon_after(middle) <= self.limit else (low, middle)
        return low
