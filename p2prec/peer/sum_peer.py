"""One peer in one private sum, from enrolment to result (protocols/privacy-v3.md). Without sockets, clock or global randomness.

The driver calls `tick` at `next_deadline`, `receive` for every message, `peer_died` when the swarm has declared a peer dead
(all living peers within `Timetable.notice_s`), and sends what it gets back. Messages between living peers arrive, in order;
whoever breaks that is declared dead.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from p2prec.peer.inheritance import Claim
from p2prec.peer.private_sum import COPIES, PrivateSum, is_acceptable
from p2prec.peer.sum_absence import Absence
from p2prec.peer.sum_boxes import Boxes
from p2prec.peer.sum_claims import Claims
from p2prec.peer.sum_entry import Entry
from p2prec.peer.sum_exchange import SumExchanger
from p2prec.peer.sum_messages import (
    Claimed,
    Contributes,
    Deposit,
    Enrol,
    Gone,
    HandedOver,
    HandOver,
    Inherited,
    Masked,
    MaskNoted,
    NotMasked,
    Opened,
    Outgoing,
    Pair,
    Proof,
    Returned,
    Sealed,
    Seen,
    SumAnswer,
    SumCommit,
    SumDecline,
    SumMessage,
    SumOffer,
    SumResolution,
    SumResolve,
    TakenOut,
    Voided,
    Withdrawn,
    Witnessed,
    proven,
)
from p2prec.peer.sum_roster import Roster
from p2prec.peer.sum_times import Timetable
from p2prec.privacy.masks import mask
from p2prec.privacy.plan import COLLUDING, SumPlan
from p2prec.privacy.stream import NoiseStream
from p2prec.types import FloatArray, PeerId, SwarmId

_PAIRING, _TAKEN_OUT, _ENDED, _DECIDED, _OVER = 2, 4, 5, 6, 7
"""Phases: enrol, pair, contribute, recover, take out, end, decide whether to mix again, end that."""
_RETRY = 0.1
"""Of an exchange's interval, up to twice as much: after a neighbour was busy. Everybody begins at the same moment; if all tried
again at the same moments too, all would be busy for good."""
_NOT_YET = 1 << 31
_AS_SEALED = 1
"""Changes of a contribution that nothing has been taken out of."""


class SumPeer:
    """Made for one sum; `value.mean()` is the result once `is_over`."""

    def __init__(
        self,
        own_id: PeerId,
        swarm_id: SwarmId,
        epoch: int,
        plan: SumPlan,
        n_people: int,
        count: int,
        statistic: Callable[[], FloatArray],
        record: Callable[[], None],
        times: Timetable,
        rng: np.random.Generator,
        noise: Callable[[], NoiseStream] = NoiseStream.private,
        objection: Callable[[], str] = lambda: "",
        is_void: Callable[[FloatArray], bool] = lambda mean: False,
    ) -> None:
        """statistic: asked once, when contributing; record: writes the ledger row, durably; it raises StoreError, and then
        nothing is contributed. rng: chooses neighbours and numbers exchanges, nothing secret. objection: why this peer is not to
        contribute, in words, asked before all else. is_void: whether a mean has too much noise.
        """
        self.own_id, self.times = own_id, times
        self.value = PrivateSum(own_id, count, plan)
        self.exchanger = SumExchanger(self.value)
        self.roster = Roster(own_id, swarm_id, epoch, n_people)
        self._entry = Entry(
            self.value,
            self.roster,
            times,
            n_people,
            statistic=statistic,
            record=record,
            noise=noise,
            objection=objection,
            rng=rng,
        )
        self.declared_dead = False
        """Whether others hold this peer for dead: it has nothing any more, and nobody listens to it."""
        self.mixed_again = False
        """Whether the sum was void at first."""
        self._plan, self._rng, self._is_void = plan, rng, is_void
        self._votes: set[PeerId] = set()
        """Who says that the sum is void."""
        self._phase = 0
        self._dead: set[PeerId] = set()
        self._claims = Claims(self._dead)
        self._claimed_by: set[PeerId] = set()
        """Who says that this peer is dead. A few may be mistaken, or lie."""
        self._decide_at: dict[PeerId, float] = {}
        self._inherited: dict[PeerId, tuple[PeerId, int]] = {}
        self._handed_over: set[PeerId] = set()
        self._passed_on: dict[PeerId, int] = {}
        """By peer: the changes of its state of which this one has told others."""
        self._postponed: list[Callable[[], Outgoing]] = []
        self._next_exchange = times.start + times.contribute_s
        self._pair_again_at = times.start + (times.enrol_s + times.contribute_s) / 2
        self._paired_again: set[PeerId] = set()
        """Who has said `Pair` twice, and was answered."""
        self._boxes = Boxes(self.roster, count)
        self._absence = Absence(own_id, self.roster, self._dead)
        self._leaving = False

    @property
    def masked_with(self) -> frozenset[PeerId]:
        """Partners whose masks are in this peer's value."""
        return frozenset(self._entry.keys)

    @property
    def sat_out(self) -> str:
        """Why this peer did not contribute, in words; "" if it did, or may yet."""
        return self._entry.sat_out

    @property
    def contributors(self) -> frozenset[PeerId]:
        """Who has contributed, as far as this peer knows."""
        return frozenset(self._entry.contributors)

    @property
    def dead(self) -> frozenset[PeerId]:
        """Whom the swarm has declared dead in this sum."""
        return frozenset(self._dead)

    def is_dead(self, peer: PeerId) -> bool:
        """Whether the swarm has declared a peer dead in this sum."""
        return peer in self._dead

    @property
    def is_over(self) -> bool:
        """Whether the result is there, if there is one."""
        return self._phase > (_OVER if self.mixed_again else _DECIDED)

    # --- time ---

    @property
    def next_deadline(self) -> float:
        """When to call `tick` next, at the latest."""
        phases = [self.times.start + at for at in self.times.phases[self._phase : self._phase + 1]]
        return min([*phases, self._entry.due, *self._decide_at.values(), self._next_exchange, self._pair_again_at])

    def tick(self, now: float, neighbours: list[PeerId]) -> Outgoing:
        """Do what is due. neighbours: who can be reached now."""
        out: Outgoing = []
        steps = (
            self._enrol,
            self._pair,
            lambda: self._entry.contribute(now, self._dead),
            self._recover,
            self._take_out,
        )
        ends = (self._end, lambda: self._decide(now), self._end_again)
        while self._phase <= _OVER and now >= self.times.start + self.times.phases[self._phase]:
            self._phase += 1
            out += (*steps, *ends)[self._phase - 1]()
        if now >= self._pair_again_at:
            self._pair_again_at = float("inf")
            out += self._pair_again() if self._phase == _PAIRING else []
        for dead in [peer for peer, at in self._decide_at.items() if now >= at]:
            del self._decide_at[dead]
            out += self._bury(dead, now)
        out += self._entry.tick(now, neighbours)
        self.exchanger.give_up(now, self.times.answer_s)
        question = self.exchanger.question()
        if now >= self._next_exchange:
            self._next_exchange = now + self.times.exchange_s
            if question is not None:
                out.append(question)
            elif self._may_exchange(now) and neighbours:
                out.append(self._offer(neighbours, now))
        return out + self._catch_up()

    def _may_exchange(self, now: float) -> bool:
        return self._mixing(now) and self.exchanger.is_free and not self._postponed and not self._leaving

    def _offer(self, neighbours: list[PeerId], now: float) -> tuple[PeerId, SumMessage]:
        partner = neighbours[int(self._rng.integers(len(neighbours)))]
        return partner, self.exchanger.offer(partner, self._rng.bytes(16), now)

    # --- the phases ---

    def _enrol(self) -> Outgoing:
        return [(None, self.roster.enrol())]

    def _pair(self) -> Outgoing:
        self.roster.prove_partners()
        return [(partner, Pair()) for partner in self.roster.partners]

    def _pair_again(self) -> Outgoing:
        """Some words are lost on their way, and a mask that one side alone has is lost with that side, if it dies before it hears
        so. Partners that have not been heard are told again; who hears it twice has not been heard itself.
        """
        return [(partner, Pair()) for partner in self.roster.partners if not self.roster.has_confirmed(partner)]

    def _on_pair(self, sender: PeerId, message: Pair) -> Outgoing:
        again = self.roster.has_confirmed(sender) and sender not in self._paired_again
        self.roster.on_pair(sender, message)
        if not again or self._phase < _PAIRING:
            return []
        self._paired_again.add(sender)
        return [(sender, Pair())]

    def _recover(self) -> Outgoing:
        if self._entry.is_stuck:
            # A partner that lives cannot be reached. Others can open what this peer has left sealed, as if it had died.
            self.declared_dead = True
            return [(None, Gone()), *self._withdraw()]
        self._absence.saw(self.value.met)
        report = self._absence.report(
            self._entry.asked - self._entry.have_masked, self._claims.about | self._absence.restored.keys()
        )
        return [] if report is None else [(None, report)]

    def _take_out(self) -> Outgoing:
        """Take out the masks with those who never contributed."""
        absent = [peer for peer in self._entry.keys if self._absence.is_absent(peer)]
        out = self._when_free(lambda: self._take_masks_out(absent)) if absent else []
        for owner in list(self._absence.restored):
            out += self._return_shares(owner)
        return out + self._take_out_for_the_dead()

    def _take_masks_out(self, absent: list[PeerId]) -> Outgoing:
        still_in = [peer for peer in absent if peer in self._entry.keys]
        self._entry.remove_masks(still_in)
        return [self._taken_out(self.own_id, peer) for peer in still_in]

    def _taken_out(self, owner: PeerId, absent: PeerId) -> tuple[None, TakenOut]:
        self._absence.took_out(self.own_id, owner, absent, self.value.changes)
        return None, TakenOut(owner, absent, self.value.changes)

    def _return_shares(self, owner: PeerId) -> Outgoing:
        returned = self._absence.to_return(owner)
        for one in returned:
            self._absence.on_returned(one)
        return [(None, one) for one in returned]

    def _take_out_for_the_dead(self) -> Outgoing:
        """Take out masks of dead peers with absent ones, as far as that is this peer's part."""
        out: Outgoing = []
        for owner, absent, key in self._absence.to_take_out():
            correction = -mask(key, owner, absent, self.value.count, self._plan.mask_std)
            out += self._when_free(functools.partial(self._correct_for, owner, absent, correction))
        return out

    def _correct_for(self, owner: PeerId, absent: PeerId, correction: FloatArray) -> Outgoing:
        self.value.correct(correction)
        return [self._taken_out(owner, absent)]

    def _correct(self, values: FloatArray) -> Outgoing:
        self.value.correct(values)
        return []

    def _end(self) -> Outgoing:
        """Stop mixing. Whatever was not restored until now never will be; a copy with too much noise is void."""
        self._next_exchange = float("inf")
        for waiting in (self._decide_at, self._claims, self._inherited):
            waiting.clear()
        self._postponed.clear()
        self._entry.close()
        if self._leaving or not self.value.weight > 0 or not self._is_void(self.value.mean()):
            return []
        self._votes.add(self.own_id)
        return [(None, Voided())]

    def _decide(self, now: float) -> Outgoing:
        """If most of the living hold a void copy, everybody mixes again what was contributed: it has all been shown before."""
        living = sum(peer not in self._dead for peer in self.roster)
        self.mixed_again = 2 * len(self._votes - self._dead) > living
        if not self.mixed_again:
            return []
        self.exchanger.abandon()
        self.value.restart()
        self._next_exchange = now
        gone = sorted(self._dead | self._handed_over)
        self._handed_over.clear()
        return [message for peer in gone for message in self._announce(peer, now)]

    def _end_again(self) -> Outgoing:
        self._next_exchange = float("inf")
        self._decide_at.clear()
        self._postponed.clear()
        return []

    # --- messages ---

    def receive(self, sender: PeerId, message: SumMessage, now: float, proof: Proof = proven) -> Outgoing:
        """Handle a message that the layers below have bounded and, unless it is one of UNPROVEN, verified. proof: verifies it."""
        if sender in self._dead:
            return []  # its value has another owner
        out = self._handle(sender, message, now, proof)
        return out + self._catch_up()

    def _handle(self, sender: PeerId, message: SumMessage, now: float, proof: Proof) -> Outgoing:
        match message:
            case Enrol():
                if self._phase <= 1:
                    self.roster.on_enrol(sender, message, proof)
            case Pair():
                if self._phase <= _PAIRING:
                    return self._on_pair(sender, message)
            case Contributes():
                if self.roster.is_word_of(sender, message.word):
                    self._entry.on_contributes(sender)
            case Masked():
                self.roster.on_escrow(sender, message.escrow)
                return self._entry.on_masked(sender)
            case MaskNoted():
                self._entry.on_noted(sender)
            case Sealed():
                self._boxes.keep(sender, message)
            case Opened():
                return self._on_opened(sender, message, now)
            case TakenOut():
                self._absence.took_out(sender, message.owner, message.absent, message.changes)
            case Deposit():
                if sender in self.roster and is_acceptable(message.share, self.value.count):
                    self.value.keep_deposit(sender, message.share)
                    self._boxes.drop(sender)
            case Witnessed():
                self._on_witnessed(sender, message)
            case NotMasked():
                self._entry.on_not_masked(sender)
            case Claimed():
                return self._on_claimed(sender, message, now, proof)
            case Inherited():
                if message.dead in self.roster:
                    self._inherited[message.dead] = (sender, message.changes)
            case HandOver():
                return self._when_free(lambda: self._take_hand_over(sender, message))
            case HandedOver():
                if message.peer in self.roster:
                    self._handed_over.add(message.peer)
            case Seen():
                self._absence.on_seen(sender, message)
            case Withdrawn():
                self._absence.withdrew(sender)
                return self._take_out() if self._phase > _TAKEN_OUT and not self._has_ended else []
            case Voided():
                if sender in self.roster:
                    self._votes.add(sender)
            case Returned():
                self._absence.on_returned(message)
                return [] if self._has_ended else self._take_out_for_the_dead()
            case _:
                return self._on_exchange(sender, message, now)
        return []

    def _on_exchange(self, sender: PeerId, message: SumMessage, now: float) -> Outgoing:
        match message:
            case SumOffer():
                known = sender in self.roster and is_acceptable(message.share, self.value.count)
                if not known or not self._mixing(now) or self._postponed or self._leaving:
                    return [(sender, SumDecline(message.exchange))]
                return [(sender, self.exchanger.on_offer(sender, message, now))]
            case SumAnswer():
                if is_acceptable(message.share, self.value.count):
                    commit = self.exchanger.on_answer(sender, message)
                    return [] if commit is None else [(sender, commit)]
            case SumCommit():
                self.exchanger.on_commit(sender, message.exchange)
            case SumResolution():
                self.exchanger.on_resolution(sender, message)
            case SumResolve():
                return [(sender, self.exchanger.on_resolve(message))]
            case SumDecline():
                self.exchanger.on_decline(sender, message)
                retry_s = _RETRY * (1 + float(self._rng.random())) * self.times.exchange_s
                self._next_exchange = min(self._next_exchange, now + retry_s)
            case _:
                pass
        return []

    @property
    def _has_ended(self) -> bool:
        """Whether what changes here now no longer reaches anybody else."""
        return self._phase > _ENDED and not self.mixed_again

    def _mixing(self, now: float) -> bool:
        """Whether this peer's contribution is in, and the sum not over."""
        begun = self._entry.is_done and not self.declared_dead
        end = self.times.end_s + (self.times.again_s if self.mixed_again else 0.0)
        return begun and now < self.times.start + end and (self.mixed_again or self._phase <= _ENDED)

    # --- the dead ---

    def link_lost(self, peer: PeerId, neighbours: list[PeerId], now: float) -> Outgoing:
        """The link to a neighbour has ended, so perhaps it is dead. Others are to know of it what this peer knows, which may die
        as well before everybody has heard.
        """
        known = self.value.pass_on(peer) if self._mixing(now) and peer not in self._dead else None
        others = [other for other in neighbours if other != peer]
        # Once for each state: a link that comes and goes must not cost more.
        if known is None or not others or self._passed_on.get(peer) == known[1].trace.changes:
            return []
        self._passed_on[peer] = known[1].trace.changes
        keepers = self._rng.permutation(len(others))[:COPIES].tolist()
        return [(others[index], Witnessed(peer, *known)) for index in keepers]

    def _on_witnessed(self, sender: PeerId, message: Witnessed) -> None:
        share, previous = message.share, message.share.trace.previous
        is_known = message.peer in self.roster and message.peer not in (self.own_id, sender)
        if is_known and previous in (None, sender) and is_acceptable(share, self.value.count):
            self.value.keep_passed_on(message.peer, message.direct, share)

    def peer_died(self, dead: PeerId, now: float) -> Outgoing:
        """The swarm has declared a peer dead: say what this one could restore, and decide once everybody has."""
        if dead in self._dead or dead == self.own_id:
            return []
        self._dead.add(dead)
        self._entry.died(dead)
        if self._has_ended:
            return []  # restored when everybody mixes again, if they do
        return self._announce(dead, now)

    def _announce(self, dead: PeerId, now: float) -> Outgoing:
        self._decide_at[dead] = now + self.times.notice_s
        claim = self.value.claim(dead)
        if claim is None:
            return []
        claimed = Claimed(dead, claim.changes, claim.direct)
        is_news = self.is_news(self.own_id, claimed)
        self._claims.add(dead, claim, proven)
        return [(None, claimed)] if is_news else []

    def is_news(self, sender: PeerId, message: Claimed) -> bool:
        """Whether a claim has to be passed on (`Claims.is_news`)."""
        return self._claims.is_news(message.dead, Claim(message.changes, message.direct, sender))

    def _on_claimed(self, sender: PeerId, message: Claimed, now: float, proof: Proof) -> Outgoing:
        if message.dead not in self.roster or sender not in self.roster:
            return []
        if message.dead == self.own_id:
            if not proof():
                return []
            # Others have taken this peer for dead, and will take over: its own value must not count twice.
            self._claimed_by.add(sender)
            if len(self._claimed_by) <= COLLUDING or self.declared_dead:
                return []
            self.declared_dead = True
            return self._when_free(self._withdraw)
        self._claims.add(message.dead, Claim(message.changes, message.direct, sender), proof)
        if message.dead in self._dead and message.dead not in self._absence.restored and self._phase <= _ENDED:
            # Nobody could restore it until somebody opened its box: decide once more.
            self._decide_at.setdefault(message.dead, now + self.times.notice_s)
        return []

    def _bury(self, dead: PeerId, now: float) -> Outgoing:
        """All claims are in: the best one inherits; what a dead heir had shown to nobody is open again."""
        best = self._claims.decide(dead)
        known = best.changes if best is not None else 0
        self.exchanger.partner_died(dead, known)
        out: Outgoing = []
        if best is not None:
            self._absence.saw([dead])
            # Until the heir says that it has inherited, it has not: it may die first.
            self._inherited.setdefault(dead, (best.witness, _NOT_YET))
            if best.witness == self.own_id and dead not in self._handed_over:
                out += self._when_free(lambda: self._inherit(dead))
            self._absence.restored[dead] = best.changes
            if best.changes == _AS_SEALED:
                out += self._mask_late(dead)
            if self._phase > _TAKEN_OUT:
                out += self._return_shares(dead)
        elif dead not in self._handed_over:
            out += self._open_box(dead)
        for peer in [peer for peer, (whose, after) in self._inherited.items() if whose == dead and after > known]:
            del self._inherited[peer]
            out += self._announce(peer, now)
        # It may have been this one's part to take masks out for others.
        return out + self._take_out_for_the_dead()

    def _mask_late(self, dead: PeerId) -> Outgoing:
        """A dead peer is restored as its contribution was sealed: with a mask for this one, which perhaps has none for it."""
        late = None if self.declared_dead else self._entry.late_mask(dead)
        return [] if late is None else self._when_free(lambda: self._correct(late))

    def _open_box(self, dead: PeerId) -> Outgoing:
        """Nobody can restore a dead peer. If it has masked with this one, and so has perhaps left a box: help to open it.

        Not if this peer has said that it never heard of that: then the masks may be taken out.
        """
        opened = self._boxes.help_to_open(dead)
        if opened is None or dead not in self._entry.have_masked or dead in self._absence.said_silent:
            return []
        return [] if self._absence.is_absent(dead) else [(None, opened)]

    def _on_opened(self, sender: PeerId, message: Opened, now: float) -> Outgoing:
        """With enough shares of the key to a dead peer's box this one can restore it."""
        share = self._boxes.on_opened(sender, message) if message.owner in self._dead else None
        if share is None:
            return []
        self.value.keep_deposit(message.owner, share)
        return self._announce(message.owner, now)

    def _inherit(self, dead: PeerId) -> Outgoing:
        self.value.inherit(dead)
        self._inherited[dead] = (self.own_id, self.value.changes)
        return [(None, Inherited(dead, self.value.changes))]

    # --- leaving ---

    @property
    def has_something(self) -> bool:
        """Whether this peer holds a part of the sum that somebody else would miss."""
        return self.value.weight > 0 and not self.is_over and not self._leaving

    def leave(self, neighbour: PeerId) -> Outgoing:
        """Stop gracefully: hand everything to a neighbour. Gone once `has_left`."""
        self._leaving = True
        return self._when_free(lambda: [(neighbour, HandOver(self.value.hand_over()))])

    @property
    def has_left(self) -> bool:
        return self.own_id in self._handed_over

    def _take_hand_over(self, sender: PeerId, message: HandOver) -> Outgoing:
        if sender not in self.roster:
            return []
        if is_acceptable(message.share, self.value.count) and sender not in self._handed_over:
            self.value.receive(message.share)
            self._handed_over.add(sender)
            self._absence.saw([sender])
        return [(None, HandedOver(sender))]

    # --- changes of the value that must wait for an open exchange ---

    def _when_free(self, change: Callable[[], Outgoing]) -> Outgoing:
        """Now, or as soon as no exchange is open: between offer and commit a value must not change."""
        if self.exchanger.is_free and not self._postponed:
            return change()
        self._postponed.append(change)
        return []

    def _catch_up(self) -> Outgoing:
        out: Outgoing = []
        while self._postponed and self.exchanger.is_free:
            out += self._postponed.pop(0)()
        return out

    def _withdraw(self) -> Outgoing:
        self._entry.withdraw()
        return []
