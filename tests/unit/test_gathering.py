"""By whom words about the dead are gathered, and what waits meanwhile."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from p2prec.identity import Identity
from p2prec.peer.gathering import HOLD, PATIENCE, Gathering, Words, gathering
from p2prec.peer.sum_messages import MAX_HOPS, Claimed, Letter, Relayed
from p2prec.peer.sum_times import Timetable
from p2prec.types import PeerId

SUM, NOTICE_S, START = 1, 10.0, 1000.0
UNHURRIED = Timetable(start=START, enrol_s=600.0, contribute_s=660.0, recover_s=760.0, end_s=1100.0, notice_s=NOTICE_S)
HURRIED = Timetable(start=START, contribute_s=120.0, recover_s=170.0, notice_s=NOTICE_S)
MEMBERS = sorted(Identity.from_seed(bytes([n]) * 32).peer_id for n in range(1, 31))
BEAT = START + 700.0


def at(now: float, *, out: frozenset[PeerId] = frozenset(), members: list[PeerId] = MEMBERS) -> Gathering | None:
    return gathering(SUM, UNHURRIED, members, out.__contains__, now)


def test_each_beat_has_a_collector_for_as_long_as_it_lasts() -> None:
    first = at(BEAT)
    assert first == Gathering(first.collector, BEAT + HOLD * NOTICE_S, BEAT + PATIENCE * NOTICE_S) if first else False
    assert at(BEAT + 1.8 * NOTICE_S) == first
    later = at(BEAT + 1.95 * NOTICE_S)
    assert later is not None, "a clock that is behind is at the next beat already"
    assert later.until == BEAT + (2 + HOLD) * NOTICE_S


def test_it_is_another_each_time() -> None:
    collectors = Counter(
        one.collector for beat in range(600) if (one := at(START + beat * UNHURRIED.beat_s)) is not None
    )
    assert len(collectors) > 0.8 * len(MEMBERS)
    assert max(collectors.values()) < 200
    other_sum = gathering(2, UNHURRIED, MEMBERS, lambda _: False, BEAT)
    assert other_sum is not None
    assert other_sum != at(BEAT)


def test_those_who_know_other_dead_find_the_same_unless_it_is_one_of_them() -> None:
    first = at(BEAT)
    assert first is not None
    others = [member for member in MEMBERS if member != first.collector]
    assert at(BEAT, out=frozenset(others[:5])) == first
    assert at(BEAT, members=sorted([*others[3:], first.collector])) == first
    second = at(BEAT, out=frozenset({first.collector}))
    assert second is not None
    assert second.collector in others
    assert second == at(BEAT, members=others)


def test_nobody_gathers_in_haste_or_before_the_sum_or_where_nobody_is_left() -> None:
    assert gathering(SUM, HURRIED, MEMBERS, lambda _: False, BEAT) is None
    assert at(START - 2.0) is None
    assert at(BEAT, out=frozenset(MEMBERS)) is None
    assert at(BEAT, members=[]) is None


def word(n: int, number: int = SUM) -> tuple[Relayed, Letter]:
    message = Claimed(MEMBERS[1], n, True)
    relayed = Relayed(MEMBERS[0], None, number, bytes(8), MAX_HOPS, 13, b"", bytes([n]) * 64)
    return relayed, Letter(MEMBERS[0], number, message)


def test_words_wait_until_they_are_due() -> None:
    words = Words()
    assert words.due == math.inf
    words.wait_for(*word(1), 6.0)
    words.hold(*word(2), 3.0)
    words.hold(*word(3), 3.0)
    assert words.due == 3.0
    assert words.take(2.9) == []
    assert words.take(3.0) == [word(2), word(3)]
    assert words.due == 6.0
    assert words.take(6.0) == [word(1)]
    assert words.due == math.inf


def test_what_has_come_back_is_not_waited_for_and_nothing_else_counts_as_that() -> None:
    words = Words()
    (relayed, letter), (other, _) = word(1), word(2)
    words.wait_for(relayed, letter, 6.0)
    assert not words.came_back(other)
    assert not words.came_back(relayed.one_hop_on()), "on its way to the collector"
    assert not words.came_back(Relayed(MEMBERS[0], None, SUM, bytes(8), MAX_HOPS, 13, b"changed", relayed.signature))
    assert words.came_back(relayed)
    assert not words.came_back(relayed)
    assert words.take(math.inf) == []


@pytest.mark.parametrize("number", [1, 2])
def test_a_sum_that_is_over_leaves_nothing(number: int) -> None:
    words = Words()
    for each in (1, 2):
        words.hold(*word(each, each), 3.0)
        words.wait_for(*word(each + 2, each), 6.0)
    words.forget(number)
    assert [relayed.number for relayed, _ in words.take(math.inf)] == [3 - number] * 2
