"""What others say about whom they could restore: one peer's view, in one private sum."""

from __future__ import annotations

from collections.abc import Set

from p2prec.peer.inheritance import Claim, heir
from p2prec.peer.sum_messages import Proof
from p2prec.privacy.plan import COLLUDING
from p2prec.types import PeerId

CLAIMS_HEARD = COLLUDING + 1
"""Of all that are made for a dead peer, so many reach everybody."""


class Claims:
    """All that were heard and not yet decided."""

    def __init__(self, dead: Set[PeerId]) -> None:
        """dead: those whom the swarm has declared so, whose claims count for nothing; the caller adds to it."""
        self._dead = dead
        self._made: dict[PeerId, dict[Claim, Proof]] = {}

    @property
    def about(self) -> Set[PeerId]:
        """Whom somebody could restore."""
        return self._made.keys()

    def add(self, dead: PeerId, claim: Claim, proof: Proof) -> None:
        """Somebody says so. Of a witness that says more than one thing all is kept, since some may be forged."""
        self._made.setdefault(dead, {})[claim] = proof

    def is_news(self, dead: PeerId, claim: Claim) -> bool:
        """Whether a claim has to be passed on: while fewer than CLAIMS_HEARD are known that are better. So the best ones reach
        everybody, whatever their order: the heir, those who inherit should it die as well, and more than may collude, by whom a
        peer believes that it is held for dead.
        """
        better = {one.witness for one in self._made.get(dead, {}) if one > claim}
        return len(better - self._dead) < CLAIMS_HEARD

    def are_made_by(self, witness: PeerId, dead: PeerId) -> bool:
        """Whether a witness says that it could restore a dead peer."""
        return any(claim.witness == witness for claim in self._made.get(dead, ()))

    def decide(self, dead: PeerId, inherited_by: PeerId | None = None, *, verified: bool = True) -> Claim | None:
        """The best claim of those who live and, if it is to be verified, have really made it; or the one by which somebody has
        inherited already: in haste, or this peer is late, but nobody is to be restored twice. None without any. What was said
        is forgotten.
        """
        made = {claim: proof for claim, proof in self._made.pop(dead, {}).items() if claim.witness not in self._dead}
        made = {claim: proof for claim, proof in made.items() if claim.witness == inherited_by} or made
        best = heir(made)
        while verified and best is not None and not made.pop(best)():
            best = heir(made)
        return best

    def clear(self) -> None:
        self._made.clear()
