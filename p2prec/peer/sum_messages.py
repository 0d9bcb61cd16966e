"""What peers say to each other in a private sum (protocols/privacy-v1.md). All are signed and bounded by the layer below."""

from __future__ import annotations

from dataclasses import dataclass

from p2prec.peer.private_sum import Share
from p2prec.types import PeerId


@dataclass(frozen=True, slots=True)
class Enrol:
    """To everybody: I shall contribute to this sum."""

    mask_key: bytes
    """X25519 public key, fresh for this sum."""


@dataclass(frozen=True, slots=True)
class Pair:
    """To a mask partner: I have your key, and shall add our mask. It holds once both have said so."""


@dataclass(frozen=True, slots=True)
class Masked:
    """To a mask partner: our mask is in my value."""


@dataclass(frozen=True, slots=True)
class MaskNoted:
    """The answer: ours is in mine as well. A peer shows its value to nobody before all its partners have answered."""


@dataclass(frozen=True, slots=True, eq=False)
class Deposit:
    """To a guardian, before mixing begins: my whole contribution, in case that I die early or the sum has to be mixed again."""

    share: Share


@dataclass(frozen=True, slots=True)
class NotMasked:
    """The answer of a partner that has not added it: take it out again."""


@dataclass(frozen=True, slots=True)
class Escrow:
    """To a mask partner: shares of the keys of my masks with others, for the case that both of us are gone."""

    shares: dict[PeerId, tuple[int, bytes]]
    """By the other partner: number and share (`p2prec.privacy.escrow`)."""


@dataclass(frozen=True, slots=True, eq=False)
class SumOffer:
    """To a neighbour: let us both move to the middle."""

    exchange: bytes
    share: Share


@dataclass(frozen=True, slots=True, eq=False)
class SumAnswer:
    """The responder's half; it now waits for the commit, and does nothing else meanwhile."""

    exchange: bytes
    share: Share


@dataclass(frozen=True, slots=True)
class SumDecline:
    """Busy, or not for the likes of you."""

    exchange: bytes


@dataclass(frozen=True, slots=True)
class SumCommit:
    """The initiator has moved; so does the responder."""

    exchange: bytes


@dataclass(frozen=True, slots=True)
class SumResolve:
    """From a responder without a commit: have you moved?"""

    exchange: bytes


@dataclass(frozen=True, slots=True)
class SumResolution:
    """The answer. An exchange that was not applied never will be."""

    exchange: bytes
    applied: bool


@dataclass(frozen=True, slots=True)
class Claimed:
    """To everybody: this peer is dead, and I could restore it as of so many of its changes."""

    dead: PeerId
    changes: int
    direct: bool


@dataclass(frozen=True, slots=True)
class Inherited:
    """To everybody: I have taken over from a dead peer; it is part of my value from so many of my changes on."""

    dead: PeerId
    changes: int


@dataclass(frozen=True, slots=True, eq=False)
class HandOver:
    """From a peer that stops: everything that I hold. It leaves once this is acknowledged."""

    share: Share


@dataclass(frozen=True, slots=True)
class HandedOver:
    """To everybody, by the receiver: that peer's value is part of mine; nobody is to inherit from it."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class Seen:
    """To everybody, at the recovery deadline: I am here, and have met, or know of exchanges of, these peers."""

    peers: frozenset[PeerId]
    silent: frozenset[PeerId]
    """Mask partners of this peer that never said `Masked`."""


@dataclass(frozen=True, slots=True)
class Returned:
    """To everybody: shares, held in escrow, of a dead peer's key of the mask with a peer that never appeared."""

    owner: PeerId
    absent: PeerId
    number: int
    share: bytes


SumMessage = (
    Enrol
    | Pair
    | Masked
    | MaskNoted
    | NotMasked
    | Deposit
    | Escrow
    | SumOffer
    | SumAnswer
    | SumDecline
    | SumCommit
    | SumResolve
    | SumResolution
    | Claimed
    | Inherited
    | HandOver
    | HandedOver
    | Seen
    | Returned
)
