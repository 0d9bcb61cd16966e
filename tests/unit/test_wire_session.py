"""Sessions: who said what to whom, in which order. Every attack of the protocol text, and what it must not change."""

from __future__ import annotations

import hashlib

import msgpack
import pytest

from p2prec.errors import RemoteMisbehaviour
from p2prec.identity import Identity
from p2prec.manifest import LearningParameters
from p2prec.peer.messages import Close, CloseReason, Commit, Hello, Ping, Pong, Refusal
from p2prec.types import SwarmId
from p2prec.wire.codec import Codec, MessageType
from p2prec.wire.envelope import NO_SESSION, Envelope, pack, session_id, signature_input, unpack
from p2prec.wire.limits import MAX_FRAME_BYTES
from p2prec.wire.session import Session

CODEC = Codec(LearningParameters(n_factors=2), 4)
SWARM, OTHER_SWARM = SwarmId(b"\x01" * 32), SwarmId(b"\x02" * 32)
ALICE, BOB, MALLORY = (Identity.from_seed(bytes([number]) * 32) for number in (1, 2, 3))


def session(
    identity: Identity, remote: Identity, nonce: int, *, swarm: SwarmId = SWARM, instance: bytes = bytes(16)
) -> Session:
    return Session(identity, swarm, remote.peer_id, CODEC, session_nonce=bytes([nonce]) * 16, instance=instance)


def greet(one: Session) -> bytes:
    return one.encode(one.hello(listen_port=4000, age_rounds=3, agent="test"))


def pair(nonces: tuple[int, int] = (1, 2)) -> tuple[Session, Session]:
    """Two established sessions, Alice's and Bob's."""
    alice, bob = session(ALICE, BOB, nonces[0]), session(BOB, ALICE, nonces[1])
    bob.decode(greet(alice))
    alice.decode(greet(bob))
    return alice, bob


def refusal(receiver: Session, frame: bytes) -> RemoteMisbehaviour:
    with pytest.raises(RemoteMisbehaviour) as refused:
        receiver.decode(frame)
    return refused.value


def ping(number: int) -> Ping:
    return Ping(bytes([number]) * 8)


def signed_by(
    sender: Identity,
    receiver: Identity,
    message: tuple[MessageType, list[object]],
    sequence: int,
    session: bytes,
    swarm_id: bytes = SWARM,
) -> bytes:
    """A frame with a valid signature over whatever the test wants to be signed."""
    kind, fields = message
    payload: bytes = msgpack.packb(fields)
    signed = signature_input(
        swarm_id=swarm_id,
        sender=sender.public_bytes,
        receiver=receiver.public_bytes,
        session=session,
        kind=kind,
        sequence=sequence,
        payload=payload,
    )
    return pack(Envelope(kind, sequence, payload, sender.sign(signed)))


SESSION = session_id(b"\x01" * 16, b"\x02" * 16)


# The ordinary course


def test_a_session_is_established_by_both_hellos() -> None:
    alice, bob = session(ALICE, BOB, 1, instance=b"i" * 16), session(BOB, ALICE, 2)
    hello = bob.decode(greet(alice))
    assert hello == Hello(SWARM, b"i" * 16, b"\x01" * 16, 4000, 3, "test")
    assert (alice.established, bob.established) == (False, False)  # Bob has not said hello himself
    alice.decode(greet(bob))
    assert (alice.established, bob.established) == (True, True)
    for number in range(5):
        assert bob.decode(alice.encode(ping(number))) == ping(number)
        assert alice.decode(bob.encode(Pong(bytes(8)))) == Pong(bytes(8))


def test_the_session_id_does_not_depend_on_who_dialled() -> None:
    assert session_id(b"a" * 16, b"b" * 16) == session_id(b"b" * 16, b"a" * 16)
    assert session_id(b"a" * 16, b"b" * 16) == hashlib.sha256(b"p2prec/3 session" + b"a" * 16 + b"b" * 16).digest()


def test_the_signed_bytes_are_laid_out_as_documented() -> None:
    signed = signature_input(
        swarm_id=b"s" * 32,
        sender=b"a" * 32,
        receiver=b"b" * 32,
        session=b"n" * 32,
        kind=MessageType.PING,
        sequence=258,
        payload=b"payload",
    )
    parts = [b"p2prec/3 message", b"s" * 32, b"a" * 32, b"b" * 32, b"n" * 32, b"\x08", bytes(6) + b"\x01\x02"]
    assert signed == b"".join(parts) + hashlib.sha256(b"payload").digest()
    assert len(signed) == 185


def test_the_envelope_is_five_fields() -> None:
    alice, _ = pair()
    version, kind, sequence, payload, signature = msgpack.unpackb(alice.encode(ping(0)))
    assert (version, kind, sequence, payload, len(signature)) == (3, 8, 1, b"\x91\xc4\x08" + bytes(8), 64)


def test_a_copied_identity_can_hold_a_session_with_itself() -> None:
    one, other = session(ALICE, ALICE, 1, instance=b"1" * 16), session(ALICE, ALICE, 2, instance=b"2" * 16)
    hello = other.decode(greet(one))
    one.decode(greet(other))
    assert isinstance(hello, Hello) and hello.instance == b"1" * 16
    close = Close(CloseReason.DUPLICATE_IDENTITY)
    assert other.decode(one.encode(close)) == close


# Out of turn on this side


def test_nothing_but_hello_is_sent_before_both_hellos() -> None:
    alice, bob = session(ALICE, BOB, 1), session(BOB, ALICE, 2)
    with pytest.raises(ValueError, match="only HELLO"):
        alice.encode(ping(0))
    frame = greet(alice)
    with pytest.raises(ValueError, match="only HELLO"):
        alice.encode(ping(0))
    bob.decode(frame)
    with pytest.raises(ValueError, match="only HELLO"):
        bob.encode(ping(0))
    with pytest.raises(ValueError, match="once"):
        greet(alice)


def test_a_hello_of_another_session_is_not_sent() -> None:
    alice = session(ALICE, BOB, 1)
    for other in (session(ALICE, BOB, 9), session(ALICE, BOB, 1, swarm=OTHER_SWARM)):
        with pytest.raises(ValueError, match="another session"):
            alice.encode(other.hello(listen_port=0, age_rounds=0, agent=""))


def test_a_message_that_cannot_be_sent_uses_no_sequence_number() -> None:
    alice, bob = pair()
    with pytest.raises(ValueError, match="not a valid"):
        alice.encode(Commit(b"short"))
    assert bob.decode(alice.encode(ping(1))) == ping(1)


# Attacks


def test_replayed() -> None:
    alice, bob = pair()
    first, second = alice.encode(ping(1)), alice.encode(ping(2))
    bob.decode(first)
    assert refusal(bob, first).reason == Refusal.REPLAYED
    bob.decode(second)
    assert refusal(bob, first).reason == Refusal.REPLAYED
    assert refusal(bob, second).reason == Refusal.REPLAYED
    assert bob.decode(alice.encode(ping(3))) == ping(3)


def test_a_replayed_hello() -> None:
    alice, bob = session(ALICE, BOB, 1), session(BOB, ALICE, 2)
    hello = greet(alice)
    bob.decode(hello)
    assert refusal(bob, hello).reason == Refusal.REPLAYED


def test_spliced_by_leaving_out() -> None:
    alice, bob = pair()
    left_out, next_one = alice.encode(ping(1)), alice.encode(ping(2))
    assert refusal(bob, next_one).reason == Refusal.SPLICED
    assert bob.decode(left_out) == ping(1)
    assert bob.decode(next_one) == ping(2)


def test_spliced_hello() -> None:
    bob = session(BOB, ALICE, 2)
    fields: list[object] = [SWARM, bytes(16), b"\x01" * 16, 0, 0, ""]
    frame = signed_by(ALICE, BOB, (MessageType.HELLO, fields), 1, NO_SESSION)
    assert refusal(bob, frame).reason == Refusal.SPLICED


def test_a_recording_of_an_earlier_session_is_worthless() -> None:
    """Same peers, same sequence number, same nonce on one side: the other side's fresh nonce is enough."""
    old_alice, old_bob = pair((1, 2))
    recorded = old_alice.encode(ping(1))
    old_bob.decode(recorded)
    alice, bob = session(ALICE, BOB, 1), session(BOB, ALICE, 3)
    bob.decode(greet(alice))
    assert refusal(bob, recorded).reason == Refusal.FORGED


def test_forged_by_another_key() -> None:
    _, bob = pair()
    frame = signed_by(MALLORY, BOB, (MessageType.PING, [bytes(8)]), 1, SESSION)
    assert refusal(bob, frame).reason == Refusal.FORGED


def test_a_message_to_somebody_else_is_forged_here() -> None:
    _, bob = pair()
    frame = signed_by(ALICE, MALLORY, (MessageType.PING, [bytes(8)]), 1, SESSION)
    assert refusal(bob, frame).reason == Refusal.FORGED


def test_a_reflected_message_is_forged() -> None:
    alice, _ = pair()
    frame = alice.encode(ping(1))
    assert refusal(alice, frame).reason == Refusal.FORGED


def test_a_message_signed_for_another_swarm_is_forged() -> None:
    _, bob = pair()
    frame = signed_by(ALICE, BOB, (MessageType.PING, [bytes(8)]), 1, SESSION, OTHER_SWARM)
    assert refusal(bob, frame).reason == Refusal.FORGED


@pytest.mark.parametrize("field", ["kind", "sequence", "payload", "signature"])
def test_no_field_can_be_changed(field: str) -> None:
    alice, bob = pair()
    genuine = unpack(alice.encode(ping(1)))
    changed = {
        "kind": Envelope(MessageType.PONG, genuine.sequence, genuine.payload, genuine.signature),
        "sequence": Envelope(genuine.kind, 2, genuine.payload, genuine.signature),
        "payload": Envelope(genuine.kind, genuine.sequence, genuine.payload[:-1] + b"!", genuine.signature),
        "signature": Envelope(genuine.kind, genuine.sequence, genuine.payload, bytes(64)),
    }[field]
    if field == "sequence":  # so that the order alone does not give it away
        bob.decode(pack(genuine))
    assert refusal(bob, pack(changed)).reason == Refusal.FORGED


def test_a_forged_message_changes_nothing() -> None:
    alice, bob = pair()
    genuine = alice.encode(ping(1))
    forged = pack(Envelope(MessageType.PING, 1, unpack(genuine).payload, bytes(64)))
    for _ in range(3):
        assert refusal(bob, forged).reason == Refusal.FORGED
    assert bob.decode(genuine) == ping(1)


def test_a_forged_hello_changes_nothing() -> None:
    alice, bob = session(ALICE, BOB, 1), session(BOB, ALICE, 2)
    genuine = unpack(greet(alice))
    forged = pack(Envelope(genuine.kind, 0, genuine.payload, bytes(64)))
    assert refusal(bob, forged).reason == Refusal.FORGED
    assert isinstance(bob.decode(pack(genuine)), Hello)


def test_a_peer_of_another_swarm_is_told_from_a_forger() -> None:
    bob = session(BOB, ALICE, 2)
    refused = refusal(bob, greet(session(ALICE, BOB, 1, swarm=OTHER_SWARM)))
    assert refused.reason == Refusal.WRONG_SWARM
    assert refused.fatal
    fields: list[object] = [OTHER_SWARM, bytes(16), b"\x01" * 16, 0, 0, ""]
    forged = signed_by(MALLORY, BOB, (MessageType.HELLO, fields), 0, NO_SESSION, OTHER_SWARM)
    assert refusal(bob, forged).reason == Refusal.FORGED


def test_this_sides_own_nonce_comes_from_nobody_else() -> None:
    bob = session(BOB, ALICE, 2)
    refused = refusal(bob, greet(session(ALICE, BOB, 2)))
    assert refused.reason == Refusal.REPLAYED
    assert refused.fatal


def test_nothing_is_accepted_before_hello() -> None:
    bob = session(BOB, ALICE, 2)
    frame = signed_by(ALICE, BOB, (MessageType.PING, [bytes(8)]), 0, NO_SESSION)
    assert refusal(bob, frame).reason == Refusal.UNEXPECTED


def test_a_second_hello_is_unexpected_and_uses_up_its_number() -> None:
    _, bob = pair()
    fields: list[object] = [SWARM, bytes(16), b"\x09" * 16, 0, 0, ""]
    frame = signed_by(ALICE, BOB, (MessageType.HELLO, fields), 1, SESSION)
    assert refusal(bob, frame).reason == Refusal.UNEXPECTED
    assert refusal(bob, frame).reason == Refusal.REPLAYED


def test_an_authentic_message_uses_up_its_number_whatever_it_says() -> None:
    _, bob = pair()
    wrong = signed_by(ALICE, BOB, (MessageType.PING, [bytes(7)]), 1, SESSION)
    assert refusal(bob, wrong).reason == Refusal.MALFORMED
    right = signed_by(ALICE, BOB, (MessageType.PING, [bytes(8)]), 2, SESSION)
    assert bob.decode(right) == Ping(bytes(8))


# Form


def test_oversized_frames() -> None:
    _, bob = pair()
    refused = refusal(bob, bytes(MAX_FRAME_BYTES + 1))
    assert refused.reason == Refusal.OVERSIZED
    assert refused.fatal
    assert refusal(bob, bytes(MAX_FRAME_BYTES)).reason == Refusal.MALFORMED


def test_oversized_payloads_are_refused_before_their_signature_is_looked_at() -> None:
    _, bob = pair()
    frame = pack(Envelope(MessageType.PING, 1, bytes(513), bytes(64)))
    assert refusal(bob, frame).reason == Refusal.OVERSIZED
    frame = pack(Envelope(MessageType.PING, 1, bytes(512), bytes(64)))
    assert refusal(bob, frame).reason == Refusal.FORGED


@pytest.mark.parametrize("version", [0, 1, True, None, "1", b"1", 1.0, -1, (1 << 64) - 1])
def test_another_version_is_named(version: object) -> None:
    _, bob = pair()
    for rest in ([], [8, 1, b"", bytes(64)], [0] * 63):
        frame = msgpack.packb([version, *rest])
        refused = refusal(bob, frame)
        assert refused.reason == Refusal.MALFORMED
        assert refused.fatal
        assert "this peer version 3" in str(refused) and f"{version!r:.20}" in str(refused)


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [2],
        [2, 8, 1, b""],
        [2, 8, 1, b"", bytes(64), 0],
        [2, 0, 1, b"", bytes(64)],
        [2, 13, 1, b"", bytes(64)],
        [2, -1, 1, b"", bytes(64)],
        [2, True, 1, b"", bytes(64)],
        [2, "8", 1, b"", bytes(64)],
        [2, 8, -1, b"", bytes(64)],
        [2, 8, True, b"", bytes(64)],
        [2, 8, 1.0, b"", bytes(64)],
        [2, 8, 1, "", bytes(64)],
        [2, 8, 1, None, bytes(64)],
        [2, 8, 1, b"", bytes(63)],
        [2, 8, 1, b"", bytes(65)],
        [2, 8, 1, b"", "x" * 64],
    ],
)
def test_other_envelopes_are_malformed(fields: list[object]) -> None:
    _, bob = pair()
    assert refusal(bob, msgpack.packb(fields)).reason == Refusal.MALFORMED


def test_a_sequence_number_may_be_as_large_as_64_bits() -> None:
    _, bob = pair()
    frame = msgpack.packb([3, 8, (1 << 64) - 1, b"", bytes(64)])
    assert refusal(bob, frame).reason == Refusal.SPLICED
