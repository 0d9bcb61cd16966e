"""Payloads: every message survives the way there and back, and every field is checked on both sides of its bound."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest

from p2prec.errors import RemoteMisbehaviour, UsageError
from p2prec.identity import Identity
from p2prec.model.quantize import MAX_MAGNITUDE, QuantizedTable, QuantizedTables, TableShapes
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
from p2prec.wire.codec import Codec, MessageType, unpack_array
from p2prec.wire.limits import MAX_FRAME_BYTES, MAX_PEERS_PAYLOAD_BYTES

SHAPES = TableShapes(item_factors=(20, 3), gradient=(20, 3), evidence=(2, 16), gram=(3, 3))
CODEC = Codec(SHAPES)
PEER_ID = Identity.from_seed(bytes(32)).peer_id
ID16 = bytes(range(16))
MAX_SCALE = float(np.float16(MAX_MAGNITUDE / 127))


def tables() -> QuantizedTables:
    rng = np.random.default_rng(0)

    def table(shape: tuple[int, int]) -> QuantizedTable:
        return QuantizedTable(rng.random(shape[0]).astype(np.float16), rng.integers(-127, 128, shape, dtype=np.int8))

    made = QuantizedTables(table((20, 3)), table((20, 3)), table((2, 16)), table((3, 3)))
    made.evidence.values[1, 4:] = 0  # 20 items: the rest of the second block is padding
    return made


def fields(message: Message) -> list[Any]:
    return list(unpack_array(CODEC.encode(message)[1], max_items=64))


def decode(kind: MessageType, values: list[Any]) -> Message:
    return CODEC.decode(kind, msgpack.packb(values, use_bin_type=True))


def refused(kind: MessageType, values: list[Any]) -> str:
    with pytest.raises(RemoteMisbehaviour) as refusal:
        decode(kind, values)
    return refusal.value.reason


HELLO = Hello(bytes(32), ID16, ID16[::-1], 65535, (1 << 32) - 1, "p2prec/0.1.0")
MESSAGES: list[Message] = [
    HELLO,
    Hello(bytes(32), ID16, ID16, 0, 0, ""),
    Commit(ID16),
    *(Decline(ID16, reason) for reason in DeclineReason),
    Resolve(ID16),
    Resolution(ID16, True),
    Resolution(ID16, False),
    Ping(bytes(8)),
    Pong(bytes(8)),
    PeersRequest(1),
    PeersRequest(64),
    Peers(()),
    Peers((PeerAddress(PEER_ID, "192.168.1.2", 1), PeerAddress(PEER_ID, "2001:db8::1", 65535))),
    Peers((PeerAddress(PEER_ID, "1111:2222:3333:4444:5555:6666:7777:8888", 65535),) * 64),
    *(Close(reason, "x" * 200) for reason in CloseReason),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_small_message_survives(message: Message) -> None:
    kind, payload = CODEC.encode(message)
    assert CODEC.decode(kind, payload) == message


@pytest.mark.parametrize("kind", [Offer, Answer])
def test_tables_survive_to_the_bit(kind: type[Offer] | type[Answer]) -> None:
    sent = kind(ID16, 7, tables())
    received = CODEC.decode(*CODEC.encode(sent))
    assert isinstance(received, kind)
    assert (received.exchange_id, received.age_rounds) == (ID16, 7)
    for name in ("item_factors", "gradient", "evidence", "gram"):
        one, other = getattr(sent.tables, name), getattr(received.tables, name)
        assert np.array_equal(one.values, other.values) and one.values.dtype == other.values.dtype
        assert np.array_equal(one.scales, other.scales) and one.scales.dtype == other.scales.dtype


def test_the_explicit_objective_has_no_gram() -> None:
    codec = Codec(TableShapes((20, 3), (20, 3), (2, 16), (0, 0)))
    sent = tables()
    empty = QuantizedTable(np.zeros(0, np.float16), np.zeros((0, 0), np.int8))
    offer = Offer(ID16, 0, QuantizedTables(sent.item_factors, sent.gradient, sent.evidence, empty))
    received = codec.decode(*codec.encode(offer))
    assert isinstance(received, Offer)
    assert received.tables.gram.values.shape == (0, 0)


def test_a_received_table_cannot_be_written_to() -> None:
    received = CODEC.decode(*CODEC.encode(Offer(ID16, 0, tables())))
    assert isinstance(received, Offer)
    with pytest.raises(ValueError, match="read-only"):
        received.tables.gradient.values[0, 0] = 1


def test_scales_are_little_endian_on_the_wire() -> None:
    sent = tables()
    sent.gram.scales[:] = np.float16(1.5)  # 0x3e00
    assert fields(Offer(ID16, 0, sent))[8] == b"\x00\x3e" * 3


# Tables


def _offer_with(position: int, value: Any) -> list[Any]:
    values = fields(Offer(ID16, 0, tables()))
    values[position] = value
    return values


@pytest.mark.parametrize("position", range(2, 10))
@pytest.mark.parametrize("change", [-1, 1], ids=["one byte short", "one byte more"])
def test_tables_of_another_size_are_malformed(position: int, change: int) -> None:
    n_bytes = len(fields(Offer(ID16, 0, tables()))[position])
    assert refused(MessageType.OFFER, _offer_with(position, bytes(n_bytes + change))) == Refusal.MALFORMED


@pytest.mark.parametrize("position", range(2, 10))
@pytest.mark.parametrize("value", [None, "text", 1, [0]])
def test_tables_of_another_type_are_malformed(position: int, value: Any) -> None:
    assert refused(MessageType.ANSWER, _offer_with(position, value)) == Refusal.MALFORMED


@pytest.mark.parametrize("position", [2, 4, 6, 8])
@pytest.mark.parametrize("scale", [np.inf, -np.inf, np.nan])
def test_non_finite_scales_are_refused_as_such(position: int, scale: float) -> None:
    n_rows = len(fields(Offer(ID16, 0, tables()))[position]) // 2
    scales = np.ones(n_rows, "<f2")
    scales[-1] = scale
    assert refused(MessageType.OFFER, _offer_with(position, scales.tobytes())) == Refusal.NON_FINITE


@pytest.mark.parametrize(
    ("scale", "is_valid"),
    [(0.0, True), (MAX_SCALE, True), (np.nextafter(np.float16(MAX_SCALE), np.float16(np.inf)), False), (-0.5, False)],
)
def test_scales_are_bounded(scale: float, is_valid: bool) -> None:
    values = _offer_with(2, np.full(20, scale, "<f2").tobytes())
    if is_valid:
        decode(MessageType.OFFER, values)
    else:
        assert refused(MessageType.OFFER, values) == Refusal.MALFORMED


@pytest.mark.parametrize(("value", "is_valid"), [(-127, True), (127, True), (-128, False)])
def test_values_are_bounded(value: int, is_valid: bool) -> None:
    values = _offer_with(3, np.full((20, 3), value, np.int8).tobytes())
    if is_valid:
        decode(MessageType.OFFER, values)
    else:
        assert refused(MessageType.OFFER, values) == Refusal.MALFORMED


@pytest.mark.parametrize(("index", "is_valid"), [(19, True), (20, False), (31, False)])
def test_evidence_beyond_the_catalogue_is_malformed(index: int, is_valid: bool) -> None:
    evidence = np.zeros(32, np.int8)
    evidence[index] = 1
    values = _offer_with(7, evidence.tobytes())
    if is_valid:
        decode(MessageType.OFFER, values)
    else:
        assert refused(MessageType.OFFER, values) == Refusal.MALFORMED


def test_only_tables_of_this_swarm_are_encoded() -> None:
    good = tables()
    wrong_shape = QuantizedTable(good.gram.scales[:2], good.gram.values[:2])
    wrong_type = QuantizedTable(good.gram.scales.astype(np.float32), good.gram.values)
    for gram in (wrong_shape, wrong_type):
        with pytest.raises(ValueError, match="a table of"):
            CODEC.encode(Offer(ID16, 0, QuantizedTables(good.item_factors, good.gradient, good.evidence, gram)))


def test_what_the_other_side_would_refuse_is_not_sent() -> None:
    broken = tables()
    broken.gram.scales[0] = np.nan
    for message in (Offer(ID16, 0, broken), Commit(b"short"), PeersRequest(65), Ping(b"")):
        with pytest.raises(ValueError, match="not a valid"):
            CODEC.encode(message)


# Bounds of every other field


@pytest.mark.parametrize(
    ("message", "position", "good", "bad"),
    [
        (HELLO, 0, [bytes(32)], [bytes(31), bytes(33), "x" * 32, None]),
        (HELLO, 1, [bytes(16)], [bytes(15), bytes(17)]),
        (HELLO, 2, [bytes(16)], [bytes(15), bytes(17)]),
        (HELLO, 3, [0, 65535], [-1, 65536, True, 1.0, "1"]),
        (HELLO, 4, [0, (1 << 32) - 1], [-1, 1 << 32, False]),
        (HELLO, 5, ["", "~" * 64], ["~" * 65, "é", "\n", "\x7f", "\x1b[31m", b"bytes"]),
        (Offer(ID16, 0, tables()), 0, [bytes(16)], [bytes(15), bytes(17), "x" * 16]),
        (Offer(ID16, 0, tables()), 1, [0, (1 << 32) - 1], [-1, 1 << 32, 0.5]),
        (Commit(ID16), 0, [bytes(16)], [bytes(15), bytes(17)]),
        (Decline(ID16, DeclineReason.BUSY), 1, [1, 3], [0, 4, True, "BUSY"]),
        (Resolution(ID16, True), 1, [True, False], [1, 0, None]),
        (Ping(bytes(8)), 0, [bytes(8)], [bytes(7), bytes(9)]),
        (Pong(bytes(8)), 0, [bytes(8)], [bytes(7), bytes(9)]),
        (PeersRequest(1), 0, [1, 64], [0, 65, -1, True]),
        (Close(CloseReason.LEAVING), 0, [1, 6], [0, 7]),
        (Close(CloseReason.LEAVING), 1, ["", "x" * 200], ["x" * 201, "\r", 0]),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, list | int) else "",
)
def test_fields_on_both_sides_of_their_bounds(message: Message, position: int, good: list[Any], bad: list[Any]) -> None:
    kind, _ = CODEC.encode(message)
    for value in good:
        values = fields(message)
        values[position] = value
        decode(kind, values)
    for value in bad:
        values = fields(message)
        values[position] = value
        assert refused(kind, values) == Refusal.MALFORMED, value


@pytest.mark.parametrize("message", [m for m in MESSAGES if not isinstance(m, Peers)] + [Offer(ID16, 0, tables())])
def test_the_number_of_fields_is_fixed(message: Message) -> None:
    kind, _ = CODEC.encode(message)
    assert refused(kind, fields(message)[:-1]) == Refusal.MALFORMED
    assert refused(kind, [*fields(message), 0]) == Refusal.MALFORMED


GOOD_ADDRESS: list[Any] = [PEER_ID, "10.0.0.1", 7]


@pytest.mark.parametrize("host", ["10.0.0.1", "127.0.0.1", "255.255.255.255", "::1", "fe80::1", "::ffff:10.0.0.1"])
def test_literals_of_one_host_are_addresses(host: str) -> None:
    assert decode(MessageType.PEERS, [[PEER_ID, host, 7]]) == Peers((PeerAddress(PEER_ID, host, 7),))


@pytest.mark.parametrize(
    "entry",
    [
        [PEER_ID, "0.0.0.0", 7],
        [PEER_ID, "::", 7],
        [PEER_ID, "224.0.0.251", 7],
        [PEER_ID, "ff02::fb", 7],
        [PEER_ID, "fe80::1%eth0", 7],
        [PEER_ID, "localhost", 7],
        [PEER_ID, "10.0.0.01", 7],
        [PEER_ID, "10.0.0.1 ", 7],
        [PEER_ID, "", 7],
        [PEER_ID, b"10.0.0.1", 7],
        [PEER_ID, "10.0.0.1", 0],
        [PEER_ID, "10.0.0.1", 65536],
        [PEER_ID, "10.0.0.1", "7"],
        [PEER_ID[:-1], "10.0.0.1", 7],
        [PEER_ID[:-1] + "0", "10.0.0.1", 7],
        ["Q" + PEER_ID[1:], "10.0.0.1", 7],
        [PEER_ID, "10.0.0.1"],
        [*GOOD_ADDRESS, 0],
        "10.0.0.1:7",
    ],
)
def test_what_is_not_an_address_is_malformed(entry: Any) -> None:
    assert refused(MessageType.PEERS, [GOOD_ADDRESS, entry]) == Refusal.MALFORMED


def test_the_number_of_addresses_is_bounded() -> None:
    assert len(decode(MessageType.PEERS, [GOOD_ADDRESS] * 64).addresses) == 64  # type: ignore[union-attr]
    assert refused(MessageType.PEERS, [GOOD_ADDRESS] * 65) == Refusal.MALFORMED


# Size and form of the payload as a whole


@pytest.mark.parametrize(
    ("kind", "limit"), [(MessageType.PING, 512), (MessageType.HELLO, 512), (MessageType.PEERS, MAX_PEERS_PAYLOAD_BYTES)]
)
def test_payloads_are_bounded_by_type(kind: MessageType, limit: int) -> None:
    for n_bytes, reason in ((limit, Refusal.MALFORMED), (limit + 1, Refusal.OVERSIZED)):
        with pytest.raises(RemoteMisbehaviour) as refusal:
            CODEC.decode(kind, b"\xc0" * n_bytes)
        assert refusal.value.reason == reason


def test_table_messages_are_bounded_by_the_swarms_shapes() -> None:
    n_bytes = len(CODEC.encode(Offer(ID16, (1 << 32) - 1, tables()))[1])
    assert SHAPES.payload_bytes < n_bytes <= SHAPES.payload_bytes + 128
    with pytest.raises(RemoteMisbehaviour) as refusal:
        CODEC.decode(MessageType.OFFER, bytes(SHAPES.payload_bytes + 129))
    assert refusal.value.reason == Refusal.OVERSIZED


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc0",  # nil instead of an array
        b"\x91\xc4\x08" + bytes(7),  # a binary that is longer than the rest
        b"\x91\xc4\x08" + bytes(9),  # and one byte after it
        b"\xdd\xff\xff\xff\xff",  # an array of 4 billion
        b"\xdf\xff\xff\xff\xff",  # a map of 4 billion
        b"\x91\xc6\xff\xff\xff\xff",  # a binary of 4 GB
        b"\x91\xdb\xff\xff\xff\xff",  # a text of 4 GB
        b"\x91\xc9\xff\xff\xff\xff\x01",  # an extension of 4 GB
        b"\x91\x81\x01\x01",  # a map
        b"\x91\x80",  # an empty map
        b"\x91\xd6\xff\x00\x00\x00\x00",  # a timestamp
        b"\x91\xd4\x05\x00",  # an extension
        b"\x91\xa1\xff",  # not UTF-8
        b"\x91\xc1",  # the byte that msgpack never uses
        b"\x91" * 500,  # arrays in arrays
        b"\x91\x81\x90\x90",  # a key that cannot be hashed
    ],
)
def test_other_msgpack_is_malformed(payload: bytes) -> None:
    with pytest.raises(RemoteMisbehaviour) as refusal:
        CODEC.decode(MessageType.PING, payload)
    assert refusal.value.reason == Refusal.MALFORMED


def test_a_goodbye_carries_any_text() -> None:
    kind, payload = CODEC.encode(Close(CloseReason.LEAVING, "Müller\n" + "x" * 300))
    assert CODEC.decode(kind, payload) == Close(CloseReason.LEAVING, "M?ller?" + "x" * 193)


def test_a_swarm_whose_tables_do_not_fit_is_refused_at_once() -> None:
    overhead = 128 + 96  # of the payload and of the envelope
    n_rows = (MAX_FRAME_BYTES - overhead) // 3  # rows of one value and a scale
    Codec(TableShapes((n_rows, 1), (0, 0), (0, 0), (0, 0)))
    with pytest.raises(UsageError, match="the limit is"):
        Codec(TableShapes((n_rows + 1, 1), (0, 0), (0, 0), (0, 0)))
