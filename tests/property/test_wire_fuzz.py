"""Whatever arrives, a session answers with a message or a RemoteMisbehaviour, in bounded memory; what is sent arrives."""

from __future__ import annotations

import string
import tracemalloc
from collections.abc import Sequence
from typing import Literal

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from p2prec.errors import RemoteMisbehaviour
from p2prec.identity import Identity
from p2prec.manifest import LearningParameters
from p2prec.model.quantize import QuantizedTables, quantize_state, table_shapes
from p2prec.model.rounding import SCALES, QuantizedTable, TableShape, reach
from p2prec.model.state import initial_state
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

LEARNING = LearningParameters(n_factors=3, n_parts=2)
N_ITEMS = 5
CODEC = Codec(LEARNING, N_ITEMS)
SWARM = SwarmId(b"\x01" * 32)
ALICE, BOB = Identity.from_seed(b"\x01" * 32), Identity.from_seed(b"\x02" * 32)
REASONS = set(Refusal)

ids16 = st.binary(min_size=16, max_size=16)
tokens = st.binary(min_size=8, max_size=8)
rounds = st.integers(0, (1 << 32) - 1)
printable = string.digits + string.ascii_letters + string.punctuation + " "


def _texts(max_size: int) -> st.SearchStrategy[str]:
    return st.text(printable, max_size=max_size)


def _table(shape: TableShape, padding: Sequence[tuple[int, int]] = ()) -> st.SearchStrategy[QuantizedTable]:
    largest_code = {256: 200, 16: 233, 6: 246, 4: 251}[shape.levels]
    codes = hnp.arrays(np.uint8, shape.rows, elements=st.integers(0, largest_code))
    values = hnp.arrays(np.uint8, (shape.rows, shape.columns), elements=st.integers(0, shape.levels - 1))

    def padded(values: np.ndarray) -> np.ndarray:
        values = values.copy()
        for row, column in padding:
            values[row, column:] = 0
        return values

    return st.builds(QuantizedTable, codes, values.map(padded))


def _tables(part: int) -> st.SearchStrategy[QuantizedTables]:
    shapes = table_shapes(LEARNING, N_ITEMS, part)
    return st.builds(
        QuantizedTables,
        st.just(part),
        st.integers(0, (1 << 16) - 1),
        _table(shapes.item_factors),
        _table(shapes.gradient),
        _table(shapes.vectors, list(shapes.padding())),
    )


tables = st.one_of(_tables(0), _tables(1))
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
    alice = Session(ALICE, SWARM, BOB.peer_id, Codec(LEARNING, N_ITEMS), session_nonce=b"a" * 16, instance=bytes(16))
    bob = Session(BOB, SWARM, ALICE.peer_id, CODEC, session_nonce=b"b" * 16, instance=bytes(16))
    bob.decode(alice.encode(alice.hello(listen_port=1, age_rounds=0, agent="")))
    alice.decode(bob.encode(bob.hello(listen_port=1, age_rounds=0, agent="")))
    return alice, bob


def fresh() -> Session:
    return Session(BOB, SWARM, ALICE.peer_id, CODEC, session_nonce=b"b" * 16, instance=bytes(16))


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
        headers = [(tables.part, tables.place) for tables in (one.tables, other.tables)]
        return headers[0] == headers[1] and all(
            np.array_equal(a.values, b.values) and np.array_equal(a.codes, b.codes)
            for a, b in zip(one.tables, other.tables, strict=True)
        )
    return one == other


@given(st.lists(st.one_of(small_messages, table_messages), max_size=5))
def test_a_conversation_arrives_as_it_was_said(messages: list[Message]) -> None:
    alice, bob = pair()
    for message in messages:
        assert same(bob.decode(alice.encode(message)), message)


@given(hellos)
def test_every_hello_survives(hello: Hello) -> None:
    assert CODEC.decode(*CODEC.encode(hello)) == hello


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


@given(st.one_of(anything, st.tuples(st.just(2), st.integers(0, 13), st.integers(0, 2), st.binary(), st.binary())))
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
        # Too large, or of a type that there is in swarms with a promise only: refused before its signature is looked at, so it
        # uses up no number.
        if refusal.reason == Refusal.OVERSIZED or kind in (MessageType.IN_SUM, MessageType.RELAYS):
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
    kind, payload = CODEC.encode(message)
    mutated = _mutated(payload, data)
    try:
        received = CODEC.decode(kind, mutated)
    except RemoteMisbehaviour as refusal:
        assert refusal.reason in REASONS
        return
    assert isinstance(received, Offer | Answer)
    assert received.tables.part in range(LEARNING.n_parts)
    for table, shape in zip(received.tables, table_shapes(LEARNING, N_ITEMS, received.tables.part), strict=True):
        assert (table.values.shape, table.codes.shape) == ((shape.rows, shape.columns), (shape.rows,))
        assert (table.values < shape.levels).all()
        assert (SCALES[table.codes] * reach(shape.levels) <= 1125).all()
    # One meaning, one spelling, but for the lengths of msgpack integers.
    assert msgpack.unpackb(CODEC.encode(received)[1]) == msgpack.unpackb(mutated)


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


@pytest.mark.parametrize("per_byte", [1, 2, 3, 4])
@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_whatever_a_peer_quantizes_arrives(
    per_byte: Literal[1, 2, 3, 4], n_items: int, n_factors: int, n_parts: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    learning = LearningParameters(n_factors=n_factors, factors_per_byte=per_byte, n_parts=n_parts)
    codec = Codec(learning, n_items)
    state = initial_state(learning, bytes(32), [str(i) for i in range(n_items)])
    for table in (state.gradient, state.evidence, state.gram, state.probe, state.item_factors):
        table[...] = rng.normal(0, 10.0 ** rng.uniform(-9, 4), table.shape) * (rng.random(table.shape) < 0.5)
    for part in range(n_parts):
        offer = Offer(bytes(16), 0, quantize_state(learning, state, part, rng))
        assert same(codec.decode(*codec.encode(offer)), offer)


@given(st.sampled_from([0, 1]), st.data())
def test_tables_of_any_bytes_are_refused_or_have_this_one_spelling(part: int, data: st.DataObject) -> None:
    edges = st.sampled_from(
        [0x00, 0x01, 0x03, 0x04, 0x40, 0x7F, 0x80, 0xC8, 0xC9, 0xD7, 0xD8, 0xF6, 0xF7, 0xFB, 0xFC, 0xFF]
    )
    place = data.draw(st.sampled_from([0, 1, 65_535, 65_536]))

    def binary(n_bytes: int) -> bytes:
        return bytes(data.draw(st.lists(edges, min_size=n_bytes, max_size=n_bytes)))

    arrays = [binary(n) for s in table_shapes(LEARNING, N_ITEMS, part) for n in (s.rows, s.value_bytes)]
    try:
        received = CODEC.decode(MessageType.OFFER, msgpack.packb([bytes(16), 0, part, place, *arrays]))
    except RemoteMisbehaviour as refusal:
        assert refusal.reason == Refusal.MALFORMED
        return
    assert msgpack.unpackb(CODEC.encode(received)[1]) == [bytes(16), 0, part, place, *arrays]
