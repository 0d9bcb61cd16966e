"""What peers say to each other, as the core sees it: no bytes, signatures or sockets (those are `p2prec.wire`).

An exchange is three messages. The initiator offers its tables; the responder answers with its own and is then *in doubt*; the
initiator applies and confirms with a commit, upon which the responder applies. Both move by half of the difference of the two
transmitted (quantized) vectors, so the swarm's sum is conserved to rounding, or neither moves. When the connection breaks in
between, the responder asks with `Resolve` at the next meeting; the increment commutes with all others, so late is as good as now.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TypeAlias

from p2prec.model.quantize import QuantizedTables
from p2prec.peer.sum_messages import InSum, Relays


class DeclineReason(IntEnum):
    """Why an offer is not answered."""

    BUSY = 1
    LEAVING = 2
    QUARANTINED = 3


class CloseReason(IntEnum):
    """Why a connection ends. What the other side should do follows from it."""

    LEAVING = 1
    """The daemon is stopping. Dial again when it is announced again."""
    DUPLICATE_CONNECTION = 2
    """Two connections joined the same pair; the other one is kept."""
    TOO_MANY = 3
    """The view is full. Try somebody else."""
    MISBEHAVIOUR = 4
    """Too many refused messages. Do not come back soon."""
    DUPLICATE_IDENTITY = 5
    """The same identity runs in two places."""
    ROTATED = 6
    """Peer sampling chose another neighbour. Nothing is wrong."""


class Refusal(StrEnum):
    """Why a message was refused. Counted by reason in `p2prec status`."""

    FORGED = "forged"
    REPLAYED = "replayed"
    SPLICED = "spliced"
    MALFORMED = "malformed"
    OVERSIZED = "oversized"
    WRONG_SWARM = "wrong-swarm"
    UNEXPECTED = "unexpected"
    """Well-formed, but out of turn: a commit without an answer, a second hello, a flood."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message on every connection, from both sides. A peer counts as connected only after it."""

    swarm_id: bytes
    """32 bytes."""
    instance: bytes
    """16 random bytes drawn at each start of the daemon: tells one identity run twice from one that restarted."""
    session_nonce: bytes
    """16 random bytes drawn for this connection; both sides' nonces enter every later signature."""
    listen_port: int
    """TCP port on which the sender accepts connections, 0 if none."""
    age_rounds: int
    """Rounds of training behind the sender's model."""
    agent: str
    """Software and version, at most 64 characters; for people, never for decisions."""


@dataclass(frozen=True, slots=True)
class Offer:
    """Opens an exchange."""

    exchange_id: bytes
    """16 random bytes, chosen by the initiator."""
    age_rounds: int
    tables: QuantizedTables


@dataclass(frozen=True, slots=True)
class Answer:
    """The responder's side of the exchange. It is in doubt until the commit."""

    exchange_id: bytes
    age_rounds: int
    tables: QuantizedTables


@dataclass(frozen=True, slots=True)
class Commit:
    """The initiator has applied the exchange; so must the responder."""

    exchange_id: bytes


@dataclass(frozen=True, slots=True)
class Decline:
    """The offer is not taken up; neither side moves."""

    exchange_id: bytes
    reason: DeclineReason


@dataclass(frozen=True, slots=True)
class Resolve:
    """Asks the initiator what became of an exchange whose commit did not arrive."""

    exchange_id: bytes


@dataclass(frozen=True, slots=True)
class Resolution:
    """The initiator's word on an exchange: applied by it or not."""

    exchange_id: bytes
    applied: bool


@dataclass(frozen=True, slots=True)
class Ping:
    token: bytes
    """8 random bytes."""


@dataclass(frozen=True, slots=True)
class Pong:
    token: bytes


@dataclass(frozen=True, slots=True)
class PeersRequest:
    """Asks for addresses of other peers of the swarm (peer exchange)."""

    limit: int
    """1 to 64."""


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Where a peer was last known to listen."""

    peer_id: str
    host: str
    """An IPv4 or IPv6 literal (`is_host_literal`)."""
    port: int


def is_host_literal(host: str) -> bool:
    """Whether `host` may stand in a PeerAddress: the IP literal of one host, good on every machine of its network.

    A name means something to whoever typed it only; a zone (`fe80::1%eth0`) only to the machine that has the interface.
    """
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host and not literal.is_unspecified and not literal.is_multicast


def is_loopback(host: str) -> bool:
    """Whether `host` is an address of the machine itself, or a name for it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True)
class Peers:
    """Answers PeersRequest; at most 64 addresses, heard at first hand only."""

    addresses: tuple[PeerAddress, ...]


@dataclass(frozen=True, slots=True)
class Close:
    """The last message before the sender closes the connection."""

    reason: CloseReason
    detail: str = ""
    """For people; at most 200 characters."""


Message: TypeAlias = (
    Hello
    | Offer
    | Answer
    | Commit
    | Decline
    | Resolve
    | Resolution
    | Ping
    | Pong
    | PeersRequest
    | Peers
    | Close
    | InSum
    | Relays
)
"""The last two in swarms with a promise alone (`p2prec.peer.sum_messages`)."""
