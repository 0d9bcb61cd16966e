"""A private sum over a whole swarm at once: the exchanges, crashes and inheritances of `p2prec.peer.private_sum`, as array
programs.

What happens to whom (`Course`) depends on the graph and on chance, never on the values; so it is decided first, with the
core's own rules of inheritance, and then played back over blocks of columns that fit a processor's cache. Values are mixed
through the same eight bits as on the wire.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from p2prec.lab.schedule import disjoint_batches
from p2prec.model.nearest import decode, encode
from p2prec.peer.inheritance import Claim, Trace, WitnessBook, heir
from p2prec.types import BoolArray, DoubleArray, FloatArray, IndexArray, PeerId

COLUMNS_AT_ONCE = 512
GUARDIANS = 4
"""As `p2prec.peer.sum_peer.GUARDIANS`."""
NOTICED_AFTER_ROUNDS = 2
"""Rounds until a swarm has agreed that a peer is dead."""


@dataclass(frozen=True, slots=True)
class Crashes:
    """Who dies in a sum, without a word."""

    share: float = 0.0
    """Of the peers, in [0, 1)."""
    within_rounds: int = 10
    """At a random moment of the first so many rounds, when a value is still mostly masks; the moment before the first exchange
    included."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A note of a value: that of `peer` at the moment `at`."""

    peer: int
    at: int
    direct: bool
    """Whether it is the mean of what both sides of that exchange transmitted, or what the peer transmitted next."""


@dataclass(slots=True)
class Course:
    """Everything that happens in one sum, in order."""

    steps: list[tuple[Literal["mix", "inherit"], IndexArray]] = field(default_factory=list)
    """mix: (n, 3) disjoint exchanges and their moments; inherit: (n, 5) heir; peer, moment
    and kind of the value that is added; moment afterwards."""
    alive: BoolArray = field(default_factory=lambda: np.zeros(0, np.bool_))
    lost: int = 0
    """Dead peers from whom nobody could inherit."""
    guardians: IndexArray = field(default_factory=lambda: np.zeros((0, GUARDIANS), np.int64))
    """(n_peers, GUARDIANS) with whom each peer left its contribution before mixing."""
    exchanges: int = 0


@dataclass(slots=True)
class _Member:
    changes: int = 0
    previous: tuple[int, int] | None = None
    moment: int = 0
    book: WitnessBook[_Kept] = field(default_factory=WitnessBook)


def _id(peer: int) -> PeerId:
    return PeerId(f"{peer:08d}")


class _Director:
    """Decides a course."""

    def __init__(
        self,
        views: Sequence[IndexArray],
        rounds: int,
        crashes: Crashes,
        rng: np.random.Generator,
        inherit: bool,
    ) -> None:
        n = len(views)
        self._views, self._rng, self._inherit = views, rng, inherit
        self._members = [_Member() for _ in range(n)]
        self._course = Course(alive=np.ones(n, np.bool_))
        doomed = rng.permutation(n)[: round(crashes.share * n)]
        self._dies: dict[int, list[int]] = {}
        for peer, moment in zip(
            doomed.tolist(), (rng.random(len(doomed)) * crashes.within_rounds * n).astype(int).tolist(), strict=True
        ):
            self._dies.setdefault(moment, []).append(peer)
        self._rounds = rounds
        self._moment = 0
        self._present = np.ones(n, np.bool_)
        self._unresolved: list[tuple[int, int]] = []
        self._inherited: dict[int, tuple[int, int]] = {}
        self._course.guardians = self._entrust()

    def _entrust(self) -> IndexArray:
        """Everybody leaves its contribution with guardians, before the first of them can die."""
        guardians = np.empty((len(self._views), GUARDIANS), np.int64)
        for peer, view in enumerate(self._views):
            guardians[peer] = self._rng.choice(view, GUARDIANS, replace=len(view) < GUARDIANS) if len(view) else peer
            for guardian in guardians[peer].tolist():
                self._members[guardian].book.deposited(_id(peer), Trace(0, None, 0), _Kept(peer, 0, False))
        return guardians

    def after(self, first: Course) -> Course:
        """Begin again without those who died in `first`: for each of them, a living guardian puts in what it was left."""
        self._present &= first.alive
        added = []
        for dead in np.flatnonzero(~first.alive).tolist():
            living = [guardian for guardian in first.guardians[dead].tolist() if first.alive[guardian]]
            if living:
                self._moment += 1
                added.append((living[0], dead, 0, False, self._moment))
        self._course.lost = int((~first.alive).sum()) - len(added)
        if added:
            self._course.steps.append(("inherit", np.array(added, np.int64)))
        return self.decide()

    def decide(self) -> Course:
        n = len(self._views)
        for done in range(self._rounds):
            pending: list[tuple[int, int]] = []
            for turn, peer in enumerate(self._rng.permutation(n).tolist()):
                for dead in self._dies.get(done * n + turn, ()):
                    self._present[dead] = False
                    self._unresolved.append((dead, done))
                partner = self._partner(peer)
                if partner is not None:
                    pending.append((peer, partner))
                    self._meet(peer, partner)
            self._mix(pending)
            self._bury(done)
        self._bury(self._rounds + NOTICED_AFTER_ROUNDS)
        self._course.alive = self._present.copy()
        return self._course

    def _partner(self, peer: int) -> int | None:
        if not self._present[peer]:
            return None
        choices = self._views[peer][self._present[self._views[peer]]]
        return int(self._rng.choice(choices)) if len(choices) else None

    def _meet(self, one: int, other: int) -> None:
        """Both sides' notes; their values are equal afterwards, so a note names the moment of either."""
        self._moment += 1
        a, b = self._members[one], self._members[other]
        traces = [
            Trace(m.changes, None if m.previous is None else _id(m.previous[0]), m.previous[1] if m.previous else 0)
            for m in (a, b)
        ]
        before = [_Kept(one, a.moment, False), _Kept(other, b.moment, False)]
        for own, partner, index, mine in ((a, other, 1, one), (b, one, 0, other)):
            own.book.exchanged(_id(partner), traces[index], _Kept(mine, self._moment, True), before[index])
        a.changes, b.changes = a.changes + 1, b.changes + 1
        a.previous, b.previous = (other, b.changes), (one, a.changes)
        a.moment = b.moment = self._moment
        self._course.exchanges += 1

    def _mix(self, pairs: list[tuple[int, int]]) -> None:
        moment = self._moment - len(pairs)
        numbered = {pair: [] for pair in pairs}  # type: dict[tuple[int, int], list[int]]
        for pair in pairs:
            moment += 1
            numbered[pair].append(moment)
        for batch in disjoint_batches(np.array(pairs, np.int64).reshape(-1, 2)):
            moments = np.array([numbered[(int(a), int(b))].pop(0) for a, b in batch])
            self._course.steps.append(("mix", np.column_stack([batch, moments])))

    def _bury(self, done: int) -> None:
        """Those who have been dead long enough: the best living witness adds what it knows."""
        due = [dead for dead, since in self._unresolved if done >= since + NOTICED_AFTER_ROUNDS]
        self._unresolved = [entry for entry in self._unresolved if entry[0] not in due]
        added = []
        while due:
            dead = due.pop()
            best = heir(self._claims(dead)) if self._inherit else None
            # What a dead heir had taken over and shown to nobody has to be taken over anew.
            known = best.changes if best is not None else 0
            due += [of for of, (whose, after) in self._inherited.items() if whose == dead and after > known]
            if best is None:
                self._course.lost += 1
            else:
                added.append(self._take_over(dead, int(best.witness)))
        if added:
            self._course.steps.append(("inherit", np.array(added, np.int64)))

    def _claims(self, dead: int) -> list[Claim]:
        books = ((peer, self._members[peer].book) for peer in np.flatnonzero(self._present).tolist())
        claims = (book.claim(_id(dead), _id(peer)) for peer, book in books)
        return [claim for claim in claims if claim is not None]

    def _take_over(self, dead: int, heir_index: int) -> tuple[int, int, int, bool, int]:
        member = self._members[heir_index]
        kept = member.book.take(_id(dead))
        self._moment += 1
        member.changes, member.previous, member.moment = member.changes + 1, None, self._moment
        self._inherited[dead] = heir_index, member.changes
        return heir_index, kept.peer, kept.at, kept.direct, self._moment


def decide(
    views: Sequence[IndexArray],
    rounds: int,
    crashes: Crashes,
    rng: np.random.Generator,
    *,
    inherit: bool = True,
) -> Course:
    """What happens in `rounds` rounds in which every peer starts one exchange with a neighbour.

    views: whom each can meet; inherit: False leaves what the dead held uncancelled.
    """
    return _Director(views, rounds, crashes, rng, inherit).decide()


def decide_again(views: Sequence[IndexArray], rounds: int, first: Course, rng: np.random.Generator) -> Course:
    """What happens when a sum is mixed anew from the same contributions, by those who are left."""
    return _Director(views, rounds, Crashes(), rng, True).after(first)


def play(
    course: Course,
    block: FloatArray,
    *,
    quantized: bool = True,
) -> FloatArray:
    """The values (n_peers, n_columns) float32 at the end of a course, in place; rows of the dead are meaningless.

    Fastest with a few hundred columns (COLUMNS_AT_ONCE).
    """
    wanted = {
        (peer, at, bool(direct))
        for kind, rows in course.steps
        if kind == "inherit"
        for _, peer, at, direct, _ in rows.tolist()
    }
    moments = {moment for _, moment, _ in wanted}
    kept: dict[tuple[int, int, bool], FloatArray] = {}
    transmitted = _through_wire if quantized else _as_it_is
    for peer, at, direct in wanted:
        if at == 0:
            kept[peer, at, direct] = transmitted(block[peer][None])[0]
    for kind, rows in course.steps:
        if kind == "inherit":
            for heir_index, peer, at, direct, _ in rows.tolist():
                block[heir_index] += kept[peer, at, bool(direct)]
        else:
            one, other = rows[:, 0], rows[:, 1]
            a, b = block[one], block[other]
            sent, received = transmitted(a), transmitted(b)
            half = np.float32(0.5) * (received - sent)
            block[one], block[other] = a + half, b - half
            for row in np.flatnonzero([moment in moments for moment in rows[:, 2].tolist()]).tolist():
                moment = int(rows[row, 2])
                for peer in rows[row, :2].tolist():
                    if (peer, moment, True) in wanted:
                        kept[peer, moment, True] = np.float32(0.5) * (sent[row] + received[row])
                    if (peer, moment, False) in wanted:
                        kept[peer, moment, False] = transmitted(block[peer][None])[0]
    return block


def _through_wire(values: FloatArray) -> FloatArray:
    return decode(encode(values), values.shape[-1])


def _as_it_is(values: FloatArray) -> FloatArray:
    return values.copy()  # what is kept of a peer must not change with it


def weights(course: Course, contributing: BoolArray) -> DoubleArray:
    """The weight that each peer holds at the end, 1 being what every contributor began with: what its value is divided by."""
    begun = contributing.astype(np.float32)[:, None]
    return play(course, begun, quantized=False)[:, 0].astype(np.float64)
