"""What a promise lets a swarm expect, before anybody joins: a table that `python -m p2prec.lab.private_quality` makes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

import msgspec

TABLE = "expected_quality.json"
STANDARD_ERRORS = 2.0
"""A swarm counts as better or worse than popularity where it is by this much."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One size and epsilon."""

    people: int
    epsilon: float
    ndcg_at_10: float
    """Mean over people and draws of the people; full ranking."""
    popularity_ndcg_at_10: float
    """By exact counts, which nobody in a swarm with a promise knows."""
    gain_standard_error: float
    """Of the difference of both, over draws."""
    draws: int

    @property
    def verdict(self) -> str:
        """better, same or worse than a list of the most popular items."""
        gain, least = self.ndcg_at_10 - self.popularity_ndcg_at_10, STANDARD_ERRORS * self.gain_standard_error
        return "better" if gain > least else "worse" if gain < -least else "same"


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """All that was measured, on one data set."""

    data: str
    people_in_data: int
    items: int
    median_history: float
    """Interactions of a person."""
    split: str
    delta: float
    noise_over_curator: float
    seeds: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Expectation:
    """What to expect of a swarm: what was measured for a swarm that is no larger and promises no less."""

    row: Row
    is_optimistic: bool
    """The swarm is smaller, or promises more, than anything that was measured: expect less than the row says."""
    data: str


@cache
def table() -> Table:
    """The table that this version was shipped with."""
    return msgspec.json.decode(resources.files("p2prec.privacy").joinpath(TABLE).read_bytes(), type=Table)


def expected(n_people: int, epsilon: float) -> Expectation:
    """n_people: who take part."""
    found = table()
    people = _at_most(n_people, {row.people for row in found.rows})
    budget = _at_most(epsilon, {row.epsilon for row in found.rows})
    row = next(row for row in found.rows if (row.people, row.epsilon) == (people, budget))
    return Expectation(row, people > n_people or budget > epsilon, found.data)


def _at_most(wanted: float, measured: set[int] | set[float]) -> float:
    """The largest that was measured and is not above what is wanted, or the smallest of all."""
    return max((one for one in measured if one <= wanted), default=min(measured))
