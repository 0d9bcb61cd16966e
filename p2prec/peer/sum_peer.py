"""One peer in one private sum, from enrolment to result (protocols/privacy-v8.md). Without sockets, clock or global randomness.

The driver calls `tick` at `next_deadline`, `receive` for every message, `peer_died` when the swarm has declared a peer dead
(all living peers within `Timetable.notice_s`), and sends what it gets back. Messages between living peers arrive, in order;
whoever breaks that is declared dead.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from p2prec.peer.gathering import Gathering, gathering
from p2prec.peer.private_sum import PrivateSum, is_acceptable
from p2prec.peer.sum_absence import Absence
from p2prec.peer.sum_boxes import Boxes
from p2prec.peer.sum_burial import Burials
from p2prec.peer.sum_changes import Changes
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
from p2prec.peer.sum_take_out import TakingOut
from p2prec.peer.sum_times import Timetable
from p2prec.privacy.plan import SumPlan
from p2prec.privacy.stream import NoiseStream
from p2prec.types import FloatArray, PeerId, SwarmId

_PAIRING, _TAKEN_OUT, _ENDED, _DECIDED, _OVER = 2, 4, 5, 6, 7
"""Phases: enrol, pair, contribute, recover, take out, end, decide whether to mix again, end that."""
_STALE = 0.75
"""Of a notice after the end: what is claimed until then is of before it. The rest is for those whose clocks are ahead."""
_RETRY = 0.1
"""Of an exchange's interval, up to twice as much: after a neighbour was busy. Everybody begins at the same moment; if all tried
again at the same moments too, all would be busy for good."""


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
        self.mixed_again = False
        """Whether the sum was void at first."""
        self._rng, self._judge = rng, is_void
        self._judged: tuple[int, bool] | None = None
        """Changes of the value that was judged last, and whether it is void."""
        self._votes: set[PeerId] = set()
        """Who says that the sum is void."""
        self._phase = 0
        self._dead: set[PeerId] = set()
        self._next_exchange = times.start + times.contribute_s
        self._pair_again_at = times.start + (times.enrol_s + times.contribute_s) / 2
        self._paired_again: set[PeerId] = set()
        """Who has said `Pair` twice, and was answered."""
        self._boxes = Boxes(self.roster, count)
        self._absence = Absence(own_id, self.roster, self._dead)
        self._changes = Changes(self.exchanger)
        self._taking_out = TakingOut(self.value, self._entry, self._absence, self._changes)
        self._burials = Burials(
            self._dead,
            times,
            self.value,
            self.exchanger,
            self.roster,
            self._entry,
            self._boxes,
            self._absence,
            self._taking_out,
            self._changes,
            rng,
        )
        self._leaving = False
        self._number = epoch
        self._members: list[PeerId] = []
        """Who takes part, sorted."""

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
    def declared_dead(self) -> bool:
        """Whether others hold this peer for dead: it has nothing any more, and nobody listens to it."""
        return self._burials.declared_dead

    @property
    def is_void(self) -> bool:
        """Whether there is too much noise in this peer's copy. Raises ValueError before anything arrived."""
        if self._judged is None or self._judged[0] != self.value.changes:
            self._judged = self.value.changes, self._judge(self.value.mean())
        return self._judged[1]

    @property
    def is_over(self) -> bool:
        """Whether the result is there, if there is one."""
        return self._phase > (_OVER if self.mixed_again else _DECIDED)

    # --- time ---

    @property
    def next_deadline(self) -> float:
        """When to call `tick` next, at the latest."""
        due = min(self._entry.due, self._burials.due, self._next_exchange, self._pair_again_at)
        if self._changes.are_waiting:
            due = min(due, self.exchanger.gives_up_at(self.times.answer_s))
        phases = self.times.phases
        return min(due, self.times.start + phases[self._phase]) if self._phase < len(phases) else due

    def is_due(self, now: float) -> bool:
        """Whether a `tick` would do anything, if there are neighbours."""
        return self.can_go_on or now >= self.next_deadline

    @property
    def can_go_on(self) -> bool:
        """Whether this peer's contribution waits for neighbours at most."""
        return self._entry.can_go_on

    def tick(self, now: float, neighbours: list[PeerId]) -> Outgoing:
        """Do what is due. neighbours: who can be reached now."""
        out: Outgoing = []
        while self._phase <= _OVER and now >= self.times.start + self.times.phases[self._phase]:
            self._phase += 1
            out += self._begin_phase(now)
        if now >= self._pair_again_at:
            self._pair_again_at = float("inf")
            out += self._pair_again() if self._phase == _PAIRING else []
        out += self._burials.decide(now, absent_are_out=self._phase > _TAKEN_OUT)
        out += self._entry.tick(now, neighbours)
        self.exchanger.give_up(now, self.times.answer_s)
        question = self.exchanger.question()
        if now >= self._next_exchange:
            self._next_exchange = now + self.times.exchange_s
            if question is not None:
                out.append(question)
            elif self._may_exchange(now) and neighbours:
                out.append(self._offer(neighbours, now))
        return out + self._changes.catch_up()

    def _may_exchange(self, now: float) -> bool:
        return self._mixing(now) and self.exchanger.is_free and not self._changes.are_waiting and not self._leaving

    def _offer(self, neighbours: list[PeerId], now: float) -> tuple[PeerId, SumMessage]:
        partner = neighbours[int(self._rng.integers(len(neighbours)))]
        return partner, self.exchanger.offer(partner, self._rng.bytes(16), now)

    # --- the phases ---

    def _begin_phase(self, now: float) -> Outgoing:
        steps = (
            self._enrol,
            self._pair,
            lambda: self._entry.contribute(now, self._dead, self._absence.withdrawn),
            self._recover,
            self._taking_out.all,
        )
        ends = (self._end, lambda: self._decide(now), self._end_again)
        return (*steps, *ends)[self._phase - 1]()

    def _enrol(self) -> Outgoing:
        return [(None, self.roster.enrol())]

    def _pair(self) -> Outgoing:
        self.roster.prove_partners()
        return [(partner, Pair()) for partner in self.roster.partners if partner not in self._dead]

    def _pair_again(self) -> Outgoing:
        """Some words are lost on their way, and a mask that one side alone has is lost with that side, if it dies before it hears
        so. Partners that have not been heard are told again; who hears it twice has not been heard itself.
        """
        unheard = [partner for partner in self.roster.partners if not self.roster.has_confirmed(partner)]
        return [(partner, Pair()) for partner in unheard if partner not in self._dead]

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
            self._burials.declared_dead = True
            self._entry.withdraw()
            return [(None, Gone())]
        self._absence.saw(self.value.met)
        report = self._absence.report(self._entry.asked - self._entry.have_masked, self._burials.known_to_all)
        return [] if report is None else [(None, report)]

    def _end(self) -> Outgoing:
        """Stop mixing. Whatever was not restored until now never will be; a copy with too much noise is void."""
        self._next_exchange = float("inf")
        # Nobody begins again before a notice is over; until shortly before that, what arrives was said before the end.
        self._burials.end(self.times.start + self.times.end_s + _STALE * self.times.notice_s)
        self._changes.clear()
        self._entry.close()
        if self._leaving or not self.value.weight > 0 or not self.is_void:
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
        return self._burials.restart(now)

    def _end_again(self) -> Outgoing:
        self._next_exchange = float("inf")
        self._burials.end()
        self._changes.clear()
        return []

    # --- messages ---

    def receive(self, sender: PeerId, message: SumMessage, now: float, proof: Proof = proven) -> Outgoing:
        """Handle a message that the layers below have bounded and, unless it is `Enrol` or one of UNPROVEN, verified. proof:
        verifies it.
        """
        if sender in self._dead:
            return []  # its value has another owner
        # Entries of the roll are most of what is heard.
        if isinstance(message, Contributes):
            self._entry.on_contributes(sender)
            return []
        if isinstance(message, Enrol):
            if self._phase <= 1:
                self.roster.on_enrol(sender, message, proof)
            return []
        out = self._handle(sender, message, now, proof)
        return out + self._changes.catch_up()

    def _handle(self, sender: PeerId, message: SumMessage, now: float, proof: Proof) -> Outgoing:
        match message:
            case Pair():
                if self._phase <= _PAIRING:
                    return self._on_pair(sender, message)
            case Masked():
                self.roster.on_escrow(sender, message.escrow)
                return self._entry.on_masked(sender)
            case MaskNoted():
                self._entry.on_noted(sender)
            case Sealed():
                self._boxes.keep(sender, message)
            case Opened():
                return self._burials.on_opened(sender, message, now, proof)
            case TakenOut():
                self._absence.took_out(sender, message, proof)
            case Deposit():
                if sender in self.roster and is_acceptable(message.share, self.value.count):
                    self.value.keep_deposit(sender, message.share)
                    self._boxes.drop(sender)
            case Witnessed():
                self._burials.on_witnessed(sender, message)
            case NotMasked():
                self._entry.on_not_masked(sender)
            case Claimed():
                return self._burials.on_claimed(sender, message, now, proof, may_decide=self._phase <= _ENDED)
            case Inherited():
                self._burials.on_inherited(sender, message, proof)
            case HandOver():
                return self._changes.when_free(lambda: self._take_hand_over(sender, message))
            case HandedOver():
                if message.peer in self.roster:
                    self._burials.handed_over.add(message.peer)
            case Seen():
                self._absence.on_seen(sender, message, proof)
            case Withdrawn():
                self._absence.withdrew(sender)
                if self._entry.on_withdrawn(sender):
                    return self._taking_out.with_withdrawn(sender)
                return self._taking_out.all() if self._phase > _TAKEN_OUT and not self._has_ended else []
            case Voided():
                if sender in self.roster:
                    self._votes.add(sender)
            case Returned():
                self._absence.on_returned(sender, message, proof)
                return [] if self._has_ended else self._taking_out.for_the_dead()
            case _:
                return self._on_exchange(sender, message, now)
        return []

    def _on_exchange(self, sender: PeerId, message: SumMessage, now: float) -> Outgoing:
        match message:
            case SumOffer():
                known = sender in self.roster and is_acceptable(message.share, self.value.count)
                if not known or not self._mixing(now) or self._changes.are_waiting or self._leaving:
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
        """The link to a neighbour has ended, so perhaps it is dead."""
        return self._burials.link_lost(peer, neighbours) if self._mixing(now) else []

    def peer_died(self, dead: PeerId, now: float) -> Outgoing:
        """The swarm has declared a peer dead: say what this one could restore, and decide once everybody has."""
        if dead in self._dead or dead == self.own_id:
            return []
        self._dead.add(dead)
        self._entry.died(dead)
        # After the end it is restored when everybody mixes again, if they do.
        return [] if self._has_ended else self._burials.announce(dead, now)

    def gathering(self, now: float, is_suspected: Callable[[PeerId], bool]) -> Gathering | None:
        """By whom what is said of the dead now is gathered; None if it is not."""
        if len(self._members) != len(self.roster):
            self._members = sorted(self.roster)
        return gathering(
            self._number,
            self.times,
            self._members,
            lambda peer: peer in self._dead or is_suspected(peer),
            now,
        )

    def is_news(self, sender: PeerId, message: Claimed) -> bool:
        """Whether a claim has to be passed on (`Claims.is_news`)."""
        return self._burials.is_news(sender, message)

    # --- leaving ---

    @property
    def has_something(self) -> bool:
        """Whether this peer holds a part of the sum that somebody else would miss."""
        return self.value.weight > 0 and not self.is_over and not self._leaving

    def leave(self, neighbour: PeerId) -> Outgoing:
        """Stop gracefully: hand everything to a neighbour. Gone once `has_left`."""
        self._leaving = True
        return self._changes.when_free(lambda: [(neighbour, HandOver(self.value.hand_over()))])

    @property
    def has_left(self) -> bool:
        return self.own_id in self._burials.handed_over

    def _take_hand_over(self, sender: PeerId, message: HandOver) -> Outgoing:
        if sender not in self.roster:
            return []
        if is_acceptable(message.share, self.value.count) and sender not in self._burials.handed_over:
            self.value.receive(message.share)
            self._burials.handed_over.add(sender)
            self._absence.saw([sender])
        return [(None, HandedOver(sender))]
