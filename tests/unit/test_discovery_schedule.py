"""When a peer speaks on the multicast network."""

from __future__ import annotations

from itertools import islice
from random import Random

import pytest

from p2prec.discovery.schedule import JITTER, QUESTION_INTERVALS_S, announcement_delays, question_delays

RECORD_TTL_S = 4500.0
SEEDS = range(20)


@pytest.mark.parametrize("seed", SEEDS)
def test_announcements_are_as_the_standard_allows(seed: int) -> None:
    """RFC 6762, 8.3: two to eight, the second a second after the first, then at intervals that at least double."""
    first, *intervals = announcement_delays(Random(seed))
    assert first < 0.2
    assert 2 <= 1 + len(intervals) <= 8
    assert intervals[0] >= 1.0
    for number, interval in enumerate(intervals):
        assert 2**number <= interval <= JITTER * 2**number


@pytest.mark.parametrize("seed", SEEDS)
def test_everybody_is_heard_twice_within_a_minute_of_anybodys_start(seed: int) -> None:
    """A peer that starts up to half a minute after another hears of it without asking."""
    delays = list(announcement_delays(Random(seed)))
    moments = [sum(delays[: n + 1]) for n in range(len(delays))]
    for late_s in range(31):
        assert len([moment for moment in moments if late_s < moment <= late_s + 60]) >= 2


@pytest.mark.parametrize("seed", SEEDS)
def test_questions_grow_rare_but_records_never_run_out_between_them(seed: int) -> None:
    delays = list(islice(question_delays(Random(seed)), 20))
    assert all(later <= RECORD_TTL_S for later in delays)
    assert delays[-1] >= QUESTION_INTERVALS_S[-1]
    assert sum(delays[:3]) < 15  # a peer that hears nobody asks three times soon
    assert sum(delays[:4]) < 40  # and everybody asks once in the first minute
    assert delays[1:7] == sorted(delays[1:7])


def test_peers_that_start_together_do_not_speak_together() -> None:
    assert len({next(question_delays(Random(seed))) for seed in range(100)}) == 100
    assert len({next(announcement_delays(Random(seed))) for seed in range(100)}) == 100
