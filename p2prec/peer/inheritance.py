"""Who takes over what a crashed peer held, so that the masks in it still cancel.

In a private sum a lost peer's share of everybody's masks would stay in the result uncancelled: hundreds of times the noise of
the sum. But the dead leave traces. After an exchange both sides hold the same value; so the last partner of a crashed peer
knows what was lost (a direct witness). And what a peer offers is, if it has done nothing in between, what its previous
partner holds as well; so whoever it meets next is an indirect witness to that one. Of all witnesses to a dead peer the one to
its latest exchange adds what it knows to its own value. If both partners of an exchange die and nobody saw either of them
afterwards, the latest witnesses of both are those of before, and their two claims together undo the exchange: the sum is
exact again.

Each peer counts the changes of its value; the counter and the previous partner travel with every offer and answer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from p2prec.types import PeerId

Held = TypeVar("Held")
"""What a witness keeps of a value: the value itself, quantized, or (in the lab) where to find it."""

MAX_WITNESSED = 32
"""Peers whose value is kept: about five rounds of meeting two peers each, and their previous partners."""

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


class WitnessBook(Generic[Held]):
    """What one peer could restore of others, the most recent MAX_WITNESSED."""

    def __init__(self) -> None:
        self._held: OrderedDict[PeerId, tuple[int, bool, Held]] = OrderedDict()
        self._deposits: dict[PeerId, tuple[int, bool, Held]] = {}

    def exchanged(self, partner: PeerId, partner_trace: Trace, own_after: Held, received: Held) -> None:
        """Note an exchange that was applied. partner_trace: as of its offer or answer, so before; own_after: what both
        hold now; received: what the partner transmitted.
        """
        if partner_trace.previous is not None:
            self._note(partner_trace.previous, partner_trace.previous_changes, False, received)
        self._note(partner, partner_trace.changes + 1, True, own_after)

    def deposited(self, peer: PeerId, trace: Trace, held: Held) -> None:
        """Note what a peer has left with this one as its guardian; kept for the whole sum, unless something newer is known."""
        if peer in self._deposits or len(self._deposits) < MAX_DEPOSITS:
            self._deposits[peer] = (trace.changes, True, held)

    def forget_exchanges(self) -> None:
        """Keep deposits alone."""
        self._held.clear()

    def has_deposit(self, peer: PeerId) -> bool:
        return peer in self._deposits

    def _note(self, peer: PeerId, changes: int, direct: bool, held: Held) -> None:
        known = self._held.get(peer)
        if known is not None and (known[0], known[1]) >= (changes, direct):
            return
        self._held[peer] = (changes, direct, held)
        self._held.move_to_end(peer)
        while len(self._held) > MAX_WITNESSED:
            self._held.popitem(last=False)

    def claim(self, dead: PeerId, own_id: PeerId) -> Claim | None:
        """What this peer can claim of a dead one; None: it knows nothing."""
        known = self._held.get(dead, self._deposits.get(dead))
        return None if known is None else Claim(known[0], known[1], own_id)

    def take(self, dead: PeerId) -> Held:
        """The value to take over. Raises KeyError when nothing is known."""
        return (self._held.pop(dead) if dead in self._held else self._deposits[dead])[2]


def heir(claims: Iterable[Claim]) -> Claim | None:
    """The claim that all who have seen the same claims agree on; None without any: then the dead peer's value is lost."""
    return max(claims, default=None)
