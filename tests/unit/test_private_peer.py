"""One peer of a swarm with a promise: when it takes part, whom it follows, and what hostile neighbours cannot make it do."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools

import numpy as np
import pytest
from msgspec.structs import replace

from p2prec.identity import Identity
from p2prec.manifest import Promise
from p2prec.model.nearest import encode
from p2prec.peer.inheritance import MAX_DEPOSITS, Trace
from p2prec.peer.private_peer import LATEST_ENROLMENT, Outbox, PrivatePeer, sizes_of
from p2prec.peer.private_sum import Share
from p2prec.peer.sum_claims import CLAIMS_HEARD
from p2prec.peer.sum_messages import (
    Alive,
    Claimed,
    Contributed,
    Contributes,
    Deposit,
    Enrol,
    Enrolled,
    Gone,
    Inherited,
    InSum,
    Pair,
    Relays,
    Result,
    ResultRequest,
    RollPart,
    Sealed,
    SumDecline,
    SumMessage,
    SumOffer,
    Suspected,
)
from p2prec.peer.sum_outcome import SumOutcome, as_result
from p2prec.privacy.plan import COLLUDING, PAIRS, POPULARITY, PrivacyPlan
from p2prec.types import PeerId, SwarmId
from p2prec.wire.seal import Seal
from p2prec.wire.sum_codec import SumCodec

SWARM, N_ITEMS = SwarmId(bytes(32)), 40
PROMISE = Promise(
    epsilon=4.0,
    n_people=50,
    start=1000,
    second_after_s=1200.0,
    enrol_s=60.0,
    contribute_s=120.0,
    recover_s=300.0,
    end_s=600.0,
)
COUNTS, N_SELECTED = sizes_of(PROMISE, N_ITEMS)
CODEC = SumCodec(COUNTS, N_SELECTED, N_ITEMS)
OWN, *OTHERS = (Identity.from_seed(bytes([n]) * 32) for n in range(1, 12))
NEIGHBOUR = OTHERS[0].peer_id
PLAN = PrivacyPlan.of(PROMISE.epsilon, PROMISE.delta, PROMISE.n_people)


class Rig:
    """A peer, its neighbours' ids, and what it has sent."""

    def __init__(self, began: float, *, enrolments: list[bool] | None = None, alone: bool = False) -> None:
        tokens = itertools.count(1)
        answers = iter(enrolments or [])
        self.recorded: list[int] = []
        self.asked_for_statistic = 0
        self.peer = PrivatePeer(
            own_id=OWN.peer_id,
            swarm_id=SWARM,
            promise=PROMISE,
            n_items=N_ITEMS,
            popularity_statistic=self._statistic,
            pair_statistic=lambda selected, expected: np.zeros(COUNTS[PAIRS], np.float32),
            record=self.recorded.append,
            sealer=Seal(OWN, SWARM, CODEC),
            rng=np.random.default_rng(1),
            random_bytes=lambda n: next(tokens).to_bytes(n, "big"),
            now=began,
            enrol=None if enrolments is None else lambda number: next(answers),
        )
        self.neighbours: dict[PeerId, None] = {} if alone else {NEIGHBOUR: None}
        self.sent: Outbox = []

    def _statistic(self) -> np.ndarray:
        self.asked_for_statistic += 1
        return np.zeros(N_ITEMS, np.float32)

    def run(self, now: float, until: float) -> int:
        """Tick by its own deadlines; returns how often."""
        for ticks in itertools.count(1):
            self.sent += self.peer.tick(now, self.neighbours.keys())
            assert self.peer.next_deadline > now, "a deadline that has passed"
            now = self.peer.next_deadline
            if now > until:
                return ticks
        return 0

    def hear(self, message: SumMessage, now: float, number: int = POPULARITY) -> Outbox:
        return self.peer.received(NEIGHBOUR, InSum(number, message), now)

    def hear_flood(
        self, origin: Identity, message: SumMessage, now: float, token: int = 0, *, forged: bool = False
    ) -> Outbox:
        seal = Seal(origin, SWARM, CODEC)
        if isinstance(message, Enrol):
            enrolment = seal.enrol(POPULARITY, message)
            if forged:
                enrolment = replace(enrolment, signature=enrolment.signature[::-1])
            return self.hear_roll(RollPart(POPULARITY, (Enrolled(enrolment),), ()), now)
        if isinstance(message, Contributes):
            return self.hear_roll(RollPart(POPULARITY, (), (Contributed(origin.peer_id, message.word),)), now)
        relayed = seal.seal(None, POPULARITY, token.to_bytes(8, "big"), 32, message)
        if forged:
            relayed = replace(relayed, signature=relayed.signature[::-1])
        return self.peer.received(NEIGHBOUR, Relays((relayed,)), now)

    def hear_enrolments(self, origins: list[Identity], now: float) -> None:
        for origin in origins:
            self.hear_flood(origin, Enrol(bytes(range(32)), bytes(32)), now)

    def hear_roll(self, part: RollPart, now: float) -> Outbox:
        return self.peer.received(NEIGHBOUR, Relays((), (part,)), now)

    def hear_routed(self, origin: Identity, message: SumMessage, now: float, token: int = 0) -> Outbox:
        """Of a mask partner."""
        part = self.peer.sum_peer(POPULARITY)
        assert part is not None
        key = part.roster.letter_key(origin.peer_id)
        relayed = Seal(origin, SWARM, CODEC).seal(OWN.peer_id, POPULARITY, token.to_bytes(8, "big"), 32, message, key)
        return self.peer.received(NEIGHBOUR, Relays((relayed,)), now)

    def routed(self) -> list[tuple[PeerId | None, SumMessage]]:
        """To whom this peer has said what."""
        frames = [message for _, message in self.sent if isinstance(message, Relays)]
        seal = Seal(OTHERS[0], SWARM, CODEC)
        mine = [one for frame in frames for one in frame.relays if one.origin == OWN.peer_id and one.to is not None]
        return [(one.to, seal.read(one)) for one in mine]

    def flooded(self) -> list[SumMessage]:
        frames = [message for _, message in self.sent if isinstance(message, Relays)]
        seal = Seal(OTHERS[0], SWARM, CODEC)
        floods = [seal.read(one) for frame in frames for one in frame.relays if one.origin == OWN.peer_id]
        entries = [one for frame in frames for part in frame.roll for one in part.enrolled if one.origin == OWN.peer_id]
        return [*(Enrol(one.enrolment.mask_key, one.enrolment.commitment) for one in entries), *floods]


def share(number: int = POPULARITY) -> Share:
    return Share(encode(np.ones(COUNTS[number], np.float32)), 1.0, Trace(1, None, 0))


def test_deadlines_are_ahead_also_of_a_peer_that_is_alone() -> None:
    rig = Rig(0.0, alone=True)
    assert rig.run(0.0, PROMISE.end_of(PAIRS) + 1000) < 20_000
    assert rig.recorded == []
    assert rig.sent == []
    assert rig.peer.results == {}


def test_a_peer_that_is_there_at_the_start_enrols_in_both_sums() -> None:
    rig = Rig(0.0)
    rig.run(0.0, PROMISE.end_of(PAIRS))
    assert sum(isinstance(message, Enrol) for message in rig.flooded()) == 2
    assert not any(isinstance(message, Gone) for message in rig.flooded())


def test_nothing_is_asked_or_recorded_where_too_few_take_part() -> None:
    rig = Rig(0.0)
    rig.run(0.0, PROMISE.start + PROMISE.contribute_s + 1)
    part = rig.peer.sum_peer(POPULARITY)
    assert part is not None
    assert "take part" in part.sat_out
    assert rig.recorded == []
    assert rig.asked_for_statistic == 0


def test_who_starts_later_says_that_it_is_gone_and_takes_no_part() -> None:
    began = PROMISE.start + 1.0
    rig = Rig(began)
    rig.run(began, began + 30)
    assert [type(message) for message in rig.flooded()] == [Gone]
    assert rig.peer.sum_peer(POPULARITY) is None


def test_who_starts_when_a_sum_is_over_says_nothing_of_it() -> None:
    began = PROMISE.end_of(POPULARITY) + 1.0
    rig = Rig(began)
    rig.run(began, began + 15)
    assert rig.flooded() == []
    assert any(isinstance(message.message, ResultRequest) for _, message in rig.sent if isinstance(message, InSum))


@pytest.mark.parametrize(
    ("after", "first_time", "enrols"),
    [
        (1.0, True, True),
        (LATEST_ENROLMENT * PROMISE.enrol_s - 0.1, True, True),
        (LATEST_ENROLMENT * PROMISE.enrol_s, True, False),
        (1.0, False, False),
    ],
)
def test_with_a_durable_note_it_may_while_others_enrol(after: float, first_time: bool, enrols: bool) -> None:
    began = PROMISE.start + after
    rig = Rig(began, enrolments=[first_time])
    rig.run(began, began + 5)
    assert [type(message) for message in rig.flooded()] == [Enrol if enrols else Gone]


def test_who_slept_while_others_contributed_sits_out() -> None:
    rig = Rig(0.0)
    rig.run(0.0, PROMISE.start + PROMISE.enrol_s + 1)
    rig.peer.tick(PROMISE.start + PROMISE.contribute_s + PROMISE.notice_s + 1, rig.neighbours.keys())
    part = rig.peer.sum_peer(POPULARITY)
    assert part is not None
    assert "awake" in part.sat_out
    assert rig.recorded == []


def test_a_suspected_peer_contradicts() -> None:
    rig = Rig(0.0)
    now = PROMISE.start + 1.0
    rig.run(0.0, now)
    rig.hear_flood(OTHERS[1], Enrol(bytes(range(32)), bytes(32)), now)
    rig.hear_flood(OTHERS[1], Suspected(OWN.peer_id, 0), now, token=1)
    rig.run(now, now + 5)
    assert "Alive" in [type(message).__name__ for message in rig.flooded()]


def test_an_offer_without_a_sum_is_declined() -> None:
    rig = Rig(PROMISE.start + 1.0)
    rig.run(PROMISE.start + 1.0, PROMISE.start + 2.0)
    reply = rig.hear(SumOffer(bytes(16), share()), PROMISE.start + 2.0)
    ((to, answer),) = reply
    assert isinstance(answer, InSum)
    assert (to, answer.message) == (NEIGHBOUR, SumDecline(bytes(16)))


def test_a_few_who_claim_it_cannot_make_a_living_peer_withdraw() -> None:
    rig = Rig(0.0)
    now = PROMISE.start + 1.0
    rig.run(0.0, now)
    part = rig.peer.sum_peer(POPULARITY)
    assert part is not None
    rig.hear_enrolments(OTHERS[: COLLUDING + 1], now)
    for token, other in enumerate(OTHERS[:COLLUDING], 100):
        rig.hear_flood(other, Claimed(OWN.peer_id, 1, True), now, token)
    rig.hear_flood(OTHERS[COLLUDING], Claimed(OWN.peer_id, 1, True), now, 150, forged=True)
    assert not part.declared_dead
    rig.run(now, now + 5)
    assert [type(message).__name__ for message in rig.flooded()].count("Alive") == 1
    rig.hear_flood(OTHERS[COLLUDING], Claimed(OWN.peer_id, 1, True), now, 200)
    assert part.declared_dead


def test_a_claim_about_somebody_who_lives_kills_nobody() -> None:
    rig = Rig(0.0)
    now = PROMISE.start + 1.0
    rig.run(0.0, now)
    rig.hear_enrolments(OTHERS[:2], now)
    alive, liar = OTHERS[0], OTHERS[1]
    rig.hear_flood(liar, Claimed(alive.peer_id, 1, True), now, 10)
    rig.hear_flood(alive, Alive(1), now, 11)
    rig.run(now, now + 3 * PROMISE.notice_s)
    part = rig.peer.sum_peer(POPULARITY)
    assert part is not None
    assert alive.peer_id not in part.dead


def test_claims_that_enough_others_beat_are_not_passed_on() -> None:
    """The best few reach everybody, in whatever order they come: so all agree on an heir, and on the next should it die."""
    rig = Rig(0.0)
    now, far = PROMISE.start + 1.0, PeerId("far")
    rig.neighbours[far] = None
    rig.run(0.0, now)
    rig.hear_enrolments(OTHERS, now)
    rig.run(now, now + 2)
    rig.sent.clear()
    dead, *witnesses = OTHERS
    seen_until = [
        *range(20, 20 - len(witnesses) + 1, -1),
        100,
    ]  # but for the last one each knows less than those before
    for token, (witness, changes) in enumerate(zip(witnesses, seen_until, strict=True), 100):
        rig.hear_flood(witness, Claimed(dead.peer_id, changes, True), now + 2, token)
    rig.run(now + 3, now + 5)
    relayed = [one for to, frame in rig.sent if to == far and isinstance(frame, Relays) for one in frame.relays]
    assert [one.origin for one in relayed] == [one.peer_id for one in (*witnesses[:CLAIMS_HEARD], witnesses[-1])]
    assert len(witnesses) > CLAIMS_HEARD + 1


def test_pair_is_said_again_to_those_who_have_not_been_heard_or_have_not_heard() -> None:
    rig = Rig(0.0)
    now, paired = PROMISE.start + 1.0, PROMISE.start + PROMISE.enrol_s + 1.0
    rig.run(0.0, now)
    rig.hear_enrolments(OTHERS, now)
    rig.run(now, paired)
    part = rig.peer.sum_peer(POPULARITY)
    assert part is not None
    partners = part.roster.partners
    assert len(partners) > 2
    assert sorted(rig.routed()) == [(partner, Pair()) for partner in partners]
    heard = next(other for other in OTHERS if other.peer_id == partners[0])
    rig.sent.clear()
    rig.hear_routed(heard, Pair(), paired)
    rig.run(paired, PROMISE.start + PROMISE.contribute_s - 10)
    assert sorted(rig.routed()) == [(partner, Pair()) for partner in partners[1:]]
    rig.sent.clear()
    for token in (1, 2):
        rig.hear_routed(heard, Pair(), PROMISE.start + PROMISE.contribute_s - 10, token)
    rig.run(PROMISE.start + PROMISE.contribute_s - 10, PROMISE.start + PROMISE.contribute_s - 5)
    assert rig.routed() == [(heard.peer_id, Pair())]


def test_the_dead_are_told_nothing() -> None:
    """A letter to one of them would be passed around by everybody until its hops are used up."""
    rig = Rig(0.0)
    now, paired = PROMISE.start + 1.0, PROMISE.start + PROMISE.enrol_s + 1.0
    rig.run(0.0, now)
    rig.hear_enrolments(OTHERS, now)
    part = rig.peer.sum_peer(POPULARITY)
    assert part is not None
    first, second, *others = part.roster.partners
    dead = {other.peer_id: other for other in OTHERS}
    rig.hear_flood(dead[first], Gone(), now, 50)
    rig.run(now, paired)
    assert sorted(rig.routed()) == [(partner, Pair()) for partner in (second, *others)]
    rig.hear_flood(dead[second], Gone(), paired, 51)
    rig.sent.clear()
    rig.run(paired, PROMISE.start + PROMISE.contribute_s - 10)
    assert sorted(rig.routed()) == [(partner, Pair()) for partner in others]


def test_no_mask_is_shared_with_whoever_somebody_else_has_enrolled() -> None:
    rig = Rig(0.0)
    now = PROMISE.start + 1.0
    rig.run(0.0, now)
    for token, other in enumerate(OTHERS):
        rig.hear_flood(other, Enrol(bytes(range(32)), bytes(32)), now, token, forged=token % 2 == 0)
    part = rig.peer.sum_peer(POPULARITY)
    assert part is not None
    partners = part.roster.partners
    genuine = [peer for peer in partners if peer in {other.peer_id for other in OTHERS[1::2]}]
    assert 0 < len(genuine) < len(partners)
    rig.run(now, PROMISE.start + PROMISE.enrol_s + 1)
    assert part.roster.partners == genuine


def test_a_forged_claim_wins_nothing() -> None:
    rig = Rig(0.0)
    now = PROMISE.start + 1.0
    rig.run(0.0, now)
    dead, witness, honest = (one.peer_id for one in OTHERS[:3])
    rig.hear_enrolments(OTHERS[:3], now)
    part = rig.peer.sum_peer(POPULARITY)
    assert part is not None
    rig.hear_flood(OTHERS[0], Gone(), now, 5)
    rig.hear_flood(OTHERS[1], Claimed(dead, 7, True), now, 10)
    rig.hear_flood(OTHERS[1], Claimed(dead, 9, True), now, 11, forged=True)
    rig.hear_flood(OTHERS[2], Claimed(dead, 8, True), now, 12, forged=True)
    rig.run(now, now + 2 * PROMISE.notice_s)
    assert part.is_dead(dead)
    assert not part.is_dead(witness) and not part.is_dead(honest)
    assert part._absence.restored == {dead: 7}


@pytest.mark.parametrize("reason", ["a mask", "a claim of its own", "an heir that is dead", ""])
def test_a_claim_that_wins_is_verified_by_those_to_whom_it_matters(reason: str) -> None:
    """The others note it as it was said."""
    rig = Rig(0.0)
    now = PROMISE.start + 1.0
    rig.run(0.0, now)
    rig.hear_enrolments(OTHERS, now)
    part = rig.peer.sum_peer(POPULARITY)
    assert part is not None
    partners = part.roster.partners
    dead, *others = sorted(OTHERS, key=lambda one: (one.peer_id in partners) != (reason == "a mask"))
    assert (dead.peer_id in partners) == (reason == "a mask")
    if reason == "a claim of its own":
        part.value.keep_deposit(dead.peer_id, dataclasses.replace(share(), trace=Trace(1, None, 0)))
    if reason == "an heir that is dead":
        rig.hear_flood(dead, Inherited(others[3].peer_id, 3), now, 1)
    rig.hear_flood(dead, Gone(), now, 5)
    rig.hear_flood(others[0], Claimed(dead.peer_id, 7, True), now, 10)
    rig.hear_flood(others[1], Claimed(dead.peer_id, 9, True), now, 11, forged=True)
    rig.run(now, now + 2 * PROMISE.notice_s)
    assert part._absence.restored == {dead.peer_id: 7 if reason else 9}


@pytest.mark.parametrize(("is_late", "forged"), [(False, False), (True, False), (True, True)])
def test_nobody_inherits_where_another_has_already(is_late: bool, forged: bool) -> None:
    """Even with a better claim: it has been late, or the other hasty. Whether that one has really said so is asked then."""
    rig = Rig(0.0)
    now = PROMISE.start + 1.0
    rig.run(0.0, now)
    dead, other = OTHERS[0].peer_id, OTHERS[1]
    rig.hear_enrolments(OTHERS[:2], now)
    part = rig.peer.sum_peer(POPULARITY)
    assert part is not None
    rig.hear(Deposit(dataclasses.replace(share(), trace=Trace(7, None, 0))), now)
    rig.hear_flood(OTHERS[0], Gone(), now, 5)
    rig.hear_flood(other, Claimed(dead, 6, True), now, 10)
    if is_late:
        rig.hear_flood(other, Inherited(dead, 8), now, 11, forged=forged)
    rig.run(now, now + 2 * PROMISE.notice_s)
    is_believed = is_late and not forged
    assert part._absence.restored == {dead: 6 if is_believed else 7}
    assert part.value.weight == (0.0 if is_believed else 1.0)


@pytest.mark.parametrize("forged", [False, True])
def test_what_a_dead_heir_has_shown_is_not_inherited_again(forged: bool) -> None:
    """If it has really said that it has inherited before the latest of its states that is known."""
    rig = Rig(0.0)
    now = PROMISE.start + 1.0
    rig.run(0.0, now)
    dead, heir = OTHERS[0].peer_id, OTHERS[1].peer_id
    rig.hear_enrolments(OTHERS[:3], now)
    part = rig.peer.sum_peer(POPULARITY)
    assert part is not None
    rig.hear(Deposit(dataclasses.replace(share(), trace=Trace(5, None, 0))), now)
    rig.hear_flood(OTHERS[0], Gone(), now, 5)
    rig.hear_flood(OTHERS[1], Claimed(dead, 6, True), now, 10)
    rig.run(now, now := now + 2 * PROMISE.notice_s)
    assert part._absence.restored == {dead: 6}
    rig.hear_flood(OTHERS[1], Inherited(dead, 8), now, 11, forged=forged)
    rig.hear_flood(OTHERS[1], Gone(), now, 12)
    rig.hear_flood(OTHERS[2], Claimed(heir, 9, True), now, 13)
    rig.run(now, now + 6 * PROMISE.notice_s)
    assert part._absence.restored == {dead: 5 if forged else 6, heir: 9}
    assert part.value.weight == (1.0 if forged else 0.0)


def test_a_suspicion_brings_the_next_tick_forward() -> None:
    rig = Rig(0.0)
    now = PROMISE.start + 1.0
    rig.run(0.0, now)
    rig.hear_enrolments(OTHERS[:1], now)
    rig.run(now, now := now + 2 * PROMISE.notice_s)
    due = rig.peer.next_deadline
    rig.hear_flood(OTHERS[1], Suspected(OTHERS[0].peer_id, 0), now, 5)
    assert rig.peer.next_deadline < due


def test_a_sum_is_not_looked_after_where_messages_are_only_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(0.0)
    now = PROMISE.start + 1.0
    far = PeerId("far")
    rig.neighbours[far] = None
    rig.run(0.0, now)
    part = rig.peer.sum_peer(POPULARITY)
    assert part is not None
    monkeypatch.setattr(part, "tick", lambda *_: pytest.fail("there is nothing to do in the sum"))
    rig.sent.clear()
    rig.hear_enrolments(OTHERS[:4], now)
    rig.run(now, now + 0.1 * PROMISE.notice_s)
    passed_on = [one for to, frame in rig.sent if to == far and isinstance(frame, Relays) for one in frame.roll]
    assert sum(len(part.enrolled) for part in passed_on) == 4


def test_only_who_knows_the_word_has_contributed() -> None:
    """And what is not the word of whoever is said to have said so is not passed on."""
    rig = Rig(0.0)
    now, far, word = PROMISE.start + 1.0, PeerId("far"), bytes(range(32))
    rig.neighbours[far] = None
    rig.run(0.0, now)
    for token, other in enumerate(OTHERS[:2]):
        rig.hear_flood(other, Enrol(bytes(range(32)), hashlib.sha256(word).digest()), now, token)
    rig.run(now, now + 2)
    rig.sent.clear()
    rig.hear_flood(OTHERS[0], Contributes(word), now + 2, 10)
    rig.hear_flood(OTHERS[1], Contributes(bytes(32)), now + 2, 11)
    rig.run(now + 2, now + 4)
    part = rig.peer.sum_peer(POPULARITY)
    assert part is not None
    assert part.contributors == {OTHERS[0].peer_id}
    sent = [frame for to, frame in rig.sent if to == far and isinstance(frame, Relays)]
    passed_on = [one.origin for frame in sent for part in frame.roll for one in part.contributed]
    assert passed_on == [OTHERS[0].peer_id]


def test_a_peer_that_is_cut_off_holds_nobody_for_dead() -> None:
    rig = Rig(0.0)
    now = PROMISE.start + 1.0
    rig.run(0.0, now)
    rig.hear_flood(OTHERS[0], Enrol(bytes(range(32)), bytes(32)), now)
    rig.neighbours.clear()
    rig.peer.lost(NEIGHBOUR, now)
    rig.run(now, now + 50)
    part = rig.peer.sum_peer(POPULARITY)
    assert part is not None
    assert not part.dead
    assert not any(isinstance(message, Suspected) for message in rig.flooded())


def test_who_has_long_nothing_to_do_has_not_stood_still() -> None:
    """Whom it suspects it holds for dead after a notice, like everybody else: alone, or late, it would restore somebody twice."""
    rig = Rig(0.0)
    begun = PROMISE.start + 1.0
    rig.run(0.0, begun)
    rig.hear_flood(OTHERS[0], Enrol(bytes(range(32)), bytes(32)), begun)
    quiet = PROMISE.start + PROMISE.recover_s + 3 * PROMISE.notice_s
    rig.run(begun, quiet)
    part = rig.peer.sum_peer(POPULARITY)
    assert part is not None
    rig.hear_flood(OTHERS[1], Suspected(OTHERS[0].peer_id, 0), quiet)
    rig.run(quiet, quiet + 0.99 * PROMISE.notice_s)
    assert not part.dead
    rig.run(quiet + PROMISE.notice_s, quiet + PROMISE.notice_s)
    assert part.dead == {OTHERS[0].peer_id}


# --- results ---


def result(number: int = POPULARITY) -> Result:
    rng = np.random.default_rng(2)
    outcome = SumOutcome(rng.normal(0.1, 0.01, COUNTS[number]).astype(np.float32), 60, 0.01)
    plan = PLAN.popularity if number == POPULARITY else PLAN.pairs
    return as_result(outcome, plan, np.arange(N_SELECTED) if number == PAIRS else None)


def test_a_newcomer_asks_and_follows() -> None:
    late = PROMISE.end_of(PAIRS) + 100
    rig = Rig(late)
    rig.run(late, late + 1)
    asked = [message for _, message in rig.sent if isinstance(message, InSum)]
    assert [(one.number, type(one.message)) for one in asked] == [(POPULARITY, ResultRequest)]
    rig.hear(result(), late + 2)
    rig.run(late + 2, late + 30)
    rig.hear(result(PAIRS), late + 31, PAIRS)
    assert sorted(rig.peer.results) == [POPULARITY, PAIRS]
    assert not rig.peer.results[POPULARITY].is_own
    assert rig.peer.results[POPULARITY].mean == pytest.approx(
        np.random.default_rng(2).normal(0.1, 0.01, N_ITEMS).astype(np.float32), abs=1e-3
    )
    assert rig.peer.selected is not None
    assert rig.peer.expected is not None


def test_a_result_that_nobody_asked_for_is_ignored() -> None:
    rig = Rig(0.0)
    rig.run(0.0, PROMISE.start - 10.0)
    rig.hear(result(), PROMISE.start - 5.0)
    assert rig.peer.results == {}


def test_results_are_told_now_and_then_at_most() -> None:
    late = PROMISE.end_of(PAIRS) + 100
    rig = Rig(late)
    assert rig.hear(ResultRequest(), late) == []
    rig.run(late, late + 1)
    rig.hear(result(), late + 2)
    assert len(rig.hear(ResultRequest(), late + 3)) == 1
    assert rig.hear(ResultRequest(), late + 3 + PROMISE.answer_s - 0.1) == []
    assert len(rig.hear(ResultRequest(), late + 3 + PROMISE.answer_s)) == 1
    assert rig.hear(ResultRequest(), late + 4, PAIRS) == []


# --- hostile ---


def test_deposits_of_strangers_are_not_kept() -> None:
    rig = Rig(0.0)
    now = PROMISE.start + 1.0
    rig.run(0.0, now)
    rig.hear(Deposit(share()), now)
    part = rig.peer.sum_peer(POPULARITY)
    assert part is not None
    assert not part.value.has_deposit(NEIGHBOUR)
    rig.hear_flood(OTHERS[0], Enrol(bytes(range(32)), bytes(32)), now)
    rig.hear(Deposit(share()), now)
    assert part.value.has_deposit(NEIGHBOUR)


def test_deposits_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2prec.peer.inheritance.MAX_DEPOSITS", 2)
    monkeypatch.setattr("p2prec.peer.sum_boxes.MAX_DEPOSITS", 2)
    assert MAX_DEPOSITS == 64
    rig = Rig(0.0)
    now = PROMISE.start + 1.0
    rig.run(0.0, now)
    part = rig.peer.sum_peer(POPULARITY)
    assert part is not None
    rig.hear_enrolments(OTHERS[:5], now)
    for other in OTHERS[:5]:
        part.receive(other.peer_id, Deposit(share()), now)
        part.receive(other.peer_id, Sealed(b"box", 3), now)
    assert sum(part.value.has_deposit(other.peer_id) for other in OTHERS) == 2
