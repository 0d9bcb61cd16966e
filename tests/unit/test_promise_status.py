"""What a person is told about a promise while its time passes."""

from __future__ import annotations

from typing import Any

import pytest

from p2prec.api.promise import promise_status
from p2prec.daemon.sum_notes import SumNote
from p2prec.privacy.promise import make_promise

START = 1_900_000_000
PROMISE = make_promise(8.0, 1e-5, 200, START, 10.0)


def at(seconds: float, n_known: int = 0, *, is_running: bool = True, **notes: SumNote) -> dict[str, Any]:
    """seconds: after the first sum's start; notes: `one`, `two`."""
    numbered = {{"one": 1, "two": 2}[name]: note for name, note in notes.items()}
    return promise_status(
        PROMISE, now=START + seconds, n_known=n_known, spent_on=[], notes=numbered, is_running=is_running
    )


def test_it_says_when_the_next_sum_starts() -> None:
    assert at(-180)["text"] == "sum 1 of 2 (what is popular) starts in 3 min"
    assert at(-45)["text"] == "sum 1 of 2 (what is popular) starts in 45 s"
    assert at(-200_000)["text"] == "sum 1 of 2 (what is popular) starts in 2 days"
    between = at(PROMISE.end_s + 20, n_known=1)
    assert (between["stage"], between["sum"], between["known"]) == ("waiting", 2, ["what is popular"])
    assert between["next_at"] == START + PROMISE.second_after_s
    assert "only while p2prec start runs" in at(-45, is_running=False)["text"]


def test_it_says_who_has_enrolled() -> None:
    found = at(60, one=SumNote(enrolled=42))
    assert found["stage"] == "enrolling"
    assert found["text"] == "sum 1 of 2 (what is popular): 42 of 200 people have enrolled; contributions in 10 min"


def test_it_says_what_is_mixed_and_why_this_device_sits_out() -> None:
    found = at(PROMISE.contribute_s + 1, one=SumNote(enrolled=100, sat_out="only 100 peers take part, 200 are needed"))
    assert found["stage"] == "mixing"
    assert "this device sits it out: only 100 peers take part, 200 are needed" in found["text"]
    later = START + PROMISE.second_after_s + PROMISE.contribute_s + 1
    assert "sum 2 of 2 (tastes): contributions are being mixed" in at(later - START, n_known=1)["text"]


def test_a_void_sum_is_mixed_again_for_as_long() -> None:
    late = PROMISE.end_s + PROMISE.notice_s + 1
    assert at(late)["stage"] == "over"
    again = at(late, one=SumNote(enrolled=203, partners=16, mixed_again=True))
    assert again["stage"] == "mixing"
    assert "had not cancelled, so it is mixed again" in again["text"]
    assert again["next_at"] == PROMISE.end_of(1)


@pytest.mark.parametrize("is_running", [True, False])
def test_who_has_no_result_is_told_how_to_get_it(is_running: bool) -> None:
    found = at(
        1e6,
        is_running=is_running,
        one=SumNote(sat_out="this device was started, or started anew, after the others had begun"),
    )
    assert (found["stage"], found["next_at"]) == ("over", None)
    assert "since this device was started, or started anew, after the others had begun" in found["text"]
    assert ("neighbours are asked" in found["text"]) is is_running
    assert ("with p2prec start" in found["text"]) is not is_running
    assert found["text"].endswith("if nobody has one, it takes a new swarm")


def test_in_the_end_nothing_more_is_sent() -> None:
    found = at(1e6, n_known=2, one=SumNote(203, 16), two=SumNote(203, 15))
    assert (found["stage"], found["sum"], found["next_at"]) == ("learned", None, None)
    assert "nothing more is sent" in found["text"]
    assert found["sums"]["2"]["partners"] == 15
    assert "not cancelled in sum 2" in at(1e6, n_known=2, two=SumNote(is_void=True))["text"]


def test_times_fit_into_one_another_for_every_size_and_pace() -> None:
    for people in (53, 1000, 100_003):
        for exchange_s in (0.05, 10.0, 3600.0):
            promise = make_promise(1.0, 1e-6, people, START, exchange_s)
            assert promise.end_of(1) < promise.start_of(2)
            assert promise.recover_s + 2 * promise.notice_s < promise.end_s
