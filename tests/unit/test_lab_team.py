"""Processes with a piece of work in common."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from p2prec.errors import UsageError
from p2prec.lab import team as team_module
from p2prec.lab.team import Team, Wait, shared, team_size

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs the operating system's fork")


def never() -> bool:
    return False


def test_all_work_on_the_same_memory_and_wait_for_each_other() -> None:
    numbers, sums = shared((3,), np.int64), shared((3,), np.int64)

    def work(rank: int, wait: Wait) -> None:
        numbers[rank] += 1
        wait(lambda: len(set(numbers)) == 1)
        sums[rank] = numbers.sum()
        wait(lambda: sums[0] == sums[1] == sums[2])

    team = Team(work, 3)
    for times in range(1, 4):
        team.play(work)
        assert sums.tolist() == [3 * times] * 3


def test_alone() -> None:
    numbers = shared((1,), np.int64)

    def work(rank: int, wait: Wait) -> None:
        numbers[rank] += 1
        wait(lambda: numbers[rank] > 0)

    team = Team(work, 1)
    team.play(work)
    assert numbers.tolist() == [1]
    assert team.others == []


def test_a_failure_elsewhere_is_told() -> None:
    def work(rank: int, wait: Wait) -> None:
        if rank == 1:
            raise ValueError("lost my keys")
        wait(never)

    with pytest.raises(UsageError, match="lost my keys"):
        Team(work, 3).play(work)


def test_a_failure_here_ends_it_everywhere() -> None:
    def work(rank: int, wait: Wait) -> None:
        if rank == 0:
            raise ValueError("lost my keys")
        wait(never)

    with pytest.raises(ValueError, match="lost my keys"):
        Team(work, 3).play(work)


def test_a_process_that_dies_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team_module, "_WAIT_S", 0.5)

    def work(rank: int, wait: Wait) -> None:
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        wait(never)

    with pytest.raises(UsageError, match="process of the lab died"):
        Team(work, 2).play(work)


def test_a_process_that_keeps_others_waiting_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has failed, but the work is not done either."""
    monkeypatch.setattr(team_module, "_WAIT_S", 0.1)

    def work(rank: int, wait: Wait) -> None:
        wait(never)

    with pytest.raises(UsageError, match="waited for another"):
        Team(work, 2).play(work)


def test_nobody_is_left_behind() -> None:
    def work(rank: int, wait: Wait) -> None:
        wait(lambda: True)

    team = Team(work, 3)
    team.play(work)
    others = team.others
    assert len(others) == 2
    del team
    gc.collect()
    for process in others:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


@pytest.mark.parametrize(("n_peers", "cores", "expected"), [(63, 8, 1), (64, 8, 2), (1000, 8, 8), (1000, 1, 1)])
def test_size(n_peers: int, cores: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert team_size(n_peers) == expected


@pytest.mark.parametrize(("asked", "given"), [(None, "1"), ("3", "3")])
def test_each_process_has_one_thread_for_blas_unless_its_user_wants_more(asked: str | None, given: str) -> None:
    """Numpy reads it when it is imported: whatever starts the lab must not have done so before."""
    code = """
import sys, os
import p2prec.cli.lab
early = "numpy" in sys.modules
import p2prec.lab
print(early or "numpy" in sys.modules, os.environ["OPENBLAS_NUM_THREADS"])
"""
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    environment |= {} if asked is None else {"OPENBLAS_NUM_THREADS": asked}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["False", given]


def test_one_alone_in_a_process_of_a_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team_module.multiprocessing, "parent_process", lambda: object())
    assert team_size(1000) == 1
