"""`LabSwarm` on all cores: every process holds the learners of its own peers, as every device holds its own.

Where two peers of different processes exchange, what each transmits goes through memory that the processes share, and each side
moves by itself, so the tables are the same to the bit however many processes there are.
"""

from __future__ import annotations

import mmap
import multiprocessing
import resource
import sys
import time
import traceback
import weakref
from collections.abc import Sequence
from multiprocessing.connection import Connection
from threading import BrokenBarrierError
from typing import Any

import numpy as np

from p2prec.errors import UsageError
from p2prec.lab.schedule import Fate, Meeting, independent_batches
from p2prec.lab.swarm import LabSwarm, Traffic
from p2prec.model.quantize import Transmitted, table_shapes
from p2prec.types import DoubleArray, FloatArray

MEETINGS_AT_ONCE = 128
"""Between two waits of the processes for each other. More wait less often, and need more shared memory."""
_WAIT_S = 600.0
"""A process that does not come to the meeting point for so long is taken for dead."""


class ParallelSwarm:
    """A swarm that is spread over processes. Needs the operating system's fork."""

    def __init__(self, swarm: LabSwarm, n_workers: int) -> None:
        """swarm: before its first round; its learners are divided among the processes, and the caller's own stay as they are."""
        self.traffic = Traffic()
        self._swarm = swarm
        context = multiprocessing.get_context("fork")
        barrier = context.Barrier(n_workers)
        n_items = swarm.learners[0].n_items
        self._scores = _shared((swarm.n_peers, n_items))
        slots = _Slots(swarm, n_items)
        self._pipes: list[Connection] = []
        self._workers = []
        for rank in range(n_workers):
            ours, theirs = context.Pipe()
            worker = _Worker(swarm, rank, n_workers, slots, barrier, self._scores)
            # A child has copies of all ends; it must let go of ours, or it would never see them closed.
            process = context.Process(target=_serve, args=(worker, theirs, [*self._pipes, ours]), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._workers.append(process)
        self._end = weakref.finalize(self, _end, self._pipes, self._workers)

    @staticmethod
    def fits(n_peers: int, n_cores: int) -> bool:
        """Whether it is worth it, and possible here."""
        return sys.platform == "linux" and n_cores > 1 and n_peers >= 100

    @property
    def n_peers(self) -> int:
        return self._swarm.n_peers

    def run(self, rounds: int) -> None:
        for _ in range(rounds):
            self.round()

    def round(self) -> None:
        """One round of every peer that is there."""
        for pipe in self._pipes:
            pipe.send("round")
        self._swarm.count(self.traffic, self._swarm.schedule.round())
        self._answers()

    def scores(self) -> FloatArray:
        """(n_peers, n_items) each peer's scores by its own copy of the item factors."""
        self._ask("scores")
        return self._scores.copy()

    def consensus_distance(self) -> float:
        """How far apart the copies of the item factors are (`p2prec.lab.swarm.consensus_distance`)."""
        sums = self._ask("moments")
        mean = sum(one[0] for one in sums) / self.n_peers
        norm2 = float((mean**2).sum())
        spread2 = max(sum(one[1] for one in sums) / self.n_peers - norm2, 0.0)
        return float(np.sqrt(spread2 / norm2)) if norm2 > 0 else 0.0

    def peak_rss_bytes(self) -> int:
        """What the processes have had resident, each counted in full although they share a part."""
        return sum(self._ask("peak"))

    def cpu_seconds(self) -> float:
        """Of all the processes so far."""
        return float(sum(self._ask("cpu_seconds")))

    def close(self) -> None:
        """End the processes. Happens by itself when nobody holds the swarm any more."""
        self._end()

    def _ask(self, what: str) -> list[Any]:
        for pipe in self._pipes:
            pipe.send(what)
        return self._answers()

    def _answers(self) -> list[Any]:
        answers = []
        for pipe in self._pipes:
            try:
                failed, answer = pipe.recv()
            except EOFError:
                raise UsageError(
                    "a process of the lab died", remedy="it may have been out of memory: try fewer --peers"
                ) from None
            if failed:
                raise UsageError(f"a process of the lab failed:\n{answer}")
            answers.append(answer)
        return answers


class _Slots:
    """Shared memory for what peers of different processes transmit to each other: two sets, used in turn, so that nobody has to
    wait until the other has read.
    """

    def __init__(self, swarm: LabSwarm, n_items: int) -> None:
        self._shapes = [table_shapes(swarm.parameters, n_items, part) for part in range(swarm.parameters.n_parts)]
        width = max(sum(int(np.prod(shape)) for shape in self._arrays(part)) for part in range(len(self._shapes)))
        self._memory = _shared((2, MEETINGS_AT_ONCE, 2, width))
        self._ages: DoubleArray = np.frombuffer(mmap.mmap(-1, 2 * MEETINGS_AT_ONCE * 2 * 8), np.float64).reshape(
            2, -1, 2
        )

    def _arrays(self, part: int) -> list[tuple[int, ...]]:
        """The shapes of the five arrays, factors first."""
        shapes = self._shapes[part]
        table = (shapes.item_factors.columns, shapes.item_factors.rows)
        small = part == 0
        gram = (table[0], table[0]) if small else (0, 0)
        return [table, table, (table[1],), gram, (shapes.probe.rows * shapes.probe.columns,)]

    def write(self, turn: int, slot: int, side: int, sent: Transmitted, age: float) -> None:
        memory, start = self._memory[turn, slot, side], 0
        for array in _in_order(sent):
            flat = np.swapaxes(array, -1, -2) if array.ndim == 2 else array
            memory[start : start + array.size].reshape(flat.shape)[...] = flat
            start += array.size
        self._ages[turn, slot, side] = age

    def read(self, turn: int, slot: int, side: int, part: int) -> tuple[Transmitted, float]:
        memory, start, arrays = self._memory[turn, slot, side], 0, []
        for shape in self._arrays(part):
            size = int(np.prod(shape))
            array = memory[start : start + size].reshape(shape)
            arrays.append(np.swapaxes(array, -1, -2) if array.ndim == 2 else array)
            start += size
        return Transmitted(part, *arrays), float(self._ages[turn, slot, side])


class _Worker:
    """One process: plays the meetings of its own peers."""

    def __init__(
        self, swarm: LabSwarm, rank: int, n_workers: int, slots: _Slots, barrier: Any, scores: FloatArray
    ) -> None:
        self._swarm, self._slots, self._barrier, self._scores = swarm, slots, barrier, scores
        self._rank, self._n_workers = rank, n_workers
        self._turn = 0

    def owns(self, peer: int) -> bool:
        return peer % self._n_workers == self._rank

    @property
    def peers(self) -> range:
        return range(self._rank, self._swarm.n_peers, self._n_workers)

    def round(self) -> None:
        meetings = self._swarm.schedule.round()
        for batch in independent_batches(meeting.pair for meeting in meetings):
            for start in range(0, len(batch), MEETINGS_AT_ONCE):
                self._play([meetings[at] for at in batch[start : start + MEETINGS_AT_ONCE]])

    def _play(self, meetings: Sequence[Meeting]) -> None:
        """Disjoint ones. First everybody says what they send to other processes, then everybody moves."""
        apart = []
        for slot, meeting in enumerate(meetings):
            mine = [self.owns(peer) for peer in meeting.pair]
            if all(mine):
                self._swarm.meet(meeting)
            elif any(mine):
                apart.append((slot, meeting, mine.index(True), self._send(slot, meeting, mine.index(True))))
        self._barrier.wait(_WAIT_S)
        for slot, meeting, side, sent in apart:
            if sent is not None and meeting.fate is Fate.APPLIED:
                received, other_age = self._slots.read(self._turn, slot, 1 - side, meeting.part)
                self._swarm.move_side(meeting.pair[side], sent, received, other_age)
        self._turn = 1 - self._turn

    def _send(self, slot: int, meeting: Meeting, side: int) -> Transmitted | None:
        """What one side of a meeting does before it knows what the other sends; None where it sends nothing."""
        peer = meeting.pair[side]
        if side == 0 and meeting.begins:
            self._swarm.begin_round(peer)
        if side == 1 and meeting.fate is Fate.OFFER_LOST:
            return None
        sent = self._swarm.transmit(peer, meeting.part)
        self._slots.write(self._turn, slot, side, sent, self._swarm.learners[peer].age)
        return sent

    def scores(self) -> None:
        for peer in self.peers:
            learner = self._swarm.learners[peer]
            learner.solve()
            self._scores[peer] = learner.scores()

    def moments(self) -> tuple[DoubleArray, float]:
        """The sum of the own peers' item factors, and of their squared norms."""
        total, squared = np.zeros(self._swarm.learners[0].state.item_factors.shape), 0.0
        for peer in self.peers:
            factors = self._swarm.learners[peer].state.item_factors.astype(np.float64)
            total += factors
            squared += float((factors**2).sum())
        return total, squared

    def cpu_seconds(self) -> float:
        return time.process_time()

    def peak(self) -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _end(pipes: Sequence[Connection], workers: Sequence[Any]) -> None:
    for pipe in pipes:
        pipe.close()
    for process in workers:
        process.join(timeout=5)
        process.kill()


def _serve(worker: _Worker, pipe: Connection, not_ours: Sequence[Connection]) -> None:
    for other in not_ours:
        other.close()
    try:
        while True:
            pipe.send((False, getattr(worker, pipe.recv())()))
    except (EOFError, KeyboardInterrupt, BrokenPipeError, BrokenBarrierError):
        return
    except Exception:
        worker._barrier.abort()  # or the others would wait for this one
        pipe.send((True, traceback.format_exc()))


def _in_order(sent: Transmitted) -> tuple[FloatArray, ...]:
    return sent.item_factors, sent.gradient, sent.evidence, sent.gram, sent.probe


def _shared(shape: tuple[int, ...]) -> FloatArray:
    """An array of zeros that forked processes share."""
    count = int(np.prod(shape))
    return np.frombuffer(mmap.mmap(-1, max(4 * count, 4)), np.float32, count).reshape(shape)
