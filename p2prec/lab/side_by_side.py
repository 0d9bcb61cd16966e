"""Jobs that have nothing to do with each other, side by side: each in a forked copy of this process."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection
from typing import Any, Generic, TypeVar

from p2prec.errors import UsageError

T = TypeVar("T")
Job = Callable[[Callable[[int], None]], T]
"""Computes something, and tells what it is given how far it has come."""
OnStep = Callable[[str, int], None]
"""Told which job has come how far."""


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """What a job has come to."""

    result: T
    peak_rss_bytes: int
    """The most memory that its process has had resident; 0 if it had none of its own."""


def side_by_side(jobs: Mapping[str, Job[T]], at_once: int, on_step: OnStep) -> dict[str, Done[T]]:
    """Do all jobs, begun in their order, `at_once` of them at a time (1: in this process).

    Results have to be picklable. Raises what a job raises, or UsageError that tells of it if that was in another process; no
    job goes on then.
    """
    if at_once < 2:
        return {name: Done(job(partial(on_step, name)), 0) for name, job in jobs.items()}
    waiting, running, done = list(jobs), dict[Any, tuple[str, Any]](), dict[str, Done[T]]()
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                name = waiting.pop(0)
                pipe, process = _start(jobs[name])
                running[pipe] = name, process
            for heard in connection.wait(list(running)):
                name, process = running[heard]
                news = _news(heard, name)
                if isinstance(news, Done):
                    done[name] = news
                    del running[heard]
                    _end(process)
                else:
                    on_step(name, news)
    finally:
        for _, process in running.values():
            _end(process)
    return {name: done[name] for name in jobs}


def _start(job: Job[T]) -> tuple[connection.Connection, Any]:
    context: Any = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(job, theirs), daemon=True)
    process.start()
    theirs.close()  # or its end would not be seen when the process is gone
    return ours, process


def _work(job: Job[T], pipe: connection.Connection) -> None:
    import resource  # not on Windows, where all is done in one process

    try:
        result = job(pipe.send)
        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes on Linux, which alone has teams
        pipe.send(Done(result, kilobytes * 1024))
    except KeyboardInterrupt:
        pass  # the terminal sends it to all of us; the first process says so
    except Exception:
        pipe.send(traceback.format_exc())


def _end(process: Any) -> None:
    """Whatever it does: a copy of a process with threads may wait for good for a lock that one of them held."""
    process.kill()
    process.join()


def _news(pipe: Any, name: str) -> Any:
    """How far a job has come, or what it has come to. Raises UsageError."""
    try:
        news = pipe.recv()
    except EOFError:
        raise UsageError(
            f"the process that computed {name} died", remedy="it may have been out of memory: try fewer --peers"
        ) from None
    if isinstance(news, str):
        raise UsageError(f"{name} failed:\n{news}")
    return news
