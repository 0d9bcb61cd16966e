"""Processes that do a piece of work together: forked copies of this one, each with a share.

Threads would not do: between two long operations each of them needs Python's lock, and two threads got no more done than one.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import sys
import traceback
import weakref
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from threading import BrokenBarrierError
from typing import Any

import numpy as np

from p2prec.errors import UsageError

Wait = Callable[[], None]
"""Wait for all others of the team to come as far."""
Work = Callable[[int, Wait], None]
"""Do the share of process number `rank`, from 0."""

_WAIT_S = 600.0
"""A process that does not come so far for so long is taken for dead."""


class Team:
    """`size` processes, this one among them. What they shall know of each other's work has to lie in `shared` memory."""

    def __init__(self, work: Work, size: int) -> None:
        """The others start as copies of this process as it is now, and do `work` whenever `play` is called."""
        context: Any = multiprocessing.get_context("fork" if size > 1 else None)
        self._barrier = context.Barrier(size)
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        for rank in range(1, size):
            ours, theirs = context.Pipe()
            # A child has copies of all ends; it must let go of ours, or it would never see them closed.
            arguments = (work, rank, self._barrier, theirs, [*self._pipes, ours])
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        # The other processes end when nobody holds the team any more.
        weakref.finalize(self, _end, self._pipes, self._processes)

    @property
    def others(self) -> list[int]:
        """The numbers of the other processes (pid)."""
        return [process.pid for process in self._processes]

    def play(self, work: Work) -> None:
        """Do this process' share while the others do theirs. Raises what went wrong here, and UsageError for what did there."""
        for pipe in self._pipes:
            pipe.send(None)
        try:
            work(0, _wait_at(self._barrier) if self._pipes else _nobody)
        except BrokenBarrierError:
            pass  # what broke it is among the answers
        except BaseException:
            self._barrier.abort()  # or the others would wait for us
            raise
        failures = [failure for pipe in self._pipes if (failure := _answer(pipe))]
        if failures:
            raise UsageError(f"a process of the lab failed:\n{failures[0]}")


def team_size(n_peers: int) -> int:
    """How many processes are worth it here: one for each core, or one alone in a process of a pool, which has the other cores."""
    if sys.platform != "linux" or multiprocessing.parent_process() or n_peers < 2 * _FEW:
        return 1
    return min(len(os.sched_getaffinity(0)), n_peers // _FEW)


_FEW = 32
"""A process with fewer peers would spend its time waiting for others."""


def shared(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """An array of zeros that a team has in common."""
    count = int(np.prod(shape))
    memory = mmap.mmap(-1, max(count * np.dtype(dtype).itemsize, 1))
    return np.frombuffer(memory, dtype, count).reshape(shape)


def _nobody() -> None:
    """To wait for."""


def _wait_at(barrier: Any) -> Wait:
    def wait() -> None:
        barrier.wait(_WAIT_S)

    return wait


def _serve(work: Work, rank: int, barrier: Any, pipe: Connection, not_ours: Sequence[Connection]) -> None:
    for other in not_ours:
        other.close()
    wait = _wait_at(barrier)
    while True:
        failure = ""
        try:
            pipe.recv()
            work(rank, wait)
        except (EOFError, KeyboardInterrupt):
            return
        except BrokenBarrierError:
            pass
        except Exception:
            failure = traceback.format_exc()
            barrier.abort()
        try:
            pipe.send(failure)
        except BrokenPipeError:
            return


def _answer(pipe: Connection) -> str:
    try:
        failure: str = pipe.recv()
    except EOFError:
        raise UsageError(
            "a process of the lab died", remedy="it may have been out of memory: try fewer --peers"
        ) from None
    return failure


def _end(pipes: Sequence[Connection], processes: Sequence[Any]) -> None:
    for pipe in pipes:
        pipe.close()
    for process in processes:
        process.join(timeout=5)
        process.kill()
