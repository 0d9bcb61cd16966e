"""What every method that the swarm is compared with has in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol

import numpy as np

from p2prec.data.histories import Histories
from p2prec.types import FloatArray

Objective = Literal["explicit", "implicit"]
BOTH: frozenset[Objective] = frozenset({"explicit", "implicit"})
OnRound = Callable[[int], None]
"""Told after each round or sweep how many are done: for a progress bar."""
FLOAT_BYTES = 4


def silent(_done: int) -> None:
    """An `OnRound` that does nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """What a method may learn from, and how long."""

    histories: Histories
    """The training part; values are ratings, or all 1 (implicit)."""
    objective: Objective
    rounds: int
    """Communication rounds for methods that communicate; others have their own number of sweeps."""

    @classmethod
    def of(cls, histories: Histories, objective: Objective, rounds: int) -> Training:
        if objective == "implicit":
            histories = replace(histories, values=np.ones_like(histories.values))
        return cls(histories, objective, rounds)

    @property
    def n_people(self) -> int:
        return len(self.histories)

    @property
    def n_items(self) -> int:
        return len(self.histories.catalogue)


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A method after training."""

    scores: FloatArray
    """(n_people, n_items) predicted ratings, or anything to rank by; finite."""
    rounds: int = 0
    """Communication rounds that were run; 0: everything was in one place."""
    sent_bytes: float = 0.0
    """Sent per peer and round, on average: payload, without framing."""
    received_bytes: float = 0.0
    """Received per peer and round, on average."""


class Baseline(Protocol):
    """One method, with its settings as fields. `fit` is deterministic given `rng`'s state."""

    name: ClassVar[str]
    objectives: ClassVar[frozenset[Objective]]

    def fit(self, train: Training, rng: np.random.Generator, on_round: OnRound = silent) -> Fitted:
        """Raises UsageError when a package is missing that the method needs, or memory."""
        ...
