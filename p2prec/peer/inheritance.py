"""Who takes over what a crashed peer held, so that the masks in it still cancel.

In a private sum a lost peer's share of everybody's masks would stay in the result uncancelled: hundreds of times the noise of
the sum. But the dead leave traces. After an exchange both sides hold the same value; so the last partner of a crashed peer
knows what was lost (a direct witness). And what a peer offers is, if it has done nothing in between, what its previous
partner holds as well; so whoever it meets next is an indirect witness to that one. Of all witnesses to a dead peer the one to
its latest exchange adds what it knows to its own value. If both partners of an exchange die and nobody saw either of them
afterwards, the latest witnesses of both are those of before, and their two claims together undo the exchange: the sum is
exact again.

A witness may die too. So when the link to a peer breaks, those who have just exchanged with it leave what they know of it with
others at once, before it is clear that it is dead.

Each peer counts the changes of its value; the counter and the previous partner travel with every offer and answer.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from p2prec.types import PeerId

Held = TypeVar("Held")
"""What a witness keeps of a value: the value itself, quantized, or (in the lab) where to find it."""

MAX_WITNESSED = 64
"""Peers whose value is kept: of about ten rounds, with four values each, those of two partners and of whom these had met before.
It may take seven rounds until a peer that has died is known to be dead, and claimed."""

RECENT = 16
"""Of these so many are those of the last four rounds: the latest state of a peer that has just died, if this peer has it."""

MAX_DEPOSITS = 64
"""Of a peer with so many neighbours as guardians: on average there are four."""


@dataclass(frozen=True, slots=True)
class Trace:
    """What a peer says in an offer or an answer about its own past."""

    changes: int
    """How often its value has changed in this sum, by exchanges or otherwise; 0 in the beginning."""
    previous: PeerId | None
    """Its partner in the last exchange, if its value has not changed since; else None."""
    previous_changes: int
    """That partner's count just after."""


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """A witness's offer to take over from a dead peer. Greater is better: a later state, then at first hand, then by id."""

    changes: int
    """The dead peer's count in the state that is witnessed."""
    direct: bool
    witness: PeerId


@dataclass(frozen=True, slots=True)
class _Known(Generic[Held]):
    """A note of one state of a peer."""

    changes: int
    direct: bool
    held: Held

    def order(self) -> tuple[int, bool]:
        return self.changes, self.direct


class WitnessBook(Generic[Held]):
    """What one peer could restore of others, the most recent MAX_WITNESSED, and as many that it was told of, or has claimed."""

    def __init__(self) -> None:
        self._held: OrderedDict[PeerId, _Known[Held]] = OrderedDict()
        self._passed_on: OrderedDict[PeerId, _Known[Held]] = OrderedDict()
        """Apart, so that nobody can drive out what this peer has seen itself."""
        self._claimed: OrderedDict[PeerId, _Known[Held]] = OrderedDict()
        """What this peer has said that it could restore, whatever else it has seen since."""
        self._deposits: dict[PeerId, _Known[Held]] = {}

    def exchanged(self, partner: PeerId, partner_trace: Trace, own_after: Held, received: Held) -> None:
        """Note an exchange that was applied. partner_trace: as of its offer or answer, so before; own_after: what both
        hold now; received: what the partner transmitted.
        """
        if partner_trace.previous is not None:
            _note(self._held, partner_trace.previous, _Known(partner_trace.previous_changes, False, received))
        _note(self._held, partner, _Known(partner_trace.changes + 1, True, own_after))

    def deposited(self, peer: PeerId, trace: Trace, held: Held) -> None:
        """Note what a peer has left with this one as its guardian; kept for the whole sum, unless something newer is known."""
        if peer in self._deposits or len(self._deposits) < MAX_DEPOSITS:
            self._deposits[peer] = _Known(trace.changes, True, held)

    def recent(self, peer: PeerId) -> tuple[int, bool, Held] | None:
        """What this peer has seen of another (its changes, whether at first hand, the value), if it is one of the last RECENT."""
        for known in itertools.islice(reversed(self._held), RECENT):
            if known == peer:
                noted = self._held[peer]
                return noted.changes, noted.direct, noted.held
        return None

    def passed_on(self, peer: PeerId, trace: Trace, direct: bool, held: Held) -> None:
        """Note what another witness knows of a peer that may have died. trace: of that state; its `previous` is the other
        witness, if that one still holds the same itself.
        """
        if trace.previous is not None:
            _note(self._passed_on, trace.previous, _Known(trace.previous_changes, direct, held))
        _note(self._passed_on, peer, _Known(trace.changes, direct, held))

    def forget_exchanges(self) -> None:
        """Keep deposits alone."""
        self._held.clear()
        self._passed_on.clear()
        self._claimed.clear()

    def has_deposit(self, peer: PeerId) -> bool:
        return peer in self._deposits

    def claim(self, dead: PeerId, own_id: PeerId) -> Claim | None:
        """What this peer can claim of a dead one, and keeps for then; None: it knows nothing."""
        known = self._best(dead)
        if known is None:
            return None
        _note(self._claimed, dead, known)
        return Claim(known.changes, known.direct, own_id)

    def take(self, dead: PeerId) -> Held:
        """The value to take over: what was claimed. Raises KeyError when nothing is known."""
        known = self._claimed.pop(dead, None) or self._best(dead)
        if known is None:
            raise KeyError(dead)
        self._held.pop(dead, None)
        self._passed_on.pop(dead, None)
        return known.held

    def _best(self, peer: PeerId) -> _Known[Held] | None:
        """The latest of its states; of equals what is known at first hand, then what this peer has seen itself."""
        known = [notes[peer] for notes in (self._held, self._passed_on, self._claimed) if peer in notes]
        return max(known, key=_Known.order, default=self._deposits.get(peer))


def _note(notes: OrderedDict[PeerId, _Known[Held]], peer: PeerId, known: _Known[Held]) -> None:
    if peer in notes and notes[peer].order() >= known.order():
        return
    notes[peer] = known
    notes.move_to_end(peer)
    while len(notes) > MAX_WITNESSED:
        notes.popitem(last=False)


def heir(claims: Iterable[Claim]) -> Claim | None:
    """The claim that all who have seen the same claims agree on; None without any: then the dead peer's value is lost."""
    return max(claims, default=None)
