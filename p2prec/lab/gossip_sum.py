"""A private sum over a whole swarm at once: the exchanges, crashes and inheritances of `p2prec.peer.private_sum`, as array
programs.

What happens to whom (`Course`) depends on the graph and on chance, never on the values; so it is decided first, with the
core's own rules of inheritance, and then played back over blocks of columns that fit a processor's cache. Values are mixed
through the same sixteen and eight bits as on the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

import numpy as np

from p2prec.lab.backend import can_compile
from p2prec.lab.schedule import disjoint_batches
from p2prec.model.nearest import decode, encode
from p2prec.peer.inheritance import Claim, Trace, WitnessBook, heir
from p2prec.peer.private_sum import COPIES, FINE_EXCHANGES
from p2prec.types import BoolArray, DoubleArray, FloatArray, IndexArray, PeerId

COLUMNS_AT_ONCE = 512
GUARDIANS = 4
"""As `p2prec.peer.sum_peer.GUARDIANS`."""
NOTICED_AFTER_ROUNDS = 2
"""Rounds until a swarm has agreed that a peer is dead."""
LINK_LOST_AFTER_ROUNDS = 0.5
"""Rounds until a dead peer's neighbours have noticed that its links are gone."""


@dataclass(frozen=True, slots=True)
class Crashes:
    """Who dies in a sum, without a word."""

    share: float = 0.0
    """Of the peers, in [0, 1)."""
    within_rounds: int = 10
    """At a random moment of the first so many rounds, when a value is still mostly masks; the moment before the first exchange
    included."""


class Kept(IntEnum):
    """As what a witness knows a value."""

    NEXT = 0
    """As the peer transmitted it next, with eight bits."""
    NEXT_FINE = 1
    """The same, with sixteen bits."""
    BOTH = 2
    """As the mean of what both sides of the exchange before transmitted."""


@dataclass(frozen=True, slots=True)
class _Note:
    """Of a value: that of `peer` at the moment `at`."""

    peer: int
    at: int
    kind: Kept


@dataclass(slots=True)
class Course:
    """Everything that happens in one sum, in order."""

    steps: list[tuple[Literal["mix", "inherit"], IndexArray]] = field(default_factory=list)
    """mix: (n, 5) disjoint exchanges, their moments, and whether each side transmits sixteen bits;
    inherit: (n, 5) heir; peer, moment and kind (`Kept`) of the value that is added; moment afterwards."""
    alive: BoolArray = field(default_factory=lambda: np.zeros(0, np.bool_))
    lost: int = 0
    """Dead peers from whom nobody could inherit."""
    guardians: IndexArray = field(default_factory=lambda: np.zeros((0, GUARDIANS), np.int64))
    """(n_peers, GUARDIANS) with whom each peer left its contribution before mixing."""
    coarse_shares: int = 0
    """Vectors sent at eight bits a value, by all together."""
    fine_shares: int = 0
    """At sixteen bits."""


@dataclass(slots=True)
class _Member:
    changes: int = 0
    previous: tuple[int, int] | None = None
    moment: int = 0
    exchanges: int = 0
    book: WitnessBook[_Note] = field(default_factory=WitnessBook)

    @property
    def is_fine(self) -> bool:
        """Whether it transmits sixteen bits a value next."""
        return self.exchanges < FINE_EXCHANGES


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
        self._lost: dict[int, list[int]] = {}
        """By moment: whose links are found to be gone."""
        self._witnesses: list[set[int]] = [set() for _ in range(n)]
        """Who may know something of a peer."""
        self._rounds = rounds
        self._moment = 0
        self._present = np.ones(n, np.bool_)
        self._unresolved: list[tuple[int, int]] = []
        self._inherited: dict[int, tuple[int, int]] = {}
        self._course.guardians = self._entrust()

    def _entrust(self) -> IndexArray:
        """Everybody leaves its contribution with guardians, before the first of them can die: sealed, with eight bits, and then
        in clear, with sixteen.
        """
        guardians = np.empty((len(self._views), GUARDIANS), np.int64)
        for peer, view in enumerate(self._views):
            guardians[peer] = self._rng.choice(view, GUARDIANS, replace=len(view) < GUARDIANS) if len(view) else peer
            for guardian in guardians[peer].tolist():
                self._members[guardian].book.deposited(_id(peer), Trace(0, None, 0), _Note(peer, 0, Kept.NEXT_FINE))
                self._witnesses[peer].add(guardian)
        self._course.coarse_shares += guardians.size
        self._course.fine_shares += guardians.size
        return guardians

    def after(self, first: Course) -> Course:
        """Begin again without those who died in `first`: for each of them, a living guardian puts in what it was left."""
        self._present &= first.alive
        added = []
        for dead in np.flatnonzero(~first.alive).tolist():
            living = [guardian for guardian in first.guardians[dead].tolist() if first.alive[guardian]]
            if living:
                self._moment += 1
                added.append((living[0], dead, 0, Kept.NEXT_FINE, self._moment))
        self._course.lost = int((~first.alive).sum()) - len(added)
        if added:
            self._course.steps.append(("inherit", np.array(added, np.int64)))
        return self.decide()

    def decide(self) -> Course:
        n = len(self._views)
        for done in range(self._rounds):
            pending: list[tuple[int, int, bool, bool]] = []
            for turn, peer in enumerate(self._rng.permutation(n).tolist()):
                moment = done * n + turn
                for dead in self._dies.get(moment, ()):
                    self._present[dead] = False
                    self._unresolved.append((dead, done))
                    self._lost.setdefault(moment + round(LINK_LOST_AFTER_ROUNDS * n), []).append(dead)
                for dead in self._lost.get(moment, ()) if self._inherit else ():
                    self._pass_on(dead)
                partner = self._partner(peer)
                if partner is not None:
                    pending.append((peer, partner, self._members[peer].is_fine, self._members[partner].is_fine))
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
        return int(choices[self._rng.integers(len(choices))]) if len(choices) else None

    def _meet(self, one: int, other: int) -> None:
        """Both sides' notes; their values are equal afterwards, so a note names the moment of either."""
        self._moment += 1
        a, b = self._members[one], self._members[other]
        traces = [
            Trace(m.changes, None if m.previous is None else _id(m.previous[0]), m.previous[1] if m.previous else 0)
            for m in (a, b)
        ]
        before = [
            _Note(peer, m.moment, Kept.NEXT_FINE if m.is_fine else Kept.NEXT) for peer, m in ((one, a), (other, b))
        ]
        for own, partner, index, mine in ((a, other, 1, one), (b, one, 0, other)):
            own.book.exchanged(_id(partner), traces[index], _Note(mine, self._moment, Kept.BOTH), before[index])
            self._witnesses[partner].add(mine)
        for witness, m in ((one, b), (other, a)):
            if m.previous is not None:
                self._witnesses[m.previous[0]].add(witness)
        for m in (a, b):
            self._course.fine_shares += m.is_fine
            self._course.coarse_shares += not m.is_fine
            m.exchanges += 1
        a.changes, b.changes = a.changes + 1, b.changes + 1
        a.previous, b.previous = (other, b.changes), (one, a.changes)
        a.moment = b.moment = self._moment

    def _pass_on(self, dead: int) -> None:
        """Its neighbours that have exchanged with a peer a short while ago leave what they know of it with others."""
        for witness in self._views[dead].tolist():
            member = self._members[witness]
            known = member.book.recent(_id(dead)) if self._present[witness] else None
            if known is None:
                continue
            changes, direct, note = known
            holds_it = member.previous == (dead, changes)
            trace = Trace(changes, _id(witness) if holds_it else None, member.changes if holds_it else 0)
            for _ in range(COPIES):
                keeper = self._partner(witness)
                if keeper is not None:
                    self._members[keeper].book.passed_on(_id(dead), trace, direct, note)
                    self._witnesses[dead].add(keeper)
                    self._witnesses[witness].add(keeper)
                    self._course.fine_shares += note.kind != Kept.NEXT
                    self._course.coarse_shares += note.kind == Kept.NEXT

    def _mix(self, pairs: list[tuple[int, int, bool, bool]]) -> None:
        moment = self._moment - len(pairs)
        numbered: dict[tuple[int, int], list[tuple[int, bool, bool]]] = {}
        for one, other, *fine in pairs:
            moment += 1
            numbered.setdefault((one, other), []).append((moment, fine[0], fine[1]))
        for batch in disjoint_batches(np.array([pair[:2] for pair in pairs], np.int64).reshape(-1, 2)):
            rest = np.array([numbered[(int(a), int(b))].pop(0) for a, b in batch], np.int64)
            self._course.steps.append(("mix", np.column_stack([batch, rest])))

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
        books = ((peer, self._members[peer].book) for peer in sorted(self._witnesses[dead]) if self._present[peer])
        claims = (book.claim(_id(dead), _id(peer)) for peer, book in books)
        return [claim for claim in claims if claim is not None]

    def _take_over(self, dead: int, heir_index: int) -> tuple[int, int, int, Kept, int]:
        member = self._members[heir_index]
        kept = member.book.take(_id(dead))
        self._moment += 1
        member.changes, member.previous, member.moment = member.changes + 1, None, self._moment
        self._inherited[dead] = heir_index, member.changes
        return heir_index, kept.peer, kept.at, kept.kind, self._moment


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
        (peer, at, kind) for step, rows in course.steps if step == "inherit" for _, peer, at, kind, _ in rows.tolist()
    }
    moments = np.array(sorted({moment for _, moment, _ in wanted}), np.int64)
    transmitted, mix = (_through_wire, _mixing()) if quantized else (_as_it_is, _mix_exactly)
    kept: dict[tuple[int, int, int], FloatArray] = {}

    def keep_next(peer: int, at: int) -> None:
        for kind in (Kept.NEXT, Kept.NEXT_FINE):
            if (peer, at, kind) in wanted:
                kept[peer, at, kind] = transmitted(block[peer][None], np.array([kind == Kept.NEXT_FINE]))[0]

    for peer, at, _ in wanted:
        if at == 0:
            keep_next(peer, at)
    for step, rows in course.steps:
        if step == "inherit":
            for heir_index, peer, at, kind, _ in rows.tolist():
                block[heir_index] += kept[peer, at, kind]
        else:
            noted = rows[np.isin(rows[:, 2], moments)]
            both = transmitted(block[noted[:, 0]], noted[:, 3] == 1) + transmitted(block[noted[:, 1]], noted[:, 4] == 1)
            mix(block, rows)
            for (*pair, moment, _, _), total in zip(noted.tolist(), both, strict=True):
                for peer in pair:
                    if (peer, moment, Kept.BOTH) in wanted:
                        kept[peer, moment, Kept.BOTH] = np.float32(0.5) * total
                    keep_next(peer, moment)
    return block


def _mixing() -> Callable[[FloatArray, IndexArray], None]:
    """The exchanges of disjoint pairs (rows of `Course.steps`), through the wire: in machine code where numba is installed, to
    the same result.
    """
    if can_compile():
        from p2prec.lab.compiled.sums import mix

        compiled: Callable[[FloatArray, IndexArray], None] = mix
        return compiled
    return _mix_through_wire


def _mix_through_wire(block: FloatArray, rows: IndexArray) -> None:
    _mix_as(block, rows, _through_wire)


def _mix_exactly(block: FloatArray, rows: IndexArray) -> None:
    _mix_as(block, rows, _as_it_is)


def _mix_as(block: FloatArray, rows: IndexArray, transmitted: Callable[[FloatArray, BoolArray], FloatArray]) -> None:
    one, other = rows[:, 0], rows[:, 1]
    a, b = block[one], block[other]
    half = np.float32(0.5) * (transmitted(b, rows[:, 4] == 1) - transmitted(a, rows[:, 3] == 1))
    block[one], block[other] = a + half, b - half


def _through_wire(values: FloatArray, fine: BoolArray) -> FloatArray:
    """As it arrives; fine: (n_peers,) who transmits sixteen bits."""
    if fine.all() or not fine.any():
        return decode(encode(values, fine=bool(fine.any())), values.shape[-1])
    arrived = np.empty_like(values)
    for kind in (False, True):
        arrived[fine == kind] = decode(encode(values[fine == kind], fine=kind), values.shape[-1])
    return arrived


def _as_it_is(values: FloatArray, fine: BoolArray) -> FloatArray:
    return values.copy()  # what is kept of a peer must not change with it


def weights(course: Course, contributing: BoolArray) -> DoubleArray:
    """The weight that each peer holds at the end, 1 being what every contributor began with: what its value is divided by."""
    begun = contributing.astype(np.float32)[:, None]
    return play(course, begun, quantized=False)[:, 0].astype(np.float64)
