"""What both private sums came to, as this peer knows it, and how those who have no copy of their own get a neighbour's."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping

import numpy as np

from p2prec.manifest import Promise
from p2prec.peer.sum_messages import InSum, Result, ResultRequest
from p2prec.peer.sum_outcome import SumOutcome, as_result, from_result
from p2prec.privacy.plan import PAIRS, POPULARITY, SUMS, SumPlan
from p2prec.types import FloatArray, IndexArray, PeerId

PATIENCE = 5
"""Neighbours that are asked for a result before a copy that has not settled has to do."""
MAX_TOLD = 4096
"""Neighbours of whom it is remembered when they were told a result."""

Answers = list[tuple[PeerId, InSum]]


class Copies:
    """`results` has what is known so far. A sum that goes on here (`under_way`) is not asked for."""

    def __init__(
        self,
        promise: Promise,
        plans: Mapping[int, SumPlan],
        counts: Mapping[int, int],
        rng: np.random.Generator,
        is_void: Callable[[int, FloatArray, float], bool],
        results: Mapping[int, SumOutcome],
        selected: IndexArray | None,
    ) -> None:
        """plans, counts: of both sums, counts being how many values each has; rng: draws whom to ask; is_void: of a sum's number,
        a mean and the noise that is planned in it, whether there is far more; results, selected: of an earlier run.
        """
        self.results = dict(results)
        """By the number of the sum. Grows, and changes otherwise never."""
        self.selected = selected
        """(n_selected,) the items that are counted in pairs, once agreed."""
        self._promise, self._plans, self._counts, self._rng, self._is_void = promise, plans, counts, rng, is_void
        self._asked: dict[int, list[PeerId]] = {number: [] for number in SUMS}
        self._ask_at = dict.fromkeys(SUMS, 0.0)
        self._unsettled: dict[int, SumOutcome] = {}
        """Own copies that are kept for want of a neighbour's."""
        self._told: dict[tuple[PeerId, int], float] = {}

    def ended(self, number: int, outcome: SumOutcome | None, now: float, *, is_good: bool) -> None:
        """A sum is over here. outcome: this peer's own copy, if it has one."""
        if outcome is not None and is_good:
            self.results.setdefault(number, outcome)
        elif outcome is not None:
            self._unsettled[number] = outcome
        self._ask_at[number] = now + self._promise.notice_s

    def next_deadline(self, under_way: Collection[int]) -> float:
        """When to `ask` again, at the latest."""
        due = math.inf
        for number in SUMS:
            if self._is_missing(number, under_way):
                due = min(due, self._ask_at[number])
        return due

    def ask(self, number: int, now: float, neighbours: Collection[PeerId], under_way: Collection[int]) -> Answers:
        """Ask a neighbour for the result of a sum that is over, if this peer has none and it is time."""
        if not self._is_missing(number, under_way):
            return []
        promise = self._promise
        earliest = promise.start_of(number) + promise.end_s + 2 * promise.notice_s
        if now < max(self._ask_at[number], earliest):
            self._ask_at[number] = max(self._ask_at[number], earliest)
            return []
        self._ask_at[number] = now + promise.answer_s
        if len(self._asked[number]) >= PATIENCE and number in self._unsettled:
            self.results[number] = self._unsettled.pop(number)
            return []
        if not neighbours:
            return []
        chosen = sorted(neighbours)[int(self._rng.integers(len(neighbours)))]
        self._asked[number] = [*self._asked[number], chosen][-PATIENCE:]
        return [(chosen, InSum(number, ResultRequest()))]

    def tell(self, neighbour: PeerId, number: int, now: float) -> Answers:
        """Answer with the own result, now and then at most: it is large."""
        outcome = self.results.get(number)
        if outcome is None or now - self._told.get((neighbour, number), -math.inf) < self._promise.answer_s:
            return []
        if number == PAIRS and self.selected is None:
            return []
        if len(self._told) >= MAX_TOLD:
            self._told.clear()
        self._told[neighbour, number] = now
        result = as_result(outcome, self._plans[number], self.selected if number == PAIRS else None)
        return [(neighbour, InSum(number, result))]

    def take(self, neighbour: PeerId, number: int, result: Result, under_way: Collection[int]) -> None:
        """Take over a neighbour's copy, if it was asked for."""
        if not self._is_missing(number, under_way) or neighbour not in self._asked[number]:
            return
        plan = self._plans[number]
        mean = from_result(result, plan, self._counts[number])
        std = plan.sum_std(result.people) / result.people
        if number == PAIRS:
            self.selected = result.items
        self.results[number] = SumOutcome(mean, result.people, std, self._is_void(number, mean, std), is_own=False)

    def _is_missing(self, number: int, under_way: Collection[int]) -> bool:
        """Whether a neighbour is to be asked for it: the second sum's only once the first is known."""
        if number in self.results or number in under_way:
            return False
        return number == POPULARITY or POPULARITY in self.results
