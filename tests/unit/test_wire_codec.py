"""Payloads: every message survives the way there and back, and every field is checked on both sides of its bound."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgpack
import msgspec
import numpy as np
import pytest

from p2prec.errors import RemoteMisbehaviour, UsageError
from p2prec.identity import Identity
from p2prec.manifest import LearningParameters
from p2prec.model.quantize import QuantizedTables, table_shapes
from p2prec.model.rounding import QuantizedTable, TableShape
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
from p2prec.wire.codec import Codec, MessageType
from p2prec.wire.fields import unpack_array
from p2prec.wire.limits import MAX_FRAME_BYTES, MAX_PEERS_PAYLOAD_BYTES
from p2prec.wire.tables import pack_values, unpack_values

LEARNING = LearningParameters(n_factors=3, factors_per_byte=3, gradients_per_byte=4, n_parts=2)
OTHERWISE = msgspec.structs.replace(LEARNING, factors_per_byte=1, gradients_per_byte=2)
N_ITEMS = 21
N_ROWS = 11
"""Of part 0: 33 values, the last byte of the gradient has one; and 5 values of padding in the evidence."""
CODEC = Codec(LEARNING, N_ITEMS)
PEER_ID = Identity.from_seed(bytes(32)).peer_id
ID16 = bytes(range(16))
LARGEST_CODES = 246, 251, 200
"""Of each table."""
PART, PLACE, CODES, VALUES = 2, 3, range(4, 10, 2), range(5, 11, 2)
"""Where they are among the fields of an offer."""


def tables(part: int = 0, learning: LearningParameters = LEARNING) -> QuantizedTables:
    rng = np.random.default_rng(part)
    shapes = table_shapes(learning, N_ITEMS, part)

    def table(shape: TableShape) -> QuantizedTable:
        values = rng.integers(0, shape.levels, (shape.rows, shape.columns), dtype=np.uint8)
        return QuantizedTable(rng.integers(0, 201, shape.rows, dtype=np.uint8), values)

    vectors = table(shapes.vectors)
    for row, column in shapes.padding():
        vectors.values[row, column:] = 0
    return QuantizedTables(part, 65_535, table(shapes.item_factors), table(shapes.gradient), vectors)


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
@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize("learning", [LEARNING, OTHERWISE], ids=["3 and 4 a byte", "1 and 2 a byte"])
def test_tables_survive_to_the_bit(kind: type[Offer] | type[Answer], part: int, learning: LearningParameters) -> None:
    codec = Codec(learning, N_ITEMS)
    sent = kind(ID16, 7, tables(part, learning))
    received = codec.decode(*codec.encode(sent))
    assert isinstance(received, kind)
    assert (received.exchange_id, received.age_rounds, received.tables.part) == (ID16, 7, part)
    assert received.tables.place == 65_535
    for one, other in zip(sent.tables, received.tables, strict=True):
        assert np.array_equal(one.values, other.values) and one.values.dtype == other.values.dtype
        assert np.array_equal(one.codes, other.codes) and one.codes.dtype == other.codes.dtype
        assert other.values.flags.f_contiguous  # factors first, as the kernels want them


def test_a_received_table_cannot_be_written_to() -> None:
    received = CODEC.decode(*CODEC.encode(Offer(ID16, 0, tables())))
    assert isinstance(received, Offer)
    for table in received.tables:
        for array in (table.values, table.codes):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1


@pytest.mark.parametrize(
    ("per_byte", "packed"),
    [(1, b"\1\3\2\3\0\1"), (2, b"\x31\x32\x10"), (3, bytes([1 + 18 + 72, 3 + 36])), (4, b"\xed\4")],
)
def test_values_go_column_by_column_some_to_a_byte(per_byte: int, packed: bytes) -> None:
    shape, values = TableShape(3, 2, per_byte), np.array([[1, 3], [3, 0], [2, 1]], np.uint8)
    assert pack_values(values, shape) == packed
    assert unpack_values(packed, shape).tolist() == values.tolist()
    assert pack_values(np.zeros((0, 2), np.uint8), TableShape(0, 2, per_byte)) == b""


@pytest.mark.parametrize("per_byte", [1, 2, 3, 4])
def test_every_byte_means_what_its_digits_say_or_nothing(per_byte: int) -> None:
    shape = TableShape(per_byte, 1, per_byte)
    meanings = set()
    for byte in range(256):
        if byte < shape.levels**per_byte:
            values = unpack_values(bytes([byte]), shape)
            assert pack_values(values, shape) == bytes([byte])
            meanings.add(tuple(values.reshape(-1).tolist()))
        else:
            with pytest.raises(RemoteMisbehaviour, match="stands for no values"):
                unpack_values(bytes([byte]), shape)
    assert len(meanings) == {1: 256, 2: 256, 3: 216, 4: 256}[per_byte]


def test_parts_without_rows_are_parts() -> None:
    """Five items in four parts: two rows, two, one and none."""
    learning = msgspec.structs.replace(LEARNING, n_parts=4)
    codec = Codec(learning, 5)
    empty = QuantizedTable(np.zeros(0, np.uint8), np.zeros((0, 3), np.uint8))
    nothing = QuantizedTable(np.zeros(0, np.uint8), np.zeros((0, 16), np.uint8))
    received = codec.decode(*codec.encode(Offer(ID16, 0, QuantizedTables(3, 0, empty, empty, nothing))))
    assert isinstance(received, Offer)
    assert [table.values.size for table in received.tables] == [0] * 3


# Tables


def _offer_with(position: int, value: Any, part: int = 0) -> list[Any]:
    values = fields(Offer(ID16, 0, tables(part)))
    values[position] = value
    return values


def _accepted(values: list[Any], is_valid: bool) -> None:
    if is_valid:
        decode(MessageType.OFFER, values)
    else:
        assert refused(MessageType.OFFER, values) == Refusal.MALFORMED


@pytest.mark.parametrize("part", [-1, 2, 255, True, None, "0", b"\x00", 0.0])
def test_a_part_that_there_is_not_is_malformed(part: Any) -> None:
    assert refused(MessageType.OFFER, _offer_with(PART, part)) == Refusal.MALFORMED


@pytest.mark.parametrize(
    ("place", "is_valid"), [(0, True), (65_535, True), (65_536, False), (-1, False), (True, False)]
)
def test_the_place_in_the_dither_is_bounded(place: int, is_valid: bool) -> None:
    _accepted(_offer_with(PLACE, place), is_valid)


@pytest.mark.parametrize("part", [0, 1])
def test_tables_of_one_part_are_not_those_of_another(part: int) -> None:
    decode(MessageType.OFFER, _offer_with(PART, part, part))
    assert refused(MessageType.OFFER, _offer_with(PART, 1 - part, part)) == Refusal.MALFORMED


@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize("position", [*CODES, *VALUES])
@pytest.mark.parametrize("change", [-1, 1], ids=["one byte short", "one byte more"])
def test_tables_of_another_size_are_malformed(part: int, position: int, change: int) -> None:
    n_bytes = len(fields(Offer(ID16, 0, tables(part)))[position]) + change
    if n_bytes >= 0:
        assert refused(MessageType.OFFER, _offer_with(position, bytes(n_bytes), part)) == Refusal.MALFORMED


@pytest.mark.parametrize("position", [*CODES, *VALUES])
@pytest.mark.parametrize("value", [None, "text", 1, [0]])
def test_tables_of_another_type_are_malformed(position: int, value: Any) -> None:
    assert refused(MessageType.ANSWER, _offer_with(position, value)) == Refusal.MALFORMED


@pytest.mark.parametrize(("position", "largest"), list(zip(CODES, LARGEST_CODES, strict=True)))
@pytest.mark.parametrize("beyond", [0, 1])
def test_scale_codes_are_bounded(position: int, largest: int, beyond: int) -> None:
    n_rows = len(fields(Offer(ID16, 0, tables()))[position])
    _accepted(_offer_with(position, bytes(n_rows - 1) + bytes([largest + beyond])), beyond == 0)


@pytest.mark.parametrize(("value", "is_valid"), [(215, True), (216, False), (255, False)])
@pytest.mark.parametrize("place", [0, 5, 10])
def test_three_values_to_a_byte_are_bounded(value: int, is_valid: bool, place: int) -> None:
    values = np.zeros(11, np.uint8)
    values[place] = value
    _accepted(_offer_with(VALUES[0], values.tobytes()), is_valid)


@pytest.mark.parametrize(("last", "is_valid"), [(3, True), (4, False), (0x40, False)])
def test_what_the_last_byte_has_left_is_zero(last: int, is_valid: bool) -> None:
    _accepted(_offer_with(VALUES[1], bytes(8) + bytes([last])), is_valid)


def _with_vectors(values: np.ndarray) -> list[Any]:
    """values: (rows, 16) uint8."""
    return _offer_with(VALUES[2], pack_values(values, TableShape(*values.shape, 1)))


@pytest.mark.parametrize(
    ("row", "column", "is_valid"),
    [(0, 10, True), (0, 11, False), (0, 15, False), (1, 8, True), (1, 9, False), (2, 15, True)],
)
def test_the_padding_of_vectors_is_zero(row: int, column: int, is_valid: bool) -> None:
    """Eleven values of evidence, nine of the gram, and a full row of probe."""
    vectors = np.zeros((3, 16), np.uint8)
    vectors[row, column] = 1
    _accepted(_with_vectors(vectors), is_valid)


def test_the_padding_is_in_the_last_row_of_many() -> None:
    learning = msgspec.structs.replace(LEARNING, n_parts=1)
    codec, shapes = Codec(learning, 37), table_shapes(learning, 37)
    for row, column, is_valid in ((1, 15, True), (2, 4, True), (2, 5, False), (2, 15, False)):
        vectors = np.zeros((5, 16), np.uint8)
        vectors[row, column] = 1
        arrays = [piece for s in shapes for piece in (bytes([9] * s.rows), bytes(s.value_bytes))]
        arrays[5] = pack_values(vectors, shapes.vectors)
        payload = msgpack.packb([ID16, 0, 0, 0, *arrays])
        if is_valid:
            codec.decode(MessageType.OFFER, payload)
        else:
            with pytest.raises(RemoteMisbehaviour, match="malformed"):
                codec.decode(MessageType.OFFER, payload)


def test_only_tables_of_this_swarm_are_encoded() -> None:
    good = tables()
    codes, values = good.gradient.codes, good.gradient.values
    wrong = (
        QuantizedTable(codes, values[:, :2]),
        QuantizedTable(codes[:0], values),
        QuantizedTable(codes.astype(np.float32), values),
        QuantizedTable(codes, values.astype(np.int8)),
        QuantizedTable(codes, np.full((N_ROWS, 3), 4, np.uint8)),  # would arrive as another value's
    )
    for gradient in wrong:
        with pytest.raises(ValueError, match="a table of"):
            CODEC.encode(Offer(ID16, 0, dataclasses.replace(good, gradient=gradient)))
    for part in (-1, 2):
        with pytest.raises(ValueError, match="part"):
            CODEC.encode(Offer(ID16, 0, dataclasses.replace(good, part=part)))


def test_what_the_other_side_would_refuse_is_not_sent() -> None:
    broken = tables()
    broken.vectors.values[0, 11] = 1
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


def test_table_messages_are_bounded_by_the_largest_part() -> None:
    table_bytes = table_shapes(LEARNING, N_ITEMS).payload_bytes
    n_bytes = len(CODEC.encode(Offer(ID16, (1 << 32) - 1, tables()))[1])
    assert table_bytes < n_bytes <= table_bytes + 128
    for more, reason in ((128, Refusal.MALFORMED), (129, Refusal.OVERSIZED)):
        with pytest.raises(RemoteMisbehaviour) as refusal:
            CODEC.decode(MessageType.OFFER, bytes(table_bytes + more))
        assert refusal.value.reason == reason


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
    room = MAX_FRAME_BYTES - 128 - 96  # of the payload and of the envelope
    learning = LearningParameters(n_factors=1, factors_per_byte=1, gradients_per_byte=1)
    # A row of two tables takes 2 bytes each, one of 16 rows of evidence 17; gram and probe 17 each.
    n_items = (room - 34) * 16 // 81
    while table_shapes(learning, n_items + 1).payload_bytes <= room:
        n_items += 1
    while table_shapes(learning, n_items).payload_bytes > room:
        n_items -= 1
    Codec(learning, n_items)
    with pytest.raises(UsageError, match="the limit is"):
        Codec(learning, n_items + 1)
    Codec(msgspec.structs.replace(learning, n_parts=2), n_items + 1)
