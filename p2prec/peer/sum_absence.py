"""Partners that never contributed: how it is established that nobody has seen their value, and who takes out which masks with
them.

Nothing here trusts a single peer: a peer is absent if a quorum of its mask partners (`Roster.quorum`) say that it never told
them of its masks. An honest peer tells all its partners, and waits for all that live, before it shows anything. What is said
is verified when it matters (`p2prec.peer.hearsay`).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Collection, Set

from p2prec.peer.hearsay import Hearsay
from p2prec.peer.sum_messages import MAX_SEEN, Proof, Returned, Seen, TakenOut, proven
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
        self.withdrawn: set[PeerId] = set()
        """Who says that it has nothing in the sum."""
        self._roster, self._dead = roster, dead
        self._seen: set[PeerId] = {own_id}
        self._silent: Hearsay[PeerId, None] = Hearsay()
        """About a peer, by its partners: that it never said `Masked`."""
        self._taken_out: Hearsay[tuple[PeerId, PeerId], int] = Hearsay()
        """About the owner of a mask and its absent partner: the speaker's changes from which on that mask is out of its value.
        The speaker is the owner itself, or has taken the mask out for it.
        """
        self._returned: Hearsay[tuple[PeerId, PeerId], tuple[int, bytes]] = Hearsay()
        """About the dead owner of a mask and its absent partner, by the owner's other partners: number and share of its key."""

    def saw(self, peers: Collection[PeerId]) -> None:
        """These have certainly contributed."""
        self._seen |= {peer for peer in peers if peer in self._roster}

    def report(self, silent: frozenset[PeerId], known_to_all: Set[PeerId]) -> Seen | None:
        """What to tell everybody at the recovery deadline, if anything. silent: partners that never said `Masked`; known_to_all:
        the dead of whom everybody has heard that somebody can restore them.
        """
        self.said_silent = silent
        self._note(self.own_id, silent, proven)
        news = frozenset(sorted((self._seen & self._dead) - known_to_all)[:MAX_SEEN])
        return Seen(news, silent) if news or silent else None

    def on_seen(self, sender: PeerId, message: Seen, proof: Proof) -> None:
        if message.peers and proof():  # seldom
            self.saw(message.peers)
        self._note(sender, message.silent, proof)

    def _note(self, partner: PeerId, silent: frozenset[PeerId], proof: Proof) -> None:
        for peer in silent:
            if self._roster.are_partners(peer, partner):
                self._silent.hear(peer, partner, None, proof)

    def withdrew(self, peer: PeerId) -> None:
        """It says that it has shown its value to nobody. Whom it deceives otherwise is itself."""
        self.withdrawn.add(peer)

    def is_absent(self, peer: PeerId) -> bool:
        """Whether a peer has certainly shown its value to nobody, nor ever will.

        Only then may its masks be taken out. Otherwise somebody may have seen its value, and would see through it.
        """
        if peer in self.withdrawn:
            return True
        if peer in self._seen or peer not in self._dead:
            return False
        heard = self._silent.n_heard(peer)
        if heard == 0:  # to know the quorum takes a hash for each participant
            return False
        quorum = self._roster.quorum(peer)
        if heard < quorum:
            return False
        return sum(1 for _ in itertools.islice(self._silent.on(peer), quorum)) == quorum

    def took_out(self, peer: PeerId, message: TakenOut, proof: Proof = proven) -> None:
        """A peer's value is without an owner's mask with an absent one. The owner is the peer itself, or a dead one for which it
        has taken the mask out.
        """
        is_own_matter = message.owner in self._roster.partners or message.absent in self._roster.partners
        if is_own_matter and self._roster.are_partners(message.owner, message.absent):
            self._taken_out.hear((message.owner, message.absent), peer, message.changes, proof)

    def to_return(self, owner: PeerId) -> list[Returned]:
        """What this peer holds of a dead one's mask keys, where the masks are with absent peers, and are in the state of it that
        was restored. Who has withdrawn has no masks in any state.
        """
        if owner in self.withdrawn:
            return []
        state = self.restored[owner]
        return [
            Returned(owner, other, number, share)
            for other, (number, share) in self._roster.escrowed.get(owner, {}).items()
            if other != owner and state < self._out_from(owner, other) and self.is_absent(other)
        ]

    def _out_from(self, owner: PeerId, absent: PeerId) -> int:
        """The owner's changes from which on its mask with an absent one is out of its value, by its own word."""
        changes = self._taken_out.of((owner, absent), owner)
        return _NEVER if changes is None else changes

    def on_returned(self, sender: PeerId, message: Returned, proof: Proof = proven) -> None:
        """Collect shares of a dead peer's mask key."""
        owner, absent = message.owner, message.absent
        if absent not in self._roster.partners:
            return  # others take that mask out
        if self._roster.are_partners(owner, absent) and self._roster.are_partners(owner, sender):
            self._returned.hear((owner, absent), sender, (message.number, message.share), proof)

    def to_take_out(self) -> list[tuple[PeerId, PeerId, bytes]]:
        """Masks of the dead with absent peers that this peer is to take out now (owner, absent, key): it is the living partner of
        the absent one with the smallest id, and nobody has done so who is alive, or was restored in a state after that.
        """
        found = []
        for owner, absent in self._returned:
            may_be_in = owner in self._dead and owner not in self.withdrawn
            # Most peers only hear of this, and verify none of it.
            if not may_be_in or not self._is_first_partner(absent):
                continue
            if self._returned.n_heard((owner, absent)) < THRESHOLD or not self.is_absent(absent):
                continue
            shares = dict(share for _, share in self._returned.on((owner, absent)))
            if len(shares) >= THRESHOLD and not self._is_corrected(owner, absent):
                with contextlib.suppress(ValueError):
                    found.append((owner, absent, join(shares)))
        for owner, absent, _ in found:
            self._taken_out.hear((owner, absent), self.own_id, 0)
        return found

    def _is_first_partner(self, absent: PeerId) -> bool:
        """Whether this peer is the absent one's partner with the smallest id, of those who live."""
        if not self._roster.are_partners(self.own_id, absent):
            return False
        return next((peer for peer in self._roster.partners_of(absent) if peer not in self._dead), None) == self.own_id

    def _is_corrected(self, owner: PeerId, absent: PeerId) -> bool:
        """Whether somebody has taken a dead owner's mask out, and it has not come back since."""
        return any(
            # Of the dead it is not known before they are restored.
            peer not in self._dead or self.restored.get(peer, _NEVER) >= changes
            for peer, changes in self._taken_out.on((owner, absent))
            if peer != owner
        )
