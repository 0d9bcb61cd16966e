"""Partners that never contributed: how it is established that nobody has seen their value, and who takes out which masks with
them.

Nothing here trusts a single peer: a peer is absent if a quorum of its mask partners (`Roster.quorum`) say that it never told
them of its masks. An honest peer tells all its partners, and waits for all that live, before it shows anything.
"""

from __future__ import annotations

from collections.abc import Collection, Set

from p2prec.peer.sum_messages import MAX_SEEN, Returned, Seen
from p2prec.peer.sum_roster import Roster
from p2prec.privacy.escrow import THRESHOLD, join
from p2prec.types import PeerId

_NEVER = 1 << 31


class Absence:
    """One peer's view of it."""

    def __init__(self, own_id: PeerId, roster: Roster, dead: Set[PeerId]) -> None:
        """dead: those whom the swarm has declared so; the caller adds to it."""
        self.own_id = own_id
        self.said_silent: frozenset[PeerId] = frozenset()
        """Partners that this peer has said it never heard `Masked` from."""
        self.restored: dict[PeerId, int] = {}
        """Of each dead peer that was restored: its changes in the state that was."""
        self._roster, self._dead = roster, dead
        self._seen: set[PeerId] = {own_id}
        self._silent: dict[PeerId, set[PeerId]] = {}
        """By peer: which of its partners say that it never said `Masked`."""
        self._taken_out: dict[tuple[PeerId, PeerId], int] = {}
        """By peer and absent partner: the peer's changes from which on that mask is out of its value."""
        self._returned: dict[tuple[PeerId, PeerId], dict[int, bytes]] = {}
        self._put_together: set[tuple[PeerId, PeerId]] = set()

    def saw(self, peers: Collection[PeerId]) -> None:
        """These have certainly contributed."""
        self._seen |= {peer for peer in peers if peer in self._roster}

    def report(self, silent: frozenset[PeerId], known_to_all: Set[PeerId]) -> Seen | None:
        """What to tell everybody at the recovery deadline, if anything. silent: partners that never said `Masked`; known_to_all:
        the dead of whom everybody has heard that somebody can restore them.
        """
        self.said_silent = silent
        self._note(self.own_id, silent)
        news = frozenset(sorted((self._seen & self._dead) - known_to_all)[:MAX_SEEN])
        return Seen(news, silent) if news or silent else None

    def on_seen(self, sender: PeerId, message: Seen) -> None:
        self.saw(message.peers)
        self._note(sender, message.silent)

    def _note(self, partner: PeerId, silent: frozenset[PeerId]) -> None:
        for peer in silent:
            if self._roster.are_partners(peer, partner):
                self._silent.setdefault(peer, set()).add(partner)

    def is_absent(self, peer: PeerId) -> bool:
        """Whether a peer has certainly shown its value to nobody, nor ever will.

        Only then may its masks be taken out. Otherwise somebody may have seen its value, and would see through it.
        """
        if peer in self._seen or peer not in self._dead:
            return False
        return len(self._silent.get(peer, ())) >= self._roster.quorum(peer)

    def took_out(self, peer: PeerId, absent: PeerId, changes: int) -> None:
        """A peer's value is without its mask with an absent one, from so many of its changes on."""
        if self._roster.are_partners(peer, absent):
            self._taken_out[peer, absent] = changes

    def to_return(self, owner: PeerId) -> list[Returned]:
        """What this peer holds of a dead one's mask keys, where the masks are with absent peers, and are in the state of it that
        was restored.
        """
        state = self.restored[owner]
        return [
            Returned(owner, other, number, share)
            for (whose, other), (number, share) in self._roster.escrowed.items()
            if whose == owner != other and state < self._taken_out.get((owner, other), _NEVER) and self.is_absent(other)
        ]

    def on_returned(self, message: Returned) -> bytes | None:
        """Put a dead peer's mask key together. Returns it once, to the peer that is to take the mask out: the living partner of
        the absent one with the smallest id.
        """
        mask = (message.owner, message.absent)
        if not self._roster.are_partners(*mask) or message.owner not in self._dead or mask in self._put_together:
            return None
        shares = self._returned.setdefault(mask, {})
        shares.setdefault(message.number, message.share)
        living = [peer for peer in self._roster.partners_of(message.absent) if peer not in self._dead]
        if len(shares) < THRESHOLD or living[:1] != [self.own_id] or not self.is_absent(message.absent):
            return None
        self._put_together.add(mask)
        try:
            return join(shares)
        except ValueError:
            return None
