"""Who is held for dead, and when."""

from __future__ import annotations

import numpy as np

from p2prec.peer.deaths import DeathWatch
from p2prec.peer.sum_messages import Alive, Suspected
from p2prec.peer.sum_times import Timetable
from p2prec.types import PeerId

OWN, OTHER = PeerId("own"), PeerId("other")
NOTICE_S = 10.0
HURRIED = Timetable(start=0.0, contribute_s=120.0, recover_s=170.0, notice_s=NOTICE_S)
"""Nothing waits for a beat."""
UNHURRIED = Timetable(start=0.0, enrol_s=600.0, contribute_s=660.0, recover_s=760.0, end_s=1100.0, notice_s=NOTICE_S)


def watch(times: Timetable = HURRIED) -> DeathWatch:
    return DeathWatch(OWN, times, np.random.default_rng(1))


def test_a_neighbour_that_comes_back_soon_is_not_suspected() -> None:
    one = watch()
    one.lost(OTHER, 0.0)
    assert one.suspicions(NOTICE_S * 0.49) == []
    one.met(OTHER)
    assert one.suspicions(1000.0) == []


def test_one_that_does_not_is_suspected_once_and_dead_a_notice_later() -> None:
    one = watch()
    one.lost(OTHER, 0.0)
    at = one.due()
    assert NOTICE_S / 2 <= at <= NOTICE_S
    assert one.suspicions(at) == [Suspected(OTHER, 0)]
    assert one.suspicions(at + 1) == []
    assert one.dead(at + NOTICE_S - 0.01) == []
    assert one.dead(at + NOTICE_S) == [OTHER]
    assert one.dead(at + 2 * NOTICE_S) == []


def test_who_was_suspected_aloud_is_not_suspected_again() -> None:
    one = watch()
    one.lost(OTHER, 0.0)
    one.on_suspected(Suspected(OTHER, 0), 1.0)
    assert one.suspicions(NOTICE_S) == []
    assert one.dead(1.0 + NOTICE_S) == [OTHER]


def test_a_contradiction_beats_the_suspicion_even_if_that_comes_later() -> None:
    one = watch()
    one.on_suspected(Suspected(OTHER, 0), 0.0)
    one.on_alive(OTHER, Alive(1))
    one.on_suspected(Suspected(OTHER, 0), 1.0)
    assert one.dead(1000.0) == []
    one.on_suspected(Suspected(OTHER, 1), 1000.0)
    assert one.dead(1000.0 + NOTICE_S) == [OTHER]


def test_an_old_contradiction_does_not_help() -> None:
    one = watch()
    one.on_alive(OTHER, Alive(1))
    one.on_suspected(Suspected(OTHER, 1), 0.0)
    one.on_alive(OTHER, Alive(1))
    assert one.dead(NOTICE_S) == [OTHER]


def test_a_peer_contradicts_each_suspicion_once() -> None:
    one = watch()
    said = []
    for at, incarnation in ((0.0, 0), (1.0, 0), (3.0, 1)):
        one.on_suspected(Suspected(OWN, incarnation), at)
        said += one.contradictions(at)
    assert said == [Alive(1), Alive(2)]
    assert one.dead(1000.0) == []


def test_a_peer_contradicts_a_few_times_a_notice_at_most() -> None:
    one, said = watch(), []
    for tenth in range(int(10 * NOTICE_S)):
        one.on_suspected(Suspected(OWN, 65_535), tenth / 10)
        said += one.contradictions(tenth / 10)
    assert said == [Alive(1), Alive(2), Alive(3), Alive(4)]
    assert one.due() == NOTICE_S


def test_the_buried_are_forgotten() -> None:
    one = watch()
    one.lost(OTHER, 0.0)
    one.on_suspected(Suspected(PeerId("third"), 0), 0.0)
    for peer in (OTHER, PeerId("third")):
        one.forget(peer)
    assert one.due() == float("inf")


def test_who_was_cut_off_gives_all_others_their_time_again() -> None:
    one = watch()
    one.lost(OTHER, 0.0)
    one.on_suspected(Suspected(PeerId("third"), 0), 0.0)
    one.excuse(100.0)
    assert one.suspicions(100.0) == []
    assert one.dead(100.0) == []
    one.on_alive(PeerId("third"), Alive(1))
    assert one.dead(1000.0) == []
    assert one.suspicions(100.0 + NOTICE_S / 2) == [Suspected(OTHER, 0)]


def test_a_made_up_number_beats_no_contradiction() -> None:
    one = watch()
    one.on_suspected(Suspected(OTHER, 60_000), 0.0)
    one.on_alive(OTHER, Alive(1))
    assert one.dead(1000.0) == []
    one.on_suspected(Suspected(OWN, 65_535), 0.0)
    assert one.contradictions(0.0) == [Alive(1)]


def test_a_suspicion_is_passed_on_once_and_again_with_a_higher_number() -> None:
    one = watch()
    assert one.is_news(Suspected(OTHER, 0))
    one.on_suspected(Suspected(OTHER, 0), 0.0)
    assert not one.is_news(Suspected(OTHER, 0))
    assert one.is_news(Suspected(OTHER, 1))
    one.on_suspected(Suspected(OTHER, 1), 0.0)
    assert not one.is_news(Suspected(OTHER, 1))
    one.on_alive(OTHER, Alive(1))
    assert one.is_news(Suspected(OTHER, 1))


def test_what_was_contradicted_is_no_news() -> None:
    one = watch()
    one.on_alive(OTHER, Alive(2))
    assert not one.is_news(Suspected(OTHER, 1))
    assert one.is_news(Suspected(OTHER, 2))


def test_what_is_gathered_is_news_until_somebody_has_told_everybody() -> None:
    one = watch(UNHURRIED)
    one.lost(OTHER, 700.0)
    (suspicion,) = one.suspicions(720.0)
    assert one.is_news(suspicion)
    one.on_suspected(suspicion, 724.0)
    assert not one.is_news(suspicion)


def test_what_is_said_of_this_peer_is_always_passed_on() -> None:
    one = watch()
    one.on_suspected(Suspected(OWN, 0), 0.0)
    assert one.is_news(Suspected(OWN, 0))


def test_who_has_died_since_the_last_beat_is_suspected_at_the_next_by_all() -> None:
    one, other = watch(UNHURRIED), watch(UNHURRIED)
    one.lost(OTHER, 701.0)
    other.lost(PeerId("third"), 707.0)
    assert one.due() == other.due() == 720.0
    assert one.suspicions(720.0) == [Suspected(OTHER, 0)]
    other.on_suspected(Suspected(OTHER, 0), 723.5)
    # Whoever has said so and whoever has heard it later, or by a clock that is behind, believes it at the same moment.
    early = watch(UNHURRIED)
    early.on_suspected(Suspected(OTHER, 0), 719.0)
    for peer in (one, other, early):
        assert peer.dead(739.9) == []
        assert peer.dead(740.0) == [OTHER]


def test_nobody_is_suspected_while_others_enrol() -> None:
    one = watch(UNHURRIED)
    one.lost(OTHER, 3.0)
    assert one.due() == 560.0
    one.met(OTHER)
    assert one.suspicions(1000.0) == []


def test_who_was_cut_off_believes_a_beat_later() -> None:
    one = watch(UNHURRIED)
    one.on_suspected(Suspected(OTHER, 0), 720.5)
    one.excuse(739.0)
    assert one.dead(740.0) == []
    assert one.dead(760.0) == [OTHER]
