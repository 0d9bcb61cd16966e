"""Which items are counted in pairs: one list for all, proposed by a peer that nobody chose, and checked before it is adopted.

The participant of the first sum with the smallest rank proposes at the start of the second one. If nothing plausible has been
heard from it after a notice, the next one does, and so on. Everybody adopts the plausible proposal of the smallest rank.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable

import numpy as np

from p2prec.model.pairs import select
from p2prec.types import FloatArray, IndexArray, PeerId

AGREEMENT = 0.9
"""So much of a proposed list has to be among one's own first WITHIN times as many items."""
WITHIN = 2
MAX_PROPOSALS = 64
"""Kept, for a peer that cannot judge them yet."""


def rank_of(epoch: int, peer: PeerId) -> bytes:
    """The smaller, the more a proposal of this peer counts in this sum; public, and nobody's to choose but by choosing an id."""
    return hashlib.sha256(b"p2prec selection 1" + epoch.to_bytes(8, "big") + peer.encode()).digest()


def proposer(epoch: int, peers: Iterable[PeerId]) -> PeerId | None:
    """Whose list counts among those heard from; None of none."""
    return min(peers, key=lambda peer: rank_of(epoch, peer), default=None)


def is_plausible(proposed: IndexArray, popularity: FloatArray, count: int) -> bool:
    """Whether a proposed list of the `count` most popular items can be honest, by this peer's own copy of the popularity.

    Copies differ by a little noise, so the ends of honest lists differ. A list that is not plausible is ignored, with its
    proposer: it could only spoil the result, never anybody's privacy.
    """
    if proposed.shape != (count,) or proposed.dtype != np.int64:
        return False
    if proposed.size and (proposed.min() < 0 or proposed.max() >= len(popularity) or np.bincount(proposed).max() > 1):
        return False
    own = select(popularity, min(WITHIN * count, len(popularity)))
    return int(np.isin(proposed, own).sum()) >= AGREEMENT * count


class Agreement:
    """One peer's part in it."""

    def __init__(self, own_id: PeerId, epoch: int, count: int) -> None:
        """epoch: the number of the sum that the items were ranked by; count: how many are chosen."""
        self.own_id, self.count = own_id, count
        self._epoch = epoch
        self._proposed: dict[PeerId, IndexArray] = {}
        self._place: tuple[Collection[PeerId], int] = ((), 0)
        self._agreed: IndexArray | None = None
        self._is_judged = False
        """Whether `_agreed` follows from all that was heard."""
        self.has_proposed = False

    def hear(self, peer: PeerId, items: IndexArray) -> None:
        """A peer proposes. Its first word counts; MAX_PROPOSALS peers are listened to, those of the smallest ranks."""
        self._is_judged = False
        self._proposed.setdefault(peer, items)
        if len(self._proposed) > MAX_PROPOSALS:
            del self._proposed[max(self._proposed, key=lambda one: rank_of(self._epoch, one))]

    def place(self, living: Collection[PeerId]) -> int:
        """How many of the living, this peer among them, are to propose before it. Worked out once for the same collection."""
        if self._place[0] is not living:
            own = rank_of(self._epoch, self.own_id)
            self._place = living, sum(rank_of(self._epoch, peer) < own for peer in living)
        return self._place[1]

    def propose(self, popularity: FloatArray) -> IndexArray:
        """This peer's list, which it has then heard as well."""
        self.has_proposed = True
        items = select(popularity, self.count)
        self.hear(self.own_id, items)
        return items

    def agreed(self, popularity: Callable[[], FloatArray]) -> IndexArray | None:
        """The list to adopt, by this peer's copy of the popularity; None before a plausible one was heard.

        popularity: gives always the same, so the lists are judged once.
        """
        if not self._is_judged:
            own = popularity()
            plausible = [peer for peer, items in self._proposed.items() if is_plausible(items, own, self.count)]
            first = proposer(self._epoch, plausible)
            self._agreed, self._is_judged = (None if first is None else self._proposed[first]), True
        return self._agreed
