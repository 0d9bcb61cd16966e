"""Partners that never contributed: how it is established that nobody has seen their value, and who takes out which masks with
them.

Nothing here trusts a single peer: a peer is absent if a quorum of its mask partners (`Roster.quorum`) say that it never told
them of its masks. An honest peer tells all its partners, and waits for all that live, before it shows anything.
"""

from __future__ import annotations

import contextlib
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
        self._withdrawn: set[PeerId] = set()
        self._seen: set[PeerId] = {own_id}
        self._silent: dict[PeerId, set[PeerId]] = {}
        """By peer: which of its partners say that it never said `Masked`."""
        self._taken_out: dict[tuple[PeerId, PeerId], int] = {}
        """By peer and absent partner: the peer's changes from which on that mask is out of its value."""
        self._returned: dict[tuple[PeerId, PeerId], dict[int, bytes]] = {}
        """By dead owner of a mask and absent partner: shares of its key."""
        self._corrected: dict[tuple[PeerId, PeerId], tuple[PeerId, int]] = {}
        """By the same: who has taken the mask out for the owner, and that peer's changes from which on it has."""

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

    def withdrew(self, peer: PeerId) -> None:
        """It says that it has shown its value to nobody. Whom it deceives otherwise is itself."""
        self._withdrawn.add(peer)

    def is_absent(self, peer: PeerId) -> bool:
        """Whether a peer has certainly shown its value to nobody, nor ever will.

        Only then may its masks be taken out. Otherwise somebody may have seen its value, and would see through it.
        """
        if peer in self._withdrawn:
            return True
        if peer in self._seen or peer not in self._dead:
            return False
        return len(self._silent.get(peer, ())) >= self._roster.quorum(peer)

    def took_out(self, peer: PeerId, owner: PeerId, absent: PeerId, changes: int) -> None:
        """A peer's value is without an owner's mask with an absent one, from so many of that peer's changes on. owner: the peer
        itself, or a dead one for which it has taken the mask out.
        """
        if not self._roster.are_partners(owner, absent):
            return
        if peer == owner:
            self._taken_out[owner, absent] = changes
        else:
            self._corrected[owner, absent] = peer, changes

    def to_return(self, owner: PeerId) -> list[Returned]:
        """What this peer holds of a dead one's mask keys, where the masks are with absent peers, and are in the state of it that
        was restored.
        """
        state = self.restored[owner]
        return [
            Returned(owner, other, number, share)
            for other, (number, share) in self._roster.escrowed.get(owner, {}).items()
            if other != owner and state < self._taken_out.get((owner, other), _NEVER) and self.is_absent(other)
        ]

    def on_returned(self, message: Returned) -> None:
        """Collect shares of a dead peer's mask key."""
        if self._roster.are_partners(message.owner, message.absent):
            shares = self._returned.setdefault((message.owner, message.absent), {})
            shares.setdefault(message.number, message.share)

    def to_take_out(self) -> list[tuple[PeerId, PeerId, bytes]]:
        """Masks of the dead with absent peers that this peer is to take out now (owner, absent, key): it is the living partner of
        the absent one with the smallest id, and nobody has done so who is alive, or was restored in a state after that.
        """
        found = []
        for (owner, absent), shares in self._returned.items():
            ready = owner in self._dead and len(shares) >= THRESHOLD and self.is_absent(absent)
            if ready and not self._is_corrected(owner, absent) and self._first_partner(absent) == self.own_id:
                with contextlib.suppress(ValueError):
                    found.append((owner, absent, join(shares)))
        for owner, absent, _ in found:
            self._corrected[owner, absent] = self.own_id, 0
        return found

    def _first_partner(self, absent: PeerId) -> PeerId | None:
        return next((peer for peer in self._roster.partners_of(absent) if peer not in self._dead), None)

    def _is_corrected(self, owner: PeerId, absent: PeerId) -> bool:
        """Whether somebody has taken a dead owner's mask out, and it has not come back since."""
        if (owner, absent) not in self._corrected:
            return False
        peer, changes = self._corrected[owner, absent]
        # Of the dead it is not known before they are restored.
        return peer not in self._dead or self.restored.get(peer, _NEVER) >= changes
