"""What the core tells its driver: actions to carry out, in order, and events to log. All frozen; none does anything by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from msgspec import Struct

from p2prec.peer.messages import Message
from p2prec.types import PeerId

# --- actions -------------------------------------------------------------------------------------------------------------


class Send(Struct, frozen=True):
    """Send this message on this link."""

    link: int
    message: Message


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect to this address; report `opened` or `dial_failed`."""

    host: str
    port: int
    peer_id: PeerId | None
    """Who is expected there, if known."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close this link once what was sent before has left. The core has already forgotten it: no `closed` is due."""

    link: int


Action: TypeAlias = Send | Dial | Disconnect

# --- events --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PeerSighted:
    """A peer was heard of for the first time."""

    peer_id: PeerId
    host: str
    port: int
    source: str
    """"mdns", "static" or "exchange"."""


@dataclass(frozen=True, slots=True)
class NeighbourUp:
    """HELLO is done; the peer is a neighbour from now on."""

    peer_id: PeerId
    host: str
    outbound: bool
    neighbours: int
    """Neighbours after it."""


@dataclass(frozen=True, slots=True)
class NeighbourDown:
    peer_id: PeerId
    reason: str
    neighbours: int


@dataclass(frozen=True, slots=True)
class DialFailed:
    host: str
    port: int
    reason: str
    retry_s: float


@dataclass(frozen=True, slots=True)
class ExchangeDone:
    """Both sides moved (this side knows that it did)."""

    peer_id: PeerId
    initiated: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class ExchangeFailed:
    """Neither side moved, or this side cannot know and gave up waiting."""

    peer_id: PeerId
    initiated: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Contributed:
    """An own contribution entered the accumulators; its ledger row is on disk."""

    contribution: int
    """1 for the first ever of this identity in this swarm."""
    epsilon_spent: float
    delta: float


@dataclass(frozen=True, slots=True)
class BudgetSpent:
    """The next contribution would exceed the budget: the peer goes on receiving and keeps its own to itself."""

    epsilon_spent: float
    epsilon_budget: float


@dataclass(frozen=True, slots=True)
class LedgerFailed:
    """The ledger could not be written, so nothing was contributed."""

    reason: str


@dataclass(frozen=True, slots=True)
class ModelRestarted:
    """The model's numbers broke: this peer begins anew and takes over what its neighbours have learned."""


@dataclass(frozen=True, slots=True)
class MessageRefused:
    peer_id: PeerId
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class PeerBanned:
    peer_id: PeerId
    seconds: float


@dataclass(frozen=True, slots=True)
class IdentityConflict:
    """The same identity runs on another machine: exchanges are stopped until it is gone."""

    host: str
    proven: bool
    """True: this peer met its double. False: a neighbour says so (exchanges go on)."""


@dataclass(frozen=True, slots=True)
class IdentityConflictOver:
    """The double has not been seen for a while; exchanges go on."""


Event: TypeAlias = (
    PeerSighted
    | NeighbourUp
    | NeighbourDown
    | DialFailed
    | ExchangeDone
    | ExchangeFailed
    | Contributed
    | BudgetSpent
    | LedgerFailed
    | ModelRestarted
    | MessageRefused
    | PeerBanned
    | IdentityConflict
    | IdentityConflictOver
)
