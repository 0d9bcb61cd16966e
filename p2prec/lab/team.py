"""Processes that do a piece of work together: forked copies of this one, each with a share.

Threads would not do: between two long operations each of them needs Python's lock, and two threads got no more done than one.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import sys
import time
import traceback
import weakref
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from p2prec.errors import UsageError

Wait = Callable[[Callable[[], bool]], None]
"""Wait until something is so that others of the team bring about."""
Work = Callable[[int, Wait], None]
"""Do the share of process number `rank`, from 0."""

_WAIT_S = 600.0
"""Others that let a process wait for so long are taken for dead."""
_SPIN_S = 0.001
"""So long a process looks again and again before it sleeps in between."""
_NAP_S = 0.0002


class _AbandonedError(Exception):
    """Another process has failed, so what this one waits for will not come."""


class Team:
    """`size` processes, this one among them. What they shall know of each other's work has to lie in `shared` memory."""

    def __init__(self, work: Work, size: int) -> None:
        """The others start as copies of this process as it is now, and do `work` whenever `play` is called."""
        context: Any = multiprocessing.get_context("fork" if size > 1 else None)
        self._failed = shared((1,), np.bool_)
        """Whether any process has."""
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        for rank in range(1, size):
            ours, theirs = context.Pipe()
            # A child has copies of all ends; it must let go of ours, or it would never see them closed.
            arguments = (work, rank, self._failed, theirs, [*self._pipes, ours])
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
            work(0, _waiting(self._failed))
        except _AbandonedError:
            pass  # why is among the answers, unless somebody has only waited for too long
        except BaseException:
            self._failed[0] = True  # or the others would wait for us
            raise
        failures = [failure for pipe in self._pipes if (failure := _answer(pipe))]
        if failures:
            raise UsageError(f"a process of the lab failed:\n{failures[0]}")
        if self._failed[0]:
            raise UsageError(f"a process of the lab waited for another for more than {_WAIT_S:.0f} s")


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


def _waiting(failed: np.ndarray) -> Wait:
    def wait(is_so: Callable[[], bool]) -> None:
        if is_so():
            return
        since = time.monotonic()
        while not is_so():
            waited = time.monotonic() - since
            if waited > _WAIT_S:
                failed[0] = True
            if failed[0]:
                raise _AbandonedError
            if waited > _SPIN_S:
                time.sleep(_NAP_S)
            else:
                os.sched_yield()

    return wait


def _serve(work: Work, rank: int, failed: np.ndarray, pipe: Connection, not_ours: Sequence[Connection]) -> None:
    for other in not_ours:
        other.close()
    wait = _waiting(failed)
    while True:
        failure = ""
        try:
            pipe.recv()
            work(rank, wait)
        except (EOFError, KeyboardInterrupt):
            return
        except _AbandonedError:
            pass
        except Exception:
            failure = traceback.format_exc()
            failed[0] = True
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
