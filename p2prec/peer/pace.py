"""When a peer begins its rounds, and whom it asks for an exchange. Learning neither knows nor cares."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from p2prec.peer.view import Link, View
from p2prec.types import PeerId

ROUND_JITTER = 0.1
"""Rounds start within this fraction of the interval of each other, so that a swarm does not beat in time."""
OFFER_ATTEMPTS = 3
"""Neighbours that are asked in one round before a busy swarm is left alone."""


class Pace(Protocol):
    """One peer's."""

    def first_round(self, now: float) -> float:
        """When the first round begins; asked once, at the start."""
        ...

    def next_round(self, due: float, now: float) -> float:
        """When the next round begins, after `now`. A round begins now; it was due at `due`, perhaps a while ago."""
        ...

    def partner(self, view: View, part: int, asked: frozenset[PeerId]) -> Link | None:
        """The neighbour to ask for an exchange about this part of the tables, but for those who were asked already."""
        ...


class RandomPace:
    """About one round an interval, each exchange with a neighbour drawn at random."""

    def __init__(self, interval_s: float, rng: np.random.Generator) -> None:
        self._interval_s = interval_s
        self._rng = rng

    def first_round(self, now: float) -> float:
        return now + self._interval_s * float(self._rng.random())

    def next_round(self, due: float, now: float) -> float:
        """A peer that was late (suspended, overloaded) skips the rounds it missed instead of catching up with a burst."""
        jitter = 1.0 + ROUND_JITTER * (2.0 * float(self._rng.random()) - 1.0)
        return max(due + self._interval_s * jitter, now + self._interval_s / 2)

    def partner(self, view: View, part: int, asked: frozenset[PeerId]) -> Link | None:
        return view.random_neighbour(self._rng, exclude=asked)
