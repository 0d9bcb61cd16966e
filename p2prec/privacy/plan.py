"""What a private swarm promises, and how much noise that takes: one plan, from the promise to the noise of every sum.

A swarm with cancelling noise computes a few sums over its people (`p2prec.model.pairs`). Of each, a contribution has norm at
most 1. The promise (epsilon, delta) allows a total of `mu` (the exact curve of `p2prec.privacy.accountant`), sums of squares
add up, and a plan divides `mu^2` among the sums. Within a sum, OVERHEAD of its share pays for what the masks let through to
an observer of every message (`p2prec.privacy.collusion`); the rest is central differential privacy's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from p2prec.privacy.accountant import mu_of_epsilon

SUMS = POPULARITY, PAIRS = 1, 2
"""The numbers of the sums, in messages and in the ledger: the popularity vote, then the pair statistic."""
POPULARITY_SHARE = 0.15
"""Share of mu^2 that goes to the popularity of the items: their order is nearly free to learn."""
OVERHEAD = 0.04
"""Share of a sum's mu^2 for what an observer of all messages, with COLLUDING of the peer's partners helping it, learns beyond the
sum. 0.04 costs 2% more noise than a trusted curator would add; with less, masks would be larger, and so would be what is lost
when peers crash: among thousands of peers that is more.
"""
LEAKAGE = 0.15
"""What `e_u' L+ e_u` may be at most in the graph of masks between honest peers (L its Laplacian): about 1 / (honest partners)."""
MEAN_PARTNERS = 24
"""Mask partners that a peer has on average."""
COLLUDING = 3
"""Partners of a peer that may be on the observer's side without a weaker promise."""
MIN_PARTNERS = COLLUDING + 9
"""A peer with fewer confirmed partners sits a sum out: with fewer than 7 that do not collude, LEAKAGE would be exceeded; two more
are for partners that turn out to be absent.
"""
MIN_PEOPLE = 50
"""Smaller swarms are refused: what 50 people can hide in is little, and fewer hide in nothing."""


@dataclass(frozen=True, slots=True)
class SumPlan:
    """How one sum is protected. All noise is relative to a contribution's largest norm, 1."""

    mu: float
    """What an observer of everything gains: the norm of a contribution in standard deviations of its noise; > 0."""
    independent_std: float
    """Of the noise that every peer adds alone, and that stays in the sum."""
    mask_std: float
    """Of the noise that two partners share with opposite signs."""

    @property
    def unit(self) -> float:
        """What 1 stands for on the wire: so scaled, values stay far within the bounds of eight bits a value."""
        return self.mask_std

    def sum_std(self, n_contributions: int) -> float:
        """Standard deviation of the noise in a sum of so many contributions whose masks have cancelled."""
        return self.independent_std * math.sqrt(n_contributions)


@dataclass(frozen=True, slots=True)
class PrivacyPlan:
    """A promise, and the noise that keeps it. Made by `PrivacyPlan.of`."""

    epsilon: float
    delta: float
    n_people: int
    """The fewest honest people over which a sum is made: independent noise counts on so many."""
    popularity: SumPlan
    pairs: SumPlan

    @property
    def mu(self) -> float:
        return math.hypot(self.popularity.mu, self.pairs.mu)

    @classmethod
    def of(cls, epsilon: float, delta: float, n_people: int) -> PrivacyPlan:
        """epsilon: > 0 and at most 20, for each person's whole history; delta: in (0, 0.1); n_people: the fewest honest
        participants of a sum.

        Raises ValueError for a promise that is none: an epsilon above 20 (or not positive), a delta of 1/n_people or more, or
        fewer than MIN_PEOPLE people.
        """
        if not 0 < epsilon <= 20:
            raise ValueError(f"epsilon must be above 0 and at most 20, not {epsilon}: beyond that it promises nothing")
        if n_people < MIN_PEOPLE:
            raise ValueError(f"{n_people} people are too few to hide in: at least {MIN_PEOPLE}")
        if not 0 < delta < 1 / n_people:
            raise ValueError(f"delta must be below 1/{n_people}: above it, publishing one person at random would pass")
        total = mu_of_epsilon(epsilon, delta)
        parts = (POPULARITY_SHARE, 1 - POPULARITY_SHARE)
        popularity, pairs = (_sum_plan(total * math.sqrt(share), n_people) for share in parts)
        return cls(epsilon, delta, n_people, popularity, pairs)


def _sum_plan(mu: float, n_people: int) -> SumPlan:
    """mu^2 = 1 / (n independent^2) + LEAKAGE / mask^2, the second term OVERHEAD of the whole."""
    return SumPlan(
        mu=mu,
        independent_std=1 / (mu * math.sqrt((1 - OVERHEAD) * n_people)),
        mask_std=math.sqrt(LEAKAGE / OVERHEAD) / mu,
    )
