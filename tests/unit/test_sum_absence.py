"""Partners that never contributed: whom a peer believes that somebody is absent, or that a mask is out."""

from __future__ import annotations

import pytest

from p2prec.peer.sum_absence import Absence
from p2prec.peer.sum_messages import Enrol, Returned, Seen, TakenOut, proven
from p2prec.peer.sum_roster import Roster
from p2prec.privacy.escrow import THRESHOLD, split
from p2prec.types import PeerId, SwarmId

OWN, *OTHERS = (PeerId(f"peer{n:02}") for n in range(20))
ABSENT, OWNER, *REST = OTHERS


def forged() -> bool:
    return False


def must_not_be_asked() -> bool:
    raise AssertionError("verified, though it does not matter yet")


@pytest.fixture
def absence() -> Absence:
    """Of a peer in a swarm so small that all mask with all; two of them are dead, and this peer holds shares of one."""
    roster = Roster(OWN, SwarmId(bytes(32)), 1, n_people=20)
    for peer in OTHERS:
        roster.on_enrol(peer, Enrol(bytes(range(32)), bytes(32)))
    roster.escrowed[OWNER] = {ABSENT: (1, bytes(32))}
    absence = Absence(OWN, roster, {ABSENT, OWNER})
    absence.restored[OWNER] = 5
    return absence


def say_silent(absence: Absence, speakers: list[PeerId], proof: object = proven) -> None:
    for speaker in speakers:
        absence.on_seen(speaker, Seen(frozenset(), frozenset({ABSENT})), proof)  # type: ignore[arg-type]


QUORUM = (19 + 3) // 2 + 1


def test_a_quorum_of_partners_makes_a_peer_absent(absence: Absence) -> None:
    say_silent(absence, REST[: QUORUM - 1])
    assert not absence.is_absent(ABSENT)
    say_silent(absence, REST[QUORUM - 1 : QUORUM])
    assert absence.is_absent(ABSENT)


def test_forged_words_make_nobody_absent_and_own_ones_still_count_after_them(absence: Absence) -> None:
    """Otherwise somebody who has seen the value of a peer could have its masks taken out."""
    say_silent(absence, REST, forged)
    assert not absence.is_absent(ABSENT)
    say_silent(absence, REST, forged)
    say_silent(absence, REST[:QUORUM])
    assert absence.is_absent(ABSENT)


def test_words_about_partners_that_live_or_are_too_few_are_not_verified(absence: Absence) -> None:
    say_silent(absence, REST[: QUORUM - 1], must_not_be_asked)
    assert not absence.is_absent(ABSENT)
    for speaker in REST:
        absence.on_seen(speaker, Seen(frozenset(), frozenset({REST[0]})), must_not_be_asked)
    assert not absence.is_absent(REST[0])


def test_whose_value_somebody_has_seen_is_not_absent_unless_that_is_forged(absence: Absence) -> None:
    say_silent(absence, REST[:QUORUM])
    absence.on_seen(REST[-1], Seen(frozenset({ABSENT}), frozenset()), forged)
    assert absence.is_absent(ABSENT)
    absence.on_seen(REST[-1], Seen(frozenset({ABSENT}), frozenset()), proven)
    assert not absence.is_absent(ABSENT)


@pytest.mark.parametrize(("changes", "is_given_back"), [(4, False), (5, False), (6, True)])
def test_shares_are_given_back_of_masks_that_are_in_what_was_restored(
    absence: Absence, changes: int, is_given_back: bool
) -> None:
    """The owner was restored after five changes."""
    say_silent(absence, REST[:QUORUM])
    absence.took_out(OWNER, TakenOut(OWNER, ABSENT, changes))
    assert bool(absence.to_return(OWNER)) == is_given_back


def test_who_forges_that_a_mask_is_out_keeps_nobody_from_taking_it_out(absence: Absence) -> None:
    say_silent(absence, REST[:QUORUM])
    absence.took_out(OWNER, TakenOut(OWNER, ABSENT, 1), forged)
    assert [(one.owner, one.absent) for one in absence.to_return(OWNER)] == [(OWNER, ABSENT)]


def test_a_mask_is_out_if_one_of_those_who_say_so_lives(absence: Absence) -> None:
    absence._dead.add(REST[0])  # type: ignore[attr-defined]
    absence.took_out(REST[1], TakenOut(OWNER, ABSENT, 1), forged)
    absence.took_out(REST[0], TakenOut(OWNER, ABSENT, 7))
    assert absence._is_corrected(OWNER, ABSENT)  # as far as is known: nobody has restored it yet
    absence.restored[REST[0]] = 6
    assert not absence._is_corrected(OWNER, ABSENT)
    absence.took_out(REST[2], TakenOut(OWNER, ABSENT, 1))
    assert absence._is_corrected(OWNER, ABSENT)


KEY = bytes(range(32))
SHARES = split(KEY, len(REST))


def give_back(absence: Absence, speakers: list[PeerId], proof: object = proven) -> None:
    for number, speaker in enumerate(speakers, 1):
        absence.on_returned(speaker, Returned(OWNER, ABSENT, number, SHARES[number]), proof)  # type: ignore[arg-type]


def test_the_first_living_partner_puts_a_key_together_from_genuine_shares(absence: Absence) -> None:
    """OWN is the first by its id; of forged shares there may be any number, and they keep nobody's place."""
    say_silent(absence, REST[:QUORUM])
    give_back(absence, REST[:THRESHOLD], forged)
    assert absence.to_take_out() == []
    give_back(absence, REST[: THRESHOLD - 1])
    assert absence.to_take_out() == []
    give_back(absence, REST[:THRESHOLD])
    assert absence.to_take_out() == [(OWNER, ABSENT, KEY)]
    assert absence.to_take_out() == []


def test_whose_part_it_is_not_to_take_a_mask_out_verifies_nothing_of_it() -> None:
    roster = Roster(REST[-1], SwarmId(bytes(32)), 1, n_people=20)
    for peer in (OWN, *OTHERS[:-1]):
        roster.on_enrol(peer, Enrol(bytes(range(32)), bytes(32)))
    dead = {ABSENT, OWNER}
    absence = Absence(REST[-1], roster, dead)
    absence.restored[OWNER] = 5
    say_silent(absence, [OWN, *REST[:-1]], must_not_be_asked)
    give_back(absence, REST[:-1], must_not_be_asked)
    assert absence.to_take_out() == []


def test_shares_of_a_key_come_from_partners_of_its_owner(absence: Absence) -> None:
    say_silent(absence, REST[:QUORUM])
    for number in range(1, THRESHOLD + 1):
        absence.on_returned(PeerId(f"stranger{number}"), Returned(OWNER, ABSENT, number, SHARES[number]))
    assert absence.to_take_out() == []
