"""The course of a swarm: who meets whom, in what order, and what goes wrong."""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby, pairwise

import numpy as np
import pytest
from lab_people import crowd, rng

from p2prec.lab import topology
from p2prec.lab.schedule import Conditions, Fate, Meeting, Schedule, disjoint_batches, independent_batches
from p2prec.lab.swarm import everyone
from p2prec.peer.pace import OFFER_ATTEMPTS

N_PEERS = 24
VIEWS = topology.neighbours("random", crowd(N_PEERS), rng(1), degree=3)


def schedule(drop: float = 0.0, online: float = 1.0, n_parts: int = 1, seed: int = 5) -> Schedule:
    return Schedule(VIEWS, n_parts, Conditions(drop, online), rng(seed))


def by_initiator(meetings: list[Meeting]) -> dict[int, list[Meeting]]:
    found = defaultdict(list)
    for meeting in meetings:
        found[meeting.initiator].append(meeting)
    return found


@pytest.mark.parametrize("n_parts", [1, 3])
def test_everybody_begins_once_a_round_and_exchanges_every_part(n_parts: int) -> None:
    course = schedule(n_parts=n_parts)
    orders = []
    for _ in range(20):
        meetings = course.round()
        orders.append([meeting.initiator for meeting in meetings if meeting.begins])
        assert sorted(orders[-1]) == list(range(N_PEERS))
        for peer, own in by_initiator(meetings).items():
            assert [meeting.part for meeting in own] == list(range(n_parts))
            assert [meeting.begins for meeting in own] == [True] + [False] * (n_parts - 1)
            assert all(meeting.responder in VIEWS[peer] and meeting.fate is Fate.APPLIED for meeting in own)
        # One peer's exchanges follow each other: the first begins when nobody else is under way.
        assert [peer for peer, _ in groupby(meeting.initiator for meeting in meetings)] == orders[-1]
    assert len({tuple(order) for order in orders}) == 20


def test_neighbours_are_drawn_alike() -> None:
    course, counts = Schedule(everyone(6), 1, Conditions(), rng()), np.zeros((6, 6))
    for _ in range(600):
        for meeting in course.round():
            counts[meeting.initiator, meeting.responder] += 1
    assert not counts.diagonal().any()
    np.testing.assert_allclose(counts[~np.eye(6, dtype=bool)], 120, atol=45)


@pytest.mark.parametrize("n_parts", [1, 3])
def test_what_fails_is_tried_again_with_others_and_then_left_alone(n_parts: int) -> None:
    course, given_up = schedule(drop=0.5, n_parts=n_parts), 0
    for _ in range(40):
        for own in by_initiator(course.round()).values():
            failures = [meeting for meeting in own if meeting.fate is not Fate.APPLIED]
            assert len(failures) <= OFFER_ATTEMPTS
            assert [meeting.begins for meeting in own] == [True] + [False] * (len(own) - 1)
            for meeting, after in pairwise(own):
                if meeting.fate is Fate.APPLIED:
                    assert after.part == meeting.part + 1
                else:
                    assert after.part == meeting.part
                    assert after.responder != meeting.responder
            if len(failures) == OFFER_ATTEMPTS:
                assert own[-1] is failures[-1]
                given_up += 1
            elif own[-1].fate is Fate.APPLIED:
                assert own[-1].part == n_parts - 1
    assert given_up > 0


def test_others_come_before_a_second_attempt() -> None:
    meetings = schedule(drop=0.5).round()
    firsts = [meeting.begins for meeting in meetings]
    assert firsts == sorted(firsts, reverse=True) and not all(firsts)


def test_messages_are_lost_as_often_as_is_said() -> None:
    course = schedule(drop=0.3)
    fates = [meeting.fate for _ in range(150) for meeting in course.round()]
    assert np.mean([fate is Fate.OFFER_LOST for fate in fates]) == pytest.approx(0.3, abs=0.02)
    assert np.mean([fate is Fate.ANSWER_LOST for fate in fates]) == pytest.approx(0.7 * 0.3, abs=0.02)


def test_the_absent_meet_nobody_and_come_back() -> None:
    course, shares, changes = schedule(online=0.5), [], 0
    before = course.present.copy()
    for _ in range(300):
        present = {*np.flatnonzero(before).tolist()}
        meetings = course.round()
        present = {*np.flatnonzero(course.present).tolist()}
        assert all(meeting.initiator in present and meeting.responder in present for meeting in meetings)
        shares.append(len(present) / N_PEERS)
        changes += int((course.present != before).sum())
        before = course.present.copy()
    assert np.mean(shares) == pytest.approx(0.5, abs=0.07)
    assert changes / (300 * N_PEERS) == pytest.approx(0.1, abs=0.03)  # presences and absences of ten rounds


def test_the_same_seed_draws_the_same_course() -> None:
    courses = [[schedule(0.2, 0.7, 2, seed).round() for _ in range(3)] for seed in (5, 5, 6)]
    assert courses[0] == courses[1] != courses[2]


@pytest.mark.parametrize("n_parts", [1, 3])
def test_nothing_goes_wrong_as_it_does_where_something_might(n_parts: int) -> None:
    """Both ways of drawing a round draw the same numbers."""
    views = [np.array([1, 2]), np.array([0]), np.array([0, 1, 3]), np.array([2]), np.empty(0, np.int64)]
    quick, slow = (Schedule(views, n_parts, Conditions(), rng()) for _ in range(2))
    slow._undisturbed = lambda peers: slow._disturbed(peers, everyone=True)  # type: ignore[method-assign]
    for _ in range(20):
        assert quick.round() == slow.round() != []


def test_a_peer_without_neighbours_does_nothing() -> None:
    views = [np.array([1]), np.array([0]), np.empty(0, np.int64)]
    assert {meeting.initiator for meeting in Schedule(views, 1, Conditions(), rng()).round()} == {0, 1}


def test_batches_are_disjoint_and_keep_every_peers_order() -> None:
    pairs = np.array([[0, 1], [2, 3], [1, 2], [4, 0], [3, 4], [0, 1]])
    meetings = [Meeting(int(one), int(other), 0, begins=True) for one, other in pairs]
    of_pairs = [batch.tolist() for batch in disjoint_batches(pairs)]
    of_meetings = [
        [list(meetings[at].pair) for at in batch] for batch in independent_batches(one.pair for one in meetings)
    ]
    assert of_pairs == of_meetings == [[[0, 1], [2, 3]], [[1, 2], [4, 0]], [[3, 4], [0, 1]]]
    order = [pair for batch in of_pairs for pair in batch]
    for peer in range(5):
        assert [p for p in order if peer in p] == [p for p in pairs.tolist() if peer in p]
    assert disjoint_batches(np.empty((0, 2), np.int64)) == independent_batches([]) == []
