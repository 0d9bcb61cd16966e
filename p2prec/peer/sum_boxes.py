"""Contributions that are left with guardians before anybody may see them: sealed, and opened by a quorum of mask partners if
their owner dies just then.

Without this, a peer that dies between telling its partners of its masks and showing its value would take along what cancels
theirs, since nobody could prove that nobody has seen it.
"""

from __future__ import annotations

from p2prec.peer.escrow_box import unseal_contribution
from p2prec.peer.inheritance import MAX_DEPOSITS
from p2prec.peer.private_sum import Share
from p2prec.peer.sum_messages import Opened, Proof, Sealed
from p2prec.peer.sum_roster import Roster
from p2prec.privacy.escrow import join
from p2prec.types import PeerId


class Boxes:
    """What one peer holds of others', as a guardian and as a mask partner."""

    def __init__(self, roster: Roster, count: int) -> None:
        """count: values of a contribution."""
        self._roster, self._count = roster, count
        self._boxes: dict[PeerId, Sealed] = {}
        self._shares: dict[PeerId, dict[int, bytes]] = {}
        """By owner of a box that this peer holds: what has been given back of its key."""

    def keep(self, owner: PeerId, sealed: Sealed) -> None:
        """Be a participant's guardian."""
        if owner in self._roster and len(self._boxes) < MAX_DEPOSITS:
            self._boxes.setdefault(owner, sealed)

    def drop(self, owner: PeerId) -> None:
        """It is known in clear now."""
        self._boxes.pop(owner, None)

    def help_to_open(self, owner: PeerId) -> Opened | None:
        """This peer's share of the key to a dead peer's box; None without one. The caller knows that it may be given away."""
        held = self._roster.escrowed.get(owner, {}).get(owner)
        return None if held is None else Opened(owner, *held)

    def on_opened(self, sender: PeerId, message: Opened, proof: Proof) -> Share | None:
        """Collect shares of the key to a box of this peer's; the contribution, once there are enough."""
        box = self._boxes.get(message.owner)
        if box is None or not self._roster.are_partners(sender, message.owner) or not proof():
            return None
        shares = self._shares.setdefault(message.owner, {})
        shares.setdefault(message.number, message.share)
        if len(shares) < box.threshold:
            return None
        self.drop(message.owner)
        try:
            return unseal_contribution(join(shares), message.owner, box.box, self._count)
        except ValueError:
            return None
