"""`LabSwarm` in machine code and on all cores: the same course, the same tables to the bit."""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np

from p2prec.data.interactions import TrainingPairs
from p2prec.lab.compiled.contribute import contribute
from p2prec.lab.compiled.exchange import exchange
from p2prec.lab.compiled.machine import generators, is_kept
from p2prec.lab.compiled.stack import StackedStates
from p2prec.lab.compiled.step import Steps
from p2prec.lab.schedule import Conditions, Fate, Meeting, independent_batches
from p2prec.lab.swarm import LabSwarm
from p2prec.manifest import LearningParameters, PrivacyParameters, recommended
from p2prec.model.quantize import coarse_levels, part_rows
from p2prec.model.state import ModelState, initial_state
from p2prec.types import IndexArray, ItemKey

AT_ONCE = 8
"""Meetings that a thread takes at a time: enough that Python is no matter, few enough that their tables stay in its cache."""


class CompiledSwarm(LabSwarm):
    """Meetings that touch no peer twice are played at the same time, on one thread for each core."""

    def __init__(
        self,
        parameters: LearningParameters,
        privacy: PrivacyParameters,
        item_keys: Sequence[str],
        seed: bytes,
        histories: Sequence[TrainingPairs],
        rng: np.random.Generator,
        *,
        views: Sequence[IndexArray] | None = None,
        conditions: Conditions | None = None,
        n_threads: int | None = None,
    ) -> None:
        """As `LabSwarm`. n_threads: None: one for each core, or one alone in a process of a pool, which has the others."""
        super().__init__(parameters, privacy, item_keys, seed, histories, rng, views=views, conditions=conditions)
        self._start = initial_state(parameters, seed, item_keys)
        cores = 1 if multiprocessing.parent_process() else os.cpu_count()
        self._n_threads = n_threads or cores or 1
        self._threads = ThreadPoolExecutor(max(self._n_threads - 1, 1))
        self._own = threading.local()
        self._generators = generators(self._rngs)
        parts = [part_rows(len(item_keys), parameters.n_parts, part) for part in range(parameters.n_parts)]
        self._bounds = np.array([[rows.start, rows.stop] for rows in parts], np.int64)

    def _copies(self, start: ModelState, count: int) -> Iterable[ModelState]:
        self.states = StackedStates.repeated(start, count)
        return map(self.states.view, range(count))

    def round(self) -> None:
        """One round of every peer that is there."""
        meetings = self.schedule.round()
        for batch in independent_batches(meeting.pair for meeting in meetings):
            self._play([meetings[at] for at in batch])
        self.count(self.traffic, meetings)

    def _play(self, meetings: Sequence[Meeting]) -> None:
        """Disjoint ones."""
        each = min(AT_ONCE, math.ceil(len(meetings) / (2 * self._n_threads)))  # a few are shared out as well
        waiting = deque(meetings[start : start + each] for start in range(0, len(meetings), each))
        helpers = [self._threads.submit(self._work, waiting) for _ in range(min(self._n_threads, len(waiting)) - 1)]
        self._work(waiting)
        for helper in helpers:
            helper.result()

    def _work(self, waiting: deque[Sequence[Meeting]]) -> None:
        while True:
            try:
                meetings = waiting.popleft()
            except IndexError:
                return
            self._meet(meetings)

    def _meet(self, meetings: Sequence[Meeting]) -> None:
        self._begin_rounds([one.initiator for one in meetings if one.begins])
        states = self.states
        exchange(
            states.item_factors,
            states.gradient,
            states.evidence,
            states.gram,
            states.probe,
            states.age,
            np.array([(one.initiator, one.responder, one.part, one.fate) for one in meetings], np.int64),
            self._bounds,
            self._generators,
            coarse_levels(self.parameters),
        )
        for one in meetings:
            if one.fate is Fate.APPLIED:
                self._exchanged(one.initiator)
                self._exchanged(one.responder)

    def _begin_rounds(self, peers: Sequence[int]) -> None:
        """`begin_round` of each."""
        stepping = [peer for peer in peers if self._mixed[peer]]
        if stepping:
            self._mixed[stepping] = False
            for broken in self._steps.take(np.array(stepping, np.int64)).tolist():
                self.states.put(broken, self._start)
        for peer in peers:
            self._rounds[peer] += 1
            if self.learners[peer].due_to_contribute:
                contribute(self.learners[peer], self.states, peer, self._rngs[peer])

    @property
    def _steps(self) -> Steps:
        """This thread's."""
        if not hasattr(self._own, "steps"):
            self._own.steps = Steps(self.parameters, self.states, float(self.n_peers), AT_ONCE)
        steps: Steps = self._own.steps
        return steps


def compile_kernels(objective: Literal["explicit", "implicit"]) -> None:
    """Now rather than in the first round: seconds where they were compiled before, and half a minute the first time, which stderr
    is told of.
    """
    if not is_kept(exchange):
        print("compiling the lab's kernels (once on this machine) ...", file=sys.stderr, flush=True)
    keys = [ItemKey(str(item)) for item in range(3)]
    own = TrainingPairs(np.arange(2), np.array([1, 2], np.float32), np.zeros(2))
    tiny = CompiledSwarm(*recommended(objective), keys, bytes(32), [own, own], np.random.default_rng(0), n_threads=1)
    tiny.run(2)
