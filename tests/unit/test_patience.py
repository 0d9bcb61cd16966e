"""One timer for many waits: it goes off for the wait that takes too long, and for no other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from p2prec.transport.patience import Patience


class Loop(asyncio.SelectorEventLoop):
    """Whose clock jumps to the next timer, and which counts those that are set up."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.timers: list[asyncio.TimerHandle] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: object, *args: object, context: object = None) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)  # type: ignore[arg-type]
        self.timers.append(timer)
        return timer

    def pass_time(self, until: float) -> None:
        while due := [one for one in self.timers if not one.cancelled() and one.when() <= until]:
            first = min(due, key=lambda one: one.when())
            self.timers.remove(first)
            self.now = max(self.now, first.when())
            first._run()
        self.now = until


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def ended() -> list[float]:
    """When waits have taken too long."""
    return []


@pytest.fixture
def patience(loop: Loop, ended: list[float]) -> Patience:
    return Patience(loop, lambda: ended.append(loop.time()))


def test_a_wait_that_takes_too_long_ends_when_it_should(loop: Loop, patience: Patience, ended: list[float]) -> None:
    patience.begin(110.0)
    loop.pass_time(109.0)
    assert not ended
    loop.pass_time(120.0)
    assert ended == [110.0]


def test_waits_that_end_in_time_need_one_timer(loop: Loop) -> None:
    patience = Patience(loop, pytest.fail)
    for _ in range(50):
        patience.begin(loop.time() + 60.0)
        loop.pass_time(loop.time() + 1.0)
        patience.end()
    assert len(loop.timers) == 1
    loop.pass_time(1000.0)
    assert not loop.timers


def test_the_timer_of_an_earlier_wait_moves_on_to_the_one_under_way(
    loop: Loop, patience: Patience, ended: list[float]
) -> None:
    patience.begin(110.0)
    patience.end()
    loop.pass_time(105.0)
    patience.begin(130.0)
    loop.pass_time(129.0)
    assert not ended
    loop.pass_time(200.0)
    assert ended == [130.0]


def test_a_shorter_wait_after_a_longer_one_is_not_kept_waiting(
    loop: Loop, patience: Patience, ended: list[float]
) -> None:
    patience.begin(160.0)
    patience.end()
    patience.begin(101.0)
    loop.pass_time(102.0)
    assert ended == [101.0]


def test_nothing_is_left_behind_after_closing_and_a_wait_may_be_without_end(loop: Loop) -> None:
    patience = Patience(loop, pytest.fail)
    patience.begin(float("inf"))
    assert not loop.timers
    patience.begin(110.0)
    patience.close()
    loop.pass_time(200.0)
