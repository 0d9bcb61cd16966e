"""Makes the test vectors of private sums (privacy-v8.md), for `generate.py`: the same swarm with a promise."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgpack
import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from msgspec.structs import replace

from p2prec.identity import Identity
from p2prec.manifest import Manifest, Promise
from p2prec.model.nearest import ROW, Levels, n_rows
from p2prec.peer.inheritance import Trace
from p2prec.peer.messages import Message, Refusal
from p2prec.peer.private_peer import sizes_of
from p2prec.peer.private_sum import Share
from p2prec.peer.sum_messages import (
    BETWEEN_PARTNERS,
    MAX_DISTANCE,
    Alive,
    Claimed,
    Contributed,
    Deposit,
    Enrol,
    Enrolled,
    Gone,
    HandedOver,
    HandOver,
    Inherited,
    InSum,
    Masked,
    MaskNoted,
    NotMasked,
    Opened,
    Pair,
    Relayed,
    Relays,
    Result,
    ResultRequest,
    Returned,
    RollPart,
    Sealed,
    Seen,
    Selection,
    SumAnswer,
    SumCommit,
    SumDecline,
    SumMessage,
    SumOffer,
    SumResolution,
    SumResolve,
    Suspected,
    TakenOut,
    Voided,
    Withdrawn,
    Witnessed,
)
from p2prec.peer.sum_roster import MOST_PARTNERS
from p2prec.privacy.masks import MaskKey
from p2prec.types import PeerId
from p2prec.wire.codec import Codec
from p2prec.wire.seal import Seal, enrolment_signature_input, relay_signature_input
from p2prec.wire.sum_codec import SumCodec
from p2prec.wire.sum_kinds import SumKind

PROMISE = Promise(
    epsilon=4.0,
    n_people=60,
    start=1_800_000_000,
    second_after_s=1200.0,
    enrol_s=60.0,
    contribute_s=120.0,
    recover_s=300.0,
    end_s=600.0,
)
TOKEN = b"8 bytes!"
WORD = bytes(range(32, 64))
EXCHANGE = bytes(range(16))
HOPS = 32
MASK_SECRETS = {"alice": bytes(range(32)), "bob": bytes(range(32, 64))}
"""X25519 private keys."""

Entry = dict[str, Any]
Files = dict[str, bytes]
Add = Callable[..., None]


class PrivateSwarm:
    """The vectors' swarm with a promise, and its codec."""

    def __init__(self, manifest: Manifest, n_items: int) -> None:
        self.manifest = msgspec.structs.replace(manifest, promise=PROMISE)
        self.counts, self.n_selected = sizes_of(PROMISE, n_items)
        self.sums = SumCodec(self.counts, self.n_selected, n_items)
        self.codec = Codec(manifest.learning, n_items, self.sums)

    def share(self, number: int, weight: float, trace: Trace, *, fine: bool = False) -> Share:
        """A share that uses both ends of every range. fine: sixteen bits a value instead of eight."""
        count, rows = self.counts[number], n_rows(self.counts[number])
        most, step, kind = (32767, 257, np.int16) if fine else (127, 7, np.int8)
        levels = (np.arange(rows * ROW) * step % (2 * most + 1) - most).astype(kind)
        levels[count:] = 0
        scales = np.minimum(np.linspace(0, 1000 / most, rows).astype(np.float16), np.float16(1000 / most))
        return Share(Levels(scales, levels.reshape(rows, ROW)), weight, trace)

    def direct(self, alice: PeerId, bob: PeerId) -> list[tuple[str, InSum]]:
        """Who says what to its neighbour."""
        first, last = Trace(1, None, 0), Trace(2**31 - 1, bob, 2**31 - 1)
        items = np.arange(self.n_selected)[::-1].astype(np.int64)
        return [
            ("alice", InSum(1, SumOffer(EXCHANGE, self.share(1, 1.0, first)))),
            ("bob", InSum(1, SumAnswer(EXCHANGE, self.share(1, 0.0, Trace(0, alice, 7))))),
            ("alice", InSum(1, SumCommit(EXCHANGE))),
            ("bob", InSum(2, SumOffer(EXCHANGE[::-1], self.share(2, 1e6, last)))),
            ("alice", InSum(2, SumDecline(EXCHANGE[::-1]))),
            ("bob", InSum(1, SumResolve(EXCHANGE))),
            ("alice", InSum(1, SumResolution(EXCHANGE, True))),
            ("alice", InSum(1, Sealed(b"sealed contribution", 10))),
            ("alice", InSum(1, Deposit(self.share(1, 1.0, first, fine=True)))),
            ("bob", InSum(2, HandOver(self.share(2, 0.5, last)))),
            ("bob", InSum(1, ResultRequest())),
            ("alice", InSum(1, Result(self.share(1, 1.0, Trace(0, None, 0)), 60, None))),
            ("alice", InSum(2, Result(self.share(2, 1.0, Trace(0, None, 0)), 100_001, items))),
            ("bob", InSum(2, Witnessed(alice, True, self.share(2, 0.5, last, fine=True)))),
            ("alice", InSum(1, Witnessed(bob, False, self.share(1, 1.0, Trace(2, None, 0))))),
        ]

    def flooded(self, alice: PeerId, bob: PeerId) -> list[SumMessage]:
        """What Alice says to everybody."""
        return [
            Claimed(bob, 2**31 - 1, True),
            Inherited(bob, 12),
            HandedOver(bob),
            Seen(frozenset({bob}), frozenset()),
            Returned(bob, alice, 255, bytes(range(32))),
            Opened(bob, 1, bytes(range(32))),
            TakenOut(alice, bob, 3),
            Suspected(bob, 0),
            Alive(2**16 - 1),
            Gone(),
            Selection(np.arange(self.n_selected).astype(np.int64)),
            Voided(),
            Withdrawn(),
        ]

    def routed(self) -> list[SumMessage]:
        """What Alice says to a mask partner, near or far."""
        return [
            *(Pair(), Masked(b"sealed shares"), MaskNoted(), NotMasked()),
            *(SumResolve(EXCHANGE), SumResolution(EXCHANGE, False)),
        ]

    def relays(self, alice: Identity, bob: PeerId) -> Relays:
        """All of these in one frame, and one on its way to the collector, signed by Alice."""
        seal = Seal(alice, self.manifest.swarm_id, self.sums)
        floods = [seal.seal(None, 2, _token(n), HOPS, one) for n, one in enumerate(self.flooded(alice.peer_id, bob))]
        gathered = seal.seal(None, 2, _token(63), HOPS - 1, Claimed(bob, 12, False))
        letter_key = self.mask_keys(alice.peer_id, bob)["letter"]
        routed = [
            seal.seal(bob, 1, _token(n + 64), 0, one, letter_key if isinstance(one, BETWEEN_PARTNERS) else None)
            for n, one in enumerate(self.routed())
        ]
        return Relays((*floods, gathered, *routed), (self.roll(alice),), is_eager=True)

    def roll(self, alice: Identity) -> RollPart:
        """Alice has enrolled, and contributed; she says so herself, and as it comes from afar."""
        seal = Seal(alice, self.manifest.swarm_id, self.sums)
        own = seal.enrol(1, Enrol(_mask_key("alice").public, hashlib.sha256(WORD).digest()))
        return RollPart(1, (Enrolled(own), Enrolled(own, MAX_DISTANCE)), (Contributed(alice.peer_id, WORD),))

    def mask_keys(self, alice: PeerId, bob: PeerId) -> dict[str, bytes]:
        """What both make of their secrets in sum 1."""
        own, public = _mask_key("alice"), _mask_key("bob").public
        parties = (public, self.manifest.swarm_id, 1, alice, bob)
        return {"mask": own.shared(*parties), "escrow": own.sealing(*parties), "letter": own.letters(*parties)}

    def entry(self, alice: PeerId, bob: PeerId) -> Entry:
        return {
            "promise": msgspec.to_builtins(PROMISE),
            "swarm_id": self.manifest.swarm_id.hex(),
            "values": {str(number): count for number, count in self.counts.items()},
            "n_selected": self.n_selected,
            "mask_secrets": {name: secret.hex() for name, secret in MASK_SECRETS.items()},
            "mask_keys": {name: key.hex() for name, key in self.mask_keys(alice, bob).items()},
        }

    def relayed_entries(self, relays: Relays) -> list[Entry]:
        """What is inside of each relayed message, and what its origin has signed."""
        swarm_id = self.manifest.swarm_id
        return [
            {
                "kind": one.kind,
                "to": one.to,
                "sum": one.number,
                "token": one.token.hex(),
                "hops": one.hops,
                "body": one.body.hex(),
                "signature_input": relay_signature_input(swarm_id, one).hex(),
                "signature": one.signature.hex(),
            }
            for one in relays.relays
        ]

    def roll_entries(self, part: RollPart) -> Entry:
        """What Alice has signed of it, and the word that it commits her to."""
        return {
            "sum": part.number,
            "word": WORD.hex(),
            "enrolled": [
                {
                    "mask_key": one.enrolment.mask_key.hex(),
                    "commitment": one.enrolment.commitment.hex(),
                    "distance": one.distance,
                    "signature_input": enrolment_signature_input(
                        self.manifest.swarm_id, part.number, one.enrolment
                    ).hex(),
                    "signature": one.enrolment.signature.hex(),
                }
                for one in part.enrolled
            ],
        }

    def refused_bodies(self, alice: Identity, bob: PeerId) -> list[Entry]:
        """Relayed messages whose envelope is in order: forged ones, and others that are malformed inside."""
        seal = Seal(alice, self.manifest.swarm_id, self.sums)
        inherited = seal.seal(None, 1, TOKEN, HOPS, Inherited(bob, 12))
        resolve = seal.seal(bob, 1, TOKEN, HOPS, SumResolve(EXCHANGE))

        def signed(one: Relayed) -> Relayed:
            signature = alice.sign(relay_signature_input(self.manifest.swarm_id, one))
            return replace(one, signature=signature)

        def body(kind: SumKind, *fields: Any, to: PeerId | None = None) -> Relayed:
            return signed(replace(inherited, kind=int(kind), body=msgpack.packb(list(fields)), to=to))

        bobs = Identity.from_seed(bytes([0xB0]) * 32).public_bytes
        cases: list[tuple[str, Refusal, Relayed]] = [
            ("another origin", Refusal.FORGED, replace(inherited, origin=bob)),
            ("another sum", Refusal.FORGED, replace(inherited, number=2)),
            ("another token", Refusal.FORGED, replace(inherited, token=TOKEN[::-1])),
            ("another receiver", Refusal.FORGED, replace(resolve, to=alice.peer_id)),
            ("another body", Refusal.FORGED, replace(inherited, body=msgpack.packb([bytes(32), 12]))),
            ("another kind", Refusal.FORGED, replace(resolve, kind=int(SumKind.MASKED))),
            ("PAIR to everybody", Refusal.MALFORMED, body(SumKind.PAIR)),
            ("GONE to one peer", Refusal.MALFORMED, body(SumKind.GONE, to=bob)),
            ("an offer that is passed on", Refusal.MALFORMED, body(SumKind.OFFER, EXCHANGE, to=bob)),
            ("a share of 31 bytes", Refusal.MALFORMED, body(SumKind.OPENED, bobs, 1, bytes(31))),
            ("a field too many", Refusal.MALFORMED, body(SumKind.GONE, 1)),
            ("changes below 0", Refusal.MALFORMED, body(SumKind.INHERITED, bobs, -1)),
            ("changes of 2^31", Refusal.MALFORMED, body(SumKind.INHERITED, bobs, 2**31)),
            ("half a peer", Refusal.MALFORMED, body(SumKind.SEEN, bobs[:31], b"")),
            ("too many silent", Refusal.MALFORMED, body(SumKind.SEEN, b"", bobs * (MOST_PARTNERS + 1))),
            ("share number 0", Refusal.MALFORMED, body(SumKind.OPENED, bobs, 0, bytes(32))),
            ("an item twice", Refusal.MALFORMED, body(SumKind.SELECTION, bytes(4 * self.n_selected))),
            ("an item too few", Refusal.MALFORMED, body(SumKind.SELECTION, bytes(4 * self.n_selected - 4))),
        ]
        return [
            {
                "why": why,
                "reason": str(reason),
                "relayed": [
                    one.origin,
                    one.to,
                    one.number,
                    one.token.hex(),
                    one.hops,
                    one.kind,
                    one.body.hex(),
                    one.signature.hex(),
                ],
            }
            for why, reason, one in cases
        ]


def _mask_key(name: str) -> MaskKey:
    return MaskKey(X25519PrivateKey.from_private_bytes(MASK_SECRETS[name]))


def _token(number: int) -> bytes:
    return number.to_bytes(8, "big")


def whole_conversation(swarm: PrivateSwarm, alice: Identity, bob: Identity) -> list[tuple[str, Message]]:
    """What follows both HELLOs."""
    said: list[tuple[str, Message]] = list(swarm.direct(alice.peer_id, bob.peer_id))
    return [*said, ("alice", swarm.relays(alice, bob.peer_id))]
