"""Who could restore what of a dead peer."""

from __future__ import annotations

import numpy as np
import pytest

from p2prec.peer.inheritance import MAX_WITNESSED, RECENT, Claim, Trace, WitnessBook
from p2prec.peer.private_sum import FINE_EXCHANGES, MAX_FINE, PrivateSum
from p2prec.privacy.plan import PrivacyPlan
from p2prec.privacy.stream import NoiseStream
from p2prec.types import PeerId

OWN, DEAD, OTHER = PeerId("own"), PeerId("dead"), PeerId("other")
PLAN = PrivacyPlan.of(8.0, 1e-5, 60).pairs
COUNT = 100


def numbered(number: int) -> PeerId:
    return PeerId(f"peer{number}")


def test_what_is_passed_on_is_claimed_as_if_it_had_been_seen() -> None:
    book: WitnessBook[str] = WitnessBook()
    book.exchanged(DEAD, Trace(3, None, 0), "seen at 4", "offered")
    book.passed_on(DEAD, Trace(6, OTHER, 9), True, "told at 6")
    assert book.claim(DEAD, OWN) == Claim(6, True, OWN)
    assert book.claim(OTHER, OWN) == Claim(9, True, OWN), "the sender held the same"
    assert book.take(DEAD) == "told at 6"
    assert book.claim(DEAD, OWN) is None


def test_of_one_state_what_this_peer_has_seen_itself_counts() -> None:
    book: WitnessBook[str] = WitnessBook()
    book.passed_on(DEAD, Trace(4, None, 0), True, "told")
    book.exchanged(DEAD, Trace(3, None, 0), "seen", "offered")
    assert book.take(DEAD) == "seen"


def test_nobody_can_drive_out_what_this_peer_has_seen() -> None:
    book: WitnessBook[str] = WitnessBook()
    book.exchanged(DEAD, Trace(3, None, 0), "seen", "offered")
    for number in range(MAX_WITNESSED + 1):
        book.passed_on(numbered(number), Trace(1, None, 0), True, "told")
    assert book.claim(DEAD, OWN) == Claim(4, True, OWN)
    assert book.claim(numbered(0), OWN) is None
    assert book.claim(numbered(1), OWN) == Claim(1, True, OWN)


def test_what_was_claimed_is_kept_until_it_is_taken_over() -> None:
    book: WitnessBook[str] = WitnessBook()
    book.exchanged(DEAD, Trace(3, None, 0), "seen", "offered")
    assert book.claim(DEAD, OWN) == Claim(4, True, OWN)
    for number in range(MAX_WITNESSED + 1):
        book.exchanged(numbered(number), Trace(1, None, 0), "seen later", "offered")
    book.passed_on(DEAD, Trace(9, None, 0), True, "told later")
    assert book.take(DEAD) == "seen", "others undo by what was claimed, not by what is known since"
    book.claim(numbered(MAX_WITNESSED), OWN)
    book.forget_exchanges()
    assert book.claim(numbered(MAX_WITNESSED), OWN) is None


def test_only_the_latest_notes_are_recent() -> None:
    book: WitnessBook[str] = WitnessBook()
    book.exchanged(DEAD, Trace(3, None, 0), "seen", "offered")
    for number in range(RECENT - 1):
        assert book.recent(DEAD) == (4, True, "seen")
        book.exchanged(numbered(number), Trace(0, None, 0), "seen", "offered")
    assert book.recent(DEAD) == (4, True, "seen")
    book.exchanged(OTHER, Trace(0, None, 0), "seen", "offered")
    assert book.recent(DEAD) is None
    assert book.claim(DEAD, OWN) is not None
    assert book.recent(PeerId("a stranger")) is None


def test_a_deposit_is_the_last_resort() -> None:
    book: WitnessBook[str] = WitnessBook()
    book.deposited(DEAD, Trace(1, None, 0), "deposit")
    book.passed_on(DEAD, Trace(2, None, 0), False, "told")
    assert book.take(DEAD) == "told"
    assert book.take(DEAD) == "deposit"
    with pytest.raises(KeyError):
        book.take(OTHER)


# --- with values ---


def contributing(peer: PeerId, count: int = COUNT) -> PrivateSum:
    value = PrivateSum(peer, count, PLAN)
    keys = {numbered(n): bytes([n]) * 32 for n in range(12)}
    value.contribute(np.zeros(count, np.float32), keys, NoiseStream(peer.encode().ljust(32)))
    return value


def exchange(one: PrivateSum, other: PrivateSum) -> None:
    sent, received = one.outgoing(), other.outgoing()
    one.apply(other.own_id, sent, received)
    other.apply(one.own_id, received, sent)


def test_a_third_peer_restores_both_of_a_pair_that_has_died() -> None:
    dead, witness, third = contributing(DEAD), contributing(OTHER), contributing(OWN)
    exchange(dead, witness)
    passed = witness.pass_on(DEAD)
    assert passed is not None
    direct, share = passed
    assert direct
    assert share.trace == Trace(dead.changes, OTHER, witness.changes)
    third.keep_passed_on(DEAD, direct, share)
    weight = third.weight
    begun = third.mean() * weight
    held = dead.mean() * dead.weight + witness.mean() * witness.weight
    for gone in (DEAD, OTHER):
        claim = third.claim(gone)
        assert claim is not None and claim.direct
        third.inherit(gone)
    assert third.weight == pytest.approx(weight + 2)
    # What is missing is what both sides rounded away.
    assert np.abs(third.mean() * third.weight - begun - held).max() < 1e-3 * np.abs(held).max()


def test_whoever_has_moved_on_does_not_say_that_it_holds_the_same() -> None:
    dead, witness = contributing(DEAD), contributing(OTHER)
    exchange(dead, witness)
    exchange(witness, contributing(OWN))
    passed = witness.pass_on(DEAD)
    assert passed is not None
    assert passed[1].trace == Trace(dead.changes, None, 0)
    assert witness.pass_on(PeerId("a stranger")) is None


def test_the_first_exchanges_have_sixteen_bits() -> None:
    one, other = contributing(OWN), contributing(OTHER)
    for number in range(FINE_EXCHANGES + 2):
        kind = one.outgoing().value.levels.dtype
        assert kind == (np.int16 if number < FINE_EXCHANGES else np.int8)
        exchange(one, other)
    assert one.contribution().value.levels.dtype == np.int16


def test_a_sum_that_would_not_fit_into_a_frame_has_eight_bits_throughout() -> None:
    for count, kind in ((MAX_FINE, np.int16), (MAX_FINE + 1, np.int8)):
        assert PrivateSum(OWN, count, PLAN).outgoing().value.levels.dtype == kind
