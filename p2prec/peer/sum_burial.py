"""What becomes of what the dead held in a private sum: who could restore it says so, all wait a notice, the best claim inherits.

Where nobody has a claim, a quorum of the dead peer's mask partners opens what it had sealed for its guardians. An heir may be
dead as well: what it had shown to nobody after it inherited is decided once more. And this peer may be the one that others hold
for dead.
"""

from __future__ import annotations

import math

import numpy as np

from p2prec.peer.hearsay import Hearsay
from p2prec.peer.inheritance import Claim
from p2prec.peer.private_sum import COPIES, PrivateSum, is_acceptable
from p2prec.peer.sum_absence import Absence
from p2prec.peer.sum_boxes import Boxes
from p2prec.peer.sum_changes import Changes
from p2prec.peer.sum_claims import Claims
from p2prec.peer.sum_entry import Entry
from p2prec.peer.sum_exchange import SumExchanger
from p2prec.peer.sum_messages import Claimed, Inherited, Opened, Outgoing, Proof, Witnessed, proven
from p2prec.peer.sum_roster import Roster
from p2prec.peer.sum_take_out import TakingOut
from p2prec.peer.sum_times import Timetable
from p2prec.privacy.plan import COLLUDING
from p2prec.types import FloatArray, PeerId

_AS_SEALED = 1
"""Changes of a contribution that nothing has been taken out of."""


class Burials:
    """One peer's part in it."""

    def __init__(
        self,
        dead: set[PeerId],
        times: Timetable,
        value: PrivateSum,
        exchanger: SumExchanger,
        roster: Roster,
        entry: Entry,
        boxes: Boxes,
        absence: Absence,
        taking_out: TakingOut,
        changes: Changes,
        rng: np.random.Generator,
    ) -> None:
        """dead: those whom the swarm has declared so; the caller adds to it. rng: chooses who is told of a neighbour."""
        self.declared_dead = False
        """Whether others hold this peer for dead: it has nothing any more, and nobody listens to it."""
        self.handed_over: set[PeerId] = set()
        """Who has left, and given everything to a neighbour."""
        self._dead, self._times, self._rng = dead, times, rng
        self._value, self._exchanger, self._roster = value, exchanger, roster
        self._entry, self._boxes, self._absence = entry, boxes, absence
        self._taking_out, self._changes = taking_out, changes
        self._claims = Claims(dead)
        self._claimed_by: set[PeerId] = set()
        """Who says that this peer is dead. A few may be mistaken, or lie."""
        self._decide_at: dict[PeerId, float] = {}
        self._heirs: dict[PeerId, PeerId] = {}
        """By dead peer: whose claim was the best."""
        self._inherited: Hearsay[PeerId, int] = Hearsay()
        """Of each of the dead: who says that it has inherited, and its changes from which on that is in its value."""
        self._stale_until = -math.inf
        """What is claimed before this was said before the end, of states that are known no longer when all mix again."""
        self._told_of: dict[PeerId, int] = {}
        """By peer: the changes of its state of which this one has told a neighbour."""

    @property
    def due(self) -> float:
        """When to `decide` next."""
        return min(self._decide_at.values()) if self._decide_at else math.inf

    @property
    def known_to_all(self) -> frozenset[PeerId]:
        """The dead of whom everybody has heard that somebody can restore them."""
        return frozenset(self._claims.about | self._absence.restored.keys())

    # --- before it is clear that somebody is dead ---

    def link_lost(self, peer: PeerId, neighbours: list[PeerId]) -> Outgoing:
        """The link to a neighbour has ended, so perhaps it is dead. Others are to know of it what this peer knows, which may die
        as well before everybody has heard.
        """
        known = self._value.pass_on(peer) if peer not in self._dead else None
        others = [other for other in neighbours if other != peer]
        # Once for each state: a link that comes and goes must not cost more.
        if known is None or not others or self._told_of.get(peer) == known[1].trace.changes:
            return []
        self._told_of[peer] = known[1].trace.changes
        keepers = self._rng.permutation(len(others))[:COPIES].tolist()
        return [(others[index], Witnessed(peer, *known)) for index in keepers]

    def on_witnessed(self, sender: PeerId, message: Witnessed) -> None:
        """A neighbour leaves what it knows of a peer whose link is gone."""
        share, previous = message.share, message.share.trace.previous
        is_known = message.peer in self._roster and message.peer not in (self._value.own_id, sender)
        if is_known and previous in (None, sender) and is_acceptable(share, self._value.count):
            self._value.keep_passed_on(message.peer, message.direct, share)

    # --- claims ---

    def announce(self, dead: PeerId, now: float) -> Outgoing:
        """Say what this peer could restore of a dead one, and decide once everybody has."""
        self._decide_at[dead] = self._times.noticed(now)
        claim = self._value.claim(dead)
        if claim is None:
            return []
        claimed = Claimed(dead, claim.changes, claim.direct)
        is_news = self.is_news(self._value.own_id, claimed)
        self._claims.add(dead, claim, proven)
        return [(None, claimed)] if is_news else []

    def is_news(self, sender: PeerId, message: Claimed) -> bool:
        """Whether a claim has to be passed on (`Claims.is_news`)."""
        return self._claims.is_news(message.dead, Claim(message.changes, message.direct, sender))

    def on_claimed(self, sender: PeerId, message: Claimed, now: float, proof: Proof, *, may_decide: bool) -> Outgoing:
        """Somebody could restore a dead peer. may_decide: it is not too late to."""
        dead = message.dead
        if dead not in self._roster or sender not in self._roster:
            return []
        if dead == self._value.own_id:
            return self._on_own_death(sender, proof)
        if now < self._stale_until:
            return []
        self._claims.add(dead, Claim(message.changes, message.direct, sender), proof)
        if dead in self._dead and dead not in self._absence.restored and may_decide:
            # Nobody could restore it until somebody opened its box: decide once more.
            self._decide_at.setdefault(dead, self._times.noticed(now))
        return []

    def _on_own_death(self, sender: PeerId, proof: Proof) -> Outgoing:
        """Others have taken this peer for dead, and will take over: its own value must not count twice."""
        if not proof():
            return []
        self._claimed_by.add(sender)
        if len(self._claimed_by) <= COLLUDING or self.declared_dead:
            return []
        self.declared_dead = True
        return self._changes.when_free(self._withdraw)

    def _withdraw(self) -> Outgoing:
        self._entry.withdraw()
        return []

    # --- decisions ---

    def decide(self, now: float, *, absent_are_out: bool) -> Outgoing:
        """Bury those whose claims are all in. absent_are_out: whether masks with the absent are being taken out already."""
        out: Outgoing = []
        for dead in [peer for peer, at in self._decide_at.items() if now >= at]:
            del self._decide_at[dead]
            out += self._bury(dead, now, absent_are_out)
        return out

    def _bury(self, dead: PeerId, now: float, absent_are_out: bool) -> Outgoing:
        """The best claim inherits; what a dead heir had shown to nobody is open again."""
        best = self._claims.decide(dead, self._inherited_by(dead), verified=self._is_concerned(dead))
        known = best.changes if best is not None else 0
        self._exchanger.partner_died(dead, known)
        out: Outgoing = []
        if best is not None:
            self._absence.saw([dead])
            self._heirs.setdefault(dead, best.witness)
            if best.witness == self._value.own_id and dead not in self.handed_over:
                out += self._changes.when_free(lambda: self._inherit(dead))
            self._absence.restored[dead] = best.changes
            if best.changes == _AS_SEALED:
                out += self._mask_late(dead)
            if absent_are_out:
                out += self._taking_out.return_shares(dead)
        elif dead not in self.handed_over:
            out += self._open_box(dead)
        for peer in self._inherited_unseen(dead, known):
            self._heirs.pop(peer, None)
            out += self.announce(peer, now)
        # It may have been this one's part to take masks out for others.
        return out + self._taking_out.for_the_dead()

    def _is_concerned(self, dead: PeerId) -> bool:
        """Whether what becomes of a dead peer changes what this one does: it could restore it, has an open exchange or a mask
        with it, or what others had left may have died with it. All others only note what is said, and need not verify it.
        """
        return (
            self._claims.are_made_by(self._value.own_id, dead)
            or self._exchanger.partner == dead
            or dead in self._roster.partners
            or dead in self._heirs.values()
            or self._inherited.speaks(dead)
        )

    def _inherit(self, dead: PeerId) -> Outgoing:
        self._value.inherit(dead)
        self._inherited.hear(dead, self._value.own_id, self._value.changes)
        return [(None, Inherited(dead, self._value.changes))]

    def on_inherited(self, sender: PeerId, message: Inherited, proof: Proof) -> None:
        if message.dead in self._roster:
            self._inherited.hear(message.dead, sender, message.changes, proof)

    def _inherited_by(self, dead: PeerId) -> PeerId | None:
        """Who has inherited from a dead peer already; None: nobody who lives has said so."""
        return next((heir for heir, _ in self._inherited.on(dead) if heir not in self._dead), None)

    def _inherited_unseen(self, heir: PeerId, known: int) -> list[PeerId]:
        """From whom a dead heir had inherited, or was to, after the latest of its states that anybody has seen (known)."""
        said = {peer: self._inherited.of(peer, heir) for peer in self._inherited}
        unseen = [peer for peer, after in said.items() if after is not None and after > known]
        # Until an heir says that it has inherited, it has not: it may die first.
        silent = [peer for peer, whose in self._heirs.items() if whose == heir and said.get(peer) is None]
        return unseen + [peer for peer in silent if self._inherited_by(peer) is None]

    def _mask_late(self, dead: PeerId) -> Outgoing:
        """A dead peer is restored as its contribution was sealed: with a mask for this one, which perhaps has none for it."""
        late = self._entry.late_mask(dead)
        return [] if late is None else self._changes.when_free(lambda: self._correct(late))

    def _correct(self, values: FloatArray) -> Outgoing:
        self._value.correct(values)
        return []

    # --- boxes ---

    def _open_box(self, dead: PeerId) -> Outgoing:
        """Nobody can restore a dead peer. If it has masked with this one, and so has perhaps left a box: help to open it.

        Not if this peer has said that it never heard of that: then the masks may be taken out.
        """
        opened = self._boxes.help_to_open(dead)
        if opened is None or dead not in self._entry.have_masked or dead in self._absence.said_silent:
            return []
        return [] if self._absence.is_absent(dead) else [(None, opened)]

    def on_opened(self, sender: PeerId, message: Opened, now: float, proof: Proof) -> Outgoing:
        """With enough shares of the key to a dead peer's box this one can restore it."""
        share = self._boxes.on_opened(sender, message, proof) if message.owner in self._dead else None
        if share is None:
            return []
        self._value.keep_deposit(message.owner, share)
        return self.announce(message.owner, now)

    # --- the end ---

    def end(self, stale_until: float = math.inf) -> None:
        """Whatever was not restored until now never will be, unless everybody mixes again. stale_until: later claims are of those
        whose clocks are ahead, and who mix again already.
        """
        self._decide_at.clear()
        self._claims.clear()
        self._stale_until = stale_until

    def restart(self, now: float) -> Outgoing:
        """Everybody mixes again what was contributed, so all who are gone have to be restored again."""
        gone = sorted(self._dead | self.handed_over)
        self.handed_over.clear()
        self._heirs.clear()
        self._inherited = Hearsay()
        self._stale_until = -math.inf
        return [message for peer in gone for message in self.announce(peer, now)]
