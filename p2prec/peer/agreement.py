"""Which items are counted in pairs: one list for all, proposed by a peer that nobody chose, and checked before it is adopted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from p2prec.model.pairs import select
from p2prec.types import FloatArray, IndexArray, PeerId

AGREEMENT = 0.9
"""So much of a proposed list has to be among one's own first WITHIN times as many items."""
WITHIN = 2


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
