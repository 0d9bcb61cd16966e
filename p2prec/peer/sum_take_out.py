"""Taking masks with those who never contributed out of the sum: one's own, and those of the dead as far as that is one's part.

Who is absent, and whose part it is, says `p2prec.peer.sum_absence`.
"""

from __future__ import annotations

import functools

from p2prec.peer.private_sum import PrivateSum
from p2prec.peer.sum_absence import Absence
from p2prec.peer.sum_changes import Changes
from p2prec.peer.sum_entry import Entry
from p2prec.peer.sum_messages import Outgoing, TakenOut
from p2prec.privacy.masks import mask
from p2prec.types import FloatArray, PeerId


class TakingOut:
    """One peer's."""

    def __init__(self, value: PrivateSum, entry: Entry, absence: Absence, changes: Changes) -> None:
        self._value, self._entry, self._absence, self._changes = value, entry, absence, changes

    def all(self) -> Outgoing:
        """Take out what can be by now, and give others what they need to do the same for the dead."""
        absent = [peer for peer in self._entry.keys if self._absence.is_absent(peer)]
        out = self._changes.when_free(lambda: self._own(absent)) if absent else []
        for owner in list(self._absence.restored):
            out += self.return_shares(owner)
        return out + self.for_the_dead()

    def with_withdrawn(self, partner: PeerId) -> Outgoing:
        """Take the own mask with a partner out before anybody sees the value."""
        return self._own([partner])

    def return_shares(self, owner: PeerId) -> Outgoing:
        """Tell everybody what this peer holds of a dead one's keys, where the masks are with absent peers."""
        returned = self._absence.to_return(owner)
        for one in returned:
            self._absence.on_returned(self._value.own_id, one)
        return [(None, one) for one in returned]

    def for_the_dead(self) -> Outgoing:
        """Take out masks of dead peers with absent ones, as far as that is this peer's part and their keys are known."""
        out: Outgoing = []
        for owner, absent, key in self._absence.to_take_out():
            correction = -mask(key, owner, absent, self._value.count, self._value.plan.mask_std)
            out += self._changes.when_free(functools.partial(self._correct, owner, absent, correction))
        return out

    def _own(self, absent: list[PeerId]) -> Outgoing:
        still_in = [peer for peer in absent if peer in self._entry.keys]
        self._entry.remove_masks(still_in)
        return [self._taken_out(self._value.own_id, peer) for peer in still_in]

    def _correct(self, owner: PeerId, absent: PeerId, correction: FloatArray) -> Outgoing:
        self._value.correct(correction)
        return [self._taken_out(owner, absent)]

    def _taken_out(self, owner: PeerId, absent: PeerId) -> tuple[None, TakenOut]:
        message = TakenOut(owner, absent, self._value.changes)
        self._absence.took_out(self._value.own_id, message)
        return None, message
