"""What peers say to each other in a private sum (protocols/privacy-v8.md). The layer below bounds them, and knows who says so.

Each peer makes thousands of these in a sum, so they are no dataclasses, which take five times as long to make.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from p2prec.types import IndexArray, PeerId

if TYPE_CHECKING:  # every peer knows these messages, but only swarms with a promise carry the rest
    from p2prec.peer.private_sum import Share


class Enrol(Struct, frozen=True):
    """To everybody: I shall contribute to this sum."""

    mask_key: bytes
    """X25519 public key, fresh for this sum."""
    commitment: bytes
    """SHA-256 of the word that `Contributes` will say."""


class Pair(Struct, frozen=True):
    """To a mask partner: I have your key, and shall add our mask. It holds once both have said so."""


class Contributes(Struct, frozen=True):
    """To everybody: my noise is in what I am about to show. Nobody shows anything before enough people have said so."""

    word: bytes
    """What the sender's enrolment commits it to: only the sender can know it, and to check it takes a hash, not a signature."""


class Masked(Struct, frozen=True):
    """To a mask partner: our mask is in my value."""

    escrow: bytes
    """Shares of the keys of my masks with others, for the case that both of us are gone. Encrypted to the partner
    (`p2prec.peer.escrow_box`): peers on the way must not put a key together.
    """


class MaskNoted(Struct, frozen=True):
    """The answer: ours is in mine as well. A peer shows its value to nobody before all its partners have answered."""


class Deposit(Struct, frozen=True, eq=False):
    """To a guardian, before mixing begins: my whole contribution, in case that I die early or the sum has to be mixed again."""

    share: Share


class Witnessed(Struct, frozen=True, eq=False):
    """To a neighbour, by those who have just exchanged with a peer whose link is gone: what I know of it."""

    peer: PeerId
    direct: bool
    """At first hand."""
    share: Share
    """Its value, as that peer held it. The previous partner of its trace: the sender, if it still holds the same itself."""


class Sealed(Struct, frozen=True):
    """To a guardian, when contributing: my contribution, encrypted. Should I die before my partners have answered, they put
    its key together (`Opened`).
    """

    box: bytes
    threshold: int
    """How many shares the key takes."""


class Opened(Struct, frozen=True):
    """To everybody, by a mask partner of a dead peer that nobody can restore: my share of the key to its box."""

    owner: PeerId
    number: int
    share: bytes


class TakenOut(Struct, frozen=True):
    """To everybody: an owner's mask (mine, or of a dead peer) with a peer that never appeared is out of my value, from so many of
    my changes on.
    """

    owner: PeerId
    absent: PeerId
    changes: int


class Withdrawn(Struct, frozen=True):
    """To everybody: I have told my mask partners that I masked, but never showed my value, and never will. Take our masks out."""


class NotMasked(Struct, frozen=True):
    """The answer of a partner that has not added it: take it out again."""


class SumOffer(Struct, frozen=True, eq=False):
    """To a neighbour: let us both move to the middle."""

    exchange: bytes
    share: Share


class SumAnswer(Struct, frozen=True, eq=False):
    """The responder's half; it now waits for the commit, and does nothing else meanwhile."""

    exchange: bytes
    share: Share


class SumDecline(Struct, frozen=True):
    """Busy, or not for the likes of you."""

    exchange: bytes


class SumCommit(Struct, frozen=True):
    """The initiator has moved; so does the responder."""

    exchange: bytes


class SumResolve(Struct, frozen=True):
    """From a responder without a commit: have you moved?"""

    exchange: bytes


class SumResolution(Struct, frozen=True):
    """The answer. An exchange that was not applied never will be."""

    exchange: bytes
    applied: bool


class Claimed(Struct, frozen=True):
    """To everybody: this peer is dead, and I could restore it as of so many of its changes."""

    dead: PeerId
    changes: int
    direct: bool


class Inherited(Struct, frozen=True):
    """To everybody: I have taken over from a dead peer; it is part of my value from so many of my changes on."""

    dead: PeerId
    changes: int


class HandOver(Struct, frozen=True, eq=False):
    """From a peer that stops: everything that I hold. It leaves once this is acknowledged."""

    share: Share


class HandedOver(Struct, frozen=True):
    """To everybody, by the receiver: that peer's value is part of mine; nobody is to inherit from it."""

    peer: PeerId


MAX_SEEN = 1024
"""Peers in one `Seen`."""


class Seen(Struct, frozen=True):
    """To everybody, at the recovery deadline, by those who have something to say."""

    peers: frozenset[PeerId]
    """Dead peers that I have met, or know of exchanges of, and that nobody has claimed to restore."""
    silent: frozenset[PeerId]
    """Mask partners of this peer that never said `Masked`."""


class Returned(Struct, frozen=True):
    """To everybody: shares, held in escrow, of a dead peer's key of the mask with a peer that never appeared."""

    owner: PeerId
    absent: PeerId
    number: int
    share: bytes


class Suspected(Struct, frozen=True):
    """To everybody: that peer's connection to me broke, and it is not back. Who has not heard from it soon holds it for dead."""

    peer: PeerId
    incarnation: int
    """How often that peer has contradicted before, as far as the sender knows."""


class Alive(Struct, frozen=True):
    """To everybody, by a suspected peer: I am not dead."""

    incarnation: int
    """Counts its contradictions."""


class Gone(Struct, frozen=True):
    """To everybody, by a peer that has started during a sum: whatever I held in it is lost. Hold me for dead."""


class Selection(Struct, frozen=True, eq=False):
    """To everybody, in the second sum, by a proposer: these items are counted in pairs."""

    items: IndexArray
    """The most popular first."""


class Voided(Struct, frozen=True):
    """To everybody, at the end of a sum: my copy has more noise than was planned."""


class ResultRequest(Struct, frozen=True):
    """To a neighbour: tell me what a sum that is over came to."""


class Result(Struct, frozen=True, eq=False):
    """The answer of a peer that has its own result."""

    share: Share
    """Value and weight; an empty trace."""
    people: int
    """How many took part."""
    items: IndexArray | None
    """Of the second sum: which items are counted in pairs."""


SumMessage = (
    Enrol
    | Pair
    | Contributes
    | Masked
    | MaskNoted
    | NotMasked
    | Deposit
    | Sealed
    | Opened
    | TakenOut
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
    | Suspected
    | Alive
    | Gone
    | Selection
    | Voided
    | Withdrawn
    | Witnessed
    | ResultRequest
    | Result
)

Outgoing = list[tuple[PeerId | None, SumMessage]]
"""Messages to send; None: to everybody that is there."""

ENTERED = (Enrol, Contributes)
"""For everybody: entered in the roll, which is passed on from neighbour to neighbour (`p2prec.peer.roll`)."""
FLOODED = (
    *(Claimed, Inherited, HandedOver, Seen, Returned, Opened, TakenOut),
    *(Suspected, Alive, Gone, Withdrawn, Selection, Voided),
)
"""For everybody: passed on from neighbour to neighbour."""
UNPROVEN = (Claimed, Inherited, Suspected, Seen, TakenOut, Returned, Opened)
"""Of these, those whose signature is verified by whoever relies on it, not by everybody who passes it on: many may say the same,
and to verify all would be much of what a sum costs a device. What is verified: the claim that wins, claims about oneself, what
is said of absent partners whose masks this peer may have to take out, shares of a key by whoever puts it together. To suspect
takes no proof, since anybody may. Whoever forges the rest gains no more than by false claims of its own: it can spoil a sum.
"""
Proof = Callable[[], bool]
"""Verifies a message, when it is asked for the first time: whether its origin has really said so."""


def proven() -> bool:
    """The proof of what has been verified."""
    return True


ROUTED = (Pair, Masked, MaskNoted, NotMasked, SumResolve, SumResolution)
"""For one peer, near or far: they find their way."""
BETWEEN_PARTNERS = (Pair, Masked, MaskNoted, NotMasked)
"""Of these, those that mask partners say to each other: authenticated by a key that both have, which takes a hundredth of a
signature's time."""
DIRECT = (
    *(SumOffer, SumAnswer, SumDecline, SumCommit, SumResolve, SumResolution),
    *(Sealed, Deposit, Witnessed, HandOver, ResultRequest, Result),
)
"""For a neighbour, on its link alone."""


GATHERED = UNPROVEN
"""Of those for everybody, those about the dead, which many say at the same moment: in a sum with beats they go to one peer first,
which tells everybody (`p2prec.peer.gathering`). Nobody on the way there verifies them.
"""

# --- how they travel ---


class Letter(Struct, frozen=True):
    """A message for this peer."""

    origin: PeerId
    number: int
    message: SumMessage
    proof: Proof = proven
    """Verifies the signature, if that has not been done yet: whether the origin has really said so."""


MAX_HOPS = 32
"""Of a message to one peer; in a swarm with 8 neighbours each, a thousand peers are 4 or 5 apart. A flood has as many all the
way, and fewer only on its way to the collector.
"""


class Relayed(Struct, frozen=True, gc=False):
    """A message on its way from its origin through peers that are neither its origin nor, perhaps, its receiver.

    Its signature is the origin's, or, BETWEEN_PARTNERS, an authentication code of the same length; it covers all but `hops`.
    """

    origin: PeerId
    to: PeerId | None
    """None: everybody."""
    number: int
    """Of the sum: 1 or 2."""
    token: bytes
    """8 random bytes: with the origin, the name of this message."""
    hops: int
    """How often a message to one peer, or to the collector, may still be passed on; MAX_HOPS if it is for everybody by now."""
    kind: int
    """Of the message inside."""
    body: bytes
    """The message inside, as the origin has encoded it."""
    signature: bytes

    @property
    def is_flood(self) -> bool:
        """Whether it goes to everybody; if not, to one peer, or to the collector, who is to tell everybody."""
        return self.to is None and self.hops == MAX_HOPS

    def one_hop_on(self) -> Relayed:
        """The same after one more has passed it on."""
        return self.with_hops(max(0, self.hops - 1))

    def with_hops(self, hops: int) -> Relayed:
        """The same as it came on another way."""
        return Relayed(self.origin, self.to, self.number, self.token, hops, self.kind, self.body, self.signature)


MAX_DISTANCE = 32
_ENROLLED_BYTES, _CONTRIBUTED_BYTES, _PART_BYTES = 161, 64, 16


class Enrolment(Struct, frozen=True, gc=False):
    """Somebody's `Enrol` in the roll."""

    origin: PeerId
    mask_key: bytes
    commitment: bytes
    signature: bytes
    """The origin's, over all of this."""


class Enrolled(Struct, frozen=True, gc=False):
    """An enrolment as it comes from a neighbour."""

    enrolment: Enrolment
    distance: int = 0
    """How often it has been passed on, MAX_DISTANCE at most."""

    @property
    def origin(self) -> PeerId:
        return self.enrolment.origin


class Contributed(NamedTuple):
    """Somebody's `Contributes` in the roll."""

    origin: PeerId
    word: bytes


class RollPart(Struct, frozen=True):
    """What a neighbour has of the roll of one sum, or what is new of it."""

    number: int
    """Of the sum: 1 or 2."""
    enrolled: tuple[Enrolled, ...]
    contributed: tuple[Contributed, ...]
    is_gathered: bool = False
    """Whether the contributions are on their way to the collector, who is to tell everybody."""

    @property
    def size(self) -> int:
        """Bytes on the wire, about."""
        return _ENROLLED_BYTES * len(self.enrolled) + _CONTRIBUTED_BYTES * len(self.contributed) + _PART_BYTES


class Relays(Struct, frozen=True):
    """To a neighbour: messages that are passed on, and entries of the roll."""

    relays: tuple[Relayed, ...]
    roll: tuple[RollPart, ...] = ()
    is_eager: bool = False
    """Whether the sender has chosen the receiver to share floods with (`p2prec.peer.eager`)."""


class InSum(Struct, frozen=True, eq=False):
    """To a neighbour: a message of its own in a sum."""

    number: int
    """Of the sum: 1 or 2."""
    message: SumMessage
    """One of DIRECT."""
