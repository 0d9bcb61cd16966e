"""Jobs in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable

import pytest

from p2prec.errors import DataError, UsageError
from p2prec.lab.side_by_side import Job, side_by_side

OnStep = Callable[[int], None]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs the operating system's fork")


def job(value: int) -> Job[tuple[int, int]]:
    def work(on_step: OnStep) -> tuple[int, int]:
        for step in range(3):
            on_step(step)
        return value, os.getpid()

    return work


def failing(error: Exception) -> Job[tuple[int, int]]:
    def work(on_step: OnStep) -> tuple[int, int]:
        raise error

    return work


def waiting(on_step: OnStep) -> tuple[int, int]:
    signal.pause()
    return 0, 0


def nothing(name: str, step: int) -> None:
    """Where progress is no matter."""


@pytest.mark.parametrize("at_once", [1, 2, 9])
def test_all_are_done_and_tell_how_far_they_are(at_once: int) -> None:
    steps: list[tuple[str, int]] = []
    done = side_by_side(
        {name: job(len(name)) for name in ("one", "three", "to")}, at_once, lambda *step: steps.append(step)
    )
    assert {name: one.result[0] for name, one in done.items()} == {"one": 3, "three": 5, "to": 2}
    assert list(done) == ["one", "three", "to"]
    for name in done:
        assert [step for who, step in steps if who == name] == [0, 1, 2]
    processes = {one.result[1] for one in done.values()}
    assert processes == {os.getpid()} if at_once == 1 else len(processes - {os.getpid()}) == 3
    assert all((one.peak_rss_bytes > 0) == (at_once > 1) for one in done.values())
    assert not multiprocessing.active_children()


def test_nothing_to_do() -> None:
    assert side_by_side({}, 2, nothing) == {}


def test_what_goes_wrong_here_is_raised() -> None:
    with pytest.raises(DataError, match="no ratings"):
        side_by_side({"one": failing(DataError("no ratings"))}, 1, nothing)


def test_what_goes_wrong_elsewhere_is_told_and_nobody_is_left_behind() -> None:
    with pytest.raises(UsageError, match=r"(?s)one failed.*lost my keys"):
        side_by_side({"other": waiting, "one": failing(ValueError("lost my keys"))}, 2, nothing)
    assert not multiprocessing.active_children()


def test_a_process_that_dies_is_told() -> None:
    def work(on_step: OnStep) -> tuple[int, int]:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0, 0

    with pytest.raises(UsageError, match="one died"):
        side_by_side({"one": work}, 2, nothing)


def test_an_interruption_ends_all() -> None:
    def interrupted(name: str, step: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        side_by_side({"other": waiting, "one": job(1)}, 2, interrupted)
    assert not multiprocessing.active_children()
