"""In which order processes play the meetings of a round: each peer has its own one after the other, and nobody waits for more.

A meeting can be played as soon as both of its peers have had all before it. So each process takes, of those whose initiators are
its own, whatever can be played now. What the responder draws has been drawn before, by the responder's process: how far that has
come, and what each peer has had, lies in memory that all have in common.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from p2prec.lab.compiled.exchange import draw_place
from p2prec.lab.compiled.machine import compiled, fence
from p2prec.lab.schedule import Fate
from p2prec.lab.team import shared
from p2prec.types import BoolArray, IndexArray

_AHEAD = 4096
"""How many of its meetings a process looks through for one that can be played."""
_OFFER_LOST = int(Fate.OFFER_LOST)


class Order:
    """Of the processes of a team, all of which call `begin` with the same meetings. What is not shared is this process' own."""

    def __init__(self, n_peers: int, most: int, at_once: int, generators: IndexArray) -> None:
        """most: meetings in a round; at_once: meetings found at a time; generators: (n_peers, 2) of `machine.generators`.
        To be made before the team is.
        """
        self._had, self._drawn = shared((2, n_peers), np.int64)
        """(n_peers,) meetings, of all rounds, that a peer has had; of its meetings, the first for which it need draw no more."""
        self._answers = shared((most,), np.int64)
        """Of the meetings of this round, what the responder drew."""
        self._before = np.zeros(n_peers, np.int64)
        """Meetings of a peer in the rounds before this one."""
        self._generators = generators
        self._ready, self._count = np.empty(at_once, np.int64), 0

    def begin(self, meetings: IndexArray, mine: BoolArray) -> None:
        """A round of `Schedule.draw`. mine: (n_peers,) whose generators are this process'."""
        self._meetings = meetings
        peers = meetings[:, :2].reshape(-1)
        self._events = np.argsort(peers, kind="stable")
        """Peer by peer, in their order: twice the number of a meeting, and 1 more for its responder."""
        self._starts = np.searchsorted(peers[self._events], np.arange(len(mine) + 1))
        """Where the events of a peer are among these."""
        self._position = np.empty_like(self._events)
        self._position[self._events] = np.arange(len(peers))
        self._nth = (self._position - self._starts[peers] + self._before[peers]).reshape(-1, 2)
        """(n, 2): meetings, of all rounds, that each of both has to have had before."""
        self._next = self._starts[:-1].copy()
        """Of each peer of this process, the first event that it has neither played nor drawn for."""
        self._left, self._first = np.flatnonzero(mine[meetings[:, 0]]), 0
        self._draw_on(np.flatnonzero(mine))

    def applied_before(self, counts: BoolArray) -> tuple[IndexArray, IndexArray]:
        """counts: (n,) which meetings count. (n,) how many of them its initiator has before a meeting; (n_peers,) in all."""
        running = np.concatenate([[0], np.cumsum(np.repeat(counts, 2)[self._events])])
        so_far = running[self._starts]
        return running[self._position[::2]] - so_far[self._meetings[:, 0]], np.diff(so_far)

    @property
    def is_over(self) -> bool:
        """Whether this process has played all its own."""
        return self._first == len(self._left)

    def find(self) -> bool:
        """Look for meetings that can be played now; whether there are any, or none is left."""
        self._first, self._count = _find(
            self._left, self._first, self._meetings, self._nth, self._had, self._drawn, self._ready
        )
        return self._count > 0 or self.is_over

    @property
    def ready(self) -> IndexArray:
        """What was found: of distinct peers, at most `at_once`."""
        return self._ready[: self._count]

    @property
    def answers(self) -> IndexArray:
        """What the responders of these have drawn."""
        return self._answers[self.ready]

    def played(self) -> None:
        """What was found has been played: everybody may go on from there."""
        _played(self.ready, self._meetings, self._next, self._had)
        self._draw_on(self._meetings[self.ready, 0])

    def end(self) -> None:
        """This process has nothing to do any more in this round."""
        self._before += np.diff(self._starts)

    def _draw_on(self, peers: IndexArray) -> None:
        """Draw for what these peers of this process answer next."""
        _draw_on(
            peers,
            self._meetings,
            self._events,
            self._starts,
            self._next,
            self._before,
            self._generators,
            self._answers,
            self._drawn,
        )


@compiled()
def _find(left: Any, first: int, meetings: Any, nth: Any, had: Any, drawn: Any, ready: Any) -> tuple[int, int]:
    while first < len(left) and had[meetings[left[first], 0]] > nth[left[first], 0]:
        first += 1
    count = 0
    for at in range(first, min(first + _AHEAD, len(left))):
        meeting = left[at]
        one, other = meetings[meeting, 0], meetings[meeting, 1]
        if had[one] == nth[meeting, 0] and had[other] == nth[meeting, 1] and drawn[other] > nth[meeting, 1]:
            ready[count] = meeting
            count += 1
            if count == len(ready):
                break
    fence()  # what is read of these peers' tables is read after this
    return first, count


@compiled()
def _played(ready: Any, meetings: Any, upcoming: Any, had: Any) -> None:
    fence()  # whoever sees that they have met sees their tables, too
    for meeting in ready:
        one, other = meetings[meeting, 0], meetings[meeting, 1]
        upcoming[one] += 1
        had[one] += 1
        had[other] += 1


@compiled()
def _draw_on(
    peers: Any,
    meetings: Any,
    events: Any,
    starts: Any,
    upcoming: Any,
    before: Any,
    generators: Any,
    answers: Any,
    drawn: Any,
) -> None:
    for peer in peers:
        at = upcoming[peer]
        while at < starts[peer + 1] and events[at] % 2 == 1:
            meeting = events[at] // 2
            if meetings[meeting, 3] != _OFFER_LOST:
                answers[meeting] = draw_place(generators[peer])
            at += 1
        upcoming[peer] = at
    fence()
    for peer in peers:
        drawn[peer] = before[peer] + upcoming[peer] - starts[peer]
