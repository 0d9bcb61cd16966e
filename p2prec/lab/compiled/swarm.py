"""`LabSwarm` in machine code and on all cores: the same course, the same tables to the bit."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from p2prec.data.interactions import TrainingPairs
from p2prec.lab.compiled.contribute import contribute
from p2prec.lab.compiled.exchange import exchange, levels_of
from p2prec.lab.compiled.machine import generators, is_kept
from p2prec.lab.compiled.order import Order
from p2prec.lab.compiled.stack import StackedStates
from p2prec.lab.compiled.step import Steps
from p2prec.lab.schedule import Conditions, Fate
from p2prec.lab.swarm import LabSwarm
from p2prec.lab.team import Team, Wait, team_size
from p2prec.manifest import LearningParameters, PrivacyParameters, recommended
from p2prec.model.quantize import part_rows, table_shapes
from p2prec.model.state import ModelState, initial_state
from p2prec.peer.pace import OFFER_ATTEMPTS
from p2prec.types import IndexArray, ItemKey

AT_ONCE = 8
"""Meetings that are played in one go: enough that Python is no matter, few enough that their tables stay in a core's cache."""


class CompiledSwarm(LabSwarm):
    """One process for each core plays the rounds of its own peers, on tables that all have in common."""

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
        n_processes: int | None = None,
    ) -> None:
        """As `LabSwarm`. n_processes: None: as many as are worth it."""
        super().__init__(parameters, privacy, item_keys, seed, histories, rng, views=views, conditions=conditions)
        self._start = initial_state(parameters, seed, item_keys)
        self._n_processes = n_processes or team_size(self.n_peers)
        self._team: Team | None = None
        self._generators = generators(self._rngs)
        self._steps = Steps(parameters, self.states, float(self.n_peers), AT_ONCE)
        parts = [part_rows(len(item_keys), parameters.n_parts, part) for part in range(parameters.n_parts)]
        self._bounds = np.array([[rows.start, rows.stop] for rows in parts], np.int64)
        most = self.n_peers * parameters.n_parts * OFFER_ATTEMPTS
        self._order = Order(self.n_peers, most, AT_ONCE, self._generators)
        self._coding = tuple(levels_of(shape.levels) for shape in table_shapes(parameters, len(item_keys)))

    def _copies(self, start: ModelState, count: int) -> Iterable[ModelState]:
        self.states = StackedStates.repeated(start, count)
        return map(self.states.view, range(count))

    def round(self) -> None:
        """One round of every peer that is there."""
        if self._team is None:  # not before: the others are copies of this process as it is now
            self._team = Team(self._play, self._n_processes)
        self._team.play(self._play)

    def _play(self, rank: int, wait: Wait) -> None:
        """This process' share of a round: the meetings that its own peers begin, and the draws of those that they answer."""
        table = self.schedule.draw()
        begins = table[:, 4] > 0
        mine = np.arange(self.n_peers) % self._n_processes == rank
        order = self._order
        order.begin(table, mine)
        before, exchanged = order.applied_before(table[:, 3] == Fate.APPLIED)
        while True:
            wait(order.find)
            if order.is_over:
                break
            ready = order.ready
            beginning = ready[begins[ready]]
            for meeting in beginning.tolist():
                peer = int(table[meeting, 0])
                self._exchanged_times(peer, int(before[meeting]))
                exchanged[peer] -= before[meeting]
            self._begin_rounds(table[beginning, 0].tolist())
            self._exchange(table[ready], order.answers)
            order.played()
        for peer in np.flatnonzero(mine).tolist():
            self._exchanged_times(peer, int(exchanged[peer]))
        order.end()
        self.count(self.traffic, table)

    def _exchanged_times(self, peer: int, times: int) -> None:
        for _ in range(times):
            self._exchanged(peer)

    def _exchange(self, meetings: IndexArray, answers: IndexArray) -> None:
        states = self.states
        exchange(
            states.item_factors,
            states.gradient,
            states.evidence,
            states.gram,
            states.probe,
            states.age,
            meetings,
            answers,
            self._bounds,
            self._generators,
            self._coding,
        )

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


def compile_kernels(objective: Literal["explicit", "implicit"]) -> None:
    """Now rather than in the first round: seconds where they were compiled before, and half a minute the first time, which stderr
    is told of.
    """
    if not is_kept(exchange):
        print("compiling the lab's kernels (once on this machine) ...", file=sys.stderr, flush=True)
    keys = [ItemKey(str(item)) for item in range(3)]
    own = TrainingPairs(np.arange(2), np.array([1, 2], np.float32), np.zeros(2))
    tiny = CompiledSwarm(*recommended(objective), keys, bytes(32), [own, own], np.random.default_rng(0), n_processes=1)
    tiny.run(2)
