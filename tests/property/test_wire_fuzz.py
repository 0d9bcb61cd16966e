"""Whatever arrives, a session answers with a message or a RemoteMisbehaviour, in bounded memory; what is sent arrives."""

from __future__ import annotations

import string
import tracemalloc

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from p2prec.errors import RemoteMisbehaviour
from p2prec.identity import Identity
from p2prec.model.quantize import QuantizedTable, QuantizedTables, TableShapes
from p2prec.peer.messages import (
    Answer,
    Close,
    CloseReason,
    Commit,
    Decline,
    DeclineReason,
    Hello,
    Message,
    Offer,
    PeerAddress,
    Peers,
    PeersRequest,
    Ping,
    Pong,
    Refusal,
    Resolution,
    Resolve,
)
from p2prec.types import SwarmId
from p2prec.wire.codec import Codec, MessageType
from p2prec.wire.envelope import Envelope, pack, unpack
from p2prec.wire.session import Session

SHAPES = TableShapes(item_factors=(5, 2), gradient=(5, 2), evidence=(1, 16), gram=(2, 2))
SWARM = SwarmId(b"\x01" * 32)
ALICE, BOB = Identity.from_seed(b"\x01" * 32), Identity.from_seed(b"\x02" * 32)
REASONS = set(Refusal)

ids16 = st.binary(min_size=16, max_size=16)
tokens = st.binary(min_size=8, max_size=8)
rounds = st.integers(0, (1 << 32) - 1)
printable = string.digits + string.ascii_letters + string.punctuation + " "


def _texts(max_size: int) -> st.SearchStrategy[str]:
    return st.text(printable, max_size=max_size)


def _table(shape: tuple[int, int], n_used: int | None = None) -> st.SearchStrategy[QuantizedTable]:
    scales = hnp.arrays(np.float16, shape[0], elements=st.floats(0, 7.8125, width=16))
    values = hnp.arrays(np.int8, shape, elements=st.integers(-127, 127))

    def padded(table: np.ndarray) -> np.ndarray:
        table = table.copy()
        if n_used is not None:
            table.reshape(-1)[n_used:] = 0
        return table

    return st.builds(QuantizedTable, scales, values.map(padded))


tables = st.builds(QuantizedTables, _table((5, 2)), _table((5, 2)), _table((1, 16), n_used=5), _table((2, 2)))
hosts = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).filter(
    lambda address: not address.is_multicast and not address.is_unspecified
)
addresses = st.builds(
    PeerAddress,
    st.integers(0, 255).map(lambda seed: Identity.from_seed(bytes([seed]) * 32).peer_id),
    hosts.map(str),
    st.integers(1, 65535),
)
small_messages = st.one_of(
    st.builds(Commit, ids16),
    st.builds(Decline, ids16, st.sampled_from(DeclineReason)),
    st.builds(Resolve, ids16),
    st.builds(Resolution, ids16, st.booleans()),
    st.builds(Ping, tokens),
    st.builds(Pong, tokens),
    st.builds(PeersRequest, st.integers(1, 64)),
    st.builds(Peers, st.lists(addresses, max_size=64).map(tuple)),
    st.builds(Close, st.sampled_from(CloseReason), _texts(200)),
)
table_messages = st.one_of(st.builds(Offer, ids16, rounds, tables), st.builds(Answer, ids16, rounds, tables))
hellos = st.builds(Hello, st.just(SWARM), ids16, ids16, st.integers(0, 65535), rounds, _texts(64))


def pair() -> tuple[Session, Session]:
    alice = Session(ALICE, SWARM, BOB.peer_id, SHAPES, session_nonce=b"a" * 16, instance=bytes(16))
    bob = Session(BOB, SWARM, ALICE.peer_id, SHAPES, session_nonce=b"b" * 16, instance=bytes(16))
    bob.decode(alice.encode(alice.hello(listen_port=1, age_rounds=0, agent="")))
    alice.decode(bob.encode(bob.hello(listen_port=1, age_rounds=0, agent="")))
    return alice, bob


def fresh() -> Session:
    return Session(BOB, SWARM, ALICE.peer_id, SHAPES, session_nonce=b"b" * 16, instance=bytes(16))


def feed(session: Session, frame: bytes) -> Message | None:
    """Only a RemoteMisbehaviour with a known reason may come out of a bad frame."""
    try:
        return session.decode(frame)
    except RemoteMisbehaviour as refusal:
        assert refusal.reason in REASONS
        return None


def same(one: Message, other: Message) -> bool:
    if isinstance(one, Offer | Answer):
        assert type(one) is type(other) and isinstance(other, Offer | Answer)
        if (one.exchange_id, one.age_rounds) != (other.exchange_id, other.age_rounds):
            return False
        return all(
            np.array_equal(getattr(one.tables, name).values, getattr(other.tables, name).values)
            and getattr(one.tables, name).scales.tobytes() == getattr(other.tables, name).scales.tobytes()
            for name in ("item_factors", "gradient", "evidence", "gram")
        )
    return one == other


@given(st.lists(st.one_of(small_messages, table_messages), max_size=5))
def test_a_conversation_arrives_as_it_was_said(messages: list[Message]) -> None:
    alice, bob = pair()
    for message in messages:
        assert same(bob.decode(alice.encode(message)), message)


@given(hellos)
def test_every_hello_survives(hello: Hello) -> None:
    codec = Codec(SHAPES)
    assert codec.decode(*codec.encode(hello)) == hello


@given(st.binary(max_size=2000))
def test_noise_is_refused(frame: bytes) -> None:
    assert feed(pair()[1], frame) is None
    assert feed(fresh(), frame) is None


anything = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(1 << 63), (1 << 64) - 1),
        st.floats(),
        st.binary(max_size=70),
        st.text(max_size=70),
        st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=20)),
        st.builds(msgpack.Timestamp, st.integers(0, 1 << 33), st.integers(0, 999_999_999)),
    ),
    lambda children: st.one_of(
        st.lists(children, max_size=70), st.dictionaries(st.one_of(st.integers(0, 9), st.text(max_size=3)), children)
    ),
    max_leaves=80,
)


@given(st.one_of(anything, st.tuples(st.just(1), st.integers(0, 13), st.integers(0, 2), st.binary(), st.binary())))
def test_msgpack_of_any_other_shape_is_refused(value: object) -> None:
    frame = msgpack.packb(value)
    assert feed(pair()[1], frame) is None
    assert feed(fresh(), frame) is None


def _own(frame_payload: bytes, kind: MessageType, alice: Session) -> bytes:
    """An authentic frame of Alice's with any payload: what a malicious member can send."""
    genuine = alice._codec.encode
    try:
        alice._codec.encode = lambda message: (kind, frame_payload)  # type: ignore[method-assign]
        return alice.encode(Ping(bytes(8)))
    finally:
        alice._codec.encode = genuine  # type: ignore[method-assign]


@given(st.sampled_from(MessageType), st.one_of(st.binary(max_size=600), anything.map(msgpack.packb)))
def test_an_authentic_frame_with_any_payload_does_no_harm(kind: MessageType, payload: bytes) -> None:
    alice, bob = pair()
    frame = _own(payload, kind, alice)
    try:
        bob.decode(frame)
    except RemoteMisbehaviour as refusal:
        assert refusal.reason in REASONS
        if refusal.reason == Refusal.OVERSIZED:  # refused before its signature is looked at: it uses up no number
            return
    assert bob.decode(alice.encode(Ping(bytes(8)))) == Ping(bytes(8))


def _mutated(frame: bytes, data: st.DataObject) -> bytes:
    changed = bytearray(frame)
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, max(len(changed) - 1, 0)))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "double"])):
            case "flip":
                changed[position : position + 1] = bytes([data.draw(st.integers(0, 255))])
            case "cut":
                del changed[position : position + data.draw(st.integers(1, 20))]
            case "insert":
                changed[position:position] = data.draw(st.binary(min_size=1, max_size=20))
            case "double":
                changed[position:position] = changed[position:]
    return bytes(changed)


@given(st.one_of(small_messages, table_messages), st.data())
def test_a_mutated_frame_is_refused_and_the_genuine_one_still_accepted(message: Message, data: st.DataObject) -> None:
    alice, bob = pair()
    genuine = alice.encode(message)
    mutated = _mutated(genuine, data)
    accepted = feed(bob, mutated)
    if accepted is None:
        assert same(bob.decode(genuine), message)
    else:  # another spelling of the same content, or no change at all: the signature says so
        one, other = unpack(genuine), unpack(mutated)
        assert one == other and same(accepted, message)


@given(table_messages, st.data())
def test_a_mutated_payload_never_becomes_a_broken_message(message: Offer | Answer, data: st.DataObject) -> None:
    codec = Codec(SHAPES)
    kind, payload = codec.encode(message)
    try:
        received = codec.decode(kind, _mutated(payload, data))
    except RemoteMisbehaviour as refusal:
        assert refusal.reason in REASONS
        return
    assert isinstance(received, Offer | Answer)
    for name in ("item_factors", "gradient", "evidence", "gram"):
        table = getattr(received.tables, name)
        assert np.isfinite(table.scales).all() and (table.scales >= 0).all() and (table.values >= -127).all()


@pytest.mark.parametrize(
    "claim",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff",
    ],
    ids=["array", "map", "binary", "text", "extension"],
)
@pytest.mark.parametrize("depth", [0, 1, 400])
def test_a_claimed_length_allocates_nothing(claim: bytes, depth: int) -> None:
    bob = fresh()
    frame = b"\x91" * depth + claim + bytes(100)
    tracemalloc.start()
    try:
        assert feed(bob, frame) is None
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1 << 20


@settings(max_examples=20)
@given(st.binary(min_size=1, max_size=8))
def test_the_largest_frame_of_anything_takes_a_small_multiple_of_its_size(pattern: bytes) -> None:
    frame = (pattern * (1 << 20))[: 1 << 20]
    bob = fresh()
    tracemalloc.start()
    try:
        assert feed(bob, frame) is None
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 8 << 20


@given(small_messages, st.integers(0, 4), st.sampled_from(MessageType))
def test_nothing_unsigned_moves_the_order(message: Message, sequence: int, kind: MessageType) -> None:
    alice, bob = pair()
    genuine = alice.encode(message)
    payload = unpack(genuine).payload
    assert feed(bob, pack(Envelope(kind, sequence, payload, bytes(64)))) is None
    assert same(bob.decode(genuine), message)
